"""Pictures of a cache of experts: how often it had what was asked for, token by token and by its size."""

from collections.abc import Sequence

import plotly.graph_objects as go

from minimoe.errors import BadArgument
from minimoe.plotting import BLUE, ORANGE, SEQUENTIAL, VERMILLION, Picture, finish
from minimoe.routing.trace.trace import RoutingTrace
from minimoe.scale.streaming.budget import uniform_hit_rate
from minimoe.scale.streaming.buffer_layout import Layout
from minimoe.scale.streaming.expert_cache import ExpertCache
from minimoe.scale.streaming.statistics import PassRecord

# Okabe and Ito's colours, as in figures.py; the dashes tell the lines apart in grey, too.
MEASURED, UNIFORM, TOKEN = BLUE, ORANGE, VERMILLION
NOTHING = Layout([])  # what a slot holds where only hits are counted


def hit_rate_by_token(passes: Sequence[PassRecord], title: str = "How many experts were in memory?") -> Picture:
    """One point a forward pass: the prompt first, then every token of the answer. Raises BadArgument if there is none.

    passes: `model.streaming.passes`.
    """
    asked = [each for each in passes if each.layers]
    if not asked:
        raise BadArgument("passes is empty, or asked for no expert; run the streamed model first.")
    rates = [round(each.hit_rate, 4) for each in asked]
    megabytes = [round(each.bytes_read / 1e6, 3) for each in asked]
    figure = go.Figure()
    figure.add_scatter(
        y=rates, mode="lines+markers", line={"color": MEASURED}, customdata=megabytes, name="hit rate",
        hovertemplate="pass %{x}: %{y:.0%} in memory, %{customdata:.2f} MB read<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title_text="forward pass (0 is the prompt, each other one a token)", rangemode="tozero")
    figure.update_yaxes(title_text="share of the chosen experts found in memory", range=[0, 1], tickformat=".0%")
    later = [each for each in asked[1:] if each.tokens == 1]
    hits, misses = (sum(sum(getattr(each, name)) for each in later) for name in ("hits", "misses"))
    told = f"the {len(later)} tokens after it {hits / (hits + misses):.0%} of theirs" if later else "no token followed"
    alt = f"The prompt of {asked[0].tokens} tokens found {rates[0]:.0%} of its experts in memory, {told}."
    return finish(figure, title, alt, height=380)


def hit_rate_by_layer(passes: Sequence[PassRecord], title: str = "Which layers find their experts?") -> Picture:
    """Layers x forward passes, coloured by the share of experts found. Raises BadArgument if there is none."""
    asked = [each for each in passes if each.layers]
    if not asked:
        raise BadArgument("passes is empty, or asked for no expert; run the streamed model first.")
    layers = sorted({layer for each in asked for layer in each.layers})
    rows = []
    for layer in layers:
        found = [(each, each.layers.index(layer)) for each in asked if layer in each.layers]
        rows.append([round(each.hits[at] / (each.hits[at] + each.misses[at]), 4) for each, at in found])
    figure = go.Figure()
    figure.add_heatmap(
        z=rows, y=layers, colorscale=SEQUENTIAL, zmin=0, zmax=1,
        colorbar={"title": {"text": "found"}, "tickformat": ".0%"},
        hovertemplate="layer %{y}, pass %{x}: %{z:.0%} in memory<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title_text="forward pass (0 is the prompt, each other one a token)")
    figure.update_yaxes(title_text="layer")
    best = max(range(len(layers)), key=lambda at: sum(rows[at]))
    mean = sum(rows[best]) / len(rows[best])
    alt = f"{len(layers)} layers, {len(asked)} passes. Layer {layers[best]} found most: {mean:.0%} on average."
    return finish(figure, title, alt, height=240 + 18 * len(layers))


def hits_of_trace(trace: RoutingTrace, slots: int, skip: int = 0) -> float:
    """The hit rate that a cache of `slots` slots would have had for these tokens, one after the other, all layers of a
    token in turn, as in decoding. The first `skip` tokens fill the cache and do not count. Raises BadArgument.
    """
    tokens = trace.experts.shape[1]
    if type(slots) is not int or slots < 1:
        raise BadArgument(f"slots is {slots!r}, expected a number of experts, 1 or more.")
    if not 0 <= skip < tokens:
        raise BadArgument(f"skip is {skip!r}, but the trace holds {tokens} tokens.")
    cache = ExpertCache(slots, 1, lambda key, memory: NOTHING)
    chosen, layers = trace.experts.sort(dim=-1).values.tolist(), trace.layers.tolist()
    for token in range(tokens):
        if token == skip:
            cache.hits = cache.misses = 0
        for at, layer in enumerate(layers):
            for expert in chosen[at][token]:
                cache.get((layer, expert))
    return cache.hits / (cache.hits + cache.misses)


def hit_rate_by_slots(
    trace: RoutingTrace, slots: Sequence[int] | None = None, title: str = "How large must the cache be?"
) -> Picture:
    """The hit rate of caches of several sizes on a recorded text, against routers that choose uniformly; and where one
    token's experts just fit. slots: sizes in experts, by default twelve from one layer's worth to all.
    """
    layers, experts, wanted = len(trace.layers), trace.metadata["num_experts"], trace.experts.shape[-1]
    everything, one_token = layers * experts, layers * wanted
    if slots is None:
        tenths = (max(1, round(everything * at / 10)) for at in range(1, 11))
        slots = sorted({wanted, one_token - 1, one_token, *tenths} - {0})
    skip = len(trace) // 4
    measured = [round(hits_of_trace(trace, size, skip), 4) for size in slots]
    uniform = [round(uniform_hit_rate(size, layers, experts, wanted), 4) for size in slots]
    figure = go.Figure()
    lines = (("this text", measured, MEASURED, "solid"), ("uniform routing", uniform, UNIFORM, "dash"))
    for name, rates, colour, dash in lines:
        figure.add_scatter(
            x=list(slots), y=rates, name=name, mode="lines+markers", line={"color": colour, "dash": dash},
            hovertemplate=name + ", %{x} slots: %{y:.0%}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(
        x=one_token, line={"color": TOKEN, "dash": "dot"}, annotation_position="top right",
        annotation={"text": f"one token: {one_token:,} experts", "font": {"color": TOKEN}},
    )  # fmt: skip
    figure.update_xaxes(title_text=f"slots, of {everything:,} experts in {layers} layers", rangemode="tozero")
    figure.update_yaxes(title_text="share of the chosen experts found in memory", range=[0, 1.02], tickformat=".0%")
    pairs = "; ".join(f"{size:,} slots {rate:.0%}" for size, rate in zip(slots, measured, strict=True))
    alt = f"Hit rates of a cache for {len(trace) - skip} tokens: {pairs}. One token alone needs {one_token:,} slots."
    picture = finish(figure, title, alt, height=420)
    figure.update_layout(showlegend=True, legend={"x": 0.98, "y": 0.05, "xanchor": "right"})
    return picture
