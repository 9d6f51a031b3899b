"""Common GPUs ("cards"): memory as the driver reports it, and compute capability.

Memory is the total that nvidia-smi (rocm-smi for AMD) prints. It is neither the number in the product name nor that
number of GiB: an "80 GB" H100 has 81,559 MiB = 85.5 * 10**9 bytes. Each figure was printed on a real machine; `source`
names it. Another machine may differ by a few MiB with the driver version, and by 3 GB without error correction (ECC):
see `nvidia-smi --query-gpu=memory.total --format=csv`.

Compute capabilities are from https://developer.nvidia.com/cuda-gpus; attention_kernels.py derives the attention kernel
from them. AMD GPUs have none.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches

from minimoe.errors import BadArgument
from minimoe.scale.planner.attention_kernels import kernel_of

MODAL = "modal-labs/modal-client pull request #2797: nvidia-smi on each type"
CLUB = "noonghunna/club-3090 issues #1129 and #1229: nvidia-smi"
PRINTED = "nvidia-smi outputs in several public repositories"
ROCM = "rocm-smi outputs in several public repositories: 206,141,652,992 bytes"


@dataclass(frozen=True)
class Card:
    """One GPU model: name, memory as the driver reports it, the source of that figure, compute capability.

    `also`: further spellings in the normal form of `find_card`. A spelling shared by several cards is ambiguous, and
    `find_card` refuses it.
    """

    name: str
    mebibytes: int
    source: str
    capability: tuple[int, int] | None
    also: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return self.mebibytes * 2**20

    @property
    def kernel(self) -> str:
        """The attention kernel that PyTorch runs on it: "flash" or "plain" (see attention_kernels.py)."""
        return kernel_of(self.capability)


CARDS = {
    card.name: card
    for card in (
        Card("RTX 3080", 10_240, PRINTED, (8, 6)),
        Card("RTX 2080 Ti", 11_264, PRINTED, (7, 5)),
        Card("RTX 5070", 12_227, PRINTED, (12, 0)),
        Card("RTX 4070", 12_282, PRINTED, (8, 9)),
        Card("RTX 4070 Ti", 12_282, PRINTED, (8, 9)),
        Card("RTX 4070 Super", 12_282, PRINTED, (8, 9)),
        Card("RTX 3060", 12_288, PRINTED, (8, 6)),
        Card("RTX 3080 Ti", 12_288, PRINTED, (8, 6)),
        Card("T4", 15_360, MODAL, (7, 5)),
        Card("RTX 5070 Ti", 16_303, PRINTED, (12, 0)),
        Card("RTX 5080", 16_303, PRINTED, (12, 0)),
        Card("RTX 5060 Ti", 16_311, PRINTED, (12, 0)),
        Card("RTX 4070 Ti Super", 16_376, PRINTED, (8, 9)),
        Card("RTX 4080", 16_376, PRINTED, (8, 9)),
        Card("RTX 4080 Super", 16_376, PRINTED, (8, 9)),
        Card("RTX A4000", 16_376, PRINTED, (8, 6)),
        Card("RTX 4060 Ti", 16_380, PRINTED, (8, 9)),
        Card("V100-16GB", 16_384, PRINTED, (7, 0), ("v100",)),
        Card("L4", 23_034, MODAL, (8, 9)),
        Card("A10", 23_028, MODAL, (8, 6)),
        Card("A10G", 23_028, PRINTED, (8, 6)),
        Card("RTX 4090", 24_564, "RLinf/RLinf issue #255: nvidia-smi", (8, 9)),
        Card("RTX 4090 D", 24_564, PRINTED, (8, 9)),
        Card("RTX 3090 Ti", 24_564, PRINTED, (8, 6)),
        Card("RTX A5000", 24_564, PRINTED, (8, 6)),
        Card("RTX 3090", 24_576, CLUB, (8, 6)),
        Card("A30", 24_576, PRINTED, (8, 0)),
        Card("P40", 24_576, PRINTED, (6, 1)),
        Card("Quadro RTX 6000", 24_576, PRINTED, (7, 5), ("rtx6000", "6000")),
        Card("RTX 5090", 32_607, CLUB, (12, 0)),
        Card("RTX 5000 Ada", 32_760, PRINTED, (8, 9)),
        Card("V100-32GB", 32_768, PRINTED, (7, 0), ("v100",)),
        Card("A100-40GB", 40_960, MODAL, (8, 0), ("a100",)),
        Card("L20", 46_068, PRINTED, (8, 9)),
        Card("L40", 46_068, PRINTED, (8, 9)),
        Card("L40S", 46_068, MODAL, (8, 9)),
        Card("A40", 46_068, PRINTED, (8, 6)),
        Card("RTX PRO 5000", 48_935, PRINTED, (12, 0)),
        Card("RTX A6000", 49_140, PRINTED, (8, 6)),
        Card("RTX 6000 Ada", 49_140, PRINTED, (8, 9), ("rtx6000", "6000")),
        Card("A100-80GB", 81_920, MODAL, (8, 0), ("a100",)),
        Card("A800", 81_920, "dexmal/dexbotic issue #41: nvidia-smi", (8, 0)),
        Card("H100", 81_559, MODAL, (9, 0)),
        Card("H800", 81_559, PRINTED, (9, 0)),
        Card("H100 NVL", 95_830, PRINTED, (9, 0)),
        Card("H20", 97_871, PRINTED, (9, 0)),
        Card("GH200", 97_871, PRINTED, (9, 0), ("gh200480gb", "gh200120gb")),
        Card("RTX PRO 6000", 97_887, PRINTED, (12, 0)),
        Card("H200", 143_771, PRINTED, (9, 0)),
        Card("H200 NVL", 143_771, PRINTED, (9, 0)),
        Card("B200", 183_359, PRINTED, (10, 0)),
        Card("GB200", 189_471, PRINTED, (10, 0)),
        Card("MI300X", 196_592, ROCM, None),
        Card("B300", 275_040, PRINTED, (10, 3)),
        Card("GB300", 284_208, PRINTED, (10, 3)),
    )
}

MAKERS = {"nvidia", "geforce", "tesla", "amd", "instinct", "gpu"}
FORMS = re.compile(r"sxm\d?|pcie|oam|ac|hbm\de?|generation")  # form factors, which do not identify a card
EDITIONS = {"blackwell", "workstation", "server", "edition", "max", "q"}  # of the RTX PRO cards; same memory in all
MEMORY = re.compile(r"(\d+)(?:g|gb|gib)")
NEAR = 0.07  # a "48 GB" card with error correction reports 6.3 % less than 48 GiB


def find_card(name: str) -> Card:
    """Look up a card by its full name: "h100", "4090", "NVIDIA A100-SXM4-80GB", "GeForce RTX 3090".

    Case, spaces and dashes are ignored; maker, form factor (SXM, PCIe) and the correct memory size are optional.
    Raises BadArgument if the name matches no known card, or several.
    """
    words = [word for word in re.findall(r"[a-z0-9]+", name.lower()) if word not in MAKERS]
    words = [word for word in words if not FORMS.fullmatch(word) and not ("pro" in words and word in EDITIONS)]
    matches = NAMES.get("".join(words), [])
    if not matches and words and (memory := MEMORY.fullmatch(words[-1])):
        matches = [card for card in NAMES.get("".join(words[:-1]), []) if is_near(card, int(memory[1]))]
    if len(matches) == 1:
        return matches[0]
    if matches:
        problem = f"could be several cards: {', '.join(card.name for card in matches)}"
    else:
        close = [NAMES[key][0].name for key in get_close_matches("".join(words), NAMES, n=3, cutoff=0.75)]
        meant = f" Did you mean {' or '.join(dict.fromkeys(close))}?" if close else ""
        problem = f"is not a known card.{meant} Known: {', '.join(CARDS)}"
    raise BadArgument(f"card {name!r} {problem}. Name one of them, or pass the memory of the device instead.")


def is_near(card: Card, gigabytes: int) -> bool:
    """Whether `gigabytes` is close to the card's memory, counted in GB or in GiB."""
    return any(abs(gigabytes * unit / card.bytes - 1) <= NEAR for unit in (10**9, 2**30))


def spellings(card: Card) -> set[str]:
    """The normal forms of its name: without maker, form factor, spaces and dashes."""
    plain = re.sub(r"[^a-z0-9]", "", card.name.lower())
    return {plain, plain.removeprefix("rtx"), plain.removesuffix("gb"), *card.also}


NAMES: dict[str, list[Card]] = {}
for card in CARDS.values():
    for spelling in sorted(spellings(card)):
        NAMES.setdefault(spelling, []).append(card)
