"""Chapter 12, which experts: matched tokens, permutation tests and controls (12.5 to 12.7)."""

from collections import Counter
from collections.abc import Callable
from itertools import permutations, product

import torch
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.routing.statistics import matched_tokens

# 12.5 matched tokens --------------------------------------------------------------------------------------------------


def matched_by_loops(tokens: Tensor, domains: Tensor) -> Tensor:
    """Of each token id the same number in domain 0 and in domain 1, the first ones. -> (token) bool"""
    ids, sides = tokens.tolist(), domains.tolist()
    there = Counter(zip(ids, sides, strict=True))
    left = {(token, side): min(there[token, 0], there[token, 1]) for token in set(ids) for side in (0, 1)}
    keep = []
    for token, side in zip(ids, sides, strict=True):
        keep.append(left.get((token, side), 0) > 0)
        if keep[-1]:
            left[token, side] -= 1
    return torch.tensor(keep)


def matched_by_places(tokens: Tensor, domains: Tensor) -> Tensor:
    keep = torch.zeros_like(tokens, dtype=torch.bool)
    for token in tokens.unique():
        places = [((tokens == token) & (domains == side)).nonzero().flatten() for side in (0, 1)]
        most = min(map(len, places))
        for side in places:
            keep[side[:most]] = True
    return keep


def matched_by_ranks(tokens: Tensor, domains: Tensor) -> Tensor:
    """A token stays if fewer of its kind stand before it in its domain than there are in the other one."""
    alike = tokens[:, None] == tokens
    here = alike & (domains[:, None] == domains)
    there = alike & (domains == 1 - domains[:, None])
    return (here.tril(-1).sum(dim=-1) < there.sum(dim=-1)) & (domains >= 0)


def in_both(tokens: Tensor, domains: Tensor) -> Tensor:
    """Everything whose id occurs in both domains."""
    both = [set(tokens[domains == side].tolist()) for side in (0, 1)]
    return torch.tensor([int(token) in both[0] & both[1] for token in tokens]) & (domains >= 0)


def all_of_both(tokens: Tensor, domains: Tensor) -> Tensor:
    return domains >= 0


def equal_totals(tokens: Tensor, domains: Tensor) -> Tensor:
    return matched_by_loops(torch.zeros_like(tokens), domains)


def one_of_a_kind(tokens: Tensor, domains: Tensor) -> Tensor:
    keep, seen = in_both(tokens, domains), set()
    for place, pair in enumerate(zip(tokens.tolist(), domains.tolist(), strict=True)):
        keep[place] &= pair not in seen
        seen.add(pair)
    return keep


def unknown_as_the_other(tokens: Tensor, domains: Tensor) -> Tensor:
    return matched_by_loops(tokens, (domains != 0).long())


def drawn(token: int, kinds: int, sides: tuple[int, ...] = (0, 1)) -> Arguments:
    """Random token ids and domains."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        ids = torch.randint(kinds, (token,), generator=generator)
        return ids, torch.tensor(sides)[torch.randint(len(sides), (token,), generator=generator)]

    return arguments


# 12.6 the permutation test --------------------------------------------------------------------------------------------

Orders = Callable[[int], Tensor]


def all_orders(number: int, most: int = 300) -> Tensor:
    """(draw, number): every order of `number` things, or `most` random ones where they are too many; the first is as
    it is.
    """
    if number <= 5:
        return torch.tensor(list(permutations(range(number))))
    generator = torch.Generator().manual_seed(number)
    random = [torch.randperm(number, generator=generator) for _ in range(most - 1)]
    return torch.stack([torch.arange(number), *random])


def difference_of_shares(uses: Tensor, labels: Tensor) -> float:
    """Share of uses among the tokens with label 1, minus that among those with label 0. Both (token)."""
    values = uses.double()
    return float(values[labels == 1].mean() - values[labels == 0].mean())


def p_value(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    """How often a difference at least as large comes out if the documents' labels are dealt anew."""
    observed = abs(difference_of_shares(uses, labels[documents]))
    dealt = [abs(difference_of_shares(uses, labels[order][documents])) for order in orders(len(labels))]
    return sum(one >= observed - 1e-9 for one in dealt) / len(dealt)


