"""Specialisation of the experts: three measurements of routing on held-out text, each with its chance value."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional as F

from minimoe.model.transformer import Transformer
from minimoe.training.corpus.batches import GeneratedSource
from minimoe.training.evaluation.intervals import rate
from minimoe.training.losses import RouterTap

PURE = ("en", "zh", "code", "math")  # without chat, which mixes them
LENGTH = 64  # tokens of a passage
BATCH = 25  # passages in one forward pass


@dataclass(frozen=True)
class Passages:
    """Passages of one domain and their routing.

    tokens: (passage, position) ids; chosen: (passage, position, layer, expert) bool.
    """

    tokens: Tensor
    chosen: Tensor


@torch.no_grad()
def passages(model: Transformer, source: GeneratedSource, domain: str, split: str, count: int) -> Passages:
    """The first `count` passages of a domain and split, always the same, with their routing."""
    rng = Random(f"passages/{split}/{domain}")
    rows = [source.passage(rng, LENGTH, split, domain) for _ in range(count)]
    chosen = []
    with RouterTap(model) as tap:
        for begin in range(0, count, BATCH):
            ids = torch.tensor(rows[begin : begin + BATCH], device=model.device)
            model(ids, last_only=True)
            layers = [routing.experts.cpu() for routing in tap.routings.values()]
            experts = rearrange(
                layers, "layer (passage position) slot -> passage position layer slot", passage=len(ids)
            )
            chosen.append(F.one_hot(experts, model.config.num_experts).sum(dim=-2).bool())
    return Passages(torch.tensor(rows), torch.cat(chosen))


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """(point) index of the nearest centroid. points: (point, feature); centroids: (centroid, feature)."""
    return torch.cdist(points, centroids).argmin(dim=-1)


def shares(seen: Passages) -> Tensor:
    """(passage, layer x expert): share of the passage's tokens that selected each expert."""
    return reduce(seen.chosen.float(), "passage position layer expert -> passage (layer expert)", "mean")


def domain_from_counts(train: dict[str, Passages], held_out: dict[str, Passages]) -> dict[str, Any]:
    """Accuracy of predicting the domain of a held-out passage from its expert counts, by the nearest centroid.

    The centroids are the mean counts of the training passages of each domain.
    """
    centroids = torch.stack([shares(train[domain]).mean(dim=0) for domain in train])
    right = total = 0
    for number, domain_passages in enumerate(held_out.values()):
        predicted = nearest(shares(domain_passages), centroids)
        right, total = right + int((predicted == number).sum()), total + len(predicted)
    return {**rate(right, total), "chance": round(1 / len(held_out), 4), "passage_tokens": LENGTH}


def occurrences(seen: Passages) -> dict[int, Tensor]:
    """The routings of each token id, (occurrence, layer x expert), without first tokens, which have no context."""
    ids = seen.tokens[:, 1:].flatten()
    routed = rearrange(seen.chosen[:, 1:].float(), "passage position layer expert -> (passage position) (layer expert)")
    return {int(token): routed[ids == token] for token in ids.unique()}


def kind_of_token(text: str) -> str | None:
    """ "digits", "punctuation" or "words"; None for special tokens and parts of a character."""
    bare = text.strip()
    if not bare or bare.startswith("<|") or "\ufffd" in bare:
        return None
    if bare.isdigit():
        return "digits"
    return "words" if any(sign.isalnum() for sign in bare) else "punctuation"


@dataclass
class Tally:
    """Number of right predictions, with the mean and variance of random guessing among 2, 3 or 4 domains."""

    right: int = 0
    total: int = 0
    tokens: int = 0
    expected: float = 0.0
    variance: float = 0.0

    def add(self, right: int, total: int, chance: float) -> None:
        """Add a token id with `total` occurrences, each predicted correctly by chance with probability `chance`."""
        self.right, self.total, self.tokens = self.right + right, self.total + total, self.tokens + 1
        self.expected, self.variance = self.expected + total * chance, self.variance + total * chance * (1 - chance)

    def report(self) -> dict[str, Any]:
        """The rate, the chance value and its 95 % band."""
        if not self.total:
            return {"shared_tokens": 0}
        chance, half = self.expected / self.total, 1.96 * self.variance**0.5 / self.total
        return {
            **rate(self.right, self.total),
            "shared_tokens": self.tokens,
            "chance": round(chance, 4),
            "chance_band": [round(chance - half, 4), round(chance + half, 4)],
        }


