"""Natural answers to 10.1 to 10.9, by a reader who had seen neither the checks nor the answers collected before."""

import re
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce, repeat

from tests.course.natural_answers.collect import Collection

collection = Collection("10.1", "10.2", "10.3", "10.4", "10.5", "10.6", "10.7", "10.8", "10.9")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 10.1 Render a conversation --------------------------------------------------


# The end mark looks like the end of the turn, and the line end after it is overlooked
@wrong("10.1", "no line end after the end mark", "line end", "<|im_end|>")
def _(messages, thinking):
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>" for m in messages)
    text += "<|im_start|>assistant\n"
    return text if thinking else text + "<think>\n\n</think>\n\n"


# Role and content look like "role: content" in many chat formats, with a blank between them
@wrong("10.1", "a space after the role", "line end", "role")
def _(messages, thinking):
    text = "".join(f"<|im_start|>{m['role']} {m['content']}<|im_end|>\n" for m in messages)
    text += "<|im_start|>assistant\n"
    return text if thinking else text + "<think>\n\n</think>\n\n"


# Thinking on adds thought tags: the switch looks reversed
@wrong("10.1", "the empty thought for thinking", "not to think", "thinking", "reverse", "other way")
def _(messages, thinking):
    out = ""
    for m in messages:
        out += "<|im_start|>" + m["role"] + "\n" + m["content"] + "<|im_end|>\n"
    out += "<|im_start|>assistant\n"
    if thinking:
        out += "<think>\n\n</think>\n\n"
    return out


# A thinking model needs its thought opened, as Thinking-2507 does
@wrong("10.1", "opens the thought when it is to think", "<think>", "open", "2507")
def _(messages, thinking):
    out = ""
    for m in messages:
        out += f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n"
    out += "<|im_start|>assistant\n<think>\n"
    if not thinking:
        out += "\n</think>\n\n"
    return out


# "Two line ends" is read as one at each side
@wrong("10.1", "one line end within the empty thought", "line end", "two")
def _(messages, thinking):
    out = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return out + "<|im_start|>assistant\n" + ("" if thinking else "<think>\n</think>\n\n")


# After the closed tag one line end seems enough
@wrong("10.1", "one line end after the empty thought", "line end", "two")
def _(messages, thinking):
    out = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return out + "<|im_start|>assistant\n" + ("" if thinking else "<think>\n\n</think>\n")


# The messages are rendered and nothing more: add_generation_prompt forgotten
@wrong("10.1", "the reply is opened only when it gets an empty thought", "open", "assistant")
def _(messages, thinking):
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    if not thinking:
        text += "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    return text


# The assistant's turn is treated as one more message, with empty content, and closed
@wrong("10.1", "the reply is closed as well", "<|im_end|>", "closed", "open")
def _(messages, thinking):
    thought = "" if thinking else "<think>\n\n</think>\n\n"
    turns = [*messages, {"role": "assistant", "content": thought}]
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in turns)


# Tidy contents look safer
@wrong("10.1", "contents are tidied by strip", "content", "white space", "strip")
def _(messages, thinking):
    text = "".join(f"<|im_start|>{m['role']}\n{m['content'].strip()}<|im_end|>\n" for m in messages)
    text += "<|im_start|>assistant\n"
    return text if thinking else text + "<think>\n\n</think>\n\n"


# Qwen2.5 put this system message in front of every conversation without one
@wrong("10.1", "a default system message", "system", "message")
def _(messages, thinking):
    if messages[:1] == [] or messages[0]["role"] != "system":
        messages = [{"role": "system", "content": "You are a helpful assistant."}, *messages]
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    text += "<|im_start|>assistant\n"
    return text if thinking else text + "<think>\n\n</think>\n\n"


# join puts line ends only between the turns, so the last turn has none
@wrong("10.1", "joined turns without the last line end", "line end", "<|im_end|>")
def _(messages, thinking):
    text = "\n".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>" for m in messages)
    text += "<|im_start|>assistant\n"
    return text if thinking else text + "<think>\n\n</think>\n\n"


# The role is the whole opening, the line end is left to the model
@wrong("10.1", "no line end after assistant", "line end", "assistant", "open")
def _(messages, thinking):
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    text += "<|im_start|>assistant"
    return text if thinking else text + "<think>\n\n</think>\n\n"


# = in place of += in the loop
@wrong("10.1", "only the last message", "message", "all", "turn")
def _(messages, thinking):
    for m in messages:
        text = f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n"
    text += "<|im_start|>assistant\n"
    if not thinking:
        text += "<think>\n\n</think>\n\n"
    return text


# The soft switch is what one knows from using the model
@wrong("10.1", "no_think in the question in place of the empty thought", "/no_think", "empty thought", "content")
def _(messages, thinking):
    text = "".join(
        f"<|im_start|>{m['role']}\n{m['content']}{'' if thinking or m['role'] != 'user' else ' /no_think'}<|im_end|>\n"
        for m in messages
    )
    return text + "<|im_start|>assistant\n"


# The opening belongs to a question, so it stands in the loop
@wrong("10.1", "opens a reply after every message", "open", "once", "end", "every")
def _(messages, thinking):
    text = ""
    for m in messages:
        text += f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n"
        text += "<|im_start|>assistant\n"
        if not thinking:
            text += "<think>\n\n</think>\n\n"
    return text


# Every reply that was not to think has the empty thought in front, the old ones too
@wrong("10.1", "the empty thought in old replies too", "only", "last", "opened", "old", "content", "earlier")
def _(messages, thinking):
    empty = "" if thinking else "<think>\n\n</think>\n\n"
    text = ""
    for m in messages:
        content = empty + m["content"] if m["role"] == "assistant" else m["content"]
        text += f"<|im_start|>{m['role']}\n{content}<|im_end|>\n"
    return text + "<|im_start|>assistant\n" + empty


@right("10.1", "one expression")
def _(messages, thinking):
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return turns + "<|im_start|>assistant\n" + ("" if thinking else "<think>\n\n</think>\n\n")


@right("10.1", "a loop that adds to a text")
def _(messages, thinking):
    text = ""
    for message in messages:
        text += "<|im_start|>"
        text += message["role"]
        text += "\n"
        text += message["content"]
        text += "<|im_end|>\n"
    text += "<|im_start|>assistant\n"
    if not thinking:
        text += "<think>\n\n</think>\n\n"
    return text


@right("10.1", "a list of pieces")
def _(messages, thinking):
    pieces = []
    for message in messages:
        pieces += ["<|im_start|>", message["role"], "\n", message["content"], "<|im_end|>", "\n"]
    pieces += ["<|im_start|>", "assistant", "\n"]
    if thinking is False:
        pieces += ["<think>", "\n\n", "</think>", "\n\n"]
    return "".join(pieces)


@right("10.1", "format and join of lines")
def _(messages, thinking):
    lines = ["<|im_start|>{role}\n{content}<|im_end|>".format(**message) for message in messages]
    lines.append("<|im_start|>assistant")
    lines.append("" if thinking else "<think>\n\n</think>\n\n")
    return "\n".join(lines)


