"""Natural answers to 14.3 and 14.4: the bounded reader, and the share of one rank."""

import torch
from einops import einsum, rearrange, reduce
from torch.nn import functional as F

from minimoe.model.experts import swiglu
from tests.course.natural_answers.collect import Collection

collection = Collection("14.3", "14.4")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 14.3 read_rows ------------------------------------------------------------------------------------------------------


def as_bytes(rows):
    """The memory of a tensor, as the exercise prints it."""
    return memoryview(rows.view(torch.uint8).numpy()).cast("B")


def pieces(file, memory, offset, most):
    """Fills the memory piece by piece from this place on."""
    for done in range(0, len(memory), most):
        file.read_into(memory[done : done + most], offset + done)


@wrong("14.3", "from the beginning of the file", "entry.start", "file", "begin", "offset", "tensor's first byte")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[1], dtype=torch.bfloat16)
    pieces(file, as_bytes(rows), start * entry.shape[1] * 2, most)
    return rows


@wrong("14.3", "rows counted in values", "bytes", "two", "values", "bfloat16")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[1], dtype=torch.bfloat16)
    pieces(file, as_bytes(rows), entry.start + start * entry.shape[1], most)
    return rows


@wrong("14.3", "all in one read", "most", "piece", "single", "bound", "at once", "one read")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[1], dtype=torch.bfloat16)
    file.read_into(as_bytes(rows), entry.start + start * entry.shape[1] * 2)
    return rows


@wrong("14.3", "the whole tensor, and a slice of it", "whole", "exactly", "more", "all rows", "needed", "too much")
def _(file, entry, start, stop, most):
    rows = torch.empty(*entry.shape, dtype=torch.bfloat16)
    pieces(file, as_bytes(rows), entry.start, most)
    return rows[start:stop]


@wrong("14.3", "from the tensor's first row", "start", "first row", "begin", "offset", "rows before")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[1], dtype=torch.bfloat16)
    pieces(file, as_bytes(rows), entry.start, most)
    return rows


@wrong("14.3", "the same place in the file for every piece", "offset", "advance", "move", "same", "place", "again")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[1], dtype=torch.bfloat16)
    memory, offset = as_bytes(rows), entry.start + start * entry.shape[1] * 2
    for done in range(0, len(memory), most):
        file.read_into(memory[done : done + most], offset)
    return rows


@wrong("14.3", "every piece to the front of the memory", "memory", "advance", "move", "front", "slice", "over")
def _(file, entry, start, stop, most):
    rows = torch.zeros(stop - start, entry.shape[1], dtype=torch.bfloat16)
    memory, offset = as_bytes(rows), entry.start + start * entry.shape[1] * 2
    for done in range(0, len(memory), most):
        file.read_into(memory[: min(most, len(memory) - done)], offset + done)
    return rows


@wrong("14.3", "without the last, shorter piece", "last", "rest", "remainder", "shorter", "remain", "end")
def _(file, entry, start, stop, most):
    rows = torch.zeros(stop - start, entry.shape[1], dtype=torch.bfloat16)
    memory, offset = as_bytes(rows), entry.start + start * entry.shape[1] * 2
    for piece in range(len(memory) // most):
        file.read_into(memory[piece * most : (piece + 1) * most], offset + piece * most)
    return rows


@wrong("14.3", "float32", "bfloat16", "dtype", "float32", "two bytes")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[1])
    pieces(file, as_bytes(rows), entry.start + start * entry.shape[1] * 4, most)
    return rows


@wrong("14.3", "shape[0] taken for the columns", "columns", "shape", "rows", "width")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[0], dtype=torch.bfloat16)
    pieces(file, as_bytes(rows), entry.start + start * entry.shape[0] * 2, most)
    return rows


@wrong("14.3", "stop included", "stop", "one row", "too many", "included", "exclusive", "last")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start + 1, entry.shape[1], dtype=torch.bfloat16)
    pieces(file, as_bytes(rows), entry.start + start * entry.shape[1] * 2, most)
    return rows


