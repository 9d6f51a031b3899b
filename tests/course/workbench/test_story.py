"""The story of a workbench: what the model writes with the reader's functions, beside the library's text."""

import pytest
import torch

import minimoe
from minimoe.course.workbench.story import common
from minimoe.errors import BadArgument
from minimoe.model.router import Routing, route
from minimoe.text.sampling import sample

PROMPT = "The cat"


@pytest.fixture(scope="module")
def mini():
    return minimoe.load("data/mini", dtype="fp32")


def library_text(mini, count):
    return "".join(minimoe.generate(*mini, PROMPT, max_new_tokens=count, temperature=0))


def reversed_route(logits, top_k, renormalise):
    return Routing(logits, *route(-logits, top_k, renormalise)[1:])


def test_the_same_function_writes_the_same_text(mini):
    model, tokenizer = mini
    with minimoe.workbench(model, route=route) as bench:
        story = bench.story(tokenizer, PROMPT, max_new_tokens=12)
    assert story.same and story.agreed == 12 and story.my_texts == (library_text(mini, 12), "")
    assert story.headline == "With your route the model wrote the same 12 tokens as with the library's."
    assert "library's</th>" not in story._repr_html_() and story.my_texts[0] in repr(story)


def test_another_router_writes_another_text(mini):
    model, tokenizer = mini
    with minimoe.workbench(model, route=reversed_route) as bench:
        story = bench.story(tokenizer, PROMPT, max_new_tokens=8)
    assert not story.same and "".join(story.their_texts) == library_text(mini, 8)
    assert story.mine[: story.agreed] == story.theirs[: story.agreed] and "".join(story.my_texts) in repr(story)
    assert "another text" in story.headline and story._repr_html_().count("<mark") == 2
    assert library_text(mini, 8) == "".join(story.their_texts), "the model is as before"


def test_a_part_that_is_not_written_has_no_effect(mini, capsys):
    model, tokenizer = mini
    with minimoe.workbench(model, route=...) as bench:
        story = bench.story(tokenizer, PROMPT, max_new_tokens=3)
    assert story.same and story.headline == "None of your functions ran, so both texts are the library's."


def test_a_router_that_gives_nan_ends_the_text(mini):
    model, tokenizer = mini

    def nan_route(logits, top_k, renormalise):
        return Routing(
            logits, *route(logits, top_k, renormalise)[1:2], route(logits, top_k, renormalise)[2] * torch.nan
        )

    with minimoe.workbench(model, route=nan_route) as bench:
        story = bench.story(tokenizer, PROMPT, max_new_tokens=3)
    assert story.mine == () and "NaN" in story.stopped and "NaN" in story._repr_html_() and "NaN" in repr(story)
    assert story.headline == "With your route the model wrote another text from the first token on."


def test_draws_with_a_seed_are_the_same_for_the_readers_sample(mini):
    model, tokenizer = mini
    with minimoe.workbench(model, sample=sample) as bench:
        story = bench.story(tokenizer, PROMPT, max_new_tokens=6, temperature=1.0, seed=3)
    assert story.same and story.parts == ("sample",)


def test_bad_arguments(mini):
    model, tokenizer = mini
    with minimoe.workbench(model, route=route) as bench:
        for wrong in (0, 2.5, True):
            with pytest.raises(BadArgument, match="max_new_tokens"):
                bench.story(tokenizer, PROMPT, max_new_tokens=wrong)
        with pytest.raises(BadArgument, match="prompt is empty"):
            bench.story(tokenizer, "")
        with pytest.raises(BadArgument, match="temperature"):
            bench.story(tokenizer, PROMPT, temperature=-1)


def test_html_is_escaped(mini):
    from minimoe.course.workbench.story import Story

    story = Story((1,), (2,), ("<b>", "&"), ("<b>", "<i>"), ("route",))
    assert "&lt;b&gt;<mark" in story._repr_html_() and "<i>" not in story._repr_html_()


@pytest.mark.parametrize("mine, theirs, number", [("", "", 0), ("ab", "ab", 2), ("ab", "abc", 2), ("xb", "ab", 0)])
def test_common(mine, theirs, number):
    assert common(mine, theirs) == common(theirs, mine) == number
