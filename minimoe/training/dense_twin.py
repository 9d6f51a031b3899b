"""A dense model of the same active size: what a Mixture-of-Experts is to be compared with."""

from dataclasses import replace

from minimoe.model.config import ModelConfig


def dense_twin(config: ModelConfig) -> ModelConfig:
    """The dense `qwen3` that has, to within half a unit of its feed-forward, as many parameters as `config` has active.

    Everything but the feed-forward is equal. One unit of it is a row of gate and up and a column of down: 3 x hidden.
    """
    shell = replace(config, model_type="qwen3", num_experts=0, intermediate_size=1)
    unit = 3 * config.hidden_size * config.num_hidden_layers
    width = 1 + round((config.active_parameters - shell.total_parameters) / unit)
    return replace(shell, intermediate_size=width)
