"""A task and a place -> its rows, as the data set's own files hold them.

The place is a folder DIR, or "hub". The files of a task are, with .parquet, .jsonl or .json behind,

    the task's own patterns (`files`)                  in any of the folders below
    <config>/<split>-*  <config>/<split>  <config>-<split>             where it has a configuration
    <split>-*  <split>  data/<split>-*      where it has none, and in DIR/<task>
    <task>                                             in any of the folders below

in DIR/<task>, DIR/<name of the data set>, DIR/<owner>/<name>, or DIR itself; in DIR itself, unless
it has one of these names, only the first and the last line count, so that no task takes another's
rows. The first that exists is taken. Media that are paths lie below the folder the files are in.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from onevision.conversation import Image, Video
from onevision.data.json_source import JsonSource
from onevision.data.parquet_source import ParquetSource
from onevision.data.records import Fields, RawRecord, field_error, read_medium
from onevision.data.sources import RecordSource
from onevision.errors import DataError, MediaError
from onevision.eval.prompts import fill_path, is_empty
from onevision.eval.task import Task
from onevision.inputs.media import open_image
from onevision.inputs.video import choose_frames, space_evenly

HUB = "hub"
SUFFIXES = (".parquet", ".jsonl", ".json")
# Shorter texts are taken for paths, not for base64.
MIN_BASE64 = 100
BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
DATA_ADDRESS = re.compile(r"data:image/[\w.+-]+;base64,")
FRAMES = (".jpg", ".jpeg", ".png", ".webp")


Belonging = Literal["task", "dataset", "anything"]


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Where files are looked for, and what the folder is known to hold."""

    path: Path
    of: Belonging


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a task, file after file."""

    task: Task
    root: Path
    files: tuple[Path, ...]
    # Rows that hold the images of these, by what they are called there.
    images: "Rows | None" = None

    @cached_property
    def sources(self) -> tuple[RecordSource, ...]:
        """The open files."""
        return tuple(_open(file, root=self.root) for file in self.files)

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def read(self, number: int) -> RawRecord:
        """Return a row by its number in all files. Raises DataError."""
        for source in self.sources:
            if number < len(source):
                return source.read(number)
            number -= len(source)
        raise DataError(f"row {number} is behind the last of {self.task.name}")

    def asked(self, record: RawRecord) -> bool:
        """Whether the task asks this row. Raises DataError for a missing field."""
        for name, values in self.task.where.items():
            if name not in record.fields:
                raise field_error(
                    record, name, f"it is missing; task {self.task.name!r} selects by it"
                )
            if str(record.fields[name]) not in values:
                return False
        return True

    def media(self, record: RawRecord, *, prompt: str) -> tuple[Image | Video, ...]:
        """Return the images or the video of a row. Raises DataError where they are not there."""
        if self.task.video:
            return (self._video(record),)
        if self.images is not None:
            record = self.images.lookup(record, self.task.images_from[2])
        names = self.task.images
        if self.task.images_marked:
            names = tuple(n for n in names if f"<{n.replace('_', ' ')}>" in prompt)
        found = [one for name in names for one in _images(record, name)]
        if not found and not self.task.images_optional:
            raise field_error(
                record, names[0] if names else "image", "there is no image in the row"
            )
        return tuple(map(Image, found))

    def lookup(self, record: RawRecord, field: str) -> RawRecord:
        """Return the row of these that another row's field names. Raises DataError."""
        key = str(record.fields.get(field))
        if key not in self._numbers:
            raise field_error(record, field, f"there is no image called {key!r} in {self.files[0]}")
        return replace(self.read(self._numbers[key]), where=record.where)

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        key = self.task.images_from[3]
        return {str(self.read(n).fields.get(key)): n for n in range(len(self))}

    def _video(self, record: RawRecord) -> Video:
        paths = [fill_path(t, record.fields, where=record.where) for t in self.task.video]
        below = [Path(str(read_medium(record, "video", path))) for path in paths]
        for path in below:
            if path.exists():
                return _frames(path, count=self.task.num_frames)
        raise field_error(
            record, "video", f"no such file: {below[0]}; put the videos below {self.root}"
        )


def open_rows(task: Task, place: str) -> Rows:
    """Open the rows of a task in a folder, or fetch them from the hub. Raises DataError."""
    folders = _fetched(task) if place == HUB else _folders(task, Path(place))
    rows = _rows(task, folders, config=task.config, split=task.split)
    if not task.images_from:
        return rows
    config, split, _, _ = task.images_from
    return replace(rows, images=_rows(task, folders, config=config, split=split))


def _folders(task: Task, place: Path) -> tuple[Folder, ...]:
    if not place.is_dir():
        raise DataError(f"{place}: no such folder; give the folder with the data sets, or 'hub'")
    short = task.dataset.rpartition("/")[2]
    itself: Mapping[str, Belonging] = {short: "dataset", task.name: "task"}
    return (
        Folder(path=place / task.name, of="task"),
        Folder(path=place / short, of="dataset"),
        Folder(path=place / task.dataset, of="dataset"),
        Folder(path=place, of=itself.get(place.resolve().name, "anything")),
    )


