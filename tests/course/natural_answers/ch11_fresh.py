"""Natural answers to 11.1 to 11.9, written from the page alone, before the checks were read."""

import torch
from einops import einsum, rearrange, reduce
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection(*(f"11.{number}" for number in range(1, 10)))
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 11.1 f and P ---------------------------------------------------------------------------------------------------------


def f_and_p(logits, top_k):
    probabilities = logits.float().softmax(-1)
    experts = probabilities.topk(top_k, dim=-1).indices
    hits = F.one_hot(experts, logits.shape[-1]).sum(1).float()
    return hits.mean(0), probabilities.mean(0)


@wrong("11.1", "f sums to one", "top_k", "slot", "sum", "one")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return f / top_k, p


@wrong("11.1", "counts instead of shares", "share", "count", "divided", "number")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return f * len(logits), p


@wrong("11.1", "sum of the probabilities", "average", "mean", "sum")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return f, p * len(logits)


@wrong("11.1", "P of the chosen only", "all", "chosen", "top-k", "only")
def _(logits, top_k):
    probabilities = logits.float().softmax(-1)
    weights, experts = probabilities.topk(top_k, dim=-1)
    return f_and_p(logits, top_k)[0], torch.zeros_like(probabilities).scatter(1, experts, weights).mean(0)


@wrong("11.1", "softmax over the tokens", "token", "axis", "over", "softmax")
def _(logits, top_k):
    return f_and_p(logits, top_k)[0], logits.float().softmax(0).mean(0)


@wrong("11.1", "means of the logits", "softmax", "logits")
def _(logits, top_k):
    return f_and_p(logits, top_k)[0], logits.float().mean(0)


@wrong("11.1", "softmax of the mean", "mean", "first", "average", "order")
def _(logits, top_k):
    return f_and_p(logits, top_k)[0], logits.float().mean(0).softmax(-1)


@wrong("11.1", "the best expert only", "slot", "top_k", "first", "best")
def _(logits, top_k):
    return F.one_hot(logits.argmax(-1), logits.shape[-1]).float().mean(0), f_and_p(logits, top_k)[1]


@wrong("11.1", "P first", "exchanged", "order", "first", "places")
def _(logits, top_k):
    return f_and_p(logits, top_k)[::-1]


@wrong("11.1", "means over the experts", "token", "shape", "axis", "expert")
def _(logits, top_k):
    return f_and_p(logits, top_k)[0], logits.float().softmax(-1).mean(1)


@right("11.1", "bincount")
def _(logits, top_k):
    experts = logits.topk(top_k, dim=-1).indices
    return torch.bincount(experts.flatten(), minlength=logits.shape[-1]) / len(logits), logits.float().softmax(-1).mean(
        0
    )


@right("11.1", "reduce")
def _(logits, top_k):
    probability = torch.softmax(logits.float(), dim=-1)
    hits = torch.zeros_like(probability).scatter(1, probability.topk(top_k, dim=-1).indices, 1.0)
    return reduce(hits, "token expert -> expert", "mean"), reduce(probability, "token expert -> expert", "mean")


# 11.2 the balancing loss ----------------------------------------------------------------------------------------------


@wrong("11.2", "without the number of experts", "number of experts", "factor", "times")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return (f * p).sum()


@wrong("11.2", "divided by top_k", "top_k", "k")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return logits.shape[-1] * (f * p).sum() / top_k


@wrong("11.2", "mean instead of sum", "sum", "mean", "number of experts", "factor")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return logits.shape[-1] * (f * p).mean()


@wrong("11.2", "f squared", "P", "p", "gradient", "probabilit")
def _(logits, top_k):
    f, _ = f_and_p(logits, top_k)
    return logits.shape[-1] * (f * f).sum()


@wrong("11.2", "P squared, from the page", "f", "chosen", "choice")
def _(logits, top_k):
    _, p = f_and_p(logits, top_k)
    return logits.shape[-1] * (p * p).sum()


@wrong("11.2", "detached", "gradient", "detach")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return (logits.shape[-1] * (f * p).sum()).detach()


@wrong("11.2", "a float", "tensor", "float", "gradient")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return float(logits.shape[-1] * (f * p).sum())


