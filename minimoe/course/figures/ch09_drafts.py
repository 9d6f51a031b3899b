"""Speculative decoding in a few lines: an n-gram drafter, and the loop that accepts or rejects its guesses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from minimoe.model.cache import KVCache
from minimoe.model.transformer import Transformer
from minimoe.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Drafted:
    """A text that was written with drafts. passes: of the model; drafted and accepted: tokens."""

    ids: tuple[int, ...]
    passes: int
    drafted: int
    accepted: int


def ngram_draft(ids: Sequence[int], count: int, longest: int = 3) -> list[int]:
    """Up to `count` ids that followed the last time when the text ended in the same few tokens; [] if it never did."""
    for size in range(longest, 0, -1):
        tail = list(ids[-size:])
        for start in range(len(ids) - size - 1, -1, -1):
            if list(ids[start : start + size]) == tail:
                return list(ids[start + size : start + size + count])
    return []


def agreeing(drafts: Sequence[int], best: Sequence[int]) -> int:
    """How many drafts from the start are what the model itself would have written. best: one more than drafts."""
    for place, (draft, own) in enumerate(zip(drafts, best, strict=False)):
        if draft != own:
            return place
    return len(drafts)


@torch.no_grad()
def best_ids(model: Transformer, tokenizer: Tokenizer, ids: Sequence[int], cache: KVCache) -> list[int]:
    """What the model would write after each of the new `ids`, greedily. Appends them to the cache."""
    logits = model(torch.tensor([list(ids)]), cache=cache)[0, :, : tokenizer.vocabulary_size]
    best: list[int] = logits.argmax(dim=-1).tolist()
    return best


def write_with_drafts(
    model: Transformer,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    count: int,
    drafts: int,
    draft: Callable[[Sequence[int], int], Sequence[int]] = ngram_draft,
) -> Drafted:
    """The greedy text of up to `count` tokens, with up to `drafts` guesses checked in each pass."""
    text, passes, drafted, accepted = list(ids), 1, 0, 0
    guess: list[int] = []
    cache = model.new_cache(capacity=len(ids) + count + drafts + 1)
    best = best_ids(model, tokenizer, text, cache)[-1:]
    while True:
        right = agreeing(guess, best)
        cache.length -= len(guess) - right  # forget the keys and values of rejected guesses
        drafted, accepted = drafted + len(guess), accepted + right
        for token in best[: right + 1]:  # the accepted guesses, and the model's own next token
            ended = token in tokenizer.stop_ids
            text += [] if ended else [token]
            if ended or len(text) - len(ids) == count:
                return Drafted(tuple(text[len(ids) :]), passes, drafted, accepted)
        guess = list(draft(text, drafts))
        best = best_ids(model, tokenizer, [text[-1], *guess], cache)
        passes += 1
