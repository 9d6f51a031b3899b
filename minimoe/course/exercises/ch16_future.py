"""Chapter 16, the router zoo: a router that knows the future (16.4)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Case, Exercise

Choose = Callable[[Tensor], Tensor]  # logits (token, expert) -> (token, expert) bool: who works on which token


class Tokens:
    """Each token takes its `top_k` best experts: nothing leaks."""

    def __init__(self, top_k: int):
        self.top_k = top_k

    def __call__(self, logits: Tensor) -> Tensor:
        experts = logits.topk(self.top_k, dim=-1).indices
        return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, experts, True)

    def __repr__(self) -> str:
        return f"<each token takes its best {self.top_k}>"


class Experts:
    """Each expert takes its share of the tokens, the best ones: the load is even, and the future leaks."""

    def __init__(self, top_k: int):
        self.top_k = top_k

    def __call__(self, logits: Tensor) -> Tensor:
        capacity = min(len(logits), max(1, len(logits) * self.top_k // logits.shape[-1]))
        tokens = logits.softmax(dim=-1).topk(capacity, dim=0).indices
        return torch.zeros_like(logits, dtype=torch.bool).scatter(0, tokens, True)

    def __repr__(self) -> str:
        return f"<each expert takes its share of the tokens, at top-{self.top_k}>"


class FirstCome:
    """Each token takes its best expert if that has room: later tokens are dropped, and nothing leaks backwards."""

    def __init__(self, room: int):
        self.room = room

    def __call__(self, logits: Tensor) -> Tensor:
        one_hot = F.one_hot(logits.argmax(dim=-1), logits.shape[-1])
        return (one_hot * (one_hot.cumsum(dim=0) <= self.room)).bool()

    def __repr__(self) -> str:
        return f"<each token takes its best expert, room for {self.room}>"


class ByTheMean:
    """A token takes the experts with more than their mean over the text."""

    def __call__(self, logits: Tensor) -> Tensor:
        return logits > logits.mean(dim=0, keepdim=True)

    def __repr__(self) -> str:
        return "<a token takes the experts that are above their mean over the text>"


class AboveTheMean:
    """A token takes the one expert that is furthest above its mean over the text: always one, and the future leaks."""

    def __call__(self, logits: Tensor) -> Tensor:
        best = (logits - logits.mean(dim=0, keepdim=True)).argmax(dim=-1)
        return F.one_hot(best, logits.shape[-1]).bool()

    def __repr__(self) -> str:
        return "<a token takes the expert that is furthest above its mean over the text>"


class Mirrored:
    """A token takes the best expert of the token that is as far from the other end of the text."""

    def __call__(self, logits: Tensor) -> Tensor:
        return F.one_hot(logits.flip(0).argmax(dim=-1), logits.shape[-1]).bool()

    def __repr__(self) -> str:
        return "<each token takes the best expert of its mirror image in the text>"


class LastAlone:
    """The last token of a text takes every expert, all others take the first one."""

    def __call__(self, logits: Tensor) -> Tensor:
        chosen = torch.zeros_like(logits, dtype=torch.bool)
        chosen[:, 0] = True
        chosen[-1:] = True
        return chosen

    def __repr__(self) -> str:
        return "<the last token takes every expert, all others the first one>"


class TurnedRound:
    """Tokens take the first expert in a text of an even length, and all others in one of an odd length."""

    def __call__(self, logits: Tensor) -> Tensor:
        chosen = torch.zeros_like(logits, dtype=torch.bool)
        chosen[:, 0] = True
        return ~chosen if len(logits) % 2 else chosen

    def __repr__(self) -> str:
        return "<all tokens take the first expert, or in a text of an odd length all others>"


def leaks_by_loops(choose: Choose, logits: Tensor, seen: int) -> int:
    """Two runs, one with the future, and each token's set of experts compared."""
    known, unknown = choose(logits), choose(logits[:seen])
    count = 0
    for token in range(seen):
        with_future = {expert for expert in range(logits.shape[1]) if known[token, expert]}
        without = {expert for expert in range(logits.shape[1]) if unknown[token, expert]}
        count += with_future != without
    return count


