"""Master of exercises/08_whole_model.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 08 · The whole model: exercises
#
# Lesson: [08 · The whole model, and the real one's names](../notebooks/08_whole_model.ipynb). About 105 minutes for all
# ten; if you have less, do 08.1, 08.2 and 08.8.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like. `minimoe.hint("08.1")` helps in three steps,
# `minimoe.solution("08.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import json
import re

import torch
from einops import rearrange
from torch import Tensor

import minimoe
from minimoe.checkpoint.layout import expected_tensors
from minimoe.course import damages
from minimoe.course.capture import held_out_texts, next_token_loss
from minimoe.course.table import table

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
config, big = model.config, minimoe.ModelConfig.named("Qwen3-235B-A22B")
names = [tensor.name for tensor in expected_tensors(big)]  # of the 235B, on disk
text = "Once upon a time a small bird lived in the garden. One day the"
token_ids = torch.tensor([tokenizer.encode(text)])

# %% [markdown]
# ## 08.1 · The block
#
# *8 minutes, difficulty 2 of 5.* One layer, from its four parts. They have the names that they have in the checkpoint,
# and each is a function that takes a tensor and returns one of the same shape. Don't change `x` itself in place: the
# caller may still need it.


# %% exercise="08.1"
def block(x: Tensor, input_layernorm, self_attn, post_attention_layernorm, mlp) -> Tensor:
    """x: (..., hidden), in the stream -> the stream after the layer. The four parts are functions of a tensor."""
    ### BEGIN SOLUTION
    x = x + self_attn(input_layernorm(x))
    return x + mlp(post_attention_layernorm(x))
    ### END SOLUTION


# %%
minimoe.check("08.1", block)

# %% [markdown]
# ### Yours, inside the model
#
# The model runs once with the library's layers and once with yours.

# %%
with minimoe.workbench(model, block=block) as bench:
    comparison = bench.compare(token_ids)
comparison

# %% [markdown]
# ## 08.2 · From the file to memory
#
# *10 minutes, difficulty 2 of 5.* In memory the leading `model.` is gone, and the matrices of all experts of a layer
# are stacked: `model.layers.3.mlp.experts.17.up_proj.weight` is row 17 of `layers.3.mlp.experts.up_proj`. All other
# names stay as they are, with `None` for the row.


# %% exercise="08.2"
def to_memory(name: str) -> tuple[str, int | None]:
    """A name in the files -> (name of the parameter, number of the expert or None)."""
    ### BEGIN SOLUTION
    name = name.removeprefix("model.")
    match = re.fullmatch(r"(.*\.experts)\.(\d+)\.(\w+)\.weight", name)
    return (f"{match[1]}.{match[3]}", int(match[2])) if match else (name, None)
    ### END SOLUTION


# %%
minimoe.check("08.2", to_memory)

# %% [markdown]
# Does it work for the real one? All 36,945 names of the 235B go through your function. Its parameters should be exactly
# those of the model.

# %%
with torch.device("meta"):
    parameters = {name for name, _ in minimoe.Transformer(big).named_parameters()}
if isinstance(to_memory(names[0]), tuple):
    mine = {to_memory(name)[0] for name in names}
    print(f"{len(names):,} names become {len(mine):,} parameters; {len(mine ^ parameters)} are not as in the model")
else:
    print("Write the function above: here you will see how many names and parameters that are.")

# %% [markdown]
# ## 08.3 · And back
#
# *8 minutes, difficulty 2 of 5.* The other direction, for saving.


# %% exercise="08.3"
def to_disk(parameter: str, expert: int | None) -> str:
    """(name of a parameter, number of the expert or None) -> the name in the files."""
    ### BEGIN SOLUTION
    if expert is not None:
        parameter = parameter.replace("experts.", f"experts.{expert}.") + ".weight"
    return parameter if parameter.startswith("lm_head") else f"model.{parameter}"
    ### END SOLUTION


# %%
minimoe.check("08.3", to_disk)

# %%
if isinstance(to_memory(names[0]), tuple) and isinstance(to_disk("norm.weight", None), str):
    changed = sum(to_disk(*to_memory(name)) != name for name in names)
    print(f"there and back: {changed:,} of {len(names):,} names of the 235B are others now")
else:
    print("Write both functions above: here you will see what becomes of all names on the way there and back.")

# %% [markdown]
# ## 08.4 · Rewrite with einops: fused experts
#
# *8 minutes, difficulty 2 of 5.* Newer files hold gate and up of all experts of a layer as one tensor,
# `experts.gate_up_proj`: in each expert first all gate rows, then all up rows. This function makes it:


# %%
def fuse_as_it_was(gate, up):
    fused = []
    for expert in range(gate.shape[0]):
        fused.append(torch.cat((gate[expert], up[expert]), 0))
    return torch.stack(fused)


# %% [markdown]
# Write it as one `rearrange`, in which every axis has a name. (einops also takes a list of tensors. The check looks at
# the result alone.)


# %% exercise="08.4"
def fuse(gate: Tensor, up: Tensor) -> Tensor:
    """gate, up: (expert, ffn, hidden) -> (expert, 2 * ffn, hidden), in each expert the gate rows first."""
    ### BEGIN SOLUTION
    return rearrange([gate, up], "two expert ffn hidden -> expert (two ffn) hidden")
    ### END SOLUTION


# %%
minimoe.check("08.4", fuse)

# %% [markdown]
# ## 08.5 · A strict loader for one shard
#
# *15 minutes, difficulty 3 of 5.* `parameters` are the tensors of a model by name, `shard` those of a file. Copy each
# tensor of the file **into** the model's tensor of the same name. If anything differs (a name that only one side has,
# a shape, a dtype), raise a `ValueError` whose text holds the name of the tensor, and leave the model as it was:
# nothing may be half loaded.


# %% exercise="08.5"
def load_shard(parameters: dict[str, Tensor], shard: dict[str, Tensor]) -> None:
    """Fill the model's tensors, or raise ValueError and change nothing."""
    ### BEGIN SOLUTION
    for name in [*parameters, *shard]:
        if name not in shard:
            raise ValueError(f"{name} is not in the file.")
        if name not in parameters:
            raise ValueError(f"{name} is in the file, but the model has no place for it.")
        mine, theirs = parameters[name], shard[name]
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            raise ValueError(
                f"{name} is {tuple(theirs.shape)} {theirs.dtype}, expected {tuple(mine.shape)} {mine.dtype}."
            )
    for name, values in shard.items():
        parameters[name].copy_(values)
    ### END SOLUTION


