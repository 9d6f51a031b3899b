"""Natural answers to 07.1 to 07.5: combine, the loop, the plan, and the two bugs."""

import numpy as np
import torch
from einops import einsum, rearrange, reduce, repeat
from torch.nn import functional as F

from minimoe.model import experts as library
from minimoe.model.experts import swiglu
from tests.course.natural_answers.collect import Collection

collection = Collection("07.1", "07.2", "07.3", "07.4", "07.5")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 07.1 combine ---------------------------------------------------------------------------------------------------------


@wrong("07.1", "read as slot by slot", "(token slot)", "slots", "order", "slot of token")
def _(outputs, weights):
    outputs = rearrange(outputs, "(slot token) hidden -> token slot hidden", slot=weights.shape[1])
    return einsum(outputs, weights.to(outputs.dtype), "token slot hidden, token slot -> token hidden")


@wrong("07.1", "weights flattened slot by slot", "weight", "(token slot)", "order")
def _(outputs, weights):
    rows = outputs * rearrange(weights, "token slot -> (slot token) 1").to(outputs.dtype)
    return reduce(rows, "(token slot) hidden -> token hidden", "sum", slot=weights.shape[1])


@wrong("07.1", "a plain sum", "weight")
def _(outputs, weights):
    return reduce(outputs, "(token slot) hidden -> token hidden", "sum", slot=weights.shape[1])


@wrong("07.1", "reduce by mean", "mean", "sum", "add", "divid")
def _(outputs, weights):
    rows = outputs * rearrange(weights, "token slot -> (token slot) 1").to(outputs.dtype)
    return reduce(rows, "(token slot) hidden -> token hidden", "mean", slot=weights.shape[1])


@wrong("07.1", "weights made to sum to one", "as they are", "sum to one", "sum to 1", "normal", "scale")
def _(outputs, weights):
    weights = (weights / weights.sum(dim=-1, keepdim=True)).to(outputs.dtype)
    return (outputs.unflatten(0, weights.shape) * weights[..., None]).sum(dim=1)


@wrong("07.1", "only the best expert", "slot", "first", "all")
def _(outputs, weights):
    slots = weights.shape[1]
    return outputs[::slots] * weights[:, :1].to(outputs.dtype)


@wrong("07.1", "not added up", "shape", "sum", "add", "axes", "axis")
def _(outputs, weights):
    outputs = rearrange(outputs, "(token slot) hidden -> token slot hidden", slot=weights.shape[1])
    return outputs * rearrange(weights, "token slot -> token slot 1").to(outputs.dtype)


@wrong("07.1", "eight slots, as in the mini", "slot", "8", "eight", "weights.shape")
def _(outputs, weights):
    outputs = rearrange(outputs, "(token slot) hidden -> token slot hidden", slot=8)
    return einsum(outputs, weights.to(outputs.dtype), "token slot hidden, token slot -> token hidden")


@wrong("07.1", "hidden before token", "shape", "axes", "token, hidden", "(token, hidden)")
def _(outputs, weights):
    outputs = rearrange(outputs, "(token slot) hidden -> token slot hidden", slot=weights.shape[1])
    return einsum(outputs, weights.to(outputs.dtype), "token slot hidden, token slot -> hidden token")


@wrong("07.1", "left in float32", "dtype")
def _(outputs, weights):
    return (outputs.float().unflatten(0, weights.shape) * weights.float()[..., None]).sum(dim=1)


@wrong("07.1", "the sum scaled by the first weight", "weight", "slot", "each")
def _(outputs, weights):
    summed = reduce(outputs, "(token slot) hidden -> token hidden", "sum", slot=weights.shape[1])
    return summed * weights[:, :1].to(outputs.dtype)


@right("07.1", "an einsum of a rearranged tensor")
def _(outputs, weights):
    outputs = rearrange(outputs, "(token slot) hidden -> token slot hidden", slot=weights.shape[1])
    return einsum(outputs, weights.to(outputs.dtype), "token slot hidden, token slot -> token hidden")


@right("07.1", "a row times a matrix for each token")
def _(outputs, weights):
    rows = outputs.unflatten(0, weights.shape)
    return torch.bmm(weights.to(outputs.dtype)[:, None], rows).squeeze(1)


@right("07.1", "two Python loops")
def _(outputs, weights):
    tokens, slots = weights.shape
    result = torch.zeros(tokens, outputs.shape[-1], dtype=torch.float64)
    for token in range(tokens):
        for slot in range(slots):
            result[token] += outputs[token * slots + slot].double() * float(weights[token, slot])
    return result.to(outputs.dtype)


