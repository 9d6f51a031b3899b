"""Chapter 08, the whole model: which of ten broken checkpoints wrote which text (08.8)."""

from collections.abc import Mapping

from minimoe.course.checker.exercise import Exercise

# The letters of the texts of data/damages/mini.json on the page
LETTERS: Mapping[str, str] = {
    "tied head": "A",
    "query and key norms": "B",
    "neighbours": "C",
    "missing head": "D",
    "gate and up": "E",
    "one row off": "F",
    "rope_theta": "G",
    "keys and values": "H",
    "missing routers": "I",
    "transposed o_proj": "J",
}


def exchanged(one: str, other: str) -> dict[str, str]:
    """The right answer with two of them exchanged."""
    return dict(LETTERS) | {one: LETTERS[other], other: LETTERS[one]}


def by_initials() -> dict[str, str]:
    """Small letters, as some readers write."""
    return {damage: letter.lower() for damage, letter in LETTERS.items()}


EXERCISES = (
    Exercise(
        id="08.8",
        title="Ten broken checkpoints",
        kind="predict",
        minutes=15,
        difficulty=4,
        hints=(
            "Sort the texts first: as ever, slightly wrong, words without sense, rubbish. Then sort the ten damages in "
            "the same way: is the damage in one place, or in every layer? Does it touch the weights or only a setting?",
            "Three are in the head: all layers work as ever, and only the last step is wrong. A head "
            "of noise has no favourite; a head that is the embedding likes what was just read; a head that is one row "
            "off is as sure as ever, of the wrong word.",
            "Look at the loss. Guessing has 7.6: near it is noise at the end. Far above it is certainty in the wrong "
            "word. Below 2 the sentences are still there.",
        ),
        now_you_know="the worse a load is, the easier it is to see; the mildest ones need a measurement.",
        expected=dict(LETTERS),
        reasons={
            "missing head": "a head of random numbers has no favourite. Its words come from everywhere, and don't "
            "repeat, and its loss is near that of guessing.",
            "transposed o_proj": "attention writes noise in every layer, from the first on. Nothing of a sentence is "
            "left, nor any rhythm.",
            "gate and up": "you have read this one in the lesson, and in chapter 05.",
            "rope_theta": "only the slow pairs turn too fast: neighbours are seen as ever, far words are not. How "
            "would that read?",
            "tied head": "which token is most similar to the embedding of a token? Think of a text in which each word "
            "calls for itself.",
            "keys and values": "what is mixed now are keys, of all earlier tokens. One word takes over the whole text.",
            "neighbours": "the routers choose as well as ever, and the chosen experts are real ones, for other tokens: "
            "sums, code and Chinese in one line.",
            "missing routers": "the experts are all there, and which of them work is left to chance. The loss is lower "
            "than with the wrong neighbour.",
            "one row off": "the model knows the word, and is sure of it; then its neighbour in the vocabulary is "
            "written. What does certainty in the wrong word do to the loss?",
            "query and key norms": "both are multiplied into the same products of q and k. How much can an exchange "
            "change?",
        },
        mutants={
            "noise and certainty": (
                exchanged("missing head", "one row off"),
                "the missing head and the head that is one row off are exchanged. A head of noise is unsure of "
                "everything: its loss is near 7.6. One row off is sure of the wrong word: its loss is far above.",
            ),
            "repeating": (
                exchanged("tied head", "keys and values"),
                "the tied head is confused with the keys and values. A tied head repeats whole words that it "
                "has just written, and changes them from time to time.",
            ),
            "mild ones": (
                exchanged("gate and up", "rope_theta"),
                "gate and up, and rope_theta, are exchanged. A wrong rope_theta leaves every sentence whole.",
            ),
            "harmless": (
                exchanged("rope_theta", "query and key norms"),
                "rope_theta and the norms of queries and keys are exchanged. One of the two texts is the undamaged "
                "model's, word for word.",
            ),
            "experts": (
                exchanged("neighbours", "missing routers"),
                "the neighbours and the missing routers are exchanged. Wrong experts, reliably chosen, do more "
                "harm than any experts by chance.",
            ),
            "rubbish": (
                exchanged("transposed o_proj", "keys and values"),
                "the transposed o_proj is confused with the keys and values. Noise in attention has no "
                "rhythm; a mixture of keys repeats itself.",
            ),
        },
        accepted={"small letters": by_initials(), "with a dot": {k: f"{v}." for k, v in LETTERS.items()}},
    ),
)
