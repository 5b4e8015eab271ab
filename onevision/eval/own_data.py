r"""A user's own records -> questions with the answers that the records expect; and samples.csv.

    {"image": "a.png", "conversations": [{"from": "human", "value": "<image>\nWhat is it?"},
                                         {"from": "gpt", "value": "A cat."}]}

The model is asked for the last answer of each record, or for every answer, after the turns that
precede it as they are in the record.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from onevision.conversation import Conversation, Message, Text
from onevision.data.forms.raw import RawRecord
from onevision.data.mixture import Mixture, open_mixture
from onevision.data.records import to_conversation
from onevision.data.remote.shard import Shard
from onevision.data.sources import FileSource
from onevision.errors import DataError
from onevision.eval.answers import AnswerFiles, explain_failed_write
from onevision.eval.assemble import MARK
from onevision.eval.question import Question
from onevision.eval.scoring.own import METRICS
from onevision.eval.task import Task
from onevision.files import Line, write_text

# Which answers of a record are asked for.
Turns = Literal["last", "each"]
SAMPLES = "samples.csv"
# Longer texts of a record are not kept beside its answer: its turns, base64.
MAX_CHARACTERS = 200
DEFAULT_SCORER, JUDGE = "own", "correctness"


@dataclass(frozen=True)
class Place:
    """Where an expected answer stands."""

    dataset: int
    row: int
    # The index of the answer among the record's messages.
    message: int
    # Which of the record's answers it is, from 1.
    turn: int


@dataclass(frozen=True)
class OwnQuestions:
    """The questions of a user's records, in their order."""

    task: Task
    mixture: Mixture
    places: tuple[Place, ...]
    # Why records were left out: they are not conversations that end with an answer.
    skipped: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def files(self) -> dict[str, int]:
        """The size in bytes of each file of records, by its path."""
        sources = [d.source for d in self.mixture.datasets]
        files = [file for s in sources if isinstance(s, FileSource) for file in s.files]
        return {
            str(file): file.size if isinstance(file, Shard) else file.stat().st_size
            for file in files
        }

    def pose(self, row: int) -> Question | None:
        """Returns a question. Raises DataError if its record can no longer be read."""
        place = self.places[row]
        dataset = self.mixture.datasets[place.dataset]
        record = dataset.source.read(place.row)
        conversation = to_conversation(record, num_frames=self.task.num_frames)
        *asked, expected = conversation.messages[: place.message + 1]
        item: Line = {n: v for n, v in record.fields.items() if _is_short(v)}
        item |= {
            "record": str(record.fields.get("id", place.row)),
            "question": spell(asked[-1]),
            "answer": spell(expected),
            "turn": place.turn,
        }
        if len(self.mixture.datasets) > 1:
            item["dataset"] = dataset.entry.name
        return Question(
            row=row,
            where=record.where,
            prompt="\n".join(map(spell, asked)),
            item=item,
            conversation=Conversation(asked),
        )


def open_own_questions(
    path: Path,
    *,
    turns: Turns = "last",
    scorer: str = DEFAULT_SCORER,
    max_new_tokens: int = 256,
    num_frames: int = 32,
) -> OwnQuestions:
    """Opens a user's records as questions. Raises DataError if none of them can be asked."""
    mixture = open_mixture(path)
    task = Task(
        name=path.resolve().stem,
        title=path.name,
        groups=(),
        dataset=str(path),
        split=turns,
        images=("image",),
        images_optional=True,
        prompt="",
        max_new_tokens=max_new_tokens,
        num_frames=num_frames,
        scorer=scorer,
        judge=JUDGE,
        unit="record",
    )
    places: list[Place] = []
    skipped: list[str] = []
    for number, dataset in enumerate(mixture.datasets):
        for row in map(int, dataset.rows):
            try:
                answers = _find_answers(dataset.source.read(row), turns)
            except DataError as error:
                skipped.append(str(error))
                continue
            places += [Place(number, row, message, turn) for turn, message in answers]
    if not places:
        reason = skipped[0] if skipped else "it has no records"
        raise DataError(f"{path}: no record can be asked; the first reason: {reason}")
    return OwnQuestions(task, mixture, tuple(places), tuple(skipped))


def write_samples(files: AnswerFiles) -> Path:
    """Writes samples.csv: a line per answer, the worst first; returns its path."""
    scores = files.scores()
    lines = files.answers()
    names = [name for name in METRICS if any(name in score for score in scores.values())]
    judged = any("scores" in score for score in scores.values())
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["record", "turn", "question", "expected", "answer", "score", *names, "problem"])
    for line in sorted(
        lines, key=lambda line: (_value(scores[line["row"]], judged=judged), line["row"])
    ):
        score, item = scores[line["row"]], line["item"]
        problem = line.get("failure") or score.get("unreadable") or ""
        found = [_value(score, judged=judged), *(score.get(name, "") for name in names)]
        table.writerow(
            [item["record"], item["turn"], item["question"], item["answer"], line["answer"],
             *found, problem]
        )  # fmt: skip
    path = files.directory / SAMPLES
    with explain_failed_write(path):
        write_text(path, text.getvalue())
    return path


def spell(message: Message) -> str:
    """Returns a message's text, with a mark for each image and video."""
    return "".join(part.text if isinstance(part, Text) else MARK for part in message.parts)


def _find_answers(record: RawRecord, turns: Turns) -> list[tuple[int, int]]:
    """Returns the number, from 1, and the place of the answers to ask for."""
    messages = to_conversation(record).messages
    roles = [message.role for message in messages]
    answers = list(enumerate((i for i, role in enumerate(roles) if role == "assistant"), start=1))
    return answers if turns == "each" else answers[-1:]


def _is_short(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_CHARACTERS
    return isinstance(value, int | float)


def _value(score: Mapping[str, object], *, judged: bool) -> float:
    """Returns a score's own number, 0 to 1; below 0 if the judge's reply was unreadable."""
    found = score.get("scores") if judged else score
    value = found.get("right" if judged else "score", -1.0) if isinstance(found, Mapping) else -1.0
    return float(str(value))
