"""A table of numbers in a lesson: HTML in Jupyter, which fits a narrow window, and aligned text elsewhere."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite

from minimoe.errors import BadArgument

Value = str | int | float
RIGHT, WHOLE = "text-align: right", "; white-space: nowrap"


class Table:
    """Named rows of values below named columns. Integers have commas, floats four digits."""

    def __init__(self, columns: Sequence[str], rows: Mapping[str, Sequence[Value]]):
        self.columns = list(columns)
        self.rows = {name: [as_text(value) for value in values] for name, values in rows.items()}
        for name, values in self.rows.items():
            if len(values) != len(self.columns):
                raise BadArgument(f"row {name!r} has {len(values)} values, expected {len(self.columns)}, one a column.")

    def __repr__(self) -> str:
        lines = [["", *self.columns], *([name, *values] for name, values in self.rows.items())]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
        )

    def _repr_html_(self) -> str:
        def row(tag: str, first: str, values: Sequence[str]) -> str:
            style = RIGHT + (WHOLE if tag == "td" else "")
            cells = "".join(f'<{tag} style="{style}">{escape(value)}</{tag}>' for value in values)
            name = "text-align: left; font-weight: normal" + (WHOLE if len(first) <= 24 else "")
            return f'<tr><th style="{name}">{escape(first)}</th>{cells}</tr>'

        body = "".join(row("td", name, values) for name, values in self.rows.items())
        return f"<table><thead>{row('th', '', self.columns)}</thead><tbody>{body}</tbody></table>"


def table(columns: Sequence[str], rows: Mapping[str, Sequence[Value]]) -> Table:
    """A table of `rows`, name -> one value a column. Raises BadArgument for a row of another length."""
    return Table(columns, rows)


def as_text(value: Value) -> str:
    """1,234 for an integer (also one that is given as a float), 4 digits for a float, a str as it is."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if isfinite(value) and value == int(value) else f"{value:,.4g}"
