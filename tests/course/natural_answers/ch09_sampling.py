"""Natural answers to 09.3, 09.4 and 09.7: the sampler, top-p, greedy decoding."""

import numpy as np
import torch

from minimoe.text.sampling import truncate
from tests.course.natural_answers.collect import Collection

collection = Collection("09.3", "09.4", "09.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 09.3 chances ---------------------------------------------------------------------------------------------------------


def likeliest_only(logits):
    return torch.zeros_like(logits).index_fill(0, logits.argmax(), 1)


def cut_to(logits, top_k):
    """The logits of the `top_k` likeliest, -inf for the others."""
    if not 0 < top_k < len(logits):
        return logits
    return logits.masked_fill(logits < logits.topk(top_k).values[-1], -torch.inf)


def cut_below(shares, min_p):
    shares = shares.where(shares >= min_p * shares.max(), 0)
    return shares / shares.sum()


@wrong("09.3", "times the temperature", "temperature", "divide")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    return cut_below(cut_to(logits * temperature, top_k).softmax(0), min_p)


@wrong("09.3", "the probabilities divided", "temperature", "logits", "softmax", "before")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    shares = cut_to(logits, top_k).softmax(0) / temperature
    return cut_below(shares / shares.sum(), min_p)


@wrong("09.3", "no thought of temperature 0", "temperature 0", "zero", "0", "nan", "divide")
def _(logits, temperature, top_k, min_p):
    return cut_below(cut_to(logits / temperature, top_k).softmax(0), min_p)


@wrong("09.3", "temperature 0 means no temperature", "temperature 0", "zero", "0", "likeliest")
def _(logits, temperature, top_k, min_p):
    return cut_below(cut_to(logits / (temperature or 1), top_k).softmax(0), min_p)


@wrong("09.3", "temperature 0 gives an id", "shape", "probabilit", "type", "vocab", "id")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return logits.argmax()
    return cut_below(cut_to(logits / temperature, top_k).softmax(0), min_p)


@wrong("09.3", "the rest doesn't sum to one", "sum", "one", "rest", "divide")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    shares = cut_to(logits / temperature, top_k).softmax(0)
    return shares.where(shares >= min_p * shares.max(), 0)


@wrong("09.3", "top-k 0 keeps nothing", "top_k", "top-k", "0", "all", "none", "index")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    logits = logits / temperature
    least = logits.topk(top_k).values[-1]
    return cut_below(logits.masked_fill(logits < least, -torch.inf).softmax(0), min_p)


@wrong("09.3", "min-p alone is the bar", "min-p", "min_p", "likeliest", "times")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    shares = cut_to(logits / temperature, top_k).softmax(0)
    shares = shares * (shares >= min_p)
    return shares / shares.sum()


@wrong("09.3", "more than min-p", "at least", "min-p", "min_p", "equal")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    shares = cut_to(logits / temperature, top_k).softmax(0)
    shares = shares * (shares > min_p * shares.max())
    return shares / shares.sum()


@wrong("09.3", "min-p before the temperature", "temperature", "order", "before", "first", "min-p")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    shares = logits.softmax(0)
    kept = shares >= min_p * shares.max()
    return cut_to((logits / temperature).masked_fill(~kept, -torch.inf), top_k).softmax(0)


@wrong("09.3", "min-p of the logits", "min-p", "min_p", "logit", "probabilit", "softmax")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    logits = cut_to(logits / temperature, top_k)
    if min_p:
        logits = logits.masked_fill(logits < min_p * logits.max(), -torch.inf)
    return logits.softmax(0)


@wrong("09.3", "the k-th is lost", "top_k", "top-k", "last", "one", "k")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    logits = logits / temperature
    if 1 < top_k < len(logits):
        logits = logits.masked_fill(logits <= logits.topk(top_k).values[-1], -torch.inf)
    return cut_below(logits.softmax(0), min_p)


@wrong("09.3", "cut to zero, not to -inf", "zero", "inf", "logit", "softmax", "0")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    logits = logits / temperature
    if top_k:
        logits = logits * (logits >= logits.topk(min(top_k, len(logits))).values[-1])
    return cut_below(logits.softmax(0), min_p)


@wrong("09.3", "softmax twice", "softmax", "twice", "sum", "once", "again")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    shares = cut_to(logits / temperature, top_k).softmax(0)
    kept = (shares >= min_p * shares.max()) & (shares > 0)
    return shares.masked_fill(~kept, -torch.inf).softmax(0)


@wrong("09.3", "the argument is changed", "in place", "unchanged", "changes", "argument", "changed")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    logits /= temperature
    return cut_below(cut_to(logits, top_k).softmax(0), min_p)


@wrong("09.3", "no min-p", "min-p", "min_p")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    return cut_to(logits / temperature, top_k).softmax(0)


@wrong("09.3", "in order of their probability", "order", "vocabulary", "place", "sort")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    ordered = (logits / temperature).sort(descending=True).values
    if top_k:
        ordered[top_k:] = -torch.inf
    return cut_below(ordered.softmax(0), min_p)


@right("09.3", "the library's filters")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return likeliest_only(logits)
    return truncate(logits / temperature, top_k=top_k, min_p=min_p).softmax(dim=-1)


@right("09.3", "all in logarithms")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        top_k, temperature = 1, 1.0
    scaled = logits.double() / temperature
    if top_k:
        rest = scaled.argsort(descending=True, stable=True)[top_k:]
        scaled[rest] = -torch.inf
    if min_p:
        scaled[scaled - scaled.max() < np.log(min_p) - 1e-12] = -torch.inf
    return scaled.softmax(0).float()


@right("09.3", "min-p before top-k: the same")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return (torch.arange(len(logits)) == logits.argmax()).float()
    shares = (logits / temperature).softmax(dim=-1)
    shares = torch.where(shares >= min_p * shares.max(), shares, torch.zeros_like(shares))
    if 0 < top_k < len(shares):
        values, places = shares.topk(top_k)
        shares = torch.zeros_like(shares).scatter(0, places, values)
    return shares / shares.sum()


@right("09.3", "with lists")
def _(logits, temperature, top_k, min_p):
    numbers = logits.tolist()
    largest = max(numbers)
    if temperature == 0:
        heights = [float(place == numbers.index(largest)) for place in range(len(numbers))]
    else:
        heights = [float(np.exp((number - largest) / temperature)) for number in numbers]
    ranks = sorted(range(len(heights)), key=lambda place: -heights[place])[: top_k or None]
    kept = [height if place in ranks and height >= min_p else 0.0 for place, height in enumerate(heights)]
    return torch.tensor(kept) / sum(kept)


@right("09.3", "one_hot")
def _(logits, temperature, top_k, min_p):
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(), logits.numel()).to(logits.dtype)
    shares = torch.softmax(logits / temperature, dim=0)
    kept = torch.ones_like(shares, dtype=torch.bool)
    if top_k > 0:
        kept = torch.zeros_like(kept)
        kept[torch.topk(shares, min(top_k, len(shares))).indices] = True
    kept &= shares >= min_p * shares.max()
    shares[~kept] = 0
    return shares / shares.sum()


