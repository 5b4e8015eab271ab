"""The true 0.5B shape with random weights: parity with transformers, and memory while loading."""

import subprocess
import sys

import pytest
import torch

from benchmarks.inference_peer import write_checkpoint
from onevision import Conversation, Image, Message, Text, load
from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert
from onevision.known_models import ONEVISION_0_5B

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
transformers = pytest.importorskip("transformers")

MEASURE = """
import sys, torch
from onevision.checkpoint.load import inspect, load_network
from onevision.train.report.metrics import peak_resident_bytes
torch.ones(2, 2) @ torch.ones(2, 2)
before = peak_resident_bytes()
network = load_network(inspect(__import__("pathlib").Path(sys.argv[1])), dtype=torch.bfloat16)
touched = sum(float(p.detach().flatten()[::512].float().sum()) for p in network.parameters())
print(peak_resident_bytes() - before)
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A llava-hf checkpoint of the released 0.5B shape, bf16, as transformers writes it."""
    path = tmp_path_factory.mktemp("released")
    write_checkpoint(path)
    return path


def test_the_shape_is_recognised(directory):
    info = inspect(directory)
    assert info.layout == "llava-hf"
    assert len(info.tensors) == 716
    assert info.config.vision == ONEVISION_0_5B.vision
    assert info.config.inputs == ONEVISION_0_5B.inputs
    assert info.config.language.vocab_size == 152000


def test_loading_holds_no_second_copy(directory):
    size = (directory / "model.safetensors").stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(directory)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 1.15 * size


@torch.inference_mode()
def test_logits_and_greedy_text_are_theirs(directory, picture):
    theirs = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(
        directory, dtype=torch.float32
    ).eval()
    ours = load(directory, dtype="float32")
    talk = Conversation([Message("user", [Image(picture(300, 384)), Text("What is this?")])])
    inputs = ours.processor(talk)
    arguments = {
        "input_ids": inputs.input_ids,
        "attention_mask": inputs.attention_mask.long(),
        "pixel_values": inputs.pixel_values[None],
        "image_sizes": torch.tensor([[384, 300]]),
        "batch_num_images": torch.tensor([1]),
    }
    expected = theirs(**arguments).logits
    found = ours.network(inputs)
    assert expected.std() > 0.05
    assert (found - expected).abs().max() <= 1e-4 * max(1.0, float(expected.abs().max()))
    ids = theirs.generate(**arguments, max_new_tokens=5, do_sample=False, eos_token_id=None)
    reply = ours.ask(talk, max_new_tokens=5, end_ids=())
    answer = ids[0, inputs.input_ids.shape[1] :].tolist()
    assert reply.text == ours.processor.tokenizer.decode(answer).strip()


def test_there_and_back_is_bit_equal(directory, tmp_path):
    convert(inspect(directory), tmp_path / "a", layout="lmms-lab")
    convert(inspect(tmp_path / "a"), tmp_path / "b", layout="llava-hf")
    before, after = inspect(directory), inspect(tmp_path / "b")
    assert before.tensors.keys() == after.tensors.keys()
    for name, tensor in before.tensors.items():
        assert torch.equal(tensor.read(), after.tensors[name].read())
