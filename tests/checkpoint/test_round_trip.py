import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from onevision.checkpoint import files
from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.names import FOREIGN, LLAVA_HF, LMMS_LAB_LINEAR
from onevision.checkpoint.save import convert, save
from onevision.config import FORMAT_VERSION, ModelConfig
from onevision.errors import CheckpointError
from onevision.model.llava import LlavaNetwork
from tests.conftest import randomise

LAYOUTS = ("onevision", "lmms-lab", "llava-hf")


@pytest.fixture
def ours(tmp_path, small_config, tokenizer) -> Path:
    network = randomise(LlavaNetwork(small_config))
    save(network, small_config, tokenizer, tmp_path / "ours", dtype=torch.bfloat16)
    return tmp_path / "ours"


def tensors_of(directory: Path) -> dict[str, torch.Tensor]:
    info = inspect(directory)
    return {name: tensor.read() for name, tensor in info.tensors.items()}


@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
def test_every_round_trip_is_bit_equal(ours, tmp_path, first, second):
    convert(inspect(ours), tmp_path / "a", layout=first)
    convert(inspect(tmp_path / "a"), tmp_path / "b", layout=second)
    convert(inspect(tmp_path / "b"), tmp_path / "c", layout="onevision")
    before, after = tensors_of(ours), tensors_of(tmp_path / "c")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert inspect(tmp_path / "c").config == inspect(ours).config


def test_the_lmms_lab_keys_are_the_published_ones(ours, tmp_path):
    convert(inspect(ours), tmp_path / "a", layout="lmms-lab")
    keys = set(load_file(tmp_path / "a" / "model.safetensors"))
    tower = "model.vision_tower.vision_tower.vision_model."
    assert {
        "model.embed_tokens.weight",
        "model.layers.1.self_attn.q_proj.bias",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.norm.weight",
        "model.image_newline",
        "model.mm_projector.0.weight",
        "model.mm_projector.2.bias",
        f"{tower}embeddings.patch_embedding.weight",
        f"{tower}embeddings.position_embedding.weight",
        f"{tower}encoder.layers.1.self_attn.out_proj.bias",
        f"{tower}encoder.layers.0.mlp.fc1.weight",
        f"{tower}post_layernorm.weight",
    } <= keys
    assert "lm_head.weight" not in keys  # tied
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["model_type"] == "llava"
    assert config["image_aspect_ratio"] == "anyres_max_9"
    assert config["image_grid_pinpoints"][:2] == [[384, 384], [384, 768]]
    assert config["mm_newline_position"] == "one_token"


# But LLaVA v1's, and those of another kind of model, which test_native.py reads.
LATER = [n for n in FOREIGN if n is not LMMS_LAB_LINEAR and n.layout in LAYOUTS]


@pytest.mark.parametrize("names", LATER)
def test_every_layout_in_circulation_is_read(ours, tmp_path, names):
    """Five spellings of the same tensors, none told from a file or folder name."""
    layout = names.layout
    convert(inspect(ours), tmp_path / "a", layout=layout)
    info = inspect(tmp_path / "a")
    renamed = {names.translate(name): tensor.read() for name, tensor in info.tensors.items()}
    save_file(renamed, tmp_path / "a" / "model.safetensors", {"format": "pt"})
    read = inspect(tmp_path / "a")
    assert read.names == names
    assert read.config.language == inspect(ours).config.language


@pytest.mark.parametrize("names", [n for n in LATER if n.layout == "llava-hf"])
def test_llava_hf_is_written_by_its_published_names(ours, tmp_path, names):
    """Also from a checkpoint whose tower transformers 5.x named: vLLM does not know that name."""
    convert(inspect(ours), tmp_path / "a", layout="llava-hf")
    published = load_file(tmp_path / "a" / "model.safetensors")
    info = inspect(tmp_path / "a")
    renamed = {names.translate(name): tensor.read() for name, tensor in info.tensors.items()}
    save_file(renamed, tmp_path / "a" / "model.safetensors", {"format": "pt"})
    convert(inspect(tmp_path / "a"), tmp_path / "b", layout="llava-hf")
    written = load_file(tmp_path / "b" / "model.safetensors")
    assert "vision_tower.vision_model.embeddings.patch_embedding.weight" in written
    assert written.keys() == published.keys()
    assert all(torch.equal(tensor, published[name]) for name, tensor in written.items())


def test_files_carry_a_format_version(ours, tmp_path):
    for layout in LAYOUTS:
        convert(inspect(ours), tmp_path / layout, layout=layout)
        config = json.loads((tmp_path / layout / "config.json").read_text())
        assert config["format_version"] == FORMAT_VERSION