@right("07.1", "index_add with repeated numbers")
def _(outputs, weights):
    tokens, slots = weights.shape
    token = torch.arange(tokens).repeat_interleave(slots)
    result = torch.zeros(tokens, outputs.shape[-1], dtype=torch.float64)
    return result.index_add(0, token, outputs.double() * weights.double().reshape(-1, 1)).to(outputs.dtype)


@right("07.1", "every slot-th row")
def _(outputs, weights):
    slots = weights.shape[1]
    weights = weights.to(outputs.dtype)
    return torch.stack([outputs[slot::slots] * weights[:, slot, None] for slot in range(slots)]).sum(dim=0)


# 07.2 the loop --------------------------------------------------------------------------------------------------------


def experts_of(bank, expert):
    """The three matrices of one expert."""
    return bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert]


@wrong("07.2", "no weights at all", "weight")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, _slot = torch.where(routing.experts == expert)
        result.index_add_(0, token, swiglu(x[token], *experts_of(bank, expert)))
    return result


@wrong("07.2", "weights by the number of the expert", "slot", "index", "weight", "number")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, _slot = torch.where(routing.experts == expert)
        if len(token):
            result[token] += swiglu(x[token], *experts_of(bank, expert)) * routing.weights[token, expert, None]
    return result


@wrong("07.2", "the weights taken from the logits", "weight", "logits", "softmax", "routing.weights")
def _(x, routing, bank):
    chances, result = routing.logits.softmax(dim=-1), torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, _slot = torch.where(routing.experts == expert)
        result[token] += swiglu(x[token], *experts_of(bank, expert)) * chances[token, expert, None]
    return result


@wrong("07.2", "the input weighed, not the output", "input", "before", "after", "output", "weigh")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        result[token] += swiglu(x[token] * routing.weights[token, slot, None], *experts_of(bank, expert))
    return result


@wrong("07.2", "only the first choice", "slot", "first", "all")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for token, expert in enumerate(routing.experts[:, 0].tolist()):
        result[token] = swiglu(x[token], *experts_of(bank, expert)) * routing.weights[token, 0]
    return result


@wrong("07.2", "the slot taken for the expert", "slot", "number", "expert")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for slot in range(routing.experts.shape[1]):
        result += swiglu(x, *experts_of(bank, slot)) * routing.weights[:, slot, None]
    return result


@wrong("07.2", "numbered among the chosen", "empty", "number", "no token", "without", "own", "another expert")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for number, expert in enumerate(routing.experts.unique().tolist()):
        token, slot = torch.where(routing.experts == expert)
        result[token] += swiglu(x[token], *experts_of(bank, number)) * routing.weights[token, slot, None]
    return result


@wrong("07.2", "gate and up exchanged", "gate", "up")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        rows = swiglu(x[token], bank.up_proj[expert], bank.gate_proj[expert], bank.down_proj[expert])
        result[token] += rows * routing.weights[token, slot, None]
    return result


@wrong("07.2", "added to a copy of x", "residual", "x", "zero", "token itself")
def _(x, routing, bank):
    result = x.clone()
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        result.index_add_(0, token, swiglu(x[token], *experts_of(bank, expert)) * routing.weights[token, slot, None])
    return result


@wrong("07.2", "added into x itself", "place", "change", "x")
def _(x, routing, bank):
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        x[token] += swiglu(x[token], *experts_of(bank, expert)) * routing.weights[token, slot, None]
    return x


@wrong("07.2", "a sum in float32", "dtype")
def _(x, routing, bank):
    result = torch.zeros(x.shape)
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        rows = swiglu(x[token], *experts_of(bank, expert)) * routing.weights[token, slot, None]
        result[token] += rows.float()
    return result


@right("07.2", "where, and +=")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        result[token] += swiglu(x[token], *experts_of(bank, expert)) * routing.weights[token, slot, None]
    return result


@right("07.2", "slot by slot and expert by expert")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for slot in range(routing.experts.shape[1]):
        for expert in routing.experts[:, slot].unique().tolist():
            mine = routing.experts[:, slot] == expert
            result[mine] += swiglu(x[mine], *experts_of(bank, expert)) * routing.weights[mine, slot].unsqueeze(-1)
    return result


@right("07.2", "every expert on every token, with a column of weights")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        column = ((routing.experts == expert) * routing.weights).sum(dim=-1, keepdim=True)
        result = result + swiglu(x, *experts_of(bank, expert)) * column
    return result


