"""Synthetic traces of any size: uniform routing with planted effects, as ground truth for the statistics.

Uniform means that every set of `top_k` experts is equally likely for every token of every layer. The planted effects:

    specialists   an expert that tokens of one domain select `lift` times as often as chance
    pairs         tokens that select the first expert of a pair mostly select the second one too
    paths         tokens that select `from` in a layer mostly select `to` in the next one

A planted expert replaces another expert of the token, drawn at random. The second expert of a pair and the end of a
path are therefore selected somewhat more often than chance in every domain. Everything else stays uniform.

Probabilities, margin and entropy of a row belong to one softmax (`top_k` logits above a tail that decreases by `TAIL`
from rank to rank), so they are consistent to the last digit. They are invented, like everything in a synthetic trace.
"""

import base64
import math
from typing import Any

import torch
from einops import repeat
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.trace.synthetic_text import DOMAINS, Text, write_text
from minimoe.routing.trace.trace import RoutingTrace
from minimoe.routing.trace.trace_file import SCHEMA

TAIL = 0.03  # decrease of the logit from rank to rank, among the experts that are not selected
GAP, MARGIN = 0.25, 0.2  # mean logit gaps: between selected ranks, and between rank K and rank K + 1
JOINING = 0.8  # probability that the second expert of a pair, or the end of a path, follows the first
SPECIALISTS, PAIRS, PATHS = 12, 6, 6  # planted in 94 layers, fewer in a trace with few layers


def synthetic_trace(
    layers: int = 94,
    tokens: int = 4096,
    num_experts: int = 128,
    top_k: int = 8,
    seed: int = 0,
    plant: bool = True,
) -> RoutingTrace:
    """A synthetic trace; `metadata["planted"]` lists the planted effects (none with plant=False).

    It has four domains of 24 documents each (fewer if `tokens` is small) with text-like tokens. The same arguments
    give the same trace. Raises BadArgument.
    """
    sizes = {"layers": layers, "tokens": tokens, "num_experts": num_experts, "top_k": top_k}
    for name, value in sizes.items():
        if type(value) is not int or value < 1:
            raise BadArgument(f"{name} is {value!r}, expected a positive integer.")
    if tokens < len(DOMAINS) or not top_k < num_experts:
        raise BadArgument(
            f"tokens is {tokens} and top_k is {top_k} of {num_experts} experts, expected at least {len(DOMAINS)} "
            "tokens and top_k below num_experts."
        )
    if plant and (top_k < 2 or num_experts < max(8, 4 * top_k)):
        raise BadArgument(
            f"top_k is {top_k} of {num_experts} experts, too dense for planted effects. Use top_k of 2 or more and at "
            "least max(8, 4 * top_k) experts, or plant=False."
        )
    draw = torch.Generator().manual_seed(seed)
    text = write_text(tokens, draw)
    experts = uniform_sets(layers, tokens, num_experts, top_k, draw)
    planted: dict[str, list[dict[str, Any]]] = {"specialists": [], "pairs": [], "paths": []}
    if plant:
        planted = choose_truth(layers, num_experts, top_k, draw)
        plant_truth(experts, text.domains, planted, top_k / num_experts, draw)
    tensors = {"experts": experts} | softmax_numbers(experts, num_experts, draw) | describe_tokens(text, draw)
    arguments = ", ".join(f"{name}={value}" for name, value in (sizes | {"seed": seed, "plant": plant}).items())
    metadata = {
        "schema": SCHEMA,
        "provenance": "synthetic",
        "label": "synthetic",
        "num_hidden_layers": layers,
        "vocab_size": len(text.vocabulary),
        "num_experts": num_experts,
        "num_experts_per_tok": top_k,
        "norm_topk_prob": True,
        "capture": f"synthetic_trace({arguments})",
        "token_bytes": {str(i): base64.b64encode(word).decode() for i, word in enumerate(text.vocabulary)},
        "domains": list(DOMAINS),
        "documents": text.titles,
        "planted": planted,
    }
    return RoutingTrace(list(range(layers)), [tensors], [], metadata)


def uniform_sets(layers: int, tokens: int, num_experts: int, top_k: int, draw: torch.Generator) -> Tensor:
    """(layer, token, slot) int64: every ordered set of distinct experts is equally likely.

    Rows are drawn with replacement, and rows with a repeated expert are redrawn: far cheaper than ranking all experts.
    """
    if 2 * top_k > num_experts:  # nearly every row would have a repetition
        noise = torch.rand(layers, tokens, num_experts, generator=draw)
        return noise.topk(top_k, dim=-1).indices
    rows = torch.randint(num_experts, (layers * tokens, top_k), generator=draw)
    redrawn = torch.arange(len(rows))
    while len(redrawn):
        ordered = rows[redrawn].sort(dim=-1).values
        redrawn = redrawn[(ordered[:, 1:] == ordered[:, :-1]).any(dim=-1)]
        rows[redrawn] = torch.randint(num_experts, (len(redrawn), top_k), generator=draw)
    return rows.unflatten(0, (layers, tokens))


