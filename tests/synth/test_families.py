"""What holds of every family of the registry: listing a new world is enough to test it here."""

import pytest

from onevision.errors import InputError
from onevision.synth.families import COVERS, FAMILIES, family_named, summary
from onevision.synth.kit.fonts import LEARNED
from onevision.synth.kit.questions import CLOSED_ANSWERS
from tests.synth.conftest import has_face, outlines, pictures, pixels

NEEDS_FACES = {"chinese_documents": ("chinese",), "lettered": LEARNED}
# Families with so few different pictures that some are in both splits, or with none.
REPEATING = ("signs", "plates", "capitals", "glimpses", "things", "texts")
# Families that ask whatever has an answer; the others choose from more questions.
ASKING_ALL = (*REPEATING, "scenes", "lettered", "pairs", "clips")


def families(*, without=()):
    """Parametrize a test by the names of the families whose fonts are installed."""
    missing = [name for name, faces in NEEDS_FACES.items() if not all(map(has_face, faces))]
    skip = pytest.mark.skip(reason="a font is missing; install onevision[synth]")
    names = [name for name in FAMILIES if name not in without]
    return pytest.mark.parametrize(
        "family", [pytest.param(n, marks=[skip] * (n in missing)) for n in names]
    )


@families()
def test_a_seed_makes_the_same_sample_again(family):
    make = FAMILIES[family]
    for index in range(20):
        a, b = make("train", index), make("train", index)
        assert (a.caption, a.detail, a.aspects, a.questions, a.regions) == (
            *(b.caption, b.detail, b.aspects, b.questions, b.regions),
        )
        assert pixels(a) == pixels(b)


@families(without=REPEATING)
def test_train_and_heldout_are_disjoint(family):
    train, heldout = ({o.digest for o in outlines(family, s)} for s in ("train", "heldout"))
    assert not train & heldout


@families()
def test_a_sample_serves_every_stage(family):
    for outline in outlines(family):
        sample = outline.sample
        assert sample.caption
        assert len(sample.description) >= len(sample.caption)
        assert "{" not in sample.description


@families()
def test_every_question_has_one_answer(family):
    least, most = (1, 13) if family in ASKING_ALL else (3, 10)
    for outline in outlines(family):
        questions = outline.sample.questions
        assert least <= len(questions) <= most
        assert all(q.question.strip() and q.answer.strip() for q in questions)
        assert not any("{" in q.question for q in questions)
        answers = {}
        for question in questions:
            assert answers.setdefault(question.question, question.answer) == question.answer
        assert len(answers) == len(questions) or family in ASKING_ALL


@families(without=ASKING_ALL)
def test_most_questions_are_open(family):
    asked = [q for outline in outlines(family) for q in outline.sample.questions]
    closed = sum(question.answer in CLOSED_ANSWERS for question in asked)
    assert closed <= (0.5 if family == "statements" else 0.25) * len(asked)


@families()
def test_media_are_small_enough_to_generate_on_the_fly(family):
    for index in range(5):
        assert {picture.mode for picture in pictures(FAMILIES[family]("heldout", index))} <= {"RGB"}
    for outline in outlines(family):
        assert max((side for size in outline.sizes for side in size), default=0) <= 800


@families()
def test_regions_have_the_names_that_the_registry_lists(family):
    names = {region.name for outline in outlines(family) for region in outline.sample.regions}
    assert names <= set(COVERS.get(family, ()))


def test_families_are_found_by_name():
    assert all(summary(name) for name in FAMILIES)
    assert family_named("charts") is FAMILIES["charts"]
    with pytest.raises(InputError, match="no family 'chart'; did you mean 'charts'"):
        family_named("chart")


@families()
def test_a_question_of_a_sample_has_one_answer(family):
    for outline in outlines(family):
        answers: dict[str, set[str]] = {}
        for question in outline.sample.questions:
            answers.setdefault(question.question, set()).add(question.answer)
        assert all(len(told) == 1 for told in answers.values()), answers
