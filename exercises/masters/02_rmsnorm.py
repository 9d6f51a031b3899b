"""Master of exercises/02_rmsnorm.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 02 · RMSNorm: exercises
#
# Lesson: [02 · RMSNorm](../notebooks/02_rmsnorm.ipynb). About 60 minutes for all seven; if you have less, do 02.1 and
# 02.7.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like. `minimoe.hint("02.1")` helps in three steps,
# `minimoe.solution("02.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import torch
from einops import rearrange, reduce
from torch import Tensor

import minimoe
from minimoe.course.capture import capture, held_out_texts, next_token_loss
from minimoe.course.table import table
from minimoe.model.norm import rms_norm as library_norm

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
config = model.config
token_ids = torch.tensor([tokenizer.encode("Once upon a time a big cat lived in the library.")])

# %% [markdown]
# ## 02.1 · rms_norm
#
# *8 minutes, difficulty 2 of 5.* Divide each vector by its root mean square (with `eps` under the root), in float32.
# Then go back to x's dtype, and multiply by the weight.


# %% exercise="02.1"
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x: (..., hidden), weight: (hidden) -> x's shape and dtype."""
    ### BEGIN SOLUTION
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)
    ### END SOLUTION


# %%
minimoe.check("02.1", rms_norm)

# %% [markdown]
# ### Yours, inside the model
#
# All norms of the mini, those of q and k too, are computed by your function.

# %%
with minimoe.workbench(model, rms_norm=rms_norm) as bench:
    comparison = bench.compare(token_ids)
comparison

# %% [markdown]
# ## 02.2 · Predict: what changes the result?
#
# *6 minutes, difficulty 2 of 5.* About RMSNorm of one token's vector x, if eps is too small to matter (but not zero).
# Put `True` or `False` at each place **before** you run the cell after it.

# %% exercise="02.2"
predictions = {
    ### BEGIN SOLUTION: "x times 1,000: another result": ...,
    "x times 1,000: another result": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "x plus 1,000: another result": ...,
    "x plus 1,000: another result": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "-x: the result changes its sign": ...,
    "-x: the result changes its sign": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "channels in another order, weight too: the same numbers in that order": ...,
    "channels in another order, weight too: the same numbers in that order": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "another token of the text changes: another result for this one": ...,
    "another token of the text changes: another result for this one": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "all channels equal and positive, weight one: all results are 1": ...,
    "all channels equal and positive, weight one: all results are 1": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "x is 0: the result is not a number": ...,
    "x is 0: the result is not a number": False,
    ### END SOLUTION
}

# %%
x, ones = torch.randn(6, generator=torch.Generator().manual_seed(2)), torch.ones(6)
vectors = {"x": x, "1,000 x": 1000 * x, "x + 1,000": x + 1000, "-x": -x, "0": 0 * x, "all 7": 0 * x + 7}
rows = {}
for what, vector in vectors.items():
    rows[what] = [f"{value:.2f}" for value in (library_norm(vector, ones, 1e-6) + 0.0).tolist()]
table([f"{n}" for n in range(6)], rows)

# %%
minimoe.check("02.2", predictions)

# %% [markdown]
# ## 02.3 · Bug hunt: right for one token
#
# *10 minutes, difficulty 3 of 5.* This function has two bugs. It passed a test with one token.


# %%
def suspicious(x, weight, eps):
    """x: (token, hidden) -> the same shape."""
    return weight * x / (x.pow(2).mean().sqrt() + eps)


first = torch.tensor([[3.0, -4.0, 1.0, 2.0]])
both = torch.cat((first, 100 * first))
for what, tokens in (("one token", first), ("with a large one behind it", both)):
    print(f"{what:27s}", [round(value, 2) for value in suspicious(tokens, torch.ones(4), 1e-6)[0].tolist()])

# %% [markdown]
# The first token's result depends on the second one. And there is something else, which shows only where x is small.


# %% exercise="02.3"
def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x: (token, hidden) float32 -> the same shape."""
    ### BEGIN SOLUTION
    return weight * x / (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt()
    ### END SOLUTION


# %%
minimoe.check("02.3", norm)

# %% [markdown]
# ## 02.4 · QK-norm: one size per head
#
# *10 minutes, difficulty 3 of 5.* `q_proj` returns the channels of all heads in one row. Norm each head on its own.


# %% exercise="02.4"
def qk_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x: (batch, position, head * head_dim), weight: (head_dim) -> x's shape and dtype. You may use `rms_norm`."""
    ### BEGIN SOLUTION
    heads = rearrange(x, "batch position (head head_dim) -> batch position head head_dim", head_dim=len(weight))
    return rearrange(
        library_norm(heads, weight, eps), "batch position head head_dim -> batch position (head head_dim)"
    )
    ### END SOLUTION


# %%
minimoe.check("02.4", qk_norm)

# %% [markdown]
# In the mini: the sizes of its heads' queries in layer 0, before and after your function.

