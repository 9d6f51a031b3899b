"""Master of exercises/11_training.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 11 · Training a small Mixture of Experts: exercises
#
# Lesson: [11 · Training a small Mixture of Experts](../notebooks/11_training.ipynb). About 100 minutes for all nine; if
# you have less, do 11.1, 11.2 and 11.8.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like; `minimoe.hint("11.1")` helps in three steps,
# `minimoe.solution("11.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import torch
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor
from torch.nn import functional as F

import minimoe
from minimoe.course.table import table
from minimoe.model.router import route
from minimoe.training.losses import load_balancing_loss
from minimoe.training.small.stored import load_of, stored_runs

model, tokenizer = minimoe.load("data/mini", dtype="fp32")
runs = stored_runs()

# %% [markdown]
# ## 11.1 · f and P
#
# *10 minutes, difficulty 2 of 5.* Logits come in, one row for each token. Two numbers for each expert come out: **f**,
# the share of the tokens that chose it in any slot, and **P**, its probability, averaged over the tokens. Probability
# means the softmax over all experts.


# %% exercise="11.1"
def shares(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """logits: (token, expert) -> (f, P), both (expert) float32. f sums to top_k, P to one."""
    ### BEGIN SOLUTION
    probabilities = logits.float().softmax(dim=-1)
    experts = probabilities.topk(top_k, dim=-1).indices
    chosen = F.one_hot(experts, logits.shape[-1]).float()
    f = reduce(chosen, "token slot expert -> token expert", "sum").mean(dim=0)
    return f, probabilities.mean(dim=0)
    ### END SOLUTION


# %%
minimoe.check("11.1", shares)

# %% [markdown]
# ## 11.2 · The balancing loss
#
# *12 minutes, difficulty 3 of 5.* The loss of one layer, as the family applies it: the number of experts, times the sum
# over experts of f times P. The check also goes back through it: the gradient has to arrive at the logits.


# %% exercise="11.2"
def balance(logits: Tensor, top_k: int) -> Tensor:
    """logits: (token, expert) -> a number, as a float32 tensor without axes."""
    ### BEGIN SOLUTION
    probabilities = logits.float().softmax(dim=-1)
    experts = probabilities.topk(top_k, dim=-1).indices
    f = F.one_hot(experts, logits.shape[-1]).float().sum(dim=1).mean(dim=0)
    return logits.shape[-1] * (f * probabilities.mean(dim=0)).sum()
    ### END SOLUTION


# %%
minimoe.check("11.2", balance)

# %% [markdown]
# ### Yours, inside a training run
#
# Two small models are trained for eight steps, from the same weights and on the same batches: one with the library's
# loss, one with yours. **Predict:** will their losses agree in no digit, in one, or in at least three?

# %%
from minimoe.course.figures.ch11_live import compare_balance

compare_balance(balance)

# %% [markdown]
# ## 11.3 · Entropy and dead experts
#
# *10 minutes, difficulty 2 of 5.* Two numbers that say how a layer is doing. The **entropy** of its load in bits:
# log2 of the number of experts if the load is even, 0 if one expert does everything. And how many experts are **dead**:
# those with less than a tenth of an even share.


# %% exercise="11.3"
def health(counts: Tensor) -> tuple[Tensor, Tensor]:
    """counts: (layer, expert) int64 -> (entropy in bits, dead): (layer) float32 and (layer) int64."""
    ### BEGIN SOLUTION
    share = counts / counts.sum(dim=-1, keepdim=True)
    nats = torch.special.entr(share).sum(dim=-1)  # -p log p, and 0 for p = 0
    dead = (share < 0.1 / counts.shape[-1]).sum(dim=-1)
    return nats / torch.log(torch.tensor(2.0)), dead
    ### END SOLUTION


# %%
minimoe.check("11.3", health)

# %% [markdown]
# Now apply it to the last record of three runs: `base` (coefficient 0.02), `loss_0` (none), `bias` (bias instead of a
# loss). 16 experts: an even load has 4 bits.

# %%
rows = {}
for name in ("base", "loss_0", "bias"):
    answer = health((1000 * load_of(runs[name])[-1]).round().long())
    rows[name] = ["write the function above", ""] if answer is None else [
        ", ".join(f"{bits:.1f}" for bits in answer[0].tolist()), ", ".join(map(str, answer[1].tolist()))
    ]  # fmt: skip
table(["bits, layer by layer", "dead experts, layer by layer"], rows)

# %% [markdown]
# ## 11.4 · Bug hunt: three classic mistakes
#
# *12 minutes, difficulty 3 of 5.* Somebody wrote the balancing loss for a framework whose routers return probabilities.
# All three mistakes in it have been made in public. The loss falls during training, and the experts die all the same.


# %%
def suspicious(probabilities: Tensor, top_k: int) -> Tensor:
    num_experts = probabilities.shape[-1]
    probabilities = probabilities.softmax(dim=-1)
    weights, experts = probabilities.topk(top_k, dim=-1)
    chosen = F.one_hot(experts, num_experts).to(probabilities.dtype)
    f = reduce(chosen, "token slot expert -> expert", "sum") / len(probabilities)
    P = einsum(weights, chosen, "token slot, token slot expert -> expert") / len(probabilities)
    return (f * P).sum()


even = repeat(torch.eye(4) * 0.76 + 0.06, "token expert -> (copy token) expert", copy=2)  # two tokens for each expert
same = torch.tensor([[0.94, 0.02, 0.02, 0.02]] * 8)  # all sure of the same one
rows = {"even load": [float(suspicious(even, 1)), "1"], "all on one expert": [float(suspicious(same, 1)), "3.76"]}
table(["what it says", "what it should say"], rows)

# %% [markdown]
# Write it so that it says what it should. The argument holds probabilities: each row sums to one. The loss is close to
# the number of experts if all tokens choose the same experts with near certainty.


# %% exercise="11.4"
def repaired(probabilities: Tensor, top_k: int) -> Tensor:
    """probabilities: (token, expert) -> a number: top_k for an even load, more for an uneven one."""
    ### BEGIN SOLUTION
    num_experts = probabilities.shape[-1]
    experts = probabilities.topk(top_k, dim=-1).indices
    chosen = F.one_hot(experts, num_experts).to(probabilities.dtype)
    f = reduce(chosen, "token slot expert -> expert", "sum") / len(probabilities)
    P = reduce(probabilities, "token expert -> expert", "mean")
    return num_experts * (f * P).sum()
    ### END SOLUTION


# %%
minimoe.check("11.4", repaired)

# %% [markdown]
# ## 11.5 · Predict: what gets through top-k
#
# *10 minutes, difficulty 3 of 5.* One token, 16 experts, all scores different. "Divided" means that the weights of the
# chosen are divided by their sum, "moves" that the gradient of a score is not zero. Put a number at each place
# **before** you run the cell after it.

# %% exercise="11.5"
predictions = {
    ### BEGIN SOLUTION: "two chosen, divided: scores that the next-token loss moves": ...,
    "two chosen, divided: scores that the next-token loss moves": 2,
    ### END SOLUTION
    ### BEGIN SOLUTION: "two chosen, not divided: scores that it moves": ...,
    "two chosen, not divided: scores that it moves": 16,
    ### END SOLUTION
    ### BEGIN SOLUTION: "two chosen, divided: the gradients of all scores add up to": ...,
    "two chosen, divided: the gradients of all scores add up to": 0,
    ### END SOLUTION
    ### BEGIN SOLUTION: "one chosen, divided: scores that it moves": ...,
    "one chosen, divided: scores that it moves": 0,
    ### END SOLUTION
    ### BEGIN SOLUTION: "the balancing loss: scores that it moves": ...,
    "the balancing loss: scores that it moves": 16,
    ### END SOLUTION
    ### BEGIN SOLUTION: "two chosen, divided, all outputs the same: scores that the next-token loss moves": ...,
    "two chosen, divided, all outputs the same: scores that the next-token loss moves": 0,
    ### END SOLUTION
}

# %% [markdown]
# Now run it: random scores, random outputs of the experts, and the loss is the squared distance from a random target.

# %%
generator = torch.Generator().manual_seed(11)
outputs, target = torch.randn(16, 8, generator=generator).double(), torch.randn(8, generator=generator).double()
same_outputs = repeat(outputs[0], "hidden -> expert hidden", expert=16)


def gradient(loss):
    """The gradient of a loss for the scores of one token."""
    scores = torch.randn(1, 16, generator=torch.Generator().manual_seed(3)).double().requires_grad_()
    loss(scores).backward()
    return scores.grad


def task(top_k, divided, outputs):
    def loss(scores):
        _, experts, weights = route(scores, top_k, divided)
        mixed = einsum(weights[0], outputs[experts[0]], "slot, slot hidden -> hidden")
        return (mixed - target).square().sum()

    return gradient(loss)


found = {
    "two chosen, divided": task(2, True, outputs),
    "two chosen, not divided": task(2, False, outputs),
    "one chosen, divided": task(1, True, outputs),
    "the balancing loss": gradient(lambda scores: load_balancing_loss([scores], 2)),
    "all outputs the same": task(2, True, same_outputs),
}
rows = {what: [int((g.abs() > 1e-9).sum()), f"{abs(float(g.sum())):.2f}"] for what, g in found.items()}
if ... in predictions.values():
    rows = {"Predict first, and run this cell again.": ["", ""]}
table(["scores that move", "sum of the gradients, without its sign"], rows)

# %%
minimoe.check("11.5", predictions)

# %% [markdown]
# ## 11.6 · Estimate: what a training run costs
#
# *12 minutes, difficulty 3 of 5.* How many operations is the training of a model on a given number of tokens, and how
# many days of one GPU? Count matrix products only, a multiplication and an addition as two; leave out the scores of
# attention. (The lesson's 160,000 days include them; yours do not.) The token embedding is a lookup and costs nothing,
# and every other active parameter, those of the norms included, counts as a weight of a matrix.
# `config.active_parameters` contains the input embedding and the output matrix.


# %% exercise="11.6"
def cost(config: minimoe.ModelConfig, tokens: float, peak: float, utilisation: float) -> tuple[float, float]:
    """(operations, GPU-days). peak: operations a second of one GPU; utilisation: the share of it that is reached."""
    ### BEGIN SOLUTION
    multiplied = config.active_parameters - config.vocab_size * config.hidden_size
    operations = 6 * multiplied * tokens  # forward 2, backward 4
    return operations, operations / (peak * utilisation) / (24 * 3600)
    ### END SOLUTION


# %%
minimoe.check("11.6", cost)

# %% [markdown]
# ## 11.7 · Rewrite with einops: the load of each row
#
# *10 minutes, difficulty 3 of 5.* A balancing loss over single rows of a batch needs f for each row. This function is
# right, and hard to read. Which axes does `view` split? Over which one does `mean(1)` go?


# %%
def shares_as_it_was(experts, rows, num_experts):
    hits = torch.zeros(experts.shape[0], num_experts)
    hits.scatter_(1, experts, 1.0)
    return hits.view(rows, -1, num_experts).mean(1)


# %% [markdown]
# Write it so that every axis has a name.


# %% exercise="11.7"
def shares_by_row(experts: Tensor, rows: int, num_experts: int) -> Tensor:
    """experts (token, slot) int64, the tokens row after row -> (row, expert) float32: share of the row's tokens."""
    ### BEGIN SOLUTION
    chosen = F.one_hot(experts, num_experts).float()
    hits = reduce(chosen, "token slot expert -> token expert", "sum")
    return reduce(hits, "(row position) expert -> row expert", "mean", row=rows)
    ### END SOLUTION


