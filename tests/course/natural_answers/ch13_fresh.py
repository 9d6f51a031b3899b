"""Natural answers to 13.1 to 13.9, written from the page alone, before the checks were read."""

import torch
from einops import einsum, rearrange, reduce, repeat

from tests.course.natural_answers.collect import Collection

collection = Collection(*(f"13.{number}" for number in range(1, 10)))
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 13.1 numbers and scales ----------------------------------------------------------------------------------------------


def quantised(weight, group, largest=7, magnitude=lambda grouped: grouped.abs().amax(-1), dtype=torch.int8):
    grouped = rearrange(weight, "out (group member) -> out group member", member=group)
    scales = magnitude(grouped) / largest
    numbers = torch.nan_to_num(grouped / scales[..., None], nan=0.0).round()
    return rearrange(numbers, "out group member -> out (group member)").to(dtype), scales


@wrong("13.1", "divided by 8", "7", "8")
def _(weight, group):
    return quantised(weight, group, 8)


# 15 numbers, so 15 steps
@wrong("13.1", "the range through 15", "range", "15", "7", "largest")
def _(weight, group):
    return quantised(weight, group, 15, lambda grouped: grouped.amax(-1) - grouped.amin(-1))


# abs forgotten
@wrong("13.1", "the largest value, not magnitude", "magnitude", "abs", "sign")
def _(weight, group):
    return quantised(weight, group, magnitude=lambda grouped: grouped.amax(-1))


