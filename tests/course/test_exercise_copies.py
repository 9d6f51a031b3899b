"""Copies of the exercises: made once, never overwritten, and aware of newer exercises."""

import json
import os
import subprocess
import sys

import nbformat
import pytest

import minimoe
from minimoe import paths
from minimoe.course import exercise_copies
from minimoe.errors import BadArgument, NotFound, WriteFailed
from tests.browser import keep, run_all_cells
from tests.house.repository import ROOT

NAME = "06_router.ipynb"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with the exercises of two chapters, and the home folder beside it."""
    root = tmp_path / "checkout"
    (root / "exercises").mkdir(parents=True)
    for name in ("03_rope.ipynb", NAME):
        (root / "exercises" / name).write_bytes((ROOT / "exercises" / name).read_bytes())
    (root / "notebooks").mkdir()
    monkeypatch.setattr(paths, "PACKAGE", root / "minimoe")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MINIMOE_PROGRESS")
    monkeypatch.chdir(root / "notebooks")
    return root


def change(path, text="# changed"):
    """Append a line to the first code cell of a notebook, as its author or its reader would."""
    notebook = nbformat.read(path, as_version=4)
    next(cell for cell in notebook.cells if cell.cell_type == "code").source += f"\n{text}"
    nbformat.write(notebook, path)


def test_the_first_call_makes_a_copy_with_the_same_cells_and_no_outputs(checkout):
    shown = minimoe.exercises(6)
    assert shown.path == checkout / "my_exercises" / NAME
    copy, shipped = (nbformat.read(path, as_version=4) for path in (shown.path, checkout / "exercises" / NAME))
    nbformat.validate(copy)
    assert [cell.source for cell in copy.cells] == [cell.source for cell in shipped.cells]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in copy.cells)
    assert copy.metadata.kernelspec == shipped.metadata.kernelspec
    assert repr(shown) == f"Your copy of the exercises of chapter 06: my_exercises/{NAME}"


def test_the_link_leads_from_the_lesson_to_the_copy(checkout, monkeypatch):
    assert f'<a href="../my_exercises/{NAME}">' in minimoe.exercises(6)._repr_html_()
    monkeypatch.chdir(checkout)
    assert f'<a href="my_exercises/{NAME}">' in minimoe.exercises(6)._repr_html_()
    monkeypatch.chdir(checkout.parent)
    assert "href" not in minimoe.exercises(6)._repr_html_()


def test_work_is_never_overwritten(checkout):
    copy = minimoe.exercises(6).path
    change(copy, "answer = 42")
    before = copy.read_bytes()
    again = minimoe.exercises(6)
    assert again.path == copy and copy.read_bytes() == before and not again.newer
    copy.write_text("not a notebook any more")
    assert minimoe.exercises(6).path == copy and copy.read_text() == "not a notebook any more"


def test_newer_exercises_are_announced_and_come_beside_the_old(checkout):
    copy = minimoe.exercises(6).path
    change(copy, "answer = 42")
    change(checkout / "exercises" / NAME)
    before, shown = copy.read_bytes(), minimoe.exercises(6)
    assert "06_router-2.ipynb" in repr(shown) and "minimoe.exercises(6, new=True)" in shown._repr_html_()
    new = minimoe.exercises(6, new=True)
    assert new.path.name == "06_router-2.ipynb" and "# changed" in new.path.read_text(encoding="utf-8")
    assert copy.read_bytes() == before
    assert minimoe.exercises(6).path == new.path and not minimoe.exercises(6).newer
    assert minimoe.exercises(6, new=True).path.name == "06_router-3.ipynb"


def test_new_outputs_alone_are_no_newer_exercises(checkout):
    minimoe.exercises(6)
    shipped = checkout / "exercises" / NAME
    notebook = nbformat.read(shipped, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    nbformat.write(notebook, shipped)
    assert not minimoe.exercises(6).newer


def test_a_copy_without_a_hash_is_left_in_peace(checkout):
    copy = minimoe.exercises(6).path
    notebook = json.loads(copy.read_text(encoding="utf-8"))
    del notebook["metadata"][exercise_copies.KEY]
    copy.write_text(json.dumps(notebook), encoding="utf-8")
    change(checkout / "exercises" / NAME)
    assert not minimoe.exercises(6).newer


def test_all_chapters_at_once(checkout):
    shown = minimoe.exercises()
    assert sorted(path.name for path in (checkout / "my_exercises").iterdir()) == ["03_rope.ipynb", NAME]
    assert [copy.chapter.number for copy in shown] == [3, 6]
    assert repr(shown).count("\n") == 1 and shown._repr_html_().count("<a href=") == 2


def test_data_is_found_from_the_copies(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert (minimoe.find("data/mini") / "config.json").is_file()


def test_without_a_writable_checkout_the_copies_are_in_the_home_folder(checkout, monkeypatch):
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != checkout and allowed(path, mode))
    shown = minimoe.exercises(6)
    assert shown.path == checkout.parent / "home" / ".minimoe" / "my_exercises" / NAME and shown.path.is_file()
    assert str(shown.path) in repr(shown) and f"{checkout} is not writable" in repr(shown)
    assert not (checkout / "my_exercises").exists()


def test_a_symbolic_link_to_another_folder_is_followed(checkout):
    elsewhere = checkout.parent / "elsewhere"
    elsewhere.mkdir()
    (checkout / "my_exercises").symlink_to(elsewhere)
    minimoe.exercises(6)
    assert (elsewhere / NAME).is_file() and (checkout / "my_exercises").is_symlink()


def test_a_linked_copy_is_kept(checkout):
    mine = checkout.parent / "mine.ipynb"
    mine.write_bytes((checkout / "exercises" / NAME).read_bytes())
    (checkout / "my_exercises").mkdir()
    (checkout / "my_exercises" / NAME).symlink_to(mine)
    before = mine.read_bytes()
    assert minimoe.exercises(6).path == checkout / "my_exercises" / NAME and mine.read_bytes() == before


def test_a_file_in_the_way_is_named_and_kept(checkout):
    (checkout / "my_exercises").write_text("mine")
    with pytest.raises(BadArgument, match=r"my_exercises is not a folder.*Rename it"):
        minimoe.exercises(6)
    assert (checkout / "my_exercises").read_text() == "mine"


def test_a_folder_in_the_way_is_named(checkout):
    (checkout / "my_exercises" / NAME).mkdir(parents=True)
    with pytest.raises(BadArgument, match=f"{NAME} is a folder.*Rename it"):
        minimoe.exercises(6)


def test_a_full_disk_leaves_no_half_copy(checkout, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(WriteFailed, match="No space left"):
        minimoe.exercises(6)
    assert not list((checkout / "my_exercises").iterdir())


def test_chapters_without_exercises_are_refused(checkout):
    for chapter in (0, 5, 99, "6"):
        with pytest.raises(BadArgument, match="expected one that has exercises: 3, 6"):
            minimoe.exercises(chapter)
    with pytest.raises(BadArgument, match="without a chapter"):
        minimoe.exercises(new=True)


def test_an_installed_package_says_that_it_has_none(checkout):
    for path in (checkout / "exercises").iterdir():
        path.unlink()
    with pytest.raises(NotFound, match="Clone the repository"):
        minimoe.exercises(6)


def test_nothing_is_written_while_lessons_are_tested(checkout, monkeypatch):
    monkeypatch.setenv("MINIMOE_PROGRESS", "memory")
    assert f'href="../my_exercises/{NAME}"' in minimoe.exercises(6)._repr_html_()
    assert not (checkout / "my_exercises").exists()


def test_git_ignores_the_copies():
    ignored = ["git", "-C", str(ROOT), "check-ignore", "--no-index", "-q"]
    assert subprocess.run([*ignored, f"my_exercises/{NAME}"]).returncode == 0
    assert subprocess.run([*ignored, f"exercises/{NAME}"]).returncode == 1


def test_make_lab_prepares_them_without_loading_torch():
    script = "import sys, minimoe.course.exercise_copies; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
    assert "-m minimoe.course.exercise_copies\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.browser
def test_the_link_opens_in_jupyterlab(lab, page):
    """The lesson's cell is run in a notebook of the lab's own folder, as if that were the checkout."""
    source = (
        "import os, pathlib\nimport minimoe\nfrom minimoe import paths\n"
        "paths.PACKAGE = pathlib.Path.cwd().parent / 'minimoe'\nos.environ.pop('MINIMOE_PROGRESS', None)\n"
        "minimoe.exercises(6)"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebook.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    nbformat.write(notebook, lab.root / "notebooks" / "way_in.ipynb")
    page.goto(lab.address("notebooks/way_in.ipynb"))
    run_all_cells(page)
    page.locator(".jp-OutputArea-output a", has_text=f"my_exercises/{NAME}").click()
    page.locator(".lm-TabBar-tabLabel", has_text=NAME).first.wait_for(timeout=30_000)
    assert (lab.root / "my_exercises" / NAME).is_file()
    keep(page, "my_exercises")
