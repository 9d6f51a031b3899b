"""Chat templates: rendering a conversation as one text with the checkpoint's own Jinja template.

The output equals that of `apply_chat_template` in the `transformers` library byte for byte. Templates are untrusted
programs: they run in a sandbox that limits their time and memory (`template_sandbox`) and access only plain data.
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
from minimoe.text.tokenizer_files import FIX, as_text

SWITCH = "enable_thinking"
REASONING = ("reasoning_content", "thinking", "reasoning")  # three names of one field in an assistant's message
LONGEST_TEMPLATE = 1_000_000  # characters; published ones have a few thousand
# Limit of the rendered text in characters: ten per byte of the conversation, and a million for the template's own text.
# A tokenizer splits any million characters in a few seconds.
LONGEST_TEXT, TEXT_PER_CHARACTER = 1_000_000, 10
# Exceptions of the template's own code. Others, such as a caller's time-out, are passed on.
FAILURES = (
    TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError, RecursionError,
    MemoryError,
)  # fmt: skip


class ChatTemplate:
    """A compiled template. `name`: its file, for errors. Raises BadTokenizer if it is not valid Jinja."""

    def __init__(self, text: str, name: str):
        self.text, self.name = text, name
        if len(text) > LONGEST_TEMPLATE:
            raise BadTokenizer(
                f"{name}: the chat template has {len(text):,} characters, expected at most {LONGEST_TEMPLATE:,}. {FIX}"
            )
        self.sandbox = Sandbox()
        try:
            tree = self.sandbox.parse(text)
            # an undeclared variable, so a mention in a comment or a string does not count
            self.has_thinking_switch = SWITCH in meta.find_undeclared_variables(tree)
            tree = Metering().visit(tree)
            tree.set_environment(self.sandbox)
            self.compiled = self.sandbox.from_string(tree)
        except (*FAILURES, SyntaxError, TemplateStopped) as error:
            number = getattr(error, "lineno", None)
            line = f", line {number}" if number else ""
            raise BadTokenizer(f"{name}{line}: the chat template is no valid Jinja ({shown(error)}). {FIX}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        thinking: bool | None = None,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        named_tokens: Mapping[str, str] | None = None,
    ) -> str:
        """The conversation as one str, ready for `encode`.

        `tools`: JSON schemas. `named_tokens`: variables such as "eos_token". Raises as `Tokenizer.chat` does.
        """
        if thinking is not None and not isinstance(thinking, bool):
            raise BadArgument(f"thinking is {thinking!r}, expected True, False or None (let the template decide).")
        if thinking is not None and not self.has_thinking_switch:
            raise NoThinkingSwitch(
                f"thinking={thinking} was requested, but the chat template in {self.name} has no {SWITCH}: "
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
            location = self.last_read_location(conversation)
            parsed = with_parsed_arguments(conversation["messages"])
            if parsed is not None:
                try:
                    return self.run(variables, conversation | {"messages": parsed})
                except FAILURES:
                    pass  # the arguments were not the cause
            raise BadArgument(
                f"messages: the chat template in {self.name} cannot render them: {shown(error)}{location}"
            ) from error

    def run(self, variables: dict[str, Any], conversation: dict[str, Any]) -> str:
        """The rendered text. Raises BadTokenizer if the template is stopped; the template's own errors pass through."""
        budget = self.sandbox.budget
        conversation_bytes = budget.begin(conversation)
        try:
            text = self.compiled.render(variables | conversation)
        except TemplateStopped as error:
            raise BadTokenizer(
                f"{self.name}: the chat template was stopped, because {error}. A conversation of "
                f"{conversation_bytes:,} bytes does not need that. {FIX}"
            ) from error
        longest = LONGEST_TEXT + TEXT_PER_CHARACTER * conversation_bytes
        if len(text) > longest:
            raise BadTokenizer(
                f"{self.name}: the chat template makes {len(text):,} characters of a conversation of "
                f"{conversation_bytes:,} bytes, expected at most {longest:,}. {FIX}"
            )
        return text

    def end_of_turn(self, special: Iterable[str], named_tokens: Mapping[str, str]) -> str | None:
        """The special token after the assistant's text, None if there is none or it cannot be determined.

        Determined by rendering a small conversation. `special`: the texts of the tokenizer's special tokens.
        """
        reply = "words of the assistant"
        conversation = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": reply}]
        try:
            text = self.render(conversation, add_generation_prompt=False, named_tokens=named_tokens)
        except MinimoeError:
            return None  # a template for other conversations only; its error is reported when one is rendered
        _, separator, after = text.rpartition(reply)
        longest_first = sorted(special, key=len, reverse=True) if separator else []
        return next((token for token in longest_first if after.lstrip().startswith(token)), None)

    def last_read_location(self, conversation: dict[str, Any]) -> str:
        """A sentence that names the value of the conversation that the template read last."""
        container, key = self.sandbox.budget.last_read
        for where, value in walk(conversation):
            if value is container:
                item = value.get(key) if isinstance(value, dict) else None
                kind = "absent" if item is None else f"a {type(item).__name__}"
                expected = ", expected an object or the JSON text of one" if key == "arguments" else ""
                return f" It was reading {where}[{json.dumps(str(key)[:40])}], which is {kind}{expected}."
        return ""


