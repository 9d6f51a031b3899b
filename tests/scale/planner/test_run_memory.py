"""A run is checked against the free memory before a weight is read: sizes, limits, errors."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from minimoe.checkpoint.save import save
from minimoe.cli import cli
from minimoe.commands import conversation
from minimoe.commands import load_model as opening
from minimoe.commands.compare_ranks import random_model
from minimoe.commands.load_model import Work, open_here, open_on_ranks, opened_model
from minimoe.commands.trace import trace_text
from minimoe.errors import BadArgument, PlanTooBig
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.paths import checkout
from minimoe.quantisation.modules import stored_tensors
from minimoe.routing.trace.trace import RoutingTrace
from minimoe.scale.distributed.load_shard import open_part, read_part, weight_bytes
from minimoe.scale.planner import run_memory as module
from minimoe.scale.planner.deployment import RESERVE, deploy
from minimoe.scale.planner.run_memory import RunMemory, require_memory, run_memory, usable_memory
from minimoe.text.tokenizer import Tokenizer
from tests.scale.distributed.ranks_at_work import TINY

CPU, CARD = torch.device("cpu"), torch.device("cuda", 3)
BIG = ModelConfig.named("Qwen3-235B-A22B")
NEED = RunMemory(weights=70_000_000_000, cache=6_000_000_000, work=500_000_000, tokens=32_768)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_directory(checkout() / "data" / "mini")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("memory") / "tiny"
    config = replace(TINY, vocab_size=tokenizer.vocabulary_size, num_key_value_heads=4, max_position_embeddings=6000)
    save(random_model(config), tokenizer, folder)
    return folder


# ---------------------------------------------------------------- sizes


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config whose matrices divide between groups of int4."""
    folder = tmp_path_factory.mktemp("memory") / "wide"
    config = replace(TINY, num_hidden_layers=3, head_dim=64, num_key_value_heads=4, intermediate_size=512)
    save(random_model(config), None, folder)
    return folder


@pytest.mark.parametrize(
    ("precision", "dtype"), [(None, "fp64"), (None, "bf16"), ("int4", "bf16"), ("int8", "fp32"), ("int4", "fp64")]
)
@pytest.mark.parametrize(("world", "split"), [(1, "tensor"), (4, "tensor"), (3, "layers")])
def test_weights_and_cache_are_those_that_a_rank_holds(
    wide: Path, precision: str | None, dtype: str, world: int, split: str
) -> None:
    for rank in (0, world - 1):
        part = open_part(wide, rank, world, split, precision=precision)
        model = read_part(part, dtype=dtype)
        held = {tensor.data_ptr(): tensor.nbytes for tensor in stored_tensors(model).values()}
        assert weight_bytes(part, dtype) == sum(held.values())
        need = run_memory(part.target, weight_bytes(part, dtype), 40, model.dtype, None, rank, world, split)
        assert need.cache == model.new_cache(capacity=40).bytes
        assert need.total == need.weights + need.cache + need.work


@pytest.mark.parametrize(
    ("precision", "dtype", "factor"),
    [("bf16", torch.bfloat16, 1), ("fp32", torch.float32, 1), ("fp32", torch.float64, 2), ("fp16", torch.float16, 1)],
)
def test_cache_and_work_space_are_the_planners(precision: str, dtype: torch.dtype, factor: int) -> None:
    for rank in (0, 7):
        planned = deploy(BIG, 8, precision=precision, kv_precision=precision, context=32_768).ranks[rank]
        need = run_memory(BIG, 5, 32_768, dtype, rank=rank, world=8)
        assert need == RunMemory(5, planned.cache * factor, planned.work * factor, 32_768)


def test_a_slice_of_layers_has_the_cache_of_these_layers() -> None:
    whole, half = (run_memory(BIG, 0, 1000, torch.bfloat16, layers) for layers in (None, range(47)))
    assert 2 * half.cache == whole.cache


@pytest.mark.parametrize(
    ("work", "tokens"),
    [(Work(), 4096), (Work(answer=512), 4608), (Work(answer=10**9), 6000), (Work("the red bird"), None),
     (Work("the red bird", 100), None)],
)  # fmt: skip
def test_the_tokens_of_a_run(tiny: Path, tokenizer: Tokenizer, work: Work, tokens: int | None) -> None:
    config = ModelConfig.from_file(tiny / "config.json")
    text = work.text or ""
    if work.answer is not None and text:
        text = tokenizer.chat([{"role": "user", "content": text}])
    assert work.tokens(tokenizer, config) == (tokens or len(tokenizer.encode(text)) + (work.answer or 0))


