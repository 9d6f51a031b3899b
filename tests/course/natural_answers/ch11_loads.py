"""Natural answers to 11.3, 11.7, 11.8 and 11.9: loads of experts, by layer, row and record, and a bias for them."""

import math

import torch
from einops import rearrange, reduce
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("11.3", "11.7", "11.8", "11.9")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 11.3 entropy and dead ------------------------------------------------------------------------------------------------


def bits(counts):
    share = counts / counts.sum(-1, keepdim=True)
    return torch.special.entr(share).sum(-1) / math.log(2)


def dead(counts):
    return (counts < 0.1 * counts.float().mean(-1, keepdim=True)).sum(-1)


wrong("11.3", "nats", "nats", "bits", "log2")(lambda counts: (bits(counts) * math.log(2), dead(counts)))
wrong("11.3", "no care for zero", "nan", "0")(
    lambda counts: (
        -(counts / counts.sum(-1, keepdim=True) * (counts / counts.sum(-1, keepdim=True)).log2()).sum(-1),
        dead(counts),
    )
)
wrong("11.3", "a small number added", "")(
    lambda counts: (
        -(counts / counts.sum(-1, keepdim=True) * (counts / counts.sum(-1, keepdim=True) + 0.01).log2()).sum(-1),
        dead(counts),
    )
)
wrong("11.3", "minus forgotten", "sign", "negative", "minus")(lambda counts: (-bits(counts), dead(counts)))
wrong("11.3", "mean for sum", "times")(lambda counts: (bits(counts) / counts.shape[1], dead(counts)))
wrong("11.3", "counts for shares", "")(
    lambda counts: (torch.special.entr(counts.float()).sum(-1) / math.log(2), dead(counts))
)
wrong("11.3", "per cent of the most", "largest")(
    lambda counts: (bits(counts) / math.log2(counts.shape[1]), dead(counts))
)
wrong("11.3", "dead is zero", "without any token", "zero", "tenth")(
    lambda counts: (bits(counts), (counts == 0).sum(-1))
)
wrong("11.3", "dead is less than ten per cent", "0.1", "tenth")(
    lambda counts: (bits(counts), (counts / counts.sum(-1, keepdim=True) < 0.1).sum(-1))
)
wrong("11.3", "dead below a tenth of the largest", "")(
    lambda counts: (bits(counts), (counts < 0.5 * counts.amax(-1, keepdim=True)).sum(-1))
)
wrong("11.3", "dead as a mask", "expert", "shape")(
    lambda counts: (bits(counts), counts < 0.1 * counts.float().mean(-1, keepdim=True))
)
wrong("11.3", "dead in all layers", "shape", "layer")(lambda counts: (bits(counts), dead(counts).sum()))
wrong("11.3", "one entropy for all", "shape", "layer")(lambda counts: (bits(counts).mean(), dead(counts)))
wrong("11.3", "alive", "in use", "not the dead")(lambda counts: (bits(counts), counts.shape[1] - dead(counts)))
wrong("11.3", "exchanged", "exchang", "type", "dtype", "place")(lambda counts: (dead(counts), bits(counts)))
right("11.3", "entr")(lambda counts: (bits(counts), dead(counts)))


@right("11.3", "where")
def with_where(counts):
    p = counts.float() / counts.float().sum(1, keepdim=True)
    logs = torch.where(p > 0, p.log2(), torch.zeros_like(p))
    return -(p * logs).sum(1), (p < 0.1 / p.shape[1]).sum(1)


@right("11.3", "nan to num")
def with_nan_to_num(counts):
    p = counts / reduce(counts, "layer expert -> layer 1", "sum")
    return -(p * p.log2()).nan_to_num().sum(1), torch.sum(p * counts.shape[1] < 0.1, dim=1)


@right("11.3", "loops")
def with_loops(counts):
    entropy, gone = [], []
    for row in counts.tolist():
        total = sum(row)
        entropy.append(sum(-n / total * math.log2(n / total) for n in row if n))
        gone.append(sum(1 for n in row if n * len(row) / total < 0.1))
    return torch.tensor(entropy), torch.tensor(gone)


@right("11.3", "xlogy")
def with_xlogy(counts):
    p = counts / counts.sum(-1, keepdim=True)
    return -torch.xlogy(p, p).sum(-1) / torch.tensor(2.0).log(), (p < 1 / (10 * p.shape[-1])).sum(-1)


