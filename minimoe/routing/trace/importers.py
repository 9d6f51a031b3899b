"""Import routing recorded by serving engines: expert ids only, without weights, margins or entropies.

Programs whose router logits can be captured have them: see captures.py.

Sources are responses of a server (see responses.py), arrays, and `.npy` and `.safetensors` files. A `.pt` file is a
pickle, which can run any program when it is opened, so it is never read. SGLang writes such files; save their arrays
in the environment that wrote them:

    record = torch.load(dump)["records"][0]
    safetensors.torch.save_file({"topk_ids_of_layer": record["topk_ids_of_layer"],
                                 "input_ids": torch.tensor(record["input_ids"]),
                                 "positions": torch.tensor(record["positions"])}, "dump.safetensors")

Sources of the formats: sglang `python/sglang/srt/eplb/expert_distribution.py` (mode `per_token`), vLLM's
`CompletionOutput.routed_experts`. The engine determines the order of the slots.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from minimoe.errors import BadArgument, BadTrace, NotFound
from minimoe.model.config import ModelConfig
from minimoe.routing.trace.provenance import describe_tokenizer, installed, require_released
from minimoe.routing.trace.recorder import Pass
from minimoe.routing.trace.responses import Served, is_response, sglang_routing, shortened, vllm_routing
from minimoe.routing.trace.trace import RoutingTrace
from minimoe.routing.trace.trace_file import SCHEMA

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer

Array = np.ndarray | Tensor | list[Any]
UNSET = -1
RECORD, RESPONSE = "layer token slot", "token layer slot"  # SGLang's orders of axes


def from_sglang(
    source: Array | Mapping[str, Any] | str | Path,
    config: ModelConfig,
    tokens: Array | None = None,
    positions: Array | None = None,
    physical_to_logical: Array | None = None,
    tokenizer: "Tokenizer | None" = None,
    label: str | None = None,
    order: str | None = None,
) -> RoutingTrace:
    """A trace from one record of SGLang's `per_token` recorder, or from one response of its server.

    A record has ids (layer, token, 8), -1 in unused slots. A bare array may also be (token, layer, slot), as in a
    response; the number of layers tells them apart. If there are as many tokens as layers, `order` must be
    "layer token slot" or "token layer slot". tokens, positions: (token); by default `input_ids` and
    `positions` of the safetensors file. A new sequence begins at each position that is not its predecessor plus one.
    With expert-parallel load balancing the ids are physical: physical_to_logical (layer, physical id) maps them to
    experts.
    A response is a dict, JSON text, the path of a .json file, or the base64 text of its routed experts. tokens: the ids
    of prompt and reply, if they are not in the response. Raises BadArgument, NotFound, BadTrace.
    """
    if is_response(source):
        assert isinstance(source, Mapping | str | Path)
        return from_sglang_response(source, config, tokens, physical_to_logical, tokenizer, label)
    arrays = read_arrays(source, "topk_ids_of_layer")
    experts = as_ids(arrays["topk_ids_of_layer"], "topk_ids_of_layer")
    recorder = isinstance(source, str | Path) and Path(source).suffix == ".safetensors"  # it always has layers first
    if (RECORD if recorder and order is None else order_of(experts, config, order)) == RESPONSE:
        experts = rearrange(experts, "token layer slot -> layer token slot")
    tokens = arrays.get("input_ids") if tokens is None else tokens
    positions = arrays.get("positions") if positions is None else positions
    spare = experts[..., config.num_experts_per_tok :]  # the recorder always has 8 slots
    if spare.numel() and (spare == UNSET).all():
        experts = experts[..., : config.num_experts_per_tok]
    unset = (experts == UNSET).all(dim=-1).all(dim=0)
    kept = int((~unset).nonzero().max()) + 1 if not unset.all() else 0  # the recorder's buffer is longer than the text
    if kept == 0:
        raise BadTrace("topk_ids_of_layer is -1 from the first layer, token 0 on: nothing was recorded.")
    if physical_to_logical is not None:
        experts = to_logical(experts, as_ids(physical_to_logical, "physical_to_logical", axes=2))
    trimmed = [None if given is None else as_ids(given, name, axes=1)[:kept] for name, given in
            (("tokens", tokens), ("positions", positions))]  # fmt: skip
    return imported(experts[:, :kept], config, trimmed[0], trimmed[1], tokenizer, label, "SGLang, per_token recorder")


def order_of(experts: Tensor, config: ModelConfig, order: str | None) -> str:
    """The order of the axes of an array, by its number of layers. Raises BadArgument if it fits both or is unknown."""
    if order is not None:
        if order not in (RECORD, RESPONSE):
            raise BadArgument(f"order is {shortened(order)!r}, expected {RECORD!r} or {RESPONSE!r}.")
        return order
    layers = (config.num_hidden_layers, len(config.moe_layers))
    first, second = (size in layers for size in experts.shape[:2])
    if first and second:
        raise BadArgument(
            f"the array is {tuple(experts.shape)}, and the model has {' or '.join(map(str, sorted(set(layers))))} "
            f"layers: both orders fit. Pass order={RECORD!r} or order={RESPONSE!r}."
        )
    return RESPONSE if second else RECORD


def from_sglang_response(
    source: Mapping[str, Any] | str | Path,
    config: ModelConfig,
    tokens: Array | None,
    physical_to_logical: Array | None,
    tokenizer: "Tokenizer | None",
    label: str | None,
) -> RoutingTrace:
    """A trace from one response. Raises BadArgument, NotFound, BadTrace."""
    served = sglang_routing(source, config)
    experts = rearrange(as_ids(served.experts, "routed_experts"), "token layer slot -> layer token slot")
    if physical_to_logical is not None:
        experts = to_logical(experts, as_ids(physical_to_logical, "physical_to_logical", axes=2))
    ids = ids_that_ran(served, tokens)
    return imported(experts, config, ids, None, tokenizer, label, "SGLang, routed_experts")


def from_vllm(
    prompt: Array | Mapping[str, Any] | str | Path,
    generated: Array | str | Path | None = None,
    *,
    config: ModelConfig,
    tokens: Array | None = None,
    tokenizer: "Tokenizer | None" = None,
    label: str | None = None,
    choice: int = 0,
) -> RoutingTrace:
    """A trace from one vLLM request: ids (token, layer, slot) of prompt and reply together.

    prompt: a whole response of /v1/completions or /v1/chat/completions (dict, JSON text, or the path of a .json file),
    whose choice number `choice` is used; the base64 text of its `routed_experts`; or an array, as
    `CompletionOutput.routed_experts` in Python. A response to a request with `return_token_ids: true` includes the
    token ids; otherwise pass them as `tokens` (token). Before vLLM 0.32 the reply had its own array, `generated`.
    The last token of a reply is not run through the model and has no experts: its id and a row of zeros, if present,
    are dropped. Raises BadArgument, NotFound, BadTrace.
    """
    if prompt is None:
        raise BadArgument("prompt is None: the server sent no routing. vLLM on a CPU sends null; use a GPU.")
    served = [one_piece(piece, name, choice) for name, piece in (("prompt", prompt), ("generated", generated))
              if piece is not None]  # fmt: skip
    pieces = [as_ids(piece.experts, "routed_experts") for piece in served]
    if len({piece.shape[1:] for piece in pieces}) > 1:
        shapes = " and ".join(str(tuple(piece.shape)) for piece in pieces)
        raise BadTrace(
            f"prompt and generated are {shapes}: expected the same layers and slots in both, from token 0 on."
        )
    experts = rearrange(torch.cat(pieces), "token layer slot -> layer token slot")
    if experts.shape[-1] > 1 and experts.shape[1] > 1 and not experts[:, -1].any():
        experts = experts[:, :-1]
    whole = served[0] if len(served) == 1 else Served(None)
    ids = ids_that_ran(Served(experts[0], whole.tokens, whole.length), tokens)
    return imported(experts, config, ids, None, tokenizer, label, "vLLM, routed_experts")


def one_piece(source: Any, name: str, choice: int) -> Served:
    """Read the argument `prompt` or `generated`."""
    if is_response(source):
        return vllm_routing(source, name, choice)
    return Served(read_arrays(source, "routed_experts")["routed_experts"])


def ids_that_ran(served: Served, tokens: Array | None) -> Tensor | None:
    """`tokens` or else the ids of the response, without the last one if it has no experts. Raises BadTrace."""
    given = served.tokens if tokens is None else tokens
    ids = None if given is None else as_ids(given, "tokens", axes=1)
    Served(served.experts, None, served.length if ids is None else len(ids)).require_all_tokens()
    return ids if ids is None or len(ids) != len(served.experts) + 1 else ids[:-1]


def imported(
    experts: Tensor,
    config: ModelConfig,
    tokens: Tensor | None,
    positions: Tensor | None,
    tokenizer: "Tokenizer | None",
    label: str | None,
    capture: str,
    passed: Pass | None = None,
) -> RoutingTrace:
    """A checked trace of ids (layer, token, slot); rows of dense layers are dropped. Raises BadArgument, BadTrace.

    passed: all that a recorder has of the routers; without it the trace has expert ids only.
    """
    require_released(label, config)
    count = experts.shape[1]
    layers = list(config.moe_layers)
    if experts.shape[0] == config.num_hidden_layers:
        experts = experts[layers]
    elif experts.shape[0] != len(layers):
        raise BadTrace(
            f"{capture}: {experts.shape[0]} layers, expected {config.num_hidden_layers}, or {len(layers)} with the "
            f"Mixture-of-Experts layers only; they first differ at layer {min(experts.shape[0], len(layers))}, "
            "token 0. Pass the config of the model that was recorded."
        )
    unset = (experts == UNSET).any(dim=-1)
    if unset.any():
        layer, token = unset.nonzero()[0].tolist()
        raise BadTrace(f"{capture}: layer {layers[layer]}, token {token} has no expert (-1): it was not recorded.")
    positions = torch.arange(count) if positions is None else positions
    begins = torch.ones(len(positions), dtype=torch.bool)
    begins[1:] = positions[1:] != positions[:-1] + 1
    tensors = (passed or {}) | {
        "experts": experts.contiguous(),
        "tokens": torch.full((count,), -1) if tokens is None else tokens,
        "positions": positions,
        "sequences": begins.cumsum(dim=0) - 1,
    }
    metadata = {
        "schema": SCHEMA,
        "provenance": "measured",
        "label": label,
        "ids_only": passed is None,
        "recorded_by": capture.split(",")[0],
        "model_type": config.model_type,
        "num_hidden_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "vocab_size": config.vocab_size,
        "num_experts": config.num_experts,
        "num_experts_per_tok": config.num_experts_per_tok,
        "norm_topk_prob": config.norm_topk_prob,
        "versions": {"minimoe": installed("minimoe")},
        "capture": capture,
    }
    if tokenizer is not None and tokens is not None:
        metadata |= describe_tokenizer(tokenizer, tokens)
    trace = RoutingTrace(layers, [tensors], [], metadata)
    trace.check()
    return trace


def to_logical(experts: Tensor, table: Tensor) -> Tensor:
    """Map physical ids (layer, token, slot) to expert ids; table (layer, physical id) has the expert of each."""
    wrong = (experts < UNSET) | (experts >= table.shape[1])
    if table.shape[0] != experts.shape[0] or wrong.any():
        layer, token = wrong.nonzero()[0, :2].tolist() if wrong.any() else (min(len(table), len(experts)), 0)
        raise BadTrace(
            f"physical_to_logical is {tuple(table.shape)}, which does not cover layer {layer}, token {token} "
            f"of ids {tuple(experts.shape)}."
        )
    rows = torch.arange(len(table))[:, None, None]
    return torch.where(experts == UNSET, UNSET, table[rows, experts.clamp(min=0)])


def read_arrays(source: Any, name: str) -> dict[str, Any]:
    """The arrays of a file, or the given array under `name`. Raises NotFound, BadArgument, BadTrace."""
    if not isinstance(source, str | Path):
        return {name: source}
    file, shown = Path(source), shortened(source)
    if file.suffix not in (".npy", ".safetensors"):
        kind = shortened(file.suffix) or "nameless"
        raise BadArgument(f"{shown} is a {kind} file, expected .npy, .safetensors or .json (no pickle).")
    if not os.path.isfile(file):
        raise NotFound(f"{shown} is not there. Save the engine's array as .npy or .safetensors first.")
    try:
        if file.suffix == ".npy":
            return {name: np.load(file, allow_pickle=False)}
        arrays: dict[str, Any] = load_file(file)
    except (SafetensorError, OSError, EOFError, ValueError) as error:
        raise BadTrace(f"{shown} is not a whole {file.suffix} file ({shortened(error)}). Save it again.") from error
    if name not in arrays:
        names = shortened(", ".join(sorted(arrays))) or "nothing"
        raise BadTrace(f"{shown} has {names}, but no {name}. Save the array under that name.")
    return arrays


def as_ids(given: Any, name: str, axes: int = 3) -> Tensor:
    """The array as an int64 tensor with `axes` axes. Raises BadArgument."""
    try:
        array = given.numpy(force=True) if isinstance(given, Tensor) else np.asarray(given)
    except (TypeError, ValueError) as error:
        raise BadArgument(f"{name} is not an array of integers ({shortened(error)}).") from error
    if array.ndim != axes or not np.issubdtype(array.dtype, np.integer) or not array.size:
        raise BadArgument(
            f"{name} is {array.dtype} {array.shape}, expected integers with {axes} axes and at least one element."
        )
    return torch.from_numpy(array.astype(np.int64))
