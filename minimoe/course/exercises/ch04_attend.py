"""Chapter 04, attention: `attend` (04.1)."""

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.model.attention import attend, causal_mask

# 04.1 attend ---------------------------------------------------------------------------------------------------------


def attend_by_loops(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """One query of one head after another, in float64."""
    group, mixed = q.shape[1] // k.shape[1], torch.zeros(*q.shape[:3], v.shape[-1], dtype=torch.float64)
    for batch in range(q.shape[0]):
        for head in range(q.shape[1]):
            keys, values = k[batch, head // group].double(), v[batch, head // group].double()
            for query in range(q.shape[2]):
                seen = [key for key in range(len(keys)) if mask is None or mask[query, key]]
                scores = torch.stack([q[batch, head, query].double() @ keys[key] for key in seen])
                weights = (scores / q.shape[-1] ** 0.5).softmax(dim=0)
                mixed[batch, head, query] = sum(weight * values[key] for weight, key in zip(weights, seen, strict=True))
    return mixed.to(q.dtype)


def draw_attention(
    batch: int, heads: int, shared: int, queries: int, keys: int, head_dim: int, masked: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Arguments:  # fmt: skip
    """Random q, k and v, and the causal mask of the last `queries` of `keys` positions."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        q = torch.randn(batch, heads, queries, head_dim, generator=generator).to(dtype)
        k, v = torch.randn(2, batch, shared, keys, head_dim, generator=generator).to(dtype)
        return q, k, v, causal_mask(queries, keys, q.device) if masked else None

    return arguments


def copies(x: Tensor, group: int, order: str = "(head group)") -> Tensor:
    return repeat(x, f"batch head key head_dim -> batch {order} key head_dim", group=group)


def with_scores(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, scale: float | None = None, order: str = "(head group)",
    values: str | None = None, softmax: int = -1, hidden: float = -torch.inf, late: bool = False,
    ignored: bool = False, inverted: bool = False, shrunk: bool = False, wide: bool = False,
    normalise: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """Attention with one of its steps done differently. normalise: in the place of the softmax."""
    group = q.shape[1] // k.shape[1]
    if mask is not None:
        mask = None if ignored else ~mask if inverted else mask
    k, v = copies(k, group, order), copies(v, group, values or order)
    scores = einsum(q, k, "batch head query head_dim, batch head key head_dim -> batch head query key")
    scores = scores * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None and not late:
        scores = scores.masked_fill(~mask, hidden)
    weights = normalise(scores.float()) if normalise else scores.float().softmax(dim=softmax)
    if mask is not None and late:
        weights = weights * mask
    if shrunk:
        weights = weights * q.shape[-1] ** -0.5
    mixed = einsum(weights.to(v.dtype), v, "batch head query key, batch head key head_dim -> batch head query head_dim")
    return mixed.float() if wide else mixed


def no_scale(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, scale=1.0)


def scale_by_head_dim(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, scale=1 / q.shape[-1])


def scale_by_all_heads(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, scale=(q.shape[1] * q.shape[-1]) ** -0.5)


def times_the_root(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, scale=q.shape[-1] ** 0.5)


def scale_by_keys(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, scale=k.shape[2] ** -0.5)


def scale_by_queries(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, scale=q.shape[2] ** -0.5)


def scale_by_heads(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, scale=q.shape[1] ** -0.5)


def scale_late(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, scale=1.0, shrunk=True)


def mask_ignored(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, None)


def mask_late(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, late=True)


def mask_with_zero(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, hidden=0.0)


def mask_inverted(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, None if mask is None else ~mask, hidden=-1e9)


def mask_inverted_to_nan(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The last query sees no key at all, so its weights are nan."""
    return with_scores(q, k, v, None if mask is None else ~mask)


def mask_added(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """1 is added to the scores of visible keys."""
    if mask is None:
        return with_scores(q, k, v, None)
    group = q.shape[1] // k.shape[1]
    keys = copies(k, group)
    scores = einsum(q, keys, "batch head query head_dim, batch head key head_dim -> batch head query key")
    weights = (scores * q.shape[-1] ** -0.5 + mask).float().softmax(dim=-1).to(v.dtype)
    pattern = "batch head query key, batch head key head_dim -> batch head query head_dim"
    return einsum(weights, copies(v, group), pattern)


def aligned_to_the_first(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).tril()


def own_triangle(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """A causal mask of one's own, which begins at the first key."""
    return with_scores(q, k, v, aligned_to_the_first(q.shape[2], k.shape[2]))


def mask_inverted_to_zero(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """A query that sees no key gets zeros, as from PyTorch's fused function."""
    return mask_inverted_to_nan(q, k, v, mask).nan_to_num(0.0)


def normalised(normalise: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """Attention with another function of the scores (batch, head, query, key) in the place of the softmax."""
    return lambda q, k, v, mask: with_scores(q, k, v, mask, normalise=normalise)


def alike(scores: Tensor) -> Tensor:
    """The same weight for every visible key."""
    return torch.where(scores > -torch.inf, 0.0, scores).softmax(dim=-1)


def cosines(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(F.normalize(q, dim=-1), F.normalize(k, dim=-1), v, mask, scale=1.0)


def softmax_over_queries(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, softmax=-2, hidden=-1e9)


def softmax_over_heads(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, softmax=1, hidden=-1e9)


def softmax_over_heads_to_nan(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """A hidden key is hidden from every head, so that its weights are nan."""
    return with_scores(q, k, v, mask, softmax=1)


def values_interleaved(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, values="(group head)")


def keys_interleaved(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, order="(group head)", values="(head group)")


def groups_interleaved(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, order="(group head)")


def first_head_for_all(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k[:, :1], v[:, :1], mask)


def keys_mixed(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, k, mask)


def always_float32(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return with_scores(q, k, v, mask, wide=True)


def no_softmax(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    group = q.shape[1] // k.shape[1]
    k, v = copies(k, group), copies(v, group)
    scores = einsum(q, k, "batch head query head_dim, batch head key head_dim -> batch head query key")
    scores = scores * q.shape[-1] ** -0.5
    scores = scores if mask is None else scores * mask
    return einsum(scores, v, "batch head query key, batch head key head_dim -> batch head query head_dim")


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def one_head_at_a_time(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    group, mixed = q.shape[1] // k.shape[1], []
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head // group].transpose(1, 2) / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(mask.logical_not(), float("-inf"))
        mixed.append(torch.softmax(scores.float(), -1).to(v.dtype) @ v[:, head // group])
    return torch.stack(mixed, dim=1)


def in_groups(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """No copies: the queries of a group meet the keys that they share."""
    q = rearrange(q, "batch (head group) query head_dim -> batch head group query head_dim", head=k.shape[1])
    scores = einsum(q, k, "batch head group query head_dim, batch head key head_dim -> batch head group query key")
    scores = scores * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.float().softmax(dim=-1).to(v.dtype)
    mixed = einsum(weights, v, "batch head group query key, batch head key head_dim -> batch head group query head_dim")
    return rearrange(mixed, "batch head group query head_dim -> batch (head group) query head_dim")


# A mistake in the mask leaves the last query alone, which sees every key
PARTS_OF_QUERIES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "the earlier queries": lambda result: result[:, :, :-1],
    "the last query": lambda result: result[:, :, -1:],
}
Options = Callable[[Tensor], dict[str, Any]]
# Steps done differently, of which answers often have two. name -> (options of with_scores for this q, what it is)
SCALES: Mapping[str, tuple[Options, str]] = {
    "no scale": (lambda q: {"scale": 1.0}, "the scores are not scaled by head_dim**-0.5"),
    "head_dim without a root": (
        lambda q: {"scale": 1 / q.shape[-1]},
        "the scores are divided by head_dim, not by its root",
    ),
    "scaled by all heads": (
        lambda q: {"scale": (q.shape[1] * q.shape[-1]) ** -0.5},
        "the scores are divided by the root of heads x head_dim, not of head_dim",
    ),
}
MASKS: Mapping[str, tuple[Options, str]] = {
    "mask ignored": (lambda q: {"ignored": True}, "the mask has no effect"),
    "mask after the softmax": (lambda q: {"late": True}, "the mask comes after the softmax, not before it"),
    "masked with zero": (lambda q: {"hidden": 0.0}, "hidden scores are set to 0 in place of -inf"),
    "mask inverted": (lambda q: {"inverted": True, "hidden": -1e9}, "the mask is used the wrong way round"),
    "mask inverted, nan": (
        lambda q: {"inverted": True},
        "the mask is used the wrong way round, so a query that sees no key gets nan",
    ),
}
GROUPS: Mapping[str, tuple[Options, str]] = {
    "groups interleaved": (
        lambda q: {"order": "(group head)"},
        "the heads are grouped as (group head), while neighbours should share: (head group)",
    ),
}


def two_mistakes() -> dict[str, tuple[Any, str]]:
    """Mutants of `attend` that have two of these mistakes, each in another step."""

    def both(one: Options, other: Options) -> Callable[..., Tensor]:
        return lambda q, k, v, mask: with_scores(q, k, v, mask, **one(q), **other(q))

    return {
        f"{name} and {second}": (both(one, other), f"two things: {says}; and {also}.")
        for steps, others in combinations((SCALES, MASKS, GROUPS), 2)
        for name, (one, says) in steps.items()
        for second, (other, also) in others.items()
    }


# One head, one query, two keys with the scaled scores 0 and ln 3, so that the weights are 1/4 and 3/4
BY_HAND = (
    torch.tensor([[[[2.0, 0.0, 0.0, 0.0]]]]),
    torch.tensor([[[[0.0, 0.0, 0.0, 0.0], [1.0986123, 0.0, 0.0, 0.0]]]]),
    torch.tensor([[[[4.0, 0.0, 8.0, 0.0], [0.0, 4.0, 8.0, 0.0]]]]),
    None,
)

EXERCISES = (
    Exercise(
        id="04.1",
        title="attend",
        kind="fill in",
        minutes=12,
        difficulty=3,
        hints=(
            "Four steps: scores, scale, mask, softmax; then one weighted sum of the values.",
            "k and v have fewer heads than q. Repeat each so that neighbours share one: (head group). Scores are "
            "(batch, head, query, key), and the softmax runs over the keys.",
            'einsum(q, k, "batch head query head_dim, batch head key head_dim -> batch head query key") times '
            "head_dim**-0.5; masked_fill(~mask, -inf); softmax(dim=-1) in float32; einsum with v.",
        ),
        now_you_know="attention is two einsums with a softmax in between: who looks at whom, and what they take away.",
        oracle=attend_by_loops,
        teaches=attend,
        parts=PARTS_OF_QUERIES,
        cases=(
            Case(
                "one query, two keys whose weights are 1/4 and 3/4",
                BY_HAND,
                torch.tensor([[[[1.0, 3.0, 8.0, 0.0]]]]),
                tolerance=1e-4,
            ),
            Case("two heads with keys of their own", draw_attention(1, 2, 2, 3, 3, 4)),
            Case("six heads in groups of three", draw_attention(2, 6, 2, 4, 4, 8)),
            Case("a later chunk: three queries, seven keys", draw_attention(1, 4, 2, 3, 7, 6)),
            Case("no mask", draw_attention(1, 4, 1, 3, 5, 6, masked=False)),
            Case("one token", draw_attention(2, 4, 2, 1, 1, 6)),
            Case("bfloat16 in, bfloat16 out", draw_attention(1, 4, 2, 5, 5, 8, dtype=torch.bfloat16), tolerance=0.04),
        ),
        mutants={
            "no scale": (no_scale, "the scores are not scaled. Multiply them by head_dim**-0.5."),
            "scaled by head_dim": (
                scale_by_head_dim,
                "the scores are divided by head_dim. It should be its root: a sum of head_dim random products is "
                "about as large as the root of head_dim.",
            ),
            "scaled by all heads": (
                scale_by_all_heads,
                "the scores are divided by the root of heads x head_dim. Each head sums over its own head_dim only.",
            ),
            "multiplied by the root": (
                times_the_root,
                "the scores are multiplied by the root of head_dim, not divided.",
            ),
            "scaled by the keys": (
                scale_by_keys,
                "the scores are divided by the root of the number of keys. A score sums head_dim products.",
            ),
            "scaled by the queries": (
                scale_by_queries,
                "the scores are divided by the root of the number of queries. A score sums head_dim products.",
            ),
            "scaled by the heads": (
                scale_by_heads,
                "the scores are divided by the root of the number of heads. A score sums head_dim products.",
            ),
            "scaled after the softmax": (
                scale_late,
                "the weights are scaled, not the scores. The scale comes before the softmax, and the weights of a row "
                "sum to 1.",
            ),
            "mask ignored": (mask_ignored, "the mask has no effect: every token sees the whole text, the future too."),
            "mask after the softmax": (
                mask_late,
                "the mask comes after the softmax, so the weights of a row no longer sum to 1. Mask the scores.",
            ),
            "masked with zero": (
                mask_with_zero,
                "hidden scores are set to 0, and the softmax gives 0 a weight. Set them to -inf, which has none.",
            ),
            "mask inverted": (
                mask_inverted,
                "the mask is used the wrong way round. True means that the query attends to the key.",
            ),
            "mask inverted, nan": (
                mask_inverted_to_nan,
                "the mask is used the wrong way round, and a query that sees no key gets nan. True means that the "
                "query attends to the key: masked_fill(~mask, ...).",
            ),
            "mask added": (
                mask_added,
                "the mask is added as 0 and 1, so hidden keys keep a weight. A mask that is added holds 0 and -inf; "
                "this one is bool.",
            ),
            "a triangle of its own": (
                own_triangle,
                "this is a causal triangle of its own, from the first key on. Use the mask that is given, and none if "
                "it is None.",
            ),
            "softmax over the queries": (
                softmax_over_queries,
                "the softmax runs over the queries. Each query distributes its own weights over the keys: dim=-1.",
            ),
            "softmax over the heads": (
                softmax_over_heads,
                "the softmax runs over the heads. Heads are independent; each distributes its weights over the keys.",
            ),
            "softmax over the heads, nan": (
                softmax_over_heads_to_nan,
                "the softmax runs over the heads, and a key that is hidden from all of them gives nan. Each head "
                "distributes its weights over the keys: dim=-1.",
            ),
            "groups interleaved": (
                groups_interleaved,
                "the heads are grouped the other way round, (group head). Heads 0, 1, 2, ... next to each other share "
                "one key head: (head group).",
            ),
            "values interleaved": (
                values_interleaved,
                "the values are grouped the other way round, (group head), and the keys as they should be. Both are "
                "shared by neighbours: (head group).",
            ),
            "keys interleaved": (
                keys_interleaved,
                "the keys are grouped the other way round, (group head), and the values as they should be. Both are "
                "shared by neighbours: (head group).",
            ),
            "one key head for all": (
                first_head_for_all,
                "all heads use the first key/value head. Each group has its own.",
            ),
            "keys instead of values": (keys_mixed, "the keys are mixed. What a token takes away are the values."),
            "scaled by the key heads": (
                lambda q, k, v, mask: with_scores(q, k, v, mask, scale=k.shape[1] ** -0.5),
                "the scores are divided by the root of the number of key/value heads. A score sums head_dim products.",
            ),
            "mask inverted, zero": (
                mask_inverted_to_zero,
                "the mask is used the wrong way round, and a query that sees no key gets zeros. True means that the "
                "query attends to the key.",
            ),
            "alike": (
                normalised(alike),
                "every visible key has the same weight. The weights are a softmax of the scores.",
            ),
            "one takes all": (
                normalised(lambda scores: F.one_hot(scores.argmax(-1), scores.shape[-1]).float()),
                "the key with the largest score takes all. A softmax gives the others a share, too.",
            ),
            "sigmoid": (
                normalised(torch.sigmoid),
                "the scores go through a sigmoid, each on its own. A softmax makes shares that sum to 1.",
            ),
            "never divided": (
                normalised(torch.exp),
                "this is exp of the scores, not divided by its sum over the keys. A softmax makes shares that sum to "
                "1.",
            ),
            "divided without exp": (
                normalised(lambda scores: (kept := scores.masked_fill(scores == -torch.inf, 0)) / kept.sum(-1, True)),
                "the scores are divided by their sum, without exp. A softmax takes exp first.",
            ),
            "cosines": (
                cosines,
                "q and k are scaled to length 1, so the scores are cosines. They are products, divided by the root of "
                "head_dim.",
            ),
            "with the query": (
                lambda q, k, v, mask: q + with_scores(q, k, v, mask),
                "q was added. Attention returns what was found; the layer adds it to the hidden state.",
            ),
            **two_mistakes(),
            "no softmax": (no_softmax, "there is no softmax: the scores themselves are the weights."),
            "left in float32": (
                always_float32,
                "the result is float32 although q isn't. Only the softmax is computed in float32.",
            ),
        },
        accepted={"the fused kernel": fused, "head by head": one_head_at_a_time, "in groups": in_groups},
    ),
)
