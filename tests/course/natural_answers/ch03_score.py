"""Natural answers to 03.3: what moves the score."""

from types import MappingProxyType

import numpy as np
import torch

from tests.course.natural_answers.collect import Collection

collection = Collection("03.3")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

MOVED = "both moved by 1,000: another score"
TRADED = "q and k trade positions: another score"
LENGTH = "turned q has another length"
TOGETHER = "both at position 0, then both at 7: another score"
V = "v turned like k: the output still knows distances alone"
ROUNDED = "table rounded to bfloat16, both moved by 1,000: equal to the last digit"
RIGHT = {MOVED: False, TRADED: True, LENGTH: False, TOGETHER: False, V: False, ROUNDED: False}


def flipped(*questions):
    return RIGHT | {question: not RIGHT[question] for question in questions}


wrong("03.3", "a far position is another score", "moved", "both", "distance", "between", "difference", "apart")(
    flipped(MOVED)
)
wrong("03.3", "a dot product is symmetric", "trade", "order", "before", "direction", "sign", "other way")(
    flipped(TRADED)
)
wrong("03.3", "turning stretches", "length", "rotation", "turn")(flipped(LENGTH))
wrong("03.3", "position 0 is special", "position 0", "distance", "apart", "together", "same place", "both")(
    flipped(TOGETHER)
)
wrong("03.3", "v as good as k", "v ", "output", "sum", "meets")(flipped(V))
wrong("03.3", "algebra holds in bfloat16", "round", "bfloat16", "digit")(flipped(ROUNDED))
wrong("03.3", "whatever moves changes the score", "distance", "between", "angle", "apart", "both")(
    flipped(MOVED, TOGETHER)
)
wrong("03.3", "only distance counts, without direction; and v may turn", "v ", "trade", "order", "before", "output")(
    flipped(TRADED, V)
)
wrong("03.3", "two about exactness", "length", "round", "digit", "rotation")(flipped(LENGTH, ROUNDED))
wrong("03.3", "all true", "angle", "distance", "length", "v ", "digit", "round", "between", "both")(
    dict.fromkeys(RIGHT, True)
)
wrong("03.3", "all false", "trade", "order", "before", "direction", "sign", "other way")(dict.fromkeys(RIGHT, False))
wrong("03.3", "every answer reversed", "angle", "distance", "length", "v ", "digit", "round", "between", "trade")(
    flipped(*RIGHT)
)
wrong("03.3", "as answers to 'the same score?'", "distance", "angle", "trade", "length", "both", "before")(
    flipped(MOVED, TRADED, LENGTH, TOGETHER)
)
wrong("03.3", "one left out", "missing", "lacks", "left", "place", "all")(
    {question: answer for question, answer in RIGHT.items() if question != V}
)
wrong("03.3", "words in place of True", "true", "false", "string", "text", "type")(RIGHT | {TRADED: "bigger"})
wrong("03.3", "a list", "dict", "list", "type", "question")(list(RIGHT.values()))
wrong("03.3", "None for what one does not know", "none", "true", "false", "type", "missing", "open")(RIGHT | {V: None})

right("03.3", "as asked")(RIGHT)
right("03.3", "0 and 1")({question: int(answer) for question, answer in RIGHT.items()})
right("03.3", "bool of NumPy")({question: np.bool_(answer) for question, answer in RIGHT.items()})
right("03.3", "bool of torch")({question: torch.tensor(answer) for question, answer in RIGHT.items()})
right("03.3", "in another order")(dict(reversed(RIGHT.items())))
right("03.3", "a mapping that is no dict")(MappingProxyType(RIGHT))
right("03.3", "measured comparisons")(
    RIGHT | {TRADED: bool(np.float32(-0.69) != np.float32(-3.36)), LENGTH: 5.5 != 5.5}
)
