"""Chapter 12, which experts: three ways to ablate an expert (12.8)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.course.exercises.ch06_route import TENTHS
from minimoe.model.router import Routing, route
from minimoe.routing.ablation.intervention import change_routing

MODES = ("mask", "drop", "drop_renormalise")


class Choice(NamedTuple):
    """A routing without its logits, the slots of each token sorted by expert, since their order does not matter."""

    experts: Tensor  # (token, slot)
    weights: Tensor  # (token, slot)


def without_by_loops(logits: Tensor, top_k: int, expert: int, mode: str) -> Choice:
    """One token after another, in double precision."""
    rows = []
    for shares in logits.double().softmax(dim=-1).tolist():
        there = [e for e in range(len(shares)) if mode != "mask" or e != expert]
        best = sorted(sorted(there, key=lambda e: -shares[e])[:top_k])
        total = sum(shares[e] for e in best if mode != "drop_renormalise" or e != expert)
        rows.append((best, [0.0 if e == expert else shares[e] / total for e in best]))
    experts, weights = zip(*rows, strict=True)
    return Choice(torch.tensor(experts), torch.tensor(weights, dtype=torch.float64).to(logits.dtype))


def sorted_slots(answer: Any) -> Any:
    """The answer with its Routing as a Choice."""
    if not callable(answer):
        return answer

    def choice(logits: Tensor, top_k: int, expert: int, mode: str) -> Any:
        given = answer(logits, top_k, expert, mode)
        if not isinstance(given, tuple) or len(given) != 3:
            return given
        _, experts, weights = given
        tensors = isinstance(experts, Tensor) and isinstance(weights, Tensor)
        if not tensors or experts.shape != weights.shape or experts.is_floating_point() or not experts.dim():
            return Choice(experts, weights)
        order = experts.argsort(dim=-1)
        return Choice(experts.gather(-1, order), weights.gather(-1, order))

    return choice


def without(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    """Masks before, or zeroes after."""
    if mode == "mask":
        others = logits.clone()
        others[:, expert] = -torch.inf
        return Routing(logits, *route(others, top_k, True)[1:])
    _, experts, weights = route(logits, top_k, True)
    weights = weights.masked_fill(experts == expert, 0.0)
    if mode == "drop_renormalise":
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights)


def without_by_probabilities(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    """One softmax for all modes; sorted at the end."""
    shares = logits.softmax(dim=-1, dtype=torch.float32)
    gone = F.one_hot(torch.tensor(expert), logits.shape[-1]).bool()
    held, experts = (shares.masked_fill(gone, 0.0) if mode == "mask" else shares).topk(top_k, dim=-1)
    left = torch.where(experts == expert, 0.0, held)
    weights = left / (held if mode == "drop" else left).sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights.to(logits.dtype))


def without_by_one_more(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    """Asks for one more, and leaves the expert or the last one out."""
    if mode != "mask":
        return without(logits, top_k, expert, mode)
    held, experts = logits.softmax(dim=-1, dtype=torch.float32).topk(top_k + 1, dim=-1)
    rows = [(experts[token] != expert).nonzero().flatten()[:top_k] for token in range(len(logits))]
    keep = torch.stack(rows)
    held, experts = held.gather(-1, keep), experts.gather(-1, keep)
    return Routing(logits, experts, (held / held.sum(dim=-1, keepdim=True)).to(logits.dtype))


def always(mode: str) -> Callable[[Tensor, int, int, str], Routing]:
    """One mode, whichever is asked for."""
    return lambda logits, top_k, expert, _: without(logits, top_k, expert, mode)


def one_for_another(mode: str, done: str) -> Callable[[Tensor, int, int, str], Routing]:
    """One mode does what another one should."""
    return lambda logits, top_k, expert, asked: without(logits, top_k, expert, done if asked == mode else asked)


def traded(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    other = {"drop": "drop_renormalise", "drop_renormalise": "drop"}.get(mode, mode)
    return without(logits, top_k, expert, other)


def zero_for_a_mask(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    if mode != "mask":
        return without(logits, top_k, expert, mode)
    others = logits.clone()
    others[:, expert] = 0.0
    return Routing(logits, *route(others, top_k, True)[1:])


def next_with_the_old_weight(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    """The ninth comes, and takes over what the missing one had."""
    if mode != "mask":
        return without(logits, top_k, expert, mode)
    _, experts, weights = route(logits, top_k, True)
    following = logits.topk(top_k + 1, dim=-1).indices[:, -1:]
    return Routing(logits, torch.where(experts == expert, following, experts), weights)


def from_everybody(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    """Drops the last slot of tokens that never selected the expert, too."""
    routing = without(logits, top_k, expert, mode)
    if mode == "mask":
        return routing
    _, experts, weights = route(logits, top_k, True)
    here = experts == expert
    here[~here.any(dim=-1), -1] = True
    weights = weights.masked_fill(here, 0.0)
    return Routing(logits, experts, weights / weights.sum(-1, keepdim=True) if mode == "drop_renormalise" else weights)


def first_slot(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    """Takes the expert's place for slot 0."""
    if mode == "mask":
        return without(logits, top_k, expert, mode)
    _, experts, weights = route(logits, top_k, True)
    weights[(experts == expert).any(dim=-1), 0] = 0.0
    return Routing(logits, experts, weights / weights.sum(-1, keepdim=True) if mode == "drop_renormalise" else weights)


