"""Master of exercises/12_which_experts.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 12 · Which experts, and why? Exercises
#
# Lesson: [12 · Which experts](../notebooks/12_which_experts.ipynb). About 100 minutes for all eight; 12.1, 12.6 and
# 12.8 are the heart.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like; `minimoe.hint("12.1")` helps in three steps,
# `minimoe.solution("12.1")` shows all of it. Nothing breaks if you leave one out.
#
# Your functions get plain tensors, and then a real trace: what the routers of the mini decide, right now, for held-out
# texts of four domains.

# %%
from collections import Counter
from itertools import count, pairwise
from random import Random

import torch
from einops import einsum, reduce
from torch import Tensor
from torch.nn import functional as F

import minimoe
from minimoe.course.figures import ch12_experts as pictures
from minimoe.model.router import Routing
from minimoe.model.router import route as library_route
from minimoe.routing.statistics import jensen_shannon, selection_counts
from minimoe.training.corpus.documents import document

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
num_experts, top_k = model.config.num_experts, model.config.num_experts_per_tok

# %%
documents = [
    minimoe.TracedDocument(document(Random(f"12x {domain} {n}"), "held-out", domain).text, domain, f"{domain} {n}")
    for domain in ("en", "zh", "code", "math")
    for n in range(12)
]
trace = minimoe.record_documents(model, tokenizer, documents, label="mini checkpoint")
LAYER = 2
en, zh, code, math = (trace.domains == number for number in range(4))
print(trace.title)
print("experts:", dict(zip(("layer", "token", "slot"), trace.experts.shape, strict=True)))

# %% [markdown]
# ## 12.1 · Fill in: from ids to shares
#
# *10 minutes, difficulty 2 of 5.* A trace holds the selected experts of each token. For each layer and expert: which
# share of the **tokens** selected it, and how many times the share that it would have if all experts were alike?


# %% exercise="12.1"
def frequency(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor]:
    """experts: (layer, token, slot) int64 -> (share of the tokens, times uniform), both (layer, expert) float32."""
    ### BEGIN SOLUTION
    chosen = F.one_hot(experts, num_experts).sum(dim=-2).float()
    shares = reduce(chosen, "layer token expert -> layer expert", "mean")
    uniform = experts.shape[-1] / num_experts
    return shares, shares / uniform
    ### END SOLUTION


# %%
minimoe.check("12.1", frequency)

# %% [markdown]
# Your atlas: all tokens, and those of Python code alone. What is grey was selected as often as chance has it.

# %%
whole, inside = frequency(trace.experts, num_experts), frequency(trace.experts[:, code], num_experts)
found = {"all tokens": whole, "tokens of code": inside}
panels = {name: shares[1] for name, shares in found.items() if shares is not None}
if not panels:
    print("write the function above, and your atlas appears here")
pictures.atlases(panels, "Your atlas (mini, held-out texts)") if panels else None

# %% [markdown]
# ## 12.2 · Estimate, then measure: what two random sets share
#
# *10 minutes, difficulty 3 of 5.* Two tokens, each with 8 random experts of 128. How many do they share **on average**,
# and in which share of all cases do they share **at least one**? Guess both numbers first. Then write the formula.


# %% exercise="12.2"
def shared(top_k: int, num_experts: int) -> tuple[float, float]:
    """(mean number of experts in common, probability of at least one) for two random sets."""
    ### BEGIN SOLUTION
    from math import comb

    none = comb(num_experts - top_k, top_k) / comb(num_experts, top_k)
    return top_k**2 / num_experts, 1 - none
    ### END SOLUTION


# %%
minimoe.check("12.2", shared)

# %% [markdown]
# And measured: random sets, and two neighbours in a text.

# %%
generator = torch.Generator().manual_seed(122)
random_sets = torch.rand(20_000, num_experts, generator=generator).topk(top_k, dim=-1).indices
there = F.one_hot(random_sets, num_experts).sum(dim=-2)
chosen = F.one_hot(trace.experts[LAYER], num_experts).sum(dim=-2)
together = trace.sequences[:-1] == trace.sequences[1:]
pairs = {"random sets": (there[::2], there[1::2]), "neighbours": (chosen[:-1][together], chosen[1:][together])}
if (formula := shared(top_k, num_experts)) is not None:
    print(f"{'your formula':12s} {formula[0]:.1f} on average, at least one in {formula[1]:.0%}")
for name, (one, other) in pairs.items():
    common = (one * other).sum(dim=-1)
    print(f"{name:12s} {common.float().mean():.1f} on average, at least one in {(common > 0).float().mean():.0%}")

# %% [markdown]
# "These two tokens share an expert!" is no news, then.

# %% [markdown]
# ## 12.3 · Rewrite with einops: who works with whom
#
# *10 minutes, difficulty 3 of 5.* This table says how often two experts were selected for the same token; its diagonal,
# how often each was selected at all. It is right, and for a long trace it takes minutes.


# %%
def coactivation_as_it_was(experts, num_experts):
    table = torch.zeros(num_experts, num_experts, dtype=torch.int64)
    for row in experts.tolist():
        for one in row:
            for other in row:
                table[one, other] += 1
    return table


# %% [markdown]
# Say it without a loop: `F.one_hot`, and one einops pattern.


# %% exercise="12.3"
def coactivation(experts: Tensor, num_experts: int) -> Tensor:
    """experts: (token, slot) int64 -> (expert, other) int64: tokens that selected both."""
    ### BEGIN SOLUTION
    there = F.one_hot(experts, num_experts).sum(dim=-2)
    return einsum(there, there, "token expert, token other -> expert other")
    ### END SOLUTION


# %%
minimoe.check("12.3", coactivation)

# %% [markdown]
# From counts to PMI: the logarithm of how much more often than independent. What should the middle of all pairs be?

# %%
table = coactivation(trace.experts[LAYER], num_experts)
if table is None:
    print("write the function above, and its table is looked at here")
else:
    counts, tokens = table.double(), len(trace)
    pmi = (counts * tokens / (counts.diagonal()[:, None] * counts.diagonal())).log()
    off = pmi[~torch.eye(num_experts, dtype=torch.bool)]
    expected = torch.tensor((top_k - 1) * num_experts / (top_k * (num_experts - 1))).log()
    print(f"pairs that never met: {int((off.isinf()).sum()) // 2} of {len(off) // 2}")
    print(f"below zero: {(off < 0).double().mean():.0%}; by chance the middle is near {expected:.3f}, not near 0")

# %% [markdown]
# ## 12.4 · Bug hunt: three quarters are missing
#
# *12 minutes, difficulty 3 of 5.* "Of the tokens that selected this expert, which share also selected that one?" The
# following was written for a paper. It runs, the numbers lie between 0 and 1, and its picture looks fine.


# %%
def suspicious(experts, num_experts):
    """experts: (token, slot) -> (expert, other) float32, zero on the diagonal."""
    table = torch.zeros(num_experts, num_experts)
    for row in experts.tolist():
        for one, other in pairwise(row):
            table[one, other] += 1
            table[other, one] += 1
    times = experts.flatten().bincount(minlength=num_experts)
    return table / times.clamp(min=1)[:, None]


found = suspicious(trace.experts[LAYER], num_experts)
print("partners of an expert, added up:", sorted({round(float(total), 1) for total in found.sum(dim=-1)}))

# %% [markdown]
# Every token that selected this expert selected seven others. So what should each of these numbers be? Find out what is
# missing, and write it so that it is right. (An expert that nobody selected gets a row of zeros.)


# %% exercise="12.4"
def partners(experts: Tensor, num_experts: int) -> Tensor:
    """experts: (token, slot) -> (expert, other) float32: share of the row's tokens that also selected the column's."""
    ### BEGIN SOLUTION
    there = F.one_hot(experts, num_experts).sum(dim=-2).float()
    table = einsum(there, there, "token expert, token other -> expert other")
    times = table.diagonal().clamp(min=1)
    return table.clone().fill_diagonal_(0) / times[:, None]
    ### END SOLUTION


# %%
minimoe.check("12.4", partners)

# %%
mine = partners(trace.experts[LAYER], num_experts)
if mine is None:
    print("write the function above, and its sums appear here")
else:
    print("partners of an expert, added up:", sorted({round(float(total), 1) for total in mine.sum(dim=-1)}))
    best, old = mine.argmax(dim=-1), found.argmax(dim=-1)
    print("experts whose closest partner is another one than the old table said:", int((best != old).sum()))

# %% [markdown]
# ## 12.5 · Fill in: matched tokens
#
# *12 minutes, difficulty 3 of 5.* Code and arithmetic select different experts. They are also written with different
# tokens. Choose tokens so that both sides hold **the same ids, each equally often**: of an id with five in domain 0 and
# two in domain 1, the first two of each. Domain -1 is neither.


# %% exercise="12.5"
def matched(tokens: Tensor, domains: Tensor) -> Tensor:
    """tokens: (token) ids; domains: (token) 0, 1 or -1 -> (token) bool, the tokens that stay."""
    ### BEGIN SOLUTION
    keep = torch.zeros_like(tokens, dtype=torch.bool)
    for token in tokens.unique():
        places = [((tokens == token) & (domains == side)).nonzero().flatten() for side in (0, 1)]
        most = min(map(len, places))
        for side in places:
            keep[side[:most]] = True
    return keep
    ### END SOLUTION


# %%
minimoe.check("12.5", matched)

# %% [markdown]
# On the trace: how far apart are code and arithmetic, with all their tokens, and with the same tokens? The distance
# lies between 0, the same shares, and 1, no expert in common.


# %%
def apart(one, other):
    """Jensen-Shannon divergence of two choices of tokens, by layer: 0 is alike, 1 is without an expert in common."""
    loads = (selection_counts(trace.experts[:, side], num_experts) for side in (one, other))
    return [round(float(bits), 2) for bits in jensen_shannon(*loads)]


sides = torch.full_like(trace.domains, -1).masked_fill(code, 0).masked_fill(math, 1)
keep = matched(trace.tokens, sides)
print(
    f"all tokens:     {int(code.sum()):5,} of code, {int(math.sum()):5,} of math, distance by layer", apart(code, math)
)
if keep is None:
    print("write the function above, and the matched ones appear here")
else:
    one, other = keep & code, keep & math
    print(
        f"matched tokens: {int(one.sum()):5,} of code, {int(other.sum()):5,} of math, distance by layer",
        apart(one, other),
    )
    same = Counter(trace.tokens[one].tolist()) == Counter(trace.tokens[other].tolist())
    print("the same ids, equally often:", same)

# %% [markdown]
# What is left is context. (And noise: fewer tokens are further apart for that alone. The lesson draws the band.)

# %% [markdown]
# ## 12.6 · Fill in: the permutation test
#
# *15 minutes, difficulty 4 of 5.* An expert is selected more often in documents of kind 1 than in those of kind 0. By
# chance? Deal the kinds anew, many times, and see how often the difference of the two **shares of tokens** is at least
# as large, in either direction. `orders(n)` gives ways to arrange *n* things, (draw, n); its first row leaves all as it
# is. Which things do you arrange?


# %% exercise="12.6"
def p_value(uses: Tensor, documents: Tensor, labels: Tensor, orders) -> float:
    """uses: (token) bool; documents: (token) which document; labels: (document) 0 or 1 -> share of the orders."""

    ### BEGIN SOLUTION
    def gap(labels):
        kinds = labels[documents]
        return float(uses[kinds == 1].double().mean() - uses[kinds == 0].double().mean())

    observed = abs(gap(labels))
    dealt = [abs(gap(labels[order])) for order in orders(len(labels))]
    return sum(one >= observed - 1e-9 for one in dealt) / len(dealt)
    ### END SOLUTION


# %%
minimoe.check("12.6", p_value)

# %% [markdown]
# An honest trial: the twelve Python texts, and kinds dealt by a coin, so that there is **nothing to find**. A test at
# 5% should cry wolf for about 5% of the experts. Once as you wrote it, and once with every token as a document of its
# own.


# %%
def orders(number, draws=100):
    """As it is, and then at random."""
    generator = torch.Generator().manual_seed(126)
    return torch.stack([torch.arange(number), *(torch.randperm(number, generator=generator) for _ in range(draws - 1))])


chosen = F.one_hot(trace.experts[-1][code], num_experts).sum(dim=-2).bool()
text_of = trace.documents[code] - trace.documents[code].min()
each, alarms = torch.arange(len(text_of)), Counter()
written = p_value(chosen[:, 0], text_of, torch.tensor([0, 1] * 6), orders) is not None
for coin in range(3 if written else 0):
    coins = torch.tensor([0, 1] * 6)[torch.randperm(12, generator=torch.Generator().manual_seed(coin))]
    for name, (where, kinds) in {"documents": (text_of, coins), "tokens": (each, coins[text_of])}.items():
        alarms[name] += sum(p_value(chosen[:, expert], where, kinds, orders) <= 0.05 for expert in range(num_experts))
if not written:
    print("write the function above, and its false alarms are counted here")
for name, number in alarms.items():
    print(f"{name:9s} dealt: false alarms for {number / (3 * num_experts):.0%} of the experts")

# %% [markdown]
# ## 12.7 · Predict: which control is missing?
#
# *10 minutes, difficulty 2 of 5.* Six sentences as one reads them. Each lacks one of six controls, and each control is
# missing once: `"layers"`, `"documents"`, `"matched tokens"`, `"maximum"`, `"fixed k"`, `"random experts"`.

# %% exercise="12.7"
missing = {
    ### BEGIN SOLUTION: "expert 17 is for code in layers 0, 2 and 3": ...,
    "expert 17 is for code in layers 0, 2 and 3": "layers",
    ### END SOLUTION
    ### BEGIN SOLUTION: "twice as often in code, p < 0.001 over 900 tokens of 2 files": ...,
    "twice as often in code, p < 0.001 over 900 tokens of 2 files": "documents",
    ### END SOLUTION
    ### BEGIN SOLUTION: "three times as often in code, so it understands code": ...,
    "three times as often in code, so it understands code": "matched tokens",
    ### END SOLUTION
    ### BEGIN SOLUTION: "40% of the 10 tokens 'zebra' went to one of the 128 experts": ...,
    "40% of the 10 tokens 'zebra' went to one of the 128 experts": "maximum",
    ### END SOLUTION
    ### BEGIN SOLUTION: "most pairs of experts have a negative PMI, so they avoid each other": ...,
    "most pairs of experts have a negative PMI, so they avoid each other": "fixed k",
    ### END SOLUTION
    ### BEGIN SOLUTION: "the loss rises by 0.004 without it, so it matters": ...,
    "the loss rises by 0.004 without it, so it matters": "random experts",
    ### END SOLUTION
}

# %%
minimoe.check("12.7", missing)

# %% [markdown]
# One of them, run: a token that occurs ten times, 128 experts, and a router that **rolls dice**. Which share of the ten
# goes to the best expert? Predict before you look.

# %%
dice = torch.rand(1000, 10, num_experts, generator=torch.Generator().manual_seed(127)).topk(top_k, dim=-1).indices
best = F.one_hot(dice, num_experts).sum(dim=-2).double().mean(dim=1).amax(dim=-1)
print(f"uniform share {top_k / num_experts:.2%}; share of the best of {num_experts}: {best.mean():.0%} on average")

# %% [markdown]
# ## 12.8 · Ablate: three ways to do without one
#
# *20 minutes, difficulty 3 of 5.* "Without expert 17" can mean three things:
#
# - `"mask"`: it cannot be selected, so the next in rank takes its place, and the weights are renormalised;
# - `"drop"`: it is selected, and its answer is left out: weight 0 in its slot, the others as they are;
# - `"drop_renormalise"`: as before, and the others' weights are divided by their sum.
#
# **Predict:** which of the three hurts least? Tokens that did not select it anyway stay as they are, in all three.


# %% exercise="12.8"
def without(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    """logits: (token, expert) -> Routing(logits, experts, weights), (token, slot) each, renormalised as described."""
    ### BEGIN SOLUTION
    if mode == "mask":
        others = logits.clone()
        others[:, expert] = -torch.inf
        return library_route(others, top_k, True)
    _, experts, weights = library_route(logits, top_k, True)
    weights = weights.masked_fill(experts == expert, 0.0)
    if mode == "drop_renormalise":
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights)
    ### END SOLUTION


# %%
minimoe.check("12.8", without)

# %% [markdown]
# ### Yours, inside the model
#
# The workbench exchanges the router of every layer. This wrapper counts along, and does without the expert in one layer
# only. Which layers should differ in the picture, and which cannot?


# %%
def only_in(layer, expert, mode):
    """A router for the workbench: the library's, except in one layer."""
    calls = count()

    def route(logits, top_k, renormalise):
        if next(calls) % model.config.num_hidden_layers != layer:
            return library_route(logits, top_k, renormalise)
        return without(logits, top_k, expert, mode) or ...  # if it is not written yet, the workbench says so

    return route


