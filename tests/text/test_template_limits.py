"""Chat templates are untrusted programs: each ends soon and within little memory, or is stopped."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from minimoe.errors import BadArgument, BadTokenizer
from minimoe.paths import checkout
from minimoe.text import chat, template_budget
from minimoe.text.chat import ChatTemplate
from minimoe.text.template_budget import Budget, TemplateStopped

CONVERSATION = [{"role": "user", "content": "Hi"}]

# Each would end within a second without limits, so that a limit that is lost fails a test instead of hanging the suite.
TOO_MANY_STEPS = {
    "nested loops": "{% for a in range(300) %}{% for b in range(300) %}{% endfor %}{% endfor %}",
    "the condition of a loop": "{% for a in range(99) %}{% for b in range(300) if nothing %}{% endfor %}{% endfor %}",
    "a recursive loop": "{% for x in [0] * 90 recursive %}{{ loop([0] * 90) if loop.depth < 3 }}{% endfor %}",
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(12) }}"
    ),
    "blocks that show each other twice": "".join(
        f"{{% block b{i} %}}{{{{ self.b{i + 1}() }}}}{{{{ self.b{i + 1}() }}}}{{% endblock %}}" for i in range(11)
    )
    + "{% block b11 %}{% endblock %}",
    "a list of lists, printed": "{{ x }}",
    "a list of lists, compared": "{{ x == y }}",
    "a list of lists in a list": "{{ x in [y, y] }}",
    "a list of lists, tested": "{{ x is eq(y) }}",
    "a list of lists as JSON": "{{ x | tojson }}",
    "a list of lists joined to text": "{{ x ~ '' }}",
    "a list of lists, sorted": "{{ [x, y] | sort }}",
    "a list of lists, looked for": "{{ [y].index(x) }}",
    "a view of it": "{{ {1: x}.items() }}",
    "a tuple of tuples as a key": "{% set d = {t: 1} %}",
    "a tuple of tuples looked for in a dict": "{{ t in {1: 1} }}",
    "a tuple of tuples looked up": "{{ {1: 1}[t] }}",
    "a tuple of tuples got": "{{ {1: 1}.get(t) }}",
    "lists added up": "{{ ([[1] * 20] * 1000) | sum(start=[]) | length }}",
    "many characters stripped": "{{ ('a' * 9000).strip('b' * 9000 ~ 'a') }}",
    "a text searched often": "{% set z = 'a' * 90000 %}{% for i in range(200) %}{% set y = 'b' in z %}{% endfor %}",
}
SETUP = (
    "{% set n = namespace(x=[1, 2], y=[1, 2], t=(1, 2)) %}{% for i in range(13) %}"
    "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% set n.t = (n.t, n.t) %}{% endfor %}"
    "{% set x = n.x %}{% set y = n.y %}{% set t = n.t %}"
)
LINE = "x" * 1_000
TOO_MUCH_TEXT = {
    "a text repeated": "{{ 'A' * 300000 }}",
    "a number times a text": "{% set x = 300000 * 'A' %}",
    "a list repeated": "{% set x = [1] * 300000 %}",
    "a text doubled": "{% set n = namespace(s='x') %}{% for i in range(20) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "a text added": "{% set n = namespace(s='x') %}{% for i in range(20) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "a list added": "{% set n = namespace(s=[1]) %}{% for i in range(20) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "center, a filter": "{{ 'x' | center(300000) }}",
    "center, a method": "{{ 'x'.center(300000) }}",
    "center, through map": "{{ ['x'] | map('center', 300000) | list }}",
    "center, as an attribute": "{{ ('x' | attr('center'))(300000) }}",
    "center, not while compiling": "{% autoescape 'x' | center(300000) %}{% endautoescape %}",
    "ljust": "{{ 'x'.ljust(300000) }}",
    "zfill": "{{ 'x'.zfill(300000) }}",
    "expandtabs": "{{ ('\\t' * 300).expandtabs(1000) }}",
    "a width in a format": "{{ '%300000d' % 1 }}",
    "a width that is a value": "{{ '%*d' % (300000, 1) }}",
    "a width in a filter": "{{ '%.300000f' | format(1) }}",
    "a width in str.format": "{{ '{:300000}'.format(1) }}",
    "a nested width in str.format": "{{ '{:{}}'.format(1, 300000) }}",
    "a width in format_map": "{{ '{a:300000}'.format_map({'a': 1}) }}",
    "a long value, formatted often": "{{ ('%(a)s' * 300) % {'a': 'x' * 1000} }}",
    "batch": "{{ [1] | batch(300000, 'x') | list }}",
    "slice": "{{ [1] | slice(300000) | list }}",
    "replace, a filter": "{{ ('a' * 600) | replace('a', 'b' * 600) }}",
    "replace, by name": "{{ ('a' * 600) | replace(new='b' * 600, old='a') }}",
    "replace, a method": "{{ ('a' * 600).replace('a', 'b' * 600) }}",
    "replace nothing": "{{ ('a' * 600).replace('', 'b' * 600) }}",
    "join, a filter": "{{ range(600) | join('x' * 600) }}",
    "join, a method": "{{ ('x' * 600).join(['a'] * 600) }}",
    "join of what map made": "{{ ('x' * 600).join(range(600) | map('string')) }}",
    "the same text joined": "{{ (['x' * 600] * 600) | join }}",
    "split": "{{ ('a,' * 3000).split(',') | length }}",
    "a text as a list": "{{ ('a' * 9000) | list | length }}",
    "indent": "{{ ('\\n' * 300) | indent(1000, true, true) }}",
    "indent with a text": "{{ ('\\n' * 300) | indent('x' * 1000, true, true) }}",
    "JSON, indented": "{{ ([1] * 300) | tojson(indent=1000) }}",
    "JSON, separated": "{{ ([1] * 300) | tojson(separators=('x' * 1000, ':')) }}",
    "a macro's own text": "{% macro f() %}{% for i in range(300) %}" + LINE + "{% endfor %}{% endmacro %}{{ f() }}",
    "a set block": "{% set z %}{% for i in range(300) %}" + LINE + "{% endfor %}{% endset %}",
    "constants in a loop": "{% set z %}{% for i in range(300) %}{{ '" + LINE + "' | upper }}{% endfor %}{% endset %}",
    "a namespace that grows": (
        "{% set n = namespace(s=[]) %}{% for i in range(300) %}{% set n.s = [n.s, 'x' * 1000] %}{% endfor %}"
    ),
    "text cut again and again": "{% set x = 'a' * 9000 %}{% for i in range(30) %}{% set y = x[1:] %}{% endfor %}",
}  # fmt: skip
HUGE_NUMBERS = {
    "a power": "{% set x = 10 ** 10000 %}",
    "squares": "{% set n = namespace(i=3) %}{% for i in range(15) %}{% set n.i = n.i * n.i %}{% endfor %}",
    "read from text": "{{ ('f' * 2000) | int(0, 16) // 7 }}",
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so small that the templates above are harmless."""
    for name, value in (("STEPS", 10_000), ("STEPS_PER_VALUE", 0), ("SIZE", 100_000), ("SIZE_PER_BYTE", 0)):
        monkeypatch.setattr(template_budget, name, value)


