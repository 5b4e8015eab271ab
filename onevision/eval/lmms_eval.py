"""The plug-in for lmms-eval: its requests -> answers of a model of ours.

lmms-eval finds `manifests` by the entry point "lmms_eval.models". Only it imports this file: it has
an environment of its own (integrations/lmms_eval). Requests are put to the model in the reference's
order and form (reference_prompt.py); several are answered at once, each as it would be alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from onevision.conversation import Conversation, Image, Message, Part, Role, Text
from onevision.errors import InputError
from onevision.eval.reference_prompt import (
    NUM_FRAMES,
    PROFILES,
    Profile,
    to_conversation,
    to_media,
    to_sampling,
    to_video,
)
from onevision.generate.answer import Model, load
from onevision.inputs.processor import Processor

HERE = "onevision.eval.lmms_eval"


def manifests() -> list[ModelManifest]:
    """Tell lmms-eval which models there are; chat unless it is told --force_simple."""
    simple, chat = f"{HERE}.OneVisionSimple", f"{HERE}.OneVisionChat"
    return [ModelManifest("onevision", simple_class_path=simple, chat_class_path=chat)]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question of a task; `args` are its own, in the order of its mode."""

    place: int  # in the list that is answered
    context: str
    settings: Mapping[str, object]
    doc: Mapping[str, object]
    source: Any  # doc_to_visual or doc_to_messages, a function of the task
    metadata: Mapping[str, Any]


class _OneVision(lmms):
    """What both modes share."""

    def __init__(
        self,
        *,
        pretrained: str = "tiny",
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        profile: str = "p24",
        max_frames_num: int = NUM_FRAMES,
    ) -> None:
        """Take --model_args: what `onevision ask` takes, and the profile, p24 or now."""
        super().__init__()
        if profile not in PROFILES:
            raise InputError(f"profile is {profile!r}; expected {' or '.join(PROFILES)}")
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise InputError(f"batch_size is {batch_size!r}; expected a positive number")
        self.batch_size = min(int(batch_size), max_batch_size or int(batch_size))
        self.profile: Profile = profile
        self.num_frames = max_frames_num
        self.model = load(pretrained, device=device or "cpu", dtype=dtype)
        self._in_company = _always_in_company(self.model)
        self._has_seen_several = False

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answer requests; answers stand in the requests' order."""
        results: dict[int, GenerationResult] = {}
        for batch in self._batches([self._read(n, one) for n, one in enumerate(requests)]):
            results.update(self._answer(batch))
        return [results[place] for place in range(len(requests))]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Refuse: the paper's benchmarks are all generated."""
        raise NotImplementedError("tasks that compare likelihoods are not answered; use generation")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Refuse: the paper's benchmarks have one round."""
        raise NotImplementedError("tasks of several rounds are not answered")

    def _read(self, place: int, instance: Instance) -> Request:
        raise NotImplementedError

    def _converse(self, request: Request) -> Conversation:
        raise NotImplementedError

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """Give requests of equal settings together, the longest words first, as the reference."""
        groups: dict[str, list[Request]] = {}
        for request in requests:
            groups.setdefault(repr(sorted(request.settings.items())), []).append(request)
        for group in groups.values():
            group.sort(key=lambda one: (-len(self._ids(one.context)), one.context))
            # Draws of one batch depend on each other; what is drawn is asked alone.
            size = 1 if group[0].settings.get("do_sample") else self.batch_size
            for begin in range(0, len(group), size):
                yield group[begin : begin + size]

    def _ids(self, words: str) -> list[int]:
        return self.model.processor.tokenizer.encode(words).ids

    def _answer(self, batch: Sequence[Request]) -> dict[int, GenerationResult]:
        options = to_sampling(batch[0].settings, profile=self.profile)
        asked: dict[bool, list[tuple[Request, Conversation]]] = {False: [], True: []}
        for request in batch:
            conversation = self._converse(request)
            asked[self._sees_in_company(conversation, request)].append((request, conversation))
        results = {}
        for model, pairs in ((self.model, asked[False]), (self._in_company, asked[True])):
            if not pairs:
                continue
            replies = model.ask_all([conversation for _, conversation in pairs], **options)
            for (request, _), reply in zip(pairs, replies, strict=True):
                counts = TokenCounts(reply.usage.prompt_tokens, reply.usage.completion_tokens)
                results[request.place] = GenerationResult(reply.text, counts)
                hooked = (request.context, request.settings)
                self.cache_hook.add_partial("generate_until", hooked, reply.text)
        return results

    def _sees_in_company(self, conversation: Conversation, request: Request) -> bool:
        """Whether a lone picture is padded as several are.

        FIDELITY: at the time of the paper the wrapper forgot, after its first question about
        several pictures, to look at lone ones closely again.
        """
        pictures = [one for one in conversation.media if isinstance(one, Image)]
        framed = _sample_frames(request.metadata) is not None
        self._has_seen_several |= len(pictures) > 1 or framed
        return self.profile == "p24" and self._has_seen_several and len(pictures) == 1


