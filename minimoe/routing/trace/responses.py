"""Routed experts in the response of a server: base64 text within JSON.

    vLLM 0.32   started with --enable-return-routed-experts; choices[i].routed_experts of /v1/completions and
                /v1/chat/completions: base64 of a .npy file, (token, layer, slot) uint8, uint16 or int32
    SGLang      started with --enable-return-routed-experts, asked with "return_routed_experts": true;
                meta_info.routed_experts of /generate, sglext.routed_experts of its OpenAI endpoints: base64 of int32
                without a header, (token, layer, slot) with a row for every layer

The tokens are those of prompt and reply, without the last one, which never ran. Both can leave out the first ones
(`routed_experts_prompt_start`, `routed_experts_start_len`); such a response is refused, as those it has depend on them.

Sources: vLLM 0.32 `entrypoints/openai`, read only, as routing over HTTP needs a GPU; sglang
`python/sglang/srt/state_capturer/routed_experts.py` and `entrypoints/openai/protocol.py` (SglExt).
"""

import base64
import binascii
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minimoe.errors import BadArgument, BadTrace, NotFound
from minimoe.model.config import ModelConfig

FILES = (".npy", ".safetensors", ".json")
NPY = b"\x93NUMPY"  # how a .npy file begins


@dataclass(frozen=True)
class Served:
    """experts: (token, layer, slot). tokens: the ids of prompt and reply, if they are there. length: their number."""

    experts: Any
    tokens: list[int] | None = None
    length: int | None = None

    def require_all_tokens(self) -> None:
        """Raises BadTrace if tokens other than the last have no row."""
        rows = len(self.experts)
        if self.length is not None and rows < self.length - 1:
            raise BadTrace(
                f"routed_experts has {rows} tokens, but prompt and reply have {self.length}, and only the last has no "
                "experts. Ask without routed_experts_prompt_start (vLLM), routed_experts_start_len (SGLang)."
            )


def is_response(source: Any) -> bool:
    """Whether this is a response or a part of one: a dict, JSON text, base64 text, or the path of a .json file."""
    if isinstance(source, str | Path):
        return str(source).lstrip().startswith("{") or Path(str(source)[-20:]).suffix in (".json", "")
    return isinstance(source, Mapping)


def vllm_routing(source: Any, name: str, choice: int = 0) -> Served:
    """Of a whole response or of its text `routed_experts`. Raises BadArgument, BadTrace, NotFound."""
    found = parsed(source, name)
    if isinstance(found, str):
        return Served(npy_array(found, name))
    picked = choice_of(found, name, choice)
    routed, place = picked.get("routed_experts"), f"choices[{choice}].routed_experts"
    if routed is None:
        state = "null" if "routed_experts" in picked else "absent"
        raise BadTrace(
            f"{name}: {place} is {state}. vLLM sends it if it was started with --enable-return-routed-experts, and not "
            "on a CPU, where it stays null."
        )
    prompt, reply = found.get("prompt_token_ids") or picked.get("prompt_token_ids"), picked.get("token_ids")
    tokens = [*prompt, *reply] if isinstance(prompt, list) and isinstance(reply, list) else None
    experts = npy_array(routed, place) if isinstance(routed, str) else routed
    return Served(experts, tokens, len(tokens) if tokens else total_tokens(found))


def sglang_routing(source: Any, config: ModelConfig) -> Served:
    """Of a whole response or of its text `routed_experts`. Raises BadArgument, BadTrace, NotFound."""
    found = parsed(source, "source")
    if isinstance(found, str):
        return Served(int32_array(found, config))
    first = choice_of(found, "source", 0) if "choices" in found else {}
    places = [each.get(key) for each in (found, first) for key in ("meta_info", "sglext")]
    info = next((place for place in places if isinstance(place, Mapping) and place.get("routed_experts")), None)
    if info is None or not isinstance(info["routed_experts"], str):
        raise BadTrace(
            "source: the response has no routed_experts in meta_info or sglext. SGLang sends it if it was started "
            'with --enable-return-routed-experts and the request says "return_routed_experts": true.'
        )
    prompt, reply = info.get("input_ids"), info.get("output_ids")
    reply = reply[0] if isinstance(reply, list) and reply and isinstance(reply[0], list) else reply
    tokens = [*prompt, *reply] if isinstance(prompt, list) and isinstance(reply, list) else None
    counts = [info.get(key) for key in ("prompt_tokens", "completion_tokens")]
    whole = [count for count in counts if type(count) is int]
    length = sum(whole) if len(whole) == 2 else total_tokens(found)
    return Served(int32_array(info["routed_experts"], config), tokens, len(tokens) if tokens else length)


