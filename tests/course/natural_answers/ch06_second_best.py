"""Natural answers to 06.6: ranks 2 to top_k + 1."""

import torch

from minimoe.model.router import Routing, route
from tests.course.natural_answers.collect import Collection

collection = Collection("06.6")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


def shares(logits):
    return logits.softmax(dim=-1, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)


def finished(logits, experts, weights, renormalise):
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights.to(logits.dtype))


def more(logits, top_k):
    weights, experts = shares(logits).topk(top_k + 1, dim=-1)
    return experts, weights


@wrong("06.6", "the first left out, no ninth", "shape", "slot")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    return finished(logits, experts[:, 1:], weights[:, 1:], renormalise)


@wrong("06.6", "the ninth comes in, nothing goes", "shape", "slot")
def _(logits, top_k, renormalise):
    return finished(logits, *more(logits, top_k), renormalise)


@wrong("06.6", "nothing is left out", "left out", "best", "first", "rank")
def _(logits, top_k, renormalise):
    return route(logits, top_k, renormalise)


@wrong("06.6", "-inf for the best before the softmax", "before", "softmax", "probabilit", "own", "grow", "share")
def _(logits, top_k, renormalise):
    best = logits.argmax(dim=-1, keepdim=True)
    return route(logits.scatter(-1, best, -torch.inf), top_k, renormalise)._replace(logits=logits)


@wrong("06.6", "-inf for the best, and in what is handed on", "logits", "before", "softmax", "inf")
def _(logits, top_k, renormalise):
    best = logits.argmax(dim=-1, keepdim=True)
    return route(logits.scatter(-1, best, -torch.inf), top_k, renormalise)


@wrong("06.6", "the best in its slot, with weight zero", "zero", "slot", "place", "weight", "ninth", "left out")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    weights[:, 0] = 0
    return finished(logits, experts, weights, renormalise)


@wrong("06.6", "ninth for eighth", "eighth", "first", "last", "rank")
def _(logits, top_k, renormalise):
    experts, weights = more(logits, top_k)
    keep = [slot for slot in range(top_k + 1) if slot != top_k - 1]
    return finished(logits, experts[:, keep], weights[:, keep], renormalise)


@wrong("06.6", "always divided", "always", "renormalise", "false", "asked")
def _(logits, top_k, renormalise):
    experts, weights = more(logits, top_k)
    return finished(logits, experts[:, 1:], weights[:, 1:], True)


@wrong("06.6", "never divided", "never", "renormalise", "true", "sum")
def _(logits, top_k, renormalise):
    experts, weights = more(logits, top_k)
    return finished(logits, experts[:, 1:], weights[:, 1:], False)


@wrong("06.6", "flag read the other way", "renormalise", "not", "opposite", "true", "false")
def _(logits, top_k, renormalise):
    experts, weights = more(logits, top_k)
    return finished(logits, experts[:, 1:], weights[:, 1:], not renormalise)


@wrong("06.6", "divided by the sum of all nine", "nine", "before", "first", "sum", "left out")
def _(logits, top_k, renormalise):
    wider = route(logits, top_k + 1, renormalise)
    return Routing(logits, wider.experts[:, 1:], wider.weights[:, 1:])


@wrong("06.6", "softmax of the chosen", "softmax", "chosen", "all")
def _(logits, top_k, renormalise):
    best, experts = logits.topk(top_k + 1)
    return finished(logits, experts[:, 1:], best[:, 1:].softmax(-1, dtype=torch.float32), renormalise)


@wrong("06.6", "softmax over the tokens", "token", "axis", "dim")
def _(logits, top_k, renormalise):
    weights, experts = logits.softmax(0, dtype=torch.float32).topk(top_k + 1)
    return finished(logits, experts[:, 1:], weights[:, 1:], renormalise)


@wrong("06.6", "the first token left out", "token", "shape", "row")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k)
    return finished(logits, experts[1:], weights[1:], renormalise)


@wrong("06.6", "ranks 3 to k + 2", "rank", "two", "one", "second")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).sort(dim=-1, descending=True)
    return finished(logits, experts[:, 2 : top_k + 2], weights[:, 2 : top_k + 2], renormalise)


@wrong("06.6", "the ninth in the first slot", "order", "falling", "slot", "last", "front", "first")
def _(logits, top_k, renormalise):
    experts, weights = more(logits, top_k)
    experts[:, 0], weights[:, 0] = experts[:, -1], weights[:, -1]
    return finished(logits, experts[:, :-1], weights[:, :-1], renormalise)


@wrong("06.6", "the ninth with the weight of the first", "weight", "own", "first", "probabilit", "belong")
def _(logits, top_k, renormalise):
    experts, weights = more(logits, top_k)
    return finished(logits, torch.cat((experts[:, -1:], experts[:, 1:-1]), -1), weights[:, :-1], renormalise)


@wrong("06.6", "experts shifted, weights not", "weight", "own", "belong", "shift", "first", "rank")
def _(logits, top_k, renormalise):
    experts, weights = more(logits, top_k)
    return finished(logits, experts[:, 1:], weights[:, :-1], renormalise)