# %%
attention = model.layers[0].self_attn
(q,) = capture(model, token_ids, "layers.0.self_attn.q_proj")
after = qk_norm(q, attention.q_norm.weight, config.rms_norm_eps)
rows = {}
for what, each in {"before": q, "after": after}.items():
    if each is None:
        rows[what] = ["write the function above", ""]
        continue
    heads = rearrange(each, "batch position (head head_dim) -> batch position head head_dim", head_dim=config.head_dim)
    sizes = reduce(heads**2, "batch position head head_dim -> batch position head", "mean") ** 0.5
    rows[what] = [f"{sizes.min():.1f}", f"{sizes.max():.1f}"]
table(["smallest", "largest"], rows)

# %% [markdown]
# ## 02.5 · Rewrite with einops: the size of a stream
#
# *8 minutes, difficulty 2 of 5.* This line measures the hidden states of all layers. It is right, and hard to read:


# %%
def sizes_as_given(x):
    return x.view(x.shape[0], -1, x.shape[-1]).pow(2).mean(-1).sqrt()


# %% [markdown]
# Write it with one `reduce` in which every axis has a name.


# %% exercise="02.5"
def sizes(x: Tensor) -> Tensor:
    """x: (layer, batch, position, hidden) -> (layer, batch * position), the root mean square of each vector."""
    ### BEGIN SOLUTION
    return reduce(x**2, "layer batch position hidden -> layer (batch position)", "mean") ** 0.5
    ### END SOLUTION


# %%
minimoe.check("02.5", sizes)

# %% [markdown]
# ## 02.6 · Estimate, then measure: what do norms cost?
#
# *8 minutes, difficulty 2 of 5.* First guess: how many of the 235B's 235,093,634,560 parameters belong to a norm? Write
# it down. Then write the formula.


# %% exercise="02.6"
def norm_parameters(layers: int, hidden: int, head_dim: int) -> int:
    """The weights of all norms of a model, those of q and k among them."""
    ### BEGIN SOLUTION
    return layers * (2 * hidden + 2 * head_dim) + hidden
    ### END SOLUTION


# %%
minimoe.check("02.6", norm_parameters)

# %%
big = minimoe.ModelConfig.named("Qwen3-235B-A22B")
with torch.device("meta"):
    giant = minimoe.Transformer(big)
rows = {}
for name, each, c in (("mini", model, config), ("the 235B", giant, big)):
    counted = sum(weight.numel() for part, weight in each.named_parameters() if "norm" in part)
    mine = norm_parameters(c.num_hidden_layers, c.hidden_size, c.head_dim)
    rows[name] = [f"{counted:,}", "write the function above" if mine is None else f"{mine:,}"]
table(["counted", "yours"], rows)

# %% [markdown]
# ## 02.7 · Ablate: which norm matters most?
#
# *12 minutes, difficulty 3 of 5.* The model calls `rms_norm(x, weight, eps)` for each of its norms, and each has a
# weight of its own. Write a function that returns such a function, for all norms but one. **Predict** before you run
# the model: does it suffer more from a missing norm before attention, before the experts, or of a query?


# %% exercise="02.7"
def all_but(skipped: Tensor):
    """A function like rms_norm that returns x unchanged for the norm whose weight is the tensor `skipped`."""
    ### BEGIN SOLUTION
    return lambda x, weight, eps: x if weight is skipped else library_norm(x, weight, eps)
    ### END SOLUTION


# %%
minimoe.check("02.7", all_but)

# %%
texts = held_out_texts(tokenizer, each=2, seed="02.7")


def loss_with(norm):
    """Next-token loss in nats with this function in the place of rms_norm."""
    with minimoe.workbench(model, rms_norm=norm):
        return next_token_loss(model, texts)


def rises():
    """Nats per token that the loss rises without each norm, a row for each layer."""
    everything, rows = loss_with(library_norm), {}
    for number, layer in enumerate(model.layers):
        norms = layer.input_layernorm, layer.post_attention_layernorm, layer.self_attn.q_norm, layer.self_attn.k_norm
        found = [loss_with(all_but(norm.weight)) - everything for norm in norms]
        rows[f"layer {number}"] = [f"{abs(round(rise, 1)):.1f}" for rise in found]  # abs: a rise of -0.0 is one of 0.0
    return table(["before attention", "before the experts", "of q", "of k"], rows)


written = callable(all_but(model.norm.weight))
rises() if written else print("Write the function above: here you will see how much the loss rises without each norm.")

# %% [markdown]
# <details><summary>What the table says (for after your run)</summary>
#
# It shows by how many nats per token the loss rises. In layers 0, 1 and 2 the norm in front of the experts is worth
# most; in layer 3 it is the one in front of attention. Those of q and k are worth 0.2 nats at most. In layer 0 the one
# before attention could almost go: it costs a tenth of what it costs in layer 1, because the rows of the embedding are
# about equally long, and there is little to even out.
#
# </details>

# %%
minimoe.progress(2)
