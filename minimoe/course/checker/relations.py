"""How a wrong tensor is related to the right one: permuted, shifted, scaled, right in some rows, less precise.

Every function takes the expected and the actual tensor, of the same shape and not equal, with the tolerance of the
case, and returns the end of a sentence that begins with the name of the tensor, or None.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from minimoe.course.checker.answer_diff import TOLERANCE, close
from minimoe.course.checker.number_relations import plain

Relation = Callable[[Tensor, Tensor, float | None], str | None]


def relation(expected: Tensor, got: Tensor, tolerance: float | None = None) -> str | None:
    """The first relation that holds, or None. Tensors with fewer than three different values prove nothing."""
    if got.shape != expected.shape:
        return other_shape(expected, got, tolerance)
    if got.dtype != expected.dtype:
        if got.is_floating_point() and expected.is_floating_point():
            slack = max(TOLERANCE.get(dtype, 1e-5) for dtype in (got.dtype, expected.dtype))
            if close(expected, got.to(expected.dtype), slack).all():
                return f"has the right values; only the dtype is {name_of(got)}, expected {name_of(expected)}"
        return None
    if got.dtype == torch.bool:
        return opposite(expected, got) or only_some(expected, got, tolerance)
    if got.numel() < 3 or len(expected.unique()) < 3:
        return None
    return next((says for find in RELATIONS if (says := find(expected, got, tolerance))), None)


def comparable(expected: Tensor, got: Tensor) -> bool:
    """Whether two tensors are of one kind: on the same device, both dense, both real."""
    return got.device == expected.device and got.layout == expected.layout and not got.is_complex()


def opposite(expected: Tensor, got: Tensor) -> str | None:
    """True and False exchanged, or one of them too often."""
    if bool((got != expected).all()):
        return "is the opposite everywhere"
    if int((got != expected).sum()) < 2:
        return None
    if not bool((got & ~expected).any()):
        return "says True too rarely: wherever it is wrong, True is expected"
    return "says True too often: wherever it is wrong, False is expected" if not bool((expected & ~got).any()) else None


def other_shape(expected: Tensor, got: Tensor, tolerance: float | None) -> str | None:
    """The right values in another shape."""
    if got.numel() != expected.numel() or got.numel() < 2 or got.dtype != expected.dtype:
        return None
    if close(expected, got.reshape(expected.shape), tolerance).all():
        return "has the right values in the right order; only the axes are others"
    if got.dim() == expected.dim() == 2 and got.shape == expected.T.shape and close(expected.T, got, tolerance).all():
        return "has its two axes swapped"
    return None


def one_value(expected: Tensor, got: Tensor, tolerance: float | None) -> str | None:
    """The same value everywhere."""
    values = got.unique()
    if got.is_floating_point() and bool(got.isnan().all()):
        return "is nan everywhere"
    return f"is {float(values[0]):g} everywhere" if len(values) == 1 else None


def scaled(expected: Tensor, got: Tensor, tolerance: float | None) -> str | None:
    """A constant factor, the same for all values."""
    if not got.is_floating_point():
        return None
    largest = expected.abs().argmax()
    factor = float(got.flatten()[largest]) / float(expected.flatten()[largest])
    if not torch.isfinite(torch.tensor(factor)) or factor == 0:
        return None
    slack = TOLERANCE.get(expected.dtype, 1e-5) if tolerance is None else max(tolerance, 1e-9)
    if not torch.isclose(got.double(), factor * expected.double(), rtol=10 * slack, atol=slack).all():
        return None
    return "has the wrong sign everywhere" if abs(factor + 1) < 1e-3 else f"is {plain(factor)} times the right one"


def scaled_rows(expected: Tensor, got: Tensor, tolerance: float | None) -> str | None:
    """A factor of its own for each row, as after a division by another sum."""
    if expected.dim() < 2 or expected.shape[-1] < 2 or not got.is_floating_point():
        return None
    factor = got.double().sum(-1, keepdim=True) / expected.double().sum(-1, keepdim=True)
    if not factor.isfinite().all():
        return None
    slack = 10 * (TOLERANCE.get(expected.dtype, 1e-5) if tolerance is None else max(tolerance, 1e-9))
    right = torch.isclose(got.double(), factor * expected.double(), rtol=slack, atol=slack).all()
    return "has the right proportions in every row, but another sum" if right else None


def added(expected: Tensor, got: Tensor, tolerance: float | None) -> str | None:
    """A constant added to all values."""
    shift = (got.double() - expected.double()).flatten()
    slack = 10 * (TOLERANCE.get(expected.dtype, 1e-5) if tolerance is None else max(tolerance, 1e-9))
    constant = float(shift[0])
    if (
        not shift.isfinite().all()
        or abs(constant) <= slack
        or not torch.allclose(shift, shift[:1].expand_as(shift), atol=slack)
    ):
        return None
    return f"is the right one plus {plain(constant)}" if constant > 0 else f"is the right one minus {plain(-constant)}"


FUNCTIONS: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("the square of the right one", torch.square),
    ("the square root of the right one", torch.sqrt),
    ("1 divided by the right one", torch.reciprocal),
    ("exp of the right one", torch.exp),
    ("the logarithm of the right one", torch.log),
    ("the right one after a softmax over its last axis", lambda tensor: tensor.softmax(-1)),
    ("the right one divided by the sum of each row", lambda tensor: tensor / tensor.sum(-1, keepdim=True)),
    ("the right one without its sign", torch.abs),
)


def transformed(expected: Tensor, got: Tensor, tolerance: float | None) -> str | None:
    """A function of the right values: one step too many or too few."""
    if not got.is_floating_point() or not expected.dim():
        return None
    for name, function in FUNCTIONS:
        value = function(expected.double())
        if value.isfinite().all() and torch.allclose(got.double(), value, rtol=1e-4, atol=1e-6):
            return f"is {name}"
    return None


def moved(expected: Tensor, got: Tensor, tolerance: float | None) -> str | None:
    """The same values at other places along one axis: reversed, shifted, or in another order."""
    for axis in range(expected.dim()):
        if expected.shape[axis] < 2 or not close(expected.sort(axis).values, got.sort(axis).values, tolerance).all():
            continue
        along = f"along its axis {axis}" if expected.dim() > 1 else "in it"
        if expected.shape[axis] > 2 and close(expected.flip(axis), got, tolerance).all():
            return f"is reversed {along}"
        for step in (1, -1):
            if expected.shape[axis] > 2 and close(expected.roll(step, axis), got, tolerance).all():
                return f"is shifted by one {along}"
        return f"has the right values {along}, in another order"
    if expected.dim() == 2 and expected.shape[0] == expected.shape[1] and close(expected.T, got, tolerance).all():
        return "has its two axes swapped"
    if close(expected.flatten().sort().values, got.flatten().sort().values, tolerance).all():
        return "has the right values at other places"
    return None


def only_some(expected: Tensor, got: Tensor, tolerance: float | None) -> str | None:
    """Right up to, or from, an index of one axis; or right except for single indices of it."""
    right = close(expected, got, tolerance)
    for axis in range(expected.dim()):
        size = expected.shape[axis]
        rows = right.movedim(axis, 0).reshape(size, -1).all(-1)
        count = int(rows.sum())
        if size < 3 or count == 0:
            continue
        name = f" of axis {axis}" if expected.dim() > 1 else ""
        wrong = (~rows).nonzero().flatten().tolist()
        if len(wrong) == 1:
            place = {0: "the first index", size - 1: "the last index"}.get(wrong[0], f"index {wrong[0]}")
            return f"is wrong only at {place}{name}"
        if len(wrong) == size - 1 and rows[0]:
            return f"is right only at the first index{name}"
        if rows[:count].all():
            return f"is right up to index {count - 1}{name} and wrong after it"
        if rows[size - count :].all():
            return f"is wrong up to index {size - count - 1}{name} and right after it"
    return None


LEAST_DIFFERING = 8  # values; that so many differ in one direction by accident has a probability below 1 %


def one_sided(pairs: Sequence[tuple[Tensor, Tensor]], tolerance: float | None) -> str | None:
    """All calls together: never larger, or never smaller, than the right one; or wrong on the diagonal alone."""
    marks = [~close(expected, got, tolerance) for expected, got in pairs]
    if all(on_diagonal(mark) for mark in marks):
        return "is wrong only on its diagonal"
    difference = torch.cat(
        [(got.double() - expected.double())[mark] for (expected, got), mark in zip(pairs, marks, strict=True)]
    )
    if len(difference) < LEAST_DIFFERING or not difference.isfinite().all():
        return None
    if bool((difference < 0).all()):
        return "is too small wherever it is wrong"
    return "is too large wherever it is wrong" if bool((difference > 0).all()) else None


def on_diagonal(mark: Tensor) -> bool:
    """Whether the True values of a square matrix, larger than 2 x 2, are all on its diagonal."""
    if mark.dim() != 2 or mark.shape[0] != mark.shape[1] or len(mark) < 3:
        return False
    return not bool((mark & ~torch.eye(len(mark), dtype=torch.bool)).any())


def less_precise(expected: Tensor, got: Tensor, tolerance: float | None) -> str | None:
    """Right to some digits only."""
    if not got.is_floating_point():
        return None
    size = expected.double().abs().max()
    error = float((got.double() - expected.double()).abs().max() / size)
    if not 0 < error < 5e-3:
        return None
    digits = int(-torch.tensor(error).log10())
    return f"is right to about {digits} digits: a step is computed in a lower precision than {name_of(expected)}"


RELATIONS: tuple[Relation, ...] = (
    one_value,
    less_precise,
    scaled,
    added,
    moved,
    scaled_rows,
    transformed,
    only_some,
)


def name_of(tensor: Tensor) -> str:
    """The dtype of a tensor, such as float32."""
    return str(tensor.dtype).removeprefix("torch.")
