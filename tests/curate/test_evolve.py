"""Prompts that are rewritten in rounds, eliminated by rule, and answered."""

import json

import pytest

from onevision.curate.evolve import find_elimination
from tests.curate.conftest import lines, records, run
from tests.eval.judge_server import serve

PROMPTS = ["Name a river.", "Add two and three.", "Write a haiku on snow."]


def write_prompts(directory):
    path = directory / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in PROMPTS))
    return path


def rewrites(body):
    """Lengthen the request, fail to change the one on rivers, and answer the rest."""
    system, query = body["messages"][0]["content"], body["messages"][-1]["content"]
    if "You are a helpful assistant" in system:
        return f"An answer to {query}", "stop"
    request = query.rpartition("The request:\n")[2]
    return (request if "river" in request else f"{request} Give a reason."), "stop"


def evolve(path, output, server, *more):
    return run("curate", "evolve", path, "-o", output, "--writer", server.url, *more)


def test_two_rounds_and_answers(tmp_path):
    output = tmp_path / "out"
    with serve(str, models=["rules"], writes=rewrites) as server:
        found = evolve(write_prompts(tmp_path), output, server, "--rounds", 2)
        assert (found.returncode, found.stderr) == (0, "")
        num_asked = len(server.requests)
        evolve(tmp_path / "prompts.jsonl", output, server, "--rounds", 2)
        assert len(server.requests) == num_asked
    assert "evolve-1: 2 rewritten, 1 eliminated" in found.stdout
    asked = [one["conversations"][0]["value"] for one in records(output)]
    assert asked == [
        "Add two and three. Give a reason.",
        "Write a haiku on snow. Give a reason.",
        "Add two and three. Give a reason. Give a reason.",
        "Write a haiku on snow. Give a reason. Give a reason.",
    ]
    (eliminated, *_) = lines(output / "round-1" / "provenance.jsonl")
    assert eliminated["reason"] == "unchanged" and len(eliminated["replies"]) == 2
    checked = run("data", "check", output / "records.json")
    assert "4 samples, nothing to fix" in checked.stdout


def test_without_rounds_the_prompts_are_answered_as_they_are(tmp_path):
    output = tmp_path / "out"
    with serve(str, models=["rules"], writes=rewrites) as server:
        found = evolve(write_prompts(tmp_path), output, server, "--rounds", 0)
    assert (found.returncode, found.stderr) == (0, "")
    talks = [[turn["value"] for turn in one["conversations"]] for one in records(output)]
    assert talks == [[prompt, f"An answer to {prompt}"] for prompt in PROMPTS]


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("Name a river.", "Name a river in Asia.", None),
        ("Name a river.", "name a river", "unchanged"),
        ("Name a river.", " ?! ", "empty"),
        ("Name a river.", "I'm sorry, I cannot help.", "refusal"),
        ("Name a river.", "Here is the rewritten prompt: name it.", "speaks about itself"),
        ("Rewrite the given prompt.", "Rewrite the given prompt twice.", None),
    ],
)
def test_elimination(before, after, fault):
    assert find_elimination(before, after, finish_reason="stop") == fault


def test_a_record_without_a_prompt(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"question": "x"}\n')
    with serve(str, models=["rules"]) as server:
        found = evolve(path, tmp_path / "out", server)
    assert found.returncode == 1 and "p.jsonl, row 0: no prompt" in found.stderr
    assert found.stderr.count("\n") == 1
