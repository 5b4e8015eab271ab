import io
import struct
import zlib

import av
import numpy as np
import pytest
from PIL import Image as PIL

from onevision.errors import MediaError
from onevision.inputs.media import image_size, open_image, open_video
from tests.serve.media import video


def _encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def _png_claiming(width, height):
    """A tiny PNG whose header claims a huge size."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    row = zlib.compress(b"\0" * 16)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", row), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_path_bytes_and_a_pillow_image_give_the_same(tmp_path, picture):
    image = picture(20, 10)
    image.save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), _encoded(image, "PNG"), image):
        assert open_image(source).tobytes() == image.tobytes()


@pytest.mark.parametrize("form", ("PNG", "TIFF", "WEBP", "AVIF"))
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, form):
    """The size that the prompt is planned with is that of the picture that is cut."""
    upright = PIL.new("RGB", (40, 20), "blue")
    upright.paste("red", (0, 0, 8, 8))
    inverse = {
        2: PIL.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Transpose.ROTATE_180,
        4: PIL.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Transpose.TRANSPOSE,
        6: PIL.Transpose.ROTATE_90,
        7: PIL.Transpose.TRANSVERSE,
        8: PIL.Transpose.ROTATE_270,
    }
    stored = upright.transpose(inverse[orientation]) if orientation in inverse else upright
    exif = PIL.Exif()
    exif[0x0112] = orientation
    data = _encoded(stored, form, exif=exif)
    size, opened = image_size(data), open_image(data)
    assert (size.width, size.height) == opened.size == (40, 20)
    assert opened.getpixel((2, 2)) == pytest.approx((255, 0, 0), abs=30)
    assert opened.getpixel((37, 17)) == pytest.approx((0, 0, 255), abs=30)


def test_an_unknown_orientation_is_ignored():
    exif = PIL.Exif()
    exif[0x0112] = 999
    assert open_image(_encoded(PIL.new("RGB", (4, 2)), "PNG", exif=exif)).size == (4, 2)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_put_on_white(mode):
    image = PIL.new("RGBA", (4, 4), (255, 0, 0, 0)).convert(mode)
    if mode == "P":
        image = PIL.new("P", (4, 4), 0)
        image.putpalette([255, 0, 0] + [0] * 765)
        data = _encoded(image, "PNG", transparency=0)
    else:
        data = _encoded(image, "PNG")
    assert open_image(data).getpixel((1, 1)) == (255, 255, 255)


def test_half_transparent_red_is_pink():
    image = PIL.new("RGBA", (2, 2), (255, 0, 0, 128))
    assert open_image(image).getpixel((0, 0)) == (255, 127, 127)


def test_sixteen_bits_are_scaled_and_not_clipped():
    values = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    opened = open_image(_encoded(PIL.fromarray(values), "PNG"))
    assert [opened.getpixel((x, 0)) for x in range(3)] == [(0,) * 3, (100,) * 3, (255,) * 3]


def test_cmyk_and_palettes_have_the_right_colours():
    cyan = PIL.new("CMYK", (8, 8), (255, 0, 0, 0))
    red, green, blue = open_image(_encoded(cyan, "TIFF")).getpixel((4, 4))
    assert red < 20
    assert green > 200
    assert blue > 200
    palette = PIL.new("RGB", (2, 2), (12, 200, 99)).convert("P", palette=PIL.Palette.ADAPTIVE)
    assert open_image(_encoded(palette, "PNG")).getpixel((0, 0)) == (12, 200, 99)


def test_the_first_frame_of_an_animation_is_taken():
    frames = [PIL.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_image(data).getpixel((0, 0)) == (255, 0, 0)


def test_a_wrong_extension_does_not_matter(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(_encoded(PIL.new("RGB", (3, 3), "lime"), "PNG"))
    assert open_image(path).getpixel((0, 0)) == (0, 255, 0)


def test_a_bomb_is_refused_before_its_pixels_exist(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_claiming(13000, 13000))
    assert path.stat().st_size < 120
    with pytest.raises(MediaError, match=r"bomb\.png: 13000 x 13000 pixels exceed the limit"):
        open_image(path)


def test_bad_files_are_named(tmp_path):
    cases = {
        "missing.png": (None, "no such file"),
        "empty.png": (b"", "empty"),
        "words.png": (b"just words", "not an image"),
        "cut.png": (_encoded(PIL.new("RGB", (99, 99), "red"), "PNG")[:-40], "damaged or cut off"),
        "float.tif": (
            _encoded(PIL.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF"),
            "floating-point",
        ),
    }
    for name, (data, message) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError, match=message) as caught:
            open_image(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_addresses_are_not_fetched():
    with pytest.raises(MediaError, match="not fetched"):
        open_image("https://example.org/a.png")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("data:image/png;base64," + "iVBORw0KGgo" * 90_000, "data URLs are not read here"),
        ("iVBORw0KGgo" * 90_000, "it is base64"),
        ("pictures/" + "long-name-" * 90_000 + ".png", "cannot be opened"),
        ("a\0.png", "null byte"),
    ],
)
def test_what_is_no_path_is_said_in_one_short_line(source, message):
    with pytest.raises(MediaError, match=message) as caught:
        open_image(source)
    assert len(str(caught.value)) < 400


def test_other_things_are_refused():
    with pytest.raises(MediaError, match=r"ndarray; expected .* PIL\.Image\.fromarray"):
        open_image(np.zeros((8, 8, 3), dtype=np.uint8))
    with pytest.raises(MediaError, match="the image source is int"):
        open_image(3)
    with pytest.raises(MediaError, match="0 bytes"):
        open_image(b"")


def test_no_decoder_that_is_not_listed_looks_into_a_stream(monkeypatch):
    """FFmpeg would run the decoder to find the pixel format."""
    data, found, opening = video(codec="magicyuv", form="avi"), [], av.open

    def opened(*arguments, **options):
        container = opening(*arguments, **options)
        found.append(container.streams.video[0].codec_context.pix_fmt)
        return container

    opened(io.BytesIO(data)).close()
    monkeypatch.setattr(av, "open", opened)
    with pytest.raises(MediaError, match="magicyuv"), open_video(data):
        pass
    assert found == ["yuv420p", None]
