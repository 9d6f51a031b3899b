"""`make quick`: style, types, floors, and the tests of the files that have changed.

    python scripts/quick.py                 files that differ from the last commit
    python scripts/quick.py --since main    files that differ from another revision

A test belongs to a changed file if it imports it. Browser tests and lessons are not run; `make test` runs them.
"""

import argparse
import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINT = (
    ("-m", "ruff", "check", "."),
    ("-m", "mypy"),
    ("-c", "from importlinter.cli import lint_imports_command as lint; lint()"),
)


def changed(since: str) -> list[str]:
    """Files that differ from the revision, including new ones."""
    names: list[str] = []
    for command in (["diff", "--name-only", "--diff-filter=d", since], ["ls-files", "--others", "--exclude-standard"]):
        listed = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True)
        names += listed.stdout.splitlines()
    return sorted(set(names))


def imported(source: str) -> set[str]:
    """The dotted names of all modules and objects that a Python source imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def tests_of(files: Iterable[str]) -> list[str]:
    """The test files that import one of `files`, or are one."""
    sources = (file.removesuffix(".py") for file in files if file.endswith(".py"))
    modules = {source.removesuffix("/__init__").replace("/", ".") for source in sources}
    tests = []
    for test in sorted((ROOT / "tests").rglob("test_*.py")):
        source = test.read_text(encoding="utf-8")
        name = test.relative_to(ROOT).as_posix()
        if name in files or modules & imported(source):
            tests.append(name)
    return tests


def main() -> int:
    """Run linters and tests; returns 1 if any of them fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", default="HEAD", metavar="REVISION", help="compare with this one [default: HEAD]")
    files = changed(parser.parse_args().since)
    codes = [subprocess.run([sys.executable, *arguments], cwd=ROOT).returncode for arguments in LINT]
    tests = tests_of(files)
    if tests:
        pytest = ["-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "not browser", *tests]
        codes.append(subprocess.run([sys.executable, *pytest], cwd=ROOT).returncode)
    print(f"quick: {len(files)} changed files, {len(tests)} test files that import them")
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
