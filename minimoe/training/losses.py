"""The two losses of the family: predicting the next token, and keeping the experts evenly used."""

from collections.abc import Sequence
from types import TracebackType

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer


def next_token_loss(logits: Tensor, targets: Tensor, counted: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats. logits: (batch, position, vocab), targets: (batch, position) int64.

    counted: (batch, position) bool; where it is false the prediction costs nothing. With nothing counted the loss is zero.
    """
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    if counted is None:
        return losses.mean()
    weights = counted.flatten().to(losses.dtype)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def load_balancing_loss(router_logits: Sequence[Tensor], top_k: int) -> Tensor:
    """The auxiliary loss of Switch Transformers (Fedus et al. 2021, equations 4 to 6) as the Qwen3-MoE reference applies it.

    router_logits: one (token, expert) tensor a layer. All layers are taken together; then number of experts x sum over experts of
    (share of tokens that chose it, any slot) x (its mean probability). Even use gives `top_k`; the worst gives the number of experts.
    """
    logits = torch.cat(list(router_logits)).float()
    probabilities = logits.softmax(dim=-1)
    tokens, experts = probabilities.shape
    chosen = probabilities.topk(top_k, dim=-1).indices.flatten().bincount(minlength=experts)
    return experts * (chosen / tokens * probabilities.mean(dim=0)).sum()


class RouterTap:
    """Listens to every router of a model: `routings` holds the Routing of each Mixture-of-Experts layer of the last forward pass."""

    def __init__(self, model: Transformer):
        self.model = model
        self.routings: dict[int, Routing] = {}
        self.handles: list[RemovableHandle] = []

    def __enter__(self) -> "RouterTap":
        for number in self.model.layer_range:
            if self.model.config.is_moe(number):
                gate = self.model.layers[number].mlp.gate
                self.handles.append(gate.register_forward_hook(self.listener(number)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def listener(self, number: int):  # type: ignore[no-untyped-def]
        def listen(module, arguments, routing: Routing) -> None:  # type: ignore[no-untyped-def]
            self.routings[number] = routing
        return listen

    @property
    def logits(self) -> list[Tensor]:
        """(token, expert) a layer, with their gradients."""
        return [routing.logits for routing in self.routings.values()]

    def counts(self) -> Tensor:
        """(layer, expert) how many (token, slot) choices each expert got."""
        experts = self.model.config.num_experts
        return torch.stack([routing.experts.flatten().bincount(minlength=experts) for routing in self.routings.values()])
