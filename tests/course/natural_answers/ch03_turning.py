"""Natural answers to 03.2: every pair turned."""

import torch
from einops import einsum, rearrange, repeat

from tests.course.natural_answers.collect import Collection

collection = Collection("03.2")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


def quarter(x):
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


@wrong("03.2", "neighbours, with the tables as they are", "neighbour", "pair")
def _(x, cos, sin):
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * cos + turned * sin


@wrong("03.2", "neighbours, with one half of the tables", "neighbour", "pair")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    c, s, even, odd = cos[:, :half], sin[:, :half], x[..., ::2], x[..., 1::2]
    return torch.stack((even * c - odd * s, odd * c + even * s), dim=-1).flatten(-2)


@wrong("03.2", "minus on the wrong half", "direction", "other way", "sign", "backward", "minus")
def _(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((second, -first), dim=-1) * sin


@wrong("03.2", "cos and sin exchanged", "cos", "sin", "swapped", "exchanged")
def _(x, cos, sin):
    return x * sin + quarter(x) * cos


@wrong("03.2", "halves not exchanged", "swap", "exchange", "halves", "quarter", "partner", "other half")
def _(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-first, second), dim=-1) * sin


@wrong("03.2", "no minus", "minus", "sign")
def _(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((second, first), dim=-1) * sin


@wrong("03.2", "x with both", "quarter", "partner", "itself", "half", "halves")
def _(x, cos, sin):
    return x * cos + x * sin


@wrong("03.2", "the sine's part forgotten", "sin", "quarter", "cos")
def _(x, cos, sin):
    return x * cos


@wrong("03.2", "second half left alone", "second half", "half", "second")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos[:, :half] - second * sin[:, :half], second), dim=-1)


@wrong("03.2", "second from the first that is already turned", "already", "turned", "second", "overwr", "old", "new")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    out = x.clone()
    out[..., :half] = out[..., :half] * cos[:, :half] - out[..., half:] * sin[:, :half]
    out[..., half:] = out[..., :half] * sin[:, :half] + out[..., half:] * cos[:, :half]
    return out


@wrong("03.2", "right, but written into x", "in place", "changed", "argument", "unchanged")
def _(x, cos, sin):
    turned = x * cos + quarter(x) * sin
    x.copy_(turned)
    return x


@wrong("03.2", "float32 inside and out", "dtype", "float32", "bfloat16")
def _(x, cos, sin):
    return x.float() * cos.float() + quarter(x.float()) * sin.float()


@wrong("03.2", "pairs on an axis of their own", "shape", "axis")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    first, second, c, s = x[..., :half], x[..., half:], cos[:, :half], sin[:, :half]
    return torch.stack((first * c - second * s, first * s + second * c), dim=-1)


@wrong("03.2", "halves read, neighbours written", "order", "neighbour", "interleav", "channel", "written", "place")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    first, second, c, s = x[..., :half], x[..., half:], cos[:, :half], sin[:, :half]
    return torch.stack((first * c - second * s, first * s + second * c), dim=-1).flatten(-2)


@wrong("03.2", "neighbours read, halves written", "order", "neighbour", "channel", "read", "pair")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    first, second, c, s = x[..., ::2], x[..., 1::2], cos[:, :half], sin[:, :half]
    return torch.cat((first * c - second * s, first * s + second * c), dim=-1)


@wrong("03.2", "joined along the positions", "shape", "axis")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    first, second, c, s = x[..., :half], x[..., half:], cos[:, :half], sin[:, :half]
    return torch.cat((first * c - second * s, first * s + second * c), dim=-2)


@wrong("03.2", "the table's rows along the heads", "shape", "size", "axis", "head", "position")
def _(x, cos, sin):
    cos, sin = (rearrange(table, "position head_dim -> position 1 head_dim") for table in (cos, sin))
    return x * cos + quarter(x) * sin


@wrong("03.2", "one row of the table for all", "position", "row", "first", "same")
def _(x, cos, sin):
    return x * cos[0] + quarter(x) * sin[0]


