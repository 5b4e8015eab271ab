"""The times of a video's frames -> which of them the model sees.

By default they are spread evenly, or by a rate. Samplers by name choose as programs that run
OneVision-2 do:

    processor    the released processor: 8 frames below 10 s, 16 below 30 s, else as many as allowed
    vllm         vLLM's: one a second, at least 4, an even number
    lmms_eval    lmms-eval's chat wrapper, by qwen_vl_utils: the rule that vLLM repeats

Theirs are spread from the first to the last, in single precision as torch does, rounded to the
nearest, halves to even.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch

from onevision.conversation import Sampler, Video
from onevision.errors import MediaError
from onevision.inputs.frame_folder import space_evenly

# Frame times that differ by less than this are equal.
EPSILON_SECONDS = 1e-6
FRAMES_PER_SECOND = 1.0
LEAST, FACTOR = 4, 2


def sample_frames(seconds: Sequence[float], video: Video, *, name: str) -> tuple[int, ...]:
    """Returns the frames of a video file that the model sees, given when each is shown.

    Raises MediaError if there is none in the part that is asked for.
    """
    times = [time + EPSILON_SECONDS for time in seconds]
    first = 0 if video.start is None else max(0, bisect_right(times, video.start))
    last = len(times) - 1
    if video.end is not None:
        last = bisect_right(times, video.end + 2 * EPSILON_SECONDS) - 1
    if first > last:
        raise MediaError(
            f"{name}: no frame between {video.start or 0} s and {video.end or times[-1]:.2f} s; "
            f"the video runs from 0 to {times[-1]:.2f} s",
            fault="source",
        )
    if video.sampler != "even":
        count, length = last - first + 1, times[last] - times[first]
        rate = (count - 1) / length if length > 0 else 1.0
        chosen = spread_frames(video.sampler, count=count, rate=rate, most=video.num_frames)
        return tuple(first + index for index in chosen)
    if video.fps is not None:
        start, end = times[first], times[last]
        count = int((end - start) * video.fps + EPSILON_SECONDS) + 1
        if count <= video.num_frames:
            return tuple(_find_nearest(times, start + k / video.fps) for k in range(count))
    return space_evenly(first, last, min(video.num_frames, last - first + 1))


def _find_nearest(times: Sequence[float], seconds: float) -> int:
    after = min(bisect_right(times, seconds), len(times) - 1)
    before = max(after - 1, 0)
    return before if seconds - times[before] <= times[after] - seconds else after


def spread_frames(sampler: Sampler, *, count: int, rate: float, most: int) -> tuple[int, ...]:
    """Returns at most `most` of the frames 0 to `count` - 1 of a video of `rate` frames a second.

    The length of a video is `count` / `rate` seconds, as they all reckon it.
    """
    wanted = min(COUNTS[sampler](count, rate, most), most)
    if wanted >= count:
        return tuple(range(count))
    return tuple(torch.linspace(0, count - 1, wanted).round().long().tolist())


def _count_by_length(count: int, rate: float, most: int) -> int:
    """The released processor's `choose_target_frames`."""
    seconds = count / rate
    return 8 if seconds < 10 else 16 if seconds < 30 else most


def _count_by_rate(count: int, rate: float, most: int) -> int:
    """The `smart_nframes` of qwen_vl_utils."""
    wanted = min(max(count / rate * FRAMES_PER_SECOND, LEAST), most // FACTOR * FACTOR, count)
    return max(int(wanted // FACTOR) * FACTOR, FACTOR)


COUNTS: Mapping[Sampler, Callable[[int, float, int], int]] = MappingProxyType(
    {"processor": _count_by_length, "vllm": _count_by_rate, "lmms_eval": _count_by_rate}
)
