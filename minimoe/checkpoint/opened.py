"""open_checkpoint: config, index and checked headers of a checkpoint, before anyone decides which weights to read."""

from dataclasses import dataclass
from pathlib import Path

from minimoe.checkpoint.commit import finish_interrupted_save
from minimoe.checkpoint.layout import concerns
from minimoe.checkpoint.locate import find_checkpoint
from minimoe.checkpoint.shards import Shards, open_shards
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import check_layers


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint whose headers are read and checked; no weight is.

    source: what the reader typed, for messages.
    folder: a folder on this machine with config.json and the tokenizer's files.
    shards: index and headers of the files that hold the asked layers; `header.open()` reads their weights.
    remote: whether the weights lie on a server.
    """

    source: str
    folder: Path
    config: ModelConfig
    shards: Shards
    remote: bool


def open_checkpoint(path: str | Path, layers: range | None = None) -> OpenedCheckpoint:
    """Open the checkpoint at `path` for `layers` (default: all): only the files that hold these need to be there.

    Raises NotFound, BadConfig, UnsupportedModel, BadArgument, and the kinds of BadCheckpoint that index and headers
    can show. Names and shapes are not yet compared with the config: `checkpoint.compare.match` does that.
    """
    folder = find_checkpoint(path)
    finish_interrupted_save(folder)
    config = ModelConfig.from_file(folder / "config.json")
    layers = check_layers(config, layers)
    shards = open_shards(folder, wanted=lambda name: concerns(name, config, layers))
    return OpenedCheckpoint(str(path), folder, config, shards, remote=False)
