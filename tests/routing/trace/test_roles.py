"""Roles are told by the chat markup, whatever the order in which the tokens were recorded."""

import pytest
import torch

import minimoe
from minimoe.routing.trace.roles import ANSWER, PROMPT, ROLES, SPECIAL, THINKING, read_sequence, roles_of
from minimoe.routing.trace.trace import RoutingTrace, record_routing

START, END, THINK, OVER = b"<|im_start|>", b"<|im_end|>", b"<think>", b"</think>"
LETTER = {SPECIAL: "s", PROMPT: "p", THINKING: "t", ANSWER: "a"}


def letters(texts):
    return "".join(LETTER[role] for role in read_sequence(texts))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([b"Hel", b"lo"], "pp"),
        ([b"a", b"<|endoftext|>", b"b"], "psp"),
        ([START, b"user", b"\n", b"Hi", END, b"\n", START, b"assistant", b"\n", b"Yes", END, b"\n"],
         "sssps" "ssssass"),
        ([START, b"assistant", b"\n", THINK, b"\n", b"hm", b"\n", OVER, b"\n\n", b"Yes"], "sss" + "sttts" + "aa"),
        ([START, b"user", b"\n", THINK, b"x", OVER, b"y", END], "ssss" + "psps"),  # a user writes the tags: no thinking
        ([START, b"sys", b"tem\n", b"Be", END, b"\n", START, b"user\n", b"Hi"], "sssps" + "sssp"),
        ([START, b"assistants", b"\n", b"x"], "sssp"),
        ([b"<thinking>", b"x"], "pp"),
        ([START, b"assistant", b"\n", THINK, b"t", END, b"\n", START, b"user", b"\n", b"p"], "sss" + "sts" + "ssssp"),
        ([], ""),
    ],
)  # fmt: skip
def test_state_machine(texts, expected):
    assert letters(texts) == expected


def test_sequences_are_separate_and_ordered_by_position():
    texts = [START, b"assistant", b"\n", b"x", END]
    table = dict(enumerate(texts)) | {9: b"plain"}
    tokens = torch.tensor([0, 9, 1, 2, 9, 3, 4])
    sequences = torch.tensor([0, 1, 0, 0, 1, 0, 0])
    positions = torch.tensor([0, 0, 1, 2, 1, 3, 4])
    expected = torch.tensor([SPECIAL, PROMPT, SPECIAL, SPECIAL, PROMPT, ANSWER, SPECIAL])
    assert torch.equal(roles_of(tokens, sequences, positions, table), expected)
    mixed = torch.tensor([6, 3, 1, 0, 5, 2, 4])
    assert torch.equal(roles_of(tokens[mixed], sequences[mixed], positions[mixed], table), expected[mixed])


@pytest.fixture(scope="module")
def mini():
    return minimoe.load("data/mini", dtype="fp32")


@pytest.mark.parametrize("thinking", [True, False])
def test_generation_is_recorded_with_roles(mini, thinking, tmp_path):
    """Prompt, empty or written thinking, answer: put together again they are the conversation."""
    model, tokenizer = mini
    asked = "What is 12 + 30?"
    messages = [{"role": "user", "content": asked}]
    with record_routing(model, tokenizer, label="mini checkpoint") as trace:
        reply = "".join(minimoe.generate(model, tokenizer, messages, 48, thinking=thinking, temperature=0))
    trace.save(tmp_path / "t.safetensors")
    for each in (trace, RoutingTrace.load(tmp_path / "t.safetensors")):
        assert each.prompts == {0: asked}
        words = {
            name: b"".join(each.token_bytes(int(t)) for t in (each.roles == number).nonzero()).decode()
            for number, name in enumerate(ROLES)
        }
        assert words["special"].startswith("<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n<think>")
        if thinking:
            assert words["thinking"].strip()
            assert f"<think>{words['thinking']}" in reply
        else:
            assert words["thinking"] == "\n\n"
            assert words["special"].endswith("<think></think>")
            assert "\n\n" + reply.rstrip() == words["answer"].rstrip() or words["answer"].strip() in reply


def test_roles_survive_a_selection(mini):
    model, tokenizer = mini
    ids = tokenizer.encode(tokenizer.chat([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}],
                                          add_generation_prompt=False))  # fmt: skip
    with record_routing(model, tokenizer) as trace, torch.no_grad():
        model(torch.tensor([ids]))
    answer = trace.select(trace.roles == ANSWER)
    assert (answer.roles == ANSWER).all()
    assert len(answer) == int((trace.roles == ANSWER).sum()) > 0
