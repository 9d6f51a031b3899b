"""Chapter 16, the router zoo: sparsemixer, two rounds with a softmax each (16.3)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.model.router import Routing
from minimoe.zoo.sparse_mixer import sparsemixer

Distance = Callable[[Tensor, Tensor], Tensor]  # best (token, 1), logits (token, expert) -> (token, expert)


def rounds_by_loops(logits: Tensor, epsilon: float) -> Routing:
    """Token after token, round after round."""
    experts, weights = [], []
    for row in logits.double().tolist():
        left = list(range(len(row)))
        numbers, shares = [], []
        for _ in range(2):
            best = max(left, key=lambda expert: row[expert])
            contenders = [e for e in left if (row[best] - row[e]) / max(abs(row[e]), row[best]) <= 2 * epsilon]
            numbers.append(best)
            shares.append(1 / sum(math.exp(row[e] - row[best]) for e in contenders))
            left.remove(best)
        experts.append(numbers)
        weights.append(shares)
    return Routing(logits, torch.tensor(experts), torch.tensor(weights, dtype=logits.dtype))


def draw(token: int, expert: int, epsilon: float, low: float = -2.0, high: float = 2.0) -> Arguments:
    """Logits between `low` and `high`, none of them at the edge of a round."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, float]:
        while True:
            logits = low + (high - low) * torch.rand(token, expert, generator=generator)
            best = logits.topk(2, dim=-1).values
            edges = [(distance(best[:, n : n + 1], logits) - 2 * epsilon).abs().min() for n in range(2)]
            if min(edges) > 1e-4 and logits.abs().min() > 1e-3:
                return logits, epsilon

    return arguments


def distance(best: Tensor, logits: Tensor) -> Tensor:
    return (best - logits) / torch.maximum(logits.abs(), best)


def rounds(
    far: Distance = distance,
    factor: float = 2.0,
    first_out: bool = True,
    measure_from_first: bool = False,
    swap: bool = False,
    mask_second: bool = True,
    mask_first: bool = True,
    finish: Callable[[Tensor], Tensor] = lambda weights: weights,
) -> Callable[[Tensor, float], Routing]:
    """Sparsemixer with a change of the distance, of who is in a round, or of the weights at the end."""

    def mistaken(logits: Tensor, epsilon: float) -> Routing:
        best, experts = logits.topk(2, dim=-1)
        weights = []
        for slot in range(2):
            left = logits.scatter(-1, experts[:, :1], -torch.inf) if slot and first_out else logits
            from_ = best[:, :1] if measure_from_first else best[:, slot : slot + 1]
            away = far(from_, logits) > factor * epsilon
            away = (~away if swap else away) & (logits != best[:, slot : slot + 1])
            if mask_second if slot else mask_first:
                left = left.masked_fill(away, -torch.inf)
            weights.append(left.softmax(dim=-1).gather(-1, experts[:, slot : slot + 1]))
        return Routing(logits, experts, finish(torch.cat(weights, dim=-1)))

    return mistaken


def of_the_two(logits: Tensor, epsilon: float) -> Routing:
    best, experts = logits.topk(2, dim=-1)
    return Routing(logits, experts, best.softmax(dim=-1))


def of_all(logits: Tensor, epsilon: float) -> Routing:
    weights, experts = logits.softmax(dim=-1).topk(2, dim=-1)
    return Routing(logits, experts, weights)


def both_in_the_first_round(logits: Tensor, epsilon: float) -> Routing:
    """One softmax over the contenders of round 1; the second may be none of them."""
    best, experts = logits.topk(2, dim=-1)
    far = distance(best[:, :1], logits) > 2 * epsilon
    return Routing(logits, experts, logits.masked_fill(far, -torch.inf).softmax(dim=-1).gather(-1, experts))


def on_sorted(logits: Tensor, epsilon: float) -> Routing:
    ranked, order = logits.sort(dim=-1, descending=True)
    weights = []
    for rank in range(2):
        rest = ranked[:, rank:]
        near = distance(rest[:, :1], rest) <= 2 * epsilon
        weights.append(1 / torch.where(near, (rest - rest[:, :1]).exp(), 0.0).sum(dim=-1))
    return Routing(logits, order[:, :2], torch.stack(weights, dim=-1))


def second_first(logits: Tensor, epsilon: float) -> Routing:
    _, experts, weights = rounds()(logits, epsilon)
    return Routing(logits, experts.flip(-1), weights.flip(-1))


def twice(logits: Tensor, epsilon: float) -> Routing:
    _, experts, weights = rounds()(logits, epsilon)
    return Routing(logits, experts[:, [0, 0]], weights[:, [0, 0]])


