"""Python that a model wrote: what counts as parsing, as new, as a true statement."""

from minimoe.training.corpus.worlds import chat
from minimoe.training.evaluation.python_answers import claim_is_true, parses, python_report, shape
from tests.training.evaluation.test_evaluate import room

GOOD = "```python\ndef twice(x):\n    return x * 2\n```\n`twice(4)` gives `8`."


def test_shape_ignores_only_names() -> None:
    one = "def a(n):\n    total = 0\n    for x in n:\n        total += x\n    return total\n"
    other = "def b(values):\n    s = 0\n    for item in values:\n        s += item\n    return s\n"
    assert shape(one) == shape(other)
    assert shape(one) != shape(one.replace("total += x", "total += 1"))
    assert shape("def f(n):\n    return len(n)\n") != shape("def f(n):\n    return sum(n)\n")
    assert shape("def f(n):\n    return [x for x in n]") == shape("def g(a):\n    return [b for b in a]")


def test_parses() -> None:
    assert parses(GOOD) and parses("<think>\nplan\n</think>\n\n" + GOOD)
    assert not parses("<think>\n" + GOOD)
    assert not parses(GOOD.replace(":", "")) and not parses("x") and not parses("```python\nx = 1\n```")


def test_stated_result_is_executed() -> None:
    assert claim_is_true(GOOD) is True
    assert claim_is_true(GOOD.replace("`8`", "`9`")) is False
    assert claim_is_true(GOOD.replace("twice(4)", "thrice(4)")) is False
    assert claim_is_true(GOOD.replace("(4)", "(nonsense)")) is False
    assert claim_is_true(GOOD.replace("twice(4)` gives `8", "twice([1])` gives `[1, 1]")) is True
    assert claim_is_true("```python\ndef f(x):\n    return x\n```") is None


def test_report_has_all_three_rates() -> None:
    wrong = GOOD.replace("`8`", "`9`")
    report = python_report([GOOD, wrong, "nothing"], known_shapes={shape("def g(y):\n    return y * 2\n")})
    assert (report["parse"]["right"], report["parse"]["of"]) == (2, 3)
    assert (report["not_in_training"]["right"], report["not_in_training"]["of"]) == (0, 2)
    assert (report["stated_result_right"]["right"], report["stated_result_right"]["of"]) == (1, 3)


def test_corpus_states_correct_results() -> None:
    asked: list[chat.Turn] = room.questions("python", 25)
    assert all(claim_is_true(turn.answer) and parses(turn.answer) for turn in asked)
