"""Natural answers to 15.2, 15.4 and 15.5: rows compared, verdicts on another model, guesses against verdicts."""

from types import MappingProxyType

import numpy as np
import torch
from einops import einsum, rearrange, reduce

from minimoe.course.exercises.ch15_verdicts import SENTENCES
from tests.course.natural_answers.collect import Collection

collection = Collection("15.2", "15.4", "15.5")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 15.2 rows -----------------------------------------------------------------------------------------------------------


def pairs(ours, theirs):
    return [(ours.get(name), theirs.get(name)) for name in {**ours, **theirs}]


@wrong("15.2", "None is compared", "none", "missing", "error")
def _(ours, theirs):
    higher = sum(ours[name] > theirs[name] for name in ours)
    equal = sum(ours[name] == theirs[name] for name in ours)
    return higher, equal, len(ours) - higher - equal, 0


@wrong("15.2", "missing taken for 0", "missing", "0", "zero")
def _(ours, theirs):
    values = [(one or 0, other or 0) for one, other in pairs(ours, theirs)]
    higher = sum(one > other for one, other in values)
    lower = sum(one < other for one, other in values)
    return higher, len(values) - higher - lower, lower, 0


@wrong("15.2", "a score of 0 taken for missing", "0", "zero", "none")
def _(ours, theirs):
    values = [(one, other) for one, other in pairs(ours, theirs) if one and other]
    higher = sum(one > other for one, other in values)
    lower = sum(one < other for one, other in values)
    return higher, len(values) - higher - lower, lower, len(pairs(ours, theirs)) - len(values)


@wrong("15.2", "equal counted as higher", "equal", "higher")
def _(ours, theirs):
    values = [(a, b) for a, b in pairs(ours, theirs) if a is not None and b is not None]
    higher = sum(one >= other for one, other in values)
    return higher, 0, len(values) - higher, len(pairs(ours, theirs)) - len(values)


@wrong("15.2", "equal counted as lower", "equal", "lower")
def _(ours, theirs):
    values = [(a, b) for a, b in pairs(ours, theirs) if a is not None and b is not None]
    higher = sum(one > other for one, other in values)
    return higher, 0, len(values) - higher, len(pairs(ours, theirs)) - len(values)


@wrong("15.2", "rows of theirs alone are left out", "theirs", "only", "both", "missing")
def _(ours, theirs):
    higher = equal = lower = missing = 0
    for name, one in ours.items():
        other = theirs.get(name)
        if one is None or other is None:
            missing += 1
        else:
            higher, equal, lower = higher + (one > other), equal + (one == other), lower + (one < other)
    return higher, equal, lower, missing


@wrong("15.2", "rows of one table alone are left out", "one of the tables", "missing", "only")
def _(ours, theirs):
    values = [(ours[name], theirs[name]) for name in ours if name in theirs]
    known = [(a, b) for a, b in values if a is not None and b is not None]
    higher, lower = sum(a > b for a, b in known), sum(a < b for a, b in known)
    return higher, len(known) - higher - lower, lower, len(values) - len(known)


@wrong("15.2", "missing counted as lower", "missing", "lower")
def _(ours, theirs):
    known = [(a, b) for a, b in pairs(ours, theirs) if a is not None and b is not None]
    higher, equal = sum(a > b for a, b in known), sum(a == b for a, b in known)
    return higher, equal, len(pairs(ours, theirs)) - higher - equal, 0


@wrong("15.2", "higher and lower exchanged", "exchanged", "places", "other way", "lower")
def _(ours, theirs):
    known = [(a, b) for a, b in pairs(ours, theirs) if a is not None and b is not None]
    higher, lower = sum(a > b for a, b in known), sum(a < b for a, b in known)
    return lower, len(known) - higher - lower, higher, len(pairs(ours, theirs)) - len(known)


@wrong("15.2", "rounded to whole points", "round", "equal", "whole")
def _(ours, theirs):
    known = [(round(a), round(b)) for a, b in pairs(ours, theirs) if a is not None and b is not None]
    higher, lower = sum(a > b for a, b in known), sum(a < b for a, b in known)
    return higher, len(known) - higher - lower, lower, len(pairs(ours, theirs)) - len(known)


@wrong("15.2", "a margin of one point", "margin", "equal", "point")
def _(ours, theirs):
    known = [(a, b) for a, b in pairs(ours, theirs) if a is not None and b is not None]
    higher, lower = sum(a - b > 1 for a, b in known), sum(b - a > 1 for a, b in known)
    return higher, len(known) - higher - lower, lower, len(pairs(ours, theirs)) - len(known)


