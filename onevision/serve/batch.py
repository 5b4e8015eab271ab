"""A file of requests -> a file of answers, in OpenAI's batch format; resumes if interrupted."""

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from onevision.errors import InputError
from onevision.files import cut_torn_line
from onevision.serve.schema.body import SURROGATE, Json
from onevision.serve.schema.chat_completion import format_usage
from onevision.serve.schema.chat_request import ChatRequest
from onevision.serve.schema.problems import ApiError
from onevision.serve.service import Service, new_id
from onevision.serve.threads import in_thread

logger = logging.getLogger(__name__)

URL = "/v1/chat/completions"


@dataclass(frozen=True, kw_only=True)
class BatchCounts:
    """How many requests were answered, refused, and answered already by an earlier run."""

    answered: int
    refused: int
    kept: int


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
        refused = asyncio.run(_run(service, lines, out, num_at_a_time))
    return BatchCounts(answered=len(lines) - refused, refused=refused, kept=len(done))


async def _run(service: Service, lines: list[_Line], out: TextIO, num_at_a_time: int) -> int:
    waiting, refused = iter(lines), 0

    async def work() -> None:
        nonlocal refused
        for line in waiting:
            status, body = await _answer(service, line.body)
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
    return refused


async def _answer(service: Service, body: Json) -> tuple[int, Json]:
    try:
        chat = await in_thread(lambda: ChatRequest.parse(json.dumps(body).encode()))
        answers = await service.answer(chat.to_generation(service.settings.limits))
        finished = await answers.finish()
    except ApiError as problem:
        return problem.status, problem.envelope.model_dump()
    except Exception:
        logger.exception("a request of the batch failed")
        problem = ApiError("internal error", status=500, code="internal")
        return problem.status, problem.envelope.model_dump()
    usage = format_usage(answers.usage, cached_tokens=finished.cached_tokens)
    return 200, service.new_chat_writer().completion(finished, usage).model_dump()


def _read_requests(path: Path) -> Iterator[_Line]:
    seen = set[str]()
    for number, text in _read_lines(path):
        try:
            value = json.loads(text)
            line = _Line(number=number, custom_id=value["custom_id"], body=value["body"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}:{number}: not a request; expected custom_id, method, url and body"
            ) from error
        if value.get("url", URL) != URL or value.get("method", "POST") != "POST":
            raise InputError(f"{path}:{number}: only POST {URL} is supported")
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
        return {json.loads(text)["custom_id"] for _, text in _read_lines(path)}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of answers; give another --output") from error


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
