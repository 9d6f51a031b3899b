"""Chapter 13, smaller: numbers and scales of int4 (13.1), and the weight at the end of the grid (13.4)."""

from collections.abc import Callable

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.quantisation.groupwise import GroupwiseInt

Numbers = tuple[Tensor, Tensor]

# 13.1 numbers and scales ---------------------------------------------------------------------------------------------


def by_groups(weight: Tensor, group: int) -> Numbers:
    """One group of one output after another."""
    outs, ins = weight.shape
    numbers, scales = torch.zeros(outs, ins, dtype=torch.int8), torch.zeros(outs, ins // group)
    for out in range(outs):
        for place, start in enumerate(range(0, ins, group)):
            part = weight[out, start : start + group]
            scales[out, place] = scale = part.abs().max() / 7
            if scale > 0:
                numbers[out, start : start + group] = (part / scale).round().to(torch.int8)
    return numbers, scales


def grouped(weight: Tensor, group: int) -> Tensor:
    return rearrange(weight, "out (group member) -> out group member", member=group)


def largest(groups: Tensor) -> Tensor:
    """The right scale: the largest magnitude becomes 7."""
    return reduce(groups.abs(), "out group member -> out group", "max") / 7


def nearest(values: Tensor) -> Tensor:
    return values.round()


def numbers_of(
    weight: Tensor,
    group: int,
    scale: Tensor,
    low: int = -7,
    high: int = 7,
    rounding: Callable[[Tensor], Tensor] = nearest,
) -> Tensor:
    """The numbers with these scales, zero where the scale is zero."""
    step = rearrange(scale.masked_fill(scale == 0, 1), "out group -> out group 1")
    values = rounding(grouped(weight, group) / step).clamp(low, high)
    return rearrange(values, "out group member -> out (group member)").to(torch.int8)


def scaled(
    scale: Callable[[Tensor], Tensor],
    low: int = -7,
    high: int = 7,
    rounding: Callable[[Tensor], Tensor] = nearest,
    stored: Callable[[Tensor], Tensor] = lambda scale: scale,
) -> Callable[[Tensor, int], Numbers]:
    """An answer with other scales, another range, another rounding, or scales that are stored in another form."""

    def answer(weight: Tensor, group: int) -> Numbers:
        scales = scale(grouped(weight, group))
        return numbers_of(weight, group, scales, low, high, rounding), stored(scales)

    return answer


def whole_matrix(groups: Tensor) -> Tensor:
    return (groups.abs().max() / 7).expand(groups.shape[:2]).clone()


def whole_row(groups: Tensor) -> Tensor:
    row = reduce(groups.abs(), "out group member -> out", "max") / 7
    return repeat(row, "out -> out group", group=groups.shape[1])


def other_numbers(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, int], Numbers]:
    """The right scales, and numbers that are changed: change(numbers, scale of each weight)."""

    def answer(weight: Tensor, group: int) -> Numbers:
        numbers, scale = by_groups(weight, group)
        return change(numbers, repeat(scale, "out group -> out (group member)", member=group)), scale

    return answer


def not_a_number(weight: Tensor, group: int) -> Numbers:
    """0 / 0 where a group is zero; what nan becomes as an integer depends on the processor, so it is a 7 here."""
    numbers, scale = by_groups(weight, group)
    wide = repeat(scale, "out group -> out (group member)", member=group)
    return numbers.masked_fill(wide == 0, 7), scale


def across_outputs(weight: Tensor, group: int) -> Numbers:
    """Groups of outputs in place of inputs."""
    high = min(group, len(weight))
    rows = len(weight) // high * high
    columns = rearrange(weight[:rows], "(group member) into -> into group member", member=high)
    scale = largest(columns)
    values = (columns / rearrange(scale.masked_fill(scale == 0, 1), "into group -> into group 1")).round()
    return rearrange(values, "into group member -> (group member) into").to(torch.int8), scale


def strided(weight: Tensor, group: int) -> Numbers:
    """Members of a group are a stride apart."""
    groups = rearrange(weight, "out (member group) -> out group member", member=group)
    scale = largest(groups)
    values = (groups / rearrange(scale.masked_fill(scale == 0, 1), "out group -> out group 1")).round()
    return rearrange(values, "out group member -> out (member group)").to(torch.int8), scale


def by_einops(weight: Tensor, group: int) -> Numbers:
    scale = largest(grouped(weight, group))
    return numbers_of(weight, group, scale), scale


def by_view(weight: Tensor, group: int) -> Numbers:
    parts = weight.unflatten(1, (-1, group))
    scale = parts.abs().amax(dim=-1) / 7
    return (parts / scale.clamp_min(1e-30)[..., None]).round().flatten(1).to(torch.int8), scale