# ---------------------------------------------------------------- the limit


def test_on_a_gpu_the_reserve_includes_memory_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for free, usable in ((80, 78), (79, 78), (78, 78), (50, 50), (0, 0)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free * 2**30, 80 * 2**30))
        found, state = usable_memory(CARD)
        assert found == usable * 2**30 and "are free" in state
    assert RESERVE == 2 * 2**30


def test_on_the_cpu_the_available_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = usable_memory(CPU)
    everything = module.memory_of_device(CPU)
    assert found is None or everything is None or 0 < found <= everything
    monkeypatch.setattr(module, "Path", lambda name: SimpleNamespace(read_text=lambda: "MemTotal: 9 kB"))
    assert usable_memory(CPU)[0] == everything
    assert usable_memory(torch.device("meta")) == (None, "")


@pytest.mark.parametrize(("device", "neighbours", "least"), [(CARD, 8, NEED.total), (CPU, 1, NEED.total),
                                                             (CPU, 8, 8 * NEED.total)])  # fmt: skip
def test_one_byte_decides(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, neighbours: int, least: int
) -> None:
    monkeypatch.setattr(module, "usable_memory", lambda device: (least, "free"))
    require_memory(NEED, device, 3, 8, neighbours)
    monkeypatch.setattr(module, "usable_memory", lambda device: (least - 1, "free"))
    with pytest.raises(PlanTooBig):
        require_memory(NEED, device, 3, 8, neighbours)
    monkeypatch.setattr(module, "usable_memory", lambda device: (None, ""))
    require_memory(NEED, device, 3, 8, neighbours)


def test_the_error_names_every_part_and_the_fixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_memory", lambda device: (76_000_000_000, "so many are free"))
    with pytest.raises(PlanTooBig) as caught:
        require_memory(NEED, CARD, 3, 8)
    message = str(caught.value)
    packed = replace(NEED, is_packed=True)
    with pytest.raises(PlanTooBig, match=r"Use fewer tokens \(--max-new-tokens, a shorter text\) or more devices"):
        require_memory(packed, CARD, 3, 8)
    for words in (
        "rank 3 of 8 needs 76.50 GB on cuda:3", "weights 70.00 GB", "KV cache 6.00 GB for 32,768 tokens",
        "work space 500.00 MB", "76.00 GB (so many are free)", "fewer tokens", "more devices", "--precision int4",
    ):  # fmt: skip
        assert words in message, words


# ---------------------------------------------------------------- checked before anything is read


