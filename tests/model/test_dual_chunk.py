"""Dual chunk attention: three rotations of a query are a table of distances, and near pairs keep theirs."""

import pytest
import torch
from einops import repeat
from hypothesis import given
from hypothesis import strategies as st

from minimoe.course.long_context import rotated_scores, scores_by_distance
from minimoe.errors import BadArgument
from minimoe.model import dual_chunk, rope
from minimoe.model.config import ModelConfig
from minimoe.model.dual_chunk import Chunks, dual_chunk_scores
from minimoe.paths import find

CONFIG = ModelConfig.from_file(find("data/mini") / "config.json")


def exact_tables(config, positions, dtype):
    """`rotary_tables_at` with float64 angles."""
    frequencies, scale = rope.frequencies_and_scale(config)
    angles = repeat(
        torch.outer(positions.double(), frequencies.double()), "position half -> position (two half)", two=2
    )
    return angles.cos() * scale, angles.sin() * scale


def draw(config, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 2, 3, length, config.head_dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("size", "local"), [(40, 8), (12, 0), (9, 4), (300, 20)])
def test_three_rotations_are_a_table_of_distances(size, local, monkeypatch):
    monkeypatch.setattr(dual_chunk, "rotary_tables_at", exact_tables)
    config, chunks, positions = CONFIG, Chunks(size, local), torch.arange(157)
    q, k = draw(config, 157)
    by_rotation = dual_chunk_scores(config, q, k, chunks)
    by_distance = scores_by_distance(config, q, k, chunks.distances(positions, positions))
    assert (by_rotation - by_distance).tril().abs().max() < 1e-12


@given(st.integers(2, 30), st.data())
def test_distances(size, data):
    local, length = data.draw(st.integers(0, size // 2)), data.draw(st.integers(1, 120))
    chunks, position = Chunks(size, local), torch.arange(length)
    used, true = chunks.distances(position, position), position[:, None] - position
    causal = true >= 0
    assert (used[causal] >= 0).all() and (used[causal] <= size).all()
    near = causal & (true <= local)
    assert torch.equal(used[near], true[near])
    assert torch.equal(used[: chunks.stride, : chunks.stride], true[: chunks.stride, : chunks.stride])
    assert (used[causal] <= true[causal]).all()  # nothing is moved away


def test_a_text_of_one_chunk_is_plain_rope():
    config, chunks = CONFIG, Chunks(64, 8)
    q, k = (x.float() for x in draw(config, chunks.stride))
    assert torch.equal(dual_chunk_scores(config, q, k, chunks), rotated_scores(config, q, k))


def test_the_last_queries_alone_get_the_scores_of_the_whole_text():
    config, chunks = CONFIG, Chunks(20, 4)
    q, k = draw(config, 61)
    whole = dual_chunk_scores(config, q, k, chunks)
    assert torch.allclose(dual_chunk_scores(config, q[:, :, -7:], k, chunks), whole[:, :, -7:])


@pytest.mark.parametrize(("size", "local"), [(8, 5), (8, -1), (0, 0)])
def test_sizes_are_checked(size, local):
    with pytest.raises(BadArgument, match="local_size"):
        Chunks(size, local)