def domain_from_one_shared_token(
    train: dict[str, Passages],
    held_out: dict[str, Passages],
    kind_of: Callable[[int], str | None] = lambda token: "words",
    least: int = 5,
) -> dict[str, Any]:
    """Accuracy of predicting the domain of a single token from its experts, for token ids in two or more domains.

    Since the id occurs in several domains, it does not reveal the domain itself. Each token id has its own centroids,
    one per domain, and is tested on equally many occurrences in each of its domains: chance is one over their number.
    kind_of: token id -> kind, by which the result is also broken down; ids of kind None are ignored. A domain counts
    for a token id if the id occurs there at least `least` times in both splits.
    """
    train_occurrences = {domain: occurrences(domain_passages) for domain, domain_passages in train.items()}
    test_occurrences = {domain: occurrences(domain_passages) for domain, domain_passages in held_out.items()}
    splits = (train_occurrences, test_occurrences)
    overall, kinds = Tally(), defaultdict[str, Tally](Tally)
    for token in sorted(set().union(*test_occurrences.values())):
        domains = [d for d in train_occurrences if min(len(split[d].get(token, ())) for split in splits) >= least]
        kind = kind_of(token)
        if len(domains) < 2 or kind is None:
            continue
        centroids = torch.stack([train_occurrences[domain][token].mean(dim=0) for domain in domains])
        count = min(len(test_occurrences[domain][token]) for domain in domains)
        right = sum(
            int((nearest(test_occurrences[domain][token][:count], centroids) == number).sum())
            for number, domain in enumerate(domains)
        )
        for tally in (overall, kinds[kind]):
            tally.add(right, count * len(domains), 1 / len(domains))
    return {**overall.report(), "kinds": {kind: kinds[kind].report() for kind in sorted(kinds)}}


def overlap_of_neighbours(held_out: dict[str, Passages], top_k: int, seed: int = 0) -> dict[str, Any]:
    """Mean share of experts that a token has in common with the next token, by layer.

    For comparison: two random tokens of the same domain, and two uniformly random sets of experts (top-k / experts).
    """
    neighbours: dict[str, Tensor] = {}
    random_pairs: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(seed)
    for domain, seen in held_out.items():
        both = seen.chosen[:, 1:] & seen.chosen[:, :-1]
        neighbours[domain] = reduce(both.float(), "passage position layer expert -> layer", "sum").div(
            both.shape[0] * both.shape[1] * top_k
        )
        flat = rearrange(seen.chosen, "passage position layer expert -> (passage position) layer expert")
        mixed = flat & flat[torch.randperm(len(flat), generator=generator)]
        random_pairs[domain] = reduce(mixed.float(), "token layer expert -> layer", "sum").div(len(flat) * top_k)
    experts = next(iter(held_out.values())).chosen.shape[-1]

    def rounded(by_domain: dict[str, Tensor]) -> dict[str, list[float]]:
        return {domain: [round(value, 4) for value in layers.tolist()] for domain, layers in by_domain.items()}

    return {
        "neighbours": rounded(neighbours),
        "same_domain_at_random": rounded(random_pairs),
        "two_random_sets": round(top_k / experts, 4),
    }


def specialisation(model: Transformer, source: GeneratedSource, count: int = 250) -> dict[str, Any]:
    """The three measurements on `count` training and `count` held-out passages of each of the PURE domains."""
    train = {domain: passages(model, source, domain, "train", count) for domain in PURE}
    held_out = {domain: passages(model, source, domain, "held-out", count) for domain in PURE}

    def kind_of(token: int) -> str | None:
        return kind_of_token(source.tokenizer.decode([token], skip_special_tokens=False))

    return {
        "domain_of_a_passage": domain_from_counts(train, held_out),
        "domain_of_one_shared_token": domain_from_one_shared_token(train, held_out, kind_of),
        "overlap": overlap_of_neighbours(held_out, model.config.num_experts_per_tok),
    }
