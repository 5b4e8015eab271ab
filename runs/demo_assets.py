"""Held-out seeds -> the demo's image, pair and video, and the README's picture of a layout.

Run it with `.venv/bin/python runs/demo_assets.py`; takes 1 s.
"""

import json
from pathlib import Path

from onevision.conversation import Image
from onevision.explain import explain_image
from onevision.explain_drawing import draw_explanation
from onevision.known_models import ONEVISION_0_5B
from onevision.synth.worlds.clips import clips
from onevision.synth.worlds.rooms import rooms
from onevision.synth.worlds.sets import pairs
from onevision.synth.worlds.shapes import scenes
from onevision.synth.write import write_video

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "onevision" / "assets" / "demo"
LAYOUT = ROOT / "docs" / "layout.png"
SINGLE, PAIR, CLIP, ROOM = 17, 10, 9, 3  # indices of the split "heldout"
# Of each, questions of families that the model answers well (docs/log.md has all).
ASKED = (
    ("background", "count", "what_at"),
    ("nth_count", "nth_colour", "total"),
    ("count", "direction", "how_many_move"),
)


def main() -> None:
    """Write the media and demo.json."""
    DEMO.mkdir(parents=True, exist_ok=True)
    single = scenes.make("heldout", SINGLE)
    single.media[0].source.save(DEMO / "single.png")
    pair = pairs.make("heldout", PAIR)
    for name, image in zip(("pair-1.png", "pair-2.png"), pair.media, strict=True):
        image.source.save(DEMO / name)
    clip = clips.make("heldout", CLIP)
    write_video(DEMO / "clip.mp4", clip.media[0].source, per_second=4)
    demo = [
        {"title": "One image", "kind": "image", "files": ["single.png"], "questions": []},
        {
            "title": "Two images",
            "kind": "image",
            "files": ["pair-1.png", "pair-2.png"],
            "questions": [],
        },
        {"title": "A video", "kind": "video", "files": ["clip.mp4"], "questions": []},
    ]
    for entry, sample, families in zip(demo, (single, pair, clip), ASKED, strict=True):
        entry["questions"] = [q.question for q in sample.questions if q.family in families]
    (DEMO / "demo.json").write_text(json.dumps(demo, indent=2) + "\n")
    picture = rooms.make("heldout", ROOM).media[0].source.resize((1920, 1080))
    draw_explanation(explain_image(Image(picture), ONEVISION_0_5B)).save(LAYOUT, optimize=True)


if __name__ == "__main__":
    main()
