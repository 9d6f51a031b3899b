"""A checkpoint on a server: the same values as from disk, few more bytes than needed, and never wrong ones."""

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import minimoe
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.open import OpenedCheckpoint, open_checkpoint
from minimoe.checkpoint.remote import http_client as http_ranges
from minimoe.checkpoint.remote import remote_file as remote
from minimoe.checkpoint.remote.http_client import Backoff, RangeClient
from minimoe.checkpoint.remote.range_cache import RangeCache
from minimoe.checkpoint.remote.range_response import TransientError, Version, retry_after
from minimoe.checkpoint.remote.remote_file import RemoteFolder, in_parallel
from minimoe.checkpoint.verify import verify
from minimoe.errors import (
    BadArgument,
    BadConfig,
    IndexMismatch,
    MissingShard,
    NotFound,
    NotSafetensors,
    ReadFailed,
    TruncatedShard,
    UnsafeIndex,
)
from tests.checkpoint.fake import edit_json, first_shard
from tests.checkpoint.remote.range_server import RangeServer

INDEX = "model.safetensors.index.json"
HEAD = 1000  # bytes of the first request: less than a tiny shard and less than its header


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """The recorded waits in seconds; no test sleeps, and no request goes through a proxy."""
    recorded: list[float] = []
    monkeypatch.setattr(http_ranges, "pause", recorded.append)
    monkeypatch.setattr(http_ranges, "FIRST_BYTES", HEAD)
    monkeypatch.setenv("MINIMOE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return recorded


@pytest.fixture
def server(tiny: Path, waits: list[float]) -> Any:
    with RangeServer(tiny) as running:
        yield running


def all_bytes(opened: OpenedCheckpoint) -> dict[str, bytes]:
    """Every tensor of the opened files, through their headers."""
    values = {}
    for header in opened.shards.headers.values():
        with header.open() as file:
            file.require_unchanged(header.identity)
            values |= {name: file.read(entry.start, entry.nbytes) for name, entry in header.tensors.items()}
    return values


def on_first(pattern: str, trouble: dict[str, Any], times: int = 1, since: int = 1) -> Callable[..., Any]:
    """This error for requests `since` to `since + times - 1` of each matching file."""
    return lambda asked, count: trouble if re.search(pattern, asked.name) and since <= count < since + times else None


# ---------------------------------------------------------------- values and bytes


@pytest.mark.parametrize("tags", ["strong", "weak", "date"])
def test_the_same_values_as_from_the_disk(server: RangeServer, tiny: Path, tags: str) -> None:
    server.tags = tags
    opened = open_checkpoint(server.url)
    assert opened.remote and opened.source == server.url.rstrip("/")
    assert opened.config == open_checkpoint(tiny).config
    assert all_bytes(opened) == all_bytes(open_checkpoint(tiny))
    header = next(iter(opened.shards.headers.values()))
    assert str(header.file) == server.url + header.file.name and header.file.name == first_shard(tiny).name


def test_headers_cost_one_request_each_and_a_second_one_if_they_are_long(server: RangeServer, tiny: Path) -> None:
    lengths = {file.name: 8 + int.from_bytes(file.read_bytes()[:8], "little") for file in tiny.glob("*.safetensors")}
    opened = open_checkpoint(server.url, cache_bytes=0)
    assert any(length > HEAD for length in lengths.values())
    for name, length in lengths.items():
        assert server.ranged().count(name) == (2 if length > HEAD else 1)
    small = sum((tiny / name).stat().st_size for name in ("config.json", INDEX))
    assert server.bytes_sent == small + sum(max(length, HEAD) for length in lengths.values())
    assert opened.shards.directory.bytes_fetched == server.bytes_sent


def test_a_slice_requests_only_its_own_files_and_bytes(server: RangeServer, tiny: Path) -> None:
    weight_map = json.loads((tiny / INDEX).read_text())["weight_map"]
    needed = {file for name, file in weight_map.items() if name.startswith("model.layers.2.")}
    opened = open_checkpoint(server.url, layers=range(2, 3))
    assert set(server.ranged()) == needed == set(opened.shards.headers) < set(weight_map.values())
    server.reset()
    header, entry = opened.shards.find("model.layers.2.self_attn.o_proj.weight")
    with header.open() as file:
        value = file.read(entry.start, entry.nbytes)
        assert (file.bytes_read, file.size) == (entry.nbytes, (tiny / header.file.name).stat().st_size)
    assert value == (tiny / header.file.name).read_bytes()[entry.start : entry.start + entry.nbytes]
    assert server.bytes_sent == entry.nbytes and len(server.asked) == 1


def test_a_single_file_without_an_index(server: RangeServer, tiny: Path) -> None:
    single = first_shard(tiny)
    for file in [*tiny.glob("*.safetensors"), tiny / INDEX]:
        if file != single:
            file.unlink()
    single.rename(tiny / "model.safetensors")
    assert all_bytes(open_checkpoint(server.url)) == all_bytes(open_checkpoint(tiny))


@pytest.mark.parametrize("seed", range(4))
def test_random_reads_with_random_errors(
    server: RangeServer, tiny: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random reads, random errors, a cache that is too small: every read returns the file's bytes."""
    draw = random.Random(seed)
    monkeypatch.setattr(remote, "PART", 700)
    monkeypatch.setattr(http_ranges, "PROGRESS", 50)
    troubles = [None, None, {"drop": 60}, {"status": 503}, {"status": 429, "headers": {"Retry-After": "3"}}]
    server.trouble = lambda asked, count: draw.choice(troubles) if count > 1 else None
    monkeypatch.setattr(http_ranges, "ATTEMPTS", 50)
    cache = RangeCache(tiny.parent / "small", 6000)
    folder = RemoteFolder(server.url, cache)
    path = first_shard(tiny)
    data = path.read_bytes()
    for _ in range(40):
        with (folder / path.name).open() as file:
            start = draw.randrange(len(data))
            count = draw.randrange(0, min(3000, len(data) - start) + 1)
            assert file.read(start, count) == data[start : start + count]
        assert sum(piece.stat().st_size for piece in cache.folder.rglob("*") if piece.is_file()) <= 6000


# ---------------------------------------------------------------- the second run


@pytest.mark.parametrize("tags", ["strong", "date"])
def test_a_second_run_fetches_nothing(server: RangeServer, tags: str) -> None:
    server.tags = tags
    first = all_bytes(open_checkpoint(server.url))
    server.reset()
    again = open_checkpoint(server.url)
    assert all_bytes(again) == first
    assert server.bytes_sent == again.shards.directory.bytes_fetched == 0
    assert len(server.asked) == len(again.shards.headers) + 10  # each weight file and each small one: still the same?


def test_bytes_with_a_weak_etag_are_not_cached(server: RangeServer) -> None:
    server.tags = "weak"
    first = all_bytes(open_checkpoint(server.url))
    server.reset()
    assert all_bytes(open_checkpoint(server.url)) == first
    assert server.bytes_sent > sum(map(len, first.values()))


def test_files_changed_between_two_runs_are_fetched_again(server: RangeServer, tiny: Path) -> None:
    all_bytes(open_checkpoint(server.url))
    path = first_shard(tiny)
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)
    edit_json(tiny / "config.json", lambda config: config.update(rope_theta=5.0))
    again = open_checkpoint(server.url)
    assert all_bytes(again) == all_bytes(open_checkpoint(tiny)) and again.config.rope_theta == 5.0


def test_without_a_cache_nothing_is_stored(server: RangeServer, tmp_path: Path) -> None:
    for _ in range(2):
        server.reset()
        all_bytes(open_checkpoint(server.url, cache=tmp_path / "other", cache_bytes=0))
        assert server.bytes_sent > 10_000
    assert not list((tmp_path / "other").rglob("*.piece"))
    with pytest.raises(BadArgument, match="cache_bytes is -1"):
        open_checkpoint(server.url, cache_bytes=-1)


# ---------------------------------------------------------------- passing trouble


def test_a_dropped_connection_resumes_at_the_last_byte(server: RangeServer, tiny: Path, waits: list[float]) -> None:
    opened = open_checkpoint(server.url, cache_bytes=0)
    header, entry = opened.shards.find("model.embed_tokens.weight")
    server.reset()
    server.trouble = on_first("safetensors$", {"drop": 100}, times=3)
    with header.open() as file:
        value = file.read(entry.start, entry.nbytes)
    assert value == (tiny / header.file.name).read_bytes()[entry.start : entry.start + entry.nbytes]
    firsts = [int(asked.headers["range"][6:].split("-")[0]) for asked in server.asked]
    assert firsts == [entry.start + 100 * number for number in range(4)]
    assert server.bytes_sent == entry.nbytes and waits == [1, 2, 4]


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        ({"status": 503}, [1, 2]),
        ({"status": 500}, [1, 2]),
        ({"status": 429, "headers": {"Retry-After": "7"}}, [7, 7]),
        ({"drop": 0}, [1, 2]),
    ],
)
@pytest.mark.parametrize("files", ["json$", "safetensors$"])
def test_transient_errors_are_retried(
    server: RangeServer, tiny: Path, waits: list[float], trouble: dict[str, Any], expected: list[float], files: str
) -> None:
    server.trouble = on_first("^config.json" if files == "json$" else first_shard(tiny).name, trouble, times=2)
    opened = open_checkpoint(server.url)
    server.trouble = lambda asked, count: None
    assert all_bytes(opened) == all_bytes(open_checkpoint(tiny))
    assert sorted(waits)[:2] == expected


