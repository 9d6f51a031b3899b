"""Response times of the routing explorer at the size of the 235B, 94 layers x 4,096 tokens x 8 of 128.

Everything runs in one headless Chromium (the rows about the kernel in JupyterLab), and is compared with plotly heatmaps
that redraw the same numbers. A time is measured from the change until the frame that shows it has been painted, so an
idle page already takes up to one frame (16.7 ms). The brush is wide enough for all views. Slower computations
(q-values, bands, the matrices of pairs and paths) run after the brush has stopped, and are not part of its rows.
The trace is synthetic: routing of the real model was not available, and times do not depend on it.
"""

import base64
import gzip
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import minimoe
from tests.browser import find_chromium, open_browser, run_all_cells, serve_lab

LAYERS, TOKENS, REPEATS = 94, 4096, 40
BRUSH = 2000  # tokens; explorer_timing.js has the same
TIMING = Path(__file__).with_name("explorer_timing.js").read_text(encoding="utf-8")
READY = '[data-ready="1"]'
VIEWS = ("router", "ribbon", "card", "domains", "load", "pairs", "paths", "ablation")
WATCH = """new MutationObserver((_, watcher) => {
  if (!document.querySelector('[data-ready="1"]')) return;
  watcher.disconnect();
  requestAnimationFrame(() => setTimeout(() => (window.firstPaint = performance.now())));
}).observe(document, { subtree: true, childList: true, attributeFilter: ["data-ready"] })"""
PLOTLY_PAGE = """<!doctype html><meta charset="utf-8"><script>{plotly}</script>
<div id="strip" style="height: 200px"></div><div id="atlas" style="height: 500px"></div>
<div id="ribbon" style="height: 400px"></div>
<script id="numbers" type="text/plain">{numbers}</script>
<script type="module">
const packed = Uint8Array.fromBase64(document.getElementById("numbers").textContent);
const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
const plain = await new Response(stream).arrayBuffer();
const about = {about};
const ids = new Uint8Array(plain, 0, about.layers * about.tokens * about.slots);
const margins = new Uint8Array(plain, ids.length);
window.traceNumbers = {{ ...about, ids, margins }};
const rows = (count, size, array) => [...Array(count)].map((_, row) => array.subarray(row * size, (row + 1) * size));
const margin = {{ l: 30, r: 10, t: 10, b: 30 }};
const heat = (id, z, more) => Plotly.newPlot(id, [{{ type: "heatmap", z, ...more }}], {{ margin }});
const counts = [...Array(about.layers)].map((_, layer) => {{
  const row = new Float32Array(about.experts);
  const start = layer * about.tokens * about.slots;
  for (let at = start; at < start + about.tokens * about.slots; at++) row[ids[at]]++;
  return row.map((count) => Math.log2((count * about.experts) / (about.tokens * about.slots)));
}});
await Promise.all([
  heat("strip", rows(16, about.tokens / 16, margins), {{}}),
  heat("atlas", counts, {{ zmin: -3, zmax: 3 }}),
  heat("ribbon", rows(about.layers, about.tokens, margins), {{}}),
]);
document.body.dataset.ready = "1";
</script>"""


def main() -> None:
    """Export, open and measure both pages, and print a table."""
    executable = find_chromium()
    if executable is None:
        print("explorer: no Chromium here; `make browser` installs one")
        return
    trace = minimoe.synthetic_trace(LAYERS, TOKENS)
    with tempfile.TemporaryDirectory() as folder, open_browser(executable) as browser:
        ours = minimoe.export_html(trace, Path(folder) / "explorer.html")
        theirs = Path(folder) / "plotly.html"
        theirs.write_text(plotly_page(trace), encoding="utf-8")
        rows = measure_ours(browser, ours)
        other = measure_plotly(browser, theirs)
        rows |= measure_kernel(browser, Path(folder) / "jupyter")
        sizes = {name: path.stat().st_size / 1e6 for name, path in (("ours", ours), ("plotly", theirs))}
        version = browser.version
    print(
        f"\nrouting explorer, {LAYERS} layers x {TOKENS:,} tokens x 8 of 128 (synthetic), Chromium {version}, headless"
    )
    print(f"  {'milliseconds until the frame is painted':52s}   median      p95   budget   plotly median, p95")
    for name, (budget, times, beside) in rows.items():
        plotly = "{:8.1f} {:8.1f}".format(*spread(other[beside])) if beside else f"{'-':>8s} {'-':>8s}"
        median, p95 = spread(times)
        print(f"  {name:52s} {median:8.1f} {p95:8.1f} {budget:>8s}   {plotly}")
    print(f"  file: {sizes['ours']:.2f} MB (budget 10), plotly page with the same numbers {sizes['plotly']:.2f} MB")


