"""Checks values while they are read: which tensors are inspected, and which values are errors.

Norms, routers and the scales of packed weights are small, so inspecting them is cheap (below 3 % of the load time),
and one NaN in them spoils every token. Whole matrices are not inspected: that takes half as long as reading them. A NaN
there shows in the logits, see `minimoe.model.finite`; `minimoe verify --sha256`, which reads everything, inspects
everything.
"""

from torch import Tensor

from minimoe.checkpoint.layout import EMBEDDING, HEAD
from minimoe.checkpoint.safetensors.header import Header
from minimoe.errors import NotFinite, WrongModel
from minimoe.model.finite import is_finite
from minimoe.quantisation import Format

SCALES = ("scales", "weight_scale", "weight_scale_inv")  # of gptq, of our own formats, of fp8
PARTS = frozenset(("g_idx", "qzeros", *SCALES))  # the inspected parts of packed matrices


def is_inspected(name: str) -> bool:
    """Whether the tensor of this name on disk is small: a norm, a router, or a scale (or zero point, or group number)
    of packed weights.
    """
    if "_proj" in name:  # the packed matrices; called for 36,000 names, so no regular expression
        return name.rpartition(".")[2] in PARTS
    return name not in (EMBEDDING, HEAD)


def check_values(format: Format, header: Header, name: str, part: Tensor, start: int = 0) -> None:
    """Inspect the values read from one tensor, if it is small; `start` is their first input (a column of the matrix).

    Raises WrongModel if the values are invalid in the format, NotFinite for NaN and infinity.
    """
    if not is_inspected(name):
        return
    if problem := format.check(name.rpartition(".")[2], part, start):
        raise WrongModel(f"{header.file}: {name}: {problem}")
    if not is_finite(part):
        raise NotFinite(
            f"{header.file}: {name} holds NaN or infinity (as {str(part.dtype).removeprefix('torch.')}), expected "
            "finite numbers. Download the file again, or ask its author to save it again."
        )
