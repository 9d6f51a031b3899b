"""Master of exercises/04_attention.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 04 · Grouped-query attention: exercises
#
# Lesson: [04 · Grouped-query attention](../notebooks/04_attention.ipynb). About 85 minutes for all eight; if you have
# less, do 04.1 and 04.3.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like. `minimoe.hint("04.1")` helps in three steps,
# `minimoe.solution("04.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import torch
from einops import einsum, rearrange, repeat
from torch import Tensor

import minimoe
from minimoe.course.capture import held_out_texts, next_token_loss
from minimoe.course.table import table
from minimoe.model.attention import attend as library_attend
from minimoe.model.attention import causal_mask

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
config = model.config
text = "Once upon a time a big cat lived in the library. One day the cat lost its pen."
token_ids = torch.tensor([tokenizer.encode(text)])

# %% [markdown]
# ## 04.1 · Attend
#
# *12 minutes, difficulty 3 of 5.* The whole of attention: scores, scaled by the root of head_dim; the mask; a softmax
# over the keys, in float32; and the mixture of the values. Neighbouring query heads share one head of k and v.


# %% exercise="04.1"
def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """q: (batch, head, query, head_dim); k, v: (batch, shared head, key, head_dim) -> q's shape and dtype.

    mask: (query, key) bool, True where a query attends to a key; None: everywhere.
    """
    ### BEGIN SOLUTION
    group = q.shape[1] // k.shape[1]
    k, v = (repeat(x, "batch head key head_dim -> batch (head group) key head_dim", group=group) for x in (k, v))
    scores = einsum(q, k, "batch head query head_dim, batch head key head_dim -> batch head query key")
    scores = scores * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    return einsum(weights, v, "batch head query key, batch head key head_dim -> batch head query head_dim")
    ### END SOLUTION


# %%
minimoe.check("04.1", attend)

# %% [markdown]
# ### Yours, inside the model
#
# The model runs once with the library's attention and once with yours, in every layer.

# %%
with minimoe.workbench(model, attend=attend) as bench:
    comparison = bench.compare(token_ids)
comparison

# %% [markdown]
# ## 04.2 · The mask of a later chunk
#
# *8 minutes, difficulty 2 of 5.* A long prompt is read in chunks. The queries are then the last few tokens of the text,
# the keys are all tokens up to the end of the chunk. Write the mask for `queries` and `keys`.


# %% exercise="04.2"
def chunk_mask(queries: int, keys: int) -> Tensor:
    """(query, key) bool: each of the last `queries` of `keys` positions attends to itself and to all before it."""
    ### BEGIN SOLUTION
    position = torch.arange(keys)
    return rearrange(position[keys - queries :], "query -> query 1") >= position
    ### END SOLUTION


# %%
minimoe.check("04.2", chunk_mask)

# %% [markdown]
# ## 04.3 · Groups without copies
#
# *12 minutes, difficulty 4 of 5.* In 04.1, the keys and values were copied for every query head: the memory that
# grouping saves is spent again. Write `attend` so that k and v keep their few heads.


# %% exercise="04.3"
def attend_in_groups(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The same function as `attend`, without a copy of k or v."""
    ### BEGIN SOLUTION
    q = rearrange(q, "batch (head group) query head_dim -> batch head group query head_dim", head=k.shape[1])
    scores = einsum(q, k, "batch head group query head_dim, batch head key head_dim -> batch head group query key")
    scores = scores * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    mixed = einsum(
        weights, v, "batch head group query key, batch head key head_dim -> batch head group query head_dim"
    )
    return rearrange(mixed, "batch head group query head_dim -> batch (head group) query head_dim")
    ### END SOLUTION


# %%
minimoe.check("04.3", attend_in_groups)

# %% [markdown]
# ## 04.4 · Predict: who shares?
#
# *6 minutes, difficulty 2 of 5.* The 235B has 64 query heads, 4 key/value heads, a head_dim of 128, and a hidden size
# of 4,096. Heads are numbered from 0. Put `True` or `False` at each place.

