"""Counts of selections per layer, per group of tokens and per document; the other statistics are based on them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument


def check_experts(experts: Tensor, num_experts: int) -> None:
    """Raise BadArgument unless experts is (layer, token, slot) with ids in 0..num_experts-1 and at least one token."""
    if experts.dim() != 3 or 0 in experts.shape:
        raise BadArgument(
            f"experts has shape {tuple(experts.shape)}: expected (layer, token, slot) with at least one of each. "
            "Select some tokens first."
        )
    if experts.shape[2] > num_experts or int(experts.min()) < 0 or int(experts.max()) >= num_experts:
        raise BadArgument(
            f"experts contains ids {int(experts.min())}..{int(experts.max())} in {experts.shape[2]} slots, "
            f"expected 0..{num_experts - 1}. Pass the num_experts of the trace; found num_experts={num_experts}."
        )


def check_labels(name: str, labels: Tensor, experts: Tensor) -> Tensor:
    """The labels as int64. Raises BadArgument unless there is one label for every token of experts."""
    if labels.shape != experts.shape[1:2]:
        raise BadArgument(
            f"{name} has shape {tuple(labels.shape)}: expected one label for each of {experts.shape[1]} tokens."
        )
    return labels.long()


def group_counts(experts: Tensor, num_experts: int, groups: Tensor, num_groups: int) -> Tensor:
    """(group, layer, expert) int64: number of tokens of each group that selected each expert.

    experts: (layer, token, slot); groups: (token) in 0..num_groups-1, or -1 for a token in no group. The sum over
    experts is k times the number of tokens of the group.
    """
    check_experts(experts, num_experts)
    groups = check_labels("groups", groups, experts)
    inside = groups >= 0
    if not bool(inside.all()):
        experts, groups = experts[:, inside], groups[inside]
    layers = len(experts)
    rows = groups * (layers * num_experts)
    counts = torch.zeros(num_groups * layers * num_experts, dtype=torch.int64)
    for layer in range(layers):  # one layer at a time, so that the index fits in the CPU cache
        index = (experts[layer] + (rows + layer * num_experts)[:, None]).flatten()
        counts.scatter_add_(0, index, torch.ones(1, dtype=torch.int64).expand(len(index)))
    return counts.reshape(num_groups, layers, num_experts)


def selection_counts(experts: Tensor, num_experts: int) -> Tensor:
    """(layer, expert) int64: number of tokens that selected each expert. experts: (layer, token, slot).

    The sum over experts is T k in every layer. Uniform routing gives T k / E each, with a standard deviation of
    sqrt(T k/E (1 - k/E)). An expert that was never selected has 0. No minimum: the counts are exact.
    """
    check_experts(experts, num_experts)
    offsets = torch.arange(len(experts), device=experts.device)[:, None, None] * num_experts
    return torch.bincount((experts + offsets).flatten(), minlength=len(experts) * num_experts).reshape(
        len(experts), num_experts
    )


@dataclass(frozen=True)
class DocumentCounts:
    """Selections per document. Documents are the resampling unit, since tokens of one text are not independent.

    counts (document, layer, expert) int64; tokens (document) int64, number of tokens, all > 0; domains (document)
    int64; ids (document): the original label of each row.
    """

    counts: Tensor
    tokens: Tensor
    domains: Tensor
    ids: Tensor

    def of(self, *domains: int) -> "DocumentCounts":
        """Only the documents of these domains."""
        kept = torch.isin(self.domains, torch.tensor(domains))
        return DocumentCounts(self.counts[kept], self.tokens[kept], self.domains[kept], self.ids[kept])


def document_counts(
    experts: Tensor, num_experts: int, documents: Tensor, domains: Tensor | None = None
) -> DocumentCounts:
    """Counts per document, without tokens that have no document or (if domains are given) no domain.

    documents, domains: (token), -1 for none. Raises BadArgument if no token is left, or a document has two domains.
    """
    check_experts(experts, num_experts)
    documents = check_labels("documents", documents, experts)
    domains = torch.zeros_like(documents) if domains is None else check_labels("domains", domains, experts)
    documents = torch.where(domains >= 0, documents, -1)
    ids = documents[documents >= 0].unique()
    if len(ids) == 0:
        raise BadArgument("no token has both a document and a domain; expected labels >= 0 for at least one token.")
    rows = compact(documents, ids)
    of_document = torch.zeros(len(ids), dtype=torch.int64)
    of_document[rows[rows >= 0]] = domains[rows >= 0]
    mixed = (rows >= 0) & (of_document[rows] != domains)
    if bool(mixed.any()):
        token = int(mixed.nonzero()[0])
        raise BadArgument(
            f"document {int(documents[token])} has tokens of two domains (token {token}), expected one domain."
        )
    counts = group_counts(experts, num_experts, rows, len(ids))
    return DocumentCounts(counts, torch.bincount(rows[rows >= 0], minlength=len(ids)), of_document, ids)


def compact(labels: Tensor, kept: Tensor) -> Tensor:
    """(token) int64: the index of each label in `kept` (sorted), -1 for a label that it does not contain."""
    if len(kept) == 0:
        return torch.full_like(labels, -1)
    indices = torch.searchsorted(kept, labels).clamp(max=len(kept) - 1)
    return torch.where(kept[indices] == labels, indices, -1)


def indicator(experts: Tensor, num_experts: int) -> Tensor:
    """(token, expert) float32: 1 where the token selected the expert. experts: (token, slot) of one layer."""
    return torch.zeros(len(experts), num_experts).scatter_(1, experts, 1.0)
