"""Natural answers to 13.5 to 13.9: bytes, blocks, saliency, a prediction, and a router with fewer experts."""

import torch
from einops import rearrange, reduce
from torch.nn import functional as F

from minimoe.model.router import route
from tests.course.natural_answers.collect import Collection

collection = Collection("13.5", "13.6", "13.7", "13.8", "13.9")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 13.5 bytes -----------------------------------------------------------------------------------------------------------

wrong("13.5", "without scales", "scale")(
    lambda packed, plain, bits, group, scale_bits: packed * bits / 8 + plain * 2
)
wrong("13.5", "in bits", "bits", "byte", "8")(
    lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits / group) + plain * 16
)
wrong("13.5", "a scale for every weight", "group", "every weight", "each weight")(
    lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits) / 8 + plain * 2
)
wrong("13.5", "everything packed", "plain", "16 bits", "two bytes")(
    lambda packed, plain, bits, group, scale_bits: (packed + plain) * (bits + scale_bits / group) / 8
)
wrong("13.5", "the packed ones alone", "plain", "missing", "left out", "two bytes")(
    lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits / group) / 8
)
wrong("13.5", "plain in one byte", "plain", "two bytes", "16 bits")(
    lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits / group) / 8 + plain
)
wrong("13.5", "plain in four bytes", "plain", "two bytes", "16 bits", "four")(
    lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits / group) / 8 + plain * 4
)
wrong("13.5", "times the group", "group", "divid", "each")(
    lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits * group) / 8 + plain * 2
)
wrong("13.5", "scales in bytes", "scale", "bits", "byte", "8")(
    lambda packed, plain, bits, group, scale_bits: packed * bits / 8 + packed / group * scale_bits + plain * 2
)
wrong("13.5", "scales of 16 bits, always", "scale_bits", "scale", "16")(
    lambda packed, plain, bits, group, scale_bits: packed * bits / 8 + packed / group * 2 + plain * 2
)
wrong("13.5", "gigabytes", "bytes", "giga", "10^9")(
    lambda packed, plain, bits, group, scale_bits: (packed * (bits + scale_bits / group) / 8 + plain * 2) / 1e9
)
wrong("13.5", "a scale for every plain one, too", "plain", "scale")(
    lambda packed, plain, bits, group, scale_bits: packed * bits / 8
    + (packed + plain) / group * scale_bits / 8
    + plain * 2
)

