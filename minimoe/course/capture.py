"""Take tensors out of a running model, and measure its loss: what lessons need before they can show anything."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from random import Random
from typing import Any

import torch
from einops import repeat
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.course.workbench.replace_functions import workbench
from minimoe.errors import BadArgument
from minimoe.model.attention import attend
from minimoe.model.transformer import Transformer
from minimoe.text.tokenizer import Tokenizer
from minimoe.training.corpus.documents import document

DOMAINS = ("en", "zh", "code")


@torch.no_grad()
def capture(model: Transformer, token_ids: Tensor, *names: str) -> tuple[Tensor, ...]:
    """The outputs of some modules in one forward pass, in the order of `names`.

        q, k = capture(model, token_ids, "layers.1.self_attn.q_norm", "layers.1.self_attn.k_norm")

    token_ids: (batch, position). names: as in `model.named_modules()`. Raises BadArgument for an unknown name, and for
    a module whose output is no tensor or that did not run.
    """
    seen: dict[str, Any] = {}
    modules = dict(model.named_modules())
    with ExitStack() as stack:
        for name in names:
            if name not in modules:
                raise BadArgument(f"{name!r} is no module of this model; model.named_modules() lists them.")

            def keep(module: Any, inputs: Any, output: Any, name: str = name) -> None:
                seen[name] = output

            stack.callback(modules[name].register_forward_hook(keep).remove)
        model(token_ids)
    for name in names:
        if not isinstance(seen.get(name), Tensor):
            raise BadArgument(
                f"{name!r} gave {type(seen.get(name)).__name__}, expected a module that returns a tensor."
            )
    return tuple(seen[name].detach().clone() for name in names)


@torch.no_grad()
def attention_weights(model: Transformer, token_ids: Tensor) -> Tensor:
    """How much each token attends to each other one: (layer, head, query, key) float32, every row sums to 1.

    token_ids: (1, position). The queries and keys are those of the running model, after QK-norm and RoPE. Their values
    are replaced by the rows of the identity matrix, whose mixture is the weights themselves.
    """
    layers: list[Tensor] = []

    def recording(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        identity = torch.eye(k.shape[2], dtype=q.dtype, device=q.device)
        each_key = repeat(identity, "key other -> batch head key other", batch=k.shape[0], head=k.shape[1])
        layers.append(attend(q, k, each_key, mask)[0].float().cpu())
        return attend(q, k, v, mask)

    with workbench(model, attend=recording):
        model(token_ids)
    return torch.stack(layers)


def held_out_texts(tokenizer: Tokenizer, each: int, seed: str, domains: Sequence[str] = DOMAINS) -> list[Tensor]:
    """Token ids (1, position) of `each` texts of every domain that the mini has not been trained on."""
    texts = [document(Random(f"{seed} {n}"), "held-out", domain).text for n in range(each) for domain in domains]
    return [torch.tensor([tokenizer.encode(text)]) for text in texts]


@torch.no_grad()
def next_token_loss(model: Transformer, texts: Sequence[Tensor]) -> float:
    """Cross-entropy of the next token in nats, averaged over all tokens of the texts, each (1, position)."""
    logits = torch.cat([model(ids)[0, :-1] for ids in texts])
    return float(F.cross_entropy(logits.float(), torch.cat([ids[0, 1:] for ids in texts])))


@contextmanager
def changed_config(model: Transformer, **changes: Any) -> Iterator[Transformer]:
    """The model with other settings in its config inside the block; no weight changes.

    Only for settings that the forward pass reads, such as rope_theta and rope_scaling.
    """
    before = model.config
    model.config = replace(before, **changes)
    try:
        yield model
    finally:
        model.config = before


class Chosen(nn.ModuleList):
    """Some of a model's layers, in any order: what a forward pass runs through instead of all."""

    def __init__(self, layers: Sequence[nn.Module], order: Sequence[int]):
        super().__init__(layers)
        self.order = tuple(order)

    def __iter__(self) -> Iterator[nn.Module]:
        return (self[number] for number in self.order)


@contextmanager
def layers_in_order(model: Transformer, order: Sequence[int]) -> Iterator[Transformer]:
    """The model with only these layers, in this order, inside the block; a layer may run twice.

        with layers_in_order(model, [0, 2, 1, 3]):
            logits = model(token_ids)

    Raises BadArgument for a layer that the model does not have.
    """
    missing = [number for number in order if number not in model.layer_range]
    if missing:
        raise BadArgument(f"layer {missing[0]} is not in this model, which has layers {model.layer_range}.")
    layers = model.layers
    chosen: Any = Chosen(list(layers), order)
    model.layers = chosen
    try:
        yield model
    finally:
        model.layers = layers
