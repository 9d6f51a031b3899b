"""Chapter 01, tokens: tokens per character, and predictions about a text (01.5 and 01.8)."""

import statistics
from collections.abc import Callable, Sequence

import torch

from minimoe.course.checker.exercise import Case, Exercise

# 01.5 tokens per character -------------------------------------------------------------------------------------------

Encode = Callable[[str], Sequence[int]]


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def words(text: str) -> list[int]:
    return [len(word) for word in text.split()]


def utf8(text: str) -> list[int]:
    return list(text.encode("utf-8"))


def rate_by_counting(texts: list[str], encode: Encode) -> float:
    """All tokens of all texts, divided by all of their characters."""
    tokens = characters = 0
    for text in texts:
        tokens, characters = tokens + len(encode(text)), characters + len(text)
    return tokens / characters


def mean_of_rates(texts: list[str], encode: Encode) -> float:
    return sum(len(encode(text)) / len(text) for text in texts) / len(texts)


def other_way(texts: list[str], encode: Encode) -> float:
    return 1 / rate_by_counting(texts, encode)


def per_byte(texts: list[str], encode: Encode) -> float:
    return sum(len(encode(text)) for text in texts) / sum(len(text.encode()) for text in texts)


def first_text(texts: list[str], encode: Encode) -> float:
    return len(encode(texts[0])) / len(texts[0])


def different_tokens(texts: list[str], encode: Encode) -> float:
    return len({token for text in texts for token in encode(text)}) / sum(map(len, texts))


def per_text(texts: list[str], encode: Encode) -> float:
    return sum(len(encode(text)) for text in texts) / len(texts)


def without_spaces(texts: list[str], encode: Encode) -> float:
    return sum(len(encode(text)) for text in texts) / sum(len(text.replace(" ", "")) for text in texts)


def joined(texts: list[str], encode: Encode) -> float:
    return len(encode("".join(texts))) / len("".join(texts))


def joined_by_lines(texts: list[str], encode: Encode) -> float:
    return len(encode("\n".join(texts))) / len("\n".join(texts))


def per_word(texts: list[str], encode: Encode) -> float:
    return sum(len(encode(text)) for text in texts) / sum(len(text.split()) for text in texts)


def ids_added(texts: list[str], encode: Encode) -> float:
    return sum(sum(encode(text)) for text in texts) / sum(map(len, texts))


def whole_division(texts: list[str], encode: Encode) -> float:
    return sum(len(encode(text)) for text in texts) // sum(map(len, texts))


def last_text(texts: list[str], encode: Encode) -> float:
    return len(encode(texts[-1])) / len(texts[-1])


def median_of_rates(texts: list[str], encode: Encode) -> float:
    return statistics.median(len(encode(text)) / len(text) for text in texts)


def per_letter(texts: list[str], encode: Encode) -> float:
    return sum(len(encode(text)) for text in texts) / sum(map(str.isalpha, "".join(texts)))


def in_one(texts: list[str], encode: Encode) -> float:
    return sum(map(len, map(encode, texts))) / sum(map(len, texts))


def by_tensor(texts: list[str], encode: Encode) -> float:
    counts = torch.tensor([[len(encode(text)), len(text)] for text in texts], dtype=torch.float64).sum(dim=0)
    return float(counts[0] / counts[1])


# 01.8 predictions ----------------------------------------------------------------------------------------------------

TRUTH = {
    "é as one character, and as e with an accent behind it: the same ids": True,
    "'cat' and ' cat' are the same token": False,
    "12 is one token": False,
    "every token is a valid piece of text": False,
    "decoding the ids of any text gives that text, byte for byte": False,
    "<think> in a prompt is one id": True,
    "a longer word always has more tokens": False,
}

