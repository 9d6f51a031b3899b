"""Chapter 10, thinking: render a conversation (10.1), line ends of a server (10.2), remove old thoughts (10.8)."""

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

from minimoe.course.checker.exercise import Case, Exercise, Stage
from minimoe.scale.serving.thoughts import with_tags
from minimoe.text.chat import ChatTemplate

Messages = list[dict[str, str]]
Render = Callable[[Messages, bool], str]
START, END = "<|im_start|>", "<|im_end|>"
EMPTY = "<think>\n\n</think>\n\n"

# 10.1 render ----------------------------------------------------------------------------------------------------------


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def render_by_hand(messages: Messages, thinking: bool) -> str:
    """Piece by piece, in the order in which the tokens stand."""
    text = ""
    for message in messages:
        text += START + message["role"] + "\n" + message["content"] + END + "\n"
    text += START + "assistant\n"
    if not thinking:
        text += "<think>" + "\n\n" + "</think>" + "\n\n"
    return text


def rendering(
    turn: Callable[[str, str], str] = lambda role, content: f"{START}{role}\n{content}{END}\n",
    opening: str = f"{START}assistant\n",
    thinks: str = "",
    closed: str = EMPTY,
    chosen: Callable[[Messages], Sequence[dict[str, str]]] = lambda messages: messages,
    between: str = "",
) -> Render:
    """The template with another turn, opening, choice of turns, or text between them."""

    def render(messages: Messages, thinking: bool) -> str:
        turns = [turn(message["role"], message["content"]) for message in chosen(messages)]
        return between.join(turns) + opening + (thinks if thinking else closed)

    return render


def opening_of(text: Any) -> str:
    """What stands after the last mark of a turn's start."""
    return str(text).rpartition(START)[2]


def turns_of(text: Any) -> str:
    """What stands before it."""
    return str(text).rpartition(START)[0]


def opened_after_each(messages: Messages, thinking: bool) -> str:
    return turns_of("".join(render_by_hand([message], thinking) for message in messages))


def switched(messages: Messages, thinking: bool) -> str:
    return render_by_hand(messages, not thinking)


