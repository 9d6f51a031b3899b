"""Chapter 10, thinking: attention by group (10.5), majority vote (10.7), tokens of a long conversation (10.9)."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import torch
from einops import einsum, reduce
from torch import Tensor
from torch.nn.functional import one_hot

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage

# 10.5 attention by group ----------------------------------------------------------------------------------------------

Shares = Callable[[Tensor, Tensor, int], Tensor]


def given_shares(attention: Tensor, group: Tensor, groups: int) -> Tensor:
    """The code on the page, which is right."""
    result = []
    for number in range(groups):
        kept = attention * (group == number).view(1, 1, 1, -1)
        result.append(kept.sum(3).mean(2))
    return torch.stack(result, 2)


def shares_by_loops(attention: Tensor, group: Tensor, groups: int) -> Tensor:
    layers, heads, queries, keys = attention.shape
    shares = torch.zeros(layers, heads, groups)
    for key in range(keys):
        shares[:, :, int(group[key])] += attention[:, :, :, key].sum(dim=2) / queries
    return shares


def sharing(
    by_key: Callable[[Tensor], Tensor] = lambda attention: reduce(
        attention, "layer head query key -> layer head key", "mean"
    ),
    membership: Callable[[Tensor, int], Tensor] = lambda group, groups: one_hot(group, groups).float(),
    pattern: str = "layer head key, key group -> layer head group",
) -> Shares:
    """The shares with one step done otherwise."""
    return lambda attention, group, groups: einsum(by_key(attention), membership(group, groups), pattern)


def shares_in_one(attention: Tensor, group: Tensor, groups: int) -> Tensor:
    member = one_hot(group, groups).float() / attention.shape[2]
    summed = einsum(attention, member, "layer head query key, key group -> layer head query group")
    return reduce(summed, "layer head query group -> layer head group", "sum")


def mean_of_keys(attention: Tensor, group: Tensor, groups: int) -> Tensor:
    """The mean over the keys of a group in place of their sum."""
    member = one_hot(group, groups).float()
    return sharing()(attention, group, groups) / member.sum(dim=0).clamp(min=1)


def largest_key(attention: Tensor, group: Tensor, groups: int) -> Tensor:
    by_key = attention.mean(dim=2)
    inside = [by_key * (group == number) for number in range(groups)]
    return torch.stack([each.amax(dim=2) for each in inside], dim=2)


def largest_query(attention: Tensor, group: Tensor, groups: int) -> Tensor:
    """The share at the query where it is largest."""
    each = [shares_by_loops(attention[:, :, [query]], group, groups) for query in range(attention.shape[2])]
    return torch.stack(each).amax(dim=0)


def one_key(attention: Tensor, group: Tensor, groups: int) -> Tensor:
    """Only the last key of each group, as after scatter without adding."""
    shares = torch.zeros(*attention.shape[:2], groups)
    for key, number in enumerate(group.tolist()):
        shares[:, :, number] = attention[:, :, :, key].mean(dim=2)
    return shares


def of_equal_stretches(attention: Tensor, group: Tensor, groups: int) -> Tensor:
    """The keys in order, the same number to each group; those left over at the end go to none."""
    length = len(group) // groups
    stretches = torch.arange(groups).repeat_interleave(length)
    return shares_by_loops(attention[..., : length * groups], stretches, groups)


def draw_attention(layer: int, head: int, query: int, group: list[int], groups: int) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        scores = 2 * torch.randn(layer, head, query, len(group), generator=generator)
        return scores.softmax(dim=-1), torch.tensor(group), groups

    return arguments


WORKED = (
    torch.tensor([[[[0.5, 0.25, 0.125, 0.125], [0.25, 0.25, 0.25, 0.25]]]]),
    torch.tensor([0, 1, 1, 2]),
    3,
)
ATTENDED: dict[str, tuple[Shares, str]] = {
    "the sum over queries": (
        sharing(lambda attention: reduce(attention, "layer head query key -> layer head key", "sum")),
        "the queries are summed. The result is to be their mean.",
    ),
    "the last query": (
        sharing(lambda attention: attention[:, :, -1]),
        "only the last query counts here. The result is the mean over all.",
    ),
    "the first query": (
        sharing(lambda attention: attention[:, :, 0]),
        "only the first query counts here. The result is the mean over all.",
    ),
    "the largest": (
        sharing(lambda attention: reduce(attention, "layer head query key -> layer head key", "max")),
        "of all queries the largest weight is taken. The result is their mean.",
    ),
    "the mean of the keys": (
        mean_of_keys,
        "within a group the mean over its keys is taken. A group's share is the sum of its weights.",
    ),
    "the largest key": (largest_key, "of each group only the largest weight is taken. Its share is their sum."),
    "heads averaged": (
        lambda attention, group, groups: sharing()(attention, group, groups).mean(dim=1),
        "the heads are averaged as well. Every head is to have its own shares.",
    ),
    "heads averaged, kept": (
        lambda attention, group, groups: (
            sharing()(attention, group, groups).mean(dim=1, keepdim=True).expand(-1, attention.shape[1], -1).clone()
        ),
        "all heads have the mean of the heads. Every head is to have its own shares.",
    ),
    "layers averaged": (
        lambda attention, group, groups: (
            sharing()(attention, group, groups).mean(dim=0, keepdim=True).expand(len(attention), -1, -1).clone()
        ),
        "all layers have the mean of the layers. Every layer is to have its own shares.",
    ),
    "group before head": (
        sharing(pattern="layer head key, key group -> layer group head"),
        "the axes are layer, group, head. The order is layer, head, group.",
    ),
    "head before layer": (
        sharing(pattern="layer head key, key group -> head layer group"),
        "the axes are head, layer, group. The order is layer, head, group.",
    ),
    "groups that occur": (
        lambda attention, group, groups: sharing()(attention, group, int(group.max()) + 1),
        "only groups up to the largest number that occurs have a share. One without a key has the share 0.",
    ),
    "counts": (
        lambda attention, group, groups: (
            one_hot(group, groups).float().mean(dim=0).expand(*attention.shape[:2], -1).clone()
        ),
        "these are the shares of the *keys*, whatever the attention.",
    ),
    "groups reversed": (
        lambda attention, group, groups: sharing()(attention, group, groups).flip(2),
        "the groups are in reversed order.",
    ),
    "not in the group": (
        sharing(membership=lambda group, groups: 1 - one_hot(group, groups).float()),
        "each group has what goes to all *other* groups.",
    ),
    "softmax again": (
        sharing(lambda attention: attention.softmax(dim=-1).mean(dim=2)),
        "the weights went through a softmax once more. They already sum to 1.",
    ),
}

# 10.7 majority vote ---------------------------------------------------------------------------------------------------

Vote = Callable[[Tensor], Tensor]


def vote_by_loops(answers: Tensor) -> Tensor:
    """Count, and among the most frequent take the one that came first."""
    chosen = []
    for row in answers.tolist():
        votes: dict[int, int] = {}
        for answer in row:
            if answer != -1:
                votes[answer] = votes.get(answer, 0) + 1
        best = -1
        for answer, count in votes.items():  # in the order of their first occurrence
            if best == -1 or count > votes[best]:
                best = answer
        chosen.append(best)
    return torch.tensor(chosen)


def voting(choose: Callable[[list[int]], int], none: bool = False) -> Vote:
    """A choice from the answers of each question, without -1 unless `none`; -1 if there are none."""

    def vote(answers: Tensor) -> Tensor:
        rows = [[answer for answer in row if none or answer != -1] for row in answers.tolist()]
        return torch.tensor([choose(row) if row else -1 for row in rows])

    return vote


def most(row: list[int], key: Callable[[int], float]) -> int:
    """The most frequent answer; among equals the one with the smallest key."""
    counts = Counter(row)
    return min(counts, key=lambda answer: (-counts[answer], key(answer)))


def only_a_majority(row: list[int]) -> int:
    answer, count = Counter(row).most_common(1)[0]
    return answer if 2 * count > len(row) else -1


def tied(row: list[int]) -> bool:
    """Whether the two most frequent answers are equally frequent."""
    counts = [count for _, count in Counter(row).most_common(2)]
    return len(counts) == 2 and counts[0] == counts[1]


def first_of_most(row: list[int]) -> int:
    return Counter(row).most_common(1)[0][0]


def first_there(row: list[int]) -> int:
    """The answer that reached the highest count first."""
    reached = [row[: at + 1].count(answer) for at, answer in enumerate(row)]
    return row[reached.index(max(reached))]


def longest_run(row: list[int]) -> int:
    """The answer with the longest run of neighbours."""
    best, length, run = row[0], 1, 1
    for before, after in pairwise(row):
        run = run + 1 if before == after else 1
        if run > length:
            best, length = after, run
    return best


def vote_of_all(answers: Tensor) -> Tensor:
    """One vote for all questions together."""
    return vote_by_loops(answers.reshape(1, -1)).expand(len(answers)).clone()


def over_questions(answers: Tensor) -> Tensor:
    return vote_by_loops(answers.T.contiguous())


VOTED: dict[str, tuple[Vote, str]] = {
    "none votes": (
        voting(lambda row: Counter(row).most_common(1)[0][0], none=True),
        "-1 has a vote here. A reply without an answer has none.",
    ),
    "none votes, smallest": (
        voting(lambda row: most(row, key=lambda answer: answer), none=True),
        "-1 has a vote here, and among equals the smallest number is taken.",
    ),
    "the smallest": (
        voting(lambda row: most(row, key=lambda answer: answer)),
        "among equally frequent answers the *smallest* is taken, as `torch.mode` does. The first drawn is meant.",
    ),
    "the largest": (
        voting(lambda row: most(row, key=lambda answer: -answer)),
        "among equally frequent answers the largest number is taken. The first drawn is meant.",
    ),
    "the last": (
        voting(lambda row: Counter(row[::-1]).most_common(1)[0][0]),
        "among equally frequent answers the one that was drawn last is taken. The first drawn is meant.",
    ),
    "the first to get there": (
        voting(first_there),
        "among equally frequent answers the one is taken that *reached* that number first. The first drawn is meant.",
    ),
    "the first": (voting(lambda row: row[0]), "the first answer is taken, however often it occurs."),
    "the last one": (voting(lambda row: row[-1]), "the last answer is taken, however often it occurs."),
    "the maximum": (voting(max), "the largest number is taken, and not the most frequent one."),
    "the minimum": (voting(min), "the smallest number is taken, and not the most frequent one."),
    "the median": (
        voting(lambda row: sorted(row)[(len(row) - 1) // 2]),
        "this is the median: an answer in the middle, however often it occurs.",
    ),
    "the upper median": (
        voting(lambda row: sorted(row)[len(row) // 2]),
        "this is the median: an answer in the middle, however often it occurs.",
    ),
    "the mean": (
        voting(lambda row: round(sum(row) / len(row))),
        "this is the mean, which may be none of the answers. Two wrong sums do not make a right one.",
    ),
    "the rarest": (
        voting(lambda row: min(row, key=row.count)),
        "the *least* frequent answer is taken.",
    ),
    "only a majority": (
        voting(only_a_majority),
        "an answer counts only with more than half of the votes. The most frequent one is enough.",
    ),
    "none in a tie": (
        voting(lambda row: -1 if tied(row) else Counter(row).most_common(1)[0][0]),
        "among equally frequent answers none is taken. The one that was drawn first is meant.",
    ),
    "none votes for zero": (
        lambda answers: voting(first_of_most)(answers.clamp(min=0)),
        "-1 votes for 0 here. A reply without an answer has no vote.",
    ),
    "the longest run": (
        voting(longest_run),
        "the answer with the longest run of neighbours is taken. Votes count wherever they stand.",
    ),
    "how often": (
        voting(lambda row: max(Counter(row).values())),
        "this is *how often* the most frequent answer occurs, not the answer.",
    ),
    "where": (
        lambda answers: torch.tensor([
            row.index(chosen) if chosen != -1 else -1
            for row, chosen in zip(answers.tolist(), vote_by_loops(answers).tolist(), strict=True)
        ]),
        "this is *where* the most frequent answer stands, not the answer.",
    ),
    "how often, 0 for none": (
        lambda answers: torch.tensor([max(row.count(each) if each != -1 else 0 for each in row)
                                      for row in answers.tolist()]),
        "this is *how often* the most frequent answer occurs. The answer itself is meant.",
    ),
    "where, 0 for none": (
        lambda answers: torch.tensor([
            row.index(chosen) for row, chosen in zip(answers.tolist(), vote_by_loops(answers).tolist(), strict=True)
        ]),
        "this is *where* the most frequent answer stands. The answer itself is meant.",
    ),
    "zero is none": (
        voting(lambda row: Counter([each for each in row if each] or [-1]).most_common(1)[0][0]),
        "0 has no vote here. It is an answer like any other; only -1 is none.",
    ),
    "the first sample": (lambda answers: answers[:, 0].clone(), "the first answer is taken, even if it is none."),
    "the last sample": (lambda answers: answers[:, -1].clone(), "the last answer is taken, even if it is none."),
    "the median of all": (
        lambda answers: answers.median(dim=1).values,
        "this is the median, with -1 among the numbers. Nobody may have voted for it.",
    ),
    "over questions": (over_questions, "the vote is taken over the questions. It is meant over the samples of each."),
    "all together": (vote_of_all, "all questions vote together. Each has its own samples."),
    "none as zero": (
        lambda answers: vote_by_loops(answers).clamp(min=0),
        "a question without any answer gets 0. That would be an answer; -1 says that there is none.",
    ),
}  # fmt: skip


def vote_with_mode(answers: Tensor) -> Tensor:
    counts = (answers[:, :, None] == answers[:, None, :]).sum(dim=-1)
    counts[answers == -1] = 0
    best = counts.argmax(dim=1)
    return answers[torch.arange(len(answers)), best]


def vote_with_counter(answers: Tensor) -> Tensor:
    chosen = []
    for row in answers.tolist():
        common = Counter(answer for answer in row if answer >= 0).most_common(1)
        chosen.append(common[0][0] if common else -1)
    return torch.tensor(chosen)


def draw_answers(question: int, sample: int, least: int, most: int) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor]:
        return (torch.randint(least, most, (question, sample), generator=generator),)

    return arguments


# 10.9 tokens of a conversation ----------------------------------------------------------------------------------------

Cost = tuple[float, float]


def cost_by_turns(turns: int, question: int, thought: int, answer: int, keep: bool) -> Cost:
    """Turn after turn, with what the server's cache holds."""
    cached = read = 0
    for turn in range(turns):
        if turn and not keep:
            cached -= thought + answer  # they stand no longer where they stood
            read += answer
            cached += answer
        read += question
        cached += question + thought + answer
    return cached, read


