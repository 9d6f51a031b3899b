"""Natural answers to 11.1, 11.2 and 11.4: f and P, the balancing loss, and its three classic mistakes."""

import numpy as np
import torch
from einops import einsum, rearrange, reduce, repeat
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("11.1", "11.2", "11.4")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


def hits_of(scores, top_k):
    return torch.zeros_like(scores, dtype=torch.float32).scatter(-1, scores.topk(top_k).indices, 1.0)


# 11.1 f and P ---------------------------------------------------------------------------------------------------------


@wrong("11.1", "f over all slots", "slot", "sum")
def f_over_slots(logits, top_k):
    p = logits.float().softmax(-1)
    counts = torch.bincount(logits.topk(top_k).indices.flatten(), minlength=logits.shape[1])
    return counts / counts.sum(), p.mean(0)


@wrong("11.1", "f as counts", "count", "divide")
def f_as_counts(logits, top_k):
    counts = torch.bincount(logits.topk(top_k).indices.flatten(), minlength=logits.shape[1])
    return counts, logits.float().softmax(-1).mean(0)


@wrong("11.1", "argmax for top-k", "best", "other")
def f_of_argmax(logits, top_k):
    return F.one_hot(logits.argmax(-1), logits.shape[-1]).float().mean(0), logits.float().softmax(-1).mean(0)


@wrong("11.1", "weights of route for f", "weight", "probabilit", "count")
def f_of_weights(logits, top_k):
    p = logits.float().softmax(-1)
    w, e = p.topk(top_k)
    return torch.zeros(logits.shape[1]).index_add(0, e.flatten(), w.flatten()) / len(logits), p.mean(0)


@wrong("11.1", "P as a sum", "sum", "mean")
def p_summed(logits, top_k):
    return hits_of(logits, top_k).mean(0), logits.float().softmax(-1).sum(0)


@wrong("11.1", "P masked by the choice", "chosen", "not chosen")
def p_masked(logits, top_k):
    hits = hits_of(logits, top_k)
    return hits.mean(0), (logits.float().softmax(-1) * hits).mean(0)


@wrong("11.1", "softmax over dim 0", "token", "dim")
def p_dim_0(logits, top_k):
    return hits_of(logits, top_k).mean(0), logits.float().softmax(0).mean(0)


@wrong("11.1", "softmax over dim 0, mean over dim 1", "shape", "token", "axes")
def p_dim_1(logits, top_k):
    return hits_of(logits, top_k).mean(0), logits.float().softmax(-1).mean(1)


@wrong("11.1", "P of the mean logits", "mean", "softmax")
def p_of_mean(logits, top_k):
    return hits_of(logits, top_k).mean(0), logits.float().mean(0).softmax(-1)


@wrong("11.1", "softmax of the chosen logits only", "chosen", "renormalis")
def p_of_chosen_softmax(logits, top_k):
    values, experts = logits.float().topk(top_k)
    p = torch.zeros_like(logits, dtype=torch.float32).scatter(-1, experts, values.softmax(-1))
    return hits_of(logits, top_k).mean(0), p.mean(0)


@wrong("11.1", "P and f", "place", "exchang")
def p_and_f(logits, top_k):
    return logits.float().softmax(-1).mean(0), hits_of(logits, top_k).mean(0)


@wrong("11.1", "per token", "per token", "shape")
def per_token(logits, top_k):
    return hits_of(logits, top_k), logits.float().softmax(-1)


@wrong("11.1", "only f", "type", "tuple", "tensor")
def only_f(logits, top_k):
    return hits_of(logits, top_k).mean(0)


@wrong("11.1", "in the dtype of the logits", "dtype", "bfloat16", "float")
def in_bfloat16(logits, top_k):
    return hits_of(logits, top_k).mean(0).to(logits.dtype), logits.softmax(-1).mean(0)


@wrong("11.1", "f from a threshold", "")
def f_from_threshold(logits, top_k):
    p = logits.float().softmax(-1)
    return (p > 1 / logits.shape[-1]).float().mean(0), p.mean(0)


