"""Three local tasks for lmms-eval, of questions about procedural worlds, as files."""

import json
from pathlib import Path

import av
import numpy as np

from onevision.conversation import Image
from onevision.eval.heldout import heldout_questions

TASK = """\
task: local_{name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function local.to_visual
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  max_new_tokens: 24
  until: ["\\n\\n"]
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: true
metadata:
  version: 1.0
"""
FUNCTIONS = """\
from PIL import Image

def to_visual(doc):
    if doc["video"]:
        return [doc["video"]]
    return [Image.open(path).convert("RGB") for path in doc["images"]]
"""
SCENARIOS = {"single": "single_image", "pairs": "multi_image", "videos": "video"}


def write_tasks(directory: Path, *, count: int) -> dict[str, list[dict]]:
    """Write tasks and their media; returns the rows of each task."""
    rows = {name: _rows(directory, name, count) for name in SCENARIOS}
    (directory / "local.py").write_text(FUNCTIONS)
    for name, found in rows.items():
        data = directory / f"{name}.json"
        data.write_text(json.dumps(found))
        (directory / f"local_{name}.yaml").write_text(TASK.format(name=name, data=data))
    return rows


def _rows(directory: Path, name: str, count: int) -> list[dict]:
    rows = []
    for index, item in enumerate(heldout_questions(SCENARIOS[name], count=count)):
        row = {"question": item.question.question, "answer": item.question.answer}
        paths, video = [], ""
        for number, media in enumerate(item.media):
            path = directory / f"{name}-{index}-{number}"
            if isinstance(media, Image):
                paths.append(str(path.with_suffix(".png")))
                media.source.save(paths[-1])
            else:
                video = str(path.with_suffix(".mp4"))
                write_video(Path(video), media.source)
        rows.append({**row, "images": paths, "video": video})
    return rows


def write_video(path: Path, frames: list) -> None:
    """Write frames as an H.264 video, one after the other."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            shown = av.VideoFrame.from_ndarray(np.asarray(frame.convert("RGB")), format="rgb24")
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))