@wrong("11.2", "variance of the load, from the page", "p", "P", "gradient", "variance", "square")
def _(logits, top_k):
    f, _ = f_and_p(logits, top_k)
    return logits.shape[-1] * ((f - f.mean()) ** 2).sum()


@wrong("11.2", "number of tokens for experts", "expert", "token", "number")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return len(logits) * (f * p).sum()


@wrong("11.2", "the sign turned", "sign", "minus", "negative")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return -logits.shape[-1] * (f * p).sum()


@wrong("11.2", "not summed", "axes", "shape", "sum")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return logits.shape[-1] * f * p


@right("11.2", "a product")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return logits.shape[-1] * (f @ p)


@right("11.2", "einsum")
def _(logits, top_k):
    f, p = f_and_p(logits, top_k)
    return einsum(f.detach(), p, "expert, expert ->") * len(f)


# 11.3 entropy and dead experts ----------------------------------------------------------------------------------------


def healthy(counts, log=torch.log2, tenth=0.1, below=torch.lt):
    share = counts / counts.sum(-1, keepdim=True)
    entropy = -(share * log(share.clamp(min=1e-30))).sum(-1)
    return entropy.float(), below(share, tenth / counts.shape[-1]).sum(-1)


@wrong("11.3", "nats, from the page", "log2", "nats", "bits", "log")
def _(counts):
    return healthy(counts, torch.log)


@wrong("11.3", "nan at zero", "nan", "0", "zero")
def _(counts):
    share = counts / counts.sum(-1, keepdim=True)
    return -(share * share.log2()).sum(-1), healthy(counts)[1]


@wrong("11.3", "negative, from the page", "sign", "minus", "negative")
def _(counts):
    entropy, dead = healthy(counts)
    return -entropy, dead


@wrong("11.3", "only zeros are dead", "tenth", "zero", "0")
def _(counts):
    return healthy(counts)[0], (counts == 0).sum(-1)


@wrong("11.3", "a tenth of all", "even", "tenth", "share")
def _(counts):
    return healthy(counts, tenth=0.1 * counts.shape[-1])


@wrong("11.3", "at most a tenth", "less", "exactly", "equal", "<")
def _(counts):
    return healthy(counts, below=torch.le)


@wrong("11.3", "all layers together", "layer", "shape", "each")
def _(counts):
    share = counts / counts.sum()
    return -(share * share.clamp(min=1e-30).log2()).sum(-1).float(), (share < 0.1 / counts.numel()).sum(-1)


@wrong("11.3", "over the layers", "layer", "axis", "shape", "expert")
def _(counts):
    return healthy(counts.T)


@wrong("11.3", "living experts", "dead", "living", "alive", "round")
def _(counts):
    entropy, dead = healthy(counts)
    return entropy, counts.shape[-1] - dead


@wrong("11.3", "the mean instead of the sum", "sum", "mean")
def _(counts):
    share = counts / counts.sum(-1, keepdim=True)
    return -(share * share.clamp(min=1e-30).log2()).mean(-1), healthy(counts)[1]


@wrong("11.3", "entropy as a share of the most", "share", "divided", "bits", "log2", "number")
def _(counts):
    entropy, dead = healthy(counts)
    return entropy / torch.tensor(float(counts.shape[-1])).log2(), dead


@wrong("11.3", "a mask of the dead", "shape", "number", "count", "dtype")
def _(counts):
    share = counts / counts.sum(-1, keepdim=True)
    return healthy(counts)[0], share < 0.1 / counts.shape[-1]


@right("11.3", "xlogy, from the page")
def _(counts):
    share = counts.float() / counts.sum(-1, keepdim=True)
    bits = -torch.special.xlogy(share, share).sum(-1) / torch.log(torch.tensor(2.0))
    return bits, (counts * 10 * counts.shape[-1] < counts.sum(-1, keepdim=True)).sum(-1)


@right("11.3", "where, from the page")
def _(counts):
    share = counts.double() / counts.sum(-1, keepdim=True)
    terms = torch.where(share > 0, share * share.clamp(min=1e-12).log2(), 0.0)
    return -terms.sum(-1).float(), (share < 0.1 / counts.shape[-1]).sum(-1)


