"""Natural answers to 02.2, 02.6 and 02.7: predictions, the price of norms, and all norms but one."""

import numpy as np
import torch

from minimoe.model.norm import rms_norm
from tests.course.natural_answers.collect import Collection

collection = Collection("02.2", "02.6", "02.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 02.2 predictions ----------------------------------------------------------------------------------------------------

TIMES = "x times 1,000: another result"
PLUS = "x plus 1,000: another result"
SIGN = "-x: the result changes its sign"
ORDER = "channels in another order, weight too: the same numbers in that order"
TOKEN = "another token of the text changes: another result for this one"
EQUAL = "all channels equal and positive, weight one: all results are 1"
ZERO = "x is 0: the result is not a number"
TRUTH = {TIMES: False, PLUS: True, SIGN: True, ORDER: True, TOKEN: False, EQUAL: True, ZERO: False}


def other(*sentences):
    """The right answers with the opposite ones to these sentences."""
    return TRUTH | {sentence: not TRUTH[sentence] for sentence in sentences}


wrong("02.2", "a large vector stays larger", "1,000", "size", "times", "factor")(other(TIMES))
wrong("02.2", "as LayerNorm", "plus", "mean", "subtract", "1,000", "added")(other(PLUS))
wrong("02.2", "squares have no sign", "sign", "-x", "square")(other(SIGN))
wrong("02.2", "the order matters", "order", "channel")(other(ORDER))
wrong("02.2", "as BatchNorm", "token", "own", "text")(other(TOKEN))
wrong("02.2", "equal channels stay what they are", "equal", "size", "channel", "1")(other(EQUAL))
wrong("02.2", "zero over zero", "0", "zero", "eps")(other(ZERO))
wrong("02.2", "size and mean are both forgotten", "plus", "mean", "equal", "1,000", "channel")(other(PLUS, EQUAL))
wrong("02.2", "all true", "1,000", "token", "zero", "0", "eps")(dict.fromkeys(TRUTH, True))
wrong("02.2", "all false", "plus", "sign", "order", "equal", "mean", "square")(dict.fromkeys(TRUTH, False))
wrong("02.2", "everything the other way round", "1,000", "sign", "token", "order", "eps", "zero")(other(*TRUTH))
wrong("02.2", "words in quotes", "true", "false", "str")({sentence: str(truth) for sentence, truth in TRUTH.items()})
wrong("02.2", "two at a time", "times", "token", "1,000", "size", "own")(other(TIMES, TOKEN))
right("02.2", "bool")(TRUTH)
right("02.2", "0 and 1")({sentence: int(truth) for sentence, truth in TRUTH.items()})
right("02.2", "numpy")({sentence: np.bool_(truth) for sentence, truth in TRUTH.items()})
right("02.2", "torch")({sentence: torch.tensor(truth) for sentence, truth in TRUTH.items()})
right("02.2", "1.0 and 0.0")({sentence: float(truth) for sentence, truth in TRUTH.items()})
right("02.2", "in another order")(dict(reversed(TRUTH.items())))

# 02.6 norm_parameters ------------------------------------------------------------------------------------------------


@wrong("02.6", "without the last norm", "last", "final", "behind", "end")
def _(layers, hidden, head_dim):
    return layers * (2 * hidden + 2 * head_dim)


@wrong("02.6", "one norm a layer", "two", "before", "attention", "experts", "each layer")
def _(layers, hidden, head_dim):
    return layers * (hidden + 2 * head_dim) + hidden


@wrong("02.6", "q and k forgotten", "q and k", "head", "query", "queries", "qk")
def _(layers, hidden, head_dim):
    return layers * 2 * hidden + hidden


@wrong("02.6", "one weight for q and k", "q and k", "two", "each", "head_dim", "own")
def _(layers, hidden, head_dim):
    return layers * (2 * hidden + head_dim) + hidden


@wrong("02.6", "v normed too", "v", "value", "three", "q and k")
def _(layers, hidden, head_dim):
    return layers * (2 * hidden + 3 * head_dim) + hidden


@wrong("02.6", "biases, as LayerNorm has", "bias", "twice", "two times", "factor")
def _(layers, hidden, head_dim):
    return 2 * (layers * (2 * hidden + 2 * head_dim) + hidden)


@wrong("02.6", "the last norm in each layer", "last", "final", "once", "three", "each layer")
def _(layers, hidden, head_dim):
    return layers * (3 * hidden + 2 * head_dim)


@wrong("02.6", "a norm behind the embedding, too", "embedding", "first", "one norm", "hidden", "last")
def _(layers, hidden, head_dim):
    return layers * (2 * hidden + 2 * head_dim) + 2 * hidden


@wrong("02.6", "the number of norms", "number", "norms", "weights", "hidden")
def _(layers, hidden, head_dim):
    return 4 * layers + 1


@wrong("02.6", "q and k once for the whole model", "each layer", "q and k", "once", "layer")
def _(layers, hidden, head_dim):
    return layers * 2 * hidden + 2 * head_dim + hidden


@wrong("02.6", "one weight for each head", "head", "share", "hidden", "q and k")
def _(layers, hidden, head_dim):
    return layers * (2 * hidden + 2 * hidden) + hidden


@wrong("02.6", "matrices", "matrix", "square", "vector")
def _(layers, hidden, head_dim):
    return layers * (2 * hidden**2 + 2 * head_dim**2) + hidden**2


@wrong("02.6", "one layer", "layer")
def _(layers, hidden, head_dim):
    return 2 * hidden + 2 * head_dim + hidden


@wrong("02.6", "the last norm with q and k", "last", "final", "q and k", "head_dim", "once")
def _(layers, hidden, head_dim):
    return (layers + 1) * (2 * hidden + 2 * head_dim)


@wrong("02.6", "in millions", "million", "small", "factor", "times")
def _(layers, hidden, head_dim):
    return (layers * (2 * hidden + 2 * head_dim) + hidden) / 1e6


@wrong("02.6", "a last norm of head_dim", "last", "final", "hidden", "head_dim")
def _(layers, hidden, head_dim):
    return layers * (2 * hidden + 2 * head_dim) + head_dim


@wrong("02.6", "parentheses forgotten", "layer", "each", "parenthes", "q and k", "once")
def _(layers, hidden, head_dim):
    return layers * 2 * hidden + 2 * head_dim


@right("02.6", "formula")
def _(layers, hidden, head_dim):
    return layers * (2 * hidden + 2 * head_dim) + hidden


@right("02.6", "added up")
def _(layers, hidden, head_dim):
    total = 0
    for _ in range(layers):
        total += hidden + hidden + head_dim + head_dim
    return total + hidden


@right("02.6", "by kind")
def _(layers, hidden, head_dim):
    return (2 * layers + 1) * hidden + 2 * layers * head_dim


@right("02.6", "an integer of numpy")
def _(layers, hidden, head_dim):
    return np.array([hidden, hidden, head_dim, head_dim]).sum() * layers + hidden


@right("02.6", "shapes")
def _(layers, hidden, head_dim):
    shapes = [(hidden,), (hidden,), (head_dim,), (head_dim,)] * layers + [(hidden,)]
    return sum(torch.Size(shape).numel() for shape in shapes)


@right("02.6", "a tensor")
def _(layers, hidden, head_dim):
    return torch.tensor([2 * hidden * layers, 2 * head_dim * layers, hidden]).sum()


# 02.7 all_but --------------------------------------------------------------------------------------------------------


@wrong("02.7", "equal values", "equal", "value", "same tensor", "is", "object", "identity")
def _(skipped):
    return lambda x, weight, eps: x if torch.equal(weight, skipped) else rms_norm(x, weight, eps)


@wrong("02.7", "== in an if", "==", "ambiguous", "is", "bool")
def _(skipped):
    def norm(x, weight, eps):
        if weight == skipped:
            return x
        return rms_norm(x, weight, eps)

    return norm


@wrong("02.7", "all values compared", "equal", "value", "same tensor", "is", "object", "size", "identity")
def _(skipped):
    return lambda x, weight, eps: x if (weight == skipped).all() else rms_norm(x, weight, eps)


@wrong("02.7", "only that one normed", "other", "all but", "reverse", "only", "turned", "instead")
def _(skipped):
    return lambda x, weight, eps: rms_norm(x, weight, eps) if weight is skipped else x


@wrong("02.7", "zeros", "zero", "unchanged", "x")
def _(skipped):
    return lambda x, weight, eps: torch.zeros_like(x) if weight is skipped else rms_norm(x, weight, eps)


@wrong("02.7", "weight still multiplied", "weight", "unchanged", "multipl")
def _(skipped):
    return lambda x, weight, eps: weight * x if weight is skipped else rms_norm(x, weight, eps)


@wrong("02.7", "divided, without weight", "weight", "unchanged", "divide", "ones")
def _(skipped):
    return lambda x, weight, eps: rms_norm(x, torch.ones_like(weight) if weight is skipped else weight, eps)


@wrong("02.7", "same shape", "shape", "every", "same", "size")
def _(skipped):
    return lambda x, weight, eps: x if weight.shape == skipped.shape else rms_norm(x, weight, eps)


@wrong("02.7", "no return for the others", "none", "return")
def _(skipped):
    def norm(x, weight, eps):
        if weight is skipped:
            return x
        rms_norm(x, weight, eps)

    return norm


@wrong("02.7", "no norm at all", "every", "all", "no norm", "other", "unchanged")
def _(skipped):
    return lambda x, weight, eps: x


@wrong("02.7", "nothing skipped", "nothing", "skip", "unchanged", "every")
def _(skipped):
    return rms_norm


@wrong("02.7", "x compared", "weight", "x", "skip", "nothing", "unchanged")
def _(skipped):
    return lambda x, weight, eps: x if x is skipped else rms_norm(x, weight, eps)


@wrong("02.7", "not a function", "function", "call", "return")
def _(skipped):
    return skipped


@wrong("02.7", "only the first call", "first", "once", "every call", "second", "again", "later")
def _(skipped):
    seen = []

    def norm(x, weight, eps):
        if weight is skipped and not seen:
            seen.append(weight)
            return x
        return rms_norm(x, weight, eps)

    return norm


@wrong("02.7", "eps of the mini", "eps")
def _(skipped):
    return lambda x, weight, eps: x if weight is skipped else rms_norm(x, weight, 1e-6)


@wrong("02.7", "a function of x and weight", "argument", "three", "eps", "takes")
def _(skipped):
    return lambda x, weight: x if weight is skipped else rms_norm(x, weight, 1e-6)


@wrong("02.7", "weight set to one", "in place", "changed", "weight", "ones")
def _(skipped):
    skipped.data.fill_(1)
    return rms_norm


@wrong("02.7", "sums compared", "equal", "value", "same tensor", "is", "sum", "object", "identity")
def _(skipped):
    total = skipped.sum()
    return lambda x, weight, eps: x if weight.sum() == total else rms_norm(x, weight, eps)


@wrong(
    "02.7", "identity and another norm exchanged: is not", "other", "all but", "reverse", "only", "turned", "instead"
)
def _(skipped):
    def norm(x, weight, eps):
        return x if weight is not skipped else rms_norm(x, weight, eps)

    return norm


@right("02.7", "is")
def _(skipped):
    return lambda x, weight, eps: x if weight is skipped else rms_norm(x, weight, eps)


@right("02.7", "id")
def _(skipped):
    number = id(skipped)

    def norm(x, weight, eps):
        if id(weight) == number:
            return x
        return rms_norm(x, weight, eps)

    return norm


@right("02.7", "place in memory")
def _(skipped):
    def norm(x, weight, eps):
        same = weight.data_ptr() == skipped.data_ptr()
        return x if same else rms_norm(x, weight, eps)

    return norm


@right("02.7", "a copy of x")
def _(skipped):
    return lambda x, weight, eps: x.clone() if weight is skipped else rms_norm(x, weight, eps)


@right("02.7", "a norm of my own")
def _(skipped):
    def norm(x, weight, eps):
        if weight is not skipped:
            wide = x.float()
            x = weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)
        return x

    return norm


class AllBut:
    """The answer as an object that can be called."""

    def __init__(self, skipped):
        self.skipped = skipped

    def __call__(self, x, weight, eps):
        return x if weight is self.skipped else rms_norm(x, weight, eps)


right("02.7", "an object with __call__")(AllBut)


@right("02.7", "in a set of numbers")
def _(skipped):
    numbers = {id(skipped)}
    return lambda *args: args[0] if id(args[1]) in numbers else rms_norm(*args)
