"""Master of exercises/17_million_tokens.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 17 · A million tokens: exercises
#
# Lesson: [17 · A million tokens](../notebooks/17_million_tokens.ipynb). About 95 minutes for all eight; if you have
# less, do 17.1 and 17.5.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like. `minimoe.hint("17.1")` helps in three steps,
# `minimoe.solution("17.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import math

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor

import minimoe
from minimoe.course import long_context
from minimoe.course.capture import attention_weights
from minimoe.model.dual_chunk import Chunks

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
config = model.config
trained = long_context.trained_length("data/mini")
far = long_context.far_text(tokenizer, 480, "17")
print(f"the mini was trained on rows of {trained} tokens; this text has {len(far)}")

# %% [markdown]
# ## 17.1 · The distances of dual chunk attention
#
# *15 minutes, difficulty 3 of 5.* A text is divided into chunks of `stride = chunk_size - local_size` tokens. The
# *place* of a token is its number within its chunk, from 0. A key always stands at its place. A query stands
#
# - at its place, for keys of its own chunk;
# - at place + stride, at most chunk_size, for keys of the chunk before;
# - at 2 * stride - 1, at most chunk_size, for keys of all older chunks.
#
# The distance that is used is the position of the query minus the place of the key. Fill the table.


# %% exercise="17.1"
def distances(length: int, chunk_size: int, local_size: int) -> Tensor:
    """(query, key) int64: the distance used for each pair of a text; 0 where the key comes after the query."""
    ### BEGIN SOLUTION
    position, stride = torch.arange(length), chunk_size - local_size
    place = position % stride
    apart = rearrange(position // stride, "query -> query 1") - position // stride
    query = rearrange(place, "query -> query 1")
    before = (query + stride).clamp(max=chunk_size)
    used = torch.where(apart == 0, query, torch.where(apart == 1, before, min(2 * stride - 1, chunk_size)))
    return (used - place).tril()
    ### END SOLUTION


# %%
minimoe.check("17.1", distances)

# %% [markdown]
# ### Yours, inside the mini
#
# No key and no query is rotated here: each score is computed directly for the distance in your table. The text is
# nearly twice as long as a row in training.

# %%
table = distances(len(far), trained, trained // 8)


def my_scores(q: Tensor, k: Tensor) -> Tensor:
    """The scores at your distances; plain RoPE's if the table is not written yet."""
    if not isinstance(table, Tensor):
        return long_context.rotated_scores(config, q, k)
    return long_context.scores_by_distance(config, q, k, table[: k.shape[2], : k.shape[2]][-q.shape[2] :])


def loss_beyond(attend) -> float:
    """The mean loss beyond the trained length, with an attention that gets unrotated q and k."""
    with minimoe.workbench(model, apply_rope=long_context.as_it_is, attend=attend):
        return float(long_context.losses(model, far)[trained:].mean())


plain = loss_beyond(long_context.attention_from(lambda q, k: long_context.rotated_scores(config, q, k)))
mine = loss_beyond(long_context.attention_from(my_scores))
print(f"loss on tokens {trained} to {len(far)}: plain RoPE {plain:.1f}, with your table {mine:.1f} nats")

# %% [markdown]
# ## 17.2 · YaRN from memory
#
# *15 minutes, difficulty 4 of 5.* You met YaRN in chapter 03. Write it down again:
#
# - plain RoPE turns pair *j* by theta to the power of -2j / head_dim radians a token;
# - the pair that makes a given number of turns within the original context has the number
#   half · log(original / (turns · 2π)) / log(theta), with half = head_dim / 2;
# - pairs up to the one with 32 turns (rounded down, at least 0) stay; pairs from the one with 1 turn on (rounded up, at
#   most head_dim - 1) are slowed by the factor; between them pair *j* gets (1 - t) · plain + t · slowed, with
#   t = (j - low) / (high - low); low and high are these two numbers (high may exceed the last pair);
# - cos and sin are multiplied by 0.1 · ln(factor) + 1.


