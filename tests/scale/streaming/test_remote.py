"""Streaming over HTTP ranges: bit-identical results, only the bytes that are needed, and server faults."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from minimoe.checkpoint.remote import http_client as http_ranges
from minimoe.errors import ReadFailed
from minimoe.model.config import ModelConfig
from minimoe.scale.streaming.stream import stream_model
from tests.checkpoint.fake import save_tiny
from tests.checkpoint.remote.range_server import RangeServer
from tests.scale.streaming.streamed import least, loaded

IDS = torch.arange(7).reshape(1, 7)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(http_ranges, "pause", lambda seconds: None)
    monkeypatch.setattr(http_ranges, "FIRST_BYTES", 8_000)
    monkeypatch.setenv("MINIMOE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    save_tiny(tmp_path / "it")
    return tmp_path / "it"


@pytest.fixture
def server(tiny: Path) -> Iterator[RangeServer]:
    with RangeServer(tiny) as running:
        yield running


def opened(server: RangeServer, beyond: int = 0, **rest: object):
    config = ModelConfig.from_file(server.folder)
    return stream_model(server.url, least(config, None, 40, **rest) + beyond, context=40, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize("beyond", [0, 9_000, 10**8])
def test_bit_identical_to_the_loaded_model(tiny, server, beyond):
    streamed, model = opened(server, beyond), loaded(tiny)
    mine, theirs = streamed.new_cache(capacity=9), model.new_cache(capacity=9)
    with torch.inference_mode():
        for ids in (IDS, IDS[:, :1], IDS[:, 1:2]):
            assert torch.equal(streamed(ids, mine), model(ids, theirs))
    assert streamed.is_remote


def test_layer_0_needs_few_bytes_and_none_the_second_time(tiny, server):
    opened(server, layers=range(1), routing_only=True)(IDS)
    shards = len(list(tiny.glob("*.safetensors")))
    assert 0 < len({name for name in server.ranged() if name.endswith(".safetensors")}) < shards
    before = server.bytes_sent
    server.reset()
    opened(server, layers=range(1), routing_only=True)(IDS)
    assert server.bytes_sent < before // 10


def test_dropped_connections_are_resumed(tiny, server):
    server.trouble = lambda asked, count: {"drop": 300} if count % 3 == 2 and "range" in asked.headers else None
    streamed = opened(server)
    with torch.inference_mode():
        assert torch.equal(streamed(IDS), loaded(tiny)(IDS))


def test_a_server_that_fails_and_recovers(tiny, server):
    streamed = opened(server)
    server.trouble = lambda asked, count: {"status": 503}
    cache = streamed.new_cache(capacity=9)
    with pytest.raises(ReadFailed, match="times in a row"):
        streamed(IDS, cache)
    assert cache.length == 0
    server.trouble = lambda asked, count: None
    with torch.inference_mode():
        assert torch.equal(streamed(IDS, cache), loaded(tiny)(IDS))


def test_a_file_that_changes_on_the_server(tiny, server):
    streamed = opened(server)
    for file in tiny.glob("*.safetensors"):
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    with pytest.raises(ReadFailed, match="changed"):
        streamed(IDS)
