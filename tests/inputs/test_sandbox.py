"""Untrusted media are decoded in sandboxed workers, which may crash, hang or be killed."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from onevision import Conversation, Image, Message, Text, Video
from onevision.anyres import SingleCrop, plan
from onevision.cli.demo import DEMO
from onevision.errors import DecodersBusyError, MediaError
from onevision.inputs.processor import Processor
from onevision.inputs.sandbox import Cancellation, Sandbox
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


LAYOUT = plan(width=20, height=20, rule=SingleCrop())
GREY = (0.5, 0.5, 0.5)


def test_a_decoder_that_crashes_costs_one_request(sandbox, picture):
    good, restarts = Image(encoded(picture(20, 20))), sandbox.num_restarts
    with pytest.raises(MediaError) as caught, sandbox.session([good]) as session:
        os.kill(session.process_id, signal.SIGSEGV)
        session.cut([LAYOUT], image_mean=GREY)
    assert (caught.value.fault, caught.value.place) == ("crashed", 0)
    with sandbox.session([good]) as session:
        assert session.cut([LAYOUT], image_mean=GREY).shape == (1, 3, 384, 384)
    assert sandbox.num_restarts == restarts + 1


def test_a_worker_that_others_kill_costs_a_second_try_and_no_more(sandbox, picture):
    good, restarts = Image(encoded(picture(20, 20))), sandbox.num_restarts
    with sandbox.session([good]) as session:
        told = session.cut([LAYOUT], image_mean=GREY)
    for worker in sandbox.process_ids:  # idle ones
        os.kill(worker, signal.SIGKILL)
    with sandbox.session([good]) as session:
        assert torch.equal(session.cut([LAYOUT], image_mean=GREY), told)
    with sandbox.session([good]) as session:
        os.kill(session.process_id, signal.SIGKILL)
        assert torch.equal(session.cut([LAYOUT], image_mean=GREY), told)
    large = Image(encoded(picture(3000, 3000), compress_level=0))
    killed = set()

    def kill(session):
        while len(killed) < 2:
            if session.process_id not in killed | {None}:
                os.kill(session.process_id, signal.SIGKILL)
                killed.add(session.process_id)

    with pytest.raises(MediaError) as caught, sandbox.session([large]) as session:
        killer = threading.Thread(target=kill, args=[session])
        killer.start()
        session.cut([plan(width=3000, height=3000, rule=SingleCrop())], image_mean=GREY)
    killer.join()
    assert caught.value.fault == "crashed"
    assert sandbox.num_restarts >= restarts + 3


def test_clients_that_leave_cost_only_their_worker(sandbox, picture):
    """Spare workers are ready, so the next request does not wait for a start."""
    good = Image(encoded(picture(20, 20)))
    for _ in range(6):
        leaving = Cancellation()
        with pytest.raises(MediaError), sandbox.session([good], cancellation=leaving) as session:
            leaving.cancel()
            session.cut([LAYOUT], image_mean=GREY)
    restarts = sandbox.num_restarts
    left = Cancellation()
    left.cancel()
    with pytest.raises(MediaError, match="cancelled"), sandbox.session([good], cancellation=left):
        pass
    assert sandbox.num_restarts == restarts, "a client that left before kills no worker"
    with sandbox.session([good]) as session:
        assert session.facts[0].width == 20


def test_deadlines_of_decoding_and_of_waiting(picture):
    settings = SandboxSettings(num_workers=1, num_spare=0, wait_seconds=0.5, image_seconds=0.3)
    small, good = Sandbox(settings), Image(encoded(picture(20, 20)))
    while not small.process_ids:
        time.sleep(0.05)
    with pytest.raises(MediaError) as caught, small.session([good]) as session:
        os.kill(session.process_id, signal.SIGSTOP)
        session.cut([LAYOUT], image_mean=GREY)
    assert caught.value.fault == "too_slow"
    assert small.num_restarts == 1
    with small.session([good]):
        assert (small.size, small.alive, small.waiting) == (1, 1, 0)
        with pytest.raises(DecodersBusyError, match=r"no media decoder became free within 0\.5 s"):
            small.probe()
    small.close()
    with pytest.raises(DecodersBusyError), small.session([good]):
        pass


# Each way in which no worker can be started, and how it passes.
STARVED = """
import os, resource, signal, sys, time
from onevision import Image
from onevision.errors import DecodersBusyError
from onevision.inputs.sandbox import Sandbox
from onevision.inputs.sandbox_worker import SandboxSettings

sandbox = Sandbox(SandboxSettings(num_workers=2, wait_seconds=1.0))
good = Image(open(sys.argv[1], "rb").read())
while not sandbox.process_ids:
    time.sleep(0.01)
with sandbox.session([good]) as session:
    zygote = int(open(f"/proc/{session.process_id}/stat").read().split()[3])

def starve(process, few):
    while len(sandbox.process_ids) < 3:
        time.sleep(0.01)
    before = resource.prlimit(process, resource.RLIMIT_NOFILE)
    resource.prlimit(process, resource.RLIMIT_NOFILE, (few, before[1]))
    for worker in sandbox.process_ids:
        os.kill(worker, signal.SIGKILL)
    for _ in range(2):
        began = time.monotonic()
        try:
            with sandbox.session([good]):
                print("served")
        except DecodersBusyError as error:
            print(error, sandbox.alive, sandbox.waiting, time.monotonic() - began < 3)
    resource.prlimit(process, resource.RLIMIT_NOFILE, before)
    until = time.monotonic() + 60
    while sandbox.alive < 2 and time.monotonic() < until:
        time.sleep(0.05)
    with sandbox.session([good]) as session:
        print(session.facts[0].width, sandbox.alive)

starve(os.getpid(), len(os.listdir("/proc/self/fd")) - 6)
starve(zygote, 3)
sandbox.close()
"""


def test_a_pool_without_descriptors_refuses_and_recovers(tmp_path, picture):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(20, 20)))
    told = subprocess.run(
        [sys.executable, "-c", STARVED, str(path)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    refused = "no media decoder can be started ([Errno 24] Too many open files); retry later"
    assert told.stdout.splitlines() == [f"{refused} 0 0 True", f"{refused} 0 0 True", "20 2"] * 2
    assert told.stderr.count("cannot be started") == 2, "once each time, not once a try"


def test_workers_whose_parent_is_killed_are_replaced(sandbox, picture):
    with sandbox.session([Image(encoded(picture(20, 20)))]) as session:
        stat = Path(f"/proc/{session.process_id}/stat").read_text()
        os.kill(int(stat.split()[3]), signal.SIGKILL)
        assert session.cut([LAYOUT], image_mean=GREY).shape == (1, 3, 384, 384)
