"""Master of exercises/09_generation.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 09 · Generation and the KV cache: exercises
#
# Lesson: [09 · Generation and the KV cache](../notebooks/09_generation.ipynb). About 80 minutes for all nine; if you
# have less, do 09.1, 09.3 and 09.8.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like; `minimoe.hint("09.1")` helps in three steps,
# `minimoe.solution("09.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import torch
from einops import einsum, repeat
from torch import Tensor

import minimoe
from minimoe.course.figures import ch09_drafts, ch09_sampling
from minimoe.course.table import table
from minimoe.model.cache import KVCache
from minimoe.text.generate import prompt_ids
from minimoe.text.sampling import SamplingSettings

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
question = [{"role": "user", "content": "Tell me a story about a dog."}]
prompt = prompt_ids(tokenizer, question, thinking=False)

# %% [markdown]
# ## 09.1 · Append to the cache
#
# *8 minutes, difficulty 2 of 5.* `keys` and `values` are rectangles with room for `capacity` positions. The first
# `length` of them are filled; the rest holds whatever was in memory. Write the new `k` and `v` behind what is filled,
# **into** the rectangles, and return all that is filled then.


# %% exercise="09.1"
def append(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """keys, values (batch, head, capacity, head_dim); k, v (batch, head, position, head_dim). Changes keys and values.

    Returns all keys and all values so far, each (batch, head, length + position, head_dim).
    """
    ### BEGIN SOLUTION
    stop = length + k.shape[2]
    keys[:, :, length:stop] = k
    values[:, :, length:stop] = v
    return keys[:, :, :stop], values[:, :, :stop]
    ### END SOLUTION


# %%
minimoe.check("09.1", append)

# %% [markdown]
# ### Yours, inside the model
#
# A cache that stores with your function. The model reads the prompt at once, then goes on token by token, and the
# logits are compared with a run that has no cache at all.


# %%
class YourCache(KVCache):
    def append(self, layer, k, v):
        return append(self.keys[layer], self.values[layer], self.length, k, v)


@torch.no_grad()
def with_your_cache(ids, start):
    """Logits (position, vocab): the first `start` tokens in one pass, the others one by one."""
    cache = YourCache(model.config, model.layer_range, capacity=ids.shape[1], dtype=model.dtype)
    pieces = [ids[:, :start], *ids[:, start:].split(1, dim=1)]
    return torch.cat([model(piece, cache=cache)[0] for piece in pieces])


ids = torch.tensor([tokenizer.encode("Once upon a time a big dog lived on the farm. One day the dog wanted a pen.")])
if append(*torch.zeros(2, 1, 1, 2, 1), 0, *torch.zeros(2, 1, 1, 1, 1)) is None:
    print("write the function above, and your cache runs inside the model here")
else:
    with torch.no_grad():
        gap = (with_your_cache(ids, 8) - model(ids)[0]).abs().max()
    print(f"{ids.shape[1]} tokens, {ids.shape[1] - 7} passes; largest difference of a logit: {gap:.3f}")

# %% [markdown]
# ## 09.2 · One query, a half-empty cache
#
# *10 minutes, difficulty 2 of 5.* Decode, seen by one layer: **one** query for each head, and a cache of which the
# first `length` places are filled, the newest token's own among them. Does it need a causal mask? And how do you keep
# it from the free places?


# %% exercise="09.2"
def attend_one(q: Tensor, keys: Tensor, values: Tensor, length: int) -> Tensor:
    """q (head, head_dim); keys, values (head, capacity, head_dim) -> (head, head_dim), the mixture of the values.

    Scaled dot-product attention to the first `length` places. What stands behind them must not matter, not even nan.
    """
    ### BEGIN SOLUTION
    scores = einsum(q, keys[:, :length], "head head_dim, head key head_dim -> head key") * q.shape[-1] ** -0.5
    return einsum(scores.softmax(dim=-1), values[:, :length], "head key, head key head_dim -> head head_dim")
    ### END SOLUTION


# %%
minimoe.check("09.2", attend_one)

# %% [markdown]
# ## 09.3 · The sampler
#
# *12 minutes, difficulty 3 of 5.* From logits to the probabilities of the draw: divide by the **temperature**; keep the
# **top-k** likeliest (0: all of them); of these, keep those with at least **min-p** times the probability of the
# likeliest (0: all); let the rest sum to one. Temperature 0 gives the likeliest token everything. (If several tokens
# are exactly as likely as the last of the top-k, keep them or not, as you like: the check doesn't ask.)


# %% exercise="09.3"
def chances(logits: Tensor, temperature: float, top_k: int, min_p: float) -> Tensor:
    """logits (vocab) float32 -> the probability of each token to be drawn (vocab) float32."""
    ### BEGIN SOLUTION
    if temperature == 0:
        return torch.zeros_like(logits).scatter(0, logits.argmax(dim=0, keepdim=True), 1.0)
    scaled = logits / temperature
    if 0 < top_k < len(scaled):
        scaled = scaled.masked_fill(scaled < scaled.topk(top_k).values[-1], -torch.inf)
    shares = scaled.softmax(dim=0)
    return scaled.masked_fill(shares < min_p * shares.max(), -torch.inf).softmax(dim=0)
    ### END SOLUTION


# %%
minimoe.check("09.3", chances)

# %% [markdown]
# ### Yours, inside the model
#
# Add the throw of the dice, and your sampler writes a story at temperature 0.8, beside the library's with the same
# dice.


# %%
def your_sample(logits, temperature=1.0, *, top_k=0, top_p=1.0, min_p=0.0, generator=None):
    return torch.multinomial(chances(logits, temperature, top_k, min_p), 1, generator=generator)[0]


written = chances(torch.zeros(3), 1.0, 0, 0.0) is not None
with minimoe.workbench(model, sample=your_sample if written else None) as bench:
    story = bench.story(tokenizer, question, 40, thinking=False, temperature=0.8, seed=3)
print(f"the library's story, token by token: {story.agreed / len(story.theirs):.0%} as yours")

# %% tags="nbval-ignore-output"
story

# %%
assert len(story.theirs) > 10

# %% [markdown]
# ## 09.4 · Bug hunt: top-p, off by one
#
# *10 minutes, difficulty 3 of 5.* Top-p keeps the smallest number of likeliest tokens whose probabilities reach
# `top_p`. Here it is, and it runs well for a while:


# %%
def suspicious(probabilities, top_p):
    ordered, order = probabilities.sort(descending=True)
    kept = ordered.cumsum(dim=0) <= top_p
    return torch.zeros_like(kept).scatter(0, order, kept)


def kept_at(text):
    """How many tokens the function keeps behind a text, for two values of top_p; and the likeliest's probability."""
    with torch.no_grad():
        shares = model(torch.tensor([tokenizer.encode(text)]), last_only=True)[0, -1].softmax(dim=0)
    return [f"{shares.max():.0%}", *(int(suspicious(shares, top_p).sum()) for top_p in (0.5, 0.9))]