def draw(choose: Choose, token: int, expert: int, seen: int) -> Callable[[torch.Generator], tuple[Any, ...]]:
    """Random logits for a way to choose."""

    def arguments(generator: torch.Generator) -> tuple[Any, ...]:
        return choose, torch.randn(token, expert, generator=generator), seen

    return arguments


def compared(
    count: Callable[[Tensor], Any] = lambda differ: differ.any(dim=-1).sum(),
    shorter: Callable[[Choose, Tensor, int], Tensor] = lambda choose, logits, seen: choose(logits[:seen]),
    longer: Callable[[Choose, Tensor, int], Tensor] = lambda choose, logits, seen: choose(logits)[:seen],
    number: Callable[[Any], Any] = int,
) -> Callable[[Choose, Tensor, int], Any]:
    """Compare two runs. count: (token, expert) bool, where they differ -> the answer."""

    def mistaken(choose: Choose, logits: Tensor, seen: int) -> Any:
        differ = longer(choose, logits, seen) != shorter(choose, logits, seen)
        return number(count(differ))

    return mistaken


def blanked(value: float) -> Callable[[Choose, Tensor, int], Tensor]:
    """The future is overwritten instead of cut off."""

    def shorter(choose: Choose, logits: Tensor, seen: int) -> Tensor:
        blank = logits.clone()
        blank[seen:] = value
        return choose(blank)[:seen]

    return shorter


def padded(choose: Choose, logits: Tensor, seen: int) -> Tensor:
    short = torch.zeros_like(logits, dtype=torch.bool)
    short[:seen] = choose(logits[:seen])
    return short


def how_many(choose: Choose, logits: Tensor, seen: int) -> int:
    return int((choose(logits)[:seen].sum(dim=-1) != choose(logits[:seen]).sum(dim=-1)).sum())


def load(choose: Choose, logits: Tensor, seen: int) -> int:
    return int((choose(logits)[:seen].sum(dim=0) != choose(logits[:seen]).sum(dim=0)).sum())


def lost(choose: Choose, logits: Tensor, seen: int) -> int:
    """Tokens that lose an expert; those that only gain one are missed."""
    return int((choose(logits[:seen]) & ~choose(logits)[:seen]).any(dim=-1).sum())


def gained(choose: Choose, logits: Tensor, seen: int) -> int:
    return int((~choose(logits[:seen]) & choose(logits)[:seen]).any(dim=-1).sum())