def _fetched(task: Task) -> tuple[Folder, ...]:
    """Download the files of a task. Raises DataError."""
    if task.video:
        raise DataError(
            f"task {task.name!r}: the hub holds the videos of {task.dataset} in archives; download "
            f"and unpack them, so that {task.video[0]} is below a folder, and give it as --data"
        )
    patterns = _patterns(task, config=task.config, split=task.split, of="dataset")
    if task.images_from:
        config, split, _, _ = task.images_from
        patterns += _patterns(task, config=config, split=split, of="dataset")
    try:
        found = snapshot_download(
            task.dataset, repo_type="dataset", revision=task.revision, allow_patterns=list(patterns)
        )
    except LocalEntryNotFoundError as error:
        raise DataError(
            f"{task.dataset}: the hub cannot be reached; check the connection, or download the "
            "data set elsewhere and give its folder as --data"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        said = str(error).strip().splitlines()[0]
        raise DataError(f"{task.dataset}: not available from the hub ({said})") from error
    return (Folder(path=Path(found), of="dataset"),)


def _rows(task: Task, folders: Sequence[Folder], *, config: str | None, split: str) -> Rows:
    for folder in folders:
        for pattern in _patterns(task, config=config, split=split, of=folder.of):
            files = tuple(sorted(path for path in folder.path.glob(pattern) if path.is_file()))
            if files:
                return Rows(task=task, root=folder.path, files=files)
    tried = " or ".join(str(folder.path) for folder in folders)
    raise DataError(
        f"task {task.name!r}: no rows of {task.dataset} in {tried}; expected them for instance as "
        f"{task.name}/{split}.parquet (all names: docs/evaluation.md)"
    )


def _patterns(task: Task, *, config: str | None, split: str, of: Belonging) -> tuple[str, ...]:
    stems = []
    if config is not None and of != "anything":
        stems += [f"{config}/{split}-*", f"{config}/{split}", f"{config}-{split}"]
    if of == "task" or (config is None and of == "dataset"):
        stems += [f"{split}-*", split, f"data/{split}-*"]
    own = task.files if config == task.config else ()
    return (*own, *(stem + suffix for stem in (*stems, task.name) for suffix in SUFFIXES))


def _frames(path: Path, *, count: int) -> Video:
    """Return `count` frames of a video file, or of a folder of frames, evenly over its length.

    FIDELITY: of fewer frames, some are shown more than once, as in the reference's evaluation
    (np.linspace over the frames); elsewhere a short video is shown as it is. The frames of a folder
    go by name; the reference takes them as the file system lists them.
    """
    if path.is_dir():
        names = sorted(p for p in path.iterdir() if p.suffix.lower() in FRAMES)
        if not names:
            raise MediaError(f"{path}: the folder holds no frames; expected {', '.join(FRAMES)}")
        return Video([open_image(names[i]) for i in space_evenly(0, len(names) - 1, count)])
    video = Video(str(path), num_frames=count)
    choice = choose_frames(video)
    if len(choice.indices) == count:
        return video
    frames = list(choice.frames())
    return Video([frames[i] for i in space_evenly(0, len(frames) - 1, count)])


def _open(file: Path, *, root: Path) -> RecordSource:
    if file.suffix == ".parquet":
        return ParquetSource([file], name=str(file), root=root, columns=None)
    return JsonSource([file], name=str(file), root=root)


def _images(record: RawRecord, field: str) -> Iterator[str | bytes]:
    if field not in record.fields:
        raise field_error(record, field, f"it is missing; the row has {', '.join(record.fields)}")
    value = record.fields[field]
    for entry in value if isinstance(value, list) else [value]:
        if not (is_empty(entry) or entry == " "):
            yield _image(record, field, entry)


def _image(record: RawRecord, field: str, entry: object) -> str | bytes:
    if isinstance(entry, str) and (encoded := _base64(record, field, entry)) is not None:
        return encoded
    found = read_medium(record, field, entry)
    if isinstance(found, str) and not Path(found).is_file():
        raise field_error(record, field, f"no such file: {found}")
    return found


def _base64(record: RawRecord, field: str, text: str) -> bytes | None:
    """Return the bytes of a base64 text; None where it is a path."""
    address = DATA_ADDRESS.match(text)
    if address is None and (len(text) < MIN_BASE64 or BASE64.fullmatch(text) is None):
        return None
    try:
        return base64.b64decode(text[address.end() if address else 0 :])
    except binascii.Error as error:
        raise field_error(record, field, f"the image is not whole base64 ({error})") from error


def plain(fields: Fields, *, without: Sequence[str]) -> dict[str, object]:
    """Return a row as JSON knows it, without media."""
    kept = {name: value for name, value in fields.items() if name not in without}
    return json.loads(json.dumps(kept, default=_as_text))


def _as_text(value: object) -> str | None:
    return None if isinstance(value, bytes) else str(value)