# 11.4 bug hunt --------------------------------------------------------------------------------------------------------


def mended(probabilities, top_k, softmax=False, only_chosen=False, factor=True, per_k=False):
    experts_number = probabilities.shape[-1]
    p = probabilities.softmax(-1) if softmax else probabilities
    weights, experts = p.topk(top_k, dim=-1)
    chosen = F.one_hot(experts, experts_number).to(p.dtype)
    f = chosen.sum(1).mean(0)
    big_p = einsum(weights, chosen, "token slot, token slot expert -> expert") / len(p) if only_chosen else p.mean(0)
    return (experts_number if factor else 1) * (f * big_p).sum() / (top_k if per_k else 1)


@wrong("11.4", "the bug", "softmax", "factor", "chosen", "times")
def _(probabilities, top_k):
    return mended(probabilities, top_k, True, True, False)


@wrong("11.4", "the softmax left", "softmax", "twice", "second")
def _(probabilities, top_k):
    return mended(probabilities, top_k, softmax=True)


@wrong("11.4", "P of the chosen left", "chosen", "all", "P", "top")
def _(probabilities, top_k):
    return mended(probabilities, top_k, only_chosen=True)


@wrong("11.4", "the factor missing", "number of experts", "factor")
def _(probabilities, top_k):
    return mended(probabilities, top_k, factor=False)


@wrong("11.4", "only the softmax repaired", "chosen", "factor", "all", "number of experts")
def _(probabilities, top_k):
    return mended(probabilities, top_k, only_chosen=True, factor=False)


@wrong("11.4", "only the factor added, from the page", "softmax", "chosen", "twice")
def _(probabilities, top_k):
    return mended(probabilities, top_k, softmax=True, only_chosen=True)


@wrong("11.4", "divided by top_k, so that it is one", "top_k", "k")
def _(probabilities, top_k):
    return mended(probabilities, top_k, per_k=True)


@wrong("11.4", "a logarithm for the softmax", "softmax", "log", "probabilit")
def _(probabilities, top_k):
    return mended(probabilities.log(), top_k)


@wrong("11.4", "weights renormalised", "renormal", "divided", "chosen", "all", "sum")
def _(probabilities, top_k):
    weights, experts = probabilities.topk(top_k, dim=-1)
    weights = weights / weights.sum(-1, keepdim=True)
    chosen = F.one_hot(experts, probabilities.shape[-1]).to(probabilities.dtype)
    f = chosen.sum(1).mean(0)
    big_p = einsum(weights, chosen, "token slot, token slot expert -> expert") / len(probabilities)
    return probabilities.shape[-1] * (f * big_p).sum()


@wrong("11.4", "mean for the factor", "factor", "mean", "sum", "number of experts")
def _(probabilities, top_k):
    experts = probabilities.topk(top_k, dim=-1).indices
    f = F.one_hot(experts, probabilities.shape[-1]).sum(1).float().mean(0)
    return (f * probabilities.mean(0)).mean()


@right("11.4", "short")
def _(probabilities, top_k):
    return mended(probabilities, top_k)


@right("11.4", "by counting")
def _(probabilities, top_k):
    number = probabilities.shape[-1]
    f = torch.bincount(probabilities.topk(top_k).indices.flatten(), minlength=number) / len(probabilities)
    return number * torch.dot(f, probabilities.mean(0))


# 11.5 predictions -----------------------------------------------------------------------------------------------------

NAMES = (
    "two chosen, divided: scores that the next-token loss moves",
    "two chosen, not divided: scores that it moves",
    "two chosen, divided: the gradients of all scores add up to",
    "one chosen, divided: scores that it moves",
    "the balancing loss: scores that it moves",
    "two chosen, divided, all outputs the same: scores that the next-token loss moves",
)
TRUTH = dict(zip(NAMES, (2, 16, 0, 0, 16, 0), strict=True))


def but(**changes):
    return TRUTH | {NAMES[int(key[1:])]: value for key, value in changes.items()}


