"""Wrong answers that are no mutant are explained by part, by stage or by relation; predictions keep their solution."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
import torch

from minimoe.course.checker.check import judge
from minimoe.course.checker.exercise import Case, Exercise, Stage
from minimoe.course.checker.unchanged_code import is_given


class Pair(NamedTuple):
    order: torch.Tensor
    share: torch.Tensor


def right(logits, dtype=torch.float32):
    shares = logits.float().softmax(-1)
    ordered = shares.sort(-1, descending=True)
    return Pair(ordered.indices, ordered.values.to(logits.dtype))


def draw(generator):
    return (torch.randn(3, 6, generator=generator),)


def draw_double(generator):
    return (torch.randn(2, 5, generator=generator, dtype=torch.float64),)


def exercise(**changes):
    settings = dict(
        id="99.1",
        title="Shares",
        kind="fill in",
        minutes=5,
        difficulty=1,
        hints=("A nudge.", "The shapes.", "The steps."),
        now_you_know="that is how.",
        oracle=right,
        cases=(Case("drawn", draw), Case("drawn again", draw)),
        mutants={
            "ascending": (lambda x: Pair(x.argsort(-1), right(x).share), "the order is ascending."),
            "squared": (lambda x: Pair(right(x).order, right(x).share ** 2), "the shares are squared."),
        },
        stages=(Stage("share", lambda x: x.sort(-1, descending=True).values, "is the logits before the softmax"),),
    )
    return Exercise(**(settings | changes))


def test_the_parts_that_are_right_are_named():
    text = judge(exercise(), lambda x: Pair(right(x).order, torch.rand(x.shape))).text
    assert "Right: order. Wrong: share." in text


def test_no_part_is_wrong_if_only_the_argument_was_changed():
    def in_place(x):
        answer = right(x)
        x.zero_()
        return answer

    verdict = judge(exercise(), in_place)
    assert verdict.explanation is None and "in place" in verdict.text and "Wrong:" not in verdict.text


def test_the_first_stage_that_a_part_equals_is_named():
    verdict = judge(exercise(), lambda x: Pair(right(x).order, x.sort(-1, descending=True).values))
    assert verdict.misconception is None
    assert verdict.explanation == "Right: order. share is the logits before the softmax."


def test_a_relation_is_named():
    assert (
        "share is 3 times the right one" in judge(exercise(), lambda x: Pair(right(x).order, 3 * right(x).share)).text
    )


def related(mistake):
    """The explanation of an answer that returns `mistake` of a random tensor, in two calls of different sizes."""
    sizes = [
        Case("drawn", lambda generator, size=size: (torch.randn(4, size, generator=generator),)) for size in (2, 5)
    ]
    identity = exercise(oracle=lambda x: x, cases=tuple(sizes), mutants={}, stages=())
    return judge(identity, mistake).explanation


def test_relations_that_differ_from_call_to_call_are_told_by_what_they_have_in_common():
    assert related(lambda x: x.flip(-1)) == "Your result has the right values along its axis 1, in another order."
    assert related(lambda x: x / x.shape[-1]) == (
        "Your result is the right one times a factor that differs from call to call."
    )
    assert related(lambda x: x.flip(-1) if x.shape[-1] == 2 else x / 2) is None


def test_two_mistakes_at_once_are_a_pair():
    verdict = judge(exercise(), lambda x: Pair(x.argsort(-1), right(x).share ** 2))
    assert verdict.mutant == "ascending + squared"
    assert "the order is ascending." in verdict.text and "the shares are squared." in verdict.text


def test_a_plain_tuple_is_recognised_like_the_named_one():
    assert judge(exercise(), lambda x: (x.argsort(-1), right(x).share)).mutant == "ascending"


def test_a_mutant_is_recognised_in_the_precision_of_the_answer():
    """The case accepts float32; an answer in float32 has the mutant's mistake, and the mutant computes in float64."""
    only = exercise(
        oracle=lambda x: x.exp(),
        cases=(Case("float64, to float32's precision", draw_double, tolerance=1e-5),),
        mutants={"negative": (lambda x: (-x).exp(), "the sign of the exponent.")},
        stages=(),
    )
    assert judge(only, lambda x: x.float().exp().double()).status == "ok"
    assert judge(only, lambda x: (-x).float().exp().double()).mutant == "negative"