EXERCISES = (
    Exercise(
        id="01.5",
        title="Estimate, then measure: tokens by language",
        kind="estimate",
        minutes=10,
        difficulty=1,
        hints=(
            "How many tokens do all texts have together, and how many characters?",
            "Count both over all texts, and divide once.",
            "sum(len(encode(text)) for text in texts) / sum(len(text) for text in texts).",
        ),
        now_you_know="a language that the merges have never seen costs several times as many tokens.",
        oracle=rate_by_counting,
        cases=(
            Case("every letter is a token: 1", (["cat", "a bird"], letters), 1.0),
            Case("every word is a token: 3 of 9 characters", (["cat", "a bird"], words), 3 / 9),
            Case("every byte is a token: 2 characters, 4 bytes", (["é", "é"], utf8), 2.0),
            Case("a long text and a short one", (["one two three four five six", "猫"], words)),
            Case("bytes of several languages", (["cat", "猫看见", "été"], utf8)),
            Case("a comma is a character", (["Hi, cat!", "yes"], letters), 1.0),
            Case("three texts of words", (["a b c", "one two", "a"], words)),
        ),
        mutants={
            "mean of rates": (
                mean_of_rates,
                "the rates of the texts are averaged, so a short text counts as much as a long one. Add up first, then "
                "divide.",
            ),
            "other way": (other_way, "these are characters per token. Tokens per character was asked."),
            "per byte": (per_byte, "you divided by bytes. A character may have up to four."),
            "first text": (first_text, "only the first text is counted."),
            "different tokens": (different_tokens, "equal tokens are counted once. Each occurrence costs."),
            "per text": (per_text, "these are tokens per text. Divide by the characters."),
            "without spaces": (without_spaces, "spaces are left out. They are characters, too."),
            "joined": (
                joined,
                "the texts are joined before they are encoded, so tokens may run across the borders. Encode each text.",
            ),
            "joined by lines": (
                joined_by_lines,
                "the texts are joined with line ends between them, which are counted, too. Encode each text.",
            ),
            "per word": (per_word, "these are tokens per word. Divide by the characters."),
            "ids added": (ids_added, "the ids are added up. They are names: count how many there are."),
            "whole division": (whole_division, "`//` divides to a whole number. Use `/`."),
            "last text": (last_text, "only the last text is counted. Is a count set to 0 inside the loop?"),
            "median of rates": (
                median_of_rates,
                "that is the median of the rates of the texts. Add up first, then divide.",
            ),
            "per letter": (per_letter, "you divided by letters alone. Spaces and punctuation are characters, too."),
        },
        accepted={"sums": in_one, "a tensor": by_tensor},
    ),
    Exercise(
        id="01.8",
        title="Predict: what becomes of a text?",
        kind="predict",
        minutes=8,
        difficulty=2,
        hints=(
            "Go through the three steps: normalise, split, merge.",
            "NFC makes one character of two. The space belongs to the word behind it. Digits are split one by one. "
            "Bytes are merged, not characters.",
            "Same ids for é; ' cat' is another token; 12 is two; some tokens are parts of characters; NFC may change "
            "the text; added tokens have ids of their own; frequent words are one token, however long.",
        ),
        now_you_know="ids depend on spaces, accents and frequency, in ways that no reader of the text can see.",
        expected=TRUTH,
        reasons={
            "é as one character, and as e with an accent behind it: the same ids": "What does NFC do before the split?",
            "'cat' and ' cat' are the same token": "Which piece does the space go to?",
            "12 is one token": "What does the split pattern say about digits?",
            "every token is a valid piece of text": "How many bytes has a Chinese character, and what is merged first?",
            "decoding the ids of any text gives that text, byte for byte": "Type é as two characters. What comes back?",
            "<think> in a prompt is one id": "Look at tokenizer.special_tokens.",
            "a longer word always has more tokens": "Compare a frequent long word with a rare short one.",
        },
        mutants={
            "accents": (
                TRUTH | {"é as one character, and as e with an accent behind it: the same ids": False},
                "NFC writes both spellings as one character before anything is split.",
            ),
            "characters": (
                TRUTH | {"every token is a valid piece of text": True},
                "bytes are merged, so a token may end inside a character.",
            ),
            "there and back": (
                TRUTH | {"decoding the ids of any text gives that text, byte for byte": True},
                "NFC changes some texts, such as an e with an accent behind it. What it has changed cannot come back.",
            ),
            "numbers": (TRUTH | {"12 is one token": True}, "digits are cut apart, one by one, before any merge."),
        },
        accepted={
            "as numbers": {question: int(answer) for question, answer in TRUTH.items()},
            "as tensors": {question: torch.tensor(answer) for question, answer in TRUTH.items()},
        },
    ),
)
