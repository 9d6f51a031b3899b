"""The explorer's JavaScript files as they stand: an editor can follow every name, and `node` can run them unjoined."""

import json
import re
import shutil
import subprocess
from collections import Counter

import pytest

from minimoe.routing.explorer.bundle import ENTRIES, MODULE_ENTRY, WEB, module_source, read_files
from tests.routing.explorer.javascript_words import names_used

FLOORS = {"math": 0, "core": 1, "charts": 2, "views": 3, "tour": 3, "token": 3, "": 4}
LINK = """
import fs from "node:fs";
import path from "node:path";
import vm from "node:vm";
const modules = new Map();
const read = (file) => {
  const text = fs.readFileSync(file, "utf8");
  if (!modules.has(file)) modules.set(file, new vm.SourceTextModule(text, { identifier: file }));
  return modules.get(file);
};
const resolve = (name, from) => read(path.resolve(path.dirname(from.identifier), name));
for (const file of process.argv.slice(2)) if (read(file).status === "unlinked") await read(file).link(resolve);
console.log([...modules.values()].filter((module) => module.status === "linked").length);
"""
COMPUTE = """
{
const block = Uint8Array.from({ length: 400 }, (_, i) => (i * i + (i >> 3)) % 8);
const counts = recount([block], 200, 2, 8, null);
const table = pairTable(block, 200, 2, 8, null, null);
const distance = jensenShannon(counts, counts.toReversed());
console.log(JSON.stringify([[...counts], wilson(37, 400), distance, [...table.shrunk]]));
}
"""
MATH = {"recount": "counts", "wilson": "intervals", "jensenShannon": "information", "pairTable": "pairs"}


@pytest.fixture(scope="module")
def files():
    return read_files(WEB)


@pytest.fixture(scope="module")
def used(files):
    """For every file, how often it uses which name."""
    return {name: Counter(names_used(file.body)) for name, file in files.items()}


@pytest.fixture(scope="module")
def node():
    """node(program, *arguments) -> what the module `program` prints."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")

    def run(program, *arguments):
        command = [found, "--experimental-vm-modules", "--no-warnings", "--input-type=module", "-", *arguments]
        result = subprocess.run(command, input=program, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.b + c?.d", ["a", "c"]),
        ("f({ g: h, i, k(m) { n; } }, ...o)", ["f", "h", "i", "m", "n", "o"]),
        ("p ? q : r // s\n / t /* u */", ["p", "q", "r", "t"]),
        ("`v ${w + `${x}` + y({ z: 1 })} v`.length", ["w", "x", "y"]),
        (r"""'a' + "b\"c" + d.replace(/[/`"]e/g, f) / g""", ["d", "f", "g"]),
        ("[a, f(`b`), g(c)]", ["a", "f", "g", "c"]),
    ],
)
def test_names_are_told_from_properties_strings_and_comments(text, names):
    assert names_used(text) == names


def test_every_name_of_another_file_is_imported(files, used):
    """In the joined module a forgotten import would go unnoticed, since all files share one scope.

    A local name may not equal another file's name either, unless that one is imported: it would look like a use of it.
    """
    declared = {name for file in files.values() for name in file.declared}
    for file in files.values():
        imported = {name for each in file.imports for name in each.names}
        assert declared & used[file.name].keys() <= imported | file.declared.keys(), file.name


def test_every_import_is_used(files, used):
    for file in files.values():
        names = [name for each in file.imports for name in each.names]
        assert set(names) <= used[file.name].keys(), file.name
        assert len(names) == len(set(names)), file.name


def test_every_name_that_a_file_keeps_to_itself_is_used(files, used):
    for file in files.values():
        assert not [name for name in file.declared if name not in file.exports and used[file.name][name] < 2], file.name


def test_folders_import_downwards(files):
    """math < core < charts < views, tour, token < the entries. Views and the tour register with core/registry.js."""
    for file in files.values():
        folder = file.name.rpartition("/")[0]
        for each in file.imports:
            below = each.source.rpartition("/")[0]
            assert below == folder or FLOORS[below] < FLOORS[folder], f"{file.name} imports {each.source}"


def test_every_view_and_the_tour_are_imported_by_the_entry(files):
    registering = {name for name, file in files.items() if re.search(r"^register(?:View|Tour)\(", file.body, re.M)}
    assert registering <= {each.source for each in files[MODULE_ENTRY].imports}
    assert len(registering) == 11


def test_node_parses_every_file_and_finds_every_import(files, node):
    names = [str(WEB / name) for name in files]
    assert int(node(LINK, *names)) == len(files)


@pytest.mark.parametrize("entry", ENTRIES)
def test_node_parses_the_joined_module(tmp_path, node, entry):
    (tmp_path / "joined.js").write_text(module_source(entry=entry), encoding="utf-8")
    assert int(node(LINK, str(tmp_path / "joined.js"))) == 1


def test_the_math_of_the_files_is_the_math_of_the_joined_module(node):
    imports = [f'import {{ {name} }} from "{WEB.as_uri()}/math/{file}.js";' for name, file in MATH.items()]
    alone = node("\n".join([*imports, COMPUTE]))
    assert alone == node(module_source() + COMPUTE)
    counts, wilson, distance, shrunk = json.loads(alone)
    assert sum(counts) == 400 and wilson["low"] < 37 / 400 < wilson["high"] and distance > 0 and len(shrunk) == 64


def test_a_local_name_may_equal_an_exported_name(tmp_path, node):
    """Joined or not: a parameter, a variable of a block and a property are not the other file's function."""
    (tmp_path / "package.json").write_text('{ "type": "module" }', encoding="utf-8")
    (tmp_path / "dom.js").write_text("export function element(tag) {\n  return `<${tag}>`;\n}\n", encoding="utf-8")
    (tmp_path / "main.js").write_text(
        'import { element } from "./dom.js";\n\n'
        "const twice = (element) => element + element;\n"
        "const box = { element: 3 };\n"
        "function count() {\n  const element = box.element;\n  return twice(element);\n}\n"
        'console.log(element("b"), count(), twice("c"));\n'
        "export default { count };\n",
        encoding="utf-8",
    )
    assert node(module_source(tmp_path)) == node(f'import "{(tmp_path / MODULE_ENTRY).as_uri()}"') == "<b> 6 cc\n"
