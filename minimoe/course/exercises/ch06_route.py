"""Chapter 06, the router: the route function (06.1)."""

import math
from collections.abc import Callable
from itertools import product

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.model.router import Routing, route


def route_by_loops(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """The router by hand: one token after another, one expert after another."""
    experts, weights = [], []
    for scores in logits.tolist():
        powers = [math.exp(score - max(scores)) for score in scores]
        shares = [power / sum(powers) for power in powers]
        best = sorted(range(len(shares)), key=lambda expert: -shares[expert])[:top_k]
        total = sum(shares[expert] for expert in best) if renormalise else 1.0
        experts.append(best)
        weights.append([shares[expert] / total for expert in best])
    return Routing(logits, torch.tensor(experts), torch.tensor(weights, dtype=logits.dtype))


def draw(token: int, expert: int, top_k: int, renormalise: bool) -> Arguments:
    """Random logits (token, expert) without ties."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int, bool]:
        orders = [torch.randperm(expert, generator=generator) for _ in range(token)]
        return 4 * torch.stack(orders) / expert - 2, top_k, renormalise

    return arguments


def close_scores_in_bfloat16(generator: torch.Generator) -> tuple[Tensor, int, bool]:
    """64 logits that differ in bfloat16, although their softmax, taken in bfloat16, does not."""
    orders = torch.stack([torch.randperm(64, generator=generator) for _ in range(3)])
    return (0.25 + orders / 512).to(torch.bfloat16), 5, True


def plain_bfloat16(generator: torch.Generator) -> tuple[Tensor, int, bool]:
    """Logits in bfloat16 without ties, for an answer that is compared to the bit."""
    orders = torch.stack([torch.randperm(16, generator=generator) for _ in range(4)])
    return (orders / 8 - 1).to(torch.bfloat16), 5, True


# Mutants: solutions with a common misconception -----------------------------------------------------------------------


def variant(over: str, width: str, divided: str) -> Callable[[Tensor, int, bool], Routing]:
    """A router with up to three of the usual mistakes at once; `variant("experts", "float32", "if asked")` is right.

    over: the axis of the softmax. width: the dtype of softmax and weights. divided: when, and by what.
    """

    def mistaken(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
        wide = logits.dtype if width == "the model's" else torch.float32
        shares = logits.softmax(dim=-1 if over == "experts" else 0, dtype=wide)
        weights, experts = shares.topk(top_k, dim=-1)
        total = weights.sum() if divided == "by everything" else weights.sum(dim=-1, keepdim=True)
        if divided == "always" or (renormalise and divided != "never"):
            weights = weights / total
        return Routing(logits, experts, weights if width == "left in float32" else weights.to(logits.dtype))

    return mistaken


MISTAKES = {
    "over tokens": "the softmax runs over the tokens. Each token has its own distribution, over experts: dim=-1.",
    "the model's": "the softmax is taken in the model's dtype. In bfloat16 many experts tie; take it in float32, and "
    "cast at the end.",
    "left in float32": "the weights stay in float32. They multiply the experts' outputs and need the model's dtype.",
    "never": "the weights are never renormalised. With renormalise=True the weights of a token sum to one.",
    "always": "the weights sum to one even with renormalise=False, as they do when the softmax sees only the chosen "
    "experts, or when you always divide. Without the division they keep the size of what was chosen.",
    "by everything": "the weights of all tokens together sum to one. Each token's own should: sum over slots, dim=-1 "
    "with keepdim=True.",
}


def variants() -> dict[str, tuple[Callable[..., Routing], str]]:
    """Every mixture of these mistakes: a first try often has two."""
    found = {}
    for over, width, divided in product(
        ("experts", "over tokens"),
        ("float32", "the model's", "left in float32"),
        ("if asked", "never", "always", "by everything"),
    ):
        made = [mistake for mistake in (over, width, divided) if mistake in MISTAKES]
        if made:
            found[", ".join(made)] = (
                variant(over, width, divided),
                "\n  Also: ".join(MISTAKES[mistake] for mistake in made),
            )
    return found


def logits_as_weights(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    weights, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights)


def sorted_by_number(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    _, experts, weights = route(logits, top_k, renormalise)
    order = experts.argsort(dim=-1)
    return Routing(logits, experts.gather(-1, order), weights.gather(-1, order))


def top_of_the_batch(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """One set for all tokens: the experts with the largest mass over the batch."""
    shares = logits.softmax(dim=-1, dtype=torch.float32)
    experts = reduce(shares, "token expert -> expert", "sum").topk(top_k).indices
    experts = repeat(experts, "slot -> token slot", token=len(logits))
    weights = shares.gather(-1, experts)
    weights = weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights
    return Routing(logits, experts, weights.to(logits.dtype))


def renormalised_after_the_cast(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    weights, experts = logits.softmax(dim=-1, dtype=torch.float32).topk(top_k, dim=-1)
    weights = weights.to(logits.dtype)
    return Routing(logits, experts, weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights)


def softmax_twice(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    weights, experts = logits.softmax(dim=-1, dtype=torch.float32).topk(top_k, dim=-1)
    return Routing(logits, experts, (weights.softmax(dim=-1) if renormalise else weights).to(logits.dtype))


def the_least_likely(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    shares = logits.softmax(dim=-1, dtype=torch.float32)
    weights, experts = shares.topk(top_k, dim=-1, largest=False)
    weights = weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights
    return Routing(logits, experts, weights.to(logits.dtype))


def sorted_without_weights(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    _, experts, weights = route(logits, top_k, renormalise)
    return Routing(logits, experts.sort(dim=-1).values, weights)


def by_sigmoid(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    weights, experts = logits.float().sigmoid().topk(top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights
    return Routing(logits, experts, weights.to(logits.dtype))


def by_sigmoid_in_the_models_dtype(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    weights, experts = logits.sigmoid().topk(top_k, dim=-1)
    return Routing(logits, experts, weights / weights.sum(dim=-1, keepdim=True) if renormalise else weights)


def probabilities_for_logits(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    _, experts, weights = route(logits, top_k, renormalise)
    return Routing(logits.float().softmax(dim=-1).to(logits.dtype), experts, weights)


def shifted_logits(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return logits - logits.amax(dim=-1, keepdim=True)


def from_the_second_rank(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return logits.argsort(dim=-1, descending=True)[:, 1 : top_k + 1]


def without_the_last_slot(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return route(logits, top_k, renormalise).experts[:, :-1]


def without_the_first_slot(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return route(logits, top_k, renormalise).experts[:, 1:]


def chosen_along_the_tokens(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return logits.softmax(dim=-1, dtype=torch.float32).topk(top_k, dim=0).indices


def best_of_each_group(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    """The experts in `top_k` groups of neighbours, the best one of each."""
    size = logits.shape[-1] // top_k
    groups = rearrange(logits[:, : size * top_k], "token (slot expert) -> token slot expert", slot=top_k)
    return groups.argmax(dim=-1) + size * torch.arange(top_k)


def logarithms(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return shares_of_chosen(logits, top_k, renormalise).log()


def divided_logarithms(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    found = logarithms(logits, top_k, renormalise)
    return found / found.sum(dim=-1, keepdim=True) if renormalise else found


def even_weights(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return torch.full((len(logits), top_k), 1 / top_k, dtype=logits.dtype)


def in_all_columns(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    """The weights as a row with a column for each expert, 0 for those that were not chosen."""
    _, experts, weights = route(logits, top_k, renormalise)
    return torch.zeros_like(logits).scatter(-1, experts, weights)


def for_the_other_flag(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return route(logits, top_k, not renormalise).weights


def divided_by(total: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The weights, divided by something else than the sum of each token's."""

    def weights(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
        shares = logits.softmax(dim=-1, dtype=torch.float32).topk(top_k, dim=-1).values
        return (shares / total(shares) if renormalise else shares).to(logits.dtype)

    return weights


def of_all_tokens(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    """One softmax over tokens and experts together."""
    flat = rearrange(logits, "token expert -> (token expert)").softmax(dim=0, dtype=torch.float32)
    shares = rearrange(flat, "(token expert) -> token expert", token=len(logits)).topk(top_k, dim=-1).values
    return (shares / shares.sum(dim=-1, keepdim=True) if renormalise else shares).to(logits.dtype)


def exponentials(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    powers = scores_of_chosen(logits, top_k, renormalise).float().exp()
    return (powers / powers.sum(dim=-1, keepdim=True) if renormalise else powers).to(logits.dtype)


def of_scaled_logits(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return route(logits / math.sqrt(logits.shape[-1]), top_k, renormalise).weights


def scores_of_chosen(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return logits.topk(top_k, dim=-1).values


def shares_of_chosen(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return route(logits, top_k, False).weights


def renormalised_shares(logits: Tensor, top_k: int, renormalise: bool) -> Tensor:
    return route(logits, top_k, True).weights


# Correct solutions in other styles ------------------------------------------------------------------------------------


def by_sorting(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    order = logits.argsort(dim=-1, descending=True)[:, :top_k]
    shares = logits.double().softmax(dim=-1).gather(-1, order)
    return Routing(logits, order, (shares / shares.sum(-1, keepdim=True) if renormalise else shares).to(logits.dtype))


def by_exponentials(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """The softmax of the chosen ones is the renormalised softmax of all: the same in algebra."""
    best, experts = logits.float().topk(top_k, dim=-1)
    powers = best.exp()
    total = powers.sum(-1, keepdim=True) if renormalise else logits.float().exp().sum(-1, keepdim=True)
    return Routing(logits, experts, (powers / total).to(logits.dtype))


def by_pieces(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """Token by token, with torch inside: slow, and right."""
    rows = [route(row[None], top_k, renormalise) for row in logits]
    return Routing(logits, torch.cat([row.experts for row in rows]), torch.cat([row.weights for row in rows]))


def strided(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """Works on the transposed scores, so that its results are not contiguous in memory."""
    shares = rearrange(logits, "token expert -> expert token").float().softmax(dim=0)
    weights, experts = shares.topk(top_k, dim=0)
    weights = weights / weights.sum(dim=0) if renormalise else weights
    experts, weights = (rearrange(part, "slot token -> token slot") for part in (experts, weights))
    return Routing(logits, experts, weights.to(logits.dtype))


TENTHS = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.5, 0.05, 0.15, 0.3]]).log()  # logits whose softmax is these numbers

EXERCISES = (
    Exercise(
        id="06.1",
        title="Fill in the router",
        kind="fill in",
        minutes=12,
        difficulty=2,
        hints=(
            "Four verbs, in this order: score (done for you: the logits), normalise, choose, renormalise.",
            "(token, expert) logits -> (token, expert) probabilities -> (token, slot) weights and experts: `topk` "
            "returns both. The softmax runs over experts and in float32; the result goes back to the logits' dtype.",
            "probabilities = softmax of the logits over the last axis in float32; weights, experts = "
            "probabilities.topk(top_k, dim=-1); if renormalise: divide weights by their sum over slots, kept as an "
            "axis of length one; return Routing(logits, experts, weights in the logits' dtype).",
        ),
        now_you_know="the only part of the model that chooses is a softmax, a top-k and one division.",
        parts={
            "the logits": lambda routing: routing[0],
            "the experts": lambda routing: routing[1],
            "the weights": lambda routing: routing[2],
        },
        stages=(
            Stage(
                "the logits",
                shifted_logits,
                "have lost their largest value, subtracted in each row; return them as they came, and work on a copy",
            ),
            Stage("the experts", from_the_second_rank, "are those of ranks 2 to top_k + 1; the best one is left out"),
            Stage("the experts", without_the_last_slot, "are one too few: the last slot is missing"),
            Stage("the experts", without_the_first_slot, "are one too few: the first slot is missing"),
            Stage(
                "the experts",
                chosen_along_the_tokens,
                "are numbers of tokens: topk runs over axis 0; each token chooses among its experts, dim=-1",
            ),
            Stage(
                "the experts",
                best_of_each_group,
                "are the best of each group of neighbours; the best may be in one group, so compare all of them",
            ),
            Stage("the weights", scores_of_chosen, "are the scores of the chosen experts, before the softmax"),
            Stage("the weights", shares_of_chosen, "are those before renormalising"),
            Stage("the weights", renormalised_shares, "are those after renormalising"),
            Stage("the weights", for_the_other_flag, "are those for the opposite of `renormalise`"),
            Stage("the weights", logarithms, "are the logarithms of the probabilities"),
            Stage("the weights", divided_logarithms, "are computed from the logarithms of the probabilities"),
            Stage("the weights", even_weights, "are 1 / top_k for each slot, whatever the scores say"),
            Stage("the weights", in_all_columns, "have a column for every expert; keep the chosen ones, one in a slot"),
            Stage(
                "the weights",
                divided_by(lambda shares: shares.amax(dim=-1, keepdim=True)),
                "are divided by the largest of each token; divide by their sum",
            ),
            Stage(
                "the weights",
                divided_by(lambda shares: shares.norm(dim=-1, keepdim=True)),
                "are divided by the root of the sum of their squares; divide by their sum",
            ),
            Stage(
                "the weights",
                of_all_tokens,
                "are shares of one softmax over all tokens; each token has a softmax of its own",
            ),
            Stage("the weights", exponentials, "are exponentials of the scores that no sum over all experts divides"),
            Stage(
                "the weights",
                of_scaled_logits,
                "are those of logits divided by the root of the number of experts; the router does not scale",
            ),
        ),
        teaches=route,
        oracle=route_by_loops,
        cases=(
            Case(
                "two tokens, four experts, worked out by hand, renormalised",
                (TENTHS, 2, True),
                Routing(TENTHS, torch.tensor([[1, 3], [0, 3]]), torch.tensor([[4 / 7, 3 / 7], [5 / 8, 3 / 8]])),
            ),
            Case(
                "the same without renormalising: the weights are the probabilities themselves",
                (TENTHS, 2, False),
                Routing(TENTHS, torch.tensor([[1, 3], [0, 3]]), torch.tensor([[0.4, 0.3], [0.5, 0.3]])),
            ),
            Case("random scores, renormalised", draw(5, 7, 3, True)),
            Case("random scores, not renormalised", draw(6, 11, 4, False)),
            Case("one expert for each token", draw(3, 5, 1, True)),
            Case("one token alone, as while generating", draw(1, 9, 4, True)),
            Case("all experts for each token", draw(2, 5, 5, False)),
            Case("scores in bfloat16 that lie close together", close_scores_in_bfloat16),
            Case("scores in bfloat16, equal to the bit", plain_bfloat16, tolerance=0),
        ),
        mutants=variants()
        | {
            "logits as weights": (
                logits_as_weights,
                "the weights are the logits themselves. Logits may be negative; a softmax makes shares of them.",
            ),
            "sorted by number": (
                sorted_by_number,
                "the experts of a token are sorted by their number. Slots go by falling weight, as topk returns them.",
            ),
            "top-k over the batch": (
                top_of_the_batch,
                "all tokens get the same experts, chosen for the batch as a whole. Each token chooses for itself: "
                "top-k over experts, dim=-1.",
            ),
            "renormalised after the cast": (
                renormalised_after_the_cast,
                "the weights were cast to the model's dtype before they were divided, so that they are rounded twice. "
                "Divide in float32, and cast at the very end.",
            ),
            "softmax twice": (
                softmax_twice,
                "the chosen probabilities went through a second softmax. They are shares already: divide by their sum.",
            ),
            "the least likely": (the_least_likely, "it chooses the experts with the smallest scores."),
            "probabilities in the place of logits": (
                probabilities_for_logits,
                "Routing.logits holds probabilities. Return the logits as they came; a loss and a trace need them.",
            ),
            "experts sorted, weights not": (
                sorted_without_weights,
                "the experts are sorted by their number and the weights are not, so they no longer belong together.",
            ),
            "sigmoid": (
                by_sigmoid,
                "the scores are sigmoids, each on its own. Here a softmax over all experts makes them shares of one.",
            ),
            "sigmoid in the model's dtype": (
                by_sigmoid_in_the_models_dtype,
                "the scores are sigmoids, each on its own. Here a softmax over all experts makes them shares of one. "
                "And take it in float32: in bfloat16 many experts tie.",
            ),
        },
        accepted={
            "sorts, in float64": by_sorting,
            "exponentials by hand": by_exponentials,
            "token by token": by_pieces,
            "along the other axis": strided,
        },
    ),
)
