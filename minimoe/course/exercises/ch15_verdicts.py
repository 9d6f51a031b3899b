"""Chapter 15, the article: verdicts on sentences about another model (15.4), and guesses against verdicts (15.5)."""

import torch
from einops import einsum, rearrange
from torch import Tensor

from minimoe.course.article.claims import CONDITION, FALSE, OPEN, OUTDATED, TRUE
from minimoe.course.checker.exercise import Arguments, Case, Exercise

# 15.4 verdicts on Qwen3-30B-A3B ---------------------------------------------------------------------------------------

NINTH = "a token uses about a ninth of its 30.5 billion parameters"
CARD = "in half precision its weights fit one card with 24 GB"
EXPERTS = "it has 128 experts"
CONTEXT = "its native context has 262,144 tokens"
CACHE = "32,768 tokens take 3.2 GB of cache in 16 bits"
GOOD = "it is three times as good as a dense model of 3 billion"
NEWEST = "it is the newest small mixture of the Qwen team"
SENTENCES = {
    NINTH: TRUE, CARD: FALSE, EXPERTS: CONDITION, CONTEXT: CONDITION, CACHE: TRUE, GOOD: OPEN, NEWEST: OUTDATED,
}  # fmt: skip


def but(sentence: str, verdict: str) -> dict[str, str]:
    """The right answer with one verdict replaced."""
    return SENTENCES | {sentence: verdict}


# 15.5 guesses against verdicts ----------------------------------------------------------------------------------------


def counted(guesses: Tensor, verdicts: Tensor) -> Tensor:
    """guesses: (reader, claim, given), verdicts: (claim, true), both one-hot -> counts (reader, given, true)."""
    readers, claims, choices = guesses.shape
    counts = torch.zeros(readers, choices, verdicts.shape[1])
    for reader in range(readers):
        for claim in range(claims):
            counts[reader, guesses[reader, claim].argmax(), verdicts[claim].argmax()] += 1
    return counts


def crossed(guesses: Tensor, verdicts: Tensor) -> Tensor:
    return einsum(guesses, verdicts, "reader claim given, claim true -> reader given true")