@wrong("15.2", "without the missing ones", "four", "3 values", "values", "length")
def _(ours, theirs):
    known = [(a, b) for a, b in pairs(ours, theirs) if a is not None and b is not None]
    return sum(a > b for a, b in known), sum(a == b for a, b in known), sum(a < b for a, b in known)


@wrong("15.2", "shares", "share", "number", "rows", "counts", "times")
def _(ours, theirs):
    values = pairs(ours, theirs)
    known = [(a, b) for a, b in values if a is not None and b is not None]
    counts = [sum(a > b for a, b in known), sum(a == b for a, b in known), sum(a < b for a, b in known)]
    return tuple(count / max(1, len(values)) for count in [*counts, len(values) - len(known)])


@right("15.2", "a loop")
def _(ours, theirs):
    higher = equal = lower = missing = 0
    for name in ours.keys() | theirs.keys():
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None:
            missing += 1
        elif one > other:
            higher += 1
        elif one < other:
            lower += 1
        else:
            equal += 1
    return higher, equal, lower, missing


@right("15.2", "sums")
def _(ours, theirs):
    known = [(a, b) for a, b in pairs(ours, theirs) if a is not None and b is not None]
    missing = len(pairs(ours, theirs)) - len(known)
    return sum(a > b for a, b in known), sum(a == b for a, b in known), sum(a < b for a, b in known), missing


@right("15.2", "a list")
def _(ours, theirs):
    counts = [0, 0, 0, 0]
    for name in sorted(set(ours) | set(theirs)):
        a, b = ours.get(name), theirs.get(name)
        counts[3 if a is None or b is None else 0 if a > b else 1 if a == b else 2] += 1
    return counts


@right("15.2", "signs of NumPy")
def _(ours, theirs):
    names = set(ours) | set(theirs)
    a = np.array([np.nan if ours.get(n) is None else ours[n] for n in names], dtype=float)
    b = np.array([np.nan if theirs.get(n) is None else theirs[n] for n in names], dtype=float)
    return int((a > b).sum()), int((a == b).sum()), int((a < b).sum()), int((np.isnan(a) | np.isnan(b)).sum())


@right("15.2", "sets of names")
def _(ours, theirs):
    a = {name for name, score in ours.items() if score is not None}
    b = {name for name, score in theirs.items() if score is not None}
    both = a & b
    higher = {name for name in both if ours[name] > theirs[name]}
    lower = {name for name in both if ours[name] < theirs[name]}
    return len(higher), len(both - higher - lower), len(lower), len((set(ours) | set(theirs)) - both)


@right("15.2", "tensors of counts")
def _(ours, theirs):
    known = [(a, b) for a, b in pairs(ours, theirs) if a is not None and b is not None]
    signs = [int(a > b) - int(a < b) for a, b in known]
    return signs.count(1), signs.count(0), signs.count(-1), len(pairs(ours, theirs)) - len(known)


# 15.4 verdicts -------------------------------------------------------------------------------------------------------

VERDICTS = dict(SENTENCES)
NINTH, CARD, EXPERTS, CONTEXT, CACHE, GOOD, NEWEST = VERDICTS


def but(**changes):
    """The right answers with some exchanged, by the names above."""
    names = {"ninth": NINTH, "card": CARD, "experts": EXPERTS, "context": CONTEXT, "cache": CACHE, "good": GOOD}
    return VERDICTS | {{**names, "newest": NEWEST}[name]: value for name, value in changes.items()}


wrong("15.4", "the card with a condition", "half precision", "bits", "sentence")(but(card="true with a condition"))
wrong("15.4", "the card is enough", "half precision", "bytes", "bits")(but(card="true"))
wrong("15.4", "128 experts are true", "layer")(but(experts="true"))
wrong("15.4", "128 experts are false", "layer")(but(experts="false"))
wrong("15.4", "the context is true", "checkpoint", "2507", "config")(but(context="true"))
wrong("15.4", "the context is false", "checkpoint", "2507", "config")(but(context="false"))
wrong("15.4", "the context is outdated", "checkpoint", "2507", "config")(but(context="outdated"))
wrong("15.4", "the cache is false", "layers", "heads", "bytes")(but(cache="false"))
wrong("15.4", "good is false", "measure", "unit", "test")(but(good="false"))
wrong("15.4", "the newest is false", "time", "date", "once", "was")(but(newest="false"))
wrong("15.4", "the newest is true", "time", "date", "since", "after")(but(newest="true"))
wrong("15.4", "a ninth is false", "count", "active", "parameters")(but(ninth="false"))
wrong("15.4", "all true", "think again", "right")(dict.fromkeys(VERDICTS, "true"))
wrong("15.4", "a word of one's own", "true", "verdict", "think again")(but(experts="misleading"))
wrong("15.4", "yes and no", "text", "expected", "think again")(
    {name: value == "true" for name, value in VERDICTS.items()}
)

