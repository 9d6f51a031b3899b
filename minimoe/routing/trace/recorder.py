"""Record the decisions of the routers with forward hooks that leave the model unchanged.

Each forward pass of the model is recorded as a dictionary of tensors:

    experts, weights, probabilities   (layer, token, slot)
    margins, entropies                (layer, token)
    tokens, positions, sequences      (token)
    probability_sums                  (layer, expert), summed over the tokens

The tokens of a batch are flattened row by row, in the order in which the router sees them.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from einops import repeat
from torch import Tensor

from minimoe.errors import BadArgument, MinimoeError, NotFinite
from minimoe.model.cache import KVCache
from minimoe.model.checks import as_batch
from minimoe.model.finite import cause, is_finite
from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.hooks import on_routers, router, router_layers

PER_SLOT = ("experts", "weights", "probabilities")
PER_ROW = ("margins", "entropies")
PER_TOKEN = ("tokens", "positions", "sequences")
LABELS = ("roles", "domains", "documents", "losses", "predicted")  # also (token), but optional in a trace
PER_LAYER = ("probability_sums",)
UNKNOWN_TOKEN = -1  # the model was called with hidden=, so the token ids are unknown
ARGUMENTS = ("token_ids", "cache", "hidden", "last_only")  # of Transformer.forward

Pass = dict[str, Tensor]


class Recorder:
    """Collects the forward passes of one model in `passes`; `faults` describes passes that could not be recorded."""

    def __init__(self, model: Transformer):
        if not isinstance(model, Transformer):
            raise BadArgument(f"model is {type(model).__name__}, expected a minimoe.Transformer.")
        self.model = model
        self.layers = router_layers(model)
        if not self.layers:
            kind, loaded = model.config.model_type, model.layer_range
            raise BadArgument(f"this {kind} model has no router in layers {loaded}; recording needs a MoE layer.")
        self.passes: list[Pass] = []
        self.faults: list[str] = []
        self.next_sequence = 0
        self.first_sequence: WeakKeyDictionary[KVCache, int] = WeakKeyDictionary()  # of the batch in each cache
        self.pending: dict[int, list[Pass]] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Install the hooks inside this block; they are removed when it ends, also after an exception."""
        with ExitStack() as stack:
            stack.callback(self.model.register_forward_pre_hook(self.begin, with_kwargs=True).remove)
            stack.callback(self.model.register_forward_hook(self.finish, with_kwargs=True).remove)
            stack.enter_context(on_routers(self.model, self.routed, self.layers))
            yield

    def begin(self, model: Transformer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the model: store the token ids and the start position, before the cache advances."""
        self.pending = None
        given: dict[str, Any] = dict(zip(ARGUMENTS, args, strict=False)) | kwargs
        hidden, cache = given.get("hidden"), given.get("cache")
        try:
            ids = as_batch(given.get("token_ids")) if hidden is None else torch.full(hidden.shape[:2], UNKNOWN_TOKEN)
        except MinimoeError:
            return  # the model itself will reject this input
        self.ids, self.cache, self.start = ids.detach().cpu().long(), cache, 0 if cache is None else cache.length
        self.pending = {number: [] for number in self.layers}

    @torch.no_grad()
    def routed(self, layer: int, gate: torch.nn.Module, routing: Routing) -> None:
        """Hook of a router, see `on_routers`. Calls to a router outside the model's forward pass are not recorded."""
        if self.pending is not None:
            self.pending[layer].append(summary(routing))

    def finish(self, model: Transformer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        """Forward hook of the model: keep the pass. A pass that raised is dropped by the next `begin`.

        Raises NotFinite if a router computed NaN, since the experts that it then selects mean nothing.
        """
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        seen = {layer: sum(len(piece["margins"]) for piece in pieces) for layer, pieces in pending.items()}
        wrong = [layer for layer, count in seen.items() if count != self.ids.numel()]
        if wrong:
            layer = wrong[0]
            self.faults.append(bypassed(layer, seen[layer], self.ids.numel()))
            return
        rows = [
            {key: torch.cat([piece[key] for piece in pieces]) for key in PER_SLOT + PER_ROW}
            for pieces in pending.values()
        ]
        for layer, row in zip(pending, rows, strict=True):
            if not is_finite(row["entropies"]):
                raise NotFinite(f"the logits of the router in layer {layer} are NaN or infinite. {cause(model, None)}")
        routed = {key: torch.stack([row[key] for row in rows]).cpu() for key in PER_SLOT + PER_ROW}
        sums = [torch.stack([piece["probability_sums"] for piece in pieces]).sum(dim=0) for pieces in pending.values()]
        self.passes.append(routed | self.origins() | {"probability_sums": torch.stack(sums).cpu()})

    def origins(self) -> Pass:
        """Token id, position and sequence of each row. A non-empty cache continues its own sequences."""
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
    """The record of one router output, in float32: slots by falling probability, and statistics over all experts.

    margin: logit of the last selected expert minus that of the first rejected one (rank K minus rank K + 1); infinite
    if all experts are selected.
    entropy: of the softmax over all experts, in nats.
    probability_sums: (expert), the softmax, summed over the tokens.
    """
    slots = routing.experts.shape[-1]
    logits = routing.logits.double() if routing.logits.dtype == torch.float64 else routing.logits.float()
    everyone = logits.softmax(dim=-1)
    chosen = everyone.gather(-1, routing.experts)
    order = chosen.argsort(dim=-1, descending=True, stable=True)  # already sorted, unless the router is a reader's own
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


def bypassed(layer: int, seen: int, tokens: int) -> str:
    """A message about tokens that reached the experts of a layer without its router."""
    return (
        f"layer {layer} sent {seen} of {tokens} tokens through its router. Does something run the experts without it?"
    )


def router_sha256(model: Transformer, layers: list[int]) -> str:
    """SHA-256 of the router weights in bfloat16, the dtype of the released files, so a float32 load gives the same."""
    digest = hashlib.sha256()
    for number in layers:
        weight = router(model, number).weight.detach().to(torch.bfloat16).contiguous()
        digest.update(weight.view(torch.uint8).cpu().numpy().tobytes())
    return digest.hexdigest()
