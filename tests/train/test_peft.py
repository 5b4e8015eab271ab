"""Our adapter files, loaded by PEFT onto transformers' model."""

import pytest
import torch

from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect, load_network
from onevision.conversation import Image, Text, Video
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.train.lora.files import save_adapter
from onevision.train.lora.layers import LoraConfig, adapted_layers, add_lora
from tests.parity.test_transformers import build_theirs, their_arguments, user
from tests.train.test_lora import shake, train_projector

pytestmark = pytest.mark.filterwarnings("ignore")
peft = pytest.importorskip("peft")

PARTS = [("language_model",), ("vision_encoder",), ("language_model", "vision_encoder")]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("built")
    build_theirs().save_pretrained(path)
    (path / "tokenizer.json").write_bytes((BUNDLED["tiny"] / "tokenizer.json").read_bytes())
    return path


@pytest.fixture
def network(directory):
    return load_network(inspect(directory), dtype=torch.float32)


@pytest.fixture
def samples(directory, picture):
    """Inputs of a conversation of every kind, and how many images each has."""
    processor = Processor(inspect(directory).config.inputs, Tokenizer.from_directory(directory))
    talks = (
        (user(Image(picture(300, 200)), Text("What?")), [1]),
        (user(Image(picture(90, 90)), Image(picture(50, 80)), Text("Same?")), [2]),
        (user(Video([picture(40, 40, seed=s) for s in range(2)]), Text("What?")), []),
    )
    return [(processor(talk), count) for talk, count in talks]


@torch.no_grad()
def differences(theirs, network, samples):
    return [
        float((theirs(**their_arguments(inputs, count)).logits - network(inputs)).abs().max())
        for inputs, count in samples
    ]


@pytest.mark.parametrize("parts", PARTS, ids=["language", "vision", "both"])
def test_peft_reads_our_adapter(network, samples, tmp_path, parts):
    config = LoraConfig(rank=4, alpha=8, parts=parts)
    theirs = build_theirs()
    add_lora(network, config)
    shake(network)
    assert min(differences(theirs, network, samples)) > 1e-2
    save_adapter(network, config, tmp_path, base_model="base")
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path).eval()
    lora = [n for n, m in theirs.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    assert len(lora) == len(adapted_layers(network))
    assert max(differences(theirs, network, samples)) <= 1e-4


def test_peft_reads_projector_and_newline_beside_the_adapter(network, samples, tmp_path):
    config = LoraConfig(rank=4, alpha=8)
    add_lora(network, config)
    shake(network)
    train_projector(network)
    save_adapter(network, config, tmp_path, base_model="base")
    theirs = peft.PeftModel.from_pretrained(build_theirs(), tmp_path).eval()
    assert max(differences(theirs, network, samples)) <= 1e-4
