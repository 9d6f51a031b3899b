"""Chapter 05, SwiGLU: all experts at once, and how many neurons a token needs (05.5 and 05.7)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.course.checker.unchanged_code import is_given
from minimoe.course.exercises.ch05_swiglu import BENDS
from minimoe.course.exercises.ch05_swiglu import swapped as swapped_bend

# 05.5 all experts at once ---------------------------------------------------------------------------------------------


def every_expert_by_loops(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """One expert after another, in double precision."""
    outputs = []
    for expert in range(len(gate)):
        opening, amount = (x.double() @ matrix[expert].double().T for matrix in (gate, up))
        outputs.append((opening / (1 + torch.exp(-opening)) * amount) @ down[expert].double().T)
    return torch.stack(outputs, dim=1).to(x.dtype)


def draw_experts(tokens: int, hidden: int, experts: int, ffn: int, dtype: torch.dtype = torch.float32) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, ...]:
        x = torch.randn(tokens, hidden, generator=generator)
        gate, up = 1.5 * torch.randn(2, experts, ffn, hidden, generator=generator) * hidden**-0.5
        down = torch.randn(experts, hidden, ffn, generator=generator) * ffn**-0.5
        return x.to(dtype), gate.to(dtype), up.to(dtype), down.to(dtype)

    return arguments


def as_given(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """The function on the page, which is to be rewritten with einsum."""
    x = x.unsqueeze(0).expand(gate.shape[0], -1, -1)
    opening = torch.bmm(x, gate.transpose(1, 2))
    amount = torch.bmm(x, up.transpose(1, 2))
    return torch.bmm(F.silu(opening) * amount, down.transpose(1, 2)).transpose(0, 1)


def pasted(answer: Any) -> str | None:
    """A complaint if the answer is the function on the page, whatever its name."""
    if is_given(answer, as_given):
        return "this is the function from the page. Its result is right; write it with einsum patterns"
    return None


READ, WRITE = (
    "token hidden, expert ffn hidden -> token expert ffn",
    "token expert ffn, expert hidden ffn -> token expert hidden",
)


def product(x: Tensor, gate: Tensor, up: Tensor) -> Tensor:
    """(token, expert, ffn)."""
    return F.silu(einsum(x, gate, READ)) * einsum(x, up, READ)


def by_einsum(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return einsum(product(x, gate, up), down, WRITE)


def experts_first(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return rearrange(by_einsum(x, gate, up, down), "token expert hidden -> expert token hidden")


def summed(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return einsum(product(x, gate, up), down, "token expert ffn, expert hidden ffn -> token hidden")


def another_experts_down(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """`down` has an axis of another name, so every product meets the sum of all down matrices."""
    return einsum(product(x, gate, up), down, "token expert ffn, other hidden ffn -> token expert hidden")


def products_added(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return einsum(product(x, gate, up), down, "token other ffn, expert hidden ffn -> token expert hidden")


def neurons_misspelt(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return einsum(product(x, gate, up), down, "token expert ffn, expert hidden fnn -> token expert hidden")


def hidden_misspelt(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    read = "token hidden, expert ffn hiden -> token expert ffn"
    return einsum(F.silu(einsum(x, gate, read)) * einsum(x, up, read), down, WRITE)


def swapped(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return by_einsum(x, up, gate, down)


def first_expert_for_all(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    first = by_einsum(x, gate[:1], up[:1], down[:1])
    return repeat(first, "token 1 hidden -> token expert hidden", expert=len(gate))


def first_for(gate: bool = False, up: bool = False, down: bool = False) -> Callable[..., Tensor]:
    """The matrices named here are the first expert's for all."""

    def answer(x: Tensor, *matrices: Tensor) -> Tensor:
        pairs = zip(matrices, (gate, up, down), strict=True)
        return by_einsum(x, *(matrix[:1].expand_as(matrix) if first else matrix for matrix, first in pairs))

    return answer


