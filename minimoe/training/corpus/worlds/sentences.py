"""Sentences of the small world in English and Chinese, with questions that they answer.

Each frame below is a sentence pattern, filled with words of the lexicon, with the same meaning in both languages.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from minimoe.training.corpus.worlds import lexicon as words
from minimoe.training.corpus.worlds.lexicon import NUMBERS, Person, Place, capital, counted, described, pick_adjectives

Pair = tuple[str, str]


@dataclass(frozen=True)
class Question:
    """A question about a sentence, with its short answer, in both languages."""

    english: Pair
    chinese: Pair


@dataclass(frozen=True)
class Sentence:
    """A statement in both languages; `glosses` pairs the phrases of both, as notes for a translation."""

    english: str
    chinese: str
    glosses: tuple[Pair, ...]
    questions: tuple[Question, ...] = ()


@dataclass(frozen=True)
class Scene:
    """The people and the place that the sentences of a text share, which makes the text coherent."""

    person: Person
    friend: Person
    place: Place
    rng: Random = field(compare=False)

    @classmethod
    def draw(cls, rng: Random) -> "Scene":
        """Draw two different people and a place."""
        person, friend = rng.sample(words.PEOPLE, 2)
        return cls(person, friend, rng.choice(words.PLACES), rng)


def ask(english: str, answer: str, chinese: str, reply: str) -> Question:
    """Shorthand for a question and its answer in both languages."""
    return Question((english, answer), (chinese, reply))


def thing(
    rng: Random, most: int = 12, kinds: tuple = words.ANIMALS + words.OBJECTS
) -> tuple[words.Noun, int, tuple, Pair]:
    """A random counted noun with adjectives: (noun, number, adjectives, (English, Chinese))."""
    noun = rng.choice(kinds)
    number = rng.choice((1, 1, rng.randint(2, most)))
    adjectives = pick_adjectives(rng, noun)
    return noun, number, adjectives, counted(number, noun, *adjectives)


def there_are(scene: Scene) -> Sentence:
    noun, number, _, (english, chinese) = thing(scene.rng)
    place, be = scene.place, "is" if number == 1 else "are"
    amount = words.chinese_count(number) + noun.measure
    return Sentence(
        f"There {be} {english} {place.where}.",
        f"{place.inside}有{chinese}。",
        ((english, chinese), (place.where, place.inside)),
        (
            ask(
                f"How many {noun.plural} are there {place.where}?",
                capital(NUMBERS[number]) + ".",
                f"{place.inside}有几{noun.measure}{noun.chinese}？",
                amount + "。",
            ),
            ask(
                f"Where {be} the {noun.english if number == 1 else noun.plural}?",
                capital(place.where) + ".",
                f"{noun.chinese}在哪里？",
                f"在{place.inside}。",
            ),
        ),
    )


def has(scene: Scene) -> Sentence:
    noun, number, _, (english, chinese) = thing(scene.rng)
    who = scene.person
    return Sentence(
        f"{who.english} has {english}.",
        f"{who.chinese}有{chinese}。",
        ((who.english, who.chinese), (english, chinese)),
        (
            ask(f"What does {who.english} have?", capital(english) + ".", f"{who.chinese}有什么？", chinese + "。"),
            ask(f"Who has {english}?", who.english + ".", f"谁有{chinese}？", who.chinese + "。"),
        ),
    )


def has_no(scene: Scene) -> Sentence:
    noun = scene.rng.choice(words.ANIMALS + words.OBJECTS)
    who, one = scene.person, f"{words.article(noun.english)} {noun.english}"
    return Sentence(
        f"{who.english} does not have {one}.",
        f"{who.chinese}没有{noun.chinese}。",
        ((who.english, who.chinese), ("does not have", "没有"), (one, noun.chinese)),
        (
            ask(
                f"Does {who.english} have {one}?",
                f"No, {who.he} does not.",
                f"{who.chinese}有{noun.chinese}吗？",
                f"没有，{who.ta}没有。",
            ),
        ),
    )


def likes(scene: Scene) -> Sentence:
    rng, who = scene.rng, scene.person
    plural, chinese = rng.choice([(n.plural, n.chinese) for n in words.ANIMALS + words.FOODS] + list(words.DRINKS))
    if rng.random() < 0.35:
        return Sentence(
            f"{who.english} does not like {plural}.",
            f"{who.chinese}不喜欢{chinese}。",
            ((who.english, who.chinese), ("does not like", "不喜欢"), (plural, chinese)),
            (
                ask(
                    f"Does {who.english} like {plural}?",
                    f"No, {who.he} does not.",
                    f"{who.chinese}喜欢{chinese}吗？",
                    f"不，{who.ta}不喜欢。",
                ),
            ),
        )
    friend = scene.friend
    if rng.random() < 0.5:
        return Sentence(
            f"{who.english} and {friend.english} like {plural}.",
            f"{who.chinese}和{friend.chinese}喜欢{chinese}。",
            (
                (f"{who.english} and {friend.english}", f"{who.chinese}和{friend.chinese}"),
                ("like", "喜欢"),
                (plural, chinese),
            ),
            (
                ask(
                    f"What do {who.english} and {friend.english} like?",
                    capital(plural) + ".",
                    f"{who.chinese}和{friend.chinese}喜欢什么？",
                    chinese + "。",
                ),
            ),
        )
    return Sentence(
        f"{who.english} likes {plural}.",
        f"{who.chinese}喜欢{chinese}。",
        ((who.english, who.chinese), ("likes", "喜欢"), (plural, chinese)),
        (ask(f"What does {who.english} like?", capital(plural) + ".", f"{who.chinese}喜欢什么？", chinese + "。"),),
    )


def is_doing(scene: Scene) -> Sentence:
    deed, who, place = scene.rng.choice(words.DEEDS), scene.person, scene.place
    subject, subject_zh, be = who.english, who.chinese, "is"
    if scene.rng.random() < 0.3:
        subject, subject_zh, be = (
            f"{who.english} and {scene.friend.english}",
            f"{who.chinese}和{scene.friend.chinese}",
            "are",
        )
    return Sentence(
        f"{subject} {be} {deed.ing} {place.where}.",
        f"{subject_zh}正在{place.inside}{deed.chinese}。",
        ((subject, subject_zh), (f"{be} {deed.ing}", f"正在{deed.chinese}"), (place.where, place.inside)),
        (
            ask(f"What {be} {subject} doing?", f"{capital(deed.ing)}.", f"{subject_zh}在做什么？", f"{deed.chinese}。"),
            ask(f"Where {be} {subject}?", capital(place.where) + ".", f"{subject_zh}在哪里？", f"在{place.inside}。"),
            ask(
                f"Who is {deed.ing} {place.where}?",
                subject + ".",
                f"谁在{place.inside}{deed.chinese}？",
                subject_zh + "。",
            ),
        ),
    )


def animal_is_doing(scene: Scene) -> Sentence:
    rng, place = scene.rng, scene.place
    noun, deed = rng.choice(words.ANIMALS), rng.choice(words.ANIMAL_DEEDS)
    adjectives = pick_adjectives(rng, noun)
    english = " ".join(["the", *(a for a, _ in adjectives), noun.english])
    chinese = described(noun, *adjectives)
    return Sentence(
        f"{capital(english)} is {deed.ing} {place.where}.",
        f"{chinese}正在{place.inside}{deed.chinese}。",
        ((english, chinese), (f"is {deed.ing}", f"正在{deed.chinese}"), (place.where, place.inside)),
        (
            ask(
                f"What is the {noun.english} doing?",
                f"{capital(deed.ing)}.",
                f"{noun.chinese}在做什么？",
                f"{deed.chinese}。",
            ),
            ask(
                f"Where is the {noun.english}?",
                capital(place.where) + ".",
                f"{noun.chinese}在哪里？",
                f"在{place.inside}。",
            ),
        ),
    )


def past_deed(scene: Scene) -> Sentence:
    rng, who, place = scene.rng, scene.person, scene.place
    verb = rng.choice(words.OBTAIN)
    kinds = (
        words.OBJECTS
        + (words.ANIMALS if verb.base in ("see", "draw", "find") else ())
        + (words.FOODS if verb.base in ("buy", "sell") else ())
    )
    noun, number, _, (english, chinese) = thing(rng, kinds=kinds)
    day, tag = rng.choice(
        (("Yesterday", "昨天"), ("This morning", "今天早上"), *((f"On {e}", c) for e, c in words.DAYS))
    )
    return Sentence(
        f"{day} {who.english} {verb.past} {english} {place.where}.",
        f"{tag}{who.chinese}在{place.inside}{verb.chinese}{chinese}。",
        (
            (day.lower() if day[0] != "O" else day, tag),
            (who.english, who.chinese),
            (verb.past, verb.chinese),
            (english, chinese),
            (place.where, place.inside),
        ),
        (
            ask(
                f"What did {who.english} {verb.base}?",
                capital(english) + ".",
                f"{who.chinese}{verb.chinese}什么？",
                chinese + "。",
            ),
            ask(
                f"Where did {who.english} {verb.base} {english}?",
                capital(place.where) + ".",
                f"{who.chinese}在哪里{verb.chinese}{chinese}？",
                f"在{place.inside}。",
            ),
            ask(
                f"When did {who.english} {verb.base} {english}?",
                f"{day}.",
                f"{who.chinese}什么时候{verb.chinese}{chinese}？",
                f"{tag}。",
            ),
        ),
    )


def will_do(scene: Scene) -> Sentence:
    rng, who, place = scene.rng, scene.person, scene.place
    deed = rng.choice(words.DEEDS)
    day, tag = rng.choice((("Tomorrow", "明天"), ("This evening", "今天晚上"), ("Next week", "下周")))
    return Sentence(
        f"{day} {who.english} will {deed.base} {place.where}.",
        f"{tag}{who.chinese}会在{place.inside}{deed.chinese}。",
        (
            (day.lower(), tag),
            (who.english, who.chinese),
            (f"will {deed.base}", f"会{deed.chinese}"),
            (place.where, place.inside),
        ),
        (
            ask(
                f"What will {who.english} do?",
                f"{capital(deed.base)}.",
                f"{who.chinese}会做什么？",
                f"{deed.chinese}。",
            ),
            ask(
                f"When will {who.english} {deed.base}?", f"{day}.", f"{who.chinese}什么时候{deed.chinese}？", f"{tag}。"
            ),
        ),
    )


FIRST_FRAMES: tuple[Callable[[Scene], Sentence], ...] = (
    there_are,
    has,
    has_no,
    likes,
    is_doing,
    animal_is_doing,
    past_deed,
    will_do,
)
