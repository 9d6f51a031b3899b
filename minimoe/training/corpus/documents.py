"""The corpus: documents of five domains, generated from a seed, or any folder of text files.

The training and held-out splits are disjoint by construction: every atom (a sentence with its translation, a sum, the
task of a function, a story) is assigned to a split by a hash of its content, and a document contains atoms of one
split only.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

from minimoe.errors import BadArgument, NotFound
from minimoe.training.corpus.worlds import arithmetic, chat, functions, lexicon, operations, stories
from minimoe.training.corpus.worlds.more_sentences import sentence
from minimoe.training.corpus.worlds.sentences import Scene

DOMAINS = ("en", "zh", "code", "math", "chat")
MIXTURE = {"en": 0.10, "zh": 0.10, "code": 0.10, "math": 0.10, "chat": 0.60}
# Late in training, single steps of arithmetic are the weakest skill, so pages of them replace some other texts.
LATE_MIXTURE = {"en": 0.04, "zh": 0.04, "code": 0.08, "math": 0.08, "chat": 0.50, "drill": 0.26}
SPLITS = ("train", "held-out")
EMPTY_THINKING = "<think>\n\n</think>\n\n"
Atom = TypeVar("Atom")


@dataclass(frozen=True)
class Part:
    """A part of a document. Only `counted` parts contribute to the loss, without their first `given` tokens."""

    text: str
    counted: bool = True
    given: int = 0


@dataclass(frozen=True)
class Document:
    """A text of one domain; `keys` are the keys of its atoms."""

    domain: str
    parts: tuple[Part, ...]
    keys: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts)


def split_of(key: str) -> str:
    """The split of an atom: "held-out" for about one in twenty, by the first byte of the SHA-256 of its key."""
    return "held-out" if hashlib.sha256(key.encode()).digest()[0] < 13 else "train"


def draw(make: Callable[[Random], Atom], key: Callable[[Atom], str | None], rng: Random, split: str) -> Atom:
    """Draw from `make` until the atom belongs to `split`; an atom without a key belongs to the training split.

    Raises BadArgument if no atom does, as for an unknown split.
    """
    for _ in range(10_000):
        atom = make(rng)
        name = key(atom)
        if (split_of(name) if name is not None else "train") == split:
            return atom
    raise BadArgument(f"split is {split!r}, expected one of {', '.join(SPLITS)}.")


def english_or_chinese(rng: Random, split: str, language: str) -> Document:
    """A story (one in four), or a scene of a few sentences, sometimes with a question and its answer."""
    index = 0 if language == "en" else 1
    separator = " " if language == "en" else ""
    if rng.random() < 0.25:
        tale = draw(stories.story, lambda s: s.english, rng, split)
        return Document(language, (Part((tale.english, tale.chinese)[index]),), (tale.english,))
    scene = Scene.draw(rng)
    chosen = [draw(lambda r: sentence(r, scene), lambda s: s.english, rng, split) for _ in range(rng.randint(3, 7))]
    lines = [(s.english, s.chinese)[index] for s in chosen]
    if rng.random() < 0.4:
        question = rng.choice(rng.choice(chosen).questions)
        lines += (question.english, question.chinese)[index]
    return Document(language, (Part(separator.join(lines)),), tuple(s.english for s in chosen))


def code(rng: Random, split: str) -> Document:
    """One or two functions with their calls, as a script, an interactive session or assertions."""
    chosen = [draw(functions.function, lambda f: f.key, rng, split) for _ in range(rng.choice((1, 1, 2)))]
    style, pieces = rng.choice(("comment", "prompt", "assert")), []
    for function in chosen:
        calls = {
            "comment": "".join(f"print({call})  # {result}\n" for call, result in function.calls),
            "prompt": "".join(f">>> {call}\n{result}\n" for call, result in function.calls),
            "assert": "".join(f"assert {call} == {result}\n" for call, result in function.calls),
        }[style]
        heading = f"# {lexicon.capital(function.task[0])}.\n" if rng.random() < 0.5 else ""
        pieces.append(f"{heading}{function.source}\n{calls}")
    return Document("code", (Part("\n".join(pieces)),), tuple(function.key for function in chosen))


def drill(rng: Random, split: str) -> Document:
    """Exercises without function definitions: calls of four functions worked out, or a page of single steps."""
    if rng.random() < 0.5:
        return Document("code", (Part("\n".join(operations.a_step(rng) for _ in range(12))),))
    chosen = [draw(functions.function, lambda f: f.key, rng, split) for _ in range(4)]
    return Document("code", (Part("\n".join(f.worked for f in chosen)),), tuple(f.key for f in chosen))


def math(rng: Random, split: str) -> Document:
    """A list of results, a written calculation, or a word problem in either language."""

    def make(r: Random) -> arithmetic.Problem:
        return arithmetic.problem(r)

    style = rng.choice(("list", "working", "working", "story"))
    if style == "story":
        who, noun = rng.choice(lexicon.PEOPLE), rng.choice(lexicon.OBJECTS + lexicon.FOODS)
        pair = draw(
            lambda r: arithmetic.word_problem(r, (who.english, who.chinese), (noun.plural, noun.chinese, noun.measure)),
            lambda p: p[0],
            rng,
            split,
        )
        return Document("math", (Part(rng.choice(pair)),), (pair[0],))
    chosen = [
        draw(make, lambda p: p.key, rng, split)
        for _ in range(rng.randint(3, 6) if style == "list" else rng.randint(1, 2))
    ]
    if style == "list":
        text = "\n".join(f"{p.text} = {p.result}" for p in chosen)
    else:
        text = "\n\n".join(f"{p.text}\n{p.working}\n{p.text} = {p.result}" for p in chosen)
    return Document("math", (Part(text),), tuple(p.key for p in chosen))


def conversation(rng: Random, split: str, thinking: bool | None = None) -> Document:
    """One to three exchanges. As in the chat template of the family, only the last answer includes its thinking.

    Not counted in the loss: the user's messages, which are not predictable; the first token of earlier answers, because
    they lack their thinking and would teach the model to skip it; and the empty think block, which the template adds.
    """
    turns = [draw(chat.turn, lambda t: t.key, rng, split) for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
    thinking = rng.random() < 0.5 if thinking is None else thinking
    parts = []
    for number, turn in enumerate(turns, start=1):
        parts.append(Part(chat.render_user(turn.question), counted=False))
        if number < len(turns):
            parts.append(Part(f"{turn.answer}<|im_end|>\n", given=1))
        elif thinking:
            parts.append(Part(f"<think>\n{turn.thinking}\n</think>\n\n{turn.answer}<|im_end|>\n"))
        else:
            parts += [Part(EMPTY_THINKING, counted=False), Part(f"{turn.answer}<|im_end|>\n")]
    return Document("chat", tuple(parts), tuple(turn.key for turn in turns if turn.key is not None))


def document(rng: Random, split: str = "train", domain: str | None = None, late: bool = False) -> Document:
    """One document of `domain`, or of a domain drawn from MIXTURE or, if `late`, LATE_MIXTURE (shares of documents).

    Raises BadArgument for an unknown domain or split.
    """
    if domain is None:
        mixture = LATE_MIXTURE if late else MIXTURE
        domain = rng.choices(list(mixture), weights=list(mixture.values()))[0]
    if domain in ("en", "zh"):
        return english_or_chinese(rng, split, domain)
    makers = {"code": code, "math": math, "chat": conversation, "drill": drill}
    if domain not in makers:
        raise BadArgument(f"domain is {domain!r}, expected one of {', '.join([*DOMAINS, 'drill'])}.")
    return makers[domain](rng, split)


def documents(seed: int, split: str = "train", domain: str | None = None) -> Iterator[Document]:
    """An endless stream of documents, the same for the same arguments on every machine."""
    rng = Random(f"{seed}/{split}/{domain}")
    while True:
        yield document(rng, split, domain)


def folder(path: str | Path) -> list[Document]:
    """One document of the domain "text" for every readable text file below a folder. Raises NotFound if none exists."""
    root = Path(path)
    texts = []
    for file in sorted(root.rglob("*")) if root.is_dir() else []:
        if file.is_file() and not file.name.startswith("."):
            try:
                texts.append(Document("text", (Part(file.read_text(encoding="utf-8")),)))
            except (UnicodeDecodeError, OSError):
                continue
    if not texts:
        raise NotFound(f"{root} contains no readable text file. Pass --corpus a folder of UTF-8 text files.")
    return texts
