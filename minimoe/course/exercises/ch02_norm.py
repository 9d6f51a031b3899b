"""Chapter 02, RMSNorm: the norm, its invariances, and a bug hunt (02.1 to 02.3)."""

from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.model.norm import at_least_float32, rms_norm

# 02.1 the norm -------------------------------------------------------------------------------------------------------


def norm_by_loops(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """One vector after another, in float64; back in the dtype of x before the weight."""
    rows = rearrange(x, "... hidden -> (...) hidden")
    normed = torch.empty(rows.shape, dtype=torch.float64)
    for row in range(len(rows)):
        values = rows[row].double()
        normed[row] = values / (float(sum(value * value for value in values)) / len(values) + eps) ** 0.5
    return weight * normed.to(x.dtype).reshape(x.shape)


def draw_vectors(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0, eps: float = 1e-6) -> Arguments:
    """Random vectors along the last axis, each of another size, and random weights."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
        x = scale * (torch.randn(*shape, generator=generator) + 0.3)
        size = torch.arange(1.0, 1.0 + shape[-2])[:, None] if len(shape) > 1 else 1.0
        weight = torch.rand(shape[-1], generator=generator) + 0.5
        return (x * size).to(dtype), weight.to(dtype), eps

    return arguments


def draw_clear_bfloat16(generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Vectors in bfloat16 whose normed values are not near the middle between two neighbours.

    So they round alike after any order of summation, and only the order of cast and weight makes a difference.
    """
    x, weight = torch.randn(64, 48, generator=generator).bfloat16(), torch.rand(48, generator=generator) + 0.5
    normed = F.rms_norm(x.double(), (48,), eps=1e-6)
    clear = ((1 - 1e-5) * normed).bfloat16() == ((1 + 1e-5) * normed).bfloat16()
    return x[clear.all(dim=-1)][:8], weight.bfloat16(), 1e-6


def variant(
    x: Tensor, weight: Tensor, eps: float, *, centre: bool = False, mean: bool = True, root: bool = True,
    outside: bool = False, add: bool = True, over: Any = -1, used: bool = True, offset: float = 0.0, wide: bool = True,
    cast: bool = True,
) -> Tensor:  # fmt: skip
    """RMSNorm with one thing done differently."""
    values = x.to(at_least_float32(x.dtype)) if wide else x
    values = values - values.mean(dim=-1, keepdim=True) if centre else values
    squares = values.pow(2)
    size = squares.mean(dim=over, keepdim=True) if mean else squares.sum(dim=over, keepdim=True)
    size = size + eps if add and not outside else size
    size = size.sqrt() if root else size
    size = size + eps if outside else size
    normed = values / size
    normed = normed.to(x.dtype) if cast else normed
    return (weight + offset) * normed if used else normed


def layer_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps, centre=True)


def sum_not_mean(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps, mean=False)


def no_root(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps, root=False)


def eps_outside(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps, outside=True)


def no_eps(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps, add=False)


def over_everything(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps, over=tuple(range(x.dim())))


def over_tokens(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps, over=0)


def no_weight(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps, used=False)


def weight_plus_one(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps, offset=1.0)


