"""The metadata files of a remote checkpoint (config, tokenizer, index), copied to a local folder and read from there.

Each is stored with the server's ETag and a checksum. The next run sends a conditional request and downloads the file
only if it has changed; the files of a pinned revision are not requested again.
"""

import hashlib
import json
import tempfile
import zlib
from collections.abc import Container
from pathlib import Path

from minimoe.atomic import reason
from minimoe.checkpoint.remote.range_cache import default_folder, write
from minimoe.checkpoint.remote.range_response import Forbidden
from minimoe.checkpoint.remote.remote_file import RemoteFolder, in_parallel
from minimoe.checkpoint.resolve import INDEX
from minimoe.errors import NotFound, NotSafetensors, WriteFailed
from minimoe.text.tokenizer_files import FILE_NAMES

CONFIG = "config.json"
OTHERS = (INDEX, *FILE_NAMES)
LARGEST = 100_000_000  # bytes
COMPLETE = ".complete"


def local_folder(address: str, cache: Path | None = None) -> Path:
    """The folder for the metadata files of `address`: its own folder in the cache, or a temporary one if the cache is
    not writable. Raises WriteFailed if neither is.
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
                f"neither {folder} nor the folder for temporary files can be written: {error}. Free some space, or "
                "set MINIMOE_CACHE to another folder."
            ) from error


def is_complete(folder: Path) -> bool:
    """Whether the folder holds all metadata files of a pinned revision."""
    return (folder / COMPLETE).exists() and (folder / CONFIG).exists()


def fetch_small_files(remote: RemoteFolder, folder: Path, names: Container[str] | None = None) -> None:
    """Update the metadata files in `folder`. `names`: the files of the remote folder, if known; these are required,
    otherwise all but config.json are optional.

    Raises NotFound if there is no config.json, ReadFailed, WriteFailed.
    """
    if remote.is_pinned and is_complete(folder):
        return
    fetch(remote, folder, CONFIG)
    requested = [name for name in OTHERS if names is None or name in names]
    get = fetch_optional if names is None else fetch
    for _ in in_parallel(lambda name: get(remote, folder, name), requested):
        pass
    if remote.is_pinned:
        store(folder / COMPLETE, b"")


def fetch_optional(remote: RemoteFolder, folder: Path, name: str) -> None:
    """Download a file if it exists. For a missing file, some servers respond 403 or send a web page."""
    try:
        fetch(remote, folder, name)
    except (NotFound, Forbidden, NotSafetensors):
        (folder / name).unlink(missing_ok=True)


def fetch(remote: RemoteFolder, folder: Path, name: str) -> None:
    """Download one file, unless the local copy is current."""
    path, note = folder / name, folder / f".{name}.note"
    download = remote.client.whole(remote.base + name, LARGEST, conditional_headers(path, note))
    if download is None:
        return
    content, etag, modified = download
    store(path, content)
    store(note, json.dumps([etag, modified, zlib.crc32(content)]).encode())


def conditional_headers(path: Path, note: Path) -> dict[str, str]:
    """The conditional request headers for the local copy, {} if there is none or it is damaged."""
    try:
        etag, modified, checksum = json.loads(note.read_bytes())
        if zlib.crc32(path.read_bytes()) != checksum:
            return {}
    except (OSError, ValueError, TypeError):
        return {}
    if isinstance(etag, str):
        return {} if etag.startswith("linked") else {"If-None-Match": etag}
    return {"If-Modified-Since": modified} if isinstance(modified, str) else {}


def store(path: Path, content: bytes) -> None:
    """Write a metadata file. Raises WriteFailed."""
    try:
        write(path, content)
    except OSError as error:
        raise WriteFailed(f"{path} cannot be written: {reason(error)}. Free some space there.") from error
