"""Each popular claim gets the verdict that the arithmetic gives it, and would get another one from other numbers."""

import dataclasses
import json

import pytest

from minimoe.course.figures.ch14_claims import (
    CLAIMS,
    CONTEXT,
    DEPENDS,
    FALSE,
    TRUE,
    half_precision,
    million_tokens,
    on_cards,
)
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.model_size import plan

GB = 10**9
BIG, SMALL = ModelConfig.named("Qwen3-235B-A22B"), ModelConfig.named("Qwen3-30B-A3B")
VERDICTS = {claim.key: claim.verdict() for claim in CLAIMS}


def test_the_verdicts():
    assert {key: each.verdict for key, each in VERDICTS.items()} == {
        "half-precision": FALSE,
        "two-a100": DEPENDS,
        "four-4090": FALSE,
        "one-a100": FALSE,
        "million-tokens": DEPENDS,
    }


@pytest.mark.parametrize(
    ("key", "sentences"),
    [
        ("half-precision", ["235,093,634,560 parameters of 2 bytes are 470 GB", "is the size in int4 and gptq-int4"]),
        ("two-a100", ["bf16: short by 309 GB", "fp8: short by 76 GB", "int4: fits, 38 GB to spare", "it holds int4",
                      "8 such cards hold bf16", "4 such cards hold fp8"]),
        ("four-4090", ["int4: short by 36 GB", "3-bit: short by 7 GB", "36 GB or more of its 117 GB of experts",
                       "8 such cards hold int4"]),
        ("one-a100", ["int4: short by 46 GB", "46 GB or more of its 117 GB of experts", "2 such cards hold int4",
                      "one H200, H200 NVL, B200, GB200, MI300X, B300 or GB300 holds int4"]),
        ("million-tokens", ["weights 470 GB and 1,010,000 tokens of cache 194 GB are 665 GB",
                            "on 8 devices the cache is stored 2 times",
                            "bf16 on 8 devices 861 GB", "on 4 devices 334 GB"]),
    ],
)  # fmt: skip
def test_the_arithmetic_is_said(key, sentences):
    told = f"{VERDICTS[key].because}. {VERDICTS[key].instead}."
    for sentence in sentences:
        assert sentence in told


def test_a_precision_that_nothing_reads_is_judged_but_never_proposed():
    assert "3-bit: short" in VERDICTS["four-4090"].because
    assert "hold 3-bit" not in VERDICTS["four-4090"].instead


def test_figures_are_the_planner_s():
    assert VERDICTS["half-precision"].figures["bf16"] == 2 * BIG.total_parameters
    two = VERDICTS["two-a100"].figures
    assert [two[each]["fits"] for each in ("bf16", "fp8", "int4")] == [False, False, True]
    assert two["bf16"]["short"] == -2 * two["bf16"]["spare"]
    million = VERDICTS["million-tokens"].figures
    assert million["weights"] + million["cache"] == plan(BIG, context=1_010_000).total_bytes
    for each in VERDICTS.values():
        json.dumps(each.figures)


def test_other_numbers_give_other_verdicts():
    assert half_precision(BIG, (460 * GB, 480 * GB)).verdict == TRUE
    assert half_precision(BIG, (1, 2)).instead == "no precision here has that size"
    assert on_cards(BIG, "H200", 1, ("int4",)).verdict == TRUE
    assert on_cards(SMALL, "H100", 1, ("bf16",), CONTEXT).verdict == TRUE
    assert on_cards(BIG, "H200", 4, ("bf16", "fp8")).verdict == TRUE
    assert million_tokens(BIG, 100 * GB).verdict == FALSE
    layers_of_one = dataclasses.replace(BIG, num_hidden_layers=1)
    assert CLAIMS[0].verdict(layers_of_one).verdict == FALSE


def test_claims_have_text_and_source():
    assert len({claim.key for claim in CLAIMS}) == len(CLAIMS) == 5
    assert all(claim.text.endswith(".") and claim.source for claim in CLAIMS)
