"""How does the server do under load? Ours against FastAPI and transformers behind a lock.

    python -m benchmarks.serving                        tiny: every workload, 1 to 64 clients
    python -m benchmarks.serving --shape 0.5b --clients 16 --workloads A
    python -m benchmarks.serving --clients 1 --each 1 --workloads mix --output /tmp/trial.json

Both servers run on this machine, on loopback, with the same weights (converted by `onevision
convert`), dtype and threads, one after the other and anew for every level of clients. Greedy
answers to one request of each kind are compared first. The workloads were fixed before tuning:

    mix   text, one image, two images and a video of four frames in turn, all distinct, 32 tokens
    A     a distinct image each, caches cold, 32 tokens
    B     in turn: a new question about one shared image, 32 tokens; text with 128 tokens

A level ends after --seconds, so that all of it is bounded. What is answered by then counts, and is
divided by the time; an answer that is cut off then counts for its first words alone, and is told
apart from errors. Times are those of the client: to the first words, between pieces of words, and
all. The table is printed at the end (serving_table.py prints it again).
"""

import argparse
import asyncio
import base64
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import torch

from benchmarks.inference import RESULTS, picture
from benchmarks.serving_table import table
from onevision.accelerate.processor import can_multiply
from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert
from onevision.cli.demo import DEMO

CHAT = "/v1/chat/completions"
# What each shape computes in; where the processor only emulates bf16, float32.
SHAPES = {"tiny": "float32", "0.5b": "bfloat16"}
# Bounds of a level where none is given: all levels together take a dozen minutes at most.
SECONDS = {"tiny": 20.0, "0.5b": 140.0}
CLIP = (DEMO / "clip.mp4").read_bytes()
Part = dict[str, Any]  # Any: JSON of a request
Body = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """How a server is started: `python -m words --port N`, with so many threads."""

    words: tuple[str, ...]
    threads: int


Servers = dict[str, Command]


def text(words: str) -> Part:
    """Return words as a part of a message."""
    return {"type": "text", "text": words}


