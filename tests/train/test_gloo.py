"""Several processes train as one."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import pytest

from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect
from onevision.known_models import TINY
from onevision.train.parallel import compute_once, join_processes, leave_processes
from tests.train.runs import SHORT, Told, free_port, killed_at_last, lines, loss_values

pytestmark = pytest.mark.distributed
FOUR_STEPS = replace(SHORT, num_samples=16)


@pytest.fixture(scope="module")
def alone(nursery, tmp_path_factory):
    """The run of one process."""
    told = Told(output=tmp_path_factory.mktemp("alone"), stage=FOUR_STEPS)
    nursery.train(told)
    return told


@pytest.mark.parametrize(
    ("ranks", "sharing", "replicas"),
    [(2, "replicate", 1), (4, "replicate", 1), (2, "shard", 1), (4, "shard", 2)],
)
def test_gloo_gives_the_losses_of_one(nursery, tmp_path, alone, ranks, sharing, replicas):
    nursery.train(alone.but(output=tmp_path, sharing=sharing, replicas=replicas), ranks)
    assert loss_values(tmp_path) == pytest.approx(loss_values(alone.output), rel=1e-5)
    for key in ("samples", "supervised_tokens", "learning_rates"):
        assert [line[key] for line in lines(tmp_path)] == [
            line[key] for line in lines(alone.output)
        ]
    norms = [[line["grad_norm"] for line in lines(path)] for path in (tmp_path, alone.output)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert inspect(tmp_path / "checkpoint").config == inspect(alone.output / "checkpoint").config


def test_gloo_divides_the_matrices_of_muon(nursery, tmp_path):
    """Three processes orthogonalise them together, and take the steps of one."""
    told = Told(output=tmp_path / "one", stage=replace(FOUR_STEPS, optimizer="muon"))
    nursery.train(told)
    nursery.train(told.but(output=tmp_path / "three"), 3)
    assert loss_values(tmp_path / "three") == pytest.approx(loss_values(told.output), rel=1e-5)


@pytest.mark.parametrize("sharing", ["replicate", "shard"])
def test_gloo_waits_for_no_rank_without_work_or_pictures(nursery, tmp_path, sharing):
    """Steps of three samples on four processes; the first run has no picture at all."""
    for name, families in (("text", {"texts": 1.0}), ("both", {"scenes": 0.5, "texts": 0.5})):
        stage = replace(SHORT, families=families, global_batch=3, num_samples=6)
        told = Told(output=tmp_path / name, stage=stage)
        nursery.train(told)
        nursery.train(told.but(output=tmp_path / f"{name} 4", sharing=sharing), 4)
        assert loss_values(tmp_path / f"{name} 4") == pytest.approx(
            loss_values(told.output), rel=1e-5
        )


def test_gloo_goes_backward_through_a_frozen_language_model_everywhere(nursery, tmp_path):
    """A process whose rows are text alone takes part, though they teach a projector nothing."""
    stage = replace(SHORT, trainable=("projector",), vision_learning_rate=None)
    stage = replace(stage, families={"scenes": 0.5, "texts": 0.5}, global_batch=2, num_samples=12)
    told = Told(output=tmp_path / "one", stage=stage)
    nursery.train(told)
    nursery.train(told.but(output=tmp_path / "two", sharing="shard"), 2)
    assert loss_values(tmp_path / "two") == pytest.approx(loss_values(told.output), rel=1e-5)


def test_gloo_takes_the_mean_of_micro_batches_over_all_ranks(nursery, tmp_path):
    told = Told(output=tmp_path / "one", stage=replace(FOUR_STEPS, max_tokens=1))  # one sample each
    told = told.but(loss_mean="micro_batches")
    nursery.train(told)
    nursery.train(told.but(output=tmp_path / "two", sharing="shard"), 2)
    assert loss_values(tmp_path / "two") == pytest.approx(loss_values(tmp_path / "one"), rel=1e-5)


@pytest.mark.parametrize("ranks", [1, 2])
def test_gloo_shares_the_peak_of_all_ranks(nursery, tmp_path, ranks):
    told = Told(output=tmp_path, stage=FOUR_STEPS).but(peak_tflops=0.5)
    nursery.train(told, ranks)
    for line in lines(tmp_path):
        assert line["flops"] > 0
        mfu = line["flops"] / (line["seconds"] * 0.5e12 * ranks)
        assert line["mfu"] == pytest.approx(mfu, rel=1e-4)


def test_gloo_refuses_replicas_that_do_not_fit(nursery, tmp_path):
    told = Told(output=tmp_path, stage=FOUR_STEPS).but(sharing="shard", replicas=3)
    assert "replicas is 3; expected a divisor of the 2" in nursery.train(told, 2, code=1)


def own_cache():
    os.environ["ONEVISION_CACHE"] += f"-{os.environ['RANK']}"


def test_gloo_plans_a_mixture_once(nursery, tmp_path, mixture_file):
    """Each process has a cache of its own; the second one's stays without a plan."""
    stage = replace(SHORT.learning_from(str(mixture_file)), resolution="target", global_batch=32)
    told = Told(output=tmp_path / "one", stage=stage).but(num_workers=0)
    nursery.train(told)
    before = set(nursery.logs.glob("cache-*/plans"))
    nursery.train(told.but(output=tmp_path / "two", before=own_cache), 2)
    assert {path.parent.name for path in nursery.logs.glob("cache-*/plans")} == {"cache-0"}
    assert not before
    assert loss_values(tmp_path / "two") == pytest.approx(loss_values(told.output), rel=1e-5)


