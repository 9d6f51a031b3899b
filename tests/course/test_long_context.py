"""A model stretched beyond its training: each method does what it says, and nothing else changes."""

import pytest
import torch

import minimoe
from minimoe.course import long_context
from minimoe.course.figures import ch17_charts, ch17_distances
from minimoe.errors import BadArgument
from minimoe.model.attention import attend
from minimoe.model.rope import frequencies_and_scale


@pytest.fixture(scope="module")
def mini():
    return minimoe.load("data/mini", dtype="fp32")


@pytest.fixture(scope="module")
def text(mini):
    return long_context.far_text(mini[1], 200, "test")


def test_the_mini_was_trained_on_rows_of_256(tmp_path):
    assert long_context.trained_length("data/mini") == 256
    assert long_context.trained_length(tmp_path) == long_context.ROW


@pytest.mark.parametrize("method", ["plain RoPE", "scaled positions", "YaRN", "dual chunk"])
def test_within_the_training_each_method_is_the_model_itself(method, mini, text):
    model, _ = mini
    with torch.no_grad():
        expected = model(torch.tensor([text]))[0]
    with long_context.stretched(model, method, len(text), 256):
        found = long_context.logits_of(model, text)
    assert torch.allclose(found, expected, atol=2e-3)


def test_a_window_hides_what_is_older(mini, text):
    model, _ = mini
    changed = [(text[0] + 1) % 100, *text[1:]]
    with long_context.stretched(model, "window", len(text), 32):
        one, other = (long_context.logits_of(model, ids) for ids in (text, changed))
    assert not torch.equal(one[5], other[5])
    assert torch.allclose(one[80:], other[80:], atol=1e-4)  # four layers reach four windows of 16 back


def test_an_unknown_method(mini):
    with pytest.raises(BadArgument, match="expected one of plain RoPE"):
        long_context.scores_of("NTK", mini[0].config, 10, 5)


def test_parts_are_merged(mini):
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, heads, 50, 8, generator=generator) for heads in (6, 3, 3))
    mask = torch.ones(50, 50).tril().bool()

    def merge(contexts, sums):
        return (sums.softmax(dim=0)[:, :, None] * contexts).sum(dim=0)

    found = long_context.attention_in_parts(merge, 13)(q, k, v, mask)
    assert torch.allclose(found, attend(q, k, v, mask), atol=1e-5)


def test_far_texts_have_their_length_and_depend_on_the_seed_alone(mini):
    _, tokenizer = mini
    one, same, other = (long_context.far_text(tokenizer, 300, seed) for seed in ("a", "a", "b"))
    assert len(one) == 300 and one == same != other
    assert long_context.far_text(tokenizer, 100, "a") == one[:100]


def test_a_needle_holds_its_answer_once(mini):
    _, tokenizer = mini
    near, far = (long_context.needle(tokenizer, "needle 3", 0, between) for between in (0, 90))
    text = tokenizer.decode(far.prompt)
    assert near.answer == far.answer and 60 < len(far.prompt) - len(near.prompt) <= 90
    assert text.count("costs") == 1 and "How much is the" in text
    assert tokenizer.decode(far.answer).removesuffix(".").lower() in text.lower()
    before = long_context.needle(tokenizer, "needle 3", 50, 0)
    assert before.prompt[50:] == near.prompt and len(before.prompt) == 50 + len(near.prompt)


def test_the_recorded_file_has_a_number_for_each_place():
    measured = ch17_charts.recorded("mini")
    assert set(measured["found"]) == set(long_context.METHODS) < set(measured["loss"])
    assert all(len(row) == len(measured["before"]) for row in measured["found"].values())
    assert all(len(row) == measured["length"] // measured["trained"] for row in measured["loss"].values())
    assert len(measured["found_between"]) == len(measured["between"])


def test_the_first_needle_and_the_first_rows_are_as_recorded(mini):
    """A small part of the recording, again."""
    model, tokenizer = mini
    measured = ch17_charts.recorded("mini")
    with long_context.stretched(model, "plain RoPE", 288, 256):
        assert long_context.finds(model, long_context.needle(tokenizer, "needle 0", 0, 0)) == (
            measured["found"]["plain RoPE"][0] == measured["needles"]
        )


def test_facts_have_sources():
    facts = ch17_charts.recorded("facts")
    for fact in (*facts["contexts"], facts["card"], *facts["chunks"], *facts["servers"]):
        assert fact["source"] and fact["status"] in ("confirmed", "single")
        assert "/work" not in str(fact)


@pytest.mark.parametrize("method", ch17_distances.METHODS)
def test_the_picture_shows_the_distance_that_the_model_uses(method, mini):
    """By the scores of two random vectors: turned by `used` they have the score of the method."""
    config, positions, pair = mini[0].config, torch.arange(0, 96, 8), 5
    used = ch17_distances.used_distances(method, config, positions, 96, 24, pair)
    frequency = frequencies_and_scale(config)[0][pair].double()
    generator = torch.Generator().manual_seed(2)
    q, k = (torch.zeros(1, 1, 96, config.head_dim) for _ in range(2))
    arrows = torch.randn(2, 2, generator=generator)
    for x, arrow in zip((q, k), arrows, strict=True):
        x[..., pair], x[..., pair + config.head_dim // 2] = arrow
    scores = long_context.scores_of(method, config, 96, 24)(q, k)[0, 0].double()
    scale = frequencies_and_scale(long_context.yarn_config(config, 4, 24))[1] ** 2 if method == "YaRN" else 1
    (a, b), (c, d) = arrows.double().tolist()
    expected = (a * c + b * d) * (used * frequency).cos() + (a * d - b * c) * (used * frequency).sin()
    assert torch.allclose(scores[::8, ::8].tril(), (expected * scale).tril(), atol=1e-3)


def test_figures_say_what_they_show(mini):
    config = mini[0].config
    widget = ch17_distances.explore_distances(config, "mini", 256, 64)
    method, pair, query, key = widget.children[0].children
    title = widget.children[1].outputs[0]["data"]["application/vnd.plotly.v1+json"]["layout"]["title"]["text"]
    assert title.startswith("plain RoPE: ") and "beyond" in title
    method.value, query.value, key.value = "dual chunk", 240, 16
    title = widget.children[1].outputs[0]["data"]["application/vnd.plotly.v1+json"]["layout"]["title"]["text"]
    assert title.startswith("dual chunk: 0%") and "Query 240, key 16: 224" in title.replace("<br>", " ")
    key.value = 240
    query.value = 16  # a key behind its query is moved to it
    assert "Query 16, key 16: 0" in str(widget.children[1].outputs[0]["data"]).replace("<br>", " ")
