"""Chapter 04, attention: groups without copies, who shares, splitting into groups, the cache, and fewer heads
(04.3, 04.4 and 04.6 to 04.8)."""

from typing import Any

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.course.exercises.ch04_attend import (
    attend_by_loops,
    draw_attention,
    first_head_for_all,
    groups_interleaved,
    in_groups,
    mask_ignored,
    no_scale,
    one_head_at_a_time,
)
from minimoe.model.attention import attend

# 04.3 groups without copies ------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Records the most bytes that a new tensor of a given shape at the end took, while it is active."""

    def __init__(self, keys: int):
        super().__init__()
        self.keys, self.most = keys, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and self.keys in result.shape:
            self.most = max(self.most, result.untyped_storage().nbytes())
        return result


def copies_made(answer: Any) -> str | None:
    """A complaint if the answer builds a copy of k or v for each query head."""
    batch, heads, shared, queries, keys, head_dim = 1, 24, 2, 2, 31, 40
    arguments = draw_attention(batch, heads, shared, queries, keys, head_dim)(torch.Generator().manual_seed(0))
    with Largest(keys) as largest:
        answer(*arguments)
    if largest.most >= 4 * batch * heads * keys * head_dim:
        return (
            "the result is right, but the keys or values were copied for every query head. Split q into groups "
            "instead, and let the einsum meet each group with the keys that it shares"
        )
    return None