# %%
minimoe.check("08.5", load_shard)

# %% [markdown]
# Now the ten damages of the lesson's cabinet. Which of them does your loader refuse? (Two are in the config, so its
# files are whole.)

# %%
weights = damages.on_disk(model)


def verdict(shard):
    """What load_shard does with a file for the mini."""
    mine = {each: torch.zeros_like(values) for each, values in weights.items()}
    try:
        load_shard(mine, shard)
    except ValueError:
        return "refuses it"
    return "loads it" if mine["lm_head.weight"].any() else "..."


if verdict(weights) == "...":
    print("Write the function above: here you will see what it says to each of the ten.")
else:
    for name, damage in damages.DAMAGES.items():
        shard, _ = damage.change(weights, config)
        print(f"{name:20s} {verdict(shard)}")

# %% [markdown]
# ## 08.6 · Bug hunt: the lost update
#
# *12 minutes, difficulty 3 of 5.* This function runs a whole stack of layers. Each layer is a tuple of its four parts.
# It has a bug:


# %%
def suspicious(x, layers, norm, head):
    """x: (position, hidden), after the embedding; layers: tuples of four functions -> head's output."""
    for input_layernorm, self_attn, post_attention_layernorm, mlp in layers:
        middle = x + self_attn(input_layernorm(x))
        x = x + mlp(post_attention_layernorm(middle))
    return head(norm(x))


# %% [markdown]
# A test with numbers that can be followed by eye: the parts of layer *n* return 10 to the power of 2n (attention) and
# 2n + 1 (mlp), whatever they read. The stream starts at zero, and norm and head do nothing. So each digit of the result
# is one contribution, and there should be as many ones as there are parts:


# %%
def always(value):
    return lambda x: torch.full_like(x, value)


def same(x):
    return x


for count in (1, 2, 3):
    stack = [(same, always(10.0 ** (2 * n)), same, always(10.0 ** (2 * n + 1))) for n in range(count)]
    found = int(suspicious(torch.zeros(1, 1), stack, same, same))
    print(f"layers: {count}, contributions: {2 * count}, the stream: {found:0{2 * count}d}")

# %% [markdown]
# Which contributions are missing? Repair it. (As in 08.1, don't change `x` itself in place.)


# %% exercise="08.6"
def run_layers(x: Tensor, layers: list, norm, head) -> Tensor:
    """x: (position, hidden), after the embedding; layers: tuples of four functions -> head's output."""
    ### BEGIN SOLUTION
    for input_layernorm, self_attn, post_attention_layernorm, mlp in layers:
        x = x + self_attn(input_layernorm(x))
        x = x + mlp(post_attention_layernorm(x))
    return head(norm(x))
    ### END SOLUTION


