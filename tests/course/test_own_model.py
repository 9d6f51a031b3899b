"""The course closes on itself: the exercises' functions, together, are the library's model."""

import nbformat
import pytest
import torch
from torch.nn import functional as F

import minimoe
from minimoe.course.checker.exercise import all_exercises
from minimoe.course.own_model import EXERCISES, answer_in, answers, connect
from minimoe.course.workbench.replace_functions import CALLERS
from minimoe.model import experts
from tests.course.natural_answers import ch08_block as natural
from tests.house.repository import ROOT

SOLUTIONS = ROOT / "exercises" / "solutions"
TEXT = "Once upon a time a small bird lived in the garden. One day the bird lost its pen."


@pytest.fixture(scope="module")
def tokenizer():
    return minimoe.load("data/mini")[1]


def largest_difference(model, tokenizer, functions):
    """The largest difference of a logit between the library's run and one with these functions."""
    with minimoe.workbench(model, **functions) as bench:
        comparison = bench.compare(TEXT, tokenizer)
    assert comparison.todo == comparison.unused == () and set(comparison.parts) == set(functions)
    return comparison.logit_difference


def test_every_part_of_the_forward_pass_is_an_exercise():
    """A part that is added to the workbench is missed here until an exercise teaches it."""
    known = {part for part in EXERCISES if EXERCISES[part] in all_exercises()}
    assert set(CALLERS) - {"sample"} - known <= {"run_experts"}  # of chapter 07


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_solutions_are_the_librarys_model_to_the_bit(dtype, tokenizer):
    model = minimoe.load_model("data/mini", dtype=dtype)
    model.attention, model.engine = "eager", "loop"
    functions = {part: each.function for part, each in answers(SOLUTIONS).items()}
    assert largest_difference(model, tokenizer, functions) == 0


def test_solutions_count_as_the_readers_if_the_folder_is_theirs():
    assert {each.whose for each in answers(SOLUTIONS).values()} == {"yours"}


def test_stubs_and_an_empty_folder_give_the_courses_solutions(tmp_path):
    for folder in (ROOT / "exercises", tmp_path):
        assert {each.whose for each in answers(folder).values()} == {"the course's"}


OWN = {
    "01_tokens": ("01.6", "embed", '''
def embed(token_ids, weight):
    one_hot = torch.nn.functional.one_hot(token_ids, len(weight)).to(weight.dtype)
    return einsum(one_hot, weight, "... vocab, vocab hidden -> ... hidden")
'''),
    "02_rmsnorm": ("02.1", "rms_norm", '''
def rms_norm(x, weight, eps):
    wide = x.float()
    size = (wide * wide).sum(dim=-1, keepdim=True) / x.shape[-1]
    return weight * (wide / (size + eps).sqrt()).to(x.dtype)
'''),
    "03_rope": ("03.2", "apply_rope", '''
def apply_rope(x, cos, sin):
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    c, s = cos[..., :half], sin[..., :half]
    return torch.cat((first * c - second * s, second * c + first * s), dim=-1)
'''),
    "04_attention": ("04.1", "attend", '''
def attend(q, k, v, mask):
    group = q.shape[1] // k.shape[1]
    q = rearrange(q, "batch (head group) query head_dim -> batch head group query head_dim", group=group)
    scores = einsum(q, k, "batch head group query head_dim, batch head key head_dim -> batch head group query key")
    scores = (scores / q.shape[-1] ** 0.5).float()
    if mask is not None:
        scores = scores + torch.where(mask, 0.0, -torch.inf)
    share = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    share = (share / share.sum(dim=-1, keepdim=True)).to(v.dtype)
    mixed = einsum(share, v, "batch head group query key, batch head key head_dim -> batch head group query head_dim")
    return rearrange(mixed, "batch head group query head_dim -> batch (head group) query head_dim")
'''),
    "05_swiglu": ("05.1", "swiglu", '''
def swiglu(x, gate, up, down):
    opening = x @ gate.T
    return (opening * torch.sigmoid(opening) * (x @ up.T)) @ down.T
'''),
    "06_router": ("06.1", "route", '''
def route(logits, top_k, renormalise):
    chosen, experts = logits.topk(top_k, dim=-1)
    share = logits.float().softmax(dim=-1).gather(-1, experts)
    if renormalise:
        share = share / share.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, share.to(logits.dtype))
'''),
    "08_whole_model": ("08.1", "block", '''
def halves(x, *pairs):
    for norm, part in pairs:
        x = part(norm(x)) + x
    return x

def block(x, input_layernorm, self_attn, post_attention_layernorm, mlp):
    return halves(x, (input_layernorm, self_attn), (post_attention_layernorm, mlp))
'''),
}  # fmt: skip
IMPORTS = "import torch\nfrom einops import einsum, rearrange\nfrom minimoe.model.router import Routing\n"


