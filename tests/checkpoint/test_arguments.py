"""Arguments of the wrong type raise an error that names them, before anything is read or written."""

from pathlib import Path

import pytest

import minimoe
from minimoe.errors import BadArgument
from tests.model.test_properties import make


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: minimoe.load(None), "path is None, expected the name of a folder"),
        (lambda: minimoe.load(" "), "path is ' ', expected the name of a folder"),
        (lambda: minimoe.save(make(), None, ""), "directory is '', expected the name of a folder"),
        (lambda: minimoe.save(make(), None, 5), "directory is 5, expected"),
        (lambda: minimoe.save(None, None, "somewhere"), "model is NoneType, expected a minimoe.Transformer"),
        (lambda: minimoe.save(make(), "x", "somewhere"), "tokenizer is str, expected a minimoe.Tokenizer or None"),
        (lambda: minimoe.record_routing(None).__enter__(), "model is NoneType, expected a minimoe.Transformer"),
    ],
)
def test_arguments_of_the_wrong_type(call, sentence, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadArgument, match=sentence):
        call()
    assert list(tmp_path.iterdir()) == []
