"""check on an exercise that exists for this test only: what it says, in which order, and what it leaves alone."""

import pytest
import torch
from einops import einsum, rearrange

import minimoe
from minimoe.course.checker import exercise as registry
from minimoe.course.checker import hints, progress
from minimoe.course.checker.check import judge
from minimoe.course.checker.exercise import Case, Exercise
from minimoe.errors import BadArgument


def oracle(x, scale):
    return torch.stack([torch.stack([value * scale for value in row]) for row in x])


def draw(generator):
    return torch.randn(3, 5, generator=generator), 3.0


def fake(**changes):
    settings = dict(
        id="99.1",
        title="Scale",
        kind="fill in",
        minutes=5,
        difficulty=1,
        hints=("A nudge.", "The shapes.", "The steps."),
        now_you_know="you can multiply.",
        oracle=oracle,
        cases=(
            Case("by hand", (torch.tensor([[1.0, 2.0]]), 2.0), torch.tensor([[2.0, 4.0]])),
            Case("random numbers", draw),
        ),
        mutants={
            "adds": (lambda x, scale: x + scale, "you add instead of multiplying."),
            "turned": (lambda x, scale: (x * scale).T, "the axes are swapped."),
        },
    )
    return Exercise(**(settings | changes))


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Two exercises of a chapter that does not exist, and a progress of their own."""
    value = fake(id="99.2", kind="estimate", cases=(), oracle=None, expected=1000, factor=2.0, mutants={"k": (1, "K.")})
    known = {"99.1": fake(), "99.2": value}
    monkeypatch.setattr(registry, "all_exercises", lambda: known)
    monkeypatch.setattr(progress, "all_exercises", lambda: known)
    monkeypatch.setattr(progress, "memory", {})
    return known


def test_right_answer(capsys):
    verdict = minimoe.check("99.1", lambda x, scale: x * scale)
    assert (verdict.status, verdict.misconception, verdict._repr_html_()) == ("ok", None, None)
    assert capsys.readouterr().out == "99.1  ok    Scale\nNow you know: you can multiply.\n"


def test_wrong_values_show_the_smallest_case_and_two_pictures(capsys):
    verdict = minimoe.check("99.1", lambda x, scale: x + scale)
    printed = capsys.readouterr().out
    assert (verdict.status, verdict.mutant) == ("wrong", "adds")
    assert "What failed: by hand" in printed and "Called with: x (1, 2) float32, scale=2.0" in printed
    assert "1 of 2 values differ" in printed and "3*" in printed
    assert "It looks like this: you add instead of multiplying." in printed
    html = verdict._repr_html_()
    assert html.count("<table") == 2 and html.count("#D55E00") == 1 and "a frame marks" in html


def test_shape_mismatch_is_reported_before_values():
    verdict = minimoe.check("99.1", lambda x, scale: (x * scale).T)
    assert "has shape (2, 1), expected (1, 2)" in verdict.text and verdict.misconception == "the axes are swapped."


def test_form_of_a_later_case_comes_before_a_value_of_an_earlier_one():
    verdict = minimoe.check("99.1", lambda x, scale: x + 1 if x.shape[0] == 1 else x[0])
    assert "has 1 axes (5,), expected 2 axes (3, 5)" in verdict.text and "random numbers" in verdict.text


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x, scale: (x * scale).tolist(), "is a list of 1, expected a tensor (1, 2)"),
        (lambda x, scale: (x * scale).double(), "has dtype torch.float64, expected torch.float32"),
        (lambda x, scale: (x * scale).sum(), "has 0 axes ()"),
        (lambda x, scale: x * scale * float("nan"), "2 of 2 values differ, 2 of them are nan"),
        (lambda x, scale: x[:, :1] * scale, "has shape (1, 1), expected (1, 2)"),  # it would broadcast
        (lambda x, scale: x.mul_(scale), "changed its argument in place"),
        (7, "your answer is int, expected a function"),
    ],
)
def test_other_wrong_answers(answer, says):
    verdict = minimoe.check("99.1", answer)
    assert verdict.status == "wrong" and says in verdict.text


def test_a_list_that_is_changed_in_place_is_noticed():
    exercise = fake(cases=(Case("two words", (["b", "a"],)),), oracle=sorted, mutants={})

    def in_place(words):
        words.sort()
        return words

    verdict = judge(exercise, in_place)
    assert verdict.status == "wrong" and "changed its argument in place" in verdict.text
    assert judge(exercise, sorted).status == "ok"


def test_a_dictionary_that_is_changed_in_place_is_noticed():
    exercise = fake(cases=(Case("two scores", ({"a": 1.5, "b": None},)),), oracle=len, mutants={})

    def in_place(scores):
        scores["c"] = 0.0
        return len(scores) - 1

    verdict = judge(exercise, in_place)
    assert verdict.status == "wrong" and "changed its argument in place" in verdict.text
    assert judge(exercise, len).status == "ok"


def test_a_tensor_of_a_tuple_that_is_changed_in_place_is_noticed():
    exercise = fake(cases=(Case("a pair", ((torch.ones(2), "name"),)),), oracle=lambda pair: pair[0] * 2, mutants={})
    verdict = judge(exercise, lambda pair: pair[0].mul_(2))
    assert verdict.status == "wrong" and "changed its argument in place" in verdict.text
    assert judge(exercise, lambda pair: pair[0] + pair[0]).status == "ok"


def test_an_error_is_shown_as_the_readers_own_line():
    def mine(x, scale):
        return rearrange(x, "token -> token 1")

    text = minimoe.check("99.1", mine).text
    assert 'return rearrange(x, "token -> token 1")' in text and "does not fit this tensor" in text
    assert "checking.py" not in text and "Traceback" not in text


def test_ellipsis_inside_a_function_is_todo():
    def half_done(x, scale):
        wide = ...
        return wide.sum(-1)

    assert minimoe.check("99.1", half_done).status == "todo"


def test_an_einsum_that_misses_an_axis_is_wrong_and_not_todo():
    """PyTorch says that "no ellipsis was given"."""

    def mine(x, scale):
        return einsum(x[None], x, "token, token -> token")

    assert minimoe.check("99.1", mine).status == "wrong"


def test_random_arguments_are_seeded_and_the_global_generator_is_preserved():
    seen = []

    def mine(x, scale):
        seen.append((x, torch.rand(1)))
        return x * scale

    torch.manual_seed(0)
    before = torch.get_rng_state()
    minimoe.check("99.1", mine)
    minimoe.check("99.1", mine)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for first, second in zip(seen[:2], seen[2:], strict=True)
               for a, b in zip(first, second, strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "status"), [(1500, "ok"), (torch.tensor(501.0), "ok"), (2001, "wrong"), (-900, "wrong")]
)
def test_an_estimate_may_be_off_by_its_factor(answer, status):
    assert minimoe.check("99.2", answer).status == status


@pytest.mark.parametrize("answer", ["1000", True, [1000]])
def test_answer_must_be_a_number(answer):
    assert "expected a number" in minimoe.check("99.2", answer).text


def test_an_unknown_id_lists_the_known_ones():
    for ask in (lambda: minimoe.check("99.9", 1), lambda: minimoe.hint("99.9"), lambda: minimoe.solution("99.9")):
        with pytest.raises(BadArgument, match=r"'99\.9' does not exist.*99\.1, 99\.2"):
            ask()


def test_hints_in_order_or_by_tier():
    assert ["nudge" in minimoe.hint("99.1"), "shapes" in minimoe.hint("99.1")] == [True, True]
    assert "nudge" in minimoe.hint("99.1", tier=1) and "steps" in minimoe.hint("99.1")
    assert "steps" in repr(minimoe.hint("99.1")) and "minimoe.solution" in minimoe.hint("99.1")
    with pytest.raises(BadArgument, match="tier is 4"):
        minimoe.hint("99.1", tier=4)


def test_a_pattern_can_be_the_answer(registered):
    registered["99.3"] = fake(
        id="99.3",
        kind="einops",
        prepare=lambda pattern: lambda x: rearrange(x, pattern),
        oracle=None,
        cases=(Case("by hand", (torch.tensor([[1, 2]]),), torch.tensor([[1], [2]])),),
        also=lambda pattern: "use whole names" if "a b" in pattern else None,
    )
    assert minimoe.check("99.3", "token hidden -> hidden token").status == "ok"
    assert "use whole names" in minimoe.check("99.3", "a b -> b a").text
    text = minimoe.check("99.3", "token -> token").text
    assert "does not fit" in text and "lambda" not in text


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (dict(id="9.1"), "chapter and number"),
        (dict(kind="quiz"), "kind is 'quiz'"),
        (dict(hints=("one",)), "expected three"),
        (dict(expected=3), "not both"),
        (dict(oracle=None), "needs an oracle"),
    ],
)
def test_inconsistent_exercise_is_rejected(changes, fault):
    with pytest.raises(BadArgument, match=fault):
        fake(**changes)


def test_the_solution_comes_from_the_master(monkeypatch, registered):
    registered["06.1"] = fake(id="06.1")
    source = minimoe.solution("06.1")
    assert source.text.startswith("def route(") and "SOLUTION" not in source.text and "06_router.py" in repr(source)
    monkeypatch.setattr(hints, "find_exercise", lambda id: fake(id="99.7"))
    with pytest.raises(minimoe.MinimoeError, match="comes with a checkout"):
        minimoe.solution("99.7")


def test_expected_results_are_computed_once(registered):
    asked = []
    registered["99.4"] = fake(
        id="99.4",
        kind="predict",
        cases=(),
        oracle=None,
        expected=lambda: asked.append(1) or (3, "yes"),
        mutants={"no": ((3, "no"), "It is yes."), "four": ((4, "yes"), "It is three.")},
    )
    assert minimoe.check("99.4", (4, "yes")).misconception == "It is three." and len(asked) == 1
    assert minimoe.check("99.4", (3, ...)).status == "todo" and minimoe.check("99.4", [3, "yes"]).status == "ok"
