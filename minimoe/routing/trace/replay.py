"""Replay: run the sequences of a trace through the model again and compare the selected experts.

This is the strongest check of a trace, but it needs the weights. Two correct runs differ in the last bits (another
processor, another batch shape), and a near tie between rank K and rank K + 1 can then swap an expert. Such a swap is
tolerated, and so is everything downstream of it: later layers of that token and of the tokens that attend to it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minimoe.errors import BadTrace
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.recorder import UNKNOWN_TOKEN, Recorder, router_sha256

TOLERANCE = {  # router logits; margins are stored in float16
    "float64": 1e-3,
    "float32": 1e-3,
    "bfloat16": 0.25,
    "float16": 0.05,
}
# Share of all slots, tolerated rows included: well below a genuine rerun in bfloat16, far above chance (K of E).
LEAST_OVERLAP = 0.75
SAME = (
    "num_hidden_layers",
    "hidden_size",
    "vocab_size",
    "num_experts",
    "num_experts_per_tok",
    "norm_topk_prob",
    "router_sha256",
)


@dataclass(frozen=True)
class Replay:
    """The result of a replay. A row is one token in one layer."""

    rows: int
    required: int  # rows whose set of experts had to be equal, and was
    equal: int  # rows whose set of experts was equal
    overlap: float  # share of all slots with the same experts


def replay(
    layers: list[int],
    tensors: dict[str, Tensor],
    metadata: dict[str, Any],
    model: Transformer,
    tokenizer: dict[str, Any] | None = None,
    tolerance: float | None = None,
) -> Replay:
    """Run every sequence of the trace through `model` and compare. Raises BadTrace for the first contradiction.

    layers: the absolute layers of the trace. tokenizer: its description, to be compared as well. tolerance: the margin
    in router logits up to which a swapped expert is tolerated (None: by dtype, see TOLERANCE).
    """
    present = [number for number in model.layer_range if model.config.is_moe(number)]
    if not set(layers) <= set(present):
        loaded = f"{model.layer_range.start}..{model.layer_range.stop - 1}"
        raise BadTrace(
            f"the trace has layers {layers[0]}..{layers[-1]}, but this model has layers {loaded}. "
            "Load the layers of the trace."
        )
    check_origin(metadata, model, layers, tokenizer)
    again = torch.empty_like(tensors["experts"])
    margins = torch.empty(again.shape[:2])
    for sequence in tensors["sequences"].unique().tolist():
        indices = (tensors["sequences"] == sequence).nonzero().flatten()
        recorder = Recorder(model)
        with recorder.watching(), torch.inference_mode():
            model(whole_sequence(tensors, indices, sequence)[None].to(model.device), last_only=True)
        rows = [present.index(number) for number in layers]
        again[:, indices] = recorder.passes[0]["experts"][rows]
        margins[:, indices] = recorder.passes[0]["margins"][rows]
    coarser = max(
        (str(model.dtype).removeprefix("torch."), str(metadata.get("dtype"))), key=lambda name: TOLERANCE.get(name, 0)
    )
    with_margins = {"margins": margins} | tensors  # an imported trace has no margins of its own
    return compare(layers, with_margins, again, TOLERANCE.get(coarser, 1e-3) if tolerance is None else tolerance)


def check_origin(
    metadata: dict[str, Any], model: Transformer, layers: list[int], tokenizer: dict[str, Any] | None
) -> None:
    """Raise BadTrace unless the trace was recorded with this model's sizes and router weights, and this tokenizer.

    An imported trace (ids only) has no record of the weights, so only the sizes in its metadata are compared.
    """
    if metadata.get("provenance", "measured") != "measured":
        raise BadTrace(
            f"the trace is {metadata['provenance']}: it was not recorded from a model, so it cannot be replayed."
        )
    expected: dict[str, Any] = {key: getattr(model.config, key, None) for key in SAME} | {
        "router_sha256": router_sha256(model, layers)
    }
    imported = "recorded_by" in metadata or metadata.get("ids_only", False)  # the router's weights were not seen
    for key in [key for key in SAME if key in metadata or not imported]:
        if metadata.get(key) != expected[key]:
            raise BadTrace(
                f"the trace comes from another model: {key} is {metadata.get(key)!r} in the trace and "
                f"{expected[key]!r} in this model, so nothing can be compared from layer {layers[0]}, token 0 onwards. "
                "Load the model that the trace was recorded with."
            )
    token_bytes = metadata.get("token_bytes")
    if tokenizer is None or token_bytes is None:
        return
    for token in sorted(token_bytes.keys() | tokenizer["token_bytes"].keys(), key=int):
        if token_bytes.get(token) != tokenizer["token_bytes"].get(token):
            raise BadTrace(
                f"token {token} has a different text in this tokenizer than in the trace. "
                "Use the tokenizer that the trace was recorded with."
            )
    if metadata.get("tokenizer_sha256") != tokenizer["tokenizer_sha256"]:
        raise BadTrace(
            "the tokenizer files are not those of the recorded trace. "
            "Use the tokenizer that the trace was recorded with."
        )


def whole_sequence(tensors: dict[str, Tensor], indices: Tensor, sequence: int) -> Tensor:
    """The token ids at `indices`, one whole sequence. Raises BadTrace unless its positions are 0, 1, 2, ..."""
    tokens, positions = tensors["tokens"][indices], tensors["positions"][indices]
    if (tokens == UNKNOWN_TOKEN).any():
        raise BadTrace("the trace has no token ids (the model was called with hidden=), so it cannot be replayed.")
    if positions.tolist() != list(range(len(positions))):
        raise BadTrace(
            f"sequence {sequence} has positions {positions.tolist()[:4]}..., expected 0, 1, 2, ...: "
            "its beginning was not recorded, so it cannot be replayed."
        )
    return tokens


def compare(layers: list[int], tensors: dict[str, Tensor], again: Tensor, tolerance: float) -> Replay:
    """Compare the recorded experts with those of the second run, `again`, both (layer, token, slot).

    Raises BadTrace if a row differs that is neither a near tie nor downstream of one, or if the overlap is too small.
    """
    recorded = tensors["experts"]
    shared = (recorded[..., :, None] == again[..., None, :]).any(dim=-1)
    differs = ~shared.all(dim=-1)  # (layer, token)
    excused = (tensors["margins"] <= tolerance) | downstream(differs, tensors["sequences"], tensors["positions"])
    if (differs & ~excused).any():
        layer, token = (differs & ~excused).nonzero()[0].tolist()
        in_trace, in_model = (sorted(experts[layer, token].tolist()) for experts in (recorded, again))
        margin = float(tensors["margins"][layer, token])
        raise BadTrace(
            f"layer {layers[layer]}, token {token}: the trace has experts {in_trace}, the model selects {in_model} "
            f"(margin {margin:.4f}, tolerance {tolerance})."
        )
    overlap = float(shared.float().mean())
    if overlap < LEAST_OVERLAP:
        raise BadTrace(
            f"the replay selects only {overlap:.0%} of the recorded experts, expected at least {LEAST_OVERLAP:.0%}."
        )
    return Replay(differs.numel(), int((~excused).sum()), int((~differs).sum()), overlap)


def downstream(differs: Tensor, sequences: Tensor, positions: Tensor) -> Tensor:
    """(layer, token) bool: whether an earlier layer differs for this token or for an earlier one of its sequence."""
    result = torch.zeros_like(differs)
    for sequence in sequences.unique():
        indices = (sequences == sequence).nonzero().flatten()
        indices = indices[positions[indices].argsort()]
        differs_so_far = differs[:, indices].cummax(dim=1).values.cummax(dim=0).values
        result[1:, indices] = differs_so_far[:-1]
    return result
