"""Our quantised files through compressed-tensors: the weights we read, and transformers' logits."""

import json

import pytest
import torch
from safetensors.torch import load_file

from onevision.accelerate.processor import has_vnni
from onevision.batch import ModelInputs
from onevision.checkpoint.load import inspect
from onevision.generate.answer import load
from onevision.quantization.quantize import QuantizeConfig
from onevision.quantization.rounding import W4A16, W8A8
from onevision.quantization.run import quantize_model

pytestmark = pytest.mark.filterwarnings("ignore")
pytest.importorskip("compressed_tensors")


@pytest.fixture(scope="module", params=[W8A8, W4A16], ids=["w8a8", "w4a16"])
def directory(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("quantised") / request.param.name
    config = QuantizeConfig(scheme=request.param, keep_last_block=True)
    quantize_model("tiny", out, config, num_samples=3)
    return out


def test_compressed_tensors_reads_the_weights_we_read(directory):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    values = json.loads((directory / "config.json").read_text())["quantization_config"]
    config = QuantizationConfig.model_validate(values)
    scheme = config.config_groups["group_0"]
    compressor = BaseCompressor.get_value_from_registry(config.format)
    stored = load_file(directory / "model.safetensors")
    info = inspect(directory)
    key = "language_model.model.layers.1.mlp.down_proj."
    parts = {n.removeprefix(key): t for n, t in stored.items() if n.startswith(key)}
    expected = compressor.decompress(parts, scheme)["weight"]
    ours = info.tensors["language_model.blocks.1.mlp.down.weight"].read()
    assert torch.equal(ours, expected.to(ours.dtype))


def test_transformers_answers_as_we_do(directory):
    from transformers import LlavaOnevisionForConditionalGeneration

    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 200, 300, 400, 12]])
    theirs = LlavaOnevisionForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
    model = load(str(directory), dtype="float32")
    crops = torch.randn(2, 3, 98, 98, generator=torch.Generator().manual_seed(0))
    words = ModelInputs(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        visual_mask=torch.zeros_like(ids, dtype=torch.bool),
        pixel_values=crops[:0],
        layouts=(),
    )
    with torch.inference_mode():
        expected = theirs(input_ids=ids).logits[0]
        states = theirs.model.vision_tower(crops, output_hidden_states=True).hidden_states
        ours, seen = model.network(words)[0], model.network.vision_encoder(crops)
    # Both round activations, each in its own order, and ours to 7 bits on a processor without VNNI.
    most = 0.02 if has_vnni() else 0.05
    assert _distance(ours, expected) < most
    assert _distance(seen, states[-1]) < most


def _distance(x, y):
    """How far `x` is from `y`, relative to its length."""
    return torch.linalg.norm(x - y) / torch.linalg.norm(y)
