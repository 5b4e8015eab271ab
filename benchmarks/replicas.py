"""Do replicas behind nginx keep the caches of one server? deploy/nginx-replicas.conf under load.

    python -m benchmarks.replicas
    python -m benchmarks.replicas --pictures 3 --clients 2 --output /tmp/replicas.json

Starts servers of the embedded model and nginx on loopback, and lets clients talk: several
conversations about each picture and as many of words alone, each of three turns, every other turn a
stream. Phases, all with the same conversations:

    one        one server, asked directly: what the answers must be
    random     two replicas, chosen at random: the file without its `hash` line
    affinity   two replicas, chosen by the key of affinity.js
    killed     the same two, with all in their caches; one of them is killed in the middle
    returned   it is back, with empty caches; the other one is stopped in the middle (SIGTERM)

Reported are errors, answers that differ, the replicas that answered, what caches had, and keys that
moved. Exits with 1 if something is not as it must be. Traffic stays on loopback.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from benchmarks.inference import RESULTS
from benchmarks.replicas_nginx import (
    MISSING,
    Nginx,
    Place,
    find_nginx,
    on_loopback,
    proxying,
    read_places,
    write_config,
)
from benchmarks.serving import CHAT, Body, Command, Told, ask, free_port, image, running, text

# In fp32, where the order of a sum, which differs with what is cached, decides no answer.
SERVE = Command(
    ("onevision", "serve", "--model", "tiny", "--name", "model", "--dtype", "float32"), threads=1
)
QUESTIONS = ("How many shapes are there?", "What shape is the largest?", "Describe the picture.")
Row = dict[str, object]


@dataclass(frozen=True)
class Talk:
    """A conversation: its picture, or None for words alone, and its questions."""

    picture: int | None
    questions: tuple[str, ...]


@dataclass
class Turn:
    """What became of a question; seconds are those of the load."""

    place: tuple[int, int]  # of its conversation, and within it
    told: Told
    asked_at: float


@dataclass
class Load:
    """Clients that hold conversations. After `after` turns `happens` is called, once."""

    talks: Sequence[Talk]
    clients: int
    after: int = -1
    happens: Callable[[], None] = lambda: None
    happened_at: float | None = None
    turns: list[Turn] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    async def run(self, url: str) -> None:
        """Holds all conversations. One whose question fails ends there."""
        waiting = iter(enumerate(self.talks))

        async def client(http: httpx2.AsyncClient) -> None:
            for number, talk in waiting:
                await self._hold(http, number, talk)

        limits = httpx2.Limits(max_connections=self.clients)
        async with httpx2.AsyncClient(base_url=url, timeout=300, limits=limits) as http:
            await asyncio.gather(*(client(http) for _ in range(self.clients)))

    async def _hold(self, http: httpx2.AsyncClient, number: int, talk: Talk) -> None:
        messages = list[Body]()
        for turn, question in enumerate(talk.questions):
            content = [text(question)]
            if turn == 0 and talk.picture is not None:
                content.insert(0, image(talk.picture))
            messages.append({"role": "user", "content": content})
            told, asked_at = Told(), time.monotonic() - self.began
            body = {"model": "model", "messages": messages, "max_tokens": 12, "temperature": 0}
            if (number + turn) % 2:
                await ask(http, body | {"stream": True}, told)
            else:
                await ask_whole(http, body, told)
            self.turns.append(Turn((number, turn), told, asked_at))
            if len(self.turns) == self.after:
                self.happens()
                self.happened_at = time.monotonic() - self.began
            if told.error is not None:
                return
            messages.append({"role": "assistant", "content": told.words})


async def ask_whole(http: httpx2.AsyncClient, body: Body, told: Told) -> None:
    """Asks for an answer in one piece."""
    try:
        answer = await http.post(CHAT, json=body)
    except httpx2.HTTPError as error:
        told.error = type(error).__name__
        return
    if answer.status_code != 200:
        told.error = str(answer.status_code)
        return
    told.words = answer.json()["choices"][0]["message"]["content"]


def plan(pictures: int, *, each: int) -> list[Talk]:
    """Returns the conversations: about each picture in turn, then words alone, `each` times."""
    about = [*range(pictures), *[None] * pictures]
    return [
        Talk(picture, (f"Talk {n}. {QUESTIONS[0]}", *QUESTIONS[1:]))
        for n, picture in enumerate(about * each)
    ]


@dataclass(frozen=True)
class Cluster:
    """Two replicas behind nginx."""

    url: str
    config: Path
    ports: tuple[int, int]

    def places(self, since: int = 0) -> list[Place]:
        """Returns where requests were answered, those before the number `since` aside."""
        time.sleep(0.3)  # nginx writes its log after the answer
        return read_places(self.config)[since:]


@contextmanager
def behind_nginx(
    ports: tuple[int, int], nginx: Nginx, *, has_affinity: bool = True
) -> Iterator[Cluster]:
    """Runs nginx in front of replicas on these ports."""
    port, directory = free_port(), Path(tempfile.mkdtemp())
    changes = on_loopback(port, ports, has_affinity=has_affinity)
    config = write_config(directory, changes, nginx)
    with proxying(config, port, nginx):
        yield Cluster(f"http://127.0.0.1:{port}", config, ports)


def read_counts(url: str) -> Counter[str]:
    """Returns what a replica counted, by the names of its metrics."""
    lines = httpx2.get(f"{url}/metrics").text.splitlines()
    pairs = (line.removeprefix("onevision:").rsplit(" ", 1) for line in lines if line[0] != "#")
    return Counter({name: int(float(value)) for name, value in pairs if "{" not in name})


def describe_caches(counts: Counter[str]) -> Row:
    """Returns how much work the caches spared the replicas together."""
    return {
        "pictures_encoded": counts["encoder_cache_queries"] - counts["encoder_cache_hits"],
        "prompts": counts["prefix_cache_queries"],
        "prompts_with_cached_prefix": counts["prefix_cache_hits"],
        "prompt_tokens": counts["prompt_tokens_total"],
        "cached_tokens": counts["prefix_cache_tokens"],
    }


class Trial:
    """All phases, and what was found."""

    def __init__(self, options: argparse.Namespace, nginx: Nginx) -> None:
        self.options, self.nginx = options, nginx
        self.talks = plan(options.pictures, each=options.each)
        self.expected = dict[tuple[int, int], str]()
        self.homes = dict[str, str]()  # key -> address of its replica
        self.rows, self.problems = list[Row](), list[str]()

    def run(self) -> None:
        """Runs all phases."""
        self.ask_one()
        self.ask_at_random()
        with ExitStack() as stack:
            ports = (free_port(), free_port())
            servers = {f"127.0.0.1:{p}": stack.enter_context(running(SERVE, port=p)) for p in ports}
            cluster = stack.enter_context(behind_nginx(ports, self.nginx))
            self.ask_with_affinity(cluster)
            lost, other = sorted(servers, key=[*self.homes.values()].count, reverse=True)
            self.kill(cluster, lost, servers[lost].process.kill)
            stack.enter_context(running(SERVE, port=int(lost.split(":")[1])))
            self.stop(cluster, other, servers[other].process.terminate)

    def ask_one(self) -> None:
        """Finds what the answers must be."""
        with running(SERVE, port=free_port()) as server:
            load = self._load(server.url)
            self._note("one", load, describe_caches(read_counts(server.url)))
        self.expected = {turn.place: turn.told.words for turn in load.turns}
        self._must("one", all(turn.told.error is None for turn in load.turns), "errors")

    def ask_at_random(self) -> None:
        """Asks replicas that nothing chooses."""
        with ExitStack() as stack:
            ports = (free_port(), free_port())
            servers = [stack.enter_context(running(SERVE, port=port)) for port in ports]
            cluster = stack.enter_context(behind_nginx(ports, self.nginx, has_affinity=False))
            load = self._load(cluster.url)
            counts = sum((read_counts(server.url) for server in servers), Counter[str]())
            self._check("random", load, cluster.places(), describe_caches(counts))

    def ask_with_affinity(self, cluster: Cluster) -> None:
        """Asks replicas by key; notes the home of every key, of which it may have one."""
        load = self._load(cluster.url)
        places, found = cluster.places(), defaultdict[str, set[str]](set)
        for place in places:
            found[place.key].add(place.asked[-1])
        self.homes = {key: min(replicas) for key, replicas in found.items()}
        counts = sum((read_counts(f"http://127.0.0.1:{p}") for p in cluster.ports), Counter[str]())
        about = {talk.picture for talk in self.talks if talk.picture is not None}
        words = {talk.questions for talk in self.talks if talk.picture is None}
        self._check("affinity", load, places, describe_caches(counts))
        self._must("affinity", all(len(at) == 1 for at in found.values()), "a key at two replicas")
        self._must("affinity", len(found) == len(about) + len(words), f"{len(found)} keys")

    def kill(self, cluster: Cluster, lost: str, kill: Callable[[], None]) -> None:
        """Kills a replica in the middle: what it was answering may fail, and nothing else."""
        began = len(cluster.places())
        load = self._load(cluster.url, happens=kill)
        places = cluster.places(began)
        assert load.happened_at is not None
        late = [one for one in load.turns if one.told.error and one.asked_at > load.happened_at]
        at_home = [p.asked[-1] == self.homes[p.key] for p in places if self.homes[p.key] != lost]
        after = [p for p in places if self.homes[p.key] == lost and p.asked[-1] != lost]
        told = {
            "failed_in_flight": sum(turn.told.error is not None for turn in load.turns),
            "failed_later": len(late),
            "asked_again": sum(len(place.asked) > 1 for place in places),
            "answered_by_the_other": len(after),
        }
        self._check("killed", load, places, told, errors=self.options.clients)
        self._must("killed", not late, "errors after the loss")
        self._must("killed", all(at_home), "keys of the living replica moved")
        self._must("killed", bool(after), "no key of the lost replica was answered")

    def stop(self, cluster: Cluster, other: str, terminate: Callable[[], None]) -> None:
        """Stops the other replica once the lost one is back: nothing fails, keys are back home."""
        began = len(cluster.places())
        load = self._load(cluster.url, happens=terminate)
        places = cluster.places(began)
        back = [p.asked[-1] == self.homes[p.key] for p in places if self.homes[p.key] != other]
        told = {"asked_again": sum(len(place.asked) > 1 for place in places)}
        self._check("returned", load, places, told)
        self._must("returned", all(back), "keys did not return to their replica")

    def _load(self, url: str, *, happens: Callable[[], None] = lambda: None) -> Load:
        """Holds all conversations; in the middle, something happens."""
        middle = sum(len(talk.questions) for talk in self.talks) // 2
        load = Load(self.talks, self.options.clients, after=middle, happens=happens)
        asyncio.run(load.run(url))
        return load

    def _check(
        self, phase: str, load: Load, places: Sequence[Place], told: Row, *, errors: int = 0
    ) -> None:
        """Notes a phase behind nginx, in which at most so many errors may occur."""
        failed = [turn for turn in load.turns if turn.told.error is not None]
        good = [turn for turn in load.turns if turn.told.error is None]
        differ = [turn for turn in good if turn.told.words != self.expected[turn.place]]
        replicas = sorted(Counter(place.asked[-1] for place in places).values(), reverse=True)
        self._note(phase, load, {"differ": len(differ), "by_replica": replicas, **told})
        for turn in differ:
            expected = self.expected[turn.place]
            self.problems.append(f"{phase}: {turn.place}: {turn.told.words!r}, not {expected!r}")
        self._must(phase, len(failed) <= errors, f"{len(failed)} errors")

    def _note(self, phase: str, load: Load, told: Row) -> None:
        errors = Counter(turn.told.error for turn in load.turns if turn.told.error is not None)
        row = {"phase": phase, "turns": len(load.turns), "errors": dict(errors), **told,
               "seconds": round(time.monotonic() - load.began, 1),
               "load": round(os.getloadavg()[0], 1)}  # fmt: skip
        self.rows.append(row)
        print(json.dumps(row), flush=True)

    def _must(self, phase: str, holds: bool, what: str) -> None:  # noqa: FBT001
        if not holds:
            self.problems.append(f"{phase}: {what}")


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--each", type=int, default=3, help="conversations about each of them")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--output", type=Path, default=RESULTS / "replicas-cpu.json")
    options = parser.parse_args()
    nginx = find_nginx()
    if nginx is None:
        raise SystemExit(MISSING)
    trial = Trial(options, nginx)
    trial.run()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(
        json.dumps({"phases": trial.rows, "problems": trial.problems}, indent=1) + "\n"
    )
    if trial.problems:
        sys.exit("\n".join(trial.problems))


if __name__ == "__main__":
    main()