# 09.4 top_p_keeps -----------------------------------------------------------------------------------------------------


def back(kept, order):
    return torch.zeros_like(kept).scatter(0, order, kept)


@wrong("09.4", "as it was", "cross", "reach", "unchanged", "before", "one", "first")
def _(probabilities, top_p):
    ordered, order = probabilities.sort(descending=True)
    return back(ordered.cumsum(dim=0) <= top_p, order)


@wrong("09.4", "less than", "cross", "reach", "before", "one", "first")
def _(probabilities, top_p):
    ordered, order = probabilities.sort(descending=True)
    return back(ordered.cumsum(dim=0) < top_p, order)


@wrong("09.4", "one more than needed", "exact", "smallest", "one", "enough", "reach", "equal")
def _(probabilities, top_p):
    ordered, order = probabilities.sort(descending=True)
    return back(ordered.cumsum(dim=0) - ordered <= top_p, order)


@wrong("09.4", "plus one, counted with <=", "exact", "smallest", "one", "enough", "reach", "equal")
def _(probabilities, top_p):
    ordered, order = probabilities.sort(descending=True)
    count = int((ordered.cumsum(dim=0) <= top_p).sum()) + 1
    return torch.zeros_like(probabilities, dtype=torch.bool).index_fill(0, order[:count], True)


@wrong("09.4", "only the likeliest is safe", "cross", "reach", "one", "first", "likeliest", "always")
def _(probabilities, top_p):
    ordered, order = probabilities.sort(descending=True)
    kept = ordered.cumsum(dim=0) <= top_p
    kept[0] = True
    return back(kept, order)


@wrong("09.4", "in sorted order", "order", "sort", "vocabulary", "place")
def _(probabilities, top_p):
    ordered = probabilities.sort(descending=True).values
    return ordered.cumsum(dim=0) - ordered < top_p


@wrong("09.4", "gathered, not scattered", "order", "gather", "scatter", "place", "vocabulary")
def _(probabilities, top_p):
    ordered, order = probabilities.sort(descending=True)
    return (ordered.cumsum(dim=0) - ordered < top_p)[order]


@wrong("09.4", "each alone", "sum", "each", "alone", "likeliest", "cumulative")
def _(probabilities, top_p):
    return probabilities >= top_p


@wrong("09.4", "from the unlikeliest", "likeliest", "order", "descending", "ascending")
def _(probabilities, top_p):
    ordered, order = probabilities.sort()
    return back(ordered.cumsum(dim=0) - ordered < top_p, order)


@wrong("09.4", "in the order of the vocabulary", "sort", "order", "likeliest", "vocabulary")
def _(probabilities, top_p):
    return probabilities.cumsum(dim=0) - probabilities < top_p


