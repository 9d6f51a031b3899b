"""Which attention kernel a device runs, and the bytes that are alive while it runs. Pure arithmetic, no torch.

    flash    PyTorch's FlashAttention: 16-bit values, head_dim a multiple of 8 up to 256, compute capability 8.0 to 12.1
             (check_flash_attention_hardware_support and check_head_dim_size_flash in PyTorch's
             aten/src/ATen/native/transformers/cuda/sdp_utils.cpp). Beside its output it keeps a float32 number for each
             query and head.
    plain    what is left everywhere else (V100, T4, float32, AMD): scores and softmax of all query heads written out in
             float32, keys and values in float32 and repeated for every query head.
    cpu      PyTorch's kernel for the CPU: fused, but the mask is written out, as bool and as values.

The plain kernel (PyTorch's _scaled_dot_product_attention_math), with S = query heads x chunk x context scores, of which
each takes 4 bytes as a score, 4 after the softmax and 1 where rows without any key are looked for:

    9 S                           scores, softmax, a bool
    + 8 context Q                 keys and values, float32, for all query heads
    + 8 context K                 the same before they are repeated, if the model is in 16 bits
    + chunk Q (12 + w)            queries in float32 and scaled, the output in float32 and in w bytes
    + 5 chunk context             the mask, as bool and in float32
    + 4 context Q - 5 S           scaled keys, alive before the softmax, if that is more

with Q query rows and K key rows (heads x head_dim) on the rank. tests/scale/test_work_space.py compares it with tensors.
"""

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig

KERNELS = ("flash", "plain", "cpu")
FIRST_FLASH, LAST_FLASH = (8, 0), (12, 1)  # compute capabilities
LARGEST_FLASH_HEAD = 256
UNKNOWN_DEVICE = "plain"  # what is assumed if nothing is known: it never needs less than the others


def kernel_of(capability: tuple[int, int] | None) -> str:
    """The kernel of a device with this CUDA compute capability, such as (8, 6); None: it has none."""
    return "flash" if capability is not None and FIRST_FLASH <= capability <= LAST_FLASH else "plain"


def kernel_for(config: ModelConfig, precision: str, kernel: str) -> str:
    """The kernel that really runs: FlashAttention does without float32 and without some sizes of a head."""
    fits = precision != "fp32" and config.head_dim % 8 == 0 and config.head_dim <= LARGEST_FLASH_HEAD
    return "plain" if kernel == "flash" and not fits else kernel


def kernel_bytes(kernel: str, chunk: int, context: int, queries: int, keys: int, head_dim: int, width: int) -> int:
    """Bytes alive at most inside the kernel, its output included; its inputs are not.

    chunk: queries. context: keys. queries, keys: rows on the rank, heads x head_dim. width: bytes of a value.
    """
    heads = queries // head_dim
    output = chunk * queries * width
    if kernel == "flash":
        return output + 4 * heads * chunk
    if kernel == "cpu":
        return output + (chunk * context * (1 + width) if chunk > 1 else 0)
    scores = heads * chunk * context
    most = 9 * scores + max(0, 4 * context * queries - 5 * scores)
    repeated = 8 * context * queries + (8 * context * keys if width < 4 else 0)
    return most + repeated + chunk * queries * (12 + width) + 5 * chunk * context


def check_kernel(kernel: str) -> str:
    """`kernel` if it is one; BadArgument otherwise."""
    if kernel not in KERNELS:
        raise BadArgument(f"kernel is {kernel!r}, expected one of {', '.join(KERNELS)}.")
    return kernel
