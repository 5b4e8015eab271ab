"""What counts as confident nonsense, and the measure from its command to its answers."""

import json

import pytest
from PIL import Image as PIL

from onevision.errors import DataError, InputError
from onevision.eval.outside import (
    FRAMES,
    OutsideAnswer,
    OutsideMedia,
    count_outside,
    judge,
    open_outside,
)
from onevision.synth.write import write_video
from tests.cli.conftest import run


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("I cannot tell", "cannot tell"),
        ("I cannot tell: the picture shows only noise.", "cannot tell"),
        ("I cannot tell " + "so much " * 20, "nonsense"),  # a refusal does not go on
        ("A red circle", "nonsense"),
        ("It is a green Apple.", "named"),
        ("Two pineapples", "nonsense"),  # a part of a word is no name
        ("", "no words"),
        ("\n\n \n.\n", "no words"),
    ],
)
def test_an_answer_is_judged(answer, verdict):
    assert judge(answer, ["apple"]) == verdict


def test_shares_are_counted_by_frames():
    answers = [
        OutsideAnswer(file="a", frames=frames, question="?", answer="", verdict=verdict)
        for frames, verdict in ((None, "cannot tell"), (None, "no words"), (FRAMES[0], "named"))
    ]
    pictures, videos = count_outside(answers)
    assert (pictures.medium, pictures.confident_nonsense.value) == ("pictures", 0.5)
    assert (videos.medium, videos.confident_nonsense.value) == ("videos, 8 frames", 0)
    assert pictures.counts == {"cannot tell": 1, "no words": 1}


def test_a_picture_is_asked_twice_and_a_video_at_each_number_of_frames():
    media = OutsideMedia(folder=None, pictures=("a.png",), videos=("b.mp4",))
    asked = list(media.questions())
    assert [frames for _, frames, _ in asked] == [None, None, *(f for f in FRAMES for _ in "ab")]
    assert len(set(asked)) == len(asked)


def test_a_folder_from_its_command_to_its_answers(tmp_path):
    PIL.new("RGB", (120, 80), (90, 140, 60)).save(tmp_path / "grass.png")
    frames = [PIL.new("RGB", (64, 64), (20 * i, 90, 90)) for i in range(4)]
    write_video(tmp_path / "sea.mp4", frames, per_second=4)
    (tmp_path / "names.json").write_text('{"grass.png": ["grass", "a lawn"]}')
    done = run("eval", "--outside", tmp_path, "-o", tmp_path / "answers.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("pictures: 2 answers: ")
    assert done.stdout.count("confident nonsense") == 1 + len(FRAMES)
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(lines) == 2 + 2 * len(FRAMES)
    assert all(line["verdict"] == judge(line["answer"], ["grass", "a lawn"]) for line in lines[:2])


def test_mistakes_are_named(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_outside(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no pictures and no videos"):
        open_outside(tmp_path)
    PIL.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for text, said in (
        ("[", "not JSON"),
        ("[]", "it holds a list"),
        ('{"b.png": []}', "no file 'b.png'"),
        ('{"a.png": "x"}', "'a.png' has 'x'"),
    ):
        (tmp_path / "names.json").write_text(text)
        with pytest.raises(DataError, match=said):
            open_outside(tmp_path)
