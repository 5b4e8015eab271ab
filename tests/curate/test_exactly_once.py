"""A job that is killed, and resumed, leaves the bytes of one that was not."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time

from onevision.locks import lock_directory
from tests.cli.conftest import run
from tests.curate.conftest import lines, moody, records, write_pictures
from tests.eval.judge_server import serve

NUM_KILLS = 20
FILES = ("records.json", "provenance.jsonl", "summary.json", "mixture.yaml")


def command(captions, output, server, *more):
    return ["curate", "instruct", captions, "-o", output, "--writer", server.url, *more]


def contents(output):
    return {name: (output / name).read_bytes() for name in FILES}


def test_twenty_kills_leave_the_bytes_of_an_uninterrupted_run(tmp_path):
    captions = write_pictures(tmp_path, 40)
    with serve(str, models=["rules"], writes=moody) as server:
        whole = run(*command(captions, tmp_path / "whole", server))
        assert whole.returncode == 0, whole.stderr
        num_asked = len(server.requests)
        server.requests.clear()
        server.delay_seconds = 0.02
        rng = random.Random(0)
        for kill in range(NUM_KILLS):
            process = subprocess.Popen(
                [sys.executable, "-m", "onevision",
                 *map(str, command(captions, tmp_path / "killed", server))],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            enough = len(server.requests) + rng.randrange(1, 9)
            while len(server.requests) < enough:
                assert process.poll() is None, f"it ended before kill {kill}"
                time.sleep(0.002)
            time.sleep(rng.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        attempts = lines_of(tmp_path / "killed" / "attempts.jsonl")
        assert attempts  # what arrived before a kill is kept
        server.delay_seconds = 0
        assert run(*command(captions, tmp_path / "killed", server)).returncode == 0
        # Only what was in flight at a kill is asked twice: at most four queries each time.
        assert len(server.requests) <= num_asked + 4 * NUM_KILLS
        num_before = len(server.requests)
        assert run(*command(captions, tmp_path / "killed", server)).returncode == 0
        assert len(server.requests) == num_before  # nothing is left to ask
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["num_left"] == 0 and summary["num_asked_again"] > 0
    assert summary["num_kept"] + sum(summary["refused"].values()) == 120


def lines_of(path):
    return path.read_bytes().split(b"\n")[:-1]


def test_a_torn_line_of_the_journal_is_asked_again(tmp_path, writer):
    captions = write_pictures(tmp_path, 3)
    output = tmp_path / "out"
    assert run(*command(captions, output, writer)).returncode == 0
    before = contents(output)
    journal = output / "attempts.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert run(*command(captions, output, writer)).returncode == 0
    assert contents(output) == before
    assert len(writer.requests) == 10


def test_a_damaged_line_of_the_journal_is_named(tmp_path, writer):
    captions, output = write_pictures(tmp_path, 1), tmp_path / "out"
    output.mkdir()
    (output / "attempts.jsonl").write_text('{"task": 3}\n')
    found = run(*command(captions, output, writer))
    assert found.returncode == 1
    assert "attempts.jsonl: the line at byte 0 is damaged" in found.stderr
    assert found.stderr.count("\n") == 1


def test_two_processes_on_one_output_are_refused(tmp_path, writer):
    captions = write_pictures(tmp_path, 1)
    with lock_directory(tmp_path / "out", holder="job"):
        found = run(*command(captions, tmp_path / "out", writer))
    assert found.returncode == 1
    assert f"another job runs here (process {os.getpid()} on " in found.stderr
    assert not writer.requests


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, writer):
    captions, output = write_pictures(tmp_path, 12), tmp_path / "out"
    told = [sys.executable, "-m", "onevision", *map(str, command(captions, output, writer))]
    found = subprocess.run(
        told,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000)),
    )
    assert found.returncode == 1
    assert "File too large" in found.stderr and found.stderr.count("\n") == 1
    assert not (output / "records.json").exists()
    assert run(*command(captions, output, writer)).returncode == 0
    assert len(records(output)) == 36


def test_what_changes_the_answer_is_asked_again_and_nothing_else(tmp_path, writer):
    captions, output = write_pictures(tmp_path, 4), tmp_path / "out"
    assert run(*command(captions, output, writer)).returncode == 0
    first = lines(captions)
    first[2]["captions"] = ["Another sentence about it."]
    captions.write_text("".join(json.dumps(line) + "\n" for line in first))
    assert run(*command(captions, output, writer)).returncode == 0
    assert len(writer.requests) == 12 + 3
    assert run(*command(captions, output, writer, "--seed", 1)).returncode == 0
    assert len(writer.requests) == 12 + 3 + 12