def groups_split_the_other_way(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """q is split as (group head), and put together again the same way."""
    heads, group = k.shape[1], q.shape[1] // k.shape[1]
    order = "batch (group head) query head_dim -> batch (head group) query head_dim"
    mixed = attend(rearrange(q, order, head=heads), k, v, mask)
    back = "batch (head group) query head_dim -> batch (group head) query head_dim"
    return rearrange(mixed, back, group=group)


def put_together_the_other_way(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    pattern = "batch (head group) query head_dim -> batch (group head) query head_dim"
    return rearrange(attend(q, k, v, mask), pattern, head=k.shape[1])


def groups_averaged(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The queries of a group are averaged before they meet the keys."""
    group = q.shape[1] // k.shape[1]
    split = rearrange(q, "batch (head group) query head_dim -> batch head group query head_dim", group=group)
    mixed = attend(split.float().mean(dim=2).to(q.dtype), k, v, mask)
    return repeat(mixed, "batch head query head_dim -> batch (head group) query head_dim", group=group)


def summed_over_the_group(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """An einsum in which `group` is missing on the right, so that it is summed."""
    group = q.shape[1] // k.shape[1]
    split = rearrange(q, "batch (head group) query head_dim -> batch head group query head_dim", group=group)
    mixed = attend(split.float().sum(dim=2).to(q.dtype), k, v, mask)
    return repeat(mixed, "batch head query head_dim -> batch (head group) query head_dim", group=group)


def flattened_groups(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The queries of a group become more queries of one head."""
    heads = k.shape[1]
    wide = rearrange(q, "batch (head group) query head_dim -> batch head (group query) head_dim", head=heads)
    scores = wide @ rearrange(k, "batch head key head_dim -> batch head head_dim key") * q.shape[-1] ** -0.5
    if mask is not None:
        group = q.shape[1] // heads
        scores = scores.masked_fill(~repeat(mask, "query key -> (group query) key", group=group), -torch.inf)
    mixed = scores.float().softmax(dim=-1).to(v.dtype) @ v
    return rearrange(mixed, "batch head (group query) head_dim -> batch (head group) query head_dim", query=q.shape[2])


def group_by_group(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    group = q.shape[1] // k.shape[1]
    parts = q.split(group, dim=1)
    return torch.cat([attend(part, k[:, [n]], v[:, [n]], mask) for n, part in enumerate(parts)], dim=1)


# 04.4 who shares -----------------------------------------------------------------------------------------------------

SHARING = {
    "heads 0 and 15 read the same keys": True,
    "heads 15 and 16 read the same keys": False,
    "heads 1 and 17 read the same keys": False,
    "heads that read the same keys look at the same tokens": False,
    "twice as many query heads: the cache doubles": False,
    "twice as many key/value heads: the cache doubles": True,
    "o_proj is square": False,
}

# 04.6 the cache ------------------------------------------------------------------------------------------------------


def cache_bytes_by_hand(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    """One number after another: keys and values, of each layer, KV head, token and channel."""
    return sum(kv_heads * head_dim * tokens * bytes_each for _ in range(layers) for _ in ("keys", "values"))


def keys_only(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return layers * kv_heads * head_dim * tokens * bytes_each


def every_query_head(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * heads * head_dim * tokens * bytes_each


def one_layer(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * kv_heads * head_dim * tokens * bytes_each


def one_kv_head(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * head_dim * tokens * bytes_each


def head_dim_split(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> float:
    return 2 * layers * kv_heads * (head_dim / heads) * tokens * bytes_each


def numbers_not_bytes(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * kv_heads * head_dim * tokens


def per_token(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * kv_heads * head_dim * bytes_each


def all_pairs(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * kv_heads * head_dim * tokens * tokens * bytes_each


def as_product(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * kv_heads * head_dim * tokens * bytes_each


def from_shapes(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    shape = torch.Size((2, layers, 1, kv_heads, tokens, head_dim))
    return shape.numel() * bytes_each


# 04.7 heads switched off ---------------------------------------------------------------------------------------------


def off_by_loops(context: Tensor, off: Tensor) -> Tensor:
    """A copy in which every head that is True in `off` is filled with zeros."""
    kept = context.clone()
    for head in range(context.shape[1]):
        if off[head]:
            kept[:, head] = 0
    return kept


def draw_heads(
    batch: int, head: int, query: int, head_dim: int, off: list[int], dtype: torch.dtype = torch.float32
) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        context = torch.randn(batch, head, query, head_dim, generator=generator).to(dtype)
        return context, torch.tensor([number in off for number in range(head)])

    return arguments


def the_others(context: Tensor, off: Tensor) -> Tensor:
    return off_by_loops(context, ~off)


def nothing_off(context: Tensor, off: Tensor) -> Tensor:
    return context.clone()


def all_off(context: Tensor, off: Tensor) -> Tensor:
    return torch.zeros_like(context)


def rescaled(context: Tensor, off: Tensor) -> Tensor:
    return off_by_loops(context, off) * len(off) / max(1, int((~off).sum()))


def taken_out(context: Tensor, off: Tensor) -> Tensor:
    return context[:, ~off]


def averaged(context: Tensor, off: Tensor) -> Tensor:
    means = context.float().mean(dim=2, keepdim=True).to(context.dtype)
    return torch.where(off[:, None, None], means, context)


def wrong_axis(context: Tensor, off: Tensor) -> Tensor:
    """The first queries instead of heads, as far as there are any."""
    queries = torch.zeros(context.shape[2], dtype=torch.bool)
    length = min(len(off), len(queries))
    queries[:length] = off[:length]
    return context * ~queries[:, None]


def by_where(context: Tensor, off: Tensor) -> Tensor:
    return torch.where(rearrange(off, "head -> head 1 1"), torch.zeros_like(context), context)


def by_product(context: Tensor, off: Tensor) -> Tensor:
    return einsum(context, (~off).to(context.dtype), "batch head query head_dim, head -> batch head query head_dim")


def by_index(context: Tensor, off: Tensor) -> Tensor:
    result = context.clone()
    result[:, off] = 0.0
    return result


def by_stack(context: Tensor, off: Tensor) -> Tensor:
    return torch.stack([head * (not gone) for head, gone in zip(context.unbind(1), off.tolist(), strict=True)], dim=1)


# 04.8 splitting into groups ------------------------------------------------------------------------------------------


def split_by_loops(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    """Channel after channel: heads come one after another, those of a group beside each other."""
    batch, position, width = x.shape
    group = width // kv_heads // head_dim
    split = torch.empty(batch, kv_heads, group, position, head_dim, dtype=x.dtype)
    for head in range(kv_heads):
        for member in range(group):
            first = (head * group + member) * head_dim
            split[:, head, member] = x[:, :, first : first + head_dim]
    return split


def draw_projection(batch: int, position: int, kv_heads: int, group: int, head_dim: int) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, int, int]:
        return torch.randn(batch, position, kv_heads * group * head_dim, generator=generator), kv_heads, head_dim

    return arguments


def split_as_it_was(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    """The function on the page."""
    batch, position, _ = x.shape
    return x.view(batch, position, kv_heads, -1, head_dim).permute(0, 2, 3, 1, 4)


def interleaved_split(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    pattern = "batch position (group head head_dim) -> batch head group position head_dim"
    return rearrange(x, pattern, head=kv_heads, head_dim=head_dim)


def channels_outside(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    pattern = "batch position (head_dim head group) -> batch head group position head_dim"
    return rearrange(x, pattern, head=kv_heads, head_dim=head_dim)


def channels_between(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    pattern = "batch position (head head_dim group) -> batch head group position head_dim"
    return rearrange(x, pattern, head=kv_heads, head_dim=head_dim)


def group_before_head(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    pattern = "batch position (head group head_dim) -> batch group head position head_dim"
    return rearrange(x, pattern, head=kv_heads, head_dim=head_dim)


def position_left(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    pattern = "batch position (head group head_dim) -> batch position head group head_dim"
    return rearrange(x, pattern, head=kv_heads, head_dim=head_dim)


def reshaped_at_once(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    """The shape is right, the channels are those of other positions."""
    batch, position, width = x.shape
    return x.reshape(batch, kv_heads, width // kv_heads // head_dim, position, head_dim)


def group_first_given(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    """kv_heads was taken for the length of `group`."""
    pattern = "batch position (head group head_dim) -> batch head group position head_dim"
    return rearrange(x, pattern, group=kv_heads, head_dim=head_dim)


def by_rearrange(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    pattern = "batch position (head group head_dim) -> batch head group position head_dim"
    return rearrange(x, pattern, head=kv_heads, head_dim=head_dim)


def by_unflatten(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    return x.unflatten(-1, (kv_heads, -1, head_dim)).movedim(1, 3)


def in_two_steps(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    heads = rearrange(x, "batch position (heads head_dim) -> batch heads position head_dim", head_dim=head_dim)
    return rearrange(heads, "batch (head group) position head_dim -> batch head group position head_dim", head=kv_heads)


def by_chunks(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    groups = [torch.stack(chunk.split(head_dim, dim=-1), dim=1) for chunk in x.chunk(kv_heads, dim=-1)]
    return torch.stack(groups, dim=1)


COUNTED = torch.arange(8.0)[None, None] + torch.tensor([[[0.0], [100.0]]])  # two positions, eight channels

EXERCISES = (
    Exercise(
        id="04.3",
        title="Groups without copies",
        kind="einops",
        minutes=12,
        difficulty=4,
        hints=(
            "Instead of making k as wide as q, give q an axis that k doesn't have.",
            'q: "batch (head group) query head_dim -> batch head group query head_dim". In the einsum, k has no '
            "`group`, so every member meets the same keys.",
            "scores: batch head group query key; mask and softmax as before; the second einsum gives batch head group "
            "query head_dim, and a last rearrange puts (head group) together.",
        ),
        now_you_know="sharing needs no copies: an axis that one operand lacks is shared by the einsum itself.",
        oracle=attend_by_loops,
        cases=(
            Case("four heads in two groups", draw_attention(1, 4, 2, 3, 3, 5)),
            Case("six heads in groups of three, two texts", draw_attention(2, 6, 2, 4, 4, 8)),
            Case("every head has its own keys", draw_attention(1, 3, 3, 2, 2, 4)),
            Case("one key head for all", draw_attention(1, 5, 1, 3, 6, 4)),
            Case("no mask", draw_attention(1, 4, 2, 2, 5, 6, masked=False)),
            Case("bfloat16 in, bfloat16 out", draw_attention(1, 4, 2, 5, 5, 8, dtype=torch.bfloat16), tolerance=0.04),
        ),
        also=copies_made,
        mutants={
            "groups the other way": (
                groups_split_the_other_way,
                "the heads are grouped as (group head), so heads that are far apart share keys. Neighbours share: "
                "(head group).",
            ),
            "copied the other way": (
                groups_interleaved,
                "the heads are grouped as (group head), so heads that are far apart share keys. Neighbours share: "
                "(head group).",
            ),
            "put together the other way": (
                put_together_the_other_way,
                "the heads come out in another order than they went in. The last rearrange should read (head group).",
            ),
            "averaged": (groups_averaged, "the queries of a group were averaged. Each keeps scores of its own."),
            "summed": (
                summed_over_the_group,
                "`group` is missing on the right of an einsum, so the queries of a group were summed.",
            ),
            "one key head for all": (first_head_for_all, "all heads use the first key/value head."),
            "mask ignored": (mask_ignored, "the mask has no effect."),
            "no scale": (no_scale, "the scores are not scaled. Multiply them by head_dim**-0.5."),
        },
        accepted={
            "in groups": in_groups,
            "more queries of one head": flattened_groups,
            "group by group": group_by_group,
            "head by head": one_head_at_a_time,
        },
    ),
    Exercise(
        id="04.4",
        title="Predict: who shares?",
        kind="predict",
        minutes=6,
        difficulty=2,
        hints=(
            "64 query heads, 4 key/value heads, so 16 neighbours share one.",
            "Head number h reads the keys of number h // 16. Only keys and values are cached. 64 x 128 is not 4,096.",
            "Same group: 0 and 15. Different groups: 15 and 16, 1 and 17. Sharing keys is not sharing queries.",
        ),
        now_you_know="heads share what is stored, not what they look for.",
        expected=SHARING,
        reasons={
            "heads 0 and 15 read the same keys": "How many neighbours share one key/value head? Count from head 0.",
            "heads 15 and 16 read the same keys": "Divide both numbers by the size of a group, and drop the remainder.",
            "heads 1 and 17 read the same keys": "Their numbers differ by the size of a group. Which group is each in?",
            "heads that read the same keys look at the same tokens": "Which of the two vectors in a score is shared?",
            "twice as many query heads: the cache doubles": "What is kept for the next token: q, k or v?",
            "twice as many key/value heads: the cache doubles": "What is kept for the next token: q, k or v?",
            "o_proj is square": "It takes heads x head_dim channels, and returns hidden ones.",
        },
        mutants={
            "heads interleaved": (
                SHARING | {"heads 1 and 17 read the same keys": True, "heads 0 and 15 read the same keys": False},
                "you group the heads as (group head). In this model neighbours share.",
            ),
            "the cache holds queries": (
                SHARING | {"twice as many query heads: the cache doubles": True},
                "the cache keeps keys and values only; a query is used once.",
            ),
            "one set of weights per group": (
                SHARING | {"heads that read the same keys look at the same tokens": True},
                "heads of a group share keys, but each has its own queries, and so its own weights.",
            ),
            "head_dim is hidden / heads": (
                SHARING | {"o_proj is square": True},
                "64 heads x 128 channels are 8,192, and hidden is 4,096: head_dim is a setting of its own.",
            ),
        },
        accepted={
            "as numbers": {question: int(answer) for question, answer in SHARING.items()},
            "as tensors": {question: torch.tensor(answer) for question, answer in SHARING.items()},
        },
    ),
    Exercise(
        id="04.6",
        title="Estimate, then measure: the cache",
        kind="estimate",
        minutes=10,
        difficulty=2,
        hints=(
            "What is kept of every earlier token, in each layer?",
            "A key and a value for each key/value head, each with head_dim numbers.",
            "2 * layers * kv_heads * head_dim * tokens * bytes_each.",
        ),
        now_you_know="the cache grows with the tokens, the layers and the key/value heads; query heads are free.",
        oracle=cache_bytes_by_hand,
        cases=(
            Case("one layer, one head of four channels, three tokens, 2 bytes: 48", (1, 1, 1, 4, 3, 2), 48),
            Case("eight query heads share two", (3, 8, 2, 16, 5, 2)),
            Case("float32", (2, 6, 3, 8, 7, 4)),
            Case("a long text in 1 byte each", (5, 4, 4, 32, 1000, 1)),
            Case("no tokens yet", (4, 8, 2, 16, 0, 2)),
        ),
        mutants={
            "keys only": (keys_only, "the values are missing: two tensors are kept, keys and values."),
            "every query head": (
                every_query_head,
                "you counted the query heads. Only key/value heads are kept, which is the point of grouping.",
            ),
            "one layer": (one_layer, "that is one layer. Each layer keeps its own keys and values."),
            "one head": (one_kv_head, "that is one key/value head. Each of them is kept."),
            "head_dim divided": (
                head_dim_split,
                "head_dim was divided by the number of heads. It is already the size of one head.",
            ),
            "numbers": (numbers_not_bytes, "these are numbers, not bytes: each takes bytes_each."),
            "one token": (per_token, "that is a single token."),
            "all pairs": (
                all_pairs,
                "tokens is squared. There is a score for each pair, but it is not kept; the cache has a row per token.",
            ),
        },
        accepted={"a product": as_product, "the shape of a tensor": from_shapes},
    ),
    Exercise(
        id="04.7",
        title="Ablate: how many heads can go?",
        kind="ablate",
        minutes=15,
        difficulty=3,
        hints=(
            "Each head leaves head_dim numbers per token. Switched off, it leaves zeros.",
            "context is (batch, head, query, head_dim), off is (head). Give `off` three more axes, or index with it.",
            'torch.where(rearrange(off, "head -> head 1 1"), torch.zeros_like(context), context).',
        ),
        now_you_know="most heads of the mini can go one at a time; a few of them, and all together, cannot.",
        oracle=off_by_loops,
        cases=(
            Case(
                "two heads, the first is off",
                (torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]), torch.tensor([True, False])),
                torch.tensor([[[[0.0, 0.0]], [[3.0, 4.0]]]]),
            ),
            Case("heads 1 and 4 of 6", draw_heads(2, 6, 3, 4, [1, 4])),
            Case("none is off", draw_heads(1, 3, 2, 5, [])),
            Case("all are off", draw_heads(1, 3, 2, 5, [0, 1, 2])),
            Case("bfloat16, equal to the bit", draw_heads(1, 4, 3, 6, [2], torch.bfloat16), tolerance=0),
        ),
        mutants={
            "the others": (the_others, "the wrong heads are off: those that are False."),
            "none": (nothing_off, "no head is off."),
            "all": (all_off, "all heads are off."),
            "rescaled": (
                rescaled,
                "the remaining heads were made larger, as dropout does in training. Leave them as they are.",
            ),
            "averaged": (averaged, "the heads were replaced by their mean over the text. Switched off, they are zero."),
            "the wrong axis": (
                wrong_axis,
                "queries are switched off instead of heads. `off` belongs to the head axis.",
            ),
        },
        accepted={"where": by_where, "an einsum": by_product, "an index": by_index, "head by head": by_stack},
    ),
    Exercise(
        id="04.8",
        title="Rewrite with einops: into groups",
        kind="einops",
        minutes=8,
        difficulty=2,
        hints=(
            "Read the view from left to right: what does each number mean?",
            "The channels of q are (head group head_dim): key/value heads outermost, channels innermost.",
            'rearrange(x, "batch position (head group head_dim) -> batch head group position head_dim", '
            "head=kv_heads, head_dim=head_dim).",
        ),
        now_you_know="the order of the names in a parenthesis is the order of the weights on disk.",
        oracle=split_by_loops,
        cases=(
            Case(
                "two positions; two KV heads, two members each, two channels each",
                (COUNTED, 2, 2),
                torch.tensor(
                    [[[[[0.0, 1], [100, 101]], [[2, 3], [102, 103]]], [[[4, 5], [104, 105]], [[6, 7], [106, 107]]]]]
                ),
            ),
            Case("three KV heads, two members, four channels", draw_projection(2, 5, 3, 2, 4)),
            Case("one KV head for all", draw_projection(1, 3, 1, 4, 6)),
            Case("no sharing", draw_projection(1, 4, 5, 1, 2)),
            Case("one token", draw_projection(3, 1, 2, 3, 4)),
        ),
        given=split_as_it_was,
        mutants={
            "groups outside": (
                interleaved_split,
                "the channels are read as (group head head_dim). Members of a group are neighbours: (head group "
                "head_dim).",
            ),
            "channels outside": (
                channels_outside,
                "head_dim is read as the outermost axis. The channels of one head stand next to each other.",
            ),
            "channels between": (
                channels_between,
                "group and head_dim are swapped in the parenthesis. The channels of one head stand next to each other.",
            ),
            "group before head": (
                group_before_head,
                "the result has group before head. Expected: batch head group ...",
            ),
            "position left": (position_left, "position is still the second axis. It belongs behind group."),
            "reshaped at once": (
                reshaped_at_once,
                "the shape is right, but the numbers were reshaped across positions. Split first, then move the axes.",
            ),
            "lengths swapped": (
                group_first_given,
                "kv_heads was given as the length of `group`. It is the length of `head`.",
            ),
        },
        accepted={
            "one pattern": by_rearrange,
            "unflatten": by_unflatten,
            "two steps": in_two_steps,
            "chunks": by_chunks,
        },
    ),
)
