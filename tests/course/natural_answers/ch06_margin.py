"""Natural answers to 06.2 and 06.7: the margin, and two orders that differ."""

from fractions import Fraction
from types import MappingProxyType

import numpy as np
import torch

from tests.course.natural_answers.collect import Collection

collection = Collection("06.2", "06.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 06.2 predictions -----------------------------------------------------------------------------------------------------

MARGIN = "doubled: the margin becomes"
EXPERTS = "doubled: other experts"
WEIGHTS = "doubled: other weights"
PLUS = "plus 5: other weights"
SWAP = "rounded to bfloat16: two logits can swap their order"
RIGHT = {MARGIN: 0.06, EXPERTS: False, WEIGHTS: True, PLUS: False, SWAP: False}

wrong("06.2", "the margin stays", "margin", "difference", "doubl")(RIGHT | {MARGIN: 0.03})
wrong("06.2", "the margin is halved", "margin", "difference", "doubl")(RIGHT | {MARGIN: 0.015})
wrong("06.2", "the margin is squared", "margin", "difference", "doubl")(RIGHT | {MARGIN: 0.0009})
wrong("06.2", "the margin is doubled twice", "margin", "difference", "doubl")(RIGHT | {MARGIN: 0.12})
wrong("06.2", "the margin in percent", "margin", "difference", "doubl", "high")(RIGHT | {MARGIN: 6})
wrong("06.2", "the margin plus 2", "margin", "difference", "doubl", "high")(RIGHT | {MARGIN: 2.03})
wrong("06.2", "the margin's factor", "margin", "difference", "doubl", "high")(RIGHT | {MARGIN: 2})
wrong("06.2", "the ratio of the softmax", "margin", "difference", "doubl", "high")(RIGHT | {MARGIN: 1.06})
wrong("06.2", "True for the margin", "margin", "number", "true", "doubl")(RIGHT | {MARGIN: True})
wrong("06.2", "a word for the margin", "margin", "number", "type", "text", "larger")(RIGHT | {MARGIN: "larger"})
wrong("06.2", "doubling changes the experts", "order", "experts", "rank", "choice")(RIGHT | {EXPERTS: True})
wrong("06.2", "doubling cancels in the softmax", "weight", "softmax", "difference", "doubl")(RIGHT | {WEIGHTS: False})
wrong("06.2", "adding changes the weights", "plus 5", "5", "difference", "softmax", "cancel")(RIGHT | {PLUS: True})
wrong("06.2", "rounding swaps", "round", "order", "equal", "swap")(RIGHT | {SWAP: True})
wrong("06.2", "doubling and adding exchanged", "doubl", "5", "weight", "difference", "softmax")(
    RIGHT | {WEIGHTS: False, PLUS: True}
)
wrong("06.2", "everything changes", "order", "round", "5", "difference", "swap", "softmax")(
    RIGHT | {EXPERTS: True, PLUS: True, SWAP: True}
)
wrong("06.2", "nothing changes", "weight", "margin", "doubl", "difference")(RIGHT | {MARGIN: 0.03, WEIGHTS: False})
wrong("06.2", "all reversed", "order", "round", "5", "difference", "swap", "weight")(
    {MARGIN: 0.06} | {question: not answer for question, answer in RIGHT.items() if question != MARGIN}
)
wrong("06.2", "one left out", "missing", "lacks", "left", "place", "all")(
    {question: answer for question, answer in RIGHT.items() if question != SWAP}
)

right("06.2", "as asked")(RIGHT)
right("06.2", "computed")(RIGHT | {MARGIN: 2 * 0.03})
right("06.2", "0 and 1")(
    {MARGIN: 0.06} | {question: int(answer) for question, answer in RIGHT.items() if question != MARGIN}
)
right("06.2", "NumPy")({MARGIN: np.float32(0.06)} | {q: np.bool_(answer) for q, answer in RIGHT.items() if q != MARGIN})
right("06.2", "torch")({question: torch.tensor(answer) for question, answer in RIGHT.items()})
right("06.2", "a fraction")(RIGHT | {MARGIN: Fraction(6, 100)})
right("06.2", "in another order, no dict")(MappingProxyType(dict(reversed(RIGHT.items()))))

# 06.7 counterexample --------------------------------------------------------------------------------------------------


def spike(height, others=0.0, count=1):
    logits = torch.full((128,), float(others))
    logits[:count] = height
    return logits


wrong("06.7", "random", "random", "differ", "0.5", "one", "others")(
    torch.randn(1, 128, generator=torch.Generator().manual_seed(0))
)
wrong("06.7", "random, ten times as wide", "differ", "0.5", "one", "others", "much")(
    10 * torch.randn(1, 128, generator=torch.Generator().manual_seed(1))
)
wrong("06.7", "all equal", "equal", "same", "eight", "0.5", "even", "differ")(torch.zeros(1, 128))
wrong("06.7", "one far ahead", "far", "everything", "nearly all", "all", "one", "high")(spike(100)[None])
wrong("06.7", "one ahead by 10", "far", "everything", "nearly all", "all", "one", "high")(spike(10)[None])
wrong("06.7", "one ahead by 1", "little", "0.5", "one", "ahead", "high", "low", "more", "differ")(spike(1)[None])
wrong("06.7", "one ahead by 2", "little", "0.5", "one", "ahead", "high", "low", "more", "differ")(spike(2)[None])
wrong("06.7", "one ahead by 5", "far", "0.5", "one", "ahead", "high", "less", "much", "differ")(spike(5)[None])
wrong("06.7", "two ahead together", "two", "share", "one", "half", "0.5")(spike(4, count=2)[None])
wrong("06.7", "eight far ahead", "eight", "one", "others", "120", "share")(spike(20, count=8)[None])
wrong("06.7", "eight a little ahead", "eight", "one", "others", "120", "share", "0.5")(spike(2, count=8)[None])
wrong("06.7", "all but eight at -inf", "inf", "finite", "120", "others", "nothing")(
    torch.cat((torch.arange(8.0), torch.full((120,), -torch.inf)))
)
wrong("06.7", "-1000 for the 120", "120", "others", "nothing", "far", "little", "low", "eight", "0.5")(
    spike(0, others=-1000, count=8)
)
wrong("06.7", "a ramp", "0.5", "one", "differ", "ahead", "others")(torch.linspace(0, 5, 128)[None])
wrong("06.7", "1 to 128", "0.5", "one", "differ", "far", "others")(torch.arange(1.0, 129))
wrong("06.7", "a column", "shape", "128")(spike(3.4)[:, None])
wrong("06.7", "eight logits", "shape", "128")(torch.tensor([[3.4, 0, 0, 0, 0, 0, 0, 0]]))
wrong("06.7", "several tokens", "shape", "one token", "token")(torch.randn(4, 128))
wrong("06.7", "probabilities", "0.5", "logits", "probabilit", "differ", "one", "little")(spike(3.4).softmax(-1)[None])
wrong("06.7", "NaN", "nan", "finite", "number")(torch.full((1, 128), torch.nan))
wrong("06.7", "a function", "function", "not the logits", "tensor", "type")(lambda: spike(3.4))
wrong("06.7", "one number", "shape", "tensor", "type", "128")(3.4)
wrong("06.7", "one far behind", "behind", "ahead", "one", "0.5", "differ", "low")(spike(-4)[None])

right("06.7", "one ahead, a vector")(spike(3.4))
right("06.7", "one ahead, one row")(spike(3.4)[None])
right("06.7", "the others below")(spike(0, others=-3.2)[None])
right("06.7", "one row of an identity matrix")(3 * torch.eye(128)[17:18])
right("06.7", "float64")(spike(3.5).double()[None])
right("06.7", "bfloat16")(spike(3.5).bfloat16()[None])
right("06.7", "shifted by 100")(spike(103.3, others=100)[None])
right("06.7", "the others nearly alike")(torch.cat((torch.tensor([3.6]), 0.001 * torch.arange(127))))
right("06.7", "integers")(torch.tensor([[3] + [0] * 127]))
