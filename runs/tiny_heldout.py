"""`Material` -> the held-out sets, and whether they ask what was fixed before any training."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from tiny_material import Material, Named, render
from tiny_scenes import WHAT, open_photo
from tiny_writing import Writer

HELD_OUT = Path(__file__).with_name("tiny_heldout.json")
MAX_ASKED = 300  # of a held-out set
# A picture, a question, and the name that an answer holds.
Asked = tuple[Image.Image, str, str]


def test_sets(material: Material) -> dict[str, list[Asked]]:
    """Returns the held-out sets: pictures with a question and the name that an answer holds."""
    rng = random.Random("tiny/heldout")
    asked: dict[str, list[Asked]] = {"openmoji": [], "withheld": []}
    for thing in material.test_things:
        if not thing.is_withheld and not thing.is_unnamed:
            asked["openmoji"].append((on_white(thing), WHAT[0], thing.name))
    withheld = [thing for thing in material.things if thing.is_withheld]
    for thing in rng.sample(withheld, min(MAX_ASKED, len(withheld))):
        asked["withheld"].append((on_white(thing), WHAT[0], "I cannot tell"))
    for name, is_clothing in (("groceries", False), ("clothes", True)):
        photos = [one for one in material.test_photos if one.is_clothing == is_clothing]
        asked[name] = [(open_photo(one, 224, 224), WHAT[0], one.group)
                       for one in rng.sample(photos, min(MAX_ASKED, len(photos)))]  # fmt: skip
    asked["tuxpaint"] = [(on_white(one), WHAT[0], one.name) for one in material.test_cutouts]
    writer = Writer(material.test_faces, material.words, rng)
    written = [writer.write() for _ in range(MAX_ASKED)]
    asked["writing"] = [(one.picture, "What is written in the picture?", one.lines[0])
                        for one in written]  # fmt: skip
    return {name: some for name, some in asked.items() if some}


def on_white(thing: Named, side: int = 224) -> Image.Image:
    """Returns a thing's first drawing, large on white."""
    picture, piece = Image.new("RGB", (side, side), (255, 255, 255)), render(thing.drawings[0])
    piece = piece.copy()
    piece.thumbnail((side * 9 // 10, side * 9 // 10))
    picture.paste(piece, ((side - piece.width) // 2, (side - piece.height) // 2), piece)
    return picture


def fix_held_out(asked: Mapping[str, Sequence[Asked]]) -> None:
    """Writes what the held-out sets ask, for later runs to be compared with."""
    sums = {name: _sum(some) for name, some in sorted(asked.items())}
    HELD_OUT.write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")


def _sum(asked: Sequence[Asked]) -> dict[str, object]:
    return {"questions": len(asked), "sha256": digest(asked)}


def digest(asked: Sequence[Asked]) -> str:
    """Returns the SHA-256 of the questions and names of a set, in hexadecimal."""
    texts = [[question, name] for _, question, name in asked]
    return hashlib.sha256(json.dumps(texts, ensure_ascii=False).encode()).hexdigest()


def check_held_out(asked: Mapping[str, Sequence[Asked]]) -> None:
    """Raises ValueError if a held-out set does not ask what was fixed before training."""
    fixed = json.loads(HELD_OUT.read_text(encoding="utf-8"))
    for name in fixed.keys() | asked.keys():
        found = _sum(asked.get(name, ()))
        if fixed.get(name) != found:
            raise ValueError(
                f"the held-out set {name} is {found}, not {fixed.get(name)} as in {HELD_OUT}; "
                "are the sources those of tiny_sources.json?"
            )
