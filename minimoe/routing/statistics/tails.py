"""Tail probabilities of Student's t and of binomial counts, two-sided (the same formulas in web/math/tails.js)."""

import torch
from torch import Tensor

NOTICEABLE = 1.6  # a smaller |z| means p of about 0.1 or more; p is then set to 1, which changes no q below 10 %
ROUNDS = 300  # of the continued fraction
TINY = 1e-300


def beta_incomplete(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The regularised incomplete beta function I_x(a, b), float64, by its continued fraction (DLMF 8.17.22)."""
    x, a, b = torch.broadcast_tensors(x.double(), a.double(), b.double())
    inside = (x > 0) & (x < 1)
    safe = torch.where(inside, x, 0.5)
    swapped = safe >= (a + 1) / (a + b + 2)
    at, first, second = (
        torch.where(swapped, 1 - safe, safe),
        torch.where(swapped, b, a),
        torch.where(swapped, a, b),
    )
    front = torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b) + a * safe.log() + b * torch.log1p(-safe)
    value = front.exp() * fraction(at, first, second) / first
    value = torch.where(swapped, 1 - value, value)
    return torch.where(inside, value, (x >= 1).double())


def fraction(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The continued fraction of the incomplete beta function, by the modified method of Lentz."""
    c = torch.ones_like(x)
    d = 1 / kept(1 - (a + b) * x / (a + 1))
    value = d.clone()
    for m in range(1, ROUNDS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d = 1 / kept(1 + step * d)
            c = kept(1 + step / c)
            value = value * d * c
        if bool(((d * c - 1).abs() < 1e-12).all()):
            break
    return value


def kept(value: Tensor) -> Tensor:
    """`value`, away from 0."""
    return torch.where(value.abs() < TINY, TINY, value)


def student_two_sided(t: Tensor, degrees: Tensor | float) -> Tensor:
    """P(|T| >= |t|) for Student's t with `degrees` degrees of freedom (a number or one each); 1 without any."""
    t, degrees = t.double(), torch.as_tensor(degrees, dtype=torch.float64)
    some = degrees.clamp(min=1)
    p = beta_incomplete(some / (some + t * t), some / 2, torch.tensor(0.5))
    return torch.where(degrees > 0, p, 1.0)


def binomial_two_sided(successes: Tensor, trials: Tensor, probability: Tensor) -> Tensor:
    """2 min(P(X <= k), P(X >= k)), at most 1, for X binomial."""
    k, n, p = successes.double(), trials.double(), probability.double().clamp(0, 1)
    at_least = torch.where(k <= 0, 1.0, beta_incomplete(p, k.clamp(min=1), n - k + 1))
    # P(X <= k) = I_(1-p)(n - k, k + 1), not 1 - I_p(k + 1, n - k): a difference loses the digits of a small tail
    at_most = torch.where(k >= n, 1.0, beta_incomplete(1 - p, (n - k).clamp(min=1), k + 1))
    return (2 * torch.minimum(at_least, at_most)).clamp(max=1)
