"""Products with packed weights: a matrix of an expert of the 235B (1536 x 4096) and a few rows in bfloat16.

Twelve matrices in turn, so that none stays in a cache: the bfloat16 ones are 151 MB.
"""

import torch
from torch.nn import functional as F

from benchmarks.stored import THREADS, interleaved, limits, machine, threads, write
from minimoe.quantisation.groupwise import INT4, INT8
from minimoe.quantisation.packed_products import product_of

ROWS = (1, 8, 32, 128)
SHAPE = (1536, 4096)
MATRICES = 12


@torch.no_grad()
def main() -> None:
    """Measure, print a table, write data/benchmarks/packed.json."""
    facts, most, rows = machine(), limits(), []
    generator = torch.Generator().manual_seed(0)
    plain = [torch.randn(*SHAPE, generator=generator).mul_(0.02).bfloat16() for _ in range(MATRICES)]
    packed = {format: [format.pack(weight) for weight in plain] for format in (INT4, INT8)}
    products = [product_of(parts, lambda: None) for parts in packed[INT4]]
    print(f"\n{SHAPE[0]} x {SHAPE[1]}, microseconds  {facts['processor']}, {facts['instruction_set']}")
    for count in THREADS:
        for tokens in ROWS:
            x = torch.randn(tokens, SHAPE[1], generator=generator).bfloat16()
            ways = {
                "bfloat16": lambda x=x: [F.linear(x, weight) for weight in plain],
                "int4, packed product": lambda x=x: [product.packed_product(x) for product in products],
                "int4, unpacked": lambda x=x: [F.linear(x, INT4.unpack(parts, x.dtype)) for parts in packed[INT4]],
                "int8, unpacked": lambda x=x: [F.linear(x, INT8.unpack(parts, x.dtype)) for parts in packed[INT8]],
            }
            with threads(count):
                found = interleaved(f"{tokens} rows, {count} threads", ways, rounds=5)
            for way, times in found.items():
                each = {key: seconds / MATRICES for key, seconds in times.items()}
                rows.append({"threads": count, "rows": tokens, "way": way, **each})
                speed = found["bfloat16"]["seconds"] / times["seconds"]
                print(f"  {count} threads, {tokens:3d} rows, {way:22s}{each['seconds'] * 1e6:9.0f}   "
                      f"speed x {speed:5.2f} of bfloat16")  # fmt: skip
    write("packed", facts, most, rows)
