"""A benchmark's item -> the text and images of a query to the judge. The texts: prompts.yaml."""

import io
from functools import cache
from pathlib import Path
from string import Template

import yaml
from PIL import Image as PIL

from onevision.errors import DataError
from onevision.eval.scoring.scorer import Item
from onevision.inputs.media import open_image


@cache
def judge_prompts() -> dict[str, dict[str, object]]:
    """Returns the prompt templates, by section of prompts.yaml."""
    text = (Path(__file__).parent / "prompts.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def fill_prompt(*path: str, **values: object) -> str:
    """Returns the template at `path` in prompts.yaml with its $names filled in."""
    template: object = judge_prompts()
    for name in path:
        assert isinstance(template, dict)
        template = template[name]
    return Template(str(template)).substitute(values).strip()


def read_field(item: Item, *names: str) -> str:
    """Returns the first of these fields that an item has, as text. Raises DataError if none."""
    for name in names:
        if item.get(name) is not None:
            return str(item[name])
    raise DataError(
        f"an item has no field {' or '.join(names)}, which its judge needs; it has "
        f"{', '.join(item)}"
    )


def encode_images(item: Item) -> tuple[bytes, ...]:
    """Returns the item's images as PNG files. Raises DataError if it has none, MediaError."""
    match item.get("images") or item.get("image"):
        case None:
            raise DataError("an item has no field image or images, which its judge must see")
        case [*images]:
            return tuple(map(_encode_png, images))
        case image:
            return (_encode_png(image),)


def _encode_png(image: object) -> bytes:
    if not isinstance(image, str | Path | bytes | PIL.Image):
        raise DataError(f"an image is {type(image).__name__}; expected a path, bytes or Pillow")
    file = io.BytesIO()
    open_image(image).save(file, "PNG")
    return file.getvalue()
