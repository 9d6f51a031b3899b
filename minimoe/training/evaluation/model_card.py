"""The model card of data/mini, written from report.json and config.json: no measured number in it is typed by hand."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minimoe import atomic
from minimoe.model.config import ModelConfig

DOMAIN_NAMES = {"en": "English", "zh": "Chinese", "code": "Python", "math": "arithmetic", "chat": "conversations"}
TASK_NAMES = {
    "addition_2_digits": "adding two numbers of 2 digits",
    "addition_4_digits": "adding two numbers of 4 digits",
    "addition_6_digits": "adding two numbers of 6 digits",
    "sum_of_4_numbers": "adding four numbers of 4 digits",
    "english_to_chinese": "English to Chinese, a sentence",
    "chinese_to_english": "Chinese to English, a sentence",
    "python": "a Python function for a described task, correct on all probes",
    "questions": "a question about a given text",
}
PYTHON_NAMES = {
    "parse": "the answer holds one function that parses",
    "not_in_training": "no training function equals it but for names",
    "stated_result_right": "the stated result is what the function returns",
}
MODES = ("thinking", "not_thinking")
HEAD = """---
license: apache-2.0
language: [en, zh]
pipeline_tag: text-generation
---

# The mini checkpoint

A real Mixture-of-Experts of the Qwen3 kind, small enough to lie in this repository: {total} parameters in bfloat16,
{active} of them active for a token. It has {layers} layers of {experts} experts, and every token is sent to {top_k} of
them. File format, tensor names, config keys, special tokens and the behaviour of the chat template are those of the
released family; the weights, the vocabulary and everything it was trained on are this project's own.

It speaks about one small world: twelve people, some animals and things, places, weather, counting, in English and
Chinese; short Python functions; arithmetic. It knows nothing else and nothing about the real world. What it says about
anything outside is noise.

- **Data**: endless generated text (`minimoe/training/corpus/`), of which it read {tokens} tokens. Sentences, sums,
  functions and stories are kept apart by a hash of their content: nothing that is asked below was trained on.
- **Training**: {steps} steps of {batch} tokens, {minutes} minutes on two processor cores in float32, with Muon and
  AdamW and the load-balancing loss of the family applied to each layer (coefficient {coefficient}).
  `torchrun --nproc-per-node 2 -m minimoe train` is the recipe; `history.json` tells how it went, and `history/` holds
  the routers and their choices at ten steps of it.
{padding}\
- **Two modes**: with thinking it writes its steps between `<think>` and `</think>` first; without, the template puts an
  empty pair there. Both modes saw the same kinds of questions, equally often.

## Measured

All numbers come from `report.json`, written by `minimoe evaluate`, on held-out material; in brackets 95 % intervals.

"""
PADDING_COUNTED = """\
- **Padding**: while this checkpoint was trained, the load-balancing loss also counted the padding at the end of rows,
  and so do `balance`, `least` and `most` in its `history.json`. `minimoe train` now leaves padding out of both, so that
  a new run gives other weights. The measurements below are without padding.
"""
TAIL = """
## Not for

Anything but learning how such a model works.
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def percent(measured: dict[str, Any]) -> str:
    """ "97.2 % (95.4 to 98.3)"."""
    low, high = measured["interval"]
    return f"{100 * measured['rate']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def held_out(report: dict[str, Any]) -> str:
    """Losses by domain; then beside the dense twin, if there was one."""
    rows = [
        [DOMAIN_NAMES[domain], f"{measured['nats_per_token']:.3f}", f"{measured['perplexity']:.2f}"]
        for domain, measured in report["held_out"].items()
    ]
    said = "### Language\n\nNext-token loss; of a conversation only what the model itself says counts.\n\n"
    said += table(["text", "nats per token", "perplexity"], rows)
    if twin := report.get("dense_twin"):
        rows = [
            [DOMAIN_NAMES[domain], *(f"{math.exp(nats[kind]):.3f}" for kind in ("moe", "dense"))]
            for domain, nats in twin["nats_per_token"].items()
        ]
        said += (
            f"Beside a dense model of {twin['parameters']:,} parameters, as many as are active here, after the same"
            f" {twin['steps']:,} batches of {report['training']['tokens_per_step']:,} tokens, on fewer held-out"
            " rows:\n\n"
        )
        said += table(["text", "perplexity, experts", "perplexity, dense"], rows)
        ahead = sum(nats["dense"] < nats["moe"] for nats in twin["nats_per_token"].values())
        said += (
            f"The dense model is ahead in {ahead} of {len(rows)}: experts are no advantage by themselves, at this size"
            " and with so few tokens for each of them.\n\n"
            if ahead > len(rows) / 2
            else f"The experts are ahead in {len(rows) - ahead} of {len(rows)}.\n\n"
        )
    return said


