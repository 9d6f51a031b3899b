"""The cache of fetched bytes: a read returns the stored bytes or nothing, and the cache never exceeds its cap."""

import errno
import os
import random
import tempfile
import threading
import time
from pathlib import Path

import pytest

from minimoe.checkpoint.remote.range_cache import HEAD, RangeCache, default_cap, default_folder
from minimoe.checkpoint.remote.range_response import Version
from minimoe.errors import BadArgument

DATA = random.Random(0).randbytes(50_000)
VERSION = Version("http://host/x", len(DATA), '"a"', None)


def used(cache: RangeCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file())


def taken(cache: RangeCache, start: int, stop: int) -> list[tuple[int, int, bytes | None]]:
    """The extents that cover start:stop, with their bytes if they are cached."""
    pieces, runs = cache.pieces(VERSION), []
    for begin, end, piece in pieces.cover(start, stop):
        buffer = bytearray(end - begin)
        found = piece is not None and pieces.read(piece, memoryview(buffer), begin)
        runs.append((begin, end, bytes(buffer) if found else None))
    return runs


def kept(cache: RangeCache, start: int, stop: int) -> None:
    cache.pieces(VERSION).store(memoryview(DATA)[start:stop], start)


def test_cached_extents_and_the_gaps_between_them(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 10**6)
    for start, stop in ((100, 200), (300, 350), (340, 400)):
        kept(cache, start, stop)
    assert taken(cache, 50, 450) == [
        (50, 100, None),
        (100, 200, DATA[100:200]),
        (200, 300, None),
        (300, 350, DATA[300:350]),
        (350, 400, DATA[350:400]),
        (400, 450, None),
    ]
    assert taken(cache, 120, 130) == [(120, 130, DATA[120:130])]
    other = cache.pieces(VERSION._replace(etag='"b"'))
    assert [run[2] for run in other.cover(0, 1000)] == [None]  # of another version nothing is known


@pytest.mark.parametrize("seed", range(3))
def test_random_stores_cover_an_extent_with_the_right_bytes(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    cache = RangeCache(tmp_path, 30_000)
    for _ in range(150):
        start = draw.randrange(len(DATA))
        stop = min(len(DATA), start + draw.randrange(1, 6000))
        if draw.random() < 0.5:
            kept(cache, start, stop)
        runs = taken(cache, start, stop)
        assert [run[0] for run in runs] == [start, *(run[1] for run in runs[:-1])] and runs[-1][1] == stop
        assert all(data is None or data == DATA[begin:end] for begin, end, data in runs)
        assert used(cache) <= 30_000


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 20_000)
    for start in range(0, 16_000, 1000):
        kept(cache, start, start + 1000)
        time.sleep(0.002)  # a file system's clock may be coarse
    assert taken(cache, 0, 1000)[0][2] == DATA[:1000]
    for start in range(30_000, 44_000, 1000):
        kept(cache, start, start + 1000)
        time.sleep(0.002)
    assert taken(cache, 0, 1000)[0][2] == DATA[:1000]  # was used in between
    assert taken(cache, 1000, 2000) == [(1000, 2000, None)]
    assert used(cache) <= 20_000


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "empty", "head", "swap", "gone"])
def test_a_damaged_piece_counts_as_missing(tmp_path: Path, damage: str) -> None:
    cache = RangeCache(tmp_path, 10**6)
    kept(cache, 0, 1000)
    kept(cache, 1000, 2000)
    first, second = sorted(cache.folder.rglob("*.piece"))
    content = bytearray(first.read_bytes())
    if damage == "flip":
        content[HEAD.size + 500] ^= 1
    elif damage == "cut":
        del content[-1:]
    elif damage == "grow":
        content.append(0)
    elif damage == "empty":
        content.clear()
    elif damage == "head":
        content[0] ^= 1
    elif damage == "swap":
        content[:] = second.read_bytes()
    first.write_bytes(content)
    if damage == "gone":
        first.unlink()
    assert taken(cache, 0, 2000) == [(0, 1000, None), (1000, 2000, DATA[1000:2000])]
    assert taken(cache, 0, 1000) == [(0, 1000, None)] and not first.exists()
    kept(cache, 0, 1000)
    assert taken(cache, 0, 1000) == [(0, 1000, DATA[:1000])]


