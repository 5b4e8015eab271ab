"""What goes wrong on the way: the run goes on, or ends with one line and loses nothing."""

import json
import multiprocessing as mp
import os
import re
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import onevision.train
from onevision.errors import ConfigError
from onevision.locks import lock_directory
from onevision.train.feed import Feed
from onevision.train.snapshots import newest_snapshot, snapshots
from tests.data.conftest import record
from tests.train.runs import (
    SHORT,
    Told,
    killed_at_last,
    left,
    lines,
    loss_values,
    run,
    tensors,
    wait_for_line,
)

SIX_STEPS = replace(SHORT, num_samples=24)
PICTURES = replace(SIX_STEPS, families={"scenes": 1.0})
ENDLESS = replace(SHORT, num_samples=40_000)


@dataclass(frozen=True)
class Spoilt:
    """A feed whose step, counted from 1, is changed; None: every step is."""

    feed: Feed
    step: int | None
    change: Callable

    @property
    def num_steps(self):
        return self.feed.num_steps

    @property
    def sources(self):
        return self.feed.sources

    @property
    def fingerprints(self):
        return self.feed.fingerprints

    def steps(self, first):
        for number, share in enumerate(self.feed.steps(first), first + 1):
            yield self.change(share, self.feed) if self.step in (None, number) else share


@dataclass(frozen=True)
class Spoil:
    """Makes a spoilt feed of a feed."""

    change: Callable
    step: int | None = None

    def __call__(self, feed):
        return Spoilt(feed, self.step, self.change)


@dataclass(frozen=True)
class Does:
    """A change that does something and leaves the micro-batches as they are."""

    act: Callable
    given: tuple = ()

    def __call__(self, share, feed):
        self.act(*self.given)
        return share


def with_batch(share, **tensors_of):
    return [replace(one, batch=replace(one.batch, **tensors_of)) for one in share]


# Signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_after_its_step_and_saves(nursery, tmp_path, number, code):
    told = Told(output=tmp_path, stage=ENDLESS).but(save_steps=10**6)
    with killed_at_last(nursery.start(told)) as (child,):
        wait_for_line(tmp_path, 2)
        child.send(number)
        assert child.wait() == code, child.said
    newest = newest_snapshot(tmp_path, warn=pytest.fail)
    assert newest is not None
    assert newest.name == f"step-{len(lines(tmp_path)):08d}"
    assert not (tmp_path / "checkpoint").exists()


def test_a_second_signal_ends_the_run_at_once(nursery, tmp_path):
    told = Told(output=tmp_path, spoil=Spoil(Does(time.sleep, (60,)), 3))
    with killed_at_last(nursery.start(told)) as (child,):
        wait_for_line(tmp_path, 2)
        child.send(signal.SIGTERM)
        time.sleep(0.3)
        assert not child.ended()  # it is busy with its step
        child.send(signal.SIGINT)
        assert child.wait(20) == 128 + signal.SIGINT


# Disks


def set_largest_file(num_bytes):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if num_bytes is None else num_bytes, hard))


class DiskFullFromTwoToFour:
    """No file grows beyond 200 kB while steps 2 to 4 run: snapshots do not fit, metrics do."""

    def __call__(self, feed):
        feed = Spoilt(feed, 2, Does(set_largest_file, (200_000,)))
        return Spoilt(feed, 5, Does(set_largest_file, (None,)))


def test_a_full_disk_is_a_warning_and_the_next_save_tries_again(nursery, tmp_path):
    told = Told(output=tmp_path / "whole", stage=SIX_STEPS).but(
        save_steps=1, keep=9, save_strict=False
    )
    nursery.train(told)
    full = told.but(output=tmp_path / "full", spoil=DiskFullFromTwoToFour())
    said = nursery.train(full)
    assert said.count("could not be saved") == 3
    assert "training continues and the next save tries again; make room" in said
    names = [path.name for path in snapshots(full.output)]
    assert names == [f"step-0000000{step}" for step in (1, 5, 6)]
    assert not list(full.output.glob("*.part"))
    assert left(full.output) == left(told.output)


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.distributed)])
def test_a_full_disk_stops_a_strict_run(nursery, tmp_path, ranks):
    told = Told(output=tmp_path, stage=SIX_STEPS, spoil=DiskFullFromTwoToFour())
    told = told.but(save_steps=1, save_strict=True)
    said = nursery.train(told, ranks, code=1)
    assert re.search(r"error: .*step 2 could not be saved .*it resumes from step 1\n", said)
    assert newest_snapshot(tmp_path, warn=pytest.fail) == tmp_path / "step-00000001"
    assert not list(tmp_path.glob("*.part"))


def fill_the_metrics_disk(directory):
    path = directory / "metrics.jsonl"
    path.unlink()
    path.symlink_to("/dev/full")


def test_a_full_disk_of_metrics_is_one_warning(nursery, tmp_path):
    spoil = Spoil(Does(fill_the_metrics_disk, (tmp_path,)), 2)
    said = nursery.train(Told(output=tmp_path, stage=SIX_STEPS, spoil=spoil))
    assert said.count("metrics cannot be written (No space left on device)") == 1
    assert snapshots(tmp_path)[-1].name == "step-00000006"


