"""Ablations against a forward pass written by hand, token by token; and the model afterwards is the model before."""

import copy
import json

import pytest
import torch
from torch.nn import functional as F

import minimoe
from minimoe.errors import BadArgument
from minimoe.model.attention import causal_mask
from minimoe.model.experts import swiglu
from minimoe.model.rope import rotary_tables
from minimoe.routing.ablation.ablate import ablate, ablated, ablation_sweep
from minimoe.routing.ablation.intervention import MODES
from minimoe.routing.trace.trace import record_routing
from tests.routing.conftest import small_model


def documents(*lengths, seed=3):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 60, (length,), generator=draw) for length in lengths]


def decide(logits, slots, renormalise, experts, mode):
    """{expert: weight} of one token, by the words of the modes."""
    logits = logits.clone()
    if mode == "mask":
        logits[list(experts)] = -torch.inf
    shares = logits.softmax(0)
    ranked = sorted(range(len(shares)), key=lambda expert: -float(shares[expert]))
    first = list(experts) if mode == "force" else []
    chosen = first + [expert for expert in ranked if expert not in first][: slots - len(first)]
    weights = {expert: shares[expert] for expert in chosen}
    if renormalise:
        total = sum(weights.values())
        weights = {expert: weight / total for expert, weight in weights.items()}
    if mode.startswith("drop"):
        before = sum(weights.values())
        weights = {expert: weight for expert, weight in weights.items() if expert not in experts}
        if mode == "drop_renormalise" and weights:
            after = sum(weights.values())
            weights = {expert: weight * before / after for expert, weight in weights.items()}
    return weights


@torch.no_grad()
def by_hand(model, ids, layer, experts, mode, top_k=None, everywhere=False):
    """(token - 1, vocab) log-probabilities of the next tokens of one document."""
    config, x = model.config, model.embed_tokens.weight[ids]
    cos, sin = rotary_tables(config, 0, len(ids), x.dtype, x.device)
    for number in range(config.num_hidden_layers):
        block = model.layers[number]
        mask = causal_mask(len(ids), len(ids), x.device) if model.attention == "eager" else None
        x = x + block.self_attn(block.input_layernorm(x[None]), cos, sin, mask)[0]
        h = block.post_attention_layernorm(x)
        if not config.is_moe(number):
            x = x + block.mlp(h[None])[0]
            continue
        here, bank, answer = number == layer, block.mlp.experts, torch.zeros_like(x)
        slots = top_k if top_k and (here or everywhere) else config.num_experts_per_tok
        for token in range(len(ids)):
            logits = block.mlp.gate.weight @ h[token]
            chosen = decide(logits, slots, config.norm_topk_prob, experts if here else (), mode)
            for expert, weight in chosen.items():
                answer[token] += weight * swiglu(
                    h[token], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert]
                )
        x = x + answer
    return model.lm_head(model.norm(x))[:-1].log_softmax(-1)


def losses_by_hand(model, texts, *args, **kwargs):
    pieces = []
    for ids in texts:
        losses = F.nll_loss(by_hand(model, ids, *args, **kwargs), ids[1:], reduction="none")
        pieces.append(F.pad(losses, (0, 1), value=torch.nan))
    return torch.cat(pieces)


def same(found, expected, tolerance=1e-9):
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0, equal_nan=True)


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_equals_its_definition(mode, renormalise):
    model, texts = small_model(dtype=torch.float64, norm_topk_prob=renormalise), documents(9, 14, 14, 3)
    for layer, experts in ((0, [5]), (2, [3, 7]), (3, [0])):
        found = ablate(model, texts, layer, experts, mode, controls=0)
        same(found.losses, losses_by_hand(model, texts, layer, (), mode))
        same(found.changed_losses, losses_by_hand(model, texts, layer, experts, mode))
        assert any("does not renormalise" in note for note in found.notes) == (mode == "mask" and not renormalise)
        assert found.per_token.nan_to_num().abs().max() > 1e-4  # the change is one


@pytest.mark.parametrize("top_k", range(1, 17))
def test_other_top_k_is_applied_and_noted(top_k):
    model, texts = small_model(dtype=torch.float64), documents(8)
    for everywhere in (False, True):
        found = ablate(model, texts, 2, [], top_k=top_k, everywhere=everywhere)
        expected = losses_by_hand(model, texts, 2, (), "mask", top_k, everywhere)
        same(found.changed_losses, expected)
        assert any("trained with 4" in note for note in found.notes) == (top_k != 4)
        assert found.affected.all() == (top_k != 4)


def test_top_k_and_experts_combined():
    model, texts = small_model(dtype=torch.float64), documents(11, 6)
    found = ablate(model, texts, 2, [4], "force", top_k=2, everywhere=True, controls=3)
    same(found.changed_losses, losses_by_hand(model, texts, 2, [4], "force", 2, True))
    assert [entry["layer"] for entry in found.overlap_by_layer] == [0, 2, 3]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("engine", ["loop", "gather", "grouped", "auto"])
