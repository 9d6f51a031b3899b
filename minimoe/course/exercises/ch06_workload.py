"""Chapter 06, the router: from expert ids to a table of weights (06.3)."""

import dis
from collections.abc import Callable
from typing import Any

import torch
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Case, Exercise


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


SHAPE_SURGERY = {
    "view", "reshape", "transpose", "permute", "flatten", "unsqueeze", "squeeze", "gather", "scatter", "scatter_",
    "scatter_add", "scatter_add_", "index_add", "index_add_", "bincount",
}  # fmt: skip


def still_cut_by_hand(answer: Any) -> str | None:
    """A right table is not enough here: it should read as a pattern."""
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
                "one axis has two spellings. einsum takes them for two axes and sums each on its own, without a word.",
            ),
            "left in float32": (
                always_float32,
                "the table is float32 although the weights aren't. Keep their dtype.",
            ),
            "one row a token": (
                position_by_position,
                "the table still has an axis for the position. Leave it out right of the arrow, and it is summed.",
            ),
        },
        accepted={"einsum": by_einsum, "compare and reduce": by_reduce, "torch.einsum": by_torch_einsum},
    ),
)
