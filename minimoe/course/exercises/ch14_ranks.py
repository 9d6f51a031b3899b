"""Chapter 14, the whole 235B: expert and tensor parallelism over several ranks (14.4, 14.5, 14.8)."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.model.config import ModelConfig
from minimoe.model.experts import run_experts, swiglu
from minimoe.model.router import Routing
from minimoe.scale.distributed.tensor_parallel import run_local_experts
from minimoe.scale.planner.sharding import key_heads

# 14.4 the partial output of one rank ---------------------------------------------------------------------------------


def share_by_loops(x: Tensor, routing: Routing, bank: Any, first: int) -> Tensor:
    """Token by token, slot by slot: the experts of this rank, and no other."""
    return local(x, routing, bank, lambda expert, here: expert - first)


Home = Callable[[int, int], int | None]  # (expert id, number of local experts) -> row in the local bank, or None


def local(
    x: Tensor, routing: Routing, bank: Any, home: Home, weigh: str = "as routed", join: str = "add"
) -> Tensor:
    """The loop behind oracle and mutants; a row below 0 or beyond the bank is somewhere else."""
    output, here = torch.zeros_like(x), len(bank.gate_proj)
    for token, (experts, weights) in enumerate(zip(routing.experts.tolist(), routing.weights, strict=True)):
        rows = [home(expert, here) for expert in experts]
        mine = [slot for slot, row in enumerate(rows) if row is not None and 0 <= row < here]
        for slot in mine:
            weight = {
                "as routed": weights[slot],
                "not at all": 1.0,
                "among these": weights[slot] / weights[mine].sum(),
                "the first": weights[0],
            }
            row = rows[slot]
            answer = swiglu(x[token], bank.gate_proj[row], bank.up_proj[row], bank.down_proj[row]) * weight[weigh]
            output[token] = output[token] + answer if join == "add" else answer
    return output


def with_home(home: Callable[[int, int, int], int | None], **ways: str) -> Callable[..., Tensor]:
    """A share with another idea of where an expert lives: (expert, first, how many are here) -> row."""

    def share(x: Tensor, routing: Routing, bank: Any, first: int) -> Tensor:
        return local(x, routing, bank, lambda expert, here: home(expert, first, here), **ways)

    return share


def another_expert(answer: Callable[..., Tensor], start: str = "zeros", **ways: str) -> Callable[..., Tensor]:
    """A share in which an expert computes `answer(x, gate, up, down, weight)`; start "x": added to what came in."""

    def share(x: Tensor, routing: Routing, bank: Any, first: int) -> Tensor:
        output = x.clone() if start == "x" else torch.zeros_like(x)
        for row, weights in enumerate(zip(bank.gate_proj, bank.up_proj, bank.down_proj, strict=True)):
            for token, slot in (routing.experts == first + row).nonzero().tolist():
                output[token] += answer(x[token], *weights, routing.weights[token, slot])
        return output

    return share


def averaged(x: Tensor, routing: Routing, bank: Any, first: int) -> Tensor:
    here = (routing.experts >= first) & (routing.experts < first + len(bank.gate_proj))
    return share_by_loops(x, routing, bank, first) / here.sum(dim=-1, keepdim=True).clamp(min=1)


def every_expert(x: Tensor, routing: Routing, bank: Any, first: int) -> Tensor:
    banks = zip(bank.gate_proj, bank.up_proj, bank.down_proj, strict=True)
    return sum((swiglu(x, *weights) for weights in banks), torch.zeros_like(x))


def last_row_kept(x: Tensor, routing: Routing, bank: Any, first: int) -> Tensor:
    """Expert by expert, and the output of a token is overwritten by each."""
    output = torch.zeros_like(x)
    for row, weights in enumerate(zip(bank.gate_proj, bank.up_proj, bank.down_proj, strict=True)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        output[token] = swiglu(x[token], *weights) * routing.weights[token, slot, None]
    return output


def only_tokens_with_work(x: Tensor, routing: Routing, bank: Any, first: int) -> Tensor:
    here = (routing.experts >= first) & (routing.experts < first + len(bank.gate_proj))
    return share_by_loops(x, routing, bank, first)[here.any(dim=-1)]


class Bank(SimpleNamespace):
    """gate_proj, up_proj, down_proj of the experts that live on one rank."""

    def __repr__(self) -> str:
        return f"of {len(self.gate_proj)} experts"


def some_ranks(token: int, experts: int, here: int, first: int, slot: int = 3) -> Arguments:
    """Random values, and the bank of the rank that holds experts first to first + here of `experts`."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Routing, Bank, int]:
        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        hidden, ffn = 6, 5
        logits = draw(token, experts)
        weights, chosen = logits.softmax(dim=-1).topk(slot, dim=-1)
        routing = Routing(logits, chosen, weights / weights.sum(dim=-1, keepdim=True))
        bank = Bank(
            gate_proj=draw(here, ffn, hidden),
            up_proj=draw(here, ffn, hidden),
            down_proj=draw(here, hidden, ffn),
            engine="loop",
        )
        return draw(token, hidden), routing, bank, first

    return arguments


