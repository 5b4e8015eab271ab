"""From procedural captions to each command that reads them; and outputs that belong to others."""

import json
import shutil

import pytest

from tests.curate.conftest import lines, records, run


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder as the page of curation begins with."""
    monkeypatch.chdir(tmp_path)
    done = run("synth", "write", ".", "--family", "scenes", "--count", 8, "--captions")
    assert done.returncode == 0, done.stderr
    return tmp_path


def instruct(writer, output, *more):
    return run("curate", "instruct", "captions.jsonl", "-o", output, "--writer", writer.url, *more)


def test_procedural_captions_become_instructions_that_check_passes(world, writer):
    found = instruct(writer, "data")
    assert (found.returncode, found.stderr) == (0, "")
    assert "24 records: data/mixture.yaml" in found.stdout
    known = {line["image"]: line["captions"] for line in lines(world / "captions.jsonl")}
    for record in records(world / "data"):
        assert known[record["image"]][0] in record["conversations"][1]["value"]
    checked = run("data", "check", "data/mixture.yaml", "--deep")
    assert checked.returncode == 0 and "24 samples, nothing to fix" in checked.stdout


def test_procedural_captions_are_balanced(world):
    found = run("curate", "balance", "captions.jsonl", "-o", "kept.jsonl", "--min-count", 1)
    assert found.returncode == 0 and "8 of 8 captions kept: kept.jsonl" in found.stdout
    known = [line["captions"][0] for line in lines(world / "captions.jsonl")]
    kept = [line["conversations"][1]["value"] for line in lines(world / "kept.jsonl")]
    assert kept == known
    checked = run("data", "check", "kept.jsonl", "--deep")
    assert checked.returncode == 0 and "8 samples, nothing to fix" in checked.stdout


def test_a_job_replaces_nothing_that_another_command_made(world, writer):
    assert instruct(writer, "data").returncode == 0
    assert run("curate", "gate", "data", "-o", "kept", "--gate", "length=1-400").returncode == 0
    assert run("curate", "documents", "-o", "pages", "--count", 1).returncode == 0
    (world / "mine").mkdir()
    shutil.copy("scenes.json", "mine/records.json")
    held = {place: (world / place / "records.json").read_bytes()
            for place in ("data", "kept", "pages", "mine")}  # fmt: skip
    owners = {"data": "instruct", "kept": "gate", "pages": "documents", "mine": "another command"}
    commands = {
        "instruct": ("instruct", "captions.jsonl", "--writer", writer.url),
        "recaption": ("recaption", "scenes", "--captioner", writer.url),
        "gate": ("gate", "scenes.json", "--gate", "length=1-400"),
        "documents": ("documents", "--count", 1),
    }
    for place, owner in owners.items():
        for name, command in commands.items():
            if name != owner:
                found = run("curate", *command, "-o", place)
                assert found.returncode == 1 and found.stderr == (
                    f"error: {place}: it holds the records of {owner}, which those of {name} would "
                    "replace; give another --output\n"
                )
        assert (world / place / "records.json").read_bytes() == held[place]


def test_a_folder_that_a_job_made_is_read_as_its_mixture(world, writer):
    assert instruct(writer, "data", "--kinds", "detail").returncode == 0
    found = run("curate", "gate", "data", "-o", "kept", "--gate", "length=1-400")
    assert (found.returncode, found.stdout) == (0, "8 of 8 records kept: kept/mixture.yaml\n")
    checked = run("data", "check", "kept")
    assert checked.returncode == 0 and "8 samples, nothing to fix" in checked.stdout


def test_a_job_of_another_input_continues_in_its_own_output(world, writer):
    assert instruct(writer, "data", "--kinds", "detail").returncode == 0
    assert instruct(writer, "data", "--kinds", "detail,reasoning").returncode == 0
    assert len(records(world / "data")) == len(writer.requests) == 16


def test_nothing_replaces_its_own_input(world):
    before = (world / "captions.jsonl").read_bytes()
    found = run("curate", "balance", "captions.jsonl", "-o", "captions.jsonl")
    assert found.returncode == 1 and "--output is the input; give another" in found.stderr
    assert (world / "captions.jsonl").read_bytes() == before
    assert run("curate", "gate", "scenes.json", "-o", "kept", "--gate",
               "length=1-400").returncode == 0  # fmt: skip
    for data in ("kept", "kept/records.json", "kept/mixture.yaml"):
        found = run("curate", "gate", data, "-o", "kept", "--gate", "length=100-400")
        assert found.returncode == 1 and "it lies in --output" in found.stderr
    assert len(records(world / "kept")) == 8


def test_a_gate_names_the_first_record_that_it_cannot_read(world):
    found = run("curate", "gate", "captions.jsonl", "-o", "kept", "--gate", "length=1-400")
    assert found.returncode == 0
    (line,) = [line for line in found.stdout.splitlines() if "unreadable" in line]
    assert line.startswith("  unreadable: 8 left out; the first: captions.jsonl, row 0")
    summary = json.loads((world / "kept" / "summary.json").read_text())
    assert line.endswith(summary["first_problem"])


@pytest.mark.parametrize("gate", ["length=", "duplicates=", "words=", "blind="])
def test_a_gate_without_the_value_that_it_announces(world, gate):
    found = run("curate", "gate", "scenes.json", "-o", "kept", "--gate", gate)
    assert found.returncode == 1 and "lacks its value; expected " in found.stderr
