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


def kept(tokens: Tensor, domains: Tensor, number: Callable[[int, int], int], last: bool = False) -> Tensor:
    """Of each id the first (or last) number(here, there) of each side stay: its counts on this side and the other."""
    keep = torch.zeros_like(tokens, dtype=torch.bool)
    for token in tokens.unique():
        places = [((tokens == token) & (domains == side)).nonzero().flatten() for side in (0, 1)]
        counts = [len(side) for side in places]
        for side, here, there in zip(places, counts, reversed(counts), strict=True):
            keep[(side.flip(0) if last else side)[: number(here, there)]] = True
    return keep


def the_last_ones(tokens: Tensor, domains: Tensor) -> Tensor:
    return kept(tokens, domains, min, last=True)


def one_too_many(tokens: Tensor, domains: Tensor) -> Tensor:
    return kept(tokens, domains, lambda here, there: min(here, there) + 1 if there else 0)


def unknown_stays(tokens: Tensor, domains: Tensor) -> Tensor:
    return matched_by_loops(tokens, domains) | (domains < 0)


def counted_over_both(tokens: Tensor, domains: Tensor) -> Tensor:
    """One running number for each id, whatever the domain."""
    there = Counter(zip(tokens.tolist(), domains.tolist(), strict=True))
    seen: Counter[int] = Counter()
    keep = []
    for token, side in zip(tokens.tolist(), domains.tolist(), strict=True):
        keep.append(side >= 0 and seen[token] < min(there[token, 0], there[token, 1]))
        seen[token] += 1
    return torch.tensor(keep)


def only_side(side: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Only the tokens of one domain stay."""
    return lambda tokens, domains: matched_by_loops(tokens, domains) & (domains == side)


def cut_only(side: int) -> Callable[[Tensor, Tensor], Tensor]:
    """One side is reduced to the number of the other; the other keeps all tokens of the shared ids."""
    return lambda tokens, domains: torch.where(
        domains == side, matched_by_loops(tokens, domains), in_both(tokens, domains)
    )


def place_by_place(tokens: Tensor, domains: Tensor) -> Tensor:
    """The nth token of one side stays if the nth of the other has the same id."""
    keep = torch.zeros_like(tokens, dtype=torch.bool)
    sides = [(domains == side).nonzero().flatten().tolist() for side in (0, 1)]
    for one, other in zip(*sides, strict=False):
        if tokens[one] == tokens[other]:
            keep[one] = keep[other] = True
    return keep


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


def counted(found: list[float], observed: float) -> float:
    """Share of the differences that are at least as large as the observed one."""
    return sum(one >= observed - 1e-9 for one in found) / len(found)


def sizes_of(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> list[float]:
    """The size of the difference in each order; the first is the real one."""
    return [abs(difference_of_shares(uses, labels[order][documents])) for order in orders(len(labels))]


def plus_one(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    found = sizes_of(uses, documents, labels, orders)
    return (len(found) * counted(found, found[0]) + 1) / (len(found) + 1)


def without_the_first(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    observed, *found = sizes_of(uses, documents, labels, orders)
    return counted(found, observed)


def number_of_orders(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    found = sizes_of(uses, documents, labels, orders)
    return float(round(len(found) * counted(found, found[0])))


def with_its_sign(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    """The dealt differences lose their sign, the observed one keeps it."""
    return counted(sizes_of(uses, documents, labels, orders), difference_of_shares(uses, labels[documents]))


def one_kind_alone(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    found = [float(uses[labels[order][documents] == 1].double().mean()) for order in orders(len(labels))]
    return counted(found, found[0])


def doubled(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    return min(1.0, 2 * one_sided(uses, documents, labels, orders))


def on_top_of_each_other(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    found, kinds = [], labels
    for order in orders(len(labels)):
        kinds = kinds[order]
        found.append(abs(difference_of_shares(uses, kinds[documents])))
    return counted(found, found[0])


def one_side_and_larger(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    found = [difference_of_shares(uses, labels[order][documents]) for order in orders(len(labels))]
    return sum(one > found[0] + 1e-9 for one in found) / len(found)


def uses_dealt(uses: Tensor, documents: Tensor, labels: Tensor, orders: Orders) -> float:
    """The tokens' uses are dealt, which is the same as to deal tokens."""
    kinds = labels[documents]
    found = [abs(difference_of_shares(uses[order], kinds)) for order in orders(len(uses))]
    return counted(found, found[0])


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
        "a number has no meaning across layers. These are three experts with nothing in common but their number.",
    ),
    "twice as often in code, p < 0.001 over 900 tokens of 2 files": (
        "documents",
        "matched tokens",
        "the tokens of one file are not independent of each other. Two files are two observations.",
    ),
    "three times as often in code, so it understands code": (
        "matched tokens",
        "documents",
        "code and prose use different tokens. An expert for brackets looks like an expert for code.",
    ),
    "40% of the 10 tokens 'zebra' went to one of the 128 experts": (
        "maximum",
        "random experts",
        "the best of 128 was picked after looking, and ten tokens are few. Dice give a large maximum as well.",
    ),
    "most pairs of experts have a negative PMI, so they avoid each other": (
        "fixed k",
        "documents",
        "a selected expert leaves one slot fewer to the others. With k slots for all, chance itself is below zero.",
    ),
    "the loss rises by 0.004 without it, so it matters": (
        "random experts",
        "maximum",
        "any expert of the same load has some effect when it is missing. The question is whether this one has more.",
    ),
}


