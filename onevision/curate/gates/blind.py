"""Visual dependence: a model answers over a grey picture; what it knows blind needs no picture."""

from collections.abc import Sequence

from PIL import Image as PIL

from onevision.conversation import Conversation, Image, Message, Part, Text
from onevision.curate.gates.gate import GateItem
from onevision.errors import InputError
from onevision.eval.scoring.rouge import rouge_l
from onevision.eval.scoring.text import normalise
from onevision.generate.answer import Model
from onevision.inputs.media import image_size

GREY = (127, 127, 127)
# Answers of more words are compared by ROUGE-L, shorter ones exactly.
MAX_EXACT_WORDS = 5
MIN_ROUGE = 0.7
MAX_NEW_TOKENS = 64


class BlindGate:
    """Marks records whose first answer a model gives over a grey picture, too."""

    name = "blind"

    def __init__(self, model: Model) -> None:
        self._model = model

    def check(self, items: Sequence[GateItem]) -> list[str | None]:
        """Returns the answer that was given blind. Records without pictures pass."""
        found: list[str | None] = [None] * len(items)
        asked: dict[int, Conversation] = {}
        for place, item in enumerate(items):
            if any(isinstance(part, Image) for part in item.conversation.media) and item.answers:
                asked[place] = grey_question(item.conversation)
        try:
            replies = self._model.ask_all(list(asked.values()), max_new_tokens=MAX_NEW_TOKENS)
        except InputError as error:  # one that is too long; they are few, so each alone
            if len(items) == 1:
                return [f"it cannot be asked: {error}"]
            return [self.check([item])[0] for item in items]
        for place, reply in zip(asked, replies, strict=True):
            if agrees(reply.text, items[place].answers[0]):
                found[place] = f"over a grey picture the model says {reply.text.strip()[:80]!r}"
        return found


def grey_question(conversation: Conversation) -> Conversation:
    """Returns the turns up to the first answer, with grey pictures of the same sizes.

    Raises MediaError.
    """
    messages: list[Message] = []
    for message in conversation.messages:
        if message.role == "assistant":
            break
        parts = [_grey(part) for part in message.parts]
        messages.append(Message(message.role, parts, media_separator=message.media_separator))
    return Conversation(messages)


def agrees(answer: str, expected: str) -> bool:
    """Whether an answer says what is expected: exactly if that is short, else mostly."""
    if len(expected.split()) <= MAX_EXACT_WORDS:
        return normalise(answer) == normalise(expected)
    return rouge_l(answer, expected) >= MIN_ROUGE


def _grey(part: Part) -> Part:
    if isinstance(part, Text) or not isinstance(part, Image):
        return part
    size = image_size(part.source)
    return Image(PIL.new("RGB", (size.width, size.height), GREY), detail=part.detail)
