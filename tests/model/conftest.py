"""Reference models are built once a session and shared read-only."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.model.reference import SHAPES, Pair, load_pair, save_reference


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """shape name -> directory of a reference model of that shape, saved by transformers."""
    made: dict[str, Path] = {}

    def directory(shape: str) -> Path:
        if shape not in made:
            made[shape] = tmp_path_factory.mktemp("reference")
            save_reference(made[shape], **SHAPES[shape])
        return made[shape]

    return directory


@pytest.fixture(scope="session")
def pair(saved: Callable[[str], Path]) -> Callable[[str, torch.dtype], Pair]:
    """(shape name, dtype) -> the reference and ours."""
    made: dict[tuple[str, torch.dtype], Pair] = {}

    def both(shape: str, dtype: torch.dtype) -> Pair:
        key = (shape, dtype)
        if key not in made:
            made[key] = load_pair(saved(shape), dtype)
        return made[key]

    return both
