"""Natural answers to 03.4: one step with a cache of turned keys."""

import torch
from einops import einsum, rearrange, repeat
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("03.4")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


def turn(x, positions, frequencies):
    angles = rearrange(positions, "position -> position 1") * frequencies
    cos, sin = (repeat(part, "position half -> position (pair half)", pair=2) for part in (angles.cos(), angles.sin()))
    first, second = rearrange(x, "position (pair half) -> pair position half", pair=2)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def dots(q, keys):
    return einsum(q, keys, "query head_dim, key head_dim -> query key")


def begin_at(start):
    """The function of the page, with its first position as `start(number of cached, number of new)` says."""

    def step(q, k, cached, frequencies):
        first = start(len(cached), len(q))
        positions = torch.arange(first, first + len(q))
        keys = torch.cat((cached, turn(k, positions, frequencies)))
        return dots(turn(q, positions, frequencies), keys), keys

    return step


wrong("03.4", "as on the page", "position", "cached", "one", "last")(begin_at(lambda old, new: max(old - 1, 0)))
wrong("03.4", "always from 0", "0", "offset", "position", "start")(begin_at(lambda old, new: 0))
wrong("03.4", "one after the next", "one", "position", "too far", "late")(begin_at(lambda old, new: old + 1))
wrong("03.4", "max removed, minus 1 kept", "one", "position", "early", "last")(begin_at(lambda old, new: old - 1))
wrong("03.4", "plus 1 only after a prompt", "one", "position", "late", "too far")(
    begin_at(lambda old, new: old + 1 if old else 0)
)
wrong("03.4", "the prompt's five typed in", "5", "position", "prompt", "length", "fixed")(
    begin_at(lambda old, new: 5 if old else 0)
)
wrong("03.4", "the last position of all", "position", "last", "first", "start", "late")(
    begin_at(lambda old, new: old + new - 1)
)
wrong("03.4", "new ones counted, not old ones", "position", "new", "cached", "old")(begin_at(lambda old, new: new))


@wrong("03.4", "length of the wrong axis", "head_dim", "axis", "position", "length", "shape")
def _(q, k, cached, frequencies):
    start = cached.shape[-1] if len(cached) else 0
    positions = torch.arange(start, start + len(q))
    keys = torch.cat((cached, turn(k, positions, frequencies)))
    return dots(turn(q, positions, frequencies), keys), keys


@wrong("03.4", "keys moved on, queries at 0", "quer", "q ")
def _(q, k, cached, frequencies):
    keys = torch.cat((cached, turn(k, torch.arange(len(cached), len(cached) + len(k)), frequencies)))
    return dots(turn(q, torch.arange(len(q)), frequencies), keys), keys


@wrong("03.4", "queries moved on, keys at 0", "key", "k ")
def _(q, k, cached, frequencies):
    keys = torch.cat((cached, turn(k, torch.arange(len(k)), frequencies)))
    return dots(turn(q, torch.arange(len(cached), len(cached) + len(q)), frequencies), keys), keys


@wrong("03.4", "minus 1 mended for the queries alone", "key", "k ", "one")
def _(q, k, cached, frequencies):
    late = torch.arange(len(cached), len(cached) + len(q))
    keys = torch.cat((cached, turn(k, late - min(len(cached), 1), frequencies)))
    return dots(turn(q, late, frequencies), keys), keys


@wrong("03.4", "a bool subtracted from positions", "bool", "error", "subtract")
def _(q, k, cached, frequencies):
    positions = torch.arange(len(cached), len(cached) + len(q)) - (len(cached) > 0)
    keys = torch.cat((cached, turn(k, positions, frequencies)))
    return dots(turn(q, positions, frequencies), keys), keys


@wrong("03.4", "all keys turned, cached ones again", "again", "twice", "cached", "already")
def _(q, k, cached, frequencies):
    positions = torch.arange(len(cached) + len(k))
    keys = turn(torch.cat((cached, k)), positions, frequencies)
    return dots(turn(q, positions[len(cached) :], frequencies), keys), keys


@wrong("03.4", "cached turned on by one step", "again", "cached", "already", "twice")
def _(q, k, cached, frequencies):
    positions = torch.arange(len(cached), len(cached) + len(q))
    keys = torch.cat((turn(cached, torch.ones(len(cached)), frequencies), turn(k, positions, frequencies)))
    return dots(turn(q, positions, frequencies), keys), keys


@wrong("03.4", "new keys not turned", "key", "turned", "k ")
def _(q, k, cached, frequencies):
    positions = torch.arange(len(cached), len(cached) + len(q))
    keys = torch.cat((cached, k))
    return dots(turn(q, positions, frequencies), keys), keys


@wrong("03.4", "queries not turned", "quer", "turned", "q ")
def _(q, k, cached, frequencies):
    keys = torch.cat((cached, turn(k, torch.arange(len(cached), len(cached) + len(k)), frequencies)))
    return dots(q, keys), keys


@wrong("03.4", "new keys in front", "order", "front", "behind", "first", "before")
def _(q, k, cached, frequencies):
    positions = torch.arange(len(cached), len(cached) + len(q))
    keys = torch.cat((turn(k, positions, frequencies), cached))
    return dots(turn(q, positions, frequencies), keys), keys


