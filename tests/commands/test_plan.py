"""`minimoe plan` with devices: its output, and its refusals in one line."""

import json

import pytest

from minimoe.model.config import ModelConfig
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.report import as_dict
from tests.commands.test_cli import refused, run

BIG = "Qwen3-235B-A22B"


def lines(*arguments):
    code, out, err = run("plan", *arguments)
    assert (code, err) == (0, "")
    return out.splitlines()


def test_eight_cards():
    out = lines(BIG, "--devices", "8", "--card", "h100", "--context", "32768")
    assert "8 devices of 85.52 GB (H100), divided by heads, whole experts and vocabulary rows" in out
    assert "0..7  58.96 GB   1.58 GB   102.24 MB  60.64 GB  22.73 GB" in out
    assert "it fits: 22.73 GB to spare on the fullest device" in out
    assert "attention in the work space: FlashAttention (H100 supports it in 16 bits)" in out
    assert not any("tight" in line for line in out)
    rows = {line.split(" (")[0]: line.split()[-7:] for line in out if "self_attn.k_proj" in line or "up_proj" in line}
    assert rows["self_attn.k_proj"][-5:] == ["rows", "0..127", "384..511", "2", "ranks"]
    assert rows["mlp.experts.up_proj"][-5:] == ["experts", "0..15", "112..127", "1", "rank"]


def test_missing_memory_and_alternatives():
    out = lines(BIG, "--devices", "2", "--device-memory", "81559MiB", "--context", "32768")
    assert "it does not fit: 161.00 GB short on the fullest device, 322.01 GB in all" in out
    assert "what fits: the weights in int4; or 8 such devices" in out
    assert "no similar plan fits: other devices are needed" in lines(BIG, "--device-memory", "1GB")


def test_a_tight_plan():
    cards = ("--devices", "6", "--card", "4090", "--split", "layers")
    out = lines(BIG, *cards, "--precision", "int4", "--context", "32768")
    assert "it fits: 506.19 MB to spare on the fullest device" in out
    assert (
        "but tight: 1.69 GB short if CUDA and NCCL use the most that has been reported, 4.34 GB a device "
        "(NVIDIA/nccl #1685)"
    ) in out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--card", "T4"), "no FlashAttention for this model on T4"),
        (("--device-memory", "80GB"), "the largest, as the card is unknown"),
        ((), "the largest, as the card is unknown"),
        (("--card", "H100", "--precision", "fp32"), "FlashAttention supports 16 bits and heads of up to 256; this is"),
    ],
)
def test_the_plain_kernel_is_named_with_its_reason(arguments, why):
    out = lines(BIG, "--devices", "16", *arguments)
    note = next(line for line in out if line.startswith("attention in the work space"))
    assert "the plain kernel, which stores all scores" in note and why in note


@pytest.mark.parametrize(
    "name", ["qwen3-235b-a22b", "Qwen/Qwen3-235B-A22B", "hf://Qwen/Qwen3-235B-A22B", "hf://qwen/QWEN3-235B-A22B/"]
)
def test_a_model_by_its_published_name(name):
    assert any(line.startswith("together") and "235,093,634,560" in line for line in lines(name))
    serve = "\n".join(lines(name, "--card", "H100", "--serve"))
    assert "vllm serve Qwen/Qwen3-235B-A22B-FP8" in serve


def test_layers_on_seven():
    out = lines(BIG, "--devices", "7", "--split", "layers", "--device-memory", "80GB", "--context", "32768")
    assert "7 devices of 80.00 GB, each with a run of whole layers" in out
    start = next(number for number, line in enumerate(out) if line.startswith("rank "))
    assert [line.split()[0] for line in out[start:][1:5]] == ["0", "1..2", "3..5", "6"]
    queries = next(line for line in out if line.startswith("self_attn.q_proj "))
    assert queries.split()[-5:] == ["layers", "0..13", "81..93", "1", "rank"]
    router = next(line for line in out if line.startswith("mlp.gate "))
    assert router.split()[-9:] == ["copied", *("all of it " * 2).split(), "7", "ranks"]
    assert next(line for line in out if line.startswith("lm_head")).split()[-6:-2] == ["nothing", "all", "of", "it"]


def test_one_device_and_devices_without_memory():
    out = lines(BIG, "--card", "H200", "--precision", "int4", "--context", "32768")
    assert "1 device of 150.75 GB (H200)" in out
    assert not any("self_attn" in line for line in out)
    out = lines(BIG, "--devices", "4")
    assert "4 devices, divided by heads, whole experts and vocabulary rows" in out
    assert not any("fit" in line for line in out)


def test_cache_and_size_only_precisions():
    out = lines(BIG, "--kv-precision", "fp8", "--precision", "3-bit", "--context", "1000")
    assert "KV cache in fp8: 96,256 bytes a token, 96.26 MB for 1,000 tokens" in out
    assert "3-bit is a size only: nothing here reads or writes it" in out
    assert any(line.startswith("together") and line.endswith("93.92 GB") for line in out)


def test_json_has_the_sizes_and_the_deployment():
    arguments = ("--devices", "8", "--precision", "fp8", "--kv-precision", "fp8", "--context", "1000", "--json")
    content = json.loads("\n".join(lines(BIG, *arguments)))
    expected = deploy(ModelConfig.named(BIG), 8, precision="fp8", kv_precision="fp8", context=1000)
    assert content["deployment"] == json.loads(json.dumps(as_dict(expected)))
    assert (content["kv_precision"], content["kv_cache_bytes"]) == ("fp8", 96_256_000)
    assert "deployment" not in json.loads("\n".join(lines(BIG, "--json")))


@pytest.mark.parametrize(
    "case",
    [
        "--devices 3 | 64 query heads cannot be dealt out evenly: each rank takes whole heads. Take 1, 2, 4, 8, 16, 32",
        "--devices 8 --experts split --precision fp8 | FP8 blocks are 128 wide",
        "--devices 95 --split layers | the model has 94 layers",
        "--devices 0 | 0 is not in the range",
        "--device-memory 80 | --device-memory is '80', expected a size with its unit, such as 80GB",
        "--card A100 | could be several cards: A100-40GB, A100-80GB",
        "--card H2O0 | Did you mean",
        "--context 10000000000000000000000000 | expected a number of tokens, 0 to 1,000,000,000.",
        "--device-memory 100000000000000000000GB | expected a number of bytes, 1 to 1,000,000,000,000,000.",
        "--card H100 --device-memory 80GB | --card and --device-memory both set",
        "--split rows | 'rows' is not one of 'tensor', 'layers'",
        "--kv-precision int4 | 'int4' is not one of",
        "--experts some | 'some' is not one of 'whole', 'split'",
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(case):
    arguments, sentence = case.split(" | ")
    assert sentence in refused("plan", BIG, *arguments.split())


def test_a_misspelt_name():
    assert "Did you mean Qwen3-235B-A22B or" in refused("plan", "qwen3-235b-a22")