@wrong("14.3", "most counted in values", "values", "twice", "double", "two bytes")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[1], dtype=torch.bfloat16)
    pieces(file, as_bytes(rows), entry.start + start * entry.shape[1] * 2, 2 * most)
    return rows


@wrong("14.3", "row by row, however long a row is", "most", "row", "longer", "single", "piece", "bound")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[1], dtype=torch.bfloat16)
    width = entry.shape[1] * 2
    pieces(file, as_bytes(rows), entry.start + start * width, width)
    return rows


@wrong("14.3", "one long row", "shape", "flat", "row", "column")
def _(file, entry, start, stop, most):
    rows = torch.empty((stop - start) * entry.shape[1], dtype=torch.bfloat16)
    pieces(file, as_bytes(rows), entry.start + start * entry.shape[1] * 2, most)
    return rows


@wrong("14.3", "columns in place of rows", "columns", "rows", "shape")
def _(file, entry, start, stop, most):
    rows = torch.empty(*entry.shape, dtype=torch.bfloat16)
    pieces(file, as_bytes(rows), entry.start, most)
    return rows[:, start:stop]


@wrong("14.3", "bytes never read as bfloat16", "bfloat16", "dtype", "uint8", "bytes")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[1] * 2, dtype=torch.uint8)
    pieces(file, memoryview(rows.numpy()).cast("B"), entry.start + start * entry.shape[1] * 2, most)
    return rows


@right("14.3", "steps of range")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[1], dtype=torch.bfloat16)
    pieces(file, as_bytes(rows), entry.start + start * entry.shape[1] * 2, most)
    return rows


@right("14.3", "while something is left")
def _(file, entry, start, stop, most):
    width = entry.shape[-1]
    rows = torch.empty((stop - start, width), dtype=torch.bfloat16)
    left, offset = as_bytes(rows), entry.start + 2 * width * start
    while len(left):
        size = min(most, len(left))
        file.read_into(left[:size], offset)
        left, offset = left[size:], offset + size
    return rows


@right("14.3", "row by row, each in pieces")
def _(file, entry, start, stop, most):
    height, width = entry.shape
    rows = torch.empty(stop - start, width, dtype=torch.bfloat16)
    for number, row in enumerate(rows):
        pieces(file, as_bytes(row), entry.start + (start + number) * width * row.element_size(), most)
    return rows


@right("14.3", "whole pieces, then the rest")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[1], dtype=torch.bfloat16)
    memory, offset = as_bytes(rows), entry.start + start * entry.shape[1] * 2
    whole, rest = divmod(rows.nbytes, most)
    for piece in range(whole):
        file.read_into(memory[piece * most : (piece + 1) * most], offset + piece * most)
    if rest:
        file.read_into(memory[whole * most :], offset + whole * most)
    return rows


@right("14.3", "halves of halves")
def _(file, entry, start, stop, most):
    rows = torch.empty(stop - start, entry.shape[1], dtype=torch.bfloat16)

    def fill(memory, offset):
        if len(memory) > most:
            half = len(memory) // 2
            fill(memory[:half], offset)
            fill(memory[half:], offset + half)
        elif len(memory):
            file.read_into(memory, offset)

    fill(as_bytes(rows), entry.start + start * entry.shape[1] * 2)
    return rows


@right("14.3", "chunks of a tensor of bytes")
def _(file, entry, start, stop, most):
    values = torch.empty((stop - start) * entry.shape[1], dtype=torch.bfloat16)
    offset = entry.start + start * entry.shape[1] * 2
    for chunk in values.view(torch.uint8).split(most):
        if len(chunk):
            file.read_into(memoryview(chunk.numpy()), offset)
        offset += len(chunk)
    return rearrange(values, "(row column) -> row column", column=entry.shape[1])


# 14.4 run_local_experts ----------------------------------------------------------------------------------------------


