"""The experts: one bank of weights, and three interchangeable ways ("engines") to send tokens through it.

    loop      visit each expert that was chosen, add its answers up       the plainest; reads only the chosen weights
    gather    copy the chosen weights to every token, multiply in batch   best for one token of a small model
    grouped   sort the tokens by expert, one grouped matrix product       best for training and long prompts

`gather` and `grouped` sum a token's eight answers in one rounding, `loop` rounds after each; in bfloat16 the results
differ in the last bit. `auto` therefore picks one of the two families for a model, by the size of its experts, and
keeps to it.

Under torch.compile `gather` is compiled with the rest of the model. `loop` and `grouped` run uncompiled between two
compiled parts: how many tokens an expert gets is known only when they run, and a compiler that traced them would
compile anew for every other distribution.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.model.config import ModelConfig
from minimoe.model.router import Routing

ENGINES = ("auto", "loop", "gather", "grouped")
LARGE_EXPERT = 2**20  # values in one projection from which copying weights to tokens no longer pays
FEW_TOKENS = 4

Weights = Tensor | Sequence[Tensor]
P = ParamSpec("P")


def uncompiled(engine: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """The same function, left out when torch.compile traces its caller.

    torch.compiler.disable as a decorator would do; but it imports the compiler, which takes a second, also where
    nothing is compiled.
    """

    @wraps(engine)
    def run(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        function = torch.compiler.disable(engine) if torch.compiler.is_compiling() else engine
        return function(*args, **kwargs)

    return run


def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """One feed-forward network: down(silu(gate x) * up x), Shazeer 2020.

    x: (..., hidden). gate, up: (ffn, hidden). down: (hidden, ffn).
    """
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


class ExpertBank(nn.Module):
    """All experts of one layer. On disk each expert has its own tensors; here they are stacked, row e is expert e."""

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
    """Send every token through its chosen experts and sum what they answer, weighted.

    x: (token, hidden) -> (token, hidden). `bank` has gate_proj, up_proj (expert, ffn, hidden), down_proj (expert,
    hidden, ffn), each stacked or any sequence of one tensor an expert, and `engine`. Of a sequence only
    the chosen experts are taken, so it may unpack or read them at that moment.
    """
    engine = choose_engine(bank, tokens=x.shape[0]) if bank.engine == "auto" else bank.engine
    return {"loop": loop, "gather": gather, "grouped": grouped}[engine](x, routing, bank)


def choose_engine(bank: ExpertBank, tokens: int) -> str:
    """What `auto` means for this bank: large experts loop, small ones gather (few tokens) or group (many)."""
    if bank.values_of_matrix >= LARGE_EXPERT:  # not asked of a weight: a packed one would be unpacked to answer
        return "loop"
    return "gather" if tokens <= FEW_TOKENS and not torch.is_grad_enabled() else "grouped"


@uncompiled
def loop(x: Tensor, routing: Routing, bank: ExpertBank) -> Tensor:
    """Visit the chosen experts in rising order; each adds its weighted answer to its tokens' rows."""
    choices = rearrange(routing.experts, "token slot -> (slot token)")
    weights = rearrange(routing.weights, "token slot -> (slot token) 1")
    order = choices.argsort(stable=True)
    counts = choices.bincount(minlength=len(bank.gate_proj)).tolist()
    gate, up, down = one_by_one(bank)
    output = torch.zeros_like(x)
    for expert, chosen in enumerate(order.split(counts)):
        if len(chosen):
            token = chosen % len(x)
            answer = swiglu(x[token], gate[expert], up[expert], down[expert])
            output.index_add_(0, token, answer * weights[chosen])
    return output