texts = ["There it met a", "Once upon a time there", "One day the cat lost"]
table(["the likeliest", "kept at top-p 0.5", "at 0.9"], {text: kept_at(text) for text in texts})

# %% [markdown]
# Where no token is left, there's nothing to draw. And that happens where the model is surest: work out by hand what
# `kept` is for a single token that has nearly everything. Then write the function so that it keeps what top-p promises.


# %% exercise="09.4"
def top_p_keeps(probabilities: Tensor, top_p: float) -> Tensor:
    """probabilities (vocab) -> (vocab) bool, True for the tokens that are kept.

    The smallest number of likeliest tokens whose sum is at least `top_p`, in the order of the vocabulary. If some are
    equally likely, any of them.
    """
    ### BEGIN SOLUTION
    ordered, order = probabilities.sort(descending=True)
    kept = ordered.cumsum(dim=0) - ordered < top_p  # the sum before each token
    return torch.zeros_like(kept).scatter(0, order, kept)
    ### END SOLUTION


# %%
minimoe.check("09.4", top_p_keeps)

# %% [markdown]
# ## 09.5 · Where turns end
#
# *8 minutes, difficulty 2 of 5.* A batch of texts is written at the same time, and every row goes on until the last
# one is done. How long is each row really?


# %% exercise="09.5"
def lengths(ids: Tensor, stop_ids: tuple[int, ...]) -> Tensor:
    """ids (batch, position) int64 -> (batch) int64, the number of tokens before the first stop id of each row.

    A row without a stop id has all its tokens.
    """
    ### BEGIN SOLUTION
    stops = torch.isin(ids, torch.tensor(stop_ids))
    return (stops.int().cumsum(dim=1) == 0).sum(dim=1)
    ### END SOLUTION


