"""Master of exercises/07_experts.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 07 · The experts: exercises
#
# Lesson: [07 · The experts](../notebooks/07_experts.ipynb). About 100 minutes for all nine; if you have less, do 07.2,
# 07.4 and 07.6.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like; `minimoe.hint("07.1")` helps in three steps,
# `minimoe.solution("07.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import torch
from einops import einsum, rearrange
from torch import Tensor
from torch.nn import functional as F

import minimoe
from minimoe.course.capture import capture, held_out_texts, next_token_loss
from minimoe.course.figures import ch07_batch
from minimoe.course.table import table
from minimoe.model import experts as library
from minimoe.model.experts import swiglu
from minimoe.model.router import Routing

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
config = model.config
text = "Once upon a time a big dog lived at school. One day the dog wanted a red ball."
layer = 2
mlp = model.layers[layer].mlp
(x,) = capture(model, torch.tensor([tokenizer.encode(text)]), f"layers.{layer}.post_attention_layernorm")
x = rearrange(x, "batch position hidden -> (batch position) hidden")  # what the experts of that layer get
bank = mlp.experts
with torch.no_grad():
    routing = mlp.gate(x)

# %% [markdown]
# ## 07.1 · Combine
#
# *8 minutes, difficulty 1 of 5.* The experts are done, and their rows are back in the order of the tokens: all slots
# of token 0, all slots of token 1, and so on. Add up each token's slots, each times its weight. (The weights are the
# router's; take them as they are.)


# %% exercise="07.1"
def combine(outputs: Tensor, weights: Tensor) -> Tensor:
    """outputs: (token slot, hidden), weights: (token, slot) -> (token, hidden), in the dtype of outputs."""
    ### BEGIN SOLUTION
    rows = rearrange(outputs, "(token slot) hidden -> token slot hidden", slot=weights.shape[1])
    return einsum(rows, weights, "token slot hidden, token slot -> token hidden")
    ### END SOLUTION


# %%
minimoe.check("07.1", combine)

# %% [markdown]
# ## 07.2 · A loop over the experts
#
# *12 minutes, difficulty 2 of 5.* For each expert: find its rows, run it on them, weigh, and add the results to the
# rows of their tokens. `swiglu(rows, gate, up, down)` runs one expert; `bank.gate_proj[3]` is the gate of expert 3.


# %% exercise="07.2"
def run_experts(x: Tensor, routing: Routing, bank: library.ExpertBank) -> Tensor:
    """x: (token, hidden); routing.experts, routing.weights: (token, slot) -> (token, hidden), in the dtype of x."""
    ### BEGIN SOLUTION
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        output = swiglu(x[token], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
        result.index_add_(0, token, output * rearrange(routing.weights[token, slot], "row -> row 1"))
    return result
    ### END SOLUTION


# %%
minimoe.check("07.2", run_experts)

# %% [markdown]
# ### Yours, inside the model
#
# The model runs once with the library's experts and once with yours, in every layer.

# %%
with minimoe.workbench(model, run_experts=run_experts) as bench:
    comparison = bench.compare(text, tokenizer)
comparison

# %% [markdown]
# ## 07.3 · Grouped: the plan, with offsets
#
# *15 minutes, difficulty 3 of 5.* A grouped product needs a plan of three lists. Assignments are numbered
# `(token slot)`, so with two slots number 5 is slot 1 of token 2. Sort the assignments by expert, equal ones in their
# order, and return
#
# - `token`: of each sorted row, which token it is a copy of,
# - `offsets`: for each expert, at which row its group ends (the row *after* its last one),
# - `back`: for each assignment, at which sorted row it is.


# %% exercise="07.3"
def plan(experts: Tensor, num_experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """experts: (token, slot) int64 -> token (assignment), offsets (expert), back (assignment), all int64."""
    ### BEGIN SOLUTION
    assignments = rearrange(experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    token = order // experts.shape[1]
    offsets = assignments.bincount(minlength=num_experts).cumsum(0)
    return token, offsets, order.argsort()
    ### END SOLUTION


# %%
minimoe.check("07.3", plan)

# %% [markdown]
# Here is a grouped engine that needs nothing but your plan, and your `combine`. Does it drive the model?


# %%
def grouped(x, routing, bank):
    token, offsets, back = plan(routing.experts, len(bank.gate_proj))
    rows, start, outputs = x[token], 0, []
    for expert, end in enumerate(offsets.tolist()):
        outputs.append(swiglu(rows[start:end], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert]))
        start = end
    return combine(torch.cat(outputs)[back], routing.weights)


written = plan(torch.tensor([[0]]), 1) is not None and combine(torch.zeros(1, 1), torch.ones(1, 1)) is not None
with minimoe.workbench(model, run_experts=grouped if written else None) as bench:
    comparison = bench.compare(text, tokenizer)
comparison

# %% [markdown]
# ## 07.4 · Bug hunt: an expert without tokens
#
# *12 minutes, difficulty 3 of 5.* This engine passed its test, with four experts and a hundred tokens:


# %%
def suspicious_engine(x, routing, bank):
    slots = routing.experts.shape[1]
    assignments = rearrange(routing.experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    _, counts = assignments[order].unique_consecutive(return_counts=True)
    outputs = []
    for expert, rows in enumerate(x[order // slots].split(counts.tolist())):
        outputs.append(swiglu(rows, bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert]))
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


# %% [markdown]
# In the mini it writes nonsense. Here are the first experts that the tokens of the text above have chosen, and the
# experts that this function runs for them:

# %%
chosen, counts = routing.experts.unique(return_counts=True)
rows = {"chosen": chosen[:6].tolist(), "run": list(range(6)), "rows": counts[:6].tolist()}
table([f"group {n}" for n in range(6)], rows)

# %% [markdown]
# Write it so that every group gets its own expert.


# %% exercise="07.4"
def repaired_engine(x: Tensor, routing: Routing, bank: library.ExpertBank) -> Tensor:
    """As run_experts of 07.2: sort by expert, run group by group, put back, combine."""
    ### BEGIN SOLUTION
    slots = routing.experts.shape[1]
    assignments = rearrange(routing.experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    experts, counts = assignments[order].unique_consecutive(return_counts=True)
    outputs = []
    for expert, rows in zip(experts.tolist(), x[order // slots].split(counts.tolist()), strict=True):
        outputs.append(swiglu(rows, bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert]))
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)
    ### END SOLUTION


# %%
minimoe.check("07.4", repaired_engine)

# %% [markdown]
# ## 07.5 · Bug hunt: lost slots
#
# *12 minutes, difficulty 3 of 5.* Putting rows back and adding them up can be one step: row *n*, already weighted,
# belongs to `token[n]`. Somebody wrote


# %%
def suspicious(rows, token, tokens):
    """rows: (assignment, hidden), token: (assignment) int64 -> (token, hidden)."""
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    result[token] += rows
    return result


# %% [markdown]
# It runs, the shape is right, and the numbers are even of the right size. To see what happens, each row here has two
# numbers: the number of its expert, and a 1. Added up, the first gives the sum of a token's expert numbers, the second
# counts its rows. What should both be, for a token with the experts 3, 5 and 9? And what are they?

# %%
order = torch.tensor([[9, 3, 5], [4, 9, 0], [5, 0, 3]])
ids, places = rearrange(order, "token slot -> (token slot)").sort(stable=True)
rows = torch.stack([ids.float(), torch.ones(len(ids))], dim=-1)
summed = suspicious(rows, places // 3, 3)
names = [f"experts {', '.join(map(str, sorted(each)))}" for each in order.tolist()]
lines = dict(zip(names, summed.tolist(), strict=True))
table(["sum of the experts' numbers", "rows"], lines)

# %% exercise="07.5"
def add_up(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
    """rows: (assignment, hidden), token: (assignment) int64 -> (token, hidden); a token without rows is zero."""
    ### BEGIN SOLUTION
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    return result.index_add_(0, token, rows)
    ### END SOLUTION


# %%
minimoe.check("07.5", add_up)

# %% [markdown]
# What would the bug have cost? **Predict:** of a token's eight experts only one counts, with its small weight. Is that
# worse than no experts at all? (Other texts than in the lesson, so the loss as trained is another one, too.)

# %%
texts = held_out_texts(tokenizer, each=3, seed="07.5")


def engine_with(add_up):
    """The grouped engine, with this function in the place of unsort and combine."""

    def run(x, routing, bank):
        assignments = rearrange(routing.experts, "token slot -> (token slot)")
        order = assignments.argsort(stable=True)
        one = Routing(routing.logits, rearrange(assignments[order], "row -> row 1"), torch.ones(len(order), 1))
        token = order // routing.experts.shape[1]
        weights = rearrange(routing.weights, "token slot -> (token slot) 1")
        return add_up(library.run_experts(x[token], one, bank) * weights[order], token, len(x))

    return run


def loss(run_experts):
    """Next-token loss in nats, with these experts in the model."""
    with minimoe.workbench(model, run_experts=run_experts):
        return next_token_loss(model, texts)


print(f"as trained      {next_token_loss(model, texts):.1f} nats per token")
print(f"no experts      {loss(lambda x, routing, bank: torch.zeros_like(x)):.1f}")
print(f"the bug         {loss(engine_with(suspicious)):.0f}, roughly")  # which row is kept depends on the threads
repaired = add_up(torch.zeros(1, 1), torch.tensor([0]), 1) is not None
mine = f"{loss(engine_with(add_up)):.1f}" if repaired else "Write the function above: here you will see its loss."
print(f"your add_up     {mine}")

# %% [markdown]
# ## 07.6 · Estimate, then measure: how many experts are hit?
#
# *10 minutes, difficulty 3 of 5.* Each of some tokens chooses `top_k` different experts by dice. How many different
# experts do they hit together, on average? First guess three numbers for 8 of 128: two tokens, 16 tokens, 64 tokens.
# Then write the formula.


# %% exercise="07.6"
def expected_hits(experts: int, top_k: int, tokens: int) -> float:
    """The expected number of different experts."""
    ### BEGIN SOLUTION
    missed = (1 - top_k / experts) ** tokens
    return experts * (1 - missed)
    ### END SOLUTION


# %%
minimoe.check("07.6", expected_hits)

# %% [markdown]
# Now measure it: batches of the mini's tokens, neighbours in a text or mixed from all texts, the
# mean of 20 batches.

# %%
with torch.no_grad(), minimoe.record_routing(model, tokenizer, label="mini") as trace:
    for passage in held_out_texts(tokenizer, each=10, seed="07.6", domains=("en", "zh", "code", "math")):
        model(passage, last_only=True)
in_a_row, mixed = (ch07_batch.mean_hits(trace.experts, 128, order) for order in ch07_batch.ORDERS[:2])
rows = {}
for tokens, *measured in zip(ch07_batch.BATCHES[:8], in_a_row, mixed, strict=False):
    yours = expected_hits(128, 8, tokens)
    rows[f"tokens: {tokens}"] = [*(f"{value:.0f}" for value in measured), f"{yours:.0f}" if yours else "to write"]
table(["neighbours", "mixed", "your formula"], rows)

# %% [markdown]
# <details><summary>What the numbers say (for after your run)</summary>
#
# Neighbours hit fewer, since they share some experts. Your formula is an upper bound for text, and not a bad one.
#
# </details>

# %% [markdown]
# ## 07.7 · Rewrite with einops: a dispatch mask
#
# *8 minutes, difficulty 2 of 5.* Some implementations write dispatch as a product with a mask of zeros and ones: 1
# where a token sits at a row of an expert. Each expert has equally many rows, and the rest stay empty: the groups are
# *padded*. This function is right, and hard to read:


# %%
def spread_as_it_was(mask, x):
    token, expert, row = mask.shape
    flat = mask.permute(1, 2, 0).reshape(expert * row, token)
    return (flat @ x).view(expert, row, x.shape[-1])


# %% exercise="07.7"
def spread(mask: Tensor, x: Tensor) -> Tensor:
    """mask: (token, expert, row) of 0 and 1, x: (token, hidden), one dtype -> (expert, row, hidden)."""
    ### BEGIN SOLUTION
    return einsum(mask, x, "token expert row, token hidden -> expert row hidden")
    ### END SOLUTION


# %%
minimoe.check("07.7", spread)

# %% [markdown]
# With it a whole layer is five patterns and no loop, and each one says what it does. What is the price? Look at the
# last line.

# %%
chosen = F.one_hot(routing.experts, config.num_experts).sum(dim=1)  # token expert, 0 or 1
place = chosen.cumsum(dim=0) * chosen - chosen  # the row of each token at its experts
mask = F.one_hot(place, int(chosen.sum(dim=0).max())) * rearrange(chosen, "token expert -> token expert 1")
weights = torch.zeros(len(x), config.num_experts).scatter(-1, routing.experts, routing.weights)
rows = spread(mask.float(), x)
if rows is None:
    print("Write the function above: here it runs a whole layer.")
else:
    with torch.no_grad():
        pattern = "expert row hidden, expert ffn hidden -> expert row ffn"
        inner = F.silu(einsum(rows, bank.gate_proj, pattern)) * einsum(rows, bank.up_proj, pattern)
        outputs = einsum(inner, bank.down_proj, "expert row ffn, expert hidden ffn -> expert row hidden")
        back = "token expert row, expert row hidden, token expert -> token hidden"
        result = einsum(mask.float(), outputs, weights, back)
        off = (result - bank(x, routing)).abs().max() / result.abs().max()
    print(f"largest difference to the layer's own output: {off:.1%} of its largest number")
print(f"{chosen.sum():,} rows are needed, {config.num_experts * mask.shape[-1]:,} are computed")

# %% [markdown]
# ## 07.8 · Ablate: without the busiest expert
#
# *12 minutes, difficulty 3 of 5.* Take one expert out of a layer: where a token has chosen it, its weight becomes 0,
# and the token's other weights are scaled by a common factor, so that their sum is as before. **Predict** before you
# run the model: what does the mini lose, if the expert that is chosen most often is gone in every layer? And if the 16
# busiest are gone, an eighth of all?
#
# Every token here keeps at least one expert with a weight, so there is always something to scale. The measurement
# behind the check uses `texts` and `loss` of 07.5 and `trace` of 07.6: run the cells there first. They work without
# your answers.


# %% exercise="07.8"
def without(routing: Routing, expert: int) -> Routing:
    """The routing with other weights: none for this expert, the others of each token scaled to the same sum."""
    ### BEGIN SOLUTION
    kept = routing.weights * (routing.experts != expert)
    scale = routing.weights.sum(dim=-1, keepdim=True) / kept.sum(dim=-1, keepdim=True)
    return routing._replace(weights=kept * scale)
    ### END SOLUTION


# %%
minimoe.check("07.8", without)

# %%
uses = [each.bincount(minlength=128) for each in trace.experts.flatten(1)]
busiest = [counts.argsort(descending=True, stable=True).tolist() for counts in uses]


def loss_without(ranks):
    """Next-token loss in nats, without the experts of these ranks of use in any layer; rank 0 is the busiest."""
    calls = iter(range(len(texts) * config.num_hidden_layers))

    def run(x, routing, bank):
        layer = next(calls) % config.num_hidden_layers
        for rank in ranks:
            routing = without(routing, busiest[layer][rank])
        return library.run_experts(x, routing, bank)

    return loss(run)


if without(routing, 0) is None:
    print("Write the function above: here you will see what the mini loses without its busiest experts.")
else:
    trained = next_token_loss(model, texts)
    for name, ranks in {"busiest": range(1), "16 busiest": range(16), "16 least used": range(112, 128)}.items():
        more = loss_without(ranks) - trained
        print(f"without the {name:13s} in every layer: {f'{more:.2f}' if more > 0.02 else 'under 0.02'} nats more")

# %% [markdown]
# <details><summary>What the numbers say (for after your run)</summary>
#
# The most popular expert is hardly missed: a token has seven others, and they can stand in for it. With an eighth of
# all experts gone the loss rises, and by more if they are the busiest ones.
#
# </details>

# %% [markdown]
# ## 07.9 · Predict: which engine reads how much?
#
# *10 minutes, difficulty 2 of 5.* One layer with 128 experts, 8 for each token, and four ways to run it. Count experts,
# not bytes. Of matrix products, count the calls: `swiglu` makes three, one for each matrix of its expert. A call of
# `torch.bmm` or `F.grouped_mm` counts as one, however many experts it multiplies. Put a number at each place **before**
# you look further down.

# %% exercise="07.9"
predictions = {
    ### BEGIN SOLUTION: "1 token: experts run by all and mask": ...,
    "1 token: experts run by all and mask": 128,
    ### END SOLUTION
    ### BEGIN SOLUTION: "1 token: experts read by loop": ...,
    "1 token: experts read by loop": 8,
    ### END SOLUTION
    ### BEGIN SOLUTION: "512 tokens: experts copied by gather": ...,
    "512 tokens: experts copied by gather": 4096,
    ### END SOLUTION
    ### BEGIN SOLUTION: "512 tokens: experts read by grouped, at most": ...,
    "512 tokens: experts read by grouped, at most": 128,
    ### END SOLUTION
    ### BEGIN SOLUTION: "512 tokens: matrix products started by loop, at most": ...,
    "512 tokens: matrix products started by loop, at most": 384,
    ### END SOLUTION
    ### BEGIN SOLUTION: "512 tokens: matrix products started by grouped": ...,
    "512 tokens: matrix products started by grouped": 3,
    ### END SOLUTION
    ### BEGIN SOLUTION: "operations of all and mask, times those of loop": ...,
    "operations of all and mask, times those of loop": 16,
    ### END SOLUTION
}

# %%
minimoe.check("07.9", predictions)

# %% [markdown]
# Fewer bytes and fewer starts should be faster. Are they? The stored benchmark of the mini's experts, in milliseconds:

# %%
stored = ch07_batch.benchmark()
seconds = ch07_batch.seconds_of(stored, "mini")
engines = ("loop", "gather", "grouped")
rows = {f"tokens: {size}": ch07_batch.milliseconds(seconds, size, engines) for size in (1, 8, 64, 512)}
table(engines, rows)

# %% [markdown]
# <details><summary>What the numbers say (for after your run)</summary>
#
# Neither number decides alone. For one token `gather` and `grouped` start equally few products; `gather` copies no more
# than eight experts and needn't sort, and wins. For 512 tokens it starts as few as before, and is the slowest by far:
# it copies each expert many times. `loop` and `grouped` read the same experts, and `grouped` is faster, because it
# starts fewer products.
#
# </details>

# %%
minimoe.progress(7)
