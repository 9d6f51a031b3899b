"""Chapter 08, the whole model: where the parameters are (08.7)."""

from collections.abc import Callable
from typing import Any

from minimoe.course.checker.exercise import Case, Exercise

Counts = dict[str, int]


def by_tensors(
    hidden: int, layers: int, heads: int, kv_heads: int, head_dim: int, experts: int, ffn: int, vocab: int
) -> Counts:
    """One tensor after another, as they are in the files."""
    counts = {"embeddings": 0, "attention": 0, "routers": 0, "experts": 0, "norms": 0}
    for _ in range(2):
        counts["embeddings"] += vocab * hidden
    for _ in range(layers):
        for rows, columns in ((heads * head_dim, hidden), (kv_heads * head_dim, hidden), (kv_heads * head_dim, hidden),
                              (hidden, heads * head_dim)):  # fmt: skip
            counts["attention"] += rows * columns
        counts["routers"] += experts * hidden
        for _ in range(experts):
            counts["experts"] += ffn * hidden + ffn * hidden + hidden * ffn
        for size in (head_dim, head_dim, hidden, hidden):
            counts["norms"] += size
    counts["norms"] += hidden
    return counts


def by_formula(
    hidden: int, layers: int, heads: int, kv_heads: int, head_dim: int, experts: int, ffn: int, vocab: int
) -> Counts:
    return {
        "embeddings": 2 * vocab * hidden,
        "attention": 2 * layers * hidden * head_dim * (heads + kv_heads),
        "routers": layers * experts * hidden,
        "experts": 3 * layers * experts * ffn * hidden,
        "norms": layers * (2 * hidden + 2 * head_dim) + hidden,
    }


def per_layer_first(
    hidden: int, layers: int, heads: int, kv_heads: int, head_dim: int, experts: int, ffn: int, vocab: int
) -> Counts:
    """A layer's counts, times the layers, and what is outside of them; as floats."""
    layer = {
        "norms": 2 * (hidden + head_dim), "experts": experts * 3 * ffn * hidden, "routers": hidden * experts,
        "attention": hidden * head_dim * (2 * heads + 2 * kv_heads),
    }  # fmt: skip
    total: Any = {part: float(count * layers) for part, count in layer.items()}
    return total | {"embeddings": 2.0 * vocab * hidden, "norms": total["norms"] + hidden}


def with_part(**change: Callable[..., int]) -> Callable[..., Counts]:
    """The right counts with some parts counted differently: functions of the sizes, by name."""

    def answer(
        hidden: int, layers: int, heads: int, kv_heads: int, head_dim: int, experts: int, ffn: int, vocab: int
    ) -> Counts:
        right = by_formula(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab)
        s = Sizes(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab)
        return right | {part: count(s) for part, count in change.items()}

    return answer


class Sizes:
    """The sizes of a model, by name."""

    def __init__(self, *values: int):
        names = ("hidden", "layers", "heads", "kv_heads", "head_dim", "experts", "ffn", "vocab")
        for name, value in zip(names, values, strict=True):
            setattr(self, name, value)

    def __getattr__(self, name: str) -> int:
        raise AttributeError(name)


def one_layer(*values: int) -> Counts:
    hidden, _, *rest = values
    return by_formula(hidden, 1, *rest)


