"""Words in a face of their own."""

from dataclasses import replace

import numpy as np

from onevision.eval.heldout import heldout_questions
from onevision.synth.kit.scene import NUMBERS, WORDS, draw_scene, random_scene
from onevision.synth.sample import rng_for
from onevision.synth.worlds.lettering import words
from onevision.synth.worlds.shapes.scenes import random_size


def test_a_number_is_called_one_and_a_word_a_word():
    for index in range(40):
        (question,) = words.make("heldout", index).questions
        listed = NUMBERS if question.family == "read_number" else WORDS
        assert question.answer in listed


def test_the_face_is_not_the_one_that_is_learned_from():
    """The same scene in the learned face has other pixels where the text is, and about as many."""
    for index in range(20):
        rng = rng_for("heldout", "words", index)
        scene = random_scene(rng, num_things=rng.randint(1, 3), with_writing=True, distinct=True)
        width, height = random_size(rng)
        bare, learned = (
            np.asarray(draw_scene(one, width=width, height=height)).astype(int)
            for one in (replace(scene, writing=None), scene)
        )
        (image,) = words.make("heldout", index).media
        mine = np.asarray(image.source).astype(int)
        inked, inked_as_learned = (abs(one - bare).max(2) > 60 for one in (mine, learned))
        assert 0.5 < inked.sum() / inked_as_learned.sum() < 1.5
        both = (inked & inked_as_learned).sum()
        assert both < 0.9 * max(inked.sum(), inked_as_learned.sum())


def test_values_of_charts_are_numbers():
    for item in heldout_questions("charts", count=60):
        assert float(item.question.answer.rstrip("%")) >= 0
