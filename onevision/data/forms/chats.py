r"""Records with a list of turns -> turns: LLaVA, ShareGPT, OpenAI, ms-swift, FineVision.

    {"conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", ...}]}
    {"messages": [{"role": "user", "content": "..." or [parts]}, {"role": "assistant", ...}]}
    {"texts": [{"user": "What?", "assistant": "A cat."}]}

A turn with `"loss": false`, `"train": false` or `"weight": 0` is read by the model, not learned.
"""

from collections.abc import Mapping

from onevision.conversation import Role
from onevision.data.forms.parts import read_parts
from onevision.data.forms.raw import Fields, RawRecord, describe, field_error, is_empty
from onevision.data.forms.turns import Slot, Talk, Turn, mark_text

ROLES: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
TOOLS = ("tool", "function", "function_call", "observation", "tool_call", "tool_response")
SWITCHES = ("loss", "weight", "train")
TURN_KEYS = ("from", "role", "value", "content", *SWITCHES)
# Keys of a turn that change its meaning and are not supported.
REFUSED_KEYS: Mapping[str, str] = {
    **dict.fromkeys(("tool_calls", "function_call", "tools"), "tools are not learned"),
    **dict.fromkeys(
        ("image", "images", "video", "videos"),
        "media of a turn are read from its content parts, or from the record's own field",
    ),
    **dict.fromkeys(("audio", "audios"), "the model has no sound"),
}


def read_chat(record: RawRecord, name: str) -> Talk:
    """Reads the list of turns in the field `name`. Raises DataError."""
    raw = record.fields[name]
    if not isinstance(raw, list) or not raw:
        raise field_error(record, name, f"it is {describe(raw)}; expected a list of turns")
    unused: dict[str, None] = {}
    turns = [
        _read_turn(record, turn, field=f"{name}[{number}]", unused=unused)
        for number, turn in enumerate(raw)
    ]
    return Talk(
        turns=with_system(record, turns),
        field=name,
        used=frozenset({name, "system"}),
        unused=tuple(f"{name}[].{key}" for key in unused),
    )


def read_texts(record: RawRecord) -> Talk:
    """Reads FineVision's and the Cauldron's pairs. Raises DataError."""
    raw = record.fields["texts"]
    if not isinstance(raw, list) or not raw:
        raise field_error(record, "texts", f"it is {describe(raw)}; expected a list of turns")
    turns: list[Turn] = []
    unused: dict[str, None] = {}
    for number, pair in enumerate(raw):
        field = f"texts[{number}]"
        if not isinstance(pair, Mapping):
            raise field_error(
                record, field, f"it is {describe(pair)}; expected {{user, assistant}}"
            )
        turns += read_pair(record, pair.get("user"), pair.get("assistant"), field=field)
        unused |= dict.fromkeys(
            f"texts[].{key}" for key in pair if key not in ("user", "assistant")
        )
    return Talk(
        turns=with_system(record, turns),
        field="texts",
        used=frozenset({"texts", "system"}),
        unused=tuple(unused),
        media_in_front=True,
    )


def read_pair(record: RawRecord, question: object, answer: object, *, field: str) -> list[Turn]:
    """Returns a question and its answer as turns. Raises DataError."""
    return [
        Turn(role="user", pieces=mark_text(record, question, role="user", field=field)),
        Turn(role="assistant", pieces=mark_text(record, answer, role="assistant", field=field)),
    ]


def with_system(record: RawRecord, turns: list[Turn]) -> tuple[Turn, ...]:
    """Returns the turns after the record's own `system` message. Raises DataError if both differ.

    A turn of the system that says the same is kept.
    """
    system = record.fields.get("system")
    if is_empty(system):
        return tuple(turns)
    pieces = mark_text(record, system, role="system", field="system")
    if turns and turns[0].role == "system":
        if turns[0].pieces != pieces:
            raise field_error(record, "system", "the turns begin with another system message")
        return tuple(turns)
    return (Turn(role="system", pieces=pieces), *turns)


def _read_turn(record: RawRecord, turn: object, *, field: str, unused: dict[str, None]) -> Turn:
    if not isinstance(turn, Mapping):
        raise field_error(
            record, field, f"it is {describe(turn)}; expected {{from, value}} or {{role, content}}"
        )
    role = _read_role(record, turn, field=field)
    _check_keys(record, turn, field=field, unused=unused)
    text = turn.get("value", turn.get("content"))
    pieces: tuple[str | Slot, ...]
    if isinstance(text, list):
        pieces, more = read_parts(record, text, role=role, field=f"{field}.content")
        unused |= dict.fromkeys(more)
    else:
        pieces = mark_text(record, text, role=role, field=field)
    return Turn(role=role, pieces=pieces, learned=_is_learned(record, turn, role, field=field))


def _read_role(record: RawRecord, turn: Fields, *, field: str) -> Role:
    speaker = turn.get("from", turn.get("role"))
    if isinstance(speaker, str) and speaker in ROLES:
        return ROLES[speaker]
    if speaker in TOOLS:
        raise field_error(record, field, f"its speaker is {speaker!r}; tools are not learned")
    raise field_error(
        record, field, f"its speaker is {speaker!r:.40}; expected one of {', '.join(ROLES)}"
    )


def _check_keys(record: RawRecord, turn: Fields, *, field: str, unused: dict[str, None]) -> None:
    for key, value in turn.items():
        if key in TURN_KEYS or is_empty(value):
            continue
        if key in REFUSED_KEYS:
            raise field_error(record, f"{field}.{key}", f"{REFUSED_KEYS[key]}; leave it out")
        unused[key] = None


def _is_learned(record: RawRecord, turn: Fields, role: Role, *, field: str) -> bool:
    """Returns whether a turn is learned, as its switches say; all must agree."""
    given = {key: turn[key] for key in SWITCHES if turn.get(key) is not None}
    for key, value in given.items():
        if value not in (0, 1):  # also False and True
            raise field_error(
                record, f"{field}.{key}", f"it is {describe(value)}; expected true or false"
            )
        if value and role != "assistant" and key != "weight":
            raise field_error(
                record, f"{field}.{key}", f"only answers are learned, not turns of the {role}"
            )
    values = set(map(bool, given.values()))
    if len(values) > 1:
        raise field_error(record, field, f"{' and '.join(given)} contradict each other")
    return role != "assistant" or values != {False}
