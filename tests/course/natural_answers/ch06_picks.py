"""Natural answers to 06.4 and 06.5: top-k as a loop, and the price of choosing."""

import heapq

import numpy as np
import torch
from einops import rearrange

from tests.course.natural_answers.collect import Collection

collection = Collection("06.4", "06.5")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 06.4 pick ------------------------------------------------------------------------------------------------------------


@wrong("06.4", "as on the page", "equal", "tie", "both", "all of them")
def suspicious(logits, top_k):
    left, chosen = logits.clone(), []
    for _ in range(top_k):
        best = left.max(dim=-1, keepdim=True).values
        chosen.append((left == best).int().argmax(dim=-1))
        left = left.masked_fill(left == best, -torch.inf)
    return rearrange(chosen, "slot token -> token slot")


wrong("06.4", "as on the page, in float32", "equal", "tie", "both")(
    lambda logits, top_k: suspicious(logits.float(), top_k)
)
wrong("06.4", "the lowest", "lowest", "smallest")(lambda logits, top_k: logits.topk(top_k, largest=False).indices)
wrong("06.4", "sorted upwards", "lowest", "smallest", "ascending")(lambda logits, top_k: logits.argsort(-1)[:, :top_k])
wrong("06.4", "values for numbers", "value", "dtype", "index", "indices", "number")(
    lambda logits, top_k: logits.topk(top_k).values
)
wrong("06.4", "int32", "dtype", "int64", "int32")(lambda logits, top_k: logits.topk(top_k).indices.int())
wrong("06.4", "slot by token", "shape", "transpos")(lambda logits, top_k: logits.topk(top_k).indices.T)
wrong("06.4", "over the tokens", "token", "shape", "axis")(lambda logits, top_k: logits.topk(top_k, dim=0).indices)
wrong("06.4", "the best of all tokens together", "token", "shape", "row")(
    lambda logits, top_k: logits.flatten().topk(top_k).indices
)
wrong("06.4", "one too few", "shape", "slot")(lambda logits, top_k: logits.topk(top_k - 1).indices)
wrong("06.4", "names and values of topk together", "tuple", "type", "indices")(lambda logits, top_k: logits.topk(top_k))
wrong("06.4", "softmax over the tokens first", "token", "softmax", "axis")(
    lambda logits, top_k: logits.float().softmax(0).topk(top_k).indices
)
wrong("06.4", "ranks 2 to k + 1", "rank", "best", "first", "highest")(
    lambda logits, top_k: logits.topk(min(top_k + 1, logits.shape[-1])).indices[:, -top_k:]
)
wrong("06.4", "noise against ties", "noise", "random", "order", "highest")(
    lambda logits, top_k: (
        (logits.float() + 0.05 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)))
        .topk(top_k)
        .indices
    )
)


def with_loop(replaced_by):
    """Take the best, overwrite it as `replaced_by(left, best numbers)` says, take the next."""

    def pick(logits, top_k):
        left, chosen = logits.clone(), []
        for _ in range(top_k):
            best = left.argmax(dim=-1)
            chosen.append(best)
            left = replaced_by(left, best)
        return rearrange(chosen, "slot token -> token slot")

    return pick


def for_all_tokens(left, best):
    left[:, best] = -torch.inf
    return left


wrong("06.4", "never taken out", "again", "same", "taken out", "out", "remove", "twice")(
    with_loop(lambda left, best: left)
)
wrong("06.4", "overwritten with 0", "0", "zero", "negative", "again", "twice")(
    with_loop(lambda left, best: left.scatter(-1, best[:, None], 0))
)
wrong("06.4", "overwritten with -1", "-1", "negative", "again", "twice", "lower")(
    with_loop(lambda left, best: left.scatter(-1, best[:, None], -1))
)
wrong("06.4", "divided by 2 when taken", "again", "twice", "out", "half", "lower")(
    with_loop(lambda left, best: left.scatter(-1, best[:, None], left.gather(-1, best[:, None]) / 2))
)
wrong("06.4", "overwritten with the row's lowest", "again", "twice", "lowest", "equal", "tie")(
    with_loop(lambda left, best: left.scatter(-1, best[:, None], float(left.min()) if left.numel() else 0.0))
)
wrong("06.4", "taken from all tokens", "token", "all", "row", "other")(with_loop(for_all_tokens))
wrong("06.4", "-1e9 in float16", "float16", "overflow", "-inf", "raise", "half", "inf")(
    with_loop(lambda left, best: left.scatter(-1, best[:, None], torch.tensor(-1e9).item()).clone())
)


