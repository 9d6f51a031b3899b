"""Master of exercises/06_router.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 06 · The router: exercises
#
# Lesson: [06 · The router](../notebooks/06_router.ipynb). About 80 minutes for all seven; if you have less, do 06.1
# and 06.6.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like; `minimoe.hint("06.1")` helps in three steps,
# `minimoe.solution("06.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import torch
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor
from torch.nn import functional as F

import minimoe
from minimoe.course.table import table
from minimoe.model.router import Routing
from minimoe.model.router import route as library_route

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
text = "Once upon a time a big bird lived on the farm. One day the bird wanted a green pen."

# %% [markdown]
# ## 06.1 · Fill in the router
#
# *12 minutes, difficulty 2 of 5.* Logits come in, one row for each token. Choose `top_k` experts for each, and say how
# much each one counts.


# %% exercise="06.1"
def route(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """logits: (token, expert) -> Routing(logits, experts, weights), the last two (token, slot) by falling weight.

    The softmax is taken in float32; the weights have the dtype of the logits.
    """
    ### BEGIN SOLUTION
    probabilities = logits.softmax(dim=-1, dtype=torch.float32)
    weights, experts = probabilities.topk(top_k, dim=-1)
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights.to(logits.dtype))
    ### END SOLUTION


# %%
minimoe.check("06.1", route)

# %% [markdown]
# ### Yours, inside the model
#
# The model runs once with the library's router and once with yours. What do you expect to see in the picture?

# %%
with minimoe.workbench(model, route=route) as bench:
    comparison = bench.compare(text, tokenizer)
comparison

# %% [markdown]
# And now it speaks: every expert behind every token of this story is chosen by your function.

# %% tags="nbval-ignore-output"
question = [{"role": "user", "content": "Tell me a story about a dog."}]
with minimoe.workbench(model, route=route) as bench:
    story = bench.story(tokenizer, question, 80, thinking=False)
story

# %%
assert len(story.theirs) > 20
print(f"the library's story, token by token: {story.agreed / len(story.theirs):.0%} as yours")

# %% [markdown]
# ## 06.2 · Predict, then run: the margin
#
# *8 minutes, difficulty 2 of 5.* A token's logits lie between 2 and 4 at the cut, and the margin between rank 8 and
# rank 9 is 0.03. Three things are done to **all** of its logits: they are doubled; 5 is added; they are rounded to
# bfloat16. Put a number or `True` / `False` at each place **before** you run the cell after it.

# %% exercise="06.2"
predictions = {
    ### BEGIN SOLUTION: "doubled: the margin becomes": ...,
    "doubled: the margin becomes": 0.06,
    ### END SOLUTION
    ### BEGIN SOLUTION: "doubled: other experts": ...,
    "doubled: other experts": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "doubled: other weights": ...,
    "doubled: other weights": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "plus 5: other weights": ...,
    "plus 5: other weights": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "rounded to bfloat16: two logits can swap their order": ...,
    "rounded to bfloat16: two logits can swap their order": False,
    ### END SOLUTION
}

# %% [markdown]
# Now run it, on the token of the text above whose margin is nearest to 0.03. Does each line say what you predicted?

# %%
seen = []
hook = model.layers[1].mlp.gate.register_forward_hook(lambda gate, inputs, routing: seen.append(routing.logits))
with torch.no_grad():
    model(torch.tensor([tokenizer.encode(text)]))
hook.remove()
ranked = seen[0].sort(dim=-1, descending=True).values
logits = ranked[(ranked[:, 7] - ranked[:, 8] - 0.03).abs().argmin()]


def look(changed):
    """The new margin, and whether experts and weights are others than before."""
    before, after = (scores.softmax(-1).topk(8) for scores in (logits, changed))
    same_experts = set(before.indices.tolist()) == set(after.indices.tolist())
    same_weights = torch.allclose(before.values, after.values, atol=1e-5)
    return [f"{changed[7] - changed[8]:.2f}", str(not same_experts), str(not same_weights)]


rows = {"as it is": look(logits), "doubled": look(2 * logits), "plus 5": look(logits + 5)}
table(["margin", "other experts", "other weights"], rows)

# %%
rounded = ranked.bfloat16().float()
equal, swapped = (rounded[:, :-1] == rounded[:, 1:]), (rounded[:, :-1] < rounded[:, 1:])
rows = {"became equal": [f"{equal.float().mean():.0%}"], "swapped their order": [int(swapped.sum())]}
table([f"of {swapped.numel():,} pairs of neighbours in the ranking, rounded to bfloat16"], rows)

# %%
minimoe.check("06.2", predictions)

# %% [markdown]
# ## 06.3 · Rewrite with einops: who did how much
#
# *10 minutes, difficulty 3 of 5.* This function makes a table: how much weight did each expert get in each sentence of
# a batch? It is right, and hard to read. What does the `1` mean? Which axes does `view` merge?


# %%
def workload_as_it_was(experts, weights, num_experts):
    batch, position, slot = experts.shape
    table = torch.zeros(batch, num_experts, dtype=weights.dtype)
    return table.scatter_add_(1, experts.view(batch, position * slot), weights.view(batch, position * slot))


# %% [markdown]
# Write it so that every axis has a name. `F.one_hot` and one einops pattern are enough.


# %% exercise="06.3"
def workload(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    """experts (batch, position, slot) int64, weights (batch, position, slot) -> (batch, expert), in weights' dtype."""
    ### BEGIN SOLUTION
    chosen = F.one_hot(experts, num_experts).to(weights.dtype)
    return einsum(chosen, weights, "batch position slot expert, batch position slot -> batch expert")
    ### END SOLUTION


