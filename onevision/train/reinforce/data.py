r"""Prompts whose answers can be rewarded: what is asked, and what is right.

    {"id": "7", "image": "1.jpg", "prompt": "Which?\nA. cat\nB. dog",
     "type": "choice", "answer": "B"}

| type | answer | reward |
|---|---|---|
| choice | a letter; `options` beside it says how many there are | 1 for the letter |
| number | a number | 1 within 5 % |
| exact | a text, or a list of accepted ones | 1 if equal but for case and punctuation at the ends |
| text | the same | the similarity to the closest, 0 below one half (ANLS) |
| box | [left, top, right, bottom], or some | IoU of matched boxes over the larger number |
| point | the box it must lie in | 1 inside |
| json | an object or a list | the share of values that are right |
| judge | none | a judge's score |

Media are as in `onevision dpo`; boxes are shares of the picture.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from onevision.boxes import Box, to_mark
from onevision.conversation import Conversation, Message
from onevision.data.forms.raw import RawRecord
from onevision.data.planner import digest_record
from onevision.data.sources import open_source
from onevision.errors import DataError
from onevision.eval.scoring.json_values import as_json, parse_json
from onevision.eval.scoring.numbers import parse_number
from onevision.train.preference.data import check_ids, to_prompt

AnswerType = Literal["choice", "number", "exact", "text", "box", "point", "json", "judge"]
TYPES: tuple[AnswerType, ...] = get_args(AnswerType)


@dataclass(frozen=True, kw_only=True)
class RewardedPrompt:
    """A prompt and what a right answer to it is; `expected` depends on the type."""

    id: str
    message: Message
    type: AnswerType
    # A letter, a number or texts for the first four types; a JSON value for "json"; else empty.
    expected: object
    boxes: tuple[Box, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def conversation(self) -> Conversation:
        """The prompt, waiting for an answer."""
        return Conversation([self.message])


def read_rewarded(
    path: Path, *, root: Path | None = None, num_frames: int | None = None
) -> list[RewardedPrompt]:
    """Reads a file of prompts: JSON lines, or any format `open_source` reads.

    Media paths are relative to `root`, by default the file's directory. No medium is opened. Raises
    DataError at the first bad row, naming source, row and field, and for two rows with one id.
    """
    source = open_source(path, root=root)
    prompts = [to_rewarded(source.read(row), num_frames=num_frames) for row in range(len(source))]
    check_ids(path, [prompt.id for prompt in prompts])
    return prompts


def to_rewarded(record: RawRecord, *, num_frames: int | None = None) -> RewardedPrompt:
    """Returns the prompt of a record. Raises DataError."""
    kind, fields = _read_type(record), record.fields
    prompt = to_prompt(record, num_frames=num_frames)
    options = fields.get("options") or []
    if not isinstance(options, list) or not all(isinstance(one, str) for one in options):
        raise _fault(record, "options", f"it is {options!r:.40}; expected a list of texts")
    if "answer" not in fields and kind != "judge":
        raise _fault(record, "answer", f"it is missing, and an answer of type {kind} needs it")
    answer = fields.get("answer")
    return RewardedPrompt(
        id=prompt.id,
        message=prompt.message,
        type=kind,
        expected=_read_expected(record, kind, answer),
        boxes=_read_boxes(record, answer) if kind in ("box", "point") else (),
        options=tuple(options),
    )


def fingerprint(prompts: Sequence[RewardedPrompt]) -> str:
    """Returns a digest of the words, the media's names and the right answers of all prompts."""
    digest = hashlib.sha256()
    for one in prompts:
        known = (one.id, one.type, one.expected, one.boxes, one.options)
        digest.update(repr(known).encode())
        digest.update(
            digest_record(
                Conversation([one.message, Message("assistant", "-")]), directory=Path("/")
            ).to_bytes(8, "little")
        )
    return digest.hexdigest()[:16]


def _read_type(record: RawRecord) -> AnswerType:
    found = record.fields.get("type")
    for kind in TYPES:
        if found == kind:
            return kind
    said = "missing" if found is None else f"{found!r:.40}"
    raise _fault(record, "type", f"it is {said}; expected one of {', '.join(TYPES)}")


def _read_expected(record: RawRecord, kind: AnswerType, answer: object) -> object:
    """Returns a right answer in the form that the rewards read. Raises DataError."""
    match kind:
        case "choice":
            letter = str(answer).strip("() ").upper()
            if len(letter) != 1 or not "A" <= letter <= "Z":
                raise _fault(record, "answer", f"it is {answer!r:.40}; expected a letter")
            return letter
        case "number":
            text = str(answer)
            if isinstance(answer, bool) or parse_number(text) is None:
                raise _fault(record, "answer", f"it is {answer!r:.40}; expected a number")
            return text
        case "exact" | "text":
            texts = answer if isinstance(answer, list) else [answer]
            if not texts or not all(isinstance(one, str) and one.strip() for one in texts):
                raise _fault(
                    record, "answer", f"it is {answer!r:.40}; expected a text, or a list of texts"
                )
            return tuple(texts)
        case "json":
            return _read_json(record, answer)
        case _:
            return None


def _read_json(record: RawRecord, answer: object) -> object:
    value = parse_json(answer) if isinstance(answer, str) else as_json(answer)
    if value is None:
        raise _fault(record, "answer", f"it is {answer!r:.40}; expected a JSON object or list")
    return value


def _read_boxes(record: RawRecord, answer: object) -> tuple[Box, ...]:
    """Returns one box or several, given as numbers. Raises DataError."""
    several = isinstance(answer, list) and bool(answer) and isinstance(answer[0], list)
    found = answer if several else [answer]
    assert isinstance(found, list), "made so"
    boxes = []
    for edges in found:
        is_numbers = isinstance(edges, list) and all(isinstance(one, int | float) for one in edges)
        mark = to_mark(edges) if is_numbers else None
        if not isinstance(mark, Box):
            raise _fault(
                record,
                "answer",
                f"it holds {edges!r:.60}; expected [left, top, right, bottom] as shares of the "
                "picture, 0 to 1",
            )
        boxes.append(mark)
    return tuple(boxes)


def _fault(record: RawRecord, field: str, problem: str) -> DataError:
    return DataError(f"{record.where}, field {field!r}: {problem}")
