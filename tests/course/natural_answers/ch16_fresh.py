"""Natural answers to 16.1 to 16.8, written from the page alone, before the checks were read."""

import torch
from einops import rearrange
from torch.nn import functional as F

from minimoe.model.router import Routing
from tests.course.natural_answers.collect import Collection

collection = Collection(*(f"16.{number}" for number in range(1, 9)))
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 16.1 groups ----------------------------------------------------------------------------------------------------------


def kept(choice, groups, groups_kept, score, grouping="token (group member) -> token group member", fill=-torch.inf):
    grouped = rearrange(choice, grouping, group=groups)
    best = score(grouped).topk(groups_kept, dim=-1).indices
    mask = torch.zeros(len(choice), groups, dtype=torch.bool).scatter(1, best, True)
    result = grouped.masked_fill(~mask[:, :, None], fill)
    return rearrange(result, "token group member -> " + grouping.split(" -> ")[0])


def two_best(grouped):
    return grouped.topk(min(2, grouped.shape[-1]), dim=-1).values.sum(-1)


# "Best" is read as one
@wrong("16.1", "a group's best expert alone", "two", "best")
def _(choice, groups, groups_kept):
    return kept(choice, groups, groups_kept, lambda grouped: grouped.amax(-1))


# As V2 does with means, or a careless reading of "score"
@wrong("16.1", "mean of the whole group", "two", "sum", "mean")
def _(choice, groups, groups_kept):
    return kept(choice, groups, groups_kept, lambda grouped: grouped.mean(-1))


# The axes of the pattern in the wrong order: every eighth expert
@wrong("16.1", "groups of experts that are far apart", "neighbour")
def _(choice, groups, groups_kept):
    return kept(choice, groups, groups_kept, two_best, "token (member group) -> token group member")


# V3's own code fills with zeros
@wrong("16.1", "zeros in the others", "inf", "zero", "0")
def _(choice, groups, groups_kept):
    return kept(choice, groups, groups_kept, two_best, fill=0.0)


# masked_fill with the mask the wrong way round
@wrong("16.1", "the kept ones are masked", "not kept", "other", "round", "kept")
def _(choice, groups, groups_kept):
    grouped = rearrange(choice, "token (group member) -> token group member", group=groups)
    best = two_best(grouped).topk(groups_kept, dim=-1).indices
    mask = torch.zeros(len(choice), groups, dtype=torch.bool).scatter(1, best, True)
    return rearrange(grouped.masked_fill(mask[:, :, None], -torch.inf), "token group member -> token (group member)")


# groups_kept taken for the number of groups to drop
@wrong("16.1", "as many dropped as should be kept", "kept", "drop", "removed")
def _(choice, groups, groups_kept):
    return kept(choice, groups, groups - groups_kept, two_best)


# Groups chosen for all tokens together
@wrong("16.1", "the same groups for every token", "token", "each")
def _(choice, groups, groups_kept):
    grouped = rearrange(choice, "token (group member) -> token group member", group=groups)
    best = two_best(grouped).sum(0).topk(groups_kept).indices
    mask = torch.zeros(groups, dtype=torch.bool)
    mask[best] = True
    return rearrange(grouped.masked_fill(~mask[:, None], -torch.inf), "token group member -> token (group member)")


# The worst groups, from an ascending sort
@wrong("16.1", "ascending sort", "worst", "largest", "smallest", "best")
def _(choice, groups, groups_kept):
    return kept(choice, groups, groups_kept, lambda grouped: -two_best(grouped))


# `groups` read as the size of a group
@wrong("16.1", "groups taken for the size", "size", "group", "number")
def _(choice, groups, groups_kept):
    number = choice.shape[-1] // groups
    return kept(choice, number, min(groups_kept, number), two_best)


# Returns the mask
@wrong("16.1", "the mask instead of the scores", "mask", "dtype", "bool")
def _(choice, groups, groups_kept):
    return kept(choice, groups, groups_kept, two_best).isfinite()


@right("16.1", "threshold by loops")
def _(choice, groups, groups_kept):
    result = torch.full_like(choice, -torch.inf)
    size = choice.shape[-1] // groups
    for row, token in enumerate(choice):
        scores = [token[g * size : (g + 1) * size].sort(descending=True).values[:2].sum() for g in range(groups)]
        order = sorted(range(groups), key=lambda g: -float(scores[g]))[:groups_kept]
        for g in order:
            result[row, g * size : (g + 1) * size] = token[g * size : (g + 1) * size]
    return result


