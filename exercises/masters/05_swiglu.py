"""Master of exercises/05_swiglu.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 05 · SwiGLU: exercises
#
# Lesson: [05 · SwiGLU](../notebooks/05_swiglu.ipynb). About 70 minutes for all seven; if you have less, do 05.1, 05.3
# and 05.7.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like. `minimoe.hint("05.1")` helps in three steps,
# `minimoe.solution("05.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import torch
from einops import einsum, rearrange
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import minimoe
from minimoe.course.capture import capture, held_out_texts, next_token_loss
from minimoe.model.experts import swiglu as library_swiglu

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
config = model.config
text = "Once upon a time a big dog lived at school. One day the dog wanted a red ball."
token_ids = torch.tensor([tokenizer.encode(text)])
layer = config.num_hidden_layers - 1
mlp = model.layers[layer].mlp
(hidden,) = capture(model, token_ids, f"layers.{layer}.post_attention_layernorm")
hidden = rearrange(hidden, "batch position hidden -> (batch position) hidden")  # what the experts of that layer get

# %% [markdown]
# ## 05.1 · One expert
#
# *8 minutes, difficulty 1 of 5.* Three products with a matrix, and one bend: down(SiLU(gate x) × up x). The matrices
# are stored as (out, in), the way `F.linear(x, matrix)` wants them.


# %% exercise="05.1"
def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """x: (..., hidden) -> the same shape and dtype. gate, up: (ffn, hidden); down: (hidden, ffn)."""
    ### BEGIN SOLUTION
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)
    ### END SOLUTION


# %%
minimoe.check("05.1", swiglu)

# %% [markdown]
# ### Yours, inside the model
#
# The model runs once with the library's expert and once with yours, for every chosen expert in every layer.

# %%
with minimoe.workbench(model, swiglu=swiglu) as bench:
    comparison = bench.compare(token_ids)
comparison

# %% [markdown]
# ## 05.2 · Predict, then run: what does the output follow?
#
# *8 minutes, difficulty 2 of 5.* Change one thing about an expert: what happens to its output? Put `True` or `False` at
# each place **before** you run the cell after it. ("Doubled" and "negated" mean every number of that tensor.)

# %% exercise="05.2"
predictions = {
    ### BEGIN SOLUTION: "up doubled: the output doubles": ...,
    "up doubled: the output doubles": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "gate doubled: the output doubles": ...,
    "gate doubled: the output doubles": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "x doubled: the output doubles": ...,
    "x doubled: the output doubles": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "up negated: the output changes its sign": ...,
    "up negated: the output changes its sign": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "gate negated: the output changes its sign": ...,
    "gate negated: the output changes its sign": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "gate and up swapped: the same output": ...,
    "gate and up swapped: the same output": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "neurons in another order, in all three matrices: the same output": ...,
    "neurons in another order, in all three matrices: the same output": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "x is zero: the output is zero": ...,
    "x is zero: the output is zero": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "gate is zero: the output is zero": ...,
    "gate is zero: the output is zero": True,
    ### END SOLUTION
}

# %% [markdown]
# Now measure it, with a random expert. Each line is the size of the output, and how far it lies from what the question
# says, both relative to the unchanged output. Do the numbers agree with your predictions?

# %%
generator = torch.Generator().manual_seed(5)
x, gate, up = (torch.randn(*shape, generator=generator) for shape in ((8, 16), (24, 16), (24, 16)))
down = torch.randn(16, 24, generator=generator)
before, order = library_swiglu(x, gate, up, down), torch.randperm(24, generator=generator)
after = {
    "up doubled": (library_swiglu(x, gate, 2 * up, down), 2 * before),
    "gate doubled": (library_swiglu(x, 2 * gate, up, down), 2 * before),
    "x doubled": (library_swiglu(2 * x, gate, up, down), 2 * before),
    "up negated": (library_swiglu(x, gate, -up, down), -before),
    "gate negated": (library_swiglu(x, -gate, up, down), -before),
    "swapped": (library_swiglu(x, up, gate, down), before),
    "another order": (library_swiglu(x, gate[order], up[order], down[:, order]), before),
    "x is zero": (library_swiglu(0 * x, gate, up, down), 0 * before),
    "gate is zero": (library_swiglu(x, 0 * gate, up, down), 0 * before),
}
for change, (output, said) in after.items():
    size, off = (float(each.norm() / before.norm()) for each in (output, output - said))
    print(f"{change:14s} size {size:.1f} times as before, {off:.0%} off")

# %%
minimoe.check("05.2", predictions)

# %% [markdown]
# ## 05.3 · Bug hunt: a fused matrix
#
# *12 minutes, difficulty 3 of 5.* Many code bases store gate and up as one matrix of 2 × ffn rows, **first all gate
# rows, then all up rows**: one large product is faster than two small ones. This function runs such an expert, and it
# has a bug:


# %%
def suspicious(x, gate_up, down):
    """x: (token, hidden); gate_up: (2 * ffn, hidden); down: (hidden, ffn) -> (token, hidden)."""
    first, second = rearrange(F.linear(x, gate_up), "token (two ffn) -> two token ffn", two=2)
    return F.linear(F.silu(second) * first, down)


# %% [markdown]
# Its author tested it with `gate_up = torch.cat((rows, rows))`, found no difference to the library, and shipped it.
# Here it runs on a trained expert of the mini. For each neuron, one line says whether its gate row and its up row
# point in nearly the same direction (`+`) or in nearly opposite ones (`-`). The line below has a `#` where the neuron's
# output is off by more than 80 %. (Neurons whose rows are neither are left out.)

# %%
bank = mlp.experts
expert = int(F.cosine_similarity(bank.gate_proj, bank.up_proj, dim=-1).abs().mean(dim=-1).argmax())
gate, up, down = (matrices[expert] for matrices in (bank.gate_proj, bank.up_proj, bank.down_proj))
gate_up, cosine = torch.cat((gate, up)), F.cosine_similarity(gate, up, dim=-1)
each_alone = torch.eye(len(gate))  # in the place of down: the neurons one by one
right, seen = (library_swiglu(hidden, gate, up, each_alone), suspicious(hidden, gate_up, each_alone))
wrong = (right - seen).norm(dim=0) / right.norm(dim=0)
clear = [n for n in range(len(gate)) if abs(cosine[n]) > 0.85]
print("neuron  " + " ".join(f"{n:2d}" for n in clear))
print("rows    " + " ".join(" +" if cosine[n] > 0 else " -" for n in clear))
print("output  " + " ".join(" #" if wrong[n] > 0.8 else " ." for n in clear))

# %% [markdown]
# What do the wrong neurons have in common, and why couldn't the author's test see it? Then fix the function.


# %% exercise="05.3"
def fused(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """x: (token, hidden); gate_up: (2 * ffn, hidden), gate rows first; down: (hidden, ffn) -> (token, hidden)."""
    ### BEGIN SOLUTION
    gate, up = rearrange(F.linear(x, gate_up), "token (two ffn) -> two token ffn", two=2)
    return F.linear(F.silu(gate) * up, down)
    ### END SOLUTION


# %%
minimoe.check("05.3", fused)

# %% [markdown]
# ## 05.4 · Estimate, then measure: how much is an expert?
#
# *8 minutes, difficulty 2 of 5.* First guess, for the 235B (hidden 4,096, ffn 1,536, eight experts in each of 94
# layers): how many parameters has one expert? How many operations (multiplications and additions) do the experts cost
# for one token? Write both numbers down, then the formula.


# %% exercise="05.4"
def cost(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    """(parameters of one expert, operations of all experts for one token, in all layers)."""
    ### BEGIN SOLUTION
    parameters = 3 * hidden * ffn
    return parameters, 2 * parameters * top_k * layers
    ### END SOLUTION


# %%
minimoe.check("05.4", cost)

# %% [markdown]
# Now measure it: PyTorch counts the operations of each product while the mini's experts run on one token.

# %%
sizes = (config.hidden_size, config.moe_intermediate_size, config.num_experts_per_tok, config.num_hidden_layers)
answer = cost(*sizes)
written = answer is not None and ... not in answer
mine = f"{answer[0]:,} and {answer[1]:,}" if written else "write the function above"
one = hidden[-1:]
mlp.experts.engine = "loop"
with FlopCounterMode(display=False) as counter:
    mlp.experts(one, mlp.gate(one))
mlp.experts.engine = "auto"
router = 2 * mlp.gate.weight.numel()
counted = config.num_hidden_layers * (counter.get_total_flops() - router)
stored = sum(matrix.numel() for matrix in (gate, up, down))
print(f"counted: {stored:,} parameters in an expert, {counted:,} operations for a token; yours: {mine}")
if written:
    parameters, operations = cost(4096, 1536, 8, 94)
    print(
        f"the 235B by your formula: {parameters:,} parameters in an expert, {operations / 1e9:.1f} billion operations"
    )

# %% [markdown]
# ## 05.5 · Rewrite with einops: all experts at once
#
# *12 minutes, difficulty 3 of 5.* All experts of a layer are stored as three tensors with one more axis. This function
# runs *every* expert on *every* token. It is correct and hard to read:


# %%
def every_expert_as_it_was(x, gate, up, down):
    x = x.unsqueeze(0).expand(gate.shape[0], -1, -1)
    opening = torch.bmm(x, gate.transpose(1, 2))
    amount = torch.bmm(x, up.transpose(1, 2))
    return torch.bmm(F.silu(opening) * amount, down.transpose(1, 2)).transpose(0, 1)


# %% [markdown]
# Write it with `einsum` patterns in which every axis has a name.


# %% exercise="05.5"
def every_expert(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """x: (token, hidden); gate, up: (expert, ffn, hidden); down: (expert, hidden, ffn) -> (token, expert, hidden)."""
    ### BEGIN SOLUTION
    pattern = "token hidden, expert ffn hidden -> token expert ffn"
    inner = F.silu(einsum(x, gate, pattern)) * einsum(x, up, pattern)
    return einsum(inner, down, "token expert ffn, expert hidden ffn -> token expert hidden")
    ### END SOLUTION


# %%
minimoe.check("05.5", every_expert)

# %% [markdown]
# With the router's weights, this is a whole layer: 0 for the experts that weren't chosen.

# %%
routing = mlp.gate(hidden)
outputs = every_expert(hidden, bank.gate_proj, bank.up_proj, bank.down_proj)
if isinstance(outputs, Tensor):
    weights = torch.zeros(len(hidden), config.num_experts).scatter(-1, routing.experts, routing.weights)
    layer_output = einsum(weights, outputs, "token expert, token expert hidden -> token hidden")
    off = float((layer_output - bank(hidden, routing)).abs().max() / layer_output.abs().max())
    print(f"largest difference to the layer's own output: {off:.1%} of its largest number")
times = config.num_experts // config.num_experts_per_tok
print(f"{config.num_experts} experts run, {config.num_experts_per_tok} used: {times} times the work")

# %% [markdown]
# ## 05.6 · gpt-oss's version
#
# *10 minutes, difficulty 3 of 5.* gpt-oss has the same three matrices and another function between them. Its fused
# product holds the gates in the **even** columns and the amounts in the **odd** ones. The gate is limited from above,
# the amount on both sides; the switch is gate × sigmoid(alpha × gate); and it multiplies with **amount + 1**. (The
# limit is 7 and alpha 1.702, with which gate × sigmoid(alpha × gate) comes close to GELU.)


# %% exercise="05.6"
def gpt_oss(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    """gate_up: (token, 2 * ffn), gates in the even columns -> (token, ffn)."""
    ### BEGIN SOLUTION
    gate, up = rearrange(gate_up, "token (ffn two) -> two token ffn", two=2)
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)
    ### END SOLUTION


# %%
minimoe.check("05.6", gpt_oss)

# %% [markdown]
# What happens if weights of Qwen3 are run with the code of gpt-oss? Every shape fits. **Predict** the loss first.

# %%
texts = held_out_texts(tokenizer, each=1, seed="05.6")


def loss_with(limit):
    """Next-token loss of the mini in nats, with gpt-oss's function in all experts."""

    def other_family(x, gate, up, down):
        products = rearrange([F.linear(x, gate), F.linear(x, up)], "two token ffn -> token (ffn two)")
        return F.linear(gpt_oss(products, 1.702, limit), down)

    with minimoe.workbench(model, swiglu=other_family):
        return next_token_loss(model, texts)


