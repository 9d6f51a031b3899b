"""Is there memory for the parameters? Asked before reading, because too large a load would end in a killed process."""

import os

import torch

from minimoe.errors import PlanTooBig


def require_room(nbytes: int, device: torch.device) -> None:
    """Raises PlanTooBig if `device` has less memory than `nbytes`. Silent where nobody can tell."""
    room = memory_of_device(device)
    if room is not None and nbytes > room:
        raise PlanTooBig(
            f"the weights need {nbytes:,} bytes on {device}, which has {room:,}. Load a part with layers=range(a, b), "
            "choose a smaller dtype, "
            "or ask `minimoe plan` what would hold all of it."
        )


def memory_of_device(device: torch.device) -> int | None:
    """Bytes: free ones of a GPU, all of this machine for the CPU (what others use may be freed); None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
