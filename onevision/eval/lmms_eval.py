"""The plug-in for lmms-eval: its requests -> our model's answers.

lmms-eval finds `manifests` through the entry point "lmms_eval.models" and runs in an environment of
its own (integrations/lmms_eval); nothing else imports this file. Requests have the reference's
order and form (reference_prompt.py). They are answered in batches, each as it would be alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from onevision.conversation import Conversation, Image, Message, Part, Role, Text
from onevision.errors import InputError
from onevision.eval.reference_prompt import (
    NUM_FRAMES,
    to_conversation,
    to_media,
    to_sampling,
)
from onevision.eval.rows import read_video
from onevision.eval.task import Profile
from onevision.generate.answer import Model, load
from onevision.inputs.processor import Processor

MODULE = "onevision.eval.lmms_eval"


def manifests() -> list[ModelManifest]:
    """Returns the models that lmms-eval may use; the chat class unless --force_simple is given."""
    simple, chat = f"{MODULE}.OneVisionSimple", f"{MODULE}.OneVisionChat"
    return [ModelManifest("onevision", simple_class_path=simple, chat_class_path=chat)]


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """A request of lmms-eval, whichever mode it came in."""

    index: int  # in the list to be answered
    context: str
    settings: Mapping[str, object]
    doc: Mapping[str, object]
    source: Any  # doc_to_visual or doc_to_messages, a function of the task
    metadata: Mapping[str, Any]


class _OneVision(lmms):
    """What the simple and the chat mode share."""

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
        """Takes --model_args: the options of `onevision ask`, and the profile, p24 or now."""
        super().__init__()
        profiles: dict[str, Profile] = {name: name for name in get_args(Profile)}
        if profile not in profiles:
            raise InputError(f"profile is {profile!r}; expected {' or '.join(profiles)}")
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise InputError(f"batch_size is {batch_size!r}; expected a positive number")
        self.batch_size = min(int(batch_size), max_batch_size or int(batch_size))
        self.profile = profiles[profile]
        self.num_frames = max_frames_num
        self.model = load(pretrained, device=device or "cpu", dtype=dtype)
        self._padding_model = _pad_single_images(self.model)
        self._has_seen_several = False

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Returns the answers, in the order of the requests."""
        results: dict[int, GenerationResult] = {}
        for batch in self._batches([self._read(index, one) for index, one in enumerate(requests)]):
            results.update(self._answer(batch))
        return [results[index] for index in range(len(requests))]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Raises NotImplementedError: the paper's benchmarks all generate answers."""
        raise NotImplementedError("likelihoods are not supported; use tasks that generate")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Raises NotImplementedError: the paper's benchmarks have a single round."""
        raise NotImplementedError("tasks with several rounds are not supported")

    def _read(self, index: int, instance: Instance) -> EvalRequest:
        context, second, third, doc_id, task, split = instance.args
        settings, source = (second, third) if self.is_simple else (third, second)
        return EvalRequest(
            index=index,
            context=context if isinstance(context, str) else "",
            settings=settings,
            doc=self.task_dict[task][split][doc_id],
            source=source,
            metadata=instance.metadata,
        )

    def _converse(self, request: EvalRequest) -> Conversation:
        raise NotImplementedError

    def _batches(self, requests: Sequence[EvalRequest]) -> Iterator[list[EvalRequest]]:
        """Yields requests with equal settings together, longest text first, as in the reference."""
        groups: dict[str, list[EvalRequest]] = {}
        for request in requests:
            groups.setdefault(repr(sorted(request.settings.items())), []).append(request)
        for group in groups.values():
            group.sort(key=lambda one: (-self._count_tokens(one.context), one.context))
            # Sampled answers of one batch would depend on each other.
            size = 1 if group[0].settings.get("do_sample") else self.batch_size
            for begin in range(0, len(group), size):
                yield group[begin : begin + size]

    def _count_tokens(self, text: str) -> int:
        return len(self.model.processor.tokenizer.encode(text).ids)

    def _answer(self, batch: Sequence[EvalRequest]) -> dict[int, GenerationResult]:
        options = to_sampling(batch[0].settings, profile=self.profile)
        asked: dict[bool, list[tuple[EvalRequest, Conversation]]] = {False: [], True: []}
        for request in batch:
            conversation = self._converse(request)
            asked[self._must_pad(conversation, request)].append((request, conversation))
        results = {}
        for model, pairs in ((self.model, asked[False]), (self._padding_model, asked[True])):
            if not pairs:
                continue
            conversations = [conversation for _, conversation in pairs]
            replies = model.ask_all(conversations, keep=None, **options)
            for (request, _), reply in zip(pairs, replies, strict=True):
                counts = TokenCounts(reply.usage.prompt_tokens, reply.usage.completion_tokens)
                results[request.index] = GenerationResult(reply.text, counts)
                cache_key = (request.context, request.settings)
                self.cache_hook.add_partial("generate_until", cache_key, reply.text)
        return results

    def _must_pad(self, conversation: Conversation, request: EvalRequest) -> bool:
        """Whether a single image is padded, as several images are.

        FIDELITY: when the paper was written, the wrapper never used AnyRes again after its first
        question about several images.
        """
        num_images = sum(isinstance(one, Image) for one in conversation.media)
        shown_as_video = _sample_frames(request.metadata) is not None
        self._has_seen_several |= num_images > 1 or shown_as_video
        return self.profile == "p24" and self._has_seen_several and num_images == 1


class OneVisionSimple(_OneVision):
    """The simple mode: a text and its visuals."""

    is_simple = True

    def _converse(self, request: EvalRequest) -> Conversation:
        media = to_media(
            request.source(request.doc),
            num_frames=self.num_frames,
            sample_frames=_sample_frames(request.metadata),
            image_mean=self.model.config.inputs.image_mean,
        )
        return to_conversation(request.context, media)


class OneVisionChat(_OneVision):
    """The chat mode: messages made of parts."""

    is_simple = False

    def _converse(self, request: EvalRequest) -> Conversation:
        return from_messages(request.source(request.doc), num_frames=self.num_frames)


def from_messages(messages: Sequence[Mapping[str, Any]], *, num_frames: int) -> Conversation:
    """Turns chat messages into a conversation. Raises InputError, MediaError.

    A single message with its media before its only text, which lmms-eval makes of a simple task, is
    assembled as the reference assembles those. Elsewhere parts keep their order, with a space
    between two media and a line break between media and text.
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
                parts.append(read_video(part["url"], num_frames=num_frames))
            case kind:
                raise InputError(f"a message has a part {kind!r}; expected text, image or video")
    return parts


def _message(role: Role, parts: Sequence[Part]) -> Message:
    spaced: list[Part] = []
    for part in parts:
        if spaced and not isinstance(spaced[-1], Text):
            spaced.append(Text("\n" if isinstance(part, Text) else " "))
        spaced.append(part)
    return Message(role, spaced, media_separator="")


def _sample_frames(metadata: Mapping[str, Any] | None) -> int | None:
    """Returns how many images are shown as frames of a video, if the task wants that."""
    if metadata and metadata.get("task_type") == "video":
        return metadata.get("sample_frames")
    return None


def _pad_single_images(model: Model) -> Model:
    """Returns the model with a single image treated as one of several."""
    inputs = replace(model.config.inputs, image=model.config.inputs.multi_image)
    return replace(model, processor=Processor(inputs, model.processor.tokenizer))
