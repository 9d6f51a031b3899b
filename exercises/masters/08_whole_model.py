"""Master of exercises/08_whole_model.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 08 · The whole model: exercises
#
# Lesson: [08 · The whole model](../notebooks/08_whole_model.ipynb).

# %%
import minimoe
from torch import Tensor


# %% exercise="08.1"
def block(x: Tensor, input_layernorm, self_attn, post_attention_layernorm, mlp) -> Tensor:
    """x: (..., hidden), in the stream -> the stream after the layer. The four parts are functions of a tensor."""
    ### BEGIN SOLUTION
    x = x + self_attn(input_layernorm(x))
    return x + mlp(post_attention_layernorm(x))
    ### END SOLUTION


# %%
minimoe.check("08.1", block)
