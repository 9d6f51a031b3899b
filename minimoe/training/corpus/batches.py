"""Batches: rows of equal length, filled with documents.

A batch depends on (seed, step) only, so a run can be resumed at any step.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

import torch
from tokenizers import Tokenizer as RawTokenizer
from torch import Tensor

from minimoe.errors import BadTokenizer
from minimoe.training.corpus.documents import DOMAINS, Document, document, folder

HELD_OUT_STRIDE = 20  # every twentieth window of a folder is held out
MISSES = 24  # number of documents that fit into no row, after which the batch is complete
Encoded = tuple[list[int], list[bool]]  # ids, and whether each is counted in the loss


class Row(NamedTuple):
    """ids and flags of equal length; from index `text` they are padding."""

    ids: list[int]
    counted: list[bool]
    text: int


@dataclass(frozen=True)
class Batch:
    """Rows of tokens, with the next token of each as its target.

    inputs, targets: (batch, position) int64. counted: (batch, position) bool, the targets included in the next-token
    loss. padding: (batch, position) bool, the inputs that fill a row up; they are excluded from all losses and from the
    load of the experts. A question in a conversation is not padding, although its targets are not counted.
    """

    inputs: Tensor
    targets: Tensor
    counted: Tensor
    padding: Tensor

    def __getitem__(self, rows: slice) -> "Batch":
        """A slice of the rows."""
        return Batch(self.inputs[rows], self.targets[rows], self.counted[rows], self.padding[rows])

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(part.to(device) for part in (self.inputs, self.targets, self.counted, self.padding)))


class Source(Protocol):
    """A source of batches."""

    @property
    def domains(self) -> tuple[str, ...]: ...

    def batch(self, seed: int, step: int, rows: int, length: int) -> Batch: ...

    def held_out(self, domain: str, rows: int, length: int) -> Batch: ...


def read_tokenizer(directory: str | Path) -> RawTokenizer:
    """The tokenizer.json of a directory. Raises BadTokenizer."""
    file = Path(directory) / "tokenizer.json"
    if not file.is_file():
        raise BadTokenizer(f"{file} does not exist. Training needs a directory with a tokenizer.json.")
    return RawTokenizer.from_file(str(file))


def end_of_text(tokenizer: RawTokenizer) -> int:
    """The id of the token between documents. Raises BadTokenizer."""
    token_id = tokenizer.token_to_id("<|endoftext|>")
    if token_id is None:
        raise BadTokenizer(
            "the tokenizer has no <|endoftext|>, which separates documents. Use a tokenizer of the Qwen3 family."
        )
    return token_id


def as_batch(rows: Sequence[Row]) -> Batch:
    """A batch of `length` inputs and targets from rows of length + 1; targets are shifted by one position."""
    ids, counted = torch.tensor([row.ids for row in rows]), torch.tensor([row.counted for row in rows])
    padding = torch.arange(ids.shape[1]) >= torch.tensor([[row.text] for row in rows])
    return Batch(ids[:, :-1], ids[:, 1:], counted[:, 1:], padding[:, :-1])


def padded(ids: list[int], counted: list[bool], length: int, filler: int) -> Row:
    """A row of exactly `length` ids, padded with `filler`."""
    short = length - len(ids)
    return Row([*ids, *[filler] * short], [*counted, *[False] * short], len(ids))


class GeneratedSource:
    """Rows of whole generated documents, each followed by <|endoftext|>; the rest of a row is padding.

    Only a document longer than a row is truncated.
    """

    domains = DOMAINS

    def __init__(self, tokenizer: RawTokenizer, late_from: float = math.inf):
        """late_from: the first step whose documents are drawn from the corpus's late mixture."""
        self.tokenizer = tokenizer
        self.late_from = late_from
        self.end = end_of_text(tokenizer)

    def encode(self, text: Document) -> Encoded:
        ids: list[int] = []
        counted: list[bool] = []
        for part in text.parts:
            new = self.tokenizer.encode(part.text).ids
            ids += new
            counted += [part.counted and index >= part.given for index in range(len(new))]
        return [*ids, self.end], [*counted, True]

    def rows(
        self, rng: Random, count: int, length: int, split: str, domain: str | None = None, late: bool = False
    ) -> list[Row]:
        """`count` rows of length + 1; each document is put into the first row with enough space (first fit).

        It ends after MISSES documents that fitted into no row, when all rows are nearly full.
        """
        rows: list[Encoded] = [([], []) for _ in range(count)]
        misses = 0
        while misses < MISSES:
            ids, counted = self.encode(document(rng, split, domain, late))
            ids, counted = ids[: length + 1], counted[: length + 1]
            row = next((row for row in rows if len(row[0]) + len(ids) <= length + 1), None)
            if row is None:
                misses += 1
                continue
            row[0].extend(ids)
            row[1].extend(counted)
        return [padded(ids, counted, length + 1, self.end) for ids, counted in rows]

    def passage(self, rng: Random, length: int, split: str, domain: str) -> list[int]:
        """Exactly `length` ids of consecutive documents, the last one truncated."""
        ids: list[int] = []
        while len(ids) < length:
            ids += self.encode(document(rng, split, domain))[0]
        return ids[:length]

    def batch(self, seed: int, step: int, rows: int, length: int) -> Batch:
        """The training batch of this step."""
        rng = Random(f"train/{seed}/{step}")
        return as_batch(self.rows(rng, rows, length, "train", late=step >= self.late_from))

    def held_out(self, domain: str, rows: int, length: int) -> Batch:
        """A fixed batch of one domain, never used for training."""
        return as_batch(self.rows(Random(f"held-out/{domain}"), rows, length, "held-out", domain))


class FolderSource:
    """Windows of a folder of text files, joined by <|endoftext|>; every twentieth window is held out."""

    domains = ("text",)

    def __init__(self, path: str | Path, tokenizer: RawTokenizer):
        end = end_of_text(tokenizer)
        pieces = [[*tokenizer.encode(text.text, add_special_tokens=False).ids, end] for text in folder(path)]
        self.ids = torch.tensor([token for piece in pieces for token in piece])

    def window(self, number: int, length: int) -> Row:
        piece = self.ids[number * length : number * length + length + 1].tolist()
        return padded(piece, [True] * len(piece), length + 1, filler=0)

    def windows(self, length: int, held_out: bool) -> list[int]:
        count = max(1, -(-(len(self.ids) - 1) // length))
        return [n for n in range(count) if (n % HELD_OUT_STRIDE == HELD_OUT_STRIDE - 1) == held_out] or [0]

    def batch(self, seed: int, step: int, rows: int, length: int) -> Batch:
        """Windows drawn at random for a step."""
        rng, numbers = Random(f"train/{seed}/{step}"), self.windows(length, held_out=False)
        return as_batch([self.window(rng.choice(numbers), length) for _ in range(rows)])

    def held_out(self, domain: str, rows: int, length: int) -> Batch:
        """Held-out windows; the first window if the folder is too small to have any."""
        numbers = self.windows(length, held_out=True)
        return as_batch([self.window(numbers[row % len(numbers)], length) for row in range(rows)])
