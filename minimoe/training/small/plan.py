"""What a small training run is: its sizes and its recipe."""

from dataclasses import dataclass

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.training.evaluation.dense_twin import dense_twin

SCOPES = ("layer", "pooled", "row")


@dataclass(frozen=True)
class Plan:
    """One small run. The defaults are the run that the others are compared with.

    scope: which tokens the load-balancing loss counts together: those of the batch in each layer, those of the batch in
    all layers at once ("pooled"), or those of one row of the batch. switch: the step from which the loss is added.
    """

    experts: int = 16
    top_k: int = 2
    width: int = 32  # neurons of an expert
    renormalise: bool = True
    scope: str = "layer"
    coefficient: float = 0.02
    switch: int = 0
    z_coefficient: float = 0.0
    bias_rate: float = 0.0
    shared_width: int = 0  # neurons of a shared expert
    dense: bool = False  # the dense twin instead
    steps: int = 300
    seed: int = 0
    learning_rate: float = 5e-3
    warm_up: int = 20

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise BadArgument(f"scope is {self.scope!r}, expected one of {', '.join(SCOPES)}.")

    @property
    def config(self) -> ModelConfig:
        """The config of the model: two layers, 64 wide, with the vocabulary of the mini."""
        config = ModelConfig(
            vocab_size=2048,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            intermediate_size=self.top_k * self.width,
            moe_intermediate_size=self.width,
            num_experts=self.experts,
            num_experts_per_tok=self.top_k,
            norm_topk_prob=self.renormalise,
            rope_theta=1e6,
        )
        return dense_twin(config) if self.dense else config

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, then constant, so that two runs can be compared at any step."""
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up)
