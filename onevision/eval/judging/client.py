"""A query -> the judge's reply, through an OpenAI-compatible endpoint.

Connects only to the address in the user's settings. Redirects are refused, so that the API key
never reaches another host.
"""

import base64
import contextlib
import http.client
import json
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Self
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from onevision.errors import ConfigError, JudgeError

PATH = "/chat/completions"
DEFAULT_URL = "https://api.openai.com/v1"
MAX_REPLY_BYTES = 16 * 2**20
MAX_WAIT_SECONDS = 60.0
# Worth a retry, and refusals of a single query. Any other status ends the run.
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
REFUSAL_STATUSES = frozenset({400, 413, 415, 422})


class RefusedQueryError(Exception):
    """The endpoint rejects this query; others may still succeed."""


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Where the judge is, which model it is, and how often a query is retried."""

    # The API's base URL, up to its version.
    base_url: str = DEFAULT_URL
    # The judging model, by the endpoint's own name.
    model: str
    # Sent as a bearer token; None sends none.
    api_key: str | None = field(default=None, repr=False)
    # Seconds without data after which an attempt is abandoned.
    timeout_seconds: float = 120.0
    # Attempts per query; the wait doubles after each.
    max_attempts: int = 6
    first_wait_seconds: float = 1.0
    # Queries in flight at the same time.
    num_parallel: int = 4
    # Prices per million tokens, in any currency; None if costs are not of interest.
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        address = self.base_url.rstrip("/").removesuffix(PATH)
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"the judge's address is {self.base_url!r}; expected a URL such as {DEFAULT_URL}"
            )
        object.__setattr__(self, "base_url", address)
        if not self.model:
            raise ConfigError("the judge has no model; set ONEVISION_JUDGE_MODEL")
        for name in ("timeout_seconds", "max_attempts", "num_parallel"):
            if not vars(self)[name] > 0:
                raise ConfigError(f"{name} is {vars(self)[name]}; expected a positive number")
        if (self.price_in is None) != (self.price_out is None):
            raise ConfigError("give prices for both input and output tokens, or for neither")

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], *, base_url: str | None = None
    ) -> Self:
        """Reads ONEVISION_JUDGE_MODEL, _URL, _KEY (or OPENAI_API_KEY) and _PRICES ("2.5,10").

        `base_url` stands in place of _URL. Raises ConfigError.
        """
        prices = environment.get("ONEVISION_JUDGE_PRICES")
        try:
            price_in, price_out = map(float, prices.split(",")) if prices else (None, None)
        except ValueError as error:
            raise ConfigError(
                f"ONEVISION_JUDGE_PRICES is {prices!r}; expected two numbers, as in '2.5,10'"
            ) from error
        return cls(
            base_url=base_url or environment.get("ONEVISION_JUDGE_URL", DEFAULT_URL),
            model=environment.get("ONEVISION_JUDGE_MODEL", ""),
            api_key=environment.get("ONEVISION_JUDGE_KEY") or environment.get("OPENAI_API_KEY"),
            price_in=price_in,
            price_out=price_out,
        )


@dataclass(frozen=True, kw_only=True)
class Query:
    """A single request to a judge."""

    system: str
    user: str
    # PNG images, shown before the text.
    images: tuple[bytes, ...] = ()
    temperature: float = 0.0
    max_tokens: int = 1024
    # A regular expression of readable replies, which a model in this process is held to.
    form: str | None = None
    # Which time the same is asked; replies are remembered for each.
    round: int = 0

    def messages(self) -> list[dict[str, object]]:
        """Returns the messages in the API's format."""
        content: str | list[dict[str, object]] = self.user
        if self.images:
            urls = (f"data:image/png;base64,{base64.b64encode(i).decode()}" for i in self.images)
            content = [
                *({"type": "image_url", "image_url": {"url": url}} for url in urls),
                {"type": "text", "text": self.user},
            ]
        user: dict[str, object] = {"role": "user", "content": content}
        return [{"role": "system", "content": self.system}, user] if self.system else [user]


