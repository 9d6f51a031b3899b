"""Master of exercises/12_which_experts.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 12 · Which experts, and why? Exercises
#
# Lesson: [12 · Which experts](../notebooks/12_which_experts.ipynb). About 100 minutes for all eight; if you have less,
# do 12.1, 12.6 and 12.8.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like. `minimoe.hint("12.1")` helps in three steps,
# `minimoe.solution("12.1")` shows the whole answer. Nothing breaks if you leave one out.
#
# Each function is first tried on small tensors, and then on a real trace: the choices of the mini's routers for
# held-out texts of four domains, recorded when you run the next cells.

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
# *10 minutes, difficulty 2 of 5.* A trace holds the experts that each token selected. Compute two numbers for each
# layer and expert:
#
# - the share of the **tokens** that selected it;
# - this share divided by *uniform*, the share that each expert would have if all were selected equally often. It is 1
#   for an expert that is selected exactly as often as that.


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
# Your atlas, for all tokens and for those of Python code alone. Grey experts are selected as often as uniform.

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
# *10 minutes, difficulty 3 of 5.* Two tokens select 8 random experts of 128 each. How many do they share **on
# average**, and in what share of all cases do they share **at least one**? Guess both numbers first, and put them here:

# %%
guess = {"on average": "?", "at least one in": "?"}

# %% [markdown]
# Then write the formula, for any number of experts.


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
# Now compare with a measurement: random sets, and pairs of neighbours in the texts.

# %%
generator = torch.Generator().manual_seed(122)
random_sets = torch.rand(20_000, num_experts, generator=generator).topk(top_k, dim=-1).indices
there = F.one_hot(random_sets, num_experts).sum(dim=-2)
chosen = F.one_hot(trace.experts[LAYER], num_experts).sum(dim=-2)
together = trace.sequences[:-1] == trace.sequences[1:]
pairs = {"random sets": (there[::2], there[1::2]), "neighbours": (chosen[:-1][together], chosen[1:][together])}
print(f"{'your guess':12s} {guess['on average']} on average, at least one in {guess['at least one in']}")
if (formula := shared(top_k, num_experts)) is not None:
    print(f"{'your formula':12s} {formula[0]:.1f} on average, at least one in {formula[1]:.0%}")
for name, (one, other) in pairs.items():
    common = (one * other).sum(dim=-1)
    print(f"{name:12s} {common.float().mean():.1f} on average, at least one in {(common > 0).float().mean():.0%}")

# %% [markdown]
# So "these two tokens share an expert" is not news. How far was your guess off?

# %% [markdown]
# ## 12.3 · Rewrite with einops: who works with whom
#
# *10 minutes, difficulty 3 of 5.* The function below counts, for each pair of experts, how many tokens selected both.
# Its diagonal counts how many tokens selected each expert. It is correct, but for a long trace it takes minutes.


# %%
def coactivation_as_it_was(experts, num_experts):
    table = torch.zeros(num_experts, num_experts, dtype=torch.int64)
    for row in experts.tolist():
        for one in row:
            for other in row:
                table[one, other] += 1
    return table


# %% [markdown]
# Compute the same table without a loop, with `F.one_hot` and one einops pattern.


# %% exercise="12.3"
def coactivation(experts: Tensor, num_experts: int) -> Tensor:
    """experts: (token, slot) int64 -> (expert, other) int64: how many tokens selected both."""
    ### BEGIN SOLUTION
    there = F.one_hot(experts, num_experts).sum(dim=-2)
    return einsum(there, there, "token expert, token other -> expert other")
    ### END SOLUTION


# %%
minimoe.check("12.3", coactivation)

# %% [markdown]
# From counts to PMI, the logarithm of how many times more often a pair occurs than two independent experts would.
# **Predict:** what would the median of all pairs be by chance?

# %%
table = coactivation(trace.experts[LAYER], num_experts)
if table is None:
    print("write the function above, and its table is examined here")
else:
    counts, tokens = table.double(), len(trace)
    pmi = (counts * tokens / (counts.diagonal()[:, None] * counts.diagonal())).log()
    off = pmi[~torch.eye(num_experts, dtype=torch.bool)]
    expected = torch.tensor((top_k - 1) * num_experts / (top_k * (num_experts - 1))).log()
    print(f"pairs that never met: {int((off.isinf()).sum()) // 2} of {len(off) // 2}")
    print(f"below zero: {(off < 0).double().mean():.0%}; by chance the median is near {expected:.3f}, not near 0")

# %% [markdown]
# ## 12.4 · Bug hunt: three quarters are missing
#
# *12 minutes, difficulty 3 of 5.* "Of the tokens that selected this expert, what share also selected that one?" The
# function below counts as the analysis script of a real paper did (see the lesson). It runs, its numbers lie between 0
# and 1, and a picture of them looks fine.


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
# Each token that selected this expert selected seven others as well. So what should each of these sums be? Find out
# what is missing, and write a correct version. (An expert that no token selected gets a row of zeros.)


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
# *12 minutes, difficulty 3 of 5.* Code and arithmetic select different experts, but they are also written with
# different tokens. Choose the tokens that stay, so that both domains hold **the same ids, each equally often**. If an
# id occurs five times in domain 0 and twice in domain 1, the first two of each domain stay. Tokens of domain -1 belong
# to neither and never stay.


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
# On the trace: how far apart are code and arithmetic, with all their tokens and with matched ones? The distance lies
# between 0 (the same shares) and 1 (no expert in common).


# %%
def apart(one, other):
    """Jensen-Shannon divergence of two sets of tokens, by layer: 0 is alike, 1 is without an expert in common."""
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
    surplus = Counter(trace.tokens[one].tolist())
    surplus.subtract(trace.tokens[other].tolist())
    print("ids that one side has more often than the other:", sum(number != 0 for number in surplus.values()))

# %% [markdown]
# What is left comes from the context, and from noise: fewer tokens are further apart for that reason alone. The lesson
# draws the band of chance.

# %% [markdown]
# ## 12.6 · Fill in: the permutation test
#
# *15 minutes, difficulty 4 of 5.* An expert is selected more often in documents of kind 1 than in those of kind 0. Is
# this chance? Deal the kinds anew, many times, and count how often the difference of the two **shares of tokens** is at
# least as large as the real one, in either direction. `orders(n)` returns ways to arrange *n* things, one per row
# (draw, n); its first row leaves everything as it is. Which things do you arrange?


# %% exercise="12.6"
def p_value(uses: Tensor, documents: Tensor, labels: Tensor, orders) -> float:
    """uses: (token) bool; documents: (token) index; labels: (document) 0 or 1 -> p, a share of the orders."""
    ### BEGIN SOLUTION
    found = []
    for order in orders(len(labels)):
        kinds = labels[order][documents]
        found.append(abs(float(uses[kinds == 1].double().mean() - uses[kinds == 0].double().mean())))
    return sum(gap >= found[0] - 1e-9 for gap in found) / len(found)
    ### END SOLUTION


# %%
minimoe.check("12.6", p_value)

# %% [markdown]
# A fair trial: the twelve Python texts, with kinds decided by a coin, so there is **nothing to find**. A test at a
# level of 5% should raise a false alarm for about 5% of the experts. It runs once as you wrote it, and once with every
# token as a document of its own.


# %%
def orders(number, draws=100):
    """(draw, number): the real order, then random ones."""
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
# *10 minutes, difficulty 2 of 5.* Here are six sentences of a kind that you'll read often. Each lacks one control, and
# each of these six controls is missing once:
#
# - `"layers"`: an expert's number has a meaning only within its layer;
# - `"documents"`: texts are independent observations, tokens are not;
# - `"matched tokens"`: compare the same ids on both sides;
# - `"maximum"`: compare the best of many with the best of many dice;
# - `"fixed k"`: experts compete for a fixed number of slots;
# - `"random experts"`: do the same to other experts of about the same load.

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
# One of them, measured: a token that occurs ten times, 128 experts, and a router that **rolls dice**. **Predict:** what
# share of the ten goes to the best expert?

# %%
dice = torch.rand(1000, 10, num_experts, generator=torch.Generator().manual_seed(127)).topk(top_k, dim=-1).indices
best = F.one_hot(dice, num_experts).sum(dim=-2).double().mean(dim=1).amax(dim=-1)
print(f"uniform share {top_k / num_experts:.2%}; share of the best of {num_experts}: {best.mean():.0%} on average")

# %% [markdown]
# ## 12.8 · Ablate: three ways to do without one
#
# *20 minutes, difficulty 3 of 5.* "Without expert 17" can mean three things:
#
# - `"mask"`: it can't be selected, so the next in rank takes its place, and the weights are renormalised;
# - `"drop"`: it is selected, but its answer is left out: its slot gets weight 0, and the other weights stay the same;
# - `"drop_renormalise"`: the same, and the other weights are divided by their sum.
#
# Tokens that didn't select it keep their routing in all three. **Predict:** which of the three hurts least?
#
# Return a `Routing`, as the library's router does, because the model will use it: the logits **as they came**, the
# experts, and the weights **in the dtype of the logits**. Compute the softmax in at least float32: bfloat16 logits can
# be so close that a softmax in bfloat16 makes them tie.


# %% exercise="12.8"
def without(logits: Tensor, top_k: int, expert: int, mode: str) -> Routing:
    """logits: (token, expert) -> Routing(logits, experts, weights); experts and weights are (token, slot)."""
    ### BEGIN SOLUTION
    if mode == "mask":
        others = logits.clone()
        others[:, expert] = -torch.inf
        return library_route(others, top_k, True)._replace(logits=logits)
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
# The workbench replaces the router of every layer. This wrapper counts the calls, and switches the expert off in one
# layer only. **Predict:** which layers will differ in the picture, and which can't?


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
# All three ways, for the three experts of layer 1 that carry the most weight. Was your prediction right? And do experts
# that carry much weight matter much?

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
    told = "   ".join(f"{mode} {round(yours, 3) + 0.0:+.3f}" for mode, (yours, _) in found.items())
    off = max(abs(yours - theirs) for yours, theirs in found.values())
    print(f"L1·E{expert:<4d} nats per token: {told}   difference from the library's: {off:.3f}")

# %% [markdown]
# Is that much? You know what such a number lacks: the same for twenty other experts of about the same load, and the
# number of texts that carry it. The last part of the lesson has both.

# %%
minimoe.progress(12)
