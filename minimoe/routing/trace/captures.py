"""Import router outputs captured inside other programs: llama.cpp, TransformerLens, nnsight, `transformers`.

    llama.cpp       eval callback: tensors by name, `ffn_moe_logits-N` (token, expert), `ffn_moe_argsort-N` (token,
                    expert: all ids by falling score) or `ffn_moe_topk-N` (token, slot); several calls: a list of arrays
    TransformerLens cache of `run_with_cache`: `blocks.N.mlp.gate.hook_out` (token, expert) logits,
                    `blocks.N.mlp.gate.hook_expert_indices` (token, slot)
    nnsight         `model.layers[N].mlp.gate.output.save()` of each layer: (logits, weights, ids), as the routers of
                    `transformers` 5 return it; before, the logits alone

With the logits of every layer the trace has weights, margins and entropies; without, expert ids only. The arrays are
in numpy's order of axes, the reverse of ggml's `ne`; a batch may come before the tokens.

Sources: llama.cpp `src/llama-graph.cpp` (build_moe_ffn); TransformerLens 4.3 MoERouterBridge; `transformers` 5.23
Qwen3MoeTopKRouter. llama.cpp 0.4, TransformerLens 4.3 and nnsight 0.8 were run on the small model; the name
`gate.hook_out` of the logits is from TransformerLens' source code.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from minimoe.errors import BadArgument, BadTrace, NotFound
from minimoe.model.config import ModelConfig
from minimoe.model.router import Routing, route
from minimoe.routing.trace.importers import Array, as_ids, imported
from minimoe.routing.trace.recorder import summary
from minimoe.routing.trace.responses import shortened
from minimoe.routing.trace.trace import RoutingTrace

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer

LLAMA = re.compile(r"ffn_moe_(logits|argsort|topk)-(\d+)")
LENS = re.compile(r"blocks\.(\d+)\.mlp\.(?:gate\.)?hook_(out|expert_indices)")
LENS_KINDS = {"out": "logits", "expert_indices": "ids"}
NEAR = 1e-3  # of the logits: near ties at the last slot may be decided either way

Captured = dict[int, dict[str, Tensor]]  # of each layer: logits (token, expert), ids (token, slot)


def from_llama_cpp(
    source: Mapping[str, Any] | str | Path,
    config: ModelConfig,
    tokens: Array | None = None,
    tokenizer: "Tokenizer | None" = None,
    label: str | None = None,
) -> RoutingTrace:
    """A trace from the tensors that llama.cpp's eval callback saw in one run over `tokens` (token).

    source: a dict of arrays by tensor name, or the path of a .npz or .safetensors file of them. Ask llama.cpp for the
    logits of all tokens: it runs the last layer only for those. The text of `llama-eval-callback` is no source, since
    it prints three values of each end of an axis. Raises BadArgument, NotFound, BadTrace.
    """
    captured: Captured = {}
    for name, value in named_arrays(source).items():
        match = LLAMA.fullmatch(name)
        if match is None:
            continue
        kind, layer = match[1], int(match[2])
        width = config.num_experts_per_tok if kind == "topk" else config.num_experts
        array = rows(value, name, width)
        if kind == "logits":
            captured.setdefault(layer, {})["logits"] = array
        elif kind == "argsort" or "ids" not in captured.get(layer, {}):
            ids = as_ids(array, name, axes=2)[:, : config.num_experts_per_tok]
            require_strided(ids, name, config)
            captured.setdefault(layer, {})["ids"] = ids
    return from_captured(captured, config, tokens, tokenizer, label, "llama.cpp, eval callback", "ffn_moe_argsort-N")


def from_hooks(
    source: Mapping[Any, Any] | Sequence[Any],
    config: ModelConfig,
    tokens: Array | None = None,
    tokenizer: "Tokenizer | None" = None,
    label: str | None = None,
    engine: str | None = None,
) -> RoutingTrace:
    """A trace from hooks on the routers: a cache of TransformerLens, or the router outputs of nnsight.

    source: the cache of `run_with_cache`; or the output of each router, as a dict by layer number or a list of all
    Mixture-of-Experts layers. tokens: (token), or (batch, token) without padding. engine: its name for the title,
    such as "nnsight"; a cache of TransformerLens is known by its keys. Raises BadArgument, BadTrace.
    """
    if not (hasattr(source, "items") or isinstance(source, list | tuple)):
        raise BadArgument(
            f"source is {type(source).__name__}, expected the cache of TransformerLens, or router outputs by layer."
        )
    captured: Captured = {}
    if not hasattr(source, "items") and len(source) != len(config.moe_layers):
        raise BadTrace(
            f"source has {len(source)} router outputs, expected {len(config.moe_layers)}, one of each layer that has a "
            "router. Capture the missing ones, or pass a dict by layer number and the config of the model that ran."
        )
    named = dict(source.items()) if hasattr(source, "items") else dict(zip(config.moe_layers, source, strict=True))
    if any(isinstance(name, str) for name in named):
        for name, value in named.items():
            match = LENS.fullmatch(str(name))
            if match is None or ("gate" not in str(name) and match[2] == "out"):
                continue  # the output of the whole block
            kind = LENS_KINDS[match[2]]
            width = config.num_experts if kind == "logits" else config.num_experts_per_tok
            captured.setdefault(int(match[1]), {})[kind] = rows(value, str(name), width)
        maker, expected = "TransformerLens", "blocks.N.mlp.gate.hook_expert_indices"
    else:
        for layer, output in named.items():
            captured[int(layer)] = router_output(output, f"output of the router of layer {layer}", config)
        maker, expected = "hooks on the routers", "layers[N].mlp.gate.output"
    return from_captured(captured, config, tokens, tokenizer, label, f"{engine or maker}, router outputs", expected)


def router_output(output: Any, name: str, config: ModelConfig) -> dict[str, Tensor]:
    """Logits and ids in the output of one router: a tensor of logits, or (logits, weights, ids). Raises BadArgument."""
    parts = list(output) if isinstance(output, tuple | list) else [output]
    if not all(isinstance(part, np.ndarray | Tensor) for part in parts):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise BadArgument(f"{name} has {kinds}, expected (logits, weights, ids). Save .output inside the trace block.")
    found = {}
    for part in map(torch.as_tensor, parts):
        if not part.dtype.is_floating_point:
            found["ids"] = rows(part, name, config.num_experts_per_tok)
        elif "logits" not in found and part.shape[-1] == config.num_experts:
            found["logits"] = rows(part, name, config.num_experts)
    if not found:
        shapes = ", ".join(str(tuple(part.shape)) for part in parts)
        raise BadArgument(f"{name} is {shapes}: no logits (token, {config.num_experts}) and no integer ids in it.")
    return found


def from_captured(
    captured: Captured,
    config: ModelConfig,
    tokens: Array | None,
    tokenizer: "Tokenizer | None",
    label: str | None,
    capture: str,
    expected: str,
) -> RoutingTrace:
    """A checked trace of the captured layers. Raises BadArgument, BadTrace."""
    layers = list(config.moe_layers)
    if not captured:
        raise BadTrace(f"{capture}: no router output in the source. Capture {expected} of every layer N.")
    if sorted(captured) != layers:
        wrong = sorted(set(captured) ^ set(layers))
        raise BadTrace(
            f"{capture}: {len(captured)} layers, expected {len(layers)}; first wrong: layer {wrong[0]}. Capture "
            f"{expected} of every layer, and pass the config of the model that ran."
        )
    counts = {layer: len(next(iter(found.values()))) for layer, found in captured.items()}
    uneven = [layer for layer in layers if counts[layer] != counts[layers[0]]]
    if uneven:
        raise BadTrace(
            f"{capture}: layer {uneven[0]} has {counts[uneven[0]]} tokens, layer {layers[0]} has {counts[layers[0]]}. "
            "Ask for the logits of all tokens: llama.cpp runs the last layer only for those."
        )
    ids, positions = None if tokens is None else token_ids(tokens), None
    if ids is not None:
        positions = torch.arange(ids.shape[1]).repeat(len(ids))
        ids = ids.flatten()
        if len(ids) != counts[layers[0]]:
            raise BadTrace(
                f"{capture}: tokens has {len(ids)} ids, but the routers saw {counts[layers[0]]} tokens. Pass the ids "
                "of the whole run, prompt included and in its order."
            )
    passed = None
    if all("logits" in captured[layer] for layer in layers):
        records = [summary(routing_of(captured[layer], config, layer, capture)) for layer in layers]
        passed = {name: torch.stack([record[name] for record in records]) for name in records[0]}
        experts = passed["experts"]
    else:
        experts = torch.stack([selected(captured[layer], config) for layer in layers])
    return imported(experts, config, ids, positions, tokenizer, label, capture, passed)


def selected(found: dict[str, Tensor], config: ModelConfig) -> Tensor:
    """(token, slot): the ids of one layer, captured or by its logits."""
    if "ids" in found:
        return as_ids(found["ids"], "ids", axes=2)
    return route(found["logits"].float(), config.num_experts_per_tok, config.norm_topk_prob).experts


def routing_of(found: dict[str, Tensor], config: ModelConfig, layer: int, capture: str) -> Routing:
    """The routing of one layer by its logits; captured ids must be their largest. Raises BadTrace."""
    logits = found["logits"].float().cpu()
    if not torch.isfinite(logits).all():
        raise BadTrace(f"{capture}: the logits of layer {layer} hold NaN or infinity. Capture them again.")
    if (logits >= 0).all() and torch.allclose(logits.sum(dim=-1), torch.ones(len(logits)), atol=1e-3):
        logits = logits.clamp(min=1e-30).log()  # some versions return the softmax under this name
    routing = route(logits, config.num_experts_per_tok, config.norm_topk_prob)
    if "ids" not in found:
        return routing
    ids = selected(found, config)
    if len(ids) != len(logits) or ((ids < 0) | (ids >= config.num_experts)).any():
        raise BadTrace(
            f"{capture}: the ids of layer {layer} are {tuple(ids.shape)}, {int(ids.min())} to {int(ids.max())}; "
            f"expected {len(logits)} tokens and ids from 0 to {config.num_experts - 1}. Pass the right config."
        )
    chosen = logits.gather(-1, ids)
    least = logits.gather(-1, routing.experts).min(dim=-1).values
    wrong = chosen.min(dim=-1).values < least - NEAR * logits.abs().amax(dim=-1)
    if wrong.any():
        token = int(wrong.nonzero()[0])
        raise BadTrace(
            f"{capture}: layer {layer}, token {token} selects {ids[token].tolist()}, but the largest logits are of "
            f"{routing.experts[token].tolist()}. Capture ids and logits in one run."
        )
    weights = logits.softmax(dim=-1).gather(-1, ids)
    if config.norm_topk_prob:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, ids, weights)


def require_strided(ids: Tensor, name: str, config: ModelConfig) -> None:
    """Refuse `ffn_moe_topk` copied as if it lay in one piece: its rows then walk through the ranking of token 0."""
    span = config.num_experts // config.num_experts_per_tok
    if "topk" in name and 1 < span <= len(ids) and len(ids[:span].unique()) == span * config.num_experts_per_tok:
        raise BadTrace(
            f"{name} has no expert twice in its first {span} tokens: a view that was copied without its strides. "
            "Copy ffn_moe_argsort-N instead."
        )


def named_arrays(source: Any) -> Mapping[str, Any]:
    """The arrays by name: given, or of a .npz or .safetensors file. Raises BadArgument, NotFound, BadTrace."""
    if isinstance(source, Mapping):
        return source
    if not isinstance(source, str | Path) or Path(source).suffix not in (".npz", ".safetensors"):
        given = shortened(source) if isinstance(source, str | Path) else type(source).__name__
        raise BadArgument(
            f"source is {given}, expected a dict of arrays by tensor name, or a .npz or .safetensors file. The text "
            "that llama-eval-callback prints is shortened and cannot be read."
        )
    file = Path(source)
    if not file.is_file():
        raise NotFound(f"{shortened(file)} is not there. Save the arrays with np.savez first.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # zip, header and pickle errors of many types
        if not isinstance(error, SafetensorError | OSError | EOFError | ValueError) and "zip" not in str(error).lower():
            raise
        raise BadTrace(f"{shortened(file)} is not a whole {file.suffix} file ({shortened(error)}).") from error


def rows(value: Any, name: str, width: int) -> Tensor:
    """(token, width): one array, or several of consecutive calls; other axes of size one are dropped."""
    pieces = value if isinstance(value, list) and value and isinstance(value[0], np.ndarray | Tensor) else [value]
    try:
        tensors = [piece.detach().cpu() if isinstance(piece, Tensor) else torch.as_tensor(np.asarray(piece))
                   for piece in pieces]  # fmt: skip
    except (TypeError, ValueError) as error:
        raise BadArgument(f"{name} is not an array of numbers ({shortened(error)}).") from error
    flat = []
    for piece in tensors:
        piece = piece.squeeze(-1) if piece.dim() == 3 and piece.shape[-1] == 1 and width > 1 else piece
        if piece.dim() < 2 or piece.shape[-1] != width or not piece.numel():
            raise BadArgument(f"{name} is {tuple(piece.shape)}, expected (token, {width}). Pass the right config.")
        flat.append(piece.flatten(0, -2))
    return torch.cat(flat)


def token_ids(tokens: Array) -> Tensor:
    """(batch, token): ids given with or without a batch."""
    given = tokens if isinstance(tokens, Tensor) else np.asarray(tokens)
    ids = as_ids(given, "tokens", axes=2 if given.ndim == 2 else 1)
    return ids if ids.dim() == 2 else ids[None]
