"""Chapter 16, the router zoo: gpt-oss's late softmax (16.2) and the bias that got into the weights (16.7)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.model.router import Routing


def linear(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """hidden · weight + bias, summed in float64 and rounded once."""
    return (hidden.double() @ weight.double().T + bias.double()).to(hidden.dtype)


def late_by_loops(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Routing:
    """Choose by the logits, then exponentials of the chosen ones, divided by their sum."""
    logits = linear(hidden, weight, bias)
    experts, weights = [], []
    for row in logits.tolist():
        best = sorted(range(len(row)), key=lambda expert: -row[expert])[:top_k]
        powers = [math.exp(row[expert] - row[best[0]]) for expert in best]
        experts.append(best)
        weights.append([power / sum(powers) for power in powers])
    return Routing(logits, torch.tensor(experts), torch.tensor(weights, dtype=hidden.dtype))


def draw(token: int, width: int, expert: int, top_k: int, dtype: torch.dtype = torch.float32) -> Arguments:
    """Hidden states, a router's matrix and a bias as large as the logits, all eighths, so that bfloat16 is exact."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
        sizes = ((token, width), (expert, width), (expert,))
        found = [torch.randn(size, generator=generator) for size in sizes]
        return (*(each.to(dtype) for each in found), top_k)  # type: ignore[return-value]

    return arguments


