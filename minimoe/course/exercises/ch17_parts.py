"""Chapter 17, a million tokens: attention in parts (17.6), blocks (17.7), windows and sinks (17.8)."""

from collections.abc import Callable

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage

# 17.6 merge -----------------------------------------------------------------------------------------------------------

Merge = Callable[[Tensor, Tensor], Tensor]


def merge_by_definition(contexts: Tensor, logsumexps: Tensor) -> Tensor:
    """The mixture in float64, one query after another, with weights relative to the largest sum."""
    rows = []
    for query in range(contexts.shape[1]):
        sums = logsumexps[:, query].double()
        weights = [float((value - sums.max()).exp()) for value in sums]
        mixed = torch.zeros(contexts.shape[2], dtype=torch.float64)
        for part, weight in enumerate(weights):
            mixed += weight * contexts[part, query].double()
        rows.append(mixed / sum(weights))
    return torch.stack(rows).to(contexts.dtype)


def weighted(weights: Tensor, contexts: Tensor) -> Tensor:
    return einsum(weights, contexts, "part query, part query head_dim -> query head_dim")


def merge_with(weigh: Callable[[Tensor], Tensor]) -> Merge:
    """The mixture with weights (part, query) that `weigh` makes of the logsumexps."""
    return lambda contexts, logsumexps: weighted(weigh(logsumexps), contexts)


def as_given(contexts: Tensor, logsumexps: Tensor) -> Tensor:
    """The function on the page, which is to be repaired."""
    sums = logsumexps.exp()
    weights = sums / sums.sum(dim=0)
    return einsum(weights, contexts, "part query, part query head_dim -> query head_dim")


def one_maximum(logsumexps: Tensor) -> Tensor:
    sums = (logsumexps - logsumexps.max()).exp()
    return sums / sums.sum(dim=0)


def over_queries_maximum(logsumexps: Tensor) -> Tensor:
    sums = (logsumexps - logsumexps.amax(dim=1, keepdim=True)).exp()
    return sums / sums.sum(dim=0)


def not_normalised(logsumexps: Tensor) -> Tensor:
    return (logsumexps - logsumexps.amax(dim=0)).exp()


def with_nan_as_zero(contexts: Tensor, logsumexps: Tensor) -> Tensor:
    return as_given(contexts, logsumexps).nan_to_num(nan=0.0)


def limited(logsumexps: Tensor) -> Tensor:
    sums = logsumexps.clamp(max=80).exp()
    return sums / sums.sum(dim=0)


