"""Validation of a routing trace: each rule rejects one way in which a recorder can be wrong.

Recorders of other engines have returned zeros, stale rows and ramps, all of the right shape. The errors name the rule,
the layer, the token and the value found.
"""

import math
from typing import Any, NoReturn

import torch
from torch import Tensor

from minimoe.errors import BadTrace
from minimoe.routing.trace.recorder import LABELS, PER_ROW, PER_SLOT, PER_TOKEN
from minimoe.routing.trace.roles import ROLES

HALF_ROUNDING = 2e-3  # probabilities are stored in float16, whose relative rounding is 2**-11
WEIGHT_ROUNDING = 1e-2  # weights are recorded in the model's dtype, bfloat16 rounds to 2**-9
PROVENANCES = ("measured", "synthetic")


def check(tensors: dict[str, Tensor], metadata: dict[str, Any], source: str = "trace") -> None:
    """Raise BadTrace unless the tensors are possible outputs of the routers of a model of the sizes in `metadata`."""

    def fail(problem: str) -> NoReturn:
        raise BadTrace(f"{source}: {problem}. Record it again.")

    if metadata.get("provenance", "measured") not in PROVENANCES:
        fail(
            f"provenance in its metadata is {str(metadata['provenance'])[:40]!r}, expected "
            f"{' or '.join(map(repr, PROVENANCES))} (the weights are named by label)"
        )
    ids_only = bool(metadata.get("ids_only", False))
    check_shapes(tensors, ids_only, fail)
    layers = tensors["layers"].tolist()
    slots = int(metadata["num_experts_per_tok"])
    if tensors["experts"].shape[-1] != slots:
        fail(
            f"experts has {tensors['experts'].shape[-1]} slots from layer {layers[0]}, token 0 on, "
            f"but the metadata says num_experts_per_tok = {slots}: the shape of another model"
        )
    if layers != sorted(set(layers)) or layers[0] < 0 or layers[-1] >= int(metadata["num_hidden_layers"]):
        fail(
            f"layers is {layers[:8]}, expected increasing numbers below num_hidden_layers = "
            f"{metadata['num_hidden_layers']}"
        )
    check_tokens(tensors, metadata, fail)
    check_experts(tensors, int(metadata["num_experts"]), layers, fail)
    if not ids_only:
        check_probabilities(tensors, int(metadata["num_experts"]), layers, fail)
        check_weights(tensors, bool(metadata["norm_topk_prob"]), layers, fail)


def check_shapes(tensors: dict[str, Tensor], ids_only: bool, fail: Any) -> None:
    """All tensors are present and not empty, and their numbers of layers, tokens and slots agree."""
    needed = ("layers", "experts", *(() if ids_only else (*PER_SLOT, *PER_ROW)), *PER_TOKEN)
    missing = [name for name in needed if name not in tensors]
    if missing:
        fail(f"{', '.join(dict.fromkeys(missing))} missing")
    if tensors["experts"].dim() != 3 or tensors["experts"].numel() == 0:
        fail(f"experts is {tuple(tensors['experts'].shape)}, expected (layer, token, slot) with at least one of each")
    layers, tokens, slots = tensors["experts"].shape
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(PER_SLOT, (layers, tokens, slots))
    expected |= dict.fromkeys(PER_ROW, (layers, tokens))
    expected |= dict.fromkeys(PER_TOKEN + LABELS, (tokens,)) | {"layers": (layers,)}
    numbers = tensors["layers"].flatten().tolist()
    for name, shape in expected.items():
        actual = tuple(tensors[name].shape) if name in tensors else shape
        if actual != shape:
            location = first_difference(name, actual, shape, numbers)
            fail(
                f"{name} is {actual}, expected {shape}, "
                f"as experts has {layers} layers, {tokens} tokens, {slots} slots; they first differ at {location}"
            )


def first_difference(name: str, actual: tuple[int, ...], expected: tuple[int, ...], layers: list[int]) -> str:
    """The first (layer, token), as text, that is within only one of two shapes."""
    axes = ("layer", "token", "slot") if name in PER_SLOT + PER_ROW else ("token",)
    axes = ("layer",) if name == "layers" else axes
    at = dict.fromkeys(("layer", "token"), 0)
    if len(actual) == len(expected):
        axis = next(i for i, (size, other) in enumerate(zip(actual, expected, strict=True)) if size != other)
        if axes[axis] in at:
            at[axes[axis]] = min(actual[axis], expected[axis])
    layer = layers[at["layer"]] if at["layer"] < len(layers) else f"row {at['layer']}"
    return f"layer {layer}, token {at['token']}"


def check_tokens(tensors: dict[str, Tensor], metadata: dict[str, Any], fail: Any) -> None:
    """Token ids, positions, sequences and, if recorded, labels and losses are within their ranges."""
    layer = int(tensors["layers"][0])
    ranges = {
        "positions": (0, None, ""),
        "sequences": (0, None, ""),
        "tokens": (-1, int(metadata["vocab_size"]), f"ids below vocab_size = {metadata['vocab_size']} (-1: unknown)"),
        "predicted": (-1, int(metadata["vocab_size"]), f"ids below vocab_size = {metadata['vocab_size']} (-1: none)"),
        "roles": (0, len(ROLES), f"a number below {len(ROLES)}, one for each of {', '.join(ROLES)}"),
        "domains": (-1, len(metadata.get("domains", ())), "an index into the metadata's domains (-1: none)"),
        "documents": (-1, len(metadata.get("documents", ())), "an index into the metadata's documents (-1: none)"),
    }
    for name, (lowest, limit, expected) in ranges.items():
        if name not in tensors:
            continue
        wrong = tensors[name] < lowest
        if limit is not None:
            wrong = wrong | (tensors[name] >= limit)
        if wrong.any():
            token = int(wrong.nonzero()[0])
            fail(f"{name} holds {int(tensors[name][token])} for layer {layer}, token {token}, expected "
                 f"{expected or '0 or more'}")  # fmt: skip
    if "losses" in tensors:
        wrong = (tensors["losses"] < 0) | torch.isinf(tensors["losses"])
        if wrong.any():
            token = int(wrong.nonzero()[0])
            fail(
                f"losses holds {float(tensors['losses'][token])} for layer {layer}, token {token}, expected 0 or more "
                "nats, or NaN if no token follows"
            )