def test_gloo_tells_all_ranks_of_a_mixture_that_cannot_be_planned(nursery, tmp_path, mixture_file):
    (mixture_file.parent / "pinned").mkdir()
    told = Told(output=tmp_path / "run", stage=SHORT.learning_from(str(mixture_file)))
    told = told.but(manifest=str(mixture_file.parent / "pinned"), num_workers=0)
    with killed_at_last(nursery.start(told, 2)) as children:
        assert [child.wait() for child in children] == [1, 1]
    assert "cannot be read as a manifest" in children[0].said
    assert "planning the mixture failed in the first process" in children[1].said


@dataclass(frozen=True)
class Works:
    """The first process works so long, with a sign of life every so often; all print the result."""

    seconds: float
    every_seconds: float

    def __call__(self, told):
        patience = told.options.patience_seconds
        processes = join_processes(timeout_seconds=patience)

        def work(alive):
            for _ in range(round(self.seconds / self.every_seconds)):
                time.sleep(self.every_seconds)
                alive()
            return b"a plan"

        done = compute_once(processes, work, patience_seconds=patience, what="the work")
        sys.stdout.write(f"{done}\n")
        leave_processes()


def test_gloo_waits_as_long_as_there_are_signs_of_work(nursery, tmp_path):
    told = Told(output=tmp_path, act=Works(6, 0.1)).but(patience_seconds=2)
    with killed_at_last(nursery.start(told, 2)) as children:
        assert [child.wait() for child in children] == [0, 0]
    assert [child.said for child in children] == ["b'a plan'\n"] * 2


def test_gloo_does_not_wait_for_work_that_hangs(nursery, tmp_path):
    told = Told(output=tmp_path, act=Works(80, 80)).but(patience_seconds=2)
    with killed_at_last(nursery.start(told, 2)) as children:
        assert all(child.wait(30) != 0 for child in children)
    assert "Timeout (0:00:02)!" in children[0].said


@pytest.mark.slow
def test_gloo_by_torchrun_end_to_end(tmp_path):
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--master-addr", "127.0.0.1", "--master-port", str(free_port())),
        *("-m", "onevision", "train", "language", "--output", str(tmp_path / "run")),
        *("--tokenizer", str(BUNDLED["tiny"] / "tokenizer.json")),
        *("--set", "num_samples=8", "--set", "global_batch=4", "--set", "save_steps=1"),
        *("--set", "sharing=shard", "--set", "optimizer=adamw", "--set", "max_tokens=1000"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "wrote " in done.stdout
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2]
    assert inspect(tmp_path / "run" / "checkpoint").config.language == TINY.language
