"""Names of capabilities, arms and seeds -> their study in a directory, and its records."""

from collections.abc import Sequence
from pathlib import Path

from onevision.checkpoint.adapted import digest_base
from onevision.checkpoint.load import inspect
from onevision.errors import InputError
from onevision.science.capabilities.arms import arm_trials, check_arms, examine_arm
from onevision.science.capabilities.capability import choose_capabilities
from onevision.science.capabilities.page import FOLDER
from onevision.science.micro import SEEDS
from onevision.science.page import RAW, read_records, replace_records, write_records
from onevision.science.study import Study, TrialRecord
from onevision.science.trials import Trial
from onevision.train.start import find_start, name_start

DIGEST_LENGTH = 16


def open_study(
    output: Path,
    names: Sequence[str],
    *,
    start: str,
    arms: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    rehearsal: bool = False,
) -> tuple[Study, tuple[Trial, ...]]:
    """Returns a study that begins with a checkpoint, and the trials that were asked for.

    Raises InputError for unknown names, and what an unusable checkpoint raises.
    """
    chosen, kept = choose_capabilities(names, of="CAPABILITY"), check_arms(arms)
    base = find_start(start).resolve()
    study = Study(
        output=output, rehearsal=rehearsal, base=base, start=_name_base(base), examine=examine_arm
    )
    trials = arm_trials(
        chosen,
        inspect(base).config,
        arms=kept,
        seeds=list(dict.fromkeys(SEEDS if seeds is None else seeds)),
        rehearsal=rehearsal,
    )
    return study, trials


def _name_base(base: Path) -> str:
    """Returns a bundled name, a hub id, or of a directory a digest: never its path."""
    name = name_start(base)
    if name != str(base):
        return name
    return f"weights {digest_base(inspect(base).tensors)[:DIGEST_LENGTH]}"


def check_records(study: Study, docs: Path) -> list[TrialRecord]:
    """Returns the records in `docs` that those of a study may stand beside.

    Raises InputError rather than mix a rehearsal's with others, or those of different models.
    """
    before, path = read_records(docs, folder=FOLDER), docs / FOLDER / RAW
    if any(record.rehearsal != study.rehearsal for record in before):
        raise InputError(f"{path}: it holds rehearsals beside real trials; give another --docs")
    others = sorted({record.start for record in before} - {study.start})
    if others:
        raise InputError(
            f"{path}: its trials began with {others[0] or 'an unnamed model'}, these begin with "
            f"{study.start}; give another --docs"
        )
    return before


def record_trials(study: Study, trials: Sequence[Trial], docs: Path) -> Path:
    """Adds the records of finished trials to those in `docs`; returns their file.

    Raises what `check_records` does.
    """
    before, path = check_records(study, docs), docs / FOLDER / RAW
    done = [study.record(trial) for trial in trials if study.is_finished(trial)]
    write_records(replace_records(before, done), docs, folder=FOLDER)
    return path
