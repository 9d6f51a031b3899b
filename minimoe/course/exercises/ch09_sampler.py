"""Chapter 09, generation: the probabilities of a draw (09.3) and the filter top-p (09.4)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage

# 09.3 the sampler -----------------------------------------------------------------------------------------------------

Sampler = Callable[[Tensor, float, int, float], Tensor]


def chances_by_hand(logits: Tensor, temperature: float, top_k: int, min_p: float) -> Tensor:
    """With lists: sort, cut, cut again, divide by what is left."""
    scores = [float(score) for score in logits]
    best = max(range(len(scores)), key=lambda token: scores[token])
    if temperature == 0:
        return torch.tensor([float(token == best) for token in range(len(scores))])
    heights = [math.exp((score - scores[best]) / temperature) for score in scores]
    if top_k:
        last = sorted(heights, reverse=True)[min(top_k, len(heights)) - 1]
        heights = [height if height >= last else 0.0 for height in heights]
    heights = [height if height >= min_p * max(heights) else 0.0 for height in heights]
    return torch.tensor([height / sum(heights) for height in heights])


def chances(
    logits: Tensor, temperature: float, top_k: int, min_p: float, *, k_more: int = 0, smallest: bool = False,
    hidden: float = -torch.inf, absolute: bool = False, late: bool = True, again: bool = True, strict: bool = False,
) -> Tensor:  # fmt: skip
    """The probabilities of a draw, with one bug or another."""
    if temperature == 0:
        return torch.zeros_like(logits).scatter(0, logits.argmax(0, keepdim=True), 1.0)
    scaled = logits / temperature
    keep = torch.ones_like(logits, dtype=torch.bool)
    if 0 < top_k + k_more < len(logits) and top_k:
        edge = scaled.topk(top_k + k_more, largest=not smallest).values[-1]
        keep = scaled <= edge if smallest else scaled >= edge
    judged = (scaled if late else logits).softmax(0)
    threshold = min_p if absolute else min_p * judged[keep].max()
    judged = judged / judged[keep].sum() if absolute else judged
    keep = keep & (judged > threshold if strict and min_p else judged >= threshold)
    if not again:
        return scaled.softmax(0) * keep
    return scaled.masked_fill(~keep, hidden).softmax(0)


def below_the_kth(logits: Tensor, temperature: float, top_k: int, min_p: float, least: int) -> Tensor:
    """Excludes the top_k-th as well, for every top_k above `least`."""
    if not least < top_k < len(logits) or temperature == 0:
        return chances(logits, temperature, 0 if top_k == least else top_k, min_p)
    kth = logits.topk(top_k).values[-1]
    return chances(logits.masked_fill(logits <= kth, -torch.inf), temperature, 0, min_p)


def again_softmax(shares: Tensor) -> Tensor:
    """Of what is left."""
    return shares.masked_fill(shares == 0, -torch.inf).softmax(dim=0)


def draw_logits(vocab: int, *settings: float) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Any, ...]:
        return 2 * torch.randn(vocab, generator=generator), *settings

    return arguments


def with_topk(logits: Tensor, temperature: float, top_k: int, min_p: float) -> Tensor:
    """Scatter the k likeliest back, then cut in probabilities."""
    if not temperature:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).float()
    best = (logits.double() / temperature).topk(min(top_k, len(logits)) or len(logits))
    shares = best.values.softmax(0)
    shares = torch.where(shares >= min_p * shares[0], shares, 0)
    return torch.zeros(len(logits)).index_put((best.indices,), (shares / shares.sum()).float())


def with_logs(logits: Tensor, temperature: float, top_k: int, min_p: float) -> Tensor:
    """As the library does: -inf, and min-p as a distance of logits."""
    if temperature == 0:
        return (torch.arange(len(logits)) == logits.argmax()).float()
    logits = logits / temperature
    if top_k and top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], -torch.inf)
    if min_p > 0:
        logits = logits.masked_fill(logits < logits.max() + math.log(min_p), -torch.inf)
    return logits.softmax(dim=-1)


# 09.4 bug hunt: top-p -------------------------------------------------------------------------------------------------


def suspicious(probabilities: Tensor, top_p: float) -> Tensor:
    """The code on the page."""
    ordered, order = probabilities.sort(descending=True)
    kept = ordered.cumsum(dim=0) <= top_p
    return torch.zeros_like(kept).scatter(0, order, kept)


def kept_by_hand(probabilities: Tensor, top_p: float) -> Tensor:
    """Take the likeliest that is left, until their sum reaches top_p."""
    kept, total = torch.zeros(len(probabilities), dtype=torch.bool), 0.0
    while total < top_p and not kept.all():
        best = max((float(share), -token) for token, share in enumerate(probabilities) if not kept[token])
        kept[-best[1]] = True
        total += best[0]
    return kept


def nucleus(
    probabilities: Tensor, top_p: float, *, descending: bool = True, at_least_one: bool = False, before: bool = True,
    strict: bool = True, back: bool = True,
) -> Tensor:  # fmt: skip
    """The tokens that top-p keeps, with one bug or another."""
    ordered, order = probabilities.sort(descending=descending, stable=True)
    reached = ordered.cumsum(dim=0) - (ordered if before else 0)
    kept = reached < top_p if strict else reached <= top_p
    if at_least_one:
        kept[0] = True
    return torch.zeros_like(kept).scatter(0, order, kept) if back else kept


def draw_shares(vocab: int, top_p: float) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, float]:
        return (2 * torch.randn(vocab, generator=generator)).softmax(0), top_p

    return arguments


def by_shifting(probabilities: Tensor, top_p: float) -> Tensor:
    """The sum before each token, as a shifted cumsum; put back with the inverse order."""
    ordered, order = torch.sort(probabilities, descending=True)
    before = torch.cat((torch.zeros(1), ordered.cumsum(0)[:-1]))
    return (before < top_p)[order.argsort()]


def by_counting(probabilities: Tensor, top_p: float) -> Tensor:
    """As many of the ranking as stay below top_p, and one more."""
    ordered, order = probabilities.sort(descending=True)
    kept = torch.zeros(len(probabilities), dtype=torch.bool)
    kept[order[: int((ordered.cumsum(0) < top_p).sum()) + 1]] = True
    return kept


def with_ties_in_order(answer: Callable[[Tensor, float], Any]) -> Callable[[Tensor, float], Any]:
    """The answer, with the first of equal probabilities kept: which of them an answer keeps is its own choice."""

    def in_order(probabilities: Tensor, top_p: float) -> Any:
        kept = answer(probabilities, top_p)
        if not isinstance(kept, Tensor) or kept.dtype != torch.bool or kept.shape != probabilities.shape:
            return kept
        kept = kept.clone()
        for share in probabilities.unique():
            equal = probabilities == share
            kept[equal] = kept[equal].sort(descending=True).values
        return kept

    return in_order


def by_comparing(probabilities: Tensor, top_p: float) -> Tensor:
    """For each token, the sum of all likelier ones."""
    likelier = probabilities[None] > probabilities[:, None]
    return (likelier * probabilities).sum(dim=1) < top_p


EXERCISES = (
    Exercise(
        id="09.3",
        title="The sampler",
        kind="fill in",
        minutes=12,
        difficulty=3,
        hints=(
            "Four steps: divide, cut, cut, and let what is left sum to one. Which of them needs the softmax?",
            "logits / temperature; -inf below the top_k-th; -inf where the probability is below min_p times the "
            "largest; softmax. And temperature 0 is a case of its own.",
            "scaled = logits / temperature; scaled.masked_fill(scaled < scaled.topk(top_k).values[-1], -inf); shares = "
            "scaled.softmax(0); scaled.masked_fill(shares < min_p * shares.max(), -inf).softmax(0).",
        ),
        now_you_know="a sampler decides which bars stay and lets them sum to one; the model's order never changes.",
        oracle=chances_by_hand,
        parts={
            "the tokens that are left": lambda result: result > 0,
            "the probabilities": lambda result: result,
        },
        cases=(
            Case(
                "no setting changes anything",
                (torch.tensor([0.0, math.log(3.0)]), 1.0, 0, 0.0),
                torch.tensor([0.25, 0.75]),
            ),
            Case(
                "temperature ½: every ratio is squared",
                (torch.tensor([0.0, math.log(3.0)]), 0.5, 0, 0.0),
                torch.tensor([0.1, 0.9]),
            ),
            Case("the two likeliest of six", draw_logits(6, 1.0, 2, 0.0)),
            Case("min-p alone", draw_logits(30, 1.0, 0, 0.2)),
            Case("min-p at temperature 2", draw_logits(40, 2.0, 0, 0.2)),
            Case("everything", draw_logits(50, 0.7, 20, 0.05)),
            Case("temperature 0 takes the likeliest", draw_logits(9, 0.0, 0, 0.0)),
            Case("more than there are", draw_logits(5, 1.5, 40, 0.0)),
            Case("top-k 1", draw_logits(12, 1.3, 1, 0.0)),
            Case(
                "min-p 1 keeps what equals the likeliest",
                (torch.tensor([1.0, 2.0, 0.0, 2.0]), 1.0, 0, 1.0),
                torch.tensor([0.0, 0.5, 0.0, 0.5]),
            ),
        ),
        mutants={
            "multiplied": (
                lambda logits, temperature, top_k, min_p: chances(
                    logits, 1 / temperature if temperature else 0, top_k, min_p
                ),
                "the logits are multiplied by the temperature. A high temperature should make the bars more even.",
            ),
            "no temperature": (
                lambda logits, temperature, top_k, min_p: chances(logits, 1.0 if temperature else 0, top_k, min_p),
                "the temperature isn't used, except for 0.",
            ),
            "probabilities divided": (
                lambda logits, temperature, top_k, min_p: chances(
                    (logits.softmax(0) if temperature else logits), temperature, top_k, min_p
                ),
                "the softmax comes before the temperature, and once more after it. Divide the *logits*.",
            ),
            "not summing to one": (
                lambda logits, temperature, top_k, min_p: chances(logits, temperature, top_k, min_p, again=False),
                "what is left doesn't sum to one: the excluded tokens still have their part of the softmax.",
            ),
            "excluded at zero": (
                lambda logits, temperature, top_k, min_p: chances(logits, temperature, top_k, min_p, hidden=0.0),
                "excluded logits are set to 0, which the softmax gives a weight. Set them to -inf.",
            ),
            "one too many": (
                lambda logits, temperature, top_k, min_p: chances(logits, temperature, top_k, min_p, k_more=1),
                "top-k keeps one token too many.",
            ),
            "the least likely": (
                lambda logits, temperature, top_k, min_p: chances(logits, temperature, top_k, min_p, smallest=True),
                "top-k keeps the *least* likely tokens.",
            ),
            "min-p as it is": (
                lambda logits, temperature, top_k, min_p: chances(logits, temperature, top_k, min_p, absolute=True),
                "min-p is compared with the probabilities themselves. It is a part of the *largest* one.",
            ),
            "min-p before the temperature": (
                lambda logits, temperature, top_k, min_p: chances(logits, temperature, top_k, min_p, late=False),
                "min-p looks at the probabilities before the temperature. The temperature comes first.",
            ),
            "more than min-p": (
                lambda logits, temperature, top_k, min_p: chances(logits, temperature, top_k, min_p, strict=True),
                "what equals min-p times the largest probability is left out, with min-p 1 even the likeliest itself. "
                "Keep what has *at least* that: >=.",
            ),
            "no min-p": (
                lambda logits, temperature, top_k, min_p: chances(logits, temperature, top_k, 0.0),
                "min-p isn't used.",
            ),
            "no top-k": (
                lambda logits, temperature, top_k, min_p: chances(logits, temperature, 0, min_p),
                "top-k isn't used.",
            ),
            "uniform": (
                lambda logits, temperature, top_k, min_p: (
                    (chances(logits, temperature, top_k, min_p) > 0)
                    .float()
                    .div((chances(logits, temperature, top_k, min_p) > 0).sum())
                ),
                "all tokens that are left have the same probability. They keep their ratios.",
            ),
            "greedy always": (
                lambda logits, temperature, top_k, min_p: chances(logits, 0, top_k, min_p),
                "the likeliest token gets everything, at every temperature.",
            ),
            "min-p without the division": (
                lambda logits, temperature, top_k, min_p: (
                    chances(logits, temperature, top_k, 0.0) * (chances(logits, temperature, top_k, min_p) > 0)
                ),
                "what min-p leaves doesn't sum to one.",
            ),
            "one too few": (
                lambda logits, temperature, top_k, min_p: (
                    chances(logits, temperature, top_k, min_p, k_more=-1)
                    if top_k > 1
                    else chances(logits, temperature, top_k, min_p)
                ),
                "top-k keeps one token too few: keep what equals the top_k-th, too.",
            ),
            "one too few, down to none": (
                lambda logits, temperature, top_k, min_p: below_the_kth(logits, temperature, top_k, min_p, least=0),
                "top-k keeps one token too few, and top-k 1 none: keep what equals the top_k-th, too.",
            ),
            "one too few, but not of one": (
                lambda logits, temperature, top_k, min_p: below_the_kth(logits, temperature, top_k, min_p, least=1),
                "top-k keeps one token too few: keep what equals the top_k-th, too.",
            ),
            "nothing for temperature 0": (
                lambda logits, temperature, top_k, min_p: (
                    chances(logits, temperature, top_k, min_p) if temperature else torch.full_like(logits, torch.nan)
                ),
                "temperature 0 divides by zero, and the result is nan. It is a case of its own: the likeliest token "
                "gets everything.",
            ),
            "sorted": (
                lambda logits, temperature, top_k, min_p: (
                    chances(logits, temperature, top_k, min_p).sort(descending=True).values
                    if temperature
                    else chances(logits, temperature, top_k, min_p)
                ),
                "the probabilities are in the order of the ranking. Each belongs to the place of its token.",
            ),
            "cut to zero": (
                lambda logits, temperature, top_k, min_p: chances(
                    logits * (logits >= logits.topk(min(top_k, len(logits))).values[-1]) if top_k else logits,
                    temperature,
                    0,
                    min_p,
                ),
                "logits below the top_k-th are set to 0, which the softmax gives a weight. Set them to -inf.",
            ),
            "softmax of probabilities": (
                lambda logits, temperature, top_k, min_p: (
                    again_softmax(
                        chances(logits, temperature, top_k, 0.0) * (chances(logits, temperature, top_k, min_p) > 0)
                    )
                    if temperature
                    else chances(logits, temperature, top_k, min_p)
                ),
                "the softmax is taken twice, the second time of probabilities. Divide what is left by its sum.",
            ),
            "min-p of the logits": (
                lambda logits, temperature, top_k, min_p: chances(
                    logits.masked_fill(logits < min_p * logits.max(), -torch.inf) if min_p else logits,
                    temperature,
                    top_k,
                    0.0,
                ),
                "min-p is compared with the *logits*. It is a part of the largest probability.",
            ),
            "logarithms": (
                lambda logits, temperature, top_k, min_p: chances(logits, temperature, top_k, min_p).log(),
                "these are logarithms of probabilities.",
            ),
            "not greedy at 0": (
                lambda logits, temperature, top_k, min_p: chances(logits, temperature or 1.0, top_k, min_p),
                "temperature 0 is treated as 1. It means the likeliest token, with certainty.",
            ),
        },
        accepted={"lists": chances_by_hand, "topk and index": with_topk, "-inf and a logarithm": with_logs},
        stages=(
            Stage(
                "the probabilities",
                lambda logits, temperature, top_k, min_p: logits / (temperature or 1.0),
                "are still logits; the softmax is missing",
            ),
        ),
    ),
    Exercise(
        id="09.4",
        title="Bug hunt: top-p, off by one",
        kind="bug hunt",
        minutes=10,
        difficulty=3,
        hints=(
            "Take three tokens with 0.6, 0.3 and 0.1 and top_p = 0.7. Which should be kept, and which are?",
            "The token that takes the sum across top_p belongs to the set. So ask for the sum *before* each token.",
            "kept = ordered.cumsum(dim=0) - ordered < top_p.",
        ),
        now_you_know="top-p keeps the token that crosses the line, so that there is always one to draw.",
        oracle=kept_by_hand,
        prepare=with_ties_in_order,
        given=suspicious,
        parts={
            "the number of tokens kept": lambda kept: int(kept.sum()),
            "which tokens are kept": lambda kept: kept,
        },
        cases=(
            Case(
                "the second token crosses 0.7",
                (torch.tensor([0.1, 0.6, 0.3]), 0.7),
                torch.tensor([False, True, True]),
            ),
            Case("the first token alone is above it", (torch.tensor([0.05, 0.9, 0.05]), 0.5)),
            Case(
                "the sum reaches it exactly",
                (torch.tensor([0.125, 0.25, 0.5, 0.125]), 0.75),
                torch.tensor([False, True, True, False]),
            ),
            Case("twenty tokens", draw_shares(20, 0.9)),
            Case("a small top-p", draw_shares(50, 0.3)),
            Case("a single token", (torch.tensor([1.0]), 0.9)),
            Case(
                "two of four equal ones are enough",
                (torch.tensor([0.25, 0.25, 0.25, 0.25]), 0.5),
                torch.tensor([True, True, False, False]),
            ),
        ),
        mutants={
            "as it was": (suspicious, "this is still the function on the page, with its bug."),
            "at least one": (
                lambda probabilities, top_p: nucleus(
                    probabilities, top_p, before=False, strict=False, at_least_one=True
                ),
                "now there is always one token, but the one that crosses top_p is still missing.",
            ),
            "one too many": (
                lambda probabilities, top_p: nucleus(probabilities, top_p, strict=False),
                "where the sum reaches top_p exactly, one token too many is kept. Stop there: <, not <=.",
            ),
            "the least likely first": (
                lambda probabilities, top_p: nucleus(probabilities, top_p, descending=False),
                "the sum begins with the *least* likely token. Sort in descending order.",
            ),
            "in sorted order": (
                lambda probabilities, top_p: nucleus(probabilities, top_p, back=False),
                "the result is in the order of the ranking. Put it back in the order of the tokens.",
            ),
            "strictly below": (
                lambda probabilities, top_p: nucleus(probabilities, top_p, before=False),
                "the token that crosses top_p is still missing, and now also the one that reaches it exactly.",
            ),
            "each by itself": (
                lambda probabilities, top_p: probabilities >= 1 - top_p,
                "each probability is compared with 1 - top_p by itself. It is a *sum* that counts.",
            ),
            "from there on": (
                lambda probabilities, top_p: torch.zeros_like(probabilities, dtype=torch.bool).scatter(
                    0,
                    probabilities.sort(descending=True).indices,
                    probabilities.sort(descending=True).values.cumsum(0) >= top_p,
                ),
                "the tokens from the crossing on are kept. Keep those up to it.",
            ),
            "not sorted": (
                lambda probabilities, top_p: probabilities.cumsum(0) - probabilities < top_p,
                "the sum runs in the order of the vocabulary. It begins with the likeliest: sort first.",
            ),
            "gathered": (
                lambda probabilities, top_p: nucleus(probabilities, top_p, back=False)[
                    probabilities.sort(descending=True, stable=True).indices
                ],
                "the ranking is indexed with its own order, which doesn't put it back. Use scatter.",
            ),
            "larger than top_p": (
                lambda probabilities, top_p: probabilities >= top_p,
                "each probability is compared with top_p by itself. It is a *sum* that counts.",
            ),
            "the tail": (
                lambda probabilities, top_p: ~nucleus(probabilities, top_p),
                "True and False are swapped: these are the tokens that top-p excludes.",
            ),
            "all ties": (
                by_comparing,
                "of equal probabilities all or none are kept. The smallest number that reaches top_p may need some of "
                "them: count in the ranking.",
            ),
            "probabilities": (
                lambda probabilities, top_p: nucleus(probabilities, top_p) * probabilities,
                "these are probabilities. The exercise asks for True where a token is kept.",
            ),
            "one more": (
                lambda probabilities, top_p: (
                    nucleus(probabilities, top_p)
                    | (
                        probabilities
                        >= probabilities.sort(descending=True).values[
                            min(int(nucleus(probabilities, top_p).sum()), len(probabilities) - 1)
                        ]
                    )
                ),
                "one token too many: the one behind that which crosses top_p.",
            ),
        },
        accepted={
            "the sum before": nucleus,
            "a shifted sum": by_shifting,
            "counted": by_counting,
        },
    ),
)