right("15.4", "as asked")(VERDICTS)
right("15.4", "capital letters")({name: value.upper() for name, value in VERDICTS.items()})
right("15.4", "in another order")(dict(reversed(VERDICTS.items())))
right("15.4", "a full stop")({name: f"{value}." for name, value in VERDICTS.items()})
right("15.4", "a mapping that is no dict")(MappingProxyType(VERDICTS))
right("15.4", "strings of NumPy")({name: np.str_(value) for name, value in VERDICTS.items()})

# 15.5 guesses against verdicts ---------------------------------------------------------------------------------------


@wrong("15.5", "axes exchanged", "given", "true", "exchanged", "shape")
def _(guesses, verdicts):
    return einsum(guesses, verdicts, "reader claim given, claim true -> reader true given")


@wrong("15.5", "readers summed", "reader", "axes", "shape")
def _(guesses, verdicts):
    return einsum(guesses.sum(0), verdicts, "claim given, claim true -> given true")


@wrong("15.5", "every guess with every verdict", "same claim", "claim", "each other")
def _(guesses, verdicts):
    given, true = guesses.sum(1), verdicts.sum(0)
    return einsum(given, true, "reader given, true -> reader given true")


@wrong("15.5", "a mean over the claims", "mean", "number", "times", "count")
def _(guesses, verdicts):
    return einsum(guesses, verdicts, "reader claim given, claim true -> reader given true") / guesses.shape[1]


@wrong("15.5", "shares of each verdict", "share", "count", "divided")
def _(guesses, verdicts):
    counts = einsum(guesses, verdicts, "reader claim given, claim true -> reader given true")
    return counts / verdicts.sum(0).clamp(min=1)


@wrong("15.5", "the claims kept", "claim", "axes", "shape")
def _(guesses, verdicts):
    return einsum(guesses, verdicts, "reader claim given, claim true -> reader claim given true")


@wrong("15.5", "only the right ones", "shape", "diagonal", "right")
def _(guesses, verdicts):
    return einsum(guesses[..., :-1], verdicts, "reader claim given, claim given -> reader given")


@wrong("15.5", "the first reader for all", "reader", "first")
def _(guesses, verdicts):
    counts = einsum(guesses[0], verdicts, "claim given, claim true -> given true")
    return counts.expand(len(guesses), -1, -1).clone()


@wrong("15.5", "without the open guesses", "shape", "given", "open")
def _(guesses, verdicts):
    return einsum(guesses[..., :-1], verdicts, "reader claim given, claim true -> reader given true")


@wrong("15.5", "whether it happened", "once", "count", "whether", "number")
def _(guesses, verdicts):
    return (einsum(guesses, verdicts, "reader claim given, claim true -> reader given true") > 0).float()


@wrong("15.5", "the claims in reverse", "claim", "same", "order")
def _(guesses, verdicts):
    return einsum(guesses, verdicts.flip(0), "reader claim given, claim true -> reader given true")


@wrong("15.5", "a mean over the readers", "reader", "axes", "shape")
def _(guesses, verdicts):
    return reduce(
        einsum(guesses, verdicts, "reader claim given, claim true -> reader given true"),
        "reader given true -> given true", "mean",
    )  # fmt: skip


@wrong("15.5", "the other readers' sum", "reader", "sum")
def _(guesses, verdicts):
    counts = einsum(guesses, verdicts, "reader claim given, claim true -> reader given true")
    return counts.sum(0, keepdim=True).expand_as(counts).clone()


@right("15.5", "one einsum")
def _(guesses, verdicts):
    return einsum(guesses, verdicts, "reader claim given, claim true -> reader given true")


@right("15.5", "torch.einsum")
def _(guesses, verdicts):
    return torch.einsum("rcg,ct->rgt", guesses, verdicts)


@right("15.5", "a matrix product")
def _(guesses, verdicts):
    return rearrange(guesses, "reader claim given -> reader given claim") @ verdicts


@right("15.5", "in two steps")
def _(guesses, verdicts):
    both = einsum(guesses, verdicts, "reader claim given, claim true -> reader claim given true")
    return reduce(both, "reader claim given true -> reader given true", "sum")


@right("15.5", "broadcasting")
def _(guesses, verdicts):
    return (guesses[:, :, :, None] * verdicts[None, :, None, :]).sum(1)


@right("15.5", "reader by reader")
def _(guesses, verdicts):
    return torch.stack([einsum(one, verdicts, "claim given, claim true -> given true") for one in guesses])
