"""A PNG's bytes -> whether all of its pixel rows are present, found in constant memory.

Pillow silently fills missing rows with black, so one row behind a forged header would be decoded as
a huge picture. Counting the inflated bytes detects this without allocating pixels.
"""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# Adam7 passes: first column, first row, and the distance of pixels across and down.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip
PIECE_BYTES = 1 << 16


def has_all_rows(data: bytes) -> bool:
    """Whether the pixel data are as long as the header demands (ISO/IEC 15948, 7 and 8)."""
    try:
        needed, found = _needed_bytes(data), 0
        stream = zlib.decompressobj()
        for chunk in _pixel_chunks(data):
            while chunk and found < needed:
                found += len(stream.decompress(chunk, PIECE_BYTES))
                chunk = stream.unconsumed_tail
        return found + len(stream.flush()) >= needed
    except (struct.error, zlib.error, KeyError):
        return False


def _needed_bytes(data: bytes) -> int:
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    bits = depth * CHANNELS[colour]
    if not interlaced:
        return height * (1 + (width * bits + 7) // 8)
    total = 0
    for left, top, across, down in PASSES:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _pixel_chunks(data: bytes) -> Iterator[bytes]:
    place = len(SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IDAT":
            yield data[place + 8 : place + 8 + length]
        place += 12 + length
