"""A small mixture on disk: images, pairs, videos and text, in every format."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest

from onevision.data.mixture import open_mixture
from onevision.data.samples import SampleReader
from onevision.inputs.processor import Processor


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))


def record(number, *, question="<image>\nWhat is this?", **media):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": f"thing {number}"}]
    return {"id": str(number), "conversations": turns, **media}


def write_clip(path, *, frames=6):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(frames):
            pixels = np.full((32, 32, 3), 40 * number % 256, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def mixture_file(tmp_path, picture):
    """40 records of one image, 10 of two, 6 videos, 20 texts; returns the YAML's path."""
    for number in range(12):
        picture(40 + 9 * number, 50, seed=number).save(tmp_path / f"{number}.png")
    write_clip(tmp_path / "clip.mp4")
    sets = {
        "singles": [record(n, image=f"{n % 12}.png") for n in range(40)],
        "pairs": [
            record(n, question="<image>\nand\n<image>\nsame?", image=[f"{n}.png", f"{n + 1}.png"])
            for n in range(10)
        ],
        "videos": [record(n, question="<video>\nWhat?", video="clip.mp4") for n in range(6)],
        "texts": [record(n, question="Say " + "so " * n) for n in range(20)],
    }
    for name, records in sets.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(records, indent=1))
    path = tmp_path / "mixture.yaml"
    path.write_text("datasets:\n" + "".join(f"  - json_path: {name}.json\n" for name in sets))
    return path


@pytest.fixture
def make_reader(micro_config, tokenizer):
    def make(path, *, max_tokens=400, seed=0):
        return SampleReader(
            mixture=open_mixture(path, seed=seed),
            processor=Processor(micro_config.inputs, tokenizer),
            max_tokens=max_tokens,
        )

    return make


@pytest.fixture
def reader(mixture_file, make_reader):
    return make_reader(mixture_file)
