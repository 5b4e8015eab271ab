"""Corruptions and items of probes, each by a check that can be made by hand."""

import random
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image as PIL

from onevision.conversation import Video
from onevision.eval.scoring.text import edit_distance
from onevision.science.probes import corruptions, wording
from onevision.science.probes.item import Level
from onevision.science.probes.registry import PROBES
from onevision.science.probes.thumbnails import pillow_images
from onevision.science.probes.wording import misspell, phrases
from onevision.synth.kit.scene import CELLS, GROUNDS, draw_scene, place_name, random_scene
from onevision.synth.kit.shapes import COLOURS, SHAPES

CORRUPTED = [name for name, probe in PROBES.items() if probe.corrupt is not None]
# Those whose distance from the original says how severe they are.
GROWING = ("contrast", "jpeg", "noise", "blur", "occlusion", "distractors")
RANDOM = ("noise", "rotation", "occlusion", "distractors")


@pytest.fixture(scope="module")
def picture():
    scene = random_scene(random.Random(3), num_things=5, with_writing=True)
    return draw_scene(scene, width=120, height=100)


def corrupt(name, picture, severity, *, seed=0):
    return PROBES[name].corrupt(picture, severity, random.Random(seed))


def distance(one, other):
    return np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean()


def colours(picture):
    return {colour for _, colour in picture.getcolors()}


def pictures(item):
    return [one for medium in item.conversation.media for one in pillow_images(medium)]


def level_of(name, label):
    return next(level for level in PROBES[name].levels if level.label == label)


@pytest.mark.parametrize("name", CORRUPTED)
def test_severity_zero_changes_nothing(name, picture):
    assert corrupt(name, picture, 0).tobytes() == picture.tobytes()