@wrong("11.1", "divided by experts", "times")
def divided_by_experts(logits, top_k):
    return hits_of(logits, top_k).sum(0) / logits.shape[1], logits.float().softmax(-1).mean(0)


@right("11.1", "scatter")
def with_scatter(logits, top_k):
    return hits_of(logits, top_k).mean(0), logits.float().softmax(-1).mean(0)


@right("11.1", "loops")
def with_loops(logits, top_k):
    n, experts = logits.shape
    p = torch.softmax(logits.float(), 1)
    f = [sum(e in row for row in p.topk(top_k).indices.tolist()) / n for e in range(experts)]
    return torch.tensor(f), torch.stack([p[:, e].sum() / n for e in range(experts)])


@right("11.1", "einops")
def with_einops(logits, top_k):
    p = logits.softmax(dim=-1, dtype=torch.float32)
    one = rearrange(p.topk(top_k).indices, "t k -> t k 1") == torch.arange(logits.shape[-1])
    return reduce(one.float(), "t k e -> e", "sum") / len(p), reduce(p, "t e -> e", "mean")


@right("11.1", "one-hot any")
def with_any(logits, top_k):
    chosen = F.one_hot(logits.topk(top_k).indices, logits.shape[-1]).bool().any(dim=1)
    return chosen.float().mean(0), F.softmax(logits.float(), dim=-1).mean(0)


@right("11.1", "a list")
def in_a_list(logits, top_k):
    return [hits_of(logits, top_k).mean(0), logits.float().softmax(-1).mean(0)]


@right("11.1", "threshold at the k-th")
def with_kth(logits, top_k):
    kth = logits.float().topk(top_k).values[:, -1:]
    return (logits.float() >= kth).float().mean(0), logits.float().softmax(-1).mean(0)


# 11.2 the loss --------------------------------------------------------------------------------------------------------


@wrong("11.2", "without num_experts", "factor", "number of experts")
def without_experts(logits, top_k):
    return (hits_of(logits, top_k).mean(0) * logits.float().softmax(-1).mean(0)).sum()


@wrong("11.2", "papers' form", "k", "paper")
def papers(logits, top_k):
    return logits.shape[1] * (hits_of(logits, top_k).mean(0) / top_k * logits.float().softmax(-1).mean(0)).sum()


@wrong("11.2", "mean", "mean", "averaged", "added")
def by_mean(logits, top_k):
    return (hits_of(logits, top_k).mean(0) * logits.float().softmax(-1).mean(0)).mean()


@wrong("11.2", "a float by item", "type", "float", "tensor")
def by_item(logits, top_k):
    return logits.shape[1] * (hits_of(logits, top_k).mean(0) * logits.float().softmax(-1).mean(0)).sum().item()


@wrong("11.2", "under no_grad", "gradient")
def under_no_grad(logits, top_k):
    with torch.no_grad():
        return logits.shape[1] * (hits_of(logits, top_k).mean(0) * logits.float().softmax(-1).mean(0)).sum()


@wrong("11.2", "rebuilt from numbers", "gradient")
def rebuilt(logits, top_k):
    p = logits.float().softmax(-1).mean(0).tolist()
    f = hits_of(logits, top_k).mean(0).tolist()
    return torch.tensor(len(p) * sum(a * b for a, b in zip(f, p, strict=True)))


@wrong("11.2", "P over the chosen", "chosen")
def chosen_p(logits, top_k):
    hits = hits_of(logits, top_k)
    return logits.shape[1] * (hits.mean(0) * (hits * logits.float().softmax(-1)).mean(0)).sum()


@wrong("11.2", "per expert", "expert", "shape", "add")
def per_expert(logits, top_k):
    return logits.shape[1] * hits_of(logits, top_k).mean(0) * logits.float().softmax(-1).mean(0)


@wrong("11.2", "counts for f", "times", "tokens", "divide")
def with_counts(logits, top_k):
    return logits.shape[1] * (hits_of(logits, top_k).sum(0) * logits.float().softmax(-1).mean(0)).sum()


