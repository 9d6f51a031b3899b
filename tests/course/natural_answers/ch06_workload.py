"""Natural answers to 06.3: who did how much."""

import torch
from einops import einsum, rearrange, reduce
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("06.3")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


@wrong("06.3", "counted, not weighed", "weight", "count", "how often")
def _(experts, weights, num_experts):
    hot = F.one_hot(experts, num_experts)
    return reduce(hot, "batch position slot expert -> batch expert", "sum").to(weights.dtype)


def weighed(experts, weights, num_experts):
    return F.one_hot(experts, num_experts) * rearrange(weights, "batch position slot -> batch position slot 1")


@wrong("06.3", "mean for sum", "mean", "sum", "average")
def _(experts, weights, num_experts):
    return reduce(weighed(experts, weights, num_experts), "batch position slot expert -> batch expert", "mean")


@wrong("06.3", "largest for sum", "max", "sum", "largest")
def _(experts, weights, num_experts):
    return reduce(weighed(experts, weights, num_experts), "batch position slot expert -> batch expert", "max")


@wrong("06.3", "mean over the positions", "mean", "sum", "position", "average", "divid")
def _(experts, weights, num_experts):
    return weighed(experts, weights, num_experts).sum(dim=2).mean(dim=1)


@wrong("06.3", "mean over the slots", "mean", "sum", "slot", "average", "divid")
def _(experts, weights, num_experts):
    return weighed(experts, weights, num_experts).mean(dim=2).sum(dim=1)


@wrong("06.3", "over the batch, too", "shape", "batch", "sentence")
def _(experts, weights, num_experts):
    return reduce(weighed(experts, weights, num_experts), "batch position slot expert -> expert", "sum")


@wrong("06.3", "positions kept", "shape", "position")
def _(experts, weights, num_experts):
    return reduce(weighed(experts, weights, num_experts), "batch position slot expert -> batch position expert", "sum")


@wrong("06.3", "a row for each position", "shape", "position", "batch", "sentence")
def _(experts, weights, num_experts):
    return einsum(
        F.one_hot(experts, num_experts).to(weights.dtype),
        weights,
        "batch position slot expert, batch position slot -> position expert",
    )


@wrong("06.3", "expert by batch", "shape", "transpos")
def _(experts, weights, num_experts):
    return reduce(weighed(experts, weights, num_experts), "batch position slot expert -> expert batch", "sum")


@wrong("06.3", "one_hot guesses the number of experts", "shape", "num_experts")
def _(experts, weights, num_experts):
    hot = F.one_hot(experts).to(weights.dtype)
    return einsum(hot, weights, "batch position slot expert, batch position slot -> batch expert")


@wrong("06.3", "128 typed in", "shape", "num_experts", "128")
def _(experts, weights, num_experts):
    hot = F.one_hot(experts, 128).to(weights.dtype)
    return einsum(hot, weights, "batch position slot expert, batch position slot -> batch expert")


@wrong("06.3", "one_hot cast to float32", "dtype", "float32", "type")
def _(experts, weights, num_experts):
    hot = F.one_hot(experts, num_experts).float()
    return reduce(hot * weights[..., None], "batch position slot expert -> batch expert", "sum")


@wrong("06.3", "weights cast to integers", "integer", "dtype", "int64", "zero", "weight")
def _(experts, weights, num_experts):
    hot = F.one_hot(experts, num_experts)
    return einsum(hot, weights.long(), "batch position slot expert, batch position slot -> batch expert")


@wrong("06.3", "einsum of integers and floats", "dtype", "type", "int64", "raise", "long", "scalar")
def _(experts, weights, num_experts):
    hot = F.one_hot(experts, num_experts)
    return einsum(hot, weights, "batch position slot expert, batch position slot -> batch expert")


@wrong("06.3", "shares of a sentence", "share", "divid", "sum", "total", "one")
def _(experts, weights, num_experts):
    total = weighed(experts, weights, num_experts).sum(dim=(1, 2))
    return total / total.sum(dim=-1, keepdim=True)


@wrong("06.3", "weights per choice", "divid", "count", "mean", "average")
def _(experts, weights, num_experts):
    counts = F.one_hot(experts, num_experts).sum(dim=(1, 2))
    return weighed(experts, weights, num_experts).sum(dim=(1, 2)) / counts.clamp(min=1)


@wrong("06.3", "slots summed before the product", "slot", "before", "each", "product", "own")
def _(experts, weights, num_experts):
    hot = F.one_hot(experts, num_experts).sum(dim=2)
    return einsum(hot.to(weights.dtype), weights.sum(dim=2), "batch position expert, batch position -> batch expert")


@wrong("06.3", "everything summed before the product", "before", "each", "product", "own", "sum")
def _(experts, weights, num_experts):
    counts = F.one_hot(experts, num_experts).sum(dim=(1, 2))
    return counts * weights.sum(dim=(1, 2))[:, None]


