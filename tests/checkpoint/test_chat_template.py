"""What transformers renders and reads of the directories that we write for it."""

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from onevision import Conversation, Image, Message, Text, load
from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert
from onevision.checkpoint.write_files import chat_template
from onevision.inputs.chat import render_text
from onevision.inputs.templates import TEMPLATES
from onevision.inputs.tokenizer import IMAGE_PAD
from tests.checkpoint.test_family import FAMILY, LLAVA_1_5, saved, with_inputs

pytestmark = pytest.mark.filterwarnings("ignore")
transformers = pytest.importorskip("transformers")

TALKS = [
    [("user", "<image>"), ("assistant", "A1"), ("user", " Q2 ")],
    [("system", "Be brief."), ("user", "<image>"), ("assistant", "A1"), ("user", "Q2")],
    [("user", "Q1"), ("assistant", "A1")],
]


def ours(turns):
    parts = {"<image>": [Image("a.png"), Text("Hi")]}
    return Conversation([Message(role, parts.get(words, words)) for role, words in turns])


def theirs(turns):
    parts = {"<image>": [{"type": "image"}, {"type": "text", "text": "Hi"}]}
    return [{"role": role, "content": parts.get(words, words)} for role, words in turns]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("turns", TALKS)
def test_jinja_renders_what_we_render(template, turns):
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    rendered = environment.from_string(chat_template(template)).render(
        messages=theirs(turns), add_generation_prompt=turns[-1][0] == "user"
    )
    placeholder = IMAGE_PAD if template.startswith("onevision_") else "<image>"
    expected = render_text(ours(turns), template=template).replace("<image>", placeholder)
    assert rendered == expected


@pytest.mark.parametrize(
    ("name", "processor"), [("v1.5", "LlavaProcessor"), ("next", "LlavaNextProcessor")]
)
def test_transformers_loads_the_directory_whole(tmp_path, name, processor, picture):
    config = with_inputs(FAMILY[name], template="vicuna_v1")
    convert(inspect(saved(tmp_path / "ours", config)), tmp_path / "hf", layout="llava-hf")
    found = transformers.AutoProcessor.from_pretrained(tmp_path / "hf")
    assert type(found).__name__ == processor
    image = picture(90, 60)
    prompt = found.apply_chat_template(theirs(TALKS[0]), add_generation_prompt=True)
    batch = found(images=image, text=prompt, return_tensors="pt")
    model = load(tmp_path / "hf", dtype="float32")
    talk = Conversation(
        [
            Message("user", [Image(image), Text("Hi")]),
            Message("assistant", "A1"),
            Message("user", " Q2 "),
        ]
    )
    inputs = model.processor(talk)
    assert batch["input_ids"].tolist() == inputs.input_ids.tolist()
    assert (batch["pixel_values"].flatten() - inputs.pixel_values.flatten()).abs().max() < 0.2
    network = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path / "hf")
    assert LLAVA_1_5.vision.hidden_size == network.config.vision_config.hidden_size