@wrong("06.6", "weights shifted, experts not", "expert", "own", "belong", "shift", "first", "rank")
def _(logits, top_k, renormalise):
    experts, weights = more(logits, top_k)
    return finished(logits, experts[:, :-1], weights[:, 1:], renormalise)


@wrong("06.6", "weights stay in float32", "dtype", "float32", "cast")
def _(logits, top_k, renormalise):
    experts, weights = more(logits, top_k)
    experts, weights = experts[:, 1:], weights[:, 1:]
    return Routing(logits, experts, weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights)


@wrong("06.6", "expert 0 left out in place of rank 1", "number", "expert 0", "index", "column", "rank")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits)[:, 1:].topk(top_k)
    return finished(logits, experts + 1, weights, renormalise)


@wrong("06.6", "first column dropped, numbers as they come", "number", "expert 0", "index", "column", "rank", "shift")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits)[:, 1:].topk(top_k)
    return finished(logits, experts, weights, renormalise)


@wrong("06.6", "one expert left out for all tokens", "each", "token", "all", "own", "same")
def _(logits, top_k, renormalise):
    busiest = int(logits.argmax(dim=-1).mode().values) if len(logits) else 0
    probabilities = shares(logits).clone()
    probabilities[:, busiest] = 0
    weights, experts = probabilities.topk(top_k)
    return finished(logits, experts, weights, renormalise)


@wrong("06.6", "best removed from logits in place", "in place", "changed", "argument", "unchanged", "logits")
def _(logits, top_k, renormalise):
    experts, weights = more(logits, top_k)
    logits.scatter_(-1, experts[:, :1], -torch.inf)
    return finished(logits, experts[:, 1:], weights[:, 1:], renormalise)


@wrong("06.6", "the lowest of the k + 1", "lowest", "smallest", "order", "rank")
def _(logits, top_k, renormalise):
    weights, experts = shares(logits).topk(top_k + 1, largest=False)
    return finished(logits, experts[:, 1:], weights[:, 1:], renormalise)


@wrong("06.6", "rising order", "order", "rising", "falling", "revers", "ascending")
def _(logits, top_k, renormalise):
    experts = logits.argsort(dim=-1)[:, -top_k - 1 : -1]
    return finished(logits, experts, shares(logits).gather(-1, experts), renormalise)


@wrong("06.6", "sum over all tokens", "token", "sum", "all", "each")
def _(logits, top_k, renormalise):
    experts, weights = (each[:, 1:] for each in more(logits, top_k))
    return finished(logits, experts, weights / weights.sum() if renormalise else weights, False)


@right("06.6", "one more, the first cut off")
def _(logits, top_k, renormalise):
    experts, weights = more(logits, top_k)
    return finished(logits, experts[..., 1:], weights[..., 1:], renormalise)


@right("06.6", "from the route of one more, without its division")
def _(logits, top_k, renormalise):
    wider = route(logits.double(), top_k + 1, False)
    return finished(logits, wider.experts[:, 1:], wider.weights[:, 1:], renormalise)


@right("06.6", "probability of the best set to zero")
def _(logits, top_k, renormalise):
    probabilities = shares(logits)
    best = probabilities.argmax(dim=-1, keepdim=True)
    weights, experts = probabilities.scatter(-1, best, -1.0).topk(top_k)
    return finished(logits, experts, weights, renormalise)


@right("06.6", "a slice of the ranking")
def _(logits, top_k, renormalise):
    experts = logits.argsort(dim=-1, descending=True, stable=True)[:, 1 : top_k + 1]
    return finished(logits, experts, shares(logits).gather(-1, experts), renormalise)


@right("06.6", "token by token")
def _(logits, top_k, renormalise):
    experts = torch.empty(len(logits), top_k, dtype=torch.int64)
    weights = torch.empty(len(logits), top_k, dtype=logits.dtype)
    for token, row in enumerate(shares(logits).double()):
        ranking = sorted(range(len(row)), key=lambda expert: -float(row[expert]))[1 : top_k + 1]
        total = float(row[ranking].sum()) if renormalise else 1.0
        experts[token] = torch.tensor(ranking)
        weights[token] = (row[ranking] / total).to(logits.dtype)
    return Routing(logits, experts, weights)


@wrong("06.6", "softmax in the logits' dtype", "dtype", "float32", "bfloat16")
def _(logits, top_k, renormalise):
    weights, experts = logits.softmax(dim=-1).topk(top_k + 1, dim=-1)
    return finished(logits, experts[:, 1:], weights[:, 1:], renormalise)


@right("06.6", "logarithms")
def _(logits, top_k, renormalise):
    scores = logits.to(shares(logits).dtype)
    best, experts = scores.topk(top_k + 1)
    best, experts = best[:, 1:], experts[:, 1:]
    below = (best if renormalise else scores).logsumexp(dim=-1, keepdim=True)
    return Routing(logits=logits, experts=experts, weights=torch.exp(best - below).to(logits.dtype))
