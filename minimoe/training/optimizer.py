"""A combined optimizer: Muon for the matrices inside the layers, AdamW for everything else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) makes all singular values of a matrix's momentum
approximately equal before the update, so that directions with small gradients move as far as the others. On this
project's corpus it needs about half as many tokens as AdamW. AdamW trains routers, norms and both embeddings.
"""

from collections.abc import Iterable

import torch
from einops import rearrange
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # from that post; the singular values end between about 0.7 and 1.2
ITERATIONS = 5


def orthogonalise(stack: Tensor) -> Tensor:
    """Matrices (..., out, in) with all singular values moved close to 1 by Newton-Schulz iteration, same shape.

    One iteration is x <- a x + b (x xT) x + c (x xT)^2 x. All factors are polynomials of the initial x xT, so the
    iteration uses only this small square matrix, and x is multiplied once at the end.
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
    """Muon for matrices and stacks of matrices (torch.optim.Muon does not support stacks such as the experts).

    With Nesterov momentum. Updates have a root mean square of about 0.2, like those of AdamW, so that both can use the
    same learning rate (Liu et al. 2025, arXiv 2502.16982).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
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
    """Muon and AdamW behind one interface; every parameter of a model is updated by exactly one of them."""

    def __init__(self, model: nn.Module, rate: float, betas: tuple[float, float], momentum: float, weight_decay: float):
        inner_names = {name for name, p in model.named_parameters() if is_inner_matrix(name, p)}
        matrices = [p for name, p in model.named_parameters() if name in inner_names]
        others = [p for name, p in model.named_parameters() if name not in inner_names]
        groups = [
            {"params": [p for p in others if p.dim() > 1], "weight_decay": weight_decay},
            {"params": [p for p in others if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self.fused = others[0].device.type in ("cpu", "cuda")
        self.members: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices, rate, momentum, weight_decay),
            torch.optim.AdamW(groups, lr=rate, betas=betas, fused=self.fused),
        )

    def set_rate(self, rate: float) -> None:
        """Set the learning rate for the next step."""
        for member in self.members:
            for group in member.param_groups:
                group["lr"] = rate

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        for member in self.members:
            member.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Update all parameters."""
        for member in self.members:
            member.step()

    def state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """The optimizer state of a parameter; empty before its first update."""
        return next((m.state[parameter] for m in self.members if parameter in m.state), {})

    def restore(self, parameter: nn.Parameter, state: dict[str, Tensor]) -> None:
        """Restore the optimizer state of a parameter, as returned by `state_of`, on the parameter's device.

        The step counter (no dimensions) goes where AdamW keeps it: beside the parameter if fused, else on the CPU.
        """
        owner = next(
            m for m in self.members if any(parameter is p for group in m.param_groups for p in group["params"])
        )
        counters = parameter.device if self.fused else torch.device("cpu")
        owner.state[parameter] = {
            key: value.to(parameter.device if value.dim() else counters) for key, value in state.items()
        }


def is_inner_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon trains a parameter: the projections of attention and feed-forward, dense or stacked."""
    return parameter.dim() > 1 and "layers." in name and not name.endswith("mlp.gate.weight")
