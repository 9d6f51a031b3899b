"""Chapter 13, smaller: the bytes of a packed model (13.5), and the blocks of FP8 as a pattern (13.6)."""

import dis
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor

from minimoe.course.checker.answer_diff import difference
from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.course.checker.user_code import run

# 13.5 bytes ----------------------------------------------------------------------------------------------------------

Bytes = Callable[[int, int, int, int, int], float]


def bytes_by_parts(packed: int, plain: int, bits: int, group: int, scale_bits: int) -> float:
    """The numbers, their scales, and what is not packed, in bits."""
    numbers, scales = packed * bits, packed // group * scale_bits
    return (numbers + scales + 16 * plain) / 8


def bytes_per_weight(packed: int, plain: int, bits: int, group: int, scale_bits: int) -> float:
    return packed * (bits + scale_bits / group) / 8 + 2 * plain


def whole_bytes(packed: int, plain: int, bits: int, group: int, scale_bits: int) -> int:
    return packed * bits // 8 + packed // group * scale_bits // 8 + 2 * plain


WRONG_BYTES: dict[str, tuple[Bytes, str]] = {
    "no scales": (lambda packed, plain, bits, group, scale_bits: packed * bits / 8 + 2 * plain,
                  "the scales are missing. Each group has one, of scale_bits bits."),
    "bits": (lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits / group) + 16 * plain,
             "these are bits. A byte has eight of them."),
    "a scale for each weight": (
        lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits) / 8 + 2 * plain,
        "every weight has a scale of its own here. One scale serves a whole group."),
    "times the group": (
        lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits * group) / 8 + 2 * plain,
        "scale_bits is multiplied by the group. A larger group means fewer scales: divide."),
    "one scale for all": (
        lambda packed, plain, bits, group, scale_bits: (packed * bits + scale_bits) / 8 + 2 * plain,
        "there is one scale for the whole model here. There is one for each group."),
    "as many scales as a group has members": (
        lambda packed, plain, bits, group, scale_bits: (packed * bits + group * scale_bits) / 8 + 2 * plain,
        "there are `group` scales here. Their number is packed / group."),
    "everything packed": (
        lambda packed, plain, bits, group, scale_bits: (packed + plain) * (bits + scale_bits / group) / 8,
        "everything is packed here. The plain parameters keep 16 bits each."),
    "packed alone": (lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits / group) / 8,
                     "the plain parameters are missing: two bytes each."),
    "plain in bytes": (lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits / group) / 8 + plain,
                       "a plain parameter takes one byte here. 16 bits are two bytes."),
    "plain in float32": (
        lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits / group) / 8 + 4 * plain,
        "a plain parameter takes four bytes here. 16 bits are two bytes."),
    "plain in 16 bytes": (
        lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits / group) / 8 + 16 * plain,
        "a plain parameter takes 16 bytes here: the 16 bits aren't divided by 8."),
    "scales in bytes": (
        lambda packed, plain, bits, group, scale_bits: packed * bits / 8 + packed / group * scale_bits + 2 * plain,
        "the numbers are in bytes and the scales in bits. Divide both by 8."),
    "scales of two bytes": (
        lambda packed, plain, bits, group, scale_bits: packed * bits / 8 + 2 * packed / group + 2 * plain,
        "every scale takes two bytes here. Its size is scale_bits."),
    "scales of one byte": (
        lambda packed, plain, bits, group, scale_bits: packed * bits / 8 + packed / group + 2 * plain,
        "every scale takes one byte here. Its size is scale_bits."),
    "scales of bits": (
        lambda packed, plain, bits, group, scale_bits: packed * (bits + bits / group) / 8 + 2 * plain,
        "a scale is as wide as a number here. Its size is scale_bits."),
    "scales for the plain ones": (
        lambda packed, plain, bits, group, scale_bits: packed * bits / 8
        + (packed + plain) / group * scale_bits / 8 + 2 * plain,
        "the plain parameters have scales here, too. They have none."),
    "numbers in bits": (
        lambda packed, plain, bits, group, scale_bits: packed * bits + packed / group * scale_bits / 8 + 2 * plain,
        "the numbers are in bits and the scales in bytes. Divide both by 8."),
    "a byte for each number": (
        lambda packed, plain, bits, group, scale_bits: packed + packed / group * scale_bits / 8 + 2 * plain,
        "every number takes a whole byte here. It takes `bits` bits."),
    "zero points": (
        lambda packed, plain, bits, group, scale_bits: packed * (bits + 2 * scale_bits / group) / 8 + 2 * plain,
        "every group has two scales here, as if there were a zero point, too. It has one."),
    "gigabytes": (
        lambda packed, plain, bits, group, scale_bits: (packed * (bits + scale_bits / group) / 8 + 2 * plain) / 1e9,
        "these are gigabytes. The exercise asks for bytes."),
}  # fmt: skip

