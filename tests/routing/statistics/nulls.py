"""Routing in which there is nothing to find, and how many views of the explorer find something at q <= 5 %.

python -m tests.routing.statistics.nulls [ROUNDS]      at the size of the course's own trace
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.routing.statistics import (
    design_effect,
    expert_preferences,
    pmi,
    token_preferences,
    transition_lift,
)
from minimoe.routing.trace.documents import merge_copies
from minimoe.routing.trace.trace import RoutingTrace
from tests.routing.statistics.made import weighted

LEVEL = 0.05
COPIES = 5


@dataclass(frozen=True)
class Texts:
    """Whose routing is drawn: the document and the id of every token, and the searched ids."""

    documents: Tensor
    tokens: Tensor
    num_experts: int
    top_k: int

    @property
    def searched(self) -> list[int]:
        """The ten most frequent ids."""
        ids, times = self.tokens.unique(return_counts=True)
        return ids[times.argsort(descending=True)[:10]].tolist()


def habits(texts: Texts, strength: float, seed: int) -> Tensor:
    """(layer, token, slot) of two layers: every document prefers experts of its own, whatever the token. 0: dice."""
    generator = torch.Generator().manual_seed(seed)
    shape = 2, int(texts.documents.max()) + 1, texts.num_experts
    habit = torch.exp(strength * torch.randn(*shape, generator=generator))
    return weighted(habit[:, texts.documents], 7919 * seed + 1, texts.top_k)


def copied(texts: Texts) -> tuple[Texts, Tensor]:
    """(the texts, each document of the first third COPIES times; the place of each token in the original texts)."""
    some = (texts.documents <= int(texts.documents.max()) // 3).nonzero().flatten()
    places = torch.cat([torch.arange(len(texts.documents)), *[some] * (COPIES - 1)])
    number = texts.documents[places].clone()
    size = int(texts.documents.max()) + 1
    for time in range(COPIES - 1):
        start = len(texts.documents) + time * len(some)
        number[start : start + len(some)] += (time + 1) * size
    return Texts(number, texts.tokens[places], texts.num_experts, texts.top_k), places


def once(texts: Texts) -> Tensor:
    """(token): documents with copies merged, as the page counts them."""
    tensors = {"tokens": texts.tokens, "documents": texts.documents, "domains": torch.zeros_like(texts.tokens)}
    return merge_copies(RoutingTrace([], [tensors], [], {})).documents


def false_findings(experts: Tensor, texts: Texts, documents: Tensor) -> dict[str, tuple[int, int]]:
    """View -> (pages with a finding at q <= 5 %, pages): H, I, the cards and the searches of view E."""
    here, there, count = experts[0], experts[1], texts.num_experts
    off = torch.ones(count, count, dtype=torch.bool).triu(1)
    cards = token_preferences(here, count, texts.tokens, documents).q <= LEVEL
    searches = [expert_preferences(experts, count, texts.tokens == each, documents).q for each in texts.searched]
    return {
        "pairs": (int(bool((pmi(here, count, documents).q[off] <= LEVEL).any())), 1),
        "paths": (int(bool((transition_lift(here, there, count, documents).q <= LEVEL).any())), 1),
        "cards": (int(cards.any(0).sum()), count),
        "searches": (sum(bool((q <= LEVEL).any()) for q in searches), len(searches)),
    }


def rates(draw: Callable[[int], tuple[Tensor, Texts, Tensor]], seeds: range) -> dict[str, tuple[int, int]]:
    """The sums of `false_findings` over the seeds; draw(seed) -> (experts, texts, documents that the tests use)."""
    total: dict[str, tuple[int, int]] = {}
    for seed in seeds:
        for view, (found, pages) in false_findings(*draw(seed)).items():
            before = total.get(view, (0, 0))
            total[view] = before[0] + found, before[1] + pages
    return total


def cases(texts: Texts, strengths: dict[str, float]) -> dict[str, Callable[[int], tuple[Tensor, Texts, Tensor]]]:
    """name -> draw(seed)."""
    again, places = copied(texts)
    merged = once(again)

    def dealt(seed: int) -> tuple[Tensor, Texts, Tensor]:
        """Routing that depends on the ids, whose labels are then dealt to the tokens at random."""
        generator = torch.Generator().manual_seed(seed)
        kinds = int(texts.tokens.max()) + 1
        liking = torch.exp(0.8 * torch.randn(2, kinds, texts.num_experts, generator=generator))
        order = torch.randperm(len(texts.tokens), generator=generator)
        experts = torch.stack(
            [
                layer[torch.randperm(len(order), generator=generator)]
                for layer in weighted(liking[:, texts.tokens], seed, texts.top_k)
            ]
        )
        shuffled = Texts(texts.documents, texts.tokens[order], texts.num_experts, texts.top_k)
        return experts, shuffled, texts.documents

    made = {
        name: lambda seed, strength=strength: (habits(texts, strength, seed), texts, texts.documents)
        for name, strength in strengths.items()
    }
    made["copies, counted once"] = lambda seed: (habits(texts, 0.0, seed)[:, places], again, merged)
    made["copies, counted as they come"] = lambda seed: (habits(texts, 0.0, seed)[:, places], again, again.documents)
    return made | {"labels dealt": dealt}  # not a null for pairs: a token keeps its own set of experts


if __name__ == "__main__":
    rounds, first = (int(given) for given in (sys.argv[1:] + ["10", "1000"][len(sys.argv) - 1 :]))
    whole = RoutingTrace.load("data/traces/mini_four_domains.safetensors")
    kinds = whole.tokens.unique(return_inverse=True)[1]
    texts = Texts(whole.documents, kinds, 128, 8)
    for name, draw in cases(texts, {"dice": 0.0, "habits 0.64": 0.64, "habits 1.18": 1.18}).items():
        experts, own, documents = draw(first)
        effect = float(design_effect(experts, 128, documents, torch.zeros_like(documents)).mean())
        words = [
            f"{view} {found} of {pages}" for view, (found, pages) in rates(draw, range(first, first + rounds)).items()
        ]
        print(f"{name} (dispersion {effect:.1f}): {', '.join(words)}", flush=True)
