"""Placement: how many selections each device computes when the experts of a layer are distributed over devices."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument


@dataclass(frozen=True)
class Placement:
    """The experts on each device: experts (layer, device, place) int64.

    A replicated expert occurs several times in its layer; each copy computes an equal part of its selections.
    """

    experts: Tensor

    def device_load(self, counts: Tensor) -> Tensor:
        """(layer, device) float64: selections that each device computes, for counts (layer, expert). Sums to T k."""
        flat = self.experts.flatten(1)
        copies = torch.zeros_like(counts).scatter_add_(1, flat, torch.ones_like(flat, dtype=counts.dtype))
        parts = counts.double() / copies.clamp(min=1)
        return parts.gather(1, flat).reshape(self.experts.shape).sum(-1)

    def imbalance(self, counts: Tensor) -> Tensor:
        """(layer) float64: load of the busiest device over the mean load, at least 1; 1 without load.

        All other devices wait for the busiest one. Chance: uniform routing is also above 1, so compare with the counts
        of a uniform trace of the same number of tokens.
        """
        load = self.device_load(counts)
        mean = load.mean(-1)
        return torch.where(mean > 0, load.amax(-1) / mean.clamp(min=1e-300), 1.0)


def check_devices(num_experts: int, devices: int, replicas: int) -> None:
    """Raise BadArgument unless all devices can get the same number of experts and replicas."""
    if devices < 1 or replicas < 0 or (num_experts + replicas) % devices:
        raise BadArgument(
            f"devices={devices}, replicas={replicas}: expected a divisor of {num_experts} experts + replicas."
        )


def contiguous_placement(layers: int, num_experts: int, devices: int) -> Placement:
    """Expert e on device e // (E / devices) in every layer, the default of expert parallelism without known loads.

    See `Placement.imbalance` for its quality.
    """
    check_devices(num_experts, devices, 0)
    return Placement(torch.arange(num_experts).reshape(1, devices, -1).repeat(layers, 1, 1))


def balanced_placement(counts: Tensor, devices: int, replicas: int = 0) -> Placement:
    """Greedy placement: the busiest experts first, each on the least loaded device with a free place.

    counts: (layer, expert). After deepseek-ai/EPLB (`replicate_experts`, `balanced_packing`), without its groups and
    nodes: `replicas` extra places are assigned one by one to the expert with the largest load per copy. Copies of an
    expert are placed on different devices if possible. The imbalance on the tokens used for placement is smaller than
    on new tokens: place by one half of the documents and measure `imbalance` on the other. Minimum: 512 tokens; with
    fewer, it balances noise.
    """
    num_experts = counts.shape[1]
    check_devices(num_experts, devices, replicas)
    capacity = (num_experts + replicas) // devices
    table = torch.empty(len(counts), devices, capacity, dtype=torch.int64)
    for layer, loads in enumerate(counts.tolist()):
        copies = [1] * num_experts
        for _ in range(replicas):
            copies[max(range(num_experts), key=lambda e: (loads[e] / copies[e], -e))] += 1
        parts = [(loads[e] / copies[e], e) for e in range(num_experts) for _ in range(copies[e])]
        held: list[list[int]] = [[] for _ in range(devices)]
        load = [0.0] * devices
        for part, expert in sorted(parts, key=lambda pair: (-pair[0], pair[1])):
            free_devices = [device for device in range(devices) if len(held[device]) < capacity]
            device = min(free_devices, key=lambda d: (expert in held[d], load[d], len(held[d]), d))
            held[device].append(expert)
            load[device] += part
        table[layer] = torch.tensor(held)
    return Placement(table)
