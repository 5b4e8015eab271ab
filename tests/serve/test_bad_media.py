"""Media that are truncated, unusual or false: decoded correctly or refused, and always quickly.

The numbers are rows of the table of test_bad_input.py.
"""

import itertools
import zlib
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image as PIL

from tests.serve.conftest import (
    CHAT,
    CLIP,
    GOOD,
    check,
    data_url,
    encoded,
    image_part,
    square,
    text_part,
    user,
    video_part,
)
from tests.serve.media import chunk, flipped, forged, gif, growing, noise, png, turned, video
from tests.serve.memory import Peak

pytestmark = pytest.mark.usefixtures("harmless")
MIB = 2**20
SIXTEENTHS = range(1, 16)


def ask(http, *parts, **fields):
    return http.post(CHAT, json=GOOD | {"messages": user(*parts, text_part())} | fields)


def test_01_a_header_that_claims_too_much_costs_nothing(http, settled):
    part, peak = image_part(png(13000, 13000)), Peak(settled.process.pid)
    answers = [ask(http, part) for _ in range(8)]
    for answer in answers:
        check(answer, 400, "image_too_large")
    assert min(float(answer.headers["x-processing-ms"]) for answer in answers) < 50
    assert peak.growth < 20 * MIB


@pytest.mark.parametrize("part", SIXTEENTHS)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_05_a_truncated_image_is_never_half_decoded(http, form, part):
    whole = encoded(noise(), form)
    check(ask(http, image_part(whole[: len(whole) * part // 16])), 400, "image_parse_error")


ZEROS = zlib.compress(bytes(200_000_000), 9)


@pytest.mark.parametrize("bomb", [b"zTXta\0\0", b"iCCPa\0\0", b"iTXta\0\1\0\0\0"])
def test_10_compressed_text_chunks_are_not_inflated(http, settled, bomb):
    part = image_part(png(9, 9, rows=9, chunks=chunk(bomb[:4], bomb[4:] + ZEROS)))
    peak = Peak(settled.process.pid)
    check(ask(http, part), 400, "image_parse_error")
    assert peak.growth < 20 * MIB


def test_11_of_ten_thousand_frames_one_is_read(http, settled):
    part, name = image_part(gif(10_000), "image/gif"), 'media_decode_seconds_sum{kind="image"}'
    seconds = [settled.metrics[f"onevision:{name}"]]
    for _ in range(4):
        assert ask(http, part).status_code == 200
        seconds.append(settled.metrics[f"onevision:{name}"])
    assert min(np.diff(seconds)) < 0.1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1), (16384, 1)])
def test_12_thin_images_take_the_tokens_that_were_counted(http, width, height):
    messages = user(image_part(encoded(PIL.new("RGB", (width, height)))), text_part())
    told = http.post("/v1/tokenize", json={"model": "tiny", "messages": messages}).json()
    usage = http.post(CHAT, json=GOOD | {"messages": messages}).json()["usage"]
    assert usage["prompt_tokens"] == told["prompt_tokens"]
    assert usage["prompt_tokens_details"]["image_tokens"] == told["image_tokens"] > 0


asked = itertools.count()


def likeliest(http, data, kind="image/png"):
    """Return the log-probabilities after a picture: others for another picture.

    Nothing of it is taken from a cache, which would round otherwise.
    """
    anew = str(next(asked))
    answer = ask(http, image_part(data, kind), logprobs=True, top_logprobs=20, cache_salt=anew)
    assert answer.status_code == 200, answer.text
    first = answer.json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    return {one["token"]: one["logprob"] for one in first}


def spotted(mode, spot, ground):
    """Returns an image of one mode with a spot."""
    image = PIL.new(mode, (98, 98), ground)
    image.paste(spot, (20, 30, 70, 90))
    return image


def palette():
    """Returns a palette image with one transparent colour."""
    image = PIL.new("P", (98, 98), 1)
    image.putpalette([200, 30, 30, 10, 20, 30])
    image.paste(0, (20, 30, 70, 90))
    return encoded(image, transparency=1)


GREY = PIL.fromarray(np.asarray(spotted("L", 100, 20), np.uint16) * 257)
MODES = {
    "1": (encoded(spotted("1", 1, 0)), "white", "black"),
    "L": (encoded(spotted("L", 100, 20)), "#646464", "#141414"),
    "LA": (encoded(spotted("LA", (100, 255), (20, 0))), "#646464", "white"),
    "P+tRNS": (palette(), "#c81e1e", "white"),
    "I;16": (encoded(GREY), "#646464", "#141414"),
    "RGBA": (encoded(spotted("RGBA", (200, 30, 30, 255), (9, 9, 9, 0))), "#c81e1e", "white"),
    "CMYK": (encoded(spotted("CMYK", (0, 255, 255, 0), (0, 0, 0, 255)), "JPEG", quality=100,
                     subsampling=0), "#ff0000", "black"),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_13_every_pixel_mode_keeps_its_colours(http, mode):
    data, spot, ground = MODES[mode]
    seen, other = likeliest(http, data), likeliest(http, encoded(spotted("RGB", "#00ff40", spot)))
    golden = likeliest(http, encoded(spotted("RGB", spot, ground)))
    assert seen == golden or mode == "CMYK"
    nearly = 0.5 if mode == "CMYK" else 0.02  # JPEG loses a little
    assert apart(seen, golden) < nearly < apart(other, golden)


def apart(one, other):
    """Returns the largest difference of log-probabilities that both lists report."""
    both = set(one) & set(other)
    return max((abs(one[token] - other[token]) for token in both), default=99)


def test_13_pixels_of_unknown_range_are_refused(http):
    check(ask(http, image_part(encoded(square().convert("F"), "TIFF"))), 400,
          "unsupported_image_media_type")  # fmt: skip


TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
         6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNS)
def test_14_an_image_is_rotated_as_its_exif_says(http, orientation):
    drawn, exif = spotted("RGB", "red", "navy").resize((120, 98)), PIL.Exif()
    exif[0x0112] = orientation
    upright = drawn.transpose(PIL.Transpose[TURNS[orientation]])
    seen, golden = likeliest(http, encoded(drawn, exif=exif)), likeliest(http, encoded(upright))
    assert seen == golden


EXIF = {
    "of no turn": b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\xe7\x03\0\0\0\0\0\0",
    "that loops": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "of nothing": b"II*\0\xff\xff\xff\xff",
    "of words": b"no exif at all",
}


@pytest.mark.parametrize("exif", EXIF)
def test_15_a_broken_exif_is_ignored(http, exif):
    data = encoded(square(), exif=b"Exif\0\0" + EXIF[exif])
    assert likeliest(http, data) == likeliest(http, encoded(square()))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_16_the_first_frame_of_an_animation_is_used(http, form):
    frames = [square("red"), square("blue")]
    options = {"lossless": True} if form == "WEBP" else {}
    moving = encoded(frames[0], form, save_all=True, append_images=frames[1:] * 50, **options)
    assert likeliest(http, moving) == likeliest(http, encoded(frames[0]))


@pytest.mark.parametrize(
    "head", ["image/jpeg;base64", "image/png;charset=x;base64", "image/png;BASE64", ";base64"]
)
def test_09_17_the_media_type_of_a_data_url_does_not_matter(http, head):
    url = data_url(encoded(square())).replace("image/png;base64", head)
    assert ask(http, {"type": "image_url", "image_url": {"url": url}}).status_code == 200


LIES = {
    "many frames": (b"stts", 8, 2**31 - 2), "many sizes": (b"stsz", 8, 2**31 - 2),
    "no time scale": (b"mvhd", 12, 0), "no scale of its own": (b"mdhd", 12, 0),
    "years": (b"mdhd", 16, 2**32 - 2), "chunks": (b"stsc", 4, 2**31 - 2),
}  # fmt: skip
VIDEO_CODES = {
    "invalid_video", "video_decode_failed", "no_video_stream", "video_too_large", "video_too_long",
    "unsupported_video_codec", "unsupported_video_format",
}  # fmt: skip

NAMES = ("x.m3u8", "a/../../b.mp4", "n" * 4096, "a\0.mp4", "\u202e4pm.exe")


@pytest.mark.parametrize("name", NAMES, ids=["list", "path", "long", "nul", "reversed"])
def test_28_file_names_beside_media_are_ignored(http, name):
    """Media have no file names; one beside the bytes has no effect."""
    plain = ask(http, video_part(num_frames=2))
    beside = video_part(num_frames=2, filename=name)
    beside["video_url"]["name"] = name
    assert ask(http, beside).json()["choices"] == plain.json()["choices"]
    inside = video_part(num_frames=2)
    url = inside["video_url"]["url"].replace(";base64", f";name={quote(name[:60])};base64")
    inside["video_url"]["url"] = url
    assert ask(http, inside).json()["choices"] == plain.json()["choices"]
    upload = http.post("/v1/files", files={"file": (name.replace("\0", ""), CLIP, "video/mp4")})
    check(upload, 404, "not_found")


@pytest.mark.parametrize("lie", LIES)
def test_29_false_headers_are_not_trusted(http, settled, lie):
    part, peak = video_part(forged(CLIP, *LIES[lie]), num_frames=2), Peak(settled.process.pid)
    answer = ask(http, part)
    if answer.status_code == 200:
        assert answer.json()["usage"]["prompt_tokens_details"]["video_tokens"] in (17, 33)
    else:
        check(answer, 400, answer.json()["error"]["code"])
        assert answer.json()["error"]["code"] in VIDEO_CODES
    assert peak.growth < 100 * MIB


def test_30_flipped_bytes_cost_one_request(http):
    """Two hundred damaged videos, eight at a time."""

    def code_of(seed):
        answer = ask(http, video_part(flipped(CLIP, seed), num_frames=2))
        return 200 if answer.status_code == 200 else answer.json()["error"]["code"]

    with ThreadPoolExecutor(8) as threads:
        codes = list(threads.map(code_of, range(200)))
    assert set(codes) <= VIDEO_CODES | {200}
    assert len(set(codes)) > 1


ODD = {
    "one frame": (video(frames=1), 1),
    "matroska": (video(form="matroska"), 4),
    "avi": (video(codec="mpeg4", form="avi"), 4),
    "frames that grow": (growing(), 4),
    "turned": (turned(video()), 4),
    "uneven times": (video(marks=(0, 1, 5, 6, 20)), 4),
    "frames out of order": (video(frames=12, bf="3"), 4),
    "a frame in ten seconds": (video(rate=Fraction(1, 10)), 4),
    "before the beginning": (video(marks=(-2, -1, 0, 1, 2, 3)), 4),  # the file hides two
}


@pytest.mark.parametrize("kind", ODD)
def test_32_unusual_videos_have_the_requested_frames(http, kind):
    data, frames = ODD[kind]
    answer = ask(http, video_part(data, num_frames=4))
    assert answer.status_code == 200, answer.text
    details = answer.json()["usage"]["prompt_tokens_details"]
    assert details["video_tokens"] == frames * 16 + 1
