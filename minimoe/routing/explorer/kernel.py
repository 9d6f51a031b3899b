"""The Python side of view J: a request from the browser in, an ablation or one sentence that says why not out.

request   {"layer": 2,                      absolute layer number; everything else may be left out
           "experts": [17], "mode": "mask", "top_k": null, "everywhere": false, "controls": 20, "seed": 0,
           "trace": 0,                      which of the explorer's traces the documents are taken from
           "documents": null | [0, 4],      their sequence numbers; null: some, evenly spread, with a note
           "prompt": null | "The cat"}      a text to continue without and with the change
answer    {"kind": "ablated", "id": n, "result": {...}}  (see `Ablation.to_json`), or with "error": "sentence"
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minimoe.errors import BadArgument, MinimoeError
from minimoe.model.transformer import Transformer
from minimoe.routing.ablation import ablate
from minimoe.routing.replay import whole_sequence
from minimoe.routing.trace import RoutingTrace

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer

TOKENS = 512  # of whole documents are enough for an answer within seconds
MOST_TOKENS = 8192
MOST_CONTROLS = 100
LONGEST_PROMPT = 4000  # characters
KEYS = ("layer", "experts", "mode", "top_k", "everywhere", "controls", "seed", "trace", "documents", "prompt")
PASSED_ON = ("experts", "mode", "top_k", "everywhere", "controls", "seed")


class Kernel:
    """Answers view J of one explorer with a live model. Nothing that a browser sends makes `answer` raise."""

    def __init__(self, model: Transformer, traces: Sequence[RoutingTrace], tokenizer: "Tokenizer | None" = None):
        self.model, self.traces, self.tokenizer = model, list(traces), tokenizer

    def answer(self, message: Any) -> dict[str, Any]:
        """The reply to {"kind": "ablate", "id": n, "request": {...}}."""
        asked = message if isinstance(message, Mapping) else {}
        number = asked.get("id")
        reply: dict[str, Any] = {"kind": "ablated", "id": number if isinstance(number, int | str) else None}
        try:
            return reply | {"result": self.ablate(asked.get("request"))}
        except MinimoeError as error:
            return reply | {"error": str(error)}
        except Exception as error:  # out of memory, a device that is gone: the browser waits for a reply in any case
            return reply | {"error": f"The ablation stopped: {type(error).__name__}: {error}"}

    def ablate(self, request: Any) -> dict[str, Any]:
        """`Ablation.to_json()` of what the request asks for. Raises BadArgument or BadTrace."""
        if not isinstance(request, Mapping):
            raise BadArgument(f"request is {type(request).__name__}, expected an object such as {{'layer': 2}}.")
        unknown = [key for key in request if key not in KEYS]
        if unknown or "layer" not in request:
            found = f"request has no key {unknown[0]!r}" if unknown else "request says no layer"
            raise BadArgument(f"{found}; its keys are {', '.join(KEYS)}.")
        prompt = check_prompt(request.get("prompt"), self.tokenizer)
        controls = request.get("controls")
        if isinstance(controls, int) and controls > MOST_CONTROLS:
            raise BadArgument(f"controls is {controls}, expected at most {MOST_CONTROLS}.")
        trace = self.trace(request.get("trace", 0))
        sequences, notes = choose_sequences(trace, request.get("documents"))
        places = [sequence_places(trace, sequence) for sequence in sequences]
        documents = [
            whole_sequence(trace.tensors, there, sequence) for there, sequence in zip(places, sequences, strict=True)
        ]
        options = {key: request[key] for key in PASSED_ON if request.get(key) is not None}
        result = ablate(
            self.model, documents, request["layer"], tokenizer=self.tokenizer, prompt=prompt, **options
        ).to_json()
        return result | {"notes": notes + result["notes"], "trace_tokens": torch.cat(places).tolist()}

    def trace(self, number: Any) -> RoutingTrace:
        """The trace with this number."""
        if type(number) is not int or not 0 <= number < len(self.traces):
            raise BadArgument(f"trace is {number!r}, expected 0 to {len(self.traces) - 1}.")
        return self.traces[number]


def choose_sequences(trace: RoutingTrace, asked: Any) -> tuple[list[int], list[str]]:
    """The sequences to run, and what has to be said of the choice. A sequence of one token has no next one."""
    names, counts = trace.sequences.unique(return_counts=True)
    lengths = dict(zip(names.tolist(), counts.tolist(), strict=True))
    if asked is None:
        usable = [name for name, length in lengths.items() if length > 1]
        if not usable:
            raise BadArgument("no sequence of this trace has two tokens, so there is no next token to predict.")
        chosen = spread(usable, lengths)
        tokens = sum(lengths[name] for name in chosen)
        if len(chosen) < len(lengths):
            return chosen, [f"Run on {len(chosen)} of the trace's {len(lengths)} documents, {tokens:,} tokens."]
        return chosen, []
    if not isinstance(asked, list) or not asked or any(type(one) is not int or one not in lengths for one in asked):
        raise BadArgument(
            f"documents is {asked!r}, expected sequence numbers of the trace, {min(lengths)} to {max(lengths)}."
        )
    chosen = sorted(set(asked))
    tokens = sum(lengths[name] for name in chosen)
    if tokens > MOST_TOKENS:
        raise BadArgument(f"documents hold {tokens:,} tokens together, expected at most {MOST_TOKENS:,}. Choose fewer.")
    return chosen, []


def spread(names: list[int], lengths: dict[int, int]) -> list[int]:
    """As many sequences, evenly spread over all, as hold about TOKENS tokens together; at least one."""
    average = sum(lengths[name] for name in names) / len(names)
    count = min(len(names), max(1, round(TOKENS / average)))
    return [names[index * len(names) // count] for index in range(count)]


def sequence_places(trace: RoutingTrace, sequence: int) -> Tensor:
    """(token) the numbers in the trace of a sequence's tokens, in order of position."""
    places = (trace.sequences == sequence).nonzero().flatten()
    return places[trace.positions[places].argsort()]


def check_prompt(prompt: Any, tokenizer: Any) -> str | None:
    """`prompt` if it can be continued here."""
    if prompt is None or prompt == "":
        return None
    if not isinstance(prompt, str) or len(prompt) > LONGEST_PROMPT:
        raise BadArgument(f"prompt is {type(prompt).__name__}, expected a text of at most {LONGEST_PROMPT} characters.")
    if tokenizer is None:
        raise BadArgument("a prompt needs a tokenizer: call explore(trace, model, tokenizer).")
    return prompt