# %%
minimoe.check("06.3", workload)

# %% [markdown]
# ## 06.4 · Bug hunt: wrong for one token in fifty
#
# *15 minutes, difficulty 3 of 5.* Here is top-k as a loop: take the best, take it out, take the next best. It passed
# all of its tests:


# %%
def suspicious(logits, top_k):
    """logits: (token, expert) -> experts (token, slot)."""
    left, chosen = logits.clone(), []
    for _ in range(top_k):
        best = left.max(dim=-1, keepdim=True).values
        chosen.append((left == best).int().argmax(dim=-1))
        left = left.masked_fill(left == best, -torch.inf)
    return rearrange(chosen, "slot token -> token slot")


def wrong_tokens(pick, logits, top_k=6):
    """The rows for which `pick` does not choose the highest scores."""
    found = logits.gather(-1, pick(logits, top_k)).sort(dim=-1, descending=True).values
    return (found != logits.topk(top_k, dim=-1).values).any(dim=-1).nonzero().flatten()


scores = torch.randn(10_000, 128, generator=torch.Generator().manual_seed(0))
for name, logits in {"float32": scores, "float16": scores.half()}.items():
    print(f"{name}: wrong for {len(wrong_tokens(suspicious, logits)):3d} of {len(logits):,} tokens")

# %% [markdown]
# In float32 it is right, or nearly; in float16 it is wrong for about one token in fifty. Why *those*? The seven highest
# logits (six are chosen) of three that go wrong, and of three that do not:

# %%
half = scores.half()
bad = wrong_tokens(suspicious, half)
good = torch.tensor([token for token in range(20) if token not in bad])
for name, tokens in (("wrong", bad[:3]), ("right", good[:3])):
    for row in half[tokens].topk(7, dim=-1).values.tolist():
        print(name, " ".join(f"{value:.4f}" for value in row))

# %% [markdown]
# Seen it? Write the function so that it is right for every token. (Which of two equal scores comes first does not
# matter.)


# %% exercise="06.4"
def pick(logits: Tensor, top_k: int) -> Tensor:
    """logits: (token, expert) -> experts (token, slot) int64."""
    ### BEGIN SOLUTION
    left, chosen = logits.clone(), []
    for _ in range(top_k):
        best = left.argmax(dim=-1)  # one place, also where two have the same score
        chosen.append(best)
        left = left.masked_fill(F.one_hot(best, logits.shape[-1]).bool(), -torch.inf)
    return rearrange(chosen, "slot token -> token slot")
    ### END SOLUTION


# %%
minimoe.check("06.4", pick)

# %% [markdown]
# ## 06.5 · Estimate, then measure: the price of choosing
#
# *10 minutes, difficulty 2 of 5.* For **one token in one layer**: how many floating-point operations does the router
# take, and how many the experts? Count the matrix products only, a multiplication and an addition as two. First guess
# the ratio, for the mini and for the 235B. Then write the formula.


# %% exercise="06.5"
def operations(config: minimoe.ModelConfig) -> tuple[int, int]:
    """(router, experts): operations of one token in one layer."""
    ### BEGIN SOLUTION
    router = 2 * config.hidden_size * config.num_experts
    experts = 2 * config.num_experts_per_tok * 3 * config.hidden_size * config.moe_intermediate_size
    return router, experts
    ### END SOLUTION


