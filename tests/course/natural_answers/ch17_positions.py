"""Natural answers to 17.1 and 17.2: the distances of dual chunk attention, YaRN from memory."""

import math

import numpy as np
import torch

from tests.course.natural_answers.collect import Collection

collection = Collection("17.1", "17.2")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


def fill(rule):
    """A table by a rule for (query, key, chunk_size, local_size), one pair after another, below the diagonal."""

    def distances(length, chunk_size, local_size):
        table = torch.zeros(length, length, dtype=torch.int64)
        for query in range(length):
            for key in range(query + 1):
                table[query, key] = rule(query, key, chunk_size, local_size)
        return table

    return distances


def by_the_page(query, key, chunk_size, local_size):
    stride = chunk_size - local_size
    apart = query // stride - key // stride
    at = [query % stride, min(query % stride + stride, chunk_size), min(2 * stride - 1, chunk_size)][min(apart, 2)]
    return at - key % stride


# 17.1 -----------------------------------------------------------------------------------------------------------------


@wrong("17.1", "plain distances", "true", "plain")
def _(length, chunk_size, local_size):
    position = torch.arange(length)
    return (position[:, None] - position[None, :]).clamp(min=0)


@wrong("17.1", "clipped distances", "cut off", "rotation")
def _(length, chunk_size, local_size):
    position = torch.arange(length)
    return (position[:, None] - position[None, :]).clamp(0, chunk_size)


