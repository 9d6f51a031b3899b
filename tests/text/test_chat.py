"""Chat templates: equal to `transformers` byte for byte; the mini's own also to a plain function."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from minimoe.errors import BadArgument, BadTokenizer, NoThinkingSwitch
from minimoe.paths import checkout
from minimoe.text.chat import ChatTemplate
from minimoe.text.tokenizer import Tokenizer
from tests.text.tiny import settings, write_tokenizer

HERE = Path(__file__).parent
Messages = list[dict[str, Any]]


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "<é & '\"世>"}}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds <two> numbers & more, 加法",
            "parameters": {
                "type": "object",
                "properties": {
                    "a": {"type": "number", "description": " the first ", "minimum": 0},
                    "b": {"type": ["number", "string"], "enum": [1, "x"], "anyOf": {"k": None}},
                },
                "required": ["a"],
            },
        },
    }
]
THOUGHT = "<think>\nLet me see. 让我想想\n</think>\n\n"
CONVERSATIONS: dict[str, Messages] = {
    "one question": [user("Hi")],
    "system": [{"role": "system", "content": "Be brief."}, user("Hi")],
    "several turns": [user("2+2?"), assistant("4"), user("And 3+3?"), assistant("6"), user("Thanks")],
    "history with thinking": [user("2+2?"), assistant(THOUGHT + "4"), user("Sure?"), assistant(THOUGHT + "Yes.")],
    "thinking as a field": [user("a"), assistant("b", reasoning_content="c"), user("d"), assistant("e", thinking="f")],
    "thinking without a tag in front": [user("a"), assistant("so so\n</think>\n\n\n4")],
    "a call": [user("add"), assistant(THOUGHT, tool_calls=[CALL]), {"role": "tool", "content": "3 <ok>"}],
    "two calls, two results": [
        user("add"),
        assistant("I will.", tool_calls=[CALL, CALL]),
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        assistant(THOUGHT + "Both are done."),
        user("Thanks"),
    ],
    "no content beside a call": [user("add"), {"role": "assistant", "content": None, "tool_calls": [CALL]}],
    "a field of no value": [user("a"), assistant("b", tool_calls=None, reasoning_content=None)],
    "a wrapped tool result": [user("q"), assistant(THOUGHT + "x"), user("<tool_response>\n1\n</tool_response>")],
    "unicode": [user("👨‍👩‍👧 你好 e\u0301 <b>&amp;</b> \u2028 {{ 1 }} {% x %}"), assistant("\n\n  \t好 ")],
    "soft switch is text": [user("Hi /no_think")],
}  # fmt: skip


@cache
def their_tokenizer(template: str) -> PreTrainedTokenizerFast:
    known = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=Backend(BPE()), chat_template=template, **known)


def theirs(template: str, messages: Messages, **arguments: Any) -> str:
    """The rendering of `transformers`."""
    return their_tokenizer(template).apply_chat_template(messages, tokenize=False, **arguments)


def ours(directory: Path, messages: Messages, **arguments: Any) -> str:
    return Tokenizer.from_directory(directory).chat(messages, **arguments)


@cache
def mini_template() -> str:
    return (checkout() / "data" / "mini" / "chat_template.jinja").read_text(encoding="utf-8")


def hybrid_template() -> str:
    return (HERE / "hybrid.jinja").read_text(encoding="utf-8")


@cache
def our_mini() -> ChatTemplate:
    return ChatTemplate(mini_template(), "mini")


@pytest.mark.parametrize("write", [mini_template, hybrid_template])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_rendering_equals_transformers(name: str, write: Any, tmp_path: Path) -> None:
    template, messages = write(), CONVERSATIONS[name]
    tokenizer = Tokenizer.from_directory(write_tokenizer(tmp_path, template))
    assert tokenizer.has_thinking_switch
    for prompt in (True, False):
        for tools in (None, [], TOOLS):
            for thinking in (None, True, False):
                switch = {} if thinking is None else {"enable_thinking": thinking}
                rendered = tokenizer.chat(messages, thinking=thinking, add_generation_prompt=prompt, tools=tools)
                assert rendered == theirs(template, messages, tools=tools, add_generation_prompt=prompt, **switch)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_real_coder_template_equals_transformers(name: str, reference: Path) -> None:
    raw = json.loads((reference / "Qwen3-Coder-30B-A3B-Instruct" / "tokenizer_config.json").read_text(encoding="utf-8"))
    template, messages = ChatTemplate(raw["chat_template"], "coder"), CONVERSATIONS[name]
    for prompt in (True, False):
        for tools in (None, TOOLS):
            rendered = template.render(messages, add_generation_prompt=prompt, tools=tools)
            assert rendered == theirs(raw["chat_template"], messages, tools=tools, add_generation_prompt=prompt)


tags = ["<think>", "</think>", "\n", "<tool_response>", "</tool_response>", "x"]
texts = st.text(max_size=12) | st.sampled_from(tags)
contents = st.lists(texts, max_size=5).map("".join) | st.just("<tool_response>\n1\n</tool_response>")
results = st.builds(dict, role=st.just("tool"), content=contents)
turns = st.builds(user, contents) | st.builds(assistant, contents) | results


@given(messages=st.lists(turns, min_size=1, max_size=6), thinking=st.sampled_from([None, True, False]))
def test_any_conversation_equals_transformers(messages: Messages, thinking: bool | None) -> None:
    switch = {} if thinking is None else {"enable_thinking": thinking}
    rendered = our_mini().render(messages, thinking)
    assert rendered == theirs(mini_template(), messages, add_generation_prompt=True, **switch)
    assert rendered == by_hand(messages, thinking)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_mini_template_equals_plain_python(name: str) -> None:
    messages = CONVERSATIONS[name]
    if any(message.get("tool_calls") or "reasoning_content" in message for message in messages):
        messages = [message for message in messages if message["role"] == "user"]
    for thinking in (None, True, False):
        assert our_mini().render(messages, thinking) == by_hand(messages, thinking)


def by_hand(messages: Messages, thinking: bool | None) -> str:
    """The mini's template without tools, as plain Python: the documented behaviour of the April 2025 templates."""
    questions = [
        n for n, m in enumerate(messages)
        if m["role"] == "user"
        and not (m["content"].startswith("<tool_response>") and m["content"].endswith("</tool_response>"))
    ]  # fmt: skip
    last_question = questions[-1] if questions else len(messages) - 1
    text = ""
    for n, message in enumerate(messages):
        content = message["content"]
        if message["role"] == "tool":
            first = n == 0 or messages[n - 1]["role"] != "tool"
            final = n + 1 == len(messages) or messages[n + 1]["role"] != "tool"
            text += ("<|im_start|>user" if first else "") + f"\n<tool_response>\n{content}\n</tool_response>"
            text += "<|im_end|>\n" if final else ""
            continue
        if message["role"] == "assistant":
            before, tag, _ = content.partition("</think>")
            thought = before.rpartition("<think>")[2].strip("\n") if tag else ""
            raw_thought = before.rpartition("<think>")[2] if tag else ""
            content = content.rpartition("</think>")[2].lstrip("\n") if tag else content
            if n > last_question and (raw_thought or n == len(messages) - 1):
                content = f"<think>\n{thought}\n</think>\n\n" + content.lstrip("\n")
        text += f"<|im_start|>{message['role']}\n{content}<|im_end|>\n"
    return text + "<|im_start|>assistant\n" + ("<think>\n\n</think>\n\n" if thinking is False else "")