RENDERED: dict[str, tuple[Render, str]] = {
    "the switch the wrong way round": (
        switched,
        "the empty thought is written when the model is to think. It looks odd and is so: the closed thought is what "
        "switches thinking *off*.",
    ),
    "think opened": (
        rendering(thinks="<think>\n"),
        "with thinking, `<think>` is opened here. In April's template the model writes that token itself (that of "
        "Thinking-2507 opens it).",
    ),
    "never closed": (rendering(closed=""), "without thinking, the empty thought is missing: the model will think."),
    "opened only": (
        rendering(closed="<think>\n"),
        "without thinking, the thought is opened and never closed, which makes the model think.",
    ),
    "without line ends": (
        rendering(closed="<think></think>"),
        "the empty thought has no line ends. As tokens that is another text, one that the model was not trained on.",
    ),
    "one line end each": (
        rendering(closed="<think>\n</think>\n"),
        "the empty thought has one line end where two are meant, inside and after it.",
    ),
    "one line end inside": (
        rendering(closed="<think>\n</think>\n\n"),
        "inside of the empty thought there is one line end; it takes two.",
    ),
    "one line end after": (
        rendering(closed="<think>\n\n</think>\n"),
        "after `</think>` there is one line end; it takes two.",
    ),
    "none after": (rendering(closed="<think>\n\n</think>"), "the two line ends after `</think>` are missing."),
    "no opening": (
        rendering(opening="", closed=""),
        "the assistant's turn is not opened, so the model may go on with anything, for example another user.",
    ),
    "opening only for the empty thought": (
        rendering(opening="", closed=f"{START}assistant\n{EMPTY}"),
        "with thinking, the assistant's turn is not opened. It is opened in both cases.",
    ),
    "no opening, but a thought": (
        rendering(opening=""),
        "the assistant's turn is not opened, so nobody speaks.",
    ),
    "opening without line end": (
        rendering(opening=f"{START}assistant"),
        "the line end after the last `assistant` is missing.",
    ),
    "opening without role": (rendering(opening=START), "the last turn is opened without saying whose it is."),
    "roles without line end": (
        rendering(turn=lambda role, content: f"{START}{role}{content}{END}\n"),
        "the line end between a role and its content is missing.",
    ),
    "role and a space": (
        rendering(turn=lambda role, content: f"{START}{role} {content}{END}\n"),
        "between a role and its content stands a space in place of a line end.",
    ),
    "role and a colon": (
        rendering(turn=lambda role, content: f"{START}{role}: {content}{END}\n"),
        "between a role and its content stands a colon in place of a line end.",
    ),
    "turns without line end": (
        rendering(turn=lambda role, content: f"{START}{role}\n{content}{END}"),
        "the line end after `<|im_end|>` is missing.",
    ),
    "a line end before the end": (
        rendering(turn=lambda role, content: f"{START}{role}\n{content}\n{END}\n"),
        "there is a line end between the content and `<|im_end|>`, where none belongs.",
    ),
    "line ends twice": (
        rendering(between="\n"),
        "turns are joined with a line end although each already has its own.",
    ),
    "the last line end is missing": (
        rendering(turn=lambda role, content: f"{START}{role}\n{content}{END}", between="\n"),
        "after the last `<|im_end|>` the line end is missing: `join` puts one between turns only.",
    ),
    "never ended": (
        rendering(turn=lambda role, content: f"{START}{role}\n{content}\n"),
        "`<|im_end|>` is missing after the turns.",
    ),
    "a default system prompt": (
        rendering(
            chosen=lambda messages: (
                messages
                if messages[:1] and messages[0]["role"] == "system"
                else [said("system", "You are a helpful assistant."), *messages]
            )
        ),
        "a system prompt is added. Qwen3 has no default one; Qwen2.5 had.",
    ),
    "an empty system prompt": (
        rendering(
            chosen=lambda messages: (
                messages if messages[:1] and messages[0]["role"] == "system" else [said("system", ""), *messages]
            )
        ),
        "an empty system turn is added where there was none.",
    ),
    "without system": (
        rendering(chosen=lambda messages: [each for each in messages if each["role"] != "system"]),
        "the system's turn is left out.",
    ),
    "the last only": (
        rendering(chosen=lambda messages: messages[-1:]),
        "only the last message is rendered. The model remembers nothing: the whole conversation has to be there.",
    ),
    "users only": (
        rendering(chosen=lambda messages: [each for each in messages if each["role"] == "user"]),
        "only the user's messages are rendered.",
    ),
    "all from the user": (
        rendering(turn=lambda role, content: f"{START}user\n{content}{END}\n"),
        "every turn says `user`. Take the role of the message.",
    ),
    "stripped": (
        rendering(turn=lambda role, content: f"{START}{role}\n{content.strip()}{END}\n"),
        "white space at the ends of a content is removed. It stays as it is.",
    ),
    "a switch in the message": (
        lambda messages, thinking: render_by_hand(
            [
                each if number < len(messages) - 1 or thinking else {**each, "content": each["content"] + " /no_think"}
                for number, each in enumerate(messages)
            ],
            True,
        ),
        "`/no_think` is a soft switch, which a model may obey; the exercise wants the empty thought.",
    ),
    "the thought in every turn": (
        lambda messages, thinking: (
            "".join(
                f"{START}{each['role']}\n{EMPTY if each['role'] == 'assistant' and not thinking else ''}"
                f"{each['content']}{END}\n"
                for each in messages
            )
            + f"{START}assistant\n"
            + ("" if thinking else EMPTY)
        ),
        "earlier turns of the assistant get an empty thought as well. It belongs to the opening of the reply alone.",
    ),
}


def render_with_join(messages: Messages, thinking: bool) -> str:
    parts = [*messages, said("assistant", "")]
    text = "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in parts)
    return text.removesuffix("<|im_end|>\n") + ("" if thinking else "<think>\n\n</think>\n\n")


