"""Chapter 16, the router zoo: what a switch changes, predicted (16.6)."""

from typing import Any

from minimoe.course.checker.exercise import Exercise

RIGHT: dict[str, Any] = {
    "sigmoid for softmax: other experts": False,
    "sigmoid for softmax: other weights": True,
    "2 is added to all logits, softmax: other weights": False,
    "2 is added to all logits, sigmoid: other weights": True,
    "softmax over the chosen alone: other weights": False,
    "a bias of 0.1 on every expert: other experts": False,
    "V3's weights sum to": 2.5,
    "of 8 groups 4 are kept: the chosen stand in at most ... groups": 4,
}
REASONS = {
    "sigmoid for softmax: other experts":
        "both grow with the logit. What does that say about the order of the scores?",
    "sigmoid for softmax: other weights":
        "compare the ratio of two scores: exp(a) / exp(b) against sigmoid(a) / sigmoid(b), for two large logits.",
    "2 is added to all logits, softmax: other weights":
        "exp(x + 2) is exp(x) times a factor, above and below the line of the fraction.",
    "2 is added to all logits, sigmoid: other weights":
        "a sigmoid looks at a logit alone: where on its curve does the logit lie before, and where after?",
    "softmax over the chosen alone: other weights":
        "write both as exp(a) divided by a sum, and divide the weights of Qwen3 by their sum.",
    "a bias of 0.1 on every expert: other experts": "every expert gets the same 0.1. What happens to their order?",
    "V3's weights sum to": "they are divided by their sum first, and then multiplied by V3's scale.",
    "of 8 groups 4 are kept: the chosen stand in at most ... groups":
        "experts of a dropped group have the score minus infinity. How many groups are left to choose from?",
}  # fmt: skip


def wrong(**changes: Any) -> dict[str, Any]:
    """The right answers with some of them changed; a key is `q` and the number of the question."""
    answers = dict(RIGHT)
    questions = list(RIGHT)
    for key, value in changes.items():
        answers[questions[int(key[1:])]] = value
    return answers


EXERCISES = (
    Exercise(
        id="16.6",
        title="Predict: what does a switch change?",
        kind="predict",
        minutes=8,
        difficulty=2,
        hints=(
            "Ask twice for each line: does the order of the scores change? And do their ratios?",
            "Experts follow from the order of the scores. Renormalised weights follow from their ratios. A scale "
            "changes neither, only the sum.",
            "softmax: exp(x) over a sum, so a shift cancels. sigmoid: it grows with x, too, and is nearly flat for "
            "large x. A dropped group is at minus infinity.",
        ),
        now_you_know="experts follow from the order of the scores, weights from their ratios.",
        expected=RIGHT,
        reasons=REASONS,
        mutants={
            "other function, other experts": (
                wrong(q0=True),
                "another score function seems to choose others. Both functions grow, so the order stays.",
            ),
            "a shift reaches the softmax": (
                wrong(q2=True),
                "a shift seems to change the softmax. It is a factor of every exponential, and cancels.",
            ),
            "nothing reaches the sigmoid": (
                wrong(q3=False),
                "a shift seems to leave the sigmoid alone. It moves the logits to another place of its curve.",
            ),
            "the order of softmax and top-k counts": (
                wrong(q4=True),
                "the late softmax seems to weigh otherwise. With the division both are the same numbers.",
            ),
            "sum of one": (wrong(q6=1.0), "the weights are renormalised, and then multiplied by the scale."),
            "all groups": (wrong(q7=8), "four of the eight groups are dropped before anything is chosen."),
        },
        accepted={"as numbers": {key: int(v) if isinstance(v, bool) else v for key, v in RIGHT.items()},
                  "in another order": dict(reversed(RIGHT.items()))},
    ),
)  # fmt: skip