def test_shards(ours, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_SHARD_BYTES", 100_000)
    convert(inspect(ours), tmp_path / "sharded", layout="lmms-lab")
    shards = sorted(p.name for p in (tmp_path / "sharded").glob("*.safetensors"))
    assert len(shards) > 1
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
    before, after = tensors_of(ours), tensors_of(tmp_path / "sharded")
    assert all(torch.equal(before[name], after[name]) for name in before)
    (tmp_path / "sharded" / shards[1]).unlink()
    with pytest.raises(CheckpointError, match=rf"{shards[1]}: this shard is missing"):
        inspect(tmp_path / "sharded")


def test_an_untied_head_is_kept(tmp_path, small_config, tokenizer):
    from dataclasses import replace

    untied = replace(small_config.language, tie_embeddings=False)
    config = replace(small_config, language=untied)
    save(randomise(LlavaNetwork(config)), config, tokenizer, tmp_path / "a")
    for layout in LAYOUTS:
        convert(inspect(tmp_path / "a"), tmp_path / layout, layout=layout)
        assert inspect(tmp_path / layout).config.language == untied
        assert "language_model.head.weight" in tensors_of(tmp_path / layout)


def test_a_lost_head_is_not_made_up(tmp_path, small_config, tokenizer):
    from dataclasses import replace

    config = replace(small_config, language=replace(small_config.language, tie_embeddings=False))
    save(randomise(LlavaNetwork(config)), config, tokenizer, tmp_path / "a")
    convert(inspect(tmp_path / "a"), tmp_path / "b", layout="llava-hf")
    tensors = load_file(tmp_path / "b" / "model.safetensors")
    del tensors[LLAVA_HF.head]
    save_file(tensors, tmp_path / "b" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"output head \(lm_head.weight\) is missing"):
        inspect(tmp_path / "b")


def test_missing_and_unexpected_tensors_are_listed(ours):
    path = ours / "model.safetensors"
    tensors = load_file(path)
    tensors["stranger"] = tensors.pop("image_newline")
    save_file(tensors, path)
    with pytest.raises(
        CheckpointError,
        match=r"1 missing tensor \(image_newline\), 1 unexpected \(stranger",
    ):
        inspect(ours)


def test_a_wrong_shape_is_named(ours):
    path = ours / "model.safetensors"
    tensors = load_file(path)
    tensors["image_newline"] = torch.zeros(5)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"image_newline is \[5\]; the config asks for \[48"):
        inspect(ours)


def test_a_config_that_contradicts_the_tensors_is_refused(ours, tmp_path):
    convert(inspect(ours), tmp_path / "a", layout="lmms-lab")
    path = tmp_path / "a" / "config.json"
    values = json.loads(path.read_text()) | {"hidden_size": 99}
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="hidden_size is 99, tensors say 48"):
        inspect(tmp_path / "a")


def test_pickles_are_not_opened(tmp_path, small_config):
    (tmp_path / "config.json").write_text(small_config.to_json())
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: pickled weights can run code"):
        inspect(tmp_path)


def test_damaged_files_are_named(ours):
    (ours / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a readable safetensors"):
        inspect(ours)
    (ours / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        inspect(ours)
    (ours / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not readable as JSON"):
        inspect(ours)


def test_nothing_half_written_is_left(ours, tmp_path):
    with pytest.raises(CheckpointError, match="no layout 'gguf'"):
        convert(inspect(ours), tmp_path / "a", layout="gguf")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="exists and is not empty"):
        convert(inspect(ours), tmp_path / "full", layout="lmms-lab")
    info = inspect(ours)
    (ours / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: missing"):
        convert(info, tmp_path / "b", layout="llava-hf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "ours"]


def test_loading_holds_one_copy(ours, small_config):
    """A tensor of the asked type is the file's own memory, not a copy of it."""
    info = inspect(ours)
    network = load_network(info, dtype=torch.bfloat16)
    assert network.image_newline.dtype == torch.bfloat16
    assert network.language_model.head.weight is network.language_model.embedding.weight
    assert ModelConfig.from_dict(json.loads((ours / "config.json").read_text())) == small_config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "vision_feature_layer",
            [-1, -2],
            r"vision_feature_layer is \[-1, -2\]; expected one layer of",
        ),
        ("projector_hidden_act", "relu", "projector_hidden_act is 'relu'"),
        ("vision_aspect_ratio", "highres", "image mode 'highres'"),
        ("image_grid_pinpoints", [[100, 100]], "not multiples of 384"),
    ],
)
def test_what_the_network_does_not_do_is_refused(ours, tmp_path, key, value, message):
    convert(inspect(ours), tmp_path / "a", layout="llava-hf")
    path = tmp_path / "a" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(CheckpointError, match=message):
        inspect(tmp_path / "a")


def test_the_range_text_of_the_scripts_is_read(ours, tmp_path):
    convert(inspect(ours), tmp_path / "a", layout="lmms-lab")
    path = tmp_path / "a" / "config.json"
    values = json.loads(path.read_text()) | {"image_grid_pinpoints": "(1x1),...,(6x6)"}
    path.write_text(json.dumps(values))
    assert inspect(tmp_path / "a").config == inspect(ours).config


def test_what_transformers_cannot_express_is_not_written(tmp_path, small_config, tokenizer):
    from dataclasses import replace

    config = replace(small_config, image_newline=False)
    save(LlavaNetwork(config), config, tokenizer, tmp_path / "a")
    with pytest.raises(CheckpointError, match="write it as lmms-lab or onevision"):
        convert(inspect(tmp_path / "a"), tmp_path / "b", layout="llava-hf")
    assert not (tmp_path / "b").exists()
