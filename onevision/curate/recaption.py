"""Pictures -> detailed descriptions by a model that sees them: the line's self-improvement.

Source: 2408.03326, section 4.1, "re-captioned detailed description data".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from onevision.conversation import Image, Text
from onevision.curate.pictures import PictureReader
from onevision.curate.prompt_files import PROMPTS, PromptFile, read_prompt
from onevision.curate.rules import HAN, count_words, find_fault
from onevision.curate.task import Attempt, Outcome, Refusal, SourceItem, Task, Turn
from onevision.data.containers import PICTURES
from onevision.data.forms.raw import RawRecord
from onevision.data.mixture import open_mixture
from onevision.data.sources import RecordSource, SequenceSource
from onevision.errors import DataError

RECAPTION_PROMPTS = PROMPTS / "recaption"
KIND = "recaption"
# Of the characters of a Chinese description, this share is Chinese at least.
MIN_HAN_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class RecaptionJob:
    """Descriptions of the pictures of several sources, each picture once."""

    sources: Sequence[RecordSource]
    language: str
    writer: str  # its identity
    seed: int
    prompts: Path = RECAPTION_PROMPTS
    name: str = KIND
    # Whether pictures may lie inside the records.
    embedded: bool = False

    @property
    def root(self) -> Path | None:
        """Where the pictures' paths start."""
        return self.sources[0].root

    @property
    def num_items(self) -> int:
        """One task a record with a picture, or several."""
        return sum(map(len, self.sources))

    @cached_property
    def prompt(self) -> PromptFile:
        """The prompt of the language. Raises DataError."""
        path = self.prompts / f"{self.language}.yaml"
        prompt = read_prompt(path)
        if not prompt.content.phrasings:
            raise DataError(f"{path}: no phrasings; expected wordings of the request")
        return prompt

    @cached_property
    def _pictures(self) -> PictureReader:
        return PictureReader(embedded=self.embedded)

    def items(self) -> Iterator[Task | Refusal]:
        """Yields a task for each picture; equal pictures give equal tasks."""
        for source in self.sources:
            for row in range(len(source)):
                yield self._make(source, row)

    def read(self, task: Task, attempt: Attempt) -> Outcome:
        """Returns the description as an answer to its request, or the rule that it breaks."""
        text = (attempt.text or "").strip()
        fault = find_fault(text, finish_reason=attempt.finish_reason, known=["caption box notes"])
        if fault == "cut off" and attempt.finish_reason == "stop":
            fault = None  # it ended by itself, and captions need no period
        if fault is None and count_words(text) < self.prompt.content.min_words:
            fault = "too short"
        if fault is None and self.language == "zh" and not _is_chinese(text):
            fault = "other language"
        if fault is not None:
            return Outcome(reason=fault, ask_again=task.sampling.temperature > 0)
        return Outcome(turns=(Turn(question=_request(task), answer=text),))

    def _make(self, source: RecordSource, row: int) -> Task | Refusal:
        place = SourceItem(where=f"{source.name}, row {row}")
        try:
            record = source.read(row)
        except DataError as error:
            return Refusal(kind=KIND, source=place, reason="unreadable record", detail=str(error))
        entries = _list_pictures(record)
        if len(entries) != 1:
            return Refusal(
                kind=KIND,
                source=SourceItem(where=record.where),
                reason="not one picture",
                detail=f"{record.where} has {len(entries)} pictures; expected one",
            )
        picture = self._pictures.read(record, entries[0], kind=KIND)
        if isinstance(picture, Refusal):
            return picture
        request = self.prompt.phrasing(f"{self.seed}/{picture.source.sha256}")
        return Task(
            kind=KIND,
            source=picture.source,
            conversation=self.prompt.conversation([Image(picture.medium), Text(request)]),
            sampling=self.prompt.sampling,
            prompt_sha256=self.prompt.sha256,
            writer=self.writer,
            seed=self.seed,
            context={"request": request},
        )


def open_pictures(path: Path, *, root: Path | None) -> list[RecordSource]:
    """Opens a folder of pictures, or the records of a mixture. Raises DataError.

    In a folder, pictures of all folders below are found, in the order of their paths.
    """
    if not path.is_dir():
        mixture = open_mixture(path, roots=[root] if root else [])
        sources = [dataset.source for dataset in mixture.datasets]
        roots = {source.root for source in sources}
        if len(roots) > 1:
            raise DataError(
                f"{path}: its data sets have {len(roots)} media roots; caption them one by one, so "
                "that the new records have one"
            )
        return sources
    found = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.suffix.lower() in PICTURES and file.is_file()
    )
    if not found:
        raise DataError(f"{path}: no picture in it; expected files such as {' '.join(PICTURES)}")
    return [SequenceSource(path.name, [{"image": name} for name in found], root=path)]


def _list_pictures(record: RawRecord) -> list[object]:
    entry = record.fields.get("image", record.fields.get("images"))
    return entry if isinstance(entry, list) else [] if entry is None else [entry]


def _request(task: Task) -> str:
    request = task.context["request"]
    assert isinstance(request, str)
    return request


def _is_chinese(text: str) -> bool:
    return len(HAN.findall(text)) >= MIN_HAN_SHARE * len("".join(text.split()))