def render_with_jinja(messages: Messages, thinking: bool) -> str:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role ~ '\\n' ~ m.content }}<|im_end|>{{ '\\n' }}{% endfor %}"
        "<|im_start|>assistant{{ '\\n' }}{{ '' if enable_thinking else '<think>\\n\\n</think>\\n\\n' }}"
    )
    return ChatTemplate(source, "mine").render(messages, thinking)


# 10.2 line ends of a server -------------------------------------------------------------------------------------------

Joined = Callable[[str | None, str], str]


def suspicious(thought: str | None, text: str) -> str:
    """The function on the page: right for fields without line ends only."""
    return f"<think>\n{thought}\n</think>\n\n{text}"


def joined_by_hand(thought: str | None, text: str) -> str:
    """Take line ends away one at a time, then write those of the tags."""
    while text[:1] == "\n":
        text = text[1:]
    if thought is None or all(letter.isspace() for letter in thought):
        return text
    while thought[:1] == "\n":
        thought = thought[1:]
    while thought[-1:] == "\n":
        thought = thought[:-1]
    return "<think>\n" + thought + "\n</think>\n\n" + text


def joining(
    inner: Callable[[str], str] = lambda thought: thought.strip("\n"),
    outer: Callable[[str], str] = lambda text: text.lstrip("\n"),
    tags: tuple[str, str] = ("<think>\n", "\n</think>\n\n"),
    empty: Callable[[str | None], bool] = lambda thought: thought is None or not thought.strip(),
    without: Callable[[str], str] | None = None,
) -> Joined:
    """The join with one thing done otherwise."""

    def put_together(thought: str | None, text: str) -> str:
        if empty(thought):
            return (without or outer)(text)
        return tags[0] + inner(thought or "") + tags[1] + outer(text)

    return put_together


JOINED: dict[str, tuple[Joined, str]] = {
    "as it was": (suspicious, "this is still the function on the page: fields with line ends get them doubled."),
    "tags alone": (
        joining(inner=str, outer=str, tags=("<think>", "</think>")),
        "only the tags are put back. For a server that strips the line ends, they are missing now.",
    ),
    "tags alone, stripped": (
        joining(tags=("<think>", "</think>")),
        "the line ends are removed and never put back: the tags stand directly at the thought.",
    ),
    "the thought's only": (
        joining(outer=str, without=lambda text: text.lstrip("\n")),
        "the thought is right, and the text keeps the line ends at its start, which are then doubled.",
    ),
    "the text's only": (joining(inner=str), "the text is right, and the thought keeps the line ends at its ends."),
    "one side of the thought": (
        joining(inner=lambda thought: thought.rstrip("\n")),
        "the line ends at the start of the thought are kept, and doubled.",
    ),
    "the start of the thought": (
        joining(inner=lambda thought: thought.lstrip("\n")),
        "the line ends at the end of the thought are kept, and doubled.",
    ),
    "spaces too": (
        joining(inner=str.strip),
        "spaces at the ends of the thought are removed as well. Only line ends belong to the tags.",
    ),
    "spaces of the text too": (
        joining(outer=str.lstrip),
        "spaces at the start of the text are removed as well, as those of indented code. Only line ends are meant.",
    ),
    "spaces everywhere": (
        joining(inner=str.strip, outer=str.lstrip),
        "all white space is removed at the ends. Only line ends belong to the tags; spaces stay.",
    ),
    "both ends of the text": (
        joining(outer=lambda text: text.strip("\n")),
        "line ends at the *end* of the text are removed as well. They are the model's own.",
    ),
    "everything at both ends": (
        joining(inner=str.strip, outer=str.strip),
        "all white space is removed at all ends. Only line ends belong to the tags, and at the end of the text none.",
    ),
    "all line ends of both": (
        joining(inner=lambda thought: thought.replace("\n", ""), outer=lambda text: text.replace("\n", "")),
        "the line ends *inside* the thought and the text are removed as well.",
    ),
    "an empty block": (
        joining(without=lambda text: EMPTY + text.lstrip("\n")),
        "without a thought there are tags around nothing. Leave them out.",
    ),
    "all line ends": (
        joining(inner=lambda thought: thought.replace("\n", "")),
        "the line ends *inside* the thought are removed as well: its steps run together.",
    ),
    "one line end each": (
        joining(
            inner=lambda thought: thought.removeprefix("\n").removesuffix("\n"),
            outer=lambda text: text.removeprefix("\n\n"),
            without=lambda text: text.lstrip("\n"),
        ),
        "of several line ends at one place, only one is taken for that of the tag. All of them are, however many there "
        "are.",
    ),
    "one after the tag": (
        joining(tags=("<think>\n", "\n</think>\n")),
        "after `</think>` stands one line end; the model writes two.",
    ),
    "none before the closing tag": (
        joining(tags=("<think>\n", "</think>\n\n")),
        "the line end before `</think>` is missing.",
    ),
    "none after the opening tag": (
        joining(tags=("<think>", "\n</think>\n\n")),
        "the line end after `<think>` is missing.",
    ),
    "an empty thought": (
        joining(empty=lambda thought: thought is None),
        "a thought of white space gets tags. The model that wrote none did not think.",
    ),
    "tags around nothing": (
        joining(empty=lambda thought: False),
        "without a thought there are tags around nothing, and the model did not think.",
    ),
    "only the empty string": (
        joining(empty=lambda thought: not thought),
        "a thought of nothing but white space gets tags.",
    ),
    "nothing but line ends": (
        joining(empty=lambda thought: not (thought or "").strip("\n")),
        "a thought of spaces gets tags. Spaces are white space, too.",
    ),
    "the text as it came": (
        joining(without=str),
        "without a thought, the text keeps the line ends at its start.",
    ),
    "the text alone": (
        joining(empty=lambda thought: True),
        "the thought is left out.",
    ),
}  # fmt: skip


