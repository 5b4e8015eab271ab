"""Snapshots that are written while training continues, on a disk or in an object store."""

import os
import re
import resource
import signal
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import fsspec
import pytest

from onevision.errors import ConfigError, TrainingError
from onevision.train.saving import draft
from onevision.train.saving.draft import Draft
from onevision.train.saving.place import RemotePath, open_place
from onevision.train.snapshots import find_damage, newest_snapshot, snapshots, step_of
from tests.train.runs import (
    SHORT,
    Told,
    killed_at_last,
    left,
    lines,
    losses,
    run,
    tensors,
    wait_for_line,
)
from tests.train.test_faults import DiskFullFromTwoToFour, Does, Spoil
from tests.train.test_kill import die, killed_again_and_again

FOUR_STEPS = replace(SHORT, num_samples=16)


@pytest.fixture(scope="module")
def whole(nursery, tmp_path_factory):
    """Four steps that save one after the other, while training waits."""
    told = Told(output=tmp_path_factory.mktemp("whole"), stage=FOUR_STEPS)
    told = told.but(save_steps=1, keep=2)
    nursery.train(told)
    return told


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.distributed)])
def test_snapshots_in_the_background_are_those_of_a_run_that_waits(nursery, tmp_path, whole, ranks):
    sharing = "shard" if ranks > 1 else "replicate"
    told = whole.but(output=tmp_path / "told", save_async=True, sharing=sharing)
    nursery.train(told, ranks)
    assert [path.name for path in snapshots(told.output)] == ["step-00000003", "step-00000004"]
    assert not list(told.output.glob("*.part"))
    assert newest_snapshot(told.output, warn=pytest.fail) == snapshots(told.output)[-1]
    if ranks == 1:
        assert left(told.output) == left(whole.output)
        assert tensors(told.output, 0) == tensors(whole.output, 0)
    else:
        waits = told.but(output=tmp_path / "waits", save_async=False)
        nursery.train(waits, ranks)
        assert left(told.output) == left(waits.output)


def test_kill_of_a_run_that_saves_in_the_background_loses_nothing(nursery, tmp_path, whole):
    told = whole.but(output=tmp_path, save_async=True)
    killed_again_and_again(nursery, told, 2)
    assert left(tmp_path) == left(whole.output)


@dataclass(frozen=True)
class DieAfter:
    """A writer that dies when it has written so many bytes, training being two steps ahead."""

    num_bytes: int

    def __call__(self):
        stream, size = draft.stream_tensors, self.num_bytes

        def stream_tensors(write, *args, **kwargs):
            left = size

            def count(content):
                nonlocal left
                write(content)
                left -= len(content)
                if left < 0 and threading.current_thread().name == "snapshot":
                    time.sleep(0.3)
                    die()

            stream(count, *args, **kwargs)

        draft.stream_tensors = stream_tensors


def test_a_half_written_snapshot_is_never_used(nursery, tmp_path, whole):
    told = whole.but(output=tmp_path, save_async=True, save_steps=2)
    nursery.train(told.but(stop_after=2))
    nursery.train(told.but(before=DieAfter(100_000)), code=-signal.SIGKILL)
    assert list(tmp_path.glob("*.part"))
    newest = newest_snapshot(tmp_path, warn=pytest.fail)
    assert newest is not None
    assert step_of(newest) == 2
    nursery.train(told)
    assert losses(tmp_path) == losses(whole.output)
    assert not list(tmp_path.glob("*.part"))


@dataclass(frozen=True)
class PatientWriter:
    """A writer that waits until training has ended so many steps, and writes alone."""

    output: Path
    num_steps: int

    def __call__(self):
        write, writing = Draft.write, []

        def patient(draft, shards):
            writing.append(draft.step)
            assert len(writing) == 1, "two writers"
            wait_for_line(self.output, self.num_steps)
            write(draft, shards)
            writing.remove(draft.step)

        Draft.write = patient


def test_training_continues_while_one_writer_writes(nursery, tmp_path):
    """Steps 2, 4, 6 and 8 save; what step 2 saves is not written before step 3 has ended."""
    told = Told(output=tmp_path, stage=replace(FOUR_STEPS, num_samples=32))
    told = told.but(save_steps=2, save_async=True, keep=9, before=PatientWriter(tmp_path, 3))
    nursery.train(told)
    assert [step_of(path) for path in snapshots(tmp_path)] == [2, 4, 6, 8]
    assert all(find_damage(path) is None for path in snapshots(tmp_path))
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 9))


def test_a_writer_that_fails_ends_training_at_the_next_step(nursery, tmp_path):
    told = Told(output=tmp_path, stage=FOUR_STEPS, spoil=DiskFullFromTwoToFour())
    said = nursery.train(told.but(save_steps=1, save_async=True), code=1)
    # A slow writer of step 1 may still be at it when the disk is full.
    found = re.search(r"error: .*step ([12]) could not be saved .*it (.*)\n", said)
    assert found and found[2] == {"1": "starts over", "2": "resumes from step 1"}[found[1]], said
    assert "Traceback" not in said
    assert len(lines(tmp_path)) <= 4
    whole = {"1": [], "2": ["step-00000001"]}[found[1]]
    assert [path.name for path in snapshots(tmp_path)] == whole
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.distributed
def test_a_writer_that_fails_in_one_process_ends_all(nursery, tmp_path):
    told = Told(output=tmp_path, stage=FOUR_STEPS, before=limit_second_rank)
    told = told.but(save_steps=1, save_async=True, sharing="shard", num_workers=0)
    with killed_at_last(nursery.start(told, 2)) as children:
        assert [child.wait() for child in children] == [1, 1]
    assert "another rank could not write its share" in children[0].said
    assert "File too large" in children[1].said
    assert not snapshots(tmp_path)


