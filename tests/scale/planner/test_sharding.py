"""The sharding table: every value of every tensor is on as many ranks as its cut states, counted value by value."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minimoe.checkpoint.layout import expected_tensors
from minimoe.model.config import ModelConfig
from minimoe.paths import models_folder
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.divisibility import divides
from minimoe.scale.planner.model_size import plan
from minimoe.scale.planner.precision import PRECISIONS, linear_bytes
from minimoe.scale.planner.sharding import EXPERT_SPLITS, SPLITS, cuts, layers_of
from minimoe.scale.planner.tensor_kinds import kinds
from tests.scale.conftest import TINY, configs

FAMILY = sorted(file.stem for file in models_folder().glob("*.json"))
BIG = ModelConfig.named("Qwen3-235B-A22B")


def counted(config, devices, split, experts):
    """For each tensor on disk: how many ranks hold each value, and how many should according to the cuts."""
    shapes = {tensor.name: tensor.shape for tensor in expected_tensors(config)}
    held = {name: np.zeros(shape, int) for name, shape in shapes.items()}
    stated = {}
    for rank in range(devices):
        for cut in cuts(config, devices, rank, split, experts):
            for name in cut.names():
                where = {"rows": np.s_[cut.start : cut.stop], "columns": np.s_[:, cut.start : cut.stop]}
                part = held[name][where.get(cut.axis, ...)]
                assert part.shape == cut.shape
                part += 1
                stated[name] = cut.copies
    return held, stated


@given(
    config=configs, devices=st.integers(1, 12), split=st.sampled_from(SPLITS), experts=st.sampled_from(EXPERT_SPLITS)
)
def test_every_value_is_on_as_many_ranks_as_its_cut_states(config, devices, split, experts):
    assume(divides(config, devices, split, experts, "bf16"))
    held, stated = counted(config, devices, split, experts)
    assert held.keys() == stated.keys()
    for name, counts in held.items():
        assert (counts == stated[name]).all(), name


@given(config=configs)
def test_kinds_are_the_layout_s_tensors(config):
    wanted = Counter((tensor.name, tensor.shape) for tensor in expected_tensors(config))
    tensors = Counter(
        (name, kind.shape) for kind in kinds(config) for name in kind.names(kind.layers, range(kind.experts))
    )
    assert tensors == wanted
    assert sum(kind.parameters for kind in kinds(config)) == config.total_parameters


def test_the_235b_has_36945_tensors_of_15_kinds():
    assert len(kinds(BIG)) == 15
    assert sum(kind.tensors for kind in kinds(BIG)) == 36_945


@pytest.mark.parametrize("name", FAMILY)
def test_sums_over_ranks_are_the_total_and_the_copies(name):
    """Exact for 1..16 ranks, both splits and every precision: the copies are counted here."""
    config = ModelConfig.named(name)
    done = set()
    for precision in (*PRECISIONS, "3-bit"):
        total = plan(config, precision=precision).weight_bytes
        whole = {kind.name: kind.parameters for kind in kinds(config)}
        for devices in range(1, 17):
            for split in SPLITS:
                if not divides(config, devices, split, "whole", precision):
                    continue
                done.add((devices, split))
                placed = deploy(config, devices, precision=precision, split=split, context=1000)
                assert placed.weight_bytes == total + copies_of(config, devices, split, precision)
                values = Counter()
                for rank in range(devices):
                    for cut in placed.cuts(rank):
                        values[cut.kind.name] += Fraction(cut.parameters, cut.copies)
                assert values == whole
                replicas = max(1, devices // config.num_key_value_heads) if split == "tensor" else 1
                assert placed.cache_bytes == replicas * 1000 * config.kv_cache_bytes_per_token("bf16")
                assert len(placed.ranks) == devices
    assert {(n, "layers") for n in range(1, 17)} | {(n, "tensor") for n in (1, 2, 4, 8, 16)} <= done


def copies_of(config, devices, split, precision):
    """Bytes of all copies beyond the first, counted from the shapes."""
    width, hidden, layers = {"fp32": 4}.get(precision, 2), config.hidden_size, config.num_hidden_layers
    if split == "layers":
        head = width * config.vocab_size * hidden if config.tie_word_embeddings and devices > 1 else 0
        return head + width * (devices - 1) * len(config.moe_layers) * config.num_experts * hidden
    keys = config.num_key_value_heads * config.head_dim
    per_layer = 2 * hidden + 2 * config.head_dim  # norms, without the router
    everywhere = layers * per_layer + hidden + len(config.moe_layers) * config.num_experts * hidden
    replicas = max(1, devices // config.num_key_value_heads)
    bytes_ = width * (devices - 1) * everywhere
    bytes_ += layers * 2 * (replicas - 1) * linear_bytes(keys, hidden, precision)
    if precision == "gptq-int4":  # every slice of rows has its own g_idx, one number per input
        dense = layers - len(config.moe_layers)
        pieces = layers * (3 * devices - 1 - 2 * replicas) + dense * 2 * (devices - 1)
        bytes_ += 4 * hidden * pieces
    return bytes_


def test_the_235b_on_8_ranks():
    last = {cut.kind.name: cut for cut in cuts(BIG, 8, 7)}
    third = {cut.kind.name: cut for cut in cuts(BIG, 8, 2)}
    assert (last["self_attn.q_proj"].start, last["self_attn.q_proj"].stop) == (7168, 8192)
    assert (last["self_attn.o_proj"].axis, last["self_attn.o_proj"].shape) == ("columns", (4096, 1024))
    assert [cut["self_attn.k_proj"].start for cut in (third, last)] == [128, 384]  # head 1 on ranks 2 and 3, ...
    assert last["self_attn.v_proj"].copies == 2
    assert last["mlp.experts.up_proj"].experts == range(112, 128)
    assert (last["embed_tokens"].start, last["lm_head"].stop) == (132_944, 151_936)
    assert last["mlp.gate"].axis == "" and last["mlp.gate"].copies == 8
    assert "model.layers.93.mlp.experts.127.down_proj.weight" in last["mlp.experts.down_proj"].names()


def test_layers_of_the_235b_over_8_ranks():
    runs = [layers_of(BIG, 8, rank) for rank in range(8)]
    assert [len(run) for run in runs] == [12, 12, 12, 12, 12, 12, 11, 11]
    assert [layer for run in runs for layer in run] == list(range(94))


def test_a_tied_head_needs_the_embedding_on_both_ends():
    config = ModelConfig.named("Qwen3-0.6B")
    names = [{cut.kind.name: cut.copies for cut in cuts(config, 3, rank, "layers")} for rank in range(3)]
    assert [each.get("embed_tokens") for each in names] == [2, None, 2]
    assert ["norm" in each for each in names] == [False, False, True]


def test_by_hand():
    """Two ranks, one key head: k, v (8 values each), router (16), norms (12 per layer, 4 at the end) twice."""
    placed = deploy(TINY, 2, context=5, chunk=3, kernel="cpu")  # so that attention needs less than the experts
    layer = 8 + 8 + 8 + 8 + 2 + 2 + 4 + 4 + 16 + 2 * (3 * 3 * 4)  # q, k, v, o, norms, router, two experts
    values = 2 * layer + 5 * 4 + 5 * 4 + 4  # vocabulary rows twice, the last norm
    cache = 2 * (2 + 2) * 5
    stream, experts, choices = 3 * 3 * 4 * 2, 3 * (4 * 4 + 3 * 3) * 2, 3 * 2  # both experts of a token may be local
    work = stream + experts + choices * (2 * 4 + 4) * 2
    for rank in placed.ranks:
        assert (rank.weights, rank.cache, rank.work) == (2 * values, 2 * cache, work) == (616, 80, 366)
        assert rank.total == 616 + 80 + 366
    assert TINY.total_parameters == 524
    assert math.isclose(placed.weight_bytes, 2 * (524 + 2 * (8 + 8 + 16 + 12) + 4))
