"""The explorer's data format: a JSON header, and one binary block (`blob`) with all the numbers.

A hundred layers times thousands of tokens are too many numbers for JSON: they would make the page hang. Here every
number is stored in one, two or four bytes of `blob`, and the header gives the offsets.

    experts        u8 (u16 above 256 experts)  (layer, token, slot)
    probabilities  u8  (layer, token, slot)    code = round(255 sqrt(p)): finest for small p
    margins        u8  (layer, token)          code = round(255 min(1, margin / margin_scale))
    entropies      u8  (layer, token)          code = round(255 entropy / ln E)
    token, token_id, position  u32 (token)     sequence, document  u16 (token)     domain, role  u8 (token)
    loss           f32 (token), NaN if unknown        probability_sums  f32 (layer, expert)

Documents with the same tokens are one document here (`merge_copies`); `copies` in the header says how many more there
were. The u8 codes are rounded and meant for drawing; expert ids are exact, and so is every statistic computed from
them.
"""

import base64
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minimoe.errors import BadArgument
from minimoe.routing.explorer.background import background_of
from minimoe.routing.explorer.opening import opening_state
from minimoe.routing.trace.documents import duplicate_documents, merge_copies
from minimoe.routing.trace.roles import ROLES
from minimoe.routing.trace.trace import RoutingTrace

VERSION = 1
DTYPES = {"u8": "<u1", "u16": "<u2", "u32": "<u4", "f32": "<f4"}
NO_DOCUMENT, NO_DOMAIN = 65535, 255
MARGIN_QUANTILE = 0.995  # larger margins are clipped, since a few outliers would reduce the resolution of all others
LONGEST_NAME = 512  # tokens of a text that names its trace
MODEL_KEYS = (
    "model_type", "num_hidden_layers", "hidden_size", "vocab_size", "dtype", "device", "engine", "router_sha256",
    "revision", "quantisation", "capture", "versions",
)  # fmt: skip

Array = NDArray[Any]


def pack(
    traces: Sequence[RoutingTrace],
    state: dict[str, Any] | None = None,
    tour: list[dict[str, Any]] | None = None,
    live: bool = False,
    statistics: Callable[[RoutingTrace], dict[str, Any]] | None = None,
    ablations: Sequence[dict[str, Any] | None] | None = None,
    background: RoutingTrace | str | Path | None = None,
) -> tuple[dict[str, Any], bytes]:
    """(header, blob) of one or more traces; the page shows the first and has a menu for the others.

    statistics: computes the whole-trace numbers that need permutations (see precomputed.py). ablations: one precomputed
    result of view J per trace, or None. live: whether a kernel with the model answers requests. background: shown
    beside traces of fewer than 512 tokens (see background.py). Raises BadTrace if a trace is inconsistent, and
    BadArgument without traces.
    """
    if not traces:
        raise BadArgument("traces is empty, expected at least one RoutingTrace.")
    for trace in traces:
        trace.check()
    entries: list[dict[str, Any]] = []
    pieces: list[bytes] = []
    offset = 0
    for number, whole in enumerate(traces):
        trace = merge_copies(whole)  # so that each test over documents counts a text once
        entry = describe(trace) | {"copies": len(duplicate_documents(whole))}
        entry["statistics"] = statistics(trace) if statistics is not None else {}
        entry["background"] = background_of(trace, background)
        if ablations is not None and ablations[number] is not None:
            entry["ablation"] = ablations[number]
        entry["fields"] = {}
        for name, (dtype, array) in arrays(trace, entry["margin_scale"]).items():
            content = np.ascontiguousarray(array.astype(DTYPES[dtype])).tobytes()
            entry["fields"][name] = {"dtype": dtype, "shape": list(array.shape), "offset": offset}
            content += bytes(-len(content) % 4)  # the page's typed arrays need 4-byte alignment
            pieces.append(content)
            offset += len(content)
        entries.append(entry)
    header = {"version": VERSION, "traces": entries, "state": state or {}, "tour": tour, "live": live}
    cleaned: dict[str, Any] = clean(header)
    return cleaned, b"".join(pieces)