@wrong("03.4", "later keys masked with -inf", "mask", "-inf", "later", "inf")
def _(q, k, cached, frequencies):
    scores, keys = begin_at(lambda old, new: old)(q, k, cached, frequencies)
    later = torch.ones_like(scores, dtype=torch.bool).triu(len(cached) + 1)
    return scores.masked_fill(later, -torch.inf), keys


@wrong("03.4", "divided by the root of head_dim", "scale", "head_dim", "divide", "root", "factor")
def _(q, k, cached, frequencies):
    scores, keys = begin_at(lambda old, new: old)(q, k, cached, frequencies)
    return scores * q.shape[-1] ** -0.5, keys


@wrong("03.4", "softmax taken", "softmax", "sum", "score")
def _(q, k, cached, frequencies):
    scores, keys = begin_at(lambda old, new: old)(q, k, cached, frequencies)
    return scores.softmax(-1), keys


@wrong("03.4", "the new keys alone are returned", "shape", "keys", "cached")
def _(q, k, cached, frequencies):
    scores, keys = begin_at(lambda old, new: old)(q, k, cached, frequencies)
    return scores, keys[len(cached) :]


@wrong("03.4", "keys returned as they came", "keys", "turned", "cached")
def _(q, k, cached, frequencies):
    scores, _ = begin_at(lambda old, new: old)(q, k, cached, frequencies)
    return scores, torch.cat((cached, k))


@wrong("03.4", "scores of the new keys alone", "shape", "scores", "cached")
def _(q, k, cached, frequencies):
    scores, keys = begin_at(lambda old, new: old)(q, k, cached, frequencies)
    return scores[:, len(cached) :], keys


@wrong("03.4", "keys by queries", "shape", "transpos", "row", "column")
def _(q, k, cached, frequencies):
    scores, keys = begin_at(lambda old, new: old)(q, k, cached, frequencies)
    return scores.T, keys


@wrong("03.4", "one position for all new tokens", "same", "position", "each", "one")
def _(q, k, cached, frequencies):
    positions = torch.full((len(q),), len(cached))
    keys = torch.cat((cached, turn(k, positions, frequencies)))
    return dots(turn(q, positions, frequencies), keys), keys


@wrong("03.4", "scores alone", "tuple", "two", "type", "keys")
def _(q, k, cached, frequencies):
    return begin_at(lambda old, new: old)(q, k, cached, frequencies)[0]


@wrong("03.4", "keys first", "order", "exchanged", "swapped", "shape")
def _(q, k, cached, frequencies):
    scores, keys = begin_at(lambda old, new: old)(q, k, cached, frequencies)
    return keys, scores


@wrong("03.4", "queries turned backwards", "direction", "sign", "other way", "quer", "backward")
def _(q, k, cached, frequencies):
    positions = torch.arange(len(cached), len(cached) + len(q))
    keys = torch.cat((cached, turn(k, positions, frequencies)))
    return dots(turn(q, -positions, frequencies), keys), keys


@wrong("03.4", "cached keys are turned back first", "cached", "turned", "back", "already", "0")
def _(q, k, cached, frequencies):
    old = turn(cached, -torch.arange(len(cached)), frequencies)
    positions = torch.arange(len(cached), len(cached) + len(q))
    keys = torch.cat((old, turn(k, positions, frequencies)))
    return dots(turn(q, positions, frequencies), keys), keys


@right("03.4", "minus 1 removed")
def _(q, k, cached, frequencies):
    start = len(cached)
    positions = torch.arange(start, start + len(q))
    keys = torch.cat((cached, turn(k, positions, frequencies)))
    return dots(turn(q, positions, frequencies), keys), keys


@right("03.4", "positions added to the number of old keys")
def _(q, k, cached, frequencies):
    positions = torch.arange(q.shape[0]) + cached.shape[0]
    turned_q, turned_k = (turn(each, positions, frequencies) for each in (q, k))
    keys = torch.vstack((cached, turned_k))
    return turned_q @ keys.T, keys


@right("03.4", "both blocks of scores joined")
def _(q, k, cached, frequencies):
    positions = torch.arange(len(cached) + len(q))[len(cached) :].float()
    q, k = turn(q, positions, frequencies), turn(k, positions, frequencies)
    return torch.cat((F.linear(q, cached), F.linear(q, k)), dim=-1), torch.cat((cached, k))


@right("03.4", "complex numbers")
def _(q, k, cached, frequencies):
    angles = torch.outer(torch.arange(len(cached), len(cached) + len(q)).double(), frequencies.double())
    spin = torch.polar(torch.ones_like(angles), angles)
    q, k = (torch.complex(*each.double().chunk(2, dim=-1)) * spin for each in (q, k))
    q, k = (torch.cat((each.real, each.imag), dim=-1).to(cached.dtype) for each in (q, k))
    keys = torch.cat((cached, k))
    return q @ keys.T, keys


@right("03.4", "token by token")
def _(q, k, cached, frequencies):
    keys, turned = list(cached), []
    for number in range(len(q)):
        position = torch.tensor([len(cached) + number])
        turned.append(turn(q[number : number + 1], position, frequencies)[0])
        keys.append(turn(k[number : number + 1], position, frequencies)[0])
    keys = torch.stack(keys)
    return torch.stack([keys @ one for one in turned]), keys


@right("03.4", "a list of two")
def _(q, k, cached, frequencies):
    return list(begin_at(lambda old, new: old)(q, k, cached, frequencies))
