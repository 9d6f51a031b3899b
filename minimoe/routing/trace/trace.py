"""RoutingTrace: which experts every token was sent to, in every layer, and how sure the router was.

with record_routing(model, tokenizer) as trace:
    model(token_ids)
trace.experts[0, 5]        # the experts of token 5 in the first recorded layer
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minimoe.errors import BadArgument, BadTrace
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.provenance import describe_model, describe_tokenizer
from minimoe.routing.trace.recorder import LABELS, PER_LAYER, PER_TOKEN, Pass, Recorder
from minimoe.routing.trace.replay import Replay, replay
from minimoe.routing.trace.roles import PROMPT, roles_of
from minimoe.routing.trace.trace_file import read, write
from minimoe.routing.trace.validate import check

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer


class RoutingTrace:
    """The decisions of the routers for the tokens that went through a model. Reading an empty trace raises BadTrace.

    Made by `record_routing`, `record_documents`, `RoutingTrace.load`, an importer, or (not a measurement)
    `synthetic_trace`. `metadata` says which model, dtype, engine, tokenizer and label it has. Expert 17 of layer 3 and
    expert 17 of layer 4 have nothing to do with each other: an id means something only together with its layer.
    """

    def __init__(self, layers: list[int], passes: list[Pass], faults: list[str], metadata: dict[str, Any]):
        self.metadata = metadata
        self._layers, self._passes, self._faults = layers, passes, faults

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All passes so far, one after the other. Raises BadTrace if none ran, or a router was bypassed or gave NaN."""
        if self._faults:
            raise BadTrace(f"the recording is incomplete: {self._faults[0]}")
        if not self._passes:
            raise BadTrace("the trace is empty: the model did not run inside `with record_routing(model) as trace:`.")
        if len(self._passes) > 1:
            self._passes[:] = [join(self._passes)]
        return self._passes[0]

    # ---------------------------------------------------------------- what the routers decided

    @property
    def layers(self) -> Tensor:
        """(layer) int64: the absolute numbers of the recorded Mixture-of-Experts layers."""
        return torch.tensor(self._layers)

    @property
    def experts(self) -> Tensor:
        """(layer, token, slot) int64: the selected experts, by falling probability."""
        return self.tensors["experts"]

    @property
    def weights(self) -> Tensor:
        """(layer, token, slot) float32: what each expert's answer is multiplied with; after `load` derived from p."""
        return self._recorded("weights")

    @property
    def probabilities(self) -> Tensor:
        """(layer, token, slot) float32: softmax over all experts, before renormalisation."""
        return self._recorded("probabilities")

    @property
    def margins(self) -> Tensor:
        """(layer, token) float32: logit of the last expert that got in minus that of the first one left out."""
        return self._recorded("margins")

    @property
    def entropies(self) -> Tensor:
        """(layer, token) float32: entropy of the softmax over all experts, in nats."""
        return self._recorded("entropies")

    @property
    def probability_sums(self) -> Tensor:
        """(layer, expert) float32: the softmax over all experts, summed over the tokens. Not known of a selection."""
        return self._recorded("probability_sums")

    @property
    def has_weights(self) -> bool:
        """False for imported traces, which hold expert ids only: weights, probabilities, margins, entropies raise."""
        return not self.metadata.get("ids_only", False)

    # ---------------------------------------------------------------- what the tokens are

    @property
    def tokens(self) -> Tensor:
        """(token) int64: token ids; -1 where the model was given hidden states."""
        return self.tensors["tokens"]

    @property
    def positions(self) -> Tensor:
        """(token) int64: place of each token in its own sequence."""
        return self.tensors["positions"]

    @property
    def sequences(self) -> Tensor:
        """(token) int64: the sequence of each token; every row of a batch is one, and decoding continues it."""
        return self.tensors["sequences"]

    @property
    def roles(self) -> Tensor:
        """(token) int64: index into `roles.ROLES`. Without a tokenizer nothing is known of markup: all is prompt."""
        if "roles" in self.tensors:
            return self.tensors["roles"]
        return roles_of(self.tokens, self.sequences, self.positions, self._table())

    @property
    def domains(self) -> Tensor:
        """(token) int64: index into `domain_names`; -1 where it is not known."""
        return self.tensors.get("domains", torch.full_like(self.tokens, -1))

    @property
    def documents(self) -> Tensor:
        """(token) int64: index into `metadata["documents"]`; -1 for none."""
        return self.tensors.get("documents", torch.full_like(self.tokens, -1))

    @property
    def losses(self) -> Tensor:
        """(token) float32: loss of the token after this one, in nats; NaN where there is none."""
        return self._recorded("losses")

    @property
    def predicted(self) -> Tensor:
        """(token) int64: the token that the model found most likely to come next; -1 where it was not recorded."""
        return self.tensors.get("predicted", torch.full_like(self.tokens, -1))

    @property
    def has_losses(self) -> bool:
        """Whether next-token losses were recorded."""
        return "losses" in self.tensors

    @property
    def domain_names(self) -> tuple[str, ...]:
        """The names that `domains` counts through."""
        return tuple(self.metadata.get("domains", ()))

    @property
    def prompts(self) -> dict[int, str]:
        """The text of the prompt of each sequence: its tokens with the role prompt, markup left out."""
        place, asked = self.positions, self.roles == PROMPT
        texts = {}
        for sequence in self.sequences.unique().tolist():
            there = (asked & (self.sequences == sequence)).nonzero().flatten()
            pieces = [self.token_bytes(int(token)) or b"" for token in there[place[there].argsort()]]
            texts[sequence] = b"".join(pieces).decode(errors="replace")
        return texts

    def token_bytes(self, token: int) -> bytes | None:
        """The bytes of token number `token` of this trace (a Chinese character may be split over several tokens)."""
        found = self.metadata.get("token_bytes", {}).get(str(int(self.tokens[token])))
        return None if found is None else base64.b64decode(found)

    # ---------------------------------------------------------------- the trace as a whole

    @property
    def provenance(self) -> str:
        """ "measured" or "synthetic"; `check`, and with it saving and exporting, refuses anything else."""
        return str(self.metadata.get("provenance", "measured"))

    @property
    def title(self) -> str:
        """One line for title bars, such as "mini checkpoint, measured, float32, 4 layers x 1,024 tokens"."""
        label, revision = self.metadata.get("label") or "weights not said", self.metadata.get("revision")
        label = f"{label} ({self.metadata.get('checkpoint')} at {revision[:12]})" if revision else label
        known = [label, self.provenance, self.metadata.get("dtype")]
        parts = ["synthetic"] if self.provenance == "synthetic" else [part for part in known if part]
        parts += [] if self.has_weights else ["expert ids only"]
        return ", ".join([*parts, counted(len(self._layers), "layer") + " x " + counted(len(self), "token")])

    def __len__(self) -> int:
        return sum(len(one["tokens"]) for one in self._passes)

    def __repr__(self) -> str:
        return f"<RoutingTrace: {self.title}>"

    def select(self, tokens: Tensor | list[int]) -> "RoutingTrace":
        """A trace of these tokens only: a mask (token) bool, or their numbers. Raises BadArgument.

        Everything is kept but `probability_sums`, which hold all tokens together.
        """
        tokens = torch.as_tensor(tokens)
        if tokens.dtype == torch.bool and tokens.shape == (len(self),):
            tokens = tokens.nonzero().flatten()
        if tokens.dtype.is_floating_point or tokens.dtype == torch.bool or tokens.dim() != 1 or not len(tokens):
            raise BadArgument(
                f"tokens is {tokens.dtype} {tuple(tokens.shape)}, expected a bool mask of {len(self)} tokens "
                "that is true somewhere, or token numbers."
            )
        if int(tokens.min()) < 0 or int(tokens.max()) >= len(self):
            raise BadArgument(f"tokens holds {int(tokens.min())}..{int(tokens.max())}, expected 0..{len(self) - 1}.")
        everything = self.tensors | {"roles": self.roles}
        chosen = {
            name: tensor[tokens] if name in PER_TOKEN + LABELS else tensor[:, tokens]
            for name, tensor in everything.items()
            if name not in PER_LAYER
        }
        metadata = dict(self.metadata)
        if "token_bytes" in metadata:
            used = map(str, chosen["tokens"].unique().tolist())
            metadata["token_bytes"] = {
                key: text for key in used if (text := metadata["token_bytes"].get(key)) is not None
            }
        return RoutingTrace(list(self._layers), [chosen], [], metadata)

    def check(self) -> None:
        """Raise BadTrace if the numbers contradict each other (see validity.py)."""
        check(self.tensors | {"layers": self.layers}, self.metadata)

    def save(self, path: str | Path) -> None:
        """Check, then write one safetensors file, atomically."""
        self.check()
        write(path, self.tensors | {"layers": self.layers, "roles": self.roles}, self.metadata)

    @classmethod
    def load(cls, path: str | Path) -> "RoutingTrace":
        """Read a saved trace. Raises NotFound, or BadTrace if anything in it contradicts itself."""
        tensors, metadata = read(path)
        return cls(tensors.pop("layers").tolist(), [tensors], [], metadata)

    def verify(
        self, model: Transformer, tokenizer: "Tokenizer | None" = None, tolerance: float | None = None
    ) -> Replay:
        """Run the tokens again; BadTrace unless `model` selects the same experts wherever the margin exceeds
        `tolerance`.

        See replay.py. With a tokenizer, the token texts are compared too. Returns how much was compared.
        """
        self.check()
        given = None if tokenizer is None else describe_tokenizer(tokenizer, self.tokens)
        return replay(self._layers, self.tensors, self.metadata, model, given, tolerance)

    def _recorded(self, name: str) -> Tensor:
        """A tensor that not every trace has. Raises BadTrace where it is absent."""
        if name in self.tensors:
            return self.tensors[name]
        if not self.has_weights:
            source = self.metadata.get("capture", "another program")
            raise BadTrace(f"this trace holds expert ids only ({source}), so it has no {name}. Use trace.experts.")
        how = "record_documents(model, tokenizer, documents) records them"
        raise BadTrace(f"{name} were not recorded in this trace: {how}.")

    def _table(self) -> dict[int, bytes]:
        """The bytes of every token id that occurs."""
        return {int(token): base64.b64decode(text) for token, text in self.metadata.get("token_bytes", {}).items()}


