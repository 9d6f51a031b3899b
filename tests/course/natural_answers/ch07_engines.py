"""Natural answers to 07.1 to 07.5: combine, the loop, the plan of the grouped product, and its two bug hunts."""

import torch
from einops import einsum, rearrange, reduce
from torch.nn import functional as F

from minimoe.model.experts import swiglu
from tests.course.natural_answers.collect import Collection

collection = Collection("07.1", "07.2", "07.3", "07.4", "07.5")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 07.1 combine ---------------------------------------------------------------------------------------------------------


@wrong("07.1", "slots outermost", "slot", "order", "token")
def _(outputs, weights):
    split = rearrange(outputs, "(slot token) hidden -> token slot hidden", slot=weights.shape[1])
    return einsum(split, weights, "token slot hidden, token slot -> token hidden")


@wrong("07.1", "weights forgotten", "weight")
def _(outputs, weights):
    return reduce(outputs, "(token slot) hidden -> token hidden", "sum", slot=weights.shape[1])


@wrong("07.1", "mean instead of sum", "mean", "sum", "divid")
def _(outputs, weights):
    split = rearrange(outputs, "(token slot) hidden -> token slot hidden", slot=weights.shape[1])
    return (split * weights[..., None]).mean(dim=1)


@wrong("07.1", "renormalised again", "renormal", "as they are", "sum to")
def _(outputs, weights):
    weights = weights / weights.sum(-1, keepdim=True)
    split = rearrange(outputs, "(token slot) hidden -> token slot hidden", slot=weights.shape[1])
    return einsum(split, weights, "token slot hidden, token slot -> token hidden")


@wrong("07.1", "softmax of the weights", "softmax", "as they are", "weight")
def _(outputs, weights):
    split = rearrange(outputs, "(token slot) hidden -> token slot hidden", slot=weights.shape[1])
    return einsum(split, weights.softmax(-1), "token slot hidden, token slot -> token hidden")


@wrong("07.1", "only the first slot", "slot", "first")
def _(outputs, weights):
    split = rearrange(outputs, "(token slot) hidden -> token slot hidden", slot=weights.shape[1])
    return split[:, 0] * weights[:, :1]


@wrong("07.1", "not summed", "shape", "sum", "slot")
def _(outputs, weights):
    return outputs * rearrange(weights, "token slot -> (token slot) 1")


@wrong("07.1", "in float32", "dtype", "float32")
def _(outputs, weights):
    split = rearrange(outputs.float(), "(token slot) hidden -> token slot hidden", slot=weights.shape[1])
    return einsum(split, weights.float(), "token slot hidden, token slot -> token hidden")


@wrong("07.1", "weights multiplied in place", "in place", "unchanged", "changed")
def _(outputs, weights):
    outputs *= rearrange(weights, "token slot -> (token slot) 1")
    return reduce(outputs, "(token slot) hidden -> token hidden", "sum", slot=weights.shape[1])


@right("07.1", "einsum")
def _(outputs, weights):
    split = rearrange(outputs, "(token slot) hidden -> token slot hidden", slot=weights.shape[1])
    return einsum(split, weights, "token slot hidden, token slot -> token hidden")


@right("07.1", "reshape and sum")
def _(outputs, weights):
    tokens, slots = weights.shape
    return (outputs.reshape(tokens, slots, outputs.shape[-1]) * weights.unsqueeze(-1)).sum(dim=1)


@right("07.1", "batched product")
def _(outputs, weights):
    tokens, slots = weights.shape
    return (weights[:, None] @ outputs.view(tokens, slots, outputs.shape[-1])).squeeze(1)


@right("07.1", "weighted first, then reduce")
def _(outputs, weights):
    return reduce(
        outputs * weights.reshape(-1, 1), "(token slot) hidden -> token hidden", "sum", slot=weights.shape[1]
    )


# 07.2 loop ------------------------------------------------------------------------------------------------------------


