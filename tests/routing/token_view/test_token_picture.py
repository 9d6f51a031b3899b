"""The static picture shows the trace's own experts, at every position of its slider, and says what it shows."""

import json

import pytest
import torch

import minimoe
from minimoe.errors import BadArgument
from minimoe.routing.token_view.picture import FAN_ROW, WIDTH, lay_out, token_picture
from tests.routing.conftest import LetterTokenizer, small_model


@pytest.fixture(scope="module")
def trace():
    model = small_model()
    with torch.no_grad(), minimoe.record_routing(model, LetterTokenizer(), label="random") as recorded:
        model(torch.arange(7)[None])
    return recorded


def lights(data):
    return list(data.x)


@pytest.mark.parametrize("token", [0, 3, 6])
def test_every_slider_position_shows_the_experts_of_its_token(trace, token):
    figure = token_picture(trace, token).figure
    assert figure.layout.sliders[0].active == token and len(figure.frames) == len(figure.layout.sliders[0].steps) == 7
    expected = trace.experts[:, token].flatten().tolist()
    assert lights(figure.data[5]) == expected
    frame = figure.frames[token]
    assert frame.traces == (1, 4, 5) and lights(frame.data[2]) == expected
    for sizes in (figure.data[5].marker.size, frame.data[2].marker.size):
        order = torch.tensor(sizes).argsort(descending=True, stable=True)
        weights = trace.weights[:, token].flatten()
        assert (weights[order].diff() <= 0.01).all(), "a larger weight is a larger dot"
    assert frame.data[0].x == tuple(lay_out(trace).box(token)[0])
    assert list(figure.layout.yaxis2.ticktext) == ["layer 0", "layer 2", "layer 3"]  # layer 1 is dense


def test_the_path_goes_through_every_light(trace):
    path = token_picture(trace, 2).figure.data[4]
    points = set(zip(path.x, path.y, strict=True))
    for row, ids in enumerate(trace.experts[:, 2].tolist()):
        assert {(expert, float(row)) for expert in ids} <= points


def test_the_text_wraps_and_boxes_do_not_overlap():
    trace = minimoe.synthetic_trace(layers=2, tokens=400, num_experts=32, top_k=4)
    strip = lay_out(trace)
    assert max(strip.right) <= WIDTH
    for t in range(1, len(trace)):
        assert strip.line[t] > strip.line[t - 1] or strip.left[t] >= strip.right[t - 1]


def test_a_large_trace_is_one_token_with_a_line_through_its_heaviest_experts():
    trace = minimoe.synthetic_trace(layers=94, tokens=300)
    figure = token_picture(trace, 250).figure
    assert figure.frames == () and not figure.layout.sliders and figure.layout.height < 900
    assert 330 / 94 < FAN_ROW and list(figure.data[4].x) == trace.experts[:, 250, 0].tolist()
    size = len(json.dumps(token_picture(trace, 250)._repr_mimebundle_()))
    assert size < 40_000


def test_text_alternative_and_json(trace):
    picture = token_picture(trace, 2, mark="here")
    assert picture.alt.startswith("Token 2 of 7, “C”: 4 of 16 experts selected in each of 3 layers.")
    assert f"{trace.experts[1, 2, 0]} in layer 2" in picture.alt
    drawing = json.loads(json.dumps(picture._repr_mimebundle_()["application/vnd.plotly.v1+json"]))
    assert drawing["layout"]["meta"] == {"minimoe": "here"} and "random, measured" in drawing["layout"]["title"]["text"]


@pytest.mark.parametrize("token", [7, -1])
def test_token_out_of_range(trace, token):
    with pytest.raises(BadArgument, match=rf"token is {token}, but the text has tokens 0\.\.6"):
        token_picture(trace, token)