@right("16.1", "repeat of a mask")
def _(choice, groups, groups_kept):
    grouped = choice.unflatten(-1, (groups, -1))
    best = grouped.topk(2, dim=-1).values.sum(-1).topk(groups_kept, dim=-1).indices
    mask = F.one_hot(best, groups).sum(1).bool().repeat_interleave(choice.shape[-1] // groups, dim=1)
    return torch.where(mask, choice, -torch.inf)


# 16.2 gpt-oss ---------------------------------------------------------------------------------------------------------


# Qwen3's order, not renormalised
@wrong("16.2", "softmax over all, from the page", "all", "alone", "before")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    weights, experts = logits.softmax(-1).topk(top_k, dim=-1)
    return Routing(logits, experts, weights)


# The bias as in V3: for the choice only
@wrong("16.2", "the bias only chooses", "bias")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight)
    experts = (logits + bias).topk(top_k, dim=-1).indices
    return Routing(logits, experts, logits.gather(1, experts).softmax(-1))


@wrong("16.2", "no bias, from the page", "bias")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight)
    values, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, values.softmax(-1))


# dim=0 is the axis of tokens
@wrong("16.2", "softmax over the tokens, from the page", "token", "axis", "over")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    values, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, values.softmax(0))


# The logits returned without the bias
@wrong("16.2", "logits without their bias", "bias", "logits")
def _(hidden, weight, bias, top_k):
    plain = hidden @ weight.T
    values, experts = (plain + bias).topk(top_k, dim=-1)
    return Routing(plain, experts, values.softmax(-1))


# float32 for the softmax, and not cast back
@wrong("16.2", "weights stay in float32", "dtype", "float32")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    values, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, values.float().softmax(-1))


# Softmax of the masked whole, as mixtures are often written
@wrong("16.2", "weights for all experts", "shape", "slot")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    experts = logits.topk(top_k, dim=-1).indices
    masked = torch.full_like(logits, -torch.inf).scatter(1, experts, logits.gather(1, experts))
    return Routing(logits, experts, masked.softmax(-1))


# Divided by the sum instead of a softmax
@wrong("16.2", "logits divided by their sum, from the page", "softmax", "sum")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    values, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, values / values.sum(-1, keepdim=True))


# Softmax twice
@wrong("16.2", "a softmax of the softmax", "twice", "softmax")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    values, experts = logits.softmax(-1).topk(top_k, dim=-1)
    return Routing(logits, experts, values.softmax(-1))


@right("16.2", "sort, gather")
def _(hidden, weight, bias, top_k):
    logits = hidden @ weight.T + bias
    experts = logits.argsort(dim=-1, descending=True, stable=True)[:, :top_k]
    return Routing(logits, experts, logits.gather(-1, experts).softmax(dim=-1))


# 16.3 sparsemixer -----------------------------------------------------------------------------------------------------


def rounds(logits, epsilon, contend, weigh=None, out=True):
    left, experts, weights = logits.clone(), [], []
    for _ in range(2):
        best, chosen = left.max(dim=-1, keepdim=True)
        masked = contend(logits, left, best, epsilon)
        share = masked.softmax(-1).gather(1, chosen) if weigh is None else weigh(masked, chosen)
        experts.append(chosen)
        weights.append(share)
        if out:
            left = left.scatter(1, chosen, -torch.inf)
    return Routing(logits, torch.cat(experts, 1), torch.cat(weights, 1))


def near(logits, left, best, epsilon):
    gap = (best - left) / torch.maximum(logits.abs(), best)
    return left.masked_fill(gap > 2 * epsilon, -torch.inf)


# The 2 of the formula overlooked
@wrong("16.3", "epsilon once", "2", "twice", "epsilon", "factor")
def _(logits, epsilon):
    return rounds(logits, epsilon / 2, near)


# The contenders' threshold is left out
@wrong("16.3", "all that are left contend", "contender", "all", "near")
def _(logits, epsilon):
    return rounds(logits, epsilon, lambda logits, left, best, epsilon: left)


# Both from one top-2
@wrong("16.3", "the second with the contenders of the first", "second", "round", "best")
def _(logits, epsilon):
    values, experts = logits.topk(2, dim=-1)
    masked = near(logits, logits, values[:, :1], epsilon)
    return Routing(logits, experts, masked.softmax(-1).gather(1, experts))


