"""Master of exercises/13_smaller.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 13 · Smaller: exercises
#
# Lesson: [13 · Smaller](../notebooks/13_smaller.ipynb). About 85 minutes for all nine; if you have less, do 13.1, 13.8
# and 13.9.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like; `minimoe.hint("13.1")` helps in three steps,
# `minimoe.solution("13.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
from itertools import cycle
from types import SimpleNamespace

import torch
from einops import rearrange, reduce, repeat
from IPython.display import display
from torch import Tensor

import minimoe
from minimoe.course.capture import held_out_texts
from minimoe.course.figures import ch13_numbers
from minimoe.course.table import table
from minimoe.course.yardstick import look
from minimoe.model import experts as library
from minimoe.model.router import Routing
from minimoe.model.router import route as library_route
from minimoe.quantisation.rounding import round_int, rounded_weights
from minimoe.routing.ablation.prune import keep_highest
from minimoe.routing.trace.hooks import router_layers

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
config = model.config
text = "Once upon a time a big dog lived at school. One day the dog wanted a red ball."
domains = {"en": "English", "zh": "Chinese", "code": "Python", "math": "arithmetic"}
texts = {domain: held_out_texts(tokenizer, each=2, seed="13", domains=(domain,)) for domain in domains}

# %% [markdown]
# ## 13.1 · Numbers and scales
#
# *12 minutes, difficulty 2 of 5.* int4 by hand, without packing. Cut each row into groups of `group` neighbours. The
# scale of a group is its largest magnitude divided by 7; the numbers are its weights divided by the scale, rounded to
# the nearest integer. A group of zeros has the scale 0 and the numbers 0.


# %% exercise="13.1"
def quantise(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """weight (out, ins), float32, ins a multiple of group -> numbers (out, ins) int8, scales (out, ins / group)."""
    ### BEGIN SOLUTION
    groups = rearrange(weight, "out (group member) -> out group member", member=group)
    scale = reduce(groups.abs(), "out group member -> out group", "max") / 7
    step = rearrange(scale.masked_fill(scale == 0, 1), "out group -> out group 1")
    numbers = rearrange((groups / step).round(), "out group member -> out (group member)")
    return numbers.to(torch.int8), scale
    ### END SOLUTION


# %%
minimoe.check("13.1", quantise)

# %% [markdown]
# ### Yours, inside the model
#
# All 512 experts of the mini go through your function, in groups of 32, and the model runs with number times scale.
# **Predict:** how many choices of experts stay, of a hundred? (The routers aren't touched, and neither is the input
# of the first one.)


# %%
def through_yours(weight):
    numbers, scale = quantise(rearrange(weight, "expert out into -> (expert out) into"), 32)
    rounded = numbers * repeat(scale, "row group -> row (group member)", member=32)
    return rearrange(rounded, "(expert out) into -> expert out into", expert=len(weight))


def run_experts(x, routing, bank):
    kinds = ("gate_proj", "up_proj", "down_proj")
    return library.grouped(x, routing, SimpleNamespace(**{kind: through_yours(getattr(bank, kind)) for kind in kinds}))


written = quantise(torch.ones(1, 2), 2) is not None
with torch.no_grad(), minimoe.workbench(model, run_experts=run_experts if written else None) as bench:
    comparison = bench.compare(text, tokenizer)

# %% tags="nbval-ignore-output"
comparison

# %%
share = sum(comparison.identical.values()) / (comparison.choices * len(comparison.identical))
assert share > 0.8
print(f"about {5 * round(20 * share)} % of the choices stay" if written else "Write 13.1: here it runs.")

# %% [markdown]
# ## 13.2 · Two in a byte
#
# *10 minutes, difficulty 2 of 5.* The numbers of 13.1 are -7 to 7. Add 8, so that no sign is left, and put two
# neighbours of a row into one byte: the first of them (the even input) into the lower four bits, the second into the
# upper four.


# %% exercise="13.2"
def pack(numbers: Tensor) -> Tensor:
    """numbers (out, ins) int8 in -7..7, ins even -> (out, ins / 2) uint8."""
    ### BEGIN SOLUTION
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] | shifted[:, 1::2] << 4
    ### END SOLUTION


# %%
minimoe.check("13.2", pack)

# %% [markdown]
# Here are a few of your bytes, as bits. Can you read the numbers from them?

# %%
some = torch.tensor([[-7, 0, 1, 7, -1, 3]], dtype=torch.int8)
if pack(some) is None:
    print("Write the function above: here you will see its bits.")
else:
    print(f"numbers: {some[0].tolist()}")
    print(f"bytes:   {' '.join(format(byte, '08b') for byte in pack(some)[0].tolist())}")

# %% [markdown]
# ## 13.3 · Bug hunt: every number is there
#
# *8 minutes, difficulty 2 of 5.* Somebody wrote the way back:


# %%
def suspicious_unpack(stored):
    low, high = (stored & 15).char() - 8, (stored >> 4).char() - 8
    return torch.cat([low, high], dim=1)


# %% [markdown]
# Its author has compared shape, dtype, minimum, maximum, mean and histogram with the original, for a thousand
# matrices. All of them were equal. Here are six numbers that were packed, and what comes back:

# %%
stored = torch.tensor([[129, 249, 183]], dtype=torch.uint8)
rows = {"packed": some[0].tolist(), "unpacked": suspicious_unpack(stored)[0].tolist()}
table([f"input {number}" for number in range(6)], rows)

# %% exercise="13.3"
def unpack(stored: Tensor) -> Tensor:
    """stored (out, pair) uint8, as 13.2 makes it -> numbers (out, 2 · pair) int8."""
    ### BEGIN SOLUTION
    low, high = (stored & 15).char() - 8, (stored >> 4).char() - 8
    return rearrange([low, high], "two out pair -> out (pair two)")
    ### END SOLUTION


# %%
minimoe.check("13.3", unpack)

# %% [markdown]
# ## 13.4 · Bug hunt: the largest weight
#
# *8 minutes, difficulty 2 of 5.* Four bits hold sixteen numbers, and "-7 to 7" wastes one of them. So somebody wrote:


# %%
def suspicious_round(weight):
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 8
    return (weight / scale).round().clamp(-8, 7) * scale


# %% [markdown]
# Its steps are finer, and its mean error is smaller than that of -7 to 7. But somewhere it is off by much more than
# half a step. Here are two rows that differ in their signs only:

# %%
row = torch.tensor([[-2.0, -1.0, 0.5, 1.5], [2.0, 1.0, -0.5, -1.5]])
after = suspicious_round(row)
table([f"weight {n}" for n in range(4)], {
    "row 0": row[0].tolist(), "row 0, rounded": after[0].tolist(),
    "row 1": row[1].tolist(), "row 1, rounded": after[1].tolist(),
})  # fmt: skip

# %% [markdown]
# Repair it: one scale for each row, as before, so that the largest weight of every row comes out as it went in,
# whatever its sign.


# %% exercise="13.4"
def repaired_round(weight: Tensor) -> Tensor:
    """weight (out, ins), no row of zeros -> the same shape: each weight at the nearest of fifteen points."""
    ### BEGIN SOLUTION
    scale = reduce(weight.abs(), "out into -> out 1", "max") / 7
    return (weight / scale).round().clamp(-7, 7) * scale
    ### END SOLUTION


# %%
minimoe.check("13.4", repaired_round)

# %% [markdown]
# Is the sixteenth number really wasted? Here are three roundings of one matrix of the mini: the bug, yours, and a trick
# of llama.cpp (`Q4_0`), whose scale has a sign, so that the largest weight of a group always lands on -8.


# %%
def signed_round(weight):
    place = weight.abs().argmax(dim=1, keepdim=True)
    scale = weight.gather(1, place) / -8
    return (weight / scale).round().clamp(-8, 7) * scale


matrix = rearrange(model.layers[0].self_attn.q_proj.weight.data, "out (group member) -> (out group) member", member=32)
rows = {}
for name, rounding in {"the bug": suspicious_round, "yours": repaired_round, "with a sign": signed_round}.items():
    rounded = rounding(matrix)
    if rounded is None:
        rows[name] = ["to write", "to write"]
    else:
        end = (rounded - matrix).gather(1, matrix.abs().argmax(dim=1, keepdim=True)).abs().max() / matrix.abs().max()
        rows[name] = [f"{(rounded - matrix).norm() / matrix.norm():.1%}", f"{end:.1%}"]
table(["relative error", "largest weights off by up to"], rows)

# %% [markdown]
# <details><summary>What the numbers say (for after your run)</summary>
#
# Yours has the largest mean error of the three, and none at the ends. The trick has the best of both.
#
# </details>

# %% [markdown]
# ## 13.5 · Estimate: the bytes of a format
#
# *8 minutes, difficulty 2 of 5.* A model has `packed` parameters that a format packs with `bits` bits each; every
# `group` of them shares a scale of `scale_bits` bits. Its `plain` parameters stay as they are, in 16 bits. How many
# bytes is that? Guess first: the 235B with 4 bits, groups of 16 and a scale of 8 bits, in GB.


# %% exercise="13.5"
def model_bytes(packed: int, plain: int, bits: int, group: int, scale_bits: int) -> float:
    """Bytes of a packed model; packed is a multiple of group."""
    ### BEGIN SOLUTION
    return packed * (bits + scale_bits / group) / 8 + 2 * plain
    ### END SOLUTION


# %%
minimoe.check("13.5", model_bytes)

# %%
big = minimoe.ModelConfig.named("Qwen3-235B-A22B")
packed, plain = ch13_numbers.packed_parameters(big)
formats = {"MXFP4": (4, 32, 8), "NVFP4": (4, 16, 8), "int4, groups of 128": (4, 128, 16)}
formats["int4, groups of 16"] = (4, 16, 16)
sizes = {name: model_bytes(packed, plain, *each) for name, each in formats.items()}
table(["the 235B, GB"], {name: ["to write" if size is None else f"{size / 1e9:.1f}"] for name, size in sizes.items()})

# %% [markdown]
# ## 13.6 · Rewrite with einops: a scale for every block
#
# *6 minutes, difficulty 2 of 5.* FP8 checkpoints have one scale for each square of `size` outputs and `size` inputs.
# This function finds the largest magnitude of each square. It is right, and hard to read:


# %%
def blocks_as_they_were(weight, size):
    outs, ins = weight.shape
    blocks = weight.abs().view(outs // size, size, ins // size, size)
    return blocks.permute(0, 2, 1, 3).reshape(outs // size, ins // size, -1).max(dim=-1).values


# %% exercise="13.6"
def block_absmax(weight: Tensor, size: int) -> Tensor:
    """weight (outs, ins), both multiples of size -> (outs / size, ins / size)."""
    ### BEGIN SOLUTION
    return reduce(weight.abs(), "(row high) (column wide) -> row column", "max", high=size, wide=size)
    ### END SOLUTION


# %%
minimoe.check("13.6", block_absmax)

# %% [markdown]
# ## 13.7 · Saliency
#
# *10 minutes, difficulty 3 of 5.* Which experts can go? REAP asks what an expert does **when it is called**: of all
# slots that hold the expert, the mean of the slot's weight times the norm of the expert's output. An expert that no
# token has chosen gets 0.


# %% exercise="13.7"
def saliency(experts: Tensor, weights: Tensor, norms: Tensor, num_experts: int) -> Tensor:
    """experts (token, slot) int64, weights and norms (token, slot) -> (expert), in the dtype of norms."""
    ### BEGIN SOLUTION
    chosen = rearrange(experts, "token slot -> (token slot)")
    products = rearrange(weights * norms, "token slot -> (token slot)")
    total = torch.zeros(num_experts, dtype=norms.dtype).index_add(0, chosen, products)
    return total / chosen.bincount(minlength=num_experts).clamp_min(1)
    ### END SOLUTION


# %%
minimoe.check("13.7", saliency)

# %% [markdown]
# ## 13.8 · Predict, then measure: which tensor hurts most?
#
# *10 minutes, difficulty 2 of 5.* Ten times, **one kind** of matrix of the mini is rounded to int4 in groups of 32, in
# all layers, and everything else stays. The lesson has shown that all kinds lose about a tenth of themselves. What
# does it do to the next token (KL divergence), and to the choices of experts? The kinds are `embed_tokens`, `q_proj`,
# `k_proj`, `v_proj`, `o_proj`, `router`, `gate_proj`, `up_proj`, `down_proj`, `lm_head`.
#
# Write down your predictions first: the name of one kind, and four times True or False.

# %% exercise="13.8"
predictions = {
    ### BEGIN SOLUTION: "the kind that costs the most KL": ...,
    "the kind that costs the most KL": "lm_head",
    ### END SOLUTION
    ### BEGIN SOLUTION: "gate_proj and up_proj together cost more KL than v_proj": ...,
    "gate_proj and up_proj together cost more KL than v_proj": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "down_proj costs more KL than gate_proj": ...,
    "down_proj costs more KL than gate_proj": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "the router flips the most choices": ...,
    "the router flips the most choices": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "lm_head flips choices": ...,
    "lm_head flips choices": False,
    ### END SOLUTION
}

# %%
minimoe.check("13.8", predictions)

# %% [markdown]
# Now measure it. (`rounded_weights` rounds in the block and restores the model afterwards.)

# %% tags="nbval-ignore-output"
kinds = "embed_tokens q_proj k_proj v_proj o_proj router gate_proj up_proj down_proj lm_head"
if ... in predictions.values():
    print("Predict first, and run this cell again: here you will see what each kind costs.")
    kinds = ""
all_texts = [ids for of_domain in texts.values() for ids in of_domain]
exact = look(model, all_texts)
kl, flips = {}, {}
for kind in kinds.split():
    part = "mlp.gate.weight" if kind == "router" else kind
    with rounded_weights(model, lambda weight: round_int(weight, 4, 32), lambda name, part=part: part in name):
        changed = look(model, all_texts)
    kl[kind], by_layer = 1000 * exact.kl(changed), exact.flips(changed).values()
    flips[kind] = sum(by_layer) / len(by_layer)
rows = {kind: [f"{kl[kind]:.2f}", f"{flips[kind]:.1%}"] for kind in kl}
if rows:
    display(table(["KL, thousandths of a nat", "choices that flip"], rows))

# %%
if kl:
    assert len(kl) == 10 and flips["lm_head"] < 1e-6
    print(f"most KL: {max(kl, key=kl.get)}; most flips: {max(flips, key=flips.get)}")

# %% [markdown]
# ## 13.9 · Ablate: half of the experts
#
# *12 minutes, difficulty 3 of 5.* Write a router that chooses among the experts `keep` only. Experts keep their
# numbers (`keep` is a list of them, in ascending order). The weights are the softmax of the chosen experts' logits,
# highest first.


# %% exercise="13.9"
def route_among(logits: Tensor, keep: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """logits (token, expert), keep (kept) int64 -> experts (token, slot) int64, weights (token, slot)."""
    ### BEGIN SOLUTION
    best, places = logits[:, keep].topk(top_k, dim=-1)
    return keep[places], best.softmax(dim=-1)
    ### END SOLUTION


# %%
minimoe.check("13.9", route_among)

# %% [markdown]
# ### Yours, inside the model
#
# Your saliency (13.7) chooses 64 of 128 experts in each layer, once with texts of all four domains and once without
# Python; your router (13.9) runs. **Predict:** what do the four domains lose? (The texts here are few, so your numbers
# are noisier than those of the lesson.)


# %%
def given_to_experts(calibration):
    """layer -> what its experts are given in a run: a list of (x, routing)."""
    seen = {layer: [] for layer in router_layers(model)}

    def keep(layer):
        return model.layers[layer].mlp.experts.register_forward_pre_hook(lambda bank, given: seen[layer].append(given))

    handles = [keep(layer) for layer in seen]
    with torch.no_grad():
        for ids in calibration:
            model(ids, last_only=True)
    for handle in handles:
        handle.remove()
    return seen


def statistics_of(calibration):
    """(layer, expert): your saliency on these texts."""
    scores = []
    for layer, given in given_to_experts(calibration).items():
        x = torch.cat([x for x, _ in given])
        experts = torch.cat([routing.experts for _, routing in given])
        weights = torch.cat([routing.weights for _, routing in given])
        norms = ch13_numbers.output_norms(x, experts, model.layers[layer].mlp.experts)
        scores.append(saliency(experts, weights, norms, config.num_experts))
    return torch.stack(scores)


# %%
def losses(route=None):
    """Loss of each domain."""
    with minimoe.workbench(model, route=route or library_route):
        return [look(model, of_domain).loss for of_domain in texts.values()]


def among(keep):
    """Your router for all layers; keep: (layer, kept). Layers ask one after another."""
    rows = cycle(keep)
    return lambda logits, top_k, renormalise: Routing(logits, *route_among(logits, next(rows), top_k))


# %% tags="nbval-ignore-output"
one, more = torch.zeros(1, 1), {}
if saliency(one.long(), one, one, 1) is None or route_among(one, torch.tensor([0]), 1) is None:
    print("Write 13.7 and 13.9: here they prune the model.")
else:
    three = [domain for domain in domains if domain != "code"]
    everyone, no_code = (
        statistics_of(held_out_texts(tokenizer, each=5, seed="13 calibration", domains=chosen))
        for chosen in (list(domains), three)
    )
    before = losses()
    for what, scores in {"all domains": everyone, "all but Python": no_code}.items():
        after = losses(among(keep_highest(scores, 64)))
        more[what] = [new - old for old, new in zip(before, after, strict=True)]
    rows = {f"calibrated on {what}": [f"{value:+.2f}" for value in values] for what, values in more.items()}
    display(table([f"{name}, nats" for name in domains.values()], rows))

# %%
assert not more or more["all but Python"][2] > 0.5
for what, values in more.items():
    print(f"calibrated on {what}: {list(domains.values())[values.index(max(values))]} loses most")

# %%
minimoe.progress(13)
