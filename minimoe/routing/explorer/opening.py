"""The state in which the explorer opens a trace: all of it selected, and a typical token under the caret."""

import base64
import unicodedata
from typing import Any

import torch
from torch import Tensor

from minimoe.routing.trace.roles import SPECIAL
from minimoe.routing.trace.trace import RoutingTrace

# All keys of the state. web/core/state.js holds the same defaults, which a test compares.
DEFAULTS: dict[str, Any] = {
    "trace": 0, "layer": 0, "expert": None, "token": 0, "range": None, "domain": None, "match": None, "pinned": None,
    "rows": None, "order": "index", "scalar": "shared", "scale": "log", "view": "router",
    "compare": {"a": 0, "b": 1, "matched": False}, "devices": 8, "placement": "contiguous", "theme": "auto",
    "wide": False, "step": 3, "tour": None, "ablation": {}, "lights": True,
}  # fmt: skip


def opening_state(trace: RoutingTrace) -> dict[str, Any]:
    """layer, token, expert, scalar and domain at the start: no filter, and a token on which the router is as sure as on
    half of the others.

    Among the tokens of the first domain that contain a letter and are not markup, it is the one with the median
    probability of its first expert in the middle layer; without probabilities the one in the middle of the text.
    """
    layer = len(trace.layers) // 2
    candidates = with_letters(trace) & (trace.roles != SPECIAL)
    first = candidates & (trace.domains == 0)
    words = (first if bool(first.any()) else candidates).nonzero().flatten()
    if len(words) and trace.has_weights:
        words = words[trace.probabilities[layer, words, 0].argsort(stable=True)]
    token = int(words[len(words) // 2]) if len(words) else 0
    return {
        "layer": layer,
        "token": token,
        "expert": int(trace.experts[layer, token, 0]),
        "scalar": "shared",
        "domain": None,
    }


def with_letters(trace: RoutingTrace) -> Tensor:
    """(token) bool: whether the text of a token contains a letter of any script."""
    ids, inverse = trace.tokens.unique(return_inverse=True)
    known = trace.metadata.get("token_bytes", {})
    texts = [base64.b64decode(known.get(str(token), "")).decode(errors="ignore") for token in ids.tolist()]
    letters = [any(unicodedata.category(character).startswith("L") for character in text) for text in texts]
    return torch.tensor(letters, dtype=torch.bool)[inverse]
