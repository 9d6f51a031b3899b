"""Detection of NaN and infinity: the logits are checked at no cost, and a bad value is traced back to its tensor.

Inspecting every expert matrix while it is read would take half as long again, so only the logits are checked. The
search for the tensor starts once they are not finite.
"""

import math
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from minimoe.errors import MinimoeError, NotFinite
from minimoe.model.transformer import Transformer

ADVICE = "Compare the files with `minimoe verify PATH --sha256`, and download the one that is damaged again."


def is_finite(values: Tensor) -> bool:
    """Whether `values` hold neither NaN nor infinity. A sum reveals both in a single pass over the memory; if the sum
    itself overflows, every value is inspected.
    """
    if not values.is_floating_point() or values.is_meta:
        return True
    if values.dtype.itemsize == 1:  # float8, which has no arithmetic
        values = values.float()
    return math.isfinite(values.sum().item()) or bool(values.isfinite().all())


def require_finite(model: Transformer, logits: Tensor, token_ids: Tensor) -> None:
    """Check the logits computed for `token_ids` (position). Raises NotFinite, which names the first layer whose output
    is not finite and a tensor with such a value.
    """
    if is_finite(logits):
        return
    layer = first_module_not_finite(model, token_ids)
    where = f": {layer_label(layer)} is the first whose output is not finite" if layer else ""
    raise NotFinite(f"the logits are NaN or infinite after {len(token_ids)} tokens{where}. {cause(model, layer)}")


def cause(model: Transformer, module: str | None) -> str:
    """A sentence that names a tensor with such a value, searched in `module` first, and the fix."""
    tensor = (module and tensor_not_finite(model, f"{module}.")) or tensor_not_finite(model)
    return f"{tensor} holds NaN or infinity. {ADVICE}" if tensor else cause_without_tensor(model)


def cause_without_tensor(model: Transformer) -> str:
    """The remaining causes if every tensor in memory is finite."""
    if model.dtype == torch.float16:
        return 'All weights are finite, so a value exceeded the range of float16. Load with dtype="bf16" or "fp32".'
    return f"No tensor that this process keeps in memory holds such a value. {ADVICE}"


def first_module_not_finite(model: Transformer, token_ids: Tensor) -> str | None:
    """The name of the first module (embedding, layer, norm, head) whose output is not finite, by a second pass.

    None if no module is found, or with several ranks: all of them would have to run the second pass.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return None
    not_finite: list[str] = []

    def check(name: str, module: nn.Module, args: Any, output: Tensor) -> None:
        if not not_finite and not is_finite(output):
            not_finite.append(name)

    named = dict(model.named_modules())
    names = ["embed_tokens", *(f"layers.{number}" for number in model.layer_range), "norm", "lm_head"]
    with ExitStack() as stack, torch.no_grad():
        for name in names:
            if name in named:
                stack.callback(named[name].register_forward_hook(partial(check, name)).remove)
        try:
            cache = model.new_cache(batch=1, capacity=len(token_ids)) if model.chunk else None
            for chunk in token_ids.unsqueeze(0).split(model.chunk or len(token_ids), dim=1):
                if not not_finite:
                    model(chunk, cache=cache, last_only=True)
        except MinimoeError:  # too little memory for a second pass, or a recorder that stops it
            pass
    return not_finite[0] if not_finite else None


def tensor_not_finite(model: nn.Module, prefix: str = "") -> str | None:
    """The name in the checkpoint's files of the first tensor below `prefix` with NaN or infinity; None if none has."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, tensor in tensors.items():
        if not name.startswith(prefix) or tensor.numel() == 0:
            continue
        for row, values in enumerate(tensor if tensor.dim() == 3 else [tensor]):
            if not is_finite(values):
                return name_in_files(name, row if tensor.dim() == 3 and type(model) is Transformer else None)
    return None


def name_in_files(name: str, expert: int | None) -> str:
    """The name in the checkpoint's files of a parameter, or of one expert in a bank. A rank numbers its experts from 0,
    so there `expert` is None and the bank is named.
    """
    name = name if name.startswith("lm_head.") else f"model.{name}"
    if expert is None:
        return name
    bank, _, rest = name.partition(".experts.")
    return f"{bank}.experts.{expert}.{rest}" + ("" if "." in rest else ".weight")


def layer_label(module: str) -> str:
    """ "layers.3" -> "layer 3"; other names are unchanged."""
    return module.replace("layers.", "layer ")
