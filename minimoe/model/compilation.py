"""Functions excluded from torch.compile."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, excluded when torch.compile traces its caller.

    As a decorator, torch.compiler.disable would import the compiler, which takes a second, even where nothing is
    compiled.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        target = torch.compiler.disable(function) if torch.compiler.is_compiling() else function
        return target(*args, **kwargs)

    return run
