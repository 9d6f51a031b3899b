"""The experiment of chapter 12: headlines about expert specialisation, from true labels and from permuted ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import torch
from einops import einsum, rearrange
from torch import Tensor

from minimoe.course.figures.ch06_router import driven
from minimoe.course.figures.ch12_experts import CHANCE, REAL
from minimoe.figure_style import DOMAIN_COLOURS, Picture, finish, reference_line
from minimoe.routing.statistics.counting import document_counts
from minimoe.routing.trace.trace import RoutingTrace

DEALS = 200  # permutations of the labels, to estimate the chance level


@dataclass(frozen=True)
class Tally:
    """Number of times that each document selected each expert, and the domain of each document.

    hits: (layer, document, expert). sizes: (document) tokens. labels: (document) index into `domains`.
    """

    hits: Tensor
    sizes: Tensor
    labels: Tensor
    domains: tuple[str, ...]

    @classmethod
    def of(cls, trace: RoutingTrace) -> "Tally":
        """The counts of a trace with document and domain labels."""
        parts = document_counts(trace.experts, trace.metadata["num_experts"], trace.documents, trace.domains)
        hits = rearrange(parts.counts, "document layer expert -> layer document expert").float()
        return cls(hits, parts.tokens.float(), parts.domains, trace.domain_names)

    def first(self, documents: int) -> "Tally":
        """The tally of the first `documents` documents of each domain."""
        keep = torch.cat([(self.labels == label).nonzero().flatten()[:documents] for label in range(len(self.domains))])
        return Tally(self.hits[:, keep], self.sizes[keep], self.labels[keep], self.domains)

    def lifts(self, layer: int, labels: Tensor, domain: int) -> Tensor:
        """(draw, expert): share of the domain's tokens that selected an expert, divided by the share of all tokens.

        labels: (draw, document), one assignment of labels per row. An expert that was never selected has lift 1.
        """
        inside = (labels == domain).float()
        share = einsum(inside, self.hits[layer], "draw document, document expert -> draw expert")
        share = share / rearrange(inside @ self.sizes, "draw -> draw 1")
        everywhere = self.hits[layer].sum(dim=0) / self.sizes.sum()
        return torch.where(everywhere > 0, share / everywhere.clamp(min=1e-9), torch.ones(()))

    def dealt(self, seed: int, times: int = 1) -> Tensor:
        """(draw, document): `times` random permutations of the labels."""
        generator = torch.Generator().manual_seed(seed)
        return torch.stack([self.labels[torch.randperm(len(self.labels), generator=generator)] for _ in range(times)])


def ceiling(tally: Tally, layer: int, domain: int) -> float:
    """The 95 % quantile of the highest lift under permuted labels: a lower maximum is explained by chance."""
    best = tally.lifts(layer, tally.dealt(12, DEALS), domain).amax(dim=-1)
    return float(best.quantile(0.95))


def claim(tally: Tally, layer: int, domain: int, labels: Tensor, says: str) -> Picture:
    """The sorted lifts of all experts of a layer with the chance ceiling, under a headline about the best expert.

    labels: (document), true or permuted; `says` describes which.
    """
    lifts = tally.lifts(layer, labels[None], domain)[0]
    line, order = ceiling(tally, layer, domain), lifts.argsort(descending=True).tolist()
    name, best = tally.domains[domain], order[0]
    above = int((lifts > line).sum())
    tokens = int(tally.sizes[labels == domain].sum())
    figure = go.Figure(
        go.Bar(
            x=list(range(1, len(order) + 1)), y=[round(float(lifts[expert]), 3) for expert in order],
            marker={
                "color": [DOMAIN_COLOURS.get(name, REAL) if lifts[expert] > line else CHANCE for expert in order],
                "line": {"width": 0},
            },
            customdata=[f"L{layer}·E{expert}" for expert in order],
            hovertemplate="%{customdata}: %{y:.2f} times<extra></extra>",
        )
    )  # fmt: skip
    reference_line(figure, line, f"the best of {len(order)} stays below {line:.2f} in 19 of 20 deals")
    reference_line(figure, 1, "1: as everywhere")
    for note in figure.layout.annotations:
        note.update(x=1, xanchor="right")
    figure.update_xaxes(title_text="rank of the expert (hover for its name)", showgrid=False, range=[0, len(order) + 1])
    figure.update_yaxes(
        title_text=f"share of the {name} tokens<br>over share of all tokens",
        range=[0, max(4.4, 1.05 * float(lifts[best]), 1.1 * line)],
    )
    headline = f"“L{layer}·E{best} is selected {float(lifts[best]):.1f} times as often in {name}!”"
    count = int((labels == domain).sum())
    note = f"{says}; {count} {name} documents, {tokens:,} tokens; {above} of {len(order)} experts above the line"
    alt = f"{headline} {note}. In 19 of 20 deals the best is below {line:.2f}."
    figure.update_layout(bargap=0.1)
    return finish(figure, headline, alt, 400, note[0].upper() + note[1:] + ".")


def explore_claims(tally: Tally, layer: int = 2, domain: str = "code") -> Any:
    """Widgets to choose layer, domain and number of documents, and to replace the true labels by permuted ones."""
    from ipywidgets import Dropdown, IntSlider, Layout, ToggleButtons

    most = int(tally.labels.bincount().min())
    wide, style = Layout(width="330px"), {"description_width": "initial"}

    def draw(layer: int, domain: str, documents: int, labels: str, deal: int) -> Picture:
        part = tally.first(documents)
        dealt = labels != "true"
        chosen = part.dealt(deal)[0] if dealt else part.labels
        says = f"labels dealt at random (deal {deal})" if dealt else "true labels"
        return claim(part, layer, tally.domains.index(domain), chosen, says)

    return driven(
        draw,
        layer=Dropdown(options=range(len(tally.hits)), value=layer, description="layer", layout=Layout(width="150px")),
        domain=Dropdown(options=tally.domains, value=domain, description="domain", layout=Layout(width="180px")),
        documents=IntSlider(value=2, min=2, max=most, description="documents of each domain", layout=wide, style=style),
        labels=ToggleButtons(options=("true", "dealt"), style={"button_width": "70px"}),
        deal=IntSlider(value=1, min=1, max=20, description="deal", layout=Layout(width="260px")),
    )


def headline_table(
    tally: Tally, layer: int, domain: str, sizes: Sequence[int]
) -> list[tuple[int, float, float, float]]:
    """The experiment as numbers: (documents, best lift, best lift for permuted labels, chance ceiling) per size."""
    rows, label = [], tally.domains.index(domain)
    for documents in sizes:
        part = tally.first(documents)
        true, dealt = (part.lifts(layer, labels, label).max() for labels in (part.labels[None], part.dealt(1)))
        rows.append((documents, float(true), float(dealt), ceiling(part, layer, label)))
    return rows
