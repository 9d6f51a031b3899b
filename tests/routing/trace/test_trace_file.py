"""A saved trace comes back as it was; a wrong one is refused, each way of being wrong with its own sentence."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from minimoe.errors import BadTrace, MinimoeError, NotFound
from minimoe.routing.explorer.export import export_html
from minimoe.routing.trace.provenance import checkpoint_name
from minimoe.routing.trace.trace import RoutingTrace, record_routing
from minimoe.routing.trace.trace_file import METADATA_KEY, SCHEMA, write
from minimoe.routing.trace.validate import check
from tests.routing.conftest import LetterTokenizer, small_model


def record(ids, tokenizer=None, **changes):
    model = small_model(**changes)
    with record_routing(model, tokenizer, label="random") as trace:
        model(ids)
    return model, trace


@pytest.mark.parametrize("renormalise", [True, False])
def test_save_and_load(tmp_path, ids, renormalise):
    _, trace = record(ids, LetterTokenizer(), norm_topk_prob=renormalise)
    trace.save(tmp_path / "t.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["t.safetensors"]
    again = RoutingTrace.load(tmp_path / "t.safetensors")
    for name in ("layers", "experts", "tokens", "positions", "sequences"):
        assert torch.equal(getattr(again, name), getattr(trace, name)), name
        assert getattr(again, name).dtype == torch.int64
    for name in ("weights", "probabilities", "margins", "entropies"):
        torch.testing.assert_close(getattr(again, name), getattr(trace, name), rtol=2e-3, atol=1e-4)
    assert again.metadata == trace.metadata
    assert again.token_bytes(0) == trace.token_bytes(0)


@pytest.mark.parametrize(("experts", "dtype"), [(16, "U8"), (256, "U8"), (257, "U16")])
def test_ids_take_one_byte_up_to_256_experts(tmp_path, ids, experts, dtype):
    _, trace = record(ids, num_experts=experts)
    trace.save(tmp_path / "t.safetensors")
    with safe_open(tmp_path / "t.safetensors", framework="pt") as stored:
        assert stored.get_slice("experts").get_dtype() == dtype
        assert stored.get_slice("probabilities").get_dtype() == "F16"
    assert torch.equal(RoutingTrace.load(tmp_path / "t.safetensors").experts, trace.experts)


def test_all_experts_selected(tmp_path, ids):
    """K = E: nobody is left out, the margin is infinite, and the file still works."""
    _, trace = record(ids, num_experts=4)
    assert torch.isinf(trace.margins).all()
    trace.save(tmp_path / "t.safetensors")
    assert torch.isinf(RoutingTrace.load(tmp_path / "t.safetensors").margins).all()


def test_an_empty_trace_is_not_saved(tmp_path, model):
    with record_routing(model) as trace:
        pass
    with pytest.raises(BadTrace, match="empty"):
        trace.save(tmp_path / "t.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_save_leaves_the_old_file(tmp_path, ids, monkeypatch):
    _, trace = record(ids)
    trace.save(tmp_path / "t.safetensors")
    before = (tmp_path / "t.safetensors").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trace.save(tmp_path / "t.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["t.safetensors"]
    assert (tmp_path / "t.safetensors").read_bytes() == before


def test_files_that_are_no_trace(tmp_path, ids):
    with pytest.raises(NotFound, match="not there"):
        RoutingTrace.load(tmp_path / "none.safetensors")
    with pytest.raises(NotFound, match="there is no folder"):
        record(ids)[1].save(tmp_path / "none" / "t.safetensors")
    save_file({"experts": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(BadTrace, match="not a routing trace"):
        RoutingTrace.load(tmp_path / "weights.safetensors")
    (tmp_path / "text.safetensors").write_text("<html>")
    with pytest.raises(BadTrace, match="not a whole safetensors file"):
        RoutingTrace.load(tmp_path / "text.safetensors")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": "minimoe.routing/9"}, "schema"),
        ({"num_experts": "16"}, "num_experts"),
        ({"norm_topk_prob": None}, "norm_topk_prob"),
        ({"num_experts_per_tok": 5}, "4 slots"),
        ({"num_experts": 8}, "expected ids from 0 to 7"),
        ({"num_hidden_layers": 3}, "num_hidden_layers"),
        ({"vocab_size": 10}, "vocab_size"),
        ({"token_bytes": ["QQ=="]}, "token_bytes"),
        ({"provenance": "guessed"}, "provenance"),
        ({"ids_only": "yes"}, "ids_only"),
        ({"domains": "en"}, "domains"),
        ({"documents": ["one"]}, "documents"),
    ],
)
def test_metadata_that_contradicts_the_tensors(tmp_path, ids, change, sentence):
    _, trace = record(ids)
    trace.metadata |= change
    rewrite(trace, tmp_path / "t.safetensors")
    with pytest.raises(BadTrace, match=sentence):
        RoutingTrace.load(tmp_path / "t.safetensors")


def rewrite(trace, path):
    """Save without the checks."""
    write(path, trace.tensors | {"layers": trace.layers}, trace.metadata)


# Each mutant is one way in which a recorder has been wrong, and the sentence that must name it.
def out_of_range(t):
    t["experts"][1, 3, 0] = 16


def negative_id(t):
    t["experts"][1, 3, 0] = -1


def repeated_expert(t):
    t["experts"][2, 4, 3] = t["experts"][2, 4, 0]


def all_ids_zero(t):
    t["experts"].zero_()


def stale_row(t):
    t["experts"][1] = t["experts"][1, :1]


def ascending(t):
    t["probabilities"][0, 2] = t["probabilities"][0, 2].flip(0)


def softmax_twice(t):
    t["probabilities"][:] = 0.5


def zero_probabilities(t):
    t["probabilities"].zero_()


def negative_probability(t):
    t["probabilities"][0, 0, 3] = -0.1


def not_a_number(t):
    t["probabilities"][0, 0, 3] = math.nan


def negative_margin(t):
    t["margins"][0, 0] = -1


def entropy_in_bits(t):
    t["entropies"][:] = 4.5


def shifted_layers(t):
    t["layers"] += 2


def falling_layers(t):
    t["layers"] = t["layers"].flip(0)


def lost_last_token(t):
    t["tokens"] = t["tokens"][:-1]


def lost_layer(t):
    t["layers"] = t["layers"][:-1]


def lost_slot(t):
    t["probabilities"] = t["probabilities"][..., :-1]


def transposed(t):
    t["margins"] = t["margins"].T


def no_token(t):
    t.update({k: v[:0] if v.dim() == 1 else v[:, :0] for k, v in t.items() if k != "layers"})


def absent(t):
    del t["entropies"]


def negative_position(t):
    t["positions"][0] = -1


def token_beyond_vocabulary(t):
    t["tokens"][5] = 64


def another_models_slots(t):
    for name in ("experts", "weights", "probabilities"):
        t[name] = t[name][..., :3]


def margin_not_a_number(t):
    t["margins"][2, 7] = math.nan


def entropy_not_a_number(t):
    t["entropies"][2, 7] = math.nan


def weight_not_a_number(t):
    t["weights"][2, 7, 1] = math.nan


def threefold_weights(t):
    t["weights"] *= 3


def sums_of_other_tokens(t):
    t["probability_sums"][1] *= 0.5


def sums_of_another_model(t):
    t["probability_sums"] = t["probability_sums"][:, :-1]


def unknown_role(t):
    t["roles"] = torch.full((24,), 4)


def nameless_domain(t):
    t["domains"] = torch.zeros(24, dtype=torch.long)


def nameless_document(t):
    t["documents"] = torch.zeros(24, dtype=torch.long)


def predicted_beyond_vocabulary(t):
    t["predicted"] = torch.full((24,), 64)


def negative_loss(t):
    t["losses"] = torch.linspace(0.5, -0.1, 24)


def infinite_loss(t):
    t["losses"] = torch.zeros(24)
    t["losses"][9] = math.inf


def losses_of_another_length(t):
    t["losses"] = torch.zeros(23)


MUTANTS = {
    out_of_range: "experts holds 16 for layer 2, token 3, expected ids from 0 to 15",
    negative_id: "experts holds -1 for layer 2, token 3, expected ids from 0 to 15",
    repeated_expert: "layer 3, token 4",
    all_ids_zero: "twice for layer 0, token 0, and every id of this layer is 0",
    stale_row: "layer 2 has the same experts in the same order for all 24 tokens from token 0 on",
    another_models_slots: "experts has 3 slots from layer 0, token 0 on",
    margin_not_a_number: "margins holds a negative number or NaN for layer 3, token 7",
    entropy_not_a_number: "entropies are outside .* for layer 3, token 7",
    weight_not_a_number: "weights holds nan for layer 3, token 7, slot 1",
    threefold_weights: "weights holds .* for layer 0, token 0, slot 0, but by the probabilities it is",
    sums_of_other_tokens: "probability_sums of layer 2, tokens 0 to 23",
    sums_of_another_model: "probability_sums is",
    unknown_role: "roles holds 4 for layer 0, token 0",
    nameless_domain: "domains holds 0 for layer 0, token 0",
    nameless_document: "documents holds 0 for layer 0, token 0",
    predicted_beyond_vocabulary: "predicted holds 64 for layer 0, token 0",
    negative_loss: "losses holds -.* for layer 0, token 20",
    infinite_loss: "losses holds inf for layer 0, token 9",
    losses_of_another_length: "losses is .* they first differ at layer 0, token 23",
    ascending: "layer 0, token 2",
    softmax_twice: "more than 1 for layer 0, token 0",
    zero_probabilities: "zero for layer 0, token 0",
    negative_probability: "negative number or NaN for layer 0, token 0",
    not_a_number: "NaN for layer 0, token 0",
    negative_margin: "margins .* for layer 0, token 0",
    entropy_in_bits: "entropies .* for layer 0, token 0",
    shifted_layers: "layers is",
    falling_layers: "layers is",
    lost_last_token: "tokens is .* they first differ at layer 0, token 23",
    lost_layer: "layers is .* they first differ at layer row 2, token 0",
    lost_slot: "probabilities is .* they first differ at layer 0, token 0",
    transposed: "margins is .* they first differ at layer row 3, token 0",
    no_token: "at least one of each",
    absent: "entropies missing",
    negative_position: "positions holds -1 for layer 0, token 0",
    token_beyond_vocabulary: "tokens holds 64 for layer 0, token 5",
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_every_mutant_is_refused_by_name(ids, mutant):
    _, trace = record(ids)
    tensors = {name: tensor.clone() for name, tensor in (trace.tensors | {"layers": trace.layers}).items()}
    check(tensors, trace.metadata)
    mutant(tensors)
    with pytest.raises(BadTrace, match=MUTANTS[mutant]):
        check(tensors, trace.metadata)


def test_one_token_repeated_may_select_alike():
    """In layer 0 a repeated token can meet the same experts every time: no evidence of a stale row."""
    model = small_model(num_hidden_layers=1, mlp_only_layers=())
    with record_routing(model) as trace:
        for _ in range(20):
            model(torch.tensor([[7]]))
    assert (trace.experts == trace.experts[:, :1]).all()
    trace.check()


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_any_honest_recording_passes(data):
    experts = data.draw(st.integers(2, 12))
    slots = data.draw(st.integers(1, experts))
    model = small_model(
        data.draw(st.integers(0, 99)),
        num_experts=experts,
        num_experts_per_tok=slots,
        dtype=data.draw(st.sampled_from([torch.float32, torch.bfloat16])),
        norm_topk_prob=data.draw(st.booleans()),
    )
    with record_routing(model) as trace:
        model(torch.randint(0, 64, (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 8)))))
    trace.check()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "t.safetensors"
    trace = record(torch.arange(12)[None], LetterTokenizer())[1]
    trace.save(path)
    return path, path.read_bytes()


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_within_the_rules(saved, data):
    path, whole = saved
    damaged = bytearray(whole)
    kind = data.draw(st.sampled_from(["cut", "grow", "flip", "zero"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    if kind == "cut":
        del damaged[at:]
    elif kind == "grow":
        damaged += b"\0" * (1 + at % 9)
    elif kind == "flip":
        damaged[at] ^= data.draw(st.integers(1, 255))
    else:
        damaged[at : at + 64] = bytes(len(damaged[at : at + 64]))
    file = path.with_name("damaged.safetensors")
    file.write_bytes(bytes(damaged))
    try:
        RoutingTrace.load(file).check()
    except MinimoeError:
        return
    assert kind in ("flip", "zero"), "a file of another length was read"


@pytest.mark.parametrize("word", ["real", "mini", "", None, ["measured"], "<b>" * 999])
def test_another_word_for_the_provenance_is_refused_before_anything_is_written(tmp_path, ids, word):
    _, trace = record(ids)
    trace.metadata["provenance"] = word
    file = tmp_path / "trace"
    for use in (trace.check, lambda: trace.save(file), lambda: export_html(trace, file)):
        with pytest.raises(BadTrace, match=r"provenance .* expected 'measured' or 'synthetic'") as raised:
            use()
        assert len(str(raised.value)) < 300
    assert not list(tmp_path.iterdir())


def test_a_file_of_the_first_days_still_loads(tmp_path, ids):
    """It had no roles, no sums and did not say that it was measured."""
    _, trace = record(ids, LetterTokenizer())
    first = ("experts", "probabilities", "margins", "entropies", "tokens", "positions", "sequences")
    metadata = {key: value for key, value in trace.metadata.items() if key != "provenance"}
    write(
        tmp_path / "t.safetensors", {name: trace.tensors[name] for name in first} | {"layers": trace.layers}, metadata
    )
    again = RoutingTrace.load(tmp_path / "t.safetensors")
    assert again.provenance == "measured" and again.title == "random, measured, float32, 3 layers x 24 tokens"
    assert torch.equal(again.roles, trace.roles)
    assert again.prompts == trace.prompts


def test_a_cut_file_says_where_it_ends(saved):
    """Layer and token of the last number that is there, for every tensor with layers or tokens."""
    path, whole = saved
    header = int.from_bytes(whole[:8], "little")
    spans = json.loads(whole[8 : 8 + header])
    file = path.with_name("cut.safetensors")
    for name, layer, token, at in (
        ("experts", 1, 5, (1 * 12 + 5) * 4),
        ("experts", 2, 11, (2 * 12 + 11) * 4 + 3),
        ("probabilities", 2, 0, 2 * 12 * 4 * 2),
        ("margins", 0, 7, 7 * 2),
        ("tokens", 0, 3, 3 * 4 + 1),
        ("layers", 1, 0, 4),
    ):
        file.write_bytes(whole[: 8 + header + spans[name]["data_offsets"][0] + at])
        with pytest.raises(BadTrace, match=f"within {name}, layer row {layer}, token {token}"):
            RoutingTrace.load(file)
    file.write_bytes(whole[: 8 + header // 2])
    with pytest.raises(BadTrace, match="not a whole safetensors file"):
        RoutingTrace.load(file)


def test_the_file_can_be_read_without_minimoe(saved):
    path, whole = saved
    path.write_bytes(whole)
    with safe_open(path, framework="pt") as stored:
        metadata = json.loads(stored.metadata()[METADATA_KEY])
        assert metadata["schema"] == SCHEMA
        assert stored.get_tensor("experts").dtype == torch.uint8


def test_a_download_of_the_hub_is_named_with_its_revision(ids):
    assert checkpoint_name("data/mini") == ("mini", None)
    tokenizer = LetterTokenizer()
    tokenizer.source = "/cache/models--Qwen--Qwen3-30B-A3B/snapshots/0123456789abcdef"
    _, trace = record(ids, tokenizer)
    assert (trace.metadata["checkpoint"], trace.metadata["revision"]) == ("Qwen/Qwen3-30B-A3B", "0123456789abcdef")
    assert trace.title.startswith("random (Qwen/Qwen3-30B-A3B at 0123456789ab), measured")
