"""Chapter 17, a million tokens: what fits (17.3), the work of a prompt (17.4), where needles are lost (17.5)."""

from collections.abc import Callable, Mapping
from itertools import combinations

from minimoe.course.checker.exercise import Case, Exercise

# 17.3 tokens that fit -------------------------------------------------------------------------------------------------

Fit = Callable[[int, int, int, int, int, int, int], int]


def fit_by_counting(
    memory: int, weights: int, layers: int, heads: int, kv_heads: int, head_dim: int, bytes_each: int
) -> int:
    """Token after token, as long as keys and values of all layers have room."""
    one = sum(kv_heads * head_dim * bytes_each for _ in range(layers) for _ in ("key", "value"))
    free, tokens = memory - weights, 0
    step = 1 << 40
    while step:
        if (tokens + step) * one <= free:
            tokens += step
        else:
            step //= 2
    return tokens


def fit_with(
    copies: int = 2,
    of_layers: Callable[[int], int] = lambda layers: layers,
    of_heads: Callable[[int, int], int] = lambda heads, kv_heads: kv_heads,
    of_head_dim: Callable[[int], int] = lambda head_dim: head_dim,
    of_bytes: Callable[[int], float] = lambda bytes_each: bytes_each,
    of_weights: Callable[[int], int] = lambda weights: weights,
    whole: Callable[[float, float], int] = lambda free, one: max(int(free // one), 0),
) -> Fit:
    """The division, with some of its parts done differently."""

    def fit(memory: int, weights: int, layers: int, heads: int, kv_heads: int, head_dim: int, bytes_each: int) -> int:
        one = copies * of_layers(layers) * of_heads(heads, kv_heads) * of_head_dim(head_dim) * of_bytes(bytes_each)
        return whole(memory - of_weights(weights), one)

    return fit


FIT: Mapping[str, tuple[dict, str]] = {
    "keys alone": ({"copies": 1}, "only the keys are counted: the values need as much again"),
    "three tensors": ({"copies": 3}, "three tensors are counted: queries are not kept"),
    "queries, too": (
        {"copies": 1, "of_heads": lambda heads, kv_heads: heads + 2 * kv_heads},
        "the queries are counted with keys and values: they are not kept",
    ),
    "heads of a group": (
        {"of_heads": lambda heads, kv_heads: heads // kv_heads},
        "the size of a group, heads // kv_heads, is in the place of kv_heads",
    ),
    "query heads": (
        {"of_heads": lambda heads, kv_heads: heads},
        "the query heads are counted; what is kept are the key/value heads",
    ),
    "one head": ({"of_heads": lambda heads, kv_heads: 1}, "one key/value head is counted; there are kv_heads of them"),
    "one layer": ({"of_layers": lambda layers: 1}, "one layer is counted; every layer has its own keys and values"),
    "no channels": ({"of_head_dim": lambda head_dim: 1}, "head_dim is missing: a key has head_dim numbers"),
    "numbers": ({"of_bytes": lambda bytes_each: 1}, "numbers are counted, not bytes"),
    "bits": ({"of_bytes": lambda bytes_each: 8 * bytes_each}, "bits are counted; everything here is in bytes"),
    "no weights": ({"of_weights": lambda weights: 0}, "the weights are forgotten: they are in the memory, too"),
}

# 17.4 the work of a prompt --------------------------------------------------------------------------------------------

Flops = Callable[[int, int, int, int, int], int]


def flops_by_counting(active: int, layers: int, heads: int, head_dim: int, tokens: int) -> int:
    """Token after token: its weights, and its keys in each layer and head, once for the score, once for the mixture."""
    return sum(2 * active + layers * heads * keys * (2 * head_dim + 2 * head_dim) for keys in range(1, tokens + 1))


def flops_with(
    linear: float = 2,
    pair: float = 4,
    pairs: Callable[[int], int] = lambda tokens: tokens * (tokens + 1) // 2,
    of_layers: Callable[[int], int] = lambda layers: layers,
    of_heads: Callable[[int], int] = lambda heads: heads,
    of_head_dim: Callable[[int], int] = lambda head_dim: head_dim,
    passes: Callable[[int], int] = lambda tokens: tokens,
) -> Flops:
    """The sum of both kinds of work, with some of its parts done differently."""

    def flops(active: int, layers: int, heads: int, head_dim: int, tokens: int) -> int:
        attention = pair * of_layers(layers) * of_heads(heads) * of_head_dim(head_dim) * pairs(tokens)
        return int(linear * active * passes(tokens) + attention)

    return flops


FLOPS: Mapping[str, tuple[dict, str]] = {
    "all pairs": (
        {"pairs": lambda tokens: tokens * tokens},
        "every token attends to all others here. It attends to itself and to earlier ones: tokens * (tokens + 1) / 2 "
        "pairs",
    ),
    "without itself": (
        {"pairs": lambda tokens: tokens * (tokens - 1) // 2},
        "a token attends to itself, too: tokens * (tokens + 1) / 2 pairs",
    ),
    "half of the square": (
        {"pairs": lambda tokens: tokens * tokens // 2},
        "half of all pairs are counted, and of those of a token with itself only half: it is tokens * (tokens + 1) / 2",
    ),
    "one pair a token": (
        {"pairs": lambda tokens: tokens},
        "attention is counted once a token. Each token attends to all tokens before it",
    ),
    "scores alone": ({"pair": 2}, "of attention only the scores are counted: mixing the values costs as much again"),
    "multiplications in attention": (
        {"pair": 1},
        "of attention only one multiplication a channel is counted: there are two products, and an addition with each",
    ),
    "no attention": ({"pair": 0}, "attention is missing: a product and a mixture for each pair of tokens"),
    "no weights": ({"linear": 0}, "the weights are missing: a multiplication and an addition with each, a token"),
    "multiplications of weights": (
        {"linear": 1},
        "with each weight one operation is counted: there is a multiplication and an addition",
    ),
    "training": ({"linear": 6}, "6 operations a weight are those of training, with the backward pass"),
    "one layer": ({"of_layers": lambda layers: 1}, "attention is counted in one layer; every layer has its own"),
    "one head": ({"of_heads": lambda heads: 1}, "attention is counted in one head; every query head has its scores"),
    "no channels": (
        {"of_head_dim": lambda head_dim: 1},
        "head_dim is missing: a score is a sum over head_dim channels",
    ),
    "weights once": (
        {"passes": lambda tokens: 1},
        "the weights are counted once for the whole prompt. They are read once, and multiplied with every token",
    ),
}


def two_at_once(
    build: Callable[..., Callable[..., int]], table: Mapping[str, tuple[dict, str]], without: set[str]
) -> dict[str, tuple[Callable[..., int], str]]:
    """Mutants in which two different parts are done differently."""
    return {
        f"{one} and {other}": (
            build(**table[one][0], **table[other][0]),
            f"two things: {table[one][1]}; and {table[other][1]}.",
        )
        for one, other in combinations(table, 2)
        if not set(table[one][0]) & set(table[other][0]) and one not in without and other not in without
    }


def one_by_one(
    build: Callable[..., Callable[..., int]], table: Mapping[str, tuple[dict, str]]
) -> dict[str, tuple[Callable[..., int], str]]:
    return {name: (build(**changes), f"{says}.") for name, (changes, says) in table.items()}


# 17.5 where the needle is lost ----------------------------------------------------------------------------------------

FOUND = {
    "plain RoPE, 100 tokens before the fact, 16 between: found": True,
    "plain RoPE, 500 tokens before the fact, 16 between: found": False,
    "dual chunk, 500 tokens before the fact, 16 between: found": True,
    "a window of 128, 500 tokens before the fact, 16 between: found": True,
    "dual chunk, 500 tokens before the fact, 48 between: found": False,
    "a window of 128, 500 tokens before the fact, 48 between: found": False,
}


def but(**changes: bool) -> dict[str, bool]:
    """The right predictions with some changed; named as in LINES."""
    return {**FOUND, **{LINES[name]: value for name, value in changes.items()}}


LINES = dict(
    zip(("plain_short", "plain_far", "dual_near", "window_near", "dual_back", "window_back"), FOUND, strict=True)
)

EXERCISES = (
    Exercise(
        id="17.3",
        title="How many tokens fit?",
        kind="estimate",
        minutes=8,
        difficulty=2,
        hints=(
            "What is left when the weights are loaded, and what does one token need of it?",
            "One token needs keys and values, in each layer, for each key/value head: head_dim numbers of bytes_each.",
            "one = 2 * layers * kv_heads * head_dim * bytes_each; (memory - weights) // one, but at least 0.",
        ),
        now_you_know="with the weights of the 235B loaded in 16 bits, each further 24 GB hold an eighth of a million "
        "tokens.",
        oracle=fit_by_counting,
        cases=(
            Case("by hand", (1000, 200, 2, 6, 3, 4, 2), 8),
            Case("the mini in 2 GB", (2_000_000_000, 21_630_848, 4, 8, 2, 32, 2)),
            Case("the 235B on eight GPUs of 80 GB, 16 bits", (640_000_000_000, 470_187_269_120, 94, 64, 4, 128, 2)),
            Case("the same with a cache of 8 bits", (640_000_000_000, 470_187_269_120, 94, 64, 4, 128, 1)),
            Case("one byte too few for another token", (1199, 200, 5, 8, 2, 5, 2), 4),
            Case("the weights do not fit", (5_000, 6_000, 2, 6, 3, 4, 2), 0),
        ),
        mutants={
            **one_by_one(fit_with, FIT),
            "rounded up": (
                fit_with(whole=lambda free, one: max(int(-(-free // one)), 0)),
                "the last token is counted although only a part of it fits: round down.",
            ),
            "with a fraction": (
                fit_with(whole=lambda free, one: max(free / one, 0)),  # type: ignore[arg-type,return-value]
                "the result has a fraction: a token fits or doesn't, so round down.",
            ),
            "rounded": (
                fit_with(whole=lambda free, one: max(round(free / one), 0)),
                "the result is rounded to the nearest: a token that fits only in part does not count.",
            ),
            "negative": (
                fit_with(whole=lambda free, one: int(free // one)),
                "if the weights don't fit, the number is negative: no token fits, so it is 0.",
            ),
            **two_at_once(fit_with, FIT, {"no weights"}),
        },
        accepted={
            "by division": fit_with(),
            "a float that is whole": lambda *sizes: float(fit_by_counting(*sizes)),
        },
    ),
    Exercise(
        id="17.4",
        title="The work of a prompt",
        kind="estimate",
        minutes=10,
        difficulty=3,
        hints=(
            "Two kinds of work: one grows with the number of tokens, one with the number of pairs of tokens.",
            "Each active weight is multiplied and added once a token. Each pair of a query and a key at or before it, "
            "in each layer and query head, needs a score and a share of a value: head_dim channels each.",
            "2 * active * tokens + layers * heads * pairs * 4 * head_dim, with pairs = tokens * (tokens + 1) / 2.",
        ),
        now_you_know="at a million tokens nearly all of the work is attention, although the model is a Mixture of "
        "Experts.",
        oracle=flops_by_counting,
        cases=(
            Case("by hand: three tokens", (10, 1, 1, 1, 3), 84),
            Case("one token", (100, 2, 3, 5, 1)),
            Case("several layers and heads", (1_000, 3, 7, 5, 11)),
            Case("a longer prompt", (50, 4, 2, 6, 101)),
            Case("the mini and its rows", (1_968_064, 4, 8, 32, 256)),
        ),
        mutants={
            **one_by_one(flops_with, FLOPS),
            "weights in every layer": (
                lambda active, layers, *sizes: flops_with()(active * layers, layers, *sizes),
                "the active weights are multiplied by the number of layers. They are those of all layers already.",
            ),
            **two_at_once(flops_with, FLOPS, {"no attention", "no weights", "training", "one pair a token"}),
            "the last token alone": (
                lambda active, layers, heads, head_dim, tokens: 2 * active + 4 * layers * heads * head_dim * tokens,
                "this is the work of the last token alone, a decode step. A prompt computes every token.",
            ),
            "weights for pairs": (
                lambda active, layers, heads, head_dim, tokens: (
                    (2 * active + 4 * layers * heads * head_dim) * (tokens * (tokens + 1) // 2)
                ),
                "the weights are counted for each pair. They are multiplied once a token.",
            ),
        },
        accepted={
            "a formula": flops_with(),
            "a float": lambda *sizes: float(flops_by_counting(*sizes)),
        },
    ),
    Exercise(
        id="17.5",
        title="Where is the needle lost?",
        kind="predict",
        minutes=8,
        difficulty=3,
        hints=(
            "Ask two questions for each line: is a distance used that training never had? And has the mini learned to "
            "look that far back at all?",
            "Text before the fact does not change the distance between fact and question. It adds far keys to each "
            "softmax. Text between them changes the distance.",
            "Three of the six are found. Which lines stay within 256 tokens or keep far keys harmless, and which ask "
            "for a reach that no method can give?",
        ),
        now_you_know="a method for positions keeps a model from breaking; what it can find, it has learned in "
        "training.",
        expected=FOUND,
        reasons={
            "plain RoPE, 100 tokens before the fact, 16 between: found": (
                "how long is the whole prompt, and how long were the rows of the training?"
            ),
            "plain RoPE, 500 tokens before the fact, 16 between: found": (
                "far keys stand at distances that no weight has seen. Do they stay quiet in the softmax?"
            ),
            "dual chunk, 500 tokens before the fact, 16 between: found": (
                "which distances does the question use for the fact, and which for everything before?"
            ),
            "a window of 128, 500 tokens before the fact, 16 between: found": (
                "the fact stands within the last 128 tokens. What is outside of the window?"
            ),
            "dual chunk, 500 tokens before the fact, 48 between: found": (
                "the method keeps far keys harmless. But how far back does the mini find a fact when "
                "nothing stands before it?"
            ),
            "a window of 128, 500 tokens before the fact, 48 between: found": (
                "the fact is inside of the window. But how far back does the mini find a fact when "
                "nothing stands before it?"
            ),
        },
        mutants={
            "dual chunk finds everything": (
                but(dual_back=True),
                "dual chunk attention is trusted with all needles. It keeps distances within the trained "
                "range, and the mini was never trained to look 48 tokens back for a fact.",
            ),
            "everything before is harmful": (
                but(plain_short=False),
                "plain RoPE is expected to fail with any text before the fact. The whole prompt of that "
                "line is shorter than a row of the training.",
            ),
            "plain RoPE is relative": (
                but(plain_far=True),
                "plain RoPE is trusted, because the distance to the fact is small. The far keys take part"
                " in the same softmax, at distances that were never trained.",
            ),
            "a window forgets": (
                but(window_near=False),
                "the window is expected to lose the fact. The fact is inside of it, some thirty tokens "
                "before the question.",
            ),
            "a window reaches": (
                but(window_back=True),
                "the window of 128 is expected to find a fact behind 48 tokens, because it is inside. The"
                " mini has not learned to look that far back.",
            ),
            "both methods reach": (
                but(dual_back=True, window_back=True),
                "the methods are trusted with a reach that the mini has not learned: they keep far keys "
                "harmless, and no more.",
            ),
            "far is lost": (
                but(window_near=False, dual_near=False),
                "all long texts are expected to be lost. The length of a text is no distance: in two "
                "lines the fact stands near the question, and everything before it is kept harmless.",
            ),
            "lost and found exchanged": (
                {key: not value for key, value in FOUND.items()},
                "every line is the other way round.",
            ),
            "all lost": (
                dict.fromkeys(FOUND, False),
                "everything is expected to be lost.",
            ),
            "all found": (dict.fromkeys(FOUND, True), "everything is expected to be found."),
        },
        accepted={
            "0 and 1": {key: int(value) for key, value in FOUND.items()},
            "another order": dict(reversed(FOUND.items())),
        },
    ),
)
