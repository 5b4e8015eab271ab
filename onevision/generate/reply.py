"""A finished request -> Reply, and the tokens of a prompt by kind."""

from dataclasses import replace

from onevision.batch import usage
from onevision.config import LanguageConfig
from onevision.conversation import Reply, Usage
from onevision.errors import ContextLengthError, InputError
from onevision.generate.request import Request
from onevision.inputs.processor import Outline


def count_tokens(outline: Outline) -> Usage:
    """Counts the tokens of a prompt by kind, with none generated yet."""
    images = sum(la.num_tokens for la in outline.layouts if not la.is_video)
    videos = sum(la.num_tokens for la in outline.layouts) - images
    return Usage(
        text_tokens=outline.num_tokens - images - videos,
        image_tokens=images,
        video_tokens=videos,
        completion_tokens=0,
        dropped_tokens=sum(layout.num_dropped for layout in outline.layouts),
    )


def check_length(outline: Outline, language: LanguageConfig) -> None:
    """Raises ContextLengthError if a prompt leaves no position for an answer.

    Also InputError if it drops visual tokens and the model attends within a window.
    """
    cost = count_tokens(outline)
    if cost.dropped_tokens and language.sliding_window is not None:
        raise InputError(
            f"keep: this model attends within {language.sliding_window} positions, and dropped "
            "tokens would widen that; leave keep out, or set it to 1"
        )
    most = language.max_positions - 1
    if outline.num_positions > most:
        dropped = f", {cost.dropped_tokens} dropped" if cost.dropped_tokens else ""
        raise ContextLengthError(
            f"the prompt has {outline.num_positions} tokens ({cost.text_tokens} text, "
            f"{cost.image_tokens} image, {cost.video_tokens} video{dropped}); "
            f"the model reads {most} at most: give fewer or smaller images, or fewer frames"
        )


def build_reply(request: Request, *, arithmetic: str, number: int = 0) -> Reply:
    """Returns answer `number` of a finished request. Raises the request's error if it failed.

    `arithmetic` is what the model computes in.
    """
    if request.error is not None:
        raise request.error
    answer = request.answers[number]
    cost = replace(
        usage(request.prompt, completion_tokens=len(answer.ids)),
        drafted_tokens=answer.drafted_tokens,
        accepted_tokens=answer.accepted_tokens,
    )
    return Reply(
        text=answer.whole_text.strip(),
        finish_reason="length" if answer.finish_reason == "length" else "stop",
        usage=cost,
        arithmetic=arithmetic,
    )
