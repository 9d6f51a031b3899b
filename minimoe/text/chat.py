"""Chat templates: how a conversation becomes one text. The template is the checkpoint's own, written in Jinja.

What comes out equals `apply_chat_template` of the `transformers` library byte for byte. Templates are programs from
strangers: they run in a sandbox that limits their time and memory (`template_sandbox`) and see nothing but plain data.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, meta

from minimoe.errors import BadArgument, BadTokenizer, MinimoeError, NoThinkingSwitch
from minimoe.text.template_budget import TemplateStopped
from minimoe.text.template_metering import Metering
from minimoe.text.template_sandbox import Sandbox
from minimoe.text.tokenizer_files import MEND, as_text

SWITCH = "enable_thinking"
REASONING = ("reasoning_content", "thinking", "reasoning")  # three names for the same field of an assistant's message
LONGEST_TEMPLATE = 1_000_000  # characters; published ones have some thousands
# Characters that may be rendered: ten times the bytes of the conversation, and a million for the template's own words.
# A tokenizer cuts a million characters in a few seconds, whatever they are.
LONGEST_TEXT, TEXT_PER_CHARACTER = 1_000_000, 10
# What a template's own code can raise. Other exceptions, such as a time-out set by the caller, are not about it.
FAILURES = (
    TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError, RecursionError,
    MemoryError,
)  # fmt: skip


class ChatTemplate:
    """One compiled template. `name` is its file, for errors. Raises BadTokenizer if it is no valid Jinja."""

    def __init__(self, text: str, name: str):
        self.text, self.name = text, name
        if len(text) > LONGEST_TEMPLATE:
            raise BadTokenizer(
                f"{name}: the chat template has {len(text):,} characters, expected at most {LONGEST_TEMPLATE:,}. {MEND}"
            )
        self.sandbox = Sandbox()
        try:
            tree = self.sandbox.parse(text)
            # a variable that the template reads but never sets; a mention in a comment or a string is no switch
            self.has_thinking_switch = SWITCH in meta.find_undeclared_variables(tree)
            tree = Metering().visit(tree)
            tree.set_environment(self.sandbox)
            self.compiled = self.sandbox.from_string(tree)
        except (*FAILURES, SyntaxError, TemplateStopped) as error:
            number = getattr(error, "lineno", None)
            line = f", line {number}" if number else ""
            raise BadTokenizer(f"{name}{line}: the chat template is no valid Jinja ({shown(error)}). {MEND}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        thinking: bool | None = None,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        named_tokens: Mapping[str, str] | None = None,
    ) -> str:
        """The whole conversation as one str, ready for `encode`.

        `tools` are JSON schemas; `named_tokens` are variables such as "eos_token". Raises as `Tokenizer.chat` does.
        """
        if thinking is not None and not isinstance(thinking, bool):
            raise BadArgument(f"thinking is {thinking!r}, expected True, False or None (let the template decide).")
        if thinking is not None and not self.has_thinking_switch:
            raise NoThinkingSwitch(
                f"thinking={thinking} was asked for, but the chat template in {self.name} has no {SWITCH}: "
                "this checkpoint either always thinks or never does. Leave thinking=None."
            )
        conversation: dict[str, Any] = {
            "messages": check_messages(messages),
            "tools": None if tools is None else plain_data(list(tools), "tools"),
        }
        variables: dict[str, Any] = dict(named_tokens or {})
        if thinking is not None:
            variables[SWITCH] = thinking
        variables |= {"documents": None, "add_generation_prompt": bool(add_generation_prompt)}
        try:
            return self.run(variables, conversation)
        except FAILURES as error:
            place = self.place(conversation)
            parsed = with_parsed_arguments(conversation["messages"])
            if parsed is not None:
                try:
                    return self.run(variables, conversation | {"messages": parsed})
                except FAILURES:
                    pass  # the arguments were not the reason
            raise BadArgument(
                f"messages: the chat template in {self.name} cannot render them: {shown(error)}{place}"
            ) from error

    def run(self, variables: dict[str, Any], conversation: dict[str, Any]) -> str:
        """The text. Raises BadTokenizer if the template is stopped, and whatever it raises itself."""
        budget = self.sandbox.budget
        given = budget.begin(conversation)
        try:
            text = self.compiled.render(variables | conversation)
        except TemplateStopped as error:
            raise BadTokenizer(
                f"{self.name}: the chat template was stopped, because {error}. A conversation of {given:,} bytes does "
                f"not need that. {MEND}"
            ) from error
        longest = LONGEST_TEXT + TEXT_PER_CHARACTER * given
        if len(text) > longest:
            raise BadTokenizer(
                f"{self.name}: the chat template makes {len(text):,} characters of a conversation of {given:,} bytes, "
                f"expected at most {longest:,}. {MEND}"
            )
        return text

    def end_of_turn(self, special: Iterable[str], named_tokens: Mapping[str, str]) -> str | None:
        """The special token that follows the assistant's words, None if there is none or it cannot be told.

        Found by rendering a small conversation. `special`: the texts of the tokenizer's special tokens.
        """
        words = "words of the assistant"
        conversation = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": words}]
        try:
            text = self.render(conversation, add_generation_prompt=False, named_tokens=named_tokens)
        except MinimoeError:
            return None  # a template that takes other conversations only; whoever renders one is told why it fails
        _, found, behind = text.rpartition(words)
        longest_first = sorted(special, key=len, reverse=True) if found else []
        return next((token for token in longest_first if behind.lstrip().startswith(token)), None)

    def place(self, conversation: dict[str, Any]) -> str:
        """Where in the conversation the template was when it failed, as a sentence."""
        container, key = self.sandbox.budget.last_read
        for where, value in walk(conversation):
            if value is container:
                found = value.get(key) if isinstance(value, dict) else None
                kind = "absent" if found is None else f"a {type(found).__name__}"
                wanted = ", expected an object or the JSON text of one" if key == "arguments" else ""
                return f" It was reading {where}[{json.dumps(str(key)[:40])}], which is {kind}{wanted}."
        return ""


def walk(value: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dict in plain data with its place: `messages[1]["tool_calls"][0]`."""
    if isinstance(value, dict):
        yield where, value
        for key, item in value.items():
            yield from walk(item, f"{where}[{json.dumps(key)}]" if where else key)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from walk(item, f"{where}[{number}]")


