"""The commands for a server agree with the planner, and a model that does not fit has a reason."""

import dataclasses
import json
import shlex

import pytest

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.paths import models_folder
from minimoe.scale.planner.deployment import RESERVE, deploy
from minimoe.scale.planner.gpus import CARDS
from minimoe.scale.serving.vllm import CHUNK, FRACTION, PAGE, vllm_commands
from tests.commands.test_cli import refused, run

BIG = "Qwen3-235B-A22B"
ALL = {(each.precision, each.devices): each for each in vllm_commands(BIG)}
EXPERTS = "--enable-expert-parallel"


def option(each, name):
    """The value of a flag."""
    return each.arguments[each.arguments.index(name) + 1]


def test_every_form_on_4_and_8_cards():
    assert list(ALL) == [(precision, count) for count in (4, 8) for precision in ("bf16", "fp8", "gptq-int4")]
    assert {key for key, each in ALL.items() if each.fits} == ALL.keys() - {("bf16", 4)}
    names = {each.precision: each.model for each in ALL.values()}
    assert names == {"bf16": f"Qwen/{BIG}", "fp8": f"Qwen/{BIG}-FP8", "gptq-int4": f"Qwen/{BIG}-GPTQ-Int4"}


def test_eight_cards_in_bf16_word_by_word():
    assert ALL["bf16", 8].arguments == tuple(
        f"vllm serve Qwen/{BIG} --tensor-parallel-size 8 --max-model-len 40960 --max-num-batched-tokens 2048 "
        "--gpu-memory-utilization 0.92 --reasoning-parser qwen3".split()
    )


def test_experts_stay_whole_exactly_where_blocks_would_be_split():
    kept = {key for key, each in ALL.items() if EXPERTS in each.arguments}
    assert kept == {("fp8", 8), ("gptq-int4", 8)}
    commands = vllm_commands("Qwen3-30B-A3B", (2, 4))
    small = {(each.precision, each.devices): EXPERTS in each.arguments for each in commands}
    assert small == {("bf16", 2): False, ("bf16", 4): False, ("fp8", 2): False, ("fp8", 4): True,
                     ("gptq-int4", 2): False, ("gptq-int4", 4): True}  # fmt: skip
    assert "8 slices of one would split the packed blocks of fp8" in ALL["fp8", 8].notes[0]


@pytest.mark.parametrize("card", ["RTX 4090", "L40S", "A100-40GB", "H100", "H200"])
def test_the_context_is_the_longest_that_fits_the_share(card):
    """One page more does not fit, unless the model's maximum is reached."""
    for each in vllm_commands(f"{BIG}-Thinking-2507", (4, 8, 16), card):
        if not each.fits:
            continue
        plan, config = each.deployment, ModelConfig.named(each.model.removeprefix("Qwen/"))
        assert int(option(each, "--max-model-len")) == plan.context == each.max_model_len
        assert plan.device_memory == int(CARDS[card].bytes * FRACTION)
        again = dict(precision=each.precision, experts=plan.experts, chunk=CHUNK, kernel="flash")
        assert deploy(config, each.devices, plan.device_memory, context=plan.context, **again).fits
        more = deploy(config, each.devices, plan.device_memory, context=plan.context + PAGE, **again)
        assert not more.fits or plan.context == config.max_position_embeddings == 262_144
        assert each.cache_tokens >= plan.context


def test_a_larger_share_holds_more():
    low, high = (vllm_commands(f"{BIG}-Instruct-2507", [4], "H200", fraction=share)[0] for share in (0.9, 0.95))
    assert low.cache_tokens < high.cache_tokens
    assert option(high, "--gpu-memory-utilization") == "0.95"
    weights, usable = low.deployment.largest.weights, int(CARDS["H200"].bytes * 0.9) - RESERVE
    assert low.cache_tokens < (usable - weights) / (192_512 / 4)


def test_a_context_limited_by_memory_is_noted():
    each = next(each for each in vllm_commands(f"{BIG}-Instruct-2507", [8], 69 * 2**30) if each.precision == "bf16")
    assert 4096 <= each.max_model_len < 262_144 and each.max_model_len % PAGE == 0
    assert each.notes == ("the model supports 262,144 tokens; the memory holds fewer",)


