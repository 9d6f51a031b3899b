"""The bytes read while loading, against a count on a checkpoint of real size and a naive walk over all files."""

import dataclasses
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minimoe.checkpoint.layout import expected_tensors
from minimoe.checkpoint.sparse_checkpoint import write_sparse
from minimoe.errors import BadArgument
from minimoe.humanize import duration
from minimoe.model.config import ModelConfig
from minimoe.scale.distributed.load_shard import open_part
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.divisibility import divides
from minimoe.scale.planner.load_time import SPEEDS, reading
from minimoe.scale.planner.model_size import plan
from minimoe.scale.planner.sharding import EXPERT_SPLITS, SPLITS
from tests.commands.test_cli import run
from tests.scale.conftest import configs

NAME = "Qwen3-235B-A22B"
BIG = ModelConfig.named(NAME)
GB = 10**9


def test_the_235b_on_8_ranks_reads_the_measured_bytes():
    """64.5 GB for a rank and 516 GB for 8 were counted while a checkpoint of that size was read."""
    read = reading(deploy(BIG, 8))
    heads = 1024 * 4096 + 2 * 128 * 4096 + 4096 * 8192  # rows of q, k and v; all of o
    layer = heads + 2 * 128 + 2 * 4096 + 128 * 4096 + 16 * 3 * 1536 * 4096  # norms, router, experts
    assert set(read.ranks) == {2 * (94 * layer + 2 * 18_992 * 4096 + 4096)} == {64_479_321_088}
    o_proj = 94 * 4096 * 8192 * 2
    assert read.ranks[0] - deploy(BIG, 8).ranks[0].weights == o_proj * 7 // 8
    assert round(read.total / GB) == 516
    assert round(read.total / 470_187_269_120, 2) == 1.10


@given(
    config=configs, devices=st.sampled_from([1, 2, 4]), split=st.sampled_from(SPLITS),
    experts=st.sampled_from(EXPERT_SPLITS),
)  # fmt: skip
def test_own_rows_are_read_alone_and_columns_with_the_whole_matrix(config, devices, split, experts):
    """A rank's part of a matrix is read alone if it is contiguous in the file."""
    config = dataclasses.replace(config, hidden_size=config.hidden_size + 1)  # columns of a single row are contiguous
    assume(divides(config, devices, split, experts, "bf16"))
    placed = deploy(config, devices, split=split, experts=experts, context=1)
    shapes = {tensor.name: tensor.shape for tensor in expected_tensors(config)}
    for rank, total in enumerate(reading(placed).ranks):
        naive = 0
        for cut in placed.cuts(rank):
            for name in cut.names():
                width = shapes[name][-1]
                rows = range(*((cut.start, cut.stop) if cut.axis == "rows" else (0, shapes[name][0])))
                columns = range(*((cut.start, cut.stop) if cut.axis == "columns" else (0, width)))
                if len(shapes[name]) == 1:
                    naive += 2 * width
                elif rows and columns:
                    first, last = rows[0] * width + columns[0], rows[-1] * width + columns[-1]
                    together = len(rows) * len(columns) == last - first + 1
                    naive += 2 * (last - first + 1 if together else shapes[name][0] * width)
        assert total == naive


def test_gptq_stores_matrices_transposed():
    """Its rows of inputs are contiguous: o_proj is read in part, q, k and v in full."""
    ours, gptq = (reading(deploy(BIG, 8, precision=each)).ranks[0] for each in ("int4", "gptq-int4"))
    kept = deploy(BIG, 8, precision="gptq-int4").ranks[0].weights
    attention = {part.name: part.bytes for part in plan(BIG, precision="gptq-int4").parts}["attention"]
    assert kept < gptq < kept + attention
    assert gptq > ours


@pytest.mark.parametrize("precision", ["bf16", "fp8", "int8", "int4", "gptq-int4"])
def test_whole_layers_are_read_once_and_routers_by_every_rank(precision):
    for devices in (1, 3, 7):
        placed = deploy(BIG, devices, precision=precision, split="layers")
        assert reading(placed).ranks == tuple(rank.weights for rank in placed.ranks)
        routers = 94 * 128 * 4096 * 2
        assert reading(placed).total == plan(BIG, precision=precision).weight_bytes + (devices - 1) * routers


