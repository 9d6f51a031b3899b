"""Checks that a model can be divided among a number of devices, and names the reason and the alternatives if not.

The check runs before any weight is read. Engines without it fail while loading or at the first request: FP8 blocks on 8
ranks (vllm-project/vllm #17569), GPTQ groups (#17604), more ranks than key/value heads (huggingface/transformers
#48307).
"""

from collections.abc import Iterator

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.precision import check_count, whole_units
from minimoe.scale.planner.sharding import EXPERT_SPLITS, SPLITS, cuts

MOST_DEVICES = 64  # the most that is ever suggested
NAMES = {  # subject and verb of the sentence in `broken_units`
    "fp8": "FP8 blocks are",
    "int8": "int8 groups are",
    "int4": "int4 groups are",
    "3-bit": "3-bit groups are",
    "gptq-int4": "what GPTQ-Int4 packs together is",
}


def refuse_uneven(config: ModelConfig, devices: int, split: str, experts: str, precision: str) -> None:
    """Raise BadArgument, with the reason and the fix, if `config` cannot be divided like this."""
    check_count("devices", devices, "devices", 1)
    for name, value, known in (("split", split, SPLITS), ("experts", experts, EXPERT_SPLITS)):
        if value not in known:
            raise BadArgument(f"{name} is {value!r}, expected {' or '.join(map(repr, known))}.")
    reason = next(obstacles(config, devices, split, experts, precision), None)
    if reason is not None:
        fix = suggest_fix(config, devices, split, experts, precision)
        raise BadArgument(f"devices is {devices} with split {split!r}, but {reason}. {fix}")


def divides(config: ModelConfig, devices: int, split: str, experts: str, precision: str) -> bool:
    """Whether `config` can be divided like this."""
    return next(obstacles(config, devices, split, experts, precision), None) is None


def obstacles(config: ModelConfig, devices: int, split: str, experts: str, precision: str) -> Iterator[str]:
    """Everything that does not divide evenly, as clauses for an error message."""
    if split == "layers":
        if devices > config.num_hidden_layers:
            yield f"the model has {config.num_hidden_layers} layers and each device needs at least one"
        return
    heads, shared, layers = config.num_attention_heads, config.num_key_value_heads, config.num_hidden_layers
    if heads % devices:
        yield f"{heads} query heads cannot be dealt out evenly: each rank takes whole heads"
    if shared % devices if devices <= shared else devices % shared:
        yield f"{shared} key/value heads can be neither divided nor replicated evenly"
    if config.moe_layers and experts == "whole" and config.num_experts % devices:
        yield f"{config.num_experts} experts cannot be dealt out evenly: each rank takes whole experts"
    if config.moe_layers and experts == "split" and config.moe_intermediate_size % devices:
        yield f"an expert's width of {config.moe_intermediate_size} is not a multiple of it"
    if len(config.moe_layers) < layers and config.intermediate_size % devices:
        yield f"the dense feed-forward's width of {config.intermediate_size} is not a multiple of it"
    if devices > 1:
        yield from broken_units(config, devices, experts, precision)


def broken_units(config: ModelConfig, devices: int, experts: str, precision: str) -> Iterator[str]:
    """Matrices that would be split inside a block or group of the packed format."""
    units = whole_units(precision)
    for cut in cuts(config, devices, 0, "tensor", experts):
        if not (cut.kind.packed and cut.axis):
            continue
        unit, length = units[cut.axis], cut.stop - cut.start
        if length % unit:
            whole = cut.kind.shape[cut.axis == "columns"]
            yield (
                f"{NAMES[precision]} {unit} wide, and {devices} ranks would cut the {whole:,} {cut.axis} of "
                f"{cut.kind.name} at {length:,}, which is {length / unit:g} of them"
            )


def suggest_fix(config: ModelConfig, devices: int, split: str, experts: str, precision: str) -> str:
    """Divisions that work, as a sentence; each one has been checked."""
    if split == "layers":
        return f"Take {config.num_hidden_layers} devices or fewer."
    counts = [n for n in range(1, MOST_DEVICES + 1) if divides(config, n, split, experts, precision)]
    ways = [f"take {list_of(counts)} device{'s' if counts[1:] else ''}"]
    if divides(config, devices, split, "whole", precision):
        ways.append('keep experts whole (experts="whole")')
    if divides(config, devices, "layers", experts, precision):
        ways.append('divide by layers (split="layers")')
    sentence = ", or ".join(ways)
    return sentence[0].upper() + sentence[1:] + "."


def list_of(counts: list[int]) -> str:
    """The numbers as text: "1, 2 or 4"."""
    return f"{', '.join(map(str, counts[:-1]))} or {counts[-1]}" if counts[1:] else str(counts[0])