print(f"Qwen3's own function {next_token_loss(model, texts):.2f} nats per token")
if isinstance(gpt_oss(torch.zeros(1, 2), 1.702, 7.0), Tensor):
    print(f"gpt-oss's with its limit of 7 {loss_with(7.0):.2f}, without a limit {loss_with(1e6):.2f}")
else:
    print("gpt-oss's: write the function above")

# %% [markdown]
# ## 05.7 · Ablate: how many neurons does a token need?
#
# *12 minutes, difficulty 3 of 5.* In each expert, keep only the `count` neurons whose gates are open widest, for each
# token its own, and silence the others. **Predict** before you run the model: of the 32 neurons of an expert of the
# mini, how many must stay?


# %% exercise="05.7"
def keep_open(gate: Tensor, up: Tensor, count: int) -> Tensor:
    """gate, up: (token, ffn) -> SiLU(gate) * up for the `count` largest gates of each token, 0 for the others."""
    ### BEGIN SOLUTION
    chosen = gate.topk(count, dim=-1).indices
    mask = torch.zeros_like(gate).scatter(-1, chosen, 1.0)
    return F.silu(gate) * up * mask
    ### END SOLUTION


# %%
minimoe.check("05.7", keep_open)

# %% [markdown]
# Now in the mini, on held-out texts: the loss if the widest open neurons stay, and if as many random ones do.

