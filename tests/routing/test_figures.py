"""Labels of tokens, and bars that keep their order."""

from minimoe.routing.figures import bars, readable


def test_labels_of_tokens():
    assert readable(b" a\n", 1) == "·a↵"
    assert readable("猫".encode()[:2], 1) == "‹e7 8c›"
    assert readable(None, 17) == readable(b"", 17) == "#17"


def test_bars_keep_their_order():
    figure = bars(["first", "second"], [2.0, 1.0], "title", "unit", "alt").figure
    assert list(figure.data[0].y) == ["first", "second"] and figure.layout.yaxis.autorange == "reversed"
