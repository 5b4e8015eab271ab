"""`keep` in the engine: planned counts, whole without it, caches by content, no load in it."""

import math
from dataclasses import replace

import pytest
import torch

from onevision import Conversation, Image, Message, Text, Video, load
from onevision.errors import ContextLengthError, InputError
from onevision.generate.prefix_cache import hash_media
from onevision.generate.settings import EngineSettings
from onevision.generate.vision_cache import VisionCache, pending_encodings

ASK = "What is this?"


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


def talk(*media, question=ASK):
    return Conversation([Message("user", [*media, Text(question)])])


def test_with_all_tokens_nothing_changes(tiny, picture):
    conversation = talk(Image(picture(150, 90)), Video([picture(60, 60, seed=k) for k in range(3)]))
    whole, kept = tiny.prompt(conversation), tiny.prompt(conversation, keep=1)
    assert torch.equal(whole.input_ids, kept.input_ids)
    assert whole.layouts == kept.layouts
    with torch.inference_mode():
        assert torch.equal(tiny.network(whole), tiny.network(kept))


def test_the_prompt_is_shorter_by_what_is_dropped(tiny, picture):
    image, video = Image(picture(300, 200)), Video([picture(60, 60, seed=k) for k in range(4)])
    whole = tiny.ask(talk(image, video), max_new_tokens=1).usage
    kept = tiny.ask(talk(image, video), keep=0.5, max_new_tokens=1).usage
    assert kept.text_tokens == whole.text_tokens
    assert kept.video_tokens == 32 + 1
    assert kept.dropped_tokens == whole.prompt_tokens - kept.prompt_tokens > 100
    outline = tiny.processor.outline(talk(image, video).with_keep(0.5))
    assert outline.num_tokens == kept.prompt_tokens, "known from headers"


def test_a_mediums_own_keep_comes_first(tiny, picture):
    own = Image(picture(98, 98), keep=0.2)
    both = talk(own, Image(picture(98, 98)))
    counts = [layout.num_tokens for layout in tiny.prompt(both, keep=0.5).layouts]
    assert counts == [10 + 1, 25 + 1]
    assert both.with_keep(None) is both
    assert [medium.keep for medium in both.with_keep(1).media] == [0.2, 1]


@pytest.mark.parametrize("bad", [0, 0.049, 1.1, -1, math.nan, math.inf, True, "0.5", [0.5]])
def test_what_is_no_share_is_refused(tiny, picture, bad):
    for refused in (
        lambda: Image(picture(9, 9), keep=bad),
        lambda: Video([picture(9, 9)], keep=bad),
        lambda: tiny.ask(ASK, keep=bad),
        lambda: tiny.stream(ASK, images=picture(9, 9), keep=bad),
    ):
        with pytest.raises(InputError, match="keep is .*; expected a number from 0.05 to 1$"):
            refused()


def test_caches_tell_keeps_apart_and_share_equal_ones(tiny, picture):
    engine, image = tiny.new_engine(), Image(picture(200, 200))

    def ask(keep, question=ASK):
        request = engine.submit(tiny.prompt(talk(image, question=question), keep=keep), sampling)
        engine.run([request])
        return request

    sampling = tiny.sampling.override({"max_new_tokens": 4})
    first, other, again = ask(0.5), ask(0.25), ask(0.5, "And this?")
    visual = first.prompt.visual_mask[0].nonzero()[0].item()
    assert other.cached_tokens <= visual, "no visual token is shared with another keep"
    assert again.cached_tokens > visual + first.prompt.layouts[0].num_tokens - 16
    assert (engine.stats.encoder_misses, ask(0.5).cached_tokens > visual) == (2, True)
    alone = tiny.new_engine()
    request = alone.submit(tiny.prompt(talk(image, question="And this?"), keep=0.5), sampling)
    alone.run([request])
    assert request.answers[0].ids == again.answers[0].ids


def test_which_tokens_stay_depends_on_no_other_request(tiny, picture):
    prompts = [tiny.prompt(talk(Image(picture(200, 150, seed=k))), keep=0.3) for k in range(4)]

    def encode(chosen):
        cache = VisionCache(tiny.network, max_bytes=0)
        media = [m for p in chosen for m in pending_encodings(p, hash_media(p), salt=b"")]
        with torch.inference_mode():
            while any(medium.tokens is None for medium in media):
                cache.encode(media)
        return [medium.tokens for medium in media]

    together = encode(prompts)
    for prompt, tokens in zip(prompts, together, strict=True):
        assert torch.equal(encode([prompt])[0], tokens)


def test_many_at_once_get_the_answers_they_get_alone(tiny, picture):
    talks = [talk(Image(picture(120, 90, seed=k))) for k in range(6)]
    together = tiny.ask_all(talks, keep=0.4, max_new_tokens=6)
    assert [reply.text for reply in together] == [
        tiny.ask(one, keep=0.4, max_new_tokens=6).text for one in talks
    ]
    assert "".join(tiny.stream(talks[0], keep=0.4, max_new_tokens=6)).strip() == together[0].text


def test_the_engine_computes_what_the_network_computes(picture):
    """Positions of dropped tokens stay empty in chunks, in decoding and without a cache alike."""
    model = load("tiny", dtype="float32", settings=EngineSettings(chunk_tokens=32))
    clip = Video([picture(50, 50, seed=k) for k in range(4)])
    prompt = model.prompt(talk(Image(picture(150, 90)), clip), keep=0.4)
    request = model.engine.submit(prompt, model.sampling.override({"max_new_tokens": 6}))
    model.engine.run([request])
    ids = request.answers[0].ids
    visual = torch.cat([prompt.visual_mask, torch.zeros(1, len(ids), dtype=torch.bool)], dim=1)
    whole = replace(
        prompt, input_ids=torch.cat([prompt.input_ids, torch.tensor([ids])], dim=1),
        visual_mask=visual, attention_mask=torch.ones_like(visual),
    )  # fmt: skip
    with torch.inference_mode():
        logits = model.network(whole)[0, prompt.input_ids.shape[1] - 1 : -1]
    assert logits.argmax(-1).tolist() == ids


def test_dropped_tokens_count_towards_the_context(tiny, picture):
    """They leave their positions empty, so the prompt is as long as the whole one."""
    many = talk(*(Image(picture(98, 98, seed=k), detail="high") for k in range(90)))
    with pytest.raises(ContextLengthError, match="image, 0 video, 4410 dropped"):
        tiny.prompt(many, keep=0.5)


def test_a_model_with_a_sliding_window_refuses_it(tiny, picture):
    windowed = replace(
        tiny, config=replace(tiny.config, language=replace(tiny.config.language, sliding_window=64))
    )
    windowed.prompt(talk(Image(picture(98, 98))))
    with pytest.raises(InputError, match="^keep: this model attends within 64 positions"):
        windowed.prompt(talk(Image(picture(98, 98))), keep=0.5)