EXERCISES = (
    Exercise(
        id="08.7",
        title="Where the parameters are",
        kind="estimate",
        minutes=12,
        difficulty=3,
        hints=(
            "The tree with fifteen leaves in the lesson shows everything that has to be counted.",
            "Embeddings: two matrices. Attention: q and o with heads × head_dim, k and v with kv_heads × head_dim. "
            "Experts: three matrices each. Norms: two of hidden and two of head_dim in each layer, one at the end.",
            "2 vocab hidden; 2 layers hidden head_dim (heads + kv_heads); layers experts hidden; 3 layers experts ffn "
            "hidden; layers (2 hidden + 2 head_dim) + hidden.",
        ),
        now_you_know="nearly everything is experts, and a config tells how many parameters there are to the last one.",
        oracle=by_tensors,
        cases=(
            Case(
                "small enough to count by hand",
                (2, 1, 3, 1, 5, 2, 7, 11),
                {"embeddings": 44, "attention": 80, "routers": 4, "experts": 84, "norms": 16},
            ),
            Case("the same with three layers", (2, 3, 3, 1, 5, 2, 7, 11)),
            Case("the mini", (192, 4, 8, 2, 32, 128, 32, 2048)),
            Case("Qwen3-30B-A3B", (2048, 48, 32, 4, 128, 128, 768, 151_936)),
            Case("the 235B", (4096, 94, 64, 4, 128, 128, 1536, 151_936)),
        ),
        parts={
            part: lambda result, part=part: result[part]  # type: ignore[misc]
            for part in ("embeddings", "attention", "routers", "experts", "norms")
        },
        mutants={
            "one embedding": (
                with_part(embeddings=lambda s: s.vocab * s.hidden),
                "one of the two matrices is missing: the embedding and the head are separate in these models.",
            ),
            "square attention": (
                with_part(attention=lambda s: 4 * s.layers * s.hidden * s.hidden),
                "attention is counted as four square matrices. heads × head_dim isn't hidden here, and k and v are "
                "smaller.",
            ),
            "all heads": (
                with_part(attention=lambda s: 4 * s.layers * s.hidden * s.heads * s.head_dim),
                "k and v are counted with all heads. They have kv_heads only.",
            ),
            "no output": (
                with_part(attention=lambda s: s.layers * s.hidden * s.head_dim * (s.heads + 2 * s.kv_heads)),
                "o_proj is missing in attention.",
            ),
            "no values": (
                with_part(attention=lambda s: s.layers * s.hidden * s.head_dim * (2 * s.heads + s.kv_heads)),
                "v_proj is missing in attention (or k_proj).",
            ),
            "two matrices": (
                with_part(experts=lambda s: 2 * s.layers * s.experts * s.ffn * s.hidden),
                "an expert has three matrices: gate, up and down.",
            ),
            "routers of ffn": (
                with_part(routers=lambda s: s.layers * s.experts * s.ffn),
                "the router reads the stream: it has a row of hidden numbers for each expert.",
            ),
            "no QK-norm": (
                with_part(norms=lambda s: s.layers * 2 * s.hidden + s.hidden),
                "the norms of queries and keys are missing: head_dim numbers each, in every layer.",
            ),
            "QK-norm for each head": (
                with_part(norms=lambda s: s.layers * (2 * s.hidden + (s.heads + s.kv_heads) * s.head_dim) + s.hidden),
                "q_norm and k_norm are counted for each head. All heads of a layer share them.",
            ),
            "no final norm": (
                with_part(norms=lambda s: s.layers * (2 * s.hidden + 2 * s.head_dim)),
                "the final norm is missing.",
            ),
            "one layer": (one_layer, "these are the parameters with one layer. Most parts are there once a layer."),
            "one expert": (
                with_part(experts=lambda s: 3 * s.layers * s.ffn * s.hidden),
                "one expert is counted for each layer. All of them are stored.",
            ),
            "head_dim from hidden": (
                with_part(attention=lambda s: s.layers * 2 * s.hidden * (s.hidden + s.kv_heads * s.head_dim)),
                "q_proj and o_proj are counted as hidden × hidden. They have heads × head_dim on one side, in these "
                "models another number.",
            ),
            "attention once": (
                with_part(attention=lambda s: 2 * s.hidden * s.head_dim * (s.heads + s.kv_heads)),
                "attention is counted for one layer. Each layer has its own.",
            ),
            "experts once": (
                with_part(experts=lambda s: 3 * s.experts * s.ffn * s.hidden),
                "the experts of one layer are counted. Each layer has its own.",
            ),
            "norms once": (
                with_part(norms=lambda s: 3 * s.hidden + 2 * s.head_dim),
                "the norms of one layer are counted, and the final one. Each layer has its own four.",
            ),
            "one norm of hidden": (
                with_part(norms=lambda s: s.layers * (s.hidden + 2 * s.head_dim) + s.hidden),
                "one norm of hidden numbers is counted in each layer. There are two: one before attention, one before "
                "the experts.",
            ),
            "one of the two QK-norms": (
                with_part(norms=lambda s: s.layers * (2 * s.hidden + s.head_dim) + s.hidden),
                "one norm of head_dim numbers is counted in each layer. There are two: of queries and of keys.",
            ),
            "a norm with a bias": (
                with_part(norms=lambda s: 2 * (s.layers * (2 * s.hidden + 2 * s.head_dim) + s.hidden)),
                "each norm is counted with two numbers a channel. RMSNorm has a weight and no bias.",
            ),
            "norms counted": (
                with_part(norms=lambda s: 4 * s.layers + 1),
                "this is the number of norms. Each has a weight for every channel: hidden numbers, or head_dim.",
            ),
            "ffn is four times hidden": (
                with_part(experts=lambda s: 3 * s.layers * s.experts * 4 * s.hidden * s.hidden),
                "the experts' width is taken to be 4 × hidden. It is ffn, which is much smaller.",
            ),
            "routers once": (
                with_part(routers=lambda s: s.experts * s.hidden),
                "one router is counted. Each layer has its own.",
            ),
        },
        accepted={"formulas": by_formula, "a layer first, floats": per_layer_first},
    ),
)
