"""Natural answers to 17.6, 17.7 and 17.8: attention in parts, the mass of a block, windows and sinks."""

import torch
from einops import einsum, rearrange, reduce

from tests.course.natural_answers.collect import Collection

collection = Collection("17.6", "17.7", "17.8")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 17.6 -----------------------------------------------------------------------------------------------------------------


def mix(weights, contexts):
    return (weights.unsqueeze(-1) * contexts).sum(dim=0)


@wrong("17.6", "as it was", "exp", "infin", "88", "maximum")
def _(contexts, logsumexps):
    sums = logsumexps.exp()
    return mix(sums / sums.sum(dim=0), contexts)


@wrong("17.6", "the global maximum", "maximum", "each query")
def _(contexts, logsumexps):
    sums = torch.exp(logsumexps - torch.max(logsumexps))
    return mix(sums / sums.sum(0), contexts)


@wrong("17.6", "the maximum of each part", "maximum", "part")
def _(contexts, logsumexps):
    sums = torch.exp(logsumexps - logsumexps.max(dim=1, keepdim=True).values)
    return mix(sums / sums.sum(0), contexts)


@wrong("17.6", "nan to zero", "nan", "0")
def _(contexts, logsumexps):
    sums = logsumexps.exp()
    return torch.nan_to_num(mix(sums / sums.sum(dim=0), contexts))


@wrong("17.6", "clamped at 88", "cut off", "limit")
def _(contexts, logsumexps):
    sums = logsumexps.clamp(max=85).exp()
    return mix(sums / sums.sum(dim=0), contexts)


@wrong("17.6", "softmax in the last axis", "queries", "part")
def _(contexts, logsumexps):
    return mix(torch.softmax(logsumexps, dim=-1), contexts)


@wrong("17.6", "mean", "weigh", "same")
def _(contexts, logsumexps):
    return contexts.mean(dim=0)


@wrong("17.6", "in float64", "wider", "709", "format", "type")
def _(contexts, logsumexps):
    sums = logsumexps.double().exp()
    return mix((sums / sums.sum(dim=0)).float(), contexts)


@wrong("17.6", "float64 returned", "type", "float64", "dtype", "format")
def _(contexts, logsumexps):
    return mix(logsumexps.double().softmax(0), contexts.double())


@wrong("17.6", "the winner takes all", "largest", "share")
def _(contexts, logsumexps):
    best = logsumexps.argmax(dim=0)
    return contexts[best, torch.arange(contexts.shape[1])]


@wrong("17.6", "never divided", "add up", "divide", "1")
def _(contexts, logsumexps):
    return mix((logsumexps - logsumexps.max(dim=0).values).exp(), contexts)


@wrong("17.6", "logs as weights", "logarithm", "exp")
def _(contexts, logsumexps):
    return mix(logsumexps / logsumexps.sum(dim=0), contexts)


@wrong("17.6", "sum", "add", "average")
def _(contexts, logsumexps):
    return contexts.sum(dim=0)


@right("17.6", "softmax")
def _(contexts, logsumexps):
    return mix(logsumexps.softmax(dim=0), contexts)


@right("17.6", "own maximum")
def _(contexts, logsumexps):
    sums = torch.exp(logsumexps - logsumexps.max(dim=0, keepdim=True).values)
    return mix(sums / sums.sum(dim=0, keepdim=True), contexts)


@right("17.6", "divided at the end")
def _(contexts, logsumexps):
    sums = torch.exp(logsumexps - logsumexps.amax(0))
    return mix(sums, contexts) / sums.sum(0).unsqueeze(-1)


@right("17.6", "einsum")
def _(contexts, logsumexps):
    return torch.einsum("pq,pqd->qd", torch.softmax(logsumexps, 0), contexts)


@right("17.6", "log_softmax")
def _(contexts, logsumexps):
    return einsum(logsumexps.log_softmax(dim=0).exp(), contexts, "part query, part query channel -> query channel")


@right("17.6", "one part after another")
def _(contexts, logsumexps):
    total, context = logsumexps[0], contexts[0]
    for new, lse in zip(contexts[1:], logsumexps[1:], strict=True):
        share = torch.sigmoid(lse - total).unsqueeze(-1)
        context = context * (1 - share) + new * share
        total = torch.logaddexp(total, lse)
    return context


# 17.7 -----------------------------------------------------------------------------------------------------------------

PATTERN = "head (row query) (column key) -> head row column"


def reduced(pattern, how="sum"):
    return lambda weights, size: reduce(weights, pattern, how, query=size, key=size)


