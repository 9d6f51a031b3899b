"""What the small Python functions are made of: a test on a number, a change of a number, a change of a word.

Each knows its words in both languages, its expression, and what one writes when working it out by hand.
"""

from dataclasses import dataclass
from random import Random
from typing import Any

TEXT_WORDS = [
    "cat",
    "bird",
    "apple",
    "red",
    "garden",
    "milk",
    "tiger",
    "book",
    "rain",
    "green",
    "hello",
    "river",
    "moon",
    "star",
    "lemon",
    "horse",
    "paper",
    "table",
    "stone",
    "orange",
    "winter",
    "flower",
    "island",
    "tree",
]


def value_of(expression: str, **names: Any) -> Any:
    """The value of an expression of the corpus's own."""
    return eval(expression, {}, names)


@dataclass(frozen=True)
class NumberTest:
    """Something that a number is or is not. `expression` holds {x}; `chinese` describes the numbers that pass."""

    expression: str
    english: str
    chinese: str

    def on(self, x: object) -> str:
        """The expression for a variable or a number."""
        return self.expression.format(x=x)

    def holds(self, number: int) -> bool:
        """Whether the number passes."""
        return bool(value_of(self.on(number)))

    def worked(self, number: int) -> str:
        """ "7 > 5 yes"."""
        return f"{self.on(number)} {'yes' if self.holds(number) else 'no'}"

    @property
    def among(self) -> str:
        """The numbers of a list that pass, in Chinese: 列表中的偶数, 列表中大于3的数."""
        return ("列表中" if self.chinese.endswith("的数") else "列表中的") + self.chinese

    @property
    def predicate(self) -> str:
        """The Chinese after "一个数": 大于3, 是偶数."""
        return self.chinese.removesuffix("的数") if self.chinese.endswith("的数") else "是" + self.chinese


@dataclass(frozen=True)
class Change:
    """Something done to a number. `verb` takes its object by `on_target`; `label` is a name for it."""

    expression: str
    verb: str
    chinese: str
    label: str

    def on(self, x: object) -> str:
        """The expression for a variable or a number."""
        return self.expression.format(x=x)

    def of(self, number: int) -> int:
        """The changed number."""
        return int(value_of(self.on("(x)"), x=number))

    def worked(self, number: int) -> str:
        """ "7 * 3 = 21"."""
        return f"{self.on(number)} = {self.of(number)}"

    def on_target(self, target: str) -> str:
        """ "adds 3 to each number" but "multiplies each number by 3"."""
        verb, *rest = self.verb.split(" ", 1)
        if self.verb.endswith((" to", " from")) or not rest:
            return f"{self.verb} {target}"
        return f"{verb} {target} {rest[0]}"


def divisibility(rng: Random) -> NumberTest:
    """Even, odd, or divisible by three or more (by two is called even)."""
    k = rng.randint(3, 9)
    return rng.choice(
        (
            NumberTest("{x} % 2 == 0", "even", "偶数"),
            NumberTest("{x} % 2 == 1", "odd", "奇数"),
            NumberTest(f"{{x}} % {k} == 0", f"divisible by {k}", f"能被{k}整除的数"),
        )
    )


def comparison(rng: Random) -> NumberTest:
    """Greater than, less than, or not equal to a number."""
    k = rng.randint(2, 9)
    return rng.choice(
        (
            NumberTest(f"{{x}} > {k}", f"greater than {k}", f"大于{k}的数"),
            NumberTest(f"{{x}} < {k}", f"less than {k}", f"小于{k}的数"),
            NumberTest(f"{{x}} != {k}", f"not equal to {k}", f"不等于{k}的数"),
        )
    )


def a_test(rng: Random) -> NumberTest:
    """A test on a number."""
    return rng.choice((divisibility, comparison))(rng)


def small_change(rng: Random) -> Change:
    """Adding or subtracting a number."""
    k = rng.randint(2, 9)
    return rng.choice(
        (
            Change(f"{{x}} + {k}", f"adds {k} to", f"加{k}", f"add_{k}"),
            Change(f"{{x}} - {k}", f"subtracts {k} from", f"减{k}", f"subtract_{k}"),
        )
    )


