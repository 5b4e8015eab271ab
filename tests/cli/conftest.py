"""Runs the command line: in this process, or as a user does in a process of its own."""

import io
import subprocess
import sys
from dataclasses import dataclass
from unittest import mock

from onevision.cli import main


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments, stdin=""):
    """Run `onevision` as its own process would, but here, where imports are paid for once."""
    streams = {
        "stdin": io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"),
        "stdout": io.TextIOWrapper(io.BytesIO(), encoding="utf-8"),
        "stderr": io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True),
    }
    code = 0
    with mock.patch.multiple(sys, argv=["onevision", *map(str, arguments)], **streams):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    written = {}
    for name in ("stdout", "stderr"):
        streams[name].flush()
        written[name] = streams[name].buffer.getvalue().decode()
    return Done(returncode=code, **written)


def run_alone(*arguments, stdin=""):
    """Run `onevision` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "onevision", *map(str, arguments)],
        capture_output=True,
        text=True,
        input=stdin,
        timeout=600,
    )
