"""The attention kernel that a device runs, and the bytes allocated while it runs. Pure arithmetic, no torch.

    flash    PyTorch's FlashAttention: 16-bit values, head_dim a multiple of 8 up to 256, compute capability 8.0 to 12.1
             (check_flash_attention_hardware_support and check_head_dim_size_flash in PyTorch's
             aten/src/ATen/native/transformers/cuda/sdp_utils.cpp). Besides its output it stores one float32 number for
             each query and head.
    plain    the fallback everywhere else (V100, T4, float32, AMD): scores and softmax of all query heads are stored in
             float32, keys and values are converted to float32 and repeated for every query head.
    cpu      PyTorch's kernel for the CPU: fused, but the mask is stored, as bool and as values, and each thread has its
             own buffers; three times the output is an upper bound for these.

The plain kernel (_scaled_dot_product_attention_math in PyTorch's aten/src/ATen/native/transformers/attention.cpp, as of
2.13), with Q query rows and K key rows (heads x head_dim) on the rank, S = query heads x chunk x context scores, and
h = 1 for a model in 16 bits, which it copies to float32 (0 for float32):

    8 context Q                 keys and values repeated for every query head; nothing if their numbers are equal
    + 8 h context K             their float32 copies before the repetition
    + (4 + 4 h) chunk Q         queries, scaled, and their copy
    + (2 + w) chunk context     the mask, as bool and as values of w bytes
    + the largest of
        4 S + 4 context Q                     scores, and the scaled keys that they are computed from
        9 S                                   scores, softmax, and a bool for each score to detect rows without any key
        (4 + h w) (S + chunk Q)               softmax and output, both returned in the model's dtype

tests/scale/planner/test_work_space.py compares this formula with measured tensor allocations.
"""

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig

KERNELS = ("flash", "plain", "cpu")
FIRST_FLASH, LAST_FLASH = (8, 0), (12, 1)  # compute capabilities
LARGEST_FLASH_HEAD = 256
UNKNOWN_DEVICE = "plain"  # the assumption for an unknown device: never needs less than the others


def kernel_of(capability: tuple[int, int] | None) -> str:
    """The kernel of a device with this CUDA compute capability, such as (8, 6); None if it has none."""
    return "flash" if capability is not None and FIRST_FLASH <= capability <= LAST_FLASH else "plain"


def kernel_for(config: ModelConfig, precision: str, kernel: str) -> str:
    """The kernel that actually runs: FlashAttention supports neither float32 nor every head_dim."""
    supported = precision != "fp32" and config.head_dim % 8 == 0 and config.head_dim <= LARGEST_FLASH_HEAD
    return "plain" if kernel == "flash" and not supported else kernel


def kernel_bytes(kernel: str, chunk: int, context: int, queries: int, keys: int, head_dim: int, width: int) -> int:
    """Peak bytes allocated inside the kernel, including its output and excluding its inputs.

    chunk: number of query positions. context: number of key positions. queries, keys: rows on the rank (heads x
    head_dim). width: bytes per value.
    """
    heads = queries // head_dim
    if kernel == "flash":
        return chunk * queries * width + 4 * heads * chunk
    if kernel == "cpu":
        return 4 * chunk * queries * width + (chunk * context * (1 + width) if chunk > 1 else 0)
    scores, copied = heads * chunk * context, width < 4
    kept = 8 * context * queries if queries > keys else 0
    kept += 8 * copied * context * keys + (4 + 4 * copied) * chunk * queries + (2 + width) * chunk * context
    returned = (4 + copied * width) * (scores + chunk * queries)
    return kept + max(4 * scores + 4 * context * queries, 9 * scores, returned)


def check_kernel(kernel: str) -> str:
    """Return `kernel` if it is known; raise BadArgument otherwise."""
    if kernel not in KERNELS:
        raise BadArgument(f"kernel is {kernel!r}, expected one of {', '.join(KERNELS)}.")
    return kernel
