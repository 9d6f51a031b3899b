"""Chapter 14: what a rented machine should deliver. Rooflines for the first token and each next one, and the price.

A roofline is a lower bound: the bytes that have to be read divided by the speed of the memory, the operations divided
by the speed of the arithmetic, the bytes sent divided by the speed of the link. Launching kernels and waiting for the
other ranks come on top.
"""

from dataclasses import dataclass
from math import comb
from typing import Any

from minimoe.course.figures.ch06_router import driven
from minimoe.errors import BadArgument
from minimoe.figure_style import BLUE, GREEN, ORANGE, VERMILLION, Picture, bars
from minimoe.humanize import duration
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.model_size import plan

SPLITS = ("tensor", "slices", "layers")


@dataclass(frozen=True)
class Speed:
    """Speeds of one GPU by the vendor's data sheet: bytes/s of its memory, FLOP/s in bf16 (dense), bytes/s of its link.

    link: one direction, half of the figure that is advertised.
    """

    memory: float
    compute: float
    link: float
    joined_by: str


SPEEDS = {  # NVIDIA's data sheets of these products
    "A100-80GB": Speed(2.039e12, 312e12, 300e9, "NVLink"),
    "H100": Speed(3.35e12, 989e12, 450e9, "NVLink"),
    "H100 PCIe": Speed(2.0e12, 756e12, 64e9, "PCIe 5.0"),
    "H20": Speed(4.0e12, 148e12, 450e9, "NVLink"),
    "H200": Speed(4.8e12, 989e12, 450e9, "NVLink"),
    "B200": Speed(8.0e12, 2250e12, 900e9, "NVLink"),
    "L40S": Speed(0.864e12, 362e12, 32e9, "PCIe 4.0"),
    "RTX 4090": Speed(1.008e12, 165e12, 32e9, "PCIe 4.0"),
}


@dataclass(frozen=True)
class Reported:
    """A published speed of Qwen3-235B-A22B for one user: tokens per second after the first."""

    devices: int
    card: str
    precision: str
    engine: str
    tokens_per_second: float
    source: str


QWEN = "qwen.readthedocs.io, Speed Benchmark (one request, short prompt)"
REPORTED = (
    Reported(8, "H20", "bf16", "SGLang", 74.5, QWEN),
    Reported(4, "H20", "fp8", "SGLang", 71.7, QWEN),
    Reported(4, "H20", "gptq-int4", "SGLang", 14.7, QWEN),
)
MANY = Reported(4, "H20", "fp8", "SGLang", 1966.0, "sgl-project/sglang #5846 (many requests at once)")


def busiest(config: ModelConfig, ranks: int) -> float:
    """The expected number of a token's experts on the rank that has most of them, if routing is uniform.

    Exact: the ways to choose at most `most` from each rank are a coefficient of a product of polynomials.
    """
    experts, chosen = config.num_experts, config.num_experts_per_tok
    if experts % ranks:
        raise BadArgument(f"ranks is {ranks}, expected a divisor of the {experts} experts.")
    each, total = experts // ranks, comb(experts, chosen)
    expected = 0.0
    for most in range(chosen):
        ways = [1] + [0] * chosen  # ways[n]: to choose n experts from the ranks seen so far
        for _ in range(ranks):
            ways = [
                sum(ways[n - here] * comb(each, here) for here in range(min(most, n) + 1)) for n in range(chosen + 1)
            ]
        expected += 1 - ways[chosen] / total
    return expected


def bytes_of_a_token(
    config: ModelConfig, ranks: int, split: str = "tensor", precision: str = "bf16", context: int = 0
) -> float:
    """Bytes that are read one after the other for one new token: in each layer those of the busiest rank.

    split: "tensor" (heads and whole experts on each rank), "slices" (a slice of each expert on each rank) or "layers".
    """
    if split not in SPLITS:
        raise BadArgument(f"split is {split!r}, expected one of {', '.join(SPLITS)}.")
    sizes = plan(config, precision=precision)
    parts = {part.name: part.active_bytes for part in sizes.parts}
    cache = context * sizes.kv_cache_bytes_per_token
    head = parts["embeddings"] if config.tie_word_embeddings else parts["embeddings"] / 2  # of the input, one row
    whole = parts["router"] + parts["norms"]
    if split == "layers":
        return whole + parts["experts"] + parts["attention"] + head + cache
    share = busiest(config, ranks) / config.num_experts_per_tok if split == "tensor" else 1 / ranks
    owners = min(ranks, config.num_key_value_heads)
    return whole + parts["experts"] * share + (parts["attention"] + head) / ranks + cache / owners


