"""What is compared with the official code of OneVision-1.5: pictures, videos, sizes."""

import random

import numpy as np
import torch
from PIL import Image as PIL

QUESTION = "What is this?"
NEW_TOKENS = 12
# By name: a kind of prompt, and the widths and heights of its pictures or frames.
CASES = {
    "one": ("image", [(300, 200)]),
    "tall": ("image", [(90, 700)]),
    "small": ("image", [(31, 17)]),
    "several": ("image", [(300, 200), (56, 84), (56, 84), (640, 480)]),
    "video": ("video", [(200, 120)] * 3),
}
_RANDOM = random.Random(7)
COUNTED = [(_RANDOM.randint(30, 4500), _RANDOM.randint(30, 4500)) for _ in range(10_000)]


def draw(sizes: list[tuple[int, int]]) -> list[PIL.Image]:
    """Draws pictures of noise."""
    rng = np.random.default_rng(5)
    return [
        PIL.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]


def sample(values: torch.Tensor) -> list[float]:
    """Takes 64 numbers of a tensor [N, ...] that are spread over it, in fp32."""
    flat = values.flatten()
    places = torch.linspace(0, len(flat) - 1, 64, dtype=torch.float64).long()
    return [round(value, 5) for value in flat[places].tolist()]
