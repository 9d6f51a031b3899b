"""Natural answers to 02.4 and 02.5: one size per head, and the size of a stream."""

import torch
from einops import einsum, rearrange, reduce, repeat
from torch.nn import functional as F

from minimoe.model.norm import rms_norm
from tests.course.natural_answers.collect import Collection

collection = Collection("02.4", "02.5")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 02.4 QK-norm --------------------------------------------------------------------------------------------------------


@wrong("02.4", "all heads at once", "all heads", "together", "at once", "each head", "own")
def _(x, weight, eps):
    return rms_norm(x, weight.repeat(x.shape[-1] // len(weight)), eps)


@wrong("02.4", "channels of a head not side by side", "outer", "inner", "swapped", "comb", "order", "head_dim head")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head_dim head) -> b p head head_dim", head_dim=len(weight))
    return rearrange(rms_norm(heads, weight, eps), "b p head head_dim -> b p (head_dim head)")


@wrong("02.4", "combed on the way back", "outer", "inner", "swapped", "comb", "order", "back", "join")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b p head head_dim", head_dim=len(weight))
    return rearrange(rms_norm(heads, weight, eps), "b p head head_dim -> b p (head_dim head)")


@wrong("02.4", "heads not joined again", "shape", "join")
def _(x, weight, eps):
    return rms_norm(rearrange(x, "b p (head head_dim) -> b p head head_dim", head_dim=len(weight)), weight, eps)


@wrong("02.4", "as many heads as the weight is long", "head", "number", "weight", "shape", "size")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b p head head_dim", head=len(weight))
    return rearrange(rms_norm(heads, weight, eps), "b p head head_dim -> b p (head head_dim)")


@wrong("02.4", "over the heads instead of the channels", "head", "axis", "channel")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b p head_dim head", head_dim=len(weight)).float()
    normed = heads * torch.rsqrt(heads.pow(2).mean(dim=-1, keepdim=True) + eps)
    return rearrange(normed.to(x.dtype), "b p head_dim head -> b p head head_dim").mul(weight).flatten(2)


@wrong("02.4", "no weight", "weight")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b p head head_dim", head_dim=len(weight))
    return rms_norm(heads, torch.ones_like(weight), eps).flatten(2)


@wrong("02.4", "the module's shape: heads before positions", "shape", "position", "order", "join", "head")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b head p head_dim", head_dim=len(weight))
    return rms_norm(heads, weight, eps)


@wrong("02.4", "heads before positions, then reshaped", "position", "order", "permut", "head", "swapped", "reshape")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b head p head_dim", head_dim=len(weight))
    return rms_norm(heads, weight, eps).reshape(x.shape)


@wrong("02.4", "one size for all positions of a head", "position", "token", "together")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b p head head_dim", head_dim=len(weight)).float()
    size = reduce(heads**2, "b p head head_dim -> b 1 head 1", "mean")
    return (weight * (heads * torch.rsqrt(size + eps)).to(x.dtype)).flatten(2)


@wrong("02.4", "float32 comes out", "float32", "dtype")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b p head head_dim", head_dim=len(weight))
    return rms_norm(heads.float(), weight.float(), eps).flatten(2)


@wrong("02.4", "eps outside the root", "eps", "root")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b p head head_dim", head_dim=len(weight)).float()
    return (weight * (heads / (heads.pow(2).mean(-1, keepdim=True).sqrt() + eps)).to(x.dtype)).flatten(2)


@wrong("02.4", "length one", "length", "sum", "mean", "head_dim", "l2")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b p head head_dim", head_dim=len(weight))
    return (weight * F.normalize(heads.float(), dim=-1).to(x.dtype)).flatten(2)


@wrong("02.4", "LayerNorm", "mean", "layernorm", "subtract")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b p head head_dim", head_dim=len(weight))
    return (weight * F.layer_norm(heads.float(), weight.shape, eps=eps).to(x.dtype)).flatten(2)


@wrong("02.4", "only the first head", "first", "every head", "all heads", "other heads")
def _(x, weight, eps):
    result, size = x.clone(), len(weight)
    result[..., :size] = rms_norm(x[..., :size], weight, eps)
    return result


@wrong("02.4", "the 235B's 128 channels", "128", "head_dim", "shape", "size", "length", "error", "divis")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b p head head_dim", head_dim=128)
    return rms_norm(heads, weight, eps).flatten(2)


@wrong("02.4", "rms_norm of the row as it is", "size", "shape", "head", "split", "error", "match")
def _(x, weight, eps):
    return rms_norm(x, weight, eps)


@right("02.4", "weight before the cast, since the page does not say")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b p head head_dim", head_dim=len(weight)).float()
    normed = weight.float() * heads * torch.rsqrt(heads.pow(2).mean(-1, keepdim=True) + eps)
    return normed.flatten(2).to(x.dtype)


@wrong("02.4", "batch and position joined", "shape", "batch", "position")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> (b p) head head_dim", head_dim=len(weight))
    return rms_norm(heads, weight, eps).flatten(1)


@right("02.4", "split, norm, join")
def _(x, weight, eps):
    heads = rearrange(x, "b p (head head_dim) -> b p head head_dim", head_dim=weight.shape[0])
    return rearrange(rms_norm(heads, weight, eps), "b p head head_dim -> b p (head head_dim)")


@right("02.4", "view and reshape")
def _(x, weight, eps):
    return rms_norm(x.view(*x.shape[:-1], -1, weight.numel()), weight, eps).reshape(x.shape)


@right("02.4", "unflatten and flatten")
def _(x, weight, eps):
    return rms_norm(x.unflatten(-1, (-1, len(weight))), weight, eps).flatten(-2)


@right("02.4", "head by head")
def _(x, weight, eps):
    return torch.cat([rms_norm(head, weight, eps) for head in x.split(len(weight), dim=-1)], dim=-1)


@right("02.4", "sizes copied to all channels")
def _(x, weight, eps):
    wide, head_dim = x.float(), len(weight)
    square = reduce(wide**2, "b p (head head_dim) -> b p head", "mean", head_dim=head_dim)
    size = repeat((square + eps).sqrt(), "b p head -> b p (head head_dim)", head_dim=head_dim)
    return (wide / size).to(x.dtype) * weight.repeat(x.shape[-1] // head_dim)


@right("02.4", "all in a list of heads")
def _(x, weight, eps):
    flat = rearrange(x, "b p (head head_dim) -> (b p head) head_dim", head_dim=len(weight))
    return rms_norm(flat, weight, eps).reshape_as(x)


@right("02.4", "rms_norm of torch")
def _(x, weight, eps):
    heads = x.reshape(*x.shape[:2], -1, len(weight))
    return (F.rms_norm(heads.float(), weight.shape, eps=eps).to(x.dtype) * weight).reshape(*x.shape)


# 02.5 sizes ----------------------------------------------------------------------------------------------------------

PATTERN = "layer batch position hidden -> layer (batch position)"


@wrong("02.5", "the line on the page", "page", "given", "einops", "reduce", "as it was")
def _(x):
    return x.view(x.shape[0], -1, x.shape[-1]).pow(2).mean(-1).sqrt()


@wrong("02.5", "no root", "root", "square")
def _(x):
    return reduce(x**2, PATTERN, "mean")


@wrong("02.5", "sum instead of mean", "sum", "mean", "length")
def _(x):
    return reduce(x**2, PATTERN, "sum") ** 0.5


@wrong("02.5", "position outside", "order", "batch", "position", "outer", "swapped", "permut")
def _(x):
    return reduce(x**2, "layer batch position hidden -> layer (position batch)", "mean") ** 0.5


@wrong("02.5", "not joined", "shape", "join", "batch")
def _(x):
    return reduce(x**2, "layer batch position hidden -> layer batch position", "mean") ** 0.5


@wrong("02.5", "mean over the batch too", "shape", "batch", "mean")
def _(x):
    return reduce(x**2, "layer batch position hidden -> layer position", "mean") ** 0.5


@wrong("02.5", "mean before the square", "square", "mean", "order", "absolute", "before")
def _(x):
    return (reduce(x, PATTERN, "mean") ** 2) ** 0.5


@wrong("02.5", "the mean alone", "square", "mean", "negative", "root")
def _(x):
    return reduce(x, PATTERN, "mean")


@wrong("02.5", "mean of the absolute values", "absolute", "abs", "square", "mean")
def _(x):
    return reduce(x.abs(), PATTERN, "mean")


@wrong("02.5", "standard deviation", "deviation", "mean", "subtract")
def _(x):
    return rearrange(x, "layer batch position hidden -> layer (batch position) hidden").std(dim=-1)


@wrong("02.5", "the largest", "max", "largest", "mean")
def _(x):
    return reduce(x.abs(), PATTERN, "max")


@wrong("02.5", "one size a channel", "hidden", "shape", "channel", "axis")
def _(x):
    return reduce(x**2, "layer batch position hidden -> layer hidden", "mean") ** 0.5


@wrong("02.5", "root of the sum, divided by hidden", "root", "hidden", "mean", "divid", "factor", "small")
def _(x):
    return reduce(x**2, PATTERN, "sum").sqrt() / x.shape[-1]


@wrong("02.5", "squared in place", "in place", "changed", "argument")
def _(x):
    return reduce(x.pow_(2), PATTERN, "mean").sqrt()


@wrong("02.5", "layer and batch joined", "shape", "layer", "batch", "join")
def _(x):
    return reduce(x**2, "layer batch position hidden -> (layer batch) position", "mean") ** 0.5


@wrong("02.5", "an axis of length one is kept", "shape", "axis", "one", "hidden")
def _(x):
    return reduce(x**2, "layer batch position hidden -> layer (batch position) 1", "mean") ** 0.5


@wrong("02.5", "tokens before layers", "shape", "transposed", "order", "swapped", "layer")
def _(x):
    return reduce(x**2, "layer batch position hidden -> (batch position) layer", "mean") ** 0.5


@wrong("02.5", "axes named in another order", "name", "order", "axis", "batch", "position", "hidden", "shape", "layer")
def _(x):
    return reduce(x**2, "batch layer position hidden -> layer (batch position)", "mean") ** 0.5


@right("02.5", "power")
def _(x):
    return reduce(x**2, PATTERN, "mean") ** 0.5


@right("02.5", "sqrt of torch")
def _(x):
    return torch.sqrt(reduce(x.square(), PATTERN, torch.mean))


@right("02.5", "short names")
def _(x):
    return reduce(x * x, "l b p h -> l (b p)", "mean").sqrt()


@right("02.5", "a reduction of its own")
def _(x):
    return reduce(x, PATTERN, lambda values, axes: values.pow(2).mean(axes).sqrt())


@right("02.5", "sum, divided by hidden")
def _(x):
    return (reduce(x**2, PATTERN, "sum") / x.shape[-1]).sqrt()


@right("02.5", "einsum")
def _(x):
    squares = einsum(x, x, "layer batch position hidden, layer batch position hidden -> layer batch position")
    return (rearrange(squares, "layer batch position -> layer (batch position)") / x.shape[3]) ** 0.5


@right("02.5", "reduced first, joined afterwards")
def _(x):
    return (reduce(x**2, "layer batch position hidden -> layer batch position", "mean") ** 0.5).flatten(1)
