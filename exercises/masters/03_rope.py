"""Master of exercises/03_rope.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 03 · RoPE: exercises
#
# Lesson: [03 · RoPE](../notebooks/03_rope.ipynb). About 75 minutes for all seven; if you have less, do 03.2 and 03.4.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like. `minimoe.hint("03.1")` helps in three steps,
# `minimoe.solution("03.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import copy
import math

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor

import minimoe
from minimoe.course.capture import held_out_texts, next_token_loss
from minimoe.model.rope import apply_rope as library_rope
from minimoe.model.rope import frequencies_and_scale, rotary_tables

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
config = model.config
text = "Once upon a time a big bird lived on the farm. One day the bird wanted a green pen."
token_ids = torch.tensor([tokenizer.encode(text)])

# %% [markdown]
# ## 03.1 · The frequencies
#
# *8 minutes, difficulty 1 of 5.* How many radians does each pair turn per token? Pair 0 turns by 1, pair *j* by theta
# to the power of -2j / head_dim.


# %% exercise="03.1"
def frequencies(head_dim: int, theta: float) -> Tensor:
    """Radians per position for each pair: (head_dim / 2) float32, fastest first."""
    ### BEGIN SOLUTION
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    return 1.0 / theta**exponents
    ### END SOLUTION


# %%
minimoe.check("03.1", frequencies)

# %% [markdown]
# ## 03.2 · Turn every pair
#
# *12 minutes, difficulty 3 of 5.* Channel *j* and channel *j + head_dim / 2* form one arrow. Turn each arrow by its
# angle. `cos` and `sin` hold every angle twice, once for each channel of the pair.


# %% exercise="03.2"
def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: (batch, head, position, head_dim); cos, sin: (position, head_dim) -> x's shape and dtype."""
    ### BEGIN SOLUTION
    first, second = rearrange(x, "batch head position (pair half) -> pair batch head position half", pair=2)
    quarter_turn = torch.cat((-second, first), dim=-1)
    return x * cos + quarter_turn * sin
    ### END SOLUTION


# %%
minimoe.check("03.2", apply_rope)

# %% [markdown]
# ### Yours, inside the model
#
# The model runs once with the library's rotation and once with yours, in every layer.

# %%
with minimoe.workbench(model, apply_rope=apply_rope) as bench:
    comparison = bench.compare(token_ids)
comparison

# %% [markdown]
# ## 03.3 · Predict, then run: what moves the score?
#
# *8 minutes, difficulty 2 of 5.* One query at position m, one key at position n, both turned. Put `True` or `False` at
# each place **before** you run the cell after it.

# %% exercise="03.3"
predictions = {
    ### BEGIN SOLUTION: "both moved by 1,000: another score": ...,
    "both moved by 1,000: another score": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "q and k trade positions: another score": ...,
    "q and k trade positions: another score": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "turned q has another length": ...,
    "turned q has another length": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "both at position 0, then both at 7: another score": ...,
    "both at position 0, then both at 7: another score": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "v turned like k: the output still knows distances alone": ...,
    "v turned like k: the output still knows distances alone": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "table rounded to bfloat16, both moved by 1,000: equal to the last digit": ...,
    "table rounded to bfloat16, both moved by 1,000: equal to the last digit": False,
    ### END SOLUTION
}

# %% [markdown]
# Now measure it, with random q, k and v and the mini's frequencies. Do the numbers agree with your predictions?

# %%
q, k, v = torch.randn(3, 1, 1, 1, config.head_dim, generator=torch.Generator().manual_seed(3))


def at(x, position, dtype=torch.float32):
    """x turned to one position, with a table in that dtype."""
    tables = rotary_tables(config, position, position + 1, dtype, x.device)
    return library_rope(x, *(table.float() for table in tables)).flatten()


def score(m, n, dtype=torch.float32):
    return float(at(q, m, dtype) @ at(k, n, dtype))


print(f"score at (5, 2) {score(5, 2):.2f}, at (1005, 1002) {score(1005, 1002):.2f}, at (2, 5) {score(2, 5):.2f}")
print(f"score at (0, 0) {score(0, 0):.2f}, at (7, 7) {score(7, 7):.2f}")
print(f"length of q {float(q.norm()):.2f}, turned to position 999 {float(at(q, 999).norm()):.2f}")
print(f"v turned to position 2 and to 1002: they differ by up to {float((at(v, 2) - at(v, 1002)).abs().max()):.1f}")
moved = score(1005, 1002, torch.bfloat16) - score(5, 2, torch.bfloat16)
print(f"table in bfloat16: the score at (1005, 1002) differs by {abs(moved):.2f} from that at (5, 2)")

