"""The live run of chapter 11 without a browser, and the reader's own loss in a run."""

import time

import torch

from minimoe.course.figures.ch11_live import LiveRun, compare_balance
from minimoe.training.losses import load_balancing_loss
from minimoe.training.small.plan import Plan


def title(live):
    """The title of the picture that is shown."""
    drawing = live.screen.outputs[0]["data"]["application/vnd.plotly.v1+json"]
    return drawing["layout"]["title"]["text"].replace("<br>", " ")


def test_a_live_run_trains_draws_and_can_be_switched_and_stopped():
    live = LiveRun(Plan(experts=8, width=16, coefficient=0.0), seconds=60, steps=30)
    assert "Step 400" in title(live)
    live.switch.value = True
    live.start()
    live.thread.join(60)
    assert "Step 30:" in title(live) and "The balancing loss is on" in title(live)
    assert len(live.losses) == 3 and live.losses[-1] < live.losses[0] and live.bar.value == 30
    assert live.error is None and not live.start_button.disabled and live.stop_button.disabled
    live.steps = 10_000
    live.start()
    while live.bar.value == 30 or not live.losses:
        time.sleep(0.01)
    live.stop()
    live.thread.join(60)
    assert live.bar.value < 10_000 and live.error is None


def test_an_error_ends_the_run_and_is_shown(monkeypatch):
    live = LiveRun(steps=10)
    monkeypatch.setattr("minimoe.course.figures.ch11_live.SmallRun", None)
    live.start()
    live.thread.join(10)
    assert isinstance(live.error, TypeError) and live.bar.description == "TypeError"
    assert not live.start_button.disabled


def test_a_readers_loss_is_compared_in_a_run():
    assert "todo" in compare_balance(lambda logits, top_k: ..., steps=2)
    assert "todo" in compare_balance(lambda logits, top_k: None, steps=2)
    right = compare_balance(lambda logits, top_k: load_balancing_loss([logits], top_k), steps=3)
    assert right.rows["yours"][-1] == "0.000"
    wrong = compare_balance(lambda logits, top_k: logits.square().sum() * 10 + torch.zeros(()), steps=4)
    assert float(wrong.rows["yours"][-1]) > 0