def not_renormalised(modes: tuple[str, ...]) -> Callable[[Tensor, int, int, str], Routing]:
    """In these modes the weights are the probabilities as the softmax gives them."""

    def mistaken(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
        if mode not in modes:
            return without(logits, top_k, expert, mode)
        scores = logits.index_fill(-1, torch.tensor(expert), -torch.inf) if mode == "mask" else logits
        weights, experts = scores.softmax(dim=-1).topk(top_k, dim=-1)
        return Routing(logits, experts, weights.masked_fill(experts == expert, 0.0))

    return mistaken


def masked_too_late(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    return without(logits, top_k, expert, "drop" if mode == "drop" else "drop_renormalise")


def emptied(column: Callable[[int, int], int]) -> Callable[[Tensor, int, int, str], Routing]:
    """Empties a slot by its place, column(expert, top_k), whoever is in it."""

    def mistaken(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
        if mode == "mask":
            return without(logits, top_k, expert, mode)
        _, experts, weights = route(logits, top_k, True)
        weights = weights.clone()
        weights[:, column(expert, top_k)] = 0.0
        weights = weights / weights.sum(dim=-1, keepdim=True) if mode == "drop_renormalise" else weights
        return Routing(logits, experts, weights)

    return mistaken


def over_tokens(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    if mode != "drop_renormalise":
        return without(logits, top_k, expert, mode)
    routing = without(logits, top_k, expert, "drop")
    return routing._replace(weights=routing.weights / routing.weights.sum(dim=0, keepdim=True))


def exchanged(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    routing = without(logits, top_k, expert, mode)
    return Routing(routing.logits, routing.weights, routing.experts)


def without_names(logits: Tensor, top_k: int, expert: int, mode: str) -> tuple[Tensor, ...]:
    return tuple(without(logits, top_k, expert, mode))


def without_logits(logits: Tensor, top_k: int, expert: int, mode: str) -> Any:
    return without(logits, top_k, expert, mode)._replace(logits=None)  # type: ignore[arg-type]


def with_masked_logits(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    routing = without(logits, top_k, expert, mode)
    masked = logits.index_fill(-1, torch.tensor(expert), -torch.inf)
    return routing._replace(logits=masked if mode == "mask" else logits)


def left_in_float32(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    return without(logits.float(), top_k, expert, mode)._replace(logits=logits)


def in_their_own_dtype(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    """The softmax in the dtype of the logits, in which close scores tie."""
    scores = logits.index_fill(-1, torch.tensor(expert), -torch.inf) if mode == "mask" else logits
    weights, experts = scores.softmax(dim=-1).topk(top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    if mode != "mask":
        weights = weights.masked_fill(experts == expert, 0.0)
    if mode == "drop_renormalise":
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights)


def breaks_a_promise(answer: Any) -> str | None:
    """A complaint if the result is not a Routing, has other logits than those that came, or weights of another "
    "dtype."""
    for mode in MODES:
        logits, top_k, expert, _ = draw_close(3, 6, 2, 1, mode)(torch.Generator().manual_seed(0))
        try:
            given = answer(logits.clone(), top_k, expert, mode)
        except Exception:  # which the cases report
            return None
        if type(given) is tuple and len(given) == 3:
            return "the result is a tuple without names; the model takes its parts by name: return a Routing"
        returned = getattr(given, "logits", None)
        if not isinstance(returned, Tensor):
            return f"the logits of the result are {returned}, expected those that came in"
        if not torch.equal(returned, logits):
            return f'with "{mode}", the logits of the result are not those that came in'
    return None


def softmax_before(logits: Tensor, top_k: int, expert: int, mode: str) -> Tensor:
    """(token, slot): the weights before renormalising, sorted by expert."""
    return sorted_slots(not_renormalised(MODES))(logits, top_k, expert, mode).weights


def draw_close(token: int, expert: int, top_k: int, without_expert: int, mode: str) -> Arguments:
    """bfloat16 logits without ties, so close that a softmax in bfloat16 makes them tie."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int, int, str]:
        orders = torch.stack([torch.randperm(expert, generator=generator) for _ in range(token)])
        return (2**-4 + orders * 2**-11).bfloat16(), top_k, without_expert, mode

    return arguments


def draw(token: int, expert: int, top_k: int, without_expert: int, mode: str) -> Arguments:
    """Random logits (token, expert) without ties, some of them negative."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int, int, str]:
        orders = [torch.randperm(expert, generator=generator) for _ in range(token)]
        return 4 * torch.stack(orders) / expert - 3, top_k, without_expert, mode

    return arguments


HAND = {  # without expert 1, for the logits TENTHS
    "mask": Choice(torch.tensor([[2, 3], [0, 3]]), torch.tensor([[0.4, 0.6], [5 / 8, 3 / 8]])),
    "drop": Choice(torch.tensor([[1, 3], [0, 3]]), torch.tensor([[0.0, 3 / 7], [5 / 8, 3 / 8]])),
    "drop_renormalise": Choice(torch.tensor([[1, 3], [0, 3]]), torch.tensor([[0.0, 1.0], [5 / 8, 3 / 8]])),
}
BEST = torch.tensor([[1.0, 3.0, 2.0, 0.0], [0.0, 3.0, 1.0, 2.0]])  # expert 1 is the best for both tokens
INSTEAD = {
    ("mask", "drop"): "the slot is only emptied. The next expert should take its place.",
    ("drop", "mask"): "another expert takes the place. None should: the slot stays, with weight 0.",
    ("drop", "drop_renormalise"): "the other weights are divided by their sum. They should stay as they are.",
    ("drop_renormalise", "mask"): "another expert takes the place. None should: the other weights are divided by "
    "their sum.",
    ("drop_renormalise", "drop"): "the other weights stay as they are. They should be divided by their sum.",
}  # (the mode, what it does): what is wrong with it

EXERCISES = (
    Exercise(
        id="12.8",
        title="Ablate: three ways to do without an expert",
        kind="ablate",
        minutes=20,
        difficulty=3,
        hints=(
            "Before or after the selection? A mask works on the logits; both kinds of dropping work on the weights.",
            "Mask: set the logits of that expert to -inf in a copy, then use the library's route. Drop: route first, "
            "then set weights (token, slot) to 0 where experts (token, slot) == expert. Only some tokens have it.",
            'if mode == "mask": others = logits.clone(); others[:, expert] = -torch.inf; return route(others, top_k, '
            "True)._replace(logits=logits). Otherwise route, weights.masked_fill(experts == expert, 0.0), and for "
            '"drop_renormalise" divide by weights.sum(dim=-1, keepdim=True).',
        ),
        now_you_know='"without it" can mean three things: another expert answers, none does, or the rest weigh more.',
        teaches=change_routing,
        prepare=sorted_slots,
        also=breaks_a_promise,
        stages=(Stage("weights", softmax_before, "are those of the softmax, before renormalising"),),
        oracle=without_by_loops,
        cases=(
            *(
                Case(
                    f"two tokens, four experts, two slots, without expert 1, by hand: {mode}",
                    (TENTHS, 2, 1, mode),
                    HAND[mode],
                )
                for mode in MODES
            ),
            *(Case(f"random scores: {mode}", draw(9, 7, 3, 4, mode)) for mode in MODES),
            *(Case(f"every token selected the expert: {mode}", (BEST, 2, 1, mode)) for mode in MODES),
            *(Case(f"close scores in bfloat16, no ties: {mode}", draw_close(4, 12, 3, 4, mode)) for mode in MODES),
        ),
        mutants={
            "always a mask": (
                always("mask"),
                "another expert takes the place in every mode. With both kinds of dropping none does: the slot stays, "
                "with weight 0.",
            ),
            "always dropped": (
                always("drop"),
                "the weight becomes 0 in every mode. With a mask the next expert in the ranking answers.",
            ),
            "the two drops traded": (
                traded,
                'the two kinds of dropping are exchanged: "drop" keeps the weights of the others as they are, and '
                '"drop_renormalise" divides them by their sum.',
            ),
            "zero for a mask": (
                zero_for_a_mask,
                "the expert's logit is set to 0, which is more than a negative score, so the expert may still be "
                "selected. Minus infinity never is.",
            ),
            "the next with the old weight": (
                next_with_the_old_weight,
                "the next expert takes over the weight of the missing one. It has its own probability, and the weights "
                "are renormalised after the selection.",
            ),
            "from everybody": (
                from_everybody,
                "tokens that never selected the expert lose a slot too. They should stay exactly as they were.",
            ),
            "masked too late": (
                masked_too_late,
                "the mask comes after the selection, so no other expert takes the place. Mask the logits before the "
                "top-k.",
            ),
            "never renormalised": (
                not_renormalised(MODES),
                "the weights of a token are never renormalised. The library's weights sum to one before anything is "
                "dropped.",
            ),
            "drop from the softmax": (
                not_renormalised(("drop",)),
                '"drop" starts from weights that do not sum to one. Route as the library does, then set one to 0.',
            ),
            "the slot of that number": (
                emptied(lambda expert, top_k: expert % top_k),
                "the expert's number is taken for a slot. The expert is where experts == expert.",
            ),
            "the last slot": (
                emptied(lambda expert, top_k: top_k - 1),
                "the last slot is emptied for every token. The expert may be in another slot, or in none.",
            ),
            "over tokens": (
                over_tokens,
                "the weights are divided by a sum over tokens. Each token's own weights should sum to one, over its "
                "slots (dim=-1).",
            ),
            **{
                f"{mode} does {done}": (one_for_another(mode, done), f'with "{mode}", {says}')
                for (mode, done), says in INSTEAD.items()
            },
            "the mask is not renormalised": (
                not_renormalised(("mask",)),
                'with "mask", the weights are not renormalised: they do not sum to one.',
            ),
            "exchanged": (
                exchanged,
                "the experts and the weights are exchanged. The order is logits, experts, weights.",
            ),
            "without names": (
                without_names,
                "the numbers are right, but the tuple has no names. Return Routing(logits, experts, weights).",
            ),
            "without logits": (
                without_logits,
                "the numbers are right, but the first field, logits, is missing. Return the logits as they came.",
            ),
            "with masked logits": (
                with_masked_logits,
                "the numbers are right, but the logits are the masked ones. Return the logits as they came.",
            ),
            "left in float32": (
                left_in_float32,
                "the weights stay in float32. Cast them to the dtype of the logits at the end.",
            ),
            "in their own dtype": (
                in_their_own_dtype,
                "the softmax is computed in the dtype of the logits. In bfloat16 close scores tie, and the wrong "
                "experts are selected; compute it in float32.",
            ),
            "the first slot": (
                first_slot,
                "slot 0 is emptied, whichever expert is there. The expert is where experts == expert.",
            ),
        },
        accepted={
            "before or after": without,
            "one softmax": without_by_probabilities,
            "one more": without_by_one_more,
        },
    ),
)
