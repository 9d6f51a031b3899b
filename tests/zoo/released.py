"""The released classes of transformers at a small size, with random weights."""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from minimoe.zoo import FAMILIES

TOKENS, HIDDEN, EXPERTS, TOP_K, FFN = 131, 48, 16, 4, 24
DTYPES = (torch.float32, torch.bfloat16)

LOCAL = {"hidden_size": HIDDEN, "num_local_experts": EXPERTS, "num_experts_per_tok": TOP_K, "intermediate_size": FFN}
NAMED = {"hidden_size": HIDDEN, "num_experts": EXPERTS, "num_experts_per_tok": TOP_K, "moe_intermediate_size": FFN}
ROUTED = {
    "hidden_size": HIDDEN,
    "n_routed_experts": EXPERTS,
    "num_experts_per_tok": TOP_K,
    "moe_intermediate_size": FFN,
}
GATED = {**NAMED, "shared_expert_intermediate_size": 40}

# What the config of each class is given. Groups and scale are added from the rule (`config_of`).
CONFIGS: dict[str, dict[str, Any]] = {
    "mixtral": LOCAL,
    "qwen2_moe": {**GATED, "norm_topk_prob": False},
    "qwen3_moe": {**NAMED, "norm_topk_prob": True},
    "qwen3_next": {**GATED, "norm_topk_prob": True},
    "qwen3_5_moe_text": GATED,
    "olmoe": {**NAMED, "intermediate_size": FFN, "norm_topk_prob": False},
    "dbrx": {
        "d_model": HIDDEN,
        "ffn_config": {
            "hidden_size": HIDDEN, "ffn_hidden_size": FFN, "moe_num_experts": EXPERTS, "moe_top_k": TOP_K,
            "moe_normalize_expert_weights": 1.0,
        },
    },
    "hunyuan_v1_moe": {"hidden_size": HIDDEN, "num_experts": EXPERTS, "moe_topk": TOP_K, "intermediate_size": FFN},
    "granitemoe": LOCAL,
    "gpt_oss": LOCAL,
    "deepseek_v2": {**ROUTED, "num_attention_heads": 4, "topk_method": "group_limited_greedy", "n_shared_experts": 2},
    "deepseek_v3": ROUTED,
    "deepseek_v32": ROUTED,
    "glm4_moe": {**ROUTED, "n_shared_experts": 1},
    "glm_moe_dsa": ROUTED,
    "kimi_linear": {**NAMED, "num_local_experts": EXPERTS},
    "mimo_v2_flash": ROUTED,
    "minimax_m2": LOCAL,
    "deepseek_v4": {**ROUTED, "vocab_size": 300},
    "ernie4_5_moe": {"hidden_size": HIDDEN, "moe_num_experts": EXPERTS, "moe_k": TOP_K, "moe_intermediate_size": FFN},
    "longcat_flash": {
        "hidden_size": HIDDEN, "n_routed_experts": EXPERTS - 4, "zero_expert_num": 4, "num_experts_per_tok": TOP_K,
        "expert_ffn_hidden_size": FFN,
    },
    "llama4_text": {**LOCAL, "num_experts_per_tok": 1},
    "phimoe": {**LOCAL, "num_experts_per_tok": 2},
    "switch_transformers": {"d_model": HIDDEN, "num_experts": EXPERTS, "expert_capacity": 7},
}  # fmt: skip


def released(family: str, class_name: str, dtype: torch.dtype, seed: int = 0) -> nn.Module:
    """A class of transformers/models/`family`, eager, in inference, with random weights in `dtype`.

    Selection biases stay float32, as `from_pretrained` keeps them; so does Hunyuan's router.
    """
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    config = config_of(family)
    try:
        built = getattr(module, class_name)(config)
    except TypeError:  # a class that wants the number of its layer
        built = getattr(module, class_name)(config, 0)
    draw = torch.Generator().manual_seed(seed)
    for name, value in [*built.named_parameters(), *built.named_buffers()]:
        if value.dtype.is_floating_point:
            drawn = torch.randn(value.shape, generator=draw) * (0.1 if "bias" in name else 0.3)
            kept_wide = "correction_bias" in name or name.endswith("wg.weight")
            value.data = drawn if kept_wide else drawn.to(dtype)
    return built.eval()


def config_of(family: str) -> Any:
    """The small config of a family, with the groups and the scale of its rule."""
    from transformers import AutoConfig

    key = family if family in CONFIGS else f"{family}_text"
    values = dict(CONFIGS[key])
    if family in FAMILIES and FAMILIES[family].rule.slots_sorted is False and family != "minimax_m2":
        rule = FAMILIES[family].rule
        values["routed_scaling_factor"] = rule.scale
        if family not in ("deepseek_v4", "longcat_flash"):
            values |= {"n_group": rule.groups, "topk_group": rule.groups_kept}
            values |= {} if family == "deepseek_v2" else {"norm_topk_prob": rule.renormalise}
    config = AutoConfig.for_model(key, **values)
    config._experts_implementation = "eager"
    return config


def hidden_states(dtype: torch.dtype, seed: int = 1) -> Tensor:
    """Random tokens (token, hidden)."""
    return torch.randn(TOKENS, HIDDEN, generator=torch.Generator().manual_seed(seed)).to(dtype)


def value(module: nn.Module, ending: str) -> Tensor | None:
    """The parameter or buffer whose name ends so, flattened if it is a bias; None if there is none."""
    named = [
        tensor.detach()
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
        if name.endswith(ending)
    ]
    return None if not named else named[0].flatten() if "bias" in ending else named[0]
