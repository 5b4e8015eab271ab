"""Model + task -> answers on the disk, whatever comes between."""

import json

import pytest
import torch

from onevision import load
from onevision.conversation import Conversation, Image, Message, Text
from onevision.errors import DataError
from onevision.eval.answers import AnswerFiles
from onevision.eval.assemble import TaskQuestions
from onevision.eval.benchmark import EvalConfig, network_fingerprint, run_task
from onevision.eval.figures import score_answers
from onevision.eval.rows import open_rows
from onevision.eval.task import Case
from tests.eval.conftest import COLOURS, QUESTION, encoded, write_json, write_parquet


def answered(model, task, place, output, **options):
    """Run a task; returns its answers by row."""
    settings = {"name": "micro", "place": str(place), "fingerprint": "f"} | {
        key: options.pop(key) for key in ("fingerprint", "on_progress") if key in options
    }
    run_task(
        model,
        TaskQuestions(open_rows(task, str(place))),
        AnswerFiles(output),
        config=EvalConfig(**options),
        **settings,
    )
    return {line["row"]: line["answer"] for line in AnswerFiles(output).answers()}


def test_answers_are_those_that_the_model_gives_each_question(micro, make_task, colours, tmp_path):
    answers = answered(micro, make_task(), colours, tmp_path / "out", batch_size=4)
    for row in range(4):
        parts = [Image(str(colours / "colours" / f"{row}.png")), Text(QUESTION + " " * row)]
        reply = micro.ask(Conversation([Message("user", parts)]), max_new_tokens=4)
        line = AnswerFiles(tmp_path / "out").answers()[row]
        assert answers[row] == line["answer"] == reply.text
        assert line["tokens_in"] == reply.usage.prompt_tokens
        assert line["item"] == {"question": QUESTION + " " * row, "answer": COLOURS[row]}
        assert line["prompt"] == QUESTION + " " * row
    assert len(set(answers.values())) == 4


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_the_batch_size_changes_nothing(micro, make_task, colours, tmp_path, temperature):
    task = make_task(prompt="Tell me all you see. {question}", temperature=temperature)
    runs = [
        answered(micro, task, colours, tmp_path / str(size), batch_size=size) for size in (1, 3, 4)
    ]
    assert runs[0] == runs[1] == runs[2]
    assert len(set(runs[0].values())) > 1


def test_the_seed_decides_what_is_drawn(micro, make_task, colours, tmp_path):
    task = make_task(prompt="Describe the picture.", temperature=2.0)
    one, again, other = (
        answered(micro, task, colours, tmp_path / name, seed=seed)
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    )
    assert one == again != other


def test_several_images_and_videos_are_asked(micro, make_task, tmp_path):
    row = {"question": "How many images?", "images": [{"bytes": encoded(c)} for c in COLOURS[:2]]}
    write_parquet(tmp_path / "colours" / "test.parquet", [row])
    for number in range(3):
        (tmp_path / "clips" / "clip").mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / "clip" / f"{number}.png").write_bytes(encoded("red"))
    write_json(tmp_path / "clips" / "test.json", [{"question": "What moves?", "video": "clip"}])
    pair = make_task(images=("images",))
    clip = make_task(name="clips", images=(), video=("{video}",), num_frames=4)
    for task, tokens in ((pair, 2 * (16 + 1)), (clip, 4 * 4 + 1)):
        answered(micro, task, tmp_path, tmp_path / "out" / task.name)
        (line,) = AnswerFiles(tmp_path / "out" / task.name).answers()
        assert tokens + 20 < line["tokens_in"] < tokens + 60
        assert line["answer"]
        assert "images" not in line["item"]


