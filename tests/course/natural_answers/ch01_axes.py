"""Natural answers to 01.1 and 01.6: a mosaic, and the embedding as an einsum."""

import numpy as np
import torch
from einops import einsum, rearrange, reduce, repeat
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("01.1", "01.6")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 01.1 a mosaic -------------------------------------------------------------------------------------------------------


@wrong("01.1", "filled column by column", "column", "below", "order", "first row")
def _(pictures, down):
    return rearrange(pictures, "(right down) row column -> (down row) (right column)", down=down)


@wrong("01.1", "down taken for the pictures in a row", "down", "right", "beside", "columns", "shape")
def _(pictures, down):
    return rearrange(pictures, "(down right) row column -> (down row) (right column)", right=down)


@wrong("01.1", "combed in both directions", "comb", "outer", "inner", "interleave", "swapped", "parenthes")
def _(pictures, down):
    return rearrange(pictures, "(down right) row column -> (row down) (column right)", down=down)


@wrong("01.1", "columns combed", "comb", "outer", "inner", "interleave", "swapped", "column")
def _(pictures, down):
    return rearrange(pictures, "(down right) row column -> (down row) (column right)", down=down)


@wrong("01.1", "rows combed", "comb", "outer", "inner", "interleave", "swapped", "row")
def _(pictures, down):
    return rearrange(pictures, "(down right) row column -> (row down) (right column)", down=down)


@wrong("01.1", "reshape alone", "reshape", "memory", "cut", "shape", "order")
def _(pictures, down):
    return pictures.reshape(down * pictures.shape[1], -1)


@wrong("01.1", "transposed pictures", "transposed", "side", "row", "column", "shape")
def _(pictures, down):
    return rearrange(pictures, "(down right) row column -> (down column) (right row)", down=down)


@wrong("01.1", "all below each other", "shape", "below", "column", "down")
def _(pictures, down):
    return rearrange(pictures, "picture row column -> (picture row) column")


@wrong("01.1", "all beside each other", "shape", "beside", "row", "down")
def _(pictures, down):
    return rearrange(pictures, "picture row column -> row (picture column)")


@wrong("01.1", "axes never joined", "shape", "axes", "join")
def _(pictures, down):
    return rearrange(pictures, "(down right) row column -> down row right column", down=down)


@wrong("01.1", "two in each row, as in the lesson", "two", "2", "down", "shape")
def _(pictures, down):
    return rearrange(pictures, "(down right) row column -> (down row) (right column)", right=2)


@wrong("01.1", "always two rows, as in the lesson", "two", "2", "down", "shape")
def _(pictures, down):
    return rearrange(pictures, "(down right) row column -> (down row) (right column)", down=2)


@wrong("01.1", "first row at the bottom", "bottom", "reverse", "flip", "last", "first row", "order")
def _(pictures, down):
    rows = pictures.chunk(down)
    return torch.cat([torch.cat(list(row), dim=1) for row in reversed(rows)], dim=0)


@wrong("01.1", "every down-th picture", "column", "order", "first row", "below")
def _(pictures, down):
    return torch.cat([torch.cat(list(pictures[start::down]), dim=1) for start in range(down)])


@wrong("01.1", "stacked instead of joined", "shape", "axis", "axes", "stack")
def _(pictures, down):
    return torch.stack([torch.cat(list(row), dim=1) for row in pictures.chunk(down)])


@wrong("01.1", "down forgotten in the call", "einops", "down", "length", "size", "error")
def _(pictures, down):
    return rearrange(pictures, "(down right) row column -> (down row) (right column)")


@wrong("01.1", "pictures on top of each other", "shape", "reduce", "top", "lost")
def _(pictures, down):
    return reduce(pictures, "(down right) row column -> (down row) column", "max", down=down)


@right("01.1", "right from the number of pictures")
def _(pictures, down):
    right = len(pictures) // down
    return rearrange(pictures, "(d r) h w -> (d h) (r w)", d=down, r=right)


