"""Chapter 16, the router zoo: what a switch changes, predicted (16.6)."""

from typing import Any

from minimoe.course.checker.exercise import Exercise

RIGHT: dict[str, Any] = {
    "sigmoid for softmax: other experts": False,
    "all logits times 2, softmax: other experts": False,
    "all logits times 2, sigmoid: other weights": True,
    "a bias of 0.1 on one expert, sigmoid: other experts possible": True,
    "scale 2.5 instead of 1: other ratios of the weights": False,
    "a bias of 0.1 on every expert: other experts": False,
    "√softplus, 2 is added to all logits: other experts": False,
    "of 8 groups 1 is kept: experts that can be chosen": 16,
}
REASONS = {
    "sigmoid for softmax: other experts":
        "both grow with the logit. What does that say about the order of the scores?",
    "all logits times 2, softmax: other experts":
        "what does a factor above zero do to the order of the logits?",
    "all logits times 2, sigmoid: other weights":
        "compare the ratio of two sigmoids before and after, for the logits 1 and 0.5.",
    "a bias of 0.1 on one expert, sigmoid: other experts possible":
        "one expert rises in the order, the others stay. Who is pushed out if it was just below the cut?",
    "scale 2.5 instead of 1: other ratios of the weights":
        "every weight is multiplied by the same 2.5. What is left of it in a ratio?",
    "a bias of 0.1 on every expert: other experts":
        "every expert gets the same 0.1. What happens to their order?",
    "√softplus, 2 is added to all logits: other experts":
        "the logits keep their order, and √softplus grows with the logit.",
    "of 8 groups 1 is kept: experts that can be chosen":
        "128 experts in 8 groups of the same size. How many stand in one group?",
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
            "softmax, sigmoid and √softplus all grow with the logit. A factor cancels in a ratio. A bias on one expert "
            "moves that one alone. A dropped group is at minus infinity.",
        ),
        now_you_know="experts follow from the order of the scores, weights from their ratios.",
        expected=RIGHT,
        reasons=REASONS,
        mutants={
            "other function, other experts": (
                wrong(q0=True),
                "another score function seems to choose others. Both functions grow, so the order stays.",
            ),
            "a factor, other experts": (
                wrong(q1=True),
                "a factor of 2 seems to change the order. It moves the logits apart, and none overtakes another.",
            ),
            "a factor cancels in the sigmoid": (
                wrong(q2=False),
                "a factor seems to leave the sigmoid's weights alone. The ratio of two sigmoids changes with it.",
            ),
            "one bias moves nobody": (
                wrong(q3=False),
                "a bias on one expert seems to change no choice. An expert just below the cut comes in with it.",
            ),
            "a scale changes ratios": (wrong(q4=True), "the scale is a factor of every weight; it cancels in a ratio."),
            "a shift in the softplus": (
                wrong(q6=True),
                "a shift seems to choose others. All logits rise alike, and √softplus keeps their order.",
            ),
            "one expert per group": (
                wrong(q7=8),
                "the 128 experts stand in eight groups of sixteen; one group is left.",
            ),
        },
        accepted={"as numbers": {key: int(v) if isinstance(v, bool) else v for key, v in RIGHT.items()},
                  "in another order": dict(reversed(RIGHT.items()))},
    ),
)  # fmt: skip
