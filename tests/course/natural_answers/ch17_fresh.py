"""Natural answers to 17.1 to 17.8, written from the page alone, before the checks were read."""

import math

import torch
from einops import einsum, rearrange, reduce

from tests.course.natural_answers.collect import Collection

collection = Collection(*(f"17.{number}" for number in range(1, 9)))
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 17.1 distances -------------------------------------------------------------------------------------------------------


def table(
    length,
    chunk_size,
    local_size,
    stride=None,
    near=lambda place, stride, chunk: min(place + stride, chunk),
    far=lambda place, stride, chunk: min(2 * stride - 1, chunk),
    own=lambda place, stride: place,
    key_place=lambda key, stride: key % stride,
    future=0,
):
    stride = chunk_size - local_size if stride is None else stride
    result = torch.zeros(length, length, dtype=torch.int64)
    for query in range(length):
        for key in range(length):
            if key > query:
                result[query, key] = future
                continue
            place, apart = query % stride, query // stride - key // stride
            position = (
                own(place, stride)
                if apart == 0
                else near(place, stride, chunk_size)
                if apart == 1
                else far(place, stride, chunk_size)
            )
            result[query, key] = position - key_place(key, stride)
    return result


# The size of a chunk as the stride
@wrong("17.1", "chunks of chunk_size tokens", "stride", "local")
def _(length, chunk_size, local_size):
    return table(length, chunk_size, local_size, stride=chunk_size)


@wrong("17.1", "no limit for the chunk before, from the page", "chunk_size", "most", "limit", "cap")
def _(length, chunk_size, local_size):
    return table(length, chunk_size, local_size, near=lambda place, stride, chunk: place + stride)


@wrong("17.1", "older chunks like the one before", "older", "before")
def _(length, chunk_size, local_size):
    return table(length, chunk_size, local_size, far=lambda place, stride, chunk: min(place + stride, chunk))


@wrong("17.1", "one too far for older chunks", "1", "older", "- 1")
def _(length, chunk_size, local_size):
    return table(length, chunk_size, local_size, far=lambda place, stride, chunk: min(2 * stride, chunk))


@wrong("17.1", "older chunks always at chunk_size", "older", "2 * stride", "chunk_size")
def _(length, chunk_size, local_size):
    return table(length, chunk_size, local_size, far=lambda place, stride, chunk: chunk)


@wrong("17.1", "keys at their true positions", "place", "key", "true")
def _(length, chunk_size, local_size):
    return table(length, chunk_size, local_size, key_place=lambda key, stride: key)


@wrong("17.1", "true distances", "distance", "chunk", "plain")
def _(length, chunk_size, local_size):
    places = torch.arange(length)
    return (places[:, None] - places[None]).clamp(min=0)


# The negative ones are forgotten
@wrong("17.1", "the future is not zero", "0", "after", "future", "zero")
def _(length, chunk_size, local_size):
    stride = chunk_size - local_size
    places = torch.arange(length) % stride
    number = torch.arange(length) // stride
    apart = number[:, None] - number[None]
    position = torch.where(apart == 0, places[:, None], torch.where(apart == 1, (places[:, None] + stride).clamp(
        max=chunk_size), torch.tensor(min(2 * stride - 1, chunk_size))))  # fmt: skip
    return position - places[None]


@wrong("17.1", "key and query exchanged", "query", "key", "exchanged", "transpose", "axis")
def _(length, chunk_size, local_size):
    return table(length, chunk_size, local_size).T


@wrong("17.1", "local_size as the stride", "stride", "local")
def _(length, chunk_size, local_size):
    return table(length, chunk_size, local_size, stride=local_size)


@wrong("17.1", "the limit one lower", "chunk_size", "most", "limit", "1")
def _(length, chunk_size, local_size):
    return table(
        length, chunk_size, local_size, near=lambda place, stride, chunk: min(place + stride, chunk - 1),
        far=lambda place, stride, chunk: min(2 * stride - 1, chunk - 1),
    )  # fmt: skip


@wrong("17.1", "floats, from the page", "int64", "dtype")
def _(length, chunk_size, local_size):
    return table(length, chunk_size, local_size).float()


@right("17.1", "two loops")
def _(length, chunk_size, local_size):
    return table(length, chunk_size, local_size)


@right("17.1", "where on grids")
def _(length, chunk_size, local_size):
    stride = chunk_size - local_size
    numbers = torch.arange(length)
    place, chunk = numbers % stride, numbers // stride
    apart = rearrange(chunk, "query -> query 1") - chunk
    q = rearrange(place, "query -> query 1").expand(length, length)
    position = torch.where(apart == 1, (q + stride).clamp(max=chunk_size), q)
    position = torch.where(apart > 1, min(2 * stride - 1, chunk_size), position)
    return torch.where(numbers[:, None] >= numbers, position - place, 0)


