"""What is said about the memory of Qwen3-235B-A22B, computed and judged.

Nothing here is looked up: every verdict and every figure follows from the config, the cards' memory and the formulas of
the planner, at the claim's own terms or, where it names none, for 32,768 tokens in a 16-bit cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

from minimoe.humanize import listed
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.alternatives import alternatives
from minimoe.scale.planner.deployment import Deployment, deploy
from minimoe.scale.planner.gpus import CARDS
from minimoe.scale.planner.model_size import plan
from minimoe.scale.planner.precision import SIZE_ONLY

MODEL = "Qwen3-235B-A22B"
CONTEXT = 32_768
GB = 10**9
TRUE, FALSE, DEPENDS = "true", "false", "it depends"


@dataclass(frozen=True)
class Verdict:
    """How a claim fares: `verdict` is "true", "false" or "it depends"; `figures` are bytes, and booleans for "fits"."""

    verdict: str
    because: str
    instead: str
    figures: dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """A sentence that people repeat, where it is from, and the function that judges it."""

    key: str
    text: str
    source: str
    judge: Callable[[ModelConfig], Verdict]

    def verdict(self, config: ModelConfig | None = None) -> Verdict:
        """Judge it for `config`; by default for the model that it is about."""
        return self.judge(ModelConfig.named(MODEL) if config is None else config)


def half_precision(config: ModelConfig, claimed: tuple[int, int] = (120 * GB, 140 * GB)) -> Verdict:
    """Two bytes a parameter: does that lie in the range that was claimed?"""
    sizes = plan(config).bytes_by_precision
    low, high = claimed
    really = [name for name, size in sizes.items() if low <= size <= high]
    return Verdict(
        TRUE if low <= sizes["bf16"] <= high else FALSE,
        f"{config.total_parameters:,} parameters of 2 bytes are {gb(sizes['bf16'])}",
        f"{gb(low)} to {gb(high)} is the size in {listed(really)}" if really else "no precision here has that size",
        {"claimed": list(claimed), "bf16": sizes["bf16"]} | {name: sizes[name] for name in really},
    )


def on_cards(
    config: ModelConfig, card: str, devices: int, precisions: tuple[str, ...], context: int = CONTEXT
) -> Verdict:
    """Do `devices` cards hold the model in these precisions? True if in all of them, false if in none."""
    plans = {each: placed(config, card, devices, each, context) for each in precisions}
    fits = [name for name, each in plans.items() if each.fits]
    because = [f"{name}: {margin(each)}" for name, each in plans.items()]
    instead = [f"it holds {listed(fits)}"] if fits else [main_memory(config, plans[precisions[0]])]
    read = {name: each for name, each in plans.items() if name not in SIZE_ONLY}
    instead += [f"{count} such cards hold {name}" for name, one in read.items() for count in more_devices(one)]
    instead += single_card(config, [*read][-1], context) if devices == 1 and read else []
    return Verdict(
        TRUE if len(fits) == len(plans) else DEPENDS if fits else FALSE,
        f"with {context:,} tokens: " + ", ".join(because),
        "; ".join(instead),
        {name: {"fits": each.fits, "short": each.short_bytes, "spare": each.spare[0]} for name, each in plans.items()},
    )


def million_tokens(config: ModelConfig, claimed: int = 1000 * GB, context: int = 1_010_000) -> Verdict:
    """Three layouts of the same task; the claim holds as a rule only if it is near what all of them need."""
    plans = {
        "bf16 on 8 devices": deploy(config, 8, context=context, precision="bf16"),
        "bf16 on 4 devices": deploy(config, 4, context=context, precision="bf16"),
        "fp8 with an fp8 cache on 4 devices": deploy(
            config, 4, context=context, precision="fp8", kv_precision="fp8"
        ),
    }  # fmt: skip
    stored = {name: each.weight_bytes + each.cache_bytes for name, each in plans.items()}
    near = [abs(size - claimed) <= claimed // 4 for size in stored.values()]
    copies = plans["bf16 on 8 devices"].cache_bytes // (context * config.kv_cache_bytes_per_token("bf16"))
    weights = plan(config, precision="bf16").weight_bytes
    cache = context * config.kv_cache_bytes_per_token("bf16")
    return Verdict(
        TRUE if all(near) else DEPENDS if any(near) else FALSE,
        f"weights {gb(weights)} and {context:,} tokens of cache {gb(cache)} are {gb(weights + cache)}; on 8 devices "
        f"the cache is stored {copies} times",
        "weights and cache together, before work space: "
        + ", ".join(f"{name} {gb(size)}" for name, size in stored.items()),
        {"claimed": claimed, "weights": weights, "cache": cache, "copies on 8 devices": copies} | stored,
    )


def placed(config: ModelConfig, card: str, devices: int, precision: str, context: int) -> Deployment:
    """The model on some cards of one kind."""
    return deploy(config, devices, CARDS[card], precision=precision, context=context)


def margin(deployment: Deployment) -> str:
    """ "short by 46 GB" or "fits, 19 GB to spare", over all devices."""
    if not deployment.fits:
        return f"short by {gb(deployment.short_bytes)}"
    return f"fits, {gb(sum(deployment.spare))} to spare{' (tight)' if deployment.tight else ''}"


def main_memory(config: ModelConfig, deployment: Deployment) -> str:
    """How many of the experts have to be stored in the computer's own memory, so that the rest fits on the cards."""
    precision, offloaded = deployment.precision, ceil(deployment.short_bytes / GB)
    experts = sum(part.bytes for part in plan(config, precision=precision).parts if part.name == "experts")
    return (
        f"{precision} runs with {offloaded} GB or more of its {gb(experts)} of experts in the computer's own memory, "
        "at the speed of that memory"
    )


def more_devices(deployment: Deployment) -> list[int]:
    """The larger numbers of the same cards on which the model fits."""
    counts = [alternative.deployment.devices for alternative in alternatives(deployment)]
    return [count for count in counts if count > deployment.devices]


def single_card(config: ModelConfig, precision: str, context: int) -> list[str]:
    """The cards of which one is enough, as a sentence."""
    enough = [name for name in CARDS if placed(config, name, 1, precision, context).fits]
    return [f"one {listed(enough, 'or')} holds {precision}"] if enough else []


def gb(size: int) -> str:
    """Whole decimal gigabytes."""
    return f"{size / GB:,.0f} GB"


GUIDES = "guides to running the model at home"

CLAIMS = (
    Claim("half-precision", "The model takes 120-140 GB in half precision.", GUIDES, half_precision),
    Claim(
        "two-a100", "2x A100 80GB run it comfortably with tensor parallelism.", GUIDES,
        lambda config: on_cards(config, "A100-80GB", 2, ("bf16", "fp8", "int4")),
    ),
    Claim(
        "four-4090", "4x RTX 4090 24GB: tight, but possible with careful quantisation.", GUIDES,
        lambda config: on_cards(config, "RTX 4090", 4, ("int4", "3-bit")),
    ),
    Claim(
        "one-a100", "1x A100 80GB is possible with 4-bit quantisation.", GUIDES,
        lambda config: on_cards(config, "A100-80GB", 1, ("int4",)),
    ),
    Claim(
        "million-tokens", "A context of 1M tokens takes about 1,000 GB of GPU memory.",
        "model card of Qwen3-235B-A22B-Instruct-2507, on ultra-long texts", million_tokens,
    ),
)  # fmt: skip
