"""Labels of tokens: visible white space, counted parts of characters, and tokens that are found by their text."""

import base64

import pytest
import torch

from minimoe.routing.token_view.labels import find_token, token_labels, visible
from minimoe.routing.trace.trace import RoutingTrace


def trace_of(*contents, sequences=None):
    """A trace of tokens with these bytes; None for a token whose bytes are unknown."""
    count = len(contents)
    known = {str(n): base64.b64encode(content).decode() for n, content in enumerate(contents) if content is not None}
    tensors = {
        "tokens": torch.arange(count),
        "sequences": torch.tensor(sequences or [0] * count),
        "positions": torch.arange(count),
        "experts": torch.zeros(1, count, 1, dtype=torch.long),
    }
    return RoutingTrace([0], [tensors], [], {"token_bytes": known, "num_experts": 2, "num_experts_per_tok": 1})


def test_white_space_is_visible():
    assert token_labels(trace_of(b" cat", b".\n", b"\t", b" ", b"a b")) == ["␣cat", ".⏎", "⇥", "␣", "a b"]
    assert visible("   ") == "␣␣␣" and visible(" a  ") == "␣a␣␣"
    assert visible("\u202ea\x00") == "\\u202ea\\u0000"  # direction marks and control characters


def test_a_split_character_is_counted_and_other_bytes_are_hexadecimal():
    cat = "猫".encode()
    assert token_labels(trace_of(b"a", cat[:1], cat[1:2], cat[2:], b"b")) == ["a", "猫 1/3", "猫 2/3", "猫 3/3", "b"]
    assert token_labels(trace_of(cat[:2], b"b")) == ["‹e7 8c›", "b"]
    assert token_labels(trace_of(b"", None)) == ["#0", "#1"]


def test_a_character_does_not_continue_in_another_sequence():
    cat = "猫".encode()
    assert token_labels(trace_of(cat[:2], cat[2:], sequences=[0, 1])) == ["‹e7 8c›", "‹ab›"]


@pytest.mark.parametrize(("text", "place"), [("cat", 3), (" cat", 1), ("dog", None), ("", None), ("猫", None)])
def test_the_exact_text_is_preferred(text, place):
    assert find_token(trace_of(b"a", b" cat", "猫".encode()[:2], b"cat"), text) == place


def test_spaces_around_a_text_do_not_matter():
    assert find_token(trace_of(b"a", b" cat"), "cat") == 1
