"""Master of exercises/14_the_whole_235b.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 14 · The whole 235B: exercises
#
# Lesson: [14 · The whole 235B](../notebooks/14_the_whole_235b.ipynb). About 95 minutes for all eight; 14.3 and 14.4
# are the heart: the reader behind every loader, and the line that lets eight devices answer as one.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like; `minimoe.hint("14.1")` helps in three steps,
# `minimoe.solution("14.1")` shows all of it. Nothing breaks if you leave one out.

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
# ## 14.1 · Fill in the greedy placer
#
# *12 minutes, difficulty 2 of 5.* Experts have different amounts of work, and all ranks wait for the busiest one. Give
# each rank equally many experts (they have to fit into its memory) and spread the work. The rule: the **heaviest expert
# first**, each to the rank with the **least work so far** that still has a place. Among equals the lower number wins.


# %% exercise="14.1"
def place(loads: Tensor, ranks: int) -> Tensor:
    """loads: (expert) int64, tokens for each -> (expert) int64, the rank for each; len(loads) // ranks on each rank."""
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
# Yours against runs of numbers, which is what a loader does that knows no loads: the tokens on the busiest of eight
# ranks, on four stories of the mini. An even share would be the last number.

# %%
loads = F.one_hot(trace.experts[1], num_experts).sum(dim=(0, 1))


def busiest(home):
    """Tokens on the fullest of eight ranks."""
    return int(torch.zeros(8, dtype=torch.int64).index_add(0, home, loads).max())


