"""Relations of a wrong tensor to the right one are named when they hold, and nothing is named when they do not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minimoe.course.checker.number_relations import number_relation
from minimoe.course.checker.relations import relation


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: -x, "wrong sign"),
        (lambda x: 2 * x, "2 times"),
        (lambda x: x / 3, "1/3 times"),
        (lambda x: x + 1, "plus 1"),
        (lambda x: x.flip(0), "reversed along its axis 0"),
        (lambda x: x.roll(1, 1), "shifted by one along its axis 1"),
        (lambda x: x[torch.tensor([2, 0, 3, 1])], "along its axis 0, in another order"),
        (
            lambda x: x.flatten()[torch.randperm(20, generator=torch.Generator().manual_seed(1))].reshape(4, 5),
            "other places",
        ),
        (lambda x: x.square(), "square of"),
        (lambda x: x.exp(), "exp of"),
        (lambda x: x.softmax(-1), "after a softmax"),
        (lambda x: x.abs(), "without its sign"),
        (lambda x: torch.zeros_like(x), "0 everywhere"),
        (lambda x: x * float("nan"), "nan everywhere"),
        (lambda x: x * torch.tensor([[2.0], [3.0], [0.5], [1.0]]), "another sum"),
        (lambda x: torch.cat([x[:1], drawn(9, 3, 5)]), "right only at the first index of axis 0"),
        (lambda x: torch.cat([x[:2], drawn(9, 2, 5)]), "right up to index 1 of axis 0"),
        (lambda x: torch.cat([x[:3], drawn(9, 1, 5)]), "wrong only at the last index of axis 0"),
        (lambda x: x.bfloat16().float(), "lower precision"),
        (lambda x: x.double(), "only the dtype"),
        (lambda x: x.T, "two axes swapped"),
        (lambda x: x.flatten(), "only the axes are others"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_relation_that_holds_is_named(change, says, seed):
    expected = drawn(seed, 4, 5)
    assert says in relation(expected, change(expected))


@given(st.integers(0, 10_000), st.sampled_from([(3,), (4, 5), (2, 3, 4)]), st.booleans())
def test_nothing_is_named_for_unrelated_numbers(seed, shape, whole):
    expected, got = drawn(seed, *shape), drawn(seed + 20_000, *shape)
    if whole:
        expected, got = (100 * expected).long(), (100 * got).long()
        if (expected == got).any():
            return
    assert relation(expected, got) is None


def test_few_values_prove_nothing():
    assert relation(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0, 2.0, 2.0])) is None


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([(13.0, 26.0), (7.0, 14.0)], "is 2 times"),
        ([(4096, 4_194_304)], "is 1,024 times"),
        ([(3.5e9, 3.5)], "is 1/1,000,000,000 times"),
        ([(10, 11), (20, 21)], "one too many"),
        ([(94, 93)], "one too few"),
        ([(3.0, 3.5), (4.0, 4.5)], "plus 1/2"),
        ([(5.0, -5.0)], "wrong sign"),
        ([(0.2718, 0.27)], "rounded to 2 digits"),
        ([(2.7, 2), (3.9, 3)], "rounded down"),
        ([(0.3, 0.7)], "1 minus"),
        ([(0.25, 4.0), (0.5, 2.0)], "1 divided by"),
        ([(3, 9), (5, 25), (4, 16)], "square of"),
        ([(3, 0)], "is 0"),
        ([(3, 7), (4, 7), (5, 7)], "is 7 in every call"),
        ([(3, 1), (9, 5), (4, 3)], "too small in every call"),
    ],
)
def test_a_relation_of_numbers_is_named(pairs, says):
    assert says in number_relation(pairs)


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("most", [10, 1000])
def test_the_ratio_of_any_two_numbers_is_no_explanation(calls, most):
    """Of 300 pairs of unrelated whole numbers at most one in twenty has a relation, by accident."""
    drawn_numbers = torch.randint(
        1, most, (300, calls, 2), generator=torch.Generator().manual_seed(most + calls)
    ).tolist()
    named = [pairs for pairs in drawn_numbers if all(one != other for one, other in pairs) and number_relation(pairs)]
    assert len(named) <= 15


@given(st.lists(st.tuples(st.floats(allow_nan=True), st.floats(allow_infinity=True)), max_size=3))
def test_no_number_breaks_a_relation(pairs):
    number_relation([(one, other) for one, other in pairs if one != other])
