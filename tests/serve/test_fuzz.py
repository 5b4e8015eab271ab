"""Numbers and media at random: refused or answered, never an internal error.

ONEVISION_FUZZ=5000 pytest tests/serve/test_fuzz.py --timeout=0     longer than by default
"""

import json
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serve.conftest import (
    CHAT,
    CLIP,
    GOOD,
    encoded,
    image_part,
    square,
    text_part,
    user,
    video_part,
)
from tests.serve.media import noise, video

fuzzed = settings(
    max_examples=int(os.environ.get("ONEVISION_FUZZ", "200")), deadline=None, database=None,
    derandomize=True, suppress_health_check=list(HealthCheck),
)  # fmt: skip
SMALL = st.one_of(
    st.integers(-2, 3), st.integers(), st.floats(), st.booleans(), st.text(max_size=9)
)
FIELDS = {
    "n": st.one_of(st.integers(-2, 2), st.integers(9), st.floats()),
    # Valid values are short; invalid ones are anything.
    "max_tokens": st.one_of(st.integers(-5, 3), st.integers(5000), st.floats(), st.booleans()),
    "top_logprobs": SMALL, "logprobs": st.booleans(),
    "stop_token_ids": st.lists(SMALL, max_size=3),
    "logit_bias": st.dictionaries(SMALL.map(str), SMALL, max_size=3),
} | {
    name: SMALL
    for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "min_tokens",
                 "presence_penalty", "frequency_penalty", "seed")
}  # fmt: skip
VIDEO_FIELDS = {name: SMALL for name in ("num_frames", "fps", "start", "end")}
IMAGES = [encoded(noise(40, 30), form) for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
VIDEOS = [CLIP, video(form="matroska"), video(codec="mpeg4", form="avi"), video(bf="2", frames=9)]
FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=12)


def tell(http, **fields):
    """Sends a request, and checks that the server answers or refuses it, and goes on."""
    body = encode(GOOD | fields)
    answer = http.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400), (answer.status_code, answer.text, body[:500])
    if answer.status_code == 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert http.get("/health").status_code == 200


def encode(body):
    """Serialises JSON as Python does: NaN and Infinity too."""
    return json.dumps(body).encode()


def damaged(data, flips, rest):
    """Returns bytes with some changed, perhaps truncated."""
    changed = bytearray(data)
    for place, change in flips:
        changed[int(place * len(data))] ^= change
    return bytes(changed[: len(data) - int(rest * len(data))])


@fuzzed
@given(fields=st.fixed_dictionaries({}, optional=FIELDS))
def test_numbers_of_every_kind(http, fields):
    tell(http, **fields)


@fuzzed
@given(fields=st.fixed_dictionaries({}, optional=VIDEO_FIELDS))
def test_numbers_of_a_video(http, fields):
    tell(http, messages=user(video_part(**fields), text_part()))


@fuzzed
@given(whole=st.sampled_from(IMAGES), flips=FLIPS, rest=st.sampled_from([0, 0, 0.1, 0.5]))
def test_images_with_other_bytes(http, whole, flips, rest):
    tell(http, messages=user(image_part(damaged(whole, flips, rest)), text_part()))


@fuzzed
@given(whole=st.sampled_from(VIDEOS), flips=FLIPS, rest=st.sampled_from([0, 0, 0.1, 0.5]))
def test_videos_with_other_bytes(http, whole, flips, rest):
    tell(http, messages=user(video_part(damaged(whole, flips, rest), num_frames=2), text_part()))


def test_a_valid_request_is_answered_after_all_that(http):
    asked = GOOD | {"messages": user(image_part(encoded(square())), text_part())}
    assert http.post(CHAT, json=asked).status_code == 200
