"""Chapter 06, the router: top-k as a loop, and two equal scores (06.4)."""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Case, Exercise
from minimoe.course.exercises.ch06_route import draw


def pick_by_sorting(logits: Tensor, top_k: int) -> Tensor:
    """The experts of each token, in the order of their numbers."""
    return logits.argsort(dim=-1, descending=True, stable=True)[:, :top_k].sort(dim=-1).values


def pick_as_given(logits: Tensor, top_k: int) -> Tensor:
    left, chosen = logits.clone(), []
    for _ in range(top_k):
        best = left.max(dim=-1, keepdim=True).values
        chosen.append((left == best).int().argmax(dim=-1))
        left = left.masked_fill(left == best, -torch.inf)
    return rearrange(chosen, "slot token -> token slot")


def pick_with_zeros(logits: Tensor, top_k: int) -> Tensor:
    left, chosen = logits.clone(), []
    for _ in range(top_k):
        chosen.append(left.argmax(dim=-1))
        left = left.masked_fill(F.one_hot(chosen[-1], logits.shape[-1]).bool(), 0.0)
    return rearrange(chosen, "slot token -> token slot")


def pick_without_masking(logits: Tensor, top_k: int) -> Tensor:
    return repeat(logits.argmax(dim=-1), "token -> token slot", slot=top_k)


def pick_with_noise(logits: Tensor, top_k: int) -> Tensor:
    return pick_as_given(logits.float() + 0.1 * torch.rand(logits.shape), top_k)


def pick_whole_columns(logits: Tensor, top_k: int) -> Tensor:
    """left[:, best] = -inf: what one token has chosen is taken from all of them."""
    left, chosen = logits.clone(), []
    for _ in range(top_k):
        chosen.append(left.argmax(dim=-1))
        left[:, chosen[-1].unique()] = -torch.inf
    return rearrange(chosen, "slot token -> token slot")


def pick_the_lowest(logits: Tensor, top_k: int) -> Tensor:
    return logits.topk(top_k, dim=-1, largest=False).indices


def pick_above_the_limit(logits: Tensor, top_k: int) -> Tensor:
    """The distinct values first, as if a score belonged to one expert only."""
    rows = [row.unique(sorted=True).flip(0)[:top_k] for row in logits]
    found = [[int((row == value).nonzero()[-1]) for value in values] for row, values in zip(logits, rows, strict=True)]
    return torch.tensor([experts + experts[-1:] * (top_k - len(experts)) for experts in found])


def pick_with_the_lowest(logits: Tensor, top_k: int) -> Tensor:
    """What was chosen gets the lowest score of all, and so does not go below the others."""
    left, chosen = logits.clone(), []
    for _ in range(top_k):
        chosen.append(left.argmax(dim=-1))
        left = left.masked_fill(F.one_hot(chosen[-1], logits.shape[-1]).bool(), float(logits.min()))
    return rearrange(chosen, "slot token -> token slot")


def pick_with_half(logits: Tensor, top_k: int) -> Tensor:
    left, chosen = logits.clone(), []
    for _ in range(top_k):
        chosen.append(left.argmax(dim=-1))
        left = torch.where(F.one_hot(chosen[-1], logits.shape[-1]).bool(), left / 2, left)
    return rearrange(chosen, "slot token -> token slot")


def pick_by_value(logits: Tensor, top_k: int) -> Tensor:
    """The right values, each looked up in the row: of two equal ones, the first is found twice."""
    values = logits.sort(dim=-1, descending=True).values[:, :top_k]
    found = rearrange(logits, "token expert -> token 1 expert") == rearrange(values, "token slot -> token slot 1")
    return found.int().argmax(dim=-1)


def pick_the_first_numbers(logits: Tensor, top_k: int) -> Tensor:
    return repeat(torch.arange(top_k), "slot -> token slot", token=len(logits))


def pick_from_rank_two(logits: Tensor, top_k: int) -> Tensor:
    return logits.argsort(dim=-1, descending=True, stable=True)[:, 1:][:, :top_k]


def pick_last_of_one_more(logits: Tensor, top_k: int) -> Tensor:
    """As `pick_from_rank_two`; where all experts are chosen, all of them."""
    return logits.argsort(dim=-1, descending=True, stable=True)[:, : top_k + 1][:, -top_k:]


def pick_after_a_softmax_over_tokens(logits: Tensor, top_k: int) -> Tensor:
    return logits.float().softmax(dim=0).topk(top_k, dim=-1).indices


def pick_by_topk(logits: Tensor, top_k: int) -> Tensor:
    return logits.topk(top_k, dim=-1).indices


def pick_by_index(logits: Tensor, top_k: int) -> Tensor:
    left, chosen = logits.clone(), []
    for _ in range(top_k):
        chosen.append(left.argmax(dim=-1))
        left = left.masked_fill(F.one_hot(chosen[-1], logits.shape[-1]).bool(), -torch.inf)
    return rearrange(chosen, "slot token -> token slot")


def pick_by_scatter(logits: Tensor, top_k: int) -> Tensor:
    left, chosen = logits.double(), []
    for _ in range(top_k):
        best = left.max(dim=-1, keepdim=True).indices
        chosen.append(best)
        left = left.scatter(-1, best, -torch.inf)
    return torch.cat(chosen, dim=-1)


