"""What is known of every sample before training: exact length, kind, fingerprints, faults.

Made by `make_plan` on all cores, a chunk of rows at a time; finished chunks are kept in the cache,
so that a stopped check goes on where it was. No pixel is decoded unless `deep`.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onevision.conversation import Conversation, Image, Text, Video
from onevision.data.decoded import DecodedMedia, PictureFingerprint
from onevision.data.index import cache_directory
from onevision.data.mixture import Mixture
from onevision.data.order import Order
from onevision.data.planning import Reduction
from onevision.data.samples import SampleReader
from onevision.data.workers import process_context
from onevision.errors import ContextLengthError, DataError, InputError, MediaError
from onevision.files import atomic_path
from onevision.inputs.video import FrameChoice

FaultKind = Literal["record", "media", "too long"]
MODALITIES = ("text", "single_image", "multi_image", "video")
REDUCTIONS: tuple[Reduction, ...] = ("turns", "frames", "crops")
CHUNK_ROWS = 512
DECODED = "decoded.sqlite"
# The arrays of a PartPlan.
COLUMNS = (
    *("rows", "num_tokens", "modality", "reductions", "digests"),
    *("picture_hashes", "picture_digests", "picture_rows"),
)
# Changes whenever the same rows would be planned otherwise than before.
FORMAT = "3"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why a sample cannot be used."""

    row: int
    kind: FaultKind
    message: str


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """What is known of the rows of one data set; the arrays are parallel."""

    rows: NDArray[np.int64]
    num_tokens: NDArray[np.int32]  # as fitted; 0 where the sample is refused
    modality: NDArray[np.int8]  # an index into MODALITIES
    reductions: NDArray[np.uint8]  # bit i: REDUCTIONS[i] was needed
    digests: NDArray[np.uint64]  # of the record: the same for the same words and media
    picture_hashes: NDArray[np.uint64]  # of decoded images; empty unless planned deeply
    picture_digests: NDArray[np.uint64]  # the same for the same bytes
    picture_rows: NDArray[np.int64]  # which row each picture belongs to
    faults: tuple[Fault, ...]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which rows can be learned from."""
        return self.num_tokens > 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plans of all data sets of a mixture."""

    parts: tuple[DatasetPlan, ...]

    def restrict(self, mixture: Mixture) -> Mixture:
        """Return the mixture without the rows that cannot be used."""
        return replace(
            mixture,
            parts=tuple(
                replace(part, rows=plan.rows[plan.usable])
                for part, plan in zip(mixture.parts, self.parts, strict=True)
            ),
        )

    def lengths(self, order: Order) -> NDArray[np.int64]:
        """Return the planned tokens of every sample of an order."""
        return self._of(order, "num_tokens").astype(np.int64)

    def modalities(self, order: Order) -> NDArray[np.int8]:
        """Return what every sample of an order shows, as an index into MODALITIES."""
        return self._of(order, "modality")

    def _of(self, order: Order, column: Literal["num_tokens", "modality"]) -> NDArray[Any]:
        found = np.zeros(len(order), dtype=np.int32)
        for number, plan in enumerate(self.parts):
            mine = order.parts == number
            by_row = np.argsort(plan.rows)
            where = by_row[np.searchsorted(plan.rows, order.rows[mine], sorter=by_row)]
            found[mine] = getattr(plan, column)[where]
        return found


def make_plan(
    reader: SampleReader,
    *,
    deep: bool = False,
    fresh: bool = False,
    num_workers: int = 2,
    progress: Callable[[int], object] = int,
) -> Plan:
    """Plan every sample of the reader's mixture; `progress` hears how many rows were done.

    What an earlier call planned is taken from the cache while the records' files are the same;
    `fresh` forgets it, which is needed where media have changed under the same names.
    """
    chunks = [
        (number, part.rows[begin : begin + CHUNK_ROWS])
        for number, part in enumerate(reader.mixture.parts)
        for begin in range(0, len(part.rows), CHUNK_ROWS)
    ]
    keep = cache_directory() / "plans" / _key(reader, deep=deep)
    if fresh:
        shutil.rmtree(keep, ignore_errors=True)
    keep.mkdir(parents=True, exist_ok=True)
    work = partial(_kept_chunk, keep=keep, deep=deep)
    done: list[list[DatasetPlan]] = [[] for _ in reader.mixture.parts]
    for (number, rows), plan in zip(chunks, _map(work, reader, chunks, num_workers), strict=True):
        done[number].append(plan)
        progress(len(rows))
    return Plan(parts=tuple(_joined(plans) for plans in done))


def plan_rows(
    reader: SampleReader, part: int, rows: NDArray[np.int64], *, deep: bool
) -> DatasetPlan:
    """Plan some rows of one data set."""
    columns: dict[str, list[int]] = {name: [] for name in ("tokens", "kind", "given_up", "digest")}
    pictures: list[tuple[int, PictureFingerprint]] = []
    faults: list[Fault] = []
    with DecodedMedia(cache_directory() / DECODED) if deep else nullcontext() as decoded:
        for row in rows.tolist():
            known, fault = _plan_row(reader, part, row, pictures=pictures, decoded=decoded)
            for column, value in zip(columns.values(), known, strict=True):
                column.append(value)
            if fault is not None:
                faults.append(fault)
    return DatasetPlan(
        rows=rows,
        num_tokens=np.array(columns["tokens"], dtype=np.int32),
        modality=np.array(columns["kind"], dtype=np.int8),
        reductions=np.array(columns["given_up"], dtype=np.uint8),
        digests=np.array(columns["digest"], dtype=np.uint64),
        picture_hashes=np.array([picture.hash for _, picture in pictures], dtype=np.uint64),
        picture_digests=np.array([picture.digest for _, picture in pictures], dtype=np.uint64),
        picture_rows=np.array([row for row, _ in pictures], dtype=np.int64),
        faults=tuple(faults),
    )


