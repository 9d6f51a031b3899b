"""Chapter 01, second half: a text becomes bytes, and merge by merge the bytes become tokens."""

import json
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from itertools import pairwise
from typing import Any

from minimoe.errors import BadArgument
from minimoe.figure_style import tint
from minimoe.text.tokenizer import BYTE_OF, Tokenizer

COLOURS = ("#77AADD", "#EE8866", "#EEDD88", "#44BB99", "#FFAABB", "#99DDFF", "#BBCC33")  # Paul Tol, "light"

Pair = tuple[str, str]


@dataclass(frozen=True)
class Merges:
    """What a byte-level tokenizer consists of: ids by written token, and the rank of each merge, 0 first."""

    ids: dict[str, int]
    ranks: dict[Pair, int]


@lru_cache(maxsize=4)
def merges_of(tokenizer: Tokenizer) -> Merges:
    """The vocabulary and the merges of a tokenizer. Raises BadArgument if it is not byte-pair encoding."""
    model = json.loads(tokenizer.backend.to_str())["model"]
    if model.get("type") != "BPE":
        raise BadArgument(f"the tokenizer is {model.get('type')!r}, expected BPE, byte-pair encoding.")
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    return Merges(model["vocab"], {(first, second): rank for rank, (first, second) in enumerate(pairs)})


def pieces_of(tokenizer: Tokenizer, text: str) -> list[str]:
    """The pieces into which the split pattern cuts a text, each in the byte alphabet; merges never cross a cut."""
    normalised = tokenizer.backend.normalizer.normalize_str(text) if tokenizer.backend.normalizer else text
    splitter = tokenizer.backend.pre_tokenizer
    return [piece for piece, _ in splitter.pre_tokenize_str(normalised)] if splitter else [normalised]


def merge(symbols: list[str], pair: Pair) -> list[str]:
    """Every occurrence of a pair, from left to right, joined to one symbol."""
    joined, place = [], 0
    while place < len(symbols):
        if tuple(symbols[place : place + 2]) == pair:
            joined.append("".join(pair))
            place += 2
        else:
            joined.append(symbols[place])
            place += 1
    return joined


def steps_of_text(tokenizer: Tokenizer, text: str) -> list[tuple[int | None, list[list[str]]]]:
    """(rank of the merge, the symbols of every piece after it) for each merge, beginning with the bytes.

    Of all neighbours within a piece, the pair with the lowest rank is joined, until none is left (Sennrich et al. 2016,
    arXiv:1508.07909).
    """
    ranks = merges_of(tokenizer).ranks
    pieces = [list(piece) for piece in pieces_of(tokenizer, text)]
    rows: list[tuple[int | None, list[list[str]]]] = [(None, [list(piece) for piece in pieces])]
    while True:
        best = min(
            (
                (ranks[pair], number)
                for number, symbols in enumerate(pieces)
                for pair in pairwise(symbols)
                if pair in ranks
            ),
            default=None,
        )
        if best is None:
            return rows
        rank, number = best
        pair = next(pair for pair in pairwise(pieces[number]) if ranks.get(pair) == rank)
        pieces[number] = merge(pieces[number], pair)
        rows.append((rank, [list(piece) for piece in pieces]))


def readable(symbol: str) -> str:
    """A symbol of the byte alphabet as text; a part of a character as its bytes in hexadecimal."""
    raw = bytes(BYTE_OF[character] for character in symbol)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.hex(" ").upper()
    return text.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍")


def strip(pieces: list[list[str]], ids: dict[str, int] | None = None) -> str:
    """HTML of symbols in boxes, one colour a piece; with `ids`, the id of each below it."""
    boxes = []
    for number, symbols in enumerate(pieces):
        colour = COLOURS[number % len(COLOURS)]
        for symbol in symbols:
            below = f"<br><small>{ids.get(symbol, '–')}</small>" if ids is not None else ""
            boxes.append(
                f"<span style='display:inline-block;background:{tint(colour, 0.6)};color:#202020;border:1px solid "
                f"{colour};border-radius:3px;padding:1px 4px;margin:1px;text-align:center;font-family:monospace'>"
                f"{escape(readable(symbol))}{below}</span>"
            )
        boxes.append("<span style='display:inline-block;width:6px'></span>")
    return f"<div style='line-height:1.5'>{''.join(boxes)}</div>"


class MergeTable:
    """The merges of a piece, one row each; HTML in Jupyter, text elsewhere."""

    def __init__(self, tokenizer: Tokenizer, piece: str):
        self.rows = [(rank, pieces[0]) for rank, pieces in steps_of_text(tokenizer, piece)]

    def __repr__(self) -> str:
        lines = []
        for rank, symbols in self.rows:
            name = "bytes" if rank is None else f"merge {rank:,}"
            lines.append(f"{name:>14s}  {' | '.join(map(readable, symbols))}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td style='text-align:right'>{'bytes' if rank is None else f'merge {rank:,}'}</td>"
            f"<td style='text-align:left'>{strip([[symbol] for symbol in symbols])}</td></tr>"
            for rank, symbols in self.rows
        )
        return f"<table>{rows}</table>"


def merge_table(tokenizer: Tokenizer, piece: str) -> MergeTable:
    """All merges of one piece of text, from bytes to tokens. Raises BadArgument if the text is cut into several."""
    if len(pieces := pieces_of(tokenizer, piece)) != 1:
        raise BadArgument(f"{piece!r} is cut into {len(pieces)} pieces, expected one, such as ' library'.")
    return MergeTable(tokenizer, piece)


def explore_merges(tokenizer: Tokenizer, text: str, label: str) -> Any:
    """Type any text, and move from its bytes to its tokens, one merge after another."""
    from ipywidgets import HTML, IntSlider, Layout, Text, VBox

    field = Text(value=text, description="text", continuous_update=False, layout=Layout(width="640px", max_width="98%"))
    slider = IntSlider(value=0, min=0, max=1, description="merges", layout=Layout(width="640px", max_width="98%"))
    page, rows = HTML(), [steps_of_text(tokenizer, text)]
    ids = merges_of(tokenizer).ids

    def draw(*_: Any) -> None:
        if not field.value:
            page.value = "<p>Nothing to merge: type a text and press Enter.</p>"
            return
        at = min(slider.value, len(rows[0]) - 1)
        rank, pieces = rows[0][at]
        symbols = sum(map(len, pieces))
        what = f"{symbols} bytes" if rank is None else f"after merge {rank:,}: {symbols} symbols"
        if at == len(rows[0]) - 1:
            what += f", which are the tokens ({len(field.value)} characters)"
        page.value = f"<p><b>{what}</b> ({escape(label)})</p>{strip(pieces, ids)}"

    def read(*_: Any) -> None:
        rows[0] = steps_of_text(tokenizer, field.value)
        slider.max = len(rows[0]) - 1
        slider.value = slider.max
        draw()

    field.observe(read, names="value")
    slider.observe(draw, names="value")
    read()
    return VBox([field, slider, page])
