"""A directory of a released language model, without any vision encoder, answers text."""

import json

import httpx2
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from onevision import load
from onevision.checkpoint.hub import BUNDLED
from onevision.errors import CheckpointError, InputError
from tests.curate.conftest import run
from tests.serve.conftest import KEY, bearer, start, stop


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A random LLaMA of transformers with the tokenizer of tiny."""
    path = tmp_path_factory.mktemp("llama")
    tokenizer = (BUNDLED["tiny"] / "tokenizer.json").read_text()
    (path / "tokenizer.json").write_text(tokenizer)
    rows = max(one["id"] for one in json.loads(tokenizer)["added_tokens"]) + 1
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=max(rows, len(json.loads(tokenizer)["model"]["vocab"])) + 3, hidden_size=32,
        intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def test_logits_are_those_of_transformers(directory):
    model = load(directory)
    ids = torch.arange(5, 25)[None]
    ours = model.network.head(model.network.run(model.network.language_model.embedding(ids)))
    with torch.inference_mode():
        theirs = LlamaForCausalLM.from_pretrained(directory)(ids).logits
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_it_answers_text_by_its_chat_format_and_refuses_pictures(directory, tmp_path):
    assert load(directory).ask("Hello", max_new_tokens=3).usage.completion_tokens <= 3
    with pytest.raises(InputError, match="a language model without a vision encoder; give it text"):
        load(directory).ask("Hello", images=[torch.zeros(3, 8, 8, dtype=torch.uint8)])
    found = run("ask", "Hello", "--model", directory, "--max-new-tokens", 2)
    assert found.returncode == 0, found.stderr


def test_commands_that_need_an_encoder_say_what_it_is(directory):
    found = run("models", directory)
    assert found.returncode == 1
    assert "a language model alone, without a vision encoder" in found.stderr


def test_weights_that_the_network_lacks_are_no_part_of_an_answer(directory, tmp_path):
    """An unused tensor would be a wrong answer without a word, a depth of a billion a wait."""
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    extra = {"model.layers.0.self_attn.o_proj.bias": torch.ones(32)}
    save_file(tensors | extra, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"0 missing tensors, 1 unexpected \(.*o_proj.bias"):
        load(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 10**9}))
    with pytest.raises(CheckpointError):
        load(tmp_path)


def test_a_server_says_that_it_reads_text_alone(directory, tmp_path):
    running = start(tmp_path, "--model", str(directory), "--name", "words", key=KEY)
    try:
        (card,) = httpx2.get(f"{running.url}/v1/models", headers=bearer()).json()["data"]
        assert card["modalities"] == ["text"]
    finally:
        assert stop(running) == 0


def test_an_unknown_chat_format_is_named(directory, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    text = (directory / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace("im_start", "other"))
    with pytest.raises(CheckpointError, match="its chat format is unknown"):
        load(tmp_path)


def test_it_writes_instruction_data_in_this_process(directory, tmp_path):
    """What a random model says breaks a rule; each reply is kept in the provenance."""
    (tmp_path / "a.png").write_bytes(_png())
    line = {"image": "a.png", "captions": ["A red square."]}
    (tmp_path / "captions.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "prompts").mkdir()
    prompt = "system: Talk.\ntemperature: 0.7\nmax_tokens: 8\n"
    (tmp_path / "prompts" / "conversation.yaml").write_text(prompt)
    found = run("curate", "instruct", tmp_path / "captions.jsonl", "-o", tmp_path / "out",
                "--writer", directory, "--kinds", "conversation",
                "--prompts", tmp_path / "prompts")  # fmt: skip
    assert found.returncode == 0, found.stderr
    (made,) = (tmp_path / "out" / "provenance.jsonl").read_text().splitlines()
    assert len(json.loads(made)["replies"]) == 2  # a bad reply is asked for once more


def _png():
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()
