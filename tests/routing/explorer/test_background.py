"""The background of a short text: shares and examples counted one by one, and when there is none."""

import base64

import pytest

import minimoe
from minimoe.errors import BadTrace
from minimoe.routing.explorer.background import background_of
from minimoe.routing.trace.synthetic import synthetic_trace


@pytest.fixture
def long():
    trace = synthetic_trace(layers=3, tokens=1500, num_experts=16, top_k=2, seed=4)
    trace.metadata["router_sha256"] = "ab" * 32
    return trace


@pytest.fixture
def short(long):
    return long.select(long.documents == long.documents[0])


def test_shares_and_examples_are_counted(long, short):
    found = background_of(short, long)
    assert found["title"] == long.title and found["domains"] == list(long.domain_names)
    layer, expert = 1, 5
    chosen = [set(row) for row in long.experts[layer].tolist()]
    for domain, tokens in enumerate(found["tokens"]):
        inside = [expert in row for row, own in zip(chosen, long.domains.tolist(), strict=True) if own == domain]
        assert tokens == len(inside)
        assert found["shares"][domain][layer][expert] == pytest.approx(sum(inside) / len(inside), abs=6e-5)
    known = {base64.b64decode(text): int(token) for token, text in long.metadata["token_bytes"].items()}
    rows = found["examples"][layer]
    assert any(rows) and max(map(len, rows)) <= 4
    for expert, examples in enumerate(rows):
        for text, used, times in examples:
            token = known[base64.b64decode(text)]
            users = [expert in row for row, own in zip(chosen, long.tokens.tolist(), strict=True) if own == token]
            assert (used, times) == (sum(users), len(users)) and times >= 10


def test_a_background_of_other_routers_is_refused(long, short):
    other = synthetic_trace(layers=3, tokens=900, num_experts=16, top_k=2, seed=5)
    other.metadata["router_sha256"] = "cd" * 32
    with pytest.raises(BadTrace, match="other routers or layers"):
        background_of(short, other)
    with pytest.raises(BadTrace, match="other routers or layers"):
        minimoe.explore(short, background=other)
    assert background_of(short) is None, "the course's own trace is not of this model"
    assert background_of(long, other) is None, "a long trace needs none"


def test_a_sentence_read_by_the_mini_finds_the_course_s_own_trace():
    model, tokenizer = minimoe.load("data/mini")
    with minimoe.record_routing(model, tokenizer) as trace:
        model([tokenizer.encode("The cat sleeps.")])
    found = background_of(trace)
    assert found["domains"] == ["en", "zh", "code", "math"] and sum(found["tokens"]) == 8815
    assert minimoe.explore(trace).header["traces"][0]["background"] == found