@wrong("06.4", "written into logits", "in place", "changed", "argument", "unchanged")
def _(logits, top_k):
    chosen = []
    for _ in range(top_k):
        chosen.append(logits.argmax(dim=-1))
        logits.scatter_(-1, chosen[-1][:, None], -torch.inf)
    return torch.stack(chosen, dim=-1)


@wrong("06.4", "all that are equal to the best, listed", "shape", "equal", "tie", "raise", "size", "stack")
def _(logits, top_k):
    left, chosen = logits.clone(), []
    for _ in range(top_k):
        best = left.max(dim=-1, keepdim=True).values
        chosen.append((left == best).nonzero()[:, 1])
        left = left.masked_fill(left == best, -torch.inf)
    return torch.stack(chosen, dim=-1)


@wrong("06.4", "list.index of the sorted values", "equal", "tie", "twice", "index", "same")
def _(logits, top_k):
    rows = logits.tolist()
    found = [[row.index(value) for value in sorted(row, reverse=True)[:top_k]] for row in rows]
    return torch.tensor(found, dtype=torch.int64).reshape(len(rows), top_k)


@wrong("06.4", "argmax of 'left > -inf'", "best", "highest", "first", "number")
def _(logits, top_k):
    left, chosen = logits.clone(), []
    for _ in range(top_k):
        chosen.append((left > -torch.inf).int().argmax(dim=-1))
        left = left.scatter(-1, chosen[-1][:, None], -torch.inf)
    return torch.stack(chosen, dim=-1)


@wrong("06.4", "strictly smaller ones only", "equal", "tie", "both")
def _(logits, top_k):
    chosen, limit = [], torch.full((len(logits), 1), torch.inf)
    for _ in range(top_k):
        left = logits.float().masked_fill(logits >= limit, -torch.inf)
        limit, best = left.max(dim=-1, keepdim=True)
        chosen.append(best)
    return torch.cat(chosen, dim=-1)


right("06.4", "topk")(lambda logits, top_k: logits.topk(top_k, dim=-1).indices)
right("06.4", "argsort downwards")(lambda logits, top_k: logits.argsort(dim=-1, descending=True)[:, :top_k])
right("06.4", "minus, stable")(lambda logits, top_k: torch.sort(-logits, dim=-1, stable=True).indices[:, :top_k])
right("06.4", "from behind")(lambda logits, top_k: logits.argsort(dim=-1).flip(-1)[:, :top_k])
right("06.4", "loop with scatter")(with_loop(lambda left, best: left.scatter(-1, best[:, None], -torch.inf)))


@right("06.4", "loop with an index for each row")
def _(logits, top_k):
    left, tokens = logits.clone(), torch.arange(len(logits))
    chosen = torch.empty(len(logits), top_k, dtype=torch.int64)
    for slot in range(top_k):
        chosen[:, slot] = left.argmax(dim=-1)
        left[tokens, chosen[:, slot]] = -torch.inf
    return chosen


@right("06.4", "the bug's loop, but one number masked")
def _(logits, top_k):
    left, chosen, numbers = logits.clone(), [], torch.arange(logits.shape[-1])
    for _ in range(top_k):
        best = left.max(dim=-1, keepdim=True).values
        chosen.append((left == best).int().argmax(dim=-1))
        left = left.masked_fill(numbers == chosen[-1][:, None], -torch.inf)
    return rearrange(chosen, "slot token -> token slot")


@right("06.4", "heap, the last of two equal ones first")
def _(logits, top_k):
    rows = [heapq.nlargest(top_k, range(len(row)), key=lambda e, row=row: (row[e], e)) for row in logits.tolist()]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), top_k)


@right("06.4", "NumPy")
def _(logits, top_k):
    return torch.from_numpy(np.argsort(-logits.float().numpy(), axis=-1, kind="stable")[:, :top_k].copy())


# 06.5 operations ------------------------------------------------------------------------------------------------------


def counts(router=2, experts=6):
    """router and experts times what a plain count of numbers in one matrix gives."""

    def operations(config):
        one = config.hidden_size * config.moe_intermediate_size
        return router * config.hidden_size * config.num_experts, experts * config.num_experts_per_tok * one

    return operations


wrong("06.5", "multiplications alone", "two", "addition", "half", "2")(counts(1, 3))
wrong("06.5", "multiplications alone in the router", "router", "two", "addition", "2")(counts(1, 6))
wrong("06.5", "multiplications alone in the experts", "expert", "two", "addition", "2")(counts(2, 3))
wrong("06.5", "two matrices in an expert", "three", "matri", "gate", "two")(counts(2, 4))
wrong("06.5", "one matrix in an expert", "three", "matri", "gate", "one")(counts(2, 2))
wrong("06.5", "four matrices in an expert", "three", "matri", "four")(counts(2, 8))
wrong("06.5", "counted twice again", "two", "twice", "2", "4")(counts(4, 12))


