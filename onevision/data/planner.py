"""A mixture -> its plan, made on all cores, one chunk of rows at a time.

Finished chunks are cached, so a check that was stopped continues where it was. No pixel is decoded
unless `deep`.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onevision.conversation import Conversation, Image, Text, Video
from onevision.data.decoded import DecodedMedia, PictureFingerprint
from onevision.data.index import cache_directory
from onevision.data.plan import (
    COLUMNS,
    MODALITIES,
    REDUCTIONS,
    DatasetPlan,
    Fault,
    Plan,
    concatenate,
)
from onevision.data.samples import SampleReader
from onevision.data.workers import process_context
from onevision.errors import ContextLengthError, DataError, InputError, MediaError
from onevision.files import atomic_path
from onevision.inputs.video import FrameChoice

CHUNK_ROWS = 512
DECODED = "decoded.sqlite"
# Raised when the same rows would be planned differently.
FORMAT = "3"

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
    for (number, rows), plan in zip(chunks, _map(work, reader, chunks, num_workers), strict=True):
        done[number].append(plan)
        progress(len(rows))
    return Plan(datasets=tuple(map(concatenate, done)))


def plan_rows(
    reader: SampleReader, dataset: int, rows: NDArray[np.int64], *, deep: bool
) -> DatasetPlan:
    """Plans some rows of one data set."""
    columns: list[tuple[int, int, int, int]] = []
    pictures: list[tuple[int, PictureFingerprint]] = []
    faults: list[Fault] = []
    with DecodedMedia(cache_directory() / DECODED) if deep else nullcontext() as decoded:
        for row in rows.tolist():
            known, fault = _plan_row(reader, dataset, row, pictures=pictures, decoded=decoded)
            columns.append(known)
            if fault is not None:
                faults.append(fault)
    tokens, modality, reductions, digests = zip(*columns, strict=True) if columns else ((),) * 4
    return DatasetPlan(
        rows=rows,
        num_tokens=np.array(tokens, dtype=np.int32),
        modality=np.array(modality, dtype=np.int8),
        reductions=np.array(reductions, dtype=np.uint8),
        digests=np.array(digests, dtype=np.uint64),
        picture_hashes=np.array([picture.hash for _, picture in pictures], dtype=np.uint64),
        picture_digests=np.array([picture.digest for _, picture in pictures], dtype=np.uint64),
        picture_rows=np.array([row for row, _ in pictures], dtype=np.int64),
        faults=tuple(faults),
    )


def _plan_row(
    reader: SampleReader,
    dataset: int,
    row: int,
    *,
    pictures: list[tuple[int, PictureFingerprint]],
    decoded: DecodedMedia | None,
) -> tuple[tuple[int, int, int, int], Fault | None]:
    """Returns (tokens, modality, reductions, digest), and the fault if there is one."""
    modality = reductions = digest = 0
    try:
        conversation = reader.conversation(dataset, row)
        modality = _modality(conversation)
        digest = digest_record(conversation, directory=reader.mixture.directory)
        fitted = reader.fit(dataset, row)
        reductions = sum(1 << REDUCTIONS.index(one) for one in fitted.reductions)
        if decoded is not None:
            for view in fitted.outline.views:
                if isinstance(view.source, FrameChoice):
                    decoded.check_frames(view.source)
            images = [medium for medium in conversation.media if isinstance(medium, Image)]
            pictures += [(row, decoded.picture(image)) for image in images]
        return (fitted.outline.num_tokens, modality, reductions, digest), None
    except ContextLengthError as error:
        fault = Fault(row=row, kind="too long", message=str(error))
    except MediaError as error:
        fault = Fault(row=row, kind="media", message=str(error))
    except (DataError, InputError) as error:
        fault = Fault(row=row, kind="record", message=str(error))
    return (0, modality, reductions, digest), fault


def digest_record(conversation: Conversation, *, directory: Path) -> int:
    """Returns 64 bits of a hash of a record: its words, and its media by bytes or path.

    Paths count relative to `directory`, so that they are the same wherever a mixture lies.
    """
    digest = hashlib.blake2b(digest_size=8)
    for message in conversation.messages:
        digest.update(f"\0{message.role}".encode())
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


def _set_reader(reader: SampleReader) -> None:
    _reader.append(reader)


def _plan_chunk(chunk: Chunk, *, cache: Path, deep: bool) -> DatasetPlan:
    dataset, rows = chunk
    name = hashlib.sha256(rows.tobytes() + bytes([dataset % 256])).hexdigest()[:24]
    path = cache / f"{dataset}-{name}.npz"
    if path.exists():
        with np.load(path) as arrays:
            return DatasetPlan(**{column: arrays[column] for column in COLUMNS})
    plan = plan_rows(_reader[-1], dataset, rows, deep=deep)
    if not plan.faults:  # faulty samples may be fixed, so they are planned again
        with atomic_path(path) as partial_path, partial_path.open("wb") as file:
            np.savez(file, allow_pickle=False, **{name: vars(plan)[name] for name in COLUMNS})
    return plan


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
        num_workers, mp_context=process_context(), initializer=_set_reader, initargs=(reader,)
    ) as pool:
        yield from pool.map(work, chunks)


def _cache_key(reader: SampleReader, *, deep: bool) -> str:
    """Returns a hash of what a plan depends on besides the rows.

    These are the records' files, the directories that media paths count from, and the run's rules.
    """
    files = [
        [
            one.entry.name,
            one.entry.prompt_style,
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
