"""The experts: one bank of weights, and three interchangeable implementations ("engines") of the layer.

    loop      run each selected expert, accumulate its outputs            the plainest; reads only selected weights
    gather    copy the selected weights to every token, batched product   best for one token of a small model
    grouped   sort the tokens by expert, one grouped matrix product       best for training and long prompts

`gather` and `grouped` sum a token's eight outputs with a single rounding, `loop` rounds after each; in bfloat16 the
results differ in the last bit. `auto` therefore uses either `loop` alone or the other two for a model, depending on the
size of its experts; `loop` for large ones: a streamed model has room for one at a time, and equals a loaded one. On a
GPU, where nothing is streamed, it uses the other two for large ones as well.

Rows are selected with `index_select`: on a CPU it takes a fifth of the time of `x[indices]`. Its gradient is equal in
every run, while that of `x[indices]` is summed by all threads at once, in no fixed order.

Under torch.compile `gather` is compiled with the rest of the model. `loop` and `grouped` run uncompiled between two
compiled parts: the number of tokens per expert is known only at run time, and tracing it would recompile for every
new distribution. A compiled decode step (compiled_decode.py) runs `fused`, which is `gather` in a form that a compiler
turns into one pass over the selected weights.
"""

from collections.abc import Sequence
from typing import Any

import torch
from einops import pack, rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.model.compilation import uncompiled
from minimoe.model.config import ModelConfig
from minimoe.model.router import Routing

ENGINES = ("auto", "loop", "gather", "grouped")
LARGE_EXPERT = 2**20  # values of one projection above which copying weights to tokens no longer pays
FEW_TOKENS = 4

Weights = Tensor | Sequence[Tensor]


def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """One feed-forward network: down(silu(gate x) * up x), Shazeer 2020.

    x: (..., hidden) -> the same shape. gate, up: (ffn, hidden). down: (hidden, ffn).
    """
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


class ExpertBank(nn.Module):
    """All experts of one layer. On disk each expert has its own tensors; here they are stacked by expert."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        experts, hidden, ffn = config.num_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_proj: Weights = nn.Parameter(torch.empty(experts, ffn, hidden))
        self.up_proj: Weights = nn.Parameter(torch.empty(experts, ffn, hidden))
        self.down_proj: Weights = nn.Parameter(torch.empty(experts, hidden, ffn))
        self.values_of_matrix = ffn * hidden
        self.engine = "auto"

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        return run_experts(x, routing, self)


def run_experts(x: Tensor, routing: Routing, bank: ExpertBank) -> Tensor:
    """Run each token through its experts and return the weighted sum of their outputs.

    x: (token, hidden) -> (token, hidden). `bank` has `engine`, and gate_proj, up_proj (expert, ffn, hidden), down_proj
    (expert, hidden, ffn), each stacked or as a sequence of one tensor per expert. Only the selected experts of a
    sequence are accessed, so it may unpack or read them on access.
    """
    engine = choose_engine(bank, tokens=x.shape[0]) if bank.engine == "auto" else bank.engine
    return {"loop": loop, "gather": gather, "grouped": grouped, "fused": fused}[engine](x, routing, bank)


def choose_engine(bank: ExpertBank, tokens: int) -> str:
    """The engine that `auto` selects: loop for large experts; for small ones gather (few tokens) or grouped (many).

    On a GPU with a grouped product, it serves large experts as well: `loop` waits in every layer for its counts. For
    one token `gather` is faster there, since it starts fewer kernels (30B on an H100: 1.2 to 1.3 times).
    """
    if torch.compiler.is_compiling() and tokens <= FEW_TOKENS:
        return "fused"
    if bank.values_of_matrix >= LARGE_EXPERT:  # not read from a weight: accessing a packed one unpacks it
        stack = bank.gate_proj
        if not (isinstance(stack, Tensor) and stack.is_cuda and has_grouped_mm(stack)):
            return "loop"
        return "gather" if tokens == 1 and not torch.is_grad_enabled() else "grouped"
    return "gather" if tokens <= FEW_TOKENS and not torch.is_grad_enabled() else "grouped"


@uncompiled
def loop(x: Tensor, routing: Routing, bank: ExpertBank) -> Tensor:
    """Run the selected experts in ascending order; add each weighted output to the rows of its tokens."""
    assignments = rearrange(routing.experts, "token slot -> (slot token)")
    weights = rearrange(routing.weights, "token slot -> (slot token) 1")
    order = assignments.argsort(stable=True)
    counts = assignments.bincount(minlength=len(bank.gate_proj)).tolist()
    gate, up, down = per_expert_weights(bank)
    output = torch.zeros_like(x)
    for expert, selected in enumerate(order.split(counts)):
        if len(selected):
            token = selected % len(x)
            expert_output = swiglu(x.index_select(0, token), gate[expert], up[expert], down[expert])
            output.index_add_(0, token, expert_output * weights.index_select(0, selected))
    return output


def gather(x: Tensor, routing: Routing, bank: ExpertBank) -> Tensor:
    """Copy the weights of its experts to each token: simple, and fast while that copy is small."""
    assignments = rearrange(routing.experts, "token slot -> (token slot)")
    rows = repeat(x, "token hidden -> (token slot) hidden 1", slot=routing.experts.shape[1])
    gate, up, down = (gather_weights(w, assignments) for w in (bank.gate_proj, bank.up_proj, bank.down_proj))
    # bmm(gate, rows) is einsum "assignment ffn hidden, assignment hidden -> assignment ffn"
    outputs = torch.bmm(down, F.silu(torch.bmm(gate, rows)) * torch.bmm(up, rows))
    return combine(rearrange(outputs, "assignment hidden 1 -> assignment hidden"), routing.weights)


def fused(x: Tensor, routing: Routing, bank: ExpertBank) -> Tensor:
    """`gather` as products and sums, for torch.compile: it fuses selection, product and sum into one kernel, so that
    nothing is copied. Slow if it is not compiled.
    """
    assignments = rearrange(routing.experts, "token slot -> (token slot)")
    rows = repeat(x, "token hidden -> (token slot) hidden", slot=routing.experts.shape[1])
    gate, up = (multiply_selected(weights, assignments, rows) for weights in (bank.gate_proj, bank.up_proj))
    return combine(multiply_selected(bank.down_proj, assignments, F.silu(gate) * up), routing.weights)


def multiply_selected(weights: Any, experts: Tensor, rows: Tensor) -> Tensor:
    """Weights of `experts` (assignment) times rows (assignment, in) -> (assignment, out). A packed bank knows how."""
    if not isinstance(weights, Tensor):
        return weights.multiply(experts, rows)
    products = weights[experts] * rearrange(rows, "assignment into -> assignment 1 into")
    return reduce(products, "assignment out into -> assignment out", "sum")


@uncompiled
def grouped(x: Tensor, routing: Routing, bank: ExpertBank) -> Tensor:
    """Sort the (token, slot) assignments by expert, multiply group by group, restore the order."""
    slots = routing.experts.shape[1]
    assignments = rearrange(routing.experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    numbers = torch.arange(len(bank.gate_proj), device=x.device)
    ends = torch.searchsorted(assignments[order], numbers, right=True)  # bincount would wait for a GPU
    rows = x.index_select(0, order // slots)
    gate, up = gate_and_up(rows, bank, ends)
    outputs = grouped_linear(F.silu(gate) * up, bank.down_proj, ends)
    return combine(outputs.index_select(0, order.argsort()), routing.weights)


def gate_and_up(rows: Tensor, bank: ExpertBank, ends: Tensor) -> tuple[Tensor, Tensor]:
    """The two first projections of all groups, each (assignment, ffn).

    A product in bfloat16 on a CPU takes longer to start than to copy the weights of a small expert, so there they are
    one product of the concatenated weights: prompts of the mini take a tenth to a quarter less time.
    """
    gate, up = bank.gate_proj, bank.up_proj
    stacked = isinstance(gate, Tensor) and isinstance(up, Tensor)
    if stacked and rows.device.type == "cpu" and rows.dtype == torch.bfloat16 and gate[0].numel() < LARGE_EXPERT:
        both, _ = pack([gate, up], "expert * hidden")
        gate_rows, up_rows = grouped_linear(rows, both, ends).chunk(2, dim=-1)
        return gate_rows, up_rows
    return grouped_linear(rows, gate, ends), grouped_linear(rows, up, ends)


def combine(outputs: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over a token's slots. outputs: (token slot, hidden), weights: (token, slot) -> (token, hidden)."""
    outputs = rearrange(outputs, "(token slot) hidden -> token slot hidden", slot=weights.shape[1])
    return reduce(
        outputs * rearrange(weights, "token slot -> token slot 1"), "token slot hidden -> token hidden", "sum"
    )


