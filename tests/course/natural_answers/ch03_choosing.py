"""Natural answers to 03.7: only the chosen pairs turned."""

import torch
from einops import rearrange, repeat

from minimoe.model.rope import apply_rope
from tests.course.natural_answers.collect import Collection

collection = Collection("03.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


def both(chosen):
    return repeat(chosen, "half -> (pair half)", pair=2)


@wrong("03.7", "the others turned", "not* chosen", "others", "opposite", "instead")
def _(x, cos, sin, chosen):
    return torch.where(both(chosen), x, apply_rope(x, cos, sin))


@wrong("03.7", "mask in the order of neighbours", "neighbour", "pair", "order", "mask")
def _(x, cos, sin, chosen):
    return torch.where(chosen.repeat_interleave(2), apply_rope(x, cos, sin), x)


@wrong("03.7", "mask on the first half alone", "second half", "half", "first", "both")
def _(x, cos, sin, chosen):
    return torch.where(torch.cat((chosen, torch.zeros_like(chosen))), apply_rope(x, cos, sin), x)


@wrong("03.7", "others become zero", "zero", "0", "went in", "unchanged")
def _(x, cos, sin, chosen):
    return apply_rope(x, cos, sin) * both(chosen)


@wrong("03.7", "the cosine of the others is 1, their sine is left", "sin")
def _(x, cos, sin, chosen):
    return apply_rope(x, torch.where(both(chosen), cos, 1), sin)


@wrong("03.7", "the sine of the others is 0, their cosine is left", "cos")
def _(x, cos, sin, chosen):
    return apply_rope(x, cos, sin * both(chosen))


@wrong("03.7", "all are turned", "all", "every", "chosen", "ignor")
def _(x, cos, sin, chosen):
    return apply_rope(x, cos, sin)


@wrong("03.7", "all are turned if any is chosen", "all", "every", "chosen", "each")
def _(x, cos, sin, chosen):
    return apply_rope(x, cos, sin) if chosen.any() else x


@wrong("03.7", "a mask of half the length", "shape", "size", "length", "index", "half")
def _(x, cos, sin, chosen):
    return torch.where(chosen, apply_rope(x, cos, sin), x)


@wrong("03.7", "written into x", "in place", "changed", "argument", "unchanged")
def _(x, cos, sin, chosen):
    mask = both(chosen)
    x[..., mask] = apply_rope(x, cos, sin)[..., mask]
    return x


@wrong("03.7", "the chosen channels alone", "shape")
def _(x, cos, sin, chosen):
    return apply_rope(x, cos, sin)[..., both(chosen)]


@wrong("03.7", "as many of the fastest as are chosen", "fastest", "number", "which", "first", "count")
def _(x, cos, sin, chosen):
    fastest = torch.arange(len(chosen)) < chosen.sum()
    return torch.where(both(fastest), apply_rope(x, cos, sin), x)


@wrong("03.7", "the table's first row taken for position 0", "first row", "position 0", "row", "table")
def _(x, cos, sin, chosen):
    mask = both(chosen)
    return apply_rope(x, torch.where(mask, cos, cos[:1]), torch.where(mask, sin, sin[:1]))


@wrong("03.7", "float32 comes out", "dtype", "float32")
def _(x, cos, sin, chosen):
    return torch.where(both(chosen), apply_rope(x.float(), cos.float(), sin.float()), x.float())


@wrong("03.7", "turned backwards", "direction", "other way", "sign", "backward", "minus")
def _(x, cos, sin, chosen):
    return torch.where(both(chosen), apply_rope(x, cos, -sin), x)


@wrong("03.7", "1 minus a mask of bool", "bool", "type", "error", "raise", "subtract")
def _(x, cos, sin, chosen):
    mask = both(chosen)
    return x * (1 - mask) + apply_rope(x, cos, sin) * mask


@wrong("03.7", "turned ones added to x", "added", "x itself", "sum", "twice")
def _(x, cos, sin, chosen):
    return x + apply_rope(x, cos, sin) * both(chosen)


@wrong("03.7", "neighbours form a pair", "neighbour", "pair")
def _(x, cos, sin, chosen):
    even, odd = x[..., ::2], x[..., 1::2]
    c, s = (table[:, : len(chosen)] for table in (cos, sin))
    turned = torch.stack(
        (torch.where(chosen, even * c - odd * s, even), torch.where(chosen, odd * c + even * s, odd)), -1
    )
    return turned.flatten(-2)


@wrong("03.7", "chosen ones in front, the others behind", "order", "channel", "place", "front", "position")
def _(x, cos, sin, chosen):
    mask = both(chosen)
    return torch.cat((apply_rope(x, cos, sin)[..., mask], x[..., ~mask]), dim=-1)


@wrong("03.7", "others are set to zero before the turn", "zero", "0", "went in", "unchanged")
def _(x, cos, sin, chosen):
    return apply_rope(torch.where(both(chosen), x, 0), cos, sin)


@wrong("03.7", "a list of numbers read from the mask, off by one", "next", "neighbour", "one", "number", "which")
def _(x, cos, sin, chosen):
    return torch.where(both(chosen.roll(1)), apply_rope(x, cos, sin), x)


@right("03.7", "torch.where")
def _(x, cos, sin, chosen):
    return torch.where(torch.cat((chosen, chosen)), apply_rope(x, cos, sin), x)


@right("03.7", "angles of the others set to zero")
def _(x, cos, sin, chosen):
    mask = both(chosen)
    return apply_rope(x, cos.masked_fill(~mask, 1), sin.masked_fill(~mask, 0))


@right("03.7", "indexed, into a clone")
def _(x, cos, sin, chosen):
    out, mask = x.clone(), chosen.tile(2)
    out[..., mask] = apply_rope(x, cos, sin)[..., mask]
    return out


@right("03.7", "the chosen taken out and turned by themselves")
def _(x, cos, sin, chosen):
    mask, out = both(chosen), x.clone()
    if chosen.any():
        out[..., mask] = apply_rope(x[..., mask], cos[..., mask], sin[..., mask])
    return out


@right("03.7", "pair by pair")
def _(x, cos, sin, chosen):
    half, out = len(chosen), x.clone()
    for j in chosen.nonzero().flatten().tolist():
        a, b, c, s = x[..., j], x[..., j + half], cos[:, j], sin[:, j]
        out[..., j], out[..., j + half] = a * c - b * s, a * s + b * c
    return out


@right("03.7", "a mask of numbers")
def _(x, cos, sin, chosen):
    mask = both(chosen).to(x.dtype)
    return mask * apply_rope(x, cos, sin) + (1 - mask) * x


@right("03.7", "halves on an axis")
def _(x, cos, sin, chosen):
    pairs, turned = (
        rearrange(each, "batch head position (pair half) -> batch head position pair half", pair=2)
        for each in (x, apply_rope(x, cos, sin))
    )
    kept = torch.where(chosen, turned, pairs)
    return rearrange(kept, "batch head position pair half -> batch head position (pair half)")