def p_value_by_sums(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    """Each document is summed up once; then only sums are dealt."""
    hits = torch.zeros(len(labels), dtype=torch.float64).index_add(0, documents, uses.double())
    sizes = documents.bincount(minlength=len(labels)).double()
    dealt = labels[orders(len(labels))].double()
    one, other = (((side * hits).sum(-1) / (side * sizes).sum(-1)) for side in (dealt, 1 - dealt))
    real = labels.double()
    observed = ((real * hits).sum() / (real * sizes).sum()) - ((1 - real) * hits).sum() / ((1 - real) * sizes).sum()
    return float(((one - other).abs() >= observed.abs() - 1e-9).double().mean())


def p_value_other_way(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> Tensor:
    """Deals the documents to the labels instead of the labels to the documents: the same, over all orders."""
    observed = abs(difference_of_shares(uses, labels[documents]))
    dealt = torch.tensor(
        [difference_of_shares(uses, labels[order.argsort()][documents]) for order in orders(len(labels))]
    )
    return (dealt.abs() >= observed - 1e-9).double().mean()


def over_tokens(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    each = torch.arange(len(uses))
    return p_value(uses, each, labels[documents], orders)


def one_sided(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    observed = difference_of_shares(uses, labels[documents])
    dealt = [difference_of_shares(uses, labels[order][documents]) for order in orders(len(labels))]
    return sum(one >= observed - 1e-9 for one in dealt) / len(dealt)


def larger_only(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    observed = abs(difference_of_shares(uses, labels[documents]))
    dealt = [abs(difference_of_shares(uses, labels[order][documents])) for order in orders(len(labels))]
    return sum(one > observed + 1e-9 for one in dealt) / len(dealt)


def of_document_means(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    means = torch.tensor([float(uses[documents == number].double().mean()) for number in range(len(labels))])
    return p_value(means, torch.arange(len(labels)), labels, orders)


def the_rest(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    return 1 - p_value(uses, documents, labels, orders)


def of_counts(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    """Differences of numbers instead of shares."""

    def gap(order: Tensor) -> float:
        sides = labels[order][documents]
        return abs(float(uses[sides == 1].double().sum() - uses[sides == 0].double().sum()))

    observed = gap(torch.arange(len(labels)))
    dealt = [gap(order) for order in orders(len(labels))]
    return sum(one >= observed - 1e-9 for one in dealt) / len(dealt)


def texts(lengths: tuple[int, ...], labels: tuple[int, ...]) -> Arguments:
    """Documents of these lengths, half of whose tokens are random and half alike within the document."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Orders]:
        documents = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        taste = torch.rand(len(lengths), generator=generator)[documents]
        uses = torch.rand(len(documents), generator=generator) < taste
        return uses, documents, torch.tensor(labels), all_orders

    return arguments


# 12.7 which control is missing? ---------------------------------------------------------------------------------------

# claim -> (the missing control, the common wrong answer, the misconception behind it)
CLAIMS: dict[str, tuple[str, str, str]] = {
    "expert 17 is for code in layers 0, 2 and 3": (
        "layers",
        "documents",
        "a number has no meaning across layers. Three experts were looked at that have nothing in common but a number.",
    ),
    "twice as often in code, p < 0.001 over 900 tokens of 2 files": (
        "documents",
        "matched tokens",
        "the tokens of one file are no independent witnesses. There are two files, so there are two observations.",
    ),
    "three times as often in code, so it understands code": (
        "matched tokens",
        "documents",
        "code and prose are written with other tokens. An expert for brackets comes out as an expert for code.",
    ),
    "40% of the 10 tokens 'zebra' went to one of the 128 experts": (
        "maximum",
        "random experts",
        "the best of 128 was picked after looking, and ten tokens are few. Even uniform routing gives a proud maximum.",
    ),
    "most pairs of experts have a negative PMI, so they avoid each other": (
        "fixed k",
        "documents",
        "who takes a slot leaves one fewer to the others. With k slots for all, chance itself is below zero.",
    ),
    "the loss rises by 0.004 without it, so it matters": (
        "random experts",
        "maximum",
        "any expert of the same load does something when it is missing. The question is whether it does more.",
    ),
}


def answers(wrong: tuple[bool, ...]) -> dict[str, str]:
    """The right answers, except for those claims where `wrong` is True."""
    return {claim: answer[missed] for (claim, answer), missed in zip(CLAIMS.items(), wrong, strict=True)}


def misread(wrong: tuple[bool, ...]) -> str:
    """What somebody who misses these claims has misunderstood, one sentence each."""
    told = [f"{claim}: {answer[2]}" for (claim, answer), missed in zip(CLAIMS.items(), wrong, strict=True) if missed]
    return "\n  ".join(told)


WAYS_TO_MISS = [way for way in product((False, True), repeat=len(CLAIMS)) if any(way)]

EXERCISES = (
    Exercise(
        id="12.5",
        title="Matched tokens: the same words on both sides",
        kind="fill in",
        minutes=12,
        difficulty=3,
        hints=(
            "For each token id by itself: how many of it may stay on each side?",
            "tokens and domains are (token), the answer a mask (token) bool. Of an id with 5 in domain 0 and 2 in "
            "domain 1, the first 2 of each side stay; of an id with 5 and 0, none.",
            "for token in tokens.unique(): places = [((tokens == token) & (domains == side)).nonzero().flatten() for "
            "side in (0, 1)]; most = min(map(len, places)); set the mask to True at the first `most` of both.",
        ),
        now_you_know="after matching, both sides hold the same words, so that what still differs is context.",
        teaches=matched_tokens,
        oracle=matched_by_loops,
        cases=(
            Case(
                "id 7 twice here and once there, id 8 on one side only, by hand",
                (torch.tensor([7, 8, 7, 7]), torch.tensor([0, 0, 0, 1])),
                torch.tensor([True, False, False, True]),
            ),
            Case("random tokens of two domains", drawn(12, 3)),
            Case("tokens of no known domain (-1) never stay", drawn(20, 4, (0, 1, -1))),
            Case("nothing in common", (torch.tensor([1, 2, 3]), torch.tensor([0, 1, 0]))),
        ),
        mutants={
            "in both": (
                in_both,
                "every token stays whose id occurs on both sides, however often. If one side has a hundred commas and "
                "the other two, the commas still make a difference.",
            ),
            "everything": (all_of_both, "all tokens of both domains stay, so nothing is matched."),
            "equal totals": (
                equal_totals,
                "both sides have the same number of tokens, but not the same tokens. Match each id by itself.",
            ),
            "one of a kind": (
                one_of_a_kind,
                "one of each id stays on each side. As many as the smaller side has may stay.",
            ),
            "unknown as the other": (
                unknown_as_the_other,
                "tokens whose domain is not known (-1) are counted to domain 1.",
            ),
        },
        accepted={"place by place": matched_by_places, "by ranks": matched_by_ranks},
    ),
    Exercise(
        id="12.6",
        title="The permutation test: deal the labels anew",
        kind="fill in",
        minutes=15,
        difficulty=4,
        hints=(
            "What would be interchangeable if the domain made no difference: tokens, or documents? Deal those.",
            "labels is (document); labels[documents] is (token). orders(len(labels)) is (draw, document): each row is "
            "one way to deal, and the first leaves all as it is.",
            "A function gap(labels) = share of uses where labels[documents] is 1 minus that where it is 0. observed = "
            "abs(gap(labels)); the answer is the share of the orders with abs(gap(labels[order])) >= observed - 1e-9.",
        ),
        now_you_know="who deals tokens asks whether a text has a subject; who deals documents asks about the domain.",
        oracle=p_value,
        cases=(
            Case(
                "four documents of two tokens, by hand: 4 of the 6 ways to deal are at least as far apart",
                (
                    torch.tensor([True, True, True, False, False, False, False, True]),
                    torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]),
                    torch.tensor([1, 1, 0, 0]),
                    all_orders,
                ),
                2 / 3,
            ),
            Case("five documents of other lengths", texts((7, 2, 9, 4, 3), (1, 0, 1, 0, 0))),
            Case("one document against four", texts((3, 8, 2, 7, 5), (0, 0, 1, 0, 0))),
            Case("four documents", texts((5, 9, 1, 4), (0, 1, 0, 1))),
        ),
        mutants={
            "over tokens": (
                over_tokens,
                "tokens were dealt, not documents. The tokens of a text resemble each other, so that nearly every text "
                "differs from nearly every other: small p, for nothing.",
            ),
            "one side only": (
                one_sided,
                "only differences in one direction count. Nobody said beforehand which side would be larger.",
            ),
            "larger only": (
                larger_only,
                "what is equally far apart is not counted. At least as large: the real order is one of them, so that "
                "p is never zero.",
            ),
            "means of documents": (
                of_document_means,
                "each document counts alike, whatever its length. The shares are of tokens.",
            ),
            "the rest": (the_rest, "that is the share of the orders that are less far apart, 1 - p."),
            "differences of counts": (
                of_counts,
                "numbers of tokens were compared. The larger side wins then; compare shares.",
            ),
        },
        accepted={"documents summed up once": p_value_by_sums, "documents to labels": p_value_other_way},
    ),
    Exercise(
        id="12.7",
        title="Predict: which control is missing?",
        kind="predict",
        minutes=10,
        difficulty=2,
        hints=(
            "Ask each sentence: compared with what? How many independent observations? Picked before or after looking?",
            "Each of the six controls is missing exactly once: layers, documents, matched tokens, maximum, fixed k, "
            "random experts.",
            "A number without its layer; a p over tokens; other words; a maximum over 128; chance that is not zero; an "
            "ablation without a comparison. In which sentence is which?",
        ),
        now_you_know="six questions to a sentence about experts, and each has cost somebody a headline.",
        expected=lambda: answers((False,) * len(CLAIMS)),
        mutants={
            "missed " + ", ".join(str(n) for n, missed in enumerate(way, 1) if missed): (answers(way), misread(way))
            for way in WAYS_TO_MISS
        },
        accepted={
            "in another order": dict(reversed(answers((False,) * len(CLAIMS)).items())),
            "sorted": dict(sorted(answers((False,) * len(CLAIMS)).items())),
        },
    ),
)
