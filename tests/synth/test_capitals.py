"""Capitals and glimpses of them: the letter stands where the sample says."""

import numpy as np
import pytest

from onevision.synth.sample import Region, rng_for
from onevision.synth.worlds.lettering import capitals, glimpses
from onevision.synth.worlds.lettering.signs import ASPECTS, SHARES, SIDE


def ink(picture):
    """Return rows and columns of dark pixels."""
    return np.nonzero(np.asarray(picture.convert("L")) < 128)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("aspect", ASPECTS)
def test_the_ink_is_in_the_box_and_fills_it(aspect, share):
    for index in range(5):
        sheet = capitals.random_capital(rng_for("train", "test", index), aspect=aspect, share=share)
        box, (rows, columns) = sheet.box, ink(sheet.picture)
        for least, most, low, high in (
            (columns.min(), columns.max(), box.left, box.right),
            (rows.min(), rows.max(), box.top, box.bottom),
        ):
            assert low - 2 <= least <= low + 0.25 * share * SIDE
            assert high - 0.25 * share * SIDE - 2 <= most <= high + 2
        width, height = sheet.picture.size
        assert max(width, height) / min(width, height) == pytest.approx(aspect, rel=0.02)
        assert width * height == pytest.approx(SIDE**2, rel=0.01)


def test_the_question_asks_for_the_letter():
    sample = capitals.make("train", 0)
    (region,), (question,) = sample.regions, sample.questions
    assert (question.answer, sample.caption) == (region.name, f"The letter {region.name}.")


def test_every_letter_size_and_aspect_is_drawn():
    samples = [capitals.make("train", index) for index in range(400)]
    letters = [sample.regions[0].name for sample in samples]
    assert set(letters) == set(capitals.CAPITALS)
    assert max(letters.count(c) for c in capitals.CAPITALS) < 100


def test_a_glimpse_shows_the_middle_of_its_letter():
    heights = []
    for index in range(300):
        sample = glimpses.make("train", index)
        (region,), picture = sample.regions, sample.media[0].source
        assert 0 < (region.left + region.right) / 2 < picture.width
        assert 0 < (region.top + region.bottom) / 2 < picture.height
        assert len(ink(picture)[0])
        heights.append(56 * (region.bottom - region.top) / picture.height)
    # A crop of 56 pixels shows letters from a few pixels high to most of it.
    assert min(heights) < 4
    assert max(heights) > 28


def test_a_region_moves_with_its_picture():
    region = Region(name="K", left=3, top=4, right=5, bottom=6)
    assert region.shift(-3, 1) == Region(name="K", left=0, top=5, right=2, bottom=7)
