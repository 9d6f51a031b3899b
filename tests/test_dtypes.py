"""One table of number formats, which agrees with PyTorch and loads it only on demand."""

import subprocess
import sys

import torch

from minimoe import dtypes


def test_the_tables_agree_with_torch():
    for code, dtype in dtypes.TORCH_DTYPES.items():
        assert dtype.itemsize == dtypes.BYTES_PER_VALUE[code], code
    assert dtypes.NAMED_DTYPES["bf16"] is dtypes.NAMED_DTYPES["bfloat16"] is torch.bfloat16
    assert tuple(dtypes.NAMED_DTYPES) == dtypes.DTYPE_NAMES
    for name, width in dtypes.WIDTHS.items():
        assert getattr(torch, name).itemsize == width
    assert dtypes.PLAIN_BYTES == {"bf16": 2, "fp16": 2, "fp32": 4}


def test_names_and_widths_need_no_torch():
    script = "import sys, minimoe.dtypes as d; d.WIDTHS, d.DTYPE_NAMES; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