yours = place(loads, 8)
print("runs of numbers:", busiest(torch.arange(num_experts) // 16))
print("yours:", "write it above, and its number appears here" if yours is None or yours is ... else busiest(yours))
print("an even share:", round(int(loads.sum()) / 8))

# %% [markdown]
# ## 14.2 · Estimate, then measure: the bytes on one of eight ranks
#
# *10 minutes, difficulty 2 of 5.* Everything in 16 bits. How many bytes of **experts** lie on one rank, and how many
# of **KV cache** for so many tokens of context? First guess for the 235B on 8 ranks with 32,768 tokens, in GB. Then
# write the formula. (Mind the four key/value heads.)


# %% exercise="14.2"
def on_a_rank(config: minimoe.ModelConfig, ranks: int, context: int) -> tuple[int, int]:
    """(bytes of experts, bytes of KV cache) on one rank; experts and heads are dealt out whole."""
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
# And measured: the bytes that the mini really takes in 16 bits with a cache for 100 tokens; then the planner's figures
# for the 235B. Look at the cache from 4 to 8 ranks.

# %%
small, _ = minimoe.load("data/mini", dtype="bf16")
banks = [bank for name, bank in small.named_parameters() if "experts" in name]
kept = small.new_cache(batch=1, capacity=100)
stored = [*kept.keys.values(), *kept.values.values()]
measured = tuple(sum(part.nbytes for part in parts) for parts in (banks, stored))
print("measured (mini, one device):", measured, "  yours:", on_a_rank(model.config, 1, 100) or "not written yet")
for ranks in (1, 2, 4, 8, 16):
    rank = deploy(big, ranks, context=32_768).ranks[0]
    told = on_a_rank(big, ranks, 32_768)
    right = "not written yet" if told is None or told is ... else tuple(told) == (rank.parts["experts"], rank.cache)
    print(f"235B on {ranks:2d}: experts {rank.parts['experts']:15,}  cache {rank.cache:13,}  yours the same: {right}")

# %% [markdown]
# ## 14.3 · Fill in the bounded reader
#
# *15 minutes, difficulty 3 of 5.* A rank of eight needs 1,024 of the 8,192 rows of `q_proj`, out of a file of four
# gigabytes. Read **exactly those bytes**, straight into the result, and never more than `most` bytes in a single read.
#
# `entry.start` is the place of the tensor's first byte in the file, `entry.shape` its (rows, columns); values are
# bfloat16, row after row. `file.read_into(memory, offset)` fills a piece of memory with the bytes from that place on.
# And this gives you the memory of a tensor as plain bytes, of which you can take slices:


# %%
def as_bytes(rows: Tensor) -> memoryview:
    """The memory of a tensor; what is written there is in the tensor."""
    return memoryview(rows.view(torch.uint8).numpy()).cast("B")


# %% [markdown]
# Make the result with `torch.empty`, take its bytes, and fill them piece by piece.


# %% exercise="14.3"
def read_rows(file, entry, start: int, stop: int, most: int) -> Tensor:
    """Rows start to stop of a tensor in a safetensors file -> (row, column) bfloat16."""
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
# Yours on a shard of true size: the rows of rank 5 of 8, of the full-size checkpoint from the lesson (its weights are
# holes, so the values are zeros; names, places and sizes are the real ones). Then on the mini, whose weights are real.

# %%
with TemporaryDirectory() as folder:
    shards = open_checkpoint(write_sparse(folder, big)).shards
    header, entry = shards.find("model.layers.47.self_attn.q_proj.weight")
    with PositionedFile(header.file) as file:
        rows = read_rows(file, entry, 5 * 1024, 6 * 1024, most=2**20)
        needed = 1024 * entry.shape[1] * 2
        print(f"{header.file.name}: {file.size:,} bytes; needed {needed:,}, and you read {file.bytes_read:,}")

stored = open_checkpoint("data/mini").shards
header, entry = stored.find("model.layers.1.self_attn.q_proj.weight")
with PositionedFile(header.file) as file:
    rows = read_rows(file, entry, 32, 64, most=1000)
theirs = small.layers[1].self_attn.q_proj.weight[32:64]
print("the mini's rows, to the bit:", "write it above" if rows is None or rows is ... else torch.equal(rows, theirs))

# %% [markdown]
# ## 14.4 · Fill in the share of one rank
#
# *15 minutes, difficulty 3 of 5.* Eight ranks have sixteen experts each. All of them see all tokens and the same
# routing. Each answers for the experts that live with it, and **the sum over all ranks must be what one device with all
# experts would have said**. `bank.gate_proj[row]` (and `up_proj`, `down_proj`) is expert number `first + row`.


# %% exercise="14.4"
def run_local_experts(x: Tensor, routing, bank, first: int) -> Tensor:
    """x: (token, hidden) -> (token, hidden), this rank's part of the answer. `routing` is of all experts."""
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
# Eight ranks on one computer, one after the other; the sum stands for the all-reduce that joins them. What do you
# expect to see in the picture?

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


with minimoe.workbench(model, run_experts=on_eight_ranks) as bench:
    comparison = bench.compare(text, tokenizer)
comparison

# %% [markdown]
# And it speaks, on eight ranks of yours:

# %% tags="nbval-ignore-output"
question = [{"role": "user", "content": "Tell me a story about a dog."}]
with minimoe.workbench(model, run_experts=on_eight_ranks) as speaking:
    yours = "".join(minimoe.generate(model, tokenizer, question, 40, thinking=False, temperature=0))
print(yours)

# %%
theirs = "".join(minimoe.generate(model, tokenizer, question, 40, thinking=False, temperature=0))
assert len(theirs) > 20
print("word for word what one device says:", "write 14.4 first" if speaking.todo else yours == theirs)

# %% [markdown]
# ## 14.5 · Bug hunt: right on four ranks, wrong on eight
#
# *12 minutes, difficulty 3 of 5.* Which key/value heads does a rank need? The 235B has 64 query heads in groups of 16,
# and each group shares one of 4 key/value heads. A rank takes a run of query heads. Somebody wrote this, tried it on
# one, two and four devices, and it was right:


# %%
def suspicious(query_heads, heads, ranks, rank):
    """The key/value heads that `rank` holds."""
    each = max(1, heads // ranks)
    return [(rank * each + n) % heads for n in range(each)]


def needed(query_heads, heads, ranks, rank):
    """What the query heads of that rank ask for, one by one: slow, and right."""
    mine = range(rank * query_heads // ranks, (rank + 1) * query_heads // ranks)
    return sorted({query // (query_heads // heads) for query in mine})


for ranks in (1, 2, 4, 8, 16):
    wrong = [rank for rank in range(ranks) if suspicious(64, 4, ranks, rank) != needed(64, 4, ranks, rank)]
    print(f"{ranks:2d} ranks, wrong: {wrong or 'none'}")

# %% [markdown]
# Nothing crashes: head 1 has the same shape as head 2. The model just reads the wrong keys, in three of four places.
# What would rank 5 of 8 need, and what does it get? Write it without a loop over query heads.


# %% exercise="14.5"
def key_heads(query_heads: int, heads: int, ranks: int, rank: int) -> list[int]:
    """The key/value heads that `rank` needs, rising. `ranks` divides `heads` or is a multiple of it."""
    ### BEGIN SOLUTION
    first = rank * heads // ranks
    return list(range(first, first + max(1, heads // ranks)))
    ### END SOLUTION


# %%
minimoe.check("14.5", key_heads)

# %% [markdown]
# ## 14.6 · Fill in the cache of experts
#
# *12 minutes, difficulty 2 of 5.* A laptop has room for a few experts. When a new one has to come in, the one whose
# **last use is longest ago** leaves ("least recently used", LRU). Say for each request whether the expert was there.


# %% exercise="14.6"
def hits(wanted: list[int], room: int) -> list[bool]:
    """wanted: experts in the order of requests -> for each, whether it was held. Room for `room` of them."""
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
# Now with requests of a real model: one token after the other, layer after layer, eight experts each, as decoding asks
# for them. An expert's name is layer and number together. By which room are half of the requests hits? And what would
# dice get?

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
# *10 minutes, difficulty 3 of 5.* Three situations of a streaming laptop, five questions. Put a number or `True` /
# `False` at each place **before** you run the cell after it.

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
# Now run it. The three rules are written out here, so that you can see what each throws out.


# %%
def share(wanted, room, leaves):
    """Share of hits. leaves: which place of the queue goes when there is no room; a hit makes an expert young."""
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
# *10 minutes, difficulty 3 of 5.* This cuts `q_proj` and `k_proj` for all ranks at once. It is right, and it takes a
# pencil to see why. (`ranks` is a multiple of the key/value heads here.)


# %%
def split_as_it_was(q, k, ranks, head_dim):
    rows, heads = q.shape[0] // ranks, k.shape[0] // head_dim
    qs = [q[rank * rows : (rank + 1) * rows] for rank in range(ranks)]
    ks = [k[rank * heads // ranks * head_dim :][:head_dim] for rank in range(ranks)]
    return torch.stack(qs), torch.stack(ks)


# %% [markdown]
# Two patterns say the same: one `rearrange`, and one `repeat` with an axis `copy`.


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
