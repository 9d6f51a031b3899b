"""Progress is remembered, survives damage, and is never that of whoever runs the tests."""

import json
import os
import stat

import pytest

import minimoe
from minimoe.course.checker import progress
from minimoe.course.checker.exercise import all_exercises
from minimoe.errors import BadArgument
from minimoe.paths import checkout

FIRST = all_exercises()["06.1"]
RIGHT = next(iter(FIRST.accepted.values()))


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "notices", set())
    monkeypatch.setenv("MINIMOE_PROGRESS", str(tmp_path / "sub" / "progress.json"))
    return tmp_path / "sub" / "progress.json"


def test_tests_keep_it_in_memory():
    assert os.environ["MINIMOE_PROGRESS"] == "memory" and progress.progress_file() is None


def test_the_file_in_the_checkout_is_ignored_by_git():
    assert "/" + progress.NAME.removesuffix(".json") + "*.json*" in (checkout() / ".gitignore").read_text().splitlines()


def test_done_stays_done_and_attempts_are_counted(file):
    minimoe.check(FIRST.id, ...)
    assert not file.exists()
    minimoe.check(FIRST.id, RIGHT)
    minimoe.check(FIRST.id, 0)
    minimoe.hint(FIRST.id)
    minimoe.solution(FIRST.id)
    assert json.loads(file.read_text()) == {FIRST.id: {"attempts": 2, "done": True, "hints": 1, "solution": True}}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_is_shown(file):
    assert repr(minimoe.progress()).startswith(f"0 of {len(all_exercises())} exercises done")
    minimoe.check(FIRST.id, RIGHT)
    shown = minimoe.progress(FIRST.chapter)
    here = [exercise for exercise in all_exercises().values() if exercise.chapter == FIRST.chapter]
    assert f"■{'□' * (len(here) - 1)}" in repr(shown)
    assert f"{FIRST.minutes} of {sum(exercise.minutes for exercise in here)} min" in repr(shown)
    assert f"next: {here[1].id}" in repr(shown)
    if FIRST.teaches is not None:
        assert f"  {FIRST.teaches.__name__}" in repr(shown) and "you have written minimoe/" in repr(shown)
    assert "<table>" in shown._repr_html_() and "■" in shown._repr_html_()
    with pytest.raises(BadArgument, match="chapter is 77"):
        minimoe.progress(77)


def test_an_unknown_record_is_kept(file):
    file.parent.mkdir()
    file.write_text('{"88.1": {"done": true, "note": "mine"}}')
    minimoe.check(FIRST.id, RIGHT)
    assert json.loads(file.read_text())["88.1"] == {"done": True, "note": "mine"}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"06.1": 3}', b"\xff\xfe\x00"])
def test_a_damaged_file_is_set_aside_unchanged(file, content, capsys):
    file.parent.mkdir()
    file.write_bytes(content)
    minimoe.check(FIRST.id, RIGHT)
    (aside,) = file.parent.glob("progress.unreadable-*.json")
    assert aside.read_bytes() == content and json.loads(file.read_text())[FIRST.id]["done"]
    assert str(aside) in capsys.readouterr().err
    file.write_bytes(b"again")
    minimoe.progress()
    assert len(list(file.parent.glob("progress.unreadable-*.json"))) == 2


def test_a_damaged_file_that_cannot_be_moved_is_left_alone(file, monkeypatch, capsys):
    file.parent.mkdir()
    file.write_bytes(b"{")

    def refuse(self, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(progress, "memory", {})
    monkeypatch.setattr(progress.Path, "rename", refuse)
    assert minimoe.check(FIRST.id, RIGHT).status == "ok"
    assert file.read_bytes() == b"{" and "cannot be renamed" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said_once_and_stops_nobody(file, capsys, monkeypatch):
    monkeypatch.setattr(progress, "memory", {})
    file.parent.write_text("a file where a folder should be")
    assert minimoe.check(FIRST.id, RIGHT).status == "ok"
    minimoe.check(FIRST.id, RIGHT)
    assert capsys.readouterr().err.count("progress is not saved") == 1


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_pipe_is_neither_read_nor_moved(file, capsys, monkeypatch):
    monkeypatch.setattr(progress, "memory", {})
    file.parent.mkdir()
    os.mkfifo(file)
    assert minimoe.check(FIRST.id, RIGHT).status == "ok"
    assert stat.S_ISFIFO(file.stat().st_mode) and list(file.parent.iterdir()) == [file]
    assert capsys.readouterr().err.count("is not a regular file") == 1


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_link_stays_a_link(file, tmp_path):
    file.parent.mkdir()
    file.symlink_to(tmp_path / "elsewhere.json")
    minimoe.check(FIRST.id, RIGHT)
    assert file.is_symlink() and json.loads((tmp_path / "elsewhere.json").read_text())[FIRST.id]["done"]


def test_a_checkout_that_is_read_only_sends_it_home(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(progress, "notices", set())
    monkeypatch.delenv("MINIMOE_PROGRESS")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(progress.os, "access", lambda path, mode: False)
    assert progress.progress_file() == tmp_path / ".minimoe" / "progress.json"
    assert "your progress is kept in" in capsys.readouterr().err


def test_a_checkout_keeps_it_at_its_top(monkeypatch):
    monkeypatch.delenv("MINIMOE_PROGRESS")
    if os.stat(checkout()).st_mode & stat.S_IWUSR:
        assert progress.progress_file() == checkout() / "progress.json"
