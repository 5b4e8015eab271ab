"""LLaVA-Video's stage from a single-image model: its own video rule, times, SlowFast's token."""

import json
from dataclasses import replace

import pytest
import torch

from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import save
from onevision.known_models import ARCHITECTURES
from onevision.model.llava import LlavaNetwork
from onevision.train.config import TrainConfig
from onevision.train.run import run_stage
from onevision.train.stages import stage_named
from onevision.train.start import Starts
from onevision.train.target import choose_model, choose_target
from tests.cli.conftest import run as command
from tests.data.conftest import write_clip
from tests.train.runs import MICRO, OPTIONS

VIDEO = stage_named("video", "llava-video-7b")


@pytest.fixture
def start(tmp_path, tokenizer):
    save(LlavaNetwork(MICRO), MICRO, tokenizer, tmp_path / "start")
    return tmp_path / "start"


@pytest.fixture
def clips(tmp_path):
    write_clip(tmp_path / "clip.mp4", frames=8)
    talk = [{"from": "human", "value": "<video>\nWhat moves?"}, {"from": "gpt", "value": "a ring"}]
    rows = [{"id": str(n), "video": "clip.mp4", "conversations": talk} for n in range(4)]
    (tmp_path / "clips.json").write_text(json.dumps(rows))
    return tmp_path / "clips.json"


def test_the_stage_brings_its_own_video_rule(start, clips, tmp_path):
    told = ["--model", "llava-video-7b", "--from", start, "--mixture", clips]
    few = ["--set", "global_batch=4", "--set", "max_tokens=1024", "--set", "num_frames=4"]
    done = command("train", "video", *told, *few, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    config = inspect(tmp_path / "out" / "checkpoint").config
    rule = config.inputs.video
    assert (rule.newline, rule.time_instruction, rule.slow_every) == ("grid", True, None)
    assert replace(config, inputs=replace(config.inputs, video=MICRO.inputs.video)) == MICRO


def test_slow_fast_begins_with_a_token_of_its_own(start, clips, tmp_path, tokenizer):
    video = replace(MICRO.inputs.video, newline="grid", time_instruction=True, slow_every=2)
    target = replace(MICRO, inputs=replace(MICRO.inputs, video=video))
    stage = replace(VIDEO.learning_from(str(clips)), global_batch=4, max_tokens=1024, num_frames=4)
    rate = replace(stage, learning_rate=1e-3, warmup=0.0, epochs=3)
    config = TrainConfig(stage=rate, target=target, options=replace(OPTIONS, num_workers=0))
    starts = Starts(previous=(start,))
    result = run_stage(config, tokenizer=tokenizer, starts=starts, output=tmp_path / "out")
    after = inspect(result.checkpoint)
    assert after.config == target
    begun = inspect(start).tensors
    assert "faster_token" in after.tensors.keys() - begun.keys()
    assert not torch.equal(after.tensors["image_newline"].read(), begun["image_newline"].read())


def test_a_checkpoint_says_which_of_the_models_alike_it_is(tmp_path, tokenizer, monkeypatch):
    """OneVision, LLaVA-Video and LLaVA-Critic have the same sizes: the stage and videos decide."""
    grid = ARCHITECTURES["llava-video-7b"].inputs.video
    known = {
        "7b": MICRO,
        "llava-critic-7b": MICRO,
        "llava-video-7b": replace(MICRO, inputs=replace(MICRO.inputs, video=replace(
            grid, crop_size=56))),
    }  # fmt: skip
    monkeypatch.setattr("onevision.train.target.ARCHITECTURES", known)
    paths = {}
    for name, config in known.items():
        save(LlavaNetwork(config), config, tokenizer, tmp_path / name)
        paths[name] = (tmp_path / name,)
    assert choose_model(paths["7b"]) == "7b"
    assert choose_model(paths["llava-video-7b"]) == "llava-video-7b"
    assert choose_model(paths["7b"], stage="critic") == "llava-critic-7b"
    assert choose_model(paths["7b"], stage="video") == "llava-video-7b"
    target = choose_target(VIDEO, known["llava-video-7b"], Starts(previous=paths["7b"]))
    assert target == known["llava-video-7b"]
