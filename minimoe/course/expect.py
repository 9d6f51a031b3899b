"""expect: the assertions of a lesson about the mini model, which do not apply to another model."""

import json
from functools import cache

from minimoe.errors import MinimoeError
from minimoe.model.transformer import Transformer
from minimoe.paths import find


class NotAsExpected(MinimoeError, AssertionError):
    """A sentence of the lesson does not hold in this run."""


def expect(*claims: bool, of: Transformer | None = None, says: str = "") -> None:
    """Assert what a lesson's text says about its numbers.

    of: the model that the claims are about; they are skipped unless it has the shape of `data/mini`. Without a model
    they are always checked. says: the sentence of the lesson, for the error. Raises NotAsExpected.
    """
    if of is not None and not is_mini(of):
        return
    for number, claim in enumerate(claims, 1):
        if not claim:
            what = says or f"claim {number} of {len(claims)}"
            raise NotAsExpected(f"the text of this lesson does not hold in this run: {what}.")


def is_mini(model: Transformer) -> bool:
    """Whether a model has the shape of `data/mini`, which the lessons' sentences about "the mini" are about."""
    config = model.config
    return all(getattr(config, name) == value for name, value in mini_shape().items())


@cache
def mini_shape() -> dict[str, int]:
    """The sizes by which `data/mini` is recognised."""
    stored = json.loads((find("data/mini") / "config.json").read_text(encoding="utf-8"))
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_experts")
    return {name: stored[name] for name in names}