@wrong("06.3", "scatter without add", "add", "overwr", "last", "sum", "replac")
def _(experts, weights, num_experts):
    table = torch.zeros(len(experts), num_experts, dtype=weights.dtype)
    return table.scatter_(1, experts.flatten(1), weights.flatten(1))


@wrong("06.3", "+= with an index", "add", "once", "twice", "accumulate", "overwr", "several", "last", "sum")
def _(experts, weights, num_experts):
    table = torch.zeros(len(experts), num_experts, dtype=weights.dtype)
    for row, chosen, weight in zip(table, experts, weights, strict=True):
        row[chosen.flatten()] += weight.flatten()
    return table


@wrong("06.3", "+= with an index, slot by slot", "add", "once", "twice", "accumulate", "overwr", "several", "sum")
def _(experts, weights, num_experts):
    table = torch.zeros(len(experts), num_experts, dtype=weights.dtype)
    for slot in range(experts.shape[-1]):
        table[torch.arange(len(table))[:, None], experts[..., slot]] += weights[..., slot]
    return table


@wrong("06.3", "the first slot alone", "slot", "first")
def _(experts, weights, num_experts):
    hot = F.one_hot(experts[..., 0], num_experts)
    return (hot * weights[..., :1]).sum(dim=1)


@wrong("06.3", "the last slot forgotten", "slot", "last")
def _(experts, weights, num_experts):
    return weighed(experts, weights, num_experts)[:, :, :-1].sum(dim=(1, 2))


@wrong("06.3", "the first position alone", "position", "first")
def _(experts, weights, num_experts):
    return weighed(experts, weights, num_experts)[:, 0].sum(dim=1)


@wrong("06.3", "as on the page", "einops", "page", "unchanged", "given", "pattern", "as it was")
def workload_as_it_was(experts, weights, num_experts):
    batch, position, slot = experts.shape
    table = torch.zeros(batch, num_experts, dtype=weights.dtype)
    return table.scatter_add_(1, experts.view(batch, position * slot), weights.view(batch, position * slot))


@wrong("06.3", "weights and experts in different orders", "order", "slot", "position", "own", "belong")
def _(experts, weights, num_experts):
    flat = rearrange(experts, "batch position slot -> batch (position slot)")
    values = rearrange(weights, "batch position slot -> batch (slot position)")
    return einsum(F.one_hot(flat, num_experts).to(weights.dtype), values, "batch any expert, batch any -> batch expert")


@wrong("06.3", "numbers from 1", "from 1", "from 0", "number", "shift", "index", "expert")
def _(experts, weights, num_experts):
    hot = (experts[..., None] == torch.arange(1, num_experts + 1)).to(weights.dtype)
    return reduce(hot * weights[..., None], "batch position slot expert -> batch expert", "sum")


@right("06.3", "one_hot and einsum")
def _(experts, weights, num_experts):
    hot = F.one_hot(experts, num_experts).to(weights.dtype)
    return einsum(hot, weights, "batch position slot expert, batch position slot -> batch expert")


@right("06.3", "one_hot and reduce")
def _(experts, weights, num_experts):
    return reduce(weighed(experts, weights, num_experts), "batch position slot expert -> batch expert", "sum")


@right("06.3", "einsum of torch, letters")
def _(experts, weights, num_experts):
    return torch.einsum("bpse,bps->be", F.one_hot(experts, num_experts).to(weights), weights)


@wrong("06.3", "loops", "loop", "named", "names")  # the page asks for a name for every axis
def _(experts, weights, num_experts):
    table = torch.zeros(len(experts), num_experts, dtype=torch.float64)
    for batch, position, slot in torch.ones_like(experts).nonzero().tolist():
        table[batch, experts[batch, position, slot]] += weights[batch, position, slot]
    return table.to(weights.dtype)


@right("06.3", "bincount of each sentence")
def _(experts, weights, num_experts):
    rows = [
        torch.bincount(chosen.flatten(), weight.flatten().double(), minlength=num_experts)
        for chosen, weight in zip(experts, weights, strict=True)
    ]
    return torch.stack(rows).to(weights.dtype)


@right("06.3", "compared with each number")
def _(experts, weights, num_experts):
    return torch.stack([(weights * (experts == expert)).sum(dim=(1, 2)) for expert in range(num_experts)], dim=-1)


@right("06.3", "index_put that accumulates")
def _(experts, weights, num_experts):
    table = torch.zeros(len(experts), num_experts, dtype=weights.dtype)
    row = torch.arange(len(experts))[:, None, None].expand_as(experts)
    return table.index_put((row, experts), weights, accumulate=True)


@wrong("06.3", "flattened, a product of matrices", "flatten", "named", "names")  # the page asks for names
def _(experts, weights, num_experts):
    hot = F.one_hot(experts.flatten(1), num_experts).to(weights.dtype)
    return (weights.flatten(1)[:, None] @ hot)[:, 0]
