"""Natural answers to 10.1 to 10.4: prompts, line ends, switches, a budget."""

from tests.course.natural_answers.collect import Collection

collection = Collection("10.1", "10.2", "10.3", "10.4")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers
EMPTY = "<think>\n\n</think>\n\n"


def turn(message):
    return f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"


# 10.1 render ----------------------------------------------------------------------------------------------------------


@wrong("10.1", "the empty thought when thinking", "off", "wrong way", "reversed")
def _(messages, thinking):
    return "".join(map(turn, messages)) + "<|im_start|>assistant\n" + (EMPTY if thinking else "")


@wrong("10.1", "opens the thought when thinking", "opened", "writes that token itself")
def _(messages, thinking):
    return "".join(map(turn, messages)) + "<|im_start|>assistant\n" + ("<think>\n" if thinking else EMPTY)


@wrong("10.1", "turns joined with line ends", "line end")
def _(messages, thinking):
    turns = "\n".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>" for m in messages)
    return turns + "<|im_start|>assistant\n" + ("" if thinking else EMPTY)


@wrong("10.1", "no line end behind a turn", "line end")
def _(messages, thinking):
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>" for m in messages)
    return turns + "<|im_start|>assistant\n" + ("" if thinking else EMPTY)


@wrong("10.1", "no line end behind the role", "line end")
def _(messages, thinking):
    turns = "".join(f"<|im_start|>{m['role']}{m['content']}<|im_end|>\n" for m in messages)
    return turns + "<|im_start|>assistant\n" + ("" if thinking else EMPTY)


@wrong("10.1", "no line ends inside of the thought", "line end")
def _(messages, thinking):
    closed = "" if thinking else "<think></think>\n\n"
    return "".join(map(turn, messages)) + "<|im_start|>assistant\n" + closed


@wrong("10.1", "one line end behind the thought", "line end")
def _(messages, thinking):
    closed = "" if thinking else "<think>\n\n</think>\n"
    return "".join(map(turn, messages)) + "<|im_start|>assistant\n" + closed


@wrong("10.1", "no opening of the reply", "opened")
def _(messages, thinking):
    return "".join(map(turn, messages)) + ("" if thinking else EMPTY)


@wrong("10.1", "an opening that is ended", "opening", "reply")
def _(messages, thinking):
    content = "" if thinking else EMPTY
    return "".join(map(turn, [*messages, {"role": "assistant", "content": content}]))


@wrong("10.1", "the empty thought before the turns", "turns", "thought", "opening")
def _(messages, thinking):
    return ("" if thinking else EMPTY) + "".join(map(turn, messages)) + "<|im_start|>assistant\n"


@wrong("10.1", "assumes that messages end with the user's", "last", "only", "turns")
def _(messages, thinking):
    return turn(messages[-1]) + "<|im_start|>assistant\n" + ("" if thinking else EMPTY)


@wrong("10.1", "a list of pieces")
def _(messages, thinking):
    return [*map(turn, messages), "<|im_start|>assistant\n", "" if thinking else EMPTY]


@wrong("10.1", "contents are stripped", "white space")
def _(messages, thinking):
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content'].strip()}<|im_end|>\n" for m in messages)
    return turns + "<|im_start|>assistant\n" + ("" if thinking else EMPTY)


@right("10.1", "a loop")
def _(messages, thinking):
    text = ""
    for message in messages:
        text += "<|im_start|>" + message["role"] + "\n" + message["content"] + "<|im_end|>\n"
    text += "<|im_start|>assistant\n"
    if thinking is False:
        text += EMPTY
    return text


@right("10.1", "format")
def _(messages, thinking):
    form = "<|im_start|>{role}\n{content}<|im_end|>\n".format
    return "".join(form(**message) for message in messages) + "<|im_start|>assistant\n" + EMPTY * (not thinking)


@right("10.1", "a list, joined")
def _(messages, thinking):
    pieces = []
    for message in messages:
        pieces += ["<|im_start|>", message["role"], "\n", message["content"], "<|im_end|>", "\n"]
    pieces += ["<|im_start|>", "assistant", "\n"]
    if not thinking:
        pieces += ["<think>", "\n\n", "</think>", "\n\n"]
    return "".join(pieces)


@right("10.1", "map")
def _(messages, thinking):
    return "".join([*map(turn, messages), "<|im_start|>assistant\n", ("" if thinking else EMPTY)])


@right("10.1", "recursion")
def render(messages, thinking):
    if not messages:
        return "<|im_start|>assistant\n" + ("" if thinking else EMPTY)
    return turn(messages[0]) + render(messages[1:], thinking)


@right("10.1", "a dictionary of openings")
def _(messages, thinking):
    opening = {True: "", False: EMPTY}[bool(thinking)]
    return f"{''.join(turn(each) for each in messages)}<|im_start|>assistant\n{opening}"


# 10.2 line ends -------------------------------------------------------------------------------------------------------


@wrong("10.2", "strip everything", "space")
def _(thought, text):
    if not thought or not thought.strip():
        return text.strip()
    return f"<think>\n{thought.strip()}\n</think>\n\n{text.strip()}"


