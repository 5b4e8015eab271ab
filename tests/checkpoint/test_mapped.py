"""Tensors that are mapped from their place in a file are those that safetensors reads."""

import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from onevision.checkpoint.files import list_tensors
from onevision.errors import CheckpointError

KINDS = {
    "double": torch.float64,
    "single": torch.float32,
    "half": torch.float16,
    "brain": torch.bfloat16,
    "long": torch.int64,
    "int": torch.int32,
    "byte": torch.int8,
}


@pytest.fixture
def path(tmp_path):
    tensors = {name: (torch.randn(3, 700) * 50).to(kind) for name, kind in KINDS.items()}
    tensors |= {"one": torch.tensor(2.5), "none": torch.zeros(0, 4)}
    save_file(tensors, tmp_path / "some.safetensors", {"format": "pt"})
    return tmp_path / "some.safetensors"


def test_every_type_is_read_as_safetensors_reads_it(path):
    expected = load_file(path)
    found = {name: stored.read() for name, stored in list_tensors([path]).items()}
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name


def test_what_is_written_to_a_tensor_does_not_reach_its_file(path):
    before = path.read_bytes()
    list_tensors([path])["single"].read().zero_()
    assert path.read_bytes() == before


def test_numbers_that_are_not_aligned_are_read(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = raw[8 : 8 + length] + b" "  # one more byte, after which nothing is aligned
    path.write_bytes(struct.pack("<Q", length + 1) + header + raw[8 + length :])
    for name, stored in list_tensors([path]).items():
        assert torch.equal(stored.read(), load_file(path)[name]), name


def test_a_file_that_has_become_shorter_is_one_clear_line(path):
    stored = max(list_tensors([path]).values(), key=lambda one: one.first_byte or 0)
    with path.open("rb+") as file:
        file.truncate(stored.first_byte + 1)
    with pytest.raises(
        CheckpointError, match=rf"some\.safetensors: tensor {stored.name} cannot be"
    ):
        stored.read()
