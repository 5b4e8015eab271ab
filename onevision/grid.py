"""The size of a picture and the grids there are -> its grid, and the mosaic that is kept of it.

The floating-point arithmetic reproduces the reference implementation exactly (LLaVA-NeXT,
`llava/mm_utils.py` and `llava/model/llava_arch.py`), since released weights were trained on it.
"""

import math
from collections.abc import Sequence

# A mosaic is scaled down only if its side exceeds the budget by more than this factor.
SHRINK_TOLERANCE = 1.1


def choose_grid(
    width: int, height: int, grids: Sequence[tuple[int, int]], *, crop_size: int
) -> tuple[int, int]:
    """Returns the (columns, rows) that keep the most pixels and, in a tie, waste least canvas."""

    def rank(grid: tuple[int, int]) -> tuple[int, int]:
        canvas_width, canvas_height = grid[0] * crop_size, grid[1] * crop_size
        scale = min(canvas_width / width, canvas_height / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        return effective, effective - canvas_width * canvas_height

    return max(grids, key=rank)  # the first of equals


def unpad(width: int, height: int, cols: int, rows: int) -> tuple[int, int, int, int]:
    """Cuts the padding off a mosaic of `cols` x `rows` patches.

    Returns first row, kept rows, first column, kept columns. Both sides are cut equally, so one row
    or column of padding survives if the remainder is odd. FIDELITY: the product is floored as in
    the reference; transformers rounds it to seven digits first. With an even `side` the mosaic of
    a very thin picture can come out empty, as in the reference, which leaves only the base crop.
    """
    if width / height > cols / rows:
        cut = (rows - int(height * (cols / width))) // 2
        return cut, rows - 2 * cut, 0, cols
    cut = (cols - int(width * (rows / height))) // 2
    return 0, rows, cut, cols - 2 * cut


def shrink(rows: int, cols: int, *, budget: int | None) -> tuple[int, int]:
    """Scales a mosaic of `rows` x `cols` patches down if it is well above `budget` patches."""
    ratio = math.sqrt(rows * cols / (budget or math.inf))
    if ratio <= SHRINK_TOLERANCE:
        return rows, cols
    return int(rows // ratio), int(cols // ratio)