def write_own(folder, changed=()):
    """A reader's notebooks, with a heavy cell that must not run; `changed` replaces the code of some."""
    folder.mkdir(exist_ok=True)
    for stem, (id, name, code) in OWN.items():
        code = dict(changed).get(stem, code)
        check = f'minimoe.check("{id}", {name})'
        sources = [IMPORTS, "%matplotlib inline", "raise SystemExit('not a definition')", code, check, f"{name} = None"]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        nbformat.write(notebook, folder / f"{stem}.ipynb")
    return folder


def test_a_readers_own_functions_are_the_model_within_rounding(tmp_path, tokenizer):
    found = answers(write_own(tmp_path / "mine"))
    mine = {part: each.function for part, each in found.items() if each.whose == "yours"}
    assert set(mine) == {name for _, name, _ in OWN.values()}
    model = minimoe.load_model("data/mini", dtype="fp32")
    largest = float(model(torch.tensor([tokenizer.encode(TEXT)])).abs().max())
    assert largest_difference(model, tokenizer, mine) < 1e-5 * largest


def test_a_function_that_calls_another_part_gets_the_readers(tokenizer):
    """Experts that call `swiglu` by its name call the one on the workbench."""
    names = {"swiglu": experts.swiglu, "torch": torch}
    code = """
def run_experts(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, slot = (routing.experts == expert).nonzero(as_tuple=True)
        output = swiglu(x[token], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
        result.index_add_(0, token, output * routing.weights[token, slot][:, None])
    return result
"""
    exec(code, names)
    connect(names["run_experts"])
    model, calls = minimoe.load_model("data/mini", dtype="fp32"), []

    def swiglu(x, gate, up, down):
        calls.append(len(x))
        return experts.swiglu(x, gate, up, down)

    parts = {"run_experts": names["run_experts"], "swiglu": swiglu}
    assert largest_difference(model, tokenizer, parts) < 1e-4 and len(calls) > 100


def test_a_wrong_answer_is_replaced_by_the_courses(tmp_path):
    wrong = "def block(x, input_layernorm, self_attn, post_attention_layernorm, mlp):\n    return x\n"
    found = answers(write_own(tmp_path / "mine", {"08_whole_model": wrong}))
    assert found["block"].whose == "the course's" and found["route"].whose == "yours"


def test_the_newest_copy_counts(tmp_path):
    mine = write_own(tmp_path / "mine")
    (mine / "05_swiglu.ipynb").rename(mine / "05_swiglu-2.ipynb")
    stub = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("def swiglu(x): ...")])
    nbformat.write(stub, mine / "05_swiglu.ipynb")
    assert answer_in(mine, "05.1") is not None
    x, w = torch.rand(2, 3), torch.rand(3, 4, 3)
    expected = F.linear(F.silu(F.linear(x, w[0])) * F.linear(x, w[1]), w[2].reshape(3, 4))
    assert torch.allclose(answer_in(mine, "05.1")(x, w[0], w[1], w[2].reshape(3, 4)), expected, atol=1e-5)


def test_natural_blocks_run_as_well(tokenizer):
    """Right answers in other styles drive the model, too."""
    model = minimoe.load_model("data/mini", dtype="fp32")
    for answer in natural.ANSWERS["08.1"].right.values():
        assert largest_difference(model, tokenizer, {"block": answer}) < 1e-4