@wrong("09.4", "ties of the last", "smallest", "tie", "equal", "same", "too many")
def _(probabilities, top_p):
    ordered = probabilities.sort(descending=True).values
    count = int((ordered.cumsum(dim=0) < top_p).sum())
    return probabilities >= ordered[min(count, len(ordered) - 1)]


@wrong("09.4", "probabilities, not bools", "bool", "dtype", "true", "mask")
def _(probabilities, top_p):
    ordered, order = probabilities.sort(descending=True)
    return probabilities * back(ordered.cumsum(dim=0) - ordered < top_p, order)


@wrong("09.4", "the ids that are kept", "shape", "bool", "dtype", "vocab", "ids")
def _(probabilities, top_p):
    ordered, order = probabilities.sort(descending=True)
    return order[ordered.cumsum(dim=0) - ordered < top_p]


@wrong("09.4", "the dropped ones are True", "true", "kept", "dropped", "other way", "exchanged", "not")
def _(probabilities, top_p):
    ordered, order = probabilities.sort(descending=True)
    return back(ordered.cumsum(dim=0) - ordered >= top_p, order)


@right("09.4", "the sum before")
def _(probabilities, top_p):
    ordered, order = probabilities.sort(descending=True)
    return back(ordered.cumsum(dim=0) - ordered < top_p, order)


@right("09.4", "shifted by one")
def _(probabilities, top_p):
    ordered, order = probabilities.sort(descending=True)
    reached = ordered.cumsum(dim=0) >= top_p
    dropped = torch.cat([torch.tensor([False]), reached[:-1]])
    return back(~dropped, order)


@right("09.4", "counted")
def _(probabilities, top_p):
    ordered, order = torch.sort(probabilities, descending=True)
    count = int((ordered.cumsum(0) < top_p).sum()) + 1
    kept = torch.zeros(len(probabilities), dtype=torch.bool)
    kept[order[:count]] = True
    return kept


@right("09.4", "searchsorted")
def _(probabilities, top_p):
    order = probabilities.argsort(descending=True)
    last = torch.searchsorted(probabilities[order].cumsum(0), top_p)
    return order.argsort() <= last


@right("09.4", "one by one")
def _(probabilities, top_p):
    kept, total = torch.zeros_like(probabilities, dtype=torch.bool), torch.tensor(0.0)
    for place in probabilities.argsort(descending=True).tolist():
        if total >= top_p:
            break
        kept[place] = True
        total = total + probabilities[place]
    return kept


# 09.7 predictions -----------------------------------------------------------------------------------------------------

TRUTH = {
    "greedy, another seed: another text": False,
    "temperature 2 and top-k 1: the greedy text": True,
    "all logits doubled: another greedy text": False,
    "endless and greedy, a tenth and more is repetition": True,
    "endless and drawn at temperature 1, a tenth and more is repetition": False,
}
SEED, TOP_1, DOUBLED, GREEDY, DRAWN = TRUTH


def except_for(*questions):
    """The right answers, with these questions answered the other way."""
    return {question: said != (question in questions) for question, said in TRUTH.items()}


wrong("09.7", "a seed always matters", "seed", "dice", "draw", "think again")(except_for(SEED))
wrong("09.7", "temperature 2 is always wild", "top-k", "one", "temperature", "think again")(except_for(TOP_1))
wrong("09.7", "doubled logits are another distribution", "doubled", "order", "likeliest", "think again")(
    except_for(DOUBLED)
)
wrong("09.7", "greedy is best, so it does not repeat", "greedy", "circle", "repeat", "loop", "think again")(
    except_for(GREEDY)
)
wrong("09.7", "endless text repeats in any case", "drawn", "dice", "temperature", "leave", "circle", "think again")(
    except_for(DRAWN)
)
wrong("09.7", "the two endless ones exchanged", "greedy", "drawn", "circle", "dice", "think again")(
    except_for(GREEDY, DRAWN)
)
wrong("09.7", "greedy has dice and bends", "seed", "order", "dice", "think again")(except_for(SEED, DOUBLED))
wrong("09.7", "temperature matters everywhere", "order", "temperature", "top-k", "think again")(
    except_for(TOP_1, DOUBLED)
)
wrong("09.7", "all True", "think again")(dict.fromkeys(TRUTH, True))
wrong("09.7", "all False", "think again")(dict.fromkeys(TRUTH, False))
wrong("09.7", "a list", "dict", "list")(list(TRUTH.values()))
wrong("09.7", "one left open", "true or false", "missing", "...")(TRUTH | {DRAWN: None})

right("09.7", "bools")(TRUTH)
right("09.7", "1 and 0")({question: int(said) for question, said in TRUTH.items()})
right("09.7", "NumPy's bools")({question: np.bool_(said) for question, said in TRUTH.items()})
right("09.7", "in another order")(dict(reversed(TRUTH.items())))
