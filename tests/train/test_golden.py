"""The first losses of a fixed run stay what they were.

`python -m tests.train.test_golden` records them anew, after a change that is meant to move them.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train.runs import SHORT, Nursery, Told, loss_values

GOLDEN = Path(__file__).parent / "golden" / "losses.json"
TWENTY_STEPS = replace(SHORT, num_samples=80)


def circumstances():
    """Return what the last bits of a loss may depend on."""
    return {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": 1,
    }


@pytest.fixture(scope="module")
def now(nursery, tmp_path_factory):
    told = Told(output=tmp_path_factory.mktemp("golden"), stage=TWENTY_STEPS)
    nursery.train(told)
    return loss_values(told.output)


@pytest.fixture(scope="module")
def recorded():
    return json.loads(GOLDEN.read_text())


def test_golden_losses_are_near_the_recorded_ones(now, recorded):
    assert now == pytest.approx([float.fromhex(loss) for loss in recorded["losses"]], rel=1e-4)


def test_golden_losses_are_the_recorded_ones_to_the_bit(now, recorded):
    if recorded["circumstances"] != circumstances():
        pytest.skip("another CPU or another version of torch")
    assert [loss.hex() for loss in now] == recorded["losses"]


def record():
    """Write the golden file."""
    with tempfile.TemporaryDirectory() as directory:
        told = Told(output=Path(directory) / "run", stage=TWENTY_STEPS)
        with Nursery(logs=Path(directory)) as nursery:
            nursery.train(told)
        found = [loss.hex() for loss in loss_values(told.output)]
    content = {"circumstances": circumstances(), "losses": found}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    record()
