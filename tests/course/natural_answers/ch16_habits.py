"""Natural answers to 16.4 to 16.8: the future, a table, predictions, a bias in the weights, a stranger's size."""

import torch
from torch.nn import functional as F

from minimoe.model.router import Routing
from tests.course.natural_answers import Wrong
from tests.course.natural_answers.collect import Collection

collection = Collection("16.4", "16.5", "16.6", "16.7", "16.8")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 16.4 leaks -----------------------------------------------------------------------------------------------------------


@right("16.4", "any over the experts")
def _(choose, logits, seen):
    return int((choose(logits)[:seen] != choose(logits[:seen])).any(dim=-1).sum())


@right("16.4", "exclusive or")
def _(choose, logits, seen):
    return ((choose(logits)[:seen] ^ choose(logits[:seen])).sum(-1) > 0).sum().item()


@right("16.4", "a loop")
def _(choose, logits, seen):
    with_future, without = choose(logits), choose(logits[:seen])
    count = 0
    for token in range(seen):
        if with_future[token].tolist() != without[token].tolist():
            count += 1
    return count


@right("16.4", "sets")
def _(choose, logits, seen):
    def sets(rows):
        return [frozenset(row.nonzero().flatten().tolist()) for row in rows]

    return sum(a != b for a, b in zip(sets(choose(logits)), sets(choose(logits[:seen])), strict=False))


@right("16.4", "not all equal")
def _(choose, logits, seen):
    same = (choose(logits)[:seen] == choose(logits[:seen])).all(-1)
    return seen - int(same.sum())


@right("16.4", "a tensor")
def _(choose, logits, seen):
    return (choose(logits)[:seen].int() - choose(logits[:seen]).int()).abs().amax(-1).sum()


@wrong("16.4", "pairs of token and expert", "pairs", "token", "expert")
def _(choose, logits, seen):
    return int((choose(logits)[:seen] != choose(logits[:seen])).sum())


@wrong("16.4", "experts instead of tokens", "experts", "token")
def _(choose, logits, seen):
    return int((choose(logits)[:seen] != choose(logits[:seen])).any(dim=0).sum())


@wrong("16.4", "those that stay", "same", "stay", "unchanged", "keep")
def _(choose, logits, seen):
    return int((choose(logits)[:seen] == choose(logits[:seen])).all(dim=-1).sum())


@wrong("16.4", "a share", "share", "number", "count")
def _(choose, logits, seen):
    return float((choose(logits)[:seen] != choose(logits[:seen])).any(dim=-1).float().mean())


@wrong("16.4", "yes or no", "number", "how many", "count", "yes")
def _(choose, logits, seen):
    return bool((choose(logits)[:seen] != choose(logits[:seen])).any())


@wrong("16.4", "the last tokens", "last", "first", "same tokens")
def _(choose, logits, seen):
    return int((choose(logits)[-seen:] != choose(logits[:seen])).any(dim=-1).sum())


@wrong("16.4", "how many experts a token has", "number of", "how many", "which")
def _(choose, logits, seen):
    return int((choose(logits)[:seen].sum(-1) != choose(logits[:seen]).sum(-1)).sum())


@wrong("16.4", "what is cut off counts, too", "cut off", "behind", "after", "first")
def _(choose, logits, seen):
    full, cut = choose(logits), torch.zeros_like(choose(logits))
    cut[:seen] = choose(logits[:seen])
    return int((full != cut).any(dim=-1).sum())


@wrong("16.4", "zeros in the place of the future", "zero", "cut", "shorter")
def _(choose, logits, seen):
    blank = logits.clone()
    blank[seen:] = 0
    return int((choose(logits)[:seen] != choose(blank)[:seen]).any(dim=-1).sum())


@wrong("16.4", "the past is cut off", "past", "before", "behind", "first")
def _(choose, logits, seen):
    return int((choose(logits)[seen:] != choose(logits[seen:])).any(dim=-1).sum())


@wrong("16.4", "one token more", "one", "seen")
def _(choose, logits, seen):
    return int((choose(logits)[: seen + 1] != choose(logits[: seen + 1])).any(dim=-1).sum())


@wrong("16.4", "the load of the experts", "load", "experts", "token")
def _(choose, logits, seen):
    return int((choose(logits)[:seen].sum(0) != choose(logits[:seen]).sum(0)).sum())


