"""Natural answers to 01.5 and 01.8: tokens per character, and what becomes of a text."""

import statistics

import numpy as np
import torch

from tests.course.natural_answers.collect import Collection

collection = Collection("01.5", "01.8")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 01.5 tokens per character -------------------------------------------------------------------------------------------


@wrong("01.5", "mean of the rates", "mean", "average", "each text", "weigh")
def _(texts, encode):
    return sum(len(encode(text)) / len(text) for text in texts) / len(texts)


@wrong("01.5", "characters per token", "characters per token", "divided", "inverse", "upside", "turned", "reciprocal")
def _(texts, encode):
    return sum(len(text) for text in texts) / sum(len(encode(text)) for text in texts)


@wrong("01.5", "per byte", "byte", "character")
def _(texts, encode):
    return sum(len(encode(text)) for text in texts) / sum(len(text.encode()) for text in texts)


@wrong("01.5", "the first text alone", "first", "all", "every")
def _(texts, encode):
    return len(encode(texts[0])) / len(texts[0])


@wrong("01.5", "distinct tokens", "distinct", "different", "repeated", "once")
def _(texts, encode):
    return len({token for text in texts for token in encode(text)}) / sum(map(len, texts))


@wrong("01.5", "per word", "word", "character")
def _(texts, encode):
    return sum(len(encode(text)) for text in texts) / sum(len(text.split()) for text in texts)


@wrong("01.5", "texts joined first", "join", "across", "each text", "together", "boundar")
def _(texts, encode):
    whole = "".join(texts)
    return len(encode(whole)) / len(whole)


@wrong("01.5", "texts joined with line breaks", "join", "line", "each text", "together", "between")
def _(texts, encode):
    whole = "\n".join(texts)
    return len(encode(whole)) / len(whole)


@wrong("01.5", "whole division", "whole", "integer", "//", "round", "division")
def _(texts, encode):
    return sum(len(encode(text)) for text in texts) // sum(map(len, texts))


@wrong("01.5", "rounded to two digits", "round")
def _(texts, encode):
    return round(sum(len(encode(text)) for text in texts) / sum(map(len, texts)), 2)


@wrong("01.5", "without spaces", "space")
def _(texts, encode):
    return sum(len(encode(text)) for text in texts) / sum(len(text.replace(" ", "")) for text in texts)


@wrong("01.5", "ids summed", "ids", "sum", "count", "number of")
def _(texts, encode):
    return sum(sum(encode(text)) for text in texts) / sum(map(len, texts))


@wrong("01.5", "tokens per text", "text", "character", "number of texts")
def _(texts, encode):
    return sum(len(encode(text)) for text in texts) / len(texts)


@wrong("01.5", "the list encoded as it is", "list", "text", "error", "each")
def _(texts, encode):
    return len(encode(texts)) / len(texts)


@wrong("01.5", "counts begun anew for each text", "last", "all", "every", "anew")
def _(texts, encode):
    for text in texts:
        tokens = characters = 0
        tokens += len(encode(text))
        characters += len(text)
    return tokens / characters


@wrong("01.5", "in percent", "100", "percent", "times", "factor")
def _(texts, encode):
    return 100 * sum(len(encode(text)) for text in texts) / sum(map(len, texts))


@wrong("01.5", "median of the rates", "median", "mean", "average", "each text", "weigh")
def _(texts, encode):
    return statistics.median(len(encode(text)) / len(text) for text in texts)


@wrong("01.5", "letters only", "letter", "space", "punctuation", "character")
def _(texts, encode):
    return sum(len(encode(text)) for text in texts) / sum(character.isalpha() for text in texts for character in text)


@wrong("01.5", "a rate for each text", "list", "float", "one number", "type")
def _(texts, encode):
    return [len(encode(text)) / len(text) for text in texts]


@right("01.5", "two sums")
def _(texts, encode):
    return sum(len(encode(text)) for text in texts) / sum(len(text) for text in texts)


