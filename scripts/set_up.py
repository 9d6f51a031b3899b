"""Bring `.venv` up to date; `make` calls this before every target. If it is up to date already, nothing is done.

    python scripts/set_up.py        (Python 3.11 or newer; only the standard library is needed)

Installs the exact versions of `requirements.lock`, torch as `choose_torch.py` selects it, and minimoe itself, editable.
`.venv/minimoe-stamp.json` records the installation. It is written last, so an interrupted run is repeated.
"""

import sys

if sys.version_info < (3, 11):  # first, and in syntax that any Python 3 can parse  # noqa: UP036
    sys.exit(
        "minimoe needs Python 3.11 or newer, and this is {}.{} ({}).\n".format(*sys.version_info[:2], sys.executable)
        + "Install a newer one, or set its path: make PYTHON=/path/to/python3.11"
    )

import hashlib
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

from choose_torch import TESTED, torch_request

ROOT = Path(__file__).resolve().parent.parent


def venv_python(venv: Path) -> Path:
    """The interpreter of a virtual environment on this operating system."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def works(python: Path) -> bool:
    """Whether this interpreter starts and has pip: not in an incomplete environment, or if its Python was removed."""
    check = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([str(python), "-c", check], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def read_stamp(venv: Path) -> dict[str, str]:
    """The record of the last complete set-up; empty if there was none."""
    try:
        return dict(json.loads((venv / "minimoe-stamp.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def wanted_stamp(root: Path, old: dict[str, str], asked: str) -> dict[str, str]:
    """The record that a complete set-up of this checkout would write.

    Without TORCH an earlier choice is kept; the tested version follows `choose_torch.TESTED`.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    installed = {key: project.get(key) for key in ("build-system", "project")}  # not the settings of ruff, pytest ...
    digest = hashlib.sha256((root / "requirements.lock").read_bytes() + json.dumps(installed).encode())
    chosen = old.get("torch", "")
    torch = asked or (chosen if chosen and not chosen.startswith("tested ") else f"tested {TESTED}")
    # The scripts of a virtual environment contain its path, so a moved checkout needs a new one.
    return {"files": digest.hexdigest(), "torch": torch, "where": str(root)}


def locked_version(lock: Path, name: str) -> str:
    """The line `name==version` of the lock file."""
    match = re.search(rf"^{name}==\S+$", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if not match:
        raise SystemExit(f"{lock.name} has no line '{name}==...'; `make lock` recreates it.")
    return match.group()


def create(venv: Path) -> None:
    """Create an empty virtual environment, replacing an existing one."""
    if venv.exists():
        print(f"{venv.name} does not work here (moved, or its Python was removed): creating it again", flush=True)
        shutil.rmtree(venv)
    print(f"creating {venv.name} with Python {sys.version.split()[0]}", flush=True)
    if subprocess.run([sys.executable, "-m", "venv", str(venv)]).returncode:
        raise SystemExit("No virtual environment could be created. On Debian or Ubuntu: sudo apt install python3-venv")


def set_up(root: Path, asked: str = "") -> bool:
    """Bring `root/.venv` up to date; returns whether anything was done."""
    venv, lock = root / ".venv", root / "requirements.lock"
    python = venv_python(venv)
    old = read_stamp(venv)
    wanted = wanted_stamp(root, old, asked)
    if old == wanted and works(python):
        return False
    if not works(python) or old.get("where", wanted["where"]) != wanted["where"]:
        create(venv)
        old = {}
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    install = [*pip, "install", "-qq"]

    # A current pip first: the choice of torch uses --dry-run, which downloads whole wheels in old versions.
    subprocess.run([*install, locked_version(lock, "pip")], check=True)
    torch = [] if old.get("torch") == wanted["torch"] else torch_request(pip, asked)
    print("installing requirements.lock (about 200 MB to download, a minute or two)", flush=True)
    subprocess.run([*install, "-r", str(lock)], check=True)
    if torch:
        if asked:  # pip accepts an installed 2.13.0+cpu for 2.13.0+cu128, so remove it first
            subprocess.run([*pip, "uninstall", "-qq", "-y", "torch"], check=True)
        print(f"installing {' '.join(torch)}", flush=True)
        subprocess.run([*install, *torch], check=True)
    subprocess.run([*install, "--no-deps", "--no-build-isolation", "-e", str(root)], check=True)
    if subprocess.run([*pip, "check"]).returncode:
        print("warning: pip reports conflicts between the packages above", file=sys.stderr)
    (venv / "minimoe-stamp.json").write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
    return True


if __name__ == "__main__":
    try:
        set_up(ROOT, os.environ.get("TORCH", "").strip())
    except subprocess.CalledProcessError as error:
        sys.exit(f"set-up stopped: {' '.join(error.cmd)} failed (its message is above)")
