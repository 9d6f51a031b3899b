"""The explorer's program for the browser: the ES modules of `routing/web/` joined into one, without a bundler.

Files are ordered by their imports, depth first in the order in which they are written, which is the order in which a
browser would run them. Then `import` and `export` are removed and all files share one scope, so the very same text runs
in JupyterLab, in Voila and in an exported page. What that scope could hide is refused: a cycle, a missing file, a name
that is imported but not exported or exported but never imported, two files that declare the same name.
"""

import json
import re
from functools import cache
from pathlib import Path

from minimoe.errors import NotFound
from minimoe.routing.explorer.javascript_file import DEFAULT, JavaScriptFile, read_javascript, refusal

WEB = Path(__file__).resolve().parent.parent / "web"
MODULE_ENTRY = "main.js"  # what anywidget loads: its default export has `render`
PAGE_ENTRY = "boot.js"  # what an exported page runs: it starts the module by itself
TEXT_OF = re.compile(r'^(const \w+ = )"";( // the text of (\S+))$', re.M)


@cache
def module_source(folder: Path = WEB, entry: str = MODULE_ENTRY) -> str:
    """The module that starts at the file `entry` of `folder`, as one text.

    Raises NotFound for a missing file, and BadModule, naming file and line, for files that cannot be joined.
    """
    files = read_files(folder)
    check_names(files)
    orders = {start: import_order(files, start) for start in (MODULE_ENTRY, PAGE_ENTRY) if start in files}
    if entry not in orders:
        raise NotFound(f"{folder / entry} is missing, so the explorer's module cannot be built. Reinstall minimoe.")
    check_all_used(files, orders)
    parts = [f"// ---- {name}\n{with_texts(folder, files[name]).strip()}" for name in orders[entry]]
    # Safe inside <script>, whatever a file says: a backslash before the slash means the same to JavaScript's strings.
    return "\n".join([*parts, ""]).replace("</script", "<\\/script")


def read_files(folder: Path) -> dict[str, JavaScriptFile]:
    """Every .js file below `folder` by its name, sorted."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.js"))
    return {name: read_javascript(folder, name) for name in names}


def check_names(files: dict[str, JavaScriptFile]) -> None:
    """Imports name files and exports that exist; no name is declared twice, because all files share one scope."""
    owner: dict[str, JavaScriptFile] = {}
    for file in files.values():
        for each in file.imports:
            if each.source not in files:
                raise NotFound(f"web/{file.name}:{each.line} imports {each.source}, which is missing from web/.")
            for name in each.names:
                exports = files[each.source].exports
                if name not in exports:
                    found = f"imports {name}, which {each.source} does not export"
                    raise refusal(file.name, each.line, found, f"one of its exports: {', '.join(exports) or 'none'}")
        for name, line in file.declared.items():
            if name in owner:
                found = f"declares {name}, as web/{owner[name].name}:{owner[name].declared[name]} does"
                raise refusal(file.name, line, found, "a name of its own, since all files share one scope")
            owner[name] = file


def import_order(files: dict[str, JavaScriptFile], entry: str) -> list[str]:
    """The files that `entry` needs, each after those it imports, `entry` last. Raises BadModule for a cycle."""
    order: list[str] = []
    path: list[str] = []  # from the entry to the file whose imports are being followed

    def follow(name: str) -> None:
        path.append(name)
        for each in files[name].imports:
            if each.source in path:
                cycle = " -> ".join([*path[path.index(each.source) :], each.source])
                raise refusal(name, each.line, f"closes a cycle of imports: {cycle}", "imports without a cycle")
            if each.source not in order:
                follow(each.source)
        order.append(path.pop())

    follow(entry)
    return order


def check_all_used(files: dict[str, JavaScriptFile], orders: dict[str, list[str]]) -> None:
    """No dead code: an entry reaches every file, and every export is imported (the default export by anywidget)."""
    reached = set().union(*orders.values())
    imported = {(each.source, name) for file in files.values() for each in file.imports for name in each.names}
    for file in files.values():
        if file.name not in reached:
            raise refusal(file.name, 1, "is never imported", f"it to be imported, starting from {' or '.join(orders)}")
        for name, line in file.exports.items():
            if (file.name, name) not in imported and (file.name, name) != (MODULE_ENTRY, DEFAULT):
                raise refusal(file.name, line, f"exports {name}, which no file imports", "it to be used, or no export")


def with_texts(folder: Path, file: JavaScriptFile) -> str:
    """The body, with the texts of other files (a style sheet) in the constants that ask for them."""

    def fill(match: re.Match[str]) -> str:
        path = (folder / file.name).parent / match[3]
        if not path.is_file():
            raise NotFound(f"{path} is missing, but web/{file.name} needs its text. Reinstall minimoe.")
        return f"{match[1]}{json.dumps(path.read_text(encoding='utf-8'))};"

    return TEXT_OF.sub(fill, file.body)