def as_sets(answer: Any) -> Any:
    """The answer's experts in the order of their numbers: which of two equal scores comes first does not matter."""
    if not callable(answer):
        return answer

    def sorted_pick(logits: Tensor, top_k: int) -> Any:
        experts = answer(logits, top_k)
        whole = isinstance(experts, Tensor) and experts.dim() == 2 and not experts.is_floating_point()
        return experts.sort(dim=-1).values if whole else experts

    return sorted_pick


def without_a_tie_at_a_cut(logits: Tensor, top_k: int) -> Tensor:
    """The rows in which ranks `top_k` and `top_k` + 1 differ, so that the right set is one.

    The sets of ranks 2 to `top_k` + 1, and of the lowest, are one, too: an answer that chooses them is recognised,
    whichever of two equal scores it takes.
    """
    ranked = logits.sort(dim=-1, descending=True).values
    cuts = torch.tensor([1, top_k, top_k + 1, logits.shape[-1] - top_k])
    return logits[(ranked[:, cuts - 1] != ranked[:, cuts]).all(dim=-1)]


def many(dtype: torch.dtype, tokens: int = 1000) -> Callable[..., Any]:
    """Scores of many tokens over 128 experts."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int]:
        logits = torch.randn(tokens, 128, generator=generator).to(dtype)
        return without_a_tie_at_a_cut(logits, 6), 6

    return arguments


EXERCISES = (
    Exercise(
        id="06.4",
        title="Bug hunt: wrong for one token in fifty",
        kind="bug hunt",
        minutes=15,
        difficulty=3,
        hints=(
            "Look at the highest logits of a token that goes wrong, and of one that does not. What differs?",
            "In float32 it hardly ever goes wrong, in float16 it does. What happens much more often among few digits? "
            "Then read the line with masked_fill: how many experts does it take out?",
            "Two equal logits: both are masked, only one was chosen. Mask by place: argmax gives one index per token, "
            "its one_hot is True in exactly one place. (Or do without the loop: topk.)",
        ),
        now_you_know="equal scores are common in 16 bits, and code that finds things by value finds two of them.",
        prepare=as_sets,
        given=pick_as_given,
        oracle=pick_by_sorting,
        cases=(
            Case("no two scores alike", (torch.tensor([[0.5, 2.0, 1.0, -1.0]]), 2)),
            Case("experts 1 and 2 have the same score", (torch.tensor([[2.5, 2.0, 2.0, 1.0, -1.0, 0.5]]), 3)),
            Case("all scores negative, two alike", (torch.tensor([[-3.0, -0.5, -2.0, -2.0, -2.5, -3.5]]), 3)),
            Case("float32, no two scores alike", lambda generator: (draw(4, 23, 1, True)(generator)[0], 5)),
            Case("all experts chosen", (torch.tensor([[3.0, 5.0, -2.0, -4.0]]), 4)),
            Case("many tokens in float16", many(torch.float16)),
            Case("many tokens in bfloat16", many(torch.bfloat16)),
        ),
        mutants={
            "as given": (
                pick_as_given,
                "two experts with equal scores are masked together, and only one of them was chosen. A cast to float32 "
                "does not help: what is equal in 16 bits stays equal.",
            ),
            "masked with zero": (
                pick_with_zeros,
                "the expert already chosen gets a score such as zero, and zero is more than a negative score: back it "
                "comes.",
            ),
            "not masked": (
                pick_without_masking,
                "nothing is taken out after a choice, so the best expert is chosen each time.",
            ),
            "noise against ties": (
                pick_with_noise,
                "noise breaks the ties, and it also changes choices that were right.",
            ),
            "whole columns": (
                pick_whole_columns,
                "left[:, best] takes the expert away from all tokens. Each token loses its own only: one place in each "
                "row.",
            ),
            "the lowest": (pick_the_lowest, "the experts with the lowest scores are chosen. sort and argsort ascend."),
            "masked with the lowest": (
                pick_with_the_lowest,
                "the expert already chosen gets the lowest score, and then it ties with the lowest: with all experts "
                "asked for, it comes back. -inf is below everything.",
            ),
            "halved": (
                pick_with_half,
                "the score of the expert already chosen is only lowered, so it may still be the best: back it comes.",
            ),
            "by value": (
                pick_by_value,
                "the right values are looked up among the scores. Of two equal ones, the first is found twice.",
            ),
            "the first numbers": (
                pick_the_first_numbers,
                "the first experts are chosen, 0, 1, 2, ..., whatever their scores are.",
            ),
            "from rank two": (pick_from_rank_two, "the best expert is left out: these ranks begin at 2."),
            "the last of one more": (
                pick_last_of_one_more,
                "the best expert is left out: of one more than asked for, the first was dropped in place of the last.",
            ),
            "softmax over the tokens": (
                pick_after_a_softmax_over_tokens,
                "the scores went through a softmax over the tokens, which changes their order within a row. No softmax "
                "is needed.",
            ),
            "values without repetition": (
                pick_above_the_limit,
                "each value is taken once, although two experts may have it; the set holds an expert too few.",
            ),
        },
        accepted={"topk": pick_by_topk, "mask by one_hot": pick_by_index, "scatter": pick_by_scatter},
    ),
)
