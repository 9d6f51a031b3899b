"""verify: a trace is run again, and a trace that the model would not have made is found out."""

import pytest
import torch

from minimoe.errors import BadTrace
from minimoe.routing.trace.replay import downstream
from minimoe.routing.trace.trace import RoutingTrace, record_routing
from tests.routing.conftest import LetterTokenizer, small_model


def recorded(model, tokenizer=None, batch=2, length=16):
    ids = torch.randint(0, 60, (batch, length), generator=torch.Generator().manual_seed(3))
    cache = model.new_cache(batch=batch, capacity=length)
    with record_routing(model, tokenizer) as trace:
        model(ids[:, :10], cache)
        for position in range(10, length):
            model(ids[:, position : position + 1], cache)
    return trace


def test_genuine_trace_is_verified(model, tokenizer, tmp_path):
    trace = recorded(model, tokenizer)
    assert trace.margins.min() > 1e-5  # no near tie, which another processor might decide otherwise
    trace.save(tmp_path / "t.safetensors")
    for each in (trace, RoutingTrace.load(tmp_path / "t.safetensors")):
        report = each.verify(model, tokenizer)
        assert report.rows == 3 * 2 * 16
        assert report.equal == report.rows
        assert report.required > 0.9 * report.rows
        assert report.overlap == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_genuine_bfloat16_trace_is_verified(seed):
    """Decoding step by step rounds otherwise than one pass; what that may swap is forgiven."""
    model = small_model(seed, dtype=torch.bfloat16, hidden_size=64, num_hidden_layers=6)
    report = recorded(model).verify(model)
    assert report.overlap > 0.9


def change_one_expert(trace):
    layer, token = (trace.margins > 0.5).nonzero()[7].tolist()
    used = set(trace.experts[layer, token].tolist())
    trace.experts[layer, token, 0] = next(e for e in range(16) if e not in used)
    return rf"layer {trace.layers[layer]}, token {token}"


def swap_two_tokens(trace):
    trace.experts[:, [2, 9]] = trace.experts[:, [9, 2]]
    return "the model selects"


def other_token(trace):
    trace.tokens[4] = (trace.tokens[4] + 1) % 60
    return "the model selects"


def forgotten_beginning(trace):
    trace.positions[trace.sequences == 1] += 1
    return "beginning was not recorded"


def no_ids(trace):
    trace.tokens.fill_(-1)
    return "no token ids"


@pytest.mark.parametrize("falsify", [change_one_expert, swap_two_tokens, other_token, forgotten_beginning, no_ids])
def test_manipulated_trace_is_rejected(model, falsify):
    trace = recorded(model)
    message = falsify(trace)
    with pytest.raises(BadTrace, match=message):
        trace.verify(model)


def test_unrelated_trace_is_rejected_at_any_tolerance(model):
    """Even if every row is tolerated, the overlap shows that the trace does not belong to the model."""
    trace = recorded(model)
    trace.experts[:] = trace.experts.flip(1)
    with pytest.raises(BadTrace, match=r"only .*% of the recorded experts"):
        trace.verify(model, tolerance=1e9)


def test_trace_of_another_model_or_tokenizer(model, tokenizer):
    trace = recorded(model, tokenizer)
    with pytest.raises(BadTrace, match="num_experts"):
        trace.verify(small_model(num_experts=8))
    with pytest.raises(BadTrace, match="router_sha256"):
        trace.verify(small_model(seed=9))
    with pytest.raises(BadTrace, match=r"layers 0\.\.3"):
        trace.verify(small_model(layers=range(2)))
    with pytest.raises(BadTrace, match="a different text"):
        trace.verify(model, LetterTokenizer("a"))
    silent = LetterTokenizer()
    silent.files["tokenizer.json"] = b"other"
    with pytest.raises(BadTrace, match="tokenizer files"):
        trace.verify(model, silent)


def test_the_dtype_may_differ(model):
    """Recorded in bfloat16, verified in float32: same router fingerprint, tolerance of the coarser dtype."""
    coarse = small_model(dtype=torch.bfloat16)
    fine = small_model(dtype=torch.bfloat16).float()
    assert recorded(coarse).verify(fine).overlap > 0.9


def test_downstream_covers_later_layers_of_this_and_later_tokens():
    differs = torch.zeros(3, 6, dtype=torch.bool)
    differs[0, 1] = True  # layer 0, sequence 0, position 1
    sequences, positions = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 1, 2, 0, 1, 2])
    expected = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0]], dtype=torch.bool)
    assert torch.equal(downstream(differs, sequences, positions), expected)
    shuffled = torch.tensor([5, 0, 3, 2, 4, 1])
    assert torch.equal(
        downstream(differs[:, shuffled], sequences[shuffled], positions[shuffled]), expected[:, shuffled]
    )
