"""Our network and processor against transformers' LlavaOnevision: same weights, same numbers.

Random weights, the released geometry (27 x 27 patches, 36 grids), toy widths.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image as PIL

from onevision import Conversation, Image, Message, Text, Video, load
from onevision.anyres import VideoLayout
from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert
from tests.conftest import randomise

pytestmark = pytest.mark.filterwarnings("ignore")
transformers = pytest.importorskip("transformers")

IMAGE_ID, VIDEO_ID = 3, 4


def build_theirs(*, tied: bool = True):
    config = transformers.LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 384,
            "patch_size": 14,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 4200,
            "rope_theta": 1e6,
            "max_position_embeddings": 32768,
            "tie_word_embeddings": tied,
        },
        image_token_index=IMAGE_ID,
        video_token_index=VIDEO_ID,
        tie_word_embeddings=tied,
    )
    return randomise(transformers.LlavaOnevisionForConditionalGeneration(config))


@pytest.fixture(scope="module")
def theirs():
    return build_theirs()


@pytest.fixture(scope="module")
def directory(theirs, tmp_path_factory):
    """What transformers writes of a model built from a config, with a tokenizer beside it."""
    path = tmp_path_factory.mktemp("built")
    theirs.save_pretrained(path)
    (path / "tokenizer.json").write_bytes((BUNDLED["tiny"] / "tokenizer.json").read_bytes())
    return path


@pytest.fixture(scope="module")
def ours(directory):
    return load(directory, dtype="float32")


def user(*parts):
    return Conversation([Message("user", list(parts))])


def their_arguments(inputs, images_per_sample):
    """Our ModelInputs in the form transformers takes."""
    ids = inputs.input_ids.clone()
    video = [isinstance(layout, VideoLayout) for layout in inputs.layouts]
    placeholders = [
        VIDEO_ID if is_video else IMAGE_ID
        for is_video, layout in zip(video, inputs.layouts, strict=True)
        for _ in range(layout.num_tokens)
    ]
    ids[inputs.visual_mask] = torch.tensor(placeholders, dtype=torch.int64)
    arguments = {"input_ids": ids, "attention_mask": inputs.attention_mask.long()}
    crops = inputs.pixel_values.split([layout.num_crops for layout in inputs.layouts])
    images = [(la, c) for la, c, v in zip(inputs.layouts, crops, video, strict=True) if not v]
    videos = [c for c, v in zip(crops, video, strict=True) if v]
    if images:
        most = max(len(c) for _, c in images)
        padded = [torch.cat([c, c.new_zeros(most - len(c), *c.shape[1:])]) for _, c in images]
        arguments["pixel_values"] = torch.stack(padded)
        arguments["image_sizes"] = torch.tensor([[la.height, la.width] for la, _ in images])
        arguments["batch_num_images"] = torch.tensor(images_per_sample)
    if videos:
        arguments["pixel_values_videos"] = torch.stack(videos)
    return arguments


def cases(picture):
    frames = [picture(64, 48, seed=s) for s in range(4)]
    return {
        "single image": ([user(Image(picture(500, 375)), Text("What?"))], [1]),
        "scaled down": ([user(Image(picture(1600, 1200)), Text("What?"))], [1]),
        "thin": ([user(Image(picture(20, 900)), Text("What?"))], [1]),
        "multi-image": (
            [user(Text("A"), Image(picture(200, 375)), Text("or"), Image(picture(300, 90)))],
            [2],
        ),
        "video": ([user(Video(frames), Text("What happens?"))], []),
        "image and video": ([user(Image(picture(300, 90)), Video(frames), Text("?"))], [1]),
        "text": ([user(Text("Hi"))], []),
        "mixed batch": (
            [
                user(Image(picture(500, 375)), Text("What?")),
                user(Image(picture(200, 375)), Image(picture(300, 90)), Text("Which one?")),
                user(Text("Hi")),
            ],
            [1, 2],
        ),
    }


@pytest.mark.parametrize(
    "case",
    ["single image", "scaled down", "thin", "multi-image", "video", "image and video", "text",
     "mixed batch"],
)  # fmt: skip
@torch.inference_mode()
def test_logits_are_theirs(theirs, ours, picture, case):
    talks, images_per_sample = cases(picture)[case]
    inputs = ours.processor.batch(talks)
    expected = theirs(**their_arguments(inputs, images_per_sample)).logits
    found = ours.network(inputs)
    assert expected[inputs.attention_mask].std() > 0.05
    difference = (found - expected)[inputs.attention_mask].abs().max()
    assert difference <= 1e-4


@torch.inference_mode()
def test_features_are_theirs(theirs, ours, picture):
    inputs = ours.processor(user(Image(picture(1024, 899))))
    arguments = their_arguments(inputs, [1])
    expected = theirs.model.get_image_features(
        arguments["pixel_values"],
        arguments["image_sizes"],
        batch_num_images=arguments["batch_num_images"],
        return_dict=True,
    ).pooler_output
    found = ours.network.encode(inputs.pixel_values, inputs.layouts)
    assert found.shape == (6551, 64)
    assert torch.allclose(found, torch.cat(list(expected)), atol=1e-4)


@pytest.mark.parametrize("case", ["single image", "multi-image", "video", "text"])
@torch.inference_mode()
def test_greedy_text_is_theirs(theirs, ours, picture, case):
    (talk,), images_per_sample = cases(picture)[case]
    inputs = ours.processor(talk)
    ids = theirs.generate(
        **their_arguments(inputs, images_per_sample),
        max_new_tokens=16,
        do_sample=False,
        eos_token_id=None,
    )
    reply = ours.ask(talk, max_new_tokens=16, end_ids=())
    answer = ids[0, inputs.input_ids.shape[1] :].tolist()
    assert reply.text == ours.processor.tokenizer.decode(answer).strip()


@pytest.mark.parametrize("size", [(384, 384), (640, 480), (316, 503), (100, 1000), (50, 40)])
def test_pixels_and_token_counts_are_theirs(ours, size):
    """Against their Pillow image processor, with the mean and std of the released JSON."""
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    processor = LlavaOnevisionImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    image = PIL.fromarray((np.stack([x, y, x * y], -1) % 256).astype(np.uint8))
    expected = processor(images=[[image]], return_tensors="pt")["pixel_values"][0]
    inputs = ours.processor(user(Image(image)))
    assert torch.allclose(inputs.pixel_values, expected, atol=3e-7)


@pytest.mark.parametrize("tied", [True, False])
def test_there_and_back_is_bit_equal(tmp_path, tied):
    """Theirs -> each of our layouts -> theirs: every tensor the same, nothing missing."""
    theirs = build_theirs(tied=tied)
    theirs.save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "tokenizer.json").write_bytes(
        (BUNDLED["tiny"] / "tokenizer.json").read_bytes()
    )
    convert(inspect(tmp_path / "a"), tmp_path / "b", layout="lmms-lab")
    convert(inspect(tmp_path / "b"), tmp_path / "c", layout="onevision")
    convert(inspect(tmp_path / "c"), tmp_path / "d", layout="llava-hf")
    again, report = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(
        tmp_path / "d", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    before, after = theirs.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_tokenizer_without_image_tokens_loads(ours, directory, picture, tmp_path):
    """As transformers 5 writes one: the placeholder's id stands in config.json alone."""
    bare = shutil.copytree(directory, tmp_path / "bare")
    definition = json.loads((bare / "tokenizer.json").read_text())
    definition["added_tokens"] = definition["added_tokens"][:3]
    (bare / "tokenizer.json").write_text(json.dumps(definition))
    talk = user(Image(picture(60, 90)), Text("What is <image>?"))
    assert torch.equal(load(bare).processor(talk).input_ids, ours.processor(talk).input_ids)


