"""The chat templates of the family, as values: the markup around the words of each role.

    qwen_1_5        <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎Hello<|im_end|>⏎
    chatml_direct   <|im_start|>user⏎Hi<|im_end|><|im_start|>assistant⏎Hello<|im_end|>
    vicuna_v1       USER: Hi ASSISTANT: Hello</s>
    llava_v0        Human: Hi###Assistant: Hello###
    mistral_instruct   [INST] Hi [/INST] Hello </s>
    onevision_1_5   <|im_start|>user⏎<|vision_start|>(image)<|vision_end|>Hi<|im_end|>⏎...
    onevision_2     the same, and each frame of a video is an image after its time: <1.5 seconds>
    llava_llama_3   <|start_header_id|>user<|end_header_id|>⏎⏎Hi<|eot_id|>...

Identical to the references' to the character (llava/conversation.py; Qwen2-VL's); tests compare
hashes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from onevision.boxes import Coordinates
from onevision.config import Template
from onevision.errors import CheckpointError
from onevision.inputs.tokenizer import IM_END, IM_START, VISION_END, VISION_START, Tokenizer

BEGIN, END = "<s>", "</s>"
HEADER, HEADER_END, TURN_END = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"

HELPFUL = "You are a helpful assistant."
VISUAL = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
CURIOUS = (
    "A chat between a curious {who} and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the {who}'s questions."
)


@dataclass(frozen=True, kw_only=True)
class RoleFormat:
    """The markup around the words of one role. The assistant's `head` asks for an answer."""

    head: str = ""
    # Before the words, if there are any.
    lead: str = ""
    tail: str = ""


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """A chat template, and which parts of it are labelled in training."""

    user: RoleFormat
    assistant: RoleFormat
    system: RoleFormat
    # Around every image and video.
    media: RoleFormat = RoleFormat()
    # Whether a line break separates it from the text that follows.
    separates_media: bool = True
    # Before every frame of a video, whose frames then stand apart, each in `media`; "" for none.
    frame_tag: str = ""
    # The system message of a conversation that has none; "" for no message.
    default_system: str = ""
    # Whether the system message goes inside the first user turn, after its head.
    system_inside: bool = False
    # Before every user turn except the first.
    between: str = ""
    # Control tokens of the template: text can never produce their ids.
    controls: tuple[str, ...] = ()
    # How a checkpoint of this format writes boxes and points.
    coordinates: Coordinates = "unit"
    # Whether white space around a message is stripped.
    strips: bool = False

    # Labels: an answer's words and its tail, or the whole assistant turn.
    whole_answers: bool = False
    # Markup labelled in every role, and a text labelled wherever it is a single token.
    labelled_marks: tuple[str, ...] = ()
    labelled_text: str | None = None

    @property
    def end(self) -> str | None:
        """The control token that ends an answer; None if a text does ("###")."""
        return next((token for token in self.controls if token in self.assistant.tail), None)

    @property
    def end_text(self) -> str | None:
        """The text that ends an answer; None if a control token does."""
        return None if self.end else self.assistant.tail

    def split(self, text: str) -> list[str]:
        """Splits `text`, markup of this template, at its control tokens and labelled marks."""
        marks = {*self.controls, *self.labelled_marks}
        if not marks:
            return [text]
        pattern = "|".join(re.escape(mark) for mark in sorted(marks))
        return [part for part in re.split(f"({pattern})", text) if part]


def _chatml(*, after: str) -> ChatTemplate:
    def turn(role: str) -> RoleFormat:
        return RoleFormat(head=f"{IM_START}{role}\n", tail=f"{IM_END}{after}")

    return ChatTemplate(
        user=turn("user"),
        assistant=turn("assistant"),
        system=turn("system"),
        controls=(IM_START, IM_END),
    )


def _llama_3(role: str) -> RoleFormat:
    return RoleFormat(head=f"{HEADER}{role}{HEADER_END}\n\n", tail=TURN_END)


