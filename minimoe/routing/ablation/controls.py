"""Controls: the same change applied to other experts of the same layer with a similar load.

Removing an expert that many tokens select costs more than removing one that few select, so a random expert would not
be a fair comparison. A control's load (tokens that select it) is between half and twice that of the expert it matches.
"""

import torch
from torch import Tensor

FEWEST = 20  # controls needed for a meaningful distribution
NEAR = 2  # a control has at least 1/NEAR and at most NEAR times the load
TRIES = 50  # draws for each requested set of controls


def draw_controls(load: Tensor, experts: tuple[int, ...], count: int, seed: int) -> tuple[list[tuple[int, ...]], int]:
    """Draw up to `count` different sets that match `experts` one to one; also return the number of candidates.

    load: (expert) tokens that select each expert. With several experts, the number of candidates is that of the
    smallest pool.
    """
    pools = [matching_experts(load, expert, experts) for expert in experts]
    candidates = min((len(pool) for pool in pools), default=0)
    generator = torch.Generator().manual_seed(seed)
    if len(experts) == 1:
        order = torch.randperm(candidates, generator=generator).tolist()
        return [(pools[0][index],) for index in order[:count]], candidates
    sets: dict[tuple[int, ...], None] = {}
    for _ in range(TRIES * count if candidates else 0):
        drawn = [pool[int(torch.randint(len(pool), (1,), generator=generator))] for pool in pools]
        if len(set(drawn)) == len(drawn):
            sets[tuple(sorted(drawn))] = None
        if len(sets) == count:
            break
    return list(sets), candidates


def matching_experts(load: Tensor, expert: int, experts: tuple[int, ...]) -> list[int]:
    """The experts not in `experts` whose load is similar to that of `expert`."""
    near = (load * NEAR >= load[expert]) & (load <= load[expert] * NEAR)
    return [number for number in near.nonzero().flatten().tolist() if number not in experts]
