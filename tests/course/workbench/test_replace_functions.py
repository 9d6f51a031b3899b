"""The workbench runs a function inside one model, tells what changed, and leaves no trace."""

import gc
import weakref

import pytest
import torch
from torch.nn import functional as F
from torch.nn.modules import module as torch_module

import minimoe
from minimoe.course.workbench.replace_functions import CALLERS, library_block
from minimoe.course.workbench.run_diff import flips, largest
from minimoe.errors import BadArgument
from minimoe.model import attention, experts, layer, norm, router
from minimoe.text import generate

LIBRARY = {
    "embed": F.embedding,
    "block": library_block,
    "rms_norm": norm.rms_norm,
    "apply_rope": attention.apply_rope,
    "attend": attention.attend,
    "swiglu": experts.swiglu,
    "route": router.route,
    "run_experts": experts.run_experts,
    "sample": generate.sample,
}
PLACES = [(norm, "rms_norm"), (attention, "apply_rope"), (attention, "attend"), (experts, "swiglu"), (layer, "swiglu"),
          (router, "route"), (experts, "run_experts"), (generate, "sample")]  # fmt: skip
MODEL_PARTS = [part for part in LIBRARY if part != "sample"]
IDS = torch.arange(22).reshape(2, 11) % 29


def small(seed=0, **changes):
    settings = dict(
        model_type="qwen3_moe", vocab_size=29, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, intermediate_size=20, moe_intermediate_size=12, num_experts=10,
        num_experts_per_tok=3, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[1], rms_norm_eps=1e-6,
        rope_theta=1e4, max_position_embeddings=64, tie_word_embeddings=False, initializer_range=0.5, hidden_act="silu",
    )  # fmt: skip
    torch.manual_seed(seed)
    return minimoe.Transformer(minimoe.ModelConfig.from_dict(settings | changes))


@pytest.fixture
def model():
    return small()


@pytest.fixture(autouse=True)
def no_trace():
    """Whatever a test does: afterwards every name means the library's function and no hook is left."""
    before = len(torch_module._global_forward_pre_hooks)
    yield
    assert all(getattr(place, part) is LIBRARY[part] for place, part in PLACES)
    assert len(torch_module._global_forward_pre_hooks) == before


