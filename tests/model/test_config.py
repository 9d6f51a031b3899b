"""Reading a config.json: contradictions and unimplemented switches are refused, and no key is ignored silently."""

import codecs
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from transformers import Qwen3Config, Qwen3MoeConfig

from minimoe.cli import cli
from minimoe.errors import BadConfig, MinimoeWarning, UnsupportedModel
from minimoe.model.config import ModelConfig
from minimoe.model.config_switches import IGNORED, REQUIRED_VALUES
from minimoe.paths import checkout, models_folder

NAMES = sorted(file.stem for file in models_folder().glob("*.json"))
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def released(name: str = "Qwen3-30B-A3B", **changes: Any) -> dict[str, Any]:
    """The config.json of a released model, with changes; None removes a key."""
    raw = json.loads((models_folder() / f"{name}.json").read_text(encoding="utf-8"))["config"] | changes
    return {key: value for key, value in raw.items() if not (key in changes and value is None)}


def write(folder: Path, raw: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    return folder / "config.json"


def warned(file: Path) -> list[str]:
    """The warnings when `file` is read."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ModelConfig.from_file(file)
    assert all(each.category is MinimoeWarning for each in caught)
    return [str(each.message) for each in caught]


# ---------------------------------------------------------------- valid files


@pytest.mark.parametrize("name", NAMES)
def test_released_files_are_read_without_a_warning(name: str, tmp_path: Path) -> None:
    for folder in ("anything", name, f"models--Qwen--{name}/snapshots/{'0' * 40}"):
        assert warned(write(tmp_path / folder, released(name))) == []
        assert warned(write(tmp_path / folder, ModelConfig.named(name).to_dict())) == []


def test_the_real_files_are_read_without_a_warning(reference: Path) -> None:
    files = [*reference.glob("configs/*.json"), *reference.glob("*/config.json")]
    assert len(files) >= 6
    assert [warned(file) for file in files] == [[]] * len(files)


@pytest.mark.parametrize("kind", [Qwen3Config, Qwen3MoeConfig])
def test_files_written_by_transformers_are_read_without_a_warning(kind: Any, tmp_path: Path) -> None:
    kind().save_pretrained(tmp_path)
    assert warned(tmp_path) == []
    whole = json.loads(kind().to_json_string(use_diff=False))
    generation = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "max_length": 20, "num_beams": 1}
    assert warned(write(tmp_path, whole | generation)) == []
    yarn = kind(rope_parameters=YARN | {"rope_theta": 1e6})
    yarn.save_pretrained(tmp_path)
    assert warned(tmp_path) == []
    assert ModelConfig.from_file(tmp_path).rope_scaling == YARN


def test_the_mini_is_read_without_a_warning() -> None:
    assert warned(checkout() / "data" / "mini" / "config.json") == []


@pytest.mark.parametrize(
    "mark", [codecs.BOM_UTF8, b" \n"], ids=["a byte order mark, as Notepad writes it", "white space"]
)
def test_a_byte_order_mark_is_accepted(mark: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(mark + json.dumps(released()).encode())
    assert ModelConfig.from_file(tmp_path) == ModelConfig.named("Qwen3-30B-A3B")


def test_utf_16_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(released()), encoding="utf-16")
    with pytest.raises(BadConfig, match=r"config\.json is not UTF-8 text .*Save it as UTF-8"):
        ModelConfig.from_file(tmp_path)


# ---------------------------------------------------------------- two keys that contradict each other

CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "rope_parameters says default but rope_scaling says yarn": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "rope_scaling": YARN, "rope_theta": None,
    },
    "rope_parameters says yarn but rope_scaling says yarn, with other numbers": {
        "rope_parameters": YARN | {"factor": 2.0}, "rope_scaling": YARN,
    },
    "rope_theta = 1000000.0 but rope_parameters.rope_theta = 5000000": {"rope_parameters": {"rope_theta": 5_000_000}},
    "rope_theta = 1000000.0 but rope_scaling.rope_theta = 10": {"rope_scaling": YARN | {"rope_theta": 10}},
    "rope_scaling has rope_type 'yarn' but type 'default'": {"rope_scaling": YARN | {"type": "default"}},
    "rope_scaling has factor, which plain RoPE does not use": {"rope_scaling": {"factor": 4.0}},
    "original_max_position_embeddings = 4096 but 32768": {
        "rope_scaling": YARN, "original_max_position_embeddings": 4096,
    },
    "num_local_experts = 64 but num_experts = 128": {"num_local_experts": 64},
    "n_routed_experts = 64 but num_experts = 128": {"n_routed_experts": 64},
    "torch_dtype = 'bfloat16' but dtype = 'float32'": {"dtype": "float32"},
    "tie_embeddings = True but tie_word_embeddings = False": {"tie_embeddings": True},
    "num_layers = 24 but num_hidden_layers = 48": {"num_layers": 24},
    "moe_topk = 4 but num_experts_per_tok = 8": {"moe_topk": 4},
    "v_head_dim = 64 but head_dim = 128": {"v_head_dim": 64},
    "norm_eps = 1e-05 but rms_norm_eps is absent, which means 1e-06": {"rms_norm_eps": None, "norm_eps": 1e-5},
    "layer_types does not fit num_hidden_layers = 48": {"layer_types": ["full_attention"] * 47},
    "mlp_layer_types does not fit": {"mlp_layer_types": ["dense"] + ["sparse"] * 47},
}  # fmt: skip


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_a_contradiction_is_refused(message: str) -> None:
    with pytest.raises(BadConfig) as caught:
        ModelConfig.from_dict(released(**CONTRADICTIONS[message]), source="here")
    assert str(caught.value).startswith("here: ") and message in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": YARN, "rope_parameters": YARN | {"rope_theta": 1_000_000}},
        {"rope_scaling": {"type": "yarn", "rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32768}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 1.0}},
        {"rope_scaling": {}, "rope_parameters": {"rope_theta": 1e6}, "rope_theta": None},
        {"num_local_experts": 128, "n_routed_experts": 128, "dtype": "bfloat16", "norm_eps": 1e-6, "v_head_dim": 128},
        {"layer_types": ["full_attention"] * 48, "mlp_layer_types": ["sparse"] * 48, "sliding_window": 4096},
        {"hidden_size": 2048, "num_attention_heads": 32},  # head_dim is a separate setting in this family
    ],
)
def test_equal_duplicates_are_accepted(changes: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = ModelConfig.from_dict(released(**changes))
    yarn = "yarn" in json.dumps(changes)
    assert config.rope_theta == 1e6 and config.rope_scaling == (YARN if yarn else None)


# ---------------------------------------------------------------- switches that are not implemented

SWITCHES: dict[str, Any] = {
    "dual_chunk_attention_config": {"chunk_size": 262144, "local_size": 8192},
    "sparse_attention_config": {"sparse_attention_enabled": True},
    "use_sliding_window": True, "attention_bias": True, "mlp_bias": True, "hidden_act": "gelu", "use_qk_norm": False,
    "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "clip_qkv": 8.0, "attention_sinks": True,
    "attn_output_gate": True, "partial_rotary_factor": 0.5, "rope_interleave": True, "kv_lora_rank": 512,
    "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "n_group": 8, "topk_group": 4,
    "n_shared_experts": 1, "shared_expert_intermediate_size": 5632, "first_k_dense_replace": 3, "moe_layer_freq": 2,
    "num_nextn_predict_layers": 1, "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 8.0,
    "norm_type": "layernorm", "rms_norm_offset": 1, "no_rope_layers": [1, 0], "full_attention_interval": 4,
    "vision_config": {"depth": 32}, "quantization": {"group_size": 64, "bits": 4}, "position_embedding_type": "alibi",
    "per_layer_config": {"0": {"num_key_value_heads": 2}},
}  # fmt: skip


@pytest.mark.parametrize("key", SWITCHES)
def test_a_switch_that_is_not_implemented_is_refused_by_name(key: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"here: {key} is .* implements only {key} = "):
        ModelConfig.from_dict(released(**{key: SWITCHES[key]}), source="here")


@pytest.mark.parametrize("key", sorted(REQUIRED_VALUES))
def test_a_switch_that_is_off_is_accepted(key: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in REQUIRED_VALUES[key]:
            ModelConfig.from_dict(released() | {key: value})


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        (YARN | {"mscale": 1.0}, "rope_scaling has mscale"),
        (YARN | {"partial_rotary_factor": 0.5}, r"rope_scaling\.partial_rotary_factor is 0\.5"),
        ({"rope_type": "llama3", "factor": 8.0}, "rope type is 'llama3'"),
        ({"mrope_section": [24, 20, 20]}, "rope_scaling has mrope_section"),
        ({"full_attention": {"rope_theta": 1e6}}, "rope_scaling has full_attention"),
    ],
)
def test_other_rotary_embeddings_are_refused(rope: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        ModelConfig.from_dict(released(rope_scaling=rope))


def test_no_key_is_both_ignored_and_checked() -> None:
    assert not IGNORED & REQUIRED_VALUES.keys()


def test_a_moe_config_without_a_number_of_experts_is_refused() -> None:
    with pytest.raises(BadConfig, match="here lacks num_experts"):
        ModelConfig.from_dict(released(num_experts=None), source="here")


# ---------------------------------------------------------------- unknown keys, names of released models


def test_unknown_keys_are_listed_in_one_warning(tmp_path: Path) -> None:
    file = write(tmp_path, released() | {"zeta_attention": True, "alpha_norm": 2, "nothing": None, "use_cache": False})
    (message,) = warned(file)
    assert message.startswith(f"{file}: unknown to minimoe, and without effect: alpha_norm, zeta_attention. ")
    assert "nothing" not in message and "use_cache" not in message


def test_hostile_keys_make_a_short_warning(tmp_path: Path) -> None:
    raw = released() | {f"{n}\n{'x' * 1000}": 1 for n in range(1000)}
    (message,) = warned(write(tmp_path, raw))
    assert len(message) < 2_000 and "\n" not in message


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"num_experts_per_tok": 4}, "config says num_experts_per_tok 4, released model says 8"),
        ({"norm_topk_prob": None}, "config says norm_topk_prob False (absent, so the default), released model says Tr"),
        ({"rope_theta": None}, "config says rope_theta 10000.0 (absent, so the default), released model says 100000"),
        ({"rope_theta": None, "rope_parameters": {"rope_theta": 5e6}}, "config says rope_theta 5000000.0, released"),
        ({"rms_norm_eps": 1e-5}, "config says rms_norm_eps 1e-05, released model says 1e-06"),
        ({"num_hidden_layers": 2}, "config says num_hidden_layers 2, released model says 48"),
        ({"num_experts": None, "num_local_experts": 64}, "config says num_experts 64, released model says 128"),
    ],
)
@pytest.mark.parametrize("place", ["folder", "cache", "key"])
def test_a_config_that_differs_from_the_model_of_its_name(
    changes: dict[str, Any], found: str, place: str, tmp_path: Path
) -> None:
    name = "Qwen3-30B-A3B"
    folder = {"folder": name, "cache": f"models--Qwen--{name}/snapshots/{'0' * 40}", "key": "mine"}[place]
    raw = released(**changes) | ({"_name_or_path": f"Qwen/{name}"} if place == "key" else {})
    (message,) = warned(write(tmp_path / folder, raw))
    assert f"is named {name} and differs from it: {found}" in message


def test_a_longer_context_and_another_dtype_give_no_warning(tmp_path: Path) -> None:
    changes = {"rope_scaling": YARN, "max_position_embeddings": 131072, "torch_dtype": "float32", "eos_token_id": 1}
    assert warned(write(tmp_path / "Qwen3-30B-A3B", released(**changes, intermediate_size=1))) == []


def test_absent_keys_that_every_released_model_has_give_a_warning(tmp_path: Path) -> None:
    (message,) = warned(write(tmp_path, released(norm_topk_prob=None, rope_theta=None)))
    assert "rope_theta is absent, which means 10000.0" in message
    assert "norm_topk_prob is absent, which means False; every released Qwen3 model says true" in message
    assert warned(write(tmp_path, released("Qwen3-0.6B"))) == []


def test_a_command_shows_a_warning_in_one_line(tmp_path: Path) -> None:
    file = write(tmp_path, released() | {"strange": True})
    result = CliRunner().invoke(cli, ["plan", str(tmp_path)])
    (line,) = [line for line in result.stderr.splitlines() if "strange" in line]
    assert result.exit_code == 0 and line.startswith(f"minimoe: warning: {file}: unknown to minimoe")
    assert "config.py" not in result.stderr
