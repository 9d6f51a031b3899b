"""Natural answers to 12.3 and 12.4: pairs of experts."""

from collections import Counter
from itertools import combinations, pairwise, permutations, product

import numpy as np
import torch
from einops import einsum, rearrange, reduce
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("12.3", "12.4")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 12.3 coactivation ---------------------------------------------------------------------------------------------------


def chosen_experts(experts, num_experts):
    return F.one_hot(experts, num_experts).sum(dim=-2)


@wrong("12.3", "zero on the diagonal", "diagonal", "itself")
def _(experts, num_experts):
    chosen = chosen_experts(experts, num_experts)
    return (chosen.T @ chosen).fill_diagonal_(0)


@wrong("12.3", "float32", "int64", "dtype", "float", "integer")
def _(experts, num_experts):
    chosen = chosen_experts(experts, num_experts).float()
    return einsum(chosen, chosen, "token expert, token other -> expert other")


@wrong("12.3", "int32", "int64", "dtype", "int32")
def _(experts, num_experts):
    chosen = chosen_experts(experts, num_experts).int()
    return einsum(chosen, chosen, "token expert, token other -> expert other")


@wrong("12.3", "upper triangle", "triangle", "symmetric", "both", "direction", "half", "order")
def _(experts, num_experts):
    chosen = chosen_experts(experts, num_experts)
    return (chosen.T @ chosen).triu()


@wrong("12.3", "each slot with itself", "slot", "diagonal", "itself", "same slot", "sum")
def _(experts, num_experts):
    chosen = F.one_hot(experts, num_experts)
    return einsum(chosen, chosen, "token slot expert, token slot other -> expert other")


@wrong("12.3", "whether, not how often", "how often", "how many", "count", "whether", "tokens")
def _(experts, num_experts):
    chosen = chosen_experts(experts, num_experts)
    return (chosen.T @ chosen).clamp(max=1)


@wrong("12.3", "neighbouring slots only", "neighbour", "all pairs", "pairs", "rank")
def _(experts, num_experts):
    table = torch.zeros(num_experts, num_experts, dtype=torch.int64)
    for row in experts.tolist():
        for one in row:
            table[one, one] += 1
        for one, other in pairwise(row):
            table[one, other] += 1
            table[other, one] += 1
    return table


@wrong(
    "12.3", "index without accumulation", "accumulate", "repeated", "once", "duplicate", "index", "count", "how often"
)
def _(experts, num_experts):
    table = torch.zeros(num_experts, num_experts, dtype=torch.int64)
    table[experts[:, :, None], experts[:, None, :]] += 1
    return table


@wrong("12.3", "the token is not summed", "token", "sum", "shape", "axis")
def _(experts, num_experts):
    chosen = chosen_experts(experts, num_experts)
    return einsum(chosen, chosen, "token expert, token other -> token expert other")


@wrong("12.3", "product of the counts", "independent", "same token", "each token", "product", "together", "before")
def _(experts, num_experts):
    counts = chosen_experts(experts, num_experts).sum(dim=0)
    return einsum(counts, counts, "expert, other -> expert other")


@wrong("12.3", "pairs with the first slot only", "first", "slot", "all pairs", "top")
def _(experts, num_experts):
    first = F.one_hot(experts[:, 0], num_experts)
    return einsum(first, chosen_experts(experts, num_experts), "token expert, token other -> expert other")


@wrong("12.3", "added to its transpose", "twice", "double", "symmetric", "both")
def _(experts, num_experts):
    chosen = chosen_experts(experts, num_experts)
    table = chosen.T @ chosen
    return table + table.T


@wrong("12.3", "one_hot guesses the number of experts", "num_experts", "num_classes", "shape", "missing", "never")
def _(experts, num_experts):
    chosen = F.one_hot(experts).sum(dim=1)
    return chosen.T @ chosen


@wrong("12.3", "tokens by tokens", "token", "expert", "axis", "axes", "shape")
def _(experts, num_experts):
    chosen = chosen_experts(experts, num_experts)
    return einsum(chosen, chosen, "token expert, other expert -> token other")


@wrong("12.3", "shares of the tokens", "share", "count", "divide", "dtype", "int64")
def _(experts, num_experts):
    chosen = chosen_experts(experts, num_experts).float()
    return einsum(chosen, chosen, "token expert, token other -> expert other") / len(experts)


