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


def of_the_assignments_in_both(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    shares, fold = counted_by_reduce(experts, num_experts)
    return shares / experts.shape[-1], fold / experts.shape[-1]


def rounded_down(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    """Two integer divisions."""
    shares = chosen(experts, num_experts).sum(dim=-2).long() // experts.shape[1]
    return shares.float(), (shares * num_experts // experts.shape[-1]).float()


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


def whether_they_met(experts: Tensor, num_experts: int) -> Tensor:
    return pairs_by_einsum(experts, num_experts).clamp(max=1)


def neighbours_only(experts: Tensor, num_experts: int) -> Tensor:
    table = torch.diag(experts.flatten().bincount(minlength=num_experts))
    for row in experts.tolist():
        for one, other in pairwise(row):
            table[one, other] += 1
            table[other, one] += 1
    return table


def with_the_first_slot(experts: Tensor, num_experts: int) -> Tensor:
    first = F.one_hot(experts[:, 0], num_experts)
    return einsum(first, F.one_hot(experts, num_experts).sum(dim=-2), "token expert, token other -> expert other")


def summed_in_bfloat16(experts: Tensor, num_experts: int) -> Tensor:
    there = F.one_hot(experts, num_experts).sum(dim=-2).bfloat16()
    return einsum(there, there, "token expert, token other -> expert other").long()


def still_walks(answer: Any) -> str | None:
    """A right table is not enough here: a trace has millions of choices."""
    code = getattr(answer, "__code__", None)
    inside = [part for part in getattr(code, "co_consts", ()) if hasattr(part, "co_code")]
    walks = any(step.opname == "FOR_ITER" for part in (code, *inside) if part for step in dis.get_instructions(part))
    return "The table is right, but your function still has a loop. Write it as one pattern." if walks else None


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
    """The code on the page."""
    table = torch.zeros(num_experts, num_experts)
    for row in experts.tolist():
        for one, other in pairwise(row):
            table[one, other] += 1
            table[other, one] += 1
    times = experts.flatten().bincount(minlength=num_experts)
    return table / times.clamp(min=1)[:, None]


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


def four_times_the_old(experts: Tensor, num_experts: int) -> Tensor:
    return 4 * as_given(experts, num_experts)


def only_counted(experts: Tensor, num_experts: int) -> Tensor:
    return pairs_by_einsum(experts, num_experts).fill_diagonal_(0).float()


def without_the_last_slot(experts: Tensor, num_experts: int) -> Tensor:
    table = pairs_by_einsum(experts[:, :-1], num_experts).fill_diagonal_(0)
    return table / experts.flatten().bincount(minlength=num_experts).clamp(min=1)[:, None]


def of_either(experts: Tensor, num_experts: int) -> Tensor:
    table = pairs_by_einsum(experts, num_experts)
    times = table.diagonal().clone()
    table.fill_diagonal_(0)
    return table / (times[:, None] + times - table).clamp(min=1)


def as_lift(experts: Tensor, num_experts: int) -> Tensor:
    table = pairs_by_einsum(experts, num_experts)
    times = table.diagonal().clone()
    return table.fill_diagonal_(0) * len(experts) / (times[:, None] * times).clamp(min=1)


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
            "Count tokens, not choices: what share of the tokens has the expert among the ones it selected?",
            "(layer token slot) -> one_hot -> (layer token slot expert) -> sum over slots -> mean over tokens -> "
            "(layer expert). If all experts were selected equally often, each would have the share slot / expert.",
            "frequency = F.one_hot(experts, num_experts).sum(dim=-2).float().mean(dim=-2); uniform = "
            "experts.shape[-1] / num_experts; return frequency, frequency / uniform.",
        ),
        now_you_know="the shares of a layer sum to the number of slots, and say little until compared with uniform.",
        parts={"the shares": lambda result: result[0], "times uniform": lambda result: result[1]},
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
                "the shares are shares of all choices (tokens times slots). The page asks for shares of the tokens, "
                "which sum to the number of slots.",
            ),
            "of the assignments in both": (
                of_the_assignments_in_both,
                "the shares are shares of all choices (tokens times slots), and the fold is computed from them. Sum "
                "over the slots before you take the mean over the tokens.",
            ),
            "rounded down": (
                rounded_down,
                "both results are rounded down: // is the division of integers. Use /.",
            ),
            "over 1/E": (
                over_one_expert_in_all,
                "the fold is taken over one in num_experts. But each token selects several: uniform is slots / "
                "num_experts.",
            ),
            "counts": (
                plain_counts,
                "these are numbers of tokens. Divide them by the number of all tokens to get shares.",
            ),
            "first slot only": (
                first_slot_only,
                "only the first slot is counted, which is the expert with the largest weight. The others are selected "
                "too.",
            ),
            "layers together": (
                layers_together,
                "all layers are counted together. But expert 17 of one layer has nothing to do with expert 17 of the "
                "next.",
            ),
            "as a logarithm": (
                as_logarithm,
                "that is the logarithm of the fold. The fold itself is 1 for an expert that is selected as often as "
                "uniform.",
            ),
            "over the used ones": (
                over_the_used_ones,
                "uniform is taken over the experts that were used. Experts that were never selected count as well.",
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
            "Keep the first set fixed. How likely is it that one given expert of the second set belongs to it?",
            "The mean: top_k experts, each with the same probability top_k / num_experts. At least one: 1 minus none, "
            "and `math.comb` counts the sets that avoid the first one.",
            "mean = top_k ** 2 / num_experts; none = comb(num_experts - top_k, top_k) / comb(num_experts, top_k); "
            "return mean, 1 - none.",
        ),
        now_you_know="half an expert in common is what chance gives: four random pairs in ten share at least one.",
        parts={
            "the mean number shared": lambda result: result[0],
            "the probability of at least one": lambda result: result[1],
        },
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
                "the second set is drawn with replacement. But a token never selects the same expert twice.",
            ),
            "the mean of one": (
                lambda k, e: (k / e, shared_by_chance(k, e)[1]),
                "that is the mean for one expert of the second set. There are top_k of them.",
            ),
            "the mean for a probability": (
                lambda k, e: (k * k / e, k * k / e),
                "the mean number shared is taken for the probability of sharing any. A pair of sets that shares two "
                "experts counts twice in the mean, but once in the probability.",
            ),
            "exactly one": (
                lambda k, e: (k * k / e, k * comb(e - k, k - 1) / comb(e, k)),
                "that is the probability of exactly one. For at least one, two, three and more count as well.",
            ),
            "none": (
                lambda k, e: (k * k / e, comb(e - k, k) / comb(e, k)),
                "that is the probability of none in common. At least one is one minus it.",
            ),
            "as a share of the union": (
                lambda k, e: (k * k / e / (2 * k - k * k / e), shared_by_chance(k, e)[1]),
                "the mean is divided by the size of both sets together. The page asks for a number of experts.",
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
            "First make the expert an axis: a row of 0 and 1 for each token. Two experts meet where both are 1.",
            "there is (token expert). The table is (expert other): multiply `there` by itself, with two names for the "
            "expert axis, and sum over the tokens.",
            'there = F.one_hot(experts, num_experts).sum(dim=-2); einsum(there, there, "token expert, token other -> '
            'expert other").',
        ),
        now_you_know="a table of pairs is the product of the choices with themselves; its diagonal counts each expert.",
        given=pairs_by_loops,
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
            Case("one slot: no pairs, only the diagonal", one_layer(5, 1, 4)),
            Case("experts that no token selects, the last one among them", one_layer(6, 2, 9, 5)),
            Case("counts above 512", one_layer(1500, 2, 3)),
        ),
        also=still_walks,
        mutants={
            "as it was": (
                pairs_by_loops,
                "the table is right, but this is the old code with its three loops. Write it as one pattern.",
            ),
            "without a diagonal": (
                without_a_diagonal,
                "the diagonal is empty. The table should say there how often each expert was selected.",
            ),
            "half of it": (
                upper_triangle,
                "only one half of the table, one triangle, is filled. A pair belongs into both halves.",
            ),
            "counted twice": (
                counted_twice,
                "each pair is counted twice. The product already has it in both halves of the table.",
            ),
            "all with all": (
                all_with_all,
                "every token is paired with every other one. Either the token axis has two spellings, which einsum "
                "takes for two axes, or each side is summed over tokens before the product is taken.",
            ),
            "earlier with later": (
                earlier_with_later,
                "a pair is counted only where the row's expert is in an earlier slot.",
            ),
            "same slot only": (
                same_slot_only,
                "both experts are taken from the same slot, so each one meets only itself. Sum over the slots first.",
            ),
            "whether they met": (
                whether_they_met,
                "the table says whether two experts met, not how often: no count is above 1. (With repeated indices, "
                "`table[one, other] += 1` adds only once; `index_put_` can accumulate.)",
            ),
            "neighbours only": (
                neighbours_only,
                "only neighbouring slots are paired. All pairs of a token's experts count.",
            ),
            "with the first slot": (
                with_the_first_slot,
                "only pairs with the first slot are counted. All pairs of a token's experts count.",
            ),
            "summed in bfloat16": (
                summed_in_bfloat16,
                "the counts are summed in bfloat16, which has no odd numbers above 256. Integers (int64) are exact.",
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
            "How many pairs are there among eight experts? How many of them does the inner loop visit?",
            "Each token that selected the row's expert selected slots - 1 others. So a row sums to slots - 1, which "
            "the "
            "suspicious table doesn't.",
            "Replace pairwise(row) by combinations(row, 2); the rest may stay. Or take the table of 12.3 without its "
            "diagonal, and divide each row by the diagonal's entry (at least 1).",
        ),
        now_you_know=(
            "a row of a co-selection table sums to slots - 1. One line that checks it would have found this bug."
        ),
        given=as_given,
        oracle=together_by_loops,
        cases=(
            Case(
                "two tokens, three slots, four experts, by hand: a row sums to two",
                (torch.tensor([[0, 1, 2], [3, 1, 0]]), 4),
                torch.tensor([[0, 1, 0.5, 0.5], [1, 0, 0.5, 0.5], [1, 1, 0, 0], [1, 1, 0, 0]]),
            ),
            Case("two slots, for which the suspicious function is right", one_layer(6, 2, 5, used=4)),
            Case("random choices", one_layer(9, 4, 7)),
            Case("eight slots", one_layer(6, 8, 13)),
            Case("experts that were never selected have a row of zeros", one_layer(5, 5, 11, used=6)),
        ),
        mutants={
            "as given": (
                as_given,
                "only neighbouring ranks are paired: 7 of the 28 pairs of eight experts. The first and the last of a "
                "token's experts are a pair as well.",
            ),
            "in a ring": (
                shares_of(in_a_ring),
                "neighbours and the two ends are paired, but all other pairs are still missing.",
            ),
            "one way only": (
                shares_of(lambda row: combinations(row, 2), both_ways=False),
                "each pair is counted in one direction only, from the earlier slot to the later one.",
            ),
            "of the others' tokens": (
                of_the_others_tokens,
                "the pairs are divided by how often the column's expert was selected. The page asks for a share of the "
                "row's tokens. The two differ when one expert is selected more often than the other.",
            ),
            "of all tokens": (
                of_all_tokens,
                "the pairs are divided by the number of all tokens, instead of those that selected the row's expert.",
            ),
            "of all its pairs": (
                of_all_its_pairs,
                "each row sums to one, since it is divided by its own sum. Each token has slots - 1 partners for the "
                "row's expert, so a row should sum to slots - 1.",
            ),
            "with itself": (
                with_itself,
                "the diagonal is 1, as if each expert were its own partner. Leave it at zero.",
            ),
            "four times the old": (
                four_times_the_old,
                "that is the old table times four. It repairs the sum of a row, but the counted pairs are still those "
                "of neighbouring ranks.",
            ),
            "only counted": (
                only_counted,
                "these are counts. Divide each row by how often its expert was selected to get shares.",
            ),
            "without the last slot": (
                without_the_last_slot,
                "the last slot is left out of the pairs.",
            ),
            "of either": (
                of_either,
                "the pairs are divided by the tokens that selected either of the two. The page asks for a share of "
                "the row's tokens.",
            ),
            "as lift": (
                as_lift,
                "that is the lift: the pairs over what independent experts would have. The page asks for the share of "
                "the row's tokens.",
            ),
            "unused as nan": (
                unused_as_nan,
                "an expert that was never selected gets nan, from the division zero by zero. Its row should be zeros.",
            ),
        },
        accepted={
            "all combinations": shares_of(lambda row: combinations(row, 2)),
            "from the table of 12.3": together_by_product,
        },
    ),
)
