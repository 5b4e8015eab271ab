"""Runs the command line in this process, where models that are loaded once stay warm."""

from typer.testing import CliRunner

from onevision.cli import app
from onevision.errors import OneVisionError


def invoke(*arguments) -> str:
    """Run a command that succeeds; returns what it prints."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(*arguments) -> str:
    """Run a command that fails with an error of ours; returns its message."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, OneVisionError), result.output
    message = str(result.exception)
    assert "\n" not in message
    return message
