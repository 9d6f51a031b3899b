"""Text-like tokens in four domains for synthetic traces: words drawn by Zipf's law, without sentences.

Every domain draws one token in four from words shared by all domains (so that tokens can be matched across domains),
the others from its own words. The Chinese includes a character that is split over two tokens, and the code includes
HTML, because real text has both.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

DOMAINS = ("en", "zh", "code", "math")  # the domains of the course, always in this order
DOCUMENTS = 24  # per domain, if there are enough tokens
SHARED = 0.25  # share of every domain's tokens that are drawn from the shared words
SPLIT = (b"\xe4\xbd", b"\xa0")  # the two halves of one Chinese character

WORDS = {  # separated by spaces; `_` stands for a space inside a word, `~` for a line break
    "shared": "_ , . 1 2 : ~ ( ) 3 0 x",
    "en": "_the _a _and _of _to _in _was _that _she _he _they _is _with _for _it _on _at _river _garden _bread _cat "
    "_letter _morning _slowly _under _house _old _friend _said _walked _stone _light _winter _song ing ed s The In",
    "zh": "的 了 在 他 是 有 我 和 她 不 人 们 这 说 上 来 到 小 大 天 河 花 园 面包 朋友 早上 走 看 见 月 。 ， ？",
    "code": "def _return ____ self = _= [ ] ():~ _in _for _if _range print len _None import _+ == ' <b> </script> "
    "&amp; .append _else ~~ i n",
    "math": "_= _+ _- _* / ^ 4 5 6 7 8 9 10 \\frac { } _sum _is _even _prime _Let _so _n sqrt pi % _mod _< _> ~=_",
}


@dataclass(frozen=True)
class Text:
    """The tokens of all documents as (token) int64 tensors, with the vocabulary and the document titles."""

    tokens: Tensor
    domains: Tensor
    documents: Tensor
    positions: Tensor
    last: Tensor  # (token) bool: the last token of its document
    vocabulary: list[bytes]
    titles: list[dict[str, str]]  # one metadata entry per document


def write_text(count: int, draw: torch.Generator) -> Text:
    """`count` tokens (at least 4) in documents of one domain each, with the domains in rotation."""
    vocabulary: list[bytes] = [*SPLIT]
    ids = {}
    for name, words in WORDS.items():
        encoded = [word.replace("_", " ").replace("~", "\n").encode() for word in words.split()]
        vocabulary += [word for word in encoded if word not in vocabulary]
        ids[name] = torch.tensor([vocabulary.index(word) for word in encoded])
    ids["zh"] = torch.cat([torch.tensor([0]), ids["zh"]])
    number = len(DOMAINS) * min(DOCUMENTS, count // len(DOMAINS))
    documents = torch.arange(count) * number // count
    domains = documents % len(DOMAINS)
    first = torch.ones(count, dtype=torch.bool)
    first[1:] = documents[1:] != documents[:-1]
    starts = first.nonzero().flatten()
    shared = zipf(ids["shared"], count, draw)
    own = torch.stack([zipf(ids[name], count, draw) for name in DOMAINS])[domains, torch.arange(count)]
    tokens = torch.where(torch.rand(count, generator=draw) < SHARED, shared, own)
    last = first.roll(-1)
    opening = (tokens == 0) & ~last  # the first half of the split character is always followed by the second
    opening &= ~opening.roll(1)
    tokens = torch.where((tokens == 0) & ~opening, ids["zh"][1], tokens)
    tokens = torch.where(opening.roll(1), 1, tokens)
    return Text(
        tokens=tokens,
        domains=domains,
        documents=documents,
        positions=torch.arange(count) - starts[documents],
        last=last,
        vocabulary=vocabulary,
        titles=[describe(document) for document in range(number)],
    )


def zipf(words: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """(count) of these words, drawn with a probability proportional to 1 / (r + 2) for the word of rank r (from 0)."""
    chances = 1 / (torch.arange(len(words)) + 2.0)
    return words[torch.multinomial(chances, count, replacement=True, generator=draw)]


def describe(document: int) -> dict[str, str]:
    """The metadata entry of a synthetic document."""
    domain = DOMAINS[document % len(DOMAINS)]
    return {
        "title": f"synthetic {domain} {document // len(DOMAINS) + 1}",
        "domain": domain,
        "language": domain if domain in ("en", "zh") else "",
        "source": "drawn at random",
        "licence": "",
    }
