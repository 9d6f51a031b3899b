"""The router zoo: the routers of other Mixture-of-Experts models, beside Qwen3's.

`route` with a `Rule` covers most; the odd ones have a file each. All are equal to the bit to the released classes.
"""

from minimoe.zoo.balance import load_of, quantile_bias, update_bias
from minimoe.zoo.block import gpt_oss_expert, run_chosen, stacked_swiglu
from minimoe.zoo.checkpoints import Checkpoint, checkpoints
from minimoe.zoo.experts_choose import ExpertChoice, expert_choice
from minimoe.zoo.families import FAMILIES, Family, families_with
from minimoe.zoo.groups import drop_groups, score_groups
from minimoe.zoo.hash_routing import balanced_table, hash_route
from minimoe.zoo.history import Change, history
from minimoe.zoo.input_scaling import run_on_weighted_input, weigh_inputs
from minimoe.zoo.router import choose, route, router_logits, scores_of, weigh
from minimoe.zoo.rule import Rule, describe
from minimoe.zoo.shared import shared_expert
from minimoe.zoo.sparse_mixer import sparsemixer
from minimoe.zoo.switch import SwitchRouting, switch_route

__all__ = [
    "FAMILIES",
    "Change",
    "Checkpoint",
    "ExpertChoice",
    "Family",
    "Rule",
    "SwitchRouting",
    "balanced_table",
    "checkpoints",
    "choose",
    "describe",
    "drop_groups",
    "expert_choice",
    "families_with",
    "gpt_oss_expert",
    "hash_route",
    "history",
    "load_of",
    "quantile_bias",
    "route",
    "router_logits",
    "run_chosen",
    "run_on_weighted_input",
    "score_groups",
    "scores_of",
    "shared_expert",
    "sparsemixer",
    "stacked_swiglu",
    "switch_route",
    "update_bias",
    "weigh",
    "weigh_inputs",
]
READING_ORDER = (
    "rule", "router", "groups", "families", "sparse_mixer", "hash_routing", "switch", "experts_choose",
    "input_scaling", "shared", "block", "balance",
)  # fmt: skip
