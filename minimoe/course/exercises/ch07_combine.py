"""Chapter 07, the experts: the weighted sum of a token's slots (07.1), and slots that are lost in it (07.5)."""

from collections.abc import Callable
from typing import Any

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.model.experts import combine

# 07.1 combine --------------------------------------------------------------------------------------------------------


def combine_by_loops(outputs: Tensor, weights: Tensor) -> Tensor:
    """One token and one slot after another."""
    tokens, slots = weights.shape
    result = torch.zeros(tokens, outputs.shape[-1], dtype=torch.float64)
    for token in range(tokens):
        for slot in range(slots):
            result[token] += weights[token, slot].double() * outputs[token * slots + slot].double()
    return result.to(outputs.dtype)


def by_slot(outputs: Tensor, weights: Tensor, order: str = "(token slot)") -> Tensor:
    """(token, slot, hidden): the rows of each token, if they are stored in this order."""
    return rearrange(outputs, f"{order} hidden -> token slot hidden", slot=weights.shape[1])


def weighted(outputs: Tensor, weights: Tensor) -> Tensor:
    """(token, slot, hidden): each row times its weight."""
    return by_slot(outputs, weights) * rearrange(weights, "token slot -> token slot 1")


def sum_of_slots(rows: Tensor) -> Tensor:
    return reduce(rows, "token slot hidden -> token hidden", "sum")


def by_einsum(outputs: Tensor, weights: Tensor) -> Tensor:
    return einsum(by_slot(outputs, weights), weights, "token slot hidden, token slot -> token hidden")


def by_matrix_product(outputs: Tensor, weights: Tensor) -> Tensor:
    return torch.stack([weight @ rows for weight, rows in zip(weights, by_slot(outputs, weights), strict=True)])


