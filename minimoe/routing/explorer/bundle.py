"""Join the ES modules of `routing/web/` into one module for each entry, without a bundler.

Files are ordered by their imports, depth first, as a browser runs them. Then `import` and `export` are removed and all
files share one scope, so the same text runs in JupyterLab, in Voila and in an exported page. Errors that the shared
scope would hide are rejected: a cycle, a missing file, a name that is imported but not exported or exported but never
imported, a name declared in two files.
"""

import json
import re
from functools import cache
from pathlib import Path

from minimoe.errors import NotFound
from minimoe.routing.explorer.javascript_file import DEFAULT, JavaScriptFile, read_javascript, refusal

WEB = Path(__file__).resolve().parent.parent / "web"
MODULE_ENTRY = "main.js"  # loaded by anywidget; its default export has `render`
PAGE_ENTRY = "boot.js"  # run by an exported page
TOKEN_ENTRY = "token.js"  # the widget of `minimoe.show_token`, loaded by anywidget too
ENTRIES = (MODULE_ENTRY, PAGE_ENTRY, TOKEN_ENTRY)
WIDGETS = {(MODULE_ENTRY, DEFAULT), (TOKEN_ENTRY, DEFAULT)}  # exports that anywidget uses
TEXT_OF = re.compile(r'^(const \w+ = )"";( // the text of (\S+))$', re.M)


@cache
def module_source(folder: Path = WEB, entry: str = MODULE_ENTRY) -> str:
    """The text of the module with the entry point `entry` in `folder`.

    Raises NotFound for a missing file, and BadModule, with file and line, for files that cannot be joined.
    """
    files = read_files(folder)
    check_names(files)
    orders = {start: import_order(files, start) for start in ENTRIES if start in files}
    if entry not in orders:
        raise NotFound(f"{folder / entry} is missing, so the explorer's module cannot be built. Reinstall minimoe.")
    check_all_used(files, orders)
    parts = [f"// ---- {name}\n{with_texts(folder, files[name]).strip()}" for name in orders[entry]]
    # Safe inside <script>: in a JavaScript string, a backslash before the slash changes nothing.
    return "\n".join([*parts, ""]).replace("</script", "<\\/script")


def read_files(folder: Path) -> dict[str, JavaScriptFile]:
    """Every .js file below `folder`, by name, sorted."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.js"))
    return {name: read_javascript(folder, name) for name in names}


def check_names(files: dict[str, JavaScriptFile]) -> None:
    """Check that imported files and names exist, and that no name is declared twice in the shared scope."""
    owner: dict[str, JavaScriptFile] = {}
    for file in files.values():
        for statement in file.imports:
            source, line = statement.source, statement.line
            if source not in files:
                raise NotFound(f"web/{file.name}:{line} imports {source}, which is missing from web/.")
            for name in statement.names:
                exports = files[source].exports
                if name not in exports:
                    problem = f"imports {name}, which {source} does not export"
                    raise refusal(file.name, line, problem, f"one of its exports: {', '.join(exports) or 'none'}")
        for name, line in file.declared.items():
            if name in owner:
                problem = f"declares {name}, as web/{owner[name].name}:{owner[name].declared[name]} does"
                raise refusal(file.name, line, problem, "a name of its own, since all files share one scope")
            owner[name] = file


def import_order(files: dict[str, JavaScriptFile], entry: str) -> list[str]:
    """The files that `entry` needs, each after its own imports, `entry` last. Raises BadModule for a cycle."""
    order: list[str] = []
    path: list[str] = []  # from the entry to the current file

    def follow(name: str) -> None:
        path.append(name)
        for statement in files[name].imports:
            source = statement.source
            if source in path:
                cycle = " -> ".join([*path[path.index(source) :], source])
                raise refusal(name, statement.line, f"closes a cycle of imports: {cycle}", "imports without a cycle")
            if source not in order:
                follow(source)
        order.append(path.pop())

    follow(entry)
    return order


def check_all_used(files: dict[str, JavaScriptFile], orders: dict[str, list[str]]) -> None:
    """Check that every file is reachable from an entry and every export imported (the default export by anywidget)."""
    reached = set().union(*orders.values())
    statements = [statement for file in files.values() for statement in file.imports]
    imported = {(statement.source, name) for statement in statements for name in statement.names}
    for file in files.values():
        if file.name not in reached:
            raise refusal(file.name, 1, "is never imported", f"an import reachable from {' or '.join(orders)}")
        for name, line in file.exports.items():
            if (file.name, name) not in imported and (file.name, name) not in WIDGETS:
                problem = f"exports {name}, which no file imports"
                raise refusal(file.name, line, problem, "an import of it, or no export")


def with_texts(folder: Path, file: JavaScriptFile) -> str:
    """The body, with the texts of other files (a style sheet) inserted into the constants declared for them."""

    def fill(match: re.Match[str]) -> str:
        path = (folder / file.name).parent / match[3]
        if not path.is_file():
            raise NotFound(f"{path} is missing, but web/{file.name} includes its text. Reinstall minimoe.")
        return f"{match[1]}{json.dumps(path.read_text(encoding='utf-8'))};"

    return TEXT_OF.sub(fill, file.body)
