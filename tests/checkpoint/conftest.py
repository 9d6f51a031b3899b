"""One tiny sharded checkpoint for the room's tests; those that change it work on a copy."""

import shutil
from pathlib import Path

import pytest

from tests.checkpoint.fake import save_tiny


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in several shards. Not to be changed."""
    directory = tmp_path_factory.mktemp("tiny") / "checkpoint"
    save_tiny(directory)
    return directory


@pytest.fixture
def tiny(original: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "tiny"))
