"""The numbers that decide the claims, computed from configs, counts, the planner, the tables and a trace of the mini.

Lesson 15 computes the same numbers in its cells, and compares them with these.
"""

from functools import cache
from typing import Any

import torch

from minimoe.course.article.claims import published
from minimoe.course.article.tables import higher, tables
from minimoe.course.figures.ch08_names import families
from minimoe.course.figures.ch12_claims import Tally
from minimoe.model.config import ModelConfig
from minimoe.paths import find
from minimoe.routing.trace.trace import RoutingTrace
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.gpus import CARDS
from minimoe.scale.planner.model_size import plan

GB, BILLION, TRILLION = 10**9, 10**9, 10**12
CONTEXT = 32_768  # tokens in the cache, where the article names no number
BATCH, TOP_USED = 32, 32
OFFERS = {"two_a100": ("A100-80GB", 2), "four_4090": ("RTX 4090", 4), "one_a100": ("A100-80GB", 1)}


def quantities() -> dict[str, Any]:
    """All numbers by name, a new dictionary. `_b`, `_t`: billions, trillions; `_gb`: 10**9 bytes."""
    return dict(computed())


@cache
def computed() -> dict[str, Any]:
    """The numbers of `quantities`, computed once."""
    april, update = ModelConfig.named("Qwen3-235B-A22B"), ModelConfig.named("Qwen3-235B-A22B-Instruct-2507")
    return sizes(april, update) | relatives(april) | memory(april) | scores() | overlaps()


def sizes(april: ModelConfig, update: ModelConfig) -> dict[str, Any]:
    """Counts that the config alone gives."""
    layers, lookup = april.num_hidden_layers, april.vocab_size * april.hidden_size
    return {
        "total": april.total_parameters,
        "active": april.active_parameters,
        "multiplied_b": (april.active_parameters - lookup) / BILLION,
        "layers": layers,
        "experts_per_layer": april.num_experts,
        "chosen": april.num_experts_per_tok,
        "experts_all": layers * april.num_experts,
        "choices_per_token": layers * april.num_experts_per_tok,
        "batch": BATCH,
        "read_by_batch": share_read(BATCH, april.num_experts, april.num_experts_per_tok),
        "query_heads": april.num_attention_heads,
        "kv_heads": april.num_key_value_heads,
        "qk_norm": layers * 2 * april.head_dim,
        "positions_april": april.max_position_embeddings,
        "positions_2507": update.max_position_embeddings,
        "tokens_per_parameter": published()["training_tokens"] / april.total_parameters,
        "training_tokens_t": published()["training_tokens"] / TRILLION,
        "tokens_before_t": published()["tokens_before"] / TRILLION,
        "tokens_ratio": published()["training_tokens"] / published()["tokens_before"],
    }


def share_read(tokens: int, experts: int, chosen: int) -> float:
    """Expected share of the experts that any of `tokens` tokens chooses, if they choose independently and evenly."""
    return 1 - (1 - chosen / experts) ** tokens


def relatives(april: ModelConfig) -> dict[str, Any]:
    """Counts of other checkpoints, from data/models."""
    counted = {each["model"]: each for each in families()}
    names = {
        "qwen15": "Qwen1.5-MoE-A2.7B",
        "qwen2": "Qwen2-57B-A14B",
        "qwen35": "Qwen3.5-397B-A17B",
        "v3": "DeepSeek-V3",
    }
    names["coder"] = "Qwen3-Coder-480B-A35B"
    found = {}
    for short, name in names.items():
        found[f"{short}_total_b"] = counted[name]["total"] / BILLION
        found[f"{short}_active_b"] = counted[name]["active"] / BILLION
    small = ModelConfig.named("Qwen3-Coder-30B-A3B-Instruct")
    return found | {
        "coder_small_b": small.total_parameters / BILLION,
        "family_sizes": published()["dense_sizes"] + published()["moe_sizes"],
        "active_ratio": april.active_parameters / counted["DeepSeek-V3"]["active"],
        "total_ratio": april.total_parameters / counted["DeepSeek-V3"]["total"],
        "v32_ratio": counted["DeepSeek-V3.2"]["total"] / april.total_parameters,
    }


