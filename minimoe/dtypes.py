"""Number formats: their widths, and names in config.json, safetensors headers, PyTorch and this library.

Importing this module does not import torch; only `TORCH_DTYPES` and `NAMED_DTYPES` do.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    TORCH_DTYPES: dict[str, torch.dtype]  # by safetensors code: those of stored weights
    NAMED_DTYPES: dict[str, torch.dtype]  # by long and short name: those that a model may compute with

# Every code of the safetensors format with its bytes per value; https://huggingface.co/docs/safetensors
BYTES_PER_VALUE = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
CODES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}  # config.json -> safetensors
SHORT_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64"}
DTYPE_NAMES = tuple(name for pair in SHORT_NAMES.items() for name in pair)  # "bf16", "bfloat16", ...
WIDTHS = {name: BYTES_PER_VALUE[code] for name, code in CODES.items()}  # bytes per value, by the name in config.json
PLAIN_BYTES = {short: WIDTHS[SHORT_NAMES[short]] for short in ("fp32", "bf16", "fp16")}
BITS_PER_VALUE = {short: 8 * size for short, size in PLAIN_BYTES.items()} | {"fp8": 8, "int8": 8, "int4": 4}
TORCH_NAMES = {code: name for name, code in CODES.items()} | {
    "F8_E4M3": "float8_e4m3fn", "I8": "int8", "U8": "uint8", "I32": "int32",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """The two tables of torch dtypes, created on first use (PEP 562)."""
    if name not in ("TORCH_DTYPES", "NAMED_DTYPES"):
        raise AttributeError(f"module 'minimoe.dtypes' has no attribute {name!r}")
    import torch

    known = {"TORCH_DTYPES": TORCH_NAMES, "NAMED_DTYPES": {key: SHORT_NAMES.get(key, key) for key in DTYPE_NAMES}}
    globals()[name] = {key: getattr(torch, torch_name) for key, torch_name in known[name].items()}
    return globals()[name]
