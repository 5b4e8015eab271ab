"""LLaVA-Video's checkpoints: time instruction, SlowFast and its learned token."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from onevision import Conversation, Message, Text, Video, load
from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert, save
from onevision.config import ModelConfig
from onevision.errors import CheckpointError, ConfigError
from onevision.model.llava import LlavaNetwork
from tests.conftest import randomise


def with_video(config: ModelConfig, **values) -> ModelConfig:
    video = replace(config.inputs.video, newline="grid", time_instruction=True, **values)
    return replace(config, inputs=replace(config.inputs, video=video))


@pytest.fixture
def slow_fast(tmp_path, micro_config, tokenizer):
    config = with_video(micro_config, slow_every=2)
    network = randomise(LlavaNetwork(config))
    save(network, config, tokenizer, tmp_path / "ours", dtype=torch.float32)
    return tmp_path / "ours"


def test_there_and_back_is_bit_equal(slow_fast, tmp_path):
    convert(inspect(slow_fast), tmp_path / "a", layout="lmms-lab")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (config["add_time_instruction"], config["force_sample"]) == (True, True)
    assert (config["add_faster_video"], config["faster_token_stride"]) == (True, 2)
    assert "model.faster_token" in load_file(tmp_path / "a" / "model.safetensors")
    convert(inspect(tmp_path / "a"), tmp_path / "b", layout="onevision")
    before, after = inspect(slow_fast), inspect(tmp_path / "b")
    assert before.config == after.config
    assert before.tensors.keys() == after.tensors.keys()
    assert all(torch.equal(t.read(), after.tensors[n].read()) for n, t in before.tensors.items())


def test_a_video_is_answered(slow_fast, picture):
    model = load(slow_fast, dtype="float32")
    frames = [picture(50, 40, seed=number) for number in range(3)]
    talk = Conversation([Message("user", [Video(frames), Text("What?")])])
    reply = model.ask(talk, max_new_tokens=2, end_ids=())
    assert reply.usage.video_tokens == 2 * (2 * 3 + 1) + (1 * 2 + 1)
    inputs = model.processor(talk)
    visual = model.network.encode(inputs.pixel_values, inputs.layouts)
    assert (visual == model.network.faster_token).all(1).nonzero()[:, 0].tolist() == [6, 9, 16]


def test_a_released_config_is_read(slow_fast, tmp_path):
    """The keys of LLaVA-Video-7B-Qwen2: a stride, but no fast frames."""
    convert(inspect(slow_fast), tmp_path / "a", layout="lmms-lab")
    path, weights = tmp_path / "a" / "config.json", tmp_path / "a" / "model.safetensors"
    values = json.loads(path.read_text()) | {"add_faster_video": False, "faster_token_stride": 10}
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="faster_token"):  # a tensor that nothing would use
        load(tmp_path / "a", dtype="float32")
    tensors = load_file(weights)
    del tensors["model.faster_token"]
    save_file(tensors, weights, {"format": "pt"})
    rule = inspect(tmp_path / "a").config.inputs.video
    assert (rule.newline, rule.time_instruction, rule.slow_every) == ("grid", True, None)
    path.write_text(json.dumps(values | {"add_time_instruction": "yes"}))
    with pytest.raises(CheckpointError, match="add_time_instruction is yes; expected true or"):
        inspect(tmp_path / "a")


def test_a_damaged_faster_token_is_refused(slow_fast):
    tensors = load_file(slow_fast / "model.safetensors")
    tensors["faster_token"] = torch.zeros(5)
    save_file(tensors, slow_fast / "model.safetensors")
    (slow_fast / "checksums.json").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="faster_token is"):
        load(slow_fast, verify=False)


def test_what_cannot_be_written_or_exist_is_said(slow_fast, tmp_path, micro_config):
    with pytest.raises(CheckpointError, match="write it as lmms-lab or onevision"):
        convert(inspect(slow_fast), tmp_path / "a", layout="llava-hf")
    with pytest.raises(ConfigError, match="slow_every without an image_newline"):
        replace(with_video(micro_config, slow_every=2), image_newline=False)