# %%
minimoe.check("08.6", run_layers)

# %% [markdown]
# ## 08.7 · Estimate, then measure: where the parameters are
#
# *12 minutes, difficulty 3 of 5.* First guess, for the 235B: how many parameters are in the two embeddings, in
# attention, in the routers, in the experts and in the norms? An order of magnitude is enough. Write the five numbers
# down, then the formulas. (Attention: the four projections. Norms: all of them, those of queries and keys too.)


# %% exercise="08.7"
def count_parts(
    hidden: int, layers: int, heads: int, kv_heads: int, head_dim: int, experts: int, ffn: int, vocab: int
) -> dict[str, int]:
    """Parameters of all layers together, with the keys embeddings, attention, routers, experts, norms."""
    ### BEGIN SOLUTION
    return {
        "embeddings": 2 * vocab * hidden,
        "attention": 2 * layers * hidden * head_dim * (heads + kv_heads),
        "routers": layers * experts * hidden,
        "experts": 3 * layers * experts * ffn * hidden,
        "norms": layers * (2 * hidden + 2 * head_dim) + hidden,
    }
    ### END SOLUTION


# %%
minimoe.check("08.7", count_parts)

# %% [markdown]
# Now measure it: the mini's parameters counted, and the 235B by your formulas.


# %%
def by_formula(c):
    sizes = (
        c.hidden_size, c.num_hidden_layers, c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.num_experts,
        c.moe_intermediate_size, c.vocab_size,
    )  # fmt: skip
    return count_parts(*sizes)


counted = dict.fromkeys(("embeddings", "attention", "routers", "experts", "norms"), 0)
for name, parameter in model.named_parameters():
    part = "embeddings" if "embed" in name or "lm_head" in name else "norms" if "norm" in name else "attention"
    part = "experts" if ".experts." in name else "routers" if ".gate." in name else part
    counted[part] += parameter.numel()
mine, giant = by_formula(config), by_formula(big)
if isinstance(mine, dict):
    rows = {part: [count, mine.get(part, 0), giant.get(part, 0)] for part, count in counted.items()}
    rows["together"] = [sum(row[column] for row in rows.values()) for column in range(3)]
else:
    print("Write the function above: here you will see its numbers beside the counted ones.")
    rows = {part: [count, "...", "..."] for part, count in counted.items()}
print(f"the 235B has {big.total_parameters:,} parameters")
table(["the mini, counted", "the mini, yours", "the 235B, yours"], rows)

# %% [markdown]
# ## 08.8 · Ten broken checkpoints
#
# *15 minutes, difficulty 4 of 5.* Ten damaged copies of the mini were loaded by a loader that asks nothing. Each was
# asked to continue "Once upon a time", and its loss was measured on held-out texts. (Guessing among 2,048 tokens has a
# loss of 7.6; the undamaged mini has 0.5.) Here are the texts:

# %%
stored = json.loads((minimoe.find("data/damages") / "mini.json").read_text(encoding="utf-8"))
for each in stored["quiz"]:
    print(f"{each['letter']}  loss {each['loss']:4.1f}  Once upon a time{each['text']!r}\n")

# %% [markdown]
# And here is what was done, in another order. Write the letter at each place, **before** you run any of them:

# %% exercise="08.8"
predictions = {
    ### BEGIN SOLUTION: "missing head": ...,  # lm_head.weight is missing
    "missing head": "D",
    ### END SOLUTION
    ### BEGIN SOLUTION: "transposed o_proj": ...,  # every o_proj is stored as (in, out)
    "transposed o_proj": "J",
    ### END SOLUTION
    ### BEGIN SOLUTION: "gate and up": ...,  # gate_proj and up_proj are exchanged
    "gate and up": "E",
    ### END SOLUTION
    ### BEGIN SOLUTION: "rope_theta": ...,  # config.json says 10,000 instead of 1,000,000
    "rope_theta": "G",
    ### END SOLUTION
    ### BEGIN SOLUTION: "tied head": ...,  # config.json says tie_word_embeddings true
    "tied head": "A",
    ### END SOLUTION
    ### BEGIN SOLUTION: "keys and values": ...,  # k_proj and v_proj are exchanged
    "keys and values": "H",
    ### END SOLUTION
    ### BEGIN SOLUTION: "neighbours": ...,  # every expert has the number of its neighbour
    "neighbours": "C",
    ### END SOLUTION
    ### BEGIN SOLUTION: "missing routers": ...,  # every mlp.gate is missing
    "missing routers": "I",
    ### END SOLUTION
    ### BEGIN SOLUTION: "one row off": ...,  # each row of lm_head stands one row too low
    "one row off": "F",
    ### END SOLUTION
    ### BEGIN SOLUTION: "query and key norms": ...,  # q_norm and k_norm are exchanged
    "query and key norms": "B",
    ### END SOLUTION
}