# Plain top-2 with renormalising
@wrong("16.3", "a plain top-2", "round", "contender", "softmax", "two")
def _(logits, epsilon):
    values, experts = logits.topk(2, dim=-1)
    return Routing(logits, experts, values.softmax(-1))


# The absolute difference only
@wrong("16.3", "absolute gap", "divided", "relative", "gap", "max")
def _(logits, epsilon):
    return rounds(
        logits, epsilon, lambda logits, left, best, epsilon: left.masked_fill(best - left > 2 * epsilon, -torch.inf)
    )


# Divided by the best alone
@wrong("16.3", "relative to the best alone", "max", "best", "larger", "divided")
def _(logits, epsilon):
    return rounds(
        logits, epsilon,
        lambda logits, left, best, epsilon: left.masked_fill((best - left) / best.abs() > 2 * epsilon, -torch.inf),
    )  # fmt: skip


# Softmax over everything, then mask
@wrong("16.3", "the share of a softmax over all experts", "alone", "contender", "all", "over")
def _(logits, epsilon):
    return rounds(logits, epsilon, near, lambda masked, chosen: rearranged(logits, chosen))


def rearranged(logits, chosen):
    return logits.softmax(-1).gather(1, chosen)


# The winner stays in the second round
@wrong("16.3", "the winner is not taken out", "out", "twice", "same", "again")
def _(logits, epsilon):
    return rounds(logits, epsilon, near, out=False)


# Weights made to sum to one
@wrong("16.3", "divided by the sum of both", "sum", "renormal", "divided")
def _(logits, epsilon):
    routing = rounds(logits, epsilon, near)
    return routing._replace(weights=routing.weights / routing.weights.sum(-1, keepdim=True))


# Second round first
@wrong("16.3", "sorted by expert number", "order", "first", "round")
def _(logits, epsilon):
    routing = rounds(logits, epsilon, near)
    experts, order = routing.experts.sort(dim=-1)
    return routing._replace(experts=experts, weights=routing.weights.gather(1, order))


@right("16.3", "token by token, from the page")
def _(logits, epsilon):
    experts, weights = [], []
    for row in logits:
        left, chosen, shares = list(range(len(row))), [], []
        for _ in range(2):
            top = max(left, key=lambda e: float(row[e]))
            best = row[top]
            contenders = [e for e in left if (best - row[e]) / torch.maximum(row[e].abs(), best) <= 2 * epsilon]
            share = row[contenders].softmax(0)[contenders.index(top)]
            chosen.append(top)
            shares.append(share)
            left.remove(top)
        experts.append(torch.tensor(chosen))
        weights.append(torch.stack(shares))
    return Routing(logits, torch.stack(experts), torch.stack(weights))


@right("16.3", "two rounds with masks")
def _(logits, epsilon):
    return rounds(logits, epsilon, near)


# 16.4 leaks -----------------------------------------------------------------------------------------------------------


# Counts entries
@wrong("16.4", "entries instead of tokens", "token", "entries", "once", "row")
def _(choose, logits, seen):
    return int((choose(logits)[:seen] != choose(logits[:seen])).sum())


# Counts the unchanged
@wrong("16.4", "the tokens that stay", "stay", "unchanged", "same", "change")
def _(choose, logits, seen):
    return int((choose(logits)[:seen] == choose(logits[:seen])).all(1).sum())


# A share
@wrong("16.4", "the share of the tokens", "number", "share", "int", "float")
def _(choose, logits, seen):
    return float((choose(logits)[:seen] != choose(logits[:seen])).any(1).float().mean())


# Whether, not how many
@wrong("16.4", "whether any changes", "number", "bool", "many", "int")
def _(choose, logits, seen):
    return bool((choose(logits)[:seen] != choose(logits[:seen])).any())


# The future is replaced by zeros instead of taken away
@wrong("16.4", "later logits set to zero", "zero", "taken", "away", "there")
def _(choose, logits, seen):
    hidden = logits.clone()
    hidden[seen:] = 0
    return int((choose(logits)[:seen] != choose(hidden)[:seen]).any(1).sum())


# The past is taken away
@wrong("16.4", "the last tokens are compared", "first", "later", "past", "last")
def _(choose, logits, seen):
    return int((choose(logits)[seen:] != choose(logits[seen:])).any(1).sum())


# all() for any()
@wrong("16.4", "only if every entry differs", "any", "every", "all", "one")
def _(choose, logits, seen):
    return int((choose(logits)[:seen] != choose(logits[:seen])).all(1).sum())


