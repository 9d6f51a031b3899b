"""Routing measurements: right on routings made by hand, at chance where there is nothing to find."""

import pytest
import torch

from minimoe.model.transformer import Transformer
from minimoe.paths import checkout
from minimoe.training.corpus.batches import GeneratedSource, read_tokenizer
from minimoe.training.evaluation.intervals import interval, rate
from minimoe.training.evaluation.specialisation import (
    LENGTH,
    PURE,
    Passages,
    domain_from_counts,
    domain_from_one_shared_token,
    kind_of_token,
    overlap_of_neighbours,
    passages,
)
from tests.training.test_loop import CONFIG

EXPERTS, TOP_K = 16, 4


def drawn(seed: int, among: slice = slice(None), count: int = 20, length: int = 12) -> Passages:
    """Passages over five token ids whose experts are drawn from a part of the experts."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.full((count, length, 2, EXPERTS), -1.0)
    scores[..., among] = torch.rand(scores[..., among].shape, generator=generator)
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, scores.topk(TOP_K, dim=-1).indices, True)
    return Passages(torch.randint(0, 5, (count, length), generator=generator), chosen)


def test_domains_with_separate_experts_are_recognised() -> None:
    parts = {"a": slice(0, 8), "b": slice(8, 16)}
    train = {name: drawn(number, part) for number, (name, part) in enumerate(parts.items())}
    held_out = {name: drawn(9 + number, part) for number, (name, part) in enumerate(parts.items())}
    assert domain_from_counts(train, held_out)["rate"] == 1.0
    shared = domain_from_one_shared_token(train, held_out)
    assert shared["rate"] == 1.0 and shared["shared_tokens"] == 5 and shared["chance"] == 0.5


def test_without_specialisation_accuracy_is_at_chance() -> None:
    train = {name: drawn(seed) for seed, name in enumerate("abcd")}
    held_out = {name: drawn(10 + seed, count=60) for seed, name in enumerate("abcd")}
    shared = domain_from_one_shared_token(train, held_out)
    assert shared["of"] > 1000
    assert shared["rate"] == pytest.approx(0.25, abs=0.05)
    assert shared["chance_band"][0] < 0.25 < shared["chance_band"][1]


def test_token_is_tested_only_on_its_own_domains() -> None:
    """Domain c has token ids of its own, so chance stays one half; where no two domains share any, there is no rate."""
    train = {name: drawn(seed) for seed, name in enumerate("abc")}
    held_out = {name: drawn(10 + seed) for seed, name in enumerate("abc")}
    held_out["c"] = Passages(held_out["c"].tokens + 5, held_out["c"].chosen)
    shared = domain_from_one_shared_token(train, held_out)
    assert (shared["chance"], shared["shared_tokens"]) == (0.5, 5)
    only = {"b": train["b"], "c": train["c"]}
    assert domain_from_one_shared_token(only, {name: held_out[name] for name in only}) == {
        "shared_tokens": 0,
        "kinds": {},
    }


def test_results_by_kind_ignore_tokens_without_a_kind() -> None:
    train = {name: drawn(seed) for seed, name in enumerate("ab")}
    held_out = {name: drawn(10 + seed) for seed, name in enumerate("ab")}
    shared = domain_from_one_shared_token(
        train, held_out, lambda token: {0: "digits", 1: "digits", 2: None}.get(token, "words")
    )
    assert shared["shared_tokens"] == 4
    assert {kind: part["shared_tokens"] for kind, part in shared["kinds"].items()} == {"digits": 2, "words": 2}
    assert sum(part["of"] for part in shared["kinds"].values()) == shared["of"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("7", "digits"),
        (" the", "words"),
        ("猫", "words"),
        (".", "punctuation"),
        ("<|endoftext|>", None),
        ("\ufffd", None),
    ],
)
def test_kind_of_token(text: str, kind: str | None) -> None:
    assert kind_of_token(text) == kind


def test_overlap_of_equal_and_of_random_neighbours() -> None:
    seen = drawn(0, count=200)
    constant = Passages(seen.tokens, seen.chosen[:, :1].expand_as(seen.chosen))
    found = overlap_of_neighbours({"same": constant, "random": seen}, TOP_K)
    assert found["neighbours"]["same"] == [1.0, 1.0]
    assert found["two_random_sets"] == TOP_K / EXPERTS
    assert found["neighbours"]["random"] == pytest.approx([0.25, 0.25], abs=0.02)
    assert found["same_domain_at_random"]["random"] == pytest.approx([0.25, 0.25], abs=0.02)


def test_passages_are_fixed_and_have_top_k_experts() -> None:
    source = GeneratedSource(read_tokenizer(checkout() / "data" / "mini"))
    model = Transformer(CONFIG)
    for domain in PURE:
        first, again = (passages(model, source, domain, "held-out", 3) for _ in range(2))
        assert torch.equal(first.tokens, again.tokens) and torch.equal(first.chosen, again.chosen)
        assert first.tokens.shape == (3, LENGTH)
        assert (first.chosen.sum(dim=-1) == CONFIG.num_experts_per_tok).all()


@pytest.mark.parametrize(
    ("right", "total", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)]
)
def test_intervals_equal_published_values(right: int, total: int, low: float, high: float) -> None:
    # 81 of 263: the worked example of Newcombe, Statistics in Medicine 17 (1998) 857
    assert interval(right, total) == pytest.approx((low, high), abs=6e-5)


def test_rate_without_samples_is_none() -> None:
    assert rate(0, 0)["rate"] is None
    assert rate(1, 4)["rate"] == 0.25