def joined_with_or(thought: str | None, text: str) -> str:
    body = (thought or "").strip("\n")
    head = f"<think>\n{body}\n</think>\n\n" if body.strip() else ""
    return head + text.lstrip("\n")


def joined_with_the_library(thought: str | None, text: str) -> str:
    deltas = [{"reasoning": thought}, {"content": text.lstrip("\n")}]
    return "".join(with_tags([{"delta": delta, "finish_reason": None} for delta in deltas]))


# 10.8 without old thoughts --------------------------------------------------------------------------------------------

Strip = Callable[[Messages], Messages]


def stripped_by_hand(messages: Messages) -> Messages:
    """From the back: whatever stands before a message of the user loses its thought."""
    kept: Messages = []
    asked_later = False
    for message in reversed(messages):
        content = message["content"]
        if message["role"] == "assistant" and asked_later and "</think>" in content:
            content = content[content.rindex("</think>") + len("</think>") :]
            while content[:1] == "\n":
                content = content[1:]
        asked_later = asked_later or message["role"] == "user"
        kept.insert(0, {"role": message["role"], "content": content})
    return kept


def stripping(
    after: Callable[[str], str] = lambda content: content.rpartition("</think>")[2].lstrip("\n"),
    which: Callable[[Messages, int], bool] | None = None,
    roles: tuple[str, ...] = ("assistant",),
) -> Strip:
    """The same with another cut, or for other messages. which(messages, number): whether this one is old."""

    def strip(messages: Messages) -> Messages:
        users = [number for number, message in enumerate(messages) if message["role"] == "user"]

        def old(number: int) -> bool:
            return which(messages, number) if which else bool(users) and number < users[-1]

        return [
            {**message, "content": after(message["content"])}
            if message["role"] in roles and "</think>" in message["content"] and old(number)
            else message
            for number, message in enumerate(messages)
        ]

    return strip


def in_place(messages: Messages) -> Messages:
    changed = stripped_by_hand(messages)
    for message, other in zip(messages, changed, strict=True):
        message["content"] = other["content"]
    return messages


def last_of(messages: Messages, *roles: str) -> int:
    """The number of the last message with one of these roles, -1 if there is none."""
    return max((number for number, message in enumerate(messages) if message["role"] in roles), default=-1)


def tidied(messages: Messages, other: Callable[[str], str]) -> Messages:
    """Without old thoughts, and with old answers that have none changed by `other`."""
    return [
        {**new, "content": other(new["content"])}
        if new["role"] == "assistant" and "</think>" not in message["content"] and number < last_of(messages, "user")
        else new
        for number, (message, new) in enumerate(zip(messages, stripped_by_hand(messages), strict=True))
    ]