def costing(
    cached: Callable[[int, int, int, int], float] = lambda n, q, t, a: n * (q + a) + t,
    read: Callable[[int, int, int, int], float] = lambda n, q, t, a: n * q + (n - 1) * a,
    cached_kept: Callable[[int, int, int, int], float] = lambda n, q, t, a: n * (q + t + a),
    read_kept: Callable[[int, int, int, int], float] = lambda n, q, t, a: n * q,
) -> Callable[..., Cost]:
    """The cost with another formula, for thoughts that are taken out or kept."""

    def conversation(turns: int, question: int, thought: int, answer: int, keep: bool) -> Cost:
        sizes = (turns, question, thought, answer)
        return (cached_kept(*sizes), read_kept(*sizes)) if keep else (cached(*sizes), read(*sizes))

    return conversation


COSTED: dict[str, tuple[Callable[..., Cost], str]] = {
    "thoughts kept in any case": (
        costing(cached=lambda n, q, t, a: n * (q + t + a), read=lambda n, q, t, a: n * q),
        "`keep` changes nothing here. Old thoughts leave the cache, and what stood after them is read again.",
    ),
    "the last thought too": (
        costing(cached=lambda n, q, t, a: n * (q + a)),
        "the thought of the *last* turn is taken out, too. It leaves only when the next question comes.",
    ),
    "no answers again": (
        costing(read=lambda n, q, t, a: n * q),
        "the old answers are not read again. They stand at other positions now, so their keys and values are new ones.",
    ),
    "the last answer again": (
        costing(read=lambda n, q, t, a: n * (q + a)),
        "the answer of the last turn is counted as read. No question comes after it.",
    ),
    "thoughts read again": (
        costing(read=lambda n, q, t, a: n * q + (n - 1) * (t + a)),
        "the thoughts are read again. They are no longer in the prompt at all.",
    ),
    "everything again": (
        costing(read=lambda n, q, t, a: n * q + n * (n - 1) / 2 * (q + a)),
        "the whole conversation is read again in each turn. The cache holds its beginning, up to the old thought.",
    ),
    "all old answers again": (
        costing(read=lambda n, q, t, a: n * q + n * (n - 1) / 2 * a),
        "*all* old answers are read again in each turn. Only the latest has moved; those before it were moved earlier.",
    ),
    "generated tokens": (
        costing(
            read=lambda n, q, t, a: n * (q + t + a) + (n - 1) * a, read_kept=lambda n, q, t, a: n * (q + t + a)
        ),
        "tokens that the model has just generated are counted as read. Only those of prompts are.",
    ),
    "everything again, kept": (
        costing(read_kept=lambda n, q, t, a: n * q + n * (n - 1) / 2 * (q + t + a)),
        "with thoughts kept, the whole conversation is read again in each turn. It is in the cache.",
    ),
    "answers again, kept": (
        costing(read_kept=lambda n, q, t, a: n * q + (n - 1) * a),
        "with thoughts kept, the old answers are read again. Nothing has moved, so they are in the cache.",
    ),
    "one turn": (
        costing(
            lambda n, q, t, a: q + t + a, lambda n, q, t, a: q + (n > 1) * a, lambda n, q, t, a: q + t + a,
            lambda n, q, t, a: q,
        ),
        "these are the tokens of one turn. There are `turns` of them.",
    ),
    "one turn less": (
        costing(
            lambda n, q, t, a: (n - 1) * (q + a) + t, lambda n, q, t, a: (n - 1) * (q + a),
            lambda n, q, t, a: (n - 1) * (q + t + a), lambda n, q, t, a: (n - 1) * q,
        ),
        "there is one turn too few.",
    ),
    "taken out in any case": (
        lambda turns, question, thought, answer, keep: cost_by_turns(turns, question, thought, answer, False),
        "with `keep`, old thoughts are taken out as well. They are to stay in the cache.",
    ),
    "the other way round": (
        lambda turns, question, thought, answer, keep: cost_by_turns(turns, question, thought, answer, not keep),
        "`keep` is the wrong way round.",
    ),
    "read first": (
        lambda *arguments: cost_by_turns(*arguments)[::-1],
        "the two numbers are in the other order: first the tokens in the cache, then those read.",
    ),
    "cache without answers": (
        costing(cached=lambda n, q, t, a: n * q + t, cached_kept=lambda n, q, t, a: n * (q + t)),
        "the answers are missing in the cache.",
    ),
    "cache without questions": (
        costing(cached=lambda n, q, t, a: n * a + t, cached_kept=lambda n, q, t, a: n * (t + a)),
        "the questions are missing in the cache.",
    ),
    "before the last reply": (
        costing(
            cached=lambda n, q, t, a: n * q + (n - 1) * a, cached_kept=lambda n, q, t, a: n * q + (n - 1) * (t + a)
        ),
        "the cache is counted before the last reply. At the end of the turn, that is in it, too.",
    ),
    "always ten turns": (
        lambda turns, *others: cost_by_turns(10, *others),
        "these are the tokens of ten turns. How many there are, `turns` says.",
    ),
    "cached all in": (
        costing(cached=lambda n, q, t, a: n * (q + t + a)),
        "as to the cache, old thoughts stay in it. They are taken out.",
    ),
}  # fmt: skip


