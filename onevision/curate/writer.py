"""Tasks -> attempts: a writer behind an endpoint, several queries at a time."""

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from onevision.conversation import Conversation, Image, Part, Text
from onevision.curate.task import Attempt, AttemptFault, Task
from onevision.endpoint import (
    ChatEndpoint,
    EndpointConfig,
    RefusedQueryError,
    WireMessage,
    image_part,
    text_part,
)
from onevision.errors import EndpointError, EndpointFault, MediaError
from onevision.inputs.media import open_image

# Failures of one query; the others end the run.
OF_ONE_QUERY: dict[EndpointFault, AttemptFault] = {
    "timeout": "timeout",
    "reply": "reply",
    "server": "server",
}
# What every endpoint reads, by the first bytes; anything else is sent as PNG.
MEDIA_TYPES = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n", "image/png"))


@dataclass(frozen=True)
class Ask:
    """A task, and which try at it this is."""

    task: Task
    number: int


@dataclass(frozen=True)
class Answered:
    """An ask, and what came of it; its money is not known yet."""

    ask: Ask
    attempt: Attempt


NextAsk = Callable[[], Ask | None]


class Writer(Protocol):
    """A model that writes."""

    @property
    def identity(self) -> str:
        """What a reply depends on beside the task: a name, or a hash of weights."""
        ...

    def answers(self, next_ask: NextAsk) -> Iterator[Answered]:
        """Yields attempts as they are made; calls `next_ask` for more until it returns None.

        `next_ask` is called again after each attempt. Raises EndpointError, EngineError if no task
        can be answered.
        """
        ...


class EndpointWriter:
    """A model behind an OpenAI-compatible endpoint."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config

    @property
    def identity(self) -> str:
        """The model, by the endpoint's own name."""
        return self.config.model

    def answers(self, next_ask: NextAsk) -> Iterator[Answered]:
        """Yields attempts in the order in which replies arrive; see Writer.

        What is in flight when a query fails for all is awaited and yielded first, so that replies
        that were paid for are kept.
        """
        endpoint = ChatEndpoint(self.config)
        fatal: EndpointError | None = None
        pending: set[Future[Answered]] = set()
        pool = ThreadPoolExecutor(self.config.num_parallel)
        try:
            while True:
                while fatal is None and len(pending) < self.config.num_parallel:
                    ask = next_ask()
                    if ask is None:
                        break
                    pending.add(pool.submit(_ask, endpoint, ask))
                if not pending:
                    break
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        yield future.result()
                    except EndpointError as error:
                        fatal = fatal or error
                        endpoint.close()
            if fatal is not None:
                raise fatal
        finally:
            endpoint.close()
            pool.shutdown(cancel_futures=True)


def _ask(endpoint: ChatEndpoint, ask: Ask) -> Answered:
    """Returns the reply to a task, or why it alone has none. Raises EndpointError."""
    task, begin = ask.task, time.monotonic()
    try:
        reply = endpoint.complete(
            to_messages(task.conversation),
            temperature=task.sampling.temperature,
            max_tokens=task.sampling.max_tokens,
            seed=task.seed_of(ask.number),
        )
    except RefusedQueryError as error:
        return fail(ask, "refused query", str(error))
    except MediaError as error:
        return fail(ask, "damaged picture", str(error))
    except EndpointError as error:
        fault = OF_ONE_QUERY.get(error.fault)
        if fault is None:
            raise
        return fail(ask, fault, str(error))
    attempt = Attempt(
        task=task.id,
        number=ask.number,
        text=reply.text,
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        seconds=round(time.monotonic() - begin, 3),
    )
    return Answered(ask, attempt)


def fail(ask: Ask, fault: AttemptFault, detail: str) -> Answered:
    """Returns an attempt without a reply."""
    attempt = Attempt(task=ask.task.id, number=ask.number, text=None, fault=fault, detail=detail)
    return Answered(ask, attempt)


def to_messages(conversation: Conversation) -> list[WireMessage]:
    """Returns a conversation in the API's format. Raises MediaError for a damaged picture."""
    return [
        {"role": message.role, "content": _content(message.parts)}
        for message in conversation.messages
    ]


def _content(parts: tuple[Part, ...]) -> str | list[dict[str, object]]:
    if all(isinstance(part, Text) for part in parts):
        return "\n".join(part.text for part in parts if isinstance(part, Text))
    return [text_part(part.text) if isinstance(part, Text) else _encode(part) for part in parts]


def _encode(part: Part) -> dict[str, object]:
    """Returns a picture's own bytes where every endpoint reads them, else a PNG of it."""
    assert isinstance(part, Image)
    picture = open_image(part.source)  # damage is found here, and not by the model
    if isinstance(part.source, str | Path | bytes):
        data = part.source if isinstance(part.source, bytes) else Path(part.source).read_bytes()
        for magic, media_type in MEDIA_TYPES:
            if data.startswith(magic):
                return image_part(data, media_type=media_type)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return image_part(file.getvalue())
