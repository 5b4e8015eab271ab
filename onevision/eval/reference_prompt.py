"""What lmms-eval hands to a model -> the conversation that the reference's wrapper makes of it.

FIDELITY: the rules are those of `lmms_eval/models/simple/llava_onevision.py`, in two versions: P24,
lmms-eval when the paper was written, and NOW, release 0.7.3.
"""

import json
from collections.abc import Mapping, Sequence

from PIL.Image import Image as PillowImage

from onevision.config import Triple
from onevision.conversation import Conversation, Image, Video
from onevision.errors import InputError
from onevision.eval.assemble import build_conversation
from onevision.eval.rows import read_video
from onevision.eval.task import Profile
from onevision.generate.sampler import SamplingOptions
from onevision.inputs.frame_folder import space_evenly
from onevision.inputs.image import pad_to_square
from onevision.inputs.media import open_image

Visual = str | PillowImage
NUM_FRAMES = 32
# Settings of tasks that the reference ignores: answers end at the model's own end or at
# max_new_tokens, and image_aspect_ratio is looked up where it never is.
_IGNORED = frozenset({"until", "image_aspect_ratio"})
_KNOWN = frozenset({"max_new_tokens", "do_sample", "temperature", "top_p", "top_k", "num_beams"})


def to_conversation(context: str, media: Sequence[Image | Video]) -> Conversation:
    """Puts media where the text says `<image>`, or before it, separated by spaces.

    A text that is a JSON list of turns becomes these turns, user and assistant alternating. Raises
    InputError if there are more marks than media or fewer.
    """
    return build_conversation(_read_turns(context), media)


def to_media(
    visuals: Sequence[Visual] | None,
    *,
    num_frames: int = NUM_FRAMES,
    sample_frames: int | None = None,
    image_mean: Triple,
) -> tuple[Image | Video, ...]:
    """Turns a task's visuals into media: images, a video's path, or images as a video's frames.

    FIDELITY: a video is shown in exactly `num_frames` frames; images shown as a video of
    `sample_frames` are padded to squares first, as several images are. Raises MediaError.
    """
    if not visuals:
        return ()
    if sample_frames is not None:
        kept = [visuals[index] for index in space_evenly(0, len(visuals) - 1, sample_frames)]
        return (Video([pad_to_square(open_image(visual), image_mean) for visual in kept]),)
    if isinstance(visuals[0], str):
        return (read_video(visuals[0], num_frames=num_frames),)
    return tuple(map(Image, visuals))


def to_sampling(settings: Mapping[str, object], *, profile: Profile) -> SamplingOptions:
    """Returns how answers are sampled. Raises InputError for settings that are not supported."""
    unknown = settings.keys() - _KNOWN - _IGNORED
    if unknown:
        raise InputError(
            f"generation_kwargs has {', '.join(sorted(unknown))}; expected some of "
            f"{', '.join(sorted(_KNOWN | _IGNORED))}"
        )
    if settings.get("num_beams") not in (None, 1):
        raise InputError(
            f"num_beams is {settings['num_beams']}; beam search is not supported, use 1"
        )
    options: SamplingOptions = {"max_new_tokens": int(_number(settings, "max_new_tokens", 1024))}
    if settings.get("do_sample"):
        # FIDELITY: a missing temperature was 0 when the paper was written; today it is 1.
        default = 0.0 if profile == "p24" else 1.0
        options["temperature"] = _number(settings, "temperature", default)
        options["top_p"] = _number(settings, "top_p", 1.0)
        options["top_k"] = int(_number(settings, "top_k", 0))
        options["seed"] = 0
    else:
        options["temperature"] = 0.0
    return options


def _number(settings: Mapping[str, object], name: str, default: float) -> float:
    match settings.get(name):
        case None:
            return default
        case int() | float() as value:
            return value
        case value:
            raise InputError(f"{name} is {value!r}; expected a number")


def _read_turns(context: str) -> list[str]:
    try:
        content = json.loads(context)
    except ValueError:
        return [context]
    match content:
        case [{"value": str()}, *_] if all(isinstance(turn.get("value"), str) for turn in content):
            return [turn["value"] for turn in content]
    return [context]
