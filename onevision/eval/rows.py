"""A task + a folder, or the hub -> the task's rows, read from the data set's own files.

The files of a task, with the suffix .parquet, .jsonl or .json, are

    the task's own patterns (`files`)                  in any of the folders below
    <config>/<split>-*  <config>/<split>  <config>-<split>             if it has a configuration
    <split>-*  <split>  data/<split>-*      if it has none, and in DIR/<task>
    <task>                                             in any of the folders below

in DIR/<task>, DIR/<name of the data set>, DIR/<owner>/<name>, or DIR itself. In DIR itself, unless
it has one of these names, only the first and the last line apply, so that no task reads another's
rows. The first match is used. Media given as paths are relative to the folder that matched.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from onevision.conversation import Image, Video
from onevision.data.forms.raw import Fields, RawRecord, field_error
from onevision.data.json_source import JsonSource
from onevision.data.parquet_source import ParquetSource
from onevision.data.records import read_medium
from onevision.data.sources import RecordSource
from onevision.errors import DataError
from onevision.eval.prompts import fill_path, is_empty
from onevision.eval.task import Task
from onevision.inputs.frame_folder import list_frames, space_evenly
from onevision.inputs.media import open_image
from onevision.inputs.video import choose_frames

HUB = "hub"
SUFFIXES = (".parquet", ".jsonl", ".json")
# How tables spell that there is no image.
NO_IMAGE = (" ", "nan", "None", "N/A")

Contents = Literal["task", "dataset", "anything"]


@dataclass(frozen=True, kw_only=True)
class SearchFolder:
    """A folder to search for files, and what its name says about its contents."""

    path: Path
    contents: Contents


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a task, over all its files."""

    task: Task
    root: Path
    files: tuple[Path, ...]
    # Rows with the images, if these are in a configuration of their own.
    image_rows: "Rows | None" = None

    @cached_property
    def sources(self) -> tuple[RecordSource, ...]:
        """The open files, in order."""
        return tuple(_open(file, root=self.root) for file in self.files)

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def read(self, number: int) -> RawRecord:
        """Returns a row by its number, counted over all files. Raises DataError."""
        for source in self.sources:
            if number < len(source):
                return source.read(number)
            number -= len(source)
        raise DataError(f"task {self.task.name!r} has no row {number}")

    def selects(self, record: RawRecord) -> bool:
        """Whether the task asks this row. Raises DataError for a missing field."""
        for name, values in self.task.where.items():
            if name not in record.fields:
                problem = f"it is missing; task {self.task.name!r} selects by it"
                raise field_error(record, name, problem)
            if str(record.fields[name]) not in values:
                return False
        return True

    def media(self, record: RawRecord, *, prompt: str) -> tuple[Image | Video, ...]:
        """Returns the images or the video of a row. Raises DataError if they are missing."""
        if self.task.video:
            return (self._video(record),)
        if self.image_rows is not None:
            record = self.image_rows.lookup(record, self.task.images_from[2])
        names = self.task.images
        if self.task.images_marked:
            names = tuple(n for n in names if f"<{n.replace('_', ' ')}>" in prompt)
        found = [image for name in names for image in read_images(record, name)]
        if not found and not self.task.images_optional:
            raise field_error(record, names[0] if names else "image", "the row has no image")
        return tuple(map(Image, found))

    def lookup(self, record: RawRecord, field: str) -> RawRecord:
        """Returns the row whose key another row's field holds. Raises DataError."""
        key = str(record.fields.get(field))
        if key not in self._numbers:
            raise field_error(record, field, f"no image has the key {key!r} in {self.files[0]}")
        return replace(self.read(self._numbers[key]), where=record.where)

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        key = self.task.images_from[3]
        return {str(self.read(n).fields.get(key)): n for n in range(len(self))}

    def _video(self, record: RawRecord) -> Video:
        paths = [fill_path(t, record.fields, where=record.where) for t in self.task.video]
        places = [Path(str(read_medium(record, "video", path))) for path in paths]
        for path in places:
            if path.exists():
                return read_video(path, num_frames=self.task.num_frames)
        problem = f"no such file: {places[0]}; put the videos in {self.root}"
        raise field_error(record, "video", problem)


def open_rows(task: Task, place: str) -> Rows:
    """Opens the rows of a task in a folder, or fetches them from the hub. Raises DataError."""
    folders = _download(task) if place == HUB else _local_folders(task, Path(place))
    rows = _find_rows(task, folders, config=task.config, split=task.split)
    if not task.images_from:
        return rows
    config, split, _, _ = task.images_from
    return replace(rows, image_rows=_find_rows(task, folders, config=config, split=split))


