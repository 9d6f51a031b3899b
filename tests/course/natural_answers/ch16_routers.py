"""Natural answers to 16.1, 16.2 and 16.3: groups, a late softmax, two rounds."""

import torch
from einops import rearrange, repeat
from torch.nn import functional as F

from minimoe.model.router import Routing
from tests.course.natural_answers.collect import Collection

collection = Collection("16.1", "16.2", "16.3")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers
INF = float("inf")

# 16.1 keep_groups -----------------------------------------------------------------------------------------------------


def kept_by(score, choice, groups, groups_kept, fill=-INF, flip=False):
    members = rearrange(choice, "token (group member) -> token group member", group=groups)
    best = score(members).topk(groups_kept, dim=-1, largest=not flip).indices
    mask = torch.zeros(len(choice), groups, dtype=torch.bool).scatter(1, best, True)
    mask = repeat(mask, "token group -> token (group member)", member=choice.shape[1] // groups)
    return choice.masked_fill(~mask, fill)


def two(members):
    return members.topk(min(2, members.shape[-1]), dim=-1).values.sum(-1)


@right("16.1", "rearrange, topk, masked_fill")
def _(choice, groups, groups_kept):
    return kept_by(two, choice, groups, groups_kept)


@right("16.1", "plain torch")
def _(choice, groups, groups_kept):
    x = choice.reshape(len(choice), groups, -1)
    best = x.sort(dim=-1, descending=True)[0][..., :2].sum(-1).argsort(dim=-1, descending=True)[:, :groups_kept]
    result = torch.full_like(x, -INF)
    for token in range(len(x)):
        result[token, best[token]] = x[token, best[token]]
    return result.reshape(choice.shape)


@right("16.1", "lists")
def _(choice, groups, groups_kept):
    rows = []
    for row in choice.tolist():
        size = len(row) // groups
        parts = [row[g * size : (g + 1) * size] for g in range(groups)]
        order = sorted(range(groups), key=lambda g: -sum(sorted(parts[g])[-2:]))[:groups_kept]
        rows.append([v for g in range(groups) for v in (parts[g] if g in order else [-INF] * size)])
    return torch.tensor(rows, dtype=choice.dtype)


@right("16.1", "one_hot and where")
def _(choice, groups, groups_kept):
    x = choice.unflatten(-1, (groups, -1))
    keep = F.one_hot(two(x).topk(groups_kept).indices, groups).sum(-2).bool()
    return torch.where(keep.unsqueeze(-1), x, torch.tensor(-INF, dtype=choice.dtype)).flatten(-2)


@right("16.1", "the worst groups are masked in a copy")
def _(choice, groups, groups_kept):
    x = rearrange(choice, "t (g m) -> t g m", g=groups).clone()
    for token, order in enumerate(two(x).argsort(dim=-1, descending=True)):
        x[token, order[groups_kept:]] = -INF
    return rearrange(x, "t g m -> t (g m)")


@right("16.1", "a threshold")
def _(choice, groups, groups_kept):
    x = rearrange(choice, "t (g m) -> t g m", g=groups)
    scores = two(x)
    limit = scores.sort(dim=-1, descending=True).values[:, groups_kept - 1 : groups_kept]
    return rearrange(x.masked_fill((scores < limit)[..., None], -INF), "t g m -> t (g m)")


@wrong("16.1", "the best expert of a group", "two", "best")
def _(choice, groups, groups_kept):
    return kept_by(lambda x: x.amax(-1), choice, groups, groups_kept)


@wrong("16.1", "the sum of a whole group", "two", "whole", "all")
def _(choice, groups, groups_kept):
    return kept_by(lambda x: x.sum(-1), choice, groups, groups_kept)


@wrong("16.1", "the second best of a group", "second", "two", "both")
def _(choice, groups, groups_kept):
    return kept_by(lambda x: x.topk(2).values[..., 1], choice, groups, groups_kept)


@wrong("16.1", "every eighth expert is a group", "neighbour", "side by side", "interleaved")
def _(choice, groups, groups_kept):
    mixed = rearrange(choice, "t (m g) -> t (g m)", g=groups)
    return rearrange(kept_by(two, mixed, groups, groups_kept), "t (g m) -> t (m g)", g=groups)


@wrong("16.1", "zeros", "inf", "0")
def _(choice, groups, groups_kept):
    return kept_by(two, choice, groups, groups_kept, fill=0.0)


@wrong("16.1", "the kept are masked", "other way", "exchanged", "dropped", "kept")
def _(choice, groups, groups_kept):
    good = kept_by(two, choice, groups, groups_kept)
    return choice.masked_fill(good > -INF, -INF)


@wrong("16.1", "the worst groups", "worst", "lowest", "smallest")
def _(choice, groups, groups_kept):
    return kept_by(two, choice, groups, groups_kept, flip=True)


@wrong("16.1", "groups as the size of a group", "size", "number of groups", "members")
def _(choice, groups, groups_kept):
    return kept_by(two, choice, choice.shape[1] // groups, groups_kept)


@wrong("16.1", "a mask")
def _(choice, groups, groups_kept):
    return kept_by(two, choice, groups, groups_kept) > -INF


@wrong("16.1", "the two best of each kept group alone", "two best", "whole group", "members", "all experts")
def _(choice, groups, groups_kept):
    good = rearrange(kept_by(two, choice, groups, groups_kept), "t (g m) -> t g m", g=groups)
    limit = good.topk(2, dim=-1).values[..., 1:]
    return rearrange(good.masked_fill(good < limit, -INF), "t g m -> t (g m)")


@wrong("16.1", "one choice of groups for all tokens", "token", "all tokens", "own", "batch")
def _(choice, groups, groups_kept):
    x = rearrange(choice, "t (g m) -> t g m", g=groups)
    best = two(x).sum(0).topk(groups_kept).indices
    mask = torch.zeros(groups, dtype=torch.bool).index_fill(0, best, True)
    return rearrange(x.masked_fill(~mask[None, :, None], -INF), "t g m -> t (g m)")


@wrong("16.1", "one group too many", "one group")
def _(choice, groups, groups_kept):
    return kept_by(two, choice, groups, min(groups_kept + 1, groups))


@wrong("16.1", "minus a million", "inf")
def _(choice, groups, groups_kept):
    return kept_by(two, choice, groups, groups_kept, fill=-1e6)


@wrong("16.1", "only the kept columns")
def _(choice, groups, groups_kept):
    good = kept_by(two, choice, groups, groups_kept)
    return torch.stack([row[row > -INF] for row in good])


@wrong("16.1", "a group's scores without their sign", "sign", "absolute", "negative")
def _(choice, groups, groups_kept):
    return kept_by(lambda x: two(x.abs()), choice, groups, groups_kept)


@wrong("16.1", "changed in place", "place", "copy")
def _(choice, groups, groups_kept):
    good = kept_by(two, choice, groups, groups_kept)
    choice.copy_(good)
    return choice


# 16.2 route_gpt_oss ---------------------------------------------------------------------------------------------------


@right("16.2", "topk, then softmax")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, best.softmax(dim=-1))


@right("16.2", "softmax over all, divided")
def _(hidden, weight, bias, top_k):
    logits = hidden @ weight.T + bias
    shares, experts = logits.softmax(-1).topk(top_k, dim=-1)
    return Routing(logits, experts, shares / shares.sum(-1, keepdim=True))


@right("16.2", "the others at minus infinity")
def _(hidden, weight, bias, top_k):
    logits = torch.einsum("th,eh->te", hidden, weight) + bias
    experts = logits.topk(top_k, dim=-1).indices
    masked = torch.full_like(logits, -INF).scatter(1, experts, logits.gather(1, experts))
    return Routing(logits, experts, masked.softmax(-1).gather(1, experts))


@right("16.2", "in float32, cast back")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.float().topk(top_k, dim=-1)
    return Routing(logits, experts, best.softmax(-1).to(hidden.dtype))


@right("16.2", "exponentials")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.sort(dim=-1, descending=True)
    powers = (best[:, :top_k] - best[:, :1]).exp()
    return Routing(logits, experts[:, :top_k], powers / powers.sum(-1, keepdim=True))


@right("16.2", "a plain tuple")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight) + bias
    best, experts = torch.topk(logits, top_k)
    return logits, experts, torch.softmax(best, -1)


