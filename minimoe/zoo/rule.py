"""The rule of a router: five switches that say what it does, and four details that decide the last bit."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from minimoe.errors import BadArgument

Score = Literal["softmax", "sigmoid", "sqrt_softplus"]
GroupScore = Literal["max", "top2_sum"]


@dataclass(frozen=True)
class Rule:
    """How a router turns the logits of a token into experts and weights. `route` carries it out.

    The number of experts a token gets (top-k) belongs to a checkpoint, not to the rule. Raises BadArgument for
    values that do not fit together.
    """

    # Switch 1: the function that turns logits into scores.
    score: Score = "softmax"
    # Switch 2: True scores all experts and chooses among the scores. False chooses by the logits, then scores the
    # chosen ones alone: a softmax then runs over the chosen ones (gpt-oss).
    score_first: bool = True
    # Switch 3: experts stand in groups of equal size; a token chooses inside the best `groups_kept` of them. A group is
    # ranked by its best expert ("max", DeepSeek V2) or the sum of its two best ("top2_sum", DeepSeek V3).
    groups: int = 1
    groups_kept: int = 1
    group_score: GroupScore = "max"
    # Switch 4: a bias (one value per expert) is added for the choice, never to a weight (arXiv:2408.15664).
    selection_bias: bool = False
    # Switch 5: divide the weights by their sum, then multiply by `scale`.
    renormalise: bool = True
    scale: float = 1.0

    # Details of the released code. They change the last bits of a weight, and the choice only between near ties.
    epsilon: float = 0.0  # added to the sum that divides
    logits_float32: bool = False  # the router's product is computed in float32; else in the dtype of the model
    scores_float32: bool = True  # the score function is computed in float32; else in the dtype of the logits
    weights_float32: bool = False  # the weights stay in float32; else they are cast to the dtype of the model
    slots_sorted: bool = True  # slots in descending order; else in the order that topk(sorted=False) leaves

    def __post_init__(self) -> None:
        if self.score not in get_args(Score):
            raise BadArgument(f"score is {self.score!r}; expected one of {', '.join(get_args(Score))}")
        if self.group_score not in get_args(GroupScore):
            raise BadArgument(f"group_score is {self.group_score!r}; expected {' or '.join(get_args(GroupScore))}")
        if not 1 <= self.groups_kept <= self.groups:
            raise BadArgument(
                f"groups_kept is {self.groups_kept} of {self.groups} groups; expected 1 to {self.groups}: keep one "
                "group at least, and no more than there are"
            )

    @property
    def idea(self) -> "Rule":
        """The same rule with the details at their defaults: two rules with one idea differ in last bits alone."""
        plain = Rule()
        return replace(
            self,
            epsilon=plain.epsilon,
            logits_float32=plain.logits_float32,
            scores_float32=plain.scores_float32,
            weights_float32=plain.weights_float32,
            slots_sorted=plain.slots_sorted,
            group_score=self.group_score if self.groups_kept < self.groups else plain.group_score,
            groups=self.groups if self.groups_kept < self.groups else 1,
            groups_kept=self.groups_kept if self.groups_kept < self.groups else 1,
        )


def describe(rule: Rule) -> str:
    """The rule in one line of words.

    For example: "sigmoid; choose by score + bias in 4 of 8 groups (sum of the two best); renormalise; × 2.5".
    """
    score = rule.score.replace("sqrt_softplus", "sqrt(softplus)")
    chosen_by = ("score" if rule.score_first else "logit") + (" + bias" if rule.selection_bias else "")
    choice = f"choose by {chosen_by}"
    if rule.groups_kept < rule.groups:
        ranked = "best expert" if rule.group_score == "max" else "sum of the two best"
        choice += f" in {rule.groups_kept} of {rule.groups} groups ({ranked})"
    steps = [score, choice] if rule.score_first else [choice, f"{score} of the chosen"]
    if rule.renormalise:
        steps.append("renormalise")
    if rule.scale != 1.0:
        steps.append(f"× {rule.scale:g}")
    return "; ".join(steps)
