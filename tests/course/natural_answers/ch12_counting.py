"""Natural answers to 12.1 and 12.2: frequencies, and what two random sets share."""

from collections import Counter
from fractions import Fraction
from math import comb, exp, lgamma, prod

import numpy as np
import torch
from einops import reduce
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("12.1", "12.2")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 12.1 frequency ------------------------------------------------------------------------------------------------------


def shares(experts, num_experts):
    return F.one_hot(experts, num_experts).sum(dim=2).float().mean(dim=1)


@wrong("12.1", "uniform is one in num_experts", "slots", "uniform", "several", "top_k")
def _(experts, num_experts):
    share = shares(experts, num_experts)
    return share, share * num_experts


@wrong("12.1", "share of the choices, not of the tokens", "choices", "selections", "slots", "tokens")
def _(experts, num_experts):
    counts = F.one_hot(experts, num_experts).sum(dim=(1, 2)).float()
    share = counts / counts.sum(dim=-1, keepdim=True)
    return share, share * num_experts


@wrong("12.1", "returned in the other order", "changed places", "order", "swapped", "exchanged", "other way round")
def _(experts, num_experts):
    share = shares(experts, num_experts)
    return share * num_experts / experts.shape[2], share


@wrong("12.1", "counts in place of shares", "count", "divide", "share")
def _(experts, num_experts):
    counts = F.one_hot(experts, num_experts).sum(dim=(1, 2)).float()
    return counts, counts * num_experts / (experts.shape[1] * experts.shape[2])


@wrong("12.1", "fold multiplies by uniform", "uniform", "divide", "upside down", "inverse")
def _(experts, num_experts):
    share = shares(experts, num_experts)
    return share, share * experts.shape[2] / num_experts


@wrong("12.1", "the fold is missing", "two", "tuple", "pair", "fold", "both")
def _(experts, num_experts):
    return shares(experts, num_experts)


@wrong("12.1", "float64", "float32", "dtype", "float64")
def _(experts, num_experts):
    share = F.one_hot(experts, num_experts).sum(dim=2).double().mean(dim=1)
    return share, share * num_experts / experts.shape[2]


