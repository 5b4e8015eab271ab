"""`onevision finetune --method qlora`: in how many bits the weights below adapters are held."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from onevision.known_models import ARCHITECTURES
from onevision.train.config import read_train_config
from onevision.train.cost.amounts import Amount
from onevision.train.cost.devices import GIB, get_device_kind
from onevision.train.finetune.choose import Work, choose
from onevision.train.finetune.request import FinetuneRequest
from tests.train.conftest import write_checkpoint
from tests.train.runs import MICRO
from tests.train.test_finetune import call, finetune, write_tiles

PICTURE = Amount(
    name="mine", scenario="single_image", num_samples=1000, num_crops=5, visual_tokens=3000,
    text_tokens=200, labelled_tokens=100, vision_pairs=5 * 729**2, pairs=3200**2 / 2,
)  # fmt: skip


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    return write_checkpoint(tmp_path / "base", MICRO, dtype=torch.bfloat16, std=0.4)


def test_an_adapter_learned_over_4_bits_answers_on_the_plain_model(base, tmp_path):
    data, out = write_tiles(tmp_path / "data", 8), tmp_path / "out"
    told = (data, "--from", base, "-o", out, "--method", "qlora", "--bits", "4")
    said = finetune(*told, "--epochs", "1", "--held-out", "none")
    assert "qlora: adapters of rank 16 on the language model over int4 weights" in said
    assert read_train_config(out / "settings.json").options.lora_base == "int4"
    asked = ("ask", "Which code has the tile?", "--image", tmp_path / "data" / "1.png")
    told = ("--max-new-tokens", "4")
    answers = {
        call(*asked, "--model", base, "--adapter", out / "adapter", *told, settings=()),
        call(*asked, "--model", out / "checkpoint", *told, settings=()),
    }
    assert len(answers) == 1 and answers.pop().strip()


def choose_7b(*, gib, **told):
    """Choose for pictures and the published 7B model on a device of so many GiB."""
    kind = replace(get_device_kind("rtx4090"), memory_bytes=int(gib * GIB))
    lengths = np.full(1000, 3200)
    target = ARCHITECTURES["7b"]
    work = Work(target=target, amounts=[PICTURE], lengths=lengths, kind=kind, device="cpu")
    return choose(FinetuneRequest(data="mine.json", **told), work)


def test_4_bits_are_taken_where_8_do_not_fit():
    wide, narrow = choose_7b(gib=24), choose_7b(gib=18)
    assert (wide.options.lora_base, narrow.options.lora_base) == ("int8", "int4")
    assert "(adapters over full weights do not fit)" in wide.reasons[0]
    assert "(adapters over full or int8 weights do not fit)" in narrow.reasons[0]
    asked = choose_7b(gib=18, method="qlora")
    assert asked.options == narrow.options
    assert asked.reasons[0].endswith("as asked; over int8 weights they do not fit")
    assert choose_7b(gib=24, method="qlora", bits=4).options.lora_base == "int4"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--bits", "3", "--method", "qlora"), "--bits is 3; expected 8 or 4"),
        (("--bits", "4"), "--bits is for --method qlora, and this is --method auto"),
        (
            ("--bits", "4", "--method", "qlora", "--set", "lora_base=int8"),
            "--bits 4 says how weights are stored, and so does --set lora_base=int8; drop one",
        ),
    ],
)
def test_bits_that_contradict_are_refused(tmp_path, more, said):
    text = finetune(tmp_path / "tiles.json", "-o", tmp_path / "out", *more, settings=(), code=1)
    assert said in text.partition("error: ")[2]
