"""Provenance: the metadata of a trace about its model, tokenizer and software versions."""

import base64
import hashlib
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.paths import models_folder
from minimoe.routing.trace.recorder import router_sha256
from minimoe.routing.trace.trace_file import SCHEMA

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer

SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
)
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")


def describe_model(model: Transformer, layers: list[int], label: str | None) -> dict[str, Any]:
    """The metadata of a trace recorded from `model` in this process."""
    config = model.config
    return {
        "schema": SCHEMA,
        "provenance": "measured",
        "label": label,
        "model_type": config.model_type,
        "num_hidden_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "vocab_size": config.vocab_size,
        "num_experts": config.num_experts,
        "num_experts_per_tok": config.num_experts_per_tok,
        "norm_topk_prob": config.norm_topk_prob,
        "router_sha256": router_sha256(model, layers),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "engine": model.engine,
        "attention": model.attention,
        "versions": {name: installed(name) for name in ("minimoe", "torch")},
        "capture": "forward hooks on the routers",
    }


def require_released(label: str | None, config: ModelConfig) -> None:
    """Refuse the label "real ..." for a model that has not the sizes of a released one in data/models.

    The weights of another program are not seen, only the sizes can be compared. Raises BadArgument.
    """
    if label is None or re.search(r"\breal\b", label, re.IGNORECASE) is None:
        return
    released = (ModelConfig.named(file.stem) for file in models_folder().glob("*.json"))
    if not any(all(getattr(known, name) == getattr(config, name) for name in SIZES) for known in released):
        sizes = ", ".join(f"{name} {getattr(config, name)}" for name in SIZES)
        raise BadArgument(
            f"label is {label[:60]!r}, but no released model has these sizes ({sizes}). Name the weights as they are, "
            "such as label='mini checkpoint'."
        )


def describe_tokenizer(tokenizer: "Tokenizer", tokens: Tensor) -> dict[str, Any]:
    """Name and revision of the checkpoint, SHA-256 of the vocabulary files, and the bytes (base64) of each token id in
    `tokens`.
    """
    digest = hashlib.sha256()
    for name in TOKENIZER_FILES:
        if name in tokenizer.files:
            digest.update(name.encode() + b"\0" + tokenizer.files[name])
    used = [token for token in tokens.unique().tolist() if 0 <= token < tokenizer.vocabulary_size]
    texts = {str(token): base64.b64encode(tokenizer.token_bytes(token)).decode() for token in used}
    name, revision = checkpoint_name(tokenizer.source)
    return {
        "checkpoint": name,
        "revision": revision,
        "tokenizer_sha256": digest.hexdigest(),
        "token_bytes": texts,
    }


def checkpoint_name(folder: str | Path) -> tuple[str, str | None]:
    """The name of a checkpoint folder, and its revision if the path contains one.

    The hub's cache stores a download in `models--OWNER--NAME/snapshots/COMMIT`, which gives OWNER/NAME and the commit.
    Any other folder has its own name and no revision.
    """
    path = Path(folder).absolute()
    if path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--"):
        return path.parent.parent.name.removeprefix("models--").replace("--", "/"), path.name
    return path.name, None


def installed(package: str) -> str:
    """The version of an installed package; "unknown" if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
