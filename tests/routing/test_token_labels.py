"""Labels of tokens."""

from minimoe.routing.token_labels import readable


def test_labels_of_tokens():
    assert readable(b" a\n", 1) == "·a↵"
    assert readable("猫".encode()[:2], 1) == "‹e7 8c›"
    assert readable(None, 17) == readable(b"", 17) == "#17"
