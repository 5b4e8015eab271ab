"""Worlds composed of others: what pixels show is what is said, and no content is in both splits."""

import random
import re
from itertools import pairwise

import pytest

from onevision.conversation import Image, Video
from onevision.synth.families import FAMILIES
from onevision.synth.kit.shapes import COLOURS, Look
from onevision.synth.kit.splits import content_of, split_of
from onevision.synth.worlds.clips.actors import Setting, random_cast
from onevision.synth.worlds.composed import (
    edits,
    figure_pairs,
    figures,
    referred,
    split_videos,
    taps,
    video_pairs,
)
from onevision.synth.worlds.composed.tap_screens import Phone, PhoneLook, draw_phone
from tests.synth.conftest import outlines
from tests.synth.test_more_worlds import answers, share_of

COMPOSED = ("figure_pairs", "taps", "edits", "video_pairs", "split_videos", "referred")
SINGLE = ("figures", "tap_screens", "deeds", "pointed_stills", "camera_stills")
# Their held-out questions are older than the rule: training alone keeps to it.
OLDER = ("marks", "cameras", "pointed")
KINDS = {
    "figure_pairs": {"ii"}, "taps": {"iiii"}, "edits": {"iv", "iiv"}, "video_pairs": {"vv"},
    "split_videos": {"v"}, "referred": {"iv"},
}  # fmt: skip
SETTING = Setting(side=100, ground=(250, 250, 250), num_frames=8, is_wide=True, num_lanes=3)


def near(picture, colour):
    return share_of(picture, COLOURS[colour], 12)


@pytest.mark.parametrize("family", (*COMPOSED, *SINGLE))
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_what_a_sample_shows_decides_its_split(family, split):
    said = [content_of(outline.sample) for outline in outlines(family, split)]
    assert {split_of(one) for one in said} == {split}


@pytest.mark.parametrize("family", OLDER)
def test_training_never_shows_what_is_held_out(family):
    train, heldout = ([content_of(o.sample) for o in outlines(family, s)]
                      for s in ("train", "heldout"))  # fmt: skip
    assert {split_of(one) for one in train} == {"train"}
    asked = [one for one in heldout if split_of(one) == "heldout"]
    assert 0.15 * len(heldout) < len(asked) < 0.35 * len(heldout)


@pytest.mark.parametrize("family", (*COMPOSED, *SINGLE, *OLDER))
def test_no_content_is_in_both_splits(family):
    train, heldout = ({content_of(o.sample) for o in outlines(family, s)}
                      for s in ("train", "heldout"))  # fmt: skip
    assert not train & {one for one in heldout if split_of(one) == "heldout"}
    assert len(train) > 200, "contents hardly repeat"


@pytest.mark.parametrize("family", COMPOSED)
def test_media_are_those_of_the_task(family):
    letters = {Image: "i", Video: "v"}
    shown = {
        "".join(letters[type(one)] for one in FAMILIES[family]("train", index).media)
        for index in range(30)
    }
    assert shown == KINDS[family]


def test_a_cast_does_what_it_is_said_to_do():
    seen = set()
    for seed in range(60):
        looks = [Look(colour="red", shape="star"), Look(colour="blue", shape="ring")]
        for actor in random_cast(random.Random(seed), looks):
            first, last = SETTING.draw([actor], 0), SETTING.draw([actor], 1)
            halfway = SETTING.draw([actor], 0.5)
            deed = SETTING.deed(actor)
            seen.add(actor.deed)
            assert near(first, actor.look.colour) > 0.005
            if deed == "it disappears":
                assert len(last.getcolors()) == 1
            elif deed.startswith("it becomes "):
                assert near(last, deed.split()[-1]) > 0.005
                assert near(last, actor.look.colour) == 0
            elif deed == "it stays where it is" or deed.endswith("comes back"):
                assert first.tobytes() == last.tobytes()
                assert (halfway.tobytes() == first.tobytes()) == (actor.deed == "stays")
            else:
                assert first.tobytes() != last.tobytes()
                assert (halfway.tobytes() == last.tobytes()) == deed.endswith("stops halfway")
    assert len(seen) == 6


