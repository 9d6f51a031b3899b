"""Chapter 16, the router zoo: a table instead of a choice, as in DeepSeek V4's first layers (16.5)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.model.router import Routing
from minimoe.zoo.hash_routing import hash_route


def by_loops(logits: Tensor, token_ids: Tensor, table: Tensor, scale: float) -> Routing:
    """Look up each token, weigh its experts one by one."""
    experts, weights = [], []
    for row, token in zip(logits.tolist(), token_ids.tolist(), strict=True):
        numbers = table[token].tolist()
        scores = [math.sqrt(math.log1p(math.exp(row[number]))) for number in numbers]
        experts.append(numbers)
        weights.append([scale * score / sum(scores) for score in scores])
    return Routing(logits, torch.tensor(experts), torch.tensor(weights, dtype=logits.dtype))


def draw(token: int, expert: int, vocab: int, slot: int, scale: float) -> Arguments:
    """Logits, ids of which some come twice, and a table with `slot` different experts for each id."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, float]:
        rows = [torch.randperm(expert, generator=generator)[:slot] for _ in range(vocab)]
        ids = torch.randint(vocab, (token,), generator=generator)
        return 2 * torch.randn(token, expert, generator=generator), ids, torch.stack(rows), scale

    return arguments


Score = Callable[[Tensor], Tensor]


def root_of_softplus(logits: Tensor) -> Tensor:
    return F.softplus(logits).sqrt()


