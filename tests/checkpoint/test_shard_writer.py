"""ShardWriter: tensors in any order and in parts yield the files that save writes."""

import random
from pathlib import Path

from minimoe.checkpoint.layout import expected_tensors
from minimoe.checkpoint.save import save, values_of
from minimoe.checkpoint.shard_writer import ShardWriter, split
from minimoe.dtypes import CODES
from minimoe.quantisation.modules import stored_tensors
from tests.checkpoint.fake import SHARD_BYTES, TINY, random_model


def test_any_order_of_parts_gives_the_same_files(tmp_path: Path) -> None:
    model = random_model()
    save(model, None, tmp_path / "saved", max_shard_bytes=SHARD_BYTES)
    (tmp_path / "saved" / "config.json").unlink()
    parameters = stored_tensors(model)
    parts = []
    for tensor in expected_tensors(TINY):
        values = values_of(tensor, parameters).view(-1)
        half = len(values) // 2
        parts += [(tensor.name, values[:half], 0), (tensor.name, values[half:], half)]
    random.Random(0).shuffle(parts)
    (tmp_path / "written").mkdir()
    groups = split(expected_tensors(TINY), model.dtype.itemsize, SHARD_BYTES)
    assert len(groups) > 2
    with ShardWriter(tmp_path / "written", groups, CODES[str(model.dtype).removeprefix("torch.")]) as writer:
        for name, values, first in parts:
            writer.write(name, values, first)
    saved = {file.name: file.read_bytes() for file in (tmp_path / "saved").iterdir()}
    assert {file.name: file.read_bytes() for file in (tmp_path / "written").iterdir()} == saved