# %% exercise="04.4"
predictions = {
    ### BEGIN SOLUTION: "heads 0 and 15 read the same keys": ...,
    "heads 0 and 15 read the same keys": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "heads 15 and 16 read the same keys": ...,
    "heads 15 and 16 read the same keys": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "heads 1 and 17 read the same keys": ...,
    "heads 1 and 17 read the same keys": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "heads that read the same keys look at the same tokens": ...,
    "heads that read the same keys look at the same tokens": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "twice as many query heads: the cache doubles": ...,
    "twice as many query heads: the cache doubles": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "twice as many key/value heads: the cache doubles": ...,
    "twice as many key/value heads: the cache doubles": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "o_proj is square": ...,
    "o_proj is square": False,
    ### END SOLUTION
}

# %%
minimoe.check("04.4", predictions)

# %% [markdown]
# Now measure it on the mini, whose 8 query heads share 2 key/value heads. One key head is changed: which results
# differ?

# %%
generator = torch.Generator().manual_seed(4)
q = torch.randn(1, config.num_attention_heads, 5, config.head_dim, generator=generator)
k, v = torch.randn(2, 1, config.num_key_value_heads, 5, config.head_dim, generator=generator)
other = k.clone()
other[:, 0] += 1
change = (library_attend(q, other, v, None) - library_attend(q, k, v, None)).abs().amax(dim=(0, 2, 3))
print("heads that change with key/value head 0:", [head for head, size in enumerate(change.tolist()) if size > 0])
with torch.device("meta"):
    big = minimoe.Transformer(minimoe.ModelConfig.named("Qwen3-235B-A22B"))
print("o_proj of the 235B:", tuple(big.layers[0].self_attn.o_proj.weight.shape))

# %% [markdown]
# ## 04.5 · Bug hunt: weights that do not add up
#
# *12 minutes, difficulty 3 of 5.* This function computes the attention weights of some heads. It has two bugs.


# %%
def suspicious(q, k, mask):
    """q: (head, query, head_dim), k: (head, key, head_dim) -> attention weights (head, query, key)."""
    scores = einsum(q, k, "head query head_dim, head key head_dim -> head query key")
    weights = (scores * (q.shape[0] * q.shape[-1]) ** -0.5).softmax(dim=-1)
    return weights * mask


# %% [markdown]
# Look at what it returns: the sum of each row, for one head and for eight.

# %%
some_q, some_k = torch.randn(2, 8, 5, config.head_dim, generator=torch.Generator().manual_seed(5))
for heads in (1, 8):
    weights = suspicious(some_q[:heads], some_k[:heads], causal_mask(5, 5, some_q.device))
    print(f"{heads} heads, sums of the rows of head 0:", "  ".join(f"{row:.2f}" for row in weights[0].sum(dim=-1)))

# %% [markdown]
# Two things are odd: all rows but one sum to less than 1, and the weights of head 0 depend on how many other heads
# there are. Repair it.


# %% exercise="04.5"
def attention_weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """q: (head, query, head_dim), k: (head, key, head_dim) -> attention weights (head, query, key)."""
    ### BEGIN SOLUTION
    scores = einsum(q, k, "head query head_dim, head key head_dim -> head query key") * q.shape[-1] ** -0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    ### END SOLUTION


# %%
minimoe.check("04.5", attention_weights)

# %% [markdown]
# ## 04.6 · Estimate, then measure: the cache
#
# *10 minutes, difficulty 2 of 5.* First guess: how many GB does the 235B keep for a text of 32,768 tokens, at 2 bytes a
# number? And with a key/value head for each of its 64 query heads? Write both guesses down. Then write the formula.


