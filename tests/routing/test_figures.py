"""The pictures show the trace's own numbers, and can be read without being drawn."""

import json

import pytest
import torch

from minimoe import ModelConfig, Transformer, record_routing
from minimoe.errors import BadArgument
from minimoe.routing.figures import bars, expert_map, printed_width, readable

CONFIG = ModelConfig(
    vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
    intermediate_size=16, moe_intermediate_size=8, num_experts=20, num_experts_per_tok=4, norm_topk_prob=True,
    mlp_only_layers=(1,), initializer_range=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def trace():
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    with torch.no_grad(), record_routing(model, label="random") as recorded:
        model(torch.arange(7)[None])
    return recorded


@pytest.mark.parametrize("token", [0, 3, 6])
def test_every_slider_position_shows_the_weights_of_its_token(trace, token):
    figure = expert_map(trace, token=token).figure
    assert figure.layout.sliders[0].active == token and len(figure.frames) == len(figure.layout.sliders[0].steps) == 7
    drawn = {"at the start": figure.data[3].z, "after moving": figure.frames[token].data[1].z}
    for rows in drawn.values():
        for layer, row in enumerate(rows):
            shown = {expert: weight for expert, weight in enumerate(row) if weight is not None}
            assert sorted(shown) == sorted(trace.experts[layer, token].tolist())
            for expert, weight in zip(
                trace.experts[layer, token].tolist(), trace.weights[layer, token].tolist(), strict=True
            ):
                assert shown[expert] == pytest.approx(weight, abs=6e-4)
    assert list(figure.data[3].y) == ["layer 0", "layer 2"]  # absolute numbers: layer 1 is dense


def test_slider_frames_update_the_marker_and_the_map(trace):
    figure = expert_map(trace).figure
    assert all(frame.traces == (1, 3) for frame in figure.frames)
    assert [type(figure.data[n]).__name__ for n in (1, 3)] == ["Scatter", "Heatmap"]
    assert [frame.name for frame in figure.frames] == [step.args[0][0] for step in figure.layout.sliders[0].steps]


def test_text_alternative_and_json(trace):
    picture = expert_map(trace, token=2)
    assert repr(picture).startswith("Token 2 (#2) of 7: 4 of 20 experts selected in each layer")
    bundle = picture._repr_mimebundle_()
    assert bundle["text/plain"] == picture.alt
    drawing = json.loads(json.dumps(bundle["application/vnd.plotly.v1+json"]))
    assert drawing["config"]["showSendToCloud"] is False  # plotly's default offers to upload the reader's figure
    assert drawing["layout"]["title"]["text"].endswith("(random)")


def test_token_out_of_range(trace):
    with pytest.raises(BadArgument, match=r"token is 7, but the trace contains tokens 0\.\.6"):
        expert_map(trace, token=7)


def test_labels_of_tokens():
    assert readable(b" a\n", 1) == "·a↵"
    assert readable("猫".encode()[:2], 1) == "‹e7 8c›"
    assert readable(None, 17) == readable(b"", 17) == "#17"
    assert printed_width("猫") == printed_width("ab")


def test_bars_keep_their_order():
    figure = bars(["first", "second"], [2.0, 1.0], "title", "unit", "alt").figure
    assert list(figure.data[0].y) == ["first", "second"] and figure.layout.yaxis.autorange == "reversed"
