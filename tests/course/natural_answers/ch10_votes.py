"""Natural answers to 10.5 to 10.9: attention by group, one digit, votes, old thoughts, tokens of a conversation."""

import re
from collections import Counter

import torch
from einops import einsum, rearrange, reduce
from torch.nn.functional import one_hot

from tests.course.natural_answers.collect import Collection

collection = Collection("10.5", "10.6", "10.7", "10.8", "10.9")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 10.5 attention by group ----------------------------------------------------------------------------------------------


def member(group, groups):
    return one_hot(group, groups).float()


@wrong("10.5", "no mean", "mean", "sum")
def _(attention, group, groups):
    return einsum(attention, member(group, groups), "layer head query key, key group -> layer head group")


@wrong("10.5", "the mean over keys", "sum", "mean")
def _(attention, group, groups):
    parts = [attention[..., group == number].mean(dim=(2, 3)) for number in range(groups)]
    return torch.stack(parts, dim=2).nan_to_num()


@wrong("10.5", "heads are averaged", "head")
def _(attention, group, groups):
    by_key = reduce(attention, "layer head query key -> layer key", "mean")
    return einsum(by_key, member(group, groups), "layer key, key group -> layer group")


@wrong("10.5", "queries stay", "axes", "mean")
def _(attention, group, groups):
    return einsum(attention, member(group, groups), "layer head query key, key group -> layer head query group")


@wrong("10.5", "the last query", "last query", "mean")
def _(attention, group, groups):
    return attention[:, :, -1] @ member(group, groups)


@wrong("10.5", "integers in the product")
def _(attention, group, groups):
    by_key = reduce(attention, "layer head query key -> layer head key", "mean")
    return einsum(by_key, one_hot(group, groups), "layer head key, key group -> layer head group")


@wrong("10.5", "as many groups as occur", "occur")
def _(attention, group, groups):
    by_key = reduce(attention, "layer head query key -> layer head key", "mean")
    return einsum(by_key, one_hot(group).float(), "layer head key, key group -> layer head group")


@wrong("10.5", "group first", "order", "axes")
def _(attention, group, groups):
    by_key = reduce(attention, "layer head query key -> layer head key", "mean")
    return einsum(by_key, member(group, groups), "layer head key, key group -> group layer head")


@wrong("10.5", "group before head", "order", "axes")
def _(attention, group, groups):
    by_key = reduce(attention, "layer head query key -> layer head key", "mean")
    return einsum(by_key, member(group, groups), "layer head key, key group -> layer group head")


@wrong("10.5", "divided by the keys", "sum", "mean")
def _(attention, group, groups):
    by_key = reduce(attention, "layer head query key -> layer head key", "sum") / attention.shape[-1]
    return einsum(by_key, member(group, groups), "layer head key, key group -> layer head group")


@wrong("10.5", "the largest query", "largest", "mean")
def _(attention, group, groups):
    return reduce(attention, "layer head query key -> layer head key", "max") @ member(group, groups)


@wrong("10.5", "a sum that is normalised by the group", "sum", "mean")
def _(attention, group, groups):
    sizes = member(group, groups).sum(0).clamp(min=1)
    return attention.mean(2) @ member(group, groups) / sizes


@right("10.5", "matmul")
def _(attention, group, groups):
    return attention.mean(dim=2) @ member(group, groups)


@right("10.5", "equality in place of one_hot")
def _(attention, group, groups):
    belongs = (rearrange(group, "key -> key 1") == torch.arange(groups)).float()
    by_key = reduce(attention, "layer head query key -> layer head key", "mean")
    return einsum(by_key, belongs, "layer head key, key group -> layer head group")


@right("10.5", "the mean last")
def _(attention, group, groups):
    each = einsum(attention, member(group, groups), "layer head query key, key group -> layer head query group")
    return reduce(each, "layer head query group -> layer head group", "mean")


@right("10.5", "index_add")
def _(attention, group, groups):
    by_key = attention.mean(dim=2)
    return torch.zeros(*by_key.shape[:2], groups).index_add(2, group, by_key)


@right("10.5", "torch.einsum")
def _(attention, group, groups):
    return torch.einsum("lhqk,kg->lhqg", attention, member(group, groups)).mean(2)


@right("10.5", "scatter_add")
def _(attention, group, groups):
    by_key = attention.mean(dim=2)
    return torch.zeros(*by_key.shape[:2], groups).scatter_add(2, group.expand_as(by_key), by_key)


