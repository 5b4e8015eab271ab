"""The layouts of OneVision-1.5 and 2: there and back bit-equal, damage refused or found."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert
from onevision.checkpoint.self_check import check_conversion
from onevision.errors import CheckpointError
from tests.cli.invoke import fail, invoke
from tests.native import MEMBERS, write_native

WORDS = "model.language_model.layers.0.self_attn."
# Where the first block's attention is, by layout.
VISUAL = {
    "onevision-1.5": "model.visual.blocks.0.attn.",
    "onevision-2": "model.visual.encoder.layers.0.self_attn.",
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    return {
        layout: write_native(tmp_path_factory.mktemp("native"), layout=layout) for layout in MEMBERS
    }


@pytest.fixture(params=MEMBERS)
def checkpoint(request, checkpoints) -> Path:
    return checkpoints[request.param]


def attention(tensors):
    """How the names of the first block's attention begin."""
    return next(name for name in VISUAL.values() if f"{name}qkv.weight" in tensors)


def edited(checkpoint, directory, edit):
    """A copy whose tensors `edit` has changed in place."""
    directory.mkdir()
    for path in checkpoint.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    tensors = load_file(directory / "model.safetensors")
    edit(tensors)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


@pytest.mark.parametrize(
    ("layout", "model_type"),
    [("onevision-1.5", "llavaonevision1_5"), ("onevision-2", "llava_onevision2")],
)
def test_the_files_say_what_the_model_is(layout, model_type, checkpoints):
    info = inspect(checkpoints[layout])
    assert (info.layout, info.config) == (layout, MEMBERS[layout])
    values = json.loads((checkpoints[layout] / "config.json").read_text())
    assert values["model_type"] == model_type
    assert values["text_config"]["head_dim"] == 16
    assert values["vision_config"]["spatial_merge_size"] == 2


def test_a_window_of_frames_is_a_key_of_ours(checkpoints, tmp_path):
    changed = edited(checkpoints["onevision-2"], tmp_path / "changed", lambda _: None)
    values = json.loads((changed / "config.json").read_text())
    assert values["video_window"] == 1
    (changed / "config.json").write_text(json.dumps(values | {"video_window": 4}))
    config = inspect(changed).config
    assert config.inputs.video == replace(MEMBERS["onevision-2"].inputs.video, window=4)
    convert(inspect(changed), tmp_path / "again", layout="onevision-2")
    assert inspect(tmp_path / "again").config == config


def test_there_and_back_every_tensor_is_bit_equal(checkpoint, tmp_path):
    convert(inspect(checkpoint), tmp_path / "ours", layout="onevision")
    layout = inspect(checkpoint).layout
    convert(inspect(tmp_path / "ours"), tmp_path / "back", layout=layout)
    first, last = (load_file(d / "model.safetensors") for d in (checkpoint, tmp_path / "back"))
    assert first.keys() == last.keys()
    assert f"{VISUAL[layout]}qkv.weight" in first
    assert all(torch.equal(first[name], last[name]) for name in first)


def test_names_of_transformers_4_are_read_and_kept(checkpoints, tmp_path):
    checkpoint = checkpoints["onevision-1.5"]

    def rename(tensors):
        for name in list(tensors):
            new = name.replace("model.visual.", "visual.").replace(
                "model.language_model.", "model."
            )
            tensors[new] = tensors.pop(name)

    renamed = edited(checkpoint, tmp_path / "renamed", rename)
    convert(inspect(renamed), tmp_path / "again", layout="onevision-1.5")
    tensors = load_file(tmp_path / "again" / "model.safetensors")
    assert tensors.keys() == load_file(renamed / "model.safetensors").keys()
    check_conversion(inspect(checkpoint), tmp_path / "again")


