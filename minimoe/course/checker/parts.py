"""The parts of a result, such as the experts and the weights of a routing: which are right, and what a wrong one is."""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch import Tensor

from minimoe.course.checker.answer_diff import difference
from minimoe.course.checker.exercise import Exercise, Stage
from minimoe.course.checker.number_relations import number_relation
from minimoe.course.checker.relations import comparable, one_sided, relation
from minimoe.course.checker.user_code import Raised, run

MOST_VALUES = 4  # a longer tuple is a list of numbers rather than of parts
MOVED = re.compile(  # relations of which one may hold in a call and another in the next
    r"(?:is reversed|is shifted by one|has the right values) (along its axis \d+|in it)(?:, in another order)?"
)
SCALED = re.compile("is .* times the right one")
WHOLE = ""  # the name of a result without parts


@dataclass(frozen=True)
class Result:
    """One call: its arguments, the expected and the actual result, and the tolerance of the case."""

    arguments: tuple[Any, ...]
    expected: Any
    got: Any
    tolerance: float | None


def parts_of(exercise: Exercise, expected: Any) -> dict[str, Callable[[Any], Any]]:
    """name -> the function that takes this part out of a result: as declared, or its fields or keys."""
    if exercise.parts:
        return dict(exercise.parts)
    if isinstance(expected, Mapping):
        return {str(key): itemgetter(key) for key in expected}
    fields = getattr(expected, "_fields", ())
    if type(expected) is tuple and 2 <= len(expected) <= MOST_VALUES:
        return {f"value {number + 1}": element(number) for number in range(len(expected))}
    return {name: attrgetter(name) for name in fields}


def element(number: int) -> Callable[[Any], Any]:
    """The function that takes one element out of a tuple; None where a call has a shorter one."""
    return lambda values: values[number] if number < len(values) else None


def take(extract: Callable[[Any], Any], value: Any, expected: Any) -> Any:
    """A part of a result; a plain tuple stands for a named one of the same length. Raised if there is no such part."""
    if isinstance(value, Raised):
        return value
    if type(value) in (tuple, list) and hasattr(expected, "_fields") and len(value) == len(expected):
        value = type(expected)(*value)
    return run(extract, (value,))


def wrong_parts(exercise: Exercise, results: Sequence[Result]) -> tuple[list[str], list[str]]:
    """The names of the parts that are right in every call, and of those that are not; both empty without parts."""
    right: list[str] = []
    wrong: list[str] = []
    for name, extract in parts_of(exercise, results[0].expected).items() if results else ():
        fits = all(
            not isinstance(part := take(extract, result.got, result.expected), Raised)
            and difference(extract(result.expected), part, result.tolerance) is None
            for result in results
        )
        (right if fits else wrong).append(name)
    return right, wrong


def explain_parts(exercise: Exercise, results: Sequence[Result]) -> str | None:
    """What is right, and what the wrong parts are: a stage that they equal, or their relation to the right ones."""
    right, wrong = wrong_parts(exercise, results)
    if len(wrong) == 2 and exchanged(exercise, wrong, results):
        return f"{wrong[0]} and {wrong[1]} are exchanged."
    sentences = [f"Right: {', '.join(right)}."] if right and wrong else []
    extracts = parts_of(exercise, results[0].expected) if results else {}
    explained = False
    for name in wrong or [WHOLE]:
        extract = extracts.get(name, lambda result: result)
        says = stage_of(exercise, name, extract, results) or taken_for(name, extracts, results)
        says = says or relation_of(extract, results)
        if says:
            explained = True
            sentences.append(sentence(name or "Your result", says))
        elif right and wrong:
            explained = True  # it is at least known which part is wrong
            sentences.append(f"Wrong: {name}.")
    return " ".join(sentences) if explained else None


def sentence(name: str, says: str) -> str:
    """`name` and what it is as a sentence; the verb agrees with a name in the plural, such as "the weights"."""
    verb, _, rest = says.partition(" ")
    if name.startswith("the ") and name.endswith("s") and not name.endswith("ss"):
        verb = {"is": "are", "has": "have", "says": "say"}.get(verb, verb)
    return f"{name} {verb} {rest}."


def exchanged(exercise: Exercise, wrong: Sequence[str], results: Sequence[Result]) -> bool:
    """Whether each of two parts holds what the other should."""
    extracts = parts_of(exercise, results[0].expected)
    one, other = (extracts[name] for name in wrong)
    return all(
        difference(one(result.expected), take(other, result.got, result.expected), result.tolerance) is None
        and difference(other(result.expected), take(one, result.got, result.expected), result.tolerance) is None
        for result in results
    )