@right("10.1", "percent signs and a helper")
def _(messages, thinking):
    def turn(role, content):
        return "<|im_start|>%s\n%s" % (role, content)  # noqa: UP031

    text = "".join(turn(m["role"], m["content"]) + "<|im_end|>\n" for m in messages)
    return text + turn("assistant", "" if thinking else "<think>\n\n</think>\n\n")


# 10.2 The line ends of a server ------------------------------------------------


# strip() is what everybody writes
@wrong("10.2", "strips spaces of the thought too", "space")
def _(thought, text):
    text = text.lstrip("\n")
    if not thought or not thought.strip():
        return text
    return f"<think>\n{thought.strip()}\n</think>\n\n{text}"


# The same for the text
@wrong("10.2", "strips spaces at the start of the text", "space")
def _(thought, text):
    text = text.lstrip()
    if not thought or not thought.strip():
        return text
    thought = thought.strip("\n")
    return f"<think>\n{thought}\n</think>\n\n{text}"


# The text is treated like the thought, at both ends
@wrong("10.2", "line ends at the end of the text go", "end", "start")
def _(thought, text):
    text = text.strip("\n")
    if thought is None or thought.strip() == "":
        return text
    thought = thought.strip("\n")
    return f"<think>\n{thought}\n</think>\n\n{text}"


# The server leaves exactly one line end, so one is taken off
@wrong("10.2", "only one line end is taken off the thought", "however many", "one", "line end", "more", "all")
def _(thought, text):
    text = text.lstrip("\n")
    if not thought or not thought.strip():
        return text
    thought = thought.removeprefix("\n").removesuffix("\n")
    return f"<think>\n{thought}\n</think>\n\n{text}"


# Two line ends belong to the tag, so two are taken off the text
@wrong("10.2", "exactly two line ends are taken off the text", "however many", "text", "line end", "all")
def _(thought, text):
    text = text.removeprefix("\n\n")
    if not thought or not thought.strip():
        return text
    return "<think>\n" + thought.strip("\n") + "\n</think>\n\n" + text


# None is the missing thought, and "" is forgotten
@wrong("10.2", "an empty thought gets tags", "no tags", "empty", "white space", "without a thought")
def _(thought, text):
    if thought is None:
        return text.lstrip("\n")
    return "<think>\n" + thought.strip("\n") + "\n</think>\n\n" + text.lstrip("\n")


# `not thought` looks complete
@wrong("10.2", "a thought of white space gets tags", "white space", "space")
def _(thought, text):
    if not thought:
        return text.lstrip("\n")
    return "<think>\n" + thought.strip("\n") + "\n</think>\n\n" + text.lstrip("\n")


# Line ends are stripped first and what is left is tested: blanks count as a thought
@wrong("10.2", "a thought of spaces gets tags", "white space", "space")
def _(thought, text):
    thought = (thought or "").strip("\n")
    text = text.lstrip("\n")
    return f"<think>\n{thought}\n</think>\n\n{text}" if thought else text


# Without a thought there is nothing to do: return early
@wrong("10.2", "the text as it is if there is no thought", "without a thought", "start", "line end")
def _(thought, text):
    if thought is None or not thought.strip():
        return text
    thought = thought.strip("\n")
    text = text.lstrip("\n")
    return f"<think>\n{thought}\n</think>\n\n{text}"


# The bug is looked for in the thought only
@wrong("10.2", "the text keeps its line ends", "text", "start", "line end")
def _(thought, text):
    if not thought or not thought.strip():
        return text.lstrip("\n")
    thought = thought.strip("\n")
    return f"<think>\n{thought}\n</think>\n\n{text}"


# The reverse: the start of the text is repaired, the thought forgotten
@wrong("10.2", "the thought keeps its line ends", "thought", "line end")
def _(thought, text):
    text = text.lstrip("\n")
    if not thought or not thought.strip():
        return text
    return f"<think>\n{thought}\n</think>\n\n{text}"


# One gets rid of line ends by replacing them
@wrong("10.2", "line ends inside the thought go", "inside", "within", "ends", "others", "middle")
def _(thought, text):
    text = text.lstrip("\n")
    if not thought or not thought.strip():
        return text
    thought = thought.replace("\n", "")
    return f"<think>\n{thought}\n</think>\n\n{text}"


# Empty lines are dropped, also those between paragraphs
@wrong("10.2", "blank lines inside the thought go", "inside", "within", "others", "middle")
def _(thought, text):
    lines = [line for line in (thought or "").split("\n") if line]
    text = text.lstrip("\n")
    if not any(line.strip() for line in lines):
        return text
    return "\n".join(["<think>", *lines, "</think>", "", text])


# Only add what is missing: the case of too many is forgotten
@wrong("10.2", "adds missing line ends and removes none", "however many", "exactly one", "more", "line end")
def _(thought, text):
    if not thought or not thought.strip():
        return text.lstrip("\n")
    if not thought.startswith("\n"):
        thought = "\n" + thought
    if not thought.endswith("\n"):
        thought = thought + "\n"
    if not text.startswith("\n\n"):
        text = "\n\n" + text
    return f"<think>{thought}</think>{text}"


# None never came to mind: "" was tested
@wrong("10.2", "falls over None", "none", "no thought")
def _(thought, text):
    thought = thought.strip("\n")
    text = text.lstrip("\n")
    if thought.strip() == "":
        return text
    return f"<think>\n{thought}\n</think>\n\n{text}"


# No thought is written as the empty thought, as the template does
@wrong("10.2", "the empty thought of the template if there is none", "no tags", "without", "white space", "tags")
def _(thought, text):
    thought = (thought or "").strip("\n")
    if not thought.strip():
        thought = ""
    return "<think>\n" + thought + "\n</think>\n\n" + text.lstrip("\n")


@right("10.2", "strip and an f-string")
def _(thought, text):
    text = text.lstrip("\n")
    if thought is None or not thought.strip():
        return text
    thought = thought.strip("\n")
    return f"<think>\n{thought}\n</think>\n\n{text}"


@right("10.2", "three regular expressions")
def _(thought, text):
    text = re.sub(r"\A\n+", "", text)
    if thought is None or re.fullmatch(r"\s*", thought):
        return text
    thought = re.sub(r"\A\n+|\n+\Z", "", thought)
    return "<think>\n" + thought + "\n</think>\n\n" + text


@right("10.2", "while loops at each end")
def _(thought, text):
    while text.startswith("\n"):
        text = text[1:]
    if not thought or thought.isspace():
        return text
    while thought.startswith("\n"):
        thought = thought[1:]
    while thought.endswith("\n"):
        thought = thought[:-1]
    return "\n".join(["<think>", thought, "</think>", "", text])


@right("10.2", "one expression")
def _(thought, text):
    has = bool((thought or "").strip())
    return ("<think>\n" + thought.strip("\n") + "\n</think>\n\n" if has else "") + text.lstrip("\n")


# 10.3 Which checkpoint takes the switch? -----------------------------------------