@wrong("12.3", "bfloat16 sums", "precision", "bfloat16", "exact", "integer", "int64")
def _(experts, num_experts):
    chosen = chosen_experts(experts, num_experts).bfloat16()
    return einsum(chosen, chosen, "token expert, token other -> expert other").long()


@right("12.3", "einsum over tokens")
def _(experts, num_experts):
    chosen = reduce(F.one_hot(experts, num_experts), "token slot expert -> token expert", "sum")
    return einsum(chosen, chosen, "token expert, token other -> expert other")


@right("12.3", "einsum over both slots")
def _(experts, num_experts):
    chosen = F.one_hot(experts, num_experts)
    return einsum(chosen, chosen, "token slot expert, token place other -> expert other")


@right("12.3", "matrix product in double")
def _(experts, num_experts):
    chosen = torch.zeros(len(experts), num_experts, dtype=torch.float64).scatter_(1, experts, 1.0)
    return (chosen.mT @ chosen).long()


@right("12.3", "bincount of pairs")
def _(experts, num_experts):
    pairs = rearrange(experts, "token one -> token one 1") * num_experts + rearrange(
        experts, "token two -> token 1 two"
    )
    return pairs.flatten().bincount(minlength=num_experts**2).reshape(num_experts, num_experts)


@right("12.3", "np.add.at")
def _(experts, num_experts):
    table, ids = np.zeros((num_experts, num_experts), dtype=np.int64), experts.numpy()
    np.add.at(table, (ids[:, :, None], ids[:, None, :]), 1)
    return torch.from_numpy(table)


@wrong("12.3", "right, and in a loop still", "loop", "pattern")
def _(experts, num_experts):
    pairs = Counter(pair for row in experts.tolist() for pair in product(row, repeat=2))
    return torch.tensor([[pairs[one, other] for other in range(num_experts)] for one in range(num_experts)])


@right("12.3", "index_put_ that accumulates")
def _(experts, num_experts):
    table = torch.zeros(num_experts, num_experts, dtype=torch.int64)
    one, other = torch.broadcast_tensors(experts.unsqueeze(2), experts.unsqueeze(1))
    return table.index_put_((one, other), torch.ones_like(one), accumulate=True)


# 12.4 partners -------------------------------------------------------------------------------------------------------


def pairs_of(experts, num_experts):
    """(expert, other) float32 counts with an empty diagonal, and how often each was selected."""
    chosen = chosen_experts(experts, num_experts).float()
    return (chosen.T @ chosen).fill_diagonal_(0), chosen.sum(dim=0)


@wrong("12.4", "as it was on the page", "neighbour", "all pairs", "pairs", "page", "unchanged", "given")
def _(experts, num_experts):
    table = torch.zeros(num_experts, num_experts)
    for row in experts.tolist():
        for one, other in pairwise(row):
            table[one, other] += 1
            table[other, one] += 1
    times = experts.flatten().bincount(minlength=num_experts)
    return table / times.clamp(min=1)[:, None]


@wrong("12.4", "each pair in one direction", "direction", "symmetric", "both", "once", "half", "order")
def _(experts, num_experts):
    table = torch.zeros(num_experts, num_experts)
    for row in experts.tolist():
        for one, other in combinations(row, 2):
            table[one, other] += 1
    times = experts.flatten().bincount(minlength=num_experts)
    return table / times.clamp(min=1)[:, None]


@wrong("12.4", "divided along the columns", "column", "row", "other", "transposed")
def _(experts, num_experts):
    table, times = pairs_of(experts, num_experts)
    return table / times.clamp(min=1)


@wrong("12.4", "one on the diagonal", "diagonal", "itself")
def _(experts, num_experts):
    table, times = pairs_of(experts, num_experts)
    return (table + times.diag()) / times.clamp(min=1)[:, None]


@wrong("12.4", "rows sum to one", "one", "seven", "sum", "tokens", "partners", "pairs")
def _(experts, num_experts):
    table, times = pairs_of(experts, num_experts)
    return table / table.sum(dim=-1, keepdim=True).clamp(min=1)


@wrong("12.4", "divided by all tokens", "all tokens", "row", "selected", "number of tokens", "of the tokens")
def _(experts, num_experts):
    table, times = pairs_of(experts, num_experts)
    return table / len(experts)


@wrong("12.4", "nan for an expert without tokens", "nan", "zero", "never", "nobody", "division", "clamp")
def _(experts, num_experts):
    table, times = pairs_of(experts, num_experts)
    return table / times[:, None]


