"""Resolves a path or name to a checkpoint's folder; errors give the download command."""

import re
from pathlib import Path

from minimoe import paths
from minimoe.checkpoint.layout import INDEX as INDEX
from minimoe.checkpoint.layout import SINGLE as SINGLE
from minimoe.checkpoint.other_formats import refuse_file
from minimoe.errors import BadArgument, NotFound

HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
URL = re.compile(r"(https?|hf):/{1,2}([^/].*)", re.IGNORECASE)  # a Path drops the second slash
COMMIT = re.compile(r"[0-9a-f]{40}")


def folder_name(value: str | Path, argument: str) -> str | Path:
    """Return `value` if it can name a folder. Raises BadArgument, also for an empty name, which Path would read as the
    current folder.
    """
    if not isinstance(value, (str, Path)) or not str(value).strip():
        raise BadArgument(f'{argument} is {value!r}, expected the name of a folder, such as "data/mini".')
    return value


def remote_address(path: str | Path) -> str | None:
    """The normalised URL if `path` is one, with a trailing slash unless it is hf://; None for any other path.

    Raises BadArgument for a URL that is not one of a folder.
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
            f"path is {f'{scheme}://{shown}'!r} with credentials, '?', '#', '..' or a space; expected the address of "
            "a folder, such as https://host/folder/."
        )
    return f"{scheme}://{rest.rstrip('/')}/"


def refuse_remote(path: str | Path) -> None:
    """Raise BadArgument if `path` is a URL where a local folder is required; the message says how to stream or download
    it.
    """
    address = remote_address(path)
    if address is None:
        return
    download = "download it"
    if address.startswith("hf:"):
        name = address.removeprefix("hf://").partition("@")[0].strip("/")
        download = f"download it (hf download {name} --local-dir data/{name.rpartition('/')[2]})"
    raise BadArgument(
        f"{address} is remote, but this needs the whole checkpoint in a local folder. Stream it, with --ram 12GB on "
        f'the command line or minimoe.stream("{address}", ram="12GB"), or {download} and pass the folder.'
    )


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint folder for `path`. A relative path is looked up in the current folder, then in the checkout's
    root.

    A model's folder in the hub's cache (models--owner--name) stands for the snapshot in its refs/main. Raises
    BadArgument, NotSafetensors for a file of another format, and NotFound; for a name on the Hugging Face hub, with the
    download command.
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
    """The current snapshot of a model's folder in the hub's cache; any other folder is returned unchanged. Raises
    NotFound.
    """
    snapshots = folder / "snapshots"
    if (folder / "config.json").exists() or not snapshots.is_dir():
        return folder
    commits = sorted(entry.name for entry in snapshots.iterdir() if entry.is_dir())
    try:
        main = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        main = ""
    if COMMIT.fullmatch(main) and main in commits:
        return snapshots / main
    if len(commits) == 1:
        return snapshots / commits[0]
    content = f"the snapshots {', '.join(commits[:5])}, and refs/main names none of them" if commits else "no snapshot"
    fix = f"Give one of them, such as {snapshots / commits[0]}" if commits else f"Run: {download_command(folder)}"
    raise NotFound(f"{folder} is a folder of the Hugging Face cache with {content}. {fix}.")


def no_weights(directory: Path) -> NotFound:
    """The error for a folder without safetensors files."""
    return NotFound(
        f"{directory} holds neither {SINGLE} nor {INDEX}. Download the checkpoint with: {download_command(directory)}"
    )


def download_command(directory: Path) -> str:
    """The command that downloads the missing files of this folder; the repository is guessed from the folder's name."""
    for part in directory.absolute().parts:
        if match := re.fullmatch(r"models--(.+?)--(.+)", part):
            return f"hf download {match[1]}/{match[2]}"
    known = {file.stem for file in paths.models_folder().glob("*.json")}
    name = directory.absolute().name
    return f"hf download {'Qwen' if name in known else '<owner>'}/{name} --local-dir {directory}"
