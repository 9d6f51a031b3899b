"""hf:// addresses, with a local hub and store: pinned to a commit, and credentials are sent to the hub only."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from minimoe.checkpoint.open import open_checkpoint
from minimoe.checkpoint.remote import http_client as http_ranges
from minimoe.checkpoint.remote.hub import HubFolder, parse, resolve
from minimoe.errors import NotFound, ReadFailed
from tests.checkpoint.remote.range_server import Asked, RangeServer
from tests.checkpoint.remote.test_remote_file import all_bytes

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API = "/api/models/owner/name/revision/"


def model_info(tiny: Path) -> Any:
    """The hub's response for a model: its commit and its files."""
    files = [{"rfilename": file.name} for file in sorted(tiny.iterdir())]
    body = json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": files}).encode()
    return lambda asked: (200, {"Content-Type": "application/json"}, body)


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RangeServer, RangeServer]]:
    """A hub that redirects to a store for the weights, as the real one does."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "MINIMOE_CACHE_GB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MINIMOE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(http_ranges, "FIRST_BYTES", 1000)
    monkeypatch.setattr(http_ranges, "pause", lambda seconds: None)
    with RangeServer(tiny) as store, RangeServer(tiny, prefix=f"/owner/name/resolve/{COMMIT}/") as front:

        def to_the_store(asked: Asked, count: int) -> dict[str, Any] | None:
            if not asked.name.endswith(".safetensors"):
                return None
            content = hashlib.sha256((tiny / asked.name).read_bytes()).hexdigest()
            return {"redirect": store.url + asked.name, "headers": {"X-Linked-ETag": f'"{content}"'}}

        front.trouble = to_the_store
        front.extra = {API + revision: model_info(tiny) for revision in ("main", "v1", COMMIT)}
        monkeypatch.setattr(constants, "ENDPOINT", front.root)
        template = front.root + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        nobody = {"standardEnvVars": [], "harnesses": {}}  # else the hub is asked for a list of these
        monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", nobody)
        yield front, store


def test_a_branch_is_pinned_to_its_commit(hub: tuple[RangeServer, RangeServer], tiny: Path) -> None:
    front, store = hub
    opened = open_checkpoint("hf://owner/name")
    assert opened.source == str(opened.shards.directory) == f"hf://owner/name@{COMMIT}"
    assert all_bytes(opened) == all_bytes(open_checkpoint(tiny))
    assert front.asked[0].name == API + "main"
    assert {asked.headers.get("authorization") for asked in front.asked} == {"Bearer hf_secret"}
    assert store.asked and not any("authorization" in asked.headers for asked in store.asked)
    assert {asked.name for asked in front.asked[1:]} == {file.name for file in tiny.iterdir()}  # and no others
    assert f"@{COMMIT}/model-00001" in str(next(iter(opened.shards.headers.values())).file)


def test_a_second_run_resolves_a_branch_again_but_not_a_commit(
    hub: tuple[RangeServer, RangeServer],
) -> None:
    front, store = hub
    first = all_bytes(open_checkpoint("hf://owner/name@v1"))
    for revision, requests in (("main", [API + "main"]), (COMMIT, [])):
        front.reset()
        store.reset()
        assert all_bytes(open_checkpoint(f"hf://owner/name@{revision}")) == first
        assert [asked.name for asked in front.asked] == requests and not store.asked


def test_a_listed_file_is_required(hub: tuple[RangeServer, RangeServer], tiny: Path) -> None:
    (tiny / "tokenizer.json").write_text("{}")
    hub[0].extra[API + "main"], path = model_info(tiny), hub[0].prefix + "tokenizer.json"
    hub[0].extra[path] = lambda asked: (403, {}, b"")
    with pytest.raises(ReadFailed, match=r"tokenizer\.json: the server responded 403"):
        open_checkpoint("hf://owner/name")
    del hub[0].extra[path]
    assert (open_checkpoint("hf://owner/name").folder / "tokenizer.json").read_text() == "{}"


def test_the_content_hash_takes_precedence_over_the_etag_of_a_store_node(
    hub: tuple[RangeServer, RangeServer], tiny: Path
) -> None:
    front, store = hub
    store.trouble = lambda asked, count: {"etag": f'"node {count}"'}
    opened = open_checkpoint("hf://owner/name")
    values = all_bytes(opened)
    assert values == all_bytes(open_checkpoint(tiny))
    other = open_checkpoint("hf://owner/name", cache_bytes=0)
    path = tiny / "model-00001-of-00007.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ReadFailed, match="was changed on the server"):
        all_bytes(other)


@pytest.mark.parametrize(
    ("status", "headers", "kind", "sentence"),
    [
        (404, {"X-Error-Code": "RepoNotFound"}, NotFound, "the hub has no such model"),
        (401, {"X-Error-Code": "GatedRepo"}, NotFound, "accept its terms"),
        (404, {"X-Error-Code": "RevisionNotFound"}, NotFound, "Check name and revision"),
        (403, {}, ReadFailed, "Check name and revision"),
        (500, {}, ReadFailed, "Check name and revision"),
        (200, {}, ReadFailed, "the hub cannot be reached"),
    ],
)
def test_errors_of_the_hub(
    hub: tuple[RangeServer, RangeServer], status: int, headers: dict[str, str], kind: type[Exception], sentence: str
) -> None:
    hub[0].extra = {API + "main": lambda asked: (status, headers, b"")}
    with pytest.raises(kind) as caught:
        open_checkpoint("hf://owner/name")
    assert sentence in str(caught.value) and str(caught.value).startswith("hf://owner/name@main")


def test_a_response_without_a_commit(hub: tuple[RangeServer, RangeServer]) -> None:
    hub[0].extra = {API + "main": lambda asked: (200, {}, b'{"id": "owner/name", "sha": "../x"}')}
    with pytest.raises(ReadFailed, match="names no commit"):
        resolve("owner/name", "main")


def test_addresses() -> None:
    assert parse("hf://Qwen/Qwen3-235B-A22B") == ("Qwen/Qwen3-235B-A22B", "main")
    assert parse("hf://a/b@refs/pr/1") == ("a/b", "refs/pr/1")
    assert str(HubFolder("a/b", COMMIT, None)) == f"hf://a/b@{COMMIT}"


def test_on_the_command_line(hub: tuple[RangeServer, RangeServer], tmp_path: Path) -> None:
    """In a separate process, with the hub's address in HF_ENDPOINT."""
    environment = os.environ | {"HF_ENDPOINT": hub[0].root, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "minimoe", "verify", "hf://owner/name@v1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.match(rf"hf://owner/name@{COMMIT}: \d+ files, .*whole\n$", done.stdout, re.DOTALL)