# %%
minimoe.check("09.5", lengths)

# %% [markdown]
# ## 09.6 · Estimate, then measure: a token after 32,768 others
#
# *8 minutes, difficulty 2 of 5.* One user, bfloat16. `active` parameters are read once for each token, and so is the
# whole cache. First guess for the 235B after 32,768 tokens: how many gigabytes is its cache, and how many milliseconds
# does a token take at 3.35 TB/s? Then write the formula.


# %% exercise="09.6"
def next_token(
    layers: int, heads: int, head_dim: int, active: int, cached: int, bandwidth: float
) -> tuple[float, float]:
    """(bytes of the cache, seconds of the next token), all numbers in bfloat16: two bytes each.

    heads: key/value heads. active: a number of parameters. cached: a number of tokens. bandwidth: bytes a second.
    """
    ### BEGIN SOLUTION
    cache = 2 * 2 * layers * heads * head_dim * cached  # a key and a value, two bytes a number
    return cache, (2 * active + cache) / bandwidth
    ### END SOLUTION


# %%
minimoe.check("09.6", next_token)

# %% [markdown]
# Now measure the first one: a real cache of the mini in bfloat16, which allocates what it holds. And the 235B as your
# formula sees it.

# %%
big = minimoe.ModelConfig.named("Qwen3-235B-A22B")
read = big.active_parameters - big.vocab_size * big.hidden_size  # of the embedding, one row is read
allocated = KVCache(model.config, range(4), capacity=1000, dtype=torch.bfloat16).bytes
print(f"the mini's cache for 1,000 tokens: {allocated:,} bytes")
rows = {}
for cached in (0, 32_768, 262_144):
    found = next_token(94, 4, 128, read, cached, 3.35e12)
    rows[f"after {cached:,} tokens"] = (
        ["write the function above", ""] if found is None else [f"{found[0] / 1e9:.1f}", f"{1000 * found[1]:.0f}"]
    )
mini = next_token(4, 2, 32, 0, 1000, 1.0)
print(f"by your formula: {'-' if mini is None else f'{mini[0]:,}'} bytes")
table(["cache of the 235B, GB", "a token, ms"], rows)

# %% [markdown]
# ## 09.7 · Predict, then run: greedy
#
# *8 minutes, difficulty 2 of 5.* The first three are about 40 tokens of a story about a dog (`prompt`, from the top of
# this page). For the last two the mini is asked how much 42 + 30 is, and writes on without an end (its stop ids are
# forbidden), once always taking the likeliest token, once drawing at temperature 1. *Repetition*: of all runs of six
# tokens, the share that has occurred before. Put `True` or `False` at each place **before** you run the cells after it.

# %% exercise="09.7"
predictions = {
    ### BEGIN SOLUTION: "greedy, another seed: another text": ...,
    "greedy, another seed: another text": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "temperature 2 and top-k 1: the greedy text": ...,
    "temperature 2 and top-k 1: the greedy text": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "all logits doubled: another greedy text": ...,
    "all logits doubled: another greedy text": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "endless and greedy, a tenth and more is repetition": ...,
    "endless and greedy, a tenth and more is repetition": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "endless and drawn at temperature 1, a tenth and more is repetition": ...,
    "endless and drawn at temperature 1, a tenth and more is repetition": False,
    ### END SOLUTION
}


# %%
barred = torch.zeros(model.config.vocab_size)  # what is added to the logits of an endless text:
barred[list(tokenizer.stop_ids)] = -1e9  # so much that no stop id is ever drawn


def write(settings, ids=prompt, seed=0, factor=1.0, endless=False, count=40):
    """Token ids that continue `ids`, with the dice of `seed`."""
    hook = model.lm_head.register_forward_hook(lambda head, inputs, logits: factor * (logits + barred * endless))
    with hook:
        return ch09_sampling.write_worlds(model, tokenizer, ids, settings, 1, count, seed).ids[0]


greedy, drawn = SamplingSettings(temperature=0), SamplingSettings(temperature=1)
usual = write(greedy)
others = {
    "another seed": write(greedy, seed=1),
    "temperature 2 and top-k 1": write(SamplingSettings(temperature=2, top_k=1)),
    "all logits doubled": write(greedy, factor=2),
}
table(["tokens that are the same, of 40"], {name: [sum(map(int.__eq__, usual, ids))] for name, ids in others.items()})


