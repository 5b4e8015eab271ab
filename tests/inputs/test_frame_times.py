"""LLaVA-Video's time instruction: one rule of the video part, the same through every door."""

import hashlib
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from onevision import Conversation, Image, Message, Text, Video
from onevision.conversation import Part
from onevision.data.fit import fit_sample
from onevision.data.records import RawRecord, to_conversation
from onevision.explain import explain_video
from onevision.inputs.frame_times import FrameTable, NumFrames, describe_times
from onevision.inputs.processor import Processor
from onevision.inputs.sandbox import Sandbox
from onevision.inputs.sandbox_worker import SandboxSettings
from onevision.train.preference.data import Preference, preference_row
from tests.serve.media import video

# 8 frames at 4 a second: they last 2 seconds; 4 of them are shown.
CLIP = video(frames=8, rate=4)
SAID = (
    "The video lasts for 2.00 seconds, and 4 frames are uniformly sampled from it. These frames "
    "are located at 0.00s,0.50s,1.00s,1.75s.Please answer the following questions related to this "
    "video."
)


@pytest.fixture(scope="module")
def processor(micro_config, tokenizer):
    rule = replace(micro_config.inputs.video, newline="grid", time_instruction=True)
    return Processor(replace(micro_config.inputs, video=rule), tokenizer)


def ask(*parts: Part | str) -> Conversation:
    content = [Text(part) if isinstance(part, str) else part for part in parts]
    return Conversation([Message("user", content)])


def clip(num_frames=4) -> Video:
    return Video(CLIP, num_frames=num_frames)


def words_of(processor, talk):
    """The prompt as text; a medium is its row of placeholders."""
    ids = processor(talk).input_ids[0]
    return processor.tokenizer.decode(ids[ids != processor.config.image_token_id].tolist())


def test_the_words_are_those_the_released_models_learned():
    told = describe_times([0, 4.13, 8.27, 12.4], duration=12.5)
    assert len(told) == 192
    assert hashlib.sha256(told.encode()).hexdigest().startswith("5c3f191cdec86ff3")


def test_a_video_lasts_as_long_as_all_its_frames():
    table = FrameTable(marks=[10, 11, 12, 13], key_marks=[], seconds_per_mark=0.25, has_times=True)
    assert table.duration == 1.0  # four quarters, not the three between them
    assert replace(table, marks=[10]).duration == 0
    assert NumFrames(2).time_instruction() is None


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((clip(), "What?"), f"\n{SAID}\nWhat?"),
        ((clip(), "\nWhat?"), f"\n{SAID}\nWhat?"),
        (("What?\n", clip()), f"What?\n\n{SAID}"),
        ((clip(), clip(), "What?"), f"\n{SAID}\n\n{SAID}\nWhat?"),
    ],
)
def test_the_words_stand_on_a_line_after_each_video(processor, parts, expected):
    assert f"user\n{expected}" in words_of(processor, ask(*parts))


def test_other_media_and_other_models_are_told_nothing(processor, micro_config, tokenizer, picture):
    assert "lasts" not in words_of(processor, ask(Image(picture(40, 30)), "What?"))
    frames = Video([picture(40, 30), picture(40, 30, seed=1)])  # a list has no times
    assert "lasts" not in words_of(processor, ask(frames, "What?"))
    silent = Processor(micro_config.inputs, tokenizer)
    assert "lasts" not in words_of(silent, ask(clip(), "What?"))


def test_a_later_part_of_a_video_keeps_the_clock_of_the_whole(processor):
    said = words_of(processor, ask(Video(CLIP, num_frames=2, start=1.0), "What?"))
    assert "lasts for 2.00 seconds, and 2 frames" in said
    assert "located at 1.00s,1.75s." in said


def test_training_serving_and_preferences_see_what_ask_sees(processor, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(CLIP)
    asked = processor(ask(clip(), "What?")).input_ids[0]

    with closing(Sandbox(SandboxSettings(num_workers=1))) as box, box.session([clip()]) as session:
        assert session.facts[0].duration == 2
        served = processor.outline(ask(clip(), "What?"), facts=session.facts)
        crops = session.cut(served.layouts, image_mean=processor.config.image_mean)
    assert torch.equal(processor.example(served, crops=crops).input_ids, asked)

    turns = [
        {"from": "human", "value": "<video>\nWhat?"},
        {"from": "gpt", "value": "a ring"},
    ]
    fields = {"video": str(tmp_path / "clip.mp4"), "conversations": turns}
    record = RawRecord(where="row 0", fields=fields, root=tmp_path)
    talk = to_conversation(record, num_frames=4)
    fitted = fit_sample(talk, processor, max_tokens=1000, image_first=True)
    learned = processor.example(fitted.outline)
    assert torch.equal(learned.input_ids[: len(asked)], asked)
    answer = learned.labels != -100
    assert "lasts" not in processor.tokenizer.decode(learned.input_ids[answer].tolist())

    pair = Preference(id="0", prompt=talk.messages[0], chosen="a ring", rejected="a disc")
    row = preference_row(pair, processor)
    text = processor.tokenizer.decode(row.input_ids[row.input_ids != 3].tolist())
    assert text.count("The video lasts") == text.count("What?") == 2  # before either answer


def test_explain_says_the_words(micro_config):
    rule = replace(micro_config.inputs.video, time_instruction=True)
    config = replace(micro_config, inputs=replace(micro_config.inputs, video=rule))
    assert f'then these words: "{SAID}"' in explain_video(clip(), config).lines()
    assert not any("words" in line for line in explain_video(clip(), micro_config).lines())


def test_a_folder_of_frames_has_no_times_and_no_words(processor, tmp_path, picture):
    for number in range(3):
        picture(40, 30, seed=number).save(tmp_path / f"{number}.png")
    assert "lasts" not in words_of(processor, ask(Video(str(tmp_path)), "What?"))
