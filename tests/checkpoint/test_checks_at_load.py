"""What is compared before weights and words of a directory are trusted."""

import json
import time

import pytest
from safetensors.torch import load_file, save_file

from onevision import load
from onevision.checkpoint.checksums import CHECKSUMS, verifying
from onevision.checkpoint.files import StoredTensor
from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert, save
from onevision.errors import CheckpointError
from onevision.inputs.tokenizer import Tokenizer
from onevision.inputs.tokenizer_guard import try_tokenizer
from onevision.model.llava import LlavaNetwork
from tests.conftest import randomise

PRECOMPILED = {"type": "Precompiled", "precompiled_charsmap": "/////wAAAAA="}
EMPTY = {"type": "Replace", "pattern": {"String": ""}, "content": "x" * 1000}


@pytest.fixture
def ours(tmp_path, micro_config, tokenizer):
    save(randomise(LlavaNetwork(micro_config)), micro_config, tokenizer, tmp_path / "ours")
    return tmp_path / "ours"


def test_altered_weights_are_refused_unless_the_check_is_skipped(ours, tmp_path):
    tensors = load_file(ours / "model.safetensors")
    tensors["projector.layers.0.weight"] += 1e-3
    save_file(tensors, ours / "model.safetensors")
    message = rf"model\.safetensors: its bytes are not those of {CHECKSUMS}; .* verify=False"
    with pytest.raises(CheckpointError, match=message):
        load(ours)
    with pytest.raises(CheckpointError, match=message):
        convert(inspect(ours), tmp_path / "out", layout="llava-hf")
    assert not (tmp_path / "out").exists()
    load(ours, verify=False)
    (ours / CHECKSUMS).unlink()
    load(ours)


def test_weights_that_were_altered_are_refused_however_they_are_packed(ours):
    """Checksums are compared as layers are packed: the answer still waits for both."""
    path = ours / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1  # a last bit of the last tensor: finite, and of the same shape
    path.write_bytes(raw)
    for quantize in (None, "int8", "int4"):
        with pytest.raises(CheckpointError, match="its bytes are not those of"):
            load(ours, quantize=quantize)


def test_an_error_of_loading_does_not_wait_for_checksums(ours):
    with (ours / "model.safetensors").open("ab") as file:
        file.truncate(file.tell() + (4 << 30))  # sparse; hashing it takes seconds
    began = time.process_time()
    with pytest.raises(ZeroDivisionError), verifying(find_tensors_of(ours)):
        raise ZeroDivisionError
    assert time.process_time() - began < 0.5


def find_tensors_of(directory):
    return [StoredTensor(path=directory / "model.safetensors", name="x", shape=(1,), num_bytes=4,
                         dtype="F32")]  # fmt: skip


def test_checksums_of_another_kind_are_named(ours):
    (ours / CHECKSUMS).write_text(json.dumps({"format_version": 9, "sha256": {}}))
    with pytest.raises(CheckpointError, match=r"checksums\.json: not checksums of format_version"):
        load(ours)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"normalizer": PRECOMPILED}, ""),  # it aborts, or panics, by how much memory there is
        ({"normalizer": EMPTY}, "index out of bounds|the process"),
        ({"model": {"type": "WordPiece", "unk_token": "[X]", "vocab": {},
                    "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}}, "Missing"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_would_end_the_process_is_refused(ours, changes, reason):
    path = ours / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=rf"not a tokenizer definition \(.*({reason})"):
        Tokenizer.from_directory(ours)


def test_a_good_tokenizer_passes(tokenizer):
    try_tokenizer(json.dumps(json.loads(tokenizer.definition), indent=1), name="indented")
    with pytest.raises(CheckpointError, match=r"cut: not a tokenizer definition \("):
        try_tokenizer(tokenizer.definition[:-9], name="cut")
