"""Tensors stored in another dtype than that of config.json are converted, as in transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.quantise import quantise
from minimoe.checkpoint.save import save
from minimoe.checkpoint.verify import verify
from minimoe.errors import WrongModel
from minimoe.scale.distributed.load_shard import open_part, read_part
from minimoe.scale.streaming.stream import stream_model
from tests.checkpoint.fake import TINY, random_model, refused, rewrite, save_tiny, weights

NORM, ROUTER = "model.layers.2.post_attention_layernorm.weight", "model.layers.0.mlp.gate.weight"
EXPERT = "model.layers.2.mlp.experts.7.up_proj.weight"
IDS = torch.arange(24).view(2, 12)


def widen(*parts: str, dtype: torch.dtype = torch.float32) -> Any:
    """Tensors whose names contain one of `parts` get values of their own in `dtype`, which bfloat16 has to round."""

    def change(tensors: dict[str, Tensor]) -> None:
        generator = torch.Generator().manual_seed(3)
        for name in tensors:
            if any(part in name for part in parts):
                tensors[name] = torch.randn(tensors[name].shape, generator=generator).mul(0.3).to(dtype)

    return change


CASES = {
    "float32 norms and routers": widen("norm", "mlp.gate."),
    "float32 head": widen("lm_head"),
    "one float16 expert": widen("layers.2.mlp.experts.7.", dtype=torch.float16),
    "everything float32": widen(""),
}


@pytest.mark.parametrize("dtype", [None, "fp32"])
@pytest.mark.parametrize("case", CASES)
def test_the_values_are_those_of_transformers(tmp_path: Path, case: str, dtype: str | None) -> None:
    transformers = pytest.importorskip("transformers")
    save_tiny(tmp_path)
    rewrite(tmp_path, CASES[case])
    ours = load_model(tmp_path, dtype=dtype)
    chosen = {} if dtype is None else {"dtype": torch.float32}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, **chosen).eval()
    assert theirs.dtype == ours.dtype == (torch.float32 if dtype else torch.bfloat16)
    state = theirs.state_dict()
    for name, value in ours.named_parameters():
        name = name if name.startswith("lm_head") else f"model.{name}"
        if ".experts." not in name:
            assert value.dtype == state[name].dtype and torch.equal(value, state[name]), name
    for number in (0, 2, 3):
        bank, fused = ours.layers[number].mlp.experts, theirs.model.layers[number].mlp.experts
        assert torch.equal(torch.cat([bank.gate_proj, bank.up_proj], dim=1), fused.gate_up_proj)
        assert torch.equal(bank.down_proj, fused.down_proj)
    if dtype == "fp32":
        with torch.no_grad():
            torch.testing.assert_close(ours(IDS), theirs(IDS).logits, atol=1e-5, rtol=0)


def test_verify_lists_converted_tensors(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    assert not verify(tmp_path).notes
    rewrite(tmp_path, CASES["one float16 expert"])
    report = verify(tmp_path)
    assert report.ok
    note = next(note for note in report.notes if "F16" in note)
    assert "converted to bfloat16" in note and EXPERT in note and NORM not in note


@pytest.mark.parametrize("case", ["float32 norms and routers", "float32 head", "one float16 expert"])
def test_a_stream_and_ranks_convert_alike(tmp_path: Path, case: str) -> None:
    save_tiny(tmp_path)
    rewrite(tmp_path, CASES[case])
    model = load_model(tmp_path)
    alone = read_part(open_part(tmp_path, 0, 1, "tensor"))
    assert weights(alone) == weights(model)
    model.engine = "loop"
    with torch.no_grad():
        assert torch.equal(stream_model(tmp_path, ram="1GB")(IDS), model(IDS))


def test_a_stream_refuses_matrices_that_are_wider_than_planned(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    rewrite(tmp_path, CASES["everything float32"])
    with pytest.raises(WrongModel, match=r"wider than the BF16 that config\.json names"):
        stream_model(tmp_path, ram="1GB")


@pytest.mark.parametrize("case", CASES)
def test_quantise_writes_what_a_load_holds(tmp_path: Path, case: str) -> None:
    """Packed from the stored values; norms and routers rounded once, to the dtype of the config."""
    save_tiny(tmp_path / "plain")
    rewrite(tmp_path / "plain", CASES[case])
    quantise(tmp_path / "plain", "int8", tmp_path / "packed")
    save(load_model(tmp_path / "plain", precision="int8"), None, tmp_path / "again")
    for name in ("packed", "again"):
        assert verify(tmp_path / name).ok
    assert weights(load_model(tmp_path / "packed")) == weights(load_model(tmp_path / "again"))


@pytest.mark.parametrize("equal", [True, False])
def test_a_tied_head_in_another_dtype(tmp_path: Path, equal: bool) -> None:
    """It must hold the embedding's values, to the precision of the narrower dtype."""
    model = save_tiny(tmp_path)

    def tie(tensors: dict[str, Tensor]) -> None:
        head = tensors["model.embed_tokens.weight"].float()
        tensors["lm_head.weight"] = head.clone() * (1 + 1e-5) if equal else head.flip(0).contiguous()

    rewrite(tmp_path, tie)
    text = (tmp_path / "config.json").read_text().replace('"tie_word_embeddings": false', '"tie_word_embeddings": true')
    (tmp_path / "config.json").write_text(text)
    if not equal:
        assert "lm_head.weight differs from model.embed_tokens.weight" in refused(tmp_path, WrongModel)
        assert not verify(tmp_path).ok
        return
    loaded = load_model(tmp_path)
    assert verify(tmp_path).ok
    assert torch.equal(loaded.lm_head.weight, model.embed_tokens.weight)


def test_a_config_that_names_no_dtype_of_the_files(tmp_path: Path) -> None:
    """transformers casts to the dtype of config.json; so a wrong torch_dtype costs precision, and verify reports it."""
    save_tiny(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"torch_dtype": "bfloat16"', '"torch_dtype": "float32"'))
    assert load_model(tmp_path).dtype == torch.float32
    assert weights(load_model(tmp_path)) == weights(random_model(TINY).float())
    assert "stored as BF16, to be converted to float32" in str(verify(tmp_path))
