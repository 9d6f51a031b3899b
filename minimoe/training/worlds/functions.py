"""Small Python functions, each with a task in words, calls, the results that Python itself gave, and their working."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from minimoe.training.worlds.operations import (
    TEXT_WORDS,
    Change,
    NumberTest,
    a_change,
    a_longer_word,
    a_part,
    a_question,
    a_test,
    comparison,
    divisibility,
    grows,
    small_change,
)


@dataclass(frozen=True)
class Function:
    """A function definition and what it is for.

    calls: (expression, its repr) pairs computed by running it; traces: how one works each of them out by hand.
    """

    name: str
    task: tuple[str, str]
    source: str
    calls: tuple[tuple[str, str], ...]
    traces: tuple[str, ...]
    plan: str

    @property
    def key(self) -> str:
        """What makes two functions the same one: the task, whatever the variables are called."""
        return self.task[0]

    @property
    def arguments(self) -> tuple[str, ...]:
        """What stands between the brackets of each call."""
        return tuple(call.removeprefix(f"{self.name}(").removesuffix(")") for call, _ in self.calls)

    @property
    def worked(self) -> str:
        """The first call, worked out in a sentence and with its result."""
        call, result = self.calls[0]
        return f"With `{self.arguments[0]}`: {self.traces[0]}.\n`{call}` gives `{result}`."


def run(source: str, *expressions: str) -> list[Any]:
    """Execute generated source (only ever the corpus's own) and evaluate expressions on it."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    return [eval(expression, scope) for expression in expressions]


def finish(
    name: str, task: tuple[str, str], source: str, plan: str, inputs: Sequence[Any], trace: Callable[[Any], str]
) -> Function:
    """Run the function on its inputs and bind everything together. `trace` works one input out."""
    expressions = [f"{name}({literal(value)})" for value in inputs]
    results = run(source, *expressions)
    calls = tuple((e, repr(r)) for e, r in zip(expressions, results, strict=True))
    return Function(name, task, source, calls, tuple(trace(value) for value in inputs), plan)


def literal(value: Any) -> str:
    """A value as source; words in double quotes."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def numbers(rng: Random) -> list[int]:
    """A short list of small numbers."""
    return [rng.randint(1, 12) for _ in range(rng.randint(2, 3))]


def looped(name: str, argument: str, item: str, value: str, test: str | None, as_loop: bool) -> str:
    """A function from a list to a list: a comprehension or the same thing as a loop."""
    if not as_loop:
        where = f" if {test}" if test else ""
        return f"def {name}({argument}):\n    return [{value} for {item} in {argument}{where}]\n"
    body = f"result.append({value})"
    body = f"if {test}:\n    {body}" if test else body
    return f"def {name}({argument}):\n    result = []\n    for {item} in {argument}:\n{textwrap.indent(body, ' ' * 8)}\n    return result\n"


@dataclass(frozen=True)
class Filter:
    """One test on a number or two at once, with the words for all of it."""

    tests: tuple[NumberTest, ...]

    @classmethod
    def draw(cls, rng: Random, both: float) -> "Filter":
        """With probability `both` two tests, one of divisibility and one of size, in either order."""
        if rng.random() >= both:
            return cls((a_test(rng),))
        pair = [divisibility(rng), comparison(rng)]
        rng.shuffle(pair)
        return cls(tuple(pair))

    @property
    def english(self) -> str:
        return " and ".join(test.english for test in self.tests)

    @property
    def among(self) -> str:
        """The numbers of a list that pass, in Chinese."""
        if len(self.tests) == 1:
            return self.tests[0].among
        return "列表中" + "而且".join(test.predicate for test in self.tests) + "的数"

    @property
    def label(self) -> str:
        return self.english.replace(" ", "_")

    def on(self, x: str) -> str:
        return " and ".join(test.on(x) for test in self.tests)

    def holds(self, number: int) -> bool:
        return all(test.holds(number) for test in self.tests)

    def worked(self, number: int) -> str:
        """ "7 > 5 yes", or "7 > 5 yes and 7 % 2 == 0 no"; like Python it stops at the first no."""
        steps = []
        for test in self.tests:
            steps.append(test.worked(number))
            if not test.holds(number):
                break
        return " and ".join(steps)


def list_function(rng: Random) -> Function:
    """Keep some numbers, change each, or both."""
    argument, item = rng.choice(("numbers", "values", "items")), rng.choice(("n", "x", "number"))
    as_loop = rng.random() < 0.5
    kind = rng.choice(("keep", "change", "both", "both"))
    test, change = Filter.draw(rng, both=0.7 if kind == "keep" else 0.0), a_change(rng)
    inputs = [numbers(rng) for _ in range(2)]
    if kind == "keep":
        name, task = f"keep_{test.label}", (f"keeps the numbers that are {test.english}", f"保留{test.among}")
        source = looped(name, argument, item, item, test.on(item), as_loop)
        plan = f"input: list\ntest: {test.on(item)}\nkeep: {item}"
        return finish(name, task, source, plan, inputs, lambda given: ", ".join(test.worked(n) for n in given))
    if kind == "change":
        name = f"{change.label}_all"
        task = (change.on_target("each number in a list"), f"把列表中的每个数{change.chinese}")
        source = looped(name, argument, item, change.on(item), None, as_loop)
        plan = f"input: list\neach: {change.on(item)}"
        return finish(name, task, source, plan, inputs, lambda given: ", ".join(change.worked(n) for n in given))
    name = f"{change.label}_if_{test.label}"
    task = (
        change.on_target(f"the numbers that are {test.english}"),
        f"把{test.among}{change.chinese}",
    )
    source = looped(name, argument, item, change.on(item), test.on(item), as_loop)
    plan = f"input: list\ntest: {test.on(item)}\neach: {change.on(item)}"

    def trace(given: list[int]) -> str:
        return ", ".join(test.worked(n) + (f": {change.worked(n)}" if test.holds(n) else "") for n in given)

    return finish(name, task, source, plan, inputs, trace)


def total_function(rng: Random) -> Function:
    """Count or add up the numbers that pass one test or two."""
    argument, item = rng.choice(("numbers", "values")), rng.choice(("n", "x", "number"))
    test, counts = Filter.draw(rng, both=0.8), rng.random() < 0.5
    step, word = ("1", "count") if counts else (item, "sum")
    name = f"{word}_{test.label}"
    task = (
        (f"counts the numbers that are {test.english}", f"求{test.among}的个数")
        if counts
        else (f"adds up the numbers that are {test.english}", f"求{test.among}的和")
    )
    if rng.random() < 0.5:
        source = f"def {name}({argument}):\n    total = 0\n    for {item} in {argument}:\n        if {test.on(item)}:\n            total += {step}\n    return total\n"
    else:
        source = f"def {name}({argument}):\n    return sum({step} for {item} in {argument} if {test.on(item)})\n"

    def trace(given: list[int]) -> str:
        steps, total = [], 0
        for n in given:
            line = test.worked(n)
            if test.holds(n):
                more = 1 if counts else n
                line, total = f"{line}: {total} + {more} = {total + more}", total + more
            steps.append(line)
        return ", ".join(steps)

    plan = f"input: list\ntest: {test.on(item)}\nadd: {step}"
    return finish(name, task, source, plan, [numbers(rng) for _ in range(2)], trace)


def scalar_function(rng: Random) -> Function:
    """A number in, a number or a truth value out: two operations in a row, a test, or a choice."""
    x, kind = rng.choice(("n", "x", "number")), rng.choice(("chain", "chain", "choice", "choice", "test"))
    inputs = rng.sample(range(1, 13), 2)
    first, test = a_change(rng), a_test(rng)
    if kind == "test":
        name = f"is_{test.english.replace(' ', '_')}"
        task = (f"tests whether a number is {test.english}", f"判断一个数是不是{test.chinese.removesuffix('的数')}")
        source, plan = f"def {name}({x}):\n    return {test.on(x)}\n", f"input: {x}\ntest: {test.on(x)}"
        return finish(name, task, source, plan, inputs, test.worked)
    if kind == "chain":
        second = small_change(rng) if grows(first) else a_change(rng)
        name = f"{first.label}_then_{second.label}"
        task = (
            f"{first.on_target('a number')} and then {second.on_target('it')}",
            f"先把一个数{first.chinese}，再{second.chinese}",
        )
        source = f"def {name}({x}):\n    {x} = {first.on(x)}\n    return {second.on(x)}\n"
        plan = f"input: {x}\nfirst: {first.on(x)}\nthen: {second.on(x)}"
        return finish(name, task, source, plan, inputs, lambda n: f"{first.worked(n)}, {second.worked(first.of(n))}")
    second = a_change(rng)
    while second == first:
        second = a_change(rng)
    name = f"{first.label}_or_{second.label}"
    task = (
        f"{first.on_target('a number')} if it is {test.english} and otherwise {second.on_target('it')}",
        f"如果一个数{test.predicate}就{first.chinese}，否则{second.chinese}",
    )
    source = f"def {name}({x}):\n    if {test.on(x)}:\n        return {first.on(x)}\n    return {second.on(x)}\n"
    plan = f"input: {x}\ntest: {test.on(x)}\nyes: {first.on(x)}\nno: {second.on(x)}"

    def trace(n: int) -> str:
        chosen: Change = first if test.holds(n) else second
        return f"{test.worked(n)}: {chosen.worked(n)}"

    return finish(name, task, source, plan, inputs, trace)


def text_function(rng: Random) -> Function:
    """A word in, a word, a number or a truth value out: one step, or a part of the word made longer."""
    s, kind = rng.choice(("text", "word", "s")), rng.choice(("one", "two", "two", "two"))
    first = rng.choice((a_part, a_longer_word, a_question) if kind == "one" else (a_part,))(rng)
    last = first if kind == "one" else a_longer_word(rng)
    inputs = rng.sample(TEXT_WORDS, 2)
    if kind == "one":
        wording = (
            (first.english, first.chinese) if first.is_deed else (f"returns {first.english}", f"返回{first.chinese}")
        )
        name, task = first.label, (wording[0].format("a word"), wording[1].format("一个词"))
        source = f"def {name}({s}):\n    return {first.on(s)}\n"
        return finish(name, task, source, f"input: {s}\nreturn: {first.on(s)}", inputs, first.worked)
    name = f"{first.label}_then_{last.label}"
    task = (
        f"takes {first.english.format('a word')} and then {last.english.format('them')}",
        f"先取{first.chinese.format('一个词')}，再{last.chinese.format('它们')}",
    )
    source = f"def {name}({s}):\n    {s} = {first.on(s)}\n    return {last.on(s)}\n"
    plan = f"input: {s}\nfirst: {first.on(s)}\nthen: {last.on(s)}"
    return finish(name, task, source, plan, inputs, lambda word: f"{first.worked(word)}, {last.worked(first.of(word))}")


KINDS = (list_function, list_function, total_function, scalar_function, scalar_function, text_function)


def function(rng: Random) -> Function:
    """A function of any of the kinds above."""
    return rng.choice(KINDS)(rng)