def walk(value: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dict in plain data with its path: `messages[1]["tool_calls"][0]`."""
    if isinstance(value, dict):
        yield where, value
        for key, item in value.items():
            yield from walk(item, f"{where}[{json.dumps(key)}]" if where else key)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from walk(item, f"{where}[{number}]")


def with_parsed_arguments(messages: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The messages with the arguments of tool calls parsed to objects; None if no arguments are JSON text.

    Clients of OpenAI's protocol send the arguments as JSON text. Some templates print that text unchanged, so it is
    tried first; others iterate over the arguments.
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
    """The message of an error, shortened, since a template can choose it."""
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    text = str(error) or type(error).__name__
    return text if len(text) <= 500 else text[:500] + " ..."


def check_messages(messages: Any) -> list[dict[str, Any]]:
    """A plain copy of the messages for the template. Raises BadArgument for the first malformed message."""
    expected = 'a list of {"role": "user", "content": "..."}'
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise BadArgument(f"messages is {type(messages).__name__}, expected {expected}.")
    if not messages:
        raise BadArgument(f"messages is empty, expected {expected}.")
    checked = []
    for number, raw in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(raw, Mapping):
            raise BadArgument(f"{where} is {type(raw).__name__}, expected {expected}.")
        # None means absent: some clients send "tool_calls": None, and a template would print "None"
        try:
            message = plain_data({key: value for key, value in raw.items() if value is not None}, where)
        except RecursionError as error:
            raise BadArgument(f"{where} nests too deeply, or contains itself.") from error
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
    """A copy of dict, list, str and numbers only, so that a template cannot access methods of other objects."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str(key): plain_data(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item, where) for item in value]
    raise BadArgument(
        f"{where} holds a {type(value).__name__}, expected JSON data: str, numbers, lists, dicts."
    )


def pick_template(files: dict[str, bytes], settings: dict[str, Any], directory: Path) -> dict[str, ChatTemplate]:
    """The checkpoint's templates by name, {} if it has none.

    `chat_template.jinja` takes precedence over `chat_template` in tokenizer_config.json, which is one text or a list
    of {"name", "template"}.
    """
    if "chat_template.jinja" in files:
        file = "chat_template.jinja"
        return {"default": ChatTemplate(as_text(files, directory, file), str(directory / file))}
    template, name = settings.get("chat_template"), str(directory / "tokenizer_config.json")
    if template is None:
        return {}
    if isinstance(template, str):
        return {"default": ChatTemplate(template, name)}
    try:
        return {str(entry["name"]): ChatTemplate(str(entry["template"]), name) for entry in template}
    except (KeyError, TypeError) as error:
        raise BadTokenizer(f"{name}: chat_template is neither text nor a list of name and template. {FIX}") from error
