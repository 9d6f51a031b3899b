"""The small runs: their parts, that they repeat, and that the recorded ones belong to the script's plans."""

from dataclasses import asdict, replace
from importlib.util import module_from_spec, spec_from_file_location

import pytest
import torch

from minimoe.errors import BadArgument
from minimoe.model.experts import swiglu
from minimoe.model.layer import MixtureOfExperts
from minimoe.model.router import Router
from minimoe.model.transformer import Transformer
from minimoe.paths import checkout
from minimoe.training.corpus.batches import GeneratedSource, read_tokenizer
from minimoe.training.small.plan import Plan
from minimoe.training.small.rows import DOMAINS, LENGTH, batch, held_out
from minimoe.training.small.run import LOG_EVERY, SmallRun, record_run
from minimoe.training.small.stored import dead_of, domain_information, final_loss, load_of, stored_runs
from minimoe.training.small.variants import BiasedRouter, WithSharedExpert, upcycled
from tests.training.test_loop import MINI

TINY = Plan(experts=8, width=16, steps=LOG_EVERY)


@pytest.fixture(scope="module")
def source() -> GeneratedSource:
    return GeneratedSource(read_tokenizer(MINI))


def script():  # type: ignore[no-untyped-def]
    """scripts/make_runs.py as a module."""
    spec = spec_from_file_location("make_runs", checkout() / "scripts" / "make_runs.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_bias_changes_the_choice_and_not_the_weights() -> None:
    torch.manual_seed(0)
    plain, biased, hidden = Router(TINY.config), BiasedRouter(TINY.config), torch.randn(9, 64)
    torch.nn.init.normal_(plain.weight, std=0.5)
    biased.weight = plain.weight
    for mine, theirs in zip(biased(hidden), plain(hidden), strict=True):
        torch.testing.assert_close(mine, theirs)
    biased.bias[3] = 2.0  # more than any probability
    routing = biased(hidden)
    assert (routing.experts[:, 0] == 3).all()
    probabilities = routing.logits.softmax(dim=-1).gather(-1, routing.experts)
    torch.testing.assert_close(routing.weights, probabilities / probabilities.sum(dim=-1, keepdim=True))


def test_a_shared_expert_is_added_for_every_token() -> None:
    torch.manual_seed(0)
    mixture = Transformer(TINY.config).layers[0].mlp
    assert isinstance(mixture, MixtureOfExperts)
    both, x = WithSharedExpert(mixture, TINY.config, width=24), torch.randn(2, 5, 64)
    shared = both.shared
    wanted = mixture(x) + swiglu(x, shared.gate_proj.weight, shared.up_proj.weight, shared.down_proj.weight)
    torch.testing.assert_close(both(x), wanted)
    assert {name.split(".")[0] for name, _ in both.named_parameters()} == {"gate", "experts", "shared"}


def test_copies_of_a_dense_model_compute_what_it_computes() -> None:
    torch.manual_seed(0)
    dense, ids = Transformer(replace(TINY, dense=True).config), torch.arange(20)[None]
    mixture = upcycled(dense, experts=4, top_k=3)
    torch.testing.assert_close(mixture(ids), dense(ids), rtol=1e-5, atol=1e-6)
    assert mixture.config.num_experts == 4 and not torch.equal(mixture.layers[0].mlp.gate.weight[0], torch.zeros(64))
    with pytest.raises(BadArgument, match="has 4 experts already"):
        upcycled(mixture, experts=4, top_k=2)


def test_batches_depend_on_seed_and_step_and_are_not_held_out(source: GeneratedSource) -> None:
    one = batch(source, 0, 3)
    assert one.shape == (8, LENGTH + 1) and torch.equal(one, batch(source, 0, 3))
    assert not torch.equal(one, batch(source, 0, 4)) and not torch.equal(one, batch(source, 1, 3))
    assert all(len(held_out(source, domain)) for domain in DOMAINS)


@pytest.mark.parametrize(
    "changes",
    [{}, {"dense": True}, {"bias_rate": 1e-3}, {"shared_width": 16}, {"scope": "row"}, {"scope": "pooled"},
     {"z_coefficient": 1e-3}],
    ids=str,
)  # fmt: skip
def test_every_recipe_learns_and_repeats(source: GeneratedSource, changes: dict) -> None:  # type: ignore[type-arg]
    found = []
    for _ in range(2):
        with SmallRun(replace(TINY, **changes), source) as run:
            found.append([run.advance()[0] for _ in range(3)])
    assert found[0] == found[1] and found[0][-1] < found[0][0]


def test_a_plan_of_an_unknown_scope_is_refused() -> None:
    with pytest.raises(BadArgument, match="scope is 'text', expected one of layer, pooled, row"):
        Plan(scope="text")


def test_the_recorded_runs_are_those_of_the_script() -> None:
    make_runs, stored = script(), stored_runs()
    assert set(stored) == {*make_runs.PLANS, *make_runs.UPCYCLING}
    for name, plan in make_runs.PLANS.items():
        assert stored[name]["plan"] == asdict(plan), name
        assert stored[name]["step"][-1] == plan.steps and len(stored[name]["load"]) == plan.steps // LOG_EVERY


def test_a_recorded_run_begins_as_it_does_here(source: GeneratedSource) -> None:
    """The loss of the first ten steps; the last digits depend on the processor."""
    with SmallRun(Plan(steps=LOG_EVERY), source) as run:
        again = record_run(run)
    recorded = stored_runs()["base"]
    assert again["loss"][0] == pytest.approx(recorded["loss"][0], abs=0.01)
    difference = (load_of(again)[0] - load_of(recorded)[0]).abs().max()
    assert float(difference) < 0.02


def test_what_is_computed_from_a_record() -> None:
    even, one = [[250, 250, 250, 250]], [[1000, 0, 0, 0]]
    record = {
        "load": [even, [[900, 60, 20, 20]]],
        "held_out": [{"step": 50, "en": 1.0, "zh": 2.0, "code": 3.0, "math": 4.0}],
        "counts": {"en": even, "zh": even, "code": even, "math": even},
    }
    assert dead_of(record).tolist() == [[0], [2]] and final_loss(record) == 2.5
    assert domain_information(record) == pytest.approx(0.0)
    record["counts"] = {domain: [[40 * (n == m) for m in range(4)]] for n, domain in enumerate(DOMAINS)}
    assert domain_information(record) == pytest.approx(2.0)
    record["counts"] = dict.fromkeys(DOMAINS, one)
    assert domain_information(record) == pytest.approx(0.0)
