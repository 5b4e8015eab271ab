"""A folder of pictures as a video: its frames by name, as evaluation sets hold them; no times."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onevision.conversation import Video
from onevision.errors import MediaError

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def is_frame_folder(source: str | Path) -> bool:
    """Whether a video's path is a folder, which holds its frames."""
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):  # a name that is too long, a zero byte
        return False


def choose_files(video: Video, folder: Path) -> Sequence[Path]:
    """Returns `num_frames` frames of a folder, evenly spaced; all of them if there are fewer.

    Raises MediaError if there are none, or if times are asked for.
    """
    if {video.start, video.end, video.fps} != {None} or video.sampler != "even":
        raise MediaError(
            f"{folder}: a folder of frames has no times; leave out start, end, fps and sampler",
            fault="source",
        )
    files = list_frames(folder)
    chosen = space_evenly(0, len(files) - 1, min(video.num_frames, len(files)))
    return [files[index] for index in chosen]


def list_frames(folder: Path) -> Sequence[Path]:
    """Returns the frames of a folder, by name. Raises MediaError if there are none."""
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in FRAME_SUFFIXES)
    except OSError as error:
        raise MediaError(f"{folder}: the folder cannot be read ({error.strerror})") from error
    if not files:
        raise MediaError(
            f"{folder}: the folder has no frames; expected {', '.join(FRAME_SUFFIXES)}",
            fault="no_stream",
        )
    return files


def space_evenly(first: int, last: int, count: int) -> tuple[int, ...]:
    """Returns `count` integers from `first` to `last`, truncated as in the reference."""
    return tuple(int(i) for i in np.linspace(first, last, count, dtype=int))