# 10.6 one digit -------------------------------------------------------------------------------------------------------


@wrong("10.6", "the id plus one", "id")
def _(ids, place, digits):
    return [*ids[:place], ids[place] + 1, *ids[place + 1 :]]


@wrong("10.6", "nine is forgotten")
def _(ids, place, digits):
    return [*ids[:place], digits[digits.index(ids[place]) + 1], *ids[place + 1 :]]


@wrong("10.6", "in place", "changed", "itself")
def _(ids, place, digits):
    ids[place] = digits[(digits.index(ids[place]) + 1) % 10]
    return ids


@wrong("10.6", "the digit for its id", "digit", "id")
def _(ids, place, digits):
    return [*ids[:place], (digits.index(ids[place]) + 1) % 10, *ids[place + 1 :]]


@wrong("10.6", "every occurrence", "only the one", "every")
def _(ids, place, digits):
    old, new = ids[place], digits[(digits.index(ids[place]) + 1) % 10]
    return [new if token == old else token for token in ids]


@wrong("10.6", "the place itself as digit", "place")
def _(ids, place, digits):
    return [*ids[:place], digits[(place + 1) % 10], *ids[place + 1 :]]


@wrong("10.6", "modulo nine", "modulo", "9", "ten")
def _(ids, place, digits):
    return [*ids[:place], digits[(digits.index(ids[place]) + 1) % 9], *ids[place + 1 :]]


@wrong("10.6", "the digit before", "before")
def _(ids, place, digits):
    return [*ids[:place], digits[digits.index(ids[place]) - 1], *ids[place + 1 :]]


@wrong("10.6", "the new one is inserted", "after", "inserted", "stays")
def _(ids, place, digits):
    return [*ids[: place + 1], digits[(digits.index(ids[place]) + 1) % 10], *ids[place + 1 :]]


@wrong("10.6", "the old one is removed as well", "removed")
def _(ids, place, digits):
    return [*ids[:place], digits[(digits.index(ids[place]) + 1) % 10], *ids[place + 2 :]]


@wrong("10.6", "9 stays 9", "9")
def _(ids, place, digits):
    return [*ids[:place], digits[min(digits.index(ids[place]) + 1, 9)], *ids[place + 1 :]]


@wrong("10.6", "all digits", "all", "only the one")
def _(ids, place, digits):
    return [digits[(digits.index(token) + 1) % 10] if token in digits else token for token in ids]


@right("10.6", "a copy")
def _(ids, place, digits):
    changed = ids.copy()
    changed[place] = digits[(digits.index(ids[place]) + 1) % len(digits)]
    return changed


@right("10.6", "negative index")
def _(ids, place, digits):
    return ids[:place] + [digits[digits.index(ids[place]) - 9]] + ids[place + 1 :]  # noqa: RUF005


@right("10.6", "a condition")
def _(ids, place, digits):
    digit = digits.index(ids[place])
    new = digits[0] if digit == 9 else digits[digit + 1]
    return [new if number == place else token for number, token in enumerate(ids)]


@right("10.6", "a dictionary")
def _(ids, place, digits):
    after = {digits[n]: digits[(n + 1) % 10] for n in range(10)}
    return [*ids[:place], after[ids[place]], *ids[place + 1 :]]


@right("10.6", "roll")
def _(ids, place, digits):
    rolled = digits[1:] + digits[:1]
    result = list(ids)
    result[place] = rolled[digits.index(ids[place])]
    return result


@right("10.6", "a tuple")
def _(ids, place, digits):
    return tuple(digits[(digits.index(x) + 1) % 10] if n == place else x for n, x in enumerate(ids))


# 10.7 vote ------------------------------------------------------------------------------------------------------------


def rows_of(answers):
    return answers.tolist()


@wrong("10.7", "torch.mode", "smallest", "vote")
def _(answers):
    return answers.mode(dim=1).values


@wrong("10.7", "Counter with -1", "-1")
def _(answers):
    return torch.tensor([Counter(row).most_common(1)[0][0] for row in rows_of(answers)])


@wrong("10.7", "ties to the smallest", "smallest")
def _(answers):
    found = []
    for row in rows_of(answers):
        kept = sorted(each for each in row if each != -1)
        found.append(max(kept, key=kept.count) if kept else -1)
    return torch.tensor(found)


