"""Chapter 08, the whole model: a strict loader for one file of weights (08.5)."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minimoe.course.checker.exercise import Case, Exercise

Tensors = dict[str, Tensor]
Loader = Callable[[Tensors, Tensors], None]


class Loaded(NamedTuple):
    """What a loader did. refused: whether it raised ValueError; named: whether the error names the tensor (True if
    nothing was to be named); own: whether the dictionary still holds the model's own tensors, with their own memory;
    values: those of the model's tensors afterwards, one after another.
    """

    refused: bool
    named: bool
    own: bool
    values: Tensor


def as_loader(answer: Loader) -> Callable[[Tensors, Tensors, str], Loaded]:
    """The reader's function on copies of the parameters. culprit: the name that an error has to hold."""

    def load(parameters: Tensors, shard: Tensors, culprit: str) -> Loaded:
        mine = {name: values.clone() for name, values in parameters.items()}
        theirs = {name: values.clone() for name, values in shard.items()}
        held = list(mine.values())  # the model's own tensors, whatever becomes of the dictionary
        refused, named = False, True
        try:
            answer(mine, dict(theirs))
        except ValueError as error:
            refused, named = True, culprit in str(error)
        file = {values.untyped_storage().data_ptr() for values in theirs.values()}
        kept = all(values is mine.get(name) for name, values in zip(parameters, held, strict=True))
        own = kept and not any(values.untyped_storage().data_ptr() in file for values in held)
        return Loaded(refused, named, own, torch.cat([values.flatten().float() for values in held]))

    return load


def load_strictly(parameters: Tensors, shard: Tensors) -> None:
    """All checks first, then all copies."""
    for name in [*parameters, *shard]:
        if name not in shard:
            raise ValueError(f"{name} is missing in the file")
        if name not in parameters:
            raise ValueError(f"the model has no place for {name}")
        if parameters[name].shape != shard[name].shape:
            raise ValueError(f"{name} has shape {tuple(shard[name].shape)}, expected {tuple(parameters[name].shape)}")
        if parameters[name].dtype != shard[name].dtype:
            raise ValueError(f"{name} has dtype {shard[name].dtype}, expected {parameters[name].dtype}")
    for name, values in shard.items():
        parameters[name].copy_(values)


def load_by_sets(parameters: Tensors, shard: Tensors) -> None:
    """Names by sets, and one message for all that is wrong."""
    wrong = sorted(set(parameters) ^ set(shard))
    wrong += [
        name
        for name in set(parameters) & set(shard)
        if (parameters[name].shape, parameters[name].dtype) != (shard[name].shape, shard[name].dtype)
    ]
    if wrong:
        raise ValueError("these do not fit: " + ", ".join(wrong))
    for name in parameters:
        parameters[name][...] = shard[name]


def load_with_data(parameters: Tensors, shard: Tensors) -> None:
    """Checks in a list of complaints, copies by .data."""
    problems = [f"no {name} in the file" for name in parameters.keys() - shard.keys()]
    problems += [f"unknown tensor {name}" for name in shard.keys() - parameters.keys()]
    for name in parameters.keys() & shard.keys():
        if parameters[name].shape != shard[name].shape:
            problems.append(f"{name}: shapes differ")
        if parameters[name].dtype is not shard[name].dtype:
            problems.append(f"{name}: dtypes differ")
    if problems:
        raise ValueError("; ".join(problems))
    for name, values in shard.items():
        parameters[name].data.copy_(values)


