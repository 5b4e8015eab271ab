"""Fine-tuning of embeddings with the released numbers of rows, and of added tokens."""

import json
from dataclasses import replace

import pytest
import torch

from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert, save
from onevision.inputs.tokenizer import Tokenizer
from onevision.known_models import ONEVISION_0_5B
from onevision.model.llava import LlavaNetwork
from tests.train.runs import MICRO
from tests.train.test_finetune import finetune, write_tiles

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("layout", "rows"),
    [("lmms-lab", 151_936), ("llava-hf", 152_000), ("llava-hf", 152_064)],
)
def test_a_padded_vocabulary_keeps_its_rows(real_data, tmp_path, monkeypatch, layout, rows):
    """151,647 tokens of Qwen2 in embeddings of 0.5B, of llava-hf, and of 7B."""
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    start = write_start(tmp_path, real_data, layout=layout, rows=rows)
    data = write_tiles(tmp_path / "data", 8)
    more = ("--epochs", "1", "--held-out", "none")
    finetune(data, "--from", start, "-o", tmp_path / "out", *more)
    before, after = (inspect(one) for one in (start, tmp_path / "out" / "checkpoint"))
    assert after.config.language.vocab_size == before.config.language.vocab_size == rows


def test_an_added_token_is_learned_as_one(real_data, tmp_path, monkeypatch):
    """An answer of an added plain token is two labels: the token, and the end of the answer."""
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))

    def point(records):
        for record in records:
            record["conversations"][1]["value"] = "<loc_1>"

    start = write_start(tmp_path, real_data, layout="llava-hf", rows=152_000, add="<loc_1>")
    data = write_tiles(tmp_path / "data", 8, spoil=point)
    more = ("--epochs", "1", "--held-out", "none")
    finetune(data, "--from", start, "-o", tmp_path / "out", *more)
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["supervised_tokens"] for line in lines) == 2 * 8


def write_start(tmp_path, real_data, *, layout, rows, add=None):
    """Write random weights of toy widths with Qwen2's tokenizer; returns the directory."""
    definition = json.loads((real_data / "tokenizer" / "tokenizer.json").read_text())
    if add is not None:
        last = definition["added_tokens"][-1]
        more = {"id": last["id"] + 1, "content": add, "special": False}
        definition["added_tokens"].append(last | more)
    config = replace(
        MICRO,
        language=replace(MICRO.language, vocab_size=rows),
        inputs=replace(MICRO.inputs, image_token_id=ONEVISION_0_5B.inputs.image_token_id),
    )
    torch.manual_seed(0)
    network = LlavaNetwork(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save(network, config, Tokenizer(json.dumps(definition)), tmp_path / "ours")
    convert(inspect(tmp_path / "ours"), tmp_path / "start", layout=layout)
    return tmp_path / "start"
