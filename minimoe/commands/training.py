"""`minimoe train`: what is checked before the first step, as hours of work depend on it."""

import os

from minimoe.atomic import check_folder_writable, check_writable
from minimoe.paths import find

FILES = ("training_state.safetensors", "history.json", "learning_curve.html")
FOLDERS = ("history", "checkpoint")


def check_before_training(out: str, tokenizer: str, device: str) -> None:
    """Can every file of the run be written, is the device here, and can the tokenizer be read?

    Raises BadArgument, BadTokenizer, WriteFailed.
    """
    if os.environ.get("RANK", "0") == "0":  # only the first process writes
        folder = check_folder_writable(out, "--out")
        if folder.is_dir():
            for name in FILES:
                check_writable(folder / name, "--out")
            for name in FOLDERS:
                check_folder_writable(folder / name, "--out")
    from minimoe.checkpoint.load import check_device
    from minimoe.text.tokenizer import Tokenizer

    check_device(device)
    Tokenizer.from_directory(find(tokenizer))  # the checkpoint at the end of the run gets its files