def limit_second_rank():
    if os.environ["RANK"] == "1":
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))


# Object stores


@pytest.fixture
def memory():
    """An empty store in this process's memory."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield "memory://bucket/run"
    fs.store.clear()


@pytest.mark.parametrize("in_background", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_run_resumes_from_a_store_on_another_machine(memory, tmp_path, whole, in_background):
    told = whole.but(output=tmp_path / "a", snapshots=memory, save_async=in_background)
    told = told.but(num_workers=0)
    run(told.but(stop_after=2))
    place = open_place(memory)
    assert [step_of(path) for path in snapshots(place)] == [1, 2]
    assert not list((tmp_path / "a").glob("step-*"))
    elsewhere = told.but(output=tmp_path / "b")
    run(elsewhere)
    assert [line["step"] for line in lines(tmp_path / "b")] == [3, 4]
    assert losses(tmp_path / "b") == losses(whole.output)[2:]
    assert tensors(place) == tensors(whole.output)
    with pytest.raises(ConfigError, match="learning_rate"):
        run(elsewhere.but(output=tmp_path / "c", stage=replace(FOUR_STEPS, learning_rate=1.0)))


def test_what_is_half_written_in_a_store_is_not_used(memory, tmp_path, whole):
    told = whole.but(output=tmp_path, snapshots=memory, keep=9, num_workers=0)
    run(told)
    fs = fsspec.filesystem("memory")
    fs.rm(f"{memory}/step-00000004/manifest.json")
    fs.pipe(f"{memory}/step-00000003/rank-0-of-1.safetensors", b"short")
    warned = []
    newest = newest_snapshot(open_place(memory), warn=warned.append)
    assert newest is not None
    assert step_of(newest) == 2
    assert "memory://bucket/run/step-00000004: incomplete" in warned[0]
    assert "has 5 bytes instead of" in warned[1]
    run(told)
    assert losses(tmp_path) == losses(whole.output)
    assert tensors(open_place(memory)) == tensors(whole.output)


@pytest.mark.slow
@pytest.mark.distributed
def test_processes_share_the_snapshots_of_a_store(nursery, tmp_path, whole):
    """Two processes write, one resumes, and two again, from an address of a file system."""
    address = f"file://{tmp_path}/store"
    told = whole.but(output=tmp_path / "run", snapshots=address, sharing="shard", keep=9)
    nursery.train(told.but(stop_after=1), 2)
    nursery.train(told.but(stop_after=1, save_async=True), 1)
    nursery.train(told, 2)
    found = snapshots(tmp_path / "store")
    names = [sorted(one.name for one in path.glob("rank-*.safetensors")) for path in found]
    assert [len(one) for one in names] == [2, 1, 2, 2]
    for (step, loss), (_, expected) in zip(losses(told.output), losses(whole.output), strict=True):
        assert float.fromhex(loss) == pytest.approx(float.fromhex(expected), rel=1e-4), step


@pytest.mark.distributed
def test_processes_that_do_not_share_a_place_are_told_so(nursery, tmp_path):
    told = Told(output=tmp_path, stage=FOUR_STEPS).but(snapshots="memory://run", save_steps=1)
    said = nursery.train(told, 2, code=1)  # each has a memory of its own
    assert "it holds 1 of 2 shares; all processes must write to one place" in said


class FailingStore(fsspec.AbstractFileSystem):
    """A store whose writes fail with an exception of its own."""

    protocol = "failing"

    class NoCredentialsError(Exception):
        """As of botocore: not an OSError."""

    def _open(self, path, mode="rb", **kwargs):
        raise self.NoCredentialsError("Unable to locate credentials\nsecond line")


def test_missing_packages_and_credentials_are_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"'abfs://a/b', which needs .*: pip install adlfs$"):
        open_place("abfs://a/b")
    with pytest.raises(ConfigError, match=r"snapshots is 'nowhere://a': .*expected a directory"):
        open_place("nowhere://a")
    fsspec.register_implementation("failing", FailingStore, clobber=True)
    with pytest.raises(ConfigError) as found:
        run(Told(output=tmp_path).but(snapshots="failing://bucket/a"))
    assert "cannot be written to" in str(found.value)
    assert "NoCredentialsError: Unable to locate credentials" in str(found.value)
    assert "\n" not in str(found.value)


def test_a_store_that_fails_later_ends_training(memory, tmp_path, monkeypatch):
    told = Told(output=tmp_path, stage=FOUR_STEPS).but(snapshots=memory, save_steps=1)
    told = told.but(num_workers=0)
    fail = partial(monkeypatch.setattr, RemotePath, "open", FailingStore()._open)
    with pytest.raises(TrainingError, match=r"step 2 could not be saved .*it resumes from step 1"):
        run(replace(told, spoil=Spoil(Does(fail), 2)))


def test_an_address_of_files_is_a_directory(tmp_path):
    assert open_place(f"file://{tmp_path}/a") == tmp_path / "a"
    assert open_place(str(tmp_path)) == tmp_path
