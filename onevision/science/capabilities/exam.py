"""A model + capabilities -> answers to held-out questions, in a directory; see probes/ask.py.

Every question is asked twice, with its media and with grey ones. Its sample is of the held-out
split by its stream of random numbers *and* by what it shows (synth/kit/splits.py), so training
cannot have shown the same.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from onevision.eval.answers import AnswerFiles
from onevision.eval.benchmark import network_fingerprint
from onevision.files import Line
from onevision.generate.answer import Model
from onevision.science.capabilities.capability import CAPABILITIES, Capability
from onevision.science.probes.ask import ProbeConfig, ProbeRun
from onevision.science.probes.item import Level, Probe, ProbeItem, drawn_item
from onevision.synth.families import family_named
from onevision.synth.kit.splits import content_of, split_of
from onevision.synth.sample import Question, Sample, rng_for

KIND = "capabilities"
HELD_OUT = Level(label="held out", value=0, trained=True)
NUM_QUESTIONS = 150
# Where the samples of a seed begin, and how many are searched for each question.
SAMPLES_PER_SEED, SEARCHED = 10**6, 100
# What may stand before an answer: "The brown ring".
ARTICLES = ("the", "a", "an")


def make_item(capability: Capability, level: Level, seed: int, index: int) -> ProbeItem:
    """Returns the `index`-th question of a capability; it has one level."""
    assert level == HELD_OUT
    sample, questions = _find_sample(capability, seed=seed, index=index)
    asked = rng_for("heldout", f"capabilities/{capability.name}/{seed}", index).choice(questions)
    return drawn_item(
        sample.media,
        question=asked.question,
        expected=asked.answer,
        family=asked.family,
        accepted=[f"{article} {asked.answer}" for article in ARTICLES],
    )


def _find_sample(
    capability: Capability, *, seed: int, index: int
) -> tuple[Sample, tuple[Question, ...]]:
    """Returns the first sample that training cannot have shown and that has a question."""
    make, first = family_named(capability.world), seed * SAMPLES_PER_SEED + index * SEARCHED
    for number in range(first, first + SEARCHED):
        sample = make("heldout", number)
        if split_of(content_of(sample)) != "heldout":
            continue
        fitting = tuple(q for q in sample.questions if _is_asked(capability, q))
        if fitting:
            return sample, fitting
    raise AssertionError(f"{capability.world}: none of {SEARCHED} samples has a question")


def _is_asked(capability: Capability, question: Question) -> bool:
    kinds = capability.questions
    if kinds and question.family not in kinds:
        return False
    return not question.question.startswith(capability.ambiguous)


EXAMS = {
    name: Probe(name=name, title=one.title, levels=(HELD_OUT,), make=partial(make_item, one))
    for name, one in CAPABILITIES.items()
}


def run_exam(
    model: Model,
    capabilities: Sequence[Capability],
    directory: Path,
    *,
    name: str,
    count: int = NUM_QUESTIONS,
    seed: int = 0,
    suffix: str = "",
    keep: float = 1.0,
    on_progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> list[Line]:
    """Answers what has no answer yet; returns all answers of the directory.

    Raises DataError if it holds those of another model or of other settings.
    """
    config = ProbeConfig(
        probes=tuple(EXAMS[one.name] for one in capabilities),
        count=count,
        kind=KIND,
        seed=seed,
        suffix=suffix,
        keep=keep,
        keep_pictures=False,
    )
    files = AnswerFiles(directory)
    run = ProbeRun(model=model, config=config, output=files, on_progress=on_progress)
    return run.run(name=name, fingerprint=network_fingerprint(model))
