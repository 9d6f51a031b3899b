"""Chapter 09, generation: where turns end (09.5), what greedy decoding does (09.7), accept or reject drafts (09.8)."""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage

# 09.5 where turns end -------------------------------------------------------------------------------------------------

Ends = Callable[[Tensor, tuple[int, ...]], Tensor]


def lengths_by_loops(ids: Tensor, stop_ids: tuple[int, ...]) -> Tensor:
    """Row after row, token after token."""
    lengths = []
    for row in ids.tolist():
        length = 0
        while length < len(row) and row[length] not in stop_ids:
            length += 1
        lengths.append(length)
    return torch.tensor(lengths)


def is_stop(ids: Tensor, stop_ids: Sequence[int]) -> Tensor:
    return torch.isin(ids, torch.tensor(list(stop_ids)))


def lengths_by_sum(ids: Tensor, stop_ids: tuple[int, ...]) -> Tensor:
    """Count the places before which no stop id has occurred."""
    return (is_stop(ids, stop_ids).int().cumsum(dim=1) == 0).sum(dim=1)


def lengths_by_argmax(ids: Tensor, stop_ids: tuple[int, ...]) -> Tensor:
    """The first True; a row without any gets its length."""
    stops = is_stop(ids, stop_ids)
    return torch.where(stops.any(dim=1), stops.int().argmax(dim=1), ids.shape[1])


def last_stop(ids: Tensor, stop_ids: tuple[int, ...]) -> Tensor:
    stops = is_stop(ids, stop_ids)
    last = ids.shape[1] - 1 - stops.flip(1).int().argmax(dim=1)
    return torch.where(stops.any(dim=1), last, ids.shape[1])


def one_for_all(choose: Callable[[Tensor], Tensor]) -> Ends:
    return lambda ids, stop_ids: choose(lengths_by_loops(ids, stop_ids)).expand(len(ids)).clone()


def last_kind(ids: Tensor, stop_ids: tuple[int, ...]) -> Tensor:
    """Each stop id that occurs overwrites what was found for the one before."""
    lengths = torch.full((len(ids),), ids.shape[1])
    for stop_id in stop_ids:
        found = lengths_by_loops(ids, (stop_id,))
        lengths = torch.where(found < ids.shape[1], found, lengths)
    return lengths


def none_as(value: int) -> Ends:
    def lengths(ids: Tensor, stop_ids: tuple[int, ...]) -> Tensor:
        found = lengths_by_loops(ids, stop_ids)
        return torch.where(found == ids.shape[1], value, found)

    return lengths


def draw_ids(batch: int, position: int, vocab: int, *stop_ids: int) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, tuple[int, ...]]:
        return torch.randint(vocab, (batch, position), generator=generator), stop_ids

    return arguments


# 09.7 predict: greedy -------------------------------------------------------------------------------------------------

# question -> (the right prediction, the common wrong answer, the misconception)
GREEDY: dict[str, tuple[bool, bool, str]] = {
    "greedy, another seed: another text": (
        False,
        True,
        "greedy decoding throws no dice, so no seed can change it.",
    ),
    "temperature 2 and top-k 1: the greedy text": (
        True,
        False,
        "top-k 1 leaves one token, the likeliest, whatever the temperature has made of its probability.",
    ),
    "all logits doubled: another greedy text": (
        False,
        True,
        "doubling keeps the order, and greedy sees nothing but the order.",
    ),
    "endless and greedy, a tenth and more is repetition": (
        True,
        False,
        "a text that repeats itself makes its own continuation likelier, and greedy decoding never leaves the circle.",
    ),
    "endless and drawn at temperature 1, a tenth and more is repetition": (
        False,
        True,
        "a draw leaves a circle sooner or later: at each step there is a chance of another token.",
    ),
}


def predictions(wrong: tuple[bool, ...]) -> dict[str, bool]:
    """The right predictions, except for those questions where `wrong` is True."""
    return {question: answer[0] != missed for (question, answer), missed in zip(GREEDY.items(), wrong, strict=True)}


def misread(wrong: tuple[bool, ...]) -> str:
    """The misunderstandings behind these wrong predictions, one sentence each."""
    return "\n  ".join(answer[2] for answer, missed in zip(GREEDY.values(), wrong, strict=True) if missed)


