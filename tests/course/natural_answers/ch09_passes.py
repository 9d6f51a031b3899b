"""Natural answers to 09.5, 09.6 and 09.8: where turns end, bytes and seconds of a token, accepted guesses."""

from itertools import takewhile

import numpy as np
import torch

from tests.course.natural_answers.collect import Collection

collection = Collection("09.5", "09.6", "09.8")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 09.5 lengths ---------------------------------------------------------------------------------------------------------


def stops(ids, stop_ids):
    return torch.isin(ids, torch.tensor(stop_ids))


@wrong("09.5", "the last stop id", "first", "last")
def _(ids, stop_ids):
    places = torch.where(stops(ids, stop_ids), torch.arange(ids.shape[1]), -1).amax(dim=1)
    return torch.where(places < 0, ids.shape[1], places)


@wrong("09.5", "all that are no stop ids", "first", "behind", "after", "before", "count")
def _(ids, stop_ids):
    return (~stops(ids, stop_ids)).sum(dim=1)


@wrong("09.5", "with the stop id", "before", "itself", "one", "too many", "not count", "large")
def _(ids, stop_ids):
    places = torch.where(stops(ids, stop_ids), torch.arange(ids.shape[1]), ids.shape[1]).amin(dim=1)
    return (places + 1).clamp(max=ids.shape[1])


@wrong("09.5", "argmax alone", "none", "without", "no stop", "all its", "argmax")
def _(ids, stop_ids):
    return stops(ids, stop_ids).int().argmax(dim=1)


@wrong("09.5", "the first kind of stop id only", "stop_ids", "all", "both", "several", "any", "each", "one of")
def _(ids, stop_ids):
    stop = ids == stop_ids[0]
    return torch.where(stop.any(dim=1), stop.int().argmax(dim=1), ids.shape[1])


@wrong("09.5", "stop id by stop id, the last one wins", "first", "any", "smallest", "several", "last", "earliest")
def _(ids, stop_ids):
    result = torch.full((len(ids),), ids.shape[1])
    for each in stop_ids:
        stop = ids == each
        result = torch.where(stop.any(dim=1), stop.int().argmax(dim=1), result)
    return result


@wrong("09.5", "-1 without a stop id", "none", "without", "no stop", "all its")
def _(ids, stop_ids):
    stop = stops(ids, stop_ids)
    return torch.where(stop.any(dim=1), stop.int().argmax(dim=1), -1)


@wrong("09.5", "one number for the batch", "row", "each", "batch", "shape")
def _(ids, stop_ids):
    stop = stops(ids, stop_ids).any(dim=0)
    return stop.int().argmax() if stop.any() else torch.tensor(ids.shape[1])


@wrong("09.5", "the shortest row for all", "row", "each", "own", "shape")
def _(ids, stop_ids):
    stop = stops(ids, stop_ids).any(dim=0)
    return torch.full((len(ids),), int(stop.int().argmax()) if stop.any() else ids.shape[1])


@wrong("09.5", "how many stop ids", "before", "number of", "count", "stop ids", "tokens")
def _(ids, stop_ids):
    return stops(ids, stop_ids).sum(dim=1)


@wrong("09.5", "up to the second stop id", "first", "second", "itself", "one", "before")
def _(ids, stop_ids):
    return (stops(ids, stop_ids).cumsum(dim=1) <= 1).sum(dim=1)


@wrong("09.5", "a mask", "shape", "bool", "number", "dtype")
def _(ids, stop_ids):
    return stops(ids, stop_ids).cumsum(dim=1) == 0


@wrong("09.5", "the texts themselves", "tensor", "type", "number", "list", "shape")
def _(ids, stop_ids):
    return [list(takewhile(lambda token: token not in stop_ids, row)) for row in ids.tolist()]


@wrong("09.5", "the last place without a stop id", "none", "without", "no stop", "all its", "one")
def _(ids, stop_ids):
    places = torch.where(stops(ids, stop_ids), torch.arange(ids.shape[1]), ids.shape[1] - 1)
    return places.amin(dim=1)


@right("09.5", "a product that stops")
def _(ids, stop_ids):
    going = torch.ones_like(ids)
    for each in stop_ids:
        going *= ids != each
    return going.cumprod(dim=1).sum(dim=1)


@right("09.5", "a stop id behind every row")
def _(ids, stop_ids):
    stop = torch.cat([stops(ids, stop_ids), torch.ones(len(ids), 1, dtype=torch.bool)], dim=1)
    return stop.int().argmax(dim=1)


