"""Whether two events, such as the selection of two experts, happen together as often as by chance (also in
web/math/joint.js).

Tokens of one document are alike, so a count of tokens varies more between documents than independent tokens would. Two
estimates of this variation are at hand: a pair's own, which a few documents make unreliable, and one for all pairs
together, which knows nothing of the pair. The larger of both is taken.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.routing.statistics.chance import Z
from minimoe.routing.statistics.counting import check_labels, indicator
from minimoe.routing.statistics.resampling import MINIMUM_DOCUMENTS
from minimoe.routing.statistics.tails import NOTICEABLE, binomial_two_sided, student_two_sided


@dataclass(frozen=True)
class JointTest:
    """Test of joint counts, (expert, expert) float64: two-sided p, the dispersion of each pair; and `pooled`, that of
    all pairs. A dispersion is a variance over that of independent tokens, at least 1.
    """

    p: Tensor
    dispersion: Tensor
    pooled: float


def joint_test(
    here: Tensor, there: Tensor, num_experts: int, counts: Tensor, expected: Tensor, documents: Tensor | None
) -> JointTest:
    """p-values of "two experts are selected together as often as `expected`" (expert, expert), for every pair.

    here, there: (token, slot) of two layers, or of one layer twice; counts: the observed joint selections; documents
    (token), -1 or None if unknown. p is the larger of two: that of a binomial count, and that of Student's t for the
    sum of the residuals of the documents (cluster-robust; Liang and Zeger 1986), whose variance is the larger of the
    pair's own, from 20 documents on, and the pooled one. A pair that cannot be (expected 0) has p = 1.
    """
    tokens = len(here)
    first, second = (indicator(layer, num_experts).sum(0).double()[:, None] for layer in (here, there))
    second = second.T
    possible = expected > 0
    independent = expected * (1 - first / tokens) * (1 - second / tokens)
    own, size = cluster_variance(here, there, num_experts, counts, expected, documents)
    usable = possible & (independent > 0)
    pooled = 1.0
    if size >= 2 and bool(usable.any()):
        pooled = max(1.0, float(own[usable].sum() / independent[usable].sum()))
    variance = torch.maximum(own, pooled * independent) if size >= MINIMUM_DOCUMENTS else pooled * independent
    residual = counts.double() - expected
    z = torch.where(variance > 0, residual / variance.clamp(min=1e-300).sqrt(), 0.0)
    plain = torch.where(independent > 0, residual / independent.clamp(min=1e-300).sqrt(), 0.0)
    noticed = possible & (z.abs() >= NOTICEABLE) & (plain.abs() >= NOTICEABLE)
    p = torch.ones_like(expected)
    if bool(noticed.any()):
        trials = torch.maximum(first, second).expand_as(p)[noticed]  # the more frequent: nearer to the hypergeometric
        exact = binomial_two_sided(counts[noticed], trials, (expected[noticed] / trials).clamp(max=1))
        clustered = student_two_sided(z[noticed], size - 1) if size >= 2 else torch.zeros_like(exact)
        p[noticed] = torch.maximum(exact, clustered)
    dispersion = torch.where(usable, variance / independent.clamp(min=1e-300), 1.0).clamp(min=1)
    return JointTest(p, dispersion, pooled)


def ratio_interval(counts: Tensor, expected: Tensor, dispersion: Tensor) -> tuple[Tensor, Tensor]:
    """The 95 % interval of counts / expected: log-normal with the dispersion of the pair. Of a pair never seen it goes
    from 0 to the Poisson limit, -log(0.025) / expected, times the dispersion. NaN where nothing is expected.
    """
    safe = torch.where(expected > 0, expected, math.nan)
    factor = (Z * (dispersion / counts.clamp(min=1)).sqrt()).exp()
    seen = counts > 0
    low = torch.where(seen, counts / safe / factor, 0 * safe)
    high = torch.where(seen, counts / safe * factor, -math.log(0.025) * dispersion / safe)
    return low, high


def cluster_variance(
    here: Tensor, there: Tensor, num_experts: int, counts: Tensor, expected: Tensor, documents: Tensor | None
) -> tuple[Tensor, int]:
    """(variance (expert, expert) float64 of the sums of the documents' residuals, number of documents).

    The residual of a document is its joint count minus its share of the expected one.
    """
    nothing = torch.zeros_like(expected)
    if documents is None:
        return nothing, 0
    documents = check_labels("documents", documents, here[None])
    ids = documents[documents >= 0].unique()
    if len(ids) < 2:
        return nothing, len(ids)
    squares = nothing.clone()
    for document in ids:
        inside = (documents == document).nonzero().flatten()
        table = indicator(here[inside], num_experts).T @ indicator(there[inside], num_experts)
        squares += (table.double() - expected * (len(inside) / len(here))) ** 2
    size = len(ids)
    residual = counts.double() - expected
    return (size / (size - 1) * (squares - residual**2 / size)).clamp(min=0), size


@dataclass(frozen=True)
class ShareTest:
    """Test of shares, all of one shape: two-sided p, and the dispersion of each row, at least 1."""

    p: Tensor
    dispersion: Tensor


def share_test(
    used: Tensor,
    times: Tensor,
    base: Tensor,
    products: tuple[Tensor, Tensor, Tensor],
    documents: Tensor | None,
    together: tuple[int, ...],
) -> ShareTest:
    """p-values of "`used` of `times` tokens select an expert, as often as `base`", for rows (...), such as token ids.

    products (...): sums over documents of used^2, used times and times^2; documents (...): in how many documents the
    tokens of a row lie; None if documents are unknown. The two tests of `joint_test`, with the documents of the row.
    Its own variance is that of its counts around its own share, so that a preference that all documents have is not
    taken for scatter. Pooled over the dimensions `together` is the correlation of two tokens of one document, (own /
    tokenwise - 1) / (m - 1), with m = sum(times^2) / sum(times) the tokens of the row that a token meets in its
    document, itself included (Kish 1965). A row of one document cannot be told from that document: its p is 1.
    """
    used, times, base = torch.broadcast_tensors(used.double(), times.double(), base.double())
    independent = times * base * (1 - base)
    residual = used - base * times
    plain = torch.where(independent > 0, residual / independent.clamp(min=1e-300).sqrt(), math.inf * residual.sign())
    plain = plain.nan_to_num(0.0, math.inf, -math.inf)
    exact = binomial_two_sided(used, times, base)
    if documents is None:
        return ShareTest(torch.where(plain.abs() >= NOTICEABLE, exact, 1.0), torch.ones_like(used))
    squares, mixed, sizes = (torch.broadcast_to(each.double(), used.shape) for each in products)
    size = torch.broadcast_to(documents.double(), used.shape)
    share = used / times.clamp(min=1)
    free = 1 - sizes / times.clamp(min=1) ** 2  # of independent tokens, the squares below sum to `free` of the variance
    several = (size >= 2) & (free > 0)
    around = (squares - 2 * share * mixed + share**2 * sizes).clamp(min=0)
    own = torch.where(several, around / free.clamp(min=1e-300), 0.0)
    meets = sizes / times.clamp(min=1e-300)
    tokenwise = times**2 / (times - 1).clamp(min=1) * share * (1 - share)
    excess = torch.where(several, own - tokenwise, 0.0).sum(together, keepdim=True)
    room = torch.where(several, tokenwise * (meets - 1), 0.0).sum(together, keepdim=True)
    correlation = torch.where(room > 0, excess / room.clamp(min=1e-300), 0.0).clamp(0, 1)
    variance = torch.maximum(own, (1 + correlation * (meets - 1).clamp(min=0)) * independent)
    z = torch.where(variance > 0, residual / variance.clamp(min=1e-300).sqrt(), plain)
    clustered = student_two_sided(z, (size - 1).clamp(min=1))
    noticed = (size >= 2) & (z.abs() >= NOTICEABLE) & (plain.abs() >= NOTICEABLE)
    p = torch.where(noticed, torch.maximum(exact, clustered), 1.0)
    dispersion = torch.where(independent > 0, variance / independent.clamp(min=1e-300), 1.0).clamp(min=1)
    return ShareTest(p, dispersion)


def wilson(used: Tensor, times: Tensor, dispersion: Tensor) -> tuple[Tensor, Tensor]:
    """The 95 % interval of a share (Wilson 1927), with `times` divided by the dispersion (Kish's effective sample)."""
    share, size = used.double() / times.clamp(min=1), (times.double() / dispersion).clamp(min=1e-300)
    centre = share + Z**2 / (2 * size)
    half = Z * (share * (1 - share) / size + Z**2 / (4 * size**2)).sqrt()
    scale = 1 + Z**2 / size
    low, high = (centre - half) / scale, (centre + half) / scale
    return torch.where(used > 0, low.clamp(min=0), 0.0), torch.where(used < times, high.clamp(max=1), 1.0)
