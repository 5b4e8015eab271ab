"""Which eyes the next `tiny` gets: frozen features -> what a linear layer reads off them.

    python runs/tiny_probe.py SOURCES ENCODER letters    letters of unseen typefaces, by size
    python runs/tiny_probe.py SOURCES ENCODER emoji      things in a design never seen

SOURCES is what tiny_fetch.py brought, ENCODER EfficientNet-Lite0 as `onevision unpickle` writes it.
Compared are its maps at strides 8, 16 and 32, brought to 7 x 7 cells of a crop of 224 pixels, and
the bundled model's encoder, 7 x 7 patches of the same crop at 98 pixels, alone and with stride 32.
A letter stands anywhere, and the cell that holds its middle is read; of a thing, the cells' mean.
"""

import argparse
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from tiny_heldout import on_white
from tiny_material import CHARACTERS, Material, Named, Typeface, read
from torch import Tensor, nn

from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.parts.pretrained import load_vision_encoder
from onevision.inputs.image import normalise
from onevision.known_models import TINY
from onevision.known_small import TINY_V2
from onevision.model.llava import LlavaNetwork

HEIGHTS = (10, 14, 20, 32, 56)  # of a letter, in pixels of a crop of 224
# The next `tiny` with every map that is compared.
TAPPED = replace(TINY_V2, vision=replace(TINY_V2.vision, taps=(2, 4, 6)))
# What is compared: which of the cells that follow one another, by channels.
WIDTHS = {"stride 8": 640, "stride 16": 448, "stride 32": 320, "ViT": 192}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "stride 32": ("stride 32",),
    "strides 16, 32": ("stride 16", "stride 32"),
    "strides 8, 16, 32": ("stride 8", "stride 16", "stride 32"),
    "ViT": ("ViT",),
    "ViT, stride 32": ("ViT", "stride 32"),
}
AT_ONCE, EPOCHS = 32, 40
SIDE, NUM_CELLS = 448, 7  # of a picture with a letter, before it is made smaller; in a row


@dataclass(frozen=True, kw_only=True)
class Case:
    """A picture, its class, and the group that its result counts in."""

    picture: Image.Image
    label: int
    group: str
    # Where it is read; None: from the mean of all cells.
    cell: int | None = None


class Eyes:
    """Both encoders, frozen."""

    def __init__(self, encoder: Path) -> None:
        self.trunk, self.vit = (
            LlavaNetwork(TAPPED),
            load_network(inspect(BUNDLED["tiny"]), dtype=torch.float32),
        )
        load_vision_encoder(self.trunk, encoder)

    @torch.no_grad()
    def look(self, cases: Iterator[Case]) -> tuple[Tensor, Tensor, list[str]]:
        """Returns features [N, C] of all widths side by side, labels [N], groups."""
        features, labels, groups = [], [], []
        while some := list(islice(cases, AT_ONCE)):
            for case, cells in zip(some, self._encode([c.picture for c in some]), strict=True):
                features.append(cells.mean(0) if case.cell is None else cells[case.cell])
                labels.append(case.label)
                groups.append(case.group)
        return torch.stack(features), torch.tensor(labels), groups

    def _encode(self, pictures: Sequence[Image.Image]) -> Tensor:
        parts = []
        for network, config in ((self.trunk, TAPPED), (self.vit, TINY)):
            side, rules = config.vision.image_size, config.inputs
            crops = torch.stack([
                torch.from_numpy(np.array(one.resize((side, side), Image.Resampling.BICUBIC)))
                for one in pictures
            ]).movedim(-1, 1)  # fmt: skip
            pixels = normalise(crops, mean=rules.image_mean, std=rules.image_std)
            parts.append(network.vision_encoder(pixels))
        return torch.cat(parts, dim=-1)


