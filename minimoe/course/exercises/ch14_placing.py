"""Chapter 14, the whole 235B: greedy expert placement (14.1) and the memory of one rank (14.2)."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.deployment import deploy

# 14.1 greedy: the heaviest expert first, on the least loaded rank -----------------------------------------------------


def place_by_loops(loads: Tensor, ranks: int) -> Tensor:
    """One expert after the other; among the ranks with room the one with the smallest sum so far."""
    room, work = [len(loads) // ranks] * ranks, [0] * ranks
    home = torch.zeros(len(loads), dtype=torch.int64)
    for load, expert in sorted((-load, expert) for expert, load in enumerate(loads.tolist())):
        rank = min((rank for rank in range(ranks) if room[rank]), key=lambda rank: work[rank])
        home[expert], room[rank], work[rank] = rank, room[rank] - 1, work[rank] - load
    return home


def different_loads(experts: int, ranks: int, steep: float = 1.0) -> Arguments:
    """Loads without ties, between even and steep."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int]:
        order = torch.randperm(experts, generator=generator)
        return (order + 1) ** 3 // round(40 / steep) + 3 * order + 1, ranks

    return arguments


def heaviest_first(loads: Tensor) -> Tensor:
    return loads.argsort(descending=True, stable=True)


def contiguous(loads: Tensor, ranks: int) -> Tensor:
    return torch.arange(len(loads)) // (len(loads) // ranks)


def by_number(loads: Tensor, ranks: int) -> Tensor:
    return torch.arange(len(loads)) % ranks


def like_cards(loads: Tensor, ranks: int) -> Tensor:
    home = torch.empty(len(loads), dtype=torch.int64)
    home[heaviest_first(loads)] = torch.arange(len(loads)) % ranks
    return home


