"""Rounding without packing: the grids against plain loops, int4 and int8 against the packed formats, and GPTQ."""

import math

import pytest
import torch
from torch import nn

from minimoe.errors import BadArgument
from minimoe.quantisation.detect import INT4, INT8
from minimoe.quantisation.error_feedback import gptq_round
from minimoe.quantisation.rounding import (
    E2M1,
    nearest_e2m1,
    round_fp8,
    round_int,
    round_mxfp4,
    round_nvfp4,
    rounded_weights,
)

ROUNDINGS = {
    "int4": lambda weight: round_int(weight, 4, 32),
    "row": lambda weight: round_int(weight, 3),
    "fp8": round_fp8,
    "mxfp4": round_mxfp4,
    "nvfp4": round_nvfp4,
}
each = pytest.mark.parametrize("rounding", ROUNDINGS.values(), ids=ROUNDINGS)


def matrix(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("bits", "packed"), [(4, INT4), (8, INT8)])
@pytest.mark.parametrize("shape", [(3, 128), (5, 192), (130, 2)])
def test_int4_and_int8_round_as_the_packed_formats_do(bits, packed, shape):
    weight = matrix(*shape)
    assert round_int(weight, bits, 128).equal(packed.unpack(packed.pack(weight), torch.float32))


def nearest_by_search(value):
    """The nearest number of E2M1; of two that are equally near, the one with an even place in the list."""
    magnitude = min(abs(value), 6.0)
    place = min(range(len(E2M1)), key=lambda place: (abs(E2M1[place] - magnitude), place % 2))
    return math.copysign(E2M1[place], value)


def test_e2m1_is_the_nearest_number_and_halves_are_even():
    values = [number / 16 for number in range(-112, 113)]
    assert nearest_e2m1(torch.tensor(values)).tolist() == [nearest_by_search(value) for value in values]


def mxfp4_by_loops(row):
    result = []
    for start in range(0, len(row), 32):
        group = row[start : start + 32]
        largest = max(map(abs, group))
        scale = 2.0 ** (math.floor(math.log2(largest)) - 2) if largest else 1.0
        result += [nearest_by_search(value / scale) * scale for value in group]
    return result


def nvfp4_by_loops(rows):
    whole = max(abs(value) for row in rows for value in row) / (6 * 448)
    result = []
    for row in rows:
        for start in range(0, len(row), 16):
            group = row[start : start + 16]
            wanted = torch.tensor(max(map(abs, group)) / 6 / whole)
            scale = float(wanted.to(torch.float8_e4m3fn)) * whole
            result += [nearest_by_search(value / scale) * scale for value in group]
    return result


def test_four_bit_floats_are_those_of_plain_loops():
    weight = matrix(3, 80, seed=1)
    loops = torch.tensor([mxfp4_by_loops(row) for row in weight.tolist()])
    torch.testing.assert_close(round_mxfp4(weight), loops, rtol=1e-6, atol=0)
    loops = torch.tensor(nvfp4_by_loops(weight.tolist())).reshape(3, 80)
    different = (round_nvfp4(weight) - loops).abs() > 1e-5
    assert int(different.sum()) <= 2  # a value in the middle may go either way in float32 and float64


def test_a_block_of_fp8_has_one_scale():
    weight = matrix(200, 140, seed=2)
    weight[:128, :128] *= 1000
    rounded = round_fp8(weight)
    assert torch.unique(rounded[:128, :128].abs()).numel() <= 127  # magnitudes of E4M3
    assert float((rounded / weight - 1)[128:, :128].abs().median()) < 0.04  # other blocks do not see the large one


@each
def test_the_error_is_at_most_half_a_step_of_the_largest(rounding):
    weight = matrix(6, 256, seed=3)
    assert float((rounding(weight) - weight).abs().max()) <= float(weight.abs().max()) / 3


@each
def test_zeros_stay_and_stacks_are_rounded_one_by_one(rounding):
    stack = matrix(3, 20, 96, seed=4)
    stack[1] = 0
    rounded = rounding(stack)
    assert rounded.shape == stack.shape and not rounded[1].any() and rounded.isfinite().all()
    assert all(rounded[place].equal(rounding(stack[place])) for place in range(3))


@each
def test_dtype_stays_and_the_argument_is_not_changed(rounding):
    weight = matrix(4, 64, seed=5).bfloat16()
    before = weight.clone()
    assert rounding(weight).dtype == torch.bfloat16 and weight.equal(before)


@pytest.mark.parametrize(("bits", "group"), [(1, 32), (9, 32), (4.0, 32), (4, -1), (4, 2.5)])
def test_bad_bits_and_groups_are_refused(bits, group):
    with pytest.raises(BadArgument):
        round_int(matrix(2, 4), bits, group)


def test_weights_are_restored_after_an_exception():
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with pytest.raises(RuntimeError), rounded_weights(model, torch.zeros_like, lambda name: name == "0.weight"):
        assert not model[0].weight.any() and model[1].weight.equal(before["1.weight"])
        raise RuntimeError
    assert all(parameter.equal(before[name]) for name, parameter in model.named_parameters())


# GPTQ ----------------------------------------------------------------------------------------------------------------


def mixed_inputs(tokens, ins, seed):
    """Inputs that depend on each other, as those of a model do."""
    shared = matrix(tokens, ins // 4, seed=seed) @ matrix(ins // 4, ins, seed=9)
    return shared + 0.1 * matrix(tokens, ins, seed=seed + 1)


def test_gptq_loses_less_than_rounding_on_new_inputs():
    weight, inputs, others = matrix(24, 64), mixed_inputs(500, 64, 1), mixed_inputs(500, 64, 5)
    errors = [
        float((others @ (rounded - weight).T).norm())
        for rounded in (gptq_round(weight, inputs, 4, 32), round_int(weight, 4, 32))
    ]
    assert errors[0] < 0.7 * errors[1]


def test_gptq_uses_the_grid_of_plain_rounding():
    weight = matrix(6, 64)
    rounded = gptq_round(weight, mixed_inputs(100, 64, 1), 4, 32)
    for row in range(6):
        for start in (0, 32):
            step = (weight[row, start : start + 32].abs().max() / 7).bfloat16().float()
            numbers = rounded[row, start : start + 32] / step
            assert float((numbers - numbers.round()).abs().max()) < 1e-4 and float(numbers.abs().max()) < 7.001


def test_gptq_with_independent_inputs_is_plain_rounding():
    weight = matrix(6, 32)
    assert gptq_round(weight, torch.eye(32), 4, 32).equal(round_int(weight, 4, 32))


@pytest.mark.parametrize("shape", [(0, 32), (5, 31), (32,)])
def test_gptq_refuses_inputs_that_do_not_fit(shape):
    with pytest.raises(BadArgument):
        gptq_round(matrix(6, 32), matrix(*shape), 4, 32)