# %%
def repetition(ids, size=6):
    runs = [tuple(ids[place : place + size]) for place in range(len(ids) - size + 1)]
    return 1 - len(set(runs)) / len(runs)


addition = prompt_ids(tokenizer, [{"role": "user", "content": "How much is 42 + 30?"}], thinking=False)
settings = {"greedy": greedy, "drawn": drawn}
long = {name: write(each, addition, endless=True, count=150) for name, each in settings.items()}
found = {name: "a tenth and more" if repetition(ids) >= 0.1 else "less than a tenth" for name, ids in long.items()}
table(["is repetition"], {name: [says] for name, says in found.items()})

# %%
minimoe.check("09.7", predictions)

# %% [markdown]
# ## 09.8 · Accept or reject
#
# *10 minutes, difficulty 3 of 5.* The model has read the last token and your `drafts` in one pass. `best` says, for
# each of these places, what it would write next itself: `best[0]` after the last token, `best[1]` after the first
# draft, and so on, so that there is one more of them. Which tokens may be appended to the text, so that it stays the
# text that the model would have written alone?


# %% exercise="09.8"
def accept(drafts: list[int], best: list[int]) -> list[int]:
    """The ids to append, at least one. len(best) == len(drafts) + 1."""
    ### BEGIN SOLUTION
    right = 0
    while right < len(drafts) and drafts[right] == best[right]:
        right += 1
    return best[: right + 1]
    ### END SOLUTION


# %%
minimoe.check("09.8", accept)

# %% [markdown]
# ### Yours, inside the loop
#
# The mini adds two numbers, with thoughts; the drafter proposes what followed the last time when the text ended like
# this; your function decides.


# %%
def write_with_yours(ids, count, drafts):
    """The text of `count` tokens, and the number of passes."""
    text, passes, cache = list(ids), 1, model.new_cache(capacity=len(ids) + count + drafts + 1)
    fresh = ch09_drafts.best_ids(model, tokenizer, text, cache)[-1:]
    while True:
        text += fresh
        if len(text) - len(ids) >= count or any(token in tokenizer.stop_ids for token in fresh):
            return text[len(ids) :][:count], passes
        guess = ch09_drafts.ngram_draft(text, drafts)
        best = ch09_drafts.best_ids(model, tokenizer, [text[-1], *guess], cache)
        fresh, passes = accept(guess, best), passes + 1
        cache.length -= len(guess) + 1 - len(fresh)


sum_of_two = prompt_ids(tokenizer, [{"role": "user", "content": "What is 850999 + 280798?"}], thinking=True)
if accept([], [0]) is None:
    print("write the function above, and it decides here")
else:
    plain, single = write_with_yours(sum_of_two, 100, 0)
    text, passes = write_with_yours(sum_of_two, 100, 4)
    same = sum(a == b for a, b in zip(plain, text, strict=False))
    print(f"{len(text)} tokens, {same} of them the same as without drafts")
    print(f"passes: {single} without drafts, fewer than {-(-passes // 10) * 10} with them")

# %% [markdown]
# ## 09.9 · Rewrite with einops: ten worlds
#
# *6 minutes, difficulty 2 of 5.* To continue each text of a batch in several worlds, every row of the cache is copied.
# This function is right. Which axis is new, and are the copies of one text neighbours? One has to know how `expand` and
# `reshape` treat memory to see it.


# %%
def copies_as_they_were(keys, copies):
    batch, head, position, head_dim = keys.shape
    spread = keys[:, None].expand(batch, copies, head, position, head_dim)
    return spread.reshape(batch * copies, head, position, head_dim)


# %% [markdown]
# Write it as one pattern, so that the order of the rows can be read.


# %% exercise="09.9"
def worlds(keys: Tensor, copies: int) -> Tensor:
    """keys (batch, head, position, head_dim) -> (batch · copies, head, position, head_dim)."""
    ### BEGIN SOLUTION
    return repeat(keys, "batch head position head_dim -> (batch copy) head position head_dim", copy=copies)
    ### END SOLUTION


# %%
minimoe.check("09.9", worlds)

# %%
minimoe.progress(9)
