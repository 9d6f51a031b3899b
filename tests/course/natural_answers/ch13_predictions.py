"""Natural answers to 13.8: which tensor hurts most."""

from minimoe.course.exercises.ch13_experts import HURTS, predictions
from tests.course.natural_answers.collect import Collection

collection = Collection("13.8")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers
MOST, SIZE, DOWN, ROUTER, HEAD = HURTS
RIGHT = predictions((False,) * len(HURTS))


def but(**changes):
    """The right predictions with other answers: most, size, down, router, head."""
    names = {"most": MOST, "size": SIZE, "down": DOWN, "router": ROUTER, "head": HEAD}
    return RIGHT | {names[name]: value for name, value in changes.items()}


wrong("13.8", "the router costs the most", "logits", "last")(but(most="router"))
wrong("13.8", "down_proj costs the most", "logits", "last")(but(most="down_proj"))
wrong("13.8", "v_proj costs the most", "logits", "last")(but(most="v_proj"))
wrong("13.8", "the embedding costs the most", "logits", "last")(but(most="embed_tokens"))
wrong("13.8", "the largest ones", "size", "errors")(but(size=True))
wrong("13.8", "gate is as bad as down", "residual")(but(down=False))
wrong("13.8", "attention flips more", "detour")(but(router=False))
wrong("13.8", "the head flips, too", "after")(but(head=True))
wrong("13.8", "size and position", "size", "residual")(but(size=True, down=False))
wrong("13.8", "all of it", "logits")(predictions((True,) * len(HURTS)))
wrong("13.8", "numbers for words", "number", "text", "true")(but(most=3))
wrong("13.8", "a word for yes", "text", "true")(but(size="no"))

right("13.8", "as a dictionary")(dict(RIGHT))
right("13.8", "with a capital")(but(most="LM_head"))
right("13.8", "zeros and ones")(but(size=0, down=1, router=1, head=0))
right("13.8", "with a blank")(but(most=" lm_head "))
right("13.8", "another order")(dict(reversed(RIGHT.items())))
right("13.8", "a full stop")(but(most="lm_head."))
