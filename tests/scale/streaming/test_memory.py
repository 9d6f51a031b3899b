"""The budget holds: weights and cache to the byte, work space within its formula, a process within both."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from minimoe.checkpoint.open import open_checkpoint
from minimoe.checkpoint.sparse_checkpoint import write_sparse
from minimoe.checkpoint.weights.tensor_reader import memory_of
from minimoe.errors import PlanTooBig
from minimoe.model.config import ModelConfig
from minimoe.quantisation import format_of
from minimoe.quantisation.modules import PackedLinear
from minimoe.scale.planner.rank_memory import unpacking
from minimoe.scale.streaming.stream import stream_model
from tests.checkpoint.fake import TINY, save_tiny
from tests.scale.planner.test_work_space import Alive
from tests.scale.streaming.streamed import FORMATS, PACKED, opened, packed, save_random

# Wide enough that small tensors outside the formula are negligible.
WIDE = replace(
    PACKED, vocab_size=1000, hidden_size=256, num_hidden_layers=2, num_attention_heads=8, head_dim=32,
    moe_intermediate_size=96, num_experts=8, num_experts_per_tok=2, mlp_only_layers=(),
)  # fmt: skip


def storages(model, *caches):
    """Bytes of all storages of the model and these caches, each counted once."""
    tensors = [*model.parameters(), model.streaming.cache.memory]
    tensors += [buffer.memory for buffer in model.dense.buffers.values()]
    tensors += [each for cache in caches for each in (*cache.keys.values(), *cache.values.values())]
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


@pytest.mark.parametrize("config", [TINY, replace(TINY, tie_word_embeddings=True), *map(packed, FORMATS)])
@pytest.mark.parametrize("beyond", [0, 9_000, 10**8])
def test_the_memory_held_is_that_of_the_budget(tmp_path, config, beyond):
    streamed = opened(save_random(tmp_path / "it", config), beyond)
    cache = streamed.new_cache(capacity=40)
    streamed(torch.arange(6).reshape(1, 6), cache)
    held = storages(streamed, cache)
    assert held == streamed.streaming.held_bytes == streamed.budget.weights + streamed.budget.cache
    assert streamed.streaming.peak_bytes + streamed.budget.work == streamed.budget.total <= streamed.budget.ram
    del cache
    assert streamed.streaming.held_bytes == streamed.budget.weights < streamed.streaming.peak_bytes


@pytest.mark.parametrize("format", ["plain", *FORMATS])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("positions", [1, 120])
def test_work_space_stays_within_its_formula(tmp_path, format, dtype, positions):
    config = WIDE if format == "plain" else replace(WIDE, quantization_config=packed(format).quantization_config)
    streamed = opened(save_random(tmp_path / "it", config), 0, dtype, context=120)
    ids, cache = torch.randint(0, 1000, (1, 120)), streamed.new_cache(capacity=120)
    with torch.inference_mode():
        streamed(ids[:, :1])  # reads lm_head
        if positions == 1:
            streamed(ids[:, :119], cache, last_only=True)
        kept = [*streamed.parameters(), *cache.keys.values(), *cache.values.values(), streamed.streaming.cache.memory]
        with Alive(ids, *kept, *(buffer.memory for buffer in streamed.dense.buffers.values())) as seen:
            streamed(ids[:, -positions:], cache, last_only=True)
    assert seen.peak <= streamed.budget.work
    assert positions == 1 or seen.peak >= 0.4 * streamed.budget.work


@pytest.mark.parametrize("format", FORMATS)
def test_unpacking_needs_the_bytes_in_the_table(format):
    config = packed(format)
    for dtype in (torch.bfloat16, torch.float32):
        linear = PackedLinear.empty(format_of(config), 512, 1024, torch.bfloat16)
        for suffix, part in linear.parts.items():
            part.copy_(torch.arange(1024) // 128 if suffix == "g_idx" else torch.zeros(()))
        with torch.inference_mode(), Alive(*linear.parts.values()) as seen:
            linear.format.unpack(linear.parts, dtype)
        planned = unpacking(format, 512, 1024, dtype.itemsize)
        assert 0.7 * planned <= seen.peak <= planned


def test_too_long_is_refused_before_anything_is_read(tmp_path):
    save_tiny(tmp_path / "it")
    streamed = opened(tmp_path / "it", context=40)
    before = streamed.streaming.bytes_read
    with pytest.raises(PlanTooBig, match="40 positions is the longest that fits"):
        streamed(torch.zeros(1, 41, dtype=torch.int64), last_only=True)
    streamed.attention = "eager"
    with pytest.raises(PlanTooBig, match="use attention 'sdpa'") as caught:
        streamed(torch.zeros(1, 40, dtype=torch.int64), last_only=True)
    longest = int(str(caught.value).split(" positions is")[0].split()[-1])
    with pytest.raises(PlanTooBig):
        streamed(torch.zeros(1, longest + 1, dtype=torch.int64), last_only=True)
    assert streamed.streaming.bytes_read == before
    streamed(torch.zeros(1, longest, dtype=torch.int64), last_only=True)
    with pytest.raises(PlanTooBig, match="room for 40"):
        streamed.new_cache(capacity=41)
    held = streamed.new_cache(batch=2, capacity=15)
    with pytest.raises(PlanTooBig, match="30 are taken by caches that are still alive"):
        streamed.new_cache(capacity=11)
    assert held.capacity == 15 and streamed.new_cache(capacity=10).capacity == 10


def test_layer_0_of_the_whole_235b(tmp_path):
    write_sparse(tmp_path / "big", ModelConfig.named("Qwen3-235B-A22B"))
    streamed = stream_model(tmp_path / "big", "1GB", layers=range(1), routing_only=True)
    with torch.inference_mode():
        assert streamed(torch.arange(0, 3200, 80).reshape(1, 40), last_only=True).shape == (1, 40, 4096)
    seen = streamed.streaming
    assert 143_600_000 < seen.bytes_read < 144_100_000
    assert 144_000_000 < seen.bytes_read + seen.header_bytes < 150_000_000
    assert seen.bytes_read == streamed.budget.small + streamed.budget.prefill_bytes(40)
    assert seen.peak_bytes < 150_000_000


MEASURE = """
import sys, threading, time
import torch

