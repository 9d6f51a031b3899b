"""The joined module: files in the order of their imports, and every input that cannot be joined is refused."""

import re

import pytest

from minimoe.errors import BadModule, NotFound
from minimoe.routing.explorer.bundle import MODULE_ENTRY, PAGE_ENTRY, WEB, module_source

DOM = "export const element = (tag) => tag;\n\nexport function append(node) {\n  return node;\n}\n"
STYLE = 'export const STYLE = ""; // the text of ../explorer.css\n'
RENDER = """import { element } from "./dom.js";
import { STYLE } from "./style.js";

export function render() {
  return element(STYLE);
}
"""
CARD = """// A view.

import {
  append,
  element,
} from "../core/dom.js";

append(element("card"));
"""
MAIN = 'import "./views/card.js";\nimport { render } from "./core/render.js";\n\nexport default { render };\n'
BOOT = '// The page.\n\nimport { render } from "./core/render.js";\nimport "./main.js";\n\nrender();\n'
SMALL = {
    "main.js": MAIN,
    "boot.js": BOOT,
    "core/dom.js": DOM,
    "core/style.js": STYLE,
    "core/render.js": RENDER,
    "views/card.js": CARD,
    "explorer.css": '.a { content: "</script>"; }\n',
}


@pytest.fixture
def web(tmp_path):
    """web(name=text) is a folder such as web/, with these files changed or added, or removed where the text is None."""

    def write(changes=()):
        for name, text in (SMALL | dict(changes)).items():
            if text is not None:
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return write


def order(source):
    return re.findall(r"^// ---- (\S+)$", source, re.M)


def test_each_file_follows_the_files_it_imports(web):
    source = module_source(web())
    assert order(source) == ["core/dom.js", "views/card.js", "core/style.js", "core/render.js", "main.js"]
    assert order(module_source(web(), PAGE_ENTRY)) == [
        "core/dom.js", "core/style.js", "core/render.js", "views/card.js", "main.js", "boot.js",
    ]  # fmt: skip


def test_imports_and_exports_are_removed_and_nothing_else(web):
    source = module_source(web())
    assert "// ---- views/card.js\n// A view.\n\nappend(element(" in source
    assert "\nconst element = (tag) => tag;\n\nfunction append(node) {\n  return node;\n}\n" in source
    assert re.findall(r"^(?:import|export)\b.*", source, re.M) == ["export default { render };"]


def test_the_style_sheet_is_a_string_that_cannot_end_the_script_element(web):
    source = module_source(web())
    assert 'const STYLE = ".a { content: \\"<\\/script>\\"; }\\n";' in source
    assert "</script" not in source


def test_the_order_does_not_depend_on_the_order_of_the_directory(web, monkeypatch):
    folder = web()
    first = module_source(folder)
    listed = sorted(folder.rglob("*.js"), reverse=True)
    monkeypatch.setattr(type(folder), "rglob", lambda self, pattern: iter(listed))
    module_source.cache_clear()
    assert module_source(folder) == first


@pytest.mark.parametrize(
    "text",
    [
        "const code = `\n  import minimoe\n  export = 1`;\n",
        "/* as in\n   import of everything\n*/\n",
        "// import { gone } from './gone.js';\n",
        'const important = { import: "a", export: "b" };\n',
    ],
)
def test_text_that_resembles_an_import_is_kept(web, text):
    assert text in module_source(web({"core/style.js": STYLE + text}))


