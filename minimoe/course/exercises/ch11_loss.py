"""Chapter 11, training: the load-balancing loss, with its gradient (11.2)."""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Case, Exercise, Stage
from minimoe.course.checker.parts import element
from minimoe.course.exercises.ch11_shares import random_scores
from minimoe.training.losses import load_balancing_loss

Loss = Callable[[Tensor, int], Any]


def by_loops(logits: Tensor, top_k: int) -> Tensor:
    """The definition, expert after expert."""
    tokens, experts = logits.shape
    probabilities = logits.float().softmax(dim=-1)
    chosen = logits.topk(top_k, dim=-1).indices.tolist()
    total = torch.zeros(())
    for expert in range(experts):
        f = sum(expert in row for row in chosen) / tokens
        total = total + f * probabilities[:, expert].mean()
    return experts * total


def with_gradient(loss: Any) -> Any:
    """The function that returns the value of a loss and its gradient for the logits; zeros if it has none."""
    if not callable(loss):
        return loss

    def both(logits: Tensor, top_k: int) -> Any:
        with torch.enable_grad():
            watched = logits.clone().requires_grad_()
            value = loss(watched, top_k)
            if not isinstance(value, Tensor):
                return value
            gradient = torch.zeros_like(logits)
            if value.requires_grad and value.dim() == 0:
                (found,) = torch.autograd.grad(value, watched, allow_unused=True)
                gradient = gradient if found is None else found
        return value.detach(), gradient

    return both


