"""Chapter 11, training: the load of each row of a batch, with named axes (11.7)."""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Case, Exercise, Stage


def by_loops(experts: Tensor, rows: int, num_experts: int) -> Tensor:
    """The share of the tokens of each row that chose each expert, choice after choice."""
    length = len(experts) // rows
    found = torch.zeros(rows, num_experts)
    for token, chosen in enumerate(experts.tolist()):
        for expert in chosen:
            found[token // length, expert] += 1 / length
    return found


def as_given(experts: Tensor, rows: int, num_experts: int) -> Tensor:
    """The code as it stands on the page."""
    hits = torch.zeros(experts.shape[0], num_experts)
    hits.scatter_(1, experts, 1.0)
    return hits.view(rows, -1, num_experts).mean(1)


def by_reduce(experts: Tensor, rows: int, num_experts: int) -> Tensor:
    chosen = F.one_hot(experts, num_experts).float()
    hits = reduce(chosen, "token slot expert -> token expert", "sum")
    return reduce(hits, "(row position) expert -> row expert", "mean", row=rows)


def by_rearrange(experts: Tensor, rows: int, num_experts: int) -> Tensor:
    by_row = rearrange(experts, "(row position) slot -> row position slot", row=rows)
    chosen = rearrange(by_row, "row position slot -> row position slot 1") == torch.arange(num_experts)
    return reduce(chosen.float(), "row position slot expert -> row expert", "sum") / by_row.shape[1]


def with_pattern(pattern: str, how: str = "mean") -> Callable[..., Tensor]:
    """Another pattern in the last step."""

    def mistaken(experts: Tensor, rows: int, num_experts: int) -> Tensor:
        hits = F.one_hot(experts, num_experts).float().sum(dim=1)
        return reduce(hits, pattern, how, row=rows)

    return mistaken


def per_choice(experts: Tensor, rows: int, num_experts: int) -> Tensor:
    return by_loops(experts, rows, num_experts) / experts.shape[1]


def all_rows_together(experts: Tensor, rows: int, num_experts: int) -> Tensor:
    return repeat(by_loops(experts, 1, num_experts), "1 expert -> row expert", row=rows)


def first_slot(experts: Tensor, rows: int, num_experts: int) -> Tensor:
    return by_loops(experts[:, :1], rows, num_experts)


def of_all_tokens(experts: Tensor, rows: int, num_experts: int) -> Tensor:
    return by_loops(experts, rows, num_experts) / rows


def of_each_expert(experts: Tensor, rows: int, num_experts: int) -> Tensor:
    """The shares of an expert's tokens among the rows."""
    found = by_loops(experts, rows, num_experts)
    return found / found.sum(dim=0, keepdim=True).clamp(min=1e-12)


def in_double(experts: Tensor, rows: int, num_experts: int) -> Tensor:
    return by_loops(experts, rows, num_experts).double()


def transposed(experts: Tensor, rows: int, num_experts: int) -> Tensor:
    return rearrange(by_loops(experts, rows, num_experts), "row expert -> expert row")


def choices(rows: int, length: int, slots: int, num_experts: int) -> Callable[[torch.Generator], tuple[Any, ...]]:
    """Random distinct experts for every token."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int, int]:
        scores = torch.rand(rows * length, num_experts, generator=generator)
        return scores.topk(slots, dim=-1).indices, rows, num_experts

    return arguments


HAND = torch.tensor([[0, 1], [0, 2], [3, 2], [3, 1], [3, 2], [3, 0]])

EXERCISES = (
    Exercise(
        id="11.7",
        title="Rewrite with einops: the load of each row",
        kind="einops",
        minutes=10,
        difficulty=3,
        hints=(
            "Which axes does view split, and which one does mean take away? Give each of them a name.",
            "F.one_hot(experts, num_experts) is (token, slot, expert). Its token axis is (row position), row by row.",
            "Sum the one-hot over slots, then reduce(hits, '(row position) expert -> row expert', 'mean', row=rows).",
        ),
        now_you_know="the scope of a balancing loss is one pattern: which tokens are averaged before f and P multiply.",
        oracle=by_loops,
        cases=(
            Case("two rows of three tokens, two of four experts, by hand", (HAND, 2, 4),
                 torch.tensor([[2 / 3, 1 / 3, 2 / 3, 1 / 3], [1 / 3, 1 / 3, 1 / 3, 1.0]])),
            Case("random choices", choices(3, 4, 2, 6)),
            Case("one row", choices(1, 5, 3, 7)),
            Case("rows of one token", choices(4, 1, 2, 5)),
            Case("many experts", choices(2, 6, 4, 11)),
        ),
        stages=(
            Stage(
                "",
                lambda experts, rows, n: F.one_hot(experts, n).float().sum(dim=1),
                "is still per token; average over the tokens of each row",
            ),
            Stage(
                "",
                lambda experts, rows, n: (by_loops(experts, rows, n) * (len(experts) // rows)).round().long(),
                "holds counts; divide by the tokens of a row",
            ),
        ),
        mutants={
            "position before row": (
                with_pattern("(position row) expert -> row expert"),
                "the tokens are dealt to the rows in turn: (position row). They lie row after row: (row position).",
            ),
            "a sum": (
                with_pattern("(row position) expert -> row expert", "sum"),
                "these are sums over the positions; the share is their mean.",
            ),
            "a maximum": (
                with_pattern("(row position) expert -> row expert", "max"),
                "this says whether a row chose the expert at all. The share of its tokens is asked: their mean.",
            ),
            "per choice": (
                per_choice,
                "the shares sum to one: slots are averaged, too. A share of tokens is asked; it sums to the slots.",
            ),
            "all rows together": (
                all_rows_together,
                "all rows have the load of the whole batch. Each row has one of its own.",
            ),
            "the first slot": (first_slot, "only the first slot is counted. Every choice of a token counts."),
            "of all tokens": (of_all_tokens, "it is divided by all tokens of the batch; divide by those of a row."),
            "of each expert": (
                of_each_expert,
                "these are the shares of an expert's tokens among the rows. The share of a row's tokens is asked.",
            ),
            "in double": (in_double, "the right numbers in float64; the page asks for float32."),
            "transposed": (transposed, "rows and experts have changed places: row first."),
        },
        accepted={"two reduces": by_reduce, "split first": by_rearrange},
        given=as_given,
    ),
)  # fmt: skip