def next_token_seconds(
    config: ModelConfig, card: str, ranks: int, split: str = "tensor", precision: str = "bf16", context: int = 0
) -> float:
    """The roofline of one new token: all its bytes, at the full speed of the memory."""
    return bytes_of_a_token(config, ranks, split, precision, context) / SPEEDS[card].memory


def sums_of_a_token(config: ModelConfig) -> int:
    """Sums over all ranks in a pass: two in each layer; one for the embedding and the gathering of logits beside."""
    return 2 * config.num_hidden_layers + 2


def first_token_seconds(config: ModelConfig, card: str, ranks: int, prompt: int) -> dict[str, float]:
    """Three lower bounds for a prompt that is computed in one pass: arithmetic, reading, sending.

    Arithmetic counts two operations for each weight and token and leaves out the scores of attention. Sending: each
    sum moves 2 (ranks - 1) / ranks of the hidden states of all tokens (a ring), in 16 bits.
    """
    sizes, speed = plan(config, precision="bf16"), SPEEDS[card]
    parts = {part.name: part for part in sizes.parts}
    used = sizes.active_parameters - parts["embeddings"].active
    chosen = 1 - (1 - config.num_experts_per_tok / config.num_experts) ** prompt
    read = sizes.weight_bytes - parts["embeddings"].bytes - parts["experts"].bytes * (1 - chosen)
    sent = 2 * config.num_hidden_layers * prompt * config.hidden_size * 2 * 2 * (ranks - 1) / ranks
    return {
        "arithmetic": 2 * used * prompt / (ranks * speed.compute),
        "reading the weights": read / (ranks * speed.memory),
        "sums between the GPUs": sent / speed.link,
    }


# Figures -------------------------------------------------------------------------------------------------------------


def roofline_bars(config: ModelConfig) -> Picture:
    """The reported time of a token beside the time that reading its weights takes, for each published figure."""
    names, values, texts, colours = [], [], [], []
    for each in REPORTED:
        precision = each.precision
        bound = next_token_seconds(config, each.card, each.devices, "slices", precision)
        rates = {"roofline": f"{1 / bound:,.0f}", "reported": f"{each.tokens_per_second:g}"}
        for kind, seconds, colour in (("roofline", bound, BLUE), ("reported", 1 / each.tokens_per_second, VERMILLION)):
            names.append(f"{each.devices} x {each.card}, {precision},<br>{kind}")
            values.append(1000 * seconds)
            texts.append(f"{1000 * seconds:.1f} ms, {rates[kind]}/s")
            colours.append(colour)
    times = [values[n + 1] / values[n] for n in range(0, len(values), 2)]
    title = f"Reported: {min(times):.0f} to {max(times):.0f} times what reading the weights takes"
    alt = f"{title}. " + "; ".join(f"{name}: {text}" for name, text in zip(names, texts, strict=True)) + "."
    alt = alt.replace(",<br>", ", ").replace("<br>", ", ")
    subtitle = f"Time of a new token, and tokens per second, {REPORTED[0].engine}. Roofline: computed. Source: {QWEN}"
    return roomy(bars(names, values, title, alt, subtitle=subtitle, texts=texts, colours=colours))


def first_token_bars(config: ModelConfig, offers: tuple[tuple[str, int], ...], prompt: int) -> Picture:
    """The three bounds of the first token on some machines, given as (card, number)."""
    names, values, colours, longest = [], [], [], {}
    palette = {"arithmetic": GREEN, "reading the weights": BLUE, "sums between the GPUs": ORANGE}
    for card, ranks in offers:
        bounds = first_token_seconds(config, card, ranks, prompt)
        for what, seconds in bounds.items():
            names.append(f"{ranks} x {card}:<br>{what}")
            values.append(1000 * seconds)
            colours.append(palette[what])
        longest[card] = max(bounds, key=lambda what: bounds[what])
    says = "; ".join(f"on {card} {what}" for card, what in longest.items())
    title = f"What takes longest before the first token: {says}"
    alt = f"{title}. " + "; ".join(f"{n} {v:.0f} ms" for n, v in zip(names, values, strict=True)) + "."
    alt = alt.replace("<br>", " ")
    subtitle = f"Lower bounds for a prompt of {prompt:,} tokens in bf16, computed from data sheets"
    return roomy(bars(names, values, title, alt, subtitle=subtitle, form=".0f", unit="ms", colours=colours))


