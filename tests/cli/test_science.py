"""`onevision science`: what it lists, refuses, runs and reports."""

from pathlib import Path

import pytest

from tests.cli.conftest import run

ROOT = Path(__file__).parents[2]


def test_runs_are_listed_by_claim(tmp_path):
    done = run("science", "--list", "--only", "transfer", "-o", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3 * 5
    assert lines[0].split() == ["seed-0/vision", "56,000", "samples", "to", "do"]


def test_an_unknown_claim_is_one_line(tmp_path):
    done = run("science", "--list", "--only", "speed", "-o", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no claim 'speed'; expected one of stages, transfer")


def test_a_report_needs_no_runs(tmp_path):
    done = run("science", "--report", "--docs", tmp_path)
    assert (done.returncode, done.stdout) == (0, f"wrote {tmp_path / 'science.md'}\n")
    assert (tmp_path / "science.md").read_text().count("**Not run yet.**") == 3


@pytest.mark.slow
def test_a_rehearsal_goes_from_end_to_end(tmp_path):
    arguments = ("science", "--rehearse", "--only", "transfer", "-o", tmp_path)
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"wrote {tmp_path / 'science.md'}\n")
    page = (tmp_path / "science.md").read_text()
    assert "A rehearsal" in page
    assert (tmp_path / "science" / "transfer.png").is_file()
    again = run(*arguments)
    assert {line.split()[0] for line in again.stdout.splitlines()} == {"finished", "wrote"}
