"""The reference for parity: small random `transformers` models, and the same weights in ours."""

from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

from minimoe import ModelConfig, Transformer

# our engine <-> the reference's experts implementation with the same roundings
SAME_ROUNDING = {"loop": "eager", "gather": "batched_mm", "grouped": "grouped_mm"}

BASE = dict(
    vocab_size=320, hidden_size=64, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2, head_dim=32,
    intermediate_size=96, moe_intermediate_size=48, num_experts=128, num_experts_per_tok=8, norm_topk_prob=True,
    rope_parameters={"rope_theta": 1e6, "rope_type": "default"}, max_position_embeddings=512, tie_word_embeddings=False,
    initializer_range=0.15,
)  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 64}
SHAPES: dict[str, dict] = {
    "128 experts": {},
    "160 experts, 96 to 8 heads": dict(num_experts=160, num_attention_heads=96, num_key_value_heads=8, head_dim=16),
    "a dense layer in between": dict(mlp_only_layers=[1]),
    "every second layer dense": dict(decoder_sparse_step=2),
    "YaRN": dict(rope_parameters=YARN),
    "no renormalisation": dict(norm_topk_prob=False, num_experts=24, num_experts_per_tok=3),
    "tied embeddings": dict(tie_word_embeddings=True, num_experts=16, num_experts_per_tok=2),
    "dense qwen3": dict(model_type="qwen3"),
}


@dataclass
class Pair:
    """One model twice: the reference's and ours, with equal weights."""

    reference: nn.Module
    ours: Transformer

    def set(self, engine: str, attention: str) -> None:
        """Choose our engine and attention, and the reference's of the same rounding."""
        self.ours.engine, self.ours.attention = engine, attention
        self.reference.set_attn_implementation(attention)
        if hasattr(self.reference, "set_experts_implementation"):
            self.reference.set_experts_implementation(SAME_ROUNDING[engine])

    def logits(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.reference(ids, use_cache=False).logits, self.ours(ids)


def save_reference(directory: Path, max_shard_size: str = "5GB", **changes: object) -> None:
    """A seeded reference model with logits of standard deviation above 1 and margins like a trained router's."""
    settings = BASE | changes
    dense = settings.pop("model_type", "qwen3_moe") == "qwen3"
    torch.manual_seed(20261123)
    if dense:
        reference = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**settings))
    else:
        reference = transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**settings))
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
            if name.endswith("mlp.gate.weight"):
                parameter.mul_(1.5)
            if name.endswith(("lm_head.weight", "embed_tokens.weight")):
                parameter.mul_(2)
    reference.save_pretrained(directory, max_shard_size=max_shard_size)


def load_pair(directory: Path, dtype: torch.dtype) -> Pair:
    """Both models from a saved reference; with dtype= there, as a later .to(dtype) would round its rotary table too."""
    reference = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    ours = Transformer(ModelConfig.from_file(directory)).to(dtype).eval()
    ours.load_state_dict(translate(reference.state_dict()))
    return Pair(reference, ours.requires_grad_(False))


def translate(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reference's in-memory names to ours: no leading `model.`, gate and up of the experts apart."""
    ours = {}
    for name, tensor in state.items():
        name = name.removeprefix("model.")
        if name.endswith("experts.gate_up_proj"):
            bank = name.removesuffix("gate_up_proj")
            ours[bank + "gate_proj"], ours[bank + "up_proj"] = tensor.chunk(2, dim=1)
        else:
            ours[name] = tensor
    return ours


def assert_as_exact_as_the_reference(ours: Tensor, reference: Tensor, truth: Tensor) -> None:
    """`ours` and `reference` are float32 logits, `truth` the same logits in float64, from our model: there
    `transformers` still computes norms and softmax in float32.

    The rounding error depends on the instruction set, for both libraries alike. So the error of the reference has to be
    below 1e-5 of the logits' standard deviation, and ours at most twice that of the reference.
    """
    error = (reference.double() - truth).abs().max()
    assert error <= 1e-5 * truth.std()
    assert (ours.double() - truth).abs().max() <= 2 * error
