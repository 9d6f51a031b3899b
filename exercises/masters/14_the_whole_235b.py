"""Master of exercises/14_the_whole_235b.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 14 · The whole 235B: exercises
#
# Lesson: [14 · The whole 235B](../notebooks/14_the_whole_235b.ipynb). About 95 minutes for all eight; if you have less,
# do 14.3 and 14.4: the read behind every loader, and the function that lets eight GPUs answer as one.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like. `minimoe.hint("14.1")` helps in three steps,
# `minimoe.solution("14.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
from collections import OrderedDict
from random import Random
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

import minimoe
from minimoe.checkpoint.open import open_checkpoint
from minimoe.checkpoint.safetensors.pread import PositionedFile
from minimoe.checkpoint.sparse_checkpoint import write_sparse
from minimoe.model.experts import swiglu
from minimoe.scale.planner.deployment import deploy
from minimoe.training.corpus.documents import document

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
big = minimoe.ModelConfig.named("Qwen3-235B-A22B")
num_experts, top_k = model.config.num_experts, model.config.num_experts_per_tok
text = "Once upon a time a big bird lived on the farm. One day the bird wanted a green pen."
stories = [document(Random(f"14 {n}"), "held-out", "en").text for n in range(4)]
with torch.no_grad(), minimoe.record_routing(model, tokenizer, label="mini checkpoint") as trace:
    for story in stories:
        model(torch.tensor([tokenizer.encode(story)]), last_only=True)

# %% [markdown]
# ## 14.1 · Experts to ranks, the heaviest first
#
# *12 minutes, difficulty 2 of 5.* Eight GPUs share 128 experts, sixteen on each, because each has memory for sixteen.
# Some experts have more to do than others, and all GPUs wait for the busiest one. Which expert should go where?
#
# You are given a load for each expert: the number of tokens that chose it on earlier texts. Take the experts one by
# one, the **one with the largest load first**, and give each to the rank that has the **least load so far** and still
# has a place. If two experts have equal loads, the lower number goes first; if two ranks have equal loads, the lower
# number gets the expert. For loads 4, 9, 1, 7 on two ranks: expert 1 (load 9) goes to rank 0, expert 3 (7) to rank 1,
# expert 0 (4) to rank 1, and expert 2 (1) to rank 0, since rank 1 is full. The answer is `[1, 0, 0, 1]`.


# %% exercise="14.1"
def place(loads: Tensor, ranks: int) -> Tensor:
    """loads: (expert) int64 -> (expert) int64, the rank of each expert; len(loads) // ranks experts on each rank."""
    ### BEGIN SOLUTION
    work, places = [0] * ranks, [len(loads) // ranks] * ranks
    home = torch.zeros(len(loads), dtype=torch.int64)
    for expert in loads.argsort(descending=True, stable=True).tolist():
        rank = min((rank for rank in range(ranks) if places[rank]), key=lambda rank: work[rank])
        home[expert] = rank
        work[rank] += int(loads[expert])
        places[rank] -= 1
    return home
    ### END SOLUTION


# %%
minimoe.check("14.1", place)

# %% [markdown]
# A loader that doesn't know the loads deals experts out in runs of their numbers. How much does your placement save?
# Here are the choices on the busiest of eight ranks, for four stories that the mini reads.

# %%
loads = F.one_hot(trace.experts[1], num_experts).sum(dim=(0, 1))


def busiest(home):
    """Choices on the busiest of eight ranks."""
    return int(torch.zeros(8, dtype=torch.int64).index_add(0, home, loads).max())


yours = place(loads, 8)
print("runs of numbers:", busiest(torch.arange(num_experts) // (num_experts // 8)))
print("yours:          ", "write the function above" if yours is None or yours is ... else busiest(yours))
print("an even share:  ", round(int(loads.sum()) / 8))

# %% [markdown]
# ## 14.2 · Estimate, then measure: the bytes on one of eight ranks
#
# *10 minutes, difficulty 2 of 5.* Experts and key/value heads are dealt out whole, and all numbers have 16 bits. How
# many bytes of **experts** lie on one rank, and how many bytes of **KV cache** for a given context? Remember that an
# expert has three matrices of hidden x ffn, that the cache has a key and a value for each layer and head, and that with
# more ranks than key/value heads each head is stored on several ranks.
#
# First guess both numbers for the 235B on 8 ranks with 32,768 tokens, in GB. Write them down. These are its sizes:

# %%
for field in ("num_hidden_layers", "hidden_size", "num_experts", "moe_intermediate_size"):
    print(f"config.{field:24s}{getattr(big, field):6,}")
for field in ("num_attention_heads", "num_key_value_heads", "head_dim"):
    print(f"config.{field:24s}{getattr(big, field):6,}")

# %% [markdown]
# Now write the formula.


# %% exercise="14.2"
def on_a_rank(config: minimoe.ModelConfig, ranks: int, context: int) -> tuple[int, int]:
    """(bytes of experts, bytes of KV cache for `context` tokens) on one of `ranks` ranks."""
    ### BEGIN SOLUTION
    experts = config.num_experts // ranks
    expert_bytes = config.num_hidden_layers * experts * 3 * config.hidden_size * config.moe_intermediate_size * 2
    heads = max(1, config.num_key_value_heads // ranks)
    cache_bytes = config.num_hidden_layers * 2 * heads * config.head_dim * context * 2
    return expert_bytes, cache_bytes
    ### END SOLUTION


# %%
minimoe.check("14.2", on_a_rank)

# %% [markdown]
# Now measured: the bytes that the mini takes in 16 bits with a cache for 100 tokens. Then the planner's figures for the
# 235B, with the difference to yours. What happens to the cache from 4 to 8 ranks?

# %%
small, _ = minimoe.load("data/mini", dtype="bf16")
banks = [bank for name, bank in small.named_parameters() if "experts" in name]
kept = small.new_cache(batch=1, capacity=100)
stored = [*kept.keys.values(), *kept.values.values()]
measured = tuple(sum(part.nbytes for part in parts) for parts in (banks, stored))
print("measured (mini, one device):", measured, "  yours:", on_a_rank(model.config, 1, 100) or "not written yet")
print("235B on   experts, bytes    cache, bytes    yours differ by")
for ranks in (1, 2, 4, 8, 16):
    rank = deploy(big, ranks, context=32_768).ranks[0]
    planned, told = (rank.parts["experts"], rank.cache), on_a_rank(big, ranks, 32_768)
    apart = "not written yet" if told is None or told is ... else [n - m for n, m in zip(told, planned, strict=True)]
    print(f"{ranks:7d} {planned[0]:16,} {planned[1]:15,}    {apart}")

# %% [markdown]
# ## 14.3 · The bounded reader
#
# *15 minutes, difficulty 3 of 5.* One of eight ranks needs 1,024 of the 8,192 rows of `q_proj`, out of a file of four
# gigabytes. Read **exactly those bytes** into the result, in as many reads as you like, but with at most `most` bytes
# in each.
#
# What you are given:
#
# - `start` and `stop`: the rows from `start` up to, but without, `stop`, as in a slice.
# - `entry.start`: the place of the tensor's first byte in the file. `entry.shape`: its (rows, columns). Its values are
#   bfloat16, two bytes each, and lie row after row.
# - `file.read_into(memory, offset)`: fills a piece of memory with the bytes of the file from `offset` on. The length of
#   the piece decides how many bytes are read.
# - `as_bytes`: the memory of a tensor as plain bytes. You can take slices of it.


# %%
def as_bytes(rows: Tensor) -> memoryview:
    """The memory of a tensor; what is written there is in the tensor."""
    return memoryview(rows.view(torch.uint8).numpy()).cast("B")


# %% [markdown]
# Make the result with `torch.empty`, take its bytes, and fill them piece by piece.


# %% exercise="14.3"
def read_rows(file, entry, start: int, stop: int, most: int) -> Tensor:
    """Rows `start` to `stop - 1` of the tensor that `entry` describes -> (stop - start, columns) bfloat16."""
    ### BEGIN SOLUTION
    rows = torch.empty(stop - start, entry.shape[1], dtype=torch.bfloat16)
    memory = as_bytes(rows)
    offset = entry.start + start * entry.shape[1] * 2
    for begin in range(0, len(memory), most):
        file.read_into(memory[begin : begin + most], offset + begin)
    return rows
    ### END SOLUTION


# %%
minimoe.check("14.3", read_rows)

# %% [markdown]
# Try yours on a file of true size: the rows of rank 5 of 8, in the full-size checkpoint of the lesson. (Its weights are
# holes, so the values are zeros; names, places and sizes are the real ones.) Then on the mini, whose weights are real.

# %%
with TemporaryDirectory() as folder:
    shards = open_checkpoint(write_sparse(folder, big)).shards
    header, entry = shards.find("model.layers.47.self_attn.q_proj.weight")
    with PositionedFile(header.file) as file:
        rows = read_rows(file, entry, 5 * 1024, 6 * 1024, most=2**20)
        needed = 1024 * entry.shape[1] * 2
        print(f"{header.file.name}: {file.size:,} bytes; needed {needed:,}, yours read {file.bytes_read:,}")

stored = open_checkpoint("data/mini").shards
header, entry = stored.find("model.layers.1.self_attn.q_proj.weight")
with PositionedFile(header.file) as file:
    rows = read_rows(file, entry, 32, 64, most=1000)
theirs = small.layers[1].self_attn.q_proj.weight[32:64]
wrong = "write the function above" if rows is None or rows is ... else int((rows != theirs).sum())
print(f"values of the mini's rows that differ, of {theirs.numel():,}: {wrong}")

# %% [markdown]
# ## 14.4 · The share of one rank
#
# *15 minutes, difficulty 3 of 5.* Eight ranks have sixteen experts each. All ranks see all tokens and the same routing.
# Each computes what its own experts contribute, and **the sum over all ranks must be what one device with all experts
# would compute**. `bank.gate_proj[row]` (and `up_proj`, `down_proj`) is expert number `first + row`; an expert is
# `swiglu(x, gate, up, down)`. `routing.experts` and `routing.weights` are (token, slot).


# %% exercise="14.4"
def run_local_experts(x: Tensor, routing, bank, first: int) -> Tensor:
    """x: (token, hidden) -> (token, hidden), this rank's part of the sum. `routing` numbers all experts."""
    ### BEGIN SOLUTION
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        if len(token):
            answer = swiglu(x[token], bank.gate_proj[row], bank.up_proj[row], bank.down_proj[row])
            output.index_add_(0, token, answer * rearrange(routing.weights[token, slot], "choice -> choice 1"))
    return output
    ### END SOLUTION


# %%
minimoe.check("14.4", run_local_experts)

# %% [markdown]
# ### Yours, inside the model
#
# Eight ranks on one computer, one after the other. The sum stands for the all-reduce that joins them. How many expert
# choices do you expect to change?

# %%
RANKS = 8


def on_eight_ranks(x, routing, bank):
    """The library's run_experts, with your function on each of eight ranks."""
    parts = []
    for rank in range(RANKS):
        here = slice(rank * num_experts // RANKS, (rank + 1) * num_experts // RANKS)
        matrices = {name: getattr(bank, name)[here] for name in ("gate_proj", "up_proj", "down_proj")}
        share = run_local_experts(x, routing, SimpleNamespace(**matrices, engine="loop"), here.start)
        if share is None or share is ...:
            return ...
        parts.append(share)
    return sum(parts)


question = [{"role": "user", "content": "Tell me a story about a dog."}]
with minimoe.workbench(model, run_experts=on_eight_ranks) as bench:
    comparison = bench.compare(text, tokenizer)
    told = bench.story(tokenizer, question, 40, thinking=False)
comparison

# %% [markdown]
# And the story that the model tells on eight ranks of yours, beside the one of a single device:

# %%
told

# %% [markdown]
# ## 14.5 · Bug hunt: right on four ranks, wrong on eight
#
# *12 minutes, difficulty 3 of 5.* Which key/value heads does a rank need? The 235B has 64 query heads in groups of 16,
# and each group shares one of 4 key/value heads. A rank takes a run of query heads. This function was tried on one, two
# and four GPUs, and it was right:


# %%
def suspicious(query_heads, heads, ranks, rank):
    """The key/value heads that `rank` holds."""
    each = max(1, heads // ranks)
    return [(rank * each + n) % heads for n in range(each)]


def needed(query_heads, heads, ranks, rank):
    """What the query heads of that rank need, one by one: slow, and right."""
    mine = range(rank * query_heads // ranks, (rank + 1) * query_heads // ranks)
    return sorted({query // (query_heads // heads) for query in mine})


for ranks in (1, 2, 4, 8, 16):
    wrong = [rank for rank in range(ranks) if suspicious(64, 4, ranks, rank) != needed(64, 4, ranks, rank)]
    print(f"{ranks:2d} ranks, wrong: {wrong or 'none'}")

# %% [markdown]
# Nothing crashes, because head 1 has the same shape as head 2. The model just reads the wrong keys. What does rank 5 of
# 8 need, and what does it get? Write the function for any sizes, without a loop over query heads.


# %% exercise="14.5"
def key_heads(query_heads: int, heads: int, ranks: int, rank: int) -> list[int]:
    """The numbers of the key/value heads that `rank` needs, rising. `ranks` divides `heads` or is a multiple of it."""
    ### BEGIN SOLUTION
    first = rank * heads // ranks
    return list(range(first, first + max(1, heads // ranks)))
    ### END SOLUTION


# %%
minimoe.check("14.5", key_heads)

# %% [markdown]
# ## 14.6 · The cache of experts
#
# *12 minutes, difficulty 2 of 5.* A laptop has room for a few experts. If a new one has to come in and there is no
# room, the one whose **last use is longest ago** leaves ("least recently used", LRU). Say for each request whether the
# expert was there when it was wanted.


# %% exercise="14.6"
def hits(wanted: list[int], room: int) -> list[bool]:
    """wanted: experts in the order of requests -> for each request, whether it was held; room for `room` experts."""
    ### BEGIN SOLUTION
    held, found = OrderedDict(), []
    for expert in wanted:
        found.append(expert in held)
        held[expert] = True
        held.move_to_end(expert)
        if len(held) > room:
            held.popitem(last=False)
    return found
    ### END SOLUTION


# %%
minimoe.check("14.6", hits)

# %% [markdown]
# Now with the requests of a trained model: one token after the other, layer after layer, eight experts each, as
# generation needs them. An expert is identified by its layer and its number. **Predict:** how much room is needed until
# half of the requests are hits? And for random choices (dice)?

# %%
asked = rearrange(trace.experts + num_experts * trace.layers[:, None, None], "layer token slot -> (token layer slot)")
generator = torch.Generator().manual_seed(14)
dice = torch.rand(len(asked) // top_k, num_experts, generator=generator).topk(top_k).indices
layers = torch.arange(len(dice))[:, None] % len(trace.layers)
dice = rearrange(dice + num_experts * layers, "draw slot -> (draw slot)")
everything = num_experts * len(trace.layers)
for room in (32, 64, 128, 256, everything):
    shares = []
    for wanted in (asked, dice):
        found = hits(wanted.tolist(), room)
        shares.append("..." if found is None or found is ... else f"{sum(found) / len(found):.0%}")
    print(f"room for {room:3d} of {everything} experts: hits {shares[0]:>4s} (mini), {shares[1]:>4s} (dice)")

# %% [markdown]
# ## 14.7 · Predict, then run: who misses?
#
# *10 minutes, difficulty 3 of 5.* Three situations of a laptop that streams, five questions. "In turn" means 0, 1, ...,
# 93, 0, 1, ... for many rounds. Put a number from 0 to 1 for a share, and `True` or `False` for a statement, at each
# place **before** you run the cell after it.

# %% exercise="14.7"
predictions = {
    ### BEGIN SOLUTION: "94 layers in turn, room for 93: share of hits": ...,
    "94 layers in turn, room for 93: share of hits": 0.0,
    ### END SOLUTION
    ### BEGIN SOLUTION: "the same, but the newest leaves: nearly all are hits": ...,
    "the same, but the newest leaves: nearly all are hits": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "dice over 128 experts, room for 64: share of hits": ...,
    "dice over 128 experts, room for 64: share of hits": 0.5,
    ### END SOLUTION
    ### BEGIN SOLUTION: "oldest leaves: more room can mean fewer hits": ...,
    "oldest leaves: more room can mean fewer hits": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "first in, first out: more room can mean fewer hits": ...,
    "first in, first out: more room can mean fewer hits": True,
    ### END SOLUTION
}

# %% [markdown]
# Now run it. The three rules are written out here, so that you can see which expert each of them throws out.


# %%
def share(wanted, room, leaves):
    """Share of hits. leaves: "oldest", "newest" or "first in", the one that leaves when there is no room."""
    held, found = [], 0
    for expert in wanted:
        found += expert in held
        if expert in held and leaves != "first in":
            held.remove(expert)
            held.append(expert)
        elif expert not in held:
            if len(held) == room:
                held.pop(-1 if leaves == "newest" else 0)
            held.append(expert)
    return found / len(wanted)


loop = list(range(94)) * 50
print(f"94 layers in turn, room for 93: {share(loop, 93, 'oldest'):.2f} with the oldest leaving")
print(f"                                {share(loop, 93, 'newest'):.2f} with the newest leaving")
dice = torch.randint(128, (20_000,), generator=torch.Generator().manual_seed(0)).tolist()
print(f"dice, room for 64 of 128: {share(dice, 64, 'oldest'):.2f}")
belady = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5]
for leaves in ("oldest", "first in"):
    few, more = (round(len(belady) * share(belady, room, leaves)) for room in (3, 4))
    print(f"{leaves:8s} leaves: {few} hits with room for three, {more} with room for four")

# %%
minimoe.check("14.7", predictions)

# %% [markdown]
# ## 14.8 · Rewrite with einops: the matrices of all ranks
#
# *10 minutes, difficulty 3 of 5.* This function divides `q_proj` and `k_proj` for all ranks at once. It is right, but
# you need a pencil to see why. (`ranks` is a multiple of the number of key/value heads here.)


# %%
def split_as_it_was(q, k, ranks, head_dim):
    rows, heads = q.shape[0] // ranks, k.shape[0] // head_dim
    qs = [q[rank * rows : (rank + 1) * rows] for rank in range(ranks)]
    ks = [k[rank * heads // ranks * head_dim :][:head_dim] for rank in range(ranks)]
    return torch.stack(qs), torch.stack(ks)


# %% [markdown]
# Write it as two patterns: one `rearrange`, and one `repeat` with an axis `copy`.


# %% exercise="14.8"
def split(q: Tensor, k: Tensor, ranks: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """q (rank row, hidden), k (head head_dim, hidden) -> (rank, row, hidden), (rank, head_dim, hidden)."""
    ### BEGIN SOLUTION
    copies = ranks * head_dim // k.shape[0]
    queries = rearrange(q, "(rank row) hidden -> rank row hidden", rank=ranks)
    keys = repeat(k, "(head head_dim) hidden -> (head copy) head_dim hidden", head_dim=head_dim, copy=copies)
    return queries, keys
    ### END SOLUTION


# %%
minimoe.check("14.8", split)

# %%
minimoe.progress(14)
