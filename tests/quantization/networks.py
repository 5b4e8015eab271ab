"""A small network with outliers that break plain rounding, and samples for it."""

import torch

from onevision.anyres import AnyRes, SingleCrop, VideoRule, plan
from onevision.batch import ModelInputs
from onevision.config import InputConfig, LanguageConfig, ModelConfig, VisionConfig
from onevision.model.llava import LlavaNetwork
from onevision.quantization.groups import list_groups
from onevision.quantization.rescale import fold
from tests.conftest import randomise

CROP = {"crop_size": 56, "patch_size": 14}
CONFIG = ModelConfig(
    vision=VisionConfig(
        hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4, image_size=56
    ),
    language=LanguageConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=96,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
    ),
    inputs=InputConfig(
        image=AnyRes(**CROP, max_crops=4),
        multi_image=SingleCrop(**CROP, newline=False),
        video=VideoRule(**CROP, pool="bilinear"),
        image_token_id=3,
    ),
)


@torch.no_grad()
def outlier_network(dtype=torch.bfloat16):
    """Random weights, and in the input of every layer a few channels 32 times as large as the rest.

    Their weights are as much smaller, so that the network computes what it would without.
    """
    network = randomise(LlavaNetwork(CONFIG)).to(dtype)
    embedding = network.language_model.embedding.weight
    network.language_model.head.weight = torch.nn.Parameter(embedding.detach().clone())
    for group in list_groups(network):
        if group.source is not None:
            scale = torch.ones(network.get_submodule(group.layers[0]).in_features)
            scale[::13] = 1 / 32
            fold(network, group, group.source.widen(group.source.narrow(scale)))
    return network


def text_samples(count=4, length=24):
    """Samples of text alone."""
    generator = torch.Generator().manual_seed(5)
    return [
        ModelInputs(
            input_ids=torch.randint(4, 90, (1, length), generator=generator),
            attention_mask=torch.ones(1, length, dtype=torch.bool),
            visual_mask=torch.zeros(1, length, dtype=torch.bool),
            pixel_values=torch.zeros(0, 3, 56, 56),
            layouts=(),
        )
        for _ in range(count)
    ]


def picture_samples(count=3):
    """Samples with one picture each, as the processor lays them out."""
    layout = plan(width=56, height=56, rule=CONFIG.inputs.image)
    generator = torch.Generator().manual_seed(6)
    samples = []
    for text in text_samples(count, length=12 + layout.num_tokens):
        mask = torch.zeros_like(text.visual_mask)
        mask[0, 2 : 2 + layout.num_tokens] = True
        pixels = torch.randn(layout.num_crops, 3, 56, 56, generator=generator)
        samples.append(
            ModelInputs(
                input_ids=text.input_ids,
                attention_mask=text.attention_mask,
                visual_mask=mask,
                pixel_values=pixels,
                layouts=(layout,),
            )
        )
    return samples
