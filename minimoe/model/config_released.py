"""A config.json that calls itself by the name of a released model is compared with that model.

A wrong number of experts per token, or a missing rope_theta, changes what a model computes and cannot be seen in the
shapes of its weights. Fine-tuned models keep the name of their base and may differ on purpose, so this is a warning.
"""

import warnings
from collections.abc import Container
from pathlib import Path
from typing import Any

from minimoe.errors import MinimoeWarning

# What decides the numbers of the forward pass. Not max_position_embeddings and rope_scaling, which users change to
# get a longer context, as the model cards say.
COMPARED = (
    "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "intermediate_size", "moe_intermediate_size", "num_experts", "num_experts_per_tok", "norm_topk_prob",
    "decoder_sparse_step", "mlp_only_layers", "rms_norm_eps", "rope_theta", "tie_word_embeddings",
)  # fmt: skip


def released_name(raw: dict[str, Any], file: Path, known: Container[str]) -> str | None:
    """The released model that the file claims to describe, None if it names none.

    The name is that of its folder, also in the Hugging Face cache (`models--Qwen--Qwen3-0.6B/snapshots/<commit>`), or
    stands in `_name_or_path`.
    """
    folders = file.absolute().parents
    cached = folders[2].name.rpartition("--")[2] if len(folders) > 2 and folders[1].name == "snapshots" else ""
    named = str(raw.get("_name_or_path") or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
    return next((name for name in (folders[0].name, cached, named) if name in known), None)


def warn_of_differences(config: Any, released: Any, name: str, raw: dict[str, Any], source: str) -> None:
    """One MinimoeWarning with every compared number in which `config` is not as `released`."""
    keys = [key for key in COMPARED if getattr(config, key) != getattr(released, key)]
    if len(config.moe_layers) == config.num_hidden_layers and "intermediate_size" in keys:
        keys.remove("intermediate_size")  # no layer has this width
    if keys:
        found = "; ".join(
            f"config says {key} {getattr(config, key)}{'' if is_given(key, raw) else ' (absent, so the default)'}, "
            f"released model says {getattr(released, key)}"
            for key in keys
        )
        warnings.warn(
            f"{source} is named {name} and differs from it: {found}. Correct it, unless the model was trained so.",
            MinimoeWarning,
            stacklevel=3,
        )


def warn_of_absent_keys(config: Any, raw: dict[str, Any], source: str) -> None:
    """One MinimoeWarning for keys whose defaults, those of transformers, no released model has."""
    expected = {"rope_theta": "1,000,000 or more"}
    if config.moe_layers:
        expected["norm_topk_prob"] = "true"
    absent = [key for key in expected if not is_given(key, raw)]
    if absent:
        found = "; ".join(
            f"{key} is absent, which means {getattr(config, key)}; every released Qwen3 model says {expected[key]}"
            for key in absent
        )
        warnings.warn(f"{source}: {found}. Add what the model was trained with.", MinimoeWarning, stacklevel=3)


def is_given(key: str, raw: dict[str, Any]) -> bool:
    """Whether the file gives a value for `key`, in either spelling."""
    if raw.get(key) is not None or (key == "num_experts" and raw.get("num_local_experts") is not None):
        return True
    objects = (raw.get(place) for place in ("rope_parameters", "rope_scaling"))
    return key == "rope_theta" and any(isinstance(rope, dict) and rope.get(key) is not None for rope in objects)
