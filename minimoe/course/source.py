"""show_code: a lesson shows the library's own source, so that the two cannot drift apart."""

import inspect
from pathlib import Path
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from minimoe.errors import BadArgument
from minimoe.paths import checkout


class Source:
    """Source text that Jupyter shows highlighted and a terminal shows plain."""

    def __init__(self, text: str, file: str, line: int):
        self.text, self.file, self.line = text, file, line

    def __repr__(self) -> str:
        return f"# {self.file}, line {self.line}\n{self.text}"

    def _repr_html_(self) -> str:
        # inline styles and no colour of its own for the page: readable in light and dark themes, and in untrusted
        # notebooks
        style = HtmlFormatter(noclasses=True, nobackground=True)
        return f"<small><code>{self.file}</code>, line {self.line}</small>" + highlight(self.text, PythonLexer(), style)


def show_code(thing: Any) -> Source:
    """The source of a class, function or module of minimoe (or of anything else written in Python).

    Raises BadArgument if it has no Python source, such as a builtin.
    """
    try:
        lines, start = inspect.getsourcelines(thing)
        file = Path(inspect.getsourcefile(thing) or "")
    except (TypeError, OSError) as error:
        raise BadArgument(
            f"show_code: {thing!r} has no Python source to show; give a function, class or module."
        ) from error
    inside = file.is_relative_to(checkout())
    return Source("".join(lines).rstrip(), str(file.relative_to(checkout())) if inside else file.name, max(start, 1))
