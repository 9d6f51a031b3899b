"""A streamed model has bit-identical results to the loaded one under any budget."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.save import save
from minimoe.errors import BadArgument, WrongModel
from minimoe.model.router import route
from minimoe.routing.trace.trace import record_routing
from minimoe.scale.streaming.stream import stream_model
from tests.checkpoint.fake import DENSE, TINY, random_model, rewrite, save_tiny
from tests.scale.streaming.streamed import FORMATS, loaded, opened, packed, save_random, smallest

BEYOND = (0, 2_400, 9_000, 10**8)  # bytes above the minimum: one slot, two, both shared buffers, everything resident
IDS = torch.randint(0, TINY.vocab_size, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MoE layers with a dense one in between, in several shards."""
    directory = tmp_path_factory.mktemp("tiny") / "checkpoint"
    save_tiny(directory)
    return directory


@torch.inference_mode()
def require_equal(model, other, ids=IDS):
    """Prefill in one pass; then in two chunks with a cache, followed by three single tokens."""
    assert torch.equal(model(ids), other(ids))
    mine, theirs = model.new_cache(2, 15), other.new_cache(2, 15)
    for part in (ids[:, :5], ids[:, 5:], ids[:, :1], ids[:, 1:2], ids[:, 2:3]):
        assert torch.equal(model(part, mine), other(part, theirs))
    for layer in mine.keys:
        assert torch.equal(mine.keys[layer][:, :, :12], theirs.keys[layer][:, :, :12])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("beyond", BEYOND)
def test_bit_identical_to_the_loaded_model(tiny, beyond, dtype, attention):
    streamed, model = opened(tiny, beyond, dtype, context=64), loaded(tiny, dtype)
    streamed.attention = model.attention = attention
    require_equal(streamed, model)
    assert streamed.streaming.misses > 0
    assert (streamed.streaming.hits > 0) == (beyond == BEYOND[-1])


def test_the_budgets_of_these_tests_differ_in_kind(tiny):
    kinds = [opened(tiny, beyond, "bf16", context=64).budget for beyond in BEYOND]
    assert [(plan.shared, plan.resident, plan.slots) for plan in kinds] == [(1, 0, 1), (1, 0, 2), (2, 1, 1), (0, 4, 36)]


@pytest.mark.parametrize(
    "config", [DENSE, replace(DENSE, tie_word_embeddings=True), replace(TINY, tie_word_embeddings=True)]
)
@pytest.mark.parametrize("beyond", [0, 10**8])
def test_dense_and_tied_models(tmp_path, config, beyond):
    save_tiny(tmp_path / "it", config)
    require_equal(opened(tmp_path / "it", beyond, context=64), loaded(tmp_path / "it"))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_packed_formats(tmp_path, format, dtype):
    directory = save_random(tmp_path / "it", packed(format))
    model = loaded(directory, dtype)
    for beyond in (0, 10**8):
        streamed = opened(directory, beyond, dtype, context=64)
        require_equal(streamed, model)
        assert model(IDS).isfinite().all()
        assert streamed.budget.slot < 3 * 136 * 144 * 2 * (0.8 if format != "gptq-int4" else 0.9)


def test_packed_while_loading_and_streamed_from_that(tmp_path, tiny):
    save(load_model(tiny, precision="int8"), None, tmp_path / "int8")
    require_equal(opened(tmp_path / "int8", context=64), loaded(tmp_path / "int8"))


def fuse(tensors):
    """The fused form of newer tools: all experts of a layer in two tensors."""
    for layer in TINY.moe_layers:
        bank = f"model.layers.{layer}.mlp.experts."
        parts = {
            kind: [tensors.pop(f"{bank}{expert}.{kind}_proj.weight") for expert in range(TINY.num_experts)]
            for kind in ("gate", "up", "down")
        }
        both = zip(parts["gate"], parts["up"], strict=True)
        tensors[bank + "gate_up_proj"] = torch.stack([torch.cat(pair) for pair in both])
        tensors[bank + "down_proj"] = torch.stack(parts["down"])


def test_fused_experts(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "fused")
    rewrite(tmp_path / "fused", fuse)
    require_equal(opened(tmp_path / "fused", context=64), loaded(tiny))


@pytest.mark.parametrize("layers", [range(1), range(1, 3), range(2, 4)])
def test_slices(tiny, layers):
    streamed, model = opened(tiny, context=64, layers=layers), loaded(tiny, layers=layers)
    given = {"token_ids": IDS} if layers.start == 0 else {"hidden": torch.randn(2, 9, 16).bfloat16()}
    with torch.inference_mode():
        assert torch.equal(streamed(**given), model(**given))


def test_generating_and_recording_on_the_small_world():
    ram = 2_600_000
    model, tokenizer = minimoe.load("data/mini")
    model.engine = "loop"
    streamed, same_tokenizer = minimoe.stream("data/mini", ram, context=128)
    assert streamed.streaming.budget.resident < model.config.num_hidden_layers
    with record_routing(model, tokenizer) as expected:
        text = "".join(minimoe.generate(model, tokenizer, "The cat", max_new_tokens=12, temperature=1.0, seed=5))
    with record_routing(streamed, same_tokenizer) as trace:
        pieces = minimoe.generate(streamed, same_tokenizer, "The cat", max_new_tokens=12, temperature=1.0, seed=5)
        mine = "".join(pieces)
    assert mine == text and text
    for name in ("experts", "weights", "margins", "tokens", "positions"):
        assert torch.equal(getattr(trace, name), getattr(expected, name))
    assert trace.metadata["router_sha256"] == expected.metadata["router_sha256"]
    replayed = trace.verify(streamed)  # in one pass, which rounds differently than single tokens: near ties are allowed
    assert replayed.rows == trace.experts[..., 0].numel() > 0
    assert streamed.streaming.peak_bytes <= ram