@right("11.3", "distributions")
def with_distributions(counts):
    p = counts / counts.sum(-1, keepdim=True)
    entropy = torch.distributions.Categorical(probs=p, validate_args=False).entropy() / math.log(2)
    return bits(counts) if not entropy.isfinite().all() else entropy.float(), dead(counts)


# 11.7 the load of each row --------------------------------------------------------------------------------------------


def hits(experts, num_experts):
    return F.one_hot(experts, num_experts).float().sum(1)


wrong("11.7", "position first", "row", "position")(
    lambda experts, rows, n: reduce(hits(experts, n), "(position row) expert -> row expert", "mean", row=rows)
)
wrong("11.7", "sum over positions", "sum", "mean")(
    lambda experts, rows, n: reduce(hits(experts, n), "(row position) expert -> row expert", "sum", row=rows)
)
wrong("11.7", "rows for positions", "shape")(
    lambda experts, rows, n: (
        reduce(hits(experts, n), "(row position) expert -> row expert", "mean", position=rows)
        if len(experts) // rows != rows
        else hits(experts, n)
    )
)
wrong("11.7", "mean over slots, too", "slot", "sum to one")(
    lambda experts, rows, n: reduce(
        F.one_hot(experts, n).float(), "(row position) slot expert -> row expert", "mean", row=rows
    )
)
wrong("11.7", "the batch", "shape", "row")(lambda experts, rows, n: hits(experts, n).mean(0))
wrong("11.7", "the batch for every row", "whole batch", "same", "row")(
    lambda experts, rows, n: hits(experts, n).mean(0).expand(rows, n)
)
wrong("11.7", "divided by all tokens", "all tokens", "times")(
    lambda experts, rows, n: (
        reduce(hits(experts, n), "(row position) expert -> row expert", "sum", row=rows) / len(experts)
    )
)
wrong("11.7", "whether at all", "at all", "max")(
    lambda experts, rows, n: reduce(hits(experts, n), "(row position) expert -> row expert", "max", row=rows)
)
wrong("11.7", "first slot", "first slot")(
    lambda experts, rows, n: reduce(
        F.one_hot(experts[:, 0], n).float(), "(row position) expert -> row expert", "mean", row=rows
    )
)
wrong("11.7", "expert first", "place", "swap", "axes", "shape")(
    lambda experts, rows, n: reduce(hits(experts, n), "(row position) expert -> expert row", "mean", row=rows)
)
wrong("11.7", "not reduced", "shape", "axes")(
    lambda experts, rows, n: rearrange(hits(experts, n), "(row position) expert -> row position expert", row=rows)
)
wrong("11.7", "integers", "dtype", "int", "count")(
    lambda experts, rows, n: reduce(F.one_hot(experts, n), "(row position) slot expert -> row expert", "sum", row=rows)
)
wrong("11.7", "in float64", "float64", "dtype")(
    lambda experts, rows, n: reduce(hits(experts, n).double(), "(row position) expert -> row expert", "mean", row=rows)
)
wrong("11.7", "shares that sum to one", "sum to one", "slot")(
    lambda experts, rows, n: F.normalize(
        reduce(hits(experts, n), "(row position) expert -> row expert", "sum", row=rows), p=1, dim=1
    )
)
right("11.7", "two steps")(
    lambda experts, rows, n: reduce(hits(experts, n), "(row position) expert -> row expert", "mean", row=rows)
)
right("11.7", "one pattern")(
    lambda experts, rows, n: (
        reduce(F.one_hot(experts, n).float(), "(row position) slot expert -> row expert", "sum", row=rows)
        / (len(experts) // rows)
    )
)
right("11.7", "einsum on rows")(
    lambda experts, rows, n: (
        torch.einsum("rpse->re", F.one_hot(rearrange(experts, "(r p) s -> r p s", r=rows), n).float())
        * (rows / len(experts))
    )
)
right("11.7", "chunks")(lambda experts, rows, n: torch.stack([hits(part, n).mean(0) for part in experts.chunk(rows)]))
right("11.7", "eye")(lambda experts, rows, n: reduce(torch.eye(n)[experts].sum(1), "(b s) e -> b e", "mean", b=rows))
right("11.7", "bincount of rows")(
    lambda experts, rows, n: torch.stack(
        [row.flatten().bincount(minlength=n) / len(row) for row in rearrange(experts, "(r p) k -> r p k", r=rows)]
    )
)

# 11.8 lost experts ----------------------------------------------------------------------------------------------------


def low(load):
    return load * load.shape[-1] < 0.1


def lost(load):
    tail = low(load).flip(0).int().cumprod(0).sum(0)
    return torch.where(tail > 0, len(load) - tail, -1)


wrong("11.8", "first low", "first", "come back")(
    lambda load: torch.where(low(load).any(0), low(load).int().argmax(0), -1)
)
wrong("11.8", "first low without -1", "first", "")(lambda load: low(load).int().argmax(0))
wrong("11.8", "last low", "")(
    lambda load: torch.where(low(load).any(0), len(load) - 1 - low(load).flip(0).int().argmax(0), -1)
)
wrong("11.8", "low at the end, as a mask", "which experts", "type", "dtype")(lambda load: low(load)[-1])
wrong("11.8", "number of low records", "number")(lambda load: low(load).sum(0))
wrong("11.8", "number of low records at the end", "")(lambda load: low(load).flip(0).int().cumprod(0).sum(0))
wrong("11.8", "threshold 0.1", "0.1", "tenth")(lambda load: lost_below(load, 0.1))
wrong("11.8", "threshold zero", "zero", "tenth")(lambda load: lost_below(load, 1e-9))
wrong("11.8", "threshold even", "even share", "tenth")(lambda load: lost_below(load, 1 / load.shape[-1]))
wrong("11.8", "threshold over layers", "")(lambda load: lost_below(load, 0.1 / (load.shape[-1] * load.shape[1])))
wrong("11.8", "the step for the record", "times", "")(lambda load: torch.where(lost(load) >= 0, 10 * lost(load), -1))
wrong("11.8", "from one", "from one", "zero")(lambda load: torch.where(lost(load) >= 0, lost(load) + 1, -1))
wrong("11.8", "one too early", "in use", "next")(lambda load: torch.where(lost(load) >= 0, lost(load) - 1, -1))
wrong("11.8", "the length for never", "-1", "number of records")(
    lambda load: torch.where(lost(load) >= 0, lost(load), len(load))
)
wrong("11.8", "zero for never", "0", "at once")(lambda load: lost(load).clamp(min=0))
wrong("11.8", "layers mixed", "")(lambda load: lost(load.mean(1, keepdim=True)).expand(load.shape[1:]).clone())
wrong("11.8", "floats", "dtype", "float")(lambda load: lost(load).float())


def lost_below(load, threshold):
    tail = (load < threshold).flip(0).int().cumprod(0).sum(0)
    return torch.where(tail > 0, len(load) - tail, -1)


right("11.8", "flip and cumprod")(lost)


@right("11.8", "loops")
def by_loops(load):
    answer = torch.full(load.shape[1:], -1)
    for layer in range(load.shape[1]):
        for expert in range(load.shape[2]):
            n = len(load)
            while n > 0 and load[n - 1, layer, expert] < 0.1 / load.shape[2]:
                n -= 1
            answer[layer, expert] = n if n < len(load) else -1
    return answer


@right("11.8", "each start")
def by_starts(load):
    found = torch.full(load.shape[1:], -1)
    for n in reversed(range(len(load))):
        found = torch.where(low(load)[n:].all(0), n, found)
    return found


@right("11.8", "last time in use")
def by_last(load):
    alive = ~low(load)
    last = torch.stack([torch.where(alive[n], n, -1) for n in range(len(load))]).amax(0)
    return torch.where(last == len(load) - 1, -1, last + 1)


@right("11.8", "cumulative maximum from the end")
def by_cummax(load):
    ever = (~low(load)).flip(0).int().cummax(0).values.flip(0)
    first = (1 - ever).argmax(0)
    return torch.where(ever[-1].bool(), -1, first)


@right("11.8", "records one by one")
def by_updates(load):
    since = torch.full(load.shape[1:], -1)
    for n, record in enumerate(low(load)):
        since = torch.where(record, torch.where(since < 0, n, since), -1)
    return since


# 11.9 the bias --------------------------------------------------------------------------------------------------------


def direction(counts):
    return torch.sign(counts.double().mean() - counts.double())


def centred(values):
    return values - values.mean()


wrong("11.9", "sign reversed", "busy", "raised", "less even")(
    lambda bias, counts, rate: centred(bias - rate * direction(counts).to(bias.dtype))
)
wrong("11.9", "no sign", "difference", "size", "sign")(
    lambda bias, counts, rate: centred(bias + rate * (counts.to(bias.dtype).mean() - counts.to(bias.dtype)))
)
wrong("11.9", "not centred", "mean")(lambda bias, counts, rate: bias + rate * direction(counts).to(bias.dtype))
wrong("11.9", "centred first", "mean", "centred")(
    lambda bias, counts, rate: centred(bias) + rate * direction(counts).to(bias.dtype)
)
wrong("11.9", "shares against 1/E, no sign", "")(
    lambda bias, counts, rate: centred(
        bias + rate * (1 / len(counts) - counts.to(bias.dtype) / counts.to(bias.dtype).sum())
    )
)
wrong("11.9", "relative error", "proportional", "relative", "sign")(
    lambda bias, counts, rate: centred(bias + rate * (1 - counts.to(bias.dtype) / counts.to(bias.dtype).mean()))
)
wrong("11.9", "where, equal goes down", "exactly", "stays")(
    lambda bias, counts, rate: centred(bias + torch.where(counts < counts.double().mean(), rate, -rate).to(bias.dtype))
)
wrong("11.9", "where, equal goes up", "exactly", "stays")(
    lambda bias, counts, rate: centred(bias + torch.where(counts > counts.double().mean(), -rate, rate).to(bias.dtype))
)
wrong("11.9", "median", "median")(
    lambda bias, counts, rate: centred(bias + rate * (counts.median() - counts).sign().to(bias.dtype))
)
wrong("11.9", "against zero", "")(lambda bias, counts, rate: centred(bias - rate * counts.sign().to(bias.dtype)))
wrong("11.9", "only the idle", "raised", "lowered")(
    lambda bias, counts, rate: centred(bias + rate * (counts < counts.double().mean()).to(bias.dtype))
)
wrong("11.9", "rate forgotten", "")(lambda bias, counts, rate: centred(bias + direction(counts).to(bias.dtype)))
wrong("11.9", "old bias forgotten", "old", "lost")(
    lambda bias, counts, rate: centred(rate * direction(counts).to(bias.dtype))
)
wrong("11.9", "mean zero by softmax", "")(
    lambda bias, counts, rate: (bias + rate * direction(counts).to(bias.dtype)).softmax(-1)
)


@wrong("11.9", "in place", "in place", "changed", "argument")
def in_place(bias, counts, rate):
    bias += rate * direction(counts).to(bias.dtype)
    bias -= bias.mean()
    return bias


wrong("11.9", "integer division of the mean", "")(
    lambda bias, counts, rate: centred(bias + rate * (counts.sum() // len(counts) + 1 - counts).sign().to(bias.dtype))
)
right("11.9", "sign")(lambda bias, counts, rate: centred(bias + rate * direction(counts).to(bias.dtype)))
right("11.9", "minus")(
    lambda bias, counts, rate: centred(bias - rate * torch.sign(counts - counts.double().mean()).to(bias.dtype))
)
right("11.9", "two masks")(
    lambda bias, counts, rate: centred(
        bias
        + rate * (counts < counts.double().mean()).to(bias.dtype)
        - rate * (counts > counts.double().mean()).to(bias.dtype)
    )
)
right("11.9", "whole numbers")(
    lambda bias, counts, rate: centred(bias + rate * (counts.sum() - counts * len(counts)).sign().to(bias.dtype))
)


@right("11.9", "clone and add in place")
def cloned(bias, counts, rate):
    new = bias.clone()
    new += rate * direction(counts).to(bias.dtype)
    new -= new.mean()
    return new


@right("11.9", "a loop")
def one_by_one(bias, counts, rate):
    even = counts.sum().item() / len(counts)
    moved = [b + rate * ((c < even) - (c > even)) for b, c in zip(bias.tolist(), counts.tolist(), strict=True)]
    return torch.tensor(moved, dtype=bias.dtype) - torch.tensor(moved, dtype=bias.dtype).mean()
