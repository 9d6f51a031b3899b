"""Master of exercises/15_the_article.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 15 · The article, claim by claim: exercises
#
# Lesson: [15 · The article, claim by claim](../notebooks/15_the_article.ipynb). About 60 minutes for all six; if you
# have less, do 15.1, 15.2 and 15.4.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like. `minimoe.hint("15.1")` helps in three steps,
# `minimoe.solution("15.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import torch
from einops import einsum
from torch import Tensor

import minimoe
from minimoe.course.article.claims import VERDICTS, claims
from minimoe.course.article.corrected import passage
from minimoe.course.article.quantities import quantities
from minimoe.course.article.tables import tables
from minimoe.course.figures.ch08_names import families
from minimoe.course.table import table

big = minimoe.ModelConfig.named("Qwen3-235B-A22B")

# %% [markdown]
# ## 15.1 · Estimate, then compute: what a sentence about memory needs
#
# *8 minutes, difficulty 1 of 5.* First guess, for the 235B in 16 bits: how many GB are its weights, and how many GB is
# the cache of 32,768 tokens? Then write the two formulas. Widths are in **bits**, a GB is 10**9 bytes. The cache holds
# keys and values, in every layer, for every key/value head. Don't round.


# %% exercise="15.1"
def gigabytes(
    parameters: int, bits: float, tokens: int, layers: int, kv_heads: int, head_dim: int, kv_bits: int
) -> tuple[float, float]:
    """(GB of the weights, GB of the KV cache). bits: of a parameter; kv_bits: of a number in the cache."""
    ### BEGIN SOLUTION
    weights = parameters * bits / 8
    cache = tokens * layers * 2 * kv_heads * head_dim * kv_bits / 8
    return weights / 10**9, cache / 10**9
    ### END SOLUTION


# %%
minimoe.check("15.1", gigabytes)

# %% [markdown]
# The sentence "roughly 120-140GB in half precision", with your function, for four widths:

# %%
rows = {}
for bits in (16, 8, 4.125, 2.72):
    sizes = (big.total_parameters, bits, 32_768, big.num_hidden_layers, big.num_key_value_heads, big.head_dim, 16)
    mine = gigabytes(*sizes)
    rows[f"{bits} bits"] = [f"{each:.1f} GB" for each in mine] if isinstance(mine, tuple) else ["...", "..."]
table(["weights", "cache of 32,768 tokens"], rows)

# %% [markdown]
# ## 15.2 · Two tables, row by row
#
# *10 minutes, difficulty 2 of 5.* Two models, each with a dictionary: benchmark -> score. A score may be `None`,
# which is a dash in a printed table, and a benchmark may stand in one of the two dictionaries only. Count four kinds
# of rows, over all benchmarks of both: ours is higher, both are equal, ours is lower, and there are not two scores.
# Scores are compared as they are, and don't change the dictionaries.


# %% exercise="15.2"
def compare(ours: dict[str, float | None], theirs: dict[str, float | None]) -> tuple[int, int, int, int]:
    """(higher, equal, lower, missing), four numbers of rows."""
    ### BEGIN SOLUTION
    higher = equal = lower = missing = 0
    for name in ours.keys() | theirs.keys():
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None:
            missing += 1
        elif one > other:
            higher += 1
        elif one == other:
            equal += 1
        else:
            lower += 1
    return higher, equal, lower, missing
    ### END SOLUTION


# %%
minimoe.check("15.2", compare)

# %% [markdown]
# The published tables of the lesson, with your function. The last row compares two tables that have not the same rows:
# the update in its card, and GPT-4o in the report.

# %%
columns = {
    key: [{row.benchmark: getattr(row, side) for row in each.rows} for side in ("ours", "theirs")]
    for key, each in tables().items()
}
columns["2507 beside GPT-4o"] = [columns["2507"][0], columns["gpt-4o"][1]]
rows = {}
for name, (ours, theirs) in columns.items():
    counts = compare(ours, theirs)
    rows[name] = list(counts) if isinstance(counts, tuple) else ["..."] * 4
table(["higher", "equal", "lower", "missing"], rows)

# %% [markdown]
# ## 15.3 · Bug hunt: it fits, on average
#
# *12 minutes, difficulty 3 of 5.* A model is split by layers: card 0 has the embedding and the first layers, the last
# card has the last layers and the head. The function should return the bytes that are **missing on each card**, 0 where
# it fits. It has a bug:


# %%
def suspicious(layers, layer, embedding, head, cards, memory):
    """Bytes missing on each card. layer, embedding, head: bytes of one layer, of the embedding and of the head."""
    need = layers * layer + embedding + head
    return [max(0, need // cards - memory) for card in range(cards)]


# %% [markdown]
# A test with small numbers: five layers of 10 bytes, an embedding of 7, a head of 4. Two cards of 31 bytes have 62, and
# all together is 61. Is it enough?

# %%
print(suspicious(layers=5, layer=10, embedding=7, head=4, cards=2, memory=31))

# %% [markdown]
# It says that nothing is missing. But a layer can't be cut: one card has three layers and the embedding.
#
# Write it for real cards. Every card gets `layers // cards` layers; if some are left, the **first** cards get one more
# each. The embedding is on the first card, the head on the last one. (A single card is both.)


# %% exercise="15.3"
def missing_bytes(layers: int, layer: int, embedding: int, head: int, cards: int, memory: int) -> list[int]:
    """Bytes missing on each card, 0 where it fits; memory: bytes of one card."""
    ### BEGIN SOLUTION
    each, rest = divmod(layers, cards)
    need = [(each + (card < rest)) * layer for card in range(cards)]
    need[0] += embedding
    need[-1] += head
    return [max(0, bytes_ - memory) for bytes_ in need]
    ### END SOLUTION


# %%
minimoe.check("15.3", missing_bytes)

# %% [markdown]
# ## 15.4 · Seven sentences about another model
#
# *10 minutes, difficulty 2 of 5.* Here is what its configs say about Qwen3-30B-A3B, the smaller mixture of April 2025,
# and which mixtures of about its size were counted in chapter 08.

# %%
small = minimoe.ModelConfig.named("Qwen3-30B-A3B")
update = minimoe.ModelConfig.named("Qwen3-30B-A3B-Instruct-2507")
print(f"{small.total_parameters:,} parameters, active: {small.active_parameters:,}")
print(f"{small.num_hidden_layers} layers with {small.num_experts} experts in each", end=", ")
print(f"{small.num_key_value_heads} key/value heads of {small.head_dim}")
print(f"positions: {small.max_position_embeddings:,}; Instruct-2507: {update.max_position_embeddings:,}")
print("released: Qwen3-30B-A3B in April 2025, Qwen3.5-35B-A3B in February 2026")
print(", ".join(each["model"] for each in families() if 3e10 < each["total"] < 4e10))

# %% [markdown]
# Which verdict has each sentence, as it stands? Write "true", "true with a condition", "false", "outdated" or "not
# checkable".

# %% exercise="15.4"
my_verdicts = {
    ### BEGIN SOLUTION: "a token uses about a ninth of its 30.5 billion parameters": ...,
    "a token uses about a ninth of its 30.5 billion parameters": "true",
    ### END SOLUTION
    ### BEGIN SOLUTION: "in half precision its weights fit one card with 24 GB": ...,
    "in half precision its weights fit one card with 24 GB": "false",
    ### END SOLUTION
    ### BEGIN SOLUTION: "it has 128 experts": ...,
    "it has 128 experts": "true with a condition",
    ### END SOLUTION
    ### BEGIN SOLUTION: "its native context has 262,144 tokens": ...,
    "its native context has 262,144 tokens": "true with a condition",
    ### END SOLUTION
    ### BEGIN SOLUTION: "32,768 tokens take 3.2 GB of cache in 16 bits": ...,
    "32,768 tokens take 3.2 GB of cache in 16 bits": "true",
    ### END SOLUTION
    ### BEGIN SOLUTION: "it is three times as good as a dense model of 3 billion": ...,
    "it is three times as good as a dense model of 3 billion": "not checkable",
    ### END SOLUTION
    ### BEGIN SOLUTION: "it is the newest small mixture of the Qwen team": ...,
    "it is the newest small mixture of the Qwen team": "outdated",
    ### END SOLUTION
}

# %%
minimoe.check("15.4", my_verdicts)

# %% [markdown]
# ## 15.5 · Rewrite with einops: which verdicts are confused?
#
# *8 minutes, difficulty 2 of 5.* Several readers have guessed the verdicts of all claims. `guesses` is one-hot, (reader
# claim given), `verdicts` is one-hot, (claim true). This function counts, for each reader, how often a guess met a
# verdict:


# %%
def confused_as_it_was(guesses, verdicts):
    readers, claims, choices = guesses.shape
    counts = torch.zeros(readers, choices, verdicts.shape[1])
    for reader in range(readers):
        for claim in range(claims):
            counts[reader, guesses[reader, claim].argmax(), verdicts[claim].argmax()] += 1
    return counts


# %% [markdown]
# Write it as one `einsum`, in which every axis has a name.


# %% exercise="15.5"
def confused(guesses: Tensor, verdicts: Tensor) -> Tensor:
    """guesses: (reader, claim, given), verdicts: (claim, true) -> counts: (reader, given, true)."""
    ### BEGIN SOLUTION
    return einsum(guesses, verdicts, "reader claim given, claim true -> reader given true")
    ### END SOLUTION


# %%
minimoe.check("15.5", confused)

# %% [markdown]
# A reader who says "true" to everything, and one who says "not checkable" to everything, with the verdicts of the
# lesson. Each column says which verdicts the guess met:

# %%
truth = torch.eye(5)[[VERDICTS.index(claim.verdict) for claim in claims().values()]]
trusting, doubting = (torch.eye(5)[[VERDICTS.index(guess)] * len(truth)] for guess in ("true", "not checkable"))
counts = confused(torch.stack([trusting, doubting]), truth)
if isinstance(counts, Tensor):
    met = counts.sum(dim=1).int().tolist()
    right = [int(each.diagonal().sum()) for each in counts]
else:
    met, right = [["..."] * 5] * 2, ["..."] * 2
rows = {name: [*met[index], right[index]] for index, name in enumerate(("says “true”", "says “not checkable”"))}
table([*VERDICTS, "right"], rows)

# %% [markdown]
# ## 15.6 · Estimate, then compute: when 22 become 235
#
# *12 minutes, difficulty 3 of 5.* "Only 22B parameters compute per token." First guess: how many of its 235 billion
# parameters do 32 tokens read, if they are computed together? Then write the formula. Two numbers are published, all
# parameters and the active ones; they and the choice (8 of 128) are enough. Suppose that every token chooses its
# experts independently of the others, all equally likely. Experts of the same number in different layers count as one
# kind: each is read with the same probability.


# %% exercise="15.6"
def parameters_read(tokens: int, total: int, active: int, experts: int, chosen: int) -> float:
    """Expected number of parameters that `tokens` tokens read together; at least 1 token.

    total, active: parameters of the model, and those that one token uses. Each token chooses `chosen` of `experts`.
    """
    ### BEGIN SOLUTION
    in_experts = (total - active) * experts / (experts - chosen)
    unread = (1 - chosen / experts) ** tokens
    return total - in_experts * unread
    ### END SOLUTION


# %%
minimoe.check("15.6", parameters_read)

# %%
rows = {}
for tokens in (1, 2, 4, 8, 32, 128):
    mine = parameters_read(
        tokens, big.total_parameters, big.active_parameters, big.num_experts, big.num_experts_per_tok
    )
    rows[f"{tokens} tokens"] = [f"{mine / 1e9:.1f} billion" if isinstance(mine, float) else "..."]
table(["the 235B reads"], rows)

# %% [markdown]
# ## Yours, in the article
#
# The paragraph on memory of the corrected article, with the numbers of your own `gigabytes`:

# %%
numbers = quantities()
sizes = {"bf16_gb": (16, 0), "with_256k_gb": (16, 262_144), "with_million_gb": (16, 1_010_000)}
rest = (big.num_hidden_layers, big.num_key_value_heads, big.head_dim, 16)
for name, (bits, tokens) in sizes.items():
    mine = gigabytes(big.total_parameters, bits, tokens, *rest)
    if isinstance(mine, tuple):
        numbers[name] = sum(mine)
passage("what it takes", numbers)

# %%
minimoe.progress(15)
