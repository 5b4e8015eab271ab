"""A finished request -> Reply, and the tokens of a prompt by kind."""

from onevision.anyres import CropLayout
from onevision.conversation import Reply, Usage
from onevision.generate.request import Request
from onevision.inputs.processor import Outline, usage


def count_tokens(outline: Outline) -> Usage:
    """Counts the tokens of a prompt by kind, with none generated yet."""
    images = sum(la.num_tokens for la in outline.layouts if isinstance(la, CropLayout))
    videos = sum(la.num_tokens for la in outline.layouts) - images
    return Usage(
        text_tokens=outline.num_tokens - images - videos,
        image_tokens=images,
        video_tokens=videos,
        completion_tokens=0,
    )


def build_reply(request: Request, *, number: int = 0) -> Reply:
    """Returns answer `number` of a finished request. Raises the request's error if it failed."""
    if request.error is not None:
        raise request.error
    answer = request.answers[number]
    return Reply(
        text=answer.whole_text.strip(),
        finish_reason="length" if answer.finish_reason == "length" else "stop",
        usage=usage(request.prompt, completion_tokens=len(answer.ids)),
    )