def memory(config: ModelConfig) -> dict[str, Any]:
    """Bytes of weights and cache, and how many bits for each parameter some cards hold."""
    stored, cache = plan(config).bytes_by_precision, config.kv_cache_bytes_per_token("bf16")
    names = {"bf16_gb": "bf16", "fp8_gb": "fp8", "int4_gb": "int4", "gptq_gb": "gptq-int4"}
    found = {name: stored[precision] / GB for name, precision in names.items()}
    contexts = {"with_256k_gb": 262_144, "with_million_gb": published()["most_positions"]}
    found |= {name: (stored["bf16"] + tokens * cache) / GB for name, tokens in contexts.items()}
    found |= {f"bits_{name}": bits_that_fit(config, *offer) for name, offer in OFFERS.items()}
    return found | {"context": CONTEXT, "kv_token": cache, "a100_gb": CARDS["A100-80GB"].bytes / GB}


def bits_that_fit(config: ModelConfig, card: str, count: int, context: int = CONTEXT) -> float:
    """Bits for each parameter that `count` cards hold beside a 16-bit cache of `context` tokens and the work space."""
    placed = deploy(config, count, CARDS[card], "int4", context=context)
    left = sum((placed.usable or 0) - rank.cache - rank.work for rank in placed.ranks)
    return 8 * left / config.total_parameters


def scores() -> dict[str, Any]:
    """Rows of the three published tables, counted, and the scores that the article names."""
    r1, gpt, update = tables()["r1"], tables()["gpt-4o"], tables()["2507"]
    math, code, languages = r1.of("Math and reasoning"), update.of("Code"), update.of("Languages")
    found: dict[str, Any] = {
        "r1_rows": len(r1.rows), "r1_higher": higher(r1.rows), "r1_lower": len(r1.rows) - higher(r1.rows),
        "r1_math_rows": len(math), "r1_math_higher": higher(math),
        "gpt4o_rows": len(gpt.rows), "gpt4o_higher": higher(gpt.rows),
        "rows_2507": len(update.rows), "higher_2507": higher(update.rows),
        "code_rows": len(code), "code_higher": higher(code), "language_rows": len(languages),
        "language_least": min(row.difference for row in languages),
        "language_most": max(row.difference for row in languages),
    }  # fmt: skip
    found |= {"aime24": r1.row("AIME'24").ours, "aime24_r1": r1.row("AIME'24").theirs}
    found |= {"aime25": r1.row("AIME'25").ours, "aime25_r1": r1.row("AIME'25").theirs}
    found |= {"lcb": r1.row("LiveCodeBench v5").ours, "codeforces": r1.row("CodeForces rating").ours}
    found |= {"redux": gpt.row("MMLU-Redux").ours, "redux_gpt4o": gpt.row("MMLU-Redux").theirs}
    for name, benchmark in {"lcb6": "LiveCodeBench v6", "aider": "Aider-Polyglot", "simpleqa": "SimpleQA"}.items():
        found |= {name: update.row(benchmark).ours, f"{name}_before": update.row(benchmark).theirs}
    return found


def overlaps() -> dict[str, Any]:
    """How many of their most used experts two samples of texts share in a layer of the mini, on average."""
    tally = Tally.of(RoutingTrace.load(find("data/traces") / "mini_four_domains.safetensors"))
    documents = {name: (tally.labels == number).nonzero().flatten() for number, name in enumerate(tally.domains)}
    code, other, math = documents["code"][::2], documents["code"][1::2], documents["math"][1::2]
    experts = tally.hits.shape[-1]
    return {
        "top_used": TOP_USED,
        "overlap_same": shared(tally.hits, code, other, TOP_USED),
        "overlap_other": shared(tally.hits, code, math, TOP_USED),
        "overlap_chance": TOP_USED * TOP_USED / experts,
    }


def shared(hits: torch.Tensor, one: torch.Tensor, other: torch.Tensor, top: int) -> float:
    """Mean over the layers of how many of their `top` most used experts two groups of documents share.

    hits: (layer, document, expert) counts. one, other: (document) indices. Of equal counts the lower comes first.
    """
    used = [hits[:, documents].sum(dim=1).argsort(dim=-1, descending=True, stable=True) for documents in (one, other)]
    first, second = (order[:, :top].tolist() for order in used)
    return sum(len({*a} & {*b}) for a, b in zip(first, second, strict=True)) / len(first)
