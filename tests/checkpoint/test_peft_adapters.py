"""Adapters that PEFT trained on transformers' LlavaOnevision, and what they make of our network."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from onevision import Image, Text, load
from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect
from onevision.checkpoint.names import LLAVA_HF, LLAVA_HF_4_52, LLAVA_HF_5_6
from onevision.checkpoint.save import convert
from onevision.checkpoint.unpickle import unpickle
from onevision.errors import CheckpointError, ModelNotFoundError
from tests.cli.conftest import run
from tests.conftest import randomise
from tests.parity.test_transformers import IMAGE_ID, VIDEO_ID, their_arguments, user

pytestmark = pytest.mark.filterwarnings("ignore")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

LANGUAGE = r".*language_model.*\.(q_proj|k_proj|up_proj)"
KINDS = {
    "q and v": {"target_modules": ["q_proj", "v_proj"]},
    "all linear": {"target_modules": "all-linear"},
    "patterns": {
        "target_modules": ["q_proj", "v_proj", "down_proj"],
        "rank_pattern": {"down_proj": 2, r"layers\.1\.self_attn\.q_proj": 6},
        "alpha_pattern": {"v_proj": 32},
    },
    "rslora": {"target_modules": LANGUAGE, "use_rslora": True},
    "dora": {"target_modules": ["q_proj", "v_proj", "fc1"], "use_dora": True},
    "dora, rslora": {"target_modules": LANGUAGE, "use_dora": True, "use_rslora": True},
    "saved whole": {"target_modules": LANGUAGE, "modules_to_save": ["multi_modal_projector"]},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "head": {"target_modules": ["lm_head", "q_proj"]},
    "head whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "convolution": {"target_modules": ["patch_embedding", "position_embedding"]},
    "biases": {"target_modules": ["q_proj"], "lora_bias": True},
}


def build_theirs(*, rows=4200, image_id=IMAGE_ID, video_id=VIDEO_ID):
    """transformers' model with crops of 4 x 4 patches, and so many words."""
    config = transformers.LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": rows,
            "tie_word_embeddings": True,
        },
        image_grid_pinpoints=[[56, 56], [56, 112], [112, 56]],
        image_token_index=image_id,
        video_token_index=video_id,
        tie_word_embeddings=True,
    )
    return randomise(transformers.LlavaOnevisionForConditionalGeneration(config))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("base")
    build_theirs().save_pretrained(path)
    (path / "tokenizer.json").write_bytes((BUNDLED["tiny"] / "tokenizer.json").read_bytes())
    return path


@pytest.fixture(scope="module")
def base(directory):
    return load(directory, dtype="float32")


@pytest.fixture(scope="module")
def inputs(base, picture):
    return base.processor(user(Image(picture(90, 60)), Text("What?")))


def train(directory, kind):
    """An adapter as PEFT saves it, of numbers that all matter; returns PEFT's model."""
    torch.manual_seed(3)
    config = peft.LoraConfig(r=4, lora_alpha=8, **KINDS[kind])
    model = peft.get_peft_model(build_theirs(), config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape) * ("magnitude" not in name))
                parameter.mul_(1.2 if "magnitude" in name else 1)
    model.save_pretrained(directory)
    return model


