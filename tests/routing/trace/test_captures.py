"""Router outputs captured in llama.cpp, TransformerLens and nnsight become a trace equal to our own; others do not."""

import copy

import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from minimoe.errors import BadArgument, BadTrace, NotFound
from minimoe.model.config import ModelConfig
from minimoe.model.router import route
from minimoe.routing.explorer.export import export_html
from minimoe.routing.trace.captures import from_hooks, from_llama_cpp
from minimoe.routing.trace.hooks import on_routers
from minimoe.routing.trace.importers import from_sglang, from_vllm
from minimoe.routing.trace.trace import RoutingTrace, record_routing
from tests.routing.conftest import small_model
from tests.routing.trace.test_responses import int32_text, npy_text
from tests.small import SIZES

TOKENS = 20
CONFIG = ModelConfig(**SIZES)
LAYERS = list(CONFIG.moe_layers)


@pytest.fixture
def run(model):
    """Our own trace of 20 tokens, and the outputs (logits, weights, ids) of the routers by layer."""
    ids = torch.randint(0, 60, (1, TOKENS), generator=torch.Generator().manual_seed(3))
    outputs = {}

    def keep(layer, gate, routing):
        outputs[layer] = (routing.logits.detach(), routing.weights.detach(), routing.experts.detach())

    with record_routing(model) as trace, on_routers(model, keep):
        model(ids)
    return trace, outputs


def llama(outputs):
    """As ggml's tensors look in numpy: ids int32, weights (token, slot, 1)."""
    named = {"inp_embd": np.zeros((TOKENS, 32), np.float32)}
    for layer, (logits, weights, _) in outputs.items():
        named[f"ffn_moe_logits-{layer}"] = logits.numpy()
        named[f"ffn_moe_argsort-{layer}"] = logits.argsort(dim=-1, descending=True).int().numpy()
        named[f"ffn_moe_weights-{layer}"] = weights.numpy()[..., None]
    return named


def lens(outputs):
    """The cache of a TransformerBridge; the output of the block and the weights are not needed."""
    cache = {}
    for layer, (logits, weights, ids) in outputs.items():
        cache[f"blocks.{layer}.mlp.hook_out"] = torch.zeros(1, TOKENS, 32)
        cache[f"blocks.{layer}.mlp.gate.hook_out"] = logits
        cache[f"blocks.{layer}.mlp.gate.hook_expert_weights"] = weights
        cache[f"blocks.{layer}.mlp.gate.hook_expert_indices"] = ids
    return cache


def same(trace, recorded):
    for name in ("layers", "experts", "tokens", "positions", "sequences"):
        assert torch.equal(getattr(trace, name), getattr(recorded, name)), name
    for name in ("weights", "probabilities", "margins", "entropies", "probability_sums"):
        torch.testing.assert_close(getattr(trace, name), getattr(recorded, name), rtol=1e-4, atol=1e-5)


def test_everything_a_router_knows(run, model, tokenizer, tmp_path):
    recorded, outputs = run
    np.savez(tmp_path / "dump.npz", **llama(outputs))
    save_file({name: torch.from_numpy(array) for name, array in llama(outputs).items()}, tmp_path / "d.safetensors")
    halves = {name: [array[:7], array[7:]] for name, array in llama(outputs).items()}
    probabilities = {layer: (logits.softmax(-1), weights, ids) for layer, (logits, weights, ids) in outputs.items()}
    for trace in (
        from_llama_cpp(llama(outputs), model.config, recorded.tokens),
        from_llama_cpp(halves, model.config, recorded.tokens.tolist()),
        from_llama_cpp(tmp_path / "dump.npz", model.config, recorded.tokens),
        from_llama_cpp(str(tmp_path / "d.safetensors"), model.config, recorded.tokens),
        from_hooks(lens(outputs), model.config, recorded.tokens),
        from_hooks(outputs, model.config, recorded.tokens[None]),
        from_hooks(list(outputs.values()), model.config, recorded.tokens),
        from_hooks([logits[None] for logits, _, _ in outputs.values()], model.config, recorded.tokens),
        from_hooks(probabilities, model.config, recorded.tokens),
    ):
        same(trace, recorded)
        assert trace.has_weights
        assert trace.verify(model).overlap == 1.0
    assert "measured by TransformerLens" in from_hooks(lens(outputs), model.config).title
    assert "measured by hooks on the routers" in from_hooks(outputs, model.config).title
    trace = from_llama_cpp(llama(outputs), model.config, recorded.tokens, tokenizer, "random")
    assert trace.title == "random, measured by llama.cpp, 3 layers x 20 tokens"
    trace.save(tmp_path / "t.safetensors")
    assert RoutingTrace.load(tmp_path / "t.safetensors").title == trace.title
    export_html(trace, tmp_path / "t.html")
    assert "measured by llama.cpp" in (tmp_path / "t.html").read_text()