right("13.5", "bits of each")(
    lambda packed, plain, bits, group, scale_bits: packed * (bits + scale_bits / group) / 8 + plain * 2
)
right("13.5", "all bits")(
    lambda packed, plain, bits, group, scale_bits: (packed * bits + packed // group * scale_bits + plain * 16) // 8
)
right("13.5", "three sums")(
    lambda packed, plain, bits, group, scale_bits: sum(
        (packed * bits / 8, packed / group * scale_bits / 8, 2 * plain)
    )
)


@right("13.5", "step by step")
def _(packed, plain, bits, group, scale_bits):
    scales = packed / group
    total_bits = packed * bits
    total_bits += scales * scale_bits
    total_bits += plain * 16
    return total_bits / 8


@right("13.5", "bits per weight first")
def _(packed, plain, bits, group, scale_bits):
    per_weight = (bits * group + scale_bits) / group
    return 0.125 * per_weight * packed + plain + plain


right("13.5", "as a tensor")(
    lambda packed, plain, bits, group, scale_bits: float(
        torch.tensor([packed * bits / 8, packed / group * scale_bits / 8, 2.0 * plain], dtype=torch.float64).sum()
    )
)

# 13.6 blocks ----------------------------------------------------------------------------------------------------------


def given_blocks(weight, size):
    outs, ins = weight.shape
    blocks = weight.abs().view(outs // size, size, ins // size, size)
    return blocks.permute(0, 2, 1, 3).reshape(outs // size, ins // size, -1).max(dim=-1).values


wrong("13.6", "as it was", "unchanged", "named axes", "old one")(given_blocks)
wrong("13.6", "without abs", "negative", "magnitude", "abs", "sign")(
    lambda weight, size: reduce(weight, "(row high) (column wide) -> row column", "max", high=size, wide=size)
)
wrong("13.6", "high in front", "neighbour", "every", "order", "(high row)", "stride")(
    lambda weight, size: reduce(weight.abs(), "(high row) (wide column) -> row column", "max", high=size, wide=size)
)
wrong("13.6", "rows alone", "shape", "column", "wide", "row")(
    lambda weight, size: reduce(weight.abs(), "(row high) into -> row into", "max", high=size)
)
wrong("13.6", "columns alone", "shape", "row", "high", "output")(
    lambda weight, size: reduce(weight.abs(), "out (column wide) -> out column", "max", wide=size)
)
wrong("13.6", "exchanged", "column row", "transpos", "shape", "places", "order")(
    lambda weight, size: reduce(
        weight.abs(), "(row high) (column wide) -> column row", "max", high=size, wide=size
    )
)
wrong("13.6", "mean", "mean", "largest", "average")(
    lambda weight, size: reduce(weight.abs(), "(row high) (column wide) -> row column", "mean", high=size, wide=size)
)
wrong("13.6", "sum", "sum", "largest")(
    lambda weight, size: reduce(weight.abs(), "(row high) (column wide) -> row column", "sum", high=size, wide=size)
)
wrong("13.6", "the largest of all", "whole matrix", "all blocks", "one number", "shape")(
    lambda weight, size: reduce(weight.abs(), "(row high) (column wide) -> 1 1", "max", high=size, wide=size)
)
wrong("13.6", "number of blocks in place of their size", "number", "size", "row=", "shape")(
    lambda weight, size: reduce(weight.abs(), "(row high) (column wide) -> row column", "max", row=size, column=size)
)
wrong("13.6", "one axis stays", "shape", "axis", "-> row column")(
    lambda weight, size: reduce(weight.abs(), "(row high) (column wide) -> row column 1", "max", high=size, wide=size)
)
wrong("13.6", "divided by 448", "448", "scale", "times", "divided")(
    lambda weight, size: reduce(weight.abs(), "(row high) (column wide) -> row column", "max", high=size, wide=size)
    / 448
)

right("13.6", "reduce")(
    lambda weight, size: reduce(weight.abs(), "(row high) (column wide) -> row column", "max", high=size, wide=size)
)
right("13.6", "short names")(
    lambda weight, size: reduce(abs(weight), "(r h) (c w) -> r c", "max", h=size, w=size)
)
right("13.6", "rearrange, then amax")(
    lambda weight, size: rearrange(
        weight.abs(), "(row high) (column wide) -> row column (high wide)", high=size, wide=size
    ).amax(dim=-1)
)
right("13.6", "in two steps")(
    lambda weight, size: reduce(
        reduce(weight.abs(), "(row high) into -> row into", "max", high=size),
        "row (column wide) -> row column", "max", wide=size,
    )
)  # fmt: skip
right("13.6", "both signs")(
    lambda weight, size: torch.maximum(
        reduce(weight, "(row high) (column wide) -> row column", "max", high=size, wide=size),
        -reduce(weight, "(row high) (column wide) -> row column", "min", high=size, wide=size),
    )
)


@right("13.6", "numbers of blocks given")
def _(weight, size):
    row, column = weight.shape[0] // size, weight.shape[1] // size
    return reduce(weight.abs(), "(row high) (column wide) -> row column", "max", row=row, column=column)


# 13.7 saliency --------------------------------------------------------------------------------------------------------


def summed(experts, values, num_experts):
    return torch.zeros(num_experts, dtype=values.dtype).index_add(0, experts.flatten(), values.flatten())


def counted(experts, num_experts):
    return experts.flatten().bincount(minlength=num_experts).clamp_min(1)


wrong("13.7", "a sum", "sum", "divid", "mean", "count")(
    lambda experts, weights, norms, num_experts: summed(experts, weights * norms, num_experts)
)
wrong("13.7", "a mean over all tokens", "all tokens", "chose", "select", "routed", "count")(
    lambda experts, weights, norms, num_experts: summed(experts, weights * norms, num_experts) / len(experts)
)
wrong("13.7", "a mean over all assignments", "all", "assign", "chose", "select", "count")(
    lambda experts, weights, norms, num_experts: summed(experts, weights * norms, num_experts) / experts.numel()
)
wrong("13.7", "frequency", "often", "frequency", "count")(
    lambda experts, weights, norms, num_experts: experts.flatten().bincount(minlength=num_experts).to(norms.dtype)
)
wrong("13.7", "share of the tokens", "often", "frequency", "count", "share")(
    lambda experts, weights, norms, num_experts: experts.flatten().bincount(minlength=num_experts).to(norms.dtype)
    / len(experts)
)
wrong("13.7", "without the weight", "weight")(
    lambda experts, weights, norms, num_experts: summed(experts, norms, num_experts) / counted(experts, num_experts)
)
wrong("13.7", "without the norm", "norm", "output")(
    lambda experts, weights, norms, num_experts: summed(experts, weights, num_experts) / counted(experts, num_experts)
)
wrong("13.7", "product of two means", "mean", "product", "each", "two means")(
    lambda experts, weights, norms, num_experts: summed(experts, weights, num_experts)
    * summed(experts, norms, num_experts)
    / counted(experts, num_experts) ** 2
)
wrong("13.7", "weighted mean of the norms", "weights", "divid", "count", "number of")(
    lambda experts, weights, norms, num_experts: summed(experts, weights * norms, num_experts)
    / summed(experts, weights, num_experts).clamp_min(1e-9)
)
wrong("13.7", "zero divided by zero", "nan", "zero", "0", "no token")(
    lambda experts, weights, norms, num_experts: summed(experts, weights * norms, num_experts)
    / experts.flatten().bincount(minlength=num_experts)
)


@wrong("13.7", "assigned, not added", "last", "add", "overw", "one")
def _(experts, weights, norms, num_experts):
    result = torch.zeros(num_experts, dtype=norms.dtype)
    for token in range(len(experts)):
        for slot in range(experts.shape[1]):
            result[experts[token, slot]] = weights[token, slot] * norms[token, slot]
    return result


@wrong("13.7", "the largest", "largest", "max", "mean")
def _(experts, weights, norms, num_experts):
    result = torch.zeros(num_experts, dtype=norms.dtype)
    for expert in range(num_experts):
        if (experts == expert).any():
            result[expert] = (weights * norms)[experts == expert].max()
    return result


@wrong("13.7", "by slot", "slot", "expert", "shape")
def _(experts, weights, norms, num_experts):
    return (weights * norms).mean(dim=0)


@right("13.7", "index_add")
def _(experts, weights, norms, num_experts):
    return summed(experts, weights * norms, num_experts) / counted(experts, num_experts)


@right("13.7", "one expert after another")
def _(experts, weights, norms, num_experts):
    result = []
    for expert in range(num_experts):
        mine = experts == expert
        result.append((weights[mine] * norms[mine]).mean() if mine.any() else torch.tensor(0.0, dtype=norms.dtype))
    return torch.stack(result)


@right("13.7", "one-hot")
def _(experts, weights, norms, num_experts):
    chosen = F.one_hot(experts, num_experts)
    total = (chosen * (weights * norms)[..., None]).sum(dim=(0, 1))
    return total / chosen.sum(dim=(0, 1)).clamp(min=1)


@right("13.7", "scatter_add, and where")
def _(experts, weights, norms, num_experts):
    flat = rearrange(experts, "token slot -> (token slot)")
    total = torch.zeros(num_experts, dtype=norms.dtype).scatter_add_(0, flat, (weights * norms).flatten())
    count = torch.bincount(flat, minlength=num_experts)
    return torch.where(count > 0, total / count, torch.zeros_like(total))


@right("13.7", "nan_to_num")
def _(experts, weights, norms, num_experts):
    return torch.nan_to_num(summed(experts, weights * norms, num_experts) / torch.bincount(
        experts.flatten(), minlength=num_experts
    ))  # fmt: skip


@right("13.7", "scatter_reduce")
def _(experts, weights, norms, num_experts):
    result = torch.zeros(num_experts, dtype=norms.dtype)
    return result.scatter_reduce(0, experts.flatten(), (weights * norms).flatten(), "mean", include_self=False)


# 13.9 a router with fewer experts -------------------------------------------------------------------------------------


def hidden(logits, keep, value=-torch.inf):
    gone = torch.ones(logits.shape[-1], dtype=torch.bool)
    gone[keep] = False
    return logits.masked_fill(gone, value)


@wrong("13.9", "numbers in the short list", "number", "keep[", "place", "list")
def _(logits, keep, top_k):
    weights, experts = logits[:, keep].softmax(dim=-1).topk(top_k, dim=-1)
    return (experts, weights / weights.sum(dim=-1, keepdim=True))


@wrong("13.9", "zero in place of minus infinity", "infinity", "zero", "0", "not kept")
def _(logits, keep, top_k):
    return route(hidden(logits, keep, 0.0), top_k, True)[1:]


@wrong("13.9", "not renormalised", "sum", "renormal", "one")
def _(logits, keep, top_k):
    return route(hidden(logits, keep), top_k, False)[1:]


@wrong("13.9", "shares of all experts", "sum", "renormal", "one", "softmax")
def _(logits, keep, top_k):
    weights, experts = hidden(logits.softmax(dim=-1), keep, 0.0).topk(top_k, dim=-1)
    return (experts, weights)


@wrong("13.9", "weights of those that are gone become zero", "next", "slot", "empty", "not kept", "comes in", "kept")
def _(logits, keep, top_k):
    routing = route(logits, top_k, True)
    weights = routing.weights * torch.isin(routing.experts, keep)
    return (routing.experts, weights)


@wrong("13.9", "zero, and scaled", "next", "slot", "empty", "not kept", "comes in", "kept")
def _(logits, keep, top_k):
    routing = route(logits, top_k, True)
    weights = routing.weights * torch.isin(routing.experts, keep)
    return (routing.experts, weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-9))


@wrong("13.9", "the others", "gone", "other", "keep", "not kept", "exactly")
def _(logits, keep, top_k):
    return route(logits.index_fill(-1, keep, -torch.inf), top_k, True)[1:]


@wrong("13.9", "keep is not used", "keep", "all experts", "not kept")
def _(logits, keep, top_k):
    return route(logits, top_k, True)[1:]


@wrong("13.9", "the first ones of the list", "first", "highest", "logit", "top")
def _(logits, keep, top_k):
    experts = keep[:top_k].expand(len(logits), -1)
    weights = logits.softmax(dim=-1).gather(-1, experts)
    return (experts, weights / weights.sum(dim=-1, keepdim=True))


@wrong("13.9", "equal weights", "equal", "weights", "softmax")
def _(logits, keep, top_k):
    routing = route(hidden(logits, keep), top_k, True)
    return routing.experts, torch.full_like(routing.weights, 1 / top_k)


@wrong("13.9", "softmax of the weights again", "twice", "softmax", "weights", "again")
def _(logits, keep, top_k):
    routing = route(hidden(logits, keep), top_k, True)
    return routing.experts, routing.weights.softmax(dim=-1)


@wrong("13.9", "logits as weights", "logit", "softmax", "weights")
def _(logits, keep, top_k):
    values, experts = hidden(logits, keep).topk(top_k, dim=-1)
    return (experts, values / values.sum(dim=-1, keepdim=True))


@wrong("13.9", "weights first", "order", "exchanged", "places")
def _(logits, keep, top_k):
    _, experts, weights = route(hidden(logits, keep), top_k, True)
    return weights, experts


@right("13.9", "the library's route")
def _(logits, keep, top_k):
    routing = route(hidden(logits, keep), top_k, True)
    return (routing.experts, routing.weights)


@right("13.9", "the short list, and back")
def _(logits, keep, top_k):
    weights, places = logits[:, keep].softmax(dim=-1).topk(top_k, dim=-1)
    return (keep[places], weights / weights.sum(dim=-1, keepdim=True))


@right("13.9", "softmax of the best")
def _(logits, keep, top_k):
    best, places = logits[:, keep].topk(top_k, dim=-1)
    return (keep[places], best.softmax(dim=-1))


@right("13.9", "probabilities with zeros")
def _(logits, keep, top_k):
    weights, experts = hidden(logits.softmax(dim=-1), keep, 0.0).topk(top_k, dim=-1)
    return (experts, weights / weights.sum(dim=-1, keepdim=True))


@right("13.9", "added mask")
def _(logits, keep, top_k):
    mask = torch.full((logits.shape[-1],), -torch.inf, dtype=logits.dtype).index_fill(0, keep, 0.0)
    best = (logits + mask).softmax(dim=-1).topk(top_k, dim=-1)
    return (best.indices, best.values / best.values.sum(dim=-1, keepdim=True))


@right("13.9", "a list")
def _(logits, keep, top_k):
    return list(route(hidden(logits, keep), top_k, True)[1:])