def stopped(template: str) -> str:
    with pytest.raises(BadTokenizer) as caught:
        ChatTemplate(template, "t.jinja").render(CONVERSATION)
    assert str(caught.value).startswith("t.jinja: the chat template") and "cannot render" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("case", TOO_MANY_STEPS)
@pytest.mark.usefixtures("small")
def test_a_template_of_too_many_steps_is_stopped(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_budget, "SIZE", 100_000_000)
    assert "too many steps" in stopped(SETUP + TOO_MANY_STEPS[case])


@pytest.mark.parametrize("case", TOO_MUCH_TEXT)
@pytest.mark.usefixtures("small")
def test_a_template_that_creates_too_much_is_stopped(case: str) -> None:
    message = stopped(TOO_MUCH_TEXT[case])
    assert any(words in message for words in ("too much text", "width that is itself a value", "no valid Jinja"))


@pytest.mark.parametrize("case", HUGE_NUMBERS)
def test_a_template_that_computes_with_huge_numbers_is_stopped(case: str) -> None:
    assert "a number of more than 4096 bits" in stopped(HUGE_NUMBERS[case])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ strftime_now('%Y' * 101) }}", "pattern of at most 200 characters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "it nests too deeply"),
        ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "it nests too deeply"),
        ("{{ lipsum(1000000) }}", "'lipsum' is undefined"),
        ("{{ 'a' | urlize }}", "the filter urlize is for web pages"),
        ("{{ (1).to_bytes(9, 'big') }}", "access to attribute 'to_bytes' of 'int' object is unsafe"),
        ("{{ 'a'.translate({97: 'b'}) }}", "access to attribute 'translate' of 'str' object is unsafe"),
        ("{{ raise_exception('x' * 9000) }}", r"x{500} \.\.\."),
    ],
)
def test_unavailable_features_are_refused(template: str, message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        ChatTemplate(template, "t.jinja").render(CONVERSATION)


def test_a_namespace_that_contains_itself_is_not_printed() -> None:
    template = "{% set n = namespace() %}{% set n.x = [n, n] %}{{ n }}{{ [n] }}"
    assert ChatTemplate(template, "t").render(CONVERSATION) == "<Namespace>[<Namespace>]"


def test_a_rendered_text_longer_than_every_context_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "LONGEST_TEXT", 1_000)
    monkeypatch.setattr(chat, "TEXT_PER_CHARACTER", 0)
    assert ChatTemplate("{{ 'x' * 1000 }}", "t").render(CONVERSATION) == "x" * 1000
    assert "makes 1,001 characters" in stopped("{{ 'x' * 1001 }}")