QUESTIONS = (
    "Qwen3-30B-A3B-FP8, enable_thinking=False",
    "Qwen3-30B-A3B-FP8, enable_thinking=True",
    'Qwen3-235B-A22B, enable_thinking="false", a str',
    "Qwen3-235B-A22B, thinking=False",
    "Qwen3-235B-A22B-Thinking-2507-FP8, enable_thinking=False",
    "Qwen3-30B-A3B-Instruct-2507, enable_thinking=True",
)


def six(answers):
    """The six predictions from six letters, y for a prompt that changes."""
    return dict(zip(QUESTIONS, [letter == "y" for letter in answers], strict=True))


# A setting that is given is a setting that counts
wrong("10.3", "every setting works", "template", "reads", "default")(six("yyyyyy"))
# FP8 is taken for a family of its own without the switch
wrong("10.3", "FP8 has no switch", "fp8", "quantized", "weights", "same template")(six("nnnnnn"))
# On and off are both switched, so both must show up in the prompt
wrong("10.3", "True changes the prompt too", "default", "without", "already")(six("yynnnn"))
# In Python, JSON and shells "false" is often as good as False
wrong("10.3", "the string false is false", "str", "string", "is false")(six("ynynnn"))
# thinking=False is what this library calls it
wrong("10.3", "thinking is a name of the template", "name", "variable", "enable_thinking")(six("ynnynn"))
# A model called Thinking has to know about thinking
wrong("10.3", "Thinking-2507 can be switched off", "thinking-2507", "2507", "always")(six("ynnnyn"))
# Instruct is switched off by default, so it can be switched on
wrong("10.3", "Instruct-2507 can be switched on", "instruct", "2507", "never")(six("ynnnny"))
# The switch is in all of them, as long as it goes against the default
wrong("10.3", "both of July take the switch", "2507", "july", "reads")(six("ynnnyy"))
# A nonempty string is true, thinking is the same as enable_thinking
wrong("10.3", "any spelling works with the model of April", "str", "string", "name", "variable")(six("ynyynn"))
# Thinking is off by default, so that True is what changes something
wrong("10.3", "thinking is off by default", "default", "thinks")(six("nynnnn"))
# True and False confused: whether the prompt stays
wrong("10.3", "true means it stays", "changes", "stays", "other way", "reverse", "swapped")(six("nyyyyy"))
# A quantized copy ignores it, the big one reads it in every form
wrong("10.3", "only the 235B of April reads it", "fp8", "str", "name")(six("nnyynn"))

right("10.3", "one of six")(six("ynnnnn"))
right("10.3", "as ones and zeros")({question: int(number == 0) for number, question in enumerate(QUESTIONS)})

# 10.4 A budget ---------------------------------------------------------------------


# The budget is taken as a limit on everything
@wrong("10.4", "counts all tokens", "answer", "thought", "before the first", "after")
def _(ids, budget, end, closing):
    if len(ids) > budget:
        return ids[:budget] + closing
    return ids


# "More than" becomes "at least"
@wrong("10.4", "a thought of exactly the budget is cut", "exactly", "more than", "equal")
def _(ids, budget, end, closing):
    length = ids.index(end) if end in ids else len(ids)
    if length >= budget:
        return ids[:budget] + closing
    return ids


# The answer is wanted, so it is kept
@wrong("10.4", "the answer after the cut is kept", "after", "gone", "old answer")
def _(ids, budget, end, closing):
    if end not in ids:
        return ids[:budget] + closing if len(ids) > budget else ids
    length = ids.index(end)
    if length > budget:
        return ids[:budget] + closing + ids[length + 1 :]
    return ids


# The closing has to fit into the budget
@wrong("10.4", "the closing counts as part of the budget", "closing", "budget")
def _(ids, budget, end, closing):
    length = ids.index(end) if end in ids else len(ids)
    if length > budget:
        return ids[: max(0, budget - len(closing))] + closing
    return ids


# index falls over a thought without an end
@wrong("10.4", "no end is an error", "still going", "does not occur", "no end", "without")
def _(ids, budget, end, closing):
    length = ids.index(end)
    if length > budget:
        return ids[:budget] + closing
    return ids


# "One that is still going on" stays, read without the budget
@wrong("10.4", "a thought without end is never cut", "still going", "no end", "without", "not ended", "longer")
def _(ids, budget, end, closing):
    if end not in ids:
        return ids
    return ids[:budget] + closing if ids.index(end) > budget else ids


# A thought without an end needs one
@wrong("10.4", "closes a thought that is still going on", "still going", "going on", "in time", "leave", "as it is")
def _(ids, budget, end, closing):
    if end in ids:
        return ids if ids.index(end) <= budget else ids[:budget] + closing
    return ids[:budget] + closing


# The end token is the close, the line ends are forgotten
@wrong("10.4", "closes with the end token alone", "closing", "line end")
def _(ids, budget, end, closing):
    length = ids.index(end) if end in ids else len(ids)
    return [*ids[:budget], end] if length > budget else ids


# The line end before the tag belongs to the tag elsewhere (10.2)
@wrong("10.4", "the line end before the tag does not count", "line end", "part of the thought", "exactly", "one token")
def _(ids, budget, end, closing):
    length = ids.index(end) - 1 if end in ids else len(ids)
    return ids[:budget] + closing if length > budget else ids


# The end is counted as the last token of the thought
@wrong("10.4", "the end counts as part of the thought", "before the first", "end", "exactly", "one token")
def _(ids, budget, end, closing):
    length = ids.index(end) + 1 if end in ids else len(ids)
    return ids[:budget] + closing if length > budget else ids


# The last one closes the thought, as in templates
@wrong("10.4", "up to the last end", "first")
def _(ids, budget, end, closing):
    if end in ids:
        length = len(ids) - 1 - ids[::-1].index(end)
    else:
        length = len(ids)
    return ids[:budget] + closing if length > budget else ids


# Cutting is a slice, and the close is forgotten
@wrong("10.4", "cut and not closed", "closing", "close")
def _(ids, budget, end, closing):
    length = ids.index(end) if end in ids else len(ids)
    return ids[:budget] if length > budget else ids


# The thought is closed in either case, and what came after it goes
@wrong("10.4", "a thought in time loses its answer", "in time", "as it is", "leave", "answer")
def _(ids, budget, end, closing):
    thought = ids[: ids.index(end)] if end in ids else ids
    if end in ids or len(thought) > budget:
        return thought[:budget] + closing
    return ids


# A budget of zero looks like no budget
@wrong("10.4", "zero means no limit", "0", "zero", "no thought")
def _(ids, budget, end, closing):
    if not budget:
        return ids
    length = ids.index(end) if end in ids else len(ids)
    return ids[:budget] + closing if length > budget else ids


# If the end is not among the first tokens, the thought was too long
@wrong("10.4", "looks for the end within the budget", "exactly", "going on", "in time", "more than")
def _(ids, budget, end, closing):
    return ids if end in ids[:budget] else ids[:budget] + closing


# The counter is compared after the token was added
@wrong("10.4", "one token too many", "one", "budget", "more")
def _(ids, budget, end, closing):
    kept = []
    for place, token in enumerate(ids):
        if token == end:
            return ids
        if place > budget:
            return kept + closing
        kept.append(token)
    return ids