def test_the_mini_template_equals_that_of_the_family() -> None:
    mini = our_mini()
    question = [user("Hi")]
    opening = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert mini.render(question) == mini.render(question, thinking=True) == opening
    assert mini.render(question, thinking=False) == opening + "<think>\n\n</think>\n\n"
    # an answered turn forgets its thinking, a turn that waits for a tool keeps it
    history = [user("a"), assistant(THOUGHT + "b"), user("c"), assistant(THOUGHT, tool_calls=[CALL])]
    rendered = mini.render([*history, {"role": "tool", "content": "3"}])
    assert "<|im_start|>assistant\nb<|im_end|>" in rendered
    assert "<think>\nLet me see. 让我想想\n</think>\n\n<tool_call>\n" in rendered
    assert "<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>\n" in rendered


@pytest.mark.parametrize(
    ("template", "has_switch"),
    [
        ("{% if enable_thinking is defined and enable_thinking is false %}x{% endif %}", True),
        ("{% if enable_thinking is undefined %}{% set enable_thinking = 1 %}{% endif %}{{ enable_thinking }}", True),
        ("{% macro f() %}{{ enable_thinking }}{% endmacro %}{{ f() }}", True),
        ("{# enable_thinking #}{{ 'enable_thinking' }}", False),
        ("{% set enable_thinking = true %}{{ enable_thinking }}", False),
        ("{{ messages[0].enable_thinking }}", False),
        ("enable_thinking", False),
    ],
)  # fmt: skip
def test_the_switch_is_a_variable_that_the_template_reads(template: str, has_switch: bool, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_directory(write_tokenizer(tmp_path, template))
    assert tokenizer.has_thinking_switch is has_switch
    tokenizer.chat([user("a")], thinking=None)
    for thinking in (True, False):
        if has_switch:
            tokenizer.chat([user("a")], thinking=thinking)
        else:
            with pytest.raises(NoThinkingSwitch, match=rf"thinking={thinking} .*chat_template\.jinja has no enable"):
                tokenizer.chat([user("a")], thinking=thinking)


def test_thinking_none_sets_no_variable() -> None:
    template = ChatTemplate("{{ enable_thinking is defined }}{{ tools is defined }}{{ documents is defined }}", "t")
    assert template.render([user("a")]) == "FalseTrueTrue"
    assert template.render([user("a")], thinking=False) == "TrueTrueTrue"


def test_the_jinja_file_takes_precedence_and_a_list_is_selected_by_name(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "from the file")
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools | length }} tools"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings() | {"chat_template": named}))
    assert ours(tmp_path, [user("a")]) == "from the file"
    (tmp_path / "chat_template.jinja").unlink()
    assert ours(tmp_path, [user("a")]) == "plain"
    assert ours(tmp_path, [user("a")], tools=TOOLS) == "1 tools"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings() | {"chat_template": "one text"}))
    assert ours(tmp_path, [user("a")], tools=TOOLS) == "one text"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings() | {"chat_template": named[1:]}))
    with pytest.raises(BadTokenizer, match="no chat template named default among tool_use"):
        ours(tmp_path, [user("a")])
    for odd in (3, [3], [{"name": "default"}], {"default": "x"}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings() | {"chat_template": odd}))
        with pytest.raises(BadTokenizer, match=r"tokenizer_config\.json: chat_template is neither"):
            Tokenizer.from_directory(tmp_path)


