"""Chapter 02, RMSNorm: the norm, its invariances, a bug hunt, QK-norm, sizes, parameters, and one norm less."""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.model.norm import at_least_float32, rms_norm

# 02.1 the norm -------------------------------------------------------------------------------------------------------


def norm_by_loops(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """One vector after another, in float64."""
    rows = rearrange(x, "... hidden -> (...) hidden")
    normed = torch.empty(rows.shape, dtype=torch.float64)
    for row in range(len(rows)):
        values = rows[row].double()
        normed[row] = values / (float(sum(value * value for value in values)) / len(values) + eps) ** 0.5
    return (weight.double() * normed).reshape(x.shape).to(x.dtype)


def draw_vectors(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0, eps: float = 1e-6) -> Arguments:
    """Random vectors along the last axis, each of another size, and random weights."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
        x = scale * (torch.randn(*shape, generator=generator) + 0.3)
        size = torch.arange(1.0, 1.0 + shape[-2])[:, None] if len(shape) > 1 else 1.0
        weight = torch.rand(shape[-1], generator=generator) + 0.5
        return (x * size).to(dtype), weight.to(dtype), eps

    return arguments


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


def repaired(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt()


def repaired_with_rsqrt(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt((x * x).mean(-1, True) + eps) * weight


# 02.4 QK-norm --------------------------------------------------------------------------------------------------------


def qk_by_loops(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Each head of each token on its own; x: (batch, position, head * head_dim)."""
    size, normed = len(weight), torch.empty_like(x)
    for start in range(0, x.shape[-1], size):
        normed[..., start : start + size] = norm_by_loops(x[..., start : start + size].contiguous(), weight, eps)
    return normed


def draw_heads(batch: int, position: int, head: int, head_dim: int, dtype: torch.dtype = torch.float32) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
        sizes = torch.arange(1.0, 1.0 + head)
        x = torch.randn(batch, position, head, head_dim, generator=generator) * sizes[:, None]
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


def by_one_pattern(x: Tensor) -> Tensor:
    return reduce(x**2, "layer batch position hidden -> layer (batch position)", "mean") ** 0.5


def by_two_patterns(x: Tensor) -> Tensor:
    tokens = rearrange(x, "layer batch position hidden -> layer (batch position) hidden")
    return reduce(tokens.square(), "layer token hidden -> layer token", "mean").sqrt()


# 02.6 parameters -----------------------------------------------------------------------------------------------------


def parameters_by_list(layers: int, hidden: int, head_dim: int) -> int:
    """Every norm of every layer, and the last one."""
    total = hidden
    for _ in range(layers):
        for size in (hidden, head_dim, head_dim, hidden):
            total += size
    return total


# 02.7 one norm less --------------------------------------------------------------------------------------------------


def without_by_identity(skipped: Tensor) -> Callable[[Tensor, Tensor, float], Tensor]:
    """rms_norm for every weight but one, for which x is returned."""
    return lambda x, weight, eps: x if weight is skipped else rms_norm(x, weight, eps)


def as_results(answer: Any) -> Any:
    """The results of the function that the answer returns: for the skipped weight, for one with other numbers, and for
    one with the same numbers."""

    def results(x: Tensor, weight: Tensor, eps: float) -> tuple[Any, Any, Any]:
        normed = answer(weight)
        return normed(x, weight, eps), normed(x, 2 * weight, eps), normed(x, weight.clone(), eps)

    return results if callable(answer) else answer


def reference(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return as_results(without_by_identity)(x, weight, eps)


def skips_all(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: x


def skips_none(skipped: Tensor) -> Callable[..., Tensor]:
    return rms_norm


def the_others(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: rms_norm(x, weight, eps) if weight is skipped else x


def by_value(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: x if torch.equal(weight, skipped) else rms_norm(x, weight, eps)


def zeros(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: torch.zeros_like(x) if weight is skipped else rms_norm(x, weight, eps)


def weight_kept(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: weight * x if weight is skipped else rms_norm(x, weight, eps)


def only_the_weight(skipped: Tensor) -> Callable[..., Tensor]:
    return lambda x, weight, eps: rms_norm(x, torch.ones_like(weight) if weight is skipped else weight, eps)


def by_definition(skipped: Tensor) -> Callable[..., Tensor]:
    def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        if id(weight) == id(skipped):
            return x
        return rms_norm(x, weight, eps)

    return normed


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
        },
        accepted={"mean with dim": repaired, "rsqrt": repaired_with_rsqrt, "torch's own": by_functional},
    ),
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
        },
        accepted={"one pattern": by_one_pattern, "two patterns": by_two_patterns},
    ),
    Exercise(
        id="02.6",
        title="Estimate, then measure: what do norms cost?",
        kind="estimate",
        minutes=8,
        difficulty=2,
        hints=(
            "Which norms does a layer have, and how long is each?",
            "Two over the hidden state, one for q and one for k over head_dim, shared by all heads; one at the end.",
            "layers * (2 * hidden + 2 * head_dim) + hidden.",
        ),
        now_you_know="of a million weights of the 235B, three or four belong to a norm, and few norms can be left out.",
        oracle=parameters_by_list,
        cases=(
            Case("one layer, 4 channels, heads of 2: 4 + 2 + 2 + 4, and 4 at the end", (1, 4, 2), 16),
            Case("three layers", (3, 10, 7)),
            Case("the mini", (4, 192, 32)),
            Case("no layers", (0, 8, 4), 8),
        ),
        mutants={
            "no final norm": (
                lambda layers, hidden, head_dim: layers * (2 * hidden + 2 * head_dim),
                "the norm before the head is missing.",
            ),
            "no QK-norm": (
                lambda layers, hidden, head_dim: layers * 2 * hidden + hidden,
                "the norms of q and k are missing.",
            ),
            "one per layer": (
                lambda layers, hidden, head_dim: layers * (hidden + 2 * head_dim) + hidden,
                "a layer has two norms of the hidden state: before attention, and before the experts.",
            ),
            "one of q and k": (
                lambda layers, hidden, head_dim: layers * (2 * hidden + head_dim) + hidden,
                "q and k have a norm each.",
            ),
            "mean and weight": (
                lambda layers, hidden, head_dim: 2 * (layers * (2 * hidden + 2 * head_dim) + hidden),
                "you counted a bias for each. RMSNorm has a weight only.",
            ),
            "one final per layer": (
                lambda layers, hidden, head_dim: layers * (3 * hidden + 2 * head_dim),
                "the last norm was counted in each layer. The model has one.",
            ),
        },
        accepted={
            "a formula": lambda layers, hidden, head_dim: layers * (2 * hidden + 2 * head_dim) + hidden,
            "a sum": lambda layers, hidden, head_dim: (
                sum(hidden + head_dim + head_dim + hidden for _ in range(layers)) + hidden
            ),
        },
    ),
    Exercise(
        id="02.7",
        title="Ablate: which norm matters most?",
        kind="ablate",
        minutes=12,
        difficulty=3,
        hints=(
            "A function that returns a function. How do you know which norm is being computed?",
            "By its weight: `weight is skipped` compares the tensors themselves, not their numbers.",
            "return lambda x, weight, eps: x if weight is skipped else rms_norm(x, weight, eps).",
        ),
        now_you_know="every norm before the experts is worth several nats to the mini, and one of q hardly anything.",
        prepare=as_results,
        oracle=reference,
        cases=(
            Case("one vector, weights 1 and 2", (torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0]), 0.0)),
            Case("five tokens", draw_vectors(5, 8)),
            Case("a batch of texts", draw_vectors(2, 3, 6)),
            Case("bfloat16", draw_vectors(4, 16, dtype=torch.bfloat16), tolerance=0.01),
        ),
        parts={
            "the skipped norm": lambda results: results[0],
            "another norm": lambda results: results[1],
            "a norm with equal weights": lambda results: results[2],
        },
        mutants={
            "skips all": (skips_all, "no norm is computed at all. Only one is left out."),
            "skips none": (skips_none, "all norms are computed."),
            "the others": (the_others, "the wrong ones are skipped: all but this one."),
            "by value": (
                by_value,
                "norms with equal numbers are skipped, too: before training, all of them. Compare with `is`.",
            ),
            "zeros": (zeros, "the skipped norm returns zeros. Without a norm, x goes on as it is."),
            "weight kept": (weight_kept, "the weight is still multiplied. Without the norm, x goes on as it is."),
            "only the weight": (only_the_weight, "only the weight is left out. The division should go, too."),
        },
        accepted={"a lambda": without_by_identity, "a function inside": by_definition},
    ),
)