@right("10.4", "index and slice")
def _(ids, budget, end, closing):
    length = ids.index(end) if end in ids else len(ids)
    return ids[:budget] + closing if length > budget else ids


@right("10.4", "try and except")
def _(ids, budget, end, closing):
    try:
        length = ids.index(end)
    except ValueError:
        length = len(ids)
    if length <= budget:
        return list(ids)
    return [*ids[:budget], *closing]


@right("10.4", "a loop with a counter")
def _(ids, budget, end, closing):
    kept = []
    for token in ids:
        if token == end:
            return ids
        if len(kept) == budget:
            return kept + closing
        kept.append(token)
    return kept


# del and += need no new list, and the caller's one is changed
@wrong("10.4", "in the list itself", "itself", "new list", "copy", "argument")
def _(ids, budget, end, closing):
    if end not in ids[: budget + 1] and len(ids) > budget:
        del ids[budget:]
        ids += closing
    return ids


@right("10.4", "next over enumerate")
def _(ids, budget, end, closing):
    thought = next((place for place, token in enumerate(ids) if token == end), len(ids))
    if thought > budget:
        ids = ids[:budget] + list(closing)
    return ids


@right("10.4", "numpy")
def _(ids, budget, end, closing):
    places = np.flatnonzero(np.array(ids, dtype=int) == end)
    length = int(places[0]) if len(places) else len(ids)
    return ids[:budget] + closing if length > budget else ids


# 10.5 Where does the answer look? ----------------------------------------------------


def member(group, groups):
    """Which key is in which group, with 0 and 1."""
    return (group[:, None] == torch.arange(groups)).float()


# One einsum does everything, and sums over queries
@wrong("10.5", "sums over the queries", "mean", "queries", "quer")
def _(attention, group, groups):
    return einsum(attention, member(group, groups), "layer head query key, key group -> layer head group")


# How much attention goes to a group is read as how much a token of it gets
@wrong("10.5", "the mean over the keys of a group", "sum", "size", "keys")
def _(attention, group, groups):
    membership = member(group, groups)
    membership = membership / membership.sum(0).clamp(min=1)
    each = einsum(attention, membership, "layer head query key, key group -> layer head query group")
    return reduce(each, "layer head query group -> layer head group", "mean")


# The groups come first in the comparison
@wrong("10.5", "membership with the groups first", "key, group", "shape", "axis", "axes", "transpose", "size", "order")
def _(attention, group, groups):
    membership = (torch.arange(groups)[:, None] == group).float()
    each = einsum(attention, membership, "layer head query key, key group -> layer head query group")
    return each.mean(dim=2)


# The figure shows the mean over heads, so it is taken here
@wrong("10.5", "the mean over heads too", "head", "shape")
def _(attention, group, groups):
    each = einsum(attention, member(group, groups), "layer head query key, key group -> layer head query group")
    return reduce(each, "layer head query group -> layer group", "mean")


# mean for both axes, as one reduce
@wrong("10.5", "the mean over all keys", "sum", "keys")
def _(attention, group, groups):
    kept = rearrange(attention, "l h q k -> l h q k 1") * member(group, groups)
    return reduce(kept, "layer head query key group -> layer head group", "mean")


# one_hot gives int64, and einsum wants equal types
@wrong("10.5", "membership of whole numbers", "dtype", "float", "type")
def _(attention, group, groups):
    membership = F.one_hot(group, groups)
    each = einsum(attention, membership, "layer head query key, key group -> layer head query group")
    return reduce(each, "layer head query group -> layer head group", "mean")


# one_hot finds the number of groups by itself
@wrong("10.5", "the number of groups from the data", "groups", "empty", "shape")
def _(attention, group, groups):
    membership = F.one_hot(group).to(attention.dtype)
    each = einsum(attention, membership, "layer head query key, key group -> layer head query group")
    return reduce(each, "layer head query group -> layer head group", "mean")


# The new axis goes where it is easy to put
@wrong("10.5", "groups before heads", "order", "axes", "axis", "shape", "head")
def _(attention, group, groups):
    each = einsum(attention, member(group, groups), "layer head query key, key group -> layer head query group")
    return reduce(each, "layer head query group -> layer group head", "mean")


# The last query writes the answer, so it is the one that counts
@wrong("10.5", "only the last query", "mean", "quer", "all")
def _(attention, group, groups):
    last = attention[:, :, -1]
    return einsum(last, member(group, groups), "layer head key, key group -> layer head group")


# The strongest look counts
@wrong("10.5", "the largest over queries", "mean", "max", "quer")
def _(attention, group, groups):
    each = einsum(attention, member(group, groups), "layer head query key, key group -> layer head query group")
    return reduce(each, "layer head query group -> layer head group", "max")


# Query and key mixed up: the groups are put on the tokens that look
@wrong("10.5", "groups of the queries", "quer", "key")
def _(attention, group, groups):
    each = einsum(attention, member(group, groups), "layer head query key, query group -> layer head key group")
    return reduce(each, "layer head key group -> layer head group", "mean")


# Groups counted from 1
@wrong("10.5", "groups counted from one", "from 0", "number", "group 0", "first")
def _(attention, group, groups):
    membership = (group[:, None] == torch.arange(1, groups + 1)).float()
    each = einsum(attention, membership, "layer head query key, key group -> layer head query group")
    return reduce(each, "layer head query group -> layer head group", "mean")


# The mean of the queries by hand, with the wrong axis' length
@wrong("10.5", "divided by the number of keys", "quer", "keys", "number")
def _(attention, group, groups):
    total = einsum(attention, member(group, groups), "layer head query key, key group -> layer head group")
    return total / attention.shape[-1]


# Scatter without add keeps one key of each group
@wrong("10.5", "scatter without adding", "sum", "add", "one key", "all keys")
def _(attention, group, groups):
    mean = reduce(attention, "layer head query key -> layer head key", "mean")
    index = repeat(group, "key -> layer head key", layer=mean.shape[0], head=mean.shape[1])
    return torch.zeros(*mean.shape[:2], groups).scatter_(2, index, mean)


# Groups are thought of as stretches of the same length
@wrong("10.5", "groups as equal stretches of keys", "group", "stretch", "length")
def _(attention, group, groups):
    part = attention.shape[-1] // groups
    kept = attention[..., : part * groups]
    sums = reduce(kept, "layer head query (group key) -> layer head query group", "sum", group=groups)
    return reduce(sums, "layer head query group -> layer head group", "mean")


# The groups of this exercise are the three of the example
@wrong("10.5", "always three groups", "groups", "shape", "three")
def _(attention, group, groups):
    each = einsum(attention, member(group, 3), "layer head query key, key group -> layer head query group")
    return reduce(each, "layer head query group -> layer head group", "mean")


@right("10.5", "einsum and reduce")
def _(attention, group, groups):
    membership = (rearrange(group, "key -> key 1") == torch.arange(groups)).float()
    each = einsum(attention, membership, "layer head query key, key group -> layer head query group")
    return reduce(each, "layer head query group -> layer head group", "mean")


