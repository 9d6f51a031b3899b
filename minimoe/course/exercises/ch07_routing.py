"""Chapter 07, the experts: a dispatch mask (07.7), and a layer without one of its experts (07.8)."""

import copy
import dis
from collections.abc import Callable
from typing import Any

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.answer_diff import difference
from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.course.checker.user_code import run
from minimoe.model.router import Routing, route

# 07.7 a dispatch mask ------------------------------------------------------------------------------------------------


def spread_by_loops(mask: Tensor, x: Tensor) -> Tensor:
    """Each place of each expert: the tokens that the mask puts there."""
    tokens, experts, rows = mask.shape
    result = torch.zeros(experts, rows, x.shape[-1], dtype=x.dtype)
    for token in range(tokens):
        for expert in range(experts):
            for row in range(rows):
                result[expert, row] += mask[token, expert, row] * x[token]
    return result


def as_it_was(mask: Tensor, x: Tensor) -> Tensor:
    """The code that the reader is to rewrite."""
    token, expert, row = mask.shape
    flat = mask.permute(1, 2, 0).reshape(expert * row, token)
    return (flat @ x).view(expert, row, x.shape[-1])


PATTERN = "token expert row, token hidden -> expert row hidden"


def by_einsum(mask: Tensor, x: Tensor) -> Tensor:
    return einsum(mask, x, PATTERN)


def by_product(mask: Tensor, x: Tensor) -> Tensor:
    flat = rearrange(mask, "token expert row -> (expert row) token")
    return rearrange(flat @ x, "(expert row) hidden -> expert row hidden", expert=mask.shape[1])


