"""Values that are not finite (NaN, infinity): found in the logits at no cost, and then traced back to their tensor.

A matrix of experts is too large to be inspected while it is read (that would take half as long again), so the question
is asked where it costs nothing, of the logits. Only once they are bad does the search begin.
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
    """Whether `values` hold neither NaN nor infinity. A sum shows both and takes a single pass over the memory; where
    the sum itself overflows, every value is inspected.
    """
    if not values.is_floating_point() or values.is_meta:
        return True
    if values.dtype.itemsize == 1:  # float8, which has no arithmetic
        values = values.float()
    return math.isfinite(values.sum().item()) or bool(values.isfinite().all())


def require_finite(model: Transformer, logits: Tensor, token_ids: Tensor) -> None:
    """Check the logits that `token_ids` (position) led to. Raises NotFinite, which names the first layer whose output
    is not finite and a tensor that holds such a value.
    """
    if is_finite(logits):
        return
    layer = first_module_not_finite(model, token_ids)
    where = f": {in_words(layer)} is the first whose output is not finite" if layer else ""
    raise NotFinite(f"the logits are NaN or infinite after {len(token_ids)} tokens{where}. {cause(model, layer)}")


def cause(model: Transformer, module: str | None) -> str:
    """A tensor that holds such a value, looked for in `module` first, and what to do about it."""
    tensor = (module and tensor_not_finite(model, f"{module}.")) or tensor_not_finite(model)
    return f"{tensor} holds NaN or infinity. {ADVICE}" if tensor else no_tensor(model)


def no_tensor(model: Transformer) -> str:
    """What is left when every tensor in memory is finite."""
    if model.dtype == torch.float16:
        return 'All weights are finite, so a value exceeded the range of float16. Load with dtype="bf16" or "fp32".'
    return f"No tensor that this process keeps in memory holds such a value. {ADVICE}"


def first_module_not_finite(model: Transformer, token_ids: Tensor) -> str | None:
    """The name of the first module (embedding, layer, norm, head) whose output is not finite, found by a second pass.

    None if that cannot be said: among ranks a second pass would have to be made by all of them.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return None
    found: list[str] = []

    def look(name: str, module: nn.Module, args: Any, output: Tensor) -> None:
        if not found and not is_finite(output):
            found.append(name)

    named = dict(model.named_modules())
    names = ["embed_tokens", *(f"layers.{number}" for number in model.layer_range), "norm", "lm_head"]
    with ExitStack() as stack, torch.no_grad():
        for name in names:
            if name in named:
                stack.callback(named[name].register_forward_hook(partial(look, name)).remove)
        try:
            cache = model.new_cache(batch=1, capacity=len(token_ids)) if model.chunk else None
            for run in token_ids.unsqueeze(0).split(model.chunk or len(token_ids), dim=1):
                if not found:
                    model(run, cache=cache, last_only=True)
        except MinimoeError:  # too little memory for a second pass, or a recording that stops it
            pass
    return found[0] if found else None


def tensor_not_finite(model: nn.Module, prefix: str = "") -> str | None:
    """The name, as the checkpoint's files have it, of the first tensor below `prefix` that holds NaN or infinity."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, tensor in tensors.items():
        if not name.startswith(prefix) or tensor.numel() == 0:
            continue
        for row, values in enumerate(tensor if tensor.dim() == 3 else [tensor]):
            if not is_finite(values):
                return name_in_files(name, row if tensor.dim() == 3 and type(model) is Transformer else None)
    return None


def name_in_files(name: str, expert: int | None) -> str:
    """The tensor of this parameter, or of this expert's row of a bank. (A rank numbers its experts anew, so there the
    bank is named.)
    """
    name = name if name.startswith("lm_head.") else f"model.{name}"
    if expert is None:
        return name
    bank, _, rest = name.partition(".experts.")
    return f"{bank}.experts.{expert}.{rest}" + ("" if "." in rest else ".weight")


def in_words(module: str) -> str:
    """ "layers.3" -> "layer 3"; other names as they are."""
    return module.replace("layers.", "layer ")