def learn(probe: nn.Linear, x: Tensor, labels: Tensor) -> None:
    """Trains a linear layer with AdamW for 40 epochs, batches of 128, one cycle of the rate."""
    nn.init.zeros_(probe.weight)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=3e-3, weight_decay=0.03)
    steps = EPOCHS * -(-len(x) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for _ in range(EPOCHS):
        for some in torch.randperm(len(x)).split(128):
            loss = F.cross_entropy(probe(x[some]), labels[some], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def letters(faces: Sequence[Typeface], count: int, seed: str) -> Iterator[Case]:
    """Yields letters and digits of some typefaces, anywhere on plain grounds."""
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        ground = tuple(rng.randint(0, 255) for _ in range(3))
        span = (0, 90) if sum(ground) > 384 else (165, 255)
        ink = tuple(rng.randint(*span) for _ in range(3))
        height, character = rng.choice(HEIGHTS), rng.choice(CHARACTERS)
        font = rng.choice(faces).font(round(height * 1.35 * 2))
        left, top, right, bottom = font.getbbox(character)
        picture = Image.new("RGB", (SIDE, SIDE), ground)
        x = rng.uniform(4, max(5, SIDE - 4 - (right - left)))
        y = rng.uniform(4, max(5, SIDE - 4 - (bottom - top)))
        ImageDraw.Draw(picture).text((x - left, y - top), character, fill=ink, font=font)
        label = CHARACTERS.index(character)
        row, column = (
            min(NUM_CELLS - 1, int(NUM_CELLS * middle / SIDE))
            for middle in (y + (bottom - top) / 2, x + (right - left) / 2)
        )
        cell = row * NUM_CELLS + column
        yield Case(picture=picture, label=label, group=f"{height} px", cell=cell)


def things(material: Material, count: int, *, is_test: bool) -> Iterator[Case]:
    """Yields emoji in designs that are learned from, or in the one that is held out."""
    learned = {thing.name: thing for thing in material.things}
    for label, held in enumerate(material.test_things[:count]):
        named = (held,) if is_test else _each_design(learned[held.name])
        for one in named:
            yield Case(picture=on_white(one), label=label, group="all")


def _each_design(thing: Named) -> Iterator[Named]:
    for drawing in thing.drawings:
        if not drawing.is_mono and not drawing.path:
            yield Named(**vars(thing) | {"drawings": (drawing,)})


def compare(
    train: tuple[Tensor, Tensor, list[str]], test: tuple[Tensor, Tensor, list[str]]
) -> None:
    """Prints the share of right answers of every choice, in all and by group, in per cent."""
    mean, deviation = train[0].mean(0), train[0].std(0) + 1e-4
    ends = torch.tensor([0, *WIDTHS.values()]).cumsum(0).tolist()
    starts = dict(zip(WIDTHS, ends, strict=False))
    for name, parts in CHOICES.items():
        torch.manual_seed(0)
        columns = torch.cat([torch.arange(WIDTHS[one]) + starts[one] for one in parts])
        x, y = (((some[0] - mean) / deviation)[:, columns] for some in (train, test))
        probe = nn.Linear(len(columns), int(train[1].max()) + 1)
        learn(probe, x, train[1])
        right = (probe(y).argmax(1) == test[1]).float()
        groups: dict[str, list[float]] = {}
        for group, one in zip(test[2], right.tolist(), strict=True):
            groups.setdefault(group, []).append(one)
        told = [f"{g} {100 * sum(some) / len(some):.1f}" for g, some in sorted(groups.items())]
        print(f"{name:<18} {100 * right.mean():.1f}   {', '.join(told)}", flush=True)


def main() -> None:
    """Compares the choices on one kind of picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("what", choices=("letters", "emoji"))
    parser.add_argument("--count", type=int, default=2500, help="letters to learn from, or things")
    told = parser.parse_args()
    material, eyes = read(told.sources), Eyes(told.encoder)
    if told.what == "letters":
        cases = (
            letters(material.faces, told.count, "train"),
            letters(material.test_faces, 800, "test"),
        )
    else:
        cases = (things(material, told.count, is_test=is_test) for is_test in (False, True))
    train, test = (eyes.look(some) for some in cases)
    print(f"{len(train[1])} pictures to learn from, {len(test[1])} to test")
    compare(train, test)
    print(f"{time.process_time():.0f} s of one core")


if __name__ == "__main__":
    main()