def before_first(messages: Messages, number: int) -> bool:
    users = [n for n, message in enumerate(messages) if message["role"] == "user"]
    return bool(users) and number < users[0]


STRIPPED: dict[str, tuple[Strip, str]] = {
    "nothing": (lambda messages: messages, "nothing is removed."),
    "everywhere": (
        stripping(which=lambda messages, number: True),
        "thoughts after the last question are removed as well. There the model is still at work.",
    ),
    "all but the last": (
        stripping(which=lambda messages, number: number < len(messages) - 1),
        "every message but the last loses its thought. What counts is the last message of the *user*.",
    ),
    "before the first": (
        stripping(which=before_first),
        "only what stands before the *first* message of the user is old here. Take the last one.",
    ),
    "the last answer only": (
        stripping(
            which=lambda messages, number: (
                [n for n, m in enumerate(messages) if m["role"] == "assistant"][-1:] == [number]
                and any(m["role"] == "user" for m in messages[number:])
            )
        ),
        "only the latest message of the assistant loses its thought. All before the last question do.",
    ),
    "line ends left": (
        stripping(after=lambda content: content.rpartition("</think>")[2]),
        "the line ends after `</think>` are left at the start of the answer.",
    ),
    "the tag left": (
        stripping(after=lambda content: "</think>" + content.rpartition("</think>")[2]),
        "`</think>` itself is left.",
    ),
    "empty thought": (
        stripping(after=lambda content: EMPTY + content.rpartition("</think>")[2].lstrip("\n")),
        "an empty thought takes its place. The templates leave nothing.",
    ),
    "stripped at both ends": (
        stripping(after=lambda content: content.rpartition("</think>")[2].strip()),
        "white space at both ends of the answer is removed. Only the line ends after `</think>` go.",
    ),
    "spaces too": (
        stripping(after=lambda content: content.rpartition("</think>")[2].lstrip()),
        "spaces at the start of the answer are removed as well. Only line ends go.",
    ),
    "two line ends": (
        stripping(after=lambda content: content.rpartition("</think>")[2].removeprefix("\n\n")),
        "exactly two line ends are removed. There may be fewer or more.",
    ),
    "the first tag": (
        stripping(after=lambda content: content.partition("</think>")[2].lstrip("\n")),
        "the content is cut at the *first* `</think>`. A thought may have the tag in it: take the last.",
    ),
    "between the first two tags": (
        stripping(after=lambda content: content.split("</think>")[1].lstrip("\n")),
        "of a content with several `</think>`, what stands between the first two is taken. Take what follows the last.",
    ),
    "only with both tags": (
        stripping(after=lambda content: re.sub(r"<think>.*?</think>\n*", "", content, flags=re.DOTALL)),
        "a thought without `<think>` stays, as Thinking-2507 writes it, and one with the tag in it is cut too early.",
    ),
    "the thought kept": (
        stripping(after=lambda content: content.rpartition("</think>")[0]),
        "the thought is kept and the answer removed.",
    ),
    "between the tags": (
        stripping(
            after=lambda content: (
                (content[: content.index("<think>")] + content.rpartition("</think>")[2].lstrip("\n"))
                if "<think>" in content
                else content
            )
        ),
        "a thought without `<think>` stays. Thinking-2507 writes none: its prompt has opened it.",
    ),
    "users too": (
        stripping(roles=("assistant", "user")),
        "messages of the user lose what looks like a thought. They may speak of tags; leave them.",
    ),
    "all roles": (
        stripping(roles=("assistant", "user", "system")),
        "messages of all roles lose what looks like a thought. Only the assistant thinks.",
    ),
    "in place": (in_place, "the argument itself is changed. Make new messages."),
    "messages dropped": (
        lambda messages: [
            message for message in stripped_by_hand(messages) if message["role"] != "assistant" or message["content"]
        ],
        "a message of which nothing is left is removed. It stays, with an empty content.",
    ),
    "answers dropped": (
        lambda messages: [
            message
            for message, new in zip(messages, stripped_by_hand(messages), strict=True)
            if message["content"] == new["content"]
        ],
        "whole messages are removed. Only their thoughts go.",
    ),
    "before an answer": (
        stripping(which=lambda messages, number: number < last_of(messages, "assistant")),
        "what counts here is the last message of the *assistant*. Take the last one of the user.",
    ),
    "before an answer to a user": (
        stripping(which=lambda messages, number: 0 <= last_of(messages, "user") and number < last_of(
            messages, "assistant"
        )),
        "every reply but the last loses its thought. What counts is the last message of the *user*.",
    ),
    "everywhere, after a user": (
        stripping(which=lambda messages, number: last_of(messages, "user") >= 0),
        "thoughts after the last question are removed, too. There the model is still at work.",
    ),
    "before a tool": (
        stripping(which=lambda messages, number: number < last_of(messages, "user", "tool")),
        "the result of a tool counts as a message of the user. The model is still at work, and keeps its thoughts.",
    ),
    "all without a user": (
        stripping(which=lambda messages, number: last_of(messages, "user") == -1 or number < last_of(messages, "user")),
        "without a message of the user, thoughts are removed. Then nothing changes.",
    ),
    "the tag's line": (
        stripping(after=lambda content: re.sub(r".*</think>\n*", "", content)),
        "only the line with `</think>` is removed: the dot of a pattern stops at a line end, unless re.DOTALL is set.",
    ),
    "line ends of every answer": (
        lambda messages: tidied(messages, lambda content: content.lstrip("\n")),
        "an old answer without `</think>` loses the line ends at its start. It stays as it is.",
    ),
    "the place -1": (
        lambda messages: tidied(messages, lambda content: content[len("</think>") - 1 :].lstrip("\n")),
        "an old answer without `</think>` loses its first letters: `find` and `rfind` say -1 if there is none.",
    ),
    "all without a tag": (
        lambda messages: tidied(messages, lambda content: ""),
        "of an old answer without `</think>` nothing is left. It stays as it is.",
    ),
}  # fmt: skip