@wrong("03.2", "halves come out exchanged", "halves", "swapped", "exchanged", "order")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    first, second, c, s = x[..., :half], x[..., half:], cos[:, :half], sin[:, :half]
    return torch.cat((first * s + second * c, first * c - second * s), dim=-1)


@wrong(
    "03.2", "tables taken as neighbours, channels as halves", "table", "cos", "twice", "every second", "angle", "pair"
)
def _(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    c, s = cos[:, ::2], sin[:, ::2]
    return torch.cat((first * c - second * s, first * s + second * c), dim=-1)


@wrong("03.2", "added to x", "added", "x itself", "residual", "sum")
def _(x, cos, sin):
    return x + x * cos + quarter(x) * sin


@wrong("03.2", "cos and sin taken for angles", "angle", "cos", "already")
def _(x, cos, sin):
    return x * cos.cos() + quarter(x) * sin.sin()


@wrong("03.2", "complex conjugate", "direction", "other way", "sign", "backward", "minus")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    arrows = torch.complex(*x.double().chunk(2, dim=-1))
    turned = arrows * torch.complex(cos.double(), sin.double())[:, :half].conj()
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


@wrong("03.2", "both minus signs", "sign", "minus", "length", "rotation")
def _(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos - torch.cat((second, first), dim=-1) * sin


@wrong("03.2", "mirrored within the head", "flip", "mirror", "revers", "partner", "pair")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    back = x.flip(-1)
    return x * cos + torch.cat((-back[..., :half], back[..., half:]), dim=-1) * sin


@right("03.2", "halves by slices")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    first, second, c, s = x[..., :half], x[..., half:], cos[:, :half], sin[:, :half]
    return torch.cat((first * c - second * s, second * c + first * s), dim=-1)


@right("03.2", "a matrix for each position and pair")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    c, s = cos[:, :half], sin[:, :half]
    turn = torch.stack((torch.stack((c, -s)), torch.stack((s, c))))
    arrows = rearrange(x, "batch head position (pair half) -> batch head position pair half", pair=2)
    turned = einsum(turn, arrows, "to pair position half, batch head position pair half -> batch head position to half")
    return rearrange(turned, "batch head position to half -> batch head position (to half)")


@right("03.2", "complex numbers")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    arrows = torch.complex(*x.double().chunk(2, dim=-1)) * torch.complex(cos.double(), sin.double())[:, :half]
    return torch.cat((arrows.real, arrows.imag), dim=-1).to(x.dtype)


@right("03.2", "rolled, with a row of signs")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    signs = repeat(torch.tensor([-1, 1]), "pair -> (pair half)", half=half)
    return x * cos + x.roll(half, dims=-1) * signs * sin


@right("03.2", "loops over positions and pairs")
def _(x, cos, sin):
    half, out = x.shape[-1] // 2, torch.empty_like(x)
    for p in range(x.shape[-2]):
        for j in range(half):
            a, b = x[:, :, p, j], x[:, :, p, j + half]
            out[:, :, p, j] = a * cos[p, j] - b * sin[p, j]
            out[:, :, p, j + half] = b * cos[p, j + half] + a * sin[p, j + half]
    return out


@right("03.2", "addcmul")
def _(x, cos, sin):
    return torch.addcmul(x * cos, quarter(x), sin.expand_as(x))


@right("03.2", "the quarter turn as a matrix")
def _(x, cos, sin):
    eye = torch.eye(x.shape[-1] // 2, dtype=x.dtype)
    zero = torch.zeros_like(eye)
    matrix = torch.cat((torch.cat((zero, eye), dim=1), torch.cat((-eye, zero), dim=1)))
    return x * cos + x @ matrix * sin


@right("03.2", "into a clone")
def _(x, cos, sin):
    half, out = x.shape[-1] // 2, x * cos
    out[..., :half] -= x[..., half:] * sin[..., :half]
    out[..., half:] += x[..., :half] * sin[..., half:]
    return out