def test_metrics_that_are_removed_are_begun_again(nursery, tmp_path):
    spoil = Spoil(Does(os.unlink, (tmp_path / "metrics.jsonl",)), 4)
    nursery.train(Told(output=tmp_path, stage=SIX_STEPS, spoil=spoil))
    assert [line["step"] for line in lines(tmp_path)] == [4, 5, 6]


def test_a_directory_that_vanishes_is_made_again(nursery, tmp_path):
    output = tmp_path / "run"
    nursery.train(
        Told(output=output, stage=SIX_STEPS, spoil=Spoil(Does(shutil.rmtree, (output,)), 4))
    )
    assert (output / "checkpoint" / "model.safetensors").is_file()
    assert snapshots(output)[-1].name == "step-00000006"


def test_a_directory_that_cannot_be_written_is_refused_early(tmp_path):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(
            ConfigError, match=r"cannot be written to \(.*\); give another --output"
        ):
            run(Told(output=output))
    (tmp_path / "run" / "settings.json").mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be written to"):
        run(Told(output=tmp_path / "run"))


def test_two_trainers_in_a_directory_are_refused(nursery, tmp_path):
    holder = rf"process {os.getpid()} on {re.escape(socket.gethostname())}"
    with lock_directory(tmp_path, holder="trainer"):
        said = nursery.train(Told(output=tmp_path), code=1)
        assert re.search(rf"another trainer runs here \({holder}\); wait for it", said)
    nursery.train(Told(output=tmp_path, stage=SIX_STEPS))  # free again


# Numbers


def poison(share, feed):
    """NaN pixels on the last rank alone, in its first micro-batch."""
    if feed.rank < feed.ranks - 1:
        return share
    pixels = share[0].batch.pixel_values
    return with_batch(share[:1], pixel_values=torch.full_like(pixels, torch.nan)) + share[1:]


@pytest.mark.parametrize(
    ("ranks", "context"),
    [
        (1, 1),
        pytest.param(2, 1, marks=pytest.mark.distributed),
        pytest.param(2, 2, marks=pytest.mark.distributed),
    ],
)
def test_a_step_without_a_number_changes_nothing(nursery, tmp_path, ranks, context):
    told = Told(output=tmp_path, stage=PICTURES, spoil=Spoil(poison, 3))
    said = nursery.train(told.but(save_steps=1, keep=9, context=context), ranks)
    assert "warning: step 3 was skipped: the loss is nan" in said
    assert tensors(tmp_path, 2) == tensors(tmp_path, 1) != tensors(tmp_path, 3)
    assert [line["skipped"] for line in lines(tmp_path)] == [
        False,
        False,
        True,
        False,
        False,
        False,
    ]
    assert lines(tmp_path)[2]["not_finite"]["loss"] == "nan"
    noted = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    samples = [sample for line in noted for sample in line["samples"]]
    assert {line["step"] for line in noted} == {3}
    assert samples
    assert set(samples) <= {f"scenes {index}" for index in range(8, 12)[ranks - 1 :: ranks]}


def test_many_steps_without_a_number_end_the_run(nursery, tmp_path):
    told = Told(output=tmp_path, stage=PICTURES, spoil=Spoil(poison)).but(max_skipped=2)
    said = nursery.train(told, code=1)
    assert "error: steps skipped in a row: 2, the last because the loss is nan" in said


def test_a_skipped_step_is_noted_once_however_often_the_run_is_killed(nursery, tmp_path):
    told = Told(output=tmp_path, stage=PICTURES, spoil=Spoil(poison, 3)).but(save_steps=2)
    for _ in range(2):
        nursery.train(told.but(spoil=PoisonThenDie()), code=-signal.SIGKILL)
    nursery.train(told)
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 1


class PoisonThenDie:
    """Step 3 has no number, and before step 4 the process dies."""

    def __call__(self, feed):
        return Spoil(Does(die), 4)(Spoil(poison, 3)(feed))


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_spike_of_the_gradient_changes_nothing(nursery, tmp_path):
    told = Told(output=tmp_path, stage=SIX_STEPS).but(save_steps=1, keep=9, max_skipped=9)
    said = nursery.train(told.but(max_spike=1e-6))
    assert "more than max_spike 1e-06" in said
    assert tensors(tmp_path, -1) == tensors(tmp_path, 0)
    assert all(line["skipped"] for line in lines(tmp_path))


def mask_all(share, feed):
    nothing = torch.zeros(0, dtype=torch.int64)
    share = [replace(one, owners=nothing) for one in share]
    return with_batch(share, sources=nothing, targets=nothing)


@pytest.mark.parametrize("loss_mean", ["tokens", "micro_batches"])
def test_a_step_without_labels_has_no_loss(nursery, tmp_path, loss_mean):
    told = Told(output=tmp_path, stage=SIX_STEPS, spoil=Spoil(mask_all, 2))
    nursery.train(told.but(loss_mean=loss_mean))
    second = lines(tmp_path)[1]
    assert (second["loss"], second["grad_norm"], second["supervised_tokens"]) == (0, 0, 0)
    assert not any(line["skipped"] for line in lines(tmp_path))