@wrong("12.1", "integer division", "integer", "division", "round", "//")
def _(experts, num_experts):
    layers, tokens, slots = experts.shape
    share = F.one_hot(experts, num_experts).sum(dim=(1, 2)) // tokens
    return share.float(), (share * num_experts // slots).float()


@wrong("12.1", "all layers in one pot", "layer", "layers")
def _(experts, num_experts):
    layers, tokens, slots = experts.shape
    share = experts.flatten().bincount(minlength=num_experts).float() / (layers * tokens)
    share = share.expand(layers, num_experts)
    return share, share * num_experts / slots


@wrong("12.1", "bincount without minlength", "minlength", "num_experts", "shape", "never selected", "missing")
def _(experts, num_experts):
    layers, tokens, slots = experts.shape
    share = torch.stack([layer.flatten().bincount(minlength=int(experts.max()) + 1) / tokens for layer in experts])
    return share, share * num_experts / slots


@wrong("12.1", "first slot only", "first", "slot", "slots", "top")
def _(experts, num_experts):
    share = F.one_hot(experts[:, :, 0], num_experts).float().mean(dim=1)
    return share, share * num_experts


@wrong("12.1", "fold as a difference", "difference", "subtract", "times", "divide", "ratio", "quotient")
def _(experts, num_experts):
    share = shares(experts, num_experts)
    return share, share - experts.shape[2] / num_experts


@wrong("12.1", "mean over slots as well, and uniform of several", "slots", "choices", "sum", "tokens")
def _(experts, num_experts):
    chosen = F.one_hot(experts, num_experts).float()
    share = reduce(chosen, "layer token slot expert -> layer expert", "mean")
    return share, share / (experts.shape[2] / num_experts)


@wrong("12.1", "fold against the experts in use", "used", "all experts", "num_experts", "never selected", "uniform")
def _(experts, num_experts):
    share = shares(experts, num_experts)
    in_use = (share > 0).sum(dim=-1, keepdim=True)
    return share, share * in_use / experts.shape[2]


@right("12.1", "einops")
def _(experts, num_experts):
    chosen = F.one_hot(experts, num_experts).float()
    share = reduce(
        reduce(chosen, "layer token slot expert -> layer token expert", "sum"),
        "layer token expert -> layer expert",
        "mean",
    )
    return share, share / (experts.shape[-1] / num_experts)


@right("12.1", "Counter and loops")
def _(experts, num_experts):
    layers, tokens, slots = experts.shape
    counters = [Counter(layer.flatten().tolist()) for layer in experts]
    share = torch.tensor([[counter[expert] / tokens for expert in range(num_experts)] for counter in counters])
    return share, share * num_experts / slots


@right("12.1", "bincount in NumPy, double inside")
def _(experts, num_experts):
    counts = np.stack([np.bincount(layer.ravel(), minlength=num_experts) for layer in experts.numpy()])
    share = torch.from_numpy(counts / experts.shape[1])
    return share.float(), (share * num_experts / experts.shape[2]).float()


@right("12.1", "scatter_add")
def _(experts, num_experts):
    layers, tokens, slots = experts.shape
    counts = torch.zeros(layers, num_experts)
    counts.scatter_add_(1, experts.reshape(layers, -1), torch.ones(layers, tokens * slots))
    share = counts / tokens
    return share, share / slots * num_experts


@right("12.1", "comparison with every number")
def _(experts, num_experts):
    has = (experts.unsqueeze(-1) == torch.arange(num_experts)).any(dim=2)
    share = has.to(torch.float32).mean(1)
    return share, share * (num_experts / experts.size(2))


@right("12.1", "fold over the mean share, as a list")
def _(experts, num_experts):
    share = shares(experts, num_experts)
    return [share, share / share.mean(dim=-1, keepdim=True)]


# 12.2 shared ---------------------------------------------------------------------------------------------------------


def at_least_one(top_k, num_experts):
    return 1 - comb(num_experts - top_k, top_k) / comb(num_experts, top_k)


@wrong("12.2", "drawn with replacement", "replacement", "independent", "without", "again", "left", "fewer")
def _(top_k, num_experts):
    return top_k**2 / num_experts, 1 - (1 - top_k / num_experts) ** top_k


@wrong("12.2", "probability is the mean", "mean", "average", "add", "probability")
def _(top_k, num_experts):
    return top_k**2 / num_experts, min(1.0, top_k**2 / num_experts)


@wrong("12.2", "mean of a single expert", "one expert", "each", "times", "top_k", "all")
def _(top_k, num_experts):
    return top_k / num_experts, at_least_one(top_k, num_experts)


@wrong("12.2", "both sides divided", "squared", "twice", "num_experts", "divided", "pair")
def _(top_k, num_experts):
    return (top_k / num_experts) ** 2, at_least_one(top_k, num_experts)


@wrong("12.2", "probability of none", "none", "1 -", "one minus", "complement", "opposite")
def _(top_k, num_experts):
    return top_k**2 / num_experts, comb(num_experts - top_k, top_k) / comb(num_experts, top_k)


@wrong("12.2", "returned in the other order", "changed places", "order", "swapped", "exchanged", "other way round")
def _(top_k, num_experts):
    return at_least_one(top_k, num_experts), top_k**2 / num_experts


@wrong("12.2", "in percent", "percent", "100", "0 and 1", "hundred")
def _(top_k, num_experts):
    return top_k**2 / num_experts, 100 * at_least_one(top_k, num_experts)


@wrong("12.2", "exactly one", "exactly", "at least", "more than one", "two")
def _(top_k, num_experts):
    one = top_k * comb(num_experts - top_k, top_k - 1) / comb(num_experts, top_k)
    return top_k**2 / num_experts, one


@wrong("12.2", "all the same", "all", "same set", "identical", "at least one")
def _(top_k, num_experts):
    return top_k**2 / num_experts, 1 / comb(num_experts, top_k)


@wrong("12.2", "the numbers of 8 of 128", "argument", "8 of 128", "constant", "any", "typed", "top_k", "other sizes")
def _(top_k, num_experts):
    return 0.5, 0.41


@wrong("12.2", "rounded as it is printed", "round", "exact", "digits")
def _(top_k, num_experts):
    return round(top_k**2 / num_experts, 1), round(at_least_one(top_k, num_experts), 2)


@wrong("12.2", "Poisson", "approximation", "approximate", "poisson", "exact", "replacement", "independent")
def _(top_k, num_experts):
    mean = top_k**2 / num_experts
    return mean, 1 - exp(-mean)


@wrong("12.2", "product with one factor missing", "factor", "range", "one too few", "top_k", "first")
def _(top_k, num_experts):
    none = prod((num_experts - top_k - n) / (num_experts - n) for n in range(1, top_k))
    return top_k**2 / num_experts, 1 - none


@wrong("12.2", "product whose denominator does not shrink", "denominator", "replacement", "left", "fewer", "shrink")
def _(top_k, num_experts):
    none = prod((num_experts - top_k - n) / num_experts for n in range(top_k))
    return top_k**2 / num_experts, 1 - none


@wrong("12.2", "the mean alone", "two", "tuple", "pair", "both", "probability")
def _(top_k, num_experts):
    return top_k * top_k / num_experts


@wrong("12.2", "integer division", "integer", "division", "//", "round")
def _(top_k, num_experts):
    return top_k * top_k // num_experts, at_least_one(top_k, num_experts)


@right("12.2", "math.comb")
def _(top_k, num_experts):
    return top_k * (top_k / num_experts), at_least_one(top_k, num_experts)


@right("12.2", "product of shrinking shares")
def _(top_k, num_experts):
    none = 1.0
    for drawn in range(top_k):
        none *= (num_experts - top_k - drawn) / (num_experts - drawn)
    return top_k * top_k / num_experts, 1 - none


@right("12.2", "Fractions, not converted")
def _(top_k, num_experts):
    none = Fraction(comb(num_experts - top_k, top_k), comb(num_experts, top_k))
    return Fraction(top_k**2, num_experts), 1 - none


@right("12.2", "sum of the hypergeometric distribution")
def _(top_k, num_experts):
    ways = [comb(top_k, n) * comb(num_experts - top_k, top_k - n) for n in range(top_k + 1)]
    chance = [way / sum(ways) for way in ways]
    return sum(n * p for n, p in enumerate(chance)), sum(chance[1:])


@right("12.2", "lgamma")
def _(top_k, num_experts):
    rest = num_experts - top_k
    if rest < top_k:
        return top_k**2 / num_experts, 1.0
    log_none = 2 * lgamma(rest + 1) - lgamma(rest - top_k + 1) - lgamma(num_experts + 1)
    return top_k**2 / num_experts, 1 - exp(log_none)


@right("12.2", "NumPy, as a list")
def _(top_k, num_experts):
    drawn = np.arange(top_k)
    none = np.prod((num_experts - top_k - drawn) / (num_experts - drawn))
    return [np.float64(top_k**2 / num_experts), 1 - none]


@right("12.2", "tensors in float64")
def _(top_k, num_experts):
    drawn = torch.arange(top_k, dtype=torch.float64)
    none = torch.prod((num_experts - top_k - drawn) / (num_experts - drawn))
    return torch.tensor(top_k**2 / num_experts, dtype=torch.float64), 1 - none
