"""Chapter 12, which experts: counts from a trace, compared with chance (12.1 to 12.4)."""

import dis
from collections.abc import Callable
from itertools import combinations, pairwise, permutations
from math import comb
from typing import Any

import torch
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.routing.statistics import coactivation, frequency


def choices(layer: int, token: int, slot: int, expert: int, used: int | None = None) -> Arguments:
    """Random sets of distinct experts, (layer, token, slot), and the number of experts; only the first `used` occur."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int]:
        return torch.rand(layer, token, used or expert, generator=generator).topk(slot, dim=-1).indices, expert

    return arguments


def one_layer(token: int, slot: int, expert: int, used: int | None = None) -> Arguments:
    """The same for a single layer: (token, slot)."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int]:
        experts, number = choices(1, token, slot, expert, used)(generator)
        return experts[0], number

    return arguments


# 12.1 frequency, and fold over uniform -------------------------------------------------------------------------------


def counted_by_loops(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    """Share of the tokens that selected each expert, and that share over what it is if all are alike."""
    layers, tokens, slots = experts.shape
    shares = torch.zeros(layers, num_experts)
    for layer in range(layers):
        for expert in range(num_experts):
            shares[layer, expert] = sum(expert in row for row in experts[layer].tolist()) / tokens
    return shares, shares / (slots / num_experts)


def chosen(experts: Tensor, num_experts: int) -> Tensor:
    """(layer token slot) ids -> (layer token expert), 1 where the token selected the expert."""
    return F.one_hot(experts, num_experts).sum(dim=-2).float()


def counted_by_reduce(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    shares = reduce(chosen(experts, num_experts), "layer token expert -> layer expert", "mean")
    return shares, shares * num_experts / experts.shape[-1]


def counted_by_bincount(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    shares = torch.stack([row.flatten().bincount(minlength=num_experts) for row in experts]) / experts.shape[1]
    return shares, shares / shares.mean(dim=-1, keepdim=True)


def of_the_assignments(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    shares, fold = counted_by_reduce(experts, num_experts)
    return shares / experts.shape[-1], fold


def over_one_expert_in_all(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    shares, _ = counted_by_reduce(experts, num_experts)
    return shares, shares * num_experts


def plain_counts(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    shares, fold = counted_by_reduce(experts, num_experts)
    return shares * experts.shape[1], fold


def first_slot_only(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    return counted_by_reduce(experts[..., :1], num_experts)


def layers_together(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    shares, fold = counted_by_reduce(rearrange(experts, "layer token slot -> 1 (layer token) slot"), num_experts)
    again = [repeat(part[0], "expert -> layer expert", layer=len(experts)) for part in (shares, fold)]
    return again[0], again[1]


def as_logarithm(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    shares, fold = counted_by_reduce(experts, num_experts)
    return shares, fold.log2()


def over_the_used_ones(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    shares, _ = counted_by_reduce(experts, num_experts)
    return shares, shares * (shares > 0).sum(dim=-1, keepdim=True) / experts.shape[-1]


# 12.2 estimate: overlap of two random sets ---------------------------------------------------------------------------


def shared_by_chance(top_k: int, num_experts: int) -> tuple[float, float]:
    """(mean number shared, probability of at least one), summed over the hypergeometric distribution."""
    sets = comb(num_experts, top_k)
    shares = [comb(top_k, n) * comb(num_experts - top_k, top_k - n) / sets for n in range(top_k + 1)]
    return sum(n * share for n, share in enumerate(shares)), sum(shares[1:])


def shared_in_closed_form(top_k: int, num_experts: int) -> tuple[float, float]:
    return top_k**2 / num_experts, 1 - comb(num_experts - top_k, top_k) / comb(num_experts, top_k)


def shared_one_by_one(top_k: int, num_experts: int) -> list[float]:
    """The second set is drawn expert by expert, and each has to miss the first set."""
    miss = 1.0
    for drawn in range(top_k):
        miss *= max(num_experts - top_k - drawn, 0) / (num_experts - drawn)
    return [top_k * top_k / num_experts, 1 - miss]


# 12.3 einops: co-selection counts ------------------------------------------------------------------------------------


def pairs_by_loops(experts: Tensor, num_experts: int) -> Tensor:
    """The code that the reader is to rewrite: (token, slot) -> (expert, expert), own counts on the diagonal."""
    table = torch.zeros(num_experts, num_experts, dtype=torch.int64)
    for row in experts.tolist():
        for one in row:
            for other in row:
                table[one, other] += 1
    return table


def pairs_by_einsum(experts: Tensor, num_experts: int) -> Tensor:
    there = F.one_hot(experts, num_experts).sum(dim=-2)
    return einsum(there, there, "token expert, token other -> expert other")


def pairs_by_product(experts: Tensor, num_experts: int) -> Tensor:
    there = torch.zeros(len(experts), num_experts).scatter(-1, experts, 1.0)
    return (there.T @ there).round().long()


def pairs_slot_by_slot(experts: Tensor, num_experts: int) -> Tensor:
    there = F.one_hot(experts, num_experts)
    return einsum(there, there, "token slot expert, token other_slot other -> expert other")


def without_a_diagonal(experts: Tensor, num_experts: int) -> Tensor:
    return pairs_by_einsum(experts, num_experts).fill_diagonal_(0)


def upper_triangle(experts: Tensor, num_experts: int) -> Tensor:
    return pairs_by_einsum(experts, num_experts).triu()


def counted_twice(experts: Tensor, num_experts: int) -> Tensor:
    table = pairs_by_einsum(experts, num_experts)
    return table + table.T


def all_with_all(experts: Tensor, num_experts: int) -> Tensor:
    there = F.one_hot(experts, num_experts).sum(dim=-2)
    return einsum(there, there, "token expert, tokens other -> expert other")


def earlier_with_later(experts: Tensor, num_experts: int) -> Tensor:
    table = torch.zeros(num_experts, num_experts, dtype=torch.int64)
    for row in experts.tolist():
        for one, other in combinations(row, 2):
            table[one, other] += 1
    return table + torch.diag(experts.flatten().bincount(minlength=num_experts))


def same_slot_only(experts: Tensor, num_experts: int) -> Tensor:
    there = F.one_hot(experts, num_experts)
    return einsum(there, there, "token slot expert, token slot other -> expert other")


def still_walks(answer: Any) -> str | None:
    """A right table is not enough here: a trace has millions of choices."""
    code = getattr(answer, "__code__", None)
    inside = [part for part in getattr(code, "co_consts", ()) if hasattr(part, "co_code")]
    walks = any(step.opname == "FOR_ITER" for part in (code, *inside) if part for step in dis.get_instructions(part))
    return "Your function still walks in a loop. The exercise is to say it as one pattern." if walks else None


# 12.4 bug hunt: 7 of the 28 pairs counted ----------------------------------------------------------------------------


def together_by_loops(experts: Tensor, num_experts: int) -> Tensor:
    """Of the tokens that selected the row's expert: the share that also selected the column's. Zero on the diagonal."""
    table = torch.zeros(num_experts, num_experts)
    for one, other in permutations(range(num_experts), 2):
        rows = [row for row in experts.tolist() if one in row]
        if rows:
            table[one, other] = sum(other in row for row in rows) / len(rows)
    return table


def shares_of(pairs: Callable[[list[int]], Any], both_ways: bool = True) -> Callable[[Tensor, int], Tensor]:
    """A table of shares from the pairs that `pairs` walks through in a token's row of experts."""

    def count(experts: Tensor, num_experts: int) -> Tensor:
        table = torch.zeros(num_experts, num_experts)
        for row in experts.tolist():
            for one, other in pairs(row):
                table[one, other] += 1
                if both_ways:
                    table[other, one] += 1
        return table / experts.flatten().bincount(minlength=num_experts).clamp(min=1)[:, None]

    return count


def as_given(experts: Tensor, num_experts: int) -> Tensor:
    return shares_of(pairwise)(experts, num_experts)


def in_a_ring(row: list[int]) -> list[tuple[int, int]]:
    """Neighbours, and the last with the first."""
    return [*pairwise(row), (row[-1], row[0])] if len(row) > 2 else [*pairwise(row)]


def of_the_others_tokens(experts: Tensor, num_experts: int) -> Tensor:
    return together_by_product(experts, num_experts).T.contiguous()


def of_all_tokens(experts: Tensor, num_experts: int) -> Tensor:
    return pairs_by_einsum(experts, num_experts).fill_diagonal_(0) / len(experts)


def of_all_its_pairs(experts: Tensor, num_experts: int) -> Tensor:
    table = pairs_by_einsum(experts, num_experts).fill_diagonal_(0).float()
    return table / table.sum(dim=-1, keepdim=True).clamp(min=1)


def with_itself(experts: Tensor, num_experts: int) -> Tensor:
    table = pairs_by_einsum(experts, num_experts)
    return table / table.diagonal().clamp(min=1)[:, None]


def unused_as_nan(experts: Tensor, num_experts: int) -> Tensor:
    table = pairs_by_einsum(experts, num_experts)
    return table.clone().fill_diagonal_(0) / table.diagonal()[:, None]


def together_by_product(experts: Tensor, num_experts: int) -> Tensor:
    table = pairs_by_einsum(experts, num_experts)
    return table.clone().fill_diagonal_(0) / table.diagonal().clamp(min=1)[:, None]


EXERCISES = (
    Exercise(
        id="12.1",
        title="From ids to shares: frequency, and fold over uniform",
        kind="fill in",
        minutes=10,
        difficulty=2,
        hints=(
            "Count tokens, not choices: which share of the tokens has the expert among its selected ones?",
            "(layer token slot) -> one_hot -> (layer token slot expert) -> sum over slots -> mean over tokens -> "
            "(layer expert). If all experts were alike, each would have slot / expert.",
            "frequency = F.one_hot(experts, num_experts).sum(dim=-2).float().mean(dim=-2); uniform = "
            "experts.shape[-1] / num_experts; return frequency, frequency / uniform.",
        ),
        now_you_know="a share of the tokens sums to the number of slots, and means little without the uniform one.",
        teaches=frequency,
        oracle=counted_by_loops,
        cases=(
            Case(
                "one layer, two tokens, two slots, four experts, by hand",
                (torch.tensor([[[1, 3], [1, 0]]]), 4),
                (torch.tensor([[0.5, 1.0, 0.0, 0.5]]), torch.tensor([[1.0, 2.0, 0.0, 1.0]])),
            ),
            Case("random choices", choices(2, 5, 3, 7)),
            Case("one slot", choices(3, 4, 1, 6)),
            Case("the last experts are never selected", choices(2, 7, 4, 19, used=8)),
        ),
        mutants={
            "of the assignments": (
                of_the_assignments,
                "the frequency is a share of all choices, token times slot. It asks for a share of the tokens, which "
                "sums to the number of slots over all experts.",
            ),
            "over 1/E": (
                over_one_expert_in_all,
                "the fold is over one in num_experts. Each token selects several: uniform is slots / num_experts.",
            ),
            "counts": (plain_counts, "the frequency is a number of tokens. Divided by all tokens it is a share."),
            "first slot only": (
                first_slot_only,
                "only the first slot is counted, the expert with the largest weight. The others worked too.",
            ),
            "layers together": (
                layers_together,
                "all layers are thrown together. Expert 17 of one layer has nothing to do with expert 17 of the next.",
            ),
            "as a logarithm": (
                as_logarithm,
                "that is the logarithm of the fold. Asked for is the fold itself, 1 if even.",
            ),
            "over the used ones": (
                over_the_used_ones,
                "uniform is taken over the experts that were used. Those that never were belong to it as well.",
            ),
        },
        accepted={"one_hot and reduce": counted_by_reduce, "bincount": counted_by_bincount},
    ),
    Exercise(
        id="12.2",
        title="Estimate, then measure: what two random sets share",
        kind="estimate",
        minutes=10,
        difficulty=3,
        hints=(
            "Hold the first set still. How likely is it that one given expert of the second set lies in it?",
            "The mean: top_k experts, each with the same chance top_k / num_experts. At least one: 1 minus none, and "
            "`math.comb` counts the sets that avoid the first one.",
            "mean = top_k ** 2 / num_experts; none = comb(num_experts - top_k, top_k) / comb(num_experts, top_k); "
            "return mean, 1 - none.",
        ),
        now_you_know="half an expert in common is nothing: four pairs of random sets in ten share at least one.",
        oracle=shared_by_chance,
        cases=(
            Case("one of two experts, by hand", (1, 2), (0.5, 0.5)),
            Case("two of four, by hand: one of the six sets avoids the first", (2, 4), (1.0, 5 / 6)),
            Case("the mini and the 235B: eight of 128", (8, 128)),
            Case("three of eleven", (3, 11)),
            Case("all of five", (5, 5), (5.0, 1.0)),
        ),
        mutants={
            "with replacement": (
                lambda k, e: (k * k / e, 1 - (1 - k / e) ** k),
                "the second set is drawn with replacement. A token never selects the same expert twice.",
            ),
            "the mean of one": (
                lambda k, e: (k / e, shared_by_chance(k, e)[1]),
                "the mean is that of one expert of the second set. There are top_k of them.",
            ),
            "the mean for a probability": (
                lambda k, e: (k * k / e, k * k / e),
                "the mean number shared is taken for the probability of sharing any. Pairs that share two count twice "
                "in the mean, and once in the probability.",
            ),
            "exactly one": (
                lambda k, e: (k * k / e, k * comb(e - k, k - 1) / comb(e, k)),
                "that is the probability of exactly one. At least one: two, three and more count as well.",
            ),
            "none": (
                lambda k, e: (k * k / e, comb(e - k, k) / comb(e, k)),
                "that is the probability of none in common; at least one is the rest.",
            ),
            "as a share of the union": (
                lambda k, e: (k * k / e / (2 * k - k * k / e), shared_by_chance(k, e)[1]),
                "the mean is divided by the size of both sets together. It asks for a number of experts.",
            ),
        },
        accepted={"closed form": shared_in_closed_form, "one by one": shared_one_by_one},
    ),
    Exercise(
        id="12.3",
        title="Rewrite with einops: who works with whom",
        kind="einops",
        minutes=10,
        difficulty=3,
        hints=(
            "First make the expert an axis: a row of 0 and 1 for each token. Then two experts meet where both are 1.",
            "there is (token expert). The table is (expert other): multiply there with itself under two names for the "
            "expert axis, and sum over tokens.",
            'there = F.one_hot(experts, num_experts).sum(dim=-2); einsum(there, there, "token expert, token other -> '
            'expert other").',
        ),
        now_you_know="a table of pairs is a matrix product of the choices with themselves, and its diagonal counts.",
        teaches=coactivation,
        oracle=pairs_by_loops,
        cases=(
            Case(
                "two tokens, two slots, three experts, by hand",
                (torch.tensor([[0, 2], [2, 1]]), 3),
                torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 2]]),
            ),
            Case("random choices", one_layer(9, 3, 5)),
            Case("many slots", one_layer(7, 6, 11)),
            Case("one slot: nobody meets anybody", one_layer(5, 1, 4)),
            Case("experts that no token selects, the last one among them", one_layer(6, 2, 9, 5)),
            Case("counts above 512", one_layer(1500, 2, 3)),
        ),
        also=still_walks,
        mutants={
            "as it was": (pairs_by_loops, "the table is right and the code is the old one, in three loops."),
            "without a diagonal": (
                without_a_diagonal,
                "the diagonal is empty. It asks for how often each expert was selected there, which one needs next.",
            ),
            "half of it": (upper_triangle, "only one half of the table is filled. Who is named first does not matter."),
            "counted twice": (
                counted_twice,
                "each pair is counted twice: the product has it in both halves of the table already.",
            ),
            "all with all": (
                all_with_all,
                "every token is paired with every other: the token axis has two spellings, which einsum takes for two "
                "axes, or the sums over all tokens are multiplied, a product of counts.",
            ),
            "earlier with later": (
                earlier_with_later,
                "a pair is counted only where the row's expert stands in an earlier slot.",
            ),
            "same slot only": (
                same_slot_only,
                "both experts are taken from the same slot, so that each meets only itself. Sum over slots first.",
            ),
        },
        accepted={
            "einsum": pairs_by_einsum,
            "a product of matrices": pairs_by_product,
            "all slots in one pattern": pairs_slot_by_slot,
        },
    ),
    Exercise(
        id="12.4",
        title="Bug hunt: a table of pairs with three quarters missing",
        kind="bug hunt",
        minutes=12,
        difficulty=3,
        hints=(
            "How many pairs are there among eight experts? How many does the loop walk through?",
            "Each token that selected the row's expert selected slots - 1 others. So a row sums to slots - 1; in the "
            "suspicious table it does not.",
            "combinations(row, 2) in the place of pairwise(row), and the rest may stay. Or: the table of 12.3 without "
            "its diagonal, each row divided by the diagonal's entry (at least 1).",
        ),
        now_you_know="a row of a co-selection table sums to slots - 1: one line that would have found this bug.",
        oracle=together_by_loops,
        cases=(
            Case(
                "two tokens, three slots, four experts, by hand: a row sums to two",
                (torch.tensor([[0, 1, 2], [3, 1, 0]]), 4),
                torch.tensor([[0, 1, 0.5, 0.5], [1, 0, 0.5, 0.5], [1, 1, 0, 0], [1, 1, 0, 0]]),
            ),
            Case("two slots: the suspicious one is right here", one_layer(6, 2, 5, used=4)),
            Case("random choices", one_layer(9, 4, 7)),
            Case("eight slots", one_layer(6, 8, 13)),
            Case("experts that nobody selected have a row of zeros", one_layer(5, 5, 11, used=6)),
        ),
        mutants={
            "as given": (
                as_given,
                "only neighbouring ranks are paired: 7 of the 28 pairs of eight experts. The first and the last of a "
                "token's experts worked together too.",
            ),
            "in a ring": (
                shares_of(in_a_ring),
                "neighbours and the two ends are paired, and all other pairs are still missing.",
            ),
            "one way only": (
                shares_of(lambda row: combinations(row, 2), both_ways=False),
                "each pair is written down in one direction only, from the earlier slot to the later one.",
            ),
            "of the others' tokens": (
                of_the_others_tokens,
                "the pair is divided by how often the column's expert was selected. It asks for a share of the row's "
                "tokens; the two differ, since one expert is busier than the other.",
            ),
            "of all tokens": (of_all_tokens, "the pairs are divided by the number of all tokens."),
            "of all its pairs": (
                of_all_its_pairs,
                "each row is made to sum to one. A token has slots - 1 partners for its expert, so a row sums to that.",
            ),
            "with itself": (with_itself, "the diagonal says that each expert works with itself. Leave it at zero."),
            "unused as nan": (
                unused_as_nan,
                "an expert that nobody selected gets nan, zero of zero. A row of zeros was asked for.",
            ),
        },
        accepted={
            "all combinations": shares_of(lambda row: combinations(row, 2)),
            "from the table of 12.3": together_by_product,
        },
    ),
)
