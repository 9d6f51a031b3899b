"""The output of `minimoe plan`: the sizes of a model, and its placement on devices."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from minimoe.commands.terminal import table
from minimoe.humanize import duration, units
from minimoe.scale.planner.alternatives import alternatives
from minimoe.scale.planner.attention_kernels import LARGEST_FLASH_HEAD
from minimoe.scale.planner.deployment import TAKEN_SOURCE, Deployment
from minimoe.scale.planner.load_time import SPEEDS, reading
from minimoe.scale.planner.model_size import Plan
from minimoe.scale.planner.precision import SIZE_ONLY, own_precision
from minimoe.scale.planner.sharding import Cut
from minimoe.scale.serving.vllm import VLLM, Serving


def sizes_report(sizes: Plan) -> Iterator[str]:
    """The table of parts, all precisions, the KV cache."""
    header = ("", "parameters", "active for a token", f"in {sizes.precision}")
    rows = [(part.name, f"{part.parameters:,}", f"{part.active:,}", units(part.bytes)) for part in sizes.parts]
    total = ("together", f"{sizes.parameters:,}", f"{sizes.active_parameters:,}", units(sizes.weight_bytes))
    yield table([(sizes.name, "", "", ""), header, *rows, total], right=(False, True, True, True))
    yield "weights: " + ", ".join(f"{name} {units(size)}" for name, size in sizes.bytes_by_precision.items())
    if sizes.precision not in sizes.bytes_by_precision:
        yield f"{sizes.precision} is a size only: nothing here reads or writes it"
    kind = "16 bits" if sizes.kv_precision == "bf16" else sizes.kv_precision
    yield (
        f"KV cache in {kind}: {sizes.kv_cache_bytes_per_token:,} bytes a token, "
        f"{units(sizes.kv_cache_bytes)} for {sizes.context:,} tokens"
    )
    yield f"weights and cache: {units(sizes.total_bytes)} (1 GB = 1,000,000,000 bytes)"


def deployment_report(plan: Deployment, card: str = "") -> Iterator[str]:
    """Bytes per rank, missing memory and alternatives, load times, and the table tensor -> rank."""
    memory = f" of {units(plan.device_memory)}{f' ({card})' if card else ''}" if plan.device_memory is not None else ""
    yield ""
    yield f"{plan.devices} {'device' if plan.devices == 1 else 'devices'}{memory}" + described_split(plan)
    header = ("rank", "weights", "KV cache", "work space", "needs", "to spare")
    yield table([header, *rank_rows(plan)], right=(False, True, True, True, True, True))
    if plan.device_memory is not None:
        yield f"reserved on each device: {units(plan.reserve)} (CUDA context, buffers of the collectives, gaps)"
        yield from verdict(plan)
    yield attention_note(plan, card)
    yield from reading_report(plan)
    if plan.devices > 1:
        yield ""
        yield table(tensor_rows(plan), right=(False,) * 5)


def described_split(plan: Deployment) -> str:
    """The split of the model in words."""
    if plan.devices == 1:
        return ""
    if plan.split == "layers":
        return ", each with a run of whole layers"
    experts = "whole experts" if plan.experts == "whole" else "a slice of every expert"
    return f", divided by heads{', ' + experts if plan.config.moe_layers else ''} and vocabulary rows"


def rank_rows(plan: Deployment) -> Iterator[tuple[str, ...]]:
    """One row for each range of ranks with the same needs."""
    spare = [units(left) for left in plan.spare] or [""] * plan.devices
    needs = [
        (units(rank.weights), units(rank.cache), units(rank.work), units(rank.total), left)
        for rank, left in zip(plan.ranks, spare, strict=True)
    ]
    for cells, group in groupby(range(plan.devices), key=lambda rank: needs[rank]):
        ranks = list(group)
        yield (str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]}..{ranks[-1]}", *cells)


def verdict(plan: Deployment) -> Iterator[str]:
    """Whether the plan fits; if not, what would."""
    if plan.fits:
        yield f"it fits: {units(min(plan.spare))} to spare on the fullest device"
        if plan.tight:
            yield (
                f"but tight: {units(plan.tight_bytes)} short if CUDA and NCCL use the most that has been reported, "
                f"{units(plan.reserve + min(plan.spare) + plan.tight_bytes)} a device ({TAKEN_SOURCE})"
            )
        return
    yield f"it does not fit: {units(-min(plan.spare))} short on the fullest device, {units(plan.short_bytes)} in all"
    changes = [alternative.change for alternative in alternatives(plan)]
    yield "what fits: " + "; or ".join(changes) if changes else "no similar plan fits: other devices are needed"


def attention_note(plan: Deployment, card: str) -> str:
    """The attention kernel that the work space is computed for, and why."""
    if plan.attention == "flash":
        return f"attention in the work space: FlashAttention ({card or 'the device'} supports it in 16 bits)"
    why = f"no FlashAttention for this model on {card}" if card else "the largest, as the card is unknown"
    if plan.kernel == "flash":
        why = f"FlashAttention supports 16 bits and heads of up to {LARGEST_FLASH_HEAD}; this is {plan.precision}, " \
              f"heads of {plan.config.head_dim}"  # fmt: skip
    return f"attention in the work space: the plain kernel, which stores all scores ({why})"


def reading_report(plan: Deployment) -> Iterator[str]:
    """Load times at common speeds."""
    own = own_precision(plan.config)
    if plan.precision in SIZE_ONLY:
        return
    read = reading(plan)
    several, nodes = plan.devices > 1, len(read.nodes)
    yield ""
    share = f", {units(max(read.ranks))} a rank: column slices are read whole, copies once per rank"
    yield f"to read: {units(read.total)}{share if several else ''}"
    header = ["from", "one rank alone" if several else "time", *(["all ranks"] if several else [])]
    if nodes > 1:
        header[2:] = [f"all, a disk in each of {nodes} nodes", "all, one shared disk"]
    rows = [
        (name, duration(read.rank_seconds(speed)), duration(read.seconds(speed)), duration(read.shared_seconds(speed)))
        for name, speed in SPEEDS.items()
    ]
    yield table([tuple(header), *(row[: len(header)] for row in rows)], right=(False, *(True,) * (len(header) - 1)))
    if own != plan.precision:
        yield f"from {own} files, converted while they are read: {units(reading(plan, own).total)}"


def serving_report(servers: Iterable[Serving]) -> Iterator[str]:
    """The commands of a server, or the reasons why it does not fit."""
    for number, server in enumerate(servers):
        if number == 0:
            yield f"\nto serve it with vLLM (flags as of {VLLM}; computed, not tested):"
        reason = "" if server.fits else f": no, {server.reason}"
        yield f"\n{server.devices} x {server.card}, {server.precision}{reason}"
        if server.fits:
            yield server.command
            limits = f"up to {server.max_model_len:,} tokens a request, {server.cache_tokens:,} in all requests"
            yield from (f"  # {note}" for note in (limits, *server.notes))


def tensor_rows(plan: Deployment) -> Iterator[tuple[str, ...]]:
    """The table tensor -> rank, for the first and the last rank. Ranges include both ends."""
    last = plan.devices - 1
    yield ("tensor", "cut", "rank 0", f"rank {last}", "held by")
    first, final = ({cut.kind.name: cut for cut in plan.cuts(rank)} for rank in (0, last))
    for name in dict.fromkeys([*first, *final]):
        cut = first.get(name) or final[name]
        shape = " x ".join(f"{size:,}" for size in cut.kind.shape)
        same = "1 rank" if cut.copies == 1 else f"{cut.copies} ranks"
        yield (f"{name} ({shape})", how(cut, plan), held(first.get(name)), held(final.get(name)), same)


def how(cut: Cut, plan: Deployment) -> str:
    """The axis along which a kind of tensor is divided."""
    if cut.axis:
        return cut.axis
    if plan.split == "layers" and cut.copies == 1:
        return "layers" if cut.kind.layers else "whole"
    return "experts" if cut.kind.experts else "copied"


def held(cut: Cut | None) -> str:
    """The part of a kind of tensor on one rank."""
    if cut is None:
        return "nothing"
    if cut.axis:
        return f"{cut.start}..{cut.stop - 1}"
    if cut.kind.experts and len(cut.experts) < cut.kind.experts:
        return f"{cut.experts.start}..{cut.experts.stop - 1}"
    return f"{cut.layers[0]}..{cut.layers[-1]}" if cut.kind.layers and cut.copies == 1 else "all of it"
