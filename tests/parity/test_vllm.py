"""vLLM's CPU build, in an environment of its own, answers what our checkpoints answer.

    make vllm

Checkpoints are written by `onevision convert --layout llava-hf` and `onevision quantize`.
"""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from onevision import Conversation, Image, Message, Text, Video, load
from onevision.accelerate.processor import has_vnni
from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.save import save
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.known_models import ONEVISION_0_5B
from onevision.model.llava import LlavaNetwork
from tests.cli.invoke import invoke

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
TOKENS = 12

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def world(tmp_path_factory, picture):
    """Questions with media as files: for vLLM, and as our conversations."""
    if not PYTHON.is_file():
        pytest.skip("no .venv-vllm; make it with `make vllm`")
    directory = tmp_path_factory.mktemp("world")
    paths = [directory / "a.png", directory / "b.png"]
    for path, (width, height) in zip(paths, [(300, 384), (500, 200)], strict=True):
        picture(width, height, seed=width).save(path)
    frames = [picture(160, 120, seed=n) for n in range(4)]
    np.save(directory / "clip.npy", np.stack([np.asarray(frame) for frame in frames]))
    images = [str(path) for path in paths]
    theirs = {
        "text": {"text": "Where are you?"},
        "single": {"text": "What is this?", "images": images[:1]},
        "several": {"text": "Which one is larger?", "images": images},
        "video": {"text": "What happens?", "frames": str(directory / "clip.npy")},
    }
    media = {
        "text": [],
        "single": [Image(paths[0])],
        "several": [Image(path) for path in paths],
        "video": [Video(frames)],
    }
    ours = {
        kind: Conversation([Message("user", [*media[kind], Text(question["text"])])])
        for kind, question in theirs.items()
    }
    return theirs, ours


@pytest.fixture(scope="module")
def released_shape(tmp_path_factory):
    """Random weights of the 0.5B shape, bf16, in our layout; its 152,000 ids, 4,096 with text."""
    directory = tmp_path_factory.mktemp("shape")
    config = replace(ONEVISION_0_5B, inputs=replace(ONEVISION_0_5B.inputs, image_token_id=3))
    network = LlavaNetwork(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.03, generator=generator)
    tokenizer = Tokenizer.from_directory(BUNDLED["tiny"])
    save(network, config, tokenizer, directory / "ours", dtype=torch.bfloat16)
    return directory / "ours"


def ask_vllm(directory, questions):
    """Return vLLM's greedy answers in fp32, by kind of question."""
    words = [PYTHON, ROOT / "integrations" / "vllm" / "answer.py", directory, "--eager"]
    line = json.dumps({"questions": list(questions.values()), "tokens": TOKENS})
    done = subprocess.run(
        [*words, "--dtype", "float32"], input=line + "\n", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answers = json.loads(done.stdout.splitlines()[-1])["answers"]
    return dict(zip(questions, answers, strict=True))


def ask_ours(model, talk):
    """Return ids, text, logarithms of probabilities and the prompt's length."""
    inputs = model.prompt(talk)
    sampling = replace(model.sampling, end_ids=(), end_texts=(), max_new_tokens=TOKENS, logprobs=1)
    request = model.engine.submit(inputs, sampling)
    model.engine.run([request])
    (answer,) = request.answers
    return {
        "ids": answer.ids,
        "text": model.processor.tokenizer.decode(answer.ids),
        "logprobs": [token.logprob for token in answer.tokens],
        "prompt_tokens": inputs.input_ids.shape[1],
    }


def with_crops_of_several(model):
    """Return the model reading each of several pictures in crops, as vLLM does."""
    inputs = replace(model.config.inputs, multi_image=model.config.inputs.image)
    return replace(model, processor=Processor(inputs, model.processor.tokenizer))


def check(theirs, model, talks):
    """Assert that all answers are equal, several pictures by vLLM's rule."""
    for kind, talk in talks.items():
        asked = with_crops_of_several(model) if kind == "several" else model
        ours = ask_ours(asked, talk)
        assert theirs[kind]["prompt_tokens"] == ours["prompt_tokens"], kind
        assert theirs[kind]["ids"] == ours["ids"], kind
        assert theirs[kind]["text"].strip() == ours["text"].strip(), kind
        apart = np.abs(np.subtract(theirs[kind]["logprobs"], ours["logprobs"]))
        assert apart.max() < 2e-3, kind


@pytest.mark.parametrize("name", ["tiny", "released shape"])
def test_the_converted_checkpoint_answers_as_ours(world, name, request, tmp_path):
    questions, talks = world
    source = name if name == "tiny" else str(request.getfixturevalue("released_shape"))
    invoke("convert", source, str(tmp_path / "exported"), "--layout", "llava-hf")
    theirs = ask_vllm(tmp_path / "exported", questions)
    model = load(source, dtype="float32")
    check(theirs, model, talks)
    # Of several pictures, OneVision reads one crop each: vLLM 0.32 does not.
    alone = ask_ours(model, talks["several"])
    assert alone["prompt_tokens"] < theirs["several"]["prompt_tokens"]


def test_quantised_files_answer_as_ours(world, tmp_path):
    questions, talks = world
    directory = tmp_path / "quantised"
    invoke("quantize", "tiny", "-o", str(directory), "--samples", "3")
    theirs = ask_vllm(directory, questions)
    model = load(str(directory), dtype="float32")
    del questions["several"]
    most = 0.2 if has_vnni() else 0.5
    for kind in questions:
        ours = ask_ours(model, talks[kind])
        assert theirs[kind]["ids"][0] == ours["ids"][0], kind
        assert abs(theirs[kind]["logprobs"][0] - ours["logprobs"][0]) < most, kind
