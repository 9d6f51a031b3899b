"""Chapter 09, generation: bytes and seconds of one token after many others (09.6)."""

from collections.abc import Callable
from fractions import Fraction

from minimoe.course.checker.exercise import Case, Exercise

Cost = tuple[float, float]


def cost_by_counting(layers: int, heads: int, head_dim: int, active: int, cached: int, bandwidth: float) -> Cost:
    """Layer after layer: a key and a value for each head and position, two bytes each."""
    cache = 0
    for _ in range(layers):
        for _ in ("key", "value"):
            cache += 2 * heads * head_dim * cached
    return cache, float(Fraction(2 * active + cache) / Fraction(bandwidth))


def changed(
    cache: Callable[..., float] = lambda layers, heads, head_dim, cached: 4 * layers * heads * head_dim * cached,
    seconds: Callable[..., float] = lambda active, cache, bandwidth: (2 * active + cache) / bandwidth,
) -> Callable[..., Cost]:
    """The cost with another formula for the cache, or for the seconds, which follow from the right cache."""

    def cost(layers: int, heads: int, head_dim: int, active: int, cached: int, bandwidth: float) -> Cost:
        right = 4 * layers * heads * head_dim * cached
        return cache(layers, heads, head_dim, cached), seconds(active, right, bandwidth)

    return cost


def followed(factor: Callable[..., float]) -> Callable[..., Cost]:
    """A wrong cache, and the seconds that follow from it."""

    def cost(layers: int, heads: int, head_dim: int, active: int, cached: int, bandwidth: float) -> Cost:
        bytes_ = factor(layers, heads, head_dim, cached)
        return bytes_, (2 * active + bytes_) / bandwidth

    return cost


def as_a_list(layers: int, heads: int, head_dim: int, active: int, cached: int, bandwidth: float) -> list[float]:
    per_token = layers * (2 * heads * head_dim) * 2
    return [per_token * cached, 2 * active / bandwidth + per_token * cached / bandwidth]


WRONG_CACHES: dict[str, tuple[Callable[..., float], str]] = {
    "keys alone": (lambda layers, heads, head_dim, cached: 2 * layers * heads * head_dim * cached,
                   "a position leaves a key *and* a value. Or did you forget that a number takes two bytes?"),
    "numbers": (lambda layers, heads, head_dim, cached: layers * heads * head_dim * cached,
                "neither the two bytes of a number are in it nor that a position leaves a key and a value."),
    "one layer": (lambda layers, heads, head_dim, cached: 4 * heads * head_dim * cached,
                  "this is the cache of one layer. Every layer has its own."),
    "one head": (lambda layers, heads, head_dim, cached: 4 * layers * head_dim * cached,
                 "this is the cache of one key/value head."),
    "one token": (lambda layers, heads, head_dim, cached: 4 * layers * heads * head_dim,
                  "this is the cache of one token. There are `cached` of them."),
    "float32": (lambda layers, heads, head_dim, cached: 8 * layers * heads * head_dim * cached,
                "this counts four bytes for a number. In bfloat16 it is two."),
    "one more": (lambda layers, heads, head_dim, cached: 4 * layers * heads * head_dim * (cached + 1),
                 "this counts one position more. Take the `cached` ones."),
    "bits": (lambda layers, heads, head_dim, cached: 32 * layers * heads * head_dim * cached,
             "these are bits. A byte has eight of them."),
    "a square": (lambda layers, heads, head_dim, cached: 4 * layers * heads * head_dim * cached**2,
                 "the cache grows with the square of the length here. The *scores* of a prefill do; keys and values "
                 "grow with the length."),
}  # fmt: skip
WRONG_SECONDS: dict[str, tuple[Callable[..., float], str]] = {
    "without the cache": (lambda active, cache, bandwidth: 2 * active / bandwidth,
                          "the time is that of the weights alone. The whole cache is read for every token."),
    "without the weights": (lambda active, cache, bandwidth: cache / bandwidth,
                            "the time is that of the cache alone. The weights have to be read, too."),
    "one byte": (lambda active, cache, bandwidth: (active + cache) / bandwidth,
                 "a parameter takes two bytes in bfloat16; here it takes one."),
    "tokens a second": (lambda active, cache, bandwidth: bandwidth / (2 * active + cache),
                        "these are tokens a second. The exercise asks for the seconds of a token."),
    "milliseconds": (lambda active, cache, bandwidth: 1000 * (2 * active + cache) / bandwidth,
                     "these are milliseconds. The exercise asks for seconds."),
    "times": (lambda active, cache, bandwidth: (2 * active + cache) * bandwidth,
              "bytes are multiplied by bytes a second. How long do 10 bytes take at 5 bytes a second?"),
}  # fmt: skip

EXERCISES = (
    Exercise(
        id="09.6",
        title="A token after 32,768 others",
        kind="estimate",
        minutes=8,
        difficulty=2,
        hints=(
            "What does one position leave behind, in one layer? What does the next token have to read?",
            "A key and a value of head_dim numbers, for each key/value head, in each layer, two bytes a number. The "
            "next token reads that for all positions, and each of the active parameters once.",
            "cache = 2 * 2 * layers * heads * head_dim * cached; seconds = (2 * active + cache) / bandwidth.",
        ),
        now_you_know="while it writes, a model is as quick as its memory: bytes read, divided by bytes a second.",
        oracle=cost_by_counting,
        cases=(
            Case("one layer, one head of two, three tokens", (1, 1, 2, 5, 3, 2.0), (24, 17.0)),
            Case("no token before it", (2, 3, 4, 50, 0, 10.0), (0, 10.0)),
            Case("the mini after 100 tokens", (4, 2, 32, 1_900_000, 100, 1.5e10)),
            Case("the 235B after 32,768 tokens", (94, 4, 128, 21_570_000_000, 32_768, 3.35e12)),
        ),
        parts={"the cache": lambda result: result[0], "the time": lambda result: result[1]},
        mutants={
            **{name: (followed(cache), says) for name, (cache, says) in WRONG_CACHES.items()},
            **{
                f"{name}, alone": (changed(cache=cache), f"the time is right. As to the cache: {says}")
                for name, (cache, says) in WRONG_CACHES.items()
            },
            **{name: (changed(seconds=seconds), says) for name, (seconds, says) in WRONG_SECONDS.items()},
            "seconds first": (
                lambda *arguments: cost_by_counting(*arguments)[::-1],
                "the two numbers are in the other order: first the bytes of the cache, then the seconds.",
            ),
        },
        accepted={
            "by token, a list": as_a_list,
            "with a sum of bytes": lambda layers, heads, head_dim, active, cached, bandwidth: (
                2 * layers * cached * heads * head_dim * 2,
                2 * (active + 2 * layers * cached * heads * head_dim) / bandwidth,
            ),
        },
    ),
)
