"""The families whose router `route` covers, by the model type that transformers gives them.

A family is one released router class, with the rule of its best known checkpoint. Others of the family may differ in
scale and groups: GLM-4.5 and GLM-4.5-Air have the same class, and scale by 2.5 and 1.
"""

from dataclasses import dataclass, replace
from typing import Literal

from minimoe.zoo.rule import Rule

Shared = Literal["none", "plain", "gated"]


@dataclass(frozen=True)
class Family:
    """A released router, with the class of transformers 5.23 that it is compared with."""

    title: str  # of the models, for people
    rule: Rule
    router_class: str  # in transformers.models.NAME.modeling_NAME; tests/zoo compares with it to the bit
    shared: Shared = "none"  # an expert that every token uses: plain, or gated by a sigmoid of the token
    weighs: Literal["output", "input"] = "output"  # the side of an expert that its weight multiplies
    learned_bias: bool = False  # the router's linear layer has a bias, trained by gradient like any weight


# The softmax families ------------------------------------------------------------------------------------------------
QWEN3 = Rule()
MIXTRAL = replace(QWEN3, weights_float32=True)
QWEN2 = replace(QWEN3, renormalise=False)
DBRX = replace(QWEN3, scores_float32=False)
HUNYUAN = replace(QWEN3, logits_float32=True, weights_float32=True)
GRANITE = Rule(score_first=False, renormalise=False)
GPT_OSS = replace(GRANITE, scores_float32=False)
DEEPSEEK_V2 = Rule(
    groups=8, groups_kept=3, group_score="max", renormalise=False, scale=16.0,
    logits_float32=True, weights_float32=True, slots_sorted=False,
)  # fmt: skip
ERNIE = Rule(selection_bias=True, logits_float32=True)
LONGCAT = Rule(
    selection_bias=True, renormalise=False, scale=6.0, logits_float32=True, weights_float32=True, slots_sorted=False
)

# The sigmoid families, and what followed ----------------------------------------------------------------------------
DEEPSEEK_V3 = Rule(
    score="sigmoid", selection_bias=True, groups=8, groups_kept=4, group_score="top2_sum", scale=2.5,
    epsilon=1e-20, logits_float32=True, weights_float32=True, slots_sorted=False,
)  # fmt: skip
ONE_GROUP = replace(DEEPSEEK_V3, groups=1, groups_kept=1)
MINIMAX_M2 = Rule(score="sigmoid", selection_bias=True, weights_float32=True, slots_sorted=False)
DEEPSEEK_V4 = Rule(
    score="sqrt_softplus", selection_bias=True, scale=1.5, epsilon=1e-20, scores_float32=False, slots_sorted=False
)
LLAMA4 = Rule(score="sigmoid", score_first=False, renormalise=False)

FAMILIES: dict[str, Family] = {
    "mixtral": Family("Mixtral", MIXTRAL, "MixtralTopKRouter"),
    "qwen2_moe": Family("Qwen1.5-MoE, Qwen2-MoE", QWEN2, "Qwen2MoeTopKRouter", shared="gated"),
    "qwen3_moe": Family("Qwen3-MoE", QWEN3, "Qwen3MoeTopKRouter"),
    "qwen3_next": Family("Qwen3-Next", QWEN3, "Qwen3NextTopKRouter", shared="gated"),
    "qwen3_5_moe": Family("Qwen3.5, Qwen3.6", QWEN3, "Qwen3_5MoeTopKRouter", shared="gated"),
    "olmoe": Family("OLMoE", QWEN2, "OlmoeTopKRouter"),
    "dbrx": Family("DBRX", DBRX, "DbrxFFN"),
    "hunyuan_v1_moe": Family("Hunyuan-A13B", HUNYUAN, "HunYuanMoEV1Gate", shared="plain"),
    "granitemoe": Family("Granite-MoE", GRANITE, "GraniteMoeTopKRouter"),
    "gpt_oss": Family("gpt-oss", GPT_OSS, "GptOssTopKRouter", learned_bias=True),
    "deepseek_v2": Family("DeepSeek-V2", DEEPSEEK_V2, "DeepseekV2TopkRouter", shared="plain"),
    "deepseek_v3": Family("DeepSeek-V3, V3.1, R1", DEEPSEEK_V3, "DeepseekV3TopkRouter", shared="plain"),
    "deepseek_v32": Family("DeepSeek-V3.2", DEEPSEEK_V3, "DeepseekV32TopkRouter", shared="plain"),
    "glm4_moe": Family("GLM-4.5, 4.6, 4.7", ONE_GROUP, "Glm4MoeTopkRouter", shared="plain"),
    "glm_moe_dsa": Family("GLM-5", ONE_GROUP, "GlmMoeDsaTopkRouter", shared="plain"),
    "kimi_linear": Family("Kimi Linear", ONE_GROUP, "KimiLinearTopkRouter", shared="plain"),
    "mimo_v2_flash": Family("MiMo-V2-Flash", ONE_GROUP, "MiMoV2FlashTopkRouter"),
    "minimax_m2": Family("MiniMax-M2, M2.5", MINIMAX_M2, "MiniMaxM2TopKRouter"),
    "deepseek_v4": Family("DeepSeek-V4", DEEPSEEK_V4, "DeepseekV4TopKRouter", shared="plain"),
    "ernie4_5_moe": Family("ERNIE 4.5", ERNIE, "Ernie4_5_MoeTopKRouter", shared="plain"),
    "longcat_flash": Family("LongCat-Flash", LONGCAT, "LongcatFlashTopkRouter"),
    "llama4": Family("Llama 4", LLAMA4, "Llama4Router", shared="plain", weighs="input"),
}


def families_with(rule: Rule) -> list[str]:
    """The names of the families with the same idea: every switch alike, the details that decide last bits ignored."""
    return [name for name, family in FAMILIES.items() if family.rule.idea == rule.idea]
