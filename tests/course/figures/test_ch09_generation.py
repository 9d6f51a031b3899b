"""Chapter 09: the desk and its worlds, guesses that never change a text, and what the pictures count."""

import pytest
import torch

import minimoe
from minimoe.course.figures import ch09_drafts as drafts
from minimoe.course.figures import ch09_passes as passes
from minimoe.course.figures import ch09_sampling as sampling
from minimoe.errors import BadArgument
from minimoe.text.generate import new_ids, prompt_ids
from minimoe.text.sampling import SamplingSettings, sample

GREEDY = SamplingSettings(temperature=0)
PLOTLY = "application/vnd.plotly.v1+json"


@pytest.fixture(scope="module")
def mini():
    model, tokenizer = minimoe.load("data/mini", dtype="fp32")
    question = [{"role": "user", "content": "Tell me a story about a cat."}]
    return model, tokenizer, prompt_ids(tokenizer, question, thinking=False)


# The sampler's desk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        SamplingSettings(0.7, top_k=5),
        SamplingSettings(1.5, top_p=0.6),
        SamplingSettings(2.0, min_p=0.2),
        SamplingSettings(1.0, 20, 0.9, 0.1),
        GREEDY,
    ],
)
def test_shares_are_the_frequencies_of_the_librarys_draws(settings):
    logits = 2 * torch.randn(12, generator=torch.Generator().manual_seed(9))
    many = logits.expand(20_000, -1)
    chosen = sample(
        many, settings.temperature, top_k=settings.top_k, top_p=settings.top_p, min_p=settings.min_p,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    frequencies = chosen.bincount(minlength=12) / len(chosen)
    shares = sampling.shares(logits, settings)
    assert (frequencies - shares).abs().max() < 0.015
    assert frequencies[shares == 0].sum() == 0
    assert list(sampling.kept(logits, settings).values())[-1:] in ([], [int((shares > 0).sum())])


def test_dice_fall_on_tokens_as_wide_as_their_probability():
    probabilities = torch.tensor([0.2, 0.5, 0.3]).expand(4, -1)
    dice = torch.tensor([0.1, 0.49, 0.6, 0.95])
    assert sampling.draw(probabilities, dice).tolist() == [1, 1, 2, 0]


def test_greedy_worlds_are_the_text_of_generate(mini):
    model, tokenizer, prompt = mini
    worlds = sampling.write_worlds(model, tokenizer, prompt, GREEDY, worlds=3, count=12)
    assert worlds.ids == (tuple(new_ids(model, tokenizer, prompt, 12, GREEDY)),) * 3
    assert worlds.different == worlds.first_tokens == 1
    assert repr(worlds).startswith("Temperature 0: 3 worlds, 1 different text\n")


def test_worlds_depend_on_their_dice_alone(mini):
    model, tokenizer, prompt = mini
    settings = SamplingSettings(temperature=1.2)
    first = sampling.write_worlds(model, tokenizer, prompt, settings, worlds=4, count=8, seed=5)
    again = sampling.write_worlds(model, tokenizer, prompt, settings, worlds=4, count=8, seed=5)
    other = sampling.write_worlds(model, tokenizer, prompt, settings, worlds=4, count=8, seed=6)
    assert first == again != other and first.different > 1
    with pytest.raises(BadArgument, match="prompt is empty"):
        sampling.write_worlds(model, tokenizer, [], settings)


def test_a_world_ends_before_its_stop_id():
    assert sampling.until_stop([4, 5, 9, 5], (9, 8)) == (4, 5)
    assert sampling.until_stop([4, 5], (9,)) == (4, 5) and sampling.until_stop([9], (9,)) == ()


def test_the_rows_of_a_forked_cache_are_the_one_before(mini):
    model, _, prompt = mini
    once = model.new_cache(capacity=40)
    with torch.no_grad():
        model(torch.tensor([prompt]), cache=once)
        copies = sampling.fork(model, once, 3)
        alone = model(torch.tensor([[5]]), cache=once)
        together = model(torch.tensor([[5], [7], [5]]), cache=copies)
    assert copies.length == len(prompt) + 1
    assert torch.allclose(together[0], alone[0], atol=1e-3) and torch.allclose(together[2], alone[0], atol=1e-3)
    assert not torch.allclose(together[1], alone[0], atol=1e-1)


def test_the_desk_follows_its_sliders(mini):
    model, tokenizer, prompt = mini
    desk = sampling.sampler_desk(model, tokenizer, {"a": prompt, "b": tokenizer.encode("There it met a")}, "mini")
    controls = {control.description.split()[0]: control for control in desk.children[0].children}

    def shown():
        picture, worlds = (output["data"] for output in desk.children[1].outputs)
        return picture["text/plain"], worlds["text/plain"]

    controls["prompt"].value = "b"
    wide, texts = shown()
    assert wide.startswith("1,990 tokens can come next (mini)") and texts.startswith("Temperature 1: 10 worlds, ")
    controls["top-k"].value = 3
    assert shown()[0].startswith("3 tokens") and "top-k 3: 3 tokens left" in shown()[0]
    controls["temperature"].value = 0
    assert shown()[0].startswith("1 token can") and "10 worlds, 1 different text\n" in shown()[1]


# Guess and check -----------------------------------------------------------------------------------------------------


def test_the_drafter_finds_what_followed_the_last_time():
    ids = [1, 2, 3, 4, 9, 1, 2, 3]
    assert drafts.ngram_draft(ids, 2) == [4, 9]
    assert drafts.ngram_draft([1, 5, 1, 6, 1], 3) == [6, 1]  # the latest of two places
    assert drafts.ngram_draft([1, 2, 3], 4) == []


def oracle(model, tokenizer, prompt):
    """A drafter that knows the text."""
    text = [*prompt, *new_ids(model, tokenizer, prompt, 60, GREEDY)]
    return lambda ids, count: text[len(ids) : len(ids) + count]


def test_no_drafter_changes_the_text(mini):
    model, tokenizer, prompt = mini
    text = tuple(new_ids(model, tokenizer, prompt, 30, GREEDY))
    drafters = {
        "n-grams": drafts.ngram_draft,
        "nonsense": lambda ids, count: [5] * count,
        "nothing": lambda ids, count: [],
        "the truth": oracle(model, tokenizer, prompt),
    }
    found = {name: drafts.write_with_drafts(model, tokenizer, prompt, 30, 4, draft) for name, draft in drafters.items()}
    assert all(each.ids == text for each in found.values())
    assert found["nothing"].passes == found["nonsense"].passes == 30 and found["nonsense"].accepted == 0
    assert found["the truth"].passes <= 8  # the prompt, and five tokens a pass


# What the pictures count ---------------------------------------------------------------------------------------------


def test_the_two_triangles_count_passes_and_pairs():
    picture = passes.twice_the_matrix(3, 4, "a title")
    pairs = sum(length * (length + 1) // 2 for length in range(3, 7))  # a whole triangle for each new token
    assert f"Without a cache {pairs} pairs are computed, with one {6 * 7 // 2}." in picture.alt
    assert passes.pair_table(2, [7, 8]) == [[7, None], [8, 8]]
    assert "4 passes for the prompt, then 2 of one row" in passes.chunk_matrix(7, 3, 2, "a title").alt


def test_the_benchmark_of_one_token_has_the_three_curves():
    measured = passes.benchmark()
    curves = [passes.seconds_by_position(measured, *kind) for kind in ((False, False), (True, False), (True, True))]
    assert len({tuple(curve) for curve in curves}) == 1 and list(curves[0]) == sorted(curves[0])
    assert len(passes.time_curves(measured, "a title").figure.data) == 3


def test_released_settings_are_those_of_the_checkpoint():
    assert sampling.released_settings("Qwen3-235B-A22B") == {
        "temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0,
    }  # fmt: skip