wrong("17.1", "chunks as long as chunk_size", "chunk_size", "local")(
    fill(lambda q, k, c, w: [q % c, min(q % c + c, c), min(2 * c - 1, c)][min(q // c - k // c, 2)] - k % c)
)
wrong("17.1", "no limit for the chunk before", "limit")(
    fill(
        lambda q, k, c, w: (
            [q % (c - w), q % (c - w) + c - w, min(2 * (c - w) - 1, c)][min(q // (c - w) - k // (c - w), 2)]
            - k % (c - w)
        )
    )
)
wrong("17.1", "older chunks as the one before", "older", "before")(
    fill(
        lambda q, k, c, w: [q % (c - w), min(q % (c - w) + c - w, c)][min(q // (c - w) - k // (c - w), 1)] - k % (c - w)
    )
)
wrong("17.1", "older chunks at chunk_size, flat", "older", "place", "same distance")(
    fill(lambda q, k, c, w: min(2 * (c - w) - 1, c) if q // (c - w) - k // (c - w) >= 2 else by_the_page(q, k, c, w))
)
wrong("17.1", "keys keep their positions", "key")(fill(lambda q, k, c, w: by_the_page(q, k, c, w) + k % (c - w) - k))


@wrong("17.1", "nothing above the diagonal removed", "diagonal", "after", "0", "negative")
def _(length, chunk_size, local_size):
    stride = chunk_size - local_size
    p = torch.arange(length)
    place, chunk = p % stride, p // stride
    apart = chunk[:, None] - chunk[None, :]
    older = torch.full_like(place, min(2 * stride - 1, chunk_size))
    first = torch.where(apart == 1, (place + stride).clamp(max=chunk_size)[:, None], older[:, None])
    return torch.where(apart == 0, place[:, None], first) - place[None, :]


@wrong("17.1", "rows are keys", "exchanged", "row", "transpose")
def _(length, chunk_size, local_size):
    return fill(by_the_page)(length, chunk_size, local_size).T.contiguous()


wrong("17.1", "always chunk_size for older ones", "chunk_size", "2 * stride", "older")(
    fill(lambda q, k, c, w: c - k % (c - w) if q // (c - w) - k // (c - w) > 1 else by_the_page(q, k, c, w))
)
wrong("17.1", "limit one lower", "limit", "chunk_size")(
    fill(
        lambda q, k, c, w: (
            [q % (c - w), min(q % (c - w) + c - w, c - 1), min(2 * (c - w) - 1, c - 1)][
                min(q // (c - w) - k // (c - w), 2)
            ]
            - k % (c - w)
        )
    )
)
wrong("17.1", "the remainder of the distance", "remainder", "modulo", "place")(
    fill(lambda q, k, c, w: (q - k) % (c - w))
)
wrong("17.1", "minus the stride's place in floats", "type", "int")(
    lambda length, c, w: fill(by_the_page)(length, c, w).float()
)


right("17.1", "loops")(fill(by_the_page))


@right("17.1", "chosen by masks")
def _(length, chunk_size, local_size):
    stride = chunk_size - local_size
    p = torch.arange(length)
    r, c = p % stride, p // stride
    apart = c.unsqueeze(1) - c.unsqueeze(0)
    out = torch.zeros(length, length, dtype=torch.long)
    for mask, position in (
        (apart == 0, r),
        (apart == 1, torch.minimum(r + stride, torch.tensor(chunk_size))),
        (apart >= 2, torch.full((length,), min(2 * stride - 1, chunk_size))),
    ):
        out[mask] = (position.unsqueeze(1) - r.unsqueeze(0))[mask]
    return torch.tril(out)


@right("17.1", "numpy")
def _(length, chunk_size, local_size):
    stride = chunk_size - local_size
    p = np.arange(length)
    r, c = p % stride, p // stride
    apart = np.clip(np.subtract.outer(c, c), 0, 2)
    three = np.stack([r, np.minimum(r + stride, chunk_size), np.full(length, min(2 * stride - 1, chunk_size))])
    return torch.from_numpy(np.tril(three[apart, np.arange(length)[:, None]] - r))


@right("17.1", "gather")
def _(length, chunk_size, local_size):
    stride = chunk_size - local_size
    p = torch.arange(length)
    three = torch.stack(
        [
            p % stride,
            (p % stride + stride).clamp(max=chunk_size),
            torch.full((length,), min(2 * stride - 1, chunk_size)),
        ],
        dim=1,
    )
    case = (p[:, None] // stride - p // stride).clamp(0, 2)
    return (three.gather(1, case) - p % stride).tril()


@right("17.1", "a list of lists")
def _(length, chunk_size, local_size):
    rows = [[by_the_page(q, k, chunk_size, local_size) if k <= q else 0 for k in range(length)] for q in range(length)]
    return torch.LongTensor(rows).view(length, length)


@right("17.1", "divmod")
def _(length, chunk_size, local_size):
    stride, table = chunk_size - local_size, torch.zeros(length, length).long()
    for q in range(length):
        own, place = divmod(q, stride)
        for k in range(q + 1):
            other, there = divmod(k, stride)
            if own == other:
                table[q, k] = place - there
            elif own == other + 1:
                table[q, k] = min(place + stride, chunk_size) - there
            else:
                table[q, k] = min(stride + stride - 1, chunk_size) - there
    return table


# 17.2 -----------------------------------------------------------------------------------------------------------------


def ends(head_dim, theta, original, fast=32, slow=1):
    half = head_dim / 2
    low = math.floor(half * math.log(original / (fast * 2 * math.pi)) / math.log(theta))
    high = math.ceil(half * math.log(original / (slow * 2 * math.pi)) / math.log(theta))
    return max(low, 0), min(high, head_dim - 1)


def plain(head_dim, theta):
    return 1.0 / theta ** (torch.arange(0, head_dim, 2).float() / head_dim)


def ramp_of(head_dim, low, high):
    return ((torch.arange(head_dim // 2) - low) / max(high - low, 0.001)).clamp(0, 1)


def scale(factor):
    return 0.1 * math.log(factor) + 1


@wrong("17.2", "all pairs divided", "all pairs", "scaled", "slowed")
def _(head_dim, theta, factor, original):
    return plain(head_dim, theta) / factor, scale(factor)


@wrong("17.2", "no pair divided", "plain", "no pair")
def _(head_dim, theta, factor, original):
    return plain(head_dim, theta), scale(factor)


@wrong("17.2", "the ramp from slow to fast", "reversed", "fast")
def _(head_dim, theta, factor, original):
    ramp = 1 - ramp_of(head_dim, *ends(head_dim, theta, original))
    return plain(head_dim, theta) * (1 - ramp) + plain(head_dim, theta) / factor * ramp, scale(factor)


@wrong("17.2", "slow pairs multiplied", "divide", "slow", "multiplied")
def _(head_dim, theta, factor, original):
    ramp = ramp_of(head_dim, *ends(head_dim, theta, original))
    return plain(head_dim, theta) * (1 - ramp) + plain(head_dim, theta) * factor * ramp, scale(factor)


@wrong("17.2", "no scale", "scale")
def _(head_dim, theta, factor, original):
    ramp = ramp_of(head_dim, *ends(head_dim, theta, original))
    return plain(head_dim, theta) * (1 - ramp) + plain(head_dim, theta) / factor * ramp, 1.0


@wrong("17.2", "the scale of scores", "square", "scale")
def _(head_dim, theta, factor, original):
    ramp = ramp_of(head_dim, *ends(head_dim, theta, original))
    return plain(head_dim, theta) * (1 - ramp) + plain(head_dim, theta) / factor * ramp, scale(factor) ** 2


@wrong("17.2", "log10", "logarithm", "scale")
def _(head_dim, theta, factor, original):
    ramp = ramp_of(head_dim, *ends(head_dim, theta, original))
    mixed = plain(head_dim, theta) * (1 - ramp) + plain(head_dim, theta) / factor * ramp
    return mixed, 0.1 * math.log10(factor) + 1


@wrong("17.2", "turns in the new context", "original", "length")
def _(head_dim, theta, factor, original):
    ramp = ramp_of(head_dim, *ends(head_dim, theta, original * factor))
    return plain(head_dim, theta) * (1 - ramp) + plain(head_dim, theta) / factor * ramp, scale(factor)


@wrong("17.2", "not rounded", "round")
def _(head_dim, theta, factor, original):
    low, high = (head_dim / 2 * math.log(original / (n * 2 * math.pi)) / math.log(theta) for n in (32, 1))
    ramp = ramp_of(head_dim, max(low, 0), min(high, head_dim - 1))
    return plain(head_dim, theta) * (1 - ramp) + plain(head_dim, theta) / factor * ramp, scale(factor)


@wrong("17.2", "j / head_dim", "exponent")
def _(head_dim, theta, factor, original):
    base = 1.0 / theta ** (torch.arange(head_dim // 2).float() / head_dim)
    ramp = ramp_of(head_dim, *ends(head_dim, theta, original))
    return base * (1 - ramp) + base / factor * ramp, scale(factor)


@wrong("17.2", "without 2 pi", "turn", "2 pi", "radians")
def _(head_dim, theta, factor, original):
    low, high = (head_dim / 2 * math.log(original / n) / math.log(theta) for n in (32, 1))
    ramp = ramp_of(head_dim, max(math.floor(low), 0), min(math.ceil(high), head_dim - 1))
    return plain(head_dim, theta) * (1 - ramp) + plain(head_dim, theta) / factor * ramp, scale(factor)


@wrong("17.2", "periods", "period", "radians")
def _(head_dim, theta, factor, original):
    ramp = ramp_of(head_dim, *ends(head_dim, theta, original))
    return 1 / (plain(head_dim, theta) * (1 - ramp) + plain(head_dim, theta) / factor * ramp), scale(factor)


@wrong("17.2", "every channel", "shape", "head_dim", "pair")
def _(head_dim, theta, factor, original):
    ramp = ramp_of(head_dim, *ends(head_dim, theta, original))
    mixed = plain(head_dim, theta) * (1 - ramp) + plain(head_dim, theta) / factor * ramp
    return torch.cat((mixed, mixed)), scale(factor)


@wrong("17.2", "the frequencies alone", "two", "tuple", "scale")
def _(head_dim, theta, factor, original):
    ramp = ramp_of(head_dim, *ends(head_dim, theta, original))
    return plain(head_dim, theta) * (1 - ramp) + plain(head_dim, theta) / factor * ramp


@right("17.2", "lerp")
def _(head_dim, theta, factor, original):
    base = plain(head_dim, theta)
    return torch.lerp(base, base / factor, ramp_of(head_dim, *ends(head_dim, theta, original))), scale(factor)


@right("17.2", "mixed by what is kept")
def _(head_dim, theta, factor, original):
    kept = 1 - ramp_of(head_dim, *ends(head_dim, theta, original))
    base = plain(head_dim, theta)
    return base / factor * (1 - kept) + base * kept, scale(factor)


@right("17.2", "one factor")
def _(head_dim, theta, factor, original):
    ramp = ramp_of(head_dim, *ends(head_dim, theta, original))
    return plain(head_dim, theta) * (1 - ramp + ramp / factor), math.log(factor) / 10 + 1


@right("17.2", "a loop")
def _(head_dim, theta, factor, original):
    low, high = ends(head_dim, theta, original)
    out = []
    for j in range(head_dim // 2):
        f = theta ** (-2 * j / head_dim)
        r = min(1.0, max(0.0, (j - low) / max(high - low, 0.001)))
        out.append((1 - r) * f + r * f / factor)
    return torch.tensor(out), scale(factor)


@right("17.2", "numpy")
def _(head_dim, theta, factor, original):
    low, high = ends(head_dim, theta, original)
    j = np.arange(head_dim // 2)
    base = theta ** (-2.0 * j / head_dim)
    ramp = np.clip((j - low) / max(high - low, 0.001), 0, 1)
    return torch.from_numpy((base * (1 - ramp) + base / factor * ramp).astype(np.float32)), 1 + 0.1 * np.log(factor)


@right("17.2", "float64 at first")
def _(head_dim, theta, factor, original):
    ramp = ramp_of(head_dim, *ends(head_dim, theta, original)).double()
    base = torch.tensor(theta, dtype=torch.float64) ** (-2 * torch.arange(head_dim // 2) / head_dim)
    return (base * (1 - ramp) + base / factor * ramp).float(), scale(factor)
