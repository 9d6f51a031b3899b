"""The checkout as these tests see it: its folder and the files that belong to it."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@cache
def files() -> tuple[Path, ...]:
    """All that is committed or would be (`.gitignore` respected); without git, all outside hidden folders."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        listed = [str(path.relative_to(ROOT)) for path in ROOT.glob("[!.]*/**/*") if "__pycache__" not in path.parts]
    paths = (ROOT / name for name in listed if name)
    return tuple(sorted(path for path in paths if path.is_file()))


def python_files() -> list[Path]:
    """The Python sources among them."""
    return [path for path in files() if path.suffix == ".py"]


def name(path: Path) -> str:
    """A path as it reads from the checkout's root; for messages and test ids."""
    return path.relative_to(ROOT).as_posix()
