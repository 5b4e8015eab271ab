"""A place that forks training runs, a mixture, a small checkpoint and a user's pictures."""

import json

import pytest
import torch

from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.save import save
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from tests.data.conftest import mixture_file, record  # noqa: F401
from tests.train.runs import MICRO, Nursery


@pytest.fixture(scope="session")
def nursery(tmp_path_factory):
    """Forks short runs; none outlives the session."""
    logs = tmp_path_factory.mktemp("logs")
    with Nursery(logs=logs) as nursery:
        yield nursery


@pytest.fixture
def small(tmp_path):
    """A whole checkpoint of toy widths, with the tokenizer of tiny."""
    return write_checkpoint(tmp_path / "small", MICRO)


def write_checkpoint(directory, config, *, dtype=None, std=0.02):
    """Write random weights; returns the directory."""
    torch.manual_seed(0)
    network = LlavaNetwork(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std)
    save(network, config, Tokenizer.from_directory(BUNDLED["tiny"]), directory, dtype=dtype)
    return directory


@pytest.fixture
def pictures(tmp_path, picture):
    """Writes a data file of so many one-picture records, changed by `spoil`."""

    def write(count, spoil=lambda records: None):
        for number in range(count):
            picture(40 + number, 50, seed=number).save(tmp_path / f"{number}.png")
        records = [record(n, image=f"{n}.png") for n in range(count)]
        spoil(records)
        (tmp_path / "mine.json").write_text(json.dumps(records))
        return tmp_path / "mine.json"

    return write
