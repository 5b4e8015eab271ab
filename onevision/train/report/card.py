"""Facts about a trained model -> its model card: Markdown with the hub's front matter.

Nothing is guessed: a missing fact is "not recorded", and every score has the command that measured
it.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from onevision import __version__
from onevision.errors import ConfigError

NOT_RECORDED, NOT_EVALUATED = "not recorded", "not evaluated"
PIPELINE, LIBRARY = "image-text-to-text", "onevision"
TAGS = ("llava-onevision", "multimodal", "vision", "video")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set that the model was trained on."""

    name: str
    num_rows: int | None = None
    licence: str | None = None
    hub_id: str | None = None  # "owner/name", if it is on the hub


@dataclass(frozen=True, kw_only=True)
class Start:
    """A checkpoint that training started from."""

    name: str
    licence: str | None = None
    hub_id: str | None = None  # "owner/name", if it is on the hub
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class Spent:
    """The cost of training."""

    hours: float | None = None
    device: str | None = None
    num_tokens: int | None = None
    energy_kwh: float | None = None  # measured by a meter, never estimated


@dataclass(frozen=True, kw_only=True)
class HeldoutScore:
    """One measured score, and the command that reproduces it."""

    value: str
    command: str

    def __post_init__(self) -> None:
        if not self.command.strip():
            raise ConfigError(f"score {self.value!r} has no command; give the one that measured it")


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The contents of a card. Raises ConfigError without a name, or for a malformed hub id."""

    name: str
    # By part: {"vision_encoder": 3_000_000}.
    num_parameters: Mapping[str, int] = field(default_factory=dict)
    # The settings of each stage, in order: {"align": {"learning_rate": 1e-3}}.
    stages: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    sources: Sequence[Source] = ()
    starts: Sequence[Start] = ()
    spent: Spent = field(default_factory=Spent)
    # By what was measured: {"single image, exact match": HeldoutScore(...)}.
    scores: Mapping[str, HeldoutScore] = field(default_factory=dict)
    # What the model cannot do, as Markdown.
    limits: str | None = None
    # As the hub spells it: "apache-2.0".
    licence: str | None = None
    # What --model takes: a hub id or a directory; by default the name.
    model: str | None = None
    version: str = __version__

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError("the model has no name; give one for the card's title")
        for one in (*self.sources, *self.starts):
            if one.hub_id is not None and one.hub_id.count("/") != 1:
                raise ConfigError(f"hub id {one.hub_id!r} of {one.name} is not OWNER/NAME")


def model_card(facts: ModelFacts) -> str:
    """Returns the card, as the text of a README.md."""
    sections = {
        "How to use it": _usage(facts),
        "Architecture": _architecture(facts.num_parameters),
        "Training": _training(facts.stages),
        "Starting points": _starts(facts.starts),
        "Data": _data(facts.sources),
        "Cost": _cost(facts.spent),
        "Scores": _scores(facts.scores),
        "Limits": facts.limits or _sentence(NOT_RECORDED),
        "Licence": facts.licence or _sentence(NOT_RECORDED),
    }
    body = "\n\n".join(f"## {title}\n\n{text.strip()}" for title, text in sections.items())
    origin = f"A LLaVA-OneVision model, trained with onevision {facts.version}."
    return f"---\n{_front_matter(facts)}---\n\n# {_line(facts.name)}\n\n{origin}\n\n{body}\n"


def adapter_card(*, adapter: Path, base: Start, rank: int, parts: Sequence[str]) -> str:
    """Returns the card of adapters alone, which says what they lie on."""
    values = {
        "library_name": "peft",
        "pipeline_tag": PIPELINE,
        "base_model": base.hub_id,
        "tags": ["lora", *TAGS],
    }
    known = {key: value for key, value in values.items() if value}
    front = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    command = ["onevision", "ask", "What is this?", "--image", "picture.jpg"]
    command += ["--model", base.name, "--adapter", str(adapter)]
    where = " and the ".join(map(_words, parts))
    return (
        f"---\n{front}---\n\n# {_line(adapter.parent.name)}, adapters alone\n\n"
        f"LoRA of rank {rank} in the {where}, and what trained whole beside it, by onevision "
        f"{__version__}. It lies on the weights of `{base.name}`; others are refused.\n\n"
        f"```\n{shlex.join(command)}\n```\n\n"
        "`../checkpoint`, where it was trained, has it merged.\n"
    )


def replace_scores(card: str, scores: Mapping[str, HeldoutScore]) -> str:
    """Returns a card of `model_card` with other scores."""
    before, title, rest = card.partition("## Scores\n\n")
    if not title:
        return card
    _, next_title, after = rest.partition("\n\n## ")
    return f"{before}{title}{_scores(scores)}{next_title}{after}"


def _front_matter(facts: ModelFacts) -> str:
    values = {
        "license": facts.licence and facts.licence.lower(),
        "library_name": LIBRARY,
        "pipeline_tag": PIPELINE,
        "base_model": _unique(start.hub_id for start in facts.starts),
        "datasets": _unique(source.hub_id for source in facts.sources),
        "tags": list(TAGS),
    }
    known = {key: value for key, value in values.items() if value}
    return yaml.safe_dump(known, sort_keys=False, allow_unicode=True)


def _usage(facts: ModelFacts) -> str:
    model = facts.model or facts.name
    quoted = f'"{model}"' if " " in model else model
    return (
        f'```\nonevision ask --model {quoted} "What is this?" --image picture.jpg\n'
        f'onevision ask --model {quoted} "What happens?" --video clip.mp4\n```'
    )


def _architecture(num_parameters: Mapping[str, int]) -> str:
    if not num_parameters:
        return _sentence(NOT_RECORDED)
    rows = [(_words(part), f"{count:,}") for part, count in num_parameters.items()]
    return _table(("part", "parameters"), [*rows, ("all", f"{sum(num_parameters.values()):,}")])


def _training(stages: Mapping[str, Mapping[str, object]]) -> str:
    """Returns a table with one column per stage and one row per setting."""
    if not stages:
        return _sentence(NOT_RECORDED)
    settings = dict.fromkeys(key for stage in stages.values() for key in stage)
    rows = [
        (_words(key), *(_value(stage.get(key)) for stage in stages.values())) for key in settings
    ]
    return _table(("setting", *stages), rows)


def _starts(starts: Sequence[Start]) -> str:
    if not starts:
        return _sentence(NOT_RECORDED)
    columns = {
        "checkpoint": [start.name for start in starts],
        "on the hub": [start.hub_id for start in starts],
        "revision": [start.revision for start in starts],
        "licence": [start.licence for start in starts],
    }
    known = {title: values for title, values in columns.items() if any(values)}
    rows = zip(*(map(_value, values) for values in known.values()), strict=True)
    return _table(tuple(known), rows)


def _data(sources: Sequence[Source]) -> str:
    if not sources:
        return _sentence(NOT_RECORDED)
    rows = [(source.name, _value(source.num_rows), _value(source.licence)) for source in sources]
    return _table(("source", "rows", "licence"), rows)


def _cost(spent: Spent) -> str:
    rows = [
        ("hours", _value(spent.hours)),
        ("device", _value(spent.device)),
        ("tokens", _value(spent.num_tokens)),
        ("energy (kWh, measured)", _value(spent.energy_kwh)),
    ]
    return _table(("", "spent"), rows)


def _scores(scores: Mapping[str, HeldoutScore]) -> str:
    if not scores:
        return _sentence(NOT_EVALUATED)
    rows = [(what, score.value, f"`{score.command}`") for what, score in scores.items()]
    return _table(("what", "score", "measured by"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_line(cell) for cell in line)} |" for line in lines)


def _line(text: str) -> str:
    """Returns text that stays in its cell or title: one line, pipes escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def _value(value: object) -> str:
    if value is None:
        return NOT_RECORDED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(one)}" for key, one in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_value(one) for one in value)
    return str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _sentence(words: str) -> str:
    return words.capitalize() + "."


def _unique(names: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name is not None))