# %%
minimoe.check("08.8", predictions)

# %% [markdown]
# Want to know more about one of them? Load it yourself: it's a model like any other. How sure is it of its words? Which
# of them would the library have refused?

# %%
name = "tied head"  # any of the ten
broken = damages.load_leniently(*damages.DAMAGES[name].change(weights, config))
with torch.no_grad():
    sure = broken(token_ids).softmax(dim=-1).amax(dim=-1).mean()
loss = next_token_loss(broken, held_out_texts(tokenizer, each=2, seed="08"))
says = damages.refusal(*damages.DAMAGES[name].change(weights, config)) or "the library loads it, too"
print(f"{name}: sure of its first choice to {sure:.0%} on average, loss {loss:.1f}\n{says}")

# %% [markdown]
# ## 08.9 · How many heads?
#
# *8 minutes, difficulty 3 of 5.* Somebody sends you a checkpoint without its config. You have the names and shapes of
# all tensors. How many query heads and key/value heads has it, and what is its head_dim?


# %% exercise="08.9"
def heads(shapes: dict[str, tuple[int, ...]]) -> tuple[int, int, int]:
    """Names -> shapes, as in the files. Returns (query heads, key/value heads, head_dim)."""
    ### BEGIN SOLUTION
    prefix = "model.layers.0.self_attn."
    head_dim = shapes[f"{prefix}q_norm.weight"][0]
    queries, keys = (shapes[f"{prefix}{kind}_proj.weight"][0] for kind in "qk")
    return queries // head_dim, keys // head_dim, head_dim
    ### END SOLUTION


# %%
minimoe.check("08.9", heads)

# %%
others = {"the mini": config, "the 235B": big, "Qwen3-0.6B": minimoe.ModelConfig.named("Qwen3-0.6B")}
for name, each in others.items():
    found = heads({tensor.name: tensor.shape for tensor in expected_tensors(each)})
    if found in (None, ...):
        print("Write the function above: here you will see the heads of the mini, the 235B and Qwen3-0.6B.")
        break
    print(f"{name}, hidden {each.hidden_size:,}: {found}")

# %% [markdown]
# ## 08.10 · Bug hunt: does this config belong to these files?
#
# *10 minutes, difficulty 3 of 5.* The index of a checkpoint lists the names of all tensors. Three keys of the config
# can be read from them, without any shape. This function does it, and it has a bug:


# %%
def suspicious_config(names):
    """Three settings, as the names tell them."""
    layers = sorted(name.split(".")[2] for name in names if ".layers." in name)
    experts = sorted(name.split(".")[5] for name in names if ".experts." in name)
    return {
        "num_hidden_layers": int(layers[-1]) + 1,
        "num_experts": int(experts[-1]) + 1,
        "tie_word_embeddings": "lm_head.weight" not in names,
    }


# %% [markdown]
# Its author tested it with a model of 8 layers and 8 experts. Here are three other models, by the function and by their
# configs:

# %%
others = {"the mini": config, "the 235B": big, "Qwen3-30B-A3B": minimoe.ModelConfig.named("Qwen3-30B-A3B")}
rows = {}
for name, each in others.items():
    found = suspicious_config([tensor.name for tensor in expected_tensors(each)])
    rows[f"{name}, from the names"] = [found["num_hidden_layers"], found["num_experts"]]
    rows[f"{name}, its config"] = [each.num_hidden_layers, each.num_experts]
table(["layers", "experts"], rows)

# %% [markdown]
# Wrong about the experts every time, and about the layers of only one model. Why that one? Repair it.


# %% exercise="08.10"
def config_from_names(names: list[str]) -> dict[str, int | bool]:
    """Names as in the files, in any order -> num_hidden_layers, num_experts and tie_word_embeddings."""
    ### BEGIN SOLUTION
    layers = {int(name.split(".")[2]) for name in names if ".layers." in name}
    experts = {int(name.split(".")[5]) for name in names if ".experts." in name}
    return {
        "num_hidden_layers": len(layers),
        "num_experts": len(experts),
        "tie_word_embeddings": "lm_head.weight" not in names,
    }
    ### END SOLUTION


# %%
minimoe.check("08.10", config_from_names)

# %% [markdown]
# ## How far you are

# %%
minimoe.progress(8)
