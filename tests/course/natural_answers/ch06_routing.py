"""Natural answers to 06.1: the router."""

import heapq
import math

import numpy as np
import torch

from minimoe.model.router import Routing
from tests.course.natural_answers.collect import Collection

collection = Collection("06.1")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


def shares(logits):
    return logits.softmax(dim=-1, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)


def finished(logits, experts, weights, renormalise):
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights.to(logits.dtype))


@wrong("06.1", "softmax over the tokens", "token", "axis", "dim")
def _(logits, top_k, renormalise):
    weights, experts = logits.softmax(dim=0, dtype=torch.float32).topk(top_k, dim=-1)
    return finished(logits, experts, weights, renormalise)


@wrong("06.1", "softmax over everything", "token", "axis", "all")
def _(logits, top_k, renormalise):
    everything = logits.flatten().softmax(0, dtype=torch.float32).reshape(logits.shape)
    weights, experts = everything.topk(top_k, dim=-1)
    return finished(logits, experts, weights, renormalise)


@wrong("06.1", "always divided", "always", "renormalise", "false", "asked")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    return finished(logits, experts, weights, True)


@wrong("06.1", "never divided", "never", "renormalise", "true", "sum")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    return finished(logits, experts, weights, False)


@wrong("06.1", "flag read the other way", "renormalise", "not", "opposite", "true", "false")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    return finished(logits, experts, weights, not renormalise)


@wrong("06.1", "softmax of the chosen", "chosen", "before", "all", "first", "order")
def _(logits, top_k, renormalise):
    best, experts = logits.topk(top_k)
    return finished(logits, experts, best.softmax(-1, dtype=torch.float32), renormalise)


@wrong("06.1", "softmax in the logits' dtype", "float32", "bfloat16", "precision", "dtype", "tie")
def _(logits, top_k, renormalise):
    weights, experts = logits.softmax(dim=-1).topk(top_k, dim=-1)
    return finished(logits, experts, weights, renormalise)


@wrong("06.1", "cast before the division", "division", "divid", "cast", "round", "bfloat16", "precision")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k, dim=-1)
    weights = weights.to(logits.dtype)
    return finished(logits, experts, weights, renormalise)


@wrong("06.1", "top-k over the tokens", "token", "axis", "dim", "shape")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k, dim=0)
    return finished(logits, experts, weights, renormalise)


@wrong("06.1", "sigmoid as in DeepSeek-V3", "sigmoid")
def _(logits, top_k, renormalise):
    weights, experts = logits.float().sigmoid().topk(top_k)
    return finished(logits, experts, weights, renormalise)


@wrong("06.1", "experts by number, weights by size", "sorted", "order", "number", "belong")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    return finished(logits, experts.sort(dim=-1).values, weights, renormalise)


@wrong("06.1", "both by number", "sorted", "order", "number", "falling")
def _(logits, top_k, renormalise):
    experts = shares(logits).topk(top_k).indices.sort(dim=-1).values
    return finished(logits, experts, shares(logits).gather(-1, experts), renormalise)


@wrong("06.1", "the best comes last", "order", "rising", "falling", "revers", "ascending", "smallest")
def _(logits, top_k, renormalise):
    experts = logits.argsort(dim=-1)[:, -top_k:]
    return finished(logits, experts, shares(logits).gather(-1, experts), renormalise)


@wrong("06.1", "the worst ones", "smallest", "lowest", "worst", "ascending", "order")
def _(logits, top_k, renormalise):
    experts = logits.argsort(dim=-1)[:, :top_k]
    return finished(logits, experts, shares(logits).gather(-1, experts), renormalise)


@wrong("06.1", "logits as weights", "softmax", "logits", "probabilit")
def _(logits, top_k, renormalise):
    weights, experts = logits.float().topk(top_k)
    return finished(logits, experts, weights, renormalise)


@wrong("06.1", "a second softmax to renormalise", "softmax", "twice", "second", "divid")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    if renormalise:
        weights = weights.softmax(dim=-1)
    return Routing(logits, experts, weights.to(logits.dtype))


@wrong("06.1", "divided by the largest", "largest", "sum", "max")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    return finished(logits, experts, weights / weights[:, :1] if renormalise else weights, False)


@wrong("06.1", "divided by the sum over all tokens", "token", "sum", "all", "each")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    return finished(logits, experts, weights / weights.sum() if renormalise else weights, False)


@wrong("06.1", "sum without keepdim", "keepdim", "shape", "size", "broadcast", "axis")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    return finished(logits, experts, weights / weights.sum(dim=-1) if renormalise else weights, False)


@wrong("06.1", "norm of the vector in place of the sum", "sum", "norm", "square", "length")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    return finished(logits, experts, torch.nn.functional.normalize(weights, dim=-1) if renormalise else weights, False)


@wrong("06.1", "probabilities handed on as logits", "logits", "probabilit", "softmax")
def _(logits, top_k, renormalise):
    probabilities = shares(logits)
    weights, experts = probabilities.topk(top_k)
    return finished(logits, experts, weights, renormalise)._replace(logits=probabilities.to(logits.dtype))


@wrong("06.1", "weights and experts exchanged", "exchanged", "swapped", "order", "dtype")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    logits, experts, weights = finished(logits, experts, weights, renormalise)
    return Routing(logits, weights, experts)


@wrong("06.1", "two values in place of a Routing", "routing", "type", "tuple")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    return finished(logits, experts, weights, renormalise)[1:]


@wrong("06.1", "weights stay in float32", "dtype", "float32", "cast")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    if renormalise:
        weights /= weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights)


