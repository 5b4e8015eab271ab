import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image as PIL

from onevision.conversation import Video
from onevision.errors import MediaError
from onevision.inputs import video as video_module
from onevision.inputs.frame_folder import space_evenly
from onevision.inputs.video import choose_frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """100 frames at 10 per second; frame k has grey level 2k. Every 25th is a key frame."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_clip(path, seconds=[k / 10 for k in range(100)], gop=25)
    return path


def write_clip(path, *, seconds, gop=12, level=lambda k: 2 * k, size=64):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "8"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for k, second in enumerate(seconds):
            pixels = np.full((size, size, 3), level(k), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(second * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _levels(choice):
    return [round(np.asarray(frame).mean()) for frame in choice.frames()]


def _assert_frames(choice, indices):
    assert choice.indices == tuple(indices)
    assert all(abs(a - 2 * k) <= 3 for a, k in zip(_levels(choice), indices, strict=True))


def test_frames_are_spread_evenly_and_truncated_as_in_the_reference(clip):
    assert space_evenly(0, 99, 8) == (0, 14, 28, 42, 56, 70, 84, 99)
    _assert_frames(choose_frames(Video(clip, num_frames=8)), space_evenly(0, 99, 8))


def test_a_short_video_is_used_whole(tmp_path):
    write_clip(tmp_path / "short.mp4", seconds=[k / 10 for k in range(5)])
    _assert_frames(choose_frames(Video(tmp_path / "short.mp4")), range(5))


def test_frames_by_rate(clip):
    _assert_frames(choose_frames(Video(clip, fps=1)), range(0, 100, 10))
    _assert_frames(choose_frames(Video(clip, fps=2, start=1, end=2)), (10, 15, 20))


def test_too_high_a_rate_falls_back_to_even_frames(clip):
    assert choose_frames(Video(clip, fps=5, num_frames=4)).indices == space_evenly(0, 99, 4)


def test_start_and_end(clip):
    choice = choose_frames(Video(clip, num_frames=3, start=2.0, end=4.0))
    _assert_frames(choice, (20, 30, 40))
    assert choice.seconds == pytest.approx((2.0, 3.0, 4.0))


def test_bytes_are_as_good_as_a_path(clip):
    assert _levels(choose_frames(Video(clip.read_bytes(), num_frames=4))) == _levels(
        choose_frames(Video(clip, num_frames=4))
    )


def test_variable_frame_rate_goes_by_time(tmp_path):
    seconds = [0, 0.1, 0.2, 0.3, 2.0, 4.0, 4.1]
    write_clip(tmp_path / "vfr.mp4", seconds=seconds, level=lambda k: 30 * k)
    choice = choose_frames(Video(tmp_path / "vfr.mp4", fps=1, num_frames=8))
    assert choice.indices == (0, 3, 4, 4, 5)


def test_it_seeks_only_where_a_key_frame_lies_between(clip, monkeypatch):
    decoded = []
    marked = video_module._decode_with_marks
    monkeypatch.setattr(
        video_module,
        "_decode_with_marks",
        lambda *args: (decoded.append(mark) or (mark, frame) for mark, frame in marked(*args)),
    )
    far = choose_frames(Video(clip, num_frames=2))
    _assert_frames(far, (0, 99))
    assert len(decoded) < 40  # one frame, then from the key frame at 75
    decoded.clear()
    near = choose_frames(Video(clip, num_frames=5, end=2.0))
    _assert_frames(near, (0, 5, 10, 15, 20))
    assert len(decoded) <= 21  # one pass, no frame twice


ENCODINGS = {
    "plain": {},
    "many B-frames": {"bf": "8", "b-pyramid": "normal"},
    "strict pyramid": {"bf": "5", "b-pyramid": "strict", "weightb": "1"},
    "no B-frames": {"bf": "0"},
    "open GOP": {"x264-params": "open-gop=1:keyint=15:bframes=4"},
    "one GOP": {"g": "1000"},
    "intra refresh": {"x264-params": "intra-refresh=1:keyint=20"},
    "interlaced": {"x264-params": "tff=1:bframes=3:keyint=20"},
    "many references": {"x264-params": "ref=8:bframes=6:keyint=40"},
}


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_leaving_frames_out_changes_no_pixel(tmp_path, encoding, suffix):
    path = tmp_path / f"clip.{suffix}"
    write_moving(path, count=70, options=ENCODINGS[encoding])
    with av.open(str(path)) as container:
        every = [np.asarray(frame.to_image()) for frame in container.decode(video=0)]
    for count in (1, 2, 7, 31):
        choice = choose_frames(Video(path, num_frames=count))
        for index, frame in zip(choice.indices, choice.frames(), strict=True):
            assert np.array_equal(np.asarray(frame), every[index]), index


@pytest.mark.parametrize("place", [0.3, 0.5, 0.8])
def test_a_damaged_video_goes_as_far_as_when_all_is_decoded(tmp_path, place, monkeypatch):
    """Concealed damage may depend on shortcuts, as it does on the number of FFmpeg's threads."""
    path = tmp_path / "clip.mkv"
    write_moving(path, count=70, options={"g": "1000", "threads": "1"})
    data = bytearray(path.read_bytes())
    begin = int(len(data) * place)
    data[begin : begin + 40] = bytes(range(40))
    path.write_bytes(data)

    def shown():
        frames, choice = [], choose_frames(Video(path, num_frames=9))
        try:
            for frame in choice.frames():
                frames.append(np.asarray(frame))
        except MediaError:
            return frames
        return [*frames, np.zeros(0)]

    sparsely = shown()
    monkeypatch.setattr(video_module, "MARKED_CODECS", frozenset())
    whole = shown()
    assert len(sparsely) == len(whole)
    assert all(map(np.array_equal, sparsely[:2], whole[:2]))  # before the damage


