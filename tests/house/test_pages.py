"""Every path, command and public name on the pages for readers and authors exists."""

import re
from pkgutil import resolve_name

import pytest

from benchmarks.__main__ import ALL, LARGE
from minimoe.cli import COMMANDS
from tests.house.repository import ROOT, files, name

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/mini/README.md"]
CODE = re.compile(r"```[a-z]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
SUFFIXES = (".py", ".js", ".ipynb", ".md", ".json", ".toml", ".lock", ".yml", ".cfg", ".safetensors")
# Files of a checkpoint or of a reader, and places outside of the checkout.
ELSEWHERE = re.compile(
    r"~|\.venv|\.\./|\.\.\.|hf://|https?://|/think|/no_think|/path/to|/lab/|.*(my_exercises|index\.json)"
)
PLACEHOLDERS = {
    "chNN_topic": "ch*_*", "chNN_name": "ch*_*", "lesson_NN_browser": "lesson_*_browser", "NN_name": "[0-9][0-9]_*",
}  # fmt: skip


def spans(text):
    """The code spans of a page, and its code blocks line by line."""
    for block, span in CODE.findall(text):
        yield from (line for line in (block or span).splitlines() if line)


def paths(span):
    """The words of a span that look like a path of the repository."""
    for word in re.split(r"[\s\"'();,=]+", span):
        is_path = "/" in word.strip("/<>") or word.endswith((*SUFFIXES, "/"))
        if is_path and re.fullmatch(r"[\w./-]+", word) and not ELSEWHERE.match(word):
            yield word


def exists(path):
    """Whether the tree has such a file or folder, perhaps deeper: a table names a folder once for several files."""
    for placeholder, pattern in PLACEHOLDERS.items():
        if placeholder in path:
            return any(ROOT.glob(path.replace(placeholder, pattern)))
    wanted = path.strip("/")
    return any(f"/{name(file)}/".find(f"/{wanted}/") >= 0 for file in files())


def names(span):
    """Dotted names below `minimoe`."""
    return re.findall(r"(?<![\w./-])minimoe(?:\.\w+)+", span)


def has(dotted):
    """Whether a dotted name is public, or a module, or something in a module."""
    try:
        resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True


def commands(span):
    """The word after `minimoe` on a command line, and the names after `python -m benchmarks`."""
    yield from ((word, COMMANDS) for word in re.findall(r"(?:^|-m |bin/)minimoe ([a-z][a-z-]*)", span))
    for line in re.findall(r"-m benchmarks ([a-z_ ]+)", span):
        yield from ((word, {**ALL, **LARGE}) for word in line.split())


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_exists(page):
    found = list(spans((ROOT / page).read_text(encoding="utf-8")))
    assert found
    assert not [
        path for span in found for path in paths(span) if not (exists(path) or (ROOT / page / ".." / path).exists())
    ]
    assert not [dotted for span in found for dotted in names(span) if not has(dotted)]
    assert not [word for span in found for word, known in commands(span) if word not in known]


def test_what_does_not_exist_is_found():
    assert list(paths("python scripts/gone.py notebooks/NN_name.ipynb --since main")) == [
        "scripts/gone.py", "notebooks/NN_name.ipynb",
    ]  # fmt: skip
    assert [exists(path) for path in ("scripts/gone.py", "notebooks/NN_name.ipynb", "router.py", "web/gone/")] == [
        False, True, True, False,
    ]  # fmt: skip
    assert not exists("models/NN_name.ipynb") and not exists("outer.py")
    assert [has(dotted) for dotted in ("minimoe.load", "minimoe.gone", "minimoe.course.chapters.gone")] == [
        True, False, False,
    ]  # fmt: skip
    assert [word for word, _ in commands(".venv/bin/minimoe fly --ram 1GB")] == ["fly"]
