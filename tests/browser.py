"""JupyterLab in a real, headless browser: what the tests marked `browser` share.

`serve_lab` starts a server on a free port with settings of its own (yours are neither read nor written),
`open_browser` gives a Playwright browser on the Chromium that `make browser` installed. The fixtures `lab` and `page`
in `conftest.py` put them together. Only the standard library is imported at the top: `make browser` uses this file too.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

WORKSPACES = count(1)
ROOT = Path(__file__).resolve().parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
# Without a sandbox it runs in a container too; the rest keeps it from calling home: it only visits this machine.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """The browser to drive: $CHROMIUM, one on PATH, macOS's usual places, or Playwright's download; None if none."""
    named = os.environ.get("CHROMIUM", "")
    candidates = [named] if named else [*(shutil.which(name) or "" for name in NAMES), *PLACES]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return candidate
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            own = playwright.chromium.executable_path
    except Exception:  # not installed yet, or it cannot start here: then it has no browser for us either
        return None
    return own if Path(own).exists() else None


@dataclass
class Lab:
    """A running JupyterLab: its address and the folder that it shows (a copy, free to be written to)."""

    url: str
    root: Path

    def address(self, notebook: str) -> str:
        """Where to go to open one notebook, given relative to the root: `notebooks/00_start_here.ipynb`.

        Each time in a workspace of its own: the usual one would open again what the test before had open.
        """
        return f"{self.url}/lab/workspaces/{next(WORKSPACES)}/tree/{notebook}"


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 90.0) -> None:
    """Until `url` answers. A server that ends or stays silent raises RuntimeError with the end of its log."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not come up at {url}; its log ends:\n{log.read_text(errors='replace')[-3000:]}")


def copy_lessons(folder: Path) -> Path:
    """A root for the server: copies of the notebooks, and links to what they read."""
    folder.mkdir(parents=True)
    for name in ("notebooks", "exercises"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (folder / "data").symlink_to(ROOT / "data", target_is_directory=True)
    return folder


@contextmanager
def serve_lab(folder: Path) -> Iterator[Lab]:
    """JupyterLab on a copy of the lessons below `folder`, stopped (with its kernels) on the way out."""
    root = copy_lessons(folder / "root")
    log, port = folder / "lab.log", free_port()
    own = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{kind}_DIR": str(folder / kind.lower()) for kind in ("SETTINGS", "WORKSPACES")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={root}", "--ServerApp.port_retries=0"]
    command += [f"--LabApp.app_settings_dir={ROOT / 'scripts' / 'lab_settings'}"]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=root, env=os.environ | own, stdout=sink, stderr=subprocess.STDOUT)
        try:
            lab = Lab(f"http://127.0.0.1:{port}", root)
            wait_for(f"{lab.url}/api/status", process, log)
            yield lab
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def open_browser(executable: str) -> Iterator[Any]:
    """A headless Playwright browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def run_all_cells(page: Any, seconds: float = 300.0, above: str | None = None) -> None:
    """Clear the open notebook's outputs, run all its cells from the menu, and wait until each has its number.

    above: run only the cells above the first code cell that holds this text. Raises AssertionError with the traceback
    when a cell fails, since those after it are not run.
    """
    milliseconds = seconds * 1000
    # The indicator says idle also before the file has arrived and its kernel has started, so both are waited for first.
    page.wait_for_selector(".jp-CodeCell", timeout=milliseconds)
    page.wait_for_selector("#jp-main-statusbar >> text=/Python 3 .*Idle/", timeout=milliseconds)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=milliseconds)
    if above is not None:
        page.locator(f".jp-CodeCell:has-text('{above}') .jp-InputPrompt").first.click()
    for menu, entry in (
        ("Edit", "Clear Outputs of All Cells"),
        ("Run", "Run All Cells" if above is None else "Run All Above Selected Cell"),
    ):
        page.get_by_role("menuitem", name=menu, exact=True).click()
        page.get_by_role("menuitem", name=entry, exact=True).click()
    # Prompts read "[ ]:" before a cell is run, "[*]:" until it is done, "[3]:" afterwards. Empty cells are never run,
    # and folded ones have no prompt. A traceback begins with a line of dashes.
    ended = page.wait_for_function(
        """above => {
            const cells = [...document.querySelectorAll('.jp-CodeCell')];
            const end = above === null ? cells.length : cells.findIndex(cell => cell.textContent.includes(above));
            const printed = [...document.querySelectorAll("[data-mime-type='application/vnd.jupyter.stderr']")];
            const failed = printed.map(output => output.textContent).find(text => /^-{40,}/.test(text));
            const done = cells.slice(0, end).every(cell =>
                /\\[\\d+\\]/.test(cell.querySelector('.jp-InputPrompt').textContent)
                || cell.querySelector('.cm-content')?.textContent.trim() === ''
                || cell.querySelector('.jp-Placeholder'));
            return failed ?? (done ? 'done' : null);
        }""",
        arg=above,
        timeout=milliseconds,
    ).json_value()
    assert ended == "done", f"a cell failed:\n{ended}"


def keep(page: Any, name: str) -> None:
    """A screenshot, if $SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png")
