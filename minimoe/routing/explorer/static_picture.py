"""The static fallback of the explorer: the atlas as an image, three facts as its text alternative, and a small table.

It is shown where no JavaScript runs: in an untrusted notebook, on a code host and on paper. Colour: log2 of how often
an expert was selected relative to uniform routing, orange for more often, purple for less often, grey for equal; pale
where that may be chance.
"""

import base64
import io
import math
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from minimoe.routing.statistics.beyond_chance import beyond_chance
from minimoe.routing.statistics.counting import selection_counts
from minimoe.routing.trace.documents import merge_copies
from minimoe.routing.trace.trace import RoutingTrace

CLASS = "minimoe-fallback"
ROWS = 5  # of the table
CLIP = 3.0  # log2 of the fold over uniform at which the colours end
# ColorBrewer's PuOr with grey in the middle, as in web/core/colour.js: evenly spaced from -CLIP to CLIP.
PUOR = ("2d004b", "542788", "8073ac", "b2abd2", "d8daeb", "eeeeee", "fee0b6", "fdb863", "e08214", "b35806", "7f3b08")
ANCHORS = np.array([list(bytes.fromhex(stop)) for stop in PUOR], dtype=float)
NEVER = (255, 255, 255)  # an expert that no token selected
EMPTY, FADED = np.array([241.0, 242.0, 244.0]), 0.16  # as in web/explorer.css and web/core/scales.js
CELL = 6  # pixels
LEFT, TOP, RIGHT, BOTTOM = 46, 18, 20, 84  # margins for the axes and the scale
LEAST = 260  # pixels of the scale
INK = "#1c2024"

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
        f'<img src="{source}" alt="{escape(alt, quote=True)}" style="max-width: 100%; image-rendering: auto">'
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


def faded(cells: Array, pale: Array) -> Array:
    """(layer, expert, 3) u8: cells within chance keep 16 % of their colour, as on the live page. pale: bool."""
    mixed = np.rint(EMPTY + FADED * (cells.astype(float) - EMPTY)).astype(np.uint8)
    result: Array = np.where(pale[..., None], mixed, cells)
    return result


def draw(trace: RoutingTrace, counts: Array, alt: str) -> bytes:
    """The atlas as a PNG: layers from top to bottom, experts from left to right, with `alt` as its description."""
    count = int(trace.metadata["num_experts"])
    beyond = beyond_chance(trace.experts, count, merge_copies(trace).documents, trace.domains).numpy()
    cells = faded(colours(log_fold(trace, counts)), ~beyond)
    height = max(CELL, math.ceil(96 / len(cells)))  # at least 96 pixels in total, for traces with few layers
    enlarged = framed(cells.repeat(height, axis=0).repeat(CELL, axis=1), trace.layers.tolist(), height)
    description = PngImagePlugin.PngInfo()
    description.add_itxt("Description", alt)
    buffer = io.BytesIO()
    enlarged.quantize(256, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True, pnginfo=description
    )
    return buffer.getvalue()


def framed(atlas: Array, layers: list[int], height: int) -> Image.Image:
    """The atlas with its axes and, below, the scale of its colours. `height`: pixels of a layer."""
    tall, wide = atlas.shape[:2]
    picture = Image.new("RGB", (LEFT + max(wide, LEAST) + RIGHT, TOP + tall + BOTTOM), "white")
    picture.paste(Image.fromarray(atlas, "RGB"), (LEFT, TOP))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)

    def write(x: float, y: float, text: str, anchor: str) -> None:
        pen.text((x, y), text, fill=INK, font=font, anchor=anchor)

    write(LEFT - 6, TOP - 4, "layer", "rs")
    every = max(1, math.ceil(14 / height))
    for row in range(0, len(layers), every):
        write(LEFT - 6, TOP + (row + 0.5) * height, str(layers[row]), "rm")
    experts = wide // CELL
    step = next(step for step in (4, 8, 16, 32, 64, 128, 10**9) if step * CELL >= 40 and experts / step <= 24)
    for expert in range(0, experts, step):
        write(LEFT + (expert + 0.5) * CELL, TOP + tall + 4, str(expert), "mt")
    write(LEFT + wide / 2, TOP + tall + 20, "expert", "mt")
    scale = colours(np.linspace(-CLIP, CLIP, LEAST)[None])[0]
    below = TOP + tall + 40
    picture.paste(Image.fromarray(scale[None].repeat(8, axis=0), "RGB"), (LEFT, below))
    for fold in range(-3, 4):
        name = "uniform" if fold == 0 else f"{2**fold}x" if fold > 0 else f"1/{2**-fold}"
        write(LEFT + (fold + CLIP) / (2 * CLIP) * (LEAST - 1), below + 12, name, "mt")
    write(LEFT, below + 28, "selected, times uniform routing; pale: within chance", "lt")
    return picture


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
