"""A place that forks training runs, a mixture, a small checkpoint and a user's pictures."""

import json
from dataclasses import replace

import pytest
import torch

from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.save import save
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from tests.data.conftest import mixture_file, record, write_clip  # noqa: F401
from tests.train.runs import MICRO, SHORT, Nursery, Told


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


@pytest.fixture(scope="module")
def mixture(tmp_path_factory, picture):
    """12 records of one image, 6 of two, 4 videos, 8 texts; returns the YAML's path."""
    place = tmp_path_factory.mktemp("mixture")
    for number in range(8):
        picture(40 + 19 * number, 50, seed=number).save(place / f"{number}.png")
    write_clip(place / "clip.mp4", frames=9)
    pair = "<image>\nand\n<image>\nsame?"
    sets = {
        "singles": [record(n, image=f"{n % 8}.png") for n in range(12)],
        "pairs": [record(n, question=pair, image=[f"{n}.png", f"{n + 1}.png"]) for n in range(6)],
        "videos": [record(n, question="<video>\nWhat?", video="clip.mp4") for n in range(4)],
        "texts": [record(n, question="Say " + "so " * n) for n in range(8)],
    }
    for name, records in sets.items():
        (place / f"{name}.json").write_text(json.dumps(records))
    path = place / "mixture.yaml"
    path.write_text("datasets:\n" + "".join(f"  - json_path: {name}.json\n" for name in sets))
    return path


@pytest.fixture(scope="module")
def alone(nursery, tmp_path_factory, mixture):
    """One process's two steps on packs of images, pairs, videos and text, with held-out samples."""
    stage = replace(
        SHORT.learning_from(str(mixture)),
        resolution="target",
        global_batch=13,
        max_grad_norm=1e9,
    )
    told = Told(output=tmp_path_factory.mktemp("alone"), stage=stage)
    told = told.but(num_workers=0, save_steps=1, keep=9, held_out="0.15", held_out_steps=1)
    nursery.train(told)
    return told