CACHED, READ = "the number of tokens in the cache", "the number of tokens read"
COST_STAGES = (
    Stage(
        READ,
        lambda n, q, t, a, keep: n * q + n * (n - 1) // 2 * (q + a + t * keep),
        "is that of whole prompts. As far as a prompt begins like the one before, it is in the cache",
    ),
    Stage(
        READ,
        lambda n, q, t, a, keep: q + (n - 1) * (2 * q + a),
        "is that with the old question read again. It stands before the thought, where nothing has moved",
    ),
    Stage(
        READ,
        lambda n, q, t, a, keep: n * q + (n - 1) * (t + a),
        "is that with the latest thought and answer read again. With `keep` they are in the cache, where they were "
        "written",
    ),
    Stage(
        READ,
        lambda n, q, t, a, keep: q if keep else a + q,
        "is that of the last turn alone. All turns together are meant",
    ),
    Stage(
        CACHED,
        lambda n, q, t, a, keep: cost_by_turns(n, q, t, a, keep)[0] - a,
        "is that without the last answer. What the model has written is in the cache, too",
    ),
    Stage(
        CACHED,
        lambda n, q, t, a, keep: q + t + a,
        "is that of the last turn alone. The questions and answers before it are in the cache, too",
    ),
)


def as_a_list(turns: int, question: int, thought: int, answer: int, keep: bool) -> list[int]:
    old = question + answer + thought * keep
    moved = 0 if keep else answer
    return [(turns - 1) * old + question + thought + answer, turns * question + (turns - 1) * moved]


