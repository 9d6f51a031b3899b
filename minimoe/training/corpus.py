"""The corpus: documents of five domains, generated from a seed, or any folder of text files.

Train and held-out are disjoint by construction: every atom (a sentence with its translation, a sum, a function's
task, a story) is sent to one of the two by a hash of its own content, and a document holds atoms of one side only.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

from minimoe.errors import BadArgument, NotFound
from minimoe.training.worlds import arithmetic, chat, functions, lexicon, operations, stories
from minimoe.training.worlds.more_sentences import sentence
from minimoe.training.worlds.sentences import Scene

DOMAINS = ("en", "zh", "code", "math", "chat")
MIXTURE = {"en": 0.10, "zh": 0.10, "code": 0.10, "math": 0.10, "chat": 0.60}
# Late in training small facts of arithmetic are the weakest part, so pages of them take the place of some other texts.
LATE_MIXTURE = {"en": 0.04, "zh": 0.04, "code": 0.08, "math": 0.08, "chat": 0.50, "drill": 0.26}
SPLITS = ("train", "held-out")
EMPTY_THINKING = "<think>\n\n</think>\n\n"
Atom = TypeVar("Atom")


@dataclass(frozen=True)
class Part:
    """A stretch of a document. Where `counted` is false the model reads it but is not asked to predict it.

    Of a counted part the first `given` tokens are only read.
    """

    text: str
    counted: bool = True
    given: int = 0


@dataclass(frozen=True)
class Document:
    """One text of one domain."""

    domain: str
    parts: tuple[Part, ...]
    keys: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts)


def split_of(key: str) -> str:
    """ "held-out" for about one atom in twenty, decided by the first byte of its SHA-256 alone."""
    return "held-out" if hashlib.sha256(key.encode()).digest()[0] < 13 else "train"


def draw(make: Callable[[Random], Atom], key: Callable[[Atom], str | None], rng: Random, split: str) -> Atom:
    """Draw from `make` until the atom belongs to `split`; an atom without a key belongs to the training split."""
    for _ in range(10_000):
        atom = make(rng)
        name = key(atom)
        if (split_of(name) if name is not None else "train") == split:
            return atom
    raise BadArgument(f"split is {split!r}, expected one of {', '.join(SPLITS)}.")


def english_or_chinese(rng: Random, split: str, language: str) -> Document:
    """A story (one in four) or a scene of a few sentences, sometimes with a question and its answer."""
    index = 0 if language == "en" else 1
    gap = " " if language == "en" else ""
    if rng.random() < 0.25:
        tale = draw(stories.story, lambda s: s.english, rng, split)
        return Document(language, (Part((tale.english, tale.chinese)[index]),), (tale.english,))
    scene = Scene.draw(rng)
    chosen = [draw(lambda r: sentence(r, scene), lambda s: s.english, rng, split) for _ in range(rng.randint(3, 7))]
    lines = [(s.english, s.chinese)[index] for s in chosen]
    if rng.random() < 0.4:
        question = rng.choice(rng.choice(chosen).questions)
        lines += (question.english, question.chinese)[index]
    return Document(language, (Part(gap.join(lines)),), tuple(s.english for s in chosen))


def code(rng: Random, split: str) -> Document:
    """One or two functions with their calls, as a script, a prompt session or assertions."""
    chosen = [draw(functions.function, lambda f: f.key, rng, split) for _ in range(rng.choice((1, 1, 2)))]
    style, pieces = rng.choice(("comment", "prompt", "assert")), []
    for given in chosen:
        calls = {
            "comment": "".join(f"print({call})  # {result}\n" for call, result in given.calls),
            "prompt": "".join(f">>> {call}\n{result}\n" for call, result in given.calls),
            "assert": "".join(f"assert {call} == {result}\n" for call, result in given.calls),
        }[style]
        heading = f"# {lexicon.capital(given.task[0])}.\n" if rng.random() < 0.5 else ""
        pieces.append(f"{heading}{given.source}\n{calls}")
    return Document("code", (Part("\n".join(pieces)),), tuple(given.key for given in chosen))


def drill(rng: Random, split: str) -> Document:
    """Practice without the functions: calls of four of them worked out to the result, or a page of single steps."""
    if rng.random() < 0.5:
        return Document("code", (Part("\n".join(operations.a_step(rng) for _ in range(12))),))
    chosen = [draw(functions.function, lambda f: f.key, rng, split) for _ in range(4)]
    return Document("code", (Part("\n".join(given.worked for given in chosen)),), tuple(f.key for f in chosen))


def math(rng: Random, split: str) -> Document:
    """A list of results, a written working, or a word problem in either language."""

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
    """One to three exchanges. As the family's template has it, only the last answer shows its thinking.

    Not counted in the loss: what the user says, which nobody could foresee; the first token of answers further back,
    which stand there without their thinking (nothing should teach the model to begin without it); and the empty think
    block, which the template writes.
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
    """One document; without a domain it is drawn by MIXTURE or, `late`, LATE_MIXTURE (shares of documents).

    Raises BadArgument.
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
    """Documents without end: the same for the same arguments on every machine."""
    rng = Random(f"{seed}/{split}/{domain}")
    while True:
        yield document(rng, split, domain)


def folder(path: str | Path) -> list[Document]:
    """Every readable text file below a folder as one document of the domain "text". Raises NotFound."""
    root = Path(path)
    found = []
    for file in sorted(root.rglob("*")) if root.is_dir() else []:
        if file.is_file() and not file.name.startswith("."):
            try:
                found.append(Document("text", (Part(file.read_text(encoding="utf-8")),)))
            except (UnicodeDecodeError, OSError):
                continue
    if not found:
        raise NotFound(f"{root} holds no readable text file. --corpus takes a folder of UTF-8 text files.")
    return found