FORMATS = {
    "bf16": None,
    "fp8": ModelConfig.named(f"{NAME}-FP8").quantization_config,
    "gptq-int4": ModelConfig.named(f"{NAME}-GPTQ-Int4").quantization_config,
    "int4": {"quant_method": "minimoe", "bits": 4, "group_size": 128},
    "int8": {"quant_method": "minimoe", "bits": 8, "group_size": 128},
}


@pytest.mark.parametrize("precision", FORMATS)
def test_the_ranks_of_this_library_read_exactly_these_bytes(precision, tmp_path):
    """The planned reads of a rank, from the headers of a checkpoint with two layers of the real width."""
    config = dataclasses.replace(BIG, num_hidden_layers=2, quantization_config=FORMATS[precision])
    folder = write_sparse(tmp_path / "two layers", config)
    for devices, split in ((1, "tensor"), (2, "tensor"), (8, "tensor"), (2, "layers")):
        planned_bytes = [open_part(folder, rank, devices, split).bytes for rank in range(devices)]
        assert planned_bytes == list(reading(deploy(config, devices, split=split)).ranks)


def test_the_ranks_of_a_node_share_its_disk():
    placed = deploy(BIG, 16)
    two, one = reading(placed), reading(placed, per_node=16)
    assert (len(two.nodes), len(one.nodes)) == (2, 1)
    assert sum(two.nodes) == two.total == one.nodes[0]
    assert two.seconds(GB) == one.seconds(GB) / 2 == one.shared_seconds(GB) / 2
    assert two.rank_seconds(GB) == two.ranks[0] / GB
    assert [len(reading(placed, per_node=count).nodes) for count in (1, 3, 5, 100)] == [16, 6, 4, 1]


def test_packing_while_loading_reads_the_larger_files():
    placed = deploy(BIG, 1, precision="int4")
    assert reading(placed).total == 123_142_036_480
    assert reading(placed, stored="bf16").total == 470_187_269_120


@pytest.mark.parametrize("speed", [0, -1, float("nan"), "fast", True, None])
def test_a_speed_is_a_number_above_zero(speed):
    with pytest.raises(BadArgument, match="bytes_per_second is"):
        reading(deploy(BIG, 8)).seconds(speed)


@pytest.mark.parametrize("arguments", [{"stored": "fp7"}, {"per_node": 0}])
def test_other_bad_arguments_are_named(arguments):
    with pytest.raises(BadArgument, match=r"precision is|per_node is"):
        reading(deploy(BIG, 8), **arguments)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (3.24, "3.2 s"), (18.42, "18 s"), (119.9, "120 s"), (470.2, "7.8 min"), (37_615, "10.4 h"),
     (180_000, "2.1 d")],
)  # fmt: skip
def test_durations_as_text(seconds, text):
    assert duration(seconds) == text


def test_the_command_prints_it_and_has_it_in_json():
    code, out, err = run("plan", "Qwen3-235B-A22B", "--devices", "8", "--precision", "int4")
    assert (code, err) == (0, "")
    rows = {line[: len("NVMe SSD, 3.5 GB/s")]: line.split()[-4:] for line in out.splitlines() if "GB/s" in line}
    read = reading(deploy(BIG, 8, precision="int4"))
    assert rows["NVMe SSD, 3.5 GB/s"] == f"{read.ranks[0] / 3.5e9:.1f} s {read.total / 3.5e9:.0f} s".split()
    assert "from bf16 files, converted while they are read: 515.83 GB" in out
    content = json.loads(run("plan", "Qwen3-235B-A22B", "--devices", "8", "--json")[1])["deployment"]["reading"]
    assert content["rank_bytes"] == [64_479_321_088] * 8
    assert content["speeds"].keys() == SPEEDS.keys()
    assert "to read" not in run("plan", "Qwen3-235B-A22B", "--devices", "8", "--precision", "3-bit")[1]
