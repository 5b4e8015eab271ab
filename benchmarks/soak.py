"""Does the memory of a server rise with the requests that it answers? By time and per request.

    python -m benchmarks.soak --minutes 30                    all kinds of requests, 4 clients
    python -m benchmarks.soak --kinds words --requests 2000 --trace
    nice python -m benchmarks.soak --minutes 5 --output /tmp/soak.json

Starts `onevision serve` with the embedded model, and asks questions of all kinds in a random order:
words, pictures of many sizes, a video, streams, streams that are abandoned, requests that are
wrong. Every few seconds the server says what its memory holds (inspected_server.py). Printed at the
end: what each part of its memory gained per minute and per request since the warm-up, fitted by
least squares; which types of Python objects became more; with --trace, which lines of code gained
memory (several times slower).
"""

import argparse
import asyncio
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from onevision.cli.demo import DEMO

CHAT, MIB = "/v1/chat/completions", 2**20
CLIP = b64encode((DEMO / "clip.mp4").read_bytes()).decode()
# Small, so that what may fill is full after the warm-up.
LIMITS = (f"kv_bytes={32 * MIB}", f"encoder_bytes={16 * MIB}")
Body = dict[str, Any]  # Any: JSON
SHAPES = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}


def question(rng: random.Random, *media: Body, **fields: object) -> Body:
    """Returns a request about something that was not asked before."""
    text = {"type": "text", "text": f"What is number {rng.random()} of {rng.randrange(10**6)}?"}
    return {
        "model": "tiny", "messages": [{"role": "user", "content": [*media, text]}],
        "max_tokens": rng.randrange(1, 12), **fields,
    }  # fmt: skip


def picture(rng: random.Random) -> Body:
    """Returns a picture of any size as a part of a message."""
    size = rng.randrange(30, 1500), rng.randrange(30, 1200)
    image, out = Image.new("RGB", size, rng.choice(("navy", "teal", "gold"))), io.BytesIO()
    image.paste(rng.randbytes(3)[0], (0, 0, 20, 20))
    image.save(out, rng.choice(("PNG", "JPEG", "WEBP")))
    url = f"data:image/png;base64,{b64encode(out.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def video(rng: random.Random) -> Body:
    """Returns the demo's clip as a part of a message."""
    url = f"data:video/mp4;base64,{CLIP}"
    return {"type": "video_url", "video_url": {"url": url}, "num_frames": rng.randrange(1, 5)}


async def ask(http: httpx2.AsyncClient, body: Body, *, path: str = CHAT) -> int:
    """Asks for a whole answer; returns its status."""
    return (await http.post(path, json=body)).status_code


async def stream(http: httpx2.AsyncClient, body: Body, *, most: int | None = None) -> int:
    """Asks for a stream, and leaves after `most` lines; returns its status."""
    async with http.stream("POST", CHAT, json=body | {"stream": True}) as answer:
        count = 0
        async for _ in answer.aiter_lines():
            count += 1
            if count == most:
                break
        return answer.status_code