def describe(trace: RoutingTrace) -> dict[str, Any]:
    """The header entry of one trace, without the fields of its numbers."""
    metadata = trace.metadata
    return {
        "title": trace.title,
        "label": metadata.get("label") or "no label",
        "name": short_name(trace),
        "provenance": trace.provenance,
        "model": {key: metadata[key] for key in MODEL_KEYS if key in metadata},
        "layers": trace.layers.tolist(),
        "num_experts": int(metadata["num_experts"]),
        "top_k": int(metadata["num_experts_per_tok"]),
        "norm_topk_prob": bool(metadata["norm_topk_prob"]),
        "tokens": len(trace),
        "has_weights": trace.has_weights,
        "has_losses": trace.has_losses,
        "domains": list(trace.domain_names),
        "documents": [dict(document) for document in metadata.get("documents", [])],
        "roles": list(ROLES),
        "token_table": token_table(trace),
        "margin_scale": margin_scale(trace),
        "entropy_max": math.log(int(metadata["num_experts"])),
        "planted": metadata.get("planted"),
        "opening": opening_state(trace),
    }


def short_name(trace: RoutingTrace) -> str:
    """How a menu names the trace: its text if it is short and has no documents, else its label or title."""
    if len(trace) <= LONGEST_NAME and not trace.metadata.get("documents"):
        known = trace.metadata.get("token_bytes", {})
        pieces = [base64.b64decode(known.get(str(token), "")) for token in trace.tokens.tolist()]
        text = b"".join(pieces).decode(errors="replace").strip()
        if text:
            return f"“{text[:40]}{'…' if len(text) > 40 else ''}”"
    return f"{trace.metadata.get('label') or trace.title}, {len(trace):,} tokens"


def token_table(trace: RoutingTrace) -> list[str]:
    """The bytes (base64) of every distinct token id, in ascending order; "#id" for an id with unknown bytes."""
    known = trace.metadata.get("token_bytes", {})
    ids = trace.tokens.unique().tolist()
    return [known.get(str(token)) or base64.b64encode(f"#{token}".encode()).decode() for token in ids]


def margin_scale(trace: RoutingTrace) -> float:
    """The margin (router logits) with code 255; 1.0 if the trace has no positive margins."""
    if not trace.has_weights:
        return 1.0
    finite = trace.margins[torch.isfinite(trace.margins)]
    highest = float(np.quantile(finite.numpy(), MARGIN_QUANTILE)) if len(finite) else 0.0
    return highest if highest > 0 else 1.0


def arrays(trace: RoutingTrace, scale: float) -> dict[str, tuple[str, Array]]:
    """name -> (dtype on the page, numbers) of one trace; three fields are absent without router weights."""
    experts = int(trace.metadata["num_experts"])
    ids = trace.tokens.unique()
    fields: dict[str, tuple[str, Array]] = {
        "experts": ("u8" if experts <= 256 else "u16", trace.experts.numpy()),
    }
    if trace.has_weights:
        fields["probabilities"] = ("u8", coded(trace.probabilities.numpy() ** 0.5))
        fields["margins"] = ("u8", coded(trace.margins.numpy() / scale))
        fields["entropies"] = ("u8", coded(trace.entropies.numpy() / math.log(experts) if experts > 1 else 0))
    fields |= {
        "token": ("u32", torch.searchsorted(ids, trace.tokens).numpy()),
        "token_id": ("u32", trace.tokens.numpy() % 2**32),  # an unknown id, -1, becomes 2**32 - 1
        "position": ("u32", trace.positions.numpy()),
        "sequence": ("u16" if int(trace.sequences.max()) < 65536 else "u32", trace.sequences.numpy()),
        "document": ("u16", np.where(trace.documents.numpy() < 0, NO_DOCUMENT, trace.documents.numpy())),
        "domain": ("u8", np.where(trace.domains.numpy() < 0, NO_DOMAIN, trace.domains.numpy())),
        "role": ("u8", trace.roles.numpy()),
    }
    if trace.has_losses:
        fields["loss"] = ("f32", trace.losses.numpy())
    if "probability_sums" in trace.tensors:  # a selection of tokens has none
        fields["probability_sums"] = ("f32", trace.probability_sums.numpy())
    return fields


def coded(share: Any) -> Array:
    """Numbers in 0..1 as codes 0..255, rounded; values outside are clipped."""
    return np.rint(255 * np.clip(np.asarray(share, dtype=np.float64), 0.0, 1.0))


def clean(value: Any) -> Any:
    """`value` in JSON types: tensors and arrays become lists, NaN and infinity become None."""
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return clean(value.tolist())
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