REASONS = {
    "expert 17 is for code in layers 0, 2 and 3": "How many different experts does this sentence speak of?",
    "twice as often in code, p < 0.001 over 900 tokens of 2 files": "Count the observations that are independent of "
    "each other.",
    "three times as often in code, so it understands code": "How else do code and prose differ, besides what they "
    "mean?",
    "40% of the 10 tokens 'zebra' went to one of the 128 experts": 'Which one is "one of the 128", and when was it '
    "picked?",
    "most pairs of experts have a negative PMI, so they avoid each other": "What would the PMI of most pairs be if "
    "the routers rolled dice?",
    "the loss rises by 0.004 without it, so it matters": "0.004 compared with what?",
}


def answers(wrong: tuple[bool, ...]) -> dict[str, str]:
    """The right answers, except for those claims where `wrong` is True."""
    return {claim: answer[missed] for (claim, answer), missed in zip(CLAIMS.items(), wrong, strict=True)}


def misread(wrong: tuple[bool, ...]) -> str:
    """The misunderstanding behind each of the claims that were missed, one sentence each."""
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
            "Take each token id by itself. How many of it may stay on each side?",
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
            Case(
                "id 5 once here and three times there, by hand",
                (torch.tensor([5, 5, 5, 5]), torch.tensor([1, 1, 0, 1])),
                torch.tensor([True, False, True, False]),
            ),
            Case("random tokens of two domains", drawn(12, 3)),
            Case("tokens of neither domain (-1) never stay", drawn(20, 4, (0, 1, -1))),
            Case("nothing in common", (torch.tensor([1, 2, 3]), torch.tensor([0, 1, 0]))),
        ),
        mutants={
            "in both": (
                in_both,
                "every token stays whose id occurs on both sides, however often. If one side has a hundred commas and "
                "the other has two, the commas still make a difference. Keep the smaller number.",
            ),
            "everything": (all_of_both, "all tokens of both domains stay, so nothing is matched."),
            "equal totals": (
                equal_totals,
                "both sides have the same number of tokens, but not the same ids. Match each id by itself.",
            ),
            "one of a kind": (
                one_of_a_kind,
                "only one of each id stays on each side. As many may stay as the smaller side has.",
            ),
            "the last ones": (
                the_last_ones,
                "the last ones of each id stay. The page asks for the first ones.",
            ),
            "one too many": (
                one_too_many,
                "one too many of an id stays on the side that has more.",
            ),
            "unknown stays": (unknown_stays, "tokens of neither domain (-1) stay. They should never stay."),
            "counted over both": (
                counted_over_both,
                "the occurrences of an id are counted over both domains together. Each side has its own count.",
            ),
            "only side 0": (only_side(0), "only tokens of domain 0 stay. Those of the other side are missing."),
            "only side 1": (only_side(1), "only tokens of domain 1 stay. Those of the other side are missing."),
            "cuts only side 0": (
                cut_only(0),
                "only domain 0 is cut to the smaller number. The other side may be the larger one.",
            ),
            "cuts only side 1": (
                cut_only(1),
                "only domain 1 is cut to the smaller number. The other side may be the larger one.",
            ),
            "place by place": (
                place_by_place,
                "tokens stay only if both sides have the same id at the same position. The order doesn't matter, only "
                "how often each id occurs.",
            ),
            "unknown as the other": (
                unknown_as_the_other,
                "tokens of neither domain (-1) are counted as domain 1.",
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
            "What could be exchanged if the kind made no difference: tokens, or documents? Deal those.",
            "labels is (document); labels[documents] is (token). orders(len(labels)) is (draw, document): each row is "
            "one way to deal, and the first leaves all as it is.",
            "For each order: kinds = labels[order][documents]; gap = abs(share of uses where kinds is 1 minus share "
            "where it is 0). The answer is the share of the orders whose gap >= the first gap - 1e-9 (for rounding).",
        ),
        now_you_know="dealing tokens tests whether texts have a subject; dealing documents tests the kind of text.",
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
                "tokens were dealt, not documents. The tokens of a text resemble each other, so nearly every text "
                "differs "
                "from nearly every other, and p is small for nothing.",
            ),
            "one side only": (
                one_sided,
                "only differences in one direction count. The page asks for either direction: compare absolute values.",
            ),
            "larger only": (
                larger_only,
                'orders with an equal difference are not counted. "At least as large" includes ties, and the real '
                "order, "
                "so p is never zero.",
            ),
            "means of documents": (
                of_document_means,
                "each document counts equally, however long it is. The page asks for shares of tokens.",
            ),
            "the rest": (the_rest, "that is the share of the orders with a smaller difference, one minus p."),
            "plus one": (
                plus_one,
                "one is added above and below the line. The first row of the orders is the real one, so it is already "
                "counted.",
            ),
            "without the first": (
                without_the_first,
                "the first order, which leaves all as it is, is left out. Counted with the others, it keeps p above "
                "zero.",
            ),
            "a number of orders": (
                number_of_orders,
                "that is a number of orders. Divide it by the number of all orders to get a share.",
            ),
            "with its sign": (
                with_its_sign,
                "the observed difference keeps its sign, while the dealt ones lose it. Take the absolute value of "
                "both.",
            ),
            "one kind alone": (
                one_kind_alone,
                "only the share of kind 1 is compared. The page asks for its difference from the share of kind 0.",
            ),
            "doubled": (
                doubled,
                "the orders of one direction are counted and doubled. The two directions need not have equally many: "
                "compare absolute values.",
            ),
            "on top of each other": (
                on_top_of_each_other,
                "each order is applied to the result of the one before. Deal the original labels anew in each order.",
            ),
            "one side and larger": (
                one_side_and_larger,
                "two mistakes: only one direction counts, and orders with an equal difference are left out.",
            ),
            "uses dealt": (
                uses_dealt,
                "the uses of tokens were dealt, not the labels of documents. The tokens of a text resemble each other, "
                "so p is small for nothing.",
            ),
            "differences of counts": (
                of_counts,
                "numbers of tokens are compared, so the side with more tokens wins. Compare shares.",
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
            "Ask of each sentence: compared with what? From how many independent observations? Picked after looking?",
            "Each of the six controls is missing exactly once: layers, documents, matched tokens, maximum, fixed k, "
            "random experts.",
            "A number without its layer; a p over tokens; different words; a maximum over 128; a chance value that is "
            "not zero; an ablation without a comparison. Which sentence has which?",
        ),
        now_you_know="six questions for any sentence about experts; each has undone a headline.",
        reasons=REASONS,
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
