"""`export_html`: write the explorer as a single self-contained HTML file.

The page contains the module, the header, the data and a static picture for viewers without JavaScript. Its content
security policy forbids all requests and allows a single script, identified by its hash. The text of a token can
therefore never run as a program, even if the escaping of the page had an error.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from minimoe import atomic
from minimoe.errors import BadArgument
from minimoe.routing.ablation.result import Ablation
from minimoe.routing.explorer.bundle import PAGE_ENTRY, module_source
from minimoe.routing.explorer.inputs import Traces, given_traces
from minimoe.routing.explorer.payload import pack
from minimoe.routing.explorer.precomputed import whole_trace_statistics
from minimoe.routing.explorer.state import check_state
from minimoe.routing.explorer.static_picture import fallback
from minimoe.routing.trace.trace import RoutingTrace

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0; padding: 8px; font: 14px/1.45 system-ui, "Helvetica Neue", Arial, "Noto Sans CJK SC", sans-serif; }}
</style>
</head>
<body>
<main id="minimoe-explorer" aria-label="{title}"></main>
{fallback}
<script type="application/json" id="minimoe-header">{header}</script>
<script type="application/octet-stream;base64" id="minimoe-data">{data}</script>
<script type="module">{module}</script>
</body>
</html>
"""


def export_html(
    trace_or_traces: Traces,
    path: str | Path,
    title: str | None = None,
    state: dict[str, Any] | None = None,
    tour: list[dict[str, Any]] | None = None,
    ablations: Sequence[Ablation | dict[str, Any] | None] | None = None,
    background: RoutingTrace | str | Path | None = None,
) -> Path:
    """Write the explorer of one or more traces to `path`, and return the path. 94 layers x 4,096 tokens take 8 MB.

    state: the initial state. ablations: precomputed results of view J (as returned by `ablate`), one per trace.
    background: a long trace of the same model, or its path, in which the page looks up the experts of a text of fewer
    than 512 tokens; by default the course's own, if it comes from the same routers. Raises BadTrace for an inconsistent
    trace or a background of other routers, BadArgument for an invalid argument or a path that is not a file, NotFound
    for a missing folder, WriteFailed.
    """
    file = atomic.check_writable(path)
    traces = given_traces(trace_or_traces)
    initial = check_state(state or {}, traces)
    results = None if ablations is None else precomputed(ablations, len(traces))
    header, blob = pack(
        traces, initial, tour, statistics=whole_trace_statistics, ablations=results, background=background
    )
    content = page(header, blob, title or f"Which experts? {traces[0].title}", fallback(traces[0]).html)
    atomic.write(file, content.encode())
    return file


def precomputed(ablations: Any, count: int) -> list[dict[str, Any] | None]:
    """The results of view J in their JSON form, one for each of `count` traces. Raises BadArgument."""
    if not isinstance(ablations, list | tuple) or len(ablations) != count:
        kind = f"{len(ablations)} results" if isinstance(ablations, list | tuple) else type(ablations).__name__
        raise BadArgument(
            f"ablations is {kind}, expected a list with one result, or None, for each of {count} traces."
        )
    results = [result.to_json() if isinstance(result, Ablation) else result for result in ablations]
    keys = {"layer", "experts", "mode", "delta_loss"}
    for number, result in enumerate(results):
        if result is not None and not (isinstance(result, dict) and keys <= result.keys()):
            raise BadArgument(
                f"ablations[{number}] is {type(result).__name__}, expected a result of ablate(...), or None."
            )
    return results


def page(header: dict[str, Any], blob: bytes, title: str, picture: str) -> str:
    """The HTML of the page; `picture` is shown until the explorer has started."""
    script = "\n" + module_source(entry=PAGE_ENTRY)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    return PAGE.format(
        policy=policy,
        title=escape(title),
        fallback=f'<div id="minimoe-fallback">{picture}</div>',
        header=inert(json.dumps(header, ensure_ascii=False, allow_nan=False, separators=(",", ":"))),
        data=base64.b64encode(gzip.compress(blob, compresslevel=6, mtime=0)).decode(),
        module=script,
    )


def inert(text: str) -> str:
    """Escape every `<` in JSON, so that an HTML parser finds no markup in it."""
    return text.replace("<", "\\u003c")