def test_figures_answer_by_hand():
    """Arrows: red star to blue ring to green cross; bars 7, 2 and 5."""
    looks = [("red", "star"), ("blue", "ring"), ("green", "cross")]
    made = figures.Figures(
        looks=tuple(Look(colour=c, shape=s) for c, s in looks),
        corners=figures.CORNERS[:3],
        values=(7, 2, 5),
        bars=(2, 0, 1),
    )
    asked = list(figure_pairs._questions(made, random.Random(0)))
    said = {(q.family, q.answer) for q in asked}
    assert said == {
        ("value_of_next", "2"), ("value_of_next", "5"), ("next_of_extreme", "blue ring"),
        ("next_of_extreme", "green cross"), ("previous_of_extreme", "red star"),
        ("sum_of_ends", "12"), ("higher_end", "red star"), ("rising", "1"), ("all_rise", "no"),
    }  # fmt: skip
    assert figures.describe_chart(made).endswith("green cross 5, red star 7 and blue ring 2.")
    chart = figures.draw_chart(made, random.Random(0))
    columns = [chart.crop((n * chart.width // 3, 0, (n + 1) * chart.width // 3, chart.height))
               for n in range(3)]  # fmt: skip
    shown = zip(columns, ("green", "red", "blue"), strict=True)
    assert all(near(column, colour) > 0.01 for column, colour in shown)


@pytest.mark.parametrize("index", range(30))
def test_every_tap_changes_the_screen_as_is_said(index):
    rng = random.Random(index)
    session = taps._random_session(rng)
    look = PhoneLook(side=100, wall=(205, 215, 228))
    for (before, after), tap in zip(pairwise(session.screens), session.taps, strict=True):
        assert draw_phone(before, look).tobytes() != draw_phone(after, look).tobytes()
        if before.page is None:
            assert after.page is not None and before.apps[after.page].name == tap
        elif tap == "back":
            assert after.page is None
        else:
            flipped = [n for n in range(3) if before.switch_on(n) != after.switch_on(n)]
            assert [before.switches[n].name for n in flipped] == [tap]


def test_a_switch_that_is_on_is_green():
    looks = [Look(colour=c, shape="star") for c in list(COLOURS)[:7] if c != "green"] * 2
    states = {(app, switch): switch == 0 for app in range(4) for switch in range(3)}
    phone = Phone(apps=tuple(looks[:4]), switches=tuple(looks[4:7]), page=1, states=states)
    look = PhoneLook(side=100, wall=(205, 215, 228))
    rows = [draw_phone(phone, look).crop((55, 28 + 24 * n, 95, 50 + 24 * n)) for n in range(3)]
    assert [share_of(row, (45, 165, 90), 5) > 0.2 for row in rows] == [True, False, False]


def test_edits_turn_the_video_into_the_picture():
    checked = 0
    for index in range(80):
        sample = edits.make("train", index)
        said, video = answers(sample), sample.media[-1].source
        instruction = said["instruction"].answer if "instruction" in said else ""
        if len(sample.media) != 2 or not instruction:
            continue
        picture, first = sample.media[0].source, video[0]
        shown = [{c for c in COLOURS if near(one, c) > 0.003} for one in (first, picture)]
        if instruction.startswith("make the "):
            colour = instruction.split()[-1]
            assert shown[1] - shown[0] == {colour} and len(shown[0] - shown[1]) == 1
        elif instruction.startswith("remove"):
            assert len(shown[0] - shown[1]) == 1 and shown[1] < shown[0]
        else:
            assert shown[1] - shown[0] == {instruction.split()[-2]}
        checked += 1
    assert checked > 20


def test_two_pictures_show_the_edit_that_is_asked_for():
    checked = 0
    for index in range(120):
        sample = edits.make("train", index)
        said = answers(sample)
        if len(sample.media) != 3 or "colours" not in said:
            continue
        was, becomes = re.match(r"from (\w+) to (\w+)$", said["colours"].answer).groups()
        before, after = (medium.source for medium in sample.media[:2])
        assert near(before, becomes) < 0.001 < near(after, becomes)  # tints differ a little
        frames = sample.media[2].source
        assert all(near(frame, was) > 0.003 and near(frame, becomes) == 0 for frame in frames)
        checked += 1
    assert checked > 10


def test_pictures_of_an_edit_mean_one_thing_of_the_video():
    """What is edited in the pictures shares a shape, and no colour, with what is in the video."""
    checked = 0
    for index in range(200):
        edit = edits._random_edit(random.Random(index))
        if edit.before is None:
            continue
        (shown,) = edit.before.having(shape=edit.target.look.shape)
        others = [actor.look for actor in edit.actors if actor is not edit.target]
        assert shown.colour not in {look.colour for look in others}
        assert shown.shape not in {look.shape for look in others}
        checked += 1
    assert checked > 40


def test_a_difference_of_two_kinds_is_not_asked_for_one():
    """A thing that turns blue in one video differs in what it does and in its colour."""
    seen = set()
    for index in range(200):
        pair = video_pairs._random_pair(random.Random(index))
        asked = {q.family for q in video_pairs._questions(pair, random.Random(0))}
        deeds = {actor.deed for actor in (pair.before, pair.after) if actor is not None}
        two = pair.kind == "deed" and bool(deeds & {"turns", "vanishes"})
        assert ("kind" in asked) != two
        seen.add((pair.kind, two))
    assert {("deed", True), ("deed", False), ("nothing", False)} <= seen


@pytest.mark.parametrize(("family", "kind", "answer"), [
    ("taps", "tap", "back"), ("taps", "all_taps", "back"), ("video_pairs", "shape", "none"),
    ("referred", "deed", referred.NOT_THERE),
])  # fmt: skip
def test_answers_that_no_part_teaches_are_named_in_the_question(family, kind, answer):
    asked = [q for one in outlines(family) for q in one.sample.questions if q.family == kind]
    assert len(asked) > 10
    assert any(answer in q.answer for q in asked)
    assert all(f'"{answer}"' in q.question for q in asked)


def test_two_videos_differ_where_it_is_said():
    kinds = set()
    for index in range(80):
        pair = video_pairs._random_pair(random.Random(index))
        one, other = (pair.setting.film(actors) for actors in (pair.first, pair.second))
        same = [a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True)]
        assert all(same) == (pair.kind == "nothing")
        assert pair.num_alike == (3 if pair.kind == "nothing" else 2)
        kinds.add(pair.kind)
        if pair.kind == "colour":
            assert near(other[0], pair.after.look.colour) > 0.005
            assert near(one[0], pair.after.look.colour) == 0
        if pair.kind == "thing":
            missing = one if pair.before is None else other
            thing = pair.before or pair.after
            assert near(missing[0], thing.look.colour) == 0
    assert kinds == set(video_pairs.KINDS)


def test_parts_of_a_video_show_what_is_said_of_them():
    for index in range(40):
        parts = split_videos._random_parts(random.Random(index))
        frames = split_videos._frames(parts)
        side = parts[0].setting.side
        for n, part in enumerate(parts):
            left, top = n % 2 * (side + split_videos.GAP), n // 2 * (side + split_videos.GAP)
            box = (left, top, left + side, top + side)
            first, last = (frame.crop(box) for frame in (frames[0], frames[-1]))
            assert near(first, part.actor.look.colour) > 0.01
            assert (len(last.getcolors()) == 1) == (part.deed == "it disappears")
            assert ("left" in part.place) == (n % 2 == 0)


def test_the_thing_in_the_picture_is_the_one_that_is_asked_about():
    absent = 0
    for index in range(80):
        sample = referred.make("train", index)
        said = answers(sample)
        colour = re.search(r"The picture shows an? (\w+)", sample.detail)[1]
        picture, video = sample.media
        assert near(picture.source, colour) > 0.02
        if "same_colour" in said and "present" in said:
            shown = near(video.source[0], colour) > 0
            others = int(said["same_colour"].answer)
            assert shown == (others > 0 or said["present"].answer == "yes")
        absent += said["deed"].answer == referred.NOT_THERE if "deed" in said else 0
        if "colour_at_end" in said:
            assert near(video.source[-1], said["colour_at_end"].answer) > 0.003
    assert absent > 3


def derive(family, asked, parts):
    """Derives the answer to a question about the parts of a video: (thing, deed) by place."""
    named = [place for place in parts if f"the {place} " in asked]
    said = asked[asked.find(": ") + 2 : -1]
    fitting = [place for place, (_, deed) in parts.items() if deed.startswith(said)]
    if family == "deed":
        return parts[named[0]][1]
    if family in ("part", "thing"):
        return " or ".join(place if family == "part" else parts[place][0] for place in fitting)
    if family == "same_thing":
        wanted = parts[named[0]][0]
        return " or ".join(p for p in parts if p != named[0] and parts[p][0] == wanted)
    if family == "movers":
        return str(sum(deed.startswith("it moves") for _, deed in parts.values()))
    if family == "left":
        return str(sum(deed != "it disappears" for _, deed in parts.values()))
    return "yes" if len({parts[place][1] for place in named}) == 1 else "no"


def test_parts_are_asked_about_by_what_the_description_says():
    """An oracle: the answer to each question, derived again from the description alone."""
    kinds, part = set(), re.compile(r"(?:: |; )([a-z ]+), an? (\w+ \w+): (.+?)(?=;|\.$)")
    for outline in outlines("split_videos"):
        told = part.findall(outline.sample.detail)
        parts = {place: (name, deed) for place, name, deed in told}
        for question in outline.sample.questions:
            kinds.add(question.family)
            assert question.answer == derive(question.family, question.question, parts)
    assert len(kinds) == 7


def test_things_are_asked_about_by_what_they_do():
    kinds = set()
    for outline in outlines("deeds"):
        told = dict(re.findall(r"an? (\w+ \w+): (.+?)(?=;|\.$)", outline.sample.detail))
        for question in outline.sample.questions:
            kinds.add(question.family)
            if question.family == "thing":
                said = re.search(r"(?:this|true): (.+)\?", question.question)[1]
                assert [n for n, deed in told.items() if deed.startswith(said)] == [question.answer]
            elif question.family == "deed":
                name = re.search(r"the (\w+ \w+)", question.question)[1]
                assert told[name] == question.answer
            elif question.family == "movers":
                assert sum(d.startswith("it moves") for d in told.values()) == int(question.answer)
    assert kinds >= {"thing", "deed", "movers", "end", "left", "direction"}


def test_differences_are_asked_about_as_they_are_described():
    kinds = set()
    for outline in outlines("video_pairs"):
        first, difference = re.match(
            r"In the first video, (.+?)\. (.+)$", outline.sample.detail
        ).groups()
        names = re.findall(r"an? (\w+ \w+):", first)
        same = difference == "The second video is the same."
        added = re.search(r"has an? (\w+ \w+) as well", difference)
        gone = re.search(r"has no (\w+ \w+)\.", difference)
        other = re.search(r"the (?:\w+ )?(\w+)(?: is|:)", difference)
        thing = (added or gone or other)[1] if not same else "none"
        for question in outline.sample.questions:
            kinds.add(question.family)
            if question.family == "shape":
                assert question.answer == thing.split()[-1]
            elif question.family == "alike":
                assert int(question.answer) == len(names) - (not same and not added)
            elif question.family == "only_in":
                assert question.answer == thing
            elif question.family == "missing":
                assert question.answer == ("first" if added else "second")
            elif question.family == "same":
                assert question.answer == ("yes" if same else "no")
    assert kinds >= {"shape", "alike", "only_in", "missing", "same", "kind", "deed", "recoloured"}
