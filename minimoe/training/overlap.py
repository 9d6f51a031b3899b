"""How near a held-out text comes to what was trained on: new, or a training text with one word changed?"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import torch
from torch import Tensor

from minimoe.training.corpus import draw
from minimoe.training.worlds.chat import Turn

COUNT = 20_000  # training texts that each held-out one is compared with


def features(text: str) -> set[str]:
    """Words, digits, signs and Chinese characters of a text, and every two neighbours among them."""
    units = re.findall(r"[A-Za-z']+|\d|[^\sA-Za-z\d]", text)
    return {*units, *(f"{first} {second}" for first, second in pairwise(units))}


def nearest_similarity(texts: Sequence[str], others: Sequence[str]) -> Tensor:
    """(text) the largest Jaccard similarity of each text's features with those of any other text: 1 is equal."""
    sets = [features(text) for text in texts]
    known = {feature: number for number, feature in enumerate(sorted(set().union(*sets)))}
    mine = torch.zeros(len(known), len(texts))
    for column, present in enumerate(sets):
        mine[[known[feature] for feature in present], column] = 1
    theirs = [features(other) for other in others]
    places = [(row, known[f]) for row, present in enumerate(theirs) for f in sorted(present) if f in known]
    rows, columns = torch.tensor(places, dtype=torch.long).reshape(-1, 2).T
    matrix = torch.sparse_coo_tensor(
        torch.stack((rows, columns)), torch.ones(len(rows)), (len(others), len(known)), check_invariants=False
    )
    common = torch.sparse.mm(matrix, mine)
    sizes = torch.tensor([[float(len(s))] for s in theirs]) + torch.tensor([float(len(s)) for s in sets])
    return (common / (sizes - common)).amax(dim=0)


def nearest_training_text(make: Callable[[Random], Turn], asked: Sequence[Turn], count: int = COUNT) -> dict[str, Any]:
    """Similarity of held-out questions (without their request) to the nearest of `count` training ones of their kind.

    What is compared is the text that the question is about, so that ways of asking do not count.
    """
    rng = Random("nearest training text")
    trained = {subject(draw(make, lambda turn: turn.key, rng, "train")) for _ in range(count)}
    near = nearest_similarity([subject(turn) for turn in asked], sorted(trained))
    return {
        "training_texts": len(trained),
        "equal": sum(subject(turn) in trained for turn in asked),
        "mean": round(float(near.mean()), 3),
        "median": round(float(near.median()), 3),
        "highest": round(float(near.max()), 3),
    }


def subject(turn: Turn) -> str:
    """What a turn is about, whatever the words of the request: its key."""
    return turn.key or turn.question
