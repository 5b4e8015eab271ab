"""How evenly do the processes of a context group encode? Simulated on lengths like OneVision's.

    python -m benchmarks.context          20,000 samples at 0.5B geometry, packs of 32,768 (20 s)

Each number is how much longer the slowest process works than if all did the same: the largest share
of a pack divided by the mean share, over all packs. `alone` is one process that encodes for all,
`by position` encodes what the visual tokens at a process's own positions need, and `spread` is what
training does (`train/context/division.py`). `targets` is for comparison: positions with a label,
which stay where they are. Prints a Markdown table.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from onevision.anyres import Layout, plan, plan_video
from onevision.data.packs import pack
from onevision.known_models import ONEVISION_0_5B
from onevision.train.context.division import cut_crops, cut_evenly, find_pieces

MAX_TOKENS = 32768
# Text, single images, image sets, videos: their shares of the samples.
SHARES = (0.08, 0.31, 0.39, 0.22)
NUM_FRAMES = 32
PARTS = (2, 4, 7)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a sample holds: some words, media, more words; the last ones are learned."""

    layouts: tuple[Layout, ...]
    num_words: int
    num_labelled: int

    @property
    def num_visual(self) -> int:
        """Visual tokens."""
        return sum(layout.num_tokens for layout in self.layouts)

    def __len__(self) -> int:
        return self.num_visual + self.num_words


def make_samples(count: int, *, seed: int = 0) -> Iterator[Sample]:
    """Draws samples by the shares above."""
    rng, inputs = np.random.default_rng(seed), ONEVISION_0_5B.inputs
    for kind in rng.choice(4, size=count, p=SHARES):
        words = int(rng.lognormal(5, 0.7)) + 40
        layouts: tuple[Layout, ...] = ()
        if kind == 1:
            width, height = rng.integers(200, 1600, 2)
            layouts = (plan(width=int(width), height=int(height), rule=inputs.image),)
        elif kind == 2:
            one = plan(width=640, height=480, rule=inputs.multi_image)
            layouts = (one,) * int(rng.integers(2, 9))
        elif kind == 3:
            layouts = (plan_video(num_frames=NUM_FRAMES, rule=inputs.video),)
        yield Sample(layouts=layouts, num_words=words, num_labelled=(words - 40) * 2 // 3 + 1)


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What each process of a group has of one pack."""

    by_position: list[int]  # crops
    spread: list[int]
    targets: list[int]


def divide_pack(samples: Sequence[Sample], parts: int) -> Shares:
    """Divides a pack among `parts` processes."""
    layouts = [layout for sample in samples for layout in sample.layouts]
    visual, labelled = [], []
    for sample in samples:
        first = sample.num_words // 8  # of the words, before the media
        rest = sample.num_words - first
        visual += [0] * first + [1] * sample.num_visual + [0] * rest
        labelled += [0] * (len(sample) - sample.num_labelled) + [1] * sample.num_labelled
    cuts = list(pairwise(cut_evenly(len(visual), parts)))
    before = np.concatenate([[0], np.cumsum(visual)])
    needed = [find_pieces(layouts, [(int(before[a]), int(before[b]))]) for a, b in cuts]
    return Shares(
        by_position=[sum(len(piece.crops) for piece in pieces) for pieces in needed],
        spread=[b - a for a, b in pairwise(cut_crops(layouts, parts))],
        targets=[sum(labelled[a:b]) for a, b in cuts],
    )


def imbalance(shares: Sequence[Sequence[int]]) -> float:
    """Returns the sum of the largest shares over the sum of the mean shares."""
    return sum(map(max, shares)) / sum(sum(one) / len(one) for one in shares)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=20_000)
    count = parser.parse_args().samples
    samples = list(make_samples(count))
    packs = pack([len(sample) for sample in samples], max_tokens=MAX_TOKENS)
    members = [[samples[n] for n in packs[number]] for number in range(len(packs))]
    crops = [sum(la.num_crops for s in pack for la in s.layouts) for pack in members]
    print(f"{len(packs):,} packs, {np.mean(crops):.0f} crops each ({min(crops)} to {max(crops)})\n")
    print("| N | alone | by position | spread | targets | a pack a process |")
    print("|---:|---:|---:|---:|---:|---:|")
    for parts in PARTS:
        shares = [divide_pack(one, parts) for one in members]
        groups = [crops[i : i + parts] for i in range(0, len(crops) - parts + 1, parts)]
        cells = (
            float(parts),  # one encodes for all
            imbalance([one.by_position for one in shares]),
            imbalance([one.spread for one in shares]),
            imbalance([one.targets for one in shares]),
            imbalance(groups),
        )
        print(f"| {parts} | {' | '.join(f'{cell:.2f}' for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
