"""Can this model be divided among so many devices? If not: why, and what can be done.

Asked before a single byte is read. Engines that find out later fail at the first request, or while loading: FP8 blocks
at 8 ranks (vllm-project/vllm #17569), GPTQ groups (#17604), more ranks than key/value heads (huggingface/transformers
#48307).
"""

from collections.abc import Iterator

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.precision import check_count, whole_units
from minimoe.scale.planner.sharding import EXPERT_SPLITS, SPLITS, cuts

MOST_DEVICES = 64  # no suggestion goes further
NAMES = {
    "fp8": "FP8 blocks are",
    "int8": "int8 groups are",
    "int4": "int4 groups are",
    "3-bit": "3-bit groups are",
    "gptq-int4": "what GPTQ-Int4 packs together is",
}


def refuse_uneven(config: ModelConfig, devices: int, split: str, experts: str, precision: str) -> None:
    """Raise BadArgument if `config` cannot be divided like this; the sentence has the reason and the mend."""
    check_count("devices", devices, "devices", 1)
    for name, value, known in (("split", split, SPLITS), ("experts", experts, EXPERT_SPLITS)):
        if value not in known:
            raise BadArgument(f"{name} is {value!r}, expected {' or '.join(map(repr, known))}.")
    reason = next(obstacles(config, devices, split, experts, precision), None)
    if reason is not None:
        way_out = mend(config, devices, split, experts, precision)
        raise BadArgument(f"devices is {devices} with split {split!r}, but {reason}. {way_out}")


def divides(config: ModelConfig, devices: int, split: str, experts: str, precision: str) -> bool:
    """Whether there is no obstacle."""
    return next(obstacles(config, devices, split, experts, precision), None) is None


def obstacles(config: ModelConfig, devices: int, split: str, experts: str, precision: str) -> Iterator[str]:
    """Everything that does not divide, as the second half of a sentence."""
    if split == "layers":
        if devices > config.num_hidden_layers:
            yield f"the model has {config.num_hidden_layers} layers and each device needs one at least"
        return
    heads, shared, layers = config.num_attention_heads, config.num_key_value_heads, config.num_hidden_layers
    if heads % devices:
        yield f"{heads} query heads cannot be dealt out evenly: each rank takes whole heads"
    if shared % devices if devices <= shared else devices % shared:
        yield f"{shared} key/value heads can neither be dealt out evenly nor each be kept on equally many ranks"
    if config.moe_layers and experts == "whole" and config.num_experts % devices:
        yield f"{config.num_experts} experts cannot be dealt out evenly: each rank takes whole experts"
    if config.moe_layers and experts == "split" and config.moe_intermediate_size % devices:
        yield f"an expert's width of {config.moe_intermediate_size} is no multiple of it"
    if len(config.moe_layers) < layers and config.intermediate_size % devices:
        yield f"the dense feed-forward's width of {config.intermediate_size} is no multiple of it"
    if devices > 1:
        yield from broken_units(config, devices, experts, precision)


def broken_units(config: ModelConfig, devices: int, experts: str, precision: str) -> Iterator[str]:
    """Matrices that would be cut inside a block or group of the packed format."""
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


def mend(config: ModelConfig, devices: int, split: str, experts: str, precision: str) -> str:
    """What would work instead, as a sentence; every way out that it names has been tried."""
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
    """1, 2 or 4."""
    return f"{', '.join(map(str, counts[:-1]))} or {counts[-1]}" if counts[1:] else str(counts[0])
