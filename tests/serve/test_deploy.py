"""The files of deploy/ match the server they start: options, limits and shutdown time."""

import json
import re
from pathlib import Path

import typer

from onevision.cli.serve import serve
from onevision.serve.settings import Limits, ServerSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
INSTRUCTIONS = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT",
                "CMD"}  # fmt: skip


def instructions():
    """Returns the instructions of the Dockerfile without comments and line continuations."""
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]


def options():
    app = typer.Typer()
    app.command()(serve)
    return {name for option in typer.main.get_command(app).params for name in option.opts}


def test_the_image_uses_known_instructions_and_runs_unprivileged():
    made = instructions()
    assert {name for name, _ in made} <= INSTRUCTIONS
    assert re.fullmatch(r"python:3\.11-slim-\w+", dict(made)["FROM"])
    names = [name for name, _ in made]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert dict(made)["USER"].isdigit()
    root = DEPLOY.parent
    copied = [value.split()[:-1] for name, value in made if name == "COPY"]
    assert all((root / path).exists() for paths in copied for path in paths)


def test_the_server_is_started_with_options_it_has():
    made = dict(instructions())
    words = json.loads(made["ENTRYPOINT"]) + json.loads(made["CMD"])
    started = re.search("ExecStart=(.*)", (DEPLOY / "onevision.service").read_text())[1].split()
    for command in (words, started):
        assert command[1] == "serve"
        assert {word for word in command if word.startswith("--")} <= options()


def test_proxies_have_the_timeouts_and_limits_of_the_server():
    unit, proxy = ((DEPLOY / name).read_text() for name in ("onevision.service", "nginx.conf"))
    limits = Limits()
    assert int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) > ServerSettings(name="a").drain_seconds
    assert int(re.search(r"client_max_body_size (\d+)m", proxy)[1]) * 2**20 == limits.body_bytes
    assert int(re.search(r"proxy_read_timeout (\d+)s", proxy)[1]) > limits.request_seconds
