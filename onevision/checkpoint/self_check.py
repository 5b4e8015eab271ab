"""A checkpoint and what it was converted to -> whether both compute the same logits."""

from dataclasses import dataclass
from pathlib import Path

import torch

from onevision.anyres import plan
from onevision.batch import ModelInputs
from onevision.checkpoint.load import CheckpointInfo, inspect, load_network
from onevision.config import ModelConfig
from onevision.errors import CheckpointError

NUM_WORDS = 48
PICTURE = (150, 100)  # width and height
# Largest difference of logits, in standard deviations: that of rounding in fp32.
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two checkpoints' logits for one fixed prompt are apart, in standard deviations."""

    difference: float
    num_logits: int


def check_conversion(source: CheckpointInfo, destination: Path) -> Agreement:
    """Runs both checkpoints, one after the other, on a picture of noise and random ids, in fp32.

    It needs the memory of one network. Weights that another layout holds in another order,
    transposed or under another name show here; weights that were wrong in the source do not. Raises
    CheckpointError if the logits differ.
    """
    written = inspect(destination)
    inputs = fixed_inputs(source.config)
    expected, found = (_logits(info, inputs) for info in (source, written))
    rows = min(expected.shape[-1], found.shape[-1])  # transformers' layout may append some
    spread = expected.std().item()
    difference = (expected[..., :rows] - found[..., :rows]).abs().max().item() / max(spread, 1e-12)
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"{destination}: its logits differ from those of {source.directory} by "
            f"{difference:.2g} standard deviations; expected at most {TOLERANCE:g}: "
            "its weights are not the same, remove it and convert again"
        )
    return Agreement(difference=difference, num_logits=expected[..., :rows].numel())


def fixed_inputs(config: ModelConfig) -> ModelInputs:
    """Returns a prompt of one picture and random ids, the same for every model of one config."""
    generator = torch.Generator().manual_seed(0)
    width, height = PICTURE
    layout = plan(width=width, height=height, rule=config.inputs.image)
    size, visual = layout.crop_size, torch.zeros(1, NUM_WORDS + layout.num_tokens, dtype=torch.bool)
    visual[:, NUM_WORDS // 2 : NUM_WORDS // 2 + layout.num_tokens] = True
    ids = torch.randint(0, config.language.vocab_size, visual.shape, generator=generator)
    return ModelInputs(
        input_ids=ids.masked_fill(visual, config.inputs.image_token_id),
        attention_mask=torch.ones_like(visual),
        visual_mask=visual,
        pixel_values=torch.randn(layout.num_crops, 3, size, size, generator=generator),
        layouts=(layout,),
    )


@torch.inference_mode()
def _logits(info: CheckpointInfo, inputs: ModelInputs) -> torch.Tensor:
    return load_network(info, dtype=torch.float32)(inputs)
