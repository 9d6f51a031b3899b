"""What SGLang and vLLM record becomes a trace of ids only, which the model can confirm; anything odd is refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from minimoe.errors import BadArgument, BadTrace, NotFound
from minimoe.routing.trace.importers import from_sglang, from_vllm
from minimoe.routing.trace.trace import RoutingTrace, record_routing
from tests.routing.conftest import small_model


@pytest.fixture
def recorded(model):
    """Two sequences, as SGLang sees them: one after the other."""
    ids = torch.randint(0, 60, (2, 12), generator=torch.Generator().manual_seed(1))
    with record_routing(model) as trace:
        model(ids)
    return trace


@pytest.fixture
def dump(recorded):
    """(layer, token, 8): the dense layer 1, the spare slots and the end of the buffer are unset."""
    full = torch.full((4, 30, 8), -1, dtype=torch.int32)
    full[[0, 2, 3], :24, :4] = recorded.experts.int()
    return full


def same(trace, recorded):
    for name in ("layers", "experts", "tokens", "positions", "sequences"):
        assert torch.equal(getattr(trace, name), getattr(recorded, name)), name


def test_sglang(dump, recorded, model, tokenizer, tmp_path):
    arrays = {"topk_ids_of_layer": dump, "input_ids": recorded.tokens, "positions": recorded.positions}
    save_file(arrays, tmp_path / "dump.safetensors")
    np.save(tmp_path / "dump.npy", dump.numpy())
    given = dict(config=model.config, tokens=recorded.tokens, positions=recorded.positions.numpy())
    for trace in (
        from_sglang(tmp_path / "dump.safetensors", model.config, tokenizer=tokenizer, label="random"),
        from_sglang(str(tmp_path / "dump.npy"), **given),
        from_sglang(dump.numpy(), **given),
        from_sglang(dump, **given),
    ):
        same(trace, recorded)
        assert trace.verify(model).overlap == 1.0
    trace = from_sglang(tmp_path / "dump.safetensors", model.config, tokenizer=tokenizer, label="random")
    assert trace.prompts[0] == "".join(chr(65 + token) for token in recorded.tokens[:12].tolist())
    assert trace.title == "random, measured by SGLang, expert ids only, 3 layers x 24 tokens"
    trace.verify(model, tokenizer)
    with pytest.raises(BadTrace, match="the model selects"):
        from_sglang(dump[[0, 3, 2]], **given).verify(model)


def test_sglang_places_become_experts(dump, recorded, model):
    table = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(n)) for n in range(4)])
    places = table.argsort(dim=-1)
    moved = torch.where(dump == -1, -1, places[torch.arange(4)[:, None, None], dump.clamp(min=0).long()])
    assert not torch.equal(moved, dump)
    trace = from_sglang(moved, model.config, recorded.tokens, recorded.positions, physical_to_logical=table)
    same(trace, recorded)
    with pytest.raises(BadTrace, match=r"does not cover layer 0, token \d"):
        from_sglang(moved, model.config, physical_to_logical=table[:, :8])


def test_vllm(recorded, model, tmp_path):
    """A prompt of 8, a reply of 4 tokens of which the last never ran."""
    rows = recorded.experts[:, :12].permute(1, 0, 2).numpy().astype(np.int16)
    ids = recorded.tokens[:12].tolist()
    expected = recorded.select(recorded.sequences == 0)
    np.save(tmp_path / "all.npy", rows)
    zeros = np.concatenate([rows, np.zeros_like(rows[:1])])
    for trace in (
        from_vllm(rows, config=model.config, tokens=ids),
        from_vllm(rows[:8], rows[8:], config=model.config, tokens=[*ids, 5]),
        from_vllm(zeros, config=model.config, tokens=[*ids, 5]),
        from_vllm(tmp_path / "all.npy", config=model.config, tokens=ids),
    ):
        same(trace, expected)
        assert trace.verify(model).overlap == 1.0


def test_there_is_nothing_but_ids(recorded, model, tmp_path):
    trace = from_vllm(recorded.experts.permute(1, 0, 2), config=model.config)
    assert not trace.has_weights and not trace.has_losses
    for name in ("weights", "probabilities", "margins", "entropies", "probability_sums", "losses"):
        with pytest.raises(BadTrace, match=f"expert ids only .*no {name}"):
            getattr(trace, name)
    trace.save(tmp_path / "t.safetensors")
    again = RoutingTrace.load(tmp_path / "t.safetensors")
    assert torch.equal(again.experts, trace.experts) and not again.has_weights
    assert len(again.select(torch.tensor([2, 3]))) == 2
    assert (again.tokens == -1).all()
    with pytest.raises(BadTrace, match="no token ids"):
        again.verify(model)


def ids_of(recorded, change):
    ids = recorded.experts.clone()
    change(ids)
    return ids


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: x[1, 5].fill_(0), "twice for layer 2, token 5"),  # zero-filled by a fused kernel
        (lambda x: x.zero_(), "twice for layer 0, token 0, and every id of this layer is 0"),
        (lambda x: x[2].copy_(x[2, :1].expand(24, 4)), "layer 3 has the same experts .* token 0"),
        (lambda x: x[0, 7, 2].fill_(16), "experts holds 16 for layer 0, token 7"),
        (lambda x: x[0, 7, 2].fill_(-1), "layer 0, token 7 has no expert"),
        (lambda x: x[1, 23].fill_(-1), "layer 2, token 23 has no expert"),
    ],
)
def test_recorders_that_lied(recorded, model, change, sentence):
    with pytest.raises(BadTrace, match=sentence):
        from_sglang(ids_of(recorded, change), model.config, recorded.tokens)


def test_another_models_shape(recorded, model):
    with pytest.raises(BadTrace, match=r"2 layers, expected 4, or 3 .* layer 2, token 0"):
        from_sglang(recorded.experts[:2], model.config)
    with pytest.raises(BadTrace, match=r"experts has 3 slots from layer 0, token 0 on.*num_experts_per_tok = 4"):
        from_vllm(recorded.experts.permute(1, 0, 2)[..., :3], config=model.config)
    with pytest.raises(BadTrace, match=r"experts holds \d+ for layer 0, token \d+, expected ids from 0 to 7"):
        from_sglang(recorded.experts, small_model(num_experts=8).config)
    with pytest.raises(BadTrace, match=r"tokens is \(23,\), expected \(24,\).*layer 0, token 23"):
        from_sglang(recorded.experts, model.config, tokens=recorded.tokens[:23])
    with pytest.raises(BadTrace, match=r"positions is \(23,\), expected \(24,\).*layer 0, token 23"):
        from_sglang(recorded.experts, model.config, positions=recorded.positions[:23])
    with pytest.raises(BadTrace, match="prompt and generated"):
        from_vllm(np.zeros((2, 3, 4), int), np.zeros((2, 3, 5), int), config=model.config)


def test_files_and_arrays_that_are_no_dump(model, tmp_path):
    torch.save({}, tmp_path / "dump.pt")
    with pytest.raises(BadArgument, match="no pickle"):
        from_sglang(tmp_path / "dump.pt", model.config)
    with pytest.raises(NotFound, match="not there"):
        from_sglang(tmp_path / "none.npy", model.config)
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "cut.safetensors").write_bytes(b"\x09\0\0")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("object.npy", "cut.safetensors"):
        with pytest.raises(BadTrace, match="not a whole"):
            from_sglang(tmp_path / name, model.config)
    with pytest.raises(BadTrace, match="has x, but no topk_ids_of_layer"):
        from_sglang(tmp_path / "other.safetensors", model.config)
    for wrong in (np.zeros((3, 4)), np.zeros((3, 24, 4), float), np.zeros((3, 0, 4), int), "x" * 3, [[1], [1, 2]]):
        with pytest.raises((BadArgument, BadTrace)):
            from_sglang(wrong, model.config)
    with pytest.raises(BadTrace, match="token 0 on: nothing was recorded"):
        from_sglang(np.full((3, 24, 4), -1), model.config)