class OneVisionSimple(_OneVision):
    """Legacy mode: a text and its visuals."""

    is_simple = True

    def _read(self, place: int, instance: Instance) -> Request:
        context, settings, source, doc_id, task, split = instance.args
        doc = self.task_dict[task][split][doc_id]
        return Request(
            place=place,
            context=context,
            settings=settings,
            doc=doc,
            source=source,
            metadata=instance.metadata,
        )

    def _converse(self, request: Request) -> Conversation:
        media = to_media(
            request.source(request.doc),
            num_frames=self.num_frames,
            sample_frames=_sample_frames(request.metadata),
            image_mean=self.model.config.inputs.image_mean,
        )
        return to_conversation(request.context, media)


class OneVisionChat(_OneVision):
    """Chat mode: messages of parts."""

    is_simple = False

    def _read(self, place: int, instance: Instance) -> Request:
        context, source, settings, doc_id, task, split = instance.args
        doc = self.task_dict[task][split][doc_id]
        return Request(
            place=place,
            context=context if isinstance(context, str) else "",
            settings=settings,
            doc=doc,
            source=source,
            metadata=instance.metadata,
        )

    def _converse(self, request: Request) -> Conversation:
        return from_messages(request.source(request.doc), num_frames=self.num_frames)


def from_messages(messages: Sequence[Mapping[str, Any]], *, num_frames: int) -> Conversation:
    """Turn chat messages into a conversation. Raises InputError, MediaError.

    One message with its media before its one text, which is what lmms-eval makes of a legacy task,
    is put together as the reference does there; elsewhere parts stand where they stand, two media
    apart by a space, and text after media on a line of its own.
    """
    turns = [(message["role"], _parts(message["content"], num_frames)) for message in messages]
    role, parts = turns[0]
    media = [part for part in parts if not isinstance(part, Text)]
    *before, last = parts
    if len(turns) == 1 and role == "user" and before == media and isinstance(last, Text):
        return to_conversation(last.text, media)
    return Conversation([_message(role, parts) for role, parts in turns])


def _parts(content: Sequence[Mapping[str, Any]], num_frames: int) -> list[Part]:
    parts: list[Part] = []
    for part in content:
        match part["type"]:
            case "text":
                parts.append(Text(part["text"]))
            case "image":
                parts.append(Image(part["url"]))
            case "video":
                parts.append(to_video(part["url"], num_frames=num_frames))
            case kind:
                raise InputError(f"a message holds {kind}; expected text, image or video")
    return parts


def _message(role: Role, parts: Sequence[Part]) -> Message:
    spaced: list[Part] = []
    for part in parts:
        if spaced and not isinstance(spaced[-1], Text):
            spaced.append(Text("\n" if isinstance(part, Text) else " "))
        spaced.append(part)
    return Message(role, spaced, media_separator="")


def _sample_frames(metadata: Mapping[str, Any] | None) -> int | None:
    """Return how many pictures of a task are shown as frames of a video, where it says so."""
    if metadata and metadata.get("task_type") == "video":
        return metadata.get("sample_frames")
    return None


def _always_in_company(model: Model) -> Model:
    """Return the model with the rule of several pictures for a lone one too."""
    inputs = replace(model.config.inputs, image=model.config.inputs.multi_image)
    return replace(model, processor=Processor(inputs, model.processor.tokenizer))
