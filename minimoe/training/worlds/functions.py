"""Small Python functions, each with a task in words, calls, and the results that Python itself gave."""

import textwrap
from dataclasses import dataclass
from random import Random
from typing import Any

Triple = tuple[str, str, str]


@dataclass(frozen=True)
class Function:
    """A function definition and what it is for; `calls` are (expression, its repr) pairs computed by running it."""

    name: str
    task: tuple[str, str]
    source: str
    calls: tuple[tuple[str, str], ...]
    plan: str

    @property
    def key(self) -> str:
        """What makes two functions the same one: the task, whatever the variables are called."""
        return self.task[0]


def run(source: str, *expressions: str) -> list[Any]:
    """Execute generated source (only ever the corpus's own) and evaluate expressions on it."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    return [eval(expression, scope) for expression in expressions]


def condition(rng: Random) -> Triple:
    """(expression with {x}, English, Chinese) of a test on a number."""
    k = rng.randint(2, 9)
    return rng.choice(
        (
            ("{x} % 2 == 0", "even", "偶数"),
            ("{x} % 2 == 1", "odd", "奇数"),
            (f"{{x}} > {k}", f"greater than {k}", f"大于{k}的数"),
            (f"{{x}} < {k}", f"less than {k}", f"小于{k}的数"),
            (f"{{x}} % {k} == 0", f"divisible by {k}", f"能被{k}整除的数"),
            (f"{{x}} != {k}", f"not equal to {k}", f"不等于{k}的数"),
        )
    )


def change(rng: Random) -> tuple[str, str, str, str]:
    """(expression with {x}, English verb phrase on "each number", Chinese, a name) of an operation on a number."""
    k = rng.randint(2, 9)
    return rng.choice(
        (
            (f"{{x}} + {k}", f"adds {k} to", f"加{k}", f"add_{k}"),
            (f"{{x}} - {k}", f"subtracts {k} from", f"减{k}", f"subtract_{k}"),
            (f"{{x}} * {k}", f"multiplies by {k}", f"乘以{k}", f"times_{k}"),
            (f"{{x}} // {k}", f"divides by {k}", f"整除以{k}", f"divide_{k}"),
            (f"{k} - {{x}}", f"takes from {k}", f"用{k}去减", f"from_{k}"),
            ("{x} * {x}", "squares", "平方", "square"),
        )
    )


def on(phrase: str, target: str) -> str:
    """ "adds 3 to each number" but "multiplies each number by 3"."""
    verb, *rest = phrase.split(" ", 1)
    return f"{phrase} {target}" if phrase.endswith((" to", " from")) or not rest else f"{verb} {target} {rest[0]}"


def numbers(rng: Random) -> str:
    """A short list of small numbers, as source."""
    return str([rng.randint(1, 12) for _ in range(rng.randint(2, 5))])


def looped(name: str, argument: str, item: str, value: str, test: str | None, as_loop: bool) -> str:
    """A function from a list to a list: a comprehension or the same thing as a loop."""
    if not as_loop:
        where = f" if {test}" if test else ""
        return f"def {name}({argument}):\n    return [{value} for {item} in {argument}{where}]\n"
    body = f"result.append({value})"
    body = f"if {test}:\n    {body}" if test else body
    return f"def {name}({argument}):\n    result = []\n    for {item} in {argument}:\n{textwrap.indent(body, ' ' * 8)}\n    return result\n"


def list_function(rng: Random) -> Function:
    """Keep some numbers, change each, or both."""
    argument, item, as_loop = (
        rng.choice(("numbers", "values", "items")),
        rng.choice(("n", "x", "number")),
        rng.random() < 0.5,
    )
    test, english, chinese = condition(rng)
    value, verb, verb_chinese, label = change(rng)
    kind = rng.choice(("keep", "change", "change", "both", "both"))
    if kind == "keep":
        name, task = (
            f"keep_{english.replace(' ', '_')}",
            (f"keeps the numbers that are {english}", f"保留列表中{chinese}"),
        )
        source, plan = (
            looped(name, argument, item, item, test.format(x=item), as_loop),
            f"input: list\ntest: {test.format(x=item)}\nkeep: {item}",
        )
    elif kind == "change":
        name, task = f"{label}_all", (on(verb, "each number") + " in a list", f"把列表中的每个数{verb_chinese}")
        source, plan = (
            looped(name, argument, item, value.format(x=item), None, as_loop),
            f"input: list\neach: {value.format(x=item)}",
        )
    else:
        name = f"{label}_if_{english.replace(' ', '_')}"
        task = (on(verb, f"the numbers that are {english}"), f"把列表中{chinese}{verb_chinese}")
        source = looped(name, argument, item, value.format(x=item), test.format(x=item), as_loop)
        plan = f"input: list\ntest: {test.format(x=item)}\neach: {value.format(x=item)}"
    return finish(rng, name, task, source, plan, [numbers(rng) for _ in range(2)])


def total_function(rng: Random) -> Function:
    """Count or add up the numbers that pass a test."""
    argument, item = rng.choice(("numbers", "values")), rng.choice(("n", "x", "number"))
    test, english, chinese = condition(rng)
    counts = rng.random() < 0.5
    step, word = ("1", "count") if counts else (item, "sum")
    name = f"{word}_{english.replace(' ', '_')}"
    task = (
        (f"counts the numbers that are {english}", f"求列表中{chinese}的个数")
        if counts
        else (f"adds up the numbers that are {english}", f"求列表中{chinese}的和")
    )
    if rng.random() < 0.5:
        source = f"def {name}({argument}):\n    total = 0\n    for {item} in {argument}:\n        if {test.format(x=item)}:\n            total += {step}\n    return total\n"
    else:
        source = f"def {name}({argument}):\n    return sum({step} for {item} in {argument} if {test.format(x=item)})\n"
    return finish(
        rng,
        name,
        task,
        source,
        f"input: list\ntest: {test.format(x=item)}\nadd: {step}",
        [numbers(rng) for _ in range(2)],
    )


def scalar_function(rng: Random) -> Function:
    """A number in, a number or a truth value out: two operations in a row, a test, or a choice."""
    x = rng.choice(("n", "x", "number"))
    (first, verb, chinese, label), (second, verb2, chinese2, label2) = change(rng), change(rng)
    test, english, tested = condition(rng)
    holds = tested.removesuffix("的数") if tested.endswith("的数") else "是" + tested
    kind = rng.choice(("chain", "test", "choice"))
    inputs = [str(v) for v in rng.sample(range(1, 13), 2)]
    if kind == "chain":
        name, task = (
            f"{label}_then_{label2}",
            (f"{on(verb, 'a number')} and then {on(verb2, 'it')}", f"先把一个数{chinese}，再{chinese2}"),
        )
        source = f"def {name}({x}):\n    {x} = {first.format(x=x)}\n    return {second.format(x=x)}\n"
        return finish(
            rng, name, task, source, f"input: {x}\nfirst: {first.format(x=x)}\nthen: {second.format(x=x)}", inputs
        )
    if kind == "test":
        name, task = (
            f"is_{english.replace(' ', '_')}",
            (f"tests whether a number is {english}", f"判断一个数是不是{tested.removesuffix('的数')}"),
        )
        return finish(
            rng,
            name,
            task,
            f"def {name}({x}):\n    return {test.format(x=x)}\n",
            f"input: {x}\ntest: {test.format(x=x)}",
            inputs,
        )
    name = f"{label}_or_{label2}"
    task = (
        f"{on(verb, 'a number')} if it is {english} and otherwise {on(verb2, 'it')}",
        f"如果一个数{holds}就{chinese}，否则{chinese2}",
    )
    source = f"def {name}({x}):\n    if {test.format(x=x)}:\n        return {first.format(x=x)}\n    return {second.format(x=x)}\n"
    return finish(
        rng,
        name,
        task,
        source,
        f"input: {x}\ntest: {test.format(x=x)}\nyes: {first.format(x=x)}\nno: {second.format(x=x)}",
        inputs,
    )


TEXT_WORDS = (
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
)


def text_function(rng: Random) -> Function:
    """A word in, a word or a number out."""
    s, k, letter = rng.choice(("text", "word", "s")), rng.randint(2, 5), rng.choice("aeiortln")
    suffix = rng.choice(("ing", "er", "ly", "s", "ful", "ness"))
    name, task, chinese, value = rng.choice(
        (
            (f"repeat_{k}", f"repeats a word {k} times", f"把一个词重复{k}次", f"{s} * {k}"),
            (f"first_{k}", f"returns the first {k} letters of a word", f"返回一个词的前{k}个字母", f"{s}[:{k}]"),
            (f"last_{k}", f"returns the last {k} letters of a word", f"返回一个词的后{k}个字母", f"{s}[-{k}:]"),
            (
                f"count_{letter}",
                f"counts the letter {letter} in a word",
                f"数出一个词里有几个字母{letter}",
                f'{s}.count("{letter}")',
            ),
            (f"add_{suffix}", f"adds {suffix} to the end of a word", f"在一个词后面加上{suffix}", f'{s} + "{suffix}"'),
            (
                f"starts_with_{letter}",
                f"tests whether a word starts with {letter}",
                f"判断一个词是不是以{letter}开头",
                f'{s}.startswith("{letter}")',
            ),
            (
                f"longer_than_{k}",
                f"tests whether a word is longer than {k} letters",
                f"判断一个词是不是多于{k}个字母",
                f"len({s}) > {k}",
            ),
        )
    )
    source = f"def {name}({s}):\n    return {value}\n"
    return finish(
        rng,
        name,
        (task, chinese),
        source,
        f"input: {s}\nreturn: {value}",
        [f'"{w}"' for w in rng.sample(TEXT_WORDS, 2)],
    )


def finish(rng: Random, name: str, task: tuple[str, str], source: str, plan: str, inputs: list[str]) -> Function:
    """Run the function on its inputs and bind everything together."""
    expressions = [f"{name}({value})" for value in inputs]
    results = run(source, *expressions)
    return Function(name, task, source, tuple((e, repr(r)) for e, r in zip(expressions, results, strict=True)), plan)


def function(rng: Random) -> Function:
    """A function of any of the kinds above."""
    return rng.choice((list_function, list_function, total_function, scalar_function, scalar_function, text_function))(
        rng
    )
