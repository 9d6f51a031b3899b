"""RoutingTrace: the selected experts of every token in every layer, and the confidence of the router.

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
    """The outputs of the routers for the tokens of one or more forward passes. Reading an empty trace raises BadTrace.

    Created by `record_routing`, `record_documents`, `RoutingTrace.load`, an importer, or (not a measurement)
    `synthetic_trace`. `metadata` describes the model, dtype, engine, tokenizer and label. Expert 17 of layer 3 and
    expert 17 of layer 4 are unrelated: an id is meaningful only within its layer.
    """

    def __init__(self, layers: list[int], passes: list[Pass], faults: list[str], metadata: dict[str, Any]):
        self.metadata = metadata
        self._layers, self._passes, self._faults = layers, passes, faults

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All passes so far, concatenated. Raises BadTrace if there are none, or if a router was bypassed."""
        if self._faults:
            raise BadTrace(f"the recording is incomplete: {self._faults[0]}")
        if not self._passes:
            raise BadTrace("the trace is empty: the model did not run inside `with record_routing(model) as trace:`.")
        if len(self._passes) > 1:
            self._passes[:] = [join(self._passes)]
        return self._passes[0]

    # ---------------------------------------------------------------- router outputs

    @property
    def layers(self) -> Tensor:
        """(layer) int64: the absolute numbers of the recorded Mixture-of-Experts layers."""
        return torch.tensor(self._layers)

    @property
    def experts(self) -> Tensor:
        """(layer, token, slot) int64: the selected experts, in order of decreasing probability."""
        return self.tensors["experts"]

    @property
    def weights(self) -> Tensor:
        """(layer, token, slot) float32: the factor of each expert's output; after `load`, derived from p."""
        return self._recorded("weights")

    @property
    def probabilities(self) -> Tensor:
        """(layer, token, slot) float32: softmax over all experts, before renormalisation."""
        return self._recorded("probabilities")

    @property
    def margins(self) -> Tensor:
        """(layer, token) float32: logit of the last selected expert minus that of the first rejected one."""
        return self._recorded("margins")

    @property
    def entropies(self) -> Tensor:
        """(layer, token) float32: entropy of the softmax over all experts, in nats."""
        return self._recorded("entropies")

    @property
    def probability_sums(self) -> Tensor:
        """(layer, expert) float32: the softmax over all experts, summed over the tokens. Absent after `select`."""
        return self._recorded("probability_sums")

    @property
    def has_weights(self) -> bool:
        """False for imported traces of expert ids only: weights, probabilities, margins, entropies raise."""
        return not self.metadata.get("ids_only", False)

    # ---------------------------------------------------------------- tokens

    @property
    def tokens(self) -> Tensor:
        """(token) int64: token ids; -1 if the input of the model was hidden states."""
        return self.tensors["tokens"]

    @property
    def positions(self) -> Tensor:
        """(token) int64: position of each token in its own sequence."""
        return self.tensors["positions"]

    @property
    def sequences(self) -> Tensor:
        """(token) int64: the sequence of each token: a row of a batch, continued by decoding."""
        return self.tensors["sequences"]

    @property
    def roles(self) -> Tensor:
        """(token) int64: index into `roles.ROLES`. Without a tokenizer, markup is unknown and all tokens are prompt."""
        if "roles" in self.tensors:
            return self.tensors["roles"]
        return roles_of(self.tokens, self.sequences, self.positions, self._table())

    @property
    def domains(self) -> Tensor:
        """(token) int64: index into `domain_names`; -1 if unknown."""
        return self.tensors.get("domains", torch.full_like(self.tokens, -1))

    @property
    def documents(self) -> Tensor:
        """(token) int64: index into `metadata["documents"]`; -1 for none."""
        return self.tensors.get("documents", torch.full_like(self.tokens, -1))

    @property
    def losses(self) -> Tensor:
        """(token) float32: loss of the next token, in nats; NaN if there is none."""
        return self._recorded("losses")

    @property
    def predicted(self) -> Tensor:
        """(token) int64: the most probable next token; -1 if not recorded."""
        return self.tensors.get("predicted", torch.full_like(self.tokens, -1))

    @property
    def has_losses(self) -> bool:
        """Whether next-token losses were recorded."""
        return "losses" in self.tensors

    @property
    def domain_names(self) -> tuple[str, ...]:
        """The names that `domains` indexes."""
        return tuple(self.metadata.get("domains", ()))

    @property
    def prompts(self) -> dict[int, str]:
        """The text of the prompt of each sequence: its tokens with the role prompt, without markup."""
        positions, in_prompt = self.positions, self.roles == PROMPT
        texts = {}
        for sequence in self.sequences.unique().tolist():
            tokens = (in_prompt & (self.sequences == sequence)).nonzero().flatten()
            pieces = [self.token_bytes(int(token)) or b"" for token in tokens[positions[tokens].argsort()]]
            texts[sequence] = b"".join(pieces).decode(errors="replace")
        return texts

    def token_bytes(self, token: int) -> bytes | None:
        """The bytes of token number `token` of this trace (a Chinese character may be split over several tokens)."""
        encoded = self.metadata.get("token_bytes", {}).get(str(int(self.tokens[token])))
        return None if encoded is None else base64.b64decode(encoded)

    # ---------------------------------------------------------------- whole trace

    @property
    def provenance(self) -> str:
        """ "measured" or "synthetic"; any other value is rejected by `check`, and so when saving or exporting."""
        return str(self.metadata.get("provenance", "measured"))

    @property
    def title(self) -> str:
        """One line for titles, such as "mini checkpoint, measured, float32, 4 layers x 1,024 tokens"."""
        label, revision = self.metadata.get("label") or "unlabelled weights", self.metadata.get("revision")
        label = f"{label} ({self.metadata.get('checkpoint')} at {revision[:12]})" if revision else label
        engine = self.metadata.get("recorded_by")
        known = [label, self.provenance + (f" by {engine}" if engine else ""), self.metadata.get("dtype")]
        parts = ["synthetic"] if self.provenance == "synthetic" else [part for part in known if part]
        parts += [] if self.has_weights else ["expert ids only"]
        return ", ".join([*parts, counted(len(self._layers), "layer") + " x " + counted(len(self), "token")])

    def __len__(self) -> int:
        return sum(len(one["tokens"]) for one in self._passes)

    def __repr__(self) -> str:
        return f"<RoutingTrace: {self.title}>"

    def select(self, tokens: Tensor | list[int]) -> "RoutingTrace":
        """A trace of some tokens, given as a mask (token) bool or as indices. Raises BadArgument.

        All tensors are kept except `probability_sums`, which are sums over all tokens.
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
        """Raise BadTrace if the tensors contradict each other (see validate.py)."""
        check(self.tensors | {"layers": self.layers}, self.metadata)

    def save(self, path: str | Path) -> None:
        """Check the trace, then write it atomically to one safetensors file."""
        self.check()
        write(path, self.tensors | {"layers": self.layers, "roles": self.roles}, self.metadata)

    @classmethod
    def load(cls, path: str | Path) -> "RoutingTrace":
        """Read a saved trace. Raises NotFound, or BadTrace if its contents are inconsistent."""
        tensors, metadata = read(path)
        return cls(tensors.pop("layers").tolist(), [tensors], [], metadata)

    def verify(
        self, model: Transformer, tokenizer: "Tokenizer | None" = None, tolerance: float | None = None
    ) -> Replay:
        """Run the tokens through `model` again and compare the selected experts; see replay.py.

        Raises BadTrace if a selection differs although its margin exceeds `tolerance`. With a tokenizer, the bytes of
        the tokens are compared too. Returns the counts of the comparison.
        """
        self.check()
        given = None if tokenizer is None else describe_tokenizer(tokenizer, self.tokens)
        return replay(self._layers, self.tensors, self.metadata, model, given, tolerance)

    def _recorded(self, name: str) -> Tensor:
        """A tensor that is optional in a trace. Raises BadTrace if it is absent."""
        if name in self.tensors:
            return self.tensors[name]
        if not self.has_weights:
            source = self.metadata.get("capture", "another program")
            raise BadTrace(f"this trace holds expert ids only ({source}), so it has no {name}. Use trace.experts.")
        raise BadTrace(
            f"{name} were not recorded in this trace; record_documents(model, tokenizer, documents) records them."
        )

    def _table(self) -> dict[int, bytes]:
        """The bytes of every token id in the trace."""
        return {int(token): base64.b64decode(text) for token, text in self.metadata.get("token_bytes", {}).items()}


def counted(number: int, noun: str) -> str:
    """ "1 token", "1,024 tokens"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def join(passes: list[Pass]) -> Pass:
    """Several passes as one: tokens are concatenated, `probability_sums` added."""
    joined = {}
    for name in passes[0]:
        pieces = [part[name] for part in passes]
        if name in PER_LAYER:
            joined[name] = torch.stack(pieces).sum(dim=0)
        else:
            joined[name] = torch.cat(pieces, dim=0 if name in PER_TOKEN + LABELS else 1)
    return joined


@contextmanager
def record_routing(
    model: Transformer, tokenizer: "Tokenizer | None" = None, label: str | None = None
) -> Iterator[RoutingTrace]:
    """Record the routers of `model` inside this block, without changing any logit. The trace remains valid afterwards.

    Every call of the model is appended, so the steps of a generation follow its prompt. `label` names the weights
    ("real weights", "mini checkpoint", "random"), without which a figure of routing cannot be interpreted. Raises
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
            metadata.update(describe_tokenizer(tokenizer, torch.cat([part["tokens"] for part in recorder.passes])))
