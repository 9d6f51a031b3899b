"""Natural answers to 14.8: the matrices of all ranks."""

import numpy as np
import torch
from einops import rearrange, repeat

from tests.course.natural_answers.collect import Collection

collection = Collection("14.8")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


def rows_of(q, ranks):
    return rearrange(q, "(rank row) hidden -> rank row hidden", rank=ranks)


def heads_of(k, ranks, head_dim):
    copies = ranks * head_dim // k.shape[0]
    return repeat(k, "(head head_dim) hidden -> (head copy) head_dim hidden", head_dim=head_dim, copy=copies)


@wrong("14.8", "the row is slow", "rank", "row", "slow", "order", "run", "outer", "neighbour")
def _(q, k, ranks, head_dim):
    return rearrange(q, "(row rank) hidden -> rank row hidden", rank=ranks), heads_of(k, ranks, head_dim)


@wrong("14.8", "the copy is slow", "copy", "head", "slow", "order", "turn", "neighbour", "outer")
def _(q, k, ranks, head_dim):
    copies = ranks * head_dim // k.shape[0]
    pattern = "(head head_dim) hidden -> (copy head) head_dim hidden"
    return rows_of(q, ranks), repeat(k, pattern, head_dim=head_dim, copy=copies)


@wrong("14.8", "torch.repeat, which puts whole copies behind each other", "copy", "order", "turn", "neighbour", "slow")
def _(q, k, ranks, head_dim):
    heads = rearrange(k, "(head head_dim) hidden -> head head_dim hidden", head_dim=head_dim)
    return rows_of(q, ranks), heads.repeat(ranks // len(heads), 1, 1)


@wrong("14.8", "head_dim is slow", "head_dim", "head", "slow", "order", "inner", "outer")
def _(q, k, ranks, head_dim):
    copies = ranks * head_dim // k.shape[0]
    pattern = "(head_dim head) hidden -> (head copy) head_dim hidden"
    return rows_of(q, ranks), repeat(k, pattern, head_dim=head_dim, copy=copies)


@wrong("14.8", "returned in the other order", "changed places", "order", "swapped", "exchanged", "other way round")
def _(q, k, ranks, head_dim):
    return heads_of(k, ranks, head_dim), rows_of(q, ranks)


@wrong("14.8", "no copies", "copy", "copies", "rank", "repeat", "each", "shape")
def _(q, k, ranks, head_dim):
    heads = rearrange(k, "(head head_dim) hidden -> head head_dim hidden", head_dim=head_dim)
    return rows_of(q, ranks), heads


@wrong("14.8", "one copy for each rank and head", "copy", "copies", "ranks", "heads", "divide", "shape", "too many")
def _(q, k, ranks, head_dim):
    pattern = "(head head_dim) hidden -> (head copy) head_dim hidden"
    return rows_of(q, ranks), repeat(k, pattern, head_dim=head_dim, copy=ranks)


@wrong("14.8", "the copy is an axis of its own", "copy", "axis", "shape", "rank", "bracket", "parenthes", "(head copy)")
def _(q, k, ranks, head_dim):
    copies = ranks * head_dim // k.shape[0]
    pattern = "(head head_dim) hidden -> head copy head_dim hidden"
    return rows_of(q, ranks), repeat(k, pattern, head_dim=head_dim, copy=copies)


@wrong("14.8", "k divided among the ranks", "whole", "head", "copy", "cut", "divide", "shape", "head_dim")
def _(q, k, ranks, head_dim):
    return rows_of(q, ranks), rows_of(k, ranks)


@wrong("14.8", "rows repeated, not heads", "row", "head", "copy", "slow", "order", "inner")
def _(q, k, ranks, head_dim):
    copies = ranks * head_dim // k.shape[0]
    rows = repeat(k, "row hidden -> (row copy) hidden", copy=copies)
    return rows_of(q, ranks), rearrange(rows, "(rank head_dim) hidden -> rank head_dim hidden", rank=ranks)


@wrong("14.8", "q is left as it is", "rank", "row", "shape", "cut")
def _(q, k, ranks, head_dim):
    return q, heads_of(k, ranks, head_dim)


@wrong("14.8", "k alone", "two", "tuple", "both", "pair")
def _(q, k, ranks, head_dim):
    return heads_of(k, ranks, head_dim)


@wrong("14.8", "hidden before rows", "hidden", "axis", "axes", "order", "transpose", "shape")
def _(q, k, ranks, head_dim):
    return rearrange(q, "(rank row) hidden -> rank hidden row", rank=ranks), heads_of(k, ranks, head_dim)


@wrong("14.8", "all rows of q on each rank", "row", "rank", "divide", "cut", "repeat", "shape")
def _(q, k, ranks, head_dim):
    return repeat(q, "row hidden -> rank row hidden", rank=ranks), heads_of(k, ranks, head_dim)


@wrong("14.8", "row and copy both slow", "changed places", "slow", "order", "rank", "row", "copy", "neighbour")
def _(q, k, ranks, head_dim):
    copies = ranks * head_dim // k.shape[0]
    pattern = "(head head_dim) hidden -> (copy head) head_dim hidden"
    qs = rearrange(q, "(row rank) hidden -> rank row hidden", rank=ranks)
    return qs, repeat(k, pattern, head_dim=head_dim, copy=copies)


@right("14.8", "two patterns")
def _(q, k, ranks, head_dim):
    return rows_of(q, ranks), heads_of(k, ranks, head_dim)


@right("14.8", "unflatten and repeat_interleave")
def _(q, k, ranks, head_dim):
    heads = k.unflatten(0, (-1, head_dim))
    return q.unflatten(0, (ranks, -1)), heads.repeat_interleave(ranks // len(heads), dim=0)


@right("14.8", "chunks, and the head of each rank")
def _(q, k, ranks, head_dim):
    heads = k.split(head_dim)
    return torch.stack(q.chunk(ranks)), torch.stack([heads[rank * len(heads) // ranks] for rank in range(ranks)])


@right("14.8", "index of heads")
def _(q, k, ranks, head_dim):
    heads = k.reshape(-1, head_dim, k.shape[-1])
    return q.reshape(ranks, -1, q.shape[-1]), heads[torch.arange(ranks) * len(heads) // ranks]


@right("14.8", "NumPy")
def _(q, k, ranks, head_dim):
    heads = np.stack(np.split(k.numpy(), len(k) // head_dim))
    qs = np.stack(np.split(q.numpy(), ranks))
    return torch.from_numpy(qs), torch.from_numpy(np.repeat(heads, ranks // len(heads), axis=0))


@right("14.8", "expanded, then merged")
def _(q, k, ranks, head_dim):
    heads = rearrange(k, "(head head_dim) hidden -> head 1 head_dim hidden", head_dim=head_dim)
    copies = heads.expand(-1, ranks // len(heads), -1, -1)
    return [rows_of(q, ranks), rearrange(copies, "head copy head_dim hidden -> (head copy) head_dim hidden")]


@right("14.8", "a view of q that belongs to it, and an empty tensor filled")
def _(q, k, ranks, head_dim):
    ks = torch.empty(ranks, head_dim, k.shape[1], dtype=k.dtype)
    heads = len(k) // head_dim
    for rank in range(ranks):
        begin = rank // (ranks // heads) * head_dim
        ks[rank] = k[begin : begin + head_dim]
    return q.view(ranks, len(q) // ranks, q.shape[1]), ks
