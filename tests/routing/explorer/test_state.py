"""A state that these traces cannot show is refused with the key in the message; what is not known is kept."""

import pytest

from minimoe.errors import BadArgument
from minimoe.routing.explorer.state import check_state

GOOD = {
    "rev": 4, "trace": 0, "layer": 5, "expert": 31, "token": 599, "range": [3, 9], "domain": 3, "pinned": None,
    "order": "load", "scalar": "uses", "scale": "linear", "view": "pairs", "devices": 64, "placement": "balanced",
    "theme": "dark", "compare": {"a": 0}, "of the future": [1, {"a": None}],
}  # fmt: skip


def test_valid_state_is_returned_unchanged(small_trace):
    assert check_state(GOOD, [small_trace]) == GOOD
    assert check_state({}, [small_trace]) == {}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trace", 1, "1 traces"),
        ("layer", 6, "expected 0 to 5"),
        ("layer", None, "layer"),
        ("layer", True, "layer"),
        ("layer", 1.5, "layer"),
        ("expert", 32, "expected 0 to 31"),
        ("expert", -1, "expected 0 to 31"),
        ("token", 600, "600 tokens"),
        ("pinned", "7", "pinned"),
        ("domain", 4, "4 domains"),
        ("range", [5], "expected .first, last"),
        ("range", [5, 5], "range"),
        ("rows", [0, 7], "6 layers"),
        ("match", 3, "text to search for"),
        ("range", [5, 601], "600 tokens"),
        ("range", [9, 3], "range"),
        ("view", "atlas", "router, ribbon"),
        ("scalar", "heat", "margin, entropy"),
        ("devices", 65, "1 to 64"),
        ("theme", "sepia", "auto, light, dark"),
    ],
)
def test_invalid_state_is_rejected(small_trace, key, value, message):
    with pytest.raises(BadArgument, match=message) as refused:
        check_state(GOOD | {key: value}, [small_trace])
    assert key in str(refused.value)


def test_state_must_be_a_dictionary(small_trace):
    with pytest.raises(BadArgument, match="state is list"):
        check_state([("layer", 1)], [small_trace])