DAMAGE = {
    "a transposed matrix": (
        lambda t: t.update({f"{WORDS}q_proj.weight": t[f"{WORDS}q_proj.weight"].T}),
        "q_proj.weight is",
    ),
    "a missing norm": (lambda t: t.pop(f"{WORDS}k_norm.weight"), "missing"),
    "a missing first norm": (
        lambda t: t.pop(next(name for name in t if "visual" in name and "norm" in name)),
        "missing",
    ),
    "a tensor too many": (lambda t: t.update({"model.visual.extra": torch.ones(1)}), "unexpected"),
    "queries in place of keys": (
        lambda t: t.update(
            {
                f"{WORDS}q_proj.weight": t[f"{WORDS}k_proj.weight"],
                f"{WORDS}k_proj.weight": t[f"{WORDS}q_proj.weight"],
            }
        ),
        "num_key_value_heads is 2, tensors say 4",
    ),
    "two thirds of three": (
        lambda t: t.update({f"{attention(t)}qkv.weight": t[f"{attention(t)}qkv.weight"][:64]}),
        "3 equal parts",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_weights_are_refused(name, checkpoint, tmp_path):
    damage, message = DAMAGE[name]
    damaged = edited(checkpoint, tmp_path / "damaged", damage)
    with pytest.raises(CheckpointError, match=message):
        inspect(damaged)


def swap_vision(tensors):
    name = f"{attention(tensors)}qkv.weight"
    query, key, value = tensors[name].chunk(3)
    tensors[name] = torch.cat([key, query, value])


def swap_norms(tensors):
    names = f"{WORDS}q_norm.weight", f"{WORDS}k_norm.weight"
    query, key = (tensors[name] for name in names)
    tensors.update(zip(names, (key, query), strict=True))


def transpose_square(tensors):
    name = f"{attention(tensors)}proj.weight"
    tensors[name] = tensors[name].T


@pytest.mark.parametrize("damage", [swap_vision, swap_norms, transpose_square])
def test_what_shapes_do_not_show_the_self_check_finds(damage, checkpoint, tmp_path):
    """Through the door: an existing destination is compared, not written."""
    damaged = edited(checkpoint, tmp_path / "damaged", damage)
    assert "its logits differ" in fail("convert", checkpoint, damaged, "--self-check")


def test_the_self_check_of_a_conversion(checkpoint, tmp_path):
    said = invoke("convert", checkpoint, tmp_path / "new", "--layout", "onevision", "--self-check")
    assert f"{inspect(checkpoint).layout} -> onevision" in said
    assert "logits agree" in said


def test_a_class_token_is_not_made_up(checkpoints, tmp_path):
    damaged = edited(
        checkpoints["onevision-1.5"],
        tmp_path / "damaged",
        lambda t: t.pop("model.visual.class_embedding"),
    )
    with pytest.raises(CheckpointError, match="missing"):
        inspect(damaged)


@pytest.mark.parametrize(("other", "layout"), [MEMBERS, [*MEMBERS][::-1]])
def test_one_member_is_not_written_as_another(other, layout, checkpoints, tmp_path):
    said = fail("convert", checkpoints[layout], tmp_path / "new", "--layout", other)
    assert f"{other} has another vision encoder; write this model as {layout} or onevision" in said


@pytest.mark.parametrize("layout", ["llava-hf", "lmms-lab"])
def test_layouts_without_native_resolution_refuse_it(layout, checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="native resolution"):
        convert(inspect(checkpoint), tmp_path / "new", layout=layout)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("layout", "section", "key", "value", "message"),
    [
        ("onevision-1.5", "vision_config", "temporal_patch_size", 2, "only 1 is supported"),
        ("onevision-1.5", "vision_config", "layer_norm_eps", 1e-6, "only 1e-05 is supported"),
        ("onevision-1.5", "vision_config", "depth", 5, "depth is 5, tensors say 3"),
        ("onevision-1.5", "vision_config", "num_heads", 3, "multiple"),
        ("onevision-1.5", "text_config", "head_dim", 12, "head_dim is 12, tensors say 16"),
        ("onevision-2", "vision_config", "use_head", True, "only False is supported"),
        ("onevision-2", "vision_config", "layer_norm_type", "rms_norm", "only 'layer_norm'"),
        ("onevision-2", "vision_config", "rope_theta", 1e6, "only 10000.0 is supported"),
        ("onevision-2", "vision_config", "frame_windows_size", 8, "only 4 is supported"),
        ("onevision-2", "vision_config", "spatial_merge_size", 3, "is 3, tensors say 2"),
        ("onevision-2", "vision_config", "out_hidden_size", 64, "is 64, tensors say 48"),
        ("onevision-2", "vision_config", "num_attention_heads", 4, "multiple of 32"),
        ("onevision-2", "text_config", "model_type", "qwen3_moe", "is 'qwen3_moe'; supported"),
    ],
)
def test_a_config_that_contradicts_the_weights_is_refused(
    layout, section, key, value, message, checkpoints, tmp_path
):
    damaged = edited(checkpoints[layout], tmp_path / "damaged", lambda _: None)
    values = json.loads((damaged / "config.json").read_text())
    values[section][key] = value
    (damaged / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=message):
        inspect(damaged)
