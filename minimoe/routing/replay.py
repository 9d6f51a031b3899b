"""Running a trace again: the strongest check there is, for whoever has the weights.

Two correct runs differ in the last bits (another processor, another batch shape), and where rank K and rank K + 1
nearly tie this swaps an expert. Such a swap is forgiven, and so is everything downstream of it: later layers of that
token, and of the tokens that attend to it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minimoe.errors import BadTrace
from minimoe.model.transformer import Transformer
from minimoe.routing.recorder import UNKNOWN_TOKEN, Recorder, router_sha256

TOLERANCE = {
    "float64": 1e-3,
    "float32": 1e-3,
    "bfloat16": 0.25,
    "float16": 0.05,
}  # router logits; margins are stored in float16
LEAST_OVERLAP = (
    0.75  # of all slots, forgiven rows included: well below any honest bfloat16 rerun, far above chance (K of E)
)
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
    """How much of a trace was confirmed. A row is one token in one layer."""

    rows: int
    required: int  # rows whose set of experts had to be equal, and was
    equal: int  # rows whose set of experts was equal
    overlap: float  # share of all slots that hold the same experts


def replay(
    layers: list[int],
    tensors: dict[str, Tensor],
    metadata: dict[str, Any],
    model: Transformer,
    tokenizer: dict[str, Any] | None = None,
    tolerance: float | None = None,
) -> Replay:
    """Run every sequence of the trace through `model` and compare. Raises BadTrace with the first contradiction."""
    present = [number for number in model.layer_range if model.config.is_moe(number)]
    if not set(layers) <= set(present):
        here = f"{model.layer_range.start}..{model.layer_range.stop - 1}"
        raise BadTrace(f"the trace has layers {layers[0]}..{layers[-1]}, this model holds {here}. Load those layers.")
    check_origin(metadata, model, layers, tokenizer)
    again = torch.empty_like(tensors["experts"])
    margins = torch.empty(again.shape[:2])
    for sequence in tensors["sequences"].unique().tolist():
        places = (tensors["sequences"] == sequence).nonzero().flatten()
        recorder = Recorder(model)
        with recorder.watching(), torch.inference_mode():
            model(whole_sequence(tensors, places, sequence)[None].to(model.device), last_only=True)
        rows = [present.index(number) for number in layers]
        again[:, places] = recorder.passes[0]["experts"][rows]
        margins[:, places] = recorder.passes[0]["margins"][rows]
    coarser = max(
        (str(model.dtype).removeprefix("torch."), str(metadata.get("dtype"))), key=lambda name: TOLERANCE.get(name, 0)
    )
    known = {"margins": margins} | tensors  # an imported trace has none of its own
    return compare(layers, known, again, TOLERANCE.get(coarser, 1e-3) if tolerance is None else tolerance)


def check_origin(
    metadata: dict[str, Any], model: Transformer, layers: list[int], tokenizer: dict[str, Any] | None
) -> None:
    """The trace must come from a model with these sizes and router weights, and a tokenizer with these texts.

    An imported trace (ids only) does not know the weights, so only the sizes that it states are compared.
    """
    if metadata.get("provenance", "measured") != "measured":
        raise BadTrace(f"the trace is {metadata['provenance']}: no model made it, so none can confirm it.")
    here: dict[str, Any] = {key: getattr(model.config, key, None) for key in SAME} | {
        "router_sha256": router_sha256(model, layers)
    }
    for key in [key for key in SAME if key in metadata or not metadata.get("ids_only", False)]:
        if metadata.get(key) != here[key]:
            raise BadTrace(
                f"the trace comes from another model: {key} is {metadata.get(key)!r} there and {here[key]!r} here, "
                f"so nothing can be compared from layer {layers[0]}, token 0 on."
            )
    theirs = metadata.get("token_bytes")
    if tokenizer is None or theirs is None:
        return
    for token in sorted(theirs.keys() | tokenizer["token_bytes"].keys(), key=int):
        if theirs.get(token) != tokenizer["token_bytes"].get(token):
            raise BadTrace(
                f"token {token} has another text in this tokenizer than in the trace. Use the one it was recorded with."
            )
    if metadata.get("tokenizer_sha256") != tokenizer["tokenizer_sha256"]:
        raise BadTrace("the tokenizer files are not those that the trace was recorded with.")


def whole_sequence(tensors: dict[str, Tensor], places: Tensor, sequence: int) -> Tensor:
    """The ids of one sequence; BadTrace unless it starts at position 0 without a gap."""
    tokens, positions = tensors["tokens"][places], tensors["positions"][places]
    if (tokens == UNKNOWN_TOKEN).any():
        raise BadTrace("the trace has no token ids (the model was called with hidden=), so it cannot be run again.")
    if positions.tolist() != list(range(len(positions))):
        raise BadTrace(
            f"sequence {sequence} has positions {positions.tolist()[:4]}..., expected 0, 1, 2, ...: "
            "its beginning was not recorded, so it cannot be run again."
        )
    return tokens


def compare(layers: list[int], tensors: dict[str, Tensor], again: Tensor, tolerance: float) -> Replay:
    """BadTrace unless the sets agree wherever they have to."""
    recorded = tensors["experts"]
    shared = (recorded[..., :, None] == again[..., None, :]).any(dim=-1)
    differs = ~shared.all(dim=-1)  # (layer, token)
    excused = (tensors["margins"] <= tolerance) | downstream(differs, tensors["sequences"], tensors["positions"])
    if (differs & ~excused).any():
        layer, token = (differs & ~excused).nonzero()[0].tolist()
        said, found = (sorted(experts[layer, token].tolist()) for experts in (recorded, again))
        margin = float(tensors["margins"][layer, token])
        raise BadTrace(
            f"layer {layers[layer]}, token {token}: the trace says experts {said}, the model selects {found} "
            f"(margin {margin:.4f}, tolerance {tolerance})."
        )
    overlap = float(shared.float().mean())
    if overlap < LEAST_OVERLAP:
        raise BadTrace(
            f"only {overlap:.0%} of the selected experts are the same when the model runs again, "
            f"expected at least {LEAST_OVERLAP:.0%}."
        )
    return Replay(differs.numel(), int((~excused).sum()), int((~differs).sum()), overlap)


def downstream(differs: Tensor, sequences: Tensor, positions: Tensor) -> Tensor:
    """(layer, token): whether an earlier layer of this token, or of one before it in its sequence, differs."""
    result = torch.zeros_like(differs)
    for sequence in sequences.unique():
        places = (sequences == sequence).nonzero().flatten()
        places = places[positions[places].argsort()]
        seen = differs[:, places].cummax(dim=1).values.cummax(dim=0).values
        result[1:, places] = seen[:-1]
    return result
