"""Paths of the checkout and its data folder, and relative paths as typed in a notebook."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path:
    """The folder with `minimoe/`, `notebooks/` and `data/` (the parent of the installed package)."""
    return PACKAGE.parent


def find(path: str | Path) -> Path:
    """`path` if it exists; otherwise, if relative, the same path in the checkout, if that exists.

    A Jupyter kernel starts in `notebooks/`; `data/mini` is the same there as at the root. Never raises: the returned
    path may not exist.
    """
    given = Path(path).expanduser()
    if given.exists() or given.is_absolute():
        return given
    rooted = checkout() / given
    return rooted if rooted.exists() else given


def models_folder() -> Path:
    """The folder with the configs of the released models: `data/models`, or its copy inside a wheel."""
    rooted = checkout() / "data" / "models"
    return rooted if rooted.is_dir() else PACKAGE / "_models"


def benchmarks_folder() -> Path:
    """The folder with the stored figures of `make bench`: `data/benchmarks`, or its copy inside a wheel."""
    rooted = checkout() / "data" / "benchmarks"
    return rooted if rooted.is_dir() else PACKAGE / "_benchmarks"