wrong("11.5", "a softmax moves all", "chosen", "cancel", "two", "divided")(but(_0=16))
wrong("11.5", "only the chosen move", "all", "softmax", "denominator", "sum")(but(_1=2))
wrong("11.5", "they add up to one", "zero", "0", "sum", "one")(but(_2=1))
wrong("11.5", "the chosen one moves", "1", "one", "divided", "constant")(but(_3=1))
wrong("11.5", "one chosen still moves all", "1", "one", "divided", "constant")(but(_3=16))
wrong("11.5", "the loss moves the chosen", "P", "all", "probab", "16")(but(_4=2))
wrong("11.5", "equal outputs still move two", "same", "mixture", "output")(but(_5=2))
wrong("11.5", "always sixteen", "think", "chosen", "divided")(dict.fromkeys(NAMES, 16))
wrong("11.5", "always two", "think", "all", "softmax")(dict.fromkeys(NAMES, 2))

# 11.6 the cost --------------------------------------------------------------------------------------------------------


def run_cost(config, tokens, peak, utilisation, each=6, embedding=True, days=86_400, total=False):
    weights = config.total_parameters if total else config.active_parameters
    weights -= config.vocab_size * config.hidden_size * embedding
    operations = each * weights * tokens
    return operations, operations / (peak * utilisation) / days


@wrong("11.6", "forward only", "backward", "6", "2", "three")
def _(*each):
    return run_cost(*each, each=2)


@wrong("11.6", "backward as much as forward", "backward", "twice", "6", "4")
def _(*each):
    return run_cost(*each, each=4)


@wrong("11.6", "multiplications only", "addition", "6", "3", "two")
def _(*each):
    return run_cost(*each, each=3)


@wrong("11.6", "with the embedding, from the page", "embedding", "lookup")
def _(*each):
    return run_cost(*each, embedding=False)


@wrong("11.6", "all parameters, from the page", "active", "all")
def _(*each):
    return run_cost(*each, total=True)


@wrong("11.6", "hours, from the page", "day", "hour", "86,400", "24")
def _(*each):
    return run_cost(*each, days=3600)


@wrong("11.6", "seconds, from the page", "day", "second", "86,400")
def _(*each):
    return run_cost(*each, days=1)


@wrong("11.6", "utilisation forgotten", "utilisation")
def _(config, tokens, peak, utilisation):
    return run_cost(config, tokens, peak, 1.0)


@wrong("11.6", "times the utilisation", "utilisation", "longer", "divide")
def _(config, tokens, peak, utilisation):
    return run_cost(config, tokens, peak, 1 / utilisation)


@wrong("11.6", "embedding and head taken off", "head", "output", "lm_head", "embedding", "once")
def _(config, tokens, peak, utilisation):
    weights = config.active_parameters - 2 * config.vocab_size * config.hidden_size
    return 6 * weights * tokens, 6 * weights * tokens / (peak * utilisation) / 86_400


@wrong("11.6", "days first, from the page", "order", "exchanged", "first", "places")
def _(*each):
    return run_cost(*each)[::-1]


@right("11.6", "by steps")
def _(config, tokens, peak, utilisation):
    matrices = config.active_parameters - config.vocab_size * config.hidden_size
    forward, backward = 2 * matrices, 4 * matrices
    operations = float((forward + backward) * tokens)
    return operations, operations / peak / utilisation / (24 * 60 * 60)


# 11.7 rows ------------------------------------------------------------------------------------------------------------


def hits_of(experts, number):
    return F.one_hot(experts, number).sum(1).float()


@wrong("11.7", "every n-th token", "row after row", "neighbour", "order", "interleav", "row")
def _(experts, rows, num_experts):
    return reduce(hits_of(experts, num_experts), "(position row) expert -> row expert", "mean", row=rows)


@wrong("11.7", "counts", "share", "mean", "count", "sum")
def _(experts, rows, num_experts):
    return reduce(hits_of(experts, num_experts), "(row position) expert -> row expert", "sum", row=rows)


@wrong("11.7", "shares of the slots", "slot", "token", "top_k", "sum")
def _(experts, rows, num_experts):
    hits = hits_of(experts, num_experts) / experts.shape[1]
    return reduce(hits, "(row position) expert -> row expert", "mean", row=rows)


