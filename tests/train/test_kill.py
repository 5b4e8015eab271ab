"""A run that is killed at any instant goes on to the same end."""

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

from onevision.train.snapshots import newest_snapshot, step_of
from tests.train.runs import SHORT, Told, killed_at_last, left, lines

MANY_STEPS = replace(SHORT, num_samples=80)
FEW_STEPS = replace(SHORT, num_samples=16)
# How long a killed run lives at most; loading takes a tenth of it.
LONGEST_SECONDS = 1.2


def newest_step(output):
    """Return where a run would go on; nothing that has been whole may be broken."""
    newest = newest_snapshot(output, warn=pytest.fail)
    return 0 if newest is None else step_of(newest)


def killed_again_and_again(nursery, told, kills, *, ranks=1):
    """Kill a run at seeded instants, going on each time; returns how often it came to its end."""
    rng, ends, reached, whole = random.Random(0), 0, 0, None
    while kills:
        with killed_at_last(nursery.start(told, ranks)) as children:
            time.sleep(rng.uniform(0, LONGEST_SECONDS))
            alive = not children[0].ended()
            for child in children:
                child.send(signal.SIGKILL)
        if alive:
            kills -= 1
            assert newest_step(told.output) >= reached
            reached = newest_step(told.output)
        else:
            assert children[0].code == 0, children[0].said
            ends, reached, whole = ends + 1, 0, left(told.output)
            shutil.rmtree(told.output)
    nursery.train(told, ranks)
    assert whole in (None, left(told.output))
    return ends + 1


def whole_and_killed(nursery, tmp_path, kills, *, ranks=1):
    told = Told(output=tmp_path / "whole", stage=MANY_STEPS).but(save_steps=1, keep=2)
    nursery.train(told, ranks)
    killed = told.but(output=tmp_path / "killed")
    killed_again_and_again(nursery, killed, kills, ranks=ranks)
    assert left(killed.output) == left(told.output)
    steps = [line["step"] for line in lines(killed.output)]
    assert steps == list(range(1, 21))
    assert not list(killed.output.glob("*.part"))


@pytest.mark.parametrize("kills", [4, pytest.param(15, marks=pytest.mark.slow)])
def test_kill_at_random_instants_loses_nothing(nursery, tmp_path, kills):
    whole_and_killed(nursery, tmp_path, kills)


@pytest.mark.distributed
def test_kill_of_two_processes_loses_nothing(nursery, tmp_path):
    whole_and_killed(nursery, tmp_path, 2, ranks=2)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_flush(number):
    """Die in place of the given flush to the disk."""
    flush, calls = os.fsync, iter(range(1, 10**9))
    os.fsync = lambda handle: die() if next(calls) == number else flush(handle)


def die_while_deleting(number):
    """Die when a deletion has taken one file of a directory."""
    remove, calls = shutil.rmtree, iter(range(1, 10**9))

    def rmtree(path, *args, **kwargs):
        if next(calls) == number:
            with suppress(IndexError):
                sorted(path.iterdir())[0].unlink()
            die()
        remove(path, *args, **kwargs)

    shutil.rmtree = rmtree


# A snapshot flushes its tensors, their digest, the state, the manifest, the directory; then it is
# renamed, and the directory above is flushed. Before the first, settings.json is.
FLUSHES = 6


@pytest.fixture(scope="module")
def whole(nursery, tmp_path_factory):
    """Four steps that nobody disturbs."""
    told = Told(output=tmp_path_factory.mktemp("whole"), stage=FEW_STEPS)
    told = told.but(save_steps=1, keep=1)
    nursery.train(told)
    return told


@pytest.mark.parametrize(("flush", "whole_step"), [*((n, 1) for n in range(1, 6)), (6, 2)])
def test_kill_at_every_stage_of_saving(nursery, tmp_path, whole, flush, whole_step):
    killed = whole.but(output=tmp_path)
    killing = killed.but(before=partial(die_at_flush, 1 + FLUSHES + flush))
    nursery.train(killing, code=-signal.SIGKILL)
    assert newest_step(tmp_path) == whole_step
    nursery.train(killed)
    assert left(tmp_path) == left(whole.output)


def test_kill_while_old_snapshots_are_deleted(nursery, tmp_path, whole):
    killed = whole.but(output=tmp_path)
    # Every save deletes what lies under its temporary name, and later the snapshot before it.
    nursery.train(killed.but(before=partial(die_while_deleting, 3)), code=-signal.SIGKILL)
    assert newest_step(tmp_path) == 2
    nursery.train(killed)
    assert left(tmp_path) == left(whole.output)
