"""Natural answers to 02.1 and 02.3: rms_norm, and the norm that was right for one token."""

import torch
from einops import einsum, rearrange, reduce
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("02.1", "02.3")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 02.1 rms_norm -------------------------------------------------------------------------------------------------------


@wrong("02.1", "eps outside the root", "eps", "root")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide / (wide.pow(2).mean(-1, keepdim=True).sqrt() + eps)).to(x.dtype)


@wrong("02.1", "no eps", "eps", "zero", "nan")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide / wide.pow(2).mean(-1, keepdim=True).sqrt()).to(x.dtype)


@wrong("02.1", "mean over everything", "all tokens", "tokens", "last axis", "dim=-1", "together", "whole")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean() + eps)).to(x.dtype)


@wrong("02.1", "sum instead of mean", "sum", "mean", "length", "hidden")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).sum(-1, keepdim=True) + eps)).to(x.dtype)


@wrong("02.1", "LayerNorm", "mean", "layernorm", "subtract")
def _(x, weight, eps):
    return weight * F.layer_norm(x.float(), x.shape[-1:], eps=eps).to(x.dtype)


@wrong("02.1", "weight before the cast", "cast", "weight", "dtype", "before", "order")
def _(x, weight, eps):
    wide = x.float()
    return (weight * wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


@wrong("02.1", "float32 comes out", "float32", "dtype", "cast")
def _(x, weight, eps):
    wide = x.float()
    return weight.float() * wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)


@wrong("02.1", "all in the dtype of x", "float32", "float16", "overflow", "precision", "dtype")
def _(x, weight, eps):
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


@wrong(
    "02.1", "squares in the dtype of x, their mean in float32", "float32", "float16", "overflow", "square", "precision"
)
def _(x, weight, eps):
    return weight * (x.float() * torch.rsqrt((x * x).float().mean(-1, keepdim=True) + eps)).to(x.dtype)


@wrong("02.1", "no weight", "weight")
def _(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


@wrong("02.1", "one plus weight, as in Gemma", "1 +", "one plus", "1+", "too large", "added", "weight")
def _(x, weight, eps):
    wide = x.float()
    return (1 + weight) * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


@wrong("02.1", "no root", "root", "mean square", "square")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide / (wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


@wrong("02.1", "multiplied by the size", "multipl", "divide")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide * torch.sqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


@wrong("02.1", "standard deviation", "deviation", "std", "mean", "variance", "subtract")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide / torch.sqrt(wide.var(-1, keepdim=True) + eps)).to(x.dtype)


@wrong("02.1", "mean of the absolute values", "absolute", "abs", "square", "mean")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide / (wide.abs().mean(-1, keepdim=True) + eps)).to(x.dtype)


@wrong("02.1", "in place", "in place", "changed", "argument")
def _(x, weight, eps):
    wide = x.float()
    wide *= torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


@wrong("02.1", "first axis", "axis", "token", "last", "dim")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(0, keepdim=True) + eps)).to(x.dtype)


@wrong("02.1", "axis 1, right for one of two axes", "axis", "token", "last", "dim", "position", "out of range")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(1, keepdim=True) + eps)).to(x.dtype)


@wrong("02.1", "clamped at eps instead of added", "eps", "clamp", "add")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True).clamp(min=eps))).to(x.dtype)


@wrong("02.1", "no keepdim", "keepdim", "axis", "broadcast", "shape", "size", "error")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1) + eps)).to(x.dtype)


@wrong("02.1", "length one", "length", "sum", "hidden", "mean")
def _(x, weight, eps):
    return weight * F.normalize(x.float(), dim=-1, eps=eps).to(x.dtype)


@wrong("02.1", "eps squared", "eps")
def _(x, weight, eps):
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps**2)).to(x.dtype)


@wrong("02.1", "divided by the weight", "weight", "divide", "multipl")
def _(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype) / weight


@wrong("02.1", "rms_norm of torch without eps", "eps")
def _(x, weight, eps):
    return weight * F.rms_norm(x.float(), x.shape[-1:]).to(x.dtype)


@right("02.1", "rsqrt")
def _(x, weight, eps):
    wide = x.to(torch.float32)
    return (wide * torch.rsqrt(torch.mean(wide * wide, dim=-1, keepdim=True) + eps)).to(x.dtype) * weight


@right("02.1", "rms_norm of torch")
def _(x, weight, eps):
    return F.rms_norm(x.float(), (x.shape[-1],), eps=eps).to(x.dtype) * weight


@right("02.1", "reduce")
def _(x, weight, eps):
    wide = x.float()
    square = reduce(wide**2, "... hidden -> ... 1", "mean")
    return weight * (wide / (square + eps) ** 0.5).type_as(x)


@right("02.1", "length of the vector")
def _(x, weight, eps):
    length = torch.linalg.vector_norm(x.float(), dim=-1, keepdim=True)
    return weight * (x.float() / (length**2 / x.shape[-1] + eps).sqrt()).to(x.dtype)


@right("02.1", "vector by vector")
def _(x, weight, eps):
    rows = []
    for vector in x.reshape(-1, x.shape[-1]):
        wide = vector.float()
        rows.append((wide / (wide.square().mean() + eps).sqrt()).to(x.dtype) * weight)
    return torch.stack(rows).reshape(x.shape) if rows else torch.empty_like(x)