FORMS = {
    "default import": ('import dom from "../core/dom.js";\n', "1 has the unsupported form `import dom from"),
    "namespace import": ('// A\nimport * as dom from "../core/dom.js";\n', r"2 has the unsupported form `import \* as"),
    "mixed import": ('import dom, { append } from "../core/dom.js";\n', "1 has the unsupported form `import dom,"),
    "renamed import": ('import { append as add } from "../core/dom.js";\n', "1 imports `append as add`"),
    "renamed default import": ('import { default as dom } from "../core/dom.js";\n', "1 imports `default as dom`"),
    "commented import": ('import { append, /* old */ } from "../core/dom.js";\n', "1 imports `/. old ./`"),
    "dynamic import": ('import("../core/dom.js");\n', "1 has the unsupported form"),
    "import of nothing": ('import {} from "../core/dom.js";\n', "1 imports no name"),
    "package": ('import { select } from "d3";\n', '1 imports from "d3"'),
    "absolute path": ('import "/core/dom.js";\n', '1 imports from "/core/dom.js". Expected a relative path'),
    "indented import": ('\n  import { append } from "../core/dom.js";\n', "2 has the unsupported form"),
    "single quotes": ("import { append } from '../core/dom.js';\n", "1 has the unsupported form"),
    "no semicolon": ('import "../core/dom.js"\n', "1 has the unsupported form"),
    "export list": ("const a = 1;\nexport { a };\n", r"2 has the unsupported form `export \{ a \}"),
    "re-export": ('export * from "./style.js";\n', "1 has the unsupported form"),
    "default function": ("export default function () {}\n", "1 has the unsupported form"),
    "export of var": ("export var a = 1;\n", "1 has the unsupported form"),
    "indented export": ("{\n  export const a = 1;\n}\n", "2 has the unsupported form"),
    "destructuring": ("const { a, b } = window;\n", "1 declares several names at once"),
    "exported destructuring": ("\nexport const [a] = window;\n", "2 declares several names at once"),
    "list of declarations": ("\nlet a, b;\n", "2 declares several names at once"),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_unsupported_form_is_refused_with_file_and_line(web, form):
    text, message = FORMS[form]
    with pytest.raises(BadModule, match=f"^web/views/card.js:{message}"):
        module_source(web({"views/card.js": text}))


JOINS = {
    "unknown name": (
        {"views/card.js": '// A\n\nimport { apend } from "../core/dom.js";\n'},
        "views/card.js:3 imports apend, which core/dom.js does not export. Expected one of its exports: element,",
    ),
    "name that is not exported": (
        {"core/dom.js": DOM.replace("export function", "function")},
        "views/card.js:3 imports append, which core/dom.js does not export",
    ),
    "unused export": ({"core/dom.js": DOM + "export function svg() {}\n"}, "core/dom.js:6 exports svg, which no file"),
    "second default export": ({"boot.js": BOOT + "export default { a: 1 };\n"}, "boot.js:7 exports default"),
    "file that nothing imports": ({"core/old.js": "const old = 1;\n"}, "core/old.js:1 is never imported"),
    "exported name declared twice": (
        {"core/render.js": RENDER + "\nlet append = 1;\n"},
        "core/render.js:8 declares append, as web/core/dom.js:3 does",
    ),
    "private name declared twice": (
        {"views/card.js": CARD + "class Box {}\n", "boot.js": BOOT + "async function Box() {}\n"},
        "views/card.js:9 declares Box, as web/boot.js:7 does",
    ),
    "cycle of one": ({"core/dom.js": 'import "./dom.js";\n' + DOM}, "core/dom.js:1 closes a cycle of imports"),
    "cycle of two": (
        {"core/dom.js": 'import { render } from "./render.js";\n' + DOM},
        "core/render.js:1 closes a cycle of imports: core/dom.js -> core/render.js -> core/dom.js",
    ),
    "cycle of three": (
        {"core/dom.js": 'import "./style.js";\n' + DOM, "core/style.js": 'import "./render.js";\n' + STYLE},
        "core/render.js:1 closes a cycle of imports: core/dom.js -> core/style.js -> core/render.js -> core/dom.js",
    ),
}


@pytest.mark.parametrize("case", JOINS)
def test_files_that_do_not_fit_together_are_refused_with_file_and_line(web, case):
    changes, message = JOINS[case]
    with pytest.raises(BadModule, match=f"^web/{re.escape(message)}"):
        module_source(web(changes))


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("core/dom.js", r"web/core/render\.js:1 imports core/dom\.js, which is missing"),
        ("views/card.js", r"web/main\.js:1 imports views/card\.js, which is missing"),
        ("explorer.css", r"explorer\.css is missing, but web/core/style\.js includes its text"),
        ("main.js", r"main\.js"),
    ],
)
def test_a_missing_file_is_named(web, gone, message):
    with pytest.raises(NotFound, match=message):
        module_source(web({gone: None}))


def test_the_letter_case_of_a_path_matters_on_every_system(web):
    with pytest.raises(NotFound, match=r"card\.js:1 imports core/Dom\.js"):
        module_source(web({"views/card.js": 'import { append } from "../core/Dom.js";\n'}))


@pytest.mark.parametrize("entry", [MODULE_ENTRY, PAGE_ENTRY])
def test_our_own_module_needs_nothing_from_outside(entry):
    source = module_source(entry=entry)
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", source, flags=re.DOTALL)
    assert not re.search(
        r"^\s*import\b|\bimport\(|\bfetch\(|XMLHttpRequest|WebSocket|\beval\(|new Function", code, re.M
    )
    assert not re.search(r"https?://(?!www\.w3\.org/)", code), "an address in the module"
    assert re.findall(r"^export .*", code, re.M) == ["export default { render };"]
    assert len(order(source)) == len(set(order(source))) > 60


def test_files_are_short():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in WEB.rglob("*.js")}
    assert not {path.relative_to(WEB): lines for path, lines in lengths.items() if lines > 330}
