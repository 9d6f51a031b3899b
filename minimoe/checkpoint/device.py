"""Memory of a device, checked before reading: a load that is too large would end in a killed process."""

import os

import torch

from minimoe.errors import PlanTooBig


def require_room(nbytes: int, device: torch.device, neighbours: int = 1) -> None:
    """Raises PlanTooBig if `device` has less memory than `nbytes`, or the CPU less than `neighbours` ranks need
    together. Does nothing where the memory is unknown.
    """
    memory = memory_of_device(device)
    if memory is None:
        return
    if nbytes > memory:
        raise PlanTooBig(
            f"the weights need {nbytes:,} bytes on {device}, which has {memory:,}. Load a part with "
            "layers=range(a, b), use a smaller dtype, or see `minimoe plan` for devices that hold all of it."
        )
    if device.type == "cpu" and nbytes * neighbours > memory:
        raise PlanTooBig(
            f"the weights of {neighbours} ranks need {nbytes * neighbours:,} bytes together, {nbytes:,} each, and this "
            f"machine has {memory:,}. Spread the ranks over more machines, or pack the weights (precision)."
        )


def memory_of_device(device: torch.device) -> int | None:
    """Free bytes of a GPU; for the CPU all of this machine, since other programs may free theirs; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