def test_ids_alone_make_a_trace_that_says_so(run, model, tmp_path):
    recorded, outputs = run
    topk = {f"ffn_moe_topk-{layer}": ids.int().numpy() for layer, (_, _, ids) in outputs.items()}
    cache = {f"blocks.{layer}.mlp.hook_expert_indices": ids[None] for layer, (_, _, ids) in outputs.items()}
    for trace in (from_llama_cpp(topk, model.config), from_hooks(cache, model.config)):
        assert torch.equal(trace.experts, recorded.experts) and not trace.has_weights
        with pytest.raises(BadTrace, match=r"holds expert ids only .*so it has no weights"):
            trace.weights  # noqa: B018
        export_html(trace, tmp_path / "t.html")
        assert "expert ids only" in (tmp_path / "t.html").read_text()


def test_a_batch_keeps_its_sequences(model):
    ids = torch.randint(0, 60, (2, 9), generator=torch.Generator().manual_seed(4))
    outputs = {}
    with record_routing(model) as recorded, on_routers(model, lambda layer, _, r: outputs.update({layer: tuple(r)})):
        model(ids)
    same(from_hooks({layer: tuple(part.detach() for part in parts) for layer, parts in outputs.items()},
                    model.config, ids), recorded)  # fmt: skip


def without(named, name):
    return {key: value for key, value in named.items() if key != name}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda n: {}, "no router output in the source. Capture ffn_moe_argsort-N"),
        (lambda n: without(without(n, "ffn_moe_logits-2"), "ffn_moe_argsort-2"),
         "2 layers, expected 3; first wrong: layer 2"),
        (lambda n: n | {"ffn_moe_logits-1": n["ffn_moe_logits-0"]}, "4 layers, expected 3; first wrong: layer 1"),
        (lambda n: n | {f"ffn_moe_{kind}-3": n[f"ffn_moe_{kind}-3"][-1:] for kind in ("logits", "argsort")},
         "layer 3 has 1 tokens, layer 0 has 20.*logits of all tokens"),
        (lambda n: n | {"ffn_moe_argsort-2": n["ffn_moe_argsort-2"] + 16}, "ids of layer 2 .* ids from 0 to 15"),
        (lambda n: n | {"ffn_moe_argsort-2": n["ffn_moe_argsort-3"]}, "layer 2, token 0 selects .* in one run"),
        (lambda n: n | {"ffn_moe_logits-2": n["ffn_moe_logits-2"] * np.nan}, "logits of layer 2 hold NaN"),
    ],
)  # fmt: skip
def test_dumps_of_llama_that_are_wrong(run, model, change, sentence):
    recorded, outputs = run
    with pytest.raises(BadTrace, match=sentence):
        from_llama_cpp(change(llama(outputs)), model.config, recorded.tokens)


def test_prompt_tokens_that_are_missing(run, model):
    recorded, outputs = run
    with pytest.raises(BadTrace, match=r"tokens has 12 ids, but the routers saw 20 tokens.*prompt included"):
        from_llama_cpp(llama(outputs), model.config, recorded.tokens[8:])


def test_a_view_copied_without_its_strides(run, model):
    flat = {name.replace("argsort", "topk"): array.reshape(-1)[: TOKENS * 4].reshape(TOKENS, 4)
            for name, array in llama(run[1]).items() if "argsort" in name}  # fmt: skip
    with pytest.raises(BadTrace, match=r"ffn_moe_topk-0 .*copied without its strides"):
        from_llama_cpp(flat, model.config)


def test_sources_that_are_none(run, model, tmp_path):
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    for call, error, sentence in (
        (lambda: from_llama_cpp("log.txt", model.config), BadArgument, "log.txt, expected a dict.*cannot be read"),
        (lambda: from_llama_cpp(tmp_path / "none.npz", model.config), NotFound, "none.npz is not there"),
        (lambda: from_llama_cpp(tmp_path / "cut.npz", model.config), BadTrace, "not a whole .npz"),
        (lambda: from_llama_cpp({"ffn_moe_logits-0": np.zeros((3, 8))}, model.config), BadArgument,
         r"ffn_moe_logits-0 is \(3, 8\), expected \(token, 16\)"),
        (lambda: from_hooks(torch.zeros(3), model.config), BadArgument, "source is Tensor, expected the cache"),
        (lambda: from_hooks(7, model.config), BadArgument, "source is int, expected the cache"),
        (lambda: from_hooks([run[1][0]], model.config), BadTrace, "source has 1 router outputs, expected 3"),
        (lambda: from_hooks({0: ("proxy",)}, model.config), BadArgument, "layer 0 has str, expected .logits"),
        (lambda: from_hooks({0: torch.zeros(5, 32)}, model.config), BadArgument, "no logits .token, 16. and no int"),
    ):  # fmt: skip
        with pytest.raises(error, match=sentence):
            call()


