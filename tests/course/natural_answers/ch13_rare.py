"""Rarer natural answers to 13.1 to 13.9, written from the page alone."""

import torch
from einops import rearrange, reduce, repeat
from torch.nn import functional as F

from minimoe.course.exercises.ch13_packing import pack_by_loops, unpack_by_loops
from minimoe.course.exercises.ch13_rounding import by_groups
from tests.course.natural_answers.collect import Collection

collection = Collection(*(f"13.{number}" for number in (1, 2, 3, 4, 5, 6, 7, 9)))
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 13.1 -----------------------------------------------------------------------------------------------------------------


@wrong("13.1", "scales first", "exchanged", "order", "places")
def _(weight, group):
    return tuple(reversed(by_groups(weight, group)))


@wrong("13.1", "scales in bfloat16", "dtype", "bfloat16")
def _(weight, group):
    numbers, scale = by_groups(weight, group)
    return numbers, scale.bfloat16()


@wrong("13.1", "an axis more in the scales", "axes", "shape")
def _(weight, group):
    numbers, scale = by_groups(weight, group)
    return numbers, scale[..., None]


@wrong("13.1", "numbers in groups", "axes", "shape")
def _(weight, group):
    numbers, scale = by_groups(weight, group)
    return rearrange(numbers, "out (group member) -> out group member", member=group), scale


@wrong("13.1", "uint8", "dtype", "int8")
def _(weight, group):
    numbers, scale = by_groups(weight, group)
    return numbers.to(torch.uint8), scale


@wrong("13.1", "numbers only", "tuple", "two", "scales", "expected")
def _(weight, group):
    return by_groups(weight, group)[0]


@wrong("13.1", "a scale repeated for each weight", "shape", "axis", "axes")
def _(weight, group):
    numbers, scale = by_groups(weight, group)
    return numbers, repeat(scale, "out group -> out (group member)", member=group)


@wrong("13.1", "scale 1 for a group of zeros", "zero", "scales", "0")
def _(weight, group):
    numbers, scale = by_groups(weight, group)
    return numbers, scale.masked_fill(scale == 0, 1)


@wrong("13.1", "a little more than the largest", "scales", "scale", "larger", "times")
def _(weight, group):
    numbers, scale = by_groups(weight, group)
    return numbers, scale * 1.05


@wrong("13.1", "standard deviation", "scale", "largest", "scales", "wrong")
def _(weight, group):
    groups = rearrange(weight, "out (group member) -> out group member", member=group)
    scale = groups.std(dim=-1, unbiased=False) / 3
    step = scale.masked_fill(scale == 0, 1)[..., None]
    return rearrange((groups / step).round().clamp(-7, 7), "o g m -> o (g m)").to(torch.int8), scale


@right("13.1", "add a half and floor")
def _(weight, group):
    scale = by_groups(weight, group)[1]
    step = repeat(scale.masked_fill(scale == 0, 1), "out group -> out (group member)", member=group)
    return torch.floor(weight / step + 0.5).to(torch.int8), scale


# 13.2 -----------------------------------------------------------------------------------------------------------------


@wrong("13.2", "as int32", "dtype", "uint8")
def _(numbers):
    return pack_by_loops(numbers).int()


@wrong("13.2", "reversed pairs", "order", "neighbour", "halves", "exchanged", "reversed")
def _(numbers):
    return pack_by_loops(numbers).flip(-1)


@wrong("13.2", "one row", "axes", "shape")
def _(numbers):
    return pack_by_loops(numbers).flatten()


@wrong("13.2", "only the upper one is shifted up by eight", "8", "offset", "half", "even")
def _(numbers):
    even, odd = numbers[:, ::2].int(), numbers[:, 1::2].int() + 8
    return ((even & 15) | odd << 4).to(torch.uint8)


@wrong("13.2", "exclusive or in one place", "same", "shift", "both", "lower")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] ^ shifted[:, 1::2]


@right("13.2", "less eight, which is the same four bits")
def _(numbers):
    shifted = (numbers.int() - 8) & 15
    return (shifted[:, ::2] | shifted[:, 1::2] << 4).to(torch.uint8)


@right("13.2", "exclusive or")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] ^ (shifted[:, 1::2] << 4)