@right("01.5", "a loop")
def _(texts, encode):
    tokens, characters = 0, 0
    for text in texts:
        ids = encode(text)
        tokens += len(ids)
        characters += len(text)
    return tokens / characters


@right("01.5", "characters joined, tokens not")
def _(texts, encode):
    return len([token for text in texts for token in encode(text)]) / len("".join(texts))


@right("01.5", "numpy")
def _(texts, encode):
    return np.sum([len(encode(text)) for text in texts]) / np.sum([len(text) for text in texts])


@right("01.5", "a tensor of one number")
def _(texts, encode):
    counts = torch.tensor([[len(encode(text)), len(text)] for text in texts], dtype=torch.float64).sum(dim=0)
    return counts[0] / counts[1]


@right("01.5", "mean of the rates, weighted by length")
def _(texts, encode):
    characters = sum(map(len, texts))
    return sum(len(encode(text)) / len(text) * (len(text) / characters) for text in texts if text)


@right("01.5", "means of both")
def _(texts, encode):
    return statistics.mean(len(encode(text)) for text in texts) / statistics.mean(len(text) for text in texts)


# 01.8 predictions ----------------------------------------------------------------------------------------------------

ACCENT = "é as one character, and as e with an accent behind it: the same ids"
SPACE = "'cat' and ' cat' are the same token"
TWELVE = "12 is one token"
VALID = "every token is a valid piece of text"
BYTES = "decoding the ids of any text gives that text, byte for byte"
THINK = "<think> in a prompt is one id"
LONGER = "a longer word always has more tokens"
TRUTH = {ACCENT: True, SPACE: False, TWELVE: False, VALID: False, BYTES: False, THINK: True, LONGER: False}


def other(*sentences):
    """The right answers with the opposite ones to these sentences."""
    return TRUTH | {sentence: not TRUTH[sentence] for sentence in sentences}


wrong("01.8", "two spellings are two texts", "accent", "nfc", "spelling", "normal")(other(ACCENT))
wrong("01.8", "spaces do not count", "space", "cat")(other(SPACE))
wrong("01.8", "frequent numbers are tokens", "12", "digit")(other(TWELVE))
wrong("01.8", "tokens are text", "byte", "piece", "valid", "character")(other(VALID))
wrong("01.8", "a tokenizer loses nothing", "decod", "byte", "nfc", "normal", "back", "accent")(other(BYTES))
wrong("01.8", "marks are characters", "think", "special", "mark")(other(THINK))
wrong("01.8", "longer is more", "long", "word", "frequent")(other(LONGER))
wrong("01.8", "a tokenizer keeps bytes", "accent", "nfc", "decod", "byte", "normal", "spelling")(other(ACCENT, BYTES))
wrong("01.8", "tokens are words", "space", "12", "digit", "byte", "cat", "valid")(other(SPACE, TWELVE, VALID))
wrong("01.8", "all true", "space", "12", "digit", "byte", "cat", "valid", "decod", "long")(dict.fromkeys(TRUTH, True))
wrong("01.8", "all false", "accent", "nfc", "think", "special", "spelling")(dict.fromkeys(TRUTH, False))
wrong("01.8", "everything the other way round", "accent", "space", "12", "think", "byte", "nfc")(other(*TRUTH))
wrong("01.8", "words in quotes", "true", "false", "str")(
    {sentence: str(truth).lower() for sentence, truth in TRUTH.items()}
)
wrong("01.8", "ids instead of True", "true", "false", "value")(TRUTH | {TWELVE: [17, 18]})
right("01.8", "bool")(TRUTH)
right("01.8", "0 and 1")({sentence: int(truth) for sentence, truth in TRUTH.items()})
right("01.8", "numpy")({sentence: np.bool_(truth) for sentence, truth in TRUTH.items()})
right("01.8", "torch")({sentence: torch.tensor(truth) for sentence, truth in TRUTH.items()})
right("01.8", "1.0 and 0.0")({sentence: float(truth) for sentence, truth in TRUTH.items()})
right("01.8", "in another order")(dict(reversed(TRUTH.items())))