def test_a_run_that_was_stopped_goes_on(micro, make_task, colours, tmp_path):
    whole = answered(micro, make_task(), colours, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(done):
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        answered(micro, make_task(), colours, tmp_path / "out", batch_size=2, on_progress=stop)
    path = tmp_path / "out" / "answers.jsonl"
    kept = path.read_bytes()
    assert len(kept.splitlines()) == 2
    with path.open("ab") as file:
        file.write(b'{"row": 2, "answ')  # what a crash leaves
    assert answered(micro, make_task(), colours, tmp_path / "out") == whole
    assert path.read_bytes().startswith(kept)


def test_a_finished_run_asks_nothing(micro, make_task, colours, tmp_path):
    answered(micro, make_task(), colours, tmp_path / "out")
    asked = []
    answered(micro, make_task(), colours, tmp_path / "out", on_progress=asked.append)
    assert asked == []


def test_a_limit_can_be_raised(micro, make_task, colours, tmp_path):
    task = make_task(where={"answer": ("black", "green")})
    assert list(answered(micro, task, colours, tmp_path / "out", limit=1)) == [1]
    assert list(answered(micro, task, colours, tmp_path / "out")) == [1, 3]


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [
        ({"prompt": "Say: {question}"}, {}, "task.prompt: '{question}' -> 'Say: {question}'"),
        ({"max_new_tokens": 9}, {}, "task.max_new_tokens: 4 -> 9"),
        ({}, {"profile": "now"}, "profile: 'p24' -> 'now'"),
        ({}, {"seed": 1}, "seed: 0 -> 1"),
        ({}, {"fingerprint": "g"}, "model.fingerprint: 'f' -> 'g'"),
    ],
)
def test_what_changed_is_refused_and_said(micro, make_task, colours, tmp_path, task, options, said):
    answered(micro, make_task(), colours, tmp_path / "out", limit=1)
    with pytest.raises(DataError) as caught:
        answered(micro, make_task(**task), colours, tmp_path / "out", **options)
    assert said in str(caught.value)
    assert "give another --output" in str(caught.value)


def test_other_data_are_refused(micro, make_task, colours, tmp_path):
    answered(micro, make_task(), colours, tmp_path / "out", limit=1)
    path = colours / "colours" / "test.jsonl"
    path.write_text(path.read_text() + path.read_text())
    with pytest.raises(DataError, match=r"data.bytes"):
        answered(micro, make_task(), colours, tmp_path / "out")


def test_how_it_is_scored_may_change(micro, make_task, colours, tmp_path):
    answered(micro, make_task(), colours, tmp_path / "out", limit=1)
    other = make_task(scorer="heldout", title="Backgrounds", unit="answer")
    answered(micro, other, colours, tmp_path / "out", limit=2)
    assert AnswerFiles(tmp_path / "out").settings()["task"]["scorer"] == "heldout"


def test_more_damaged_rows_than_may_fail_end_the_run_and_the_answers_are_kept(
    micro, make_task, colours, tmp_path
):
    (colours / "colours" / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"test.jsonl, row 3: .*3.png: not an image"):
        answered(micro, make_task(), colours, tmp_path / "out", batch_size=2, max_failed=0.0)
    kept = AnswerFiles(tmp_path / "out").answers()
    assert [line["row"] for line in kept if not line["failure"]] == [0, 1, 2]
    (colours / "colours" / "3.png").write_bytes(encoded("white"))
    answers = answered(micro, make_task(), colours, tmp_path / "out", batch_size=2, max_failed=0.0)
    assert list(answers) == [0, 1, 2, 3]
    assert answers[3]


def damage(path, how):
    """Damage a picture as files are damaged."""
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut off": content[: len(content) // 2], "text": b"no picture"}[how])


@pytest.mark.parametrize("how", ["missing", "cut off", "text"])
def test_a_damaged_picture_is_counted_and_asked_again_once_it_is_mended(
    micro, make_task, colours, tmp_path, how
):
    whole = answered(micro, make_task(), colours, tmp_path / "whole")
    damage(colours / "colours" / "1.png", how)
    answers = answered(micro, make_task(), colours, tmp_path / "out", batch_size=2)
    assert answers == whole | {1: ""}
    files = AnswerFiles(tmp_path / "out")
    (line,) = [line for line in files.answers() if line["failure"]]
    assert line["failure"].startswith(f"{colours}/colours/test.jsonl, row 1")
    result = score_answers(files)
    assert (result.num_answers, result.num_failed) == (4, 1)
    assert result.first_failure == line["failure"]
    size = (tmp_path / "out" / "answers.jsonl").stat().st_size
    answered(micro, make_task(), colours, tmp_path / "out")  # damaged still: nothing new
    assert (tmp_path / "out" / "answers.jsonl").stat().st_size == size
    (colours / "colours" / "1.png").write_bytes(encoded("black", size=(70, 98)))
    assert answered(micro, make_task(), colours, tmp_path / "out") == whole
    assert score_answers(files).num_failed == 0


