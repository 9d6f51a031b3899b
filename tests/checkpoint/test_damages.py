"""Randomly damaged checkpoints: a MinimoeError that names a file, or exactly the model in the files.

Never another exception, a hang, or silently different weights; and verify reports as whole exactly what load accepts.
A short part always runs. A long run: `MINIMOE_DAMAGES=10000 pytest tests/checkpoint/test_damages.py`; it continues
after a failure and lists all of them. `MINIMOE_DAMAGE=4711` runs only that case.
"""

import os
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import minimoe
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.verify import verify
from minimoe.checkpoint.weights.values import is_inspected
from minimoe.errors import BadArgument, BadTokenizer, MinimoeError, NotFound
from minimoe.quantisation.modules import stored_tensors
from minimoe.text.tokenizer import Tokenizer
from tests.checkpoint import damages
from tests.checkpoint.damages import CHANGES_TOKENIZER, CHANGES_VALUES, KINDS, base, contents, draw_case

SHORT = 500  # cases
TIME_LIMIT = 10  # seconds for one case, against hangs


class Hang(BaseException):
    """Raised in a case that takes too long. Not an Exception, so that no handler catches it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block after that time, if the system supports it."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_case(number: int, folder: Path) -> str:
    """Damage, verify and load a checkpoint; returns the outcome in a word. Raises AssertionError for a wrong one."""
    kind, chosen, draw = draw_case(number)
    shutil.copytree(base(kind), folder)
    for damage in chosen:
        damage(draw, folder)
    report = verify(folder)
    try:
        if kind == "with tokenizer":
            model, tokenizer = minimoe.load(folder)
        else:
            model, tokenizer = load_model(folder), None
    except BadTokenizer as error:
        check_message(str(error), folder)
        if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
            return "no tokenizer"  # for verify that is no fault: load_model needs none
        assert not report.ok, f"verify calls whole what load refuses: {error}"
        return "refused, BadTokenizer"
    except MinimoeError as error:
        check_message(str(error), folder)
        assert not report.ok, f"verify calls whole what load refuses: {error}"
        return f"refused, {type(error).__name__}"
    others = [problem for problem in report.problems if tokenizer or not problem.startswith("BadTokenizer")]
    assert not others, f"load accepts what verify does not: {report}"  # load_model needs no tokenizer, verify reads it
    if any(damage in CHANGES_VALUES for damage in chosen):
        assert contents(model) == damages.expected_contents(folder, model)
        check_small_values(model)
    else:
        assert contents(model) == contents(load_model(base(kind)))
    if tokenizer is not None:
        use(tokenizer, folder)
    changed = any(damage in CHANGES_VALUES + CHANGES_TOKENIZER for damage in chosen)
    return "loaded, with what the files hold" if changed else "loaded, equal"


def check_message(message: str, folder: Path) -> None:
    """Check that a message names the folder or a file, is short, and is printable."""
    assert str(folder) in message or ".json" in message, message
    assert 20 < len(message) < 3000 and message.encode()


def check_small_values(model: Any) -> None:
    """Check that the values that a load inspects are finite."""
    for name, tensor in stored_tensors(model).items():
        if tensor.is_floating_point() and is_inspected(f"model.{name}") and "lm_head" not in name:
            values = tensor.float()
            assert bool(values.isfinite().all()), name


def use(tokenizer: Tokenizer, folder: Path) -> None:
    """Check that an accepted tokenizer can encode, decode and render a chat, or raises a MinimoeError."""
    try:
        ids = tokenizer.encode("Hello \u4f60\u597d 1+1")
        tokenizer.decode(ids)
        tokenizer.chat([{"role": "user", "content": "Hello"}])
    except MinimoeError as error:
        assert 10 < len(str(error)) < 3000 and str(error).encode()


def run_cases(numbers: Any, tmp_path: Path) -> tuple[Counter[str], list[str]]:
    """All of them, each in a folder of its own: how they ended, and what was wrong."""
    outcomes, faults = Counter[str](), list[str]()
    for number in numbers:
        place = tmp_path / str(number)
        place.mkdir()
        try:
            with time_limit(TIME_LIMIT):
                outcomes[run_case(number, place / "damaged")] += 1
        except (Exception, Hang) as error:
            kind, chosen, _ = draw_case(number)
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            names = ", ".join(damage.__name__ for damage in chosen)
            faults.append(f"{number} ({kind}; {names}): {type(error).__name__} at {where}: {str(error)[:300]}")
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return outcomes, faults


@pytest.fixture(scope="module", autouse=True)
def bases() -> Iterator[None]:
    """Delete the undamaged checkpoints after the tests of this file."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    if base.cache_info().currsize:
        for kind in KINDS:
            shutil.rmtree(base(kind).parent, ignore_errors=True)
        base.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_without_damage_each_kind_loads_and_is_what_the_files_hold(kind: str) -> None:
    model = load_model(base(kind))
    assert verify(base(kind)).ok
    assert contents(model) == damages.expected_contents(base(kind), model)


def test_a_message_that_quotes_a_long_value_is_shortened() -> None:
    for kind in (MinimoeError, BadTokenizer, NotFound, BadArgument):
        message = str(kind(f"config.json: key is {'a' * 90_000!r}, expected an integer."))
        assert len(message) == 2000
        assert message.startswith("config.json: key is 'aaa") and message.endswith("aaa', expected an integer.")
        assert str(kind("short")) == "short"


def test_a_damaged_checkpoint_raises_or_loads_exactly(tmp_path: Path) -> None:
    single = os.environ.get("MINIMOE_DAMAGE")
    numbers = [int(single)] if single else range(int(os.environ.get("MINIMOE_DAMAGES", SHORT)))
    outcomes, faults = run_cases(numbers, tmp_path)
    print(*(f"{count:6} {outcome}" for outcome, count in outcomes.most_common()), sep="\n")
    assert not faults, f"{len(faults)} of {len(numbers)} cases:\n" + "\n".join(faults)
    if not single:  # both ways of ending are really tried
        assert outcomes["loaded, equal"] > len(numbers) // 20
        assert sum(count for outcome, count in outcomes.items() if outcome.startswith("refused")) > len(numbers) // 3
