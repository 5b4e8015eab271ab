"""Raw numbers -> the page: tables and pictures where there are results, a plain word where not."""

import sys
from pathlib import Path

import pytest
from PIL import Image as PIL

from onevision.errors import InputError
from onevision.science.evaluation import LetterRow
from onevision.science.micro import RULES
from onevision.science.page import (
    BEGIN,
    END,
    read_records,
    replace_records,
    write_page,
    write_records,
)
from onevision.synth.worlds.lettering.signs import ASPECTS, SHARES
from tests.science.test_claims import record, row

DOCS = Path(__file__).parents[2] / "docs"
ARMS = {"single_image": (5, 1), "onevision": (4, 8), "continued": (6, 1)}


def heldout_records(seeds=range(3)):
    return [
        record(arm, seed, [row("single_image", "count", alone), row("multi_image", "most", several),
                           row("video", "order", several)])
        for seed in seeds
        for arm, (alone, several) in ARMS.items()
    ]  # fmt: skip


def letter_records():
    return [
        record(arm, seed, [
            vars(LetterRow(family=family, aspect=aspect, share=share, tokens=20.0 * number + 16,
                         asked=10, right=2 * number))
            for aspect in ASPECTS for share in SHARES for family in ("read",)
        ])
        for seed in range(3)
        for number, arm in enumerate(RULES)
    ]  # fmt: skip


def test_raw_numbers_are_read_as_they_were_written(tmp_path):
    records = heldout_records()
    write_records(records, tmp_path)
    assert read_records(tmp_path) == records


def test_a_claim_that_is_run_apart_leaves_the_others_alone():
    before = [record("onevision", 0, [], samples=1), record("base", 0, [], samples=2)]
    now = [record("base", 0, [], samples=3), record("base", 1, [], samples=4)]
    assert replace_records(before, now) == [before[0], *now]


def test_results_are_written_between_the_marks(tmp_path):
    page = tmp_path / "science.md"
    page.write_text(f"by hand, before\n{BEGIN}\nof before\n{END}\nby hand, after\n")
    write_records(heldout_records() + letter_records(), tmp_path)
    for _ in range(2):  # once or twice, the same
        write_page(tmp_path)
        text = page.read_text()
        assert text.startswith(f"by hand, before\n{BEGIN}\n")
        assert text.endswith(f"{END}\nby hand, after\n")
        assert "of before" not in text
    line = next(line for line in text.splitlines() if line.startswith("| multi image |"))
    assert line.split(" | ")[1:] == [
        *("10.0 ± 0.0", "80.0 ± 0.0", "10.0 ± 0.0", "+70.0 ± 0.0", "+70.0 ± 0.0", "holds |"),
    ]
    assert "| single image | 50.0 ± 0.0 | 40.0 ± 0.0 | 60.0 ± 0.0 |" in text
    assert "it loses |" in text
    assert "Not run yet" not in text
    for name in ("stages", "transfer", "sizes", "aspects"):
        with PIL.open(tmp_path / "science" / f"{name}.png") as picture:
            assert len(set(picture.convert("RGB").resize((64, 64)).get_flattened_data())) > 3


def test_without_matplotlib_the_page_is_written_and_its_pictures_are_not(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_records(heldout_records() + letter_records(), tmp_path)
    heard = []
    page = write_page(tmp_path, warn=heard.append)
    assert "it loses |" in page.read_text()
    assert heard == [
        f"{page} is written, its pictures are not: "
        "plots need matplotlib: pip install 'onevision[plots]'"
    ]
    assert [path.name for path in (tmp_path / "science").iterdir()] == ["trials.json"]


def test_one_seed_is_no_result(tmp_path):
    write_records(heldout_records(seeds=[0]), tmp_path)
    assert write_page(tmp_path).read_text().count("**Not run yet.**") == 3


def test_a_rehearsal_says_that_it_is_one(tmp_path):
    write_records([record("vision", 0, [], rehearsal=True)], tmp_path)
    assert "A rehearsal" in write_page(tmp_path).read_text()


def test_a_page_without_marks_is_left_alone(tmp_path):
    (tmp_path / "science.md").write_text("no marks")
    with pytest.raises(InputError, match="expected the lines"):
        write_page(tmp_path)
    assert (tmp_path / "science.md").read_text() == "no marks"


def test_the_page_in_the_docs_is_what_the_raw_numbers_say(tmp_path):
    (tmp_path / "science.md").write_text((DOCS / "science.md").read_text())
    write_records(read_records(DOCS), tmp_path)
    assert write_page(tmp_path).read_text() == (DOCS / "science.md").read_text()


def test_damaged_raw_numbers_are_named(tmp_path):
    (tmp_path / "science").mkdir()
    (tmp_path / "science" / "trials.json").write_text("[{}]")
    with pytest.raises(InputError, match="not records of trials"):
        write_page(tmp_path)
