"""Tables of numbers are aligned in a terminal and escaped in a page."""

import math

import pytest

from minimoe.course.table import as_text, table
from minimoe.errors import BadArgument

ROWS = {"parameters": [2_000_000, 235_093_634_560], "share": [0.123456, "9 %"]}


def test_columns_are_aligned():
    text = repr(table(["mini", "the 235B"], ROWS))
    lines = text.splitlines()
    assert [line.split()[-1] for line in lines] == ["235B", "235,093,634,560", "%"]
    assert len({len(line) for line in lines}) == 1 and "2,000,000" in lines[1] and "0.1235" in lines[2]


def test_names_are_escaped_and_numbers_are_not_broken():
    html = table(["<i>"], {"a & b": [12345]})._repr_html_()
    assert "&lt;i&gt;" in html and "a &amp; b" in html and "<i>" not in html
    assert 'white-space: nowrap">12,345</td>' in html


def test_a_row_of_another_length_is_refused():
    with pytest.raises(BadArgument, match="row 'share' has 1 values, expected 2"):
        table(["a", "b"], {"share": [1]})


@pytest.mark.parametrize(
    "value, text",
    [
        (1234, "1,234"),
        (1e6, "1,000,000"),
        (0.00012345, "0.0001234"),
        (-3, "-3"),
        (0, "0"),
        ("x", "x"),
        (2.5e9 + 0.5, "2.5e+09"),
    ],
)
def test_numbers(value, text):
    assert as_text(value) == text


def test_infinite_values_have_a_text():
    assert as_text(math.inf) == "inf" and as_text(math.nan) == "nan"
