"""ModelConfig: everything that config.json says about a Qwen3 model, checked once and never retyped.

Two spellings of the same file are in circulation. The released checkpoints say `num_experts`, `torch_dtype`, `rope_theta`
and `rope_scaling`; files written by transformers 5 say `num_local_experts`, `dtype` and `rope_parameters`. Both are read.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from minimoe.errors import BadArgument, BadConfig, UnsupportedModel
from minimoe.paths import models_folder

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
BITS_PER_VALUE = {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and switches of one Qwen3 model (dense `qwen3` or Mixture-of-Experts `qwen3_moe`).

    Field names are the keys of the released config.json files. For a dense model `num_experts` is 0.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int = 0
    moe_intermediate_size: int = 0
    num_experts: int = 0
    num_experts_per_tok: int = 0
    norm_topk_prob: bool = False
    decoder_sparse_step: int = 1
    mlp_only_layers: tuple[int, ...] = ()
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    rope_scaling: dict[str, Any] | None = None
    max_position_embeddings: int = 32_768
    tie_word_embeddings: bool = False
    router_aux_loss_coef: float = 0.001
    initializer_range: float = 0.02
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    dtype: str = "bfloat16"
    quantization_config: dict[str, Any] | None = None  # how the files are packed; the model itself is the same
    model_type: str = "qwen3_moe"

    # ---------------------------------------------------------------- where a config comes from

    @classmethod
    def from_file(cls, path: str | Path) -> "ModelConfig":
        """Read a config.json (or the directory that holds one). Raises BadConfig or UnsupportedModel."""
        file = Path(path)
        file = file / "config.json" if file.is_dir() else file
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadConfig(f"{file} cannot be read: {error.strerror or error}. A checkpoint needs a config.json.") from error
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise BadConfig(f"{file} is not JSON ({error}). Download it again.") from error
        return cls.from_dict(raw, source=str(file))

    @classmethod
    def named(cls, name: str) -> "ModelConfig":
        """A member of the real family by its published name, e.g. "Qwen3-235B-A22B"; facts in data/models."""
        short = name.removeprefix("Qwen/")
        known = sorted(file.stem for file in models_folder().glob("*.json"))
        if short not in known:
            raise BadArgument(f"no model is named {name!r}. Known: {', '.join(known)}.")
        file = models_folder() / f"{short}.json"
        return cls.from_dict(json.loads(file.read_text(encoding="utf-8"))["config"], source=str(file))

    @classmethod
    def from_dict(cls, raw: dict[str, Any], source: str = "config.json") -> "ModelConfig":
        """Build from the parsed JSON of a config file, in either spelling; `source` names it in errors."""
        if not isinstance(raw, dict):
            raise BadConfig(f"{source} holds {type(raw).__name__}, expected a JSON object of settings.")
        refuse_what_is_not_implemented(raw, source)
        settings = modern_keys_to_released(raw, source)
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in settings.items() if key in known and value is not None}
        missing = [f.name for f in fields(cls)[:6] if f.name not in values]
        if missing:
            raise BadConfig(f"{source} lacks {', '.join(missing)}. Is it the config.json of a Qwen3 checkpoint?")
        for key in ("mlp_only_layers", "eos_token_id"):
            if isinstance(values.get(key), list):
                values[key] = tuple(values[key])
        config = cls(**values)
        config.check(source)
        return config

    def to_dict(self) -> dict[str, Any]:
        """The content of a config.json in the spelling of the released checkpoints."""
        raw: dict[str, Any] = asdict(self)
        raw["torch_dtype"] = raw.pop("dtype")
        raw["architectures"] = ["Qwen3MoeForCausalLM" if self.model_type == "qwen3_moe" else "Qwen3ForCausalLM"]
        raw |= {"attention_bias": False, "attention_dropout": 0.0, "hidden_act": "silu", "use_cache": True}
        raw |= {"sliding_window": None, "use_sliding_window": False}
        raw["mlp_only_layers"] = list(self.mlp_only_layers)
        if self.quantization_config is None:
            del raw["quantization_config"]
        if isinstance(self.eos_token_id, tuple):
            raw["eos_token_id"] = list(self.eos_token_id)
        if self.model_type == "qwen3":
            for key in MOE_KEYS:
                del raw[key]
        return dict(sorted(raw.items()))

    def check(self, source: str = "ModelConfig") -> None:
        """Raise BadConfig if the values cannot describe a model."""

        def require(holds: bool, key: str, rule: str) -> None:
            if not holds:
                raise BadConfig(f"{source}: {key} is {getattr(self, key)!r}, expected {rule}.")

        def is_count(value: Any, least: int) -> bool:
            return type(value) is int and least <= value <= 2**31

        for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"):
            require(is_count(getattr(self, key), 1), key, "a positive integer")
        require(is_count(self.head_dim, 2) and self.head_dim % 2 == 0, "head_dim", "an even integer (RoPE turns pairs)")
        require(self.num_attention_heads % self.num_key_value_heads == 0, "num_attention_heads",
                f"a multiple of num_key_value_heads = {self.num_key_value_heads}")
        for key in ("rms_norm_eps", "rope_theta"):
            value = getattr(self, key)
            require(type(value) in (int, float) and 0 < value < float("inf"), key, "a positive number")
        require(is_count(self.max_position_embeddings, 1), "max_position_embeddings", "a positive integer")
        require(type(self.initializer_range) in (int, float), "initializer_range", "a number")
        require(type(self.router_aux_loss_coef) in (int, float), "router_aux_loss_coef", "a number")
        for key in ("norm_topk_prob", "tie_word_embeddings"):
            require(type(getattr(self, key)) is bool, key, "true or false")
        require(self.dtype in ("bfloat16", "float16", "float32", "float64"), "dtype", "bfloat16, float16 or float32")
        require(isinstance(self.mlp_only_layers, tuple) and all(is_count(n, 0) for n in self.mlp_only_layers),
                "mlp_only_layers", "a list of layer numbers")
        require(is_count(self.decoder_sparse_step, 1), "decoder_sparse_step", "a positive integer")
        for key in ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "intermediate_size"):
            require(is_count(getattr(self, key), 0), key, "an integer")
        if self.moe_layers:
            require(self.num_experts_per_tok in range(1, self.num_experts + 1), "num_experts_per_tok",
                    f"between 1 and num_experts = {self.num_experts}")
            require(self.moe_intermediate_size > 0, "moe_intermediate_size", "a positive integer")
        if len(self.moe_layers) < self.num_hidden_layers:
            require(self.intermediate_size > 0, "intermediate_size", "a positive integer (some layers are dense)")

    # ---------------------------------------------------------------- what follows from the numbers

    def is_moe(self, layer: int) -> bool:
        """Whether layer number `layer` has a router and experts instead of one dense feed-forward."""
        return (
            self.num_experts > 0
            and layer not in self.mlp_only_layers
            and (layer + 1) % self.decoder_sparse_step == 0
        )

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """The numbers of the Mixture-of-Experts layers."""
        return tuple(layer for layer in range(self.num_hidden_layers) if self.is_moe(layer))

    @property
    def parameters_per_expert(self) -> int:
        """gate_proj, up_proj and down_proj of one expert."""
        return 3 * self.hidden_size * self.moe_intermediate_size

    @property
    def total_parameters(self) -> int:
        """All parameters, both embedding matrices included (once if they are tied)."""
        hidden, heads = self.hidden_size, self.num_attention_heads + self.num_key_value_heads
        attention = 2 * heads * self.head_dim * hidden + 2 * self.head_dim
        norms = 2 * hidden
        router = self.num_experts * hidden
        moe, layers = len(self.moe_layers), self.num_hidden_layers
        feed_forward = moe * (router + self.num_experts * self.parameters_per_expert)
        feed_forward += (layers - moe) * 3 * hidden * self.intermediate_size
        embeddings = self.vocab_size * hidden * (1 if self.tie_word_embeddings else 2)
        return layers * (attention + norms) + feed_forward + embeddings + hidden

    @property
    def active_parameters(self) -> int:
        """Parameters that take part in one token: all but the experts that were not selected (as the model card counts)."""
        idle_experts = self.num_experts - self.num_experts_per_tok
        return self.total_parameters - len(self.moe_layers) * idle_experts * self.parameters_per_expert

    def kv_cache_bytes_per_token(self, precision: Any = "bf16") -> int:
        """Bytes that one token adds to the KV cache, over all layers. `precision`: "bf16", "fp8", ... or a torch dtype."""
        values = 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim
        return values * bits_per_value(precision) // 8


MOE_KEYS = ("moe_intermediate_size", "num_experts", "num_experts_per_tok", "norm_topk_prob", "decoder_sparse_step",
            "mlp_only_layers", "router_aux_loss_coef")


def bits_per_value(precision: Any) -> int:
    """Bits of one stored value: "bf16", "fp8", "int4", ... or a torch dtype. Raises BadArgument."""
    if isinstance(precision, str) and precision in BITS_PER_VALUE:
        return BITS_PER_VALUE[precision]
    if hasattr(precision, "itemsize"):
        return 8 * int(precision.itemsize)
    raise BadArgument(f"precision is {precision!r}, expected one of {', '.join(BITS_PER_VALUE)} or a torch dtype.")


def refuse_what_is_not_implemented(raw: dict[str, Any], source: str) -> None:
    """Raise UnsupportedModel for a switch that would change the forward pass and that we do not have."""
    model_type = raw.get("model_type", "qwen3_moe")
    if model_type not in ("qwen3", "qwen3_moe"):
        raise UnsupportedModel(f"{source}: model_type is {model_type!r}; minimoe implements qwen3 and qwen3_moe.")
    for key, allowed in REQUIRED_VALUES.items():
        if key in raw and raw[key] not in allowed:
            found = str(raw[key])[:60]
            raise UnsupportedModel(f"{source}: {key} is {found}; minimoe implements only {key} = {allowed[0]}.")
    layer_types = raw.get("layer_types") or []
    if any(kind != "full_attention" for kind in layer_types):
        raise UnsupportedModel(f"{source}: layer_types has other kinds than full_attention, which minimoe does not implement.")


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
    if settings.get("head_dim") is None and isinstance(raw.get("hidden_size"), int) and raw.get("num_attention_heads"):
        settings["head_dim"] = raw["hidden_size"] // raw["num_attention_heads"]
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