def grouped_linear(rows: Tensor, weights: Weights, ends: Tensor) -> Tensor:
    """rows (assignment, in), sorted by expert, times each expert's weight (out, in) -> (assignment, out).

    ends: (expert) int64, where the rows of each expert end.
    """
    if isinstance(weights, Tensor) and has_grouped_mm(weights):
        transposed = rearrange(weights, "expert out into -> expert into out")
        return F.grouped_mm(rows, transposed, offs=ends.int())
    groups = rows.split(ends.diff(prepend=ends.new_zeros(1)).tolist())
    matrices = weights.unbind() if isinstance(weights, Tensor) else weights
    return torch.cat([F.linear(group, matrices[expert]) for expert, group in enumerate(groups) if len(group)])


def has_grouped_mm(weights: Tensor) -> bool:
    """Whether PyTorch has a grouped product for these: CPU in float32 and bfloat16, recent CUDA in bfloat16.

    Its kernels also require rows of a multiple of 16 bytes. torch.compile traces it in bfloat16 only: its meta kernel
    (PyTorch 2.13) refuses float32.
    """
    device, dtype = weights.device, weights.dtype
    if torch.compiler.is_compiling() and dtype != torch.bfloat16:
        return False
    if not hasattr(F, "grouped_mm") or any(size * dtype.itemsize % 16 for size in weights.shape[1:]):
        return False
    if device.type == "cpu":
        return dtype in (torch.float32, torch.bfloat16)
    return device.type == "cuda" and dtype == torch.bfloat16 and torch.cuda.get_device_capability(device) >= (8, 0)


def per_expert_weights(bank: ExpertBank) -> tuple[Sequence[Tensor], ...]:
    """The three sequences of weights, one tensor per expert.

    In training a stack is unbound once: with indexing, the backward pass would allocate a zero gradient of the whole
    stack for every expert.
    """
    stacks = (bank.gate_proj, bank.up_proj, bank.down_proj)
    unbind = torch.is_grad_enabled()
    return tuple(stack.unbind() if unbind and isinstance(stack, Tensor) else stack for stack in stacks)  # type: ignore[misc]


def gather_weights(weights: Weights, experts: Tensor) -> Tensor:
    """Weights of `experts` (assignment) -> (assignment, out, in). Each expert of a sequence is accessed once."""
    if isinstance(weights, Tensor):
        return weights.index_select(0, experts)
    distinct, inverse = experts.unique(return_inverse=True)
    return torch.stack([weights[expert] for expert in distinct.tolist()])[inverse]