def write_moving(path, *, count, options):
    """A moving, flickering pattern in which no two frames are equal."""
    rng = np.random.default_rng(0)
    base = np.kron(rng.integers(0, 256, (12, 16, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "24", "bf": "3"} | options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for k in range(count):
            pixels = np.roll(base, 3 * k, axis=1) // 2 + np.uint8(k)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_a_list_of_frames_is_used_whole():
    frames = [PIL.new("RGB", (4, 4), (k, k, k)) for k in range(40)]
    choice = choose_frames(Video(frames, num_frames=8))
    assert len(list(choice.frames())) == 40
    assert choice.seconds is None


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        silence = np.zeros((1, 1024), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match=r"sound\.mp4: no video stream"):
        choose_frames(Video(path))


def test_bad_files_are_named(tmp_path, clip):
    (tmp_path / "text.mp4").write_text("not a film")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:900])
    (tmp_path / "socket.mp4").write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n")
    for name, message in {
        "missing.mp4": "no such file",
        "text.mp4": "not a video",
        "empty.mp4": "empty",
        "cut.mp4": "cut off or damaged",
        "socket.mp4": "not a video",
    }.items():
        with pytest.raises(MediaError, match=message) as caught:
            list(choose_frames(Video(tmp_path / name)).frames())
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_part_without_frames_is_refused(clip):
    with pytest.raises(MediaError, match=r"the video runs from 0 to 9\.90 s"):
        choose_frames(Video(clip, start=50))


def test_an_empty_list_is_refused():
    with pytest.raises(MediaError, match="video has no frames"):
        choose_frames(Video([]))


@pytest.mark.slow
def test_decoding_a_long_video_holds_no_more_than_a_short_one(tmp_path):
    """Compares the peak memory of decoding 16 frames of 60 and of 3,000."""
    code = (
        "import sys; from onevision.conversation import Video\n"
        "from onevision.inputs.video import choose_frames\n"
        "from onevision.train.report.metrics import peak_resident_bytes\n"
        "choice = choose_frames(Video(sys.argv[1], num_frames=16))\n"
        "assert sum(1 for _ in choice.frames()) == 16\n"
        "print(peak_resident_bytes() // 2**20)"
    )
    peaks = []
    for count in (60, 3000):
        path = tmp_path / f"{count}.mp4"
        write_grey(path, count)
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 30  # MiB; 3,000 decoded frames would be 2,000


def write_grey(path, count):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number in range(count):
            pixels = np.full((360, 640, 3), number % 256, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
