"""What a job will take: bounds before a reply, measured after some."""

from tests.curate.conftest import run, write_pictures


def plan(captions, output, writer, *more):
    return run("curate", "instruct", captions, "-o", output, "--writer", writer.url,
               "--writer-prices", "1,10", "--parallel", 2, "--plan", *more)  # fmt: skip


def test_a_plan_is_a_bound_until_replies_are_measured(tmp_path, writer):
    captions, output = write_pictures(tmp_path, 30), tmp_path / "out"
    first = plan(captions, output, writer)
    assert first.returncode == 0, first.stderr
    assert "90 tasks of 90 in the input" in first.stdout
    assert "at most 92,160 out" in first.stdout  # 90 replies of 1,024 tokens
    assert "hours: unknown; run it with --max-rows 20 first" in first.stdout
    assert not writer.requests and not output.exists()
    run("curate", "instruct", captions, "-o", output, "--writer", writer.url,
        "--writer-prices", "1,10", "--parallel", 2, "--max-rows", 20)  # fmt: skip
    asked = len(writer.requests)
    second = plan(captions, output, writer)
    assert "at most" not in second.stdout
    assert f"with 1 x 2 queries at a time, from {asked} replies" in second.stdout
    assert len(writer.requests) == asked


def test_a_plan_counts_what_the_input_refuses(tmp_path, writer):
    captions = write_pictures(tmp_path, 4)
    (tmp_path / "pictures" / "1.png").unlink()
    found = plan(captions, tmp_path / "out", writer, "--kinds", "detail")
    assert "3 tasks of 4 in the input" in found.stdout