def a_change(rng: Random) -> Change:
    """A change of a number by one operation."""
    k = rng.randint(2, 9)
    return rng.choice(
        (
            small_change(rng),
            small_change(rng),
            Change(f"{{x}} * {k}", f"multiplies by {k}", f"乘以{k}", f"times_{k}"),
            Change(f"{{x}} // {k}", f"divides by {k}", f"除以{k}取整", f"divide_{k}"),
            Change(f"{k} - {{x}}", f"takes from {k}", f"变成{k}减去它的差", f"from_{k}"),
            Change("{x} * {x}", "squares", "平方", "square"),
        )
    )


def grows(change: Change) -> bool:
    """Whether the result may be large, so that only a small change should follow it."""
    return "*" in change.expression


@dataclass(frozen=True)
class WordChange:
    """Something done to a word or asked of it. English and Chinese hold {} for the word, the expression {x}."""

    expression: str
    english: str
    chinese: str
    label: str
    is_deed: bool = True  # the English is a verb phrase; otherwise it names a part of the word
    spelled: bool = True  # worked out by spelling the word first

    def on(self, x: str) -> str:
        """The expression for a variable."""
        return self.expression.format(x=x)

    def of(self, word: str) -> Any:
        """The result for a word."""
        return value_of(self.on("x"), x=word)

    def worked(self, word: str) -> str:
        """ "r i v e r: riv", or only the result where nothing needs to be spelled."""
        return f"{' '.join(word)}: {self.of(word)}" if self.spelled else str(self.of(word))


def a_part(rng: Random) -> WordChange:
    """The beginning or the end of a word."""
    k = rng.randint(2, 5)
    english, chinese, expression, label = rng.choice(
        (
            (f"the first {k} letters of {{}}", f"{{}}的前{k}个字母", f"{{x}}[:{k}]", f"first_{k}"),
            (f"the last {k} letters of {{}}", f"{{}}的后{k}个字母", f"{{x}}[-{k}:]", f"last_{k}"),
        )
    )
    return WordChange(expression, english, chinese, label, is_deed=False)


def a_longer_word(rng: Random) -> WordChange:
    """A word repeated or with an ending."""
    k, ending = rng.randint(2, 5), rng.choice(("ing", "er", "ly", "s", "ful", "ness"))
    english, chinese, expression, label = rng.choice(
        (
            (f"repeats {{}} {k} times", f"把{{}}重复{k}次", f"{{x}} * {k}", f"repeat_{k}"),
            (f"adds {ending} to {{}}", f"在{{}}后面加上{ending}", f'{{x}} + "{ending}"', f"add_{ending}"),
        )
    )
    return WordChange(expression, english, chinese, label, spelled=False)


def a_question(rng: Random) -> WordChange:
    """Something asked of a word."""
    k, letter = rng.randint(2, 5), rng.choice("aeiortln")
    english, chinese, expression, label = rng.choice(
        (
            (
                f"counts the letter {letter} in {{}}",
                f"数出{{}}里有几个字母{letter}",
                f'{{x}}.count("{letter}")',
                f"count_{letter}",
            ),
            (
                f"tests whether {{}} starts with {letter}",
                f"判断{{}}是不是以{letter}开头",
                f'{{x}}.startswith("{letter}")',
                f"starts_with_{letter}",
            ),
            (
                f"tests whether {{}} is longer than {k} letters",
                f"判断{{}}是不是多于{k}个字母",
                f"len({{x}}) > {k}",
                f"longer_than_{k}",
            ),
        )
    )
    return WordChange(expression, english, chinese, label)


def a_step(rng: Random) -> str:
    """One step of a working by itself, over the numbers that workings meet: "121 - 7 = 114".

    Steps are common to all functions, held-out ones too: what is held out is a task with its function.
    """
    kind = rng.choice(("near", "near", "near", "change", "change", "change", "sum", "test", "word"))
    if kind == "near":
        return small_change(rng).worked(rng.randint(-8, 144))
    if kind == "change":
        return a_change(rng).worked(rng.randint(-8, 21))
    if kind == "sum":
        total, more = rng.randint(0, 36), rng.choice((1, rng.randint(1, 12)))
        return f"{total} + {more} = {total + more}"
    if kind == "test":
        return a_test(rng).worked(rng.randint(1, 12))
    word, part, longer = rng.choice(TEXT_WORDS), a_part(rng), a_longer_word(rng)
    return f"{part.worked(word)}, {longer.worked(part.of(word))}"
