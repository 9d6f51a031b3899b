"""Measure the mini beyond the length that it was trained on, and write data/long_context/mini.json.

    python scripts/record_long_context.py

Lesson 17 shows the figures and repeats a small part of them. Takes about ten minutes on one core.
"""

import json
from collections.abc import Callable
from typing import Any

import torch

import minimoe
from minimoe import atomic
from minimoe.course.long_context import (
    METHODS,
    as_it_is,
    attention_from,
    far_text,
    finds,
    losses,
    needle,
    rotated_scores,
    stretched,
    trained_length,
    yarn_config,
)
from minimoe.model.transformer import Transformer
from minimoe.paths import checkout

LENGTH, TEXTS = 4096, 6
NEEDLES = 16
BEFORE = (0, 128, 256, 512, 1024, 2048)
BETWEEN = (0, 16, 32, 48, 64, 96, 128, 192)
BOTH = (  # exercise 17.5: method, tokens before the fact, tokens between fact and question
    ("plain RoPE", 100, 16), ("plain RoPE", 500, 16), ("dual chunk", 500, 16), ("window", 500, 16),
    ("dual chunk", 500, 48), ("window", 500, 48),
)  # fmt: skip


def main() -> None:
    """Measure everything and write the file."""
    torch.set_num_threads(1)
    model, tokenizer = minimoe.load("data/mini", dtype="fp32")
    trained = trained_length("data/mini")
    texts = [far_text(tokenizer, LENGTH, f"far {number}") for number in range(TEXTS)]

    def by_position() -> list[float]:
        """The mean loss of each `trained` positions."""
        mean = torch.stack([losses(model, text) for text in texts]).mean(dim=0)
        return [round(float(part.mean()), 3) for part in mean.split(trained)]

    def found(before: int, between: int) -> int:
        return sum(finds(model, needle(tokenizer, f"needle {number}", before, between)) for number in range(NEEDLES))

    curves = {method: with_method(model, method, LENGTH, trained, by_position) for method in METHODS}
    told = yarn_config(model.config, LENGTH / 2048, 2048)
    attend = attention_from(lambda q, k: rotated_scores(told, q, k))
    with minimoe.workbench(model, apply_rope=as_it_is, attend=attend):
        curves["YaRN, told 2,048"] = by_position()
    near = {
        method: [
            with_method(model, method, before + 32, trained, lambda before=before: found(before, 0))
            for before in BEFORE
        ]
        for method in METHODS
    }
    far = [found(0, between) for between in BETWEEN]
    both = [
        with_method(model, method, trained, trained, lambda before=before, between=between: found(before, between))
        for method, before, between in BOTH
    ]
    result = {
        "model": "mini", "dtype": "float32", "trained": trained, "length": LENGTH, "texts": TEXTS,
        "loss": curves,
        "needles": NEEDLES, "before": BEFORE, "found": near, "between": BETWEEN, "found_between": far,
        "both": BOTH, "found_both": both,
    }  # fmt: skip
    folder = checkout() / "data" / "long_context"
    folder.mkdir(exist_ok=True)
    atomic.write(folder / "mini.json", (json.dumps(result) + "\n").encode())


def with_method(model: Transformer, method: str, length: int, trained: int, measure: Callable[[], Any]) -> Any:
    """What `measure` returns while the model is stretched."""
    with stretched(model, method, length, trained):
        value = measure()
    print(method, value, flush=True)
    return value


if __name__ == "__main__":
    main()