@wrong("10.7", "ties to the largest", "largest")
def _(answers):
    found = []
    for row in rows_of(answers):
        kept = sorted((each for each in row if each != -1), reverse=True)
        found.append(max(kept, key=kept.count) if kept else -1)
    return torch.tensor(found)


@wrong("10.7", "ties to the last", "last")
def _(answers):
    found = []
    for row in rows_of(answers):
        kept = [each for each in row[::-1] if each != -1]
        found.append(max(kept, key=kept.count) if kept else -1)
    return torch.tensor(found)


@wrong("10.7", "a question without answers crashes")
def _(answers):
    return torch.tensor([Counter(x for x in row if x != -1).most_common(1)[0][0] for row in rows_of(answers)])


@wrong("10.7", "zero is no answer", "0", "zero")
def _(answers):
    found = []
    for row in rows_of(answers):
        kept = [each for each in row if each > 0]
        found.append(Counter(kept).most_common(1)[0][0] if kept else -1)
    return torch.tensor(found)


@wrong("10.7", "a list")
def _(answers):
    found = []
    for row in rows_of(answers):
        kept = [each for each in row if each != -1]
        found.append(Counter(kept).most_common(1)[0][0] if kept else -1)
    return found


@wrong("10.7", "how often", "how often")
def _(answers):
    same = (answers[:, :, None] == answers[:, None, :]) & (answers >= 0)[:, :, None]
    return same.sum(dim=2).amax(dim=1)


@wrong("10.7", "where", "where")
def _(answers):
    same = answers[:, :, None] == answers[:, None, :]
    return same.sum(dim=2).where(answers >= 0, -1).argmax(dim=1)


@wrong("10.7", "over the questions", "questions")
def _(answers):
    same = answers[:, None, :] == answers[None, :, :]
    first = same.sum(dim=0).where(answers >= 0, -1).argmax(dim=0)
    return answers.gather(0, first[None])[0]


@wrong("10.7", "the first answer", "first answer")
def _(answers):
    return answers[:, 0]


@wrong("10.7", "the median", "median")
def _(answers):
    return answers.median(dim=1).values


@right("10.7", "a loop with a dictionary")
def _(answers):
    found = []
    for row in rows_of(answers):
        counts = {}
        for each in row:
            if each >= 0:
                counts[each] = counts.get(each, 0) + 1
        found.append(max(counts, key=counts.get) if counts else -1)
    return torch.tensor(found)


@right("10.7", "max with count")
def _(answers):
    found = []
    for row in rows_of(answers):
        kept = [each for each in row if each != -1]
        found.append(max(kept, key=kept.count) if kept else -1)
    return torch.tensor(found, dtype=torch.int64)


@right("10.7", "broadcast and gather")
def _(answers):
    votes = (rearrange(answers, "q s -> q s 1") == rearrange(answers, "q s -> q 1 s")).sum(-1)
    votes = votes.masked_fill(answers == -1, 0)
    return answers.gather(1, votes.argmax(1, keepdim=True)).squeeze(1)


@right("10.7", "Counter without -1")
def _(answers):
    counters = [Counter(x for x in row if x != -1) for row in rows_of(answers)]
    return torch.tensor([counter.most_common(1)[0][0] if counter else -1 for counter in counters])


@right("10.7", "take_along_dim")
def _(answers):
    votes = torch.stack([(answers == answers[:, n : n + 1]).sum(1) for n in range(answers.shape[1])], dim=1)
    votes[answers < 0] = -1
    return torch.take_along_dim(answers, votes.argmax(dim=1, keepdim=True), dim=1)[:, 0]


@right("10.7", "reduce of a comparison")
def _(answers):
    same = answers[:, :, None] == answers[:, None, :]
    votes = reduce(same.long(), "question sample other -> question sample", "sum") * (answers >= 0)
    return answers[range(len(answers)), votes.argmax(dim=1)]


# 10.8 without old thoughts --------------------------------------------------------------------------------------------


def last_user(messages):
    return max((n for n, message in enumerate(messages) if message["role"] == "user"), default=-1)


def answer_in(content):
    return content.split("</think>")[-1].lstrip("\n")


@wrong("10.8", "everywhere", "after", "last", "at work")
def _(messages):
    return [
        {**m, "content": answer_in(m["content"])} if m["role"] == "assistant" and "</think>" in m["content"] else m
        for m in messages
    ]


@wrong("10.8", "all roles", "role", "user")
def _(messages):
    last = last_user(messages)
    return [{**m, "content": answer_in(m["content"])} if n < last and "</think>" in m["content"] else m
            for n, m in enumerate(messages)]  # fmt: skip