def choose_truth(layers: int, num_experts: int, top_k: int, draw: torch.Generator) -> dict[str, list[dict[str, Any]]]:
    """Choose the effects to plant and their layers and experts. No expert takes part in two effects."""
    used: set[tuple[int, int]] = set()

    def integer(below: int) -> int:
        return int(torch.randint(below, (1,), generator=draw))

    def expert(layer: int) -> int:
        while (candidate := (layer, integer(num_experts))) in used:
            continue
        used.add(candidate)
        return candidate[1]

    share = min(1.0, layers / 24)
    most = 0.75 * num_experts / top_k  # a higher lift would leave hardly any slots to other experts
    specialists = []
    for number in range(max(len(DOMAINS), round(SPECIALISTS * share))):
        layer = integer(layers)
        lift = round(min(4.0 + 4.0 * float(torch.rand(1, generator=draw)), most), 2)
        domain = DOMAINS[number % len(DOMAINS)]
        specialists.append({"layer": layer, "expert": expert(layer), "domain": domain, "lift": lift})
    pairs = []
    for _ in range(max(1, round(PAIRS * share))):
        layer = integer(layers)
        pairs.append({"layer": layer, "experts": [expert(layer), expert(layer)]})
    paths = []
    for _ in range(max(1, round(PATHS * share)) if layers > 1 else 0):
        layer = integer(layers - 1)
        paths.append({"layer": layer, "from": expert(layer), "to": expert(layer + 1)})
    return {"specialists": specialists, "pairs": pairs, "paths": sorted(paths, key=lambda path: path["layer"])}


def plant_truth(
    experts: Tensor, domains: Tensor, planted: dict[str, list[dict[str, Any]]], chance: float, draw: torch.Generator
) -> None:
    """Plant the effects in `experts` (layer, token, slot), in place: specialists, then pairs, then paths by layer.

    domains: (token) int64. chance: the share of tokens that select a given expert under uniform routing.
    """

    def join(layer: int, candidates: Tensor, expert: int, probability: float, protected: int | None = None) -> None:
        """Put `expert` in a random slot of candidates (token) bool that lack it, but not in that of `protected`."""
        slots = experts[layer]
        eligible = candidates & ~(slots == expert).any(dim=-1)
        tokens = (eligible & (torch.rand(len(slots), generator=draw) < probability)).nonzero().flatten()
        slot = torch.randint(slots.shape[-1], (len(tokens),), generator=draw)
        if protected is not None:
            slot = torch.where(slots[tokens, slot] == protected, (slot + 1) % slots.shape[-1], slot)
        slots[tokens, slot] = expert

    for specialist in planted["specialists"]:
        domain = DOMAINS.index(specialist["domain"])
        target = specialist["lift"] * chance
        join(specialist["layer"], domains == domain, specialist["expert"], (target - chance) / (1 - chance))
    for pair in planted["pairs"]:
        first, second = pair["experts"]
        join(pair["layer"], (experts[pair["layer"]] == first).any(dim=-1), second, JOINING, protected=first)
    for path in planted["paths"]:
        join(path["layer"] + 1, (experts[path["layer"]] == path["from"]).any(dim=-1), path["to"], JOINING)


def softmax_numbers(experts: Tensor, num_experts: int, draw: torch.Generator) -> dict[str, Tensor]:
    """Weights, probabilities, margins, entropies and sums, all computed from one softmax per row.

    Logits: 0, -TAIL, -2 TAIL, ... for the experts that are not selected, the margin for the last selected one, and
    random gaps above it. With Z = sum(exp(logit)), the entropy is log(Z) - sum(p * logit).
    """
    layers, tokens, slots = experts.shape
    ranks = torch.arange(num_experts - slots, dtype=torch.float64)
    tail = float((-TAIL * ranks).exp().sum())
    tail_weighted = float((-TAIL * ranks * (-TAIL * ranks).exp()).sum())
    gaps = torch.empty(layers, tokens, slots).exponential_(generator=draw) * GAP
    margins = gaps[..., -1].mul_(MARGIN / GAP).clone()
    logits = gaps.flip(-1).cumsum_(dim=-1).flip(-1)
    above = logits.exp()
    total = tail + above.sum(dim=-1)
    probabilities = above / total[..., None]
    entropies = total.log() - ((above * logits).sum(dim=-1) + tail_weighted) / total
    weights = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return {
        "weights": weights,
        "probabilities": probabilities,
        "margins": margins,
        "entropies": entropies,
        "probability_sums": sums_of_softmax(experts, probabilities, tail / total, num_experts),
    }


def sums_of_softmax(experts: Tensor, probabilities: Tensor, rest: Tensor, num_experts: int) -> Tensor:
    """(layer, expert) float32: softmax summed over tokens, as `probability_sums` of a trace.

    probabilities: (layer, token, slot). rest: (layer, token), the total of the experts that are not selected, spread
    evenly over them.
    """
    layers, _, slots = experts.shape
    cells = (experts + num_experts * torch.arange(layers)[:, None, None]).flatten()
    least = repeat(rest / (num_experts - slots), "layer token -> (layer token slot)", slot=slots)
    own = torch.bincount(cells, (probabilities.flatten() - least).double(), minlength=layers * num_experts)
    baseline = rest.double().sum(dim=-1, keepdim=True) / (num_experts - slots)
    return (own.unflatten(0, (layers, num_experts)) + baseline).float()


def describe_tokens(text: Text, draw: torch.Generator) -> dict[str, Tensor]:
    """The tensors with one number per token. Losses are exponential with a mean of 2 nats, predictions random."""
    losses = torch.empty(len(text.tokens)).exponential_(0.5, generator=draw)
    losses[text.last] = math.nan
    return {
        "tokens": text.tokens,
        "positions": text.positions,
        "sequences": text.documents.clone(),
        "documents": text.documents,
        "domains": text.domains,
        "losses": losses,
        "predicted": text.tokens[torch.randperm(len(text.tokens), generator=draw)],
    }
