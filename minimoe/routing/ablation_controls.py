"""Controls: the same change made to other experts of the same layer that carry a similar load.

Taking away an expert that many tokens select costs more than one that few select, so a random expert is no fair
comparison. A control's load (tokens that select it) lies between half and twice that of the expert it stands for.
"""

import torch
from torch import Tensor

FEWEST = 20  # controls that make a distribution worth looking at
NEAR = 2  # a control carries at least 1/NEAR and at most NEAR times the load
TRIES = 50  # draws for each set of controls that is asked for


def draw_controls(load: Tensor, experts: tuple[int, ...], count: int, seed: int) -> tuple[list[tuple[int, ...]], int]:
    """Up to `count` different sets that match `experts` one by one, and how many experts each could be drawn from.

    load: (expert) tokens that select each. For several experts the second number is that of the smallest pool.
    """
    pools = [pool(load, expert, experts) for expert in experts]
    candidates = min((len(one) for one in pools), default=0)
    draw = torch.Generator().manual_seed(seed)
    if len(experts) == 1:
        order = torch.randperm(candidates, generator=draw).tolist()
        return [(pools[0][place],) for place in order[:count]], candidates
    found: dict[tuple[int, ...], None] = {}
    for _ in range(TRIES * count if candidates else 0):
        drawn = [one[int(torch.randint(len(one), (1,), generator=draw))] for one in pools]
        if len(set(drawn)) == len(drawn):
            found[tuple(sorted(drawn))] = None
        if len(found) == count:
            break
    return list(found), candidates


def pool(load: Tensor, expert: int, experts: tuple[int, ...]) -> list[int]:
    """The experts outside of `experts` whose load is near that of `expert`."""
    near = (load * NEAR >= load[expert]) & (load <= load[expert] * NEAR)
    return [number for number in near.nonzero().flatten().tolist() if number not in experts]