@torch.no_grad()
def distance(theirs, ours, inputs):
    expected = theirs(**their_arguments(inputs, [1])).logits
    return float((ours.network(inputs) - expected).abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_peft(directory, base, inputs, tmp_path, kind):
    theirs = train(tmp_path, kind)
    assert distance(theirs, base, inputs) > 1e-3
    assert distance(theirs, load(directory, dtype="float32", adapter=tmp_path), inputs) <= 1e-4


@pytest.mark.parametrize("layout", ["llava-hf", "lmms-lab", "onevision"])
def test_merged_weights_are_those_of_peft(directory, tmp_path, layout):
    kind = {"llava-hf": "all linear", "lmms-lab": "dora", "onevision": "saved whole"}[layout]
    theirs = train(tmp_path / "adapter", kind).merge_and_unload().state_dict()
    convert(inspect(directory, adapter=tmp_path / "adapter"), tmp_path / "out", layout=layout)
    info = inspect(tmp_path / "out")
    assert info.layout == layout
    for name, tensor in info.tensors.items():
        expected = theirs[LLAVA_HF_5_6.translate(name)]
        torch.testing.assert_close(tensor.read(), expected, atol=1e-6, rtol=1e-6)


def test_convert_merges_in_the_layout_of_the_base(directory, tmp_path):
    train(tmp_path / "adapter", "all linear")
    done = run("convert", "--base", directory, tmp_path / "adapter", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert re.search(r"out: \d+ tensors, llava-hf -> llava-hf, .*adapter merged", done.stdout)
    merged, expected = inspect(tmp_path / "out"), inspect(directory, adapter=tmp_path / "adapter")
    assert all(torch.equal(t.read(), merged.tensors[n].read()) for n, t in expected.tensors.items())


@pytest.mark.parametrize("names", [LLAVA_HF, LLAVA_HF_4_52], ids=["4.40", "4.52"])
def test_names_of_older_transformers_are_found(directory, tmp_path, names):
    train(tmp_path / "new", "q and v")
    inverse = {
        LLAVA_HF_5_6.translate(name).removesuffix(".weight"): name.removesuffix(".weight")
        for name in inspect(directory).tensors
    }
    renamed = {}
    for key, tensor in load_file(tmp_path / "new" / "adapter_model.safetensors").items():
        module, _, rest = key.removeprefix("base_model.model.").partition(".lora_")
        old = names.translate(f"{inverse[module]}.weight").removesuffix(".weight")
        renamed[f"base_model.model.{old}.lora_{rest}"] = tensor
    (tmp_path / "old").mkdir()
    save_file(renamed, tmp_path / "old" / "adapter_model.safetensors")
    config = (tmp_path / "new" / "adapter_config.json").read_text()
    (tmp_path / "old" / "adapter_config.json").write_text(config)
    new, old = (inspect(directory, adapter=tmp_path / n).tensors for n in ("new", "old"))
    changed = [name for name in new if new[name].change is not None]
    assert len(changed) == 2 * (2 + 2)
    assert all(torch.equal(new[name].read(), old[name].read()) for name in changed)


def test_the_bases_type_is_kept(directory, tmp_path):
    base = tmp_path / "bf16"
    build_theirs().to(torch.bfloat16).save_pretrained(base)
    (base / "tokenizer.json").write_bytes((directory / "tokenizer.json").read_bytes())
    train(tmp_path / "adapter", "saved whole")
    info = inspect(base, adapter=tmp_path / "adapter")
    assert {tensor.read().dtype for tensor in info.tensors.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (peft.IA3Config(target_modules=["q_proj"]), "'IA3'; only 'LORA' is .*: merge it with PEFT"),
        (peft.LoHaConfig(target_modules=["q_proj"]), "'LOHA'; only 'LORA' is supported"),
        (peft.PromptTuningConfig(num_virtual_tokens=4), "'PROMPT_TUNING'.* changes no weights"),
        (peft.LoraConfig(init_lora_weights="olora"), "'olora', which changes the base too"),
        (peft.LoraConfig(layer_replication=[(0, 2), (1, 2)]), "layer_replication is .* a variant"),
        (peft.LoraConfig(bias="all"), "bias is all, a variant of LoRA that is not supported"),
    ],
)
def test_other_methods_are_refused_by_name(directory, tmp_path, config, message):
    config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load(directory, adapter=tmp_path)


def test_another_base_is_one_clear_line(directory, tmp_path):
    train(tmp_path, "q and v")
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "a/b"}))
    done = run("ask", "Hi", "--model", "tiny", "--adapter", tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "do not fit" in done.stderr or "which the base lacks" in done.stderr
    assert "give the model that it was trained on, by its own word 'a/b'" in done.stderr


def test_an_adapter_alone_and_a_missing_one_say_what_to_give(directory, tmp_path):
    train(tmp_path / "mine", "q and v")
    with pytest.raises(CheckpointError, match=r"holds LoRA adapters alone; .* --adapter .*mine"):
        load(tmp_path / "mine")
    with pytest.raises(ModelNotFoundError, match="there is no such directory; expected"):
        load(directory, adapter=tmp_path / "other")
    with pytest.raises(ModelNotFoundError, match=r"holds none; expected a directory with adapter"):
        load(directory, adapter=directory)
    (tmp_path / "mine" / "adapter_model.safetensors").rename(tmp_path / "mine/adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"adapter_model\.bin: pickled .*onevision unpickle"):
        load(directory, adapter=tmp_path / "mine")


def test_the_references_own_lora_directory_goes_through_unpickle(directory, tmp_path):
    """What LLaVA-NeXT's training leaves: adapters, the projector as a pickle, trainer's state."""
    theirs = train(tmp_path / "lora", "q and v")
    projector = {
        f"base_model.model.model.mm_projector.{2 * n}.{kind}": torch.full_like(tensor, 0.01)
        for n in range(2)
        for kind, tensor in getattr(
            theirs.get_base_model().model.multi_modal_projector, f"linear_{n + 1}"
        ).state_dict().items()
    }  # fmt: skip
    torch.save(projector, tmp_path / "lora" / "non_lora_trainables.bin")
    torch.save({"lr": object}, tmp_path / "lora" / "training_args.bin")
    (tmp_path / "lora" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"non_lora_trainables\.bin: .*onevision unpickle"):
        load(directory, adapter=tmp_path / "lora")
    assert unpickle(tmp_path / "lora", tmp_path / "safe") == 4
    changed = {
        name: tensor.read()
        for name, tensor in inspect(directory, adapter=tmp_path / "safe").tensors.items()
        if tensor.change is not None
    }
    assert len(changed) == 4 + 2 * (2 + 2)
    whole = [t for name, t in changed.items() if name.startswith("projector.")]
    assert len(whole) == 4 and all((t == 0.01).all() for t in whole)
