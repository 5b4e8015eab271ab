"""Shells complete commands and options as `onevision --install-completion` sets them up."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("shell", "asked", "found"),
    [
        ("bash", {"COMP_WORDS": "onevision ba", "COMP_CWORD": "1"}, "batch"),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "onevision ask --allow"}, "--allow-urls"),
    ],
)
def test_a_shell_completes(shell, asked, found):
    environment = os.environ | asked | {"_ONEVISION_COMPLETE": f"complete_{shell}"}
    call = "import sys; sys.argv[0] = 'onevision'; from onevision.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", call], env=environment, capture_output=True, text=True, timeout=60
    )
    assert found in done.stdout, done.stderr
