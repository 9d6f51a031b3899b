"""Chapter 06, the router: margins, weight tables, a bug hunt, cost, ablation, order of softmax and top-k (06.2 on)."""

import dis
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Case, Exercise, Stage
from minimoe.course.exercises.ch06_route import TENTHS, draw, plain_bfloat16
from minimoe.model.config import ModelConfig
from minimoe.model.router import Routing, route

# 06.2 predict: changes of margin, selection and weights --------------------------------------------------------------

# question -> (the correct prediction, the common wrong answer, the misconception behind it)
MARGINS: dict[str, tuple[Any, Any, str]] = {
    "doubled: the margin becomes": (
        0.06,
        0.03,
        "a margin is a difference of two logits, so doubling both doubles it.",
    ),
    "doubled: other experts": (
        False,
        True,
        "doubling keeps the order of the logits, and top-k sees nothing but the order.",
    ),
    "doubled: other weights": (
        True,
        False,
        "the softmax sees differences: twice as large, they make the first expert heavier and the last one lighter.",
    ),
    "plus 5: other weights": (
        False,
        True,
        "the softmax divides exp(5) out again: a shift of all logits changes no probability.",
    ),
    "rounded to bfloat16: two logits can swap their order": (
        False,
        True,
        "rounding never makes the larger of two numbers the smaller one. It makes ties, and a tie is broken by index, "
        "which means nothing.",
    ),
}


def predictions(wrong: tuple[bool, ...]) -> dict[str, Any]:
    """The right predictions, except for those questions where `wrong` is True."""
    return {question: answer[missed] for (question, answer), missed in zip(MARGINS.items(), wrong, strict=True)}


def misread(wrong: tuple[bool, ...]) -> str:
    """The misunderstandings behind these wrong predictions, one sentence each."""
    told = [answer[2] for answer, missed in zip(MARGINS.values(), wrong, strict=True) if missed]
    return "\n  ".join(told)


WAYS_TO_MISS = [way for way in product((False, True), repeat=len(MARGINS)) if any(way)]


# 06.3 einops: expert ids to a weight table ----------------------------------------------------------------------------


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


# 06.4 bug hunt: one token in fifty ------------------------------------------------------------------------------------


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
        left[:, chosen[-1]] = -torch.inf
    return rearrange(chosen, "slot token -> token slot")


def pick_the_lowest(logits: Tensor, top_k: int) -> Tensor:
    return logits.topk(top_k, dim=-1, largest=False).indices


def pick_above_the_limit(logits: Tensor, top_k: int) -> Tensor:
    """The distinct values first, as if a score belonged to one expert only."""
    rows = [row.unique(sorted=True).flip(0)[:top_k] for row in logits]
    found = [[int((row == value).nonzero()[-1]) for value in values] for row, values in zip(logits, rows, strict=True)]
    return torch.tensor([experts + experts[-1:] * (top_k - len(experts)) for experts in found])


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


def without_a_tie_at_the_cut(logits: Tensor, top_k: int) -> Tensor:
    """The rows in which ranks `top_k` and `top_k` + 1 differ, so that the right set is one."""
    ranked = logits.topk(top_k + 1, dim=-1).values
    return logits[ranked[:, -2] != ranked[:, -1]]


