"""Which frames each sampler chooses, by hand."""

import pytest
from PIL import Image as PIL

from onevision.conversation import Video
from onevision.errors import InputError, MediaError
from onevision.inputs.samplers import sample_frames, spread_frames
from onevision.inputs.video import choose_frames


@pytest.mark.parametrize(
    ("sampler", "count", "rate", "most", "expected"),
    [
        ("processor", 5, 25.0, 32, (0, 1, 2, 3, 4)),  # fewer than 8: all
        ("processor", 29, 10.0, 32, (0, 4, 8, 12, 16, 20, 24, 28)),  # 2.9 s: 8
        ("processor", 61, 5.0, 32, tuple(range(0, 61, 4))),  # 12.2 s: 16
        ("processor", 311, 10.0, 32, tuple(range(0, 311, 10))),  # 31 s: as many as allowed
        ("processor", 29, 10.0, 4, (0, 9, 19, 28)),  # at most so many; 9.33, 18.67
        ("vllm", 10, 10.0, 32, (0, 3, 6, 9)),  # 1 s: at least 4
        ("vllm", 61, 10.0, 32, (0, 12, 24, 36, 48, 60)),  # 6.1 s: 6
        ("vllm", 71, 10.0, 32, (0, 14, 28, 42, 56, 70)),  # 7.1 s: an even number
        ("vllm", 3, 10.0, 32, (0, 2)),  # not 3
        ("lmms_eval", 61, 10.0, 3, (0, 60)),
    ],
)
def test_samplers(sampler, count, rate, most, expected):
    assert spread_frames(sampler, count=count, rate=rate, most=most) == expected


def test_the_rate_is_that_of_the_frames_within_the_part():
    times = [number / 10 for number in range(200)]
    video = Video("clip.mp4", sampler="vllm", start=5.0, end=11.1)
    assert sample_frames(times, video, name="clip.mp4") == (50, 62, 74, 87, 99, 111)


def test_a_sampler_has_a_rate_of_its_own_and_needs_times(tmp_path):
    with pytest.raises(InputError, match="fps is 1, but sampler vllm has its own"):
        Video("clip.mp4", sampler="vllm", fps=1)
    with pytest.raises(InputError, match="sampler is 'mine'; expected one of even, processor"):
        Video("clip.mp4", sampler="mine")
    PIL.new("RGB", (8, 8)).save(tmp_path / "0.png")
    with pytest.raises(MediaError, match="leave out start, end, fps and sampler"):
        choose_frames(Video(tmp_path, sampler="processor"))
