"""One router with switches, which covers most released Mixture-of-Experts models.

score -> choose (with bias, inside groups) -> weigh (renormalise, scale)
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from minimoe.errors import BadArgument
from minimoe.model.norm import at_least_float32
from minimoe.model.router import Routing
from minimoe.zoo.groups import drop_groups
from minimoe.zoo.rule import Rule


def router_logits(hidden: Tensor, weight: Tensor, rule: Rule, bias: Tensor | None = None) -> Tensor:
    """The logits of each token: hidden times weight, and in gpt-oss a learned bias.

    hidden: (token, hidden). weight: (expert, hidden). bias: (expert). Returns (token, expert), in float32 if the rule
    says so, else in the dtype of `hidden`.
    """
    if rule.logits_float32:
        wide = at_least_float32(hidden.dtype)
        hidden, weight, bias = hidden.to(wide), weight.to(wide), None if bias is None else bias.to(wide)
    return F.linear(hidden, weight, bias)


def scores_of(logits: Tensor, rule: Rule) -> Tensor:
    """The score function along the last axis, in float32 if the rule says so. Any shape, which is returned.

    softmax compares the experts with each other; sigmoid (DeepSeek V3) and sqrt(softplus) (V4) look at each alone.
    """
    if rule.scores_float32:
        logits = logits.to(at_least_float32(logits.dtype))
    if rule.score == "softmax":
        return logits.softmax(dim=-1)
    return logits.sigmoid() if rule.score == "sigmoid" else F.softplus(logits).sqrt()


def choose(scores: Tensor, top_k: int, rule: Rule, bias: Tensor | None = None) -> Tensor:
    """The `top_k` best experts of each token. scores: (token, expert) -> (token, slot) int64.

    The bias (expert) is added to the scores here, and here only; then groups are dropped.
    """
    choice = drop_groups(scores if bias is None else scores + bias, rule)
    return choice.topk(top_k, dim=-1, sorted=rule.slots_sorted).indices


def weigh(scores: Tensor, rule: Rule) -> Tensor:
    """The weights of the chosen experts: their scores, divided by the sum and scaled as the rule says.

    scores: (token, slot) -> (token, slot).
    """
    if rule.renormalise:
        scores = scores / (scores.sum(dim=-1, keepdim=True) + rule.epsilon)
    return scores * rule.scale


def route(
    logits: Tensor, top_k: int, rule: Rule, bias: Tensor | None = None, dtype: torch.dtype | None = None
) -> Routing:
    """Select `top_k` experts for each token, with their weights, by any rule.

    logits: (token, expert). bias: (expert) in float32, for the choice alone; given if and only if the rule has a
    selection bias. dtype: that of the model, to which weights are cast unless they stay float32; default that of the
    logits. Raises BadArgument for a top_k or a bias that does not fit.
    """
    check(logits, top_k, rule, bias)
    if rule.score_first:
        scores = scores_of(logits, rule)
        experts = choose(scores, top_k, rule, bias)
        chosen = scores.gather(-1, experts)
    else:
        experts = choose(logits, top_k, rule, bias)
        chosen = scores_of(logits.gather(-1, experts), rule)
    weights = weigh(chosen, rule)
    return Routing(logits, experts, weights if rule.weights_float32 else weights.to(dtype or logits.dtype))


def check(logits: Tensor, top_k: int, rule: Rule, bias: Tensor | None) -> None:
    """Raise BadArgument if rule, logits, top_k and bias do not fit together."""
    experts = logits.shape[-1]
    if experts % rule.groups:
        raise BadArgument(f"{experts} experts cannot stand in {rule.groups} equal groups")
    available = experts // rule.groups * rule.groups_kept
    if not 1 <= top_k <= available:
        raise BadArgument(f"top_k is {top_k}; expected 1 to {available}, the number of experts to choose from")
    if rule.group_score == "top2_sum" and rule.groups_kept < rule.groups and experts // rule.groups < 2:
        raise BadArgument(f"{rule.groups} groups of one expert have no two best: use group_score='max'")
    if rule.selection_bias and bias is None:
        raise BadArgument("the rule has a selection bias: give `bias`, one value an expert (zeros for none)")
    if bias is not None and not rule.selection_bias:
        raise BadArgument("`bias` was given, but the rule has no selection bias: set selection_bias=True")
    if bias is not None and bias.shape != (experts,):
        raise BadArgument(f"bias has shape {tuple(bias.shape)}; expected ({experts},), one value an expert")
