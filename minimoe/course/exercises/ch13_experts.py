"""Chapter 13, smaller: saliency (13.7), which tensor hurts most (13.8), and a router with fewer experts (13.9)."""

from collections.abc import Callable
from itertools import product

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.model.router import route
from minimoe.routing.ablation.prune import expert_statistics

# 13.7 saliency -------------------------------------------------------------------------------------------------------

Saliency = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def saliency_by_loops(experts: Tensor, weights: Tensor, norms: Tensor, num_experts: int) -> Tensor:
    """A list of products for each expert, and its mean."""
    products: list[list[float]] = [[] for _ in range(num_experts)]
    for token, chosen in enumerate(experts.tolist()):
        for slot, expert in enumerate(chosen):
            products[expert].append(float(weights[token, slot].double() * norms[token, slot].double()))
    return torch.tensor([sum(each) / len(each) if each else 0.0 for each in products], dtype=norms.dtype)


def counts_of(experts: Tensor, num_experts: int) -> Tensor:
    return experts.flatten().bincount(minlength=num_experts)


def sums_of(experts: Tensor, values: Tensor, num_experts: int) -> Tensor:
    """(expert): the sum of the values at the slots that hold it."""
    return torch.zeros(num_experts, dtype=values.dtype).index_add(0, experts.flatten(), values.flatten())


def means_of(experts: Tensor, values: Tensor, num_experts: int) -> Tensor:
    return sums_of(experts, values, num_experts) / counts_of(experts, num_experts).clamp_min(1)


def of_products(finish: Callable[[Tensor, Tensor], Tensor]) -> Saliency:
    """An answer that makes something else of the sums of the products. finish: (sums, experts) -> (expert)."""
    return lambda experts, weights, norms, num_experts: finish(sums_of(experts, weights * norms, num_experts), experts)


def zeros_divided(experts: Tensor, weights: Tensor, norms: Tensor, num_experts: int) -> Tensor:
    return sums_of(experts, weights * norms, num_experts) / counts_of(experts, num_experts)


def the_last_one(experts: Tensor, weights: Tensor, norms: Tensor, num_experts: int) -> Tensor:
    result = torch.zeros(num_experts, dtype=norms.dtype)
    for expert, value in zip(experts.flatten().tolist(), (weights * norms).flatten(), strict=True):
        result[expert] = value
    return result


def the_last_sum(experts: Tensor, weights: Tensor, norms: Tensor, num_experts: int) -> Tensor:
    """Assigned in place of added, and divided by the count."""
    return the_last_one(experts, weights, norms, num_experts) / counts_of(experts, num_experts).clamp_min(1)


def without_minlength(experts: Tensor, weights: Tensor, norms: Tensor, num_experts: int) -> Tensor:
    highest = int(experts.max()) + 1
    return means_of(experts, weights * norms, highest)


def largest(experts: Tensor, weights: Tensor, norms: Tensor, num_experts: int) -> Tensor:
    zeros = torch.zeros(num_experts, dtype=norms.dtype)
    return zeros.scatter_reduce(0, experts.flatten(), (weights * norms).flatten(), "amax", include_self=False)


def by_masks(experts: Tensor, weights: Tensor, norms: Tensor, num_experts: int) -> Tensor:
    masks = [experts == expert for expert in range(num_experts)]
    zero = torch.zeros((), dtype=norms.dtype)
    return torch.stack([(weights * norms)[mask].mean() if mask.any() else zero for mask in masks])


def by_one_hot(experts: Tensor, weights: Tensor, norms: Tensor, num_experts: int) -> Tensor:
    chosen = F.one_hot(experts, num_experts)
    total = reduce(chosen * rearrange(weights * norms, "token slot -> token slot 1"), "t slot expert -> expert", "sum")
    return total / reduce(chosen, "token slot expert -> expert", "sum").clamp_min(1)


