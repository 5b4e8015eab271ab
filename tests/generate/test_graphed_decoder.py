"""A step in fixed shapes, as CUDA graphs replay it, computes what an ordinary step does."""

from dataclasses import replace

import pytest
import torch

from onevision import Image, Text, load
from onevision.errors import InputError
from onevision.generate.graphed_decoder import GraphedDecoder, whole_decoder
from onevision.generate.kv_cache import KVCache
from onevision.generate.settings import EngineSettings
from tests.generate.test_engine import Recorder, answer_together, engine_of, ids_of, talks, user

__all__ = ["talks"]  # a fixture


@pytest.fixture(scope="module")
def model():
    return load("tiny", dtype="float32")


def replaying(model, *, max_bytes=2**30, **settings):
    engine = engine_of(model, fixed_shapes=True, **settings)
    engine.batch_decoder.graphed_decoder.planner.max_bytes = max_bytes
    return engine


def answers(model, talks, engine):
    """Answers of many lengths, so that slots are freed and reused; three at a time."""
    options = [{"max_new_tokens": 3 + 5 * (n % 4), "end_ids": ()} for n in range(len(talks))]
    return answer_together(model, talks, options, engine=engine)


def test_logits_and_greedy_answers_equal_those_of_an_ordinary_step(model, talks):
    ordinary, expected = answers(model, talks, engine_of(model, max_running=3))
    engine = replaying(model, max_running=3)
    replayed, found = answers(model, talks, engine)
    assert engine.stats.graphed_steps > 0
    for one, other, left, right in zip(ordinary, replayed, expected, found, strict=True):
        assert ids_of(one) == ids_of(other)
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert (a - b).abs().max() < 1e-4


def test_positions_of_dropped_tokens_stay_empty(model, picture):
    """A step in fixed shapes takes rotary positions, not places in the cache."""
    kept = [user(Image(picture(90, 70, seed=n), keep=0.3), Text("What?")) for n in range(3)]
    ordinary, expected = answers(model, kept, engine_of(model))
    replayed, found = answers(model, kept, replaying(model))
    for one, other, left, right in zip(ordinary, replayed, expected, found, strict=True):
        assert one.num_positions > one.num_tokens
        assert ids_of(one) == ids_of(other)
        assert all((a - b).abs().max() < 1e-4 for a, b in zip(left, right, strict=True))


def test_the_prefix_cache_finds_a_replayed_answer(model, talks):
    """The next turn begins with the answer's keys and values, which were copied back."""
    engine = replaying(model)
    (first,), _ = answer_together(
        model, talks[:1], [{"max_new_tokens": 40, "end_ids": ()}], engine=engine
    )
    ids = torch.cat([first.prompt.input_ids, torch.tensor([first.answers[0].ids[:-1]])], dim=1)
    visual = torch.zeros_like(ids, dtype=torch.bool)
    visual[:, : first.num_tokens] = first.prompt.visual_mask
    following = replace(
        first.prompt, input_ids=ids, visual_mask=visual, attention_mask=torch.ones_like(visual)
    )
    asked = replace(model.sampling, end_ids=(), max_new_tokens=1)
    rows = []
    for own in (engine, engine_of(model)):
        recorder = Recorder(own)
        request = own.submit(following, asked)
        own.run([request])
        rows += recorder.rows[request.number]
    assert engine.prefix_cache.tokens_saved > first.num_tokens
    assert (rows[0] - rows[1]).abs().max() < 1e-4


def test_drafted_steps_in_between_are_noticed(model, talks):
    """Drafts take an ordinary step; the slot then lags behind the KV cache, and is refilled."""
    options = [{"max_new_tokens": 60, "end_ids": ()}] * 2
    several = [user(*talk.messages[0].parts) for talk in talks[-3:-1]]
    plain, _ = answer_together(model, several, options, engine=engine_of(model))
    engine = replaying(model, draft_tokens=3)
    guessed, _ = answer_together(model, several, options, engine=engine)
    assert engine.stats.graphed_steps > 0
    assert [ids_of(r) for r in plain] == [ids_of(r) for r in guessed]


def test_answers_that_do_not_fit_take_ordinary_steps(model, talks):
    engine = replaying(model, max_bytes=1000)
    _, found = answers(model, talks[:2], engine)
    assert engine.stats.graphed_steps == 0
    assert all(found)


def test_a_cpu_replays_nothing_unless_it_is_told_to(model, talks):
    engine = engine_of(model)
    answers(model, talks[:1], engine)
    assert engine.stats.graphed_steps == 0


@pytest.mark.parametrize("other", [{"cuda_graphs": False}, {"deterministic": True}])
def test_fixed_shapes_are_refused_where_there_are_none(other):
    with pytest.raises(InputError, match="fixed_shapes is True, but .* leave one of them out"):
        EngineSettings(fixed_shapes=True, **other)


def greedy(length):
    return {"max_new_tokens": length, "end_ids": ()}


def submitted(model, engine, talk, **options):
    return engine.submit(model.prompt(talk), replace(model.sampling, **options))


