r"""A task file -> Task: which rows are asked, with which prompt, and how answers are scored.

    title: ChartQA                                 # as the paper calls it
    groups: [single_image]
    dataset: lmms-lab/ChartQA                      # on the hub; locally, see `rows.py`
    split: test
    images: [image]
    prompt: "{question}\nAnswer the question with a single word."
    max_new_tokens: 16
    scorer: chartqa
    metric: relaxed_overall

Keys are the fields of `Task`. `parts` makes a task of each of its entries, which override the keys
above; `now` overrides them for the profile "now".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from onevision.errors import ConfigError
from onevision.eval.judging.registry import JUDGED_BENCHMARKS
from onevision.eval.scoring.registry import SCORERS
from onevision.values import check_key, from_plain, name_closest, read_yaml, to_plain

TASKS = Path(__file__).parent / "tasks"
# The group of all bundled tasks.
ALL = "all"
# As in lmms-eval when the paper was written (August 2024, v0.2.3), or in 2026 (0.7.3).
Profile = Literal["p24", "now"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A text for `{case}`, used for the rows whose fields have these values."""

    text: str
    when: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark, or a part of it. Fields of rows have their names in the data set."""

    name: str
    # The name in the paper.
    title: str
    # Groups that it belongs to; --tasks takes their names too.
    groups: tuple[str, ...]
    # "owner/name" on the hub.
    dataset: str
    split: str
    config: str | None = None
    # A commit or tag of the data set; None is the newest.
    revision: str | None = None
    # Patterns of its files, tried before the usual ones (`rows.py`).
    files: tuple[str, ...] = ()
    # Only rows whose field has one of the values are asked.
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    # Fields with images: one, a list, or empty.
    images: tuple[str, ...] = ()
    # Whether to show only images that the prompt mentions, as `<image 2>` for image_2.
    images_marked: bool = False
    # Whether a row may have no image at all.
    images_optional: bool = False
    # Whether scorers are given the first image's size, as `image_width` and `image_height`.
    sizes: bool = False
    # A field with a list, of which each entry makes a question of its own: the field's value there.
    each: str | None = None
    # Where the images are, if not in the rows: configuration, split, our key field, theirs.
    images_from: tuple[str, ...] = ()
    # Paths of a row's video, as in "all_test/v_{video_name}.mp4"; the first that exists is used.
    video: tuple[str, ...] = ()
    num_frames: int = 32

    # The prompt: fields in braces, `{question|strip}` with a filter (`prompts.py`).
    prompt: str
    # `{case}` is the text of the first that matches the row.
    cases: tuple[Case, ...] = ()
    # `{name}` becomes this text, or nothing if the field is empty.
    optional: Mapping[str, str] = field(default_factory=dict)
    # How the data set spells an absent option, or an optional field that is absent, if not by
    # null or NaN. Other options keep their letters.
    empty: tuple[str, ...] = ()
    # Phrases removed from every field.
    remove: tuple[str, ...] = ()
    # Options: a field with a list, or several fields. `{choices}` has a line per option.
    choices: tuple[str, ...] = ()
    choice_form: str = "{letter}. {choice}"
    # A field with a conversation in LLaVA's format, used instead of the prompt.
    turns: str | None = None

    max_new_tokens: int = 1024
    temperature: float = 0.0

    # A key of scoring/registry.py; None if only a judge or the benchmark's server can score it.
    scorer: str | None = None
    # The headline among the scorer's metrics; None is the first.
    metric: str | None = None
    # A key of judging/registry.py, if another model judges the answers.
    judge: str | None = None
    # Questions with the same value of this field (or remainder: "index % 1000000") are not
    # independent: the bootstrap resamples them together.
    unit: str | None = None
    # Whether the paper reports the mean over the parts.
    averaged: bool = False
    # Key in a submission file -> field of the row, or "answer".
    submission: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for wrong, problem in (
            (bool(self.images) == bool(self.video), "give either `images` or `video`"),
            (
                not (self.scorer or self.judge or self.submission),
                "give a `scorer`, a `judge` or a `submission`",
            ),
            (self.images_from and len(self.images_from) != 4, "`images_from` has four entries"),
            (
                self.scorer is not None and self.scorer not in SCORERS,
                f"no scorer {self.scorer!r}{name_closest(self.scorer or '', SCORERS)}",
            ),
            (
                self.judge is not None and self.judge not in JUDGED_BENCHMARKS,
                f"no judge {self.judge!r}{name_closest(self.judge or '', JUDGED_BENCHMARKS)}",
            ),
            (self.max_new_tokens < 1, "`max_new_tokens` is below 1"),
            (self.num_frames < 1, "`num_frames` is below 1"),
            (self.temperature < 0, "`temperature` is below 0"),
            ("{case}" in self.prompt and not self.cases, "`prompt` has {case} without `cases`"),
            ("{choices" in self.prompt and not self.choices, "`prompt` has {choices}, `choices` is "
             "missing"),
        ):  # fmt: skip
            if wrong:
                raise ConfigError(f"task {self.name!r}: {problem}")

    def plain(self) -> dict[str, Any]:
        """Returns all fields as JSON values."""
        return to_plain(self)


def read_tasks(path: Path, *, profile: Profile = "p24") -> tuple[Task, ...]:
    """Reads a task file: one task, or a task per part. Raises ConfigError."""
    content = read_yaml(path)
    content = {"name": path.stem} | _mapping(content, where=str(path))
    return tuple(_tasks(content, profile=profile, where=str(path)))


@cache
def bundled_tasks(profile: Profile = "p24") -> Mapping[str, Task]:
    """Returns the bundled tasks by name."""
    paths = sorted(TASKS.glob("*.yaml"))
    return {task.name: task for path in paths for task in read_tasks(path, profile=profile)}


@cache
def groups(profile: Profile = "p24") -> Mapping[str, tuple[str, ...]]:
    """Returns the names of the tasks in each group."""
    tasks = bundled_tasks(profile).values()
    names = dict.fromkeys(name for task in tasks for name in task.groups)
    found = {name: tuple(t.name for t in tasks if name in t.groups) for name in names}
    return {ALL: tuple(t.name for t in tasks)} | found


def find_tasks(names: Sequence[str], *, profile: Profile = "p24") -> tuple[Task, ...]:
    """Returns the tasks with these names, in these groups and in these task files, each once.

    Raises ConfigError for an unknown name.
    """
    found: dict[str, Task] = {}
    for name in names:
        if name.endswith((".yaml", ".yml")):
            found |= {task.name: task for task in read_tasks(Path(name), profile=profile)}
            continue
        inside = groups(profile).get(name, (name,))
        for inner in inside:
            if inner not in bundled_tasks(profile):
                known = [*groups(profile), *bundled_tasks(profile)]
                hint = f"{name_closest(name, known)} (onevision eval --tasks list lists them)"
                raise ConfigError(f"no task or group {name!r}{hint}")
            found[inner] = bundled_tasks(profile)[inner]
    return tuple(found.values())


def _tasks(values: dict[str, Any], *, profile: Profile, where: str) -> Iterator[Task]:
    """Yields the tasks of a file, or of a part of it."""
    parts = _mapping(values.pop("parts", {}), where=f"{where}: parts")
    later = _mapping(values.pop("now", {}), where=f"{where}: now")
    if profile == "now":
        values |= later
    for key in later:
        check_key(key, [field.name for field in fields(Task)], where=f"{where}: now")
    if not parts:
        yield from_plain(Task, values, where=where, complete=False)
    for name, own in parts.items():
        full = f"{values['name']}_{name}"
        inner = values | _mapping(own, where=f"{where}: parts.{name}")
        inner["groups"] = [*inner.get("groups", []), values["name"]]
        yield from (
            replace(task, name=full)
            for task in _tasks(inner, profile=profile, where=f"{where}: parts.{name}")
        )


def _mapping(value: Any, *, where: str) -> dict[str, Any]:  # Any: from YAML
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: it is {value!r:.60}; expected keys and values")
    return dict(value)