WAYS_TO_MISS = [way for way in product((False, True), repeat=len(GREEDY)) if any(way)]

# 09.8 accept or reject ------------------------------------------------------------------------------------------------

Accept = Callable[[list[int], list[int]], list[int]]


def accept_by_hand(drafts: list[int], best: list[int]) -> list[int]:
    """Step by step what the model would have written: go on as long as the draft says the same."""
    written = [best[0]]
    for place, draft in enumerate(drafts):
        if draft != written[-1]:
            break
        written.append(best[place + 1])
    return written


def right_until(drafts: list[int], best: list[int]) -> int:
    """How many drafts from the start are the model's own."""
    return len(accept_by_hand(drafts, best)) - 1


def all_that_agree(drafts: list[int], best: list[int]) -> list[int]:
    return [draft for draft, own in zip(drafts, best, strict=False) if draft == own] + best[-1:]


def shifted(drafts: list[int], best: list[int]) -> list[int]:
    """Draft n is compared with what the model says after it."""
    right = 0
    while right < len(drafts) and drafts[right] == best[right + 1]:
        right += 1
    return [*drafts[:right], best[right]]


def with_zip(drafts: list[int], best: list[int]) -> list[int]:
    right = 0
    for draft, own in zip(drafts, best, strict=False):
        if draft != own:
            break
        right += 1
    return [*drafts[:right], best[right]]


def with_next(drafts: list[int], best: list[int]) -> list[int]:
    """The first place that differs."""
    differ = (place for place, draft in enumerate(drafts) if draft != best[place])
    return best[: next(differ, len(drafts)) + 1]