def by_torch_einsum(mask: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("ter,th->erh", mask, x)


def with_mask(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The right pattern with another mask."""
    return lambda mask, x: einsum(change(mask), x, PATTERN)


def misspelt(mask: Tensor, x: Tensor) -> Tensor:
    return einsum(mask, x, "token expert row, tokens hidden -> expert row hidden")


def read_in_another_order(mask: Tensor, x: Tensor) -> Tensor:
    """(expert row) is unpacked as (row expert)."""
    flat = rearrange(mask, "token expert row -> (expert row) token")
    return rearrange(flat @ x, "(row expert) hidden -> expert row hidden", expert=mask.shape[1])


def read_flat(mask: Tensor, x: Tensor) -> Tensor:
    """The mask's numbers one after another, as if its axes were (expert row token)."""
    numbers = rearrange(mask, "token expert row -> (token expert row)")
    flat = rearrange(numbers, "(place token) -> place token", token=len(mask))
    return rearrange(flat @ x, "(expert row) hidden -> expert row hidden", expert=mask.shape[1])


def largest(mask: Tensor, x: Tensor) -> Tensor:
    """The largest of the products in place of their sum."""
    products = einsum(mask, x, "token expert row, token hidden -> token expert row hidden")
    return reduce(products, "token expert row hidden -> expert row hidden", "max")


def masks(token: int, expert: int, row: int, hidden: int, slot: int, dtype: torch.dtype = torch.float32) -> Arguments:
    """Random choices, each at the next free place of its expert; what does not fit is dropped."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.rand(token, expert, generator=generator).topk(slot, dim=-1).indices
        wanted = torch.zeros(token, expert, dtype=torch.long).scatter(1, chosen, 1)
        place = (wanted.cumsum(dim=0) * wanted) - 1  # -1 where the expert was not chosen
        mask = F.one_hot(place.clamp(min=0), max(token, row))[..., :row]
        mask = mask * rearrange(wanted, "token expert -> token expert 1")
        return mask.to(dtype), torch.randn(token, hidden, generator=generator).to(dtype)

    return arguments


SHAPE_SURGERY = {"view", "reshape", "transpose", "permute", "flatten", "unsqueeze", "squeeze", "swapaxes", "movedim"}


def still_cut_by_hand(answer: Any) -> str | None:
    """A right result is not enough here: it should read as a pattern. A wrong one is told what is wrong with it."""
    drawn = masks(5, 4, 3, 2, slot=2)(torch.Generator().manual_seed(0))
    if difference(spread_by_loops(*drawn), run(answer, copy.deepcopy(drawn)), 1e-4):
        return None
    code = getattr(answer, "__code__", None)
    used = sorted(SHAPE_SURGERY & set(getattr(code, "co_names", ())))
    if used:
        return f"Your function still uses {', '.join(used)}. The exercise is to say it with named axes instead."
    if code is not None and any(step.opname == "FOR_ITER" for step in dis.get_instructions(code)):
        return "The result is right, and your function loops over the axes. The exercise is to name them in a pattern."
    return None


# 07.8 a layer without one expert -------------------------------------------------------------------------------------


def without_by_loops(routing: Routing, expert: int) -> Routing:
    """Slot by slot; a token's other weights grow in proportion until their sum is as before."""
    weights = routing.weights.double().clone()
    for token, experts in enumerate(routing.experts.tolist()):
        if expert in experts:
            kept = [slot for slot, each in enumerate(experts) if each != expert]
            total, left = weights[token].sum().item(), weights[token, kept].sum().item()
            for slot in range(len(experts)):
                weights[token, slot] = weights[token, slot] * total / left if slot in kept else 0.0
    return routing._replace(weights=weights.to(routing.weights.dtype))


def without_by_masks(routing: Routing, expert: int) -> Routing:
    weights = routing.weights * (routing.experts != expert)
    scale = routing.weights.sum(dim=-1, keepdim=True) / weights.sum(dim=-1, keepdim=True)
    return routing._replace(weights=weights * scale)


def without_by_where(routing: Routing, expert: int) -> Routing:
    gone = torch.where(routing.experts == expert, routing.weights, 0.0).sum(dim=-1, keepdim=True)
    left = routing.weights.masked_fill(routing.experts == expert, 0.0)
    return Routing(routing.logits, routing.experts, left + left * gone / left.sum(dim=-1, keepdim=True))


def scaled(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Routing]:
    """An answer with other weights. change: (weights, whether each slot is kept) -> weights."""
    return lambda routing, expert: routing._replace(weights=change(routing.weights, routing.experts != expert))


def total(weights: Tensor) -> Tensor:
    return weights.sum(dim=-1, keepdim=True)


def spread_evenly(weights: Tensor, kept: Tensor) -> Tensor:
    """What is lost goes to the others in equal parts."""
    lost = total(weights * ~kept)
    return (weights + lost / total(kept.to(weights.dtype))) * kept


def to_the_first(weights: Tensor, kept: Tensor) -> Tensor:
    """What is lost goes to the first slot that is kept."""
    first = F.one_hot(kept.int().argmax(dim=-1), weights.shape[-1])
    return weights * kept + first * total(weights * ~kept)


def renumbered(routing: Routing, expert: int) -> Routing:
    """The expert's number is replaced by another, and its weight stays."""
    return routing._replace(experts=torch.where(routing.experts == expert, 0 if expert else 1, routing.experts))


def chosen_again(routing: Routing, expert: int) -> Routing:
    """The router's choice without the expert: the next one comes in."""
    logits = routing.logits.clone()
    logits[:, expert] = -torch.inf
    weights, experts = logits.softmax(dim=-1).topk(routing.experts.shape[1], dim=-1)
    return routing._replace(experts=experts, weights=weights)


def routed_again(routing: Routing, expert: int) -> Routing:
    """The whole router once more, with the expert's logit at -inf."""
    logits = routing.logits.clone()
    logits[:, expert] = -torch.inf
    return route(logits, routing.experts.shape[1], renormalise=True)


def routings(token: int, slot: int, expert: int, gone: int, dtype: torch.dtype = torch.float32) -> Arguments:
    """Random choices, with weights that do not sum to one."""

    def arguments(generator: torch.Generator) -> tuple[Routing, int]:
        logits = torch.randn(token, expert, generator=generator)
        weights, experts = logits.softmax(dim=-1).topk(slot, dim=-1)
        return Routing(logits.to(dtype), experts, weights.to(dtype)), gone

    return arguments


BY_HAND = Routing(
    logits=torch.zeros(2, 4),
    experts=torch.tensor([[3, 1, 0], [2, 0, 1]]),
    weights=torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.3, 0.2]]),
)