# 17.2 YaRN ------------------------------------------------------------------------------------------------------------


def yarned(
    head_dim, theta, factor, original, fast=32.0, slow=1.0, mix=None, scale=None, half=None, ramp=True, swap=False
):
    half = head_dim / 2 if half is None else half
    pair = torch.arange(head_dim // 2, dtype=torch.float32)
    plain = theta ** (-2 * pair / head_dim)

    def number(turns):
        return half * math.log(original / (turns * 2 * math.pi)) / math.log(theta)

    low, high = max(math.floor(number(fast)), 0), min(math.ceil(number(slow)), head_dim - 1)
    if swap:
        low, high = high, low
    t = ((pair - low) / max(high - low, 0.001)).clamp(0, 1) if ramp else (pair > low).float()
    mixed = (1 - t) * plain + t * plain / factor if mix is None else mix(t, plain, plain / factor)
    return mixed, 0.1 * math.log(factor) + 1 if scale is None else scale(factor)


@wrong("17.2", "all pairs slowed", "pairs", "all", "stay", "fast")
def _(head_dim, theta, factor, original):
    return yarned(head_dim, theta, factor, original, mix=lambda t, plain, slowed: slowed)


@wrong("17.2", "the ramp the wrong way round", "round", "exchanged", "fast", "slow", "ramp")
def _(head_dim, theta, factor, original):
    return yarned(head_dim, theta, factor, original, mix=lambda t, plain, slowed: t * plain + (1 - t) * slowed)


@wrong("17.2", "no ramp", "between", "ramp", "mix")
def _(head_dim, theta, factor, original):
    return yarned(head_dim, theta, factor, original, ramp=False)


@wrong("17.2", "log base 10 in the factor", "ln", "log", "factor", "cos")
def _(head_dim, theta, factor, original):
    return yarned(head_dim, theta, factor, original, scale=lambda factor: 0.1 * math.log10(factor) + 1)


@wrong("17.2", "no factor on cos and sin", "factor", "cos", "1")
def _(head_dim, theta, factor, original):
    return yarned(head_dim, theta, factor, original, scale=lambda factor: 1.0)


@wrong("17.2", "the + 1 forgotten", "1", "factor", "cos")
def _(head_dim, theta, factor, original):
    return yarned(head_dim, theta, factor, original, scale=lambda factor: 0.1 * math.log(factor))


@wrong("17.2", "times the factor instead of divided", "slowed", "divide", "factor", "faster")
def _(head_dim, theta, factor, original):
    return yarned(head_dim, theta, factor, original, mix=lambda t, plain, slowed: (1 - t) * plain + t * plain * factor)


@wrong("17.2", "half is head_dim", "half", "head_dim")
def _(head_dim, theta, factor, original):
    return yarned(head_dim, theta, factor, original, half=head_dim)


# The new length for the original one
@wrong("17.2", "turns within the new context", "original", "context", "factor")
def _(head_dim, theta, factor, original):
    return yarned(head_dim, theta, factor, original * factor)


@wrong("17.2", "periods mixed, not speeds", "mix", "period", "between", "wavelength", "speed")
def _(head_dim, theta, factor, original):
    return yarned(head_dim, theta, factor, original, mix=lambda t, plain, slowed: 1 / ((1 - t) / plain + t / slowed))


@wrong("17.2", "j for 2j", "2", "exponent", "theta", "plain")
def _(head_dim, theta, factor, original):
    speeds, scale = yarned(head_dim, theta**0.5, factor, original)
    return speeds, scale


@wrong("17.2", "32 and 1 exchanged", "32", "exchanged", "ramp", "low", "high")
def _(head_dim, theta, factor, original):
    return yarned(head_dim, theta, factor, original, fast=1.0, slow=32.0)


@right("17.2", "pair by pair")
def _(head_dim, theta, factor, original):
    half, speeds = head_dim / 2, []
    low = max(math.floor(half * math.log(original / (32 * 2 * math.pi)) / math.log(theta)), 0)
    high = min(math.ceil(half * math.log(original / (1 * 2 * math.pi)) / math.log(theta)), head_dim - 1)
    for j in range(head_dim // 2):
        plain = theta ** (-2 * j / head_dim)
        t = 0.0 if j <= low else 1.0 if j >= high else (j - low) / (high - low)
        speeds.append((1 - t) * plain + t * plain / factor)
    return torch.tensor(speeds), 0.1 * math.log(factor) + 1


# 17.3 tokens that fit -------------------------------------------------------------------------------------------------


@wrong("17.3", "query heads, from the page", "key", "kv", "query", "heads")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return max(0, (memory - weights) // (2 * layers * heads * head_dim * bytes_each))


@wrong("17.3", "keys only", "values", "2", "two")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return max(0, (memory - weights) // (layers * kv_heads * head_dim * bytes_each))


@wrong("17.3", "one layer, from the page", "layer")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return max(0, (memory - weights) // (2 * kv_heads * head_dim * bytes_each))


@wrong("17.3", "weights forgotten, from the page", "weights")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return memory // (2 * layers * kv_heads * head_dim * bytes_each)


@wrong("17.3", "negative, from the page", "0", "negative", "fit")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return (memory - weights) // (2 * layers * kv_heads * head_dim * bytes_each)


@wrong("17.3", "rounded up, from the page", "round", "whole", "fit")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return max(0, math.ceil((memory - weights) / (2 * layers * kv_heads * head_dim * bytes_each)))


@wrong("17.3", "a fraction of a token", "int", "whole", "float", "round")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return max(0, (memory - weights) / (2 * layers * kv_heads * head_dim * bytes_each))


@wrong("17.3", "always two bytes", "bytes_each", "bytes", "two")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return max(0, (memory - weights) // (2 * layers * kv_heads * head_dim * 2))


@wrong("17.3", "head_dim forgotten", "head_dim")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return max(0, (memory - weights) // (2 * layers * kv_heads * bytes_each))


@wrong("17.3", "queries cached as well", "quer", "heads", "key")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return max(0, (memory - weights) // (layers * (heads + 2 * kv_heads) * head_dim * bytes_each))


@right("17.3", "with an if")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    if weights >= memory:
        return 0
    return int((memory - weights) // (layers * kv_heads * head_dim * bytes_each * 2))


# 17.4 the work of a prompt --------------------------------------------------------------------------------------------


def flops(active, layers, heads, head_dim, tokens, each=2, pairs=None, per_pair=4):
    pairs = tokens * (tokens + 1) // 2 if pairs is None else pairs
    return each * active * tokens + per_pair * layers * heads * head_dim * pairs


@wrong("17.4", "all pairs, from the page", "half", "pair", "before", "causal")
def _(active, layers, heads, head_dim, tokens):
    return flops(active, layers, heads, head_dim, tokens, pairs=tokens * tokens)


@wrong("17.4", "without itself", "itself", "pair")
def _(active, layers, heads, head_dim, tokens):
    return flops(active, layers, heads, head_dim, tokens, pairs=tokens * (tokens - 1) // 2)


@wrong("17.4", "half of the square", "itself", "half", "pair")
def _(active, layers, heads, head_dim, tokens):
    return flops(active, layers, heads, head_dim, tokens, pairs=tokens * tokens // 2)


@wrong("17.4", "one operation per weight", "two", "multiplication", "addition", "2")
def _(active, layers, heads, head_dim, tokens):
    return flops(active, layers, heads, head_dim, tokens, each=1)


@wrong("17.4", "only the scores", "value", "mixture", "score")
def _(active, layers, heads, head_dim, tokens):
    return flops(active, layers, heads, head_dim, tokens, per_pair=2)


@wrong("17.4", "a multiplication only in attention", "addition", "two", "attention", "value", "score")
def _(active, layers, heads, head_dim, tokens):
    return flops(active, layers, heads, head_dim, tokens, each=1, per_pair=2)


@wrong("17.4", "one layer, from the page", "layer")
def _(active, layers, heads, head_dim, tokens):
    return flops(active, 1, heads, head_dim, tokens)


@wrong("17.4", "one head, from the page", "head")
def _(active, layers, heads, head_dim, tokens):
    return flops(active, layers, 1, head_dim, tokens)


@wrong("17.4", "no attention, from the page", "attention", "pair")
def _(active, layers, heads, head_dim, tokens):
    return 2 * active * tokens


@wrong("17.4", "weights times layers", "layer", "weight", "active")
def _(active, layers, heads, head_dim, tokens):
    return layers * flops(active, 1, heads, head_dim, tokens)


@wrong("17.4", "one token", "token", "each")
def _(active, layers, heads, head_dim, tokens):
    return 2 * active + 4 * layers * heads * head_dim * tokens


@right("17.4", "a sum over the tokens' lengths")
def _(active, layers, heads, head_dim, tokens):
    pairs = (tokens * tokens + tokens) // 2
    return 2 * tokens * active + layers * heads * pairs * (2 * head_dim + 2 * head_dim)


# 17.5 predictions -----------------------------------------------------------------------------------------------------

NAMES = (
    "plain RoPE, 100 tokens before the fact, 16 between: found",
    "plain RoPE, 500 tokens before the fact, 16 between: found",
    "dual chunk, 500 tokens before the fact, 16 between: found",
    "a window of 128, 500 tokens before the fact, 16 between: found",
    "dual chunk, 500 tokens before the fact, 48 between: found",
    "a window of 128, 500 tokens before the fact, 48 between: found",
)


def guess(*values):
    return dict(zip(NAMES, values, strict=True))


wrong("17.5", "dual chunk finds everything", "learned", "dual chunk", "48", "far", "between")(
    guess(True, False, True, False, True, False)
)
wrong("17.5", "long texts lose everything", "distance", "500", "before", "window", "dual")(
    guess(True, False, False, False, False, False)
)
wrong("17.5", "plain RoPE does not mind", "plain", "rope", "trained", "distance")(
    guess(True, True, True, True, False, False)
)
wrong("17.5", "a window sees 48 tokens", "48", "learned", "window", "far")(guess(True, False, True, True, True, True))
wrong("17.5", "a window forgets facts", "window", "128")(guess(True, False, True, False, False, False))
wrong("17.5", "nothing at all", "found", "trained", "100", "short")(guess(False, False, False, False, False, False))

# 17.6 merging ---------------------------------------------------------------------------------------------------------


@wrong("17.6", "the bug as it is", "exp", "inf", "nan", "large")
def _(contexts, logsumexps):
    sums = logsumexps.exp()
    return einsum(sums / sums.sum(dim=0), contexts, "part query, part query head_dim -> query head_dim")


@wrong("17.6", "a maximum for all queries", "each", "query", "maximum", "largest")
def _(contexts, logsumexps):
    sums = (logsumexps - logsumexps.max()).exp()
    return einsum(sums / sums.sum(dim=0), contexts, "part query, part query head_dim -> query head_dim")


@wrong("17.6", "softmax over the queries", "query", "quer", "part", "over")
def _(contexts, logsumexps):
    return einsum(logsumexps.softmax(dim=1), contexts, "part query, part query head_dim -> query head_dim")


@wrong("17.6", "the plain mean", "mean", "weight", "same")
def _(contexts, logsumexps):
    return contexts.mean(dim=0)


@wrong("17.6", "logsumexps as weights", "exp", "log", "softmax")
def _(contexts, logsumexps):
    weights = logsumexps / logsumexps.sum(dim=0)
    return einsum(weights, contexts, "part query, part query head_dim -> query head_dim")


@wrong("17.6", "not normalised", "sum", "divided", "normal", "one")
def _(contexts, logsumexps):
    sums = (logsumexps - logsumexps.max(dim=0).values).exp()
    return einsum(sums, contexts, "part query, part query head_dim -> query head_dim")


@wrong("17.6", "nan replaced", "nan", "inf", "exp", "large")
def _(contexts, logsumexps):
    sums = logsumexps.exp()
    weights = torch.nan_to_num(sums / sums.sum(dim=0))
    return einsum(weights, contexts, "part query, part query head_dim -> query head_dim")


@wrong("17.6", "clamped", "clamp", "large", "exp", "inf")
def _(contexts, logsumexps):
    sums = logsumexps.clamp(max=80).exp()
    return einsum(sums / sums.sum(dim=0), contexts, "part query, part query head_dim -> query head_dim")


@wrong("17.6", "the part with the largest", "largest", "all", "part", "only")
def _(contexts, logsumexps):
    best = logsumexps.argmax(dim=0)
    return contexts[best, torch.arange(contexts.shape[1])]


@wrong("17.6", "the parts are not summed", "shape", "sum")
def _(contexts, logsumexps):
    return rearrange(logsumexps.softmax(0), "part query -> part query 1") * contexts


@right("17.6", "softmax over parts")
def _(contexts, logsumexps):
    return (logsumexps.softmax(dim=0)[..., None] * contexts).sum(dim=0)


@right("17.6", "one part after another, from the page")
def _(contexts, logsumexps):
    context, total = contexts[0], logsumexps[0]
    for more, other in zip(contexts[1:], logsumexps[1:], strict=True):
        both = torch.logaddexp(total, other)
        context = context * (total - both).exp()[:, None] + more * (other - both).exp()[:, None]
        total = both
    return context


# 17.7 blocks ----------------------------------------------------------------------------------------------------------


@wrong("17.7", "mean of a block", "mean", "sum")
def _(weights, size):
    return reduce(weights, "head (row a) (column b) -> head row column", "mean", a=size, b=size)


@wrong("17.7", "interleaved", "neighbour", "far apart", "block", "order")
def _(weights, size):
    return reduce(weights, "head (a row) (b column) -> head row column", "sum", a=size, b=size)


@wrong("17.7", "size as the number of rows", "size", "number", "shape")
def _(weights, size):
    if weights.shape[1] % size or weights.shape[2] % size:
        return None
    return reduce(weights, "head (row a) (column b) -> head row column", "sum", row=size, column=size)


@wrong("17.7", "rows and columns exchanged", "row", "column", "exchanged", "transpose", "shape")
def _(weights, size):
    return reduce(weights, "head (row a) (column b) -> head column row", "sum", a=size, b=size)


@wrong("17.7", "heads summed, too", "head", "shape")
def _(weights, size):
    return reduce(weights, "head (row a) (column b) -> row column", "sum", a=size, b=size)


@wrong("17.7", "largest weight", "sum", "max", "largest")
def _(weights, size):
    return reduce(weights, "head (row a) (column b) -> head row column", "max", a=size, b=size)


@wrong("17.7", "only the keys cut", "quer", "shape", "row")
def _(weights, size):
    return reduce(weights, "head query (column b) -> head query column", "sum", b=size)


@right("17.7", "reduce, from the page")
def _(weights, size):
    return reduce(weights, "head (row a) (column b) -> head row column", "sum", a=size, b=size)


@right("17.7", "rearrange and sum, from the page")
def _(weights, size):
    return rearrange(weights, "head (row a) (column b) -> head row column (a b)", a=size, b=size).sum(-1)


# 17.8 windows and sinks -----------------------------------------------------------------------------------------------


def mask(queries, keys, window, sinks, near=None, first=None, join=torch.logical_or, causal=True):
    q, k = queries[:, None], keys[None]
    seen = q - k < window if near is None else near(q, k, window)
    sink = (k < sinks).expand_as(seen) if first is None else first(q, k, sinks).expand_as(seen)
    return join(seen, sink) & (k <= q) if causal else join(seen, sink)


@wrong("17.8", "the window one too long", "window", "own", "one")
def _(queries, keys, window, sinks):
    return mask(queries, keys, window, sinks, lambda q, k, window: q - k <= window)


@wrong("17.8", "the future is seen", "future", "after", "later", "causal")
def _(queries, keys, window, sinks):
    return mask(queries, keys, window, sinks, causal=False)


@wrong("17.8", "sinks see the future", "sink", "future", "after", "later")
def _(queries, keys, window, sinks):
    q, k = queries[:, None], keys[None]
    return ((k <= q) & (q - k < window)) | (k < sinks)


@wrong("17.8", "no sinks", "sink")
def _(queries, keys, window, sinks):
    return mask(queries, keys, window, 0)


@wrong("17.8", "one sink too many", "sink", "one")
def _(queries, keys, window, sinks):
    return mask(queries, keys, window, sinks + 1)


@wrong("17.8", "both conditions at once", "or", "and", "alternative", "either")
def _(queries, keys, window, sinks):
    return mask(queries, keys, window, sinks, join=torch.logical_and)


# Indices of the tensor for positions
@wrong("17.8", "indices for positions", "position", "index", "place")
def _(queries, keys, window, sinks):
    return mask(torch.arange(len(queries)), torch.arange(len(keys)), window, sinks)


@wrong("17.8", "turned round", "true", "round", "hidden", "exchanged")
def _(queries, keys, window, sinks):
    return ~mask(queries, keys, window, sinks)


@wrong("17.8", "query and key exchanged", "shape", "query", "transpose", "exchanged")
def _(queries, keys, window, sinks):
    return mask(queries, keys, window, sinks).T


@wrong("17.8", "only the sinks that are queries", "sink", "quer", "key")
def _(queries, keys, window, sinks):
    return mask(queries, keys, window, sinks, first=lambda q, k, sinks: q < sinks)


@wrong("17.8", "zeros and minus infinity", "bool", "dtype")
def _(queries, keys, window, sinks):
    seen = mask(queries, keys, window, sinks)
    return torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)


@right("17.8", "pair by pair")
def _(queries, keys, window, sinks):
    rows = [[k <= q and (q - k < window or k < sinks) for k in keys.tolist()] for q in queries.tolist()]
    return torch.tensor(rows, dtype=torch.bool).reshape(len(queries), len(keys))


@right("17.8", "with rearrange")
def _(queries, keys, window, sinks):
    distance = rearrange(queries, "query -> query 1") - rearrange(keys, "key -> 1 key")
    return (distance >= 0) & ((distance < window) | (keys < sinks))