def on_a_grid(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
    """Sizes as in `draw`, in bfloat16: the logits of each token are a shuffled row of quarters, without ties."""
    weight = torch.stack([torch.randperm(12, generator=generator) for _ in range(3)], dim=1) / 4 - 1.5
    return torch.eye(3).bfloat16(), weight.bfloat16(), torch.zeros(12).bfloat16(), 4


Chosen = Callable[[Tensor, Tensor], Tensor]  # logits (token, expert), experts (token, slot) -> weights (token, slot)


def late(logits: Tensor, experts: Tensor) -> Tensor:
    return logits.gather(-1, experts).softmax(dim=-1)


def over_all(logits: Tensor, experts: Tensor) -> Tensor:
    return logits.softmax(dim=-1).gather(-1, experts)


def divided(score: Callable[[Tensor], Tensor]) -> Chosen:
    """The scores of the chosen, divided by their sum."""

    def weights(logits: Tensor, experts: Tensor) -> Tensor:
        found = score(logits).gather(-1, experts)
        return found / found.sum(dim=-1, keepdim=True)

    return weights


def router(
    weigh: Chosen = late,
    largest: bool = True,
    choose_with_bias: bool = True,
    weigh_with_bias: bool = True,
    show_bias: bool = True,
    product: bool = False,
) -> Callable[[Tensor, Tensor, Tensor, int], Routing]:
    """gpt-oss's router with a change: other weights, or a bias that reaches only a part of it."""

    def mistaken(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Routing:
        bare = F.linear(hidden, weight)
        full = bare * bias if product else bare + bias
        experts = (full if choose_with_bias else bare).topk(top_k, dim=-1, largest=largest).indices
        weights = weigh(full if weigh_with_bias else bare, experts)
        return Routing(full if show_bias else bare, experts, weights.to(hidden.dtype))

    return mistaken


def ordered_by_number(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Routing:
    logits, experts, weights = router()(hidden, weight, bias, top_k)
    order = experts.argsort(dim=-1)
    return Routing(logits, experts.gather(-1, order), weights.gather(-1, order))


def numbers_alone_ordered(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Routing:
    logits, experts, weights = router()(hidden, weight, bias, top_k)
    return Routing(logits, experts.sort(dim=-1).values, weights)


def left_in_float32(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Routing:
    logits, experts, _ = router()(hidden, weight, bias, top_k)
    return Routing(logits, experts, late(logits.float(), experts))


def in_float64(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Routing:
    logits = linear(hidden, weight, bias)
    best, experts = logits.double().topk(top_k, dim=-1)
    return Routing(logits, experts, best.softmax(dim=-1).to(hidden.dtype))


LATE_MUTANTS: dict[str, tuple[Any, str]] = {
    "over all": (router(over_all), "the softmax runs over all experts, so the weights sum to less than one. gpt-oss "
                 "takes it over the chosen alone."),
    "no bias": (router(choose_with_bias=False, weigh_with_bias=False, show_bias=False),
                "the bias is left out. It belongs to the linear layer: every logit has it."),
    "bias for the choice": (router(weigh_with_bias=False, show_bias=False),
                            "the bias is used for the choice alone, as in DeepSeek V3. In gpt-oss it is a part of the "
                            "logits, and reaches the weights, too."),
    "bias for the choice, shown": (router(weigh_with_bias=False),
                                   "the weights come from logits without the bias. In gpt-oss it is a part of the "
                                   "logits, and reaches the weights, too."),
    "bias for the weights": (router(choose_with_bias=False),
                             "the bias reaches the weights, but not the choice. It is a part of the logits from the "
                             "start."),
    "logits without it": (router(show_bias=False), "experts and weights are right; the logits that are returned lack "
                                                   "the bias."),
    "a factor": (router(product=True), "logits are multiplied by the bias. It is added."),
    "sigmoids": (router(lambda logits, experts: logits.sigmoid().gather(-1, experts)),
                 "the weights are sigmoids, each on its own. gpt-oss takes a softmax over the chosen."),
    "sigmoids, divided": (router(divided(torch.sigmoid)),
                          "the weights are sigmoids, divided by their sum. gpt-oss takes a softmax over the chosen."),
    "over tokens": (router(lambda logits, experts: logits.gather(-1, experts).softmax(dim=0)),
                    "the softmax runs over the tokens. It runs over a token's own slots: dim=-1."),
    "twice": (router(lambda logits, experts: over_all(logits, experts).softmax(dim=-1)),
              "there are two softmaxes, one over all experts and one over the chosen. Take one."),
    "late and twice": (router(lambda logits, experts: late(logits, experts).softmax(dim=-1)),
                       "the softmax over the chosen is taken twice. Take it once."),
    "logits": (router(lambda logits, experts: logits.gather(-1, experts)),
               "the weights are the chosen logits themselves. A softmax over them is missing."),
    "logits, divided": (router(divided(lambda logits: logits)),
                        "the chosen logits are divided by their sum. A softmax takes their exponentials first."),
    "even": (router(lambda logits, experts: torch.full(experts.shape, 1 / experts.shape[1])),
             "all chosen experts have the same weight. A softmax over their logits tells them apart."),
    "exponentials": (router(lambda logits, experts: logits.gather(-1, experts).exp()),
                     "the exponentials are not divided by their sum."),
    "lowest": (router(largest=False), "the experts with the lowest logits are chosen."),
    "by number": (ordered_by_number, "the slots are in the order of the experts' numbers. The largest weight comes "
                                     "first."),
    "numbers alone": (numbers_alone_ordered,
                      "the experts are ordered by number and the weights are not, so they no longer belong together."),
    "left in float32": (left_in_float32, "the weights stay in float32. They have the dtype of hidden."),
}  # fmt: skip

# The bug hunt: the bias in the weights --------------------------------------------------------------------------------


def suspicious(logits: Tensor, bias: Tensor, top_k: int, scale: float) -> Routing:
    """The code on the page."""
    choice = logits.sigmoid() + bias
    weights, experts = choice.topk(top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, scale * weights)


def repaired_by_loops(logits: Tensor, bias: Tensor, top_k: int, scale: float) -> Routing:
    experts, weights = [], []
    for row in logits.tolist():
        scores = [1 / (1 + math.exp(-logit)) for logit in row]
        choice = [score + extra for score, extra in zip(scores, bias.tolist(), strict=True)]
        best = sorted(range(len(row)), key=lambda expert: -choice[expert])[:top_k]
        total = sum(scores[expert] for expert in best)
        experts.append(best)
        weights.append([scale * scores[expert] / total for expert in best])
    return Routing(logits, torch.tensor(experts), torch.tensor(weights, dtype=logits.dtype))


def biased(token: int, expert: int, top_k: int, scale: float, size: float, shift: float = 0.0) -> Arguments:
    """Logits, and a bias of about `size` around `shift`, without near ties in the choice."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, int, float]:
        while True:
            logits = 1.5 * torch.randn(token, expert, generator=generator)
            bias = size * (torch.rand(expert, generator=generator) - 0.5) + shift
            choices = torch.stack([logits.sigmoid() + bias, logits.sigmoid(), logits + bias, (logits + bias).sigmoid()])
            if choices.sort(dim=-1).values.diff(dim=-1).min() > 2e-5:
                return logits, bias, top_k, scale

    return arguments


def hunted(
    choose: Callable[[Tensor, Tensor], Tensor] = lambda logits, bias: logits.sigmoid() + bias,
    weigh: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    divide: bool = True,
    scaled: bool = True,
    after: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda weights, bias, experts: weights,
) -> Callable[[Tensor, Tensor, int, float], Routing]:
    """The repaired router with a change. weigh: logits, bias, experts -> weights before the division."""

    def mistaken(logits: Tensor, bias: Tensor, top_k: int, scale: float) -> Routing:
        experts = choose(logits, bias).topk(top_k, dim=-1).indices
        weights = logits.sigmoid().gather(-1, experts) if weigh is None else weigh(logits, bias, experts)
        weights = weights / weights.sum(dim=-1, keepdim=True) if divide else weights
        weights = after(weights, bias, experts)
        return Routing(logits, experts, scale * weights if scaled else weights)

    return mistaken


def unbiased_scores(logits: Tensor, bias: Tensor, experts: Tensor) -> Tensor:
    return logits.sigmoid().topk(experts.shape[-1], dim=-1).values


def sum_of(logits: Tensor, bias: Tensor, experts: Tensor) -> Tensor:
    return (logits.sigmoid() + bias).gather(-1, experts)


def softmax_of_scores(logits: Tensor, bias: Tensor, experts: Tensor) -> Tensor:
    return logits.sigmoid().gather(-1, experts).softmax(dim=-1)


def taken_away(logits: Tensor, bias: Tensor, top_k: int, scale: float) -> Routing:
    weights, experts = (logits.sigmoid() + bias).topk(top_k, dim=-1)
    weights = weights - bias[experts]
    return Routing(logits, experts, scale * weights / weights.sum(dim=-1, keepdim=True))


HUNT_MUTANTS: dict[str, tuple[Any, str]] = {
    "as it was": (suspicious, "the bias is still in the weights. It is there for the choice alone."),
    "no bias": (hunted(lambda logits, bias: logits.sigmoid()),
                "the bias is gone, from the choice, too. It has to steer the choice, or nothing balances the load."),
    "in the weights alone": (hunted(lambda logits, bias: logits.sigmoid(), sum_of),
                             "the bias is in the weights and not in the choice: just the other way round."),
    "on the logits": (hunted(lambda logits, bias: logits + bias),
                      "the bias is added to the logits. It is added to the scores, after the sigmoid."),
    "on the logits of both": (hunted(lambda logits, bias: logits + bias,
                                     lambda logits, bias, experts: (logits + bias).sigmoid().gather(-1, experts)),
                              "the bias is added to the logits, and reaches the weights through the sigmoid."),
    "after the division": (hunted(weigh=sum_of, after=lambda weights, bias, experts: weights - bias[experts]),
                           "the bias is taken away after the division. It has to be gone before."),
    "added after it": (hunted(after=lambda weights, bias, experts: weights + bias[experts]),
                       "the bias is added to the finished weights. It never touches them."),
    "not divided": (hunted(divide=False), "the weights are not divided by their sum."),
    "no scale": (hunted(scaled=False), "the weights are not multiplied by the scale."),
    "neither": (hunted(divide=False, scaled=False), "the weights are neither divided by their sum nor scaled."),
    "softmax of logits": (hunted(weigh=lambda logits, bias, experts: logits.gather(-1, experts).softmax(dim=-1)),
                          "the weights are a softmax of the chosen logits. Here they are sigmoids, divided by their "
                          "sum."),
    "softmax of scores": (hunted(weigh=softmax_of_scores), "a softmax is taken of the chosen scores. Divide them by "
                                                           "their sum."),
    "best scores": (hunted(weigh=unbiased_scores),
                    "the weights are the best scores, and belong to other experts than the chosen ones."),
    "clamped": (hunted(weigh=lambda logits, bias, experts: sum_of(logits, bias, experts).clamp(min=1e-3)),
                "negative weights are cut off, but the bias is still in the weights."),
    "clamped at zero": (hunted(weigh=lambda logits, bias, experts: sum_of(logits, bias, experts).clamp(min=0)),
                        "negative weights are cut off at 0, but the bias is still in the weights."),
    "absolute": (hunted(weigh=lambda logits, bias, experts: sum_of(logits, bias, experts).abs()),
                 "negative weights lose their sign, but the bias is still in the weights."),
    "mean": (hunted(weigh=lambda logits, bias, experts: sum_of(logits, bias, experts) - bias.mean()),
             "the mean bias is taken away from every weight. Each expert has its own."),
    "by slot": (hunted(weigh=lambda logits, bias, experts: sum_of(logits, bias, experts) - bias[: experts.shape[-1]]),
                "the bias is taken away by slot, so it belongs to other experts. Look it up: bias[experts]."),
    "twice": (hunted(weigh=lambda logits, bias, experts: sum_of(logits, bias, experts) - 2 * bias[experts]),
              "the bias is taken away twice."),
    "chosen by weight": (hunted(lambda logits, bias: logits.sigmoid() - bias),
                         "the bias is subtracted for the choice. It is added."),
}  # fmt: skip

EXERCISES = (
    Exercise(
        id="16.2",
        title="gpt-oss's late softmax",
        kind="fill in",
        minutes=8,
        difficulty=2,
        hints=(
            "Three lines: a linear layer with its bias, the best logits, a softmax over these.",
            "logits are (token, expert), and include the bias. The softmax runs over the slots of a token.",
            "logits = F.linear(hidden, weight, bias); best, experts = logits.topk(top_k, dim=-1); the weights are "
            "best.softmax(dim=-1).",
        ),
        now_you_know="a softmax over the chosen is the softmax over all, renormalised: Qwen3's router reordered.",
        oracle=late_by_loops,
        cases=(
            Case(
                "one token, three experts, two chosen, by hand",
                (torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
                 torch.tensor([0.0, 1.0, -1.0]), 2),
                Routing(
                    torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[1, 2]]), torch.tensor([[0.7310586, 0.2689414]])
                ),
            ),
            Case("random, four of twelve", draw(5, 3, 12, 4)),
            Case("random, two of seven", draw(6, 4, 7, 2)),
            Case("one expert: its weight is 1", draw(3, 4, 6, 1)),
            Case("all experts chosen", draw(4, 3, 5, 5)),
            Case("bfloat16: the weights have the dtype of hidden", on_a_grid, tolerance=0.02),
        ),
        parts={"the logits": lambda result: result.logits, "the experts": lambda result: result.experts,
               "the weights": lambda result: result.weights},
        mutants=LATE_MUTANTS,
        accepted={
            "topk, softmax": router(),
            "over all, divided": router(divided(lambda logits: logits.softmax(dim=-1))),
            "in float64": in_float64,
        },
    ),
    Exercise(
        id="16.7",
        title="Bug hunt: a router tested with zeros",
        kind="bug hunt",
        minutes=10,
        difficulty=2,
        hints=(
            "Which of the two results should know of the bias: the experts, or the weights?",
            "topk returns two things, and here both come from `choice`. The weights are (token, slot), taken from the "
            "scores without the bias, at the chosen experts.",
            "scores = logits.sigmoid(); experts = (scores + bias).topk(top_k).indices; weights = scores.gather(-1, "
            "experts), then divided and scaled as before.",
        ),
        now_you_know="a bias that balances may decide who works, and never how much the work counts.",
        oracle=repaired_by_loops,
        cases=(
            Case("a bias of about 0.4", biased(6, 9, 3, 2.5, 0.8)),
            Case("a bias larger than the scores", biased(5, 8, 3, 1.0, 4.0)),
            Case("a bias that makes most choices negative", biased(5, 7, 5, 2.0, 0.6, -0.7)),
            Case("more experts", biased(4, 20, 6, 2.5, 0.6)),
            Case("no bias: as before", (torch.tensor([[1.0, 0.0, -1.0], [0.5, -2.0, 2.0]]), torch.zeros(3), 2, 2.0)),
        ),
        parts={"the logits": lambda result: result.logits, "the experts": lambda result: result.experts,
               "the weights": lambda result: result.weights},
        stages=(
            Stage("the weights", lambda logits, bias, top_k, scale: suspicious(logits, bias, top_k, scale).weights,
                  "are those of the code on the page, with the bias in them"),
        ),
        given=suspicious,
        mutants=HUNT_MUTANTS,
        accepted={"gather": hunted(), "taken away": taken_away},
    ),
)  # fmt: skip
