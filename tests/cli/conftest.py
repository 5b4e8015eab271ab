"""Runs the command line as a user does, in its own process."""

import subprocess
import sys


def run(*arguments, stdin=""):
    return subprocess.run(
        [sys.executable, "-m", "onevision", *map(str, arguments)],
        capture_output=True,
        text=True,
        input=stdin,
        timeout=600,
    )
