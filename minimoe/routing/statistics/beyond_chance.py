"""Which counts of selections are beyond chance: outside the central 95 % of uniform routing, widened where documents
differ. The atlas of the explorer fades the others (the same formulas in web/math/beyond_chance.js)."""

import torch
from torch import Tensor

from minimoe.routing.statistics.chance import Z, binomial, count_limit
from minimoe.routing.statistics.counting import check_experts, document_counts, selection_counts
from minimoe.routing.statistics.resampling import MINIMUM_DOCUMENTS

TAIL = 0.025


def count_band(tokens: int, probability: float) -> tuple[int, int]:
    """(low, high): at most 2.5 % of a binomial count of `tokens` trials lie below `low`, at most 2.5 % above `high`."""
    single = binomial(tokens, torch.tensor(probability), count_limit(tokens, probability))
    below = single.cumsum(-1)
    low = int((below <= TAIL).sum())
    high = int((1 - below > TAIL).sum())
    return low, high


def design_effect(experts: Tensor, num_experts: int, documents: Tensor, domains: Tensor) -> Tensor:
    """(layer, expert) float64, at least 1: the variance of a count between documents over that of independent tokens.

    Documents are compared within their domain, since the mix of domains is chosen and not drawn (Kish 1965, stratified
    clusters). With fewer than 20 documents the mean of a layer stands for all its experts; without known documents the
    effect is 1. experts (layer, token, slot); documents, domains (token), -1 if unknown.
    """
    check_experts(experts, num_experts)
    ones = torch.ones(len(experts), num_experts, dtype=torch.float64)
    if int((documents >= 0).sum()) == 0:
        return ones
    parts = document_counts(experts, num_experts, documents, domains + 1)  # an unknown domain is one of its own
    between, independent = torch.zeros_like(ones), torch.zeros_like(ones)
    for domain in parts.domains.unique().tolist():
        own = parts.of(domain)
        size, tokens = len(own.tokens), own.tokens.double()
        if size < 2:
            continue
        counts = own.counts.double()
        share = counts.sum(0) / tokens.sum()
        residuals = counts - share * tokens[:, None, None]
        between += size / (size - 1) * (residuals**2).sum(0)
        independent += tokens.sum() * share * (1 - share)
    if len(parts.tokens) < MINIMUM_DOCUMENTS:
        layer = between.sum(1, keepdim=True) / independent.sum(1, keepdim=True).clamp(min=1e-300)
        return layer.expand_as(ones).clamp(min=1)
    return torch.where(independent > 0, between / independent.clamp(min=1e-300), 0.0).clamp(min=1)


def beyond_chance(
    experts: Tensor, num_experts: int, documents: Tensor | None = None, domains: Tensor | None = None
) -> Tensor:
    """(layer, expert) bool: whether an expert is selected more or less often than chance explains.

    A count is beyond chance if it lies outside `count_band` for k/E and farther from n k/E than 1.96 standard
    deviations, widened by `design_effect`. About one in twenty is so under uniform routing: compare the number of
    those found with that. documents, domains (token): without documents, tokens are taken as independent.
    """
    counts = selection_counts(experts, num_experts)
    tokens, probability = experts.shape[1], experts.shape[2] / num_experts
    low, high = count_band(tokens, probability)
    unknown = torch.full((tokens,), -1)
    effect = design_effect(
        experts, num_experts, unknown if documents is None else documents, unknown if domains is None else domains
    )
    spread = Z * (effect * tokens * probability * (1 - probability)).sqrt()
    far = (counts - tokens * probability).abs() > spread
    result: Tensor = far & ((counts < low) | (counts > high))
    return result