@right("10.5", "the mean first and one_hot")
def _(attention, group, groups):
    mean = reduce(attention, "layer head query key -> layer head key", "mean")
    membership = F.one_hot(group, groups).to(attention.dtype)
    return einsum(mean, membership, "layer head key, key group -> layer head group")


@right("10.5", "one einsum, divided by the queries")
def _(attention, group, groups):
    membership = torch.eye(groups)[group]
    total = einsum(attention, membership, "layer head query key, key group -> layer head group")
    return total / attention.shape[2]


@right("10.5", "a matrix product")
def _(attention, group, groups):
    return attention.mean(dim=2) @ F.one_hot(group, groups).float()


@right("10.5", "index_add_ on the mean")
def _(attention, group, groups):
    mean = attention.mean(2)
    return torch.zeros(*mean.shape[:2], groups).index_add_(2, group, mean)


@right("10.5", "torch.einsum with letters")
def _(attention, group, groups):
    return torch.einsum("lhqk,kg->lhg", attention, member(group, groups)) / attention.size(-2)


# 10.6 One digit of the thought ----------------------------------------------------------


# Ids of digits look like neighbours
@wrong("10.6", "the next id", "id", "next digit", "neighbour", "index")
def _(ids, place, digits):
    new = list(ids)
    new[place] += 1
    return new


# = is not a copy
@wrong("10.6", "changes the argument", "copy", "itself", "new list", "argument")
def _(ids, place, digits):
    new = ids
    new[place] = digits[(digits.index(ids[place]) + 1) % 10]
    return new


# 9 + 1 is forgotten
@wrong("10.6", "no way on from nine", "last", "9", "first", "after")
def _(ids, place, digits):
    new = list(ids)
    new[place] = digits[digits.index(ids[place]) + 1]
    return new


# 9 cannot be raised, so it stays
@wrong("10.6", "nine stays nine", "last", "9", "first", "after")
def _(ids, place, digits):
    new = list(ids)
    new[place] = digits[min(digits.index(ids[place]) + 1, 9)]
    return new


# Lowered in place of raised
@wrong("10.6", "lowered by one", "next", "before", "raise", "direction")
def _(ids, place, digits):
    new = ids.copy()
    new[place] = digits[digits.index(ids[place]) - 1]
    return new


# The digit is put in place of its id
@wrong("10.6", "the digit and not its id", "id", "digits")
def _(ids, place, digits):
    new = list(ids)
    new[place] = (digits.index(ids[place]) + 1) % 10
    return new


# The id is taken for the digit
@wrong("10.6", "the id taken for its digit", "id", "index")
def _(ids, place, digits):
    new = list(ids)
    new[place] = digits[(ids[place] + 1) % 10]
    return new


# A comprehension over values in place of places
@wrong("10.6", "every digit like this one changes", "place", "only", "one", "others", "other")
def _(ids, place, digits):
    old = ids[place]
    new = digits[(digits.index(old) + 1) % len(digits)]
    return [new if token == old else token for token in ids]


# Place and digit mixed up
@wrong("10.6", "the digit at the index of the place", "place", "index", "stands")
def _(ids, place, digits):
    new = list(ids)
    new[place] = digits[(place + 1) % 10]
    return new


# The slice after the place starts at the place
@wrong("10.6", "inserted and not replaced", "length", "insert", "replace", "longer")
def _(ids, place, digits):
    raised = digits[(digits.index(ids[place]) + 1) % 10]
    return [*ids[:place], raised, *ids[place:]]


# The largest digit is 9, so modulo 9
@wrong("10.6", "the remainder by nine", "9", "ten", "10", "last")
def _(ids, place, digits):
    new = list(ids)
    new[place] = digits[(digits.index(ids[place]) + 1) % 9]
    return new


# The rest of the thought is forgotten
@wrong("10.6", "the thought ends with the digit", "rest", "length", "after", "short")
def _(ids, place, digits):
    return [*ids[:place], digits[(digits.index(ids[place]) + 1) % 10]]


# list.index finds the first one
@wrong("10.6", "the first digit of this kind", "place", "first")
def _(ids, place, digits):
    new = list(ids)
    new[new.index(ids[place])] = digits[(digits.index(ids[place]) + 1) % 10]
    return new


# The ten ids stand one after another from that of "0" on, in this vocabulary
@wrong("10.6", "counts on from the id of zero", "id", "order", "neighbour", "one after another", "index")
def _(ids, place, digits):
    new = list(ids)
    zero = digits[0]
    new[place] = zero + (ids[place] - zero + 1) % 10
    return new


# Carried like in a sum
@wrong("10.6", "nine carries to the digit before", "only", "carry", "carries", "others", "other", "place")
def _(ids, place, digits):
    new = list(ids)
    while place >= 0 and new[place] in digits:
        value = digits.index(new[place]) + 1
        new[place] = digits[value % 10]
        if value < 10:
            break
        place -= 1
    return new


# Places counted from one
@wrong("10.6", "the place counted from one", "place", "from 0", "one off", "other")
def _(ids, place, digits):
    new = list(ids)
    new[place - 1] = digits[(digits.index(ids[place]) + 1) % 10]
    return new


@right("10.6", "index and modulo")
def _(ids, place, digits):
    new = list(ids)
    new[place] = digits[(digits.index(ids[place]) + 1) % 10]
    return new


@right("10.6", "slices put together")
def _(ids, place, digits):
    raised = digits.index(ids[place]) + 1
    return [*ids[:place], digits[0 if raised == len(digits) else raised], *ids[place + 1 :]]


@right("10.6", "a dictionary of followers")
def _(ids, place, digits):
    following = dict(zip(digits, digits[1:] + digits[:1], strict=True))
    return [following[token] if here == place else token for here, token in enumerate(ids)]


@right("10.6", "nine less, as a negative index")
def _(ids, place, digits):
    new = ids[:]
    new[place] = digits[digits.index(new[place]) - 9]
    return new


@right("10.6", "torch")
def _(ids, place, digits):
    new, known = torch.tensor(ids), torch.tensor(digits)
    new[place] = known.roll(-1)[known == new[place]]
    return new.tolist()


@right("10.6", "a loop over the digits")
def _(ids, place, digits):
    new = [*ids]
    for digit, token in enumerate(digits):
        if token == ids[place]:
            new[place] = digits[digit + 1] if digit < 9 else digits[0]
    return new


# 10.7 Majority vote ------------------------------------------------------------------------


# torch has a function for it
@wrong("10.7", "mode of torch", "-1", "first", "smallest", "mode", "no vote")
def _(answers):
    return answers.mode(dim=1).values


# -1 is a number like others
@wrong("10.7", "minus one has a vote", "-1", "no vote", "without an answer")
def _(answers):
    votes = (answers[:, :, None] == answers[:, None, :]).sum(-1)
    return answers.gather(1, votes.argmax(1, keepdim=True))[:, 0]


# unique sorts, so the smallest wins a tie
@wrong("10.7", "the smallest of equally frequent ones", "first", "drawn", "smallest", "tie", "equally")
def _(answers):
    chosen = []
    for row in answers:
        values, counts = row[row != -1].unique(return_counts=True)
        chosen.append(int(values[counts.argmax()]) if len(values) else -1)
    return torch.tensor(chosen)