@wrong("10.2", "only the thought", "text")
def _(thought, text):
    if not thought or not thought.strip():
        return text
    thought = thought.strip("\n")
    return f"<think>\n{thought}\n</think>\n\n{text}"


@wrong("10.2", "adds line ends if they are missing", "line end")
def _(thought, text):
    if not thought or not thought.strip():
        return text.lstrip("\n")
    thought = thought if thought.startswith("\n") else "\n" + thought
    thought = thought if thought.endswith("\n") else thought + "\n"
    text = text if text.startswith("\n\n") else "\n\n" + text
    return f"<think>{thought}</think>{text}"


@wrong("10.2", "None is forgotten")
def _(thought, text):
    if not thought.strip():
        return text.lstrip("\n")
    return "<think>\n" + thought.strip("\n") + "\n</think>\n\n" + text.lstrip("\n")


@wrong("10.2", "white space alone is forgotten", "white space", "tags")
def _(thought, text):
    if not thought:
        return text.lstrip("\n")
    return "<think>\n" + thought.strip("\n") + "\n</think>\n\n" + text.lstrip("\n")


@wrong("10.2", "one line end at a time", "however many", "one line end")
def _(thought, text):
    if not thought or not thought.strip():
        return text.lstrip("\n")
    thought = thought.removeprefix("\n").removesuffix("\n")
    return f"<think>\n{thought}\n</think>\n\n{text.removeprefix(chr(10) * 2)}"


@wrong("10.2", "all line ends of both", "inside")
def _(thought, text):
    if not thought or not thought.strip():
        return text.replace("\n", "")
    return "<think>\n" + thought.replace("\n", "") + "\n</think>\n\n" + text.replace("\n", "")


@wrong("10.2", "no line ends at all", "line end")
def _(thought, text):
    if not thought or not thought.strip():
        return text.lstrip("\n")
    return "<think>" + thought.strip("\n") + "</think>" + text.lstrip("\n")


@wrong("10.2", "one behind the tag", "two", "line end")
def _(thought, text):
    if not thought or not thought.strip():
        return text.lstrip("\n")
    return "<think>\n" + thought.strip("\n") + "\n</think>\n" + text.lstrip("\n")


@wrong("10.2", "an empty block without a thought", "tags", "nothing")
def _(thought, text):
    if not thought or not thought.strip():
        return "<think>\n\n</think>\n\n" + text.lstrip("\n")
    return "<think>\n" + thought.strip("\n") + "\n</think>\n\n" + text.lstrip("\n")


@wrong("10.2", "the text is stripped at both ends", "end")
def _(thought, text):
    text = text.strip("\n")
    if not thought or not thought.strip():
        return text
    return "<think>\n" + thought.strip("\n") + "\n</think>\n\n" + text


@wrong("10.2", "rstrip of the thought only", "start")
def _(thought, text):
    if not thought or not thought.strip():
        return text.lstrip("\n")
    return "<think>\n" + thought.rstrip("\n") + "\n</think>\n\n" + text.lstrip("\n")


@right("10.2", "an early return")
def _(thought, text):
    text = text.lstrip("\n")
    if not (thought or "").strip():
        return text
    thought = thought.strip("\n")
    return f"<think>\n{thought}\n</think>\n\n{text}"


@right("10.2", "regular expressions")
def _(thought, text):
    import re

    text = re.sub(r"\A\n+", "", text)
    if thought is None or re.fullmatch(r"\s*", thought):
        return text
    return "<think>\n" + re.sub(r"\A\n+|\n+\Z", "", thought) + "\n</think>\n\n" + text


@right("10.2", "isspace")
def _(thought, text):
    if thought is None or thought == "" or thought.isspace():
        return text.lstrip("\n")
    return "\n".join(["<think>", thought.strip("\n"), "</think>", "", text.lstrip("\n")])


@right("10.2", "while loops")
def _(thought, text):
    while text.startswith("\n"):
        text = text[1:]
    if not thought or not thought.strip():
        return text
    while thought.startswith("\n"):
        thought = thought[1:]
    while thought.endswith("\n"):
        thought = thought[:-1]
    return "<think>\n" + thought + "\n</think>\n\n" + text


@right("10.2", "strip, then the page's function")
def _(thought, text):
    text = text.lstrip("\n")
    return f"<think>\n{thought.strip(chr(10))}\n</think>\n\n{text}" if thought and thought.strip() else text


@right("10.2", "a list of parts")
def _(thought, text):
    parts = [] if thought is None or not thought.strip() else ["<think>\n", thought.strip("\n"), "\n</think>\n\n"]
    return "".join([*parts, text.lstrip("\n")])


# 10.3 switches --------------------------------------------------------------------------------------------------------

QUESTIONS = (
    "Qwen3-30B-A3B-FP8, enable_thinking=False",
    "Qwen3-30B-A3B-FP8, enable_thinking=True",
    'Qwen3-235B-A22B, enable_thinking="false", a str',
    "Qwen3-235B-A22B, thinking=False",
    "Qwen3-235B-A22B-Thinking-2507-FP8, enable_thinking=False",
    "Qwen3-30B-A3B-Instruct-2507, enable_thinking=True",
)