@wrong("16.2", "softmax over all", "all", "chosen")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    shares, experts = logits.softmax(-1).topk(top_k, dim=-1)
    return Routing(logits, experts, shares)


@wrong("16.2", "no bias", "bias")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight)
    best, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, best.softmax(-1))


@wrong("16.2", "the bias for the choice alone", "bias")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight)
    experts = (logits + bias).topk(top_k, dim=-1).indices
    return Routing(logits, experts, logits.gather(-1, experts).softmax(-1))


@wrong("16.2", "the bias for the weights alone", "bias")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    experts = F.linear(hidden, weight).topk(top_k, dim=-1).indices
    return Routing(logits, experts, logits.gather(-1, experts).softmax(-1))


@wrong("16.2", "logits without the bias", "logits", "bias")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight)
    best, experts = (logits + bias).topk(top_k, dim=-1)
    return Routing(logits, experts, best.softmax(-1))


@wrong("16.2", "sigmoids, divided", "sigmoid")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    scores, experts = logits.sigmoid().topk(top_k, dim=-1)
    return Routing(logits, experts, scores / scores.sum(-1, keepdim=True))


@wrong("16.2", "sigmoids", "sigmoid")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, best.sigmoid())


@wrong("16.2", "softmax over the tokens", "token")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, best.softmax(0))


