"""A file of requests -> a file of answers, in OpenAI's batch format; none is answered twice."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from onevision.errors import InputError
from onevision.files import cut_torn_line
from onevision.serve.identity import new_number
from onevision.serve.schema.body import Json
from onevision.serve.schema.chat import ChatRequest
from onevision.serve.schema.completion import ChatWriter, usage_out
from onevision.serve.schema.problems import ApiError
from onevision.serve.service import Service
from onevision.serve.threads import in_thread

URL = "/v1/chat/completions"


@dataclass(frozen=True, kw_only=True)
class BatchCounts:
    """How many requests were answered, refused, and found answered already."""

    answered: int
    refused: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class _Line:
    number: int  # in its file
    custom_id: str
    body: Json


def run_batch(service: Service, requests: Path, output: Path, *, num_at_a_time: int) -> BatchCounts:
    """Answer the requests of a file that `output` does not hold yet; answers are appended.

    A refused request is written with its error and costs the others nothing. Raises InputError for
    a line that is no request.
    """
    done = _answered(output)
    lines = [line for line in _lines(requests) if line.custom_id not in done]
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
            number = new_number()
            response = {"status_code": status, "request_id": f"req_{number}", "body": body}
            told = {"id": f"batch_req_{number}", "custom_id": line.custom_id,
                    "response": response, "error": None}  # fmt: skip
            out.write(json.dumps(told, ensure_ascii=False) + "\n")
            out.flush()

    await asyncio.gather(*(work() for _ in range(num_at_a_time)))
    return refused


async def _answer(service: Service, body: Json) -> tuple[int, Json]:
    try:
        asked = await in_thread(lambda: ChatRequest.parse(json.dumps(body).encode()))
        answering = await service.ask(asked.question(service.settings.limits))
        done = await answering.finish()
    except ApiError as problem:
        return problem.status, problem.envelope.model_dump()
    writer = ChatWriter(
        number=new_number(), created=service.created_now(), model=service.settings.name,
        fingerprint=service.fingerprint, tokenizer=service.model.processor.tokenizer,
    )  # fmt: skip
    usage = usage_out(answering.usage, cached_tokens=done.cached_tokens)
    return 200, writer.completion(done, usage).model_dump()


def _lines(path: Path) -> Iterator[_Line]:
    seen = set[str]()
    for number, text in _texts(path):
        try:
            value = json.loads(text)
            line = _Line(number=number, custom_id=value["custom_id"], body=value["body"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}:{number}: not a request; expected custom_id, method, url and body"
            ) from error
        if value.get("url", URL) != URL or value.get("method", "POST") != "POST":
            raise InputError(f"{path}:{number}: only POST {URL} is answered")
        if not isinstance(line.custom_id, str) or line.custom_id in seen:
            raise InputError(f"{path}:{number}: custom_id must be a string of its own")
        seen.add(line.custom_id)
        yield line


def _answered(path: Path) -> set[str]:
    """Return the ids that a file of answers holds; a last line that was cut off is removed."""
    if not path.exists():
        return set()
    cut_torn_line(path)
    try:
        return {json.loads(text)["custom_id"] for _, text in _texts(path)}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of answers; give another --output") from error


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
