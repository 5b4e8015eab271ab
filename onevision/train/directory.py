"""A run's directory -> whether this run is the one that was begun there, and where it goes on."""

from collections.abc import Callable, Sequence
from pathlib import Path

from onevision.errors import CheckpointError, ConfigError
from onevision.train.parallel import Processes
from onevision.train.settings import Settings, difference, read_settings, write_settings
from onevision.train.snapshots import State, newest_snapshot, read_state, snapshots
from onevision.train.start import SETTINGS


def agree_on_settings(
    output: Path, settings: Settings, processes: Processes, *, allow_change: Sequence[str]
) -> None:
    """Refuse to go on with other settings than the run began with; then write them down.

    Every process calls it. Raises ConfigError, also where the directory cannot be written to.
    """
    path = output / SETTINGS
    if path.is_file() and snapshots(output):
        refuse_changes(output, difference(read_settings(path), settings), allow_change)
    processes.all_well()  # all have read before one writes
    if processes.rank == 0:
        try:
            write_settings(settings, path)
        except OSError as error:
            raise ConfigError(
                f"{output}: cannot be written to ({error.strerror}); give another --output"
            ) from error


def agree_on_content(
    output: Path, snapshot: Path, content: State, *, allow_change: Sequence[str]
) -> None:
    """Refuse to go on where other things lie under the names that the run began with.

    `content` is as in `state.snapshot`. Raises ConfigError.
    """
    before = read_state(snapshot).get("content")
    if before is not None:  # older releases did not write it
        refuse_changes(output, content_changes(before, content), allow_change)


def content_changes(before: State, after: State) -> list[str]:
    """Name what differs: "data: texts.json is another", "tokenizer: it is another"."""
    changes: list[str] = []
    for key in before.keys() & after.keys():
        then, now = before[key], after[key]
        if isinstance(then, dict):
            words = {(True, False): "is gone", (False, True): "is new", (True, True): "is another"}
            odd = [name for name in {**then, **now} if then.get(name) != now.get(name)]
            changes += [f"{key}: {name} {words[name in then, name in now]}" for name in odd]
        elif then != now:
            changes.append(f"{key}: it is another")
    return sorted(changes)


def refuse_changes(output: Path, changes: Sequence[str], allow_change: Sequence[str]) -> None:
    """Raise ConfigError where any of the changes, "key: before -> now", was not allowed."""
    refused = [c for c in changes if c.partition(":")[0] not in allow_change]
    if refused:
        raise ConfigError(
            f"{output} was begun with other settings or data ({'; '.join(refused)}); use those, "
            "give another --output, or allow it: --allow-change "
            f"{refused[0].partition(':')[0]}"
        )


def snapshot_to_go_on_from(output: Path, *, warn: Callable[[str], object]) -> Path | None:
    """Choose the newest whole snapshot; the same on every process, None for a new run.

    Raises CheckpointError where there are snapshots and none is whole.
    """
    found = newest_snapshot(output, warn=warn)
    if found is None and snapshots(output):
        raise CheckpointError(
            f"{output}: no snapshot is whole; restore one, or move the step-* directories away to "
            "begin again"
        )
    return found
