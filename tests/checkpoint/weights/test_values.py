"""Values that no checkpoint should hold: NaN and infinity, and the zero points of the other GPTQ version."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import minimoe
from minimoe.checkpoint import verify as verify_module
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.quantise import quantise
from minimoe.checkpoint.safetensors.header import read_header
from minimoe.checkpoint.verify import verify
from minimoe.checkpoint.weights.inspect import Inspector
from minimoe.checkpoint.weights.values import is_inspected
from minimoe.errors import NotFinite, WrongModel
from minimoe.model.finite import is_finite, require_finite
from minimoe.scale.distributed.load_shard import open_part, read_part
from minimoe.scale.streaming.stream import stream_model
from tests.checkpoint.fake import refused, rewrite, save_tiny
from tests.quantisation.packing import GPTQ, PACKABLE, gptq_values, symmetric, write_packed

NAN, INFINITY = float("nan"), float("inf")
IDS = torch.arange(8).view(1, 8)


def put(folder: Path, name: str, value: float) -> None:
    """Set one value of one tensor of a checkpoint to `value`."""
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        if name in tensors:
            tensors[name].view(-1)[-1] = value
            save_file(tensors, file)
            return
    raise AssertionError(name)


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e5m2])
def test_is_finite(value: float, dtype: torch.dtype) -> None:
    values = torch.full((3, 50), 1.0).to(dtype)
    assert is_finite(values)
    wide = values.float()
    wide[2, 7] = value
    assert not is_finite(wide.to(dtype))


def test_is_finite_where_the_sum_overflows() -> None:
    assert is_finite(torch.full((10,), torch.finfo(torch.float32).max))
    assert is_finite(torch.tensor([1, 2]))


def test_norms_routers_and_scales_are_inspected_and_no_matrix_is() -> None:
    inside = "model.layers.0."
    small = ["model.norm.weight", f"{inside}mlp.gate.weight", f"{inside}self_attn.q_norm.weight"]
    parts = ("weight_scale", "weight_scale_inv", "scales", "qzeros", "g_idx")
    small += [f"{inside}mlp.experts.3.up_proj.{part}" for part in parts]
    large = ["lm_head.weight", "model.embed_tokens.weight", f"{inside}mlp.experts.3.up_proj.weight"]
    large += [f"{inside}self_attn.q_proj.weight_int4", f"{inside}mlp.experts.gate_up_proj"]
    assert [is_inspected(name) for name in [*small, *large]] == [True] * len(small) + [False] * len(large)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.2.mlp.gate.weight"])
@pytest.mark.parametrize("value", [NAN, -INFINITY])
def test_a_norm_and_a_router(tiny: Path, name: str, value: float) -> None:
    put(tiny, name, value)
    sentence = f"{name} holds NaN or infinity (as bfloat16)"
    assert sentence in refused(tiny, NotFinite)
    assert "(as float32)" in refused(tiny, NotFinite, dtype="fp32")
    with pytest.raises(NotFinite, match=name):
        stream_model(tiny, ram="1GB")(IDS)
    with pytest.raises(NotFinite, match=name):
        read_part(open_part(tiny, 0, 2, "tensor"))
    report = verify(tiny)
    assert not report.ok and sentence in str(report)


@pytest.mark.parametrize("kind", ["fp8", "gptq", "int4", "int8"])
def test_scales(tmp_path: Path, kind: str) -> None:
    if kind in ("fp8", "gptq"):
        folder, _ = write_packed(tmp_path, kind)
    else:
        save_tiny(tmp_path / "plain", PACKABLE)
        quantise(tmp_path / "plain", kind, folder := tmp_path / "packed")
    suffix = {"fp8": "weight_scale_inv", "gptq": "scales"}.get(kind, "weight_scale")
    name = f"model.layers.2.mlp.experts.4.down_proj.{suffix}"
    assert verify(folder).ok
    put(folder, name, NAN)
    for precision in (None, "bf16"):
        assert f"{name} holds NaN or infinity" in refused(folder, NotFinite, precision=precision)
    with pytest.raises(NotFinite, match=name):  # all experts are asked, so this one is read
        stream_model(folder, ram="1GB")(torch.arange(48).view(1, 48))
    assert any(name in problem for problem in verify(folder).problems)


@pytest.mark.parametrize("name", ["model.layers.2.mlp.gate.weight", "model.embed_tokens.weight",
                                  "model.layers.2.mlp.experts.7.up_proj.weight"])  # fmt: skip
def test_quantise(tiny: Path, tmp_path: Path, name: str) -> None:
    put(tiny, name, INFINITY)
    with pytest.raises(NotFinite, match=name.removesuffix(".weight")):
        quantise(tiny, "int8", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("model.layers.2.self_attn.o_proj.weight", "layer 2"),
        ("model.layers.1.mlp.up_proj.weight", "layer 1"),
        ("lm_head.weight", "lm_head"),
    ],
)
def test_logits_say_which_layer_and_which_tensor(tiny: Path, name: str, first: str) -> None:
    put(tiny, name, NAN)
    model = load_model(tiny)
    with pytest.raises(NotFinite) as caught:
        require_finite(model, model(IDS)[0], IDS[0])
    assert f"{first} is the first whose output is not finite. {name} holds NaN" in str(caught.value)


def test_an_expert_is_named_by_its_number(tiny: Path) -> None:
    name = "model.layers.3.mlp.experts.7.down_proj.weight"
    put(tiny, name, NAN)
    put(tiny, "lm_head.weight", NAN)  # further on, so not the one to be named
    model = load_model(tiny)
    ids = torch.arange(48)
    with pytest.raises(NotFinite, match=f"layer 3 is the first .* {name} holds NaN"):
        require_finite(model, model(ids[None]), ids)


def test_the_matrices_of_packed_weights_are_searched_too(tmp_path: Path) -> None:
    folder, _ = write_packed(tmp_path, "fp8")
    name = "model.layers.0.self_attn.o_proj.weight"
    put(folder, name, NAN)
    model = load_model(folder)
    with pytest.raises(NotFinite, match=f"layer 0 is the first .* {name} holds NaN"):
        require_finite(model, model(IDS), IDS[0])


def test_float16_that_overflows_is_no_fault_of_the_files(tiny: Path) -> None:
    rewrite(tiny, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"].fill_(1e4))
    model = load_model(tiny, dtype="fp16")
    model.layers[1].post_attention_layernorm.weight.fill_(1e4)
    with pytest.raises(NotFinite, match=r"layer 1 is the first .* exceeded the range of float16"):
        require_finite(model, model(IDS), IDS[0])


def test_finite_logits_cost_no_second_pass(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(tiny)
    logits = model(IDS)
    monkeypatch.setattr(model, "forward", None)
    require_finite(model, logits, IDS[0])


@pytest.fixture
def mini(tmp_path: Path) -> tuple[Any, Any]:
    """The mini with one NaN in layer 1."""
    model, tokenizer = minimoe.load("data/mini", dtype="fp32")
    with torch.no_grad():
        model.layers[1].self_attn.o_proj.weight[0, 0] = NAN
    return model, tokenizer


def test_generate(mini: tuple[Any, Any]) -> None:
    with pytest.raises(NotFinite, match=r"layer 1 is the first .* model\.layers\.1\.self_attn\.o_proj\.weight holds"):
        list(minimoe.generate(*mini, "Hello", temperature=0, max_new_tokens=3))


def test_recording(mini: tuple[Any, Any]) -> None:
    model, tokenizer = mini
    with (
        pytest.raises(NotFinite, match=r"router in layer 1 are NaN or infinite\. model\.layers\.1\.self_attn\.o_proj"),
        minimoe.record_routing(model, tokenizer),
    ):
        model(IDS)


def test_zeros_are_loaded_and_mentioned(tiny: Path) -> None:
    """A hole in a file reads as zeros. Some models have tensors of zeros, so this is not an error."""
    name = "model.layers.3.mlp.experts.7.down_proj.weight"
    rewrite(tiny, lambda tensors: tensors[name].zero_())
    load_model(tiny)
    assert verify(tiny).ok
    report = verify(tiny, sha256=True)
    assert report.ok and any(f"all zeros: {name}" in note for note in report.notes)


def test_sha256_inspects_every_value(tiny: Path) -> None:
    name = "model.layers.3.mlp.experts.7.down_proj.weight"
    put(tiny, name, NAN)
    load_model(tiny)
    assert verify(tiny).ok
    for _ in range(2):  # a file with such a finding is inspected again, not skipped as done
        report = verify(tiny, sha256=True)
        assert [problem.split(":")[0] for problem in report.problems] == ["NotFinite"] and name in report.problems[0]


def test_sha256_reports_a_finding_again_after_an_interruption(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with a problem is not recorded as done, or the resumed run would not report it."""
    first, second = sorted(tiny.glob("*.safetensors"))[:2]
    name = next(name for name in load_file(first) if name.endswith("q_proj.weight"))
    put(tiny, name, NAN)
    plain = verify_module.sha256_of

    def interrupted(path: Path, *arguments: Any) -> str:
        if path == second:
            raise KeyboardInterrupt
        return plain(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(verify_module, "sha256_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            verify(tiny, sha256=True)
    assert name in str(verify(tiny, sha256=True).problems)


@pytest.mark.parametrize("step", [1, 7, 64, 10**6])
def test_the_inspector_sees_values_across_two_blocks(tmp_path: Path, step: int) -> None:
    file = tmp_path / "x.safetensors"
    tensors = {name: torch.ones(3, 5, dtype=dtype) for name, dtype in (("a", torch.float32), ("b", torch.bfloat16))}
    tensors |= {"nan": tensors["a"].clone(), "inf": tensors["b"].clone(), "empty": torch.ones(0)}
    tensors |= {"zeros": torch.zeros(9), "almost": torch.zeros(9), "whole numbers": torch.full((9,), -1).int()}
    tensors["nan"][1, 2], tensors["inf"][2, 4], tensors["almost"][8] = NAN, INFINITY, 1e-30
    save_file(tensors, file)
    inspector, data = Inspector(read_header(file)), memoryview(file.read_bytes())
    for offset in range(0, len(data), step):
        inspector.see(offset, data[offset : offset + step])
    assert sorted(inspector.not_finite) == ["inf", "nan"] and inspector.zeros == ["zeros"]


# ------------------------------------------------------------------ zero points of GPTQ


@pytest.mark.parametrize(("version", "stored"), [("gptq", 7), ("gptq_v2", 8)])
def test_symmetric_zero_points_of_both_versions(tmp_path: Path, version: str, stored: int) -> None:
    settings = GPTQ | {"sym": True, "checkpoint_format": version}
    folder, _ = write_packed(tmp_path, "gptq", change=partial(symmetric, nibble=stored), settings=settings)
    model = load_model(folder)
    stored_tensors = {}
    for file in folder.glob("*.safetensors"):
        stored_tensors |= load_file(file)
    name = "model.layers.0.self_attn.k_proj."
    parts = {suffix: stored_tensors[name + suffix] for suffix in ("qweight", "qzeros", "scales", "g_idx")}
    if version == "gptq_v2":
        parts["qzeros"] = parts["qzeros"] - 0x11111111  # as the first version has it
    assert torch.equal(model.layers[0].self_attn.k_proj.weight, gptq_values(parts))


@pytest.mark.parametrize(
    ("version", "stored", "sentence"),
    [
        ("gptq", 8, "are stored as 8, as in checkpoint_format 'gptq_v2', but config.json says 'gptq'"),
        ("gptq_v2", 7, "are stored as 7, as in checkpoint_format 'gptq', but config.json says 'gptq_v2'"),
        ("gptq", 6, "config.json says sym true, which stores 7 for every zero point; found [6]"),
    ],
)
def test_zero_points_of_the_other_version(tmp_path: Path, version: str, stored: int, sentence: str) -> None:
    settings = GPTQ | {"sym": True, "checkpoint_format": version}
    folder, _ = write_packed(tmp_path, "gptq", change=partial(symmetric, nibble=stored), settings=settings)
    assert sentence in refused(folder, WrongModel)
    assert sentence in str(verify(folder))
    with pytest.raises(WrongModel, match=r"sym true|zero points"):
        stream_model(folder, ram="1GB")(IDS)


def test_one_zero_point_inside_a_word(tmp_path: Path) -> None:
    def change(stored: dict[str, Any]) -> None:
        symmetric(stored)
        stored["model.layers.0.self_attn.k_proj.qzeros"][0, 1] += 0x100  # the third of eight

    folder, _ = write_packed(tmp_path, "gptq", change=change, settings=GPTQ | {"sym": True})
    assert "k_proj.qzeros: config.json says sym true, which stores 7 for every zero point; found [7, 8]" in refused(
        folder, WrongModel
    )
