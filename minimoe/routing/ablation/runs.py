"""Repeated runs of a model, each with a different change to one layer's routing.

The layers before the changed one give the same result in every run, so they are computed once and the hidden state
that enters the changed layer is kept. A document without an affected token keeps its losses and is not run again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from minimoe.errors import BadArgument
from minimoe.model.attention import causal_mask
from minimoe.model.rope import rotary_tables
from minimoe.model.transformer import Transformer
from minimoe.routing.ablation.intervention import Change, installed
from minimoe.text.generate import context_length

POSITIONS = 1024  # per batch; bounded because the unchanged next-token distributions of all batches stay in memory
FULLNESS = 0.75  # minimum length of a document, relative to the longest of its batch


@dataclass
class Batch:
    """Documents of similar length, padded on the right, where the causal mask hides the padding."""

    ids: Tensor  # (document, position)
    index: Tensor  # (document, position) index among all tokens, -1 for padding
    entering: Tensor = field(init=False)  # (document, position, hidden) input of the first changed layer
    losses: Tensor = field(init=False)  # (document, position) NaN without a next token
    predictions: Tensor = field(init=False)  # (document, position, vocab) log-probabilities
    seen: dict[int, Tensor] = field(init=False)  # layer -> experts (document, position, slot)


@dataclass
class Outcome:
    """The effect of one change, with one value per token in every tensor."""

    losses: Tensor
    kl: Tensor | None = None
    overlap: dict[int, Tensor] = field(default_factory=dict)  # layer -> share of the experts that stay selected


class Runs:
    """The documents, run once through the unchanged `model`, ready for changes in layer `first` and later ones."""

    def __init__(self, model: Transformer, documents: Sequence[Tensor], first: int):
        self.model, self.first = model, first
        self.tokens = torch.cat(list(documents))
        self.documents = torch.cat([torch.full_like(ids, number) for number, ids in enumerate(documents)])
        self.batches = make_batches(documents)
        for batch in self.batches:
            self.run_unchanged(batch)
        self.losses = self.flat([batch.losses for batch in self.batches], torch.nan)
        self.selected = {
            layer: self.flat([batch.seen[layer] for batch in self.batches], 0) for layer in self.batches[0].seen
        }

    @torch.inference_mode()
    def run_unchanged(self, batch: Batch) -> None:
        """Run the batch through the unchanged model and store the results in it."""
        batch.seen = {}
        with installed(self.model, None, batch.seen):
            x = self.model.embed(batch.ids)
            batch.entering = x = self.through(x, self.model.layer_range.start, self.first)
            x = self.through(x, self.first, self.model.layer_range.stop)
        batch.seen = {layer: fold(experts, batch.ids) for layer, experts in batch.seen.items()}
        batch.predictions = self.predict(x)
        batch.losses = next_losses(batch.predictions, batch.ids, batch.index)

    @torch.inference_mode()
    def run(self, change: Change, detailed: bool = False) -> Outcome:
        """The losses (token) with this change; with `detailed` also the KL divergence and the overlap of selections."""
        touched = self.affected(change) | self.weights_shift(change)
        losses, kl = [], []
        overlap: list[dict[int, Tensor]] = []
        for batch in self.batches:
            rows = (touched[batch.index] & (batch.index >= 0)).any(dim=1).nonzero().flatten()
            seen: dict[int, Tensor] = {}
            changed, divergence = batch.losses.clone(), torch.zeros_like(batch.losses)
            shared = {layer: torch.ones(batch.ids.shape) for layer in batch.seen}
            if len(rows):
                with installed(self.model, change, seen if detailed else None):
                    x = self.through(batch.entering[rows.to(batch.entering.device)], self.first, None)
                predictions = self.predict(x)
                changed[rows] = next_losses(predictions, batch.ids[rows], batch.index[rows])
                if detailed:
                    before = batch.predictions[rows.to(batch.predictions.device)]
                    divergence[rows] = (before.exp() * (before - predictions)).sum(dim=-1).clamp_min(0).cpu()
                for layer, experts in seen.items():
                    shared[layer][rows] = still_selected(batch.seen[layer][rows], fold(experts, batch.ids[rows]))
            losses.append(changed)
            kl.append(divergence)
            overlap.append(shared)
        if not detailed:
            return Outcome(self.flat(losses, torch.nan))
        everywhere = len(change.layers(self.model)) > 1
        later = [layer for layer in overlap[0] if everywhere or layer > change.layer]
        shares = {layer: self.flat([shared[layer] for shared in overlap], torch.nan) for layer in later}
        return Outcome(self.flat(losses, torch.nan), self.flat(kl, torch.nan), shares)

    def affected(self, change: Change) -> Tensor:
        """(token) bool: whether the change alters the token's routing in the changed layer.

        "mask" and "drop" affect the tokens that select one of the experts, "force" those that do not select all of
        them; a different number of experts affects every token.
        """
        selected = self.selected[change.layer]
        if change.top_k not in (None, selected.shape[-1]):
            return torch.ones(len(selected), dtype=torch.bool)
        is_changed = torch.isin(selected, torch.tensor(change.experts, dtype=torch.int64))
        return is_changed.sum(dim=-1) < len(change.experts) if change.mode == "force" else is_changed.any(dim=-1)

    def weights_shift(self, change: Change) -> bool:
        """Whether masking changes the weights of every token, because the masked softmax share goes to other experts.

        Renormalised weights (norm_topk_prob, as in all of Qwen3) are unaffected.
        """
        return change.mode == "mask" and bool(change.experts) and not self.model.config.norm_topk_prob

    def through(self, x: Tensor, start: int, stop: int | None) -> Tensor:
        """Run x (document, position, hidden) through layers `start` to `stop` - 1 (None: to the last layer)."""
        positions = x.shape[1]
        cos, sin = rotary_tables(self.model.config, 0, positions, x.dtype, x.device)
        mask = causal_mask(positions, positions, x.device) if self.model.attention == "eager" else None
        for layer in range(start, self.model.layer_range.stop if stop is None else stop):
            x = self.model.layers[layer](x, cos, sin, mask)
        return x

    def predict(self, x: Tensor) -> Tensor:
        """Log-probabilities (document, position, vocab) of the next token, in float32 or float64."""
        logits = self.model.lm_head(self.model.norm(x))
        return logits.log_softmax(dim=-1, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)

    def flat(self, values: Sequence[Tensor], fill: float) -> Tensor:
        """One (document, position, ...) tensor per batch -> (token, ...), documents in their original order."""
        result = torch.full((len(self.tokens), *values[0].shape[2:]), fill, dtype=values[0].dtype)
        for batch, value in zip(self.batches, values, strict=True):
            real = batch.index >= 0
            result[batch.index[real]] = value[real]
        return result


def make_batches(documents: Sequence[Tensor]) -> list[Batch]:
    """Group documents of similar length, longest first; a batch has at most POSITIONS tokens, or one document."""
    starts = torch.tensor([0, *(len(ids) for ids in documents)]).cumsum(0).tolist()
    groups: list[list[int]] = []
    for number in sorted(range(len(documents)), key=lambda number: -len(documents[number])):
        longest = len(documents[groups[-1][0]]) if groups else 0
        fits = groups and longest * (len(groups[-1]) + 1) <= POSITIONS
        if fits and len(documents[number]) >= FULLNESS * longest:
            groups[-1].append(number)
        else:
            groups.append([number])
    batches = []
    for group in groups:
        ids = torch.zeros(len(group), len(documents[group[0]]), dtype=torch.int64)
        index = torch.full_like(ids, -1)
        for row, number in enumerate(group):
            length = len(documents[number])
            ids[row, :length] = documents[number]
            index[row, :length] = torch.arange(starts[number], starts[number] + length)
        batches.append(Batch(ids, index))
    return batches


def next_losses(predictions: Tensor, ids: Tensor, index: Tensor) -> Tensor:
    """(document, position) loss of the next token, in nats; NaN without a next token.

    predictions: (document, position, vocab); ids and index: (document, position), see `Batch`.
    """
    losses = torch.full(ids.shape, torch.nan, dtype=predictions.dtype)
    ahead = rearrange(predictions[:, :-1], "document position vocab -> (document position) vocab")
    targets = rearrange(ids[:, 1:], "document position -> (document position)").to(ahead.device)
    losses[:, :-1] = F.nll_loss(ahead, targets, reduction="none").view(len(ids), -1).cpu()
    losses[:, :-1][index[:, 1:] < 0] = torch.nan
    return losses


def fold(experts: Tensor, ids: Tensor) -> Tensor:
    """(document position, slot) -> (document, position, slot), on the CPU."""
    return rearrange(experts, "(document position) slot -> document position slot", document=len(ids)).cpu()


def still_selected(before: Tensor, after: Tensor) -> Tensor:
    """(document, position) share of the experts in `before` (document, position, slot) that are also in `after`."""
    return (before[..., :, None] == after[..., None, :]).any(dim=-1).float().mean(dim=-1)


def as_documents(model: Transformer, given: Any, tokenizer: Any = None) -> list[Tensor]:
    """One int64 tensor of ids per document, from texts, or from ids as (token), (batch, position) or rows.

    Raises BadArgument, naming the document, if the model cannot run it or it has no next token.
    """
    if isinstance(given, str) or (isinstance(given, Tensor) and given.dim() == 1):
        given = [given]
    rows = given.shape[0] if isinstance(given, Tensor) and given.dim() == 2 else 0
    if not rows and not (isinstance(given, list | tuple) and len(given)):
        raise BadArgument(
            f"documents is {'empty' if given in ([], ()) else type(given).__name__}, expected texts, rows of token ids "
            "or a (batch, position) tensor."
        )
    if isinstance(given[0], int):
        given = [given]
    documents = [one_document(model, number, one, tokenizer) for number, one in enumerate(given)]
    if model.config.num_hidden_layers != len(model.layer_range):
        raise BadArgument(
            f"model holds only layers {model.layer_range}, but losses need all layers. Load it without layers=."
        )
    return documents


def one_document(model: Transformer, number: int, given: Any, tokenizer: Any) -> Tensor:
    """The ids of one document (token) int64."""
    if isinstance(given, str):
        if tokenizer is None:
            raise BadArgument(f"document {number} is a text, but there is no tokenizer to encode it: pass tokenizer=.")
        given = tokenizer.encode(given, special=False)
        if not given:
            raise BadArgument(f"document {number} is an empty text, expected at least two tokens.")
    try:
        ids = given.detach().cpu() if isinstance(given, Tensor) else torch.tensor(given)
    except (TypeError, ValueError, RuntimeError):
        ids = torch.empty(0)
    if ids.dim() != 1 or ids.dtype not in (torch.int64, torch.int32):
        raise BadArgument(f"document {number} is {type(given).__name__}, expected a row of integer token ids.")
    most = context_length(model.config)
    if not 2 <= len(ids) <= most:
        raise BadArgument(
            f"document {number} has {len(ids)} tokens, expected 2 to {most} (a single token has no next token)."
        )
    if int(ids.min()) < 0 or int(ids.max()) >= model.config.vocab_size:
        raise BadArgument(
            f"document {number} contains token ids {int(ids.min())}..{int(ids.max())}, "
            f"but the vocabulary is 0..{model.config.vocab_size - 1}."
        )
    return ids.long()
