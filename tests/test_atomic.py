"""Files are written completely or not at all: links, devices, full disks, permissions, long names, Ctrl-C."""

import errno
import os
import socket
import stat
import subprocess
import sys

import pytest

from minimoe import atomic
from minimoe.errors import BadArgument, NotFound, WriteFailed

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and permissions of POSIX")


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def old(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    return file


def test_the_parts_in_order(tmp_path):
    atomic.write(tmp_path / "file", b"one", memoryview(b" two"))
    assert (tmp_path / "file").read_bytes() == b"one two"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("step", ["os.replace", "os.fsync", "os.open"])
def test_a_failure_at_any_step_keeps_the_old_file_and_leaves_no_temporary(old, monkeypatch, step):
    with monkeypatch.context() as patch:
        patch.setattr(f"minimoe.atomic.{step}", full)
        with pytest.raises(WriteFailed, match=r"file cannot be written: No space left on device\. The previous"):
            atomic.write(old, b"new")
    assert old.read_text() == "old" and list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError, MemoryError])
def test_an_interruption_keeps_the_old_file_and_leaves_no_temporary(old, error):
    with pytest.raises(error), atomic.replacement(old) as temporary:
        temporary.write_text("half")
        raise error
    assert old.read_text() == "old" and list(old.parent.iterdir()) == [old]


@posix
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("relative", [True, False])
def test_a_link_is_kept_and_its_target_replaced(tmp_path, exists, relative):
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "target"
    if exists:
        target.write_text("old")
    (tmp_path / "between").symlink_to("there/target" if relative else target)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "between")
    assert atomic.check_writable(link) == link
    atomic.write(link, b"new")
    assert link.is_symlink() and (tmp_path / "between").is_symlink() and target.read_text() == "new"
    assert [file.name for file in (tmp_path / "there").iterdir()] == ["target"]


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_device(path):
    """A device node with the numbers of /dev/full; it is never opened."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    except (PermissionError, OSError) as error:
        pytest.skip(f"no device node can be made here ({error})")


@posix
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    ("make", "kind"),
    [(make_pipe, "a pipe"), (make_socket, "a socket"), (make_device, "a device"), (os.mkdir, "a folder")],
)
def test_anything_but_a_file_is_refused_by_name_and_kept(tmp_path, monkeypatch, make, kind, linked):
    monkeypatch.chdir(tmp_path)  # the path of a socket is limited to 107 bytes
    make("there")
    before = os.lstat("there")
    if linked:
        os.symlink("there", "link")
    path = "link" if linked else "there"
    with pytest.raises(BadArgument, match=f"^--out: {path} is {kind}"):
        atomic.check_writable(path, "--out")
    with pytest.raises(WriteFailed, match=f"^{path} is {kind}"):
        atomic.write(path, b"new")
    after = os.lstat("there")
    assert (before.st_ino, before.st_mode, before.st_rdev) == (after.st_ino, after.st_mode, after.st_rdev)
    assert sorted(os.listdir()) == sorted({"there", path})


@posix
def test_a_new_entry_under_the_same_name_is_not_replaced(tmp_path):
    with pytest.raises(WriteFailed, match="is a pipe"), atomic.replacement(tmp_path / "file"):
        os.mkfifo(tmp_path / "file")
    assert stat.S_ISFIFO(os.lstat(tmp_path / "file").st_mode) and len(list(tmp_path.iterdir())) == 1


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_permissions_are_kept(old, mode):
    old.chmod(mode)
    atomic.write(old, b"new")
    assert stat.S_IMODE(old.stat().st_mode) == mode


@posix
@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_a_new_file_gets_the_permissions_of_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        atomic.write(tmp_path / "file", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


@posix
def test_a_read_only_file_is_not_replaced(old, monkeypatch):
    old.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the result for users other than root
    for attempt in (lambda: atomic.write(old, b"new"), lambda: atomic.check_writable(old, "--out")):
        with pytest.raises(WriteFailed, match="it is read-only"):
            attempt()
    assert old.read_text() == "old" and list(old.parent.iterdir()) == [old]


@posix
def test_another_owner_is_kept(old):
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(old, 12345, 12345)
    atomic.write(old, b"new")
    assert (old.stat().st_uid, old.stat().st_gid) == (12345, 12345)


@pytest.mark.parametrize("name", ["a" * 255, "家" * 85, "-", "a b\tc\nd", ".hidden"])
def test_any_name_that_the_file_system_supports(tmp_path, name):
    atomic.check_writable(tmp_path / name)
    atomic.write(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("path", ["", " ", "a\0b", "a\ud800b"])
@pytest.mark.parametrize("check", [atomic.check_writable, atomic.check_folder_writable])
def test_an_invalid_name_is_refused(path, check):
    with pytest.raises(BadArgument, match=r"^--out is .*expected the name of a f"):
        check(path, "--out")


def test_a_folder_that_is_missing_or_is_a_file(old):
    with pytest.raises(NotFound, match=r"there is no folder .*none"):
        atomic.check_writable(old.parent / "none" / "file", "--out")
    with pytest.raises(WriteFailed, match="Not a directory"):
        atomic.check_writable(old / "file", "--out")
    with pytest.raises(WriteFailed, match="File name too long"):
        atomic.check_writable(old.parent / ("a" * 256), "--out")
    for folder in (old, old / "below" / "it"):
        with pytest.raises(BadArgument, match="is not a folder"):
            atomic.check_folder_writable(folder, "--out")
    assert atomic.check_folder_writable(old.parent / "new" / "folder") == old.parent / "new" / "folder"
    assert list(old.parent.iterdir()) == [old]


@posix
def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(WriteFailed, match="symbolic links"):
        atomic.check_writable(tmp_path / "a", "--out")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the /proc of Linux")
def test_a_folder_that_even_root_cannot_write_to():
    for check in (atomic.check_writable, atomic.check_folder_writable):
        with pytest.raises(WriteFailed, match="--out: /proc/minimoe cannot be written"):
            check("/proc/minimoe", "--out")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB, which really fills up. Only root can mount one."""
    if not sys.platform.startswith("linux") or os.geteuid():
        pytest.skip("mounting a tmpfs needs root on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "minimoe-test", str(folder)]
    if (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        pytest.skip(f"no tmpfs can be mounted here ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk):
    file = small_disk / "file"
    atomic.write(file, b"old")
    with pytest.raises(WriteFailed, match="No space left on device"):
        atomic.write(file, bytes(100_000))
    assert file.read_bytes() == b"old" and list(small_disk.iterdir()) == [file]