def spread(times: list[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    return statistics.median(times), float(np.quantile(times, 0.95))


def open_page(browser: Any, path: Path, size: tuple[int, int] = (1400, 1000)) -> tuple[Any, float]:
    """An open page with the timing functions, and the milliseconds from navigation to its first complete picture."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.add_init_script(WATCH)
    page.goto(path.as_uri())
    page.wait_for_function("() => window.firstPaint !== undefined", timeout=60_000)
    page.evaluate(TIMING)
    return page, float(page.evaluate("() => window.firstPaint"))


def measure_ours(browser: Any, path: Path) -> dict[str, tuple[str, list[float], str | None]]:
    """name -> (budget, times, name of plotly's counterpart)."""
    paints = []
    for _ in range(5):
        page, paint = open_page(browser, path)
        paints.append(paint)
        if len(paints) < 5:
            page.close()

    def states(patches: list[dict[str, Any]], repeats: int = REPEATS) -> list[float]:
        result = page.evaluate("([n, patches]) => minimoeTiming.states(n, patches)", [repeats, patches])
        return list(result["times"])

    canvas = '[data-view="atlas"] .mm-atlas-grid canvas:not(.mm-overlay)'
    frame = page.evaluate("n => minimoeTiming.frame(n)", REPEATS)
    rows: dict[str, tuple[str, list[float], str | None]] = {"nothing (an empty frame)": ("", frame, "frame")}
    rows["pointer over the atlas, with its tooltip"] = (
        "33", page.evaluate("([n, at]) => minimoeTiming.hover(n, at)", [REPEATS, canvas]), None,
    )  # fmt: skip
    rows["caret to another token"] = ("33", states([{"token": 37 * i % TOKENS} for i in range(REPEATS)]), "caret")
    rows["layer change"] = ("50", states([{"layer": i % LAYERS} for i in range(REPEATS)]), "layer")
    whole = [{"range": None, "domain": None}, {"range": [1, TOKENS], "domain": None}]
    rows["recount of all 3.08 million ids"] = ("50", states(whole), "everything")
    for view in VIEWS:
        states([{"view": view, "layer": 40, "expert": 17, "range": None, "domain": None}], 1)
        starts = [61 * i % (TOKENS - BRUSH) for i in range(20)]
        brushes = [{"range": [start, start + BRUSH]} for start in starts]
        rows[f"brush of {BRUSH:,} tokens, beside view {view}"] = ("50", states(brushes, 20), "brush")
    rows["first paint, from the file"] = ("1000", paints, "paint")
    page.close()
    return rows


def measure_kernel(browser: Any, folder: Path) -> dict[str, tuple[str, list[float], str | None]]:
    """In JupyterLab, with the mini and its trace: a request that Python refuses at once, and a real ablation."""
    import nbformat

    source = """import minimoe
model, tokenizer = minimoe.load("data/mini")
minimoe.explore("data/traces/mini_four_domains.safetensors", model, tokenizer)"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with serve_lab(folder) as lab:
        nbformat.write(notebook, lab.root / "notebooks" / "explorer.ipynb")
        page = browser.new_page(viewport={"width": 1400, "height": 1400})
        page.goto(lab.address("notebooks/explorer.ipynb") + "?reset")
        run_all_cells(page)
        page.wait_for_selector(READY, timeout=60_000)
        page.evaluate(TIMING)
        ask = "([n, request]) => minimoeTiming.kernel(n, request)"
        trip = page.evaluate(ask, [REPEATS, {"layer": 999}])
        ablation = page.evaluate(ask, [5, {"layer": 1, "experts": [17], "controls": 0, "documents": [0]}])
        page.close()
    return {
        "kernel round trip, JupyterLab": ("150", trip, None),
        "ablation of the mini, one document, no controls": ("300", ablation, None),
    }


def measure_plotly(browser: Any, path: Path) -> dict[str, list[float]]:
    """The same changes on plotly heatmaps of the same numbers."""
    paints = []
    for _ in range(3):
        page, paint = open_page(browser, path)
        paints.append(paint)
        if len(paints) < 3:
            page.close()
    times = {
        change: page.evaluate("([n, what]) => minimoeTiming.plotly(n, what)", [20, change])
        for change in ("caret", "brush", "everything", "layer")
    }
    times |= {"frame": page.evaluate("n => minimoeTiming.frame(n)", REPEATS), "paint": paints}
    page.close()
    return times


def plotly_page(trace: minimoe.RoutingTrace) -> str:
    """An offline page with strip, atlas and ribbon as plotly heatmaps, plotly included."""
    from plotly.offline import get_plotlyjs

    margins = trace.margins.numpy()
    codes = np.rint(255 * np.minimum(1, margins / np.quantile(margins, 0.995))).astype(np.uint8)
    block = gzip.compress(trace.experts.numpy().astype(np.uint8).tobytes() + codes.tobytes())
    layers, tokens, slots = trace.experts.shape
    about = {"layers": layers, "tokens": tokens, "slots": slots, "experts": trace.metadata["num_experts"]}
    numbers = base64.b64encode(block).decode()
    return PLOTLY_PAGE.format(plotly=get_plotlyjs(), numbers=numbers, about=json.dumps(about))


if __name__ == "__main__":
    main()