# %% exercise="17.2"
def yarn(head_dim: int, theta: float, factor: float, original: int) -> tuple[Tensor, float]:
    """(radians per token of each pair (head_dim / 2) float32, the factor on cos and sin)."""
    ### BEGIN SOLUTION
    half = head_dim // 2
    pair = torch.arange(half)
    plain = theta ** (-2 * pair / head_dim)
    low, high = (half * math.log(original / (turns * math.tau)) / math.log(theta) for turns in (32, 1))
    low, high = max(math.floor(low), 0), min(math.ceil(high), head_dim - 1)
    ramp = ((pair - low) / ((high - low) or 0.001)).clamp(0, 1)
    return plain * (1 - ramp) + plain / factor * ramp, 0.1 * math.log(factor) + 1
    ### END SOLUTION


# %%
minimoe.check("17.2", yarn)

# %% [markdown]
# By what factor would the slow pairs have to be slowed for 4,096 tokens, and how many of the mini's pairs keep their
# speed?

# %%
answer = yarn(config.head_dim, config.rope_theta, 4096 / trained, trained)
if isinstance(answer, tuple) and isinstance(answer[0], Tensor):
    plain_pairs, _ = yarn(config.head_dim, config.rope_theta, 1.0, trained)
    times = plain_pairs / answer[0]
    kept = int((times < 1.001).sum())
    print(f"{kept} of {len(times)} pairs keep their speed, the slowest turns {float(times[-1]):.0f} times as slowly")
else:
    print("write the function above")

# %% [markdown]
# ## 17.3 · Estimate, then compute: how many tokens fit?
#
# *8 minutes, difficulty 2 of 5.* Eight GPUs of 80 GB hold the 235B in 16 bits. Guess first: is there room for 10,000
# tokens, 100,000, or a million? Then write the function. `heads` is the number of query heads, `kv_heads` that of
# key/value heads; memory and weights are in bytes. Ignore everything else that needs memory.


