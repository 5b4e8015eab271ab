"""The family's layouts in parts: towers, projectors and adapters in directories of their own."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from onevision.anyres import AnyRes, SingleCrop, VideoRule
from onevision.checkpoint.load import inspect, load_generation, load_network
from onevision.checkpoint.save import convert, save
from onevision.checkpoint.unpickle import unpickle
from onevision.config import (
    InputConfig,
    LanguageConfig,
    ModelConfig,
    ProjectorConfig,
    VisionConfig,
)
from onevision.errors import CheckpointError
from onevision.model.llava import LlavaNetwork
from tests.conftest import randomise
from tests.sentencepiece import CHATML, LLAMA_3, llama

CROP = {"crop_size": 56, "patch_size": 14}
PAD = SingleCrop(**CROP, newline=False)
TOWER = "model.vision_tower.vision_tower.vision_model."
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# LLaVA-1.5 at toy sizes: CLIP's layer -2, one padded crop, Vicuna, no newline.
LLAVA_1_5 = ModelConfig(
    vision=VisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_layers=2,
        num_heads=2,
        image_size=56,
        layer_norm_eps=1e-5,
        activation="quick_gelu",
        class_token=True,
        num_spare_layers=1,
    ),
    language=LanguageConfig(
        vocab_size=1024,
        hidden_size=32,
        intermediate_size=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4,
        max_positions=4096,
        rope_theta=1e4,
        rms_norm_eps=1e-5,
        tie_embeddings=False,
        attention_bias=False,
    ),
    inputs=InputConfig(
        image=PAD,
        multi_image=PAD,
        video=VideoRule(**CROP, fit="crop", newline="no_token"),
        template="vicuna_v1",
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
        image_token_id=0,
    ),
    image_newline=False,
)


def with_inputs(config, **changes):
    return replace(config, inputs=replace(config.inputs, **changes))


SQUARE = replace(PAD, fit="crop")
GRIDS = AnyRes(**CROP, max_crops=None, grids=((1, 2), (2, 1), (2, 2), (3, 1), (1, 3)))
LLAVA_V1 = with_inputs(
    replace(LLAVA_1_5, projector=ProjectorConfig(num_layers=1)),
    image=SQUARE,
    multi_image=SQUARE,
    template="llava_v1",
)
NEXT = replace(
    with_inputs(
        LLAVA_1_5, image=GRIDS, multi_image=SingleCrop(**CROP), template="chatml_direct",
        video=VideoRule(**CROP, fit="crop"),
    ),
    image_newline=True,
)  # fmt: skip
FAMILY = {
    "v1": LLAVA_V1,
    "v1.5": LLAVA_1_5,
    "v1.5-hd": with_inputs(LLAVA_1_5, image=replace(GRIDS, merge="flat"), multi_image=SingleCrop(
        **CROP, newline=False)),
    "next": NEXT,
    "mistral": replace(
        with_inputs(NEXT, template="mistral_instruct"),
        language=replace(NEXT.language, num_kv_heads=2, sliding_window=4096),
    ),
    "long": replace(NEXT, language=replace(NEXT.language, rope_factor=2.0, max_positions=8192)),
}  # fmt: skip


def tokenizer_of(config):
    controls = {"chatml_direct": CHATML, "llava_llama_3": LLAMA_3}
    return llama(controls=controls.get(config.inputs.template, ()))


def saved(directory, config):
    save(randomise(LlavaNetwork(config)), config, tokenizer_of(config), directory)
    return directory


def tensors_of(info):
    return {name: tensor.read() for name, tensor in info.tensors.items()}


def same(one, other):
    a, b = tensors_of(one), tensors_of(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def without_tower(tmp_path, config=LLAVA_1_5, *, said="openai/clip-vit-large-patch14-336"):
    """A checkpoint as released, and its tower as CLIP is released: with a text half beside it."""
    convert(inspect(saved(tmp_path / "ours", config)), tmp_path / "whole", layout="lmms-lab")
    tensors = load_file(tmp_path / "whole" / "model.safetensors")
    tower = {f"vision_model.{k.removeprefix(TOWER)}": tensors.pop(k)
             for k in list(tensors) if k.startswith(TOWER)}  # fmt: skip
    save_file(tensors, tmp_path / "whole" / "model.safetensors", {"format": "pt"})
    path = tmp_path / "whole" / "config.json"
    values = json.loads(path.read_text())
    described = values.pop("vision_config")
    path.write_text(json.dumps(values | {"mm_vision_tower": said}))
    (tmp_path / "clip").mkdir()
    others = {"text_model.embeddings.weight": torch.zeros(2), "logit_scale": torch.zeros(1)}
    save_file(tower | others, tmp_path / "clip" / "model.safetensors", {"format": "pt"})
    (tmp_path / "clip" / "config.json").write_text(json.dumps({"vision_config": described}))
    return tmp_path / "whole", tmp_path / "clip"


@pytest.mark.parametrize("name", FAMILY)
def test_the_references_layout_there_and_back(tmp_path, name):
    before = inspect(saved(tmp_path / "ours", FAMILY[name]))
    convert(before, tmp_path / "a", layout="lmms-lab")
    after = inspect(tmp_path / "a")
    token_id = after.config.inputs.image_token_id
    assert after.config == with_inputs(before.config, image_token_id=token_id)
    assert same(before, after)


def test_the_first_projector_is_a_layer_alone(tmp_path):
    convert(inspect(saved(tmp_path / "ours", LLAVA_V1)), tmp_path / "a", layout="lmms-lab")
    keys = set(load_file(tmp_path / "a" / "model.safetensors"))
    assert {"model.mm_projector.weight", "model.mm_projector.bias"} <= keys
    assert {f"{TOWER}embeddings.class_embedding", f"{TOWER}pre_layrnorm.weight"} <= keys
    values = json.loads((tmp_path / "a" / "config.json").read_text())
    assert values["architectures"] == ["LlavaLlamaForCausalLM"]
    assert (values["mm_projector_type"], values["mm_vision_select_layer"]) == ("linear", -2)


@pytest.mark.parametrize("place", ["beside", "named", "given"])
def test_a_tower_of_its_own_directory(tmp_path, place):
    said = str(tmp_path / "clip") if place == "named" else "openai/clip-vit-large-patch14-336"
    checkpoint, clip = without_tower(tmp_path, said=said)
    if place == "beside":
        clip.rename(checkpoint / "vision_tower")
    info = inspect(checkpoint, tower=clip if place == "given" else None)
    assert info.config.vision == LLAVA_1_5.vision
    assert info.config.inputs.image_mean == CLIP_MEAN
    assert same(info, inspect(tmp_path / "ours"))


def test_a_missing_tower_is_named(tmp_path):
    checkpoint, clip = without_tower(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json: mm_vision_tower is 'openai/clip-vit-"
                       r"large-patch14-336', .*--vision-tower DIR"):  # fmt: skip
        inspect(checkpoint)
    (clip / "model.safetensors").unlink()
    (clip / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: pickled .* `onevision unpick"):
        inspect(checkpoint, tower=clip)
    save_file({"a": torch.zeros(1)}, clip / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no vision tower in it \(for instance a\)"):
        inspect(checkpoint, tower=clip)


def projector_alone(tmp_path, directory, *, prefix=""):
    """What a pretraining leaves: a config and a projector."""
    tensors = load_file(tmp_path / "whole" / "model.safetensors")
    projector = {f"{prefix}{k}": t + 1 for k, t in tensors.items() if "mm_projector" in k}
    directory.mkdir()
    (directory / "config.json").write_bytes((tmp_path / "whole" / "config.json").read_bytes())
    return projector


def test_a_projector_alone_takes_its_base(tmp_path):
    checkpoint, clip = without_tower(tmp_path)
    projector = projector_alone(tmp_path, tmp_path / "pretrained")
    save_file(projector, tmp_path / "pretrained" / "mm_projector.safetensors")
    with pytest.raises(CheckpointError, match="holds a projector alone; .* --base DIR"):
        inspect(tmp_path / "pretrained")
    info = inspect(tmp_path / "pretrained", base=checkpoint, tower=clip)
    found, whole = tensors_of(info), tensors_of(inspect(tmp_path / "ours"))
    for name, tensor in whole.items():
        assert torch.equal(found[name], tensor + 1 if name.startswith("projector") else tensor)


def test_a_pickled_projector_is_refused_and_can_be_made_safe(tmp_path):
    checkpoint, clip = without_tower(tmp_path)
    projector = projector_alone(tmp_path, tmp_path / "pretrained")
    torch.save(projector, tmp_path / "pretrained" / "mm_projector.bin")
    with pytest.raises(CheckpointError, match=r"mm_projector\.bin: pickled weights can run code"):
        inspect(tmp_path / "pretrained", base=checkpoint, tower=clip)
    assert unpickle(tmp_path / "pretrained", tmp_path / "safe") == 4
    info = inspect(tmp_path / "safe", base=checkpoint, tower=clip)
    assert torch.equal(
        tensors_of(info)["projector.layers.0.weight"], projector["model.mm_projector.0.weight"]
    )


def test_adapters_are_merged_into_their_base(tmp_path):
    checkpoint, clip = without_tower(tmp_path)
    adapter = tmp_path / "lora"
    beside = projector_alone(tmp_path, adapter, prefix="base_model.model.")
    save_file(beside, adapter / "non_lora_trainables.safetensors")
    layer = "base_model.model.model.layers.1.self_attn.q_proj"
    a, b = torch.randn(4, 32), torch.randn(32, 4)
    save_file({f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b},
              adapter / "adapter_model.safetensors")  # fmt: skip
    config = {"r": 4, "lora_alpha": 8, "bias": "none"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="holds LoRA adapters alone"):
        inspect(adapter)
    info = inspect(adapter, base=checkpoint, tower=clip)
    convert(info, tmp_path / "merged", layout="onevision", tokenizer=llama())
    whole = tensors_of(inspect(tmp_path / "ours"))
    found = tensors_of(inspect(tmp_path / "merged"))
    name = "language_model.blocks.1.attention.query.weight"
    assert torch.allclose(found[name], whole[name] + 2 * b @ a, atol=1e-6)
    assert torch.equal(found["projector.layers.1.bias"], whole["projector.layers.1.bias"] + 1)
    changed = {n for n in whole if not torch.equal(whole[n], found[n])}
    assert changed == {name, *(n for n in whole if n.startswith("projector"))}
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(
        CheckpointError, match="use_dora is true, but .* has no lora_magnitude_vector"
    ):
        inspect(adapter, base=checkpoint, tower=clip)


def test_a_whole_pickled_model_becomes_shards(tmp_path):
    checkpoint, clip = without_tower(tmp_path)
    tensors = load_file(checkpoint / "model.safetensors")
    names = sorted(tensors)
    (checkpoint / "model.safetensors").unlink()
    for number, some in enumerate((names[:5], names[5:]), start=1):
        part = {name: tensors[name] for name in some}
        torch.save(part, checkpoint / f"pytorch_model-{number:05}-of-00002.bin")
    (checkpoint / "pytorch_model.bin.index.json").write_text("{}")
    assert unpickle(checkpoint, tmp_path / "safe") == len(names)
    assert not (tmp_path / "safe" / "pytorch_model.bin.index.json").exists()
    assert same(inspect(tmp_path / "safe", tower=clip), inspect(tmp_path / "ours"))


class Harm:
    def __reduce__(self):
        return (print, ("harm",))


@pytest.mark.parametrize("content", [{"a": Harm()}, Harm(), [1], b"no pickle"])
def test_what_is_not_weights_alone_is_refused_and_never_run(tmp_path, capsys, content):
    path = tmp_path / "pytorch_model.bin"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: "):
        unpickle(tmp_path, tmp_path / "safe")
    assert "harm" not in capsys.readouterr().out
    assert not (tmp_path / "safe").exists()


def test_a_full_vocabulary_gets_rows_for_transformers(tmp_path):
    size = llama().size
    config = replace(LLAVA_1_5, language=replace(LLAVA_1_5.language, vocab_size=size))
    before = inspect(saved(tmp_path / "ours", config))
    convert(before, tmp_path / "hf", layout="llava-hf")
    after = inspect(tmp_path / "hf")
    rows = after.config.language.vocab_size
    assert rows % 64 == 0
    assert size + 2 <= rows < size + 2 + 64
    for name, tensor in tensors_of(after).items():
        kept = tensors_of(before)[name]
        assert torch.equal(tensor[: len(kept)], kept)
        assert not tensor[len(kept) :].any()


@pytest.mark.parametrize(
    ("template", "controls", "architecture"),
    [
        ("vicuna_v1", (), "LlavaLlamaForCausalLM"),
        ("mistral_instruct", (), "LlavaMistralForCausalLM"),
        ("llava_llama_3", LLAMA_3, "LlavaLlamaForCausalLM"),
        ("chatml_direct", CHATML, "LlavaLlamaForCausalLM"),
    ],
)
def test_the_format_is_told_by_files_not_by_names(tmp_path, template, controls, architecture):
    info = inspect(saved(tmp_path / "ours", LLAVA_1_5))
    convert(info, tmp_path / "a", layout="lmms-lab")
    path = tmp_path / "a" / "config.json"
    values = json.loads(path.read_text()) | {"architectures": [architecture]}
    del values["conversation_template"]
    path.write_text(json.dumps(values))
    (tmp_path / "a" / "tokenizer.json").write_text(llama(controls=controls).definition)
    assert inspect(tmp_path / "a").config.inputs.template == template


def test_a_format_can_be_named(tmp_path):
    info = inspect(saved(tmp_path / "ours", LLAVA_1_5))
    for layout in ("onevision", "lmms-lab", "llava-hf"):
        convert(info, tmp_path / layout, layout=layout, template="llava_v0")
        assert inspect(tmp_path / layout).config.inputs.template == "llava_v0"


def test_llama_3_ends_a_turn_where_its_files_forget_to(tmp_path):
    tokenizer = llama(controls=LLAMA_3)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    assert load_generation(tmp_path, tokenizer).end_ids == (2, tokenizer.id_of("<|eot_id|>"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mm_projector_type": "linear"}, "mm_projector_type is 'linear', the tensors are those"),
        ({"mm_hidden_size": 99}, "mm_hidden_size is 99, tensors say 16"),
        ({"mm_vision_select_layer": -9}, "mm_vision_select_layer is -9; expected one layer of 3"),
        ({"mm_vision_select_feature": "cls_patch"}, "is 'cls_patch', which uses CLIP's class"),
        ({"mm_patch_merge_type": "unires"}, "mm_patch_merge_type 'unires' is not supported"),
        ({"image_aspect_ratio": "crop_split"}, "image mode 'crop_split' .* supported are square"),
        ({"architectures": ["LlavaMptForCausalLM"]}, "is 'LlavaMptForCausalLM'; supported are"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "rope_type is 'dynamic'; supported"),
        ({"conversation_template": "v9"}, "conversation_template is 'v9'; expected one of plain"),
        ({"mm_resampler_type": "qformer"}, "mm_resampler_type is 'qformer'; supported are None"),
    ],
)
def test_what_is_not_understood_is_refused_by_key(tmp_path, changes, message):
    convert(inspect(saved(tmp_path / "ours", LLAVA_1_5)), tmp_path / "a", layout="lmms-lab")
    path = tmp_path / "a" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        inspect(tmp_path / "a")


def test_a_gathered_model_runs(tmp_path):
    checkpoint, clip = without_tower(tmp_path)
    network = load_network(inspect(checkpoint, tower=clip))
    features = network.vision_encoder(torch.randn(1, 3, 56, 56))
    assert network.projector(features).shape == (1, 16, 32)
