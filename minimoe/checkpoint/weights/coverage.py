"""Checks that a load fills every row of every parameter, and of every packed matrix, exactly once."""

from minimoe.errors import IncompleteLoad
from minimoe.model.transformer import Transformer
from minimoe.quantisation.modules import PackedBank, PackedLinear

Row = tuple[str, int | None]  # a parameter, or one expert's row of a bank


class Ledger:
    """What is still to be filled. The list comes from the model itself, not from the plan, so a mistake in the plan is
    detected.
    """

    def __init__(self, model: Transformer):
        self.open: set[Row] = set()
        self.filled: set[Row] = set()
        for name, parameter in model.named_parameters():
            self.open |= (
                {(name, expert) for expert in range(len(parameter))} if parameter.dim() == 3 else {(name, None)}
            )
        for name, module in model.named_modules():
            if isinstance(module, PackedBank | PackedLinear):
                rows = range(len(module)) if isinstance(module, PackedBank) else (None,)
                self.open |= {(f"{name}.{suffix}", row) for suffix in module.parts for row in rows}

    def fill(self, parameter: str, expert: int | None) -> None:
        """Record that these values were written. Raises IncompleteLoad if they are unknown or were written before."""
        row = (parameter, expert)
        if row not in self.open:
            what = "was filled twice" if row in self.filled else "is not part of the model"
            raise IncompleteLoad(f"{in_words(row)} {what}. Please report this: a load should have stopped earlier.")
        self.open.remove(row)
        self.filled.add(row)

    def close(self) -> None:
        """Raises IncompleteLoad naming what was never filled."""
        if self.open:
            first = in_words(min(self.open, key=lambda row: (row[0], row[1] or 0)))
            raise IncompleteLoad(f"{first} was not filled ({len(self.open):,} such places in all). Please report this.")


def in_words(row: Row) -> str:
    """A row for a message."""
    return row[0] if row[1] is None else f"{row[0]}: expert {row[1]}"
