"""Recognition of packed formats that minimoe does not read, by quantization_config or by tensor names.

Each has its usual name, for error messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

READS = (
    "minimoe reads plain checkpoints (bfloat16, float16, float32), the official FP8 ones (blocks of 128 x 128), "
    "GPTQ-Int4 in groups of 128, and what `minimoe quantise` writes"
)
ADVICE = "Download the plain checkpoint of the same model, or the one whose name ends in -FP8 or -GPTQ-Int4."

METHODS = {  # quant_method without "_", "-" and a prefix before "/" -> name of the format
    "aqlm": "AQLM", "autoround": "AutoRound (Intel)", "awq": "AWQ, int4 (AutoAWQ)", "bitnet": "BitNet",
    "eetq": "EETQ, int8", "exl2": "EXL2 (ExLlamaV2)", "exl3": "EXL3 (ExLlamaV3)", "fbgemmfp8": "FBGEMM FP8",
    "fpquant": "FP-Quant", "gguf": "GGUF (llama.cpp)", "higgs": "HIGGS", "hqq": "HQQ", "marlin": "Marlin, int4",
    "mlx": "MLX (Apple)", "modelopt": "NVIDIA ModelOpt", "modeloptfp4": "NVIDIA ModelOpt NVFP4", "mxfp4": "MXFP4",
    "petit": "NVFP4 (Petit)", "quanto": "Quanto", "quark": "AMD Quark", "quip": "QuIP#", "sinq": "SINQ",
    "spqr": "SpQR", "torchao": "torchao", "vptq": "VPTQ",
}  # fmt: skip
COMPRESSED = {  # `format` of compressed-tensors
    "pack-quantized": "W{bits}A16, int{bits} weights", "int-quantized": "W8A8, int8", "naive-quantized": "W{bits}",
    "nvfp4-pack-quantized": "NVFP4", "mxfp4-pack-quantized": "MXFP4", "marlin-24": "Marlin 2:4, int{bits}",
}  # fmt: skip

# endings of tensor names -> name of the format. All endings of a row must be present; the first such row counts.
NAMES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("lora_A.weight",), "a LoRA adapter that was not merged into its base model"),
    (("qweight", "qzeros", "scales", "g_idx"), "GPTQ"),
    (("qweight", "qzeros", "scales"), "AWQ, int4 (AutoAWQ)"),
    (("weight_packed", "weight_global_scale"), "compressed-tensors, NVFP4"),
    (("weight_packed",), "compressed-tensors, packed integers such as W4A16"),
    (("weight_scale_2",), "NVFP4 (NVIDIA ModelOpt)"),
    (("absmax",), "bitsandbytes, 4 bits"),
    (("SCB",), "bitsandbytes, int8"),
    (("trellis",), "EXL3 (ExLlamaV3)"),
    (("q_weight", "q_scale"), "EXL2 (ExLlamaV2)"),
    (("scales", "biases"), "MLX (Apple)"),
    (("weight_scale_inv",), "FP8 in blocks"),
    (("weight_int4",), "int4 of `minimoe quantise`"),
    (("weight_int8",), "int8 of `minimoe quantise`"),
    (("weight_scale",), "FP8 or int8 with a scale for each matrix or row (compressed-tensors, FBGEMM, ModelOpt)"),
    (("qdata",), "torchao"),
    (("B", "s"), "Marlin, int4"),
)
READABLE = ("GPTQ", "FP8 in blocks", "int4 of", "int8 of")  # these lack only their quantization_config


def is_mlx(settings: dict[str, Any]) -> bool:
    """Whether these are settings of MLX: group size and bits without a quant_method."""
    return "quant_method" not in settings and {"group_size", "bits"} <= settings.keys()


def describe(settings: dict[str, Any]) -> str | None:
    """The usual name of the format of a quantization_config; None if it is unknown."""
    method = settings.get("quant_method")
    if method is None or method == "":
        if is_mlx(settings):
            return f"MLX (Apple), {bits_of(settings)}"
        legacy = [key for key in ("load_in_4bit", "load_in_8bit") if settings.get(key) or settings.get("_" + key)]
        if legacy:
            return f"bitsandbytes, {legacy[0][8:].replace('bit', ' bits')}"
        if "config_groups" in settings:
            return compressed_tensors(settings)
        return None
    if not isinstance(method, str):
        return None
    short = method.lower().rpartition("/")[2].replace("_", "").replace("-", "")
    if short == "bitsandbytes":
        return f"bitsandbytes, {'8' if settings.get('load_in_8bit') else '4'} bits"
    if short == "compressedtensors":
        return compressed_tensors(settings)
    known = METHODS.get(short)
    if known and short == "modelopt" and isinstance(settings.get("quant_algo"), str):
        return f"{known} {settings['quant_algo'][:20]}"
    return known


def bits_of(settings: dict[str, Any]) -> str:
    """ "4 bits", or "packed" if `bits` is not an integer."""
    bits = settings.get("bits")
    return f"{bits} bits" if type(bits) is int else "packed"


def compressed_tensors(settings: dict[str, Any]) -> str:
    """The usual name of a compressed-tensors scheme: W4A16, FP8-dynamic, W8A8, NVFP4."""
    groups = settings.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    first = first if isinstance(first, dict) else {}
    weights, inputs = (
        group if isinstance(group := first.get(key), dict) else {} for key in ("weights", "input_activations")
    )
    scheme = settings.get("format")
    bits = weights.get("num_bits")
    if scheme == "float-quantized" or (weights.get("type") == "float" and bits == 8):
        words = "FP8-dynamic" if inputs.get("dynamic") else "FP8, static"
    elif isinstance(scheme, str) and scheme in COMPRESSED:
        words = COMPRESSED[scheme].format(bits=bits if type(bits) is int else "?")
    else:
        words = "scheme not known"
    return f"compressed-tensors, {words}"


def describe_names(names: Iterable[str]) -> str | None:
    """The packed format with tensors of these names; None if no known format has them."""
    endings, is_switch = set[str](), False
    for name in names:
        endings.add(name.rpartition(".")[2])
        endings |= {"lora_A.weight"} if ".lora_A." in name else set()
        is_switch = is_switch or ".switch_mlp." in name
    known = next((format_name for needed, format_name in NAMES if endings.issuperset(needed)), None)
    if known is None and any(ending.endswith("_blocks") for ending in endings):
        known = "MXFP4"
    return "MLX (Apple)" if is_switch else known
