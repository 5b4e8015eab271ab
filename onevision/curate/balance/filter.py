"""A file of captions -> LLaVA records of those that are kept, and what was counted.

kept.jsonl           a record a caption: a request to describe briefly, and the caption
kept.summary.json    captions, phrases, how often phrases occur before and after
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onevision.curate.balance.embedded import EmbeddedConfig, select_by_embedding
from onevision.curate.balance.encoder import TextEncoder
from onevision.curate.balance.phrases import find_phrases
from onevision.curate.balance.select import Selection, select
from onevision.curate.prompt_files import PROMPTS, read_prompt
from onevision.data.forms.raw import RawRecord
from onevision.data.sources import RecordSource
from onevision.errors import ConfigError, DataError
from onevision.files import Line, atomic_path, encode_line, write_json

BRIEF = PROMPTS / "brief.yaml"
CAPTION_FIELDS = ("caption", "text", "captions")
# How often phrases occur: powers of two, for a plot of any size.
MAX_POWER = 40


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """Which phrases count, and how many captions each brings."""

    min_count: int = 3
    max_count: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("min_count", "max_count"):
            if vars(self)[name] < 1:
                option = "--" + name.replace("_", "-")
                raise ConfigError(f"{option} is {vars(self)[name]}; expected at least 1")


@dataclass(frozen=True, kw_only=True)
class BalanceResult:
    """What was kept of how many."""

    num_captions: int
    num_unreadable: int
    first_problem: str | None
    selection: Selection

    @property
    def num_kept(self) -> int:
        """Captions kept."""
        return int(self.selection.kept.sum())


def balance(
    source: RecordSource,
    output: Path,
    *,
    config: BalanceConfig,
    on_progress: Callable[[int], object] = int,
) -> BalanceResult:
    """Filters the captions of a source and writes both files.

    Calls `on_progress` with the number of captions read. Raises DataError if none can be read,
    OSError.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    reader = _Reader(source, on_progress)
    selection = select(
        reader.phrases(),
        min_count=config.min_count,
        max_count=config.max_count,
        seed=config.seed,
        scratch=output.parent,
    )
    reader.check()
    _write_kept(source, selection.kept, output, seed=config.seed)
    result = BalanceResult(
        num_captions=len(source) - reader.num_unreadable,
        num_unreadable=reader.num_unreadable,
        first_problem=reader.first_problem,
        selection=selection,
    )
    write_json(output.with_suffix(".summary.json"), _summarize(result, vars(config)))
    return result


def balance_by_embedding(
    source: RecordSource,
    output: Path,
    *,
    concepts: list[str],
    encoder: TextEncoder,
    config: EmbeddedConfig,
    on_progress: Callable[[int], object] = int,
) -> BalanceResult:
    """Draws captions with rare concepts more often, and writes both files; raises as `balance`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    reader = _Reader(source, on_progress)
    found = select_by_embedding(
        reader.captions(), concepts, encoder, config=config, scratch=output.parent
    )
    reader.check()
    _write_kept(source, found.kept, output, seed=config.seed)
    occur = found.before > 0
    result = BalanceResult(
        num_captions=len(source) - reader.num_unreadable,
        num_unreadable=reader.num_unreadable,
        first_problem=reader.first_problem,
        selection=Selection(
            kept=found.kept,
            num_phrases=len(concepts),
            num_rare=int((~occur).sum()),
            before=found.before[occur],
            after=found.after[occur],
        ),
    )
    write_json(output.with_suffix(".summary.json"), _summarize(result, vars(config)))
    return result


def read_concepts(path: Path) -> list[str]:
    """Returns the concepts of a file, one a line, each once. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: the concepts cannot be read; expected UTF-8 text with one a line"
        ) from error
    return list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))


def _write_kept(source: RecordSource, kept: NDArray[np.bool_], output: Path, *, seed: int) -> None:
    prompt = read_prompt(BRIEF)
    with atomic_path(output) as partial, partial.open("wb") as file:
        for row in np.flatnonzero(kept).tolist():
            record = source.read(row)
            request = prompt.phrasing(f"{seed}/{row}")
            file.write(encode_line(_to_record(record, row, request)))


class _Reader:
    """Reads all captions once, and counts those that cannot be read."""

    def __init__(self, source: RecordSource, on_progress: Callable[[int], object]) -> None:
        self.num_unreadable = 0
        self.first_problem: str | None = None
        self._source, self._on_progress = source, on_progress

    def check(self) -> None:
        """Raises DataError if no caption could be read."""
        if self.num_unreadable == len(self._source):
            raise DataError(
                f"{self._source.name}: no caption can be read "
                f"({self.first_problem or 'it is empty'})"
            )

    def phrases(self) -> Iterator[tuple[str, ...]]:
        """Yields the phrases of each row, none for a row that cannot be read."""
        for caption in self.captions():
            yield () if caption is None else find_phrases(caption)

    def captions(self) -> Iterator[str | None]:
        """Yields the caption of each row, None for a row that cannot be read."""
        for row in range(len(self._source)):
            try:
                record = self._source.read(row)
                _image(record)
                yield _caption(record)
            except DataError as error:
                self.num_unreadable += 1
                self.first_problem = self.first_problem or str(error)
                yield None
            if row % 1000 == 0:
                self._on_progress(row)


def _caption(record: RawRecord) -> str:
    """Returns a record's caption, the first of several. Raises DataError."""
    for name in CAPTION_FIELDS:
        value = record.fields.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())
    raise DataError(
        f"{record.where}: no caption; expected words in a field {' or '.join(CAPTION_FIELDS)}"
    )


def _image(record: RawRecord) -> str:
    image = record.fields.get("image", record.fields.get("file_name"))
    if isinstance(image, str) and image:
        return image
    raise DataError(f"{record.where}: no image; expected the path of a picture")


def _to_record(record: RawRecord, row: int, request: str) -> Line:
    return {
        "id": str(record.fields.get("id", row)),
        "image": _image(record),
        "conversations": [
            {"from": "human", "value": f"<image>\n{request}"},
            {"from": "gpt", "value": _caption(record)},
        ],
    }


def _summarize(result: BalanceResult, config: Mapping[str, object]) -> Line:
    selection = result.selection
    return {
        **config,
        "num_captions": result.num_captions,
        "num_unreadable": result.num_unreadable,
        "num_kept": result.num_kept,
        "num_phrases": selection.num_phrases,
        "num_rare_phrases": selection.num_rare,
        # Phrases that occur 1, 2 to 3, 4 to 7, ... times.
        "phrases_before": _histogram(selection.before),
        "phrases_after": _histogram(selection.after),
    }


def _histogram(counts: NDArray[np.int64]) -> list[int]:
    powers = np.log2(np.maximum(counts[counts > 0], 1)).astype(np.int64)
    found = np.bincount(powers, minlength=1)[:MAX_POWER]
    return [int(count) for count in found]
