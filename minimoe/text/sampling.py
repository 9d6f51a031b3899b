"""Sampling: from the logits of one position to a token id."""

from dataclasses import dataclass, fields
from math import isfinite, log
from typing import Any

import torch
from einops import pack, rearrange, unpack
from torch import Tensor

from minimoe.errors import BadArgument

COLDEST = 1e-6  # below this, dividing by the temperature overflows float32; 0 is greedy, without a division


@dataclass(frozen=True)
class SamplingSettings:
    """Settings of the draw. temperature=0 selects the largest logit; top_k=0, top_p=1 and min_p=0 disable a filter."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def check(self, sources: dict[str, str] | None = None) -> "SamplingSettings":
        """Raise BadArgument for the first invalid value. `sources`: the file of each value that came from one."""

        def require(holds: bool, name: str, rule: str) -> None:
            if not holds:
                source = f"{sources[name]}: " if sources and name in sources else ""
                raise BadArgument(f"{source}{name} is {getattr(self, name)!r}, expected {rule}.")

        def is_number(value: Any) -> bool:
            return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)

        t = self.temperature
        require(is_number(t) and (t == 0 or t >= COLDEST), "temperature", f"0 (greedy) or a number from {COLDEST} up")
        require(type(self.top_k) is int and self.top_k >= 0, "top_k", "an integer from 0 (off) up")
        require(is_number(self.top_p) and 0 < self.top_p <= 1, "top_p", "a number in (0, 1]; 1 is off")
        require(is_number(self.min_p) and 0 <= self.min_p < 1, "min_p", "a number in [0, 1); 0 is off")
        require(
            is_number(self.repetition_penalty) and self.repetition_penalty > 0,
            "repetition_penalty",
            "a positive number; 1 is off",
        )
        return self


def choose_settings(defaults: dict[str, Any], source: str, **given: float | None) -> SamplingSettings:
    """The `given` values, with the checkpoint's defaults for those that are None. `source`: their file, for errors.

    Without `do_sample` in the defaults the temperature is 0, unless temperature, top_k, top_p or min_p is given.
    """
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not defaults.get("do_sample") and not values.keys() & {"temperature", "top_k", "top_p", "min_p"}:
        values["temperature"] = 0
    known = {field.name for field in fields(SamplingSettings)} - values.keys()
    inherited = {name: value for name, value in defaults.items() if name in known and value is not None}
    return SamplingSettings(**(inherited | values)).check(dict.fromkeys(inherited, source))


def sample(
    logits: Tensor,
    temperature: float = 1.0,
    *,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """logits (..., vocab) -> ids (...) int64: temperature, then top-k, then top-p, then min-p, then one draw.

    temperature=0 is greedy. `generator` must be on the logits' device. Raises BadArgument.
    """
    SamplingSettings(temperature, top_k, top_p, min_p).check()
    if temperature == 0:
        return logits.argmax(dim=-1)
    kept = truncate(widen(logits) / temperature, top_k, top_p, min_p)
    rows, shape = pack([kept.softmax(dim=-1)], "* vocab")
    drawn = torch.multinomial(rows, num_samples=1, generator=generator)
    [ids] = unpack(drawn, shape, "* draw")
    return rearrange(ids, "... 1 -> ...")


def truncate(logits: Tensor, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Tensor:
    """logits (..., vocab), already divided by the temperature -> the same with -inf for all excluded tokens.

    Each filter applies to the output of the one before. Ties with the last of the top k are kept, so more than k tokens
    may remain.
    """
    if 0 < top_k < logits.shape[-1]:
        smallest = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if top_p < 1:  # drop the tail with at most 1 - top_p of the probability, but never the likeliest token
        ascending, order = logits.sort(dim=-1)
        tail = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        tail[..., -1] = False
        logits = logits.masked_fill(tail.scatter(-1, order, tail), -torch.inf)
    if min_p > 0:  # a probability below min_p times the largest is a logit more than -log(min_p) below the largest
        logits = logits.masked_fill(logits < logits.amax(dim=-1, keepdim=True) + log(min_p), -torch.inf)
    return logits


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """logits (vocab) with each id in `seen` made less likely, regardless of how often it occurred.

    Positive logits are divided by the penalty and negative ones multiplied (Keskar et al. 2019, CTRL, section 4.1).
    """
    if penalty == 1:
        return logits
    before = logits[seen]
    return logits.scatter(-1, seen, torch.where(before < 0, before * penalty, before / penalty))


def widen(logits: Tensor) -> Tensor:
    """At least float32: bfloat16 is too coarse to sum a tail of 150,000 probabilities."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
