"""Make the frozen golden: a tiny float32 Qwen3-MoE saved by `transformers`, and what it computes.

    python -m tests.golden.make

Written once and committed, so that exactness is tested also where transformers is not installed.
"""

from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from tests.model.reference import save_reference

HERE = Path(__file__).parent
SHAPE = dict(
    vocab_size=96, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    intermediate_size=24, moe_intermediate_size=16, num_experts=16, num_experts_per_tok=4, mlp_only_layers=[1],
    initializer_range=0.25, max_position_embeddings=128,
)  # fmt: skip


def main() -> None:
    save_reference(HERE / "checkpoint", max_shard_size="120KB", **SHAPE)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        HERE / "checkpoint", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model.set_experts_implementation("eager")
    ids = torch.randint(0, 96, (2, 20), generator=torch.Generator().manual_seed(7))
    experts = []
    for layer in model.model.layers:
        if hasattr(layer.mlp, "gate"):
            layer.mlp.gate.register_forward_hook(lambda module, args, output: experts.append(output[2]))
    with torch.no_grad():
        output = model(ids, output_hidden_states=True, use_cache=False)
    tensors = {"ids": ids, "logits": output.logits, "experts": torch.stack(experts)}
    tensors |= {
        f"hidden.{n}": state for n, state in enumerate(output.hidden_states[:-1])
    }  # the last one is already normed
    made_with = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "experts": "eager",
        "attention": "eager",
    }
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        HERE / "expected.safetensors",
        metadata=made_with,
    )


if __name__ == "__main__":
    main()
