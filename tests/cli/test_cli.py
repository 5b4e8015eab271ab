import json
import subprocess
import sys

import pytest
import torch
from PIL import Image as PIL
from safetensors.torch import load_file

import onevision
from onevision.cli.chat import split_paths
from onevision.cli.options import parse_size
from onevision.errors import InputError
from tests.checkpoint.test_family import without_tower
from tests.cli.conftest import run


@pytest.fixture
def image(tmp_path):
    PIL.new("RGB", (98, 98), "white").save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_help_does_not_import_torch():
    code = "import sys; from onevision.cli import app; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
    done = run("--help")
    assert done.returncode == 0
    for command in ("ask", "chat", "explain", "convert", "models"):
        assert command in done.stdout


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"onevision {onevision.__version__}\n")


def test_importing_the_package_does_nothing():
    code = "import sys, onevision; print([m for m in ('torch', 'PIL', 'av') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_ask(image):
    done = run("ask", "What colour is the background?", "--image", image)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "white"


def test_ask_for_machines(image):
    done = run("ask", "How many objects are there?", "-i", image, "-i", image, "--json")
    answer = json.loads(done.stdout)
    assert answer["finish_reason"] == "stop"
    assert answer["usage"]["image_tokens"] == 100
    assert answer["usage"]["total_tokens"] == sum(
        answer["usage"][k] for k in ("text_tokens", "image_tokens", "completion_tokens")
    )


def test_explain(image, tmp_path):
    done = run("explain", image, "--size", "1920x1080", "--output", tmp_path / "layout.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert "7,269 visual tokens from 16 crops" in done.stdout
    with PIL.open(tmp_path / "layout.png") as drawn:
        assert drawn.format == "PNG"
    assert (tmp_path / "layout-2.png").is_file()
    (values,) = json.loads(run("explain", "--size", "98x98", "--model", "tiny", "--json").stdout)
    assert (values["num_tokens"], values["layout"]["cols"]) == (49 + 56, 1)


def test_convert_and_ask_again(image, tmp_path):
    done = run("convert", "tiny", tmp_path / "hf", "--layout", "llava-hf")
    assert (done.returncode, done.stderr) == (0, "")
    question = ("ask", "What colour is the background?", "--image", image)
    assert run(*question, "--model", tmp_path / "hf").stdout == run(*question).stdout


def test_parts_and_pickles_become_a_checkpoint(tmp_path):
    checkpoint, clip = without_tower(tmp_path)
    done = run("convert", checkpoint, tmp_path / "out", "--layout", "onevision")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "--vision-tower DIR" in done.stderr
    tensors = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    torch.save(tensors, checkpoint / "pytorch_model.bin")
    done = run("unpickle", checkpoint, tmp_path / "safe")
    assert f"{len(tensors)} tensors" in done.stdout
    done = run(
        "convert", tmp_path / "safe", tmp_path / "out", "--layout", "onevision",
        "--vision-tower", clip, "--template", "llava_v0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"template": "llava_v0"' in (tmp_path / "out" / "config.json").read_text()


def test_models():
    done = run("models")
    assert done.returncode == 0
    for word in (
        *("tiny", "0.5b", "8,765", "lmms-lab/llava-onevision-qwen2-7b-ov"),
        *("llava-next-34b", "2,928", "Llama 2 Community", "llava-hf/llava-1.5-7b-hf"),
    ):
        assert word in done.stdout


def test_chat(image):
    done = run("chat", stdin=f"{image}\nWhat colour is the background?\n/clear\n/nonsense\n/exit\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "attached: a.png" in done.stdout
    assert "white" in done.stdout
    assert "a new conversation" in done.stdout
    assert "/attach FILE" in done.stdout


def test_chat_survives_a_bad_file(tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    done = run("chat", stdin=f"{tmp_path / 'bad.png'} What is this?\nHow many?\n")
    assert done.returncode == 0
    assert "not an image" in done.stdout
    assert "tokens in" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ask", "Hi", "--image", "missing.png"), "missing.png: no such file"),
        (("ask", "Hi", "--video", "missing.mp4"), "missing.mp4: no such file"),
        (("ask", "Hi", "--model", "nosuch"), "no model 'nosuch'"),
        (("ask", " "), "the question is empty"),
        (("ask", "Hi", "--temperature", "-1"), "temperature is -1"),
        (("explain",), "nothing to explain"),
        (("explain", "--size", "big"), "not WIDTHxHEIGHT"),
        (("explain", "--size", "0x5"), "0 x 5 pixels is empty"),
        (("convert", "tiny", "out", "--layout", "gguf"), "no layout 'gguf'"),
        (
            ("convert", "tiny", "out", "--layout", "onevision", "--template", "v9"),
            "--template is 'v9'; expected one of plain, qwen_1_5",
        ),
        (("unpickle", "missing", "out"), "missing: no pickled weights"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_dropped_files_are_understood(tmp_path):
    spaced = tmp_path / "my picture.png"
    spaced.write_bytes(b"")
    for written in (f"'{spaced}'", str(spaced).replace(" ", "\\ "), f"'file://{spaced}'"):
        assert split_paths(f"{written} What is this?") == ([str(spaced)], "What is this?")
    assert split_paths("What's this?") == ([], "What's this?")
    assert split_paths("no file here") == ([], "no file here")


def test_sizes():
    assert parse_size("1920x1080") == (1920, 1080)
    with pytest.raises(InputError):
        parse_size("1920")