carried = torch.zeros(num_experts).index_add(0, trace.experts[1].flatten(), trace.weights[1].flatten())
heaviest = int(carried.argmax())
text = documents[0].content
with minimoe.workbench(model, route=only_in(1, heaviest, "mask")) as bench:
    comparison = bench.compare(text, tokenizer)
print(f"without L1·E{heaviest}, which carries the most weight in layer 1. {comparison.alt}")
comparison

# %% [markdown]
# All three ways, for the three experts of layer 1 that carry the most weight. Is your prediction right, and do experts
# that carry much matter much?

# %%
from minimoe.routing.ablation.ablate import ablated

texts = [torch.tensor([tokenizer.encode(document.content)]) for document in documents[::6]]


@torch.no_grad()
def loss():
    """Mean next-token loss of two texts of each domain, in nats."""
    logits = torch.cat([model(ids)[0, :-1] for ids in texts])
    return float(F.cross_entropy(logits, torch.cat([ids[0, 1:] for ids in texts])))


def without_it(expert, mode):
    """(yours, the library's): by how much the loss rises without this expert of layer 1."""
    with minimoe.workbench(model, route=only_in(1, expert, mode)):
        yours = loss() - before
    with ablated(model, layer=1, experts=[expert], mode=mode):
        return yours, loss() - before


before = loss()
if comparison.todo:
    print("write the function above, and its losses appear here")
for expert in [] if comparison.todo else carried.topk(3).indices.tolist():
    found = {mode: without_it(expert, mode) for mode in ("mask", "drop", "drop_renormalise")}
    same = all(abs(yours - theirs) < 1e-4 for yours, theirs in found.values())
    told = "   ".join(f"{mode} {round(yours, 3) + 0.0:+.3f}" for mode, (yours, _) in found.items())
    print(f"L1·E{expert:<4d} nats per token: {told}   as the library has it: {same}")

# %% [markdown]
# Is that much? You know by now what such a number lacks: the same for twenty other experts of about the same load. The
# lesson's last part has it.

# %%
minimoe.progress(12)