def test_text_alone_teaches_the_projector_nothing(nursery, tmp_path):
    stage = replace(
        SIX_STEPS, families={"texts": 1.0}, trainable=("projector",), vision_learning_rate=None
    )
    nursery.train(Told(output=tmp_path, stage=stage))
    assert {line["grad_norm"] for line in lines(tmp_path)} == {0.0}


# Processes


@pytest.mark.distributed
@pytest.mark.parametrize(
    "options", [{"sharing": "replicate"}, {"sharing": "shard"}, {"context": 2}]
)
def test_a_process_that_dies_ends_the_others(nursery, tmp_path, options):
    told = Told(output=tmp_path, stage=ENDLESS).but(save_steps=2, **options)
    with killed_at_last(nursery.start(told, 2)) as (main, other):
        wait_for_line(tmp_path, 3)
        other.send(signal.SIGKILL)
        assert main.wait(60) == 1, main.said
    assert "another process of this run has died or hangs" in main.said
    newest = newest_snapshot(tmp_path, warn=pytest.fail)
    assert newest is not None
    assert f"start it again: it resumes from step {int(newest.name[5:])}" in main.said
    assert "Traceback" not in main.said


@pytest.mark.distributed
def test_a_process_that_hangs_ends_the_others_with_their_stacks(nursery, tmp_path):
    told = Told(output=tmp_path, stage=ENDLESS).but(patience_seconds=8, save_steps=2)
    with killed_at_last(nursery.start(told, 2)) as (main, other):
        wait_for_line(tmp_path, 3)
        other.send(signal.SIGSTOP)
        assert main.wait(60) == 1
    assert "Timeout (0:00:08)!" in main.said
    assert "in all_reduce" in main.said
    assert newest_snapshot(tmp_path, warn=pytest.fail) is not None


def leave_little_memory():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**24, hard))


def grow(share, feed):
    """Score every position 2000 times; their logits want more memory than is left."""
    leave_little_memory()
    share = [replace(one, owners=one.owners.repeat(2000)) for one in share]
    return [
        replace(
            one,
            batch=replace(
                one.batch,
                sources=one.batch.sources.repeat(2000),
                targets=one.batch.targets.repeat(2000),
            ),
        )
        for one in share
    ]


def test_memory_that_runs_out_is_one_line(nursery, tmp_path):
    told = Told(output=tmp_path / "run", stage=SIX_STEPS).but(save_steps=1)
    said = nursery.train(told.but(spoil=Spoil(grow, 3)), code=1)
    assert "out of memory" in said
    assert "start it again: it resumes from step 2" in said
    assert "Traceback" not in said
    assert not list(told.output.glob("*.part"))
    nursery.train(told)
    nursery.train(told.but(output=tmp_path / "whole"))
    assert left(told.output) == left(tmp_path / "whole")


def test_only_a_clock_that_never_goes_back_is_read():
    for path in Path(onevision.train.__path__[0]).glob("*.py"):
        assert not re.search(
            r"time\.time\b|datetime\.(now|today|utcnow)|perf_counter|from time", path.read_text()
        )


# Data


@pytest.fixture
def mixture(mixture_file, picture):
    """The mixture with one more data set: a picture of its own."""
    picture(80, 60, seed=99).save(mixture_file.parent / "own.png")
    (mixture_file.parent / "own.json").write_text(json.dumps([record(0, image="own.png")]))
    with mixture_file.open("a") as file:
        file.write("  - json_path: own.json\n")
    stage = replace(SHORT.learning_from(str(mixture_file)), resolution="target")
    return replace(stage, epochs=2, global_batch=16)


def supervised(output):
    return [line["supervised_tokens"] for line in lines(output)]


def test_a_picture_that_does_not_decode_leaves_a_hole(nursery, tmp_path, mixture):
    told = Told(output=tmp_path / "whole", stage=mixture).but(num_workers=0)
    nursery.train(told)
    own = Path(mixture.mixture).parent / "own.png"
    own.write_bytes(own.read_bytes()[:2000])  # its header is whole
    holed = told.but(output=tmp_path / "holed")
    nursery.train(holed)
    noted = (holed.output / "quarantine.jsonl").read_text().splitlines()
    assert [(json.loads(line)["source"], json.loads(line)["row"]) for line in noted] == [
        ("own.json", 0)
    ]
    pairs = list(zip(supervised(holed.output), supervised(told.output), strict=True))
    assert sum(a != b for a, b in pairs) == 2  # one step of either epoch
    assert all(a <= b for a, b in pairs)


def kill_a_worker():
    mp.active_children()[0].kill()


def test_a_worker_that_is_killed_is_replaced(nursery, tmp_path, mixture):
    told = Told(output=tmp_path / "whole", stage=mixture).but(num_workers=0)
    nursery.train(told)
    killed = told.but(output=tmp_path / "killed", spoil=Spoil(Does(kill_a_worker), 2))
    nursery.train(killed.but(num_workers=1))
    assert left(killed.output) == left(told.output)
    assert not (killed.output / "quarantine.jsonl").exists()
    assert loss_values(killed.output)
