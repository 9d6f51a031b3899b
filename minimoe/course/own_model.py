"""The reader's answers to the exercises, together: the functions of the whole model, as parts of the workbench."""

import ast
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from minimoe.course.chapters import CHAPTERS
from minimoe.course.checker.check import judge
from minimoe.course.checker.exercise import all_exercises, find_exercise
from minimoe.course.checker.user_code import is_unattempted
from minimoe.course.exercise_copies import folder as my_folder
from minimoe.course.exercise_copies import latest_copy
from minimoe.course.workbench.replace_functions import CALLERS
from minimoe.errors import NotFound
from minimoe.paths import checkout

# Part of the workbench -> the exercise in which the reader writes it
EXERCISES = {
    "embed": "01.6",
    "rms_norm": "02.1",
    "apply_rope": "03.2",
    "attend": "04.1",
    "swiglu": "05.1",
    "route": "06.1",
    "run_experts": "07.2",
    "block": "08.1",
}
KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)  # what of a cell is run


@dataclass(frozen=True)
class Answer:
    """One function of the model. whose: "yours", or "the course's" if yours is not there or not right."""

    exercise: str
    function: Callable[..., Any]
    whose: str


def answers(folder: Path | None = None) -> dict[str, Answer]:
    """The functions of the model by part, each the reader's where it is there and right, else the course's solution.

    folder: the reader's notebooks, by default `my_exercises/`, which is not read if $MINIMOE_PROGRESS is "memory", as
    in stored notebooks. Only imports and definitions in them are run. Raises NotFound without the solutions.
    """
    if folder is None and os.environ.get("MINIMOE_PROGRESS") != "memory":
        folder = my_folder()
    found = {}
    for part, id in EXERCISES.items():
        if id in all_exercises():
            mine = None if folder is None else answer_in(folder, id)
            if mine is not None and judge(find_exercise(id), mine).status == "ok":
                found[part] = Answer(id, mine, "yours")
            else:
                found[part] = Answer(id, solution(id), "the course's")
            connect(found[part].function)
    return found


def connect(function: Any) -> None:
    """Let a function that calls another part of the library by its name call what the workbench puts in its place.

    The experts' answer calls `swiglu`, which its notebook imports: in the whole model that is to be the reader's, too.
    """
    names = getattr(function, "__globals__", {})
    for part, modules in CALLERS.items():
        if modules and names.get(part) is getattr(import_module(modules[0]), part):
            names[part] = late(part, modules[0])


def late(part: str, module: str) -> Callable[..., Any]:
    """A function that is looked up when it is called."""
    return lambda *arguments: getattr(import_module(module), part)(*arguments)


def solution(id: str) -> Any:
    """The function in the solution notebook of an exercise. Raises NotFound."""
    function = answer_in(checkout() / "exercises" / "solutions", id)
    if function is None:
        raise NotFound(f"the solution of {id} is not in {checkout()}; it comes with a checkout of minimoe.")
    return function


def answer_in(folder: Path, id: str) -> Any:
    """What the latest notebook of a chapter in the folder hands to `minimoe.check(id, ...)`, or None."""
    path, _ = latest_copy(folder, CHAPTERS[int(id[:2])].exercises.stem)
    function = None if path is None else handed_in(path, id)
    return None if is_unattempted(function) else function


def handed_in(path: Path, id: str) -> Any:
    """The function that the cell with `minimoe.check(id, name)` gets, as defined above it; None if there is none."""
    names: dict[str, Any] = {"__name__": path.stem}
    for number, tree in enumerate(cells(path)):
        name = checked(tree, id)
        if name is not None and name in names:
            return names[name]
        for node in tree.body:
            if isinstance(node, KEPT):
                run_alone(node, f"<cell {number} of {path.name}>", names)
    return None


def cells(path: Path) -> Iterator[ast.Module]:
    """The code cells of a notebook that are Python; others, with an unfinished line or a magic, are left out."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            try:
                yield ast.parse("".join(cell["source"]))
            except SyntaxError:
                continue


def checked(tree: ast.Module, id: str) -> str | None:
    """The name that a cell hands to `minimoe.check(id, name)`, if it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("check") and len(node.args) == 2:
            first, second = node.args
            if isinstance(first, ast.Constant) and first.value == id and isinstance(second, ast.Name):
                return second.id
    return None


def run_alone(node: ast.stmt, name: str, names: dict[str, Any]) -> None:
    """Run one statement. An error leaves its name undefined: the notebook itself shows it to the reader."""
    try:
        exec(compile(ast.Module([node], []), name, "exec"), names)
    except Exception:
        return
