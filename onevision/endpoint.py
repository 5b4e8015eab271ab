"""Chat messages -> the reply of a model behind an OpenAI-compatible endpoint.

Connects only to the address in the user's settings. Redirects are refused, so that the API key
never reaches another host.
"""

import base64
import contextlib
import http.client
import json
import random
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Literal, Self
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from onevision.errors import ConfigError, EndpointError, EndpointFault
from onevision.plural import counted

PATH = "/chat/completions"
DEFAULT_URL = "https://api.openai.com/v1"
MAX_REPLY_BYTES = 16 * 2**20
# A wait is longer by up to this share, so that clients do not all return at once.
JITTER = 0.25
MAX_WAIT_SECONDS = 60.0
# Worth a retry, and refusals of a single query. Any other status ends the run.
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
REFUSAL_STATUSES = frozenset({400, 413, 415, 422})
KEY_ADVICE = "; set ONEVISION_{}_KEY to a key that it accepts"
URL_ADVICE = "; check the address, which mostly ends in /v1, and ONEVISION_{}_MODEL"
ADVICE = {401: KEY_ADVICE, 403: KEY_ADVICE, 404: URL_ADVICE}

# What a model behind an address is asked to do; names its variables and options.
Role = Literal["judge", "writer"]
# Messages and their parts in the API's format.
WireMessage = Mapping[str, object]


class RefusedQueryError(Exception):
    """The endpoint rejects this query; others may still succeed."""


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Where a model is, which one it is, and how often a query is retried."""

    role: Role = "judge"  # What the model does; for messages.
    base_url: str = DEFAULT_URL  # The API's base URL, up to its version.
    model: str  # The model, by the endpoint's own name.
    # Sent as a bearer token; None sends none.
    api_key: str | None = field(default=None, repr=False)
    timeout_seconds: float = 120.0  # Seconds without data after which an attempt is abandoned.
    max_attempts: int = 6  # Attempts per query; the wait doubles after each.
    first_wait_seconds: float = 1.0
    num_parallel: int = 4  # Queries in flight at the same time.
    # Prices per million tokens, in any currency; None if costs are not of interest.
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        address = self.base_url.rstrip("/").removesuffix(PATH)
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"the {self.role}'s address is {self.base_url!r}; expected a URL such as "
                f"{DEFAULT_URL}"
            )
        object.__setattr__(self, "base_url", address)
        if not self.model:
            raise ConfigError(f"the {self.role} has no model; set {variable(self.role, 'MODEL')}")
        for name in ("timeout_seconds", "max_attempts", "num_parallel"):
            if not vars(self)[name] > 0:
                raise ConfigError(f"{name} is {vars(self)[name]}; expected a positive number")
        if (self.price_in is None) != (self.price_out is None):
            raise ConfigError("give prices for both input and output tokens, or for neither")

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], *, role: Role = "judge", base_url: str | None = None
    ) -> Self:
        """Reads ONEVISION_JUDGE_MODEL, _URL, _KEY (or OPENAI_API_KEY) and _PRICES ("2.5,10").

        A writer's begin with ONEVISION_WRITER. `base_url` stands in place of _URL. Raises
        ConfigError.
        """
        name = variable(role, "PRICES")
        prices = environment.get(name)
        try:
            price_in, price_out = map(float, prices.split(",")) if prices else (None, None)
        except ValueError as error:
            problem = f"{name} is {prices!r}; expected two numbers, as in '2.5,10'"
            raise ConfigError(problem) from error
        key = environment.get(variable(role, "KEY")) or environment.get("OPENAI_API_KEY")
        return cls(
            role=role,
            base_url=base_url or environment.get(variable(role, "URL"), DEFAULT_URL),
            model=environment.get(variable(role, "MODEL"), ""),
            api_key=key,
            price_in=price_in,
            price_out=price_out,
        )


def variable(role: Role, name: str) -> str:
    """Returns the name of an environment variable: ONEVISION_JUDGE_MODEL."""
    return f"ONEVISION_{role.upper()}_{name}"


@dataclass(frozen=True, kw_only=True)
class ChatReply:
    """A model's text, why it ended, and token counts; None is what the endpoint does not report."""

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None


def image_part(image: bytes, *, media_type: str = "image/png") -> dict[str, object]:
    """Returns an encoded picture as a part of a message."""
    url = f"data:{media_type};base64,{base64.b64encode(image).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def text_part(text: str) -> dict[str, object]:
    """Returns a text as a part of a message."""
    return {"type": "text", "text": text}


