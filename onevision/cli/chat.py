"""`onevision chat`: chat with a model in the terminal; attach files by typing their paths."""

import shlex
from collections.abc import Generator
from dataclasses import dataclass, field
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from onevision.cli.chat_input import open_input
from onevision.cli.media import AllowUrlsOption, check_medium, read_medium
from onevision.cli.options import (
    VIDEO_SUFFIXES,
    AdapterOption,
    DeviceOption,
    DevicesOption,
    DraftOption,
    DtypeOption,
    KeepOption,
    MaxNewTokensOption,
    ModelOption,
    QuantizeOption,
    VerifyOption,
    format_usage,
    is_video,
    load_model,
)
from onevision.conversation import (
    Conversation,
    Image,
    Message,
    Part,
    Reply,
    Text,
    Video,
    check_keep,
)
from onevision.errors import MediaError, OneVisionError

if TYPE_CHECKING:
    from rich.console import Console

    from onevision.generate.answer import Model

COMMANDS = {
    "/attach": "attach images or videos to your next message",
    "/drop": "remove all attachments",
    "/clear": "start a new conversation",
    "/help": "show this help",
    "/exit": "quit (also Ctrl-D)",
}
HELP = """\
Type a question. Attach files by typing or dropping their path, alone or before the question.
Tab completes paths and commands; up and down recall what you typed; Ctrl-C stops an answer.
""" + "\n".join(
    f"  {name + (' FILE ...' if name == '/attach' else ''):<18} {meaning}"
    for name, meaning in COMMANDS.items()
)
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ico", ".jp2",
)  # fmt: skip
URLS = ("https://", "http://")
PATH_BEGINNINGS = ("/", "./", "../", "~/", "file://", *URLS)


def chat(
    model: ModelOption = "tiny",
    max_new_tokens: MaxNewTokensOption = 512,
    allow_urls: AllowUrlsOption = False,
    keep: KeepOption = None,
    device: DeviceOption = "cpu",
    devices: DevicesOption = 1,
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    adapter: AdapterOption = None,
    draft: DraftOption = None,
    verify: VerifyOption = True,
) -> None:
    """Chat with a model in the terminal."""
    from rich.console import Console

    from onevision.files import cache_directory

    check_keep(keep)
    console = Console(highlight=False)
    with console.status(f"loading {model}"):
        loaded = load_model(
            model, device=device, dtype=dtype, quantize=quantize, adapter=adapter, verify=verify,
            devices=devices, draft=draft,
        )  # fmt: skip
    console.print(f"[bold]onevision chat[/] with [bold]{model}[/]. Type /help for commands.")
    read_line = open_input(COMMANDS, history=cache_directory() / "chat_history")
    talk = Chat(loaded, console, max_new_tokens=max_new_tokens, allow_urls=allow_urls, keep=keep)
    while True:
        try:
            line = read_line().strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            continue
        if line in ("/exit", "/quit"):
            return
        try:
            talk.take(line)
        except KeyboardInterrupt:  # before the answer began
            console.print("[dim](stopped)[/]")
        except OneVisionError as error:
            console.print("[red]error:[/] ", end="")
            console.print(str(error), markup=False, soft_wrap=True)


