"""The sandbox of chat templates: Jinja with the settings and functions that templates expect, within a budget.

A template is an untrusted program. Jinja's immutable sandbox restricts it to plain data, but limits neither its time
nor its memory. Here every loop, call, filter, test and operator is charged to a `Budget`. `Sandbox` intercepts what
Jinja lets a sandbox intercept; for the rest (loops, `~`, comparisons, slices, literals) `Metering` adds charges to the
syntax tree. The rendered text is unchanged.
"""

import functools
import json
from collections.abc import Callable, Iterator, MappingView
from datetime import datetime
from sys import getsizeof
from typing import Any

from jinja2 import TemplateError, nodes, pass_context
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace

from minimoe.text.template_budget import POINTER, Budget, operator_growth

DATA = (str, bytes, int, float, complex, list, tuple, dict, set, frozenset, range, MappingView)


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


METHODS = words(  # of DATA, without those that a template does not need or that create large values from small ones
    """capitalize casefold center copy count endswith expandtabs find format format_map get index is_integer isalnum
    isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper items join keys
    ljust lower lstrip partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split
    splitlines startswith strip swapcase title upper values zfill"""
)
FOR_WEB_PAGES = ("pprint", "striptags", "urlize", "wordwrap", "xmlattr")  # slow on adversarial text
# Filters and tests that do not read inside their input; all others are charged for all of it.
SHALLOW_FILTERS = words("attr count d default first last length")
WALKING_FILTERS = words("items list map reject rejectattr reverse select selectattr")
SHALLOW_TESTS = words(
    """boolean callable defined false filter float integer iterable mapping none number sameas sequence string test true
    undefined"""
)
CALL = 4  # steps of any call
LONGEST_DATE = 200  # characters of a strftime pattern; the result can be a few hundred times as long


class Generation(Extension):
    """`{% generation %}` marks the assistant's text for training masks; its content is rendered unchanged."""

    tags = {"generation"}  # noqa: RUF012  (declared so in the base class)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class HiddenNamespace(Namespace):
    """A namespace, printed without its content, since it can contain itself."""

    def __repr__(self) -> str:
        return "<Namespace>"


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one template. Call `budget.begin` before each rendering."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[Generation, "jinja2.ext.loopcontrols"],
            optimized=False,  # no constant folding, which would run before the budget is set
            finalize=self.charge_output,
        )
        self.budget = Budget()
        self.filters["tojson"] = self.to_json
        self.filters |= {name: unavailable(name) for name in FOR_WEB_PAGES}
        for functions, shallow in ((self.filters, SHALLOW_FILTERS), (self.tests, SHALLOW_TESTS)):
            functions |= {name: self.metered(name, function, shallow) for name, function in functions.items()}
        self.filters |= {"minimoe.step": self.charge_step, "minimoe.text": self.charge_text}
        self.filters |= {"minimoe.read": self.charge_read, "minimoe.new": self.charge_new}
        del self.globals["lipsum"]
        self.globals |= {"namespace": HiddenNamespace, "raise_exception": refuse, "strftime_now": now}

    # ---------------------------------------------------------------- filters that Metering inserts

    def charge_step(self, size: int) -> bool:
        """Charge one loop iteration or macro call with `size` characters of template text."""
        self.budget.spend(size=4 * size)
        return True

    @pass_context  # prevents a call at compile time
    def charge_output(self, _: Context, value: Any) -> Any:
        return self.charge_text(value)

    def charge_text(self, value: Any) -> Any:
        """Charge for a value that is converted to text."""
        self.budget.spend(size=self.budget.read(value))
        return value

    def charge_read(self, value: Any) -> Any:
        """Charge for a value that is compared or used as a key."""
        self.budget.read(value)
        return value

    def charge_new(self, value: Any) -> Any:
        """Charge for a new text or list."""
        self.budget.spend(size=getsizeof(value))
        return value

    def charge_item(self, value: Any) -> Any:
        """Charge for an item of a new list; a list inside is new, too."""
        self.budget.spend(size=POINTER + (getsizeof(value) if isinstance(value, list | tuple) else 0))
        return value

    # ---------------------------------------------------------------- hooks of Jinja's sandbox

    def metered(self, name: str, function: Any, shallow: frozenset[str]) -> Callable[..., Any]:
        """A filter or test that is charged. A lazy result is computed at once, so that it is charged in full."""
        first = 1 if hasattr(function, "jinja_pass_arg") else 0  # Jinja's own argument is the first

        @functools.wraps(function)
        def charged(*args: Any, **options: Any) -> Any:
            self.budget.spend(CALL)
            own, values = args[:first], [*args[first:]]
            if name in WALKING_FILTERS and values:
                self.budget.walk(values[0])
            elif name not in shallow:
                values = [as_list(value) for value in values]
                self.budget.charge_call(name, [*values, *options.values()])
            result = function(*own, *values, **options)
            if isinstance(result, Iterator) and not isinstance(result, LoopContext):
                result = iter([self.charge_item(item) for item in result])
            return self.charge_new(result)

        return charged

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.budget.spend()
        operator_growth(operator, left, right, self.budget)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        self, called = __self, __obj  # Jinja's names, since a template chooses the names in kwargs
        self.budget.spend(CALL)
        if not isinstance(called, Macro | LoopContext | BlockReference):  # charged inside
            args = tuple(as_list(value) for value in args)
            method = getattr(called, "__wrapped__", called)  # of the sandbox's own str.format
            owner = getattr(method, "__self__", None)
            values = [owner] if isinstance(owner, DATA) else []
            self.budget.charge_call(getattr(method, "__name__", ""), [*values, *args, *kwargs.values()])
        return self.charge_new(super().call(__context, called, *args, **kwargs))

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, dict):
            self.budget.last_read = (obj, argument)
        if isinstance(argument, tuple):
            self.budget.read(argument)  # its hash reads all of it
        return super().getitem(obj, argument)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict):
            self.budget.last_read = (obj, attribute)
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return super().is_safe_attribute(obj, attr, value) and (attr in METHODS or not isinstance(obj, DATA))

    def to_json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        """`tojson` without the HTML escapes of Jinja's own filter, which no model was trained on."""
        if indent is None and separators is None:
            return json.dumps(value, ensure_ascii=ensure_ascii, sort_keys=sort_keys)
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )
        return "".join(self.charge_text(piece) for piece in encoder.iterencode(value))


def as_list(value: Any) -> Any:
    """The lazy result of a filter as a list; other values unchanged."""
    return list(value) if isinstance(value, Iterator) and not isinstance(value, LoopContext) else value


def unavailable(name: str) -> Callable[..., Any]:
    """A filter that raises SecurityError with the reason."""

    def refuse_call(*_: Any, **__: Any) -> Any:
        raise SecurityError(f"the filter {name} is for web pages and is not available to chat templates")

    return refuse_call


def refuse(message: Any) -> None:
    """`raise_exception` in a template, which rejects the conversation."""
    raise TemplateError(str(message))


def now(pattern: str) -> str:
    """`strftime_now` in a template: the date and time on this machine."""
    if len(pattern) > LONGEST_DATE:
        raise TemplateError(f"strftime_now accepts a pattern of at most {LONGEST_DATE} characters")
    return datetime.now().strftime(pattern)
