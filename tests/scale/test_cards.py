"""Cards by the names people type, and sizes as they write them."""

import pytest

from minimoe.errors import BadArgument
from minimoe.scale.cards import CARDS, find_card
from minimoe.scale.units import parse_bytes, units


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("H100", "H100"), ("h100", "H100"), ("NVIDIA H200", "H200"), ("4090", "RTX 4090"), ("rtx4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"), ("A100 80GB", "A100-80GB"), ("a100-40", "A100-40GB"), ("L4", "L4"),
        ("A10", "A10"), ("B200", "B200"),
    ],
)  # fmt: skip
def test_a_card_by_its_name(typed, name):
    assert find_card(typed).name == name


def test_every_card_has_a_source_and_is_near_the_number_in_its_name():
    for name, card in CARDS.items():
        assert card.source and find_card(name) is card
    assert CARDS["H100"].bytes == 85_520_809_984  # what CUDA reports, according to the same source
    assert CARDS["RTX 4090"].bytes == 24_564 * 2**20


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("A100", "card 'A100' could be several cards: A100-40GB, A100-80GB. Name one of them, or give"),
        ("Z9", "card 'Z9' is not a card that is known here: T4, L4, A10, RTX 3090, "),
        ("", "is not a card that is known here"),
        ("NVIDIA", "is not a card that is known here"),
    ],
)
def test_no_card_is_guessed(typed, problem):
    with pytest.raises(BadArgument, match="Name one of them, or give the device memory in bytes") as caught:
        find_card(typed)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("80GB", 80 * 10**9), ("80 gb", 80 * 10**9), ("24564MiB", 24_564 * 2**20), ("1.5TB", 1_500 * 10**9), ("7B", 7),
        ("0.1GiB", 107_374_182),
    ],
)  # fmt: skip
def test_sizes_with_a_unit(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["80", "", "GB", "-1GB", "0GB", "80XB", "8 0GB", "1e3GB", "80GB!", "0.1B", "٣GB"])
def test_sizes_without_sense_are_refused(text):
    with pytest.raises(BadArgument, match=r"^--ram is .* expected a size with its unit, such as 80GB"):
        parse_bytes(text, "--ram")


def test_units():
    assert [units(size) for size in (0, 999, 1000, -1_500_000, 123_142_036_480, 470_187_269_120)] == [
        "0 B", "999 B", "1.00 kB", "-1.50 MB", "123.14 GB", "470.19 GB",
    ]  # fmt: skip