def predicted(*answers):
    return dict(zip(QUESTIONS, answers, strict=True))


for says, answers in {
    "all": (True,) * 6,
    "none": (False,) * 6,
    "every checkpoint has a switch": (True, False, False, False, True, True),
    "the text is as good": (True, False, True, False, False, False),
    "the short name is as good": (True, False, False, True, False, False),
    "True changes something": (True, True, False, False, False, False),
    "Thinking can be switched off": (True, False, False, False, True, False),
    "Instruct can be switched on": (True, False, False, False, False, True),
    "all of April": (True, True, True, True, False, False),
    "all but the odd ones": (True, True, False, False, True, True),
    "the opposite": (False, True, True, True, True, True),
}.items():
    wrong("10.3", says)(predicted(*answers))
right("10.3", "as they are")(predicted(True, *[False] * 5))
right("10.3", "in another order")(dict(reversed(predicted(True, *[False] * 5).items())))


# 10.4 a budget --------------------------------------------------------------------------------------------------------


@wrong("10.4", "always cuts", "within", "budget")
def _(ids, budget, end, closing):
    return ids[:budget] + closing


@wrong("10.4", "counts everything", "answer", "all tokens", "thought alone")
def _(ids, budget, end, closing):
    return ids if len(ids) <= budget else ids[:budget] + closing


@wrong("10.4", "smaller in place of smaller or equal", "exactly", "equal")
def _(ids, budget, end, closing):
    length = ids.index(end) if end in ids else len(ids)
    return ids if length < budget else ids[:budget] + closing


@wrong("10.4", "the tag belongs to the thought", "counted", "</think>")
def _(ids, budget, end, closing):
    length = ids.index(end) + 1 if end in ids else len(ids)
    return ids if length <= budget else ids[:budget] + closing


@wrong("10.4", "the answer stays", "rest", "answer", "old")
def _(ids, budget, end, closing):
    if end not in ids:
        return ids if len(ids) <= budget else ids[:budget] + closing
    place = ids.index(end)
    return ids if place <= budget else ids[:budget] + closing + ids[place + 1 :]


@wrong("10.4", "only the tag", "tag", "closing")
def _(ids, budget, end, closing):
    length = ids.index(end) if end in ids else len(ids)
    return ids if length <= budget else [*ids[:budget], end]


@wrong("10.4", "closing and the tag", "twice", "closing")
def _(ids, budget, end, closing):
    length = ids.index(end) if end in ids else len(ids)
    return ids if length <= budget else [*ids[:budget], end, *closing]


@wrong("10.4", "an unended thought is left alone", "never cut", "without")
def _(ids, budget, end, closing):
    if end not in ids or ids.index(end) <= budget:
        return ids
    return ids[:budget] + closing


@wrong("10.4", "an unended thought is closed", "going on", "closed")
def _(ids, budget, end, closing):
    if end in ids[: budget + 1]:
        return ids
    return ids[:budget] + closing


@wrong("10.4", "index without asking whether it is there")
def _(ids, budget, end, closing):
    length = ids.index(end)
    return ids if length <= budget else ids[:budget] + closing


@wrong("10.4", "not closed", "never closed", "closed")
def _(ids, budget, end, closing):
    length = ids.index(end) if end in ids else len(ids)
    return ids[: min(length, budget)] if length > budget else ids


@wrong("10.4", "room for the closing", "closing", "budget")
def _(ids, budget, end, closing):
    length = ids.index(end) if end in ids else len(ids)
    return ids if length <= budget else ids[: max(budget - len(closing), 0)] + closing


@wrong("10.4", "in place", "changed", "itself")
def _(ids, budget, end, closing):
    length = ids.index(end) if end in ids else len(ids)
    if length > budget:
        del ids[budget:]
        ids.extend(closing)
    return ids


@right("10.4", "try")
def _(ids, budget, end, closing):
    try:
        length = ids.index(end)
    except ValueError:
        length = len(ids)
    if length > budget:
        return ids[:budget] + closing
    return ids


@right("10.4", "a loop")
def _(ids, budget, end, closing):
    kept = []
    for token in ids:
        if token == end:
            return ids
        if len(kept) == budget:
            return kept + closing
        kept.append(token)
    return kept


@right("10.4", "next and enumerate")
def _(ids, budget, end, closing):
    length = next((place for place, token in enumerate(ids) if token == end), len(ids))
    return [*ids] if length <= budget else [*ids[:budget], *closing]


@right("10.4", "the first tokens have the tag")
def _(ids, budget, end, closing):
    if len(ids) <= budget or end in ids[: budget + 1]:
        return list(ids)
    return list(ids[:budget]) + list(closing)


@right("10.4", "takewhile")
def _(ids, budget, end, closing):
    from itertools import takewhile

    thought = list(takewhile(lambda token: token != end, ids))
    return ids if len(thought) <= budget else thought[:budget] + closing


@right("10.4", "a tail of the sum")
def _(ids, budget, end, closing):
    length = [*ids, end].index(end)
    return (ids[:budget] + closing) if length > budget else ids
