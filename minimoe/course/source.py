"""show_code: display the library's own source in a lesson, so that lesson and library cannot diverge."""

import ast
import inspect
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from pygments.style import Style
from pygments.token import Comment, Keyword, Name, Number, Operator, String

from minimoe.errors import BadArgument
from minimoe.paths import checkout


class OnAnyGround(Style):
    """Colours with a contrast of about 4 to a white page and to a black one, for Jupyter's light and dark themes."""

    styles: ClassVar = {
        Keyword: "bold #0a8a5c", Operator.Word: "bold #0a8a5c", Name.Function: "#2b7de0", Name.Class: "bold #2b7de0",
        Name.Decorator: "#9a67cc", Name.Builtin.Pseudo: "#0a8a5c", String: "#c65a2e", String.Doc: "italic #c65a2e",
        Number: "#9a67cc", Operator: "#7d7f85", Comment: "italic #7d7f85",
    }  # fmt: skip


class Source:
    """Source text, displayed with syntax highlighting in Jupyter and as plain text in a terminal."""

    def __init__(self, text: str, file: str, line: int):
        self.text, self.file, self.line = text, file, line

    def __repr__(self) -> str:
        return f"# {self.file}, line {self.line}\n{self.text}"

    def _repr_html_(self) -> str:
        # Inline styles, which untrusted notebooks keep. Long lines are broken between words only, unlike in JupyterLab.
        wrap = "white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere"
        style = HtmlFormatter(noclasses=True, nobackground=True, style=OnAnyGround, prestyles=wrap)
        return f"<small><code>{self.file}</code>, line {self.line}</small>" + highlight(self.text, PythonLexer(), style)


def show_code(thing: Any) -> Source:
    """The source of a class, function or module of minimoe (or of anything else written in Python).

    For `minimoe.model`, the source of all its files in reading order, without imports. Raises BadArgument if there is
    no Python source, as for a builtin.
    """
    if isinstance(thing, ModuleType) and hasattr(thing, "READING_ORDER"):
        files = (f"# {'-' * 20} {name}.py\n\n{code}" for name, code in files_in_reading_order(thing))
        return Source("\n\n\n".join(files), thing.__name__.replace(".", "/"), 1)
    try:
        written = inspect.unwrap(thing) if callable(thing) else thing  # a decorator is defined in another file
        lines, start = inspect.getsourcelines(written)
        file = Path(inspect.getsourcefile(written) or "")
    except (TypeError, OSError) as error:
        raise BadArgument(
            f"show_code: {thing!r} has no Python source to show; give a function, class or module."
        ) from error
    inside = file.is_relative_to(checkout())
    return Source("".join(lines).rstrip(), str(file.relative_to(checkout())) if inside else file.name, max(start, 1))


def files_in_reading_order(package: ModuleType) -> list[tuple[str, str]]:
    """(name, source without imports) of the modules in `package.READING_ORDER`."""
    names = package.READING_ORDER
    return [(name, without_imports(inspect.getsource(import_module(f"{package.__name__}.{name}")))) for name in names]


def without_imports(source: str) -> str:
    """A module's source without the import statements at its top level."""
    lines: list[str | None] = [*source.splitlines()]
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines[node.lineno - 1 : node.end_lineno] = [None] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    kept = "\n".join(line for line in lines if line is not None)
    while "\n\n\n\n" in kept:  # blank lines around the removed imports
        kept = kept.replace("\n\n\n\n", "\n\n\n")
    return kept.strip()
