"""Parse the routed experts in the response of a server: base64 text within JSON.

    vLLM 0.32   started with --enable-return-routed-experts; choices[i].routed_experts of /v1/completions and
                /v1/chat/completions: base64 of a .npy file, (token, layer, slot) uint8, uint16 or int32
    SGLang      started with --enable-return-routed-experts, request with "return_routed_experts": true;
                meta_info.routed_experts of /generate, sglext.routed_experts of its OpenAI endpoints: base64 of int32
                without a header, (token, layer, slot) with a row for every layer

The tokens are those of prompt and reply, without the last one, which is not run through the model. Both engines can
omit the first tokens (`routed_experts_prompt_start`, `routed_experts_start_len`). Such a response is rejected, because
the routing of the other tokens depends on the omitted ones.

Sources: vLLM 0.32 `entrypoints/openai` (from its source code, since routing over HTTP needs a GPU); sglang
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
NPY = b"\x93NUMPY"  # the first bytes of a .npy file


@dataclass(frozen=True)
class Served:
    """experts: (token, layer, slot). tokens: the ids of prompt and reply, if known. length: their number, if known."""

    experts: Any
    tokens: list[int] | None = None
    length: int | None = None

    def require_all_tokens(self) -> None:
        """Raise BadTrace if tokens other than the last have no row."""
        rows = len(self.experts)
        if self.length is not None and rows < self.length - 1:
            raise BadTrace(
                f"routed_experts has {rows} tokens, but prompt and reply have {self.length}, and only the last has no "
                "experts. Send the request without routed_experts_prompt_start (vLLM) or routed_experts_start_len "
                "(SGLang)."
            )


def is_response(source: Any) -> bool:
    """Whether this is a response or part of one: a dict, JSON text, base64 text, or the path of a .json file."""
    if isinstance(source, str | Path):
        return str(source).lstrip().startswith("{") or Path(str(source)[-20:]).suffix in (".json", "")
    return isinstance(source, Mapping)


def vllm_routing(source: Any, name: str, choice: int = 0) -> Served:
    """The routing in a whole response, or in its text `routed_experts`. Raises BadArgument, BadTrace, NotFound."""
    response = parsed(source, name)
    if isinstance(response, str):
        return Served(npy_array(response, name))
    selected = choice_of(response, name, choice)
    routed, key = selected.get("routed_experts"), f"choices[{choice}].routed_experts"
    if routed is None:
        state = "null" if "routed_experts" in selected else "absent"
        raise BadTrace(
            f"{name}: {key} is {state}. Start vLLM with --enable-return-routed-experts on a GPU; on a CPU it sends "
            "null."
        )
    prompt, reply = response.get("prompt_token_ids") or selected.get("prompt_token_ids"), selected.get("token_ids")
    tokens = [*prompt, *reply] if isinstance(prompt, list) and isinstance(reply, list) else None
    experts = npy_array(routed, key) if isinstance(routed, str) else routed
    return Served(experts, tokens, len(tokens) if tokens else total_tokens(response))


def sglang_routing(source: Any, config: ModelConfig) -> Served:
    """The routing in a whole response, or in its text `routed_experts`. Raises BadArgument, BadTrace, NotFound."""
    response = parsed(source, "source")
    if isinstance(response, str):
        return Served(int32_array(response, config))
    first = choice_of(response, "source", 0) if "choices" in response else {}
    candidates = [part.get(key) for part in (response, first) for key in ("meta_info", "sglext")]
    info = next((part for part in candidates if isinstance(part, Mapping) and part.get("routed_experts")), None)
    if info is None or not isinstance(info["routed_experts"], str):
        raise BadTrace(
            "source: the response has no routed_experts in meta_info or sglext. Start SGLang with "
            '--enable-return-routed-experts and send "return_routed_experts": true in the request.'
        )
    prompt, reply = info.get("input_ids"), info.get("output_ids")
    reply = reply[0] if isinstance(reply, list) and reply and isinstance(reply[0], list) else reply
    tokens = [*prompt, *reply] if isinstance(prompt, list) and isinstance(reply, list) else None
    counts = [info.get(key) for key in ("prompt_tokens", "completion_tokens")]
    known = [count for count in counts if type(count) is int]
    length = sum(known) if len(known) == 2 else total_tokens(response)
    return Served(int32_array(info["routed_experts"], config), tokens, len(tokens) if tokens else length)


def parsed(source: Any, name: str) -> Mapping[str, Any] | str:
    """A response as a mapping, or the text of its routed experts."""
    if isinstance(source, Mapping):
        return source
    text, origin = str(source), name
    if Path(text[-20:]).suffix == ".json" and not text.lstrip().startswith("{"):
        text, origin = read_json(Path(text)), shortened(text)
    elif not text.lstrip().startswith("{"):
        return text
    try:
        response = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadTrace(f"{origin} is not whole JSON ({error}). Save the response again.") from error
    if not isinstance(response, Mapping):
        raise BadTrace(f"{origin} is JSON of type {type(response).__name__}, expected the object of one response.")
    return response


def read_json(file: Path) -> str:
    """The text of a file. Raises NotFound, BadTrace."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        kind = NotFound if isinstance(error, FileNotFoundError) else BadTrace
        raise kind(f"{shortened(file)} cannot be read ({type(error).__name__}). Save the response there.") from error


