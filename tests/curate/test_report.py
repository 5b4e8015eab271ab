"""The page of a job."""

import json
import re

from onevision.curate.report import bin_counts
from tests.curate.conftest import moody, run, write_pictures
from tests.eval.judge_server import serve


def test_the_page_shows_counts_reasons_samples_and_concepts(tmp_path):
    captions, output = write_pictures(tmp_path, 12), tmp_path / "out"
    (tmp_path / "pictures" / "3.png").unlink()
    with serve(str, models=["rules"], writes=moody) as server:
        run("curate", "instruct", captions, "-o", output, "--writer", server.url)
    found = run("curate", "report", output, "--samples", 36)
    assert (found.returncode, found.stdout) == (0, f"wrote {output / 'report.html'}\n")
    page = (output / "report.html").read_text()
    assert "conversation: kept<td>" in page and "conversation: picture missing<td>1" in page
    assert page.count("<article>") == 36 and page.count("data:image/png;base64,") == 33
    assert '<svg class="plot"' in page and not re.search(r'(src|href)="http', page)
    run("curate", "report", output, "--samples", 36)
    assert (output / "report.html").read_text() == page


def test_pages_of_balance_and_of_gates_have_concepts_before_and_after(tmp_path):
    said = ["a dog on the grass"] * 5 + ["a red kite"] * 3
    rows = [{"image": f"{n}.png", "caption": words} for n, words in enumerate(said)]
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("curate", "balance", path, "-o", tmp_path / "kept.jsonl", "--max-count", 2)
    found = run("curate", "report", tmp_path / "kept.jsonl")
    assert found.stdout == f"wrote {tmp_path / 'kept.html'}\n", found.stderr
    page = (tmp_path / "kept.html").read_text()
    assert "6 of 8 captions kept." in page and '<svg class="plot"' in page
    run("curate", "gate", tmp_path / "kept.jsonl", "-o", tmp_path / "gated", "--gate", "length=4-9")
    found = run("curate", "report", tmp_path / "gated")
    page = (tmp_path / "gated" / "report.html").read_text()
    assert "4 of 6 records passed all gates." in page and "<tr><th>length<td>2</tr>" in page
    assert page.count("<article>") == 2


def test_a_directory_without_a_job(tmp_path):
    found = run("curate", "report", tmp_path)
    assert found.returncode == 1 and "no job has written here" in found.stderr
    assert found.stderr.count("\n") == 1


def test_phrases_by_how_often_they_occur():
    assert bin_counts({"a": 1, "b": 1, "c": 3, "d": 4, "e": 7}) == [2, 1, 2]
    assert bin_counts({}) == []