@wrong("16.2", "the logits as weights", "logits", "softmax")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, best)


@wrong("16.2", "logits divided by their sum", "softmax", "logits", "exp")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, best / best.sum(-1, keepdim=True))


@wrong("16.2", "two softmaxes", "softmax", "twice", "once")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.softmax(-1).topk(top_k, dim=-1)
    return Routing(logits, experts, best.softmax(-1))


@wrong("16.2", "experts by number, weights by size", "order", "belong", "experts")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts.sort(-1).values, best.softmax(-1))


@wrong("16.2", "the lowest", "lowest", "smallest", "largest", "highest")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.topk(top_k, dim=-1, largest=False)
    return Routing(logits, experts, best.softmax(-1))


@wrong("16.2", "weight not transposed")
def _(hidden, weight, bias, top_k):
    logits = hidden @ weight + bias
    best, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, best.softmax(-1))


@wrong("16.2", "weights left in float32")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.float().topk(top_k, dim=-1)
    return Routing(logits, experts, best.softmax(-1))


@wrong("16.2", "experts and weights exchanged")
def _(hidden, weight, bias, top_k):
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, best.softmax(-1), experts)


# 16.3 sparsemixer -----------------------------------------------------------------------------------------------------


def near(best, logits, epsilon):
    return (best - logits) / torch.maximum(logits.abs(), best) <= 2 * epsilon


def weight_among(logits, mask, expert):
    return logits.masked_fill(~mask, -INF).softmax(-1).gather(-1, expert)


@right("16.3", "two rounds in a loop")
def _(logits, epsilon):
    left, weights, experts = logits.clone(), [], []
    for _ in range(2):
        best, expert = left.max(-1, keepdim=True)
        weights.append(weight_among(left, near(best, logits, epsilon), expert))
        experts.append(expert)
        left = left.scatter(-1, expert, -INF)
    return Routing(logits, torch.cat(experts, -1), torch.cat(weights, -1))


@right("16.3", "token by token")
def _(logits, epsilon):
    experts, weights = [], []
    for row in logits:
        e, w, alive = [], [], list(range(len(row)))
        for _ in range(2):
            top = max(alive, key=lambda i: row[i])
            friends = [i for i in alive if (row[top] - row[i]) / max(abs(row[i]), row[top]) <= 2 * epsilon]
            w.append((row[top] - row[friends].logsumexp(0)).exp())
            e.append(top)
            alive.remove(top)
        experts.append(torch.tensor(e))
        weights.append(torch.stack(w))
    return Routing(logits, torch.stack(experts), torch.stack(weights))


@right("16.3", "on sorted logits")
def _(logits, epsilon):
    ranked, order = logits.sort(dim=-1, descending=True)
    w = []
    for rank in range(2):
        rest = ranked[:, rank:]
        mask = near(rest[:, :1], rest, epsilon)
        w.append(rest.masked_fill(~mask, -INF).softmax(-1)[:, 0])
    return Routing(logits, order[:, :2], torch.stack(w, 1))


@right("16.3", "exponentials and where")
def _(logits, epsilon):
    experts = logits.topk(2).indices
    weights = []
    for slot in range(2):
        best = logits.gather(-1, experts[:, slot : slot + 1])
        powers = torch.where(near(best, logits, epsilon), (logits - best).exp(), torch.zeros_like(logits))
        if slot:
            powers = powers.scatter(-1, experts[:, :1], 0.0)
        weights.append(1 / powers.sum(-1))
    return Routing(logits, experts, torch.stack(weights, -1))