EXERCISES = (
    Exercise(
        id="07.7",
        title="Rewrite with einops: a dispatch mask",
        kind="einops",
        minutes=8,
        difficulty=2,
        hints=(
            "Which axes do the two tensors share, and which does the result have?",
            "mask (token expert row), x (token hidden), the result (expert row hidden). One axis is missing in the "
            "result.",
            'einsum(mask, x, "token expert row, token hidden -> expert row hidden"): token stands left of the arrow '
            "and not right of it, so it is summed.",
        ),
        now_you_know="dispatch can be written as a product with a mask of zeros and ones: every row at its place.",
        oracle=spread_by_loops,
        cases=(
            Case(
                "two tokens, two experts with room for one row, by hand",
                (torch.tensor([[[0.0], [1.0]], [[1.0], [0.0]]]), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])),
                torch.tensor([[[4.0, 5.0, 6.0]], [[1.0, 2.0, 3.0]]]),
            ),
            Case("random choices", masks(7, 4, 5, 3, slot=2)),
            Case("room for one row only", masks(5, 3, 1, 4, slot=2)),
            Case("one token", masks(1, 4, 2, 3, slot=2)),
            Case("more room than rows", masks(3, 2, 6, 5, slot=1)),
            Case("in float64", masks(4, 3, 2, 5, slot=2, dtype=torch.float64)),
        ),
        given=as_it_was,
        also=still_cut_by_hand,
        mutants={
            "as it was": (as_it_was, "the result is right and the code is the old one: the axes have no names yet."),
            "loops": (
                spread_by_loops,
                "the result is right and the code is loops: the axes have no names yet, and one pattern does it all.",
            ),
            "misspelt axis": (
                misspelt,
                "the tokens of x are summed before they meet the mask. einsum does that, without a word, when an axis "
                "has two spellings.",
            ),
            "in another order": (
                read_in_another_order,
                "(expert row) is unpacked as (row expert), so rows land at other experts.",
            ),
            "the mask read flat": (
                read_flat,
                "the mask is reshaped without moving its axes: the token is its first one, and a reshape alone leaves "
                "it there.",
            ),
            "nothing is empty": (
                lambda mask, x: x[mask.argmax(dim=0)],
                "places without a token hold the first one: argmax of zeros is 0. They should be zero.",
            ),
            "the largest": (
                largest,
                "the largest of the products is kept in place of their sum, so negative numbers become 0.",
            ),
            "a mean": (
                with_mask(lambda mask: mask / len(mask)),
                "the result is divided by the number of tokens. Each place holds one token, not a mean.",
            ),
            "all rows alike": (
                with_mask(lambda mask: mask.sum(dim=2, keepdim=True) * torch.ones_like(mask)),
                "every place of an expert gets the sum of its tokens: `row` was summed before x was multiplied.",
            ),
            "all experts alike": (
                with_mask(lambda mask: mask.sum(dim=1, keepdim=True) * torch.ones_like(mask)),
                "every expert gets the same rows: `expert` was summed before x was multiplied.",
            ),
            "one axis too many": (
                lambda mask, x: einsum(mask, x, "token expert row, token hidden -> token expert row hidden"),
                "the result still has an axis for the token. Leave it out right of the arrow, and it is summed.",
            ),
            "row before expert": (
                lambda mask, x: einsum(mask, x, "token expert row, token hidden -> row expert hidden"),
                "row and expert have changed places in the result.",
            ),
        },
        accepted={"einsum": by_einsum, "rearrange and a product": by_product, "torch.einsum": by_torch_einsum},
    ),
    Exercise(
        id="07.8",
        title="Ablate: without the busiest expert",
        kind="ablate",
        minutes=12,
        difficulty=3,
        hints=(
            "Three steps: the sum of a token's weights before, the weights without that expert, and a factor.",
            "routing.experts != expert is token slot, True where a slot stays. Sums over slots are token 1.",
            "kept = routing.weights * (routing.experts != expert); scale by weights.sum(-1, keepdim=True) / "
            "kept.sum(-1, keepdim=True); return routing._replace(weights=...).",
        ),
        now_you_know="one expert less is a small loss: a token has seven others, and they can stand in for it.",
        oracle=without_by_loops,
        cases=(
            Case(
                "two tokens; only one has chosen expert 3; by hand",
                (BY_HAND, 3),
                BY_HAND._replace(weights=torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.3, 0.2]])),
            ),
            Case("random choices; the weights do not sum to one", routings(7, 3, 5, gone=2)),
            Case("expert 0", routings(6, 3, 5, gone=0)),
            Case("every token has chosen it", routings(4, 4, 4, gone=1)),
            Case("nobody has chosen it", (BY_HAND._replace(experts=torch.tensor([[0, 1, 2], [2, 0, 1]])), 3)),
            Case("two slots", routings(8, 2, 4, gone=3)),
            Case("weights in float64", routings(5, 3, 6, gone=1, dtype=torch.float64)),
        ),
        mutants={
            "not scaled": (
                scaled(lambda weights, kept: weights * kept),
                "the expert is gone, and the others keep their weights, so the layer's output is smaller. Scale them.",
            ),
            "to a sum of one": (
                scaled(lambda weights, kept: weights * kept / total(weights * kept)),
                "the weights sum to one now. They should sum to what they summed to before, which may be less.",
            ),
            "divided by what is left of one": (
                scaled(lambda weights, kept: weights * kept / (1 - total(weights * ~kept))),
                "the others are divided by 1 minus the weight that is lost, which is right only if the weights sum to "
                "one. Take their sum as it was.",
            ),
            "spread evenly": (
                scaled(spread_evenly),
                "what is lost goes to the others in equal parts. Scale them, so that a heavy one gets more of it.",
            ),
            "to the first": (
                scaled(to_the_first),
                "what is lost goes to the first of the others. Scale all of them.",
            ),
            "the others go": (
                scaled(lambda weights, kept: weights * ~kept),
                "that expert is all that is left. It is the one that should go.",
            ),
            "the slot of that number": (
                lambda routing, expert: routing._replace(
                    weights=routing.weights * (torch.arange(routing.weights.shape[1]) != expert)
                ),
                "`expert` is used as the number of a slot. Compare it with routing.experts.",
            ),
            "another expert": (
                renumbered,
                "the expert is replaced by another one, which takes its weight. It should have no successor.",
            ),
            "the first slot": (
                scaled(lambda weights, kept: weights * (torch.arange(weights.shape[1]) > 0)),
                "the first slot is gone, whatever expert it holds.",
            ),
            "chosen again": (
                chosen_again,
                "the router chooses again without that expert, so another one comes in. Here the slot stays empty.",
            ),
            "routed again": (
                routed_again,
                "the router runs again without that expert, so another one comes in. Here the slot stays empty.",
            ),
            "one factor for all tokens": (
                scaled(lambda weights, kept: weights * kept * (weights.sum() / (weights * kept).sum())),
                "all tokens share one factor. Each token has its own sum: sum over the slots only, with keepdim=True.",
            ),
            "the factor upside down": (
                scaled(lambda weights, kept: weights * kept * total(weights * kept) / total(weights)),
                "the factor is upside down, so the others shrink. They should grow: before / after.",
            ),
            "softmax": (
                scaled(lambda weights, kept: weights.masked_fill(~kept, -torch.inf).softmax(dim=-1)),
                "the weights go through a softmax again, which makes them nearly even. Scale them.",
            ),
        },
        accepted={"masks": without_by_masks, "where": without_by_where, "loops": without_by_loops},
    ),
)