def test_our_llava_hf_directory_loads_whole_in_transformers(tmp_path):
    """Config, tokenizer, image processor and model of the converted `tiny`."""
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    path = tmp_path / "tiny-hf"
    convert(inspect(BUNDLED["tiny"]), path, layout="llava-hf")
    config = transformers.AutoConfig.from_pretrained(path)
    assert type(config).__name__ == "LlavaOnevisionConfig"
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    assert tokenizer.convert_tokens_to_ids("<image>") == config.image_token_id
    assert tokenizer.convert_tokens_to_ids("<video>") == config.video_token_id
    processor = LlavaOnevisionImageProcessorPil.from_pretrained(path)
    assert list(processor.image_mean) == [0.5] * 3
    assert processor.size["height"] == 98
    model = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(path)
    talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi"}]}]
    prompt = tokenizer.apply_chat_template(talk, add_generation_prompt=True, tokenize=False)
    assert prompt == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<image>\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert model.config.text_config.num_hidden_layers == 6


@torch.inference_mode()
def test_tiny_answers_in_transformers_what_it_answers_here(tmp_path):
    from onevision.eval.heldout import heldout_questions

    convert(inspect(BUNDLED["tiny"]), tmp_path / "hf", layout="llava-hf")
    theirs = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(
        tmp_path / "hf", dtype=torch.float32
    ).eval()
    ours = load("tiny", dtype="float32")
    for item in heldout_questions("single_image", count=8):
        talk = user(*item.media, Text(item.question.question))
        inputs = ours.processor(talk)
        ids = theirs.generate(
            **their_arguments(inputs, [1]), max_new_tokens=12, do_sample=False, eos_token_id=2
        )
        answer = ids[0, inputs.input_ids.shape[1] :].tolist()
        assert ours.processor.tokenizer.decode(answer).strip() == ours.ask(talk).text