def drawn(readers: int, claims: int, given: int, true: int) -> Arguments:
    """Random guesses and verdicts, one-hot."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        guesses = torch.eye(given)[torch.randint(given, (readers, claims), generator=generator)]
        return guesses, torch.eye(true)[torch.randint(true, (claims,), generator=generator)]

    return arguments


BY_HAND = (
    torch.tensor([[[1.0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]]),
    torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]]),
    torch.tensor([[[1.0, 1], [0, 1], [1, 0]]]),
)

EXERCISES = (
    Exercise(
        id="15.4",
        title="Seven sentences about another model",
        kind="predict",
        minutes=10,
        difficulty=2,
        hints=(
            "Ask of each sentence what would have to be looked up or computed. If nothing would decide it, it is not "
            "checkable.",
            "Two are about bytes: 2 bytes for a parameter in half precision, and "
            "2 · layers · kv_heads · head_dim · 2 bytes of cache for a token. The config has all sizes.",
            "If a sentence holds for one layer, or for one checkpoint, and does not say so, it is true with a "
            "condition. If it held once, it is outdated.",
        ),
        now_you_know="the verdict follows from the sentence as it stands: a missing condition is not a small thing.",
        expected=dict(SENTENCES),
        reasons={
            NINTH: "divide the parameters of the config by the active ones; both are on the page.",
            CARD: "how many bytes are 30.5 billion parameters in half precision, that is in 16 bits? The sentence says "
            "nothing of fewer bits.",
            EXPERTS: "how many layers have experts of their own? The number is right for one of them.",
            CONTEXT: "compare the configs on the page: of which checkpoint is this the number?",
            CACHE: "keys and values, 48 layers, 4 key/value heads of 128, 2 bytes each, times 32,768.",
            GOOD: "in which unit would it be measured, and by which test?",
            NEWEST: "there was a time when it held. What does the table of chapter 08 have of a later date?",
        },
        mutants={
            "fewer bits": (
                but(CARD, CONDITION),
                "the card is judged with fewer bits in mind. The sentence says half precision, and there it "
                "does not fit: it is false, though another sentence would be true.",
            ),
            "parameters are bytes": (
                but(CARD, TRUE),
                "the card is judged as if a parameter were less than a byte. In half precision it takes two bytes.",
            ),
            "one layer": (
                but(EXPERTS, TRUE),
                "128 experts are taken for the whole model. Each layer has 128 of its own.",
            ),
            "not one layer": (
                but(EXPERTS, FALSE),
                "128 experts are refused altogether. The number is right in each layer, so it is true with that "
                "condition.",
            ),
            "one checkpoint": (
                but(CONTEXT, TRUE),
                "the context of the 2507 checkpoint is taken for that of all. The config of April has another number.",
            ),
            "the other checkpoint": (
                but(CONTEXT, FALSE),
                "the context is judged by the checkpoint of April alone. The 2507 checkpoint has this number, so it is "
                "true with a condition.",
            ),
            "no unit": (
                but(GOOD, FALSE),
                "“three times as good” is called false. To be false it would have to be measured: it names no unit and "
                "no test.",
            ),
            "never": (
                but(NEWEST, FALSE),
                "“the newest” is called false. It held at one time and no longer does: that is outdated.",
            ),
            "still": (
                but(NEWEST, TRUE),
                "“the newest” is called true. It was, until another came out after it: look at the dates.",
            ),
        },
        accepted={
            "capital letters": {sentence: verdict.title() for sentence, verdict in SENTENCES.items()},
            "with a dot": {sentence: f"{verdict}." for sentence, verdict in SENTENCES.items()},
        },
    ),
    Exercise(
        id="15.5",
        title="Which verdicts are confused?",
        kind="einops",
        minutes=8,
        difficulty=2,
        hints=(
            "Both are one-hot. For one reader and one claim, the product of two such rows is a small table with a "
            "single 1 in it.",
            "(reader claim given) and (claim true) -> (reader given true). Which axis do both have that the result has "
            "not?",
            'One einsum: "reader claim given, claim true -> reader given true". What the result lacks is summed.',
        ),
        now_you_know="a table of confusions is one einsum of two one-hot tensors.",
        oracle=counted,
        given=counted,
        cases=(
            Case("one reader, four claims, by hand", BY_HAND[:2], BY_HAND[2]),
            Case("two readers, seven claims", drawn(2, 7, 4, 3)),
            Case("four readers, 43 claims, five verdicts and no guess", drawn(4, 43, 6, 5)),
            Case("a single claim", drawn(3, 1, 6, 5)),
        ),
        mutants={
            "exchanged": (
                lambda g, v: rearrange(crossed(g, v), "reader given true -> reader true given"),
                "the last two axes have changed places: what was guessed comes before what is true.",
            ),
            "readers summed": (
                lambda g, v: crossed(g, v).sum(dim=0),
                "all readers are added up. Each reader keeps a table of their own.",
            ),
            "every guess with every verdict": (
                lambda g, v: einsum(g.sum(dim=1), v.sum(dim=0), "reader given, true -> reader given true"),
                "each guess is paired with the verdicts of all claims. A guess belongs to the verdict of the same "
                "claim: multiply before you sum over the claims.",
            ),
            "the mean over claims": (
                lambda g, v: crossed(g, v) / g.shape[1],
                "it is divided by the number of claims. The table holds counts.",
            ),
            "shares": (
                lambda g, v: crossed(g, v) / v.sum(dim=0).clamp(min=1),
                "each column is divided by its sum: a share. The table holds counts.",
            ),
            "claims kept": (
                lambda g, v: einsum(g, v, "reader claim given, claim true -> reader claim given true"),
                "the claims are still there as an axis. Sum over them.",
            ),
            "first reader": (
                lambda g, v: crossed(g[:1], v).expand(len(g), -1, -1).clone(),
                "every reader has the table of the first reader.",
            ),
            "sum for each": (
                lambda g, v: crossed(g, v).sum(dim=0, keepdim=True).expand(len(g), -1, -1).clone(),
                "every reader has the sum of all readers' tables.",
            ),
            "whether": (
                lambda g, v: (crossed(g, v) > 0).float(),
                "it says whether a confusion happened, once or more often. The table holds counts.",
            ),
            "other claims": (
                lambda g, v: crossed(g, v.flip(0)),
                "the verdicts are in another order than the claims: a guess must meet the verdict of the same claim.",
            ),
        },
        accepted={
            "one einsum": crossed,
            "a matrix product": lambda g, v: rearrange(g, "reader claim given -> reader given claim") @ v,
        },
    ),
)