def test_ablation_with_every_engine_and_attention(engine, attention):
    model, texts = small_model(), documents(9, 12)
    model.engine, model.attention = engine, attention
    for mode in MODES:
        found = ablate(model, texts, 2, [3], mode, controls=0)
        same(found.changed_losses, losses_by_hand(model, texts, 2, [3], mode), 2e-4)
    assert (model.engine, model.attention) == (engine, attention)


def test_drop_equals_a_zero_down_projection():
    model, texts = small_model(dtype=torch.float64), documents(10, 10)
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        zeroed.layers[2].mlp.experts.down_proj[6] = 0
    batch = torch.stack(texts)
    with torch.no_grad(), ablated(model, 2, [6], "drop"):
        same(model(batch), zeroed(batch))


def test_results_follow_from_the_losses_of_both_runs():
    model, texts = small_model(dtype=torch.float64), documents(12, 7, 15)
    found = ablate(model, texts, 0, [2, 9], controls=0)
    with record_routing(model) as before:
        for ids in texts:
            model(ids[None])
    with record_routing(model) as after, torch.no_grad():
        for ids in texts:
            with ablated(model, 0, [2, 9]):
                model(ids[None])
    selects = [bool({2, 9} & set(row)) for row in before.experts[0].tolist()]
    assert found.affected.tolist() == selects and found.load == sum(selects)
    kl = []
    for ids in texts:
        p, q = by_hand(model, ids, 0, (), "mask"), by_hand(model, ids, 0, (2, 9), "mask")
        kl.append(F.pad((p.exp() * (p - q)).sum(-1), (0, 1), value=torch.nan))
    same(found.kl.double(), torch.cat(kl), 1e-6)
    counted = found.losses.isfinite()
    assert found.delta_loss["all"].value == pytest.approx(float(found.per_token[counted].mean()))
    assert found.delta_loss["affected"].value == pytest.approx(float(found.per_token[counted & found.affected].mean()))
    assert found.delta_loss["all"].n == 12 + 7 + 15 - 3
    for row, entry in enumerate(found.overlap_by_layer, start=1):
        pairs = zip(before.experts[row].tolist(), after.experts[row].tolist(), strict=True)
        shares = [len(set(old) & set(new)) / 4 for old, new in pairs]
        assert entry["all"] == pytest.approx(sum(shares) / len(shares), abs=1e-6)
        assert entry["chance"] == 4 / 16


def test_controls_have_a_similar_load_and_too_few_are_noted():
    model, texts = small_model(), documents(40, 30, 50)
    found = ablate(model, texts, 2, [3], seed=5)
    assert {control.experts for control in found.controls}.isdisjoint({(3,)})
    assert len({control.experts for control in found.controls}) == len(found.controls) <= 15
    for control in found.controls:
        assert found.load / 2 <= control.load <= found.load * 2
        one = ablate(model, texts, 2, control.experts, controls=0)
        assert control.delta_loss == pytest.approx(one.delta_loss["all"].value, abs=1e-9)
    assert any(f"{len(found.controls)} controls, fewer than 20" in note for note in found.notes)
    worse = sum(control.delta_loss >= found.delta_loss["all"].value for control in found.controls)
    assert found.rank == 1 + worse


def test_same_seed_same_result():
    model, texts = small_model(), documents(20, 30)
    first, again, other = (ablate(model, texts, 2, [3, 4], controls=6, seed=seed) for seed in (1, 1, 2))
    assert {**first.to_json(), "seconds": 0} == {**again.to_json(), "seconds": 0}
    assert [c.experts for c in first.controls] != [c.experts for c in other.controls]
    assert torch.equal(first.changed_losses.nan_to_num(), other.changed_losses.nan_to_num())


def test_json_is_complete_and_without_nan():
    found = ablate(small_model(), documents(6), 3, [1], controls=2).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["per_token"][-1] is None and len(found["per_token"]) == 6
    assert found["delta_loss"]["all"]["low"] is None  # one document has no interval
    assert found["overlap_by_layer"] == [] and found["rank"]["of"] == 3


def snapshot(model):
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()]
    slots = [layer.mlp.gate.top_k for layer in model.layers if hasattr(layer.mlp, "gate")]
    return weights, hooks, slots, model.engine, model.attention


@pytest.mark.parametrize("raised", [None, RuntimeError("no memory"), KeyboardInterrupt()])
def test_model_is_restored_after_any_exception(model, ids, monkeypatch, raised):
    weights, *rest = snapshot(model)
    logits, in_place = model(ids), []
    attention = model.layers[3].self_attn
    forward = attention.forward

    def stops(*args):
        in_place.append(len(model.layers[3].mlp.gate._forward_hooks))
        if len(in_place) > 1:  # the first run is that of the model as it is
            raise raised
        return forward(*args)

    if raised is not None:
        monkeypatch.setattr(attention, "forward", stops)
        with pytest.raises(type(raised)):
            ablate(model, ids, 2, [3], "force", top_k=7, everywhere=True, controls=2)
        assert in_place == [1, 2]  # it stopped while the change was in place
        monkeypatch.undo()
    else:
        ablate(model, ids, 2, [3], "force", top_k=7, everywhere=True, controls=2)
    after, *rest_after = snapshot(model)
    assert rest_after == rest and all(torch.equal(weights[name], after[name]) for name in weights)
    assert torch.equal(model(ids), logits)


