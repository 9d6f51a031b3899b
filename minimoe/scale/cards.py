"""How much memory common cards have: what the driver reports (nvidia-smi, "Memory-Usage" or memory.total).

It is neither the number in the card's name nor that number of GiB: an "80 GB" H100 has 81,559 MiB = 85.5 * 10**9 bytes.
Every figure is one that somebody printed; the source says where. A machine of your own may differ by a few MiB with the
driver and with error correction switched on: `nvidia-smi --query-gpu=memory.total --format=csv` tells.
"""

from dataclasses import dataclass

from minimoe.errors import BadArgument

MODAL = "modal-labs/modal-client pull request #2797: nvidia-smi on each type"
CLUB = "noonghunna/club-3090 issues #1129 and #1229: nvidia-smi"
PRINTED = "nvidia-smi outputs in several public repositories"


@dataclass(frozen=True)
class Card:
    """One card: its name, its memory as the driver counts it, and where that figure is from."""

    name: str
    mebibytes: int
    source: str

    @property
    def bytes(self) -> int:
        return self.mebibytes * 2**20


CARDS = {
    card.name: card
    for card in (
        Card("T4", 15_360, MODAL),
        Card("L4", 23_034, MODAL),
        Card("A10", 23_028, MODAL),
        Card("RTX 3090", 24_576, CLUB),
        Card("RTX 4090", 24_564, "RLinf/RLinf issue #255: nvidia-smi"),
        Card("RTX 5090", 32_607, CLUB),
        Card("A100-40GB", 40_960, MODAL),
        Card("L40S", 46_068, MODAL),
        Card("A100-80GB", 81_920, MODAL),
        Card("H100", 81_559, MODAL),
        Card("H200", 143_771, PRINTED),
        Card("B200", 183_359, PRINTED),
    )
}


def find_card(name: str) -> Card:
    """A card by its name, spelt freely: "h100", "4090", "NVIDIA H200". Raises BadArgument if it is none or several."""
    keys, wanted = {plain(each): each for each in CARDS}, plain(name)
    if wanted in keys:
        return CARDS[keys[wanted]]
    found = [each for key, each in keys.items() if wanted and wanted in key]
    if len(found) == 1:
        return CARDS[found[0]]
    known = ", ".join(found or CARDS)
    problem = "could be several cards" if found else "is not a card that is known here"
    raise BadArgument(f"card {name!r} {problem}: {known}. Name one of them, or give the device memory in bytes.")


def plain(name: str) -> str:
    """Lower-case letters and digits only, without the maker's name."""
    letters = "".join(letter for letter in name.lower() if letter.isalnum())
    return letters.removeprefix("nvidia").removeprefix("geforce")
