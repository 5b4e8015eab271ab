"""A query -> the reply of a model in this process, such as 'tiny' or a checkpoint directory."""

import hashlib
import json
from importlib.util import find_spec

from onevision.conversation import Conversation, Image, Message, Text
from onevision.endpoint import RefusedQueryError
from onevision.errors import InputError
from onevision.eval.judging.client import JudgeReply, Query
from onevision.generate.answer import Model
from onevision.generate.sampler import SamplingOptions


class LocalJudge:
    """Asks a loaded model. At temperature 0 replies are greedy, else each round has its own.

    Replies are held to the form of a query, if llguidance is installed: small models rarely keep to
    a form by themselves.
    """

    num_retries = 0

    def __init__(self, model: Model, *, name: str, fingerprint: str) -> None:
        """Takes the model, what the user calls it, and a hash of its weights."""
        self.model, self._name, self.fingerprint = model, name, fingerprint

    @property
    def name(self) -> str:
        """What the user calls the model."""
        return self._name

    @property
    def identity(self) -> dict[str, object]:
        """What a reply depends on beside the query."""
        return {"fingerprint": self.fingerprint}

    def ask(self, query: Query) -> JudgeReply:
        """Returns the model's reply.

        Raises RefusedQueryError for a query that it cannot read, such as one that is too long.
        """
        parts = [*map(Image, query.images), Text(query.user)]
        system = [Message("system", query.system)] if query.system else []
        options: SamplingOptions = {"max_new_tokens": query.max_tokens}
        if query.form is not None and find_spec("llguidance"):
            options["regex"] = query.form
        if query.temperature:
            options |= {"temperature": query.temperature, "seed": _make_seed(query)}
        try:
            (reply,) = self.model.ask_all(
                [Conversation([*system, Message("user", parts)])], keep=None, **options
            )
        except InputError as error:
            raise RefusedQueryError(str(error)) from error
        usage = reply.usage
        return JudgeReply(
            text=reply.text,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )


def _make_seed(query: Query) -> int:
    text = json.dumps([query.system, query.user, query.temperature, query.round])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
