"""Chapter 02, RMSNorm: QK-norm, and the sizes of a stream (02.4 and 02.5)."""

from collections.abc import Callable

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.course.exercises.ch02_norm import ROOT, eps_outside, layer_norm, norm_by_loops
from minimoe.model.norm import at_least_float32, rms_norm

# 02.4 QK-norm --------------------------------------------------------------------------------------------------------


def qk_by_loops(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Each head of each token on its own; x: (batch, position, head * head_dim)."""
    size, normed = len(weight), torch.empty_like(x)
    for start in range(0, x.shape[-1], size):
        normed[..., start : start + size] = norm_by_loops(x[..., start : start + size].contiguous(), weight, eps)
    return normed


def draw_heads(
    batch: int, position: int, head: int, head_dim: int, dtype: torch.dtype = torch.float32, scale: float = 1.0
) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
        sizes = torch.arange(1.0, 1.0 + head)
        x = torch.randn(batch, position, head, head_dim, generator=generator) * (scale * sizes[:, None])
        weight = torch.rand(head_dim, generator=generator) + 0.5
        return (
            rearrange(x, "batch position head head_dim -> batch position (head head_dim)").to(dtype),
            weight.to(dtype),
            1e-6,
        )

    return arguments


HEADS = "batch position (head head_dim) -> batch position head head_dim"
FLAT = "batch position head head_dim -> batch position (head head_dim)"


def over_all_heads(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """One size for all heads of a token, as a norm over the whole projection computes it."""
    head = x.shape[-1] // len(weight)
    return rms_norm(x, repeat(weight, "head_dim -> (head head_dim)", head=head), eps)


def heads_inside(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The channels are read as (head_dim head)."""
    pattern = "batch position (head_dim head) -> batch position head head_dim"
    normed = rms_norm(rearrange(x, pattern, head_dim=len(weight)), weight, eps)
    return rearrange(normed, "batch position head head_dim -> batch position (head_dim head)")


def over_heads(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The mean runs over the heads, for each channel."""
    split = rearrange(x, HEADS, head_dim=len(weight))
    size = (split.pow(2).mean(dim=2, keepdim=True) + eps).sqrt()
    return rearrange(weight * split / size, FLAT)


def over_positions(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    split = rearrange(x, HEADS, head_dim=len(weight))
    size = (split.pow(2).mean(dim=1, keepdim=True) + eps).sqrt()
    return rearrange(weight * split / size, FLAT)


def without_weight(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rearrange(rms_norm(rearrange(x, HEADS, head_dim=len(weight)), torch.ones_like(weight), eps), FLAT)


def first_head_only(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    normed = x.clone()
    normed[..., : len(weight)] = rms_norm(x[..., : len(weight)], weight, eps)
    return normed


def put_together_wrong(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    normed = rms_norm(rearrange(x, HEADS, head_dim=len(weight)), weight, eps)
    return rearrange(normed, "batch position head head_dim -> batch position (head_dim head)")


def of_heads(norm: Callable[[Tensor, Tensor, float], Tensor]) -> Callable[[Tensor, Tensor, float], Tensor]:
    """A norm of vectors, for each head on its own."""
    return lambda x, weight, eps: rearrange(norm(rearrange(x, HEADS, head_dim=len(weight)), weight, eps), FLAT)


def over_positions_too(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """One size for all positions of a head."""
    split = rearrange(x, HEADS, head_dim=len(weight)).to(at_least_float32(x.dtype))
    size = reduce(split**2, "batch position head head_dim -> batch 1 head 1", "mean")
    return rearrange(weight * (split * torch.rsqrt(size + eps)).to(x.dtype), FLAT)


def heads_first(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The heads stand before the positions when the shape is restored."""
    split = rearrange(x, "batch position (head head_dim) -> batch head position head_dim", head_dim=len(weight))
    return rms_norm(split, weight, eps).reshape(x.shape)


def not_joined(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rms_norm(rearrange(x, HEADS, head_dim=len(weight)), weight, eps)


def by_patterns(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rearrange(rms_norm(rearrange(x, HEADS, head_dim=len(weight)), weight, eps), FLAT)


def by_view(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rms_norm(x.view(*x.shape[:-1], -1, len(weight)), weight, eps).view(x.shape)


def by_split(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return torch.cat([rms_norm(head, weight, eps) for head in x.split(len(weight), dim=-1)], dim=-1)


# 02.5 sizes ----------------------------------------------------------------------------------------------------------


def sizes_by_loops(x: Tensor) -> Tensor:
    """The root mean square of each layer and token; x: (layer, batch, position, hidden)."""
    table = torch.empty(x.shape[0], x.shape[1] * x.shape[2])
    for layer in range(x.shape[0]):
        for batch in range(x.shape[1]):
            for position in range(x.shape[2]):
                values = x[layer, batch, position].double()
                table[layer, batch * x.shape[2] + position] = float(values.square().mean().sqrt())
    return table


def sizes_as_given(x: Tensor) -> Tensor:
    """The code on the page."""
    return x.view(x.shape[0], -1, x.shape[-1]).pow(2).mean(-1).sqrt()


def draw_stream(*shape: int) -> Arguments:
    return lambda generator: (torch.randn(*shape, generator=generator),)


def mean_of_sizes(x: Tensor) -> Tensor:
    return reduce(x.abs(), "layer batch position hidden -> layer (batch position)", "mean")


def root_forgotten(x: Tensor) -> Tensor:
    return reduce(x**2, "layer batch position hidden -> layer (batch position)", "mean")


def square_of_mean(x: Tensor) -> Tensor:
    return (reduce(x, "layer batch position hidden -> layer (batch position)", "mean") ** 2) ** 0.5


def lengths(x: Tensor) -> Tensor:
    return reduce(x**2, "layer batch position hidden -> layer (batch position)", "sum") ** 0.5


def per_layer(x: Tensor) -> Tensor:
    return reduce(x**2, "layer batch position hidden -> layer", "mean") ** 0.5


def positions_first(x: Tensor) -> Tensor:
    return reduce(x**2, "layer batch position hidden -> layer (position batch)", "mean") ** 0.5


def mean_alone(x: Tensor) -> Tensor:
    return reduce(x, "layer batch position hidden -> layer (batch position)", "mean")


def deviations(x: Tensor) -> Tensor:
    return rearrange(x, "layer batch position hidden -> layer (batch position) hidden").std(dim=-1)


def largest(x: Tensor) -> Tensor:
    return reduce(x.abs(), "layer batch position hidden -> layer (batch position)", "max")


def texts_averaged(x: Tensor) -> Tensor:
    return reduce(x**2, "layer batch position hidden -> layer position", "mean") ** 0.5


def root_before_division(x: Tensor) -> Tensor:
    return reduce(x**2, "layer batch position hidden -> layer (batch position)", "sum").sqrt() / x.shape[-1]


def by_one_pattern(x: Tensor) -> Tensor:
    return reduce(x**2, "layer batch position hidden -> layer (batch position)", "mean") ** 0.5


def by_two_patterns(x: Tensor) -> Tensor:
    tokens = rearrange(x, "layer batch position hidden -> layer (batch position) hidden")
    return reduce(tokens.square(), "layer token hidden -> layer token", "mean").sqrt()


EXERCISES = (
    Exercise(
        id="02.4",
        title="QK-norm: one size per head",
        kind="einops",
        minutes=10,
        difficulty=3,
        hints=(
            "How many numbers does one head of one token have, and where do they stand in the row?",
            "Split the last axis into (head head_dim), norm the last axis, and join again.",
            'rearrange(x, "batch position (head head_dim) -> batch position head head_dim", head_dim=len(weight)); '
            "rms_norm; the way back.",
        ),
        now_you_know="QK-norm is the same function on a shorter axis: each head of each token has a size of its own.",
        oracle=qk_by_loops,
        cases=(
            Case(
                "two heads of two channels, the second ten times as large",
                (torch.tensor([[[1.0, -1.0, 10.0, 10.0]]]), torch.ones(2), 0.0),
                torch.tensor([[[1.0, -1.0, 1.0, 1.0]]]),
            ),
            Case("three heads", draw_heads(2, 4, 3, 5)),
            Case("one head", draw_heads(1, 3, 1, 6)),
            Case("one token", draw_heads(1, 1, 4, 8)),
            Case("bfloat16", draw_heads(1, 3, 2, 16, torch.bfloat16), tolerance=0.02),
            Case("small numbers, so that eps matters", draw_heads(1, 2, 3, 4, scale=1e-3)),
        ),
        mutants={
            "over all heads": (
                over_all_heads,
                "all heads of a token share one size. Each head is normed on its own, over head_dim.",
            ),
            "heads inside": (
                heads_inside,
                "the channels are read as (head_dim head). Those of a head stand together: (head head_dim).",
            ),
            "over heads": (over_heads, "the mean runs over the heads. It runs over head_dim."),
            "over positions": (over_positions, "the mean runs over the positions. It runs over head_dim."),
            "no weight": (without_weight, "the weight is missing."),
            "first head only": (first_head_only, "only the first head is normed."),
            "put together wrong": (
                put_together_wrong,
                "the norm is right, but the channels come out as (head_dim head). Join them as they were split.",
            ),
            "over positions, too": (
                over_positions_too,
                "all positions share the size of a head. Each position has its own: the mean runs over head_dim only.",
            ),
            "heads first": (
                heads_first,
                "the norm is right, but the heads stand before the positions in the result. Move them back first.",
            ),
            "not joined": (not_joined, "the norm is right, but the heads are not joined again: (head head_dim)."),
            "eps outside": (
                of_heads(eps_outside),
                "eps is added after the root. It goes under it, to the mean square.",
            ),
            "LayerNorm": (of_heads(layer_norm), "the mean of each head is subtracted, as in LayerNorm."),
            "to length one": (
                of_heads(lambda x, weight, eps: weight * F.normalize(x.float(), dim=-1).to(x.dtype)),
                "each head is brought to length 1. Its size should be 1: take the mean of the squares, not their sum.",
            ),
        },
        accepted={"two patterns": by_patterns, "a view": by_view, "head by head": by_split},
    ),
    Exercise(
        id="02.5",
        title="Rewrite with einops: the size of a stream",
        kind="einops",
        minutes=8,
        difficulty=2,
        hints=(
            "Which axes does the view join, and which one does the mean take away?",
            "reduce can join and average in one pattern: names missing on the right are averaged.",
            'reduce(x**2, "layer batch position hidden -> layer (batch position)", "mean") ** 0.5.',
        ),
        now_you_know="reduce joins, names and averages in one line.",
        oracle=sizes_by_loops,
        cases=(
            Case("one layer, one token", (torch.tensor([[[[3.0, 4.0]]]]),), torch.tensor([[ROOT]])),
            Case("three layers, two texts of four tokens", draw_stream(3, 2, 4, 5)),
            Case("one text", draw_stream(2, 1, 6, 3)),
            Case("many short texts", draw_stream(1, 5, 2, 4)),
        ),
        given=sizes_as_given,
        mutants={
            "mean of absolutes": (mean_of_sizes, "that is the mean of the absolute values. Square, mean, root."),
            "no root": (root_forgotten, "the root is missing."),
            "square of the mean": (square_of_mean, "the mean is taken before the square. Square first."),
            "lengths": (lengths, "the squares are summed: that is the length. The mean is needed."),
            "per layer": (per_layer, "all tokens of a layer are averaged. Each has a size of its own."),
            "positions first": (positions_first, "the tokens are ordered by position first: (batch position), please."),
            "mean alone": (mean_alone, "that is the mean itself. Square, mean, root."),
            "standard deviation": (deviations, "that is the standard deviation: the mean was subtracted first."),
            "largest": (largest, "that is the largest number of each vector. The mean of the squares is needed."),
            "texts averaged": (
                texts_averaged,
                "all texts of the batch are averaged. Each token has a size of its own.",
            ),
            "root before the division": (
                root_before_division,
                "the root of the sum is divided by hidden. Divide first, then take the root: that is a mean.",
            ),
        },
        accepted={"one pattern": by_one_pattern, "two patterns": by_two_patterns},
    ),
)
