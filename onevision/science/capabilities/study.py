"""Names of capabilities, arms and seeds -> their study in a directory, and its records."""

from collections.abc import Sequence
from pathlib import Path

from onevision.checkpoint.load import inspect
from onevision.errors import InputError
from onevision.science.capabilities.arms import arm_trials, check_arms, examine_arm
from onevision.science.capabilities.capability import choose_capabilities
from onevision.science.capabilities.page import FOLDER
from onevision.science.micro import SEEDS
from onevision.science.page import RAW, read_records, replace_records, write_records
from onevision.science.study import Study
from onevision.science.trials import Trial
from onevision.train.start import find_start


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
    study = Study(output=output, rehearsal=rehearsal, base=base, examine=examine_arm)
    trials = arm_trials(
        chosen,
        inspect(base).config,
        arms=kept,
        seeds=list(dict.fromkeys(SEEDS if seeds is None else seeds)),
        rehearsal=rehearsal,
    )
    return study, trials


def record_trials(study: Study, trials: Sequence[Trial], docs: Path) -> Path:
    """Adds the records of finished trials to those in `docs`; returns their file.

    Raises InputError rather than mix a rehearsal's with others.
    """
    done = [study.record(trial) for trial in trials if study.is_finished(trial)]
    before = read_records(docs, folder=FOLDER)
    path = docs / FOLDER / RAW
    if any(record.rehearsal != study.rehearsal for record in before):
        raise InputError(f"{path}: it holds rehearsals beside real trials; give another --docs")
    write_records(replace_records(before, done), docs, folder=FOLDER)
    return path
