"""A small model runs on one thread, and everything else on as many as before."""

import threading
from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters

import minimoe
from minimoe import threads
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from tests.small import SIZES

SMALL = ModelConfig(**SIZES | dict(num_hidden_layers=2, mlp_only_layers=()))
IDS = [[1, 2, 3]]


@pytest.fixture(autouse=True)
def default_of_three(monkeypatch):
    """PyTorch as on a machine with three cores, where the reader has set nothing."""
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "DEFAULT", 3)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def watched(config=SMALL, training=False):
    """A random model, and the list of the thread numbers that its layers see."""
    torch.manual_seed(0)
    model, seen = Transformer(config).train(training), []
    for layer in model.layers:
        layer.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    return model, seen


@torch.no_grad()
def test_a_small_model_runs_on_one_thread_and_the_number_is_restored():
    model, seen = watched()
    model(IDS)
    assert seen == [1, 1] and torch.get_num_threads() == 3
    assert not model._forward_hooks and not model._forward_pre_hooks


@pytest.mark.parametrize(
    "config",
    [
        replace(SMALL, hidden_size=128, moe_intermediate_size=128),
        replace(SMALL, num_experts=0, num_experts_per_tok=0, moe_intermediate_size=0, intermediate_size=512),
    ],
    ids=["experts", "dense"],
)
@torch.no_grad()
def test_a_large_model_is_not_affected(config):
    model, seen = watched(config)
    model(IDS)
    assert seen == [3, 3]


def test_training_is_not_affected():
    model, seen = watched(training=True)
    model(IDS).sum().backward()
    assert seen == [3, 3]


def test_released_models_are_large_and_the_mini_is_small():
    assert threads.is_small(minimoe.load_model("data/mini").config)
    for name in ("Qwen3-235B-A22B", "Qwen3-30B-A3B"):
        assert not threads.is_small(ModelConfig.named(name))


@torch.no_grad()
def test_a_number_that_the_reader_has_set_is_kept(monkeypatch):
    model, seen = watched()
    torch.set_num_threads(2)
    model(IDS)
    assert seen == [2, 2] and torch.get_num_threads() == 2
    torch.set_num_threads(3)
    for name in threads.VARIABLES:
        monkeypatch.setenv(name, "3")
        model(IDS)
        monkeypatch.delenv(name)
    assert seen[2:] == [3] * 4


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_number_is_restored_after_an_error_and_an_interrupt(error):
    model, seen = watched()

    def fail(*_):
        raise error("in the middle")

    model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(error):
        model(IDS)
    assert seen == [1] and torch.get_num_threads() == 3


@torch.no_grad()
def test_a_pass_inside_a_pass():
    model, seen = watched()
    other, _ = watched()
    model.layers[0].register_forward_hook(lambda *_: print(other(IDS)))
    model.layers[1].register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    model(IDS)
    assert seen == [1, 1, 1] and torch.get_num_threads() == 3


@torch.no_grad()
def test_passes_in_several_threads_leave_the_number_as_it_was():
    model, _ = watched()
    numbers = []

    def run():
        torch.set_num_threads(3)  # a new thread may have begun inside a pass of another one
        for _ in range(20):
            model(IDS)
        numbers.append(torch.get_num_threads())

    workers = [threading.Thread(target=run) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert numbers == [3] * 4 and torch.get_num_threads() == 3


def test_generating_and_recording():
    model, tokenizer = minimoe.load("data/mini", dtype="fp32")
    seen = []
    model.layers[0].register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    with minimoe.record_routing(model, tokenizer):
        "".join(minimoe.generate(model, tokenizer, "The cat", max_new_tokens=3))
    assert len(seen) >= 3 and set(seen) == {1} and torch.get_num_threads() == 3


@torch.no_grad()
def test_the_logits_are_those_of_one_thread():
    model, _ = watched()
    ids = torch.arange(60)[None]
    ours = model(ids)
    torch.set_num_threads(1)
    assert torch.equal(ours, model(ids))


@torch.no_grad()
def test_a_compiled_model_is_divided_into_no_more_graphs():
    """torch.compile cannot trace a change of the number of threads."""
    results = []
    for forward in (Transformer.forward, Transformer.forward.__wrapped__):
        torch._dynamo.reset()
        counters.clear()
        torch.compile(forward, backend="eager")(Transformer(SMALL).eval(), torch.tensor(IDS))
        results.append((set(counters["graph_break"]), counters["stats"]["unique_graphs"]))
        assert counters["frames"]["ok"] == counters["frames"]["total"]
    torch._dynamo.reset()
    assert results[0] == results[1]