def _local_folders(task: Task, place: Path) -> tuple[SearchFolder, ...]:
    if not place.is_dir():
        raise DataError(f"{place}: no such folder; give the folder with the data sets, or 'hub'")
    short = task.dataset.rpartition("/")[2]
    by_name: Mapping[str, Contents] = {short: "dataset", task.name: "task"}
    return (
        SearchFolder(path=place / task.name, contents="task"),
        SearchFolder(path=place / short, contents="dataset"),
        SearchFolder(path=place / task.dataset, contents="dataset"),
        SearchFolder(path=place, contents=by_name.get(place.resolve().name, "anything")),
    )


def _download(task: Task) -> tuple[SearchFolder, ...]:
    """Downloads the files of a task from the hub. Raises DataError."""
    if task.video:
        raise DataError(
            f"task {task.name!r}: the hub holds the videos of {task.dataset} in archives; download "
            f"and unpack them, and give the folder that holds {task.video[0]} as --data"
        )
    patterns = _patterns(task, config=task.config, split=task.split, contents="dataset")
    if task.images_from:
        config, split, _, _ = task.images_from
        patterns += _patterns(task, config=config, split=split, contents="dataset")
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
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{task.dataset}: not available from the hub ({reason})") from error
    return (SearchFolder(path=Path(found), contents="dataset"),)


def _find_rows(
    task: Task, folders: Sequence[SearchFolder], *, config: str | None, split: str
) -> Rows:
    for folder in folders:
        for pattern in _patterns(task, config=config, split=split, contents=folder.contents):
            files = tuple(sorted(path for path in folder.path.glob(pattern) if path.is_file()))
            if files:
                return Rows(task=task, root=folder.path, files=files)
    tried = " or ".join(str(folder.path) for folder in folders)
    raise DataError(
        f"task {task.name!r}: no rows of {task.dataset} in {tried}; expected them for instance as "
        f"{task.name}/{split}.parquet (all names: docs/evaluation.md)"
    )


def _patterns(task: Task, *, config: str | None, split: str, contents: Contents) -> tuple[str, ...]:
    stems = []
    if config is not None and contents != "anything":
        stems += [f"{config}/{split}-*", f"{config}/{split}", f"{config}-{split}"]
    if contents == "task" or (config is None and contents == "dataset"):
        stems += [f"{split}-*", split, f"data/{split}-*"]
    own = task.files if config == task.config else ()
    return (*own, *(stem + suffix for stem in (*stems, task.name) for suffix in SUFFIXES))


def read_video(path: str | Path, *, num_frames: int) -> Video:
    """Returns exactly `num_frames` frames, evenly spaced, of a video file or a folder of frames.

    FIDELITY: a shorter video repeats frames, as in the reference's evaluation (np.linspace over the
    frames); elsewhere it is shown as it is. The frames of a folder are ordered by name, while the
    reference takes them as the file system lists them. Raises MediaError.
    """
    path = Path(path)
    if path.is_dir():
        names = list_frames(path)
        return Video([open_image(names[i]) for i in space_evenly(0, len(names) - 1, num_frames)])
    video = Video(str(path), num_frames=num_frames)
    choice = choose_frames(video)
    if len(choice.indices) == num_frames:
        return video
    frames = list(choice.frames())
    return Video([frames[i] for i in space_evenly(0, len(frames) - 1, num_frames)])


def _open(file: Path, *, root: Path) -> RecordSource:
    if file.suffix == ".parquet":
        return ParquetSource([file], name=str(file), root=root, columns=None)
    return JsonSource([file], name=str(file), root=root)


def read_images(record: RawRecord, field: str) -> Iterator[str | bytes]:
    """Yields the images of a field, as paths or bytes. Raises DataError."""
    if field not in record.fields:
        raise field_error(record, field, f"it is missing; the row has {', '.join(record.fields)}")
    value = record.fields[field]
    for entry in value if isinstance(value, list) else [value]:
        if not is_empty(entry, NO_IMAGE):
            yield _read_image(record, field, entry)


def _read_image(record: RawRecord, field: str, entry: object) -> str | bytes:
    found = read_medium(record, field, entry)
    if isinstance(found, str) and not Path(found).is_file():
        raise field_error(record, field, f"no such file: {found}")
    return found


def row_to_json(fields: Fields, *, without: Sequence[str]) -> dict[str, object]:
    """Returns a row as JSON values, without its media."""
    kept = {name: value for name, value in fields.items() if name not in without}
    return json.loads(json.dumps(kept, default=_as_text))


def _as_text(value: object) -> str | None:
    return None if isinstance(value, bytes) else str(value)
