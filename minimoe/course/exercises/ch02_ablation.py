"""Chapter 02, RMSNorm: what norms cost, and one norm less (02.6 and 02.7)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minimoe.course.checker.exercise import Case, Exercise
from minimoe.course.exercises.ch02_norm import draw_vectors
from minimoe.model.norm import rms_norm

# 02.6 parameters -----------------------------------------------------------------------------------------------------


def parameters_by_list(layers: int, hidden: int, head_dim: int) -> int:
    """Every norm of every layer, and the last one."""
    total = hidden
    for _ in range(layers):
        for size in (hidden, head_dim, head_dim, hidden):
            total += size
    return total


# 02.7 one norm less --------------------------------------------------------------------------------------------------


def without_by_identity(skipped: Tensor) -> Callable[[Tensor, Tensor, float], Tensor]:
    """rms_norm for every weight but one, for which x is returned."""
    return lambda x, weight, eps: x if weight is skipped else rms_norm(x, weight, eps)


def as_results(answer: Any) -> Any:
    """The results of the function that the answer returns, call by call.

    For the skipped weight, for one with other numbers, for one with the same numbers, for a shorter one, as q has, and
    for the skipped one again.
    """

    def results(x: Tensor, weight: Tensor, eps: float) -> tuple[Any, ...]:
        normed = answer(weight)
        return (
            normed(x, weight, eps),
            normed(x, 2 * weight, eps),
            normed(x, weight.clone(), eps),
            normed(x[..., 1:], weight[1:].clone(), eps),
            normed(x, weight, eps),
        )

    return results if callable(answer) else answer


def reference(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, ...]:
    return as_results(without_by_identity)(x, weight, eps)


def skips_all(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: x


def skips_none(skipped: Tensor) -> Callable[..., Tensor]:
    return rms_norm


def the_others(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: rms_norm(x, weight, eps) if weight is skipped else x


def by_value(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: x if torch.equal(weight, skipped) else rms_norm(x, weight, eps)


def zeros(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: torch.zeros_like(x) if weight is skipped else rms_norm(x, weight, eps)


def weight_kept(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: weight * x if weight is skipped else rms_norm(x, weight, eps)


def only_the_weight(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: rms_norm(x, torch.ones_like(weight) if weight is skipped else weight, eps)


def by_shape(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: x if weight.shape == skipped.shape else rms_norm(x, weight, eps)


def first_call_only(skipped: Tensor) -> Callable[..., Tensor]:
    calls: list[Tensor] = []

    def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        if weight is skipped and not calls:
            calls.append(x)
            return x
        return rms_norm(x, weight, eps)

    return normed


def with_its_own_eps(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: x if weight is skipped else rms_norm(x, weight, 1e-6)


def by_definition(skipped: Tensor) -> Callable[..., Tensor]:
    def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        if id(weight) == id(skipped):
            return x
        return rms_norm(x, weight, eps)

    return normed


EXERCISES = (
    Exercise(
        id="02.6",
        title="Estimate, then measure: what do norms cost?",
        kind="estimate",
        minutes=8,
        difficulty=2,
        hints=(
            "Which norms does a layer have, and how long is each?",
            "Two over the hidden state, one for q and one for k over head_dim, shared by all heads; one at the end.",
            "layers * (2 * hidden + 2 * head_dim) + hidden.",
        ),
        now_you_know="of a million weights of the 235B, three or four belong to a norm, and few norms can be left out.",
        oracle=parameters_by_list,
        cases=(
            Case("one layer, 4 channels, heads of 2: 4 + 2 + 2 + 4, and 4 at the end", (1, 4, 2), 16),
            Case("three layers", (3, 10, 7)),
            Case("the mini", (4, 192, 32)),
            Case("no layers", (0, 8, 4), 8),
        ),
        mutants={
            "no final norm": (
                lambda layers, hidden, head_dim: layers * (2 * hidden + 2 * head_dim),
                "the norm before the head is missing.",
            ),
            "no QK-norm": (
                lambda layers, hidden, head_dim: layers * 2 * hidden + hidden,
                "the norms of q and k are missing.",
            ),
            "one per layer": (
                lambda layers, hidden, head_dim: layers * (hidden + 2 * head_dim) + hidden,
                "a layer has two norms of the hidden state: before attention, and before the experts.",
            ),
            "one of q and k": (
                lambda layers, hidden, head_dim: layers * (2 * hidden + head_dim) + hidden,
                "q and k have a norm each.",
            ),
            "mean and weight": (
                lambda layers, hidden, head_dim: 2 * (layers * (2 * hidden + 2 * head_dim) + hidden),
                "you counted a bias for each. RMSNorm has a weight only.",
            ),
            "one final per layer": (
                lambda layers, hidden, head_dim: layers * (3 * hidden + 2 * head_dim),
                "the last norm was counted in each layer. The model has one.",
            ),
            "v normed": (
                lambda layers, hidden, head_dim: layers * (2 * hidden + 3 * head_dim) + hidden,
                "v was counted, too. Only q and k are normed: they meet in a product.",
            ),
            "embedding normed": (
                lambda layers, hidden, head_dim: layers * (2 * hidden + 2 * head_dim) + 2 * hidden,
                "there is no norm behind the embedding: the first norm of layer 0 reads it.",
            ),
            "number of norms": (
                lambda layers, hidden, head_dim: 4 * layers + 1,
                "that is the number of norms. Each has as many weights as its vectors have channels.",
            ),
            "QK-norm once": (
                lambda layers, hidden, head_dim: layers * 2 * hidden + 2 * head_dim + hidden,
                "the norms of q and k were counted once. Each layer has its own.",
            ),
            "for each head": (
                lambda layers, hidden, head_dim: layers * 4 * hidden + hidden,
                "q and k have a weight for each channel of one head (head_dim), which all heads share.",
            ),
            "matrices": (
                lambda layers, hidden, head_dim: layers * 2 * (hidden**2 + head_dim**2) + hidden**2,
                "a norm has a vector of weights, one for each channel, not a matrix.",
            ),
            "one layer": (
                lambda layers, hidden, head_dim: 2 * hidden + 2 * head_dim + hidden,
                "only one layer was counted.",
            ),
            "a layer more": (
                lambda layers, hidden, head_dim: (layers + 1) * (2 * hidden + 2 * head_dim),
                "the last norm was counted as a whole layer. It is a single norm of the hidden state.",
            ),
            "last norm of a head": (
                lambda layers, hidden, head_dim: layers * (2 * hidden + 2 * head_dim) + head_dim,
                "the last norm is as long as the hidden state, not as a head.",
            ),
            "no parentheses": (
                lambda layers, hidden, head_dim: layers * 2 * hidden + 2 * head_dim,
                "q and k were counted once, and the last norm is missing. Did you forget parentheses?",
            ),
        },
        accepted={
            "a formula": lambda layers, hidden, head_dim: layers * (2 * hidden + 2 * head_dim) + hidden,
            "a sum": lambda layers, hidden, head_dim: (
                sum(hidden + head_dim + head_dim + hidden for _ in range(layers)) + hidden
            ),
        },
    ),
    Exercise(
        id="02.7",
        title="Ablate: which norm matters most?",
        kind="ablate",
        minutes=12,
        difficulty=3,
        hints=(
            "A function that returns a function. How do you know which norm is being computed?",
            "By its weight: `weight is skipped` compares the tensors themselves, not their numbers.",
            "return lambda x, weight, eps: x if weight is skipped else rms_norm(x, weight, eps).",
        ),
        now_you_know="every norm before the experts is worth several nats to the mini, and one of q hardly anything.",
        prepare=as_results,
        oracle=reference,
        cases=(
            Case("one vector, weights 1 and 2", (torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0]), 0.0)),
            Case("five tokens", draw_vectors(5, 8)),
            Case("a batch of texts", draw_vectors(2, 3, 6)),
            Case("bfloat16", draw_vectors(4, 16, dtype=torch.bfloat16), tolerance=0.01),
            Case("a large eps", draw_vectors(3, 5, eps=0.5)),
        ),
        parts={
            "the skipped norm": lambda results: results[0],
            "another norm": lambda results: results[1],
            "a norm with equal weights": lambda results: results[2],
            "a norm of shorter vectors": lambda results: results[3],
            "the skipped norm, called again": lambda results: results[4],
        },
        mutants={
            "skips all": (skips_all, "no norm is computed at all. Only one is left out."),
            "skips none": (skips_none, "all norms are computed: none is skipped."),
            "the others": (the_others, "the wrong ones are skipped: all but this one."),
            "by value": (
                by_value,
                "norms with equal numbers are skipped, too: before training, all of them. Compare with `is`.",
            ),
            "zeros": (zeros, "the skipped norm returns zeros. Without a norm, x goes on as it is."),
            "weight kept": (weight_kept, "the weight is still multiplied. Without the norm, x goes on as it is."),
            "only the weight": (only_the_weight, "only the weight is left out. The division should go, too."),
            "by shape": (
                by_shape,
                "all norms whose weight has this shape are skipped. Only one is meant: compare with `is`.",
            ),
            "first call only": (
                first_call_only,
                "only the first call is skipped. The model calls each norm once for every text.",
            ),
            "its own eps": (with_its_own_eps, "eps is a fixed number. Pass on the one that the function receives."),
        },
        accepted={"a lambda": without_by_identity, "a function inside": by_definition},
    ),
)
