"""Chapter 06, the router: from expert ids to a table of weights (06.3)."""

import copy
import dis
from collections.abc import Callable
from typing import Any

import torch
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.answer_diff import difference
from minimoe.course.checker.exercise import Case, Exercise
from minimoe.course.checker.user_code import run


def workload_by_loops(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    """How much weight each expert got in each sentence, one choice after another."""
    table = torch.zeros(len(experts), num_experts, dtype=weights.dtype)
    for sentence in range(experts.shape[0]):
        for position in range(experts.shape[1]):
            for slot in range(experts.shape[2]):
                table[sentence, experts[sentence, position, slot]] += weights[sentence, position, slot]
    return table


def as_it_was(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    """The code that the reader is to rewrite."""
    batch, position, slot = experts.shape
    table = torch.zeros(batch, num_experts, dtype=weights.dtype)
    return table.scatter_add_(
        1, experts.contiguous().view(batch, position * slot), weights.contiguous().view(batch, position * slot)
    )


def as_given(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    """The code as it stands on the page."""
    batch, position, slot = experts.shape
    table = torch.zeros(batch, num_experts, dtype=weights.dtype)
    return table.scatter_add_(1, experts.view(batch, position * slot), weights.view(batch, position * slot))


def choices(
    batch: int, position: int, slot: int, expert: int, dtype: torch.dtype = torch.float32
) -> Callable[..., Any]:
    """Random distinct experts and weights for every token."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        scores = torch.rand(batch, position, expert, generator=generator)
        weights, experts = scores.topk(slot, dim=-1)
        return experts, weights.to(dtype), expert

    return arguments


def by_einsum(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    chosen = F.one_hot(experts, num_experts).to(weights.dtype)
    return einsum(chosen, weights, "batch position slot expert, batch position slot -> batch expert")


def by_reduce(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    chosen = rearrange(experts, "batch position slot -> batch position slot 1") == torch.arange(num_experts)
    table = chosen * rearrange(weights, "batch position slot -> batch position slot 1")
    return reduce(table, "batch position slot expert -> batch expert", "sum")


def by_torch_einsum(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    return torch.einsum("bpse,bps->be", torch.eye(num_experts, dtype=weights.dtype)[experts], weights)


def always_float32(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    return by_einsum(experts, weights.float(), num_experts)


def counted(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    return reduce(
        F.one_hot(experts, num_experts).to(weights.dtype), "batch position slot expert -> batch expert", "sum"
    )


def averaged(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    return by_einsum(experts, weights, num_experts) / (experts.shape[1] * experts.shape[2])


def over_the_batch(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    table = by_einsum(experts, weights, num_experts)
    return repeat(reduce(table, "batch expert -> expert", "sum"), "expert -> batch expert", batch=len(experts))


def misspelt(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    chosen = F.one_hot(experts, num_experts).to(weights.dtype)
    return einsum(chosen, weights, "batch position slot expert, batch position slots -> batch expert")


def position_by_position(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    chosen = F.one_hot(experts, num_experts).to(weights.dtype)
    return einsum(chosen, weights, "batch position slot expert, batch position slot -> batch position expert")


def largest(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    return reduce(one_by_one(experts, weights, num_experts), "batch position slot expert -> batch expert", "max")


def one_by_one(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    """(batch, position, slot, expert): each weight in the column of its expert."""
    chosen = F.one_hot(experts, num_experts).to(weights.dtype)
    return einsum(chosen, weights, "batch position slot expert, batch position slot -> batch position slot expert")


def mean_over(axis: str) -> Callable[..., Tensor]:
    """The table with a mean over one axis in place of a sum."""

    def mistaken(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
        return by_einsum(experts, weights, num_experts) / experts.shape[("batch", "position", "slot").index(axis)]

    return mistaken


def per_choice(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    return by_einsum(experts, weights, num_experts) / counted(experts, weights, num_experts).clamp(min=1)


def shares_of_a_sentence(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    table = by_einsum(experts, weights, num_experts)
    return table / reduce(table, "batch expert -> batch 1", "sum")


def counts_times_weights(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    """Both are summed over the whole sentence before they are multiplied."""
    totals = reduce(weights, "batch position slot -> batch 1", "sum")
    return counted(experts, weights, num_experts) * totals


def last_one_stays(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    """Each choice overwrites the one before it, as `scatter_` or an index with += do."""
    table = torch.zeros(len(experts), num_experts, dtype=weights.dtype)
    for sentence, position, slot in torch.ones_like(experts).nonzero().tolist():
        table[sentence, experts[sentence, position, slot]] = weights[sentence, position, slot]
    return table


def last_one_stays_in_each_slot(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    one_slot = [slice(slot, slot + 1) for slot in range(experts.shape[2])]
    return torch.stack([last_one_stays(experts[..., s], weights[..., s], num_experts) for s in one_slot]).sum(dim=0)


def some_only(choose: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The table of the slots or positions that `choose` keeps."""
    return lambda experts, weights, num_experts: by_einsum(choose(experts), choose(weights), num_experts)


def in_another_order(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    """Experts are read position by position, weights slot by slot."""
    experts = rearrange(experts, "batch position slot -> batch (position slot) 1")
    weights = rearrange(weights, "batch position slot -> batch (slot position) 1")
    return by_einsum(experts, weights, num_experts)


def numbered_from_one(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    table = by_einsum(experts, weights, num_experts)
    return torch.cat((table[:, 1:], torch.zeros_like(table[:, :1])), dim=-1)


SHAPE_SURGERY = {
    "view", "reshape", "transpose", "permute", "flatten", "unsqueeze", "squeeze", "gather", "scatter", "scatter_",
    "scatter_add", "scatter_add_", "index_add", "index_add_", "bincount",
}  # fmt: skip


def still_cut_by_hand(answer: Any) -> str | None:
    """A right table is not enough here: it should read as a pattern. A wrong one is told what is wrong with it."""
    drawn = choices(2, 5, 3, 7)(torch.Generator().manual_seed(0))
    if difference(workload_by_loops(*drawn), run(answer, copy.deepcopy(drawn)), 1e-4):
        return None
    code = getattr(answer, "__code__", None)
    used = sorted(SHAPE_SURGERY & set(getattr(code, "co_names", ())))
    if used:
        return f"Your function still uses {', '.join(used)}. The exercise is to say it with named axes instead."
    if code is not None and any(step.opname == "FOR_ITER" for step in dis.get_instructions(code)):
        return "The table is right, and your function loops over the axes. The exercise is to name them in one pattern."
    return None


EXERCISES = (
    Exercise(
        id="06.3",
        title="Rewrite with einops: who did how much",
        kind="einops",
        minutes=10,
        difficulty=3,
        hints=(
            "Two steps: make the expert an axis of its own, then sum away every axis that the table does not have.",
            "F.one_hot(experts, num_experts) is (batch position slot expert); weights are (batch position slot). "
            "The table is (batch expert).",
            "einsum(one-hot in the weights' dtype, weights, \"batch position slot expert, batch position slot -> batch "
            'expert"). What stands left of the arrow and not right of it is summed.',
        ),
        now_you_know="an id becomes an axis by one_hot, and a pattern that names its axes says what is summed.",
        oracle=workload_by_loops,
        cases=(
            Case(
                "one sentence of two tokens, two slots, four experts, by hand",
                (torch.tensor([[[1, 3], [3, 0]]]), torch.tensor([[[0.75, 0.25], [0.5, 0.5]]]), 4),
                torch.tensor([[0.5, 0.75, 0.0, 0.75]]),
            ),
            Case("random choices", choices(2, 5, 3, 7)),
            Case("one token, one slot", choices(3, 1, 1, 4)),
            Case("more experts than choices", choices(2, 3, 4, 31)),
            Case("weights in float64", choices(2, 4, 3, 6, torch.float64)),
            Case("weights in bfloat16", choices(2, 4, 3, 6, torch.bfloat16), tolerance=0.02),
        ),
        given=as_given,
        also=still_cut_by_hand,
        mutants={
            "as it was": (as_it_was, "the table is right and the code is the old one: the axes have no names yet."),
            "three loops": (
                workload_by_loops,
                "the table is right and the code is loops: the axes have no names yet, and one pattern does it all.",
            ),
            "counted": (counted, "choices are counted, each as 1. The table asks for the sum of their weights."),
            "averaged": (averaged, "the table is divided by the number of choices. It asks for a sum, not for a mean."),
            "over the batch": (
                over_the_batch,
                "the sentences of the batch are summed together. `batch` has to stand right of the arrow.",
            ),
            "misspelt axis": (
                misspelt,
                "the slots of a position are summed before experts meet weights. einsum does that, without a word, "
                "when an axis has two spellings.",
            ),
            "left in float32": (
                always_float32,
                "the table is float32 although the weights aren't. Keep their dtype.",
            ),
            "the largest": (largest, "the largest weight of each expert is kept. The table asks for their sum."),
            "mean over the positions": (
                mean_over("position"),
                "the table is divided by the number of positions. It asks for a sum over both, position and slot.",
            ),
            "mean over the slots": (
                mean_over("slot"),
                "the table is divided by the number of slots. It asks for a sum over both, position and slot.",
            ),
            "per choice": (
                per_choice,
                "each sum is divided by the number of choices, which makes a mean. The table asks for the sum.",
            ),
            "shares": (
                shares_of_a_sentence,
                "each row is divided by its sum, which makes shares. The table asks for the sums themselves.",
            ),
            "counts times weights": (
                counts_times_weights,
                "choices and weights are summed before they are multiplied. Each choice has a weight of its own: "
                "multiply first.",
            ),
            "the last one stays": (
                last_one_stays,
                "where an expert is chosen several times, the last weight replaces those before it. They are added up.",
            ),
            "the last one stays in each slot": (
                last_one_stays_in_each_slot,
                "where an expert is chosen several times in one slot, only the last weight counts: an index with += "
                "adds once. All of them are added up.",
            ),
            "first slot only": (
                some_only(lambda each: each[..., :1]),
                "only the first slot counts. Sum over all slots.",
            ),
            "without the last slot": (
                some_only(lambda each: each[..., :-1]),
                "the last slot is left out. Sum over all slots.",
            ),
            "first position only": (
                some_only(lambda each: each[:, :1]),
                "only the first position of each sentence counts. Sum over all positions.",
            ),
            "last position only": (
                some_only(lambda each: each[:, -1:]),
                "only the last position of each sentence counts. Sum over all positions.",
            ),
            "in another order": (
                in_another_order,
                "experts and weights are read in different orders, so the weights belong to other experts. Both are "
                "(position slot).",
            ),
            "numbered from one": (
                numbered_from_one,
                "experts are numbered from 1, so each weight is one column too far left, and expert 0 is lost.",
            ),
            "one row a token": (
                position_by_position,
                "the table still has an axis for the position. Leave it out right of the arrow, and it is summed.",
            ),
        },
        accepted={"einsum": by_einsum, "compare and reduce": by_reduce, "torch.einsum": by_torch_einsum},
    ),
)
