"""`export_html`: the explorer as one file that needs nothing else, not even a network.

Module, header, numbers and a picture for whoever has no JavaScript stand in one page. Its own security policy lets it
load nothing from anywhere, and runs exactly one script: ours, named by its hash. What a token says can therefore never
become a program, even if a page were wrong about where its text ends.
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
) -> Path:
    """Write the explorer of one or more traces to `path`, and return it. At 94 layers x 4,096 tokens it takes 8 MB.

    `state` is what it shows first, `ablations` precomputed results of view J (what `ablate` returns), one a trace.
    Raises BadTrace for a trace that contradicts itself, BadArgument for what it cannot show or a path that is no file,
    NotFound for a missing folder, WriteFailed.
    """
    file = atomic.check_writable(path)
    traces = given_traces(trace_or_traces)
    first = check_state(state or {}, traces)
    ready = None if ablations is None else precomputed(ablations, len(traces))
    header, blob = pack(traces, first, tour, statistics=whole_trace_statistics, ablations=ready)
    content = page(header, blob, title or f"Which experts? {traces[0].title}", fallback(traces[0]).html)
    atomic.write(file, content.encode())
    return file


def precomputed(ablations: Any, count: int) -> list[dict[str, Any] | None]:
    """Results of view J as JSON, one for each of `count` traces. Raises BadArgument."""
    if not isinstance(ablations, list | tuple) or len(ablations) != count:
        found = f"{len(ablations)} results" if isinstance(ablations, list | tuple) else type(ablations).__name__
        raise BadArgument(
            f"ablations is {found}, expected a list with one result, or None, for each of {count} traces."
        )
    ready = [one.to_json() if isinstance(one, Ablation) else one for one in ablations]
    for number, one in enumerate(ready):
        if one is not None and not (isinstance(one, dict) and {"layer", "experts", "mode", "delta_loss"} <= one.keys()):
            raise BadArgument(
                f"ablations[{number}] is {type(one).__name__}, expected what ablate(...) returns, or None."
            )
    return ready


def page(header: dict[str, Any], blob: bytes, title: str, picture: str) -> str:
    """The HTML of the page; `picture` is shown until the explorer runs."""
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
    """JSON that no HTML parser can take for markup: every `<` as its escape."""
    return text.replace("<", "\\u003c")
