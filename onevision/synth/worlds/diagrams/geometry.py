r"""Diagrams of geometry and arithmetic: figures, scales, clocks, blocks and sums.

    C
   /x\        "A triangle ABC with angles of 60° at A and 70° at B; the angle at C is unknown."
  /   \       How many degrees is the angle x?        50
 /60°70\      What do the two given angles add up to? 130
A-------B
"""

from onevision.synth.sample import Sample, Split, rng_for
from onevision.synth.worlds.diagrams import (
    angles,
    blocks,
    circles,
    clocks,
    coordinates,
    fractions,
    number_lines,
    polygons,
    rectangles,
    scales,
    sums,
    triangles,
)

DIAGRAMS = (
    triangles, triangles, rectangles, rectangles, circles, angles, clocks, blocks, sums, fractions,
    number_lines, scales, polygons, coordinates,
)  # fmt: skip


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th diagram of a split."""
    rng = rng_for(split, "geometry", index)
    return rng.choice(DIAGRAMS).make(rng)
