"""Record whole documents: routing, next-token losses, and the domain and document of every token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.provenance import describe_model, describe_tokenizer
from minimoe.routing.trace.recorder import Recorder
from minimoe.routing.trace.trace import RoutingTrace
from minimoe.text.generate import context_length

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer

COURSE_DOMAINS = ("en", "zh", "code", "math")  # listed first, in this order, if they occur


@dataclass(frozen=True)
class TracedDocument:
    """A text, or a conversation of {"role", "content"} messages, with its domain and source."""

    content: str | Sequence[Mapping[str, Any]]
    domain: str
    title: str
    language: str = ""
    source: str = ""
    licence: str = ""

    def entry(self) -> dict[str, str]:
        """The metadata entry of the document; its text is stored as tokens."""
        return {name: getattr(self, name) for name in ("title", "domain", "language", "source", "licence")}


def record_documents(
    model: Transformer, tokenizer: "Tokenizer", documents: Sequence[TracedDocument], label: str | None = None
) -> RoutingTrace:
    """Run every document through the whole model as a sequence of its own, and record the routing.

    In a plain text, special tokens such as `<|im_end|>` are encoded as ordinary characters; a conversation is rendered
    by the checkpoint's chat template. `label` as in `record_routing`. Raises BadArgument, naming the document.
    """
    if len(model.layer_range) < model.config.num_hidden_layers:
        raise BadArgument(
            f"model holds only layers {model.layer_range}, but losses need all layers. Load it without layers=."
        )
    for number, document in enumerate(documents):
        if not isinstance(document, TracedDocument):
            raise BadArgument(
                f"documents[{number}] is {type(document).__name__}, expected TracedDocument(text, domain, title)."
            )
    encoded = [document_ids(model, tokenizer, document) for document in documents]
    if not encoded:
        raise BadArgument("documents is empty, expected at least one TracedDocument.")
    present = dict.fromkeys(document.domain for document in documents)
    domains = [name for name in COURSE_DOMAINS if name in present]
    domains += [name for name in present if name not in domains]
    recorder = Recorder(model)
    for number, (document, ids) in enumerate(zip(documents, encoded, strict=True)):
        with recorder.watching(), torch.no_grad():
            logits = model(ids[None].to(model.device))[0]
            recorder.passes[-1] |= next_tokens(logits, ids, tokenizer.vocabulary_size) | {
                "domains": torch.full_like(ids, domains.index(document.domain)),
                "documents": torch.full_like(ids, number),
            }
    metadata = describe_model(model, recorder.layers, label) | describe_tokenizer(tokenizer, torch.cat(encoded))
    metadata |= {"domains": domains, "documents": [document.entry() for document in documents]}
    return RoutingTrace(recorder.layers, recorder.passes, recorder.faults, metadata)


def document_ids(model: Transformer, tokenizer: "Tokenizer", document: TracedDocument) -> Tensor:
    """(token) int64 ids of a document. Raises BadArgument if it is empty or exceeds the context length."""
    if isinstance(document.content, str):
        ids = tokenizer.encode(document.content, special=False)
    else:
        ids = tokenizer.encode(tokenizer.chat(document.content, add_generation_prompt=False))
    most = context_length(model.config)
    if not 0 < len(ids) <= most:
        fix = "Shorten it." if ids else "Remove the empty document."
        raise BadArgument(f"document {document.title!r} has {len(ids)} tokens, expected 1 to {most}. {fix}")
    return torch.tensor(ids)


def next_tokens(logits: Tensor, ids: Tensor, vocabulary: int) -> dict[str, Tensor]:
    """The loss (nats, NaN for the last token) and the predicted id of the next token, for each token.

    logits: (token, vocab); ids: (token). The loss is over all rows of the head, as in training; ids from `vocabulary`
    upwards are padding without a text, so they are never predicted.
    """
    scores = logits.double() if logits.dtype == torch.float64 else logits.float()
    losses = torch.full((len(ids),), torch.nan)
    losses[:-1] = torch.nn.functional.cross_entropy(scores[:-1], ids[1:].to(scores.device), reduction="none").cpu()
    return {"losses": losses, "predicted": scores[:, :vocabulary].argmax(dim=-1).cpu()}


def duplicate_documents(trace: RoutingTrace) -> dict[int, int]:
    """Copies among the documents: number of the copy -> number of the first document with the same tokens and domain.

    A copy repeats the routing of its original, token by token, so it's no further witness of anything. Documents with
    unknown tokens (-1) are not compared.
    """
    tokens, documents, domains = (each.tolist() for each in (trace.tokens, trace.documents, trace.domains))
    texts: dict[int, list[int]] = {}
    domain_of: dict[int, int] = {}
    for token, document, domain in zip(tokens, documents, domains, strict=True):
        if document >= 0:
            texts.setdefault(document, []).append(token)
            domain_of[document] = domain
    first: dict[tuple[int, tuple[int, ...]], int] = {}
    copies: dict[int, int] = {}
    for document in sorted(texts):
        if -1 in texts[document]:
            continue
        original = first.setdefault((domain_of[document], tuple(texts[document])), document)
        if original != document:
            copies[document] = original
    return copies


def merge_copies(trace: RoutingTrace) -> RoutingTrace:
    """The trace with every copy counted as a part of its original, so that tests over documents count the text once.

    All tokens stay; `documents` of a copy is the number of its original, whose title says how many are alike. The trace
    itself is returned if it has no copies, and is never changed.
    """
    copies = duplicate_documents(trace)
    if not copies:
        return trace
    number = torch.arange(int(trace.documents.max()) + 1)
    for copy, original in copies.items():
        number[copy] = original
    merged = torch.where(trace.documents >= 0, number[trace.documents.clamp(min=0)], -1)
    metadata = dict(trace.metadata)
    entries = [dict(entry) for entry in metadata.get("documents", [])]
    for original in set(copies.values()) & set(range(len(entries))):
        alike = 1 + sum(other == original for other in copies.values())
        entries[original]["title"] = f"{entries[original].get('title', '')} (one of {alike} equal documents)".strip()
    if entries:
        metadata["documents"] = entries
    return RoutingTrace(trace.layers.tolist(), [trace.tensors | {"documents": merged}], [], metadata)
