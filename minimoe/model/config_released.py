"""Comparison of a config.json that has the name of a released model with that model.

A wrong number of experts per token, or a missing rope_theta, changes what a model computes but not the shapes of its
weights. Fine-tuned models keep the name of their base and may differ on purpose, so a difference is only a warning.
"""

import warnings
from collections.abc import Container
from pathlib import Path
from typing import Any

from minimoe.errors import MinimoeWarning

# The settings that determine the forward pass. max_position_embeddings and rope_scaling are left out: users change
# them for a longer context, as the model cards recommend.
COMPARED = (
    "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "intermediate_size", "moe_intermediate_size", "num_experts", "num_experts_per_tok", "norm_topk_prob",
    "decoder_sparse_step", "mlp_only_layers", "rms_norm_eps", "rope_theta", "tie_word_embeddings",
)  # fmt: skip


def released_name(raw: dict[str, Any], file: Path, known: Container[str]) -> str | None:
    """The released model that the file names, None if it names none.

    The name is that of its folder, also in the Hugging Face cache (`models--Qwen--Qwen3-0.6B/snapshots/<commit>`), or
    the value of `_name_or_path`.
    """
    folders = file.absolute().parents
    cached = folders[2].name.rpartition("--")[2] if len(folders) > 2 and folders[1].name == "snapshots" else ""
    named = str(raw.get("_name_or_path") or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
    return next((name for name in (folders[0].name, cached, named) if name in known), None)


def warn_of_differences(config: Any, released: Any, name: str, raw: dict[str, Any], source: str) -> None:
    """Issue one MinimoeWarning that lists every compared setting in which `config` differs from `released`."""
    keys = [key for key in COMPARED if getattr(config, key) != getattr(released, key)]
    if len(config.moe_layers) == config.num_hidden_layers and "intermediate_size" in keys:
        keys.remove("intermediate_size")  # no layer has this width
    if keys:
        differences = "; ".join(
            f"config says {key} {getattr(config, key)}{'' if is_given(key, raw) else ' (absent, so the default)'}, "
            f"released model says {getattr(released, key)}"
            for key in keys
        )
        warnings.warn(
            f"{source} is named {name} and differs from it: {differences}. Correct it, unless the model was trained "
            "like this.",
            MinimoeWarning,
            stacklevel=3,
        )


def warn_of_absent_keys(config: Any, raw: dict[str, Any], source: str) -> None:
    """Issue one MinimoeWarning for absent keys whose defaults, those of transformers, are in no released model."""
    expected = {"rope_theta": "1,000,000 or more"}
    if config.moe_layers:
        expected["norm_topk_prob"] = "true"
    absent = [key for key in expected if not is_given(key, raw)]
    if absent:
        defaults = "; ".join(
            f"{key} is absent, which means {getattr(config, key)}; every released Qwen3 model says {expected[key]}"
            for key in absent
        )
        warnings.warn(
            f"{source}: {defaults}. Add the values that the model was trained with.", MinimoeWarning, stacklevel=3
        )


def is_given(key: str, raw: dict[str, Any]) -> bool:
    """Whether the file gives a value for `key`, in either spelling."""
    if raw.get(key) is not None or (key == "num_experts" and raw.get("num_local_experts") is not None):
        return True
    objects = (raw.get(name) for name in ("rope_parameters", "rope_scaling"))
    return key == "rope_theta" and any(isinstance(rope, dict) and rope.get(key) is not None for rope in objects)