EXERCISES = (
    Exercise(
        id="10.5",
        title="Where does the answer look?",
        kind="einops",
        minutes=8,
        difficulty=3,
        hints=(
            "Which axis is averaged, which one is summed within groups, and which ones stay?",
            "torch.nn.functional.one_hot(group, groups) is (key, group). After the mean over queries, the sum over "
            "keys is an einsum with it.",
            'reduce(attention, "layer head query key -> layer head key", "mean"), then einsum with the one-hot matrix '
            'as float: "layer head key, key group -> layer head group".',
        ),
        now_you_know="a sum by groups is a matrix product with a one-hot matrix, and the pattern says over what.",
        oracle=shares_by_loops,
        given=given_shares,
        cases=(
            Case("one head, two queries, four keys", WORKED, torch.tensor([[[0.375, 0.4375, 0.1875]]])),
            Case("several layers and heads", draw_attention(2, 3, 4, [0, 0, 1, 1, 1, 2, 0], 3)),
            Case("a group without keys", draw_attention(2, 3, 5, [0, 2, 2, 0, 0, 2], 4)),
            Case("one query", draw_attention(3, 2, 1, [1, 0, 0, 1, 1], 2)),
            Case("one group", draw_attention(2, 4, 3, [0, 0, 0, 0, 0], 1)),
            Case("as many groups as keys", draw_attention(2, 3, 6, [4, 2, 0, 1, 3], 5)),
        ),
        stages=(
            Stage("", lambda attention, group, groups: attention.mean(dim=2), "is the mean over queries, by key"),
            Stage("", largest_query, "is the share at the query where it is largest. The mean over queries is meant"),
            Stage(
                "",
                lambda attention, group, groups: shares_by_loops(attention, group, groups) / attention.shape[3],
                "is divided by the number of keys as well. The keys of a group are summed, not averaged",
            ),
            Stage(
                "",
                lambda attention, group, groups: shares_by_loops(attention.sum(2, True), group, groups) / len(group),
                "is divided by the number of keys in place of that of queries",
            ),
            Stage("", one_key, "has the weight of only one key of each group. A group's share is the sum of its keys"),
            Stage(
                "",
                lambda attention, group, groups: shares_by_loops(attention, group, groups + 1)[:, :, 1:],
                "begins with the share of group 1. The groups are numbered from 0",
            ),
            Stage("", of_equal_stretches, "has stretches of equal length as groups. `group` says where a key belongs"),
        ),
        mutants=ATTENDED,
        accepted={"the mean at the end": shares_in_one, "loops over keys": shares_by_loops},
    ),
    Exercise(
        id="10.7",
        title="Majority vote",
        kind="fill in",
        minutes=10,
        difficulty=3,
        hints=(
            "How many samples of a question say the same as each of its samples?",
            "answers[:, :, None] == answers[:, None, :] is (question, sample, sample). Its sum over the last axis is "
            "the number of votes of each sample. What of those with -1?",
            "Set the votes of -1 to -1. argmax over the samples gives the first of the largest; gather its answer.",
        ),
        now_you_know="a vote finds what the model says most often. If that is wrong, more votes do not help.",
        oracle=vote_by_loops,
        cases=(
            Case("two of three", (torch.tensor([[7, 8, 8]]),), torch.tensor([8])),
            Case("a tie: the first drawn", (torch.tensor([[9, 4, 4, 9]]),), torch.tensor([9])),
            Case("no vote for -1", (torch.tensor([[-1, -1, 5]]),), torch.tensor([5])),
            Case("no answer at all", (torch.tensor([[-1, -1], [3, -1]]),), torch.tensor([-1, 3])),
            Case("a tie, and -1 in between", (torch.tensor([[-1, 6, 2, -1, 2, 6, -1]]),), torch.tensor([6])),
            Case("several questions", (torch.tensor([[5, 1, 5, 2, 1], [0, 3, 3, 0, 0], [8, 9, 2, 4, 9]]),)),
            Case("zero is an answer", (torch.tensor([[0, 0, 4], [-1, 0, -1]]),)),
            Case("scattered votes", (torch.tensor([[4, 7, 7, 4, 1, 4, 2]]),)),
            Case("many of few", draw_answers(6, 9, 0, 4)),
            Case("with missing ones", draw_answers(5, 7, -1, 3)),
            Case("all different", (torch.tensor([[3, 1, 2, 9]]),)),
            Case("large numbers", draw_answers(4, 6, 8000, 8003)),
            Case("one sample", (torch.tensor([[4], [-1], [0]]),)),
        ),
        mutants=VOTED,
        accepted={"an index": vote_with_mode, "Counter": vote_with_counter},
    ),
    Exercise(
        id="10.9",
        title="Tokens of a long conversation",
        kind="estimate",
        minutes=10,
        difficulty=3,
        hints=(
            "Write down two turns as rows of boxes: question, thought, answer; question, thought, answer. Which boxes "
            "stand at another place when the first thought is taken out?",
            "Kept: all boxes stay, and each turn reads its question. Taken out: the old answer moves, so a turn reads "
            "the answer before it and its own question. The last thought is still there at the end.",
            "Kept: turns * (question + thought + answer), turns * question. Else: turns * (question + answer) + "
            "thought and turns * question + (turns - 1) * answer.",
        ),
        now_you_know="taking old thoughts out costs reading every answer once more, and keeps the context short.",
        oracle=cost_by_turns,
        cases=(
            Case("two turns, thoughts kept", (2, 3, 10, 5, True), (36, 6)),
            Case("two turns, thoughts taken out", (2, 3, 10, 5, False), (26, 11)),
            Case("one turn, kept", (1, 3, 10, 5, True), (18, 3)),
            Case("one turn, taken out", (1, 3, 10, 5, False), (18, 3)),
            Case("ten turns, kept", (10, 30, 2000, 300, True)),
            Case("ten turns, taken out", (10, 30, 2000, 300, False)),
            Case("short thoughts", (4, 7, 1, 9, False)),
        ),
        parts={CACHED: lambda result: result[0], READ: lambda result: result[1]},
        stages=COST_STAGES,
        mutants=COSTED,
        accepted={"a list": as_a_list, "turn after turn": cost_by_turns},
    ),
)
