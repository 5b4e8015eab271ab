"""Writing in many typefaces: letters lie where the sample says, and no face is the held-out one."""

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from onevision.errors import InputError
from onevision.synth.kit import fonts
from onevision.synth.kit.fonts import LEARNED, font_of
from onevision.synth.kit.shapes import COLOURS, SHAPES
from onevision.synth.kit.text import Letters
from onevision.synth.worlds.lettering import lettered
from tests.synth.conftest import has_face

pytestmark = pytest.mark.skipif(
    not all(map(has_face, LEARNED)), reason="a typeface is missing; install onevision[synth]"
)


@pytest.mark.parametrize("anchor", ["lt", "mm", "rs"])
@pytest.mark.parametrize("face", LEARNED)
def test_the_ink_of_each_letter_is_in_its_region(face, anchor):
    letters = Letters(size=24, face=face)
    regions = letters.regions(75, 40, "fish 7", anchor=anchor)
    assert "".join(region.name for region in regions) == "fish7"
    picture = Pillow.new("L", (150, 80))
    letters.write(ImageDraw.Draw(picture), 75, 40, "fish 7", ink=255, anchor=anchor)
    inked = np.asarray(picture) > 96
    left = inked.copy()
    slack = 4  # italics lean out of their advance
    for region in regions:
        rows = slice(round(region.top) - 1, round(region.bottom) + 1)
        assert inked[rows, round(region.left) : round(region.right)].any()
        left[rows, round(region.left) - slack : round(region.right) + slack] = False
    assert not left.any()


def test_learned_faces_draw_differently_and_none_is_the_held_out_one():
    drawn = set()
    for face in (*LEARNED, "chinese"):
        mask = font_of(face, 32).getmask("beak 2")
        drawn.add((mask.size, bytes(mask)))
    assert len(drawn) == len(LEARNED) + 1
    assert "chinese" not in LEARNED
    families = {font_of(face, 32).getname()[0] for face in LEARNED}
    assert not any("Noto" in family or "Source" in family for family in families)


def test_pictures_cover_every_face_letter_and_thing():
    samples = [lettered.make("train", index) for index in range(700)]
    names = {region.name for sample in samples for region in sample.regions}
    assert set(lettered.CHARACTERS) <= names
    assert {f"{colour} {shape}" for colour in COLOURS for shape in SHAPES} <= names
    assert names <= set(lettered.COVERS)


def test_the_answer_is_what_is_written():
    for index in range(60):
        sample = lettered.make("train", index)
        written = "".join(r.name for r in sample.regions if len(r.name) == 1)
        assert [q.answer for q in sample.questions if q.family == "read"] == [written]
        assert f"Written: {written}." in sample.aspects


def test_a_missing_typeface_is_named(monkeypatch):
    monkeypatch.setattr(fonts.importlib.util, "find_spec", lambda module: None)
    font_of.cache_clear()
    with pytest.raises(InputError, match=r"face 'serif'.*pip install 'onevision\[synth\]'"):
        font_of("serif", 20)