# 13.6 blocks ---------------------------------------------------------------------------------------------------------


def absmax_by_loops(weight: Tensor, size: int) -> Tensor:
    """One block after another."""
    rows, columns = weight.shape[0] // size, weight.shape[1] // size
    result = torch.zeros(rows, columns, dtype=weight.dtype)
    for row in range(rows):
        for column in range(columns):
            block = weight[row * size : (row + 1) * size, column * size : (column + 1) * size]
            result[row, column] = max(block.max().item(), -block.min().item())
    return result


def as_it_was(weight: Tensor, size: int) -> Tensor:
    outs, ins = weight.shape
    blocks = weight.abs().view(outs // size, size, ins // size, size)
    return blocks.permute(0, 2, 1, 3).reshape(outs // size, ins // size, -1).max(dim=-1).values


def reduced(
    pattern: str = "(row high) (column wide) -> row column", how: Any = "max", magnitude: bool = True
) -> Callable[[Tensor, int], Tensor]:
    """An answer with another pattern or another reduction."""

    def answer(weight: Tensor, size: int) -> Tensor:
        lengths = {axis: size for axis in ("high", "wide") if axis in pattern}
        return reduce(weight.abs() if magnitude else weight, pattern, how, **lengths)

    return answer


def by_rearrange(weight: Tensor, size: int) -> Tensor:
    blocks = rearrange(weight.abs(), "(row high) (column wide) -> row column (high wide)", high=size, wide=size)
    return blocks.amax(dim=-1)


def size_as_number(weight: Tensor, size: int) -> Tensor:
    return reduce(weight.abs(), "(row high) (column wide) -> row column", "max", row=size, column=size)


def matrix(rows: int, columns: int, size: int, dtype: torch.dtype = torch.float32) -> Arguments:
    """A random matrix of whole blocks."""
    return lambda generator: (torch.randn(rows * size, columns * size, generator=generator).to(dtype), size)


SHAPE_SURGERY = {"view", "reshape", "transpose", "permute", "flatten", "unflatten", "unfold", "unsqueeze", "swapaxes"}


def still_cut_by_hand(answer: Any) -> str | None:
    """A right result is not enough here: it should read as a pattern. A wrong one is told what is wrong with it."""
    drawn = matrix(2, 3, 4)(torch.Generator().manual_seed(0))
    if difference(absmax_by_loops(*drawn), run(answer, drawn), 1e-4):
        return None
    code = getattr(answer, "__code__", None)
    used = sorted(SHAPE_SURGERY & set(getattr(code, "co_names", ())))
    if used:
        return f"Your function still uses {', '.join(used)}. The exercise is to say it with named axes instead."
    if code is not None and any(step.opname == "FOR_ITER" for step in dis.get_instructions(code)):
        return "The result is right, and your function loops over the blocks. The exercise is to name them."
    return None


BY_HAND = torch.tensor([[1.0, -5.0, 0.5, 0.0], [2.0, 3.0, -0.25, 0.25]])

EXERCISES = (
    Exercise(
        id="13.5",
        title="The bytes of a format",
        kind="estimate",
        minutes=8,
        difficulty=2,
        hints=(
            "Three parts: the packed numbers, their scales, and the parameters that aren't packed.",
            "There are packed / group scales. Add up all bits, then divide by 8.",
            "packed * (bits + scale_bits / group) / 8 + 2 * plain.",
        ),
        now_you_know="a format costs its bits plus its scale divided by its group: 4 + 8 / 16 = 4.5 bits for NVFP4.",
        oracle=bytes_by_parts,
        cases=(
            Case("64 weights in four groups, ten plain ones, by hand", (64, 10, 4, 16, 8), 56.0),
            Case("nothing is plain", (1024, 0, 8, 128, 16)),
            Case("int4, groups of 128, a scale of 16 bits", (128 * 3_000, 5_000, 4, 128, 16)),
            Case("MXFP4, groups of 32, a scale of 8 bits", (32 * 700, 900, 4, 32, 8)),
            Case("the 235B in NVFP4", (233_802_040_320 // 16 * 16, 1_291_594_240, 4, 16, 8)),
        ),
        mutants=WRONG_BYTES,
        accepted={"bits per weight": bytes_per_weight, "whole bytes": whole_bytes},
    ),
    Exercise(
        id="13.6",
        title="Rewrite with einops: a scale for every block",
        kind="einops",
        minutes=6,
        difficulty=2,
        hints=(
            "Which four axes does the matrix have, if each side is cut into blocks? Which two are left?",
            "(row high) (column wide) -> row column, where high and wide are the size of a block.",
            'reduce(weight.abs(), "(row high) (column wide) -> row column", "max", high=size, wide=size).',
        ),
        now_you_know="view, permute, reshape and max are one pattern: which axes are cut, and which remain.",
        oracle=absmax_by_loops,
        cases=(
            Case("two blocks of 2 x 2, by hand", (BY_HAND, 2), torch.tensor([[5.0, 0.5]])),
            Case("random blocks", matrix(3, 5, 4)),
            Case("more rows than columns", matrix(6, 2, 3)),
            Case("the block is the whole matrix", matrix(1, 1, 7)),
            Case("blocks of one", matrix(2, 3, 1)),
            Case("in bfloat16", matrix(2, 4, 5, torch.bfloat16)),
        ),
        given=as_it_was,
        also=still_cut_by_hand,
        mutants={
            "as it was": (
                as_it_was, "the result is right and the code is the old one: the axes have no names yet."),
            "loops": (
                absmax_by_loops,
                "the result is right and the code is loops: the axes have no names yet, and one pattern does it all."),
            "without abs": (
                reduced(magnitude=False),
                "the magnitudes are missing: a block whose largest weight is negative gets too small a scale."),
            "abs at the end": (
                lambda weight, size: reduced(magnitude=False)(weight, size).abs(),
                "the magnitude is taken after the maximum. A large negative weight has lost by then: take .abs() "
                "first."),
            "the smallest": (reduced(how="min"), "these are the smallest magnitudes. The scale needs the largest."),
            "mean": (reduced(how="mean"), "these are means. The scale needs the largest of a block."),
            "sum": (reduced(how="sum"), "these are sums. The scale needs the largest of a block."),
            "strided": (
                reduced("(high row) (wide column) -> row column"),
                "(high row) puts weights that are far apart into a block. Neighbours belong together: (row high)."),
            "strided rows": (
                reduced("(high row) (column wide) -> row column"),
                "(high row) puts rows that are far apart into a block. Neighbours belong together: (row high)."),
            "strided columns": (
                reduced("(row high) (wide column) -> row column"),
                "(wide column) puts columns that are far apart into a block. Neighbours belong together: "
                "(column wide)."),
            "rows alone": (
                reduced("(row high) into -> row into"),
                "only the outputs are cut into blocks. The inputs are, too: (column wide)."),
            "columns alone": (
                reduced("out (column wide) -> out column"),
                "only the inputs are cut into blocks, as in int4. In FP8 the outputs are, too: (row high)."),
            "exchanged": (
                reduced("(row high) (column wide) -> column row"), "row and column have changed places in the result."),
            "all": (
                reduced("(row high) (column wide) -> 1 1"),
                "this is the largest of the whole matrix. Keep `row` and `column`."),
            "one axis more": (
                reduced("(row high) (column wide) -> row column 1"),
                "the result has an axis more. It is row column."),
            "the scale": (
                lambda weight, size: reduced()(weight, size) / 448,
                "this is the scale of FP8, divided by 448 already. The exercise asks for the largest magnitudes."),
            "size is a number": (
                size_as_number,
                "`size` is used as the number of blocks. It is the length of a side: high=size, wide=size."),
        },
        accepted={"reduce": reduced(), "rearrange and amax": by_rearrange},
    ),
)  # fmt: skip