@wrong("06.1", "one slot too few", "shape", "slot")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).sort(dim=-1, descending=True)
    return finished(logits, experts[:, 1:top_k], weights[:, 1:top_k], renormalise)


@wrong("06.1", "ranks 2 to k + 1", "rank", "best", "first", "off by one")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).sort(dim=-1, descending=True)
    return finished(logits, experts[:, 1 : top_k + 1], weights[:, 1 : top_k + 1], renormalise)


@wrong("06.1", "a column for every expert", "shape")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    _, _, weights = finished(logits, experts, weights, renormalise)
    return Routing(logits, experts, torch.zeros_like(logits).scatter(-1, experts, weights))


@wrong("06.1", "log_softmax", "log")
def _(logits, top_k, renormalise):
    weights, experts = logits.log_softmax(-1, dtype=torch.float32).topk(top_k)
    return finished(logits, experts, weights, renormalise)


@wrong("06.1", "the same weight for each", "same", "even", "equal", "1 / top_k", "each")
def _(logits, top_k, renormalise):
    experts = logits.topk(top_k).indices
    return Routing(logits, experts, torch.full(experts.shape, 1 / top_k, dtype=logits.dtype))


@wrong("06.1", "largest subtracted from logits in place", "in place", "changed", "argument", "unchanged")
def _(logits, top_k, renormalise):
    logits -= logits.max(dim=-1, keepdim=True).values
    weights, experts = shares(logits).topk(top_k)
    return finished(logits, experts, weights, renormalise)


@wrong("06.1", "exp that is never divided", "exp", "sum", "divid", "softmax", "normalis")
def _(logits, top_k, renormalise):
    weights, experts = logits.float().exp().topk(top_k)
    return finished(logits, experts, weights, renormalise)


@wrong("06.1", "scaled by the root of the number of experts", "scale", "temperature", "root", "flat", "factor", "divid")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits / math.sqrt(logits.shape[-1])).topk(top_k)
    return finished(logits, experts, weights, renormalise)


@wrong("06.1", "the highest score of each eighth", "group", "best", "highest", "choose", "experts")
def _(logits, top_k, renormalise):
    size = logits.shape[-1] // top_k
    within = torch.stack([part.argmax(-1) for part in logits[:, : size * top_k].split(size, dim=-1)], dim=-1)
    experts = within + size * torch.arange(top_k)
    return finished(logits, experts, shares(logits).gather(-1, experts), renormalise)


@right("06.1", "as in the lesson")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k, dim=-1)
    return finished(logits, experts, weights, renormalise)


@right("06.1", "exponentials, the largest not subtracted")
def _(logits, top_k, renormalise):
    powers = logits.float().exp()
    weights, experts = (powers / powers.sum(dim=-1, keepdim=True)).topk(top_k)
    return finished(logits, experts, weights, renormalise)


@right("06.1", "with a pencil")
def _(logits, top_k, renormalise):
    experts, weights = [], []
    for scores in logits.tolist():
        powers = [math.exp(score - max(scores)) for score in scores]
        ranking = sorted(range(len(powers)), key=lambda expert: powers[expert], reverse=True)[:top_k]
        total = sum(powers[expert] for expert in ranking) if renormalise else sum(powers)
        experts.append(ranking)
        weights.append([powers[expert] / total for expert in ranking])
    experts = torch.tensor(experts, dtype=torch.int64).reshape(-1, top_k)
    return Routing(logits, experts, torch.tensor(weights, dtype=logits.dtype).reshape(-1, top_k))


@right("06.1", "the whole ranking, then a slice")
def _(logits, top_k, renormalise):
    experts = logits.argsort(dim=-1, descending=True)[:, :top_k]
    return finished(logits, experts, shares(logits).gather(-1, experts), renormalise)


@right("06.1", "choose first, and then what the flag needs")
def _(logits, top_k, renormalise):
    best, experts = logits.to(shares(logits).dtype).topk(top_k, dim=-1)
    below = torch.logsumexp(best if renormalise else logits.to(best.dtype), dim=-1, keepdim=True)
    return Routing(logits, experts, (best - below).exp().to(logits.dtype))


@right("06.1", "NumPy")
def _(logits, top_k, renormalise):
    scores = logits.double().numpy()
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities = powers / powers.sum(axis=-1, keepdims=True)
    experts = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]
    weights = np.take_along_axis(probabilities, experts, axis=-1)
    if renormalise:
        weights = weights / weights.sum(axis=-1, keepdims=True)
    return Routing(logits, torch.from_numpy(experts.copy()), torch.from_numpy(weights).to(logits.dtype))


@right("06.1", "token by token with a heap")
def _(logits, top_k, renormalise):
    experts = torch.empty(len(logits), top_k, dtype=torch.int64)
    weights = torch.empty(len(logits), top_k, dtype=logits.dtype)
    for token, row in enumerate(shares(logits).tolist()):
        best = heapq.nlargest(top_k, enumerate(row), key=lambda pair: pair[1])
        total = sum(share for _, share in best) if renormalise else 1
        for slot, (expert, share) in enumerate(best):
            experts[token, slot], weights[token, slot] = expert, share / total
    return Routing(logits, experts, weights)


@right("06.1", "best of what is left, slot by slot")
def _(logits, top_k, renormalise):
    left, experts, weights = shares(logits), [], []
    for _ in range(top_k):
        best = left.max(dim=-1, keepdim=True)
        experts.append(best.indices)
        weights.append(best.values)
        left = left.scatter(-1, best.indices, -1)
    return finished(logits, torch.cat(experts, -1), torch.cat(weights, -1), renormalise)
