"""Figures as SVG and PNG: always the same, with hints, in colours that pages can change."""

import io
import sys
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from onevision import plots
from onevision.errors import InputError

SIZE = {"width": 200, "height": 100}


def plot(figure):
    plots.add_heading(figure, "A title", "and more")
    axes = figure.subplots()
    (line,) = axes.plot([1, 2], [3.14159, 4], "o", color=plots.colour("s1"))
    plots.add_hint(line, 'a < "b"')


def test_an_svg_is_the_same_each_time_and_well_formed():
    one, other = (plots.svg(plot, **SIZE, label="<it>") for _ in range(2))
    assert one == other
    root = ET.fromstring(one.replace("xlink:href", "href"))
    assert root.attrib == {
        "class": "plot", "role": "img", "aria-label": "<it>", "viewBox": "0 0 200 100",
    }  # fmt: skip
    assert "A title" in [element.text for element in root.iter("text")]


def test_marks_have_hints_and_colours_are_those_of_the_page():
    text = plots.svg(plot, **SIZE, label="it")
    root = ET.fromstring(text.replace("xlink:href", "href"))
    assert [element.text for element in root.iter("title")] == ['a < "b"']
    assert "var(--s1)" in text
    assert "#" + "d55e00" not in text
    assert "--s1: #d55e00" in plots.style_sheet()


def test_a_png_has_two_pixels_per_point_and_the_same_bytes_each_time():
    one, other = (plots.png(plot, **SIZE) for _ in range(2))
    assert one == other
    with Image.open(io.BytesIO(one)) as picture:
        assert picture.size == (400, 200)
        assert "Software" not in picture.info


def test_settings_of_other_figures_stay_as_they_were():
    from matplotlib import rcParams

    before = dict(rcParams)
    plots.png(plot, **SIZE)
    assert dict(rcParams) == before


def test_without_matplotlib_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not plots.is_installed()
    with pytest.raises(
        InputError, match=r"plots need matplotlib: pip install 'onevision\[plots\]'"
    ):
        plots.svg(plot, **SIZE, label="it")