def parsed(source: Any, name: str) -> Mapping[str, Any] | str:
    """A response as a mapping, or the text of its routed experts."""
    if isinstance(source, Mapping):
        return source
    text, place = str(source), name
    if Path(text[-20:]).suffix == ".json" and not text.lstrip().startswith("{"):
        text, place = read_json(Path(text)), shortened(text)
    elif not text.lstrip().startswith("{"):
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadTrace(f"{place} is not whole JSON ({error}). Save the response again.") from error
    if not isinstance(found, Mapping):
        raise BadTrace(f"{place} is JSON of type {type(found).__name__}, expected one response of a server.")
    return found


def read_json(file: Path) -> str:
    """The text of a file. Raises NotFound, BadTrace."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        kind = NotFound if isinstance(error, FileNotFoundError) else BadTrace
        raise kind(f"{shortened(file)} cannot be read ({type(error).__name__}). Save the response there.") from error


def choice_of(found: Mapping[str, Any], name: str, number: int) -> Mapping[str, Any]:
    """One of the choices of a response. Raises BadTrace."""
    choices = found.get("choices")
    if not isinstance(choices, list) or not all(isinstance(each, Mapping) for each in choices):
        keys = shortened(", ".join(map(str, list(found)[:8])))
        raise BadTrace(f"{name}: the response has no choices, only {keys or 'nothing'}. Did the server refuse?")
    if not 0 <= number < len(choices):
        raise BadArgument(f"choice is {number}, but the response has {len(choices)}, counted from 0.")
    picked: Mapping[str, Any] = choices[number]
    return picked


def total_tokens(found: Mapping[str, Any]) -> int | None:
    """Tokens of prompt and reply, if the response says so and has one reply only."""
    usage, choices = found.get("usage"), found.get("choices")
    total = usage.get("total_tokens") if isinstance(usage, Mapping) else None
    return total if type(total) is int and isinstance(choices, list) and len(choices) == 1 else None


def npy_array(text: str, name: str) -> np.ndarray:
    """The array of a .npy file given as base64. Raises BadArgument, BadTrace; nothing is unpickled."""
    content = decoded(text)
    if content is None or not content.startswith(NPY):
        raise BadArgument(
            f"{name} is {described(text, content)}; expected a response of vLLM as dict or JSON text, base64 of a .npy "
            f"file, or the path of a {', '.join(FILES)} file. from_sglang reads base64 of int32 without a header."
        )
    try:
        array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise BadTrace(f"{name} is base64 of a .npy file that is not whole ({shortened(error)}).") from error
    return array


def int32_array(text: str, config: ModelConfig) -> np.ndarray:
    """(token, layer, slot) of int32 values given as base64, little-endian. Raises BadArgument."""
    content = decoded(text)
    layers, slots = config.num_hidden_layers, config.num_experts_per_tok
    if not content or len(content) % (4 * layers * slots) or content.startswith(NPY):
        raise BadArgument(
            f"source is {described(text, content)}; expected a response of SGLang as dict or JSON text, base64 of "
            f"int32 ({layers} layers x {slots} experts a token), or the path of a {', '.join(FILES)} file."
        )
    return np.frombuffer(content, dtype="<i4").reshape(-1, layers, slots)


def decoded(text: str) -> bytes | None:
    """The bytes that base64 text stands for; None if it is not base64."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def described(text: str, content: bytes | None) -> str:
    """What a text seems to be, without repeating it."""
    if content is None or len(text) < 40:
        return f"{shortened(text)!r}, text of {len(text):,} characters"
    if content.startswith(NPY):
        return "base64 of a .npy file (vLLM, see from_vllm)"
    return f"base64 of {len(content):,} bytes that are no .npy file"


def shortened(words: Any) -> str:
    """A name or message on one line, cut where it becomes long."""
    line = " ".join(str(words)[:200].split())
    return line if len(line) <= 80 else line[:77] + "..."
