"""Small files that would keep a decoder busy are refused by counting, before they are decoded."""

import io
import struct
import time

import av
import pytest
from PIL import Image as PIL

from onevision import Image, Video
from onevision.anyres import SingleCrop, plan
from onevision.errors import MediaError
from onevision.inputs.media import TRUSTED_LIMITS, image_size, open_image
from onevision.inputs.sandbox import Sandbox
from onevision.inputs.sandbox_worker import UNTRUSTED_LIMITS, SandboxSettings
from onevision.inputs.video import choose_frames
from tests.serve.media import chunk, gif, png, video


def encoded(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


PROGRESSIVE = encoded(PIL.new("L", (64, 64), 99), "JPEG", progressive=True)
PLAIN = encoded(PIL.new("RGB", (64, 64), "teal"), "JPEG")
COMMENT = b"\xff\xfe\x00\x03a"


def jpeg_of_scans(count, *, between=b"", image=PROGRESSIVE):
    """Repeats the last scan, as an attacker does to have all pixels visited again and again."""
    scan = image[image.rfind(b"\xff\xda") : -2]
    return image[:-2] + (between + scan) * count + b"\xff\xd9"


def gif_with(blocks):
    head = gif(0)[:-1]
    return head + blocks + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00;"


def bmp_of_runs(runs):
    data = b"\x01\x05" * runs
    header = struct.pack("<IiiHHIIiiII", 40, 4000, 4000, 1, 8, 1, len(data), 0, 0, 256, 0)
    begin = 14 + len(header) + 1024
    return (
        b"BM" + struct.pack("<IHHI", begin + len(data), 0, 0, begin) + header + bytes(1024) + data
    )


IMAGE_BOMBS = {
    "scans": (jpeg_of_scans(2500), r"holds 2,5\d\d scans; the limit is 50"),
    "scans of a plain JPEG": (jpeg_of_scans(60, image=PLAIN), "61 scans; the limit is 50"),
    "scans and comments": (jpeg_of_scans(60, between=COMMENT * 40), "more than 2,000 blocks"),
    "JPEG comments": (PLAIN[:2] + COMMENT * 9000 + PLAIN[2:], "JPEG holds more than 2,000 blocks"),
    "JPEG junk": (PLAIN[:2] + b"\0" * 200_000 + PLAIN[2:], "more than 100,000 pieces"),
    "JPEG fill bytes": (PLAIN[:2] + b"\xff" * 200_000 + PLAIN[2:], "more than 100,000 pieces"),
    "JPEG that never begins": (PLAIN[:2] + b"a" * 200_000, "more than 100,000 pieces"),
    "PNG texts": (png(4, 4, rows=4, chunks=chunk(b"tEXt", b"a\0b") * 3000), "more than 2,000 blo"),
    "PNG profiles": (png(4, 4, rows=4, chunks=chunk(b"iCCP", b"a\0\0") * 2), "more than 1 colour"),
    "PNG pieces": (png(4, 4, chunks=chunk(b"IDAT", b"") * 100_001), "more than 100,000 pieces"),
    "PNG frames": (png(4, 4, chunks=chunk(b"fcTL", b"") * 2001), "more than 2,000 blocks"),
    "GIF comments": (gif_with(b"!\xfe\x01a\0" * 3000), "GIF holds more than 2,000 blocks"),
    "GIF comment in pieces": (gif_with(b"!\xfe" + b"\x01a" * 200_000 + b"\0"), "pieces of data"),
    "GIF junk": (gif_with(b"\x01" * 200_000), "more than 100,000 pieces"),
    "BMP runs": (bmp_of_runs(1_500_000), "more than 2,000,000 bytes of run-length code"),
}


@pytest.mark.parametrize("name", IMAGE_BOMBS)
def test_a_picture_that_costs_too_much_is_refused(name):
    data, message = IMAGE_BOMBS[name]
    began = time.process_time()
    with pytest.raises(MediaError, match=message) as caught:
        open_image(data, limits=UNTRUSTED_LIMITS)
    assert time.process_time() - began < 0.5
    assert caught.value.fault == "too_large"
    with pytest.raises(MediaError, match=message):
        image_size(data, limits=UNTRUSTED_LIMITS)


def test_a_server_refuses_scans_from_headers():
    """2,500 scans of 1.75 MB took a worker all of its ten seconds."""
    image = PIL.effect_noise((500, 500), 40)
    data = jpeg_of_scans(2500, image=encoded(image, "JPEG", progressive=True, quality=2))
    sandbox = Sandbox(SandboxSettings(num_workers=1))
    good = Image(PLAIN)
    with sandbox.session([good]):
        pass
    began = time.monotonic()
    with pytest.raises(MediaError, match="scans; the limit is 50"), sandbox.session([Image(data)]):
        pass
    assert time.monotonic() - began < 3
    assert sandbox.num_restarts == 0
    sandbox.close()


def test_pictures_as_encoders_make_them_pass():
    image = PIL.effect_mandelbrot((64, 48), (-2, -1, 1, 1), 50).convert("RGB")
    profile = encoded(image, "PNG", icc_profile=bytes(3000))
    exif = PIL.Exif()
    exif[0x010E] = "a" * 60_000
    for data in (
        PROGRESSIVE, PLAIN, jpeg_of_scans(30), profile, encoded(image, "BMP"), gif(5000),
        encoded(image, "JPEG", exif=exif, icc_profile=bytes(500_000), progressive=True),
        encoded(image, "WEBP", save_all=True, append_images=[image] * 5),
        encoded(image, "PNG", save_all=True, append_images=[image] * 5),
        gif_with(b"!\xfe" + b"\xff" + b"a" * 255 + b"\0"),
    ):  # fmt: skip
        assert open_image(data, limits=UNTRUSTED_LIMITS).size == open_image(data).size


def webp(*chunks, width=1, height=1, flags=0):
    """Returns an extended WebP; flag 2 is an animation, 8 EXIF, 32 a colour profile."""
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = webp_chunk(b"VP8X", struct.pack("<I", flags) + sides) + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def webp_chunk(kind, data):
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def exif_of_entries(count):
    entries = (struct.pack(">HHII", tag, 7, 8, 8) for tag in range(count))
    return b"MM\0*\0\0\0\x08" + struct.pack(">H", count) + b"".join(entries) + bytes(4)


def webp_of_codes(count, *, cache_bits=11):
    """Returns a picture of 8 by 8 pixels that declares `count` groups of prefix codes, up to 2^16.

    Its four blocks all use the last group, so a decoder has to read them all (RFC 9649, 6.2).
    """
    written = [(0x2F, 8), (7, 14), (7, 14), (0, 4), (0, 1)]  # size, no transparency, no transform
    written += [(1, 1), (cache_bits, 4), (1, 1), (0, 3)]  # a colour cache, blocks of 4 by 4 pixels
    written += [(0, 1)]  # the picture of groups: each channel has one symbol, 8 bits of it
    for symbol in ((count - 1) & 255, (count - 1) >> 8, 0, 255, 0):
        written += [(1, 1), (0, 1), (1, 1), (symbol, 8)]
    bits = "".join(f"{value:0{size}b}"[::-1] for value, size in written)
    bits += "1000" * 5 * count  # codes of one symbol
    data = int(bits[::-1], 2).to_bytes(len(bits) // 8 + 9, "little")
    chunk = webp_chunk(b"VP8L", data)
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


SIDE = 6320  # a square of this side has 40 million pixels, the most that a server takes
DOT = encoded(PIL.new("RGB", (1, 1), "red"), "WEBP", lossless=True)[12:]  # without RIFF's header
FRAME = webp_chunk(b"ANMF", bytes(12) + struct.pack("<I", 10) + DOT)
FRAMES = [webp_chunk(b"ANIM", bytes(6)), *[FRAME] * 30_000]
NOISE = PIL.merge("RGB", [PIL.effect_noise((800, 800), 200)] * 3)
# Name -> a file below 2 MiB, and whether it has the most pixels that there may be.
WEBPS = {
    "frames": (webp(*FRAMES, flags=2), False),
    "frames of a large canvas": (webp(*FRAMES, width=SIDE, height=SIDE, flags=2), True),
    "a lossless one of one colour": (
        encoded(PIL.new("RGB", (SIDE, SIDE), "red"), "WEBP", lossless=True, method=0), True,
    ),
    "a lossless one of noise": (encoded(NOISE, "WEBP", lossless=True, method=0), False),
    "unknown chunks": (webp(DOT, *[webp_chunk(b"JUNK", b"")] * 200_000), False),
    "colour profiles": (webp(*[webp_chunk(b"ICCP", b"a")] * 150_000, DOT, flags=32), False),
    "prefix codes": (webp_of_codes(65_536), False),
    "EXIF": (webp(DOT, webp_chunk(b"EXIF", exif_of_entries(65_535)), flags=8), False),
}  # fmt: skip


@pytest.mark.parametrize("name", WEBPS)
def test_a_webp_costs_what_its_pixels_cost(name):
    """The dearest took 0.8 s for 65,536 groups of codes, and 0.5 s for 40 million pixels."""
    data, is_large = WEBPS[name]
    assert len(data) < 2 * 2**20
    began = time.process_time()
    assert image_size(data, limits=UNTRUSTED_LIMITS).width == open_image(data).width
    assert time.process_time() - began < (4 if is_large else 2)


@pytest.mark.slow
def test_a_webp_of_transparent_pixels_is_decoded_in_a_worker():
    """The dearest known: 106 KB, 40 million pixels of colour and of transparency; 1.3 s."""
    clear = PIL.new("RGBA", (SIDE, SIDE), (1, 2, 3, 4))
    data = encoded(clear, "WEBP", quality=10, method=0)
    assert len(data) < 200_000
    sandbox = Sandbox(SandboxSettings(num_workers=1))
    layout = plan(width=SIDE, height=SIDE, rule=SingleCrop())
    with sandbox.session([Image(data)]) as session:
        assert session.cut([layout], image_mean=(0.5, 0.5, 0.5)).shape == (1, 3, 384, 384)
    assert sandbox.num_restarts == 0
    sandbox.close()


def test_trusted_files_are_not_counted():
    assert open_image(jpeg_of_scans(60), limits=TRUSTED_LIMITS).size == (64, 64)


def boxes(data, begin=0, end=None, path=()):
    """Lists (path, begin, size) of the boxes of an MP4."""
    end = len(data) if end is None else end
    while begin + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, begin)
        yield (*path, kind), begin, size
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf"):
            yield from boxes(data, begin + 8, begin + size, (*path, kind))
        begin += size


def with_box(data, kind, contents):
    """Returns an MP4 with another first box of `kind`."""
    path, begin, size = next(found for found in boxes(data) if found[0][-1] == kind)
    more = 8 + len(contents) - size
    changed = bytearray(data)
    for outer, place, length in boxes(data):
        if path[: len(outer)] == outer and outer != path and place < begin < place + length:
            struct.pack_into(">I", changed, place, length + more)
    new = struct.pack(">I4s", 8 + len(contents), kind) + contents
    return bytes(changed[:begin]) + new + bytes(changed[begin + size :])


def in_fragments(data):
    out = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with (
        av.open(io.BytesIO(data)) as source,
        av.open(out, "w", format="mp4", options=options) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return out.getvalue()


CLIP = video()
PIECES = in_fragments(CLIP)
FREE = struct.pack(">I4s", 8, b"free")
MANY = 40_000_000


def video_bombs():
    sizes = with_box(CLIP, b"stsz", struct.pack(">III", 0, 1, MANY))
    times = with_box(CLIP, b"stts", struct.pack(">IIII", 0, 1, MANY, 1))
    both = with_box(sizes, b"stts", struct.pack(">IIII", 0, 1, MANY, 1))
    edits = with_box(CLIP, b"elst", struct.pack(">II", 0, 999) + bytes(12) * 999)
    moved = CLIP.replace(b"stsz", b"free")
    hidden = struct.pack(">I4s", 28, b"dinf") + struct.pack(">I4sIII", 20, b"stsz", 0, 1, MANY)
    yield "sizes", sizes, "declares 40,000,000 samples; the limit is 1,000,000"
    yield "times", times, "declares 40,000,000 samples"
    yield "sizes and times", both, "declares 40,000,000 samples"
    yield "sizes elsewhere", moved + hidden, "declares 40,000,000 samples"
    yield "edits", edits, "declares 999 edits; the limit is 100"
    yield "edits of many samples", with_box(edits, b"stsz", struct.pack(">III", 0, 1, MANY)), "samp"
    fragment = with_box(PIECES, b"trun", struct.pack(">III", 0, MANY, 0))
    yield "fragments", fragment, "declares 40,000,00"
    yield "boxes", CLIP + FREE * 300_000, "more than 200,000 boxes"
    yield "boxes in front", CLIP[:32] + FREE * 300_000 + CLIP[32:], "more than 200,000 boxes"
    yield "a compressed header", CLIP + struct.pack(">I4s", 8, b"cmov"), "header is compressed"


@pytest.mark.parametrize(("name", "data", "message"), tuple(video_bombs()))
def test_a_video_that_costs_too_much_is_refused(name, data, message):
    began = time.process_time()
    with pytest.raises(MediaError, match=message):
        choose_frames(Video(data), limits=UNTRUSTED_LIMITS)
    assert time.process_time() - began < 2, name


def test_chunks_of_an_avi_are_counted_where_they_stand():
    clip = video(codec="mjpeg", form="avi", pixels="yuvj420p")
    place = clip.find(b"movi") - 8
    for data in (
        clip[:place] + b"JUNK\0\0\0\0" * 300_000 + clip[place:],
        clip + b"JUNK\0\0\0\0" * 300_000,
    ):
        with pytest.raises(MediaError, match="more than 200,000 boxes"):
            choose_frames(Video(data), limits=UNTRUSTED_LIMITS)


def test_boxes_nested_without_end_end():
    """Also: a box of size 0 or beyond the file, which reach to the end."""
    nested = b"".join(struct.pack(">I4s", 8 * (5000 - k), b"moov") for k in range(5000))
    for data in (CLIP[:32] + nested, CLIP[:32] + struct.pack(">I4s", 0, b"moov") * 5000):
        with pytest.raises(MediaError, match="cannot be read"):
            choose_frames(Video(data), limits=UNTRUSTED_LIMITS)


def test_videos_as_encoders_make_them_pass():
    for data in (CLIP, PIECES, video(form="mov"), video(form="matroska"), video(frames=300)):
        assert choose_frames(Video(data, num_frames=2), limits=UNTRUSTED_LIMITS).indices
