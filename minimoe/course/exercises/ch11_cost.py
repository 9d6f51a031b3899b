"""Chapter 11, training: operations and GPU-days of a training run (11.6)."""

from collections.abc import Callable

import torch

from minimoe.course.checker.exercise import Case, Exercise, Stage
from minimoe.course.checker.parts import element
from minimoe.course.exercises.ch06_cost import MINI_SIZES, OTHER_SIZES
from minimoe.model.config import ModelConfig

Both = tuple[float, float]
Cost = Callable[[ModelConfig, float, float, float], Both]
DAY = 24 * 3600


def cost(config: ModelConfig, tokens: float, peak: float, utilisation: float) -> Both:
    """(operations, GPU-days): six for each active parameter and token, without the input embedding."""
    multiplied = config.active_parameters - config.vocab_size * config.hidden_size
    operations = 6 * multiplied * tokens
    return operations, operations / (peak * utilisation) / DAY


def with_operations(count: Callable[[ModelConfig, float], float]) -> Cost:
    """Another number of operations; the days follow from it."""

    def mistaken(config: ModelConfig, tokens: float, peak: float, utilisation: float) -> Both:
        operations = count(config, tokens)
        return operations, operations / (peak * utilisation) / DAY

    return mistaken


def with_days(days: Callable[[float, float, float], float]) -> Cost:
    """Another way from (operations, peak, utilisation) to the days."""

    def mistaken(config: ModelConfig, tokens: float, peak: float, utilisation: float) -> Both:
        operations = cost(config, tokens, peak, utilisation)[0]
        return operations, days(operations, peak, utilisation)

    return mistaken


def multiplied(config: ModelConfig) -> int:
    return config.active_parameters - config.vocab_size * config.hidden_size


def from_the_parts(config: ModelConfig, tokens: float, peak: float, utilisation: float) -> list[float]:
    """Layer by layer: attention, router, chosen experts, norms; the head."""
    c = config
    attention = (2 * c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim * c.hidden_size
    experts = c.num_experts_per_tok * 3 * c.hidden_size * c.moe_intermediate_size
    norms = 2 * c.hidden_size + 2 * c.head_dim
    layer = attention + experts + c.num_experts * c.hidden_size + norms
    active = c.num_hidden_layers * layer + c.hidden_size + c.vocab_size * c.hidden_size
    per_day = peak * utilisation * 60 * 60 * 24
    return [6.0 * active * tokens, 6.0 * active * tokens / per_day]


def in_passes(config: ModelConfig, tokens: float, peak: float, utilisation: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward 2, backward twice as much."""
    forward = 2 * float(multiplied(config)) * tokens
    total = forward + 2 * forward
    return torch.tensor(total, dtype=torch.float64), torch.tensor(
        total / utilisation / peak / 86_400, dtype=torch.float64
    )


EXERCISES = (
    Exercise(
        id="11.6",
        title="Estimate: what a training run costs",
        kind="estimate",
        minutes=12,
        difficulty=3,
        hints=(
            "How many operations does one weight cause for one token in the forward pass, and how many backward?",
            "Forward: a multiplication and an addition. Backward: the same twice, once for the gradient of the weight "
            "and once for that of the input. A GPU does peak · utilisation operations a second.",
            "operations = 6 · (active_parameters - vocab_size · hidden_size) · tokens; days = operations / (peak · "
            "utilisation) / (24 · 3600).",
        ),
        now_you_know="training costs six operations for each active weight and token, and the inactive ones are free "
        "in operations, though not in memory.",
        oracle=cost,
        cases=(
            Case("a tiny model, 100 tokens, 1,000 operations a second, all used", (OTHER_SIZES, 100.0, 1e3, 1.0)),
            Case("the mini, 16.4 million tokens", (MINI_SIZES, 16_384_000.0, 5e10, 0.5)),
            Case(
                "the 235B, a trillion tokens",
                lambda generator: (ModelConfig.named("Qwen3-235B-A22B"), 1e12, 989e12, 0.4),
            ),
        ),
        parts={"the operations": element(0), "the GPU-days": element(1)},
        stages=(
            Stage("the operations", lambda c, t, p, u: 6 * multiplied(c), "are those of one token"),
            Stage("the operations", lambda c, t, p, u: multiplied(c) * t, "are counted as one for each weight"),
            Stage("the operations", lambda c, t, p, u: 3 * multiplied(c) * t, "are counted without additions"),
            Stage("the operations", lambda c, t, p, u: 4 * multiplied(c) * t, "are counted without the forward pass"),
        ),
        mutants={
            "all parameters": (
                with_operations(lambda c, t: 6 * (c.total_parameters - c.vocab_size * c.hidden_size) * t),
                "all experts are counted. A token runs through num_experts_per_tok of them: active_parameters.",
            ),
            "all parameters and the embedding": (
                with_operations(lambda c, t: 6 * c.total_parameters * t),
                "all experts are counted, and the embedding, which is a lookup. Only active weights multiply.",
            ),
            "with the embedding": (
                with_operations(lambda c, t: 6 * c.active_parameters * t),
                "the input embedding is counted. Taking a row of a table is no multiplication.",
            ),
            "without the head": (
                with_operations(lambda c, t: 6 * (c.active_parameters - 2 * c.vocab_size * c.hidden_size) * t),
                "the output head is left out. It is multiplied for every token; only the input embedding is a lookup.",
            ),
            "forward only": (
                with_operations(lambda c, t: 2 * multiplied(c) * t),
                "only the forward pass is counted. The backward pass costs twice as much again.",
            ),
            "backward once": (
                with_operations(lambda c, t: 4 * multiplied(c) * t),
                "the backward pass is counted once. It has two products: for the weights, and for the inputs.",
            ),
            "forward twice": (
                with_operations(lambda c, t: 8 * multiplied(c) * t),
                "the forward pass is counted twice, as with recomputed activations. This page counts it once.",
            ),
            "utilisation left out": (
                with_days(lambda n, peak, use: n / peak / DAY),
                "the GPU is taken to reach its peak. It reaches the share `utilisation` of it.",
            ),
            "utilisation multiplied": (
                with_days(lambda n, peak, use: n / peak * use / DAY),
                "a lower utilisation makes the run longer: divide by it.",
            ),
            "hours": (
                with_days(lambda n, peak, use: n / (peak * use) / 3600),
                "these are hours; a day has 24 of them.",
            ),
            "seconds": (with_days(lambda n, peak, use: n / (peak * use)), "these are seconds; a day has 86,400."),
            "minutes": (
                with_days(lambda n, peak, use: n / (peak * use) / 60),
                "these are minutes; a day has 1,440.",
            ),
            "years": (
                with_days(lambda n, peak, use: n / (peak * use) / DAY / 365),
                "these are years; the page asks for days.",
            ),
            "exchanged": (lambda c, t, p, u: cost(c, t, p, u)[::-1], "the two numbers have changed places."),
        },
        accepted={"from the parts": from_the_parts, "pass by pass": in_passes},
    ),
)
