"""Two optimizers side by side: Muon for the matrices inside the layers, AdamW for everything else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) takes the momentum of a matrix and makes all its
singular values about equal before stepping, so that directions with small gradients move as far as the others. On this
project's corpus it needs about half the tokens of AdamW. Routers, norms and both embeddings stay with AdamW.
"""

from collections.abc import Iterable

import torch
from einops import rearrange
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of that post: singular values end between about 0.7 and 1.2
ITERATIONS = 5


def orthogonalise(stack: Tensor) -> Tensor:
    """Each matrix with its singular values brought near one, by Newton-Schulz iteration. (..., out, in) -> the same.

    A step is x <- a x + b (x xT) x + c (x xT)^2 x. Every factor is a polynomial of the first x xT, so it suffices to
    follow that small square matrix and to multiply x once, at the end.
    """
    tall = stack.shape[-2] > stack.shape[-1]
    x = rearrange(stack, "... out into -> ... into out") if tall else stack
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = NEWTON_SCHULZ
    square, one = x @ x.mT, torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    product = one
    for _ in range(ITERATIONS):
        factor = a * one + b * square + c * (square @ square)
        product, square = factor @ product, factor @ square @ factor
    x = product @ x
    return rearrange(x, "... into out -> ... out into") if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for matrices and stacks of matrices (torch.optim.Muon takes no stacks, and experts are stacked).

    Nesterov momentum; updates have a root mean square of about 0.2, as AdamW's have, so that one learning rate serves
    both (Liu et al. 2025, arXiv 2502.16982).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalise(parameter.grad.lerp(momentum, group["momentum"]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-0.2 * group["lr"] * max(parameter.shape[-2:]) ** 0.5)


class MuonAndAdamW:
    """Both, as one: every parameter of a model belongs to exactly one of them."""

    def __init__(self, model: nn.Module, rate: float, betas: tuple[float, float], momentum: float, weight_decay: float):
        inside = {name for name, p in model.named_parameters() if is_inner_matrix(name, p)}
        matrices = [p for name, p in model.named_parameters() if name in inside]
        outside = [p for name, p in model.named_parameters() if name not in inside]
        groups = [
            {"params": [p for p in outside if p.dim() > 1], "weight_decay": weight_decay},
            {"params": [p for p in outside if p.dim() <= 1], "weight_decay": 0.0},
        ]
        fused = outside[0].device.type in ("cpu", "cuda")
        self.members: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices, rate, momentum, weight_decay),
            torch.optim.AdamW(groups, lr=rate, betas=betas, fused=fused),
        )

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step."""
        for member in self.members:
            for group in member.param_groups:
                group["lr"] = rate

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for member in self.members:
            member.zero_grad(set_to_none=True)

    def step(self) -> None:
        """One update."""
        for member in self.members:
            member.step()

    def state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """What is remembered for a parameter."""
        return next((m.state[parameter] for m in self.members if parameter in m.state), {})

    def restore(self, parameter: nn.Parameter, state: dict[str, Tensor]) -> None:
        """Put back what `state_of` gave."""
        owner = next(
            m for m in self.members if any(parameter is p for group in m.param_groups for p in group["params"])
        )
        owner.state[parameter] = state


def is_inner_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon trains it: projections of attention and feed-forward, dense or stacked."""
    return parameter.dim() > 1 and "layers." in name and not name.endswith("mlp.gate.weight")
