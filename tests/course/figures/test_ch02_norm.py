"""The figures of chapter 02 measure what they are given."""

import torch

from minimoe.course.figures.ch02_norm import experts, explore_norm, stream_curves
from minimoe.model.norm import rms_norm


def test_the_stream_has_its_least_middle_and_largest_token():
    sizes = {"embed": torch.tensor([1.0, 2.0, 3.0]), "layer 0": torch.tensor([10.0, 20.0, 30.0])}
    picture = stream_curves(sizes, "grows", "mini")
    assert {trace.name: list(trace.y) for trace in picture.figure.data} == {
        "largest": [3.0, 30.0], "middle": [2.0, 20.0], "least": [1.0, 10.0],
    }  # fmt: skip
    assert "embed: 2, layer 0: 20" in picture.alt


def test_experts_of_a_vector_that_is_not_finite_are_none():
    gate = torch.eye(4)
    assert experts(torch.tensor([4.0, 3.0, 2.0, 1.0]), gate, 2) == {0, 1}
    assert experts(torch.tensor([torch.inf, 0, 0, 0]) * 0, gate, 2) == set()


def test_the_widget_counts_the_experts_that_stay():
    generator = torch.Generator().manual_seed(0)
    hidden, gate = torch.randn(16, generator=generator), torch.randn(12, 16, generator=generator)
    norms = {"RMSNorm": rms_norm, "zero": lambda x, weight, eps: x * torch.nan}
    controls, screen = explore_norm(hidden, torch.ones(16), 1e-6, gate, 4, norms, "random").children
    scale, norm, weighted, dtype = controls.children

    def shown():
        return screen.outputs[0]["data"]["text/plain"].replace("<br>", " ")

    assert shown().startswith("4 of 4 experts stay: RMSNorm, times 1.")
    scale.value = 1000.0
    assert shown().startswith("4 of 4 experts stay: RMSNorm, times 1e+03")
    dtype.value = "float16"
    assert "4 of 4" in shown()
    norm.value = "zero"
    assert shown().startswith("0 of 4 experts stay: zero")