def test_a_model_that_does_not_fit_has_a_reason():
    four = ALL["bf16", 4]
    assert (four.arguments, four.command, four.max_model_len, four.cache_tokens) == ((), "", 0, 0)
    assert four.reason == (
        "a card needs 117.62 GB for weights alone, and 0.92 of 85.52 GB less 2.15 GB for CUDA and NCCL are 76.53 GB; "
        "8 such cards would do"
    )
    tight = vllm_commands(BIG, [8], 66_700_000_000)[0]
    assert tight.reason.startswith("besides 58.96 GB of weights on a card there is no memory for a useful context")
    three = vllm_commands(BIG, [3])[0]
    assert three.reason.startswith("64 query heads cannot be dealt out evenly")
    assert three.reason.endswith("It divides among 1, 2, 4, 8, 16, 32 or 64")
    assert "does not compute in bfloat16" in vllm_commands(BIG, [64], "T4")[0].reason
    own = dataclasses.replace(ModelConfig.named(BIG), quantization_config={"quant_method": "minimoe", "bits": 4})
    assert "which vLLM does not read" in vllm_commands(own, [8], name="mine")[0].reason


def test_cards_without_fp8_are_named():
    fp8 = next(each for each in vllm_commands(BIG, [8], "A100 80GB") if each.precision == "fp8")
    assert fp8.notes[-1].startswith("A100-80GB does not compute in FP8")


def test_only_models_that_think_get_a_reasoning_parser():
    for file in models_folder().glob("*.json"):
        each = next(one for one in vllm_commands(file.stem, [8], "B200") if one.model == f"Qwen/{file.stem}")
        assert ("--reasoning-parser" in each.arguments) == ("Instruct" not in file.stem), file.stem


def test_any_form_s_name_finds_all_forms_and_a_folder_or_config_itself(tmp_path):
    assert vllm_commands(f"{BIG}-FP8", [8]) == vllm_commands(BIG, [8])
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(ModelConfig.named("Qwen3-0.6B").to_dict()))
    (local,) = vllm_commands(folder, [1], "L4")
    assert local.arguments[2] == str(folder)
    assert shlex.split(local.command.replace("\\\n", "")) == list(local.arguments)
    (given,) = vllm_commands(ModelConfig.named("Qwen3-0.6B"), [1], "L4", name=str(folder))
    assert given.arguments == local.arguments


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": "Qwen4"}, "Qwen4"), ({"card": "H900"}, "is not a known card"),
        ({"card": 0}, "card is 0"), ({"fraction": 0}, "fraction is 0"), ({"fraction": 1.1}, "fraction is 1.1"),
        ({"fraction": True}, "fraction is True"), ({"devices": [0]}, "devices is 0"),
        ({"model": ModelConfig.named("Qwen3-0.6B")}, "name is empty"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(arguments, sentence):
    with pytest.raises(BadArgument, match=sentence):
        vllm_commands(**({"model": BIG} | arguments))


def test_the_command_line_prints_them():
    code, out, err = run("plan", BIG, "--devices", "8", "--card", "H100", "--serve")
    assert (code, err) == (0, "")
    for precision in ("bf16", "fp8", "gptq-int4"):
        assert f"8 x H100, {precision}\n{ALL[precision, 8].command}\n" in out
    assert "--tensor-parallel-size 4" in run("plan", BIG, "--card", "H100", "--serve")[1]
    assert "4 x H100, bf16: no, a card needs 117.62 GB" in run("plan", BIG, "--card", "H100", "--serve")[1]
    content = json.loads(run("plan", BIG, "--devices", "8", "--device-memory", "85.52GB", "--serve", "--json")[1])
    assert [each["max_model_len"] for each in content["serve"]] == [40_960] * 3
    assert "serve" not in json.loads(run("plan", BIG, "--json")[1])
    assert "--serve requires the memory of a device" in refused("plan", BIG, "--serve")
