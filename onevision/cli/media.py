"""What a command line names as media (a path, "-", an address) -> what `Image` and `Video` take."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from onevision.conversation import Image, Part, Text, Video, parse_sampler
from onevision.errors import InputError, MediaError
from onevision.extras import imports_of_extra

Kind = Literal["image", "video"]
STDIN = "-"

AllowUrlsOption = Annotated[
    bool, typer.Option("--allow-urls", help="Download https addresses given as images and videos.")
]


def read_parts(
    question: str,
    *,
    images: Sequence[str],
    videos: Sequence[str],
    num_frames: int,
    sampler: str = "even",
    allow_urls: bool,
) -> list[Part]:
    """Returns the parts of a user message: images, videos, then the question.

    Headers are read, so that a file that is missing or damaged is found before a model is loaded.
    Raises InputError, MediaError.
    """
    if not question.strip():
        raise InputError("the question is empty; expected text")
    if [*images, *videos].count(STDIN) > 1:
        raise InputError("'-' is given more than once; standard input holds one image or video")
    shown = [Image(read_medium(name, kind="image", allow_urls=allow_urls)) for name in images]
    clips = [
        Video(
            read_medium(name, kind="video", allow_urls=allow_urls),
            num_frames=num_frames,
            sampler=parse_sampler(sampler),
        )
        for name in videos
    ]
    for part in (*shown, *clips):
        check_medium(part)
    return [*shown, *clips, Text(question)]


def read_medium(name: str, *, kind: Kind, allow_urls: bool) -> str | bytes:
    """Returns a path, or the bytes of standard input or of an address. Raises InputError."""
    from onevision.inputs.media_source import NamedBytes

    if name == STDIN:
        return NamedBytes(_read_stdin(kind), name="standard input")
    if name.lower().startswith(("https://", "http://")):
        if not allow_urls:
            raise MediaError(
                f"{name}: addresses are downloaded only with --allow-urls; add it, or save the "
                f"{kind} and give its path",
                fault="source",
            )
        return NamedBytes(_fetch(name, kind=kind), name=name)
    return str(Path(name).expanduser()) if name.startswith("~") else name


def check_medium(part: Image | Video) -> None:
    """Reads the header of an image or a video. Raises MediaError."""
    from onevision.inputs.media import image_size, open_video

    if isinstance(part, Image):
        image_size(part.source)
    else:
        with open_video(part.source):
            pass


def _read_stdin(kind: Kind) -> bytes:
    if sys.stdin.isatty():
        raise InputError(f"'-' reads the {kind} from standard input; redirect it: ... - < FILE")
    data = sys.stdin.buffer.read()
    if not data:
        raise InputError(f"'-' reads the {kind} from standard input, which is empty")
    return data


def _fetch(url: str, *, kind: Kind) -> bytes:
    """Downloads from any public host, as the server does from those on its list."""
    with imports_of_extra("serve", "addresses need: pip install 'onevision[serve]'"):
        from onevision.serve.fetch import Fetcher
        from onevision.serve.schema.problems import ApiError
        from onevision.serve.settings import Limits

    limits = Limits()
    most = limits.video_bytes if kind == "video" else limits.image_bytes
    try:
        return Fetcher(None, seconds=limits.fetch_seconds).fetch(
            url, most=most, kind=kind, param=url
        )
    except ApiError as problem:
        if problem.code.startswith("failed_to_download"):
            raise MediaError(
                f"{url}: cannot be downloaded; check the address, or save the {kind} and give its "
                "path",
                fault="source",
            ) from problem
        raise MediaError(problem.message, fault="source") from problem
