"""Photographed pages, whose text is known."""

import random
import re

import numpy as np
import pytest

from onevision.curate.documents.page import make_page
from onevision.curate.documents.scene import solve_perspective
from onevision.curate.documents.sources import read_sources
from onevision.curate.documents.write import ask_about
from tests.curate.conftest import records, run, write_pictures

ENGLISH = "The owl sleeps by day.\nIt hunts at night, and hears a mouse under snow.\n"
CORPUS = ENGLISH + "两只猫坐在窗边看雨。\n"


def sources(tmp_path, languages):
    (tmp_path / "corpus.txt").write_text(CORPUS)
    return read_sources(languages=languages, corpus=tmp_path / "corpus.txt", fonts=None,
                        papers=None, backgrounds=None)  # fmt: skip


def test_pages_over_photographs_pass_the_check_and_continue(tmp_path):
    write_pictures(tmp_path, 3)
    (tmp_path / "corpus.txt").write_text(CORPUS)
    pictures, corpus = tmp_path / "pictures", tmp_path / "corpus.txt"
    options = ["--count", 8, "--languages", "en,zh", "--corpus", corpus,
               "--backgrounds", pictures, "--textures", pictures]  # fmt: skip
    output = tmp_path / "out"
    found = run("curate", "documents", "-o", output, *options)
    assert (found.returncode, found.stderr) == (0, "")
    made = records(output)
    pages = [(output / one["image"]).read_bytes() for one in made]
    assert len(set(pages)) == 8
    text = (output / "records.json").read_bytes()
    (output / made[2]["image"]).unlink()
    run("curate", "documents", "-o", output, *options)
    assert (output / "records.json").read_bytes() == text
    assert [(output / one["image"]).read_bytes() for one in made] == pages
    other = run("curate", "documents", "-o", output, *options, "--seed", 1)
    assert "its pages were drawn from other texts" in other.stderr
    checked = run("data", "check", output / "records.json", "--deep")
    assert "8 samples, nothing to fix" in checked.stdout, checked.stdout


def test_lines_say_what_the_corpus_says_in_its_order(tmp_path):
    words = " ".join(CORPUS.splitlines()[:2]).split()
    for number in range(8):
        page = make_page(random.Random(number), sources(tmp_path, ["en"]))
        if not page.values:
            said = " ".join(page.lines).split()
            assert " ".join(said) in " ".join(words * 40)
            assert 3 <= len(page.lines) <= 14


def test_questions_are_answered_by_lines_and_values(tmp_path):
    kinds = set()
    for number in range(30):
        rng = random.Random(number)
        page = make_page(rng, sources(tmp_path, ["en", "zh"]))
        turn = ask_about(page, rng)
        if turn.answer == "\n".join(page.lines):
            kinds.add("all")
        elif turn.answer in page.lines:
            kinds.add("line")
            asked = int(re.sub(r"\D", "", turn.question))
            assert page.lines[asked - 1] == turn.answer
        else:
            kinds.add("value")
            assert any(n in turn.question and v == turn.answer for n, v in page.values)
    assert kinds == {"all", "line", "value"}


def test_the_text_is_darker_than_the_paper(tmp_path):
    page = make_page(random.Random(1), sources(tmp_path, ["zh"]))
    pixels = np.asarray(page.picture.convert("L"))
    assert pixels.min() < 90 and np.median(pixels) > 200


def test_perspective_maps_corners_onto_the_page():
    corners = [(10, 20), (110, 25), (105, 90), (5, 80)]
    a, b, c, d, e, f, g, h = solve_perspective(corners, 100, 50)
    for (x, y), place in zip(corners, [(0, 0), (100, 0), (100, 50), (0, 50)], strict=True):
        scale = g * x + h * y + 1
        found = ((a * x + b * y + c) / scale, (d * x + e * y + f) / scale)
        assert found == pytest.approx(place, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--languages", "en,fr"), "--languages is 'en,fr'; expected some of en,zh"),
        (("--backgrounds", "empty"), "empty: no pictures in it; expected files such as .jpg"),
        (("--corpus", "none.txt"), "none.txt: the corpus cannot be read"),
        (("--corpus", "en.txt", "--languages", "zh"), "en.txt: no line of it is zh"),
        (("--backgrounds", "broken"), "b.png: not an image"),
    ],
)
def test_sources_that_cannot_be_used(tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "b.png").write_bytes(b"no")
    (tmp_path / "en.txt").write_text("Only English.\n")
    found = run("curate", "documents", "-o", "out", "--count", 1, *options)
    assert found.returncode == 1 and said in found.stderr and found.stderr.count("\n") == 1


def test_fonts_of_a_folder(tmp_path):
    (tmp_path / "fonts").mkdir()
    (tmp_path / "fonts" / "bad.ttf").write_bytes(b"no font")
    (tmp_path / "corpus.txt").write_text(ENGLISH * 20)
    found = run("curate", "documents", "-o", tmp_path / "out", "--count", 1,
                "--fonts", tmp_path / "fonts", "--corpus", tmp_path / "corpus.txt")  # fmt: skip
    assert "bad.ttf: not a font" in found.stderr and found.stderr.count("\n") == 1