# Compares the number of experts of a token
@wrong("16.4", "numbers of experts compared", "number", "which", "other", "experts")
def _(choose, logits, seen):
    return int((choose(logits)[:seen].sum(1) != choose(logits[:seen]).sum(1)).sum())


# Experts instead of tokens
@wrong("16.4", "experts that change", "expert", "token")
def _(choose, logits, seen):
    return int((choose(logits)[:seen] != choose(logits[:seen])).any(0).sum())


# One token fewer
@wrong("16.4", "one token short", "first", "seen", "one")
def _(choose, logits, seen):
    return int((choose(logits)[: seen - 1] != choose(logits[:seen])[: seen - 1]).any(1).sum())


@right("16.4", "with a loop")
def _(choose, logits, seen):
    full, cut = choose(logits), choose(logits[:seen])
    return sum(not torch.equal(full[n], cut[n]) for n in range(seen))


@right("16.4", "with xor")
def _(choose, logits, seen):
    return int((choose(logits)[:seen] ^ choose(logits[:seen])).any(dim=-1).sum())


# 16.5 hash ------------------------------------------------------------------------------------------------------------


def hashed(logits, token_ids, table, scale, score=lambda x: F.softplus(x).sqrt(), divide=True):
    experts = table[token_ids]
    scores = score(logits).gather(1, experts)
    return Routing(logits, experts, scale * (scores / scores.sum(-1, keepdim=True) if divide else scores))


@wrong("16.5", "no root, from the page", "root", "sqrt")
def _(logits, token_ids, table, scale):
    return hashed(logits, token_ids, table, scale, F.softplus)


@wrong("16.5", "softmax scores", "softmax", "softplus")
def _(logits, token_ids, table, scale):
    return hashed(logits, token_ids, table, scale, lambda x: x.softmax(-1))


@wrong("16.5", "sigmoid scores", "sigmoid", "softplus")
def _(logits, token_ids, table, scale):
    return hashed(logits, token_ids, table, scale, torch.sigmoid)


@wrong("16.5", "no sum", "sum", "divided")
def _(logits, token_ids, table, scale):
    return hashed(logits, token_ids, table, scale, divide=False)


@wrong("16.5", "no scale, from the page", "scale")
def _(logits, token_ids, table, scale):
    return hashed(logits, token_ids, table, 1.0)


# Sorted by weight, as all other routers do
@wrong("16.5", "sorted by weight, from the page", "order", "table")
def _(logits, token_ids, table, scale):
    routing = hashed(logits, token_ids, table, scale)
    weights, order = routing.weights.sort(dim=-1, descending=True)
    return Routing(logits, routing.experts.gather(1, order), weights)


# Position instead of id
@wrong("16.5", "the row of the place", "id", "place", "position")
def _(logits, token_ids, table, scale):
    return hashed(logits, torch.arange(len(token_ids)), table, scale)


# Divided by the sum over all experts
@wrong("16.5", "divided by the sum over all experts", "these", "sum", "all")
def _(logits, token_ids, table, scale):
    scores = F.softplus(logits).sqrt()
    experts = table[token_ids]
    return Routing(logits, experts, scale * scores.gather(1, experts) / scores.sum(-1, keepdim=True))


# Top-k after all
@wrong("16.5", "chosen by score", "table", "chosen", "top")
def _(logits, token_ids, table, scale):
    scores, experts = F.softplus(logits).sqrt().topk(table.shape[1], dim=-1)
    return Routing(logits, experts, scale * scores / scores.sum(-1, keepdim=True))


# Scale before the division cancels
@wrong("16.5", "scaled before the division, from the page", "scale", "after")
def _(logits, token_ids, table, scale):
    scores = scale * F.softplus(logits).sqrt().gather(1, table[token_ids])
    return Routing(logits, table[token_ids], scores / scores.sum(-1, keepdim=True))


@right("16.5", "log1p of exp")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    scores = torch.log1p(logits.gather(1, experts).exp()) ** 0.5
    return Routing(logits, experts, scores * scale / scores.sum(1)[:, None])


# 16.6 predictions -----------------------------------------------------------------------------------------------------