class ChatEndpoint:
    """Sends messages to an endpoint and retries transient failures. Usable from many threads.

    What it raises is of the type `error`.
    """

    def __init__(
        self, config: EndpointConfig, *, error: type[EndpointError] = EndpointError
    ) -> None:
        self.config = config
        self.num_retries = 0
        self._error = error
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def close(self) -> None:
        """Ends all waits for another attempt; what waits raises an error."""
        self._closed.set()

    def complete(
        self,
        messages: Sequence[WireMessage],
        *,
        temperature: float,
        max_tokens: int,
        seed: int | None = None,
    ) -> ChatReply:
        """Returns the reply to a list of messages.

        Raises an EndpointError if no query can be answered (wrong key, unreachable after all
        attempts), RefusedQueryError if the endpoint rejects this one.
        """
        body: dict[str, object] = {
            "model": self.config.model,
            "messages": messages,
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        encoded = json.dumps(body if seed is None else body | {"seed": seed}).encode()
        wait, failure = self.config.first_wait_seconds, _Failure("address", "no attempt was made")
        for attempt in range(self.config.max_attempts):
            if attempt:
                self._wait(max(min(wait, MAX_WAIT_SECONDS), failure.retry_after), failure)
                wait *= 2
            try:
                return _parse_reply(_send(self.config, PATH, encoded))
            except HTTPError as problem:
                failure = _read_status(problem)
                if problem.code in REFUSAL_STATUSES:
                    raise RefusedQueryError(failure.message) from problem
                if problem.code not in TRANSIENT_STATUSES:
                    advice = ADVICE.get(problem.code, "").format(self.config.role.upper())
                    raise self._make_error(failure.message + advice, failure.fault) from problem
            except (OSError, http.client.HTTPException, ValueError, RecursionError) as problem:
                failure = _classify(problem)
        kept = ". Replies so far are kept; run again to continue"  # a writer's job says so itself
        raise self._make_error(
            f"did not answer in {counted(self.config.max_attempts, 'attempt')}; the last one "
            f"failed with: {failure.message}{kept if self.config.role == 'judge' else ''}",
            failure.fault,
            separator=" ",
        )

    def _wait(self, seconds: float, failure: "_Failure") -> None:
        with self._lock:
            self.num_retries += 1
        if self._closed.wait(seconds * random.uniform(1, 1 + JITTER)):
            raise self._make_error(f"stopped after: {failure.message}", failure.fault)

    def _make_error(
        self, message: str, fault: EndpointFault, *, separator: str = ": "
    ) -> EndpointError:
        where = f"the {self.config.role} at {self.config.base_url}"
        return self._error(f"{where}{separator}{message}", fault=fault)


def list_models(config: EndpointConfig, *, error: type[EndpointError] = EndpointError) -> list[str]:
    """Returns the names of the models that an endpoint serves. Raises `error`."""
    try:
        listed = json.loads(_send(config, "/models", None))
        return [str(model["id"]) for model in listed["data"]]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as problem:
        failure = _read_status(problem) if isinstance(problem, HTTPError) else _classify(problem)
        text, do = "does not list its models", f"or name one with --{config.role}-model"
        if failure.fault in ("address", "timeout"):
            text, do = "cannot be reached", "and that it runs"
        told = f"{text} ({failure.message[:200]}); check the address, {do}"
        where = f"the {config.role} at {config.base_url}"
        raise error(f"{where} {told}", fault=failure.fault) from problem


@dataclass(frozen=True)
class _Failure:
    """Why an attempt failed, and for how many seconds the endpoint asks to wait."""

    fault: EndpointFault
    message: str
    retry_after: float = 0.0


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


def _parse_reply(body: bytes) -> ChatReply:
    match json.loads(body):
        case {"choices": [{"message": {"content": str(text)}, **choice}, *_], **rest}:
            usage = rest.get("usage") or {}
            reason = choice.get("finish_reason")
            return ChatReply(
                text=text,
                finish_reason=reason if isinstance(reason, str) else None,
                prompt_tokens=usage.get("prompt_tokens"),
                completion_tokens=usage.get("completion_tokens"),
            )
    raise ValueError("no choices[0].message.content")


def _classify(error: Exception) -> _Failure:
    """Returns what went wrong without a status: no answer, too late, or not with text."""
    reason = error.reason if isinstance(error, URLError) else error
    message = (isinstance(reason, OSError) and reason.strerror) or str(reason) or repr(error)
    if isinstance(reason, TimeoutError):
        return _Failure("timeout", message)
    if isinstance(error, ValueError | KeyError | TypeError | RecursionError):
        return _Failure("reply", f"the reply is not a chat completion ({message})")
    return _Failure("address", message)


def _read_status(error: HTTPError) -> _Failure:
    """Returns the status and the endpoint's message on one line."""
    message = error.read(2000).decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        message = json.loads(message)["error"]["message"]
    text = f"HTTP {error.code} {error.reason}: {' '.join(str(message).split())[:300]}"
    faults: dict[int, EndpointFault] = {429: "rate", 408: "timeout"}
    usual: EndpointFault = "server" if error.code in TRANSIENT_STATUSES else "access"
    return _Failure(faults.get(error.code, usual), text, _retry_after(error))


def _retry_after(error: HTTPError) -> float:
    """Returns the number of seconds the endpoint asks to wait, 0 if it asks for none."""
    try:
        return min(float(error.headers.get("Retry-After", 0)), MAX_WAIT_SECONDS)
    except ValueError:
        return 0.0