def in_place_check(strip: Any) -> str | None:
    """A complaint if the argument is changed."""
    messages = [said("user", "a"), said("assistant", "<think>\nb\n</think>\n\nc"), said("user", "d")]
    before = copy.deepcopy(messages)
    strip(messages)
    return None if messages == before else "the messages that were handed in have been changed; make new ones."


def strip_with_split(messages: Messages) -> Messages:
    last = max((n for n, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return [
        dict(m, content=m["content"].split("</think>")[-1].lstrip("\n"))
        if m["role"] == "assistant" and n < last and "</think>" in m["content"]
        else dict(m)
        for n, m in enumerate(messages)
    ]


def strip_as_tuple(messages: Messages) -> Any:
    return tuple(strip_with_split(messages))


def contents(result: Any) -> list[str]:
    return [message["content"] for message in result]


THOUGHT = "<think>\n4+3=7\n</think>\n\n"
EXERCISES = (
    Exercise(
        id="10.1",
        title="Render a conversation",
        kind="fill in",
        minutes=10,
        difficulty=2,
        hints=(
            "Which tokens stand at the beginning and at the end of each turn? And what has the model to go on from?",
            'A turn: "<|im_start|>" + role + "\\n" + content + "<|im_end|>" + "\\n". The opening is the beginning of '
            "such a turn, without content and end.",
            'Join all turns, add "<|im_start|>assistant\\n", and if thinking is False, "<think>\\n\\n</think>\\n\\n".',
        ),
        now_you_know="not thinking is four tokens in the prompt: a thought that is already over.",
        oracle=render_by_hand,
        cases=(
            Case(
                "one question, with thinking",
                ([said("user", "Hi")], True),
                "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
            ),
            Case(
                "one question, without thinking",
                ([said("user", "Hi")], False),
                "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
            ),
            Case("a system prompt", ([said("system", "Be brief."), said("user", "Hi")], True)),
            Case(
                "several turns, without thinking",
                ([said("user", "Hi"), said("assistant", "Hello!"), said("user", "2 + 3?")], False),
            ),
            Case("the same, with thinking", ([said("user", "a"), said("assistant", "b"), said("user", "c")], True)),
            Case("a content with line ends and spaces at its ends", ([said("user", "\n a\nb ")], False)),
            Case("an empty content", ([said("user", "")], True)),
            Case("a long conversation", ([said(("user", "assistant")[n % 2], f"word {n}") for n in range(7)], False)),
        ),
        parts={"the turns": turns_of, "the opening of the reply": opening_of},
        stages=(
            Stage("the turns", lambda messages, thinking: "", "are missing"),
            Stage("the opening of the reply", lambda messages, thinking: "assistant\n", "has no empty thought"),
            Stage(
                "the opening of the reply",
                lambda messages, thinking: opening_of(render_by_hand(messages, thinking)) + END + "\n",
                "is ended with `<|im_end|>`, although the model is to go on from there",
            ),
            Stage("the turns", opened_after_each, "open a reply after each message. It is opened once, at the end"),
        ),
        mutants=RENDERED,
        accepted={"the opening as a turn": render_with_join, "jinja": render_with_jinja, "by hand": render_by_hand},
        teaches=ChatTemplate.render,
    ),
    Exercise(
        id="10.2",
        title="The line ends of a server",
        kind="bug hunt",
        minutes=10,
        difficulty=3,
        hints=(
            "Print the function's result with repr for a thought with line ends at its ends, and count them.",
            'Take away what may be there, then write what has to be there. `str.strip("\\n")` removes line ends only, '
            "`strip()` all white space.",
            'text.lstrip("\\n"); if thought is None or not thought.strip(), that is all. Else "<think>\\n" + '
            'thought.strip("\\n") + "\\n</think>\\n\\n" + text.',
        ),
        now_you_know="two line ends are another token than one: a doubled one leads the model out of all it has seen.",
        oracle=joined_by_hand,
        given=suspicious,
        cases=(
            Case("fields without line ends", ("4+3=7", "7"), "<think>\n4+3=7\n</think>\n\n7"),
            Case("fields with line ends", ("\n4+3=7\n", "\n\n7"), "<think>\n4+3=7\n</think>\n\n7"),
            Case("no thought", (None, "7"), "7"),
            Case("an empty thought", ("", "7"), "7"),
            Case("a thought of white space, and line ends before the text", ("\n\n", "\n\n7"), "7"),
            Case("a thought of spaces", (" \n ", "7"), "7"),
            Case("more line ends than usual", ("\n\n\na\n\n", "\n\n\n\nb"), "<think>\na\n</think>\n\nb"),
            Case("line ends inside stay", ("\na\n\nb\n", "c\n\nd\n"), "<think>\na\n\nb\n</think>\n\nc\n\nd\n"),
            Case("spaces stay", (" a \n", "\n    return 7"), "<think>\n a \n</think>\n\n    return 7"),
            Case("a line end only after the thought", ("a\n", "b"), "<think>\na\n</think>\n\nb"),
            Case("only before it", ("\na", "\nb"), "<think>\na\n</think>\n\nb"),
            Case("no thought, and line ends before the text", (None, "\n\n 7"), " 7"),
            Case("an empty text", ("\na\n", ""), "<think>\na\n</think>\n\n"),
        ),
        parts={
            "what stands before </think>": lambda result: str(result).partition("</think>")[0],
            "what stands after it": lambda result: str(result).partition("</think>")[2],
        },
        stages=(
            Stage(
                "what stands before </think>",
                lambda thought, text: "<think>\n" + thought.removeprefix("\n").removesuffix("\n") + "\n",
                "has lost one line end at each end of the thought. There may be more to take away",
            ),
            Stage(
                "what stands before </think>",
                lambda thought, text: "<think>\n" + re.sub(r"\n+", "\n", thought.strip("\n")) + "\n",
                "has no empty lines any more. Those inside the thought stay",
            ),
            Stage(
                "what stands after it",
                lambda thought, text: "\n\n" + text.removeprefix("\n\n"),
                "is right only if the text begins with two line ends or none. There may be any number",
            ),
        ),
        mutants=JOINED,
        accepted={
            "a head that may be empty": joined_with_or,
            "the library": joined_with_the_library,
            "by hand": joined_by_hand,
        },
        teaches=with_tags,
    ),
    Exercise(
        id="10.8",
        title="Without the old thoughts",
        kind="fill in",
        minutes=10,
        difficulty=3,
        hints=(
            "Find the last message of the user first. What stands before it is old.",
            'Only messages of the assistant with "</think>" change. `content.rpartition("</think>")` cuts at the last '
            "one.",
            'For each old one: {**message, "content": after.lstrip("\\n")}; all others as they are.',
        ),
        now_you_know="the thought of a finished turn is not in the next prompt. What the model found out has to be in "
        "its answer.",
        oracle=stripped_by_hand,
        cases=(
            Case(
                "one answer with a thought, then a question",
                ([said("user", "4 + 3?"), said("assistant", THOUGHT + "7"), said("user", "Thanks")],),
                [said("user", "4 + 3?"), said("assistant", "7"), said("user", "Thanks")],
            ),
            Case(
                "without <think>, as Thinking-2507 writes",
                ([said("user", "a"), said("assistant", "b\n</think>\n\nc"), said("user", "d")],),
                [said("user", "a"), said("assistant", "c"), said("user", "d")],
            ),
            Case("no thought", ([said("user", "a"), said("assistant", "b"), said("user", "c")],)),
            Case(
                "after the last question: still at work",
                ([said("user", "a"), said("assistant", THOUGHT + "b"), said("assistant", THOUGHT + "c")],),
            ),
            Case(
                "two old answers, one new one",
                (
                    [
                        said("user", "a"), said("assistant", THOUGHT + "b"), said("user", "c"),
                        said("assistant", THOUGHT + "d"), said("user", "e"), said("assistant", THOUGHT + "f"),
                    ],
                ),
            ),
            Case(
                "a user and a system prompt that speak of tags",
                (
                    [
                        said("system", "Write <think> and </think>\nalways."),
                        said("user", "What is </think>\n\n for?"), said("assistant", THOUGHT + "It ends."),
                        said("user", "And </think>?"),
                    ],
                ),
            ),
            Case(
                "line ends and spaces of the answer",
                (
                    [
                        said("assistant", "<think>\na\n</think>\n\n\n  b\n\nc \n"), said("user", "d"),
                        said("assistant", "<think>e</think>\nf"), said("user", "g"),
                    ],
                ),
            ),
            Case(
                "the tag inside the thought",
                ([said("user", "a"), said("assistant", "<think>\n</think>?\n</think>\n\nb"), said("user", "c")],),
            ),
            Case(
                "a thought without an answer",
                ([said("user", "a"), said("assistant", "<think>\nb\n</think>\n\n"), said("user", "c")],),
            ),
            Case(
                "a thought that never ended",
                ([said("user", "a"), said("assistant", "<think>\nb b b"), said("user", "c")],),
            ),
            Case(
                "line ends of an answer without a thought",
                ([said("user", "a"), said("assistant", "\n\nb, at length"), said("user", "c")],),
            ),
            Case(
                "the result of a tool: still at work",
                (
                    [
                        said("user", "a"), said("assistant", THOUGHT + "b"), said("user", "c"),
                        said("assistant", THOUGHT + "d"), said("tool", "7"), said("assistant", THOUGHT + "e"),
                    ],
                ),
            ),
            Case("no user at all", ([said("assistant", THOUGHT + "a"), said("assistant", THOUGHT + "b")],)),
            Case("nothing", ([],), []),
        ),
        parts={"the contents": contents},
        stages=(
            Stage(
                "the contents",
                lambda messages: contents(tidied(STRIPPED["spaces too"][0](messages), str.lstrip)),
                "have no spaces at the start of old answers, and no line ends either where there was no thought. Only "
                "the line ends after a thought go",
            ),
        ),
        also=in_place_check,
        mutants=STRIPPED,
        accepted={"split": strip_with_split, "a tuple": strip_as_tuple, "by hand": stripped_by_hand},
    ),
)  # fmt: skip
