"""Does a routing trace make sense? Other engines' recorders have returned zeros, stale rows and ramps of the right
shape.

So nothing is believed: every rule here is one way in which a recorder can be wrong. The errors say which rule, where,
and what was found.
"""

import math
from typing import Any, NoReturn

import torch
from torch import Tensor

from minimoe.errors import BadTrace
from minimoe.routing.recorder import PER_ROW, PER_SLOT, PER_TOKEN

HALF_ROUNDING = 2e-3  # probabilities are stored in float16, whose relative rounding is 2**-11


def check(tensors: dict[str, Tensor], metadata: dict[str, Any], source: str = "trace") -> None:
    """Raise BadTrace unless tensors and metadata describe routing that a model of those sizes can have done."""

    def fail(sentence: str) -> NoReturn:
        raise BadTrace(f"{source}: {sentence}. Record it again.")

    check_shapes(tensors, fail)
    experts, probabilities = tensors["experts"], tensors["probabilities"]
    layers = tensors["layers"].tolist()
    total, slots = int(metadata["num_experts"]), int(metadata["num_experts_per_tok"])
    if experts.shape[-1] != slots:
        fail(f"experts has {experts.shape[-1]} slots, but the metadata says num_experts_per_tok = {slots}")
    if layers != sorted(set(layers)) or layers[0] < 0 or layers[-1] >= int(metadata["num_hidden_layers"]):
        fail(
            f"layers is {layers[:8]}, expected rising numbers below num_hidden_layers = {metadata['num_hidden_layers']}"
        )
    for name in ("positions", "sequences"):
        if int(tensors[name].min()) < 0:
            fail(f"{name} holds {int(tensors[name].min())}, expected 0 or more")
    lowest, highest = int(tensors["tokens"].min()), int(tensors["tokens"].max())
    if lowest < -1 or highest >= int(metadata["vocab_size"]):
        fail(
            f"tokens holds {lowest}..{highest}, expected ids below vocab_size = {metadata['vocab_size']} (-1: unknown)"
        )

    lowest, highest = int(experts.min()), int(experts.max())
    if lowest < 0 or highest >= total:
        fail(f"experts holds {lowest}..{highest}, expected ids from 0 to {total - 1}")
    by_id = experts.sort(dim=-1).values
    twice = (by_id[..., 1:] == by_id[..., :-1]).any(dim=-1)
    if twice.any():
        fail(f"one expert is selected twice for {where(twice, layers)}")
    if not torch.isfinite(probabilities).all() or float(probabilities.min()) < 0:
        fail("probabilities holds a negative number or NaN")
    rising = (probabilities[..., 1:] > probabilities[..., :-1]).any(dim=-1)
    if rising.any():
        fail(
            f"probabilities rise from slot to slot for {where(rising, layers)}; slots are sorted by falling probability"
        )
    too_much = probabilities.sum(dim=-1) > 1 + HALF_ROUNDING
    if too_much.any():
        fail(f"the selected probabilities sum to more than 1 for {where(too_much, layers)}")
    nothing = probabilities[..., 0] <= 0
    if nothing.any():
        fail(f"all probabilities are zero for {where(nothing, layers)}")
    if torch.isnan(tensors["margins"]).any() or float(tensors["margins"].min()) < 0:
        fail("margins holds a negative number or NaN")
    entropies = tensors["entropies"]
    if not bool(((entropies >= 0) & (entropies <= math.log(total) * (1 + HALF_ROUNDING) + 1e-6)).all()):
        fail(f"entropies leave the range from 0 to log({total}) = {math.log(total):.3f} nats")
    constant = constant_layer(tensors, total)
    if constant is not None:
        fail(
            f"layer {layers[constant]} has the same experts in the same order for all {experts.shape[1]} tokens, "
            "which looks like one stale row, repeated"
        )


def check_shapes(tensors: dict[str, Tensor], fail: Any) -> None:
    """Every tensor is there, none is empty, and layer, token and slot mean the same number everywhere."""
    missing = [name for name in ("layers", *PER_SLOT, *PER_ROW, *PER_TOKEN) if name not in tensors]
    if missing:
        fail(f"{', '.join(missing)} missing")
    if tensors["experts"].dim() != 3 or tensors["experts"].numel() == 0:
        fail(f"experts is {tuple(tensors['experts'].shape)}, expected (layer, token, slot), none of them zero")
    layers, tokens, slots = tensors["experts"].shape
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(PER_SLOT, (layers, tokens, slots)) | dict.fromkeys(
        PER_ROW, (layers, tokens)
    )
    expected |= dict.fromkeys(PER_TOKEN, (tokens,)) | {"layers": (layers,)}
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            fail(
                f"{name} is {tuple(tensors[name].shape)}, expected {shape}, "
                f"as experts has {layers} layers, {tokens} tokens, {slots} slots"
            )


def constant_layer(tensors: dict[str, Tensor], total: int) -> int | None:
    """The first layer that treats every token alike, if there are enough different tokens to call that impossible.

    One token repeated, or three tokens at top-1, may well select alike. From 8 different tokens on (32 at top-1) the
    same experts in the same order are a broken recorder, or a router so collapsed that it deserves the same attention.
    """
    experts, tokens = tensors["experts"], tensors["tokens"]
    slots = experts.shape[-1]
    known = bool((tokens >= 0).all())
    different = len(tokens.unique()) if known else len(tokens)
    if different < max(8, 32 // slots) or slots == total == 1:
        return None
    alike = (experts == experts[:, :1]).flatten(1).all(dim=1)
    return int(alike.nonzero()[0]) if alike.any() else None


def where(wrong: Tensor, layers: list[int]) -> str:
    """Words for the first True of a (layer, token) tensor."""
    layer, token = wrong.nonzero()[0].tolist()
    return f"layer {layers[layer]}, token {token}"