@wrong("10.8", "in place", "changed")
def _(messages):
    last = last_user(messages)
    for number, message in enumerate(messages):
        if message["role"] == "assistant" and number < last and "</think>" in message["content"]:
            message["content"] = answer_in(message["content"])
    return messages


@wrong("10.8", "a regular expression that wants both tags", "<think>", "tag")
def _(messages):
    last = last_user(messages)
    return [
        {**m, "content": re.sub(r"<think>.*?</think>\n*", "", m["content"], flags=re.DOTALL)}
        if m["role"] == "assistant" and n < last else m
        for n, m in enumerate(messages)
    ]  # fmt: skip


@wrong("10.8", "the first tag", "last", "first")
def _(messages):
    last = last_user(messages)
    return [
        {**m, "content": m["content"].split("</think>", 1)[-1].lstrip("\n")}
        if m["role"] == "assistant" and n < last and "</think>" in m["content"] else m
        for n, m in enumerate(messages)
    ]  # fmt: skip


@wrong("10.8", "index 1 of the split", "last", "first", "tag")
def _(messages):
    last = last_user(messages)
    return [
        {**m, "content": m["content"].split("</think>")[1].lstrip("\n")}
        if m["role"] == "assistant" and n < last and "</think>" in m["content"] else m
        for n, m in enumerate(messages)
    ]  # fmt: skip


@wrong("10.8", "strip", "white space", "end")
def _(messages):
    last = last_user(messages)
    return [
        {**m, "content": m["content"].split("</think>")[-1].strip()}
        if m["role"] == "assistant" and n < last and "</think>" in m["content"] else m
        for n, m in enumerate(messages)
    ]  # fmt: skip


@wrong("10.8", "line ends left", "line end")
def _(messages):
    last = last_user(messages)
    return [
        {**m, "content": m["content"].split("</think>")[-1]} if m["role"] == "assistant" and n < last else m
        for n, m in enumerate(messages)
    ]


@wrong("10.8", "all but the last message", "last")
def _(messages):
    return [
        {**m, "content": answer_in(m["content"])}
        if m["role"] == "assistant" and n < len(messages) - 1 and "</think>" in m["content"] else m
        for n, m in enumerate(messages)
    ]  # fmt: skip


@wrong("10.8", "strings in place of messages")
def _(messages):
    last = last_user(messages)
    return [answer_in(m["content"]) if m["role"] == "assistant" and n < last else m["content"]
            for n, m in enumerate(messages)]  # fmt: skip


@wrong("10.8", "answers are left out", "removed", "whole")
def _(messages):
    last = last_user(messages)
    return [m for n, m in enumerate(messages) if m["role"] != "assistant" or n > last or "</think>" not in m["content"]]


@wrong("10.8", "lstrip also without a tag", "without", "stays", "line end", "content")
def _(messages):
    last = last_user(messages)
    return [
        {**m, "content": m["content"].rpartition("</think>")[2].lstrip()}
        if m["role"] == "assistant" and n < last
        else m
        for n, m in enumerate(messages)
    ]


@right("10.8", "a loop")
def _(messages):
    last, new = last_user(messages), []
    for number, message in enumerate(messages):
        message = dict(message)
        if message["role"] == "assistant" and number < last and "</think>" in message["content"]:
            message["content"] = answer_in(message["content"])
        new.append(message)
    return new


@right("10.8", "rsplit")
def _(messages):
    last = last_user(messages)
    return [
        dict(m, content=m["content"].rsplit("</think>", 1)[1].lstrip("\n"))
        if n < last and m["role"] == "assistant" and "</think>" in m["content"] else m
        for n, m in enumerate(messages)
    ]  # fmt: skip


@right("10.8", "a deep copy, then in place")
def _(messages):
    import copy

    new = copy.deepcopy(messages)
    for message in new[: max(last_user(messages), 0)]:
        if message["role"] == "assistant" and "</think>" in message["content"]:
            message["content"] = answer_in(message["content"])
    return new


@right("10.8", "a regular expression")
def _(messages):
    last = last_user(messages)
    return [
        {**m, "content": re.sub(r"\A.*</think>\n*", "", m["content"], flags=re.DOTALL)}
        if m["role"] == "assistant" and n < last else dict(m)
        for n, m in enumerate(messages)
    ]  # fmt: skip