def looped(x, routing, bank, weigh=True):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        if len(token):
            out = swiglu(x[token], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
            result[token] += out * routing.weights[token, slot, None] if weigh else out
    return result


@wrong("07.2", "weights forgotten", "weight")
def _(x, routing, bank):
    return looped(x, routing, bank, weigh=False)


@wrong("07.2", "the input is kept in the sum", "x", "zero", "residual", "input")
def _(x, routing, bank):
    return x + looped(x, routing, bank)


@wrong("07.2", "assigned, not added", "last", "overwrit", "add", "slot")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        out = swiglu(x[token], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
        result[token] = out * routing.weights[token, slot, None]
    return result


@wrong("07.2", "gate and up swapped", "gate", "up", "swap", "exchang")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        out = swiglu(x[token], bank.up_proj[expert], bank.gate_proj[expert], bank.down_proj[expert])
        result[token] += out * routing.weights[token, slot, None]
    return result


@wrong("07.2", "only the first slot", "slot", "first")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for token, expert in enumerate(routing.experts[:, 0].tolist()):
        out = swiglu(x[token], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
        result[token] = out * routing.weights[token, 0]
    return result


@wrong("07.2", "weight of the first slot for all", "weight", "slot")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, _ = torch.where(routing.experts == expert)
        out = swiglu(x[token], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
        result[token] += out * routing.weights[token, :1]
    return result


@wrong("07.2", "averaged over the slots", "mean", "sum", "slot", "times too")
def _(x, routing, bank):
    return looped(x, routing, bank) / routing.experts.shape[1]


@wrong("07.2", "the last expert left out", "expert", "last", "range")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj) - 1):
        token, slot = torch.where(routing.experts == expert)
        out = swiglu(x[token], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
        result[token] += out * routing.weights[token, slot, None]
    return result


@wrong("07.2", "added into x", "in place", "unchanged", "changed", "x")
def _(x, routing, bank):
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        out = swiglu(x[token], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
        x.index_add_(0, token, out * routing.weights[token, slot, None])
    return x


@right("07.2", "where and indexing")
def _(x, routing, bank):
    return looped(x, routing, bank)


@right("07.2", "a mask of tokens")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        chosen = routing.experts == expert
        rows = chosen.any(dim=-1)
        if rows.any():
            weight = (routing.weights * chosen).sum(dim=-1)[rows]
            out = swiglu(x[rows], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
            result[rows] += out * weight[:, None]
    return result


@right("07.2", "token by token")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for token in range(len(x)):
        for expert, weight in zip(routing.experts[token].tolist(), routing.weights[token], strict=True):
            out = swiglu(x[token], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
            result[token] += weight * out
    return result


@right("07.2", "index_add of the chosen experts only")
def _(x, routing, bank):
    result = torch.zeros_like(x)
    for expert in routing.experts.unique().tolist():
        token, slot = (routing.experts == expert).nonzero(as_tuple=True)
        hidden = F.silu(x[token] @ bank.gate_proj[expert].T) * (x[token] @ bank.up_proj[expert].T)
        result.index_add_(0, token, (hidden @ bank.down_proj[expert].T) * routing.weights[token, slot].unsqueeze(1))
    return result


# 07.3 plan ------------------------------------------------------------------------------------------------------------


def planned(experts, num_experts):
    assignments = rearrange(experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    return order // experts.shape[1], assignments.bincount(minlength=num_experts).cumsum(0), order.argsort()


@wrong("07.3", "order in the place of back", "back", "order", "argsort", "undo")
def _(experts, num_experts):
    assignments = rearrange(experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    return order // experts.shape[1], assignments.bincount(minlength=num_experts).cumsum(0), order


@wrong("07.3", "offsets begin at zero", "offsets", "begin", "end", "start", "zero")
def _(experts, num_experts):
    token, offsets, back = planned(experts, num_experts)
    return token, F.pad(offsets, (1, 0))[:-1], back


@wrong("07.3", "one offset too many", "offsets", "shape", "zero")
def _(experts, num_experts):
    token, offsets, back = planned(experts, num_experts)
    return token, F.pad(offsets, (1, 0)), back


@wrong("07.3", "counts in the place of offsets", "counts", "offsets", "running", "sum")
def _(experts, num_experts):
    token, _, back = planned(experts, num_experts)
    return token, experts.flatten().bincount(minlength=num_experts), back


@wrong("07.3", "no minlength", "minlength", "shape", "empty", "every expert")
def _(experts, num_experts):
    token, _, back = planned(experts, num_experts)
    return token, experts.flatten().bincount().cumsum(0), back


@wrong("07.3", "assignments in the place of tokens", "token", "slot", "assignment")
def _(experts, num_experts):
    _, offsets, back = planned(experts, num_experts)
    return experts.flatten().argsort(stable=True), offsets, back


@wrong("07.3", "the remainder in the place of the quotient", "token", "slot", "//", "%")
def _(experts, num_experts):
    _, offsets, back = planned(experts, num_experts)
    return experts.flatten().argsort(stable=True) % experts.shape[1], offsets, back


@wrong("07.3", "numbered slot first", "slot", "token", "order", "numbered")
def _(experts, num_experts):
    assignments = rearrange(experts, "token slot -> (slot token)")
    order = assignments.argsort(stable=True)
    return order % len(experts), assignments.bincount(minlength=num_experts).cumsum(0), order.argsort()


@wrong("07.3", "divided by the number of experts", "token", "slot")
def _(experts, num_experts):
    _, offsets, back = planned(experts, num_experts)
    return experts.flatten().argsort(stable=True) // num_experts, offsets, back


@wrong("07.3", "sorted from the last expert", "descending", "ascending", "order", "sort", "token")
def _(experts, num_experts):
    assignments = experts.flatten()
    order = assignments.argsort(stable=True, descending=True)
    return order // experts.shape[1], assignments.bincount(minlength=num_experts).cumsum(0), order.argsort()


@right("07.3", "bincount and argsort")
def _(experts, num_experts):
    return planned(experts, num_experts)


@right("07.3", "searchsorted and scatter")
def _(experts, num_experts):
    ids, order = experts.flatten().sort(stable=True)
    offsets = torch.searchsorted(ids, torch.arange(num_experts), right=True)
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    return torch.div(order, experts.shape[1], rounding_mode="floor"), offsets, back


@right("07.3", "a table of token numbers")
def _(experts, num_experts):
    tokens = torch.arange(len(experts))[:, None].expand_as(experts).flatten()
    order = torch.sort(experts.flatten(), stable=True).indices
    offsets = F.one_hot(experts.flatten(), num_experts).sum(0).cumsum(0)
    return tokens[order], offsets, torch.argsort(order)


@right("07.3", "lists")
def _(experts, num_experts):
    flat = experts.flatten().tolist()
    order = sorted(range(len(flat)), key=lambda n: flat[n])
    offsets = [sum(each <= expert for each in flat) for expert in range(num_experts)]
    back = [order.index(n) for n in range(len(flat))]
    as_tensor = lambda numbers: torch.tensor(numbers, dtype=torch.int64)  # noqa: E731
    return as_tensor([n // experts.shape[1] for n in order]), as_tensor(offsets), as_tensor(back)


# 07.4 an expert without tokens ----------------------------------------------------------------------------------------


def engine(x, routing, bank, groups, weights=None, back=None):
    slots = routing.experts.shape[1]
    assignments = rearrange(routing.experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    outputs = []
    for expert, rows in groups(assignments[order], x[order // slots], len(bank.gate_proj)):
        outputs.append(swiglu(rows, bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert]))
    rows = torch.cat(outputs)[order.argsort() if back is None else order]
    split = rearrange(rows, "(token slot) hidden -> token slot hidden", slot=slots)
    weights = routing.weights if weights is None else weights
    return einsum(split, weights, "token slot hidden, token slot -> token hidden")


def by_bincount(ids, rows, experts):
    return enumerate(rows.split(ids.bincount(minlength=experts).tolist()))


@wrong("07.4", "bincount, and empty groups skipped before they are numbered", "expert", "group", "number")
def _(x, routing, bank):
    def groups(ids, rows, experts):
        return enumerate(rows.split([n for n in ids.bincount(minlength=experts).tolist() if n]))

    return engine(x, routing, bank, groups)


@wrong("07.4", "numbers in order of first use", "expert", "group", "number", "order")
def _(x, routing, bank):
    def groups(ids, rows, experts):
        used = list(dict.fromkeys(routing.experts.flatten().tolist()))
        return zip(used, rows.split(ids.unique_consecutive(return_counts=True)[1].tolist()), strict=True)

    return engine(x, routing, bank, groups)


@wrong("07.4", "not put back", "back", "order")
def _(x, routing, bank):
    slots = routing.experts.shape[1]
    ids, order = routing.experts.flatten().sort(stable=True)
    groups = by_bincount(ids, x[order // slots], len(bank.gate_proj))
    outputs = [swiglu(r, bank.gate_proj[e], bank.up_proj[e], bank.down_proj[e]) for e, r in groups]
    split = rearrange(torch.cat(outputs), "(token slot) hidden -> token slot hidden", slot=slots)
    return (split * routing.weights[..., None]).sum(1)


@wrong("07.4", "put back by order", "back", "order", "argsort")
def _(x, routing, bank):
    return engine(x, routing, bank, by_bincount, back="order")


@wrong("07.4", "weights sorted, too", "weight", "order", "slot")
def _(x, routing, bank):
    order = routing.experts.flatten().argsort(stable=True)
    weights = routing.weights.flatten()[order].reshape(routing.weights.shape)
    return engine(x, routing, bank, by_bincount, weights=weights)


@wrong("07.4", "weights forgotten", "weight")
def _(x, routing, bank):
    return engine(x, routing, bank, by_bincount, weights=torch.ones_like(routing.weights))


@wrong("07.4", "one group too far", "expert", "group", "number", "next")
def _(x, routing, bank):
    def groups(ids, rows, experts):
        numbers, counts = ids.unique_consecutive(return_counts=True)
        numbers = (numbers + 1) % experts
        return zip(numbers.tolist(), rows.split(counts.tolist()), strict=True)

    return engine(x, routing, bank, groups)


@right("07.4", "bincount with minlength")
def _(x, routing, bank):
    return engine(x, routing, bank, by_bincount)


@right("07.4", "the numbers that unique_consecutive returns")
def _(x, routing, bank):
    def groups(ids, rows, experts):
        numbers, counts = ids.unique_consecutive(return_counts=True)
        return zip(numbers.tolist(), rows.split(counts.tolist()), strict=True)

    return engine(x, routing, bank, groups)


@right("07.4", "a mask for each expert")
def _(x, routing, bank):
    return engine(x, routing, bank, lambda ids, rows, experts: [(e, rows[ids == e]) for e in range(experts)])


@right("07.4", "no sorting at all")
def _(x, routing, bank):
    return looped(x, routing, bank)


# 07.5 lost slots ------------------------------------------------------------------------------------------------------


@wrong("07.5", "assigned", "last", "overwrit", "add", "one row", "once")
def _(rows, token, tokens):
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    result[token] = rows
    return result


@wrong("07.5", "the mean of the rows", "mean", "sum", "divid")
def _(rows, token, tokens):
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype).index_add(0, token, rows)
    return result / token.bincount(minlength=tokens).clamp(min=1)[:, None].to(rows.dtype)


@wrong("07.5", "scatter without a sum", "last", "overwrit", "add", "one row", "once")
def _(rows, token, tokens):
    index = token[:, None].expand_as(rows)
    return torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype).scatter(0, index, rows)


@wrong("07.5", "rows in the order of tokens, equally many", "token", "slot", "order", "equal")
def _(rows, token, tokens):
    return reduce(rows, "(token slot) hidden -> token hidden", "sum", token=tokens)


@wrong("07.5", "as many tokens as occur", "shape", "without rows", "zero", "tokens")
def _(rows, token, tokens):
    result = torch.zeros(int(token.max()) + 1, rows.shape[-1], dtype=rows.dtype)
    return result.index_add(0, token, rows)


@wrong("07.5", "in float32", "dtype", "float32")
def _(rows, token, tokens):
    return torch.zeros(tokens, rows.shape[-1]).index_add(0, token, rows.float())


@wrong("07.5", "the largest row", "max", "sum", "add")
def _(rows, token, tokens):
    index = token[:, None].expand_as(rows)
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    return result.scatter_reduce(0, index, rows, "amax", include_self=False)


@wrong("07.5", "the first row of each token", "first", "one row", "once", "add")
def _(rows, token, tokens):
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    for place in reversed(range(len(token))):
        result[token[place]] = rows[place]
    return result


@right("07.5", "index_add_")
def _(rows, token, tokens):
    return torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype).index_add_(0, token, rows)


@right("07.5", "index_put_ with accumulate")
def _(rows, token, tokens):
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    return result.index_put_((token,), rows, accumulate=True)


@right("07.5", "a product with one-hot rows")
def _(rows, token, tokens):
    return F.one_hot(token, tokens).T.to(rows.dtype) @ rows


@right("07.5", "scatter_add")
def _(rows, token, tokens):
    index = token[:, None].expand_as(rows)
    return torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype).scatter_add(0, index, rows)


@right("07.5", "one row after another")
def _(rows, token, tokens):
    result = torch.zeros(tokens, rows.shape[-1], dtype=rows.dtype)
    for row, place in zip(rows, token.tolist(), strict=True):
        result[place] += row
    return result
