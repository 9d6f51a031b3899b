"""Compare a result with the expected one: type first, then shape, dtype and values, without broadcasting."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

# Absolute and relative: wide enough for a different order of summation, far too narrow for a different formula
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


@dataclass(frozen=True)
class Mismatch:
    """A difference between the expected and the actual result, described by `says`.

    `form` is True for a difference of type, shape or dtype, and False for one of values. For tensors that differ in
    values: both tensors, and `wrong`, a bool mask of the differing values.
    """

    says: str
    form: bool
    expected: Tensor | None = None
    got: Tensor | None = None
    wrong: Tensor | None = None


def difference(
    expected: Any, got: Any, tolerance: float | None = None, factor: float = 1.0, name: str = "the result"
) -> Mismatch | None:
    """The first difference between `got` and `expected`, form before values; None if they are equal."""
    return next(iter(sorted(differences(expected, got, tolerance, factor, name), key=lambda m: not m.form)), None)


def differences(expected: Any, got: Any, tolerance: float | None, factor: float, name: str) -> list[Mismatch]:
    """All differences; tuples, lists and dictionaries are compared element by element."""
    if isinstance(expected, Tensor):
        mismatch = tensor_difference(expected, got, tolerance, name)
        return [mismatch] if mismatch else []
    if isinstance(expected, (tuple, list)):
        if not isinstance(got, (tuple, list)) or len(got) != len(expected):
            return [Mismatch(f"{name} is {kind(got)}, expected {kind(expected)}", True)]
        names = [f"{name}.{part}" for part in getattr(expected, "_fields", ())]
        names = names or [f"{name}[{index}]" for index in range(len(expected))]
        parts = zip(expected, got, names, strict=True)
        return [mismatch for e, g, part in parts for mismatch in differences(e, g, tolerance, factor, part)]
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping) or set(got) != set(expected):
            return [Mismatch(f"{name} is {kind(got)}, expected {kind(expected)}", True)]
        return [
            f for key in expected for f in differences(expected[key], got[key], tolerance, factor, f"{name}[{key!r}]")
        ]
    if isinstance(expected, (int, float)):
        got = python_number(got)
    if isinstance(expected, (int, float)) and not isinstance(expected, bool):
        return number_difference(expected, got, tolerance, factor, name)
    if type(got) is not type(expected):
        return [Mismatch(f"{name} is {kind(got)}, expected {kind(expected)}", True)]
    return [] if got == expected else [Mismatch(f"{name} is {got!r}, expected {expected!r}", False)]


def python_number(value: Any) -> Any:
    """A scalar of torch or NumPy, or a fraction, as a Python number; anything else as it is."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return value.item()
    return float(value) if isinstance(value, Fraction) else value


def number_difference(expected: Any, got: Any, tolerance: float | None, factor: float, name: str) -> list[Mismatch]:
    """The difference of two numbers, which must be equal or, for an estimate, within `factor` of each other."""
    if not isinstance(got, (int, float)) or isinstance(got, bool):
        return [Mismatch(f"{name} is {kind(got)}, expected a number", True)]
    if factor > 1:
        if got * expected > 0 and 1 / factor <= got / expected <= factor:
            return []
        return [Mismatch(f"{name} is {got:,}, expected {expected:,} within a factor of {factor:g}", False)]
    slack = 1e-6 if tolerance is None else tolerance
    if abs(got - expected) <= slack * abs(expected):
        return []
    return [Mismatch(f"{name} is {got:,}, expected {expected:,}", False)]


def tensor_difference(expected: Tensor, got: Any, tolerance: float | None, name: str) -> Mismatch | None:
    """The first difference of two tensors: type, device, number of axes, shape, dtype, values, in this order."""
    if not isinstance(got, Tensor):
        return Mismatch(f"{name} is {kind(got)}, expected {kind(expected)}", True)
    if got.layout != expected.layout:
        return Mismatch(f"{name} is a tensor of layout {got.layout}, expected an ordinary one: use .to_dense()", True)
    if got.device != expected.device:
        return Mismatch(f"{name} is on {got.device}, expected {expected.device}: make new tensors there", True)
    if got.dim() != expected.dim():
        axes = f"{got.dim()} axes {tuple(got.shape)}, expected {expected.dim()} axes {tuple(expected.shape)}"
        return Mismatch(f"{name} has {axes}", True)
    if got.shape != expected.shape:
        return Mismatch(f"{name} has shape {tuple(got.shape)}, expected {tuple(expected.shape)}", True)
    if got.dtype != expected.dtype:
        return Mismatch(f"{name} has dtype {got.dtype}, expected {expected.dtype}", True)
    wrong = ~close(expected, got, tolerance)
    if not wrong.any():
        return None
    says = f"{name}: {int(wrong.sum())} of {wrong.numel()} values differ"
    missing = int((got.isnan() & ~expected.isnan()).sum()) if got.is_floating_point() else 0
    says += f", {missing} of them are nan" if missing else ""
    return Mismatch(says, False, expected.detach(), got.detach(), wrong)


def close(expected: Tensor, got: Tensor, tolerance: float | None = None) -> Tensor:
    """A bool mask of the equal values of two tensors of one shape: exact for integers and booleans, nan equals nan."""
    if not expected.is_floating_point():
        return expected == got
    slack = TOLERANCE.get(expected.dtype, 1e-5) if tolerance is None else tolerance
    return torch.isclose(got.double(), expected.double(), rtol=slack, atol=slack, equal_nan=True)


def kind(value: Any) -> str:
    """A short description of a value: its type, and its shape, length or content."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} {value.dtype}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, Mapping):
        return f"a dict with the keys {list(value)}"
    if value is None:
        return "None"
    shape = getattr(value, "shape", ())  # of a NumPy array, whose numbers would fill the page
    content = repr(value) if not shape else f"{tuple(shape)}"
    return f"{type(value).__name__} {content if len(content) <= 80 else content[:80] + ' ...'}"
