"""What tests of several devices share."""

from dataclasses import replace

import torch

from onevision.config import LanguageConfig
from onevision.generate.kv_cache import KVCacheBatch
from onevision.generate.settings import EngineSettings
from tests.generate.test_engine import Recorder, engine_of, ids_of

# Sums of fp32 numbers in another order.
CLOSE = 1e-5
# As CUDA graphs replay them, but on a CPU.
GRAPHED = EngineSettings(fixed_shapes=True)
# 4 key/value heads for 4 devices; biases and no ties, as 7B has.
LANGUAGE = LanguageConfig(
    vocab_size=4200, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=8,
    num_kv_heads=4, max_positions=2048, tie_embeddings=False,
)  # fmt: skip


@torch.inference_mode()
def logits(model, talk):
    """The logits of every position, as the engine computes them."""
    prompt, network = model.prompt(talk), model.network
    x = network.place(
        prompt.input_ids, prompt.visual_mask, network.encode(prompt.pixel_values, prompt.layouts)
    )
    cache = model.engine._make_kv_cache(x.shape[1])
    return network.head(network.run(x, cache=KVCacheBatch([cache], [x.shape[1]]))[0])


def greedy(length):
    return {"max_new_tokens": length, "end_ids": ()}


def submit(model, engine, talk, **options):
    return engine.submit(model.prompt(talk), replace(model.sampling, **options))


def answer_all(model, engine, talks, lengths):
    requests = [
        submit(model, engine, talk, **greedy(length))
        for talk, length in zip(talks, lengths, strict=True)
    ]
    engine.run(requests)
    return requests


def alike(one, several, scene, **settings):
    """Plays a scene on one device, and in fixed shapes on several; returns the latter's engine.

    A scene takes a model and an engine and returns requests; every token's logits are compared.
    """
    played = []
    for model, fixed_shapes in ((one, False), (several, True)):
        engine = engine_of(model, fixed_shapes=fixed_shapes, **settings)
        recorder = Recorder(engine)
        requests = scene(model, engine)
        played.append(([ids_of(r) for r in requests], [recorder.rows[r.number] for r in requests]))
        steps = engine.stats.graphed_steps
        assert (steps > 0) is fixed_shapes
    (expected, logits), (found, same_logits) = played
    assert found == expected
    for rows, same_rows in zip(logits, same_logits, strict=True):
        torch.testing.assert_close(
            torch.stack(same_rows), torch.stack(rows), rtol=CLOSE, atol=CLOSE
        )
    return engine