def loader(
    missing: bool = True, unknown: bool = True, shape: str = "shape", dtype: bool = True, first_check: bool = True,
    named: bool = True, rebind: bool = False,
) -> Loader:  # fmt: skip
    """A loader with some checks left out, others weaker, or in another order."""

    def load(parameters: Tensors, shard: Tensors) -> None:
        def refuse(name: str) -> None:
            raise ValueError(f"{name} does not fit" if named else "the file does not fit")

        def check(name: str) -> None:
            if name not in shard:
                if missing:
                    refuse(name)
            elif name not in parameters:
                if unknown:
                    refuse(name)
            else:
                mine, theirs = parameters[name], shard[name]
                compared = {"shape": mine.shape != theirs.shape, "numel": mine.numel() != theirs.numel(),
                            "dim": mine.dim() != theirs.dim()}  # fmt: skip
                if compared.get(shape) or (dtype and mine.dtype != theirs.dtype):
                    refuse(name)

        def copy(name: str) -> None:
            mine, values = parameters.get(name), shard.get(name)
            if mine is not None and values is not None:
                if rebind:
                    parameters[name] = values
                elif mine.numel() == values.numel():
                    mine.copy_(values.reshape(mine.shape))

        names = [*parameters, *(name for name in shard if name not in parameters)]
        for name in names:
            check(name)
            if not first_check:
                copy(name)
        for name in names:
            if first_check:
                copy(name)

    return load


def refuses_everything(parameters: Tensors, shard: Tensors) -> None:
    raise ValueError(", ".join([*parameters, *shard]))


def counts_only(parameters: Tensors, shard: Tensors) -> None:
    """Only the number of tensors is compared."""
    if len(parameters) != len(shard):
        raise ValueError(", ".join(set(parameters) ^ set(shard)))
    loader(missing=False, unknown=False, shape="", dtype=False)(parameters, shard)


def assigns_data(parameters: Tensors, shard: Tensors) -> None:
    """After it the model and the file's tensors are the same memory."""
    load_by_sets({name: values.clone() for name, values in parameters.items()}, shard)
    for name, values in shard.items():
        parameters[name].data = values


def says_nothing(parameters: Tensors, shard: Tensors) -> None:
    """The checks are right, but nothing is raised."""
    with suppress(ValueError):
        load_strictly(parameters, shard)


def copies_nothing(parameters: Tensors, shard: Tensors) -> None:
    load_strictly({name: values.clone() for name, values in parameters.items()}, shard)


def skips(parameters: Tensors, shard: Tensors) -> None:
    """What fits is copied, and all else is left out."""
    for name in parameters.keys() & shard.keys():
        says_nothing({name: parameters[name]}, {name: shard[name]})


def in_order(parameters: Tensors, shard: Tensors) -> None:
    """The names as lists, which have an order."""
    if list(parameters) != list(shard):
        raise ValueError(f"{list(parameters)} are not {list(shard)}")
    load_strictly(parameters, shard)


def drawn(change: Callable[[Tensors], Tensors], culprit: str) -> Callable[[torch.Generator], tuple[Any, ...]]:
    """A model of four tensors, and a file that differs from it in one."""

    def arguments(generator: torch.Generator) -> tuple[Any, ...]:
        shapes: Mapping[str, tuple[int, ...]] = {
            "norm.weight": (4,), "q_proj.weight": (6, 4), "o_proj.weight": (4, 6), "k_norm.weight": (3,),
        }  # fmt: skip
        parameters = {name: torch.zeros(shape) for name, shape in shapes.items()}
        shard = {name: torch.rand(shape, generator=generator) + 1 for name, shape in shapes.items()}
        return parameters, change(shard), culprit

    return arguments


def renamed(shard: Tensors) -> Tensors:
    shard["self_attn.o_proj.weight"] = shard.pop("o_proj.weight")
    return shard


