"""The two losses of the family: next-token prediction, and load balancing of the experts."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.errors import BadArgument
from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer
from minimoe.routing.statistics.counting import selection_counts
from minimoe.routing.trace.hooks import on_routers


def next_token_loss(logits: Tensor, targets: Tensor, counted: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats. logits: (batch, position, vocab), targets: (batch, position) int64.

    counted: (batch, position) bool; targets where it is false are excluded (all false: the loss is zero).
    """
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    if counted is None:
        return losses.mean()
    weights = counted.flatten().to(losses.dtype)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def load_balancing_loss(router_logits: Sequence[Tensor], top_k: int, counted: Tensor | None = None) -> Tensor:
    """The auxiliary loss of Switch Transformers (Fedus et al. 2021, equations 4 to 6), as the family applies it.

    router_logits: one (token, expert) tensor per layer. The tokens of all layers are pooled; the loss is the number of
    experts x the sum over experts of (share of tokens that selected it, in any slot) x (its mean probability). An even
    load gives `top_k`; if all tokens select the same `top_k` experts with near certainty, the loss is close to the
    number of experts.
    counted: (batch, position) bool; tokens where it is false are excluded, as by attention_mask in transformers.
    """
    logits = torch.cat([of_counted(layer, counted) for layer in router_logits]).float()
    probabilities = logits.softmax(dim=-1)
    tokens, experts = probabilities.shape
    chosen = probabilities.topk(top_k, dim=-1).indices.flatten().bincount(minlength=experts)
    return experts * (chosen / tokens * probabilities.mean(dim=0)).sum()


def balance_each_layer(router_logits: Sequence[Tensor], top_k: int, counted: Tensor | None = None) -> Tensor:
    """The sum of the load-balancing losses of the single layers, which training here minimises.

    With pooled layers, expert 5 can be unused in one layer if expert 5 of another layer compensates for it: the pooled
    loss was 8.12 (ideal: 8) while 21 to 35 of the 128 experts in each layer were dead.
    """
    return torch.stack([load_balancing_loss([logits], top_k, counted) for logits in router_logits]).sum()


def of_counted(values: Tensor, counted: Tensor | None) -> Tensor:
    """The rows of values (token, ...) for the counted tokens. Raises BadArgument unless there is a flag per token."""
    if counted is None:
        return values
    if counted.dtype != torch.bool or counted.numel() != len(values):
        found = f"{counted.dtype} {tuple(counted.shape)}"
        raise BadArgument(f"counted is {found}, expected one bool for each of the {len(values)} tokens that ran.")
    return values[counted.flatten()]


class RouterTap:
    """Collects the outputs of all routers: `routings` maps each layer to its Routing in the last forward pass.

    counted: (batch, position) bool, the tokens of that pass that `counts` includes; None for all. For a training batch
    this is ~batch.padding, the attention mask of other libraries. It can be replaced before each pass.
    """

    def __init__(self, model: Transformer, counted: Tensor | None = None):
        self.model = model
        self.counted = counted
        self.routings: dict[int, Routing] = {}
        self.hooks = ExitStack()

    def __enter__(self) -> "RouterTap":
        self.hooks.enter_context(on_routers(self.model, self.keep))
        return self

    def __exit__(self, *error: object) -> None:
        self.hooks.close()

    def keep(self, layer: int, gate: nn.Module, routing: Routing) -> None:
        """Hook of a router, see `on_routers`."""
        self.routings[layer] = routing

    @property
    def logits(self) -> list[Tensor]:
        """One (token, expert) tensor per layer, of all tokens, with gradients."""
        return [routing.logits for routing in self.routings.values()]

    def counts(self) -> Tensor:
        """(layer, expert): number of counted tokens that selected each expert."""
        experts = torch.stack([of_counted(routing.experts, self.counted) for routing in self.routings.values()])
        return selection_counts(experts, self.model.config.num_experts)
