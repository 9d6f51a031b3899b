"""The figures that benchmarks/README.md tells are those of the stored files."""

import json
import re
from typing import Any

import pytest

from benchmarks.plot import least_seconds, rows_of
from tests.house.repository import ROOT

WORDS = re.sub(r"\s+", " ", (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8"))


def seconds(name: str, **like: Any) -> float:
    """The seconds of the only row of a stored file that has these values."""
    rows = json.loads((ROOT / "data" / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    (row,) = [row for row in rows if like.items() <= row.items()]
    return float(row["seconds"])


def ratio(name: str, way: str = "minimoe", to: str = "transformers", **like: Any) -> str:
    """How many times as fast a way is as another."""
    return f"{seconds(name, way=to, **like) / seconds(name, way=way, **like):.2f}"


def share_of_bandwidth(way: str) -> str:
    """What one token of a 235B layer reaches on two threads."""
    (row,) = [r for r in rows_of("wide", "") if (r["what"], r["threads"], r["way"]) == ("one token", 2, way)]
    least = least_seconds(row)
    assert least is not None
    return f"{least / row['seconds']:.0%}".replace("%", " %")


def milliseconds(way: str) -> str:
    return f"{1000 * seconds('other_engines', threads=1, way=way):.0f}"


def tokens_per_second(way: str, digits: int, run: int = 1) -> str:
    return f"{1 / seconds('gpu_h100', what='one token', way=way, run=run):.{digits}f}"


def told() -> list[str]:
    """Sentences of the page, with the figures computed."""
    prompt = {"what": "prompt of 512", "threads": 2}
    half = ratio("speed", dtype="float32", **prompt), ratio("speed", dtype="bfloat16", **prompt)
    token = {"what": "one token", "threads": 2}
    step = [ratio("training", "minimoe, grouped", "transformers, grouped_mm", threads=count) for count in (1, 2)]
    engines = ("llama.cpp", "minimoe, compiled", "minimoe", "mlx-lm")
    llama, compiled, written, mlx = (milliseconds(way) for way in engines)
    static = "transformers, static cache, compiled"
    return [
        f"{half[0]} of transformers' speed in float32, {half[1]} in bfloat16",
        f"{ratio('wide', **token)} of transformers' speed on two threads, at {share_of_bandwidth('minimoe')} of the "
        f"read bandwidth; `compile_decode()` reaches {share_of_bandwidth('minimoe, compiled')}.",
        f"the same 32 tokens in {llama} ms, where our compiled step takes {compiled} (one thread; as written {written},"
        f" mlx-lm {mlx})",
        f"{step[0]} times as fast as transformers with grouped_mm on one thread, and {step[1]} times on two",
        f"the compiled step writes {tokens_per_second('minimoe, compiled', 0)} tokens/s (transformers compiled: "
        f"{tokens_per_second(static, 0)} in the same run). As written, `grouped` wrote "
        f"{tokens_per_second('minimoe, grouped', 1)} (transformers: {tokens_per_second('transformers', 1)})",
    ]


@pytest.mark.parametrize("words", told())
def test_the_page_tells_the_stored_figures(words: str) -> None:
    assert words in WORDS
