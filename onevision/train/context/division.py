"""A batch and N processes -> which positions, crops and visual tokens are whose; plain arithmetic.

    sequence   positions [S i / N, S (i + 1) / N) of every row are those of process i
    crops      equally many for each, in order; what the encoder must see together stays together
    tokens     those at a process's positions, merged by it from the patches of any process's crops

A piece of a video needs the patches of its own frames alone; an image in a grid needs all of its.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from onevision.anyres import Layout, VideoLayout
from onevision.native import NativeLayout

# Visual tokens [first, end), counted through a batch.
Span = tuple[int, int]


def cut_evenly(length: int, parts: int) -> list[int]:
    """Returns where each of `parts` equal parts begins, and the end: 5 in 2 -> 0, 2, 5."""
    return [length * number // parts for number in range(parts + 1)]


def count_repeats(num_kv_heads: int, parts: int) -> int:
    """Returns how often each key/value head is repeated so that `parts` processes share them."""
    return math.lcm(num_kv_heads, parts) // num_kv_heads


def cut_crops(layouts: Sequence[Layout], parts: int) -> list[int]:
    """Returns where each process's crops begin, and the end.

    What the vision encoder must see together, a picture at native resolution or a window of
    frames, is not cut.
    """
    owners, places = [owner for layout in layouts for owner in layout.owners], [0]
    while places[-1] < len(owners):
        places.append(places[-1] + owners[places[-1]].crops_together)
    wanted = [len(owners) * number / parts for number in range(parts + 1)]
    return [min(places, key=lambda place: (abs(place - one), -place)) for one in wanted]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some visual tokens of one image or video, and what they are made of."""

    layout: Layout  # of `crops` alone
    crops: range  # counted through the batch
    tokens: slice  # which of the tokens that `layout` makes of those


@dataclass(frozen=True, kw_only=True)
class Trade:
    """What one process gives of the patches of its crops, and what it gets for its tokens."""

    pieces: tuple[Piece, ...]
    # Numbers of its own crops, receiver by receiver.
    given: tuple[int, ...]
    num_given: tuple[int, ...]  # to each process
    num_got: tuple[int, ...]  # from each process


def plan_trade(layouts: Sequence[Layout], spans: Sequence[Sequence[Span]], *, place: int) -> Trade:
    """Plans the trade of process `place`; `spans` are the visual tokens of each process."""
    cuts = cut_crops(layouts, len(spans))
    shares = [range(*cut) for cut in pairwise(cuts)]
    pieces = [find_pieces(layouts, one) for one in spans]
    needed = [[crop for piece in own for crop in piece.crops] for own in pieces]
    mine = shares[place]
    given = [[crop - mine.start for crop in crops if crop in mine] for crops in needed]
    return Trade(
        pieces=tuple(pieces[place]),
        given=tuple(crop for crops in given for crop in crops),
        num_given=tuple(map(len, given)),
        num_got=tuple(sum(crop in share for crop in needed[place]) for share in shares),
    )


def find_pieces(layouts: Sequence[Layout], spans: Sequence[Span]) -> list[Piece]:
    """Returns what the visual tokens in `spans` are made of; no two reach into one layout."""
    pieces, token, crop = list[Piece](), 0, 0
    for layout in layouts:
        for begin, stop in spans:
            first, end = max(begin - token, 0), min(stop - token, layout.num_tokens)
            if first < end:
                pieces.append(_cut_piece(layout, first=first, end=end, crop=crop))
        token, crop = token + layout.num_tokens, crop + layout.num_crops
    return pieces


def _cut_piece(layout: Layout, *, first: int, end: int, crop: int) -> Piece:
    """Returns tokens [first, end) of a layout whose crops begin at `crop`."""
    own, before, skipped = layout, 0, 0
    if isinstance(layout, NativeLayout):  # a crop is a token
        before = skipped = first
        own = replace(layout, cols=end - first, rows=1, num_frames=None, numbers=None)
    elif isinstance(layout, VideoLayout) and not (layout.num_dropped or layout.slow_every):
        ends: dict[str, int] = {"grid": layout.pooled_side, "frame": 1}  # newlines of a frame
        each = layout.pooled_side**2 + ends.get(layout.newline, 0)  # tokens of a frame
        before = min(first // each, layout.num_frames - 1)  # after the last: a single newline
        skipped = before * each
        own = replace(layout, num_frames=min(-(-end // each), layout.num_frames) - before)
    begin = crop + before
    return Piece(
        layout=own,
        crops=range(begin, begin + own.num_crops),
        tokens=slice(first - skipped, end - skipped),
    )