@right("09.5", "any and argmax")
def _(ids, stop_ids):
    stop = stops(ids, stop_ids)
    return torch.where(stop.any(1), stop.int().argmax(1), ids.shape[1])


@right("09.5", "row by row")
def _(ids, stop_ids):
    found = []
    for row in ids.tolist():
        places = [place for place, token in enumerate(row) if token in stop_ids]
        found.append(places[0] if places else len(row))
    return torch.tensor(found)


@right("09.5", "none seen so far")
def _(ids, stop_ids):
    return (stops(ids, stop_ids).cumsum(dim=1) == 0).sum(dim=1)


# 09.6 next_token ------------------------------------------------------------------------------------------------------


def numbers(layers, heads, head_dim, cached):
    return 2 * layers * heads * head_dim * cached


wrong("09.6", "keys alone", "values", "two", "both", "keys", "twice")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        2 * layers * heads * head_dim * cached,
        (2 * active + 2 * layers * heads * head_dim * cached) / bandwidth,
    )
)
wrong("09.6", "float32", "byte", "two", "bfloat16", "four", "2")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        4 * numbers(layers, heads, head_dim, cached),
        4 * (active + numbers(layers, heads, head_dim, cached)) / bandwidth,
    )
)
wrong("09.6", "numbers, not bytes", "byte", "two", "bfloat16", "2")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        numbers(layers, heads, head_dim, cached),
        (active + numbers(layers, heads, head_dim, cached)) / bandwidth,
    )
)
wrong("09.6", "the time of the weights alone", "cache", "read", "both", "seconds", "weights")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        2 * numbers(layers, heads, head_dim, cached),
        2 * active / bandwidth,
    )
)
wrong("09.6", "the time of the cache alone", "weights", "active", "parameter", "read")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        2 * numbers(layers, heads, head_dim, cached),
        2 * numbers(layers, heads, head_dim, cached) / bandwidth,
    )
)
wrong("09.6", "parameters taken for bytes", "byte", "two", "parameter", "2", "active", "bfloat16")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        2 * numbers(layers, heads, head_dim, cached),
        (active + 2 * numbers(layers, heads, head_dim, cached)) / bandwidth,
    )
)
wrong("09.6", "one layer", "layer")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        2 * numbers(1, heads, head_dim, cached),
        (2 * active + 2 * numbers(1, heads, head_dim, cached)) / bandwidth,
    )
)
wrong("09.6", "one head", "head")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        2 * numbers(layers, 1, head_dim, cached),
        (2 * active + 2 * numbers(layers, 1, head_dim, cached)) / bandwidth,
    )
)
wrong("09.6", "seconds first", "order", "first", "exchange", "swap", "bytes", "second")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        (2 * active + 2 * numbers(layers, heads, head_dim, cached)) / bandwidth,
        2 * numbers(layers, heads, head_dim, cached),
    )
)
wrong("09.6", "milliseconds", "second", "1000", "1,000", "milli", "unit")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        2 * numbers(layers, heads, head_dim, cached),
        1000 * (2 * active + 2 * numbers(layers, heads, head_dim, cached)) / bandwidth,
    )
)
wrong("09.6", "gigabytes", "byte", "unit", "billion", "1e9", "giga")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        2 * numbers(layers, heads, head_dim, cached) / 1e9,
        (2 * active + 2 * numbers(layers, heads, head_dim, cached)) / bandwidth,
    )
)
wrong("09.6", "tokens a second", "second", "inverse", "one over", "divide", "rate", "bandwidth")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        2 * numbers(layers, heads, head_dim, cached),
        bandwidth / (2 * active + 2 * numbers(layers, heads, head_dim, cached)),
    )
)
wrong("09.6", "the weights once for each token", "once", "weights", "cached", "active", "times", "parameter")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        2 * numbers(layers, heads, head_dim, cached),
        (2 * active * cached + 2 * numbers(layers, heads, head_dim, cached)) / bandwidth,
    )
)
wrong("09.6", "one token's cache", "cached", "token", "position", "times", "all")(
    lambda layers, heads, head_dim, active, cached, bandwidth: (
        2 * numbers(layers, heads, head_dim, 1),
        (2 * active + 2 * numbers(layers, heads, head_dim, 1)) / bandwidth,
    )
)


@right("09.6", "step by step")
def _(layers, heads, head_dim, active, cached, bandwidth):
    each = 2 * head_dim * heads  # a key and a value
    cache = each * layers * cached * 2
    return cache, cache / bandwidth + active * 2 / bandwidth


@right("09.6", "bytes that torch names")
def _(layers, heads, head_dim, active, cached, bandwidth):
    size = torch.bfloat16.itemsize
    cache = sum(2 * heads * head_dim * cached * size for _ in range(layers))
    return cache, (size * active + cache) / bandwidth