@pytest.mark.parametrize("name", CORRUPTED)
def test_the_same_random_numbers_give_the_same_pixels(name, picture):
    severity = PROBES[name].levels[-2].value
    before = picture.tobytes()
    first, again = (corrupt(name, picture, severity) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert picture.tobytes() == before, "the original is left alone"


@pytest.mark.parametrize("name", RANDOM)
def test_other_random_numbers_give_other_pixels(name, picture):
    severity = PROBES[name].levels[2].value
    found = {corrupt(name, picture, severity, seed=seed).tobytes() for seed in range(5)}
    assert len(found) > 1


@pytest.mark.parametrize("name", GROWING)
def test_every_level_is_farther_from_the_original(name, picture):
    found = [distance(corrupt(name, picture, lv.value), picture) for lv in PROBES[name].levels]
    assert found[0] == 0
    assert all(before < after for before, after in pairwise(found)), found


def test_noise_has_the_deviation_that_is_asked_for():
    grey = PIL.new("RGB", (200, 200), (128, 128, 128))
    noisy = np.asarray(corrupt("noise", grey, 16), dtype=float)
    assert noisy.std() == pytest.approx(16, rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.3)


def test_no_contrast_is_the_mean_grey():
    halves = PIL.new("RGB", (10, 10), "black")
    halves.paste((200, 200, 200), (0, 0, 5, 10))
    assert colours(corrupt("contrast", halves, 100)) == {(100, 100, 100)}
    assert colours(corrupt("contrast", halves, 50)) == {(50, 50, 50), (150, 150, 150)}


def test_occlusion_covers_its_share_and_keeps_its_cells():
    black = PIL.new("RGB", (80, 80), "black")
    covers = [np.asarray(corrupt("occlusion", black, share))[..., 0] > 0 for share in (25, 50, 100)]
    assert [cover.mean() for cover in covers] == [0.25, 0.5, 1]
    assert (covers[0] <= covers[1]).all()


def test_blur_spreads_an_edge():
    edge = PIL.new("L", (100, 100)).convert("RGB")
    edge.paste((255, 255, 255), (50, 0, 100, 100))
    widths = []
    for severity in (0, 1, 4):
        row = np.asarray(corrupt("blur", edge, severity))[50, :, 0]
        widths.append(int(((row > 5) & (row < 250)).sum()))
    assert widths[0] == 0
    assert widths[1] < widths[2]


def test_rotation_turns_and_keeps_all_of_the_picture():
    plain = PIL.new("RGB", (60, 60), (0, 0, 200))
    plain.paste((200, 0, 0), (20, 2, 30, 8))
    assert corrupt("rotation", plain, 180).tobytes() == plain.rotate(180).tobytes()
    turned = {seed: corrupt("rotation", plain, 90, seed=seed).tobytes() for seed in range(8)}
    assert set(turned.values()) == {plain.rotate(90).tobytes(), plain.rotate(-90).tobytes()}
    half = corrupt("rotation", plain, 45)
    assert half.width == pytest.approx(60 * 2**0.5, abs=3)
    reds = [(np.asarray(one)[..., 0] > 100).sum() for one in (plain, half)]
    assert reds[1] == pytest.approx(reds[0], rel=0.2)
    assert half.getpixel((0, 0)) == (0, 0, 200), "what is added has the corners' colour"


def test_words_are_added_to_words():
    white = PIL.new("RGB", (200, 200), "white")
    one, four = (np.asarray(corrupt("distractors", white, count)) for count in (1, 4))
    first = (one != 255).any(-1)
    assert 0 < first.sum() < ((four != 255).any(-1)).sum()


def test_files_are_resized_and_padded():
    photo = PIL.new("RGB", (300, 200), (10, 200, 30))
    photo.paste((255, 0, 0), (140, 90, 160, 110))
    assert corrupt("resolution", photo, 56).size == (56, 37)
    assert corrupt("resolution", photo, 1200).size == (1200, 800)
    sizes = {corrupt("aspect", photo, 4, seed=seed).size for seed in range(8)}
    assert sizes == {(800, 200), (300, 1200)}
    assert corrupt("aspect", photo, 1, seed=1).size in {(300, 200), (300, 300)}
    assert colours(corrupt("aspect", photo, 4)) == {(10, 200, 30), (255, 0, 0)}
    assert corruptions.corner_colour(photo) == (10, 200, 30)


@pytest.mark.parametrize(("name", "level", "sizes"), [
    ("resolution", "56", {(56, 56)}),
    ("resolution", "4,096", {(4096, 4096)}),
    ("aspect", "20", {(98, 1960), (1960, 98)}),
])  # fmt: skip
def test_pictures_have_the_size_of_their_level(name, level, sizes):
    items = [PROBES[name].make(level_of(name, level), 0, index) for index in range(4)]
    assert {one.size for item in items for one in pictures(item)} == sizes


@pytest.mark.parametrize("name", [name for name in PROBES if name not in ("absent", "frames")])
def test_an_index_asks_for_the_same_at_every_level(name):
    probe = PROBES[name]
    levels = [one for one in probe.levels if one.label != "1" and one.value < 500]
    families = [{probe.make(one, 0, index).family for one in levels} for index in range(3)]
    assert [len(found) for found in families] == [1, 1, 1]


def test_another_seed_asks_other_things():
    level = PROBES["noise"].levels[0]
    first, again, other = (
        [PROBES["noise"].make(level, seed, index).question for index in range(5)]
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_sets_grow_and_name_the_right_picture():
    for count in ("2", "16"):
        for index in range(8):
            item = PROBES["images"].make(level_of("images", count), 0, index)
            assert len(item.conversation.media) == int(count)
    sixteenth = [
        PROBES["images"].make(level_of("images", "16"), 0, index).question for index in range(60)
    ]
    assert any("sixteenth" in question for question in sixteenth)


def test_order_shuffles_the_same_four_pictures():
    items = [PROBES["order"].make(level, 0, 1) for level in PROBES["order"].levels]
    shown = [[one.tobytes() for one in pictures(item)] for item in items]
    assert len({frozenset(some) for some in shown}) == 1
    moved = set(shown[0])
    (asked,) = [one for one in moved if [s.index(one) for s in shown] == [0, 1, 2, 3]]
    assert shown[2][2] == asked


def test_clips_have_the_frames_of_their_level():
    for level in PROBES["frames"].levels[:4]:
        (video,) = PROBES["frames"].make(level, 0, 0).conversation.media
        assert isinstance(video, Video)
        assert len(video.source) == level.value


def test_letters_grow():
    inks = []
    for level in PROBES["text"].levels:
        (shown,) = pictures(PROBES["text"].make(level, 0, 5))
        pixels = np.asarray(shown, dtype=int)
        ground = pixels[0, 0]
        grey = (np.ptp(pixels, axis=-1) < 8) & (np.abs(pixels - ground).max(-1) > 100)
        inks.append(int(grey.sum()))
    assert inks == sorted(inks)
    assert inks[0] < inks[-1] / 10


def test_typing_errors_are_as_many_as_asked_for_and_keep_the_earlier_ones():
    text = "What colour is the star?"
    assert misspell(text, 0, random.Random(1)) == text
    for count in (1, 3, 8):
        for seed in range(10):
            assert edit_distance(misspell(text, count, random.Random(seed)), text) <= 2 * count
    one_rng, three = random.Random(4), misspell(text, 3, random.Random(4))
    assert misspell(misspell(text, 1, one_rng), 2, one_rng) == three
    assert misspell("12?", 5, random.Random(0)) == "12?"


def test_every_wording_and_language_can_be_filled_in():
    known = phrases()
    for templates in known.wordings.values():
        assert set(templates) == set(wording.FAMILIES)
    for language, templates in known.languages.items():
        assert set(templates) == set(wording.TRANSLATED), language
        for word in (*COLOURS, *SHAPES, *GROUNDS, "large", "small", "yes", "no"):
            assert known.words[word][language], word
        for cell in CELLS:
            assert known.words[place_name(*cell)][language]
    labels = {level.label for level in PROBES["language"].levels} - {"English"}
    assert labels == set(known.languages)


def test_an_answer_is_right_in_english_and_in_the_language_of_the_question():
    for index in range(20):
        item = PROBES["language"].make(level_of("language", "German"), 0, index)
        said = phrases().translate(item.expected, "German")
        assert item.score(item.expected) == item.score(f"{said}.") == 1
        assert item.score("vielleicht") == 0


def test_what_is_not_there_is_denied():
    for level in PROBES["absent"].levels:
        for index in range(10):
            item = PROBES["absent"].make(level, 0, index)
            if level.label == "asked as if there":
                assert item.expected.startswith("there is no ")
                assert item.score("I see none") == 1
                assert item.score("red") == 0
            else:
                assert item.expected == ("yes" if level.label == "there" else "no")


def test_levels_of_files_begin_with_the_picture_as_it_is():
    noise, resolution = PROBES["noise"].file_levels, PROBES["resolution"].file_levels
    assert noise[0] == resolution[0] == Level(label="as is", value=0, trained=True)
    assert [level.value for level in noise[1:]] == [8, 16, 32, 64, 128]
    assert len(resolution) == 1 + len(PROBES["resolution"].levels)
