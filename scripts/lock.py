"""Write `requirements.lock`: the exact versions that pip resolves for `pyproject.toml`. `make lock` runs this.

Only metadata is downloaded. torch and the packages of its CUDA builds are left out (see `choose_torch.py`). So are the
addresses of indexes: each machine uses the index of its own pip.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from choose_torch import CUDA_PREFIXES, TESTED
from set_up import venv_python

ROOT = Path(__file__).resolve().parent.parent
OLDEST = "3.11.0"  # locked versions must support it: Debian 12 has 3.11.2, and some packages require 3.11.5
HEADER = """\
# Exact versions of everything but torch, as pip resolved them for Python {python} from pyproject.toml
# (dependencies, the extra `test` and the build backend). Made by `make lock`; do not edit by hand.
# torch is chosen for each machine by scripts/choose_torch.py (tested: {torch}).
"""


def main() -> None:
    """Resolve, filter and write the lock file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["test"],
        *project["build-system"]["requires"],
        "pip",
        TESTED,
    ]
    with tempfile.TemporaryDirectory() as folder:
        # A current pip: old versions download every wheel for its metadata.
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(venv_python(Path(folder))), "-m", "pip", "install", "-qq"]
        subprocess.run([*pip, "--upgrade", "pip"], check=True)
        report = Path(folder) / "report.json"
        oldest = ["--python-version", OLDEST, "--only-binary", ":all:", "--target", folder]
        subprocess.run([*pip, "--dry-run", *oldest, "--report", str(report), *wanted], check=True)
        planned = json.loads(report.read_text(encoding="utf-8"))["install"]
    pins = {item["metadata"]["name"]: item["metadata"]["version"] for item in planned}
    left_out = ("torch", *CUDA_PREFIXES)
    kept = [f"{name}=={version}" for name, version in pins.items() if not name.lower().startswith(left_out)]
    text = HEADER.format(python=OLDEST, torch=TESTED) + "\n".join(sorted(kept, key=str.lower)) + "\n"
    (ROOT / "requirements.lock").write_text(text, encoding="utf-8")
    print(f"requirements.lock: {len(kept)} packages")


if __name__ == "__main__":
    main()
