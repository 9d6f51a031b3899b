"""Chapter 10, thinking: a budget for the thought (10.4), one digit of it replaced (10.6)."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

from minimoe.course.checker.exercise import Case, Exercise

# 10.4 a budget --------------------------------------------------------------------------------------------------------

Cut = Callable[[list[int], int, int, list[int]], list[int]]
TAG, CLOSING = 99, [8, 99, 7]  # </think>; a line end, </think>, two line ends


def cut_by_hand(ids: list[int], budget: int, end: int, closing: list[int]) -> list[int]:
    """Token by token: count until the thought ends or the budget does."""
    kept: list[int] = []
    for token in ids:
        if token == end:
            return list(ids)
        if len(kept) == budget:
            return kept + list(closing)
        kept.append(token)
    return kept


def thought_length(ids: Sequence[int], end: int) -> int:
    return len(list(takewhile(lambda token: token != end, ids)))


def cutting(
    over: Callable[[int, int], bool] = lambda length, budget: length > budget,
    kept: Callable[[list[int], int], list[int]] = lambda ids, budget: ids[:budget],
    closed: Callable[[int, list[int]], list[int]] = lambda end, closing: closing,
    within: Callable[[list[int], int, list[int], int], list[int]] = lambda ids, end, closing, budget: list(ids),
    length: Callable[[Sequence[int], int], int] = thought_length,
) -> Cut:
    """The cut with one thing done otherwise."""

    def cut(ids: list[int], budget: int, end: int, closing: list[int]) -> list[int]:
        if over(length(ids, end), budget):
            return list(kept(ids, budget)) + list(closed(end, closing))
        return within(ids, end, closing, budget)

    return cut


def rest_of(ids: list[int], end: int) -> list[int]:
    """What stands after the first `end`."""
    return ids[ids.index(end) + 1 :] if end in ids else []


def closed_always(ids: list[int], end: int, closing: list[int], budget: int) -> list[int]:
    return list(ids) if end in ids else [*ids, *closing]


def rest_kept(ids: list[int], budget: int, end: int, closing: list[int]) -> list[int]:
    result = cut_by_hand(ids, budget, end, closing)
    return result if result == list(ids) else result + rest_of(ids, end)


def inserted(ids: list[int], budget: int, end: int, closing: list[int]) -> list[int]:
    result = cut_by_hand(ids, budget, end, closing)
    return result if result == list(ids) else result + list(ids[budget:])


def extended(ids: list[int], budget: int, end: int, closing: list[int]) -> list[int]:
    """Changes the argument."""
    result = cut_by_hand(ids, budget, end, closing)
    ids[:] = result
    return ids


def last_end(ids: Sequence[int], end: int) -> int:
    return len(ids) - 1 - list(ids)[::-1].index(end) if end in ids else len(ids)


def cut_unchanged(cut: Any) -> str | None:
    """A complaint if the argument is changed."""
    ids, closing = [1, 2, 3], [8, 9]
    cut(ids, 2, 9, closing)
    return None if (ids, closing) == ([1, 2, 3], [8, 9]) else "`ids` or `closing` has been changed; make a new list."


CUT: dict[str, tuple[Cut, str]] = {
    "never": (lambda ids, budget, end, closing: list(ids), "nothing is ever cut."),
    "one too few": (
        cutting(over=lambda length, budget: length >= budget, kept=lambda ids, budget: ids[: max(budget - 1, 0)]),
        "one token too few is kept, and a thought of exactly `budget` tokens is cut.",
    ),
    "one too few is left": (
        cutting(kept=lambda ids, budget: ids[: max(budget - 1, 0)]),
        "of a thought that is too long, one token too few is kept.",
    ),
    "one too many": (cutting(kept=lambda ids, budget: ids[: budget + 1]), "one token too many is kept."),
    "equal is too long": (
        cutting(over=lambda length, budget: length >= budget),
        "a thought of exactly `budget` tokens is closed by force. It is within its budget.",
    ),
    "one more allowed": (
        cutting(over=lambda length, budget: length > budget + 1),
        "a thought with one token more than `budget` is left as it is.",
    ),
    "the tag counts": (
        cutting(length=lambda ids, end: thought_length(ids, end) + (end in ids)),
        "`</think>` is counted as a token of the thought.",
    ),
    "everything counts": (
        cutting(length=lambda ids, end: len(ids)),
        "the answer is counted as well. The budget is for the thought alone.",
    ),
    "everything counts, cut before the tag": (
        lambda ids, budget, end, closing: (
            list(ids) if len(ids) <= budget else [*ids[: min(budget, thought_length(ids, end))], *closing]
        ),
        "whether to cut depends on all tokens, with the answer. The budget is for the thought alone.",
    ),
    "not closed": (cutting(closed=lambda end, closing: []), "the thought is cut and never closed."),
    "the tag alone": (
        cutting(closed=lambda end, closing: [end]),
        "the thought is closed with the tag alone. `closing` has the line ends around it, too.",
    ),
    "closed twice": (
        cutting(closed=lambda end, closing: [end, *closing]),
        "the thought is closed twice: `closing` has the tag in it.",
    ),
    "and ended again": (
        cutting(closed=lambda end, closing: [*closing, end]),
        "after `closing` stands another `</think>`.",
    ),
    "the rest kept": (rest_kept, "after the cut comes the old answer, which was written after another thought."),
    "inserted": (inserted, "`closing` is put in between, and the rest of the thought goes on after it."),
    "closed in any case": (
        cutting(within=closed_always),
        "a thought that is within its budget and still going on is closed. Leave it as it is.",
    ),
    "closed whatever it is": (
        cutting(within=lambda ids, end, closing, budget: [*ids[:budget], *closing]),
        "also what is within the budget gets `closing`.",
    ),
    "only if it ended": (
        lambda ids, budget, end, closing: cut_by_hand(ids, budget, end, closing) if end in ids else list(ids),
        "a thought without `</think>` is never cut. It is the one that needs the budget most.",
    ),
    "only if it goes on": (
        lambda ids, budget, end, closing: list(ids) if end in ids else cut_by_hand(ids, budget, end, closing),
        "a thought that has ended is never cut, however long it is.",
    ),
    "ended means cut": (
        lambda ids, budget, end, closing: (
            list(ids[: thought_length(ids, end)]) if thought_length(ids, end) <= budget else [*ids[:budget], *closing]
        ),
        "of a thought that has ended in time, the tag and the answer are removed. Leave everything as it is.",
    ),
    "without the answer": (
        lambda ids, budget, end, closing: (
            list(ids[: thought_length(ids, end) + 1])
            if thought_length(ids, end) <= budget
            else [*ids[:budget], *closing]
        ),
        "of a thought that has ended in time, the answer is removed. Leave everything as it is.",
    ),
    "the line end before the tag": (
        cutting(length=lambda ids, end: thought_length(ids, end) - (end in ids)),
        "the line end before `</think>` is not counted. It is part of the thought.",
    ),
    "one more, kept": (
        cutting(over=lambda length, budget: length > budget + 1, kept=lambda ids, budget: ids[: budget + 1]),
        "the thought may have one token more than `budget` here, and keeps it when it is cut.",
    ),
    "zero is no budget": (
        lambda ids, budget, end, closing: cut_by_hand(ids, budget, end, closing) if budget else list(ids),
        "with a budget of 0 nothing is cut. 0 is a budget like any other: no token of the thought stays.",
    ),
    "ended within the first tokens": (
        lambda ids, budget, end, closing: list(ids) if end in ids[:budget] else [*ids[:budget], *closing],
        "all that has no `</think>` among its first `budget` tokens is closed. A thought of exactly `budget` tokens, "
        "and a shorter one that is still going on, are within the budget.",
    ),
    "closed again": (
        lambda ids, budget, end, closing: (
            [*ids[: min(budget, thought_length(ids, end))], *closing]
            if end in ids
            else cut_by_hand(ids, budget, end, closing)
        ),
        "a thought that has ended in time is closed again, and its answer is removed. Leave everything as it is.",
    ),
    "the last tag": (
        cutting(length=last_end),
        "the thought is taken to the *last* `</think>`. It ends at the first.",
    ),
    "the last tokens": (
        cutting(kept=lambda ids, budget: ids[len(ids) - budget :]),
        "the *last* tokens are kept. The budget is spent from the start.",
    ),
    "the closing is in the budget": (
        lambda ids, budget, end, closing: (
            list(ids)
            if thought_length(ids, end) <= budget
            else [*ids[: max(budget - len(closing), 0)], *closing]
        ),
        "the tokens of `closing` are taken from the budget. It is for the thought alone.",
    ),
    "in place": (extended, "`ids` itself is changed. Make a new list."),
}  # fmt: skip


def cut_with_try(ids: list[int], budget: int, end: int, closing: list[int]) -> list[int]:
    try:
        fits = ids.index(end) <= budget
    except ValueError:
        fits = len(ids) <= budget
    return [*ids] if fits else [*ids[:budget], *closing]


def cut_with_slice(ids: list[int], budget: int, end: int, closing: list[int]) -> list[int]:
    return ids if end in ids[: budget + 1] or len(ids) <= budget else ids[:budget] + closing


# 10.6 one digit -------------------------------------------------------------------------------------------------------

Next = Callable[[list[int], int, list[int]], list[int]]
DIGITS = [40, 41, 42, 43, 44, 45, 46, 47, 48, 49]
MIXED = [31, 17, 22, 90, 5, 68, 44, 73, 12, 56]  # ids of digits in no order


def next_by_hand(ids: list[int], place: int, digits: list[int]) -> list[int]:
    """Ten cases, one for each digit."""
    following = {digits[digit]: digits[0 if digit == 9 else digit + 1] for digit in range(10)}
    return [following[token] if at == place else token for at, token in enumerate(ids)]


def replaced(by: Callable[[int, list[int]], int]) -> Next:
    """A new list with another id at the place."""

    def next_digit(ids: list[int], place: int, digits: list[int]) -> list[int]:
        return [*ids[:place], by(ids[place], digits), *ids[place + 1 :]]

    return next_digit


def with_token(ids: list[int], place: int, token: int) -> list[int]:
    """A new list with `token` at the place, which may be negative."""
    kept = list(ids)
    kept[place] = token
    return kept


def next_in_place(ids: list[int], place: int, digits: list[int]) -> list[int]:
    ids[place] = digits[(digits.index(ids[place]) + 1) % 10]
    return ids


def everywhere(ids: list[int], place: int, digits: list[int]) -> list[int]:
    after = digits[(digits.index(ids[place]) + 1) % 10]
    return [after if token == ids[place] else token for token in ids]


def every_digit(ids: list[int], place: int, digits: list[int]) -> list[int]:
    return [digits[(digits.index(token) + 1) % 10] if token in digits else token for token in ids]


def with_carry(ids: list[int], place: int, digits: list[int]) -> list[int]:
    """9 becomes 0, and the digit before it grows as well."""
    kept, at = list(ids), place
    while True:
        digit = digits.index(kept[at])
        kept[at] = digits[(digit + 1) % 10]
        if digit < 9 or at == 0 or kept[at - 1] not in digits:
            return kept
        at -= 1


def next_unchanged(next_digit: Any) -> str | None:
    """A complaint if the argument is changed."""
    ids, digits = [DIGITS[3], 7], list(DIGITS)
    next_digit(ids, 0, digits)
    return None if (ids, digits) == ([DIGITS[3], 7], DIGITS) else "`ids` or `digits` has been changed; make a new list."


NEXT: dict[str, tuple[Next, str]] = {
    "nothing": (lambda ids, place, digits: list(ids), "nothing is replaced."),
    "the next id": (
        replaced(lambda token, digits: token + 1),
        "1 is added to the *id*. The ids of the digits need not stand in order; look the digit up in `digits`.",
    ),
    "the next id, around": (
        replaced(lambda token, digits: digits[0] if token == digits[9] else token + 1),
        "1 is added to the *id*, which is right only if the ids of the digits stand in order.",
    ),
    "on from the id of 0": (
        replaced(lambda token, digits: digits[0] + (token - digits[0] + 1) % 10),
        "the id is counted on from that of 0, which is right only if the ids of the digits stand in order.",
    ),
    "the id as the digit": (
        replaced(lambda token, digits: digits[(token + 1) % 10]),
        "the id is taken for the digit. Which digit it is, its index in `digits` says.",
    ),
    "the digit itself": (
        replaced(lambda token, digits: (digits.index(token) + 1) % 10),
        "the digit is written in place of its id. Take `digits[...]` of it.",
    ),
    "the one before": (
        replaced(lambda token, digits: digits[digits.index(token) - 1]),
        "this is the digit before, not the next one.",
    ),
    "nine stays": (
        replaced(lambda token, digits: digits[min(digits.index(token) + 1, 9)]),
        "9 stays 9. After the last digit comes the first.",
    ),
    "nine becomes one": (
        replaced(lambda token, digits: digits[(digits.index(token) + 1) % 9 if digits.index(token) == 9 else
                                              digits.index(token) + 1]),
        "9 becomes 1. After the last digit comes 0.",
    ),
    "modulo nine": (
        replaced(lambda token, digits: digits[(digits.index(token) + 1) % 9]),
        "the digit is taken modulo 9, so 8 becomes 0. There are ten digits.",
    ),
    "always the same": (replaced(lambda token, digits: digits[0]), "every digit becomes 0."),
    "the first id": (replaced(lambda token, digits: digits[1]), "every digit becomes 1."),
    "two on": (
        replaced(lambda token, digits: digits[(digits.index(token) + 2) % 10]),
        "this is the digit after the next one.",
    ),
    "mirrored": (
        replaced(lambda token, digits: digits[9 - digits.index(token)]),
        "the digits are mirrored: 0 becomes 9. The next one is meant.",
    ),
    "everywhere": (everywhere, "every token with this digit is replaced. Only the one at `place` is meant."),
    "every digit": (every_digit, "all digits of the list are replaced. Only the one at `place` is meant."),
    "with a carry": (with_carry, "9 becomes 0, and the digit before it grows, too. Only one token is to change."),
    "one further": (
        lambda ids, place, digits: next_by_hand(ids, min(place + 1, len(ids) - 1), digits)
        if ids[min(place + 1, len(ids) - 1)] in digits else list(ids),
        "the token *after* the place is replaced.",
    ),
    "one before": (
        lambda ids, place, digits: with_token(ids, place - 1, digits[(digits.index(ids[place]) + 1) % 10]),
        "the new digit stands one place too far to the left. Places are counted from 0.",
    ),
    "the first of its kind": (
        lambda ids, place, digits: next_by_hand(ids, ids.index(ids[place]), digits),
        "the *first* token with this digit is replaced. The one at `place` is meant.",
    ),
    "the rest missing": (
        lambda ids, place, digits: next_by_hand(ids, place, digits)[: place + 1],
        "what comes after the place is missing.",
    ),
    "removed": (lambda ids, place, digits: [*ids[:place], *ids[place + 1 :]], "the digit is removed, not replaced."),
    "inserted": (
        lambda ids, place, digits: [*ids[: place + 1], digits[(digits.index(ids[place]) + 1) % 10], *ids[place + 1 :]],
        "the new digit is inserted after the old one, which stays.",
    ),
    "inserted before": (
        lambda ids, place, digits: [*ids[:place], digits[(digits.index(ids[place]) + 1) % 10], *ids[place:]],
        "the new digit is inserted before the old one, which stays.",
    ),
    "the id alone": (
        lambda ids, place, digits: [digits[(digits.index(ids[place]) + 1) % 10]],
        "only the new id is returned. The whole list is meant.",
    ),
    "the place as digit": (
        lambda ids, place, digits: [*ids[:place], digits[(place + 1) % 10], *ids[place + 1 :]],
        "the next number of the *place* is written, not that of the digit at it.",
    ),
    "in place": (next_in_place, "`ids` itself is changed. Make a new list."),
}  # fmt: skip


def next_with_copy(ids: list[int], place: int, digits: list[int]) -> list[int]:
    kept = list(ids)
    kept[place] = (digits + digits[:1])[digits.index(kept[place]) + 1]
    return kept


def next_with_dict(ids: list[int], place: int, digits: list[int]) -> list[int]:
    after = dict(zip(digits, digits[1:] + digits[:1], strict=True))
    return [after[token] if at == place else token for at, token in enumerate(ids)]


EXERCISES = (
    Exercise(
        id="10.4",
        title="A budget",
        kind="fill in",
        minutes=10,
        difficulty=3,
        hints=(
            "How many tokens has the thought? What if `end` does not occur?",
            "The thought has ids.index(end) tokens, or all of them. More than budget: the first `budget` tokens, then "
            "closing. Otherwise nothing changes.",
            "length = ids.index(end) if end in ids else len(ids); return ids if length <= budget else "
            "ids[:budget] + closing.",
        ),
        now_you_know="a budget is a few tokens that somebody else writes; the model answers from there.",
        oracle=cut_by_hand,
        cases=(
            Case("too long", ([1, 2, 3, TAG, 5], 2, TAG, CLOSING), [1, 2, *CLOSING]),
            Case("ended in time", ([1, 2, TAG, 5, 6, 7, 8], 3, TAG, CLOSING), [1, 2, TAG, 5, 6, 7, 8]),
            Case("exactly the budget", ([1, 2, 3, TAG, 5], 3, TAG, CLOSING), [1, 2, 3, TAG, 5]),
            Case("still going on, within the budget", ([1, 2], 3, TAG, CLOSING), [1, 2]),
            Case("still going on, as long as the budget", ([1, 2, 3], 3, TAG, CLOSING), [1, 2, 3]),
            Case("still going on, and too long", ([1, 2, 3, 4, 5], 3, TAG, CLOSING), [1, 2, 3, *CLOSING]),
            Case("still going on, one token too long", ([1, 2, 3, 4], 3, TAG, CLOSING), [1, 2, 3, *CLOSING]),
            Case("all of it within the budget", ([1, TAG, 5], 4, TAG, CLOSING), [1, TAG, 5]),
            Case("one token too long", ([1, 2, 3, 4, TAG, 6], 3, TAG, CLOSING), [1, 2, 3, *CLOSING]),
            Case("a budget of nothing", ([1, 2, TAG, 5], 0, TAG, CLOSING), CLOSING),
            Case("an empty thought, and a budget of nothing", ([TAG, 7, 5], 0, TAG, CLOSING), [TAG, 7, 5]),
            Case("nothing yet", ([], 2, TAG, CLOSING), []),
            Case("the tag again in the answer", ([1, TAG, 3, 4, TAG, 6], 2, TAG, CLOSING), [1, TAG, 3, 4, TAG, 6]),
            Case("a long thought", ([*range(20, 50), TAG, 5], 12, TAG, CLOSING)),
        ),
        also=cut_unchanged,
        mutants=CUT,
        accepted={"try": cut_with_try, "the first tokens": cut_with_slice, "by hand": cut_by_hand},
    ),
    Exercise(
        id="10.6",
        title="One digit of the thought",
        kind="ablate",
        minutes=10,
        difficulty=2,
        hints=(
            "Which digit stands at the place? `digits` says it: its index is the digit.",
            "digits.index(ids[place]) is the digit; the next one, modulo 10, has its id in digits again.",
            "[*ids[:place], digits[(digits.index(ids[place]) + 1) % 10], *ids[place + 1 :]].",
        ),
        now_you_know="of all the digits in a working, the mini's answer depends on few but those of the result.",
        oracle=next_by_hand,
        cases=(
            Case("3 becomes 4", ([7, DIGITS[3], 8], 1, DIGITS), [7, DIGITS[4], 8]),
            Case("9 becomes 0", ([7, DIGITS[9], 8], 1, DIGITS), [7, DIGITS[0], 8]),
            Case("ids in no order", ([MIXED[0], MIXED[1], MIXED[5]], 2, MIXED), [MIXED[0], MIXED[1], MIXED[6]]),
            Case("8 becomes 9, at the start", ([MIXED[8], 1, MIXED[8]], 0, MIXED), [MIXED[9], 1, MIXED[8]]),
            Case("the same digit before and after", ([DIGITS[5]] * 4, 2, DIGITS)),
            Case("9 after another digit", ([DIGITS[1], DIGITS[9], 3], 1, DIGITS)),
            Case("every digit", ([MIXED[n] for n in range(10)], 7, MIXED)),
            Case("a single token", ([MIXED[4]], 0, MIXED)),
            Case("9 with a digit after it", ([MIXED[9], MIXED[2]], 0, MIXED)),
        ),
        also=next_unchanged,
        mutants=NEXT,
        accepted={"a copy": next_with_copy, "a dictionary": next_with_dict, "by hand": next_by_hand},
    ),
)
