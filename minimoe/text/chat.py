"""Chat templates: how a conversation becomes one text. The template is the checkpoint's own, written in Jinja.

Templates are programs from strangers, so they run in Jinja's immutable sandbox and see nothing but plain data. What
comes out equals `apply_chat_template` of the `transformers` library byte for byte.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from minimoe.errors import BadArgument, BadTokenizer, NoThinkingSwitch
from minimoe.text.tokenizer_files import MEND, as_text

SWITCH = "enable_thinking"
REASONING = ("reasoning_content", "thinking", "reasoning")  # three names for the same field of an assistant's message


class Generation(Extension):
    """`{% generation %}` marks what the assistant wrote, for training masks; its content is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012  (the base class declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def refuse(message: str) -> None:
    """`raise_exception` in a template: it does not accept the conversation."""
    raise TemplateError(message)


def to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own filter would escape < and > for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment() -> ImmutableSandboxedEnvironment:
    """A fresh sandbox with the names and the white-space rules that chat templates count on."""
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    sandbox.filters["tojson"] = to_json
    sandbox.globals["raise_exception"] = refuse
    sandbox.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return sandbox


class ChatTemplate:
    """One compiled template. `name` is its file, for errors. Raises BadTokenizer if it is no valid Jinja."""

    def __init__(self, text: str, name: str):
        self.text, self.name = text, name
        sandbox = environment()
        try:
            # a variable that the template reads but never sets; a mention in a comment or a string is no switch
            self.has_thinking_switch = SWITCH in meta.find_undeclared_variables(sandbox.parse(text))
            self.compiled = sandbox.from_string(text)
        except (TemplateError, RecursionError, SyntaxError) as error:
            number = getattr(error, "lineno", None)
            line = f", line {number}" if number else ""
            raise BadTokenizer(f"{name}{line}: the chat template is no valid Jinja ({error}). {MEND}") from error

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
        variables: dict[str, Any] = dict(named_tokens or {})
        if thinking is not None:
            variables[SWITCH] = thinking
        variables |= {
            "messages": check_messages(messages),
            "tools": None if tools is None else plain_data(list(tools), "tools"),
            "documents": None,
            "add_generation_prompt": bool(add_generation_prompt),
        }
        try:
            return self.compiled.render(**variables)
        except Exception as error:  # whatever a stranger's program may raise
            raise BadArgument(f"messages: the chat template in {self.name} cannot render them: {error}") from error


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
        message = plain_data({key: value for key, value in given.items() if value is not None}, where)
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