def chosen(token: int, expert: int, slot: int, dtype: torch.dtype = torch.float32) -> Arguments:
    """Random choices of different experts with weights that sum to one; expert 1 is never chosen, nor is the last."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
        scores = torch.rand(token, expert, generator=generator)
        scores[:, [1, expert - 1]] = -1
        experts = scores.topk(slot, dim=-1).indices
        weights = torch.rand(token, slot, generator=generator).softmax(dim=-1)
        norms = 5 * torch.rand(token, slot, generator=generator) + 0.5
        return experts, weights.to(dtype), norms.to(dtype), expert

    return arguments


BY_HAND = (
    torch.tensor([[0, 2], [2, 0], [2, 3]]),
    torch.tensor([[0.5, 0.5], [0.75, 0.25], [0.5, 0.5]]),
    torch.tensor([[4.0, 2.0], [4.0, 8.0], [10.0, 1.0]]),
    4,
)

# 13.8 which tensor hurts most ----------------------------------------------------------------------------------------

# question -> (the right prediction, a common wrong answer, the misconception)
HURTS: dict[str, tuple[str | bool, str | bool, str]] = {
    "the kind that costs the most KL": (
        "lm_head",
        "router",
        "the loudest part isn't the most expensive. An error of the last matrix goes into the logits as it is: nothing "
        "comes after it that could make up for it.",
    ),
    "gate_proj and up_proj together cost more KL than v_proj": (
        False,
        True,
        "size isn't harm. The errors of thousands of rows are independent of each other, and a token sees eight "
        "experts of 128; v_proj is in every token's way.",
    ),
    "down_proj costs more KL than gate_proj": (
        True,
        False,
        "the last matrix of an expert writes into the residual stream; an error of the first one has to pass through "
        "two others.",
    ),
    "the router flips the most choices": (
        True,
        False,
        "the router's own scores decide, so its error needs no detour to change a choice.",
    ),
    "lm_head flips choices": (False, True, "lm_head comes after the last router: no choice can depend on it."),
}


def predictions(wrong: tuple[bool, ...]) -> dict[str, str | bool]:
    """The right predictions, except for those questions where `wrong` is True."""
    return {question: answer[missed] for (question, answer), missed in zip(HURTS.items(), wrong, strict=True)}


def misread(wrong: tuple[bool, ...]) -> str:
    """The misunderstandings behind these wrong predictions, one sentence each."""
    return "\n  ".join(answer[2] for answer, missed in zip(HURTS.values(), wrong, strict=True) if missed)


WAYS_TO_MISS = [way for way in product((False, True), repeat=len(HURTS)) if any(way)]

# 13.9 a router with fewer experts ------------------------------------------------------------------------------------

Choice = tuple[Tensor, Tensor]


def among_by_loops(logits: Tensor, keep: Tensor, top_k: int) -> Choice:
    """Token by token: the kept experts by logit, and shares of the best ones."""
    experts, weights = [], []
    for row in logits.double():
        ranked = sorted(keep.tolist(), key=lambda expert: -float(row[expert]))[:top_k]
        experts.append(ranked)
        weights.append(row[ranked].softmax(dim=-1))
    return torch.tensor(experts).reshape(len(logits), top_k), torch.stack(weights).to(logits.dtype)


def gone(logits: Tensor, keep: Tensor, value: float = -torch.inf) -> Tensor:
    """The logits, with another value for all experts that are not kept."""
    mask = torch.ones(logits.shape[-1], dtype=torch.bool).index_fill(0, keep, False)
    return logits.masked_fill(mask, value)


def routed(logits: Tensor, top_k: int, renormalise: bool = True) -> Choice:
    result = route(logits, top_k, renormalise)
    return result.experts, result.weights


def changed(change: Callable[[Tensor, Tensor, Tensor, Tensor], Choice]) -> Callable[..., Choice]:
    """An answer made of the right one. change: (experts, weights, logits, keep) -> experts, weights."""
    return lambda logits, keep, top_k: change(*among_by_loops(logits, keep, top_k), logits, keep)


def short_list(logits: Tensor, keep: Tensor, top_k: int) -> Choice:
    best, places = logits[:, keep].topk(top_k, dim=-1)
    return places, best.softmax(dim=-1)


def share_of_all(logits: Tensor, keep: Tensor, top_k: int) -> Choice:
    weights, experts = gone(logits.softmax(dim=-1), keep, 0.0).topk(top_k, dim=-1)
    return experts, weights


def empty_slots(scale: bool) -> Callable[..., Choice]:
    """The model's own choice, in which slots of experts that are gone have no weight."""

    def answer(logits: Tensor, keep: Tensor, top_k: int) -> Choice:
        experts, weights = routed(logits, top_k)
        weights = weights * torch.isin(experts, keep)
        return experts, weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-9) if scale else weights

    return answer