# 13.3 -----------------------------------------------------------------------------------------------------------------


@wrong("13.3", "as int64", "dtype", "int8")
def _(stored):
    return unpack_by_loops(stored).long()


@wrong("13.3", "an axis for the pair", "axes", "shape")
def _(stored):
    return rearrange(unpack_by_loops(stored), "out (pair two) -> out pair two", two=2)


@wrong("13.3", "plus eight", "8", "offset", "subtract", "more", "larger")
def _(stored):
    return unpack_by_loops(stored) + 16


@wrong("13.3", "backwards", "reversed", "order", "backward")
def _(stored):
    return unpack_by_loops(stored).flip(-1)


# 13.4 -----------------------------------------------------------------------------------------------------------------


@wrong("13.4", "with a sign", "sixteenth", "8", "fifteen", "unused", "largest")
def _(weight):
    scale = weight.gather(1, weight.abs().argmax(dim=1, keepdim=True)) / -8
    return (weight / scale).round().clamp(-8, 7) * scale


@wrong("13.4", "the largest is put back", "largest", "8", "eight", "end", "by hand")
def _(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 8
    rounded = (weight / scale).round().clamp(-8, 7) * scale
    return torch.where(weight.abs() == 8 * scale, weight, rounded)


@wrong("13.4", "from the smallest to the largest", "middle", "zero", "range", "15")
def _(weight):
    low, high = weight.amin(dim=1, keepdim=True), weight.amax(dim=1, keepdim=True)
    scale = ((high - low) / 15).masked_fill(high == low, 1)
    return ((weight - low) / scale).round() * scale + low


@wrong("13.4", "int8 numbers", "dtype", "multipl")
def _(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 7
    return (weight / scale).round().to(torch.int8)


@wrong("13.4", "returns the scale, too", "tuple", "tensor")
def _(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 7
    return (weight / scale).round() * scale, scale


# 13.5 -----------------------------------------------------------------------------------------------------------------

wrong("13.5", "gibibytes", "bytes", "giga", "gib", "2^30", "times", "factor")(
    lambda packed, plain, bits, group, scale_bits: (packed * (bits + scale_bits / group) / 8 + 2 * plain) / 2**30
)
wrong("13.5", "group times scale is shared by eight", "scale", "group", "8")(
    lambda packed, plain, bits, group, scale_bits: packed * bits / 8 + packed * scale_bits / group / 64 + 2 * plain
)
wrong("13.5", "bits are bytes", "bits", "8", "byte", "numbers")(
    lambda packed, plain, bits, group, scale_bits: packed * bits + packed / group * scale_bits / 8 + 2 * plain
)
wrong("13.5", "rounded up to whole bytes a weight", "4", "byte", "bits", "half")(
    lambda packed, plain, bits, group, scale_bits: packed + packed / group * scale_bits / 8 + 2 * plain
)
wrong("13.5", "two scales, as if there were zero points", "scale", "zero", "two")(
    lambda packed, plain, bits, group, scale_bits: packed * (bits + 2 * scale_bits / group) / 8 + 2 * plain
)

# 13.6 -----------------------------------------------------------------------------------------------------------------

wrong("13.6", "abs after the maximum", "magnitude", "negative", "abs")(
    lambda weight, size: reduce(weight, "(row high) (column wide) -> row column", "max", high=size, wide=size).abs()
)
wrong("13.6", "a line of numbers", "axes", "shape")(
    lambda weight, size: reduce(weight.abs(), "(row high) (column wide) -> (row column)", "max", high=size, wide=size)
)
wrong("13.6", "the blocks themselves", "axes", "shape")(
    lambda weight, size: rearrange(
        weight.abs(), "(row high) (column wide) -> row column high wide", high=size, wide=size
    )
)
wrong("13.6", "in float32", "dtype", "float32", "bfloat16")(
    lambda weight, size: reduce(
        weight.abs().float(), "(row high) (column wide) -> row column", "max", high=size, wide=size
    )
)
wrong("13.6", "max_pool2d", "axes", "named", "pattern", "shape", "einops")(
    lambda weight, size: F.max_pool2d(weight.abs()[None].float(), size)
)

# 13.7 -----------------------------------------------------------------------------------------------------------------


def mean_of(experts, values, num_experts):
    total = torch.zeros(num_experts, dtype=values.dtype).index_add(0, experts.flatten(), values.flatten())
    return total / experts.flatten().bincount(minlength=num_experts).clamp_min(1)


wrong("13.7", "one for an expert without tokens", "no token", "zero", "0", "without")(
    lambda experts, weights, norms, num_experts: mean_of(experts, weights * norms, num_experts).masked_fill(
        experts.flatten().bincount(minlength=num_experts) == 0, 1.0
    )
)
wrong("13.7", "a count more", "count", "number", "divid", "clamp")(
    lambda experts, weights, norms, num_experts: torch.zeros(num_experts, dtype=norms.dtype).index_add(
        0, experts.flatten(), (weights * norms).flatten()
    )
    / (experts.flatten().bincount(minlength=num_experts) + 1)
)
wrong("13.7", "the sum of both", "product", "times", "multipl", "plus", "added")(
    lambda experts, weights, norms, num_experts: mean_of(experts, weights + norms, num_experts)
)
wrong("13.7", "squared weights", "weight", "square")(
    lambda experts, weights, norms, num_experts: mean_of(experts, weights**2 * norms, num_experts)
)
wrong("13.7", "first slot only", "slot", "first")(
    lambda experts, weights, norms, num_experts: mean_of(experts[:, :1], (weights * norms)[:, :1], num_experts)
)
wrong("13.7", "scaled to a sum of one", "sum", "scaled", "normal", "times", "factor")(
    lambda experts, weights, norms, num_experts: F.normalize(
        mean_of(experts, weights * norms, num_experts), p=1, dim=0
    )
)
wrong("13.7", "sorted", "order", "sort")(
    lambda experts, weights, norms, num_experts: mean_of(experts, weights * norms, num_experts)
    .sort(descending=True)
    .values
)
wrong("13.7", "the order of the experts", "dtype", "order", "int64")(
    lambda experts, weights, norms, num_experts: mean_of(experts, weights * norms, num_experts).argsort()
)

# 13.9 -----------------------------------------------------------------------------------------------------------------


def short(logits, keep, top_k):
    best, places = logits[:, keep].topk(top_k, dim=-1)
    return keep[places], best.softmax(dim=-1)


@wrong("13.9", "softmax over tokens", "token", "weights", "softmax", "sum")
def _(logits, keep, top_k):
    best, places = logits[:, keep].topk(top_k, dim=-1)
    return keep[places], best.softmax(dim=0)


@wrong("13.9", "sigmoid", "weights", "softmax", "sigmoid")
def _(logits, keep, top_k):
    best, places = logits[:, keep].topk(top_k, dim=-1)
    weights = best.sigmoid()
    return keep[places], weights / weights.sum(dim=-1, keepdim=True)


@wrong("13.9", "shares among the kept, not renormalised", "sum", "renormal", "one")
def _(logits, keep, top_k):
    weights, places = logits[:, keep].softmax(dim=-1).topk(top_k, dim=-1)
    return keep[places], weights


@wrong("13.9", "one expert too few", "shape", "slot")
def _(logits, keep, top_k):
    experts, weights = short(logits, keep, top_k)
    return experts[:, : max(top_k - 1, 1)], weights[:, : max(top_k - 1, 1)]


@wrong("13.9", "experts as floats", "dtype", "int64")
def _(logits, keep, top_k):
    experts, weights = short(logits, keep, top_k)
    return experts.float(), weights


@wrong("13.9", "the weights in the order of the experts", "order", "weights", "sorted", "ascending")
def _(logits, keep, top_k):
    experts, weights = short(logits, keep, top_k)
    return experts.sort(dim=-1).values, weights


@wrong("13.9", "sorted by number", "order", "ascending", "number", "highest")
def _(logits, keep, top_k):
    experts, weights = short(logits, keep, top_k)
    experts, order = experts.sort(dim=-1)
    return experts, weights.gather(-1, order)


@wrong("13.9", "a large negative number added to the kept", "gone", "others", "other", "kept", "reverse")
def _(logits, keep, top_k):
    best, experts = logits.index_fill(-1, keep, -1e9).topk(top_k, dim=-1)
    return experts, best.softmax(dim=-1)