@right("02.1", "einsum of torch")
def _(x, weight, eps):
    wide = x.float()
    square = torch.einsum("...h,...h->...", wide, wide) / wide.shape[-1]
    return torch.mul((wide / torch.sqrt(square + eps)[..., None]).to(x.dtype), weight)


@right("02.1", "module of torch")
def _(x, weight, eps):
    norm = torch.nn.RMSNorm(x.shape[-1], eps=eps, elementwise_affine=False)
    return weight * norm(x.float()).to(dtype=x.dtype)


# 02.3 right for one token --------------------------------------------------------------------------------------------


@wrong("02.3", "the function on the page", "page", "given", "all tokens", "eps", "token")
def _(x, weight, eps):
    return weight * x / (x.pow(2).mean().sqrt() + eps)


@wrong("02.3", "eps still outside", "eps", "root")
def _(x, weight, eps):
    return weight * x / (x.pow(2).mean(dim=-1, keepdim=True).sqrt() + eps)


@wrong("02.3", "all tokens still together", "all tokens", "token", "together", "axis")
def _(x, weight, eps):
    return weight * x / (x.pow(2).mean() + eps).sqrt()


@wrong("02.3", "each channel over the tokens", "axis", "token", "channel", "dim")
def _(x, weight, eps):
    return weight * x / (x.pow(2).mean(dim=0, keepdim=True) + eps).sqrt()


@wrong("02.3", "no keepdim", "keepdim", "axis", "broadcast", "shape", "size", "error", "channel")
def _(x, weight, eps):
    return weight * x / (x.pow(2).mean(dim=-1) + eps).sqrt()


@wrong("02.3", "no eps", "eps", "zero", "nan")
def _(x, weight, eps):
    return weight * x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True))


@wrong("02.3", "weight forgotten", "weight")
def _(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + eps)


@wrong("02.3", "sum of squares", "sum", "mean", "length", "hidden")
def _(x, weight, eps):
    return weight * x / (x.pow(2).sum(dim=-1, keepdim=True) + eps).sqrt()


@wrong("02.3", "no root, since eps moved into it", "root", "square")
def _(x, weight, eps):
    return weight * x / (x.pow(2).mean(dim=-1, keepdim=True) + eps)


@wrong("02.3", "eps at both places", "eps", "twice", "both", "root")
def _(x, weight, eps):
    return weight * x / ((x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt() + eps)


@wrong("02.3", "eps added to x", "eps", "x", "square", "before")
def _(x, weight, eps):
    return weight * x / (x + eps).pow(2).mean(dim=-1, keepdim=True).sqrt()


@wrong("02.3", "clamped", "eps", "clamp", "add")
def _(x, weight, eps):
    return weight * x / x.pow(2).mean(dim=-1, keepdim=True).sqrt().clamp(min=eps)


@wrong("02.3", "the size of the first token for all", "first", "token", "own")
def _(x, weight, eps):
    return weight * x / (x[0].pow(2).mean() + eps).sqrt()


@wrong("02.3", "root before the mean", "root", "absolute", "order", "mean")
def _(x, weight, eps):
    return weight * x / ((x.pow(2) + eps).sqrt().mean(dim=-1, keepdim=True))


@wrong("02.3", "mean subtracted", "mean", "layernorm", "subtract")
def _(x, weight, eps):
    x = x - x.mean(dim=-1, keepdim=True)
    return weight * x / (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt()


@wrong("02.3", "token by token, in place", "in place", "changed", "argument")
def _(x, weight, eps):
    for token in range(len(x)):
        x[token] = weight * x[token] / (x[token].pow(2).mean() + eps).sqrt()
    return x


@wrong("02.3", "weight inside the size", "weight", "before", "after", "size", "order")
def _(x, weight, eps):
    y = weight * x
    return y / (y.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt()


@wrong("02.3", "the mean of the tokens' sizes", "all tokens", "token", "together", "own", "axis")
def _(x, weight, eps):
    return weight * x / (x.pow(2).mean(dim=-1) + eps).sqrt().mean()


@right("02.3", "two repairs")
def _(x, weight, eps):
    return weight * x / (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt()


@right("02.3", "reduce")
def _(x, weight, eps):
    size = reduce(x**2, "token hidden -> token 1", "mean") + eps
    return x / size**0.5 * weight


@right("02.3", "token by token")
def _(x, weight, eps):
    rows = [weight * token / (token.dot(token) / len(token) + eps).sqrt() for token in x]
    return torch.stack(rows) if rows else x.clone()


@right("02.3", "rms_norm of torch")
def _(x, weight, eps):
    return F.rms_norm(x, weight.shape, weight, eps)


@right("02.3", "transposed, so that no keepdim is needed")
def _(x, weight, eps):
    return ((x.T / torch.sqrt(torch.mean(x**2, 1) + eps)).T * weight).contiguous()


@right("02.3", "einsum")
def _(x, weight, eps):
    square = einsum(x, x, "token hidden, token hidden -> token") / x.shape[1]
    return weight * x * rearrange(torch.rsqrt(square + eps), "token -> token 1")