def first_of_the_list(logits: Tensor, keep: Tensor, top_k: int) -> Choice:
    experts = repeat(keep[:top_k], "slot -> token slot", token=len(logits))
    weights = logits.softmax(dim=-1).gather(-1, experts)
    return experts, weights / weights.sum(dim=-1, keepdim=True)


def smallest(logits: Tensor, keep: Tensor, top_k: int) -> Choice:
    best, places = logits[:, keep].topk(top_k, dim=-1, largest=False)
    return keep[places], best.softmax(dim=-1)


def scaled_logits(best: Tensor) -> Tensor:
    return best / best.sum(dim=-1, keepdim=True)


def by_short_list(logits: Tensor, keep: Tensor, top_k: int) -> Choice:
    places, weights = short_list(logits, keep, top_k)
    return keep[places], weights


def logits_and_list(token: int, expert: int, kept: int, top_k: int) -> Arguments:
    """Random logits, of which none is near another, and a list of experts to keep."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        ranks = torch.rand(token, expert, generator=generator).argsort(dim=-1)
        keep = torch.randperm(expert, generator=generator)[:kept].sort().values
        return 0.31 * ranks - 0.1 * expert, keep, top_k

    return arguments


EXERCISES = (
    Exercise(
        id="13.7",
        title="Saliency",
        kind="fill in",
        minutes=10,
        difficulty=3,
        hints=(
            "For one expert: find its slots, multiply weight and norm there, take the mean. Over how many?",
            "Two sums per expert: of weights * norms, and of ones. index_add with experts.flatten() gives the first, "
            "bincount the second.",
            "total = zeros(num_experts).index_add(0, experts.flatten(), (weights * norms).flatten()); divide by "
            "bincount(minlength=num_experts).clamp_min(1).",
        ),
        now_you_know="a conditional mean asks what an expert does when it is called, and says nothing about how often.",
        oracle=saliency_by_loops,
        cases=(
            Case("three tokens, four experts, by hand", BY_HAND, torch.tensor([2.0, 0.0, 3.0, 0.5])),
            Case("random choices; two experts that no token has chosen", chosen(30, 7, 3)),
            Case("one slot", chosen(12, 6, 1)),
            Case("one token", chosen(1, 8, 4)),
            Case("in float64", chosen(20, 6, 2, torch.float64)),
        ),
        mutants={
            "a sum": (
                of_products(lambda sums, experts: sums),
                "this is a sum, so an expert that is chosen often gets more. REAP takes the mean over its tokens."),
            "over all tokens": (
                of_products(lambda sums, experts: sums / len(experts)),
                "the sum is divided by the number of all tokens. Divide by the tokens that chose the expert."),
            "over all slots": (
                of_products(lambda sums, experts: sums / experts.numel()),
                "the sum is divided by the number of all slots. Divide by the tokens that chose the expert."),
            "frequency": (
                lambda experts, weights, norms, num_experts: counts_of(experts, num_experts).to(norms.dtype),
                "this is the frequency: how often an expert is chosen. Weight and norm are missing."),
            "share": (
                lambda experts, weights, norms, num_experts: counts_of(experts, num_experts).to(norms.dtype)
                / len(experts),
                "this is the frequency, as a share of the tokens. Weight and norm are missing."),
            "without the weights": (
                lambda experts, weights, norms, num_experts: means_of(experts, norms, num_experts),
                "the weights are missing: a large output with a small weight changes little."),
            "without the norms": (
                lambda experts, weights, norms, num_experts: means_of(experts, weights, num_experts),
                "the norms are missing: a large weight on a small output changes little."),
            "two means": (
                lambda experts, weights, norms, num_experts: means_of(experts, weights, num_experts)
                * means_of(experts, norms, num_experts),
                "this is the product of two means. Multiply weight and norm of each slot first, then take the mean."),
            "weighted mean": (
                lambda experts, weights, norms, num_experts: sums_of(experts, weights * norms, num_experts)
                / sums_of(experts, weights, num_experts).clamp_min(1e-9),
                "the sum is divided by the sum of the weights, which takes the weights out again. Divide by the number "
                "of tokens."),
            "0 / 0": (
                zeros_divided,
                "an expert without tokens is 0 / 0, not a number (nan), and sorts before all others. Make it 0."),
            "the last": (
                the_last_one, "an expert keeps the product of its last token: values are assigned and not added."),
            "the last, divided": (
                the_last_sum,
                "an expert keeps the product of its last token, divided by the count: result[experts] += ... adds only "
                "once for each expert. Use index_add."),
            "the largest": (largest, "this is the largest product of each expert. Take the mean."),
            "no minlength": (
                without_minlength,
                "experts behind the last one that was chosen are missing: bincount needs minlength=num_experts."),
            "by slot": (
                lambda experts, weights, norms, num_experts: (weights * norms).mean(dim=0),
                "this is a mean for each slot. A slot holds another expert in every token."),
            "by token": (
                lambda experts, weights, norms, num_experts: (weights * norms).mean(dim=1),
                "this is a mean for each token. The result has one number for each expert."),
            "one for nobody": (
                lambda experts, weights, norms, num_experts: torch.where(
                    counts_of(experts, num_experts) == 0, 1.0, means_of(experts, weights * norms, num_experts)
                ),
                "an expert without tokens gets 1 here. It should get 0."),
            "one more": (
                lambda experts, weights, norms, num_experts: sums_of(experts, weights * norms, num_experts)
                / (counts_of(experts, num_experts) + 1),
                "the count is one too large. Against 0 / 0, clamp_min(1) changes empty experts only."),
            "added": (
                lambda experts, weights, norms, num_experts: means_of(experts, weights + norms, num_experts),
                "weight and norm are added. Multiply them."),
            "squared weights": (
                lambda experts, weights, norms, num_experts: means_of(experts, weights**2 * norms, num_experts),
                "the weights are squared, or multiplied twice. REAP takes them as they are."),
            "first slot": (
                lambda experts, weights, norms, num_experts: means_of(
                    experts[:, :1], (weights * norms)[:, :1], num_experts
                ),
                "only the first slot of each token counts here. All of them do."),
            "squares": (
                lambda experts, weights, norms, num_experts: means_of(experts, weights * norms**2, num_experts),
                "the norms are squared. REAP takes them as they are."),
        },
        accepted={"masks": by_masks, "one-hot": by_one_hot, "loops": saliency_by_loops},
        teaches=expert_statistics,
    ),
    Exercise(
        id="13.8",
        title="Predict: which tensor hurts most?",
        kind="predict",
        minutes=10,
        difficulty=2,
        hints=(
            "Don't ask how large a matrix is. Ask what comes after it, and who hears its error.",
            "Before the routers: embedding, attention, experts of earlier layers. After the last one: lm_head.",
            "An error in lm_head goes straight into the logits. One in gate_proj passes through silu, a product, "
            "down_proj and a weighted sum of eight experts.",
        ),
        now_you_know="all kinds lose about the same share of themselves. What it costs depends on where they sit.",
        expected=lambda: predictions((False,) * len(HURTS)),
        reasons={
            "the kind that costs the most KL": "KL is measured on the logits. Which matrix is nearest to them?",
            "gate_proj and up_proj together cost more KL than v_proj": "They have 58 % of the weights. How much of "
            "them does one token meet, and do errors of different rows add up or cancel?",
            "down_proj costs more KL than gate_proj": "What stands between each of them and the residual stream?",
            "the router flips the most choices": "Whose error reaches a router's scores without a detour?",
            "lm_head flips choices": "When is the last choice of experts made, and when does lm_head run?",
        },
        mutants={
            "missed " + ", ".join(str(n) for n, missed in enumerate(way, 1) if missed): (predictions(way), misread(way))
            for way in WAYS_TO_MISS
        },
        accepted={
            "as numbers": {
                question: answer[0] if isinstance(answer[0], str) else int(answer[0])
                for question, answer in HURTS.items()
            },
            "in another order": dict(reversed(predictions((False,) * len(HURTS)).items())),
        },
    ),
    Exercise(
        id="13.9",
        title="Ablate: half of the experts",
        kind="ablate",
        minutes=12,
        difficulty=3,
        hints=(
            "Experts that are gone must not be chosen, and the next best take their slots. When should they leave: "
            "before or after topk?",
            "logits[:, keep] is token kept: the scores of the short list. topk then gives places in that list; "
            "keep[places] are the experts.",
            "best, places = logits[:, keep].topk(top_k); return keep[places], best.softmax(dim=-1).",
        ),
        now_you_know="a pruned router is the same router with a shorter list: no weight of it is trained again.",
        oracle=among_by_loops,
        cases=(
            Case("two tokens, experts 1 and 3 are kept, by hand",
                 (torch.tensor([[9.0, 1.0, 8.0, 1.0 + torch.log(torch.tensor(3.0)).item()], [0.0, 2.0, 0.0, 2.5]]),
                  torch.tensor([1, 3]), 1),
                 (torch.tensor([[3], [3]]), torch.tensor([[1.0], [1.0]]))),
            Case("random logits", logits_and_list(6, 9, 5, 3)),
            Case("all logits are negative",
                 lambda generator: (logits_and_list(5, 8, 4, 2)(generator)[0] - 9, torch.tensor([0, 3, 5, 6]), 2)),
            Case("as many are kept as there are slots", logits_and_list(4, 7, 3, 3)),
            Case("all are kept", logits_and_list(4, 6, 6, 2)),
            Case("one token", logits_and_list(1, 8, 4, 2)),
        ),
        parts={"the experts": lambda result: result[0], "the weights": lambda result: result[1]},
        mutants={
            "places in the list": (
                short_list,
                "these are places in the short list. The experts' own numbers are keep[places]."),
            "zero": (
                lambda logits, keep, top_k: routed(gone(logits, keep, 0.0), top_k),
                "the others get a logit of 0, which may be the highest of all. Use minus infinity, or leave them out."),
            "not renormalised": (
                lambda logits, keep, top_k: routed(gone(logits, keep), top_k, renormalise=False),
                "the weights don't sum to one: those of the kept experts that aren't chosen are missing. Renormalise."),
            "share of all": (
                share_of_all,
                "the weights are shares among all experts, also those that are gone, and don't sum to one."),
            "empty slots": (
                empty_slots(scale=False),
                "experts that are gone still take slots, with a weight of 0. The next best should come in."),
            "empty slots, scaled": (
                empty_slots(scale=True),
                "experts that are gone still take slots, with a weight of 0, and the rest is scaled. The next best "
                "should come in."),
            "the others": (
                lambda logits, keep, top_k: routed(
                    logits.index_fill(-1, keep, -torch.inf), top_k
                ),
                "the experts of the list are gone, and the others are left. It is the other way round."),
            "the others, nearly": (
                lambda logits, keep, top_k: routed(logits.index_fill(-1, keep, -1e9), top_k),
                "the experts of the list get a very low logit, and the others are left. It is the other way round."),
            "over tokens": (
                lambda logits, keep, top_k: (
                    among_by_loops(logits, keep, top_k)[0],
                    logits[:, keep].topk(top_k, dim=-1).values.softmax(dim=0),
                ),
                "the softmax runs over the tokens, so that the weights of a token don't sum to one. Slots are the last "
                "axis: dim=-1."),
            "sigmoid": (
                changed(
                    lambda experts, weights, logits, keep: (
                        experts, scaled_logits(logits.gather(-1, experts).sigmoid())
                    )
                ),
                "the weights come from a sigmoid, as in DeepSeek-V3. Here they are the softmax."),
            "all": (
                lambda logits, keep, top_k: routed(logits, top_k),
                "all experts can be chosen: `keep` has no effect."),
            "the first": (
                first_of_the_list, "every token gets the first experts of the list. Take those with the highest "
                "logits."),
            "the lowest": (smallest, "these are the kept experts with the *lowest* logits."),
            "equal": (
                changed(lambda experts, weights, logits, keep: (experts, torch.ones_like(weights) / weights.shape[1])),
                "all weights are equal. They are the softmax of the logits."),
            "softmax twice": (
                changed(lambda experts, weights, logits, keep: (experts, weights.softmax(dim=-1))),
                "the weights went through a softmax twice, which makes them nearly equal."),
            "logits as weights": (
                changed(lambda experts, weights, logits, keep: (experts, scaled_logits(logits.gather(-1, experts)))),
                "the weights are the logits over their sum. Take the softmax."),
            "logits": (
                changed(lambda experts, weights, logits, keep: (experts, logits.gather(-1, experts))),
                "the weights are the logits themselves. Take the softmax of them."),
            "exchanged": (
                changed(lambda experts, weights, logits, keep: (weights, experts)),
                "experts and weights have changed places."),
            "ascending": (
                changed(lambda experts, weights, logits, keep: (experts.flip(-1), weights.flip(-1))),
                "the slots are in ascending order. The highest weight comes first, as in the library."),
        },
        accepted={
            "short list": by_short_list,
            "minus infinity": lambda logits, keep, top_k: routed(gone(logits, keep), top_k),
            "a list": lambda logits, keep, top_k: list(among_by_loops(logits, keep, top_k)),
        },
    ),
)  # fmt: skip
