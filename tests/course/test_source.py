"""show_code shows what runs."""

import inspect
import re

import model_page
import pytest

import minimoe
from minimoe.course.source import OnAnyGround
from minimoe.errors import BadArgument
from minimoe.figure_style import luminance
from minimoe.model.experts import grouped
from minimoe.model.router import Router, route
from tests.house.repository import ROOT


def test_show_code_returns_the_librarys_source():
    source = minimoe.show_code(route)
    assert source.text == inspect.getsource(route).rstrip()
    assert source.file == "minimoe/model/router.py"
    assert repr(source).startswith(f"# minimoe/model/router.py, line {source.line}\ndef route(")
    html = minimoe.show_code(Router)._repr_html_()
    assert "minimoe/model/router.py" in html and "<span style" in html and "<style" not in html


def test_a_decorated_function_is_shown_with_its_own_file_and_line():
    source = minimoe.show_code(grouped)
    assert source.file == "minimoe/model/experts.py"
    lines = (ROOT / source.file).read_text(encoding="utf-8").splitlines()
    assert lines[source.line - 1 : source.line + 1] == source.text.splitlines()[:2]


def test_object_without_source_is_rejected():
    with pytest.raises(BadArgument, match="built-in function len"):
        minimoe.show_code(len)


def test_the_whole_model_on_one_page():
    source = minimoe.show_code(minimoe.model)
    names = ("rms_norm", "apply_rope", "attend", "route", "run_experts", "DecoderLayer", "Transformer")
    places = [re.search(rf"^(def|class) {name}\b", source.text, re.MULTILINE).start() for name in names]
    assert places == sorted(places)
    assert "\nimport " not in source.text and "\nfrom " not in source.text
    compile(source.text, "page", "exec")


def test_the_page_in_the_repository_is_the_generated_one():
    assert model_page.PAGE.read_text(encoding="utf-8") == model_page.page(), "run python scripts/model_page.py"


@pytest.mark.parametrize("page", ["#ffffff", "#111111"], ids=["light", "dark"])
def test_every_colour_is_legible_on_light_and_dark_pages(page):
    colours = [f"#{style['color']}" for _, style in OnAnyGround if style["color"]]
    assert len(set(colours)) >= 5
    for colour in colours:
        dark, light = sorted(luminance(ground) + 0.05 for ground in (colour, page))
        assert light / dark >= 3.9, colour  # relative luminance and contrast as in WCAG 2.2
