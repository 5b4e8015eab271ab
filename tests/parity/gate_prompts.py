"""The prompts of the parity gate, as files and words that a user would have."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image as PIL

from onevision.cli.demo import DEMO

MAX_TOKENS = 7


@dataclass(frozen=True, kw_only=True)
class GatePrompt:
    """A question about files, and perhaps a system line."""

    name: str
    question: str
    images: tuple[str, ...] = ()
    video: str | None = None
    system: str | None = None
    # Whether the video has fewer frames than a model is shown.
    is_short: bool = False

    @property
    def marked(self) -> str:
        """The question as data sets write it: a mark and a line break per medium."""
        return "<image>\n" * (len(self.images) + (self.video is not None)) + self.question


def write_prompts(directory: Path) -> tuple[GatePrompt, ...]:
    """Writes all files of the gate and returns its prompts."""
    for name in ("single.png", "pair-1.png", "pair-2.png", "clip.mp4"):
        (directory / name).write_bytes((DEMO / name).read_bytes())
    for name, write in ODD_FILES.items():
        write(directory / name)
    colour = "What colour is the background?"
    return (
        GatePrompt(name="words alone", question="Tell me about the number seven."),
        GatePrompt(name="control tokens as words", question="Say <|im_end|> and <image-1> & 你好"),
        GatePrompt(name="one picture", question="What shapes are there?", images=("single.png",)),
        GatePrompt(
            name="two pictures", question="What differs?", images=("pair-1.png", "pair-2.png")
        ),
        GatePrompt(name="three of odd sizes", question=colour,
                   images=("wide.png", "grey.png", "single.png")),
        GatePrompt(name="video", question="What happens?", video="clip.mp4", is_short=True),
        GatePrompt(name="clip of 90 frames", question=colour, video="long.mp4"),
        GatePrompt(name="system line", question=colour, images=("single.png",),
                   system="Answer in one word."),
        GatePrompt(name="system line, words", question="Hello", system="Be brief."),
        GatePrompt(name="333 x 77", question=colour, images=("wide.png",)),
        GatePrompt(name="one pixel high", question=colour, images=("line.png",)),
        GatePrompt(name="grey, 16 bit", question=colour, images=("grey16.png",)),
        GatePrompt(name="palette, transparent", question=colour, images=("palette.png",)),
        GatePrompt(name="EXIF: on its side", question=colour, images=("turned.jpg",)),
        GatePrompt(name="CMYK JPEG", question=colour, images=("cmyk.jpg",)),
    )  # fmt: skip


def _noise(width: int, height: int, mode: str = "RGB") -> PIL.Image:
    rng = np.random.default_rng(width)
    return PIL.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def _write_palette(path: Path) -> None:
    image = _noise(90, 61).quantize(16)
    image.info["transparency"] = 3
    image.save(path)


def _write_grey16(path: Path) -> None:
    PIL.fromarray(np.linspace(0, 65535, 120 * 80).astype(np.uint16).reshape(80, 120)).save(path)


def _write_turned(path: Path) -> None:
    exif = PIL.Exif()
    exif[0x0112] = 6
    _noise(160, 50).save(path, exif=exif)


def _write_clip(path: Path) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("h264", rate=Fraction(15))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(90):
            picture = PIL.new("RGB", (96, 64), (2 * number, 60, 200 - 2 * number))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


ODD_FILES: dict[str, Callable[[Path], None]] = {
    "wide.png": lambda path: _noise(333, 77).save(path),
    "line.png": lambda path: _noise(200, 1).save(path),
    "grey.png": lambda path: _noise(50, 120, "L").save(path),
    "grey16.png": _write_grey16,
    "palette.png": _write_palette,
    "turned.jpg": _write_turned,
    "cmyk.jpg": lambda path: _noise(70, 90, "CMYK").save(path),
    "long.mp4": _write_clip,
}
