"""One draw for all ranks: that of rank 0, sent to the others together with a request to stop.

All ranks draw from the same logits with generators in the same state, and their draws can still differ: a GPU of
another kind adds up, sorts and draws in another order. A rank that continued with another token would compute another
text, and one that drew the end of the answer alone would leave the others waiting. So only the draw of rank 0 counts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch import Tensor

STOP = -1  # sent in place of a token id
_requests: list[Callable[[], bool]] = []


@contextmanager
def stopping_on(requested: Callable[[], bool]) -> Iterator[None]:
    """Inside this block rank 0 calls `requested` before each token that it sends. If it is true, generation ends with
    KeyboardInterrupt on every rank, after the same number of tokens.
    """
    _requests.append(requested)
    try:
        yield
    finally:
        _requests.remove(requested)


def draw_of_first(drawn: Tensor) -> int:
    """drawn: () int64, a token id -> the one that rank 0 drew. Every rank must call it, as often and in the same order.

    Raises KeyboardInterrupt on all ranks if rank 0 was asked to stop.
    """
    sent = drawn.clone()
    if dist.get_rank() == 0 and any(requested() for requested in _requests):
        sent.fill_(STOP)
    dist.broadcast(sent, src=0)
    token_id = int(sent)
    if token_id == STOP:
        raise KeyboardInterrupt
    return token_id
