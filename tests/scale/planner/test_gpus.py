"""Cards by common spellings of their names, and sizes with units."""

import pytest

from minimoe.errors import BadArgument
from minimoe.humanize import parse_bytes, units
from minimoe.scale.planner.gpus import CARDS, find_card


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("H100", "H100"), ("h100", "H100"), ("NVIDIA H200", "H200"), ("4090", "RTX 4090"), ("rtx4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"), ("A100 80GB", "A100-80GB"), ("a100-40", "A100-40GB"), ("L4", "L4"),
        ("A10", "A10"), ("B200", "B200"), ("H20", "H20"), ("NVIDIA H20", "H20"), ("H20 96GB", "H20"), ("A800", "A800"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"), ("NVIDIA A100 80GB PCIe", "A100-80GB"), ("A100-PCIE-40GB", "A100-40GB"),
        ("NVIDIA H100 80GB HBM3", "H100"), ("H100 PCIe", "H100"), ("h100-nvl", "H100 NVL"), ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-32GB", "V100-32GB"), ("v100 16gb", "V100-16GB"), ("a6000", "RTX A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"), ("Quadro RTX 6000", "Quadro RTX 6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX PRO 6000"),
        ("RTX-4070-Ti-SUPER", "RTX 4070 Ti Super"),
        ("NVIDIA GH200 480GB", "GH200"), ("NVIDIA B300 SXM6 AC", "B300"), ("AMD Instinct MI300X OAM", "MI300X"),
        ("L40S 48GB", "L40S"), ("B200 180GB", "B200"), ("B200 192GB", "B200"), ("H200 141GB", "H200"),
    ],
)  # fmt: skip
def test_a_card_is_found_by_its_name(typed, name):
    assert find_card(typed).name == name


def test_every_card_has_a_source_and_is_near_the_number_in_its_name():
    for name, card in CARDS.items():
        assert card.source and find_card(name) is card is find_card(f"NVIDIA {name.lower()}".replace(" ", "-"))
    assert CARDS["H100"].bytes == 85_520_809_984  # what CUDA reports, according to the same source
    assert CARDS["RTX 4090"].bytes == 24_564 * 2**20


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("A100", "card 'A100' could be several cards: A100-40GB, A100-80GB. Name one of them, or pass"),
        ("V100", "could be several cards: V100-16GB, V100-32GB"),
        ("RTX 6000", "could be several cards: Quadro RTX 6000, RTX 6000 Ada"),
        ("Z9", "card 'Z9' is not a known card. Known: RTX 3080, RTX 2080 Ti, "),
        ("B20", "card 'B20' is not a known card. Did you mean B200"),
        ("H2000", "Did you mean H200"),
        ("H20 141GB", "is not a known card"),  # it exists, but its memory has no source here
        ("A100 64GB", "is not a known card"),
        ("RTX 3080 12GB", "is not a known card. Did you mean RTX 3080?"),
        ("RTX 4090 Laptop GPU", "is not a known card"),
        ("409", "is not a known card"),
        ("4", "is not a known card"),
        ("", "is not a known card"),
        ("NVIDIA", "is not a known card"),
    ],
)
def test_no_card_is_guessed(typed, problem):
    with pytest.raises(BadArgument, match="Name one of them, or pass the memory of the device instead") as caught:
        find_card(typed)
    assert problem in str(caught.value)


def test_capabilities_determine_the_attention_kernel():
    plain = {name for name, card in CARDS.items() if card.kernel == "plain"}
    assert plain == {"RTX 2080 Ti", "T4", "V100-16GB", "V100-32GB", "P40", "Quadro RTX 6000", "MI300X"}


def test_no_part_of_a_name_is_enough():
    """Every name without its last character is refused, or is the name of another card."""
    for name in CARDS:
        try:
            found = find_card(name[:-1])
        except BadArgument:
            continue
        assert found.name.replace(" ", "") in name.replace(" ", "") and found.bytes <= CARDS[name].bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("80GB", 80 * 10**9), ("80 gb", 80 * 10**9), ("24564MiB", 24_564 * 2**20), ("1.5TB", 1_500 * 10**9), ("7B", 7),
        ("0.1GiB", 107_374_182),
    ],
)  # fmt: skip
def test_sizes_with_a_unit(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["80", "", "GB", "-1GB", "0GB", "80XB", "8 0GB", "1e3GB", "80GB!", "0.1B", "٣GB", "9" * 5000 + "GB"]
)
def test_invalid_sizes_are_refused(text):
    with pytest.raises(BadArgument, match=r"^--ram is .* expected a size with its unit, such as 80GB"):
        parse_bytes(text, "--ram")


def test_units():
    assert [units(size) for size in (0, 999, 1000, -1_500_000, 123_142_036_480, 470_187_269_120)] == [
        "0 B", "999 B", "1.00 kB", "-1.50 MB", "123.14 GB", "470.19 GB",
    ]  # fmt: skip