@wrong("11.7", "rows as the length of a row", "row", "number", "length", "shape")
def _(experts, rows, num_experts):
    if len(experts) % rows:
        return None
    return reduce(hits_of(experts, num_experts), "(row position) expert -> row expert", "mean", position=rows)


@wrong("11.7", "by position", "position", "row", "shape", "mean")
def _(experts, rows, num_experts):
    return reduce(hits_of(experts, num_experts), "(row position) expert -> position expert", "mean", row=rows)


@wrong("11.7", "rows averaged", "row", "shape")
def _(experts, rows, num_experts):
    return reduce(hits_of(experts, num_experts), "token expert -> expert", "mean")


@wrong("11.7", "first slot only", "slot", "first")
def _(experts, rows, num_experts):
    hits = F.one_hot(experts[:, 0], num_experts).float()
    return reduce(hits, "(row position) expert -> row expert", "mean", row=rows)


@wrong("11.7", "largest, from the page", "mean", "max", "share")
def _(experts, rows, num_experts):
    return reduce(hits_of(experts, num_experts), "(row position) expert -> row expert", "max", row=rows)


@wrong("11.7", "given back", "given", "view", "name", "unchanged")
def shares_as_it_was(experts, rows, num_experts):
    hits = torch.zeros(experts.shape[0], num_experts)
    hits.scatter_(1, experts, 1.0)
    return hits.view(rows, -1, num_experts).mean(1)


@right("11.7", "one_hot and reduce")
def _(experts, rows, num_experts):
    return reduce(hits_of(experts, num_experts), "(row position) expert -> row expert", "mean", row=rows)


@right("11.7", "rearranged first")
def _(experts, rows, num_experts):
    by_row = rearrange(experts, "(row position) slot -> row position slot", row=rows)
    return F.one_hot(by_row, num_experts).float().sum(2).mean(1)


# 11.8 lost ------------------------------------------------------------------------------------------------------------


def lost(low):
    """low: (record, layer, expert) bool."""
    result = torch.full(low.shape[1:], -1, dtype=torch.int64)
    still = torch.ones(low.shape[1:], dtype=torch.bool)
    for record in reversed(range(len(low))):
        still &= low[record]
        result[still] = record
    return result


def low_of(load, tenth=0.1):
    return load < tenth / load.shape[-1]


@wrong("11.8", "the first low record", "come", "back", "later", "all", "first")
def _(load):
    low = low_of(load)
    return torch.where(low.any(0), low.int().argmax(0), -1)


@wrong("11.8", "a tenth of everything", "even", "tenth", "share")
def _(load):
    return lost(load < 0.1)


@wrong("11.8", "zero loads only", "tenth", "zero", "0")
def _(load):
    return lost(load == 0)


# No share of a run lies exactly at the limit
@right("11.8", "at most a tenth")
def _(load):
    return lost(load <= 0.1 / load.shape[-1])


@wrong("11.8", "the last record that is fine", "first", "one", "before", "record", "next")
def _(load):
    result = lost(low_of(load))
    return torch.where(result >= 0, result - 1, -1)


@wrong("11.8", "steps instead of records", "step", "record", "10")
def _(load):
    result = lost(low_of(load))
    return torch.where(result >= 0, 10 * (result + 1), -1)


@wrong("11.8", "0 if never", "-1", "never", "0")
def _(load):
    return lost(low_of(load)).clamp(min=0)


@wrong("11.8", "the number of records for never", "-1", "never", "number")
def _(load):
    result = lost(low_of(load))
    return torch.where(result >= 0, result, len(load))


@wrong("11.8", "only if low from the beginning", "all", "later", "every", "first", "from")
def _(load):
    return torch.where(low_of(load).all(0), 0, -1)


@wrong("11.8", "the last low record", "first", "last")
def _(load):
    low = low_of(load)
    last = len(low) - 1 - low.flip(0).int().argmax(0)
    return torch.where(low.any(0), last, -1)


@wrong("11.8", "the length of the last stretch", "first", "record", "how", "number", "length")
def _(load):
    result = lost(low_of(load))
    return torch.where(result >= 0, len(load) - result, -1)


