"""Synchronised sampling: rank 0 draws each token and sends it to the other ranks, or a request to stop.

All ranks have the same logits and generators in the same state, but their draws can still differ: another GPU model
sums, sorts and samples in another order. A rank with another token would continue another text, and one that alone drew
the end of the reply would leave the others waiting. So all ranks use the draw of rank 0.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch import Tensor

STOP = -1  # sent in place of a token id
_requests: list[Callable[[], bool]] = []


@contextmanager
def stopping_on(requested: Callable[[], bool]) -> Iterator[None]:
    """Inside this block rank 0 calls `requested` before it sends a token. If that returns True, generation ends with
    KeyboardInterrupt on every rank, after the same number of tokens.
    """
    _requests.append(requested)
    try:
        yield
    finally:
        _requests.remove(requested)


def draw_of_first(drawn: Tensor) -> int:
    """Return the token id that rank 0 drew. drawn: () int64, this rank's own draw. All ranks must make the same calls.

    Raises KeyboardInterrupt on all ranks if a stop was requested on rank 0.
    """
    sent = drawn.clone()
    if dist.get_rank() == 0 and any(requested() for requested in _requests):
        sent.fill_(STOP)
    dist.broadcast(sent, src=0)
    token_id = int(sent)
    if token_id == STOP:
        raise KeyboardInterrupt
    return token_id
