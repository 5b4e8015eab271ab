"""The samples of a training step that benchmarks/train.py measures -> Examples, drawn by lot."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onevision.anyres import Layout
    from onevision.config import ModelConfig
    from onevision.inputs.processor import Example

SYSTEM_TOKENS, FIRST_CONTROL_ID, SEED = 14, 151643, 0
BASE = "benchmark"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A sample of the mix: sizes of its pictures or frames of its video, tokens of its words."""

    prompt: int
    answer: int
    images: tuple[tuple[int, int], ...] = ()  # width, height
    frames: int = 0


PAIR = ((640, 480), (300, 400))
# One optimiser step: four text-only samples, six single images of two or three crops, three pairs
# of images, three videos; answers of 5 to 150 tokens.
ONEVISION_MIXED_16 = (
    Planned(prompt=40, answer=150),
    Planned(prompt=25, answer=60),
    Planned(prompt=120, answer=100),
    Planned(prompt=15, answer=5),
    Planned(prompt=12, answer=5, images=((384, 384),)),
    Planned(prompt=20, answer=150, images=((320, 240),)),
    Planned(prompt=60, answer=20, images=((300, 100),)),
    Planned(prompt=30, answer=80, images=((500, 200),)),
    Planned(prompt=15, answer=40, images=((400, 300),)),
    Planned(prompt=45, answer=120, images=((480, 160),)),
    Planned(prompt=40, answer=30, images=PAIR),
    Planned(prompt=15, answer=10, images=PAIR),
    Planned(prompt=25, answer=100, images=PAIR),
    Planned(prompt=20, answer=60, frames=4),
    Planned(prompt=50, answer=15, frames=4),
    Planned(prompt=10, answer=120, frames=4),
)


def shape_named(name: str) -> "ModelConfig":
    """Return an architecture; the benchmark's own has the released geometry at small widths."""
    from onevision.config import LanguageConfig, ModelConfig, VisionConfig
    from onevision.known_models import ARCHITECTURES

    if name != BASE:
        return ARCHITECTURES[name]
    return ModelConfig(
        vision=VisionConfig(hidden_size=384, intermediate_size=1536, num_layers=4, num_heads=6),
        language=LanguageConfig(
            hidden_size=256, intermediate_size=704, num_layers=8, num_heads=4, num_kv_heads=2
        ),
    )


def draw(step: int, config: "ModelConfig") -> list["Example"]:
    """Draw the samples of a step: the mix in another order, with other pixels and ids."""
    import numpy as np
    import torch

    from onevision.inputs.chat import IGNORE
    from onevision.inputs.processor import Example

    rng = np.random.default_rng([SEED, step])
    examples = []
    for number in rng.permutation(len(ONEVISION_MIXED_16)):
        sample = ONEVISION_MIXED_16[number]
        layouts = layouts_of(sample, config)
        visual = sum(layout.num_tokens for layout in layouts)
        length = SYSTEM_TOKENS + visual + sample.prompt + sample.answer
        ids = torch.from_numpy(rng.integers(0, FIRST_CONTROL_ID, length))
        visual_mask = torch.zeros(length, dtype=torch.bool)
        visual_mask[SYSTEM_TOKENS : SYSTEM_TOKENS + visual] = True
        ids[visual_mask] = config.inputs.image_token_id
        labels = ids.clone()
        labels[: -sample.answer] = IGNORE
        shape = (sum(la.num_crops for la in layouts), 3, *[config.vision.image_size] * 2)
        crops = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
        examples.append(
            Example(
                input_ids=ids, visual_mask=visual_mask, labels=labels, crops=crops, layouts=layouts
            )
        )
    return examples


def layouts_of(sample: Planned, config: "ModelConfig") -> tuple["Layout", ...]:
    """Plan the media of a sample."""
    from onevision.anyres import plan, plan_video

    if sample.frames:
        return (plan_video(num_frames=sample.frames, rule=config.inputs.video),)
    rule = config.inputs.image if len(sample.images) == 1 else config.inputs.multi_image
    return tuple(plan(width=width, height=height, rule=rule) for width, height in sample.images)
