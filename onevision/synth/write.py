"""Procedural samples -> files: LLaVA records with PNG, JPEG or MP4 beside them; captions."""

import json
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import count as count_from
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import av
from PIL import Image as PIL
from PIL.Image import Image as PillowImage

from onevision.boxes import Point, find_marks
from onevision.conversation import Image, Video
from onevision.files import write_lines, write_text
from onevision.synth.captions import CAPTIONS, caption_record, captioned
from onevision.synth.sample import Question, Sample, Split, rng_for

Teaches = Literal["captions", "aspects", "descriptions", "questions", "prompts"]
ImageFormat = Literal["png", "jpeg"]
FRAMES_PER_SECOND = 4
# Samples per seed; the next seed begins where this one must end.
SAMPLES_PER_SEED = 10**9
DESCRIBE = ("Describe this.", "What is shown here?", "Say what you see.")


def write_set(
    directory: Path,
    make: Callable[[Split, int], Sample],
    *,
    name: str,
    count: int,
    seed: int,
    split: Split = "train",
    teaches: Teaches = "questions",
    image_format: ImageFormat = "png",
    captions: bool = False,
    progress: Callable[[int], object] = int,
) -> Path:
    """Writes `count` samples; returns the path of the records, `directory/name.json`.

    Media go to `directory/name/`. The records are written last, whole or not at all. Those that
    teach "prompts" are a question each, with its right answer, as `onevision reinforce` reads them.
    With `captions`, samples are single pictures that there is something to write about, and
    `directory/captions.jsonl` holds what is known of each, as `onevision curate` reads it.
    """
    (directory / name).mkdir(parents=True, exist_ok=True)
    records, told = list[dict[str, Any]](), list[dict[str, Any]]()
    begin = seed * SAMPLES_PER_SEED
    all_samples = (make(split, place) for place in count_from(begin))
    samples = captioned(make, split, begin=begin) if captions else all_samples
    for number, sample in enumerate(islice(samples, count)):
        index = begin + number
        media = _write_media(sample, directory, f"{name}/{number:06d}", image_format=image_format)
        record = {"id": f"{name}-{seed}-{number}", **media}
        if teaches == "prompts":
            records += [
                {**record, "id": f"{record['id']}-{place}", **_prompt(question)}
                for place, question in enumerate(sample.questions)
            ]
        else:
            turns = list(_turns(sample, teaches, rng_key=f"{name}/{index}"))
            records.append({**record, "conversations": turns})
        if captions:
            told.append(caption_record(sample, media["image"][0]))
        progress(1)
    if captions:
        write_lines(directory / CAPTIONS, told)
    path = directory / f"{name}.json"
    write_text(path, json.dumps(records, ensure_ascii=False, indent=1))
    return path


def write_video(path: Path, frames: Sequence[PillowImage], *, per_second: int) -> None:
    """Writes frames as H.264, doubled in size so that edges survive the chroma subsampling."""
    width, height = frames[0].width * 2, frames[0].height * 2
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=per_second, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, frame in enumerate(frames):
            large = frame.resize((width, height), PIL.Resampling.BICUBIC)
            picture = av.VideoFrame.from_image(large)
            picture.pts, picture.time_base = number, Fraction(1, per_second)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _write_media(
    sample: Sample, directory: Path, stem: str, *, image_format: ImageFormat
) -> dict[str, list[str]]:
    """Writes a sample's media; returns the record's fields, with paths below `directory`."""
    names: dict[str, list[str]] = {"image": [], "video": []}
    for number, medium in enumerate(sample.media):
        part = stem if len(sample.media) == 1 else f"{stem}-{number}"
        if isinstance(medium, Video):
            assert isinstance(medium.source, list)
            names["video"].append(f"{part}.mp4")
            write_video(directory / f"{part}.mp4", medium.source, per_second=FRAMES_PER_SECOND)
        else:
            assert isinstance(medium, Image) and isinstance(medium.source, PillowImage)
            suffix = "png" if image_format == "png" else "jpg"
            names["image"].append(f"{part}.{suffix}")
            medium.source.save(directory / f"{part}.{suffix}", quality=92)
    return {field: files for field, files in names.items() if files}


def _prompt(question: Question) -> dict[str, Any]:
    """Returns what is asked, and what a right answer is compared with."""
    said: dict[str, Any] = {"prompt": question.question, "family": question.family}
    if question.box is None:
        return {**said, "type": "exact", "answer": question.answer}
    box = question.box
    is_point = any(isinstance(mark, Point) for mark in find_marks(question.answer))
    edges = [round(edge, 4) for edge in (box.left, box.top, box.right, box.bottom)]
    return {**said, "type": "point" if is_point else "box", "answer": edges}


def _turns(sample: Sample, teaches: Teaches, *, rng_key: str) -> Iterator[dict[str, Any]]:
    """Yields the turns of a record; the media's marks precede the first question."""
    said = {
        "captions": [("", sample.caption)],
        "aspects": [("", text) for text in (sample.caption, *sample.aspects)],
        "descriptions": [
            (rng_for("train", "describe/" + rng_key, 0).choice(DESCRIBE), sample.description)
        ],
        "questions": [(q.question, q.answer) for q in sample.questions],
    }[teaches]
    marks = "".join(
        "<video>\n" if isinstance(medium, Video) else "<image>\n" for medium in sample.media
    )
    for question, answer in said:
        yield {"from": "human", "value": (marks + question).rstrip("\n")}
        yield {"from": "gpt", "value": answer}
        marks = ""
