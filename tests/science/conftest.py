"""A study on 16 samples a trial: one seed, with the arms that tests look at."""

import pytest

from onevision.science.study import Study, run_trials
from onevision.science.trials import all_trials

ARMS = ("vision", "language", "align", "knowledge", "single_image", "onevision")
READING = ("letters", "reader", "base", "higher_9")
WANTED = tuple(
    trial
    for trial in all_trials(rehearsal=True)
    if trial.seed == 0 and trial.arm in (*ARMS, *READING)
)


def told(heard):
    return lambda said, trial: heard.append((said, trial.name))


@pytest.fixture(scope="session")
def rehearsed(tmp_path_factory):
    """The study, and what it told."""
    study, heard = Study(output=tmp_path_factory.mktemp("science"), rehearsal=True), []
    assert run_trials(study, WANTED, jobs=1, on_event=told(heard))
    return study, heard
