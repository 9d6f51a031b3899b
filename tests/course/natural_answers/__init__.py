"""Natural answers to the exercises: what readers are likely to write, collected before the mutants were read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Wrong:
    """A wrong answer; about: words, any of which a fitting explanation contains (lower case)."""

    answer: Any
    about: tuple[str, ...] = ()


@dataclass(frozen=True)
class Natural:
    """Wrong and right answers to one exercise, by a short description."""

    wrong: Mapping[str, Wrong] = field(default_factory=dict)
    right: Mapping[str, Any] = field(default_factory=dict)