def test_the_workbench_can_replace_its_functions(tiny):
    streamed = opened(tiny, 10**8, context=64)

    def only_the_best(logits, top_k, renormalise):
        return route(logits.flip(-1), top_k, renormalise)

    with minimoe.workbench(streamed, route=route) as bench:
        assert bench.compare(IDS).same
    with minimoe.workbench(streamed, route=only_the_best) as bench:
        assert not bench.compare(IDS).same


def test_routing_only_reads_no_expert_of_the_last_layer(tiny):
    for layers in (range(1), range(3)):
        streamed = opened(tiny, 0, "bf16", layers=layers, routing_only=True)
        model = loaded(tiny, layers=layers)
        with torch.inference_mode(), record_routing(streamed) as trace, record_routing(model) as expected:
            hidden = streamed(IDS)
            model(IDS)
        assert torch.equal(trace.experts, expected.experts) and torch.equal(trace.probabilities, expected.probabilities)
        assert hidden.isnan().all()
        assert all(layer != layers[-1] for layer, _ in streamed.streaming.cache.slots)
    assert streamed.streaming.bytes_by_part["experts"] == streamed.streaming.misses * 2304
    one = opened(tiny, 0, "bf16", layers=range(1), routing_only=True)
    one(IDS)
    rows = len(IDS.unique()) * 16 * 2
    projections, norms, router = 2 * 16 * (32 + 16 + 16 + 32), 2 * (16 + 16 + 8 + 8), 12 * 16 * 2
    assert one.streaming.bytes_read == rows + projections + norms + router
    assert "experts" not in one.streaming.bytes_by_part


def test_routing_only_changes_nothing_before_a_layer_without_a_router(tiny):
    streamed = stream_model(tiny, "1MB", layers=range(2), routing_only=True)
    with torch.inference_mode():
        assert torch.equal(streamed(IDS), loaded(tiny, layers=range(2))(IDS))


def test_the_whole_model_with_routing_only_has_no_head(tiny):
    streamed = opened(tiny, 10**8, routing_only=True)
    assert streamed(IDS).shape == (2, 9, 16)
    with pytest.raises(BadArgument, match="routing_only"):
        streamed.new_cache()


def test_a_tied_head_that_differs_from_the_embedding(tmp_path):
    save_tiny(tmp_path / "it", replace(TINY, tie_word_embeddings=True))
    embedding = random_model(replace(TINY, tie_word_embeddings=True)).embed_tokens.weight
    rewrite(tmp_path / "it", lambda tensors: tensors.update({"lm_head.weight": embedding.clone()}))
    assert opened(tmp_path / "it", context=64)(IDS).shape == (2, 9, 48)
    rewrite(tmp_path / "it", lambda tensors: tensors.update({"lm_head.weight": embedding + 1}))
    with pytest.raises(WrongModel, match=r"lm_head\.weight differs"):
        opened(tmp_path / "it", context=64)(IDS)


@pytest.mark.parametrize("format", FORMATS)
def test_every_tensor_is_aligned_as_in_torch(tmp_path, format):
    streamed = opened(save_random(tmp_path / "it", packed(format)), 10**8)
    for layout in (streamed.dense.stored.expert(2, 1), streamed.dense.stored.dense(1)):
        places = [at for _, at in layout.places]
        assert all(at % 64 == 0 for at in places) and len(set(places)) == len(places)
        assert layout.payload <= layout.nbytes
    assert streamed.streaming.cache.memory.data_ptr() % 64 == streamed.budget.slot % 64 == 0


def test_no_tensors_are_kept_for_gradients(tiny):
    streamed, hidden = opened(tiny, layers=range(2, 4)), torch.randn(1, 3, 16).bfloat16().requires_grad_()
    with torch.inference_mode():
        first = streamed(hidden=hidden)
    streamed.requires_grad_(True)
    again = streamed(hidden=hidden)
    assert torch.equal(first, again) and not again.requires_grad and not streamed.lm_head.weight.is_inference()


def test_unsupported_operations_are_refused(tiny):
    streamed = opened(tiny)
    streamed(IDS, last_only=True)
    streamed.engine = "auto"
    assert streamed.engine == "loop"
    with pytest.raises(BadArgument, match="one expert at a time"):
        streamed.engine = "gather"
    with pytest.raises(BadArgument, match="pass dtype="):
        streamed.to(torch.float32)
    with pytest.raises(BadArgument, match=r"layers\.2\.self_attn\.q_proj is streamed"):
        assert streamed.layers[2].self_attn.q_proj.weight is None
    with pytest.raises(BadArgument, match="0 to 11"):
        streamed.layers[2].mlp.experts.gate_proj[12]
    with pytest.raises(BadArgument, match="fp32"):
        stream_model(tiny, "1GB", dtype="fp8")


def test_experts_held_together_are_never_overwritten(tiny):
    """A custom loop over experts may hold several at once, and then needs as many slots."""
    dense = smallest(TINY, None, 40).dense
    streamed = opened(tiny, sum(dense) - max(dense) + 2 * 2304)
    assert streamed.budget.slots == 3
    bank = streamed.layers[0].mlp.experts
    truth = loaded(tiny).layers[0].mlp.experts.gate_proj
    kept = [bank.gate_proj[expert] for expert in range(3)]
    with pytest.raises(BadArgument, match="3 experts are held at once"):
        bank.up_proj[3]
    assert all(torch.equal(mine, truth[expert]) for expert, mine in enumerate(kept))
    del kept
    assert torch.equal(bank.gate_proj[3], truth[3])
