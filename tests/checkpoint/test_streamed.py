"""Checkpoints that are written tensor by tensor, beside what the library writes and reads."""

import json
import weakref

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from onevision.checkpoint import files
from onevision.checkpoint.files import find_tensors
from onevision.checkpoint.streamed.writer import write_streamed

TENSORS = {
    "b": torch.arange(6.0).view(2, 3),
    "a": torch.tensor([1.5, -2.0, 0.25], dtype=torch.bfloat16),
    "c.weight": torch.randn(7, 5, generator=torch.Generator().manual_seed(0)),
    "scalar": torch.tensor(3.0),
    "none": torch.zeros(0, 4),
    "half": torch.ones(1, 3, dtype=torch.float16),
    "turned": torch.arange(6.0).view(2, 3).T,
}


def without_memory():
    return {name: tensor.to("meta") for name, tensor in TENSORS.items()}


def test_the_library_reads_what_is_streamed(tmp_path):
    write_streamed(tmp_path, without_memory(), TENSORS.__getitem__)
    read = load_file(tmp_path / "model.safetensors")
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "pt"
    kept = {name: tensor.contiguous() for name, tensor in TENSORS.items()}
    save_file(kept, tmp_path / "theirs", {"format": "pt"})
    body = sum(tensor.nbytes for tensor in kept.values())
    ours = (tmp_path / "model.safetensors").read_bytes()[-body:]
    assert ours == (tmp_path / "theirs").read_bytes()[-body:]  # the same order, the same bytes


def test_files_are_divided_and_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_SHARD_BYTES", 100)
    write_streamed(tmp_path, without_memory(), TENSORS.__getitem__)
    names = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert names == [f"model-{n:05}-of-00003.safetensors" for n in (1, 2, 3)]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in TENSORS.values())
    found = find_tensors(tmp_path)
    assert {name: one.path.name for name, one in found.items()} == index["weight_map"]
    for name, tensor in TENSORS.items():
        assert torch.equal(found[name].read(), tensor)


def test_each_tensor_is_released_before_the_next_is_fetched(tmp_path):
    alive = []

    def fetch(name):
        assert not [one for one in alive if one() is not None]
        made = TENSORS[name].clone()
        alive.append(weakref.ref(made))
        return made

    write_streamed(tmp_path, without_memory(), fetch)
    assert len(alive) == len(TENSORS)


def test_what_fails_leaves_no_file(tmp_path):
    def fetch(name):
        if name == "half":
            raise OSError("gone")
        return TENSORS[name]

    with pytest.raises(OSError, match="gone"):
        write_streamed(tmp_path, without_memory(), fetch)
    assert not list(tmp_path.iterdir())


def test_rows_of_a_stored_tensor_are_read_alone(tmp_path):
    write_streamed(tmp_path, without_memory(), TENSORS.__getitem__)
    stored = find_tensors(tmp_path)["c.weight"]
    assert torch.equal(stored.read_rows(2, 3), TENSORS["c.weight"][2:5])
    assert stored.read_rows(6, 0).shape == (0, 5)
    part = find_tensors(tmp_path)["b"].rows(1, of=2)
    assert torch.equal(part.read_rows(0, 1), TENSORS["b"][1:])