def test_progress_resets_the_backoff(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    opened = open_checkpoint(server.url, cache_bytes=0)
    header, entry = opened.shards.find("model.embed_tokens.weight")
    monkeypatch.setattr(http_ranges, "PROGRESS", 100)
    server.trouble = on_first("safetensors$", {"drop": 100}, times=10**6)
    with header.open() as file:
        file.read(entry.start, entry.nbytes)
    assert len(waits) > http_ranges.ATTEMPTS and set(waits) == {1}
    waits.clear()
    server.trouble = on_first("safetensors$", {"drop": 99}, times=10**6)
    with header.open() as file, pytest.raises(ReadFailed, match=r"6 times in a row\. Try again later"):
        file.read(entry.start, entry.nbytes)
    assert waits == [1, 2, 4, 8, 16]


def test_the_longest_wait(server: RangeServer, waits: list[float]) -> None:
    server.trouble = on_first("config.json", {"status": 429, "headers": {"Retry-After": "3600"}})
    with pytest.raises(ReadFailed, match="asks to wait 3,600 s"):
        open_checkpoint(server.url)
    assert waits == []


def test_retry_after_in_both_forms() -> None:
    def seconds(value: str) -> float | None:
        return retry_after(httpx.Response(429, headers={"Retry-After": value}))

    assert (seconds("12"), seconds("soon"), seconds("")) == (12.0, None, None)
    assert seconds("Fri, 01 Jan 1999 00:00:00 GMT") == 0.0


# ---------------------------------------------------------------- Ctrl-C


def test_a_worker_that_outlives_its_read_does_not_write(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during four downloads, and again while their threads are joined: the memory may be reused by then."""
    header, entry = open_checkpoint(server.url, cache_bytes=0).shards.find("model.embed_tokens.weight")
    pools, go_on, destination = [], threading.Event(), bytearray(b"?" * 400)

    def fetch(self: RangeClient, version: Version, part: memoryview, offset: int) -> None:
        if offset == entry.start:
            raise KeyboardInterrupt
        assert go_on.wait(20)
        part[:] = b"!" * len(part)

    def leave(self: ThreadPoolExecutor, wait: bool = True) -> None:
        pools.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(remote, "PART", 100)
    monkeypatch.setattr(RangeClient, "fetch", fetch)
    with header.open() as file, monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ThreadPoolExecutor, "shutdown", leave)
        file.read_into(memoryview(destination), entry.start)
    go_on.set()
    pools[0].shutdown()
    assert destination == b"?" * 400


@pytest.mark.parametrize("slow", ["pause", "body"])
def test_a_cancelled_read_ends_its_workers(slow: str) -> None:
    waiting, cancelled = threading.Event(), []

    def body() -> Iterator[bytes]:
        yield b"x"
        waiting.set()
        assert http_ranges.WORKER.cancelled and http_ranges.WORKER.cancelled.wait(20)
        yield b"x" * 9

    def read(number: int) -> None:
        if number == 0:
            assert waiting.wait(20)
            raise KeyboardInterrupt
        with pytest.raises(ReadFailed, match="was cancelled"):
            if slow == "body":
                list(RangeClient().chunks(httpx.Response(206, content=body(), request=httpx.Request("GET", "x:")), 10))
            else:
                waiting.set()
                Backoff("https://host/x").wait(TransientError("503", wait=60))
        cancelled.append(number)

    with pytest.raises(KeyboardInterrupt):
        list(in_parallel(read, [0, 1]))
    assert cancelled == [1]


def test_no_more_parts_are_in_memory_than_threads() -> None:
    begun: list[int] = []
    for number, _ in enumerate(in_parallel(begun.append, list(range(50)))):
        assert len(begun) <= number + remote.THREADS
    assert sorted(begun) == list(range(50))


# ---------------------------------------------------------------- what is refused


def test_a_server_without_ranges_is_refused_before_it_sends_the_file(server: RangeServer, tiny: Path) -> None:
    file = first_shard(tiny)
    with file.open("r+b") as opened:
        opened.truncate(64 * 2**20)
    server.trouble = on_first(file.name, {"whole": True}, times=99)
    with pytest.raises(ReadFailed, match=r"with the whole file \(200, not 206\).*Download the folder") as caught:
        open_checkpoint(server.url, layers=range(0, 1))
    assert server.url + file.name in str(caught.value)
    assert server.bytes_sent < 32 * 2**20  # what the system had buffered before the connection was closed


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ({"shift": 8}, "requested bytes"),
        ({"relabel": "bytes 5-6/7"}, "changed on the server"),
        ({"relabel": "bytes 0-1"}, "expected one uncompressed range"),
        ({"relabel": "bytes */9999"}, "expected one uncompressed range"),
        ({"relabel": "octets 0-1/9999"}, "expected one uncompressed range"),
        ({"headers": {"Content-Encoding": "gzip"}}, "Content-Encoding 'gzip'"),
        ({"surplus": 5}, "sent more bytes than the range"),
        ({"etag": '"another"'}, "was changed on the server while it was being read"),
        ({"headers": {"Last-Modified": "Fri, 01 Jan 1999 00:00:00 GMT"}}, "was changed on the server"),
        ({"whole": True, "etag": '"another"'}, "was changed on the server"),
        ({"whole": True}, "200, not 206"),
        ({"status": 412}, "was changed on the server"),
        ({"status": 416}, "was changed on the server"),
        ({"status": 404}, "does not exist (404 Not Found)"),
        ({"status": 403}, "responded 403 Forbidden. For a gated or private model"),
        ({"status": 418}, "responded 418"),
        ({"status": 304}, "responded 304"),
        ({"redirect": "ftp://127.0.0.1/x"}, "cannot be followed"),
        ({"redirect": "model-00001-of-00007.safetensors"}, "cannot be read: Exceeded maximum allowed redirects"),
    ],
)
def test_responses_that_do_not_match_the_request(server: RangeServer, trouble: dict[str, Any], sentence: str) -> None:
    opened = open_checkpoint(server.url, cache_bytes=0)
    header = opened.shards.headers["model-00001-of-00007.safetensors"]
    entry = max(header.tensors.values(), key=lambda entry: entry.start)
    server.trouble = on_first("safetensors$", trouble, times=10**6)
    with header.open() as file, pytest.raises((ReadFailed, NotFound)) as caught:
        file.read(entry.start, entry.nbytes)
    assert sentence in str(caught.value) and header.file.name in str(caught.value)


@pytest.mark.parametrize("size", [-100, 0, 100])
def test_a_file_that_is_replaced_while_it_is_read(server: RangeServer, tiny: Path, size: int) -> None:
    opened = open_checkpoint(server.url)
    header, entry = opened.shards.find("model.embed_tokens.weight")
    path = tiny / header.file.name
    path.write_bytes(bytes(path.stat().st_size + size))
    with header.open() as file, pytest.raises(ReadFailed, match="was changed on the server"):
        file.read(entry.start, entry.nbytes)


def test_header_and_bytes_are_of_the_same_version(server: RangeServer, tiny: Path) -> None:
    """Two headers of a file, read before and after a change: each opens its own version only."""
    old = open_checkpoint(server.url)
    path = first_shard(tiny)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    new = open_checkpoint(server.url)
    header = new.shards.headers[path.name]
    with old.shards.headers[path.name].open() as file, pytest.raises(ReadFailed, match="was changed"):
        file.require_unchanged(header.identity)
    with header.open() as file:
        file.require_unchanged(header.identity)


def test_a_server_without_validators(server: RangeServer) -> None:
    server.tags = "none"
    with pytest.raises(ReadFailed, match="neither ETag nor Last-Modified"):
        open_checkpoint(server.url)


def test_reading_past_the_end(server: RangeServer) -> None:
    header = next(iter(open_checkpoint(server.url).shards.headers.values()))
    with header.open() as file, pytest.raises(ReadFailed, match="but 1 more bytes were expected there"):
        file.read(file.size - 4, 5)


def test_an_unreachable_server(waits: list[float]) -> None:
    with RangeServer(Path()) as gone:
        url = gone.url
    with pytest.raises(ReadFailed, match=r"cannot be reached: .*Check the address and the network"):
        open_checkpoint(url)
    assert waits == []


def test_errors_of_the_checkpoint_are_the_same_as_for_a_local_one(server: RangeServer, tiny: Path) -> None:
    files = sorted(tiny.glob("*.safetensors"))
    files[-1].write_bytes(files[-1].read_bytes()[:-10])
    with pytest.raises(TruncatedShard, match=re.escape(server.url + files[-1].name)):
        open_checkpoint(server.url)
    files[-1].write_bytes(b"")
    with pytest.raises(NotSafetensors, match="is empty"):
        open_checkpoint(server.url)
    files[-1].unlink()
    with pytest.raises(MissingShard, match=f"1 of {len(files)} files are absent in {server.url[:-1]}"):
        open_checkpoint(server.url)
    edit_json(tiny / INDEX, lambda index: index["weight_map"].update({"lm_head.weight": "http://127.0.0.1:9/x"}))
    with pytest.raises(UnsafeIndex, match="only plain file names"):
        open_checkpoint(server.url)
    (tiny / "config.json").write_text("{")
    edit_json(tiny / INDEX, lambda index: index["weight_map"].update({"lm_head.weight": files[0].name}))
    with pytest.raises(BadConfig):
        open_checkpoint(server.url)
    (tiny / INDEX).write_text("[]")
    with pytest.raises(IndexMismatch, match="it holds a list"):
        open_checkpoint(server.url)
    (tiny / INDEX).unlink()
    with pytest.raises(NotFound, match=r"holds neither model\.safetensors nor"):
        open_checkpoint(server.url)
    (tiny / "config.json").unlink()
    with pytest.raises(NotFound, match=r"Expected the folder that holds config\.json"):
        open_checkpoint(server.url)


# ---------------------------------------------------------------- redirects and log-ins


def test_credentials_are_not_sent_to_a_redirect(server: RangeServer, tiny: Path, tmp_path: Path) -> None:
    with RangeServer(tiny) as store:
        server.trouble = lambda asked, count: {"redirect": store.url + asked.name}
        cache = RangeCache(tmp_path / "ranges", 0)
        folder = RemoteFolder(server.url, cache, headers={"authorization": "Bearer secret"})
        path = first_shard(tiny)
        with (folder / path.name).open() as file:
            assert file.read(3000, 500) == path.read_bytes()[3000:3500]
    assert {asked.headers.get("authorization") for asked in server.asked} == {"Bearer secret"}
    assert store.asked and not any("authorization" in asked.headers for asked in store.asked)


@pytest.mark.parametrize("way", [["http://host/x"], ["http://host/x", "https://store/x"]], ids=len)
def test_https_is_not_redirected_to_http(way: list[str]) -> None:
    hops = dict(zip(["https://host/x", *way], way, strict=False))

    def answer(request: httpx.Request) -> httpx.Response:
        if str(request.url) in hops:
            return httpx.Response(302, headers={"Location": hops[str(request.url)]})
        return httpx.Response(206, headers={"Content-Range": "bytes 0-0/1", "ETag": '"a"'}, content=b"x")

    client = RangeClient()
    client._client = httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=True)
    with pytest.raises(ReadFailed, match="redirects to http://host/x, which is not encrypted"):
        client.look("https://host/x")


# ---------------------------------------------------------------- small files, verify, load


def test_metadata_files_are_fetched_if_they_exist(server: RangeServer, tiny: Path) -> None:
    (tiny / "tokenizer.json").write_text('{"a": 1}')
    (tiny / "chat_template.jinja").write_text("{{ messages }}")
    page = {"/merges.txt": lambda asked: (200, {"Content-Type": "text/html"}, b"<html>home</html>")}
    server.extra = page | {"/vocab.json": lambda asked: (403, {}, b"")}
    folder = open_checkpoint(server.url).folder
    names = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
    assert names == {"config.json", INDEX, "tokenizer.json", "chat_template.jinja"}
    assert (folder / "tokenizer.json").read_text() == '{"a": 1}'
    (folder / "tokenizer.json").write_text("damaged")
    (tiny / "chat_template.jinja").unlink()
    assert open_checkpoint(server.url).folder == folder
    assert (folder / "tokenizer.json").read_text() == '{"a": 1}' and not (folder / "chat_template.jinja").exists()


def test_a_cache_that_cannot_be_written(
    server: RangeServer, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    opened = open_checkpoint(server.url, cache=tmp_path / "file", cache_bytes=10**6)
    assert all_bytes(opened) == all_bytes(open_checkpoint(tiny))
    assert capsys.readouterr().err.count("so caching stops") == 1


def test_verify_reads_headers_only(server: RangeServer, tiny: Path) -> None:
    report, local = verify(server.url), verify(tiny)
    assert report.ok and str(report).startswith(server.url[:-1])
    assert (report.tensors, report.parameters, report.bytes_read) == (local.tensors, local.parameters, local.bytes_read)
    files = sorted(tiny.glob("*.safetensors"))
    files[2].unlink()
    files[3].write_bytes(files[3].read_bytes()[:-1])
    assert [problem.split(":")[0] for problem in verify(server.url).problems] == ["MissingShard", "TruncatedShard"]
    with pytest.raises(BadArgument, match="sha256 would download all of"):
        verify(server.url, sha256=True)
    with pytest.raises(NotFound):
        verify(server.url + "elsewhere/")


@pytest.mark.parametrize("address", ["https://host/x/", "http://host/x", "hf://Qwen/Qwen3-235B-A22B@main", "HF://a/b"])
def test_load_needs_a_folder(address: str) -> None:
    for path in (address, Path(address)):
        with pytest.raises(BadArgument, match="Stream it, with --ram") as caught:
            minimoe.load(path)
        with pytest.raises(BadArgument):
            load_model(path)
    assert ("hf download" in str(caught.value)) == address.lower().startswith("hf")


def test_a_hub_name_may_be_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound, match=re.escape("minimoe.stream('hf://Qwen/Qwen3-0.6B', ram='12GB')")):
        minimoe.load("Qwen/Qwen3-0.6B")


@pytest.mark.parametrize(
    "address",
    [
        "https://user:secret@host/x/", "https://host/x?token=secret", "https://host/x#a", "https://host/a b/",
        "https://host/../x/", "https://host\\x", "hf://", "hf://one", "hf://a/b/c", "hf://a/b@", "hf://../b", "hf://a/b?c",
    ],
)  # fmt: skip
def test_invalid_addresses(address: str, waits: list[float]) -> None:
    with pytest.raises((BadArgument, NotFound)) as caught:
        open_checkpoint(address)
    assert "user" not in str(caught.value)


def test_the_web_page_of_a_model_is_not_a_folder(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    def absent(self: RangeClient, url: str, *_: Any) -> None:
        raise NotFound(f"{url} does not exist.")

    monkeypatch.setattr(RangeClient, "whole", absent)
    with pytest.raises(NotFound, match="write hf://owner/name"):
        open_checkpoint("https://huggingface.co/Qwen/Qwen3-0.6B")


def test_versions_are_distinguished() -> None:
    assert Version("u", 1, '"a"', None).is_durable and Version("u", 1, None, "date").is_durable
    assert not Version("u", 1, 'W/"a"', None).is_durable and not Version("u", 1, None, None).is_durable
