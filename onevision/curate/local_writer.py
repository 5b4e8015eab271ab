"""Tasks -> attempts: a model in this process, several tasks at a time.

The engine's caches hold what prompts share: a prompt's first messages are read once, and so is a
picture that is asked about several times.
"""

import time
from collections.abc import Iterator

from onevision.curate.task import Attempt
from onevision.curate.writer import Answered, Ask, NextAsk, fail
from onevision.errors import InputError, MediaError
from onevision.eval.benchmark import network_fingerprint
from onevision.generate.answer import Model, load
from onevision.generate.reply import build_reply
from onevision.generate.request import Request
from onevision.generate.sampler import SamplingOptions


class LocalWriter:
    """A model that our engine runs. A reply does not depend on what else is in its batch."""

    def __init__(self, model: Model, *, at_once: int) -> None:
        self._model, self._at_once = model, at_once
        self._identity = network_fingerprint(model)

    @property
    def identity(self) -> str:
        """A hash of the weights, the tokenizer and the input rules."""
        return self._identity

    def answers(self, next_ask: NextAsk) -> Iterator[Answered]:
        """Yields attempts as they end, and starts others in their place; see Writer.

        Raises EngineError.
        """
        running: dict[int, tuple[Ask, Request]] = {}
        while True:
            yield from self._fill(running, next_ask)
            if not running:
                return
            self._model.engine.step()
            for number, (ask, request) in list(running.items()):
                if request.finished:
                    del running[number]
                    yield _answered(ask, request, arithmetic=self._model.arithmetic)

    def _fill(
        self, running: dict[int, tuple[Ask, Request]], next_ask: NextAsk
    ) -> Iterator[Answered]:
        """Submits tasks until enough are running; yields those that cannot be asked."""
        while len(running) < self._at_once and (ask := next_ask()) is not None:
            try:
                request = self._submit(ask)
            except MediaError as error:
                yield fail(ask, "damaged picture", str(error))
            except InputError as error:
                yield fail(ask, "refused query", str(error))
            else:
                running[request.number] = ask, request

    def _submit(self, ask: Ask) -> Request:
        task = ask.task
        options = SamplingOptions(
            max_new_tokens=task.sampling.max_tokens,
            temperature=task.sampling.temperature,
            seed=task.seed_of(ask.number),
        )
        inputs = self._model.prompt(task.conversation)
        return self._model.engine.submit(inputs, self._model.sampling.override(options))


def open_local(name: str, *, device: str, dtype: str, at_once: int) -> LocalWriter:
    """Loads a model by name, directory or hub id. Raises as `load` does."""
    return LocalWriter(load(name, device=device, dtype=dtype), at_once=at_once)


def _answered(ask: Ask, request: Request, *, arithmetic: str) -> Answered:
    reply = build_reply(request, arithmetic=arithmetic)
    attempt = Attempt(
        task=ask.task.id,
        number=ask.number,
        text=reply.text,
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.usage.prompt_tokens,
        completion_tokens=reply.usage.completion_tokens,
        seconds=round(time.monotonic() - request.arrived_at, 3),
    )
    return Answered(ask, attempt)