NAMES = (
    "sigmoid for softmax: other experts",
    "all logits times 2, softmax: other experts",
    "all logits times 2, sigmoid: other weights",
    "a bias of 0.1 on one expert, sigmoid: other experts possible",
    "scale 2.5 instead of 1: other ratios of the weights",
    "a bias of 0.1 on every expert: other experts",
    "√softplus, 2 is added to all logits: other experts",
    "of 8 groups 1 is kept: experts that can be chosen",
)
TRUTH = dict(zip(NAMES, (False, False, True, True, False, False, False, 16), strict=True))


def but(**changes):
    """The right predictions with changes by the number of the line."""
    return TRUTH | {NAMES[int(key[1:])]: value for key, value in changes.items()}


wrong("16.6", "sigmoid chooses otherwise, from the page", "sigmoid", "order")(but(_0=True))
wrong("16.6", "sharper logits choose otherwise", "order", "2", "times")(but(_1=True))
wrong("16.6", "renormalising undoes the factor", "ratio", "weight", "sigmoid")(but(_2=False))
wrong("16.6", "0.1 is too small", "bias", "near", "0.1")(but(_3=False))
wrong("16.6", "the scale changes ratios", "ratio", "scale", "factor")(but(_4=True))
wrong("16.6", "a bias is a bias", "every", "all", "same")(but(_5=True))
wrong("16.6", "not shift invariant", "order", "softplus", "added")(but(_6=True))
wrong("16.6", "8 of a group", "16", "group", "128")(but(_7=8))
wrong("16.6", "all 128", "16", "group", "128")(but(_7=128))
wrong("16.6", "two at once", "sigmoid", "order", "group")(but(_0=True, _7=8))
right("16.6", "as they are")(dict(TRUTH))
right("16.6", "ones and zeros")({name: int(value) for name, value in TRUTH.items()})

# 16.7 bias ------------------------------------------------------------------------------------------------------------


# The bug left, renamed
@wrong("16.7", "the bug as it stands", "bias", "weights")
def _(logits, bias, top_k, scale):
    choice = logits.sigmoid() + bias
    weights, experts = choice.topk(top_k, dim=-1)
    return Routing(logits, experts, scale * weights / weights.sum(dim=-1, keepdim=True))


# Bias removed altogether
@wrong("16.7", "no bias at all, from the page", "bias")
def _(logits, bias, top_k, scale):
    weights, experts = logits.sigmoid().topk(top_k, dim=-1)
    return Routing(logits, experts, scale * weights / weights.sum(dim=-1, keepdim=True))


# Bias into the logits
@wrong("16.7", "the bias before the sigmoid", "sigmoid", "before", "logit")
def _(logits, bias, top_k, scale):
    experts = (logits + bias).sigmoid().topk(top_k, dim=-1).indices
    weights = logits.sigmoid().gather(1, experts)
    return Routing(logits, experts, scale * weights / weights.sum(dim=-1, keepdim=True))


# The bias is subtracted after the division
@wrong("16.7", "subtracted after the division, from the page", "after", "bias", "division", "before")
def _(logits, bias, top_k, scale):
    weights, experts = (logits.sigmoid() + bias).topk(top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, scale * (weights - bias[experts]))


# Logits gathered instead of scores
@wrong("16.7", "weights from the logits", "sigmoid", "logits")
def _(logits, bias, top_k, scale):
    experts = (logits.sigmoid() + bias).topk(top_k, dim=-1).indices
    weights = logits.gather(1, experts)
    return Routing(logits, experts, scale * weights / weights.sum(dim=-1, keepdim=True))


# No renormalising after the gather
@wrong("16.7", "not divided any more", "sum", "divided", "renormal")
def _(logits, bias, top_k, scale):
    experts = (logits.sigmoid() + bias).topk(top_k, dim=-1).indices
    return Routing(logits, experts, scale * logits.sigmoid().gather(1, experts))


# Scale lost
@wrong("16.7", "the scale is lost", "scale")
def _(logits, bias, top_k, scale):
    experts = (logits.sigmoid() + bias).topk(top_k, dim=-1).indices
    weights = logits.sigmoid().gather(1, experts)
    return Routing(logits, experts, weights / weights.sum(dim=-1, keepdim=True))


# Softmax of the scores
@wrong("16.7", "a softmax of the chosen logits", "softmax", "sigmoid")
def _(logits, bias, top_k, scale):
    experts = (logits.sigmoid() + bias).topk(top_k, dim=-1).indices
    return Routing(logits, experts, scale * logits.gather(1, experts).softmax(-1))