def test_a_damaged_video_is_counted_too(micro, make_task, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"no video")
    write_json(tmp_path / "clips" / "test.json", [{"question": "?", "answer": "a", "v": "a.mp4"}])
    task = make_task(name="clips", images=(), video=("{v}",), num_frames=4)
    assert answered(micro, task, tmp_path, tmp_path / "out") == {0: ""}
    assert score_answers(AnswerFiles(tmp_path / "out")).num_failed == 1


def test_a_prompt_that_is_too_long_is_named(micro, make_task, colours, tmp_path):
    task = make_task(
        prompt="{case}", cases=(Case(text="a", when={"answer": "white"}), Case(text="a b " * 9000))
    )
    with pytest.raises(DataError, match=r"row 1: the prompt has .* tokens"):
        answered(micro, task, colours, tmp_path / "out", batch_size=2)


def test_a_damaged_line_is_not_passed_over(micro, make_task, colours, tmp_path):
    answered(micro, make_task(), colours, tmp_path / "out", limit=2)
    path = tmp_path / "out" / "answers.jsonl"
    path.write_text("garbage\n" + path.read_text())
    with pytest.raises(DataError, match=r"answers.jsonl: line 1 is not a JSON object with a row"):
        answered(micro, make_task(), colours, tmp_path / "out")


def test_answers_without_settings_are_not_added_to(micro, make_task, colours, tmp_path):
    answered(micro, make_task(), colours, tmp_path / "out", limit=1)
    (tmp_path / "out" / "run.json").unlink()
    with pytest.raises(DataError, match=r"answers without run.json"):
        answered(micro, make_task(), colours, tmp_path / "out")


def test_the_fingerprint_sees_packed_and_quantised_weights():
    loaded = load("tiny", dtype="float32")
    before = network_fingerprint(loaded)
    assert before == network_fingerprint(load("tiny", dtype="float32"))
    assert before != network_fingerprint(load("tiny", dtype="float32", quantize="int8"))
    layer = loaded.network.language_model.blocks[0].mlp.down
    weight = layer.packed[0].to_dense()
    weight[3, 5] += 1
    layer.packed = [torch.ops.mkldnn._reorder_linear_weight(weight)]
    assert network_fingerprint(loaded) != before


def test_the_fingerprint_sees_every_weight(micro):
    before = network_fingerprint(micro)
    assert before == network_fingerprint(micro)
    weight = micro.network.language_model.norm.weight
    old = weight[3].item()
    with torch.no_grad():
        weight[3] += 1e-3
    try:
        assert network_fingerprint(micro) != before
    finally:
        with torch.no_grad():
            weight[3] = old
    assert network_fingerprint(micro) == before


def test_lines_hold_what_tables_hold(micro, make_task, tmp_path):
    row = {"question": "What colour?", "image": encoded("red"), "answer": float("nan")}
    row |= {"extra": {"bytes": b"12", "path": "a"}, "list": ["1", None, "ü"]}
    write_parquet(tmp_path / "colours" / "test.parquet", [row])
    answered(micro, make_task(), tmp_path, tmp_path / "out")
    item = json.loads((tmp_path / "out" / "answers.jsonl").read_text())["item"]
    assert item["extra"] == {"bytes": None, "path": "a"}
    assert item["list"] == ["1", None, "ü"]


def test_real_questions_are_asked(micro, make_task, real_data, tmp_path):
    task = make_task(files=("qa/image_qa_flat.jsonl",), images=("images",))
    answers = answered(micro, task, real_data, tmp_path / "out", batch_size=3)
    lines = AnswerFiles(tmp_path / "out").answers()
    assert len(answers) == 61
    assert lines[0]["prompt"].startswith("<image>\nIs the value of Favorable 38 in 2015?")
    assert {line["prompt"].count("<image>") for line in lines} == {1, 5}


def test_the_embedded_model_sees_the_rows_pictures(tiny, make_task, colours, tmp_path):
    answers = answered(tiny, make_task(), colours, tmp_path / "out", batch_size=2, limit=2)
    assert answers == {0: "white", 1: "black"}
