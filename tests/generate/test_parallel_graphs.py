"""Steps in fixed shapes on several devices, as CUDA graphs replay them: the logits of one device.

Processes on a CPU, which compute what a graph would replay.
"""

from contextlib import closing
from dataclasses import replace

import pytest
import torch

from onevision import Text, load
from onevision.generate.kv_cache import count_position_bytes
from tests.generate.parallel import GRAPHED, LANGUAGE, alike, answer_all, greedy, submit
from tests.generate.test_engine import engine_of, ids_of, user


@pytest.fixture(scope="module")
def one(checkpoint):
    return load(checkpoint)


@pytest.fixture(scope="module")
def two(checkpoint):
    with closing(load(checkpoint, devices=2, settings=GRAPHED)) as model:
        yield model


@pytest.mark.parametrize("kind", ["words", "an image", "images", "a video"])
def test_two_devices_decode_as_one(one, two, talks, kind):
    engine = alike(one, two, lambda *own: answer_all(*own, [talks[kind]], [12]))
    assert engine.stats.graphed_steps == 11  # the first token is the prompt's


def test_answers_that_come_and_go_take_and_leave_slots(one, two, talks):
    many = [*talks.values(), talks["an image"]]
    long = user(Text("How many? " * 75))

    def scene(model, engine):
        short = answer_all(model, engine, many, [3, 8, 13, 5, 8])
        before = planned_size(engine)
        later = answer_all(model, engine, [long, *many[:2]], [30, 4, 12])
        assert 200 < later[0].num_tokens < 256 < later[0].num_tokens + 29
        assert (before, planned_size(engine)) in [(None, None), ((2, 256), (2, 512))]
        return [*short, *later]

    alike(one, two, scene, max_running=2)


def planned_size(engine):
    graphed = engine.batch_decoder.graphed_decoder
    return None if graphed is None else graphed.planner.size


def test_sampled_answers_to_one_prompt_have_slots_of_their_own(one, two, talks):
    drawn = {**greedy(12), "num_answers": 3, "temperature": 0.9, "seed": 3}

    def scene(model, engine):
        requests = [submit(model, engine, talk, **drawn) for talk in talks.values()]
        engine.run(requests)
        return requests

    alike(one, two, scene, max_running=2)


def test_the_prefix_cache_finds_answers_in_slots_and_those_that_left_them(one, two, talks):
    """The next turn begins with keys that every device has copied back; so may a running one."""

    def scene(model, engine):
        first = submit(model, engine, talks["images"], **greedy(50))
        while len(first.answers[0].ids) < 5:
            engine.step()
        again = submit(model, engine, talks["images"], **greedy(8))
        engine.run([first, again])
        return [first, again, follow(model, engine, first, number=0)]

    assert alike(one, two, scene).prefix_cache.tokens_saved > 0


def follow(model, engine, first, *, number):
    """Asks on after an answer that has ended, of which the prefix cache has keys."""
    answer = first.answers[number].ids[:-1]
    ids = torch.cat([first.prompt.input_ids, torch.tensor([answer])], dim=1)
    visual = torch.zeros_like(ids, dtype=torch.bool)
    visual[:, : first.num_tokens] = first.prompt.visual_mask
    prompt = replace(
        first.prompt, input_ids=ids, visual_mask=visual, attention_mask=torch.ones_like(visual)
    )
    saved = engine.prefix_cache.tokens_saved
    request = engine.submit(prompt, replace(model.sampling, **greedy(8)))
    engine.run([request])
    assert engine.prefix_cache.tokens_saved - saved > first.num_tokens
    return request