# %%
minimoe.check("03.3", predictions)

# %% [markdown]
# ## 03.4 · Bug hunt: one position off
#
# *15 minutes, difficulty 3 of 5.* Generation with a cache, for one head. A step gets the queries and keys of the new
# tokens, not yet turned, and the keys of all earlier tokens, already turned. This function has a bug:


# %%
def turn(x, positions, frequencies):
    """x (position, head_dim), each row turned to its own position."""
    angles = rearrange(positions, "position -> position 1") * frequencies
    cos, sin = (repeat(part, "position half -> position (pair half)", pair=2) for part in (angles.cos(), angles.sin()))
    first, second = rearrange(x, "position (pair half) -> pair position half", pair=2)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def suspicious(q, k, cached, frequencies):
    """q, k: (new, head_dim); cached: (old, head_dim), turned -> scores (new, old + new), keys (old + new, head_dim)."""
    last = max(len(cached) - 1, 0)
    positions = torch.arange(last, last + len(q))
    keys = torch.cat((cached, turn(k, positions, frequencies)))
    return einsum(turn(q, positions, frequencies), keys, "query head_dim, key head_dim -> query key"), keys


# %% [markdown]
# Given all tokens at once, it is right, so its test passed. Given a prompt of five tokens and then four single ones, it
# is wrong. Each row is a query, each column a key; a `#` marks a score that differs from that of the whole text at
# once.

# %%
generator = torch.Generator().manual_seed(4)
q, k = torch.randn(2, 9, config.head_dim, generator=generator)
pace, _ = frequencies_and_scale(config)


def in_steps(step):
    """All scores (query, key), 0 where a query comes before a key."""
    table, keys = torch.zeros(9, 9), torch.zeros(0, config.head_dim)
    for start, stop in ((0, 5), (5, 6), (6, 7), (7, 8), (8, 9)):
        rows, keys = step(q[start:stop], k[start:stop], keys, pace)
        table[start:stop, :stop] = rows
    return table.tril()


everything, _ = suspicious(q, k, torch.zeros(0, config.head_dim), pace)
for query, row in enumerate((in_steps(suspicious) - everything.tril()).abs() > 1e-3):
    print(f"query {query}  " + " ".join("#" if differs else "." for differs in row[: query + 1].tolist()))

# %% [markdown]
# Where are the differences, and where are there none? Describe the pattern in one sentence before you fix it.