def with_parsed_arguments(messages: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The messages with the arguments of tool calls as objects, None if they already are.

    Programs that speak OpenAI's protocol write the arguments as JSON text. Some templates take the text as it is, so
    that is tried first; others go through the arguments one by one.
    """
    changed = False
    copied: list[dict[str, Any]] = json.loads(json.dumps(messages))
    for message in copied:
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            for holder in (call, call.get("function")) if isinstance(call, dict) else ():
                if isinstance(holder, dict) and isinstance(holder.get("arguments"), str):
                    try:
                        holder["arguments"] = json.loads(holder["arguments"])
                        changed = True
                    except (ValueError, RecursionError):
                        pass
    return copied if changed else None


def shown(error: BaseException) -> str:
    """An error's own words, not too many of them: a template chooses them."""
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    text = str(error) or type(error).__name__
    return text if len(text) <= 500 else text[:500] + " ..."


def check_messages(messages: Any) -> list[dict[str, Any]]:
    """A plain copy of the messages for the template. Raises BadArgument naming the first one that is malformed."""
    expected = 'a list of {"role": "user", "content": "..."}'
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise BadArgument(f"messages is {type(messages).__name__}, expected {expected}.")
    if not messages:
        raise BadArgument(f"messages is empty, expected {expected}.")
    checked = []
    for number, given in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(given, Mapping):
            raise BadArgument(f"{where} is {type(given).__name__}, expected {expected}.")
        # None means absent: other programs send "tool_calls": None, and a template would print the word
        try:
            message = plain_data({key: value for key, value in given.items() if value is not None}, where)
        except RecursionError as error:
            raise BadArgument(f"{where} nests too deeply, or holds itself.") from error
        if not isinstance(message.get("role"), str):
            raise BadArgument(f'{where} has no "role", expected one such as "system", "user" or "assistant".')
        if not isinstance(message.get("content"), str) and not ("content" not in message and "tool_calls" in message):
            raise BadArgument(
                f'{where}["content"] is {type(message.get("content")).__name__}, expected str (the text of this turn).'
            )
        reasoning = next((message[key] for key in REASONING if key in message), None)
        if reasoning is not None:
            message = {"thinking": reasoning} | message | {"reasoning_content": reasoning}
        checked.append(message)
    return checked


def plain_data(value: Any, where: str) -> Any:
    """A copy made of dict, list, str and numbers only, so that a template can reach no other object's methods."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str(key): plain_data(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item, where) for item in value]
    raise BadArgument(
        f"{where} holds a {type(value).__name__}, expected what JSON can say: str, numbers, lists, dicts."
    )


def pick_template(files: dict[str, bytes], settings: dict[str, Any], directory: Path) -> dict[str, ChatTemplate]:
    """The checkpoint's templates by name, {} if it has none.

    `chat_template.jinja` wins over `chat_template` in tokenizer_config.json, which is one text or a list of
    {"name", "template"}.
    """
    if "chat_template.jinja" in files:
        file = "chat_template.jinja"
        return {"default": ChatTemplate(as_text(files, directory, file), str(directory / file))}
    found, name = settings.get("chat_template"), str(directory / "tokenizer_config.json")
    if found is None:
        return {}
    if isinstance(found, str):
        return {"default": ChatTemplate(found, name)}
    try:
        return {str(entry["name"]): ChatTemplate(str(entry["template"]), name) for entry in found}
    except (KeyError, TypeError) as error:
        raise BadTokenizer(f"{name}: chat_template is neither text nor a list of name and template. {MEND}") from error