@right("10.8", "any later user")
def _(messages):
    def old(number):
        return any(later["role"] == "user" for later in messages[number + 1 :])

    return [
        {"role": m["role"], "content": answer_in(m["content"])}
        if m["role"] == "assistant" and old(n) and "</think>" in m["content"] else m
        for n, m in enumerate(messages)
    ]  # fmt: skip


@right("10.8", "rindex")
def _(messages):
    new = list(messages)
    for n in range(last_user(messages)):
        content = messages[n]["content"]
        if messages[n]["role"] == "assistant" and "</think>" in content:
            cut = content.rindex("</think>") + len("</think>")
            new[n] = {**messages[n], "content": content[cut:].lstrip("\n")}
    return new


# 10.9 tokens ----------------------------------------------------------------------------------------------------------


@wrong("10.9", "the last thought is out, too", "last")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question
    return turns * (question + answer), turns * question + (turns - 1) * answer


@wrong("10.9", "nothing is read again", "again", "answers")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question
    return turns * (question + answer) + thought, turns * question


@wrong("10.9", "every turn reads an answer", "last", "first", "again")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question
    return turns * (question + answer) + thought, turns * (question + answer)


@wrong("10.9", "everything again", "whole", "again", "cache")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question
    read = sum(n * (question + answer) + question for n in range(turns))
    return turns * (question + answer) + thought, read


@wrong("10.9", "keep is ignored", "keep")
def _(turns, question, thought, answer, keep):
    return turns * (question + thought + answer), turns * question


@wrong("10.9", "taken out in any case", "keep", "kept", "cache")
def _(turns, question, thought, answer, keep):
    return turns * (question + answer) + thought, turns * question + (turns - 1) * answer


@wrong("10.9", "the wrong way round", "wrong way", "keep")
def _(turns, question, thought, answer, keep):
    if not keep:
        return turns * (question + thought + answer), turns * question
    return turns * (question + answer) + thought, turns * question + (turns - 1) * answer


@wrong("10.9", "read counts the generated ones", "generated")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * (question + thought + answer)
    return turns * (question + answer) + thought, turns * (question + thought + answer) + (turns - 1) * answer


@wrong("10.9", "without a cache", "cache", "again", "whole")
def _(turns, question, thought, answer, keep):
    old = question + answer + (thought if keep else 0)
    cached = turns * (question + answer) + (turns * thought if keep else thought)
    return cached, sum(n * old + question for n in range(turns))


@wrong("10.9", "the other order", "order")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * question, turns * (question + thought + answer)
    return turns * question + (turns - 1) * answer, turns * (question + answer) + thought


@wrong("10.9", "the thought is read again", "thought")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question
    return turns * (question + answer) + thought, turns * question + (turns - 1) * (thought + answer)


@wrong("10.9", "kept answers are read", "kept", "answers")
def _(turns, question, thought, answer, keep):
    read = turns * question + (turns - 1) * answer
    return (turns * (question + thought + answer) if keep else turns * (question + answer) + thought), read


@right("10.9", "a loop")
def _(turns, question, thought, answer, keep):
    cached = read = 0
    for number in range(turns):
        if number > 0 and not keep:
            cached -= thought
            read += answer
        cached += question + thought + answer
        read += question
    return cached, read


@right("10.9", "a condition in the sum")
def _(turns, question, thought, answer, keep):
    thoughts = turns if keep else 1
    again = 0 if keep else turns - 1
    return turns * (question + answer) + thoughts * thought, turns * question + again * answer


@right("10.9", "the last turn apart")
def _(turns, question, thought, answer, keep):
    before = (turns - 1) * (question + answer + thought * bool(keep))
    return before + question + thought + answer, turns * question + (not keep) * (turns - 1) * answer


@right("10.9", "floats")
def _(turns, question, thought, answer, keep):
    if keep:
        return float(turns * (question + thought + answer)), float(turns * question)
    return float(turns * (question + answer) + thought), float(turns * (question + answer) - answer)


@right("10.9", "a list")
def _(turns, question, thought, answer, keep):
    kept = [question + answer + thought * keep] * (turns - 1) + [question + answer + thought]
    return [sum(kept), sum([question] * turns) + sum([answer * (1 - keep)] * (turns - 1))]


@right("10.9", "everything less what is gone")
def _(turns, question, thought, answer, keep):
    gone = 0 if keep else (turns - 1) * thought
    return turns * (question + thought + answer) - gone, turns * question + (0 if keep else (turns - 1) * answer)
