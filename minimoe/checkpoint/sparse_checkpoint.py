"""A checkpoint of full size without weights: real names, headers and index, with sparse files for the weights.

A hole in a sparse file is a range that was never written: it reads as zeros, counts towards the file's size, and takes
no disk space. So planner, verifier and loader can be tested at the size of the 235B, 118 files and 470,187,269,120
bytes, with 8 MB of disk. Copying or archiving such a folder fills the holes with real zeros: create a new one instead.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from minimoe import atomic
from minimoe.checkpoint.layout import INDEX, expected_tensors
from minimoe.checkpoint.resolve import folder_name
from minimoe.checkpoint.shard_writer import as_json, index_of, shards_of, split
from minimoe.dtypes import BYTES_PER_VALUE, CODES
from minimoe.errors import BadArgument, NotFound, WriteFailed
from minimoe.model.config import ModelConfig

MARKER = "sparse.json"  # identifies such a folder and lists its weight files
PROBE = ".minimoe-probe"
TRIAL_BYTES = 64 * 2**20  # a file system without holes writes these as zeros, which is quick


def write_sparse(
    directory: str | Path, config: ModelConfig, shard_bytes: int = 4_000_000_000, drop: Iterable[int] = ()
) -> Path:
    """Write a checkpoint of `config` whose weights are all zero and take no disk space; returns the folder.

    shard_bytes: the most bytes of weights in a file. drop: numbers of shards (from 1) to omit, as if they were not
    downloaded. No tokenizer is written. The packed format of `config.quantization_config` is used, if any; in GPTQ the
    group numbers are zeros, too, so such a checkpoint can be verified and planned, but not loaded.
    Raises BadArgument if the folder holds a checkpoint already, WriteFailed if the file system supports no sparse files
    or no files of this size; then nothing is left behind.
    """
    folder, absent = Path(folder_name(directory, "directory")).expanduser(), set(drop)
    code = CODES[config.dtype]
    shards = shards_of(split(expected_tensors(config), BYTES_PER_VALUE[code], shard_bytes), code)
    present = [shard for number, shard in enumerate(shards, start=1) if number not in absent]
    files = [shard.name for shard in present]
    metadata = {
        MARKER: as_json({"note": "the weights are holes: zeros that take no room on the disk", "files": files}),
        "config.json": as_json(config.to_dict()),
    }
    if len(shards) > 1:
        metadata[INDEX] = index_of(shards)
    for name in (*(shard.name for shard in shards), *metadata):
        if os.path.lexists(folder / name):
            raise BadArgument(f"directory is {str(directory)!r}, which holds {name} already. Choose an empty folder.")
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        require_holes(folder, max(shard.nbytes for shard in shards))
        for name, content in metadata.items():
            atomic.write(folder / name, content, durable=False)
        for shard in present:
            with atomic.replacement(folder / shard.name, durable=False) as temporary:
                shard.create(temporary)
    except BaseException as error:
        for name in (*metadata, *files):
            (folder / name).unlink(missing_ok=True)
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise WriteFailed(
                f"{folder} could not be written: {error.strerror or error}. Nothing was left there; choose another "
                "folder, or a smaller model."
            ) from error
        raise
    return folder


def require_holes(folder: Path, size: int) -> None:
    """Check that the file system supports sparse files of `size` bytes, with a temporary file, at first a small one.

    Raises WriteFailed, or the system's OSError.
    """
    probe = folder / PROBE
    try:
        for trial in sorted({min(TRIAL_BYTES, size), size}):
            free = shutil.disk_usage(folder).free
            probe.write_bytes(b"")
            os.truncate(probe, trial)
            state = os.stat(probe)
            blocks = getattr(state, "st_blocks", None)  # of 512 bytes; unknown on Windows
            used = blocks * 512 if blocks is not None else free - shutil.disk_usage(folder).free
            if state.st_size != trial or used > trial // 2 + 2**20:
                raise WriteFailed(
                    f"{folder} is on a file system without sparse files: an empty file of {trial:,} bytes took "
                    f"{used:,}. Choose a folder on another one, such as ext4, xfs, btrfs, APFS or tmpfs."
                )
    finally:
        probe.unlink(missing_ok=True)


def remove_sparse(directory: str | Path) -> None:
    """Delete the files that `write_sparse` wrote to `directory`, and the folder if it is empty then.

    Raises NotFound for any other folder, so that a real checkpoint is never deleted by mistake.
    """
    folder = Path(folder_name(directory, "directory")).expanduser()
    try:
        files = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFound(
            f"{folder} has no {MARKER}, so it was not written by write_sparse. Nothing was deleted."
        ) from error
    for name in files:
        if Path(name).name == name and name.endswith(".safetensors"):
            (folder / name).unlink(missing_ok=True)
    for name in (INDEX, "config.json", MARKER):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def disk_bytes(directory: str | Path) -> tuple[int, int]:
    """(total size of the files of a folder, disk space that they use), in bytes. If the system does not report the disk
    space, the size, rounded up to 512 for each file, stands for it.
    """
    states = [os.stat(file) for file in Path(directory).iterdir() if file.is_file()]
    size = sum(state.st_size for state in states)
    return size, sum(getattr(state, "st_blocks", -(-state.st_size // 512)) * 512 for state in states)
