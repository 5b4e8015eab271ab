import json
from pathlib import Path

from PIL import Image as PIL

from onevision.synth.families import FAMILIES
from tests.cli.conftest import run

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def test_list_names_every_family_as_the_docs_do():
    done = run("synth", "list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(FAMILIES)
    shown = DOCS.read_text().split("$ onevision synth list")[1].split("\n$ ")[0]
    assert shown.partition("\n")[2] == done.stdout.rstrip("\n")


def test_preview_draws_a_sheet(tmp_path):
    done = run("synth", "preview", "--family", "charts", "--count", 2, "-o", tmp_path / "a.png")
    assert (done.returncode, done.stdout) == (0, f"wrote {tmp_path}/a.png\n")
    with PIL.open(tmp_path / "a.png") as sheet:
        assert sheet.width > 1000


def test_write_makes_a_set(tmp_path):
    done = run("synth", "write", tmp_path, "--family", "tables", "--count", 3, "--seed", 7)
    assert done.stdout == f"wrote 3 samples: {tmp_path}/tables.json\n"
    records = json.loads((tmp_path / "tables.json").read_text())
    assert len(records) == 3
    assert all((tmp_path / record["image"][0]).is_file() for record in records)


def test_write_with_captions_says_what_is_known_of_each_picture(tmp_path):
    done = run("synth", "write", tmp_path, "--family", "scenes", "--count", 30, "--captions")
    assert done.returncode == 0 and done.stdout == (
        f"wrote 30 samples: {tmp_path}/scenes.json\ncaptions: {tmp_path}/captions.jsonl\n"
    )
    told = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    records = json.loads((tmp_path / "scenes.json").read_text())
    assert [[one["image"]] for one in told] == [one["image"] for one in records]
    pictures = [tmp_path / one["image"] for one in told]
    assert len({picture.read_bytes() for picture in pictures}) == 30
    for one in told:
        caption, *aspects = one["captions"]
        assert caption.count(" at the ") >= 3  # its things, and a word that is written
        assert aspects[0].startswith("Shapes: ") and len(aspects) >= 3
    again = run("synth", "write", tmp_path, "--family", "things", "--count", 3, "--captions")
    assert again.returncode == 1 and "captions.jsonl: it is there already" in again.stderr
    done = run("synth", "write", tmp_path, "--family", "scenes", "--count", 3, "--captions",
               "--overwrite")  # fmt: skip
    assert done.returncode == 0 and (tmp_path / "captions.jsonl").read_text().count("\n") == 3


def test_captions_are_of_a_single_picture(tmp_path):
    for family in ("clips", "pairs", "texts"):
        done = run("synth", "write", tmp_path / "x", "--family", family, "--captions")
        assert done.returncode == 1 and not (tmp_path / "x").exists()
        assert f"families of one picture a sample, which {family} is not" in done.stderr


def test_an_unknown_family_is_one_line(tmp_path):
    done = run("synth", "write", tmp_path / "x", "--family", "dragons")
    assert done.returncode == 1
    assert "no family 'dragons'; there are " in done.stderr
    assert not (tmp_path / "x").exists()
