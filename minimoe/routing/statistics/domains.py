"""Domains: whether an expert is selected more often in one kind of text than permuted document labels would give."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.chance import Estimate, benjamini_hochberg, frequency_chance
from minimoe.routing.statistics.counting import check_labels, document_counts, group_counts
from minimoe.routing.statistics.resampling import (
    MINIMUM_DOCUMENTS,
    bootstrap_weights,
    interval,
    middle,
    permuted_labels,
)

MINIMUM_TOKENS = 4096  # per domain, if documents are unknown and tokens are the only sampling unit


def domain_specialisation(
    experts: Tensor,
    num_experts: int,
    domains: Tensor,
    num_domains: int,
    documents: Tensor | None = None,
    rounds: int = 200,
    seed: int = 0,
) -> Estimate:
    """(domain, layer, expert): N(expert selected, token in D) / N_D (OLMoE, arXiv 2409.02060 section 5).

    Chance k/E, the dashed line in the figures of that paper. Interval: bootstrap over the documents of the domain.
    n (domain, 1, 1) counts documents, at least 20; without documents it counts tokens, at least 4,096, and the interval
    is 0..1. A domain without tokens has value 0, interval 0..1 and n 0.
    """
    domains = check_labels("domains", domains, experts)
    counts = group_counts(experts, num_experts, domains, num_domains)
    tokens = torch.bincount(domains[domains >= 0], minlength=num_domains)
    chance = frequency_chance(num_experts, experts.shape[2])
    if documents is None:
        value = counts / tokens.clamp(min=1)[:, None, None].double()
        wide = torch.zeros_like(value), torch.ones_like(value)
        return Estimate(value, chance, *wide, tokens[:, None, None], MINIMUM_TOKENS)
    parts = document_counts(experts, num_experts, documents, domains)
    value = torch.zeros(counts.shape, dtype=torch.float64)
    low, high, n = value.clone(), torch.ones_like(value), torch.zeros(num_domains, dtype=torch.int64)
    for domain in parts.domains.unique().tolist():
        own = parts.of(domain)
        n[domain] = len(own.tokens)
        value[domain] = own.counts.sum(0) / own.tokens.sum().double()
        if n[domain] > 1:
            weights = bootstrap_weights(own.domains, rounds, seed)
            samples = (weights @ own.counts.flatten(1).float()) / (weights @ own.tokens.float())[:, None]
            edges = interval(samples.reshape(rounds, *value.shape[1:]), value[domain])
            low[domain], high[domain] = edges[0].clamp(0, 1), edges[1].clamp(0, 1)
    return Estimate(value, chance, low, high, n[:, None, None], MINIMUM_DOCUMENTS, "documents")


@dataclass(frozen=True)
class Specialisation:
    """Specialisation of every expert: score (layer, expert) bits; share (domain, layer, expert), P(D given expert);
    domain (layer, expert), that of the largest share; p, q (layer, expert) float64. Select by `q <= 0.05`.
    """

    score: Estimate
    share: Tensor
    domain: Tensor
    p: Tensor
    q: Tensor


def specialisation_score(
    experts: Tensor,
    num_experts: int,
    domains: Tensor,
    num_domains: int,
    documents: Tensor,
    rounds: int = 200,
    seed: int = 0,
) -> Specialisation:
    """KL(P(D given expert) || uniform) in bits: 0 for equal use in all domains, log2(domains) for use in one only.

    P(D given expert) is proportional to the share of the tokens of D that select the expert, so that large domains do
    not count more. Under uniform routing the score is above 0, because a few selections are always uneven: `chance` is
    the mean over `rounds` permutations of the documents' domains.

    p: the share of the permuted scores of all experts that exceed their own expert's mean by as many standard
    deviations (pooled null: Tusher, Tibshirani, Chu 2001). Scores are pooled because 200 rounds alone give at least
    p = 1/201, at which none of 12,032 experts could be significant. q: Benjamini-Hochberg over all experts and layers.

    n counts the documents of the smallest domain present, at least 20. An expert that was never selected has score 0,
    even shares and p = q = 1. With one domain, or a domain with one document, the score is reported with p = q = 1.
    Interval: bootstrap of documents within domains.
    """
    parts = document_counts(experts, num_experts, documents, domains)
    present = parts.domains.unique()
    columns = torch.searchsorted(present, parts.domains)
    flat = torch.cat([parts.counts.flatten(1), parts.tokens[:, None]], dim=1).float()
    shape = experts.shape[0], num_experts
    observed = shares_of(flat, columns[None], len(present))
    score = divergence(observed)[0]
    if bool((torch.bincount(columns) < 2).any()) or len(present) < 2:
        p = torch.ones_like(score)
        low, chance = torch.zeros_like(score), torch.zeros_like(score)
        high = torch.full_like(score, math.log2(len(present)))
    else:
        permuted = permuted_labels(columns, rounds, seed)
        null = torch.cat([divergence(shares_of(flat, part, len(present))) for part in permuted.split(25)])
        chance = null.mean(0, dtype=torch.float64)
        p = pooled_p(score, null)
        p[flat[:, :-1].sum(0) == 0] = 1.0
        weights = bootstrap_weights(columns, rounds, seed)
        samples = [divergence(shares_of(flat, columns[None], len(present), part)) for part in weights.split(25)]
        low, high = interval(torch.cat(samples), score)
    share = torch.zeros(num_domains, *shape, dtype=torch.float64)
    share[present] = observed[0].reshape(len(present), *shape)
    n = int(torch.bincount(columns).min())
    low, high = torch.minimum(low.clamp(min=0), score), torch.maximum(high.clamp(max=math.log2(len(present))), score)
    value, expected, low, high, p = (column.reshape(shape) for column in (score, chance, low, high, p))
    estimate = Estimate(value, expected, low, high, n, MINIMUM_DOCUMENTS, "documents")
    return Specialisation(estimate, share, share.argmax(0), p, benjamini_hochberg(p))


def shares_of(flat: Tensor, labels: Tensor, groups: int, weights: Tensor | None = None) -> Tensor:
    """(round, group, cell): P(group given cell) with equal weights for all groups; uniform for a cell never selected.

    flat: (document, cell + 1), selections per cell and, in the last column, the number of tokens; labels: (round or 1,
    document); weights: (round, document).
    """
    rates = group_rates(flat, labels, groups, weights)
    total = rates.sum(1, keepdim=True)
    return torch.where(total > 0, rates / total.clamp(min=1e-30), 1 / groups)


def group_rates(flat: Tensor, labels: Tensor, groups: int, weights: Tensor | None = None) -> Tensor:
    """(round, group, cell): selections per token in each group of documents. Arguments as `shares_of`."""
    member = torch.nn.functional.one_hot(labels, groups).float().transpose(1, 2)  # (round, group, document)
    if weights is not None:
        member = member * weights[:, None]
    sums = (member.reshape(-1, member.shape[-1]) @ flat).reshape(-1, groups, flat.shape[1])
    if len(sums) == 1:
        sums = sums.double()  # float32 holds the counts exactly and suffices for resamples
    return sums[..., :-1] / sums[..., -1:].clamp(min=1)


def divergence(shares: Tensor) -> Tensor:
    """(round, cell) bits: KL divergence of shares (round, group, cell) from uniform shares."""
    return (torch.xlogy(shares, shares).sum(1) / math.log(2) + math.log2(shares.shape[1])).clamp(min=0)


def pooled_p(score: Tensor, null: Tensor) -> Tensor:
    """(cell): share of all standardised null values (round, cell) at or above the standardised score (cell)."""
    mean, deviation = null.mean(0), null.std(0).clamp(min=1e-4)  # ignore rounding errors of a constant cell
    pool = ((null - mean) / deviation).flatten().sort().values
    standardised = ((score - mean) / deviation).float()
    above = len(pool) - torch.searchsorted(pool, standardised - 1e-4)
    return (above + 1).double() / (len(pool) + 1)


@dataclass(frozen=True)
class Distance:
    """Distance of two domains, all (layer): estimate in bits, p, q, and the band of the central 95 % of the distances
    under permuted document labels, to draw behind the line.
    """

    estimate: Estimate
    band_low: Tensor
    band_high: Tensor
    p: Tensor
    q: Tensor


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """(...) bits, 0..1: Jensen-Shannon divergence (Lin 1991) of two loads (..., expert), each scaled to sum 1.

    A load that sums to 0 is taken as even.
    """

    def scaled(load: Tensor) -> Tensor:
        total = load.double().sum(-1, keepdim=True)
        return torch.where(total > 0, load / total.clamp(min=1e-300), 1 / load.shape[-1])

    a, b = scaled(first), scaled(second)
    middle = (a + b) / 2
    nats = (torch.xlogy(a, a) + torch.xlogy(b, b)).sum(-1) / 2 - torch.xlogy(middle, middle).sum(-1)
    return (nats / math.log(2)).clamp(0, 1)


def domain_distance(
    experts: Tensor,
    num_experts: int,
    domains: Tensor,
    documents: Tensor,
    first: int,
    second: int,
    rounds: int = 200,
    seed: int = 0,
) -> Distance:
    """(layer) bits: Jensen-Shannon divergence of the loads f/k of two domains, from 0 (equal) to 1 (disjoint).

    It is never 0 for finite text: over `rounds` permutations of the documents between the domains, `chance` is the mean
    and band_low..band_high the central 95 %; p = (1 + rounds at or above the value) / (1 + rounds). n counts the
    documents of the smaller domain, at least 20. With no document in a domain the value is 0, with one it is as
    measured; in both cases the band is 0..1 and p is 1.
    """
    if first == second:
        raise BadArgument(f"first and second are both domain {first}: expected two different domains.")
    parts = document_counts(experts, num_experts, documents, domains).of(first, second)
    labels = (parts.domains == second).long()
    sizes = torch.bincount(labels, minlength=2)
    shape = experts.shape[0], num_experts

    flat = torch.cat([parts.counts.flatten(1), parts.tokens[:, None]], dim=1).float()

    def distances(groups: Tensor, weights: Tensor | None = None) -> Tensor:
        rates = group_rates(flat, groups, 2, weights).reshape(-1, 2, *shape)
        return jensen_shannon(rates[:, 0], rates[:, 1])

    if int(sizes.min()) == 0:
        return unknown_distance(torch.zeros(shape[0], dtype=torch.float64), 0)
    value = distances(labels[None])[0]
    if int(sizes.min()) < 2:
        return unknown_distance(value, int(sizes.min()))
    null = torch.cat([distances(part) for part in permuted_labels(labels, rounds, seed).split(25)])
    samples = torch.cat([distances(labels[None], part) for part in bootstrap_weights(labels, rounds, seed).split(25)])
    return distance_of(value, null, samples, int(sizes.min()))


def distance_of(value: Tensor, null: Tensor, samples: Tensor, n: int) -> Distance:
    """The Distance from the measured value (layer), the permuted (null) and the resampled ones (round, layer)."""
    low, high = interval(samples, value)
    band = middle(null)
    p = (1 + (null >= value - 1e-6).sum(0)).double() / (1 + len(null))
    estimate = Estimate(value, null.mean(0), low.clamp(min=0), high.clamp(max=1), n, MINIMUM_DOCUMENTS, "documents")
    return Distance(estimate, band[0], band[1], p, benjamini_hochberg(p))


def unknown_distance(value: Tensor, n: int) -> Distance:
    """The Distance for too few documents to permute: band and interval span all possible values, p and q are 1."""
    zero, one = torch.zeros_like(value), torch.ones_like(value)
    return Distance(Estimate(value, zero, zero, one, n, MINIMUM_DOCUMENTS, "documents"), zero, one, one, one)
