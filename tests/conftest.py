"""What all tests share: quiet surroundings, the browser, what nbval leaves out, and a summary of what did not run."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from scripts.processors import CAPABILITIES
from tests.browser import Lab, find_chromium, open_browser, serve_lab

# Before anything imports them: one thread a process (two workers share the cores), no hub, no fork warnings.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["MINIMOE_PROGRESS"] = "memory"  # the progress of whoever runs the tests is neither read nor written
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# ATEN_CPU_CAPABILITY alone would mix PyTorch's old kernels with oneDNN's new ones, which no processor does.
for variable, limit in CAPABILITIES.get(os.environ.get("ATEN_CPU_CAPABILITY", ""), {}).items():
    os.environ.setdefault(variable, limit)
os.environ.setdefault("MINIMOE_TRACEBACK", "1")  # an error that no command expects fails the test

# The same examples on every run and no wall-clock verdicts; `HYPOTHESIS_PROFILE=explore` looks further.
settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))

NO_BROWSER = "no Chromium found; `make browser` installs it"
NOT_COMPARED = ("application/vnd.plotly.v1+json", "image/svg+xml")  # drawings; lessons assert their numbers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have nbval compare what a lesson says, and leave out what a renderer draws."""
    for item in items:
        if type(item.parent).__name__ == "IPyNbFile":
            notebook: Any = item.parent
            notebook.skip_compare = tuple(dict.fromkeys((*notebook.skip_compare, *NOT_COMPARED)))


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path. Without one the test is skipped, or fails where CI=true promises that all is there."""
    found = find_chromium()
    if found:
        return found
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{NO_BROWSER}, and CI=true skips nothing")
    pytest.skip(NO_BROWSER)


@pytest.fixture(scope="session")
def lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One JupyterLab for all browser tests of a session, on a copy of the lessons."""
    with serve_lab(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


@pytest.fixture
def page(chromium: str, lab: Lab) -> Iterator[Any]:
    """A fresh browser page, 1280 x 900."""
    with open_browser(chromium) as browser:
        yield browser.new_page(viewport={"width": 1280, "height": 900})


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of real reference files beside the checkout (never copied into it); without it the test is skipped."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("no folder ../shared/reference beside the checkout")
    return folder


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say aloud what did not run, and why: a skipped test proves nothing."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[told.removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.section("NOT RUN", sep="-")
        for reason, count in reasons.most_common():
            terminalreporter.write_line(f"{count} skipped: {reason}", yellow=True)
