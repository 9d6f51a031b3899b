"""Properties of the model for any weights: engines agree, a cache changes nothing, slices compose, positions are
relative.
"""

from types import SimpleNamespace

import pytest
import torch
from einops import einsum, rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from minimoe import ModelConfig, Transformer
from minimoe.errors import BadArgument, CacheOverflow
from minimoe.model.attention import attend, causal_mask
from minimoe.model.experts import ExpertBank, choose_engine, run_experts, swiglu
from minimoe.model.norm import rms_norm
from minimoe.model.rope import apply_rope, rotary_tables
from minimoe.model.router import Routing, route

SMALL = ModelConfig(
    vocab_size=61, hidden_size=20, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=3, head_dim=8,
    intermediate_size=28, moe_intermediate_size=12, num_experts=16, num_experts_per_tok=4, norm_topk_prob=True,
    mlp_only_layers=(2,), rope_theta=1e4, initializer_range=0.2,
)  # fmt: skip
ENGINES = ("loop", "gather", "grouped")


def make(dtype: torch.dtype = torch.float64, layers: range | None = None) -> Transformer:
    torch.manual_seed(3)
    whole = Transformer(SMALL).to(dtype).eval().requires_grad_(False)
    if layers is None:
        return whole
    part = Transformer(SMALL, layers=layers).to(dtype).eval().requires_grad_(False)
    part.load_state_dict({name: whole.state_dict()[name] for name in part.state_dict()})
    return part


def ids(batch: int = 2, positions: int = 24) -> torch.Tensor:
    return torch.randint(0, SMALL.vocab_size, (batch, positions), generator=torch.Generator().manual_seed(1))


