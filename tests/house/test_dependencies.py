"""pyproject.toml, requirements.lock, environment.yml and the sources say the same about what is needed."""

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.house.repository import ROOT, python_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
TEST = [Requirement(line) for line in PROJECT["project"]["optional-dependencies"]["test"]]
BUILD = [Requirement(line) for line in PROJECT["build-system"]["requires"]]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
CONDA_NAMES = {"torch": "pytorch"}


def locked() -> dict[str, Requirement]:
    lines = [line for line in LOCK.splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


@pytest.mark.parametrize("needed", [*RUNTIME, *TEST, *BUILD], ids=str)
def test_lock_holds_every_dependency_within_its_bounds(needed: Requirement):
    if needed.name == "torch":
        from choose_torch import TESTED

        assert needed.specifier.contains(str(Requirement(TESTED).specifier).removeprefix("=="))
        return
    pinned = locked()[canonicalize_name(needed.name)].specifier
    assert needed.specifier.contains(str(pinned).removeprefix("=="))


def test_lock_is_exact_and_knows_no_index():
    for requirement in locked().values():
        assert [clause.operator for clause in requirement.specifier] == ["=="], requirement
        assert not requirement.url and not requirement.extras and not requirement.marker
    assert not any(word in LOCK for word in ("://", "--", "file:", "@"))


def test_torch_and_cuda_stand_outside_the_lock():
    assert not [name for name in locked() if name.startswith(("torch", "nvidia", "cuda", "triton", "minimoe"))]


def test_what_is_installed_is_what_is_locked():
    """A stale environment would make every other test say something about other versions."""
    for name, requirement in locked().items():
        assert requirement.specifier.contains(importlib.metadata.version(name)), f"{name}: run `make` to update .venv"


def test_environment_yml_agrees_with_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    lines = [Requirement(line) for line in environment["dependencies"] if isinstance(line, str)]
    bounds = {canonicalize_name(line.name): line.specifier for line in lines}
    assert bounds.pop("python") == SpecifierSet(PROJECT["project"]["requires-python"])
    assert bounds.pop("pip") == SpecifierSet("")
    assert bounds == {canonicalize_name(CONDA_NAMES.get(line.name, line.name)): line.specifier for line in RUNTIME}
    assert [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)] == [["-e ."]]


def imported_packages(folder: str) -> set[str]:
    """Top-level names that the sources below `folder` import from elsewhere, imports inside functions included."""
    found = set()
    for path in python_files():
        if path.is_relative_to(ROOT / folder):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.split(".")[0])
    ours = {"minimoe", "tests", "benchmarks", "scripts"} | {path.stem for path in (ROOT / "scripts").glob("*.py")}
    return found - set(sys.stdlib_module_names) - ours


@pytest.mark.parametrize(
    ("folder", "declared"),
    [("minimoe", RUNTIME), ("tests", RUNTIME + TEST), ("benchmarks", RUNTIME + TEST), ("scripts", RUNTIME + TEST)],
)
def test_every_import_is_declared(folder: str, declared: list[Requirement]):
    """What happens to be installed because something else needs it may be gone tomorrow."""
    allowed = {canonicalize_name(requirement.name) for requirement in declared}
    allowed |= {"traitlets", "ipython"} if "ipywidgets" in allowed else set()  # these three come as one
    if folder == "minimoe":
        allowed.add("transformers")  # `check-real` asks for it when it is missing; import-linter limits who may
    if folder == "benchmarks":
        allowed |= {"gguf", "llama-cpp", "llama-cpp-python", "mlx", "mlx-lm"}  # `other_engines`: measured if installed
    distributions = importlib.metadata.packages_distributions()
    unknown = {
        module
        for module in imported_packages(folder)
        if not allowed & {canonicalize_name(name) for name in distributions.get(module, [module])}
    }
    assert not unknown, f"{folder}/ imports {unknown}, which pyproject.toml does not declare"


def test_wheel_ships_the_facts_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    facts = {path.name for path in (ROOT / "data" / "models").glob("*.json")}
    assert facts
    assert facts <= {name.removeprefix("minimoe/_models/") for name in names}
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"minimoe"}


def test_pip_check_is_clean():
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
