"""A checkpoint whose language model lies in an installed package: loaded whole, or refused."""

import json
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from onevision.checkpoint.files import save_tensors
from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.parts.gguf_file import read_gguf
from onevision.config import ConvNetConfig, ModelConfig
from onevision.conv_config import ConvStage
from onevision.errors import CheckpointError
from onevision.generate.answer import load
from onevision.known_small import SMALL
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.files import save_adapter
from onevision.train.lora.layers import LoraConfig, add_lora, lora_parameters, merge

sys.path.append(str(Path(__file__).parents[2] / "runs"))
from small_part import PackagedModel, write_part

STAGES = (ConvStage(num_blocks=1, kernel_size=3, stride=2, expansion=1, width=8),)


def small(language):
    rules = {"crop_size": 28, "patch_size": 4}
    inputs = replace(
        SMALL.inputs,
        image=replace(SMALL.inputs.image, **rules),
        multi_image=replace(SMALL.inputs.multi_image, **rules),
        video=replace(SMALL.inputs.video, **rules),
    )
    vision = ConvNetConfig(image_size=28, stem_width=4, stages=STAGES)
    return ModelConfig(vision=vision, language=language, inputs=inputs)


@pytest.fixture
def package(written, tmp_path, monkeypatch):
    """An installed package that holds the GGUF file, as pip leaves one."""
    site, (path, _) = tmp_path / "site", written
    (site / "llm_toy").mkdir(parents=True)
    (site / "llm_toy" / "toy.gguf").write_bytes(path.read_bytes())
    (site / "llm_toy-1.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: llm-toy\nVersion: 1.0\n"
    (site / "llm_toy-1.0.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(str(site))
    return PackagedModel(
        package="llm-toy",
        version="1.0",
        file="llm_toy/toy.gguf",
        sha256=sha256(path.read_bytes()).hexdigest(),
        install="pip install llm-toy",
    )


@pytest.fixture
def trained(written, package, tmp_path):
    """A part as a run leaves it, and the merged network that the run ended with."""
    language = read_gguf(written[0])
    config = small(language.language)
    network = LlavaNetwork(config).bfloat16().float()
    tensors = {name: stored.read() for name, stored in language.tensors.items()}
    network.load_state_dict(tensors, strict=False)
    lora = LoraConfig(rank=2, alpha=4.0, parts=("language_model",))
    add_lora(network, lora)
    for parameter in lora_parameters(network):
        torch.nn.init.normal_(parameter, std=0.1)
    run = tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    network.projector.requires_grad_(True)
    save_adapter(network, lora, run / "adapter", base_model="align")
    merge(network)
    (run / "checkpoint").mkdir()
    kept = {k: v for k, v in network.state_dict().items() if k != "language_model.head.weight"}
    save_tensors({k: v.clone() for k, v in kept.items()}, run / "checkpoint" / "model.safetensors")
    (run / "checkpoint" / "config.json").write_text(config.to_json())
    (run / "checkpoint" / "tokenizer.json").write_text(language.tokenizer)
    (run / "checkpoint" / "generation_config.json").write_text('{"eos_token_id": [0]}')
    (run / "checkpoint" / "training.json").write_text("{}")
    write_part(run, tmp_path / "part", package)
    return tmp_path / "part", network


def test_package_part_and_adapters_are_the_trained_network(trained):
    part, network = trained
    held = sum(path.stat().st_size for path in part.rglob("*.safetensors"))
    whole = sum(tensor.nbytes for tensor in network.state_dict().values())
    assert held < whole / 4
    info = inspect(part)
    assert info.layout == "onevision"
    loaded = load_network(info, dtype=torch.float32)
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, network.state_dict()[name], atol=0.03, rtol=0.01)


def test_it_answers_about_pictures(trained):
    model = load(trained[0])
    reply = model.ask("ab", images=[torch.zeros(28, 28, 3, dtype=torch.uint8)], max_new_tokens=3)
    assert reply.usage.image_tokens == 49 + 56
    assert reply.usage.completion_tokens <= 3


def test_without_the_package_one_line_says_what_to_install(trained):
    part, _ = trained
    described = json.loads((part / "language_model.json").read_text())
    described["package"] = "llm-not-there"
    (part / "language_model.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"llm-not-there 1\.0, which is not installed: pip "):
        load(part)


def test_another_file_under_the_name_is_refused(trained):
    part, _ = trained
    described = json.loads((part / "language_model.json").read_text())
    described["sha256"] = "0" * 64
    (part / "language_model.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"its SHA-256 is \w{12}\.\.\., expected 0{12}"):
        load(part)
