"""Chapter 06, the router: the ninth expert in the place of the first (06.6)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Case, Exercise, Stage
from minimoe.course.exercises.ch06_route import TENTHS, draw, plain_bfloat16
from minimoe.model.router import Routing, route


def ninth_for_first(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """Ranks 2 to top_k + 1, by loops."""
    experts, weights = [], []
    for row in logits.double().softmax(dim=-1).tolist():
        order = sorted(range(len(row)), key=lambda expert: -row[expert])[1 : top_k + 1]
        total = sum(row[expert] for expert in order) if renormalise else 1.0
        experts.append(order)
        weights.append([row[expert] / total for expert in order])
    return Routing(logits, torch.tensor(experts), torch.tensor(weights, dtype=logits.dtype))


def ranks(logits: Tensor, keep: list[int], renormalise: bool) -> Routing:
    """The experts of these ranks, counted from 0, with their own probabilities."""
    weights, experts = logits.float().softmax(dim=-1).sort(dim=-1, descending=True)
    weights, experts = weights[:, keep], experts[:, keep]
    weights = weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights
    return Routing(logits, experts, weights.to(logits.dtype))


def ninth_for_eighth(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(top_k - 1), top_k], renormalise)


def ninth_in_the_firsts_place(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [top_k, *range(1, top_k)], renormalise)


def first_left_out(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(1, top_k)], renormalise)


def first_left_out_of_the_old_shares(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """The usual router, and then the first slot is cut off."""
    _, experts, weights = route(logits, top_k, renormalise)
    return Routing(logits, experts[:, 1:], weights[:, 1:])


def seven_never_divided(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(1, top_k)], False)


def all_nine(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(top_k + 1)], renormalise)


def ninth_with_the_firsts_weight(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    _, experts, weights = route(logits, top_k, renormalise)
    other = ranks(logits, [top_k], False).experts
    return Routing(logits, torch.cat([other, experts[:, 1:]], dim=-1), weights)


def never_renormalised(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(1, top_k + 1)], False)


def divided_by_the_old_sum(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    _, experts, weights = ranks(logits, [*range(1, top_k + 1)], False)
    old = ranks(logits, [*range(top_k)], False).weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights / old if renormalise else weights)


def softmax_without_the_first(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """The first is masked before the softmax, so the probabilities of the others grow."""
    first = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()
    return Routing(logits, *route(logits.masked_fill(first, -torch.inf), top_k, renormalise)[1:])


def never_cast(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return Routing(logits, *ranks(logits.float(), [*range(1, top_k + 1)], renormalise)[1:])


def always_divided(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(1, top_k + 1)], True)


def divided_over_nine(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    _, experts, weights = ranks(logits, [*range(top_k + 1)], renormalise)
    return Routing(logits, experts[:, 1:], weights[:, 1:])


def old_weights(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    experts = ranks(logits, [*range(1, top_k + 1)], renormalise).experts
    return Routing(logits, experts, route(logits, top_k, renormalise).weights)


def experts_of_route(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return route(logits, top_k, renormalise).experts


def weights_of_route(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return route(logits, top_k, renormalise).weights


def weights_before(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return ranks(logits, [*range(1, top_k + 1)], False).weights


def by_one_more(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    weights, experts = logits.softmax(dim=-1).topk(top_k + 1, dim=-1)
    weights, experts = weights[:, 1:], experts[:, 1:]
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights)


def by_ranks(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(1, top_k + 1)], renormalise)


EXERCISES = (
    Exercise(
        id="06.6",
        title="Ablate: the ninth takes the place of the first",
        kind="ablate",
        minutes=12,
        difficulty=3,
        hints=(
            "Ask for one more than you need, and leave one out.",
            "topk(top_k + 1) gives (token, nine); a slice along slots makes (token, eight) of weights and of experts.",
            "Softmax over all; topk(top_k + 1); keep [:, 1:] of both; if renormalise, divide by the sum of the new "
            "eight. The ninth is last then, since its weight is the smallest.",
        ),
        now_you_know="the first expert matters far more than an eighth, and the eighth could almost be the ninth.",
        oracle=ninth_for_first,
        cases=(
            Case(
                "two tokens, four experts, two slots, by hand",
                (TENTHS, 2, True),
                Routing(TENTHS, torch.tensor([[3, 2], [3, 2]]), torch.tensor([[0.6, 0.4], [2 / 3, 1 / 3]])),
            ),
            Case("random scores, renormalised", draw(5, 11, 3, True)),
            Case("random scores, not renormalised", draw(4, 13, 3, False)),
            Case("scores in bfloat16", plain_bfloat16, tolerance=0.01),
        ),
        parts={"the experts": lambda routing: routing[1], "the weights": lambda routing: routing[2]},
        stages=(
            Stage("the experts", experts_of_route, "are those of the usual router: the first is still there"),
            Stage("the weights", weights_of_route, "are those of the usual router"),
            Stage("the weights", weights_before, "are those before renormalising"),
        ),
        mutants={
            "never cast": (never_cast, "the weights stay in float32. They need the model's dtype."),
            "always divided": (
                always_divided,
                "the weights sum to one even with renormalise=False. Then they keep their own probabilities.",
            ),
            "divided over nine": (
                divided_over_nine,
                "the weights are divided by the sum of all nine. Leave the first out, then divide by the sum of eight.",
            ),
            "the old weights": (
                old_weights,
                "the experts are right, with the weights of ranks 1 to top_k. Each expert keeps its own probability.",
            ),
            "the ninth for the eighth": (
                ninth_for_eighth,
                "the last of the eight was replaced, not the first. Slot 0 holds the expert with the largest weight.",
            ),
            "the ninth in slot 0": (
                ninth_in_the_firsts_place,
                "the right experts, with the ninth in slot 0. Slots go by falling weight, and the ninth has the least.",
            ),
            "seven": (first_left_out, "the first is left out and nothing takes its place: there is one slot too few."),
            "seven of the old shares": (
                first_left_out_of_the_old_shares,
                "the first is cut off and nothing takes its place. Ask topk for one more, and renormalise afterwards.",
            ),
            "seven, never divided": (
                seven_never_divided,
                "the first is cut off and nothing takes its place. Ask topk for one more, and then renormalise.",
            ),
            "nine": (all_nine, "the ninth was added and the first stayed: there is one slot too many."),
            "with the first's weight": (
                ninth_with_the_firsts_weight,
                "the ninth expert has the weight of the first. Each expert keeps its own probability.",
            ),
            "never renormalised": (
                never_renormalised,
                "the weights are never renormalised. With renormalise=True those of the new eight sum to one.",
            ),
            "divided by the old sum": (
                divided_by_the_old_sum,
                "the weights are divided by the sum of the old eight, so that the new eight do not sum to one.",
            ),
            "masked before the softmax": (
                softmax_without_the_first,
                "the first was masked before the softmax, so that the probabilities of all others grew. It should be "
                "scored, and then not chosen.",
            ),
        },
        accepted={"one more, then a slice": by_one_more, "all ranks, in float32": by_ranks},
    ),
)
