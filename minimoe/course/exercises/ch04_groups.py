"""Chapter 04, attention: groups without copies, who shares, and splitting into groups (04.3, 04.4 and 04.8)."""

from collections.abc import Callable
from typing import Any

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.course.checker.misconceptions import agree
from minimoe.course.exercises.ch04_attend import (
    attend_by_loops,
    draw_attention,
    first_head_for_all,
    groups_interleaved,
    in_groups,
    keys_mixed,
    mask_ignored,
    mask_inverted,
    mask_inverted_to_nan,
    mask_with_zero,
    no_scale,
    no_softmax,
    one_head_at_a_time,
    scale_by_head_dim,
    softmax_over_queries,
    two_mistakes,
    with_scores,
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
    """A complaint if the answer is right and builds a copy of k or v for each query head."""
    batch, heads, shared, queries, keys, head_dim = 1, 24, 2, 2, 31, 40
    arguments = draw_attention(batch, heads, shared, queries, keys, head_dim)(torch.Generator().manual_seed(0))
    with Largest(keys) as largest:
        result = answer(*arguments)
    if not agree(attend(*arguments), result) or largest.most < 4 * batch * heads * keys * head_dim:
        return None
    return (
        "the result is right, but the keys or values were copied for every query head. Split q into groups instead, "
        "and let an einsum meet each group with the keys that it shares"
    )


def copied(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """`attend` of 04.1, which copies."""
    return with_scores(q, k, v, mask)


def in_groups_but(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, size: Callable[[Tensor], float] | None = None,
    softmax: int = -1, late: bool = False, split: str = "(head group)", merge: str = "(head group)",
) -> Tensor:  # fmt: skip
    """Attention in groups with one step done differently. size: of the grouped q, its root divides the scores."""
    q = rearrange(q, f"batch {split} query head_dim -> batch head group query head_dim", head=k.shape[1])
    scores = einsum(q, k, "batch head group query head_dim, batch head key head_dim -> batch head group query key")
    scores = scores / (size(q) if size else q.shape[-1]) ** 0.5
    if mask is not None and not late:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.float().softmax(dim=softmax).to(v.dtype)
    if mask is not None and late:
        weights = weights * mask
    pattern = "batch head group query key, batch head key head_dim -> batch head group query head_dim"
    return rearrange(einsum(weights, v, pattern), f"batch head group query head_dim -> batch {merge} query head_dim")


def mean_head(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The key/value heads are averaged into one."""
    return with_scores(q, k.float().mean(1, True).to(k.dtype), v.float().mean(1, True).to(v.dtype), mask)


def first_of_each_group(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """All members of a group get what the first one found."""
    found, group = attend(q, k, v, mask), q.shape[1] // k.shape[1]
    return repeat(found[:, ::group], "batch head query head_dim -> batch (head group) query head_dim", group=group)


def summed_in_the_mix(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """All members of a group get the sum of what they found, since `group` is missing in the second einsum."""
    found, group = attend(q, k, v, mask).float(), q.shape[1] // k.shape[1]
    total = rearrange(found, "batch (head group) query head_dim -> batch head group query head_dim", group=group).sum(2)
    return repeat(total.to(q.dtype), "batch head query head_dim -> batch (head group) query head_dim", group=group)


def mask_repeated_the_other_way(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The groups become more queries, (group query), and the mask is repeated as (query group)."""
    group = q.shape[1] // k.shape[1]
    wide = rearrange(q, "batch (head group) query head_dim -> batch head (group query) head_dim", group=group)
    rows = None if mask is None else repeat(mask, "query key -> (query group) key", group=group)
    mixed = attend(wide, k, v, rows)
    return rearrange(mixed, "batch head (group query) head_dim -> batch (head group) query head_dim", group=group)


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
            "first of each group": (
                first_of_each_group,
                "all members of a group get what the first of them found. Each has its own query.",
            ),
            "summed in the mix": (
                summed_in_the_mix,
                "`group` is missing on the right of the second einsum, so what the members of a group found was "
                "summed.",
            ),
            "no softmax": (no_softmax, "there is no softmax: the scores themselves are the weights."),
            **two_mistakes(),
            "one key head for all": (first_head_for_all, "all heads use the first key/value head."),
            "split the other way": (
                lambda q, k, v, mask: in_groups_but(q, k, v, mask, split="(group head)"),
                "q is split as (group head), and put together as (head group): heads meet the keys of another group, "
                "and come out in another order. Neighbours share: (head group) in both places.",
            ),
            "copied": (
                copied,
                "the result is right, but k or v is copied for each query head. repeat and repeat_interleave copy, and "
                "so do reshape after expand, and matmul where it broadcasts. Give q an axis `group`, and use einsum.",
            ),
            "mean head": (
                mean_head,
                "the key/value heads were averaged into one. Each group of query heads has its own.",
            ),
            "keys instead of values": (keys_mixed, "the keys are mixed. What a token takes away are the values."),
            "mask ignored": (mask_ignored, "the mask has no effect."),
            "mask inverted": (
                mask_inverted,
                "the mask is used the wrong way round. True means that the query attends to the key.",
            ),
            "mask inverted, nan": (
                mask_inverted_to_nan,
                "the mask is used the wrong way round, and a query that sees no key gets nan. True means that the "
                "query attends to the key: masked_fill(~mask, ...).",
            ),
            "masked with zero": (
                mask_with_zero,
                "hidden scores are set to 0, and the softmax gives 0 a weight. Set them to -inf, which has none.",
            ),
            "mask after the softmax": (
                lambda q, k, v, mask: in_groups_but(q, k, v, mask, late=True),
                "the mask comes after the softmax, so the weights of a row no longer sum to 1. Mask the scores.",
            ),
            "mask in the other order": (
                mask_repeated_the_other_way,
                "the queries of a group are laid out as (group query), but the rows of the mask as (query group). Each "
                "member of a group needs the whole mask.",
            ),
            "no scale": (no_scale, "the scores are not scaled. Multiply them by head_dim**-0.5."),
            "scaled by head_dim": (scale_by_head_dim, "the scores are divided by head_dim, not by its root."),
            "scaled by the queries": (
                lambda q, k, v, mask: in_groups_but(q, k, v, mask, size=lambda q: q.shape[3]),
                "the scores are divided by the root of the number of queries. After the split, axis 3 of q is query; "
                "head_dim is the last one.",
            ),
            "scaled by the group": (
                lambda q, k, v, mask: in_groups_but(q, k, v, mask, size=lambda q: q.shape[2]),
                "the scores are divided by the root of the size of a group. A score sums head_dim products.",
            ),
            "scaled by the width of a group": (
                lambda q, k, v, mask: in_groups_but(q, k, v, mask, size=lambda q: q.shape[2] * q.shape[-1]),
                "the scores are divided by the root of group x head_dim. Each query head sums over its own head_dim.",
            ),
            "scaled by all heads": (
                lambda q, k, v, mask: in_groups_but(q, k, v, mask, size=lambda q: q.shape[1:].numel() / q.shape[3]),
                "the scores are divided by the root of heads x head_dim. Each query head sums over its own head_dim.",
            ),
            "softmax over the group": (
                lambda q, k, v, mask: in_groups_but(q, k, v, mask, softmax=2),
                "the softmax runs over the members of a group, or gives nan where a key is hidden from all of them. "
                "Each query distributes its weights over the keys: dim=-1.",
            ),
            "softmax over the queries": (
                softmax_over_queries,
                "the softmax runs over the queries. Each query distributes its own weights over the keys: dim=-1.",
            ),
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