def with_weights(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The right sum with other weights."""
    return lambda outputs, weights: combine(outputs, change(weights))


def largest_row(outputs: Tensor, weights: Tensor) -> Tensor:
    return reduce(weighted(outputs, weights), "token slot hidden -> token hidden", "max")


def slots_first(outputs: Tensor, weights: Tensor) -> Tensor:
    rows = by_slot(outputs, weights, "(slot token)")
    return by_einsum(rearrange(rows, "token slot hidden -> (token slot) hidden"), weights)


def weights_in_another_order(weights: Tensor) -> Tensor:
    flat = rearrange(weights, "token slot -> (slot token)")
    return rearrange(flat, "(token slot) -> token slot", slot=weights.shape[1])


def weighted_twice(outputs: Tensor, weights: Tensor) -> Tensor:
    return combine(outputs, weights * weights)


def same_weights_for_all(outputs: Tensor, weights: Tensor) -> Tensor:
    return einsum(by_slot(outputs, weights), weights[0], "token slot hidden, slot -> token hidden")


def slots(token: int, slot: int, hidden: int, dtype: torch.dtype = torch.float32) -> Arguments:
    """Random outputs, and weights that do not sum to one."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        outputs = torch.randn(token * slot, hidden, generator=generator)
        return outputs.to(dtype), (0.2 + torch.rand(token, slot, generator=generator)).to(dtype)

    return arguments


# 07.5 lost slots -----------------------------------------------------------------------------------------------------


def add_up_by_loops(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
    """One row after another."""
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    for row, place in zip(rows, token.tolist(), strict=True):
        result[place] = result[place] + row
    return result


def add_up_as_given(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    result[token] += rows
    return result


def keeps_one(which: str) -> Callable[..., Tensor]:
    """Of the rows of each token, the "first", the "last" or the "largest" in each column; zeros without a row."""

    def mistaken(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
        result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
        for place in range(tokens):
            own = rows[token == place]
            if len(own):
                result[place] = {"first": own[0], "last": own[-1], "largest": own.amax(dim=0)}[which]
        return result

    return mistaken


def mean_of_rows(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
    counts = token.bincount(minlength=tokens).clamp(min=1)
    return add_up_by_loops(rows, token, tokens) / rearrange(counts, "token -> token 1")


def split_in_order(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
    """The rows in equal pieces, as if they were sorted by token."""
    return add_up_by_loops(rows, token.sort().values, tokens)


def running_sum(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
    """Sums that go on from one token to the next."""
    return add_up_by_loops(rows, token, tokens).cumsum(dim=0)


def always_float32(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
    return add_up_by_loops(rows.float(), token, tokens)


def first_column(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
    """scatter_add_ with an index of one column: it adds up no more columns than the index has."""
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    return result.scatter_add_(0, rearrange(token, "row -> row 1"), rows)


def by_index_add(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
    return torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype).index_add_(0, token, rows)


def by_one_hot(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
    chosen = F.one_hot(token, tokens).to(rows.dtype)
    return einsum(chosen, rows, "assignment token, assignment hidden -> token hidden")


def by_index_put(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
    return torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype).index_put_((token,), rows, accumulate=True)


def travelled(token: int, slot: int, hidden: int, dtype: torch.dtype = torch.float32) -> Arguments:
    """The rows of all tokens in random order."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        order = torch.randperm(token * slot, generator=generator)
        return torch.randn(token * slot, hidden, generator=generator).to(dtype), order // slot, token

    return arguments


def a_token_without_rows(generator: torch.Generator) -> tuple[Any, ...]:
    return torch.randn(5, 3, generator=generator), torch.tensor([3, 0, 3, 4, 0]), 6


EXERCISES = (
    Exercise(
        id="07.1",
        title="Combine",
        kind="fill in",
        minutes=8,
        difficulty=1,
        hints=(
            "Give the slots an axis of their own first. Then each row meets one weight.",
            "outputs (token slot) hidden -> token slot hidden; weights token slot. The result is token hidden, so slot "
            "is summed.",
            'rearrange(outputs, "(token slot) hidden -> token slot hidden", slot=weights.shape[1]), then einsum with '
            'weights, "token slot hidden, token slot -> token hidden".',
        ),
        now_you_know="combine is a weighted sum over slots; what makes it hard is only that the rows are in order.",
        oracle=combine_by_loops,
        teaches=combine,
        cases=(
            Case(
                "two tokens, two slots, one number each, by hand",
                (torch.tensor([[1.0], [2.0], [4.0], [8.0]]), torch.tensor([[0.5, 0.25], [2.0, 1.0]])),
                torch.tensor([[1.0], [16.0]]),
            ),
            Case("random rows; the weights do not sum to one", slots(5, 3, 4)),
            Case("as many tokens as slots", slots(3, 3, 2)),
            Case("one slot", slots(4, 1, 3)),
            Case("one token", slots(1, 4, 3)),
            Case("no tokens", (torch.zeros(0, 4), torch.zeros(0, 3)), torch.zeros(0, 4)),
            Case("outputs and weights in bfloat16", slots(6, 4, 5, torch.bfloat16), tolerance=0.05),
            Case("in float64", slots(3, 2, 5, torch.float64)),
        ),
        mutants={
            "not weighted": (with_weights(torch.ones_like), "the weights aren't used: each slot counts as 1."),
            "a mean": (
                with_weights(lambda weights: weights / weights.shape[1]),
                "the sum is divided by the number of slots. The weights already say how much each slot counts.",
            ),
            "renormalised": (
                with_weights(lambda weights: weights / weights.sum(dim=-1, keepdim=True)),
                "the weights are divided by their sum. That is the router's decision; here they are taken as they are.",
            ),
            "softmax": (
                with_weights(lambda weights: weights.softmax(dim=-1)),
                "the weights go through a softmax once more. The router has done that.",
            ),
            "slot by slot": (
                slots_first,
                "the rows are read slot by slot. They are stored token by token: (token slot), not (slot token).",
            ),
            "weights slot by slot": (
                with_weights(weights_in_another_order),
                "the weights are read in another order than the rows, so they belong to other slots.",
            ),
            "the first slot": (
                with_weights(lambda weights: weights * (torch.arange(weights.shape[1]) == 0)),
                "only the first slot counts. Sum over all of them.",
            ),
            "without the last slot": (
                with_weights(lambda weights: weights * (torch.arange(weights.shape[1]) < weights.shape[1] - 1)),
                "the last slot is missing. Sum over all of them.",
            ),
            "the last slot": (
                with_weights(lambda weights: weights * (torch.arange(weights.shape[1]) == weights.shape[1] - 1)),
                "only the last slot counts, as if each one had overwritten the one before. They are added up.",
            ),
            "the largest": (largest_row, "the largest of the slots is kept, number by number. They are added up."),
            "slots backwards": (
                with_weights(lambda weights: weights.flip(-1)),
                "the weights are in the opposite order of the slots.",
            ),
            "weighted twice": (weighted_twice, "each row is multiplied by its weight twice."),
            "weights of the first token": (
                lambda outputs, weights: same_weights_for_all(outputs, weights) if len(weights) else outputs,
                "all tokens have the weights of the first one. Each token has its own row of weights.",
            ),
            "the first weight for all slots": (
                with_weights(lambda weights: weights[:, :1].expand_as(weights)),
                "all slots of a token have the weight of its first one. Each slot has its own.",
            ),
            "left in float32": (
                lambda outputs, weights: combine(outputs.float(), weights.float()),
                "the result is float32 although the outputs aren't. Keep their dtype.",
            ),
        },
        accepted={
            "the library's": combine,
            "einsum": by_einsum,
            "products of matrices": lambda outputs, weights: (
                by_matrix_product(outputs, weights) if len(weights) else outputs
            ),
        },
    ),
    Exercise(
        id="07.5",
        title="Bug hunt: lost slots",
        kind="bug hunt",
        minutes=12,
        difficulty=3,
        hints=(
            "Look at the table: of each token, how many slots are left in its result, and which?",
            "`result[token] += rows` reads result[token], adds the rows, and writes back. What is read for a token "
            "that occurs eight times in `token`, and what is written?",
            "Each of its rows reads 0, so each writes itself, and the last one stays. `index_add_(0, token, rows)` "
            "adds them one by one; index_put_ with accumulate=True does, too.",
        ),
        now_you_know="an index on the left of += reads once and writes once, however often a place occurs in it.",
        oracle=add_up_by_loops,
        given=add_up_as_given,
        cases=(
            Case(
                "three rows, two of them for token 0, by hand",
                (torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]]), torch.tensor([0, 1, 0]), 2),
                torch.tensor([[101.0, 202.0], [10.0, 20.0]]),
            ),
            Case("the rows in random order", travelled(4, 3, 5)),
            Case("one row for each token", travelled(5, 1, 2)),
            Case("one token only", travelled(1, 6, 3)),
            Case("tokens without a row are zero", a_token_without_rows),
            Case("no rows at all", (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 2), torch.zeros(2, 3)),
            Case("rows in float64", travelled(3, 4, 2, torch.float64)),
        ),
        mutants={
            "as given": (
                add_up_as_given,
                "of several rows for one token, only the last is left: += with an index reads all places first and "
                "writes them afterwards.",
            ),
            "the first row": (keeps_one("first"), "of each token's rows only the first is left. All are added up."),
            "the largest": (keeps_one("largest"), "the largest of each token's rows is kept. All are added up."),
            "a mean": (mean_of_rows, "the sum is divided by the number of rows. They are weighted already."),
            "in order": (
                split_in_order,
                "the rows are treated as sorted by token. Row n belongs to token[n], wherever it stands.",
            ),
            "running": (running_sum, "the sums go on from token to token. Each token starts at zero."),
            "the first column": (
                first_column,
                "only the first column is added up. An index of one column reaches one column: scatter_add_ needs an "
                "index for each number, index_add_ one for each row.",
            ),
            "left in float32": (always_float32, "the result is float32 although the rows aren't. Keep their dtype."),
        },
        accepted={"index_add_": by_index_add, "one_hot": by_one_hot, "index_put_": by_index_put},
    ),
)
