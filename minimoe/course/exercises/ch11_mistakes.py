"""Chapter 11, training: a balancing loss with three classic mistakes (11.4)."""

from collections.abc import Callable
from itertools import product

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Case, Exercise, Stage

MISTAKES = (
    "the probabilities go through a softmax once more, which makes them nearly even.",
    "P is made of the chosen weights only. It is the mean of all probabilities.",
    "the factor num_experts is missing: even load is to give top_k.",
)


def by_loops(probabilities: Tensor, top_k: int) -> Tensor:
    """The loss of probabilities, expert after expert."""
    tokens, experts = probabilities.shape
    chosen = probabilities.argsort(dim=-1, descending=True)[:, :top_k].tolist()
    shares = [sum(expert in row for row in chosen) / tokens for expert in range(experts)]
    return experts * sum(
        (f * probabilities[:, e].mean() for e, f in enumerate(shares)), torch.zeros((), dtype=probabilities.dtype)
    )


def loss_with(mistakes: tuple[bool, ...]) -> Callable[[Tensor, int], Tensor]:
    """The loss with these of the three MISTAKES."""
    twice, only_chosen, no_factor = mistakes

    def loss(probabilities: Tensor, top_k: int) -> Tensor:
        num_experts = probabilities.shape[-1]
        if twice:
            probabilities = probabilities.softmax(dim=-1)
        weights, experts = probabilities.topk(top_k, dim=-1)
        chosen = F.one_hot(experts, num_experts).to(probabilities.dtype)
        f = reduce(chosen, "token slot expert -> expert", "sum") / len(probabilities)
        p = reduce(probabilities, "token expert -> expert", "mean")
        if only_chosen:
            p = einsum(weights, chosen, "token slot, token slot expert -> expert") / len(probabilities)
        return (f * p).sum() * (1 if no_factor else num_experts)

    return loss


def as_given(probabilities: Tensor, top_k: int) -> Tensor:
    """The code as it stands on the page."""
    num_experts = probabilities.shape[-1]
    probabilities = probabilities.softmax(dim=-1)
    weights, experts = probabilities.topk(top_k, dim=-1)
    chosen = F.one_hot(experts, num_experts).to(probabilities.dtype)
    f = reduce(chosen, "token slot expert -> expert", "sum") / len(probabilities)
    p = einsum(weights, chosen, "token slot, token slot expert -> expert") / len(probabilities)
    return (f * p).sum()


def divided_by_k(probabilities: Tensor, top_k: int) -> Tensor:
    return by_loops(probabilities, top_k) / top_k


def times_tokens(probabilities: Tensor, top_k: int) -> Tensor:
    return by_loops(probabilities, top_k) * len(probabilities) / probabilities.shape[-1]


def times_k(probabilities: Tensor, top_k: int) -> Tensor:
    return by_loops(probabilities, top_k) / probabilities.shape[-1] * top_k


def renormalised(probabilities: Tensor, top_k: int) -> Tensor:
    weights, experts = probabilities.topk(top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    p = torch.zeros_like(probabilities).scatter(-1, experts, weights).mean(dim=0)
    f = F.one_hot(experts, probabilities.shape[-1]).to(p.dtype).sum(dim=1).mean(dim=0)
    return probabilities.shape[-1] * (f * p).sum()


def in_one_einsum(probabilities: Tensor, top_k: int) -> Tensor:
    hits = torch.zeros_like(probabilities).scatter(-1, probabilities.topk(top_k).indices, 1.0)
    f = reduce(hits, "token expert -> expert", "mean")
    return einsum(f, probabilities, "expert, token expert -> ") * probabilities.shape[-1] / len(probabilities)


def by_counting(probabilities: Tensor, top_k: int) -> Tensor:
    tokens, num_experts = probabilities.shape
    flat = rearrange(probabilities.topk(top_k).indices, "token slot -> (token slot)")
    return num_experts * (flat.bincount(minlength=num_experts) / tokens * probabilities.mean(dim=0)).sum()


def random_shares(tokens: int, experts: int, top_k: int) -> Callable[[torch.Generator], tuple[Tensor, int]]:
    """Probabilities of random scores."""
    return lambda generator: ((2 * torch.randn(tokens, experts, generator=generator)).softmax(dim=-1), top_k)


EVEN = (torch.eye(4) * 0.76 + 0.06).repeat(2, 1)  # eight tokens, each sure of another of four experts in turn
SAME = torch.tensor([[0.5, 0.5, 0.0, 0.0, 0.0]]).repeat(3, 1)

EXERCISES = (
    Exercise(
        id="11.4",
        title="Bug hunt: three classic mistakes",
        kind="bug hunt",
        minutes=12,
        difficulty=3,
        hints=(
            "Ask for the two values that you know: an even load, and all tokens on the same experts.",
            "The argument holds probabilities already. Which line treats it as scores? Over which tokens is P an "
            "average, and by what is the sum multiplied?",
            "No second softmax; P is the mean of all probabilities over the tokens; the sum is multiplied by "
            "num_experts.",
        ),
        now_you_know="each of the three leaves a loss that falls, and none of them keeps the experts in use.",
        oracle=by_loops,
        cases=(
            Case("eight tokens, four experts, each chosen twice: top_k", (EVEN, 1), torch.tensor(1.0)),
            Case("all tokens on the same two of five: the number of experts", (SAME, 2), torch.tensor(5.0)),
            Case("random probabilities", random_shares(9, 6, 2)),
            Case("three choices", random_shares(5, 8, 3)),
        ),
        stages=(Stage("", lambda p, k: by_loops(p, k) * len(p), "is as many times too large as there are tokens"),),
        mutants={
            "left: " + ", ".join(str(n) for n, left in enumerate(way, 1) if left): (
                loss_with(way),
                " Also: ".join(says for says, left in zip(MISTAKES, way, strict=True) if left),
            )
            for way in product((False, True), repeat=3)
            if any(way)
        }
        | {
            "divided by k": (
                divided_by_k,
                "the loss is divided by top_k. That is the papers' form; on this page an even load gives top_k.",
            ),
            "times tokens": (
                times_tokens,
                "it is multiplied by the number of tokens; the factor is the number of experts.",
            ),
            "a mean": (
                lambda p, k: by_loops(p, k) / p.shape[-1] ** 2,
                "it is the mean over the experts. It is their number times the sum.",
            ),
            "times k": (times_k, "the factor is top_k; it is the number of experts."),
            "renormalised": (
                renormalised,
                "P is the mean of renormalised weights. It is the mean of all probabilities, as they came.",
            ),
        },
        accepted={"one einsum": in_one_einsum, "by counting": by_counting},
        given=as_given,
    ),
)