def choice_of(response: Mapping[str, Any], name: str, number: int) -> Mapping[str, Any]:
    """One of the choices of a response. Raises BadTrace, or BadArgument for a number out of range."""
    choices = response.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
        keys = shortened(", ".join(map(str, list(response)[:8])))
        raise BadTrace(
            f"{name}: the response has no choices, only {keys or 'nothing'}. Check whether the server sent an error."
        )
    if not 0 <= number < len(choices):
        raise BadArgument(f"choice is {number}, but the response has {len(choices)}, counted from 0.")
    selected: Mapping[str, Any] = choices[number]
    return selected


def total_tokens(response: Mapping[str, Any]) -> int | None:
    """The number of tokens of prompt and reply, if the response contains it and has a single reply."""
    usage, choices = response.get("usage"), response.get("choices")
    total = usage.get("total_tokens") if isinstance(usage, Mapping) else None
    return total if type(total) is int and isinstance(choices, list) and len(choices) == 1 else None


def npy_array(text: str, name: str) -> np.ndarray:
    """The array of a .npy file given as base64; pickles are rejected. Raises BadArgument, BadTrace."""
    content = decoded(text)
    if content is None or not content.startswith(NPY):
        raise BadArgument(
            f"{name} is {described(text, content)}; expected a response of vLLM as a dict or JSON text, base64 of a "
            f".npy file, or the path of a {', '.join(FILES)} file. from_sglang reads base64 of int32 without a header."
        )
    try:
        array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise BadTrace(f"{name} (base64 of a .npy file) is not whole ({shortened(error)}). Save it again.") from error
    return array


def int32_array(text: str, config: ModelConfig) -> np.ndarray:
    """(token, layer, slot) of int32 values given as base64, little-endian. Raises BadArgument."""
    content = decoded(text)
    layers, slots = config.num_hidden_layers, config.num_experts_per_tok
    if not content or len(content) % (4 * layers * slots) or content.startswith(NPY):
        raise BadArgument(
            f"source is {described(text, content)}; expected a response of SGLang as a dict or JSON text, base64 of "
            f"int32 ({layers} layers x {slots} experts a token), or the path of a {', '.join(FILES)} file."
        )
    return np.frombuffer(content, dtype="<i4").reshape(-1, layers, slots)


def decoded(text: str) -> bytes | None:
    """Decoded base64 text; None if it is not base64."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def described(text: str, content: bytes | None) -> str:
    """A short description of a text, for messages."""
    if content is None or len(text) < 40:
        return f"{shortened(text)!r}, text of {len(text):,} characters"
    if content.startswith(NPY):
        return "base64 of a .npy file (vLLM, see from_vllm)"
    return f"base64 of {len(content):,} bytes that are not a .npy file"


def shortened(words: Any) -> str:
    """A name or message on one line, shortened to 80 characters."""
    line = " ".join(str(words)[:200].split())
    return line if len(line) <= 80 else line[:77] + "..."
