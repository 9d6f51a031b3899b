"""The keys of a config.json: two spellings brought to one, impossible values and unknown architectures refused.

Two spellings of the same file are in circulation. The released checkpoints say `num_experts`, `torch_dtype`,
`rope_theta` and `rope_scaling`; files written by transformers 5 say `num_local_experts`, `dtype` and
`rope_parameters`. Both are read.
"""

from typing import Any

from minimoe.errors import BadConfig, UnsupportedModel

# Architecture switches that the code in model/ does not have. A config that flips one is refused by name.
REQUIRED_VALUES: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False, None),
    "qkv_bias": (False, None),
    "use_sliding_window": (False, None),
    "use_qk_norm": (True, None),
    "hidden_act": ("silu", None),
    "shared_expert_intermediate_size": (0, None),
    "n_shared_experts": (0, None),
    "attention_dropout": (0, 0.0, None),
}
YARN_NUMBERS = ("factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow")


def refuse_what_is_not_implemented(raw: dict[str, Any], source: str) -> None:
    """Raise UnsupportedModel for a switch that would change the forward pass and that we do not have."""
    model_type = raw.get("model_type", "qwen3_moe")
    if model_type not in ("qwen3", "qwen3_moe"):
        raise UnsupportedModel(f"{source}: model_type is {model_type!r}; minimoe implements qwen3 and qwen3_moe.")
    for key, allowed in REQUIRED_VALUES.items():
        if key in raw and raw[key] not in allowed:
            found = str(raw[key])[:60] if str(raw[key]).isprintable() else repr(raw[key])[:60]
            raise UnsupportedModel(f"{source}: {key} is {found}; minimoe implements only {key} = {allowed[0]}.")
    layer_types = raw.get("layer_types") or []
    if not isinstance(layer_types, list) or any(kind != "full_attention" for kind in layer_types):
        raise UnsupportedModel(
            f"{source}: layer_types has other kinds than full_attention, which minimoe does not implement."
        )


def modern_keys_to_released(raw: dict[str, Any], source: str) -> dict[str, Any]:
    """Rename the keys of transformers 5 to those of the released files; settle rope_scaling."""
    settings = {"model_type": "qwen3_moe"} | raw
    for modern, released in (("num_local_experts", "num_experts"), ("torch_dtype", "dtype")):
        both = modern in raw and released in raw and raw[modern] != raw[released]
        if both and None not in (raw[modern], raw[released]):
            raise BadConfig(f"{source}: {modern} = {raw[modern]!r} but {released} = {raw[released]!r}. Keep one.")
        if raw.get(released) is None and raw.get(modern) is not None:
            settings[released] = raw[modern]
    if settings["model_type"] == "qwen3":
        settings["num_experts"] = 0
    rope = raw.get("rope_parameters") or raw.get("rope_scaling")
    if rope is not None and not isinstance(rope, dict):
        raise BadConfig(f"{source}: rope_parameters / rope_scaling is {rope!r}, expected an object or null.")
    rope = dict(rope or {})
    settings["rope_theta"] = rope.pop("rope_theta", None) or raw.get("rope_theta")
    kind = rope.pop("type", None) or rope.get("rope_type") or "default"
    if kind not in ("default", "yarn"):
        raise UnsupportedModel(f"{source}: rope type is {kind!r}; minimoe implements default and yarn.")
    settings["rope_scaling"] = check_yarn(rope | {"rope_type": "yarn"}, source) if kind == "yarn" else None
    hidden, heads = raw.get("hidden_size"), raw.get("num_attention_heads")
    if settings.get("head_dim") is None and isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
        settings["head_dim"] = hidden // heads
    return settings


def check_yarn(rope: dict[str, Any], source: str) -> dict[str, Any]:
    """The YaRN settings, if their numbers can be used; otherwise BadConfig."""
    unknown = sorted(set(rope) - {"rope_type", "truncate", *YARN_NUMBERS})
    if unknown:
        raise UnsupportedModel(f"{source}: rope_scaling has {', '.join(unknown)}, which minimoe does not implement.")
    for key in YARN_NUMBERS:
        value = rope.get(key)
        if type(value) not in (int, float, type(None)) or (value is not None and not 0 < value < float("inf")):
            raise BadConfig(f"{source}: rope_scaling.{key} is {value!r}, expected a positive number.")
    if rope.get("factor") is None:
        raise BadConfig(f"{source}: rope_scaling says yarn but has no factor.")
    return rope


def check_values(config: Any, source: str) -> None:
    """Raise BadConfig if the values of a ModelConfig cannot describe a model."""

    def require(holds: bool, key: str, rule: str) -> None:
        if not holds:
            raise BadConfig(f"{source}: {key} is {getattr(config, key)!r}, expected {rule}.")

    def is_count(value: Any, least: int) -> bool:
        return type(value) is int and least <= value <= 2**31

    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"):
        require(is_count(getattr(config, key), 1), key, "a positive integer")
    require(config.num_hidden_layers <= 10_000, "num_hidden_layers", "at most 10,000")  # code loops over them
    require(is_count(config.head_dim, 2) and config.head_dim % 2 == 0, "head_dim", "an even integer (RoPE turns pairs)")
    require(
        config.num_attention_heads % config.num_key_value_heads == 0,
        "num_attention_heads",
        f"a multiple of num_key_value_heads = {config.num_key_value_heads}",
    )
    for key in ("rms_norm_eps", "rope_theta"):
        value = getattr(config, key)
        require(type(value) in (int, float) and 0 < value < float("inf"), key, "a positive number")
    require(is_count(config.max_position_embeddings, 1), "max_position_embeddings", "a positive integer")
    require(type(config.initializer_range) in (int, float), "initializer_range", "a number")
    require(type(config.router_aux_loss_coef) in (int, float), "router_aux_loss_coef", "a number")
    for key in ("norm_topk_prob", "tie_word_embeddings"):
        require(type(getattr(config, key)) is bool, key, "true or false")
    require(
        config.dtype in ("bfloat16", "float16", "float32", "float64"), "dtype", "bfloat16, float16, float32 or float64"
    )
    require(
        isinstance(config.mlp_only_layers, tuple) and all(is_count(n, 0) for n in config.mlp_only_layers),
        "mlp_only_layers",
        "a list of layer numbers",
    )
    require(is_count(config.decoder_sparse_step, 1), "decoder_sparse_step", "a positive integer")
    for key in ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "intermediate_size"):
        require(is_count(getattr(config, key), 0), key, "an integer")
    require(type(config.quantization_config) in (dict, type(None)), "quantization_config", "an object or null")
    if config.moe_layers:
        require(
            config.num_experts_per_tok in range(1, config.num_experts + 1),
            "num_experts_per_tok",
            f"between 1 and num_experts = {config.num_experts}",
        )
        require(config.moe_intermediate_size > 0, "moe_intermediate_size", "a positive integer")
    if len(config.moe_layers) < config.num_hidden_layers:
        require(config.intermediate_size > 0, "intermediate_size", "a positive integer (some layers are dense)")
