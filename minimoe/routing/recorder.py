"""Watching the routers: forward hooks that read what a router decided and change nothing.

One pass of the model becomes one dictionary of tensors:

    experts, weights, probabilities   (layer, token, slot)
    margins, entropies                (layer, token)
    tokens, positions, sequences      (token)
    probability_sums                  (layer, expert), added up over the tokens

Tokens of a batch follow each other row by row, as the router itself sees them.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from einops import repeat
from torch import Tensor

from minimoe.errors import BadArgument, MinimoeError, NotFinite
from minimoe.model.cache import KVCache
from minimoe.model.finite import cause, is_finite
from minimoe.model.router import Router, Routing
from minimoe.model.transformer import Transformer, as_batch

PER_SLOT = ("experts", "weights", "probabilities")
PER_ROW = ("margins", "entropies")
PER_TOKEN = ("tokens", "positions", "sequences")
LABELS = ("roles", "domains", "documents", "losses", "predicted")  # (token) too, but not every trace has them
PER_LAYER = ("probability_sums",)
UNKNOWN_TOKEN = -1  # the model was called with hidden=, so no ids went through it
ARGUMENTS = ("token_ids", "cache", "hidden", "last_only")  # of Transformer.forward

Pass = dict[str, Tensor]


class Recorder:
    """Collects the passes of one model in `passes`; `faults` says what could not be recorded."""

    def __init__(self, model: Transformer):
        if not isinstance(model, Transformer):
            raise BadArgument(f"model is {type(model).__name__}, expected a minimoe.Transformer.")
        self.model = model
        self.layers = [number for number in model.layer_range if model.config.is_moe(number)]
        if not self.layers:
            kind, here = model.config.model_type, model.layer_range
            raise BadArgument(f"this {kind} model has no router in layers {here}; routing needs a MoE layer.")
        self.passes: list[Pass] = []
        self.faults: list[str] = []
        self.next_sequence = 0
        self.first_sequence: WeakKeyDictionary[KVCache, int] = WeakKeyDictionary()  # of the batch that a cache holds
        self.pending: dict[int, list[Pass]] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks are in place inside this block and gone after it, whatever happens."""
        with ExitStack() as stack:
            stack.callback(self.model.register_forward_pre_hook(self.begin, with_kwargs=True).remove)
            stack.callback(self.model.register_forward_hook(self.finish, with_kwargs=True).remove)
            for layer in self.layers:
                stack.callback(router(self.model, layer).register_forward_hook(partial(self.routed, layer)).remove)
            yield

    def begin(self, model: Transformer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the model: which tokens come, and from which position on (the cache moves while the model runs)."""
        self.pending = None
        given: dict[str, Any] = dict(zip(ARGUMENTS, args, strict=False)) | kwargs
        hidden, cache = given.get("hidden"), given.get("cache")
        try:
            ids = as_batch(given.get("token_ids")) if hidden is None else torch.full(hidden.shape[:2], UNKNOWN_TOKEN)
        except MinimoeError:
            return  # the model itself is about to refuse this input
        self.ids, self.cache, self.start = ids.detach().cpu().long(), cache, 0 if cache is None else cache.length
        self.pending = {number: [] for number in self.layers}

    @torch.no_grad()
    def routed(self, layer: int, gate: torch.nn.Module, args: tuple[Any, ...], routing: Routing) -> None:
        """After a router. A router that is called by hand, outside of the model, is not recorded."""
        if self.pending is not None:
            self.pending[layer].append(summary(routing))

    def finish(self, model: Transformer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        """After the model. A pass that raised never comes here; the next `begin` throws its first half away. Raises
        NotFinite if a router computed NaN: such a pass selects no experts that mean anything.
        """
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        seen = {layer: sum(len(piece["margins"]) for piece in pieces) for layer, pieces in pending.items()}
        wrong = [layer for layer, count in seen.items() if count != self.ids.numel()]
        if wrong:
            self.faults.append(
                f"layer {wrong[0]} sent {seen[wrong[0]]} of {self.ids.numel()} tokens through its router"
            )
            return
        rows = [
            {key: torch.cat([piece[key] for piece in pieces]) for key in PER_SLOT + PER_ROW}
            for pieces in pending.values()
        ]
        for layer, row in zip(pending, rows, strict=True):
            if not is_finite(row["entropies"]):
                raise NotFinite(
                    f"the logits of the router in layer {layer} are NaN or infinite. {cause(model, None)}"
                )
        routed = {key: torch.stack([row[key] for row in rows]).cpu() for key in PER_SLOT + PER_ROW}
        sums = [torch.stack([piece["probability_sums"] for piece in pieces]).sum(dim=0) for pieces in pending.values()]
        self.passes.append(routed | self.places() | {"probability_sums": torch.stack(sums).cpu()})

    def places(self) -> Pass:
        """Which token of which sequence each row is. A cache that already holds positions continues its sequences."""
        batch, length = self.ids.shape
        known = self.first_sequence.get(self.cache) if self.cache is not None and self.start > 0 else None
        first = self.next_sequence if known is None else known
        if known is None:
            self.next_sequence += batch
            if self.cache is not None:
                self.first_sequence[self.cache] = first
        return {
            "tokens": self.ids.flatten(),
            "positions": repeat(
                torch.arange(self.start, self.start + length), "position -> (batch position)", batch=batch
            ),
            "sequences": repeat(torch.arange(first, first + batch), "batch -> (batch position)", position=length),
        }


def summary(routing: Routing) -> Pass:
    """What is kept of one router's decision, in float32: slots by falling probability, and what they do not tell.

    margin: logit of the last expert that is in minus that of the first one that is out (rank K minus rank K + 1);
    infinite if all are in.
    entropy: of the softmax over all experts, in nats.
    probability_sums: (expert), the softmax added up over the tokens.
    """
    slots = routing.experts.shape[-1]
    logits = routing.logits.double() if routing.logits.dtype == torch.float64 else routing.logits.float()
    everyone = logits.softmax(dim=-1)
    chosen = everyone.gather(-1, routing.experts)
    order = chosen.argsort(dim=-1, descending=True, stable=True)  # already in order, unless a learner's own router ran
    ranked = logits.topk(min(slots + 1, logits.shape[-1]), dim=-1).values
    infinite = torch.full_like(ranked[:, 0], torch.inf)
    return {
        "experts": routing.experts.gather(-1, order),
        "weights": routing.weights.gather(-1, order).float(),
        "probabilities": chosen.gather(-1, order).float(),
        "margins": (ranked[:, slots - 1] - ranked[:, slots] if slots < logits.shape[-1] else infinite).float(),
        "entropies": torch.special.entr(everyone).sum(dim=-1).float(),
        "probability_sums": everyone.sum(dim=0).float(),
    }


def router(model: Transformer, layer: int) -> Router:
    """The router module of a Mixture-of-Experts layer."""
    return cast(Router, model.layers[layer].mlp.gate)


def router_sha256(model: Transformer, layers: list[int]) -> str:
    """Fingerprint of the router weights as bfloat16, the released files' dtype: loading in float32 keeps it."""
    digest = hashlib.sha256()
    for number in layers:
        weight = router(model, number).weight.detach().to(torch.bfloat16).contiguous()
        digest.update(weight.view(torch.uint8).cpu().numpy().tobytes())
    return digest.hexdigest()