# %% exercise="03.4"
def step(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """q, k: (new, head_dim); cached: (old, head_dim), turned -> scores (new, old + new), keys (old + new, head_dim)."""
    ### BEGIN SOLUTION
    positions = torch.arange(len(cached), len(cached) + len(q))  # the first new position is the number of cached keys
    keys = torch.cat((cached, turn(k, positions, frequencies)))
    return einsum(turn(q, positions, frequencies), keys, "query head_dim, key head_dim -> query key"), keys
    ### END SOLUTION


# %%
minimoe.check("03.4", step)

# %% [markdown]
# ## 03.5 · Estimate, then measure: how far do the hands reach?
#
# *10 minutes, difficulty 2 of 5.* First guess, for the 235B (head_dim 128, theta 1,000,000, a context of 40,960): how
# many tokens does the slowest pair need for a whole turn? And how many of its 64 pairs complete a turn within the
# context? Write both numbers down, then write the formula.


# %% exercise="03.5"
def reach(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    """(tokens that the slowest pair needs for a whole turn, number of pairs that complete one within the context)."""
    ### BEGIN SOLUTION
    waves = [math.tau * theta ** (2 * pair / head_dim) for pair in range(head_dim // 2)]
    return waves[-1], sum(wave <= context for wave in waves)
    ### END SOLUTION


# %%
minimoe.check("03.5", reach)

# %% [markdown]
# Now measure it, in the tables that the library computes: count a full turn when the sine crosses zero going up.

# %%
for name, each in (("mini", config), ("235B", minimoe.ModelConfig.named("Qwen3-235B-A22B"))):
    context = each.max_position_embeddings
    _, sin = rotary_tables(each, 0, context + 1, torch.float32, torch.device("cpu"))
    sin = sin[:, : each.head_dim // 2]
    came_round = ((sin[:-1] < 0) & (sin[1:] >= 0)).any(dim=0)
    answer = reach(each.head_dim, each.rope_theta, context)
    mine = (
        "write the function above" if answer is None or ... in answer else f"{answer[0]:,.0f} tokens, {answer[1]} pairs"
    )
    print(f"{name}: {int(came_round.sum())} of {len(came_round)} pairs turn fully in {context:,} tokens; yours: {mine}")

# %% [markdown]
# ## 03.6 · Rewrite with einops: from one pairing to the other
#
# *12 minutes, difficulty 4 of 5.* Other code bases pair neighbours: channels (0, 1), (2, 3), ... of a head. Their
# weights have rows in that order. This function brings the rows of a q or k projection into our order. It is correct
# and hard to read:


# %%
def to_half_split_as_it_was(weight, head_dim):
    heads = weight.shape[0] // head_dim
    return weight.view(heads, head_dim // 2, 2, -1).transpose(1, 2).reshape(heads * head_dim, -1)


# %% [markdown]
# Write it as one einops pattern in which every axis has a name.


# %% exercise="03.6"
def to_half_split(weight: Tensor, head_dim: int) -> Tensor:
    """weight: (head * head_dim, hidden), neighbours paired -> the same rows, halves paired."""
    ### BEGIN SOLUTION
    return rearrange(weight, "(head half pair) hidden -> (head pair half) hidden", pair=2, half=head_dim // 2)
    ### END SOLUTION


# %%
minimoe.check("03.6", to_half_split)

# %% [markdown]
# Suppose you get the mini in the other layout. Loaded as it is, it is broken, without an error; your function repairs
# it. The weights of `q_norm` and `k_norm` have channels too.


# %%
def reorder(other, change):
    """Apply `change` to the rows of every q and k projection, and to the weights of their norms."""
    with torch.no_grad():
        for layer in other.layers:
            attention = layer.self_attn
            for part in (attention.q_proj, attention.k_proj):
                part.weight.copy_(change(part.weight))
            for part in (attention.q_norm, attention.k_norm):
                part.weight.copy_(change(rearrange(part.weight, "head_dim -> head_dim 1"))[:, 0])


def to_neighbours(weight):
    return rearrange(weight, "(head pair half) hidden -> (head half pair) hidden", pair=2, half=config.head_dim // 2)


def repair(weight):
    repaired = to_half_split(weight, config.head_dim)
    return weight if repaired is None else repaired


def change_of_logits(other):
    """The largest difference between the logits of another model and the mini's."""
    with torch.no_grad():
        return float((other(token_ids) - model(token_ids)).abs().max())


foreign = copy.deepcopy(model)
reorder(foreign, to_neighbours)
print(f"in the other layout, logits differ from the mini's by up to {change_of_logits(foreign):.0f}")
reorder(foreign, repair)
print(f"after your function, by up to {change_of_logits(foreign):.0f}")

# %% [markdown]
# ## 03.7 · Ablate: which pairs does it need?
#
# *10 minutes, difficulty 3 of 5.* In the lesson, the eight fastest pairs were enough for short texts. Write the
# function that turns only the chosen pairs, and leaves the others as if every token stood at position 0. **Predict**
# before you run the model: are four enough? Are two?


# %% exercise="03.7"
def turn_only(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    """apply_rope for the pairs that are True in `chosen` (head_dim / 2); the others stay -> x's shape and dtype."""
    ### BEGIN SOLUTION
    mask = repeat(chosen, "half -> (pair half)", pair=2)
    return torch.where(mask, library_rope(x, cos, sin), x)
    ### END SOLUTION


# %%
minimoe.check("03.7", turn_only)

# %% [markdown]
# Now in the mini, on held-out texts: the loss with only the fastest pairs turned, and with only the slowest.

# %%
texts = held_out_texts(tokenizer, each=2, seed="03.7")
half = config.head_dim // 2


def loss(chosen):
    """Next-token loss in nats, with only the chosen pairs turned."""

    def partly(x, cos, sin):
        turned = turn_only(x, cos, sin, chosen)
        return library_rope(x, cos, sin) if turned is None else turned

    with minimoe.workbench(model, apply_rope=partly):
        return next_token_loss(model, texts)


print("pairs turned   the fastest   the slowest   (loss in nats per token)")
for count in (0, 2, 4, half // 2, half - 2, half):
    number = torch.arange(half)
    print(f"{count:12d} {loss(number < count):13.1f} {loss(number >= half - count):13.1f}")

# %% [markdown]
# <details><summary>What the numbers say (for after your run)</summary>
#
# Two things to remember. The mini reads short texts with its fast pairs. And a pair that hardly turns within the
# context is a channel without a position: some models leave part of their channels unturned by design.
#
# </details>

# %%
minimoe.progress(3)
