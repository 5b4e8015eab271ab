"""What an attempt to reach an endpoint raised -> why it failed, how long to wait, what to do."""

import contextlib
import json
from dataclasses import dataclass
from urllib.error import HTTPError, URLError

from onevision.errors import EndpointFault

MAX_WAIT_SECONDS = 60.0
# Worth a retry.
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# Statuses that end a run, and what the user of a role ("writer") can do about them.
ADVICE = {
    401: "; set ONEVISION_{role}_KEY to a key that it accepts",
    403: "; set ONEVISION_{role}_KEY to a key that may use this model",
    404: "; check the address, which mostly ends in /v1, and ONEVISION_{role}_MODEL",
}


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, and for how many seconds the endpoint asks to wait."""

    fault: EndpointFault
    message: str
    retry_after: float = 0.0


def classify(error: Exception) -> Failure:
    """Returns what went wrong without a status: no answer, too late, or not with text."""
    reason = error.reason if isinstance(error, URLError) else error
    words = reason.strerror if isinstance(reason, OSError) else None  # without the number
    message = words or str(reason) or type(error).__name__
    if isinstance(reason, TimeoutError):
        return Failure("timeout", message)
    if isinstance(error, ValueError | KeyError | TypeError | RecursionError):
        return Failure("reply", f"the reply is not a chat completion ({message})")
    return Failure("address", message)


def read_status(error: HTTPError) -> Failure:
    """Returns the status and the endpoint's message on one line."""
    message = error.read(2000).decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        message = json.loads(message)["error"]["message"]
    text = f"HTTP {error.code} {error.reason}: {' '.join(str(message).split())[:300]}"
    faults: dict[int, EndpointFault] = {429: "rate", 408: "timeout"}
    usual: EndpointFault = "server" if error.code in TRANSIENT_STATUSES else "access"
    return Failure(faults.get(error.code, usual), text, _retry_after(error))


def advise(role: str, status: int) -> str:
    """Returns what the user can do about a status that ends a run, "" for any other."""
    return ADVICE.get(status, "").format(role=role.upper())


def _retry_after(error: HTTPError) -> float:
    """Returns the number of seconds the endpoint asks to wait, 0 if it asks for none."""
    try:
        return min(float(error.headers.get("Retry-After", 0)), MAX_WAIT_SECONDS)
    except ValueError:
        return 0.0