@right("09.6", "tensors without storage")
def _(layers, heads, head_dim, active, cached, bandwidth):
    keys = torch.empty(layers, heads, cached, head_dim, dtype=torch.bfloat16, device="meta")
    cache = 2 * keys.numel() * keys.element_size()
    return cache, (cache + 2 * active) / bandwidth


@right("09.6", "floats, in a list")
def _(layers, heads, head_dim, active, cached, bandwidth):
    cache = float(np.prod([2.0, 2.0, layers, heads, head_dim, cached]))
    return [cache, (2 * active + cache) * bandwidth**-1]


# 09.8 accept ----------------------------------------------------------------------------------------------------------


def agreeing(drafts, best):
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(drafts, best, strict=False)))


@wrong("09.8", "the accepted guesses alone", "own", "model", "one more", "next", "at least one")
def _(drafts, best):
    return drafts[: agreeing(drafts, best)]


@wrong("09.8", "all that the model said", "first", "differ", "wrong", "after", "behind", "reject")
def _(drafts, best):
    return list(best)


@wrong("09.8", "all guesses", "differ", "reject", "accept", "wrong", "model", "best")
def _(drafts, best):
    return [*drafts, best[-1]]


@wrong("09.8", "every place that agrees", "first", "stop", "after", "differ", "later", "behind")
def _(drafts, best):
    return [draft for draft, own in zip(drafts, best, strict=False) if draft == own] + best[-1:]


@wrong("09.8", "compared one place too late", "best[0]", "place", "compare", "next", "one", "shift", "last token")
def _(drafts, best):
    count = agreeing(drafts, best[1:])
    return [*drafts[:count], best[count]]


@wrong("09.8", "with the rejected guess", "differ", "reject", "wrong", "model", "own", "instead", "guess", "draft")
def _(drafts, best):
    count = agreeing(drafts, best)
    return drafts[: count + 1] if count < len(drafts) else list(best)


@wrong("09.8", "the rejected guess and the model's", "reject", "differ", "wrong", "instead", "guess", "draft")
def _(drafts, best):
    count = agreeing(drafts, best)
    return [*drafts[: count + 1], best[count]]


@wrong("09.8", "the last of best", "last", "best", "first", "differ", "place", "rejected", "behind")
def _(drafts, best):
    return [*drafts[: agreeing(drafts, best)], best[-1]]


@wrong("09.8", "no extra token when all are right", "one more", "all", "last", "extra", "free")
def _(drafts, best):
    count = agreeing(drafts, best)
    return list(best[: max(1, min(count + 1, len(drafts)))])


@wrong("09.8", "all or nothing", "part", "first", "all", "up to", "some", "right", "accept")
def _(drafts, best):
    return list(best) if drafts == best[:-1] else best[:1]


@wrong("09.8", "never more than the model's next", "accept", "guess", "draft", "agree", "one", "more", "pass")
def _(drafts, best):
    return best[:1]


@wrong("09.8", "how many", "list", "number", "ids", "type", "int")
def _(drafts, best):
    return agreeing(drafts, best) + 1


@wrong("09.8", "the token after the one that differs", "differ", "first", "place", "behind", "one", "next", "best")
def _(drafts, best):
    count = agreeing(drafts, best)
    return [*drafts[:count], best[min(count + 1, len(drafts))]]


@wrong("09.8", "the model's own only if none is right", "one more", "own", "model", "next", "always", "differ", "last")
def _(drafts, best):
    count = agreeing(drafts, best)
    return drafts[:count] or best[:1]


@right("09.8", "a loop")
def _(drafts, best):
    result = []
    for place, own in enumerate(best):
        result.append(own)
        if place == len(drafts) or drafts[place] != own:
            break
    return result


@right("09.8", "takewhile")
def _(drafts, best):
    return best[: agreeing(drafts, best) + 1]


@right("09.8", "the first that differs")
def _(drafts, best):
    differs = (place for place, draft in enumerate(drafts) if draft != best[place])
    return best[: next(differs, len(drafts)) + 1]


@right("09.8", "recursion")
def _(drafts, best):
    def accepted(drafts, best):
        if drafts and drafts[0] == best[0]:
            return [best[0], *accepted(drafts[1:], best[1:])]
        return [best[0]]

    return accepted(drafts, best)


@right("09.8", "NumPy")
def _(drafts, best):
    count = int(np.cumprod(np.array(drafts) == np.array(best[:-1])).sum())
    return [*drafts[:count], best[count]]
