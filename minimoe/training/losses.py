"""The two losses of the family: predicting the next token, and keeping the experts evenly used."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from minimoe.errors import BadArgument
from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer


def next_token_loss(logits: Tensor, targets: Tensor, counted: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats. logits: (batch, position, vocab), targets: (batch, position) int64.

    counted: (batch, position) bool; where it is false the prediction costs nothing (all false: the loss is zero).
    """
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    if counted is None:
        return losses.mean()
    weights = counted.flatten().to(losses.dtype)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def load_balancing_loss(router_logits: Sequence[Tensor], top_k: int, counted: Tensor | None = None) -> Tensor:
    """The auxiliary loss of Switch Transformers (Fedus et al. 2021, equations 4 to 6), as the family applies it.

    router_logits: one (token, expert) tensor a layer. All layers are taken together; then number of experts x sum over
    experts of (share of tokens that chose it, in any slot) x (its mean probability). Even use gives `top_k`; everything
    through the same `top_k` experts gives the number of experts.
    counted: (batch, position) bool; where it is false the token is left out, as transformers does with attention_mask.
    """
    logits = torch.cat([of_counted(layer, counted) for layer in router_logits]).float()
    probabilities = logits.softmax(dim=-1)
    tokens, experts = probabilities.shape
    chosen = probabilities.topk(top_k, dim=-1).indices.flatten().bincount(minlength=experts)
    return experts * (chosen / tokens * probabilities.mean(dim=0)).sum()


def balance_each_layer(router_logits: Sequence[Tensor], top_k: int, counted: Tensor | None = None) -> Tensor:
    """The load-balancing loss of every layer on its own, summed: what training here minimises.

    Taken over all layers together, expert 5 may starve in one layer as long as expert 5 of another makes up for it: the
    pooled loss stood at 8.12 of an ideal 8 while 21 to 35 of the 128 experts in each layer were dead.
    """
    return torch.stack([load_balancing_loss([logits], top_k, counted) for logits in router_logits]).sum()


def of_counted(values: Tensor, counted: Tensor | None) -> Tensor:
    """values: (token, ...) -> the rows of the counted tokens. Raises BadArgument if `counted` is of another batch."""
    if counted is None:
        return values
    if counted.dtype != torch.bool or counted.numel() != len(values):
        found = f"{counted.dtype} {tuple(counted.shape)}"
        raise BadArgument(f"counted is {found}, expected one bool for each of the {len(values)} tokens that ran.")
    return values[counted.flatten()]


class RouterTap:
    """Listens to every router of a model: `routings` maps a layer to its Routing in the last forward pass.

    counted: (batch, position) bool, the tokens of that pass that `counts` counts; None: all of them. For a batch of
    training it is ~batch.padding, the attention mask of other libraries. It may be set anew for each pass.
    """

    def __init__(self, model: Transformer, counted: Tensor | None = None):
        self.model = model
        self.counted = counted
        self.routings: dict[int, Routing] = {}
        self.handles: list[RemovableHandle] = []

    def __enter__(self) -> "RouterTap":
        for number in self.model.layer_range:
            if self.model.config.is_moe(number):
                gate = self.model.get_submodule(f"layers.{number}.mlp.gate")
                self.handles.append(gate.register_forward_hook(self.listener(number)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def listener(self, number: int) -> Callable[[nn.Module, Any, Routing], None]:
        def listen(module: nn.Module, arguments: Any, routing: Routing) -> None:
            self.routings[number] = routing

        return listen

    @property
    def logits(self) -> list[Tensor]:
        """(token, expert) a layer, of all tokens, with their gradients."""
        return [routing.logits for routing in self.routings.values()]

    def counts(self) -> Tensor:
        """(layer, expert) how many (token, slot) choices of the counted tokens each expert got."""
        experts = self.model.config.num_experts
        chosen = [of_counted(routing.experts, self.counted) for routing in self.routings.values()]
        return torch.stack([layer.flatten().bincount(minlength=experts) for layer in chosen])
