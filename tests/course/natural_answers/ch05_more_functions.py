"""More natural answers to 05.5 to 05.7: every expert, gpt-oss, open neurons."""

import torch
from einops import einsum, rearrange, repeat
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("05.5", "05.6", "05.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 05.5 every_expert ----------------------------------------------------------------------------------------------------

READ = "token hidden, expert ffn hidden -> token expert ffn"
WRITE = "token expert ffn, expert hidden ffn -> token expert hidden"


def _(x, gate, up, down):
    inner = F.silu(einsum(x, gate, READ)) * einsum(x, up, READ)
    return einsum(inner, down, "token expert ffn, expert hidden ffn -> token hidden")


def _(x, gate, up, down):
    inner = F.silu(einsum(x, gate, READ)) * einsum(x, up, READ)
    return einsum(inner, down, "token other ffn, expert hidden ffn -> token expert hidden")


@wrong("05.5", "one expert after another", "chain", "after", "previous", "output", "input", "x ", "same token")
def _(x, gate, up, down):
    results = []
    for one, two, three in zip(gate, up, down, strict=True):
        x = F.linear(F.silu(F.linear(x, one)) * F.linear(x, two), three)
        results.append(x)
    return torch.stack(results, dim=1)


def _(x, gate, up, down):
    experts = zip(gate, up, down, strict=True)
    return torch.stack([F.linear(F.silu(F.linear(x, a)) * F.linear(x, b), c) for a, b, c in experts])


@wrong("05.5", "stacked in front, then reshaped", "reshape", "order", "mix", "transpose", "permut")
def _(x, gate, up, down):
    experts = zip(gate, up, down, strict=True)
    outputs = torch.stack([F.linear(F.silu(F.linear(x, a)) * F.linear(x, b), c) for a, b, c in experts])
    return outputs.reshape(len(x), len(gate), -1)


@wrong("05.5", "the first expert's gate for all", "first", "gate", "own", "expert")
def _(x, gate, up, down):
    opening = repeat(F.linear(x, gate[0]), "token ffn -> token expert ffn", expert=len(gate))
    return einsum(F.silu(opening) * einsum(x, up, READ), down, WRITE)


@wrong("05.5", "SiLU of the product", "silu", "product", "before", "after")
def _(x, gate, up, down):
    return einsum(F.silu(einsum(x, gate, READ) * einsum(x, up, READ)), down, WRITE)


@wrong("05.5", "hidden before expert", "shape", "order", "axis")
def _(x, gate, up, down):
    inner = F.silu(einsum(x, gate, READ)) * einsum(x, up, READ)
    return einsum(inner, down, "token expert ffn, expert hidden ffn -> token hidden expert")


@wrong("05.5", "the amounts summed on their own", "sum", "amount", "misspelt", "name", "ffn")
def _(x, gate, up, down):
    pattern = "token expert ffn, token expert fnn, expert hidden ffn -> token expert hidden"
    return einsum(F.silu(einsum(x, gate, READ)), einsum(x, up, READ), down, pattern)


@right("05.5", "two patterns and a product")
def _(x, gate, up, down):
    return einsum(F.silu(einsum(x, gate, READ)) * einsum(x, up, READ), down, WRITE)


@right("05.5", "vmap")
def _(x, gate, up, down):
    one = torch.vmap(lambda a, b, c: F.linear(F.silu(F.linear(x, a)) * F.linear(x, b), c))
    return rearrange(one(gate, up, down), "expert token hidden -> token expert hidden")


@right("05.5", "all neurons as one wide expert")
def _(x, gate, up, down):
    wide = [rearrange(each, "expert ffn hidden -> (expert ffn) hidden") for each in (gate, up)]
    inner = F.silu(F.linear(x, wide[0])) * F.linear(x, wide[1])
    inner = rearrange(inner, "token (expert ffn) -> expert token ffn", expert=len(gate))
    return torch.matmul(inner, down.mT).transpose(0, 1)


# 05.6 gpt_oss ---------------------------------------------------------------------------------------------------------


@wrong("05.6", "1 added before the limit", "before", "after", "+ 1", "limit", "clamp")
def _(gate_up, alpha, limit):
    gate, amount = gate_up[:, ::2].clamp(max=limit), (gate_up[:, 1::2] + 1).clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * amount


@wrong("05.6", "1 added to the gate", "gate", "amount", "+ 1")
def _(gate_up, alpha, limit):
    gate, amount = gate_up[:, ::2].clamp(max=limit), gate_up[:, 1::2].clamp(-limit, limit)
    return (gate + 1) * torch.sigmoid(alpha * gate) * amount


@wrong("05.6", "limits exchanged", "both", "side", "gate", "amount", "limit")
def _(gate_up, alpha, limit):
    gate, amount = gate_up[:, ::2].clamp(-limit, limit), gate_up[:, 1::2].clamp(max=limit)
    return gate * torch.sigmoid(alpha * gate) * (amount + 1)


@wrong("05.6", "limited in place", "in place", "argument", "copy", "input")
def _(gate_up, alpha, limit):
    gate, amount = gate_up[:, ::2].clamp_(max=limit), gate_up[:, 1::2].clamp_(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (amount + 1)


@wrong("05.6", "alpha outside of the sigmoid", "alpha", "sigmoid", "inside")
def _(gate_up, alpha, limit):
    gate, amount = gate_up[:, ::2].clamp(max=limit), gate_up[:, 1::2].clamp(-limit, limit)
    return alpha * gate * torch.sigmoid(gate) * (amount + 1)


def _(gate_up, alpha, limit):
    gate, amount = gate_up[:, ::2].clamp(max=limit), gate_up[:, 1::2].clamp(-limit, limit)
    return F.silu(alpha * gate) * (amount + 1)


@wrong("05.6", "the limit of the gate only in front of the sigmoid", "limit", "sigmoid", "gate", "clamp")
def _(gate_up, alpha, limit):
    gate, amount = gate_up[:, ::2], gate_up[:, 1::2].clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate.clamp(max=limit)) * (amount + 1)


@wrong("05.6", "the numbers of gpt-oss typed in", "limit", "alpha", "argument", "7", "1.702", "given")
def _(gate_up, alpha, limit):
    gate, amount = gate_up[:, ::2].clamp(max=7.0), gate_up[:, 1::2].clamp(-7.0, 7.0)
    return gate * torch.sigmoid(1.702 * gate) * (amount + 1)


@wrong("05.6", "a limit from below", "below", "above", "max", "min", "limit")
def _(gate_up, alpha, limit):
    gate, amount = gate_up[:, ::2].clamp(-limit), gate_up[:, 1::2].clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (amount + 1)


@right("05.6", "a pattern, and the smaller of two")
def _(gate_up, alpha, limit):
    gate, amount = rearrange(gate_up, "token (ffn two) -> two token ffn", two=2)
    gate = torch.minimum(gate, torch.full_like(gate, limit))
    amount = torch.where(amount.abs() > limit, limit * amount.sign(), amount)
    return gate / (1 + torch.exp(-alpha * gate)) * (amount + 1)


@right("05.6", "swish by hand")
def _(gate_up, alpha, limit):
    gate = gate_up[..., 0::2].clone().clamp_(max=limit)
    amount = F.hardtanh(gate_up[..., 1::2], -limit, limit)
    return torch.addcmul(out := gate * torch.sigmoid(gate * alpha), out, amount)


@right("05.6", "stacked pairs")
def _(gate_up, alpha, limit):
    pairs = gate_up.unflatten(-1, (-1, 2))
    gate, amount = pairs[..., 0].clip(None, limit), pairs[..., 1].clip(-limit, limit)
    return F.silu(alpha * gate) / alpha * (1 + amount)


# 05.7 keep_open -------------------------------------------------------------------------------------------------------


def kept(scores, count):
    """1 for the largest scores of each token, 0 for the others."""
    return torch.zeros_like(scores).scatter(-1, scores.topk(count, dim=-1).indices, 1.0)


def _(gate, up, count):
    product = F.silu(gate) * up
    return product * kept(product.abs(), count)


@wrong("05.7", "chosen by SiLU", "silu", "order", "negative", "closed", "gates")
def _(gate, up, count):
    return F.silu(gate) * up * kept(F.silu(gate), count)


@wrong("05.7", "the same neurons for all tokens", "each token", "own", "all tokens", "mean", "same")
def _(gate, up, count):
    chosen = gate.mean(dim=0).topk(count).indices
    result = torch.zeros_like(gate)
    result[:, chosen] = (F.silu(gate) * up)[:, chosen]
    return result


def _(gate, up, count):
    chosen = gate.topk(count, dim=-1).indices
    return F.silu(gate.gather(-1, chosen)) * up.gather(-1, chosen)


@wrong("05.7", "the kept numbers in front", "place", "order", "front", "index", "indices", "sorted", "scatter")
def _(gate, up, count):
    result, chosen = torch.zeros_like(gate), gate.topk(count, dim=-1).indices
    result[:, :count] = (F.silu(gate) * up).gather(-1, chosen)
    return result


@wrong("05.7", "the others at -inf", "nan", "-inf", "zero", "silu", "infin")
def _(gate, up, count):
    return F.silu(gate.masked_fill(kept(gate, count) == 0, -torch.inf)) * up


def _(gate, up, count):
    least = gate.topk(count, dim=-1).values[:, -1:]
    return F.silu(gate) * up * (gate > least)


@wrong("05.7", "what stays is scaled up", "scale", "larger", "factor", "dropout", "times", "rest")
def _(gate, up, count):
    return F.silu(gate) * up * kept(gate, count) * gate.shape[-1] / max(count, 1)


@wrong("05.7", "only open gates stay", "negative", "closed", "count", "relu", "positive", "below zero")
def _(gate, up, count):
    return F.silu(gate) * up * kept(gate, count) * (gate > 0)


@right("05.7", "ranks")
def _(gate, up, count):
    rank = gate.argsort(dim=-1, descending=True).argsort(dim=-1)
    return torch.where(rank < count, F.silu(gate) * up, 0)


@right("05.7", "the gates of the others are zero")
def _(gate, up, count):
    return F.silu(gate * kept(gate, count)) * up


@right("05.7", "token by token")
def _(gate, up, count):
    result = torch.zeros_like(gate)
    for token in range(len(gate)):
        for neuron in sorted(range(gate.shape[1]), key=lambda n: -float(gate[token, n]))[:count]:
            result[token, neuron] = F.silu(gate[token, neuron]) * up[token, neuron]
    return result