Kind = Callable[[httpx2.AsyncClient, random.Random], Awaitable[int]]
LONG = {"max_tokens": 400, "min_tokens": 400, "ignore_eos": True}
KINDS: dict[str, Kind] = {
    "words": lambda http, rng: ask(http, question(rng)),
    "picture": lambda http, rng: ask(http, question(rng, picture(rng))),
    "pictures": lambda http, rng: ask(http, question(rng, picture(rng), picture(rng))),
    "video": lambda http, rng: ask(http, question(rng, video(rng))),
    "stream": lambda http, rng: stream(http, question(rng)),
    "abandoned": lambda http, rng: stream(http, question(rng, **LONG), most=rng.randrange(1, 9)),
    "abandoned picture": lambda http, rng: stream(
        http, question(rng, picture(rng), **LONG), most=1
    ),
    "answers": lambda http, rng: ask(
        http, question(rng, n=3, temperature=1, logprobs=True, top_logprobs=5, stop=["a"])
    ),
    "schema": lambda http, rng: ask(http, question(rng, response_format={
        "type": "json_schema", "json_schema": {"name": f"s{rng.randrange(9)}", "schema": SHAPES},
    })),
    "response": lambda http, rng: ask(
        http, {"model": "tiny", "input": f"Hi {rng.random()}", "max_output_tokens": 4},
        path="/v1/responses",
    ),
    "count": lambda http, rng: ask(http, question(rng, picture(rng)), path="/v1/tokenize"),
    "salted": lambda http, rng: ask(http, question(rng, cache_salt=str(rng.random()))),
    "wrong field": lambda http, rng: ask(http, question(rng, temperature=-rng.random())),
    "wrong picture": lambda http, rng: ask(http, question(rng, {
        "type": "image_url", "image_url": {"url": "data:image/png;base64," + "AAAA" * 9},
    })),
    "wrong route": lambda http, rng: ask(http, question(rng), path=f"/v1/{rng.random()}"),
    "metrics": lambda http, _: fetch(http, "/metrics"),
}  # fmt: skip
# How often each is asked; those not named here, once.
WEIGHTS = {"words": 6, "picture": 3, "stream": 3, "abandoned": 2}


async def fetch(http: httpx2.AsyncClient, path: str) -> int:
    """Gets a page; returns its status."""
    return (await http.get(path)).status_code


class InspectedServer:
    """A server that answers questions about its memory."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.process, self.url = process, url

    def tell(self, about: str) -> dict[str, Any]:  # Any: see inspected_server.py
        """Returns the answer to a question."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(about + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(f"{about}: {answer['error']}")
        return answer


@contextmanager
def serving(*options: str) -> Iterator[InspectedServer]:
    """Runs a server on a free port while the context is open."""
    words = [sys.executable, "-m", "benchmarks.inspected_server", "--port", "0", *options]
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            yield InspectedServer(process, wait_for_address(process, Path(log.name)))
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()


def wait_for_address(process: "subprocess.Popen[str]", log: Path) -> str:
    """Returns the address of a server once it listens."""
    deadline = time.monotonic() + 120
    while (found := re.search(r"running on (http://\S+:\d+)", log.read_text())) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)
    return found[1]


class Load:
    """Clients that ask one thing after the other, and what became of it."""

    def __init__(self, url: str, kinds: Sequence[str], *, clients: int, seed: int = 0) -> None:
        self.url, self.kinds, self.clients = url, list(kinds), clients
        self.rng, self.count = random.Random(seed), 0
        self.statuses: Counter[str] = Counter()

    async def run(self, is_over: Callable[["Load"], bool]) -> None:
        """Asks for things drawn by their weights until it is over."""
        weights = [WEIGHTS.get(kind, 1) for kind in self.kinds]

        def draw() -> Iterator[str]:
            while not is_over(self):
                yield from self.rng.choices(self.kinds, weights)

        await self._ask_all(draw())

    async def run_each(self) -> None:
        """Asks once for each of the kinds, in their order."""
        await self._ask_all(iter(self.kinds))

    async def _ask_all(self, kinds: Iterator[str]) -> None:
        async def work(http: httpx2.AsyncClient) -> None:
            for kind in kinds:
                self.count += 1
                own = random.Random(self.rng.random())
                try:
                    self.statuses[f"{kind} {await KINDS[kind](http, own)}"] += 1
                except httpx2.TransportError as error:  # told at the end
                    self.statuses[f"{kind} {type(error).__name__}"] += 1

        limits = httpx2.Limits(max_connections=self.clients)
        async with httpx2.AsyncClient(base_url=self.url, timeout=300, limits=limits) as http:
            await asyncio.gather(*(work(http) for _ in range(self.clients)))