def matrix(outs: int, ins: int, group: int, zeros: bool = False, wide: bool = False) -> Arguments:
    """Random weights; zeros: the first group is zero; wide: groups of very different size."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int]:
        weight = torch.randn(outs, ins, generator=generator)
        if wide:
            weight *= repeat(torch.logspace(-2, 2, ins // group), "group -> (group member)", member=group)
        if zeros:
            weight[0, :group] = 0
        return weight, group

    return arguments


BY_HAND = torch.tensor([[7.0, -3.0, 0.4, 0.6], [0.6, -1.0, 13.0, 28.0]])

# 13.4 the end of the grid --------------------------------------------------------------------------------------------


def row_by_row(weight: Tensor) -> Tensor:
    """Each weight by search among the fifteen multiples of its row."""
    result = torch.zeros_like(weight)
    for out, row in enumerate(weight.tolist()):
        scale = max(map(abs, row)) / 7
        for into, value in enumerate(row):
            result[out, into] = min((scale * number for number in range(-7, 8)), key=lambda point: abs(point - value))
    return result


def suspicious_round(weight: Tensor) -> Tensor:
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 8
    return (weight / scale).round().clamp(-8, 7) * scale


def with_steps(
    steps: float, low: float, high: float, axes: str = "out 1", rounding: Callable[[Tensor], Tensor] = nearest
) -> Callable[[Tensor], Tensor]:
    """An answer with a scale of the largest magnitude over `steps`, clamped to low and high."""

    def answer(weight: Tensor) -> Tensor:
        scale = reduce(weight.abs(), f"out into -> {axes}", "max") / steps
        return rounding((weight / scale).nan_to_num(0.0)).clamp(low, high) * scale

    return answer


def largest_positive(low: int) -> Callable[[Tensor], Tensor]:
    def answer(weight: Tensor) -> Tensor:
        scale = reduce(weight, "out into -> out 1", "max") / 7
        return (weight / scale).round().clamp(low, 7) * scale

    return answer


def put_back(weight: Tensor) -> Tensor:
    """The bug, with the largest weight restored by hand."""
    largest_one = reduce(weight.abs(), "out into -> out 1", "max")
    return torch.where(weight.abs() == largest_one, weight, suspicious_round(weight))


def from_end_to_end(weight: Tensor) -> Tensor:
    """Sixteen points from the smallest to the largest weight of a row."""
    low, high = reduce(weight, "out into -> out 1", "min"), reduce(weight, "out into -> out 1", "max")
    step = ((high - low) / 15).masked_fill(high == low, 1)
    return ((weight - low) / step).round() * step + low


def with_a_sign(weight: Tensor) -> Tensor:
    """The scale of llama.cpp: the largest magnitude lands on -8, whatever its sign."""
    step = weight.gather(1, weight.abs().argmax(dim=1, keepdim=True)) / -8
    return (weight / step).round().clamp(-8, 7) * step


def numbers_alone(weight: Tensor) -> Tensor:
    return (weight / (reduce(weight.abs(), "out into -> out 1", "max") / 7)).round()


def row_in_python(weight: Tensor) -> Tensor:
    return torch.stack([(row * 7 / row.abs().max()).round() * row.abs().max() / 7 for row in weight])


def rows(outs: int, ins: int, end: float = 0.0) -> Arguments:
    """Random rows; end: the largest weight of every row, positive or negative."""

    def arguments(generator: torch.Generator) -> tuple[Tensor]:
        weight = torch.randn(outs, ins, generator=generator)
        if end:
            weight[:, 1] = end
        return (weight,)

    return arguments


EXERCISES = (
    Exercise(
        id="13.1",
        title="Numbers and scales",
        kind="fill in",
        minutes=12,
        difficulty=2,
        hints=(
            "Cut each row into groups first. Which number of a group decides its scale?",
            "out (group member) becomes out group member. The scale is out group: the largest magnitude over 7.",
            "reduce(groups.abs(), ..., 'max') / 7; divide by it (by 1 where it is 0), .round(), put the groups back "
            "into a row, .to(torch.int8).",
        ),
        now_you_know="a group stretches the grid until its largest weight sits at the end, and the others take what "
        "is there.",
        oracle=by_groups,
        cases=(
            Case("two outputs, groups of two, by hand", (BY_HAND, 2),
                 (torch.tensor([[7, -3, 5, 7], [4, -7, 3, 7]], dtype=torch.int8),
                  torch.tensor([[1.0, 0.6 / 7], [1 / 7, 4.0]]))),
            Case("random weights", matrix(5, 24, 8)),
            Case("groups of very different size", matrix(4, 24, 6, wide=True)),
            Case("the largest weight is negative", (-matrix(3, 8, 4)(torch.Generator().manual_seed(2))[0].abs(), 4)),
            Case("a group of zeros", matrix(3, 12, 4, zeros=True)),
            Case("one group is the whole row", matrix(3, 10, 10)),
            Case("one weight in a group", matrix(2, 4, 1)),
        ),
        parts={"the numbers": lambda result: result[0], "the scales": lambda result: result[1]},
        stages=(
            Stage("the numbers", lambda weight, group: numbers_of(weight, group, whole_row(grouped(weight, group))),
                  "are those of one scale for each row"),
            Stage("the scales", lambda weight, group: whole_row(grouped(weight, group)),
                  "are those of the whole row"),
            Stage("the scales", lambda weight, group: 7 * largest(grouped(weight, group)),
                  "are the largest magnitudes, not yet divided by 7"),
            Stage("the scales", lambda weight, group: reduce(grouped(weight, group), "o g m -> o g", "max") / 7,
                  "are from the largest weights, not from the largest magnitudes"),
        ),
        mutants={
            "one scale for the matrix": (
                scaled(whole_matrix), "the whole matrix shares one scale. Each group of each output has its own."),
            "one scale for a row": (
                scaled(whole_row), "a whole row shares one scale. Each group has its own."),
            "eight": (
                scaled(lambda groups: largest(groups) * 7 / 8, low=-8),
                "the scale is the largest magnitude over 8, and then a positive one at the end doesn't fit. Divide "
                "by 7."),
            "eight, clipped at both ends": (
                scaled(lambda groups: largest(groups) * 7 / 8),
                "the scale is the largest magnitude over 8, while the numbers end at 7, so the largest weight is cut "
                "off. Divide by 7."),
            "from end to end": (
                scaled(lambda groups: (groups.amax(dim=-1) - groups.amin(dim=-1)) / 15),
                "the scale is the range from the smallest to the largest over 15. That needs a zero point, too. Here "
                "zero is in the middle: take the largest magnitude over 7."),
            "from end to end over 14": (
                scaled(lambda groups: (groups.amax(dim=-1) - groups.amin(dim=-1)) / 14),
                "the scale is the range from the smallest to the largest over 14. Zero is in the middle here: take "
                "the largest magnitude over 7."),
            "without abs": (
                scaled(lambda groups: groups.amax(dim=-1) / 7),
                "the scale comes from the largest weight. A negative one may be larger in magnitude: take .abs() "
                "first."),
            "upside down": (
                scaled(largest, stored=lambda scale: 1 / scale),
                "the numbers are right, and the scale is upside down: number times scale should give the weight."),
            "the magnitude": (
                scaled(lambda groups: 7 * largest(groups)),
                "the scale is the largest magnitude itself, so that only -1, 0 and 1 are used. Divide it by 7."),
            "stored as magnitude": (
                scaled(largest, stored=lambda scale: 7 * scale),
                "the numbers are right, and the scale is 7 times too large: number times scale should give the "
                "weight."),
            "cut off": (
                scaled(largest, rounding=torch.trunc),
                "the numbers are cut off toward zero: a conversion to integers does that. Round first."),
            "down": (
                scaled(largest, rounding=torch.floor), "the numbers are rounded down. Take the nearest ones."),
            "up": (
                scaled(largest, rounding=torch.ceil), "the numbers are rounded up. Take the nearest ones."),
            "floats": (
                other_numbers(lambda numbers, scale: numbers.float()),
                "the values are right, and the numbers should be int8, since four bits are stored and not 32."),
            "rounded weights": (
                other_numbers(lambda numbers, scale: numbers * scale),
                "these are the rounded weights, number times scale. What is stored are the numbers, in int8."),
            "with the offset": (
                other_numbers(lambda numbers, scale: numbers + 8),
                "8 is added to the numbers. That comes later, when two are packed in a byte."),
            "0 / 0": (
                not_a_number,
                "in a group of zeros the scale is 0, and 0 / 0 is not a number (nan). Divide by 1 there."),
            "one for zeros": (
                scaled(largest, stored=lambda scale: scale.masked_fill(scale == 0, 1)),
                "the scale of a group of zeros should be 0. (Divide by 1 there, and return the scale as it was.)"),
            "standard deviation": (
                scaled(lambda groups: groups.std(dim=-1, unbiased=False) / 3),
                "the scale comes from the standard deviation, so the largest weight may not fit. Take the largest "
                "magnitude over 7."),
            "mean": (
                scaled(lambda groups: groups.abs().mean(dim=-1) / 7),
                "the scale comes from the mean magnitude, so that half of the weights don't fit. Take the largest."),
            "across": (
                across_outputs,
                "the groups go down a column: several outputs share a scale. A group is a part of one row."),
            "a stride apart": (
                strided, "the members of a group are a stride apart. Neighbours share a scale: (group member)."),
            "a number for 15 steps": (
                scaled(lambda groups: largest(groups) * 7 / 15, low=-15, high=15),
                "the numbers go to 15, which takes five bits. Four bits hold -7 to 7."),
            "int8": (
                scaled(lambda groups: largest(groups) * 7 / 127, low=-127, high=127),
                "the numbers go to 127, which is int8. Four bits hold -7 to 7."),
        },
        accepted={"einops": by_einops, "unflatten": by_view, "loops": by_groups},
        teaches=GroupwiseInt.pack_rows,
    ),
    Exercise(
        id="13.4",
        title="Bug hunt: the largest weight",
        kind="bug hunt",
        minutes=8,
        difficulty=2,
        hints=(
            "Follow the largest weight of the second row, 2.0. Which number does it get before the clamp?",
            "With a scale of 2.0 / 8 it is 8, and four bits with a sign end at 7. At the other end there is room for "
            "-8.",
            "Give up -8: divide by 7, clamp to -7 and 7.",
        ),
        now_you_know="a signed range of 16 numbers has no middle: one end is a step longer. A symmetric format leaves "
        "that step unused.",
        oracle=row_by_row,
        cases=(
            Case("a row with the largest weight positive, by hand", (torch.tensor([[7.0, -2.9, 1.2, 0.0]]),),
                 torch.tensor([[7.0, -3.0, 1.0, 0.0]])),
            Case("the largest weight is positive", rows(4, 9, end=5.0)),
            Case("the largest weight is negative", rows(4, 9, end=-5.0)),
            Case("both ends are nearly equal", (torch.tensor([[5.0, -4.9, 1.0], [-5.0, 4.9, 1.0]]),)),
            Case("random weights", rows(6, 16)),
            Case("one weight in a row", rows(3, 1)),
        ),
        given=suspicious_round,
        mutants={
            "as it was": (
                suspicious_round,
                "the largest magnitude is divided by 8, and a positive weight there is clipped from 8 to 7: an eighth "
                "of the largest weight is lost."),
            "not clipped": (
                with_steps(8, -8, 8),
                "the numbers go from -8 to 8. These are seventeen, one more than four bits hold."),
            "clipped at both ends": (
                with_steps(8, -7, 7),
                "now both ends are clipped: the scale still makes 8 of the largest magnitude. Change the scale."),
            "seven and a half": (
                with_steps(7.5, -8, 7),
                "the scale is the largest magnitude over 7.5, so it is rounded to 8 and clipped to 7. Divide by 7."),
            "one scale": (
                with_steps(7, -7, 7, axes="1 1"), "the whole matrix shares one scale. Each row has its own."),
            "a scale for a column": (
                with_steps(7, -7, 7, axes="1 into"), "each column has a scale here. Each row should have one."),
            "fifteen": (
                with_steps(15, -15, 15), "the numbers go to 15, which takes five bits. Four bits hold -7 to 7."),
            "fifteen, clipped": (
                with_steps(15, -8, 7),
                "the largest magnitude is divided by 15, so that it becomes 15 and is clipped to 7. Divide by 7."),
            "int8": (with_steps(127, -127, 127), "the numbers go to 127, which is int8. Keep four bits: -7 to 7."),
            "positive": (
                largest_positive(-8),
                "the scale comes from the largest weight. A negative one may be larger in magnitude: keep .abs()."),
            "positive, to -7": (
                largest_positive(-7),
                "the scale comes from the largest weight, and negative ones are clipped. Take the largest magnitude."),
            "numbers": (numbers_alone, "these are the numbers. Multiply them by the scale again."),
            "not rounded": (
                with_steps(7, -7, 7, rounding=lambda values: values),
                "nothing is rounded, so these are the weights as they were."),
            "cut off": (
                with_steps(7, -7, 7, rounding=torch.trunc), "the numbers are cut off toward zero. Keep .round()."),
            "down": (with_steps(7, -7, 7, rounding=torch.floor), "the numbers are rounded down. Keep .round()."),
            "put back": (
                put_back,
                "the largest weight is put back by hand, which no number of four bits stands for: it would have to be "
                "8. Change the scale."),
            "from end to end": (
                from_end_to_end,
                "the points go from the smallest weight to the largest, and zero isn't one of them. That needs a zero "
                "point in the file. Here zero is in the middle: take the largest magnitude over 7."),
            "with a sign": (
                with_a_sign,
                "the scale has a sign, so that the largest weight lands on -8: a good trick, of llama.cpp. But it uses "
                "the sixteenth number, which the exercise leaves unused."),
            "six": (
                with_steps(6, -7, 7),
                "the largest magnitude becomes 6, so that 7 is never used. Divide by 7."),
        },
        accepted={"seven": with_steps(7, -7, 7), "the old clamp": with_steps(7, -8, 7), "row by row": row_in_python},
    ),
)  # fmt: skip