def resident(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

torch.nn.functional.linear(torch.ones(64, 64).bfloat16(), torch.ones(64, 64).bfloat16())
before = resident("VmRSS")
from minimoe.scale.streaming.stream import stream_model

ram = int(sys.argv[2])
model = stream_model(sys.argv[1], ram, context=512)
cache = model.new_cache(capacity=512)
ids = torch.arange(400).reshape(1, 400)
with torch.inference_mode():
    model(ids, cache, last_only=True)
    for step in range(3):
        model(ids[:, step : step + 1], cache, last_only=True)
seen = model.streaming
print(resident("VmHWM") - before, seen.bytes_read, seen.peak_bytes, model.budget.slots, model.budget.work)
"""


def make_routers_choose(directory):
    """Fill a sparse checkpoint with norms of one and random embeddings and routers, so that tokens differ."""
    opened, generator = open_checkpoint(directory), torch.Generator().manual_seed(0)
    for header in opened.shards.headers.values():
        with header.file.open("r+b") as file:
            for entry in header.tensors.values():
                if len(entry.shape) == 1 or entry.name.endswith(("mlp.gate.weight", "embed_tokens.weight")):
                    random = torch.randn(entry.shape, generator=generator).bfloat16()
                    file.seek(entry.start)
                    file.write(memory_of(torch.ones_like(random) if len(entry.shape) == 1 else random))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of a process is read from /proc")
def test_a_process_stays_within_its_budget(tmp_path):
    """1 GB of weights in a third of that memory. A sparse file reads as zeros, which need as much memory as others."""
    config = replace(
        ModelConfig.named("Qwen3-30B-A3B"), num_hidden_layers=3, num_experts=24, vocab_size=20_000,
        max_position_embeddings=4096,
    )  # fmt: skip
    weights = 2 * config.total_parameters
    write_sparse(tmp_path / "wide", config)
    make_routers_choose(tmp_path / "wide")
    ram = weights // 3
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "wide"), str(ram)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, read, held, slots, work = map(int, done.stdout.split())
    assert 800_000_000 < weights < 1_200_000_000 and read > weights
    assert held + work <= ram
    assert peak <= ram + 300_000_000, (peak, ram, held, work)
    assert 0 < slots < 72


def test_more_ram_than_the_machine_has_is_refused(tmp_path, monkeypatch):
    directory = save_random(tmp_path / "it", WIDE)
    monkeypatch.setattr("minimoe.scale.streaming.stream.memory_of_device", lambda device: 10**6)
    with pytest.raises(PlanTooBig, match=r"this machine has 1,000,000\. Pass a smaller ram\.$"):
        opened(directory, 10**9)
