"""The ten damaged checkpoints: what the lenient loader makes of them, what the library says, and the stored texts."""

import json

import pytest
import torch

import minimoe
from minimoe.course.capture import held_out_texts, next_token_loss
from minimoe.course.damages import DAMAGES, load_leniently, on_disk, refusal
from minimoe.course.exercises.ch08_quiz import LETTERS
from minimoe.paths import find
from tests.course.random_models import write_random

REFUSED = {
    "missing head": "IncompleteLoad: lm_head.weight would not be filled",
    "transposed o_proj": "WrongModel: model.layers.0.self_attn.o_proj.weight is [256, 192]",
    "tied head": "WrongModel: lm_head.weight differs",
    "missing routers": "IncompleteLoad: layers.0.mlp.gate.weight",
}


@pytest.fixture(scope="module")
def mini():
    return minimoe.load("data/mini", dtype="fp32")


@pytest.fixture(scope="module")
def weights(mini):
    return on_disk(mini[0])


@pytest.fixture(scope="module")
def stored():
    return json.loads((find("data/damages") / "mini.json").read_text(encoding="utf-8"))


def test_undamaged_weights_load_to_the_same_model(mini, weights):
    model, _ = mini
    again = load_leniently(weights, model.config)
    assert len(weights) == 1575
    assert all(one.equal(other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    assert refusal(weights, model.config) == ""


def test_the_lenient_loader_leaves_torchs_generator_alone(mini, weights):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_leniently(weights, mini[0].config)
    assert torch.rand(3).equal(expected)


@pytest.mark.parametrize("name", DAMAGES)
def test_what_the_library_refuses(name, mini, weights):
    says = refusal(*DAMAGES[name].change(weights, mini[0].config))
    assert says.startswith(REFUSED.get(name, "")) and bool(says) == (name in REFUSED)
    assert "/" not in says.partition(":")[0] and "\n" not in says


@pytest.mark.parametrize("name", DAMAGES)
def test_stored_losses_hold_on_this_processor(name, mini, weights, stored):
    """The texts may differ in a near tie; their losses may not."""
    model, tokenizer = mini
    broken = load_leniently(*DAMAGES[name].change(weights, model.config))
    loss = next_token_loss(broken, held_out_texts(tokenizer, each=2, seed="08"))
    each = stored["damages"][name]
    assert loss == pytest.approx(each["loss"], abs=0.06)
    assert each["says"] == DAMAGES[name].says
    assert each["refused_with"] == (REFUSED[name].partition(":")[0] if name in REFUSED else None)


def test_three_damages_are_ruinous_and_unseen(stored):
    """As the lesson says: worse than 3 nats, and the library's loader does not object."""
    unseen = {name for name, each in stored["damages"].items() if each["loss"] > 3 and each["refused_with"] is None}
    assert unseen == {"keys and values", "neighbours", "one row off"}


def test_the_quiz_has_a_letter_for_each_stored_text(stored):
    assert set(LETTERS) == set(stored["damages"]) == set(DAMAGES)
    assert sorted(LETTERS.values()) == list("ABCDEFGHIJ")
    assert len({each["text"] for each in stored["damages"].values()}) == 10
    for each in stored["quiz"]:
        name = next(name for name, letter in LETTERS.items() if letter == each["letter"])
        assert (each["text"], each["loss"]) == (stored["damages"][name]["text"], stored["damages"][name]["loss"])


def test_a_damage_does_not_touch_the_weights_that_it_is_given(mini, weights):
    before = {name: values.clone() for name, values in weights.items()}
    for damage in DAMAGES.values():
        damage.change(weights, mini[0].config)
    assert list(before) == list(weights) and all(before[name].equal(weights[name]) for name in weights)


def test_damages_apply_to_a_tied_model(tmp_path):
    model = minimoe.load_model(write_random(tmp_path / "model", "narrow and tied"), dtype="fp32")
    for damage in DAMAGES.values():
        broken = load_leniently(*damage.change(on_disk(model), model.config))
        assert broken(torch.tensor([[1, 2, 3]])).shape == (1, 3, model.config.vocab_size)
