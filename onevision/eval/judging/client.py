"""A question for a judge -> its words, through one OpenAI-compatible endpoint.

The only place of this package that opens a connection; it goes where the user's settings say and
nowhere else: redirections are refused, so that the key never travels to another host.
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
# What may pass by itself, and what is wrong with one question alone; all else ends the run.
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
REFUSING = frozenset({400, 413, 415, 422})


class RefusedQueryError(Exception):
    """The endpoint will not answer this one question; the next may fare better."""


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Where the judge is, which one it is, and how patiently it is asked."""

    # The API's address up to its version, as in https://api.openai.com/v1.
    base_url: str = DEFAULT_URL
    # The judging model, by the endpoint's own name.
    model: str
    # Sent as a bearer token; None sends none.
    api_key: str | None = field(default=None, repr=False)
    # Seconds without a sign of life after which an attempt is given up.
    timeout_seconds: float = 120.0
    # Attempts at one question; the wait before each is twice the last.
    max_attempts: int = 6
    first_wait_seconds: float = 1.0
    # Questions under way at once.
    num_parallel: int = 4
    # Prices of a million tokens, in any currency; None where costs are not asked for.
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        address = self.base_url.rstrip("/").removesuffix(PATH)
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"the judge's address is {self.base_url!r}; expected one like {DEFAULT_URL}"
            )
        object.__setattr__(self, "base_url", address)
        if not self.model:
            raise ConfigError("the judge has no model; set ONEVISION_JUDGE_MODEL")
        for name in ("timeout_seconds", "max_attempts", "num_parallel"):
            if not vars(self)[name] > 0:
                raise ConfigError(f"{name} is {vars(self)[name]}; expected a positive number")
        if (self.price_in is None) != (self.price_out is None):
            raise ConfigError("give both prices, of tokens in and of tokens out, or neither")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read ONEVISION_JUDGE_MODEL, _URL, _KEY (or OPENAI_API_KEY) and _PRICES ("2.5,10").

        Raises ConfigError.
        """
        prices = environment.get("ONEVISION_JUDGE_PRICES")
        try:
            price_in, price_out = map(float, prices.split(",")) if prices else (None, None)
        except ValueError as error:
            raise ConfigError(
                f"ONEVISION_JUDGE_PRICES is {prices!r}; expected two numbers, as in '2.5,10'"
            ) from error
        return cls(
            base_url=environment.get("ONEVISION_JUDGE_URL", DEFAULT_URL),
            model=environment.get("ONEVISION_JUDGE_MODEL", ""),
            api_key=environment.get("ONEVISION_JUDGE_KEY") or environment.get("OPENAI_API_KEY"),
            price_in=price_in,
            price_out=price_out,
        )


@dataclass(frozen=True, kw_only=True)
class Query:
    """One question for a judge."""

    system: str
    user: str
    # Encoded pictures, PNG, shown before the words.
    images: tuple[bytes, ...] = ()
    temperature: float = 0.0
    max_tokens: int = 1024

    def messages(self) -> list[dict[str, object]]:
        """Return the messages in the API's own form."""
        content: str | list[dict[str, object]] = self.user
        if self.images:
            links = (f"data:image/png;base64,{base64.b64encode(i).decode()}" for i in self.images)
            content = [
                *({"type": "image_url", "image_url": {"url": link}} for link in links),
                {"type": "text", "text": self.user},
            ]
        user: dict[str, object] = {"role": "user", "content": content}
        return [{"role": "system", "content": self.system}, user] if self.system else [user]


@dataclass(frozen=True, kw_only=True)
class JudgeReply:
    """A judge's words, and the tokens they took; None where the endpoint does not count."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None


class Endpoint:
    """Asks an endpoint, patiently."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.num_retries = 0
        self._lock = threading.Lock()

    def ask(self, query: Query) -> JudgeReply:
        """Ask until there is an answer.

        Raises JudgeError where there will be none for any question (a wrong key, nobody there
        after all attempts), RefusedQueryError where there is none for this one.
        """
        body = json.dumps(
            {
                "model": self.config.model,
                "messages": query.messages(),
                "temperature": query.temperature,
                "max_tokens": query.max_tokens,
            }
        ).encode()
        wait, trouble = self.config.first_wait_seconds, ""
        for attempt in range(self.config.max_attempts):
            if attempt:
                time.sleep(min(wait, MAX_WAIT_SECONDS))
                wait *= 2
                with self._lock:
                    self.num_retries += 1
            try:
                return _read_reply(_post(self.config, body))
            except HTTPError as error:
                trouble = _explain(error)
                if error.code in REFUSING:
                    raise RefusedQueryError(trouble) from error
                if error.code not in PASSING:
                    raise JudgeError(f"the judge at {self.config.base_url}: {trouble}") from error
                wait = max(wait, _asked_wait(error))
            except (URLError, OSError, http.client.HTTPException) as error:
                trouble = str(getattr(error, "reason", None) or error) or type(error).__name__
            except ValueError as error:
                trouble = f"the reply is not a chat completion ({error})"
        raise JudgeError(
            f"the judge at {self.config.base_url} gave no answer in {self.config.max_attempts} "
            f"attempts, the last: {trouble}; answers so far are kept, run again to go on"
        )


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        """Follow no redirection: it becomes an HTTPError."""


def _post(config: EndpointConfig, body: bytes) -> bytes:
    """Send one request; the only function that opens a connection."""
    headers = {"Content-Type": "application/json", "User-Agent": "onevision"}
    if config.api_key:
        headers["Authorization"] = f"Bearer {config.api_key}"
    request = urllib.request.Request(config.base_url + PATH, data=body, headers=headers)
    opener = urllib.request.build_opener(_NoRedirection)
    with opener.open(request, timeout=config.timeout_seconds) as response:
        body = response.read(MAX_REPLY_BYTES)
        assert isinstance(body, bytes)
        return body


def _read_reply(body: bytes) -> JudgeReply:
    match json.loads(body):
        case {"choices": [{"message": {"content": str(text)}}, *_], **rest}:
            usage = rest.get("usage") or {}
            counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
            return JudgeReply(text=text, prompt_tokens=counts[0], completion_tokens=counts[1])
    raise ValueError("no choices[0].message.content")


def _explain(error: HTTPError) -> str:
    """Return the status and the endpoint's own words, in one line."""
    words = error.read(2000).decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        words = json.loads(words)["error"]["message"]
    return f"HTTP {error.code} {error.reason}: {' '.join(str(words).split())[:300]}"


def _asked_wait(error: HTTPError) -> float:
    """Return the seconds the endpoint asks us to wait, 0 where it does not say."""
    try:
        return min(float(error.headers.get("Retry-After", 0)), MAX_WAIT_SECONDS)
    except ValueError:
        return 0.0
