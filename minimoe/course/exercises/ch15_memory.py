"""Chapter 15, the article: gigabytes (15.1), the fullest card (15.3), what a batch reads (15.6)."""

from collections.abc import Callable, Iterator
from itertools import combinations

from minimoe.course.checker.exercise import Case, Exercise
from minimoe.course.figures.ch08_names import families
from minimoe.model.config import ModelConfig

BIG = ModelConfig.named("Qwen3-235B-A22B")
GB = 10**9

# 15.1 gigabytes of weights and cache ----------------------------------------------------------------------------------


def gigabytes(
    parameters: int, bits: float, tokens: int, layers: int, kv_heads: int, head_dim: int, kv_bits: int
) -> tuple[float, float]:
    """(GB of weights, GB of KV cache); a GB is 10**9 bytes."""
    weights = parameters * bits / 8
    cache = tokens * layers * 2 * kv_heads * head_dim * kv_bits / 8
    return weights / GB, cache / GB


SLIPS = {
    "bytes": "the width is taken for bytes. It is in bits, and eight bits are a byte.",
    "gib": "it is divided by 2**30, which gives GiB. A GB is 10**9 bytes.",
    "one side": "only the keys are in the cache. It holds keys and values: two numbers for each place.",
    "one layer": "the cache of one layer is counted. Every layer has its own.",
    "weights' width": "the cache is counted with the bits of the weights. It has its own width, kv_bits.",
    "two bytes": "every number is taken for two bytes, whatever `bits` and `kv_bits` say.",
    "one token": "the cache of one token is counted. It grows with every token of the context.",
    "no head_dim": "head_dim is missing in the cache: each key and value head has that many numbers.",
    "whole bytes": "a width is rounded down to whole bytes, so that 4 bits become nothing. Multiply before you divide.",
}