@wrong("11.8", "low in the last record only", "first", "last", "record")
def _(load):
    return torch.where(low_of(load)[-1], len(load) - 1, -1)


@right("11.8", "cumulative products from the end")
def _(load):
    low = low_of(load).long()
    stretch = low.flip(0).cumprod(0).sum(0)
    return torch.where(stretch > 0, len(load) - stretch, -1)


@right("11.8", "expert by expert")
def _(load):
    records, layers, experts = load.shape
    result = torch.full((layers, experts), -1)
    for layer in range(layers):
        for expert in range(experts):
            for record in range(records):
                if all(load[later, layer, expert] < 0.1 / experts for later in range(record, records)):
                    result[layer, expert] = record
                    break
    return result


# 11.9 the bias --------------------------------------------------------------------------------------------------------


def shifted(bias, counts, rate, direction=1, centre=True, step=torch.sign):
    new = bias + direction * rate * step(counts.float().mean() - counts.float())
    return ((new - new.mean()) if centre else new).to(bias.dtype)


@wrong("11.9", "the wrong direction", "up", "down", "raised", "lowered", "sign")
def _(bias, counts, rate):
    return shifted(bias, counts, rate, -1)


@wrong("11.9", "in proportion to the lack", "direction", "same", "rate", "sign", "proportion")
def _(bias, counts, rate):
    return shifted(bias, counts, rate, step=lambda lack: lack / lack.abs().max().clamp(min=1))


@wrong("11.9", "rate times the lack", "direction", "sign", "rate", "many", "proportion")
def _(bias, counts, rate):
    return shifted(bias, counts, rate, step=lambda lack: lack)


@wrong("11.9", "the mean not taken off", "mean", "drift")
def _(bias, counts, rate):
    return shifted(bias, counts, rate, centre=False)


@wrong("11.9", "the mean goes up, too", "exactly", "mean", "stay", "equal")
def _(bias, counts, rate):
    step = torch.where(counts.float() <= counts.float().mean(), 1.0, -1.0)
    new = bias + rate * step
    return (new - new.mean()).to(bias.dtype)


@wrong("11.9", "the mean goes down, too", "exactly", "mean", "stay", "equal")
def _(bias, counts, rate):
    step = torch.where(counts.float() < counts.float().mean(), 1.0, -1.0)
    new = bias + rate * step
    return (new - new.mean()).to(bias.dtype)


@wrong("11.9", "the old bias forgotten", "old", "bias", "added")
def _(bias, counts, rate):
    return shifted(torch.zeros_like(bias), counts, rate)


@wrong("11.9", "centred before the step", "after", "then", "mean", "before", "order")
def _(bias, counts, rate):
    return shifted(bias - bias.mean(), counts, rate, centre=False)


@wrong("11.9", "the median", "mean", "median")
def _(bias, counts, rate):
    new = bias + rate * torch.sign(counts.float().median() - counts.float())
    return (new - new.mean()).to(bias.dtype)


@wrong("11.9", "in place, from the page", "place", "copy")
def _(bias, counts, rate):
    bias += rate * torch.sign(counts.float().mean() - counts.float())
    bias -= bias.mean()
    return bias


@wrong("11.9", "the whole part of the mean", "mean", "whole", "round", "//", "exactly")
def _(bias, counts, rate):
    new = bias + rate * torch.sign(counts.sum() // len(counts) - counts)
    return (new - new.mean()).to(bias.dtype)


@wrong("11.9", "divided by the mean", "mean", "subtract", "divide")
def _(bias, counts, rate):
    new = bias + rate * torch.sign(counts.float().mean() - counts.float())
    return (new / new.mean()).to(bias.dtype)


@right("11.9", "where twice")
def _(bias, counts, rate):
    mean = counts.double().mean()
    step = torch.where(counts < mean, rate, torch.where(counts > mean, -rate, 0.0))
    new = bias.double() + step
    return (new - new.mean()).to(bias.dtype)


@right("11.9", "sign of whole numbers")
def _(bias, counts, rate):
    new = bias + (rate * (counts.sum() - counts * len(counts)).sign()).to(bias.dtype)
    return new - new.mean()