EXERCISES = (
    Exercise(
        id="08.5",
        title="A strict loader for one shard",
        kind="fill in",
        minutes=15,
        difficulty=3,
        hints=(
            "Which four things can differ? And what is in the model if the third tensor is wrong?",
            "Missing names, unknown names, shapes, dtypes. Check all of them for all tensors, before the first copy.",
            'First a loop over the names of both that raises ValueError(f"{name} ..."); then a second loop with '
            "parameters[name].copy_(values), which fills the model's own tensors.",
        ),
        now_you_know="checking costs nothing beside reading; a half-filled model costs a day.",
        oracle=as_loader(load_strictly),
        prepare=as_loader,
        cases=(
            Case(
                "all fits: the values are copied into the model's tensors",
                ({"norm.weight": torch.zeros(2)}, {"norm.weight": torch.tensor([1.0, 2.0])}, ""),
                Loaded(False, True, True, torch.tensor([1.0, 2.0])),
            ),
            Case("four tensors that fit", drawn(lambda shard: shard, "")),
            Case("the same in another order", drawn(lambda shard: dict(reversed(shard.items())), "")),
            Case(
                "a tensor is missing",
                drawn(lambda shard: {n: v for n, v in shard.items() if n != "k_norm.weight"}, "k_norm.weight"),
            ),
            Case(
                "a tensor that the model has no place for",
                drawn(lambda shard: shard | {"bias": torch.ones(4)}, "bias"),
            ),
            Case("one name differs", drawn(renamed, "o_proj.weight")),
            Case(
                "a transposed matrix, with as many numbers",
                drawn(lambda shard: shard | {"o_proj.weight": torch.ones(6, 4)}, "o_proj.weight"),
            ),
            Case(
                "another number of values",
                drawn(lambda shard: shard | {"k_norm.weight": torch.ones(5)}, "k_norm.weight"),
            ),
            Case(
                "another number of axes",
                drawn(lambda shard: shard | {"q_proj.weight": torch.ones(24)}, "q_proj.weight"),
            ),
            Case(
                "another dtype",
                drawn(lambda shard: shard | {"q_proj.weight": torch.ones(6, 4).double()}, "q_proj.weight"),
            ),
        ),
        parts={
            "whether it refuses": lambda result: result.refused,
            "whether the error names the tensor": lambda result: result.named,
            "whether the model keeps its own tensors": lambda result: result.own,
            "what is in the model": lambda result: result.values,
        },
        mutants={
            "missing ignored": (loader(missing=False), "a tensor that is missing in the file is not noticed."),
            "unknown ignored": (
                loader(unknown=False),
                "a tensor that the model has no place for is not noticed. It may be the missing one under another "
                "name.",
            ),
            "names ignored": (
                loader(missing=False, unknown=False),
                "names that only one side has are not noticed: this is strict=False.",
            ),
            "shape ignored": (loader(shape=""), "shapes are not compared."),
            "numbers compared": (
                loader(shape="numel"),
                "only the number of values is compared, so a transposed matrix is loaded.",
            ),
            "axes compared": (loader(shape="dim"), "only the number of axes is compared, not their lengths."),
            "dtype ignored": (
                loader(dtype=False),
                "dtypes are not compared: copy_ converts silently.",
            ),
            "shape and dtype ignored": (loader(shape="", dtype=False), "neither shapes nor dtypes are compared."),
            "half loaded": (
                loader(first_check=False),
                "the model is half filled when the error is raised. Check everything first, then copy.",
            ),
            "not named": (
                loader(named=False),
                "the error doesn't say which tensor it is about. Put its name into the message.",
            ),
            "rebound": (
                loader(rebind=True),
                "the dictionary gets the file's tensors, but the model's own are unchanged. Copy *into* them: "
                "parameters[name].copy_(values).",
            ),
            "data assigned": (
                assigns_data,
                "the values are right, but the model's tensors now use the memory of the file's: a change to one "
                "changes the other. copy_ copies the values into the model's own memory.",
            ),
            "says nothing": (
                says_nothing,
                "no ValueError is raised: the model stays as it was, and nobody is told.",
            ),
            "skips": (skips, "what doesn't fit is skipped, and no ValueError is raised."),
            "in order": (
                in_order,
                "the names are compared in their order. A file may hold the same tensors in another one.",
            ),
            "nothing copied": (
                copies_nothing,
                "all is checked, but nothing is copied: the model's tensors are as they were.",
            ),
            "refuses everything": (refuses_everything, "it refuses a file that fits."),
            "counts only": (counts_only, "only the number of tensors is compared."),
            "nothing checked": (
                loader(missing=False, unknown=False, shape="", dtype=False),
                "nothing is checked: what fits is copied, the rest is skipped.",
            ),
        },
        accepted={"sets": load_by_sets, "a list of complaints": load_with_data},
    ),
)
