from collections import Counter

import pytest

from onevision.conversation import Video
from onevision.errors import InputError
from onevision.eval.heldout import READING, SCENARIOS, heldout_questions
from onevision.synth.kit.scene import place_name
from onevision.synth.worlds.clips import clips
from onevision.synth.worlds.shapes import scenes
from tests.synth.conftest import pictures, pixels


@pytest.mark.parametrize("scenario", [*SCENARIOS, *READING])
def test_at_most_a_quarter_of_heldout_answers_are_yes_or_no(scenario):
    mix = Counter(item.question.answer for item in heldout_questions(scenario))
    assert sum(mix.values()) == 600
    assert mix["yes"] + mix["no"] <= 0.25 * 600
    assert mix.most_common(1)[0][1] <= 0.15 * 600


def test_blind_media_are_grey_and_of_the_same_size():
    for scenario in (*SCENARIOS, *READING):
        seen, grey = (next(heldout_questions(scenario, count=1, blind=b)) for b in (False, True))
        assert seen.question == grey.question
        assert [p.size for p in pictures(seen)] == [p.size for p in pictures(grey)]
        assert set(pixels(grey)) == {127}


def test_an_unknown_scenario_is_named():
    with pytest.raises(InputError, match="no scenario 'chart'; did you mean 'charts'"):
        next(heldout_questions("chart"))


def test_colours_are_where_the_caption_says():
    """A lone thing's tint is found at its centre, for every sample that has a simple one."""
    checked = 0
    for index in range(200):
        sample = scenes.make("train", index)
        image = sample.media[0].source
        for question in sample.questions:
            if question.family == "where" and image.size == (98, 98):
                cells = {place_name(c, r): (c, r) for r in range(3) for c in range(3)}
                col, row = cells[question.answer]
                cell = image.crop((col * 33, row * 33, col * 33 + 32, row * 33 + 32))
                assert len(cell.getcolors(2000)) > 1  # not bare ground
                checked += 1
    assert checked > 50


def test_clips_have_frames_of_one_size():
    for index in range(20):
        (video,) = clips.make("train", index).media
        assert isinstance(video, Video)
        assert {frame.size for frame in video.source} == {(98, 98)}
        assert 6 <= len(video.source) <= 16
