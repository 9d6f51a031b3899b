"""What every file promises: no machine's paths, nothing huge, a docstring, sources for Python 3.11 to 3.13."""

import ast
import re
import shutil
import subprocess
import sys

import pytest

from tests.house.repository import ROOT, files, name, python_files

# A folder of somebody's machine, at the start of an absolute path.
MACHINE_PATH = re.compile(r"(?<![\w.~*/-])/(?:work|root|home/[a-z]\w*|Users/[A-Za-z]\w*)/")
NOT_TEXT = {".safetensors", ".png", ".ico", ".gz", ".zip"}
GONE_BY_3_13 = {"imp", "distutils", "asynchat", "asyncore", "cgi", "crypt", "imghdr", "pipes", "sndhdr", "telnetlib"}


def test_no_file_names_a_machine_path():
    found = []
    for path in files():
        # A tokenizer's merges and the corpus behind them are data, not our words.
        if path.suffix in NOT_TEXT or path.is_relative_to(ROOT / "data" / "mini"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            found += [f"{name(path)}:{number}: {hit.group()}" for hit in MACHINE_PATH.finditer(line)]
    assert not found


def test_no_file_outside_data_is_large():
    large = {name(path): path.stat().st_size for path in files() if not path.is_relative_to(ROOT / "data")}
    assert not {path: size for path, size in large.items() if size > 2_000_000}


def test_pictures_of_the_pages_are_small():
    """Each version of a picture stays in the history that users clone."""
    sizes = {name(path): path.stat().st_size for path in files() if path.suffix == ".png"}
    assert sizes and not {path: size for path, size in sizes.items() if size > 60_000}


def test_every_module_says_what_it_is():
    """A folder's empty `__init__.py` has nothing to say."""
    sources = {path: path.read_text(encoding="utf-8") for path in python_files()}
    assert not [name(path) for path, source in sources.items() if source and not ast.get_docstring(ast.parse(source))]


def test_nothing_uses_what_later_pythons_dropped():
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 11))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {module.split(".")[0] for module in names} & GONE_BY_3_13, name(path)


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_sources_compile_under(version):
    """With that Python itself, warnings as errors, where this machine has it."""
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"no Python {version} here to compile the sources with")
    script = "import sys; [compile(open(name, encoding='utf-8').read(), name, 'exec') for name in sys.argv[1:]]"
    sources = [str(path) for path in python_files()]
    compiled = subprocess.run([python, "-W", "error", "-c", script, *sources], capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr


# What may write in another way: files of a staging folder, which folder_transaction.py moves into place.
WRITES = {
    "minimoe/atomic.py": {"open", "os.replace"},
    "minimoe/checkpoint/folder_transaction.py": {"os.rename", "os.replace"},
    "minimoe/checkpoint/shard_writer.py": {"open", "write_bytes"},
    "minimoe/checkpoint/sparse_checkpoint.py": {"write_bytes"},
}
WRITING_MODE = re.compile(r"(mode=)?'[rb]*[wax+][bt+]*'")


def writing_calls(path):
    """The calls in a source that write, move or replace a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called, words = ast.unparse(node.func), [ast.unparse(each) for each in (*node.args, *node.keywords)]
        method = called.rpartition(".")[2]
        is_method = isinstance(node.func, ast.Attribute)
        if method in ("save_file", "mkstemp", "NamedTemporaryFile") or (
            is_method and method in ("write_text", "write_bytes")
        ):
            yield method
        elif called in ("os.replace", "os.rename", "shutil.move"):
            yield called
        elif method == "open" and "os.devnull" not in words and any(map(WRITING_MODE.fullmatch, words)):
            yield method


def test_files_are_written_through_one_module():
    found = {name(path): set(writing_calls(path)) for path in python_files() if name(path).startswith("minimoe/")}
    others = {path: calls - WRITES.get(path, set()) for path, calls in found.items()}
    assert not {path: calls for path, calls in others.items() if calls}


def test_importing_minimoe_loads_nothing_heavy():
    script = "import sys, minimoe; print(*{'torch', 'plotly', 'numpy', 'tokenizers', 'ipywidgets'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


def test_every_public_name_can_be_had():
    """The lazy face promises names; each must be where its table says."""
    script = "import minimoe\nfor name in minimoe.__all__: getattr(minimoe, name)"
    subprocess.run([sys.executable, "-c", script], check=True)