def none_here(generator: torch.Generator) -> tuple[Tensor, Routing, Bank, int]:
    """All tokens choose experts below 6; this rank has 8 to 11."""
    x, routing, bank, first = some_ranks(4, 6, 4, 8)(generator)
    return x, routing, bank, first


def by_index_add(x: Tensor, routing: Routing, bank: Any, first: int) -> Tensor:
    """Expert by expert; only those that have tokens."""
    output = torch.zeros_like(x)
    for row, matrices in enumerate(zip(bank.gate_proj, bank.up_proj, bank.down_proj, strict=True)):
        token, slot = (routing.experts == first + row).nonzero(as_tuple=True)
        if len(token):
            output.index_add_(0, token, swiglu(x[token], *matrices) * routing.weights[token, slot, None])
    return output


def by_weight_zero(x: Tensor, routing: Routing, bank: Any, first: int) -> Tensor:
    """The library's own function, with weight zero for experts on other ranks."""
    rows = routing.experts - first
    here = (rows >= 0) & (rows < len(bank.gate_proj))
    return run_experts(x, Routing(routing.logits, rows.where(here, 0), routing.weights * here), bank)


def by_einsum(x: Tensor, routing: Routing, bank: Any, first: int) -> Tensor:
    """All experts of this rank answer all tokens, and a table says how much each counts."""
    chosen = F.one_hot(routing.experts, routing.logits.shape[-1] + first + len(bank.gate_proj)).to(x.dtype)
    table = einsum(chosen, routing.weights, "token slot expert, token slot -> token expert")
    table = table[:, first : first + len(bank.gate_proj)]
    inner = F.silu(einsum(x, bank.gate_proj, "token hidden, expert ffn hidden -> token expert ffn"))
    inner = inner * einsum(x, bank.up_proj, "token hidden, expert ffn hidden -> token expert ffn")
    answers = einsum(inner, bank.down_proj, "token expert ffn, expert hidden ffn -> token expert hidden")
    return einsum(answers, table, "token expert hidden, token expert -> token hidden")


# 14.5 key/value heads of a rank ---------------------------------------------------------------------------------------