@wrong("11.2", "sums for P", "times", "tokens", "divide")
def with_sums(logits, top_k):
    return logits.shape[1] * (hits_of(logits, top_k).mean(0) * logits.float().softmax(-1).sum(0)).sum()


@wrong("11.2", "variance of the load", "")
def variance(logits, top_k):
    f = hits_of(logits, top_k).mean(0)
    return f.var() / f.mean() ** 2


@wrong("11.2", "product before the mean", "token", "mean")
def product_first(logits, top_k):
    return logits.shape[1] * (hits_of(logits, top_k) * logits.float().softmax(-1)).mean(0).sum()


@wrong("11.2", "argmax", "best", "choices")
def with_argmax(logits, top_k):
    f = F.one_hot(logits.argmax(-1), logits.shape[1]).float().mean(0)
    return logits.shape[1] * (f * logits.float().softmax(-1).mean(0)).sum()


@wrong("11.2", "minus", "sign")
def negative(logits, top_k):
    return -logits.shape[1] * (hits_of(logits, top_k).mean(0) * logits.float().softmax(-1).mean(0)).sum()


@wrong("11.2", "top_k for num_experts", "")
def times_top_k(logits, top_k):
    return top_k * (hits_of(logits, top_k).mean(0) * logits.float().softmax(-1).mean(0)).sum()


@wrong("11.2", "P squared", "f", "P")
def p_squared(logits, top_k):
    return logits.shape[1] * logits.float().softmax(-1).mean(0).pow(2).sum()


@wrong("11.2", "in bfloat16", "dtype", "bfloat16")
def loss_in_dtype(logits, top_k):
    p = logits.softmax(-1)
    return logits.shape[1] * (hits_of(logits, top_k).to(p.dtype).mean(0) * p.mean(0)).sum()


@right("11.2", "plain")
def plain(logits, top_k):
    return logits.shape[1] * (hits_of(logits, top_k).mean(0) * logits.float().softmax(-1).mean(0)).sum()


@right("11.2", "dot")
def dot(logits, top_k):
    f, p = hits_of(logits, top_k).mean(0), logits.float().softmax(-1).mean(0)
    return f @ p * len(p)


@right("11.2", "einsum of hits")
def einsum_of_hits(logits, top_k):
    f = reduce(hits_of(logits, top_k), "token expert -> expert", "mean")
    return einsum(f, logits.float().softmax(-1), "expert, token expert -> ") * logits.shape[1] / logits.shape[0]


@right("11.2", "loop with gradient")
def loop(logits, top_k):
    p, chosen = logits.float().softmax(-1), logits.topk(top_k).indices
    total = logits.float().sum() * 0
    for e in range(logits.shape[1]):
        total = total + (chosen == e).sum() / len(logits) * p[:, e].mean()
    return logits.shape[1] * total


@right("11.2", "f detached")
def f_detached(logits, top_k):
    p = torch.softmax(logits.float(), dim=1)
    f = hits_of(p.detach(), top_k).mean(0)
    return torch.sum(f * p.mean(0)) * p.shape[1]


@right("11.2", "in float64 and back")
def float64(logits, top_k):
    p = logits.double().softmax(-1)
    return (len(p[0]) * (hits_of(p.detach(), top_k).double().mean(0) * p.mean(0)).sum()).float()


# 11.4 the three mistakes ----------------------------------------------------------------------------------------------


def chosen_shares(probabilities, top_k):
    return hits_of(probabilities, top_k).mean(0)


@wrong("11.4", "only the softmax removed", "P", "factor")
def one_fixed(probabilities, top_k):
    hits = hits_of(probabilities, top_k)
    return (hits.mean(0) * (hits * probabilities).mean(0)).sum()


@wrong("11.4", "only the factor added", "softmax", "P")
def factor_added(probabilities, top_k):
    p = probabilities.softmax(-1)
    hits = hits_of(p, top_k)
    return p.shape[1] * (hits.mean(0) * (hits * p).mean(0)).sum()


@wrong("11.4", "only P repaired", "softmax", "factor")
def p_repaired(probabilities, top_k):
    p = probabilities.softmax(-1)
    return (chosen_shares(p, top_k) * p.mean(0)).sum()