@right("07.2", "nonzero, and index_add")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in routing.experts.flatten().unique().tolist():
        places = (routing.experts == expert).nonzero()
        weights = torch.stack([routing.weights[token, slot] for token, slot in places.tolist()])
        result = result.index_add(
            0, places[:, 0], swiglu(x[places[:, 0]], *experts_of(bank, expert)) * weights[:, None]
        )
    return result


# 07.3 the plan --------------------------------------------------------------------------------------------------------


def lists_of(experts, num_experts):
    """Right lists, to be spoiled one at a time: order, token, offsets, back."""
    assignments = rearrange(experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    offsets = assignments.bincount(minlength=num_experts).cumsum(0)
    return order, order // experts.shape[1], offsets, order.argsort()


@wrong("07.3", "the remainder for the token", "//", "slot", "%", "divid", "remainder")
def _(experts, num_experts):
    order, _token, offsets, back = lists_of(experts, num_experts)
    return order % experts.shape[1], offsets, back


@wrong("07.3", "the remainder by the tokens", "//", "slot", "token slot", "divid", "remainder")
def _(experts, num_experts):
    order, _token, offsets, back = lists_of(experts, num_experts)
    return order % len(experts), offsets, back


@wrong("07.3", "where groups begin", "begin", "start", "end")
def _(experts, num_experts):
    _order, token, offsets, back = lists_of(experts, num_experts)
    return token, offsets - rearrange(experts, "token slot -> (token slot)").bincount(minlength=num_experts), back


@wrong("07.3", "searchsorted from the left", "begin", "start", "end", "right")
def _(experts, num_experts):
    order, token, _offsets, back = lists_of(experts, num_experts)
    return token, torch.searchsorted(experts.flatten()[order], torch.arange(num_experts)), back


@wrong("07.3", "the last row of each group", "after", "end", "one", "last")
def _(experts, num_experts):
    _order, token, offsets, back = lists_of(experts, num_experts)
    return token, offsets - 1, back


@wrong("07.3", "bincount without minlength", "minlength", "shape", "expert", "no token", "empty")
def _(experts, num_experts):
    _order, token, _offsets, back = lists_of(experts, num_experts)
    return token, experts.flatten().bincount().cumsum(0), back


@wrong("07.3", "unique for the counts", "minlength", "shape", "expert", "no token", "empty")
def _(experts, num_experts):
    _order, token, _offsets, back = lists_of(experts, num_experts)
    return token, experts.unique(return_counts=True)[1].cumsum(0), back


@wrong("07.3", "counts, no running sum", "count", "sum", "cumsum", "end")
def _(experts, num_experts):
    _order, token, _offsets, back = lists_of(experts, num_experts)
    return token, experts.flatten().bincount(minlength=num_experts), back


@wrong("07.3", "offsets that open with a zero", "shape", "zero", "end", "one too many", "expert")
def _(experts, num_experts):
    _order, token, offsets, back = lists_of(experts, num_experts)
    return token, F.pad(offsets, (1, 0)), back


@wrong("07.3", "back is the order", "argsort", "undo", "inverse", "order", "back")
def _(experts, num_experts):
    order, token, offsets, _back = lists_of(experts, num_experts)
    return token, offsets, order


@wrong("07.3", "back is a list of tokens", "back", "assignment", "row", "token")
def _(experts, num_experts):
    _order, token, offsets, back = lists_of(experts, num_experts)
    return token, offsets, back // experts.shape[1]


@wrong("07.3", "back before offsets", "order", "back", "offsets", "shape", "second")
def _(experts, num_experts):
    _order, token, offsets, back = lists_of(experts, num_experts)
    return token, back, offsets


@wrong("07.3", "flattened slot by slot", "token slot", "slot", "order", "number")
def _(experts, num_experts):
    assignments = rearrange(experts, "token slot -> (slot token)")
    order = assignments.argsort(stable=True)
    offsets = assignments.bincount(minlength=num_experts).cumsum(0)
    return order % len(experts), offsets, order.argsort()


@wrong("07.3", "int32 offsets, as grouped_mm wants them", "int64", "int32", "dtype")
def _(experts, num_experts):
    _order, token, offsets, back = lists_of(experts, num_experts)
    return token, offsets.int(), back


@wrong("07.3", "the sorted experts for the tokens", "token", "expert", "order", "argsort")
def _(experts, num_experts):
    order, _token, offsets, back = lists_of(experts, num_experts)
    return experts.flatten()[order], offsets, back


@wrong("07.3", "each token's slots sorted alone", "all", "flat", "token slot", "shape", "together", "each token")
def _(experts, num_experts):
    order = experts.argsort(dim=-1, stable=True)
    _order, _token, offsets, _back = lists_of(experts, num_experts)
    return order.flatten(), offsets, order.argsort(dim=-1).flatten()


@right("07.3", "sort, and searchsorted from the right")
def _(experts, num_experts):
    in_order, order = torch.sort(experts.flatten(), stable=True)
    offsets = torch.searchsorted(in_order, torch.arange(num_experts), right=True)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return torch.div(order, experts.shape[1], rounding_mode="floor"), offsets, back


@right("07.3", "Python lists")
def _(experts, num_experts):
    flat = [expert for chosen in experts.tolist() for expert in chosen]
    order = sorted(range(len(flat)), key=lambda number: flat[number])
    token = [number // experts.shape[1] for number in order]
    offsets = [sum(each <= expert for each in flat) for expert in range(num_experts)]
    return torch.tensor(token), torch.tensor(offsets), torch.tensor([order.index(n) for n in range(len(flat))])


@right("07.3", "counted, without a sort")
def _(experts, num_experts):
    chosen = F.one_hot(experts.flatten(), num_experts)
    counts = chosen.sum(dim=0)
    offsets = counts.cumsum(0)
    back = ((chosen.cumsum(0) - 1 + offsets - counts) * chosen).sum(dim=-1)
    token = torch.empty_like(back)
    token[back] = repeat(torch.arange(len(experts)), "token -> (token slot)", slot=experts.shape[1])
    return token, offsets, back


@right("07.3", "NumPy")
def _(experts, num_experts):
    flat = experts.numpy().ravel()
    order = np.argsort(flat, kind="stable")
    offsets = np.cumsum(np.bincount(flat, minlength=num_experts))
    return torch.from_numpy(order // experts.shape[1]), torch.from_numpy(offsets), torch.from_numpy(np.argsort(order))


@right("07.3", "gathered from the table of tokens")
def _(experts, num_experts):
    tokens, slots = experts.shape
    numbers = torch.arange(tokens)[:, None].expand(tokens, slots).flatten()
    order = torch.argsort(experts.flatten() * experts.numel() + torch.arange(experts.numel()))
    offsets = torch.stack([(experts <= expert).sum() for expert in range(num_experts)])
    return numbers[order], offsets, torch.argsort(order)


# 07.4 an expert without tokens ----------------------------------------------------------------------------------------


def sorted_rows(x, routing):
    """The assignments, their order, and the rows of x in it."""
    assignments = rearrange(routing.experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    return assignments, order, x[order // routing.experts.shape[1]]


@wrong("07.4", "as it was", "unchanged", "empty", "no token", "without", "number", "group")
def _(x, routing, bank):
    assignments, order, rows = sorted_rows(x, routing)
    _, counts = assignments[order].unique_consecutive(return_counts=True)
    outputs = [swiglu(group, *experts_of(bank, n)) for n, group in enumerate(rows.split(counts.tolist()))]
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


@wrong("07.4", "empty groups passed over before they are numbered", "empty", "no token", "without", "number", "group")
def _(x, routing, bank):
    assignments, order, rows = sorted_rows(x, routing)
    counts = [count for count in assignments.bincount(minlength=len(bank.gate_proj)).tolist() if count > 0]
    outputs = [swiglu(group, *experts_of(bank, n)) for n, group in enumerate(rows.split(counts))]
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


@wrong("07.4", "ids in the order of the text", "sort", "order", "group", "own expert", "another")
def _(x, routing, bank):
    assignments, order, rows = sorted_rows(x, routing)
    _, counts = assignments[order].unique_consecutive(return_counts=True)
    ids = list(dict.fromkeys(assignments.tolist()))
    outputs = [swiglu(group, *experts_of(bank, n)) for n, group in zip(ids, rows.split(counts.tolist()), strict=True)]
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


@wrong("07.4", "repaired, and not put back", "back", "order")
def _(x, routing, bank):
    assignments, order, rows = sorted_rows(x, routing)
    ids, counts = assignments[order].unique_consecutive(return_counts=True)
    groups = zip(ids.tolist(), rows.split(counts.tolist()), strict=True)
    outputs = [swiglu(group, *experts_of(bank, n)) for n, group in groups]
    return library.combine(torch.cat(outputs), routing.weights)


@wrong("07.4", "the gate alone repaired", "up", "down", "matri", "three", "gate", "own expert", "group")
def _(x, routing, bank):
    assignments, order, rows = sorted_rows(x, routing)
    ids, counts = assignments[order].unique_consecutive(return_counts=True)
    outputs = []
    for n, (expert, group) in enumerate(zip(ids.tolist(), rows.split(counts.tolist()), strict=True)):
        outputs.append(swiglu(group, bank.gate_proj[expert], bank.up_proj[n], bank.down_proj[n]))
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


@wrong("07.4", "weights sorted as well", "weight", "order")
def _(x, routing, bank):
    assignments, order, rows = sorted_rows(x, routing)
    counts = assignments.bincount(minlength=len(bank.gate_proj)).tolist()
    outputs = [swiglu(group, *experts_of(bank, n)) for n, group in enumerate(rows.split(counts))]
    weights = routing.weights.flatten()[order].reshape(routing.weights.shape)
    return library.combine(torch.cat(outputs)[order.argsort()], weights)


@wrong("07.4", "the remainder for the row", "//", "slot", "%", "row", "token")
def _(x, routing, bank):
    assignments, order, _rows = sorted_rows(x, routing)
    counts = assignments.bincount(minlength=len(bank.gate_proj)).tolist()
    groups = x[order % routing.experts.shape[1]].split(counts)
    outputs = [swiglu(group, *experts_of(bank, n)) for n, group in enumerate(groups)]
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


@wrong("07.4", "copies of the batch one after another", "slot", "token", "copy", "copies", "order", "row")
def _(x, routing, bank):
    assignments, order, _rows = sorted_rows(x, routing)
    counts = assignments.bincount(minlength=len(bank.gate_proj)).tolist()
    groups = x.repeat(routing.experts.shape[1], 1)[order].split(counts)
    outputs = [swiglu(group, *experts_of(bank, n)) for n, group in enumerate(groups)]
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


@wrong("07.4", "weighed in the loop and in combine", "weight", "twice", "square")
def _(x, routing, bank):
    assignments, order, rows = sorted_rows(x, routing)
    counts = assignments.bincount(minlength=len(bank.gate_proj)).tolist()
    weights = routing.weights.flatten()[order, None].split(counts)
    groups = enumerate(zip(rows.split(counts), weights, strict=True))
    outputs = [swiglu(group, *experts_of(bank, n)) * weight for n, (group, weight) in groups]
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


@wrong("07.4", "counts of another size", "minlength", "slot", "split", "row", "exception", "error")
def _(x, routing, bank):
    _assignments, order, rows = sorted_rows(x, routing)
    counts = routing.experts[:, 0].bincount(minlength=len(bank.gate_proj)).tolist()
    outputs = [swiglu(group, *experts_of(bank, n)) for n, group in enumerate(rows.split(counts))]
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


@wrong("07.4", "enumerate from one", "number", "group", "own expert", "another", "index", "next", "one too")
def _(x, routing, bank):
    assignments, order, rows = sorted_rows(x, routing)
    counts = assignments.bincount(minlength=len(bank.gate_proj)).tolist()
    outputs = [swiglu(group, *experts_of(bank, n)) for n, group in enumerate(rows.split(counts), start=1)]
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


@right("07.4", "ids and counts of the same call")
def _(x, routing, bank):
    assignments, order, rows = sorted_rows(x, routing)
    ids, counts = assignments[order].unique_consecutive(return_counts=True)
    groups = zip(ids.tolist(), rows.split(counts.tolist()), strict=True)
    outputs = [swiglu(group, *experts_of(bank, n)) for n, group in groups]
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


@right("07.4", "bincount up to the last expert that is chosen")
def _(x, routing, bank):
    assignments, order, rows = sorted_rows(x, routing)
    outputs = [
        swiglu(group, *experts_of(bank, n)) for n, group in enumerate(rows.split(assignments.bincount().tolist()))
    ]
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


@right("07.4", "the first assignment of a group says its expert")
def _(x, routing, bank):
    assignments, order, rows = sorted_rows(x, routing)
    _, counts = assignments[order].unique_consecutive(return_counts=True)
    outputs, start = [], 0
    for count in counts.tolist():
        expert = int(assignments[order[start]])
        outputs.append(swiglu(rows[start : start + count], *experts_of(bank, expert)))
        start += count
    return library.combine(torch.cat(outputs)[order.argsort()], routing.weights)


@right("07.4", "the library's products, with ends")
def _(x, routing, bank):
    assignments, order, rows = sorted_rows(x, routing)
    ends = assignments.bincount(minlength=len(bank.gate_proj)).cumsum(0)
    gate, up = (library.grouped_linear(rows, stack, ends) for stack in (bank.gate_proj, bank.up_proj))
    outputs = library.grouped_linear(F.silu(gate) * up, bank.down_proj, ends)
    return library.combine(outputs[order.argsort()], routing.weights)


@right("07.4", "rows written to their places")
def _(x, routing, bank):
    slots, outputs = routing.experts.shape[1], torch.empty(routing.experts.numel(), x.shape[-1], dtype=x.dtype)
    flat = routing.experts.flatten()
    for expert in range(len(bank.gate_proj)):
        mine = torch.where(flat == expert)[0]
        outputs[mine] = swiglu(x[mine // slots], *experts_of(bank, expert))
    return library.combine(outputs, routing.weights)


# 07.5 lost slots ------------------------------------------------------------------------------------------------------


@wrong("07.5", "as it was", "unchanged", "last", "overwrit", "slot", "once", "add")
def _(rows, token, tokens):
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    result[token] += rows
    return result


@wrong("07.5", "the sum written out", "last", "overwrit", "slot", "once", "add")
def _(rows, token, tokens):
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    result[token] = result[token] + rows
    return result


@wrong("07.5", "index_put without accumulate", "last", "overwrit", "accumulate", "add", "slot")
def _(rows, token, tokens):
    return torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype).index_put_((token,), rows)


@wrong("07.5", "scatter in place of scatter_add", "last", "overwrit", "add", "slot")
def _(rows, token, tokens):
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    return result.scatter_(0, repeat(token, "row -> row hidden", hidden=rows.shape[-1]), rows)


@wrong("07.5", "scatter_add with an index of one column", "column", "hidden", "expand", "index", "first", "width")
def _(rows, token, tokens):
    return torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype).scatter_add_(0, token[:, None], rows)


@wrong("07.5", "the mean of a token's rows", "mean", "divid", "sum")
def _(rows, token, tokens):
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    return result.scatter_reduce(0, token[:, None].expand_as(rows), rows, "mean", include_self=False)


@wrong("07.5", "the largest of a token's rows", "largest", "max", "sum", "add")
def _(rows, token, tokens):
    index = token[:, None].expand_as(rows)
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    return result.scatter_reduce(0, index, rows, "amax", include_self=False)


@wrong(
    "07.5", "neighbours added, whatever token says", "token", "order", "equal", "neighbour", "shape", "number of rows"
)
def _(rows, token, tokens):
    return reduce(rows, "(token slot) hidden -> token hidden", "sum", token=tokens)


@wrong("07.5", "one_hot without the number of tokens", "shape", "tokens", "without rows", "no row", "last")
def _(rows, token, tokens):
    return einsum(F.one_hot(token).to(rows.dtype), rows, "row token, row hidden -> token hidden")


@wrong("07.5", "segments, as if the rows were sorted by token", "order", "sorted", "token", "neighbour")
def _(rows, token, tokens):
    lengths = token.bincount(minlength=tokens)
    return torch.segment_reduce(rows, "sum", lengths=lengths, unsafe=True)


@wrong("07.5", "a result in the default dtype", "dtype", "float32")
def _(rows, token, tokens):
    return torch.zeros(tokens, rows.shape[-1]).index_add_(0, token, rows.float())


@wrong("07.5", "added along the other axis", "axis", "dim", "index", "shape", "exception")
def _(rows, token, tokens):
    return torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype).index_add_(1, token, rows)


@right("07.5", "index_add")
def _(rows, token, tokens):
    return rows.new_zeros(tokens, rows.shape[-1]).index_add(0, token, rows)


@right("07.5", "scatter_add with a repeated index")
def _(rows, token, tokens):
    index = repeat(token, "row -> row hidden", hidden=rows.shape[-1])
    return torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype).scatter_add(0, index, rows)


@right("07.5", "index_put that accumulates")
def _(rows, token, tokens):
    return rows.new_zeros(tokens, rows.shape[-1]).index_put((token,), rows, accumulate=True)


@right("07.5", "a product with a mask")
def _(rows, token, tokens):
    return F.one_hot(token, tokens).to(rows.dtype).T @ rows


@right("07.5", "row by row")
def _(rows, token, tokens):
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    for number, row in zip(token.tolist(), rows, strict=True):
        result[number] += row
    return result


@right("07.5", "token by token")
def _(rows, token, tokens):
    return torch.stack([rows[token == number].sum(dim=0) for number in range(tokens)])
