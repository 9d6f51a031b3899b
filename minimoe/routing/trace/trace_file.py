"""The file format of a routing trace: one safetensors file with narrow dtypes, and JSON in its metadata.

    experts         u8 (layer, token, slot), u16 above 256 experts, by decreasing probability
    probabilities   f16 (layer, token, slot), softmax over all experts before renormalisation
    margins         f16 (layer, token)        entropies  f16 (layer, token)
    tokens, positions, sequences   i32 (token)        layers  i32 (layer)

and, if recorded,

    roles u8, domains i16, documents i32, predicted i32, losses f32   (token)
    probability_sums  f32 (layer, expert)

The weights of the experts' outputs are not stored, since they follow from the probabilities: p / sum(p) with
`norm_topk_prob`, otherwise p. A 94-layer trace of 4,096 tokens takes 10.9 MB. With `ids_only` in the metadata (an
imported trace) there are no probabilities, margins and entropies.
"""

import base64
import json
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from minimoe import atomic
from minimoe.errors import BadTrace, NotFound
from minimoe.routing.trace.validate import PROVENANCES, check

SCHEMA = "minimoe.routing/1"  # later additions are optional, so the oldest files still load
METADATA_KEY = "minimoe.routing"
LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format
NUMBERS = ("num_hidden_layers", "vocab_size", "num_experts", "num_experts_per_tok")
STORED = {
    "probabilities": torch.float16,
    "margins": torch.float16,
    "entropies": torch.float16,
    "tokens": torch.int32,
    "positions": torch.int32,
    "sequences": torch.int32,
    "layers": torch.int32,
    "roles": torch.uint8,
    "domains": torch.int16,
    "documents": torch.int32,
    "predicted": torch.int32,
    "losses": torch.float32,
    "probability_sums": torch.float32,
}


def write(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write the file atomically. Raises BadArgument for a path that is not a file, NotFound for a missing folder, and
    WriteFailed.
    """
    atomic.check_writable(path)
    ids = torch.uint8 if int(metadata["num_experts"]) <= 256 else torch.uint16
    stored = {
        name: tensors[name].to(dtype).contiguous()
        for name, dtype in (STORED | {"experts": ids}).items()
        if name in tensors
    }
    content = save(stored, metadata={METADATA_KEY: json.dumps(metadata, ensure_ascii=False)})
    atomic.write(path, content)


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a saved trace, checked. Raises NotFound or BadTrace."""
    file = Path(path)
    if file.is_dir():
        raise NotFound(f"{file} is a folder, expected the .safetensors file of one trace.")
    if not file.is_file():
        raise NotFound(
            f"{file} is not there. Create a trace with trace.save(path) or `minimoe trace TEXT --out {file.name}`."
        )
    try:
        with safe_open(file, framework="pt") as stored:
            raw = (stored.metadata() or {}).get(METADATA_KEY)
            loaded = {name: stored.get_tensor(name) for name in {*STORED, "experts"} & set(stored.keys())}
    except (SafetensorError, OSError, ValueError) as error:
        reason = where_cut(file) or error
        raise BadTrace(f"{file} is not a whole safetensors file ({reason}). Record it again.") from error
    metadata = check_metadata(raw, str(file))
    for name, tensor in loaded.items():
        if tensor.dtype not in allowed(name):
            raise BadTrace(
                f"{file}: {name} is {tensor.dtype}, expected {' or '.join(map(str, allowed(name)))}. Record it again."
            )
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor.long() for name, tensor in loaded.items()}
    if "probabilities" in tensors:
        selected = tensors["probabilities"]
        tensors["weights"] = selected / selected.sum(dim=-1, keepdim=True) if metadata["norm_topk_prob"] else selected
    check(tensors, metadata, source=str(file))
    return tensors, metadata


def allowed(name: str) -> tuple[torch.dtype, ...]:
    """The dtypes allowed for a tensor of the file."""
    return (torch.uint8, torch.uint16) if name == "experts" else (STORED[name],)


def check_metadata(raw: str | None, source: str) -> dict[str, Any]:
    """Parse and validate the metadata. Raises BadTrace if it is absent, of another schema, or a value is invalid."""
    if raw is None:
        raise BadTrace(
            f"{source} has no {METADATA_KEY!r} in its metadata: a safetensors file, but not a routing trace."
        )
    try:
        metadata = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadTrace(f"{source}: its metadata is not JSON ({error}). Record it again.") from error
    if not isinstance(metadata, dict) or metadata.get("schema") != SCHEMA:
        schema = metadata.get("schema") if isinstance(metadata, dict) else type(metadata).__name__
        raise BadTrace(f"{source}: its schema is {schema!r}, but this version of minimoe reads {SCHEMA!r}.")
    for key in NUMBERS:
        if type(metadata.get(key)) is not int or not 0 < metadata[key] <= 2**31:
            raise BadTrace(f"{source}: {key} in its metadata is {metadata.get(key)!r}, expected a positive integer.")
    for key in ("label", "dtype", "checkpoint", "revision"):
        if not isinstance(metadata.get(key), str | None):
            raise BadTrace(f"{source}: {key} in its metadata is {metadata[key]!r}, expected a string.")
    for key, default in (("norm_topk_prob", None), ("ids_only", False)):
        if type(metadata.get(key, default)) is not bool:
            raise BadTrace(f"{source}: {key} in its metadata is {metadata.get(key)!r}, expected true or false.")
    if metadata.get("provenance", "measured") not in PROVENANCES:
        raise BadTrace(
            f"{source}: provenance in its metadata is {metadata['provenance']!r}, "
            f"expected {' or '.join(map(repr, PROVENANCES))}."
        )
    names = metadata.get("domains", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadTrace(f"{source}: domains in its metadata is {names!r}, expected a list of names.")
    documents = metadata.get("documents", [])
    if not isinstance(documents, list) or not all(isinstance(entry, dict) for entry in documents):
        raise BadTrace(f"{source}: documents in its metadata is not a list of objects with title, domain and source.")
    try:
        for token, content in metadata.get("token_bytes", {}).items():
            int(token), base64.b64decode(content)
    except (AttributeError, TypeError, ValueError) as error:
        raise BadTrace(f"{source}: token_bytes in its metadata does not map token ids to base64 ({error}).") from error
    return metadata


def where_cut(file: Path) -> str | None:
    """A message that locates the end of a truncated file by layer and token; None if the file is damaged otherwise.

    Layers are given as rows of the file, since their absolute numbers may be missing.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > LONGEST_HEADER:
                return None
            header = json.loads(stream.read(length))
        spans = {
            name: (entry["shape"], *entry["data_offsets"]) for name, entry in header.items() if name != "__metadata__"
        }
        full_size = 8 + length + max(end for _, _, end in spans.values())
        if size >= full_size:
            return None
        cut = size - 8 - length
        name, (shape, begin, end) = next(item for item in spans.items() if item[1][1] <= cut < item[1][2])
        number = (cut - begin) * prod(shape) // (end - begin)
        layer = number // prod(shape[1:]) if len(shape) > 1 or name == "layers" else 0
        token = number // prod(shape[2:]) % shape[1] if len(shape) > 1 else 0 if name == "layers" else number
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, ZeroDivisionError, RecursionError):
        return None
    return f"it ends after {size:,} of {full_size:,} bytes, within {name}, layer row {layer}, token {token}"
