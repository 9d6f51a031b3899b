"""The joined module: every file once, in order, one export at the end, nothing that a page must not hold."""

import re

import pytest

from minimoe.errors import NotFound
from minimoe.routing.explorer.module import WEB, module_source


@pytest.fixture
def web(tmp_path):
    """A folder such as web/."""
    (tmp_path / "explorer.css").write_text('.a { content: "</script>"; }\n', encoding="utf-8")
    (tmp_path / "b.js").write_text("const b = 1;\n", encoding="utf-8")
    (tmp_path / "a.js").write_text("function render() { return b; }\n", encoding="utf-8")
    (tmp_path / "ORDER").write_text("b.js\n\na.js\n", encoding="utf-8")
    return tmp_path


def test_files_are_joined_in_order(web):
    source = module_source(web)
    assert source.index("const CSS") < source.index("const b = 1") < source.index("function render")
    assert source.rstrip().splitlines()[-1] == "export default { render }"
    assert "</script" not in source


@pytest.mark.parametrize("gone", ["ORDER", "a.js", "explorer.css"])
def test_a_missing_file_is_named(web, gone):
    (web / gone).unlink()
    with pytest.raises(NotFound, match=gone):
        module_source(web)


def test_a_file_that_is_not_listed_is_named(web):
    (web / "c.js").write_text("", encoding="utf-8")
    with pytest.raises(NotFound, match=r"does not list c\.js"):
        module_source(web)


def test_our_own_module_needs_nothing_from_outside():
    source = module_source()
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", source, flags=re.DOTALL)
    assert not re.search(
        r"^\s*import\b|\bimport\(|\bfetch\(|XMLHttpRequest|WebSocket|\beval\(|new Function", code, re.M
    )
    assert not re.search(r"https?://(?!www\.w3\.org/)", code), "an address in the module"
    assert len(re.findall(r"^export ", code, re.M)) == 1


def test_every_name_is_declared_once():
    """The files share one scope: a second `const x` would keep the whole module from starting."""
    names = re.findall(r"^(?:async )?(?:const|let|class|function\*?) (\w+)", module_source(), re.M)
    twice = {name for name in names if names.count(name) > 1}
    assert not twice


def test_files_are_short():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in WEB.rglob("*.js")}
    assert not {path.relative_to(WEB): lines for path, lines in lengths.items() if lines > 330}
