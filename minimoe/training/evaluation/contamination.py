"""Similarity of held-out texts to the training data: are they new, or training texts with one word changed?"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import torch
from torch import Tensor

from minimoe.training.corpus.documents import draw
from minimoe.training.corpus.worlds.chat import Turn

COUNT = 20_000  # training texts to compare each held-out text with


def features(text: str) -> set[str]:
    """The units of a text (words, digits, signs and Chinese characters) and all pairs of adjacent units."""
    units = re.findall(r"[A-Za-z']+|\d|[^\sA-Za-z\d]", text)
    return {*units, *(f"{first} {second}" for first, second in pairwise(units))}


def nearest_similarity(texts: Sequence[str], others: Sequence[str]) -> Tensor:
    """(text) the largest Jaccard similarity of each text's features with those of any of `others`; 1 means equal."""
    text_features = [features(text) for text in texts]
    index = {feature: number for number, feature in enumerate(sorted(set().union(*text_features)))}
    text_matrix = torch.zeros(len(index), len(texts))
    for column, present in enumerate(text_features):
        text_matrix[[index[feature] for feature in present], column] = 1
    other_features = [features(other) for other in others]
    entries = [(row, index[f]) for row, present in enumerate(other_features) for f in sorted(present) if f in index]
    rows, columns = torch.tensor(entries, dtype=torch.long).reshape(-1, 2).T
    other_matrix = torch.sparse_coo_tensor(
        torch.stack((rows, columns)), torch.ones(len(rows)), (len(others), len(index)), check_invariants=False
    )
    common = torch.sparse.mm(other_matrix, text_matrix)
    sizes = torch.tensor([[float(len(s))] for s in other_features]) + torch.tensor(
        [float(len(s)) for s in text_features]
    )
    return (common / (sizes - common)).amax(dim=0)


def nearest_training_text(
    make: Callable[[Random], Turn], held_out: Sequence[Turn], count: int = COUNT
) -> dict[str, Any]:
    """Similarity of held-out questions to the nearest of `count` training questions of the same task.

    The subjects of the questions are compared, so the phrasing of the request has no effect.
    """
    rng = Random("nearest training text")
    trained = {subject(draw(make, lambda turn: turn.key, rng, "train")) for _ in range(count)}
    similarity = nearest_similarity([subject(turn) for turn in held_out], sorted(trained))
    return {
        "training_texts": len(trained),
        "equal": sum(subject(turn) in trained for turn in held_out),
        "mean": round(float(similarity.mean()), 3),
        "median": round(float(similarity.median()), 3),
        "highest": round(float(similarity.max()), 3),
    }


def subject(turn: Turn) -> str:
    """The subject of a turn, regardless of the phrasing of the request: its key, or else the question."""
    return turn.key or turn.question
