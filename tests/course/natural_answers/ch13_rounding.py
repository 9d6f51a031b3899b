"""Natural answers to 13.1 to 13.4: integers with a scale for each group, two in a byte, and two bugs."""

import torch
from einops import pack as join
from einops import rearrange, reduce, repeat

from tests.course.natural_answers.collect import Collection

collection = Collection("13.1", "13.2", "13.3", "13.4")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 13.1 numbers and scales ----------------------------------------------------------------------------------------------


def groups_of(weight, group):
    return rearrange(weight, "out (group member) -> out group member", member=group)


def finish(grouped, scale, low=-7, high=7, rounding=torch.round):
    step = scale.masked_fill(scale == 0, 1)[..., None]
    numbers = rounding(grouped / step).clamp(low, high).to(torch.int8)
    return rearrange(numbers, "out group member -> out (group member)"), scale


@wrong("13.1", "one scale for the matrix", "whole matrix", "one scale", "group")
def _(weight, group):
    grouped = groups_of(weight, group)
    return finish(grouped, (weight.abs().max() / 7).expand(grouped.shape[:2]).clone())


@wrong("13.1", "one scale for a row", "row", "group", "output")
def _(weight, group):
    grouped = groups_of(weight, group)
    scale = weight.abs().amax(dim=1, keepdim=True) / 7
    return finish(grouped, scale.expand(grouped.shape[:2]).clone())


@wrong("13.1", "eight instead of seven", "8", "seven", "eight")
def _(weight, group):
    grouped = groups_of(weight, group)
    return finish(grouped, grouped.abs().amax(dim=-1) / 8, low=-8)


@wrong("13.1", "eight, and clipped at seven on both sides", "8", "seven", "eight")
def _(weight, group):
    grouped = groups_of(weight, group)
    return finish(grouped, grouped.abs().amax(dim=-1) / 8)


@wrong("13.1", "fifteen steps from end to end", "15", "range", "smallest", "magnitude", "half")
def _(weight, group):
    grouped = groups_of(weight, group)
    return finish(grouped, (grouped.amax(dim=-1) - grouped.amin(dim=-1)) / 15)


@wrong("13.1", "the largest without abs", "negative", "magnitude", "abs", "sign")
def _(weight, group):
    grouped = groups_of(weight, group)
    return finish(grouped, grouped.amax(dim=-1) / 7)


@wrong("13.1", "the scale upside down", "upside", "7 /", "inverse", "reciprocal", "divid")
def _(weight, group):
    numbers, scale = finish(groups_of(weight, group), groups_of(weight, group).abs().amax(dim=-1) / 7)
    return numbers, 1 / scale


@wrong("13.1", "nothing is rounded but cut off", "toward", "cut", "trunc", "round")
def _(weight, group):
    grouped = groups_of(weight, group)
    return finish(grouped, grouped.abs().amax(dim=-1) / 7, rounding=torch.trunc)


@wrong("13.1", "floor", "down", "floor", "round")
def _(weight, group):
    grouped = groups_of(weight, group)
    return finish(grouped, grouped.abs().amax(dim=-1) / 7, rounding=torch.floor)


@wrong("13.1", "numbers stay floats", "int8", "dtype")
def _(weight, group):
    numbers, scale = finish(groups_of(weight, group), groups_of(weight, group).abs().amax(dim=-1) / 7)
    return numbers.float(), scale


@wrong("13.1", "zeros divided by zero", "zero", "nan", "0")
def _(weight, group):
    grouped = groups_of(weight, group)
    scale = grouped.abs().amax(dim=-1) / 7
    numbers = (grouped / scale[..., None]).round().nan_to_num(7).to(torch.int8)
    return rearrange(numbers, "out group member -> out (group member)"), scale


@wrong("13.1", "groups of outputs", "column", "row", "inputs", "out", "shape")
def _(weight, group):
    grouped = rearrange(weight, "(group member) into -> into group member", member=min(group, len(weight)))
    scale = grouped.abs().amax(dim=-1) / 7
    numbers = (grouped / scale[..., None]).round().to(torch.int8)
    return rearrange(numbers, "into group member -> (group member) into"), scale


@wrong("13.1", "the product in place of the numbers", "int8", "dtype", "weights")
def _(weight, group):
    numbers, scale = finish(groups_of(weight, group), groups_of(weight, group).abs().amax(dim=-1) / 7)
    return numbers * repeat(scale, "out group -> out (group member)", member=group), scale


