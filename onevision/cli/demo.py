"""`onevision demo`: ask the embedded model about a bundled image, image pair and video."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from onevision.cli.options import format_usage, load_model
from onevision.conversation import Conversation, Image, Message, Part, Text, Video

DEMO = Path(__file__).parents[1] / "assets" / "demo"


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for the drawing.")
    ] = Path("demo-output"),
) -> None:
    """Ask the embedded model about an image, an image pair and a video; draw the token layout."""
    from onevision.explain import explain_image
    from onevision.explain_drawing import draw_explanation

    model = load_model("tiny", device="cpu", dtype="auto")
    for scene in json.loads((DEMO / "demo.json").read_text(encoding="utf-8")):
        print(f"\n{scene['title']}: {', '.join(scene['files'])}")
        for question in scene["questions"]:
            content = [*_media(scene), Text(question)]
            reply = model.ask(Conversation([Message("user", content)]))
            print(f"  Q: {question}\n  A: {reply.text}")
        print(f"     ({format_usage(reply.usage)})")
    output.mkdir(parents=True, exist_ok=True)
    path = output / "layout.png"
    draw_explanation(explain_image(Image(str(DEMO / "single.png")), model.config)).save(path)
    print(f"\nDrawing of the image's token layout: {path}")


def _media(scene: dict[str, Any]) -> list[Part]:  # Any: JSON
    kind = Video if scene["kind"] == "video" else Image
    return [kind(str(DEMO / name)) for name in scene["files"]]
