"""Master of exercises/16_router_zoo.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 16 · The router zoo: exercises
#
# Lesson: [16 · The router zoo](../notebooks/16_router_zoo.ipynb). About 85 minutes for all eight; if you have less, do
# 16.2 and 16.4.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like; `minimoe.hint("16.1")` helps in three steps,
# `minimoe.solution("16.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

import minimoe
from minimoe.course.capture import capture, held_out_texts, next_token_loss
from minimoe.course.table import table
from minimoe.model.router import Routing
from minimoe.model.router import route as library_route
from minimoe.zoo import checkpoints

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
config = model.config
text = "Once upon a time a big bird lived on the farm. One day the bird wanted a green pen."
token_ids = torch.tensor([tokenizer.encode(text)])
layer = 2
(hidden,) = capture(model, token_ids, f"layers.{layer}.post_attention_layernorm")
hidden = rearrange(hidden, "batch position hidden -> (batch position) hidden")  # what the router of that layer reads
with torch.no_grad():
    logits = model.layers[layer].mlp.gate(hidden).logits

# %% [markdown]
# ## 16.1 · Groups, as DeepSeek V3 keeps them
#
# *12 minutes, difficulty 3 of 5.* The experts stand in `groups` groups of neighbours, all of the same size. A group's
# score is the sum of its **two best** experts. Each token keeps its `groups_kept` best groups; the experts of all
# others get minus infinity, so that no top-k can choose them. What is kept stays as it is.


# %% exercise="16.1"
def keep_groups(choice: Tensor, groups: int, groups_kept: int) -> Tensor:
    """choice: (token, expert), what the experts are chosen by -> the same, with -inf in the groups not kept."""
    ### BEGIN SOLUTION
    members = rearrange(choice, "token (group member) -> token group member", group=groups)
    best = members.topk(min(2, members.shape[-1]), dim=-1).values.sum(dim=-1).topk(groups_kept, dim=-1).indices
    kept = torch.zeros(len(choice), groups, dtype=torch.bool).scatter(-1, best, True)
    kept = repeat(kept, "token group -> token (group member)", member=members.shape[-1])
    return choice.masked_fill(~kept, -torch.inf)
    ### END SOLUTION


# %%
minimoe.check("16.1", keep_groups)

# %% [markdown]
# ### Yours, inside the model
#
# The lesson kept 4 of 8 groups. Here your function confines the mini's own router to **2** of 8, and nearly every token
# gets other experts. **Predict:** how much does that cost, in nats per token?

# %%
texts = held_out_texts(tokenizer, each=4, seed="16.1", domains=("en", "code"))


def in_groups(logits, top_k, renormalise):
    choice = keep_groups(logits.softmax(dim=-1), 8, 2)
    weights, experts = choice.topk(top_k, dim=-1)
    return Routing(logits, experts, weights / weights.sum(dim=-1, keepdim=True))


def loss(route):
    """Next-token loss of the texts in nats, with this router in the model."""
    with minimoe.workbench(model, route=route):
        return next_token_loss(model, texts)


ready = isinstance(keep_groups(torch.rand(2, 8), 4, 2), Tensor)
cost = f"{loss(in_groups) - loss(library_route):.2f}".replace("-0.00", "0.00") if ready else "write the function above"
print("2 of 8 groups, nats per token more:", cost)

# %% [markdown]
# ## 16.2 · gpt-oss's late softmax
#
# *8 minutes, difficulty 2 of 5.* gpt-oss does it in another order than Qwen3: a linear layer **with a bias** gives the
# logits; the highest `top_k` are chosen; a softmax over these alone gives the weights, largest first. The bias is a
# trained part of the linear layer, so every logit has it.


# %% exercise="16.2"
def route_gpt_oss(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Routing:
    """hidden: (token, hidden), weight: (expert, hidden), bias: (expert) -> Routing(logits, experts, weights).

    logits: (token, expert), with the bias. experts (int64), weights: (token, slot). Logits and
    weights are in the dtype of hidden.
    """
    ### BEGIN SOLUTION
    logits = F.linear(hidden, weight, bias)
    best, experts = logits.topk(top_k, dim=-1)
    return Routing(logits, experts, best.softmax(dim=-1))
    ### END SOLUTION


# %%
minimoe.check("16.2", route_gpt_oss)

# %% [markdown]
# ### Yours, inside the model
#
# Your router gets the mini's logits: an identity matrix and a bias of zeros leave them as they are. As
# the lesson measured, no choice should change.


# %%
def late(logits, top_k, renormalise):
    experts = logits.shape[-1]
    routing = route_gpt_oss(logits, torch.eye(experts), torch.zeros(experts), top_k)
    return ... if routing is None else routing  # ... means: not written yet


with minimoe.workbench(model, route=late) as bench:
    comparison = bench.compare(text, tokenizer)
comparison

# %% [markdown]
# ## 16.3 · Sparsemixer: two rounds
#
# *15 minutes, difficulty 4 of 5.* Phi-3.5-MoE gives a token two experts, in two rounds.
#
# In a round, the best of the experts that are left is chosen. Its **contenders** are those of the remaining experts
# (itself included) whose logit is near enough to the best one:
#
# $$\frac{best - logit}{\max(|logit|,\ best)} \le 2\,\epsilon$$
#
# Its weight is its share of a softmax over the contenders alone. Then it is out, and the second round begins, with a
# best and contenders of its own.


# %% exercise="16.3"
def sparsemixer(logits: Tensor, epsilon: float) -> Routing:
    """logits: (token, expert) -> Routing(logits, experts, weights), the last two (token, 2), the first round first."""
    ### BEGIN SOLUTION
    left, experts, weights = logits, [], []
    for _ in range(2):
        best, expert = left.max(dim=-1, keepdim=True)
        far = (best - logits) / logits.abs().clamp(min=best) > 2 * epsilon
        weights.append(left.masked_fill(far, -torch.inf).softmax(dim=-1).gather(-1, expert))
        experts.append(expert)
        left = left.scatter(-1, expert, -torch.inf)
    return Routing(logits, torch.cat(experts, dim=-1), torch.cat(weights, dim=-1))
    ### END SOLUTION


# %%
minimoe.check("16.3", sparsemixer)

# %% [markdown]
# What do the two weights of a token sum to, on the mini's logits?

# %%
routing = sparsemixer(logits, 0.01)
if isinstance(routing, Routing):
    sums = routing.weights.sum(dim=-1)
    rows = {"at least": [f"{sums.min():.2f}"], "mean": [f"{sums.mean():.2f}"], "at most": [f"{sums.max():.2f}"]}
    rows["weights that are exactly 1"] = [f"{(routing.weights == 1).float().mean():.0%}"]
else:
    rows = {"write the function above": [""]}
table([f"layer {layer}, {len(logits)} tokens"], rows)

# %% [markdown]
# ## 16.4 · Which router knows the future?
#
# *10 minutes, difficulty 3 of 5.* A router is given as a function: `choose(logits)` takes the logits of a text, (token,
# expert), and returns a mask of the same shape, True where an expert works on a token. A model that writes has only the
# tokens so far. So here is a test for any router: **of the first `seen` tokens of the text, how many get other experts
# when the tokens after them are not there?** A token
# counts once if any entry of its row differs.


# %% exercise="16.4"
def leaks(choose, logits: Tensor, seen: int) -> int:
    """choose: (token, expert) -> (token, expert) bool. The number of tokens that the future changes."""
    ### BEGIN SOLUTION
    differ = choose(logits)[:seen] != choose(logits[:seen])
    return int(differ.any(dim=-1).sum())
    ### END SOLUTION


# %%
minimoe.check("16.4", leaks)

# %% [markdown]
# Now put three routers to the test, on the mini's logits. **Predict** which of them leak: tokens choose their experts
# (Qwen3); a token's best expert takes it while it has room (Switch; here: for two tokens); each expert chooses its
# tokens (expert choice).


# %%
def tokens_choose(logits):
    return F.one_hot(logits.topk(8, dim=-1).indices, logits.shape[-1]).sum(dim=-2).bool()


def first_come(logits):
    one_hot = F.one_hot(logits.argmax(dim=-1), logits.shape[-1])
    return (one_hot * (one_hot.cumsum(dim=0) <= 2)).bool()


def experts_choose(logits):
    capacity = max(1, round(len(logits) * 8 / logits.shape[-1]))
    tokens = logits.softmax(dim=-1).topk(capacity, dim=0).indices
    return torch.zeros_like(logits, dtype=torch.bool).scatter(0, tokens, True)


seen = len(logits) // 2
rows = {}
for name, choose in {"Qwen3": tokens_choose, "Switch": first_come, "expert choice": experts_choose}.items():
    count = leaks(choose, logits, seen)
    rows[name] = [count if isinstance(count, int) else "write the function above"]
table([f"of {seen} tokens, changed by the {len(logits) - seen} after them"], rows)

# %% [markdown]
# <details><summary>What the numbers say (for after your run)</summary>
#
# Expert choice compares a token with all tokens of the text, also with later ones. In training that is possible, and
# the model learns to use what it cannot have when it writes. With a fixed room, as here, Switch compares with earlier
# tokens only: who comes late finds no room. If the room is computed from the length of the text, as in the lesson, the
# future reaches it too.
#
# </details>

# %% [markdown]
# ## 16.5 · A table instead of a choice
#
# *8 minutes, difficulty 2 of 5.* In DeepSeek V4's first three layers nothing is chosen: a fixed table says which
# experts a token id has. How much each of them counts still depends on the context: the score $\sqrt{softplus(logit)}$
# of each of these experts, divided by their sum, times `scale`. The slots stay in the table's order.


# %% exercise="16.5"
def hash_route(logits: Tensor, token_ids: Tensor, table: Tensor, scale: float) -> Routing:
    """logits: (token, expert), token_ids: (token), table: (vocab, slot) int64 -> Routing(logits, experts, weights)."""
    ### BEGIN SOLUTION
    experts = table[token_ids]
    scores = F.softplus(logits).sqrt().gather(-1, experts)
    return Routing(logits, experts, scale * scores / scores.sum(dim=-1, keepdim=True))
    ### END SOLUTION


# %%
minimoe.check("16.5", hash_route)

# %% [markdown]
# The same word, twice in the text: how many of the 8 experts do both places share, with the
# mini's router and with a table?

# %%
ids = token_ids[0]
pairs = [(a, b) for a in range(len(ids)) for b in range(a + 1, len(ids)) if ids[a] == ids[b]]
random_table = torch.stack([torch.randperm(128, generator=torch.Generator().manual_seed(n))[:8] for n in range(2304)])
routers = {"the mini's router": library_route(logits, 8, True)}
routers["a random table"] = hash_route(logits, ids, random_table, 1.5)
rows = {}
for name, routing in routers.items():
    if isinstance(routing, Routing):
        sets = [set(row) for row in routing.experts.tolist()]
        rows[name] = [f"{sum(len(sets[a] & sets[b]) for a, b in pairs) / len(pairs):.1f}"]
    else:
        rows[name] = ["write the function above"]
table([f"of 8 experts shared, mean of {len(pairs)} pairs"], rows)

# %% [markdown]
# ## 16.6 · Predict: what does a switch change?
#
# *8 minutes, difficulty 2 of 5.* Top-8 of 128 experts, with renormalised weights; a bias is a selection bias. Does the
# change lead to other experts, or other weights? `True` or `False`, or a number, **before** you try it.

# %% exercise="16.6"
predictions = {
    ### BEGIN SOLUTION: "sigmoid for softmax: other experts": ...,
    "sigmoid for softmax: other experts": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "all logits times 2, softmax: other experts": ...,
    "all logits times 2, softmax: other experts": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "all logits times 2, sigmoid: other weights": ...,
    "all logits times 2, sigmoid: other weights": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "a bias of 0.1 on one expert, sigmoid: other experts possible": ...,
    "a bias of 0.1 on one expert, sigmoid: other experts possible": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "scale 2.5 instead of 1: other ratios of the weights": ...,
    "scale 2.5 instead of 1: other ratios of the weights": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "a bias of 0.1 on every expert: other experts": ...,
    "a bias of 0.1 on every expert: other experts": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "√softplus, 2 is added to all logits: other experts": ...,
    "√softplus, 2 is added to all logits: other experts": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "of 8 groups 1 is kept: experts that can be chosen": ...,
    "of 8 groups 1 is kept: experts that can be chosen": 16,
    ### END SOLUTION
}

# %%
minimoe.check("16.6", predictions)

# %% [markdown]
# ## 16.7 · Bug hunt: a router tested with zeros
#
# *10 minutes, difficulty 2 of 5.* A router in the manner of V3: sigmoids, and a bias (one number per expert) that
# steers
# tokens to experts with too little work. It was tested with a bias of zeros:


# %%
def suspicious(logits: Tensor, bias: Tensor, top_k: int, scale: float) -> Routing:
    """logits: (token, expert), bias: (expert) -> Routing(logits, experts, weights)."""
    choice = logits.sigmoid() + bias
    weights, experts = choice.topk(top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, scale * weights)


# %% [markdown]
# Two experts with the same logit, 1.0, and a third one with 0.5. What do the weights do while the bias of expert 1
# grows?

# %%
three = torch.tensor([[1.0, 1.0, 0.5]])
rows = {}
for extra in (0.0, 0.5, 2.0):
    routing = suspicious(three, torch.tensor([0.0, extra, 0.0]), 2, 1.0)
    named = dict(zip(routing.experts[0].tolist(), routing.weights[0].tolist(), strict=True))
    rows[f"bias {extra}"] = [f"{named[expert]:.2f}" for expert in (0, 1)]
table(["weight of expert 0", "weight of expert 1"], rows)

# %% [markdown]
# Write it so that the bias does what it is for, and nothing else.


# %% exercise="16.7"
def repaired(logits: Tensor, bias: Tensor, top_k: int, scale: float) -> Routing:
    """logits: (token, expert), bias: (expert) -> Routing(logits, experts, weights), by falling score + bias."""
    ### BEGIN SOLUTION
    scores = logits.sigmoid()
    experts = (scores + bias).topk(top_k, dim=-1).indices
    weights = scores.gather(-1, experts)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, scale * weights)
    ### END SOLUTION


# %%
minimoe.check("16.7", repaired)

# %% [markdown]
# ## 16.8 · The parameters of a stranger
#
# *12 minutes, difficulty 3 of 5.* A config in the style of DeepSeek, GLM and Kimi. How many parameters do all its
# feed-forward parts have together, and how many of them work on one token? (Routers count in both numbers; the
# selection biases are not counted.)
#
# - The first `first_k_dense_replace` layers are dense: one network, `intermediate_size` wide.
# - All other layers have a router (one row of `hidden_size` numbers for each of `n_routed_experts`), the routed
#   experts, `moe_intermediate_size` wide, of which `num_experts_per_tok` work, and `n_shared_experts` of the same width
#   that always work.
# - A network has three matrices: gate, up and down. There are no biases to count.


# %% exercise="16.8"
def feed_forward(config: dict[str, int]) -> tuple[int, int]:
    """(all, active): parameters of the feed-forward parts of all layers, and those that work on one token."""
    ### BEGIN SOLUTION
    hidden, expert = config["hidden_size"], 3 * config["hidden_size"] * config["moe_intermediate_size"]
    dense = config["first_k_dense_replace"]
    sparse = config["num_hidden_layers"] - dense
    always = dense * 3 * hidden * config["intermediate_size"]
    always += sparse * (hidden * config["n_routed_experts"] + config["n_shared_experts"] * expert)
    return (
        always + sparse * config["n_routed_experts"] * expert,
        always + sparse * config["num_experts_per_tok"] * expert,
    )
    ### END SOLUTION


# %%
minimoe.check("16.8", feed_forward)

# %% [markdown]
# Your count beside the sizes of two models, counted from their configs. What is missing is attention, norms and the
# embeddings.

# %%
keys = ("num_hidden_layers", "hidden_size", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")
keys += ("n_shared_experts", "first_k_dense_replace", "intermediate_size")
strangers = {
    "DeepSeek-V3": (61, 7168, 256, 8, 2048, 1, 3, 18432),
    "Kimi-K2": (61, 7168, 384, 8, 2048, 1, 1, 18432),
}
totals = {each.model: each.total for each in checkpoints()}
rows = {}
for name, values in strangers.items():
    counts = feed_forward(dict(zip(keys, values, strict=True)))
    shown = ["write the function above", ""]
    if isinstance(counts, tuple):
        shown = [f"{counts[0] / totals[name]:.1%}", f"{counts[1] / 1e9:.1f} billion"]
    rows[name] = [totals[name], *shown]
table(["all parameters", "of these, in feed-forward parts", "feed-forward, working on one token"], rows)

# %%
minimoe.progress(16)
