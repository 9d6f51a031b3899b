"""While the weights are read: files that change, disks that stop, every row once, and no more memory than promised."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import minimoe.checkpoint.weights.tensor_reader as fill_module
from minimoe.checkpoint import load as read
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.weights.coverage import Ledger
from minimoe.errors import (
    IncompleteLoad,
    ReadFailed,
)
from tests.checkpoint.fake import TINY, random_model, refused, save_tiny, weights


def test_a_file_cut_while_it_is_read(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = sorted(tiny.glob("*.safetensors"))[-1]
    plain = read.fill
    monkeypatch.setattr(read, "fill", lambda *args: (os.truncate(last, last.stat().st_size - 1), plain(*args)))
    assert f"{last} was changed while the checkpoint was being loaded" in refused(tiny, ReadFailed)


def test_a_file_replaced_while_it_is_read(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = sorted(tiny.glob("*.safetensors"))[-1]
    (tiny / "copy").write_bytes(last.read_bytes())
    plain = read.fill
    monkeypatch.setattr(read, "fill", lambda *args: (os.replace(tiny / "copy", last), plain(*args)))
    assert "was changed while the checkpoint was being loaded" in refused(tiny, ReadFailed)


def test_short_reads_are_continued_and_an_early_end_is_an_error(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, plain = weights(load_model(tiny)), os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, parts, offset: plain(fd, [parts[0][:7]], offset))
    assert weights(load_model(tiny)) == expected
    monkeypatch.setattr(os, "preadv", lambda fd, parts, offset: 0 if offset > 5000 else plain(fd, parts, offset))
    assert "ends at" in refused(tiny, ReadFailed)


def test_the_ledger_takes_every_row_once() -> None:
    ledger = Ledger(random_model(TINY))
    with pytest.raises(IncompleteLoad, match=r"layers\.9\.mlp is not part of the model"):
        ledger.fill("layers.9.mlp", None)
    rows = sorted(ledger.open, key=str)
    for row in rows:
        if row != ("layers.2.mlp.experts.up_proj", 5):
            ledger.fill(*row)
    with pytest.raises(IncompleteLoad, match=r"layers\.2\.mlp\.experts\.up_proj: expert 5 was not filled \(1 such"):
        ledger.close()
    with pytest.raises(IncompleteLoad, match=r"expert 4 was filled twice"):
        ledger.fill("layers.2.mlp.experts.up_proj", 4)
    ledger.fill("layers.2.mlp.experts.up_proj", 5)
    ledger.close()


def test_memory_is_the_parameters_and_one_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not measured: what torch.empty hands out while loading."""
    model = save_tiny(tmp_path)
    handed_out, plain = [], torch.empty

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        made = plain(*args, **kwargs)
        if made.device.type == "cpu":
            handed_out.append(made.nbytes)
        return made

    monkeypatch.setattr(torch, "empty", counted)
    load_model(tmp_path)
    assert sum(handed_out) == sum(parameter.nbytes for parameter in model.parameters())
    handed_out.clear()
    load_model(tmp_path, dtype="fp32")
    assert sum(handed_out) == 2 * sum(parameter.nbytes for parameter in model.parameters()) + fill_module.STAGING_BYTES