def test_a_killed_process_leaves_no_partial_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = RangeCache(tmp_path, 10**6)

    def killed(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            kept(cache, 0, 1000)
    assert taken(cache, 0, 1000) == [(0, 1000, None)]
    abandoned = tmp_path / "x" / ".minimoe-0123456789abcdef"
    abandoned.parent.mkdir()
    abandoned.write_bytes(bytes(100))
    RangeCache(tmp_path, 10**6)
    assert abandoned.exists()  # perhaps another process is writing it
    os.utime(abandoned, (0, 0))
    RangeCache(tmp_path, 10**6)
    assert not abandoned.exists()


def test_a_full_disk_stops_caching_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = RangeCache(tmp_path, 10**6)
    kept(cache, 0, 1000)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("minimoe.atomic.os.replace", full)
    kept(cache, 1000, 2000)
    kept(cache, 2000, 3000)
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert taken(cache, 0, 2000) == [(0, 1000, DATA[:1000]), (1000, 2000, None)]


def test_unrelated_files_are_kept(tmp_path: Path) -> None:
    """MINIMOE_CACHE can be a folder with other uses."""
    others = [tmp_path / name for name in ("notes.txt", ".profile", "data.json", "1-2.piece.bak")]
    for file in others:
        file.write_bytes(bytes(5_000))
        os.utime(file, (0, 0))
    cache = RangeCache(tmp_path, 10_000)
    for start in range(0, 20_000, 500):
        kept(cache, start, start + 500)
    assert all(file.stat().st_size == 5_000 for file in others)
    assert used(cache) <= 10_000 + 4 * 5_000


def test_two_concurrent_caches(tmp_path: Path) -> None:
    """Like two processes: two caches on one folder, each reading pieces that the other stores or removes."""
    wrong: list[object] = []

    def work(seed: int) -> None:
        draw, cache = random.Random(seed), RangeCache(tmp_path, 20_000)
        for _ in range(100):
            start = draw.randrange(0, len(DATA), 500)
            runs = taken(cache, start, min(len(DATA), start + 1500))
            wrong.extend(run for run in runs if run[2] is not None and run[2] != DATA[run[0] : run[1]])
            kept(cache, start, min(len(DATA), start + 500))

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert used(RangeCache(tmp_path, 20_000)) <= 20_000


def test_versions_without_a_durable_validator_are_not_cached(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 10**6)
    for version in (VERSION._replace(etag='W/"a"'), VERSION._replace(etag=None)):
        cache.pieces(version).store(memoryview(DATA), 0)
        cache.remember(version)
        assert cache.recall(version.url) is None
    assert used(cache) == 0
    cache.remember(VERSION)
    assert cache.recall(VERSION.url) == VERSION and cache.recall("http://host/y") is None
    next(tmp_path.glob("*.json")).write_text("[1")
    assert cache.recall(VERSION.url) is None


def test_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.setattr(Path, "home", classmethod(homeless))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for given in ("", "~nobody/cache"):
        monkeypatch.setenv("MINIMOE_CACHE", given)
        assert default_folder() == tmp_path / "minimoe"


def test_folder_and_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIMOE_CACHE", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.delenv("MINIMOE_CACHE")
    assert default_folder() == Path.home() / ".cache" / "minimoe"
    monkeypatch.setenv("MINIMOE_CACHE_GB", "1.5")
    assert default_cap(tmp_path) == 1_500_000_000
    for wrong in ("many", "-1", "inf", "nan"):
        monkeypatch.setenv("MINIMOE_CACHE_GB", wrong)
        with pytest.raises(BadArgument):
            default_cap(tmp_path)
    monkeypatch.delenv("MINIMOE_CACHE_GB")
    assert 0 <= default_cap(tmp_path / "not" / "yet") <= 20 * 10**9
    with pytest.raises(BadArgument, match="cache_bytes is 'much'"):
        RangeCache(tmp_path, "much")  # type: ignore[arg-type]
