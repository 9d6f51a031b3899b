"""A dense model with as many parameters as a Mixture-of-Experts has active, for comparison."""

from dataclasses import replace

from minimoe.model.config import ModelConfig


def dense_twin(config: ModelConfig) -> ModelConfig:
    """The config of the dense `qwen3` model whose total parameters equal the active parameters of `config`.

    Only the feed-forward width differs, rounded to whole units. In each layer, a unit is one row of gate_proj, one row
    of up_proj and one column of down_proj: 3 x hidden parameters.
    """
    narrowest = replace(config, model_type="qwen3", num_experts=0, intermediate_size=1)
    unit = 3 * config.hidden_size * config.num_hidden_layers
    width = 1 + round((config.active_parameters - narrowest.total_parameters) / unit)
    return replace(narrowest, intermediate_size=width)
