"""Chapter 15: the article as a map, the claims as tiles, and the widget in which the reader guesses first."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from minimoe.course.article.claims import COLOURS, SIGNS, VERDICTS, Claim, claims, published
from minimoe.course.article.corrected import Text
from minimoe.course.article.quantities import quantities
from minimoe.figure_style import INK, PALE, VERMILLION, Picture, bars, finish, hide_axes, ink_on

NO_GUESS = "no guess"
COLUMNS = 9  # tiles in a row


def article_map() -> Picture:
    """The sections of the article, in its order, with the number of claims in each."""
    counts = Counter(claim.section for claim in claims().values())
    title = f"{len(claims())} sentences can be asked for their truth"
    alt = f"{title}. Claims by section: {', '.join(f'{name} {count}' for name, count in counts.items())}."
    return bars(
        list(counts), list(counts.values()), title, alt, form=",d",
        subtitle="Claims by section of the article, in its order. Opinions are left out unless they pose as facts.",
    )  # fmt: skip


def claim_list() -> Text:
    """All claims without their verdicts, folded, for readers without a kernel."""
    lines = [f"{claim.number}. {claim.claim}" for claim in claims().values()]
    return Text("\n".join(["<details><summary>All claims, as a list</summary>", "", *lines, "", "</details>"]))


def verdict_tiles(guesses: Mapping[str, str] | None = None, shown: bool = True, lit: str = "") -> Picture:
    """One tile for each claim, in the order of the article.

    shown: in the colour and with the sign of its verdict; otherwise of its guess. With guesses, a wrong one has a red
    frame once the verdicts are shown. lit: the key of the claim that is being judged, with a black frame.
    """
    guesses = guesses or {}
    figure, said = go.Figure(), []
    rows = -(-len(claims()) // COLUMNS)
    for index, (key, claim) in enumerate(claims().items()):
        kind = claim.verdict if shown else guesses.get(key, NO_GUESS)
        colour = COLOURS.get(kind, PALE)
        x, y = index % COLUMNS, rows - index // COLUMNS
        missed = shown and key in guesses and guesses[key] != claim.verdict
        frame, width = (INK, 3) if key == lit else (VERMILLION, 4) if missed else ("white", 1)
        figure.add_shape(
            type="rect", x0=x + 0.05, x1=x + 0.95, y0=y + 0.05, y1=y + 0.95, fillcolor=colour,
            line={"color": frame, "width": width},
        )  # fmt: skip
        figure.add_annotation(
            x=x + 0.5, y=y + 0.5, showarrow=False, text=f"{claim.number}<br>{SIGNS.get(kind, '·')}",
            font={"size": 12, "color": ink_on(colour)},
        )  # fmt: skip
        said.append(f"{claim.number} {kind}")
    figure.add_scatter(
        x=[index % COLUMNS + 0.5 for index in range(len(claims()))],
        y=[rows - index // COLUMNS + 0.5 for index in range(len(claims()))],
        mode="markers", marker={"size": 30, "opacity": 0},
        text=[hover(claim) for claim in claims().values()], hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    for index, verdict in enumerate(VERDICTS):
        left, low = 0.05 + (0, 2.2, 6.6, 0, 2.2)[index], (0.55, 0.55, 0.55, 0.05, 0.05)[index]
        figure.add_shape(
            type="rect", x0=left, x1=left + 0.3, y0=low, y1=low + 0.34, fillcolor=COLOURS[verdict], line_width=0
        )  # fmt: skip
        figure.add_annotation(
            x=left + 0.36,
            y=low + 0.17,
            text=f"{SIGNS[verdict]} {verdict}",
            showarrow=False,
            xanchor="left",
            font={"size": 12},
        )
    figure.update_xaxes(range=[0, COLUMNS])
    figure.update_yaxes(range=[-0.05, rows + 1])
    hide_axes(figure)
    title, subtitle = headline(guesses, shown)
    return finish(figure, title, f"{title}. {subtitle} {'; '.join(said)}.", 130 + 50 * (rows + 1), subtitle)


def headline(guesses: Mapping[str, str], shown: bool) -> tuple[str, str]:
    """Title and subtitle of the tiles."""
    if not shown:
        return f"{len(guesses)} of {len(claims())} guessed", "Your guesses, in the order of the article."
    counts = Counter(claim.verdict for claim in claims().values())
    found = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    if not guesses:
        plain = counts[VERDICTS[0]]
        return (
            f"{plain} of {len(claims())} hold as they stand, {counts[VERDICTS[1]]} with a condition",
            f"All claims by verdict: {found}.",
        )
    right = sum(claims()[key].verdict == guess for key, guess in guesses.items())
    return f"You: {right} of {len(guesses)} right", f"Red frames are the guesses that missed. All claims: {found}."


def hover(claim: Claim) -> str:
    """The claim in lines of some words."""
    words, lines = claim.claim.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 44:
            lines.append("")
        lines[-1] += f"{word} "
    return f"{claim.number}. " + "<br>".join(escape(line.strip()) for line in lines)


def confusion(guesses: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """(guessed, true, how often) of the wrong guesses, the most frequent first."""
    wrong = Counter((guess, claims()[key].verdict) for key, guess in guesses.items() if guess != claims()[key].verdict)
    return [(guess, true, count) for (guess, true), count in wrong.most_common()]


class Guessing:
    """The widget: one claim after the other, five buttons, and the verdicts when the reader asks for them.

    guesses: key -> verdict, which grows while the reader plays.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        from ipywidgets import HTML, Button, Checkbox, HBox, Layout, Output, ToggleButtons, VBox

        self.keys = list(keys or claims())
        self.guesses: dict[str, str] = {}
        self.at = 0
        self.numbers = published() | quantities()
        self.says = HTML(layout=Layout(max_width="640px", min_height="96px"))
        self.buttons = ToggleButtons(
            options=[(f"{SIGNS[verdict]} {verdict}", verdict) for verdict in VERDICTS], value=None,
            style={"button_width": "176px"},
        )  # fmt: skip
        self.back = Button(description="◀ back", layout=Layout(width="90px"))
        self.forward = Button(description="next ▶", layout=Layout(width="90px"))
        self.reveal = Checkbox(value=False, description="show the verdicts", indent=False)
        self.screen = Output(layout=Layout(min_height="420px"))
        self.back.on_click(lambda _: self.go(-1))
        self.forward.on_click(lambda _: self.go(1))
        self.buttons.observe(self.guess, names="value")
        self.reveal.observe(lambda _: self.draw(), names="value")
        row = HBox([self.back, self.forward, self.reveal], layout=Layout(flex_flow="row wrap"))
        self.box = VBox([self.says, self.buttons, row, self.screen])
        self.draw()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget; for viewers without widgets, a sentence."""
        bundle: dict[str, Any] = dict(self.box._repr_mimebundle_(**kwargs))
        says = f"Five buttons for each of {len(self.keys)} claims; they need a running kernel."
        return bundle | {"text/plain": says}

    @property
    def claim(self) -> Claim:
        return claims()[self.keys[self.at]]

    def go(self, step: int) -> None:
        """To another claim, round and round."""
        self.at = (self.at + step) % len(self.keys)
        self.buttons.unobserve(self.guess, names="value")
        self.buttons.value = self.guesses.get(self.claim.key)
        self.buttons.observe(self.guess, names="value")
        self.draw()

    def guess(self, change: Mapping[str, Any]) -> None:
        """Keep the guess; go on unless the verdicts are shown."""
        if change["new"] is None:
            return
        self.guesses[self.claim.key] = change["new"]
        if self.reveal.value:
            self.draw()
        else:
            self.go(1)

    def draw(self) -> None:
        """The claim, and below it the tiles."""
        claim = self.claim
        text = f"<b>{claim.number}</b> of {len(claims())}, {escape(claim.section)}<br><i>{escape(claim.claim)}</i><br>"
        text += escape(claim.question)
        if self.reveal.value:
            mark = f'<b style="border-left: 10px solid {COLOURS[claim.verdict]}; padding-left: 8px">{claim.verdict}</b>'
            text += f"<br>{mark}: {escape(claim.reason(self.numbers))} <small>({escape(claim.source)})</small>"
        self.says.value = f'<div style="line-height: 1.4">{text}</div>'
        picture = verdict_tiles(self.guesses, shown=self.reveal.value, lit=claim.key)
        shown = {"output_type": "display_data", "metadata": {}, "data": picture._repr_mimebundle_()}
        self.screen.outputs = (shown,)

    def score(self) -> str:
        """The result in a sentence or two."""
        if not self.guesses:
            return "No guesses yet. Play with the widget above, then run this cell again."
        right = sum(claims()[key].verdict == guess for key, guess in self.guesses.items())
        says = f"{right} of {len(self.guesses)} right."
        for guessed, true, count in confusion(self.guesses)[:1]:
            says += f" Most often: you said “{guessed}”, it is “{true}” ({count} times)."
        return says
