"""Make `.venv` hold what this checkout needs; do nothing when it already does. `make` calls this before every target.

    python scripts/set_up.py        (any Python from 3.11; needs nothing but the standard library)

What is installed: `requirements.lock` to the letter, torch as `choose_torch.py` decides, and minimoe itself, editable.
What was installed is written to `.venv/minimoe-stamp.json`, last, so that an interrupted run is taken up again.
"""

import sys

if sys.version_info < (3, 11):  # first, and in words that any Python 3 can read  # noqa: UP036
    sys.exit(
        "minimoe needs Python 3.11 or newer, and this is {}.{} ({}).\n".format(*sys.version_info[:2], sys.executable)
        + "Install a newer one, or name it: make PYTHON=/path/to/python3.11"
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
    """The interpreter inside a virtual environment, on this operating system."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def works(python: Path) -> bool:
    """Does this interpreter start, and has it pip? Not in a half-made environment, or once its Python is removed."""
    check = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([str(python), "-c", check], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def read_stamp(venv: Path) -> dict[str, str]:
    """What the last complete set-up installed; empty if there was none."""
    try:
        return dict(json.loads((venv / "minimoe-stamp.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def wanted_stamp(root: Path, old: dict[str, str], asked: str) -> dict[str, str]:
    """What a complete set-up of this checkout would write.

    Without TORCH a choice made earlier stands; the tested version follows `choose_torch.TESTED`.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    installed = {key: project.get(key) for key in ("build-system", "project")}  # not the settings of ruff, pytest ...
    digest = hashlib.sha256((root / "requirements.lock").read_bytes() + json.dumps(installed).encode())
    chosen = old.get("torch", "")
    torch = asked or (chosen if chosen and not chosen.startswith("tested ") else f"tested {TESTED}")
    # A virtual environment names its own folder in every script, so a moved checkout needs a new one.
    return {"files": digest.hexdigest(), "torch": torch, "where": str(root)}


def locked_version(lock: Path, name: str) -> str:
    """`name==version` as the lock file has it."""
    found = re.search(rf"^{name}==\S+$", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if not found:
        raise SystemExit(f"{lock.name} has no line '{name}==...'; `make lock` writes it anew.")
    return found.group()


def create(venv: Path) -> None:
    """A new, empty virtual environment in place of whatever is there."""
    if venv.exists():
        print(f"{venv.name} does not work here (moved, or its Python is gone): making it anew", flush=True)
        shutil.rmtree(venv)
    print(f"creating {venv.name} with Python {sys.version.split()[0]}", flush=True)
    if subprocess.run([sys.executable, "-m", "venv", str(venv)]).returncode:
        raise SystemExit("No virtual environment could be made. On Debian or Ubuntu: sudo apt install python3-venv")


def set_up(root: Path, asked: str = "") -> bool:
    """Bring `root/.venv` up to date; returns whether anything had to be done."""
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

    # A current pip first: choosing torch relies on its --dry-run, which downloads whole wheels in old versions.
    subprocess.run([*install, locked_version(lock, "pip")], check=True)
    torch = [] if old.get("torch") == wanted["torch"] else torch_request(pip, asked)
    print("installing requirements.lock (about 200 MB to download, a minute or two)", flush=True)
    subprocess.run([*install, "-r", str(lock)], check=True)
    if torch:
        if asked:  # pip takes 2.13.0+cpu for 2.13.0+cu128: a build that was asked for replaces the one that is here
            subprocess.run([*pip, "uninstall", "-qq", "-y", "torch"], check=True)
        print(f"installing {' '.join(torch)}", flush=True)
        subprocess.run([*install, *torch], check=True)
    subprocess.run([*install, "--no-deps", "--no-build-isolation", "-e", str(root)], check=True)
    if subprocess.run([*pip, "check"]).returncode:
        print("warning: pip finds the packages above at odds with one another", file=sys.stderr)
    (venv / "minimoe-stamp.json").write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
    return True


if __name__ == "__main__":
    try:
        set_up(ROOT, os.environ.get("TORCH", "").strip())
    except subprocess.CalledProcessError as error:
        sys.exit(f"set-up stopped: {' '.join(error.cmd)} failed (its message is above)")
