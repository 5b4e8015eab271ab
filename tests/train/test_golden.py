"""The first losses of a fixed run stay what they were.

`python -m tests.train.test_golden` records those of this kind of processor. After a change that is
meant to move them, empty the list in the file first.
"""

import json
import platform
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train.runs import SHORT, Nursery, Told, loss_values

GOLDEN = Path(__file__).parent / "golden" / "losses.json"
TWENTY_STEPS = replace(SHORT, num_samples=80)


def circumstances():
    """Returns what the last bits of a loss may depend on."""
    return {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "vendor": vendor(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "torch": torch.__version__,
        "threads": 1,
    }


def vendor():
    """Returns who made the processor: matrix products are compiled for each maker separately."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"^vendor_id\s*:\s*(\S+)", text, re.MULTILINE)
    return found[1] if found else platform.machine()


@pytest.fixture(scope="module")
def now(nursery, tmp_path_factory):
    told = Told(output=tmp_path_factory.mktemp("golden"), stage=TWENTY_STEPS)
    nursery.train(told)
    return loss_values(told.output)


@pytest.fixture(scope="module")
def recordings():
    return json.loads(GOLDEN.read_text())


def test_golden_losses_are_near_the_recorded_ones(now, recordings):
    for recording in recordings:
        losses = [float.fromhex(loss) for loss in recording["losses"]]
        assert now == pytest.approx(losses, rel=1e-4)


def test_golden_losses_are_the_recorded_ones_to_the_bit(now, recordings):
    mine = [one["losses"] for one in recordings if one["circumstances"] == circumstances()]
    if not mine:
        pytest.skip("another kind of processor or another version of torch")
    assert [loss.hex() for loss in now] == mine[0]


def record():
    """Adds the losses of this kind of processor to the golden file, or replaces them."""
    with tempfile.TemporaryDirectory() as directory:
        told = Told(output=Path(directory) / "run", stage=TWENTY_STEPS)
        with Nursery(logs=Path(directory)) as nursery:
            nursery.train(told)
        found = [loss.hex() for loss in loss_values(told.output)]
    others = [
        one for one in json.loads(GOLDEN.read_text()) if one["circumstances"] != circumstances()
    ]
    content = [*others, {"circumstances": circumstances(), "losses": found}]
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    record()