@right("01.1", "cat of cats")
def _(pictures, down):
    return torch.cat([torch.cat(list(row), dim=1) for row in pictures.chunk(down)])


@right("01.1", "reshape, transpose, reshape")
def _(pictures, down):
    number, row, column = pictures.shape
    return pictures.reshape(down, number // down, row, column).transpose(1, 2).reshape(down * row, -1)


@right("01.1", "permute and flatten")
def _(pictures, down):
    return pictures.unflatten(0, (down, -1)).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)


@right("01.1", "pixels of each picture into a canvas")
def _(pictures, down):
    number, height, width = pictures.shape
    right = number // down
    canvas = pictures.new_zeros(down * height, right * width)
    for n, picture in enumerate(pictures):
        y, x = n // right * height, n % right * width
        canvas[y : y + height, x : x + width] = picture
    return canvas


@right("01.1", "block of numpy")
def _(pictures, down):
    right = len(pictures) // down
    rows = [[pictures[y * right + x].numpy() for x in range(right)] for y in range(down)]
    return torch.from_numpy(np.block(rows))


@right("01.1", "in two steps")
def _(pictures, down):
    rows = rearrange(pictures, "(down right) row column -> down row (right column)", down=down)
    return rearrange(rows, "down row column -> (down row) column")


# 01.6 the embedding as an einsum -------------------------------------------------------------------------------------

PATTERN = "batch position vocab, vocab hidden -> batch position hidden"


@wrong("01.6", "as many classes as the largest id needs", "classes", "largest", "vocab", "shape", "size", "one_hot")
def _(token_ids, weight):
    return einsum(F.one_hot(token_ids).to(weight.dtype), weight, PATTERN)


@wrong("01.6", "one-hot in float32, whatever the weight", "dtype", "float32", "bfloat16")
def _(token_ids, weight):
    return einsum(F.one_hot(token_ids, len(weight)).float(), weight, PATTERN)


@wrong("01.6", "all in float32", "dtype", "float32", "bfloat16")
def _(token_ids, weight):
    return einsum(F.one_hot(token_ids, len(weight)).float(), weight.float(), PATTERN)


@wrong("01.6", "integers", "dtype", "int", "long", "same")
def _(token_ids, weight):
    return einsum(F.one_hot(token_ids, len(weight)), weight, PATTERN)


@wrong("01.6", "vocab misspelt", "misspel", "spelt", "sum", "every row", "all rows", "name")
def _(token_ids, weight):
    one_hot = F.one_hot(token_ids, len(weight)).to(weight.dtype)
    return einsum(one_hot, weight, "batch position vocab, vocabulary hidden -> batch position hidden")


@wrong("01.6", "hidden before position", "shape", "permute", "axes", "order", "swapped")
def _(token_ids, weight):
    one_hot = F.one_hot(token_ids, len(weight)).to(weight.dtype)
    return einsum(one_hot, weight, "batch position vocab, vocab hidden -> batch hidden position")


@wrong("01.6", "position before batch", "shape", "permute", "axes", "order", "swapped", "position")
def _(token_ids, weight):
    one_hot = F.one_hot(token_ids, len(weight)).to(weight.dtype)
    return einsum(one_hot, weight, "batch position vocab, vocab hidden -> position batch hidden")


@wrong("01.6", "batch and position joined", "shape", "batch", "flat")
def _(token_ids, weight):
    one_hot = F.one_hot(token_ids.flatten(), len(weight)).to(weight.dtype)
    return einsum(one_hot, weight, "token vocab, vocab hidden -> token hidden")


@wrong("01.6", "ids counted from one", "one too", "next", "row", "shift", "zero", "off by one")
def _(token_ids, weight):
    one_hot = F.one_hot((token_ids - 1) % len(weight), len(weight)).to(weight.dtype)
    return einsum(one_hot, weight, PATTERN)


