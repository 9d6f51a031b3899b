"""Muon against the singular value decomposition and against one matrix at a time; who is trained by what."""

import pytest
import torch

from minimoe.model.transformer import Transformer
from minimoe.training.loop import Settings, make_optimizer
from minimoe.training.optimizer import Muon, is_inner_matrix, orthogonalise
from tests.training.test_loop import CONFIG


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (7, 7), (3, 4, 10), (3, 10, 4)])
def test_singular_values_are_near_one_and_singular_vectors_unchanged(shape: tuple[int, ...]) -> None:
    given = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalise(given)
    left, values, right = torch.linalg.svd(given, full_matrices=False)
    assert found.shape == given.shape
    turned = left.mT @ found @ right.mT  # in the given matrix's own directions: diagonal, near one
    diagonal = turned.diagonal(dim1=-2, dim2=-1)
    assert (turned - torch.diag_embed(diagonal)).abs().max() < 1e-3
    assert ((0.6 < diagonal) & (diagonal < 1.3))[values > 0.05 * values.amax(dim=-1, keepdim=True)].all()


def test_orthogonalise_equals_the_published_iteration() -> None:
    given = torch.randn(6, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = given / given.norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * (x @ x.T) @ x + 2.0315 * (x @ x.T) @ (x @ x.T) @ x
    torch.testing.assert_close(orthogonalise(given), x)


def test_stack_is_updated_like_single_matrices() -> None:
    generator = torch.Generator().manual_seed(2)
    values, gradients = (torch.randn(4, 6, 9, generator=generator) for _ in range(2))
    stack = torch.nn.Parameter(values.clone())
    singles = [torch.nn.Parameter(value.clone()) for value in values]
    together = Muon([stack], lr=0.1, momentum=0.9, weight_decay=0.05)
    alone = Muon(singles, lr=0.1, momentum=0.9, weight_decay=0.05)
    for scale in (1.0, -0.5, 2.0):
        stack.grad = gradients * scale
        for single, gradient in zip(singles, gradients, strict=True):
            single.grad = gradient * scale
        together.step()
        alone.step()
    torch.testing.assert_close(stack, torch.stack(tuple(singles)))


def test_zero_and_missing_gradients_change_nothing() -> None:
    still, absent = (torch.nn.Parameter(torch.ones(3, 4)) for _ in range(2))
    still.grad = torch.zeros(3, 4)
    Muon([still, absent], lr=0.1, momentum=0.9, weight_decay=0.0).step()
    assert torch.equal(still, torch.ones(3, 4)) and torch.equal(absent, torch.ones(3, 4))


def test_each_parameter_has_one_optimizer() -> None:
    model = Transformer(CONFIG)
    muon, adamw = make_optimizer(model, Settings()).members
    owned = [{id(p) for group in member.param_groups for p in group["params"]} for member in (muon, adamw)]
    assert not owned[0] & owned[1] and owned[0] | owned[1] == {id(p) for p in model.parameters()}
    names = {name for name, p in model.named_parameters() if id(p) in owned[0]}
    assert names == {name for name, p in model.named_parameters() if is_inner_matrix(name, p)}
    assert all("_proj" in name for name in names)
    assert {name for name, _ in model.named_parameters() if "_proj" in name} == names


@pytest.mark.parametrize("fused", [True, False])
def test_the_step_counter_is_restored_where_adamw_keeps_it(fused: bool) -> None:
    """Fused AdamW on a GPU refuses a counter on the CPU. The device "meta" stands for one here."""
    with torch.device("meta"):
        model = Transformer(CONFIG)
    optimizer = make_optimizer(model, Settings())
    optimizer.fused = fused
    parameter = model.embed_tokens.weight
    optimizer.restore(parameter, {"step": torch.tensor(3.0), "exp_avg": torch.zeros(parameter.shape)})
    state = optimizer.state_of(parameter)
    assert state["exp_avg"].device.type == "meta"
    assert state["step"].device.type == ("meta" if fused else "cpu")