@pytest.mark.parametrize("command", [["chat", "hi"], ["chat"], ["trace", "the cat"], ["trace", "a cat?", "--chat"]])
def test_a_command_that_does_not_fit_is_refused_before_weights_are_read(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(opening, "load_model", None)
    monkeypatch.setattr(module, "usable_memory", lambda device: (4_000_000, "all there is"))
    done = CliRunner().invoke(cli, [*command, "--model", str(tiny), "--max-new-tokens", "5999"], input="hi\n")
    if "--chat" in command or command[0] == "chat":
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert "this run needs" in done.stderr and "--ram SIZE" in done.stderr
    else:  # its text is short
        assert isinstance(done.exception, TypeError)  # load_model was called


@pytest.mark.parametrize("split", ["tensor", "layers"])
def test_a_rank_that_does_not_fit_is_refused_before_weights_are_read(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    words: list[str] = []
    ranks: Any = SimpleNamespace(
        rank=1, world=2, local_rank=1, local_world=2, device=CPU, agree=lambda *_: None, wait_for_all=words.append
    )
    model, _ = open_on_ranks(ranks, str(tiny), None, None, split, None, Work("hi", 10))
    assert words == ["fits", "loaded"] and isinstance(model, Transformer)
    monkeypatch.setattr("minimoe.scale.distributed.load_shard.read_part", None)
    monkeypatch.setattr(module, "usable_memory", lambda device: (100_000, "all there is"))
    with pytest.raises(PlanTooBig, match=r"rank 1 of 2 needs .* and 2 ranks share this machine"):
        open_on_ranks(ranks, str(tiny), None, None, split, None, Work("hi", 10))
    assert words == ["fits", "loaded"]  # no message that it fits


# ---------------------------------------------------------------- out of memory


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee this page"), MemoryError()]
)
def test_out_of_memory_is_one_line(tiny: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def exhausted(*_: Any, **__: Any) -> Any:
        raise error
        yield

    monkeypatch.setattr(conversation, "generate", exhausted)
    done = CliRunner().invoke(cli, ["chat", "hi", "--model", str(tiny)])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "memory ran out" in done.stderr and "minimoe plan" in done.stderr


def test_out_of_memory_on_the_cpu_is_recognised(tiny: Path) -> None:
    with pytest.raises(PlanTooBig, match="memory ran out"), opened_model(str(tiny), None, "cpu"):
        torch.empty(2**55, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shapes cannot be"), opened_model(str(tiny), None, "cpu"):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


# ---------------------------------------------------------------- the device


@pytest.mark.parametrize(("device", "expected"), [(CARD, [CARD]), (torch.device("cuda"), []), (CPU, [])])
def test_the_named_gpu_becomes_the_current_one(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, device: torch.device, expected: list[torch.device]
) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(opening, "check_device", lambda name: device)
    monkeypatch.setattr(opening, "require_memory", lambda *_, **__: None)
    monkeypatch.setattr(opening, "load_model", lambda path, device, **_: (current[:], device))
    assert open_here(str(tiny), None, str(device), None, None, Work())[0] == (expected, device)  # before it is used


def test_ids_out_of_range_are_refused_on_every_device() -> None:
    """A model on "meta" represents one on a GPU: its ids cannot be checked on the device."""
    with torch.device("meta"):
        model = Transformer(TINY)
    for ids in ([[3, TINY.vocab_size]], [[-1, 3]], torch.tensor([[0, -5]], dtype=torch.int32)):
        with pytest.raises(BadArgument, match=r"token_ids hold -?\d+\.\.\d+, but the vocabulary is 0\.\.100"):
            model(ids)
    assert model.embed([[0, TINY.vocab_size - 1]]).shape == (1, 2, TINY.hidden_size)
    assert model.embed(torch.empty(1, 2, dtype=torch.int64, device="meta")).shape == (1, 2, TINY.hidden_size)


# ---------------------------------------------------------------- a long text


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_text_longer_than_a_chunk_has_the_trace_of_one_pass(tokenizer: Tokenizer, attention: str) -> None:
    model = random_model(replace(TINY, vocab_size=tokenizer.vocabulary_size, max_position_embeddings=512))
    model.attention = attention
    text = "The cat sees a red bird. 猫看见一只鸟。 " * 5

    def traced(chunk: int | None) -> tuple[RoutingTrace, list[torch.Tensor], list[int]]:
        """The trace, which is kept in float32; every router's logits and the last position's, in float64; lengths."""
        seen: dict[str, list[torch.Tensor]] = {}
        hooks = [
            gate.register_forward_hook(lambda _, inputs, found, name=name: seen.setdefault(name, []).append(found[0]))
            for name, gate in model.named_modules()
            if name.endswith("mlp.gate")
        ]
        hooks.append(model.register_forward_hook(lambda _, inputs, found: seen.setdefault("model", []).append(found)))
        model.chunk = chunk
        trace = trace_text(model, tokenizer, text, "random")
        for hook in hooks:
            hook.remove()
        last = seen.pop("model")[-1]
        lengths = [len(each) for each in next(iter(seen.values()))]
        return trace, [*(torch.cat(each) for each in seen.values()), last], lengths

    whole, logits, _ = traced(None)
    parts, again, lengths = traced(16)
    assert len(whole) > 2 * 16 and sum(lengths) == len(whole) and max(lengths) == 16
    for one, other in zip(logits, again, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-10)
    assert parts.metadata == whole.metadata
    for name, values in whole.tensors.items():
        if values.dtype.is_floating_point:
            torch.testing.assert_close(parts.tensors[name], values, rtol=1e-6, atol=1e-6, equal_nan=True)
        else:
            assert torch.equal(parts.tensors[name], values), name


@pytest.mark.parametrize(("capability", "kernel"), [((7, 5), "plain"), ((8, 6), "flash"), ((9, 0), "flash")])
def test_work_space_is_that_of_the_kernel_of_the_device(monkeypatch, capability, kernel):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    monkeypatch.setattr("torch.version.hip", None)
    here = run_memory(BIG, 0, 32_768, torch.bfloat16, device=torch.device("cuda", 1))
    assert here.work == deploy(BIG, precision="bf16", context=32_768, kernel=kernel).ranks[0].work
    on_cpu = run_memory(BIG, 0, 32_768, torch.bfloat16, device=torch.device("cpu"))
    assert on_cpu.work == deploy(BIG, precision="bf16", context=32_768, kernel="cpu").ranks[0].work
