"""Record data/smaller/mini.json: the mini in several formats and with fewer experts. Ten minutes on one core.

    python scripts/measure_smaller.py

Everything is measured on held-out documents of the four domains, and calibrated on training documents. The model runs
in float32, except where bfloat16 itself is measured.
"""

import argparse
import json
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minimoe.atomic import write
from minimoe.checkpoint.load import load
from minimoe.course.capture import held_out_texts
from minimoe.course.yardstick import Seen, look
from minimoe.model.transformer import Transformer
from minimoe.paths import checkout, find
from minimoe.quantisation import is_packed
from minimoe.quantisation.error_feedback import gptq_round
from minimoe.quantisation.rounding import (
    Rounding,
    round_fp8,
    round_int,
    round_mxfp4,
    round_nvfp4,
    rounded_weights,
)
from minimoe.routing.ablation.prune import expert_statistics, keep_highest, merge_experts, prune_experts
from minimoe.text.tokenizer import Tokenizer
from minimoe.training.corpus.documents import document

DOMAINS = ("en", "zh", "code", "math")
EACH = 24  # documents of a domain, for measuring and for calibration
KEPT = (112, 96, 80, 64, 48, 32, 16)
DRAWS = 3  # of random experts
FORMATS: dict[str, Rounding] = {
    "int8, groups of 128": lambda weight: round_int(weight, 8, 128),
    "FP8, blocks of 128 x 128": round_fp8,
    "NVFP4": round_nvfp4,
    "MXFP4": round_mxfp4,
    "int4, groups of 32": lambda weight: round_int(weight, 4, 32),
    "int4, groups of 128": lambda weight: round_int(weight, 4, 128),
    "int4, one scale a row": lambda weight: round_int(weight, 4),
    "int3, groups of 32": lambda weight: round_int(weight, 3, 32),
    "int2, groups of 32": lambda weight: round_int(weight, 2, 32),
}
CALIBRATION = (1, 4, 16, 64, 160)  # documents
LAYER = 2  # whose experts are rounded with few rows


def calibration(tokenizer: Tokenizer, domains: tuple[str, ...], each: int = EACH) -> list[Tensor]:
    """Token ids (1, position) of training documents, a domain after the other in turn."""
    names = [(domain, number) for number in range(each) for domain in domains]
    texts = [document(Random(f"smaller {domain} {number}"), "train", domain).text for domain, number in names]
    return [torch.tensor([tokenizer.encode(text)]) for text in texts]


def router(name: str) -> bool:
    """Whether a parameter is a router."""
    return name.endswith("mlp.gate.weight")


def beside(seen: Seen, other: Seen) -> dict[str, Any]:
    """KL divergence, loss, and the choices and sets that differ by layer."""
    return {
        "kl": float(f"{seen.kl(other):.3g}"),
        "loss": round(other.loss, 4),
        "flips": [round(value, 4) for value in seen.flips(other).values()],
        "sets": [round(value, 4) for value in seen.changed_sets(other).values()],
    }


def formats(model: Transformer, half: Transformer, texts: list[Tensor]) -> dict[str, Any]:
    """Every format with the router kept, with the router rounded too, and with nothing but the router rounded."""
    seen = look(model, texts)
    rows = [{"format": "bfloat16", "router": "kept", **beside(seen, look(half, texts))}]
    for name, rounding in FORMATS.items():
        for what, selects in (
            ("kept", is_packed),
            ("too", lambda name: is_packed(name) or router(name)),
            ("alone", router),
        ):
            with rounded_weights(model, rounding, selects):
                rows.append({"format": name, "router": what, **beside(seen, look(model, texts))})
            print(rows[-1], flush=True)
    return {"tokens": len(seen.targets), "loss": round(seen.loss, 4), "rows": rows}


def losses(model: Transformer, texts: dict[str, list[Tensor]]) -> dict[str, float]:
    """Next-token loss by domain."""
    return {domain: round(look(model, of_domain).loss, 4) for domain, of_domain in texts.items()}


def pruning(model: Transformer, tokenizer: Tokenizer, texts: dict[str, list[Tensor]]) -> dict[str, Any]:
    """Loss by domain of the mini with fewer experts, by the way in which they are chosen; "without": all are kept."""
    seen = expert_statistics(model, calibration(tokenizer, DOMAINS))
    generator, rows = torch.Generator().manual_seed(13), []
    for count in KEPT:
        frequent, salient = keep_highest(seen.counts, count), keep_highest(seen.saliency, count)
        models = {
            "frequency": prune_experts(model, frequent),
            "saliency": prune_experts(model, salient),
            "merged": merge_experts(model, salient, seen.counts),
        }
        for way, smaller in models.items():
            rows.append({"way": way, "kept": count, "loss": losses(smaller, texts)})
        draws = [
            losses(prune_experts(model, keep_highest(torch.rand(seen.counts.shape, generator=generator), count)), texts)
            for _ in range(DRAWS)
        ]
        rows.append({"way": "random", "kept": count, "loss": {d: round(mean(x[d] for x in draws), 4) for d in texts}})
        print(*rows[-4:], sep="\n", flush=True)
    return {"loss": losses(model, texts), "tokens": {d: sum(x.numel() for x in texts[d]) for d in texts}, "rows": rows}


