"""quantise: convert a checkpoint to int4 or int8. The 470 GB of a large checkpoint become 123 GB, read once.

It needs memory for one matrix (and one buffer), whatever the size of the checkpoint: the headers of the new files
follow from the config alone, so each matrix is packed and written immediately.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from minimoe.atomic import write
from minimoe.checkpoint.folder_transaction import replacing
from minimoe.checkpoint.layout import Expected, expected_tensors
from minimoe.checkpoint.load import compare_tied_head
from minimoe.checkpoint.match import Placed, match
from minimoe.checkpoint.open import OpenedCheckpoint, open_checkpoint
from minimoe.checkpoint.resolve import folder_name
from minimoe.checkpoint.save import files_of_checkpoint
from minimoe.checkpoint.shard_writer import ShardWriter, as_json, split
from minimoe.checkpoint.weights.convert import MatrixReader, converted, stored_matrices
from minimoe.checkpoint.weights.packed_size import bits_per_parameter, require_packed
from minimoe.checkpoint.weights.tensor_reader import STAGING_BYTES, Filler
from minimoe.dtypes import CODES, TORCH_DTYPES
from minimoe.errors import BadArgument, NotFinite, WriteFailed
from minimoe.model.config import ModelConfig
from minimoe.model.finite import ADVICE, is_finite
from minimoe.quantisation import format_of, is_packed
from minimoe.quantisation.detect import OWN
from minimoe.text.tokenizer_files import FILE_NAMES as TOKENIZER_FILES


@dataclass(frozen=True)
class Quantisation:
    """A validated conversion that has not yet run: see `prepare`."""

    opened: OpenedCheckpoint
    plan: list[Placed]
    config: ModelConfig  # of the result
    out: Path
    shards: list[list[Expected]]

    @property
    def bytes_to_read(self) -> int:
        return sum(placed.entry.nbytes for placed in self.plan)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each tensor to write, by name."""
        return {tensor.name: tensor.nbytes(2) for shard in self.shards for tensor in shard}

    @property
    def bytes_to_write(self) -> int:
        return sum(self.sizes.values())

    def __str__(self) -> str:
        source, target = format_of(self.opened.config), format_of(self.config)
        name = self.opened.config.dtype if source.name == "plain" else source.name
        bits = ", ".join(f"{part} {value:.3f}" for part, value in bits_per_parameter(self.config, self.sizes).items())
        return (
            f"{self.opened.source} ({name}, {self.bytes_to_read:,} bytes) -> {self.out} ({target.name}, "
            f"{self.bytes_to_write:,} bytes in {len(self.shards)} file(s))\nbits a parameter: {bits}"
        )


def prepare(path: str | Path, to: str, out: str | Path, max_shard_bytes: int = 4_000_000_000) -> Quantisation:
    """Check everything that can be checked without reading the weights: config, headers, names, and disk space.

    path: a plain or packed checkpoint, a folder or remote. to: "int4" or "int8". out: the folder to write.
    Raises the errors of `open_checkpoint` and `match`, BadArgument, and WriteFailed if there is too little disk space.
    """
    if to not in OWN:
        raise BadArgument(f"to is {to!r}, expected {' or '.join(OWN)}.")
    if type(max_shard_bytes) is not int or max_shard_bytes < 1:
        raise BadArgument(f"max_shard_bytes is {max_shard_bytes!r}, expected a positive number of bytes.")
    target = Path(folder_name(out, "out")).expanduser()
    opened = open_checkpoint(path, cache_bytes=0)
    if target.resolve() == opened.folder.resolve():
        raise BadArgument(f"out is {str(out)!r}, the folder that is read. Choose another folder.")
    if format_of(opened.config).name == to:
        raise BadArgument(f"{opened.source} is in {to} already. There is nothing to do.")
    dtype = opened.config.dtype if opened.config.dtype in ("bfloat16", "float16") else "bfloat16"
    config = replace(opened.config, dtype=dtype, quantization_config=OWN[to].settings())
    plan = match(opened.config, opened.shards)
    work = Quantisation(opened, plan, config, target, split(expected_tensors(config), 2, max_shard_bytes))
    require_packed(config, work.sizes)
    require_disk(target, work.bytes_to_write)
    return work


def require_disk(folder: Path, nbytes: int) -> None:
    """Raise WriteFailed if the disk of `folder`, which need not exist yet, has less than `nbytes` free."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < nbytes * 1.01:  # 1 % for headers, index and the file system's own data
        raise WriteFailed(
            f"{folder} would need {nbytes:,} bytes, and the disk has {free:,} left. Free some space, or choose a "
            "folder on another disk with --out."
        )


def quantise(path: str | Path, to: str, out: str | Path, max_shard_bytes: int = 4_000_000_000) -> Quantisation:
    """Convert the checkpoint at `path` to format `to` and write it to the folder `out`, in one pass; arguments and
    errors as `prepare`.

    Attention projections and experts (or the dense feed-forward) are packed, everything else stays in 16 bits.
    Tokenizer files are copied. All new files appear in `out` atomically at the end, replacing an existing checkpoint.
    """
    work = prepare(path, to, out, max_shard_bytes)
    carry_out(work)
    return work


def carry_out(work: Quantisation) -> None:
    """Run a prepared conversion."""
    compare_tied_head(work.plan, work.opened.shards)
    tokenizer = {name: work.opened.folder / name for name in TOKENIZER_FILES if (work.opened.folder / name).is_file()}
    with replacing(work.out, lambda: files_of_checkpoint(work.out, with_tokenizer=bool(tokenizer))) as staging:
        for name, file in tokenizer.items():
            shutil.copyfile(file, staging / name)
        write(staging / "config.json", as_json(work.config.to_dict()), durable=False)
        with (
            ShardWriter(staging, work.shards, CODES[work.config.dtype]) as writer,
            tqdm(total=work.bytes_to_read, unit="B", unit_scale=True, desc=format_of(work.config).name) as progress,
        ):
            write_plain(work, writer, progress)
            write_packed(work, writer, progress)


def write_plain(work: Quantisation, writer: ShardWriter, progress: tqdm) -> None:
    """Copy router, norms, embedding and lm_head, through one buffer."""
    filler = Filler()
    buffer = torch.empty(STAGING_BYTES // 2, dtype=TORCH_DTYPES[CODES[work.config.dtype]])
    for placed in work.plan:
        if is_packed(placed.expected.name):
            continue
        with placed.header.reading() as file:
            values = placed.expected.values if placed.expected.pieces else 0  # a tied head repeats the embedding
            for first in range(0, values, len(buffer)):
                part = buffer[: min(len(buffer), values - first)]
                filler.fill(part, file, placed.entry, first)
                if not is_finite(part):  # the embedding too: cheap compared with packing
                    raise NotFinite(f"{placed.header.file}: {placed.entry.name} holds NaN or infinity. {ADVICE}")
                writer.write(placed.expected.name, part, first)
        progress.update(placed.entry.nbytes)


def write_packed(work: Quantisation, writer: ShardWriter, progress: tqdm) -> None:
    """Pack and write the linear layers, one matrix at a time."""
    with MatrixReader(format_of(work.opened.config), torch.device("cpu")) as reader:
        matrices = stored_matrices(work.plan)
        for matrix, parts in converted(matrices, reader, format_of(work.config), torch.float32):
            for suffix, values in parts.items():
                writer.write(f"{matrix.name}.{suffix}", values)
            progress.update(matrix.nbytes)
