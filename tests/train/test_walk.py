"""From records in a JSON file to a checkpoint that learns from them, through the command."""

import json

from onevision.checkpoint.hub import BUNDLED
from onevision.conversation import Conversation, Image, Message, Text
from onevision.generate.answer import load
from onevision.train.snapshots import find_damage, snapshots
from tests.cli.conftest import run as command
from tests.train.runs import lines

QUESTION, ANSWER = "What is this?", "a purple teapot"


def write_mixture(directory, picture):
    """Write eight pictures with an answer the model does not expect, and their mixture."""
    records = []
    for number in range(8):
        picture(60 + 10 * number, 50, seed=number).save(directory / f"{number}.png")
        talk = [
            {"from": "human", "value": f"<image>\n{QUESTION}"},
            {"from": "gpt", "value": ANSWER},
        ]
        records.append({"id": str(number), "image": f"{number}.png", "conversations": talk})
    (directory / "teapots.json").write_text(json.dumps(records))
    (directory / "mixture.yaml").write_text("datasets:\n  - json_path: teapots.json\n")
    return directory / "mixture.yaml"


def test_records_become_a_checkpoint_that_answers(tmp_path, picture, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    output = tmp_path / "run"
    done = command(
        *("train", "knowledge", "--from", BUNDLED["tiny"], "--output", output),
        *("--mixture", write_mixture(tmp_path, picture)),
        *("--set", "epochs=4", "--set", "global_batch=4", "--set", "max_tokens=300"),
        *("--set", "precision=fp32", "--set", "num_workers=0", "--set", "save_steps=4"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"wrote {output / 'checkpoint'}"
    told = lines(output)
    assert told[-1]["samples"] == 4 * 8
    assert {name for line in told for name in line["loss_per_source"]} == {"teapots.json"}
    trained = [line for line in told if line["supervised_tokens"]]
    assert trained[-1]["loss"] < 0.8 * trained[0]["loss"]
    assert [find_damage(path) for path in snapshots(output)] == [None, None]
    talk = Conversation([Message("user", [Image(picture(70, 50, seed=99)), Text(QUESTION)])])
    assert load(output / "checkpoint").ask(talk, max_new_tokens=8).text