def check_experts(tensors: dict[str, Tensor], total: int, layers: list[int], fail: Any) -> None:
    """Expert ids exist, no token selects one twice, and no layer selects the same experts for all tokens."""
    experts = tensors["experts"]
    outside = (experts < 0) | (experts >= total)
    if outside.any():
        layer, token, slot = outside.nonzero()[0].tolist()
        fail(
            f"experts holds {int(experts[layer, token, slot])} for layer {layers[layer]}, token {token}, "
            f"expected ids from 0 to {total - 1}"
        )
    ordered = experts.sort(dim=-1).values
    twice = (ordered[..., 1:] == ordered[..., :-1]).any(dim=-1)
    if twice.any():
        layer = int(twice.nonzero()[0, 0])
        zeros = ", and every id of this layer is 0" if not experts[layer].any() else ""
        fail(f"one expert is selected twice for {where(twice, layers)}{zeros}")
    constant = constant_layer(tensors, total)
    if constant is not None:
        fail(
            f"layer {layers[constant]} has the same experts in the same order for all {experts.shape[1]} tokens "
            f"from token 0 on, as if one stale row was repeated"
        )


def check_probabilities(tensors: dict[str, Tensor], total: int, layers: list[int], fail: Any) -> None:
    """Probabilities, margins, entropies and sums are possible for the largest entries of a softmax."""
    probabilities, margins, entropies = (tensors[name] for name in ("probabilities", "margins", "entropies"))
    for name, values, least in (("probabilities", probabilities, 0), ("margins", margins, 0)):
        wrong = torch.isnan(values) | (values < least)
        if wrong.any():
            fail(f"{name} holds a negative number or NaN for {where(wrong, layers)}")
    rising = (probabilities[..., 1:] > probabilities[..., :-1]).any(dim=-1)
    if rising.any():
        fail(
            f"probabilities rise from slot to slot for {where(rising, layers)}; expected decreasing probability"
        )
    too_much = ~(probabilities.sum(dim=-1) <= 1 + HALF_ROUNDING)
    if too_much.any():
        fail(f"the selected probabilities sum to more than 1 for {where(too_much, layers)}")
    zero = probabilities[..., 0] <= 0
    if zero.any():
        fail(f"all probabilities are zero for {where(zero, layers)}")
    wrong = ~((entropies >= 0) & (entropies <= math.log(total) * (1 + HALF_ROUNDING) + 1e-6))
    if wrong.any():
        fail(
            f"entropies are outside the range from 0 to log({total}) = {math.log(total):.3f} nats for "
            f"{where(wrong, layers)}"
        )
    if "probability_sums" in tensors:
        sums, tokens = tensors["probability_sums"], probabilities.shape[1]
        if tuple(sums.shape) != (len(layers), total):
            fail(f"probability_sums is {tuple(sums.shape)}, expected {(len(layers), total)}, from layer {layers[0]} on")
        wrong = ~((sums >= 0).all(dim=-1) & ((sums.sum(dim=-1) - tokens).abs() <= tokens * HALF_ROUNDING))
        if wrong.any():
            layer = int(wrong.nonzero()[0])
            fail(
                f"probability_sums of layer {layers[layer]}, tokens 0 to {tokens - 1}, add up to "
                f"{float(sums[layer].sum()):.3f}, expected the number of tokens, {tokens}"
            )


def check_weights(tensors: dict[str, Tensor], renormalised: bool, layers: list[int], fail: Any) -> None:
    """The weights follow from the probabilities by `norm_topk_prob`, since a file contains the probabilities only."""
    probabilities, weights = tensors["probabilities"], tensors["weights"]
    expected = probabilities / probabilities.sum(dim=-1, keepdim=True) if renormalised else probabilities
    wrong = ~torch.isclose(weights, expected, rtol=WEIGHT_ROUNDING, atol=1e-6)
    if wrong.any():
        layer, token, slot = wrong.nonzero()[0].tolist()
        fail(
            f"weights holds {float(weights[layer, token, slot]):.4g} for {where(wrong, layers)}, slot {slot}, but by "
            f"the probabilities it is {float(expected[layer, token, slot]):.4g} (norm_topk_prob = {renormalised})"
        )


def constant_layer(tensors: dict[str, Tensor], total: int) -> int | None:
    """The row of the first layer that selects the same experts for all tokens; None with too few tokens.

    A single repeated token, or three tokens at top-1, can legitimately select the same experts. From 8 different tokens
    (32 at top-1), the same experts in the same order mean a broken recorder or a collapsed router.
    """
    experts, tokens = tensors["experts"], tensors["tokens"]
    slots = experts.shape[-1]
    known = bool((tokens >= 0).all())
    different = len(tokens.unique()) if known else len(tokens)
    if different < max(8, 32 // slots) or slots == total == 1:
        return None
    constant = (experts == experts[:, :1]).flatten(1).all(dim=1)
    return int(constant.nonzero()[0]) if constant.any() else None


def where(wrong: Tensor, layers: list[int]) -> str:
    """The layer and token, as text, of the first True of a (layer, token) or (layer, token, slot) tensor."""
    layer, token = wrong.nonzero()[0, :2].tolist()
    return f"layer {layers[layer]}, token {token}"
