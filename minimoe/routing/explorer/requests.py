"""The Python side of the explorer: answers requests from the browser with a result or an error message.

An ablation (view J):

request   {"layer": 2,                      absolute layer number; all other keys are optional
           "experts": [17], "mode": "mask", "top_k": null, "everywhere": false, "controls": 20, "seed": 0,
           "trace": 0,                      index of the trace that the documents are taken from
           "documents": null | [0, 4],      sequence numbers; null: an evenly spread sample, with a note
           "prompt": null | "The cat"}      a text to continue without and with the change
answer    {"kind": "ablated", "id": n, "result": {...}}  (see `Ablation.to_json`), or with "error": "sentence"

A text of one's own:

request   {"text": "The cat sleeps."}
answer    {"kind": "read", "id": n, "result": {"tokens": 5}}, or with "error"; the new trace follows in its own message
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minimoe.errors import BadArgument, MinimoeError
from minimoe.model.transformer import Transformer
from minimoe.routing.ablation.ablate import ablate
from minimoe.routing.trace.reader import Reader
from minimoe.routing.trace.replay import whole_sequence
from minimoe.routing.trace.trace import RoutingTrace

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer

TOKENS = 512  # approximate size of the default sample of documents: an ablation then takes seconds
MOST_TOKENS = 8192
MOST_TEXTS = 5  # typed into the page
MOST_CONTROLS = 100
LONGEST_PROMPT = 4000  # characters
KEYS = ("layer", "experts", "mode", "top_k", "everywhere", "controls", "seed", "trace", "documents", "prompt")
PASSED_ON = ("experts", "mode", "top_k", "everywhere", "controls", "seed")


class Kernel:
    """Answers requests with a live model. `answer` and `read` never raise, whatever the browser sends."""

    def __init__(self, model: Transformer, traces: Sequence[RoutingTrace], tokenizer: "Tokenizer | None" = None):
        self.model, self.traces, self.tokenizer = model, list(traces), tokenizer
        self.given = len(self.traces)  # texts that were typed come before these

    def add(self, text: Any) -> RoutingTrace:
        """Read a text and put its trace first. At most five typed texts are kept. Raises BadArgument."""
        trace = Reader(self.model, self.tokenizer, self.traces[-1].metadata.get("label")).trace(text)
        typed = self.traces[: len(self.traces) - self.given]
        self.traces = [trace, *typed[: MOST_TEXTS - 1], *self.traces[len(typed) :]]
        return trace

    def read(self, message: Any) -> dict[str, Any]:
        """The reply to {"kind": "read", "id": n, "request": {"text": ...}}."""
        return self.reply(message, "read", lambda request: {"tokens": len(self.add(request.get("text")))})

    def answer(self, message: Any) -> dict[str, Any]:
        """The reply to {"kind": "ablate", "id": n, "request": {...}}."""
        return self.reply(message, "ablated", self.ablate)

    def reply(self, message: Any, kind: str, act: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """The reply to a request: the result of `act`, or the sentence of its error."""
        fields = message if isinstance(message, Mapping) else {}
        number = fields.get("id")
        reply: dict[str, Any] = {"kind": kind, "id": number if isinstance(number, int | str) else None}
        try:
            request = fields.get("request")
            if not isinstance(request, Mapping):
                raise BadArgument(f"request is {type(request).__name__}, expected an object such as {{'layer': 2}}.")
            return reply | {"result": act(request)}
        except MinimoeError as error:
            return reply | {"error": str(error)}
        except Exception as error:  # out of memory, a lost device, ...: the browser always needs a reply
            return reply | {"error": f"The model stopped: {type(error).__name__}: {error}"}

    def ablate(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """`Ablation.to_json()` for a request. Raises BadArgument or BadTrace."""
        unknown = [key for key in request if key not in KEYS]
        if unknown or "layer" not in request:
            problem = f"request has the unknown key {unknown[0]!r}" if unknown else "request has no 'layer'"
            raise BadArgument(f"{problem}; expected keys are {', '.join(KEYS)}.")
        prompt = check_prompt(request.get("prompt"), self.tokenizer)
        controls = request.get("controls")
        if isinstance(controls, int) and controls > MOST_CONTROLS:
            raise BadArgument(f"controls is {controls}, expected at most {MOST_CONTROLS}.")
        trace = self.trace(request.get("trace", 0))
        sequences, notes = choose_sequences(trace, request.get("documents"))
        indices = [sequence_indices(trace, sequence) for sequence in sequences]
        documents = [
            whole_sequence(trace.tensors, tokens, sequence) for tokens, sequence in zip(indices, sequences, strict=True)
        ]
        options = {key: request[key] for key in PASSED_ON if request.get(key) is not None}
        result = ablate(
            self.model, documents, request["layer"], tokenizer=self.tokenizer, prompt=prompt, **options
        ).to_json()
        return result | {"notes": notes + result["notes"], "trace_tokens": torch.cat(indices).tolist()}

    def trace(self, number: Any) -> RoutingTrace:
        """The trace with this index. Raises BadArgument if there is none."""
        if type(number) is not int or not 0 <= number < len(self.traces):
            raise BadArgument(f"trace is {number!r}, expected 0 to {len(self.traces) - 1}.")
        return self.traces[number]


def choose_sequences(trace: RoutingTrace, requested: Any) -> tuple[list[int], list[str]]:
    """The sequences to run, and notes on the choice. Without a request, sequences of a single token are skipped."""
    numbers, counts = trace.sequences.unique(return_counts=True)
    lengths = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    if requested is None:
        usable = [number for number, length in lengths.items() if length > 1]
        if not usable:
            raise BadArgument("no sequence of this trace has two tokens, so there is no next token to predict.")
        chosen = evenly_spread(usable, lengths)
        tokens = sum(lengths[number] for number in chosen)
        if len(chosen) < len(lengths):
            return chosen, [f"Run on {len(chosen)} of the trace's {len(lengths)} documents, {tokens:,} tokens."]
        return chosen, []
    is_list = isinstance(requested, list) and len(requested) > 0
    if not is_list or any(type(number) is not int or number not in lengths for number in requested):
        raise BadArgument(
            f"documents is {requested!r}, expected sequence numbers of the trace, {min(lengths)} to {max(lengths)}."
        )
    chosen = sorted(set(requested))
    tokens = sum(lengths[number] for number in chosen)
    if tokens > MOST_TOKENS:
        raise BadArgument(f"documents have {tokens:,} tokens in total, expected at most {MOST_TOKENS:,}. Choose fewer.")
    return chosen, []


def evenly_spread(sequences: list[int], lengths: dict[int, int]) -> list[int]:
    """A sample of sequences, evenly spread over all, with about TOKENS tokens in total; at least one sequence."""
    average = sum(lengths[number] for number in sequences) / len(sequences)
    count = min(len(sequences), max(1, round(TOKENS / average)))
    return [sequences[index * len(sequences) // count] for index in range(count)]


def sequence_indices(trace: RoutingTrace, sequence: int) -> Tensor:
    """(token) indices of a sequence's tokens in the trace, in order of position."""
    indices = (trace.sequences == sequence).nonzero().flatten()
    return indices[trace.positions[indices].argsort()]


def check_prompt(prompt: Any, tokenizer: Any) -> str | None:
    """`prompt`, or None if it is empty. Raises BadArgument if it cannot be continued."""
    if prompt is None or prompt == "":
        return None
    if not isinstance(prompt, str) or len(prompt) > LONGEST_PROMPT:
        raise BadArgument(f"prompt is {type(prompt).__name__}, expected a text of at most {LONGEST_PROMPT} characters.")
    if tokenizer is None:
        raise BadArgument("prompt is a text, but the explorer has no tokenizer: call explore(trace, model, tokenizer).")
    return prompt
