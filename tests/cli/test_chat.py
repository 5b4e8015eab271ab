"""`onevision chat`: lines edited in a terminal, or piped; files; Ctrl-C; the history."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from PIL import Image as PIL
from rich.console import Console

from onevision import load
from onevision.cli.chat import Chat, split_paths
from onevision.cli.chat_input import complete, last_word
from onevision.errors import MediaError
from tests.cli.conftest import run

COMMANDS = {"/attach": "attach", "/clear": "clear"}
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>]|\][^\x07]*\x07)")


@pytest.fixture
def image(tmp_path):
    PIL.new("RGB", (98, 98), "white").save(tmp_path / "a b.png")
    return tmp_path / "a b.png"


class Terminal:
    """A chat in a pseudo-terminal."""

    def __init__(self, directory, *options):
        self.main, side = pty.openpty()
        environment = os.environ | {"ONEVISION_CACHE": str(directory / "cache"), "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "onevision", "chat", *options], cwd=directory, env=environment,
            stdin=side, stdout=side, stderr=side, start_new_session=True,
        )  # fmt: skip
        os.close(side)
        self.text = ""

    def type(self, keys):
        os.write(self.main, keys.encode())

    def wait_for(self, words, seconds=120):
        """Waits until words appear, and forgets what came before them."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < deadline, (words, self.text)
            self._read()
        before, _, self.text = self.text.partition(words)
        return before

    def wait_for_prompt(self):
        """Waits for a prompt, and until it is drawn: keys that come before may be left unread."""
        self.wait_for("you")
        settled = time.monotonic() + 1.5
        while time.monotonic() < settled:
            before = self.text
            self._read()
            if self.text != before:
                settled = time.monotonic() + 1.5

    def end(self):
        self.wait_for_prompt()
        self.type("\x04")
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read()
        return self.process.wait(timeout=1)

    def _read(self):
        if select.select([self.main], [], [], 0.2)[0]:
            with suppress(OSError):  # the other side is closed
                data = os.read(self.main, 1 << 16).decode(errors="replace")
                if "\x1b[6n" in data:  # where is the cursor?
                    os.write(self.main, b"\x1b[1;1R")
                self.text += ESCAPES.sub("", data)


@pytest.fixture
def terminal(tmp_path, image):
    terminal = Terminal(tmp_path, "--max-new-tokens", "400")
    yield terminal
    if terminal.process.poll() is None:
        terminal.process.kill()
        terminal.process.wait(timeout=60)
    os.close(terminal.main)


@pytest.mark.slow  # 10 s of one core
def test_a_chat_in_a_terminal(tmp_path, terminal):
    terminal.wait_for_prompt()
    terminal.type("./a\t")  # completes the path, its space escaped
    terminal.wait_for("b.png")
    terminal.type(" What colour is the backgrounX\x7fd?\r")  # a typing mistake, corrected
    assert "white" in terminal.wait_for("tokens in")
    terminal.wait_for_prompt()
    terminal.type("./b.png What is it?\r")
    terminal.wait_for("no such file")
    terminal.wait_for_prompt()
    terminal.type("/cl\t")
    terminal.wait_for("ear")
    terminal.type("\r")
    terminal.wait_for("new conversation")
    terminal.wait_for_prompt()
    terminal.type("\x1b[A")  # the line before, again
    terminal.wait_for("clear")
    terminal.type("\r")
    terminal.wait_for("new conversation")
    terminal.wait_for_prompt()
    terminal.type("Describe everything at length.\r")
    terminal.wait_for("length.")
    terminal.wait_for("  ")
    terminal.process.send_signal(signal.SIGINT)
    terminal.wait_for_prompt()  # the answer is over, by itself or by the signal; the chat is not
    terminal.type("How many?\r")
    terminal.wait_for("tokens in")
    assert terminal.end() == 0
    history = tmp_path / "cache" / "chat_history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert "What colour is the background?" in history.read_text()


def test_ctrl_c_ends_the_answer_and_keeps_what_was_said(capsys):
    talk = Chat(load("tiny"), Console(), max_new_tokens=40, allow_urls=False)
    stream, seen = talk.model.stream, []

    def interrupted(*arguments, **options):
        pieces = stream(*arguments, **options)
        for piece in pieces:
            seen.append(piece)
            yield piece
            if len(seen) == 2:
                raise KeyboardInterrupt

    object.__setattr__(talk.model, "stream", interrupted)
    talk.take("Describe a picture at length.")
    assert "(stopped)" in capsys.readouterr().out
    assert talk.messages[-1].parts[0].text == "".join(seen).strip()
    object.__setattr__(talk.model, "stream", stream)
    talk.take("How many?")
    assert len(talk.messages) == 4
    assert not talk.model.engine.scheduler.has_work


def test_piped_lines_are_answered_without_a_prompt(image):
    done = run("chat", stdin=f"'{image}' What colour is the background?\n/attac x\nHow many?\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "white" in done.stdout
    assert "no command /attac; did you mean /attach?" in done.stdout
    assert done.stdout.count("tokens in") == 2
    assert "\nyou " not in done.stdout


def test_the_rest_of_a_line_is_kept_as_it_is(image):
    for written in (
        f'"{image}"',
        str(image).replace(" ", "\\ "),
        f"file://{str(image).replace(' ', '%20')}",
    ):
        assert split_paths(f'{written}  What\'s  "this"?') == ([str(image)], 'What\'s  "this"?')
        assert split_paths(f"{written} {written}") == ([str(image)] * 2, "")
    assert split_paths("What's this?") == ([], "What's this?")
    assert split_paths("and/or what?") == ([], "and/or what?")
    assert split_paths("") == ([], "")


@pytest.mark.parametrize(
    "line", ["ac.png", "./nothing What?", "/no/where", "~/nothing.mp4 Hi",
             "file:///nothing", "Photo.JPG What is it?"],
)  # fmt: skip
def test_a_misspelt_path_is_an_error(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MediaError, match="no such file"):
        split_paths(line)


def test_a_near_name_is_suggested(image):
    with pytest.raises(MediaError, match=r"did you mean .*/a b.png\?"):
        split_paths(f"'{image.parent}/a_b.png' What?")


def test_completion(tmp_path, monkeypatch, image):
    (tmp_path / "folder").mkdir()
    (tmp_path / ".hidden.png").touch()
    monkeypatch.chdir(tmp_path)

    def found(text):
        return [completion.text for completion in complete(text, COMMANDS)]

    assert found("/a") == ["/attach"]
    assert found("/attach a") == ["a\\ b.png"]
    assert found("/attach a\\ b") == ["a\\ b.png"]
    assert found("fol") == ["folder/"]
    assert found("./") == ["./a\\ b.png", "./folder/"]
    assert found(".h") == [".hidden.png"]
    assert found("/no/such/") == []
    assert last_word("x a\\ b") == "a\\ b"
