"""Chapter 11, training: how even a load is (11.3), and which experts a recorded run lost (11.8)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minimoe.course.checker.exercise import Case, Exercise, Stage
from minimoe.course.checker.parts import element

Both = tuple[Tensor, Tensor]

# 11.3 entropy and dead experts ----------------------------------------------------------------------------------------


def health(counts: Tensor) -> Both:
    """Entropy in bits and dead experts of every layer, one number after another."""
    entropies, dead = [], []
    for row in counts.tolist():
        shares = [count / sum(row) for count in row]
        entropies.append(-sum(float(torch.tensor(s).double().log2()) * s for s in shares if s > 0))
        dead.append(sum(share < 0.1 / len(row) for share in shares))
    return torch.tensor(entropies), torch.tensor(dead)


def with_entr(counts: Tensor) -> Both:
    share = counts / counts.sum(dim=-1, keepdim=True)
    return torch.special.entr(share).sum(dim=-1) / torch.log(torch.tensor(2.0)), (share * counts.shape[-1] < 0.1).sum(
        dim=-1
    )


def with_where(counts: Tensor) -> Both:
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    logarithm = torch.where(share > 0, share, torch.ones_like(share)).log2()
    even = counts.float().mean(dim=1, keepdim=True)
    return -(share * logarithm).sum(dim=1).float(), (counts < even / 10).sum(dim=1)


def changed(
    entropy: Callable[[Tensor], Tensor] | None = None, dead: Callable[[Tensor], Tensor] | None = None
) -> Callable[[Tensor], Both]:
    """An answer with another entropy or another number of dead experts; both take the counts."""

    def mistaken(counts: Tensor) -> Both:
        bits, died = health(counts)
        return bits if entropy is None else entropy(counts), died if dead is None else dead(counts)

    return mistaken


def share(counts: Tensor) -> Tensor:
    return counts / counts.sum(dim=-1, keepdim=True)


def of_the_batch(counts: Tensor) -> Both:
    """One value for all layers together, repeated for each."""
    bits, dead = health(counts.sum(dim=0, keepdim=True))
    return bits.expand(len(counts)).clone(), dead.expand(len(counts)).clone()


def over_layers(counts: Tensor) -> Both:
    bits = health(counts)[0]
    columns = counts / counts.sum(dim=0, keepdim=True).clamp(min=1)
    return -(columns * columns.clamp(min=1e-12).log2()).sum(dim=-1) + 0 * bits, health(counts)[1]


def random_counts(layers: int, experts: int, starved: int) -> Callable[[torch.Generator], tuple[Tensor]]:
    """Counts of which `starved` experts of each layer are small and one is zero."""

    def arguments(generator: torch.Generator) -> tuple[Tensor]:
        counts = torch.randint(60, 200, (layers, experts), generator=generator)
        counts[:, :starved] = torch.randint(1, 5, (layers, starved), generator=generator)
        counts[:, -1] = 0
        mixed = [row[torch.randperm(experts, generator=generator)] for row in counts]
        return (torch.stack(mixed),)

    return arguments


# 11.8 which experts a run lost ----------------------------------------------------------------------------------------


def lost_at(load: Tensor) -> Tensor:
    """From which record on an expert stays below a tenth of an even share; -1 if it is in use at the end."""
    records, layers, experts = load.shape
    found = torch.full((layers, experts), -1)
    for layer in range(layers):
        for expert in range(experts):
            for record in reversed(range(records)):
                if load[record, layer, expert] * experts >= 0.1:
                    break
                found[layer, expert] = record
    return found


def by_flipping(load: Tensor) -> Tensor:
    low = load * load.shape[-1] < 0.1
    tail = low.flip(0).int().cumprod(dim=0).sum(dim=0)  # records below at the end
    return torch.where(tail > 0, len(load) - tail, -1)


def by_last_alive(load: Tensor) -> Tensor:
    alive = load >= 0.1 / load.shape[-1]
    numbers = torch.arange(1, len(load) + 1)[:, None, None]
    last = (alive * numbers).amax(dim=0)
    last[last == len(load)] = -1
    return last


def first_time(load: Tensor) -> Tensor:
    low = load * load.shape[-1] < 0.1
    return torch.where(low.any(dim=0), low.int().argmax(dim=0), -1)


def is_low(load: Tensor) -> Tensor:
    return load * load.shape[-1] < 0.1


def low_at_the_end(load: Tensor) -> Tensor:
    return is_low(load).flip(0).int().cumprod(dim=0).sum(dim=0)


def last_time(load: Tensor) -> Tensor:
    last = len(load) - 1 - is_low(load).flip(0).int().argmax(dim=0)
    return torch.where(is_low(load).any(dim=0), last, -1)


def in_steps(load: Tensor) -> Tensor:
    found = lost_at(load)
    return torch.where(found >= 0, 10 * found, -1)


def layers_mixed(load: Tensor) -> Tensor:
    return lost_at(load.mean(dim=1, keepdim=True)).expand(load.shape[1:]).clone()


def first_time_of_those_that_end_low(load: Tensor) -> Tensor:
    return torch.where(lost_at(load) >= 0, first_time(load), -1)


def below(threshold: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """Another threshold: a function of load, with the number that a share is compared with."""

    def mistaken(load: Tensor) -> Tensor:
        low = load < threshold(load)
        tail = low.flip(0).int().cumprod(dim=0).sum(dim=0)
        return torch.where(tail > 0, len(load) - tail, -1)

    return mistaken


def records_below(load: Tensor) -> Tensor:
    count = (load * load.shape[-1] < 0.1).sum(dim=0)
    return torch.where(count > 0, count, -1)


def last_in_use(load: Tensor) -> Tensor:
    """The last record with enough load: one too early."""
    found = lost_at(load)
    return torch.where(found >= 0, found - 1, -1)


def from_one(load: Tensor) -> Tensor:
    found = lost_at(load)
    return torch.where(found >= 0, found + 1, -1)


def from_the_end(load: Tensor) -> Tensor:
    found = lost_at(load)
    return torch.where(found >= 0, len(load) - 1 - found, -1)


def never_is_the_end(load: Tensor) -> Tensor:
    found = lost_at(load)
    return torch.where(found >= 0, found, len(load))


def never_is_zero(load: Tensor) -> Tensor:
    return lost_at(load).clamp(min=0)


def random_run(records: int, layers: int, experts: int) -> Callable[[torch.Generator], tuple[Tensor]]:
    """Loads in which some experts die, one of them for a while, and others recover."""

    def arguments(generator: torch.Generator) -> tuple[Tensor]:
        load = torch.rand(records, layers, experts, generator=generator) + 0.5
        for layer in range(layers):
            order = torch.randperm(experts, generator=generator).tolist()
            load[records // 2 :, layer, order[0]] = 0.001  # lost half-way
            load[1 : records // 2, layer, order[1]] = 0.001  # low for a while, in use at the end
            load[1, layer, order[2]], load[-2:, layer, order[2]] = 0.0, 0.0  # low, back, and lost
            load[:, layer, order[3]] = 0.0  # never used
        return (load / load.sum(dim=-1, keepdim=True),)

    return arguments


HAND = torch.tensor([[[0.5, 0.3, 0.2]], [[0.6, 0.01, 0.39]], [[0.99, 0.01, 0.0]]])
TWO_LAYERS = torch.tensor([[[0.25] * 4, [0.25] * 4], [[0.02, 0.33, 0.33, 0.32], [0.25] * 4]])
ONE_TAKES_MOST = torch.tensor([[[0.25, 0.25, 0.25, 0.25]], [[0.85, 0.05, 0.06, 0.04]]])

EXERCISES = (
    Exercise(
        id="11.3",
        title="Entropy and dead experts",
        kind="fill in",
        minutes=10,
        difficulty=2,
        hints=(
            "Turn the counts of a layer into shares first. What is share times log of share, where the share is zero?",
            "Shares are (layer, expert) and sum to one over experts; both results are (layer,). An even share is "
            "1 / num_experts.",
            "entropy = -sum(share · log2(share)) with 0 where the share is 0 (torch.special.entr does this in nats; "
            "divide by log 2). dead = how many shares are below 0.1 / num_experts.",
        ),
        now_you_know="the entropy says how even a load is as a whole, and hides a few dead experts among many.",
        oracle=health,
        cases=(
            Case("one layer of four experts, by hand", (torch.tensor([[10, 10, 0, 0]]),),
                 (torch.tensor([1.0]), torch.tensor([2]))),
            Case("an even load", (torch.full((2, 8), 5),), (torch.tensor([3.0, 3.0]), torch.tensor([0, 0]))),
            Case("exactly a tenth of an even share", (torch.tensor([[1, 13, 13, 13]]),)),
            Case("random counts with some starved experts", random_counts(3, 7, 2)),
            Case("more experts", random_counts(2, 20, 5)),
        ),
        parts={"the entropy": element(0), "the dead": element(1)},
        stages=(
            Stage("the entropy", lambda counts: torch.special.entr(share(counts)), "is still per expert; add it up"),
            Stage("the dead", lambda counts: share(counts) < 0.1 / counts.shape[-1], "is still per expert; count it"),
        ),
        mutants={
            "in nats": (
                changed(entropy=lambda counts: torch.special.entr(share(counts)).sum(dim=-1)),
                "the entropy is in nats; the page asks for bits: log2.",
            ),
            "log10": (
                changed(entropy=lambda counts: torch.special.entr(share(counts)).sum(dim=-1) / 2.302585092994046),
                "the logarithm has base 10; bits need log2.",
            ),
            "the sign": (
                changed(entropy=lambda counts: -health(counts)[0]),
                "the entropy is negative. The logarithm of a share is below zero, so the sum needs a minus.",
            ),
            "effective experts": (
                changed(entropy=lambda counts: 2 ** health(counts)[0]),
                "this is 2 to the entropy, the effective number of experts. The page asks for the entropy.",
            ),
            "of the largest": (
                changed(entropy=lambda counts: health(counts)[0] / torch.tensor(float(counts.shape[-1])).log2()),
                "the entropy is divided by its largest value. The page asks for bits.",
            ),
            "nan": (
                changed(entropy=lambda counts: -(share(counts) * share(counts).log2()).sum(dim=-1)),
                "0 times log 0 is nan. An expert that is never chosen adds nothing to the entropy.",
            ),
            "never chosen": (
                changed(dead=lambda counts: (counts == 0).sum(dim=-1)),
                "only experts without any token are counted. Dead is: below a tenth of an even share.",
            ),
            "a share of a tenth": (
                changed(dead=lambda counts: (share(counts) < 0.1).sum(dim=-1)),
                "shares are compared with 0.1. An even share is 1 / num_experts, and dead is below a tenth of that.",
            ),
            "below the even share": (
                changed(dead=lambda counts: (share(counts) < 1 / counts.shape[-1]).sum(dim=-1)),
                "all experts below an even share are counted. Dead is: below a tenth of it.",
            ),
            "those in use": (
                changed(dead=lambda counts: (share(counts) >= 0.1 / counts.shape[-1]).sum(dim=-1)),
                "the experts in use are counted, not the dead ones.",
            ),
            "as a share": (
                changed(dead=lambda counts: (share(counts) < 0.1 / counts.shape[-1]).float().mean(dim=-1)),
                "the share of dead experts; the page asks for their number.",
            ),
            "all layers together": (
                of_the_batch,
                "the layers are added up first. Expert 3 of one layer has nothing to do with expert 3 of another.",
            ),
            "over layers": (
                over_layers,
                "the shares are of an expert's total over the layers. Each layer has its own: divide by the sum of "
                "its row.",
            ),
        },
        accepted={"entr": with_entr, "where": with_where},
    ),
    Exercise(
        id="11.8",
        title="Ablate: which experts did the run lose?",
        kind="ablate",
        minutes=15,
        difficulty=4,
        hints=(
            "Go through the records from the last to the first. How long is the expert below the threshold without a "
            "break?",
            "low = load · num_experts < 0.1 is (record, layer, expert). Flip the records, and cumprod along them stays "
            "1 for as long as low is true.",
            "tail = low.flip(0).int().cumprod(dim=0).sum(dim=0) is the number of records at the end; the first of them "
            "is len(load) - tail. Where tail is 0, the answer is -1.",
        ),
        now_you_know="an expert that is low once may come back; lost is what stays below to the end.",
        oracle=lost_at,
        cases=(
            Case("three records, one layer, three experts, by hand", (HAND,), torch.tensor([[-1, 1, 2]])),
            Case("one expert takes most, and the others are still in use", (ONE_TAKES_MOST,), torch.full((1, 4), -1)),
            Case("two layers, one expert ends at 0.02", (TWO_LAYERS,), torch.tensor([[1, -1, -1, -1], [-1] * 4])),
            Case("random loads, some experts recover", random_run(8, 2, 6)),
            Case("more experts than records", random_run(6, 3, 12)),
        ),
        stages=(
            Stage("", lambda load: load * load.shape[-1] < 0.1, "says for each record whether the expert is low"),
            Stage("", lambda load: lost_at(load) >= 0, "says which experts are lost; the page asks from when on"),
            Stage("", lambda load: is_low(load).sum(dim=0), "is the number of records below the threshold"),
            Stage("", low_at_the_end, "is the number of records below the threshold at the end; the first is asked"),
            Stage("", lambda load: is_low(load).int().argmax(dim=0), "is the first record below, or 0 if none is"),
        ),
        mutants={
            "the first time": (
                first_time,
                "this is the first record below the threshold. Some experts come back after it.",
            ),
            "the steps": (
                lambda load: torch.where(lost_at(load) >= 0, 10 * (lost_at(load) + 1), -1),
                "these are the steps of the records. The page asks for the number of the record, from 0.",
            ),
            "low from the beginning": (
                lambda load: torch.where(is_low(load).all(dim=0), 0, -1),
                "only experts that are low in every record are found. An expert may be lost later.",
            ),
            "low at the end": (
                lambda load: torch.where(is_low(load)[-1], len(load) - 1, -1),
                "this is the last record, wherever the expert is low there. The first of the low ones at the end is "
                "asked.",
            ),
            "how long": (
                lambda load: torch.where(lost_at(load) >= 0, low_at_the_end(load), -1),
                "this is how many records the expert is low at the end. The first of them is asked.",
            ),
            "the first time, of the lost": (
                first_time_of_those_that_end_low,
                "for a lost expert this is the first record below the threshold, also if it came back in between. "
                "Find the last time it was in use.",
            ),
            "the last time": (
                last_time,
                "this is the last record below the threshold. The first is asked of those that last to the end.",
            ),
            "in steps": (in_steps, "these are steps. The page asks for the number of the record, from 0."),
            "layers mixed": (
                layers_mixed,
                "the layers are averaged first. An expert belongs to one layer; each has its own load.",
            ),
            "a tenth of all": (
                below(lambda load: 0.1 / (load.shape[1] * load.shape[2])),
                "the threshold is also divided by the number of layers. A layer has shares of its own.",
            ),
            "a share of a tenth": (
                below(lambda load: 0.1),
                "shares are compared with 0.1. The threshold is a tenth of an even share, 0.1 / num_experts.",
            ),
            "never chosen": (
                below(lambda load: 1e-12),
                "only a load of exactly zero counts. The threshold is a tenth of an even share.",
            ),
            "below the even share": (
                below(lambda load: 1 / load.shape[-1]),
                "the threshold is the even share. It is a tenth of that.",
            ),
            "a tenth of the largest": (
                below(lambda load: 0.1 * load.amax(dim=-1, keepdim=True)),
                "the threshold is a tenth of the largest load. It is a tenth of an even one.",
            ),
            "how many": (
                records_below,
                "this is the number of records below the threshold. The page asks for the first of those at the end.",
            ),
            "one too early": (last_in_use, "this is the last record in which the expert was in use. Add one."),
            "from one": (from_one, "the records are counted from one. They are numbered from zero."),
            "from the end": (from_the_end, "the records are counted from the end. The first record has number 0."),
            "never is the end": (
                never_is_the_end,
                "experts in use at the end have the number of records in place of -1.",
            ),
            "never is zero": (never_is_zero, "experts in use at the end have 0, as if they had been lost at once."),
        },
        accepted={"flipped": by_flipping, "the last time in use": by_last_alive},
    ),
)  # fmt: skip
