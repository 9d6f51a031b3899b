"""`vllm serve` commands for a checkpoint on a number of GPUs, computed by the planner.

This library has no server. vLLM reads the same files, batches requests and serves the OpenAI protocol. The arguments of
a command follow from arithmetic: the number of GPUs on which the weights fit, whether the packed blocks of an expert
would be split, and the context that fits the remaining memory.

The planner gets vLLM's memory budget: the fraction --gpu-memory-utilization of a GPU, minus the usual reserve for the
CUDA context and NCCL. --max-num-batched-tokens is the planner's chunk; vLLM's attention kernels never store the scores,
on any GPU. Tensor parallelism divides every expert; --enable-expert-parallel keeps experts whole, and is set if the
division would split a block of FP8 or a group of GPTQ (vllm-project/vllm #17569, #17604). Each rank then does not load
the experts of the others (--enable-ep-weight-filter, #37351).

All flags exist in vLLM 0.32. The commands are computed and have not been run on these GPUs. With --reasoning-parser the
server sends a thought in a separate field; `openai_client.ask` joins it with the text again.
"""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimoe.errors import BadArgument
from minimoe.humanize import units
from minimoe.model.config import ModelConfig, published_name
from minimoe.paths import find, models_folder
from minimoe.scale.planner.alternatives import alternatives, longest_context
from minimoe.scale.planner.deployment import RESERVE, Deployment, deploy
from minimoe.scale.planner.divisibility import MOST_DEVICES, divides, list_of, obstacles
from minimoe.scale.planner.gpus import CARDS, Card, find_card
from minimoe.scale.planner.precision import check_count, own_precision

VLLM = "0.32"
FRACTION = 0.92  # vLLM's default; explicit in the command, because it has changed before
CHUNK = 2048  # tokens per forward pass
PAGE = 16  # tokens in a block of vLLM's cache
SUFFIXES = {"bf16": "", "fp8": "-FP8", "gptq-int4": "-GPTQ-Int4"}
FIRST_BF16, FIRST_FP8 = (8, 0), (8, 9)  # compute capabilities
NEVER_THINKS = ("-Instruct", "-Coder")  # models of the family without thinking: no reasoning parser