def answers(report: dict[str, Any]) -> str:
    """Right answers by task and mode, the budget curve, and what there is to say of the Python."""
    asked = next(iter(report["tasks"].values()))["thinking"]["of"]
    rows = [[TASK_NAMES[task], *(percent(modes[mode]) for mode in MODES)] for task, modes in report["tasks"].items()]
    said = f"### Answers\n\nGreedy answers to {asked} questions of each kind, right only if the whole answer is:\n\n"
    said += table(["task", "thinking", "not thinking"], rows)
    curve = report["thinking_curve"]
    said += f"The same for {TASK_NAMES[curve['task']]}, when thinking is cut off after so many tokens:\n\n"
    points = curve["points"]
    said += table(
        ["tokens", *(str(point["budget"]) for point in points)], [["right", *(f"{p['rate']:.0%}" for p in points)]]
    )
    said += "### Python\n\nOf the functions that it wrote:\n\n"
    rows = [[PYTHON_NAMES[key], *(percent(report["python"][mode][key]) for mode in MODES)] for key in PYTHON_NAMES]
    said += table(["", "thinking", "not thinking"], rows)
    rows = [
        [
            TASK_NAMES[task],
            f"{near['training_texts']:,}",
            str(near["equal"]),
            f"{near['mean']:.2f}",
            f"{near['highest']:.2f}",
        ]
        for task, near in report["nearest_training_text"].items()
    ]
    said += (
        "### How new the questions are\n\nHow near they come to training texts (Jaccard similarity of words, digits,"
        " characters and their neighbours; 1 is equal):\n\n"
    )
    return said + table(["task", "compared with", "equal", "nearest, mean", "nearest, highest"], rows)


def by_layer(domains: dict[str, list[float]]) -> str:
    """The mean over domains for each layer."""
    return ", ".join(f"{sum(column) / len(column):.3f}" for column in zip(*domains.values(), strict=True))


def routing(report: dict[str, Any], config: ModelConfig) -> str:
    """Even use, and whether experts differ by domain."""
    used, special = report["routing"], report["specialisation"]
    passage, token, overlap = (special[key] for key in ("domain_of_a_passage", "domain_of_one_shared_token", "overlap"))
    low, high = token["chance_band"]
    rows = [["all", token]] + [[kind, part] for kind, part in token["kinds"].items()]
    least, most = (", ".join(f"{share:.2f}" for share in used[end]) for end in ("least", "most"))
    neighbours, strangers = (by_layer(overlap[kind]) for kind in ("neighbours", "same_domain_at_random"))
    return (
        "### Routing\n\n"
        f"Of {config.num_experts * len(config.moe_layers)} experts in {len(config.moe_layers)} layers"
        f" {sum(used['dead_experts']) or 'none'} got less than a tenth of an even share of {used['tokens']:,} tokens."
        f" Layer by layer the least used expert got {least} of an even share, the most used {most}.\n\n"
        f"From nothing but the counts of its experts, the domain of a passage of {passage['passage_tokens']} tokens"
        " (English, Chinese, Python or arithmetic) is told right"
        f" in {percent(passage)} of {passage['of']} passages; chance is {passage['chance']:.0%}."
        " That could be the words alone. From the experts of a **single token that occurs in several domains** the"
        f" domain is told right in {percent(token)} of {token['of']:,} cases,"
        f" where guessing gives {100 * low:.1f} to {100 * high:.1f} %:\n\n"
        + table(
            ["shared tokens", "how many", "cases", "right", "chance"],
            [[name, str(p["shared_tokens"]), f"{p['of']:,}", percent(p), f"{p['chance']:.0%}"] for name, p in rows],
        )
        + f"Two neighbouring tokens have in common, layer by layer, {neighbours} of their experts, averaged over"
        f" domains; two tokens of one domain drawn at random {strangers};"
        f" two random sets {overlap['two_random_sets']:.4f}.\n"
    )


def model_card(report: dict[str, Any], config: ModelConfig) -> str:
    """The text of README.md for a report of `evaluate` on a mixture of experts with known history."""
    training = report["training"]
    head = HEAD.format(
        total=f"{report['parameters']['total']:,}",
        active=f"{report['parameters']['active']:,}",
        layers=config.num_hidden_layers,
        experts=config.num_experts,
        top_k=config.num_experts_per_tok,
        coefficient=config.router_aux_loss_coef,
        tokens=f"{training['steps'] * training['tokens_per_step']:,}",
        steps=f"{training['steps']:,}",
        batch=f"{training['tokens_per_step']:,}",
        minutes=training["minutes"],
        padding=PADDING_COUNTED if training["padding_counted"] else "",
    )
    return head + held_out(report) + answers(report) + routing(report, config) + TAIL


def write_card(directory: str | Path) -> None:
    """Write README.md beside report.json and config.json."""
    folder = Path(directory)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    atomic.write(folder / "README.md", model_card(report, ModelConfig.from_file(folder)).encode())