def mean_of_absolutes(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.to(at_least_float32(x.dtype))
    return weight * (wide / (wide.abs().mean(dim=-1, keepdim=True) + eps)).to(x.dtype)


def in_the_models_dtype(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps, wide=False)


def left_in_float32(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps, cast=False).to(at_least_float32(x.dtype))


def weight_first(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The weight is multiplied in float32, before the cast."""
    wide = x.to(at_least_float32(x.dtype))
    return (weight * wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps)).to(x.dtype)


def factors_in_the_models_dtype(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As in_the_models_dtype, in the order in which it is often written: other roundings."""
    return weight * x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + eps)


def squares_in_the_models_dtype(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    squares = x.pow(2).to(at_least_float32(x.dtype))
    return weight * (x * torch.rsqrt(squares.mean(dim=-1, keepdim=True) + eps)).to(x.dtype)


def times_size(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.to(at_least_float32(x.dtype))
    return weight * (wide * (wide.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt()).to(x.dtype)


def standard_deviation(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.to(at_least_float32(x.dtype))
    return weight * (wide * torch.rsqrt(wide.var(dim=-1, keepdim=True) + eps)).to(x.dtype)


def to_length_one(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * F.normalize(x.to(at_least_float32(x.dtype)), dim=-1, eps=eps).to(x.dtype)


def divided_by_weight(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps, used=False) / weight


def clamped(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The mean square is at least eps."""
    wide = x.to(at_least_float32(x.dtype))
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True).clamp(min=eps))).to(x.dtype)


def eps_squared(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return variant(x, weight, eps**2)


def mean_of_roots(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / (x.pow(2) + eps).sqrt().mean(dim=-1, keepdim=True)


def by_functional(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = F.rms_norm(x.to(at_least_float32(x.dtype)), (x.shape[-1],), eps=eps)
    return weight * wide.to(x.dtype)


def by_reduce(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.double()
    size = reduce(wide**2, "... hidden -> ... 1", "mean")
    return weight * (wide / (size + eps).sqrt()).to(x.dtype)


def by_vector_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.to(at_least_float32(x.dtype))
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return weight * (wide / (length**2 / x.shape[-1] + eps) ** 0.5).to(x.dtype)


# 02.2 invariances ----------------------------------------------------------------------------------------------------

TRUTH = {
    "x times 1,000: another result": False,
    "x plus 1,000: another result": True,
    "-x: the result changes its sign": True,
    "channels in another order, weight too: the same numbers in that order": True,
    "another token of the text changes: another result for this one": False,
    "all channels equal and positive, weight one: all results are 1": True,
    "x is 0: the result is not a number": False,
}

# 02.3 the bug hunt ---------------------------------------------------------------------------------------------------


def suspicious(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x: (token, hidden) -> the same shape."""
    return weight * x / (x.pow(2).mean().sqrt() + eps)


def each_token_outside(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / (x.pow(2).mean(dim=-1, keepdim=True).sqrt() + eps)


def all_tokens_inside(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / (x.pow(2).mean() + eps).sqrt()


def one_row_of_sizes(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The mean over the tokens: (hidden) divides by broadcasting."""
    return weight * x / (x.pow(2).mean(dim=0) + eps).sqrt()


def eps_twice(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / ((x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt() + eps)


def eps_to_x(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / (x + eps).pow(2).mean(dim=-1, keepdim=True).sqrt()


def eps_after_the_root(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """A lower limit of the size."""
    return weight * x / x.pow(2).mean(dim=-1, keepdim=True).sqrt().clamp(min=eps)


def size_of_the_first(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / (x[0].pow(2).mean() + eps).sqrt()


def mean_size(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / (x.pow(2).mean(dim=-1) + eps).sqrt().mean()


def weight_in_the_size(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    scaled = weight * x
    return scaled / (scaled.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt()


def repaired(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt()


def repaired_with_rsqrt(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt((x * x).mean(-1, True) + eps) * weight


BY_HAND = (torch.tensor([[3.0, 4.0], [0.3, -0.4]]), torch.tensor([1.0, 2.0]), 0.0)
ROOT = 12.5**0.5  # of the mean of 9 and 16

EXERCISES = (
    Exercise(
        id="02.1",
        title="rms_norm",
        kind="fill in",
        minutes=8,
        difficulty=2,
        hints=(
            "Read the name backwards: square, mean, root; then divide.",
            "The mean runs over the last axis and keeps it (keepdim=True). eps goes under the root. Statistics in "
            "float32, then back to x's dtype, then the weight.",
            "wide = x.float(); wide = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps); "
            "return weight * wide.to(x.dtype).",
        ),
        now_you_know="a norm is one number per token: its size, which is divided out.",
        oracle=norm_by_loops,
        teaches=rms_norm,
        parts={"the result": lambda result: result},
        stages=(
            Stage("the result", no_weight, "is right before the weight"),
            Stage("the result", lambda x, weight, eps: weight * x, "is x times the weight, without the norm"),
        ),
        cases=(
            Case(
                "(3, 4) and (0.3, -0.4), weights 1 and 2, no eps",
                BY_HAND,
                torch.tensor([[3 / ROOT, 8 / ROOT], [3 / ROOT, -8 / ROOT]]),
            ),
            Case("five tokens", draw_vectors(5, 8)),
            Case("a batch of texts", draw_vectors(2, 3, 6)),
            Case("one vector", draw_vectors(7)),
            Case("small numbers, so that eps matters", draw_vectors(3, 5, scale=1e-3)),
            Case("a large eps", draw_vectors(3, 5, eps=0.5)),
            Case("bfloat16: statistics in float32", draw_vectors(6, 64, dtype=torch.bfloat16), tolerance=0.008),
            Case("a vector of zeros", (torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 2.0]]), torch.ones(3), 1e-6)),
            Case(
                "float16: the square of 300 is too large for it",
                (torch.tensor([[300.0, 1, -2, 5]]).half(), torch.tensor([1.0, 2, 0.5, 1]).half(), 1e-6),
            ),
            Case("bfloat16: the cast before the weight", draw_clear_bfloat16, tolerance=1e-4),
        ),
        mutants={
            "LayerNorm": (layer_norm, "the mean is subtracted first, as in LayerNorm. RMSNorm leaves it where it is."),
            "sum for mean": (sum_not_mean, "the squares are summed. Their mean is needed: a size per channel."),
            "no root": (no_root, "x is divided by the mean square itself. Take its root."),
            "eps outside": (eps_outside, "eps is added after the root. It goes under it, to the mean square."),
            "no eps": (no_eps, "eps is missing. Without it a vector of zeros is divided by zero."),
            "over everything": (
                over_everything,
                "the mean runs over all tokens. Each vector has a size of its own: the last axis only.",
            ),
            "over the tokens": (over_tokens, "the mean runs over the tokens. It runs over the channels: dim=-1."),
            "no weight": (no_weight, "the weight is missing."),
            "weight plus one": (weight_plus_one, "1 is added to the weight. Some models store it so; Qwen3 does not."),
            "mean of absolutes": (mean_of_absolutes, "that is the mean of the absolute values. Square, mean, root."),
            "left in float32": (left_in_float32, "the result is float32 although x isn't. Cast back."),
            "weight first": (
                weight_first,
                "the weight is multiplied before the cast, so the last bit differs now and then. Cast, then multiply.",
            ),
            "in the model's dtype": (
                in_the_models_dtype,
                "all is computed in x's dtype: float16 overflows, bfloat16 rounds. Use float32 up to the cast.",
            ),
            "in the model's dtype, from the left": (
                factors_in_the_models_dtype,
                "all is computed in x's dtype: float16 overflows, bfloat16 rounds. Use float32 up to the cast.",
            ),
            "squares in the model's dtype": (
                squares_in_the_models_dtype,
                "the squares are computed in x's dtype, where they overflow or are rounded. Go to float32 before that.",
            ),
            "times the size": (times_size, "x is multiplied by its size. Divide by it."),
            "standard deviation": (
                standard_deviation,
                "that is the standard deviation, for which the mean is subtracted. RMSNorm leaves it where it is.",
            ),
            "to length one": (
                to_length_one,
                "each vector is brought to length 1. Its size should be 1: the mean of the squares, not their sum.",
            ),
            "divided by the weight": (divided_by_weight, "the result is divided by the weight. Multiply."),
            "clamped": (clamped, "eps is used as a lower limit of the mean square. Add it instead."),
            "eps squared": (eps_squared, "eps is squared. It is added to the mean square as it is."),
        },
        accepted={"torch's own": by_functional, "reduce, in float64": by_reduce, "vector_norm": by_vector_norm},
    ),
    Exercise(
        id="02.2",
        title="Predict: what changes the result?",
        kind="predict",
        minutes=6,
        difficulty=2,
        hints=(
            "Write the formula down and put 1,000 x in the place of x.",
            "A factor comes out of the root and cancels; a summand does not. The mean runs over one token's channels.",
            "False, True, True, True, False, True, False (eps keeps 0 / 0 away).",
        ),
        now_you_know="RMSNorm forgets the size of a vector, and nothing else.",
        expected=TRUTH,
        reasons={
            "x times 1,000: another result": "What comes out of the root, and what does it meet there?",
            "x plus 1,000: another result": "Nothing is subtracted. Do the channels keep their ratios?",
            "-x: the result changes its sign": "The root is the same. What is divided by it?",
            "channels in another order, weight too: the same numbers in that order": "Does a mean care about order?",
            "another token of the text changes: another result for this one": "Over which axis does the mean run?",
            "all channels equal and positive, weight one: all results are 1": "What is the size of (c, c, c)?",
            "x is 0: the result is not a number": "What is eps for?",
        },
        mutants={
            "as LayerNorm": (
                TRUTH
                | {
                    "x plus 1,000: another result": False,
                    "all channels equal and positive, weight one: all results are 1": False,
                },
                "that is LayerNorm, which subtracts the mean. RMSNorm does not.",
            ),
            "sizes matter": (
                TRUTH | {"x times 1,000: another result": True},
                "a factor comes out of the root and cancels.",
            ),
            "tokens see each other": (
                TRUTH | {"another token of the text changes: another result for this one": True},
                "the mean runs over the channels of one token; tokens meet in attention only.",
            ),
            "zero divides": (
                TRUTH | {"x is 0: the result is not a number": True},
                "eps is added under the root, so 0 is divided by a small number.",
            ),
        },
        accepted={
            "as numbers": {question: int(answer) for question, answer in TRUTH.items()},
            "as tensors": {question: torch.tensor(answer) for question, answer in TRUTH.items()},
        },
    ),
    Exercise(
        id="02.3",
        title="Bug hunt: right for one token",
        kind="bug hunt",
        minutes=10,
        difficulty=3,
        hints=(
            "Give it one token, then two: does the result of the first one stay?",
            "There are two bugs: the axes of the mean, and the place of eps.",
            "weight * x / (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt().",
        ),
        now_you_know="a mean without dim is a mean over everything, and one token alone will never show it.",
        oracle=norm_by_loops,
        cases=(
            Case("two tokens of different size", (torch.tensor([[1.0, 1.0], [10.0, -10.0]]), torch.ones(2), 0.0)),
            Case("five tokens", draw_vectors(5, 8)),
            Case("one token", draw_vectors(1, 6)),
            Case("small numbers, so that eps matters", draw_vectors(3, 5, scale=1e-3)),
            Case("a token of zeros", (torch.tensor([[0.0, 0.0], [3.0, -1.0]]), torch.tensor([1.0, 2.0]), 1e-6)),
        ),
        given=suspicious,
        mutants={
            "as it was": (suspicious, "this is still the function on the page, with both of its bugs."),
            "eps still outside": (
                each_token_outside,
                "each token has its own size now. eps is still outside the root.",
            ),
            "all tokens still": (all_tokens_inside, "eps is in its place now. The mean still runs over all tokens."),
            "sizes of channels": (
                one_row_of_sizes,
                "the mean runs over the tokens. It runs over the channels: dim=-1.",
            ),
            "LayerNorm": (layer_norm, "the mean is subtracted first, as in LayerNorm."),
            "sum for mean": (sum_not_mean, "the squares are summed. Their mean is needed."),
            "no eps": (no_eps, "eps is gone. It belongs under the root, where it keeps 0 / 0 away."),
            "no weight": (no_weight, "the weight is missing."),
            "no root": (no_root, "the root is missing. It covers the sum of the mean square and eps."),
            "eps twice": (eps_twice, "eps is under the root now, and still outside, too."),
            "eps to x": (eps_to_x, "eps is added to x before the square. Add it to the mean of the squares."),
            "a lower limit": (
                eps_after_the_root,
                "eps is used as a lower limit of the size. Add it to the mean square, under the root.",
            ),
            "size of the first": (
                size_of_the_first,
                "all tokens have the size of the first. Each has a size of its own.",
            ),
            "mean size": (mean_size, "all tokens share the mean of their sizes. Each has a size of its own."),
            "mean of roots": (
                mean_of_roots,
                "the root is taken before the mean: that is a mean of absolute values. Square, mean, root.",
            ),
            "weight in the size": (
                weight_in_the_size,
                "the weight is multiplied before the size is measured. Measure x itself, and multiply after that.",
            ),
        },
        accepted={"mean with dim": repaired, "rsqrt": repaired_with_rsqrt, "torch's own": by_functional},
    ),
)
