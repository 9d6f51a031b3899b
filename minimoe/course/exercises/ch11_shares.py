"""Chapter 11, training: how often each expert is chosen, and how probable it is (11.1)."""

from collections.abc import Callable
from typing import Any

import torch
from einops import reduce
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Case, Exercise, Stage
from minimoe.course.checker.parts import element

Both = tuple[Tensor, Tensor]


def shares(logits: Tensor, top_k: int) -> Both:
    """f and P of each expert, token after token."""
    tokens, experts = logits.shape
    f, p = torch.zeros(experts), torch.zeros(experts)
    for row in logits.float():
        probabilities = row.exp() / row.exp().sum()
        for expert in row.argsort(descending=True)[:top_k].tolist():
            f[expert] += 1 / tokens
        p += probabilities / tokens
    return f, p


def parts(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """(probabilities (token, expert), weights (token, slot), hits (token, expert))."""
    probabilities = logits.float().softmax(dim=-1)
    weights, experts = probabilities.topk(top_k, dim=-1)
    return probabilities, weights, F.one_hot(experts, logits.shape[-1]).float().sum(dim=1)


def by_one_hot(logits: Tensor, top_k: int) -> Both:
    probabilities, _, hits = parts(logits, top_k)
    return hits.mean(dim=0), probabilities.mean(dim=0)


def by_bincount(logits: Tensor, top_k: int) -> list[Tensor]:
    tokens, experts = logits.shape
    counts = logits.topk(top_k).indices.flatten().bincount(minlength=experts)
    return [counts / tokens, reduce(logits.float().softmax(-1), "token expert -> expert", "mean")]


def changed(f: Callable[..., Tensor] | None = None, p: Callable[..., Tensor] | None = None) -> Callable[..., Both]:
    """An answer with another f or another P; both take (probabilities, weights, hits, top_k)."""

    def mistaken(logits: Tensor, top_k: int) -> Both:
        probabilities, weights, hits = parts(logits, top_k)
        chosen = hits.mean(dim=0) if f is None else f(probabilities, weights, hits, top_k)
        mean = probabilities.mean(dim=0) if p is None else p(probabilities, weights, hits, top_k)
        return chosen, mean

    return mistaken


def slots_counted(probabilities: Tensor, weights: Tensor, hits: Tensor, top_k: int) -> Tensor:
    return hits.mean(dim=0) / top_k


def first_choice_only(probabilities: Tensor, weights: Tensor, hits: Tensor, top_k: int) -> Tensor:
    return F.one_hot(probabilities.argmax(dim=-1), probabilities.shape[-1]).float().mean(dim=0)


def weighed(probabilities: Tensor, weights: Tensor, hits: Tensor, top_k: int) -> Tensor:
    return (hits * probabilities).mean(dim=0)


def renormalised(probabilities: Tensor, weights: Tensor, hits: Tensor, top_k: int) -> Tensor:
    return (hits * probabilities / weights.sum(dim=-1, keepdim=True)).mean(dim=0)


def counts(probabilities: Tensor, weights: Tensor, hits: Tensor, top_k: int) -> Tensor:
    return hits.sum(dim=0)


def sums(probabilities: Tensor, weights: Tensor, hits: Tensor, top_k: int) -> Tensor:
    return probabilities.sum(dim=0)


def over_tokens(logits: Tensor, top_k: int) -> Both:
    """The softmax of the columns, for f and for P."""
    probabilities = logits.float().softmax(dim=0)
    hits = F.one_hot(probabilities.topk(top_k, dim=-1).indices, logits.shape[-1]).float().sum(dim=1)
    return hits.mean(dim=0), probabilities.mean(dim=0)


def mean_score_first(logits: Tensor, top_k: int) -> Both:
    return shares(logits, top_k)[0], logits.float().mean(dim=0).softmax(dim=-1)


def twice(logits: Tensor, top_k: int) -> Both:
    return shares(logits, top_k)[0], logits.float().softmax(dim=-1).softmax(dim=-1).mean(dim=0)


def best_tokens_of_each_expert(logits: Tensor, top_k: int) -> Both:
    """Top-k along the wrong axis: each expert takes its best tokens."""
    best = logits.topk(min(top_k, len(logits)), dim=0).indices
    return torch.full((logits.shape[-1],), float(len(best))) / len(logits), shares(logits, top_k)[1]


def no_softmax(logits: Tensor, top_k: int) -> Both:
    return shares(logits, top_k)[0], logits.float().mean(dim=0)


def exchanged(logits: Tensor, top_k: int) -> Both:
    f, p = shares(logits, top_k)
    return p, f


def random_scores(tokens: int, experts: int, top_k: int, dtype: torch.dtype = torch.float32) -> Callable[..., Any]:
    """Scores without ties, also in bfloat16: a permutation of a row of steps for each token."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int]:
        rows = [torch.randperm(experts, generator=generator) for _ in range(tokens)]
        return (torch.stack(rows) * 0.25 - 1.0).to(dtype), top_k

    return arguments


HAND = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.1, 0.3]]).log()  # two tokens, three experts

EXERCISES = (
    Exercise(
        id="11.1",
        title="f and P: chosen, and probable",
        kind="fill in",
        minutes=10,
        difficulty=2,
        hints=(
            "f counts choices, P averages probabilities. Both have one number for each expert.",
            "logits.softmax(dim=-1) is (token, expert), its topk gives experts (token, slot). F.one_hot of the experts "
            "is (token, slot, expert).",
            "P: the mean of the softmax over tokens. f: the one-hot choices, summed over slots, and their mean over "
            "tokens. f sums to top_k, P to one.",
        ),
        now_you_know="f says what the router does and has no gradient; P says what it leans to, and has one.",
        oracle=shares,
        cases=(
            Case("two tokens, three experts, one choice, by hand", (HAND, 1),
                 (torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.65, 0.15, 0.2]))),
            Case("the same, two choices", (HAND, 2), (torch.tensor([1.0, 0.5, 0.5]), torch.tensor([0.65, 0.15, 0.2]))),
            Case("random scores", random_scores(7, 5, 2)),
            Case("more experts than tokens", random_scores(3, 8, 3)),
            Case("scores in bfloat16; the shares are float32", random_scores(6, 9, 4, torch.bfloat16)),
        ),
        parts={"f": element(0), "P": element(1)},
        stages=(
            Stage("f", lambda x, k: (shares(x, k)[0] * len(x)).round().long(), "holds counts; divide by the tokens"),
            Stage("f", lambda x, k: F.one_hot(x.topk(k).indices, x.shape[-1]).float().mean(1), "is still per token"),
            Stage("P", lambda x, k: x.float().softmax(-1), "is still per token; average over the tokens"),
        ),
        mutants={
            "per slot": (
                changed(f=slots_counted),
                "f is divided by the number of slots, so it sums to one. Here it is the share of tokens that chose the "
                "expert in any slot, and sums to top_k.",
            ),
            "first choice only": (
                changed(f=first_choice_only),
                "f counts each token's best expert only. Its other choices count, too.",
            ),
            "weights for choices": (
                changed(f=weighed),
                "f adds up probabilities of the chosen. It counts: a choice is one, whatever its weight.",
            ),
            "renormalised weights for choices": (
                changed(f=renormalised),
                "f adds up renormalised weights. It counts: a choice is one, whatever its weight.",
            ),
            "counts": (changed(f=counts), "f holds counts. Divide by the number of tokens."),
            "sums": (changed(p=sums), "P is a sum over the tokens; it is a mean, and sums to one over the experts."),
            "P of the chosen": (
                changed(p=weighed),
                "P averages the chosen only. The probability of an expert that was not chosen counts too: that is how "
                "it gets a gradient.",
            ),
            "P of the renormalised": (
                changed(p=renormalised),
                "P averages the renormalised weights of the chosen. It is the mean of the softmax over all experts.",
            ),
            "counts and sums": (
                changed(f=counts, p=sums),
                "both are sums over the tokens; divide both by the number of tokens.",
            ),
            "over tokens": (
                over_tokens,
                "the softmax runs over the tokens. Each token has its own distribution over experts: dim=-1.",
            ),
            "top-k over tokens": (
                best_tokens_of_each_expert,
                "top-k runs over the tokens, so that each expert chooses. In this family each token chooses: dim=-1.",
            ),
            "mean first": (
                mean_score_first,
                "P is the softmax of the mean scores. Take the softmax of each token, then the mean.",
            ),
            "twice": (twice, "the softmax is applied twice, which makes P nearly even."),
            "no softmax": (no_softmax, "P is the mean of the scores. Take the softmax of each token first."),
            "exchanged": (exchanged, "f and P have changed places."),
        },
        accepted={"one-hot": by_one_hot, "bincount, in a list": by_bincount},
    ),
)  # fmt: skip
