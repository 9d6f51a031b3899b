"""Chapter 16, the router zoo: groups of experts, as DeepSeek V3 keeps them (16.1)."""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.zoo.groups import drop_groups

DROPPED = -torch.inf


def keep_groups_by_loops(choice: Tensor, groups: int, groups_kept: int) -> Tensor:
    """Token after token: the two best of each group are added up, and the best sums stay."""
    size = choice.shape[-1] // groups
    result = torch.full_like(choice, DROPPED)
    for token, row in enumerate(choice.tolist()):
        members = [row[group * size : (group + 1) * size] for group in range(groups)]
        sums = [sum(sorted(values)[-2:]) for values in members]
        for group in sorted(range(groups), key=lambda one: -sums[one])[:groups_kept]:
            result[token, group * size : (group + 1) * size] = choice[token, group * size : (group + 1) * size]
    return result


def draw(
    token: int, expert: int, groups: int, groups_kept: int, low: float = 0.0, dtype: torch.dtype = torch.float32
) -> Arguments:
    """Scores (token, expert) without ties between experts, nor between the sums of two, from `low` on."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, int, int]:
        orders = torch.stack([torch.randperm(expert, generator=generator) for _ in range(token)]).double()
        jitter = torch.rand(token, expert, generator=generator, dtype=torch.float64) / (4 * expert)
        return (low + orders / expert + jitter).to(dtype), groups, groups_kept

    return arguments


# Mutants and other styles ---------------------------------------------------------------------------------------------


def two_best(members: Tensor) -> Tensor:
    return members.topk(min(2, members.shape[-1]), dim=-1).values.sum(dim=-1)


def keeping(
    score: Callable[[Tensor], Tensor] = two_best,
    pattern: str = "(group member)",
    kept: Callable[[int, int], int] = lambda groups, groups_kept: groups_kept,
    largest: bool = True,
    fill: float = DROPPED,
    swap: bool = False,
    size: bool = False,
) -> Callable[[Tensor, int, int], Tensor]:
    """The right function, with a change. score: (token, group, member) -> (token, group)."""

    def mistaken(choice: Tensor, groups: int, groups_kept: int) -> Tensor:
        if size:
            groups = choice.shape[-1] // groups
        members = rearrange(choice, f"token {pattern} -> token group member", group=groups)
        number = min(kept(groups, groups_kept), groups)
        best = score(members).topk(number, dim=-1, largest=largest).indices
        stays = torch.zeros(len(choice), groups, dtype=torch.bool).scatter(-1, best, True)
        stays = repeat(stays, f"token group -> token {pattern}", member=members.shape[-1])
        return choice.masked_fill(stays if swap else ~stays, fill)

    return mistaken


def two_best_alone(choice: Tensor, groups: int, groups_kept: int) -> Tensor:
    members = rearrange(
        keeping()(choice, groups, groups_kept), "token (group member) -> token group member", group=groups
    )
    least = members.topk(min(2, members.shape[-1]), dim=-1).values[..., -1:]
    return rearrange(members.masked_fill(members < least, DROPPED), "token group member -> token (group member)")


def for_all_tokens(choice: Tensor, groups: int, groups_kept: int) -> Tensor:
    return keeping(lambda members: two_best(members).sum(dim=0, keepdim=True).expand(len(members), -1))(
        choice, groups, groups_kept
    )


def best_members(choice: Tensor, groups: int, groups_kept: int) -> Tensor:
    """No groups at all: as many single experts as the groups would have."""
    number = choice.shape[-1] // groups * groups_kept
    least = choice.topk(number, dim=-1).values[:, -1:]
    return choice.masked_fill(choice < least, DROPPED)


def rank_of_groups(choice: Tensor, groups: int, groups_kept: int) -> Tensor:
    """The kept groups side by side in the order of their scores, the rest behind them."""
    members = rearrange(choice, "token (group member) -> token group member", group=groups)
    order = two_best(members).argsort(dim=-1, descending=True)
    moved = torch.stack([row[places] for row, places in zip(members, order, strict=True)])
    moved[:, groups_kept:] = DROPPED
    return rearrange(moved, "token group member -> token (group member)")


def scores_of_groups(choice: Tensor, groups: int, groups_kept: int) -> Tensor:
    """Each kept expert has the score of its group."""
    kept = keeping()(choice, groups, groups_kept)
    members = rearrange(choice, "token (group member) -> token group member", group=groups)
    scores = repeat(two_best(members), "token group -> token (group member)", member=members.shape[-1])
    return torch.where(kept > DROPPED, scores, kept)


def by_library(choice: Tensor, groups: int, groups_kept: int) -> Tensor:
    from minimoe.zoo.rule import Rule

    return drop_groups(choice, Rule(groups=groups, groups_kept=groups_kept, group_score="top2_sum"))


def by_rows(choice: Tensor, groups: int, groups_kept: int) -> Tensor:
    rows = rearrange(choice, "token (group member) -> token group member", group=groups).clone()
    for row in rows:
        worst = row.sort(dim=-1).values[:, -2:].sum(dim=-1).argsort()[: groups - groups_kept]
        row[worst] = DROPPED
    return rearrange(rows, "token group member -> token (group member)")


MUTANTS: dict[str, tuple[Any, str]] = {
    "one best": (keeping(lambda members: members.amax(dim=-1)),
                 "a group is ranked by its best expert alone, as in DeepSeek V2. V3 adds up its two best."),
    "second best": (keeping(lambda members: members.sort(dim=-1).values[..., -min(2, members.shape[-1])]),
                    "a group is ranked by its second best expert alone. Add the best one."),
    "whole group": (keeping(lambda members: members.sum(dim=-1)),
                    "a group is ranked by the sum, or the mean, of all its experts. Only its two best count."),
    "without sign": (keeping(lambda members: two_best(members.abs())),
                     "the scores of a group lose their sign. With a bias they can be negative, and low is low."),
    "every n-th": (keeping(pattern="(member group)"),
                   "the groups are interleaved: every n-th expert. A group is a row of neighbours, (group member)."),
    "as size": (keeping(size=True),
                "`groups` is taken for the size of a group. It is the number of groups."),
    "zeros": (keeping(fill=0.0),
              "dropped experts get 0. A bias can make scores negative, and then 0 wins: they need -inf."),
    "a large number": (keeping(fill=-1e6), "dropped experts get a large negative number. The page asks for -inf."),
    "exchanged": (keeping(swap=True), "the kept and the dropped groups are exchanged: the best groups lose."),
    "worst": (keeping(largest=False), "the worst groups are kept. Keep those with the largest sums."),
    "one more": (keeping(kept=lambda groups, groups_kept: groups_kept + 1), "one group too many is kept."),
    "one fewer": (keeping(kept=lambda groups, groups_kept: max(groups_kept - 1, 1)), "one group too few is kept."),
    "the complement": (keeping(kept=lambda groups, groups_kept: groups - groups_kept),
                       "groups_kept groups are dropped. It is the number that stays."),
    "the two alone": (two_best_alone,
                      "only the two best experts of a kept group are left. They rank the group, and then all of its "
                      "members can be chosen."),
    "one for all": (for_all_tokens, "the same groups are kept for all tokens. Each token has its own best groups."),
    "no groups": (best_members, "single experts are dropped. A group stays, or goes, as a whole."),
    "moved": (rank_of_groups, "the kept groups change their places. An expert's number has to stay what it is."),
    "group scores": (scores_of_groups,
                     "a kept expert has its group's score. Its own score is needed to choose inside the group."),
}  # fmt: skip

EXERCISES = (
    Exercise(
        id="16.1",
        title="Groups, as DeepSeek V3 keeps them",
        kind="einops",
        minutes=12,
        difficulty=3,
        hints=(
            "Give the groups an axis of their own. Then: one number for each group, the best numbers, and a mask.",
            'rearrange to "token group member"; the two largest along member, summed, are (token, group). A mask of '
            "groups (token, group) becomes one of experts (token, expert) with repeat.",
            "members.topk(2).values.sum(-1).topk(groups_kept).indices are the groups that stay: scatter True at them "
            'into zeros (token, group), repeat "token group -> token (group member)", and '
            "masked_fill what is not True.",
        ),
        now_you_know="groups are one more axis: rank them, keep the best, and choose inside.",
        oracle=keep_groups_by_loops,
        cases=(
            Case(
                "one token, three groups of two, one kept, by hand",
                (torch.tensor([[0.9, 0.1, 0.6, 0.5, 0.3, 0.2]]), 3, 1),
                torch.tensor([[DROPPED, DROPPED, 0.6, 0.5, DROPPED, DROPPED]]),
            ),
            Case("random scores, four groups of six, two kept", draw(7, 24, 4, 2)),
            Case("eight groups, three kept", draw(5, 40, 8, 3)),
            Case("negative scores, as a bias can make them", draw(6, 24, 4, 2, low=-2.0)),
            Case("scores around zero", draw(6, 30, 3, 2, low=-0.5)),
            Case("all groups kept: nothing changes", draw(3, 12, 3, 3)),
            Case("one group", draw(3, 6, 1, 1)),
            Case("float64", draw(2, 12, 3, 2, dtype=torch.float64)),
        ),
        teaches=drop_groups,
        mutants=MUTANTS,
        accepted={"the library": by_library, "row by row": by_rows, "mask": keeping()},
    ),
)  # fmt: skip
