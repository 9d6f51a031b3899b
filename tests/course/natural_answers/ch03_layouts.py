"""Natural answers to 03.6: rows of neighbours become rows of halves."""

import torch
from einops import einsum, rearrange

from tests.course.natural_answers.collect import Collection

collection = Collection("03.6")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


@wrong("03.6", "the other direction", "direction", "other way", "revers", "inverse", "opposite", "back")
def _(weight, head_dim):
    return rearrange(weight, "(head pair half) hidden -> (head half pair) hidden", pair=2, half=head_dim // 2)


@wrong("03.6", "lengths of the axes exchanged", "direction", "other way", "revers", "inverse", "opposite", "back")
def _(weight, head_dim):
    return rearrange(weight, "(head half pair) hidden -> (head pair half) hidden", half=2, pair=head_dim // 2)


@wrong("03.6", "as it is", "unchanged", "same order", "order", "nothing")
def _(weight, head_dim):
    return rearrange(weight, "(head half pair) hidden -> (head half pair) hidden", pair=2, half=head_dim // 2)


@wrong("03.6", "across all heads", "head")
def _(weight, head_dim):
    return rearrange(weight, "(half pair) hidden -> (pair half) hidden", pair=2)


@wrong("03.6", "pairs outside of heads", "head")
def _(weight, head_dim):
    return rearrange(weight, "(head half pair) hidden -> (pair head half) hidden", pair=2, half=head_dim // 2)


@wrong("03.6", "heads inside", "head")
def _(weight, head_dim):
    return rearrange(weight, "(head half pair) hidden -> (pair half head) hidden", pair=2, half=head_dim // 2)


@wrong("03.6", "columns in place of rows", "column", "row", "hidden")
def _(weight, head_dim):
    return torch.cat((weight[:, ::2], weight[:, 1::2]), dim=1)


@wrong("03.6", "head_dim taken for the number of heads", "head_dim", "number of heads", "head")
def _(weight, head_dim):
    return rearrange(weight, "(head half pair) hidden -> (head pair half) hidden", pair=2, head=head_dim)


@wrong("03.6", "half = head_dim", "head_dim", "head", "half", "twice", "raise", "error")
def _(weight, head_dim):
    return rearrange(weight, "(head half pair) hidden -> (head pair half) hidden", pair=2, half=head_dim)


@wrong("03.6", "a quarter for a half", "half", "head_dim", "head")
def _(weight, head_dim):
    return rearrange(weight, "(head half pair) hidden -> (head pair half) hidden", pair=2, half=head_dim // 4)


@wrong("03.6", "axes left apart", "shape")
def _(weight, head_dim):
    return rearrange(weight, "(head half pair) hidden -> head pair half hidden", pair=2, half=head_dim // 2)


@wrong("03.6", "odd ones first", "odd", "even", "swapped", "first", "halves", "second")
def _(weight, head_dim):
    heads = rearrange(weight, "(head head_dim) hidden -> head head_dim hidden", head_dim=head_dim)
    return torch.cat((heads[:, 1::2], heads[:, ::2]), dim=1).flatten(0, 1)


@wrong("03.6", "a minus for the odd ones", "sign", "minus")
def _(weight, head_dim):
    heads = rearrange(weight, "(head head_dim) hidden -> head head_dim hidden", head_dim=head_dim)
    return torch.cat((heads[:, ::2], -heads[:, 1::2]), dim=1).flatten(0, 1)


@wrong("03.6", "transposed", "shape", "transpos", "row", "column")
def _(weight, head_dim):
    return rearrange(weight, "(head half pair) hidden -> hidden (head pair half)", pair=2, half=head_dim // 2)


@wrong("03.6", "the first head alone", "first", "head", "other heads", "row")
def _(weight, head_dim):
    out = weight.clone()
    out[:head_dim] = torch.cat((weight[:head_dim:2], weight[1:head_dim:2]))
    return out


@wrong("03.6", "view without transpose", "unchanged", "same order", "order", "nothing")
def _(weight, head_dim):
    return weight.reshape(-1, 2, head_dim // 2, weight.shape[-1]).reshape(weight.shape)


@wrong("03.6", "written into the weight", "in place", "changed", "argument", "unchanged")
def _(weight, head_dim):
    weight.copy_(rearrange(weight, "(head half pair) h -> (head pair half) h", pair=2, half=head_dim // 2).clone())
    return weight


@wrong("03.6", "cast to float32", "dtype", "float32")
def _(weight, head_dim):
    return rearrange(weight.float(), "(head half pair) h -> (head pair half) h", pair=2, half=head_dim // 2)


@wrong("03.6", "each head read backwards", "revers", "backward", "order", "direction", "flip", "mirror")
def _(weight, head_dim):
    return rearrange(weight, "(head head_dim) h -> head head_dim h", head_dim=head_dim).flip(1).flatten(0, 1)


@wrong("03.6", "even ones of all heads, then odd ones of each", "head", "order", "row")
def _(weight, head_dim):
    even = rearrange(weight[::2], "(head half) hidden -> (half head) hidden", half=head_dim // 2)
    odd = rearrange(weight[1::2], "(head half) hidden -> (half head) hidden", half=head_dim // 2)
    return torch.cat((even, odd))


@wrong("03.6", "even ones twice", "odd", "even", "twice", "second", "row")
def _(weight, head_dim):
    heads = rearrange(weight, "(head head_dim) hidden -> head head_dim hidden", head_dim=head_dim)
    return torch.cat((heads[:, ::2], heads[:, ::2]), dim=1).flatten(0, 1)


@wrong("03.6", "as on the page", "einops", "page", "unchanged", "given", "pattern", "as it was")
def to_half_split_as_it_was(weight, head_dim):
    heads = weight.shape[0] // head_dim
    return weight.view(heads, head_dim // 2, 2, -1).transpose(1, 2).reshape(heads * head_dim, -1)


@right("03.6", "one pattern")
def _(weight, head_dim):
    return rearrange(weight, "(head half pair) hidden -> (head pair half) hidden", pair=2, half=head_dim // 2)


@right("03.6", "other names, the number of heads given")
def _(weight, head_dim):
    return rearrange(weight, "(h d two) c -> (h two d) c", two=2, h=len(weight) // head_dim)


@right("03.6", "apart and together")
def _(weight, head_dim):
    apart = rearrange(weight, "(head half pair) hidden -> head half pair hidden", pair=2, half=head_dim // 2)
    return rearrange(apart, "head half pair hidden -> (head pair half) hidden")


@right("03.6", "any further axes")
def _(weight, head_dim):
    return rearrange(weight, "(head half pair) ... -> (head pair half) ...", pair=2, half=head_dim // 2)


@right("03.6", "rows by their numbers")
def _(weight, head_dim):
    number = rearrange(torch.arange(len(weight)), "(head half pair) -> (head pair half)", pair=2, half=head_dim // 2)
    return weight[number]


@right("03.6", "head by head")
def _(weight, head_dim):
    return torch.cat([torch.cat((rows[::2], rows[1::2])) for rows in weight.split(head_dim)])


@right("03.6", "unflatten and flatten")
def _(weight, head_dim):
    return weight.unflatten(0, (-1, head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)


@right("03.6", "a matrix that exchanges rows")
def _(weight, head_dim):
    one = torch.eye(head_dim, dtype=weight.dtype)
    order = torch.cat((one[::2], one[1::2]))
    heads = rearrange(weight, "(head old) hidden -> head old hidden", old=head_dim)
    return rearrange(einsum(order, heads, "new old, head old hidden -> head new hidden"), "a b c -> (a b) c")
