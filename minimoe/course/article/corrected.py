"""The article in our words, with a place for every number; a cell of lesson 15 fills them in."""

from collections.abc import Mapping
from typing import Any

from minimoe.course.article.claims import fill, published
from minimoe.errors import BadArgument

TITLE = "Qwen3-235B-A22B, with its conditions"
PASSAGES = {
    "what it is": """
**What it is.** Qwen3-235B-A22B is a language model of Alibaba's Qwen team, released on {released} under {licence}. It
has {total_b:.1f} billion parameters. A token uses {active_b:.1f} billion of them, because in each of the {layers}
layers it is sent to {chosen} of {experts_per_layer} experts: {choices_per_token} choices for each token, among
{experts_all:,} experts. It was trained on {training_tokens_t:.0f} trillion tokens, {tokens_ratio:.0f} times as many
as Qwen 2.5, in {languages} languages. It was not the first mixture of its makers, which was Qwen1.5-MoE of
{first_moe}, and it is not the newest: a successor came out in {newer}.
""",
    "two updates": """
**Two updates.** On {instruct_2507} and {thinking_2507} two updates followed. The first never thinks, the second
always does; only the checkpoint of April has a switch. The updates have {positions_2507:,} positions, the first
release has {positions_april:,}.
""",
    "what it takes": """
**What it takes.** For one token {multiplied_b:.1f} billion weights are multiplied, so the arithmetic is that of a
dense model of this size. The memory is not. In 16 bits the weights take {bf16_gb:.0f} GB, in 8 bits {fp8_gb:.0f}, in
4 bits {int4_gb:.0f}. Each token of the context adds {kv_token:,} bytes of cache. With {positions_2507:,} tokens,
weights in 16 bits and cache are {with_256k_gb:.0f} GB; with {most_positions:,} tokens they are {with_million_gb:.0f}
GB, and the model card asks for about {card_million_gb:,} GB with work space. And {batch} tokens that are computed
together read about {read_by_batch:.0%} of the experts, if they choose independently.
""",
    "where it runs": """
**Where it runs.** Beside a cache of {context:,} tokens, two A100 with 80 GB hold {bits_two_a100:.1f} bits for each
parameter: 4 bits fit, 8 bits do not. One such card holds {bits_one_a100:.1f} bits, four RTX 4090
{bits_four_4090:.1f}; 4 bits do not fit there, unless some experts stay in main memory. Of the two servers that the
article names, TGI has been in maintenance mode since {tgi_maintenance}.
""",
    "how good it is": """
**How good it is.** All scores are those of its makers. When it thinks, the checkpoint of April is ahead of
DeepSeek-R1 in {r1_higher} of {r1_rows} rows, among them all {r1_math_rows} on math and reasoning ({aime24} against
{aime24_r1} on AIME'24, {aime25} against {aime25_r1} on AIME'25). The {r1_lower} others are about knowledge, writing
and languages. When it does not think, it is ahead of GPT-4o (version 2024-11-20) in {gpt4o_higher} of {gpt4o_rows}
rows. Claude Sonnet is not in these tables. Instruct-2507 improved {higher_2507} of {rows_2507} rows; Aider-Polyglot
fell from {aider_before} to {aider}.
""",
    "beside DeepSeek": """
**Beside DeepSeek-V3.** DeepSeek-V3 has {v3_total_b:.0f} billion parameters, {v3_active_b:.1f} billion for a token,
both embeddings included. Qwen 3 has {total_ratio:.0%} of its parameters and uses {active_ratio:.0%} as many for a
token. Both may be run on one's own machines. What is cheaper depends on the provider and the day.
""",
    "what is open": """
**What is open.** How large GPT-4 is, which share of "the quality of the largest models" is reached, which model is
best for English and Chinese: no verdict is possible, because nothing is published or no test is named. Whether math
chooses other experts than code was measured here on a mini model only. Of the {top_used} most used experts of a
layer, two halves of the code texts share {overlap_same:.1f}, code and math {overlap_other:.1f}, and chance would give
{overlap_chance:.0f}.
""",
}


class Text:
    """A text in markdown, displayed as such in Jupyter."""

    def __init__(self, text: str):
        self.text = text

    @property
    def words(self) -> int:
        return len(self.text.replace("*", "").replace("#", "").split())

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


def passage(name: str, numbers: Mapping[str, Any]) -> Text:
    """One paragraph of the corrected article. Raises BadArgument for an unknown name or a missing number."""
    if name not in PASSAGES:
        raise BadArgument(f"passage is {name!r}, expected one of {', '.join(PASSAGES)}.")
    return Text(fill(" ".join(PASSAGES[name].split()), with_billions(numbers), f"the passage {name!r}"))


def corrected(numbers: Mapping[str, Any]) -> Text:
    """The whole article with these numbers and the published ones. Raises BadArgument if one is missing."""
    return Text("\n\n".join([f"### {TITLE}", *(passage(name, numbers).text for name in PASSAGES)]))


def with_billions(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers with the published ones, and the two counts in billions."""
    counts = {f"{name}_b": numbers[name] / 10**9 for name in ("total", "active") if name in numbers}
    return {**published(), **numbers, **counts}