@wrong("16.4", "the last seen token alone", "last", "all", "every")
def _(choose, logits, seen):
    return int((choose(logits)[seen - 1] != choose(logits[:seen])[-1]).any())


# 16.5 hash_route ------------------------------------------------------------------------------------------------------


def root(x):
    return F.softplus(x).sqrt()


def share(w):
    return w / w.sum(-1, keepdim=True)


@right("16.5", "gather, then score")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, scale * share(root(logits.gather(-1, experts))))


@right("16.5", "score, then gather")
def _(logits, token_ids, table, scale):
    experts = F.embedding(token_ids, table)
    weights = root(logits).gather(1, experts)
    weights = weights / weights.sum(1, keepdim=True)
    return Routing(logits, experts, weights * scale)


@right("16.5", "log and exp")
def _(logits, token_ids, table, scale):
    experts = table.index_select(0, token_ids)
    return Routing(logits, experts, scale * share((1 + logits.gather(-1, experts).exp()).log() ** 0.5))


@right("16.5", "token by token")
def _(logits, token_ids, table, scale):
    experts = torch.stack([table[int(i)] for i in token_ids])
    rows = [scale * share(root(row[e])) for row, e in zip(logits, experts, strict=True)]
    return Routing(logits, experts, torch.stack(rows))


@right("16.5", "take along")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    s = torch.take_along_dim(root(logits), experts, dim=-1)
    return Routing(logits, experts, s * (scale / s.sum(dim=-1, keepdim=True)))


@right("16.5", "a plain tuple")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return logits, experts, share(root(logits.gather(-1, experts))) * scale


@wrong("16.5", "the best scores", "table", "token")
def _(logits, token_ids, table, scale):
    w, experts = root(logits).topk(table.shape[1], dim=-1)
    return Routing(logits, experts, scale * share(w))


@wrong("16.5", "a softmax over all, divided", "softmax")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, scale * share(logits.softmax(-1).gather(-1, experts)))


@wrong("16.5", "a softmax over all", "softmax")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, scale * logits.softmax(-1).gather(-1, experts))


@wrong("16.5", "sigmoids", "sigmoid")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, scale * share(logits.gather(-1, experts).sigmoid()))


@wrong("16.5", "not divided", "sum", "divide")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, scale * root(logits.gather(-1, experts)))


@wrong("16.5", "no scale", "scale")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, share(root(logits.gather(-1, experts))))


@wrong("16.5", "scaled before the division", "scale")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, share(scale * root(logits.gather(-1, experts))))


@wrong("16.5", "even weights", "same weight", "even", "all weights")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, torch.full(experts.shape, scale / experts.shape[1], dtype=logits.dtype))


@wrong("16.5", "all weights 1", "1", "paper")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, torch.ones(experts.shape, dtype=logits.dtype))


@wrong("16.5", "no root", "root")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, scale * share(F.softplus(logits.gather(-1, experts))))


@wrong("16.5", "no softplus", "softplus")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, scale * share(logits.gather(-1, experts).clamp(min=0).sqrt()))


@wrong("16.5", "the logits", "logits", "softplus")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, scale * share(logits.gather(-1, experts)))


@wrong("16.5", "divided by all experts' scores", "all experts", "chosen", "sum")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    return Routing(logits, experts, scale * share(root(logits)).gather(-1, experts))


@wrong("16.5", "positions instead of ids", "position", "id")
def _(logits, token_ids, table, scale):
    experts = table[torch.arange(len(logits)) % len(table)]
    return Routing(logits, experts, scale * share(root(logits.gather(-1, experts))))


@wrong("16.5", "sorted by weight", "order", "table")
def _(logits, token_ids, table, scale):
    experts = table[token_ids]
    w, order = share(root(logits.gather(-1, experts))).sort(-1, descending=True)
    return Routing(logits, experts.gather(-1, order), scale * w)


# 16.6 predictions -----------------------------------------------------------------------------------------------------

QUESTIONS = (
    "sigmoid for softmax: other experts",
    "all logits times 2, softmax: other experts",
    "all logits times 2, sigmoid: other weights",
    "a bias of 0.1 on one expert, sigmoid: other experts possible",
    "scale 2.5 instead of 1: other ratios of the weights",
    "a bias of 0.1 on every expert: other experts",
    "√softplus, 2 is added to all logits: other experts",
    "of 8 groups 1 is kept: experts that can be chosen",
)
TRUE = (False, False, True, True, False, False, False, 16)


