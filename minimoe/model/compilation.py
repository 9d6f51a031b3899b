"""What torch.compile leaves out."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, left out when torch.compile traces its caller.

    torch.compiler.disable as a decorator would do; but it imports the compiler, which takes a second, also where
    nothing is compiled.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        chosen = torch.compiler.disable(function) if torch.compiler.is_compiling() else function
        return chosen(*args, **kwargs)

    return run