def counting(function):
    """The library's function, and a list that grows with every call."""
    calls = []

    def mine(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    return mine, calls


def test_every_part_is_known_where_it_is_looked_up():
    assert {part: set(names) for part, names in CALLERS.items()} == {
        part: {place.__name__ for place, name in PLACES if name == part} for part in LIBRARY
    }


@pytest.mark.parametrize("part", MODEL_PARTS)
def test_the_librarys_own_function_changes_nothing_and_is_called(model, part):
    mine, calls = counting(LIBRARY[part])
    with minimoe.workbench(model, **{part: mine}) as bench:
        comparison = bench.compare(IDS)
    assert comparison.same and comparison.logit_difference == 0 and max(comparison.hidden_difference) == 0
    per_pass = {"embed": 1, "block": 3, "rms_norm": 13, "apply_rope": 6, "attend": 3, "route": 2, "run_experts": 2}
    assert len(calls) == per_pass[part] if part in per_pass else len(calls) > 3
    assert f"Your {part} just ran inside a Qwen3" in comparison.alt and comparison.same
    assert "132 of 132 expert choices are identical" in comparison.alt and comparison.first_parting is None


def test_a_wrong_router_shows_where_choices_flip(model):
    def reversed_route(logits, top_k, renormalise):
        return router.Routing(logits, *router.route(-logits, top_k, renormalise)[1:])

    with minimoe.workbench(model, route=reversed_route) as bench:
        comparison = bench.compare(IDS)
    assert comparison.layers == (0, 1, 2) and set(comparison.flipped) == {0, 2} and comparison.choices == 66
    assert comparison.flipped[0] > 60 and comparison.hidden_difference[0] > 0.01 and not comparison.same
    assert "the runs differ" in comparison.alt and f"layer 0: {comparison.flipped[0]}" in comparison.alt
    assert "The runs part in layer 0." in comparison.alt


def test_differences_by_layer(model):
    """Without renormalising the first choices cannot flip, but what the layer gives can differ, and then later ones."""
    model.requires_grad_(False)
    before = model(IDS)
    with minimoe.workbench(model, route=lambda logits, k, _: router.route(logits, k, False)) as bench:
        comparison = bench.compare(IDS)
        inside = model(IDS)
    assert comparison.flipped[0] == 0 and comparison.flipped[2] > 0
    assert "The hidden states differ from layer 0 on, the choices from layer 2 on." in comparison.alt
    assert comparison.figure.layout.title.text.replace("<br>", " ").partition("<span")[0].strip().endswith(
        f"{comparison.flipped[2]} of 132 expert choices differ"
    )
    assert comparison.logit_difference == pytest.approx(float((inside - before).abs().max()))
    assert torch.equal(model(IDS), before)


def test_picture_has_title_axes_and_text_alternative(model):
    with minimoe.workbench(model, route=router.route) as bench:
        comparison = bench.compare(IDS)
    figure = comparison.figure
    assert "all 132 expert choices are identical" in figure.layout.title.text.replace("<br>", " ")
    assert figure.layout.xaxis.title.text == "expert number within its layer"
    assert [label.strip() for label in figure.layout.yaxis.ticktext] == ["layer 0", "layer 1", "layer 2"]
    written = [note.text for note in figure.layout.annotations]
    assert written.count("66 of 66") == 2 and written.count("less than 0.00001") == 3
    shown = {
        layer: [sum(filter(None, row)) for row in (figure.data[1].z[layer], figure.data[2].z[layer])]
        for layer in (0, 2)
    }
    assert shown == {0: [66, 0], 2: [66, 0]}  # every choice is drawn, and none as different
    bundle = comparison._repr_mimebundle_()
    assert bundle["text/plain"] == comparison.alt == repr(comparison)


def test_a_block_is_all_of_a_layer_and_leaves_no_trace(model):
    """The reader's block gets the layer's four parts, also with a KV cache; afterwards each layer is as before."""
    cache, expected = model.new_cache(batch=2), model(IDS)
    with minimoe.workbench(model, block=lambda x, *parts: library_block(x, *parts)):
        first, rest = model(IDS[:, :7], cache=cache), model(IDS[:, 7:], cache=cache)
        assert torch.allclose(torch.cat((first, rest), dim=1), expected, atol=1e-4)
    with minimoe.workbench(model, block=lambda x, *parts: x):
        assert not torch.allclose(model(IDS), expected, atol=1e-2)
    assert not any("forward" in vars(each) for each in model.layers)
    assert torch.equal(model(IDS), expected)


@pytest.mark.parametrize("answer", [..., None, lambda *args: ...], ids=["ellipsis", "None", "returns a gap"])
@pytest.mark.parametrize("part", MODEL_PARTS)
def test_unwritten_part_is_todo_and_changes_nothing(model, part, answer, capsys):
    before = model(IDS)
    with minimoe.workbench(model, **{part: answer}) as bench:
        comparison = bench.compare(IDS)
        assert torch.equal(model(IDS), before) or part in ("attend", "swiglu")  # these ask for another implementation
    assert comparison.todo == (part,) and comparison.same and comparison.alt.startswith(f"todo: {part}.")
    assert capsys.readouterr().out.count(f"todo: {part} is not written yet") == 1


def test_not_implemented_in_the_middle_of_a_function_is_todo_too(model, capsys):
    def half_done(x, weight, eps):
        x.float()
        raise NotImplementedError

    with minimoe.workbench(model, rms_norm=half_done, route=router.route) as bench:
        comparison = bench.compare(IDS)
    assert bench.todo == ["rms_norm"] and comparison.same and "Your route just ran" in comparison.alt


def test_another_model_is_not_touched(model):
    other = small(seed=1)
    before = other(IDS)
    mine, calls = counting(router.route)
    with minimoe.workbench(model, route=mine):
        assert torch.equal(other(IDS), before) and not calls
        model(IDS)
        assert calls and router.route is LIBRARY["route"]
        with minimoe.workbench(other, route=lambda logits, k, _: router.route(-logits, k, False)):
            assert not torch.equal(other(IDS), before)
    assert torch.equal(other(IDS), before)


def test_error_in_the_function_shows_the_readers_line(model):
    def broken(x, cos, sin):
        return x * cos + undefined_name  # noqa: F821

    before = model(IDS)
    with pytest.raises(BadArgument, match="apply_rope: your function raised") as caught:
        with minimoe.workbench(model, apply_rope=broken):
            model(IDS)
    assert "return x * cos + undefined_name" in str(caught.value) and "does not exist" in str(caught.value)
    assert torch.equal(model(IDS), before)


def test_library_is_restored_after_a_failed_forward(model):
    def broken(x, cos, sin):
        raise ValueError

    with minimoe.workbench(model, apply_rope=broken):
        with pytest.raises(BadArgument):
            model(IDS)
        assert attention.apply_rope is LIBRARY["apply_rope"]


def test_library_is_restored_after_a_keyboard_interrupt(model):
    def interrupted(x, cos, sin):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), minimoe.workbench(model, apply_rope=interrupted):
        model(IDS)
    with minimoe.workbench(model, apply_rope=attention.apply_rope) as bench:
        assert bench.compare(IDS).same


def test_an_error_in_the_block_restores_engine_and_attention(model):
    model.engine, model.attention = "gather", "sdpa"
    with (
        pytest.raises(RuntimeError, match="mine"),
        minimoe.workbench(model, swiglu=experts.swiglu, attend=attention.attend),
    ):
        assert (model.engine, model.attention) == ("loop", "eager")
        raise RuntimeError("mine")
    assert (model.engine, model.attention) == ("gather", "sdpa")


