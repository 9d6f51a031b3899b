"""The pictures of chapter 08: sums against the model, the sliders, the counted checkpoints against their configs."""

import pytest
import torch

import minimoe
from minimoe.checkpoint.layout import expected_tensors
from minimoe.course.capture import held_out_texts, layers_in_order
from minimoe.course.figures import ch08_names as names
from minimoe.course.figures import ch08_stream as stream
from minimoe.paths import models_folder

PLOTLY = "application/vnd.plotly.v1+json"
SMALL = {"Qwen3-30B-A3B": "Qwen3-30B-A3B", "Qwen3-235B-A22B": "Qwen3-235B-A22B"}
SMALL["Qwen3-Coder-480B-A35B"] = "Qwen3-Coder-480B-A35B-Instruct"


@pytest.fixture(scope="module")
def mini():
    return minimoe.load("data/mini", dtype="fp32")


@pytest.fixture(scope="module")
def token_ids(mini):
    return torch.tensor([mini[1].encode("Once upon a time a small bird lived in the garden.")])


def test_contributions_sum_to_the_stream_and_votes_to_the_logit(mini, token_ids):
    model, _ = mini
    parts = stream.contributions(model, token_ids)
    assert list(parts)[:3] == ["embedding", "layer 0, attention", "layer 0, experts"] and len(parts) == 9
    states = stream.states(model, token_ids, model.layer_range)
    assert torch.allclose(sum(parts.values()), states[-1], rtol=1e-5, atol=1e-4)
    logits = model(token_ids)[0]
    for position in (0, 5, -1):
        for token in (3, 700, int(logits[position].argmax())):
            votes = stream.share_of_logit(model, parts, token, position)
            assert sum(votes.values()) == pytest.approx(float(logits[position, token]), abs=1e-3)


def test_the_last_row_of_the_lens_is_the_model(mini, token_ids):
    model, _ = mini
    states = stream.states(model, token_ids, [0, 1, 2, 3])
    tokens, probability = stream.lens(model, states)
    assert tokens.shape == probability.shape == (5, token_ids.shape[1])
    expected = model(token_ids)[0].softmax(dim=-1).max(dim=-1)
    assert tokens[-1].equal(expected.indices)
    assert torch.allclose(probability[-1], expected.values, atol=1e-4)


@pytest.mark.parametrize("order", [[], [0], [3, 1], [0, 2, 1, 3]])
def test_states_and_layers_in_order_are_the_same_model(mini, token_ids, order):
    model, _ = mini
    expected = model.lm_head(model.norm(stream.states(model, token_ids, order)[-1]))
    with layers_in_order(model, order):
        assert torch.allclose(model(token_ids)[0], expected, rtol=1e-4, atol=1e-3)


def test_the_sliders_stop_the_model_and_leave_a_layer_out(mini):
    model, tokenizer = mini
    texts = held_out_texts(tokenizer, each=1, seed="test 08")[:1]
    widget = stream.explore_layers(model, tokenizer, ["Once upon a time"], texts)
    (_, stop, out), screen = widget.children[0].children, widget.children[1]

    def drawn():
        return screen.outputs[0]["data"][PLOTLY]["data"][0]["y"]

    assert drawn() == ["embedding", "layer 0", "layer 1", "layer 2", "layer 3"]
    stop.value = 1
    assert drawn() == ["embedding", "layer 0", "layer 1"]
    out.value = 0
    assert drawn() == ["embedding", "layer 1"]
    stop.value = -1
    assert drawn() == ["embedding"]
    assert len(model.layers) == 4


def test_a_loss_that_is_no_number_is_a_label():
    picture = stream.loss_bars({"as trained": 0.5, "broken": float("nan")}, "Title", "Subtitle", right="as trained")
    assert "as trained 0.50, broken not a number" in picture.alt


def test_other_checkpoints_are_complete_and_in_order():
    models = names.families()
    assert len(models) == 27 and len({each["model"] for each in models}) == 27
    assert [each["total"] for each in models] == sorted(each["total"] for each in models)
    for each in models:
        assert 0 < each["active"] < each["total"] and 0 < each["top_k"] < each["experts"] and each["layers"] > 0
        assert each["status"] in ("counted", "published") and each["config"]
        assert (each["counted_with"] is not None) == (each["status"] == "counted")
    assert (models_folder() / "families" / "README.md").is_file()


@pytest.mark.parametrize("model", SMALL)
def test_counts_of_qwen3_follow_from_their_configs(model):
    config = minimoe.ModelConfig.named(SMALL[model])
    each = next(each for each in names.families() if each["model"] == model)
    assert (each["total"], each["active"]) == (config.total_parameters, config.active_parameters)
    sizes = (each["experts"], each["top_k"], each["layers"])
    assert sizes == (config.num_experts, config.num_experts_per_tok, config.num_hidden_layers)


def test_gpt_oss_is_counted_without_its_input_embedding_too():
    rows = {each["model"]: each for each in names.families()}
    for model in ("gpt-oss-20b", "gpt-oss-120b"):
        embedding = rows[model]["active"] - rows[model]["active_without_input_embedding"]
        assert embedding == 201_088 * 2_880  # vocabulary times hidden size of both


def test_the_tree_has_a_leaf_for_each_kind_of_name():
    config = minimoe.ModelConfig.named("Qwen3-235B-A22B")
    tree = names.name_tree({tensor.name: tensor.shape for tensor in expected_tensors(config)}).splitlines()
    assert [line.split()[0] for line in tree[:6]] == ["model", "embed_tokens", "layers", "0", "self_attn", "q_proj"]
    assert sum(line[31:].strip() != "" for line in tree) == 15 and max(map(len, tree)) <= 48
    assert "    0 … 93" in tree and "          0 … 127" in tree
    assert tree[-1].split() == ["lm_head", "151,936", "×", "4,096"]


def test_billions():
    assert [names.billions(count) for count in (1_282_017_280, 22_190_763_520, 235_093_634_560)] == [
        "1.28", "22.2", "235",
    ]  # fmt: skip
