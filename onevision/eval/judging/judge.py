"""A query -> the judging model's words, remembered on disk, with a count of what they cost.

A reply is stored under a hash of everything it may depend on, so that an interrupted run continues
and asking the same again is free.
"""

import hashlib
import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from onevision.eval.judging.client import Endpoint, EndpointConfig, JudgeReply, Query
from onevision.files import write_json


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


class Judge:
    """A judging model that remembers its replies. Safe to use from several threads."""

    def __init__(self, config: EndpointConfig, *, memory: Path | None = None) -> None:
        """Takes the endpoint, and the directory where replies are remembered, if any."""
        self.config, self.memory = config, memory
        self._endpoint = Endpoint(config)
        self._lock = threading.Lock()
        self._replies: list[JudgeReply] = []
        self._num_remembered = 0

    def ask(self, query: Query, *, round_number: int = 0) -> str:
        """Returns the judge's words. Each round asks again; within one, replies are remembered.

        Raises JudgeError, RefusedQueryError.
        """
        asked = self._describe(query, round_number)
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        path = self.memory and self.memory / digest[:2] / f"{digest}.json"
        if path and path.is_file():
            with self._lock:
                self._num_remembered += 1
            return json.loads(path.read_text(encoding="utf-8"))["reply"]["text"]
        reply = self._endpoint.ask(query)
        with self._lock:
            self._replies.append(reply)
        if path:
            write_json(path, {"asked": asked, "reply": asdict(reply)}, indent=None)
        return reply.text

    def _describe(self, query: Query, round_number: int) -> dict[str, object]:
        """Returns everything a reply may depend on; images by the hashes of their bytes."""
        images = [hashlib.sha256(image).hexdigest() for image in query.images]
        judge = {"base_url": self.config.base_url, "model": self.config.model}
        return {**judge, **asdict(query), "images": images, "round": round_number}

    @property
    def usage(self) -> JudgeUsage:
        """What has been asked so far, and what it cost."""
        with self._lock:
            replies, num_remembered = tuple(self._replies), self._num_remembered
        counts = [(reply.prompt_tokens, reply.completion_tokens) for reply in replies]
        known = [(i, o) for i, o in counts if i is not None and o is not None]
        tokens_in, tokens_out = sum(i for i, _ in known), sum(o for _, o in known)
        price_in, price_out = self.config.price_in, self.config.price_out
        cost = None
        if price_in is not None and price_out is not None and len(known) == len(replies):
            cost = (tokens_in * price_in + tokens_out * price_out) / 1e6
        return JudgeUsage(
            num_asked=len(replies),
            num_remembered=num_remembered,
            num_retries=self._endpoint.num_retries,
            prompt_tokens=tokens_in,
            completion_tokens=tokens_out,
            num_uncounted=len(replies) - len(known),
            cost=cost,
        )