def left_out(model: Transformer, tokenizer: Tokenizer, texts: dict[str, list[Tensor]], count: int) -> list[Any]:
    """Loss by domain with `count` experts, chosen by saliency on texts of all domains but one."""
    rows = []
    for missing in DOMAINS:
        seen = expert_statistics(model, calibration(tokenizer, tuple(d for d in DOMAINS if d != missing)))
        smaller = prune_experts(model, keep_highest(seen.saliency, count))
        rows.append({"without": missing, "kept": count, "loss": losses(smaller, texts)})
        print(rows[-1], flush=True)
    return rows


@torch.no_grad()
def expert_inputs(model: Transformer, texts: list[Tensor], layer: int) -> tuple[Tensor, Tensor]:
    """What the experts of a layer get: x (token, hidden), and who is chosen (token, slot)."""
    kept: list[Any] = []
    handle = model.layers[layer].mlp.experts.register_forward_pre_hook(lambda bank, given: kept.append(given))
    for ids in texts:
        model(ids, last_only=True)
    handle.remove()
    return torch.cat([x for x, _ in kept]), torch.cat([routing.experts for _, routing in kept])


def inner(model: Transformer, layer: int, expert: int, x: Tensor) -> Tensor:
    """x (token, hidden) -> (token, ffn): what the down_proj of an expert gets."""
    bank = model.layers[layer].mlp.experts
    return F.silu(F.linear(x, bank.gate_proj[expert])) * F.linear(x, bank.up_proj[expert])


@torch.no_grad()
def few_rows(model: Transformer, tokenizer: Tokenizer, held_out: list[Tensor]) -> list[Any]:
    """GPTQ for every down_proj of a layer, by the size of the calibration: rows, and error against plain rounding."""
    x, chosen = expert_inputs(model, held_out, LAYER)
    rows = []
    for count in CALIBRATION:
        texts = calibration(tokenizer, DOMAINS, -(-count // len(DOMAINS)))[:count]
        seen, picked = expert_inputs(model, texts, LAYER)
        met, ratios = [], []
        for expert in range(model.config.num_experts):
            mine = seen[(picked == expert).any(dim=-1)]
            met.append(len(mine))
            others = inner(model, LAYER, expert, x[(chosen == expert).any(dim=-1)])
            down = model.layers[LAYER].mlp.experts.down_proj[expert]
            plain = round_int(down, 4, 32)
            fitted = gptq_round(down, inner(model, LAYER, expert, mine), 4, 32) if len(mine) else plain
            error = [float(F.linear(others, rounded - down).norm()) for rounded in (fitted, plain)]
            ratios.append(round(error[0] / error[1], 3))
        rows.append({"tokens": len(seen), "met": met, "ratio": ratios})
        print(count, len(seen), mean(ratios), flush=True)
    return rows


def main() -> None:
    """Measure everything and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=checkout() / "data" / "smaller" / "mini.json")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    (model, tokenizer), (half, _) = (load(find("data/mini"), dtype=dtype) for dtype in ("fp32", "bf16"))
    texts = {domain: held_out_texts(tokenizer, EACH, "smaller", (domain,)) for domain in DOMAINS}
    together = [ids for of_domain in texts.values() for ids in of_domain]
    measured = {
        "few_rows": few_rows(model, tokenizer, together),
        "formats": formats(model, half, together),
        "pruning": pruning(model, tokenizer, texts),
        "left_out": left_out(model, tokenizer, texts, 64),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, f"{as_lines(measured)}\n".encode())
    print(f"{out}: {out.stat().st_size:,} bytes")


def as_lines(value: Any, indent: str = "") -> str:
    """JSON in which an object without objects inside, or a list of numbers, takes one line."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not any(isinstance(item, (dict, list)) for item in inside) or len(indent) >= 6:
        return json.dumps(value)
    deeper = indent + "  "
    if isinstance(value, dict):
        lines = [f"{deeper}{json.dumps(key)}: {as_lines(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + as_lines(item, deeper) for item in value) + f"\n{indent}]"


if __name__ == "__main__":
    main()