def gather(x: Tensor, routing: Routing, bank: ExpertBank) -> Tensor:
    """Copy the weights of each token's experts next to the token: simple and fast while that copy is small."""
    choices = rearrange(routing.experts, "token slot -> (token slot)")
    rows = repeat(x, "token hidden -> (token slot) hidden 1", slot=routing.experts.shape[1])
    gate, up, down = (pick(weights, choices) for weights in (bank.gate_proj, bank.up_proj, bank.down_proj))
    answers = torch.bmm(down, F.silu(torch.bmm(gate, rows)) * torch.bmm(up, rows))
    return combine(rearrange(answers, "choice hidden 1 -> choice hidden"), routing.weights)


@uncompiled
def grouped(x: Tensor, routing: Routing, bank: ExpertBank) -> Tensor:
    """Sort the (token, slot) choices by expert, multiply group by group, put the answers back where they came from."""
    slots = routing.experts.shape[1]
    choices = rearrange(routing.experts, "token slot -> (token slot)")
    order = choices.argsort(stable=True)
    counts = choices.bincount(minlength=len(bank.gate_proj))
    rows = x[order // slots]
    inner = F.silu(grouped_linear(rows, bank.gate_proj, counts)) * grouped_linear(rows, bank.up_proj, counts)
    answers = grouped_linear(inner, bank.down_proj, counts)
    return combine(answers[order.argsort()], routing.weights)


def combine(answers: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over a token's slots. answers: (token slot, hidden), weights: (token, slot) -> (token, hidden)."""
    answers = rearrange(answers, "(token slot) hidden -> token slot hidden", slot=weights.shape[1])
    return reduce(
        answers * rearrange(weights, "token slot -> token slot 1"), "token slot hidden -> token hidden", "sum"
    )


def grouped_linear(rows: Tensor, weights: Weights, counts: Tensor) -> Tensor:
    """rows (choice, in) sorted by expert, times each expert's (out, in) weight; counts: (expert) rows per expert."""
    if isinstance(weights, Tensor) and has_grouped_mm(weights):
        transposed = rearrange(weights, "expert out into -> expert into out")
        return F.grouped_mm(rows, transposed, offs=counts.cumsum(0).int())
    parts = rows.split(counts.tolist())
    each = weights.unbind() if isinstance(weights, Tensor) else weights
    return torch.cat([F.linear(part, each[expert]) for expert, part in enumerate(parts) if len(part)])


def has_grouped_mm(weights: Tensor) -> bool:
    """Whether PyTorch has a grouped product for these: CPU in float32 and bfloat16, recent CUDA in bfloat16.

    Its kernels also want every row of the weights to fill whole pieces of 16 bytes. torch.compile traces it in
    bfloat16 only: the shape check that stands in for the kernel (PyTorch 2.13) refuses float32.
    """
    device, dtype = weights.device, weights.dtype
    if torch.compiler.is_compiling() and dtype != torch.bfloat16:
        return False
    if not hasattr(F, "grouped_mm") or any(size * dtype.itemsize % 16 for size in weights.shape[1:]):
        return False
    if device.type == "cpu":
        return dtype in (torch.float32, torch.bfloat16)
    return device.type == "cuda" and dtype == torch.bfloat16 and torch.cuda.get_device_capability(device) >= (8, 0)


def one_by_one(bank: ExpertBank) -> tuple[Sequence[Tensor], ...]:
    """The three weight lists, one tensor an expert.

    In training a stack is unbound once: indexing it would give every expert a zero gradient as large as the whole
    stack.
    """
    stacks = (bank.gate_proj, bank.up_proj, bank.down_proj)
    unbind = torch.is_grad_enabled()
    return tuple(stack.unbind() if unbind and isinstance(stack, Tensor) else stack for stack in stacks)  # type: ignore[misc]


def pick(weights: Weights, experts: Tensor) -> Tensor:
    """Rows `experts` (choice) of a stack or a list -> (choice, out, in). Of a list each expert is taken once."""
    if isinstance(weights, Tensor):
        return weights[experts]
    chosen, place = experts.unique(return_inverse=True)
    return torch.stack([weights[expert] for expert in chosen.tolist()])[place]