def heads_by_loops(query_heads: int, heads: int, ranks: int, rank: int) -> list[int]:
    """Which key/value head does each query head of this rank share?"""
    each, group = query_heads // ranks, query_heads // heads
    return sorted({query // group for query in range(rank * each, (rank + 1) * each)})


def heads_as_given(query_heads: int, heads: int, ranks: int, rank: int) -> list[int]:
    each = max(1, heads // ranks)
    return [(rank * each + n) % heads for n in range(each)]


def up_to_heads(above: Callable[[int, int, int], list[int]]) -> Callable[..., list[int]]:
    """Right up to as many ranks as heads; `above` (heads, ranks, rank) says what comes then."""

    def found(query_heads: int, heads: int, ranks: int, rank: int) -> list[int]:
        return heads_as_given(query_heads, heads, ranks, rank) if ranks <= heads else above(heads, ranks, rank)

    return found


def both_sides(heads: int, ranks: int, rank: int) -> list[int]:
    """Rounded down and rounded up."""
    return sorted({rank * heads // ranks, -(-rank * heads // ranks) % heads})


def not_rounded(query_heads: int, heads: int, ranks: int, rank: int) -> list[float]:
    return [rank * heads / ranks + n for n in range(max(1, heads // ranks))]


def for_the_235b(query_heads: int, heads: int, ranks: int, rank: int) -> list[int]:
    """The sizes of the 235B, whatever is passed."""
    return heads_by_loops(64, 4, ranks, rank)


def by_formula(query_heads: int, heads: int, ranks: int, rank: int) -> tuple[int, ...]:
    return tuple(range(rank * heads // ranks, max(rank * heads // ranks + 1, (rank + 1) * heads // ranks)))


def by_the_library(query_heads: int, heads: int, ranks: int, rank: int) -> list[int]:
    """A config with those heads, and the function that the planner and the loader use."""
    config = ModelConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=query_heads, num_key_value_heads=heads,
        head_dim=2,
    )  # fmt: skip
    return list(key_heads(config, ranks, rank))


# 14.8 einops: shard q_proj and k_proj for all ranks at once -----------------------------------------------------------

Split = tuple[Tensor, Tensor]


def split_as_it_was(q: Tensor, k: Tensor, ranks: int, head_dim: int) -> Split:
    """Slices and copies, rank by rank."""
    rows, heads = q.shape[0] // ranks, k.shape[0] // head_dim
    qs = [q[rank * rows : (rank + 1) * rows] for rank in range(ranks)]
    ks = [k[rank * heads // ranks * head_dim :][:head_dim] for rank in range(ranks)]
    return torch.stack(qs), torch.stack(ks)


def by_patterns(queries: str, keys: str) -> Callable[..., Split]:
    """Two patterns as the whole answer."""

    def split(q: Tensor, k: Tensor, ranks: int, head_dim: int) -> Split:
        copies = ranks * head_dim // k.shape[0]
        return rearrange(q, queries, rank=ranks), repeat(k, keys, head_dim=head_dim, copy=copies)

    return split


QUERIES = "(rank row) hidden -> rank row hidden"
KEYS = "(head head_dim) hidden -> (head copy) head_dim hidden"
ROWS_IN_TURN = "(row rank) hidden -> rank row hidden"
EVERY_SECOND = "(head head_dim) hidden -> (copy head) head_dim hidden"


def by_repeat_interleave(q: Tensor, k: Tensor, ranks: int, head_dim: int) -> list[Tensor]:
    heads = torch.stack(k.split(head_dim))
    return [torch.stack(q.chunk(ranks)), heads.repeat_interleave(ranks // len(heads), dim=0)]


def by_unflatten(q: Tensor, k: Tensor, ranks: int, head_dim: int) -> Split:
    heads = k.unflatten(0, (-1, head_dim))
    return q.unflatten(0, (ranks, -1)), heads[torch.arange(ranks) * len(heads) // ranks]


def two_projections(queries: int, heads: int, head_dim: int, ranks: int) -> Arguments:
    """q_proj and k_proj with a different number in every place."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, int, int]:
        hidden = 5
        q, k = (
            torch.randperm(count * head_dim * hidden, generator=generator).float() for count in (queries, heads)
        )
        q, k = (rearrange(matrix, "(row hidden) -> row hidden", hidden=hidden) for matrix in (q, k))
        return q, k, ranks, head_dim

    return arguments


EXERCISES = (
    Exercise(
        id="14.4",
        title="The share of one rank",
        kind="fill in",
        minutes=15,
        difficulty=3,
        hints=(
            "It is run_experts with most of the experts somewhere else. What must a rank add for an expert that it "
            "doesn't have?",
            "x (token, hidden) -> (token, hidden). bank.gate_proj[row] is expert number first + row. For every row: "
            "which (token, slot) chose that number? `.nonzero(as_tuple=True)` of a comparison tells you.",
            "output = zeros like x; for each row of the bank: token, slot = (routing.experts == first + row).nonzero("
            "as_tuple=True); answer = swiglu(x[token], gate[row], up[row], down[row]) times routing.weights[token, "
            "slot], with an axis of length one; output.index_add_(0, token, answer).",
        ),
        teaches=run_local_experts,
        now_you_know="experts may be on any rank: each adds what it has, and zero for the rest, so the sum is right.",
        oracle=share_by_loops,
        cases=(
            Case("two tokens, two experts, both here", some_ranks(2, 2, 2, 0, slot=1)),
            Case("three ranks of four experts: the first", some_ranks(5, 12, 4, 0)),
            Case("the second", some_ranks(5, 12, 4, 4)),
            Case("the third", some_ranks(7, 12, 4, 8)),
            Case("no token has an expert here: zeros", none_here),
            Case("all experts on one rank", some_ranks(6, 8, 8, 0)),
        ),
        mutants={
            "row numbers": (
                with_home(lambda expert, first, here: expert),
                "expert number e is looked up in row e of the bank. Row 0 here is expert number `first`.",
            ),
            "modulo": (
                with_home(lambda expert, first, here: expert % here),
                "every rank answers for every slot, with the expert of that number modulo the bank. The sum counts "
                "each slot once per rank.",
            ),
            "the nearest": (
                with_home(lambda expert, first, here: min(max(expert - first, 0), here - 1)),
                "for experts on other ranks the first or last one here answers. Add nothing for them.",
            ),
            "not the first": (
                with_home(lambda expert, first, here: expert - first if expert > first else None),
                "the first expert of the rank is never asked: the comparison should be >=.",
            ),
            "shares among these": (
                with_home(lambda expert, first, here: expert - first, weigh="among these"),
                "the weights are renormalised over the experts that are here. Keep them as routed: the other ranks "
                "have the rest.",
            ),
            "unweighted": (
                with_home(lambda expert, first, here: expert - first, weigh="not at all"),
                "answers are added without their weights.",
            ),
            "the last one wins": (
                with_home(lambda expert, first, here: expert - first, join="replace"),
                "where two of a token's experts are here, one answer replaces the other. Add them up.",
            ),
            "silu on the other projection": (
                another_expert(lambda x, gate, up, down, weight: swiglu(x, up, gate, down) * weight),
                "gate_proj and up_proj are exchanged: silu belongs to the gate.",
            ),
            "without silu": (
                another_expert(lambda x, gate, up, down, weight: down @ ((gate @ x) * (up @ x)) * weight),
                "the activation is missing: an expert is down(silu(gate x) * up x).",
            ),
            "weight before the nonlinearity": (
                another_expert(lambda x, gate, up, down, weight: swiglu(x * weight, gate, up, down)),
                "the weight multiplies the input of the expert. It belongs to its output, as silu is not linear.",
            ),
            "added to x": (
                another_expert(lambda x, gate, up, down, weight: swiglu(x, gate, up, down) * weight, start="x"),
                "the output starts from x itself. Start from zeros: the residual is added by the layer, once.",
            ),
            "averaged": (
                averaged,
                "the outputs are divided by the number of experts here. They are a weighted sum, not a mean.",
            ),
            "every expert": (
                every_expert,
                "every expert here is run for every token, without weights. Only the selected ones count, each with "
                "its routing weight.",
            ),
            "the last row wins": (
                last_row_kept,
                "the output of a token is overwritten by its next expert. Add them up.",
            ),
            "negative rows": (
                with_home(
                    lambda expert, first, here: (expert - first) % here if -here <= expert - first < here else None
                ),
                "a negative row number counts from the end, so that experts below `first` are answered for by the "
                "wrong ones. They are on another rank: zero.",
            ),
            "the first slot's weight": (
                with_home(lambda expert, first, here: expert - first, weigh="the first"),
                "all experts of a token get the weight of its first slot. Each has its own.",
            ),
            "only tokens with work": (
                only_tokens_with_work,
                "only tokens that have an expert here are returned. The answers of all ranks are added, so each must "
                "have every token, with zeros where it has no expert.",
            ),
        },
        accepted={"index_add": by_index_add, "weight zero": by_weight_zero, "einsum over all here": by_einsum},
        stages=(
            Stage("", lambda x, routing, bank, first: torch.zeros_like(x), "is zero everywhere"),
            Stage("", lambda x, routing, bank, first: x, "is x itself"),
        ),
    ),
    Exercise(
        id="14.5",
        title="Right on four ranks, wrong on eight",
        kind="bug hunt",
        minutes=12,
        difficulty=3,
        hints=(
            "Start from the query heads of a rank, not from the rank: which key/value head does query head 40 share?",
            "Query head q uses key/value head q // (query_heads // heads). A rank has query_heads // ranks of them, in "
            "a run that begins at rank times that.",
            "The heads of rank r begin at r * heads // ranks: one of them if ranks >= heads, else heads // ranks. The "
            "modulo deals heads out in turn, which is right only while each head is dealt once.",
        ),
        now_you_know="a wrong head has the right shape: there is no error and no nan, only a worse model.",
        teaches=key_heads,
        oracle=heads_by_loops,
        cases=(
            Case("64 query heads, 4 key/value heads, 2 ranks, the second", (64, 4, 2, 1), [2, 3]),
            Case("4 ranks: one head each", (64, 4, 4, 2), [2]),
            Case("8 ranks: neighbours share a head, so ranks 4 and 5 have head 2", (64, 4, 8, 5), [2]),
            Case("one device holds all", (32, 4, 1, 0)),
            Case("8 ranks, the last", (64, 4, 8, 7)),
            Case("8 ranks, the second", (64, 4, 8, 1)),
            Case("16 ranks", (64, 4, 16, 9)),
            Case("2 heads on 8 ranks", (16, 2, 8, 3)),
        ),
        given=heads_as_given,
        mutants={
            "as given": (
                heads_as_given,
                "heads are dealt out in turn: rank 5 gets head 1. But its query heads are 40 to 47, and those share "
                "head 2: neighbouring ranks have the same head, not every fourth.",
            ),
            "the last for all others": (
                up_to_heads(lambda heads, ranks, rank: [min(rank, heads - 1)]),
                "the ranks above the number of heads all get the last head. Each head belongs to equally many ranks.",
            ),
            "by the number of heads": (
                up_to_heads(lambda heads, ranks, rank: [rank // heads]),
                "the rank is divided by the number of heads. Divide by the ranks per head: ranks // heads.",
            ),
            "all for everyone": (
                up_to_heads(lambda heads, ranks, rank: list(range(heads))),
                "every rank holds all heads. That works, and takes `heads` times the cache.",
            ),
            "to be sure": (
                up_to_heads(both_sides),
                "it holds the next head too, where the division leaves a rest. One is enough: the rank's query heads "
                "all lie in one group.",
            ),
            "one head only": (
                lambda query_heads, heads, ranks, rank: [rank * heads // ranks],
                "with fewer ranks than heads a rank needs several of them.",
            ),
            "not rounded": (
                not_rounded,
                "the division isn't rounded, so a head gets a number like 2.5. Use //: the fraction says where inside "
                "the group the rank's query heads begin.",
            ),
            "the 235B typed in": (
                for_the_235b,
                "the sizes of the 235B are typed in: 64 query heads in groups of 16, and 4 key/value heads. Use the "
                "arguments, so that any other model is right, too.",
            ),
        },
        accepted={"by formula": by_formula, "the library's": by_the_library},
    ),
    Exercise(
        id="14.8",
        title="The matrices of all ranks in two patterns",
        kind="einops",
        minutes=10,
        difficulty=3,
        hints=(
            "In `(a b)` the left name is the slow one: neighbouring rows differ in b. Which one is slow here, the rank "
            "or the row?",
            'q: "(rank row) hidden -> rank row hidden". k has fewer heads than there are ranks, so it needs `repeat`, '
            'with an axis "copy" that stands on the right only.',
            'repeat(k, "(head head_dim) hidden -> (head copy) head_dim hidden", head_dim=head_dim, copy=...): the head '
            "is slow and the copy fast, so that neighbours get the same head. copy is ranks divided by the heads.",
        ),
        now_you_know="the order of two names in brackets decides which rank gets which head.",
        oracle=split_as_it_was,
        given=split_as_it_was,
        parts={"the rows of q": lambda result: result[0], "the heads of k": lambda result: result[1]},
        cases=(
            Case("4 query heads, 2 key/value heads of 3, on 4 ranks", two_projections(4, 2, 3, 4)),
            Case("as many ranks as heads", two_projections(6, 3, 4, 3)),
            Case("12 query heads, 3 key/value heads of 4, on 6 ranks", two_projections(12, 3, 4, 6)),
            Case("one head for all ranks", two_projections(8, 1, 2, 4)),
        ),
        mutants={
            "every second head": (
                by_patterns(QUERIES, EVERY_SECOND),
                "the copies are the slow axis: ranks 0, 1, 2 get heads 0, 1, 2, 0, 1, ... It is the bug of 14.5 again.",
            ),
            "rows in turn": (
                by_patterns(ROWS_IN_TURN, KEYS),
                "the rows of q are dealt out in turn. A rank takes whole heads, so a run of rows: the rank is slow.",
            ),
            "channels apart": (
                by_patterns(QUERIES, "(head_dim head) hidden -> (head copy) head_dim hidden"),
                "in k's rows head_dim is taken for the slow axis. The rows of one head lie together: (head head_dim).",
            ),
            "copied channels": (
                by_patterns(QUERIES, "(head head_dim) hidden -> head (head_dim copy) hidden"),
                "the channels are copied in the place of the heads: each rank has its own head, and it is too long.",
            ),
            "both": (
                by_patterns(ROWS_IN_TURN, EVERY_SECOND),
                "in both brackets the two names have changed places.",
            ),
        },
        accepted={"repeat_interleave, in a list": by_repeat_interleave, "unflatten and an index": by_unflatten},
    ),
)