def in_both_ways(model, scene, **settings):
    """Runs `scene` on an ordinary and a replaying engine, and compares the ids."""
    engines = engine_of(model, **settings), replaying(model, **settings)
    ordinary, replayed = ([ids_of(request) for request in scene(own)] for own in engines)
    assert engines[1].stats.graphed_steps > 0
    assert ordinary == replayed
    return engines[1]


@torch.inference_mode()
def test_keys_stay_in_the_static_cache_until_they_are_read(model, talks):
    caches = []
    for engine in (engine_of(model), replaying(model)):
        request = submitted(model, engine, talks[-2], **greedy(20))
        while len(request.answers[0].ids) < 9:
            engine.step()
        caches.append(request.answers[0].kv_cache)
    ordinary, replayed = caches
    assert replayed.is_redirected
    assert replayed.length == ordinary.length
    for stored in ("keys", "values"):
        known, found = (getattr(cache, stored)[:, :, : cache.length] for cache in caches)
        assert (known - found).abs().max() < 1e-4
    assert not replayed.is_redirected


def test_several_answers_to_a_prompt_are_replayed_separately(model, talks):
    def scene(engine):
        drawn = {**greedy(12), "num_answers": 3, "temperature": 0.9, "seed": 3}
        requests = [submitted(model, engine, talk, **drawn) for talk in talks[-3:]]
        engine.run(requests)
        return requests

    in_both_ways(model, scene, max_running=2)


def test_the_prefix_cache_finds_a_prompt_that_is_still_being_answered(model, talks):
    def scene(engine):
        first = submitted(model, engine, talks[-2], **greedy(12))
        while len(first.answers[0].ids) < 5:
            engine.step()
        requests = [first, submitted(model, engine, talks[-2], **greedy(12))]
        engine.run(requests)
        return requests

    assert in_both_ways(model, scene).prefix_cache.tokens_saved > 0


def test_a_cancelled_answer_leaves_its_slot_to_another(model, talks):
    def scene(engine):
        leaving, staying = (submitted(model, engine, t, **greedy(30)) for t in talks[-3:-1])
        while len(staying.answers[0].ids) < 5:
            engine.step()
        engine.cancel(leaving)
        coming = submitted(model, engine, talks[-1], **greedy(12))
        engine.run([staying, coming])
        return [staying, coming]

    in_both_ways(model, scene)


def test_ordinary_steps_take_over_when_memory_runs_out(model, talks):
    """Two short answers are replayed, not while a long one runs, and replayed again after it."""

    def scene(engine, caches):
        requests = [
            submitted(model, engine, t, **greedy(n))
            for t, n in zip(talks[-3:-1], (40, 30), strict=True)
        ]
        while len(requests[1].answers[0].ids) < 5:
            engine.step()
        caches += [request.answers[0].kv_cache for request in requests]
        requests.append(submitted(model, engine, talks[-1], end_ids=(), max_new_tokens=1000))
        while len(requests[2].answers[0].ids) < 8:
            engine.step()
        engine.cancel(requests[2])
        engine.run(requests[:2])
        return requests[:2]

    caches = []
    ordinary = engine_of(model)
    expected = [ids_of(request) for request in scene(ordinary, caches)]
    each = caches[0].num_bytes // caches[0].capacity
    engine = replaying(model, max_bytes=2 * 256 * each)
    assert [ids_of(request) for request in scene(engine, caches)] == expected
    assert engine.batch_decoder.graphed_decoder.planner.size == (2, 256)


@torch.inference_mode()
def test_a_sliding_window_hides_earlier_positions(model, talks):
    decoder = model.network.language_model
    assert decoder.window is None
    engines = engine_of(model), replaying(model)
    logits = []
    for engine in engines:
        request = engine.submit(
            model.prompt(talks[-2]), replace(model.sampling, end_ids=(), max_new_tokens=6)
        )
        while not request.is_prefilled:
            engine.step()
        request.answers[0].kv_cache.window = decoder.window = 16
        recorder = Recorder(engine)
        engine.run([request])
        decoder.window = None
        logits.append(recorder.rows[request.number])
    for a, b in zip(*logits, strict=True):
        assert (a - b).abs().max() < 1e-4


@torch.inference_mode()
def test_a_static_cache_that_grew_both_ways_is_resized_to_fit(model):
    """Many short answers, then a long one: a cache for both would exceed the memory."""
    decoder, config = model.network.language_model, model.config.language

    def caches(count, capacity):
        made = [
            KVCache(config, capacity, dtype=torch.float32, device=torch.device("cpu"))
            for _ in range(count)
        ]
        for cache in made:
            cache.keys.zero_()
            cache.values.zero_()
            cache.length = 3
        return made

    many, long = caches(8, 256), caches(1, 2048)
    graphed = GraphedDecoder(whole_decoder(decoder), max_bytes=long[0].num_bytes)
    for some, size in ((many, (8, 256)), (long, (1, 2048)), (many, (8, 256))):
        assert graphed.fits(some)
        graphed.run(some, [5] * len(some), positions=[3] * len(some))
        assert graphed.planner.size == size
    assert not graphed.fits(caches(2, 2048))
