"""OneVision-2 through every door: a random checkpoint in its own layout."""

import json

import httpx2
import pytest
from PIL import Image as PIL

from onevision import Conversation, Message, Text, Video, load
from onevision.anyres import plan
from onevision.errors import InputError
from onevision.inputs.tokenizer import VISION_START
from onevision.inputs.video import choose_frames
from onevision.known_models import ARCHITECTURES
from tests.cli.invoke import fail, invoke
from tests.native import RULE, native_tokenizer, write_native
from tests.serve.conftest import CHAT, CLIP, start, stop, text_part, user, video_part
from tests.train.test_finetune import write_tiles

QUESTION = "What is this?"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_native(tmp_path_factory.mktemp("native"), layout="onevision-2")


@pytest.fixture
def clip(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(CLIP)
    return tmp_path / "clip.mp4"


def ask(checkpoint, *options):
    given = "--model", checkpoint, "--dtype", "float32", "--max-new-tokens", 6, "--json"
    return json.loads(invoke("ask", QUESTION, *options, *given))


def test_ask_about_a_picture_several_and_a_video(checkpoint, picture, clip, tmp_path):
    picture(300, 200).save(tmp_path / "a.png")
    tokens = plan(width=300, height=200, rule=RULE).num_tokens
    one, image = ask(checkpoint, "-i", tmp_path / "a.png"), ("-i", tmp_path / "a.png")
    assert one["usage"]["image_tokens"] == tokens
    assert ask(checkpoint, *image, *image)["usage"]["image_tokens"] == 2 * tokens
    film = ask(checkpoint, "-v", clip, "--num-frames", 3)
    assert film["usage"]["video_tokens"] > 0
    # Each frame has marks and a time of its own, which are text.
    assert film["usage"]["text_tokens"] > one["usage"]["text_tokens"] + 2 * 3


def test_a_prompt_tells_when_each_frame_is_shown(checkpoint, clip):
    model = load(checkpoint, dtype="float32")
    video = Video(str(clip), num_frames=3)
    inputs = model.processor(Conversation([Message("user", [video, Text(QUESTION)])]))
    choice, tokenizer = choose_frames(video), native_tokenizer()
    assert choice.seconds is not None
    assert inputs.layouts[0].numbers == tuple(choice.indices)
    ids, marks = inputs.input_ids[0].tolist(), tokenizer.id_of(VISION_START)
    words = tokenizer.decode([i for i in ids if i < 4096])
    for seconds in choice.seconds:
        assert f"<{seconds:.1f} seconds>" in words
    assert ids.count(marks) == 3


def test_samplers_choose_frames_by_name(checkpoint, clip):
    chosen = {
        name: choose_frames(Video(str(clip), num_frames=32, sampler=name)).indices
        for name in ("even", "processor", "vllm", "lmms_eval")
    }
    assert len(chosen["processor"]) == 8  # of less than 10 s
    assert chosen["vllm"] == chosen["lmms_eval"]
    assert len(chosen["vllm"]) == 4
    said = invoke("explain", clip, "-m", checkpoint, "--sampler", "vllm")
    assert "4 frames" in said
    assert "expected one of even, processor" in fail("ask", "?", "-v", clip, "--sampler", "all")
    with pytest.raises(InputError, match="fps is 2, but sampler vllm has its own"):
        Video(str(clip), fps=2, sampler="vllm")


def test_explain_draws_cells_and_tells_times(checkpoint, clip, tmp_path):
    said = invoke("explain", clip, "-m", checkpoint, "-o", tmp_path / "film.png")
    assert "each frame after its time, <0.0 seconds> to" in said
    assert "the encoder turns by frame number, 0 to" in said
    with PIL.open(tmp_path / "film.png") as drawn:
        assert drawn.width > 500


@pytest.mark.parametrize(
    ("model", "tokens"),
    [("onevision-2-8b", (256, 391, 1980)), ("onevision-2-4b-p14m3", (121, 165, 880))],
)
def test_tokens_of_the_released_sizes(model, tokens):
    for size, expected in zip(("336x336", "640x480", "1920x1080"), tokens, strict=True):
        told = json.loads(invoke("explain", "--size", size, "-m", model, "--json"))
        assert told[0]["num_tokens"] == expected


def test_models_lists_every_size():
    said = invoke("models")
    for name in [name for name in ARCHITECTURES if name.startswith("onevision-2")]:
        assert f"{name}\n      OneVision-Encoder 24 x 1024 at native resolution" in said
    assert "336 x 336 256, 640 x 480 391, 1920 x 1080 1,980" in said
    assert "load('lmms-lab-encoder/LLaVA-OneVision-2-8B-Instruct')" in said


@pytest.mark.parametrize("model", ["onevision-2-4b", "onevision-2-8b"])
@pytest.mark.parametrize("stage", ["align", "mid", "instruct"])
def test_plan_of_the_published_stages(stage, model, tmp_path):
    said = invoke("train", stage, "-o", tmp_path, "--model", model, "--plan")
    assert "vision_encoder" in said


@pytest.mark.slow
def test_finetune_learns_and_the_result_answers(checkpoint, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = write_tiles(tmp_path / "tiles", 12)
    settings = ("--set", "precision=fp32", "--set", "learning_rate=1e-3")
    invoke("finetune", data, "--from", checkpoint, "--epochs", 1, "-o", tmp_path / "run", *settings)
    weights = tmp_path / "run" / "checkpoint"
    config = json.loads((weights / "config.json").read_text())
    assert config["vision"]["rotary_time"] is True
    assert ask(weights, "-v", clip)["finish_reason"] in ("stop", "length")
    invoke("convert", weights, tmp_path / "hf", "--layout", "onevision-2", "--self-check")


@pytest.mark.slow
def test_served_it_answers_about_a_video_as_asked(checkpoint, clip, tmp_path):
    expected = ask(checkpoint, "-v", clip, "--num-frames", 5)
    part = video_part() | {"num_frames": 5}
    body = {"model": "mine", "messages": user(part, text_part(QUESTION)), "max_tokens": 6}
    body |= {"temperature": 0}
    few = body | {"messages": user(part | {"sampler": "vllm"}, text_part(QUESTION))}
    options = ("--model", str(checkpoint), "--dtype", "float32", "--name", "mine")
    running = start(tmp_path, *options)
    try:
        with httpx2.Client(base_url=running.url, timeout=120) as http:
            served, fewer = (http.post(CHAT, json=one).json() for one in (body, few))
    finally:
        assert stop(running) == 0
    assert served["choices"][0]["message"]["content"].strip() == expected["text"]
    assert served["usage"]["prompt_tokens"] > fewer["usage"]["prompt_tokens"]
