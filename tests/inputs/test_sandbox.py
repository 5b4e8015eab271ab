"""Untrusted media are decoded in sandboxed workers, which may crash, hang or be killed."""

import io
import os
import signal
import subprocess
import sys

import pytest
import torch

from onevision import Conversation, Image, Message, Text, Video
from onevision.anyres import SingleCrop, plan
from onevision.cli.demo import DEMO
from onevision.errors import MediaError
from onevision.inputs.processor import Processor
from onevision.inputs.sandbox import Sandbox
from onevision.inputs.sandbox_worker import EncodedFrames, SandboxSettings

CLIP = (DEMO / "clip.mp4").read_bytes()


@pytest.fixture(scope="module")
def sandbox():
    opened = Sandbox(SandboxSettings(num_workers=1))
    yield opened
    opened.close()


def encoded(image, form="PNG", **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def test_crops_are_those_that_are_cut_here(sandbox, small_config, tokenizer, picture):
    processor = Processor(small_config.inputs, tokenizer)
    media = [Image(encoded(picture(300, 200))), Video(CLIP, num_frames=3)]
    frames = [encoded(picture(60, 40, seed=n)) for n in range(2)]
    talk = Conversation([Message("user", [*media, Text("?")])])
    own = processor(talk)
    with sandbox.session(media) as session:
        outline = processor.outline(talk, facts=session.facts)
        crops = session.cut(outline.layouts, image_mean=small_config.inputs.image_mean)
    told = processor.inputs(processor.example(outline, crops=crops))
    assert torch.equal(told.pixel_values, own.pixel_values)
    assert torch.equal(told.input_ids, own.input_ids)
    with sandbox.session([EncodedFrames(tuple(frames))]) as session:
        assert session.facts[0].count == 2


def test_what_is_wrong_is_said_and_where(sandbox, picture):
    good = Image(encoded(picture(20, 20)))
    with pytest.raises(MediaError) as caught, sandbox.session([good, Image(b"nonsense")]):
        pass
    assert (caught.value.fault, caught.value.place) == ("format", 1)
    with sandbox.session([good]) as session:
        assert session.facts[0].width == 20
    assert sandbox.num_restarts == 0


def test_a_worker_that_dies_costs_one_request(sandbox, picture):
    good = Image(encoded(picture(20, 20)))
    layout = plan(width=20, height=20, rule=SingleCrop())
    worker = sandbox.process_ids[0]
    with pytest.raises(MediaError) as caught, sandbox.session([good]) as session:
        os.kill(worker, signal.SIGKILL)
        session.cut([layout], image_mean=(0.5, 0.5, 0.5))
    assert (caught.value.fault, caught.value.place) == ("crashed", 0)
    with sandbox.session([good]) as session:
        assert session.cut([layout], image_mean=(0.5, 0.5, 0.5)).shape == (1, 3, 384, 384)
    assert sandbox.num_restarts == 1


def test_a_worker_that_takes_too_long_is_killed(picture):
    slow = Sandbox(SandboxSettings(num_workers=1, image_seconds=0.3))
    good = Image(encoded(picture(20, 20)))
    with pytest.raises(MediaError) as caught, slow.session([good]) as session:
        os.kill(session.process_id, signal.SIGSTOP)
        session.cut([plan(width=20, height=20, rule=SingleCrop())], image_mean=(0.5, 0.5, 0.5))
    assert caught.value.fault == "too_slow"
    assert slow.num_restarts == 1
    slow.close()


CONFINED = """
import socket
from onevision.inputs.sandbox_worker import confine
confine(512 * 2**20)
for act in (
    lambda: open("/etc/hostname"),
    lambda: open("made", "w"),
    socket.socket,
    lambda: bytearray(600 * 2**20),
):
    try:
        act()
        print("did")
    except (OSError, MemoryError) as error:
        print(type(error).__name__)
print(len(bytearray(100 * 2**20)))
"""


def test_a_confined_process_opens_neither_files_nor_sockets_and_has_little_memory(tmp_path):
    told = subprocess.run(
        [sys.executable, "-c", CONFINED], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    said = ["OSError"] * 3 + ["MemoryError", str(100 * 2**20)]
    assert told.stdout.split() == said
