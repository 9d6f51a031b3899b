"""The corrected article: about 500 words, and no number of its own."""

import re

import pytest

from minimoe.course.article.corrected import PASSAGES, corrected, passage
from minimoe.course.article.quantities import quantities
from minimoe.errors import BadArgument

# Names, formats and products, which are no numbers of the text
NAMES = (
    "Qwen3-235B-A22B", "Qwen 2.5", "Qwen1.5-MoE", "Qwen 3", "16 bits", "8 bits", "4 bits", "A100 with 80 GB",
    "RTX 4090", "DeepSeek-R1", "DeepSeek-V3", "AIME'24", "AIME'25", "version 2024-11-20", "GPT-4o", "GPT-4",
    "Instruct-2507", "16\nbits",
)  # fmt: skip


@pytest.fixture(scope="module")
def numbers():
    return quantities()


def test_about_500_words(numbers):
    assert 450 <= corrected(numbers).words <= 550


def test_no_number_is_typed():
    for name, template in PASSAGES.items():
        typed = re.sub(r"\{[^}]*\}", "", template)
        for each in NAMES:
            typed = typed.replace(each, "")
        assert not re.search(r"\d", typed), f"{name}: {typed}"


def test_a_number_that_changes_changes_the_text(numbers):
    assert "470 GB" in passage("what it takes", numbers).text
    assert "130 GB" in passage("what it takes", numbers | {"bf16_gb": 130}).text


def test_missing_numbers_and_passages_are_named(numbers):
    with pytest.raises(BadArgument, match="needs the number fp8_gb"):
        passage("what it takes", {name: value for name, value in numbers.items() if name != "fp8_gb"})
    with pytest.raises(BadArgument, match="passage is 'prices'"):
        passage("prices", numbers)