@wrong("13.1", "the absolute maximum itself as scale", "7", "divid", "largest")
def _(weight, group):
    grouped = groups_of(weight, group)
    return finish(grouped, grouped.abs().amax(dim=-1))


@right("13.1", "einops")
def _(weight, group):
    grouped = rearrange(weight, "o (g m) -> o g m", m=group)
    scale = reduce(grouped.abs(), "o g m -> o g", "max") / 7
    step = torch.where(scale == 0, torch.ones_like(scale), scale)
    numbers = (grouped / rearrange(step, "o g -> o g 1")).round()
    return rearrange(numbers, "o g m -> o (g m)").to(torch.int8), scale


@right("13.1", "view and clamp_min")
def _(weight, group):
    grouped = weight.view(weight.shape[0], -1, group)
    scale = grouped.abs().amax(-1) / 7
    numbers = torch.round(grouped / scale.clamp_min(1e-30)[..., None]).char()
    return numbers.view(weight.shape), scale


@right("13.1", "nan_to_num")
def _(weight, group):
    grouped = weight.unflatten(1, (-1, group))
    scale = grouped.abs().max(dim=2).values / 7
    return (grouped / scale[:, :, None]).nan_to_num(0).round().clamp(-7, 7).flatten(1).to(torch.int8), scale


@right("13.1", "loops over groups")
def _(weight, group):
    numbers, scales = torch.zeros(weight.shape, dtype=torch.int8), []
    for start in range(0, weight.shape[1], group):
        part = weight[:, start : start + group]
        scale = part.abs().amax(dim=1) / 7
        step = scale.clone()
        step[step == 0] = 1
        numbers[:, start : start + group] = (part / step[:, None]).round().char()
        scales.append(scale)
    return numbers, torch.stack(scales, dim=1)


@right("13.1", "repeat the scale")
def _(weight, group):
    scale = reduce(weight.abs(), "out (group member) -> out group", "max", member=group) / 7
    wide = repeat(scale, "out group -> out (group member)", member=group)
    return torch.where(wide > 0, (weight / wide).round(), 0).to(torch.int8), scale


@right("13.1", "a list")
def _(weight, group):
    grouped = groups_of(weight, group)
    scale = grouped.abs().amax(dim=-1) / 7
    return list(finish(grouped, scale))


# 13.2 two in a byte ---------------------------------------------------------------------------------------------------


@wrong("13.2", "even in the upper half", "upper", "lower", "half", "exchanged", "order")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] << 4 | shifted[:, 1::2]


@wrong("13.2", "first half and second half", "neighbour", "half", "pair", "order")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    wide = numbers.shape[1] // 2
    return shifted[:, :wide] | shifted[:, wide:] << 4


@wrong("13.2", "no offset", "8", "offset", "negative")
def _(numbers):
    shifted = numbers.to(torch.uint8)
    return shifted[:, ::2] & 15 | shifted[:, 1::2] << 4


@wrong("13.2", "no offset, and no mask", "8", "offset", "negative")
def _(numbers):
    shifted = numbers.to(torch.uint8)
    return shifted[:, ::2] | shifted[:, 1::2] << 4


@wrong("13.2", "offset of seven", "7", "8", "offset")
def _(numbers):
    shifted = (numbers + 7).to(torch.uint8)
    return shifted[:, ::2] | shifted[:, 1::2] << 4


@wrong("13.2", "int8", "uint8", "dtype")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return (shifted[:, ::2] | shifted[:, 1::2] << 4).to(torch.int8)


@wrong("13.2", "shifted by eight", "shift", "4", "bits", "upper", "half", "lost")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] | shifted[:, 1::2] << 8


@wrong("13.2", "times eight", "16", "8", "shift", "bits")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] + 8 * shifted[:, 1::2]


@wrong("13.2", "and in place of or", "&", "and", "|")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] & shifted[:, 1::2] << 4


@wrong("13.2", "pairs of outputs", "output", "row", "input", "shape")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    even, odd = shifted[: len(shifted) // 2 * 2 : 2], shifted[1::2]
    return even | odd << 4


@wrong("13.2", "the odd ones are missing", "odd", "upper", "half", "only")
def _(numbers):
    return (numbers + 8).to(torch.uint8)[:, ::2]


@wrong("13.2", "added without a shift", "shift", "same", "bits", "sum")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] + shifted[:, 1::2]