def many(dtype: torch.dtype, tokens: int = 4000) -> Callable[..., Any]:
    """Scores of many tokens over 128 experts."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int]:
        logits = torch.randn(tokens, 128, generator=generator).to(dtype)
        return without_a_tie_at_the_cut(logits, 6), 6

    return arguments


# 06.5 estimate: floating-point operations of the router ---------------------------------------------------------------


def operations(config: ModelConfig) -> tuple[int, int]:
    """(router, experts): floating-point operations of one token in one layer, matrix products only."""
    router = 2 * config.hidden_size * config.num_experts
    experts = 2 * config.num_experts_per_tok * 3 * config.hidden_size * config.moe_intermediate_size
    return router, experts


def by_parameters(config: ModelConfig) -> tuple[int, int]:
    return 2 * config.num_experts * config.hidden_size, 2 * config.num_experts_per_tok * config.parameters_per_expert


def by_hand_written_sum(config: ModelConfig) -> list[float]:
    c = config
    one = 2 * c.hidden_size * c.moe_intermediate_size
    return [2.0 * c.hidden_size * c.num_experts, float(sum(one + one + one for _ in range(c.num_experts_per_tok)))]


# 06.6 ablate: drop the first expert, add the ninth --------------------------------------------------------------------


def ninth_for_first(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """Ranks 2 to top_k + 1, by loops."""
    experts, weights = [], []
    for row in logits.double().softmax(dim=-1).tolist():
        order = sorted(range(len(row)), key=lambda expert: -row[expert])[1 : top_k + 1]
        total = sum(row[expert] for expert in order) if renormalise else 1.0
        experts.append(order)
        weights.append([row[expert] / total for expert in order])
    return Routing(logits, torch.tensor(experts), torch.tensor(weights, dtype=logits.dtype))


def ranks(logits: Tensor, keep: list[int], renormalise: bool) -> Routing:
    """The experts of these ranks, counted from 0, with their own probabilities."""
    weights, experts = logits.float().softmax(dim=-1).sort(dim=-1, descending=True)
    weights, experts = weights[:, keep], experts[:, keep]
    weights = weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights
    return Routing(logits, experts, weights.to(logits.dtype))


def ninth_for_eighth(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(top_k - 1), top_k], renormalise)


def ninth_in_the_firsts_place(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [top_k, *range(1, top_k)], renormalise)


def first_left_out(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(1, top_k)], renormalise)


def first_left_out_of_the_old_shares(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """The usual router, and then the first slot is cut off."""
    _, experts, weights = route(logits, top_k, renormalise)
    return Routing(logits, experts[:, 1:], weights[:, 1:])


def seven_never_divided(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(1, top_k)], False)


def all_nine(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(top_k + 1)], renormalise)


def ninth_with_the_firsts_weight(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    _, experts, weights = route(logits, top_k, renormalise)
    other = ranks(logits, [top_k], False).experts
    return Routing(logits, torch.cat([other, experts[:, 1:]], dim=-1), weights)


def never_renormalised(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(1, top_k + 1)], False)


def divided_by_the_old_sum(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    _, experts, weights = ranks(logits, [*range(1, top_k + 1)], False)
    old = ranks(logits, [*range(top_k)], False).weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights / old if renormalise else weights)


def softmax_without_the_first(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """The first is masked before the softmax, so the probabilities of the others grow."""
    first = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()
    return Routing(logits, *route(logits.masked_fill(first, -torch.inf), top_k, renormalise)[1:])


def never_cast(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return Routing(logits, *ranks(logits.float(), [*range(1, top_k + 1)], renormalise)[1:])


def always_divided(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(1, top_k + 1)], True)


def divided_over_nine(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    _, experts, weights = ranks(logits, [*range(top_k + 1)], renormalise)
    return Routing(logits, experts[:, 1:], weights[:, 1:])


def old_weights(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    experts = ranks(logits, [*range(1, top_k + 1)], renormalise).experts
    return Routing(logits, experts, route(logits, top_k, renormalise).weights)


def experts_of_route(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return route(logits, top_k, renormalise).experts


def weights_of_route(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return route(logits, top_k, renormalise).weights


def weights_before(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return ranks(logits, [*range(1, top_k + 1)], False).weights


def by_one_more(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    weights, experts = logits.softmax(dim=-1).topk(top_k + 1, dim=-1)
    weights, experts = weights[:, 1:], experts[:, 1:]
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights)


def by_ranks(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    return ranks(logits, [*range(1, top_k + 1)], renormalise)


# 06.7 find a counterexample -------------------------------------------------------------------------------------------


def gap(logits: Tensor) -> float:
    """The largest difference between the weights of the two orders, neither renormalised; eight of 128."""
    after = logits.double().topk(8).values.softmax(dim=-1)
    before = logits.double().softmax(dim=-1).topk(8).values
    return float((after - before).abs().max())


def as_logits(answer: Any) -> Tensor | None:
    """128 logits, also as a list, an array or one row of a matrix; None for anything else."""
    try:
        logits = torch.as_tensor(answer, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return None
    return logits.flatten() if logits.numel() == 128 and max(logits.shape) == 128 else None


def as_gap(answer: Any) -> Callable[[], Any]:
    """Whether the two orders are far enough apart; for another shape, the answer itself."""
    logits = as_logits(answer)
    return lambda: answer if logits is None else gap(logits) > 0.5


def how_far(answer: Any) -> str | None:
    """How far apart the two orders are, if it is not enough."""
    logits = as_logits(answer)
    if logits is None:
        return "expected the logits of one token: 128 numbers, such as torch.zeros(128)"
    found = gap(logits)
    return None if found > 0.5 else f"the largest difference between the two orders is {found:.3f}; wanted: above 0.5"


def one_stands_out(height: float, others: int = 0) -> Tensor:
    """Logits that are zero except for the first, and for `others` more that are as high."""
    logits = torch.zeros(128)
    logits[: 1 + others] = height
    return logits


MINI_SIZES = ModelConfig(
    vocab_size=2048, hidden_size=192, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2, head_dim=32,
    intermediate_size=512, moe_intermediate_size=32, num_experts=128, num_experts_per_tok=8, norm_topk_prob=True,
)  # fmt: skip
OTHER_SIZES = ModelConfig(
    vocab_size=100, hidden_size=10, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=6,
    intermediate_size=50, moe_intermediate_size=7, num_experts=5, num_experts_per_tok=2, norm_topk_prob=True,
)  # fmt: skip

EXERCISES = (
    Exercise(
        id="06.2",
        title="Predict, then run: the margin",
        kind="predict",
        minutes=8,
        difficulty=2,
        hints=(
            "Write the softmax of two logits a and b as a function of a - b. What do top-k and softmax not see?",
            "Doubled: 2a - 2b. Plus 5: (a + 5) - (b + 5). For bfloat16, draw a number line with a mark every 1/64 and "
            "move two points to their nearest marks.",
            "top-k sees the order only, softmax the differences only; doubling keeps the order and doubles the "
            "differences, adding a constant keeps both. Rounding keeps the order too, but may make two numbers one.",
        ),
        now_you_know="choices follow the order of the logits, weights their differences, and rounding makes ties.",
        expected=lambda: predictions((False,) * len(MARGINS)),
        reasons={
            "doubled: the margin becomes": "The margin is a difference of two logits. What is 2a - 2b?",
            "doubled: other experts": "Does doubling change which of two logits is larger?",
            "doubled: other weights": "The softmax of two logits depends on their difference. Has it changed?",
            "plus 5: other weights": "What is (a + 5) - (b + 5)?",
            "rounded to bfloat16: two logits can swap their order": "Both move to the nearest mark on a line. Can the "
            "left one end up right of the other?",
        },
        mutants={
            "missed " + ", ".join(str(n) for n, missed in enumerate(way, 1) if missed): (predictions(way), misread(way))
            for way in WAYS_TO_MISS
        },
        accepted={
            "as numbers of torch": {
                question: torch.tensor(answer[0]) if type(answer[0]) is float else answer[0]
                for question, answer in MARGINS.items()
            },
            "in another order": dict(reversed(predictions((False,) * len(MARGINS)).items())),
        },
        teaches=None,
    ),
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
            Case("experts 1 and 2 have the same score", (torch.tensor([[0.5, 2.0, 2.0, 1.0, -1.0]]), 3)),
            Case("all scores negative, two alike", (torch.tensor([[-3.0, -1.0, -2.0, -1.0, -2.5]]), 4)),
            Case("float32, no two scores alike", lambda generator: (draw(4, 23, 1, True)(generator)[0], 5)),
            Case("4000 tokens in float16", many(torch.float16)),
            Case("4000 tokens in bfloat16", many(torch.bfloat16)),
        ),
        mutants={
            "as given": (
                pick_as_given,
                "two experts with equal scores are masked together, and only one of them was chosen. A cast to float32 "
                "does not help: what is equal in 16 bits stays equal.",
            ),
            "masked with zero": (
                pick_with_zeros,
                "the expert already chosen gets the score zero, and zero is more than a negative score: back it comes.",
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
            "values without repetition": (
                pick_above_the_limit,
                "each value is taken once, although two experts may have it; the set holds an expert too few.",
            ),
        },
        accepted={"topk": pick_by_topk, "mask by one_hot": pick_by_index, "scatter": pick_by_scatter},
    ),
    Exercise(
        id="06.5",
        title="Estimate, then measure: the price of choosing",
        kind="estimate",
        minutes=10,
        difficulty=2,
        hints=(
            "A matrix of m x n times a vector: m · n multiplications and as many additions.",
            "The router is one matrix of num_experts x hidden_size. An expert has three of moe_intermediate_size x "
            "hidden_size, and num_experts_per_tok of the experts run.",
            "router = 2 · hidden_size · num_experts; experts = 2 · num_experts_per_tok · 3 · hidden_size · "
            "moe_intermediate_size.",
        ),
        now_you_know="choosing costs one narrow matrix; the narrower the experts, the larger its share of the work.",
        oracle=operations,
        cases=(
            Case("hidden 10, ffn 7, 2 of 5 experts, by hand", (OTHER_SIZES,), (100, 840)),
            Case("the mini", (MINI_SIZES,), (49_152, 294_912)),
            Case("the 235B", lambda generator: (ModelConfig.named("Qwen3-235B-A22B"),), (1_048_576, 301_989_888)),
        ),
        mutants={
            "all experts run": (
                lambda c: (
                    2 * c.hidden_size * c.num_experts,
                    6 * c.num_experts * c.hidden_size * c.moe_intermediate_size,
                ),
                "all experts are counted. Only num_experts_per_tok of them run for a token; that is the whole point.",
            ),
            "multiplications only": (
                lambda c: tuple(n // 2 for n in operations(c)),
                "multiplications are counted and additions are not: every weight does one of each.",
            ),
            "two matrices": (
                lambda c: (operations(c)[0], operations(c)[1] * 2 // 3),
                "an expert is counted with two matrices. SwiGLU has three: gate, up, down.",
            ),
            "the dense width": (
                lambda c: (operations(c)[0], 6 * c.num_experts_per_tok * c.hidden_size * c.intermediate_size),
                "intermediate_size is the width of a dense feed-forward; an expert's is moe_intermediate_size.",
            ),
            "scores of the chosen only": (
                lambda c: (2 * c.hidden_size * c.num_experts_per_tok, operations(c)[1]),
                "the router is counted for the chosen experts only. To know who is best it has to score all of them.",
            ),
            "one expert": (
                lambda c: (operations(c)[0], 6 * c.hidden_size * c.moe_intermediate_size),
                "one expert is counted. num_experts_per_tok of them run for every token.",
            ),
            "all layers": (
                lambda c: tuple(c.num_hidden_layers * n for n in operations(c)),
                "all layers are counted; the question is about one of them.",
            ),
            "the other way round": (
                lambda c: operations(c)[::-1],
                "the two numbers have changed places: router first.",
            ),
        },
        accepted={"from the parameters": by_parameters, "floats in a list": by_hand_written_sum},
    ),
    Exercise(
        id="06.6",
        title="Ablate: the ninth takes the place of the first",
        kind="ablate",
        minutes=12,
        difficulty=3,
        hints=(
            "Ask for one more than you need, and leave one out.",
            "topk(top_k + 1) gives (token, nine); a slice along slots makes (token, eight) of weights and of experts.",
            "Softmax over all; topk(top_k + 1); keep [:, 1:] of both; if renormalise, divide by the sum of the new "
            "eight. The ninth is last then, since its weight is the smallest.",
        ),
        now_you_know="the first expert matters far more than an eighth, and the eighth could almost be the ninth.",
        oracle=ninth_for_first,
        cases=(
            Case(
                "two tokens, four experts, two slots, by hand",
                (TENTHS, 2, True),
                Routing(TENTHS, torch.tensor([[3, 2], [3, 2]]), torch.tensor([[0.6, 0.4], [2 / 3, 1 / 3]])),
            ),
            Case("random scores, renormalised", draw(5, 11, 3, True)),
            Case("random scores, not renormalised", draw(4, 13, 3, False)),
            Case("scores in bfloat16", plain_bfloat16, tolerance=0.01),
        ),
        parts={"the experts": lambda routing: routing[1], "the weights": lambda routing: routing[2]},
        stages=(
            Stage("the experts", experts_of_route, "are those of the usual router: the first is still there"),
            Stage("the weights", weights_of_route, "are those of the usual router"),
            Stage("the weights", weights_before, "are those before renormalising"),
        ),
        mutants={
            "never cast": (never_cast, "the weights stay in float32. They need the model's dtype."),
            "always divided": (
                always_divided,
                "the weights sum to one even with renormalise=False. Then they keep their own probabilities.",
            ),
            "divided over nine": (
                divided_over_nine,
                "the weights are divided by the sum of all nine. Leave the first out, then divide by the sum of eight.",
            ),
            "the old weights": (
                old_weights,
                "the experts are right, with the weights of ranks 1 to top_k. Each expert keeps its own probability.",
            ),
            "the ninth for the eighth": (
                ninth_for_eighth,
                "the last of the eight was replaced, not the first. Slot 0 holds the expert with the largest weight.",
            ),
            "the ninth in slot 0": (
                ninth_in_the_firsts_place,
                "the right experts, with the ninth in slot 0. Slots go by falling weight, and the ninth has the least.",
            ),
            "seven": (first_left_out, "the first is left out and nothing takes its place: there is one slot too few."),
            "seven of the old shares": (
                first_left_out_of_the_old_shares,
                "the first is cut off and nothing takes its place. Ask topk for one more, and renormalise afterwards.",
            ),
            "seven, never divided": (
                seven_never_divided,
                "the first is cut off and nothing takes its place. Ask topk for one more, and then renormalise.",
            ),
            "nine": (all_nine, "the ninth was added and the first stayed: there is one slot too many."),
            "with the first's weight": (
                ninth_with_the_firsts_weight,
                "the ninth expert has the weight of the first. Each expert keeps its own probability.",
            ),
            "never renormalised": (
                never_renormalised,
                "the weights are never renormalised. With renormalise=True those of the new eight sum to one.",
            ),
            "divided by the old sum": (
                divided_by_the_old_sum,
                "the weights are divided by the sum of the old eight, so that the new eight do not sum to one.",
            ),
            "masked before the softmax": (
                softmax_without_the_first,
                "the first was masked before the softmax, so that the probabilities of all others grew. It should be "
                "scored, and then not chosen.",
            ),
        },
        accepted={"one more, then a slice": by_one_more, "all ranks, in float32": by_ranks},
    ),
    Exercise(
        id="06.7",
        title="Find the counterexample: two orders that differ",
        kind="predict",
        minutes=10,
        difficulty=4,
        hints=(
            "Softmax last gives weights that sum to one. Softmax first gives what is left of one after 120 others have "
            "taken theirs. Who should take as much as possible, and from whom?",
            "Let one logit be a and all others 0. Softmax first: exp(a) / (exp(a) + 127). Softmax last: "
            "exp(a) / (exp(a) + 7). Plot both against a.",
            "With a = 0 both are small, with a = 20 both are nearly 1. In between, around half of log(7 · 127), "
            "they are furthest apart: logits = torch.zeros(128); logits[0] = 3.4.",
        ),
        now_you_know="the two orders agree because of the division at the end, and only because of it.",
        prepare=as_gap,
        also=how_far,
        cases=(Case("some weight differs by more than 0.5 between the two orders", (), True),),
        mutants={
            "all alike": (
                torch.zeros(128),
                "all logits are alike: after the cut eight experts get an eighth each, before it 1/128: too close.",
            ),
            "one far above": (
                one_stands_out(30.0),
                "one logit is so far above the others that both orders give it nearly everything. Come down.",
            ),
            "eight alike above": (
                one_stands_out(3.4, others=7),
                "the eight share the whole evenly, so that none of them can differ by more than an eighth.",
            ),
            "four numbers": (torch.tensor([3.4, 0.0, 0.0, 0.0]), "that is not one logit for each of the 128 experts."),
        },
        accepted={
            "one at 3.4": one_stands_out(3.4),
            "in float64": one_stands_out(3.0).double(),
            "shifted": one_stands_out(3.5) - 100,
            "one row": one_stands_out(3.4)[None],
            "a list": one_stands_out(3.4).tolist(),
            "an array": one_stands_out(3.4).numpy(),
        },
    ),
)