# %%
texts = held_out_texts(tokenizer, each=1, seed="05.7")


def random_ones(gate, up, count):
    """The same as keep_open, with random neurons in the place of the widest open ones."""
    chosen = torch.rand(gate.shape, generator=generator).topk(count, dim=-1).indices
    return F.silu(gate) * up * torch.zeros_like(gate).scatter(-1, chosen, 1.0)


def loss_of(keep, count):
    """Next-token loss in nats, if `count` neurons stay."""

    def some(x, gate, up, down):
        return F.linear(keep(F.linear(x, gate), F.linear(x, up), count), down)

    with minimoe.workbench(model, swiglu=some):
        return next_token_loss(model, texts)


if isinstance(keep_open(torch.zeros(1, 2), torch.zeros(1, 2), 1), Tensor):
    print("neurons that stay   the widest open   random ones   (loss in nats per token)")
    for count in (0, 1, 2, 4, 16, 32):
        print(f"{count:17d} {loss_of(keep_open, count):17.1f} {loss_of(random_ones, count):13.1f}")
else:
    print("Write the function above: here you will see the loss with 0, 1, 2, 4, 16 and all 32 neurons.")

# %% [markdown]
# <details><summary>What the numbers say (for after your run)</summary>
#
# Two to four neurons of each chosen expert do the work. That doesn't make the others useless: they are the two to four
# of other tokens.
#
# </details>

# %%
minimoe.progress(5)