@pytest.mark.parametrize(
    ("part", "mine", "says"),
    [
        ("apply_rope", lambda x, cos, sin: x[..., :-1], r"returned a tensor \(2, 4, 11, 7\).*\(2, 4, 11, 8\)"),
        ("rms_norm", lambda x, weight, eps: x.double(), "float64, expected a tensor"),
        ("route", lambda logits, k, renormalise: logits, r"expected Routing\("),
        ("route", lambda logits, k, r: (logits, logits, logits), r"experts as a tensor \(22, 10\).*= \(22, 3\)"),
        ("run_experts", lambda x, routing, bank: x.tolist(), "returned a list"),
    ],
)
def test_result_of_the_wrong_form_is_rejected(model, part, mine, says):
    with pytest.raises(BadArgument, match=says), minimoe.workbench(model, **{part: mine}) as bench:
        bench.compare(IDS)


def test_plain_tuple_is_accepted_as_routing(model):
    with minimoe.workbench(model, route=lambda *args: tuple(router.route(*args))) as bench:
        assert bench.compare(IDS).same


@pytest.mark.parametrize(
    ("parts", "says"),
    [({"rope": len}, "no part 'rope'.*apply_rope"), ({}, "given no part"), ({"route": 3}, "route is int")],
)
def test_invalid_parts_are_rejected(model, parts, says):
    with pytest.raises(BadArgument, match=says), minimoe.workbench(model, **parts):
        pass


def test_one_workbench_per_model(model):
    with pytest.raises(BadArgument, match=r"expected a minimoe\.Transformer"), minimoe.workbench("mini", route=len):
        pass
    with minimoe.workbench(model, route=router.route):
        with pytest.raises(BadArgument, match="on a workbench already"), minimoe.workbench(model, route=router.route):
            pass


def test_a_text_needs_its_tokenizer(model):
    with minimoe.workbench(model, route=router.route) as bench, pytest.raises(BadArgument, match="without a tokenizer"):
        bench.compare("The cat")


def test_sample_is_replaced_for_this_model_only(model):
    drawn = []

    def first_id(logits, temperature=1.0, **settings):
        drawn.append(logits.shape)
        return torch.zeros(logits.shape[:-1], dtype=torch.int64)

    other = small(seed=1)
    with minimoe.workbench(model, sample=first_id):
        model(IDS)
        assert generate.sample is not LIBRARY["sample"]
        other(IDS)
        assert generate.sample is LIBRARY["sample"]  # the draw after another model's forward is not ours
        model(IDS)
        assert int(generate.sample(torch.arange(5.0), 0)) == 0 and int(generate.sample(torch.arange(5.0), 0)) == 4
    assert len(drawn) == 1


def test_recording_sees_the_readers_router(model):
    with minimoe.workbench(model, route=lambda logits, k, r: router.route(-logits, k, r)):
        with minimoe.record_routing(model) as trace:
            model(IDS)
    assert len(trace) == 22


def test_the_bench_does_not_keep_the_model_alive():
    model = small()
    with minimoe.workbench(model, route=router.route) as bench:
        bench.compare(IDS)
    here = weakref.ref(model)
    del model, bench
    gc.collect()
    assert here() is None


def test_compare_rejects_sample(model):
    with minimoe.workbench(model, sample=generate.sample) as bench, pytest.raises(BadArgument, match="call generate"):
        bench.compare(IDS)


def test_unused_part_is_reported(capsys):
    dense = small(model_type="qwen3")
    with minimoe.workbench(dense, route=router.route, apply_rope=...) as bench:
        comparison = bench.compare(IDS)
    assert comparison.alt == "This model never called route, so nothing changed." and comparison.flipped == {}
    assert comparison.figure.layout.xaxis.title.text == "token, in order"


def test_flips_ignore_the_order_of_slots():
    theirs = torch.tensor([[3, 1, 2], [5, 6, 7]])
    assert flips(theirs, torch.tensor([[2, 3, 1], [7, 6, 4]])) == 1
    assert flips(theirs, torch.tensor([[5, 6, 7], [3, 1, 2]])) == 6


def test_nan_counts_as_an_infinite_difference():
    assert largest(torch.zeros(2), torch.tensor([0.0, torch.nan])) == torch.inf


def test_an_embedding_of_the_wrong_shape_is_refused_and_no_hook_stays(model):
    with pytest.raises(BadArgument, match=r"embed: called with .*expected a tensor \(2, 11, 24\)"):
        with minimoe.workbench(model, embed=lambda token_ids, weight: weight[token_ids][..., :5]) as bench:
            bench.compare(IDS)
    assert not model.embed_tokens._forward_hooks


def test_another_embedding_is_another_model(model):
    with minimoe.workbench(model, embed=lambda token_ids, weight: weight[(token_ids + 1) % len(weight)]) as bench:
        comparison = bench.compare(IDS)
    assert not comparison.same and comparison.first_parting == 0
