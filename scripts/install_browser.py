"""Install Chromium for the tests that drive JupyterLab in a real browser; `make browser` runs this.

Debian: apt. macOS: Homebrew, if installed. Elsewhere: Playwright's own download. If a browser is found, nothing is
installed. The font is for Chinese text in screenshots.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.browser import find_chromium


def apt_has_chromium() -> bool:
    """Whether apt has the browser itself (Ubuntu's package is a wrapper for a snap, which tests can hardly control)."""
    if not shutil.which("apt-get") or not Path("/etc/os-release").exists():
        return False
    return "ubuntu" not in Path("/etc/os-release").read_text(encoding="utf-8").lower()


def main() -> int:
    """Find or install a browser; returns 0 if there is one at the end."""
    if not find_chromium():
        if apt_has_chromium():
            sudo = [] if os.geteuid() == 0 else ["sudo"]
            subprocess.run([*sudo, "apt-get", "update", "-q"], check=False)
            install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium", "fonts-wqy-zenhei"]
            subprocess.run([*sudo, "env", "DEBIAN_FRONTEND=noninteractive", *install], check=False)
        elif sys.platform == "darwin" and shutil.which("brew"):
            subprocess.run(["brew", "install", "--cask", "chromium"], check=False)
        else:
            subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    executable = find_chromium()
    if executable:
        print(f"browser for the tests: {executable}")
        return 0
    print(
        "Chromium could not be installed. Install Chromium or Chrome yourself and put it on PATH,\n"
        "or set its path: CHROMIUM=/path/to/chromium make test",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