@wrong("01.6", "the row behind it", "one too", "next", "row", "shift", "off by one")
def _(token_ids, weight):
    one_hot = F.one_hot((token_ids + 1) % len(weight), len(weight)).to(weight.dtype)
    return einsum(one_hot, weight, PATTERN)


@wrong("01.6", "times the root of hidden, as in the first Transformer", "root", "scale", "times", "sqrt", "factor")
def _(token_ids, weight):
    one_hot = F.one_hot(token_ids, len(weight)).to(weight.dtype)
    return einsum(one_hot, weight, PATTERN) * weight.shape[1] ** 0.5


@wrong("01.6", "classes from the wrong side of the matrix", "vocab", "hidden", "classes", "shape", "one_hot")
def _(token_ids, weight):
    return einsum(F.one_hot(token_ids, weight.shape[1]).to(weight.dtype), weight, PATTERN)


@wrong("01.6", "hidden summed", "shape", "hidden", "sum")
def _(token_ids, weight):
    one_hot = F.one_hot(token_ids, len(weight)).to(weight.dtype)
    return einsum(one_hot, weight, "batch position vocab, vocab hidden -> batch position")


@wrong("01.6", "batch summed away", "shape", "batch", "sum")
def _(token_ids, weight):
    one_hot = F.one_hot(token_ids, len(weight)).to(weight.dtype)
    return einsum(one_hot, weight, "batch position vocab, vocab hidden -> position hidden")


@wrong("01.6", "rows brought to length one", "length", "norm", "size", "direction", "factor", "scale")
def _(token_ids, weight):
    return einsum(F.one_hot(token_ids, len(weight)).to(weight.dtype), F.normalize(weight, dim=-1), PATTERN)


@wrong("01.6", "softmax of the one-hot vectors", "softmax", "mix", "mean", "average", "all rows")
def _(token_ids, weight):
    one_hot = F.one_hot(token_ids, len(weight)).to(weight.dtype)
    return einsum(one_hot.softmax(dim=-1), weight, PATTERN)


@wrong("01.6", "one-hot vectors alone", "shape", "one-hot", "product", "weight")
def _(token_ids, weight):
    return F.one_hot(token_ids, len(weight)).to(weight.dtype)


@right("01.6", "matmul")
def _(token_ids, weight):
    return F.one_hot(token_ids, num_classes=weight.size(0)).to(weight) @ weight


@right("01.6", "einsum of torch")
def _(token_ids, weight):
    one_hot = F.one_hot(token_ids, weight.shape[0]).type_as(weight)
    return torch.einsum("bpv,vh->bph", one_hot, weight)


@right("01.6", "comparison with all ids")
def _(token_ids, weight):
    one_hot = (token_ids[..., None] == torch.arange(len(weight))).to(weight.dtype)
    return einsum(one_hot, weight, "b p v, v h -> b p h")


@right("01.6", "rows of an identity matrix")
def _(token_ids, weight):
    return einsum(torch.eye(len(weight), dtype=weight.dtype)[token_ids], weight, PATTERN)


@right("01.6", "scatter")
def _(token_ids, weight):
    one_hot = torch.zeros(*token_ids.shape, len(weight), dtype=weight.dtype).scatter_(-1, token_ids[..., None], 1)
    return torch.matmul(one_hot, weight)


@right("01.6", "flattened and back again")
def _(token_ids, weight):
    batch, position = token_ids.shape
    flat = F.one_hot(rearrange(token_ids, "b p -> (b p)"), len(weight)).to(weight.dtype)
    return rearrange(flat @ weight, "(b p) h -> b p h", b=batch, p=position)


@right("01.6", "float32 inside, cast back")
def _(token_ids, weight):
    ids = repeat(token_ids, "batch position -> batch position vocab", vocab=len(weight))
    one_hot = (ids == torch.arange(len(weight))).float()
    return einsum(one_hot, weight.float(), PATTERN).to(weight.dtype)
