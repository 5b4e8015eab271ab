"""What other projects' files say, or leave to a default, is read as those projects read it."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from onevision.anyres import AnyRes, plan
from onevision.checkpoint.load import inspect
from onevision.checkpoint.names import LMMS_LAB
from onevision.checkpoint.save import convert, save
from onevision.errors import CheckpointError
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from tests.checkpoint.test_family import (
    CLIP_MEAN,
    LLAVA_1_5,
    same,
    saved,
    tensors_of,
    with_inputs,
    without_tower,
)
from tests.conftest import randomise

SIGLIP = replace(
    with_inputs(LLAVA_1_5, image_mean=(0.5,) * 3, image_std=(0.5,) * 3),
    vision=replace(
        LLAVA_1_5.vision, class_token=False, num_spare_layers=0, activation="gelu_tanh",
        layer_norm_eps=1e-6,
    ),
)  # fmt: skip


def change(directory, *, remove=(), **changes):
    path = directory / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if k not in remove}))


def test_the_last_block_of_a_siglip_of_its_own_is_removed(tmp_path):
    """As in the reference: 26 of the 27 blocks of the released tower run."""
    checkpoint, tower = without_tower(tmp_path, SIGLIP)
    tensors = load_file(tower / "model.safetensors")
    last = {name.replace("layers.1.", "layers.2."): tensor + 1
            for name, tensor in tensors.items() if "layers.1." in name}  # fmt: skip
    save_file(tensors | last, tower / "model.safetensors")
    values = json.loads((tower / "config.json").read_text())["vision_config"]
    assert values["num_hidden_layers"] == 2
    (tower / "config.json").write_text(
        json.dumps({"vision_config": values | {"num_hidden_layers": 3}})
    )
    info = inspect(checkpoint, tower=tower)
    assert info.config.vision == SIGLIP.vision
    assert same(info, inspect(tmp_path / "ours"))
    for layout in ("onevision", "lmms-lab", "llava-hf"):
        convert(info, tmp_path / "out" / layout, layout=layout)
        assert inspect(tmp_path / "out" / layout).config.vision == SIGLIP.vision


@pytest.mark.parametrize(("width", "num_blocks", "runs"), [(1152, 27, 26), (1152, 26, 26)])
def test_a_whole_so400m_runs_26_blocks(tmp_path, width, num_blocks, runs):
    vision = replace(
        SIGLIP.vision, hidden_size=width, num_heads=16, intermediate_size=8, num_layers=num_blocks
    )
    with torch.device("meta"):
        network = LlavaNetwork(replace(SIGLIP, vision=vision))
    tensors = {
        n: torch.zeros(t.shape, dtype=torch.float16) for n, t in network.state_dict().items()
    }
    checkpoint, _ = without_tower(tmp_path, SIGLIP)
    save_file({LMMS_LAB.translate(n): t for n, t in tensors.items()},
              checkpoint / "model.safetensors")  # fmt: skip
    change(checkpoint, mm_hidden_size=width, vision_config={"num_attention_heads": 16,
                                                            "image_size": 56})  # fmt: skip
    found = inspect(checkpoint).config.vision
    assert (found.num_layers, found.num_spare_layers) == (runs, num_blocks - runs)


def test_a_tower_that_does_not_say_its_heads_is_not_guessed(tmp_path):
    convert(inspect(saved(tmp_path / "ours", SIGLIP)), tmp_path / "a", layout="llava-hf")
    change(tmp_path / "a", vision_config={"model_type": "siglip_vision_model"})
    with pytest.raises(CheckpointError, match="add a `vision_config` with num_attention_heads"):
        inspect(tmp_path / "a")


@pytest.fixture
def hf(tmp_path):
    convert(inspect(saved(tmp_path / "ours", LLAVA_1_5)), tmp_path / "a", layout="llava-hf")
    change(tmp_path / "a", remove=("image_aspect_ratio",))
    return tmp_path / "a"


def test_the_processor_of_transformers_5_is_read(hf):
    old = json.loads((hf / "preprocessor_config.json").read_text())
    (hf / "preprocessor_config.json").unlink()
    nested = {**old, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "do_pad": True}
    processor = {"processor_class": "LlavaProcessor", "image_processor": nested}
    (hf / "processor_config.json").write_text(json.dumps(processor))
    inputs = inspect(hf).config.inputs
    assert (inputs.image_mean, inputs.image_std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert inputs.image.fit == "pad"
    nested["do_pad"] = False
    (hf / "processor_config.json").write_text(json.dumps(processor))
    assert inspect(hf).config.inputs.image.fit == "crop"


def test_two_processor_files_that_differ_are_named(hf):
    processor = {"image_processor": {"image_mean": list(CLIP_MEAN), "do_pad": False}}
    (hf / "processor_config.json").write_text(json.dumps(processor))
    with pytest.raises(
        CheckpointError, match=r"do_pad is False in processor_config\.json and True"
    ):
        inspect(hf)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_mean": 0.5}, "image_mean or image_std is 0.5; expected three numbers"),
        ({"image_std": [0.5, None, 0.5]}, r"is \[0.5, None, 0.5\]; expected three numbers"),
        ({"do_pad": "false"}, "do_pad of the preprocessor is 'false'; expected true or false"),
    ],
)
def test_values_of_the_preprocessor_are_checked(hf, values, message):
    path = hf / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(CheckpointError, match=message):
        inspect(hf)


def test_what_a_onevision_config_leaves_out_is_what_transformers_does(
    tmp_path, small_config, tokenizer
):
    save(randomise(LlavaNetwork(small_config)), small_config, tokenizer, tmp_path / "ours")
    convert(inspect(tmp_path / "ours"), tmp_path / "a", layout="llava-hf")
    change(tmp_path / "a", remove=("vision_aspect_ratio", "image_grid_pinpoints"))
    (tmp_path / "a" / "preprocessor_config.json").unlink()
    rule = inspect(tmp_path / "a").config.inputs.image
    assert rule == AnyRes()
    assert plan(width=640, height=480, rule=rule).num_tokens > 730


def test_added_words_get_their_ids_and_controls_stay_text(tmp_path):
    """A checkpoint whose embedding was resized for places such as <loc_1>."""
    size = 512
    config = replace(LLAVA_1_5, language=replace(LLAVA_1_5.language, vocab_size=size))
    directory = saved(tmp_path / "ours", config)
    path = directory / "tokenizer.json"
    values = json.loads(path.read_text())
    start = Tokenizer(path.read_text()).size
    word = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    values["added_tokens"] += [
        {**word, "id": start, "content": "<hidden>", "special": True},
        {**word, "id": start + 1, "content": "<loc_1>", "special": False},
        {**word, "id": start + 2, "content": "<loc_2>", "special": False},
    ]
    path.write_text(json.dumps(values))
    tokenizer = Tokenizer.from_directory(directory)
    assert tokenizer.size == start + 3
    for continues in (False, True):
        assert start + 2 in tokenizer.encode("at <loc_2> now", continues=continues).ids
        assert tokenizer.encode("<loc_1>", continues=continues).ids == [start + 1]
    for text in ("<hidden>", "</s>", "<s>"):
        assert not set(tokenizer.encode(text).ids) & set(tokenizer.added_tokens.values())
    assert tokenizer.decode([start + 1]) == "<loc_1>"
    assert tensors_of(inspect(directory))["language_model.embedding.weight"].shape[0] == size