# %%
minimoe.check("06.5", operations)

# %% [markdown]
# Now measure it: torch counts what really runs in layer 0 for one token. It should be the sum of your two numbers.

# %%
from torch.utils.flop_counter import FlopCounterMode

model.engine = "loop"
with torch.no_grad(), FlopCounterMode(display=False) as counter:
    model.layers[0].mlp(torch.randn(1, 1, model.config.hidden_size, generator=torch.Generator().manual_seed(0)))
model.engine = "auto"
print(f"counted in the mini's layer 0: {counter.get_total_flops():,}")
rows = {}
for name, config in (("mini", model.config), ("235B", minimoe.ModelConfig.named("Qwen3-235B-A22B"))):
    counts = operations(config)
    if counts is None or ... in counts:
        rows[name] = ["write the function above", "", ""]
    else:
        rows[name] = [*(int(count) for count in counts), f"{counts[0] / sum(counts):.1%}"]
table(["router", "experts", "the router's share"], rows)

# %% [markdown]
# In this respect the mini is not a small 235B: its experts are so narrow that choosing them is a sizeable part of the
# work. In the 235B it is next to nothing. But operations are not seconds: a narrow matrix, a softmax and a top-k start
# many small kernels that do little work each.

# %% [markdown]
# ## 06.6 · Ablate: the ninth takes the place of the first
#
# *12 minutes, difficulty 3 of 5.* Leave out the expert that every token wants most, and let the first one that was not
# chosen come in: ranks 2 to `top_k + 1`, each with its own probability, renormalised if asked. **Predict** before you
# run the model: does the loss move a little, or a lot? And if the ninth takes the place of the *eighth* instead?


# %% exercise="06.6"
def route_without_first(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """As `route`, for ranks 2 to top_k + 1: softmax in float32, weights in the dtype of the logits."""
    ### BEGIN SOLUTION
    weights, experts = logits.softmax(dim=-1, dtype=torch.float32).topk(top_k + 1, dim=-1)
    weights, experts = weights[:, 1:], experts[:, 1:]
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights.to(logits.dtype))
    ### END SOLUTION


# %%
minimoe.check("06.6", route_without_first)

# %% [markdown]
# Now in the mini, on six held-out stories: by how much does the loss move, against the router as it was trained? The
# other swap, ninth for eighth, is given.

# %%
from minimoe.course.capture import held_out_texts, next_token_loss

stories = held_out_texts(tokenizer, each=6, seed="06.6", domains=("en",))


def route_without_eighth(logits, top_k, renormalise):
    weights, experts = logits.softmax(dim=-1, dtype=torch.float32).topk(top_k + 1, dim=-1)
    keep = [slot for slot in range(top_k + 1) if slot != top_k - 1]
    weights, experts = weights[:, keep], experts[:, keep]
    return Routing(logits, experts, (weights / weights.sum(dim=-1, keepdim=True)).to(logits.dtype))


def loss(route):
    """Next-token loss of the stories in nats, with this router in the model."""
    with minimoe.workbench(model, route=route):
        return next_token_loss(model, stories)


for name, router in {"ninth for first": route_without_first, "ninth for eighth": route_without_eighth}.items():
    if router(torch.zeros(1, 9), 8, True) is None:
        print(f"{name:17s} write the function above, and its number appears here")
        continue
    moved = round(loss(router) - loss(library_route), 2)
    print(f"{name:17s} {moved + 0.0:5.2f} nats per token more")

# %% [markdown]
# <details><summary>What the numbers say (for after your run)</summary>
#
# The choice is fragile where it matters least: rank 8 and rank 9 have nearly the same score, and are nearly
# interchangeable. Rank 1 is not.
#
# </details>

# %% [markdown]
# ## 06.7 · Find the counterexample
#
# *10 minutes, difficulty 4 of 5.* Softmax over all and then choose, or choose and then softmax over the chosen: with
# the division at the end they are the same router. Without it they are not. How far apart can they be? Find the logits
# of **one token over 128 experts** for which some weight differs by more than 0.5, with 8 experts chosen. (Random
# logits will not do.)

# %% exercise="06.7"
### BEGIN SOLUTION: counterexample = ...
counterexample = torch.zeros(128)
counterexample[0] = 3.4
### END SOLUTION

# %%
minimoe.check("06.7", counterexample)

# %%
minimoe.progress(6)