def of_one(x, bank, row):
    return swiglu(x, bank.gate_proj[row], bank.up_proj[row], bank.down_proj[row])


@wrong("14.4", "bank numbered from zero", "first", "begin", "number", "local")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == row).nonzero(as_tuple=True)
        output.index_add_(0, token, of_one(x[token], bank, row) * routing.weights[token, slot, None])
    return output


@wrong("14.4", "without weights", "weight")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        output.index_add_(0, token, of_one(x[token], bank, row))
    return output


@wrong("14.4", "weights renormalised on the rank", "renormalise", "weight", "sum", "rank", "local")
def _(x, routing, bank, first):
    here = (routing.experts >= first) & (routing.experts < first + len(bank.gate_proj))
    weights = routing.weights * here
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-9)
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        output.index_add_(0, token, of_one(x[token], bank, row) * weights[token, slot, None])
    return output


@wrong("14.4", "one slot's weight for all", "slot", "weight", "first")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        output.index_add_(0, token, of_one(x[token], bank, row) * routing.weights[token, :1])
    return output


@wrong(
    "14.4", "index without accumulation", "accumulate", "index_add", "twice", "several", "lost", "add", "more than one"
)
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    here = (routing.experts >= first) & (routing.experts < first + len(bank.gate_proj))
    token, slot = here.nonzero(as_tuple=True)
    rows = (routing.experts[token, slot] - first).tolist()
    answers = [of_one(x[one], bank, row) for one, row in zip(token, rows, strict=True)]
    if answers:
        output[token] += torch.stack(answers) * routing.weights[token, slot, None]
    return output


@wrong("14.4", "the last expert overwrites", "add", "sum", "overwrite", "accumulate", "last", "replace")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        output[token] = of_one(x[token], bank, row) * routing.weights[token, slot, None]
    return output


@wrong("14.4", "silu on the other projection", "silu", "gate")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        answer = swiglu(x[token], bank.up_proj[row], bank.gate_proj[row], bank.down_proj[row])
        output.index_add_(0, token, answer * routing.weights[token, slot, None])
    return output


@wrong("14.4", "without silu", "silu", "nonlinear", "activation")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        inner = F.linear(x[token], bank.gate_proj[row]) * F.linear(x[token], bank.up_proj[row])
        output.index_add_(0, token, F.linear(inner, bank.down_proj[row]) * routing.weights[token, slot, None])
    return output


@wrong(
    "14.4", "absent experts clamped to those at the edge", "clamp", "absent", "away", "other rank", "not here", "zero"
)
def _(x, routing, bank, first):
    rows = (routing.experts - first).clamp(0, len(bank.gate_proj) - 1)
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        token, slot = (rows == row).nonzero(as_tuple=True)
        output.index_add_(0, token, of_one(x[token], bank, row) * routing.weights[token, slot, None])
    return output


@wrong(
    "14.4",
    "absent experts by remainder",
    "remainder",
    "%",
    "absent",
    "away",
    "other rank",
    "not here",
    "zero",
    "modulo",
)
def _(x, routing, bank, first):
    rows = routing.experts % len(bank.gate_proj)
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        token, slot = (rows == row).nonzero(as_tuple=True)
        output.index_add_(0, token, of_one(x[token], bank, row) * routing.weights[token, slot, None])
    return output


@wrong("14.4", "negative rows count from the end", "negative", "end", "below", "absent", "away", "not here", "lower")
def _(x, routing, bank, first):
    output, local = torch.zeros_like(x), len(bank.gate_proj)
    for token, slot in torch.ones_like(routing.experts).nonzero().tolist():
        row = int(routing.experts[token, slot]) - first
        if -local <= row < local:
            output[token] += of_one(x[token], bank, row) * routing.weights[token, slot]
    return output