# >= in place of > in the loop
@wrong("10.7", "the last of equally frequent ones", "first", "drawn", "last", "tie", "equally")
def _(answers):
    result = []
    for row in answers.tolist():
        best, most = -1, 0
        for answer in row:
            if answer != -1 and row.count(answer) >= most:
                best, most = answer, row.count(answer)
        result.append(best)
    return torch.tensor(result)


# The order of pairs (count, answer) decides
@wrong("10.7", "the largest of equally frequent ones", "first", "drawn", "largest", "tie", "equally")
def _(answers):
    result = []
    for row in answers.tolist():
        counts = Counter(answer for answer in row if answer != -1)
        result.append(max((count, answer) for answer, count in counts.items())[1] if counts else -1)
    return torch.tensor(result)


# Negative numbers do not go into bincount, so they become 0
@wrong("10.7", "minus one counts as zero", "-1", "0", "no vote")
def _(answers):
    result = []
    for row in answers.clamp(min=0):
        counts = row.bincount()
        first = counts[row].argmax()
        result.append(row[first])
    return torch.stack(result)


# most_common()[0] of nothing
@wrong("10.7", "falls over a question without an answer", "-1", "no sample", "no answer", "empty", "none")
def _(answers):
    result = []
    for row in answers.tolist():
        counts = Counter(answer for answer in row if answer != -1)
        result.append(counts.most_common(1)[0][0])
    return torch.tensor(result)


# The axes mixed up: the samples of all questions are counted
@wrong("10.7", "votes among the questions", "question", "sample", "axis", "shape", "row", "column")
def _(answers):
    result = []
    for column in answers.T.tolist():
        counts = Counter(answer for answer in column if answer != -1)
        result.append(counts.most_common(1)[0][0] if counts else -1)
    return torch.tensor(result)


# The majority is more than half
@wrong("10.7", "more than half of the votes are needed", "half", "most frequent", "absolute")
def _(answers):
    result = []
    for row in answers.tolist():
        valid = [answer for answer in row if answer != -1]
        best = max(valid, key=valid.count, default=-1)
        result.append(best if 2 * valid.count(best) > len(valid) else -1)
    return torch.tensor(result)


# A tie is no majority
@wrong("10.7", "none in a tie", "first", "tie", "equally", "drawn")
def _(answers):
    result = []
    for row in answers.tolist():
        ranked = Counter(answer for answer in row if answer != -1).most_common(2)
        tie = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
        result.append(ranked[0][0] if ranked and not tie else -1)
    return torch.tensor(result)


# > 0 in place of >= 0: zero is an answer
@wrong("10.7", "zero has no vote", "0", "zero")
def _(answers):
    result = []
    for row in answers.tolist():
        counts = Counter(answer for answer in row if answer > 0)
        result.append(counts.most_common(1)[0][0] if counts else -1)
    return torch.tensor(result)


# The sample that won in place of what it says
@wrong("10.7", "the number of the sample", "index", "sample", "place", "gather", "number of", "where")
def _(answers):
    votes = (answers[:, :, None] == answers[:, None, :]).sum(-1)
    votes = votes.masked_fill(answers == -1, 0)
    return votes.argmax(dim=1)


# max returns values and indices, and the values are the counts
@wrong("10.7", "how many votes in place of the answer", "votes", "count", "how many", "how often")
def _(answers):
    votes = (answers[:, :, None] == answers[:, None, :]).sum(-1)
    votes[answers == -1] = 0
    return votes.max(dim=1).values


# torch.zeros is float32 and 0 without votes
@wrong("10.7", "a float result that starts from zeros", "dtype", "int64", "float", "-1")
def _(answers):
    result = torch.zeros(len(answers))
    for number, row in enumerate(answers.tolist()):
        counts = Counter(answer for answer in row if answer != -1)
        if counts:
            result[number] = counts.most_common(1)[0][0]
    return result


