"""Captions and boxes of pictures -> what a writer without eyes reads of each.

    {"image": "a.jpg", "captions": ["A dog runs.", ...],
     "boxes": [{"class": "dog", "box": [0.1, 0.2, 0.5, 0.9]}]}

in JSON lines or any other form that `data check` reads; or COCO's captions file as it is, with its
instances file for boxes. Boxes are left, top, right, bottom, from 0 to 1.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onevision.data.containers import read_head
from onevision.data.forms.raw import RawRecord, describe, field_error
from onevision.data.sources import RecordSource, SequenceSource, open_source
from onevision.errors import DataError

COCO = re.compile(rb'(\xef\xbb\xbf)?\s*\{\s*"(info|images|licenses|annotations|categories|type)"')
# Any: JSON values.
Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Box:
    """What is where: left, top, right, bottom, from 0 to 1."""

    name: str
    corners: tuple[float, float, float, float]

    def __str__(self) -> str:
        return f"{self.name}: [{', '.join(f'{side:.3f}' for side in self.corners)}]"


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What is known of a picture."""

    image: object  # as the record names it
    captions: tuple[str, ...]
    boxes: tuple[Box, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """What a writer reads, a line each: captions, then boxes."""
        return (*self.captions, *map(str, self.boxes))


def open_captions(path: Path, *, instances: Path | None, root: Path | None) -> RecordSource:
    """Opens a file of captions. Raises DataError."""
    if path.is_file() and COCO.match(read_head(path)):
        try:
            records = _read_coco(path, instances)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise DataError(
                f"{path}: its records are not COCO's ({type(error).__name__}: {error}); expected "
                "COCO's captions file, and its instances file as --instances"
            ) from error
        return SequenceSource(path.name, records, root=root or path.parent)
    if instances is not None:
        raise DataError(
            f"{path}: it is not COCO's captions file, which --instances belongs to; put boxes into "
            "the records, as in docs/curation.md"
        )
    return open_source(path, root=root)


def read_caption(record: RawRecord) -> Caption:
    """Returns what is known of a picture. Raises DataError."""
    fields = record.fields
    if "image" not in fields:
        raise field_error(record, "image", "it is missing; expected the path of a picture")
    captions = fields.get("captions", fields.get("caption"))
    if isinstance(captions, str):
        captions = [captions]
    if not isinstance(captions, list) or not all(isinstance(one, str) for one in captions):
        raise field_error(
            record, "captions", f"it is {describe(captions)}; expected a list of sentences"
        )
    said = tuple(" ".join(one.split()) for one in captions if one.strip())
    boxes = fields.get("boxes") or []
    if not isinstance(boxes, list):
        raise field_error(record, "boxes", f"it is {describe(boxes)}; expected a list")
    if not said:
        raise field_error(record, "captions", "no caption has words; expected at least one")
    return Caption(
        image=fields["image"],
        captions=said,
        boxes=tuple(_read_box(record, box) for box in boxes),
    )


def _read_box(record: RawRecord, box: object) -> Box:
    values: Values = box if isinstance(box, dict) else {}
    name, corners = values.get("class"), values.get("box")
    if isinstance(name, str) and isinstance(corners, list) and len(corners) == 4:
        numbers = [float(corner) for corner in corners if isinstance(corner, int | float)]
        if name.strip() and len(numbers) == 4:
            left, top, right, bottom = numbers
            if 0 <= left <= right <= 1 and 0 <= top <= bottom <= 1:
                return Box(name=name.strip(), corners=(left, top, right, bottom))
    raise field_error(
        record,
        "boxes",
        f'{describe(box)}; expected {{"class": "dog", "box": [left, top, right, bottom]}}, from 0 '
        "to 1",
    )


def _read_coco(captions: Path, instances: Path | None) -> Sequence[Values]:
    content = _load(captions, needs=("images", "annotations"))
    found: dict[int, dict[str, Any]] = {}
    for image in content["images"]:
        found[image["id"]] = {"image": image["file_name"], "captions": [], "boxes": []}
    for one in content["annotations"]:
        if "caption" not in one:
            raise DataError(
                f"{captions}: an annotation has no caption; expected COCO's captions file, and "
                "its instances file as --instances"
            )
        if one["image_id"] in found:
            found[one["image_id"]]["captions"].append(one["caption"])
    if instances is not None:
        _add_boxes(found, _load(instances, needs=("images", "annotations", "categories")))
    return list(found.values())


def _add_boxes(found: dict[int, dict[str, Any]], content: Values) -> None:
    names = {one["id"]: one["name"] for one in content["categories"]}
    sizes = {one["id"]: (one["width"], one["height"]) for one in content["images"]}
    for one in content["annotations"]:
        if one["image_id"] not in found:
            continue
        width, height = sizes[one["image_id"]]
        left, top, across, down = one["bbox"]
        corners = [left / width, top / height, (left + across) / width, (top + down) / height]
        box = {"class": names[one["category_id"]], "box": [min(max(c, 0), 1) for c in corners]}
        found[one["image_id"]]["boxes"].append(box)


def _load(path: Path, *, needs: Sequence[str]) -> Values:
    """Returns one of COCO's files. Raises DataError if it is another."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); fetch it again") from error
    missing = [key for key in needs if key not in content]
    if missing:
        raise DataError(f"{path}: no {missing[0]!r}; expected one of COCO's annotation files")
    return content