def to_and_fro(loads: Tensor, ranks: int) -> Tensor:
    place = torch.arange(len(loads))
    there, back = place % ranks, ranks - 1 - place % ranks
    home = torch.empty(len(loads), dtype=torch.int64)
    home[heaviest_first(loads)] = torch.where(place // ranks % 2 == 0, there, back)
    return home


def greedily(
    loads: Tensor, ranks: int, order: Tensor, places: int | None = None, best: Callable = min, later: bool = False
) -> Tensor:
    """The oracle with one decision exchanged. places: on each rank. later: among equal ranks the higher one wins."""
    places = len(loads) // ranks if places is None else places
    room, work, home = [places] * ranks, [0] * ranks, torch.empty(len(loads), dtype=torch.int64)
    for expert in order.tolist():
        free = [rank for rank in (reversed(range(ranks)) if later else range(ranks)) if room[rank] > 0]
        rank = best(free, key=lambda rank: work[rank])
        home[expert], room[rank], work[rank] = rank, room[rank] - 1, work[rank] + int(loads[expert])
    return home


def later_experts_first(loads: Tensor, ranks: int) -> Tensor:
    order = loads.flip(0).argsort(descending=True, stable=True)
    return greedily(loads, ranks, len(loads) - 1 - order)


def with_a_heap(loads: Tensor, ranks: int) -> list[int]:
    """(work, rank, room) in a heap."""
    heap, home = [(0, rank, len(loads) // ranks) for rank in range(ranks)], [0] * len(loads)
    for expert in heaviest_first(loads).tolist():
        work, home[expert], room = heapq.heappop(heap)
        if room > 1:
            heapq.heappush(heap, (work + int(loads[expert]), home[expert], room - 1))
    return home


def with_tensors(loads: Tensor, ranks: int) -> Tensor:
    """Full ranks get infinite work, argmin does the rest."""
    work, held, home = torch.zeros(ranks), torch.zeros(ranks), torch.empty_like(loads)
    for expert in heaviest_first(loads):
        rank = work.masked_fill(held == len(loads) // ranks, torch.inf).argmin()
        home[expert] = rank
        work[rank] += loads[expert]
        held[rank] += 1
    return home


def as_tensor(answer: Callable[..., Any]) -> Callable[..., Any]:
    """A list of ranks is as good as a tensor of them."""

    def place(loads: Tensor, ranks: int) -> Any:
        found = answer(loads, ranks)
        return torch.tensor(found) if isinstance(found, list) and all(type(n) is int for n in found) else found

    return place


# 14.2 memory of one rank ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Sizes(ModelConfig):
    """A config with a short name, which a verdict can show in full."""

    def __repr__(self) -> str:
        return "of the 235B" if self.hidden_size == 4096 else "as above"


SMALL = Sizes(
    vocab_size=100, hidden_size=10, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2, head_dim=4,
    intermediate_size=14, moe_intermediate_size=6, num_experts=8, num_experts_per_tok=2,
)  # fmt: skip


def on_a_rank(
    config: ModelConfig, ranks: int, context: int, *, heads: int | None = None, sides: int = 2, width: int = 2,
    matrices: int = 3, layers: int | None = None, experts: int | None = None,
) -> tuple[int, int]:  # fmt: skip
    """(bytes of experts, bytes of KV cache) on one rank in 16 bits. The keywords are for mistakes."""
    layers = config.num_hidden_layers if layers is None else layers
    heads = max(1, config.num_key_value_heads // ranks) if heads is None else heads
    experts = config.num_experts // ranks if experts is None else experts
    weights = layers * experts * matrices * config.hidden_size * config.moe_intermediate_size * width
    return weights, layers * sides * heads * config.head_dim * context * width


def of_the_235b(ranks: int, context: int) -> Arguments:
    return lambda generator: (Sizes(**vars(ModelConfig.named("Qwen3-235B-A22B"))), ranks, context)


def from_the_planner(config: ModelConfig, ranks: int, context: int) -> tuple[int, int]:
    rank = deploy(config, ranks, context=context, precision="bf16").ranks[0]
    return rank.parts["experts"], rank.cache


def from_totals(config: ModelConfig, ranks: int, context: int) -> list[int]:
    """The whole, divided; the cache by as many ranks as have a head of their own."""
    experts = 2 * config.num_hidden_layers * config.num_experts * config.parameters_per_expert
    owners = min(ranks, config.num_key_value_heads)
    return [experts // ranks, config.kv_cache_bytes_per_token("bf16") * context // owners]


MISTAKES = {
    "heads": "the cache is divided by the number of ranks even where there are more ranks than key/value heads. A head "
    "can't be halved: neighbours then hold the same one.",
    "sides": "only keys or only values are counted. The cache holds both.",
    "width": "values are counted, not bytes: each value takes two.",
    "matrices": "an expert is counted with two matrices. SwiGLU has three: gate, up, down.",
}


def mistaken(made: tuple[str, ...]) -> Callable[[ModelConfig, int, int], tuple[int, int]]:
    """The two numbers with these mistakes."""

    def numbers(config: ModelConfig, ranks: int, context: int) -> tuple[int, int]:
        width, matrices = 1 if "width" in made else 2, 2 if "matrices" in made else 3
        weights, cache = on_a_rank(
            config, ranks, context, sides=1 if "sides" in made else 2, width=width, matrices=matrices
        )
        if "heads" in made:
            whole = cache // max(1, config.num_key_value_heads // ranks) * config.num_key_value_heads
            cache = whole // ranks
        return weights, cache

    return numbers


COMBINATIONS = {
    ", ".join(made): (mistaken(made), "\n  Also: ".join(MISTAKES[each] for each in made))
    for chosen in product((False, True), repeat=len(MISTAKES))
    if (made := tuple(name for name, taken in zip(MISTAKES, chosen, strict=True) if taken))
}

EXERCISES = (
    Exercise(
        id="14.1",
        title="Experts to ranks, the heaviest first",
        kind="fill in",
        minutes=12,
        difficulty=2,
        hints=(
            "Think of moving house with several vans: which box goes first, and into which van?",
            "loads (expert) -> home (expert) int64, a rank for each expert. Keep two lists of length `ranks`: the work "
            "so far, and the places left (len(loads) // ranks at the start).",
            "For each expert by falling load (argsort, descending and stable): among the ranks with a place left, take "
            "the one with the least work, of equals the lowest; home[expert] = rank; add the load; take a place away.",
        ),
        now_you_know="balancing needs the work that each rank already has, not only the order of what comes next.",
        prepare=as_tensor,
        oracle=place_by_loops,
        cases=(
            Case(
                "four experts, two ranks, by hand: 9 goes to rank 0, 7 to rank 1, 4 to rank 1, 1 to rank 0",
                (torch.tensor([4, 9, 1, 7]), 2),
                torch.tensor([1, 0, 0, 1]),
            ),
            Case("each rank has as many experts, even if one load is huge", (torch.tensor([90, 1, 2, 3, 4, 5]), 3)),
            Case("equal loads: the lower expert goes first, to the lower rank", (torch.tensor([5, 5, 1, 1]), 2)),
            Case("12 experts on 3 ranks", different_loads(12, 3)),
            Case("35 experts on 5 ranks, steep", different_loads(35, 5, steep=8.0)),
            Case("one rank has them all", different_loads(6, 1)),
            Case("128 experts on 8 ranks", different_loads(128, 8)),
        ),
        mutants={
            "contiguous": (
                contiguous,
                "experts go to ranks in runs of their numbers. A loader that doesn't know the loads does that; here "
                "they are given.",
            ),
            "by number": (by_number, "experts are dealt out by their numbers, whatever their loads are."),
            "like cards": (
                like_cards,
                "the heaviest first, dealt round and round: rank 0 gets the heaviest of every round. Look at the work "
                "so far instead.",
            ),
            "to and fro": (
                to_and_fro,
                "they are dealt there and back again. That is better than round and round, but it never looks at the "
                "sums.",
            ),
            "lightest first": (
                lambda loads, ranks: greedily(loads, ranks, loads.argsort(stable=True)),
                "the lightest come first, so the heaviest arrive when nothing is left to even them out.",
            ),
            "by rising number": (
                lambda loads, ranks: greedily(loads, ranks, torch.arange(len(loads))),
                "experts come in the order of their numbers. Sort them first: the heaviest has to come first.",
            ),
            "without room": (
                lambda loads, ranks: greedily(loads, ranks, heaviest_first(loads), places=len(loads)),
                "a rank may take more than its share of experts. Each has memory for len(loads) // ranks of them.",
            ),
            "one place too many": (
                lambda loads, ranks: greedily(loads, ranks, heaviest_first(loads), places=len(loads) // ranks + 1),
                "a rank may take one expert more than it has memory for. Is a full rank, with len(loads) // ranks "
                "experts, still asked?",
            ),
            "the higher rank of equals": (
                lambda loads, ranks: greedily(loads, ranks, heaviest_first(loads), later=True),
                "among ranks with equal work the higher one is taken. The page asks for the lower.",
            ),
            "the higher expert of equals": (
                later_experts_first,
                "among experts with equal loads the higher one goes first. The page asks for the lower: a descending "
                "sort must be stable.",
            ),
            "to the busiest": (
                lambda loads, ranks: greedily(loads, ranks, heaviest_first(loads), best=max),
                "each goes to the rank with the most work. It should be the one with the least.",
            ),
            "in sorted order": (
                lambda loads, ranks: place_by_loops(loads, ranks)[heaviest_first(loads)],
                "the ranks are listed in the order of falling load. Row e of the answer belongs to expert e.",
            ),
        },
        accepted={"a heap, as a list": with_a_heap, "argmin of tensors": with_tensors},
        stages=(
            Stage("", lambda loads, ranks: heaviest_first(loads), "is the order of the experts, not a rank for each"),
            Stage("", lambda loads, ranks: torch.zeros_like(loads), "puts every expert on rank 0"),
        ),
    ),
    Exercise(
        id="14.2",
        title="The bytes on one of eight ranks",
        kind="estimate",
        minutes=10,
        difficulty=2,
        hints=(
            "Two products. For each factor, ask: is it divided among the ranks, or does each rank have all of it?",
            "experts: layers · (experts on this rank) · 3 · hidden · ffn · 2 bytes. cache: layers · 2 (keys and "
            "values) · (key/value heads on this rank) · head_dim · context · 2 bytes.",
            "experts on this rank: num_experts // ranks. Heads on this rank: max(1, num_key_value_heads // ranks), "
            "since below one head nothing can be divided.",
        ),
        now_you_know="weights shrink with every rank that you add; the cache only until each rank has a single head.",
        oracle=on_a_rank,
        parts={"the bytes of experts": lambda result: result[0], "the bytes of the cache": lambda result: result[1]},
        cases=(
            Case(
                "3 layers, hidden 10, 8 experts of width 6, 2 key/value heads of 4, on 2 ranks, by hand",
                (SMALL, 2, 5),
                (4320, 240),
            ),
            Case("the same 3 layers on 4 ranks: each head is on two of them", (SMALL, 4, 5), (2160, 240)),
            Case("the 235B on one device", of_the_235b(1, 1000)),
            Case("the 235B on 4 ranks", of_the_235b(4, 32_768)),
            Case("the 235B on 8 ranks", of_the_235b(8, 32_768)),
        ),
        mutants=COMBINATIONS
        | {
            "all heads everywhere": (
                lambda c, ranks, context: on_a_rank(c, ranks, context, heads=c.num_key_value_heads),
                "every rank holds the whole cache. Up to as many ranks as heads, each keeps its own heads only.",
            ),
            "query heads": (
                lambda c, ranks, context: on_a_rank(c, ranks, context, heads=c.num_attention_heads // ranks),
                "the query heads are counted. Keys and values have num_key_value_heads, and groups share them.",
            ),
            "all experts": (
                lambda c, ranks, context: on_a_rank(c, ranks, context, experts=c.num_experts),
                "every rank holds all experts. They are dealt out: num_experts // ranks for each.",
            ),
            "chosen experts": (
                lambda c, ranks, context: on_a_rank(c, ranks, context, experts=c.num_experts_per_tok),
                "only the experts of one token are counted. All of them must be stored: any may come next.",
            ),
            "one layer": (
                lambda c, ranks, context: on_a_rank(c, ranks, context, layers=1),
                "one layer is counted; every rank has a part of every layer.",
            ),
            "the other way round": (
                lambda c, ranks, context: on_a_rank(c, ranks, context)[::-1],
                "the two numbers have changed places: experts first.",
            ),
        },
        accepted={"asks the planner": from_the_planner, "the whole, divided": from_totals},
    ),
)
