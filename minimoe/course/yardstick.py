"""How far a changed model is from the model itself: KL divergence of the next token, and choices that flip."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minimoe.model.transformer import Transformer
from minimoe.routing.trace.hooks import on_routers

ROWS = 8  # texts of a batch


@dataclass(frozen=True)
class Seen:
    """What a model did with some texts, token by token; shorter texts come first.

    log_probabilities: (token, vocab) of the next token. experts: layer -> (token, slot). targets: (token) the token
    that follows in the text, -1 for the last one.
    """

    log_probabilities: Tensor
    experts: dict[int, Tensor]
    targets: Tensor

    @property
    def loss(self) -> float:
        """Next-token loss in nats per token."""
        known = self.targets >= 0
        right = self.log_probabilities[known].gather(-1, rearrange(self.targets[known], "token -> token 1"))
        return -float(right.double().mean())

    def kl(self, other: "Seen") -> float:
        """Mean KL divergence from these next-token distributions to those of `other`, in nats per token."""
        p, q = self.log_probabilities, other.log_probabilities
        return float(reduce(p.exp() * (p - q), "token vocab -> token", "sum").double().mean())

    def flips(self, other: "Seen") -> dict[int, float]:
        """layer -> share of the choices, tokens times slots, that `other` does not make."""
        return {layer: 1 - float(shared(own, other.experts[layer]).mean()) for layer, own in self.experts.items()}

    def changed_sets(self, other: "Seen") -> dict[int, float]:
        """layer -> share of the tokens whose set of experts is another one."""
        return {
            layer: float((shared(own, other.experts[layer]) < 1).float().mean()) for layer, own in self.experts.items()
        }


def shared(one: Tensor, other: Tensor) -> Tensor:
    """one, other: (token, slot) -> (token) share of the experts that are in both, in any order."""
    pairs = rearrange(one, "token slot -> token slot 1") == rearrange(other, "token slot -> token 1 slot")
    return reduce(pairs.float(), "token slot other -> token", "sum") / one.shape[1]


@torch.no_grad()
def look(model: Transformer, texts: Sequence[Tensor]) -> Seen:
    """Run the model on texts, each (1, position), in batches of similar length."""
    rows = sorted((ids[0] for ids in texts), key=len)
    logits, targets = [], []
    experts: dict[int, list[Tensor]] = {}
    for start in range(0, len(rows), ROWS):
        batch = rows[start : start + ROWS]
        ones = pad_sequence([torch.ones_like(ids) for ids in batch], batch_first=True)
        real = rearrange(ones > 0, "batch position -> (batch position)")
        following = pad_sequence([torch.cat([ids[1:], ids.new_tensor([-1])]) for ids in batch], batch_first=True)
        chosen: dict[int, Tensor] = {}
        with on_routers(model, lambda layer, gate, routing, chosen=chosen: chosen.update({layer: routing.experts})):  # type: ignore[misc]
            output = model(pad_sequence(list(batch), batch_first=True))  # padding is behind the text: nothing sees it
        logits.append(rearrange(output, "batch position vocab -> (batch position) vocab")[real].float())
        targets.append(rearrange(following, "batch position -> (batch position)")[real])
        for layer, layer_experts in chosen.items():
            experts.setdefault(layer, []).append(layer_experts[real])
    joined = {layer: torch.cat(parts) for layer, parts in experts.items()}
    return Seen(torch.cat(logits).log_softmax(dim=-1), joined, torch.cat(targets))