@right("13.2", "einops")
def _(numbers):
    even, odd = rearrange((numbers + 8).byte(), "out (pair two) -> two out pair", two=2)
    return even | odd << 4


@right("13.2", "times sixteen")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, 0::2] + 16 * shifted[:, 1::2]


@right("13.2", "in int16")
def _(numbers):
    wide = numbers.short() + 8
    return (wide[:, ::2] + wide[:, 1::2] * 16).to(torch.uint8)


@right("13.2", "view and bitwise")
def _(numbers):
    pairs = (numbers.int() + 8).view(len(numbers), -1, 2)
    return torch.bitwise_or(pairs[..., 0], torch.bitwise_left_shift(pairs[..., 1], 4)).to(torch.uint8)


@right("13.2", "weights of a sum")
def _(numbers):
    pairs = (numbers.int() + 8).unflatten(1, (-1, 2))
    return (pairs * torch.tensor([1, 16])).sum(dim=-1).to(torch.uint8)


@right("13.2", "loops")
def _(numbers):
    rows = [[(row[i] + 8) + 16 * (row[i + 1] + 8) for i in range(0, len(row), 2)] for row in numbers.tolist()]
    return torch.tensor(rows, dtype=torch.uint8)


# 13.3 unpack ----------------------------------------------------------------------------------------------------------


def given_unpack(stored):
    low, high = (stored & 15).char() - 8, (stored >> 4).char() - 8
    return torch.cat([low, high], dim=1)


wrong("13.3", "as it was", "unchanged", "halves", "beside", "behind", "alternate", "order")(given_unpack)


@wrong("13.3", "high first", "upper", "lower", "order", "exchanged")
def _(stored):
    low, high = (stored & 15).char() - 8, (stored >> 4).char() - 8
    return rearrange([high, low], "two out pair -> out (pair two)")


@wrong("13.3", "the axes of the pattern exchanged", "behind", "halves", "order", "alternate", "unchanged")
def _(stored):
    low, high = (stored & 15).char() - 8, (stored >> 4).char() - 8
    return rearrange([low, high], "two out pair -> out (two pair)")


@wrong("13.3", "no offset", "8", "offset")
def _(stored):
    return rearrange([(stored & 15).char(), (stored >> 4).char()], "two out pair -> out (pair two)")


@wrong("13.3", "offset of seven", "7", "8", "offset", "more", "shift")
def _(stored):
    return rearrange([(stored & 15).char() - 7, (stored >> 4).char() - 7], "two out pair -> out (pair two)")


@wrong("13.3", "subtracted before the cast", "uint8", "wrap", "negative", "256", "dtype")
def _(stored):
    return rearrange([(stored & 15) - 8, (stored >> 4) - 8], "two out pair -> out (pair two)")


@wrong("13.3", "the whole byte in place of the lower half", "lower", "15", "mask", "even", "whole byte")
def _(stored):
    return rearrange([stored.short() - 8, (stored >> 4).short() - 8], "two out pair -> out (pair two)").to(torch.int8)


@wrong("13.3", "mask of seven", "15", "7", "bits", "mask")
def _(stored):
    return rearrange([(stored & 7).char() - 8, (stored >> 4).char() - 8], "two out pair -> out (pair two)")


@wrong("13.3", "floats", "int8", "dtype")
def _(stored):
    return rearrange([(stored & 15).float() - 8, (stored >> 4).float() - 8], "two out pair -> out (pair two)")


@wrong("13.3", "stacked in rows", "shape", "row", "out")
def _(stored):
    return torch.cat([(stored & 15).char() - 8, (stored >> 4).char() - 8], dim=0)


@wrong("13.3", "shifted by eight", "shift", "4", "odd", "upper")
def _(stored):
    return rearrange([(stored & 15).char() - 8, (stored >> 8).char() - 8], "two out pair -> out (pair two)")


@wrong("13.3", "two's complement", "offset", "8", "complement", "sign")
def _(stored):
    halves = torch.stack([stored & 15, stored >> 4], dim=-1).char()
    return torch.where(halves > 7, halves - 16, halves).flatten(1)


@right("13.3", "rearrange")
def _(stored):
    return rearrange([(stored & 15).char() - 8, (stored >> 4).char() - 8], "two out pair -> out (pair two)")


