"""Files that fail while a model is streamed: one error, no partial reads, and recovery once they are repaired."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from minimoe.checkpoint.safetensors.pread import PositionedFile
from minimoe.errors import ReadFailed, WrongModel
from minimoe.scale.streaming import statistics as stream_status
from tests.checkpoint.fake import first_shard, rewrite, save_tiny
from tests.scale.streaming.streamed import loaded, opened, packed, save_random

IDS = torch.arange(7).reshape(1, 7)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "it")
    return tmp_path / "it"


def cut(file: Path, size: int) -> Callable[[], None]:
    """Truncate the file, as a copy over it would; return a function that restores it."""
    state, data = file.stat(), file.read_bytes()

    def restore() -> None:
        with file.open("r+b") as opened_file:
            opened_file.write(data)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))

    os.truncate(file, size)
    return restore


@pytest.mark.parametrize("beyond", [0, 9_000, 10**8])
def test_a_file_that_is_truncated_and_restored(tiny, beyond):
    streamed, model = opened(tiny, beyond), loaded(tiny)
    cache, reference = streamed.new_cache(capacity=12), model.new_cache(capacity=12)
    with torch.inference_mode():
        assert torch.equal(streamed(IDS[:, :3], cache), model(IDS[:, :3], reference))
        streamed.streaming.cache.slots.clear()  # so that the experts are read again
        streamed.streaming.cache.free = list(streamed.streaming.cache.memory.split(streamed.budget.slot))
        restore = cut(sorted(tiny.glob("*.safetensors"))[2], 5_000)
        with pytest.raises(ReadFailed, match="model-00003"):
            streamed(IDS[:, 3:], cache)
        assert cache.length == 3
        with pytest.raises(ReadFailed, match="model-00003"):
            streamed(IDS[:, 3:], cache)
        restore()
        assert torch.equal(streamed(IDS[:, 3:], cache), model(IDS[:, 3:], reference))


def test_any_read_may_fail(tiny, monkeypatch):
    """Each read fails once, also in the background thread; afterwards the results are unchanged."""
    expected, read, count, fails = loaded(tiny)(IDS), PositionedFile._read, 0, -1

    def sometimes(self, destination, offset):
        nonlocal count
        count += 1
        if count == fails:
            destination[:] = bytes(len(destination))
            raise OSError(5, "Input/output error")
        return read(self, destination, offset)

    errors = 0
    monkeypatch.setattr(PositionedFile, "_read", sometimes)
    for beyond in (0, 9_000):
        streamed, passes = opened(tiny, beyond), 0
        with torch.inference_mode():
            streamed(IDS)
            count, fails = 0, -1
            streamed(IDS)
            for fails in range(1, count, 3):
                count = 0
                try:
                    streamed(IDS)
                except ReadFailed as error:
                    errors += "Input/output error" in str(error)
                fails = -1
                assert torch.equal(streamed(IDS), expected)
                passes += 1
        assert passes > 5
    assert errors > 5


def test_a_file_that_is_replaced(tiny):
    streamed = opened(tiny)
    streamed(IDS)
    file = first_shard(tiny)
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(1, 1))
    with pytest.raises(ReadFailed, match="was changed"):
        streamed(IDS)


def test_invalid_values_of_a_format_are_reported_when_they_are_read(tmp_path):
    directory = save_random(tmp_path / "it", packed("gptq-int4"))
    name = "model.layers.2.mlp.experts.3.up_proj.g_idx"
    rewrite(directory, lambda tensors: tensors.update({name: tensors[name].flip(0).contiguous()}))
    streamed = opened(directory)
    with pytest.raises(WrongModel, match=r"model\.layers\.2\.mlp\.experts\.3\.up_proj\.g_idx"):
        for ids in torch.arange(48).reshape(4, 1, 12):
            streamed(ids)
    assert (2, 3) not in streamed.streaming.cache.slots


def test_the_next_layer_is_read_while_one_computes(tiny):
    streamed, seen = opened(tiny, 9_000), {}
    assert (streamed.budget.shared, streamed.budget.resident) == (2, 1)

    def look(layer, args):
        """Runs after the weights of this layer have been set."""
        number = layer.self_attn.layer
        if streamed.dense.pending is not None:
            streamed.dense.pending[1].result()
        seen[number] = {name for name, buffer in streamed.dense.buffers.items() if buffer.holds == name}

    for layer in streamed.layers:
        layer.register_forward_pre_hook(look)
    streamed(IDS)
    assert seen == {0: {0, 1}, 1: {0, 1, 2}, 2: {0, 2, 3}, 3: {0, 2, 3}}
    streamed(IDS)
    assert seen == {0: {0, 1, 2}, 1: {0, 1, 2}, 2: {0, 2, 3}, 3: {0, 2, 3}}


@pytest.mark.parametrize("beyond", [0, 9_000, 10**8])
def test_a_dense_part_is_read_at_most_once_per_pass(tiny, beyond):
    streamed = opened(tiny, beyond)
    plan, before = streamed.budget, 0
    for turn in range(3):
        streamed(IDS)
        read = streamed.streaming.bytes_by_part["attention and dense layers"]
        turns = sum(plan.dense[plan.resident :])
        most = sum(plan.dense) if turn == 0 else turns if len(plan.dense) - plan.resident > plan.shared else 0
        assert read - before <= most and (turn > 0 or read == most)
        before = read


def test_only_slow_passes_have_a_progress_bar(tiny, capsys, monkeypatch):
    opened(tiny)(IDS)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(stream_status, "SHOW_PROGRESS_FROM", 1)
    monkeypatch.setattr(stream_status, "PATIENCE", 0)
    streamed = opened(tiny)
    streamed(IDS)
    streamed(IDS[:, :1])
    stderr = capsys.readouterr().err
    assert "prompt" in stderr and "token" in stderr and "hit rate" in stderr and "B/s" in stderr


def test_statistics_of_every_pass(tiny):
    streamed = opened(tiny, 10**8)
    for ids in (IDS, IDS, IDS[:, :1]):
        streamed(ids)
    first, second, third = streamed.streaming.passes
    assert (first.tokens, first.layers) == (7, (0, 2, 3)) and sum(first.hits) == 0 and first.hit_rate == 0.0
    assert second.misses == (0, 0, 0) and second.hit_rate == 1.0 and second.hits == first.misses
    assert third.hits == (3, 3, 3)
    assert first.bytes_read + second.bytes_read + third.bytes_read + streamed.streaming.opening_bytes == (
        streamed.streaming.bytes_read
    )
    assert streamed.streaming.hits == sum(sum(each.hits) for each in streamed.streaming.passes)
    assert "were in memory" in str(streamed.streaming)
