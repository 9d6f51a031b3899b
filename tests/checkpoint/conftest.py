"""A tiny sharded checkpoint for these tests; tests that change it use a copy."""

import shutil
from pathlib import Path

import pytest

from tests.checkpoint.fake import save_tiny


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in several shards. Do not modify it."""
    directory = tmp_path_factory.mktemp("tiny") / "checkpoint"
    save_tiny(directory)
    return directory


@pytest.fixture
def tiny(original: Path, tmp_path: Path) -> Path:
    """A copy that a test can modify."""
    return Path(shutil.copytree(original, tmp_path / "tiny"))
