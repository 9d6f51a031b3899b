"""show_code shows what runs."""

import inspect

import pytest

import minimoe
from minimoe.errors import BadArgument
from minimoe.model.router import Router, route


def test_it_is_the_librarys_own_source():
    source = minimoe.show_code(route)
    assert source.text == inspect.getsource(route).rstrip()
    assert source.file == "minimoe/model/router.py"
    assert repr(source).startswith(f"# minimoe/model/router.py, line {source.line}\ndef route(")
    html = minimoe.show_code(Router)._repr_html_()
    assert "minimoe/model/router.py" in html and "<span style" in html and "<style" not in html


def test_something_without_source_is_named():
    with pytest.raises(BadArgument, match="built-in function len"):
        minimoe.show_code(len)
