"""Where things are: the checkout, its data folder, and paths that readers type from inside `notebooks/`."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path:
    """The folder that holds `minimoe/`, `notebooks/` and `data/` (the parent of the installed package)."""
    return PACKAGE.parent


def find(path: str | Path) -> Path:
    """`path` as given if it exists; otherwise, if relative, the same path below the checkout's root.

    A Jupyter kernel starts in `notebooks/`, so `data/mini` should mean the same there as at the top.
    Nothing is raised here: what is returned may not exist.
    """
    given = Path(path).expanduser()
    if given.exists() or given.is_absolute():
        return given
    rooted = checkout() / given
    return rooted if rooted.exists() else given


def models_folder() -> Path:
    """The folder with the facts of the real model family: `data/models`, or its copy inside a wheel."""
    rooted = checkout() / "data" / "models"
    return rooted if rooted.is_dir() else PACKAGE / "_models"
