"""A mixture -> its plan, made on all cores, one chunk of rows at a time.

Finished chunks are cached, so a check that was stopped continues where it was; of a cached chunk,
faulty rows alone are planned again. No pixel is decoded unless `deep`.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onevision.conversation import Conversation, Image, Text, Video
from onevision.data.decoded import DecodedMedia, PictureFingerprint
from onevision.data.plan import (
    COLUMNS,
    MODALITIES,
    REDUCTIONS,
    TRAINING_COLUMNS,
    DatasetPlan,
    Fault,
    Plan,
    concatenate,
)
from onevision.data.remote.ahead import ShardMap, read_ahead
from onevision.data.remote.shard import Shard
from onevision.data.samples import SampleReader
from onevision.data.workers import exit_with_parent, process_context
from onevision.errors import ContextLengthError, DataError, InputError, MediaError, ShardError
from onevision.files import atomic_path, cache_directory
from onevision.inputs.video import FrameChoice

CHUNK_ROWS = 512
DECODED = "decoded.sqlite"
# Raised when the same rows would be planned differently.
FORMAT = "4"

Chunk = tuple[int, NDArray[np.int64]]  # a data set and some of its rows


def make_plan(
    reader: SampleReader,
    *,
    deep: bool = False,
    fresh: bool = False,
    num_workers: int = 2,
    progress: Callable[[int], object] = int,
) -> Plan:
    """Plans every sample of the reader's mixture; `progress` receives the number of rows done.

    Plans are taken from the cache while the files of the records are unchanged; `fresh` drops them,
    which is needed if media have changed under the same names.
    """
    chunks = [
        (number, dataset.rows[begin : begin + CHUNK_ROWS])
        for number, dataset in enumerate(reader.mixture.datasets)
        for begin in range(0, max(1, len(dataset.rows)), CHUNK_ROWS)
    ]
    cache = cache_directory() / "plans" / _cache_key(reader, deep=deep)
    if fresh:
        shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    work = partial(_plan_chunk, cache=cache, deep=deep)
    done: list[list[DatasetPlan]] = [[] for _ in reader.mixture.datasets]
    shards = ShardMap([one.source for one in reader.mixture.datasets])

    def shards_of(place: int) -> list[Shard]:
        number, rows = chunks[place]
        if not shards or _chunk_path(chunks[place], cache).exists():
            return []
        return shards.shards_of((number, row) for row in rows.tolist())

    with read_ahead(shards_of, num_packs=len(chunks)) as fetching:
        fetching.look_ahead(0)
        planned = _map(work, reader, chunks, num_workers)
        for place, ((number, rows), plan) in enumerate(zip(chunks, planned, strict=True), start=1):
            fetching.look_ahead(place)
            done[number].append(plan)
            progress(len(rows))
    return Plan(datasets=tuple(map(concatenate, done)))


def plan_rows(
    reader: SampleReader, dataset: int, rows: NDArray[np.int64], *, deep: bool
) -> DatasetPlan:
    """Plans some rows of one data set."""
    with DecodedMedia(cache_directory() / DECODED) if deep else nullcontext() as decoded:
        known = [_plan_row(reader, dataset, row, decoded=decoded) for row in rows.tolist()]
    pictures = [(row, p) for row, one in zip(rows, known, strict=True) for p in one.pictures]
    return DatasetPlan(
        rows=rows,
        num_tokens=np.array([one.num_tokens for one in known], dtype=np.int32),
        num_cut=np.array([one.num_cut for one in known], dtype=np.int32),
        modality=np.array([one.modality for one in known], dtype=np.int8),
        reductions=np.array([one.reductions for one in known], dtype=np.uint8),
        digests=np.array([one.digest for one in known], dtype=np.uint64),
        picture_hashes=np.array([picture.hash for _, picture in pictures], dtype=np.uint64),
        picture_digests=np.array([picture.digest for _, picture in pictures], dtype=np.uint64),
        picture_rows=np.array([row for row, _ in pictures], dtype=np.int64),
        faults=tuple(one.fault for one in known if one.fault is not None),
        unused=Counter(name for one in known for name in one.unused),
    )


@dataclass(kw_only=True)
class _PlannedRow:
    """What is known of one row; filled as far as reading it gets."""

    num_tokens: int = 0
    num_cut: int = 0
    modality: int = 0
    reductions: int = 0
    digest: int = 0
    pictures: tuple[PictureFingerprint, ...] = ()
    unused: tuple[str, ...] = ()
    fault: Fault | None = None


def _plan_row(
    reader: SampleReader, dataset: int, row: int, *, decoded: DecodedMedia | None
) -> _PlannedRow:
    known = _PlannedRow()
    try:
        _fill_row(known, reader, dataset, row, decoded=decoded)
    except ShardError:  # no fault of the row
        raise
    except ContextLengthError as error:
        known.fault = Fault(row=row, kind="too long", message=str(error))
    except MediaError as error:
        known.fault = Fault(row=row, kind="media", message=str(error))
    except (DataError, InputError) as error:
        known.fault = Fault(row=row, kind="record", message=str(error))
    return known


def _fill_row(
    known: _PlannedRow,
    reader: SampleReader,
    dataset: int,
    row: int,
    *,
    decoded: DecodedMedia | None,
) -> None:
    """Reads a row. Raises DataError, InputError."""
    told = reader.read(dataset, row)
    conversation, known.unused = told.conversation, told.unused
    known.modality = _modality(conversation)
    known.digest = digest_record(conversation, directory=reader.mixture.directory)
    fitted = reader.fit_conversation(conversation, dataset)
    known.reductions = sum(1 << REDUCTIONS.index(one) for one in fitted.reductions)
    if decoded is not None:
        for view in fitted.outline.views:
            if isinstance(view.source, FrameChoice):
                decoded.check_frames(view.source)
        images = [medium for medium in conversation.media if isinstance(medium, Image)]
        known.pictures = tuple(map(decoded.picture, images))
    known.num_cut = fitted.num_cut
    known.num_tokens = fitted.whole.num_tokens


def digest_record(conversation: Conversation, *, directory: Path) -> int:
    """Returns 64 bits of a hash of a record: its words, and its media by bytes or path.

    Paths count relative to `directory`, so that they are the same wherever a mixture lies.
    """
    digest = hashlib.blake2b(digest_size=8)
    for message in conversation.messages:
        digest.update(f"\0{message.role}{'' if message.learned else ' unlearned'}".encode())
        for part in message.parts:
            content = part.text if isinstance(part, Text) else part.source
            if isinstance(content, str) and not isinstance(part, Text):
                content = os.path.relpath(content, directory)
            digest.update(content if isinstance(content, bytes) else f"\1{content}".encode())
    return int.from_bytes(digest.digest(), "little")


def _modality(conversation: Conversation) -> int:
    if any(isinstance(m, Video) for m in conversation.media):
        return MODALITIES.index("video")
    return min(len(conversation.media), MODALITIES.index("multi_image"))


# The reader of a planning process, set once when it starts.
_reader: list[SampleReader] = []


def _prepare_worker(reader: SampleReader) -> None:
    exit_with_parent()
    _reader.append(reader)


def _plan_chunk(chunk: Chunk, *, cache: Path, deep: bool) -> DatasetPlan:
    dataset, rows = chunk
    path = _chunk_path(chunk, cache)
    if not path.exists():
        plan = plan_rows(_reader[-1], dataset, rows, deep=deep)
    else:
        known = _load_chunk(path)
        source = _reader[-1].mixture.datasets[dataset].source
        # A shard that has all of its media cannot be mended without becoming another shard.
        if not known.faults or (source.shards and source.root is None):
            return known
        plan = _plan_faulty_again(known, dataset, deep=deep)
        if plan.faults == known.faults:
            return plan
    with atomic_path(path) as partial_path, partial_path.open("wb") as file:
        arrays = {name: vars(plan)[name] for name in COLUMNS}
        np.savez(file, allow_pickle=False, **arrays, remarks=plan.remarks_to_array())
    return plan


def _chunk_path(chunk: Chunk, cache: Path) -> Path:
    dataset, rows = chunk
    name = hashlib.sha256(rows.tobytes() + bytes([dataset % 256])).hexdigest()[:24]
    return cache / f"{dataset}-{name}.npz"


def _load_chunk(path: Path) -> DatasetPlan:
    with np.load(path) as arrays:
        columns = {name: arrays[name] for name in COLUMNS}
        return DatasetPlan(**columns).with_remarks(arrays["remarks"])


def _plan_faulty_again(known: DatasetPlan, dataset: int, *, deep: bool) -> DatasetPlan:
    """Plans the faulty rows of a chunk once more, and no other: their media may be there now."""
    faulty = np.isin(known.rows, [fault.row for fault in known.faults])
    again = plan_rows(_reader[-1], dataset, known.rows[faulty], deep=deep)
    columns = {name: vars(known)[name].copy() for name in TRAINING_COLUMNS}
    for name in TRAINING_COLUMNS:
        columns[name][faulty] = vars(again)[name]
    kept = ~np.isin(known.picture_rows, again.rows)
    pictures = {
        name: np.concatenate([vars(known)[name][kept], vars(again)[name]])
        for name in ("picture_hashes", "picture_digests", "picture_rows")
    }
    by_row = np.argsort(known.rows)
    places = by_row[np.searchsorted(known.rows, pictures["picture_rows"], sorter=by_row)]
    order = np.argsort(places, kind="stable")
    arrays = columns | {name: column[order] for name, column in pictures.items()}
    return DatasetPlan(**arrays, faults=again.faults, unused=known.unused)


def _map(
    work: Callable[[Chunk], DatasetPlan],
    reader: SampleReader,
    chunks: list[Chunk],
    num_workers: int,
) -> Iterator[DatasetPlan]:
    if num_workers == 0 or len(chunks) < 2:
        _reader.append(reader)
        yield from map(work, chunks)
        _reader.pop()
        return
    with ProcessPoolExecutor(
        num_workers, mp_context=process_context(), initializer=_prepare_worker, initargs=(reader,)
    ) as pool:
        yield from pool.map(work, chunks)


def _cache_key(reader: SampleReader, *, deep: bool) -> str:
    """Returns a hash of what a plan depends on besides the rows: files, directories and rules."""
    files = [
        [
            one.entry.name,
            one.entry.prompt_style,
            one.entry.media_in_front,
            one.entry.turns,
            one.source.fingerprint,
            _resolve_text(one.source.root),
        ]
        for one in reader.mixture.datasets
    ]
    rules = repr(
        (
            FORMAT,
            reader.processor.config,
            reader.max_tokens,
            reader.template,
            reader.image_first,
            reader.num_frames,
            reader.styles,
        )
    )
    place = _resolve_text(reader.mixture.directory)
    content = json.dumps([files, rules, reader.processor.tokenizer.definition, deep, place])
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _resolve_text(directory: Path | None) -> str | None:
    return None if directory is None else str(directory.resolve())
