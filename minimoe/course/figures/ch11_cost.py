"""Chapter 11: the operations of a training run, and the days of a GPU that they take."""

from minimoe.model.config import ModelConfig


def operations(config: ModelConfig, tokens: float, context: int, all_experts: bool = False) -> tuple[float, float]:
    """(operations in matrices, in the scores of attention) of training on a number of tokens in rows of `context`.

    Six for each weight and token: a multiplication and an addition forward, twice as many backward. The token embedding
    is a lookup and left out. A position attends to half of its row on average. all_experts: as if every expert ran.
    """
    c = config
    parameters = c.total_parameters if all_experts else c.active_parameters
    matrices = 6 * (parameters - c.vocab_size * c.hidden_size)
    attention = 3 * c.num_hidden_layers * 4 * c.num_attention_heads * c.head_dim * context / 2
    return tokens * matrices, tokens * attention


def gpu_days(operations: float, peak: float, utilisation: float) -> float:
    """Days of one GPU. peak: its operations a second; utilisation: the share of the peak that is reached."""
    return operations / (peak * utilisation) / (24 * 3600)
