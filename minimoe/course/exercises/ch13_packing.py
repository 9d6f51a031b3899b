"""Chapter 13, smaller: two numbers in a byte, and back (13.2, 13.3)."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.quantisation.groupwise import GroupwiseInt

# 13.2 pack -----------------------------------------------------------------------------------------------------------


def pack_by_loops(numbers: Tensor) -> Tensor:
    """Two neighbours after another."""
    rows = [[row[n] + 8 + 16 * (row[n + 1] + 8) for n in range(0, len(row), 2)] for row in numbers.tolist()]
    return torch.tensor(rows, dtype=torch.uint8).reshape(numbers.shape[0], numbers.shape[1] // 2)


def joined(join: Callable[[Tensor, Tensor], Tensor], offset: int = 8) -> Callable[[Tensor], Tensor]:
    """An answer that joins the even and the odd numbers in another way."""

    def answer(numbers: Tensor) -> Tensor:
        even, odd = rearrange((numbers.int() + offset) & 255, "out (pair two) -> two out pair", two=2)
        return (join(even, odd) & 255).to(torch.uint8)

    return answer


def halves_of_a_row(numbers: Tensor) -> Tensor:
    first, second = rearrange((numbers + 8).byte(), "out (two pair) -> two out pair", two=2)
    return first | second << 4


def outputs(numbers: Tensor) -> Tensor:
    shifted = (numbers + 8).byte()
    even, odd = shifted[: len(shifted) // 2 * 2 : 2], shifted[1::2]
    return even | odd << 4


def pack_by_einops(numbers: Tensor) -> Tensor:
    even, odd = rearrange((numbers + 8).byte(), "out (pair two) -> two out pair", two=2)
    return even | odd << 4


def pack_by_steps(numbers: Tensor) -> Tensor:
    shifted = numbers.to(torch.int16) + 8
    return (shifted[:, ::2] + 16 * shifted[:, 1::2]).to(torch.uint8)


# 13.3 unpack ---------------------------------------------------------------------------------------------------------


def unpack_by_loops(stored: Tensor) -> Tensor:
    """Byte after byte, the lower half first."""
    rows = [[half - 8 for byte in row for half in (byte % 16, byte // 16)] for row in stored.tolist()]
    return torch.tensor(rows, dtype=torch.int8).reshape(stored.shape[0], 2 * stored.shape[1])


def suspicious_unpack(stored: Tensor) -> Tensor:
    low, high = (stored & 15).char() - 8, (stored >> 4).char() - 8
    return torch.cat([low, high], dim=1)


def split(
    low: Callable[[Tensor], Tensor] = lambda stored: stored % 16,
    high: Callable[[Tensor], Tensor] = lambda stored: stored // 16,
    offset: int = 8,
    pattern: str = "two out pair -> out (pair two)",
) -> Callable[[Tensor], Tensor]:
    """An answer with another half or another order."""

    def answer(stored: Tensor) -> Tensor:
        wide = stored.int()
        return rearrange([low(wide) - offset, high(wide) - offset], pattern).to(torch.int8)

    return answer


def as_dtype(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda stored: unpack_by_loops(stored).to(dtype)


def complement(stored: Tensor) -> Tensor:
    """As if the four bits were in two's complement."""
    plain = unpack_by_loops(stored).int() + 8
    return torch.where(plain > 7, plain - 16, plain).to(torch.int8)


def unpack_by_columns(stored: Tensor) -> Tensor:
    numbers = torch.empty(stored.shape[0], 2 * stored.shape[1], dtype=torch.int8)
    numbers[:, ::2], numbers[:, 1::2] = (stored & 15).char() - 8, (stored >> 4).char() - 8
    return numbers


def unpack_by_stack(stored: Tensor) -> Tensor:
    return torch.stack([(stored & 15).char(), (stored >> 4).char()], dim=-1).flatten(1) - 8