def taken_for(name: str, extracts: Mapping[str, Callable[[Any], Any]], results: Sequence[Result]) -> str | None:
    """The other part whose right value this one has in every call in which it is wrong; two calls at least show it."""
    if name not in extracts:
        return None
    pairs = [(result, take(extracts[name], result.got, result.expected)) for result in results]
    pairs = [(one, part) for one, part in pairs if difference(extracts[name](one.expected), part, one.tolerance)]
    for other, extract in extracts.items():
        taken = all(difference(extract(one.expected), part, one.tolerance) is None for one, part in pairs)
        if other != name and taken and len(pairs) > 1:
            return f"is what {other} should be"
    return None


def stage_of(exercise: Exercise, name: str, extract: Callable[[Any], Any], results: Sequence[Result]) -> str | None:
    """What the first stage that equals this part in every call says; in one call at least it is not the right value."""
    for stage in exercise.stages:
        if stage.part != name or not all(equals(stage, extract, result) for result in results):
            continue
        values = [run(stage.value, copy.deepcopy(result.arguments)) for result in results]
        pairs = zip(results, values, strict=True)
        if any(difference(extract(result.expected), value, result.tolerance) for result, value in pairs):
            return stage.says
    return None


def equals(stage: Stage, extract: Callable[[Any], Any], result: Result) -> bool:
    """Whether the part equals what the stage gives for the arguments of this call."""
    value, part = run(stage.value, copy.deepcopy(result.arguments)), take(extract, result.got, result.expected)
    if isinstance(value, Raised) or isinstance(part, Raised):
        return False
    if isinstance(value, Tensor) and isinstance(part, Tensor) and value.dtype != part.dtype:
        if not (value.is_floating_point() and part.is_floating_point()):
            return False
        value = value.to(part.dtype)
    return difference(value, part, result.tolerance) is None


def relation_of(extract: Callable[[Any], Any], results: Sequence[Result]) -> str | None:
    """The relation to the right value that holds wherever this part is wrong; None if it differs from call to call."""
    found: set[str | None] = set()
    numbers: list[tuple[float, float]] = []
    tensors: list[tuple[Tensor, Tensor]] = []
    for result in results:
        expected, part = extract(result.expected), take(extract, result.got, result.expected)
        if isinstance(part, Raised) or difference(expected, part, result.tolerance) is None:
            continue
        if is_number(expected) and is_number(part):
            numbers.append((float(expected), float(part)))
            continue
        expected, part = as_tensor(expected), as_tensor(part)
        if not (isinstance(expected, Tensor) and isinstance(part, Tensor) and comparable(expected, part)):
            return None
        if expected.shape == part.shape and expected.dtype == part.dtype != torch.bool:
            tensors.append((expected, part))
        if any(isinstance(argument, Tensor) and same_tensor(argument, part) for argument in result.arguments):
            found.add("is one of the arguments, unchanged")
        elif part.numel() >= 3:
            found.add(relation(expected, part, result.tolerance))
    if numbers:
        return None if found else number_relation(numbers)
    says = found.pop() if len(found) == 1 else in_common(found)
    return says or (one_sided(tensors, results[0].tolerance) if tensors else None)


def in_common(relations: set[str | None]) -> str | None:
    """What different relations to the right value have in common: an axis in another order, or a factor; or None."""
    texts = [says or "" for says in relations]
    places = {move and move[1] for move in map(MOVED.fullmatch, texts)}
    if len(places) == 1 and (place := places.pop()):
        return f"has the right values {place}, in another order"
    if texts and all(map(SCALED.fullmatch, texts)):
        return "is the right one times a factor that differs from call to call"
    return None


def is_number(value: Any) -> bool:
    """Whether a value is a number and not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_tensor(value: Any) -> Any:
    """A list of numbers or of truth values as a tensor; anything else as it is."""
    if isinstance(value, (list, tuple)) and value:
        if all(isinstance(item, bool) for item in value):
            return torch.tensor(value)
        if all(is_number(item) for item in value):
            return torch.tensor(value, dtype=torch.float64)
    return value


def same_tensor(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal in shape, dtype and values."""
    return a.shape == b.shape and a.dtype == b.dtype and difference(a, b) is None
