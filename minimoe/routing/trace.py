"""RoutingTrace: which experts every token was sent to, in every layer, and how sure the router was.

with record_routing(model, tokenizer) as trace:
    model(token_ids)
trace.experts[0, 5]        # the experts of token 5 in the first recorded layer
"""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minimoe.errors import BadTrace
from minimoe.model.transformer import Transformer
from minimoe.routing.recorder import PER_TOKEN, Pass, Recorder, router_sha256
from minimoe.routing.replay import Replay, replay
from minimoe.routing.storage import SCHEMA, read, write
from minimoe.routing.validity import check

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")


class RoutingTrace:
    """The decisions of the routers for the tokens that went through a model. Reading an empty trace raises BadTrace.

    Made by `record_routing` or `RoutingTrace.load`. `metadata` says which model, dtype, engine, tokenizer and label
    it has. Expert 17 of layer 3 and expert 17 of layer 4 have nothing to do with each other: an id means something
    only together with its layer.
    """

    def __init__(self, layers: list[int], passes: list[Pass], faults: list[str], metadata: dict[str, Any]):
        self.metadata = metadata
        self._layers, self._passes, self._faults = layers, passes, faults

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All passes so far, one after the other. Raises BadTrace if there is none or one could not be recorded."""
        if self._faults:
            raise BadTrace(
                f"the recording is incomplete: {self._faults[0]}. Does something run the experts without the router?"
            )
        if not self._passes:
            raise BadTrace("the trace is empty: the model did not run inside `with record_routing(model) as trace:`.")
        if len(self._passes) > 1:
            joined = {
                key: torch.cat([one[key] for one in self._passes], dim=0 if key in PER_TOKEN else 1)
                for key in self._passes[0]
            }
            self._passes[:] = [joined]
        return self._passes[0]

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
        return self.tensors["weights"]

    @property
    def probabilities(self) -> Tensor:
        """(layer, token, slot) float32: softmax over all experts, before renormalisation."""
        return self.tensors["probabilities"]

    @property
    def margins(self) -> Tensor:
        """(layer, token) float32: logit of the last expert that got in minus that of the first one left out."""
        return self.tensors["margins"]

    @property
    def entropies(self) -> Tensor:
        """(layer, token) float32: entropy of the softmax over all experts, in nats."""
        return self.tensors["entropies"]

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

    def __len__(self) -> int:
        return sum(len(one["tokens"]) for one in self._passes)

    def __repr__(self) -> str:
        label = self.metadata.get("label") or "no label"
        return f"<RoutingTrace: {len(self._layers)} layers x {len(self)} tokens, {label}>"

    def token_bytes(self, token: int) -> bytes | None:
        """The bytes of token number `token` of this trace (a Chinese character may be split over several tokens)."""
        found = self.metadata.get("token_bytes", {}).get(str(int(self.tokens[token])))
        return None if found is None else base64.b64decode(found)

    def check(self) -> None:
        """Raise BadTrace if the numbers contradict each other (see validity.py)."""
        check(self.tensors | {"layers": self.layers}, self.metadata)

    def save(self, path: str | Path) -> None:
        """Check, then write one safetensors file, atomically."""
        self.check()
        write(path, self.tensors | {"layers": self.layers}, self.metadata)

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
    config = model.config
    metadata: dict[str, Any] = {
        "schema": SCHEMA,
        "label": label,
        "model_type": config.model_type,
        "num_hidden_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "vocab_size": config.vocab_size,
        "num_experts": config.num_experts,
        "num_experts_per_tok": config.num_experts_per_tok,
        "norm_topk_prob": config.norm_topk_prob,
        "router_sha256": router_sha256(model, recorder.layers),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "engine": model.engine,
        "attention": model.attention,
        "versions": {name: installed(name) for name in ("minimoe", "torch")},
        "capture": "forward hooks on the routers",
    }
    trace = RoutingTrace(recorder.layers, recorder.passes, recorder.faults, metadata)
    try:
        with recorder.watching():
            yield trace
    finally:
        if tokenizer is not None and len(trace):
            metadata.update(describe_tokenizer(tokenizer, torch.cat([one["tokens"] for one in recorder.passes])))


def describe_tokenizer(tokenizer: "Tokenizer", tokens: Tensor) -> dict[str, Any]:
    """Fingerprint of the vocabulary files, and the bytes (base64) of every token id that occurs."""
    digest = hashlib.sha256()
    for name in TOKENIZER_FILES:
        if name in tokenizer.files:
            digest.update(name.encode() + b"\0" + tokenizer.files[name])
    used = [token for token in tokens.unique().tolist() if 0 <= token < tokenizer.vocabulary_size]
    texts = {str(token): base64.b64encode(tokenizer.token_bytes(token)).decode() for token in used}
    return {"tokenizer_sha256": digest.hexdigest(), "token_bytes": texts}


def installed(package: str) -> str:
    """The version of an installed package, for the metadata."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
