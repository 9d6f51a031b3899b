"""Files from transformers load in minimoe and vice versa, with the same logits (fp32, within 1e-5) and experts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minimoe import ModelConfig, Transformer
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.save import save
from minimoe.checkpoint.verify import verify

transformers = pytest.importorskip("transformers")

SHAPE = dict(
    vocab_size=64,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    intermediate_size=48,
    max_position_embeddings=128,
    initializer_range=0.2,
    tie_word_embeddings=False,
    rope_parameters={"rope_theta": 1e6, "rope_type": "default"},
)
MOE = dict(moe_intermediate_size=24, num_experts=16, num_experts_per_tok=4, norm_topk_prob=True, mlp_only_layers=[1])
CASES = {
    "moe": MOE,
    "moe, tied": MOE | {"tie_word_embeddings": True},
    "dense": {},
    "dense, tied": {"tie_word_embeddings": True},
}
IDS = torch.arange(24).mul(7).remainder(64).view(2, 12)


def reference_model(case: str) -> "transformers.PreTrainedModel":
    torch.manual_seed(1)
    if "moe" in case:
        return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**SHAPE | CASES[case])).eval()
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SHAPE | CASES[case])).eval()


def assert_same(ours: Transformer, theirs: "transformers.PreTrainedModel") -> None:
    """Equal logits, and in every MoE layer equal experts for every token."""
    chosen: list[torch.Tensor] = []
    hooks = [
        ours.layers[n].mlp.gate.register_forward_hook(lambda _m, _i, routing: chosen.append(routing.experts))
        for n in ours.config.moe_layers
    ]
    with torch.no_grad():
        logits = ours(IDS)
        expected = theirs(IDS, output_router_logits=True) if ours.config.moe_layers else theirs(IDS)
    for hook in hooks:
        hook.remove()
    assert expected.logits.std() > 0.5
    torch.testing.assert_close(logits, expected.logits, atol=1e-5, rtol=0)
    if ours.config.moe_layers:
        theirs_chosen = [scores.topk(ours.config.num_experts_per_tok).indices for scores in expected.router_logits]
        assert len(chosen) == len(theirs_chosen) == 2
        for mine, other in zip(chosen, theirs_chosen, strict=True):
            assert torch.equal(mine.sort(-1).values, other.sort(-1).values)


@pytest.mark.parametrize("original_format", [True, False], ids=["single experts", "fused experts"])
@pytest.mark.parametrize("case", CASES)
def test_load_files_of_transformers(tmp_path: Path, case: str, original_format: bool) -> None:
    theirs = reference_model(case)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB", save_original_format=original_format)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert verify(tmp_path).ok
    assert_same(load_model(tmp_path), theirs)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shard_bytes", [20_000, 10**9], ids=["sharded", "single"])
def test_transformers_loads_saved_files(tmp_path: Path, case: str, shard_bytes: int) -> None:
    raw = reference_model(case).config.to_dict()
    torch.manual_seed(2)
    config = replace(ModelConfig.from_dict(raw), dtype="float32")
    ours = Transformer(config).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
    save(ours, None, tmp_path, max_shard_bytes=shard_bytes)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert_same(ours, theirs.eval())
    theirs.save_pretrained(tmp_path / "again")
    assert_same(load_model(tmp_path / "again"), theirs)