# %%
minimoe.check("11.7", shares_by_row)

# %% [markdown]
# ## 11.8 · Ablate: which experts did the run lose?
#
# *15 minutes, difficulty 4 of 5.* A recorded run holds the load of each expert after every ten steps, as a share of all
# choices in its layer. An expert is **lost** at record r if its load is below a tenth of an even share in record r and
# in all later ones, and r is the first such record. Record 0 is step 10. (One that is low in the last record only is
# lost at that record. One that is low for a while and comes back is not lost.)


# %% exercise="11.8"
def lost_at(load: Tensor) -> Tensor:
    """load: (record, layer, expert), shares -> (layer, expert) int64: the first lost record, or -1 if never lost."""
    ### BEGIN SOLUTION
    low = load * load.shape[-1] < 0.1
    tail = low.flip(0).int().cumprod(dim=0).sum(dim=0)  # how many records at the end are low
    return torch.where(tail > 0, len(load) - tail, -1)
    ### END SOLUTION


# %%
minimoe.check("11.8", lost_at)

# %% [markdown]
# Now take the balancing loss away: the same run with its coefficient at 0.02 and at 0, and one in which it is switched
# on after 200 of its 400 steps (the others have 300). How many of the 32 experts are lost?

# %%
rows = {}
for name in ("base", "loss_0", "switched_on"):
    load = load_of(runs[name])
    lost, until_200 = lost_at(load), lost_at(load[:20])
    rows[name] = ["write the function above", ""] if lost is None else [
        int((until_200 >= 0).sum()), int((lost >= 0).sum())
    ]  # fmt: skip
table(["lost, judging by the first 200 steps", "lost, judging by the whole run"], rows)

# %% [markdown]
# ## 11.9 · Balance without a loss
#
# *10 minutes, difficulty 2 of 5.* Every expert has a bias, which is added to its probability for the choice and for
# nothing else. After each step it is moved: an expert with fewer tokens than the mean goes up by `rate`, one with more
# goes down by `rate`, one with exactly the mean stays. Then the mean of all biases is subtracted, so that they do not
# drift.


# %% exercise="11.9"
def moved(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    """bias (expert), counts (expert) int64 -> the new bias (expert), in the dtype of the old one, with mean zero."""
    ### BEGIN SOLUTION
    counts = counts.to(bias.dtype)
    new = bias + rate * (counts.mean() - counts).sign()
    return new - new.mean()
    ### END SOLUTION


# %%
minimoe.check("11.9", moved)

# %%
minimoe.progress(11)
