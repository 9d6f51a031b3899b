"""Load and frequency: naive loops, hand-made cases, chance values against simulation, intervals over documents."""

import math

import pytest
import torch

from minimoe.errors import BadArgument
from minimoe.routing.statistics import (
    coefficient_of_variation,
    document_counts,
    effective_experts,
    fold_over_uniform,
    frequency,
    group_counts,
    load_entropy,
    lorenz,
    max_violation,
    selection_counts,
)
from tests.routing.statistics.made import EXPERTS, LAYERS, SLOTS, TOKENS, split, uniform, weighted

SUMMARIES = (load_entropy, effective_experts, coefficient_of_variation, max_violation)


def naive_counts(experts, num_experts, groups, num_groups):
    counts = [[[0] * num_experts for _ in experts] for _ in range(num_groups)]
    for layer, rows in enumerate(experts.tolist()):
        for token, row in enumerate(rows):
            for expert in row:
                if groups[token] >= 0:
                    counts[groups[token]][layer][expert] += 1
    return torch.tensor(counts)


def test_counts_equal_a_loop():
    experts = uniform(0, 3, 50, 4, 13)
    groups = torch.randint(-1, 5, (50,), generator=torch.Generator().manual_seed(1))
    naive = naive_counts(experts, 13, groups.tolist(), 5)
    assert torch.equal(group_counts(experts, 13, groups, 5), naive)
    assert torch.equal(selection_counts(experts, 13), naive_counts(experts, 13, [0] * 50, 1)[0])
    parts = document_counts(experts, 13, groups * 7, torch.where(groups == 3, -1, groups % 2))
    assert parts.ids.tolist() == [0, 7, 14, 28] and parts.domains.tolist() == [0, 1, 0, 0]
    assert torch.equal(parts.counts, naive[[0, 1, 2, 4]])
    assert parts.tokens.tolist() == [int((groups == g).sum()) for g in (0, 1, 2, 4)]
    assert parts.of(1).ids.tolist() == [7]


def test_counts_do_not_depend_on_the_order_of_tokens():
    experts = uniform(0)
    shuffled = experts[:, torch.randperm(TOKENS, generator=torch.Generator().manual_seed(0))]
    assert torch.equal(selection_counts(experts, EXPERTS), selection_counts(shuffled, EXPERTS))
    assert (selection_counts(experts, EXPERTS).sum(1) == TOKENS * SLOTS).all()


def test_summaries_by_hand():
    experts = torch.tensor([[[0, 1], [0, 2], [0, 1]], [[0, 1], [2, 3], [0, 1]]])  # loads 3 2 1 0 and 2 2 1 1
    assert frequency(experts, 4).value.tolist() == [[1, 2 / 3, 1 / 3, 0], [2 / 3, 2 / 3, 1 / 3, 1 / 3]]
    assert fold_over_uniform(experts, 4).value[0].tolist() == pytest.approx([2, 4 / 3, 2 / 3, 0])
    entropy = -(math.log(1 / 2) / 2 + math.log(1 / 3) / 3 + math.log(1 / 6) / 6)
    assert float(load_entropy(experts, 4).value[0]) == pytest.approx(entropy / math.log(4))
    assert float(effective_experts(experts, 4).value[0]) == pytest.approx(math.exp(entropy))
    assert float(coefficient_of_variation(experts, 4).value[0]) == pytest.approx(math.sqrt(5 / 4) / 1.5)
    assert float(max_violation(experts, 4).value[0]) == pytest.approx(1.0)
    torch.testing.assert_close(lorenz(torch.tensor([3, 2, 1, 0])), torch.tensor([0, 0, 1 / 6, 1 / 2, 1]).double())
    torch.testing.assert_close(lorenz(torch.zeros(4)), torch.tensor([0, 0.25, 0.5, 0.75, 1]).double())


@pytest.mark.parametrize("summary", SUMMARIES)
@pytest.mark.parametrize("tokens", [1, 60, 700])
def test_chance_of_a_summary_is_its_mean_over_uniform_traces(summary, tokens):
    found = summary(uniform(7, 400, tokens, 4, 32), 32)
    spread = float(found.value.std()) / 20
    assert float(found.value.mean()) == pytest.approx(found.chance, abs=4 * spread + 0.02 * abs(found.chance))
    if summary in (load_entropy, coefficient_of_variation):  # exact, resp. the root of an exact square
        mean = found.value.mean() if summary is load_entropy else (found.value**2).mean().sqrt()
        assert float(mean) == pytest.approx(found.chance, abs=4 * spread + 1e-9)


