"""Released language models and towers, as transformers writes them, become our parts."""

import pytest
import torch

from onevision.checkpoint.parts.pretrained import load_language_model, load_vision_encoder
from onevision.checkpoint.save import save
from onevision.errors import CheckpointError
from onevision.model.llava import LlavaNetwork
from tests.checkpoint.test_family import LLAVA_1_5
from tests.conftest import randomise

transformers = pytest.importorskip("transformers")


@pytest.fixture
def qwen(micro_config, tmp_path):
    language = micro_config.language
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            vocab_size=language.vocab_size,
            hidden_size=language.hidden_size,
            intermediate_size=language.intermediate_size,
            num_hidden_layers=language.num_layers,
            num_attention_heads=language.num_heads,
            num_key_value_heads=language.num_kv_heads,
            tie_word_embeddings=language.tie_embeddings,
            rms_norm_eps=language.rms_norm_eps,
            rope_theta=language.rope_theta,
        )
    ).eval()
    model.save_pretrained(tmp_path / "qwen")
    return model, tmp_path / "qwen"


@pytest.fixture
def siglip(micro_config, tmp_path):
    vision = micro_config.vision
    torch.manual_seed(1)
    config = transformers.SiglipConfig(
        vision_config={
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.num_layers + 1,  # as released: the last one is unused
            "num_attention_heads": vision.num_heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "layer_norm_eps": vision.layer_norm_eps,
        },
        text_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "vocab_size": 64,
        },
    )
    model = transformers.SiglipModel(config).eval()
    model.save_pretrained(tmp_path / "siglip")
    return model, tmp_path / "siglip"


def test_a_language_model_gives_the_same_logits(micro_config, qwen):
    theirs, directory = qwen
    network = randomise(LlavaNetwork(micro_config)).eval()
    load_language_model(network, directory)
    ids = torch.arange(5, 25)[None]
    with torch.inference_mode():
        expected = theirs(ids).logits
        x = network.language_model.embedding(ids)
        assert torch.allclose(network.head(network.run(x)), expected, atol=1e-5)


def test_a_vision_encoder_gives_the_features_before_the_last_block(micro_config, siglip):
    theirs, directory = siglip
    network = randomise(LlavaNetwork(micro_config)).eval()
    load_vision_encoder(network, directory)
    pixels = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        expected = theirs.vision_model(pixels, output_hidden_states=True).hidden_states[-2]
        assert torch.allclose(network.vision_encoder(pixels), expected, atol=1e-5)


def test_parts_come_from_our_own_checkpoints_too(micro_config, tokenizer, tmp_path):
    source = randomise(LlavaNetwork(micro_config))
    save(source, micro_config, tokenizer, tmp_path / "ours")
    network = LlavaNetwork(micro_config)
    load_language_model(network, tmp_path / "ours")
    load_vision_encoder(network, tmp_path / "ours")
    for part in ("language_model", "vision_encoder"):
        for name, tensor in network.get_submodule(part).state_dict().items():
            assert torch.equal(tensor, source.get_submodule(part).state_dict()[name])


def test_the_wrong_directory_is_named(micro_config, small_config, qwen, siglip):
    network = LlavaNetwork(micro_config)
    with pytest.raises(
        CheckpointError,
        match="no vision encoder in it .* a released SigLIP, CLIP or EfficientNet-Lite",
    ):
        load_vision_encoder(network, qwen[1])
    with pytest.raises(
        CheckpointError, match="no language model in it .* a released Qwen, LLaMA or Mistral"
    ):
        load_language_model(network, siglip[1])
    with pytest.raises(CheckpointError, match=r"has shape .* this model needs"):
        load_language_model(LlavaNetwork(small_config), qwen[1])


def test_a_released_clip_gives_the_patches_before_its_last_block(tmp_path):
    torch.manual_seed(2)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    theirs = transformers.CLIPModel(
        transformers.CLIPConfig(
            vision_config=sizes | {"num_hidden_layers": 3, "image_size": 56, "patch_size": 14},
            text_config=sizes | {"num_hidden_layers": 1, "vocab_size": 64},
        )
    ).eval()
    theirs.save_pretrained(tmp_path / "clip")
    network = randomise(LlavaNetwork(LLAVA_1_5)).eval()
    load_vision_encoder(network, tmp_path / "clip")
    pixels = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        hidden = theirs.vision_model(pixels, output_hidden_states=True).hidden_states
        assert torch.allclose(network.vision_encoder(pixels), hidden[-2][:, 1:], atol=1e-5)


def test_a_released_llama_gives_the_same_logits(tmp_path):
    language = LLAVA_1_5.language
    torch.manual_seed(3)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=language.vocab_size,
            hidden_size=language.hidden_size,
            intermediate_size=language.intermediate_size,
            num_hidden_layers=language.num_layers,
            num_attention_heads=language.num_heads,
            rms_norm_eps=language.rms_norm_eps,
        )
    ).eval()
    theirs.save_pretrained(tmp_path / "llama")
    network = randomise(LlavaNetwork(LLAVA_1_5)).eval()
    load_language_model(network, tmp_path / "llama")
    ids = torch.arange(5, 25)[None]
    with torch.inference_mode():
        x = network.language_model.embedding(ids)
        assert torch.allclose(network.head(network.run(x)), theirs(ids).logits, atol=1e-5)
