"""Packed checkpoints load, stay packed, and compute the same bits as their unpacked values."""

import shutil
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import minimoe
from minimoe import Transformer
from minimoe.checkpoint import load as read
from minimoe.checkpoint.layout import expected_tensors
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.save import save
from minimoe.checkpoint.weights import convert
from minimoe.checkpoint.weights.packed_size import bits_per_parameter, require_packed
from minimoe.errors import BadArgument, IncompleteLoad, IndexMismatch, NotFinite, UnsupportedModel, WrongModel
from minimoe.quantisation import PackedBank, PackedLinear
from minimoe.quantisation.groupwise import INT4
from minimoe.quantisation.modules import Packed, stored_tensors
from tests.checkpoint.fake import DENSE, edit_json, refused, rewrite, save_tiny, weights
from tests.quantisation.packing import PACKABLE, Parts, write_packed

IDS = torch.tensor([[1, 7, 40, 2, 2, 33, 9, 5]])
ENGINES = ["auto", "loop", "gather", "grouped"]
DENSE_PACKABLE = replace(DENSE, hidden_size=136, intermediate_size=260, dtype="bfloat16", tie_word_embeddings=True)
BANKS = {"gate_proj", "up_proj", "down_proj"}


@pytest.fixture(scope="module", params=["fp8", "gptq"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A packed checkpoint and a plain one with the same values. Read-only."""
    return write_packed(tmp_path_factory.mktemp(request.param), request.param)


@torch.no_grad()
def logits(model: Transformer, engine: str = "auto") -> Tensor:
    model.engine = engine
    return model(IDS)


# ------------------------------------------------------------------ values


@pytest.mark.parametrize("engine", ENGINES)
def test_logits_equal_those_of_the_unpacked_values_to_the_bit(pair: tuple[Path, Path], engine: str) -> None:
    packed, plain = (load_model(path) for path in pair)
    assert logits(packed, engine).std() > 0.5
    assert torch.equal(logits(packed, engine), logits(plain, engine))


def test_linear_layers_stay_packed_in_memory(pair: tuple[Path, Path]) -> None:
    model = load_model(pair[0])
    shapes = {tensor.name: tensor.shape for tensor in expected_tensors(PACKABLE)}
    assert sum(tensor.nbytes for tensor in stored_tensors(model).values()) == sum(
        tensor.nbytes(2) for tensor in expected_tensors(model.config)
    )
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    attention, dense = model.layers[0].self_attn.q_proj, model.layers[1].mlp.down_proj
    assert isinstance(attention, PackedLinear) and isinstance(dense, PackedLinear)
    assert tuple(dense.weight.shape) == shapes["model.layers.1.mlp.down_proj.weight"]
    bank = model.layers[0].mlp.experts.up_proj
    assert isinstance(bank, PackedBank) and len(bank) == len(list(bank)) == PACKABLE.num_experts
    assert not any(isinstance(module, torch.nn.Linear) for module in model.layers.modules())
    with pytest.raises(IndexError):
        bank[PACKABLE.num_experts]
    with pytest.raises(BadArgument, match="no slices"):
        bank[1:3]


def test_every_parameter_is_that_of_the_unpacked_checkpoint(pair: tuple[Path, Path]) -> None:
    packed, plain = (load_model(path) for path in pair)
    for name, parameter in plain.named_parameters():
        module, _, last = name.rpartition(".")
        if last in BANKS:
            mine = torch.stack(list(getattr(packed.get_submodule(module), last)))
        else:
            mine = getattr(packed.get_submodule(module), last)
        assert torch.equal(mine, parameter), name


def test_in_another_dtype(pair: tuple[Path, Path]) -> None:
    """Unpacked to float32 the products keep the bits that bfloat16 rounds away."""
    wide, narrow = load_model(pair[0], dtype="fp32"), load_model(pair[0])
    weight = wide.layers[2].mlp.experts.down_proj[3]
    assert weight.dtype == torch.float32 and not torch.equal(weight, weight.bfloat16().float())
    assert torch.equal(weight.bfloat16(), narrow.layers[2].mlp.experts.down_proj[3])
    unpacked = load_model(pair[0], precision="fp32")
    assert torch.equal(logits(wide, "loop"), logits(unpacked, "loop"))
    before = {name: tensor.clone() for name, tensor in stored_tensors(narrow).items() if "_proj" in name}
    narrow.to(torch.float32)
    assert narrow.layers[0].self_attn.q_proj(torch.zeros(1, 136)).dtype == torch.float32
    assert torch.equal(narrow.layers[2].mlp.experts.down_proj[3], weight)
    for name, tensor in before.items():
        assert stored_tensors(narrow)[name].dtype == tensor.dtype
        assert torch.equal(stored_tensors(narrow)[name].view(torch.uint8), tensor.view(torch.uint8))


def test_a_slice_of_the_layers(pair: tuple[Path, Path]) -> None:
    hidden = torch.randn(1, 4, 136, generator=torch.Generator().manual_seed(0)).bfloat16()
    packed, plain = (load_model(path, layers=range(1, 3)) for path in pair)
    with torch.no_grad():
        assert torch.equal(packed(hidden=hidden), plain(hidden=hidden))


@pytest.mark.parametrize("kind", ["fp8", "gptq"])
def test_a_dense_model_with_a_tied_head(kind: str, tmp_path: Path) -> None:
    packed, plain = (load_model(path) for path in write_packed(tmp_path, kind, DENSE_PACKABLE))
    assert torch.equal(logits(packed), logits(plain))


def test_gptq_scales_in_bfloat16(tmp_path: Path) -> None:
    packed, plain = write_packed(tmp_path, "gptq", scale_dtype=torch.bfloat16)
    model = load_model(packed)
    assert model.layers[0].self_attn.q_proj.scales.dtype == torch.bfloat16
    assert torch.equal(logits(model), logits(load_model(plain)))


# ------------------------------------------------------------------ selected experts only


@pytest.mark.parametrize("engine", ENGINES)
def test_only_selected_experts_are_unpacked_and_each_once(
    pair: tuple[Path, Path], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, taken, chosen = load_model(pair[0]), Counter[tuple[int, int]](), {}
    unpacked: list[Any] = []
    banks = {
        id(getattr(model.layers[layer].mlp.experts, kind)): layer for layer in PACKABLE.moe_layers for kind in BANKS
    }
    plain_item, plain_unpack = PackedBank.__getitem__, type(model.layers[0].self_attn.q_proj.format).unpack

    def item(self: PackedBank, expert: int) -> Tensor:
        taken[banks[id(self)], expert] += 1
        return plain_item(self, expert)

    def unpack(self: Any, parts: Any, dtype: Any) -> Tensor:
        unpacked.append(None)
        return plain_unpack(self, parts, dtype)

    monkeypatch.setattr(PackedBank, "__getitem__", item)
    monkeypatch.setattr(type(model.layers[0].self_attn.q_proj.format), "unpack", unpack)
    for layer in PACKABLE.moe_layers:
        model.layers[layer].mlp.gate.register_forward_hook(
            lambda module, args, output, layer=layer: chosen.update({layer: set(output.experts.unique().tolist())})
        )
    model.engine = engine
    with torch.no_grad():
        model(torch.tensor([[7, 7]]))  # two like tokens, so that some experts are chosen twice
    pairs = {(layer, expert) for layer, experts in chosen.items() for expert in experts}
    choices = 2 * 2 * PACKABLE.num_experts_per_tok
    assert choices // 2 <= len(pairs) < choices < 2 * PACKABLE.num_experts
    assert taken == Counter(dict.fromkeys(pairs, 3))
    dense = 3 * 4 + 3  # attention, and the one dense feed-forward
    assert len(unpacked) == dense + 3 * len(pairs)


# ------------------------------------------------------------------ packing and unpacking while loading


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_packing_while_loading_equals_packing_after_loading(pair: tuple[Path, Path], precision: str) -> None:
    """From plain, FP8 and GPTQ files alike. In float32, as the packer itself sees the values."""
    for path in pair:
        values, model = load_model(path, dtype="fp32", precision="fp32"), load_model(path, precision=precision)
        assert model.config.quantization_config == {
            "quant_method": "minimoe", "bits": int(precision[3]), "group_size": 128
        }  # fmt: skip
        format = model.layers[0].self_attn.q_proj.format
        for name, module in model.named_modules():
            if isinstance(module, PackedBank):
                for expert, row in enumerate(values.get_parameter(name)):
                    for suffix, part in format.pack(row).items():
                        assert torch.equal(module.parts[suffix][expert], part)
            elif isinstance(module, PackedLinear):
                assert all(
                    torch.equal(module.parts[suffix], part)
                    for suffix, part in format.pack(values.get_parameter(f"{name}.weight")).items()
                )
        assert torch.equal(model.layers[0].mlp.gate.weight.float(), values.layers[0].mlp.gate.weight)


def test_unpacking_while_loading_gives_the_plain_model(pair: tuple[Path, Path]) -> None:
    packed, plain = pair
    model = load_model(packed, precision="bf16")
    assert model.config.quantization_config is None
    assert weights(model) == weights(load_model(plain)) == weights(load_model(plain, precision="bf16"))


def test_experts_that_are_fused_on_disk_are_packed_too(tmp_path: Path) -> None:
    save_tiny(tmp_path / "single", PACKABLE)
    wanted = load_model(tmp_path / "single", precision="int4")

    def fuse(tensors: dict[str, Tensor]) -> None:
        for layer in PACKABLE.moe_layers:
            bank = f"model.layers.{layer}.mlp.experts."
            found = {
                kind: torch.stack([tensors.pop(f"{bank}{e}.{kind}.weight") for e in range(PACKABLE.num_experts)])
                for kind in ("gate_proj", "up_proj", "down_proj")
            }
            tensors[bank + "gate_up_proj"] = torch.cat([found["gate_proj"], found["up_proj"]], 1)
            tensors[bank + "down_proj"] = found["down_proj"]

    rewrite(tmp_path / "single", fuse)
    model = load_model(tmp_path / "single", precision="int4")
    for name, tensor in stored_tensors(wanted).items():
        assert torch.equal(stored_tensors(model)[name], tensor), name


def test_one_matrix_at_a_time(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """While one matrix is read, at most the previous one is still in memory."""
    alive: list[weakref.ref[Tensor]] = []
    plain = convert.MatrixReader.read

    def watched(self: convert.MatrixReader, *args: Any) -> Tensor:
        assert sum(each() is not None for each in alive) <= 1
        weight = plain(self, *args)
        alive.append(weakref.ref(weight))
        return weight

    monkeypatch.setattr(convert.MatrixReader, "read", watched)
    for precision in ("int4", "bf16"):
        alive.clear()
        load_model(pair[0], precision=precision)
        assert len(alive) == 3 * 4 + 3 + 2 * 3 * PACKABLE.num_experts


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"precision": "int3"}, "precision is 'int3', expected None, int4, int8"),
        ({"precision": 4}, "precision is 4"),
        ({"precision": "bf16", "dtype": "fp32"}, "unpacked weights have one dtype"),
    ],
)
def test_invalid_precisions(pair: tuple[Path, Path], arguments: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(pair[0], BadArgument, **arguments)


def test_a_matrix_that_cannot_be_packed_is_named(tmp_path: Path) -> None:
    save_tiny(tmp_path, PACKABLE)
    name = "model.layers.2.mlp.experts.4.up_proj.weight"
    rewrite(tmp_path, lambda tensors: tensors[name][3, 5].fill_(float("inf")))
    message = refused(tmp_path, NotFinite, precision="int8")
    assert "model.layers.2.mlp.experts.4.up_proj.weight cannot be packed: weight holds NaN or infinity" in message
    assert message.startswith(str(tmp_path / "model.safetensors"))


# ------------------------------------------------------------------ saving


@pytest.mark.parametrize("precision", [None, "int4", "int8"])
@pytest.mark.parametrize("shard_bytes", [10**9, 60_000])
def test_a_packed_model_is_saved_in_its_format(
    pair: tuple[Path, Path], precision: str | None, shard_bytes: int, tmp_path: Path
) -> None:
    model = load_model(pair[0], precision=precision)
    save(model, None, tmp_path, max_shard_bytes=shard_bytes)
    assert minimoe.verify(tmp_path).ok
    again = load_model(tmp_path)
    assert again.config == model.config
    for name, tensor in stored_tensors(model).items():
        found = stored_tensors(again)[name]
        assert found.dtype == tensor.dtype and torch.equal(found.view(torch.uint8), tensor.view(torch.uint8)), name
    assert torch.equal(logits(again), logits(model))


def test_bfloat16_scales_of_gptq_are_saved_unchanged(tmp_path: Path) -> None:
    model = load_model(write_packed(tmp_path, "gptq", scale_dtype=torch.bfloat16)[0])
    save(model, None, tmp_path / "again")
    assert load_model(tmp_path / "again").layers[0].self_attn.q_proj.scales.dtype == torch.bfloat16


def test_a_plain_model_made_from_a_packed_config_is_saved_plain(pair: tuple[Path, Path], tmp_path: Path) -> None:
    config = load_model(pair[0]).config
    torch.manual_seed(0)
    save(Transformer(config).to(torch.bfloat16), None, tmp_path)
    assert load_model(tmp_path).config.quantization_config is None


# ------------------------------------------------------------------ bytes


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_router_norms_and_embeddings_stay_in_16_bits(pair: tuple[Path, Path], precision: str) -> None:
    model = load_model(pair[1], precision=precision)
    for name, tensor in stored_tensors(model).items():
        linear = any(kind in name for kind in (*BANKS, "q_proj", "k_proj", "v_proj", "o_proj"))
        assert linear or tensor.dtype == torch.bfloat16, name
    found = bits_per_parameter(model.config, {name: each.nbytes for name, each in stored_tensors(model).items()})
    narrow = 16 * 2 / 136  # two scales for 136 inputs, where a wide matrix has one for 128
    assert found["not packed"] == 16
    assert int(precision[3]) < found["experts"] <= int(precision[3]) + narrow


def test_an_unpacked_expert_is_detected() -> None:
    """At full width, where the limits are 4.2 and 8.2 bits: one expert in fifty that stayed in 16 bits is too much."""
    config = replace(PACKABLE, hidden_size=1024, moe_intermediate_size=512, num_experts=50, head_dim=64)
    for bits in (4, 8):
        packed = replace(config, quantization_config={"quant_method": "minimoe", "bits": bits, "group_size": 128})
        sizes = {tensor.name: tensor.nbytes(2) for tensor in expected_tensors(packed)}
        require_packed(packed, sizes)
        assert bits_per_parameter(packed, sizes)["experts"] == bits + 0.125
        forgotten = {
            f"model.layers.{layer}.mlp.experts.7.{kind}.weight_int{bits}": 1024 * 512 * 2
            for layer in (0, 2)
            for kind in BANKS
        }
        assert forgotten.keys() <= sizes.keys()
        with pytest.raises(IncompleteLoad, match=r"experts: \d\.\d+ bits a parameter .* expected at most [48]\.20"):
            require_packed(packed, sizes | forgotten)
        with pytest.raises(IncompleteLoad, match=r"not packed: 14\.\d+ bits .* expected 16\.00"):
            require_packed(packed, sizes | {"model.layers.0.mlp.gate.weight": 50 * 1024})


# ------------------------------------------------------------------ damaged files


def drop(name: str) -> Callable[[Parts], Any]:
    return lambda stored: stored.pop(name)


EXPERT = "model.layers.0.mlp.experts.3.up_proj"


@pytest.mark.parametrize(
    ("kind", "change", "error", "sentences"),
    [
        ("fp8", drop(f"{EXPERT}.weight_scale_inv"), IncompleteLoad,
         ["layer 0 experts.up_proj.weight_scale_inv: expert 3 would not be filled", f"{EXPERT}.weight_scale_inv"]),
        ("fp8", drop("model.layers.1.self_attn.o_proj.weight"), IncompleteLoad, ["layers.1.self_attn.o_proj.weight"]),
        ("gptq", drop(f"{EXPERT}.qzeros"), IncompleteLoad, [f"{EXPERT}.qzeros"]),
        ("fp8", lambda stored: stored.update({f"{EXPERT}.input_scale": torch.ones(1)}), IndexMismatch,
         [f"{EXPERT}.input_scale", "no place for"]),
        ("fp8", lambda stored: stored.update({f"{EXPERT}.weight_scale_inv": torch.ones(2, 1).bfloat16()}), WrongModel,
         [f"{EXPERT}.weight_scale_inv is [2, 1], config.json implies [2, 2]"]),
        ("fp8", lambda stored: stored.update({f"{EXPERT}.weight": torch.zeros(148, 136).bfloat16()}), WrongModel,
         [f"{EXPERT}.weight is stored as BF16, but in format fp8 it is F8_E4M3"]),
        ("fp8", lambda stored: stored.update({f"{EXPERT}.weight_scale_inv": torch.ones(2, 2)}), WrongModel,
         ["is stored as", "The files are of different checkpoints"]),
        ("fp8", lambda stored: stored.update({"model.layers.0.mlp.gate.weight": torch.ones(6, 136).byte()}), WrongModel,
         ["model.layers.0.mlp.gate.weight is stored as U8, but config.json has no quantization_config for it"]),
        ("gptq", lambda stored: stored.update({f"{EXPERT}.scales": torch.ones(2, 148).bfloat16()}), WrongModel,
         ["is stored as", "The files are of different checkpoints"]),
        ("gptq", lambda stored: stored[f"{EXPERT}.g_idx"].copy_(torch.arange(136).flip(0) // 128), WrongModel,
         [f"{EXPERT}.g_idx: the group of input k is not k // 128"]),
        ("gptq", lambda stored: stored[f"{EXPERT}.g_idx"].add_(1), WrongModel, [f"{EXPERT}.g_idx: the group of input"]),
        ("gptq", lambda stored: stored.update({f"{EXPERT}.qweight": torch.zeros(18, 148).int()}), WrongModel,
         [f"{EXPERT}.qweight is [18, 148], config.json implies [17, 148]"]),
    ],
)  # fmt: skip
def test_damage_is_named(
    kind: str, change: Callable[[Parts], Any], error: type[Exception], sentences: list[str], tmp_path: Path
) -> None:
    packed, _ = write_packed(tmp_path, kind, change=change)
    messages = [refused(packed, error)]
    if "g_idx" not in sentences[0]:  # of the values in the files only a load knows
        messages.append("\n".join(minimoe.verify(packed).problems))
    else:
        messages.append(refused(packed, error, precision="int4"))
    for message in messages:
        assert all(sentence in message for sentence in sentences), message


def test_the_format_of_another_checkpoint(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A config.json without its quantization_config, and one that announces another format."""
    packed = Path(shutil.copytree(pair[0], tmp_path / "copy"))
    edit_json(packed / "config.json", lambda raw: raw.pop("quantization_config"))
    with pytest.raises((WrongModel, IndexMismatch)):
        load_model(packed)
    own = {"quant_method": "minimoe", "bits": 8, "group_size": 128}
    edit_json(packed / "config.json", lambda raw: raw.update(quantization_config=own))
    assert "weight_int8" in refused(packed, WrongModel)
    edit_json(packed / "config.json", lambda raw: raw.update(quantization_config={"quant_method": "bitsandbytes"}))
    assert str(packed) in refused(packed, UnsupportedModel)


def test_a_packed_checkpoint_is_compared_with_its_config(pair: tuple[Path, Path], tmp_path: Path) -> None:
    packed = Path(shutil.copytree(pair[0], tmp_path / "copy"))
    edit_json(packed / "config.json", lambda raw: raw.update(hidden_size=144, moe_intermediate_size=96))
    assert "config says 3 layers x 144, file has 3 x 136" in refused(packed, WrongModel)
    for precision in ("int4", "int8"):
        save(load_model(pair[0], precision=precision), None, tmp_path / precision)
        edit_json(tmp_path / precision / "config.json", lambda raw: raw.update(moe_intermediate_size=96))
        assert "config says expert width 96, file has expert width 148" in refused(tmp_path / precision, WrongModel)


def test_a_plan_without_one_component_is_detected(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverage takes the packed components from the model, not from the plan."""
    plain = read.match
    monkeypatch.setattr(read, "match", lambda *args: plain(*args)[:-1])
    assert "was not filled" in refused(pair[0], IncompleteLoad)


def test_packed_modules_move_as_bytes() -> None:
    linear = PackedLinear(INT4, INT4.pack(torch.randn(4, 256)), torch.float32)
    assert set(dict(linear.named_buffers())) == {"weight_int4", "weight_scale"} == set(linear.state_dict())
    on_meta = PackedLinear(INT4, INT4.pack(torch.randn(4, 256)), torch.float32).to("meta")
    assert on_meta.weight_int4.is_meta and on_meta.weight_int4.dtype == torch.uint8
    assert isinstance(linear.half(), Packed) and linear.dtype == torch.float16 and linear.weight.dtype == torch.float16
    assert linear.weight_scale.dtype == torch.bfloat16