# The middle is what most of them are near to
@wrong("10.7", "the median of the answers", "most frequent", "median", "votes", "count")
def _(answers):
    result = []
    for row in answers.tolist():
        valid = sorted(answer for answer in row if answer != -1)
        result.append(valid[len(valid) // 2] if valid else -1)
    return torch.tensor(result)


# The first one drawn that has an answer
@wrong("10.7", "the first answer without a vote", "most frequent", "first", "count", "votes")
def _(answers):
    first = (answers != -1).int().argmax(dim=1)
    return answers[torch.arange(len(answers)), first]


# gather keeps its axis
@wrong("10.7", "an axis of one too many", "shape", "axis", "(question)")
def _(answers):
    votes = (answers[:, :, None] == answers[:, None, :]).sum(-1)
    votes = votes * (answers != -1)
    return answers.gather(1, votes.argmax(1, keepdim=True))


@right("10.7", "all pairs and gather")
def _(answers):
    votes = (answers[:, :, None] == answers[:, None, :]).sum(-1)
    votes = votes.masked_fill(answers == -1, 0)
    return answers.gather(1, votes.argmax(1, keepdim=True)).squeeze(1)


@right("10.7", "Counter")
def _(answers):
    result = []
    for row in answers.tolist():
        counts = Counter(answer for answer in row if answer != -1)
        result.append(counts.most_common(1)[0][0] if counts else -1)
    return torch.tensor(result)


@right("10.7", "max with the count as key")
def _(answers):
    valid = [[answer for answer in row if answer >= 0] for row in answers.tolist()]
    return torch.tensor([max(row, key=row.count, default=-1) for row in valid])


@right("10.7", "nested loops and a dictionary")
def _(answers):
    result = torch.full((answers.shape[0],), -1, dtype=torch.int64)
    for question in range(answers.shape[0]):
        counts = {}
        for sample in range(answers.shape[1]):
            answer = int(answers[question, sample])
            if answer == -1:
                continue
            counts[answer] = counts.get(answer, 0) + 1
        best = 0
        for answer, count in counts.items():
            if count > best:
                best = count
                result[question] = answer
    return result


@right("10.7", "einops and earlier samples a little ahead")
def _(answers):
    same = rearrange(answers, "q s -> q s 1") == rearrange(answers, "q s -> q 1 s")
    votes = reduce(same.long(), "q s other -> q s", "sum") * (answers != -1)
    samples = answers.shape[1]
    score = votes * samples - torch.arange(samples)
    return answers[torch.arange(len(answers)), score.argmax(1)]


@right("10.7", "numpy unique with first places")
def _(answers):
    chosen = []
    for row in answers.numpy():
        row = row[row != -1]
        if not len(row):
            chosen.append(-1)
            continue
        values, first, counts = np.unique(row, return_index=True, return_counts=True)
        chosen.append(int(values[np.lexsort((first, -counts))[0]]))
    return torch.tensor(chosen)


# 10.8 Without the old thoughts ----------------------------------------------------------------


def last_user(messages):
    """The index of the last message of the user, -1 without one."""
    return max((number for number, m in enumerate(messages) if m["role"] == "user"), default=-1)


def answer_part(content):
    """What stands after the last thought."""
    return content.split("</think>")[-1].lstrip("\n") if "</think>" in content else content


# All thoughts of the assistant are old ones
@wrong("10.8", "later thoughts go too", "after the last", "later", "last message of the user", "keep")
def _(messages):
    if not any(m["role"] == "user" for m in messages):
        return messages
    return [{**m, "content": answer_part(m["content"])} if m["role"] == "assistant" else m for m in messages]


# The first user message found in the loop is taken
@wrong("10.8", "before the first message of the user", "last")
def _(messages):
    first = next((number for number, m in enumerate(messages) if m["role"] == "user"), -1)
    result = []
    for number, m in enumerate(messages):
        old = number < first and m["role"] == "assistant"
        result.append({**m, "content": answer_part(m["content"])} if old else m)
    return result


# split(..., 1)[1] goes to the first </think>
@wrong("10.8", "up to the first end of a thought", "last", "first")
def _(messages):
    last = last_user(messages)
    result = []
    for number, m in enumerate(messages):
        if number < last and m["role"] == "assistant" and "</think>" in m["content"]:
            m = {**m, "content": m["content"].split("</think>", 1)[1].lstrip("\n")}
        result.append(m)
    return result


# list(messages) copies the list and not the messages
@wrong("10.8", "changes the messages of the argument", "argument", "copy", "new", "itself")
def _(messages):
    result = list(messages)
    for m in result[: max(0, last_user(messages))]:
        if m["role"] == "assistant":
            m["content"] = answer_part(m["content"])
    return result


# strip() takes everything
@wrong("10.8", "strips spaces of the answer", "space", "line end", "strip")
def _(messages):
    last = last_user(messages)
    result = []
    for number, m in enumerate(messages):
        if number < last and m["role"] == "assistant" and "</think>" in m["content"]:
            m = {"role": "assistant", "content": m["content"].split("</think>")[-1].strip()}
        result.append(m)
    return result


# The tag has two line ends, so it is cut off together with them
@wrong("10.8", "cuts off the tag with two line ends", "line end", "however many", "two", "all")
def _(messages):
    last = last_user(messages)
    result = []
    for number, m in enumerate(messages):
        if number < last and m["role"] == "assistant" and "</think>" in m["content"]:
            m = {**m, "content": m["content"].split("</think>")[-1].removeprefix("\n\n")}
        result.append(m)
    return result


# The role is not asked for: who else would write </think>?
@wrong("10.8", "the user's text as well", "assistant", "user", "role")
def _(messages):
    last = last_user(messages)
    return [{**m, "content": answer_part(m["content"])} if number < last else m for number, m in enumerate(messages)]


# No user message: the "last" one is the end of the list
@wrong("10.8", "without a user everything is old", "without a user", "no user", "nothing")
def _(messages):
    last = max((number for number, m in enumerate(messages) if m["role"] == "user"), default=len(messages))
    result = []
    for number, m in enumerate(messages):
        old = number < last and m["role"] == "assistant"
        result.append({**m, "content": answer_part(m["content"])} if old else m)
    return result


# A thought starts with its tag: without one (Thinking-2507) nothing is found
@wrong("10.8", "looks for a whole thought with both tags", "<think>", "open", "everything up to", "before")
def _(messages):
    last = last_user(messages)
    result = []
    for number, m in enumerate(messages):
        if number < last and m["role"] == "assistant":
            m = {**m, "content": re.sub(r"<think>.*</think>\n*", "", m["content"], flags=re.DOTALL)}
        result.append(m)
    return result


# The dot does not match a line end
@wrong("10.8", "a pattern without DOTALL", "line", "<think>", "dotall", "thought")
def _(messages):
    last = last_user(messages)
    result = []
    for number, m in enumerate(messages):
        if number < last and m["role"] == "assistant":
            m = {**m, "content": re.sub(r".*</think>\n*", "", m["content"])}
        result.append(m)
    return result


# The latest reply keeps its thought, all others lose theirs
@wrong("10.8", "only the last reply keeps its thought", "last message of the user", "user", "assistant")
def _(messages):
    replies = [number for number, m in enumerate(messages) if m["role"] == "assistant"]
    if not any(m["role"] == "user" for m in messages):
        return messages
    return [
        {**m, "content": answer_part(m["content"])} if number in replies[:-1] else m
        for number, m in enumerate(messages)
    ]


# The line ends after the tag are forgotten
@wrong("10.8", "the line ends stay", "line end")
def _(messages):
    last = last_user(messages)
    result = []
    for number, m in enumerate(messages):
        if number < last and m["role"] == "assistant":
            m = {"role": m["role"], "content": m["content"].split("</think>")[-1]}
        result.append(m)
    return result


# rpartition gives "" in front, and the text without a tag is tidied as well
@wrong("10.8", "answers without a thought lose line ends", "without", "stays", "as it is")
def _(messages):
    last = last_user(messages)
    result = []
    for number, m in enumerate(messages):
        if number < last and m["role"] == "assistant":
            m = {**m, "content": m["content"].rpartition("</think>")[2].lstrip("\n")}
        result.append(m)
    return result


# rfind gives -1 when nothing is found
@wrong("10.8", "answers without a thought lose their beginning", "without", "stays", "as it is", "-1")
def _(messages):
    last = last_user(messages)
    result = []
    for number, m in enumerate(messages):
        if number < last and m["role"] == "assistant":
            start = m["content"].rfind("</think>") + len("</think>")
            m = {**m, "content": m["content"][start:].lstrip("\n")}
        result.append(m)
    return result


# The last message is the user's: all before it are old
@wrong("10.8", "takes the last message for the user's", "last message of the user", "after", "later", "user")
def _(messages):
    result = [dict(m) for m in messages]
    for m in result[:-1]:
        if m["role"] == "assistant":
            m["content"] = answer_part(m["content"])
    return result


# Everything that is not the assistant is the user, tools too
@wrong("10.8", "a tool's result taken for the user's message", "tool", "user", "role")
def _(messages):
    last = max((number for number, m in enumerate(messages) if m["role"] != "assistant"), default=-1)
    if last_user(messages) < 0:
        return messages
    return [
        {**m, "content": answer_part(m["content"])} if number < last and m["role"] == "assistant" else m
        for number, m in enumerate(messages)
    ]


# Only the old part is returned
@wrong("10.8", "what follows the last question is lost", "missing", "all", "length", "messages", "after")
def _(messages):
    last = last_user(messages)
    result = []
    for number, m in enumerate(messages):
        if number > last >= 0:
            break
        if number < last and m["role"] == "assistant":
            m = {**m, "content": answer_part(m["content"])}
        result.append(m)
    return result


@right("10.8", "a comprehension with helpers")
def _(messages):
    last = last_user(messages)
    return [
        {**m, "content": answer_part(m["content"])} if number < last and m["role"] == "assistant" else m
        for number, m in enumerate(messages)
    ]


@right("10.8", "deep copies and rfind")
def _(messages):
    result = [dict(message) for message in messages]
    last = -1
    for number, message in enumerate(result):
        if message["role"] == "user":
            last = number
    for number in range(last):
        message = result[number]
        place = message["content"].rfind("</think>")
        if message["role"] == "assistant" and place >= 0:
            text = message["content"][place + len("</think>") :]
            while text[:1] == "\n":
                text = text[1:]
            message["content"] = text
    return result


@right("10.8", "from the back")
def _(messages):
    result, old = [], False
    for message in reversed(messages):
        if old and message["role"] == "assistant" and "</think>" in message["content"]:
            _, _, rest = message["content"].rpartition("</think>")
            message = {"role": "assistant", "content": rest.lstrip("\n")}
        if message["role"] == "user":
            old = True
        result.append(message)
    return result[::-1]


@right("10.8", "a regular expression with DOTALL")
def _(messages):
    roles = [message["role"] for message in messages]
    if "user" not in roles:
        return [message.copy() for message in messages]
    last = len(roles) - 1 - roles[::-1].index("user")
    result = []
    for message in messages[:last]:
        content = message["content"]
        if message["role"] == "assistant":
            content = re.sub(r"\A.*</think>\n*", "", content, flags=re.DOTALL)
        result.append({"role": message["role"], "content": content})
    return result + messages[last:]


# 10.9 Tokens of a long conversation -------------------------------------------------------------


# The whole prompt goes through the model in every turn
@wrong("10.9", "reads every prompt from its beginning", "cache", "beginning")
def _(turns, question, thought, answer, keep):
    old = question + answer + (thought if keep else 0)
    cached = (turns - 1) * old + question + thought + answer
    read = sum(turn * old + question for turn in range(turns))
    return cached, read


# Old thoughts are taken out: all of them
@wrong("10.9", "the last thought is not in the cache", "last", "thought", "still")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question
    return turns * (question + answer), turns * question + (turns - 1) * answer


# Without the thoughts the beginning is lost, so everything is read again
@wrong("10.9", "reads the whole prompt again without thoughts", "beginning", "same", "cache", "only")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question
    read = sum(turn * (question + answer) + question for turn in range(turns))
    return turns * (question + answer) + thought, read


# An old answer is part of the prompt, so it is read
@wrong("10.9", "old answers are read in both cases", "generated", "cache", "keep", "kept")
def _(turns, question, thought, answer, keep):
    read = turns * question + (turns - 1) * answer
    return turns * (question + answer) + (turns * thought if keep else thought), read


# Generated tokens go through the model, too
@wrong("10.9", "generated tokens count as read", "generated", "prompt")
def _(turns, question, thought, answer, keep):
    cached = turns * (question + answer) + (turns if keep else 1) * thought
    read = turns * (question + thought + answer)
    return cached, read if keep else read + (turns - 1) * answer


# The cache serves everything that was there once
@wrong("10.9", "only questions are read in both cases", "again", "position", "answer")
def _(turns, question, thought, answer, keep):
    cached = turns * (question + answer) + (turns * thought if keep else thought)
    return cached, turns * question


# The order of the two numbers
@wrong("10.9", "read first, cache second", "order", "first", "swap")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * question, turns * (question + thought + answer)
    return turns * question + (turns - 1) * answer, turns * (question + answer) + thought


# keep is read as "keep the prompts short"
@wrong("10.9", "keep the other way round", "keep", "other way", "swap", "reverse")
def _(turns, question, thought, answer, keep):
    if not keep:
        return turns * (question + thought + answer), turns * question
    return turns * (question + answer) + thought, turns * question + (turns - 1) * answer


# A whole old turn is read again, with its question
@wrong("10.9", "the old question is read again", "question", "beginning", "before the thought", "same")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question
    read = question + (turns - 1) * (question + answer + question)
    return turns * (question + answer) + thought, read


# All old answers have moved, because all thoughts have gone
@wrong("10.9", "all old answers are read in every turn", "again", "last", "already", "only", "earlier")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question
    read = turns * question + answer * turns * (turns - 1) // 2
    return turns * (question + answer) + thought, read


# The last answer is counted as well
@wrong("10.9", "the last answer is read too", "last", "turns - 1", "one", "next")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question
    return turns * (question + answer) + thought, turns * (question + answer)


# The last answer is written and not read, so it seems not to be in the cache
@wrong("10.9", "the last answer is not in the cache", "answer", "last", "cache")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer) - answer, turns * question
    return turns * question + (turns - 1) * answer + thought, turns * question + (turns - 1) * answer


# The thought is read when it is kept, since it stands in the prompt
@wrong("10.9", "kept thoughts are read", "generated", "cache", "keep", "kept")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question + (turns - 1) * (thought + answer)
    return turns * (question + answer) + thought, turns * question + (turns - 1) * answer


# Only the last turn is counted as read
@wrong("10.9", "read in the last turn only", "all turns", "together", "sum")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), question
    return turns * (question + answer) + thought, answer + question


