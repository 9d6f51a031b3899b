"""What a figure sends to each kind of notebook application."""

import sys
from types import ModuleType

import plotly.graph_objects as go
import pytest

from minimoe.figure_style import NARROWEST, Picture, bars, headline, label_ends, reference_line, text_width

PLOTLY = "application/vnd.plotly.v1+json"


@pytest.fixture
def picture():
    return Picture(go.Figure(go.Bar(x=[1, 2], y=[3, 4])), "Two bars, 3 and 4.")


def test_jupyter_and_vs_code_get_plotlys_type_and_a_sentence(picture):
    bundle = picture._repr_mimebundle_()
    assert set(bundle) == {PLOTLY, "text/plain"} and bundle["text/plain"] == "Two bars, 3 and 4."
    assert bundle[PLOTLY]["data"][0]["y"] == [3, 4] and bundle[PLOTLY]["config"] == {"displayModeBar": False}


def test_colab_gets_a_page_with_plotly_from_its_cdn(picture, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    bundle = picture._repr_mimebundle_()
    assert set(bundle) == {PLOTLY, "text/plain", "text/html"}
    assert "https://cdn.plot.ly/" in bundle["text/html"] and "Plotly.newPlot" in bundle["text/html"]


def test_bars_have_their_values_as_labels():
    figure = bars(["one", "two"], [0.25, 1.5], title="Two is more", alt="1.5 against 0.25").figure
    assert [text for trace in figure.data for text in trace.text] == ["0.25", "1.50"]


def curve(xs, ys, x=None, y=None):
    figure = go.Figure(go.Scatter(x=xs, y=ys, name="a curve", mode="lines", line={"color": "#0072B2"}))
    return figure.update_xaxes(type=x).update_yaxes(type=y)


@pytest.mark.parametrize(
    "axes, end",
    [({}, (100, 1000)), ({"x": "log"}, (2, 1000)), ({"y": "log"}, (100, 3)), ({"x": "log", "y": "log"}, (2, 3))],
    ids=["linear", "log x", "log y", "both"],
)
def test_a_curve_is_named_at_its_end(axes, end):
    figure = label_ends(curve([1, 10, 100], [1, 10, 1000], **axes))
    (name,) = figure.layout.annotations
    assert name.text == "a curve" and (name.x, name.y) == end
    assert not figure.layout.showlegend and figure.layout.margin.r > 60


def test_names_that_would_overlap_are_spread():
    figure = go.Figure([go.Scatter(x=[0, 1], y=[0, y], name=str(y), mode="lines") for y in (1.0, 1.001, 5.0)])
    label_ends(figure, height=360)
    shifts = [name.yshift for name in figure.layout.annotations]
    assert shifts[1] - shifts[0] >= 16 and shifts[2] == 0


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("kind, at", [(None, 100), ("log", 2)])
def test_a_reference_line_has_its_text_beside_it(axis, kind, at):
    figure = reference_line(curve([1, 1000], [1, 1000], **{axis: kind}), 100, "chance", axis=axis)
    (line,), (text,) = figure.layout.shapes, figure.layout.annotations
    assert line[f"{axis}0"] == 100 and text.text == "chance" and text[axis] == at


def test_titles_fit_a_narrow_window():
    title = "A title that says what was found, and that needs two lines in a narrow window"
    text, height = headline(title, "and a subtitle")
    lines = text.split("<br>")
    assert len(lines) == 3 and height == 2 * 20 + 18 and all(text_width(line, 16) <= NARROWEST for line in lines[:2])