def test_an_answer_that_ends_before_another_of_its_request_keeps_its_keys(one, two, talks):
    """Its slot goes to another request while its own one is still running."""
    drawn = {"max_new_tokens": 60, "num_answers": 2, "temperature": 1.0, "seed": 3}
    engine = one.new_engine()
    planned = submit(one, engine, talks["words"], **drawn, end_ids=())
    engine.run([planned])
    (early, late), end = ids_of(planned), ids_of(planned)[0][40]
    assert end not in early[:40] + late

    def scene(model, engine):
        first = submit(model, engine, talks["words"], **drawn, end_ids=(end,))
        while first.answers[0].is_open:
            engine.step()
        other = submit(model, engine, talks["images"], **greedy(5))
        engine.run([other])
        assert first.answers[1].is_open
        engine.run([first])
        return [first, other, follow(model, engine, first, number=0)]

    alike(one, two, scene)


def test_a_cancelled_answer_leaves_its_slot_to_another(one, two, talks):
    def scene(model, engine):
        leaving = submit(model, engine, talks["an image"], **greedy(60))
        staying = submit(model, engine, talks["words"], **greedy(30))
        while len(staying.answers[0].ids) < 5:
            engine.step()
        engine.cancel(leaving)
        coming = submit(model, engine, talks["a video"], **greedy(12))
        engine.run([staying, coming])
        return [staying, coming]

    alike(one, two, scene)


def test_drafts_take_ordinary_passes_between_steps_in_fixed_shapes(one, two):
    """Some are wrong, and their keys are dropped again."""
    repetitive = [user(Text(text)) for text in ("Count to ten.", "Say it again and again.")]

    def scene(model, engine):
        return [answer_all(model, engine, [talk], [60])[0] for talk in repetitive]

    stats = alike(one, two, scene, draft_tokens=3).stats
    assert 0 < stats.accepted_tokens < stats.drafted_tokens
    assert stats.graphed_steps < stats.steps - 2


def test_ordinary_passes_take_over_while_memory_is_short(one, two, talks):
    """Two short answers have slots, not while a long one runs, and again after it."""
    counted = []

    def scene(model, engine):
        requests = [
            submit(model, engine, talk, **greedy(length))
            for talk, length in ((talks["words"], 40), (talks["an image"], 30))
        ]
        while len(requests[1].answers[0].ids) < 5:
            engine.step()
        if (graphed := engine.batch_decoder.graphed_decoder) is not None:
            graphed.planner.max_bytes = 2 * 256 * own_bytes(requests[0])
        counted.append(engine.stats.graphed_steps)
        long = submit(model, engine, talks["a video"], **greedy(1000))
        while len(long.answers[0].ids) < 8:
            engine.step()
        counted.append(engine.stats.graphed_steps)
        engine.cancel(long)
        engine.run(requests)
        counted.append(engine.stats.graphed_steps)
        return requests

    alike(one, two, scene)
    before, during, after = counted[3:]
    assert before > 0
    assert during == before
    assert during < after


def own_bytes(request):
    """Bytes of a position on the first device."""
    cache = request.answers[0].kv_cache
    return cache.num_bytes // cache.capacity


def test_a_device_counts_its_own_heads_alone(one, two, talks):
    """What holds half of each position of one answer is enough for either of two devices."""
    enough = 256 * count_position_bytes(LANGUAGE, torch.float32, in_int8=False) // 2
    for model, steps in ((one, 0), (two, 3)):
        engine = engine_of(model, fixed_shapes=True)
        engine.batch_decoder.graphed_decoder.planner.max_bytes = enough
        answer_all(model, engine, [talks["words"]], [4])
        assert engine.stats.graphed_steps == steps


def test_engines_share_the_devices(one, two, talks):
    """Each has a static cache of its own, on all devices."""

    def scene(model, engine):
        other = model.new_engine()
        requests = [
            submit(model, own, talk, **greedy(12))
            for own, talk in ((engine, talks["an image"]), (other, talks["a video"]))
        ]
        while not all(request.finished for request in requests):
            engine.step()
            other.step()
        del other
        later = submit(model, engine, talks["words"], **greedy(5))
        engine.run([later])
        return [requests[0], later]

    alike(one, two, scene)
