"""One thread for the forward passes of a model whose matrices are too small to be shared between threads.

PyTorch divides each matrix product between all cores. For the small matrices of `data/mini` that gains little, and on a
busy machine each product waits for the core that another program uses. On two cores with nothing else to do, two
threads take as long as one for prompts of 128 tokens and 0.7 of the time for 512; beside one busy program they take 1.6
to 3 times as long, beside two the code of lesson 00 takes 47 seconds instead of 6. So the passes of such a model run on
one thread, and the number of threads is as before when a pass ends. Large models are not affected, nor is anything
outside of these passes, nor a model in training mode: its large batches gain from a second thread (0.6 seconds a step
instead of 0.9 for the mini).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

# Numbers in an expert's matrix (hidden x ffn); data/mini has 6,144. Measured on two quiet cores, prompts of 256 tokens:
# two threads need 0.92 of the time of one at 16,384, 0.72 at 65,536, 0.64 at 393,216 and 0.57 at 1,572,864.
SHARED_FROM = 16_384
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # by which a reader sets the number of threads
DEFAULT = torch.get_num_threads()

P = ParamSpec("P")
R = TypeVar("R")


def one_thread_if_small(forward: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Decorate the `forward` of a model with a `config`: if that is small and in eval mode, it runs on one thread."""

    @wraps(forward)
    def run(model: Any, *args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling() or model.training or not is_small(model.config):
            return forward(model, *args, **kwargs)
        with one_thread():
            return forward(model, *args, **kwargs)

    return run


def is_small(config: Any) -> bool:
    """Whether an expert's matrices are smaller than SHARED_FROM; those of the dense layers if there are no experts."""
    ffn = config.moe_intermediate_size if config.num_experts else config.intermediate_size
    return bool(config.hidden_size * ffn < SHARED_FROM)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread inside this block, unless the reader has chosen another number than PyTorch's default.

    A choice is an environment variable in VARIABLES, or `torch.set_num_threads` after this module was imported. The
    setting belongs to the calling thread (OpenMP); it is restored also after an exception or Ctrl-C.
    """
    before = torch.get_num_threads()
    if before == 1 or before != DEFAULT or any(name in os.environ for name in VARIABLES):
        yield
        return
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)