async def soak(server: InspectedServer, load: Load, options: argparse.Namespace) -> list[Body]:
    """Runs the load, and returns what memory held, every few seconds."""
    began, points = time.monotonic(), list[Body]()

    def is_over(load: Load) -> bool:
        late = time.monotonic() - began > 60 * options.minutes
        return late or (options.requests is not None and load.count >= options.requests)

    async def watch() -> None:
        while True:
            found = await asyncio.to_thread(server.tell, "memory")
            minutes = (time.monotonic() - began) / 60
            points.append({"minutes": round(minutes, 3), "requests": load.count, **found})
            print(json.dumps(points[-1]), file=sys.stderr, flush=True)
            await asyncio.sleep(options.every)

    watching = asyncio.ensure_future(watch())
    await load.run(is_over)
    if watching.done():
        await watching  # raises what ended it
    watching.cancel()
    return points


def fit(points: Sequence[Body], part: str, against: str) -> float:
    """Returns the slope of a part of memory against minutes or requests."""
    slope, _ = np.polyfit([p[against] for p in points], [p[part] for p in points], 1)
    return float(slope)


PARTS = ("rss", "rss_anonymous", "heap", "heap_used", "heap_mapped", "prefix_bytes",
         "visual_token_bytes")  # fmt: skip


def report(points: Sequence[Body], load: Load, *, warm: int) -> Body:
    """Prints and returns the slopes since the warm-up."""
    points = [one for one in points if one["requests"] >= warm]
    if len(points) < 3:
        raise SystemExit(f"too short: {load.count} requests, of which {warm} are the warm-up")
    first, last = points[0], points[-1]
    requests, minutes = (last[name] - first[name] for name in ("requests", "minutes"))
    print(f"{requests} requests in {minutes:.1f} minutes, {requests / minutes / 60:.1f}/s, "
          f"after {warm}; load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(f"{'':<20} {'first':>8} {'last':>8} {'MiB/minute':>11} {'bytes/request':>14}")
    slopes = Body()
    for part in PARTS:
        slopes[part] = fit(points, part, "minutes") / MIB, fit(points, part, "requests")
        print(f"{part:<20} {first[part] / MIB:>8.1f} {last[part] / MIB:>8.1f} "
              f"{slopes[part][0]:>11.2f} {slopes[part][1]:>14.0f}")  # fmt: skip
    for name in first.keys() - {*PARTS, "minutes", "requests"}:
        if first[name] != last[name]:
            print(f"{name:<20} {first[name]:>8} {last[name]:>8}")
    return {"warm": warm, "requests": requests, "minutes": minutes, "slopes": slopes}


def print_gains(before: Body, after: Body, *, requests: int, most: int = 15) -> None:
    """Prints which types of objects became more."""
    gained = Counter(after)
    gained.subtract(before)
    for name, number in gained.most_common(most):
        if number > 0:
            print(f"{name:<50} {before.get(name, 0):>8} {number:>+8} {number / requests:>8.3f}")


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--requests", type=int, help="end after so many")
    parser.add_argument("--warm", type=int, default=1000, help="requests before the fit begins")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--every", type=float, default=5, help="seconds between two looks")
    parser.add_argument("--limit", nargs="*", default=LIMITS, help="of the server, name=value")
    parser.add_argument("--trace", action="store_true", help="name lines of code")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    limits = [word for limit in options.limit for word in ("--limit", limit)]
    with serving(*limits) as server:
        load = Load(server.url, options.kinds, clients=options.clients)
        if options.trace:
            server.tell("trace")
        asyncio.run(load.run(lambda load: load.count >= options.warm))
        before = server.tell("objects")["counts"]
        if options.trace:
            server.tell("traced")
        points = asyncio.run(soak(server, load, options))
        found = report(points, load, warm=options.warm)
        print_gains(before, server.tell("objects")["counts"], requests=found["requests"])
        if options.trace:
            for line, size in server.tell("traced")["lines"].items():
                print(f"{size:>+10} {size / found['requests']:>8.1f}  {line}")
        took = server.tell("trim")["milliseconds"]
        held = server.tell("memory")["rss"] / MIB
        print(f"after malloc_trim, in {took} ms: {held:.1f} MiB resident")
        print(dict(load.statuses))
    if options.output is not None:
        options.output.write_text(json.dumps(found | {"points": points}) + "\n")


if __name__ == "__main__":
    main()
