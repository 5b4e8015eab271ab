"""A benchmark's item -> the words and pictures of a question for a judge."""

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Template

import yaml
from PIL import Image as PIL

from onevision.errors import DataError
from onevision.inputs.media import open_image

Item = Mapping[str, object]


@cache
def prompts() -> dict[str, dict[str, object]]:
    """Return the prompts, by benchmark."""
    text = (Path(__file__).parent / "prompts.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def fill(*path: str, **words: object) -> str:
    """Return a prompt with its $names filled in."""
    prompt: object = prompts()
    for name in path:
        assert isinstance(prompt, dict)
        prompt = prompt[name]
    return Template(str(prompt)).substitute(words).strip()


def field(item: Item, *names: str) -> str:
    """Return an item's first field of these names as text. Raises DataError."""
    for name in names:
        if item.get(name) is not None:
            return str(item[name])
    raise DataError(
        f"an item has no field {' or '.join(names)}, which its judge needs; it has "
        f"{', '.join(item)}"
    )


def images(item: Item) -> tuple[bytes, ...]:
    """Return the item's pictures, encoded."""
    match item.get("images") or item.get("image"):
        case None:
            raise DataError("an item has no field image or images, which its judge has to see")
        case [*pictures]:
            return tuple(map(_png, pictures))
        case picture:
            return (_png(picture),)


def _png(picture: object) -> bytes:
    if not isinstance(picture, str | Path | bytes | PIL.Image):
        raise DataError(f"an image is {type(picture).__name__}; expected a path, bytes or Pillow")
    file = io.BytesIO()
    open_image(picture).save(file, "PNG")
    return file.getvalue()
