"""The names that a JavaScript text uses: a tokenizer that skips comments, strings, patterns and property names."""

import re

TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<word>[A-Za-z_$][\w$]*)
      | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\d[\w.]*)
      | (?P<mark>=>|\?\.|\.\.\.|.)""",
    re.VERBOSE | re.DOTALL,
)
PATTERN = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\[\n])+/[a-z]*")
TEMPLATE = re.compile(r"(?:\\.|\$(?!\{)|[^\\`$])*(`|\$\{)", re.DOTALL)
AFTER_VALUE = re.compile(r"[\w$)\]\"]$")  # a slash here divides; elsewhere it begins a pattern
BEFORE_PATTERN = {"return", "typeof", "case", "in", "of", "void"}
CLOSES = {"(": ")", "[": "]", "{": "}"}


def tokens(text: str) -> list[str]:
    """Words, marks, and `""` for every string, number and pattern, without comments; template strings are opened up."""
    found: list[str] = []
    templates: list[int] = []  # for each open template string, how many braces are open inside its ${...}
    at = 0
    while at < len(text):
        last = found[-1] if found else ""
        if text[at] == "`" or (text[at] == "}" and templates and templates[-1] == 0):
            if text[at] == "}":
                templates.pop()
            end = TEMPLATE.match(text, at + 1)
            assert end, f"a template string has no end: {text[at : at + 60]!r}"
            if end[1] == "${":
                templates.append(0)
            found += ['""', ";"] if end[1] == "${" else ['""']  # what is inside ${...} stands alone
            at = end.end()
            continue
        comment = text.startswith(("//", "/*"), at)
        divides = AFTER_VALUE.search(last) and last not in BEFORE_PATTERN
        if text[at] == "/" and not comment and not divides and (pattern := PATTERN.match(text, at)):
            found.append('""')
            at = pattern.end()
            continue
        token = TOKEN.match(text, at)
        assert token
        at = token.end()
        if token["skip"] is None:
            found.append('""' if token["text"] else token[0])
            if templates and token[0] in "{}":
                templates[-1] += 1 if token[0] == "{" else -1
    return found


def names_used(text: str) -> list[str]:
    """Every identifier that stands for a variable, as often as it does: no `.property`, no `key:`, no `method() {`."""
    found = ["", *tokens(text), ""]
    used = []
    for at, token in enumerate(found[1:-1], start=1):
        before, after = found[at - 1], found[at + 1]
        key = before in ("{", ",") and (after == ":" or (after == "(" and found[closing(found, at + 1) + 1] == "{"))
        if re.match(r"[A-Za-z_$]", token) and before not in (".", "?.") and not key:
            used.append(token)
    return used


def closing(found: list[str], at: int) -> int:
    """The place of the bracket that closes the one at `at`."""
    depth = 0
    for place in range(at, len(found)):
        depth += (found[place] == found[at]) - (found[place] == CLOSES[found[at]])
        if depth == 0:
            return place
    raise AssertionError("a bracket is never closed")