# Sorted by weight again
@wrong("16.7", "sorted by weight again", "order", "falling", "score + bias")
def _(logits, bias, top_k, scale):
    experts = (logits.sigmoid() + bias).topk(top_k, dim=-1).indices
    weights, order = logits.sigmoid().gather(1, experts).sort(dim=-1, descending=True)
    return Routing(logits, experts.gather(1, order), scale * weights / weights.sum(dim=-1, keepdim=True))


# Divided by the sum over all experts
@wrong("16.7", "divided by all scores", "sum", "all", "chosen")
def _(logits, bias, top_k, scale):
    scores = logits.sigmoid()
    experts = (scores + bias).topk(top_k, dim=-1).indices
    return Routing(logits, experts, scale * scores.gather(1, experts) / scores.sum(-1, keepdim=True))


@right("16.7", "the bias taken off again before the division")
def _(logits, bias, top_k, scale):
    scores = torch.sigmoid(logits)
    experts = torch.argsort(scores + bias, dim=-1, descending=True, stable=True)[..., :top_k]
    weights = torch.take_along_dim(scores, experts, dim=-1)
    return Routing(logits, experts, weights * (scale / weights.sum(-1, keepdim=True)))


# 16.8 parameters ------------------------------------------------------------------------------------------------------


def counted(c, matrices=3, dense_layers=None, router=True, active_router=True, shared=True, active_shared=True, k=None):
    dense_layers = c["first_k_dense_replace"] if dense_layers is None else dense_layers
    sparse = c["num_hidden_layers"] - dense_layers
    one = matrices * c["hidden_size"] * c["moe_intermediate_size"]
    dense = dense_layers * matrices * c["hidden_size"] * c["intermediate_size"]
    gate = c["n_routed_experts"] * c["hidden_size"]
    k = c["num_experts_per_tok"] if k is None else k
    n = c["n_shared_experts"]
    every = dense + sparse * (gate * router + (c["n_routed_experts"] + n * shared) * one)
    active = dense + sparse * (gate * active_router + (k + n * active_shared) * one)
    return every, active


@wrong("16.8", "two matrices, from the page", "three", "gate", "matri")
def _(config):
    return counted(config, matrices=2)


@wrong("16.8", "all layers have experts", "dense", "first")
def _(config):
    return counted(config, dense_layers=0)


@wrong("16.8", "without routers", "router")
def _(config):
    return counted(config, router=False, active_router=False)


# Only the rows of the chosen experts work, one thinks
@wrong("16.8", "the router does not count as active", "router", "active", "works")
def _(config):
    return counted(config, active_router=False)


@wrong("16.8", "shared experts forgotten", "shared")
def _(config):
    return counted(config, shared=False, active_shared=False)


# Shared experts taken for some of the eight
@wrong("16.8", "shared among the eight, from the page", "shared", "always")
def _(config):
    return counted(config, active_shared=False)


# Shared experts taken for some of the 256
@wrong("16.8", "shared among the routed", "shared")
def _(config):
    return counted(config, shared=False)


# The dense layers with the width of an expert
@wrong("16.8", "dense layers as wide as an expert", "intermediate_size", "wide", "dense")
def _(config):
    return counted(config | {"intermediate_size": config["moe_intermediate_size"]})


# Active and all exchanged
@wrong("16.8", "active first", "order", "first", "round", "exchanged")
def _(config):
    return counted(config)[::-1]


# Dense layers do not count as active
@wrong("16.8", "dense layers not active", "dense", "active", "work")
def _(config):
    every, active = counted(config)
    dense = config["first_k_dense_replace"] * 3 * config["hidden_size"] * config["intermediate_size"]
    return every, active - dense


# In billions
@wrong("16.8", "in billions", "billion", "int", "float")
def _(config):
    return tuple(count / 1e9 for count in counted(config))


@right("16.8", "layer by layer, from the page")
def _(config):
    every = active = 0
    h, m = config["hidden_size"], config["moe_intermediate_size"]
    for layer in range(config["num_hidden_layers"]):
        if layer < config["first_k_dense_replace"]:
            every += 3 * h * config["intermediate_size"]
            active += 3 * h * config["intermediate_size"]
        else:
            every += h * config["n_routed_experts"]
            active += h * config["n_routed_experts"]
            every += 3 * h * m * (config["n_routed_experts"] + config["n_shared_experts"])
            active += 3 * h * m * (config["num_experts_per_tok"] + config["n_shared_experts"])
    return every, active