@dataclass
class Chat:
    """A conversation that grows line by line, and what is attached to the next message."""

    model: "Model"
    console: "Console"
    max_new_tokens: int = field(kw_only=True)
    allow_urls: bool = field(kw_only=True)
    keep: float | None = field(default=None, kw_only=True)
    messages: list[Message] = field(default_factory=list)
    attached: list[Image | Video] = field(default_factory=list)

    def take(self, line: str) -> None:
        """Takes a line: a command, files, a question, or both. Raises InputError."""
        if line.startswith("/") and not _is_path(line.split()[0]):
            self._run_command(line)
            return
        files, words = split_paths(line)
        self._attach(files)
        if words:
            self._ask(words)
        elif files:
            self._list_attachments()

    def _run_command(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if command == "/attach" and rest.strip():
            files, unknown = split_paths(rest)
            if unknown:
                raise MediaError(f"{unknown}: no such file; /attach takes files alone")
            self._attach(files)
            self._list_attachments()
        elif command == "/drop":
            self.attached.clear()
            self.console.print("[dim]attachments removed[/]")
        elif command == "/clear":
            self.messages.clear()
            self.attached.clear()
            self.console.print("[dim]new conversation[/]")
        else:
            if command not in COMMANDS:
                near = get_close_matches(command, COMMANDS, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.console.print(f"[red]no command[/] {command}{hint}", highlight=False)
            self.console.print(HELP, markup=False, soft_wrap=True)

    def _attach(self, names: list[str]) -> None:
        """Attaches all files or none. Raises MediaError."""
        found: list[Image | Video] = []
        for name in names:
            kind = "video" if is_video(name) else "image"
            source = read_medium(name, kind=kind, allow_urls=self.allow_urls)
            found.append(Video(source) if kind == "video" else Image(source))
            check_medium(found[-1])
        self.attached += found

    def _list_attachments(self) -> None:
        from onevision.inputs.media_source import source_name

        names = ", ".join(Path(source_name(media.source)).name for media in self.attached)
        self.console.print(f"[dim]attached: {names or 'nothing'}[/]")

    def _ask(self, words: str) -> None:
        """Asks, with all attachments, and prints the answer; Ctrl-C ends it. Raises InputError."""
        for word in words.split():
            if word.lower().endswith((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)) and Path(word).is_file():
                self.console.print(
                    f"[dim]{word} is part of the question; to show it, write it first[/]"
                )
        content: list[Part] = [*self.attached, Text(words)]
        self.attached = []
        talk = Conversation([*self.messages, Message("user", content)])
        pieces = self.model.stream(talk, keep=self.keep, max_new_tokens=self.max_new_tokens)
        answer, reply = _print_answer(pieces)
        if reply is None:
            self.console.print("[dim](stopped)[/]")
        else:
            self.console.print(f"[dim]{format_usage(reply.usage)}[/]")
        if answer:
            self.messages += [Message("user", content), Message("assistant", answer)]


def split_paths(line: str) -> tuple[list[str], str]:
    """Splits a line into the files that it begins with, and the text after them, as it is.

    Understands quotes, escaped spaces and file:// addresses, as terminals insert dropped files.
    Raises MediaError for a first word that is written as a path, but names no file.
    """
    files: list[str] = []
    rest = line.strip()
    while rest:
        word, after = _first_word(rest)
        path = unquote(word.removeprefix("file://")) if word.startswith("file://") else word
        if not path.startswith(URLS):
            path = str(Path(path).expanduser())
            if not Path(path).is_file():
                if _is_path(word):
                    raise MediaError(f"{path}: no such file{_suggest(path)}")
                break
        files.append(path)
        rest = after
    return files, rest


def _first_word(text: str) -> tuple[str, str]:
    """Returns the first word as a shell reads it, and what follows; with a lone quote, as it is."""
    stream = StringIO(text)
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        word = lexer.get_token() or ""
    except ValueError:  # an apostrophe, not a quote
        word, _, after = text.partition(" ")
        return word, after.strip()
    return word, text[stream.tell() :].strip()


def _is_path(word: str) -> bool:
    """Whether a word is written as a path or an address, and not as a command or a word."""
    if word.startswith("/") and word.count("/") == 1 and not Path(word).exists():
        return word.lower().endswith((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
    suffixes = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    return word.startswith(PATH_BEGINNINGS) or word.lower().endswith(suffixes)


def _suggest(path: str) -> str:
    """Returns a hint with the file of nearly this name, if there is one."""
    place = Path(path)
    try:
        names = [entry.name for entry in place.parent.iterdir()]
    except OSError:
        return ""
    near = get_close_matches(place.name, names, n=1)
    return f"; did you mean {place.parent / near[0]}?" if near else "; check its name"


def _print_answer(pieces: Generator[str, None, Reply]) -> tuple[str, Reply | None]:
    """Prints an answer as it streams; returns its text, and the reply unless Ctrl-C ended it."""
    shown = ""
    print("  ", end="")
    try:
        while True:
            piece = next(pieces)
            shown += piece
            print(piece, end="", flush=True)
    except StopIteration as end:
        print()
        return end.value.text, end.value
    except KeyboardInterrupt:
        pieces.close()
        print()
        return shown.strip(), None
