"""Read a JavaScript file of `routing/web/`: its imports, exports, declarations, and its text without these keywords.

Each file is an ES module that editors and `node` can use directly. To need no JavaScript parser, only these forms are
accepted, each at the start of a line:

    import { element, setText } from "../core/dom.js";    also on several lines
    import "../views/card.js";                            for its side effects
    export function name() {}                             also async function, class, const, let
    export default { render };                            at most once in the whole program
"""

import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path

from minimoe.errors import BadModule

DEFAULT = "default"
KEYWORD = r"(?:async function|function|class|const|let)\b"
# Candidates for an import or an export, which must match one of the forms below. An indented one is rejected only if it
# is unambiguous, since a line of a multi-line string can begin with "import".
STATEMENT = re.compile(
    rf"""^(?:import|export)\b|^[ \t]+(?:import\b.*\bfrom\s*["']|export\s+(?:default\b|{KEYWORD}))""", re.M
)
IMPORT = re.compile(r'import (?:\{([^{}]*)\} from )?"([^"\n]+)";[ \t]*\n*')
EXPORT = re.compile(rf"export (?={KEYWORD})")
EXPORT_DEFAULT = re.compile(r"export default \{")
DECLARATION = re.compile(rf"^(export )?(?:{KEYWORD}|var\b)[ \t]*\*?[ \t]*([\w$]*)[ \t]*(,?)", re.M)
IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*")
FORMS = 'import { name } from "./file.js"; import "./file.js"; export function name; export const name'


@dataclass(frozen=True)
class Import:
    """`names` from the file `source` (relative to web/); no names for an import for side effects."""

    source: str
    names: tuple[str, ...]
    line: int


@dataclass
class JavaScriptFile:
    """`exports` and `declared` map each name to its line; `body` is the text without imports and `export`."""

    name: str  # relative to web/, with forward slashes on every system
    body: str = ""
    imports: list[Import] = field(default_factory=list)
    exports: dict[str, int] = field(default_factory=dict)
    declared: dict[str, int] = field(default_factory=dict)


def read_javascript(folder: Path, name: str) -> JavaScriptFile:
    """Read `folder/name`. Raises BadModule, with file and line, for an unsupported form."""
    text = (folder / name).read_text(encoding="utf-8")
    file = JavaScriptFile(name)
    for match in DECLARATION.finditer(text):
        if not match[2] or match[3]:
            raise refusal(name, line_of(text, match), "declares several names at once", "one name a declaration")
        file.declared[match[2]] = line_of(text, match)
        if match[1]:
            file.exports[match[2]] = line_of(text, match)
    kept, end = [], 0
    for match in STATEMENT.finditer(text):
        kept.append(text[end : match.start()])
        end = read_statement(file, text, match)
    file.body = "".join([*kept, text[end:]])
    return file


def read_statement(file: JavaScriptFile, text: str, start: re.Match[str]) -> int:
    """Add the import or export at `start` to `file`; return the end of the part to remove."""
    line = line_of(text, start)
    if match := IMPORT.match(text, start.start()):
        file.imports.append(read_import(file.name, line, match))
        return match.end()
    if match := EXPORT.match(text, start.start()):
        return match.end()
    if EXPORT_DEFAULT.match(text, start.start()):
        file.exports[DEFAULT] = line
        return start.start()  # kept: the joined module has a default export too
    statement = text[start.start() :].splitlines()[0].strip()
    raise refusal(file.name, line, f"has the unsupported form `{statement}`", FORMS)


def read_import(name: str, line: int, match: re.Match[str]) -> Import:
    """The matched import, with its path resolved. Raises BadModule for renames and for paths that are not relative."""
    listed, path = match[1], match[2]
    if not path.startswith(("./", "../")):
        raise refusal(name, line, f'imports from "{path}"', 'a relative path such as "../core/dom.js"')
    names = [] if listed is None else [name.strip() for name in listed.split(",")]
    if names and not names[-1]:
        names.pop()  # a trailing comma
    for imported in names:
        if not IDENTIFIER.fullmatch(imported) or imported == DEFAULT:
            raise refusal(name, line, f"imports `{imported}`", "plain names without renames and comments")
    if listed is not None and not names:
        raise refusal(name, line, f'imports no name from "{path}"', f'import "{path}"; for its side effects')
    source = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
    return Import(source, tuple(names), line)


def line_of(text: str, match: re.Match[str]) -> int:
    """The line, counted from 1, on which `match` starts."""
    return text.count("\n", 0, match.start()) + 1


def refusal(name: str, line: int, problem: str, expected: str) -> BadModule:
    """An error with the location as file:line, which editors recognise."""
    return BadModule(f"web/{name}:{line} {problem}. Expected {expected}.")