MUTANTS: dict[str, tuple[Any, str]] = {
    "pairs": (compared(lambda differ: differ.sum()),
              "pairs of a token and an expert are counted. A token counts once, however many of its experts change."),
    "experts": (compared(lambda differ: differ.any(dim=0).sum()),
                "experts with other tokens are counted. Count tokens with other experts: any over the experts, "
                "dim=-1."),
    "same": (compared(lambda differ: (~differ).all(dim=-1).sum()),
             "the tokens that keep the same experts are counted. Count the others."),
    "a share": (compared(lambda differ: differ.any(dim=-1).float().mean(), number=float),
                "this is the share of the tokens. The exercise asks for their number."),
    "yes or no": (compared(lambda differ: differ.any(), number=bool),
                  "this says only whether there is a change. Count how many tokens it reaches."),
    "the last": (compared(longer=lambda choose, logits, seen: choose(logits)[-seen:]),
                 "the last tokens of the long run are compared with the first of the short one. They have to be the "
                 "same tokens: [:seen] of both."),
    "how many": (how_many, "the number of experts of a token is compared. It can be the same with other experts: "
                 "compare which."),
    "the cut counts": (compared(shorter=padded, longer=lambda choose, logits, seen: choose(logits)),
                       "the tokens that are cut off are counted, too. Look at the first `seen` only."),
    "zeros": (compared(shorter=blanked(0.0)),
              "the future is overwritten with zeros. Then it is still there, and takes room: cut it off, "
              "logits[:seen]."),
    "minus infinity": (compared(shorter=blanked(-1e9)),
                       "the future is overwritten with very low logits. It is still there, and takes room: cut it off, "
                       "logits[:seen]."),
    "the past": (compared(shorter=lambda choose, logits, seen: choose(logits[seen:]),
                          longer=lambda choose, logits, seen: choose(logits)[seen:]),
                 "the past is cut off, logits[seen:]. The question is what the first tokens know of the later ones."),
    "one more": (compared(shorter=lambda choose, logits, seen: choose(logits[: seen + 1]),
                          longer=lambda choose, logits, seen: choose(logits)[: seen + 1]),
                 "one token more than `seen` is kept."),
    "one less": (compared(shorter=lambda choose, logits, seen: choose(logits[:seen])[:-1],
                          longer=lambda choose, logits, seen: choose(logits)[: seen - 1]),
                 "the last of the tokens that are seen is left out."),
    "load": (load, "the load of the experts is compared. It can stay while tokens change places: compare tokens."),
    "lost": (lost, "only tokens that lose an expert through the future are counted. Those that gain one changed, too."),
    "gained": (gained, "only tokens that gain an expert through the future are counted. Those that lose one changed, "
               "too."),
    "last seen": (compared(lambda differ: differ[-1].any()),
                  "only the last of the seen tokens is compared. All of them count."),
    "first": (compared(lambda differ: differ[0].any()), "only the first token is compared. All that are seen count."),
    "every entry": (compared(lambda differ: differ.all(dim=-1).sum()),
                    "a token counts only if all its entries differ. One that differs is enough: any, not all."),
    "both runs long": (compared(shorter=lambda choose, logits, seen: choose(logits)[:seen]),
                       "both runs know the future, so nothing can differ. One of them has to see logits[:seen] alone."),
}  # fmt: skip

EXERCISES = (
    Exercise(
        id="16.4",
        title="Which router knows the future?",
        kind="ablate",
        minutes=10,
        difficulty=3,
        hints=(
            "Take the future away and look who notices: run the choice twice, and compare the same tokens.",
            "choose(logits) is (token, expert) for the whole text, choose(logits[:seen]) for its beginning. A token "
            "has changed if any of its experts differs.",
            "differ = choose(logits)[:seen] != choose(logits[:seen]); the answer is int(differ.any(dim=-1).sum()).",
        ),
        now_you_know="a choice may look at earlier tokens and never at later ones, or the model cannot write.",
        oracle=leaks_by_loops,
        cases=(
            Case("the last token takes every expert, two of four tokens seen", (LastAlone(), torch.zeros(4, 3), 2), 1),
            Case("tokens choose: nothing leaks", draw(Tokens(2), 9, 5, 4), 0),
            Case("first come, first served: nothing leaks", draw(FirstCome(2), 12, 3, 7), 0),
            Case("experts choose", draw(Experts(2), 24, 6, 15)),
            Case("experts choose, a longer future", draw(Experts(1), 40, 4, 12)),
            Case("experts choose, more experts than tokens", draw(Experts(2), 9, 30, 4)),
            Case("above the mean over the text", draw(ByTheMean(), 12, 3, 5)),
            Case("above the mean over a longer text", draw(ByTheMean(), 30, 4, 21)),
            Case("always one expert, the best against the mean over the text", draw(AboveTheMean(), 14, 6, 6)),
            Case("always one expert, a longer text", draw(AboveTheMean(), 30, 5, 12)),
            Case(
                "two tokens exchange their experts",
                (Mirrored(), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]]), 2),
                2,
            ),
            Case("all entries of three tokens differ", (TurnedRound(), torch.zeros(4, 3), 3), 3),
            Case("no future: nothing can leak", draw(Experts(2), 12, 6, 12), 0),
        ),
        mutants=MUTANTS,
        accepted={
            "any": compared(),
            "not all equal": compared(lambda differ: (~(~differ).all(dim=-1)).sum()),
            "loops": leaks_by_loops,
        },
    ),
)  # fmt: skip