def record(model: Transformer, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and the sorted expert ids (layer, token, slot)."""
    seen = []
    handles = [
        model.layers[n].mlp.gate.register_forward_hook(lambda m, a, routing: seen.append(routing.experts.sort().values))
        for n in (0, 1, 3)
    ]
    logits = model(*args, **kwargs)
    for handle in handles:
        handle.remove()
    return logits, torch.stack(seen)


# ------------------------------------------------------------------- experts


@settings(max_examples=40, deadline=None, derandomize=True)
@given(tokens=st.integers(1, 9), slots=st.integers(1, 5), concentrated=st.booleans(), seed=st.integers(0, 999))
def test_engines_equal_a_naive_loop(tokens, slots, concentrated, seed):
    """Also when most experts get no token, in float64 (no grouped product), and from lists of one tensor an expert."""
    generator = torch.Generator().manual_seed(seed)
    bank = ExpertBank(SMALL).double()
    for weight in bank.parameters():
        torch.nn.init.normal_(weight, generator=generator)
    pool = torch.randperm(SMALL.num_experts, generator=generator)[: slots if concentrated else SMALL.num_experts]
    experts = torch.stack([pool[torch.randperm(len(pool), generator=generator)[:slots]] for _ in range(tokens)])
    weights = torch.rand(tokens, slots, generator=generator, dtype=torch.float64)
    x = torch.randn(tokens, SMALL.hidden_size, generator=generator, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for t in range(tokens):
        for s in range(slots):
            e = int(experts[t, s])
            inner = torch.nn.functional.silu(bank.gate_proj[e] @ x[t]) * (bank.up_proj[e] @ x[t])
            expected[t] += weights[t, s] * (bank.down_proj[e] @ inner)
    routing = Routing(torch.empty(0), experts, weights)
    as_lists = ExpertBank(SMALL)
    for name, stack in list(bank.named_parameters()):
        delattr(as_lists, name)
        setattr(as_lists, name, list(stack.unbind()))
    for engine in ENGINES:
        bank.engine = as_lists.engine = engine
        torch.testing.assert_close(run_experts(x, routing, bank), expected, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(run_experts(x, routing, as_lists), expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_engine_has_the_same_gradients(dtype):
    """float32 takes the grouped product, float64 the loop behind it."""
    gradients = {}
    for engine in ENGINES:
        model = make(dtype).requires_grad_(True)
        model.engine = engine
        model(ids()).logsumexp(-1).mean().backward()
        gradients[engine] = torch.cat([rearrange(p.grad, "... -> (...)") for p in model.parameters()])
    assert gradients["loop"].abs().max() > 1e-3
    for engine in ENGINES[1:]:
        torch.testing.assert_close(gradients[engine], gradients["loop"], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("engine", ["loop", "gather", "grouped"])
def test_two_threads_sum_gradients_in_the_same_order_in_every_run(engine):
    generator = torch.Generator().manual_seed(0)
    bank = ExpertBank(SMALL)
    for parameter in bank.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    bank.engine = engine
    x = torch.randn(4096, SMALL.hidden_size, generator=generator, requires_grad=True)
    routing = route(torch.randn(4096, SMALL.num_experts, generator=generator), SMALL.num_experts_per_tok, True)
    before, gradients = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        for _ in range(5):
            bank(x, routing).square().mean().backward()
            gradients.append([x.grad.clone(), *(parameter.grad.clone() for parameter in bank.parameters())])
            x.grad = None
            bank.zero_grad()
    finally:
        torch.set_num_threads(before)
    for again in gradients[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(gradients[0], again, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ffn", [12, 13])
def test_widths_that_the_grouped_kernel_does_not_support(ffn, dtype):
    odd = ModelConfig(**(vars(SMALL) | dict(moe_intermediate_size=ffn)))
    torch.manual_seed(0)
    model = Transformer(odd).to(dtype).requires_grad_(False)
    model.engine = "loop"
    expected = model(ids())
    model.engine = "grouped"
    torch.testing.assert_close(model(ids()), expected, atol=1e-5 if dtype == torch.float32 else 0.1, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("engine", ["loop", "gather", "grouped"])
def test_any_object_with_three_stacks_is_a_bank(engine, dtype):
    """Lessons run experts of their own: what run_experts documents is all that it may ask for."""
    bank = make(dtype).requires_grad_(False).layers[0].mlp.experts
    bank.engine = engine
    x = torch.randn(20, SMALL.hidden_size, generator=torch.Generator().manual_seed(3)).to(dtype)
    routing = route(torch.randn(20, SMALL.num_experts, generator=torch.Generator().manual_seed(4)).to(dtype), 2, True)
    expected = run_experts(x, routing, bank)
    stacks = {name: getattr(bank, name) for name in ("gate_proj", "up_proj", "down_proj")}
    for plain in (stacks, {name: list(stack.unbind()) for name, stack in stacks.items()}):
        found = run_experts(x, routing, SimpleNamespace(engine=engine, **plain))
        torch.testing.assert_close(found, expected, atol=1e-6 if dtype == torch.float32 else 0.02, rtol=0)


def test_auto_loops_over_experts_of_real_width_and_never_copies_them():
    with torch.device("meta"):
        real = ExpertBank(ModelConfig(**(vars(SMALL) | dict(hidden_size=2048, moe_intermediate_size=768))))
    assert [choose_engine(real, tokens) for tokens in (1, 8, 4096)] == ["loop"] * 3
    with torch.no_grad():
        assert [choose_engine(ExpertBank(SMALL), tokens) for tokens in (1, 512)] == ["gather", "grouped"]


@pytest.mark.parametrize(
    "dtype, engines", [(torch.bfloat16, ["gather", "grouped", "grouped"]), (torch.float32, ["loop"] * 3)]
)
def test_auto_never_waits_for_a_gpu_that_has_a_grouped_product(dtype, engines, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    real = ExpertBank(SMALL)
    with FakeTensorMode():  # shapes without memory, so no GPU is needed
        real.gate_proj = nn.Parameter(torch.empty(128, 768, 2048, dtype=dtype, device="cuda"))
        real.values_of_matrix = 768 * 2048
        with torch.no_grad():
            assert [choose_engine(real, tokens) for tokens in (1, 8, 4096)] == engines
        assert choose_engine(real, 1) == engines[1]  # with gradients no weights are copied


def test_permuting_experts_and_router_rows_changes_nothing():
    model = make()
    before = model(ids())
    order = torch.randperm(SMALL.num_experts, generator=torch.Generator().manual_seed(5))
    for n in SMALL.moe_layers:
        mlp = model.layers[n].mlp
        for weight in (mlp.gate.weight, mlp.experts.gate_proj, mlp.experts.up_proj, mlp.experts.down_proj):
            weight.copy_(weight[order])
    torch.testing.assert_close(model(ids()), before, atol=1e-10, rtol=0)


# ------------------------------------------------------------------- router, norm, RoPE, attention


def test_route_by_hand():
    logits = torch.tensor([[0.0, 2.0, 1.0, -3.0]])
    e = [2.718281828459045**x for x in (0, 2, 1, -3)]
    routing = route(logits, top_k=2, renormalise=True)
    assert routing.experts.tolist() == [[1, 2]]
    torch.testing.assert_close(routing.weights, torch.tensor([[e[1], e[2]]]) / (e[1] + e[2]))
    plain = route(logits, top_k=2, renormalise=False)
    torch.testing.assert_close(plain.weights, torch.tensor([[e[1], e[2]]]) / sum(e))


def test_route_computes_its_softmax_in_float32():
    """In bfloat16 one part in 256 is the finest step: many of 128 experts would tie."""
    logits = torch.randn(50, 128, generator=torch.Generator().manual_seed(0)).bfloat16()
    routing = route(logits, top_k=8, renormalise=True)
    expected = logits.float().softmax(-1).topk(8)
    assert routing.weights.dtype == torch.bfloat16
    assert torch.equal(routing.experts, expected.indices)
    assert torch.equal(routing.weights, (expected.values / expected.values.sum(-1, keepdim=True)).bfloat16())


def test_rms_norm_ignores_scale_and_multiplies_the_weight_after_the_cast():
    x, weight = torch.randn(3, 5, 16, dtype=torch.float64), torch.rand(16, dtype=torch.float64)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight
    torch.testing.assert_close(rms_norm(x, weight, 1e-6), expected)
    torch.testing.assert_close(rms_norm(1000 * x, weight, 0.0), rms_norm(x, weight, 0.0))
    half, half_weight = x.bfloat16(), weight.bfloat16()
    wide = half.float() * torch.rsqrt(half.float().square().mean(-1, keepdim=True) + 1e-6)
    assert torch.equal(rms_norm(half, half_weight, 1e-6), wide.bfloat16() * half_weight)


def test_rope_scores_depend_on_the_distance_alone():
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)

    def score(at: int, other: int) -> float:
        tables = [rotary_tables(SMALL, n, n + 1, torch.float64, torch.device("cpu")) for n in (at, other)]
        return float(einsum(apply_rope(q, *tables[0]), apply_rope(k, *tables[1]), "b h p d, b h p d ->"))

    assert abs(score(7, 3) - score(1007, 1003)) < 1e-4  # angles are float32
    assert abs(score(7, 3) - score(7, 4)) > 1e-3


def test_rope_pairs_channel_j_with_j_plus_half():
    cos, sin = rotary_tables(SMALL, 1, 2, torch.float64, torch.device("cpu"))
    x = torch.zeros(1, 1, 1, 8, dtype=torch.float64)
    x[..., 1] = 1.0
    turned = apply_rope(x, cos, sin)[0, 0, 0]
    angle = 1e4 ** (-2 / 8)
    expected = torch.zeros(8, dtype=torch.float64)
    expected[1], expected[5] = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    torch.testing.assert_close(turned, expected, atol=1e-7, rtol=0)


def test_attend_equals_one_query_at_a_time():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, 5, 4, dtype=torch.float64) for heads in (6, 3, 3))
    mixed = attend(q, k, v, causal_mask(5, 5, q.device))
    for b in range(2):
        for h in range(6):
            for t in range(5):
                shares = torch.softmax(k[b, h // 2, : t + 1] @ q[b, h, t] / 2, dim=0)
                torch.testing.assert_close(mixed[b, h, t], shares @ v[b, h // 2, : t + 1])


def test_swiglu_by_hand():
    x, gate, up, down = torch.tensor([2.0]), torch.tensor([[1.0]]), torch.tensor([[3.0]]), torch.tensor([[0.5]])
    assert abs(float(swiglu(x, gate, up, down)) - 2 / (1 + 2.718281828**-2) * 6 * 0.5) < 1e-5


# ------------------------------------------------------------------- cache, slices, tying


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("chunks", [[24], [1] * 24, [7, 1, 9, 1, 6], [23, 1]])
def test_a_cache_changes_neither_logits_nor_experts(chunks, engine, attention):
    model = make()
    model.engine, model.attention = engine, attention
    expected, experts = record(model, ids())
    cache = model.new_cache(batch=2, capacity=24)
    pieces = [record(model, part, cache=cache) for part in ids().split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat([logits for logits, _ in pieces], dim=1), expected, atol=1e-10, rtol=0)
    seen = [rearrange(e, "layer (batch position) slot -> layer batch position slot", batch=2) for _, e in pieces]
    experts = rearrange(experts, "layer (batch position) slot -> layer batch position slot", batch=2)
    assert torch.equal(torch.cat(seen, dim=2), experts)
    assert cache.length == 24


def test_last_only_is_the_last_position():
    model = make()
    torch.testing.assert_close(model(ids(), last_only=True), model(ids())[:, -1:], atol=1e-12, rtol=0)


def test_cache_overflow_is_refused_before_anything_is_written():
    model = make()
    cache = model.new_cache(batch=2, capacity=10)
    model(ids(positions=8), cache=cache)
    with pytest.raises(CacheOverflow, match="holds 8 of 10 positions, 3 more do not fit"):
        model(ids(positions=3), cache=cache)
    assert cache.length == 8
    with pytest.raises(BadArgument, match="batch of 2, got 1"):
        model(ids(batch=1, positions=1), cache=cache)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_slices_compose_to_the_whole(cut):
    first, second = make(layers=range(0, cut)), make(layers=range(cut, 4))
    torch.testing.assert_close(second(hidden=first(ids())), make()(ids()), atol=1e-12, rtol=0)
    assert list(second.layers.numbers) == list(range(cut, 4)) and second.layers[cut] is next(iter(second.layers))
    caches = first.new_cache(2, 24), second.new_cache(2, 24)
    stepwise = [second(hidden=first(part, cache=caches[0]), cache=caches[1]) for part in ids().split(6, dim=1)]
    torch.testing.assert_close(torch.cat(stepwise, dim=1), make()(ids()), atol=1e-10, rtol=0)
    with pytest.raises(BadArgument, match=f"begins at layer {cut}"):
        second(ids())
    with pytest.raises(BadArgument, match="layer 0 is not in this model"):
        second.layers[0]


def test_tied_head_is_the_embedding():
    tied = Transformer(ModelConfig(**(vars(SMALL) | dict(tie_word_embeddings=True))))
    assert tied.lm_head.weight is tied.embed_tokens.weight
    assert sum(p.numel() for p in tied.parameters()) == tied.config.total_parameters


def test_parameter_count_follows_from_the_config():
    assert sum(p.numel() for p in make().parameters()) == SMALL.total_parameters


# ------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: m([[1, 2], [3]]), "equal lengths, got \\[2, 1\\]"),
        (lambda m: m(torch.tensor([1, 2])), "expected \\(batch, position\\) int64 or int32"),
        (lambda m: m(torch.zeros(1, 2)), "expected \\(batch, position\\) int64 or int32"),
        (lambda m: m(torch.tensor([[0, 61]])), "token_ids hold 0..61, but the vocabulary is 0..60"),
        (lambda m: m(torch.tensor([[-1, 3]])), "token_ids hold -1..3"),
        (lambda m: m(torch.zeros(1, 0, dtype=torch.int64)), "with at least one token"),
        (lambda m: m([1, 2]), "expected rows of whole numbers"),
        (lambda m: m("abc"), "expected rows of whole numbers"),
        (lambda m: m([[1, None]]), "expected rows of whole numbers"),
        (lambda m: m([[10**30]]), "expected rows of whole numbers"),
        (lambda m: m(hidden=[[1]]), "hidden is list, expected a tensor"),
        (lambda m: m(hidden=torch.zeros(1, 3, 20)), "torch.float32, expected .* torch.float64"),
        (lambda m: m(ids(), cache="x"), "cache is str, expected the KVCache of model.new_cache"),
        (lambda m: m.new_cache(batch=True), "batch is True"),
        (lambda m: m(), "needs token_ids"),
        (
            lambda m: m(hidden=torch.zeros(1, 3, 21)),
            "hidden is \\(1, 3, 21\\) torch.float32, expected \\(batch, position, 20\\)",
        ),
        (lambda m: m(ids(), hidden=torch.zeros(1, 3, 20)), "both token_ids and hidden"),
        (lambda m: setattr(m, "engine", "fast"), "engine is 'fast', expected one of auto, loop, gather, grouped"),
        (lambda m: setattr(m, "attention", "flash"), "attention is 'flash', expected one of eager, sdpa"),
        (lambda m: m.new_cache(capacity=0), "capacity is 0"),
        (lambda m: Transformer(SMALL, layers=range(2, 2)), "expected range\\(a, b\\)"),
        (lambda m: Transformer(SMALL, layers=range(0, 5)), "expected range\\(a, b\\)"),
    ],
)
def test_bad_input_is_named(call, sentence):
    with pytest.raises(BadArgument, match=sentence):
        call(make())
