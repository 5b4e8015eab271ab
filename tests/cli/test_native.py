"""OneVision-1.5 through every door: a random checkpoint in its own layout."""

import json
from dataclasses import replace

import httpx2
import pytest
import torch
from PIL import Image as PIL

from onevision import Conversation, Image, Message, Text, load
from onevision.accelerate.fused import FusedVisionAttention
from onevision.anyres import plan
from onevision.inputs.processor import Processor
from onevision.known_native import ONEVISION_1_5_4B
from onevision.native import Native
from tests.cli.invoke import fail, invoke
from tests.native import MEMBERS, NATIVE, RULE, native_tokenizer, write_native
from tests.serve.conftest import (
    CHAT,
    CLIP,
    encoded,
    image_part,
    start,
    stop,
    text_part,
    user,
    video_part,
)
from tests.train.test_finetune import write_tiles

QUESTION = "What is this?"
NO_KEEP = "keep=0.5, but this model reads pictures at native resolution"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_native(tmp_path_factory.mktemp("native"))


@pytest.fixture
def image(tmp_path, picture):
    picture(300, 200).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def ask(checkpoint, *media):
    options = [text for path in media for text in ("-v" if path.suffix == ".mp4" else "-i", path)]
    told = invoke(
        *("ask", QUESTION, *options, "--model", checkpoint, "--dtype", "float32"),
        *("--max-new-tokens", 6, "--json"),
    )
    return json.loads(told)


def test_ask_about_a_picture_several_and_a_video(checkpoint, image, tmp_path):
    tokens = plan(width=300, height=200, rule=RULE).num_tokens
    assert ask(checkpoint, image)["usage"]["image_tokens"] == tokens
    assert ask(checkpoint, image, image)["usage"]["image_tokens"] == 2 * tokens
    (tmp_path / "clip.mp4").write_bytes(CLIP)
    assert ask(checkpoint, tmp_path / "clip.mp4")["usage"]["video_tokens"] > 0


