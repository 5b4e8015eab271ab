"""Training from shards in a store, by the command: killed, resumed, changed, missing."""

import io
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from typer.testing import CliRunner

import onevision
from onevision.cli import app
from onevision.data.remote.cache import open_cache
from onevision.errors import OneVisionError
from tests.data.shards import gib, tar_shard, write_mixture, write_store
from tests.train.runs import SHORT, Told, left, lines, loss_values, wait_for_line

# Six shards of eight samples, four a step.
NUM_STEPS = 12


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Gives the following commands an empty cache that holds four shards of the store or so."""

    def use(name, *, store=tmp_path / "store"):
        monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / name))
        largest = max(file.stat().st_size for file in store.iterdir())
        monkeypatch.setenv("ONEVISION_SHARDS_GIB", gib(4 * largest))

    return use


def command(mixture, start, output, *settings):
    told = ["train", "onevision", "--model", "tiny", "--from", start, "--mixture", mixture]
    told += ["-o", output]
    for setting in ("precision=fp32", "global_batch=4", "save_steps=1", "keep=20", *settings):
        told += ["--set", setting]
    return [*map(str, told)]


def environment():
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(onevision.__file__).parents[1]),
    }


def start(*arguments, **options):
    """Start the command in a process of its own, with a group that can be killed as a whole."""
    told = [sys.executable, "-m", "onevision", *arguments]
    return subprocess.Popen(told, env=environment(), start_new_session=True, **options)


def run(*arguments):
    """Run the command in a process of its own, with one thread; returns what it said."""
    told = [sys.executable, "-m", "onevision", *arguments]
    done = subprocess.run(told, env=environment(), capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stderr


def refused(*arguments):
    """Return the line with which the command, in this process, refuses."""
    done = CliRunner().invoke(app, [*arguments])
    assert isinstance(done.exception, OneVisionError), done.output
    assert "\n" not in str(done.exception)
    return str(done.exception)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_samples_and_losses(kind, small, tmp_path, caches):
    mixture = write_mixture(tmp_path / "m.yaml", write_store(tmp_path / "store", kind))
    caches("first")
    run(*command(mixture, small, tmp_path / "whole", "num_workers=0"))
    caches("second")
    with start(
        *command(mixture, small, tmp_path / "killed", "num_workers=2"), stderr=subprocess.DEVNULL
    ) as child:
        try:
            wait_for_line(tmp_path / "killed", 2)
        finally:
            os.killpg(child.pid, signal.SIGKILL)
    done = len(lines(tmp_path / "killed"))
    assert 2 <= done < NUM_STEPS
    caches("third")  # as on another machine
    run(*command(mixture, small, tmp_path / "killed", "num_workers=1"))
    assert left(tmp_path / "killed") == left(tmp_path / "whole")
    assert lines(tmp_path / "whole")[-1]["samples"] == 48
    assert not (tmp_path / "killed" / "quarantine.jsonl").exists()
    held = [p.stat().st_size for p in open_cache().directory.iterdir() if p.name != "lock"]
    assert 0 < sum(held) <= open_cache().max_bytes


def test_a_shard_that_changed_before_the_resume_is_named(small, tmp_path, caches):
    store = tmp_path / "store"
    mixture = write_mixture(tmp_path / "m.yaml", write_store(store, count=2))
    caches("cache")
    told = command(mixture, small, tmp_path / "run", "num_workers=0")
    done = CliRunner().invoke(app, told)
    assert done.exit_code == 0, done.exception
    for newest in sorted((tmp_path / "run").glob("step-*"))[1:]:
        shutil.rmtree(newest)
    (store / "caps-001.tar").write_bytes(tar_shard([*range(8, 15), 99]))
    said = refused(*told)
    assert f"began with other settings or data (data: file://{store}/caps-001.tar has" in said
    assert "--allow-change data" in said
    done = CliRunner().invoke(app, [*told, "--allow-change", "data"])
    assert done.exit_code == 0, done.exception
    assert "resumes with other samples in its steps" in done.stderr


def test_check_and_plan_read_the_same_mixture(small, tmp_path, caches):
    mixture = write_mixture(tmp_path / "m.yaml", write_store(tmp_path / "store"))
    caches("cache")
    done = CliRunner().invoke(app, ["data", "check", str(mixture), "--num-workers", "2"])
    assert done.exit_code == 0, done.output
    assert "caps: 6 shards, " in done.stdout
    assert "read through a cache of" in done.stdout
    assert "48 samples, nothing to fix" in done.stdout
    told = command(mixture, small, tmp_path / "run", "num_workers=0")
    done = CliRunner().invoke(app, [*told, "--plan"])
    assert done.exit_code == 0, done.exception
    assert "48" in done.stdout
    direct = command(f"file://{tmp_path}/store", small, tmp_path / "run", "num_workers=0")
    assert CliRunner().invoke(app, [*direct, "--plan"]).exit_code == 0
    folder = ["data", "check", f"file://{tmp_path}/store", "--num-workers", "0"]
    assert "48 samples, nothing to fix" in CliRunner().invoke(app, folder).stdout


def test_a_store_in_memory_is_learned_from(small, tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    fs = fsspec.filesystem("memory")
    fs.pipe("/streaming/a.tar", tar_shard(range(8)))
    mixture = write_mixture(tmp_path / "m.yaml", "memory://streaming/*.tar")
    told = command(mixture, small, tmp_path / "run", "num_workers=0")
    done = CliRunner().invoke(app, told)
    fs.rm("/streaming", recursive=True)
    assert done.exit_code == 0, done.exception
    assert lines(tmp_path / "run")[-1]["samples"] == 8


def test_a_small_cache_is_warned_about(small, tmp_path, caches, monkeypatch):
    mixture = write_mixture(tmp_path / "m.yaml", write_store(tmp_path / "store"))
    caches("cache")
    largest = max(file.stat().st_size for file in (tmp_path / "store").iterdir())
    monkeypatch.setenv("ONEVISION_SHARDS_GIB", gib(largest))
    told = command(mixture, small, tmp_path / "run", "num_workers=0")
    done = CliRunner().invoke(app, told)
    assert done.exit_code == 0, done.exception
    assert "is too small for this order: each shard is fetched" in done.stderr
    assert lines(tmp_path / "run")[-1]["samples"] == 48


@pytest.mark.slow  # a store without an answer is asked three times, with waits
def test_bad_addresses_are_refused_before_the_first_step(small, tmp_path, caches):
    address = write_store(tmp_path / "store", count=2)
    caches("cache")
    (tmp_path / "store" / "cut.tar").write_bytes(tar_shard(range(4))[:3000])
    cases = {
        address.replace("001", "003"): "caps-002.tar: no such shard, as 2 of 4 shards are missing",
        f"file://{tmp_path}/store/none-*.tar": "no shard fits this pattern",
        f"file://{tmp_path}/store/cut.tar": "cut.tar: not a tar file, or cut off",
        "abfs://bucket/a.tar": "pip install adlfs",
        "nowhere://bucket/a.tar": "Protocol not known: nowhere",
    }
    for number, (bad, said) in enumerate(cases.items()):
        mixture = write_mixture(tmp_path / f"{number}.yaml", bad)
        output = tmp_path / f"run-{number}"
        assert said in refused(*command(mixture, small, output, "num_workers=0"))
        assert not (output / "metrics.jsonl").exists()
        done = CliRunner().invoke(app, ["data", "check", str(mixture)])
        assert done.exit_code == 1
        assert said in done.stdout
        assert said in refused(*command(mixture, small, output), "--plan")


def use_cache(directory, limit):
    os.environ |= {"ONEVISION_CACHE": directory, "ONEVISION_SHARDS_GIB": limit}


@pytest.mark.distributed
def test_two_processes_share_the_shards_of_a_cache(nursery, tmp_path):
    mixture = write_mixture(tmp_path / "m.yaml", write_store(tmp_path / "store", count=4))
    largest = max(file.stat().st_size for file in (tmp_path / "store").iterdir())
    told = Told(
        output=tmp_path / "two",
        stage=SHORT.learning_from(str(mixture)),
        before=partial(use_cache, str(tmp_path / "cache"), gib(2 * largest)),
    )
    nursery.train(told, 2)
    nursery.train(told.but(output=tmp_path / "one"), 1)
    assert lines(tmp_path / "two")[-1]["samples"] == 32
    assert loss_values(tmp_path / "two") == pytest.approx(loss_values(tmp_path / "one"), rel=1e-4)
    held = [p for p in (tmp_path / "cache" / "shards").iterdir() if p.name != "lock"]
    assert 0 < sum(p.stat().st_size for p in held) <= 2 * largest


class VanishingStore(fsspec.AbstractFileSystem):
    """Two shards, which are gone once a path exists."""

    protocol = "vanishing"
    shards: ClassVar = {f"b/{n}.tar": tar_shard(range(8 * n, 8 * n + 8)) for n in range(2)}
    gone_after: Path

    def info(self, path, **kwargs):
        return {"name": path, "size": len(self.shards[path]), "type": "file"}

    def ls(self, path, detail=True, **kwargs):
        return [self.info(name) for name in self.shards]

    def _open(self, path, mode="rb", **kwargs):
        if self.gone_after.exists():
            raise FileNotFoundError(path)
        return io.BytesIO(self.shards[path])


def test_a_shard_that_vanishes_ends_the_run_and_nothing_is_lost(small, tmp_path, monkeypatch):
    fsspec.register_implementation("vanishing", VanishingStore, clobber=True)
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    one = max(map(len, VanishingStore.shards.values()))
    monkeypatch.setenv("ONEVISION_SHARDS_GIB", gib(one))  # so that both are fetched again
    mixture = write_mixture(tmp_path / "m.yaml", "vanishing://b/{0,1}.tar")
    VanishingStore.gone_after = tmp_path / "nowhere"
    whole = CliRunner().invoke(app, command(mixture, small, tmp_path / "whole", "num_workers=0"))
    assert whole.exit_code == 0, whole.exception
    told = command(mixture, small, tmp_path / "run", "num_workers=0")
    VanishingStore.gone_after = tmp_path / "run" / "step-00000001"
    assert "vanishing://b/" in (said := refused(*told))
    assert "nothing is there; check the address" in said
    assert len(lines(tmp_path / "run")) < 4
    VanishingStore.gone_after = tmp_path / "nowhere"
    assert CliRunner().invoke(app, told).exit_code == 0
    assert left(tmp_path / "run") == left(tmp_path / "whole")
