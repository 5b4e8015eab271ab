from collections import Counter

import pytest

from onevision.conversation import Image, Video
from onevision.errors import InputError
from onevision.eval.heldout import READING, SCENARIOS, heldout_questions
from onevision.synth.kit.scene import place_name
from onevision.synth.worlds.clips import clips
from onevision.synth.worlds.sets import pairs
from onevision.synth.worlds.shapes import scenes, texts

FAMILIES = (scenes, pairs, clips, texts)


def pixels(media):
    pictures = [media.source] if isinstance(media, Image) else media.source
    return b"".join(picture.tobytes() for picture in pictures)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_makes_the_same_sample_again(family):
    for index in range(5):
        a, b = family.make("train", index), family.make("train", index)
        assert (a.caption, a.questions) == (b.caption, b.questions)
        assert [pixels(m) for m in a.media] == [pixels(m) for m in b.media]


@pytest.mark.parametrize("family", (scenes, pairs, clips))
def test_train_and_heldout_are_disjoint(family):
    made = {
        split: {b"".join(map(pixels, family.make(split, i).media)) for i in range(300)}
        for split in ("train", "heldout")
    }
    assert not made["train"] & made["heldout"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_question_has_one_answer(family):
    for index in range(200):
        sample = family.make("train", index)
        assert sample.caption
        assert sample.questions
        answers = {}
        for question in sample.questions:
            assert question.answer
            assert answers.setdefault(question.question, question.answer) == question.answer


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
        for a, b in zip(seen.media, grey.media, strict=True):
            assert len(pixels(a)) == len(pixels(b))
            assert set(pixels(b)) == {127}


def test_an_unknown_scenario_is_named():
    with pytest.raises(InputError, match="no scenario 'chart'; expected one of .*words, charts"):
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