MUTANTS: dict[str, tuple[Any, str]] = {
    "chosen twice": (twice, "the best expert is chosen in both rounds. After the first one it is out."),
    "sum to one": (rounds(finish=lambda weights: weights / weights.sum(dim=-1, keepdim=True)),
                   "the two weights are divided by their sum. Here each round has a softmax of its own, and the sum is "
                   "not one."),
    "first stays": (rounds(first_out=False), "the first expert is still a contender in the second round. It is out."),
    "one epsilon": (rounds(factor=1.0), "the limit is epsilon. It is twice epsilon."),
    "four epsilon": (rounds(factor=4.0), "the limit is four times epsilon. It is twice epsilon."),
    "absolute": (rounds(lambda best, logits: best - logits),
                 "the distance is absolute. It is relative: divide by the larger of |logit| and the best."),
    "by the best": (rounds(lambda best, logits: (best - logits) / best.abs()),
                    "the distance is divided by the best logit. Divide by the larger of |logit| and the best."),
    "by the other": (rounds(lambda best, logits: (best - logits) / logits.abs()),
                     "the distance is divided by |logit|. Divide by the larger of |logit| and the best."),
    "everyone": (rounds(mask_first=False, mask_second=False),
                 "all experts are contenders in both rounds. Only those close to the best are."),
    "everyone in round 2": (rounds(mask_second=False),
                            "all that are left are contenders in the second round. Only those close to its best are."),
    "everyone in round 1": (rounds(mask_first=False),
                            "all experts are contenders in the first round. Only those close to its best are."),
    "the two": (of_the_two, "the softmax runs over the two chosen, as in gpt-oss. It runs over the contenders of a "
                            "round."),
    "all": (of_all, "there is one softmax over all experts. Each round has its own, over its contenders."),
    "one round": (both_in_the_first_round,
                  "both weights come from the softmax of the first round. The second round has its own best and its "
                  "own contenders."),
    "from the first": (rounds(measure_from_first=True),
                       "the second round is measured from the first expert. It has a best of its own."),
    "always 1": (rounds(finish=torch.ones_like), "the weights are always 1. They are only where there is no other "
                                                 "contender."),
    "far ones": (rounds(swap=True), "the experts that are far away are the contenders. It is those that are close."),
    "the rest": (rounds(finish=lambda weights: torch.cat((weights[:, :1], 1 - weights[:, :1]), dim=-1)),
                 "the second weight is what the first leaves of one. The second round has a softmax of its own."),
    "second first": (second_first, "the slots are in the other order: the first round comes first."),
}  # fmt: skip

EXERCISES = (
    Exercise(
        id="16.3",
        title="Sparsemixer: two rounds",
        kind="fill in",
        minutes=15,
        difficulty=4,
        hints=(
            "Write one round as a few lines that need what is left and return an expert and a weight. Then run it "
            "twice.",
            "In a round: best and expert are (token, 1), from a max over what is left. Contenders are a mask (token, "
            "expert). The weight is a softmax with -inf at all others, gathered at the expert.",
            "far = (best - logits) / logits.abs().clamp(min=best) > 2 * epsilon; weight = left.masked_fill(far, "
            "-inf).softmax(-1).gather(-1, expert); then left = left.scatter(-1, expert, -inf), and again.",
        ),
        now_you_know="a router's weights need not sum to one; what the model was trained with is what it needs.",
        oracle=rounds_by_loops,
        cases=(
            Case(
                "one token by hand: round 1 has two contenders, round 2 one",
                (torch.tensor([[2.0, 1.0, 1.9]]), 0.1),
                Routing(torch.tensor([[2.0, 1.0, 1.9]]), torch.tensor([[0, 2]]), torch.tensor([[0.5249792, 1.0]])),
            ),
            Case("random logits, epsilon 0.1", draw(12, 16, 0.1)),
            Case("a wide limit", draw(8, 10, 0.4)),
            Case("all logits negative", draw(8, 10, 0.15, -2.0, -0.2)),
            Case("the class's own epsilon", draw(20, 16, 0.01, 0.5, 1.5)),
            Case("two experts", draw(6, 2, 0.2)),
        ),
        parts={"the logits": lambda result: result.logits, "the experts": lambda result: result.experts,
               "the weights": lambda result: result.weights},
        teaches=sparsemixer,
        mutants=MUTANTS,
        accepted={"the library": sparsemixer, "sorted": on_sorted, "mask": rounds()},
    ),
)  # fmt: skip
