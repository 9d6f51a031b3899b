"""/think and /no_think in a message, and the lines of a conversation that begin with a slash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimoe.commands import conversation
from minimoe.commands.soft_switch import split_switch
from minimoe.errors import NoThinkingSwitch
from minimoe.text.tokenizer import Tokenizer
from tests.commands.test_cli import run


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("/no_think What is 2 + 3?", (False, "What is 2 + 3?")),
        ("/think\nWhat is 2 + 3?", (True, "What is 2 + 3?")),
        ("Then, how many r's in blueberries? /no_think", (False, "Then, how many r's in blueberries?")),
        ("/think Really? /no_think", (False, "Really?")),
        ("/no_think", (False, "")),
        (" /think ", (True, "")),
        ("/thinking aloud", (None, "/thinking aloud")),
        ("/no_think_tank?", (None, "/no_think_tank?")),
        ("a/think", (None, "a/think")),
        ("What does /no_think mean?", (None, "What does /no_think mean?")),
        ("/etc/hosts, what is it?", (None, "/etc/hosts, what is it?")),
    ],
)
def test_a_switch_at_the_start_or_the_end(message, expected):
    assert split_switch(message) == expected


@given(st.text(alphabet="a/_ \nthinko"))
def test_a_message_without_a_switch_is_unchanged(text):
    switch, message = split_switch(text)
    assert (switch is None) == (message == text)
    assert message in text


@pytest.fixture
def calls(monkeypatch):
    """(question, thinking) of each call of `generate`, which is replaced and answers "yes"."""
    seen = []

    def generate(model, tokenizer, messages, **settings):
        seen.append((messages[-1]["content"], settings["thinking"]))
        yield "yes"

    monkeypatch.setattr(conversation, "generate", generate)
    return seen


def test_a_switch_applies_from_its_turn_on(calls):
    lines = "one\n/no_think two\nthree\nfour /think\n/no_think\nfive\n/think six\n"
    code, out, err = run("chat", stdin=lines)
    assert (code, out, err) == (0, "yes\n" * 6, "")
    assert calls == [("one", None), ("two", False), ("three", False), ("four", True), ("five", False), ("six", True)]


def test_only_a_single_word_is_a_command(calls):
    code, out, err = run("chat", stdin="/etc/hosts, what is it?\n/etc/hosts\n/help\n/?\n/\n/clear all of it\n")
    assert [question for question, _ in calls] == ["/etc/hosts, what is it?", "/etc/hosts", "/clear all of it"]
    assert [line.split(".")[0] for line in err.splitlines()] == [
        f"minimoe: unknown command {word}" for word in ("/help", "/?", "/")
    ]
    assert all("/clear: start" in line for line in err.splitlines()) and code == 0


@pytest.mark.parametrize("option", [(), ("--thinking",), ("--no-thinking",)])
def test_a_prompt_with_a_switch(calls, option):
    assert run("chat", "/no_think What is 2 + 3?", *option)[0] == 0
    assert run("chat", "What is 2 + 3? /think", *option)[0] == 0
    assert calls == [("What is 2 + 3?", False), ("What is 2 + 3?", True)]
    code, _, err = run("chat", "/no_think", *option)
    assert (code, err.startswith("minimoe: PROMPT is empty")) == (2, True)


def test_a_template_without_the_switch_is_reported_and_nothing_generated(calls, monkeypatch):
    monkeypatch.setattr(Tokenizer, "has_thinking_switch", False)
    code, out, err = run("chat", stdin="/no_think What?\n/think\nWhat?\n")
    assert (code, out, calls) == (0, "yes\n", [("What?", None)])
    assert err.count("no thinking switch (enable_thinking)") == err.count("\n") == 2


def test_the_real_template_without_the_switch(monkeypatch):
    """The error is that of the template, in one line."""
    from minimoe.text.chat import ChatTemplate

    def render(*_, **__):
        raise NoThinkingSwitch("thinking=False was asked for, but the chat template has no enable_thinking.")

    monkeypatch.setattr(ChatTemplate, "render", render)
    code, out, err = run("chat", "/no_think What?")
    assert (code, out, err.count("\n")) == (2, "", 1) and "no enable_thinking" in err


def test_the_mini_answers_without_thinking():
    code, out, _ = run("chat", "/no_think What is 2 + 3?", "--temperature", 0, "--max-new-tokens", 8)
    assert code == 0 and "<think>" not in out