def looked_up(
    score: Score = root_of_softplus,
    place: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda logits, ids, table: table[ids],
    divide: bool = True,
    scaled: bool = True,
    weigh: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Callable[[Tensor, Tensor, Tensor, float], Routing]:
    """The hash router with a change. place: logits, ids, table -> experts. weigh: logits, experts -> weights."""

    def mistaken(logits: Tensor, token_ids: Tensor, table: Tensor, scale: float) -> Routing:
        experts = place(logits, token_ids, table)
        weights = score(logits).gather(-1, experts) if weigh is None else weigh(logits, experts)
        weights = weights / weights.sum(dim=-1, keepdim=True) if divide else weights
        return Routing(logits, experts, scale * weights if scaled else weights)

    return mistaken


def formula(logits: Tensor, token_ids: Tensor, table: Tensor) -> Tensor:
    return (rearrange(token_ids, "token -> token 1") + torch.arange(table.shape[-1])) % logits.shape[-1]


def ordered(logits: Tensor, token_ids: Tensor, table: Tensor, scale: float) -> Routing:
    _, experts, weights = looked_up()(logits, token_ids, table, scale)
    weights, order = weights.sort(dim=-1, descending=True)
    return Routing(logits, experts.gather(-1, order), weights)


def ordered_by_number(logits: Tensor, token_ids: Tensor, table: Tensor, scale: float) -> Routing:
    _, experts, weights = looked_up()(logits, token_ids, table, scale)
    experts, order = experts.sort(dim=-1)
    return Routing(logits, experts, weights.gather(-1, order))


def by_library(logits: Tensor, token_ids: Tensor, table: Tensor, scale: float) -> Routing:
    from minimoe.zoo.rule import Rule

    return hash_route(logits, token_ids, table, Rule(score="sqrt_softplus", scale=scale))


def token_by_token(logits: Tensor, token_ids: Tensor, table: Tensor, scale: float) -> Routing:
    experts = torch.stack([table[int(token)] for token in token_ids])
    rows = [root_of_softplus(row[numbers]) for row, numbers in zip(logits, experts, strict=True)]
    return Routing(logits, experts, torch.stack([scale * row / row.sum() for row in rows]))


MUTANTS: dict[str, tuple[Any, str]] = {
    "best": (looked_up(place=lambda logits, ids, table: logits.topk(table.shape[-1], dim=-1).indices),
             "the experts are chosen by their scores. Here the table decides, by the token's id."),
    "positions": (looked_up(place=lambda logits, ids, table: table[torch.arange(len(ids)) % len(table)]),
                  "the table is read at the token's position. It is read at its id."),
    "best logit": (looked_up(place=lambda logits, ids, table: table[logits.argmax(dim=-1) % len(table)]),
                   "the table is read at the best expert. It is read at the token's id."),
    "next row": (looked_up(place=lambda logits, ids, table: table[(ids + 1) % len(table)]),
                 "the table is read one row too far. Row 0 belongs to id 0."),
    "modulo": (looked_up(place=lambda logits, ids, table: formula(logits, ids, table)),
               "the experts follow from the id by a formula. Look them up in the table."),
    "softmax": (looked_up(lambda logits: logits.softmax(dim=-1)),
                "the weights are those of a softmax. V4 takes sqrt(softplus(logit)) of each expert alone."),
    "softmax, not divided": (looked_up(lambda logits: logits.softmax(dim=-1), divide=False),
                             "the weights are a softmax over all experts, as it is. V4 takes sqrt(softplus(logit)) of "
                             "each chosen one, and divides by their sum."),
    "sigmoid": (looked_up(torch.sigmoid), "the scores are sigmoids, as in V3. V4 takes sqrt(softplus(logit))."),
    "not divided": (looked_up(divide=False), "the weights are not divided by their sum."),
    "no scale": (looked_up(scaled=False), "the weights are not multiplied by the scale, or before the division, which "
                 "undoes it."),
    "neither": (looked_up(divide=False, scaled=False), "the weights are neither divided by their sum nor scaled."),
    "even": (looked_up(lambda logits: torch.ones_like(logits)),
             "all experts of a token have the same weight. V4 weighs them by the scores of the router."),
    "ones": (looked_up(lambda logits: torch.ones_like(logits), divide=False, scaled=False),
             "all weights are 1, as in the first paper on hash layers. V4 weighs by the scores of the router."),
    "no root": (looked_up(F.softplus), "the square root is missing: the score is sqrt(softplus(logit))."),
    "no softplus": (looked_up(lambda logits: logits.clamp(min=0).sqrt()),
                    "the softplus is missing: a negative logit has a small score, not 0 and not nan."),
    "a relu": (looked_up(torch.relu), "the scores are the positive part of the logits. V4 takes "
                                      "sqrt(softplus(logit))."),
    "logits": (looked_up(lambda logits: logits), "the weights are the logits themselves. Score them: "
               "sqrt(softplus(logit))."),
    "size of logits": (looked_up(lambda logits: logits.abs().sqrt()),
                       "the root is taken of the size of the logit, so a very negative one weighs much. Softplus "
                       "comes first."),
    "squared": (looked_up(lambda logits: F.softplus(logits) ** 2), "the softplus is squared. V4 takes its square "
                                                                   "root."),
    "root, then softplus": (looked_up(lambda logits: F.softplus(logits.clamp(min=0).sqrt())),
                            "root and softplus are in the other order. The softplus comes first."),
    "by all": (looked_up(divide=False, weigh=lambda logits, experts: (
                   root_of_softplus(logits) / root_of_softplus(logits).sum(dim=-1, keepdim=True)).gather(-1, experts)),
               "the scores are divided by the sum over all experts. Divide by that over the chosen ones."),
    "by weight": (ordered, "the slots are ordered by weight. They stay in the order of the table."),
    "by number": (ordered_by_number, "the slots are ordered by the experts' numbers. They stay in the order of the "
                                     "table."),
}  # fmt: skip

EXERCISES = (
    Exercise(
        id="16.5",
        title="A table instead of a choice",
        kind="fill in",
        minutes=8,
        difficulty=2,
        hints=(
            "Nothing is chosen here. Two questions are left: who is it, and how much does each count?",
            "table[token_ids] is (token, slot). The scores of these experts are gathered from (token, expert).",
            "experts = table[token_ids]; scores = F.softplus(logits).sqrt().gather(-1, experts); the weights are "
            "scale * scores / scores.sum(-1, keepdim=True).",
        ),
        now_you_know="a table needs no balancing and knows no context; the weights can still depend on it.",
        oracle=by_loops,
        cases=(
            Case(
                "two tokens, three experts, by hand",
                (torch.tensor([[0.0, 0.0, 5.0], [0.0, 5.0, 0.0]]), torch.tensor([1, 0]), torch.tensor([[2, 0], [0, 1]]),
                 2.0),
                Routing(torch.tensor([[0.0, 0.0, 5.0], [0.0, 5.0, 0.0]]), torch.tensor([[0, 1], [2, 0]]),
                        torch.tensor([[1.0, 1.0], [1.0, 1.0]])),
            ),
            Case("random, four slots", draw(9, 12, 7, 4, 1.5)),
            Case("random, two slots, a larger scale", draw(6, 5, 20, 2, 2.5)),
            Case("one slot", draw(4, 6, 5, 1, 1.5)),
            Case("all experts", draw(3, 4, 6, 4, 1.0)),
        ),
        parts={"the logits": lambda result: result.logits, "the experts": lambda result: result.experts,
               "the weights": lambda result: result.weights},
        teaches=hash_route,
        mutants=MUTANTS,
        accepted={"the library": by_library, "score, gather": looked_up(), "token by token": token_by_token},
    ),
)  # fmt: skip
