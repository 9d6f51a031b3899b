"""The result of an ablation, and its JSON form for view J of the explorer."""

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from minimoe.routing.ablation.intervention import Change
from minimoe.routing.statistics.resampling import middle, resampled_means

RESAMPLES = 1000


@dataclass(frozen=True)
class Mean:
    """A mean over tokens with its 95 % interval over documents; low and high are NaN for fewer than two documents."""

    value: float
    low: float
    high: float
    n: int  # tokens

    def to_json(self) -> dict[str, Any]:
        return {"mean": number(self.value), "low": number(self.low), "high": number(self.high), "n": self.n}


@dataclass(frozen=True)
class Control:
    """The effect of the same change applied to other experts of the same layer."""

    experts: tuple[int, ...]
    load: int  # tokens that select at least one of them
    delta_loss: float  # mean over all tokens, nats


@dataclass(frozen=True)
class Ablation:
    """A change of routing and its effect on the next-token loss. Losses in nats, one entry per token.

    Tokens are those of all documents, concatenated. The last token of a document has no next token: its loss is NaN.
    """

    change: Change
    trained_top_k: int
    num_experts: int
    losses: Tensor  # (token) of the unchanged model
    changed_losses: Tensor  # (token) with the change
    kl: Tensor  # (token) nats, KL(unchanged || changed) of the next-token distribution
    affected: Tensor  # (token) bool: whether the change alters the token's routing in this layer
    documents: Tensor  # (token) int64, the document of each token
    tokens: Tensor  # (token) int64 ids
    delta_loss: dict[str, Mean]  # "all", "affected"
    mean_kl: dict[str, Mean]  # "all", "affected"
    overlap_by_layer: list[dict[str, Any]]
    load: int  # tokens that select at least one of the experts
    candidates: int  # experts that could serve as controls (for several experts: of the smallest pool)
    controls: list[Control]
    notes: list[str]
    text: dict[str, str] | None = None
    seconds: float = field(default=0.0, compare=False)

    @property
    def per_token(self) -> Tensor:
        """(token) loss with the change minus loss without it, in nats; positive means worse."""
        return self.changed_losses - self.losses

    @property
    def rank(self) -> int | None:
        """1 if the change raises the loss more than every control; None without controls."""
        if not self.controls:
            return None
        return 1 + sum(control.delta_loss >= self.delta_loss["all"].value for control in self.controls)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for view J. Losses and KL are in nats; `null` marks a missing value.

        {"layer": 2, "experts": [17], "mode": "mask",          absolute layer number
         "top_k": 8, "trained_top_k": 8, "everywhere": false,  experts per token with the change; in all layers or one
         "num_experts": 128,
         "documents": 8,                                       number of documents; the intervals are over documents
         "n": 504,                                             tokens with a next token: the means are over these
         "affected": 31,                                       those of them whose routing in the layer changes
         "load": 33,                                           tokens that select one of the experts (of all tokens)
         "delta_loss": {"all": {"mean": 0.012, "low": 0.001, "high": 0.03, "n": 504},     95 % bootstrap over
                        "affected": {"mean": ..., "low": ..., "high": ..., "n": 31}},     documents; positive = worse
         "kl": {"all": {...}, "affected": {...}},              KL(unchanged || changed) of the next token, same keys
         "per_token": [0.01, ..., null],                       delta loss of each token, document after document
         "per_token_kl": [0.002, ...],
         "affected_tokens": [0, 1, 0, ...],                    1 where the routing in the layer changes
         "document_of": [0, 0, ...], "token_ids": [17, ...],   of each token
         "trace_tokens": [0, 1, 2, ...] | null,                index of each token in the trace (from the kernel only)
         "overlap_by_layer": [{"layer": 3, "all": 0.98, "affected": 0.91, "chance": 0.0625}, ...],
                                                               share of the selected experts that stay selected,
                                                               in later layers (in all layers if everywhere)
         "controls": [{"expert": 40, "experts": [40], "load": 30, "delta_loss": 0.004}, ...],
                                                               same change, other experts with a similar load;
                                                               delta_loss is the mean over all tokens
         "candidates": 57,                                     experts that could serve as controls (for several
                                                               experts: of the smallest pool)
         "rank": {"place": 1, "of": 21} | null,                place 1: no control raises the loss as much
         "text": {"prompt": "...", "before": "...", "after": "..."} | null,     greedy continuations
         "notes": ["..."],                                     caveats to show with the numbers
         "seconds": 0.8}
        """
        change = self.change
        return {
            "layer": change.layer,
            "experts": list(change.experts),
            "mode": change.mode,
            "top_k": change.top_k or self.trained_top_k,
            "trained_top_k": self.trained_top_k,
            "everywhere": change.everywhere,
            "num_experts": self.num_experts,
            "documents": int(self.documents.max()) + 1,
            "n": self.delta_loss["all"].n,
            "affected": self.delta_loss["affected"].n,
            "load": self.load,
            "delta_loss": {name: mean.to_json() for name, mean in self.delta_loss.items()},
            "kl": {name: mean.to_json() for name, mean in self.mean_kl.items()},
            "per_token": [number(value) for value in self.per_token.tolist()],
            "per_token_kl": [number(value) for value in self.kl.tolist()],
            "affected_tokens": self.affected.int().tolist(),
            "document_of": self.documents.tolist(),
            "token_ids": self.tokens.tolist(),
            "trace_tokens": None,
            "overlap_by_layer": [
                {key: number(value) for key, value in entry.items()} for entry in self.overlap_by_layer
            ],
            "controls": [
                {
                    "expert": control.experts[0],
                    "experts": list(control.experts),
                    "load": control.load,
                    "delta_loss": number(control.delta_loss),
                }
                for control in self.controls
            ],
            "candidates": self.candidates,
            "rank": None if self.rank is None else {"place": self.rank, "of": len(self.controls) + 1},
            "text": self.text,
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }


def number(value: float | int) -> float | int | None:
    """`value` as a JSON number with six significant digits; None for NaN and infinity."""
    if isinstance(value, int):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def bootstrapped_mean(values: Tensor, chosen: Tensor, documents: Tensor, seed: int) -> Mean:
    """Mean of values[chosen] over tokens, with the 2.5 and 97.5 percentiles of a bootstrap over whole documents.

    values: (token); chosen: (token) bool; documents: (token). Tokens of one document are not independent, so documents
    are resampled (Efron and Tibshirani 1993, chapter 8). Documents without a chosen token are ignored.
    """
    values, documents = values[chosen].double(), documents[chosen]
    if not len(values):
        return Mean(math.nan, math.nan, math.nan, 0)
    mean = float(values.mean())
    means = resampled_means(values[None], documents, RESAMPLES, seed)
    if means is None:
        return Mean(mean, math.nan, math.nan, len(values))
    low, high = middle(means).flatten().tolist()
    return Mean(mean, low, high, len(values))
