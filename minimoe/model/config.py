"""ModelConfig: the settings in the config.json of a Qwen3 model, and the counts derived from them."""

import json
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from minimoe.dtypes import BITS_PER_VALUE
from minimoe.errors import BadArgument, BadConfig
from minimoe.model.config_released import released_name, warn_of_absent_keys, warn_of_differences
from minimoe.model.config_switches import refuse_unimplemented, warn_of_unknown_keys
from minimoe.model.config_validation import READ, check_spellings, check_values, modern_keys_to_released
from minimoe.paths import models_folder

CHUNK = 512  # positions of a prompt per forward pass


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
    quantization_config: dict[str, Any] | None = None  # how the files are packed; the model is the same
    model_type: str = "qwen3_moe"

    # ---------------------------------------------------------------- construction

    @classmethod
    def from_file(cls, path: str | Path) -> "ModelConfig":
        """Read a config.json (or the directory that holds one). Raises BadConfig or UnsupportedModel.

        A MinimoeWarning lists keys without effect and differences from the released model of that name.
        """
        file = Path(path)
        file = file / "config.json" if file.is_dir() else file
        if file.exists() and not file.is_file():  # checked first: opening a pipe would block forever
            raise BadConfig(f"{file} is not a regular file. A checkpoint needs a config.json.")
        try:
            raw = json.loads(file.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise BadConfig(
                f"{file} cannot be read: {error.strerror or error}. A checkpoint needs a config.json."
            ) from error
        except UnicodeDecodeError as error:
            raise BadConfig(f"{file} is not UTF-8 text ({error}). Save it as UTF-8, or download it again.") from error
        except (ValueError, RecursionError) as error:
            raise BadConfig(f"{file} is not JSON ({error}). Download it again.") from error
        config = cls.from_dict(raw, source=str(file))
        name = released_name(raw, file, {known.stem for known in models_folder().glob("*.json")})
        if name is not None:
            warn_of_differences(config, cls.named(name), name, raw, str(file))
        else:
            warn_of_absent_keys(config, raw, str(file))
        return config

    @classmethod
    def named(cls, name: str) -> "ModelConfig":
        """The config of a released model by its published name, e.g. "Qwen3-235B-A22B", from data/models.

        Case is ignored; `hf://` and the owner are optional. Raises BadArgument for any other name.
        """
        file = models_folder() / f"{published_name(name)}.json"
        return cls.from_dict(json.loads(file.read_text(encoding="utf-8"))["config"], source=str(file))

    @classmethod
    def from_dict(cls, raw: dict[str, Any], source: str = "config.json") -> "ModelConfig":
        """Build from the parsed JSON of a config file, in either spelling. `source`: its name in errors."""
        if not isinstance(raw, dict):
            raise BadConfig(f"{source} holds {type(raw).__name__}, expected a JSON object of settings.")
        refuse_unimplemented(raw, source)
        settings = modern_keys_to_released(raw, source)
        known = frozenset(field.name for field in fields(cls))
        values = {key: value for key, value in settings.items() if key in known and value is not None}
        missing = [f.name for f in fields(cls)[:6] if f.name not in values]
        if raw.get("model_type") == "qwen3_moe" and "num_experts" not in values:
            missing.append("num_experts")
        if missing:
            raise BadConfig(f"{source} lacks {', '.join(missing)}. Is it the config.json of a Qwen3 checkpoint?")
        for key in ("mlp_only_layers", "eos_token_id"):
            if isinstance(values.get(key), list):
                values[key] = tuple(values[key])
        config = cls(**values)
        check_values(config, source)
        check_spellings(config, raw, source)
        warn_of_unknown_keys(raw, READ | known, source)
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

    # ---------------------------------------------------------------- derived counts

    def is_moe(self, layer: int) -> bool:
        """Whether layer `layer` has a router and experts instead of a dense feed-forward."""
        return (
            self.num_experts > 0 and layer not in self.mlp_only_layers and (layer + 1) % self.decoder_sparse_step == 0
        )

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """The numbers of the Mixture-of-Experts layers."""
        return tuple(layer for layer in range(self.num_hidden_layers) if self.is_moe(layer))

    @property
    def parameters_per_expert(self) -> int:
        """Parameters of one expert: gate_proj, up_proj and down_proj."""
        return 3 * self.hidden_size * self.moe_intermediate_size

    @property
    def total_parameters(self) -> int:
        """All parameters, including both embedding matrices (one if they are tied)."""
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
        """Parameters used for one token: all except the unselected experts (the model card's count)."""
        idle_experts = self.num_experts - self.num_experts_per_tok
        return self.total_parameters - len(self.moe_layers) * idle_experts * self.parameters_per_expert

    def kv_cache_bytes_per_token(self, precision: Any = "bf16") -> int:
        """Bytes one token adds to the KV cache over all layers. `precision`: "bf16", "fp8", ... or a torch dtype."""
        values = 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim
        return values * bits_per_value(precision) // 8


def published_name(name: str) -> str:
    """ "hf://qwen/QWEN3-30b-a3b" -> "Qwen3-30B-A3B". Raises BadArgument, with the closest names, if there is none."""
    known = {file.stem.lower(): file.stem for file in sorted(models_folder().glob("*.json"))}
    short = name.strip().lower().removeprefix("hf://").removeprefix("qwen/").rstrip("/")
    if short not in known:
        close = [known[match] for match in get_close_matches(short, known, n=3)]
        suggestion = f" Did you mean {' or '.join(close)}?" if close else ""
        raise BadArgument(f"no model is named {name!r}.{suggestion} Known: {', '.join(sorted(known.values()))}.")
    return known[short]


MOE_KEYS = (
    "moe_intermediate_size",
    "num_experts",
    "num_experts_per_tok",
    "norm_topk_prob",
    "decoder_sparse_step",
    "mlp_only_layers",
    "router_aux_loss_coef",
)


def bits_per_value(precision: Any) -> int:
    """Bits of one stored value: "bf16", "fp8", "int4", ... or a torch dtype. Raises BadArgument."""
    if isinstance(precision, str) and precision in BITS_PER_VALUE:
        return BITS_PER_VALUE[precision]
    if hasattr(precision, "itemsize"):
        return 8 * int(precision.itemsize)
    raise BadArgument(f"precision is {precision!r}, expected one of {', '.join(BITS_PER_VALUE)} or a torch dtype.")
