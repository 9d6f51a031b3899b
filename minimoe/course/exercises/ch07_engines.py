"""Chapter 07, the experts: the loop (07.2), the plan of the grouped engine (07.3), an expert without tokens (07.4)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.course.checker.parts import element
from minimoe.model.experts import combine, gather, grouped, loop, swiglu
from minimoe.model.router import Routing


class Bank(NamedTuple):
    """The experts of a layer, as the functions of the page get them."""

    gate_proj: Tensor
    up_proj: Tensor
    down_proj: Tensor


# 07.2 the loop -------------------------------------------------------------------------------------------------------


def by_slots(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """One token and one slot after another, in float64."""
    return walk(x, routing, bank, lambda weights, slot: weights[slot])


Weigh = Callable[[Tensor, int], Any]  # (weights of the token, slot) -> the factor of that slot


def walk(x: Tensor, routing: Routing, bank: Any, weigh: Weigh, join: str = "add", start: str = "zeros") -> Tensor:
    """The loops behind oracle and mutants. join: "add", or "write" where the last slot by expert number stays."""
    result = x.double().clone() if start == "x" else torch.zeros_like(x, dtype=torch.float64)
    for token, experts in enumerate(routing.experts.tolist()):
        for slot in sorted(range(len(experts)), key=lambda slot: experts[slot]):
            gate, up, down = (matrices[experts[slot]].double() for matrices in bank[:3])
            output = swiglu(x[token].double(), gate, up, down) * weigh(routing.weights[token].double(), slot)
            result[token] = result[token] + output if join == "add" else output
    return result.to(x.dtype)


def walking(weigh: Weigh = lambda weights, slot: weights[slot], **ways: str) -> Callable[..., Tensor]:
    """An answer with other weights, or another way to join the slots."""
    return lambda x, routing, bank: walk(x, routing, bank, weigh, **ways)


def weighted_before(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """The weight multiplies what goes into an expert, which is not linear."""
    parts = []
    for slot in range(routing.experts.shape[1]):
        scaled = x * rearrange(routing.weights[:, slot], "token -> token 1")
        one = Routing(routing.logits, routing.experts[:, slot : slot + 1], torch.ones_like(routing.weights[:, :1]))
        parts.append(by_slots(scaled, one, bank))
    return torch.stack(parts).sum(dim=0)


def with_routing(change: Callable[[Routing], Routing]) -> Callable[..., Tensor]:
    """An answer that follows another routing."""
    return lambda x, routing, bank: by_slots(x, change(routing), bank)


def only(keep: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """An answer that leaves out the assignments for which `keep` (experts) is False."""
    return with_routing(lambda routing: routing._replace(weights=routing.weights * keep(routing.experts)))


def all_on_all(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """Every expert on every token, whatever was chosen."""
    outputs = [swiglu(x.double(), *(matrix.double() for matrix in each)) for each in zip(*bank[:3], strict=True)]
    return torch.stack(outputs).sum(dim=0).to(x.dtype)


def softmax_of_logits(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """Weights computed anew from the logits, without renormalising."""
    shares = routing.logits.softmax(dim=-1).gather(-1, routing.experts)
    return by_slots(x, routing._replace(weights=shares), bank)


def without_last(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    last = len(bank.gate_proj) - 1
    return only(lambda experts: experts < last)(x, routing, bank)


def stops_at_the_first_empty(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """A `break` where an expert has no rows, in place of `continue`."""
    hit = routing.experts.unique().tolist()
    end = next((number for number, expert in enumerate(hit) if number != expert), len(hit))
    return only(lambda experts: experts < end)(x, routing, bank)


def swapped(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    return by_slots(x, routing, Bank(bank.up_proj, bank.gate_proj, bank.down_proj))


def slots_as_experts(routing: Routing) -> Routing:
    """Slot 0 gets expert 0, slot 1 expert 1, and so on."""
    return routing._replace(experts=torch.arange(routing.experts.shape[1]).expand_as(routing.experts))


def written_into_x(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """Each expert reads what the ones before it have added to x."""
    result = x.clone()
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        output = swiglu(result[token], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
        result[token] += output * rearrange(routing.weights[token, slot], "row -> row 1")
    return result


def by_mask(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """All experts on all tokens, and a mask."""
    pattern = "token hidden, expert ffn hidden -> token expert ffn"
    inner = F.silu(einsum(x, bank.gate_proj, pattern)) * einsum(x, bank.up_proj, pattern)
    outputs = einsum(inner, bank.down_proj, "token expert ffn, expert hidden ffn -> token expert hidden")
    weights = torch.zeros(len(x), len(bank.gate_proj), dtype=x.dtype).scatter(-1, routing.experts, routing.weights)
    return einsum(weights, outputs, "token expert, token expert hidden -> token hidden")


def by_where(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """A loop with a mask for each expert."""
    result = torch.zeros_like(x)
    for expert in range(len(bank.gate_proj)):
        token, slot = torch.where(routing.experts == expert)
        output = swiglu(x[token], bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
        result[token] += output * rearrange(routing.weights[token, slot], "row -> row 1")
    return result


def layer(
    token: int, slot: int, expert: int, hidden: int = 4, ffn: int = 3, dtype: torch.dtype = torch.float32,
    never: tuple[int, ...] = (),
) -> Arguments:  # fmt: skip
    """Random tokens, experts and choices; the experts in `never` are chosen by nobody. Weights do not sum to one."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Routing, Bank]:
        logits = torch.randn(token, expert, generator=generator)
        logits[:, list(never)] = -torch.inf
        experts = logits.topk(slot, dim=-1).indices
        weights = 0.2 + torch.rand(token, slot, generator=generator)
        shapes = ((expert, ffn, hidden), (expert, ffn, hidden), (expert, hidden, ffn))
        matrices = [torch.randn(*shape, generator=generator).to(dtype) for shape in shapes]
        x = torch.randn(token, hidden, generator=generator).to(dtype)
        return x, Routing(logits.to(dtype), experts, weights.to(dtype)), Bank(*matrices)

    return arguments


