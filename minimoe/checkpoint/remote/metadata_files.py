"""The small files of a remote checkpoint (config, tokenizer, index), kept in a local folder so that they can be read
like any other's.

They are kept with the server's tag and a checksum: the next run asks "is it still this one?" and downloads nothing if
it is. What a pinned revision holds is not asked again.
"""

import hashlib
import json
import tempfile
import zlib
from collections.abc import Container
from pathlib import Path

from minimoe.atomic import reason
from minimoe.checkpoint.remote.http_response import Forbidden
from minimoe.checkpoint.remote.range_cache import default_folder, write
from minimoe.checkpoint.remote.remote_file import RemoteFolder, in_parallel
from minimoe.checkpoint.resolve import INDEX
from minimoe.errors import NotFound, NotSafetensors, WriteFailed
from minimoe.text.tokenizer_files import FILE_NAMES

CONFIG = "config.json"
OTHERS = (INDEX, *FILE_NAMES)
LARGEST = 100_000_000  # bytes
COMPLETE = ".complete"


def local_folder(address: str, cache: Path | None = None) -> Path:
    """Where the small files of `address` are kept: a folder of its own in the cache, or a temporary one if that cannot
    be written. Raises WriteFailed if neither can.
    """
    name = hashlib.sha256(address.encode()).hexdigest()[:32]
    try:
        folder = (cache or default_folder()) / "files" / name
        write(folder / ".minimoe", address.encode())
        return folder
    except OSError:
        try:
            return Path(tempfile.mkdtemp(prefix="minimoe-"))
        except OSError as error:
            raise WriteFailed(
                f"neither {folder} nor the folder for temporary files can be written: {error}. Make room, or set "
                "MINIMOE_CACHE to another folder."
            ) from error


def is_complete(folder: Path) -> bool:
    """Whether all small files of a pinned revision are there."""
    return (folder / COMPLETE).exists() and (folder / CONFIG).exists()


def fetch_small_files(remote: RemoteFolder, folder: Path, names: Container[str] | None = None) -> None:
    """Bring `folder` up to date. `names`: what the remote folder holds, if that is known; then those have to come.

    Raises NotFound if there is no config.json, ReadFailed.
    """
    if remote.is_pinned and is_complete(folder):
        return
    fetch(remote, folder, CONFIG)
    wanted = [name for name in OTHERS if names is None or name in names]
    get = fetch_if_there if names is None else fetch
    for _ in in_parallel(lambda name: get(remote, folder, name), wanted):
        pass
    if remote.is_pinned:
        keep(folder / COMPLETE, b"")


def fetch_if_there(remote: RemoteFolder, folder: Path, name: str) -> None:
    """A file that may not be there. Where there is nothing, some servers say 403, or show a page."""
    try:
        fetch(remote, folder, name)
    except (NotFound, Forbidden, NotSafetensors):
        (folder / name).unlink(missing_ok=True)


def fetch(remote: RemoteFolder, folder: Path, name: str) -> None:
    """Download one file, unless what is there still is the server's."""
    path, note = folder / name, folder / f".{name}.note"
    answer = remote.client.whole(remote.base + name, LARGEST, known(path, note))
    if answer is None:
        return
    content, etag, modified = answer
    keep(path, content)
    keep(note, json.dumps([etag, modified, zlib.crc32(content)]).encode())


def known(path: Path, note: Path) -> dict[str, str]:
    """The headers that describe the kept file, {} if there is none or it is damaged."""
    try:
        etag, modified, checksum = json.loads(note.read_bytes())
        if zlib.crc32(path.read_bytes()) != checksum:
            return {}
    except (OSError, ValueError, TypeError):
        return {}
    if isinstance(etag, str):
        return {} if etag.startswith("linked") else {"If-None-Match": etag}
    return {"If-Modified-Since": modified} if isinstance(modified, str) else {}


def keep(path: Path, content: bytes) -> None:
    """Write a small file. Raises WriteFailed."""
    try:
        write(path, content)
    except OSError as error:
        raise WriteFailed(f"{path} cannot be written: {reason(error)}. Make room there.") from error
