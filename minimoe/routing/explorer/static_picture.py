"""The static fallback of the explorer: the atlas as an image, three facts as its text alternative, and a small table.

It is shown where no JavaScript runs: in an untrusted notebook, on a code host and on paper. Colour: log2 of how often
an expert was selected relative to uniform routing, orange for more often, purple for less often, grey for equal.
"""

import base64
import io
import math
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from minimoe.routing.statistics.counting import selection_counts
from minimoe.routing.trace.trace import RoutingTrace

CLASS = "minimoe-fallback"
ROWS = 5  # of the table
CLIP = 3.0  # log2 of the fold over uniform at which the colours end
# ColorBrewer's PuOr with grey in the middle, as in web/core/colour.js: evenly spaced from -CLIP to CLIP.
PUOR = ("2d004b", "542788", "8073ac", "b2abd2", "d8daeb", "eeeeee", "fee0b6", "fdb863", "e08214", "b35806", "7f3b08")
ANCHORS = np.array([list(bytes.fromhex(stop)) for stop in PUOR], dtype=float)
NEVER = (255, 255, 255)  # an expert that no token selected
CELL = 6  # pixels

Array = NDArray[Any]


@dataclass(frozen=True)
class Fallback:
    """A static picture of a trace: the PNG bytes, the text alternative, and both with a table as HTML."""

    png: bytes
    alt: str
    html: str

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        picture = base64.b64encode(self.png).decode()
        return {"text/html": self.html, "image/png": picture, "text/plain": self.alt}


def fallback(trace: RoutingTrace, mark: str = "") -> Fallback:
    """The static picture of a trace. `mark`: an extra CSS class, by which the live explorer finds and hides it."""
    counts = selection_counts(trace.experts, int(trace.metadata["num_experts"])).numpy()
    alt = describe(trace, counts)
    png = draw(trace, counts, alt)
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in strongest(trace, counts)
    )
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("expert", "selected by", "share", "times uniform"))
    html = (
        f'<figure class="{f"{CLASS} {mark}".strip()}"><figcaption>{escape(trace.title)}</figcaption>'
        f'<img src="{source}" alt="{escape(alt, quote=True)}" style="max-width: 100%; image-rendering: pixelated">'
        f"<table><caption>The {len(strongest(trace, counts))} most selected experts of all layers; "
        f"{uniform_share(trace):.2%} of the tokens would be uniform.</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></figure>"
    )
    return Fallback(png, alt, html)


def uniform_share(trace: RoutingTrace) -> float:
    """The share of tokens that select each expert under uniform routing: K / E."""
    return int(trace.metadata["num_experts_per_tok"]) / int(trace.metadata["num_experts"])


def log_fold(trace: RoutingTrace, counts: Array) -> Array:
    """(layer, expert) float64: log2 of the share of tokens over the uniform share; minus infinity if never selected."""
    with np.errstate(divide="ignore"):
        folds: Array = np.log2(counts / (len(trace) * uniform_share(trace)))
    return folds


def colours(folds: Array) -> Array:
    """(layer, expert, 3) u8: the colour of each cell."""
    positions = (np.clip(folds, -CLIP, CLIP) + CLIP) / (2 * CLIP) * (len(ANCHORS) - 1)
    stops = np.linspace(0, len(ANCHORS) - 1, len(ANCHORS))
    cells = np.stack([np.interp(positions, stops, ANCHORS[:, channel]) for channel in range(3)], axis=-1)
    cells[np.isneginf(folds)] = NEVER
    rounded: Array = np.rint(cells).astype(np.uint8)
    return rounded


def draw(trace: RoutingTrace, counts: Array, alt: str) -> bytes:
    """The atlas as a PNG: layers from top to bottom, experts from left to right, with `alt` as its description."""
    cells = colours(log_fold(trace, counts))
    height = max(CELL, math.ceil(96 / len(cells)))  # at least 96 pixels in total, for traces with few layers
    enlarged = cells.repeat(height, axis=0).repeat(CELL, axis=1)
    description = PngImagePlugin.PngInfo()
    description.add_itxt("Description", alt)
    buffer = io.BytesIO()
    Image.fromarray(enlarged, "RGB").quantize(256, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True, pnginfo=description
    )
    return buffer.getvalue()


def strongest(trace: RoutingTrace, counts: Array) -> list[tuple[str, ...]]:
    """The rows of the table: the experts with the most tokens; ties are ordered by layer and id."""
    layers, uniform = trace.layers.tolist(), uniform_share(trace)
    order = np.argsort(-counts, axis=None, kind="stable")[:ROWS]
    rows: list[tuple[str, ...]] = []
    for layer, expert in zip(*np.unravel_index(order, counts.shape), strict=True):
        count = int(counts[layer, expert])
        share = count / len(trace)
        name = f"L{layers[layer]}·E{expert}"
        rows.append((name, f"{count:,} of {len(trace):,} tokens", f"{share:.1%}", f"{share / uniform:.1f}"))
    return rows


def describe(trace: RoutingTrace, counts: Array) -> str:
    """The text alternative: the title of the picture, and the three facts that it shows at a glance."""
    name, tokens, share, times = strongest(trace, counts)[0]
    never = int((counts == 0).sum())
    loads = counts / counts.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(loads > 0, loads * np.log(loads), 0.0).sum(axis=1)
    least = int(entropy.argmin())
    layers = trace.layers.tolist()
    return (
        f"Atlas of {trace.title}: how often each of the {counts.shape[1]} experts of each layer was selected. "
        f"Most selected: {name}, by {tokens} ({share}, {times} times uniform). "
        f"Selected by no token: {never:,} of {counts.size:,} experts. "
        f"Most uneven layer: {layers[least]}, as if {math.exp(entropy[least]):.0f} experts were used evenly."
    )