# The text of the exercise has ten turns
@wrong("10.9", "always ten turns", "turns", "ten", "10")
def _(turns, question, thought, answer, keep):
    if keep:
        return 10 * (question + thought + answer), 10 * question
    return 10 * (question + answer) + thought, 10 * question + 9 * answer


# The cache is emptied with every new turn
@wrong("10.9", "only the last turn in the cache", "earlier", "old", "all turns", "conversation", "turns")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question
    return question + thought + answer, turns * question + (turns - 1) * answer


# Taking out a thought happens a turn late in the cache: the pages stay until overwritten
@wrong("10.9", "thoughts taken out stay in the cache", "taken out", "out", "cache", "thought")
def _(turns, question, thought, answer, keep):
    cached = turns * (question + thought + answer)
    return cached, turns * question if keep else turns * question + (turns - 1) * answer


@right("10.9", "closed form")
def _(turns, question, thought, answer, keep):
    if keep:
        return turns * (question + thought + answer), turns * question
    return turns * (question + answer) + thought, turns * question + (turns - 1) * answer


@right("10.9", "a loop over turns")
def _(turns, question, thought, answer, keep):
    cache = read = 0
    for turn in range(turns):
        if turn and not keep:
            cache -= thought + answer
            cache += answer
            read += answer
        cache += question
        read += question
        cache += thought + answer
    return cache, read


@right("10.9", "lists of boxes and their common beginning")
def _(turns, question, thought, answer, keep):
    cached, read = [], 0
    history = []
    for turn in range(turns):
        prompt = history + [("q", turn)] * question
        same = 0
        while same < min(len(prompt), len(cached)) and prompt[same] == cached[same]:
            same += 1
        read += len(prompt) - same
        cached = prompt + [("t", turn)] * thought + [("a", turn)] * answer
        history = cached if keep else prompt + [("a", turn)] * answer
    return len(cached), read


@right("10.9", "recursive")
def _(turns, question, thought, answer, keep):
    def after(turn):
        if turn == 1:
            return question + thought + answer, question
        cache, read = after(turn - 1)
        if keep:
            return cache + question + thought + answer, read + question
        return cache + question + answer, read + answer + question

    return after(turns)


@right("10.9", "a list of both numbers")
def _(turns, question, thought, answer, keep):
    cached = sum([question, answer]) * turns + thought * (turns if keep else 1)
    read = [question] * turns + ([] if keep else [answer] * (turns - 1))
    return [cached, sum(read)]
