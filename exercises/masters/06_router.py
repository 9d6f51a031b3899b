"""Master of exercises/06_router.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 06 · The router: exercises
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing,
# `minimoe.hint("06.1")` helps in three steps, and `minimoe.solution("06.1")` shows all of it. Nothing breaks if you
# leave one out.

# %%
import torch
from torch import Tensor

import minimoe
from minimoe.model.router import Routing

model, tokenizer = minimoe.load("data/mini", dtype="fp32")

# %% [markdown]
# ## 06.1 · Fill in the router
#
# *12 minutes, difficulty 2 of 5.* Logits come in, one row for each token. Choose `top_k` experts for each, and
# say how much each one counts.


# %% exercise="06.1"
def route(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """logits: (token, expert). Returns Routing(logits, experts, weights), the last two (token, slot)."""
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
# ## Yours, inside the model
#
# The model runs once with the library's router and once with yours. What do you expect to see in the picture?

# %%
with minimoe.workbench(model, route=route) as bench:
    comparison = bench.compare("The cat sees a red bird.", tokenizer)
comparison

# %%
minimoe.progress(6)