def largest_part(logsumexps: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(logsumexps.argmax(dim=0), len(logsumexps)).T.to(logsumexps.dtype)


def logs_as_weights(logsumexps: Tensor) -> Tensor:
    return logsumexps / logsumexps.sum(dim=0)


def draw_parts(parts: int, queries: int, head_dim: int, scale: float) -> Arguments:
    """Contexts and logsumexps as attention over the parts of a text gives them; scale: of the scores."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        contexts = torch.randn(parts, queries, head_dim, generator=generator)
        return contexts, scale * torch.randn(parts, queries, generator=generator)

    return arguments


# 17.7 blocks ----------------------------------------------------------------------------------------------------------


def blocks_by_loops(weights: Tensor, size: int) -> Tensor:
    """One block after another."""
    heads, queries, keys = weights.shape
    found = torch.zeros(heads, queries // size, keys // size, dtype=weights.dtype)
    for head in range(heads):
        for row in range(queries // size):
            for column in range(keys // size):
                for query in range(row * size, (row + 1) * size):
                    for key in range(column * size, (column + 1) * size):
                        found[head, row, column] += weights[head, query, key]
    return found


def blocks_as_given(weights: Tensor, size: int) -> Tensor:
    """The function on the page, which is to be rewritten."""
    heads, queries, keys = weights.shape
    tiles = weights.view(heads, queries // size, size, keys // size, size).transpose(2, 3)
    return tiles.reshape(heads, queries // size, keys // size, -1).sum(dim=-1)


def blocks(pattern: str, how: str = "sum") -> Callable[[Tensor, int], Tensor]:
    return lambda weights, size: reduce(weights, pattern, how, query=size, key=size)


BLOCKS = "head (row query) (column key) -> head row column"


def strided_queries(weights: Tensor, size: int) -> Tensor:
    return reduce(weights, "head (query row) (column key) -> head row column", "sum", query=size, key=size)


def strided_keys(weights: Tensor, size: int) -> Tensor:
    return reduce(weights, "head (row query) (key column) -> head row column", "sum", query=size, key=size)


def strided(weights: Tensor, size: int) -> Tensor:
    return reduce(weights, "head (query row) (key column) -> head row column", "sum", query=size, key=size)


def as_shares(weights: Tensor, size: int) -> Tensor:
    found = blocks(BLOCKS)(weights, size)
    return found / found.sum(dim=-1, keepdim=True)


def heads_added(weights: Tensor, size: int) -> Tensor:
    return reduce(weights, "head (row query) (column key) -> row column", "sum", query=size, key=size)


def number_as_size(weights: Tensor, size: int) -> Tensor:
    return reduce(weights, "head (row query) (column key) -> head row column", "sum", row=size, column=size)


def in_two_steps(weights: Tensor, size: int) -> Tensor:
    tiles = rearrange(weights, "head (row query) (column key) -> head row column query key", query=size, key=size)
    return reduce(tiles, "head row column query key -> head row column", "sum")


def unfolded(weights: Tensor, size: int) -> Tensor:
    return weights.unfold(1, size, size).unfold(2, size, size).sum(dim=(-1, -2))


def draw_weights(head: int, query: int, key: int, size: int) -> Arguments:
    """Softmax weights, and the side of a block."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int]:
        return torch.randn(head, query, key, generator=generator).softmax(dim=-1), size

    return arguments


# 17.8 windows and sinks -----------------------------------------------------------------------------------------------


def mask_by_loops(queries: Tensor, keys: Tensor, window: int, sinks: int) -> Tensor:
    """One pair after another."""
    rows = [
        [key <= query and (query - key < window or key < sinks) for key in keys.tolist()] for query in queries.tolist()
    ]
    return torch.tensor(rows, dtype=torch.bool).reshape(len(queries), len(keys))


def mask_with(rule: Callable[[Tensor, Tensor, int, int], Tensor]) -> Callable[[Tensor, Tensor, int, int], Tensor]:
    """A mask by a rule for queries (query, 1) and keys (key)."""
    return lambda queries, keys, window, sinks: rule(rearrange(queries, "query -> query 1"), keys, window, sinks)


mask_right = mask_with(lambda q, k, window, sinks: (k <= q) & ((q - k < window) | (k < sinks)))


def whole_text(length: int, window: int, sinks: int) -> tuple[Tensor, Tensor, int, int]:
    return torch.arange(length), torch.arange(length), window, sinks


EXERCISES = (
    Exercise(
        id="17.6",
        title="Attention in parts",
        kind="bug hunt",
        minutes=15,
        difficulty=3,
        hints=(
            "Which queries come out as nan, and how large are their logsumexps? What is exp(89) in float32?",
            "Only the ratio of the sums matters. It doesn't change if the same number is subtracted from all "
            "logsumexps of one query.",
            "Subtract from each query's logsumexps their own maximum over the parts, then exp, then divide by the sum. "
            "That is a softmax over the parts.",
        ),
        now_you_know="partial results of attention are merged by a softmax over their logsumexps. FlashAttention, "
        "chunked prefill and dual chunk kernels all do it.",
        oracle=merge_by_definition,
        cases=(
            Case(
                "two equal parts",
                (torch.tensor([[[2.0, 0.0]], [[0.0, 4.0]]]), torch.tensor([[1.0], [1.0]])),
                torch.tensor([[1.0, 2.0]]),
            ),
            Case("three parts, small scores", draw_parts(3, 5, 4, 2.0)),
            Case("large scores", draw_parts(4, 6, 3, 60.0)),
            Case(
                "scores far below zero",
                (torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[-200.0], [-200.0]])),
                torch.tensor([[2.0]]),
            ),
            Case(
                "one query is far above the others",
                (
                    torch.tensor([[[1.0], [5.0], [7.0]], [[3.0], [9.0], [8.0]]]),
                    torch.tensor([[300.0, 0.0, -150.0], [300.0, 0.0, -150.0]]),
                ),
                torch.tensor([[2.0], [7.0], [7.5]]),
            ),
            Case(
                "scores of a thousand",
                (torch.tensor([[[1.0], [5.0]], [[3.0], [9.0]]]), torch.tensor([[1000.0, -1000.0], [1000.0, -1000.0]])),
                torch.tensor([[2.0], [7.0]]),
                tolerance=1e-3,
            ),
            Case("a single part", draw_parts(1, 4, 3, 5.0)),
            Case(
                "an empty part",
                (torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[0.5], [-torch.inf]])),
                torch.tensor([[1.0]]),
            ),
        ),
        given=as_given,
        mutants={
            "without a maximum": (
                as_given,
                "exp is taken of the logsumexps themselves: above 88 it is infinite in float32, and infinity divided "
                "by infinity is nan.",
            ),
            "one maximum": (
                merge_with(one_maximum),
                "one maximum is subtracted from all queries. A query far below it gets only zeros, and 0 / 0: each "
                "query needs its own maximum, over the parts.",
            ),
            "maximum over queries": (
                merge_with(over_queries_maximum),
                "the maximum of each part is subtracted. That changes the ratio between the parts: take it over the "
                "parts, for each query.",
            ),
            "nan as zero": (
                with_nan_as_zero,
                "nan is replaced by 0. The mixture of those queries is then 0 instead of the right one.",
            ),
            "limited": (
                merge_with(limited),
                "the logsumexps are cut off. Two parts above the limit then weigh the same, however far they are "
                "apart.",
            ),
            "softmax over queries": (
                merge_with(lambda sums: sums.softmax(dim=1)),
                "the softmax runs over the queries. Each query mixes its parts: it runs over the parts.",
            ),
            "mean": (
                merge_with(lambda sums: torch.full_like(sums, 1 / len(sums))),
                "all parts weigh the same. A part with larger scores holds more of the weight.",
            ),
            "largest part": (
                merge_with(largest_part),
                "only the part with the largest sum is kept. The others have their share.",
            ),
            "logs as weights": (
                merge_with(logs_as_weights),
                "the logarithms are the weights. The weights are the sums themselves: exp of them, divided by their "
                "total.",
            ),
            "not normalised": (
                merge_with(not_normalised),
                "the weights don't add up to 1: after exp, divide by their sum over the parts.",
            ),
            "sum": (merge_with(torch.ones_like), "the contexts are added up. They are averages: mix them by weight."),
            "float64 alone": (
                lambda contexts, sums: weighted(
                    (sums.double().exp() / sums.double().exp().sum(dim=0)).to(contexts.dtype), contexts
                ),
                "a wider format only moves the limit, here to 709. Subtract each query's maximum before exp.",
            ),
        },
        accepted={
            "softmax": merge_with(lambda sums: sums.softmax(dim=0)),
            "logsumexp of logsumexps": merge_with(lambda sums: (sums - sums.logsumexp(dim=0)).exp()),
            "maximum": merge_with(lambda sums: not_normalised(sums) / not_normalised(sums).sum(dim=0)),
        },
    ),
    Exercise(
        id="17.7",
        title="The mass of a block",
        kind="einops",
        minutes=10,
        difficulty=2,
        hints=(
            "Two axes are cut in two: which part of each stays, and which is summed?",
            "A query is (row query): the row of blocks, and the place in it. A key is (column key).",
            'reduce(weights, "head (row query) (column key) -> head row column", "sum", query=size, key=size)',
        ),
        now_you_know="sparse attention decides on blocks, and einops cuts both axes in one line.",
        oracle=blocks_by_loops,
        cases=(
            Case(
                "four by four in blocks of two",
                (torch.arange(16.0).reshape(1, 4, 4), 2),
                torch.tensor([[[10.0, 18.0], [42.0, 50.0]]]),
            ),
            Case("heads and blocks of three", draw_weights(2, 6, 12, 3)),
            Case("one query block, as in a chunked prefill", draw_weights(3, 4, 20, 4)),
            Case("blocks of one", draw_weights(2, 3, 5, 1)),
            Case("a single block", draw_weights(2, 4, 4, 4)),
        ),
        given=blocks_as_given,
        stages=(
            Stage("", lambda weights, size: blocks(BLOCKS, "mean")(weights, size), "are means, not sums"),
            Stage("", lambda weights, size: blocks(BLOCKS, "max")(weights, size), "are the largest weights"),
        ),
        mutants={
            "mean": (blocks(BLOCKS, "mean"), "the blocks are averaged. Mass is a sum."),
            "largest": (blocks(BLOCKS, "max"), "of each block the largest weight is taken. Mass is a sum."),
            "strided queries": (
                strided_queries,
                "the queries of a row are taken from all over the text: (query row) is another order than (row query).",
            ),
            "strided keys": (
                strided_keys,
                "the keys of a column are taken from all over the text: (key column) is another order than "
                "(column key).",
            ),
            "strided": (
                strided,
                "queries and keys of a block are taken from all over the text: in (row query) the left name is the "
                "slow one.",
            ),
            "transposed": (
                blocks("head (row query) (column key) -> head column row"),
                "rows and columns are exchanged: the result is (head, row, column).",
            ),
            "shares": (as_shares, "every row of blocks is divided by its sum. The mass of a row is `size`, and stays."),
            "heads added": (heads_added, "the heads are added up. Each head chooses its own blocks."),
            "number as size": (
                number_as_size,
                "`size` is used as the number of blocks. It is the side of one: query=size, key=size.",
            ),
        },
        accepted={"reduce": blocks(BLOCKS), "in two steps": in_two_steps, "unfolded": unfolded},
    ),
    Exercise(
        id="17.8",
        title="Windows and sinks",
        kind="ablate",
        minutes=12,
        difficulty=3,
        hints=(
            "Three conditions for a pair. Which of them must hold always, and which two are alternatives?",
            "queries as a column (query, 1), keys as a row: every comparison is then (query, key).",
            "(keys <= queries) & ((queries - keys < window) | (keys < sinks)), with queries as a column.",
        ),
        now_you_know="a window bounds the cache, whatever the length of the text; what falls out of it is gone.",
        oracle=mask_by_loops,
        cases=(
            Case(
                "five tokens, a window of two, one sink",
                (*whole_text(5, 2, 1),),
                torch.tensor(
                    [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 1, 1, 0], [1, 0, 0, 1, 1]]
                ).bool(),
            ),
            Case("no sinks", whole_text(9, 3, 0)),
            Case("three sinks", whole_text(12, 4, 3)),
            Case("a window of one", whole_text(7, 1, 2)),
            Case("one query after a cache", (torch.tensor([11]), torch.arange(12), 4, 2)),
            Case("the last three of a chunk", (torch.arange(9, 12), torch.arange(12), 5, 2)),
            Case("more sinks than tokens", whole_text(4, 2, 6)),
            Case("a window longer than the text", whole_text(6, 10, 1)),
        ),
        mutants={
            "no sinks": (
                mask_with(lambda q, k, window, sinks: (k <= q) & (q - k < window)),
                "the sinks are missing: the first tokens stay visible.",
            ),
            "sinks alone": (
                mask_with(lambda q, k, window, sinks: (k <= q) & (k < sinks)),
                "the window is missing: a query sees its sinks alone.",
            ),
            "both": (
                mask_with(lambda q, k, window, sinks: (k <= q) & (q - k < window) & (k < sinks)),
                "a key has to be in the window and a sink. One of the two is enough.",
            ),
            "future": (
                mask_with(lambda q, k, window, sinks: (q - k < window) | (k < sinks)),
                "keys after the query are visible: their distance is negative, and less than the window.",
            ),
            "future sinks": (
                mask_with(lambda q, k, window, sinks: ((k <= q) & (q - k < window)) | (k < sinks)),
                "sinks are visible before they are written: no query sees a later key.",
            ),
            "window plus one": (
                mask_with(lambda q, k, window, sinks: (k <= q) & ((q - k <= window) | (k < sinks))),
                "the window has one key too many. It holds `window` keys, and the query's own is one of them.",
            ),
            "window less one": (
                mask_with(lambda q, k, window, sinks: (k <= q) & ((q - k < window - 1) | (k < sinks))),
                "the window has one key too few. It holds `window` keys, and the query's own is one of them.",
            ),
            "sinks by query": (
                mask_with(lambda q, k, window, sinks: (k <= q) & ((q - k < window) | (q < sinks))),
                "the first *queries* see everything here. The sinks are the first keys, for every query.",
            ),
            "one sink more": (
                mask_with(lambda q, k, window, sinks: (k <= q) & ((q - k < window) | (k <= sinks))),
                "there is one sink too many: they are the keys 0 .. sinks - 1.",
            ),
            "without itself": (
                mask_with(lambda q, k, window, sinks: (k < q) & ((q - k < window) | (k < sinks))),
                "a query doesn't see its own key. It does in causal attention.",
            ),
            "causal": (
                mask_with(lambda q, k, window, sinks: k <= q),
                "every earlier key is visible: there is no window.",
            ),
            "both sides": (
                mask_with(lambda q, k, window, sinks: ((q - k).abs() < window) | (k < sinks)),
                "the window reaches to both sides. Keys after the query are not visible.",
            ),
            "queries counted anew": (
                lambda queries, keys, window, sinks: mask_right(torch.arange(len(queries)), keys, window, sinks),
                "the queries are counted from 0. With a cache they stand at the end of the keys: use their positions.",
            ),
            "the wrong way round": (
                lambda *sizes: ~mask_right(*sizes),
                "True and False are exchanged: True is where a query sees a key.",
            ),
        },
        accepted={
            "comparisons": mask_right,
            "triangles": lambda queries, keys, window, sinks: (
                (queries[:, None] >= keys[None]) & ~((queries[:, None] - window >= keys[None]) & (keys[None] >= sinks))
            ),
        },
    ),
)