@wrong("14.4", "the first local expert is left out", "first", "off by one", "range", ">=", "left out", "own")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    for row in range(1, len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        output.index_add_(0, token, of_one(x[token], bank, row) * routing.weights[token, slot, None])
    return output


@wrong("14.4", "mean over the local experts", "mean", "sum", "divide", "average")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    here = (routing.experts >= first) & (routing.experts < first + len(bank.gate_proj))
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        output.index_add_(0, token, of_one(x[token], bank, row) * routing.weights[token, slot, None])
    return output / here.sum(dim=-1, keepdim=True).clamp(min=1)


@wrong("14.4", "only the tokens with a local expert", "all tokens", "shape", "zero", "every token", "rows")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    here = (routing.experts >= first) & (routing.experts < first + len(bank.gate_proj))
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        output.index_add_(0, token, of_one(x[token], bank, row) * routing.weights[token, slot, None])
    return output[here.any(dim=-1)]


@wrong("14.4", "weight before the nonlinearity", "weight", "before", "after", "input", "silu", "nonlinear", "output")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        output.index_add_(0, token, of_one(x[token] * routing.weights[token, slot, None], bank, row))
    return output


@wrong("14.4", "added to x", "x itself", "residual", "zero", "zeros", "silent", "start", "input")
def _(x, routing, bank, first):
    output = x.clone()
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        output.index_add_(0, token, of_one(x[token], bank, row) * routing.weights[token, slot, None])
    return output


@wrong("14.4", "every local expert for every token", "selected", "every", "all", "weight", "choose", "chose", "routing")
def _(x, routing, bank, first):
    return sum(of_one(x, bank, row) for row in range(len(bank.gate_proj)))


@right("14.4", "expert by expert")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        output.index_add_(0, token, of_one(x[token], bank, row) * routing.weights[token, slot, None])
    return output


@right("14.4", "token by token")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    for token, (experts, weights) in enumerate(zip(routing.experts.tolist(), routing.weights, strict=True)):
        for expert, weight in zip(experts, weights, strict=True):
            if 0 <= expert - first < len(bank.gate_proj):
                output[token] += weight * of_one(x[token], bank, expert - first)
    return output


@right("14.4", "all local experts for all tokens, most of weight zero")
def _(x, routing, bank, first):
    output = torch.zeros_like(x)
    for row in range(len(bank.gate_proj)):
        weight = (routing.weights * (routing.experts == first + row)).sum(dim=-1, keepdim=True)
        output = output + weight * of_one(x, bank, row)
    return output


@right("14.4", "einsum")
def _(x, routing, bank, first):
    gate, up, down = (torch.stack(list(each)) for each in (bank.gate_proj, bank.up_proj, bank.down_proj))
    numbers = torch.arange(first, first + len(gate))
    here = routing.weights[..., None] * (routing.experts[..., None] == numbers)
    weights = reduce(here, "token slot expert -> token expert", "sum")
    inner = F.silu(einsum(x, gate, "token hidden, expert ffn hidden -> token expert ffn"))
    inner = inner * einsum(x, up, "token hidden, expert ffn hidden -> token expert ffn")
    return einsum(inner, down, weights, "token expert ffn, expert hidden ffn, token expert -> token hidden")


@right("14.4", "double inside, cast back")
def _(x, routing, bank, first):
    output = torch.zeros_like(x, dtype=torch.float64)
    for row in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == first + row)
        parts = (part[row].double() for part in (bank.gate_proj, bank.up_proj, bank.down_proj))
        output[token] += swiglu(x[token].double(), *parts) * routing.weights[token, slot].double().unsqueeze(1)
    return output.to(x.dtype)


@right("14.4", "slot by slot, absent ones masked")
def _(x, routing, bank, first):
    rows = routing.experts - first
    here = (rows >= 0) & (rows < len(bank.gate_proj))
    output = torch.zeros_like(x)
    for slot in range(rows.shape[1]):
        token = here[:, slot].nonzero().flatten()
        for one in token.tolist():
            output[one] = output[one] + of_one(x[one], bank, int(rows[one, slot])) * routing.weights[one, slot]
    return output
