"""Lessons keep the conventions of lesson_rules.py, and the rules find what breaks them."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from tests.house.lesson_rules import RULES
from tests.house.repository import ROOT

LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
CHECK = {"tags": ["check"], "jupyter": {"source_hidden": True}}
FIRST = new_code_cell('MODEL = "data/mini"\nmodel, tokenizer = minimoe.load(MODEL)')


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lesson(lesson, rule):
    problems = list(rule(nbformat.read(lesson, as_version=4).cells))
    assert not problems, f"{rule.__doc__}\n" + "\n".join(problems)


GOOD = [
    FIRST,
    new_markdown_cell("The mini is in `data/mini`."),
    new_code_cell('print(f"{share:.0%} of the choices")  # data/mini'),
    new_code_cell("same = torch.equal(one, other)\nprint('equal choices:', sum(equal))"),
    new_code_cell("# All choices are equal.\nminimoe.expect(same, of=model)\nassert same", metadata=CHECK),
    new_markdown_cell("Seven cells,"),
    new_markdown_cell("one check: a second one may follow, a third may not."),
]
SECOND = new_code_cell("# A second check.\nassert same", metadata=CHECK)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_good_lesson_keeps_every_rule(rule):
    assert not list(rule(GOOD))


@pytest.mark.parametrize(
    "rule, cell",
    [
        ("little_bookkeeping", SECOND),
        ("one_model", new_code_cell('minimoe.load("data/mini")')),
        ("one_model", FIRST),
        ("folded_checks", new_code_cell("# A check.\nassert same", metadata={"tags": ["check"]})),
        ("folded_checks", new_code_cell("assert same", metadata=CHECK)),
        ("folded_checks", new_code_cell("x = 1", metadata={"jupyter": {"source_hidden": True}})),
        ("no_asserts", new_code_cell("if x:\n    assert x == 1")),
        ("no_asserts", new_code_cell("minimoe.expect(x == 1)")),
        ("no_booleans", new_code_cell("print('equal:', one == other)")),
        ("no_booleans", new_code_cell("print(f'equal: {torch.equal(one, other)}')")),
        ("no_booleans", new_code_cell("print('none:', not any(seen))")),
        ("no_booleans", new_code_cell("print(a.all() and b < c)")),
        ("no_booleans", new_code_cell("x = 1\nx == 1")),
    ],
)
def test_what_breaks_a_rule_is_found(rule, cell):
    cells = [*GOOD, cell] if rule != "little_bookkeeping" else [*GOOD, SECOND, cell]
    found = {each.__name__ for each in RULES if list(each(cells))}
    assert found == {rule}


def test_a_lesson_without_code_has_no_model():
    assert list(RULES[0]([new_markdown_cell("Only prose.")]))