def image(seed: int) -> Part:
    """Return a picture of its own seed as a part of a message."""
    out, drawn = io.BytesIO(), picture(640, 480, seed).source
    drawn.save(out, "PNG")  # type: ignore[union-attr] a Pillow image
    address = base64.b64encode(out.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{address}"}}


def video() -> Part:
    """Return the demo's clip, seen in four frames."""
    url = f"data:video/mp4;base64,{base64.b64encode(CLIP).decode()}"
    return {"type": "video_url", "video_url": {"url": url}, "num_frames": 4}


def mixed(number: int) -> tuple[list[Part], int]:
    """Return the parts of a request, and how many tokens answer it."""
    kinds = (
        [],
        [image(2 * number)],
        [image(2 * number), image(2 * number + 1)],
        [video()],
    )
    return [*kinds[number % 4], text(f"What is number {number}?")], 32


def distinct(number: int) -> tuple[list[Part], int]:
    """Return a request about an image that nobody has seen."""
    return [image(number), text("Describe it.")], 32


def shared(number: int) -> tuple[list[Part], int]:
    """Return a request about the image of all, or one for a long answer."""
    if number % 2:
        return [text(f"Tell me about number {number}.")], 128
    return [image(0), text(f"What is number {number}?")], 32


WORKLOADS = {"mix": mixed, "A": distinct, "B": shared}


def request(parts: Sequence[Part], *, tokens: int, salt: str, to_the_end: bool = True) -> Body:
    """Return a request for a stream; `salt` keeps what others asked out of its caches."""
    return {
        "model": "model",
        "messages": [{"role": "user", "content": [*parts]}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": to_the_end,
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_salt": salt,
    }


@dataclass
class Told:
    """What a client saw of one answer. Times are seconds since the request."""

    words: str = ""
    tokens: int = 0
    times: list[float] = field(default_factory=list)
    error: str | None = None
    is_cut_off: bool = False


async def ask(http: httpx2.AsyncClient, body: Body, told: Told) -> None:
    """Ask, and note when words come."""
    began = time.perf_counter()
    try:
        async with http.stream("POST", CHAT, json=body) as stream:
            if stream.status_code != 200:
                told.error = str(stream.status_code)
                return
            async for line in stream.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    told.error = chunk["error"]["code"]
                    return
                words = "".join(c["delta"].get("content") or "" for c in chunk["choices"])
                if words:
                    told.words += words
                    told.times.append(time.perf_counter() - began)
                told.tokens = (chunk.get("usage") or {}).get("completion_tokens", told.tokens)
    except httpx2.HTTPError as error:
        told.error = type(error).__name__


async def ask_all(url: str, bodies: Sequence[Body], *, clients: int, seconds: float) -> list[Told]:
    """Let so many clients ask one thing after the other, until all is told or time is up."""
    waiting, told = iter(bodies), list[Told]()
    deadline = asyncio.get_running_loop().time() + seconds

    async def client(http: httpx2.AsyncClient) -> None:
        while asyncio.get_running_loop().time() < deadline:
            body = next(waiting, None)
            if body is None:
                return
            one = Told()
            told.append(one)
            try:
                async with asyncio.timeout_at(deadline):
                    await ask(http, body, one)
            except TimeoutError:
                one.is_cut_off = True

    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(base_url=url, timeout=seconds + 60, limits=limits) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    return told


def measure(url: str, bodies: Sequence[Body], *, clients: int, seconds: float) -> dict[str, object]:
    """Return what a level of clients gave."""
    began = time.perf_counter()
    told = asyncio.run(ask_all(url, bodies, clients=clients, seconds=seconds))
    took = time.perf_counter() - began
    good = [one for one in told if one.error is None and not one.is_cut_off]
    first = [one.times[0] for one in told if one.times]
    between = [gap for one in told for gap in np.diff(one.times)]
    tokens = sum(one.tokens for one in good)
    return {
        "requests": len(bodies),
        "finished": len(good),
        "cut_off": sum(one.is_cut_off for one in told),
        "errors": dict(Counter(one.error for one in told if one.error is not None)),
        "seconds": round(took, 2),
        "requests_per_second": round(len(good) / took, 3),
        "tokens_per_second": round(tokens / took, 2),
        "first_words_seconds": quantiles(first),
        "between_words_seconds": quantiles(between),
        "load": round(os.getloadavg()[0], 1),
    }


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the 95th percentile."""
    if not seconds:
        return {}
    return {f"p{q}": round(float(np.percentile(seconds, q)), 4) for q in (50, 95)}


def compare(servers: Servers) -> Iterator[dict[str, object]]:
    """Say of every kind of request whether both give the same greedy answer."""
    kinds = ("text", "one image", "two images", "video")
    bodies = [
        request(mixed(number)[0], tokens=24, salt="compare", to_the_end=False)
        for number in range(len(kinds))
    ]
    answers = dict[str, list[str]]()
    for name, command in servers.items():
        with serving(command) as url:
            told = asyncio.run(ask_all(url, bodies, clients=1, seconds=600))
        errors = [one.error or "no answer in time" for one in told if one.error or one.is_cut_off]
        if errors:
            raise SystemExit(f"{name}: fails with {errors[0]}")
        answers[name] = [one.words for one in told]
    for kind, own, other in zip(kinds, answers["ours"], answers["theirs"], strict=True):
        yield {"kind": kind, "equal": own == other, "ours": own[:60], "theirs": other[:60]}


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(command: Command) -> Iterator[str]:
    """Run a server of its own, and give its address once it answers."""
    with running(command, port=free_port()) as server:
        yield server.url


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    process: "subprocess.Popen[bytes]"
    url: str


@contextmanager
def running(command: Command, *, port: int) -> Iterator[Server]:
    """Run a server on a port of loopback, and give it once it answers."""
    log = Path(tempfile.mkdtemp()) / "log"
    environment = os.environ | {"OMP_NUM_THREADS": str(command.threads)}
    with log.open("wb") as out:
        words = [sys.executable, "-m", *command.words, "--port", str(port)]
        process = subprocess.Popen(words, stdout=out, stderr=out, env=environment)
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 600
        while True:
            try:
                if httpx2.get(f"{url}/health").status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.5)
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{words[2]} did not start:\n{log.read_text()[-2000:]}")
        yield Server(process, url)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:  # it answers what nobody waits for
            process.kill()
            process.wait()


def checkpoints(shape: str, directory: Path) -> tuple[str, Path]:
    """Return where the weights of a shape are for us, and converted for transformers."""
    source = BUNDLED["tiny"]
    if shape != "tiny":
        from benchmarks.inference_peer import write_checkpoint

        source = directory / "random"
        write_checkpoint(source)
    theirs = directory / "converted"
    convert(inspect(source), theirs, layout="llava-hf")
    return str(source), theirs


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=[*WORKLOADS])
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--each", type=int, default=4, help="requests of each client")
    parser.add_argument("--seconds", type=float, help=f"bound of a level, of {SECONDS}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "serving-cpu.json")
    options = parser.parse_args()
    options.seconds = options.seconds or SECONDS[options.shape]
    directory = Path(tempfile.mkdtemp())
    dtype = SHAPES[options.shape] if can_multiply(torch.bfloat16) else "float32"
    source, converted = checkpoints(options.shape, directory)
    servers = {
        "ours": Command(
            ("onevision", "serve", "--model", source, "--name", "model", "--dtype", dtype,
             "--limit", "preparing=64"), options.threads,
        ),
        "theirs": Command(
            ("benchmarks.serving_peer", "--checkpoint", str(converted), "--dtype", dtype,
             "--threads", str(options.threads)), options.threads,
        ),
    }  # fmt: skip
    answers = [told(line) for line in compare(servers)]
    if options.shape == "tiny" and not all(line["equal"] for line in answers):
        raise SystemExit("answers differ; nothing is timed")
    found = {
        "shape": options.shape, "dtype": dtype, "threads": options.threads,
        "seconds": options.seconds, "answers": answers,
        "levels": [told(line) for line in levels(servers, options)],
    }  # fmt: skip
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found["levels"]))


def told(line: dict[str, object]) -> dict[str, object]:
    """Print a line of what was found, at once."""
    print(json.dumps(line), flush=True)
    return line


def levels(servers: Servers, options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Measure every workload at every number of clients, ours and theirs in turn."""
    for workload in options.workloads:
        for clients in options.clients:
            bodies = [
                request(parts, tokens=tokens, salt=workload)
                for parts, tokens in map(WORKLOADS[workload], range(clients * options.each))
            ]
            for name, command in servers.items():
                with serving(command) as url:
                    level = measure(url, bodies, clients=clients, seconds=options.seconds)
                yield {"workload": workload, "clients": clients, "server": name, **level}


if __name__ == "__main__":
    main()