# %% exercise="17.3"
def tokens_that_fit(
    memory: int, weights: int, layers: int, heads: int, kv_heads: int, head_dim: int, bytes_each: int
) -> int:
    """The number of tokens whose keys and values fit beside the weights; 0 if the weights don't fit."""
    ### BEGIN SOLUTION
    one = 2 * layers * kv_heads * head_dim * bytes_each
    return max((memory - weights) // one, 0)
    ### END SOLUTION


# %%
minimoe.check("17.3", tokens_that_fit)

# %%
big = minimoe.ModelConfig.named("Qwen3-235B-A22B-Instruct-2507")
weights = 2 * big.total_parameters
for gpus in (6, 8, 10, 12):
    sizes = (gpus * 80 * 10**9, weights, big.num_hidden_layers, big.num_attention_heads, big.num_key_value_heads)
    tokens = tokens_that_fit(*sizes, big.head_dim, 2)
    print(f"{gpus:2d} GPUs: " + ("write the function above" if tokens is None else f"{tokens:,} tokens"))

# %% [markdown]
# ## 17.4 · Estimate, then compute: the work of a prompt
#
# *10 minutes, difficulty 3 of 5.* Count a multiplication and an addition as two operations. Each active weight takes
# part in one multiplication and one addition for each token. In attention, each token attends to itself and to all
# tokens before it: in each layer and each query head, such a pair costs one dot product of head_dim channels, and
# head_dim channels of a value that are multiplied and added to the mixture. Guess first: in the lesson, both kinds are
# equal in the 235B at some 28,000 tokens. In the 30B-A3B, which has a seventh of the active weights: earlier or later?


# %% exercise="17.4"
def prefill_flops(active: int, layers: int, heads: int, head_dim: int, tokens: int) -> int:
    """Operations to read a prompt of `tokens` tokens, with `active` weights a token."""
    ### BEGIN SOLUTION
    pairs = tokens * (tokens + 1) // 2
    return 2 * active * tokens + 4 * layers * heads * head_dim * pairs
    ### END SOLUTION


# %%
minimoe.check("17.4", prefill_flops)

# %%
for name in ("Qwen3-235B-A22B-Instruct-2507", "Qwen3-30B-A3B-Instruct-2507"):
    one = minimoe.ModelConfig.named(name)
    active = one.active_parameters - one.vocab_size * one.hidden_size  # the input embedding is only looked up
    print(name)
    for tokens in (1_000, 15_000, 28_000, 262_144, 1_010_000):
        work = prefill_flops(active, one.num_hidden_layers, one.num_attention_heads, one.head_dim, tokens)
        if work is None:
            print("  write the function above")
            break
        print(f"{tokens:11,} tokens: {work:.2e} operations, of which attention {1 - 2 * active * tokens / work:.0%}")

# %% [markdown]
# ## 17.5 · Predict, then run: where is the needle lost?
#
# *8 minutes, difficulty 3 of 5.* A fact such as "This pen costs five yuan." and a question for it. Other texts stand
# before the fact, and other sentences between fact and question: the lesson had one of them at a time, and here both
# meet. The mini was trained on rows of 256 tokens. Is the fact found, in most of 16 tries? Put `True` or `False` at
# each place and run the check **before** you run the measurement below it.

# %% exercise="17.5"
predictions = {
    ### BEGIN SOLUTION: "plain RoPE, 100 tokens before the fact, 16 between: found": ...,
    "plain RoPE, 100 tokens before the fact, 16 between: found": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "plain RoPE, 500 tokens before the fact, 16 between: found": ...,
    "plain RoPE, 500 tokens before the fact, 16 between: found": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "dual chunk, 500 tokens before the fact, 16 between: found": ...,
    "dual chunk, 500 tokens before the fact, 16 between: found": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "a window of 128, 500 tokens before the fact, 16 between: found": ...,
    "a window of 128, 500 tokens before the fact, 16 between: found": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "dual chunk, 500 tokens before the fact, 48 between: found": ...,
    "dual chunk, 500 tokens before the fact, 48 between: found": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "a window of 128, 500 tokens before the fact, 48 between: found": ...,
    "a window of 128, 500 tokens before the fact, 48 between: found": False,
    ### END SOLUTION
}

# %%
minimoe.check("17.5", predictions)

# %% [markdown]
# One try for each of the lines:

# %%
lines = (("plain RoPE", 100, 16), ("plain RoPE", 500, 16), ("dual chunk", 500, 16), ("window", 500, 16))
lines += (("dual chunk", 500, 48), ("window", 500, 48))
if ... in predictions.values():
    print("Predict first, and run this cell again: here you will see what is found.")
    lines = ()
for method, before, between in lines:
    one = long_context.needle(tokenizer, "17.5", before, between)
    with long_context.stretched(model, method, len(one.prompt), trained):
        result = "found" if long_context.finds(model, one) else "lost"
    print(f"{method:11s} {before:4d} tokens before, {between:3d} between: {result}")

# %% [markdown]
# ## 17.6 · Bug hunt: attention in parts
#
# *15 minutes, difficulty 3 of 5.* A long text doesn't fit into one table of scores. So attention runs over one part of
# the keys after another, and the results are merged. Each part gives, for each query, its mixture of values and the
# *logsumexp* of its scores: the logarithm of the sum of their exponentials, which is what the softmax has divided by.
# This function merges them, and it has a bug:


# %%
def suspicious(contexts, logsumexps):
    """contexts: (part, query, head_dim), logsumexps: (part, query) -> the context of all parts, (query, head_dim)."""
    sums = logsumexps.exp()
    weights = sums / sums.sum(dim=0)
    return einsum(weights, contexts, "part query, part query head_dim -> query head_dim")


# %% [markdown]
# Its test passed, with small random scores. Here are larger ones:

# %%
generator = torch.Generator().manual_seed(17)
scores = torch.randn(6, 40, generator=generator) * torch.tensor([[1], [5], [20], [40], [80], [120]])
values = torch.randn(40, 4, generator=generator)
split = scores.split(10, dim=1)
contexts = torch.stack([part.softmax(dim=-1) @ value for part, value in zip(split, values.split(10), strict=True)])
logsumexps = torch.stack([part.logsumexp(dim=-1) for part in split])
for query, row in enumerate(suspicious(contexts, logsumexps)):
    print(f"query {query}, largest score {float(scores[query].max()):3.0f}: first channel {float(row[0]):.1f}")


# %% exercise="17.6"
def merge(contexts: Tensor, logsumexps: Tensor) -> Tensor:
    """contexts: (part, query, head_dim), logsumexps: (part, query) -> the context of all parts, (query, head_dim)."""
    ### BEGIN SOLUTION
    weights = logsumexps.softmax(dim=0)  # subtracts each query's maximum before exp
    return einsum(weights, contexts, "part query, part query head_dim -> query head_dim")
    ### END SOLUTION


# %%
minimoe.check("17.6", merge)

# %% [markdown]
# ### Yours, inside the mini
#
# In every layer, each query attends to 100 keys at a time, and your function merges the results. The model runs once
# with the library's attention and once with this.

# %%
if isinstance(merge(contexts, logsumexps), Tensor):
    with minimoe.workbench(model, attend=long_context.attention_in_parts(merge, 100)) as bench:
        comparison = bench.compare(torch.tensor([far[:trained]]))
else:
    comparison = "write the function above"
comparison

# %% [markdown]
# ## 17.7 · Rewrite with einops: the mass of a block
#
# *10 minutes, difficulty 2 of 5.* Sparse attention computes only some blocks of the table of scores. To see which ones
# matter, this function adds up the weights in each block of `size` queries and `size` keys. It is correct and hard to
# read:


# %%
def block_mass_as_it_was(weights, size):
    heads, queries, keys = weights.shape
    tiles = weights.view(heads, queries // size, size, keys // size, size).transpose(2, 3)
    return tiles.reshape(heads, queries // size, keys // size, -1).sum(dim=-1)


# %% [markdown]
# Write it as one einops pattern in which every axis has a name.


# %% exercise="17.7"
def block_mass(weights: Tensor, size: int) -> Tensor:
    """weights: (head, query, key) -> (head, row, column), the sum of each block. Both lengths are multiples of size."""
    ### BEGIN SOLUTION
    return reduce(weights, "head (row query) (column key) -> head row column", "sum", query=size, key=size)
    ### END SOLUTION


# %%
minimoe.check("17.7", block_mass)

# %% [markdown]
# In the mini, on a text of 240 tokens: which share of all blocks on and below the diagonal is needed for 95 % of the
# weight?

# %%
weights = attention_weights(model, torch.tensor([far[:240]]))
for layer, heads in enumerate(weights):
    mass = block_mass(heads, 16)
    if not isinstance(mass, Tensor):
        print("write the function above")
        break
    rows = mass.shape[1]
    needed = 0
    for head in mass:
        shares = head.flatten().sort(descending=True).values.cumsum(0) / head.sum()
        needed += int((shares < 0.95).sum()) + 1
    print(f"layer {layer}: {needed / (len(mass) * rows * (rows + 1) / 2):.0%} of the blocks")

# %% [markdown]
# ## 17.8 · Ablate: windows and sinks
#
# *12 minutes, difficulty 3 of 5.* The cheapest way to read without end: each query sees only the last `window` keys,
# its own among them. Many models break when the very first tokens fall out of the window, because their heads put the
# weight there that they have no use for; these tokens are called *sinks* (Xiao et al. 2023, arXiv:2309.17453). So the
# first `sinks` keys stay visible. Write the mask.


# %% exercise="17.8"
def window_mask(queries: Tensor, keys: Tensor, window: int, sinks: int) -> Tensor:
    """queries (query), keys (key): int64 positions -> (query, key) bool, True where a query attends to a key."""
    ### BEGIN SOLUTION
    queries = rearrange(queries, "query -> query 1")
    return (keys <= queries) & ((queries - keys < window) | (keys < sinks))
    ### END SOLUTION


# %%
minimoe.check("17.8", window_mask)

# %% [markdown]
# Now in the mini, on 480 tokens. **Predict** first: does it need sinks? The keys keep their true positions here, so a
# sink is soon farther away than anything in training.


# %%
def loss_with(window: int, sinks: int) -> str:
    """The mean loss beyond the trained length with this mask, as text."""
    if not isinstance(window_mask(torch.arange(3), torch.arange(3), window, sinks), Tensor):
        return "write the function above"

    def scores(q: Tensor, k: Tensor) -> Tensor:
        return long_context.rotated_scores(config, q, k)

    def mask(queries: Tensor, keys: Tensor) -> Tensor:
        return window_mask(queries, keys, window, sinks)

    return f"{loss_beyond(long_context.attention_from(scores, mask)):.1f} nats"


for window in (16, 128, len(far)):
    for sinks in (0, 4):
        print(f"window {window:3d}, {sinks} sinks: {loss_with(window, sinks)}")

# %% [markdown]
# <details><summary>What the numbers say (for after your run)</summary>
#
# The mini needs no sinks: a window alone is as good as dual chunk attention here, because its texts are short. Sinks at
# distances that were never trained do harm, and so does the window as long as the text, which is plain RoPE. Servers
# that keep sinks therefore give them positions inside of the window.
#
# </details>

# %%
minimoe.progress(17)
