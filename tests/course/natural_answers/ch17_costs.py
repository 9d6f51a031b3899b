"""Natural answers to 17.3, 17.4 and 17.5: tokens that fit, the work of a prompt, where the needle is lost."""

import math

from tests.course.natural_answers.collect import Collection

collection = Collection("17.3", "17.4", "17.5")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 17.3: memory m, weights w, layers n, heads h, kv_heads g, head_dim d, bytes_each b -----------------------------------

FITS = {
    "keys alone": (lambda m, w, n, h, g, d, b: max((m - w) // (n * g * d * b), 0), ("value", "keys")),
    "query heads": (lambda m, w, n, h, g, d, b: max((m - w) // (2 * n * h * d * b), 0), ("head",)),
    "one layer": (lambda m, w, n, h, g, d, b: max((m - w) // (2 * g * d * b), 0), ("layer",)),
    "weights forgotten": (lambda m, w, n, h, g, d, b: m // (2 * n * g * d * b), ("weights",)),
    "numbers": (lambda m, w, n, h, g, d, b: max((m - w) // (2 * n * g * d), 0), ("bytes",)),
    "bits": (lambda m, w, n, h, g, d, b: max((m - w) // (2 * n * g * d * b * 8), 0), ("bits", "bytes")),
    "negative": (lambda m, w, n, h, g, d, b: (m - w) // (2 * n * g * d * b), ("negative", "0")),
    "rounded up": (lambda m, w, n, h, g, d, b: max(math.ceil((m - w) / (2 * n * g * d * b)), 0), ("round", "part")),
    "with a fraction": (lambda m, w, n, h, g, d, b: max((m - w) / (2 * n * g * d * b), 0), ()),
    "without head_dim": (lambda m, w, n, h, g, d, b: max((m - w) // (2 * n * g * b), 0), ("head_dim",)),
    "query heads and keys alone": (
        lambda m, w, n, h, g, d, b: max((m - w) // (n * h * d * b), 0), ("head", "value"),
    ),
    "one head": (lambda m, w, n, h, g, d, b: max((m - w) // (2 * n * d * b), 0), ("head",)),
    "queries, too": (lambda m, w, n, h, g, d, b: max((m - w) // (n * (h + 2 * g) * d * b), 0), ()),
    "all heads of a group": (lambda m, w, n, h, g, d, b: max((m - w) // (2 * n * (h // g) * d * b), 0), ()),
}  # fmt: skip
for says, (answer, about) in FITS.items():
    wrong("17.3", says, *about)(answer)


@right("17.3", "one line")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return max(0, (memory - weights) // (2 * layers * kv_heads * head_dim * bytes_each))


@right("17.3", "an if")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    if weights > memory:
        return 0
    per_token = 0
    for _ in range(layers):
        per_token += 2 * kv_heads * head_dim * bytes_each
    return (memory - weights) // per_token


@right("17.3", "divmod")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    tokens, _ = divmod(max(memory - weights, 0), layers * kv_heads * head_dim * bytes_each * 2)
    return tokens


@right("17.3", "floor of a float")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return max(0, math.floor((memory - weights) / (2 * layers * kv_heads * head_dim * bytes_each)))


@right("17.3", "keys, then values")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    keys = layers * kv_heads * head_dim * bytes_each
    return max((memory - weights) // (keys + keys), 0)


@right("17.3", "a float")
def _(memory, weights, layers, heads, kv_heads, head_dim, bytes_each):
    return float(max((memory - weights) // (2 * layers * kv_heads * head_dim * bytes_each), 0))


# 17.4: active a, layers n, heads h, head_dim d, tokens t --------------------------------------------------------------

WORK = {
    "no attention": (lambda a, n, h, d, t: 2 * a * t, ("attention",)),
    "one operation a weight": (
        lambda a, n, h, d, t: a * t + 2 * n * h * d * t * (t + 1),
        ("one operation", "addition"),
    ),
    "the full square": (lambda a, n, h, d, t: 2 * a * t + 4 * n * h * d * t * t, ("earlier", "pairs")),
    "scores alone": (lambda a, n, h, d, t: 2 * a * t + n * h * d * t * (t + 1), ("scores", "values")),
    "one layer": (lambda a, n, h, d, t: 2 * a * t + 2 * h * d * t * (t + 1), ("layer",)),
    "one head": (lambda a, n, h, d, t: 2 * a * t + 2 * n * d * t * (t + 1), ("head",)),
    "without head_dim": (lambda a, n, h, d, t: 2 * a * t + 2 * n * h * t * (t + 1), ("head_dim",)),
    "a token does not see itself": (lambda a, n, h, d, t: 2 * a * t + 2 * n * h * d * t * (t - 1), ("itself",)),
    "the last token": (lambda a, n, h, d, t: 2 * a + 4 * n * h * d * t, ("last token", "decode")),
    "linear attention": (lambda a, n, h, d, t: 2 * a * t + 4 * n * h * d * t, ("once a token", "before it")),
    "attention alone": (lambda a, n, h, d, t: 2 * n * h * d * t * (t + 1), ("weights",)),
    "multiplications alone": (lambda a, n, h, d, t: a * t + n * h * d * t * (t + 1), ("two things", "one operation")),
    "training": (lambda a, n, h, d, t: 6 * a * t + 2 * n * h * d * t * (t + 1), ("training", "6")),
    "weights once": (lambda a, n, h, d, t: 2 * a + 2 * n * h * d * t * (t + 1), ("once",)),
}
for says, (answer, about) in WORK.items():
    wrong("17.4", says, *about)(answer)


@right("17.4", "one line")
def _(active, layers, heads, head_dim, tokens):
    return 2 * active * tokens + 2 * layers * heads * head_dim * tokens * (tokens + 1)


@right("17.4", "a loop over tokens")
def _(active, layers, heads, head_dim, tokens):
    total = 0
    for token in range(tokens):
        total += 2 * active + layers * heads * (token + 1) * 4 * head_dim
    return total


@right("17.4", "two parts")
def _(active, layers, heads, head_dim, tokens):
    pairs = tokens * (tokens + 1) / 2
    scores = 2 * layers * heads * head_dim * pairs
    mixture = 2 * layers * heads * head_dim * pairs
    return 2 * tokens * active + scores + mixture


@right("17.4", "a sum of a range")
def _(active, layers, heads, head_dim, tokens):
    return 2 * active * tokens + 4 * layers * heads * head_dim * sum(range(1, tokens + 1))


@right("17.4", "combinations")
def _(active, layers, heads, head_dim, tokens):
    return tokens * 2 * active + 4 * head_dim * heads * layers * math.comb(tokens + 1, 2)


@right("17.4", "as a float")
def _(active, layers, heads, head_dim, tokens):
    return 2.0 * active * tokens + 4.0 * layers * heads * head_dim * (tokens**2 + tokens) / 2


# 17.5 -----------------------------------------------------------------------------------------------------------------

LINES = (
    "plain RoPE, 100 tokens before the fact, 16 between: found",
    "plain RoPE, 500 tokens before the fact, 16 between: found",
    "dual chunk, 500 tokens before the fact, 16 between: found",
    "a window of 128, 500 tokens before the fact, 16 between: found",
    "dual chunk, 500 tokens before the fact, 48 between: found",
    "a window of 128, 500 tokens before the fact, 48 between: found",
)
TRUTH = (True, False, True, True, False, False)
GUESSES = {
    "dual chunk saves all": (True, False, True, True, True, False),
    "RoPE is relative": (True, True, True, True, False, False),
    "text before is harmful": (False, False, True, True, False, False),
    "the window forgets": (True, False, True, False, False, False),
    "all lost": (False,) * 6,
    "all found": (True,) * 6,
    "48 is too far, all else is found": (True, True, True, True, False, False),
    "dual chunk alone": (False, False, True, False, True, False),
    "48 is less than 256": (True, False, True, True, True, True),
    "500 is too far": (True, False, False, False, False, False),
    "the opposite": tuple(not value for value in TRUTH),
    "windows lose": (True, False, True, False, True, False),
    "the window reaches": (True, False, True, True, False, True),
}
for says, values in GUESSES.items():
    wrong("17.5", says)(dict(zip(LINES, values, strict=True)))
right("17.5", "as measured")(dict(zip(LINES, TRUTH, strict=True)))
right("17.5", "0 and 1")({line: int(value) for line, value in zip(LINES, TRUTH, strict=True)})
right("17.5", "from the end")(dict(zip(LINES[::-1], TRUTH[::-1], strict=True)))
right("17.5", "three of them")({**dict.fromkeys(LINES, False), LINES[0]: True, LINES[2]: True, LINES[3]: True})
right("17.5", "by its words")({line: "16 between" in line and ("100" in line or "plain" not in line) for line in LINES})
right("17.5", "compared")(dict(zip(LINES, (2 > 1, 1 > 2, 2 > 1, 2 > 1, 1 > 2, 1 > 2), strict=True)))
