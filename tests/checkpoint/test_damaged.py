"""Damaged, quantised or contradictory checkpoints: one line names what is wrong."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from onevision import load
from onevision.checkpoint.load import inspect, load_generation, load_network
from onevision.checkpoint.parts.pretrained import load_language_model, load_vision_encoder
from onevision.checkpoint.save import convert, save
from onevision.checkpoint.unpickle import unpickle
from onevision.errors import CheckpointError, OneVisionError
from onevision.model.llava import LlavaNetwork
from tests.checkpoint.test_family import FAMILY, LLAVA_1_5, saved
from tests.cli.conftest import run
from tests.conftest import randomise
from tests.sentencepiece import llama

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def ours(tmp_path):
    return saved(tmp_path / "ours", LLAVA_1_5)


@pytest.fixture
def foreign(ours, tmp_path):
    convert(inspect(ours), tmp_path / "a", layout="llava-hf")
    return tmp_path / "a"


def change(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensor(directory, name, tensor):
    tensors = load_file(directory / WEIGHTS)
    save_file(tensors | {name: tensor}, directory / WEIGHTS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_every_door(ours, tmp_path, value):
    name = "language_model.blocks.1.mlp.up.weight"
    tensor = load_file(ours / WEIGHTS)[name]
    tensor[0, 0] = value
    change_tensor(ours, name, tensor)
    message = rf"model\.safetensors: tensor {name} holds NaN or infinite numbers"
    with pytest.raises(CheckpointError, match=message):
        load(ours)
    with pytest.raises(CheckpointError, match=message):
        convert(inspect(ours), tmp_path / "out", layout="lmms-lab")
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match=message):
        load_language_model(LlavaNetwork(LLAVA_1_5), ours)
    load_vision_encoder(LlavaNetwork(LLAVA_1_5), ours)
    load_network(inspect(ours), verify=False)


def test_asking_a_model_of_nan_is_one_line_not_an_answer(ours):
    tensor = load_file(ours / WEIGHTS)["language_model.norm.weight"]
    change_tensor(ours, "language_model.norm.weight", tensor * float("nan"))
    done = run("ask", "Hi", "--model", ours)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "language_model.norm.weight holds NaN" in done.stderr


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64, torch.uint8])
def test_tensors_that_are_no_weights_are_named(foreign, dtype):
    name = "language_model.model.layers.0.mlp.up_proj.weight"
    change_tensor(foreign, name, torch.zeros(48, 32, dtype=dtype))
    with pytest.raises(CheckpointError, match=rf"{name} is \w+; expected F64, F32, F16, BF16"):
        inspect(foreign)


@pytest.mark.parametrize(
    ("suffix", "tensor", "kind"),
    [
        ("weight.SCB", torch.zeros(48), "bitsandbytes"),
        ("weight.quant_state.bitsandbytes__nf4", torch.zeros(4, dtype=torch.uint8), "bitsandbytes"),
        ("qweight", torch.zeros(4, dtype=torch.int32), "GPTQ or AWQ"),
        ("weight_scale", torch.zeros(1), "FP8"),
        ("weight", torch.zeros(48, 32).to(torch.float8_e4m3fn), "FP8"),
    ],
)
def test_quantised_files_are_named_as_what_they_are(foreign, suffix, tensor, kind):
    change_tensor(foreign, f"language_model.model.layers.0.mlp.up_proj.{suffix}", tensor)
    with pytest.raises(
        CheckpointError, match=rf"quantised weights \({kind}: .*original checkpoint"
    ):
        inspect(foreign)


def test_a_config_that_says_quantised_is_believed(foreign):
    change(foreign, quantization_config={"quant_method": "awq", "bits": 4})
    with pytest.raises(CheckpointError, match=r"quantised \(W4A16, .*no tensor is"):
        inspect(foreign)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_config": None}, "text_config is None; expected an object"),
        ({"vision_config": []}, r"vision_config is \[\]; expected an object"),
        ({"architectures": "Llava"}, "architectures is 'Llava'; expected a list"),
        ({"text_config": {"num_attention_heads": 0}}, "text_config.num_attention_heads is 0; exp"),
        ({"text_config": {"rope_scaling": [1]}}, r"text_config.rope_scaling is \[1\]; expected an"),
        ({"vision_config": {"image_size": "56"}}, "vision_config.image_size is 56; expected a wh"),
        ({"image_aspect_ratio": 3}, "image_aspect_ratio is 3; expected text"),
        ({"model_type": None, "image_aspect_ratio": None}, "model_type is None; expected llava"),
    ],
)
def test_values_of_the_wrong_kind_are_named(foreign, changes, message):
    change(foreign, **changes)
    with pytest.raises(CheckpointError, match=message):
        inspect(foreign)


@pytest.mark.parametrize(
    "text",
    ["[[56, 112], [112, 5", "(1x1),...,(2x", "(1x1),...,(2000x2000)", [[56, 112]] * 20_000, [56],
     [[56, "a"]], [[56, 112, 56]], [[-56, 56]], {"a": 1}, 7],
)  # fmt: skip
def test_grids_that_are_cut_off_or_absurd_are_named(tmp_path, text):
    convert(inspect(saved(tmp_path / "ours", FAMILY["next"])), tmp_path / "a", layout="lmms-lab")
    change(tmp_path / "a", image_grid_pinpoints=text)
    with pytest.raises(CheckpointError, match=r"image_grid_pinpoints is .*; expected a list of at"):
        inspect(tmp_path / "a")


def test_absurd_sizes_are_refused_before_anything_is_built(ours):
    values = json.loads((ours / "config.json").read_text())
    values["language"]["num_layers"] = 10**9
    change(ours, **values)
    with pytest.raises(CheckpointError, match=r"asks for 1000000003 blocks, there are \d+ tensors"):
        inspect(ours)


def test_absurd_grids_of_our_own_config_are_refused(tmp_path):
    directory = saved(tmp_path / "ours", FAMILY["next"])
    values = json.loads((directory / "config.json").read_text())
    values["inputs"]["image"] |= {"grids": None, "max_grid": 2000}
    change(directory, **values)
    with pytest.raises(CheckpointError, match="max_grid is 2000"):
        inspect(directory)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": []}, r"weight_map is \[\]; expected file names by tensor"),
        ({}, "weight_map is None; expected file names by tensor"),
        ({"weight_map": {"a": "../secret.safetensors"}}, r"names \.\./secret.*file beside it"),
        ({"weight_map": {"a": "/etc/passwd"}}, "names /etc/passwd; expected the name of a file"),
        ({"weight_map": {"a": 3}}, "names 3; expected the name of a file beside it"),
        ({"weight_map": {"a": "other.safetensors"}}, "which names other files; remove the one"),
    ],
)
def test_an_index_names_files_beside_it(foreign, index, message):
    (foreign / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=message):
        inspect(foreign)


def test_a_tensor_in_two_files_is_named(foreign):
    save_file({"image_newline": torch.zeros(32)}, foreign / "b.safetensors")
    change_tensor(foreign, "image_newline", torch.ones(32))
    (foreign / INDEX).write_text(json.dumps({"weight_map": {"x": WEIGHTS, "y": "b.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"image_newline is in b\.safetensors too"):
        inspect(foreign)


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja"])
def test_a_text_that_is_not_utf_8_is_named(ours, foreign, name):
    directory = ours if name == "tokenizer.json" else foreign
    (directory / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=f"{name}: not readable as "):
        load(directory)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "processor_config.json"])
def test_a_pipe_does_not_hang(foreign, name):
    (foreign / name).unlink(missing_ok=True)
    os.mkfifo(foreign / name)
    with pytest.raises(CheckpointError, match=f"{name}: not a regular file"):
        load(foreign)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eos_token_id": "151645"}, "eos_token_id is '151645'; expected a token id below"),
        ({"eos_token_id": [2, None]}, r"eos_token_id is \[2, None\]; expected a token id"),
        ({"eos_token_id": 2.0}, r"eos_token_id is 2\.0; expected a token id"),
        ({"eos_token_id": 10**6}, "eos_token_id is 1000000; expected a token id below"),
        ({"repetition_penalty": "1.1"}, "repetition_penalty is '1.1'; expected a positive number"),
        ({"repetition_penalty": -1}, "repetition_penalty is -1; expected a positive number"),
    ],
)
def test_generation_defaults_are_checked(tmp_path, values, message):
    (tmp_path / "generation_config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=message):
        load_generation(tmp_path, llama())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({1: torch.zeros(1), "1": torch.ones(1)}, r"a tensor is named 1 \(int\); expected text"),
        ({"a": os.system}, "it names posix.system"),
        (b"junk", "no pickle"),
    ],
)
def test_a_pickle_is_refused_without_advice_to_trust_it(tmp_path, content, message):
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        unpickle(tmp_path, tmp_path / "safe")
    assert "weights_only" not in str(caught.value)


def test_a_tensor_in_two_pickles_is_named(tmp_path):
    for number in (1, 2):
        torch.save({"a": torch.zeros(1)}, tmp_path / f"pytorch_model-{number:05}-of-00002.bin")
    with pytest.raises(CheckpointError, match=r"00002-of-00002\.bin: a is in model-00001.* too"):
        unpickle(tmp_path, tmp_path / "safe")
    assert not (tmp_path / "safe").exists()


def test_every_damaged_config_is_an_error_of_ours(tmp_path, micro_config, tokenizer):
    save(randomise(LlavaNetwork(micro_config)), micro_config, tokenizer, tmp_path / "ours")
    convert(inspect(tmp_path / "ours"), tmp_path / "a", layout="llava-hf")
    path = tmp_path / "a" / "config.json"
    values = json.loads(path.read_text())
    for part in (values, values["text_config"], values["vision_config"]):
        for key, kept in list(part.items()):
            for wrong in (None, [], {}, "x", -1, 10**30, True, [[]]):
                part[key] = wrong
                path.write_text(json.dumps(values))
                try:
                    inspect(tmp_path / "a")
                except OneVisionError as error:
                    assert "\n" not in str(error)
            part[key] = kept
