"""Recording changes nothing, records everything, and leaves nothing behind."""

import math

import pytest
import torch
from torch.nn import functional as F

from minimoe.errors import BadArgument, BadTrace, NotFinite
from minimoe.routing.trace.trace import record_routing
from tests.routing.conftest import SIZES, LetterTokenizer, small_model


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def same_sets(one, other):
    return (one.sort(dim=-1).values == other.sort(dim=-1).values).all(dim=-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("engine", ["loop", "gather", "grouped"])
def test_recording_changes_no_logit(ids, dtype, engine):
    model = small_model(dtype=dtype)
    model.engine = engine
    before = model(ids)
    with record_routing(model):
        during = model(ids)
    assert torch.equal(before, during)
    assert torch.equal(before, model(ids))


def naive(model, ids):
    """Walk through the layers by hand and say, for every token, what the router's definition says."""
    inputs = {}
    handles = [
        model.layers[n].mlp.gate.register_forward_pre_hook(lambda gate, args, n=n: inputs.__setitem__(n, args[0]))
        for n in model.config.moe_layers
        if n in model.layer_range
    ]
    model(ids)
    for handle in handles:
        handle.remove()
    for number, hidden in inputs.items():
        for row, vector in enumerate(hidden):
            logits = F.linear(vector[None], model.layers[number].mlp.gate.weight)[0].detach().double()
            exponentials = (logits - logits.max()).exp()
            everyone = exponentials / exponentials.sum()
            ranked = sorted(range(len(logits)), key=lambda e: -float(logits[e]))
            yield number, row, logits, everyone, ranked


@pytest.mark.parametrize("renormalise", [True, False])
def test_a_trace_equals_the_definition(ids, renormalise):
    model = small_model(norm_topk_prob=renormalise)
    with record_routing(model) as trace:
        model(ids)
    assert trace.layers.tolist() == [0, 2, 3]
    assert trace.experts.shape == (3, 24, 4)
    rows = 0
    for number, row, logits, everyone, ranked in naive(model, ids):
        at = trace.layers.tolist().index(number), row
        assert trace.experts[at].tolist() == ranked[:4]
        chosen = everyone[ranked[:4]]
        torch.testing.assert_close(trace.probabilities[at].double(), chosen, atol=1e-6, rtol=1e-5)
        expected = chosen / chosen.sum() if renormalise else chosen
        torch.testing.assert_close(trace.weights[at].double(), expected, atol=1e-6, rtol=1e-5)
        assert float(trace.margins[at]) == pytest.approx(float(logits[ranked[3]] - logits[ranked[4]]), abs=1e-5)
        assert float(trace.entropies[at]) == pytest.approx(-float((everyone * everyone.log()).sum()), abs=1e-5)
        rows += 1
    assert rows == 3 * 24


def test_a_batch_is_several_sequences(model):
    batch = torch.arange(30).reshape(3, 10)
    with record_routing(model) as trace:
        model(batch)
        model(batch[:1])
    assert trace.tokens.tolist() == [*range(30), *range(10)]
    assert trace.sequences.tolist() == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10
    assert trace.positions.tolist() == 4 * list(range(10))
    for row in range(3):
        with record_routing(model) as alone:
            model(batch[row : row + 1])
        clear = (alone.margins > 1e-3).all(dim=0)
        assert same_sets(trace.experts[:, trace.sequences == row], alone.experts)[:, clear].all()


@pytest.mark.parametrize("batch", [1, 3])
def test_cached_decoding_is_appended_and_equals_one_pass(model, batch):
    ids = torch.randint(0, 60, (batch, 20), generator=torch.Generator().manual_seed(2))
    with record_routing(model) as whole:
        model(ids)
    cache = model.new_cache(batch=batch, capacity=20)
    with record_routing(model) as steps:
        model(ids[:, :12], cache)
        model(token_ids=ids[:, 12:15], cache=cache, last_only=True)
        for position in range(15, 20):
            model(ids[:, position : position + 1], cache=cache)
    for sequence in range(batch):
        one, other = whole.sequences == sequence, steps.sequences == sequence
        assert torch.equal(steps.tokens[other], ids[sequence])
        assert torch.equal(steps.positions[other], whole.positions[one])
        clear = whole.margins[:, one] > 1e-3
        assert clear.float().mean() > 0.9
        assert same_sets(whole.experts[:, one], steps.experts[:, other])[clear].all()


def test_a_cache_that_was_reset_or_filled_before_begins_new_sequences(model, ids):
    cache = model.new_cache(capacity=64)
    model(ids, cache)
    with record_routing(model) as trace:
        model(ids[:, :2], cache)
        cache.reset()
        model(ids[:, :3], cache)
        model(ids[:, 3:4], cache)
    assert trace.sequences.tolist() == [0, 0, 1, 1, 1, 1]
    assert trace.positions.tolist() == [24, 25, 0, 1, 2, 3]


def test_a_slice_has_absolute_layers_and_no_ids(model):
    model = small_model(layers=range(2, 4))
    with record_routing(model) as trace:
        model(hidden=torch.randn(1, 5, 32))
    assert trace.layers.tolist() == [2, 3]
    assert trace.tokens.tolist() == [-1] * 5
    assert trace.positions.tolist() == list(range(5))


def test_no_hook_stays_behind(model, ids):
    assert hooks(model) == 0
    with record_routing(model):
        assert hooks(model) == 2 + 3
        model(ids)
    assert hooks(model) == 0
    with pytest.raises(ZeroDivisionError), record_routing(model) as trace:
        model(ids)
        raise ZeroDivisionError
    assert hooks(model) == 0
    assert trace.experts.shape == (3, 24, 4)


def test_nested_recordings_do_not_disturb_each_other(model, ids):
    with record_routing(model) as outer:
        model(ids[:, :5])
        with record_routing(model) as inner:
            model(ids[:, :7])
        model(ids[:, :2])
    assert inner.tokens.tolist() == ids[0, :7].tolist()
    assert len(outer) == 14
    assert torch.equal(outer.experts[:, 5:12], inner.experts)


def test_another_model_is_not_recorded(model, ids):
    other = small_model(seed=5)
    with record_routing(model) as trace:
        other(ids)
        other.layers[0].mlp.gate(torch.randn(3, 32))
        model.layers[0].mlp.gate(torch.randn(3, 32))  # by hand, outside of the model
    with pytest.raises(BadTrace, match="empty"):
        _ = trace.experts


def test_a_pass_that_fails_is_not_recorded(model, ids):
    cache = model.new_cache(capacity=10)
    with record_routing(model) as trace:
        with pytest.raises(Exception, match="token_ids"):
            model(torch.tensor([[1.0]]))
        with pytest.raises(Exception, match="KV cache"):
            model(ids, cache)
        breaking = model.layers[2].mlp.experts.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(ids)
        breaking.remove()
        model(ids[:, :10], cache)
    assert trace.tokens.tolist() == ids[0, :10].tolist()
    assert trace.sequences.tolist() == [0] * 10


def test_reading_an_empty_trace_says_so(model):
    with record_routing(model) as trace:
        pass
    for name in ("experts", "weights", "tokens"):
        with pytest.raises(BadTrace, match="did not run"):
            getattr(trace, name)


def test_a_router_that_is_bypassed_is_noticed(model, ids):
    """As a fused kernel would: the layer works, but its router module is never called."""
    mixture = model.layers[2].mlp
    mixture.forward = lambda x: x
    with record_routing(model) as trace:
        model(ids)
    with pytest.raises(BadTrace, match="layer 2 sent 0 of 24 tokens"):
        _ = trace.experts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_router_that_gives_nan_is_noticed(ids, dtype):
    """One NaN among the weights of layer 2; the ids that topk then takes look like any others."""
    model = small_model(dtype=dtype)
    with torch.no_grad():
        model.layers[2].mlp.gate.weight[3, 0] = math.nan
    with pytest.raises(NotFinite, match=r"router in layer 2 are NaN or infinite\. model\.layers\.2\.mlp\.gate\.weight"):
        with record_routing(model) as trace:
            model(ids)
    assert len(trace) == 0


def test_a_dense_model_has_nothing_to_record():
    model = small_model(num_experts=0, model_type="qwen3")
    with pytest.raises(BadArgument, match="no router"), record_routing(model):
        pass


def test_reading_during_the_recording(model, ids):
    with record_routing(model) as trace:
        model(ids[:, :3])
        assert trace.experts.shape[1] == 3
        model(ids[:, :4])
        assert trace.experts.shape[1] == 7
    assert trace.experts.shape[1] == 7


def test_recording_does_not_keep_the_graph(model, ids):
    with record_routing(model) as trace:
        loss = model(ids).logsumexp(dim=-1).mean()
        loss.backward()
    assert not trace.probabilities.requires_grad
    assert model.layers[0].mlp.gate.weight.grad is not None


def test_slots_are_sorted_even_if_the_router_does_not(model, ids):
    """A learner's own router may return its experts in any order."""
    from minimoe.model.router import Router, Routing

    class Untidy(Router):
        def forward(self, hidden):
            tidy = super().forward(hidden)
            return Routing(tidy.logits, tidy.experts.flip(-1), tidy.weights.flip(-1))

    with record_routing(model) as tidy:
        model(ids)
    for layer in tidy.layers.tolist():
        model.layers[layer].mlp.gate.__class__ = Untidy
    with record_routing(model) as untidy:
        model(ids)
    untidy.check()
    assert torch.equal(tidy.experts[0], untidy.experts[0])
    assert torch.equal(tidy.weights[0], untidy.weights[0])


def test_metadata_and_token_bytes(model, ids):
    with record_routing(model, LetterTokenizer(), label="random") as trace:
        model(ids)
    assert trace.metadata["label"] == "random"
    for key in ("num_experts", "num_experts_per_tok", "norm_topk_prob", "num_hidden_layers"):
        assert trace.metadata[key] == SIZES[key]
    assert trace.token_bytes(3) == chr(ord("A") + int(ids[0, 3])).encode()
    assert len(trace.metadata["tokenizer_sha256"]) == 64
    assert "random" in repr(trace)
    assert "3 layers x 24 tokens" in repr(trace)
