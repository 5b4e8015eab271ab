"""Architecture of a convolutional vision encoder as frozen values, and what a crop costs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from onevision.anyres import Fit
from onevision.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ConvStage:
    """Inverted residual blocks of one output width; the first of them has the stride."""

    num_blocks: int
    kernel_size: int
    stride: int
    # The width inside a block, in widths of its input.
    expansion: int
    width: int

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1:
            raise ConfigError(f"{self}: expected numbers of 1 or more")


@dataclass(frozen=True, kw_only=True)
class ConvShape:
    """One convolution of a network: `groups` is 1, or its input width for one filter a channel."""

    in_width: int
    out_width: int
    kernel_size: int
    groups: int
    # Rows and columns of its output.
    side: int


def lite0() -> tuple[ConvStage, ...]:
    """Returns EfficientNet-Lite0 (arXiv 1905.11946, table 1, without squeeze-and-excitation)."""
    table = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )
    return tuple(
        ConvStage(num_blocks=blocks, kernel_size=size, stride=stride, expansion=times, width=width)
        for blocks, size, stride, times, width in table
    )


@dataclass(frozen=True, kw_only=True)
class ConvNetConfig:
    """An EfficientNet-Lite trunk, without head and classifier; by default Lite0.

    A patch is a cell of the last map. With `taps`, it holds earlier and finer maps too: of each of
    these stages, the square of cells that covers it, joined by channel.
    """

    image_size: int = 224
    # Channels after the first convolution, which halves the sides.
    stem_width: int = 32
    stages: tuple[ConvStage, ...] = field(default_factory=lite0)
    # Stages, counted from 0 and rising, whose maps make up a patch; none: the last alone.
    taps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.stages or min(self.image_size, self.stem_width) < 1:
            raise ConfigError(f"{self}: expected stages, and sizes of 1 or more")
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"ConvNetConfig: image_size {self.image_size} is not a multiple of "
                f"{self.patch_size}, the product of its strides"
            )
        if self.taps and (list(self.taps) != sorted({*self.taps}) or not self._has(self.taps)):
            raise ConfigError(
                f"ConvNetConfig: taps {self.taps}; expected rising numbers from 0 to "
                f"{len(self.stages) - 1}, one for each map"
            )

    @property
    def patch_size(self) -> int:
        """Pixels between one cell of the last map and the next."""
        return 2 * math.prod(stage.stride for stage in self.stages)

    @property
    def num_patches(self) -> int:
        """Cells of one crop's last map."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def hidden_size(self) -> int:
        """Channels of a patch: of the last map, or of all that are tapped, brought to its cells."""
        return sum(self.tap_widths) if self.taps else self.stages[-1].width

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """Channels that each tapped map brings to a patch."""
        return tuple(
            self.stages[tap].width * math.prod(s.stride for s in self.stages[tap + 1 :]) ** 2
            for tap in self.taps
        )

    @property
    def tapped_blocks(self) -> tuple[int, ...]:
        """The blocks, counted from 0, whose output is tapped: the last of each tapped stage."""
        return tuple(sum(s.num_blocks for s in self.stages[: tap + 1]) - 1 for tap in self.taps)

    @property
    def num_layers(self) -> int:
        """Blocks after the first convolution."""
        return sum(stage.num_blocks for stage in self.stages)

    @property
    def num_spare_layers(self) -> int:
        """Blocks that are stored and never run: none."""
        return 0

    @property
    def fit(self) -> Fit:
        """How a picture is made square where one crop is all that is seen of it."""
        return "squash"

    @property
    def weight_flops(self) -> float:
        """Operations of the convolutions on one crop, forward."""
        return sum(
            2.0 * c.side**2 * c.kernel_size**2 * c.in_width * c.out_width / c.groups
            for c in self.convolutions()
        )

    @property
    def attention_flops(self) -> float:
        """Operations of attention per pair of patches: there is none."""
        return 0.0

    @property
    def flops(self) -> float:
        """Operations of one crop, forward."""
        return self.weight_flops

    def _has(self, taps: tuple[int, ...]) -> bool:
        return min(taps) >= 0 and max(taps) < len(self.stages)

    def convolutions(self) -> Iterator[ConvShape]:
        """Yields every convolution in the order in which it runs."""
        side, width = self.image_size // 2, self.stem_width
        yield ConvShape(in_width=3, out_width=width, kernel_size=3, groups=1, side=side)
        for stage in self.stages:
            for index in range(stage.num_blocks):
                inner = width * stage.expansion
                if inner != width:
                    yield ConvShape(
                        in_width=width, out_width=inner, kernel_size=1, groups=1, side=side
                    )
                side //= 1 if index else stage.stride
                yield ConvShape(
                    in_width=inner,
                    out_width=inner,
                    kernel_size=stage.kernel_size,
                    groups=inner,
                    side=side,
                )
                width = stage.width
                yield ConvShape(in_width=inner, out_width=width, kernel_size=1, groups=1, side=side)