def counted(number: int, noun: str) -> str:
    """ "1 token", "1,024 tokens"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def join(passes: list[Pass]) -> Pass:
    """Several passes as one: tokens follow each other, sums are added."""
    joined = {}
    for name in passes[0]:
        pieces = [one[name] for one in passes]
        if name in PER_LAYER:
            joined[name] = torch.stack(pieces).sum(dim=0)
        else:
            joined[name] = torch.cat(pieces, dim=0 if name in PER_TOKEN + LABELS else 1)
    return joined


@contextmanager
def record_routing(
    model: Transformer, tokenizer: "Tokenizer | None" = None, label: str | None = None
) -> Iterator[RoutingTrace]:
    """Record what the routers of `model` decide inside this block; the trace stays readable afterwards. No logit
    changes.

    Every call of the model is appended, so the steps of a generation follow its prompt. `label` says what the weights
    are ("real weights", "mini checkpoint", "random"): a picture of routing means nothing without it. Raises
    BadArgument for a dense model.
    """
    recorder = Recorder(model)
    metadata = describe_model(model, recorder.layers, label)
    trace = RoutingTrace(recorder.layers, recorder.passes, recorder.faults, metadata)
    try:
        with recorder.watching():
            yield trace
    finally:
        if tokenizer is not None and len(trace):
            metadata.update(describe_tokenizer(tokenizer, torch.cat([one["tokens"] for one in recorder.passes])))
