"""Natural answers to 14.1 and 14.2: experts to ranks, and the bytes on a rank."""

import heapq
from fractions import Fraction
from math import prod

import numpy as np
import torch
from einops import rearrange

from tests.course.natural_answers.collect import Collection

collection = Collection("14.1", "14.2")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 14.1 place ----------------------------------------------------------------------------------------------------------


def greedy(loads, ranks, order, each):
    """The rule of the exercise for experts in this order, with `each` places on a rank."""
    work, held, home = [0] * ranks, [0] * ranks, torch.zeros(len(loads), dtype=torch.int64)
    for expert in order:
        rank = min((rank for rank in range(ranks) if held[rank] < each), key=lambda rank: work[rank])
        home[expert] = rank
        work[rank] += int(loads[expert])
        held[rank] += 1
    return home


def heaviest_first(loads):
    return sorted(range(len(loads)), key=lambda expert: -int(loads[expert]))


@wrong("14.1", "without a limit on places", "place", "full", "equally many", "memory", "room", "limit", "capacity")
def _(loads, ranks):
    return greedy(loads, ranks, heaviest_first(loads), each=len(loads))


@wrong("14.1", "lightest first", "heaviest", "lightest", "descending", "order")
def _(loads, ranks):
    return greedy(loads, ranks, loads.argsort(stable=True).tolist(), len(loads) // ranks)


@wrong("14.1", "in the order of their numbers", "heaviest", "sort", "order", "first")
def _(loads, ranks):
    return greedy(loads, ranks, range(len(loads)), len(loads) // ranks)


@wrong("14.1", "by turns", "least work", "turn", "round", "deal", "so far", "cards")
def _(loads, ranks):
    home = torch.zeros(len(loads), dtype=torch.int64)
    for place, expert in enumerate(heaviest_first(loads)):
        home[expert] = place % ranks
    return home


@wrong("14.1", "by turns, forwards and backwards", "least work", "turn", "snake", "so far", "back")
def _(loads, ranks):
    home, circle = torch.zeros(len(loads), dtype=torch.int64), [*range(ranks), *reversed(range(ranks))]
    for place, expert in enumerate(heaviest_first(loads)):
        home[expert] = circle[place % len(circle)]
    return home


@wrong("14.1", "the higher rank wins a tie", "equal", "tie", "lower", "higher")
def _(loads, ranks):
    each, work, held = len(loads) // ranks, [0] * ranks, [0] * ranks
    home = torch.zeros(len(loads), dtype=torch.int64)
    for expert in heaviest_first(loads):
        rank = min((rank for rank in range(ranks) if held[rank] < each), key=lambda rank: (work[rank], -rank))
        home[expert] = rank
        work[rank] += int(loads[expert])
        held[rank] += 1
    return home


@wrong("14.1", "the higher expert wins a tie", "equal", "tie", "lower", "higher", "stable")
def _(loads, ranks):
    order = sorted(range(len(loads)), key=lambda expert: (int(loads[expert]), expert), reverse=True)
    return greedy(loads, ranks, order, len(loads) // ranks)


@wrong("14.1", "ranks in sorted order", "order", "sorted", "back", "expert", "scatter", "index")
def _(loads, ranks):
    order = heaviest_first(loads)
    return greedy(loads, ranks, order, len(loads) // ranks)[order]


@wrong("14.1", "runs of numbers", "runs", "load", "work", "heaviest", "number")
def _(loads, ranks):
    return torch.arange(len(loads)) // (len(loads) // ranks)


@wrong(
    "14.1",
    "runs of sorted experts",
    "least work",
    "most work",
    "heaviest",
    "one rank",
    "same rank",
    "first rank",
    "so far",
)
def _(loads, ranks):
    home = torch.empty(len(loads), dtype=torch.int64)
    home[torch.tensor(heaviest_first(loads))] = torch.arange(len(loads)) // (len(loads) // ranks)
    return home


@wrong("14.1", "fewest experts in place of least work", "work", "load", "count", "number of experts", "turn", "so far")
def _(loads, ranks):
    return greedy(torch.ones_like(loads), ranks, heaviest_first(loads), len(loads) // ranks)


@wrong("14.1", "one place too many", "place", "full", "equally many", "<=", "one too many", "memory", "room")
def _(loads, ranks):
    return greedy(loads, ranks, heaviest_first(loads), len(loads) // ranks + 1)


@wrong("14.1", "a table of ranks", "shape", "table", "expert", "rank for each")
def _(loads, ranks):
    home = greedy(loads, ranks, heaviest_first(loads), len(loads) // ranks)
    return rearrange(home.argsort(stable=True), "(rank place) -> rank place", rank=ranks)


@wrong("14.1", "float32", "int64", "dtype", "float")
def _(loads, ranks):
    return greedy(loads, ranks, heaviest_first(loads), len(loads) // ranks).float()


@wrong("14.1", "loads crossed out in place", "in place", "changed", "clone", "copy", "input", "argument")
def _(loads, ranks):
    each, work, held = len(loads) // ranks, torch.zeros(ranks), torch.zeros(ranks)
    home = torch.zeros(len(loads), dtype=torch.int64)
    for _ in range(len(loads)):
        expert = loads.argmax()
        rank = work.masked_fill(held == each, float("inf")).argmin()
        home[expert] = rank
        work[rank] += loads[expert]
        held[rank] += 1
        loads[expert] = -1
    return home


@wrong("14.1", "only as balanced as the last expert", "work", "so far", "add", "sum", "total", "least")
def _(loads, ranks):
    each, last, held = len(loads) // ranks, [0] * ranks, [0] * ranks
    home = torch.zeros(len(loads), dtype=torch.int64)
    for expert in heaviest_first(loads):
        rank = min((rank for rank in range(ranks) if held[rank] < each), key=lambda rank: last[rank])
        home[expert], last[rank] = rank, int(loads[expert])
        held[rank] += 1
    return home


@right("14.1", "loops")
def _(loads, ranks):
    return greedy(loads, ranks, heaviest_first(loads), len(loads) // ranks)


@right("14.1", "a heap of ranks, full ones not put back")
def _(loads, ranks):
    heap, home = [(0, rank, len(loads) // ranks) for rank in range(ranks)], [0] * len(loads)
    for load, expert in sorted((-load, expert) for expert, load in enumerate(loads.tolist())):
        work, rank, places = heapq.heappop(heap)
        home[expert] = rank
        if places > 1:
            heapq.heappush(heap, (work - load, rank, places - 1))
    return torch.tensor(home)


@right("14.1", "torch, stable argsort and infinity")
def _(loads, ranks):
    each = len(loads) // ranks
    work, home = torch.zeros(ranks, dtype=torch.float64), torch.full_like(loads, -1)
    for expert in loads.argsort(descending=True, stable=True):
        full = experts_on(home, ranks) == each
        rank = work.masked_fill(full, float("inf")).argmin()
        home[expert] = rank
        work[rank] += loads[expert]
    return home


def experts_on(home, ranks):
    """Experts that each rank holds so far; -1 is none."""
    return home[home >= 0].bincount(minlength=ranks)


@right("14.1", "NumPy")
def _(loads, ranks):
    work, places = np.zeros(ranks), np.full(ranks, len(loads) // ranks)
    home = np.zeros(len(loads), dtype=np.int64)
    for expert in np.argsort(-loads.numpy(), kind="stable"):
        rank = np.where(places > 0, work, np.inf).argmin()
        home[expert] = rank
        work[rank] += int(loads[expert])
        places[rank] -= 1
    return torch.from_numpy(home)


@right("14.1", "lists of experts on each rank")
def _(loads, ranks):
    each, held = len(loads) // ranks, [[] for _ in range(ranks)]
    for expert in heaviest_first(loads):
        spare = [mine for mine in held if len(mine) < each]
        min(spare, key=lambda mine: sum(int(loads[one]) for one in mine)).append(expert)
    home = torch.empty(len(loads), dtype=torch.long)
    for rank, mine in enumerate(held):
        home[mine] = rank
    return home


@right("14.1", "loads crossed out in a copy")
def _(loads, ranks):
    left, home = loads.clone(), torch.empty_like(loads)
    open_ranks = {rank: (0, len(loads) // ranks) for rank in range(ranks)}
    for _ in range(len(loads)):
        expert = int(left.argmax())
        rank = min(open_ranks, key=lambda rank: (open_ranks[rank][0], rank))
        home[expert], left[expert] = rank, -1
        work, places = open_ranks.pop(rank)
        if places > 1:
            open_ranks[rank] = (work + int(loads[expert]), places - 1)
    return home


# 14.2 on_a_rank ------------------------------------------------------------------------------------------------------


def expert_values(config):
    """Parameters of all experts."""
    return config.num_hidden_layers * config.num_experts * 3 * config.hidden_size * config.moe_intermediate_size


def heads_of(config, ranks):
    return max(1, config.num_key_value_heads // ranks)


def cache_values(config, heads, context):
    """Keys and values of `heads` heads in all layers."""
    return 2 * config.num_hidden_layers * heads * config.head_dim * context


@wrong("14.2", "keys without values", "value", "keys", "two", "twice", "both")
def _(config, ranks, context):
    cache = config.num_hidden_layers * heads_of(config, ranks) * config.head_dim * context
    return 2 * expert_values(config) // ranks, 2 * cache


@wrong("14.2", "heads cut into pieces", "head", "whole", "copy", "four", "cut", "halved")
def _(config, ranks, context):
    return 2 * expert_values(config) // ranks, 2 * cache_values(config, config.num_key_value_heads, context) // ranks


@wrong("14.2", "no head at all above four ranks", "head", "whole", "copy", "at least one", "zero")
def _(config, ranks, context):
    heads = config.num_key_value_heads // ranks
    return 2 * expert_values(config) // ranks, 2 * cache_values(config, heads, context)


@wrong("14.2", "the experts of one layer", "layer")
def _(config, ranks, context):
    experts = expert_values(config) // config.num_hidden_layers
    return 2 * experts // ranks, 2 * cache_values(config, heads_of(config, ranks), context)


@wrong("14.2", "the cache of one layer", "layer")
def _(config, ranks, context):
    cache = cache_values(config, heads_of(config, ranks), context) // config.num_hidden_layers
    return 2 * expert_values(config) // ranks, 2 * cache


@wrong("14.2", "bits", "bits", "bytes")
def _(config, ranks, context):
    return 16 * expert_values(config) // ranks, 16 * cache_values(config, heads_of(config, ranks), context)


@wrong("14.2", "values of four bytes", "bytes", "float32", "16 bits", "four", "2 bytes", "two bytes")
def _(config, ranks, context):
    return 4 * expert_values(config) // ranks, 4 * cache_values(config, heads_of(config, ranks), context)


@wrong("14.2", "parameters, not bytes", "bytes", "values", "16 bits", "parameters", "2 bytes", "two bytes")
def _(config, ranks, context):
    return expert_values(config) // ranks, cache_values(config, heads_of(config, ranks), context)


@wrong("14.2", "two matrices of each expert", "three", "gate", "down", "matrices")
def _(config, ranks, context):
    experts = expert_values(config) // 3 * 2
    return 2 * experts // ranks, 2 * cache_values(config, heads_of(config, ranks), context)


@wrong("14.2", "the experts of one token", "active", "token", "all experts", "selected", "num_experts_per_tok", "lie")
def _(config, ranks, context):
    experts = expert_values(config) // config.num_experts * config.num_experts_per_tok
    return 2 * experts // ranks, 2 * cache_values(config, heads_of(config, ranks), context)


@wrong("14.2", "the width of a dense layer", "moe_intermediate_size", "intermediate", "dense", "width")
def _(config, ranks, context):
    experts = config.num_hidden_layers * config.num_experts * 3 * config.hidden_size * config.intermediate_size
    return 2 * experts // ranks, 2 * cache_values(config, heads_of(config, ranks), context)


@wrong("14.2", "a cache of query heads", "query", "key/value", "groups", "num_key_value_heads", "shared")
def _(config, ranks, context):
    return 2 * expert_values(config) // ranks, 2 * cache_values(config, config.num_attention_heads // ranks, context)


@wrong("14.2", "the whole cache on each rank", "divided", "heads", "each rank", "whole", "ranks")
def _(config, ranks, context):
    return 2 * expert_values(config) // ranks, 2 * cache_values(config, config.num_key_value_heads, context)


@wrong("14.2", "all experts on each rank", "divided", "ranks", "each rank", "experts")
def _(config, ranks, context):
    return 2 * expert_values(config), 2 * cache_values(config, heads_of(config, ranks), context)


@wrong("14.2", "returned in the other order", "changed places", "order", "swapped", "exchanged", "other way round")
def _(config, ranks, context):
    return 2 * cache_values(config, heads_of(config, ranks), context), 2 * expert_values(config) // ranks


@wrong("14.2", "in GB", "gb", "bytes", "unit", "1e9", "billion")
def _(config, ranks, context):
    cache = cache_values(config, heads_of(config, ranks), context)
    return 2 * expert_values(config) / ranks / 1e9, 2 * cache / 1e9


@wrong("14.2", "head_dim guessed from the hidden size", "head_dim", "hidden", "own", "config")
def _(config, ranks, context):
    head_dim = config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_hidden_layers * heads_of(config, ranks) * head_dim * context
    return 2 * expert_values(config) // ranks, 2 * cache


@wrong("14.2", "the experts alone", "two", "tuple", "pair", "both", "cache")
def _(config, ranks, context):
    return 2 * expert_values(config) // ranks


@wrong("14.2", "without values, and heads cut into pieces", "head", "whole", "value", "copy", "keys", "two")
def _(config, ranks, context):
    cache = config.num_hidden_layers * config.num_key_value_heads * config.head_dim * context
    return 2 * expert_values(config) // ranks, 2 * cache // ranks


@right("14.2", "two products")
def _(config, ranks, context):
    return 2 * expert_values(config) // ranks, 2 * cache_values(config, heads_of(config, ranks), context)


@right("14.2", "math.prod and a condition")
def _(config, ranks, context):
    heads = config.num_key_value_heads // ranks if ranks <= config.num_key_value_heads else 1
    layers, local = config.num_hidden_layers, config.num_experts // ranks
    experts = prod((layers, local, 3, config.hidden_size, config.moe_intermediate_size, 2))
    return experts, prod((layers, heads, config.head_dim, context, 2, 2))


@right("14.2", "float division")
def _(config, ranks, context):
    return 2 * expert_values(config) / ranks, 2.0 * cache_values(config, heads_of(config, ranks), context)


@right("14.2", "Fractions, as a list")
def _(config, ranks, context):
    heads = max(Fraction(1), Fraction(config.num_key_value_heads, ranks))
    return [Fraction(2 * expert_values(config), ranks), 2 * cache_values(config, heads, context)]


@right("14.2", "rounded up with minus signs")
def _(config, ranks, context):
    heads = -(-config.num_key_value_heads // ranks)
    return 2 * expert_values(config) // ranks, 2 * cache_values(config, heads, context)


@right("14.2", "NumPy")
def _(config, ranks, context):
    experts = np.int64(expert_values(config)) * 16 // 8 // ranks
    return experts, np.int64(cache_values(config, heads_of(config, ranks), context)) * 2


@right("14.2", "bytes of tensors without memory")
def _(config, ranks, context):
    local, layers = config.num_experts // ranks, config.num_hidden_layers
    meta = {"dtype": torch.bfloat16, "device": "meta"}
    bank = torch.empty(layers, local, 3, config.moe_intermediate_size, config.hidden_size, **meta)
    cache = torch.empty(2, layers, heads_of(config, ranks), context, config.head_dim, **meta)
    return bank.nbytes, cache.nbytes