@wrong("12.4", "float64", "float32", "dtype", "float64")
def _(experts, num_experts):
    table, times = pairs_of(experts, num_experts)
    return table.double() / times.clamp(min=1)[:, None]


@wrong("12.4", "the old table times four", "four", "scale", "factor", "pairs", "neighbour")
def _(experts, num_experts):
    table = torch.zeros(num_experts, num_experts)
    for row in experts.tolist():
        for one, other in pairwise(row):
            table[one, other] += 1
            table[other, one] += 1
    times = experts.flatten().bincount(minlength=num_experts)
    return 4 * table / times.clamp(min=1)[:, None]


@wrong("12.4", "counts", "count", "divide", "share")
def _(experts, num_experts):
    return pairs_of(experts, num_experts)[0]


@wrong("12.4", "the last slot is forgotten", "last", "slot", "all pairs", "range")
def _(experts, num_experts):
    table = torch.zeros(num_experts, num_experts)
    for row in experts.tolist():
        for one, other in permutations(row[:-1], 2):
            table[one, other] += 1
    times = experts.flatten().bincount(minlength=num_experts)
    return table / times.clamp(min=1)[:, None]


@wrong("12.4", "all pairs in both directions, twice", "twice", "double", "both", "direction")
def _(experts, num_experts):
    table = torch.zeros(num_experts, num_experts)
    for row in experts.tolist():
        for one, other in permutations(row, 2):
            table[one, other] += 1
            table[other, one] += 1
    times = experts.flatten().bincount(minlength=num_experts)
    return table / times.clamp(min=1)[:, None]


@wrong("12.4", "over the tokens that selected either", "either", "union", "jaccard", "row")
def _(experts, num_experts):
    table, times = pairs_of(experts, num_experts)
    return table / (times[:, None] + times - table).clamp(min=1)


@wrong("12.4", "divided by the partners' places", "seven", "slots", "row", "sum", "times", "divide")
def _(experts, num_experts):
    table, times = pairs_of(experts, num_experts)
    return table / (times * (experts.shape[1] - 1)).clamp(min=1)[:, None]


@wrong("12.4", "expected pairs divided out (lift)", "lift", "independent", "expected", "column", "twice", "share")
def _(experts, num_experts):
    table, times = pairs_of(experts, num_experts)
    return table * len(experts) / (times[:, None] * times).clamp(min=1)


@right("12.4", "one_hot and matrix product")
def _(experts, num_experts):
    table, times = pairs_of(experts, num_experts)
    return table / times.clamp(min=1)[:, None]


@right("12.4", "the loop, repaired")
def _(experts, num_experts):
    table = torch.zeros(num_experts, num_experts)
    for row in experts.tolist():
        for one, other in combinations(row, 2):
            table[one, other] += 1
            table[other, one] += 1
    times = experts.flatten().bincount(minlength=num_experts)
    return table / times.clamp(min=1)[:, None]


@right("12.4", "einops, nan_to_num")
def _(experts, num_experts):
    chosen = reduce(F.one_hot(experts, num_experts).double(), "token slot expert -> token expert", "max")
    both = einsum(chosen, chosen, "token expert, token other -> expert other")
    share = both / rearrange(both.diagonal(), "expert -> expert 1")
    return share.nan_to_num(0.0).fill_diagonal_(0).float()


@right("12.4", "the tokens of each expert, one after the other")
def _(experts, num_experts):
    result = torch.zeros(num_experts, num_experts)
    for expert in range(num_experts):
        mine = experts[(experts == expert).any(dim=-1)]
        if len(mine):
            result[expert] = mine.flatten().bincount(minlength=num_experts) / len(mine)
            result[expert, expert] = 0
    return result


@right("12.4", "NumPy")
def _(experts, num_experts):
    chosen = np.zeros((len(experts), num_experts))
    np.put_along_axis(chosen, experts.numpy(), 1, axis=1)
    both, times = chosen.T @ chosen, chosen.sum(axis=0)
    share = np.divide(both, times[:, None], out=np.zeros_like(both), where=times[:, None] > 0)
    np.fill_diagonal(share, 0)
    return torch.tensor(share, dtype=torch.float32)


@right("12.4", "sets and Counter")
def _(experts, num_experts):
    times, both = Counter(experts.flatten().tolist()), Counter()
    for row in experts.tolist():
        both.update(permutations(row, 2))
    numbers = range(num_experts)
    return torch.tensor([[both[one, other] / max(times[one], 1) for other in numbers] for one in numbers])