def _plan_row(
    reader: SampleReader,
    part: int,
    row: int,
    *,
    pictures: list[tuple[int, PictureFingerprint]],
    decoded: DecodedMedia | None,
) -> tuple[tuple[int, int, int, int], Fault | None]:
    """Return (tokens, modality, reductions, digest) and the fault, if there is one."""
    kind = given_up = record_digest = 0
    try:
        conversation = reader.conversation(part, row)
        kind = _modality(conversation)
        record_digest = digest_record(conversation, directory=reader.mixture.directory)
        fitted = reader.fitted(part, row)
        given_up = sum(1 << REDUCTIONS.index(one) for one in fitted.reductions)
        if decoded is not None:
            for view in fitted.outline.views:
                if isinstance(view.source, FrameChoice):
                    decoded.check_frames(view.source)
            images = [medium for medium in conversation.media if isinstance(medium, Image)]
            pictures += [(row, decoded.picture(image)) for image in images]
        return (fitted.outline.num_tokens, kind, given_up, record_digest), None
    except ContextLengthError as error:
        fault = Fault(row=row, kind="too long", message=str(error))
    except MediaError as error:
        fault = Fault(row=row, kind="media", message=str(error))
    except (DataError, InputError) as error:
        fault = Fault(row=row, kind="record", message=str(error))
    return (0, kind, given_up, record_digest), fault


def digest_record(conversation: Conversation, *, directory: Path) -> int:
    """Fingerprint a record: its words, and its media by bytes or path. 64 bits.

    Paths count as seen from `directory`, so that they are the same wherever a mixture lies.
    """
    told = hashlib.blake2b(digest_size=8)
    for message in conversation.messages:
        told.update(f"\0{message.role}".encode())
        for part in message.parts:
            content = part.text if isinstance(part, Text) else part.source
            if isinstance(content, str) and not isinstance(part, Text):
                content = os.path.relpath(content, directory)
            told.update(content if isinstance(content, bytes) else f"\1{content}".encode())
    return int.from_bytes(told.digest(), "little")


def _modality(conversation: Conversation) -> int:
    if any(isinstance(m, Video) for m in conversation.media):
        return MODALITIES.index("video")
    return min(len(conversation.media), 2)


# The reader of a planning process, set once when it starts.
_reader: list[SampleReader] = []


def _begin(reader: SampleReader) -> None:
    _reader.append(reader)


def _kept_chunk(chunk: tuple[int, NDArray[np.int64]], *, keep: Path, deep: bool) -> DatasetPlan:
    part, rows = chunk
    name = hashlib.sha256(rows.tobytes() + bytes([part % 256])).hexdigest()[:24]
    path = keep / f"{part}-{name}.npz"
    if path.exists():
        with np.load(path) as held:
            return DatasetPlan(**{column: held[column] for column in COLUMNS}, faults=())
    plan = plan_rows(_reader[-1], part, rows, deep=deep)
    if not plan.faults:  # what is broken may be mended, and is looked at again
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **{c: getattr(plan, c) for c in COLUMNS})
    return plan


def _map(
    work: Callable[[tuple[int, NDArray[np.int64]]], DatasetPlan],
    reader: SampleReader,
    chunks: list[tuple[int, NDArray[np.int64]]],
    num_workers: int,
) -> Iterator[DatasetPlan]:
    if num_workers == 0 or len(chunks) < 2:
        _reader.append(reader)
        yield from map(work, chunks)
        _reader.pop()
        return
    with ProcessPoolExecutor(
        num_workers, mp_context=process_context(), initializer=_begin, initargs=(reader,)
    ) as pool:
        yield from pool.map(work, chunks)


def _key(reader: SampleReader, *, deep: bool) -> str:
    """Name what a plan depends on, besides the rows: the records' files and the run's rules."""
    files = [
        [part.dataset.name, part.dataset.prompt_style, part.source.fingerprint]
        for part in reader.mixture.parts
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
    told = json.dumps([files, rules, reader.processor.tokenizer.definition, deep])
    return hashlib.sha256(told.encode()).hexdigest()[:24]


def _joined(plans: list[DatasetPlan]) -> DatasetPlan:
    if not plans:
        return _nothing()
    arrays = {name: np.concatenate([getattr(plan, name) for plan in plans]) for name in COLUMNS}
    return DatasetPlan(**arrays, faults=tuple(fault for plan in plans for fault in plan.faults))


def _nothing() -> DatasetPlan:
    return DatasetPlan(
        rows=np.zeros(0, np.int64),
        num_tokens=np.zeros(0, np.int32),
        modality=np.zeros(0, np.int8),
        reductions=np.zeros(0, np.uint8),
        digests=np.zeros(0, np.uint64),
        picture_hashes=np.zeros(0, np.uint64),
        picture_digests=np.zeros(0, np.uint64),
        picture_rows=np.zeros(0, np.int64),
        faults=(),
    )
