"""What the next `tiny` learns from: sources' terms, what is held out, whether answers are true."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageChops

RUNS = Path(__file__).parents[1] / "runs"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The scripts of runs/ import each other by their bare names."""
    monkeypatch.syspath_prepend(str(RUNS))


@pytest.fixture
def sources():
    from tiny_fetch import read_list

    return read_list()


def test_only_permissive_sources_are_learned_from(sources):
    for one in sources:
        assert one.kind == "git" or re.fullmatch("[0-9a-f]{64}", one.sha256), one.name
        if re.search(r"GPL|-SA", one.licence):
            assert one.use == "test", one.name
    assert {one.name for one in sources if one.use == "test" and one.what != "typeface"} == {
        "@iconify-json/openmoji",
        "tuxpaint-stamps-default",
    }


def test_held_out_typefaces_share_no_first_word_with_learned_ones(sources):
    """Nor are any the Latin of Noto Sans CJK, which is that of Source Sans."""
    families = {
        use: {
            one.name.partition("/")[2].split("-")[0]
            for one in sources
            if (one.what, one.use, one.kind) == ("typeface", use, "npm")
        }
        for use in ("train", "test")
    }
    held = [one for one in sources if (one.what, one.use) == ("typeface", "test")]
    assert len(held) >= 60
    assert not families["train"] & families["test"]
    assert not families["train"] & {"noto", "source", "assistant"}


def test_a_tenth_of_all_names_is_withheld_whatever_else_there_is():
    from tiny_material import Named

    names = [Named(name=f"thing {number}", kind="thing") for number in range(5000)]
    withheld = sum(one.is_withheld for one in names) / len(names)
    assert withheld == pytest.approx(0.1, abs=0.015)
    assert not any(one.is_withheld and one.is_unnamed for one in names)
    assert Named(name="Banana", kind="").is_withheld == Named(name="banana", kind="").is_withheld


def test_a_source_that_is_missing_or_another_one_is_named(tmp_path, sources):
    from tiny_fetch import fault_of

    assert "missing" in fault_of(sources[0], tmp_path)
    (tmp_path / sources[0].file).write_bytes(b"other")
    assert fault_of(sources[0], tmp_path).endswith(f"expected {sources[0].sha256}")


def test_no_training_picture_shows_what_is_withheld():
    from tiny_material import toy
    from tiny_scenes import Teller

    teller = Teller(toy(), random.Random(0))
    shown = {thing.name for thing in (*teller.things, *teller.unnamed)}
    assert shown < {thing.name for thing in toy().things}
    assert not any(thing.is_withheld for thing in (*teller.things, *teller.unnamed))
    for _ in range(40):
        _, turns = teller.several()
        asked = " ".join(f"{question} {answer}" for question, answer in turns)
        assert not any(one.name in asked for one in toy().things if one.is_withheld)


def test_counts_and_places_are_those_of_the_picture():
    """Things of the toy are of one colour, so that a picture's pixels say where they are."""
    from tiny_material import toy
    from tiny_scenes import Cut, Teller, _places, paste

    teller = Teller(toy(), random.Random(3))
    circle = next(thing for thing in teller.things if thing.name.endswith("circle"))
    other = next(thing for thing in teller.things if not thing.name.endswith("circle"))
    picture = Image.new("RGB", (200, 100))
    cuts = [
        Cut(thing=thing, drawing=thing.drawings[0], ink=None, left=left, top=4, size=90)
        for thing, left in ((circle, 5), (other, 105))
    ]
    for cut in cuts:
        paste(picture, cut, random.Random(0))
    assert picture.crop((0, 0, 100, 100)).getpixel((50, 49)) != (0, 0, 0)
    assert (f"Where is the {circle.name}?", "On the left.") in _places(cuts, 200, 100)
    assert (f"Where is the {other.name}?", "On the right.") in _places(cuts, 200, 100)
    turns = dict(teller._counts(cuts, "black"))
    assert turns["How many things are there?"] == "There are two."


def test_a_clip_moves_the_way_it_says():
    """Where the first and the last frame differ, the mover's middle went that way."""
    from tiny_material import toy
    from tiny_scenes import MOVES, Teller

    teller = Teller(toy(), random.Random(1))
    seen = set()
    for _ in range(30):
        frames, turns = teller.clip()
        told = dict(turns)
        way = next((told[one] for one in told if one.startswith("Which way")), None)
        changed = any(one in told for one in ("What appears?", "What disappears?"))
        happens = told.get("What happens in the video?", "")
        if way is None or changed or not re.search("rests?[.]$", happens):
            continue
        first, second = (
            ImageChops.difference(frame, frames[1]).getbbox() for frame in (frames[0], frames[2])
        )
        right, down = MOVES[way.lower().rstrip(".")]
        moved = (second[0] - first[0]) * right + (second[1] - first[1]) * down
        moved += (second[2] - first[2]) * right + (second[3] - first[3]) * down
        assert moved > 0
        seen.add(way)
    assert len(seen) >= 2


def test_writing_is_read_as_it_was_written_and_stands_off_its_ground():
    from tiny_material import toy
    from tiny_writing import Writer

    material = toy()
    writer = Writer(material.faces, material.words, random.Random(2))
    for _ in range(20):
        picture, turns = writer.sample()
        low, high = picture.convert("L").getextrema()
        assert high - low > 60
        assert max(picture.size) < 2000
        lines = turns[0][1].split("\n")
        if len(lines) > 1:
            assert turns[1][1] in lines
            assert turns[2][1] == f"{len(lines)}."


def test_a_face_that_cannot_be_told_apart_is_left_out():
    from tiny_material import Typeface, is_legible, toy

    assert all(is_legible(face) for face in toy().faces)
    assert not is_legible(Typeface(family="none", data=b"no font"))


def test_a_rehearsal_writes_every_set_that_the_mixtures_name(tmp_path):
    from onevision.data.mixture import open_mixture

    command = [sys.executable, RUNS / "tiny_data.py", "toy", tmp_path, "--share", "0.0001"]
    subprocess.run(command, check=True, capture_output=True)
    mixtures = sorted(tmp_path.glob("tiny_v2_*.yaml"))
    assert len(mixtures) == 5
    for path in mixtures:
        assert len(open_mixture(path)) > 0
    for name in ("withheld", "writing"):
        records = json.loads((tmp_path / "tests" / f"{name}.json").read_text())
        assert (tmp_path / "tests" / records[0]["image"]).is_file()
