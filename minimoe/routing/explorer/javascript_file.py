"""One JavaScript file of `routing/web/`: what it imports, exports and declares, and its text without the keywords.

Each file is an ES module that editors and `node` read as it stands. Only these forms are accepted, each at the start of
a line, so that they can be found without a JavaScript parser:

    import { element, setText } from "../core/dom.js";    also over several lines
    import "../views/card.js";                            for what the file does when it runs
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
# What could be an import or an export: each has to match one of the forms below. An indented one is only refused if it
# cannot be anything else, since a string that runs over several lines may well begin a line with "import".
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
    """`names` from the file `source` (relative to web/); no names if the file is imported for its effect."""

    source: str
    names: tuple[str, ...]
    line: int


@dataclass
class JavaScriptFile:
    """`exports` and `declared` map each name to its line; `body` has neither imports nor the word `export`."""

    name: str  # relative to web/, with forward slashes on every system
    body: str = ""
    imports: list[Import] = field(default_factory=list)
    exports: dict[str, int] = field(default_factory=dict)
    declared: dict[str, int] = field(default_factory=dict)


def read_javascript(folder: Path, name: str) -> JavaScriptFile:
    """Read `folder/name`. Raises BadModule, naming file and line, for a form that is not supported."""
    text = (folder / name).read_text(encoding="utf-8")
    found = JavaScriptFile(name)
    for match in DECLARATION.finditer(text):
        if not match[2] or match[3]:
            raise refusal(name, line_of(text, match), "declares several names at once", "one name a declaration")
        found.declared[match[2]] = line_of(text, match)
        if match[1]:
            found.exports[match[2]] = line_of(text, match)
    kept, end = [], 0
    for match in STATEMENT.finditer(text):
        kept.append(text[end : match.start()])
        end = read_statement(found, text, match)
    found.body = "".join([*kept, text[end:]])
    return found


def read_statement(found: JavaScriptFile, text: str, start: re.Match[str]) -> int:
    """Enter the import or export at `start` into `found`; returns where the part to remove ends."""
    line = line_of(text, start)
    if match := IMPORT.match(text, start.start()):
        found.imports.append(read_import(found.name, line, match))
        return match.end()
    if match := EXPORT.match(text, start.start()):
        return match.end()
    if EXPORT_DEFAULT.match(text, start.start()):
        found.exports[DEFAULT] = line
        return start.start()  # stays: the joined module is a module too
    statement = text[start.start() :].splitlines()[0].strip()
    raise refusal(found.name, line, f"has the unsupported form `{statement}`", FORMS)


def read_import(name: str, line: int, match: re.Match[str]) -> Import:
    """The matched import, with its path resolved. Raises BadModule for renames and for paths that are not relative."""
    listed, path = match[1], match[2]
    if not path.startswith(("./", "../")):
        raise refusal(name, line, f'imports from "{path}"', 'a relative path such as "../core/dom.js"')
    names = [] if listed is None else [each.strip() for each in listed.split(",")]
    if names and not names[-1]:
        names.pop()  # a trailing comma
    for each in names:
        if not IDENTIFIER.fullmatch(each) or each == DEFAULT:
            raise refusal(name, line, f"imports `{each}`", "plain names, neither renamed nor commented")
    if listed is not None and not names:
        raise refusal(name, line, f'imports no name from "{path}"', f'import "{path}"; for its effect')
    source = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
    return Import(source, tuple(names), line)


def line_of(text: str, match: re.Match[str]) -> int:
    """The line, counted from 1, on which `match` starts."""
    return text.count("\n", 0, match.start()) + 1


def refusal(name: str, line: int, found: str, expected: str) -> BadModule:
    """An error in the form in which editors recognise a place: file:line."""
    return BadModule(f"web/{name}:{line} {found}. Expected {expected}.")
