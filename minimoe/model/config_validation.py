"""Validation of config.json: unify its two spellings, refuse contradictions and impossible values.

The released checkpoints use the keys `num_experts`, `torch_dtype`, `rope_theta` and `rope_scaling`; files written by
transformers 5 use `num_local_experts`, `dtype` and `rope_parameters`. Both are read. A file that gives one setting
twice with different values is ambiguous and is refused.
"""

from itertools import chain
from typing import Any

from minimoe.errors import BadConfig, UnsupportedModel

# Spellings of other programs and model families. They are not read, but must not contradict.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "vocab_size": ("padded_vocab_size", "n_vocab"),
    "hidden_size": ("n_embd", "d_model", "n_embed", "embedding_size", "word_embed_proj_dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("n_kv_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"),
    "head_dim": ("attention_head_dim", "kv_channels", "d_kv", "d_head", "v_head_dim", "qk_head_dim"),
    "intermediate_size": ("ffn_dim", "ffn_hidden_size", "n_inner", "d_ff"),
    "moe_intermediate_size": ("expert_intermediate_size", "moe_ffn_hidden_size", "expert_ffn_hidden_size"),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts", "num_moe_experts"),
    "num_experts_per_tok": (
        "num_experts_per_token", "num_selected_experts", "experts_per_token", "top_k_experts", "moe_k", "moe_topk",
        "moe_top_k",
    ),
    "norm_topk_prob": ("norm_topk_probs", "normalize_topk_prob", "moe_renormalize", "route_norm"),
    "rms_norm_eps": ("norm_eps", "layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "norm_epsilon"),
    "rope_theta": ("rotary_emb_base", "rotary_base", "rope_base"),
    "max_position_embeddings": ("n_positions", "max_sequence_length", "max_seq_len", "n_ctx", "seq_length"),
    "tie_word_embeddings": ("tie_embeddings", "tie_embedding", "tied_embeddings", "share_embeddings"),
}  # fmt: skip
YARN_NUMBERS = ("factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow")
READ = frozenset(  # besides the fields of ModelConfig
    (
        "torch_dtype", "rope_parameters", "layer_types", "mlp_layer_types", "original_max_position_embeddings",
        *chain.from_iterable(SPELLINGS.values()),
    )
)  # fmt: skip


def modern_keys_to_released(raw: dict[str, Any], source: str) -> dict[str, Any]:
    """Rename the keys of transformers 5 to those of the released files; resolve rope_theta and rope_scaling."""
    settings = {"model_type": "qwen3_moe"} | raw
    for modern, released in (("num_local_experts", "num_experts"), ("torch_dtype", "dtype")):
        both = modern in raw and released in raw and raw[modern] != raw[released]
        if both and None not in (raw[modern], raw[released]):
            raise BadConfig(f"{source}: {modern} = {raw[modern]!r} but {released} = {raw[released]!r}. Keep one.")
        if raw.get(released) is None and raw.get(modern) is not None:
            settings[released] = raw[modern]
    if settings["model_type"] == "qwen3":
        settings["num_experts"] = 0
    settings["rope_theta"] = rope_theta(raw, source)
    settings["rope_scaling"] = rope_scaling(raw, source)
    hidden, heads = raw.get("hidden_size"), raw.get("num_attention_heads")
    if settings.get("head_dim") is None and isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
        settings["head_dim"] = hidden // heads
    return settings


def rope_theta(raw: dict[str, Any], source: str) -> Any:
    """The value given in the file, at the top level or in a RoPE object; None if there is none."""
    given = {"rope_theta": raw.get("rope_theta")}
    for key in ("rope_parameters", "rope_scaling"):
        given[f"{key}.rope_theta"] = rope_object(raw, key, source).get("rope_theta")
    values = [(name, value) for name, value in given.items() if value is not None]
    for name, value in values[1:]:
        if value != values[0][1]:
            raise BadConfig(f"{source}: {values[0][0]} = {values[0][1]!r} but {name} = {value!r}. Keep one.")
    return values[0][1] if values else None


def rope_scaling(raw: dict[str, Any], source: str) -> dict[str, Any] | None:
    """The YaRN settings, None for plain RoPE. Two different objects are ambiguous and are refused."""
    given = {
        key: rope_settings(rope_object(raw, key, source), key, source)
        for key in ("rope_parameters", "rope_scaling")
        if raw.get(key)
    }
    values = list(given.values())
    if len(values) == 2 and values[0] != values[1]:
        kinds = " but ".join(f"{key} says {'yarn' if value else 'default'}" for key, value in given.items())
        raise BadConfig(
            f"{source}: {kinds}, with other numbers. Keep one: put all of it into rope_parameters, or remove "
            "rope_parameters and write rope_theta beside rope_scaling."
        )
    yarn = values[0] if values else None
    window = raw.get("original_max_position_embeddings")
    if yarn is not None and window is not None and window != yarn.get("original_max_position_embeddings", window):
        raise BadConfig(
            f"{source}: original_max_position_embeddings = {window!r} but "
            f"{yarn['original_max_position_embeddings']!r} among the YaRN settings. Keep one."
        )
    return yarn


def rope_object(raw: dict[str, Any], key: str, source: str) -> dict[str, Any]:
    """`raw[key]`, {} if it is absent. Raises BadConfig if it is not an object."""
    value = raw.get(key) or {}
    if not isinstance(value, dict):
        raise BadConfig(f"{source}: {key} is {value!r}, expected an object or null.")
    return value


def rope_settings(rope: dict[str, Any], key: str, source: str) -> dict[str, Any] | None:
    """The YaRN settings in one object, None if it describes plain RoPE."""
    kinds = [rope[name] for name in ("rope_type", "type") if rope.get(name) is not None]
    if len(kinds) == 2 and kinds[0] != kinds[1]:
        raise BadConfig(f"{source}: {key} has rope_type {kinds[0]!r} but type {kinds[1]!r}. Keep one.")
    kind = kinds[0] if kinds else "default"
    if kind not in ("default", "yarn"):
        raise UnsupportedModel(f"{source}: rope type is {kind!r}; minimoe implements default and yarn.")
    rest = {name: value for name, value in rope.items() if name not in ("rope_type", "type", "rope_theta")}
    if rest.pop("partial_rotary_factor", None) not in (1, None):
        raise UnsupportedModel(
            f"{source}: {key}.partial_rotary_factor is {rope['partial_rotary_factor']!r}; minimoe implements only 1."
        )
    if kind == "yarn":
        return check_yarn(rest | {"rope_type": "yarn"}, key, source)
    used = sorted(name for name, value in rest.items() if value is not None)
    if used and not set(used) <= {*YARN_NUMBERS, "truncate"}:
        raise UnsupportedModel(f"{source}: {key} has {', '.join(used)}, which minimoe does not implement.")
    if used:
        raise BadConfig(
            f"{source}: {key} has {', '.join(used)}, which plain RoPE does not use. Add \"rope_type\": \"yarn\", or "
            "remove them."
        )
    return None


def check_yarn(rope: dict[str, Any], where: str, source: str) -> dict[str, Any]:
    """The YaRN settings, after checking their numbers. Raises BadConfig or UnsupportedModel."""
    unknown = sorted(set(rope) - {"rope_type", "truncate", *YARN_NUMBERS})
    if unknown:
        raise UnsupportedModel(f"{source}: {where} has {', '.join(unknown)}, which minimoe does not implement.")
    for key in YARN_NUMBERS:
        value = rope.get(key)
        if type(value) not in (int, float, type(None)) or (value is not None and not 0 < value < float("inf")):
            raise BadConfig(f"{source}: {where}.{key} is {value!r}, expected a positive number.")
    if rope.get("factor") is None:
        raise BadConfig(f"{source}: {where} says yarn but has no factor.")
    return rope


def check_spellings(config: Any, raw: dict[str, Any], source: str) -> None:
    """Raise BadConfig if another spelling of a key, or a list with an entry per layer, contradicts the ModelConfig."""
    for key, others in SPELLINGS.items():
        used = getattr(config, key)
        for other in others:
            value = raw.get(other)
            if value is not None and value != used and (config.num_experts or key not in MOE_ONLY):
                setting = f"{key} = {used!r}" if raw.get(key) is not None else f"{key} is absent, which means {used!r}"
                raise BadConfig(f"{source}: {other} = {value!r} but {setting}. Keep one, as {key}.")
    layers = config.num_hidden_layers
    moe = ["sparse" if config.is_moe(layer) else "dense" for layer in range(layers)]
    for key, expected in (("layer_types", ["full_attention"] * layers), ("mlp_layer_types", moe)):
        listed = raw.get(key)
        if listed and listed != expected:
            raise BadConfig(
                f"{source}: {key} does not fit num_hidden_layers = {layers}, mlp_only_layers and decoder_sparse_step. "
                "Remove it."
            )


MOE_ONLY = ("moe_intermediate_size", "num_experts", "num_experts_per_tok", "norm_topk_prob")


def check_values(config: Any, source: str) -> None:
    """Raise BadConfig if the values of a ModelConfig cannot describe a model."""

    def require(holds: bool, key: str, rule: str) -> None:
        if not holds:
            raise BadConfig(f"{source}: {key} is {getattr(config, key)!r}, expected {rule}.")

    def is_count(value: Any, minimum: int) -> bool:
        return type(value) is int and minimum <= value <= 2**31

    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"):
        require(is_count(getattr(config, key), 1), key, "a positive integer")
    require(config.num_hidden_layers <= 10_000, "num_hidden_layers", "at most 10,000")  # code iterates over them
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