def in_a_chain(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Each expert gets the result of the one before it."""
    results = []
    for number in range(len(gate)):
        x = by_einsum(x, gate[[number]], up[[number]], down[[number]])[:, 0]
        results.append(x)
    return torch.stack(results, dim=1)


def reshaped(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """(expert token hidden), reshaped in place of moved."""
    return experts_first(x, gate, up, down).reshape(len(x), len(gate), x.shape[1])


def bent(compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Every expert with another function of (gate x, up x), both (token, expert, ffn), in the middle."""
    return lambda x, gate, up, down: einsum(compute(einsum(x, gate, READ), einsum(x, up, READ)), down, WRITE)


def bent_after(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return einsum(F.silu(einsum(x, gate, READ) * einsum(x, up, READ)), down, WRITE)


def without_silu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return einsum(einsum(x, gate, READ) * einsum(x, up, READ), down, WRITE)


def averaged(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return by_einsum(x, gate, up, down) / len(gate)


def in_one_einsum(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return einsum(
        F.silu(einsum(x, gate, READ)), x, up, down,
        "token expert ffn, token hidden, expert ffn hidden, expert out ffn -> token expert out",
    )  # fmt: skip


def stacked_by_rearrange(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Two products with all rows at once."""
    experts = len(gate)
    opening, amount = (
        rearrange(
            x @ rearrange(matrix, "expert ffn hidden -> hidden (expert ffn)"),
            "token (expert ffn) -> token expert ffn",
            expert=experts,
        )
        for matrix in (gate, up)
    )
    return einsum(F.silu(opening) * amount, down, WRITE)


def one_after_another(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    outputs = [F.linear(F.silu(F.linear(x, g)) * F.linear(x, u), d) for g, u, d in zip(gate, up, down, strict=True)]
    return torch.stack(outputs, dim=1)


# 05.7 how many neurons ------------------------------------------------------------------------------------------------


def keep_open_by_loops(gate: Tensor, up: Tensor, count: int) -> Tensor:
    """Sort the neurons of each token by their gate, and fill in the products of the first ones."""
    kept = torch.zeros(gate.shape, dtype=torch.float64)
    for token in range(len(gate)):
        order = sorted(range(gate.shape[1]), key=lambda neuron: -float(gate[token, neuron]))
        for neuron in order[:count]:
            opening = float(gate[token, neuron])
            kept[token, neuron] = opening / (1 + math.exp(-opening)) * float(up[token, neuron])
    return kept.to(gate.dtype)


def draw_gates(tokens: int, ffn: int, count: int, dtype: torch.dtype = torch.float32) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        gate, up = 2 * torch.randn(2, tokens, ffn, generator=generator)
        return gate.to(dtype), up.to(dtype), count

    return arguments


def kept_by(rank: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, int], Tensor]:
    """The neurons with the largest `rank(gate, up)` keep their product."""

    def answer(gate: Tensor, up: Tensor, count: int) -> Tensor:
        chosen = rank(gate, up).topk(count, dim=-1).indices
        return F.silu(gate) * up * torch.zeros_like(gate).scatter(-1, chosen, 1.0)

    return answer


def dropped(gate: Tensor, up: Tensor, count: int) -> Tensor:
    return F.silu(gate) * up - kept_by(lambda gate, up: gate)(gate, up, count)


def of_all_tokens(gate: Tensor, up: Tensor, count: int) -> Tensor:
    """The same number of products is kept in total, whichever tokens they belong to."""
    flat = gate.flatten()
    chosen = flat.topk(min(count * len(gate), flat.numel())).indices
    return F.silu(gate) * up * torch.zeros_like(flat).scatter(0, chosen, 1.0).view_as(gate)


def along_the_tokens(gate: Tensor, up: Tensor, count: int) -> Tensor:
    chosen = gate.topk(min(count, len(gate)), dim=0).indices
    return F.silu(gate) * up * torch.zeros_like(gate).scatter(0, chosen, 1.0)


def one_less(gate: Tensor, up: Tensor, count: int) -> Tensor:
    return F.silu(gate) * up * mask(gate, max(count - 1, 0))


def same_for_all(gate: Tensor, up: Tensor, count: int) -> Tensor:
    chosen = gate.sum(dim=0).topk(count).indices
    return F.silu(gate) * up * torch.zeros(gate.shape[1], dtype=gate.dtype).scatter(0, chosen, 1.0)


def first_ones(gate: Tensor, up: Tensor, count: int) -> Tensor:
    return F.silu(gate) * up * (torch.arange(gate.shape[1]) < count)


def all_kept(gate: Tensor, up: Tensor, count: int) -> Tensor:
    return F.silu(gate) * up


def not_bent(gate: Tensor, up: Tensor, count: int) -> Tensor:
    return gate * up * mask(gate, count)


def mask(gate: Tensor, count: int) -> Tensor:
    """1 for the `count` widest gates of each token."""
    return torch.zeros_like(gate).scatter(-1, gate.topk(count, dim=-1).indices, 1.0)


def gates_alone(gate: Tensor, up: Tensor, count: int) -> Tensor:
    return F.silu(gate) * mask(gate, count)


def amounts_alone(gate: Tensor, up: Tensor, count: int) -> Tensor:
    return up * mask(gate, count)


def one_more(gate: Tensor, up: Tensor, count: int) -> Tensor:
    return F.silu(gate) * up * mask(gate, min(count + 1, gate.shape[1]))


def made_up_for(gate: Tensor, up: Tensor, count: int) -> Tensor:
    return F.silu(gate) * up * mask(gate, count) * gate.shape[1] / max(count, 1)


def in_front(gate: Tensor, up: Tensor, count: int) -> Tensor:
    """The products that stay, from the widest gate on, in the first places."""
    result = torch.zeros_like(gate)
    result[:, :count] = (F.silu(gate) * up).gather(-1, gate.topk(count, dim=-1).indices)
    return result


def closed_with_infinity(gate: Tensor, up: Tensor, count: int) -> Tensor:
    """SiLU(-inf) is -inf times 0, nan."""
    return F.silu(gate.masked_fill(mask(gate, count) == 0, -torch.inf)) * up


def only_open(gate: Tensor, up: Tensor, count: int) -> Tensor:
    return F.silu(gate) * up * mask(gate, count) * (gate > 0)


def every_open(gate: Tensor, up: Tensor, count: int) -> Tensor:
    return F.silu(gate) * up * (gate > 0)


Values = Callable[[Tensor, Tensor], Tensor]
RANKS: dict[str, tuple[Values, str]] = {
    "the closed ones": (lambda gate, up: -gate, "the neurons with the smallest gates stay"),
    "by size": (lambda gate, up: gate.abs(), "the neurons are ranked by the size of the gate, without its sign"),
    "by up": (lambda gate, up: up, "the neurons are ranked by up, not by gate"),
    "by SiLU": (lambda gate, up: F.silu(gate), "the neurons are ranked by SiLU(gate), which has another order below 0"),
    "by the product": (lambda gate, up: (F.silu(gate) * up).abs(), "the neurons are ranked by their products"),
    "the same for all": (
        lambda gate, up: gate.sum(dim=0).expand_as(gate),
        "all tokens keep the same neurons, while each has its own",
    ),
}
KEPT: dict[str, tuple[Values, str]] = {
    "not bent": (lambda gate, up: gate * up, "SiLU is missing in the products that stay"),
    "gates alone": (lambda gate, up: F.silu(gate), "up is missing in what stays"),
    "amounts alone": (lambda gate, up: up, "the gate is missing in what stays"),
    "gates, not bent": (lambda gate, up: gate, "SiLU and up are missing in what stays"),
    "swapped": (lambda gate, up: gate * F.silu(up), "SiLU is applied to up in place of gate"),
    "on both": (lambda gate, up: F.silu(gate) * F.silu(up), "SiLU is applied to up as well"),
    "sigmoid": (lambda gate, up: gate.sigmoid() * up, "a sigmoid is in the place of SiLU"),
}


def keep(rank: Values, values: Values) -> Callable[[Tensor, Tensor, int], Tensor]:
    """The neurons with the largest `rank(gate, up)` keep their `values(gate, up)`."""
    return lambda gate, up, count: values(gate, up) * mask(rank(gate, up), count)


def two_mistakes() -> dict[str, tuple[Any, str]]:
    """Mutants that keep the wrong neurons and of them the wrong numbers."""
    return {
        f"{name}, {kept}": (keep(rank, values), f"two things: {says}; and {also}.")
        for name, (rank, says) in RANKS.items()
        for kept, (values, also) in KEPT.items()
    }


def numbers_as_weights(gate: Tensor, up: Tensor, count: int) -> Tensor:
    """The mask holds the gates themselves in place of ones."""
    return F.silu(gate) * up * mask(gate, count) * gate


def by_sorting(gate: Tensor, up: Tensor, count: int) -> Tensor:
    rank = gate.argsort(dim=-1, descending=True).argsort(dim=-1)
    return torch.where(rank < count, F.silu(gate) * up, 0)


def by_closing_the_others(gate: Tensor, up: Tensor, count: int) -> Tensor:
    """SiLU(0) is 0."""
    return F.silu(gate * mask(gate, count)) * up


def by_threshold(gate: Tensor, up: Tensor, count: int) -> Tensor:
    if not count:
        return torch.zeros_like(gate)
    least = gate.sort(dim=-1, descending=True).values[:, count - 1 : count]
    return (F.silu(gate) * up).masked_fill(gate < least, 0)


THREE = (torch.tensor([[20.0, -20.0, 30.0]]), torch.tensor([[2.0, 5.0, -1.0]]))

EXERCISES = (
    Exercise(
        id="05.5",
        title="All experts at once",
        kind="einops",
        minutes=12,
        difficulty=3,
        hints=(
            "The function for one expert has three products. What changes if gate, up and down get one more axis, "
            "expert?",
            "einsum(x, gate, ...) has the operands (token hidden) and (expert ffn hidden). hidden is summed, the other "
            "three stay. In the second step ffn is summed.",
            '"token hidden, expert ffn hidden -> token expert ffn" for gate and up, then '
            '"token expert ffn, expert hidden ffn -> token expert hidden".',
        ),
        now_you_know="one more name in a pattern turns one expert into 128, at 16 times the work of the chosen eight.",
        oracle=every_expert_by_loops,
        given=as_given,
        also=pasted,
        cases=(
            Case(
                "one token, two experts of one open neuron each: 20 × 3 × 1, and 20 × -1 × 2",
                (
                    torch.tensor([[1.0]]),
                    torch.tensor([[[20.0]], [[20.0]]]),
                    torch.tensor([[[3.0]], [[-1.0]]]),
                    torch.tensor([[[1.0]], [[2.0]]]),
                ),
                torch.tensor([[[60.0], [-40.0]]]),
            ),
            Case("random, three experts", draw_experts(4, 5, 3, 2)),
            Case("random, six experts", draw_experts(2, 3, 6, 7)),
            Case("one token", draw_experts(1, 6, 4, 5)),
            Case("one expert", draw_experts(3, 4, 1, 6)),
            Case("no token at all", draw_experts(0, 5, 3, 2)),
            Case("bfloat16 in, bfloat16 out", draw_experts(3, 8, 2, 4, torch.bfloat16), tolerance=0.03),
        ),
        stages=(Stage("", lambda x, gate, up, down: product(x, gate, up), "is the product before down"),),
        mutants={
            "experts first": (
                experts_first,
                "the axes are expert token hidden. The docstring asks for token expert hidden.",
            ),
            "summed": (
                summed,
                "the experts were added up: `expert` is not on the right side of the last pattern.",
            ),
            "all down matrices": (
                another_experts_down,
                "each product meets the down matrices of all experts. The expert axis has two names in the last "
                "pattern; give it the same in both operands.",
            ),
            "products added": (
                products_added,
                "the products of all experts were added before they met down. The expert axis has two names in the "
                "last pattern.",
            ),
            "ffn misspelt": (
                neurons_misspelt,
                "ffn is written in two ways in the last pattern, so both are summed on their own.",
            ),
            "amounts misspelt": (
                lambda x, gate, up, down: einsum(
                    F.silu(einsum(x, gate, READ)),
                    einsum(x, up, READ),
                    down,
                    "token expert ffn, token expert fnn, expert hidden ffn -> token expert hidden",
                ),
                "ffn has another name at the amounts, so they are summed on their own. Each neuron multiplies its own "
                "two numbers: the same name in all three places.",
            ),
            "hidden misspelt": (
                hidden_misspelt,
                "hidden is written in two ways in the first pattern, so both are summed on their own.",
            ),
            "swapped": (swapped, "gate and up are swapped: SiLU belongs to the product with gate."),
            "one for all": (first_expert_for_all, "all experts give the result of the first one."),
            "first gate for all": (first_for(gate=True), "all experts open with the first one's gate."),
            "first up for all": (first_for(up=True), "all experts read their amounts with the first one's up."),
            "first down for all": (first_for(down=True), "all experts write with the first one's down."),
            "in a chain": (
                in_a_chain,
                "each expert gets the result of the one before it. All of them get the token x itself.",
            ),
            "reshaped": (
                reshaped,
                "the shape is right, but the numbers were reshaped from (expert token hidden). Move the axes: reshape "
                "keeps the order in memory.",
            ),
            **{
                name: (bent(compute), says)
                for name, (compute, says) in BENDS.items()
                if name not in ("no bend", "after the product", "softmax over the tokens")
            },
            **{
                f"{name}, swapped": (
                    bent(swapped_bend(name)),
                    f"two things: gate and up are swapped; and {BENDS[name][1]}",
                )
                for name in ("relu", "gelu", "quick gelu", "tanh")
            },
            "softmax over the experts": (
                bent(lambda gate, up: gate.softmax(dim=1) * up),
                "the gates go through a softmax over the experts. That is the router's; the switch is SiLU.",
            ),
            "bend at the end": (
                lambda x, gate, up, down: F.silu(bent(lambda gate, up: gate * up)(x, gate, up, down)),
                "SiLU is applied to the result. It belongs to gate x, before the multiplication.",
            ),
            "after the product": (bent_after, "SiLU is applied to the product of both. It belongs to gate x alone."),
            "no bend": (without_silu, "SiLU is missing."),
            "averaged": (averaged, "the results are divided by the number of experts. Weights come from the router."),
        },
        accepted={
            "two patterns": by_einsum,
            "one einsum of four operands": in_one_einsum,
            "all rows as one matrix": stacked_by_rearrange,
            "one expert after another": one_after_another,
        },
    ),
    Exercise(
        id="05.7",
        title="How many neurons does a token need?",
        kind="ablate",
        minutes=12,
        difficulty=3,
        hints=(
            "For each token, which neurons have the widest open gates? `topk` along one axis gives their numbers.",
            "gate and up are (token, ffn). Make a mask of the same shape that is 1 for the `count` largest gates of "
            "each row, and multiply the products with it.",
            "chosen = gate.topk(count, dim=-1).indices; mask = torch.zeros_like(gate).scatter(-1, chosen, 1.0); return "
            "F.silu(gate) * up * mask.",
        ),
        now_you_know="a handful of neurons does nearly all of the work, and it is another handful for each token.",
        oracle=keep_open_by_loops,
        cases=(
            Case("three neurons, two stay: gates 20 and 30", (*THREE, 2), torch.tensor([[40.0, 0.0, -30.0]])),
            Case("three neurons, one stays", (*THREE, 1), torch.tensor([[0.0, 0.0, -30.0]])),
            Case("random, three of eight", draw_gates(5, 8, 3)),
            Case("random, six of seven", draw_gates(4, 7, 6)),
            Case("all of them", draw_gates(3, 6, 6)),
            Case("none", draw_gates(3, 5, 0)),
            Case("one token", draw_gates(1, 9, 4)),
            Case("bfloat16 in, bfloat16 out", draw_gates(2, 6, 2, torch.bfloat16), tolerance=0.03),
        ),
        stages=(
            Stage("", lambda gate, up, count: mask(gate, count), "is the mask, without the products"),
            Stage("", lambda gate, up, count: F.silu(gate) * mask(gate, count), "holds SiLU(gate), without up"),
        ),
        mutants={
            "the closed ones": (
                kept_by(lambda gate, up: -gate),
                "the neurons with the smallest gates stay. The largest should.",
            ),
            "dropped": (dropped, "the widest open neurons were removed. They should stay, and the others go."),
            "by size of the gate": (
                kept_by(lambda gate, up: gate.abs()),
                "the neurons are ranked by the size of the gate without its sign. A gate of -20 is closed.",
            ),
            "by the product": (
                kept_by(lambda gate, up: (F.silu(gate) * up).abs()),
                "the neurons are ranked by their products. The exercise asks for the widest open gates.",
            ),
            "by the signed product": (
                kept_by(lambda gate, up: F.silu(gate) * up),
                "the neurons are ranked by their products with sign. The exercise asks for the widest open gates.",
            ),
            "by SiLU": (
                kept_by(lambda gate, up: F.silu(gate)),
                "the neurons are ranked by SiLU(gate), which has another order below zero: SiLU(-10) is above "
                "SiLU(-1). Rank by the gate itself.",
            ),
            "in front": (
                in_front,
                "the products that stay were moved to the first places. Each stays at the place of its neuron.",
            ),
            "closed with -inf": (
                closed_with_infinity,
                "the other gates were set to -inf, and SiLU(-inf) is nan: -inf times 0. Set them, or the products, to "
                "0.",
            ),
            "only open ones": (
                only_open,
                "gates below zero were removed as well. `count` neurons stay, even if their gates are negative.",
            ),
            "every open one": (
                every_open,
                "all neurons with a positive gate stay, however many they are. Exactly `count` should.",
            ),
            **{
                name: (keep(lambda gate, up: gate, KEPT[name][0]), f"{KEPT[name][1]}: it is SiLU(gate) × up.")
                for name in ("gates, not bent", "swapped", "on both", "sigmoid")
            },
            **two_mistakes(),
            "as many closed ones": (
                lambda gate, up, count: F.silu(gate) * up * (1 - mask(-gate, count)),
                "the `count` smallest gates were removed. `count` is how many stay, not how many go.",
            ),
            "gates as the mask": (
                numbers_as_weights,
                "the mask holds the gates that stay in place of ones, so their products are multiplied once more.",
            ),
            "order as rank": (
                lambda gate, up, count: F.silu(gate) * up * (gate.argsort(dim=-1) >= gate.shape[-1] - count),
                "argsort gives the numbers of the neurons in order, not the rank of each. Use topk, or argsort twice.",
            ),
            "order as rank, descending": (
                lambda gate, up, count: F.silu(gate) * up * (gate.argsort(dim=-1, descending=True) < count),
                "argsort gives the numbers of the neurons in order, not the rank of each. Use topk, or argsort twice.",
            ),
            "softmax": (
                lambda gate, up, count: (
                    gate.masked_fill(mask(gate, count) == 0, -torch.inf).softmax(dim=-1).nan_to_num(0.0) * up
                ),
                "the gates that stay go through a softmax, as in a router. Each neuron has SiLU(gate).",
            ),
            "up of the others": (
                lambda gate, up, count: torch.where(mask(gate, count) > 0, F.silu(gate) * up, up),
                "the others pass up in place of 0. Silenced, a neuron passes nothing.",
            ),
            "mean": (
                lambda gate, up, count: F.silu(gate) * up * mask(gate, count) / max(count, 1),
                "the products that stay are divided by `count`. Leave them as they are.",
            ),
            "by up": (kept_by(lambda gate, up: up), "the neurons are ranked by up. The exercise asks for gate."),
            "of all tokens": (
                of_all_tokens,
                "the widest gates of all tokens together were kept. Each token has its own `count` neurons.",
            ),
            "the same for all": (
                same_for_all,
                "all tokens keep the same neurons. Each token has its own: rank along the last axis.",
            ),
            "the first ones": (first_ones, "the first `count` neurons stay, whatever their gates are."),
            "all kept": (all_kept, "nothing was removed: `count` is not used."),
            "not bent": (not_bent, "SiLU is missing in the products that stay."),
            "gates alone": (gates_alone, "up is missing: the products that stay are SiLU(gate) × up."),
            "amounts alone": (amounts_alone, "the gate is missing: the products that stay are SiLU(gate) × up."),
            "along the tokens": (
                along_the_tokens,
                "each neuron keeps its widest tokens. Rank along the last axis, so that each token keeps its neurons.",
            ),
            "one less": (one_less, "one neuron too few stays: the last of the `count` is missing."),
            "one more": (one_more, "one neuron too many stays."),
            "made up for": (
                made_up_for,
                "the products that stay were made larger, to make up for the others. Leave them as they are.",
            ),
        },
        accepted={
            "a mask": kept_by(lambda gate, up: gate),
            "ranks by sorting twice": by_sorting,
            "the others closed": by_closing_the_others,
            "a threshold": by_threshold,
        },
    ),
)
