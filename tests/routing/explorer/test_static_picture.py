"""The static picture: its colours, its sentence and its table are computed from the trace."""

import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from minimoe.routing.explorer.bundle import WEB
from minimoe.routing.explorer.static_picture import (
    ANCHORS,
    BOTTOM,
    CELL,
    EMPTY,
    FADED,
    LEFT,
    PUOR,
    TOP,
    colours,
    draw,
    faded,
    fallback,
    log_fold,
)
from minimoe.routing.statistics import beyond_chance


def naive_counts(trace):
    counts = np.zeros((len(trace.layers), trace.metadata["num_experts"]), dtype=int)
    for layer, rows in enumerate(trace.experts.tolist()):
        for row in rows:
            for expert in row:
                counts[layer, expert] += 1
    return counts


def test_pixels_are_the_fold_over_uniform(small_trace):
    counts = naive_counts(small_trace)
    static = fallback(small_trace)
    picture = np.asarray(Image.open(io.BytesIO(static.png)).convert("RGB")).astype(int)
    tall = (picture.shape[0] - TOP - BOTTOM) // 6
    picture = picture[TOP : TOP + 6 * tall, LEFT : LEFT + 32 * CELL]
    assert picture.shape == (6 * tall, 32 * CELL, 3)
    beyond = beyond_chance(small_trace.experts, 32, small_trace.documents, small_trace.domains).numpy()
    assert 0 < beyond.sum() < beyond.size
    wanted = faded(colours(np.log2(counts / (600 * 4 / 32))), ~beyond).astype(int)
    got = picture[tall // 2 :: tall, CELL // 2 :: CELL]
    assert np.abs(got - wanted).max() <= 8  # 256 colours in the file


def test_colours_at_the_anchors():
    folds = np.array([[-9.0, *np.linspace(-3, 3, len(ANCHORS)), 9.0, -math.inf]])
    wanted = [ANCHORS[0], *ANCHORS, ANCHORS[-1], [255, 255, 255]]
    assert np.array_equal(colours(folds)[0], np.array(wanted, dtype=np.uint8))


def test_the_sentence_tells_the_largest(small_trace):
    counts = naive_counts(small_trace)
    layer, expert = np.unravel_index(counts.argmax(), counts.shape)
    alt = fallback(small_trace).alt
    assert f"L{layer}·E{expert}, by {counts.max()} of 600 tokens" in alt
    assert f"({counts.max() / 600:.1%}, {counts.max() / 75:.1f} times uniform)" in alt
    assert "synthetic" in alt


def test_the_table_has_five_rows(small_trace):
    static = fallback(small_trace, mark="mine")
    rows = re.findall(r"<tr>(.*?)</tr>", static.html)[1:]
    shares = [int(re.search(r"(\d+) of 600 tokens", row).group(1)) for row in rows]
    assert shares == sorted(naive_counts(small_trace).flatten().tolist(), reverse=True)[:5]
    assert 'class="minimoe-fallback mine"' in static.html


def test_a_title_cannot_become_markup(small_trace):
    trace = small_trace.select(small_trace.tokens >= 0)
    trace.metadata |= {"label": '"><script>alert(1)</script>', "provenance": "measured"}
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(fallback(trace).html)
    assert "script" not in [tag for tag, _ in tags]
    assert '"><script>' in next(attributes["alt"] for tag, attributes in tags if tag == "img")


def test_an_expert_that_nobody_selected_is_white(spoiled):
    def never_zero(experts):
        absent = [next(e for e in range(32) if e not in row) for row in experts[1].tolist()]
        for token, row in enumerate(experts[1]):
            row[row == 0] = absent[token] if absent[token] != 0 else next(e for e in range(1, 32) if e not in row)

    trace = spoiled(experts=never_zero)
    counts = naive_counts(trace)
    assert counts[1, 0] == 0
    assert colours(log_fold(trace, counts))[1, 0].tolist() == [255, 255, 255]
    assert draw(trace, counts, "x").startswith(b"\x89PNG")
    assert "Selected by no token: 1 of 192 experts" in fallback(trace).alt


def test_every_kind_of_viewer_gets_something(small_trace):
    bundle = fallback(small_trace)._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert bundle["text/plain"] == fallback(small_trace).alt
    assert sum(len(part) for part in bundle.values()) < 60_000


def test_the_colours_are_those_of_the_live_atlas():
    style = (WEB / "explorer.css").read_text(encoding="utf-8")
    empty = re.search(r"--mm-cell: #(\w{6});", style).group(1)
    assert list(bytes.fromhex(empty)) == EMPTY.tolist()
    scales = (WEB / "core" / "scales.js").read_text(encoding="utf-8")
    assert float(re.search(r"const FADED = ([\d.]+);", scales).group(1)) == FADED
    source = (WEB / "core" / "colour.js").read_text(encoding="utf-8")
    light = re.search(r"light: (\[.*?\])", source).group(1)
    assert json.loads(light) == [f"#{stop}" for stop in PUOR]
