"""The directory of a run -> where its files lie, and whether this is the run that began there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onevision.data.remote.store import is_address
from onevision.errors import CheckpointError, ConfigError
from onevision.train.config import TrainConfig, list_changes, read_train_config, write_train_config
from onevision.train.parallel import Processes
from onevision.train.saving.place import Place, RemotePath
from onevision.train.snapshots import State, newest_snapshot, read_state, snapshots

# Settings that a run cannot change on its way: its place is counted in steps, so the samples before
# it would be others, and some would never be seen.
FIXED = ("global_batch",)
# What else decides which samples a step holds.
DEALS = ("seed", "mixture", "families", "epochs", "max_tokens", "max_questions", "data")
# Changes that a message names; a data set may have thousands of shards.
MAX_NAMED = 8


@dataclass(frozen=True)
class RunDirectory:
    """A directory that a run writes to; `run.py` lists its files."""

    path: Path
    # Where its snapshots lie, if not in `path`.
    place: Place | None = None

    @property
    def snapshots(self) -> Place:
        """Where its snapshots lie."""
        return self.place or self.path

    @property
    def settings(self) -> Path:
        """The configuration of the run."""
        return self.path / "settings.json"

    @property
    def checkpoint(self) -> Path:
        """The trained network, once the run has finished."""
        return self.path / "checkpoint"

    @property
    def adapter(self) -> Path:
        """The trained adapters alone, if there are any."""
        return self.path / "adapter"

    def agree_on_settings(
        self,
        config: TrainConfig,
        processes: Processes,
        *,
        allow_change: Sequence[str],
        warn: Callable[[str], object] = str,
    ) -> None:
        """Refuses to resume with other settings than the run began with; then writes them.

        Every process calls it. Raises ConfigError, also if the directory cannot be written to.
        """
        known = self._known_settings()
        if known is not None and snapshots(self.snapshots):
            changes = list_changes(read_train_config(known), config)
            refuse_changes(self.path, changes, allow_change, warn=warn)
        processes.all_succeeded()  # all have read before one writes
        if processes.rank == 0:
            try:
                write_train_config(config, self.settings)
                if isinstance(self.snapshots, RemotePath):
                    with (self.snapshots / self.settings.name).open("wb") as file:
                        file.write(self.settings.read_bytes())
            except OSError as error:
                raise ConfigError(
                    f"{self.path}: cannot be written to ({error.strerror or error}); give another "
                    "--output"
                ) from error

    def _known_settings(self) -> Place | None:
        """Returns the settings that the run began with, which also lie beside remote snapshots.

        A run that resumes on another machine has nothing but those.
        """
        if self.settings.is_file():
            return self.settings
        found = (
            [] if isinstance(self.snapshots, Path) else list(self.snapshots.glob("settings.json"))
        )
        return next(iter(found), None)

    def agree_on_content(
        self,
        snapshot: Place,
        content: State,
        *,
        allow_change: Sequence[str],
        warn: Callable[[str], object] = str,
    ) -> None:
        """Refuses to resume if data or tokenizer differ from those the run began with.

        `content` is as in `state.save_snapshot`. Raises ConfigError.
        """
        before = read_state(snapshot).get("content")
        if before is not None:  # older releases did not write it
            refuse_changes(self.path, content_changes(before, content), allow_change, warn=warn)

    def agree_on_shards(
        self,
        snapshot: Place | None,
        shards: Mapping[str, str],
        *,
        allow_change: Sequence[str],
    ) -> None:
        """Refuses to resume if shards of stores differ, before any is read. Raises ConfigError.

        `shards` is the size and version of each address. A run of an older release knows none.
        """
        if snapshot is None:
            return
        known = read_state(snapshot).get("content", {}).get("data", {})
        before = {name: state for name, state in known.items() if is_address(name)}
        changes = content_changes({"data": before}, {"data": dict(shards)})
        refuse_changes(self.path, changes, allow_change)

    def choose_snapshot(self, *, warn: Callable[[str], object]) -> Place | None:
        """Returns the newest whole snapshot; the same on every process, None for a new run.

        Raises CheckpointError if there are snapshots and none is whole, or they cannot be listed.
        """
        place = self.snapshots
        try:
            found = newest_snapshot(place, warn=warn)
            any_found = found is not None or bool(snapshots(place))
        except OSError as error:
            raise CheckpointError(f"{place}: snapshots cannot be listed ({error})") from error
        if found is None and any_found:
            raise CheckpointError(
                f"{place}: no snapshot is whole; restore one, or move the step-* directories "
                "away to start over"
            )
        return found


def content_changes(before: State, after: State) -> list[str]:
    """Returns what differs: "data: texts.json has changed", "tokenizer: it has changed"."""
    changes: list[str] = []
    for key in before.keys() & after.keys():
        then, now = before[key], after[key]
        if isinstance(then, dict):
            words = {(True, False): "is gone", (False, True): "is new", (True, True): "has changed"}
            odd = [name for name in {**then, **now} if then.get(name) != now.get(name)]
            changes += [f"{key}: {name} {words[name in then, name in now]}" for name in odd]
        elif then != now:
            changes.append(f"{key}: it has changed")
    return sorted(changes)


def refuse_changes(
    output: Path,
    changes: Sequence[str],
    allow_change: Sequence[str],
    *,
    warn: Callable[[str], object] = str,
) -> None:
    """Raises ConfigError unless all changes, "key: before -> now", are allowed and possible.

    Warns of those by which samples may be seen twice, or not at all.
    """
    if fixed := [c for c in changes if c.partition(":")[0] in FIXED]:
        raise ConfigError(
            f"{output} began with another batch ({'; '.join(fixed)}), and a run that resumes with "
            "a new one would skip or repeat samples; use the old one, or give another --output"
        )
    refused = [c for c in changes if c.partition(":")[0] not in allow_change]
    if refused:
        raise ConfigError(
            f"{output} began with other settings or data ({_name_some(refused)}); use those, "
            "give another --output, or allow it: --allow-change "
            f"{refused[0].partition(':')[0]}"
        )
    if dealt := [c for c in changes if c.partition(":")[0].partition(".")[0] in DEALS]:
        warn(
            f"{output} resumes with other samples in its steps ({_name_some(dealt)}): some may be "
            "seen twice, others not at all"
        )


def _name_some(changes: Sequence[str]) -> str:
    more = len(changes) - MAX_NAMED
    return "; ".join([*changes[:MAX_NAMED], *([f"and {more:,} more"] if more > 0 else [])])