@right("13.3", "stack and flatten")
def _(stored):
    return torch.stack([(stored & 15).char() - 8, (stored >> 4).char() - 8], dim=2).flatten(1)


@right("13.3", "into every second column")
def _(stored):
    result = torch.empty(stored.shape[0], 2 * stored.shape[1], dtype=torch.int8)
    result[:, 0::2] = (stored & 15).char() - 8
    result[:, 1::2] = (stored >> 4).char() - 8
    return result


@right("13.3", "division")
def _(stored):
    wide = stored.int()
    return rearrange(torch.stack([wide % 16, wide // 16]) - 8, "t o p -> o (p t)").to(torch.int8)


@right("13.3", "repaired behind the given")
def _(stored):
    return rearrange(given_unpack(stored), "out (two pair) -> out (pair two)", two=2)


@right("13.3", "loops")
def _(stored):
    rows = [[half - 8 for byte in row for half in (byte % 16, byte // 16)] for row in stored.tolist()]
    return torch.tensor(rows, dtype=torch.int8)


# 13.4 the largest weight ----------------------------------------------------------------------------------------------


def given_round(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 8
    return (weight / scale).round().clamp(-8, 7) * scale


wrong("13.4", "as it was", "unchanged", "clip", "eight", "8")(given_round)


@wrong("13.4", "not clipped", "16", "seventeen", "17", "bits", "fit")
def _(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 8
    return (weight / scale).round() * scale


@wrong("13.4", "clipped on both sides", "8", "seven", "largest", "end")
def _(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 8
    return (weight / scale).round().clamp(-7, 7) * scale


@wrong("13.4", "one scale for the matrix", "row", "matrix", "one scale")
def _(weight):
    scale = weight.abs().max() / 7
    return (weight / scale).round().clamp(-7, 7) * scale


@wrong("13.4", "a scale for each column", "column", "input", "row")
def _(weight):
    scale = weight.abs().amax(dim=0, keepdim=True) / 7
    return (weight / scale).round().clamp(-7, 7) * scale


@wrong("13.4", "half of sixteen less a half", "7.5", "largest", "end", "7")
def _(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 7.5
    return (weight / scale).round().clamp(-8, 7) * scale


@wrong("13.4", "the largest positive", "negative", "magnitude", "abs", "sign")
def _(weight):
    scale = weight.amax(dim=1, keepdim=True) / 7
    return (weight / scale).round().clamp(-8, 7) * scale


@wrong("13.4", "fifteen", "15", "both", "half", "bits")
def _(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 15
    return (weight / scale).round().clamp(-15, 15) * scale


@wrong("13.4", "not multiplied again", "scale", "numbers", "multipl")
def _(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 7
    return (weight / scale).round().clamp(-7, 7)


@wrong("13.4", "not rounded", "round", "weights themselves", "unchanged", "argument")
def _(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 7
    return (weight / scale).clamp(-7, 7) * scale


@wrong("13.4", "cut off", "trunc", "toward", "cut", "round")
def _(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 7
    return (weight / scale).trunc() * scale


@wrong("13.4", "int8", "127", "8 bits", "eight bits", "four")
def _(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round().clamp(-127, 127) * scale


@right("13.4", "seven")
def _(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 7
    return (weight / scale).round().clamp(-7, 7) * scale


@right("13.4", "amax, no clamp")
def _(weight):
    scale = weight.abs().amax(dim=-1, keepdim=True) / 7
    return torch.round(weight / scale) * scale


@right("13.4", "the old clamp")
def _(weight):
    scale = weight.abs().amax(dim=-1, keepdim=True) / 7
    return (weight / scale).round().clamp(-8, 7) * scale


@right("13.4", "bits")
def _(weight, bits=4):
    largest = 2 ** (bits - 1) - 1
    scale = weight.abs().max(dim=1, keepdim=True).values / largest
    return (weight / scale).round().clamp(-largest, largest) * scale


@right("13.4", "row by row")
def _(weight):
    rows = [(row / (row.abs().max() / 7)).round() * (row.abs().max() / 7) for row in weight]
    return join(rows, "* into")[0]


@right("13.4", "multiplied by seven")
def _(weight):
    largest = weight.abs().amax(dim=1, keepdim=True)
    return (weight * 7 / largest).round() * largest / 7