def test_without_a_template_only_chat_is_refused(tmp_path: Path) -> None:
    (write_tokenizer(tmp_path) / "chat_template.jinja").unlink()
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert tokenizer.encode("a") == [ord("a")] and not tokenizer.has_thinking_switch
    with pytest.raises(BadTokenizer, match="no chat template"):
        tokenizer.chat([user("a")])


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages is empty"),
        ("Hi", "messages is str"),
        (None, "messages is NoneType"),
        ({"role": "user", "content": "a"}, "messages is dict"),
        (["Hi"], r"messages\[0\] is str"),
        ([user("a"), {"content": "b"}], r'messages\[1\] has no "role"'),
        ([{"role": 3, "content": "b"}], r'messages\[0\] has no "role"'),
        ([{"role": "user"}], r'messages\[0\]\["content"\] is NoneType'),
        ([{"role": "user", "content": ["a"]}], r'messages\[0\]\["content"\] is list'),
        ([user("a") | {"image": object()}], r"messages\[0\] holds a object"),
        ([user("a") | {"deep": [{"x": {1: 2}}]}], r"messages\[0\] holds a dict"),
        ([{"role": "wizard", "content": "a"}], "the role is wizard, expected system, user"),
    ],
)
def test_malformed_messages_are_named(tiny: Tokenizer, messages: Any, message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        tiny.chat(messages)


@pytest.mark.parametrize("thinking", ["yes", 1, 0])
def test_thinking_is_true_false_or_none(tiny: Tokenizer, thinking: Any) -> None:
    with pytest.raises(BadArgument, match="thinking is"):
        tiny.chat([user("a")], thinking=thinking)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__.keys() }}",
        "{{ 1 // 0 }}",
        "{{ messages[0].content + 1 }}",
        "{{ nothing.at_all }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_malicious_template_has_no_access_and_raises_bad_argument(template: str) -> None:
    with pytest.raises(BadArgument, match=r"the chat template in t\.jinja cannot render them"):
        ChatTemplate(template, "t.jinja").render([user("a")])


def test_the_callers_messages_are_not_modified(tiny: Tokenizer) -> None:
    messages = [user("a"), assistant("b", thinking="c", name=None)]
    before = json.dumps(messages)
    tiny.chat(messages)
    assert json.dumps(messages) == before


# ---------------------------------------------------------------- where a rendering failed

WALKS_THROUGH_ARGUMENTS = (
    "{% for m in messages %}{{ m.role }}:{{ m.content }};{% for c in m.tool_calls or [] %}"
    "{% for name, value in c.function.arguments | items %}{{ name }}={{ value }};{% endfor %}{% endfor %}{% endfor %}"
)


