"""What README.md and CONTRIBUTING.md tell you to type exists, and CI types the same."""

import os
import re
import shutil
import subprocess

import pytest

from tests.house.repository import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):(?!=)", MAKEFILE, flags=re.MULTILINE))


def commands(page: str) -> set[str]:
    """The targets after `make` in a page's code spans and code blocks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    code = re.findall(r"```.*?```|`[^`]+`", text, flags=re.DOTALL)
    return {target for piece in code for target in re.findall(r"\bmake ([a-z]+)", piece)}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_commands_of_a_page_exist(page):
    assert commands(page) and commands(page) <= TARGETS


def test_readme_names_the_two_commands():
    assert {"lab", "test"} <= commands("README.md")


def test_ci_types_what_the_readme_says():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    made = re.findall(r"^make (.*)$", script, flags=re.MULTILINE)
    assert made == ["browser", "test"] and set(made) <= commands("README.md")
    assert not re.search(r"\b(?:pip|apt|apt-get|python)\b", script), "what CI needs, the two commands must bring"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111, ".ci/run must be executable"


def test_help_lists_every_target():
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}  # we may be inside a make
    listed = subprocess.run(["make", "help"], cwd=ROOT, env=quiet, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in listed.splitlines()} == TARGETS


@pytest.mark.skipif(os.name == "nt", reason="user ids of POSIX")
@pytest.mark.parametrize("target", ["lab", "explorer"])
@pytest.mark.parametrize("user", [0, 1000])
def test_root_is_let_in_and_told(target, user, tmp_path):
    """What `make` would run, with an `id` of our own first on the path; nothing is started."""
    (tmp_path / "id").write_text(f"#!/bin/sh\necho {user}\n")
    (tmp_path / "id").chmod(0o755)
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    quiet["PATH"] = f"{tmp_path}{os.pathsep}{quiet['PATH']}"
    lines = subprocess.run(["make", "-n", target], cwd=ROOT, env=quiet, capture_output=True, text=True, check=True)
    needed = target == "lab" and user == 0  # Voila starts as root without a flag
    assert ("jupyterlab --allow-root" in lines.stdout) == needed
    assert ('echo "You are root: JupyterLab is started with --allow-root."\n' in lines.stdout) == needed


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_ci_script_parses():
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_of_a_page_lead_somewhere(page):
    text = re.sub(r"<!--.*?-->", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in target or (ROOT / target).exists(), target


def test_windows_lines_install_what_make_installs():
    from choose_torch import CPU_INDEX, TESTED

    page = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\.venv\\Scripts\\python -m pip install (.*)$", page, flags=re.MULTILINE)
    wanted = ["-r requirements.lock", f"{TESTED} --index-url {CPU_INDEX}", "--no-deps --no-build-isolation -e ."]
    assert lines == ["--upgrade pip", *wanted]
