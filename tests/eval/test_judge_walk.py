"""Judged answers from the door: eval, judge, report; by an endpoint with a rule, and by tiny."""

import json

import pytest

from tests.cli.invoke import fail, invoke
from tests.eval.conftest import encoded, write_json
from tests.eval.judge_server import between, said, serve

WILD = {"question": "What colour is it?", "answer": "one two three four", "category": "conv"}
SCENE = {
    "caption": ["a plain wall"],
    "boxes": [{"category": "wall", "bbox": [0, 0.1, 1, 0.9]}, "a lamp: [0.2, 0.2, 0.4, 0.4]"],
}


def grade(words):
    """Grade answers by their number of words; a caption, by a fixed number."""
    if "<assistant-1>" not in words:
        return "Final Score: 41"
    first, second = (
        len(between(words, f"<assistant-{n}>", f"</assistant-{n}>").split()) for n in (1, 2)
    )
    return f"{first} {min(10, max(1, second))}"


def write_set(path, pictures, rows):
    """Write rows about a picture each."""
    write_json(path, [row | {"image": f"{n}.png"} for n, row in enumerate(rows)])
    for number, picture in enumerate(pictures):
        (path.parent / f"{number}.png").write_bytes(picture)


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A run of two judged tasks, one of whose pictures is damaged."""
    root = tmp_path_factory.mktemp("judged")
    pictures = [encoded(colour) for colour in ("white", "black", "red")]
    write_set(
        root / "data" / "dc100_en" / "test.jsonl", pictures, [{"question": "What is it?"}] * 3
    )
    (root / "data" / "dc100_en" / "0.png").write_bytes(pictures[0][:40])
    rows = [WILD | SCENE | {"category": kind} for kind in ("conv", "detail", "complex")]
    write_set(root / "data" / "llava_bench_coco" / "train.jsonl", pictures, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONEVISION_CACHE", str(root / "cache"))
        printed = invoke("eval", "--tasks", "llava_bench_coco,dc100_en", "--data", root / "data",
                         "-o", root / "out")  # fmt: skip
        yield root, printed


def results(root, task):
    return json.loads((root / task / "results.json").read_text())


def test_answers_are_judged_later_and_not_asked_again(answered):
    root, printed = answered
    assert "llava_bench_coco: 3 answers; they need a judge (llava_bench), give --judge" in printed
    assert "scored as an empty answer, since it could not be asked: 1 row;" in printed
    before = (root / "out" / "dc100_en" / "answers.jsonl").read_bytes()
    with serve(grade) as server:
        command = ("judge", root / "out", "--judge", server.url, "--judge-model", "rules",
                   "--judge-prices", "1,2")  # fmt: skip
        first = invoke(*command)
        asked = list(server.requests)
        again = invoke(*command)
    assert len(asked) == 3 + 2  # the damaged picture is not shown to the judge
    assert "judge rules: 5 queries, 0 remembered" in first
    assert ", cost 0.0" in first
    assert "judge rules: 0 queries, 5 remembered, 0 tokens in, 0 out, cost 0" in again
    assert (root / "out" / "dc100_en" / "answers.jsonl").read_bytes() == before
    wall = next(said(request) for request in asked if "a plain wall" in said(request))
    assert "wall: [0.000, 0.100, 1.000, 0.900]\na lamp: [0.2, 0.2, 0.4, 0.4]" in wall
    seen = [r for r in asked if not isinstance(r["messages"][1]["content"], str)]
    assert len(seen) == 2
    found = results(root / "out", "dc100_en")
    assert (found["metrics"]["score"], found["judge"]["num_unreadable"]) == (41, 1)
    assert results(root / "out", "llava_bench_coco")["judge"]["usage"]["num_remembered"] == 3
    shown = invoke("report", root / "out", "-o", root / "report")
    page = (root / "report" / "report.md").read_text()
    assert "| ImageDC | **41.0 [41.0, 41.0]** |" in page
    assert "## What instruction data teach, on LLaVA-Bench (COCO)" in page
    assert "| full data | 83.1 | 75.3 | 96.5 | 85.1 |" in page
    assert shown.strip().endswith("report.html")


def test_rounds_and_several_judges_have_a_mean_and_a_deviation(answered):
    root, _ = answered
    grades = iter([f"Final Score: {n}" for n in (40, 40, 50, 50)])
    with serve(lambda words: next(grades)) as one, serve(lambda words: "Final Score: 60") as other:
        printed = invoke("judge", root / "out", "--tasks", "dc100_en", "--judge", one.url,
                         "--judge", other.url, "--judge-model", "m", "--rounds", "2")  # fmt: skip
    judge = results(root / "out", "dc100_en")["judge"]
    assert [entry["headline"] for entry in judge["passes"]] == [40, 50, 60, 60]
    assert results(root / "out", "dc100_en")["metrics"]["score"] == 52.5
    assert judge["std"] == pytest.approx(9.574, abs=1e-3)
    assert judge["share_changed"] == 1
    assert "4 passes of judges: 40, 50, 60, 60; standard deviation 9.6, 100 %" in printed


def test_a_model_in_this_process_judges(answered):
    root, _ = answered
    command = ("judge", root / "out", "--tasks", "llava_bench_coco", "--judge", "tiny")
    printed = invoke(*command)
    found = results(root / "out", "llava_bench_coco")
    assert found["judge"]["model"] == "tiny"
    assert found["judge"]["num_unreadable"] == 0  # its replies are held to the form
    assert found["judge"]["usage"]["prompt_tokens"] > 300
    assert "judge tiny: 3 queries, 0 remembered" in printed
    assert "judge tiny: 0 queries, 3 remembered" in invoke(*command)


def test_inference_runs_have_a_mean_and_a_deviation(answered):
    root, _ = answered
    with serve(grade) as server:
        printed = invoke("eval", "--tasks", "llava_bench_coco", "--data", root / "data", "--repeat",
                         "2", "--temperature", "1.5", "-o", root / "runs", "--judge", server.url,
                         "--judge-model", "rules")  # fmt: skip
    first, second = (
        results(root / "runs" / f"repeat-{n}", "llava_bench_coco")["metrics"]["relative_score"]
        for n in (1, 2)
    )
    mean, deviation = (first + second) / 2, abs(first - second) / 2**0.5
    assert f"llava_bench_coco: {mean:.4g} ± {deviation:.2g}, mean and standard" in printed
    invoke("report", root / "runs", "-o", root / "report")
    page = (root / "report" / "report.md").read_text()
    assert f"**{mean:.1f} ± {deviation:.1f}**" in page
    assert "± is the standard deviation of 2 runs" in page


def test_the_only_model_of_an_endpoint_is_taken(answered):
    root, _ = answered
    with serve(grade, models=["only"]) as server:
        printed = invoke("judge", root / "out", "--judge", server.url)
        assert "judge only: 5 queries" in printed
        server.models.append("other")
        message = fail("judge", root / "out", "--judge", server.url)
    assert "serves 2 models; name one with --judge-model; expected one of only, other" in message


def test_mistakes_about_judges_are_one_line(answered, tmp_path):
    root, _ = answered
    out = root / "out"
    assert "no judge; give --judge" in fail("judge", out)
    assert "no task 'dc10'; did you mean" in fail(
        "judge", out, "--judge", "tiny", "--tasks", "dc10"
    )
    assert "no answers in it" in fail("judge", tmp_path, "--judge", "tiny")
    assert "--rounds is 0" in fail("judge", out, "--judge", "tiny", "--rounds", "0")
    assert "is given twice" in fail("judge", out, "--judge", "tiny", "--judge", "tiny")
    assert "expected two numbers" in fail("judge", out, "--judge", "tiny", "--judge-prices", "1")
    told = ("eval", "--tasks", "ai2d", "--data", root, "-o", tmp_path, "--repeat", "2")
    assert "--repeat has no effect on answers" in fail(*told, "--score-only")