def test_numbers_that_print_alike_are_shown_with_more_digits():
    table = str(judge(exercise(oracle=lambda x: x, mutants={}, stages=()), lambda x: x * (1 + 3e-5)))
    expected, got = table.split("got:")
    assert expected.split("expected:")[1].split()[0] != got.split()[0].rstrip("*")


def given_on_the_page(values):
    """A sum."""
    total = 0
    for value in values:
        total = total + value
    return total


def test_the_code_of_the_page_is_no_answer():
    def mine(values):
        total = 0
        for value in values:
            total = total + value
        return total

    def another(values):
        return sum(values)

    assert is_given(mine, given_on_the_page) and not is_given(another, given_on_the_page)
    rewrite = exercise(oracle=sum, cases=(Case("three", ([1, 2, 3],)),), mutants={}, stages=(), given=given_on_the_page)
    assert "code from the page, unchanged" in judge(rewrite, mine).text
    assert judge(rewrite, another).status == "ok"


PREDICTION = exercise(
    kind="predict",
    cases=(),
    oracle=None,
    stages=(),
    expected={"grows": True, "how often": 3, "which": "matched tokens"},
    reasons={"grows": "Look at the sign of the exponent."},
    mutants={},
)


@pytest.mark.parametrize("yes", [True, 1, np.True_, np.int64(1), torch.tensor(True)])
@pytest.mark.parametrize("three", [3, 3.0, np.int32(3), torch.tensor(3), Fraction(3)])
def test_a_prediction_takes_any_kind_of_scalar(yes, three):
    assert judge(PREDICTION, {"grows": yes, "how often": three, "which": "Matched  Tokens."}).status == "ok"


def test_a_wrong_prediction_is_counted_and_not_solved():
    text = judge(PREDICTION, {"grows": False, "how often": 4, "which": "matched tokens"}).text
    assert "1 of 3 are right." in text and "Look at the sign of the exponent." in text
    assert "True" not in text and "3," not in text and "expected" not in text


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"grows": True, "how often": 3}, "'which' is missing"),
        ({"grows": True, "how often": 3, "which": "a", "more": 1}, "'more' is no question"),
        ({"grows": "yes", "how often": 3, "which": "a"}, "grows is str 'yes', expected True or False"),
        ([True, 3, "a"], "expected a dict"),
    ],
)
def test_the_form_of_a_prediction_is_explained(answer, says):
    assert says in judge(PREDICTION, answer).text


def test_an_unanswered_question_leaves_the_exercise_open():
    assert judge(PREDICTION, {"grows": True, "how often": ..., "which": "matched tokens"}).status == "todo"


def test_an_estimate_is_told_its_direction_and_not_the_number():
    estimate = exercise(kind="estimate", cases=(), oracle=None, stages=(), expected=1000, factor=1.5, mutants={})
    assert "too high, by a factor of 8" in judge(estimate, 8000).text and "1,000" not in judge(estimate, 8000).text
    assert "too low, by a factor of 2" in judge(estimate, 500).text


def test_open_questions_are_counted():
    text = judge(PREDICTION, {"grows": True, "how often": ..., "which": "matched tokens"}).text
    assert "1 of 3 is still open" in text
    assert "still open" not in judge(PREDICTION, {"grows": ..., "how often": ..., "which": ...}).text


def test_without_a_reason_the_mutant_that_misses_only_this_question_gives_it():
    right = {"grows": True, "how often": 3, "which": "matched tokens"}
    mutants = {"one too many": (right | {"how often": 4}, "The first is counted twice.")}
    verdict = judge(
        replace(PREDICTION, mutants=mutants, reasons={}), right | {"how often": 5, "which": "matched tokens"}
    )
    assert 'Think again about "how often": The first is counted twice.' in verdict.text


@pytest.mark.parametrize(
    "value", [torch.zeros(3), np.array([0, 1]), 3j, Decimal(5), float("nan"), float("inf"), "8", [3], {}, print]
)
@pytest.mark.parametrize("question", ["grows", "how often", "which"])
def test_no_value_breaks_a_prediction(question, value):
    right = {"grows": True, "how often": 3, "which": "matched tokens"}
    assert judge(PREDICTION, right | {question: value}).status == "wrong"
    assert judge(replace(PREDICTION, expected=1000, factor=1.5), value).status == "wrong"


def test_lambdas_that_differ_in_a_number_are_not_the_same_code():
    one, same, other = (eval(text) for text in ("lambda x: x * 2 + 1", "lambda x: x * 2 + 1", "lambda x: x * 3 + 1"))
    assert is_given(same, one) and not is_given(other, one)