@dataclass(frozen=True)
class Serving:
    """One checkpoint on a number of cards: the command and its plan, or the reason why there is none."""

    model: str
    precision: str
    devices: int
    card: str
    fraction: float
    deployment: Deployment | None
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return self.deployment is not None

    @property
    def max_model_len(self) -> int:
        """The maximum length of a prompt with its reply, in tokens; 0 if the model does not fit."""
        return self.deployment.context if self.deployment else 0

    @property
    def cache_tokens(self) -> int:
        """Capacity of the cache in tokens, for all requests together; 0 if the model does not fit."""
        if self.deployment is None:
            return 0
        largest = self.deployment.largest
        bytes_per_token = -(-largest.cache // self.deployment.context)
        return self.deployment.context + min(self.deployment.spare) // bytes_per_token

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command as a list of words; empty if the model does not fit."""
        if self.deployment is None:
            return ()
        words = ["vllm", "serve", self.model, "--tensor-parallel-size", str(self.devices)]
        if self.deployment.experts == "whole" and self.deployment.config.moe_layers and self.devices > 1:
            words += ["--enable-expert-parallel", "--enable-ep-weight-filter"]
        words += ["--max-model-len", str(self.max_model_len), "--max-num-batched-tokens", str(CHUNK)]
        words += ["--gpu-memory-utilization", f"{self.fraction:g}"]
        if not any(kind in self.model for kind in NEVER_THINKS):
            words += ["--reasoning-parser", "qwen3"]
        return tuple(words)

    @property
    def command(self) -> str:
        """The command for a shell, one flag per line."""
        return " ".join(map(shlex.quote, self.arguments)).replace(" --", " \\\n    --")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        keys = ("model", "precision", "devices", "card", "fits", "reason", "max_model_len", "cache_tokens")
        return {key: getattr(self, key) for key in keys} | {
            "arguments": list(self.arguments), "notes": list(self.notes), "vllm": VLLM,
        }  # fmt: skip


def vllm_commands(
    model: str | Path | ModelConfig,
    devices: Iterable[int] = (4, 8),
    card: str | int | Card = "H100",
    fraction: float = FRACTION,
    name: str = "",
) -> tuple[Serving, ...]:
    """Commands for every released form of a model (bf16, FP8, GPTQ-Int4) on each number of cards.

    model: a name of the family, in any of its forms; or a folder or config, for which only its own form is planned
    (`name`, for a config: the folder or repository that the server opens). card: the name of a GPU, or its memory in
    bytes. fraction: the fraction of that memory that vLLM may use.
    Raises BadArgument for an unknown name, card, number or fraction. For a model that does not fit no error is raised;
    its Serving has the reason.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise BadArgument(f"fraction is {fraction!r}, expected a share of a card's memory above 0, at most 1.")
    known = find_card(card) if isinstance(card, str) else card if isinstance(card, Card) else None
    memory = known.bytes if known else card
    if type(memory) is not int or memory < 1:
        raise BadArgument(f"card is {card!r}, expected the name of a card or its memory in bytes.")
    checkpoints = list(forms(model, name))
    return tuple(
        serving(opened, config, count, memory, known.name if known else units(memory), float(fraction))
        for count in devices
        for opened, config in checkpoints
    )


def forms(model: str | Path | ModelConfig, name: str) -> Iterator[tuple[str, ModelConfig]]:
    """(folder or repository, config) of every released form of the model."""
    if isinstance(model, ModelConfig):
        if not name:
            raise BadArgument("name is empty, expected a folder or a repository of the hub for the server to open.")
        yield name, model
        return
    local = find(model)
    if local.exists():
        yield name or str(model), ModelConfig.from_file(local)
        return
    base = published_name(str(model))
    for suffix in SUFFIXES.values():
        base = base.removesuffix(suffix) if suffix else base
    for suffix in SUFFIXES.values():
        if (models_folder() / f"{base}{suffix}.json").is_file():
            yield f"Qwen/{base}{suffix}", ModelConfig.named(base + suffix)


def serving(opened: str, config: ModelConfig, devices: int, memory: int, card: str, fraction: float) -> Serving:
    """The command, or the reason why there is none, for one checkpoint on `devices` cards of `memory` bytes."""
    check_count("devices", devices, "cards", 1)
    precision = own_precision(config)

    def no(reason: str) -> Serving:
        return Serving(opened, precision, devices, card, fraction, None, reason)

    if precision in ("int4", "int8"):
        return no(f"its weights are in this library's own {precision} format, which vLLM does not read")
    if older(card, FIRST_BF16):
        return no(f"a {card} does not compute in bfloat16, the dtype of this model")
    experts = "split" if divides(config, devices, "tensor", "split", precision) else "whole"
    if reason := next(obstacles(config, devices, "tensor", experts, precision), None):
        counts = [count for count in range(1, MOST_DEVICES + 1) if divides(config, count, "tensor", "whole", precision)]
        return no(f"{reason}. It divides among {list_of(counts)}")

    def planned(context: int) -> Deployment:
        budget = int(memory * fraction)
        return deploy(
            config, devices, budget, precision, context=context, experts=experts, chunk=CHUNK, name=opened,
            kernel="flash",
        )  # fmt: skip

    plan = planned(config.max_position_embeddings)
    placed = plan if plan.fits else longest_context(plan)
    if placed is None:
        return no(too_small(plan, memory, fraction))
    if placed.context > PAGE:
        placed = planned(placed.context // PAGE * PAGE)
    return Serving(opened, precision, devices, card, fraction, placed, notes=tuple(remarks(placed, card)))


def older(card: str, capability: tuple[int, int]) -> bool:
    """Whether this is a known NVIDIA card with a lower compute capability."""
    known = CARDS[card].capability if card in CARDS else None
    return known is not None and known < capability


def too_small(plan: Deployment, memory: int, fraction: float) -> str:
    """The reason why a plan does not fit, and the number of cards that would be enough."""
    worst = plan.largest
    counts = [alternative.deployment.devices for alternative in alternatives(plan)]
    more = [count for count in counts if count > plan.devices]
    fix = f"; {more[0]} such cards would do" if more else ""
    return (
        f"a card needs {units(worst.weights)} for weights alone, and {fraction:g} of {units(memory)} less "
        f"{units(RESERVE)} for CUDA and NCCL are {units(plan.usable or 0)}{fix}"
        if worst.weights > (plan.usable or 0)
        else f"besides {units(worst.weights)} of weights on a card there is no memory for a useful context{fix}"
    )


def remarks(plan: Deployment, card: str) -> Iterator[str]:
    """Notes that the command itself does not show."""
    if plan.experts == "whole" and plan.devices > 1 and plan.config.moe_layers:
        yield f"experts stay whole: {plan.devices} slices of one would split the packed blocks of {plan.precision}"
        if plan.precision == "gptq-int4":
            yield "older versions of vLLM cannot keep the experts of GPTQ whole (vllm-project/vllm #15760)"
    if plan.context < plan.config.max_position_embeddings:
        yield f"the model supports {plan.config.max_position_embeddings:,} tokens; the memory holds fewer"
    if plan.precision == "fp8" and older(card, FIRST_FP8):
        yield f"{card} does not compute in FP8: the weights stay FP8, each is converted when it is used"
