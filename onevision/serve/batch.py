"""A file of requests -> a file of answers, in OpenAI's batch format; resumes if interrupted."""

import asyncio
import codecs
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from onevision.errors import InputError
from onevision.files import cut_torn_line
from onevision.serve.schema.chat_completion import format_usage
from onevision.serve.schema.chat_request import ChatRequest
from onevision.serve.schema.json_text import SURROGATE, Json
from onevision.serve.schema.problems import ApiError
from onevision.serve.service import Service, new_id
from onevision.serve.threads import in_thread

logger = logging.getLogger(__name__)

URL = "/v1/chat/completions"
NOT_SPACE = re.compile(r"[^ \t\r\n]")
FIELDS = ("custom_id", "method", "url", "body")
ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True, kw_only=True)
class BatchCounts:
    """How many requests were answered, refused, and answered already by an earlier run."""

    answered: int
    refused: int
    kept: int
    ignored: Counter[str]  # fields of requests without effect


@dataclass(frozen=True, kw_only=True)
class _Line:
    number: int  # in its file
    custom_id: str
    body: Json


def run_batch(service: Service, requests: Path, output: Path, *, num_at_a_time: int) -> BatchCounts:
    """Answers the requests that `output` does not answer yet, and appends the answers to it.

    A refused request is written with its error, and the others are answered. Raises InputError for
    a line that is not a request.
    """
    done = _read_answered_ids(output)
    lines = [line for line in _read_requests(requests) if line.custom_id not in done]
    with output.open("a", encoding="utf-8") as out:
        refused, ignored = asyncio.run(_run(service, lines, out, num_at_a_time))
    answered = len(lines) - refused
    return BatchCounts(answered=answered, refused=refused, kept=len(done), ignored=ignored)


async def _run(
    service: Service, lines: list[_Line], out: TextIO, num_at_a_time: int
) -> tuple[int, Counter[str]]:
    """Returns how many requests were refused, and the fields that were ignored."""
    waiting, refused, ignored = iter(lines), 0, Counter[str]()

    async def work() -> None:
        nonlocal refused
        for line in waiting:
            status, body = await _answer(service, line.body, ignored)
            refused += status != 200
            number = new_id()
            response = {"status_code": status, "request_id": f"req_{number}", "body": body}
            answer = {"id": f"batch_req_{number}", "custom_id": line.custom_id,
                      "response": response, "error": None}  # fmt: skip
            # Half a surrogate pair in an id can be written as an escape alone.
            is_escaped = SURROGATE.search(json.dumps(line.custom_id).encode()) is not None
            out.write(json.dumps(answer, ensure_ascii=is_escaped) + "\n")
            out.flush()

    await asyncio.gather(*(work() for _ in range(num_at_a_time)))
    return refused, ignored


async def _answer(service: Service, body: Json, ignored: Counter[str]) -> tuple[int, Json]:
    limits = service.settings.limits
    try:
        chat = await in_thread(lambda: ChatRequest.parse(json.dumps(body).encode(), limits))
        wanted = chat.to_generation(limits)
        ignored.update(wanted.ignored_fields)
        answers = await service.answer(wanted)
        finished = await answers.finish()
    except ApiError as problem:
        return problem.status, problem.envelope.model_dump()
    except Exception:
        logger.exception("a request of the batch failed")
        problem = ApiError("internal error", status=500, code="internal")
        return problem.status, problem.envelope.model_dump()
    usage = format_usage(answers.usage, cached_tokens=finished.cached_tokens)
    return 200, json.loads(
        b"".join(service.new_chat_writer(chat.model).completion(finished, usage))
    )


def _read_requests(path: Path) -> Iterator[_Line]:
    seen = set[str]()
    for number, value in _read_values(path):
        try:
            line = _Line(number=number, custom_id=value["custom_id"], body=value["body"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path}:{number}: not a request; expected custom_id, method, url and body"
            ) from error
        if value.get("url", URL) != URL or value.get("method", "POST") != "POST":
            raise InputError(f"{path}:{number}: only POST {URL} is supported")
        if others := sorted(set(value) - set(FIELDS)):
            raise InputError(
                f"{path}:{number}: {others[0][:80]!r} is not a field of a request; expected "
                f"{', '.join(FIELDS)} (fields of the question belong into body)"
            )
        if not isinstance(line.custom_id, str) or line.custom_id in seen:
            raise InputError(f"{path}:{number}: custom_id must be a string, and unique")
        seen.add(line.custom_id)
        yield line


def _read_answered_ids(path: Path) -> set[str]:
    """Returns the ids in a file of answers; removes a last line that was cut off."""
    if not path.exists():
        return set()
    cut_torn_line(path)
    try:
        return {value["custom_id"] for _, value in _read_values(path)}
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of answers; give another --output") from error


def _read_values(path: Path) -> Iterator[tuple[int, Any]]:  # Any: JSON
    """Yields the line and value of each JSON value of a file, whether or not it is on one line.

    UTF-8 and, with a byte order mark, UTF-16. Raises InputError.
    """
    try:
        data = path.read_bytes()
        text = data.decode(ENCODINGS.get(data[:2], "utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start:,})") from error
    decode, place, number = json.JSONDecoder().raw_decode, 0, 1
    while (begin := _skip_space(text, place)) < len(text):
        number += text.count("\n", place, begin)
        try:
            value, place = decode(text, begin)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}:{number}: not JSON ({str(error)[:80]}); expected one request per line"
            ) from error
        yield number, value
        number += text.count("\n", begin, place)


def _skip_space(text: str, place: int) -> int:
    """Returns the place of the next character that is not white space."""
    found = NOT_SPACE.search(text, place)
    return found.start() if found else len(text)