def test_a_template_of_a_million_characters_is_refused() -> None:
    with pytest.raises(BadTokenizer, match="expected at most 1,000,000"):
        ChatTemplate("x" * 1_000_001, "t")


@pytest.mark.parametrize("inside", ["(" * 9_000 + "1" + ")" * 9_000, "9" * 5_000, ""])
def test_a_template_that_cannot_be_compiled_raises_bad_tokenizer(inside: str) -> None:
    with pytest.raises(BadTokenizer, match="no valid Jinja"):
        ChatTemplate("{{ " + inside + " }}", "t")


def test_a_time_out_of_the_caller_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alarm or a watchdog of the calling program may raise anywhere; it is unrelated to the messages."""
    template = ChatTemplate("{{ messages[0].content }}", "t")

    def strikes(*_: Any) -> None:
        raise TimeoutError("after 10 seconds")

    monkeypatch.setattr(template.sandbox, "getattr", strikes)
    with pytest.raises(TimeoutError, match="after 10 seconds"):
        template.render(CONVERSATION)


def test_the_budget_is_reset_for_every_rendering_and_grows_with_the_conversation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("STEPS", 500), ("STEPS_PER_VALUE", 100), ("SIZE", 1_000), ("SIZE_PER_BYTE", 20)):
        monkeypatch.setattr(template_budget, name, value)
    inner = "{% for n in messages %}{{ n.content[:1] }}{% endfor %}"
    every = ChatTemplate("{% for m in messages %}" + inner + "{% endfor %}", "t")
    for _ in range(20):
        assert every.render(CONVERSATION * 5) == "H" * 25
    assert every.render([{"role": "user", "content": "H" * 10_000}] * 20) == "H" * 400


def test_shared_parts_of_a_value_are_charged_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_budget, "STEPS", 50_000)
    budget = Budget()
    budget.begin([])
    once, twice = budget.read(["x" * 1_000]), budget.read(["x" * 1_000] * 2)
    assert twice > 1.9 * once
    knot: list[Any] = []
    knot.append(knot)
    with pytest.raises(TemplateStopped, match="too many steps"):
        budget.read(knot)


# ---------------------------------------------------------------- what is rendered stays the same

WORDS = ["a b", "<tag>", " x\n y ", "Ümlaut 世"]
VALUES: dict[str, Any] = {"words": WORDS, "numbers": [3, 1, 2, 2], "people": [{"n": "b", "a": 2}, {"n": "a", "a": 1}]}
EXPRESSIONS = """
words | join(', ') ~~ words | map('upper') | list ~~ words | map('upper') | join('|') ~~ words | first
words | last ~~ words | length ~~ words | select('in', ['a b']) | list ~~ words[1:]
words | reject('eq', 'a b') | list ~~ words[::-1] ~~ numbers | sort ~~ numbers | unique | list ~~ numbers | sum
numbers | max ~~ numbers | min ~~ numbers | batch(3) | list ~~ numbers | slice(2) | list ~~ numbers | reverse | list
numbers | map('string') | map('int') | sum ~~ people | map(attribute='n') | list
people | selectattr('a', 'gt', 1) | list ~~ people | groupby('n') | list ~~ people | sort(attribute='a')
people[0] | items | list ~~ people[0] | dictsort ~~ people[0].items() | list ~~ people[0].get('n')
people[0].get('z', 5) ~~ 'n' in people[0] ~~ people[0] == people[1] ~~ people[0] | length ~~ words[0].split()
words[0].split(' ')[0] ~~ words[2].strip() ~~ words[2].strip('\\n x') ~~ words[2] | trim
words[0].replace('a', 'bb') ~~ words[0] | replace('a', 'bb') ~~ words[0] | replace('a', 'bb', 1)
words[1] | escape ~~ words[0].center(9) ~~ words[0] | center(9) ~~ words[0].ljust(5) ~~ '7'.zfill(3)
'a\\tb'.expandtabs(4) ~~ '%s and %d' % ('a', 3) ~~ '%5.1f' % 2.25 ~~ '%s' | format('b') ~~ '{} {x}'.format(1, x=2)
'{:>4}'.format('a') ~~ 'a' * 3 ~~ 3 * 'a' ~~ [1] * 2 ~~ 2 ** 10 ~~ 7 // 2 ~~ 7 % 4 ~~ 7 / 2 ~~ 2 - 3 ~~ 1 + 1.5
-2 ~~ 2 ** -1 ~~ 'a' ~ 1 ~ none ~ nothing ~~ nothing | default('d') ~~ nothing is defined ~~ words is sequence
3 is divisibleby 3 ~~ words[2] | indent(2) ~~ words[2] | indent('> ', true) ~~ words[3] | title
words[3] | capitalize ~~ words[3] | lower ~~ 'abcdef ghi' | truncate(6) ~~ '3.7' | float | round
3.14159 | round(2) ~~ '12' | int ~~ 'ff' | int(0, 16) ~~ -1 | abs ~~ words | map('length') | list ~~ words[0] | list
words[0] | upper | lower ~~ words[1] | safe ~~ words[0] | wordcount ~~ range(3) | list ~~ range(2, 9, 3) | list
dict(a=1) ~~ (1, 2) + (3,) ~~ words | string ~~ {'a': {'b': [1, none, true]}} ~~ words[0].startswith('a')
words[0].find('b') ~~ words[0].partition(' ') ~~ words[3].upper() ~~ (5.0).is_integer() ~~ 1 < 2 < 3 ~~ 'a' in 'abc'
not 1 == 1 ~~ 1 if words else 2 ~~ words[0][::-1] ~~ words | random in words
"""
PIECES = [piece.strip() for line in EXPRESSIONS.strip().splitlines() for piece in line.split("~~")]
BLOCKS = [
    "{% for w in words %}{{ loop.index }}{{ loop.last }}{{ loop.length }}{{ w }}{{ loop.previtem }}{% endfor %}",
    "{% for n in numbers if n > 1 %}{{ loop.revindex }}{{ n }}{% else %}none{% endfor %}",
    "{% for w in words | map('upper') %}{{ loop.length }}{{ w }}{% break %}{% endfor %}",
    "{% for p in people recursive %}{{ p.n }}{{ loop(p.children or []) }}{% endfor %}",
    "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ caller() if caller }}{% endmacro %}{{ m(1) }}{{ m(1, 2, 3) }}"
    "{% call m(1) %}inside{% endcall %}",
    "{% set n = namespace(i=0) %}{% for w in words %}{% set n.i = n.i + w | length %}{% endfor %}{{ n.i }}",
    "{% set x %}a{{ words[0] }}{% endset %}{{ x }}{% filter upper %}b{{ x }}{% endfilter %}",
    "{% set a, b = 1, (2, 3) %}{{ a }}{{ b }}{% with c = 4 %}{{ c }}{% endwith %}",
    "{% block one %}{{ words[0] }}{% endblock %}{{ self.one() }}",
    "{% autoescape true %}{{ words[1] }}{{ words[1] ~ '<' }}{{ '<' + words[1] }}{% endautoescape %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{% set j = joiner() %}{{ j() }}{{ j() }}",
    "{{ '<' | escape ~ '&' }}{{ ('<' | escape) * 2 }}{{ '%s' | escape % '<' }}",
    "  {%- if words %}  \n  yes\n  {%- endif %}\n",
]  # fmt: skip


@pytest.mark.parametrize("template", ["{{ " + piece + " }}" for piece in PIECES] + BLOCKS)
def test_limits_do_not_change_what_is_rendered(template: str) -> None:
    plain = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    ).from_string(template)
    ours = ChatTemplate(template, "t")
    assert ours.run(VALUES, {"messages": []}) == plain.render(VALUES)


@settings(max_examples=20)
@given(parts=st.lists(st.sampled_from(PIECES + BLOCKS), min_size=2, max_size=5))
def test_limits_do_not_change_combinations_either(parts: list[str]) -> None:
    parts = [part for part in parts if "block" not in part]
    template = "".join(part if "{%" in part or "{{" in part else "{{ " + part + " }}" for part in parts)
    plain = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    ).from_string(template)
    assert ChatTemplate(template, "t").run(VALUES, {"messages": []}) == plain.render(VALUES)


# ---------------------------------------------------------------- the real limits

REAL = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'A' * 3000000000 }}",
    "{{ strftime_now('%' * 100000000) }}",
    "{{ 'x' | center(10 ** 9) }}",
    "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
    "{{ '%2000000000d' % 1 }}",
    "{% set x = 7 ** 100000000 %}{{ x }}",
    "{% set n = namespace(l=[1, 1]) %}{% for i in range(99) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l }}",
    "{% set n = namespace(g=['a']) %}{% for i in range(99999) %}{% set n.g = n.g | map('upper') %}{% endfor %}",
]
CHILD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, 2_000_000_000))
from minimoe.errors import MinimoeError
from minimoe.text.chat import ChatTemplate
for template in json.load(sys.stdin):
    try:
        print("rendered", len(ChatTemplate(template, "t").render([{"role": "user", "content": "Hi"}])))
    except MinimoeError as error:
        print(type(error).__name__)
"""


def test_the_real_limits_hold_in_a_process_of_two_gigabytes() -> None:
    pytest.importorskip("resource")
    child = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(REAL), capture_output=True, text=True, timeout=200,
        cwd=checkout(),
    )  # fmt: skip
    assert (child.returncode, child.stdout.split()) == (0, ["BadTokenizer"] * len(REAL)), child.stderr
