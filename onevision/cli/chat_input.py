"""A terminal, or a pipe -> the lines of a chat, with editing, history and completion."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completion
    from prompt_toolkit.document import Document

ReadLine = Callable[[], str]


def open_input(commands: Mapping[str, str], *, history: Path) -> ReadLine:
    """Returns what reads a line. It raises EOFError at the end, KeyboardInterrupt for Ctrl-C.

    `commands` maps the names that are completed to what they do. The lines that are typed are kept
    in `history`, which its owner alone may read.
    """
    if not sys.stdin.isatty():
        return _read_pipe
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer
    from prompt_toolkit.formatted_text import HTML
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class ChatCompleter(Completer):
        def get_completions(
            self,
            document: "Document",
            complete_event: CompleteEvent,  # noqa: ARG002 of the interface
        ) -> "Iterator[Completion]":
            return complete(document.text_before_cursor, commands)

    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(history)) if _make_private(history) else InMemoryHistory(),
        completer=ChatCompleter(),
        complete_while_typing=False,
        enable_history_search=True,
    )
    return lambda: session.prompt(HTML("<b><ansiblue>you</ansiblue></b> "))


def complete(text: str, commands: Mapping[str, str]) -> "Iterator[Completion]":
    """Yields what may follow `text`: a command as its first word, and a path as any word."""
    from prompt_toolkit.completion import Completion

    if text.startswith("/") and " " not in text:
        for name, meaning in commands.items():
            if name.startswith(text):
                yield Completion(name, start_position=-len(text), display_meta=meaning)
    word = last_word(text)
    for path in _find_paths(word):
        yield Completion(path, start_position=-len(word), display=Path(path.rstrip("/")).name)


def last_word(text: str) -> str:
    """Returns the word that is being typed; a space after a backslash belongs to it."""
    begin = len(text)
    while begin and not (text[begin - 1] == " " and text[begin - 2 : begin - 1] != "\\"):
        begin -= 1
    return text[begin:]


def _find_paths(word: str) -> Iterator[str]:
    """Yields the paths that begin with a word, written as it is, spaces escaped."""
    typed = word.replace("\\ ", " ")
    folder, slash, start = typed.rpartition("/")
    place = Path(folder + slash or ".").expanduser()
    try:
        entries = sorted(place.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(start) and (start or not entry.name.startswith(".")):
            end = "/" if entry.is_dir() else ""
            yield f"{folder}{slash}{entry.name}{end}".replace(" ", "\\ ")


def _make_private(history: Path) -> bool:
    """Makes the file with mode 0600; returns whether it can be written."""
    try:
        history.parent.mkdir(parents=True, exist_ok=True)
        history.touch(mode=0o600)
        history.chmod(0o600)
    except OSError:
        return False
    return True


def _read_pipe() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")