def calling(arguments: Any) -> Messages:
    call = {"type": "function", "function": {"name": "add", "arguments": arguments}}
    return [user("3 + 4"), assistant("", tool_calls=[CALL]), assistant("", tool_calls=[CALL, call])]


def test_arguments_as_json_text_are_parsed_for_templates_that_iterate_over_them() -> None:
    """Clients of OpenAI's protocol send them back as text."""
    template = ChatTemplate(WALKS_THROUGH_ARGUMENTS, "t.jinja")
    as_text = template.render(calling('{"a": 3, "b": {"arguments": "[1]"}}'))
    assert as_text == template.render(calling({"a": 3, "b": {"arguments": "[1]"}}))
    assert as_text.endswith("a=3;b={'arguments': '[1]'};")


def test_the_real_coder_template_accepts_arguments_as_text(reference: Path) -> None:
    raw = json.loads((reference / "Qwen3-Coder-30B-A3B-Instruct" / "tokenizer_config.json").read_text(encoding="utf-8"))
    template = ChatTemplate(raw["chat_template"], "coder")
    as_object = theirs(raw["chat_template"], calling({"a": [1, "世"]}), tools=TOOLS)
    assert template.render(calling('{"a":[1,"世"]}'), tools=TOOLS, add_generation_prompt=False) == as_object


@pytest.mark.parametrize("write", [mini_template, hybrid_template])
def test_arguments_as_text_equal_transformers_for_templates_that_print_them(write: Any) -> None:
    template, messages = write(), calling('{"a":3}')
    assert ChatTemplate(template, "t").render(messages) == theirs(template, messages, add_generation_prompt=True)


@pytest.mark.parametrize("arguments", ["a = 3", '{"a": 3', "[1]", "3", 3])
def test_arguments_that_are_not_an_object_are_named(arguments: Any) -> None:
    place = r'messages\[2\]\["tool_calls"\]\[1\]\["function"\]\["arguments"\]'
    with pytest.raises(BadArgument, match=f"cannot render them: .*{place}, which is a.* expected an object or "):
        ChatTemplate(WALKS_THROUGH_ARGUMENTS, "t.jinja").render(calling(arguments))


@pytest.mark.parametrize(
    ("template", "place"),
    [
        ("{% for m in messages %}{{ 1 + m.content if m.role == 'user' }}{% endfor %}", 'messages[1]["content"], which'),
        ("{% for m in messages %}{{ m.name + 'x' }}{% endfor %}", 'messages[0]["name"], which is absent'),
        ("{% for m in messages %}{{ m['extra']['deep'][0] }}{% endfor %}", 'messages[0]["extra"], which is absent'),
        ("{{ tools[0].function.name + 1 }}", 'tools[0]["function"]["name"], which is a str'),
        ("{% for m in messages %}{% if m.role != 'assistant' %}{{ raise_exception('no') }}{% endif %}{% endfor %}",
         'messages[1]["role"], which is a str'),
    ],
)  # fmt: skip
def test_the_message_that_a_template_fails_at_is_named(template: str, place: str) -> None:
    messages = [assistant("a"), user("b"), assistant("c")]
    with pytest.raises(BadArgument) as caught:
        ChatTemplate(template, "t").render(messages, tools=TOOLS)
    assert f"It was reading {place}" in str(caught.value)


def test_messages_that_nest_too_deeply_are_refused(tiny: Tokenizer) -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    knot: dict[str, Any] = {}
    knot["knot"] = knot
    for value in (deep, knot):
        with pytest.raises(BadArgument, match=r"messages\[1\] nests too deeply"):
            tiny.chat([user("a"), user("b") | {"extra": value}])


def test_long_conversations_equal_transformers(reference: Path) -> None:
    """A million characters, two thousand messages: far below the limits."""
    file = reference / "Qwen3-Coder-30B-A3B-Instruct" / "tokenizer_config.json"
    coder = json.loads(file.read_text(encoding="utf-8"))
    long = [user("你好 hello " * 50_000), assistant(THOUGHT + "text " * 100_000, tool_calls=[CALL])]
    many = [turn for n in range(1_000) for turn in (user(f"{n}?"), assistant(THOUGHT + f"{n}!"))]
    for template in (mini_template(), hybrid_template(), coder["chat_template"]):
        for messages in (long, many):
            rendered = ChatTemplate(template, "t").render(messages, tools=TOOLS)
            assert rendered == theirs(template, messages, tools=TOOLS, add_generation_prompt=True)
