"""A save that is killed at any step leaves the old checkpoint or the new one whole.

The child process counts its own calls of C functions that access the disk, and kills itself with SIGKILL right before
the n-th, for n = 1, 2, ... until a save completes. The test does not depend on how save works.
"""

import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from minimoe import Transformer
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.save import save
from minimoe.errors import MinimoeError
from tests.checkpoint.fake import TINY, random_model, weights

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
ON_DISK = {
    "open",
    "write",
    "fsync",
    "rename",
    "replace",
    "unlink",
    "remove",
    "mkdir",
    "rmdir",
    "truncate",
    "link",
    "symlink",
    "__exit__",
}
SMALL = replace(TINY, num_hidden_layers=2, num_experts=4, vocab_size=16)
SINGLE, FEW, MANY = 10**9, 10_000, 5_000  # max_shard_bytes: one file, 2 and 5 shards
NOTHING = "no checkpoint"


def save_and_die(model: Transformer, directory: Path, shard_bytes: int, step: int) -> bool:
    """Save in a child that is killed before its `step`-th call that touches the disk. True if it was killed."""
    child = os.fork()
    if child == 0:
        left, writes = step, 0

        def count(frame: FrameType, event: str, called: Any) -> None:
            nonlocal left, writes
            if event == "c_call" and called.__name__ in ON_DISK:
                writes += called.__name__ == "write"
                if called.__name__ == "write" and writes % 8:
                    return  # most writes only fill a buffer; every eighth will do
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.setprofile(count)
            save(model, None, directory, max_shard_bytes=shard_bytes)
        finally:
            sys.setprofile(None)
            os._exit(0 if left > 0 else 1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed in another way"
    return os.WIFSIGNALED(status)


def state(directory: Path, known: dict[str, dict[str, bytes]]) -> str:
    """Load `directory` and return the name of the checkpoint in it."""
    try:
        found = weights(load_model(directory))
    except MinimoeError as error:
        assert known.get(NOTHING) is not None, f"no checkpoint is left: {error}"
        return NOTHING
    return next(name for name, expected in known.items() if expected == found)


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, FEW), (MANY, FEW), (FEW, FEW), (SINGLE, FEW), (FEW, SINGLE)],
    ids=["the first", "fewer shards", "as many shards", "single to sharded", "sharded to single"],
)
def test_killed_at_every_step(tmp_path: Path, before: int | None, after: int) -> None:
    old, new = random_model(SMALL, seed=1), random_model(SMALL, seed=2)
    known = {"new": weights(new)} | ({NOTHING: {}} if before is None else {"old": weights(old)})
    start, work = tmp_path / "start", tmp_path / "work"
    start.mkdir()
    (start / "notes.txt").write_text("mine")
    if before is not None:
        save(old, None, start, max_shard_bytes=before)
    seen = []
    for step in range(1, 10_000):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(start, work)
        killed = save_and_die(new, work, after, step)
        seen.append(state(work, known))
        assert (work / "notes.txt").read_text() == "mine"
        if step % 15 == 0 or not killed:  # whatever was left behind, the next save clears it
            save(old, None, work, max_shard_bytes=FEW)
            assert not [path for path in work.iterdir() if path.name.startswith(".")]
            assert state(work, {"old": weights(old)}) == "old"
        if not killed:
            break
    first = seen.index("new")
    assert 5 < first < len(seen) and set(seen[first:]) == {"new"} and len(set(seen[:first])) == 1
    assert len(seen) - first > 3, "some kills must have fallen between the decision and the end"
