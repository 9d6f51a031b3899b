"""Install Chromium for the tests that drive JupyterLab in a real browser; `make browser` runs this.

Debian: apt. macOS: Homebrew, if it is there. Elsewhere: Playwright's own download. Nothing happens where a browser is
found. The font shows Chinese in screenshots.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.browser import find_chromium


def apt_has_chromium() -> bool:
    """Does apt offer the browser itself? (Ubuntu's package of that name wraps a snap, hard to drive from a test.)"""
    if not shutil.which("apt-get") or not Path("/etc/os-release").exists():
        return False
    return "ubuntu" not in Path("/etc/os-release").read_text(encoding="utf-8").lower()


def main() -> int:
    """Find or install; 0 when a browser is there at the end."""
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
    found = find_chromium()
    if found:
        print(f"browser for the tests: {found}")
        return 0
    print(
        "Chromium could not be installed. Install Chromium or Chrome yourself and put it on PATH,\n"
        "or name it: CHROMIUM=/path/to/chromium make test",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