@wrong("06.5", "all experts", "all", "chosen", "top", "eight", "128")
def _(c):
    return 2 * c.hidden_size * c.num_experts, c.num_experts * 6 * c.hidden_size * c.moe_intermediate_size


@wrong("06.5", "one expert", "one", "chosen", "top", "eight")
def _(c):
    return 2 * c.hidden_size * c.num_experts, 6 * c.hidden_size * c.moe_intermediate_size


@wrong("06.5", "router for each chosen expert", "router", "once", "every", "all", "chosen")
def _(c):
    router = 2 * c.hidden_size * c.num_experts * c.num_experts_per_tok
    return router, counts()(c)[1]


@wrong("06.5", "router scores the chosen alone", "router", "all", "every", "128", "score")
def _(c):
    return 2 * c.hidden_size * c.num_experts_per_tok, counts()(c)[1]


@wrong("06.5", "intermediate_size", "intermediate", "moe")
def _(c):
    return counts()(c)[0], c.num_experts_per_tok * 6 * c.hidden_size * c.intermediate_size


@wrong("06.5", "router within the experts' number", "router", "experts", "sum", "total", "both")
def _(c):
    router, experts = counts()(c)
    return router, router + experts


@wrong("06.5", "all layers", "layer", "one")
def _(c):
    return tuple(c.num_hidden_layers * each for each in counts()(c))


@wrong("06.5", "exchanged", "order", "exchanged", "swapped", "first")
def _(c):
    return counts()(c)[::-1]


@wrong("06.5", "the ratio", "ratio", "two", "type", "tuple", "share")
def _(c):
    router, experts = counts()(c)
    return router / experts


@wrong("06.5", "the sum", "sum", "two", "type", "tuple")
def _(c):
    return sum(counts()(c))


@wrong("06.5", "router's share and the experts'", "share", "number", "count", "small", "operations")
def _(c):
    router, experts = counts()(c)
    return router / (router + experts), experts / (router + experts)


@wrong("06.5", "one addition fewer", "addition", "fewer", "less", "n - 1", "one")
def _(c):
    hidden, ffn = c.hidden_size, c.moe_intermediate_size
    expert = 2 * ffn * (2 * hidden - 1) + hidden * (2 * ffn - 1)
    return c.num_experts * (2 * hidden - 1), c.num_experts_per_tok * expert


@wrong("06.5", "SiLU and the products counted, too", "matri", "only", "silu", "element", "product")
def _(c):
    router, experts = counts()(c)
    return router, experts + c.num_experts_per_tok * (5 * c.moe_intermediate_size + 2 * c.hidden_size)


@wrong("06.5", "softmax counted, too", "matri", "only", "softmax", "router")
def _(c):
    router, experts = counts()(c)
    return router + 3 * c.num_experts, experts


@wrong("06.5", "square matrices", "ffn", "moe_intermediate", "hidden", "width", "matri")
def _(c):
    return counts()(c)[0], c.num_experts_per_tok * 6 * c.hidden_size**2


@wrong("06.5", "in millions", "million", "number", "unit", "small", "operations")
def _(c):
    return tuple(each / 1e6 for each in counts()(c))


@wrong("06.5", "a context of tokens", "one token", "token", "context")
def _(c):
    return tuple(each * c.max_position_embeddings for each in counts()(c))


@wrong("06.5", "hidden + ffn for hidden * ffn", "product", "times", "sum", "small", "multipl")
def _(c):
    expert = 6 * (c.hidden_size + c.moe_intermediate_size)
    return 2 * (c.hidden_size + c.num_experts), c.num_experts_per_tok * expert


right("06.5", "the formula")(counts())


@right("06.5", "parameters of one expert")
def _(c):
    return 2 * c.hidden_size * c.num_experts, 2 * c.num_experts_per_tok * c.parameters_per_expert


@right("06.5", "a list of floats")
def _(c):
    return [float(each) for each in counts()(c)]


@right("06.5", "integers of NumPy")
def _(c):
    router = np.prod([2, c.hidden_size, c.num_experts])
    return router, np.prod([c.num_experts_per_tok, 3, 2, c.hidden_size, c.moe_intermediate_size])


@right("06.5", "tensors")
def _(c):
    return tuple(torch.tensor(each) for each in counts()(c))


@right("06.5", "matrix by matrix")
def _(c):
    def product(rows, columns):
        return rows * columns + rows * columns

    hidden, ffn, experts = c.hidden_size, c.moe_intermediate_size, 0
    for _ in range(c.num_experts_per_tok):
        experts += product(ffn, hidden) + product(ffn, hidden) + product(hidden, ffn)
    return product(c.num_experts, hidden), experts
