"""Chapter 06, the router: the ninth expert in the place of the first (06.6)."""

import torch
from einops import repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Case, Exercise, Stage
from minimoe.course.exercises.ch06_route import TENTHS, close_scores_in_bfloat16, draw, plain_bfloat16
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


def over_tokens(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """Each column has a softmax of its own, and then the ranks."""
    weights, experts = logits.float().softmax(dim=0).topk(top_k + 1, dim=-1)
    weights, experts = weights[:, 1:], experts[:, 1:]
    weights = weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights
    return Routing(logits, experts, weights.to(logits.dtype))


def two_left_out(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(2, top_k + 2)], renormalise)


def without(expert: Tensor, logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """The usual router, without one expert for each token. expert: (token, 1)."""
    shares = logits.float().softmax(dim=-1).scatter(-1, expert, -1.0)
    weights, experts = shares.topk(top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights
    return Routing(logits, experts, weights.to(logits.dtype))


def without_expert_zero(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return without(torch.zeros(len(logits), 1, dtype=torch.int64), logits, top_k, renormalise)


def without_the_first_column(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """As `without_expert_zero`, and all numbers are one too small."""
    routing = without_expert_zero(logits, top_k, renormalise)
    return routing._replace(experts=routing.experts - 1)


def without_the_batchs_favourite(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    favourite = repeat(logits.argmax(dim=-1).mode().values, "-> token 1", token=len(logits))
    return without(favourite, logits, top_k, renormalise)


def from_the_other_end(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    weights, experts = logits.float().softmax(dim=-1).topk(top_k + 1, dim=-1, largest=False)
    weights, experts = weights[:, 1:], experts[:, 1:]
    weights = weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights
    return Routing(logits, experts, weights.to(logits.dtype))


def best_at_minus_infinity(logits: Tensor) -> Tensor:
    return logits.scatter(-1, logits.argmax(dim=-1, keepdim=True), -torch.inf)


def handed_on_without_the_best(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """Right, but the logits of the result have -inf in the place of the best, as after a change in place."""
    return by_ranks(logits, top_k, renormalise)._replace(logits=best_at_minus_infinity(logits))


def masked_and_handed_on(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return softmax_without_the_first(logits, top_k, renormalise)._replace(logits=best_at_minus_infinity(logits))


def rising(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(top_k, 0, -1)], renormalise)


def weights_without_the_first(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return softmax_without_the_first(logits, top_k, renormalise).weights


def weights_for_the_other_flag(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return ranks(logits, [*range(1, top_k + 1)], not renormalise).weights


def first_at_zero(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    """The usual weights with 0 in slot 0, divided if asked."""
    weights = ranks(logits, [*range(top_k)], False).weights.float()
    weights = torch.cat((torch.zeros_like(weights[:, :1]), weights[:, 1:]), dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights
    return weights.to(logits.dtype)


def divided_by_everything(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    weights = ranks(logits, [*range(1, top_k + 1)], False).weights
    return weights / weights.sum() if renormalise else weights


def experts_of_route(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return route(logits, top_k, renormalise).experts


def weights_of_route(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return route(logits, top_k, renormalise).weights


def weights_before(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return ranks(logits, [*range(1, top_k + 1)], False).weights


def in_the_models_dtype(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    weights, experts = logits.softmax(dim=-1).topk(top_k + 1, dim=-1)
    weights, experts = weights[:, 1:], experts[:, 1:]
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights)


def by_one_more(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    _, experts, weights = in_the_models_dtype(logits.float(), top_k, renormalise)
    return Routing(logits, experts, weights.to(logits.dtype))


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
            Case("scores in bfloat16 that lie close together", close_scores_in_bfloat16),
            Case("scores in bfloat16", plain_bfloat16, tolerance=0.01),
        ),
        parts={
            "the experts": lambda routing: routing[1],
            "the weights": lambda routing: routing[2],
        },
        stages=(
            Stage("the experts", experts_of_route, "are those of the usual router: the first is still there"),
            Stage("the weights", weights_of_route, "are those of the usual router"),
            Stage("the weights", weights_before, "are those before renormalising"),
            Stage(
                "the weights",
                weights_without_the_first,
                "are those of a softmax without the first; it should be scored, and then not chosen",
            ),
            Stage("the weights", weights_for_the_other_flag, "are those for the opposite of `renormalise`"),
            Stage("the weights", first_at_zero, "are those of the usual router with 0 for the first"),
            Stage(
                "the weights",
                divided_by_everything,
                "are divided by the sum over all tokens; each token has a sum of its own",
            ),
        ),
        mutants={
            "the model's": (
                in_the_models_dtype,
                "the softmax is taken in the model's dtype. In bfloat16 many experts tie; take it in float32, and cast "
                "at the end.",
            ),
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
            "over tokens": (
                over_tokens,
                "the softmax runs over the tokens. Each token has its own distribution, over experts: dim=-1.",
            ),
            "two left out": (
                two_left_out,
                "two are left out: these are ranks 3 to top_k + 2. The first slot after the best has rank 2.",
            ),
            "without expert 0": (
                without_expert_zero,
                "expert 0 is left out for every token. The best expert is at rank 1, slot 0 after topk; its number "
                "differs from token to token.",
            ),
            "without the first column": (
                without_the_first_column,
                "the first column of the logits is cut off. That leaves out expert 0, and all numbers are one too "
                "small.",
            ),
            "without the batch's favourite": (
                without_the_batchs_favourite,
                "one expert is left out for all tokens. Each token leaves out the one that it wants most.",
            ),
            "handed on without the best": (
                handed_on_without_the_best,
                "experts and weights are right, but the logits have -inf in the place of the best. Return them as they "
                "came, and work on a copy.",
            ),
            "masked and handed on": (
                masked_and_handed_on,
                "the first was masked before the softmax, so that the probabilities of all others grew, and the masked "
                "logits are returned. Work on a copy of the probabilities.",
            ),
            "rising": (rising, "the right ranks in rising order. Slots go by falling weight: rank 2 is in slot 0."),
            "from the other end": (
                from_the_other_end,
                "the ranks are counted from the lowest score. Rank 1 is the highest.",
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
