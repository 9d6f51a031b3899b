"""Natural answers to 11.5 and 11.6: what gets through top-k, and what a training run costs."""

from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import torch

from tests.course.natural_answers.collect import Collection

collection = Collection("11.5", "11.6")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 11.5 predictions -----------------------------------------------------------------------------------------------------

DIVIDED = "two chosen, divided: scores that the next-token loss moves"
UNDIVIDED = "two chosen, not divided: scores that it moves"
SUM = "two chosen, divided: the gradients of all scores add up to"
ONE = "one chosen, divided: scores that it moves"
BALANCE = "the balancing loss: scores that it moves"
COPIES = "two chosen, divided, all outputs the same: scores that the next-token loss moves"
RIGHT = {DIVIDED: 2, UNDIVIDED: 16, SUM: 0, ONE: 0, BALANCE: 16, COPIES: 0}

wrong("11.5", "all of them with the division", "divi", "chosen", "fraction")(RIGHT | {DIVIDED: 16})
wrong("11.5", "only one of two", "divi", "fraction", "chosen")(RIGHT | {DIVIDED: 1})
wrong("11.5", "none with the division", "divi", "fraction", "chosen")(RIGHT | {DIVIDED: 0})
wrong("11.5", "two without the division", "denominator", "softmax")(RIGHT | {UNDIVIDED: 2})
wrong("11.5", "fourteen without the division", "denominator", "softmax")(RIGHT | {UNDIVIDED: 14})
wrong("11.5", "the sum is one", "add", "weights", "gain")(RIGHT | {SUM: 1})
wrong("11.5", "one learns about itself", "itself", "score")(RIGHT | {ONE: 1})
wrong("11.5", "one, all are reached", "itself", "divided")(RIGHT | {ONE: 16})
wrong("11.5", "the balancing loss reaches the chosen", "P", "softmax", "f")(RIGHT | {BALANCE: 2})
wrong("11.5", "the balancing loss reaches those not chosen", "P", "softmax", "f")(RIGHT | {BALANCE: 14})
wrong("11.5", "the balancing loss has no gradient", "P", "softmax", "f")(RIGHT | {BALANCE: 0})
wrong("11.5", "copies still learn", "equal", "mix", "outputs")(RIGHT | {COPIES: 2})
wrong("11.5", "copies, all", "equal", "mix", "outputs")(RIGHT | {COPIES: 16})
wrong("11.5", "division confused", "divi", "denominator")(RIGHT | {DIVIDED: 16, UNDIVIDED: 2})
wrong("11.5", "everything moves", "divi", "itself", "mix")(
    {DIVIDED: 16, UNDIVIDED: 16, SUM: 0, ONE: 16, BALANCE: 16, COPIES: 16}
)
wrong("11.5", "only the chosen, always", "denominator", "softmax", "itself")(
    {DIVIDED: 2, UNDIVIDED: 2, SUM: 0, ONE: 1, BALANCE: 2, COPIES: 2}
)
wrong("11.5", "a word", "number", "text", "str")(RIGHT | {UNDIVIDED: "all"})
wrong("11.5", "one left out", "missing")({question: answer for question, answer in RIGHT.items() if question != SUM})

right("11.5", "as asked")(RIGHT)
right("11.5", "floats")({question: float(answer) for question, answer in RIGHT.items()})
right("11.5", "NumPy")({question: np.int64(answer) for question, answer in RIGHT.items()})
right("11.5", "torch")({question: torch.tensor(answer) for question, answer in RIGHT.items()})
right("11.5", "another mapping")(MappingProxyType(dict(reversed(RIGHT.items()))))
right("11.5", "decimals and fractions")(RIGHT | {SUM: Decimal(0), UNDIVIDED: Fraction(16)})

# 11.6 the cost --------------------------------------------------------------------------------------------------------


def weights(c):
    return c.active_parameters - c.vocab_size * c.hidden_size


def days(operations, peak, utilisation):
    return operations / (peak * utilisation) / 86_400


def another(count):
    """An answer with this number of operations."""
    return lambda c, tokens, peak, utilisation: (
        count(c, tokens),
        days(count(c, tokens), peak, utilisation),
    )


def other_days(change):
    """An answer with the right operations and other days: change(operations, peak, utilisation)."""
    return lambda c, tokens, peak, utilisation: (
        6 * weights(c) * tokens,
        change(6 * weights(c) * tokens, peak, utilisation),
    )


wrong("11.6", "2 N D", "forward", "backward")(another(lambda c, t: 2 * weights(c) * t))
wrong("11.6", "3 N D", "addition", "half", "times")(another(lambda c, t: 3 * weights(c) * t))
wrong("11.6", "4 N D", "backward", "forward")(another(lambda c, t: 4 * weights(c) * t))
wrong("11.6", "8 N D", "forward", "twice", "recomputed")(another(lambda c, t: 8 * weights(c) * t))
wrong("11.6", "with the embedding", "embedding", "lookup")(another(lambda c, t: 6 * c.active_parameters * t))
wrong("11.6", "all parameters", "all experts", "embedding")(another(lambda c, t: 6 * c.total_parameters * t))
wrong("11.6", "all parameters without embedding", "all experts")(
    another(lambda c, t: 6 * (c.total_parameters - c.vocab_size * c.hidden_size) * t)
)
wrong("11.6", "both embeddings off", "head")(
    another(lambda c, t: 6 * (c.active_parameters - 2 * c.vocab_size * c.hidden_size) * t)
)
wrong("11.6", "one token", "one token")(another(lambda c, t: 6 * weights(c)))
wrong("11.6", "utilisation ignored", "utilisation", "peak")(other_days(lambda n, p, u: n / p / 86_400))
wrong("11.6", "utilisation on the wrong side", "utilisation", "divide", "longer")(
    other_days(lambda n, p, u: n / p * u / 86_400)
)
wrong("11.6", "seconds", "second")(other_days(lambda n, p, u: n / (p * u)))
wrong("11.6", "hours", "hours")(other_days(lambda n, p, u: n / (p * u) / 3600))
wrong("11.6", "only one number", "type", "tuple", "float")(lambda c, t, p, u: 6 * weights(c) * t)
wrong("11.6", "days first", "place", "exchang")(lambda c, t, p, u: (days(6 * weights(c) * t, p, u), 6 * weights(c) * t))
wrong("11.6", "the embedding's rows only", "")(another(lambda c, t: 6 * (c.active_parameters - c.vocab_size) * t))
wrong("11.6", "in teraflops", "times", "low", "small")(
    lambda c, t, p, u: (6 * weights(c) * t / 1e12, days(6 * weights(c) * t, p, u))
)

right("11.6", "6 N D")(another(lambda c, t: 6 * weights(c) * t))
right("11.6", "per day")(lambda c, t, p, u: (6 * weights(c) * t, 6 * weights(c) * t / (p * u * 24 * 60 * 60)))
right("11.6", "forward and backward")(another(lambda c, t: (2 + 2 + 2) * t * weights(c)))
right("11.6", "numpy")(lambda c, t, p, u: (np.float64(6 * weights(c) * t), np.float64(days(6 * weights(c) * t, p, u))))
right("11.6", "a list")(lambda c, t, p, u: [6.0 * weights(c) * t, days(6.0 * weights(c) * t, p, u)])
right("11.6", "float first")(
    lambda c, t, p, u: (float(weights(c)) * 6.0 * float(t), float(weights(c)) * t / p / u / 14_400)
)