def test_the_textbook_bias_of_the_entropy():
    bits = (1 - load_entropy(uniform(0, 1, 512, 8, 128), 128).chance) * 7
    assert bits == pytest.approx(0.022, abs=0.0015)
    assert bits == pytest.approx((128 - 8) / (2 * 512 * 8 * math.log(2)), rel=0.02)


def test_intervals_cover_the_truth_and_documents_widen_them():
    """Documents with their own habits: the interval must hold the truth, which one over tokens would miss."""
    documents, _ = split()
    covered, widths = [], []
    for seed in range(12):
        generator = torch.Generator().manual_seed(100 + seed)
        habit = torch.exp(0.7 * torch.randn(LAYERS, 80, EXPERTS, generator=generator))
        found = frequency(weighted(habit[:, documents], seed), EXPERTS, documents, seed=seed)
        covered.append(((found.low <= found.chance) & (found.chance <= found.high)).double().mean())
        widths.append((found.high - found.low).mean())
    independent = 2 * 1.96 * math.sqrt(SLOTS / EXPERTS * (1 - SLOTS / EXPERTS) / TOKENS)
    assert 0.90 <= float(sum(covered) / 12) <= 0.99
    assert float(sum(widths) / 12) > 1.25 * independent


def test_the_same_seed_gives_the_same_interval():
    documents, _ = split()
    first, second = (frequency(uniform(0), EXPERTS, documents, seed=3) for _ in range(2))
    assert torch.equal(first.low, second.low) and torch.equal(first.high, second.high)
    assert not torch.equal(first.low, frequency(uniform(0), EXPERTS, documents, seed=4).low)
    assert first.enough and first.n == 80 and first.unit == "documents"


@pytest.mark.parametrize("summary", (frequency, *SUMMARIES))
def test_values_equal_those_of_all_documents_combined(summary):
    documents, _ = split()
    found, alone = summary(uniform(0), EXPERTS, documents), summary(uniform(0), EXPERTS)
    torch.testing.assert_close(found.value, alone.value)
    inside = documents % 3 > 0
    left_out = summary(uniform(0), EXPERTS, torch.where(inside, documents, -1))
    torch.testing.assert_close(left_out.value, summary(uniform(0)[:, inside], EXPERTS).value)
    assert (found.high - found.low < alone.high - alone.low).all()


@pytest.mark.parametrize("summary", (frequency, fold_over_uniform, *SUMMARIES))
def test_one_token_one_document_and_a_never_selected_expert_give_numbers(summary):
    one = torch.tensor([[[2, 0]]])
    for documents in (None, torch.tensor([5])):
        found = summary(one, 6, documents)
        for numbers in (found.value, found.low, found.high):
            assert torch.isfinite(numbers).all()
        assert (found.low <= found.value).all() and (found.value <= found.high).all() and not found.enough
    wide = frequency(one, 6)
    assert (wide.low == 0).all() and (wide.high == 1).all()  # one text says nothing about others
    assert summary(torch.zeros(1, 3, 1, dtype=torch.int64), 1).value.isfinite().all()


def test_512_experts():
    experts = uniform(0, 2, 300, 10, 512)
    assert (selection_counts(experts, 512).sum(1) == 3000).all()
    assert float(load_entropy(experts, 512).value[0]) == pytest.approx(load_entropy(experts, 512).chance, abs=0.01)


def test_invalid_input():
    experts = uniform(0, 2, 9, 3, 7)
    with pytest.raises(BadArgument, match=r"ids 0..6.*num_experts=5"):
        selection_counts(experts, 5)
    with pytest.raises(BadArgument, match="Select some tokens"):
        selection_counts(experts[:, :0], 7)
    with pytest.raises(BadArgument, match="documents has shape"):
        frequency(experts, 7, torch.zeros(8))
    with pytest.raises(BadArgument, match="no token has both"):
        frequency(experts, 7, torch.full((9,), -1))
    with pytest.raises(BadArgument, match="two domains"):
        document_counts(experts, 7, torch.zeros(9), torch.arange(9) % 2)
