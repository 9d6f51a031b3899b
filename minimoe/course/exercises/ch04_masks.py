"""Chapter 04, attention: the causal mask of a chunk, and a bug hunt about a mask and a scale (04.2 and 04.5)."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from einops import einsum, rearrange
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.course.exercises.ch04_attend import aligned_to_the_first, attend_by_loops
from minimoe.model.attention import causal_mask

# 04.2 the mask of a chunk --------------------------------------------------------------------------------------------


def mask_by_loops(queries: int, keys: int) -> Tensor:
    """Query number n is at position keys - queries + n, and attends to itself and to all before."""
    start = keys - queries
    return torch.tensor([[key <= start + query for key in range(keys)] for query in range(queries)])


def without_itself(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries - 1)


def one_ahead(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries + 1)


def into_the_future(queries: int, keys: int) -> Tensor:
    return ~mask_by_loops(queries, keys)


def after_itself(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries)


def everything(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool)


def mirrored(queries: int, keys: int) -> Tensor:
    return mask_by_loops(queries, keys).flip(1)


def chunk_only(queries: int, keys: int) -> Tensor:
    mask = mask_by_loops(queries, keys)
    mask[:, : keys - queries] = False
    return mask


def earlier_only(queries: int, keys: int) -> Tensor:
    return torch.arange(keys).expand(queries, keys) < keys - queries


def window(queries: int, keys: int) -> Tensor:
    """Each query sees as many keys as the chunk has queries."""
    return mask_by_loops(queries, keys).triu(keys - 2 * queries + 1)


def queries_reversed(queries: int, keys: int) -> Tensor:
    return mask_by_loops(queries, keys).flip(0)


def shifted_by_queries(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).tril(queries)


def triangle_in_front(queries: int, keys: int) -> Tensor:
    """The keys of the chunk come first, then those before it."""
    return mask_by_loops(queries, keys).roll(queries, dims=1)


def before(mask: Tensor) -> int:
    """The number of keys (last axis) before the first of the queries (the axis before it)."""
    queries, keys = mask.shape[-2:]
    if queries > keys:
        raise ValueError("a mask with more queries than keys has no parts")
    return keys - queries


def parts_of_a_mask() -> dict[str, Callable[[Tensor], Tensor]]:
    """What each query does with itself, with the earlier and later tokens of the chunk, and with those before it."""

    def chunk(mask: Tensor) -> Tensor:
        return mask[:, before(mask) :]

    return {
        "the cached tokens": lambda mask: mask[:, : before(mask)],
        "the chunk's earlier tokens": lambda mask: chunk(mask)[tuple(torch.tril_indices(len(mask), len(mask), -1))],
        "the queries' own positions": lambda mask: chunk(mask).diagonal(),
        "the chunk's later tokens": lambda mask: chunk(mask)[tuple(torch.triu_indices(len(mask), len(mask), 1))],
    }


def as_added_numbers(queries: int, keys: int) -> Tensor:
    return torch.zeros(queries, keys).masked_fill(~mask_by_loops(queries, keys), -torch.inf)


def by_tril(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys).tril(diagonal=keys - queries) == 1


def by_slicing(queries: int, keys: int) -> Tensor:
    return torch.tril(torch.ones(keys, keys, dtype=torch.bool))[keys - queries :]


# 04.5 the bug hunt ---------------------------------------------------------------------------------------------------


def suspicious(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """q: (head, query, head_dim), k: (head, key, head_dim) -> attention weights (head, query, key)."""
    scores = einsum(q, k, "head query head_dim, head key head_dim -> head query key")
    weights = (scores * (q.shape[0] * q.shape[-1]) ** -0.5).softmax(dim=-1)
    return weights * mask


def weights_by_loops(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """The weights of `attend_by_loops`, read off with values that are the rows of the identity."""
    wide = F.pad(q, (0, 0))[None]
    v = torch.eye(k.shape[1]).expand(1, k.shape[0], -1, -1)
    return attend_by_loops(wide, k[None], v, mask)[0]


def draw_weights(head: int, queries: int, keys: int, head_dim: int) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        q = 2 * torch.randn(head, queries, head_dim, generator=generator)
        return q, torch.randn(head, keys, head_dim, generator=generator), causal_mask(queries, keys, q.device)

    return arguments


def repaired(
    q: Tensor, k: Tensor, mask: Tensor, *, late: bool = False, size: float | None = None, again: bool = False,
    softmax: int = -1, hidden: float = -torch.inf, inverted: bool = False,
) -> Tensor:  # fmt: skip
    """The weights, with one of the bugs left in, or another one put in its place."""
    mask = ~mask if inverted else mask
    scores = einsum(q, k, "head query head_dim, head key head_dim -> head query key")
    scores = scores * (q.shape[-1] if size is None else size) ** -0.5
    if not late:
        return scores.masked_fill(~mask, hidden).softmax(dim=softmax)
    weights = scores.softmax(dim=softmax) * mask
    return weights / weights.sum(dim=-1, keepdim=True) if again else weights


def every_head_at_once(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """One softmax over the keys of all heads together."""
    scores = einsum(q, k, "head query head_dim, head key head_dim -> query head key") * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~rearrange(mask, "query key -> query 1 key"), -torch.inf)
    weights = rearrange(scores, "query head key -> query (head key)").softmax(dim=-1)
    return rearrange(weights, "query (head key) -> head query key", head=len(q))


PARTS_OF_WEIGHTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "the weights of hidden keys": lambda weights: weights.triu(before(weights) + 1),
    "the weights of visible keys": lambda weights: weights.tril(before(weights)),
    "the sums of the rows": lambda weights: weights.sum(dim=-1),
}
Weights = Callable[..., Tensor]
SIZES: Mapping[str, tuple[Callable[[Tensor], float], str]] = {
    "no scale": (lambda q: 1.0, "the scores are not scaled by head_dim**-0.5"),
    "head_dim without a root": (
        lambda q: float(q.shape[-1] ** 2),
        "the scores are divided by head_dim, not by its root",
    ),
    "the scale as it was": (
        lambda q: float(q.shape[0] * q.shape[-1]),
        "the scale still divides by the root of heads x head_dim",
    ),
    "root of the heads": (
        lambda q: float(q.shape[0]),
        "the scores are divided by the root of the number of heads, not of head_dim",
    ),
}
HIDDEN: Mapping[str, tuple[dict[str, Any], str]] = {
    "the mask as it was": ({"late": True}, "the mask still comes after the softmax"),
    "hidden as zero": ({"hidden": 0.0}, "hidden scores are set to 0 in place of -inf"),
    "mask inverted": ({"inverted": True, "hidden": -1e9}, "the mask is used the wrong way round"),
    "mask inverted, nan": (
        {"inverted": True},
        "the mask is used the wrong way round, so a query that sees no key gets nan",
    ),
}


def two_wrong_repairs() -> dict[str, tuple[Any, str]]:
    """Mutants in which both places are wrong, in the way of the page or in another one."""

    def both(size: Callable[[Tensor], float], options: dict[str, Any]) -> Weights:
        return lambda q, k, mask: repaired(q, k, mask, size=size(q), **options)

    return {
        f"{name} and {second}": (both(size, options), f"two things: {says}; and {also}.")
        for name, (size, says) in SIZES.items()
        for second, (options, also) in HIDDEN.items()
        if (name, second) != ("the scale as it was", "the mask as it was")
    }


def softmax_twice(q: Tensor, k: Tensor, mask: Tensor, hidden: float) -> Tensor:
    """The weights go through a second softmax, in place of a division by their sum."""
    return repaired(q, k, torch.ones_like(mask)).masked_fill(~mask, hidden).softmax(dim=-1)


def only_the_scale(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    return repaired(q, k, mask, late=True)


def only_the_mask(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    return repaired(q, k, mask, size=q.shape[0] * q.shape[-1])


def unscaled(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    return repaired(q, k, mask, size=1.0)


def divided_by_head_dim(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    return repaired(q, k, mask, size=float(q.shape[-1] ** 2))


def hidden_as_zero(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    return repaired(q, k, mask, hidden=0.0)


def columns_sum_to_one(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    return repaired(q, k, mask, softmax=-2, hidden=-1e9)


def renormalised(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    return repaired(q, k, mask, late=True, again=True)


def before_the_softmax(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    return repaired(q, k, mask)


def by_matmul(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    return torch.softmax(torch.where(mask, scores, torch.tensor(float("-inf"))), dim=2)


EXERCISES = (
    Exercise(
        id="04.2",
        title="The mask of a later chunk",
        kind="fill in",
        minutes=8,
        difficulty=2,
        hints=(
            "The queries are the last ones of the text. At which position is the first of them?",
            "Query number n is at position keys - queries + n, and sees the keys at 0 to its own position.",
            'position = torch.arange(keys); rearrange(position[keys - queries :], "query -> query 1") >= position.',
        ),
        now_you_know="a causal mask is a triangle that ends at the last key, however many queries there are.",
        oracle=mask_by_loops,
        parts=parts_of_a_mask(),
        teaches=causal_mask,
        cases=(
            Case("three tokens at once", (3, 3), torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()),
            Case(
                "two queries, after three tokens in the cache",
                (2, 5),
                torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]).bool(),
            ),
            Case("four queries, nine keys", (4, 9)),
            Case("one new token sees everything", (1, 6)),
            Case("a single token", (1, 1)),
        ),
        mutants={
            "aligned to the first key": (
                aligned_to_the_first,
                "the triangle begins at the first key, as if the chunk were the start of the text. Its first query is "
                "at position keys - queries.",
            ),
            "without itself": (without_itself, "a token does not see itself. Its own position is included."),
            "one ahead": (one_ahead, "each query sees one key too many: the token after it."),
            "inverted": (into_the_future, "True and False are swapped: True means that the query attends to the key."),
            "itself and what follows": (
                after_itself,
                "each query sees itself and what comes *after* it. The triangle belongs on the other side.",
            ),
            "everything": (everything, "every query sees every key, the future included."),
            "mirrored": (mirrored, "the keys are in reversed order."),
            "queries reversed": (
                queries_reversed,
                "the queries are in reversed order: the first one sees the most. It is the earliest of the chunk.",
            ),
            "a window": (
                window,
                "each query sees a window of keys, as long as the chunk. It attends to itself and to *all* before it.",
            ),
            "shifted by queries": (
                shifted_by_queries,
                "the triangle is shifted by the number of queries. Before the chunk there are keys - queries tokens.",
            ),
            "the wrong sign": (
                lambda queries, keys: torch.ones(queries, keys, dtype=torch.bool).tril(queries - keys),
                "the triangle is shifted to the wrong side: by queries - keys. The tokens before the chunk are "
                "visible, so it is keys - queries.",
            ),
            "in front": (
                triangle_in_front,
                "the triangle is at the first keys, and the tokens after it are all visible. The chunk is at the end: "
                "first all keys before it, then the triangle.",
            ),
            "one row for all": (
                lambda queries, keys: (torch.arange(keys) <= keys - queries).expand(queries, keys),
                "all queries see what the first one sees. Each sees one key more than the one before.",
            ),
            "itself alone": (
                lambda queries, keys: mask_by_loops(queries, keys).triu(keys - queries),
                "each query sees itself alone. It attends to all before it as well.",
            ),
            "all others": (
                lambda queries, keys: ~mask_by_loops(queries, keys).triu(keys - queries),
                "each query sees all others but not itself. It attends to itself and to all before it.",
            ),
            "only the chunk": (
                chunk_only,
                "the tokens in the cache are hidden. A later chunk attends to all that came before it.",
            ),
            "only the cache": (
                earlier_only,
                "the queries see the tokens before the chunk only, neither themselves nor each other.",
            ),
            "numbers to add": (
                as_added_numbers,
                "these are numbers to be added to the scores. Expected: bool, True where a query attends to a key.",
            ),
        },
        accepted={"a triangle": by_tril, "the last rows of the square": by_slicing},
    ),
    Exercise(
        id="04.5",
        title="Bug hunt: weights that do not add up",
        kind="bug hunt",
        minutes=12,
        difficulty=3,
        hints=(
            "Add up the weights of a row. What should come out, and from which step on is it wrong?",
            "There are two bugs. One is the place of the mask. The other is a number in the scale: how many products "
            "does one score sum?",
            "scores * head_dim**-0.5, then masked_fill(~mask, -inf), then the softmax over the keys.",
        ),
        now_you_know="a mask belongs before the softmax, and a score is scaled by the size of one head.",
        oracle=weights_by_loops,
        parts=PARTS_OF_WEIGHTS,
        cases=(
            Case("one head, three tokens", draw_weights(1, 3, 3, 4)),
            Case("three heads", draw_weights(3, 4, 4, 8)),
            Case("a later chunk: two queries, six keys", draw_weights(2, 2, 6, 5)),
            Case("one token", draw_weights(4, 1, 1, 6)),
        ),
        given=suspicious,
        mutants={
            "as it was": (suspicious, "this is still the function on the page, with both of its bugs."),
            "only the scale": (
                only_the_scale,
                "the scale is right now. The mask still comes after the softmax, so the rows do not sum to 1.",
            ),
            "only the mask": (
                only_the_mask,
                "the mask is right now. The scale still divides by the root of heads x head_dim, so the weights are "
                "too even.",
            ),
            "no scale": (unscaled, "the scores are no longer scaled at all. Multiply them by head_dim**-0.5."),
            "divided by head_dim": (divided_by_head_dim, "the scores are divided by head_dim, not by its root."),
            "hidden as zero": (
                hidden_as_zero,
                "hidden scores are set to 0, and the softmax gives 0 a weight. Set them to -inf.",
            ),
            "columns sum to 1": (
                columns_sum_to_one,
                "the softmax runs over the queries. Rows should sum to 1: dim=-1.",
            ),
            "softmax over the heads": (
                lambda q, k, mask: repaired(q, k, mask, softmax=0, hidden=-1e9),
                "the softmax runs over the heads. Each head has weights of its own over the keys: dim=-1.",
            ),
            "softmax over the heads, nan": (
                lambda q, k, mask: repaired(q, k, mask, softmax=0),
                "the softmax runs over the heads, and a key that is hidden from all of them gives nan. Each head has "
                "weights of its own over the keys: dim=-1.",
            ),
            "mask inverted": (
                lambda q, k, mask: repaired(q, k, ~mask, hidden=-1e9),
                "the mask is used the wrong way round. True means that the query attends to the key.",
            ),
            "mask inverted, nan": (
                lambda q, k, mask: repaired(q, k, ~mask),
                "the mask is used the wrong way round, and a query that sees no key gets nan. True means that the "
                "query attends to the key: masked_fill(~mask, ...).",
            ),
            "a triangle of its own": (
                lambda q, k, mask: repaired(q, k, aligned_to_the_first(*mask.shape)),
                "this is a causal triangle of its own, from the first key on. Use the mask that is given: a later "
                "chunk has another one.",
            ),
            "hidden as -1": (
                lambda q, k, mask: repaired(q, k, mask, hidden=-1.0),
                "hidden scores are set to -1, and the softmax gives -1 a weight. Set them to -inf, which has none.",
            ),
            "root of the heads": (
                lambda q, k, mask: repaired(q, k, mask, size=q.shape[0]),
                "the scores are divided by the root of the number of heads. A score sums head_dim products.",
            ),
            "root of the queries": (
                lambda q, k, mask: repaired(q, k, mask, size=q.shape[1]),
                "the scores are divided by the root of the number of queries. A score sums head_dim products.",
            ),
            "root of the keys": (
                lambda q, k, mask: repaired(q, k, mask, size=k.shape[1]),
                "the scores are divided by the root of the number of keys. A score sums head_dim products.",
            ),
            "root of a root": (
                lambda q, k, mask: repaired(q, k, mask, size=q.shape[-1] ** 0.5),
                "the scores are divided by the root of the root of head_dim. Take the root once: head_dim**-0.5.",
            ),
            "-inf after the softmax": (
                lambda q, k, mask: repaired(q, k, torch.ones_like(mask)).masked_fill(~mask, -torch.inf),
                "hidden weights are -inf. The scores are set to -inf, before the softmax turns them into 0.",
            ),
            "logarithm": (
                lambda q, k, mask: repaired(q, k, mask).log(),
                "these are the logarithms of the weights, as from log_softmax.",
            ),
            "all heads at once": (
                every_head_at_once,
                "one softmax runs over the keys of all heads together. The weights of each head sum to 1 on their own.",
            ),
            "divided by everything": (
                lambda q, k, mask: (late := repaired(q, k, mask, late=True)) / late.sum(),
                "the masked weights are divided by the sum of all of them. Each row sums to 1 on its own: dim=-1.",
            ),
            "divided by each head's sum": (
                lambda q, k, mask: (late := repaired(q, k, mask, late=True)) / late.sum(dim=(1, 2), keepdim=True),
                "the masked weights are divided by the sum of the head. Each row sums to 1 on its own: dim=-1.",
            ),
            "divided by the largest": (
                lambda q, k, mask: (late := repaired(q, k, mask, late=True)) / late.amax(dim=-1, keepdim=True),
                "the masked weights are divided by the largest of the row. For rows that sum to 1, divide by the sum.",
            ),
            **two_wrong_repairs(),
            "columns divided": (
                lambda q, k, mask: (late := repaired(q, k, mask, late=True)) / late.sum(dim=1, keepdim=True),
                "the masked weights are divided by the sums of the columns. The weights of one query sum to 1: a row.",
            ),
            "divided by a count": (
                lambda q, k, mask: repaired(q, k, mask, late=True) / mask.sum(dim=-1, keepdim=True),
                "the masked weights are divided by the number of visible keys. For rows that sum to 1, divide by their "
                "sum, or mask the scores.",
            ),
            "softmax twice": (
                lambda q, k, mask: softmax_twice(q, k, mask, -torch.inf),
                "the weights go through a second softmax. It makes them more even; mask the scores before the first.",
            ),
            "softmax twice, over zeros": (
                lambda q, k, mask: softmax_twice(q, k, mask, 0.0),
                "the masked weights go through a second softmax, which gives the zeros of hidden keys a weight again.",
            ),
        },
        accepted={
            "mask before the softmax": before_the_softmax,
            "matmul and where": by_matmul,
            "mask, then divide by the sum": renormalised,
        },
    ),
)
