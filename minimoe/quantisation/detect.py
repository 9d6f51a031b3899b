"""Detection of a checkpoint's format from the quantization_config in its config.json."""

from __future__ import annotations

from typing import Any

from minimoe.errors import UnsupportedModel, shown
from minimoe.model.config import ModelConfig
from minimoe.quantisation.format import BLOCK, Format, is_packed
from minimoe.quantisation.fp8 import Fp8
from minimoe.quantisation.gptq import GptqInt4
from minimoe.quantisation.groupwise import INT4, INT8, METHOD
from minimoe.quantisation.unsupported_formats import ADVICE, READS, describe

PLAIN, FP8, GPTQ_INT4 = Format(), Fp8(), GptqInt4()
OWN = {"int4": INT4, "int8": INT8}

# quant_method -> setting -> its supported values; None: the setting is absent
READABLE: dict[str, dict[str, tuple[Any, ...]]] = {
    "fp8": {
        "fmt": ("e4m3", None),
        "activation_scheme": ("dynamic", None),
        "weight_block_size": ([BLOCK, BLOCK],),
        "scale_fmt": (None, "float"),
    },
    "gptq": {
        "bits": (4,),
        "group_size": (BLOCK,),
        "desc_act": (False,),
        "checkpoint_format": ("gptq", "gptq_v2", None),
        "sym": (True, False, None),
    },
    METHOD: {"bits": (4, 8), "group_size": (BLOCK,)},
}


def format_of(config: ModelConfig) -> Format:
    """The format of this config's checkpoint; plain without a quantization_config.

    Raises UnsupportedModel naming the unsupported setting.
    """
    settings = config.quantization_config
    if settings is None:
        return PLAIN
    method = settings.get("quant_method")
    if not isinstance(method, str) or method not in READABLE:
        description = describe(settings)
        raise UnsupportedModel(
            f"config.json has a quantization_config (quant_method {shown(method)})"
            f"{f': {description}' if description else ''}. {READS}. {ADVICE}"
        )
    for key, readable in READABLE[method].items():
        setting = settings.get(key)
        if not any(type(setting) is type(value) and setting == value for value in readable):
            raise UnsupportedModel(
                f"config.json: quantization_config has {key} {shown(setting)}; of {method} checkpoints minimoe reads "
                f"{key} {shown(readable[0])} only. Download the plain checkpoint of the same name."
            )
    refuse_exceptions(settings)
    if method == "gptq":
        return GptqInt4(2 if settings.get("checkpoint_format") == "gptq_v2" else 1, settings.get("sym") is True)
    return FP8 if method == "fp8" else OWN[f"int{settings['bits']}"]


def refuse_exceptions(settings: dict[str, Any]) -> None:
    """Raise UnsupportedModel if some linear layers are unpacked while others are packed; no released model has any."""
    for key in ("modules_to_not_convert", "modules_in_block_to_quantize", "dynamic"):
        listed = settings.get(key) or ()
        if key == "modules_to_not_convert" and isinstance(listed, list):
            listed = [name for name in listed if not isinstance(name, str) or is_packed(name)]
        if listed:
            raise UnsupportedModel(
                f"config.json: quantization_config has {key} {shown(listed)}; minimoe reads checkpoints whose "
                "attention projections and experts are all packed. Download the plain checkpoint of the same name."
            )