wrong("17.7", "mean", "sum", "mean", "average")(reduced(PATTERN, "mean"))
wrong("17.7", "max", "sum", "largest")(reduced(PATTERN, "max"))
wrong("17.7", "query row", "quer", "order")(reduced("head (query row) (column key) -> head row column"))
wrong("17.7", "key column", "key", "order")(reduced("head (row query) (key column) -> head row column"))
wrong("17.7", "both the wrong way round", "over the text", "order")(
    reduced("head (query row) (key column) -> head row column")
)
wrong("17.7", "column first", "exchanged", "row", "shape")(reduced("head (row query) (column key) -> head column row"))
wrong("17.7", "size is the number of blocks", "size", "shape")(
    lambda weights, size: (
        reduce(weights, PATTERN, "sum", row=size, column=size)
        if not any(n % size for n in weights.shape[1:])
        else weights
    )
)
wrong("17.7", "heads lost", "head", "shape")(reduced("head (row query) (column key) -> row column"))
wrong("17.7", "keys alone", "shape", "query", "quer")(
    lambda weights, size: reduce(weights, "head query (column key) -> head query column", "sum", key=size)
)
wrong("17.7", "queries alone", "shape", "key")(
    lambda weights, size: reduce(weights, "head (row query) key -> head row key", "sum", query=size)
)
wrong("17.7", "shares", "divided", "sum", "mass")(
    lambda weights, size: (lambda found: found / found.sum(-1, keepdim=True))(reduced(PATTERN)(weights, size))
)
wrong("17.7", "not summed", "shape", "axes")(
    lambda weights, size: rearrange(
        weights, "head (row query) (column key) -> head row column (query key)", query=size, key=size
    )
)
wrong("17.7", "divided by size", "factor", "small", "sum", "times")(
    lambda weights, size: reduced(PATTERN)(weights, size) / size
)

right("17.7", "reduce")(reduced(PATTERN))
right("17.7", "short names")(lambda w, size: reduce(w, "h (r q) (c k) -> h r c", "sum", q=size, k=size))
right("17.7", "rearrange and sum")(lambda w, size: rearrange(w, "h (r q) (c k) -> h r c (q k)", q=size, k=size).sum(-1))
right("17.7", "pooling")(lambda w, size: torch.nn.functional.avg_pool2d(w, size) * size**2)
right("17.7", "two reductions")(
    lambda w, size: reduce(reduce(w, "h q (c k) -> h q c", "sum", k=size), "h (r q) c -> h r c", "sum", q=size)
)


@right("17.7", "loops")
def _(weights, size):
    rows, columns = weights.shape[1] // size, weights.shape[2] // size
    out = torch.empty(len(weights), rows, columns)
    for row in range(rows):
        for column in range(columns):
            tile = weights[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
            out[:, row, column] = tile.sum(dim=(1, 2))
    return out


# 17.8 -----------------------------------------------------------------------------------------------------------------


def mask(rule):
    return lambda queries, keys, window, sinks: rule(queries[:, None], keys[None, :], window, sinks)


MASKS = {
    "window alone": (lambda q, k, w, s: (k <= q) & (k > q - w), ("sinks",)),
    "no window": (lambda q, k, w, s: (k <= q) | (k < s) & (k <= q), ("window", "earlier")),
    "window too long": (lambda q, k, w, s: (k <= q) & ((q - k <= w) | (k < s)), ("too many",)),
    "sinks too many": (lambda q, k, w, s: (k <= q) & ((q - k < w) | (k <= s)), ("sink",)),
    "sinks of the future": (lambda q, k, w, s: ((k <= q) & (q - k < w)) | (k < s), ("later", "sink", "before")),
    "future": (lambda q, k, w, s: (q - k < w) | (k < s), ("after", "negative")),
    "both sides": (lambda q, k, w, s: ((q - k).abs() < w) | (k < s), ("both", "after")),
    "and": (lambda q, k, w, s: (k <= q) & (q - k < w) & (k < s), ("one of the two", "enough")),
    "not itself": (lambda q, k, w, s: (k < q) & ((q - k < w) | (k < s)), ("own", "itself")),
    "inverted": (lambda q, k, w, s: ~((k <= q) & ((q - k < w) | (k < s))), ("true", "exchanged")),
    "sinks alone": (lambda q, k, w, s: (k <= q) & (k < s), ("window",)),
    "window too short": (lambda q, k, w, s: (k <= q) & ((q - k < w - 1) | (k < s)), ("too few",)),
    "floats": (lambda q, k, w, s: ((k <= q) & ((q - k < w) | (k < s))).float(), ("type", "bool")),
    "transposed": (lambda q, k, w, s: ((k <= q) & ((q - k < w) | (k < s))).T, ("shape", "exchanged")),
}
for says, (rule, about) in MASKS.items():
    wrong("17.8", says, *about)(mask(rule))

right("17.8", "comparisons")(mask(lambda q, k, w, s: (k <= q) & ((q - k < w) | (k < s))))
right("17.8", "first the window")(mask(lambda q, k, w, s: ((k > q - w) | (k < s)) & (q >= k)))
right("17.8", "what is hidden")(mask(lambda q, k, w, s: ~((k > q) | ((k <= q - w) & (k >= s)))))
right("17.8", "logical functions")(
    mask(lambda q, k, w, s: torch.logical_and(k <= q, torch.logical_or(q - k < w, k < s)))
)
right("17.8", "einops")(
    lambda queries, keys, window, sinks: (
        (rearrange(queries, "q -> q 1") >= keys) & ((rearrange(queries, "q -> q 1") - window < keys) | (keys < sinks))
    )
)


@right("17.8", "row by row")
def _(queries, keys, window, sinks):
    rows = [(keys <= query) & ((query - keys < window) | (keys < sinks)) for query in queries]
    return torch.stack(rows)