EXERCISES = (
    Exercise(
        id="09.5",
        title="Where turns end",
        kind="fill in",
        minutes=8,
        difficulty=2,
        hints=(
            "A row ends at its first stop id. What is its length if there is none?",
            "torch.isin(ids, torch.tensor(stop_ids)) marks the stop ids. How many have occurred up to each place?",
            "stops = torch.isin(ids, torch.tensor(stop_ids)); (stops.int().cumsum(dim=1) == 0).sum(dim=1).",
        ),
        now_you_know="what follows the first stop id of a row has been computed, but was never said.",
        oracle=lengths_by_loops,
        cases=(
            Case(
                "the first row ends after two tokens, the second never",
                (torch.tensor([[5, 6, 9, 7], [5, 6, 7, 8]]), (9,)),
                torch.tensor([2, 4]),
            ),
            Case(
                "two stop ids, the first row has both",
                (torch.tensor([[4, 8, 5, 9, 8], [9, 4, 4, 4, 4], [4, 4, 4, 9, 4]]), (9, 8)),
                torch.tensor([1, 0, 3]),
            ),
            Case("six rows of random ids", draw_ids(6, 12, 20, 3, 17)),
            Case("three stop ids", draw_ids(5, 7, 12, 1, 2, 11)),
            Case("a single row that ends at once", (torch.tensor([[2, 3, 3]]), (2, 0)), torch.tensor([0])),
        ),
        mutants={
            "the stop id counted": (
                lambda ids, stop_ids: (lengths_by_loops(ids, stop_ids) + 1).clamp(max=ids.shape[1]),
                "the stop id itself is counted. It ends the turn, it isn't part of it.",
            ),
            "the last stop": (last_stop, "this is the place of the *last* stop id of a row. The first one ends it."),
            "one stop id": (
                lambda ids, stop_ids: lengths_by_loops(ids, stop_ids[:1]),
                "only the first of the stop ids is looked for.",
            ),
            "the other stop ids": (
                lambda ids, stop_ids: lengths_by_loops(ids, stop_ids[-1:]),
                "only the last of the stop ids is looked for.",
            ),
            "none is zero": (none_as(0), "a row without a stop id has length 0 here. It has all its tokens."),
            "none is -1": (none_as(-1), "a row without a stop id has length -1 here. It has all its tokens."),
            "none is the last place": (
                lambda ids, stop_ids: lengths_by_loops(ids, stop_ids).clamp(max=ids.shape[1] - 1),
                "a row without a stop id loses its last token.",
            ),
            "all that are no stops": (
                lambda ids, stop_ids: (~is_stop(ids, stop_ids)).sum(dim=1),
                "these are all tokens that are no stop ids, those behind the end as well.",
            ),
            "the number of stops": (
                lambda ids, stop_ids: is_stop(ids, stop_ids).sum(dim=1),
                "this is how many stop ids each row has.",
            ),
            "the shortest": (
                one_for_all(lambda lengths: lengths.min()),
                "all rows end with the shortest. Each has its own end.",
            ),
            "the longest": (
                one_for_all(lambda lengths: lengths.max()),
                "all rows have the length of the longest. Each has its own end.",
            ),
            "the kind found last": (
                last_kind,
                "one stop id is looked for after another, and the last one found decides. The *first place* of any of "
                "them ends a row.",
            ),
            "up to the second": (
                lambda ids, stop_ids: (is_stop(ids, stop_ids).int().cumsum(dim=1) <= 1).sum(dim=1),
                "the tokens up to the *second* stop id are counted. Ask where none has occurred: == 0.",
            ),
            "what is behind": (
                lambda ids, stop_ids: ids.shape[1] - lengths_by_loops(ids, stop_ids),
                "this is what comes from the stop id on. The turn is what is before it.",
            ),
        },
        accepted={"a sum": lengths_by_sum, "argmax": lengths_by_argmax},
        stages=(
            Stage(
                "",
                lambda ids, stop_ids: is_stop(ids, stop_ids).int().argmax(dim=1),
                "is right for rows with a stop id; without one, argmax says 0",
            ),
        ),
    ),
    Exercise(
        id="09.7",
        title="Predict, then run: greedy",
        kind="predict",
        minutes=8,
        difficulty=2,
        hints=(
            "Greedy decoding sees the order of the logits and nothing else. Which of these things change the order?",
            "No dice: what could a seed change? And where could a way out of a circle come from?",
            "Dividing or multiplying keeps the order; top-k 1 leaves one token. A circle makes itself likelier, and "
            "only dice can leave it.",
        ),
        now_you_know="greedy is a function of the text so far. Once the text repeats itself, so does the function.",
        expected=lambda: predictions((False,) * len(GREEDY)),
        reasons={
            "greedy, another seed: another text": "What does a seed decide, and does greedy decoding ask for it?",
            "temperature 2 and top-k 1: the greedy text": "How many tokens does top-k 1 leave to draw from?",
            "all logits doubled: another greedy text": "Does doubling change which logit is the largest?",
            "endless and greedy, a tenth and more is repetition": "The text has just said the same line twice. What "
            "does attention propose as the next one?",
            "endless and drawn at temperature 1, a tenth and more is repetition": "In a circle of ten tokens, each "
            "with a chance of nine in ten: how long does it last?",
        },
        mutants={
            "missed " + ", ".join(str(n) for n, missed in enumerate(way, 1) if missed): (predictions(way), misread(way))
            for way in WAYS_TO_MISS
        },
        accepted={
            "as tensors": {question: torch.tensor(answer[0]) for question, answer in GREEDY.items()},
            "in another order": dict(reversed(predictions((False,) * len(GREEDY)).items())),
        },
        teaches=None,
    ),
    Exercise(
        id="09.8",
        title="Accept or reject",
        kind="fill in",
        minutes=10,
        difficulty=3,
        hints=(
            "best[0] is what the model writes next. When is best[1] worth anything?",
            "best[n] is what the model writes if the first n drafts are right. So walk along both lists until they "
            "differ. And what does the model give you at that place?",
            "Count the drafts from the start that equal best: right. Return best[: right + 1].",
        ),
        now_you_know="a rejected draft costs nothing but its computation: at that place the model has said its own.",
        oracle=accept_by_hand,
        cases=(
            Case("the first two are right, the third isn't", ([5, 6, 9], [5, 6, 7, 8]), [5, 6, 7]),
            Case("all are right, and one more comes free", ([5, 6, 7], [5, 6, 7, 8]), [5, 6, 7, 8]),
            Case("none is right", ([1, 2], [5, 6, 7]), [5]),
            Case("wrong, and then right by accident", ([1, 6, 7], [5, 6, 7, 8]), [5]),
            Case("no draft at all", ([], [4]), [4]),
            Case("the same token again and again", ([3, 3, 3, 3], [3, 3, 3, 2, 3]), [3, 3, 3, 2]),
            Case("a draft that is one token late", ([6, 7, 8], [5, 6, 7, 8]), [5]),
        ),
        mutants={
            "without the model's own": (
                lambda drafts, best: drafts[: right_until(drafts, best)],
                "only the accepted drafts are returned. The model's own next token is missing; without it a pass may "
                "yield nothing.",
            ),
            "all that agree": (
                all_that_agree,
                "drafts behind a wrong one are accepted. The model has judged them after a text that will not be.",
            ),
            "everything": (
                lambda drafts, best: list(best),
                "all of best is returned. Behind the first wrong draft it belongs to another text.",
            ),
            "the drafts": (
                lambda drafts, best: [*drafts, best[-1]],
                "all drafts are accepted, whatever the model says.",
            ),
            "the rejected one too": (
                lambda drafts, best: (
                    [*drafts[: right_until(drafts, best) + 1], *best[-1:]]
                    if right_until(drafts, best) == len(drafts)
                    else drafts[: right_until(drafts, best) + 1]
                ),
                "the first wrong draft is kept. In its place comes the model's own token.",
            ),
            "the rejected one, and nothing more": (
                lambda drafts, best: drafts[: right_until(drafts, best) + 1],
                "the first wrong draft is kept, and if all are right, the model's own next token is missing.",
            ),
            "only where they differ": (
                lambda drafts, best: best[: min(right_until(drafts, best) + 1, len(drafts))],
                "if all drafts are right, the model's own next token is missing. It comes free: best has one more.",
            ),
            "only if all are right": (
                lambda drafts, best: (
                    accept_by_hand(drafts, best)
                    if right_until(drafts, best) == len(drafts)
                    else drafts[: right_until(drafts, best)]
                ),
                "the model's own token is appended only if all drafts are right. At the first wrong one it has said "
                "something, too.",
            ),
            "as many as drafts": (
                lambda drafts, best: best[: len(drafts)],
                "these are as many of best as there are drafts, also behind the first wrong one.",
            ),
            "one too many": (
                lambda drafts, best: best[: right_until(drafts, best) + 2],
                "one token too many: what best says behind the first wrong draft belongs to another text.",
            ),
            "the one behind": (
                lambda drafts, best: [
                    *drafts[: right_until(drafts, best)],
                    best[min(right_until(drafts, best) + 1, len(drafts))],
                ],
                "behind the accepted drafts comes a token of best that is one place too late: it was said after the "
                "wrong draft.",
            ),
            "both": (
                lambda drafts, best: [*drafts[: right_until(drafts, best) + 1], best[right_until(drafts, best)]],
                "the first wrong draft is kept, and the model's own token put behind it. It takes its place.",
            ),
            "only where they differ, at least one": (
                lambda drafts, best: best[: max(1, min(right_until(drafts, best) + 1, len(drafts)))],
                "if all drafts are right, the model's own next token is missing. It comes free: best has one more.",
            ),
            "only if none is right": (
                lambda drafts, best: drafts[: right_until(drafts, best)] or best[:1],
                "behind accepted drafts the model's own next token is missing. It comes free after each pass.",
            ),
            "anywhere": (
                lambda drafts, best: [draft for draft in drafts if draft in best],
                "a draft is accepted if it stands anywhere in best. It has to stand at the same place.",
            ),
            "skipping": (
                lambda drafts, best: (
                    (right := [draft for draft, own in zip(drafts, best, strict=False) if draft == own])
                    + [best[len(right)]]
                ),
                "wrong drafts are left out, and the search goes on behind them. Stop at the first.",
            ),
            "compared with the next": (
                shifted,
                "draft n is compared with what the model says *after* it. best[0] belongs to drafts[0].",
            ),
            "all or nothing": (
                lambda drafts, best: list(best) if drafts == best[:-1] else best[:1],
                "one wrong draft makes all of them count for nothing. Those before it are right.",
            ),
            "one token only": (
                lambda drafts, best: best[:1],
                "no draft is ever accepted: one token a pass, as without them.",
            ),
            "the last of best": (
                lambda drafts, best: [*drafts[: right_until(drafts, best)], best[-1]],
                "behind the accepted drafts comes the *last* of best. It belongs to a text with all drafts in it.",
            ),
        },
        accepted={"zip": with_zip, "next": with_next},
    ),
)
