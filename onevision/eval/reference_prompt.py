"""What lmms-eval gives a model -> the conversation that the reference's wrapper makes of it.

FIDELITY: the rules are those of `lmms_eval/models/simple/llava_onevision.py`. Two times count: P24,
lmms-eval when the paper was written, and NOW, release 0.7.3.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from PIL.Image import Image as PillowImage

from onevision.config import Triple
from onevision.conversation import Conversation, Image, Message, Part, Role, Text, Video
from onevision.errors import InputError
from onevision.generate.sampler import SamplingOptions
from onevision.inputs.image import pad_to_square
from onevision.inputs.media import open_image
from onevision.inputs.video import choose_frames, space_evenly

Profile = Literal["p24", "now"]
PROFILES: tuple[Profile, ...] = ("p24", "now")
Visual = str | PillowImage
PLACE = "<image>"
NUM_FRAMES = 32
MAX_NEW_TOKENS = 1024
# What tasks say and the reference does not hear: answers end at the model's own end or at
# max_new_tokens, and image_aspect_ratio is looked for where it never is.
UNHEARD = frozenset({"until", "image_aspect_ratio"})
_HEARD = frozenset({"max_new_tokens", "do_sample", "temperature", "top_p", "top_k", "num_beams"})


def to_conversation(context: str, media: Sequence[Image | Video]) -> Conversation:
    """Put media where the words say `<image>`, or before them all, one space between two.

    Words that are a JSON list of turns become these turns, user and assistant in turn. Raises
    InputError where there are more places than media, or the other way round.
    """
    if media and PLACE not in context:
        context = " ".join([PLACE] * len(media)) + "\n" + context
    waiting = list(media)
    roles: tuple[Role, Role] = ("user", "assistant")
    turns = _turns(context)
    messages = [_message(roles[n % 2], words, waiting) for n, words in enumerate(turns)]
    if waiting:
        raise InputError(
            f"the prompt has {len(media) - len(waiting)} places for {len(media)} images or videos: "
            f"{context[:80]!r}"
        )
    if len(messages) % 2 == 0:
        raise InputError(f"a prompt of {len(messages)} turns; expected the user to speak last")
    return Conversation(messages)


def to_media(
    visuals: Sequence[Visual] | None,
    *,
    num_frames: int = NUM_FRAMES,
    sample_frames: int | None = None,
    image_mean: Triple,
) -> tuple[Image | Video, ...]:
    """Turn a task's visuals into media: pictures, or a video's path, or pictures as a video.

    FIDELITY: of a video exactly `num_frames` are shown, repeated where it has fewer; pictures shown
    as a video of `sample_frames` are padded to squares first, as several are. Raises MediaError.
    """
    if not visuals:
        return ()
    if sample_frames is not None:
        kept = [visuals[place] for place in space_evenly(0, len(visuals) - 1, sample_frames)]
        return (Video([pad_to_square(open_image(one), image_mean) for one in kept]),)
    if isinstance(visuals[0], str):
        return (to_video(visuals[0], num_frames=num_frames),)
    return tuple(Image(one) for one in visuals)


def to_video(path: str | Path, *, num_frames: int = NUM_FRAMES) -> Video:
    """Show a video in exactly `num_frames` frames, repeated where it has fewer."""
    video = Video(path, num_frames=num_frames)
    choice = choose_frames(video)
    if len(choice.indices) == num_frames:
        return video
    frames = list(choice.frames())
    return Video([frames[place] for place in space_evenly(0, len(frames) - 1, num_frames)])


def to_sampling(settings: Mapping[str, object], *, profile: Profile) -> SamplingOptions:
    """Return how answers are drawn. Raises InputError for what this project does not do."""
    unknown = settings.keys() - _HEARD - UNHEARD
    if unknown:
        raise InputError(
            f"generation_kwargs has {', '.join(sorted(unknown))}; expected some of "
            f"{', '.join(sorted(_HEARD | UNHEARD))}"
        )
    if settings.get("num_beams") not in (None, 1):
        raise InputError(f"num_beams is {settings['num_beams']}; there is no beam search, use 1")
    options: SamplingOptions = {"max_new_tokens": int(_number(settings, "max_new_tokens", 1024))}
    # FIDELITY: at the time of the paper a missing temperature was 0, today it is the model's 1.
    usual = 0.0 if profile == "p24" else 1.0
    if settings.get("do_sample"):
        options["temperature"] = _number(settings, "temperature", usual)
        options["top_p"] = _number(settings, "top_p", 1.0)
        options["top_k"] = int(_number(settings, "top_k", 0))
        options["seed"] = 0
    else:
        options["temperature"] = 0.0
    return options


def _number(settings: Mapping[str, object], name: str, usual: float) -> float:
    match settings.get(name):
        case None:
            return usual
        case int() | float() as value:
            return value
        case value:
            raise InputError(f"{name} is {value!r}; expected a number")


def _turns(context: str) -> list[str]:
    try:
        read = json.loads(context)
    except ValueError:
        return [context]
    match read:
        case [{"value": str()}, *_] if all(isinstance(turn.get("value"), str) for turn in read):
            return [turn["value"] for turn in read]
    return [context]


def _message(role: Role, words: str, waiting: list[Image | Video]) -> Message:
    """Fill the places of one turn with the media that wait, in order."""
    first, *rest = words.split(PLACE)
    parts: list[Part] = [Text(first)]
    for piece in rest:
        if not waiting:
            raise InputError(f"the prompt has more places {PLACE} than media: {words[:80]!r}")
        parts += [waiting.pop(0), Text(piece)]
    return Message(role, parts, media_separator="")
