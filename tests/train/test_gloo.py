"""Several processes train as one."""

import subprocess
import sys
from dataclasses import replace

import pytest

from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect
from onevision.known_models import TINY
from tests.train.runs import SHORT, Told, free_port, lines, loss_values

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


def test_gloo_by_torchrun_end_to_end(tmp_path):
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--master-addr", "127.0.0.1", "--master-port", str(free_port())),
        *("-m", "onevision", "train", "language", "--output", str(tmp_path / "run")),
        *("--tokenizer", str(BUNDLED["tiny"] / "tokenizer.json")),
        *("--set", "num_samples=8", "--set", "global_batch=4", "--set", "save_steps=1"),
        *("--set", "sharing=shard", "--set", "max_tokens=1000"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "wrote " in done.stdout
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2]
    assert inspect(tmp_path / "run" / "checkpoint").config.language == TINY.language
