"""The model card of data/mini, generated from report.json and config.json, so that no number is typed by hand."""

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
    "parse": "the answer contains one function that parses",
    "not_in_training": "no training function is equal except for names",
    "stated_result_right": "the stated result is what the function returns",
}
MODES = ("thinking", "not_thinking")
HEAD = """---
license: apache-2.0
language: [en, zh]
pipeline_tag: text-generation
---

# The mini checkpoint

A Mixture-of-Experts model of the Qwen3 family, small enough for this repository: {total} parameters in bfloat16,
{active} of them active per token. It has {layers} layers of {experts} experts, and every token is routed to {top_k} of
them. File format, tensor names, config keys, special tokens and the behaviour of the chat template are those of the
released family; the weights, the vocabulary and all training data are this project's own.

It was trained on one small world: twelve people, some animals and things, places, weather, counting, in English and
Chinese; short Python functions; arithmetic. It knows nothing else and nothing about the real world. Its output about
anything outside this world is noise.

- **Data**: generated text without end (`minimoe/training/corpus/`), of which it was trained on {tokens} tokens.
  Sentences, sums, functions and stories are split by a hash of their content: none of the questions below occurred in
  training.
- **Training**: {steps} steps of {batch} tokens, {minutes} minutes on two processor cores in float32, with Muon and
  AdamW and the load-balancing loss of the family applied to each layer (coefficient {coefficient}).
  `torchrun --nproc-per-node 2 -m minimoe train` is the command; `history.json` records the losses, and `history/`
  contains the routers and their selections at ten steps.
{padding}\
- **Two modes**: with thinking, it first writes its steps between `<think>` and `</think>`; without, the template
  inserts an empty pair. Both modes were trained on the same kinds of questions, equally often.

## Measured

All numbers are from `report.json`, written by `minimoe evaluate`, on held-out data; 95 % intervals in parentheses.

"""
PADDING_COUNTED = """\
- **Padding**: while this checkpoint was trained, the load-balancing loss also counted the padding at the end of rows,
  and so do `balance`, `least` and `most` in its `history.json`. `minimoe train` now excludes padding from both, so a
  new run gives other weights. The measurements below exclude padding.
"""
TAIL = """
## Not for

Any purpose other than learning how such a model works.
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
    """Losses by domain, and the comparison with the dense twin if the report has one."""
    rows = [
        [DOMAIN_NAMES[domain], f"{measured['nats_per_token']:.3f}", f"{measured['perplexity']:.2f}"]
        for domain, measured in report["held_out"].items()
    ]
    text = "### Language\n\nNext-token loss; in a conversation, only the replies of the model are counted.\n\n"
    text += table(["text", "nats per token", "perplexity"], rows)
    if twin := report.get("dense_twin"):
        rows = [
            [DOMAIN_NAMES[domain], *(f"{math.exp(nats[kind]):.3f}" for kind in ("moe", "dense"))]
            for domain, nats in twin["nats_per_token"].items()
        ]
        text += (
            f"Compared with a dense model of {twin['parameters']:,} parameters, as many as are active here, after the"
            f" same {twin['steps']:,} batches of {report['training']['tokens_per_step']:,} tokens, on fewer held-out"
            " rows:\n\n"
        )
        text += table(["text", "perplexity, experts", "perplexity, dense"], rows)
        ahead = sum(nats["dense"] < nats["moe"] for nats in twin["nats_per_token"].values())
        text += (
            f"The dense model is better in {ahead} of {len(rows)}: experts alone are no advantage, at this size"
            " and with so few tokens for each of them.\n\n"
            if ahead > len(rows) / 2
            else f"The experts are better in {len(rows) - ahead} of {len(rows)}.\n\n"
        )
    return text


def answers(report: dict[str, Any]) -> str:
    """Correct answers by task and mode, the curve over thinking budgets, and the results of generated Python."""
    count = next(iter(report["tasks"].values()))["thinking"]["of"]
    rows = [[TASK_NAMES[task], *(percent(modes[mode]) for mode in MODES)] for task, modes in report["tasks"].items()]
    text = f"### Answers\n\nGreedy answers to {count} questions of each kind; an answer is correct only as a whole:\n\n"
    text += table(["task", "thinking", "not thinking"], rows)
    curve = report["thinking_curve"]
    text += f"The same for {TASK_NAMES[curve['task']]}, with thinking cut off after a number of tokens:\n\n"
    points = curve["points"]
    text += table(
        ["tokens", *(str(point["budget"]) for point in points)], [["correct", *(f"{p['rate']:.0%}" for p in points)]]
    )
    text += "### Python\n\nProperties of the functions that it wrote:\n\n"
    rows = [[PYTHON_NAMES[key], *(percent(report["python"][mode][key]) for mode in MODES)] for key in PYTHON_NAMES]
    text += table(["", "thinking", "not thinking"], rows)
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
    text += (
        "### Novelty of the questions\n\nSimilarity to the nearest training text (Jaccard similarity of words, digits,"
        " characters and their neighbours; 1 is equal):\n\n"
    )
    return text + table(["task", "compared with", "equal", "nearest, mean", "nearest, highest"], rows)


def by_layer(domains: dict[str, list[float]]) -> str:
    """The mean over domains for each layer."""
    return ", ".join(f"{sum(column) / len(column):.3f}" for column in zip(*domains.values(), strict=True))


def routing(report: dict[str, Any], config: ModelConfig) -> str:
    """The load of the experts, and their differences between domains."""
    load, special = report["routing"], report["specialisation"]
    passage, token, overlap = (special[key] for key in ("domain_of_a_passage", "domain_of_one_shared_token", "overlap"))
    low, high = token["chance_band"]
    rows = [["all", token]] + [[kind, part] for kind, part in token["kinds"].items()]
    least, most = (", ".join(f"{share:.2f}" for share in load[end]) for end in ("least", "most"))
    neighbours, strangers = (by_layer(overlap[kind]) for kind in ("neighbours", "same_domain_at_random"))
    return (
        "### Routing\n\n"
        f"Of {config.num_experts * len(config.moe_layers)} experts in {len(config.moe_layers)} layers"
        f" {sum(load['dead_experts']) or 'none'} got less than a tenth of an even share of {load['tokens']:,} tokens."
        f" By layer, the least used expert got {least} of an even share, the most used {most}.\n\n"
        f"From the counts of its experts alone, the domain of a passage of {passage['passage_tokens']} tokens"
        " (English, Chinese, Python or arithmetic) is predicted correctly"
        f" for {percent(passage)} of {passage['of']} passages; chance is {passage['chance']:.0%}."
        " The words alone could explain this. From the experts of a **single token that occurs in several domains**,"
        f" the domain is predicted correctly in {percent(token)} of {token['of']:,} cases;"
        f" guessing gives {100 * low:.1f} to {100 * high:.1f} %:\n\n"
        + table(
            ["shared tokens", "number", "cases", "correct", "chance"],
            [[name, str(p["shared_tokens"]), f"{p['of']:,}", percent(p), f"{p['chance']:.0%}"] for name, p in rows],
        )
        + f"The share of common experts of two neighbouring tokens is, by layer, {neighbours}, averaged over domains;"
        f" of two random tokens of one domain {strangers}; of two random sets {overlap['two_random_sets']:.4f}.\n"
    )


def model_card(report: dict[str, Any], config: ModelConfig) -> str:
    """The text of README.md, from a report of `evaluate` about a Mixture-of-Experts model with known history."""
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
    """Write README.md to the folder of report.json and config.json."""
    folder = Path(directory)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    atomic.write(folder / "README.md", model_card(report, ModelConfig.from_file(folder)).encode())
