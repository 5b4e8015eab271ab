"""Pictures in shards, described on Ray: a local cluster of two workers, one of which is killed."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from onevision.curate.recaption import RECAPTION_PROMPTS
from onevision.curate.shards.split import Shard, split
from onevision.curate.shards.worker import ShardSettings, describe_shard
from onevision.curate.writer import EndpointWriter
from onevision.data.sources import open_source
from onevision.endpoint import EndpointConfig
from tests.curate.conftest import lines, run, write_pictures
from tests.eval.judge_server import serve

SAYS = "The picture shows a ring on a plain grey background, and it is large."


def describing(**options):
    return serve(str, models=["eyes"], writes=lambda body: (SAYS, "stop"), **options)


def write_tar(path, pictures):
    with tarfile.open(path, "w") as file:
        for picture in pictures:
            data = picture.read_bytes()
            member = tarfile.TarInfo(picture.name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))


def test_a_folder_is_cut_and_files_of_tar_are_a_shard_each(tmp_path):
    write_pictures(tmp_path, 5)
    shards = split(tmp_path / "pictures", shard_size=2)
    assert [len(one.open()) for one in shards] == [2, 2, 1]
    assert [Shard.from_json(one.to_json()) for one in shards] == shards
    (tmp_path / "tars").mkdir()
    for name in "ab":
        write_tar(tmp_path / "tars" / f"{name}.tar", sorted((tmp_path / "pictures").iterdir()))
    shards = split(tmp_path / "tars", shard_size=2)
    assert [len(one.open()) for one in shards] == [5, 5]
    assert len({one.name for one in shards}) == 2


def test_pictures_inside_a_tar_become_parquet_that_training_reads(tmp_path):
    write_pictures(tmp_path, 3)
    pictures = sorted((tmp_path / "pictures").iterdir())
    write_tar(tmp_path / "a.tar", pictures)
    (shard,) = split(tmp_path / "a.tar", shard_size=9)
    settings = ShardSettings(output=tmp_path / "out", language="en", seed=0,
                             prompts=RECAPTION_PROMPTS, max_errors=0)  # fmt: skip
    with describing() as server:
        writer = EndpointWriter(EndpointConfig(base_url=server.url, model="eyes"))
        made = describe_shard(shard, writer, settings)
    assert (made["num_kept"], made["num_left"]) == (3, 0)
    (part,) = (tmp_path / "out" / "parts").iterdir()
    records = open_source(part)
    assert [records.read(row).fields["image"]["bytes"] for row in range(3)] == [
        picture.read_bytes() for picture in pictures
    ]
    checked = run("data", "check", part)
    assert "3 samples, nothing to fix" in checked.stdout


def test_what_shards_cannot_heed_is_refused(tmp_path):
    write_pictures(tmp_path, 1)
    for option in (("--max-rows", 3), ("--max-money", 3)):
        found = run("curate", "recaption", tmp_path / "pictures", "-o", tmp_path / "out",
                    "--ray", "local", *option)  # fmt: skip
        assert found.returncode == 1 and option[0] in found.stderr
        assert found.stderr.count("\n") == 1
    found = run("curate", "recaption", tmp_path / "pictures", "-o", tmp_path / "out",
                "--workers", 2)  # fmt: skip
    assert "--workers" in found.stderr and found.stderr.count("\n") == 1


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path, free_port):
    write_pictures(tmp_path, 1)
    with describing() as server:
        found = run("curate", "recaption", tmp_path / "pictures", "-o", tmp_path / "out",
                    "--captioner", server.url, "--ray", f"127.0.0.1:{free_port}")  # fmt: skip
    assert found.returncode == 1 and "where no cluster answers" in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(tmp_path):
    write_pictures(tmp_path, 12)
    output = tmp_path / "out"
    with describing() as server:
        server.delay_seconds = 0.4
        told = [sys.executable, "-m", "onevision", "curate", "recaption", tmp_path / "pictures",
                "-o", output, "--captioner", server.url, "--ray", "local", "--workers", 2,
                "--shard-size", 3, "--parallel", 1]  # fmt: skip
        process = subprocess.Popen(list(map(str, told)), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)  # fmt: skip
        os.kill(_find_busy_worker(output, process), signal.SIGKILL)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "12 records in 4 shards" in out
    # Only what was in flight in the killed worker was asked again.
    assert len(server.requests) in (12, 13)
    for shard in (output / "shards").iterdir():
        assert [one["outcome"] for one in lines(shard / "provenance.jsonl")] == ["kept"] * 3
    checked = run("data", "check", output / "mixture.yaml")
    assert "12 samples, nothing to fix" in checked.stdout
    assert json.loads((output / "summary.json").read_text())["num_left"] == 0


def _find_busy_worker(output, process):
    """Return the process of a worker that has an answer, and waits for the next."""
    while process.poll() is None:
        for attempts in output.glob("shards/*/attempts.jsonl"):
            if attempts.read_bytes().count(b"\n") == 1:
                lock = (attempts.parent / "lock").read_text()
                return int(re.search(r"process (\d+)", lock)[1])
        time.sleep(0.02)
    raise AssertionError(process.communicate())
