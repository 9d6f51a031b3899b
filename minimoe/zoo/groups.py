"""Groups of experts: a token may choose only inside its best groups.

In training each group is on one node, so a token is sent to few nodes (DeepSeek-V2, arXiv:2405.04434).
"""

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from minimoe.zoo.rule import Rule


def score_groups(choice: Tensor, rule: Rule) -> Tensor:
    """The score of each group: its best expert, or the sum of its two best.

    choice: (token, expert), what the experts are chosen by. Returns (token, group).
    """
    members = rearrange(choice, "token (group member) -> token group member", group=rule.groups)
    if rule.group_score == "max":
        return reduce(members, "token group member -> token group", "max")
    return reduce(members.topk(2, dim=-1).values, "token group slot -> token group", "sum")


def drop_groups(choice: Tensor, rule: Rule) -> Tensor:
    """`choice` (token, expert) with -inf for the experts of all groups but the best `rule.groups_kept`."""
    if rule.groups_kept == rule.groups:
        return choice
    scores = score_groups(choice, rule)
    best = scores.topk(rule.groups_kept, dim=-1, sorted=False).indices
    kept = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)
    member = choice.shape[-1] // rule.groups
    return choice.masked_fill(~repeat(kept, "token group -> token (group member)", member=member), float("-inf"))