@wrong("11.4", "softmax overlooked", "softmax")
def softmax_left(probabilities, top_k):
    p = probabilities.softmax(-1)
    return p.shape[1] * (chosen_shares(p, top_k) * p.mean(0)).sum()


@wrong("11.4", "factor overlooked", "factor", "num_experts")
def factor_left(probabilities, top_k):
    return (chosen_shares(probabilities, top_k) * probabilities.mean(0)).sum()


@wrong("11.4", "P overlooked", "P", "chosen")
def p_left(probabilities, top_k):
    hits = hits_of(probabilities, top_k)
    return probabilities.shape[1] * (hits.mean(0) * (hits * probabilities).mean(0)).sum()


@wrong("11.4", "weights divided", "renormalised", "P")
def weights_divided(probabilities, top_k):
    w, e = probabilities.topk(top_k)
    p = torch.zeros_like(probabilities).scatter(-1, e, w / w.sum(-1, keepdim=True)).mean(0)
    return probabilities.shape[1] * (chosen_shares(probabilities, top_k) * p).sum()


@wrong("11.4", "divided by k", "k")
def by_k(probabilities, top_k):
    return probabilities.shape[1] * (chosen_shares(probabilities, top_k) / top_k * probabilities.mean(0)).sum()


@wrong("11.4", "k as the factor", "top_k", "factor")
def k_as_factor(probabilities, top_k):
    return top_k * (chosen_shares(probabilities, top_k) * probabilities.mean(0)).sum()


@wrong("11.4", "tokens as the factor", "tokens", "factor")
def tokens_as_factor(probabilities, top_k):
    return len(probabilities) * (chosen_shares(probabilities, top_k) * probabilities.mean(0)).sum()


@wrong("11.4", "log in front of the softmax, factor left", "factor", "num_experts")
def logs(probabilities, top_k):
    p = probabilities.log().softmax(-1)
    return (chosen_shares(p, top_k) * p.mean(0)).sum()


@wrong("11.4", "P as a sum", "times", "sum", "tokens")
def p_sum(probabilities, top_k):
    return probabilities.shape[1] * (chosen_shares(probabilities, top_k) * probabilities.sum(0)).sum()


@wrong("11.4", "per expert", "shape", "axes")
def not_summed(probabilities, top_k):
    return probabilities.shape[1] * chosen_shares(probabilities, top_k) * probabilities.mean(0)


@right("11.4", "the three lines")
def three_lines(probabilities, top_k):
    num_experts = probabilities.shape[-1]
    weights, experts = probabilities.topk(top_k, dim=-1)
    chosen = F.one_hot(experts, num_experts).to(probabilities.dtype)
    f = reduce(chosen, "token slot expert -> expert", "sum") / len(probabilities)
    return num_experts * (f * probabilities.mean(dim=0)).sum()


@right("11.4", "scatter")
def scattered(probabilities, top_k):
    return probabilities.shape[1] * (chosen_shares(probabilities, top_k) * probabilities.mean(0)).sum()


@right("11.4", "log and softmax")
def log_softmax(probabilities, top_k):
    p = probabilities.clamp(min=1e-30).log().softmax(-1)
    return p.shape[1] * (chosen_shares(p, top_k) * p.mean(0)).sum()


@right("11.4", "loops")
def four_loops(probabilities, top_k):
    tokens, experts = probabilities.shape
    chosen = probabilities.topk(top_k).indices.tolist()
    f = [sum(e in row for row in chosen) / tokens for e in range(experts)]
    return torch.stack([experts * f[e] * probabilities[:, e].mean() for e in range(experts)]).sum()


@right("11.4", "repeat")
def with_repeat(probabilities, top_k):
    f = repeat(chosen_shares(probabilities, top_k), "expert -> token expert", token=len(probabilities))
    return (f * probabilities).sum() * probabilities.shape[1] / len(probabilities)


@right("11.4", "dot")
def with_dot(probabilities, top_k):
    return np.prod(probabilities.shape[1:]).item() * chosen_shares(probabilities, top_k).dot(probabilities.mean(0))