@right("16.3", "a helper for a round")
def _(logits, epsilon):
    def pick(left):
        best, e = left.max(dim=-1)
        far = (best[:, None] - logits) / logits.abs().clamp(min=best[:, None]) > 2 * epsilon
        return e, left.masked_fill(far, -INF).softmax(-1)[torch.arange(len(left)), e]

    e1, w1 = pick(logits)
    e2, w2 = pick(logits.scatter(-1, e1[:, None], -INF))
    return Routing(logits, torch.stack([e1, e2], -1), torch.stack([w1, w2], -1))


@right("16.3", "a plain tuple in float64")
def _(logits, epsilon):
    x = logits.double()
    e = x.topk(2).indices
    w1 = weight_among(x, near(x.amax(-1, keepdim=True), x, epsilon), e[:, :1])
    y = x.scatter(-1, e[:, :1], -INF)
    w2 = weight_among(y, near(y.amax(-1, keepdim=True), x, epsilon), e[:, 1:])
    return logits, e, torch.cat([w1, w2], -1).to(logits.dtype)


def mixed(logits, epsilon, first=None, second=None, distance=near, drop=True, finish=lambda w: w):
    e = logits.topk(2).indices
    b1, b2 = logits.topk(2).values.split(1, -1)
    left = logits.scatter(-1, e[:, :1], -INF) if drop else logits
    m1 = distance(b1, logits, epsilon) if first is None else first(b1, b2, logits)
    m2 = distance(b2, logits, epsilon) if second is None else second(b1, b2, logits)
    w = torch.cat([weight_among(logits, m1, e[:, :1]), weight_among(left, m2, e[:, 1:])], -1)
    return Routing(logits, e, finish(w))


@wrong("16.3", "weights that sum to one", "sum to one", "renormal", "divided", "sum of each row")
def _(logits, epsilon):
    return mixed(logits, epsilon, finish=lambda w: w / w.sum(-1, keepdim=True))


@wrong("16.3", "the first stays a contender", "first", "second round", "out")
def _(logits, epsilon):
    return mixed(logits, epsilon, drop=False)


@wrong("16.3", "epsilon, not two", "epsilon", "twice", "2")
def _(logits, epsilon):
    return mixed(logits, epsilon / 2)


@wrong("16.3", "an absolute distance", "relative", "divide", "absolute")
def _(logits, epsilon):
    return mixed(logits, epsilon, distance=lambda best, x, eps: best - x <= 2 * eps)


@wrong("16.3", "relative to the best", "larger", "relative", "divide")
def _(logits, epsilon):
    return mixed(logits, epsilon, distance=lambda best, x, eps: (best - x) / best.abs() <= 2 * eps)


@wrong("16.3", "relative to the other", "larger", "relative", "divide")
def _(logits, epsilon):
    return mixed(logits, epsilon, distance=lambda best, x, eps: (best - x) / x.abs() <= 2 * eps)


@wrong("16.3", "everyone is a contender", "contender", "all")
def _(logits, epsilon):
    return mixed(logits, epsilon, distance=lambda best, x, eps: torch.ones_like(x, dtype=torch.bool))


@wrong("16.3", "a softmax over the two", "contender", "two", "chosen")
def _(logits, epsilon):
    best, e = logits.topk(2)
    return Routing(logits, e, best.softmax(-1))


@wrong("16.3", "one softmax over all", "contender", "all")
def _(logits, epsilon):
    w, e = logits.softmax(-1).topk(2)
    return Routing(logits, e, w)


@wrong("16.3", "the second measured from the first", "second", "first", "round")
def _(logits, epsilon):
    return mixed(logits, epsilon, second=lambda b1, b2, x: near(b1, x, epsilon) | (x == b2))


@wrong("16.3", "always 1", "1", "contender")
def _(logits, epsilon):
    return mixed(logits, epsilon, finish=torch.ones_like)


@wrong("16.3", "the far ones stay", "far", "near", "close", "other way")
def _(logits, epsilon):
    return mixed(logits, epsilon, distance=lambda best, x, eps: ~near(best, x, eps) | (x == best))


@wrong("16.3", "the second first", "order", "reversed", "first")
def _(logits, epsilon):
    _, e, w = mixed(logits, epsilon)
    return Routing(logits, e.flip(-1), w.flip(-1))


@wrong("16.3", "a softmax in the first round alone", "second", "round")
def _(logits, epsilon):
    def finish(w):
        return torch.cat([w[:, :1], 1 - w[:, :1]], -1)

    return mixed(logits, epsilon, finish=finish)