def slipped(made: tuple[str, ...]) -> Callable[..., tuple[float, float]]:
    """The two numbers with these slips."""

    def numbers(
        parameters: int, bits: float, tokens: int, layers: int, kv_heads: int, head_dim: int, kv_bits: int
    ) -> tuple[float, float]:
        cache_bits = bits if "weights' width" in made else kv_bits
        widths = [each // 8 if "whole bytes" in made else each / 8 for each in (bits, cache_bits)]
        widths = [2, 2] if "two bytes" in made else widths
        widths = [8 * width for width in widths] if "bytes" in made else widths
        cache = (1 if "one side" in made else 2) * kv_heads * widths[1]
        cache *= 1 if "one layer" in made else layers
        cache *= 1 if "one token" in made else tokens
        cache *= 1 if "no head_dim" in made else head_dim
        unit = 2**30 if "gib" in made else GB
        return parameters * widths[0] / unit, cache / unit

    return numbers


def slips() -> Iterator[tuple[str, ...]]:
    """One slip, or two that can be made together."""
    yield from ((slip,) for slip in SLIPS)
    for pair in combinations(SLIPS, 2):
        if not {"two bytes", "whole bytes"} & set(pair):
            yield pair


# 15.3 bytes missing on each card --------------------------------------------------------------------------------------


def missing(layers: int, layer: int, embedding: int, head: int, cards: int, memory: int) -> list[int]:
    """Bytes missing on each card, by dealing out the layers one by one."""
    need = [0] * cards
    for number in range(layers):
        need[number % cards] += layer
    need[0] += embedding
    need[-1] += head
    return [max(0, each - memory) for each in need]


def suspicious(layers: int, layer: int, embedding: int, head: int, cards: int, memory: int) -> list[int]:
    need = layers * layer + embedding + head
    return [max(0, need // cards - memory) for card in range(cards)]


def placed(
    layers: int, layer: int, embedding: int, head: int, cards: int, memory: int, *,
    count: Callable[[int, int, int], int] = lambda layers, cards, card: layers // cards + (card < layers % cards),
    ends: Callable[[int, int, int, int], int] = lambda embedding, head, card, last: (
        embedding * (card == 0) + head * (card == last)
    ),
    left: Callable[[int, int], int] = lambda need, memory: max(0, need - memory),
) -> list[int]:  # fmt: skip
    """The oracle with one decision replaced: layers of a card, what the ends hold, what is left."""
    needs = [count(layers, cards, card) * layer + ends(embedding, head, card, cards - 1) for card in range(cards)]
    return [left(need, memory) for need in needs]


def with_divmod(layers: int, layer: int, embedding: int, head: int, cards: int, memory: int) -> tuple[int, ...]:
    """A tuple, with divmod."""
    each, rest = divmod(layers, cards)
    need = [(each + 1) * layer] * rest + [each * layer] * (cards - rest)
    need[0] += embedding
    need[-1] += head
    return tuple(bytes_ - memory if bytes_ > memory else 0 for bytes_ in need)


# 15.6 parameters that a batch reads -----------------------------------------------------------------------------------


def parameters_read(tokens: int, total: int, active: int, experts: int, chosen: int) -> float:
    """Expected number of parameters that `tokens` tokens read together, token by token."""
    unread = 1.0
    for _ in range(tokens):
        unread *= (experts - chosen) / experts
    in_experts = (total - active) * experts / (experts - chosen)
    return total - in_experts * unread


def read(
    tokens: int, total: int, active: int, experts: int, chosen: int, *,
    share: Callable[[int, int, int], float] = lambda tokens, experts, chosen: 1 - (1 - chosen / experts) ** tokens,
    always: bool = True, idle_only: bool = False,
) -> float:  # fmt: skip
    """The closed form with one decision replaced."""
    in_experts = total - active if idle_only else (total - active) * experts / (experts - chosen)
    base = active if idle_only else total - in_experts
    return (base if always else 0) + in_experts * share(tokens, experts, chosen)


def counted(name: str) -> tuple[int, int, int, int]:
    """(total, active, experts, chosen) of a checkpoint of chapter 08."""
    model = next(each for each in families() if each["model"] == name)
    return model["total"], model["active"], model["experts"], model["top_k"]


OF_BIG = (BIG.num_hidden_layers, BIG.num_key_value_heads, BIG.head_dim)

EXERCISES = (
    Exercise(
        id="15.1",
        title="Gigabytes of weights and of cache",
        kind="estimate",
        minutes=8,
        difficulty=1,
        hints=(
            "Weights: a number of parameters, and a width in bits. Cache: for each token, each layer and each "
            "key/value head there are keys and values.",
            "Both are numbers of values times a width in bits, divided by 8 for bytes and by 10**9 for GB. How many "
            "values does one token add to the cache?",
            "weights: parameters · bits / 8 / 10**9. cache: tokens · layers · 2 · kv_heads · head_dim · kv_bits / 8 / "
            "10**9.",
        ),
        now_you_know="a sentence about memory needs both widths and the length of the context.",
        oracle=gigabytes,
        parts={"the GB of the weights": lambda result: result[0], "the GB of the cache": lambda result: result[1]},
        cases=(
            Case(
                "2 billion parameters of 12 bits; 1,000 tokens, 5 layers, 3 heads of 10, by hand",
                (2_000_000_000, 12, 1000, 5, 3, 10, 8),
                (3.0, 0.0003),
            ),
            Case("the 235B in 16 bits, 32,768 tokens", (BIG.total_parameters, 16, 32_768, *OF_BIG, 16)),
            Case(
                "the 235B in 4.125 bits, a million tokens, 8 bits of cache",
                (BIG.total_parameters, 4.125, 10**6, *OF_BIG, 8),
            ),
            Case("weights in 8 bits and a cache in 16", (30_532_122_624, 8, 262_144, 48, 4, 128, 16)),
            Case("weights in 4 bits and a cache in 4", (7_000_000_000, 4, 5000, 30, 8, 64, 4)),
            Case("no token yet", (1_000_000, 16, 0, 4, 2, 32, 16)),
        ),
        mutants={", ".join(made): (slipped(made), "\n  Also: ".join(SLIPS[each] for each in made)) for made in slips()}
        | {
            "exchanged": (
                lambda *sizes: gigabytes(*sizes)[::-1],
                "the two numbers have changed places: weights first, then the cache.",
            ),
            "in bytes": (
                lambda *sizes: tuple(GB * each for each in gigabytes(*sizes)),
                "the numbers are in bytes. Divide by 10**9 for GB.",
            ),
            "rounded": (
                lambda *sizes: tuple(round(each) for each in gigabytes(*sizes)),
                "the numbers are rounded to whole GB. A small cache becomes 0.",
            ),
        },
        accepted={
            "a list": lambda p, b, t, la, kv, d, kb: [p * b / 8e9, t * la * kv * d * kb / 4e9],
            "no slip": slipped(()),
        },
    ),
    Exercise(
        id="15.3",
        title="It fits, on average",
        kind="bug hunt",
        minutes=12,
        difficulty=3,
        hints=(
            "The function adds up what all cards need and divides. Can a card lend memory to another?",
            "Make a list of what each card needs. Layers can't be cut: with 94 layers on 4 cards, how many has each? "
            "Which card holds the embedding, which the head?",
            "Card c has layers // cards layers, and one more if c < layers % cards. Card 0 needs `embedding` more, the "
            "last card `head` more. Then max(0, need - memory) for each.",
        ),
        now_you_know="memory is counted on the fullest card; a sum over all cards hides it.",
        oracle=missing,
        given=suspicious,
        cases=(
            Case("5 layers of 10 bytes, embedding 7, head 4, on 2 cards of 30, by hand", (5, 10, 7, 4, 2, 30), [7, 0]),
            Case("7 layers on 3 cards", (7, 100, 30, 50, 3, 190)),
            Case("everything fits", (6, 10, 5, 5, 3, 100), [0, 0, 0]),
            Case("one card holds all", (5, 10, 7, 4, 1, 20), [41]),
            Case("more cards than layers", (2, 10, 3, 4, 4, 2), [11, 8, 0, 2]),
            Case("the embedding is larger than a layer", (9, 10, 40, 25, 4, 33)),
            Case(
                "the 235B in 4 bits on four cards of 24 GB",
                (94, 1_283_563_520, 1_244_659_712, 1_244_667_904, 4, 25_757_220_864),
            ),
            Case(
                "the 235B in 4 bits on two cards of 80 GB",
                (94, 1_283_563_520, 1_244_659_712, 1_244_667_904, 2, 85_899_345_920),
            ),
        ),
        mutants={
            "the average": (
                suspicious,
                "what all cards need is divided evenly. Layers and matrices can't be cut like that: one card is fuller "
                "than the others, and it decides.",
            ),
            "rounded up": (
                lambda *s: placed(*s, count=lambda layers, cards, card: -(-layers // cards)),
                "every card gets as many layers as the fullest, so there are more layers than the model has.",
            ),
            "rounded down": (
                lambda *s: placed(*s, count=lambda layers, cards, card: layers // cards),
                "the division is rounded down on every card, so the rest of the layers is nowhere.",
            ),
            "rest on the last": (
                lambda *s: placed(
                    *s, count=lambda layers, cards, card: layers // cards + (layers % cards) * (card == cards - 1)
                ),
                "all of the rest is on the last card. The page gives one layer more to each of the first cards.",
            ),
            "the last get more": (
                lambda *s: placed(
                    *s, count=lambda layers, cards, card: layers // cards + (card >= cards - layers % cards)
                ),
                "the last cards get one layer more. On the page it is the first ones.",
            ),
            "ends everywhere": (
                lambda *s: placed(*s, ends=lambda embedding, head, card, last: embedding + head),
                "embedding and head are on every card. The first card has the embedding, the last one the head.",
            ),
            "no ends": (
                lambda *s: placed(*s, ends=lambda embedding, head, card, last: 0),
                "embedding and head are forgotten. They take memory on the first and on the last card.",
            ),
            "both on the first": (
                lambda *s: placed(*s, ends=lambda embedding, head, card, last: (embedding + head) * (card == 0)),
                "embedding and head are both on the first card. The head is on the last one.",
            ),
            "both on the last": (
                lambda *s: placed(*s, ends=lambda embedding, head, card, last: (embedding + head) * (card == last)),
                "embedding and head are both on the last card. The embedding is on the first one.",
            ),
            "ends exchanged": (
                lambda *s: placed(
                    *s, ends=lambda embedding, head, card, last: head * (card == 0) + embedding * (card == last)
                ),
                "embedding and head have changed places: the embedding is on the first card, the head on the last.",
            ),
            "no head on an only card": (
                lambda *s: placed(
                    *s, ends=lambda embedding, head, card, last: embedding if card == 0 else head * (card == last)
                ),
                "an only card has no head. It is the first and the last card at once, and holds both.",
            ),
            "negative": (
                lambda *s: placed(*s, left=lambda need, memory: need - memory),
                "where it fits, a negative number is returned. The page asks for 0 there.",
            ),
            "needed": (
                lambda *s: placed(*s, left=lambda need, memory: need),
                "these are the bytes that each card needs. Missing are only those beyond its memory.",
            ),
            "spare": (
                lambda *s: placed(*s, left=lambda need, memory: max(0, memory - need)),
                "these are the bytes that are left over. Missing are those the other way round: need - memory.",
            ),
        },
        accepted={"divmod, as a tuple": with_divmod, "card by card": placed},
    ),
    Exercise(
        id="15.6",
        title="When 22 become 235",
        kind="estimate",
        minutes=12,
        difficulty=3,
        hints=(
            "Take it apart: some parameters are read by every token, the others are experts. Two published numbers and "
            "the choice 8 of 128 give you both parts.",
            "total - active are the experts that one token leaves out, that is (experts - chosen) / experts of all "
            "experts. A token misses a given expert with probability 1 - chosen / experts.",
            "in_experts = (total - active) · experts / (experts - chosen). After `tokens` tokens the share "
            "(1 - chosen / experts) ** tokens of them is unread. The answer is total minus that.",
        ),
        now_you_know="“active parameters” is the cost of one token alone; a batch soon reads nearly all of them.",
        oracle=parameters_read,
        cases=(
            Case(
                "4 experts of 10 and 20 others; two tokens choose 1 of 4: 20 + 40 · 7/16, by hand",
                (2, 60, 30, 4, 1),
                37.5,
            ),
            Case("one token reads the active parameters", (1, 60, 30, 4, 1), 30.0),
            Case("the 235B, 32 tokens", (32, *counted("Qwen3-235B-A22B"))),
            Case("the 235B, 3 tokens", (3, *counted("Qwen3-235B-A22B"))),
            Case("Mixtral 8x7B, 4 tokens", (4, *counted("Mixtral-8x7B"))),
            Case("Qwen3.5-397B-A17B, 100 tokens", (100, *counted("Qwen3.5-397B-A17B"))),
        ),
        mutants={
            "active times tokens": (
                lambda tokens, total, active, experts, chosen: active * tokens,
                "each token gets parameters of its own. Attention is the same for all, and two tokens may choose the "
                "same expert.",
            ),
            "at most all": (
                lambda tokens, total, active, experts, chosen: min(total, active * tokens),
                "it grows by `active` with each token, up to all. Attention is the same for all tokens, and two tokens "
                "may choose the same expert.",
            ),
            "a straight line": (
                lambda *s: read(*s, share=lambda tokens, experts, chosen: min(1, tokens * chosen / experts)),
                "the experts grow in a straight line. Two tokens may choose the same expert, and then it is read once.",
            ),
            "no dense part": (
                lambda *s: read(*s, always=False),
                "only experts are counted. Attention and embeddings are read, too, by every token.",
            ),
            "power of the chosen": (
                lambda *s: read(*s, share=lambda tokens, experts, chosen: 1 - (chosen / experts) ** tokens),
                "the probability of being chosen is raised to the power. An expert stays unread if every token misses "
                "it: that is (1 - chosen / experts) ** tokens.",
            ),
            "unread": (
                lambda *s: read(*s, share=lambda tokens, experts, chosen: (1 - chosen / experts) ** tokens),
                "this is the part that is not read. Take 1 minus that share.",
            ),
            "all are experts": (
                lambda tokens, total, active, experts, chosen: total * (1 - (1 - chosen / experts) ** tokens),
                "all parameters are taken for experts. Attention and embeddings are read by every token.",
            ),
            "idle experts": (
                lambda *s: read(*s, idle_only=True),
                "total - active is taken for all experts. It is those that one token leaves out: the chosen ones are "
                "in `active`.",
            ),
            "one expert": (
                lambda *s: read(*s, share=lambda tokens, experts, chosen: 1 - (1 - 1 / experts) ** tokens),
                "each token chooses a single expert here. It chooses `chosen` of them.",
            ),
            "with replacement": (
                lambda *s: read(*s, share=lambda tokens, experts, chosen: 1 - (1 - 1 / experts) ** (tokens * chosen)),
                "the slots of a token are drawn as if it could choose an expert twice. They are different experts: a "
                "token misses a given one with probability 1 - chosen / experts.",
            ),
            "everything": (
                lambda tokens, total, active, experts, chosen: float(total),
                "it is always all parameters, whatever the tokens are.",
            ),
            "one token": (
                lambda tokens, total, active, experts, chosen: float(active),
                "it is always what one token reads. More tokens read more experts.",
            ),
            "one too few": (
                lambda tokens, *s: read(tokens - 1, *s),
                "one token is left out: the first one reads experts, too. The power is `tokens`.",
            ),
            "a share": (
                lambda tokens, total, active, experts, chosen: 1 - (1 - chosen / experts) ** tokens,
                "this is the share of the experts that is read. Asked is the number of parameters.",
            ),
        },
        accepted={
            "the unread part": lambda t, total, active, e, k: total - (total - active) * (1 - k / e) ** (t - 1),
            "closed form": read,
        },
    ),
)