def test_model_parameters_and_hooks_are_unchanged(model, ids):
    twin, cache, untouched = small_model(), model.new_cache(capacity=64), model.new_cache(capacity=64)
    model(ids, cache=cache)
    model(ids, cache=untouched)
    expected = model(ids, cache=untouched)
    with record_routing(model) as trace:
        ablate(model, ids, 2, [3], controls=3)
    assert len(trace) == 0 and cache.length == ids.shape[1]
    assert torch.equal(model(ids, cache=cache), expected)
    before = twin(ids)
    with ablated(model, 2, [3]):
        assert torch.equal(twin(ids), before)
        assert not torch.equal(model(ids), before)


def test_no_affected_token_gives_zero_and_a_note():
    model, texts = small_model(), documents(3)
    with record_routing(model) as trace:
        model(texts[0][None])
    unused = next(e for e in range(16) if e not in trace.experts[0].flatten().tolist())
    found = ablate(model, texts, 0, [unused])
    assert found.delta_loss["all"].value == 0 and found.to_json()["delta_loss"]["affected"]["mean"] is None
    assert any("No affected token has a next token" in note for note in found.notes)


def test_sweep_equals_single_ablations():
    model, texts = small_model(), documents(12, 9)
    sweep = ablation_sweep(model, texts, 2, mode="drop", progress=False)
    for expert in (0, 7, 15):
        one = ablate(model, texts, 2, [expert], "drop", controls=0)
        mean = one.delta_loss["all"]
        found = [float(part[expert]) for part in (sweep.delta_loss, sweep.low, sweep.high)]
        assert found == pytest.approx([mean.value, mean.low, mean.high], abs=1e-6)
        assert sweep.load[expert] == one.load


BAD = [
    (dict(layer=1), "layer is 1"),  # dense
    (dict(layer=4), "layer is 4"),
    (dict(layer="2"), "layer is '2'"),
    (dict(experts=[16]), "experts contains 16"),
    (dict(experts=[True]), "experts contains True"),
    (dict(experts=3), "experts is 3"),
    (dict(experts=[3, 3]), "no duplicates"),
    (dict(experts=[]), "nothing would change"),
    (dict(experts=range(13)), "leaves fewer than 4"),
    (dict(experts=range(5), mode="force"), "has 4 slots"),
    (dict(mode="off"), "mode is 'off'"),
    (dict(top_k=0), "top_k is 0"),
    (dict(top_k=17), "top_k is 17"),
    (dict(everywhere=1), "everywhere is 1"),
    (dict(controls=-1), "controls is -1"),
    (dict(seed=None), "seed is None"),
    (dict(documents=[]), "documents is empty"),
    (dict(documents=torch.tensor(3)), "documents is Tensor"),
    (dict(documents=[[1, 2], [5]]), "document 1 has 1 tokens"),
    (dict(documents=[[1, 99]]), "document 0 contains token ids"),
    (dict(documents=[[1.5, 2.0]]), "document 0 is list"),
    (dict(documents=["The cat"]), "document 0 is a text"),
    (dict(prompt="The cat"), "prompt is a text"),
    (dict(model=3), "model is int"),
    (dict(model=small_model(layers=range(0, 3))), "holds only layers"),
    (dict(model=small_model(mlp_only_layers=(0, 1, 2, 3))), "no router"),
]


@pytest.mark.parametrize("wrong, message", BAD, ids=[message for _, message in BAD])
def test_bad_ablation_arguments(model, wrong, message):
    arguments = dict(model=model, documents=[[1, 2, 3]], layer=2, experts=[3]) | wrong
    with pytest.raises(BadArgument, match=message):
        ablate(**arguments)


def test_mini_continues_a_prompt_with_and_without_the_change():
    model, tokenizer = minimoe.load("data/mini", dtype=torch.float32)
    text = "The cat is bigger than the mouse."
    found = ablate(model, [text], 0, range(100), "drop", controls=0, tokenizer=tokenizer, prompt="The cat")
    assert found.text["before"] == "".join(
        minimoe.generate(model, tokenizer, "The cat", max_new_tokens=40, temperature=0.0)
    )
    assert found.text["before"] != found.text["after"] and found.per_token[:-1].abs().max() > 0.1
    ids = torch.tensor([tokenizer.encode(text)])
    expected = F.cross_entropy(model(ids)[0, :-1], ids[0, 1:], reduction="none")
    same(found.losses[:-1], expected.detach(), 1e-5)