def test_real_is_the_label_of_released_sizes_only(run, model):
    recorded, outputs = run
    with pytest.raises(BadArgument, match="label is 'real weights', but no released model has these sizes"):
        from_hooks(outputs, model.config, label="real weights")
    title = from_hooks(outputs, model.config, label="unreal", engine="nnsight").title
    assert title.startswith("unreal, measured by nnsight")
    config = ModelConfig.named("Qwen3-30B-A3B")
    ids = torch.rand(5, 48, 128).argsort(dim=-1)[..., :8].numpy().astype(np.uint8)
    title = from_vllm(npy_text(ids), config=config, label="real weights").title
    assert title == "real weights, measured by vLLM, expert ids only, 48 layers x 5 tokens"


def test_arrays_of_sglang_in_both_orders(model):
    generator = torch.Generator().manual_seed(5)
    for tokens in (1, 2, 7):
        experts = torch.rand(3, tokens, 16, generator=generator).argsort(dim=-1)[..., :4]
        turned = rearrange(experts, "layer token slot -> token layer slot")
        assert torch.equal(from_sglang(experts, model.config).experts, experts)
        assert torch.equal(from_sglang(turned, model.config).experts, experts)
    for tokens in (3, 4):  # as many as layers, with or without the dense one
        experts = torch.rand(3, tokens, 16, generator=generator).argsort(dim=-1)[..., :4]
        turned = rearrange(experts, "layer token slot -> token layer slot")
        for array, order in ((experts, "layer token slot"), (turned, "token layer slot")):
            with pytest.raises(BadArgument, match=r"both orders fit. Pass order='layer token slot' or"):
                from_sglang(array, model.config)
            assert torch.equal(from_sglang(array, model.config, order=order).experts, experts)
    with pytest.raises(BadArgument, match="order is 'slots', expected 'layer token slot' or"):
        from_sglang(experts, model.config, order="slots")


def test_base64_of_a_wrong_length(model):
    ids = torch.rand(6, 4, 16).argsort(dim=-1)[..., :4].numpy().astype(np.uint8)
    with pytest.raises(BadTrace, match="not whole"):
        from_vllm(npy_text(ids)[:-8], config=model.config)
    with pytest.raises(BadArgument, match="4 layers x 4 experts a token"):
        from_sglang(int32_text(ids)[:-8], model.config)


@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_random_routing_survives_every_format(tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    outputs = {}
    for layer in LAYERS:
        routing = route(torch.randn(tokens, 16, generator=generator), 4, True)
        outputs[layer] = (routing.logits, routing.weights, routing.experts)
    experts = torch.stack([ids for _, _, ids in outputs.values()])
    weights = torch.stack([factors for _, factors, _ in outputs.values()])
    rows = np.zeros((tokens, 4, 4), np.uint8)
    rows[:, LAYERS] = rearrange(experts, "layer token slot -> token layer slot").numpy()
    before = copy.deepcopy(outputs)
    full = [from_llama_cpp(llama(outputs), CONFIG), from_hooks(lens(outputs), CONFIG), from_hooks(outputs, CONFIG)]
    ids_only = [from_vllm(npy_text(rows), config=CONFIG), from_sglang(int32_text(rows), CONFIG),
                from_sglang(experts, CONFIG, order="layer token slot")]  # fmt: skip
    for trace in full + ids_only:
        assert torch.equal(trace.experts, experts)
    for trace in full:
        torch.testing.assert_close(trace.weights, weights)
    for layer, parts in before.items():
        assert all(map(torch.equal, parts, outputs[layer]))


def test_the_outputs_of_transformers_own_routers():
    """nnsight and TransformerLens wrap these modules, so their outputs are those of the modules."""
    modeling = pytest.importorskip("transformers.models.qwen3_moe.modeling_qwen3_moe")
    router = getattr(modeling, "Qwen3MoeTopKRouter", None)
    if router is None:
        pytest.skip("this version of transformers has no router module")
    ours = small_model()
    gate = router(CONFIG)
    hidden = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(6))
    outputs, expected = {}, []
    with torch.no_grad():
        for layer in LAYERS:
            gate.weight.copy_(ours.layers[layer].mlp.gate.weight)
            outputs[layer] = gate(hidden)
            expected.append(ours.layers[layer].mlp.gate(hidden[0]).experts)
    trace = from_hooks(outputs, CONFIG)
    assert trace.has_weights and torch.equal(trace.experts, torch.stack(expected))
