"""Other ways to keep experts in use than the load-balancing loss in losses.py: what chapter 11 compares it with."""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.training.losses import balance_each_layer
from minimoe.zoo.balance import update_bias


def balance_each_row(router_logits: Sequence[Tensor], top_k: int, rows: int) -> Tensor:
    """The load-balancing loss of every layer with one row of the batch as its scope, averaged over the rows.

    This is what a process computes that holds one sequence at a time: each sequence has to use all experts evenly.
    router_logits: one (token, expert) tensor per layer; the tokens are `rows` rows of equal length. Raises BadArgument
    if they are not. The global-batch form (Qiu et al. 2025, arXiv 2501.11873) is `balance_each_layer` on all tokens.
    """
    if any(len(logits) % rows for logits in router_logits):
        raise BadArgument(f"rows is {rows}, expected a divisor of the {len(router_logits[0])} tokens.")
    by_row = [rearrange(logits, "(row token) expert -> row token expert", row=rows) for logits in router_logits]
    return torch.stack([balance_each_layer([layer[row] for layer in by_row], top_k) for row in range(rows)]).mean()


def router_z_loss(router_logits: Sequence[Tensor]) -> Tensor:
    """The mean squared log-sum-exp of the router logits, summed over layers (Zoph et al. 2022, equation 5).

    It keeps the logits small, so that their rounding in 16 bits stays small. It does not balance anything.
    """
    return torch.stack([logits.float().logsumexp(dim=-1).square().mean() for logits in router_logits]).sum()


def moved_bias(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    """The bias of each expert after one step of loss-free balancing (Wang et al. 2024, arXiv 2408.15664).

    bias, counts: (expert,). An expert with less than the mean count is raised by `rate`, one with more is lowered. The
    mean of the new bias is zero: a constant added to all experts would change no choice.
    """
    moved = update_bias(bias, counts, rate)
    return moved - moved.mean()