@dataclass(frozen=True, kw_only=True)
class JudgeReply:
    """A judge's text and its token counts, which are None if the endpoint reports none."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None


class Endpoint:
    """Sends queries to an endpoint and retries transient failures."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.num_retries = 0
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The model, by the endpoint's own name."""
        return self.config.model

    @property
    def identity(self) -> dict[str, object]:
        """What a reply depends on beside the query."""
        return {"base_url": self.config.base_url, "model": self.config.model}

    def ask(self, query: Query) -> JudgeReply:
        """Returns the reply to a query.

        Raises JudgeError if no query can be answered (wrong key, unreachable after all attempts),
        RefusedQueryError if the endpoint rejects this one.
        """
        body = json.dumps(
            {
                "model": self.config.model,
                "messages": query.messages(),
                "temperature": query.temperature,
                "max_tokens": query.max_tokens,
            }
        ).encode()
        wait, problem = self.config.first_wait_seconds, ""
        for attempt in range(self.config.max_attempts):
            if attempt:
                time.sleep(min(wait, MAX_WAIT_SECONDS))
                wait *= 2
                with self._lock:
                    self.num_retries += 1
            try:
                return _parse_reply(_send(self.config, PATH, body))
            except HTTPError as error:
                problem = _describe(error)
                if error.code in REFUSAL_STATUSES:
                    raise RefusedQueryError(problem) from error
                if error.code not in TRANSIENT_STATUSES:
                    raise JudgeError(f"the judge at {self.config.base_url}: {problem}") from error
                wait = max(wait, _retry_after(error))
            except URLError as error:
                problem = str(error.reason)
            except (OSError, http.client.HTTPException) as error:
                problem = str(error) or type(error).__name__
            except (ValueError, RecursionError) as error:
                problem = f"the reply is not a chat completion ({error})"
        raise JudgeError(
            f"the judge at {self.config.base_url} did not answer in {self.config.max_attempts} "
            f"attempts; the last one failed with: {problem}. Replies so far are kept; run again to "
            "continue"
        )


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        """Returns nothing, so that a redirect becomes an HTTPError."""


def _send(config: EndpointConfig, path: str, body: bytes | None) -> bytes:
    """Sends a POST, or a GET without a body; returns what comes back."""
    headers = {"Content-Type": "application/json", "User-Agent": "onevision"}
    if config.api_key:
        headers["Authorization"] = f"Bearer {config.api_key}"
    request = urllib.request.Request(config.base_url + path, data=body, headers=headers)
    opener = urllib.request.build_opener(_RefuseRedirects)
    with opener.open(request, timeout=config.timeout_seconds) as response:
        reply = response.read(MAX_REPLY_BYTES)
        assert isinstance(reply, bytes)
        return reply


def list_models(config: EndpointConfig) -> list[str]:
    """Returns the names of the models that an endpoint serves. Raises JudgeError."""
    try:
        listed = json.loads(_send(config, "/models", None))
        return [str(model["id"]) for model in listed["data"]]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        reason = _describe(error) if isinstance(error, HTTPError) else str(error)
        raise JudgeError(
            f"the judge at {config.base_url} does not list its models ({reason[:200]}); name one "
            "with --judge-model"
        ) from error


def _parse_reply(body: bytes) -> JudgeReply:
    match json.loads(body):
        case {"choices": [{"message": {"content": str(text)}}, *_], **rest}:
            usage = rest.get("usage") or {}
            counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
            return JudgeReply(text=text, prompt_tokens=counts[0], completion_tokens=counts[1])
    raise ValueError("no choices[0].message.content")


def _describe(error: HTTPError) -> str:
    """Returns the status and the endpoint's message on one line."""
    message = error.read(2000).decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        message = json.loads(message)["error"]["message"]
    return f"HTTP {error.code} {error.reason}: {' '.join(str(message).split())[:300]}"


def _retry_after(error: HTTPError) -> float:
    """Returns the number of seconds the endpoint asks to wait, 0 if it asks for none."""
    try:
        return min(float(error.headers.get("Retry-After", 0)), MAX_WAIT_SECONDS)
    except ValueError:
        return 0.0
