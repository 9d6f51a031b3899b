"""open_checkpoint: config, index and checked headers of a checkpoint, before the choice of weights to read.

The checkpoint is a local folder or on a server. From a server the small files are copied to a local folder and the
headers of the weight files are fetched; the weights follow when they are read.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from minimoe.checkpoint.folder_transaction import finish_interrupted_save
from minimoe.checkpoint.layout import concerns
from minimoe.checkpoint.other_formats import refuse_foreign
from minimoe.checkpoint.remote import hub
from minimoe.checkpoint.remote.metadata_files import fetch_small_files, is_complete, local_folder
from minimoe.checkpoint.remote.range_cache import RangeCache, check_cap, default_cap, default_folder
from minimoe.checkpoint.remote.remote_file import RemoteFolder
from minimoe.checkpoint.resolve import INDEX, SINGLE, find_checkpoint, remote_address
from minimoe.checkpoint.safetensors.index import Index, find_index, read_index
from minimoe.checkpoint.safetensors.shards import Shards, open_indexed
from minimoe.errors import NotFound
from minimoe.model.checks import check_layers
from minimoe.model.config import ModelConfig


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint with its headers read and checked, but no weights.

    source: the path as given, for messages; for the hub, with the resolved commit.
    folder: the local folder with config.json and the tokenizer files.
    shards: index and headers of the files with the requested layers; `header.open()` reads their weights.
    remote: whether the weights are on a server. `shards.directory.bytes_fetched` then counts the bytes fetched.
    """

    source: str
    folder: Path
    config: ModelConfig
    shards: Shards
    remote: bool


def open_checkpoint(
    path: str | Path, layers: range | None = None, *, cache: str | Path | None = None, cache_bytes: int | None = None
) -> OpenedCheckpoint:
    """Open the checkpoint at `path` for `layers` (default: all): only the files that hold these need to be there.

    path: a folder; the address of one on a server, https://host/folder/; or a model of the Hugging Face hub,
    hf://owner/name[@revision], which is pinned to a commit. From a plain server each file is pinned to its first
    version; only the index and the config show whether two files belong together.
    cache, cache_bytes: the folder of the cache and its size in bytes. Default: $MINIMOE_CACHE or ~/.cache/minimoe, and
    20 GB ($MINIMOE_CACHE_GB) or half of the free disk space; 0 disables it.

    Raises NotFound, BadConfig, UnsupportedModel, BadArgument, and the kinds of BadCheckpoint that index and headers
    can show. Names and shapes are not yet compared with the config: `checkpoint.match.match` does that.
    """
    source, folder, index = open_index(path, cache, cache_bytes)
    config = ModelConfig.from_file(folder / "config.json")
    layers = check_layers(config, layers)
    shards = open_indexed(index, wanted=lambda name: concerns(name, config, layers))
    return OpenedCheckpoint(source, folder, config, shards, remote=not isinstance(index.directory, Path))


def open_index(
    path: str | Path, cache: str | Path | None = None, cache_bytes: int | None = None
) -> tuple[str, Path, Index]:
    """(name for messages, folder with the small files, index). Reads no header of a weight file."""
    address = remote_address(path)
    if address is None:
        folder = find_checkpoint(path)
        finish_interrupted_save(folder)
        refuse_foreign(folder)
        return str(path), folder, find_index(folder)
    kept = default_folder() if cache is None else Path(cache)
    ranges = RangeCache(kept / "ranges", default_cap(kept) if cache_bytes is None else check_cap(cache_bytes))
    remote, folder = open_hub(address, kept, ranges) if address.startswith("hf:") else open_url(address, kept, ranges)
    return str(remote), folder, read_remote_index(remote, folder)


def open_url(address: str, kept: Path, ranges: RangeCache) -> tuple[RemoteFolder, Path]:
    """A folder of a plain server. Its files may change between runs, so every run checks them."""
    remote, folder = RemoteFolder(address, ranges), local_folder(address, kept)
    try:
        fetch_small_files(remote, folder)
    except NotFound as error:
        hint = " For a model of the Hugging Face hub write hf://owner/name." if "huggingface.co" in address else ""
        raise NotFound(f"{error} Expected the folder that holds config.json and the weights.{hint}") from error
    return remote, folder


def open_hub(address: str, kept: Path, ranges: RangeCache) -> tuple[RemoteFolder, Path]:
    """A commit of the hub; its files never change."""
    repository, revision = hub.parse(address)
    found = hub.HubFolder(repository, revision, None)
    if not hub.COMMIT.fullmatch(revision) or not is_complete(local_folder(found.base, kept)):
        found = hub.resolve(repository, revision)
    remote = RemoteFolder(found.base, ranges, str(found), found.headers, is_pinned=True)
    folder = local_folder(found.base, kept)
    fetch_small_files(remote, folder, found.names)
    return remote, folder


def read_remote_index(remote: RemoteFolder, folder: Path) -> Index:
    """The index among the small files, or an index for a single file."""
    if (folder / INDEX).exists():
        return replace(read_index(folder), directory=remote)
    if (remote / SINGLE).exists():
        return Index(remote, None, None, 0)
    raise NotFound(f"{remote} holds neither {SINGLE} nor {INDEX}. Give the address of a checkpoint in safetensors.")
