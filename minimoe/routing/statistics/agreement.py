"""Agreement: whether two routers (checkpoints, precisions, engines) select the same experts for the same tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.chance import Estimate, frequency_chance
from minimoe.routing.statistics.counting import check_experts, check_labels
from minimoe.routing.statistics.locality import overlap
from minimoe.routing.statistics.resampling import mean_over_documents

MINIMUM_TOKENS = 512


def router_agreement(
    experts: Tensor,
    reference: Tensor,
    num_experts: int,
    documents: Tensor | None = None,
    rounds: int = 200,
    seed: int = 0,
) -> Estimate:
    """(layer): mean share of a token's k experts that the reference also selects, in any order.

    Between a checkpoint and the final one this is router saturation (OLMoE, arXiv 2409.02060). It is meaningful only if
    expert e is the same expert in both: two models trained independently agree only by chance. Chance k/E (8 of 128:
    6.25 %). Interval: bootstrap over documents; 0..1 without documents. n counts tokens, at least 512. Raises
    BadArgument unless both have the same shape (layer, token, slot).
    """
    check_experts(experts, num_experts)
    check_experts(reference, num_experts)
    if experts.shape != reference.shape:
        raise BadArgument(
            f"experts {tuple(experts.shape)} and reference {tuple(reference.shape)}: "
            "expected the same layers, tokens and slots."
        )
    labels = torch.zeros(experts.shape[1], dtype=torch.int64)
    labels = labels if documents is None else check_labels("documents", documents, experts)
    top_k = experts.shape[2]
    shares = torch.stack([overlap(a, b) / top_k for a, b in zip(experts, reference, strict=True)])
    chance = frequency_chance(num_experts, top_k)
    return mean_over_documents(shares, labels, chance, 1.0, MINIMUM_TOKENS, rounds, seed)


def router_saturation(
    checkpoints: Sequence[Tensor], num_experts: int, documents: Tensor | None = None
) -> list[Estimate]:
    """`router_agreement` of each checkpoint with the last one, (layer) each, 1 for the last.

    checkpoints: the experts (layer, token, slot) of each. Chance k/E, minimum 512 tokens.
    """
    if not checkpoints:
        raise BadArgument("checkpoints is empty, expected the experts of one trace for each training step.")
    return [router_agreement(experts, checkpoints[-1], num_experts, documents) for experts in checkpoints]