def numbers(outs: int, ins: int) -> Arguments:
    """Random numbers of four bits."""

    def arguments(generator: torch.Generator) -> tuple[Tensor]:
        return (torch.randint(-7, 8, (outs, ins), generator=generator).to(torch.int8),)

    return arguments


def packed_numbers(outs: int, ins: int) -> Arguments:
    """The bytes of such numbers."""
    return lambda generator: (pack_by_loops(numbers(outs, ins)(generator)[0]),)


BY_HAND = torch.tensor([[-7, 7, 0, 1]], dtype=torch.int8)
PACKED = torch.tensor([[241, 152]], dtype=torch.uint8)  # 1 + 16 * 15, 8 + 16 * 9

EXERCISES = (
    Exercise(
        id="13.2",
        title="Two in a byte",
        kind="fill in",
        minutes=10,
        difficulty=2,
        hints=(
            "Add 8, and every number is 1 to 15, without a sign. Which half does each of two neighbours get?",
            "numbers[:, ::2] are the even inputs, numbers[:, 1::2] the odd ones; both are out pair. << 4 moves four "
            "bits up, | puts two together.",
            "shifted = (numbers + 8).to(torch.uint8); return shifted[:, ::2] | shifted[:, 1::2] << 4.",
        ),
        now_you_know="no processor has a type of four bits: int4 in a file is bytes, with an agreement on the halves.",
        oracle=pack_by_loops,
        cases=(
            Case("four numbers, two bytes, by hand", (BY_HAND,), PACKED),
            Case("random numbers", numbers(3, 10)),
            Case("two outputs", numbers(2, 8)),
            Case("one byte", numbers(1, 2)),
        ),
        mutants={
            "odd below": (
                joined(lambda even, odd: even << 4 | odd),
                "the two halves are exchanged: the even input belongs into the lower half, the odd one into the "
                "upper."),
            "halves of a row": (
                halves_of_a_row,
                "the first half of a row shares bytes with the second half. Neighbours share a byte: 0 and 1, 2 and "
                "3."),
            "no offset": (
                joined(lambda even, odd: even & 15 | odd << 4, offset=0),
                "8 isn't added. (These are the four bits of two's complement, another agreement.)"),
            "no offset, no mask": (
                joined(lambda even, odd: even | odd << 4, offset=0),
                "8 isn't added, and the sign bits of a negative number run into the upper half."),
            "offset of seven": (
                joined(lambda even, odd: even | odd << 4, offset=7), "7 is added in place of 8."),
            "shifted by three": (
                joined(lambda even, odd: even | odd << 3),
                "the odd number is shifted by 3 bits (or times 8), so both numbers share one bit. Shift by 4."),
            "times eight": (
                joined(lambda even, odd: even + 8 * odd),
                "the odd number is multiplied by 8, which is a shift by 3 bits. Four bits are times 16."),
            "times ten": (
                joined(lambda even, odd: even + 10 * odd),
                "the odd number is multiplied by 10. Four bits are times 16."),
            "and": (
                joined(lambda even, odd: even & odd << 4),
                "& keeps the bits that both have, and the halves have none in common. Put them together with |."),
            "not shifted": (
                joined(lambda even, odd: even + odd), "both are added in the same place. Shift one of them by 4 bits."),
            "or, not shifted": (
                joined(lambda even, odd: even | odd), "both are in the lower half. Shift the odd one by 4 bits."),
            "offset for one": (
                joined(lambda even, odd: (even - 8) & 15 | odd << 4),
                "8 is added to the odd inputs only. Both need it."),
            "offset for the other": (
                joined(lambda even, odd: even | (odd - 8) << 4), "8 is added to the even inputs only. Both need it."),
            "xor, not shifted": (
                joined(lambda even, odd: even ^ odd), "both are in the lower half. Shift the odd one by 4 bits."),
            "one half": (
                joined(lambda even, odd: even),
                "the odd inputs are missing, or they were shifted by 8 bits and out of the byte. The upper half begins "
                "at 4."),
            "the other half": (joined(lambda even, odd: odd << 4), "the even inputs are missing."),
            "outputs": (outputs, "two outputs share a byte here. Two neighbouring *inputs* of one output should."),
            "int8": (
                lambda numbers: pack_by_loops(numbers).to(torch.int8),
                "the bits are right, and the dtype isn't: a byte without a sign is torch.uint8."),
        },
        accepted={"einops": pack_by_einops, "times sixteen": pack_by_steps, "loops": pack_by_loops},
        teaches=GroupwiseInt.join,
    ),
    Exercise(
        id="13.3",
        title="Bug hunt: every number is there",
        kind="bug hunt",
        minutes=8,
        difficulty=2,
        hints=(
            "Compare the two rows of the table from left to right. Where does the second number go?",
            "low holds the inputs 0, 2, 4, ..., high 1, 3, 5, ... Behind each other they are 0, 2, 4, ..., 1, 3, 5.",
            'rearrange([low, high], "two out pair -> out (pair two)"), or torch.stack(..., dim=-1).flatten(1).',
        ),
        now_you_know="a packing order is a convention. The wrong one has the right values in every statistic.",
        oracle=unpack_by_loops,
        cases=(
            Case("two bytes, by hand", (PACKED,), BY_HAND),
            Case("random bytes", packed_numbers(3, 10)),
            Case("several outputs", packed_numbers(4, 6)),
            Case("one byte", packed_numbers(1, 2)),
        ),
        given=suspicious_unpack,
        mutants={
            "as it was": (
                suspicious_unpack,
                "the even inputs stand before all the odd ones. They should alternate: one of each byte's halves "
                "after the other."),
            "upper half first": (
                split(pattern="two out pair -> out (pair two)", low=lambda s: s // 16, high=lambda s: s % 16),
                "they alternate, and in each pair the two have changed places: the lower half of a byte comes first."),
            "no offset": (split(offset=0), "the 8 that was added isn't subtracted."),
            "offset of seven": (split(offset=7), "7 is subtracted in place of 8, so all numbers are one too large."),
            "offset of sixteen": (split(offset=16), "16 is subtracted in place of 8."),
            "the whole byte below": (
                split(low=lambda stored: stored),
                "the even inputs are the whole byte: mask its lower half with & 15."),
            "mask of seven": (
                split(low=lambda stored: stored & 7), "the mask of the lower half has three bits: 15 has four."),
            "shifted with a sign": (
                split(high=lambda stored: stored.char() >> 4),
                "the byte is made int8 before it is shifted, and its top bit becomes a sign. Shift first."),
            "shifted by eight": (
                split(high=lambda stored: stored >> 8), "the odd inputs are shifted by 8 bits, and nothing is left."),
            "not shifted": (
                split(high=lambda stored: stored & 240),
                "the upper half is masked and not shifted down, so the odd inputs are 16 times too large."),
            "the lower half twice": (split(high=lambda stored: stored % 16), "the lower half is used twice."),
            "complement": (
                complement,
                "the four bits are read as two's complement. They were stored with 8 added: subtract 8."),
            "rows": (
                split(pattern="two out pair -> (out two) pair"),
                "the two halves have become two rows. They are neighbours in one row."),
            "behind, in rows": (
                split(pattern="two out pair -> (two out) pair"),
                "the upper halves stand as rows below the lower ones. They are neighbours in one row."),
            "in uint8": (
                as_dtype(torch.uint8),
                "the result is uint8, which has no negative numbers: -1 becomes 255. Convert to int8 before you "
                "subtract."),
            "as floats": (as_dtype(torch.float32), "the values are right, and they should be int8."),
            "as int32": (as_dtype(torch.int32), "the values are right, and they should be int8, not int32."),
            "as int16": (as_dtype(torch.int16), "the values are right, and they should be int8, not int16."),
        },
        accepted={"columns": unpack_by_columns, "stack": unpack_by_stack, "arithmetic": split()},
        teaches=GroupwiseInt.split,
    ),
)  # fmt: skip
