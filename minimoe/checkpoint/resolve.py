"""From what a reader types to a checkpoint's folder, and the download command when there is none."""

import re
from pathlib import Path

from minimoe import paths
from minimoe.checkpoint.foreign import refuse_file
from minimoe.checkpoint.layout import INDEX as INDEX
from minimoe.checkpoint.layout import SINGLE as SINGLE
from minimoe.errors import BadArgument, NotFound

HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
URL = re.compile(r"(https?|hf):/{1,2}([^/].*)", re.IGNORECASE)  # a Path drops the second slash
COMMIT = re.compile(r"[0-9a-f]{40}")


def folder_name(value: str | Path, argument: str) -> str | Path:
    """`value` if it can name a folder; BadArgument naming the argument otherwise. An empty name would mean "here"."""
    if not isinstance(value, (str, Path)) or not str(value).strip():
        raise BadArgument(f'{argument} is {value!r}, expected the name of a folder, such as "data/mini".')
    return value


def remote_address(path: str | Path) -> str | None:
    """The address that `path` is, with a slash at its end unless it is the hub's; None for anything else.

    Raises BadArgument for an address that is not one of a folder.
    """
    match = URL.fullmatch(str(folder_name(path, "path")).strip())
    if match is None:
        return None
    scheme, rest = match[1].lower(), match[2]
    if scheme == "hf":
        return f"hf://{rest}"
    host, _, tail = rest.partition("/")
    if "@" in host or set(rest) & set("?#\\ \t\r\n") or not rest.isprintable() or ".." in tail.split("/"):
        shown = rest.rpartition("@")[2]
        raise BadArgument(
            f"path is {f'{scheme}://{shown}'!r} with a log-in, '?', '#', '..' or a space in it; expected the address "
            "of a folder, such as https://host/folder/."
        )
    return f"{scheme}://{rest.rstrip('/')}/"


def refuse_remote(path: str | Path) -> None:
    """Raises BadArgument, with the mends, if `path` is an address where a folder is needed."""
    address = remote_address(path)
    if address is None:
        return
    download = "download it"
    if address.startswith("hf:"):
        name = address.removeprefix("hf://").partition("@")[0].strip("/")
        download = f"download it (hf download {name} --local-dir data/{name.rpartition('/')[2]})"
    raise BadArgument(
        f"{address} is not on this machine, and here the whole checkpoint is needed in a folder. Stream it, with --ram "
        f'12GB on the command line or minimoe.stream("{address}", ram="12GB"), or {download} and give the folder.'
    )


def find_checkpoint(path: str | Path) -> Path:
    """The folder that `path` means; a relative path not found from here is tried from the checkout's root.

    A model's folder in the hub's cache (models--owner--name) means the snapshot that its refs/main names. Raises
    BadArgument, NotSafetensors for a file of another format, and NotFound; for a name on the Hugging Face hub, with the
    command that downloads it.
    """
    refuse_remote(path)
    found = paths.find(folder_name(path, "path"))
    if found.is_dir():
        return snapshot_of(found)
    if found.exists():
        refuse_file(found)
        raise NotFound(
            f"{found} is a file; expected the folder that holds config.json and the .safetensors files: {found.parent}"
        )
    name = str(path).replace("\\", "/")
    if HUB_NAME.fullmatch(name) and not paths.find(name.split("/")[0]).is_dir():
        local = f"data/{name.split('/')[1]}"
        raise NotFound(
            f"there is no folder {name!r}, and minimoe downloads nothing by itself. If it is a model on the Hugging "
            "Face hub, run:\n"
            f"  hf download {name} --local-dir {local}\nand load {local!r}; or stream it without downloading: "
            f"minimoe.stream('hf://{name}', ram='12GB'), or --model hf://{name} --ram 12GB."
        )
    places = " and ".join(dict.fromkeys((str(Path.cwd()), str(paths.checkout()))))
    raise NotFound(f"there is no folder {str(path)!r} (looked in {places}). Give the folder of a checkpoint.")


def snapshot_of(folder: Path) -> Path:
    """The snapshot that a model's folder in the hub's cache means; any other folder as it is. Raises NotFound."""
    snapshots = folder / "snapshots"
    if (folder / "config.json").exists() or not snapshots.is_dir():
        return folder
    there = sorted(entry.name for entry in snapshots.iterdir() if entry.is_dir())
    try:
        main = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        main = ""
    if COMMIT.fullmatch(main) and main in there:
        return snapshots / main
    if len(there) == 1:
        return snapshots / there[0]
    several = f"the snapshots {', '.join(there[:5])}, and refs/main names none of them" if there else "no snapshot"
    mend = f"Give one of them, such as {snapshots / there[0]}" if there else f"Run: {download_command(folder)}"
    raise NotFound(f"{folder} is a folder of the Hugging Face cache with {several}. {mend}.")


def no_weights(directory: Path) -> NotFound:
    """The error for a folder without safetensors files."""
    return NotFound(
        f"{directory} holds neither {SINGLE} nor {INDEX}. Download the checkpoint with: {download_command(directory)}"
    )


def download_command(directory: Path) -> str:
    """The command that completes this folder; the repository's name is guessed from the folder's."""
    for part in directory.absolute().parts:
        if match := re.fullmatch(r"models--(.+?)--(.+)", part):
            return f"hf download {match[1]}/{match[2]}"
    known = {file.stem for file in paths.models_folder().glob("*.json")}
    name = directory.absolute().name
    return f"hf download {'Qwen' if name in known else '<owner>'}/{name} --local-dir {directory}"
