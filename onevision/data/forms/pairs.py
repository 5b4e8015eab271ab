"""Records with a question and its answer in two fields -> turns.

    {"query": ..., "response": ..., "history": [[q, a], ...], "system": ...}      ms-swift
    {"instruction": ..., "input": ..., "output": ..., "history": [...]}           Alpaca
    {"prompt": ..., "completion": ...}             texts, or lists of messages
    {"question": ..., "answer": ...}
    {"file_name": "1.jpg", "text": "A cat."}       a caption; also "caption"

Media without marks stand in front of the first question.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from onevision.data.forms.chats import read_chat, read_pair, with_system
from onevision.data.forms.raw import RawRecord, describe, field_error, is_empty
from onevision.data.forms.turns import Slot, Talk, Turn

# What a caption answers; the plain template leaves questions out.
CAPTION_QUESTION = "Describe the image."


def read_query(record: RawRecord) -> Talk:
    """Reads ms-swift's query and response. Raises DataError."""
    return _talk(record, "query", record.fields.get("query"), "response")


def read_instruction(record: RawRecord) -> Talk:
    """Reads Alpaca's instruction, input and output. Raises DataError."""
    question, more = record.fields.get("instruction"), record.fields.get("input")
    if not is_empty(more):
        if not isinstance(more, str) or not isinstance(question, str):
            raise field_error(record, "input", f"it is {describe(more)}; expected a string")
        question = f"{question}\n{more}" if question else more
    return _talk(record, "instruction", question, "output", more=("input",))


def read_prompt(record: RawRecord) -> Talk:
    """Reads prompt and completion, as texts or as lists of messages. Raises DataError."""
    prompt, completion = record.fields.get("prompt"), record.fields.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return _read_messages(record, prompt, completion)
    return _talk(record, "prompt", prompt, "completion")


def _read_messages(record: RawRecord, prompt: list[object], completion: list[object]) -> Talk:
    """Reads a prompt of messages, of which none is learned, and those that complete it."""
    if not completion:
        raise field_error(record, "completion", "it is empty; expected at least one answer")
    fields = {**record.fields, "prompt": [*prompt, *completion]}
    talk = read_chat(replace(record, fields=fields), "prompt")
    asked = len(talk.turns) - len(completion)
    turns = tuple(
        replace(turn, learned=turn.learned and (number >= asked or turn.role != "assistant"))
        for number, turn in enumerate(talk.turns)
    )
    return replace(talk, turns=turns, used=talk.used | {"completion"}, media_in_front=True)


def read_question(record: RawRecord) -> Talk:
    """Reads a question and its answer. Raises DataError."""
    return _talk(record, "question", record.fields.get("question"), "answer")


def read_caption(record: RawRecord) -> Talk:
    """Reads a caption, the answer to a fixed question. Raises DataError."""
    name = "text" if "text" in record.fields else "caption"
    return _talk(record, name, CAPTION_QUESTION, name)


# By the fields that tell a form.
PAIRS: Mapping[tuple[str, ...], Callable[[RawRecord], Talk]] = {
    ("query", "response"): read_query,
    ("instruction", "output"): read_instruction,
    ("prompt", "completion"): read_prompt,
    ("question", "answer"): read_question,
}


def _talk(
    record: RawRecord, name: str, question: object, answer: str, *, more: tuple[str, ...] = ()
) -> Talk:
    turns = _read_history(record)
    if question is None:
        raise field_error(record, name, "it is missing; expected a string")
    turns += read_pair(record, question, record.fields.get(answer), field=name)
    return Talk(
        turns=with_system(record, turns),
        field=name,
        used=frozenset({name, answer, "history", "system", *more}),
        media_in_front=True,
    )


def _read_history(record: RawRecord) -> list[Turn]:
    """Returns the turns of earlier exchanges, [question, answer] each."""
    history = record.fields.get("history")
    if is_empty(history):
        return []
    turns: list[Turn] = []
    if not isinstance(history, list):
        raise field_error(record, "history", f"it is {describe(history)}; expected a list of pairs")
    for number, pair in enumerate(history):
        field = f"history[{number}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise field_error(record, field, f"it is {describe(pair)}; expected [question, answer]")
        turns += read_pair(record, *pair, field=field)
    return turns


def place_in_front(turns: tuple[Turn, ...], slots: list[Slot]) -> tuple[Turn, ...]:
    """Returns the turns with media in front of the first question, each on a line of its own."""
    front: tuple[str | Slot, ...] = tuple(piece for slot in slots for piece in (slot, "\n"))
    first = next((n for n, turn in enumerate(turns) if turn.role == "user"), len(turns))
    return tuple(
        replace(turn, pieces=(*front, *turn.pieces)) if number == first else turn
        for number, turn in enumerate(turns)
    )
