"""The exceptions that readers meet are explained by what they mean, and a forgotten return is named."""

import einops
import pytest
import torch

from minimoe.course.checker.check import judge
from minimoe.course.checker.exception_meanings import meaning_of
from tests.course.checker.test_explanations import exercise

x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
parameter = torch.nn.Parameter(torch.zeros(3))


def unpack_two():
    return [one + other for one, other in [(1, 2, 3)]]


def no_name():
    return logitz  # noqa: F821


MISTAKES = {
    "lengths": (lambda: x + torch.zeros(4, 6), "do not have the same length"),
    "matrix product": (lambda: x @ x, "inner axes"),
    "view": (lambda: x.T.view(18), "einops.rearrange"),
    "reshape": (lambda: x.reshape(4, 5), "as many values"),
    "cat": (lambda: torch.cat([x, x.T]), "torch.cat"),
    "stack": (lambda: torch.stack([x, x.T]), "torch.stack"),
    "double": (lambda: x @ torch.zeros(6, 2, dtype=torch.float64), "different dtype"),
    "mean of integers": (lambda: x.long().mean(), ".float()"),
    "softmax of integers": (lambda: x.long().softmax(-1), ".float()"),
    "gather with one axis": (lambda: x.gather(1, torch.arange(3)), "as many axes"),
    "index with floats": (lambda: x[torch.tensor([0.0])], ".long()"),
    "mask": (lambda: x[torch.ones(4, 6).bool()], "mask"),
    "masked_fill": (lambda: x.masked_fill(x, 0.0), "bools"),
    "parameter in place": (lambda: parameter.add_(1), "in place"),
    "numpy with gradient": (lambda: parameter.numpy(), ".detach()"),
    "if of a tensor": (lambda: 1 if x > 0 else 2, ".any()"),
    "item of many": (lambda: x.item(), "single value"),
    "topk of too many": (lambda: x.topk(7), "topk"),
    "axis": (lambda: x.sum(2), "fewer axes"),
    "index": (lambda: x[3], "larger than the axis"),
    "unpack": (unpack_two, "topk and sort return two"),
    "None": (lambda: None + 1, "None"),
    "None's attribute": (lambda: None.shape, "`return`"),
    "called tensor": (lambda: x(0), "square ones"),
    "method without brackets": (lambda: x.sum[0], "without its brackets"),
    "both results of sort": (lambda: x.sort(-1).sum(), "values and indices"),
    "loop over a number": (lambda: list(3), "range"),
    "list's method": (lambda: [1].sum(), "no such method"),
    "name": (no_name, "misspelt"),
    "zero": (lambda: 1 / 0, "edge"),
    "key": (lambda: {}["a"], "keys"),
    "einops: too many axes": (lambda: einops.rearrange(x, "a b c -> a b c"), "another number of axes"),
    "einops: uneven": (lambda: einops.rearrange(x, "(a k) b -> a k b", k=2), "evenly"),
    "einops: length": (lambda: einops.rearrange(x, "a b -> b a", a=4), "another length"),
    "einops: lost axis": (lambda: einops.rearrange(x, "a b -> a"), "one side only"),
    "einops: unknown length": (lambda: einops.rearrange(x, "(a c) b -> a b c"), "all but one"),
    "einops: new axis": (lambda: einops.repeat(x, "a b -> a b c"), "each new axis"),
    "einops: twice": (lambda: einops.rearrange(x, "a a -> a"), "two axes"),
    "einops: misspelt": (lambda: einops.einsum(x, x, "a b, a b -> c"), "misspelt"),
    "einops: reduction": (lambda: einops.reduce(x, "a b -> a", "avg"), "mean"),
    "einops: lengths of one letter": (lambda: einops.einsum(x, x, "a b, b c -> a c"), "two lengths"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_meaning_of_an_exception(name):
    mistake, says = MISTAKES[name]
    with pytest.raises(Exception) as raised:
        mistake()
    assert says in (meaning_of(raised.value) or ""), raised.value


def test_an_unknown_exception_is_given_no_meaning():
    assert meaning_of(RuntimeError("something else")) is None


def test_the_line_and_its_meaning_are_shown():
    def mine(logits):
        return logits @ logits

    text = judge(exercise(stages=()), mine).text
    assert "return logits @ logits" in text and "That is: a matrix product" in text


def test_a_forgotten_return_is_named():
    def mine(logits):
        logits.softmax(-1)

    assert "is a `return` missing?" in judge(exercise(), mine).text


@pytest.mark.parametrize(
    "answer", [lambda x: x.to_sparse(), lambda x: x.numpy(), lambda x: x.to("meta"), lambda x: x + 1j]
)
def test_strange_tensors_are_refused_in_words(answer):
    verdict = judge(exercise(oracle=lambda x: x, stages=(), mutants={}), answer)
    assert verdict.status == "wrong" and len(verdict.text) < 600
