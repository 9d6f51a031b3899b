"""Ablation: how the next-token loss changes when an expert is switched off, compared with controls.

    result = ablate(model, documents, layer=2, experts=[17])
    result.delta_loss["affected"]      # mean, 95 % interval over documents, in nats
    result.rank                        # 1: no control with a similar load raises the loss as much

Most single experts have no visible effect; the controls show whether this one is an exception. The modes are described
in intervention.py. The model itself is never modified.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from minimoe.errors import BadArgument
from minimoe.model.transformer import Transformer
from minimoe.routing.ablation.controls import FEWEST, NEAR, draw_controls
from minimoe.routing.ablation.intervention import Change, ablated, check_change, installed
from minimoe.routing.ablation.result import Ablation, Control, Mean, bootstrapped_mean
from minimoe.routing.ablation.runs import Outcome, Runs, as_documents
from minimoe.text.generate import generate

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer

__all__ = ["Ablation", "Sweep", "ablate", "ablated", "ablation_sweep"]

FEW_DOCUMENTS = 20  # with fewer, the interval over documents is only a rough estimate
NEW_TOKENS = 40


def ablate(
    model: Transformer,
    documents: Any,
    layer: int,
    experts: Sequence[int] = (),
    mode: str = "mask",
    top_k: int | None = None,
    everywhere: bool = False,
    controls: int = 20,
    seed: int = 0,
    tokenizer: "Tokenizer | None" = None,
    prompt: str | None = None,
) -> Ablation:
    """Measure the effect of a change to one layer's routing, and of the same change applied to control experts.

    documents: texts (these need `tokenizer`), a (batch, position) tensor, or rows of token ids of any length.
    mode: "mask", "drop", "drop_renormalise" or "force". top_k: 1 to 16 experts per token, in this layer or, with
    `everywhere`, in every layer. controls: the number of other experts with a similar load to try. prompt: a text to
    continue greedily without and with the change. The same arguments give the same result. Raises BadArgument.
    """
    started = time.perf_counter()
    change = check_change(model, layer, experts, mode, top_k, everywhere)
    for name, value, least in (("controls", controls, 0), ("seed", seed, 0)):
        if type(value) is not int or value < least:
            raise BadArgument(f"{name} is {value!r}, expected an integer of at least {least}.")
    if prompt is not None and tokenizer is None:
        raise BadArgument("prompt is a text, but there is no tokenizer to encode it: pass tokenizer=.")
    runs = Runs(model, as_documents(model, documents, tokenizer), first=change.layers(model)[0])
    outcome = runs.run(change, detailed=True)
    load = loads(runs, layer, model.config.num_experts)
    sets, candidates = draw_controls(load, change.experts, controls, seed)
    control_results = []
    for chosen in sets:
        control = replace(change, experts=chosen)
        delta = (runs.run(control).losses - runs.losses)[runs.losses.isfinite()]
        control_results.append(Control(chosen, users(runs, layer, chosen), float(delta.double().mean())))
    result = summarise(model, runs, change, outcome, control_results, candidates, seed)
    notes = caveats(result, runs, requested=controls)
    text = None if prompt is None else continue_text(model, tokenizer, prompt, change)
    return replace(result, notes=notes, text=text, seconds=time.perf_counter() - started)


def summarise(
    model: Transformer,
    runs: Runs,
    change: Change,
    outcome: Outcome,
    controls: list[Control],
    candidates: int,
    seed: int,
) -> Ablation:
    """Combine the runs of one ablation into its result, without notes, text and duration."""
    kl = torch.where(runs.losses.isfinite(), outcome.kl, torch.nan)  # type: ignore[arg-type]
    counted = runs.losses.isfinite()
    affected = runs.affected(change)
    masks = {"all": counted, "affected": counted & affected}
    delta = outcome.losses - runs.losses
    config = model.config

    def means(values: Tensor) -> dict[str, Mean]:
        return {name: bootstrapped_mean(values, mask, runs.documents, seed) for name, mask in masks.items()}

    return Ablation(
        change=change,
        trained_top_k=config.num_experts_per_tok,
        num_experts=config.num_experts,
        losses=runs.losses,
        changed_losses=outcome.losses,
        kl=kl,
        affected=affected,
        documents=runs.documents,
        tokens=runs.tokens,
        delta_loss=means(delta),
        mean_kl=means(kl),
        overlap_by_layer=[
            {
                "layer": number,
                "all": float(shares.mean()),
                "affected": float(shares[affected].mean()),
                "chance": (change.top_k if change.everywhere and change.top_k else config.num_experts_per_tok)
                / config.num_experts,
            }
            for number, shares in outcome.overlap.items()
        ],
        load=users(runs, change.layer, change.experts),
        candidates=candidates,
        controls=controls,
        notes=[],
    )


def loads(runs: Runs, layer: int, num_experts: int) -> Tensor:
    """(expert) number of tokens that select each expert of the layer."""
    return runs.selected[layer].flatten().bincount(minlength=num_experts)


def users(runs: Runs, layer: int, experts: Sequence[int]) -> int:
    """Number of tokens that select at least one of these experts."""
    return int(torch.isin(runs.selected[layer], torch.tensor(list(experts), dtype=torch.int64)).any(dim=-1).sum())


def caveats(result: Ablation, runs: Runs, requested: int) -> list[str]:
    """Caveats to show with the result. `requested` is the number of controls that the caller asked for."""
    change, notes = result.change, []
    if change.top_k is not None and change.top_k != result.trained_top_k:
        where = "in every layer" if change.everywhere else f"in layer {change.layer}"
        notes.append(f"{change.top_k} experts per token {where}; the model was trained with {result.trained_top_k}.")
    if not result.delta_loss["affected"].n:
        notes.append("No affected token has a next token, so the loss of affected tokens cannot be compared.")
    if runs.weights_shift(change):
        notes.append(
            "This model does not renormalise its weights, so masking also raises those of unaffected tokens slightly."
        )
    documents = int(runs.documents.max()) + 1
    if documents < FEW_DOCUMENTS:
        few = "one document: no interval" if documents == 1 else f"{documents} documents: a rough interval"
        notes.append(f"Only {few}. {FEW_DOCUMENTS} or more make it reliable.")
    if not change.experts:
        notes.append("No expert was given, so there are no controls to compare with.")
    elif requested == 0:
        notes.append("No controls were requested, so it is unknown whether other experts have the same effect.")
    elif len(result.controls) < max(FEWEST, requested):
        pool = (
            f"{result.candidates} other experts of layer {change.layer} have between 1/{NEAR} and {NEAR} times the load"
        )
        notes.append(
            f"{len(result.controls)} controls, fewer than {max(FEWEST, requested)}: {pool}, {requested} were requested."
        )
    return notes


def continue_text(model: Transformer, tokenizer: Any, prompt: str, change: Change) -> dict[str, str]:
    """Greedy continuations of `prompt`, up to NEW_TOKENS tokens: "before" unchanged, "after" with the change."""

    def continuation() -> str:
        return "".join(generate(model, tokenizer, prompt, max_new_tokens=NEW_TOKENS, temperature=0.0))

    before = continuation()
    with installed(model, change):
        return {"prompt": prompt, "before": before, "after": continuation()}


@dataclass(frozen=True)
class Sweep:
    """Every expert of one layer switched off in turn. Losses in nats, averaged over all tokens with a next token."""

    layer: int
    mode: str
    n: int  # tokens
    documents: int
    load: Tensor  # (expert) tokens that select it
    delta_loss: Tensor  # (expert) loss without it minus loss with it
    low: Tensor  # (expert) 95 % bootstrap interval over documents; NaN with one document
    high: Tensor


def ablation_sweep(
    model: Transformer,
    documents: Any,
    layer: int,
    mode: str = "mask",
    seed: int = 0,
    tokenizer: "Tokenizer | None" = None,
    progress: bool = True,
) -> Sweep:
    """Delta loss of each expert of `layer`, switched off one at a time, with intervals. Arguments as in `ablate`."""
    first = check_change(model, layer, [0], mode)
    runs = Runs(model, as_documents(model, documents, tokenizer), first=layer)
    counted = runs.losses.isfinite()
    means = []
    description = f"experts of layer {layer}"
    for expert in tqdm(range(model.config.num_experts), desc=description, disable=not progress, leave=False):
        change = replace(first, experts=(expert,))
        delta = runs.run(change).losses - runs.losses
        means.append(bootstrapped_mean(delta, counted, runs.documents, seed))
    value, low, high = (torch.tensor([getattr(mean, part) for mean in means]) for part in ("value", "low", "high"))
    return Sweep(
        layer=layer,
        mode=mode,
        n=int(counted.sum()),
        documents=int(runs.documents.max()) + 1,
        load=loads(runs, layer, model.config.num_experts),
        delta_loss=value,
        low=low,
        high=high,
    )