@pytest.mark.slow
def test_served_and_in_a_batch_it_answers_as_asked(checkpoint, picture, tmp_path):
    pixels = encoded(picture(300, 200))
    (tmp_path / "a.png").write_bytes(pixels)
    expected = ask(checkpoint, tmp_path / "a.png")["text"]
    messages = user(image_part(pixels), text_part(QUESTION))
    body = {"model": "mine", "messages": messages, "max_tokens": 6, "temperature": 0}
    options = ("--model", str(checkpoint), "--dtype", "float32", "--name", "mine")
    running = start(tmp_path, *options)
    try:
        with httpx2.Client(base_url=running.url, timeout=120) as http:
            served = http.post(CHAT, json=body).json()
            seen = http.post(CHAT, json=body | {"messages": user(video_part(), text_part())})
            fewer = http.post(CHAT, json=body | {"keep": 0.5})
    finally:
        assert stop(running) == 0
    assert served["choices"][0]["message"]["content"].strip() == expected
    assert seen.status_code == 200
    assert (fewer.status_code, NO_KEEP in fewer.json()["error"]["message"]) == (400, True)
    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": body}
    lines = [line, line | {"custom_id": "b", "body": body | {"keep": 0.5}}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    invoke("batch", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", *options)
    written = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    answered, refused = sorted(written, key=lambda one: one["custom_id"])
    message = answered["response"]["body"]["choices"][0]["message"]
    assert message["content"].strip() == expected
    assert NO_KEEP in json.dumps(refused)


def test_explain_draws_cells(checkpoint, image, tmp_path):
    said = invoke("explain", image, "--model", checkpoint, "-o", tmp_path / "drawn.png")
    assert "300 x 200 pixels, resized to 308 x 196: 11 x 7 cells of 2 x 2 patches" in said
    assert "77 visual tokens from 77 cells" in said
    with PIL.open(tmp_path / "drawn.png") as drawn:
        assert drawn.width > 500
    (tmp_path / "clip.mp4").write_bytes(CLIP)
    said = invoke("explain", tmp_path / "clip.mp4", "-m", checkpoint, "-o", tmp_path / "film.png")
    assert "cells of 2 x 2 patches, a token each" in said
    with PIL.open(tmp_path / "film.png") as drawn:
        assert drawn.width > 500


def test_explain_of_the_released_sizes():
    """The table of docs/native.md."""
    for size, tokens in (("336x336", 144), ("640x480", 391), ("1920x1080", 2691)):
        told = json.loads(invoke("explain", "--size", size, "-m", "onevision-1.5-4b", "--json"))
        assert told[0]["num_tokens"] == tokens
    assert ONEVISION_1_5_4B.language.head_size == 128


def test_models_lists_every_size():
    said = invoke("models")
    for size in ("2b", "3b", "4b", "8b"):
        assert f"onevision-1.5-{size}\n" in said
    assert "336 x 336 144, 640 x 480 391, 1920 x 1080 2,691" in said


@pytest.mark.parametrize("stage", ["align", "mid", "instruct"])
def test_plan_of_the_published_stages(stage, tmp_path):
    said = invoke("train", stage, "-o", tmp_path, "--model", "onevision-1.5-4b", "--plan")
    assert "vision_encoder" in said


def test_finetune_learns_and_the_result_answers(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = write_tiles(tmp_path / "tiles", 12)
    settings = ("--set", "precision=fp32", "--set", "learning_rate=1e-3")
    invoke("finetune", data, "--from", checkpoint, "--epochs", 1, "-o", tmp_path / "run", *settings)
    weights = tmp_path / "run" / "checkpoint"
    config = json.loads((weights / "config.json").read_text())
    assert config["inputs"]["image"]["rule"] == "Native"
    assert ask(weights, tmp_path / "tiles" / "0.png")["finish_reason"] in ("stop", "length")
    invoke("convert", weights, tmp_path / "hf", "--layout", "onevision-1.5", "--self-check")


def test_eval_of_own_records(checkpoint, tmp_path):
    data = write_tiles(tmp_path / "tiles", 3)
    output = tmp_path / "scores"
    invoke("eval", "--data", data, "--model", checkpoint, "--output", output)
    assert list(output.rglob("results.json"))


def test_layouts_without_native_resolution_are_refused_by_name(checkpoint, tmp_path):
    said = fail("convert", checkpoint, tmp_path / "new", "--layout", "llava-hf")
    assert "native resolution; write this one as onevision-1.5 or onevision" in said


def test_a_picture_that_is_too_elongated_is_refused(checkpoint, tmp_path):
    PIL.new("RGB", (3000, 10)).save(tmp_path / "thin.png")
    said = fail("ask", QUESTION, "-i", tmp_path / "thin.png", "--model", checkpoint)
    assert "a long side of at most 200 short ones" in said


def test_keep_is_refused_by_name(checkpoint, image, tmp_path):
    given = "--model", checkpoint, "--keep", 0.5
    assert NO_KEEP in fail("ask", QUESTION, "-i", image, *given)
    assert NO_KEEP in fail("explain", image, *given)
    assert NO_KEEP in fail("explain", "--size", "640x480", *given)
    data = write_tiles(tmp_path / "tiles", 3)
    assert NO_KEEP in fail("eval", "--data", data, *given, "--output", tmp_path / "scores")


@pytest.mark.parametrize("layout", MEMBERS)
def test_in_8_bit_integers_it_sees_nearly_the_same(layout, image, tmp_path):
    checkpoint = write_native(tmp_path, layout=layout)
    exact, rough = (load(checkpoint, dtype="float32", quantize=kind) for kind in (None, "int8"))
    assert isinstance(rough.network.vision_encoder.blocks[0].attention, FusedVisionAttention)
    talk = Conversation([Message("user", [Image(str(image)), Text(QUESTION)])])
    inputs = exact.processor(talk)
    with torch.inference_mode():
        seen, nearly = (
            model.network.encode(inputs.pixel_values, inputs.layouts) for model in (exact, rough)
        )
    assert 0 < (seen - nearly).norm() / seen.norm() < 0.05
    told = invoke(
        *("ask", QUESTION, "-i", image, "--model", checkpoint, "--quantize", "int8", "--json")
    )
    assert json.loads(told)["arithmetic"].startswith("int8")


def test_low_detail_means_256_tokens():
    rule = Native()
    config = replace(NATIVE.inputs, image=rule, multi_image=rule)
    picture = PIL.new("RGB", (1000, 1000))
    media = [Image(picture, detail="low"), Image(picture)]
    inputs = Processor(config, native_tokenizer())(Conversation([Message("user", media)]))
    low, whole = (layout.num_tokens for layout in inputs.layouts)
    assert (low, whole) == (256, 36**2)


def test_kept_features_are_refused_by_name(checkpoint, tmp_path):
    data = write_tiles(tmp_path / "tiles", 12)
    settings = "--set", f"features={tmp_path / 'kept'}", "--set", "trainable=projector"
    said = fail("finetune", data, "--from", checkpoint, "-o", tmp_path / "run", *settings)
    assert "this model's encoder sees pictures whole; leave out `features`" in said