def f_and_p(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """(f, P, probabilities (token, expert))."""
    probabilities = logits.float().softmax(dim=-1)
    hits = F.one_hot(probabilities.topk(top_k, dim=-1).indices, logits.shape[-1]).float().sum(dim=1)
    return hits.mean(dim=0), probabilities.mean(dim=0), probabilities


def made_of(combine: Callable[..., Tensor]) -> Loss:
    """A loss computed from f, P, the number of experts and top_k."""

    def loss(logits: Tensor, top_k: int) -> Tensor:
        f, p, _ = f_and_p(logits, top_k)
        return combine(f, p, logits.shape[-1], top_k)

    return loss


def over_the_chosen(logits: Tensor, top_k: int) -> Tensor:
    f, _, probabilities = f_and_p(logits, top_k)
    weights, experts = probabilities.topk(top_k, dim=-1)
    chosen = torch.zeros_like(probabilities).scatter(-1, experts, weights)
    return logits.shape[-1] * (f * chosen.mean(dim=0)).sum()


def over_the_renormalised(logits: Tensor, top_k: int) -> Tensor:
    f, _, probabilities = f_and_p(logits, top_k)
    weights, experts = probabilities.topk(top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    chosen = torch.zeros_like(probabilities).scatter(-1, experts, weights)
    return logits.shape[-1] * (f * chosen.mean(dim=0)).sum()


def twice(logits: Tensor, top_k: int) -> Tensor:
    return by_loops(logits.float().softmax(dim=-1), top_k)


def first_choice(logits: Tensor, top_k: int) -> Tensor:
    f, _, _ = f_and_p(logits, 1)
    return logits.shape[-1] * (f * f_and_p(logits, top_k)[1]).sum()


def over_tokens(logits: Tensor, top_k: int) -> Tensor:
    f, _, _ = f_and_p(logits, top_k)
    return logits.shape[-1] * (f * logits.float().softmax(dim=0).mean(dim=0)).sum()


def token_by_token(logits: Tensor, top_k: int) -> Tensor:
    """f and P of single tokens: the mean of the loss of each token alone."""
    return torch.stack([by_loops(row, top_k) for row in rearrange(logits, "token expert -> token 1 expert")]).mean()


def no_softmax(logits: Tensor, top_k: int) -> Tensor:
    f, _, _ = f_and_p(logits, top_k)
    return logits.shape[-1] * (f * logits.float().mean(dim=0)).sum()


def hits_times_probabilities(logits: Tensor, top_k: int) -> Tensor:
    """The library's formula with one einsum."""
    probabilities = torch.softmax(logits.to(torch.float32), -1)
    counts = torch.bincount(probabilities.topk(top_k).indices.reshape(-1), minlength=logits.shape[1])
    return torch.einsum("e,te->", counts / len(logits), probabilities) / len(logits) * logits.shape[1]


def even(tokens: int, experts: int, top_k: int) -> tuple[Tensor, int]:
    """Each token is sure of `top_k` experts, and all experts are chosen equally often."""
    logits = torch.zeros(tokens, experts)
    for token in range(tokens):
        for slot in range(top_k):
            logits[token, (token * top_k + slot) % experts] = 9.0 - 0.5 * slot
    return logits, top_k


def collapsed(tokens: int, experts: int, top_k: int) -> tuple[Tensor, int]:
    """All tokens are sure of the same `top_k` experts."""
    logits = torch.zeros(tokens, experts)
    logits[:, :top_k] = 40.0 - torch.arange(top_k)
    return logits, top_k


EXERCISES = (
    Exercise(
        id="11.2",
        title="The balancing loss",
        kind="fill in",
        minutes=12,
        difficulty=3,
        hints=(
            "Start with f and P of 11.1. Which of the two has a gradient?",
            "f and P are (expert). The loss is a number: a tensor without axes that autograd can go back through.",
            "num_experts times the sum over experts of f times P. Do not call .item(), .tolist() or .detach() on P.",
        ),
        now_you_know="the loss is top_k if the load is even and the number of experts if all tokens choose the same.",
        prepare=with_gradient,
        oracle=with_gradient(by_loops),
        cases=(
            Case("six tokens, six experts, an even load", lambda generator: even(6, 6, 2)),
            Case("all tokens choose the same two of five", lambda generator: collapsed(4, 5, 2)),
            Case("random scores", random_scores(7, 5, 2)),
            Case("more experts than tokens, three choices", random_scores(4, 9, 3)),
            Case("one choice", random_scores(8, 6, 1)),
            Case("scores in bfloat16; the loss is float32", random_scores(6, 7, 2, torch.bfloat16)),
        ),
        parts={"the loss": element(0), "its gradient": element(1)},
        stages=(
            Stage("the loss", lambda x, k: f_and_p(x, k)[0] * f_and_p(x, k)[1], "is still per expert; add them up"),
            Stage("the loss", lambda x, k: x.shape[-1] * f_and_p(x, k)[0] * f_and_p(x, k)[1], "is still per expert"),
        ),
        mutants={
            "no factor": (
                made_of(lambda f, p, experts, k: (f * p).sum()),
                "the factor is missing: with the number of experts, the ideal value does not depend on it.",
            ),
            "divided by k": (
                made_of(lambda f, p, experts, k: experts * (f * p).sum() / k),
                "this is the form of the papers, with f divided by top_k: 1 for an even load. The family's is top_k.",
            ),
            "times k": (
                made_of(lambda f, p, experts, k: experts * k * (f * p).sum()),
                "it is multiplied by top_k. f counts all slots already.",
            ),
            "the mean of the products": (
                made_of(lambda f, p, experts, k: (f * p).mean()),
                "the products are averaged over experts. They are added up and multiplied by the number of experts.",
            ),
            "f squared": (
                made_of(lambda f, p, experts, k: experts * (f * f).sum()),
                "f is multiplied by itself. It has no gradient, so that nothing could be learned; one of the two is P.",
            ),
            "P squared": (
                made_of(lambda f, p, experts, k: experts * (p * p).sum()),
                "P is multiplied by itself. An expert may be the second-best everywhere and never be chosen: "
                "one of the two is f.",
            ),
            "P detached": (
                made_of(lambda f, p, experts, k: experts * (f * p.detach()).sum()),
                "the value is right, but no gradient flows back: P was detached, or turned into plain numbers.",
            ),
            "P of the chosen": (
                over_the_chosen,
                "P averages the chosen only. It is the mean probability over all tokens, chosen or not.",
            ),
            "P renormalised": (
                over_the_renormalised,
                "P averages the renormalised weights. It is the mean of the softmax over all experts.",
            ),
            "two softmaxes": (
                twice,
                "the softmax is applied twice: the logits are scores, and one softmax makes them probabilities.",
            ),
            "first choice": (first_choice, "f counts the best expert of each token only. All top_k choices count."),
            "over tokens": (over_tokens, "P is a softmax over tokens. Each token has a distribution over experts."),
            "token by token": (
                token_by_token,
                "the loss of each token alone, averaged. f and P are averaged over the tokens first, then multiplied.",
            ),
            "no softmax": (no_softmax, "P is the mean of the scores. It is the mean of their softmax."),
            "f minus P": (
                made_of(lambda f, p, experts, k: (f - p).square().sum()),
                "this is the squared distance of f and P. The loss is their product, summed, times the experts.",
            ),
        },
        accepted={
            "the library's": lambda logits, top_k: load_balancing_loss([logits], top_k),
            "counts and einsum": hits_times_probabilities,
        },
        teaches=load_balancing_loss,
    ),
)
