"""Expert choice: the experts choose their tokens, instead of tokens their experts (arXiv:2202.09368)."""

from typing import NamedTuple

from einops import rearrange
from torch import Tensor

from minimoe.model.norm import at_least_float32


class ExpertChoice(NamedTuple):
    """Which tokens each expert takes. A token may be taken by several experts, or by none."""

    tokens: Tensor  # (expert, slot) int64, in descending order of weight
    weights: Tensor  # (expert, slot), in the dtype of the logits


def expert_choice(logits: Tensor, capacity: int) -> ExpertChoice:
    """Each expert takes the `capacity` tokens with the highest probability for it.

    logits: (token, expert). The softmax is over the experts of a token, the top-k over the tokens of an expert. The
    load is equal by construction, but the choice for a token depends on all others, also on later ones: a model that
    writes one token after another cannot use it as it is.
    """
    probabilities = logits.softmax(dim=-1, dtype=at_least_float32(logits.dtype))
    weights, tokens = rearrange(probabilities, "token expert -> expert token").topk(capacity, dim=-1)
    return ExpertChoice(tokens, weights.to(logits.dtype))