# %% exercise="04.6"
def cache_bytes(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    """Bytes that a model keeps of a text with so many tokens; bytes_each: of one number."""
    ### BEGIN SOLUTION
    return 2 * layers * kv_heads * head_dim * tokens * bytes_each
    ### END SOLUTION


# %%
minimoe.check("04.6", cache_bytes)

# %% [markdown]
# Now measure it, on a cache of the mini, and read off the 235B.

# %%
cache = model.new_cache(batch=1, capacity=1000)
measured = sum(part.nbytes for parts in (cache.keys, cache.values) for part in parts.values())


def yours(each, kv_heads, tokens, bytes_each):
    numbers = each.num_hidden_layers, each.num_attention_heads, kv_heads, each.head_dim, tokens, bytes_each
    result = cache_bytes(*numbers)
    return "write the function above" if result in (None, ...) else f"{result:,}"


giant = minimoe.ModelConfig.named("Qwen3-235B-A22B")
rows = {
    "mini, 1,000 tokens, float32, measured": [f"{measured:,}"],
    "mini, 1,000 tokens, float32, yours": [yours(config, config.num_key_value_heads, 1000, 4)],
    "235B, 32,768 tokens, yours": [yours(giant, giant.num_key_value_heads, 32_768, 2)],
    "235B with 64 key/value heads, yours": [yours(giant, giant.num_attention_heads, 32_768, 2)],
}
table(["bytes"], rows)

# %% [markdown]
# ## 04.7 · Ablate: how many heads can go?
#
# *15 minutes, difficulty 3 of 5.* Write the function that switches heads off: what they found is replaced by zeros. The
# rest is for the model. **Predict:** the mini has 4 layers of 8 heads. How many of the 32 can go before the next-token
# loss rises by a tenth of a nat, if the least important go first?


# %% exercise="04.7"
def switch_off(context: Tensor, off: Tensor) -> Tensor:
    """context: (batch, head, query, head_dim) with zeros for each head that is True in `off` (head); a new tensor."""
    ### BEGIN SOLUTION
    return torch.where(rearrange(off, "head -> head 1 1"), torch.zeros_like(context), context)
    ### END SOLUTION


# %%
minimoe.check("04.7", switch_off)

# %% [markdown]
# In the mini, on held-out texts: first each head alone, then more and more of them, in the order of their importance.

# %%
texts = held_out_texts(tokenizer, each=2, seed="04.7")


def loss_without(off):
    """Next-token loss in nats with the heads off that are True in `off` (layer, head)."""
    layer = iter(off.repeat(len(texts), 1))

    def attend_without(q, k, v, mask):
        return switch_off(library_attend(q, k, v, mask), next(layer))

    with minimoe.workbench(model, attend=attend_without):
        return next_token_loss(model, texts)


# %%
def rises(counts):
    """Nats per token that the loss rises with the `count` least important heads off, a line for each count."""
    shape = config.num_hidden_layers, config.num_attention_heads
    heads = rearrange(torch.arange(shape[0] * shape[1]), "(layer head) -> layer head", layer=shape[0])
    everything = loss_without(torch.zeros(shape, dtype=torch.bool))
    alone = torch.tensor([loss_without(heads == head) for head in range(heads.numel())])
    print("heads off   rise of the loss (nats per token)")
    for count in counts:
        off = torch.isin(heads, alone.argsort()[:count])
        rise = round(loss_without(off) - everything, 1)
        print(f"{count:9d} {abs(rise):12.1f}")  # abs: a rise of -0.0 is one of 0.0


written = isinstance(switch_off(torch.zeros(1, 1, 1, 1), torch.tensor([True])), Tensor)
if written:
    rises(counts=(1, 4, 8, 12, 16, 24, 32))
else:
    print("Write the function above: here you will see how much the loss rises with 1, 4, 8, ... heads off.")

# %% [markdown]
# <details><summary>What the numbers say (for after your run)</summary>
#
# A quarter to a third of the heads hardly matters: with 8 or 12 off, the loss rises by 0.1 nats. The last eight matter
# most. That is not the number of heads one could do without in training: the others were never asked to take over.
#
# </details>

# %% [markdown]
# ## 04.8 · Rewrite with einops: into groups
#
# *8 minutes, difficulty 2 of 5.* This line splits the output of `q_proj` into groups of heads. It is correct and hard
# to read:


# %%
def split_as_it_was(x, kv_heads, head_dim):
    batch, position, _ = x.shape
    return x.view(batch, position, kv_heads, -1, head_dim).permute(0, 2, 3, 1, 4)


# %% [markdown]
# Write it as one einops pattern in which every axis has a name.


# %% exercise="04.8"
def split_groups(x: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    """x: (batch, position, channels of all heads) -> (batch, head, group, position, head_dim), head = kv_heads."""
    ### BEGIN SOLUTION
    pattern = "batch position (head group head_dim) -> batch head group position head_dim"
    return rearrange(x, pattern, head=kv_heads, head_dim=head_dim)
    ### END SOLUTION


# %%
minimoe.check("04.8", split_groups)

# %% [markdown]
# ## Yours, in groups, inside the model

# %%
with minimoe.workbench(model, attend=attend_in_groups) as bench:
    comparison = bench.compare(token_ids)
comparison

# %%
minimoe.progress(4)
