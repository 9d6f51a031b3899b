"""The facts in data/models: complete, consistent with the model's code, equal to the real files where available."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.paths import checkout, models_folder
from minimoe.scale.planner.model_size import plan

REFERENCE = checkout().parent / "shared" / "reference"
NAMES = sorted(file.stem for file in models_folder().glob("*.json"))
STATUSES = {"confirmed", "single", "computed", "unverified"}
needs_reference = pytest.mark.skipif(
    not (REFERENCE / "qwen3_moe_models.json").is_file(), reason=f"the real reference files are not at {REFERENCE}"
)


@cache
def entry(name):
    return json.loads((models_folder() / f"{name}.json").read_text(encoding="utf-8"))


def fact(name, field):
    return entry(name)["facts"].get(field, {}).get("value")


def test_the_family_is_complete():
    assert len(NAMES) == 19
    assert {"Qwen3-235B-A22B", "Qwen3-0.6B", "Qwen3-Coder-480B-A35B-Instruct-FP8", "Qwen3-30B-A3B-GPTQ-Int4"} <= set(
        NAMES
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_has_a_status_and_a_source(name):
    assert entry(name)["name"] == name
    for field, found in entry(name)["facts"].items():
        assert set(found) == {"value", "status", "source"}, field
        assert found["status"] in STATUSES, field
        assert found["source"] or found["status"] == "unverified", f"{field} is {found['status']} but names no source"


@pytest.mark.parametrize("name", NAMES)
def test_named_accepts_every_name_with_and_without_the_owner(name):
    config = ModelConfig.named(name)
    assert config == ModelConfig.named(f"Qwen/{name}")
    assert config.norm_topk_prob is (name != "Qwen3-0.6B")
    assert config.head_dim == 128
    assert (config.quantization_config is not None) == name.endswith(("FP8", "Int4"))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(BadArgument, match="Qwen3-235B-A22B"):
        ModelConfig.named("Qwen3-236B")


@pytest.mark.parametrize("name", NAMES)
def test_the_computed_figures_follow_from_the_config(name):
    config = ModelConfig.named(name)
    embedding = config.vocab_size * config.hidden_size
    tied_copy = embedding if config.tie_word_embeddings else 0
    heads = 2 * (config.num_attention_heads + config.num_key_value_heads)
    computed = {
        "total_parameters": config.total_parameters,
        "active_parameters": config.active_parameters,
        "active_parameters_without_input_embedding": config.active_parameters - embedding,
        "non_embedding_parameters": config.total_parameters - 2 * embedding + tied_copy,
        "expert_parameters": len(config.moe_layers) * config.num_experts * config.parameters_per_expert,
        "parameters_per_expert": config.parameters_per_expert,
        "attention_parameters_per_layer": heads * config.head_dim * config.hidden_size + 2 * config.head_dim,
        "kv_cache_bytes_per_token": config.kv_cache_bytes_per_token("bf16"),
        "expert_bytes_per_layer": 2 * config.num_experts * config.parameters_per_expert,
        "index_metadata_total_size": plan(config).weight_bytes,
        "model_safetensors_data_bytes": 2 * (config.total_parameters + tied_copy),
        "tensor_count": tensors_on_disk(config),
    }
    checked = [field for field in computed if fact(name, field) is not None]
    assert len(checked) >= 7
    assert {field: fact(name, field) for field in checked} == {field: computed[field] for field in checked}


def tensors_on_disk(config):
    """Embedding, final norm, lm_head (stored even when tied); a layer has 2 + 2 norms and the linear layers."""
    per_linear = {None: 1, "fp8": 2, "gptq": 4}[(config.quantization_config or {}).get("quant_method")]
    feed_forward = 1 + 3 * config.num_experts * per_linear if config.num_experts else 3 * per_linear
    return 3 + config.num_hidden_layers * (4 + 4 * per_linear + feed_forward)


@pytest.mark.parametrize(
    ("name", "size"),
    [("Qwen3-235B-A22B", 192_512), ("Qwen3-30B-A3B", 98_304), ("Qwen3-Coder-480B-A35B-Instruct", 253_952)],
)
def test_kv_cache_bytes(name, size):
    config = ModelConfig.named(name)
    assert config.kv_cache_bytes_per_token("bf16") == config.kv_cache_bytes_per_token(torch.bfloat16) == size
    assert config.kv_cache_bytes_per_token("fp8") == size // 2


@cache
def counted(name):
    """Parameters of the real module tree on the meta device, which allocates no memory."""
    with torch.device("meta"):
        model = Transformer(ModelConfig.named(name))
    experts = [bank for layer in model.layers for bank in (getattr(layer.mlp, "experts", None),) if bank is not None]
    return (
        sum(p.numel() for p in model.parameters()),
        sum(p.numel() for bank in experts for p in bank.parameters()),
        {p.device.type for p in model.parameters()},
    )


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(("FP8", "Int4"))])
def test_the_module_tree_has_the_parameter_count_of_the_config(name):
    config = ModelConfig.named(name)
    total, in_experts, devices = counted(name)
    assert devices == {"meta"}
    assert total == config.total_parameters
    idle = in_experts * (config.num_experts - config.num_experts_per_tok) // max(config.num_experts, 1)
    assert total - idle == config.active_parameters


def test_the_235b_has_the_published_count():
    assert counted("Qwen3-235B-A22B")[0] == 235_093_634_560
    assert ModelConfig.named("Qwen3-235B-A22B").active_parameters == 22_190_763_520


def test_one_size_has_several_rope_thetas():
    """The easiest fact to get wrong: within one size the rotary base differs between the releases."""
    thetas = {name: ModelConfig.named(name).rope_theta for name in NAMES}
    assert thetas["Qwen3-235B-A22B"] == 1e6
    assert thetas["Qwen3-235B-A22B-Instruct-2507"] == thetas["Qwen3-235B-A22B-Thinking-2507"] == 5e6
    assert thetas["Qwen3-30B-A3B"] == 1e6
    assert thetas["Qwen3-30B-A3B-Instruct-2507"] == thetas["Qwen3-Coder-30B-A3B-Instruct"] == 1e7


# ------------------------------------------------------------------ against the real files, where available


def real_configs():
    files = sorted((REFERENCE / "configs").glob("*.config.json")) if REFERENCE.is_dir() else []
    return files + sorted(REFERENCE.glob("*/config.json"))


@needs_reference
@pytest.mark.parametrize("file", real_configs(), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_real_config_file_parses_to_the_named_config(file: Path):
    name = file.parent.name if file.name == "config.json" else file.name.removesuffix(".config.json")
    assert ModelConfig.from_file(file) == ModelConfig.named(name)
    assert json.loads(file.read_text(encoding="utf-8")) == entry(name)["config"]


@needs_reference
def test_facts_equal_the_reference_collection():
    reference = json.loads((REFERENCE / "qwen3_moe_models.json").read_text(encoding="utf-8"))["models"]
    assert set(reference) == set(NAMES) - {"Qwen3-0.6B"}
    for name, known in reference.items():
        ours = entry(name)
        assert {key: value for key, value in ours["config"].items() if key != "quantization_config"} == known["config"]
        assert ours["facts"]["config"]["status"] == known["config_status"]
        for field in ("safetensors_shards", "index_metadata_total_size", "tensor_count", "generation_config"):
            assert ours["facts"][field]["value"] == known[field]["value"], (name, field)
            assert ours["facts"][field]["status"] == known[field]["status"], (name, field)
        sizes = plan(ModelConfig.named(name)).bytes_by_precision
        assert sizes["bf16"] == known["arithmetic"]["bf16_total_size"]
        assert sizes["fp8"] == known["arithmetic"]["fp8_total_size_with_bf16_scales"]
        assert sizes["gptq-int4"] == known["arithmetic"]["gptq_int4_total_size_16bit_rest"]