QWEN_1_5 = replace(
    _chatml(after="\n"),
    default_system=HELPFUL,
    whole_answers=True,
    labelled_marks=(IM_START, IM_END),
    labelled_text="\n",
)
ONEVISION_1_5 = replace(
    _chatml(after="\n"),
    default_system=HELPFUL,
    media=RoleFormat(head=VISION_START, tail=VISION_END),
    separates_media=False,
    coordinates="thousandths",
    controls=(IM_START, IM_END, VISION_START, VISION_END),
)
# FIDELITY: as in the released processor; the training code adds a line break after each frame.
ONEVISION_2 = replace(ONEVISION_1_5, frame_tag="<{seconds:.1f} seconds>")
VICUNA_V1 = ChatTemplate(
    system=RoleFormat(tail=" "),
    user=RoleFormat(head="USER: ", tail=" "),
    assistant=RoleFormat(head="ASSISTANT:", lead=" ", tail=END),
    default_system=CURIOUS.format(who="user"),
    controls=(END,),
)
LLAVA_V0 = ChatTemplate(
    system=RoleFormat(tail="###"),
    user=RoleFormat(head="Human: ", tail="###"),
    assistant=RoleFormat(head="Assistant:", lead=" ", tail="###"),
    default_system=CURIOUS.format(who="human"),
    whole_answers=True,
    labelled_marks=("###",),
)
# FIDELITY: without a system message there is no system markup either.
MISTRAL = ChatTemplate(
    system=RoleFormat(head="<<SYS>>\n", tail="\n<</SYS>>\n\n"),
    user=RoleFormat(head="[INST] ", tail=" [/INST]"),
    assistant=RoleFormat(lead=" ", tail=f" {END}"),
    system_inside=True,
    controls=(BEGIN, END),
)
LLAMA_3 = ChatTemplate(
    system=_llama_3("system"),
    user=_llama_3("user"),
    assistant=_llama_3("assistant"),
    default_system=VISUAL,
    controls=(HEADER, HEADER_END, TURN_END),
    strips=True,
    whole_answers=True,
    labelled_marks=(HEADER, HEADER_END, TURN_END),
    labelled_text="\n\n",
)

# All except "plain", which has no roles: see chat.py.
TEMPLATES: Mapping[Template, ChatTemplate] = MappingProxyType(
    {
        "qwen_1_5": QWEN_1_5,
        "qwen_2_5": replace(
            QWEN_1_5, default_system=f"You are Qwen, created by Alibaba Cloud. {HELPFUL}"
        ),
        "chatml_direct": replace(_chatml(after=""), default_system="Answer the questions."),
        "vicuna_v1": VICUNA_V1,
        "llava_v1": replace(VICUNA_V1, default_system=CURIOUS.format(who="human")),
        "llava_v0": LLAVA_V0,
        "llava_llama_2": replace(MISTRAL, default_system=VISUAL, between=BEGIN),
        "mistral_instruct": MISTRAL,
        "llava_llama_3": LLAMA_3,
        "onevision_1_5": ONEVISION_1_5,
        "onevision_2": ONEVISION_2,
    }
)


def check_template(template: Template, tokenizer: Tokenizer) -> None:
    """Raises CheckpointError if the tokenizer lacks control tokens of the template."""
    missing = _missing(template, tokenizer)
    if missing:
        served = [name for name in TEMPLATES if not _missing(name, tokenizer)]
        raise CheckpointError(
            f"{tokenizer.name}: template {template} needs {', '.join(missing)} among its "
            f"added_tokens; it supports {', '.join([*served, 'plain'])}: choose one with "
            "`onevision convert --template`, or use the tokenizer that came with the weights"
        )


def end_ids(template: Template, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Returns the ids that end an answer; empty if the template ends it with text."""
    chat = TEMPLATES.get(template)
    return () if chat is None or chat.end is None else (tokenizer.id_of(chat.end),)


def end_texts(template: Template) -> tuple[str, ...]:
    """Returns the texts that end an answer; empty if the template ends it with a token."""
    chat = TEMPLATES.get(template)
    return () if chat is None or chat.end_text is None else (chat.end_text,)


def coordinates_of(template: Template) -> Coordinates:
    """Returns how a checkpoint of this format writes boxes and points."""
    chat = TEMPLATES.get(template)
    return "unit" if chat is None else chat.coordinates


def _missing(template: Template, tokenizer: Tokenizer) -> list[str]:
    chat = TEMPLATES.get(template)
    return [] if chat is None else [t for t in chat.controls if t not in tokenizer.added_tokens]
