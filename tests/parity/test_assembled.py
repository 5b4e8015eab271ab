"""LLaVA v1 and 1.5-HD, which transformers lacks, against its CLIP and LLaMA put together by hand.

Everything between them is spelled out here for one picture of 500 x 375: pixels, the projector,
where the visual tokens stand. Random weights, the released geometry (16 x 16 patches), toy widths.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image as PIL
from safetensors.torch import load_file

from onevision import Conversation, Image, Message, Text, load
from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert, save
from onevision.config import VisionConfig
from onevision.known_models import ARCHITECTURES
from onevision.model.llava import LlavaNetwork
from tests.conftest import randomise
from tests.sentencepiece import llama

pytestmark = pytest.mark.filterwarnings("ignore")
transformers = pytest.importorskip("transformers")

WIDTHS = {"hidden_size": 32, "intermediate_size": 48, "num_layers": 2, "num_heads": 4}
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])


@pytest.fixture(scope="module", params=["llava-v1-7b", "llava-1.5-hd-13b"])
def pair(request, tmp_path_factory):
    """A model of ours, and its tensors in the reference's own layout."""
    directory, known = tmp_path_factory.mktemp("model"), ARCHITECTURES[request.param]
    toy = replace(
        known,
        vision=replace(known.vision, **WIDTHS),
        language=replace(known.language, **WIDTHS, num_kv_heads=4, vocab_size=1024),
    )
    save(randomise(LlavaNetwork(toy)), toy, llama(), directory / "ours")
    convert(inspect(directory / "ours"), directory / "theirs", layout="lmms-lab")
    files = (directory / "theirs").glob("*.safetensors")
    tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
    return request.param, load(directory / "ours"), tensors


def clip(vision: VisionConfig, tensors):
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=vision.num_layers + 1,
        num_attention_heads=4,
        image_size=224,
        patch_size=14,
    )
    return filled(transformers.CLIPVisionModel(config), tensors, within="vision_tower.")


def decoder(language, tensors):
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=language.num_layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=1024,
        rms_norm_eps=language.rms_norm_eps,
        rope_theta=language.rope_theta,
        max_position_embeddings=language.max_positions,
    )
    return filled(transformers.LlamaForCausalLM(config), tensors, within="")


def filled(model, tensors, *, within):
    """Fill every parameter from the tensor of the same name, `within` which it stands."""
    for name, parameter in model.named_parameters():
        (tensor,) = [t for key, t in tensors.items() if within in key and key.endswith(name)]
        parameter.data.copy_(tensor)
    return model.eval()


def pixels(picture):
    return torch.tensor((np.asarray(picture) / 255 - MEAN) / STD).float().permute(2, 0, 1)


def middle(picture):
    """LLaVA v1: the shorter side becomes 224, the other is rounded down; then the middle."""
    scaled = picture.resize((500 * 224 // 375, 224), PIL.Resampling.BICUBIC)
    left = (scaled.width - 224) // 2
    return torch.stack([pixels(scaled.crop((left, 0, left + 224, 224)))])


def high_definition(picture):
    """1.5-HD: the whole squashed to 224, then 448 x 336 on a canvas of 2 x 2 crops."""
    canvas = PIL.new("RGB", (448, 448))
    canvas.paste(picture.resize((448, 336), PIL.Resampling.BICUBIC), (0, 56))
    corners = [(0, 0), (224, 0), (0, 224), (224, 224)]
    crops = [canvas.crop((x, y, x + 224, y + 224)) for x, y in corners]
    whole = picture.resize((224, 224), PIL.Resampling.BICUBIC)
    return torch.stack([pixels(part) for part in (whole, *crops)])


def projected(features, tensors):
    """The projector: linear, or two layers with GELU between."""
    name = "model.mm_projector"
    if f"{name}.weight" in tensors:
        return F.linear(features, tensors[f"{name}.weight"], tensors[f"{name}.bias"])
    first = F.linear(features, tensors[f"{name}.0.weight"], tensors[f"{name}.0.bias"])
    return F.linear(F.gelu(first), tensors[f"{name}.2.weight"], tensors[f"{name}.2.bias"])


def arranged(tokens, tensors):
    """Visual tokens in order; in high definition the mosaic without its padding, row by row."""
    if len(tokens) == 1:
        return tokens[0]
    whole, *crops = tokens.view(5, 16, 16, -1)
    mosaic = torch.cat([torch.cat(crops[:2], 1), torch.cat(crops[2:], 1)])[4:28]  # [24, 32, D]
    newline = tensors["model.image_newline"].expand(24, 1, -1)
    return torch.cat([whole.flatten(0, 1), torch.cat([mosaic, newline], 1).flatten(0, 1)])


@torch.inference_mode()
def test_logits_and_greedy_text_are_theirs(pair, picture):
    name, ours, tensors = pair
    seen = picture(500, 375)
    talk = Conversation([Message("user", [Image(seen), Text("What is this?")])])
    inputs = ours.processor(talk)
    cut = middle(seen) if name == "llava-v1-7b" else high_definition(seen)
    torch.testing.assert_close(inputs.pixel_values, cut, atol=1e-5, rtol=0)

    states = clip(ours.config.vision, tensors)(cut, output_hidden_states=True).hidden_states
    visual = arranged(projected(states[-2][:, 1:], tensors), tensors)
    assert len(visual) == {"llava-v1-7b": 256, "llava-1.5-hd-13b": 256 + 24 * 33}[name]
    theirs = decoder(ours.config.language, tensors)
    embedded = theirs.get_input_embeddings()(inputs.input_ids)
    embedded[inputs.visual_mask] = visual
    expected = theirs(inputs_embeds=embedded).logits
    assert expected.std() > 0.05
    assert (ours.network(inputs) - expected).abs().max() <= 1e-4
    ids = theirs.generate(
        inputs_embeds=embedded, max_new_tokens=8, do_sample=False, eos_token_id=None
    )
    reply = ours.ask(talk, max_new_tokens=8, end_ids=())
    assert reply.text == ours.processor.tokenizer.decode(ids[0].tolist()).strip()