LAYERS = (
    Case("one token, one slot, two experts", layer(1, 1, 2, hidden=2, ffn=1)),
    Case("random choices; the weights do not sum to one", layer(7, 3, 5)),
    Case("one token", layer(1, 3, 6)),
    Case("experts 0, 2 and 6 get no token", layer(6, 2, 7, never=(0, 2, 6))),
    Case("every token chooses all experts", layer(4, 3, 3)),
    Case("many experts, few tokens", layer(3, 2, 40)),
    Case("in bfloat16", layer(6, 2, 4, dtype=torch.bfloat16), tolerance=0.1),
    Case("in float64", layer(5, 2, 4, dtype=torch.float64)),
)


# 07.3 the plan: order, offsets, and the way back ---------------------------------------------------------------------

Plan = tuple[Tensor, Tensor, Tensor]


def plan_by_loops(experts: Tensor, num_experts: int) -> Plan:
    """(token of each sorted row, end of each group, place of each assignment among the sorted rows)."""
    tokens, slots = experts.shape
    flat = experts.flatten().tolist()
    order = sorted(range(tokens * slots), key=lambda assignment: (flat[assignment], assignment))
    ends = [sum(expert <= last for expert in flat) for last in range(num_experts)]
    back = [order.index(assignment) for assignment in range(tokens * slots)]
    return torch.tensor([each // slots for each in order]), torch.tensor(ends), torch.tensor(back)


def plan_by_sorting(experts: Tensor, num_experts: int) -> Plan:
    assignments = rearrange(experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    return order // experts.shape[1], assignments.bincount(minlength=num_experts).cumsum(0), order.argsort()


def plan_by_searching(experts: Tensor, num_experts: int) -> Plan:
    assignments = rearrange(experts, "token slot -> (token slot)")
    ordered, order = assignments.sort(stable=True)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    tokens = repeat(torch.arange(len(experts)), "token -> (token slot)", slot=experts.shape[1])
    return tokens[order], torch.searchsorted(ordered, torch.arange(num_experts), right=True), back


def order_of(experts: Tensor) -> Tensor:
    return rearrange(experts, "token slot -> (token slot)").argsort(stable=True)


def counts_of(experts: Tensor, num_experts: int) -> Tensor:
    return rearrange(experts, "token slot -> (token slot)").bincount(minlength=num_experts)


def with_part(number: int, make: Callable[[Tensor, int], Tensor]) -> Callable[..., Plan]:
    """A plan with one part computed in another way."""

    def mistaken(experts: Tensor, num_experts: int) -> Plan:
        parts = list(plan_by_sorting(experts, num_experts))
        parts[number] = make(experts, num_experts)
        return parts[0], parts[1], parts[2]

    return mistaken


def slot_by_slot(experts: Tensor, num_experts: int) -> Plan:
    """Assignments numbered (slot token)."""
    assignments = rearrange(experts, "token slot -> (slot token)")
    order = assignments.argsort(stable=True)
    return order % len(experts), counts_of(experts, num_experts).cumsum(0), order.argsort()


def unsorted(experts: Tensor, num_experts: int) -> Plan:
    rows = torch.arange(experts.numel())
    return rows // experts.shape[1], counts_of(experts, num_experts).cumsum(0), rows


def descending(experts: Tensor, num_experts: int) -> Plan:
    order = rearrange(experts, "token slot -> (token slot)").argsort(stable=True, descending=True)
    return order // experts.shape[1], counts_of(experts, num_experts).cumsum(0), order.argsort()


def choices(token: int, slot: int, expert: int, never: tuple[int, ...] = ()) -> Arguments:
    """Random distinct experts for each token."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int]:
        scores = torch.rand(token, expert, generator=generator)
        scores[:, list(never)] = -1.0
        return scores.topk(slot, dim=-1).indices, expert

    return arguments


# 07.4 an expert without tokens ---------------------------------------------------------------------------------------


def grouped_as_given(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    slots = routing.experts.shape[1]
    assignments = rearrange(routing.experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    _, counts = assignments[order].unique_consecutive(return_counts=True)
    outputs = []
    for expert, rows in enumerate(x[order // slots].split(counts.tolist())):
        outputs.append(swiglu(rows, bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert]))
    return combine(torch.cat(outputs)[order.argsort()], routing.weights)


def renumbered(number: Callable[[list[int], int], list[int]]) -> Callable[..., Tensor]:
    """An answer that takes other experts: number(the experts that are hit, ascending; how many there are) -> theirs."""

    def mistaken(x: Tensor, routing: Routing, bank: Any) -> Tensor:
        hit = routing.experts.unique().tolist()
        table = torch.zeros(len(bank.gate_proj), dtype=torch.long)
        table[hit] = torch.tensor(number(hit, len(bank.gate_proj)))
        return by_slots(x, routing._replace(experts=table[routing.experts]), bank)

    return mistaken


def by_appearance(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """The experts numbered in the order in which they first occur."""
    seen = list(dict.fromkeys(routing.experts.flatten().tolist()))
    table = torch.zeros(len(bank.gate_proj), dtype=torch.long)
    table[seen] = torch.arange(len(seen))
    return by_slots(x, routing._replace(experts=table[routing.experts]), bank)


def groups_by_appearance(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """Sorted groups, whose numbers are in the order in which the experts first occur."""
    seen = list(dict.fromkeys(routing.experts.flatten().tolist()))
    return renumbered(lambda hit, n: seen)(x, routing, bank)


def only_the_gate(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """The gate is that of the group's expert; up and down are still numbered without gaps."""
    hit = routing.experts.unique()
    up, down = bank.up_proj.clone(), bank.down_proj.clone()
    up[hit], down[hit] = bank.up_proj[: len(hit)], bank.down_proj[: len(hit)]
    return by_slots(x, routing, Bank(bank.gate_proj, up, down))


def sorted_weights(routing: Routing) -> Routing:
    """The weights in the order of the sorted rows."""
    weights = rearrange(routing.weights, "token slot -> (token slot)")[order_of(routing.experts)]
    return routing._replace(weights=rearrange(weights, "(token slot) -> token slot", token=len(routing.weights)))


def copies_of_the_batch(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """Assignment n gets token n % tokens, as if the assignments were numbered (slot token)."""
    one_slot = routing._replace(
        experts=rearrange(routing.experts, "token slot -> (token slot) 1"),
        weights=torch.ones_like(rearrange(routing.weights, "token slot -> (token slot) 1")),
    )
    rows = by_slots(repeat(x, "token hidden -> (slot token) hidden", slot=routing.experts.shape[1]), one_slot, bank)
    return combine(rows, routing.weights)


def put_back(way: str) -> Callable[..., Tensor]:
    """Right groups, and rows that are put back in a wrong way: "not", or by "order"."""

    def mistaken(x: Tensor, routing: Routing, bank: Any) -> Tensor:
        order = order_of(routing.experts)
        one_slot = routing._replace(
            experts=rearrange(routing.experts, "token slot -> (token slot) 1"),
            weights=torch.ones_like(rearrange(routing.weights, "token slot -> (token slot) 1")),
        )
        rows = by_slots(repeat(x, "token hidden -> (token slot) hidden", slot=routing.experts.shape[1]), one_slot, bank)
        return combine(rows[order] if way == "not" else rows[order][order], routing.weights)

    return mistaken


def by_unique_values(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """As given, with the numbers of the experts that `unique_consecutive` returns as well."""
    slots = routing.experts.shape[1]
    assignments = rearrange(routing.experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    experts, counts = assignments[order].unique_consecutive(return_counts=True)
    outputs = []
    for expert, rows in zip(experts.tolist(), x[order // slots].split(counts.tolist()), strict=True):
        outputs.append(swiglu(rows, bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert]))
    return combine(torch.cat(outputs)[order.argsort()], routing.weights)


def by_bincount(x: Tensor, routing: Routing, bank: Any) -> Tensor:
    """As given, with counts of all experts up to the last one that is hit."""
    slots = routing.experts.shape[1]
    assignments = rearrange(routing.experts, "token slot -> (token slot)")
    order = assignments.argsort(stable=True)
    outputs = []
    for expert, rows in enumerate(x[order // slots].split(assignments.bincount().tolist())):
        outputs.append(swiglu(rows, bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert]))
    return combine(torch.cat(outputs)[order.argsort()], routing.weights)


NO_WEIGHTS = "the weights aren't used: each expert counts as 1."

EXERCISES = (
    Exercise(
        id="07.2",
        title="A loop over the experts",
        kind="fill in",
        minutes=12,
        difficulty=2,
        hints=(
            "For each expert: which places of `routing.experts` have its number? Each place is a token and a slot.",
            "torch.where(routing.experts == expert) gives the tokens (row) and the slots (row). x[token] is (row "
            "hidden), routing.weights[token, slot] is (row).",
            "result = zeros like x; for each expert: token, slot = torch.where(...); output = swiglu(x[token], its "
            "three matrices) * weights[token, slot] with an axis of 1; result.index_add_(0, token, output).",
        ),
        now_you_know="a loop over experts touches only the weights that are needed, and adds where slots meet.",
        oracle=by_slots,
        teaches=loop,
        cases=LAYERS,
        mutants={
            "not weighted": (walking(lambda weights, slot: 1.0), NO_WEIGHTS),
            "the last expert stays": (
                walking(join="write"),
                "each expert overwrites what the ones before it wrote for the same token. Add to it.",
            ),
            "weights of the first slot": (
                walking(lambda weights, slot: weights[0]),
                "all slots of a token have the weight of its first one. Each slot has its own: weights[token, slot].",
            ),
            "weights backwards": (
                walking(lambda weights, slot: weights.flip(0)[slot]),
                "the weights are in the opposite order of the slots.",
            ),
            "renormalised": (
                walking(lambda weights, slot: weights[slot] / weights.sum()),
                "the weights are divided by their sum. That is the router's decision; here they are taken as they are.",
            ),
            "a mean": (
                walking(lambda weights, slot: weights[slot] / len(weights)),
                "the sum is divided by the number of slots. The weights already say how much each slot counts.",
            ),
            "added to x": (
                walking(start="x"),
                "the result begins with x. The layer adds x later; the experts' sum begins with zeros.",
            ),
            "weighted before": (
                weighted_before,
                "the weight multiplies x before the expert. An expert isn't linear: weigh what it returns.",
            ),
            "first slot only": (
                walking(lambda weights, slot: weights[slot] * (slot == 0)),
                "only the first slot of each token counts. Compare the number of the expert with all slots.",
            ),
            "without expert 0": (
                only(lambda experts: experts > 0),
                "expert 0 never runs. 0 is a number like any other, also in `if expert:`.",
            ),
            "without the last expert": (
                without_last,
                "the last expert never runs. range(n) ends before n, and the experts are numbered from 0.",
            ),
            "stops at an empty expert": (
                stops_at_the_first_empty,
                "the loop ends at the first expert without rows. Pass over it and go on.",
            ),
            "the sum of the weights": (
                walking(lambda weights, slot: weights.sum()),
                "each expert counts with the sum of its token's weights. Each slot has its own: weights[token, slot].",
            ),
            "the mean of the weights": (
                walking(lambda weights, slot: weights.mean()),
                "each expert counts with the mean of its token's weights. Each slot has its own: weights[token, slot].",
            ),
            "softmax of the logits": (
                softmax_of_logits,
                "the weights are computed anew from the logits. The router has done that: routing.weights.",
            ),
            "all on all": (
                all_on_all,
                "every expert runs on every token. Compare routing.experts with the number of the expert.",
            ),
            "the slot as expert": (
                with_routing(slots_as_experts),
                "the number of the slot is used as that of the expert. routing.experts says which expert is in it.",
            ),
            "numbered without gaps": (
                renumbered(lambda hit, n: list(range(len(hit)))),
                "the experts are numbered among those that are chosen, so after one without tokens each gets the "
                "matrices of another. Its number is the value in routing.experts.",
            ),
            "written into x": (
                written_into_x,
                "the sums are written into x, so later experts read what earlier ones have added. Begin with zeros of "
                "its shape, and leave x as it is.",
            ),
            "gate and up swapped": (swapped, "gate and up have changed places: swiglu takes gate first."),
            "left in float32": (
                lambda x, routing, bank: by_slots(x.float(), routing, bank),
                "the result is float32 although x isn't. Keep its dtype.",
            ),
        },
        accepted={"the library's": loop, "where": by_where, "all and mask": by_mask, "gather": gather},
    ),
    Exercise(
        id="07.3",
        title="Grouped: the plan, with offsets",
        kind="fill in",
        minutes=15,
        difficulty=3,
        hints=(
            "One argsort does most of it. Then ask of each sorted row: which assignment was it, and of which token?",
            "assignments = experts as (token slot). order = assignments.argsort(stable=True) is (row). Assignment n "
            "belongs to token n // slots. The counts of all experts, empty ones as well, are (expert).",
            "token = order // slots; offsets = assignments.bincount(minlength=num_experts).cumsum(0); "
            "back = order.argsort(), the place of each assignment among the sorted rows.",
        ),
        now_you_know="order, offsets and way back are all that a grouped product needs, for any number of tokens.",
        oracle=plan_by_loops,
        teaches=grouped,
        parts={"token": element(0), "offsets": element(1), "back": element(2)},
        stages=(
            Stage("token", lambda experts, n: order_of(experts), "holds assignments; which token is assignment n?"),
            Stage("offsets", counts_of, "holds counts; the offsets are their running sum"),
            Stage("back", lambda experts, n: order_of(experts), "is the order itself; the way back is its inverse"),
        ),
        cases=(
            Case(
                "three tokens, two slots, three experts, by hand",
                (torch.tensor([[2, 0], [0, 1], [1, 2]]), 3),
                (torch.tensor([0, 1, 1, 2, 0, 2]), torch.tensor([2, 4, 6]), torch.tensor([4, 0, 1, 2, 3, 5])),
            ),
            Case("random choices", choices(7, 3, 5)),
            Case("experts 0, 2 and 6 get no token", choices(6, 2, 7, never=(0, 2, 6))),
            Case("one token", choices(1, 4, 9)),
            Case("one slot", choices(6, 1, 3)),
            Case("every token chooses all experts", choices(4, 3, 3)),
            Case("few tokens, many experts", choices(2, 2, 30)),
        ),
        mutants={
            "assignments for tokens": (
                with_part(0, lambda experts, n: order_of(experts)),
                "`token` holds assignments. Assignment n belongs to token n // slots.",
            ),
            "slots for tokens": (
                with_part(0, lambda experts, n: order_of(experts) % experts.shape[1]),
                "`token` holds slots: n % slots is the slot of assignment n, n // slots its token.",
            ),
            "divided by tokens": (
                with_part(0, lambda experts, n: order_of(experts) // len(experts)),
                "`token` is n // tokens. A token has as many assignments as there are slots: n // slots.",
            ),
            "as if numbered by slot": (
                with_part(0, lambda experts, n: order_of(experts) % len(experts)),
                "`token` is n % tokens, which is right if assignments are numbered (slot token). Here they are "
                "(token slot): n // slots.",
            ),
            "slot by slot": (
                slot_by_slot,
                "the assignments are numbered (slot token). The exercise asks for (token slot).",
            ),
            "experts, sorted": (
                with_part(0, lambda experts, n: experts.flatten().sort().values),
                "`token` holds the sorted numbers of the experts. Which token does each of these rows come from?",
            ),
            "starts": (
                with_part(1, lambda experts, n: counts_of(experts, n).cumsum(0) - counts_of(experts, n)),
                "the offsets say where each group begins. The exercise asks where it ends.",
            ),
            "counts": (
                with_part(1, counts_of),
                "the offsets are counts. Where a group ends is the running sum of the counts.",
            ),
            "a zero in front": (
                with_part(1, lambda experts, n: F.pad(counts_of(experts, n).cumsum(0), (1, 0))),
                "the offsets have a zero in front. There is one for each expert: where its group ends.",
            ),
            "up to the last expert that is hit": (
                with_part(1, lambda experts, n: experts.flatten().bincount().cumsum(0)),
                "the offsets end with the last expert that is hit. Each of num_experts has one: minlength.",
            ),
            "only experts that are hit": (
                with_part(1, lambda experts, n: experts.unique(return_counts=True)[1].cumsum(0)),
                "experts without a token have no offset, so all later ones belong to another expert.",
            ),
            "the last row": (
                with_part(1, lambda experts, n: counts_of(experts, n).cumsum(0) - 1),
                "the offsets are one too small: the end of a group is the row after its last one, as in rows[a:b].",
            ),
            "back by order": (
                with_part(2, lambda experts, n: order_of(experts)),
                "`back` is the order itself. The way back is its inverse: order.argsort().",
            ),
            "back by tokens": (
                with_part(2, lambda experts, n: (order_of(experts) // experts.shape[1]).argsort(stable=True)),
                "`back` sorts the rows by token, so the slots of a token may change places. The inverse of the order "
                "is order.argsort().",
            ),
            "back reversed": (
                with_part(2, lambda experts, n: order_of(experts).flip(0)),
                "`back` is the order read backwards. The inverse of a permutation is its argsort.",
            ),
            "unsorted": (unsorted, "the rows are in the order of the tokens. Sort them by expert."),
            "descending": (
                descending,
                "the experts are sorted downwards. The first group belongs to expert 0.",
            ),
        },
        accepted={
            "sorting": plan_by_sorting,
            "searching": plan_by_searching,
            "loops": plan_by_loops,
            "a list": lambda experts, n: list(plan_by_sorting(experts, n)),
        },
    ),
    Exercise(
        id="07.4",
        title="Bug hunt: an expert without tokens",
        kind="bug hunt",
        minutes=12,
        difficulty=3,
        hints=(
            "Compare the two lines: which experts does the function run, and which were chosen?",
            "The groups are right. But what is the number of a group, if an expert before it has no group?",
            "unique_consecutive leaves out what doesn't occur, so group n isn't expert n. Take the first thing that it "
            "returns as the numbers, or count with bincount, which has a place for every expert.",
        ),
        now_you_know="what is left out of a list moves everything behind it: count with a place for every expert.",
        oracle=by_slots,
        given=grouped_as_given,
        cases=(
            Case("every expert gets a token", layer(4, 3, 3)),
            Case("expert 1 gets no token", layer(5, 2, 4, never=(1,))),
            Case("expert 0 gets no token", layer(5, 2, 4, never=(0,))),
            Case("experts 0, 2 and 6 get no token", layer(6, 2, 7, never=(0, 2, 6))),
            Case("one token", layer(1, 3, 8)),
            Case("many experts, few tokens", layer(3, 2, 40)),
        ),
        mutants={
            "as given": (
                grouped_as_given,
                "groups are numbered from 0 without gaps, so after an expert without tokens each group gets the "
                "expert before its own.",
            ),
            "from the first one on": (
                renumbered(lambda hit, n: [min(hit[0] + place, n - 1) for place in range(len(hit))]),
                "the numbers begin at the first expert that is hit, and go on without gaps. There may be gaps later, "
                "too.",
            ),
            "one further": (
                renumbered(lambda hit, n: [min(place + 1, n - 1) for place in range(len(hit))]),
                "every group gets the next expert. That helps if one expert is empty, and only then.",
            ),
            "the next expert": (
                renumbered(lambda hit, n: [(expert + 1) % n for expert in hit]),
                "every group gets the expert after its own. Experts are numbered from 0.",
            ),
            "from the end": (
                renumbered(lambda hit, n: list(range(n - len(hit), n))),
                "the numbers are counted from the last expert. Empty ones may be anywhere.",
            ),
            "downwards": (
                renumbered(lambda hit, n: hit[::-1]),
                "the experts that are hit are taken from the last to the first. The groups are sorted upwards.",
            ),
            "by appearance": (
                by_appearance,
                "the experts are numbered in the order in which they first occur. The sorted rows are in the order of "
                "their numbers.",
            ),
            "groups by appearance": (
                groups_by_appearance,
                "the numbers of the groups are in the order in which the experts first occur. The rows are sorted, so "
                "take the numbers from the sorted assignments.",
            ),
            "only the gate": (
                only_the_gate,
                "the gate is that of the group's own expert, and up and down aren't. All three matrices need its "
                "number.",
            ),
            "weights sorted": (
                with_routing(sorted_weights),
                "the weights are sorted by expert, and the rows are put back. Leave the weights in the order of the "
                "slots.",
            ),
            "copies of the batch": (
                copies_of_the_batch,
                "the tokens are copied batch after batch, so row n is token n % tokens. Assignments are numbered "
                "(token slot): row n is a copy of token n // slots.",
            ),
            "weighted twice": (
                walking(lambda weights, slot: weights[slot] * weights[slot]),
                "each row is multiplied by its weight twice, once before `combine` and once in it.",
            ),
            "not put back": (put_back("not"), "the groups are right, and the rows aren't put back."),
            "put back by order": (
                put_back("order"),
                "the groups are right, and the rows are put back by `order`. The way back is order.argsort().",
            ),
            "not weighted": (walking(lambda weights, slot: 1.0), NO_WEIGHTS),
        },
        accepted={"numbers from unique": by_unique_values, "bincount": by_bincount, "the library's": grouped},
    ),
)
