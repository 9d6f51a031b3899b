"""The model card of data/mini, written from report.json and config.json: no number in it is typed by hand."""

import json
from pathlib import Path
from typing import Any

from minimoe.model.config import ModelConfig

DOMAIN_NAMES = {"en": "English", "zh": "Chinese", "code": "Python", "math": "arithmetic", "chat": "conversations"}
TASK_NAMES = {
    "addition_2_digits": "adding two numbers of 2 digits",
    "addition_3_digits": "adding two numbers of 3 digits",
    "addition_4_digits": "adding two numbers of 4 digits",
    "english_to_chinese": "English to Chinese, a sentence",
    "chinese_to_english": "Chinese to English, a sentence",
    "python": "a Python function for a described task, correct on all probes",
    "questions": "a question about a given text",
}
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

- **Data**: endless generated text (`minimoe/training/corpus.py`), of which it read {tokens} tokens. Sentences, sums,
  functions and stories are kept apart by a hash of their content: nothing that is asked below was trained on.
- **Training**: {steps} steps of {batch} tokens on one processor core in float32, with AdamW and the load-balancing loss
  of the family applied to each layer (coefficient {coefficient}). `python -m minimoe train` is the recipe;
  `history.json` tells how it went.
- **Two modes**: with thinking it writes its steps between `<think>` and `</think>` first; without, the template puts an
  empty pair there. Both modes saw the same kinds of questions, equally often.

## Measured

All numbers come from `report.json`, written by `minimoe evaluate`. Held-out text, next-token loss:

| text | nats per token | perplexity |
|---|---|---|
"""
ROUTING = """
Of {total} experts in {layers} layers {dead} got less than a tenth of an even share of {tokens} held-out tokens. Layer
by layer the least used expert got {least} of an even share, the most used {most}.

Answers to held-out questions, greedy, {count} of each kind, counted right only if the whole answer is:

| task | thinking | not thinking |
|---|---|---|
"""
TAIL = """
With {count} questions a rate is known to about ten percentage points (95 %, at worst). This is a first version, trained
for about an hour on an earlier mixture of the corpus (sums of at most four digits, fewer translations) and with an
earlier vocabulary, so the recipe as it now stands gives other weights.

## Not for

Anything but learning how such a model works.
"""


def model_card(report: dict[str, Any], config: ModelConfig) -> str:
    """The text of README.md for a report of `evaluate` and the history summary in it."""
    training, routing = report["training"], report["routing"]
    text = HEAD.format(
        total=f"{report['parameters']['total']:,}",
        active=f"{report['parameters']['active']:,}",
        layers=config.num_hidden_layers,
        experts=config.num_experts,
        top_k=config.num_experts_per_tok,
        coefficient=config.router_aux_loss_coef,
        tokens=f"{training['steps'] * training['tokens_per_step']:,}",
        steps=f"{training['steps']:,}",
        batch=f"{training['tokens_per_step']:,}",
    )
    for domain, measured in report["held_out"].items():
        text += f"| {DOMAIN_NAMES[domain]} | {measured['nats_per_token']:.3f} | {measured['perplexity']:.2f} |\n"
    text += ROUTING.format(
        total=config.num_experts * len(config.moe_layers),
        layers=len(config.moe_layers),
        dead=sum(routing["dead_experts"]) or "none",
        tokens=f"{routing['tokens']:,}",
        least=", ".join(f"{share:.2f}" for share in routing["least"]),
        most=", ".join(f"{share:.2f}" for share in routing["most"]),
        count=(count := next(iter(report["tasks"].values()))["thinking"]["of"]),
    )
    for task, modes in report["tasks"].items():
        rates = " | ".join(f"{modes[mode]['right'] / modes[mode]['of']:.0%}" for mode in ("thinking", "not_thinking"))
        text += f"| {TASK_NAMES[task]} | {rates} |\n"
    return text + TAIL.format(count=count)


def write_card(directory: str | Path) -> None:
    """Write README.md beside report.json and config.json."""
    folder = Path(directory)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    (folder / "README.md").write_text(model_card(report, ModelConfig.from_file(folder)), encoding="utf-8")
