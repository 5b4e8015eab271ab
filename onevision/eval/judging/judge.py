"""A query -> the judging model's words, remembered on disk, with a count of what they cost.

A reply is stored under a hash of everything it may depend on, so that an interrupted run continues
and asking the same again is free.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from onevision.endpoint import EndpointConfig
from onevision.eval.judging.client import Endpoint, JudgeReply, Query
from onevision.files import write_json


class JudgeModel(Protocol):
    """A model that answers queries: of an endpoint (client.py), or in this process (local.py)."""

    @property
    def num_retries(self) -> int:
        """Queries that failed and were sent again."""
        ...

    @property
    def name(self) -> str:
        """What the user calls it."""
        ...

    @property
    def identity(self) -> dict[str, object]:
        """What a reply depends on beside the query, as JSON."""
        ...

    def ask(self, query: Query) -> JudgeReply:
        """Returns the reply to a query. Raises JudgeError, RefusedQueryError."""
        ...


@dataclass(frozen=True, kw_only=True)
class JudgePrices:
    """What a million tokens cost, in any currency."""

    per_million_in: float
    per_million_out: float


@dataclass(frozen=True, kw_only=True)
class JudgeUsage:
    """What a judge's replies took."""

    num_asked: int  # queries answered by the endpoint
    num_remembered: int  # queries answered from disk
    num_retries: int
    prompt_tokens: int  # of the queries sent; remembered replies cost nothing
    completion_tokens: int
    num_uncounted: int  # replies whose tokens the endpoint does not report
    cost: float | None  # in the currency of the prices; None without prices or token counts

    def since(self, before: "JudgeUsage") -> "JudgeUsage":
        """Returns what was used after `before`, an earlier count of the same judges."""
        cost = None if self.cost is None or before.cost is None else self.cost - before.cost
        counts = {name: vars(self)[name] - vars(before)[name] for name in _COUNTS}
        return JudgeUsage(**counts, cost=cost)


_COUNTS = ("num_asked", "num_remembered", "num_retries", "prompt_tokens", "completion_tokens",
           "num_uncounted")  # fmt: skip


def sum_usage(usages: Sequence[JudgeUsage]) -> JudgeUsage:
    """Returns what several judges took together; the cost is None if that of one is."""
    costs = [one.cost for one in usages if one.cost is not None]
    counts = {name: sum(vars(one)[name] for one in usages) for name in _COUNTS}
    return JudgeUsage(**counts, cost=sum(costs) if len(costs) == len(usages) else None)


class Judge:
    """A judging model that remembers its replies. Safe to use from several threads."""

    def __init__(
        self,
        model: EndpointConfig | JudgeModel,
        *,
        memory: Path | None = None,
        prices: JudgePrices | None = None,
    ) -> None:
        """Takes the model, and the directory where replies are remembered, if any.

        `prices` stand in place of those of an endpoint.
        """
        self.memory, self.prices, self.num_parallel = memory, prices, 1
        if isinstance(model, EndpointConfig):
            self.num_parallel = model.num_parallel
            if prices is None and model.price_in is not None and model.price_out is not None:
                self.prices = JudgePrices(
                    per_million_in=model.price_in, per_million_out=model.price_out
                )
            model = Endpoint(model)
        self._model: JudgeModel = model
        self._lock = threading.Lock()
        self._replies: list[JudgeReply] = []
        self._num_remembered = 0

    def ask(self, query: Query, *, round_number: int = 0) -> str:
        """Returns the judge's words. Each round asks again; within one, replies are remembered.

        Raises JudgeError, RefusedQueryError.
        """
        query = replace(query, round=round_number)
        asked = self._describe(query)
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        path = self.memory and self.memory / digest[:2] / f"{digest}.json"
        if path and path.is_file():
            with self._lock:
                self._num_remembered += 1
            return json.loads(path.read_text(encoding="utf-8"))["reply"]["text"]
        reply = self._model.ask(query)
        with self._lock:
            self._replies.append(reply)
        if path:
            write_json(path, {"asked": asked, "reply": asdict(reply)}, indent=None)
        return reply.text

    def _describe(self, query: Query) -> dict[str, object]:
        """Returns everything a reply may depend on; images by the hashes of their bytes."""
        images = [hashlib.sha256(image).hexdigest() for image in query.images]
        described = {**self._model.identity, **asdict(query), "images": images}
        del described["form"]  # it follows from the prompt
        return described

    @property
    def name(self) -> str:
        """The judging model's name."""
        return self._model.name

    @property
    def usage(self) -> JudgeUsage:
        """What has been asked so far, and what it cost."""
        with self._lock:
            replies, num_remembered = tuple(self._replies), self._num_remembered
        counts = [(reply.prompt_tokens, reply.completion_tokens) for reply in replies]
        known = [(i, o) for i, o in counts if i is not None and o is not None]
        tokens_in, tokens_out = sum(i for i, _ in known), sum(o for _, o in known)
        cost, prices = None, self.prices
        if prices is not None and len(known) == len(replies):
            cost = tokens_in * prices.per_million_in + tokens_out * prices.per_million_out
            cost /= 1e6
        return JudgeUsage(
            num_asked=len(replies),
            num_remembered=num_remembered,
            num_retries=self._model.num_retries,
            prompt_tokens=tokens_in,
            completion_tokens=tokens_out,
            num_uncounted=len(replies) - len(known),
            cost=cost,
        )