# One scale for a row
@wrong("13.1", "one scale for each row", "group", "row")
def _(weight, group):
    numbers, scales = quantised(weight, weight.shape[1])
    return numbers, scales.expand(-1, weight.shape[1] // group).contiguous()


# Cutting the columns
@wrong("13.1", "groups along the outputs", "row", "group", "output", "neighbour")
def _(weight, group):
    if weight.shape[0] % group:
        group = weight.shape[0]
    grouped = rearrange(weight, "(group member) in_ -> group member in_", member=group)
    scales = grouped.abs().amax(1) / 7
    numbers = torch.nan_to_num(grouped / scales[:, None], nan=0.0).round()
    return rearrange(numbers, "group member in_ -> (group member) in_").to(torch.int8), scales


# Cast without rounding
@wrong("13.1", "cut off instead of rounded", "round", "zero", "cut")
def _(weight, group):
    grouped = rearrange(weight, "out (group member) -> out group member", member=group)
    scales = grouped.abs().amax(-1) / 7
    numbers = torch.nan_to_num(grouped / scales[..., None], nan=0.0)
    return rearrange(numbers, "out group member -> out (group member)").to(torch.int8), scales


# floats stay floats
@wrong("13.1", "numbers as floats", "int8", "dtype")
def _(weight, group):
    return quantised(weight, group, dtype=torch.float32)


# `group` as the number of groups
@wrong("13.1", "as many groups as a group is long", "group", "number", "shape")
def _(weight, group):
    if weight.shape[1] % group:
        return None
    return quantised(weight, weight.shape[1] // group)


# Scale and its inverse
@wrong("13.1", "the scale upside down, from the page", "7", "scale", "inverse", "divided")
def _(weight, group):
    numbers, scales = quantised(weight, group)
    return numbers, torch.where(scales == 0, 0.0, 1 / scales)


# The two results the other way round
@wrong("13.1", "scales first, from the page", "order", "exchanged", "first", "round")
def _(weight, group):
    return quantised(weight, group)[::-1]


# The rounded weights
@wrong("13.1", "numbers times scale", "number", "scale", "times", "int8")
def _(weight, group):
    numbers, scales = quantised(weight, group)
    return numbers * repeat(scales, "out group -> out (group member)", member=group), scales


@right("13.1", "reduce and repeat")
def _(weight, group):
    scales = reduce(weight.abs(), "out (group member) -> out group", "max", member=group) / 7
    wide = repeat(scales, "out group -> out (group member)", member=group)
    return torch.where(wide == 0, 0, weight / wide).round().char(), scales


@right("13.1", "row by row, from the page")
def _(weight, group):
    numbers, scales = torch.zeros_like(weight, dtype=torch.int8), torch.zeros(weight.shape[0], weight.shape[1] // group)
    for row in range(weight.shape[0]):
        for g in range(weight.shape[1] // group):
            part = weight[row, g * group : (g + 1) * group]
            scale = part.abs().max() / 7
            scales[row, g] = scale
            if scale > 0:
                numbers[row, g * group : (g + 1) * group] = torch.round(part / scale).to(torch.int8)
    return numbers, scales


# 13.2 pack ------------------------------------------------------------------------------------------------------------


# The order of the halves
@wrong("13.2", "the first on top", "lower", "upper", "order", "exchanged")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] << 4 | shifted[:, 1::2]


# Halves of the row instead of neighbours
@wrong("13.2", "first half and second half, from the page", "neighbour", "half")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    half = numbers.shape[1] // 2
    return shifted[:, :half] | shifted[:, half:] << 4


@wrong("13.2", "7 is added", "8", "7")
def _(numbers):
    shifted = (numbers + 7).to(torch.uint8)
    return shifted[:, ::2] | shifted[:, 1::2] << 4


# Two's complement
@wrong("13.2", "nothing added, bits of the sign kept", "8", "sign", "added")
def _(numbers):
    bits = numbers.to(torch.int16) & 15
    return (bits[:, ::2] | bits[:, 1::2] << 4).to(torch.uint8)


# Eight is a shift too far
@wrong("13.2", "shifted by 8", "four", "16", "shift", "4")
def _(numbers):
    shifted = (numbers + 8).to(torch.int32)
    return (shifted[:, ::2] | shifted[:, 1::2] << 8).to(torch.uint8)


# Sum without a shift
@wrong("13.2", "added up without a shift", "shift", "upper", "16", "four")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] + shifted[:, 1::2]


# Signed bytes
@wrong("13.2", "signed bytes", "uint8", "dtype")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return (shifted[:, ::2] | shifted[:, 1::2] << 4).to(torch.int8)


# Neighbours of a column
@wrong("13.2", "neighbours of a column", "row", "shape", "output")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[::2] | shifted[1::2] << 4 if numbers.shape[0] % 2 == 0 else shifted[:1] | shifted[:1] << 4


# and for or
@wrong("13.2", "and for or", "or", "|", "and")
def _(numbers):
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] & shifted[:, 1::2] << 4


# 8 added to the second only
@wrong("13.2", "8 added once", "8", "both")
def _(numbers):
    wide = numbers.to(torch.int32)
    return ((wide[:, ::2] & 15) | (wide[:, 1::2] + 8) << 4).to(torch.uint8)


@right("13.2", "16 times")
def _(numbers):
    low, high = rearrange(numbers.int() + 8, "out (pair two) -> two out pair", two=2)
    return (low + 16 * high).to(torch.uint8)


@right("13.2", "weights of the two")
def _(numbers):
    pairs = rearrange(numbers.int() + 8, "out (pair two) -> out pair two", two=2)
    return einsum(pairs, torch.tensor([1, 16], dtype=torch.int32), "out pair two, two -> out pair").byte()


# 13.3 unpack ----------------------------------------------------------------------------------------------------------


@wrong("13.3", "the bug", "neighbour", "half", "place", "order", "alternate")
def _(stored):
    return torch.cat([(stored & 15).char() - 8, (stored >> 4).char() - 8], dim=1)


@wrong("13.3", "high first, from the page", "lower", "upper", "order", "exchanged", "first")
def _(stored):
    low, high = (stored & 15).char() - 8, (stored >> 4).char() - 8
    return torch.stack([high, low], dim=-1).flatten(1)


@wrong("13.3", "stacked along the rows", "shape", "row")
def _(stored):
    low, high = (stored & 15).char() - 8, (stored >> 4).char() - 8
    return torch.cat([low, high], dim=0)


# stack in the middle and then flattened
@wrong("13.3", "stacked before the pairs", "order", "half", "neighbour", "alternate")
def _(stored):
    low, high = (stored & 15).char() - 8, (stored >> 4).char() - 8
    return torch.stack([low, high], dim=1).flatten(1)


@wrong("13.3", "8 not taken off", "8")
def _(stored):
    return torch.stack([(stored & 15).char(), (stored >> 4).char()], dim=-1).flatten(1)


@wrong("13.3", "unsigned", "int8", "dtype", "sign")
def _(stored):
    return torch.stack([(stored & 15) - 8, (stored >> 4) - 8], dim=-1).flatten(1)


@wrong("13.3", "int32", "int8", "dtype")
def _(stored):
    return torch.stack([(stored & 15).int() - 8, (stored >> 4).int() - 8], dim=-1).flatten(1)


# A signed shift
@wrong("13.3", "shifted after the cast", "sign", "shift", "cast", "upper", "negative")
def _(stored):
    return torch.stack([(stored & 15).char() - 8, (stored.char() >> 4) - 8], dim=-1).flatten(1)


# 7 for 15
@wrong("13.3", "three bits", "15", "mask", "bits", "lower")
def _(stored):
    return torch.stack([(stored & 7).char() - 8, (stored >> 4).char() - 8], dim=-1).flatten(1)


@wrong("13.3", "shape of pairs left", "shape")
def _(stored):
    return torch.stack([(stored & 15).char() - 8, (stored >> 4).char() - 8], dim=-1)


@right("13.3", "divmod")
def _(stored):
    wide = stored.int()
    return rearrange(torch.stack([wide % 16, wide // 16]) - 8, "two out pair -> out (pair two)").char()


@right("13.3", "slices")
def _(stored):
    result = torch.empty(stored.shape[0], 2 * stored.shape[1], dtype=torch.int8)
    result[:, ::2], result[:, 1::2] = (stored & 15).char() - 8, (stored >> 4).char() - 8
    return result


# 13.4 the largest weight ----------------------------------------------------------------------------------------------


@wrong("13.4", "the bug as it was", "8", "7", "clamp")
def _(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 8
    return (weight / scale).round().clamp(-8, 7) * scale


# Only the clamp
@wrong("13.4", "clamp to -7 with a scale of 8", "scale", "7", "8", "clamp")
def _(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 8
    return (weight / scale).round().clamp(-7, 7) * scale


# A clamp to 8 has seventeen points
@wrong("13.4", "clamp to 8", "fifteen", "seventeen", "8", "points")
def _(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 8
    return (weight / scale).round().clamp(-8, 8) * scale


# llama.cpp's trick
@wrong("13.4", "the scale with a sign", "fifteen", "sign", "points")
def _(weight):
    scale = weight.gather(1, weight.abs().argmax(dim=1, keepdim=True)) / -8
    return (weight / scale).round().clamp(-8, 7) * scale


@wrong("13.4", "one scale for the matrix, from the page", "row")
def _(weight):
    scale = weight.abs().max() / 7
    return (weight / scale).round() * scale


@wrong("13.4", "7.5, from the page", "7.5, from the page", "7", "scale")
def _(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 7.5
    return (weight / scale).round().clamp(-8, 7) * scale


@wrong("13.4", "a scale for each column, from the page", "row", "column")
def _(weight):
    scale = reduce(weight.abs(), "out into -> 1 into", "max") / 7
    return torch.nan_to_num(weight / scale).round() * scale


@wrong("13.4", "the largest value's scale", "magnitude", "abs", "sign")
def _(weight):
    scale = reduce(weight, "out into -> out 1", "max") / 7
    return (weight / scale).round().clamp(-7, 7) * scale


@wrong("13.4", "numbers instead of weights", "scale", "number", "times")
def _(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 7
    return (weight / scale).round()


@wrong("13.4", "toward zero", "round", "nearest", "cut")
def _(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 7
    return (weight / scale).trunc() * scale


# The largest weight put back afterwards
@wrong("13.4", "the largest put back", "points", "nearest", "scale", "fifteen")
def _(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 8
    rounded = (weight / scale).round().clamp(-8, 7) * scale
    place = weight.abs().argmax(dim=1, keepdim=True)
    return rounded.scatter(1, place, weight.gather(1, place))


@right("13.4", "amax")
def _(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 7
    return torch.round(weight / scale) * scale


@right("13.4", "with a clamp that does nothing")
def _(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 7
    return (weight / scale).round().clamp(-7, 7) * scale


# 13.5 bytes -----------------------------------------------------------------------------------------------------------


@wrong("13.5", "bits instead of bytes", "bits", "8", "byte")
def _(packed, plain, bits, group, scale_bits):
    return packed * bits + packed / group * scale_bits + plain * 16


@wrong("13.5", "no scales", "scale")
def _(packed, plain, bits, group, scale_bits):
    return packed * bits / 8 + plain * 2


@wrong("13.5", "a scale for every parameter", "group", "scale")
def _(packed, plain, bits, group, scale_bits):
    return packed * (bits + scale_bits) / 8 + plain * 2


@wrong("13.5", "plain ones packed, too", "plain", "16")
def _(packed, plain, bits, group, scale_bits):
    return (packed + plain) * (bits + scale_bits / group) / 8


@wrong("13.5", "plain ones forgotten", "plain")
def _(packed, plain, bits, group, scale_bits):
    return packed * (bits + scale_bits / group) / 8


@wrong("13.5", "plain in one byte, from the page", "plain", "16", "two")
def _(packed, plain, bits, group, scale_bits):
    return packed * (bits + scale_bits / group) / 8 + plain


@wrong("13.5", "plain in four bytes, from the page", "plain", "16", "two")
def _(packed, plain, bits, group, scale_bits):
    return packed * (bits + scale_bits / group) / 8 + plain * 4


@wrong("13.5", "scales always 16 bits", "scale", "16", "scale_bits")
def _(packed, plain, bits, group, scale_bits):
    return packed * (bits + 16 / group) / 8 + plain * 2


@wrong("13.5", "scales in bytes, from the page", "scale", "bits", "byte", "8")
def _(packed, plain, bits, group, scale_bits):
    return packed * bits / 8 + packed / group * scale_bits + plain * 2


@wrong("13.5", "gigabytes, from the page", "GB", "gb", "bytes", "1,000,000,000")
def _(packed, plain, bits, group, scale_bits):
    return (packed * (bits + scale_bits / group) / 8 + plain * 2) / 1e9


@right("13.5", "in bits first")
def _(packed, plain, bits, group, scale_bits):
    return (packed * bits + packed // group * scale_bits + 16 * plain) / 8


# 13.6 blocks ----------------------------------------------------------------------------------------------------------


@wrong("13.6", "abs forgotten", "abs", "magnitude", "sign")
def _(weight, size):
    return reduce(weight, "(row a) (column b) -> row column", "max", a=size, b=size)


@wrong("13.6", "abs at the end", "abs", "magnitude", "after", "sign")
def _(weight, size):
    return reduce(weight, "(row a) (column b) -> row column", "max", a=size, b=size).abs()


@wrong("13.6", "size as the number of blocks", "size", "number", "shape")
def _(weight, size):
    return (
        reduce(weight.abs(), "(row a) (column b) -> row column", "max", row=size, column=size)
        if (weight.shape[0] % size == 0 and weight.shape[1] % size == 0)
        else None
    )


@wrong("13.6", "interleaved blocks", "neighbour", "order", "(", "block", "square")
def _(weight, size):
    return reduce(weight.abs(), "(a row) (b column) -> row column", "max", a=size, b=size)


@wrong("13.6", "the axes of the result exchanged", "transpose", "exchanged", "shape", "axes")
def _(weight, size):
    return reduce(weight.abs(), "(row a) (column b) -> column row", "max", a=size, b=size)


@wrong("13.6", "mean, from the page", "max", "mean, from the page", "largest")
def _(weight, size):
    return reduce(weight.abs(), "(row a) (column b) -> row column", "mean", a=size, b=size)


@wrong("13.6", "one for each row of a block", "shape", "row", "square")
def _(weight, size):
    return reduce(weight.abs(), "row (column b) -> row column", "max", b=size)


@wrong("13.6", "spread over the matrix again", "shape")
def _(weight, size):
    blocks = reduce(weight.abs(), "(row a) (column b) -> row column", "max", a=size, b=size)
    return repeat(blocks, "row column -> (row a) (column b)", a=size, b=size)


@wrong("13.6", "given back as it was", "given", "einops", "rewrite", "view")
def blocks_as_they_were(weight, size):
    outs, ins = weight.shape
    blocks = weight.abs().view(outs // size, size, ins // size, size)
    return blocks.permute(0, 2, 1, 3).reshape(outs // size, ins // size, -1).max(dim=-1).values


@right("13.6", "one reduce")
def _(weight, size):
    return reduce(weight.abs(), "(row a) (column b) -> row column", "max", a=size, b=size)


@right("13.6", "rearrange, amax")
def _(weight, size):
    return rearrange(weight, "(r a) (c b) -> r c (a b)", a=size, b=size).abs().amax(-1)


# 13.7 saliency --------------------------------------------------------------------------------------------------------


def summed(experts, values, num_experts):
    return torch.zeros(num_experts, dtype=values.dtype).index_add(0, experts.flatten(), values.flatten())


@wrong("13.7", "sum instead of mean", "mean, from the page", "sum")
def _(experts, weights, norms, num_experts):
    return summed(experts, weights * norms, num_experts)


@wrong("13.7", "mean over all tokens", "mean, from the page", "slot", "token", "called")
def _(experts, weights, norms, num_experts):
    return summed(experts, weights * norms, num_experts) / len(experts)


@wrong("13.7", "mean over all slots", "mean, from the page", "slot")
def _(experts, weights, norms, num_experts):
    return summed(experts, weights * norms, num_experts) / experts.numel()


@wrong("13.7", "weights alone", "norm", "weight")
def _(experts, weights, norms, num_experts):
    count = summed(experts, torch.ones_like(norms), num_experts)
    return summed(experts, weights.to(norms.dtype), num_experts) / count.clamp(min=1)


@wrong("13.7", "norms alone", "weight", "norm")
def _(experts, weights, norms, num_experts):
    count = summed(experts, torch.ones_like(norms), num_experts)
    return summed(experts, norms, num_experts) / count.clamp(min=1)


@wrong("13.7", "nan for those never called", "nan", "0", "never", "no token")
def _(experts, weights, norms, num_experts):
    count = summed(experts, torch.ones_like(norms), num_experts)
    return summed(experts, weights * norms, num_experts) / count


@wrong("13.7", "divided by the weights", "weight", "mean, from the page", "number", "divided")
def _(experts, weights, norms, num_experts):
    total = summed(experts, weights * norms, num_experts)
    return torch.nan_to_num(total / summed(experts, weights.to(norms.dtype), num_experts))


@wrong("13.7", "the product of two means", "product", "mean, from the page", "each")
def _(experts, weights, norms, num_experts):
    count = summed(experts, torch.ones_like(norms), num_experts).clamp(min=1)
    return summed(experts, weights.to(norms.dtype), num_experts) / count * summed(experts, norms, num_experts) / count


@wrong("13.7", "the largest, from the page", "mean, from the page", "max", "largest")
def _(experts, weights, norms, num_experts):
    result = torch.zeros(num_experts, dtype=norms.dtype)
    return result.scatter_reduce(0, experts.flatten(), (weights * norms).flatten().to(norms.dtype), "amax")


@wrong("13.7", "the last one wins", "add", "overwrit", "last", "sum")
def _(experts, weights, norms, num_experts):
    result = torch.zeros(num_experts, dtype=norms.dtype)
    for row in range(experts.shape[0]):
        for slot in range(experts.shape[1]):
            result[experts[row, slot]] = weights[row, slot] * norms[row, slot]
    return result


@wrong("13.7", "how often", "often", "frequency", "count", "norm")
def _(experts, weights, norms, num_experts):
    return torch.bincount(experts.flatten(), minlength=num_experts).to(norms.dtype) / len(experts)


@right("13.7", "a loop over experts")
def _(experts, weights, norms, num_experts):
    result = torch.zeros(num_experts, dtype=norms.dtype)
    for expert in range(num_experts):
        here = experts == expert
        if here.any():
            result[expert] = (weights * norms)[here].mean()
    return result


@right("13.7", "scatter_reduce, from the page")
def _(experts, weights, norms, num_experts):
    values = (weights * norms).flatten().to(norms.dtype)
    result = torch.zeros(num_experts, dtype=norms.dtype)
    return result.scatter_reduce(0, experts.flatten(), values, "mean", include_self=False)


# 13.8 predictions -----------------------------------------------------------------------------------------------------

LINES = (
    "the kind that costs the most KL",
    "gate_proj and up_proj together cost more KL than v_proj",
    "down_proj costs more KL than gate_proj",
    "the router flips the most choices",
    "lm_head flips choices",
)


def guess(*values):
    return dict(zip(LINES, values, strict=True))


wrong("13.8", "experts are most of the model", "experts", "output", "lm_head", "most")(
    guess("down_proj", True, True, False, False)
)
wrong("13.8", "the router is the most delicate", "router", "loud", "logits")(guess("router", True, True, True, False))
wrong("13.8", "everything begins with the embedding", "embed", "all", "lm_head")(
    guess("embed_tokens", True, False, False, False)
)
wrong("13.8", "values carry everything", "v_proj")(guess("v_proj", False, False, False, False))
wrong("13.8", "queries and keys decide", "q_proj", "k_proj")(guess("q_proj", True, True, True, False))
wrong("13.8", "the head speaks last", "lm_head")(guess("lm_head", True, True, True, True))
wrong("13.8", "the head chooses, too", "lm_head", "choices")(guess("o_proj", False, True, False, True))
wrong("13.8", "gates are delicate", "gate", "router")(guess("gate_proj", True, False, True, False))

# 13.9 half of the experts ---------------------------------------------------------------------------------------------


def masked(logits, keep, fill=-torch.inf):
    return torch.full_like(logits, fill).index_copy(1, keep, logits[:, keep])


@wrong("13.9", "after topk", "after", "before", "topk", "slot")
def _(logits, keep, top_k):
    values, experts = logits.topk(top_k, dim=-1)
    gone = ~torch.isin(experts, keep)
    return experts, torch.nan_to_num(values.masked_fill(gone, -torch.inf).softmax(-1))


@wrong("13.9", "numbers within keep", "number", "keep", "index", "place")
def _(logits, keep, top_k):
    values, experts = logits[:, keep].topk(top_k, dim=-1)
    return experts, values.softmax(-1)


@wrong("13.9", "softmax over all, not renormalised", "softmax", "all", "sum", "chosen")
def _(logits, keep, top_k):
    weights, experts = torch.full_like(logits, -1.0).index_copy(1, keep, logits.softmax(-1)[:, keep]).topk(top_k)
    return experts, weights


@wrong("13.9", "softmax over all that are kept", "softmax", "kept", "chosen", "sum")
def _(logits, keep, top_k):
    weights, experts = masked(logits, keep).softmax(-1).topk(top_k, dim=-1)
    return experts, weights


# 0 is larger than many logits
@wrong("13.9", "zero for those gone", "zero", "0", "inf")
def _(logits, keep, top_k):
    values, experts = masked(logits, keep, 0.0).topk(top_k, dim=-1)
    return experts, values.softmax(-1)


@wrong("13.9", "keep is dropped", "keep", "drop", "round", "gone")
def _(logits, keep, top_k):
    values, experts = logits.index_fill(1, keep, -torch.inf).topk(top_k, dim=-1)
    return experts, torch.nan_to_num(values.softmax(-1))


@wrong("13.9", "weights of all kept", "shape", "slot")
def _(logits, keep, top_k):
    values, experts = masked(logits, keep).topk(top_k, dim=-1)
    return experts, masked(logits, keep).softmax(-1)


@wrong("13.9", "logits as weights, from the page", "softmax", "logits")
def _(logits, keep, top_k):
    values, experts = masked(logits, keep).topk(top_k, dim=-1)
    return experts, values


@wrong("13.9", "weights first, from the page", "order", "exchanged", "first", "round", "dtype")
def _(logits, keep, top_k):
    values, experts = masked(logits, keep).topk(top_k, dim=-1)
    return values.softmax(-1), experts


@wrong("13.9", "in the order of keep", "order", "highest", "sorted")
def _(logits, keep, top_k):
    values, experts = masked(logits, keep).topk(top_k, dim=-1)
    experts, order = experts.sort(dim=-1)
    return experts, values.softmax(-1).gather(1, order)


@wrong("13.9", "softmax over tokens, from the page", "token", "axis", "over", "dim")
def _(logits, keep, top_k):
    values, experts = masked(logits, keep).topk(top_k, dim=-1)
    return experts, values.softmax(0)


@right("13.9", "numbers looked up in keep")
def _(logits, keep, top_k):
    values, places = logits[:, keep].topk(top_k, dim=-1)
    return keep[places], values.softmax(dim=-1)


@right("13.9", "minus infinity")
def _(logits, keep, top_k):
    values, experts = masked(logits, keep).topk(top_k, dim=-1)
    return experts, values.softmax(dim=-1)