def guess(**changes):
    values = dict(zip(QUESTIONS, TRUE, strict=True))
    for key, value in changes.items():
        values[QUESTIONS[int(key[1:])]] = value
    return values


collection.right_of["16.6"].update(
    {
        "right": guess(),
        "as 0 and 1": {q: int(v) if isinstance(v, bool) else v for q, v in guess().items()},
        "a tensor for a number": guess(q7=torch.tensor(16)),
        "another order": dict(reversed(guess().items())),
        "16.0": guess(q7=16.0),
        "computed": guess(q7=128 // 8),
    }
)
collection.wrong_of["16.6"].update(
    {
        "sigmoid chooses otherwise": Wrong(guess(q0=True), ("order", "monoton", "rank", "larger")),
        "a factor chooses otherwise": Wrong(guess(q1=True), ("order", "overtake", "apart")),
        "a factor cancels in sigmoids": Wrong(guess(q2=False), ("ratio", "differ", "flat")),
        "one bias moves nobody": Wrong(guess(q3=False), ("below the cut", "order", "rise")),
        "a scale changes ratios": Wrong(guess(q4=True), ("factor", "cancel", "ratio")),
        "an even bias chooses otherwise": Wrong(guess(q5=True), ("same", "every", "order", "all")),
        "a shift chooses otherwise": Wrong(guess(q6=True), ("order", "alike", "grow")),
        "one expert per group": Wrong(guess(q7=8), ("sixteen", "16", "eight groups", "one group")),
        "all experts": Wrong(guess(q7=128), ("one group", "eight groups", "8 groups")),
        "the seven other groups": Wrong(guess(q7=112), ("one group", "eight groups", "8 groups")),
        "all otherwise": Wrong({q: True if isinstance(v, bool) else v for q, v in guess().items()}),
        "a text": Wrong(guess(q0="no")),
        "a question left out": Wrong({q: v for q, v in guess().items() if "scale" not in q}),
        "two groups": Wrong(guess(q7=32), ("one group", "eight groups", "8 groups")),
    }
)

# 16.7 repaired --------------------------------------------------------------------------------------------------------


@right("16.7", "gather from the scores")
def _(logits, bias, top_k, scale):
    scores = logits.sigmoid()
    experts = (scores + bias).topk(top_k, dim=-1).indices
    return Routing(logits, experts, scale * share(scores.gather(-1, experts)))


@right("16.7", "take the bias away again")
def _(logits, bias, top_k, scale):
    choice = logits.sigmoid() + bias
    weights, experts = choice.topk(top_k, dim=-1)
    weights = weights - bias[experts]
    return Routing(logits, experts, scale * (weights / weights.sum(dim=-1, keepdim=True)))


@right("16.7", "sort")
def _(logits, bias, top_k, scale):
    experts = (torch.sigmoid(logits) + bias).argsort(dim=-1, descending=True)[:, :top_k]
    return Routing(logits, experts, scale * share(logits.gather(-1, experts).sigmoid()))


@right("16.7", "row by row")
def _(logits, bias, top_k, scale):
    experts = torch.stack([(row.sigmoid() + bias).topk(top_k).indices for row in logits])
    rows = [share(row[e].sigmoid()) * scale for row, e in zip(logits, experts, strict=True)]
    return Routing(logits, experts, torch.stack(rows))


@right("16.7", "1 / (1 + exp)")
def _(logits, bias, top_k, scale):
    scores = 1 / (1 + (-logits).exp())
    experts = torch.topk(scores + bias, top_k)[1]
    return Routing(logits, experts, share(torch.gather(scores, 1, experts)).mul(scale))


@right("16.7", "V3's epsilon")
def _(logits, bias, top_k, scale):
    scores = logits.sigmoid()
    experts = (scores + bias).topk(top_k, dim=-1).indices
    weights = scores.gather(-1, experts)
    return Routing(logits, experts, scale * weights / (weights.sum(-1, keepdim=True) + 1e-20))


@wrong("16.7", "unchanged", "page", "unchanged", "bias")
def _(logits, bias, top_k, scale):
    choice = logits.sigmoid() + bias
    weights, experts = choice.topk(top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, scale * weights)


@wrong("16.7", "no bias at all", "bias", "choice", "choose")
def _(logits, bias, top_k, scale):
    weights, experts = logits.sigmoid().topk(top_k, dim=-1)
    return Routing(logits, experts, scale * share(weights))


@wrong("16.7", "the bias on the logits", "logits", "sigmoid", "score")
def _(logits, bias, top_k, scale):
    experts = (logits + bias).topk(top_k, dim=-1).indices
    return Routing(logits, experts, scale * share(logits.sigmoid().gather(-1, experts)))


@wrong("16.7", "the bias on the logits, in both", "logits", "sigmoid", "score")
def _(logits, bias, top_k, scale):
    weights, experts = (logits + bias).sigmoid().topk(top_k, dim=-1)
    return Routing(logits, experts, scale * share(weights))


@wrong("16.7", "subtracted after the division", "after", "before", "division", "divide")
def _(logits, bias, top_k, scale):
    weights, experts = (logits.sigmoid() + bias).topk(top_k, dim=-1)
    return Routing(logits, experts, scale * (share(weights) - bias[experts]))


@wrong("16.7", "not divided", "sum", "divide")
def _(logits, bias, top_k, scale):
    scores = logits.sigmoid()
    experts = (scores + bias).topk(top_k, dim=-1).indices
    return Routing(logits, experts, scale * scores.gather(-1, experts))


@wrong("16.7", "no scale", "scale")
def _(logits, bias, top_k, scale):
    scores = logits.sigmoid()
    experts = (scores + bias).topk(top_k, dim=-1).indices
    return Routing(logits, experts, share(scores.gather(-1, experts)))


@wrong("16.7", "a softmax of the chosen", "softmax")
def _(logits, bias, top_k, scale):
    experts = (logits.sigmoid() + bias).topk(top_k, dim=-1).indices
    return Routing(logits, experts, scale * logits.gather(-1, experts).softmax(-1))


@wrong("16.7", "a softmax of the chosen scores", "softmax")
def _(logits, bias, top_k, scale):
    scores = logits.sigmoid()
    experts = (scores + bias).topk(top_k, dim=-1).indices
    return Routing(logits, experts, scale * scores.gather(-1, experts).softmax(-1))


@wrong("16.7", "the weights of other experts", "best scores", "belong", "order", "other experts")
def _(logits, bias, top_k, scale):
    scores = logits.sigmoid()
    experts = (scores + bias).topk(top_k, dim=-1).indices
    return Routing(logits, experts, scale * share(scores.topk(top_k, dim=-1).values))


@wrong("16.7", "negative weights cut off", "bias", "weight", "negative")
def _(logits, bias, top_k, scale):
    weights, experts = (logits.sigmoid() + bias).topk(top_k, dim=-1)
    return Routing(logits, experts, scale * share(weights.clamp(min=1e-3)))


@wrong("16.7", "the mean bias subtracted", "mean", "bias", "own")
def _(logits, bias, top_k, scale):
    weights, experts = (logits.sigmoid() + bias).topk(top_k, dim=-1)
    return Routing(logits, experts, scale * share(weights - bias.mean()))


@wrong("16.7", "bias by slot", "slot", "belong", "expert", "own")
def _(logits, bias, top_k, scale):
    weights, experts = (logits.sigmoid() + bias).topk(top_k, dim=-1)
    return Routing(logits, experts, scale * share(weights - bias[:top_k]))


@wrong("16.7", "chosen without, weighed with the bias", "choice", "bias", "choose")
def _(logits, bias, top_k, scale):
    scores = logits.sigmoid()
    experts = scores.topk(top_k, dim=-1).indices
    return Routing(logits, experts, scale * share((scores + bias).gather(-1, experts)))


# 16.8 feed_forward ----------------------------------------------------------------------------------------------------


def sizes(c):
    """one dense network, one expert, the router, the shared experts, dense layers, sparse layers"""
    h = c["hidden_size"]
    sparse = c["num_hidden_layers"] - c["first_k_dense_replace"]
    expert = 3 * h * c["moe_intermediate_size"]
    return (
        3 * h * c["intermediate_size"], expert, c["n_routed_experts"] * h, c["n_shared_experts"] * expert,
        c["first_k_dense_replace"], sparse,
    )  # fmt: skip


@right("16.8", "formula")
def _(config):
    d, e, r, s, dense, sparse = sizes(config)
    fixed = dense * d + sparse * (r + s)
    return (
        fixed + sparse * config["n_routed_experts"] * e,
        fixed + sparse * config["num_experts_per_tok"] * e,
    )


@right("16.8", "layer by layer")
def _(config):
    d, e, r, s, dense, _ = sizes(config)
    total = active = 0
    for layer in range(config["num_hidden_layers"]):
        if layer < dense:
            total, active = total + d, active + d
        else:
            total += r + s + config["n_routed_experts"] * e
            active += r + s + config["num_experts_per_tok"] * e
    return total, active


@right("16.8", "active from total")
def _(config):
    d, e, r, s, dense, sparse = sizes(config)
    total = dense * d + sparse * (config["n_routed_experts"] * e + r + s)
    return total, total - sparse * (config["n_routed_experts"] - config["num_experts_per_tok"]) * e


@right("16.8", "a list")
def _(config):
    d, e, r, s, dense, sparse = sizes(config)
    return [dense * d + sparse * (r + s + config[key] * e) for key in ("n_routed_experts", "num_experts_per_tok")]


@right("16.8", "meta tensors")
def _(config):
    def network(width):
        h = config["hidden_size"]
        shapes = ((width, h), (width, h), (h, width))
        return sum(torch.empty(shape, device="meta").numel() for shape in shapes)

    d, e = network(config["intermediate_size"]), network(config["moe_intermediate_size"])
    router = torch.empty(config["n_routed_experts"], config["hidden_size"], device="meta").numel()
    sparse = config["num_hidden_layers"] - config["first_k_dense_replace"]
    base = config["first_k_dense_replace"] * d + sparse * (router + config["n_shared_experts"] * e)
    return base + sparse * config["n_routed_experts"] * e, base + sparse * config["num_experts_per_tok"] * e


@right("16.8", "shared as more experts")
def _(config):
    d, e, r, _, dense, sparse = sizes(config)
    more = config["n_shared_experts"]
    return tuple(
        dense * d + sparse * (r + (config[key] + more) * e) for key in ("n_routed_experts", "num_experts_per_tok")
    )


def miscounted(d=1, r=1, s=1, e=1, active_r=None, active_e=None, dense=None, both=lambda t, a: (t, a)):
    def count(config):
        D, E, R, S, first, sparse = sizes(config)
        n, k = config["n_routed_experts"], config["num_experts_per_tok"]
        if dense is not None:
            first, sparse = dense(config)
        total = first * D * d + sparse * (R * r + S * s + n * E * e)
        active = first * D * d + sparse * (R * (r if active_r is None else active_r(n, k)) + S * s)
        active += sparse * E * e * (k if active_e is None else active_e(n, k, config))
        return both(total, active)

    return count


NATURAL_MISCOUNTS = {
    "no shared experts": (miscounted(s=0), ("shared",)),
    "no router": (miscounted(r=0), ("router",)),
    "no dense layers": (miscounted(d=0), ("dense",)),
    "two matrices": (miscounted(d=2 / 3, s=2 / 3, e=2 / 3, both=lambda t, a: (round(t), round(a))), ("three", "3")),
    "all layers sparse": (miscounted(dense=lambda c: (0, c["num_hidden_layers"])), ("dense", "first")),
    "sparse layers forget the dense ones": (
        miscounted(dense=lambda c: (c["first_k_dense_replace"], c["num_hidden_layers"])), ("dense", "first", "minus")),
    "all experts active": (miscounted(active_e=lambda n, k, c: n), ("active", "top", "every", "all")),
    "one expert active": (miscounted(active_e=lambda n, k, c: 1), ("active", "one", "num_experts_per_tok")),
    "the router's chosen rows": (miscounted(active_r=lambda n, k: k / n, both=lambda t, a: (t, round(a))),
                                 ("router", "rows", "whole")),
    "no router among the active": (miscounted(active_r=lambda n, k: 0), ("router",)),
    "shared among the eight": (
        miscounted(active_e=lambda n, k, c: k - c["n_shared_experts"]), ("shared", "beside", "in addition")),
    "exchanged": (miscounted(both=lambda t, a: (a, t)), ("exchanged", "order", "first")),
    "one layer": (miscounted(dense=lambda c: (0, 1)), ("layer",)),
    "total alone": (miscounted(both=lambda t, a: t), ()),
    "total twice": (miscounted(both=lambda t, a: (t, t)), ("active", "top", "every", "all")),
}  # fmt: skip
collection.wrong_of["16.8"].update({name: Wrong(a, about) for name, (a, about) in NATURAL_MISCOUNTS.items()})