def roomy(picture: Picture) -> Picture:
    """The same bars with room for names of two lines."""
    picture.figure.layout.height += 10 * len(picture.figure.data[0].y)
    return picture


@dataclass(frozen=True)
class Bill:
    """The price of a session: GPUs x price per GPU and hour x hours; `hours` by purpose."""

    gpus: int
    price: float  # per GPU and hour
    hours: dict[str, float]
    tokens_per_second: float

    @property
    def per_hour(self) -> float:
        return self.gpus * self.price

    @property
    def parts(self) -> dict[str, float]:
        return {what: self.per_hour * hours for what, hours in self.hours.items()}

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    @property
    def per_million_tokens(self) -> float:
        """While it answers: 10**6 tokens at this speed."""
        return self.per_hour * 1e6 / self.tokens_per_second / 3600


def bill(
    gpus: int, price: float, use: float, tokens_per_second: float, download: int, network: float, load: int, disk: float
) -> Bill:
    """use: hours. download, load: bytes. network, disk: bytes per second; a network of 0: the files are there."""
    hours = {
        "download": download / network / 3600 if network else 0.0,
        "load": load / disk / 3600,
        "answers": use,
    }
    return Bill(gpus, price, hours, tokens_per_second)


def bill_bars(each: Bill) -> Picture:
    """The parts of a bill; what is paid before the first answer is in another colour.

    The currency is written as letters, because two dollar signs in a text are TeX for plotly.
    """
    names = [f"{what},<br>{duration(3600 * hours)}" for what, hours in each.hours.items()]
    before = each.parts["download"] + each.parts["load"]
    title = f"{each.total:,.2f} USD, of which {before:,.2f} USD before the first word"
    subtitle = (
        f"{each.gpus} GPUs x {each.price:.2f} USD an hour = {each.per_hour:.2f} USD an hour; at "
        f"{each.tokens_per_second:,.0f} tokens/s a million tokens cost {each.per_million_tokens:,.2f} USD"
    )
    costs = [
        f"{name.replace('<br>', ' ')}: {cost:.2f} USD" for name, cost in zip(names, each.parts.values(), strict=True)
    ]
    alt = f"{title}. {subtitle}. {'; '.join(costs)}."
    colours = (VERMILLION, ORANGE, BLUE)
    return bars(names, list(each.parts.values()), title, alt, subtitle=subtitle, unit="USD", colours=colours)


def explore_bill(download: int, load: int, price: float = 2.5, gpus: int = 8) -> Any:
    """Sliders for `bill_bars`. download, load: bytes."""
    from ipywidgets import Dropdown, FloatSlider, IntSlider, Layout, SelectionSlider

    networks = {"1 Gbit/s": 125e6, "10 Gbit/s": 1.25e9, "the files are there": 0.0}
    disks = {"1 GB/s": 1e9, "3.5 GB/s": 3.5e9, "7 GB/s": 7e9}

    def draw(price: float, gpus: int, use: float, speed: int, network: float, disk: float) -> Picture:
        return bill_bars(bill(gpus, price, use, speed, download, network, load, disk))

    wide, narrow, style = Layout(width="330px"), Layout(width="230px"), {"description_width": "110px"}
    shared = {"continuous_update": False, "layout": wide, "style": style}
    return driven(
        draw,
        price=FloatSlider(value=price, min=0.25, max=12, step=0.25, description="USD per hour", **shared),
        gpus=IntSlider(value=gpus, min=1, max=16, description="GPUs", **shared),
        use=FloatSlider(value=1, min=0.25, max=24, step=0.25, description="hours of use", **shared),
        speed=SelectionSlider(
            options=[10, 20, 50, 75, 100, 250, 500, 1000, 2000], value=75, description="tokens/s", **shared
        ),
        network=Dropdown(options=networks, value=125e6, description="network", layout=narrow),
        disk=Dropdown(options=disks, value=3.5e9, description="disk", layout=narrow),
    )
